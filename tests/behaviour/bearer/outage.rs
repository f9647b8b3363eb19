//! A provider that is down, slow or broken: an API waits for nobody, and never blames the token.

use std::time::Duration;

use serde_json::json;

use super::app::{Answer, Api};
use crate::support::{Misbehaviour, Reply, TestProvider, case};

fn unanswered(status: u16, retry_after: Option<&str>) -> Answer {
    Answer {
        status,
        challenge: None,
        retry_after: retry_after.map(str::to_owned),
        body: "wrong".to_owned(),
    }
}

/// Down waits: the API starts, says 503, and works as soon as the provider does.
#[rocket::async_test]
async fn an_api_starts_before_its_provider() {
    let provider = TestProvider::start().await;
    provider.stop();
    let api = Api::at(provider, json!({})).await;
    let issuer = api.provider.issuer();
    let warned = api.log.lines().iter().any(|line| {
        line.starts_with("WARN:") && line.ends_with("its tokens are rejected with 503 until it is available")
    });
    assert!(warned, "{:#?}", api.log.lines());

    let token = api.provider.access_token("notes:read", |_| ());
    let down = unanswered(503, Some("1"));
    assert_eq!(api.call("/notes", &token).await, down);
    assert_eq!(api.call("/notes", "opaque").await, down);
    // What needs no provider is refused as ever.
    let expired = api.whoami(|token| token.set("iss", format!("{issuer}/")));
    assert_eq!(expired.await.status, 401);
    assert_eq!(api.call_with("/notes", &[]).await.status, 401);

    api.clock.advance(Duration::from_secs(1));
    assert_eq!(api.call("/notes", &token).await, unanswered(503, Some("2")));
    api.provider.restart();
    api.clock.advance(Duration::from_secs(1));
    assert_eq!(api.call("/notes", &token).await, down);
    api.clock.advance(Duration::from_secs(1));
    assert_eq!(api.call("/notes", &token).await.status, 200);
}

fn misbehaviours() -> [(Misbehaviour, u16); 8] {
    [
        (Misbehaviour::Hang, 503),
        (Misbehaviour::Drop, 503),
        (Misbehaviour::Truncate, 503),
        (Misbehaviour::Raw(b"no HTTP\r\n\r\n".to_vec()), 503),
        (Misbehaviour::Reply(Reply::status(503)), 503),
        (Misbehaviour::Reply(Reply::status(429)), 503),
        (Misbehaviour::Endless, 502),
        (Misbehaviour::Huge(2 * 1024 * 1024), 502),
    ]
}

#[rocket::async_test]
async fn an_introspection_endpoint_that_misbehaves() {
    let settings = json!({ "token_validation": "introspection", "http": { "timeout": "1s" } });
    let api = Api::with(settings).await;
    let token = api.provider.access_token("notes:read", |token| {
        token.set("exp", crate::common::NOW + 3600);
    });
    for (misbehaviour, status) in misbehaviours() {
        let name = format!("{misbehaviour:?}");
        case(&status.to_string());
        api.provider.on_path("/introspect", misbehaviour);
        let retry_after = (status == 503).then_some("5");
        assert_eq!(
            api.call("/notes", &token).await,
            unanswered(status, retry_after),
            "{name}"
        );
        // The longest that nobody asks after several in a row.
        api.clock.advance(Duration::from_secs(60));
        api.provider.set_time(api.clock.now().unix_timestamp());
    }
    api.provider.clear_path("/introspect");
    assert_eq!(api.call("/notes", &token).await.status, 200);
}

#[rocket::async_test]
async fn a_key_set_that_misbehaves() {
    let api = Api::with(json!({ "http": { "timeout": "1s" } })).await;
    let token = api.provider.access_token("notes:read", |token| {
        token.set("exp", crate::common::NOW + 3600);
    });
    for (misbehaviour, status) in misbehaviours() {
        let name = format!("{misbehaviour:?}");
        case(&status.to_string());
        api.provider.on_path("/jwks", misbehaviour);
        let retry_after = (status == 503).then_some("5");
        assert_eq!(
            api.call("/notes", &token).await,
            unanswered(status, retry_after),
            "{name}"
        );
        // The longest that nobody asks.
        api.clock.advance(Duration::from_secs(60));
    }
    api.provider.clear_path("/jwks");
    assert_eq!(api.call("/notes", &token).await.status, 200);
}

/// With `Option`, a route serves those that a provider cannot tell apart, as strangers.
#[rocket::async_test]
async fn an_optional_token_while_the_provider_is_down() {
    let api = Api::open().await;
    api.provider.stop();
    let answer = api.call("/optional", "opaque").await;
    assert_eq!((answer.status, &*answer.body), (200, "None"));
}
