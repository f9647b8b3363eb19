//! A provider that is like LinkedIn: no `nonce` in its ID tokens, and no PKCE.

use rocket::http::Status;

use crate::{
    common::{App, Log},
    support::TestProvider,
};

async fn linkedin() -> TestProvider {
    let provider = TestProvider::start().await;
    provider.refuse_pkce();
    provider.on_id_token(|token| token.remove("nonce"));
    // Its metadata does not list how clients authenticate.
    provider.metadata(|metadata| {
        for member in [
            "token_endpoint_auth_methods_supported",
            "end_session_endpoint",
            "revocation_endpoint",
        ] {
            metadata.remove(member);
        }
    });
    provider
}

/// The issuer of the tests is another than the preset's, which therefore relaxes nothing by itself.
fn app(provider: &TestProvider) -> App {
    App::new(provider)
        .with("oidc.provider", "linkedin")
        .with("oidc.insecure_accept_missing_nonce", true)
        .with("oidc.insecure_omit_pkce", true)
}

#[rocket::async_test]
async fn a_user_signs_in_without_nonce_and_pkce() {
    let provider = linkedin().await;
    let log = Log::listen();
    let app = app(&provider);
    let browser = app.open().await;
    log.has("WARN: `insecure_accept_missing_nonce`: an ID token without `nonce` may belong to another sign-in");
    log.has(
        "WARN: `insecure_omit_pkce`: without PKCE, whoever obtains an unused authorization code can sign in here with it",
    );
    browser.sign_in(&provider, "/me").await.is(Status::Ok).sees("alice");
    assert_eq!(app.failures(), [""; 0]);
    let request = provider.last_request("/token");
    assert_eq!(request.basic(), None);
    assert_eq!(request.form_value("client_id"), Some("app"));
    assert_eq!(request.form_value("client_secret"), Some("hush"));
    assert_eq!(request.form_value("code_verifier"), None);
    // The request has a `nonce` all the same, and `state` binds the response to this browser.
    let callback = browser.another().begin_sign_in(&provider, "/me").await;
    let page = browser.arrive_from_provider(&callback.path_and_query()).await;
    page.redirects_to("/me");
    assert_eq!(provider.count("/token"), 1);
}

#[rocket::async_test]
async fn pkce_is_sent_unless_the_settings_omit_it() {
    let provider = linkedin().await;
    let app = app(&provider).with("oidc.insecure_omit_pkce", false);
    let browser = app.open().await;
    let page = browser.visit("/oidc/login").await;
    let location = page.location.clone().unwrap();
    assert!(location.contains("code_challenge_method=S256"), "{location}");
}

/// A `nonce` that is there protects a code, with and without PKCE.
#[rocket::async_test]
async fn the_id_token_of_another_sign_in() {
    let provider = linkedin().await;
    let app = app(&provider);
    let browser = app.open().await;
    provider.on_id_token(|token| token.set("nonce", "of another sign-in"));
    browser.sign_in(&provider, "/me").await.is(Status::BadGateway);
    assert_eq!(
        app.failures(),
        ["the ID token is rejected: the nonce of the ID token is not the one that was sent"]
    );
}
