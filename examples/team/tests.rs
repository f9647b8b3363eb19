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

fn admin() -> Value {
    json!({ "sub": "ada", "name": "Ada", "groups": ["admin"] })
}

fn page(response: LocalResponse<'_>) -> String {
    assert_eq!(response.status(), Status::Ok);
    response.into_string().unwrap()
}

/// As a browser sends the form of the page.
fn form<'c>(client: &'c Client, path: &'c str, body: &str) -> LocalRequest<'c> {
    client
        .post(path)
        .header(ContentType::Form)
        .header(Header::new("Origin", "http://localhost:8000"))
        .header(Header::new("Referer", "http://localhost:8000/todos"))
        .header(Header::new("Sec-Fetch-Site", "same-origin"))
        .header(Header::new("Sec-Fetch-Mode", "navigate"))
        .header(Header::new("Sec-Fetch-Dest", "document"))
        .body(body)
}

#[test]
fn only_the_start_page_is_public() {
    let (_, client) = app();
    assert_guarded(&client, &["/"]);
}

#[test]
fn every_page_shows_the_visitor() {
    let (_, client) = app();
    let start = page(client.get("/").dispatch());
    assert!(
        start.contains("id=\"sign-in\"") && !start.contains("id=\"who\""),
        "{start}"
    );

    client.sign_in("/oidc/login", member("<b>Bob</b>"));
    let missing = client.get("/nowhere").dispatch();
    assert_eq!(missing.status(), Status::NotFound);
    let missing = missing.into_string().unwrap();
    assert!(missing.contains("404: Not Found"), "{missing}");
    assert!(
        missing.contains("&lt;b&gt;Bob") && !missing.contains("<b>"),
        "{missing}"
    );
}

#[test]
fn members_share_the_list_and_admins_clear_it() {
    let (_, client) = app();
    assert_eq!(
        form(&client, "/todos", "text=Milk")
            .signed_in_as(member("bob"))
            .dispatch()
            .status(),
        Status::SeeOther
    );
    let todos = page(client.get("/todos").signed_in_as(member("carol")).dispatch());
    assert!(
        todos.contains("Milk (bob)") && !todos.contains("id=\"clear\""),
        "{todos}"
    );

    let clear = |user| form(&client, "/todos/clear", "").signed_in_as(user).dispatch().status();
    assert_eq!(clear(member("carol")), Status::Forbidden);
    assert_eq!(clear(admin()), Status::SeeOther);
    let todos = page(client.get("/todos").signed_in_as(admin()).dispatch());
    assert!(!todos.contains("Milk") && todos.contains("id=\"clear\""), "{todos}");

    let guest = json!({ "sub": "guest" });
    let refused = client.get("/todos").signed_in_as(guest).dispatch();
    assert_eq!(refused.status(), Status::Forbidden);
}

#[test]
fn another_site_adds_nothing() {
    let (_, client) = app();
    client.sign_in("/oidc/login", member("bob"));
    let post = client.post("/todos").header(ContentType::Form).body("text=Spam");
    let post = post.header(Header::new("Sec-Fetch-Site", "same-site"));
    assert_eq!(post.dispatch().status(), Status::Forbidden);
    assert!(!page(client.get("/todos").dispatch()).contains("Spam"));
}

#[test]
fn what_a_member_typed_survives_the_end_of_the_session() {
    let (provider, client) = app();
    client.sign_in("/oidc/login", member("bob"));
    provider.advance_clock(Duration::from_secs(3 * 60 * 60));
    let late = form(&client, "/todos", "text=Buy+%3Cmilk%3E").dispatch();
    assert_eq!(late.status(), Status::SeeOther);
    drop(late);

    client.sign_in("/oidc/login", member("bob"));
    let todos = page(client.get("/todos").dispatch());
    assert!(
        todos.contains("value=\"Buy &lt;milk&gt;\"") && !todos.contains("(bob)"),
        "{todos}"
    );
    assert_eq!(
        form(&client, "/todos", "text=Milk").dispatch().status(),
        Status::SeeOther
    );
    let todos = page(client.get("/todos").dispatch());
    assert!(todos.contains("Milk (bob)") && todos.contains("value=\"\""), "{todos}");
}

#[test]
fn people_end_their_other_sessions() {
    let (_, client) = app();
    for browser in ["phone", "tablet"] {
        let elsewhere = client.get("/sessions").header(Header::new("User-Agent", browser));
        page(elsewhere.signed_in_as(member("bob")).dispatch());
    }
    client.sign_in("/oidc/login", member("bob"));
    let sessions = page(client.get("/sessions").dispatch());
    assert!(sessions.contains("phone") && sessions.contains("tablet"), "{sessions}");
    assert_eq!(
        form(&client, "/sessions/end-others", "").dispatch().status(),
        Status::SeeOther
    );
    let sessions = page(client.get("/sessions").dispatch());
    assert!(
        !sessions.contains("phone") && sessions.contains("this browser"),
        "{sessions}"
    );
}

#[test]
fn programs_use_the_list_with_a_token() {
    let (_, client) = app();
    let added = client
        .post("/api/todos")
        .json(&json!({ "text": "Milk" }))
        .bearer(json!({ "sub": "program", "scope": "todos:write" }));
    assert_eq!(added.dispatch().status(), Status::Created);
    let listed = client
        .get("/api/todos")
        .bearer(json!({ "sub": "program", "scope": "todos:read" }));
    let listed = listed
        .header(Header::new("Origin", "https://dashboard.example.com"))
        .dispatch();
    assert_eq!(
        listed.headers().get_one("Access-Control-Allow-Origin"),
        Some("https://dashboard.example.com")
    );
    let todos: Vec<Value> = listed.into_json().unwrap();
    assert_eq!(todos[0]["text"], "Milk");

    client.sign_in("/oidc/login", member("bob"));
    assert_eq!(client.get("/api/todos").dispatch().status(), Status::Unauthorized);
}
