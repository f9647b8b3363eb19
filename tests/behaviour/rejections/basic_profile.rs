//! The relying-party modules of the OpenID Foundation's basic profile, each under its name without
//! `oidcc-client-test-`.

use serde_json::{Value, json};

use super::{accepted, accepted_with, refused};
use crate::support::{JwtParts, Reply, SigningKey};

#[rocket::async_test]
async fn client_test() {
    let (provider, app, _) = accepted(|_| {}).await;
    assert_eq!(app.browser.visit("/admin").await.body, "Hello admin alice");
    assert_eq!(provider.count("/token"), 1);
}

#[rocket::async_test]
async fn nonce_invalid() {
    refused(
        |provider| provider.on_id_token(|token| token.set("nonce", "another")),
        502,
        "the ID token is rejected: the nonce of the ID token is not the one that was sent",
    )
    .await;
}

#[rocket::async_test]
async fn scope_userinfo_claims() {
    let scopes = json!({"scopes": "openid profile email"});
    let (provider, _, page) = accepted_with(scopes, |_| {}).await;
    let asked = provider.last_request("/authorize");
    assert_eq!(asked.query_value("scope"), Some("openid profile email"));
    let claims: Value = page.json();
    assert_eq!(claims["name"], "Alice Liddell");
    assert_eq!(claims["email"], "alice@example.com");
}

#[rocket::async_test]
async fn client_secret_basic() {
    let secret = "se:cr+e t%/&é";
    let (provider, ..) = accepted_with(json!({"client_secret": secret}), |_| {}).await;
    let request = provider.last_request("/token");
    let sent = ("client".to_owned(), secret.to_owned());
    assert_eq!(request.basic(), Some(sent));
    assert_eq!(request.form_value("client_secret"), None);
}

#[rocket::async_test]
async fn invalid_iss() {
    refused(
        |provider| provider.on_id_token(|token| token.set("iss", "https://other.example")),
        502,
        "the ID token is rejected: the token is issued by \"https://other.example\", expected \"{issuer}\"",
    )
    .await;
}

#[rocket::async_test]
async fn invalid_aud() {
    refused(
        |provider| provider.on_id_token(|token| token.set("aud", "other")),
        502,
        "the ID token is rejected: the token is meant for [\"other\"], expected \"client\" among them",
    )
    .await;
}

#[rocket::async_test]
async fn missing_aud() {
    missing("aud").await;
}

#[rocket::async_test]
async fn missing_iat() {
    missing("iat").await;
}

#[rocket::async_test]
async fn missing_sub() {
    missing("sub").await;
}

async fn missing(claim: &'static str) {
    let error = format!("the ID token is rejected: the claim \"{claim}\" is missing");
    refused(
        |provider| provider.on_id_token(move |token| token.remove(claim)),
        502,
        &error,
    )
    .await;
}

#[rocket::async_test]
async fn invalid_sig_rs256() {
    refused(
        |provider| provider.on_id_token(|token| token.break_signature = true),
        502,
        "the ID token is rejected: the RS256 signature of the token is wrong",
    )
    .await;
}

#[rocket::async_test]
async fn idtoken_sig_rs256() {
    accepted(|provider| {
        provider.on_id_token(|token| {
            assert_eq!(token.header["alg"], "RS256");
            assert_eq!(token.signing, SigningKey::Rsa);
        });
    })
    .await;
}

/// The code flow lets a client take an unsigned token; we never do.
#[rocket::async_test]
async fn idtoken_sig_none() {
    refused(
        |provider| provider.on_id_token(|token| token.sign_with(SigningKey::None)),
        502,
        "the ID token is rejected: the token is signed with \"none\", which is never accepted",
    )
    .await;
}

fn without_kid(token: &mut JwtParts) {
    token.remove_header("kid");
}

#[rocket::async_test]
async fn kid_absent_single_jwks() {
    let (provider, ..) = accepted(|provider| {
        provider.on_id_token(without_kid);
        provider.on_jwks(|keys| {
            let mut only = SigningKey::Rsa.jwk();
            only.as_object_mut().unwrap().remove("kid");
            *keys = Reply::json(json!({"keys": [only]}));
        });
    })
    .await;
    assert_eq!(provider.count("/jwks"), 1);
}

/// One of the published keys fits RS256.
#[rocket::async_test]
async fn kid_absent_multiple_jwks() {
    let (provider, ..) = accepted(|provider| provider.on_id_token(without_kid)).await;
    assert_eq!(provider.count("/jwks"), 1);
}

#[rocket::async_test]
async fn userinfo_invalid_sub() {
    refused(
        |provider| provider.on_user_info(|reply| reply.set("sub", "mallory")),
        502,
        "the UserInfo response is about \"mallory\", expected \"alice\"",
    )
    .await;
}

#[rocket::async_test]
async fn userinfo_bearer_header() {
    let (provider, ..) = accepted(|_| {}).await;
    let request = provider.last_request("/userinfo");
    let token = request.bearer().expect("a bearer token");
    assert!(token.starts_with("at-"), "{token}");
    assert_eq!(request.method, "GET");
    assert_eq!((request.query, request.form), (vec![], vec![]));
}
