//! The sessions of users of GitHub: read again, refreshed, ended.

use std::time::Duration;

use rocket::{
    futures::future::join_all,
    http::Status,
    serde::json::{Value, json},
};

use crate::{
    common::{Log, NOW, assert_signed_out},
    github::Test,
    support::{GitHub, message},
};

const HOUR: Duration = Duration::from_secs(60 * 60);

#[rocket::async_test]
async fn the_user_of_an_oauth_app_is_read_again_every_hour() {
    let test = Test::new().await.with("oidc.session.idle_timeout", "12h");
    let browser = test.signed_in().await;
    test.app.advance(HOUR - Duration::from_secs(1));
    browser.visit("/kind").await.is(Status::Ok);
    assert_eq!(test.github.requests_to(GitHub::USER).len(), 1);

    test.github.user(|user| user["name"] = Value::Null);
    test.github
        .addresses(json!([{"email": "next@example.com", "primary": true, "verified": true}]));
    test.app.advance(Duration::from_secs(1));
    let me: Value = browser.visit("/me").await.is(Status::Ok).json();
    assert_eq!(
        me,
        json!({
            "sub": "583231",
            "preferred_username": "octocat",
            "picture": "https://avatars.example/u/583231?v=4",
            "profile": "https://github.example/octocat",
            "email": "next@example.com",
            "email_verified": true,
        })
    );
    browser.visit("/me").await.is(Status::Ok);
    assert_eq!(test.github.requests_to(GitHub::USER).len(), 2);
    assert_eq!(test.github.requests_to(GitHub::TOKEN).len(), 1);

    // A rate limit changes nothing, and is respected.
    test.app.advance(HOUR);
    test.github
        .on_path(GitHub::USER, message(403, "limit").with_header("Retry-After", "60"));
    for _ in 0..3 {
        let again: Value = browser.visit("/me").await.is(Status::Ok).json();
        assert_eq!(again, me);
    }
    assert_eq!(test.github.requests_to(GitHub::USER).len(), 3);

    // The user revokes the app's authorization.
    test.github.honest(GitHub::USER);
    test.github.revoke_all();
    test.app.advance(Duration::from_secs(60));
    assert_signed_out(&browser).await;
    assert_eq!(test.github.requests_to(GitHub::USER).len(), 4);
}

#[rocket::async_test]
async fn parallel_requests_read_the_user_once() {
    for store in ["cookie", "memory"] {
        let test = Test::new().await.with("oidc.session.idle_timeout", "12h");
        let test = test.with("oidc.session.store", store);
        let browser = test.signed_in().await;
        test.github.user(|user| user["name"] = json!("Mona"));
        test.app.advance(HOUR);
        let pages = join_all((0..20).map(|_| browser.fetch("/me"))).await;
        for page in pages {
            assert_eq!(page.is(Status::Ok).json::<Value>()["name"], "Mona");
        }
        assert_eq!(test.github.requests_to(GitHub::USER).len(), 2, "{store}");
    }
}

#[rocket::async_test]
async fn the_app_can_read_the_user_again() {
    let test = Test::new().await;
    let browser = test.signed_in().await;
    test.github.user(|user| user["name"] = json!("Mona"));
    test.app.advance(Duration::from_secs(11));
    assert_eq!(browser.visit("/again").await.body, "Mona");
    // Not more often than every ten seconds.
    test.github.user(|user| user["name"] = json!("Lisa"));
    assert_eq!(browser.visit("/again").await.body, "Mona");
    test.github.revoke_all();
    test.app.advance(Duration::from_secs(11));
    let body = browser.visit("/again").await.body;
    assert_eq!(body, "error: the provider ended the session at its refresh");
    assert_signed_out(&browser).await;
}

/// Without the access token, nothing can be read.
#[rocket::async_test]
async fn a_session_that_keeps_no_access_token_is_left_alone() {
    let test = Test::new().await.with("oidc.session.tokens", "refresh_token");
    let browser = test.signed_in().await;
    test.github.revoke_all();
    for _ in 0..3 {
        test.app.advance(HOUR - Duration::from_secs(1));
        browser.visit("/me").await.is(Status::Ok);
    }
    let body = browser.visit("/again").await.body;
    assert_eq!(body, "error: the session has no refresh token");
    assert_eq!(test.github.requests_to(GitHub::USER).len(), 1);
}

/// Its refresh token brings another one.
#[rocket::async_test]
async fn the_session_of_a_github_app_needs_no_kept_access_token() {
    let test = Test::new().await.with("oidc.session.tokens", "refresh_token");
    let test = test.with("oidc.session.idle_timeout", "12h");
    test.github.becomes_github_app();
    let browser = test.signed_in().await;
    test.github.user(|user| user["name"] = json!("Mona"));
    test.app.advance(HOUR * 8);
    assert_eq!(browser.visit("/me").await.json::<Value>()["name"], "Mona");
}

/// The access token of a GitHub App ends after eight hours: then nothing can be read, and nothing was revoked.
#[rocket::async_test]
async fn an_expired_access_token_alone_does_not_end_the_session() {
    let test = Test::new().await.with("oidc.session.tokens", "access_token");
    let test = test.with("oidc.session.idle_timeout", "12h");
    test.github.becomes_github_app();
    let browser = test.signed_in().await;
    test.app.advance(HOUR * 8 - Duration::from_secs(15));
    browser.visit("/me").await.is(Status::Ok);
    assert_eq!(test.github.requests_to(GitHub::USER).len(), 2);
    test.github.revoke_all();
    test.app.advance(HOUR * 3);
    browser.visit("/me").await.is(Status::Ok);
    assert_eq!(test.github.requests_to(GitHub::USER).len(), 2);
    let kind: Value = browser.visit("/kind").await.json();
    let expiry = NOW + 8 * 3600;
    assert_eq!(
        kind["access_token"],
        json!({ "Err": format!("the access token expired at {expiry} (seconds since 1970)") })
    );
}

#[rocket::async_test]
async fn the_session_of_a_github_app_is_refreshed() {
    let test = Test::new().await.with("oidc.session.idle_timeout", "12h");
    test.github.becomes_github_app();
    let browser = test.signed_in().await;
    let first: Value = browser.visit("/kind").await.json();
    assert!(first["refresh_token"].as_str().unwrap().starts_with("ghr_"), "{first}");
    test.app.advance(HOUR * 7);
    browser.visit("/kind").await.is(Status::Ok);
    assert_eq!(test.github.requests_to(GitHub::TOKEN).len(), 1);

    test.github.user(|user| user["name"] = json!("Mona"));
    test.app.advance(HOUR);
    let second: Value = browser.visit("/kind").await.is(Status::Ok).json();
    assert_ne!(second["access_token"], first["access_token"]);
    assert_ne!(second["refresh_token"], first["refresh_token"]);
    assert_eq!(second["kind"], "oauth2");
    assert_eq!(browser.visit("/me").await.json::<Value>()["name"], "Mona");
    let request = &test.github.requests_to(GitHub::TOKEN)[1];
    assert_eq!(request.form_value("refresh_token"), first["refresh_token"].as_str());
    assert_eq!(request.form_value("client_secret"), Some(GitHub::CLIENT_SECRET));
}

#[rocket::async_test]
async fn a_refused_refresh_token_ends_the_session() {
    let test = Test::new().await.with("oidc.session.idle_timeout", "12h");
    test.github.becomes_github_app();
    let browser = test.signed_in().await;
    test.github.revoke_all();
    test.app.advance(HOUR * 8);
    assert_signed_out(&browser).await;
    assert_eq!(test.github.requests_to(GitHub::TOKEN).len(), 2);
    assert_eq!(test.github.requests_to(GitHub::USER).len(), 1);
}

/// "You risk mixing user data if you do not validate the user's identity."
#[rocket::async_test]
async fn another_user_at_a_refresh_ends_the_session() {
    for is_github_app in [false, true] {
        let test = Test::new().await.with("oidc.session.idle_timeout", "12h");
        if is_github_app {
            test.github.becomes_github_app();
        }
        let browser = test.signed_in().await;
        test.github.user(|user| user["id"] = json!(2));
        test.app.advance(HOUR * 8);
        let log = Log::listen();
        assert_signed_out(&browser).await;
        log.has(
            "INFO: a session ended at its refresh: the provider's user API returned the user 2, expected \"583231\"",
        );
    }
}

/// The tokens are advanced at GitHub: they are kept, and the user is read later.
#[rocket::async_test]
async fn an_outage_of_the_api_during_a_refresh_keeps_the_new_tokens() {
    let test = Test::new().await.with("oidc.session.idle_timeout", "12h");
    test.github.becomes_github_app();
    let browser = test.signed_in().await;
    test.github.on_path(GitHub::USER, message(500, "Server Error"));
    test.app.advance(HOUR * 8);
    let kind: Value = browser.visit("/kind").await.is(Status::Ok).json();
    assert_eq!(kind["email"], "octocat@github.com");
    assert_eq!(test.github.requests_to(GitHub::TOKEN).len(), 2);
    test.github.honest(GitHub::USER);
    test.github.user(|user| user["name"] = json!("Mona"));
    test.app.advance(Duration::from_secs(60));
    browser.visit("/me").await.is(Status::Ok);
    assert_eq!(browser.visit("/me").await.json::<Value>()["name"], "Mona");
    assert_eq!(test.github.requests_to(GitHub::TOKEN).len(), 2);
}

#[rocket::async_test]
async fn sign_out_ends_the_session_here_and_deletes_the_token() {
    let test = Test::new().await.with("oidc.session.store", "memory");
    let browser = test.signed_in().await;
    assert_eq!(test.github.valid_tokens(), 1);
    let page = browser.submit("/oidc/logout?next=/kind", "").await;
    page.is(Status::SeeOther).redirects_to("/kind");
    assert_signed_out(&browser).await;
    test.github.until_requested(GitHub::DELETION, 1).await;
    assert_eq!(test.github.valid_tokens(), 0);
    let page = browser.visit("/oidc/logout").await;
    assert!(!page.body.contains("provider"), "{}", page.body);
}
