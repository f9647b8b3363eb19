//! Answers of the token endpoint and of the key set that no sign-in can come from.

use std::time::Duration;

use rocket::tokio::{join, time::timeout};
use serde_json::{Value, json};

use super::{accepted, assert_refusal_page, launch, refused, refused_with};
use crate::support::keys::base64url;
use crate::support::{Misbehaviour, Reply, SigningKey, TestProvider};

/// Whom a sign-in asks behind the browser's back, and how errors call them.
const ENDPOINTS: [(&str, &str); 3] = [
    ("/token", "token endpoint"),
    ("/jwks", "key set"),
    ("/userinfo", "UserInfo endpoint"),
];

/// The token endpoint answers with this reply.
async fn reply_refused(reply: Reply, status: u16, error: &str) {
    refused(|provider| provider.on_path("/token", reply.clone()), status, error).await;
}

// ---- Errors (RFC 6749 §5.2).

#[rocket::async_test]
async fn error_reply() {
    for (http_status, error, status) in [
        (400, "invalid_grant", 400),
        (400, "invalid_request", 502),
        (400, "unauthorized_client", 502),
        (401, "invalid_client", 502),
        (400, "something_else", 502),
        // It does not answer at the moment, in its own words.
        (400, "temporarily_unavailable", 503),
        (503, "temporarily_unavailable", 503),
        (500, "server_error", 503),
        (429, "slow_down", 503),
    ] {
        let text = format!("the provider's token endpoint rejected the request with `{error}`: because");
        let reply = Reply::error(http_status, error, "because");
        reply_refused(reply, status, &text).await;
    }
}

#[rocket::async_test]
async fn error_reply_without_description() {
    let reply = Reply::json(json!({"error": "invalid_client"})).with_status(401);
    let text = "the provider's token endpoint rejected the request with `invalid_client`: ";
    reply_refused(reply, 502, text).await;
}

#[rocket::async_test]
async fn error_status() {
    for status in [408, 429, 500, 502, 503] {
        let error = format!("the provider's token endpoint responded with status {status}");
        reply_refused(Reply::status(status), 503, &error).await;
    }
}

// ---- No answer, or too much of one.

#[rocket::async_test]
async fn connection_dropped() {
    refused(
        |provider| provider.on_path("/token", Misbehaviour::Drop),
        503,
        "the provider's token endpoint is not reachable: connection closed before message completed",
    )
    .await;
}

#[rocket::async_test]
async fn connection_reset() {
    for (path, name) in ENDPOINTS {
        refused(
            |provider| provider.on_path(path, Misbehaviour::Reset),
            503,
            &format!("the provider's {name} is not reachable: Connection reset by peer (os error 104)"),
        )
        .await;
    }
}

#[rocket::async_test]
async fn reply_cut_short() {
    for (path, name) in ENDPOINTS {
        refused(
            |provider| provider.on_path(path, Misbehaviour::Truncate),
            503,
            &format!("the provider's {name} is not reachable: end of file before message length reached"),
        )
        .await;
    }
}

/// Announced as such: no more of it is read than is allowed.
#[rocket::async_test]
async fn body_of_two_hundred_megabytes() {
    let mut answer = b"HTTP/1.1 200 -\r\nContent-Length: 209715200\r\n\r\n".to_vec();
    answer.resize(2 * 1024 * 1024, b' ');
    for ((path, name), max) in ENDPOINTS.into_iter().zip([262_144, 1_048_576, 262_144]) {
        refused(
            |provider| provider.on_path(path, Misbehaviour::Raw(answer.clone())),
            502,
            &format!("the provider's {name} responded with more than {max} bytes"),
        )
        .await;
    }
}

#[rocket::async_test]
async fn no_http() {
    refused(
        |provider| provider.on_path("/token", Misbehaviour::Raw(b"hello\r\n\r\n".to_vec())),
        503,
        "the provider's token endpoint is not reachable: invalid HTTP version parsed",
    )
    .await;
}

#[rocket::async_test]
async fn body_too_large() {
    for body in [Misbehaviour::Huge(256 * 1024), Misbehaviour::Endless] {
        refused(
            |provider| provider.on_path("/token", body.clone()),
            502,
            "the provider's token endpoint responded with more than 262144 bytes",
        )
        .await;
    }
}

/// A thousand keys are more than any other reply holds.
#[rocket::async_test]
async fn keys_too_large() {
    accepted(|provider| provider.on_path("/jwks", Misbehaviour::Huge(512 * 1024))).await;
    for body in [Misbehaviour::Huge(1024 * 1024), Misbehaviour::Endless] {
        refused(
            |provider| provider.on_path("/jwks", body.clone()),
            502,
            "the provider's key set responded with more than 1048576 bytes",
        )
        .await;
    }
}

/// What is only read may be asked for once more; a code is never sent twice.
#[rocket::async_test]
async fn connection_dropped_and_tried_again() {
    for (path, times) in [("/token", 1), ("/jwks", 2), ("/userinfo", 1)] {
        let provider = TestProvider::start().await;
        provider.on_path(path, Misbehaviour::Drop);
        let app = launch(&provider, json!({})).await;
        let page = app.browser.sign_in(&provider, "/me").await;
        assert_refusal_page(&page, 503);
        assert_eq!(provider.count(path), times, "{path}");
    }
}

#[rocket::async_test]
async fn slow() {
    // Making the provider's key takes its time too, once.
    SigningKey::Rsa.jwk();
    join!(
        hangs_at("/token", "token endpoint"),
        hangs_at("/jwks", "key set"),
        hangs_at("/userinfo", "UserInfo endpoint"),
    );
}

async fn hangs_at(path: &str, endpoint: &str) {
    let error = format!("the provider's {endpoint} did not respond within 2000 ms");
    let refused = refused_with(
        json!({"http": {"timeout": "2s"}}),
        |provider| provider.on_path(path, Misbehaviour::Hang),
        504,
        &error,
    );
    let ended = timeout(Duration::from_secs(30), refused).await;
    ended.expect("it does not wait for ever");
}

/// An error page that is no error reply does not hide its status.
#[rocket::async_test]
async fn error_page() {
    let page = Reply::text("text/html", "<h1>No</h1>").with_status(404);
    let error = "the provider's token endpoint responded with status 404";
    reply_refused(page, 502, error).await;
}

// ---- Answers that are no token reply.

#[rocket::async_test]
async fn html() {
    reply_refused(
        Reply::text("text/html", "<h1>Maintenance</h1>"),
        502,
        "the provider's token endpoint sent an invalid response: it is not a JSON object",
    )
    .await;
}

#[rocket::async_test]
async fn empty() {
    reply_refused(
        Reply::status(200),
        502,
        "the provider's token endpoint sent an invalid response: it is empty",
    )
    .await;
}

/// The reply is changed in one member, and refused.
async fn member_refused(change: impl Fn(&mut Reply) + Send + Sync + Clone + 'static, error: &str) {
    refused(|provider| provider.on_token_response(change.clone()), 502, error).await;
}

#[rocket::async_test]
async fn access_token_missing() {
    member_refused(
        |reply| reply.remove("access_token"),
        "the provider's token endpoint sent an invalid response: `access_token` is missing",
    )
    .await;
}

#[rocket::async_test]
async fn access_token_empty() {
    member_refused(
        |reply| reply.set("access_token", ""),
        "the provider's token endpoint sent an invalid response: `access_token` is missing",
    )
    .await;
}

#[rocket::async_test]
async fn token_type_mac() {
    member_refused(
        |reply| reply.set("token_type", "mac"),
        "the provider's token endpoint sent an invalid response: `token_type` is `mac`, expected `Bearer`",
    )
    .await;
}

#[rocket::async_test]
async fn id_token_missing() {
    for value in [None, Some(Value::Null)] {
        member_refused(
            move |reply| match &value {
                Some(value) => reply.set("id_token", value.clone()),
                None => reply.remove("id_token"),
            },
            "the token response has no `id_token`",
        )
        .await;
    }
}

#[rocket::async_test]
async fn id_token_as_an_object() {
    member_refused(
        |reply| reply.set("id_token", json!({"sub": "alice"})),
        "the provider's token endpoint sent an invalid response: `id_token` is not a string",
    )
    .await;
}

// ---- The key set.

/// The key set answers with this reply.
async fn keys_refused(reply: Reply, error: &str) {
    refused(|provider| provider.on_path("/jwks", reply.clone()), 502, error).await;
}

#[rocket::async_test]
async fn keys_with_an_error_status() {
    for (status, expected) in [(500, 503), (404, 502)] {
        refused(
            |provider| provider.on_path("/jwks", Reply::status(status)),
            expected,
            &format!("the provider's key set responded with status {status}"),
        )
        .await;
    }
}

#[rocket::async_test]
async fn keys_in_html() {
    keys_refused(
        Reply::text("text/html", "<h1>Maintenance</h1>"),
        "the provider's key set sent an invalid response: the key set cannot be parsed: not valid JSON: parsing failed at line 1, column 1",
    )
    .await;
}

#[rocket::async_test]
async fn keys_empty() {
    let error = "the provider's key set sent an invalid response: the key set cannot be parsed: not valid JSON: parsing failed at line 1, column 0";
    keys_refused(Reply::status(200), error).await;
}

/// The token is signed by the very key, which must not be used for it.
#[rocket::async_test]
async fn keys_that_must_not_verify() {
    for (member, value) in [
        ("use", json!("enc")),
        ("key_ops", json!(["encrypt", "wrapKey"])),
        ("alg", json!("RSA-OAEP")),
        ("kty", json!("oct")),
        ("d", json!("AQAB")),
        ("e", json!("AQ")),
    ] {
        let mut key = SigningKey::Rsa.jwk();
        key[member] = value;
        keys_refused(
            Reply::json(json!({"keys": [key, SigningKey::Ec.jwk()]})),
            "the ID token is rejected: the provider's key set has no usable key \"rsa-1\"",
        )
        .await;
    }
}

/// A secret that everybody can read proves nothing, even where HS256 is allowed.
#[rocket::async_test]
async fn symmetric_key_of_the_key_set() {
    let secret = b"a secret that the provider shows".to_vec();
    refused_with(
        json!({"id_token_signing_algs": ["RS256", "HS256"]}),
        |provider| {
            let key = json!({"kty": "oct", "kid": "oct-1", "alg": "HS256", "k": base64url(&secret)});
            provider.on_path("/jwks", Reply::json(json!({"keys": [key, SigningKey::Rsa.jwk()]})));
            let secret = secret.clone();
            provider.on_id_token(move |token| {
                token.sign_with(SigningKey::Hs256(secret.clone()));
                token.set_header("kid", "oct-1");
            });
        },
        502,
        "the ID token is rejected: the HS256 signature of the token is wrong",
    )
    .await;
}

#[rocket::async_test]
async fn keys_of_another_kind_alone() {
    for keys in [json!([]), json!([SigningKey::Ec.jwk()])] {
        keys_refused(
            Reply::json(json!({"keys": keys})),
            "the ID token is rejected: the provider's key set has no usable key \"rsa-1\"",
        )
        .await;
    }
}
