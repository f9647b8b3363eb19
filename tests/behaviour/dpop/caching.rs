//! The cache knows what a token says, and nothing that a request proved.

use std::time::Duration;

use rocket::{http::Method, serde::json::json};

use super::app::{Api, BASE_URL, bound_token, proof, thumbprint};
use crate::support::{Reply, SigningKey, TestProvider};

const INTROSPECT: &str = "/introspect";

#[rocket::async_test]
async fn a_good_proof_helps_no_later_request() {
    let api = Api::open().await;
    let token = api.token();
    for _ in 0..2 {
        api.prove("/notes", &token, |_| ()).await.is_accepted();
        let wrong_key = api.prove("/notes", &token, |proof| {
            proof.set("ath", "another");
        });
        wrong_key
            .await
            .is_refused("invalid_dpop_proof", "the proof is for another token");
        let missing = api.send(Method::Get, "/notes", &format!("DPoP {token}"), &[]).await;
        missing.is_refused("invalid_dpop_proof", "the request has no proof");
        let bearer = api.send(Method::Get, "/notes", &format!("Bearer {token}"), &[]).await;
        assert_eq!(bearer.status, 401);
    }
}

#[rocket::async_test]
async fn a_bad_proof_harms_no_later_request() {
    let api = Api::open().await;
    let token = api.token();
    for _ in 0..2 {
        let bearer = api.send(Method::Get, "/notes", &format!("Bearer {token}"), &[]).await;
        assert_eq!(bearer.status, 401);
        let bad = api.prove("/notes", &token, |proof| proof.break_signature = true).await;
        bad.is_refused("invalid_dpop_proof", "the signature of the proof is wrong");
        api.prove("/notes", &token, |_| ()).await.is_accepted();
    }
    // One call for its keys: a refused proof does not evict the token.
    assert_eq!(api.provider.count("/jwks"), 1);
}

/// Without a cache it is the same.
#[rocket::async_test]
async fn each_request_proves_without_a_cache() {
    let api = Api::with(json!({ "token_cache": false })).await;
    let token = api.token();
    api.prove("/notes", &token, |_| ()).await.is_accepted();
    let bad = api.prove("/notes", &token, |proof| proof.set("htm", "PUT")).await;
    bad.is_refused("invalid_dpop_proof", "the proof is for another method");
    api.prove("/notes", &token, |_| ()).await.is_accepted();
}

/// The binding of an opaque token is in the provider's reply.
#[rocket::async_test]
async fn introspected_tokens_are_proved_at_each_request() {
    let api = Api::open().await;
    let issuer = api.provider.issuer();
    api.provider.on_introspection(move |reply| {
        *reply = Reply::json(json!({
            "active": true, "iss": issuer, "aud": TestProvider::API, "sub": "alice", "client_id": "client",
            "scope": "notes:read", "token_type": "DPoP", "cnf": { "jkt": thumbprint(&SigningKey::Ec) },
        }));
    });
    let token = "an-opaque-token";
    for _ in 0..2 {
        let bearer = api.send(Method::Get, "/notes", &format!("Bearer {token}"), &[]).await;
        assert_eq!(bearer.status, 401);
        api.prove("/notes", token, |_| ()).await.is_accepted();
        let other = super::app::proof_by(SigningKey::Ed, &format!("{BASE_URL}/notes"), token).compact();
        let other = api
            .send(Method::Get, "/notes", &format!("DPoP {token}"), &[&other])
            .await;
        other.is_refused("invalid_token", "the token is bound to another key");
    }
    assert_eq!(api.provider.count(INTROSPECT), 1);
}

/// What a provider leaves out of its reply is in the token.
#[rocket::async_test]
async fn an_introspected_jwt_and_the_reply_agree_about_the_key() {
    let api = Api::with(json!({ "token_validation": "introspection" })).await;
    let (bound, unbound) = (api.token(), api.provider.access_token("notes:read", |_| ()));
    api.prove("/notes", &bound, |_| ()).await.is_accepted();
    let bearer = |token: &str| format!("Bearer {token}");
    assert_eq!(
        api.send(Method::Get, "/notes", &bearer(&unbound), &[]).await.status,
        200
    );
    let issuer = api.provider.issuer();
    let say = |cnf: Option<String>| {
        let issuer = issuer.clone();
        api.provider.on_introspection(move |reply| {
            let mut body = json!({
                "active": true, "iss": issuer, "aud": TestProvider::API, "sub": "alice", "client_id": "client",
                "scope": "notes:read",
            });
            if let Some(jkt) = &cnf {
                body["cnf"] = json!({ "jkt": jkt });
            }
            *reply = Reply::json(body);
        });
    };
    const DIFFERENT: &str = "the token is bound in a way that is not accepted";
    let fresh = || bound_token(&api.provider, &SigningKey::Ec);
    for said in [None, Some(thumbprint(&SigningKey::Ed))] {
        say(said);
        let refused = api.prove("/notes", &fresh(), |_| ()).await;
        refused.is_refused("invalid_token", DIFFERENT);
        assert_eq!(
            api.send(Method::Get, "/notes", &bearer(&fresh()), &[]).await.status,
            401
        );
    }
    say(Some(thumbprint(&SigningKey::Ec)));
    let unbound = api.provider.access_token("notes:read", |_| ());
    let refused = api.prove("/notes", &unbound, |_| ()).await;
    refused.is_refused("invalid_token", DIFFERENT);
}

/// The same URL, token and key, at a later time.
#[rocket::async_test]
async fn a_proof_expires_while_the_token_does_not() {
    let api = Api::open().await;
    let token = api.token();
    let url = format!("{BASE_URL}/notes");
    let [first, second] = [(); 2].map(|()| proof(&url, &token).compact());
    let dpop = format!("DPoP {token}");
    api.send(Method::Get, "/notes", &dpop, &[&first]).await.is_accepted();
    api.clock.advance(Duration::from_secs(60));
    api.send(Method::Get, "/notes", &dpop, &[&second]).await.is_accepted();
    api.clock.advance(Duration::from_secs(1));
    let late = api.send(Method::Get, "/notes", &dpop, &[&first]).await;
    late.is_refused("invalid_dpop_proof", "the proof is too old");
    let mut early = proof(&url, &token);
    early.set("iat", crate::common::NOW + 72);
    let early = early.compact();
    let early = api.send(Method::Get, "/notes", &dpop, &[&early]).await;
    early.is_refused("invalid_dpop_proof", "the proof is not valid now");
}
