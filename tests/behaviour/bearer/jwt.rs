//! JWT access tokens: one change to an accepted token, one reason to refuse it.

use serde_json::json;

use super::app::Api;
use crate::app::NOW;

#[rocket::async_test]
async fn a_token_for_this_api_is_accepted() {
    let api = Api::open().await;
    let answer = api.whoami(|_| ()).await;
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(
        (answer.status, body),
        (
            200,
            json!({
                "sub": "alice", "client_id": "client", "iss": api.provider.issuer(),
                "scopes": ["notes:read"], "exp": NOW + 300,
            })
        )
    );
    assert_eq!(answer.challenge, None);
}

#[rocket::async_test]
async fn access_token_expired() {
    let api = Api::open().await;
    api.refuses(
        |token| token.set("exp", NOW - 61),
        "the token has expired",
        &format!(
            "the token expired at {}, it is now {NOW} (seconds since 1970)",
            NOW - 61
        ),
    )
    .await;
}

#[rocket::async_test]
async fn a_token_that_was_accepted_expires() {
    let api = Api::open().await;
    let token = api.provider.access_token("notes:read", |_| ());
    assert_eq!(api.call("/notes", &token).await.status, 200);
    // `exp` is in 300 s, and the clock may differ by 60 s.
    api.clock.advance(std::time::Duration::from_secs(359));
    assert_eq!(api.call("/notes", &token).await.status, 200);
    api.clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(
        api.call("/notes", &token).await,
        super::app::refused("the token has expired")
    );
}
