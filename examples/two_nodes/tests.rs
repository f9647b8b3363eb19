//! Each node for itself. That two processes share sessions in a real Redis is seen in `tests/interop`.

use rocket::{
    Config,
    figment::{
        Jail,
        providers::{Format, Toml},
    },
    http::Status,
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
    assert_guarded(&node(&TestProvider::new(), 8000), &["/", "/ready"]);
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

#[test]
fn a_node_says_whether_it_is_ready() {
    let node = node(&TestProvider::new(), 8000);
    let response = node.get("/ready").dispatch();
    assert_eq!(response.status(), Status::Ok);
    assert_eq!(page(response), "ready\n");
}

/// The variables that a file for containers sets, each on a line of its own.
fn variables(file: &str) -> Vec<(&str, &str)> {
    let variables = file.lines().filter_map(|line| {
        let line = line.trim().trim_start_matches("- { name: ").trim_end_matches(" }");
        let (name, value) = line.split_once(": ").or_else(|| line.split_once(", value: "))?;
        let (name, value) = match name.split_once(", value") {
            Some((name, _)) => (name, value),
            None => (name, value),
        };
        let is_variable = name.starts_with("OIDC_") || name.starts_with("ROCKET_");
        is_variable.then_some((name, value.trim_matches('"')))
    });
    variables.collect()
}

/// In the release profile, as containers run.
#[test]
#[expect(clippy::result_large_err, reason = "the error is figment's")]
fn the_files_for_containers_have_all_settings() {
    let secrets = [
        ("ROCKET_SECRET_KEY", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="),
        ("OIDC_CLIENT_SECRET", "hush"),
        ("OIDC_SESSION__STORE_URL", "redis://127.0.0.1:1"),
        ("OIDC_ISSUER", "https://accounts.example.com"),
        ("OIDC_CLIENT_ID", "my-app"),
    ];
    let files = [(include_str!("compose.yaml"), 7), (include_str!("kubernetes.yaml"), 4)];
    for (file, count) in files {
        let variables = variables(file);
        assert_eq!(variables.len(), count, "{variables:?}");
        Jail::expect_with(|jail| {
            for (name, value) in variables.iter().chain(&secrets) {
                jail.set_env(name, value);
            }
            let provider = TestProvider::new();
            let rocket = super::app(rocket::custom(Config::figment().select(Config::RELEASE_PROFILE)));
            let node = Client::tracked(provider.register(rocket)).expect("the example launches");
            assert_eq!(node.get("/ready").dispatch().status(), Status::Ok);
            Ok(())
        });
    }
}
