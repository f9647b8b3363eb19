//! Nonces of the provider and of APIs (RFC 9449 §8, §9).

use rocket::{http::Status, serde::json::json};

use super::*;
use crate::{records::DUE, support::Reply};

/// The nonces of the proofs that an endpoint received, in order.
fn nonces(provider: &TestProvider, path: &str) -> Vec<Option<String>> {
    let requests = provider.requests_to(path).into_iter();
    requests
        .map(|request| {
            let (_, claims) = request.proof().expect("a proof");
            claims.get("nonce").map(|nonce| nonce.as_str().unwrap().to_owned())
        })
        .collect()
}

fn demand(nonce: &str) -> Reply {
    Reply::error(400, "use_dpop_nonce", "a nonce, please").with_header("DPoP-Nonce", nonce)
}

#[rocket::async_test]
async fn a_demanded_nonce_is_sent_in_a_second_request() {
    let provider = binding_provider().await;
    provider.demand_nonce("one");
    let app = bound(&provider);
    let browser = signed_in(&app, &provider).await;
    let one = Some("one".to_owned());
    assert_eq!(nonces(&provider, TOKEN), [None, one.clone()]);
    // Of one origin: UserInfo has it at once.
    assert_eq!(nonces(&provider, USERINFO), std::slice::from_ref(&one));
    let codes = token_requests(&provider, "authorization_code");
    assert_eq!(codes[0].form_value("code"), codes[1].form_value("code"));
    let ids: Vec<_> = codes.iter().map(|it| it.proof().unwrap().1["jti"].clone()).collect();
    assert_ne!(ids[0], ids[1]);

    // Another nonce, at a refresh.
    provider.demand_nonce("two");
    app.advance(DUE);
    browser.visit("/me").await.is(Status::Ok);
    let refreshes = token_requests(&provider, "refresh_token");
    assert_eq!(refreshes.len(), 2);
    assert_eq!(nonces(&provider, TOKEN)[2..], [one, Some("two".to_owned())]);
}

/// The second request has an assertion of its own too: a provider accepts each once.
#[rocket::async_test]
async fn the_second_request_has_another_client_assertion() {
    let provider = binding_provider().await;
    provider.demand_nonce("one");
    let key = aws_lc_rs::signature::Ed25519KeyPair::generate().unwrap();
    let pkcs8 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, key.to_pkcs8v1().unwrap());
    let file = tempfile::NamedTempFile::new().unwrap();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{pkcs8}\n-----END PRIVATE KEY-----\n");
    std::fs::write(file.path(), pem).unwrap();
    let app = App::public(&provider)
        .with("oidc.private_key_file", file.path())
        .with("oidc.dpop", "required");
    signed_in(&app, &provider).await;
    let requests = provider.requests_to(TOKEN);
    let assertion = |i: usize| requests[i].form_value("client_assertion").unwrap().to_owned();
    assert_eq!(requests.len(), 2);
    assert_ne!(assertion(0), assertion(1));
}

#[rocket::async_test]
async fn a_nonce_of_a_successful_response_is_used_next() {
    let provider = binding_provider().await;
    provider.on_token_response(|reply| reply.set_header("DPoP-Nonce", "next"));
    let app = bound(&provider);
    let browser = signed_in(&app, &provider).await;
    app.advance(DUE);
    browser.visit("/me").await.is(Status::Ok);
    assert_eq!(nonces(&provider, TOKEN), [None, Some("next".to_owned())]);
}

#[rocket::async_test]
async fn a_provider_that_always_demands_a_nonce_is_asked_twice() {
    let provider = binding_provider().await;
    let app = bound(&provider);
    let browser = signed_in(&app, &provider).await;

    provider.on_path(TOKEN, demand("again"));
    app.advance(DUE);
    // The session stays: the refresh is tried again later.
    browser.visit("/me").await.is(Status::Ok);
    assert_eq!(token_requests(&provider, "refresh_token").len(), 2);

    let other = app.open().await;
    let callback = other.begin_sign_in(&provider, "/me").await;
    let page = other.arrive_from_provider(&callback.path_and_query()).await;
    page.is(Status::BadGateway);
    assert_eq!(token_requests(&provider, "authorization_code").len(), 3);
    let failure = app.failures().pop().unwrap();
    assert!(
        failure.contains("rejected the request with `use_dpop_nonce`"),
        "{failure}"
    );
}

#[rocket::async_test]
async fn a_pushed_request_is_sent_twice_at_most() {
    let provider = binding_provider().await;
    let endpoint = format!("{}/par", provider.issuer());
    provider.metadata(|metadata| {
        metadata.insert("pushed_authorization_request_endpoint".into(), endpoint.into());
    });
    provider.on_path("/par", demand("again"));
    let app = bound(&provider).with("oidc.pushed_authorization_requests", true);
    let page = app.open().await.visit("/oidc/login").await;
    page.is(Status::BadGateway);
    assert_eq!(nonces(&provider, "/par"), [None, Some("again".to_owned())]);
}

#[rocket::async_test]
async fn user_info_demands_a_nonce() {
    let provider = binding_provider().await;
    let app = bound(&provider);
    // The token endpoint wants none; the nonce is demanded once the tokens are issued.
    let op = provider.clone();
    provider.on_token_response(move |_| op.demand_nonce("of UserInfo".replace(' ', "-").as_str()));
    signed_in(&app, &provider).await;
    assert_eq!(nonces(&provider, USERINFO), [None, Some("of-UserInfo".to_owned())]);

    let always = Reply::status(401)
        .with_header("WWW-Authenticate", "DPoP error=\"use_dpop_nonce\"")
        .with_header("DPoP-Nonce", "again");
    provider.on_path(USERINFO, always);
    let other = Browser::open(rocket(&app, &provider)).await;
    let callback = other.begin_sign_in(&provider, "/me").await;
    other
        .arrive_from_provider(&callback.path_and_query())
        .await
        .is(Status::BadGateway);
    assert_eq!(provider.count(USERINFO), 4);
}

/// The demand, and nothing that is a nonce: the same request would fail again.
#[rocket::async_test]
async fn what_is_not_a_nonce_causes_no_second_request() {
    let long = "n".repeat(10_000);
    for nonce in ["", "a b", "a\"b", "n\\", "\u{e9}", long.as_str()] {
        let provider = binding_provider().await;
        let app = bound(&provider);
        let browser = Browser::open(rocket(&app, &provider)).await;
        let callback = browser.begin_sign_in(&provider, "/me").await;
        provider.on_path(TOKEN, demand(nonce));
        browser
            .arrive_from_provider(&callback.path_and_query())
            .await
            .is(Status::BadGateway);
        assert_eq!(provider.count(TOKEN), 1, "{}", nonce.len());
    }
    // Nor does a nonce without the demand.
    let provider = binding_provider().await;
    let browser = Browser::open(rocket(&bound(&provider), &provider)).await;
    let callback = browser.begin_sign_in(&provider, "/me").await;
    provider.on_path(
        TOKEN,
        Reply::error(400, "invalid_grant", "").with_header("DPoP-Nonce", "good"),
    );
    browser.arrive_from_provider(&callback.path_and_query()).await;
    assert_eq!(provider.count(TOKEN), 1);
}

#[rocket::async_test]
async fn a_nonce_is_sent_to_its_origin_alone() {
    let (provider, other) = (binding_provider().await, TestProvider::start().await);
    let user_info = format!("{}/userinfo", other.issuer());
    provider.metadata(|metadata| {
        metadata.insert("userinfo_endpoint".into(), user_info.into());
    });
    other.on_path(USERINFO, Reply::json(json!({ "sub": "alice" })));
    provider.demand_nonce("of-the-token-endpoint");
    let browser = Browser::open(rocket(&bound(&provider), &provider)).await;
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    assert_eq!(nonces(&provider, TOKEN).len(), 2);
    assert_eq!(nonces(&other, USERINFO), [None]);
}
