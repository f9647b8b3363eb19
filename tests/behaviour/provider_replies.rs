//! Replies of the token endpoint that are careless, and what becomes of a sign-in or a refresh.

use std::time::Duration;

use rocket::{futures::future::join_all, http::Status};
use serde_json::{Value, json};

use crate::{
    common::{App, Log, NOW, opened_session, signed_in},
    support::{Browser, JwtParts, Page, Reply, SigningKey, TestProvider},
};

const TOKEN: &str = "/token";
const JWKS: &str = "/jwks";
/// A token of 300 s is refreshed by then.
const DUE: Duration = Duration::from_secs(285);

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
        let before = opened_session(&browser, &provider);
        provider.on_refresh_response(move |reply| reply.set(member, value.clone()));
        app.advance(DUE);
        browser.visit("/me").await.is(Status::Ok);
        assert_eq!(provider.count(TOKEN), 2, "{member}");
        let after = opened_session(&browser, &provider);
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
    browser.sign_in(&provider, "/me").await.is(Status::BadGateway);
    assert_eq!(app.failures(), ["the token response has no `id_token`"]);
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
            "the provider's token endpoint rejected the request with `bad_client_secret`: ",
        ),
        (
            json!({"error": "bad_verification_code", "error_description": "The code is incorrect or expired."}),
            400,
            "the provider's token endpoint rejected the request with `bad_verification_code`: The code is incorrect or expired.",
        ),
        (
            json!({"access_token": "", "error": "invalid_grant", "error_description": null}),
            400,
            "the provider's token endpoint rejected the request with `invalid_grant`: ",
        ),
        // No error is named.
        (
            json!({"ok": false, "error": ""}),
            502,
            "the provider's token endpoint sent an invalid response: `access_token` is missing",
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

/// Who authenticates again at the provider meanwhile stays signed in.
#[rocket::async_test]
async fn a_newer_auth_time_of_a_refresh_is_kept_and_logged() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    provider.on_id_token(|token| token.set("auth_time", NOW - 100));
    let browser = signed_in(&app, &provider).await;
    provider.on_id_token(|token| token.set("auth_time", NOW + 200));
    app.advance(DUE);
    let log = Log::listen();
    let me: Value = browser.visit("/me").await.is(Status::Ok).json();
    assert_eq!(me["auth_time"], json!(NOW + 200));
    log.has(&format!(
        "INFO: the user authenticated at the provider again: `auth_time` was {} and is {} after a refresh",
        NOW - 100,
        NOW + 200
    ));
    // An older one is another authentication.
    provider.on_id_token(|token| token.set("auth_time", NOW + 199));
    app.advance(DUE);
    browser.fetch("/me").await.is(Status::Unauthorized);
}

// ---- Keys.

/// What anybody can send: a logout token that names a key which nobody knows.
async fn send_unknown_key(browser: &Browser, provider: &TestProvider) -> Page {
    let token = provider.logout_token(|token| token.set_header("kid", "made-up"));
    browser.post_logout_token(&token).await
}

/// The provider has a new key of this name and no other, and signs ID tokens with it.
fn new_key(provider: &TestProvider, kid: &'static str) {
    provider.on_jwks(move |reply| {
        let mut jwk = SigningKey::Rsa.jwk();
        jwk["kid"] = json!(kid);
        reply.set("keys", json!([jwk]));
    });
    provider.on_id_token(move |token| token.set_header("kid", kid));
}

#[rocket::async_test]
async fn a_stranger_does_not_keep_a_sign_in_from_a_new_key() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = signed_in(&app, &provider).await;
    for count in [2, 2] {
        let page = send_unknown_key(&browser, &provider).await;
        page.is(Status::BadRequest);
        assert_eq!(provider.count(JWKS), count);
    }
    app.advance(Duration::from_secs(5));
    provider.rotate_rsa_key();
    let another = browser.another();
    another.sign_in(&provider, "/me").await.is(Status::Ok);
    assert_eq!(provider.count(JWKS), 3);
    // Nor does the sign-in keep others from it, once their time has come.
    app.advance(Duration::from_secs(25));
    send_unknown_key(&browser, &provider).await.is(Status::BadRequest);
    assert_eq!(provider.count(JWKS), 4);
}

#[rocket::async_test]
async fn a_stranger_does_not_keep_a_refresh_from_a_new_key() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = signed_in(&app, &provider).await;
    let before = opened_session(&browser, &provider);
    app.advance(DUE);
    send_unknown_key(&browser, &provider).await.is(Status::BadRequest);
    assert_eq!(provider.count(JWKS), 2);
    provider.rotate_rsa_key();
    browser.visit("/me").await.is(Status::Ok);
    assert_eq!((provider.count(TOKEN), provider.count(JWKS)), (2, 3));
    let after = opened_session(&browser, &provider);
    assert_ne!(after["refresh_token"], before["refresh_token"]);
}

/// While the provider has no keys, what a stranger sends does not delay a sign-in that has begun.
#[rocket::async_test]
async fn a_stranger_puts_no_sign_in_into_back_off() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with("oidc.sign_in_timeout", 3 * 24 * 60 * 60);
    let browser = app.open().await;
    let callback = browser.begin_sign_in(&provider, "/me").await;
    // The keys that were read before the person was sent away are too old by now.
    app.advance(Duration::from_secs(24 * 60 * 60));
    provider.on_path(JWKS, Reply::status(500));
    let mut statuses = vec![];
    for _ in 0..3 {
        statuses.push(send_unknown_key(&browser, &provider).await.status);
    }
    assert_eq!(provider.count(JWKS), 2, "{statuses:?}");
    provider.clear_path(JWKS);
    let path = callback.path_and_query();
    browser.arrive_from_provider(&path).await.redirects_to("/me");
    assert_eq!(provider.count(JWKS), 3);
}

/// Its own failures do.
#[rocket::async_test]
async fn a_sign_in_that_found_no_keys_delays_the_next() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = app.open().await;
    provider.on_path(JWKS, Reply::status(500));
    for (status, count) in [(503, 1), (503, 1)] {
        let page = browser.sign_in(&provider, "/me").await;
        assert_eq!((page.status, provider.count(JWKS)), (status, count));
    }
    provider.clear_path(JWKS);
    app.advance(Duration::from_secs(1));
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
}

/// A provider makes a key when an algorithm is first asked for, and several within seconds.
#[rocket::async_test]
async fn several_new_keys_within_seconds() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = app.open().await;
    for kid in ["a", "b", "c", "d", "e"] {
        new_key(&provider, kid);
        browser.another().sign_in(&provider, "/me").await.is(Status::Ok);
        app.advance(Duration::from_secs(1));
    }
    assert_eq!(provider.count(JWKS), 5);
}

#[rocket::async_test]
async fn one_fetch_of_a_new_key_for_all_sign_ins() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = signed_in(&app, &provider).await;
    provider.rotate_rsa_key();
    let browsers: Vec<_> = (0..10).map(|_| browser.another()).collect();
    let mut callbacks = vec![];
    for browser in &browsers {
        callbacks.push(browser.begin_sign_in(&provider, "/me").await.path_and_query());
    }
    let held = provider.hold(JWKS);
    let arrivals = join_all(
        browsers
            .iter()
            .zip(&callbacks)
            .map(|(browser, path)| browser.arrive_from_provider(path)),
    );
    let release = async {
        provider.until_requested(JWKS, 2).await;
        held.release();
    };
    let (pages, ()) = rocket::futures::future::join(arrivals, release).await;
    for page in pages {
        page.redirects_to("/me");
    }
    assert_eq!(provider.count(JWKS), 2);
}

/// A provider that names keys which it does not publish is asked for them a few times a minute.
#[rocket::async_test]
async fn looks_for_the_keys_of_replies_are_few() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = signed_in(&app, &provider).await;
    provider.on_id_token(|token: &mut JwtParts| token.set_header("kid", "missing"));
    let refused = "the ID token is rejected: the provider's key set has no usable key \"missing\"";
    let later = "the provider's key set was fetched recently; the next attempt is due in 10 s";
    for count in 2..=7 {
        let page = browser.another().sign_in(&provider, "/me").await;
        assert_eq!((page.status, provider.count(JWKS)), (502, count));
    }
    // It is not known now whether there is such a key.
    for _ in 0..3 {
        let page = browser.another().sign_in(&provider, "/me").await;
        assert_eq!((page.status, page.header("Retry-After")), (503, Some("10")));
        assert_eq!(provider.count(JWKS), 7);
    }
    let failures = app.failures();
    assert_eq!(failures[..6], [refused; 6]);
    assert_eq!(failures[6..], [later; 3]);
    // Strangers have a look of their own, and a known key needs none.
    send_unknown_key(&browser, &provider).await.is(Status::BadRequest);
    assert_eq!(provider.count(JWKS), 8);
    provider.on_id_token(|_| ());
    browser.another().sign_in(&provider, "/me").await.is(Status::Ok);

    app.advance(Duration::from_secs(10));
    provider.on_id_token(|token: &mut JwtParts| token.set_header("kid", "missing"));
    for (status, count) in [(502, 9), (503, 9)] {
        let page = browser.another().sign_in(&provider, "/me").await;
        assert_eq!((page.status, provider.count(JWKS)), (status, count));
    }
}

/// Whether the key exists is not known while the keys are down: that is no verdict on the token.
#[rocket::async_test]
async fn a_new_key_while_the_keys_are_down() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = signed_in(&app, &provider).await;
    provider.rotate_rsa_key();
    provider.on_path(JWKS, Reply::status(503));
    let page = browser.another().sign_in(&provider, "/me").await;
    page.is(Status::ServiceUnavailable);
    assert_eq!(app.failures(), ["the provider's key set responded with status 503"]);
    app.advance(DUE);
    browser.visit("/me").await.is(Status::Ok);
}
