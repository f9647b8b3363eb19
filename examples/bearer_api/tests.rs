//! The example as API clients see it.

use rocket::{http::Status, local::blocking::Client};
use rocket_openidconnect::testing::{TestProvider, TestRequest, assert_guarded};
use serde_json::{Value, json};

fn app() -> Client {
    Client::untracked(TestProvider::new().register(super::rocket())).expect("the example launches")
}

/// Status, challenge and body.
fn call(client: &Client, claims: Option<Value>) -> (Status, Option<String>, String) {
    let request = client.get("/notes");
    let response = match claims {
        Some(claims) => request.bearer(claims).dispatch(),
        None => request.dispatch(),
    };
    let challenge = response.headers().get_one("WWW-Authenticate");
    let challenge = challenge.map(str::to_owned);
    let (status, body) = (response.status(), response.into_string());
    (status, challenge, body.unwrap_or_default())
}

#[test]
fn nothing_is_public() {
    assert_guarded(&app(), &[]);
}

#[test]
fn a_token_with_the_scope_is_answered() {
    let client = app();
    let alice = json!({ "sub": "alice", "scope": "notes:read" });
    assert_eq!(
        call(&client, Some(alice)),
        (Status::Ok, None, "Dear alice: buy milk.\n".to_owned())
    );
}

#[test]
fn others_are_told_what_is_missing() {
    let client = app();
    let metadata = "resource_metadata=\"http://localhost:8000/.well-known/oauth-protected-resource\"";
    let refusals = [
        (None, Status::Unauthorized, "scope=\"notes:read\", ".to_owned()),
        (
            Some(json!({ "sub": "alice", "scope": "notes:write" })),
            Status::Forbidden,
            "error=\"insufficient_scope\", error_description=\"the token does not allow this\", \
             scope=\"notes:read\", "
                .to_owned(),
        ),
    ];
    for (claims, expected, error) in refusals {
        let (status, challenge, _) = call(&client, claims);
        let complete = format!("Bearer realm=\"api\", {error}{metadata}");
        assert_eq!((status, challenge), (expected, Some(complete)));
    }

    let for_another_api = json!({ "sub": "alice", "scope": "notes:read", "aud": "https://mail.example.com" });
    let (status, challenge, _) = call(&client, Some(for_another_api));
    assert_eq!(status, Status::Unauthorized);
    assert!(challenge.unwrap().contains("error=\"invalid_token\""));
}

#[test]
fn the_api_says_where_its_tokens_come_from() {
    let client = app();
    let metadata = client.get("/.well-known/oauth-protected-resource");
    let metadata: Value = metadata.dispatch().into_json().unwrap();
    assert_eq!(metadata["authorization_servers"], json!([TestProvider::ISSUER]));
    assert_eq!(metadata["scopes_supported"], json!(["notes:read"]));
}
