//! Proofs and nonces over several nodes of one app, and how many proofs are recorded.

use std::time::Duration;

use rocket::{
    http::Method,
    serde::json::{Value, json},
};

use super::app::{ALGS, Api, BASE_URL, METADATA, proof};
use crate::{
    common::NOW,
    support::{Call, JwtParts, TestProvider, TestStore},
};

/// Two nodes with this store, if there is one.
async fn nodes(settings: Value, store: Option<&TestStore>) -> [Api; 2] {
    let provider = TestProvider::start().await;
    let one = Api::launch(provider.clone(), settings.clone(), store).await;
    let two = Api::launch(provider, settings, store).await;
    [one, two]
}

#[rocket::async_test]
async fn a_proof_is_used_once_over_all_nodes_with_a_store() {
    let store = TestStore::new();
    for (store, second) in [(Some(&store), 401), (None, 200)] {
        let nodes = nodes(json!({}), store).await;
        let token = nodes[0].token();
        let proof = proof(&format!("{BASE_URL}/notes"), &token).compact();
        let dpop = format!("DPoP {token}");
        let send = async |node: &Api| node.send(Method::Get, "/notes", &dpop, &[&proof]).await;
        send(&nodes[0]).await.is_accepted();
        assert_eq!(send(&nodes[1]).await.status, second);
        for node in &nodes {
            let again = send(node).await;
            again.is_refused("invalid_dpop_proof", "the proof was used before");
        }
        // The next proof of the client is accepted by either.
        for node in &nodes {
            node.prove("/notes", &token, |_| ()).await.is_accepted();
        }
    }
}

#[rocket::async_test]
async fn a_store_that_is_down_is_503() {
    let store = TestStore::new();
    let api = Api::launch(TestProvider::start().await, json!({}), Some(&store)).await;
    let token = api.token();
    store.fail(Call::Lock, "connection refused");
    let answer = api.prove("/notes", &token, |_| ()).await;
    assert_eq!((answer.status, &answer.challenges[..]), (503, &[][..]));
    assert_eq!(answer.retry_after.as_deref(), Some("5"));
    api.log.has(
        "ERROR: the proof of possession cannot be recorded: the session store is not reachable: connection refused",
    );
    // What needs no record is answered.
    let bad = api.prove("/notes", &token, |proof| proof.set("htm", "PUT")).await;
    assert_eq!(bad.status, 401);
    let bearer = api.provider.access_token("notes:read", |_| ());
    assert_eq!(
        api.send(Method::Get, "/notes", &format!("Bearer {bearer}"), &[])
            .await
            .status,
        200
    );
    store.recover();
    api.prove("/notes", &token, |_| ()).await.is_accepted();
}

/// With 64 proofs for all, a user and client have 4.
#[rocket::async_test]
async fn one_client_does_not_fill_the_record() {
    let api = Api::with(json!({ "dpop_max_proofs": 64 })).await;
    let of = |sub: String| {
        api.provider.access_token("notes:read", |token: &mut JwtParts| {
            token.set("sub", sub);
            let jkt = super::app::thumbprint(&crate::support::SigningKey::Ec);
            token.set("cnf", json!({ "jkt": jkt }));
        })
    };
    let alice = of("alice".to_owned());
    for _ in 0..4 {
        api.prove("/notes", &alice, |_| ()).await.is_accepted();
    }
    // Another token of theirs is no other client.
    for token in [&alice, &of("alice".to_owned())] {
        let answer = api.prove("/notes", token, |_| ()).await;
        assert_eq!((answer.status, &answer.challenges[..]), (429, &[][..]));
        assert_eq!(answer.retry_after.as_deref(), Some("61"));
    }
    for user in 0..15 {
        let token = of(format!("user {user}"));
        for _ in 0..4 {
            assert_eq!(api.prove("/notes", &token, |_| ()).await.status, 200);
        }
    }
    let bob = of("bob".to_owned());
    let answer = api.prove("/notes", &bob, |_| ()).await;
    assert_eq!((answer.status, answer.retry_after.as_deref()), (503, Some("61")));
    api.log.has("ERROR: too many proofs of possession are recorded");
    // A proof that is rejected takes no place.
    api.clock.advance(Duration::from_secs(61));
    let wrong = api.prove("/notes", &bob, |_| ()).await;
    wrong.is_refused("invalid_dpop_proof", "the proof is too old");
    let later = |proof: &mut JwtParts| proof.set("iat", NOW + 61);
    assert_eq!(api.prove("/notes", &bob, later).await.status, 200);
    api.prove("/notes", &alice, later).await.is_accepted();
}

#[rocket::async_test]
async fn a_nonce_of_one_node_is_accepted_by_the_other() {
    let nodes = nodes(json!({ "dpop_nonces": true }), None).await;
    let token = nodes[0].token();
    let first = nodes[0].prove("/notes", &token, |_| ()).await;
    first.is_refused("use_dpop_nonce", "a nonce is required in the proof");
    assert_eq!(first.cache_control.as_deref(), Some("no-store"));
    assert_eq!(first.exposed, ["WWW-Authenticate", "DPoP-Nonce"]);
    let nonce = first.nonce.expect("a nonce");
    let with = |nonce: &str| {
        let nonce = nonce.to_owned();
        move |proof: &mut JwtParts| proof.set("nonce", nonce)
    };
    for node in &nodes {
        let answer = node.prove("/notes", &token, with(&nonce)).await;
        answer.is_accepted();
        assert_eq!(answer.nonce.as_deref(), Some(&*nonce));
        assert_eq!(answer.exposed, ["DPoP-Nonce"]);
        assert_eq!(answer.cache_control.as_deref(), Some("no-store"));
    }
    let wrong = nodes[1].prove("/notes", &token, with("made up")).await;
    wrong.is_refused("use_dpop_nonce", "the nonce of the proof is not valid any more");

    // The next minute has another one, and the last one is accepted for a few minutes.
    let clock = &nodes[1].clock;
    let later = |seconds: i64, nonce: &str| {
        let nonce = nonce.to_owned();
        move |proof: &mut JwtParts| {
            proof.set("nonce", nonce);
            proof.set("iat", NOW + seconds);
        }
    };
    clock.advance(Duration::from_secs(60));
    let answer = nodes[1].prove("/notes", &token, later(60, &nonce)).await;
    answer.is_accepted();
    let next = answer.nonce.expect("a nonce");
    assert_ne!(next, nonce);
    clock.advance(Duration::from_secs(200));
    let answer = nodes[1].prove("/notes", &token, later(260, &nonce)).await;
    answer.is_refused("use_dpop_nonce", "the nonce of the proof is not valid any more");
    let nonce = answer.nonce.expect("a nonce");
    nodes[1].prove("/notes", &token, later(260, &nonce)).await.is_accepted();
}

#[rocket::async_test]
async fn nonces_are_for_proofs_alone() {
    let api = Api::with(json!({ "dpop_nonces": true })).await;
    let bearer = api.provider.access_token("notes:read", |_| ());
    let answer = api.send(Method::Get, "/notes", &format!("Bearer {bearer}"), &[]).await;
    assert_eq!((answer.status, answer.nonce), (200, None));
    let answer = super::app::Answer::to(api.client.get("/plain")).await;
    assert_eq!((&*answer.body, answer.nonce), ("plain", None));
    // A client that has no token yet saves a round trip.
    let answer = super::app::Answer::to(api.client.get("/notes")).await;
    assert_eq!((answer.status, answer.nonce.is_some()), (401, true));
    assert_eq!(
        answer.challenges[1],
        format!("DPoP realm=\"api\", scope=\"notes:read\", {METADATA}, {ALGS}")
    );
}
