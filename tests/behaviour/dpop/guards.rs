//! How guards treat bound tokens, and what they respond.

use rocket::{
    http::{Header, Method, Status},
    serde::json::{Value, json},
};
use rocket_openidconnect::BearerError;

use super::app::{ALGS, Answer, Api, BASE_URL, METADATA, proof};
use crate::{common::launch_failure, support::TestProvider};

#[rocket::async_test]
async fn a_request_without_a_token_is_told_both_schemes() {
    let api = Api::open().await;
    let answer = Answer::to(api.client.get("/notes")).await;
    let scope = "scope=\"notes:read\"";
    assert_eq!(
        (answer.status, answer.challenges),
        (
            401,
            vec![
                format!("Bearer realm=\"api\", {scope}, {METADATA}"),
                format!("DPoP realm=\"api\", {scope}, {METADATA}, {ALGS}"),
            ]
        )
    );
    assert_eq!(answer.nonce, None);
    assert_eq!(answer.exposed, ["WWW-Authenticate"]);
}

#[rocket::async_test]
async fn a_route_demands_a_bound_token() {
    let api = Api::open().await;
    let bearer = api.provider.access_token("notes:read", |_| ());
    let answer = api.send(Method::Get, "/bound", &format!("Bearer {bearer}"), &[]).await;
    let required = "error=\"invalid_token\", error_description=\"a token that is bound to a key is required\"";
    assert_eq!(
        (answer.status, answer.challenges),
        (401, vec![format!("DPoP realm=\"api\", {required}, {METADATA}, {ALGS}")])
    );
    let answer = Answer::to(api.client.get("/bound")).await;
    let scope = "scope=\"notes:read\"";
    assert_eq!(
        answer.challenges,
        [format!("DPoP realm=\"api\", {scope}, {METADATA}, {ALGS}")]
    );
    api.prove("/bound", &api.token(), |_| ()).await.is_accepted();
    assert_eq!(
        api.send(Method::Get, "/notes", &format!("Bearer {bearer}"), &[])
            .await
            .status,
        200
    );
    api.prove("/either", &api.token(), |_| ()).await.is_accepted();
}

/// Two guards of a route, the first of which is optional.
#[rocket::async_test]
async fn several_guards_use_one_proof() {
    let api = Api::open().await;
    api.prove("/twice", &api.token(), |_| ()).await.is_accepted();
    let token = api.token();
    let answer = api
        .prove("/optional", &token, |proof| proof.break_signature = true)
        .await;
    assert_eq!((answer.status, &*answer.body), (200, "nobody"));
    let answer = api.prove("/optional", &token, |_| ()).await;
    assert_eq!((answer.status, &*answer.body), (200, "alice"));
}

#[rocket::async_test]
async fn a_missing_scope_is_told_in_the_scheme_of_the_token() {
    let api = Api::open().await;
    let answer = api.prove("/scoped", &api.token(), |_| ()).await;
    let scope =
        "error=\"insufficient_scope\", error_description=\"the token does not allow this\", scope=\"notes:admin\"";
    assert_eq!(
        (answer.status, answer.challenges),
        (
            403,
            vec![
                format!("DPoP realm=\"api\", {scope}, {METADATA}, {ALGS}"),
                format!("Bearer realm=\"api\", {METADATA}"),
            ]
        )
    );
}

/// Rocket answers `HEAD` by the route of `GET`; the proof is for what the client sent.
#[rocket::async_test]
async fn methods_are_those_of_the_client() {
    let api = Api::open().await;
    let token = api.token();
    let dpop = format!("DPoP {token}");
    for (method, status) in [(Method::Head, 200), (Method::Post, 200)] {
        for (htm, expected) in [(method.as_str(), status), ("GET", 401)] {
            let mut parts = proof(&format!("{BASE_URL}/notes"), &token);
            parts.set("htm", htm);
            let answer = api.send(method, "/notes", &dpop, &[&parts.compact()]).await;
            assert_eq!(answer.status, expected, "{method} {htm}");
        }
    }
}

#[rocket::async_test]
async fn catchers_learn_why_a_proof_is_rejected() {
    let api = Api::open().await;
    let token = api.token();
    let mut request = api.client.get("/notes");
    request.add_header(Header::new("Authorization", format!("DPoP {token}")));
    let response = request.dispatch().await;
    assert_eq!(response.status(), Status::Unauthorized);
    api.log
        .has("DEBUG: the proof of possession is rejected: the request has no header DPoP");
    let reasons = [
        (
            BearerError::TooManyProofs {
                retry_after: std::time::Duration::from_secs(1),
            },
            "dpop_too_many_proofs",
            429,
        ),
        (
            BearerError::ProofsFull {
                retry_after: std::time::Duration::from_secs(1),
            },
            "dpop_proofs_full",
            503,
        ),
    ];
    for (error, reason, status) in reasons {
        assert_eq!((error.reason(), error.status()), (reason, status));
    }
}

#[rocket::async_test]
async fn the_metadata_has_the_algorithms() {
    let algorithms = json!([
        "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"
    ]);
    for (dpop_tokens, expected, required) in [
        ("off", Value::Null, Value::Null),
        ("accepted", algorithms.clone(), Value::Null),
        ("required", algorithms, json!(true)),
    ] {
        let settings = json!({ "dpop_tokens": dpop_tokens });
        let provider = TestProvider::start().await;
        let app = crate::bearer::app::Api::at(provider, settings).await;
        let response = app.client.get("/.well-known/oauth-protected-resource").dispatch().await;
        let metadata: Value = response.into_json().await.unwrap();
        assert_eq!(metadata["dpop_signing_alg_values_supported"], expected);
        assert_eq!(metadata["dpop_bound_access_tokens_required"], required);
        assert_eq!(metadata["bearer_methods_supported"], json!(["header"]));
        let preflight = app
            .client
            .options("/.well-known/oauth-protected-resource")
            .dispatch()
            .await;
        let allowed = preflight.headers().get_one("Access-Control-Allow-Headers");
        assert_eq!(allowed, Some("*, Authorization, DPoP"));
    }
}

/// A route that could accept nothing.
#[rocket::async_test]
async fn a_route_that_demands_a_bound_token_needs_the_setting() {
    let provider = TestProvider::start().await;
    let clock = rocket_openidconnect::Clock::fixed_at(crate::common::NOW);
    let rocket = super::app::rocket(&provider, json!({ "dpop_tokens": "off" }), &clock, None);
    let (kind, lines) = launch_failure(rocket).await;
    assert!(kind.ends_with("sentinels abort"), "{kind}");
    let line = "INFO: set `oidc.dpop_tokens = \"accepted\"` or the table `oidc.client_certificate`, or use `Bearer`";
    assert!(lines.iter().any(|it| it == line), "{lines:#?}");
}
