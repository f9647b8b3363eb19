//! The settings about proofs: what the launch says, and what they change.

use std::time::Duration;

use rocket::{
    Build, Config, Rocket,
    figment::Figment,
    http::Method,
    local::asynchronous::Client,
    serde::json::{Value, json},
};
use rocket_openidconnect::{Clock, Oidc};

use super::app::{ALGS, Api, METADATA, rocket};
use crate::{
    common::{KEY, Log, NOW, launch_failure},
    support::{JwtParts, TestProvider, TestStore},
};

/// An API without sign-in, in the release profile.
fn only_api(provider: &TestProvider, settings: Value) -> Rocket<Build> {
    let mut oidc = json!({
        "issuer": provider.issuer(), "resource_server_only": true, "audience": TestProvider::API,
    });
    for (name, value) in settings.as_object().unwrap() {
        oidc[name] = value.clone();
    }
    let figment = Figment::from(Config::release_default()).merge(("log_level", "off"));
    let secret_key = oidc.as_object_mut().unwrap().remove("secret_key");
    let figment = figment.merge(("oidc", oidc));
    let figment = match secret_key {
        Some(key) => figment.merge(("secret_key", key)),
        None => figment,
    };
    rocket::custom(figment).attach(Oidc::fairing().clock(Clock::fixed_at(NOW)))
}

#[rocket::async_test]
async fn proofs_need_the_public_url() {
    let provider = TestProvider::start().await;
    for dpop_tokens in ["accepted", "required"] {
        let (kind, lines) = launch_failure(only_api(&provider, json!({ "dpop_tokens": dpop_tokens }))).await;
        assert_eq!(kind, "failed fairings: OpenID Connect");
        assert_eq!(
            lines,
            [
                "ERROR: `oidc.base_url`: `dpop_tokens` is set, and the public URL of the app, which proofs name, is missing",
                "INFO: set `base_url` in the table `oidc`, or OIDC_BASE_URL, for example \
                 `base_url = \"https://api.example.com\"`; or set `dpop_tokens = \"off\"`",
            ]
        );
        let settings = json!({ "dpop_tokens": dpop_tokens, "base_url": "https://api.example.com" });
        only_api(&provider, settings).ignite().await.expect("it launches");
    }
    only_api(&provider, json!({})).ignite().await.expect("it launches");
}

#[rocket::async_test]
async fn nonces_need_a_key_that_the_nodes_share() {
    let provider = TestProvider::start().await;
    let settings = |secret_key: Option<&str>| {
        let mut settings = json!({
            "dpop_tokens": "accepted", "dpop_nonces": true, "base_url": "https://api.example.com",
        });
        if let Some(key) = secret_key {
            settings["secret_key"] = json!(key);
        }
        settings
    };
    let (_, lines) = launch_failure(only_api(&provider, settings(None))).await;
    assert!(lines[0].starts_with("ERROR: `secret_key` is missing"), "{lines:#?}");
    only_api(&provider, settings(Some(KEY)))
        .ignite()
        .await
        .expect("it launches");
}

#[rocket::async_test]
async fn the_launch_says_whether_nodes_know_each_others_proofs() {
    let store = TestStore::new();
    for (settings, store, expected) in [
        (
            json!({}),
            None,
            Some("accepted; other nodes do not know which proofs were used here, without `session.store_url`"),
        ),
        (
            json!({}),
            Some(&store),
            Some("accepted; all nodes know which proofs were used"),
        ),
        (
            json!({ "dpop_tokens": "required" }),
            Some(&store),
            Some("required; all nodes know which proofs were used"),
        ),
    ] {
        let provider = TestProvider::start().await;
        let log = Log::listen();
        let rocket = rocket(&provider, settings, &Clock::fixed_at(NOW), store);
        let _client = Client::untracked(rocket).await.unwrap();
        let lines = log.lines_with_report();
        let line = lines
            .iter()
            .find_map(|line| line.strip_prefix("INFO: proofs of possession (DPoP): "));
        assert_eq!(line, expected, "{lines:#?}");
    }
}

#[rocket::async_test]
async fn required_of_every_guard() {
    let api = Api::with(json!({ "dpop_tokens": "required" })).await;
    api.prove("/notes", &api.token(), |_| ()).await.is_accepted();
    for token in [api.token(), api.provider.access_token("notes:read", |_| ())] {
        let answer = api.send(Method::Get, "/notes", &format!("Bearer {token}"), &[]).await;
        let error = "error=\"invalid_token\", error_description=\"a token that is bound to a key is required\"";
        assert_eq!(
            (answer.status, answer.challenges),
            (401, vec![format!("DPoP realm=\"api\", {error}, {METADATA}, {ALGS}")])
        );
    }
}

/// Whatever the setting says, a bound token is never a bearer token.
#[rocket::async_test]
async fn off_accepts_no_bound_token() {
    let provider = TestProvider::start().await;
    let api = crate::bearer::app::Api::at(provider, json!({})).await;
    let token = super::app::bound_token(&api.provider, &crate::support::SigningKey::Ec);
    let answer = api.call("/whoami", &token).await;
    let expected = "the token is bound to a key, which the request does not prove";
    assert_eq!(answer, crate::bearer::app::refused(expected));
    let proof = super::app::proof("http://localhost:8000/whoami", &token).compact();
    let mut request = api.client.get("/whoami");
    request.add_header(rocket::http::Header::new("Authorization", format!("DPoP {token}")));
    request.add_header(rocket::http::Header::new("DPoP", proof));
    let answer = crate::bearer::app::Answer::to(request).await;
    let challenge = format!("Bearer realm=\"api\", {}", crate::bearer::app::METADATA);
    assert_eq!((answer.status, answer.challenge), (401, Some(challenge)));
}

#[rocket::async_test]
async fn the_age_of_a_proof_is_a_setting() {
    let api = Api::with(json!({ "dpop_max_age": "5m" })).await;
    let token = api.token();
    let old = |age: i64| move |proof: &mut JwtParts| proof.set("iat", NOW - age);
    api.prove("/notes", &token, old(300)).await.is_accepted();
    let answer = api.prove("/notes", &token, old(301)).await;
    answer.is_refused("invalid_dpop_proof", "the proof is too old");
    let answer = api.prove("/notes", &token, old(-11)).await;
    answer.is_refused("invalid_dpop_proof", "the proof is not valid now");
    api.clock.advance(Duration::from_secs(1));
    api.prove("/notes", &token, old(-11)).await.is_accepted();
}

#[rocket::async_test]
async fn settings_have_bounds() {
    let provider = TestProvider::start().await;
    for (name, value, cause) in [
        (
            "dpop_max_age",
            json!("11m"),
            "the duration is not from 1 second to 10 minutes",
        ),
        (
            "dpop_max_age",
            json!(0),
            "the duration is not from 1 second to 10 minutes",
        ),
        ("dpop_max_proofs", json!(15), "expected 16 or more, found 15"),
        ("dpop_tokens", json!("on"), "unknown value \"on\""),
    ] {
        let rocket = rocket(&provider, json!({ name: value }), &Clock::fixed_at(NOW), None);
        let (_, lines) = launch_failure(rocket).await;
        assert!(lines[0].ends_with(&format!(": {cause}")), "{lines:#?}");
    }
}
