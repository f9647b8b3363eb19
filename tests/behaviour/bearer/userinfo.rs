//! `userinfo()`: what the provider says about the token's person, asked with the token.

use std::time::Duration;

use serde_json::json;

use super::app::Api;
use crate::{
    common::NOW,
    support::{Reply, TestProvider},
};

const USERINFO: &str = "/userinfo";

/// What the route says when UserInfo fails.
async fn fails(api: &Api, token: &str, error: &str) {
    let answer = api.call("/person", token).await;
    assert_eq!((answer.status, &*answer.body), (200, error));
}

#[rocket::async_test]
async fn userinfo_without_an_endpoint() {
    let provider = TestProvider::start().await;
    provider.metadata(|metadata| drop(metadata.remove("userinfo_endpoint")));
    let api = Api::at(provider, json!({})).await;
    let token = api.provider.access_token("", |_| ());
    fails(&api, &token, "there is no UserInfo endpoint to ask").await;
}

#[rocket::async_test]
async fn userinfo_of_a_client_that_acts_for_itself() {
    let api = Api::open().await;
    let token = api.provider.access_token("", |token| token.remove("sub"));
    let error = "the access token has no \"sub\" to compare UserInfo with";
    fails(&api, &token, error).await;
    assert_eq!(api.provider.count(USERINFO), 0);
}

/// A JWT is judged anew after five minutes, and then its person is asked for anew.
#[rocket::async_test]
async fn userinfo_is_asked_again_after_five_minutes() {
    let api = Api::open().await;
    let token = api.provider.access_token("", |token| token.set("exp", NOW + 3600));
    for (seconds, count) in [(0, 1), (299, 1), (1, 2), (299, 2), (1, 3)] {
        api.clock.advance(Duration::from_secs(seconds));
        assert_eq!(api.call("/person", &token).await.body, "Alice Liddell");
        assert_eq!(api.provider.count(USERINFO), count, "{seconds}");
    }
}

/// A failure is not remembered.
#[rocket::async_test]
async fn userinfo_while_the_provider_is_down() {
    let api = Api::open().await;
    let token = api.provider.access_token("", |_| ());
    for (reply, error) in [
        (
            Reply::status(500),
            "the provider's UserInfo endpoint responded with status 500",
        ),
        (
            Reply::status(401),
            "the provider's UserInfo endpoint responded with status 401",
        ),
        (
            Reply::json(json!({ "name": "Alice" })),
            "the UserInfo response is rejected: the claim \"sub\" is missing",
        ),
    ] {
        api.provider.on_path(USERINFO, reply);
        fails(&api, &token, error).await;
    }
    api.provider.clear_path(USERINFO);
    assert_eq!(api.call("/person", &token).await.body, "Alice Liddell");
    assert_eq!(api.provider.count(USERINFO), 4);
}

#[rocket::async_test]
async fn userinfo_that_is_signed() {
    let api = Api::open().await;
    api.provider.user_info_as_jwt(|_| ());
    let token = api.provider.access_token("", |_| ());
    assert_eq!(api.call("/person", &token).await.body, "Alice Liddell");
    api.provider.user_info_as_jwt(|jwt| jwt.break_signature = true);
    let other = api.provider.access_token("", |_| ());
    fails(
        &api,
        &other,
        "the UserInfo response is rejected: the RS256 signature of the token is wrong",
    )
    .await;
}

/// An opaque token has one answer as long as introspection's counts.
#[rocket::async_test]
async fn userinfo_of_an_opaque_token() {
    let api = Api::with(json!({ "token_validation": "introspection" })).await;
    let token = api.provider.access_token("", |_| ());
    for _ in 0..2 {
        assert_eq!(api.call("/person", &token).await.body, "Alice Liddell");
    }
    assert_eq!(api.provider.count(USERINFO), 1);
    api.clock.advance(Duration::from_secs(60));
    assert_eq!(api.call("/person", &token).await.body, "Alice Liddell");
    assert_eq!(api.provider.count(USERINFO), 2);
}

/// Twenty requests with a token that was accepted ask for its person once.
#[rocket::async_test]
async fn userinfo_is_asked_once_for_all_waiting_requests() {
    let api = Api::open().await;
    let token = api.provider.access_token("", |_| ());
    assert_eq!(api.call("/whoami", &token).await.status, 200);
    let held = api.provider.hold(USERINFO);
    let calls = rocket::futures::future::join_all((0..20).map(|_| api.call("/person", &token)));
    let release = async {
        api.provider.until_requested(USERINFO, 1).await;
        held.release();
    };
    let (answers, ()) = rocket::futures::future::join(calls, release).await;
    assert!(answers.iter().all(|answer| answer.body == "Alice Liddell"));
    assert_eq!(api.provider.count(USERINFO), 1);
}

/// The same document of keys means the same keys: what was accepted by them is not judged anew, so that
/// what was learnt about it stays.
#[rocket::async_test]
async fn userinfo_stays_while_the_keys_do() {
    let api = Api::open().await;
    api.provider
        .on_jwks(|reply| reply.set_header("Cache-Control", "max-age=0"));
    let token = api.provider.access_token("", |token| token.set("exp", NOW + 3600));
    assert_eq!(api.call("/person", &token).await.body, "Alice Liddell");
    // Five minutes is the least that keys serve; what was accepted last is remembered as long.
    let another = api.provider.access_token("", |token| token.set("exp", NOW + 3600));
    api.clock.advance(Duration::from_secs(299));
    assert_eq!(api.call("/person", &another).await.body, "Alice Liddell");
    api.clock.advance(Duration::from_secs(1));
    assert_eq!(api.call("/person", &another).await.body, "Alice Liddell");
    api.provider.until_requested("/jwks", 2).await;
    // A token of a key that is not there is answered after the fetch, by whoever made it.
    let unknown = api
        .provider
        .access_token("", |token| token.set_header("kid", "unknown"));
    assert_eq!(api.call("/person", &unknown).await.status, 401);
    assert_eq!(api.provider.count("/jwks"), 3);
    assert_eq!(api.call("/person", &another).await.body, "Alice Liddell");
    assert_eq!(api.provider.count(USERINFO), 2);
}
