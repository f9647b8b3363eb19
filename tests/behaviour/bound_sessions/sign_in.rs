//! A sign-in with a key: the request, the code, UserInfo, and the record.

use rocket::{http::Status, serde::json::json};
use url::Url;

use super::*;
use crate::{
    common::{Log, NOW, launch_failure, opened_session},
    support::{Misbehaviour, Reply, TestStore},
};

#[rocket::async_test]
async fn each_request_of_a_sign_in_proves_the_same_key() {
    let provider = binding_provider().await;
    let browser = signed_in(&bound(&provider), &provider).await;
    let authorization = provider.last_request("/authorize");
    let (token, user_info) = (provider.last_request(TOKEN), provider.last_request(USERINFO));
    let key = token.proved_key().expect("a proof");
    assert_eq!(authorization.query_value("dpop_jkt"), Some(&*key));
    assert_eq!(user_info.proved_key().as_ref(), Some(&key));
    assert!(user_info.dpop_token().is_some_and(|token| token.starts_with("at-")));

    let (header, mut claims) = token.proof().unwrap();
    assert_eq!(header["alg"], "ES256");
    let members: Vec<_> = header.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members.len(), 3, "{members:?}");
    assert_eq!(claims["jti"].as_str().map(str::len), Some(43));
    claims.as_object_mut().unwrap().remove("jti");
    let htu = format!("{}/token", provider.issuer());
    assert_eq!(claims, json!({ "htm": "POST", "htu": htu, "iat": NOW }));
    let (_, claims) = user_info.proof().unwrap();
    assert_eq!(claims["htm"], "GET");
    assert!(claims["ath"].is_string());
    assert_eq!(fetch(&browser, "/is-bound").await, "true");
}

#[rocket::async_test]
async fn by_default_nothing_is_bound() {
    let provider = binding_provider().await;
    let browser = signed_in(&App::new(&provider), &provider).await;
    assert_eq!(provider.last_request("/authorize").query_value("dpop_jkt"), None);
    assert_eq!(provider.last_request(TOKEN).header("dpop"), None);
    assert!(provider.last_request(USERINFO).bearer().is_some());
    assert_eq!(fetch(&browser, "/is-bound").await, "false");
}

#[rocket::async_test]
async fn auto_follows_the_metadata() {
    let provider = TestProvider::start().await;
    for (algorithms, expected) in [
        (None, None),
        (Some(&["RS256"][..]), None),
        (Some(&["EdDSA"]), Some("EdDSA")),
        (Some(&["Ed25519", "EdDSA"]), Some("Ed25519")),
        (Some(&["EdDSA", "ES256"]), Some("ES256")),
    ] {
        if let Some(algorithms) = algorithms {
            provider.bind_tokens(algorithms);
        }
        let app = App::new(&provider).with("oidc.dpop", "auto");
        let browser = signed_in(&app, &provider).await;
        let proof = provider.last_request(TOKEN).proof();
        assert_eq!(
            proof.as_ref().map(|(header, _)| header["alg"].as_str().unwrap()),
            expected
        );
        assert_eq!(fetch(&browser, "/is-bound").await, expected.is_some().to_string());
    }
}

#[rocket::async_test]
async fn a_provider_without_a_usable_algorithm_stops_the_launch() {
    let provider = TestProvider::start().await;
    for (algorithms, found) in [(None, "missing"), (Some(["RS256", "ES384"]), "a list without them")] {
        if let Some(algorithms) = algorithms {
            provider.bind_tokens(&algorithms);
        }
        let (_, log) = launch_failure(bound(&provider).rocket()).await;
        let cause = format!(
            "the member `dpop_signing_alg_values_supported` of the provider's metadata is {found}, expected a list with \
             ES256, Ed25519 or EdDSA"
        );
        let text = log.join("\n");
        assert!(text.contains(&cause), "{text}");
        assert!(text.contains("set `oidc.dpop` to `auto` or `off`"), "{text}");
    }
}

/// Each sign-in has a key of its own, which the attempt alone decides.
#[rocket::async_test]
async fn two_sign_ins_have_two_keys() {
    let provider = binding_provider().await;
    let app = bound(&provider);
    let mut keys = vec![];
    for _ in 0..2 {
        signed_in(&app, &provider).await;
        keys.push(provider.last_request(TOKEN).proved_key().unwrap());
    }
    assert_ne!(keys[0], keys[1]);
}

/// The node that the browser comes back to makes the same key.
#[rocket::async_test]
async fn another_node_completes_the_sign_in() {
    let provider = binding_provider().await;
    let app = bound(&provider);
    let one = Browser::open(rocket(&app, &provider)).await;
    let other = Browser::open(rocket(&app, &provider)).await;
    let callback = one.begin_sign_in(&provider, "/me").await;
    let request = provider.last_request("/authorize");
    crate::records::carry_cookies(&one, &other);
    let page = other.arrive_from_provider(&callback.path_and_query()).await;
    page.is(Status::SeeOther);
    let key = provider.last_request(TOKEN).proved_key();
    assert_eq!(key.as_deref(), request.query_value("dpop_jkt"));
}

#[rocket::async_test]
async fn a_pushed_request_has_a_proof_and_the_key() {
    let provider = binding_provider().await;
    let endpoint = format!("{}/par", provider.issuer());
    provider.metadata(|metadata| {
        metadata.insert("pushed_authorization_request_endpoint".into(), endpoint.clone().into());
    });
    provider.on_path("/par", Reply::json(json!({ "request_uri": "urn:x", "expires_in": 60 })));
    let app = bound(&provider).with("oidc.pushed_authorization_requests", true);
    let page = app.open().await.visit("/oidc/login").await;
    page.is(Status::SeeOther);
    let pushed = provider.last_request("/par");
    assert_eq!(pushed.form_value("dpop_jkt"), pushed.proved_key().as_deref());
    let (_, claims) = pushed.proof().unwrap();
    assert_eq!((&claims["htm"], &claims["htu"]), (&json!("POST"), &json!(endpoint)));
    let url = Url::parse(page.location.as_deref().unwrap()).unwrap();
    assert!(!url.query().unwrap().contains("dpop_jkt"), "{url}");
}

/// The key is in the record, which is encrypted: who holds a cookie, or the store, has no key.
#[rocket::async_test]
async fn the_key_is_in_the_encrypted_record_alone() {
    let provider = binding_provider().await;
    let log = Log::listen();
    let browser = signed_in(&bound(&provider), &provider).await;
    let key = provider.last_request(TOKEN).proved_key().unwrap();
    let session = opened_session(&browser, &provider);
    let stored = session["proof_key"].as_str().expect("a key").to_owned();
    let seed = stored.strip_prefix("ES256.").unwrap();
    for (name, value) in browser.cookies() {
        assert!(!value.contains(seed) && !value.contains(&key), "{name}");
    }
    for line in log.all_lines() {
        assert!(!line.contains(seed), "{line}");
    }

    // In a store, it is there alone, encrypted too.
    let store = TestStore::new();
    let app = bound(&provider).over(&store);
    let browser = signed_in(&app, &provider).await;
    assert_eq!(fetch(&browser, "/is-bound").await, "true");
}

/// Another app, or the same with another key, reads nothing of a copied session.
#[rocket::async_test]
async fn a_copied_session_is_of_no_use_elsewhere() {
    let provider = binding_provider().await;
    let app = bound(&provider);
    let browser = signed_in(&app, &provider).await;
    for (setting, value) in [
        ("secret_key", "OTg3NjU0MzIxMGFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="),
        ("oidc.client_id", "another"),
    ] {
        let other = Browser::open(rocket(&app.clone().with(setting, value), &provider)).await;
        crate::records::carry_cookies(&browser, &other);
        provider.on_path(ORDERS, Reply::text("text/plain", "ok"));
        other.fetch("/own/orders").await.is(Status::Unauthorized);
        assert_eq!(provider.count(ORDERS), 0);
    }
}

/// What the session does not keep has no key either.
#[rocket::async_test]
async fn a_session_without_tokens_keeps_no_key() {
    let provider = binding_provider().await;
    let app = bound(&provider).with("oidc.session.tokens", "id_token");
    let browser = signed_in(&app, &provider).await;
    assert_eq!(opened_session(&browser, &provider)["proof_key"], json!(null));
}

#[rocket::async_test]
async fn an_authorization_parameter_cannot_name_a_key() {
    let provider = binding_provider().await;
    let app = bound(&provider).with("oidc.extra_authorization_parameters", json!({ "dpop_jkt": "x" }));
    let (_, log) = launch_failure(app.rocket()).await;
    assert!(log[0].contains("dpop_jkt"), "{log:?}");
}

/// The provider names another key in a later read of its metadata: the sign-in that has begun keeps its own.
#[rocket::async_test]
async fn the_algorithm_is_that_of_the_request() {
    let provider = binding_provider().await;
    let app = bound(&provider);
    let browser = Browser::open(rocket(&app, &provider)).await;
    let callback = browser.begin_sign_in(&provider, "/me").await;
    provider.bind_tokens(&["EdDSA"]);
    let other = Browser::open(rocket(&app, &provider)).await;
    crate::records::carry_cookies(&browser, &other);
    other
        .arrive_from_provider(&callback.path_and_query())
        .await
        .is(Status::SeeOther);
    assert_eq!(provider.last_request(TOKEN).proof().unwrap().0["alg"], "ES256");
}

#[rocket::async_test]
async fn an_unreachable_endpoint_is_called_once() {
    let provider = binding_provider().await;
    let browser = Browser::open(rocket(&bound(&provider), &provider)).await;
    let callback = browser.begin_sign_in(&provider, "/me").await;
    provider.on_path(TOKEN, Misbehaviour::Drop);
    browser
        .arrive_from_provider(&callback.path_and_query())
        .await
        .is(Status::ServiceUnavailable);
    assert_eq!(provider.count(TOKEN), 1);
}
