//! What a hostile provider, or a network, can do to a sign-in: it fails in bounded time and space, and says so.

use std::time::{Duration, Instant};

use rocket::http::Status;
use serde_json::{Value, json};

use super::{accepted_with, refused, refused_with};
use crate::{
    common,
    support::{JwtParts, Misbehaviour, Reply, TestProvider},
};

/// An object whose member `claim` is an array in an array in an array …
fn deep(claim: &str) -> String {
    let (open, close) = ("[".repeat(10_000), "]".repeat(10_000));
    format!("{{\"sub\":\"alice\",\"{claim}\":{open}{close}}}")
}

#[rocket::async_test]
async fn documents_ten_thousand_deep() {
    let json = |text: String| Reply::text("application/json", text);
    let syntax = "not valid JSON: parsing failed at line 1, column";
    for (path, member, error) in [
        (
            "/jwks",
            "keys",
            format!("the provider's key set sent an invalid response: the key set cannot be parsed: {syntax} 149"),
        ),
        (
            "/userinfo",
            "groups",
            format!("the UserInfo response cannot be parsed: {syntax} 151"),
        ),
        (
            "/token",
            "access_token",
            "the provider's token endpoint sent an invalid response: it is not a JSON object".to_owned(),
        ),
    ] {
        refused(|provider| provider.on_path(path, json(deep(member))), 502, &error).await;
    }
    refused(
        |provider| {
            provider.on_id_token(|token: &mut JwtParts| token.raw_claims = Some(deep("groups")));
        },
        502,
        &format!("the ID token is rejected: the payload of the token cannot be parsed: {syntax} 151"),
    )
    .await;
}

/// The whole answer has to be there in time, not its next byte.
#[rocket::async_test]
async fn a_byte_at_a_time() {
    for (path, name) in [
        ("/token", "token endpoint"),
        ("/userinfo", "UserInfo endpoint"),
        ("/jwks", "key set"),
    ] {
        let begin = Instant::now();
        refused_with(
            json!({ "http": { "timeout": "1s" } }),
            |provider| provider.on_path(path, Misbehaviour::Drip),
            504,
            &format!("the provider's {name} did not respond within 1000 ms"),
        )
        .await;
        assert!(begin.elapsed() < Duration::from_secs(20));
    }
}

/// Groups by the hundred: 12 KB of claims, and they are all there.
#[rocket::async_test]
async fn twelve_kilobytes_of_claims() {
    let groups: Vec<String> = (0..500).map(|i| format!("cn=group-number-{i:03}")).collect();
    assert!(json!(groups).to_string().len() > 11_000);
    for session in [
        json!({ "max_cookies": 5, "tokens": "access_token" }),
        json!({ "store": "memory" }),
    ] {
        let (_, _, page) = accepted_with(json!({ "session": session }), |provider| {
            provider.user_claims(json!({ "sub": "alice", "groups": groups.clone() }));
        })
        .await;
        assert_eq!(page.json::<Value>()["groups"], json!(groups));
    }
}

/// Discovery 1.0 §4.1: the slash at the end of an issuer is not part of the metadata's address, and is part
/// of every `iss`.
#[rocket::async_test]
async fn an_issuer_that_ends_in_a_slash() {
    let provider = TestProvider::start().await;
    let issuer = format!("{}/", provider.issuer());
    let named = json!(issuer);
    provider.metadata(|metadata| drop(metadata.insert("issuer".into(), named)));
    let named = json!(issuer);
    provider.on_id_token(move |token| token.set("iss", named.clone()));
    let app = common::App::new(&provider).with("oidc.issuer", &issuer);
    let browser = app.open().await;
    let callback = browser.begin_sign_in(&provider, "/me").await;
    let callback = callback.set("iss", &issuer);
    let page = browser.arrive_from_provider(&callback.path_and_query()).await;
    page.is(Status::SeeOther).redirects_to("/me");
    browser.visit("/me").await.is(Status::Ok);
    assert_eq!(provider.count(TestProvider::DISCOVERY), 1);
    assert_eq!(app.failures(), [""; 0]);
}
