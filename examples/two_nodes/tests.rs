//! Each node for itself. That two processes share sessions in a real Redis is seen in `tests/interop`.

use rocket::{
    Config,
    figment::providers::{Format, Toml},
    local::blocking::{Client, LocalResponse},
    serde::json::{Value, json},
};
use rocket_openidconnect::testing::{TestClient, TestProvider, TestRequest, assert_guarded};

/// A node with the settings of the file, at this port.
fn node(provider: &TestProvider, port: u16) -> Client {
    let file = Toml::string(include_str!("Rocket.toml")).nested();
    let figment = Config::figment().merge(file).merge(("port", port));
    let rocket = super::app(rocket::custom(figment));
    Client::tracked(provider.register(rocket)).expect("the example launches")
}

fn page(response: LocalResponse<'_>) -> String {
    response.into_string().unwrap()
}

fn alice() -> Value {
    json!({ "sub": "alice", "name": "Alice Liddell" })
}

#[test]
fn everything_is_public() {
    assert_guarded(&node(&TestProvider::new(), 8000), &["/"]);
}

#[test]
fn each_node_says_which_it_is_and_where_the_others_are() {
    let provider = TestProvider::new();
    for port in [8000, 8001] {
        let node = node(&provider, port);
        let seen = page(node.get("/").dispatch());
        assert!(seen.contains(&format!("Node {port} answers.")));
        assert!(seen.contains("Hello, stranger"));
        for other in ["localhost:8000/\">", "localhost:8001/\">"] {
            assert!(seen.contains(other), "{seen}");
        }
    }
}

/// The provider knows one address of the app, whichever node a sign-in begins at.
#[test]
fn all_nodes_have_one_redirect_uri() {
    let provider = TestProvider::new();
    for port in [8000, 8001] {
        let node = node(&provider, port);
        let login = node.get("/oidc/login").dispatch();
        let location = login.headers().get_one("Location").unwrap();
        let redirect_uri = "redirect_uri=http%3A%2F%2Flocalhost%3A8000%2Foidc%2Fauthorize";
        assert!(location.contains(redirect_uri), "{location}");
    }
}

#[test]
fn somebody_signs_in_and_out() {
    let node = node(&TestProvider::new(), 8001);
    let elsewhere = page(node.get("/").signed_in_as(alice()).dispatch());
    assert!(elsewhere.contains("You have one session, at all nodes."));
    // In another browser.
    let seen = page(node.sign_in("/oidc/login?next=/", alice()));
    assert!(seen.contains("Hello, Alice Liddell") && seen.contains("You have 2 sessions"));
    assert!(page(node.sign_out("/")).contains("Hello, stranger"));
}
