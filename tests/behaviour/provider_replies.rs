//! Replies of the token endpoint that are careless, and what becomes of a sign-in or a refresh.

use std::time::Duration;

use rocket::http::Status;
use serde_json::{Value, json};

use crate::{
    common::{App, opened_cookie},
    support::{Browser, Reply, TestProvider},
};

const TOKEN: &str = "/token";
/// A token of 300 s is refreshed by then.
const DUE: Duration = Duration::from_secs(285);

async fn signed_in(app: &App, provider: &TestProvider) -> Browser {
    let browser = app.open().await;
    browser.sign_in(provider, "/me").await.is(Status::Ok);
    browser
}

/// The tokens of the session as the browser holds them.
async fn tokens(browser: &Browser) -> Value {
    let text = opened_cookie(browser, "oidc_tokens").await;
    serde_json::from_str(text.splitn(4, ':').nth(3).unwrap()).unwrap()
}

/// An empty token, or `null`, is none: it does not replace the one that there is.
#[rocket::async_test]
async fn an_empty_token_of_a_refresh_is_absent() {
    for (member, value) in [
        ("id_token", json!("")),
        ("id_token", Value::Null),
        ("refresh_token", json!("")),
        ("refresh_token", Value::Null),
    ] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider);
        let browser = signed_in(&app, &provider).await;
        let before = tokens(&browser).await;
        provider.on_refresh_response(move |reply| reply.set(member, value.clone()));
        app.advance(DUE);
        browser.visit("/me").await.is(Status::Ok);
        assert_eq!(provider.count(TOKEN), 2, "{member}");
        let after = tokens(&browser).await;
        assert_eq!(after[member], before[member], "{member}");
        assert_ne!(after["access_token"], before["access_token"], "{member}");
    }
}

#[rocket::async_test]
async fn an_empty_id_token_of_a_sign_in_is_missing() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = app.open().await;
    provider.on_token_response(|reply| reply.set("id_token", ""));
    browser
        .sign_in(&provider, "/me")
        .await
        .is(Status::BadGateway);
    assert_eq!(app.failures(), ["the token reply has no `id_token`"]);
}

#[rocket::async_test]
async fn an_empty_refresh_token_of_a_sign_in_is_absent() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    provider.on_token_response(|reply| reply.set("refresh_token", ""));
    let browser = signed_in(&app, &provider).await;
    app.advance(DUE);
    browser.visit("/me").await.is(Status::Ok);
    assert_eq!(provider.count(TOKEN), 1, "there is nothing to refresh with");
}

/// Some providers refuse with status 200.
#[rocket::async_test]
async fn an_error_of_status_200_is_shown() {
    for (reply, status, error) in [
        (
            json!({"ok": false, "error": "bad_client_secret"}),
            502,
            "the provider's token endpoint refused with `bad_client_secret`: ",
        ),
        (
            json!({"error": "bad_verification_code", "error_description": "The code is incorrect or expired."}),
            502,
            "the provider's token endpoint refused with `bad_verification_code`: The code is incorrect or expired.",
        ),
        (
            json!({"access_token": "", "error": "invalid_grant", "error_description": null}),
            400,
            "the provider's token endpoint refused with `invalid_grant`: ",
        ),
        // No error is named.
        (
            json!({"ok": false, "error": ""}),
            502,
            "the provider's token endpoint gave an unusable answer: `access_token` is missing",
        ),
    ] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider);
        let browser = app.open().await;
        provider.on_path(TOKEN, Reply::json(reply));
        let page = browser.sign_in(&provider, "/me").await;
        assert_eq!(page.status, status, "{error}");
        assert_eq!(app.failures(), [error]);
    }
}

/// Tokens are tokens, whatever else the reply says.
#[rocket::async_test]
async fn an_error_beside_tokens_is_no_error() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    provider.on_token_response(|reply| {
        reply.set("error", "none");
        reply.set("ok", true);
    });
    signed_in(&app, &provider).await;
}

/// The address of one source was not verified by the other.
#[rocket::async_test]
async fn an_email_and_whether_it_is_verified_are_of_one_source() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    provider.on_id_token(|token| {
        token.set("email", "mine@example.com");
        token.set("email_verified", true);
        token.set("phone_number", "+1");
        token.set("phone_number_verified", true);
    });
    provider.on_user_info(|reply| {
        reply.set("email", "boss@example.com");
        reply.remove("email_verified");
        reply.set("phone_number", Value::Null);
        reply.set("phone_number_verified", false);
        reply.set("name", Value::Null);
    });
    let browser = signed_in(&app, &provider).await;
    let me: Value = browser.visit("/me").await.json();
    assert_eq!(me["email"], "boss@example.com");
    assert_eq!(me["email_verified"], Value::Null);
    assert_eq!(me["phone_number"], "+1");
    assert_eq!(me["phone_number_verified"], true);
}
