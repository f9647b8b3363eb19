//! The example as its users see it.

use rocket::{
    http::{ContentType, Header, Status},
    local::blocking::{Client, LocalResponse},
    serde::json::{Value, json},
};
use rocket_openidconnect::testing::{TestClient, TestProvider, TestRequest, assert_guarded};

fn app() -> Client {
    let provider = TestProvider::new();
    Client::tracked(provider.register(super::rocket())).expect("the example launches")
}

fn user(name: &str) -> Value {
    json!({ "sub": name })
}

fn page(response: LocalResponse<'_>) -> String {
    assert_eq!(response.status(), Status::Ok);
    response.into_string().unwrap()
}

fn sessions(client: &Client) -> String {
    page(client.get("/sessions").dispatch())
}

/// Signs in with another browser, which describes itself so, and is not used again.
fn elsewhere(client: &Client, name: &str, user_agent: &'static str) {
    let request = client.get("/").header(Header::new("User-Agent", user_agent));
    page(request.signed_in_as(user(name)).dispatch());
}

/// The ids of the sessions with a button to end them.
fn ids(page: &str) -> Vec<String> {
    let page = page.replace("&#x2F;", "/");
    let parts = page.split("action=\"/sessions/").skip(1);
    let ids = parts.filter_map(|part| Some(part.split_once("/end\"")?.0.to_owned()));
    ids.filter(|id| !id.contains('"')).collect()
}

fn post(client: &Client, path: &str) -> Status {
    client.post(path.to_owned()).dispatch().status()
}

#[test]
fn only_the_start_page_is_public() {
    assert_guarded(&app(), &["/"]);
}

#[test]
fn people_see_where_they_are_signed_in() {
    let client = app();
    elsewhere(&client, "alice", "Firefox on <b>Linux</b>");
    elsewhere(&client, "bob", "Bob's browser");
    client.sign_in("/oidc/login?next=/sessions", user("alice"));
    let seen = sessions(&client);
    assert!(seen.contains("This browser"), "{seen}");
    assert!(seen.contains("Firefox on &lt;b&gt;Linux&lt;&#x2F;b&gt;"), "{seen}");
    assert!(!seen.contains("<b>") && !seen.contains("Bob"), "{seen}");
    assert!(seen.contains("signed in 20") && seen.contains("last used 20"), "{seen}");
    assert_eq!(ids(&seen).len(), 1, "{seen}");
}

#[test]
fn a_browser_that_describes_itself_at_length_is_cut_short() {
    let client = app();
    let long: &'static str = "x".repeat(10_000).leak();
    elsewhere(&client, "alice", long);
    client.sign_in("/oidc/login?next=/sessions", user("alice"));
    let seen = sessions(&client);
    assert!(seen.contains(&"x".repeat(150)) && !seen.contains(&"x".repeat(151)));
}

#[test]
fn a_person_ends_one_session_and_no_other_persons() {
    let client = app();
    elsewhere(&client, "alice", "phone");
    elsewhere(&client, "alice", "tablet");
    client.sign_in("/oidc/login?next=/sessions", user("alice"));
    let id = ids(&sessions(&client)).remove(0);
    let path = format!("/sessions/{id}/end");
    // A link ends nothing, and neither does another person.
    assert_eq!(client.get(&*path).dispatch().status(), Status::NotFound);
    let by_bob = client.post(&*path).signed_in_as(user("bob")).dispatch();
    assert_eq!(by_bob.status(), Status::NotFound);
    drop(by_bob);
    assert_eq!(ids(&sessions(&client)).len(), 2);

    assert_eq!(post(&client, &path), Status::SeeOther);
    let seen = sessions(&client);
    assert_eq!(ids(&seen).len(), 1);
    assert!(!seen.contains("phone") && seen.contains("tablet"), "{seen}");
    assert_eq!(post(&client, &path), Status::NotFound);
}

#[test]
fn a_person_ends_all_other_sessions() {
    let client = app();
    for browser in ["phone", "tablet"] {
        elsewhere(&client, "alice", browser);
    }
    client.sign_in("/oidc/login?next=/sessions", user("alice"));
    assert_eq!(post(&client, "/sessions/end-others"), Status::SeeOther);
    let seen = sessions(&client);
    assert!(seen.contains("signed in nowhere else"), "{seen}");
    assert!(seen.contains("This browser"), "{seen}");
}

#[test]
fn a_person_names_a_session() {
    let client = app();
    client.sign_in("/oidc/login?next=/sessions", user("alice"));
    let name = |name: &str| {
        let request = client.post("/sessions/name").header(ContentType::Form);
        request.body(format!("name={name}")).dispatch().status()
    };
    assert_eq!(name("My+laptop"), Status::SeeOther);
    assert!(sessions(&client).contains("<strong>My laptop</strong>"));
    assert_eq!(name(&"x".repeat(41)), Status::PayloadTooLarge);
    assert_eq!(name(""), Status::SeeOther);
    assert!(!sessions(&client).contains("My laptop"));
}
