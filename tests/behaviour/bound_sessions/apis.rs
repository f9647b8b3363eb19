//! Calls of APIs with bound tokens.

use std::time::Duration;

use rocket::http::Status;

use super::*;
use crate::support::{Misbehaviour, Reply};

const CLIENT_CREDENTIALS: &str = "client_credentials";

fn accepts(provider: &TestProvider) {
    provider.on_path(ORDERS, Reply::text("text/plain", "two orders"));
}

fn rejects(provider: &TestProvider, challenge: &str) {
    let rejected = Reply::text("text/plain", "rejected").with_status(401);
    provider.on_path(ORDERS, rejected.with_header("WWW-Authenticate", challenge));
}

#[rocket::async_test]
async fn a_bound_session_proves_its_key_to_an_api() {
    let provider = binding_provider().await;
    accepts(&provider);
    let browser = signed_in(&bound(&provider), &provider).await;
    let key = provider.last_request(TOKEN).proved_key();
    assert_eq!(fetch(&browser, "/own/orders").await, "200 two orders");
    assert_eq!(browser.submit("/own/orders", "").await.body, "200 two orders");
    let token = provider.last_request(USERINFO).dpop_token().unwrap().to_owned();
    let htu = format!("{}{ORDERS}", provider.issuer());
    for (request, method) in provider.requests_to(ORDERS).iter().zip(["GET", "POST"]) {
        assert_eq!(request.dpop_token(), Some(&*token));
        assert_eq!(request.proved_key(), key);
        let (_, claims) = request.proof().unwrap();
        assert_eq!((&claims["htm"], &claims["htu"]), (&json!(method), &json!(htu)));
        assert!(claims["ath"].is_string());
    }
}

#[rocket::async_test]
async fn an_unbound_session_sends_a_bearer_token() {
    let provider = binding_provider().await;
    accepts(&provider);
    let browser = signed_in(&App::new(&provider), &provider).await;
    assert_eq!(fetch(&browser, "/own/orders").await, "200 two orders");
    let request = provider.last_request(ORDERS);
    assert_eq!(request.bearer(), provider.last_request(USERINFO).bearer());
    assert_eq!(request.header("dpop"), None);
}

#[rocket::async_test]
async fn a_request_elsewhere_sends_nothing() {
    let (provider, other) = (binding_provider().await, TestProvider::start().await);
    let browser = signed_in(&bound(&provider), &provider).await;
    let url = format!("{}{ORDERS}", other.issuer());
    let error = fetch(&browser, &format!("/elsewhere?url={url}")).await;
    assert!(error.starts_with(&format!("the request is for `{url}`")), "{error}");
    assert_eq!(other.requests().len(), 0);
    // Nor does a redirect lead there.
    provider.on_path(ORDERS, Misbehaviour::RedirectTo(url));
    assert_eq!(fetch(&browser, "/own/orders").await, "302 ");
    assert_eq!(other.requests().len(), 0);
}

#[rocket::async_test]
async fn an_api_demands_a_nonce_once() {
    let provider = binding_provider().await;
    let browser = signed_in(&bound(&provider), &provider).await;
    let demand = Reply::status(401)
        .with_header("WWW-Authenticate", "Bearer, DPOP Error=\"use_dpop_nonce\"")
        .with_header("DPoP-Nonce", "again");
    provider.on_path(ORDERS, demand);
    assert_eq!(fetch(&browser, "/own/orders").await, "401 ");
    let nonces = || {
        let requests = provider.requests_to(ORDERS).into_iter();
        let nonces = requests.map(|it| it.proof().unwrap().1["nonce"].clone());
        nonces.collect::<Vec<_>>()
    };
    assert_eq!(nonces(), [json!(null), json!("again")]);
    // The nonce is known from now on.
    accepts(&provider);
    assert_eq!(fetch(&browser, "/own/orders").await, "200 two orders");
    assert_eq!(nonces()[2..], [json!("again")]);
    // It is the API's, and not the provider's.
    browser.submit("/refresh", "").await;
    let refresh = token_requests(&provider, "refresh_token").pop().unwrap();
    assert_eq!(refresh.proof().unwrap().1.get("nonce"), None);
}

#[rocket::async_test]
async fn a_rejected_token_is_refreshed_once() {
    let provider = binding_provider().await;
    let app = bound(&provider);
    let browser = signed_in(&app, &provider).await;
    app.advance(Duration::from_secs(61));
    rejects(&provider, "DPoP error=\"invalid_token\"");
    assert_eq!(fetch(&browser, "/own/orders").await, "401 rejected");
    let requests = provider.requests_to(ORDERS);
    assert_eq!(requests.len(), 2);
    assert_ne!(requests[0].dpop_token(), requests[1].dpop_token());
    assert_eq!(requests[0].proved_key(), requests[1].proved_key());
    assert_eq!(token_requests(&provider, "refresh_token").len(), 1);
    // The browser has the new generation, and within 10 s there is no other refresh.
    assert_eq!(fetch(&browser, "/own/orders").await, "401 rejected");
    assert_eq!(token_requests(&provider, "refresh_token").len(), 1);
    assert_eq!(provider.last_request(ORDERS).dpop_token(), requests[1].dpop_token());
}

#[rocket::async_test]
async fn another_challenge_refreshes_nothing() {
    let provider = binding_provider().await;
    let app = bound(&provider);
    let browser = signed_in(&app, &provider).await;
    app.advance(Duration::from_secs(61));
    for challenge in [
        "DPoP error=\"invalid_dpop_proof\"",
        "DPoP",
        "Basic error=\"invalid_token\"",
    ] {
        rejects(&provider, challenge);
        assert_eq!(fetch(&browser, "/own/orders").await, "401 rejected");
    }
    assert_eq!(provider.count(ORDERS), 3);
    assert_eq!(token_requests(&provider, "refresh_token").len(), 0);
}

#[rocket::async_test]
async fn a_token_for_an_api_is_bound_to_the_session() {
    let provider = binding_provider().await;
    accepts(&provider);
    let browser = signed_in(&bound(&provider), &provider).await;
    let key = provider.last_request(TOKEN).proved_key();
    for _ in 0..2 {
        assert_eq!(fetch(&browser, "/for/orders").await, "200 two orders");
    }
    let request = token_requests(&provider, "refresh_token");
    assert_eq!(request.len(), 1, "the token is cached");
    assert_eq!(request[0].form_value("resource"), Some("https://api.example.com"));
    assert_eq!(request[0].proved_key(), key);
    for request in provider.requests_to(ORDERS) {
        assert_eq!(request.proved_key(), key);
        assert!(request.dpop_token().is_some());
    }

    // A bearer token in its place is refused.
    provider.on_refresh_response(|reply| reply.set("token_type", "Bearer"));
    let other = signed_in(&bound(&provider), &provider).await;
    other.fetch("/for/orders").await.is(Status::BadGateway);
    assert_eq!(provider.count(ORDERS), 2);
}

#[rocket::async_test]
async fn tokens_of_the_client_have_a_key_of_the_process() {
    let provider = binding_provider().await;
    accepts(&provider);
    let app = bound(&provider);
    let browser = Browser::open(rocket(&app, &provider)).await;
    assert_eq!(fetch(&browser, "/client/orders").await, "200 two orders");
    app.advance(Duration::from_secs(3_600));
    assert_eq!(fetch(&browser, "/client/orders").await, "200 two orders");
    let requests = token_requests(&provider, CLIENT_CREDENTIALS);
    let key = requests[0].proved_key().unwrap();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].proved_key().as_ref(), Some(&key));
    assert_eq!(provider.last_request(ORDERS).proved_key(), Some(key));

    provider.on_token_response(|reply| reply.set("token_type", "Bearer"));
    app.advance(Duration::from_secs(3_600));
    browser.fetch("/client/orders").await.is(Status::BadGateway);
    assert_eq!(provider.count(ORDERS), 2);
}

#[rocket::async_test]
async fn with_auto_tokens_of_the_client_are_not_bound() {
    let provider = binding_provider().await;
    accepts(&provider);
    let app = App::new(&provider).with("oidc.dpop", "auto");
    let browser = Browser::open(rocket(&app, &provider)).await;
    assert_eq!(fetch(&browser, "/client/orders").await, "200 two orders");
    assert!(provider.last_request(ORDERS).bearer().is_some());
}
