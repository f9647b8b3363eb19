//! The claim `session_expiry` of an ID token: when a session ends at the latest, by the provider's word.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use rocket::{
    http::Status,
    serde::json::{Value, json},
};

use crate::{
    common::{App, NOW, assert_signed_out, opened_session, signed_in},
    records::session_cookie,
    support::TestProvider,
};

const HOUR: i64 = 60 * 60;
/// What leaves the claim out.
const ABSENT: i64 = 0;

/// The provider sends the claim with this value, which the test may change.
fn send(provider: &TestProvider, value: i64) -> Arc<AtomicI64> {
    let ends = Arc::new(AtomicI64::new(value));
    let sent = ends.clone();
    provider.on_id_token(move |token| match sent.load(Ordering::SeqCst) {
        ABSENT => {}
        ends => token.set("session_expiry", ends),
    });
    ends
}

fn app(provider: &TestProvider) -> App {
    App::new(provider)
        .with("oidc.session.idle_timeout", "12h")
        .with("oidc.rp_initiated_logout", false)
}

#[rocket::async_test]
async fn a_session_ends_when_the_provider_says() {
    for store in ["cookie", "memory"] {
        let provider = TestProvider::start().await;
        send(&provider, NOW + 2 * HOUR);
        let app = app(&provider).local_only().with("oidc.session.store", store);
        let browser = signed_in(&app, &provider).await;
        // A day longer, for sign-out.
        let life = session_cookie(&browser).max_age().unwrap();
        assert_eq!(life.whole_seconds(), 26 * HOUR);
        app.advance(Duration::from_secs(2 * 60 * 60 - 1));
        browser.fetch("/me").await.is(Status::Ok);
        app.advance(Duration::from_secs(1));
        assert_signed_out(&browser).await;
    }
}

#[rocket::async_test]
async fn the_setting_ends_a_session_before() {
    let provider = TestProvider::start().await;
    for claim in [json!(NOW + 100 * HOUR), json!(1e300), Value::Null] {
        provider.on_id_token(move |token| token.set("session_expiry", claim.clone()));
        let app = app(&provider).local_only();
        let browser = signed_in(&app, &provider).await;
        let session = opened_session(&browser, &provider);
        assert_eq!(session["ends"], json!((NOW + 12 * HOUR) * 1000));
    }
}

#[rocket::async_test]
async fn a_session_that_has_ended_does_not_begin() {
    let provider = TestProvider::start().await;
    for (claim, expected) in [
        (
            json!(NOW),
            "the session ended at 1700000000 by the ID token (\"session_expiry\"), it is now 1700000000 (seconds since 1970)",
        ),
        (
            json!(-1),
            "the session ended at -1 by the ID token (\"session_expiry\"), it is now 1700000000 (seconds since 1970)",
        ),
        (
            json!("2030-01-01"),
            "the claim \"session_expiry\" is a string, not a number",
        ),
        (
            json!([NOW + HOUR]),
            "the claim \"session_expiry\" is an array, not a number",
        ),
    ] {
        provider.on_id_token(move |token| token.set("session_expiry", claim.clone()));
        let app = app(&provider).local_only();
        let browser = app.open().await;
        let page = browser.sign_in(&provider, "/me").await;
        page.is(Status::BadGateway);
        assert!(app.failures()[0].ends_with(expected), "{:?}", app.failures());
    }
}

/// When it ends, after each refresh.
#[rocket::async_test]
async fn a_refresh_moves_the_end() {
    let provider = TestProvider::start().await;
    let sent = send(&provider, NOW + 4 * HOUR);
    let app = app(&provider);
    let browser = signed_in(&app, &provider).await;
    let ends = || opened_session(&browser, &provider)["ends"].as_i64().unwrap() / 1000 - NOW;
    assert_eq!(ends(), 4 * HOUR);
    for (claim, expected) in [
        (NOW + 2 * HOUR, 2 * HOUR),
        // What is left out stays as it was.
        (ABSENT, 2 * HOUR),
        (NOW + 6 * HOUR, 6 * HOUR),
        // Not beyond what the setting allows from the sign-in on.
        (NOW + 20 * HOUR, 12 * HOUR),
        (NOW + 3 * HOUR, 3 * HOUR),
    ] {
        sent.store(claim, Ordering::SeqCst);
        app.advance(Duration::from_secs(300));
        browser.fetch("/me").await.is(Status::Ok);
        assert_eq!(ends(), expected, "{claim}");
    }
    assert_eq!(provider.count("/token"), 6);
}

#[rocket::async_test]
async fn a_refresh_ends_a_session_that_ended_at_the_provider() {
    let provider = TestProvider::start().await;
    let sent = send(&provider, NOW + 4 * HOUR);
    let app = app(&provider);
    let browser = signed_in(&app, &provider).await;
    sent.store(NOW + 200, Ordering::SeqCst);
    app.advance(Duration::from_secs(300));
    browser.fetch("/me").await.is(Status::Unauthorized);
    // Nothing of it is left.
    provider.until_requested("/revoke", 2).await;
    assert_signed_out(&browser).await;
}
