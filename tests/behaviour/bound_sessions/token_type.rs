//! What the provider says its tokens are bound to.

use rocket::{http::Status, serde::json::json};

use super::*;
use crate::{common::Log, records::DUE, support::Reply};

/// A sign-in with this change of the token response: the status, and why it failed.
async fn sign_in(app: App, provider: &TestProvider) -> (u16, String) {
    let browser = app.open().await;
    let callback = browser.begin_sign_in(provider, "/me").await;
    let page = browser.arrive_from_provider(&callback.path_and_query()).await;
    (page.status, app.failures().pop().unwrap_or_default())
}

#[rocket::async_test]
async fn a_bearer_token_is_refused_where_bound_ones_are_required() {
    for kind in ["Bearer", "bearer", "BEARER"] {
        let provider = binding_provider().await;
        provider.on_token_response(move |reply| reply.set("token_type", kind));
        let log = Log::listen();
        let (status, failure) = sign_in(bound(&provider), &provider).await;
        let expected = "the provider sent an access token of the type `Bearer`, which is not bound to the app's key";
        assert_eq!((status, &*failure), (502, expected));
        let lines = log.all_lines().join("\n");
        assert!(lines.contains("`dpop_bound_access_tokens`"), "{lines}");
        // Nothing was asked with it, and it is given back.
        assert_eq!(provider.count(USERINFO), 0);
        provider.until_requested("/revoke", 2).await;
    }
}

#[rocket::async_test]
async fn auto_accepts_a_bearer_token() {
    let provider = binding_provider().await;
    provider.on_token_response(|reply| reply.set("token_type", "Bearer"));
    provider.on_path(USERINFO, Reply::json(json!({ "sub": "alice" })));
    let browser = signed_in(&App::new(&provider).with("oidc.dpop", "auto"), &provider).await;
    assert_eq!(fetch(&browser, "/is-bound").await, "false");
    let user_info = provider.last_request(USERINFO);
    assert!(user_info.bearer().is_some());
    assert_eq!(user_info.header("dpop"), None);
}

#[rocket::async_test]
async fn token_type_is_in_any_letter_case() {
    for kind in ["DPoP", "dpop", "DPOP"] {
        let provider = binding_provider().await;
        provider.on_token_response(move |reply| {
            reply.set("token_type", kind);
            reply.remove("expires_in");
        });
        let browser = signed_in(&bound(&provider), &provider).await;
        assert_eq!(fetch(&browser, "/is-bound").await, "true");
    }
}

#[rocket::async_test]
async fn a_token_of_another_key_is_refused() {
    let other = json!({ "jkt": "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs" });
    for (cnf, cause) in [
        (other, "that is bound to another key"),
        (json!(null), "without `cnf.jkt`"),
        (json!({ "x5t#S256": "x" }), "without `cnf.jkt`"),
    ] {
        for dpop in ["auto", "required"] {
            let provider = binding_provider().await;
            let token = jwt(&cnf);
            provider.on_id_token(|token| drop(token.claims.remove("at_hash")));
            provider.on_token_response(move |reply| reply.set("access_token", token.as_str()));
            let app = App::new(&provider).with("oidc.dpop", dpop);
            let (status, failure) = sign_in(app, &provider).await;
            let expected = format!("the provider sent an access token of the type `DPoP` {cause}");
            assert_eq!((status, failure), (502, expected));
        }
    }
    // The accepted case: its own key.
    let provider = binding_provider().await;
    let op = provider.clone();
    provider.on_id_token(|token| drop(token.claims.remove("at_hash")));
    provider.on_path(USERINFO, Reply::json(json!({ "sub": "alice" })));
    provider.on_token_response(move |reply| {
        let key = op.last_request(TOKEN).proved_key();
        reply.set("access_token", jwt(&json!({ "jkt": key })));
    });
    signed_in(&bound(&provider), &provider).await;
}

#[rocket::async_test]
async fn a_bound_token_that_was_not_asked_for_is_refused() {
    let provider = binding_provider().await;
    provider.on_token_response(|reply| reply.set("token_type", "DPoP"));
    let (status, failure) = sign_in(App::new(&provider), &provider).await;
    let expected = "the provider's token endpoint sent an invalid response: `token_type` is `DPoP`, expected `Bearer`";
    assert_eq!((status, &*failure), (502, expected));
}

#[rocket::async_test]
async fn another_type_is_refused() {
    let provider = binding_provider().await;
    provider.on_token_response(|reply| reply.set("token_type", "mac"));
    let (status, failure) = sign_in(bound(&provider), &provider).await;
    let expected = "the provider's token endpoint sent an invalid response: `token_type` is `mac`, expected `DPoP`";
    assert_eq!((status, &*failure), (502, expected));
}

/// With `auto` too: what was bound once stays so. The new refresh token is not lost.
#[rocket::async_test]
async fn a_bound_session_accepts_no_unbound_refresh() {
    for (dpop, store) in [("required", "cookie"), ("auto", "memory")] {
        let provider = binding_provider().await;
        let app = App::new(&provider)
            .with("oidc.dpop", dpop)
            .with("oidc.session.store", store);
        let browser = signed_in(&app, &provider).await;
        let before = provider.last_request(USERINFO).dpop_token().unwrap().to_owned();
        let log = Log::listen();
        provider.on_refresh_response(|reply| reply.set("token_type", "Bearer"));
        app.advance(DUE);
        browser.visit("/me").await.is(Status::Ok);
        let lines = log.lines().join("\n");
        assert!(
            lines.contains("the access token of a refresh is refused: the provider sent"),
            "{lines}"
        );
        let record = browser.fetch("/record").await.json::<Value>();
        assert_ne!(
            record["access_token"],
            json!(before),
            "neither the old nor the unbound one"
        );
        assert!(record["access_token"]["error"].is_string(), "{record}");
        assert_eq!(fetch(&browser, "/is-bound").await, "true");

        // The provider is right again: its newest refresh token is sent, with the same key.
        provider.be_honest();
        provider.bind_tokens(&["ES256"]);
        app.advance(std::time::Duration::from_secs(900));
        browser.visit("/me").await.is(Status::Ok);
        let sent = token_requests(&provider, "refresh_token");
        let tokens: std::collections::HashSet<_> = sent.iter().map(|it| it.form_value("refresh_token")).collect();
        assert_eq!(tokens.len(), sent.len(), "no refresh token is sent twice");
        let record = browser.fetch("/record").await.json::<Value>();
        assert!(record["access_token"].is_string(), "{record}");
    }
}
