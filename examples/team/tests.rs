//! The team's app as its people, programs and strangers see it.

use std::time::Duration;

use rocket::{
    http::{ContentType, Header, Status},
    local::blocking::{Client, LocalRequest, LocalResponse},
    serde::json::{Value, json},
};
use rocket_openidconnect::testing::{TestClient, TestProvider, TestRequest, assert_guarded};

fn app() -> (TestProvider, Client) {
    let provider = TestProvider::new();
    let client = Client::tracked(provider.register(super::rocket())).expect("the example launches");
    (provider, client)
}

fn member(name: &str) -> Value {
    json!({ "sub": name, "name": name, "groups": ["users"] })
}

fn page(response: LocalResponse<'_>) -> String {
    assert_eq!(response.status(), Status::Ok);
    response.into_string().unwrap()
}

/// The page has the first text, and not the second one.
fn check(page: &str, has: &str, lacks: &str) {
    assert!(page.contains(has) && !page.contains(lacks), "{page}");
}

/// As a browser sends the form of the page.
fn form<'c>(client: &'c Client, path: &'c str, body: &str) -> LocalRequest<'c> {
    let mut form = client.post(path).header(ContentType::Form).body(body);
    for (name, value) in [("Site", "same-origin"), ("Mode", "navigate"), ("Dest", "document")] {
        form.add_header(Header::new(format!("Sec-Fetch-{name}"), value));
    }
    form.header(Header::new("Referer", "http://localhost:8000/todos"))
}

#[test]
fn only_the_start_page_is_public() {
    let (_, client) = app();
    assert_guarded(&client, &["/"]);
}

#[test]
fn every_page_shows_the_visitor() {
    let (_, client) = app();
    check(&page(client.get("/").dispatch()), "id=\"sign-in\"", "id=\"who\"");
    client.sign_in("/oidc/login", member("<b>Bob</b>"));
    let missing = client.get("/nowhere").dispatch();
    assert_eq!(missing.status(), Status::NotFound);
    check(&missing.into_string().unwrap(), "&lt;b&gt;Bob", "<b>");
}

#[test]
fn members_share_the_list_and_admins_clear_it() {
    let (_, client) = app();
    let post = |path, body, user| form(&client, path, body).signed_in_as(user).dispatch().status();
    let list = |user| client.get("/todos").signed_in_as(user).dispatch();
    let admin = json!({ "sub": "ada", "groups": ["admin"] });
    assert_eq!(post("/todos", "text=Milk", member("bob")), Status::SeeOther);
    check(&page(list(member("carol"))), "Milk (bob)", "id=\"clear\"");
    assert_eq!(post("/todos/clear", "", member("carol")), Status::Forbidden);
    assert_eq!(post("/todos/clear", "", admin.clone()), Status::SeeOther);
    check(&page(list(admin)), "id=\"clear\"", "Milk");
    assert_eq!(list(json!({ "sub": "guest" })).status(), Status::Forbidden);
}

#[test]
fn another_site_adds_nothing() {
    let (_, client) = app();
    client.sign_in("/oidc/login", member("bob"));
    let post = client.post("/todos").header(ContentType::Form).body("text=Spam");
    let post = post.header(Header::new("Sec-Fetch-Site", "same-site"));
    assert_eq!(post.dispatch().status(), Status::Forbidden);
    check(&page(client.get("/todos").dispatch()), "To-dos", "Spam");
}

#[test]
fn what_a_member_typed_survives_the_end_of_the_session() {
    let (provider, client) = app();
    client.sign_in("/oidc/login", member("bob"));
    provider.advance_clock(Duration::from_secs(3 * 60 * 60));
    let post = |body| form(&client, "/todos", body).dispatch().status();
    assert_eq!(post("text=Buy+%3Cmilk%3E"), Status::SeeOther);

    client.sign_in("/oidc/login", member("bob"));
    let typed = "value=\"Buy &lt;milk&gt;\"";
    check(&page(client.get("/todos").dispatch()), typed, "(bob)");
    assert_eq!(post("text=Milk"), Status::SeeOther);
    check(&page(client.get("/todos").dispatch()), "Milk (bob)", typed);
}

#[test]
fn people_end_their_other_sessions() {
    let (_, client) = app();
    let elsewhere = client.get("/sessions").header(Header::new("User-Agent", "tablet"));
    page(elsewhere.signed_in_as(member("bob")).dispatch());
    client.sign_in("/oidc/login", member("bob"));
    check(&page(client.get("/sessions").dispatch()), "tablet", "phone");
    let ended = form(&client, "/sessions/end-others", "").dispatch().status();
    assert_eq!(ended, Status::SeeOther);
    check(&page(client.get("/sessions").dispatch()), "this browser", "tablet");
}

#[test]
fn programs_use_the_list_with_a_token() {
    let (_, client) = app();
    let token = |scope| json!({ "sub": "program", "scope": scope });
    let added = client.post("/api/todos").json(&json!({ "text": "Milk" }));
    assert_eq!(added.bearer(token("todos:write")).dispatch().status(), Status::Created);
    let origin = "https://dashboard.example.com";
    let list = client.get("/api/todos").header(Header::new("Origin", origin));
    let listed = list.bearer(token("todos:read")).dispatch();
    assert_eq!(listed.headers().get_one("Access-Control-Allow-Origin"), Some(origin));
    assert_eq!(listed.into_json::<Value>().unwrap()[0]["text"], "Milk");

    client.sign_in("/oidc/login", member("bob"));
    assert_eq!(client.get("/api/todos").dispatch().status(), Status::Unauthorized);
}
