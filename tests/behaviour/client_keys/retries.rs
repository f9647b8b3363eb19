//! An assertion is for one request: its `jti` is not used twice, also in a retry (RFC 7523 §3).

use std::collections::BTreeSet;

use rocket::{
    get,
    http::Status,
    routes,
    serde::json::{Value, json},
};
use rocket_openidconnect::{Bearer, LoggedIn};

use super::{Key, claims, file};
use crate::{
    common::App,
    support::{Browser, Reply, TestProvider},
};

#[get("/me")]
fn me(user: LoggedIn) -> String {
    user.subject().to_owned()
}

#[get("/api")]
fn api(token: Bearer) -> String {
    token.subject().unwrap_or_default().to_owned()
}

#[rocket::async_test]
async fn each_request_to_each_endpoint_has_an_assertion_of_its_own() {
    let (provider, key) = (TestProvider::start().await, Key::new("mine"));
    let file = file(&[key.private()]);
    let endpoint = format!("{}/par", provider.issuer());
    provider.metadata(|metadata| {
        metadata.insert("pushed_authorization_request_endpoint".into(), endpoint.into());
    });
    let pushed = json!({ "request_uri": "urn:example:pushed", "expires_in": 60 });
    provider.on_path("/par", Reply::json(pushed).with_status(201));
    let issuer = provider.issuer();
    provider.on_introspection(move |reply| {
        *reply = Reply::json(json!({ "active": false, "iss": issuer }));
    });
    let app = App::public(&provider).with("oidc.private_key_file", file.path());
    let rocket = app.rocket_of_api(routes![me, api]);
    let browser = Browser::signed_in(rocket, &provider).await;
    // Twice each. What is not active is not cached for ever, but each token is asked about once.
    for token in ["opaque-1", "opaque-2"] {
        let authorization = format!("Bearer {token}");
        let page = browser.visit_with("/api", &[("Authorization", &authorization)]).await;
        page.is(Status::Unauthorized);
    }
    browser.submit("/oidc/logout", "").await;
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    browser.submit("/oidc/logout", "").await;
    provider.until_requested("/revoke", 2).await;

    let pushing = App::public(&provider)
        .with("oidc.private_key_file", file.path())
        .with("oidc.pushed_authorization_requests", true);
    let pushing = pushing.open().await;
    for _ in 0..2 {
        pushing.visit("/oidc/login?next=/me").await;
    }

    let mut used = BTreeSet::new();
    let mut count = 0;
    for path in ["/token", "/introspect", "/revoke", "/par"] {
        let requests = provider.requests_to(path);
        assert!(requests.len() >= 2, "{path}: {}", requests.len());
        for request in requests {
            let claims: Value = claims(&request, &key);
            used.insert(claims["jti"].as_str().unwrap().to_owned());
            count += 1;
        }
    }
    assert_eq!(used.len(), count);
}

/// The one request that is sent again: the token endpoint has moved.
#[rocket::async_test]
async fn a_retry_has_a_new_assertion() {
    let (provider, key) = (TestProvider::start().await, Key::new("mine"));
    let file = file(&[key.private()]);
    let app = App::public(&provider).with("oidc.private_key_file", file.path());
    let browser = app.open().await;
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    provider.on_path("/token", Reply::status(404));
    provider.on_path("/token2", Reply::error(400, "invalid_scope", "asked here"));
    let moved = format!("{}/token2", provider.issuer());
    provider.metadata(|metadata| drop(metadata.insert("token_endpoint".into(), moved.into())));
    browser.forget_cookies();
    browser.sign_in(&provider, "/me").await.is(Status::BadGateway);
    let first = claims(&provider.last_request("/token"), &key);
    let second = claims(&provider.last_request("/token2"), &key);
    assert_ne!(first["jti"], second["jti"]);
    assert_eq!(first["iss"], second["iss"]);
}
