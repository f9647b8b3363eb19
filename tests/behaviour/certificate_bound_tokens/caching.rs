//! The cache knows what a token says, and nothing about the certificate of a request.

use rocket::serde::json::{Value, json};

use super::app::{Api, CLIENT, OTHER, header};
use crate::support::{Reply, TestProvider};

const NONE: &str = "access_token_no_certificate";
const OTHERS: &str = "access_token_other_certificate";

#[rocket::async_test]
async fn an_accepted_certificate_helps_no_later_request() {
    for token_cache in [true, false] {
        let api = Api::with("nginx", json!({ "token_cache": token_cache })).await;
        let token = api.bound_token();
        for _ in 0..2 {
            api.send(&token, &[&header("nginx", CLIENT)]).await.is_accepted();
            api.send(&token, &[]).await.is_refused(401, NONE, "no header");
            api.send(&token, &[""]).await.is_refused(401, NONE, "an empty header");
            let other = api.send(&token, &[&header("nginx", OTHER)]).await;
            other.is_refused(401, OTHERS, "another certificate");
        }
    }
}

#[rocket::async_test]
async fn a_refused_certificate_harms_no_later_request() {
    let api = Api::open("rfc9440").await;
    let token = api.bound_token();
    for _ in 0..2 {
        api.send(&token, &[]).await.is_refused(401, NONE, "no header");
        let other = api.send(&token, &[&header("rfc9440", OTHER)]).await;
        other.is_refused(401, OTHERS, "another certificate");
        api.send(&token, &["forged"])
            .await
            .is_refused(400, "client_certificate_header", "forged");
        api.send(&token, &[&header("rfc9440", CLIENT)]).await.is_accepted();
    }
    // One call for the keys: a refused certificate does not evict the token.
    assert_eq!(api.provider.count("/jwks"), 1);
}

/// The binding of an opaque token is in the provider's reply.
#[rocket::async_test]
async fn an_introspected_token_needs_its_certificate_at_each_request() {
    let thumbprint = super::app::thumbprint(CLIENT);
    for (cnf, reason) in [
        (json!({ "x5t#S256": thumbprint }), None),
        (json!({ "x5t#S256": super::app::thumbprint(OTHER) }), Some(OTHERS)),
        (json!({ "x5t#S256": "short" }), Some("access_token_confirmation")),
        (
            json!({ "x5t#S256": thumbprint, "kid": "1" }),
            Some("access_token_confirmation"),
        ),
    ] {
        let api = Api::open("envoy").await;
        introspects(&api, cnf.clone());
        for _ in 0..2 {
            let answer = api.send("an-opaque-token", &[&header("envoy", CLIENT)]).await;
            match reason {
                None => answer.is_accepted(),
                Some(reason) => answer.is_refused(401, reason, &cnf.to_string()),
            }
            if reason.is_none() {
                api.send("an-opaque-token", &[])
                    .await
                    .is_refused(401, NONE, "no header");
            }
        }
        assert_eq!(api.provider.count("/introspect"), 1);
    }
}

/// A refusal that comes first is not cached either.
#[rocket::async_test]
async fn an_introspected_token_is_accepted_after_a_refusal() {
    let api = Api::open("nginx").await;
    introspects(&api, json!({ "x5t#S256": super::app::thumbprint(CLIENT) }));
    api.send("opaque", &[]).await.is_refused(401, NONE, "no header");
    api.send("opaque", &[&header("nginx", OTHER)])
        .await
        .is_refused(401, OTHERS, "another");
    api.send("opaque", &[&header("nginx", CLIENT)]).await.is_accepted();
    assert_eq!(api.provider.count("/introspect"), 1);
}

fn introspects(api: &Api, cnf: Value) {
    let issuer = api.provider.issuer();
    api.provider.on_introspection(move |reply| {
        *reply = Reply::json(json!({
            "active": true, "iss": issuer, "aud": TestProvider::API, "sub": "alice", "client_id": "client",
            "scope": "notes:read", "token_type": "Bearer", "cnf": cnf,
        }));
    });
}
