//! The relying-party modules of the OpenID Foundation's config profile, each under its name without
//! `oidcc-client-test-`.

use std::time::Duration;

use rocket::local::asynchronous::Client;
use serde_json::json;

use super::{Launched, accepted, assert_refusal_page, is_accepted, launch, refused};
use crate::common::{App, Log};
use crate::support::{Reply, SigningKey, TestProvider};

/// The endpoints are where the metadata says.
#[rocket::async_test]
async fn discovery_openid_config() {
    let (provider, ..) = accepted(|provider| {
        let elsewhere = format!("{}/elsewhere?tenant=7", provider.issuer());
        provider.metadata(|metadata| {
            metadata.insert("authorization_endpoint".to_owned(), json!(elsewhere));
        });
    })
    .await;
    assert_eq!(provider.count(TestProvider::DISCOVERY), 1);
    assert_eq!(provider.count("/authorize"), 0);
    let request = provider.last_request("/elsewhere");
    assert_eq!(request.query_value("tenant"), Some("7"));
}

/// The keys are where the metadata says.
#[rocket::async_test]
async fn discovery_jwks_uri_keys() {
    let (provider, ..) = accepted(|provider| {
        let elsewhere = format!("{}/keys", provider.issuer());
        provider.metadata(|metadata| {
            metadata.insert("jwks_uri".to_owned(), json!(elsewhere));
        });
        let keys = json!({"keys": [SigningKey::Rsa.jwk()]});
        provider.on_path("/keys", Reply::json(keys));
    })
    .await;
    assert_eq!((provider.count("/keys"), provider.count("/jwks")), (1, 0));
}

#[rocket::async_test]
async fn discovery_issuer_mismatch() {
    let provider = TestProvider::start().await;
    let issuer = provider.issuer();
    let other = format!("{issuer}/");
    provider.metadata(|metadata| {
        metadata.insert("issuer".to_owned(), json!(other));
    });
    let log = Log::listen();
    let rocket = App::client(&provider).rocket();
    let error = Client::untracked(rocket).await.expect_err("no launch");
    assert!(matches!(error.kind(), rocket::error::ErrorKind::FailedFairings(_)));
    log.has(&format!(
        "ERROR: the metadata's issuer is `{other}`, expected `{issuer}`"
    ));
}

/// The metadata may announce it: it is refused all the same.
#[rocket::async_test]
async fn idtoken_sig_none() {
    refused(
        |provider| {
            provider.metadata(|metadata| {
                let both = json!(["RS256", "none"]);
                metadata.insert("id_token_signing_alg_values_supported".to_owned(), both);
            });
            provider.on_id_token(|token| token.sign_with(SigningKey::None));
        },
        502,
        "the ID token is rejected: the token is signed with \"none\", which is never accepted",
    )
    .await;
}

/// Keys are read before anybody is sent to the provider, and once more for the new one.
#[rocket::async_test]
async fn signing_key_rotation_just_before_signing() {
    let provider = TestProvider::start().await;
    let app = launch(&provider, json!({})).await;
    let callback = app.browser.begin_sign_in(&provider, "/me").await;
    provider.rotate_rsa_key();
    let page = app.browser.arrive_from_provider(&callback.path_and_query()).await;
    let page = app.browser.follow(&provider, page).await;
    is_accepted(&app, &page).await;
    assert_eq!(provider.count("/jwks"), 2);
}

/// An app that has read the old key, which the provider then replaced.
async fn after_rotation(passed: u64) -> (TestProvider, Launched) {
    let provider = TestProvider::start().await;
    let app = launch(&provider, json!({})).await;
    app.browser.another().sign_in(&provider, "/me").await;
    provider.rotate_rsa_key();
    app.advance(Duration::from_secs(passed));
    (provider, app)
}

#[rocket::async_test]
async fn signing_key_rotation() {
    let (provider, app) = after_rotation(30).await;
    let page = app.browser.sign_in(&provider, "/me").await;
    is_accepted(&app, &page).await;
    assert_eq!(provider.count("/jwks"), 2);
}

/// The keys were read a moment ago, and a look for one that they lack is due all the same.
#[rocket::async_test]
async fn signing_key_rotation_right_after_keys_were_read() {
    let (provider, app) = after_rotation(1).await;
    let page = app.browser.sign_in(&provider, "/me").await;
    is_accepted(&app, &page).await;
    assert_eq!(provider.count("/jwks"), 2);
}

/// Unknown keys of sign-ins cost the provider a few requests a minute.
#[rocket::async_test]
async fn an_unknown_key_is_looked_for_a_few_times_a_minute() {
    let provider = TestProvider::start().await;
    provider.on_id_token(|token| token.set_header("kid", "rsa-9"));
    let app = launch(&provider, json!({})).await;
    // Six at once, and one more every ten seconds.
    let burst = (2..=7).map(|looks| (0, looks, 502));
    let later = [(0, 7, 503), (9, 7, 503), (1, 8, 502), (0, 8, 503)];
    for (step, looks, status) in burst.chain(later) {
        app.advance(Duration::from_secs(step));
        let page = app.browser.sign_in(&provider, "/me").await;
        assert_refusal_page(&page, status);
        assert_eq!(provider.count("/jwks"), looks, "after {step} s more");
    }
}
