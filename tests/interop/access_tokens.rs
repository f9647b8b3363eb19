//! The API of `examples/notes` with the access tokens of npm `oidc-provider`.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use crate::{
    example::{Example, free_port},
    node_provider::{CLIENT_SECRET as SECRET, NodeProvider},
};

/// The resource indicators (RFC 8707) for which the provider issues JWTs, and opaque tokens.
const JWTS: &str = "https://api.notes.test";
const OPAQUE: &str = "https://opaque.notes.test";

fn notes(provider: &NodeProvider, client_id: &str, more: &[(&str, &str)]) -> Example {
    let environment = [
        ("OIDC_ISSUER", provider.issuer()),
        ("OIDC_CLIENT_ID", client_id),
        ("OIDC_CLIENT_SECRET", SECRET),
        ("OIDC_AUDIENCE", "https://api.notes.test https://opaque.notes.test"),
    ];
    Example::start("notes", free_port(), &[&environment[..], more].concat())
}

/// A token by client credentials.
async fn token(provider: &NodeProvider, resource: &str, scope: &str) -> String {
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "client_credentials")
        .append_pair("client_id", "notes-api-post")
        .append_pair("client_secret", SECRET)
        .append_pair("resource", resource)
        .append_pair("scope", scope)
        .finish();
    let reply = crate::patience::client()
        .post(format!("{}/token", provider.issuer()))
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(form)
        .send()
        .await
        .unwrap();
    let reply: Value = serde_json::from_str(&reply.text().await.unwrap()).unwrap();
    let token = reply["access_token"].as_str();
    token.unwrap_or_else(|| panic!("{reply}")).to_owned()
}

/// Status, challenge and body.
async fn call(app: &Example, path: &str, token: &str) -> (u16, Option<String>, Value) {
    let answer = crate::patience::client()
        .get(app.at("127.0.0.1", path))
        .header("Authorization", format!("Bearer {token}"))
        .header("Accept", "application/json")
        .send()
        .await
        .unwrap();
    let challenge = answer.headers().get("WWW-Authenticate");
    let challenge = challenge.map(|value| value.to_str().unwrap().to_owned());
    let status = answer.status().as_u16();
    let body = serde_json::from_str(&answer.text().await.unwrap());
    (status, challenge, body.unwrap_or_default())
}

#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn jwt_access_tokens_of_every_algorithm() {
    for algorithm in ["RS256", "PS256", "ES256", "EdDSA"] {
        let provider = NodeProvider::start(&[("API_SIGN_ALG", algorithm)]).await;
        let app = notes(&provider, "notes-api", &[("OIDC_REQUIRE_AT_JWT", "true")]);
        let reads = token(&provider, JWTS, "notes:read").await;
        assert_eq!(reads.split('.').count(), 3, "{algorithm}");
        let expected = json!({
            "sub": "notes-api-post", "client_id": "notes-api-post", "scope": "notes:read",
        });
        assert_eq!(
            call(&app, "/api/whoami", &reads).await,
            (200, None, expected),
            "{algorithm}"
        );
        assert_eq!(call(&app, "/api/notes", &reads).await, (200, None, json!([])));
        let writes = token(&provider, JWTS, "notes:write").await;
        let (status, challenge, _) = call(&app, "/api/notes", &writes).await;
        assert_eq!(status, 403);
        assert!(challenge.unwrap().contains("scope=\"notes:read\""));
    }
}

#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn opaque_access_tokens_by_both_client_authentication_methods() {
    let provider = NodeProvider::start(&[]).await;
    for (client_id, method) in [
        ("notes-api", "client_secret_basic"),
        ("notes-api-post", "client_secret_post"),
    ] {
        let app = notes(&provider, client_id, &[("OIDC_INTROSPECTION_AUTH_METHOD", method)]);
        let reads = token(&provider, OPAQUE, "notes:read").await;
        assert!(!reads.contains('.'));
        let expected = json!({ "kind": "bearer", "sub": Value::Null });
        assert_eq!(
            call(&app, "/api/either", &reads).await,
            (200, None, expected),
            "{method}"
        );
        assert_eq!(call(&app, "/api/notes", &reads).await.0, 200, "{method}");
        let (status, challenge, _) = call(&app, "/api/notes", "no-such-token").await;
        assert_eq!(status, 401);
        let challenge = challenge.unwrap();
        assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
    }
}

/// While requests run, the provider changes its keys: none fails that carries a good token.
#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn keys_rotate_while_requests_run() {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let folder = std::env::temp_dir().join(format!("oidc-keys-{}", since.as_nanos()));
    let folder = folder.to_str().unwrap();
    let first = NodeProvider::start(&[("DATA_DIR", folder)]).await;
    let port = first.issuer().rsplit(':').next().unwrap().to_owned();
    let app = Arc::new(notes(&first, "notes-api", &[]));
    let old = token(&first, JWTS, "notes:read").await;
    assert_eq!(call(&app, "/api/notes", &old).await.0, 200);

    // A task of its own: starting a provider blocks this one.
    let (stop, mut stopped) = rocket::tokio::sync::oneshot::channel::<()>();
    let calling = app.clone();
    let requests = rocket::tokio::spawn(async move {
        let mut answers = vec![];
        while stopped.try_recv().is_err() {
            answers.push(call(&calling, "/api/notes", &old).await.0);
        }
        answers
    });
    drop(first);
    let environment = [("DATA_DIR", folder), ("FRESH_KEYS", "1"), ("PORT", &*port)];
    let second = NodeProvider::start(&environment).await;
    let new = token(&second, JWTS, "notes:read").await;
    let new = call(&app, "/api/notes", &new).await.0;
    stop.send(()).unwrap();
    let answers = requests.await.unwrap();
    let _ = std::fs::remove_dir_all(folder);
    assert_eq!(new, 200);
    assert!(answers.len() > 10, "{}", answers.len());
    assert!(answers.iter().all(|status| *status == 200), "{answers:?}");
}
