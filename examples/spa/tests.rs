//! The API as the page's script sees it, and as others would like to.

use std::time::Duration;

use rocket::{
    http::{Accept, ContentType, Header, Method, Status},
    local::blocking::{Client, LocalRequest, LocalResponse},
};
use rocket_openidconnect::testing::{TestClient, TestProvider, TestRequest, assert_guarded};
use serde_json::{Value, json};

fn app() -> (TestProvider, Client) {
    let provider = TestProvider::new();
    let rocket = provider.register(super::rocket());
    let client = Client::tracked(rocket).expect("the example launches");
    (provider, client)
}

/// As the page's script asks.
fn fetch(request: LocalRequest<'_>) -> LocalResponse<'_> {
    request
        .header(Header::new("Sec-Fetch-Site", "same-origin"))
        .header(Header::new("Sec-Fetch-Mode", "cors"))
        .header(Header::new("Sec-Fetch-Dest", "empty"))
        .dispatch()
}

fn add<'c>(client: &'c Client, text: &str) -> LocalRequest<'c> {
    client.post("/api/todos").json(&json!({ "text": text }))
}

fn todos(client: &Client) -> Vec<Value> {
    let response = fetch(client.get("/api/todos"));
    assert_eq!(response.status(), Status::Ok);
    response.into_json().unwrap()
}

fn alice() -> Value {
    json!({ "sub": "alice", "name": "Alice" })
}

#[test]
fn only_the_page_is_public() {
    assert_guarded(&app().1, &["/", "/app.js", "/style.css"]);
}

#[test]
fn the_page_runs_no_script_but_its_own() {
    let (_, client) = app();
    let page = client.get("/").dispatch();
    let policy = page.headers().get_one("Content-Security-Policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';"));
    let page = page.into_string().unwrap();
    assert_eq!(page.matches("<script").count(), 1);
    let imported = fetch(client.get("/oidc/session.js"));
    assert_eq!(imported.content_type(), Some(ContentType::JavaScript));
    assert!(page.contains("src=\"/app.js\"") && !page.contains(" style="));
    let script = client.get("/app.js").dispatch();
    assert_eq!(script.content_type(), Some(ContentType::JavaScript));
    assert!(!script.into_string().unwrap().contains("innerHTML"));
}

/// A script gets 401 and JSON, and never a redirect, which would lead it to another origin.
#[test]
fn a_signed_out_fetch_is_answered_401_in_json() {
    let (_, client) = app();
    let requests = [
        client.get("/api/motto"),
        client.get("/api/todos"),
        add(&client, "milk"),
        client.delete("/api/todos/1"),
    ];
    for request in requests {
        let response = fetch(request);
        assert_eq!(response.status(), Status::Unauthorized);
        assert_eq!(
            response.into_json::<Value>().unwrap(),
            json!({ "status": 401, "error": "Unauthorized" })
        );
    }
}

#[test]
fn the_sign_in_button_leads_back_to_the_page() {
    let (_, client) = app();
    let page = client.sign_in("/oidc/login?next=%2F", alice());
    assert!(page.into_string().unwrap().contains("id=\"todos\""));
    let me: Value = fetch(client.get("/oidc/me")).into_json().unwrap();
    assert_eq!((&me["logged_in"], &me["user"]["name"]), (&json!(true), &json!("Alice")));
    client.sign_out("/");
    assert_eq!(fetch(client.get("/api/todos")).status(), Status::Unauthorized);
    let me: Value = fetch(client.get("/oidc/me")).into_json().unwrap();
    assert_eq!(me["logged_in"], json!(false));
}

/// The token is for the other API, and not for the page.
#[test]
fn the_other_api_wants_a_token() {
    let (_, client) = app();
    client.sign_in("/oidc/login", alice());
    let with_session = client.get("/mottos/motto").dispatch();
    assert_eq!(with_session.status(), Status::Unauthorized);
    let motto = client.get("/mottos/motto").bearer(alice()).dispatch();
    assert_eq!(motto.into_string().unwrap(), "Do one thing today, alice.");
    // There is no server behind the client of a test.
    assert_eq!(fetch(client.get("/api/motto")).status(), Status::BadGateway);
}

#[test]
fn to_dos_are_everybodys_own() {
    let (_, client) = app();
    client.sign_in("/oidc/login", alice());
    let added = fetch(add(&client, "  buy <b>milk</b> "));
    assert_eq!(added.status(), Status::Created);
    let added: Value = added.into_json().unwrap();
    assert_eq!(added["text"], "buy <b>milk</b>");
    assert_eq!(todos(&client), std::slice::from_ref(&added));

    let path = format!("/api/todos/{}", added["id"]);
    let bob = json!({ "sub": "bob" });
    let others = fetch(client.delete(&*path).signed_in_as(bob));
    assert_eq!(others.status(), Status::NotFound);
    assert_eq!(fetch(client.delete(&*path)).status(), Status::NoContent);
    assert_eq!(todos(&client).len(), 0);
    assert_eq!(fetch(add(&client, " ")).status(), Status::UnprocessableEntity);
}

/// Whatever changes something, and whoever's page asks: none of them but ours.
#[test]
fn pages_of_others_change_nothing() {
    let (_, client) = app();
    let rocket = client.rocket();
    let routes = rocket
        .routes()
        .filter(|route| route.method != Method::Get && route.uri.path().starts_with("/api/"));
    let mut tried = 0;
    for route in routes {
        let path = route.uri.path().replace("<id>", "1");
        let request = || {
            let request = client.req(route.method, path.clone()).signed_in_as(alice());
            request.body("{\"text\": \"owned\"}")
        };
        // A form of another site, in a browser that says nothing else.
        let form = request().header(ContentType::Plain);
        let form = form.header(Header::new("Origin", "https://evil.example"));
        assert_eq!(form.dispatch().status(), Status::Forbidden, "{route}");
        // A script of the same site, in a browser that says so.
        let script = request().header(Header::new("Sec-Fetch-Site", "same-site"));
        assert_eq!(script.dispatch().status(), Status::Forbidden, "{route}");
        tried += 1;
    }
    assert_eq!(tried, 2);
    client.sign_in("/oidc/login", alice());
    assert_eq!(todos(&client).len(), 0);
    // Nobody is told by CORS that they may.
    let preflight = client
        .options("/api/todos")
        .header(Header::new("Origin", "https://evil.example"))
        .header(Header::new("Access-Control-Request-Method", "POST"))
        .dispatch();
    let allowed = preflight.headers().get_one("Access-Control-Allow-Origin");
    assert_eq!(allowed, None);
}

#[test]
fn a_session_that_ends_between_two_requests_is_a_401() {
    let (provider, client) = app();
    client.sign_in("/oidc/login", alice());
    assert_eq!(fetch(add(&client, "milk")).status(), Status::Created);
    provider.advance_clock(Duration::from_secs(60 * 60));
    assert_eq!(fetch(add(&client, "bread")).status(), Status::Unauthorized);
    // A person who opens an address of the API is led to sign-in all the same.
    let opened = client.get("/api/todos").header(Accept::HTML).dispatch();
    assert_eq!(opened.status(), Status::SeeOther);
    // She comes back, and all is there.
    client.sign_in("/oidc/login", alice());
    assert_eq!(todos(&client).len(), 1);
}
