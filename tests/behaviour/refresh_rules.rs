//! What a refresh changes, keeps and ends, whatever the provider answers.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use rocket::{futures::future::join, http::Status, serde::json::Value};
use serde_json::json;

use crate::{
    common::{App, KEY, Log, NOW, locked},
    records::{DUE, Numbers, give_cookies, is_of_session, node, record, session_cookies, signed_in},
    support::{Browser, Misbehaviour, Reply, SigningKey, TestProvider},
};

const TOKEN: &str = "/token";
const JWKS: &str = "/jwks";
const STORES: [&str; 2] = ["cookie", "memory"];
/// Longer than any pause between two attempts to refresh a session, or two looks at the provider's keys.
const LATER: Duration = Duration::from_secs(15 * 60);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

/// The refresh tokens that the token endpoint saw, in order.
fn refresh_tokens_sent(provider: &TestProvider) -> Vec<String> {
    let requests = provider.requests_to(TOKEN);
    let sent = requests.iter().filter_map(|r| r.form_value("refresh_token"));
    sent.map(str::to_owned).collect()
}

/// A provider that rotates refresh tokens ends the whole session at the second use.
#[track_caller]
fn assert_no_refresh_token_twice(provider: &TestProvider) {
    let mut sent = refresh_tokens_sent(provider);
    let count = sent.len();
    sent.sort_unstable();
    sent.dedup();
    assert_eq!(sent.len(), count, "a refresh token was sent again");
}

#[track_caller]
fn has_error(log: &Log, word: &str) {
    let lines = log.lines();
    let mut errors = lines.iter().filter(|line| line.starts_with("ERROR"));
    assert!(errors.any(|line| line.contains(word)), "{lines:#?}");
}

/// Signed in, at a time when the session is due.
async fn due(app: &App, provider: &TestProvider) -> Browser {
    let browser = signed_in(app, provider).await;
    app.advance(DUE);
    browser
}

// ---- Claims.

#[rocket::async_test]
async fn a_claim_that_the_refreshed_id_token_does_not_have_is_removed() {
    for store in STORES {
        let provider = TestProvider::start().await;
        provider.user_claims(json!({ "sub": "alice", "name": "Alice Liddell" }));
        provider.on_id_token(|token| {
            token.set("groups", json!(["admin"]));
            token.set("locale", "en-GB");
        });
        let app = App::new(&provider).with("oidc.session.store", store);
        let browser = signed_in(&app, &provider).await;
        let before = record(&browser).await.expect("signed in");
        assert_eq!(before["claims"]["groups"], json!(["admin"]));

        provider.on_id_token(|token| token.set("locale", "de-DE"));
        app.advance(DUE);
        let after = record(&browser).await.expect("signed in");
        assert_eq!(after["claims"].get("groups"), None, "{after}");
        assert_eq!(after["claims"]["locale"], "de-DE");
        // UserInfo was not asked again: what it said stays.
        assert_eq!(after["claims"]["name"], "Alice Liddell");
    }
}

#[rocket::async_test]
async fn a_claim_that_user_info_no_longer_has_is_removed() {
    for store in STORES {
        let provider = TestProvider::start().await;
        let app = App::new(&provider)
            .with("oidc.session.store", store)
            .with("oidc.session.refresh_user_info", true);
        provider.on_id_token(|token| token.set("locale", "en-GB"));
        let browser = signed_in(&app, &provider).await;
        let before = record(&browser).await.expect("signed in");
        assert_eq!(before["claims"]["groups"], json!(["users", "admin"]));

        provider.user_claims(json!({ "sub": "alice", "name": "Alice Hargreaves" }));
        app.advance(DUE);
        let after = record(&browser).await.expect("signed in");
        assert_eq!(after["claims"].get("groups"), None, "{after}");
        assert_eq!(after["claims"].get("email"), None, "{after}");
        assert_eq!(after["claims"]["name"], "Alice Hargreaves");
        assert_eq!(after["claims"]["locale"], "en-GB", "of the ID token");
    }
}

#[rocket::async_test]
async fn a_source_that_does_not_answer_changes_nothing() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with("oidc.session.refresh_user_info", true);
    provider.on_id_token(|token| token.set("locale", "en-GB"));
    let browser = signed_in(&app, &provider).await;
    // A reply without an ID token, and no UserInfo.
    provider.on_refresh_response(|reply| reply.remove("id_token"));
    provider.on_user_info(|reply| *reply = Reply::status(503));
    app.advance(DUE);
    let after = record(&browser).await.expect("signed in");
    for (claim, value) in [
        ("groups", json!(["users", "admin"])),
        ("email", json!("alice@example.com")),
        ("locale", json!("en-GB")),
    ] {
        assert_eq!(after["claims"][claim], value, "{claim}");
    }
    // The accepted tokens are used, and the look at UserInfo stays due.
    assert!(after["access_token"].is_string(), "{after}");
    provider.on_user_info(|reply| reply.set("email", "new@example.com"));
    app.advance(minutes(4));
    let after = record(&browser).await.expect("signed in");
    assert_eq!(after["claims"]["email"], "new@example.com");
}

/// Refreshed ID tokens of many providers leave out what names the sign-in.
#[rocket::async_test]
async fn claims_that_name_the_sign_in_survive_their_absence() {
    let provider = TestProvider::start().await;
    provider.on_id_token(|token| {
        token.set("azp", "app");
        token.set("acr", "gold");
        token.set("amr", json!(["pwd", "otp"]));
        token.set("locale", "en-GB");
    });
    let app = App::new(&provider);
    let browser = signed_in(&app, &provider).await;
    let before = record(&browser).await.expect("signed in");
    provider.on_id_token(|token| {
        token.remove("sid");
        token.remove("auth_time");
    });
    app.advance(DUE);
    let after = record(&browser).await.expect("signed in");
    for claim in ["iss", "sub", "aud", "azp", "sid", "auth_time", "acr", "amr"] {
        assert!(before["claims"].get(claim).is_some(), "{claim}");
        assert_eq!(after["claims"][claim], before["claims"][claim], "{claim}");
    }
    assert_eq!(after["claims"].get("locale"), None);
}

#[rocket::async_test]
async fn an_address_and_whether_it_is_verified_come_from_one_source() {
    for (value, verified, other) in [
        ("email", "email_verified", "mallory@example.com"),
        ("phone_number", "phone_number_verified", "+44 20 7946 0999"),
    ] {
        let provider = TestProvider::start().await;
        provider.on_id_token(move |token| {
            token.set(value, "first");
            token.set(verified, true);
        });
        provider.user_claims(json!({ "sub": "alice", value: other }));
        let app = App::new(&provider);
        let browser = signed_in(&app, &provider).await;
        for _ in 0..2 {
            let seen = record(&browser).await.expect("signed in");
            let claims = &seen["claims"];
            let pair = (&claims[value], &claims[verified]);
            assert!(
                pair == (&json!("first"), &json!(true)) || pair == (&json!(other), &Value::Null),
                "{pair:?}"
            );
            app.advance(DUE);
        }
    }
}

#[rocket::async_test]
async fn a_newer_auth_time_is_no_other_sign_in() {
    for store in STORES {
        let provider = TestProvider::start().await;
        let app = App::new(&provider).with("oidc.session.store", store);
        let browser = due(&app, &provider).await;
        provider.on_id_token(|token| token.set("auth_time", NOW + 200));
        let log = Log::listen();
        let after = record(&browser).await.expect("signed in");
        assert!(after["access_token"].is_string(), "{after}");
        assert_eq!(after["claims"]["auth_time"], json!(NOW + 200));
        assert!(
            log.lines().iter().any(|line| line.contains("auth_time")),
            "{:#?}",
            log.lines()
        );
        app.advance(DUE);
        assert!(record(&browser).await.is_some());
    }
}

/// A profile that grows until no session can hold it must not keep the old groups alive.
#[rocket::async_test]
async fn a_session_that_became_too_large_ends() {
    for in_user_info in [false, true] {
        for size in [30_000, 120_000] {
            let provider = TestProvider::start().await;
            provider.user_claims(json!({ "sub": "alice", "groups": ["admin"] }));
            let app = App::new(&provider).with("oidc.session.refresh_user_info", in_user_info);
            let browser = due(&app, &provider).await;
            let large = Numbers::seeded(35).text(size);
            if in_user_info {
                provider.user_claims(json!({ "sub": "alice", "large": large }));
            } else {
                provider.on_id_token(move |token| token.set("large", large.clone()));
            }
            browser.fetch("/record").await.is(Status::Unauthorized);
            app.advance(LATER);
            assert_eq!(record(&browser).await, None, "{size}");
        }
    }
}

// ---- Replies that cannot be judged, or are wrong.

/// The provider signs with a key that is not known yet, and does not tell its keys.
fn rotate_out_of_sight(provider: &TestProvider) {
    provider.rotate_rsa_key();
    provider.on_path(JWKS, Reply::status(503));
}

#[rocket::async_test]
async fn a_rotated_refresh_token_survives_while_the_keys_cannot_be_read() {
    for store in STORES {
        let provider = TestProvider::start().await;
        let app = App::new(&provider).with("oidc.session.store", store);
        let browser = signed_in(&app, &provider).await;
        let before = record(&browser).await.expect("signed in");
        app.advance(DUE);
        rotate_out_of_sight(&provider);

        let pending = record(&browser).await.expect("signed in");
        assert_eq!(provider.count(TOKEN), 2);
        assert_eq!(pending["claims"], before["claims"], "{store}");
        assert!(pending["access_token"].get("error").is_some(), "{pending}");
        for _ in 0..3 {
            app.advance(minutes(1));
            let pending = record(&browser).await.expect("signed in");
            assert!(pending["access_token"].get("error").is_some(), "{pending}");
        }

        provider.clear_path(JWKS);
        app.advance(LATER);
        let after = record(&browser).await.expect("signed in");
        assert!(after["access_token"].is_string(), "{store}: {after}");
        app.advance(DUE);
        let after = record(&browser).await.expect("signed in");
        assert!(after["access_token"].is_string(), "{store}: {after}");
        assert_no_refresh_token_twice(&provider);
        assert!(refresh_tokens_sent(&provider).len() >= 3);
    }
}

/// A token of another type, or of another certificate, is of no use; the refresh token beside it is the newest one.
#[rocket::async_test]
async fn a_rotated_refresh_token_survives_an_access_token_of_no_use() {
    let of_another = format!("e30.{}.AAAA", STANDARD_NO_PAD.encode(r#"{"cnf":{"x5t#S256":"AAAA"}}"#));
    let files = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/behaviour/client_certificate");
    for (member, value, cause) in [
        ("token_type", "mac", "`token_type` is `mac`, expected `Bearer`"),
        ("token_type", "DPoP", "`token_type` is `DPoP`, expected `Bearer`"),
        (
            "access_token",
            &*of_another,
            "the access token is bound to another certificate",
        ),
    ] {
        for store in STORES {
            let provider = TestProvider::start().await;
            let app = App::new(&provider)
                .with("oidc.session.store", store)
                .with("oidc.tls_client_certificate", format!("{files}/client.pem"))
                .with("oidc.tls_client_key", format!("{files}/client.key"));
            let browser = due(&app, &provider).await;
            let value = value.to_owned();
            provider.on_refresh_response(move |reply| reply.set(member, value.clone()));
            let log = Log::listen();
            let pending = record(&browser).await.expect("signed in");
            assert!(pending["access_token"].get("error").is_some(), "{pending}");
            assert!(log.lines().join("\n").contains(cause), "{:?}", log.lines());

            provider.be_honest();
            app.advance(LATER);
            let after = record(&browser).await.expect("signed in");
            assert!(after["access_token"].is_string(), "{store} {cause}: {after}");
            assert_no_refresh_token_twice(&provider);
        }
    }
}

/// Only the holder of the newest cookie goes on: the copy from before has nothing that the provider takes.
#[rocket::async_test]
async fn a_copy_from_before_a_reply_that_waits_for_keys_sends_no_spent_token() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = due(&app, &provider).await;
    let old = session_cookies(&browser);
    rotate_out_of_sight(&provider);
    record(&browser).await.expect("signed in");
    let copy = browser.another();
    give_cookies(&copy, &old);
    for _ in 0..3 {
        app.advance(minutes(1));
        if let Some(seen) = record(&copy).await {
            assert!(seen["access_token"].get("error").is_some(), "{seen}");
        }
    }
    provider.clear_path(JWKS);
    app.advance(LATER);
    let after = record(&browser).await.expect("signed in");
    assert!(after["access_token"].is_string(), "{after}");
    assert_no_refresh_token_twice(&provider);
}

/// The replies of the token endpoint to refresh requests, from now on.
fn replies(provider: &TestProvider) -> Arc<Mutex<Vec<Value>>> {
    let replies: Arc<Mutex<Vec<Value>>> = Arc::default();
    let kept = replies.clone();
    provider.on_refresh_response(move |reply| {
        let body = serde_json::from_slice(&reply.body).expect("a reply in JSON");
        locked(&kept).push(body);
    });
    replies
}

#[rocket::async_test]
async fn another_persons_tokens_reach_no_handler_while_the_keys_cannot_be_read() {
    for store in STORES {
        let provider = TestProvider::start().await;
        let app = App::new(&provider).with("oidc.session.store", store);
        let browser = due(&app, &provider).await;
        rotate_out_of_sight(&provider);
        provider.on_id_token(|token| token.set("sub", "bob"));
        let replies = replies(&provider);
        for _ in 0..3 {
            let seen = record(&browser).await.expect("signed in");
            assert_eq!(seen["claims"]["sub"], "alice");
            assert!(seen["access_token"].get("error").is_some(), "{seen}");
            app.advance(minutes(1));
        }

        provider.clear_path(JWKS);
        app.advance(LATER);
        browser.fetch("/record").await.is(Status::Unauthorized);
        let last = locked(&replies).last().cloned().expect("a reply");
        let token = last["refresh_token"].as_str().expect("a refresh token");
        provider.until_requested("/revoke", 1).await;
        assert!(provider.revoked_tokens().iter().any(|t| t == token), "{store}");
        app.advance(LATER);
        assert_eq!(record(&browser).await, None, "{store}");
    }
}

#[rocket::async_test]
async fn a_rejected_refresh_ends_the_session_and_revokes_its_tokens() {
    for store in STORES {
        for is_of_bob in [true, false] {
            let provider = TestProvider::start().await;
            let app = App::new(&provider).with("oidc.session.store", store);
            let browser = due(&app, &provider).await;
            if is_of_bob {
                provider.on_id_token(|token| token.set("sub", "bob"));
            } else {
                provider.on_id_token(|token| token.sign_with(SigningKey::Foreign));
            }
            let replies = replies(&provider);
            browser.fetch("/record").await.is(Status::Unauthorized);
            let reply = locked(&replies).last().cloned().expect("a reply");
            let token = reply["refresh_token"].as_str().expect("a refresh token");
            provider.until_requested("/revoke", 1).await;
            assert!(provider.revoked_tokens().iter().any(|t| t == token), "{store}");
        }
    }
}

/// The provider signs the person out while it is asked for tokens, or for claims after that.
#[rocket::async_test]
async fn tokens_of_a_refresh_are_revoked_if_the_session_ended_meanwhile() {
    for (store, path) in [
        ("cookie", TOKEN),
        ("memory", TOKEN),
        ("cookie", "/userinfo"),
        ("memory", "/userinfo"),
    ] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider)
            .with("oidc.session.store", store)
            .with("oidc.session.refresh_user_info", true);
        let browser = due(&app, &provider).await;
        let replies = replies(&provider);
        let held = provider.hold(path);
        let end = async {
            provider.until_requested(path, 2).await;
            let page = browser.post_logout_token(&provider.logout_token(|_| ())).await;
            page.is(Status::Ok);
            held.release();
        };
        let (page, ()) = join(browser.fetch("/record"), end).await;
        page.is(Status::Unauthorized);
        let reply = locked(&replies).last().cloned().expect("a reply");
        provider.until_requested("/revoke", 2).await;
        let revoked = provider.revoked_tokens();
        for token in ["refresh_token", "access_token"] {
            let token = reply[token].as_str().expect("a token");
            assert!(revoked.contains(&token.to_owned()), "{store} {path}");
        }
        assert_eq!(record(&browser).await, None, "{store} {path}");
    }
}

#[rocket::async_test]
async fn an_empty_token_in_a_reply_is_an_absent_one() {
    for store in STORES {
        for value in [json!(""), Value::Null] {
            for member in ["id_token", "refresh_token"] {
                let provider = TestProvider::start().await;
                let app = App::new(&provider).with("oidc.session.store", store);
                let browser = signed_in(&app, &provider).await;
                let first = record(&browser).await.expect("signed in");
                let kept = first["refresh_token"].clone();
                let empty = value.clone();
                provider.on_refresh_response(move |reply| reply.set(member, empty.clone()));
                app.advance(DUE);
                let after = record(&browser).await.expect("signed in");
                assert!(after["access_token"].is_string(), "{member}: {after}");
                assert_ne!(after["access_token"], first["access_token"], "{member}");
                assert_eq!(after["claims"]["email"], first["claims"]["email"]);
                if member == "refresh_token" {
                    assert_eq!(after["refresh_token"], kept);
                    app.advance(DUE);
                    record(&browser).await;
                    let sent = refresh_tokens_sent(&provider);
                    assert_eq!(json!(sent), json!([kept, kept]), "{value}");
                } else {
                    app.advance(DUE);
                    assert!(record(&browser).await.is_some(), "{member}");
                    assert_no_refresh_token_twice(&provider);
                }
            }
        }
    }
}

/// An expired client secret is the operator's to mend, and signs nobody out.
#[rocket::async_test]
async fn a_client_that_the_provider_does_not_accept_keeps_its_sessions() {
    for store in STORES {
        for (status, error) in [
            (401, "invalid_client"),
            (400, "invalid_client"),
            (400, "unauthorized_client"),
        ] {
            let provider = TestProvider::start().await;
            let app = App::new(&provider).with("oidc.session.store", store);
            let browser = due(&app, &provider).await;
            provider.on_refresh_response(move |reply| *reply = Reply::error(status, error, ""));
            let log = Log::listen();
            for _ in 0..3 {
                assert!(record(&browser).await.is_some(), "{error}");
                app.advance(minutes(1));
            }
            has_error(&log, error);
            drop(log);

            provider.be_honest();
            app.advance(LATER);
            let after = record(&browser).await.expect("signed in");
            assert!(after["access_token"].is_string(), "{after}");
        }
    }
}

#[rocket::async_test]
async fn a_provider_that_wants_the_person_gets_the_person() {
    for error in [
        "interaction_required",
        "login_required",
        "consent_required",
        "invalid_grant",
    ] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider);
        let browser = due(&app, &provider).await;
        provider.on_refresh_response(move |reply| *reply = Reply::error(400, error, ""));
        browser.fetch("/record").await.is(Status::Unauthorized);
        browser.visit("/me").await.redirects_to("/oidc/login");
    }
}

// ---- When a refresh is due.

fn without_expires_in(provider: &TestProvider) {
    provider.on_token_response(|reply| {
        if reply.status == 200 {
            reply.remove("expires_in");
        }
    });
}

#[rocket::async_test]
async fn a_session_without_expires_in_is_refreshed_after_an_hour() {
    for store in STORES {
        for interval in [None, Some(("10m", 600))] {
            let provider = TestProvider::start().await;
            without_expires_in(&provider);
            provider.user_claims(json!({ "sub": "alice" }));
            provider.on_id_token(|token| token.set("groups", json!(["admin"])));
            let mut app = App::new(&provider)
                .with("oidc.session.store", store)
                .with("oidc.session.idle_timeout", "3h");
            if let Some((text, _)) = interval {
                app = app.with("oidc.session.refresh_interval", text);
            }
            let due = interval.map_or(3600, |(_, seconds)| seconds);
            let browser = signed_in(&app, &provider).await;
            provider.on_id_token(|token| token.set("groups", json!(["users"])));
            app.advance(seconds(due - due / 10));
            let before = record(&browser).await.expect("signed in");
            assert_eq!(before["claims"]["groups"], json!(["admin"]));
            assert_eq!(provider.count(TOKEN), 1);

            app.advance(seconds(due / 10));
            let after = record(&browser).await.expect("signed in");
            assert_eq!(after["claims"]["groups"], json!(["users"]));
            assert_eq!(provider.count(TOKEN), 2);
            assert!(after["access_token"].is_string(), "{after}");
            app.advance(seconds(due));
            record(&browser).await.expect("signed in");
            assert_eq!(provider.count(TOKEN), 3);
        }
    }
}

// ---- Grace.

#[rocket::async_test]
async fn a_refusal_that_names_no_error_asks_for_a_new_sign_in() {
    for store in STORES {
        let provider = TestProvider::start().await;
        let app = App::new(&provider).with("oidc.session.store", store);
        let browser = due(&app, &provider).await;
        provider.on_path(TOKEN, Reply::json(json!({ "ok": false })).with_status(400));
        let copy = browser.another();
        give_cookies(&copy, &browser.cookies());
        browser.fetch("/record").await.is(Status::Unauthorized);
        copy.visit("/me").await.redirects_to("/oidc/login");
        assert_eq!(provider.count(TOKEN), 2, "{store}");
    }
}

/// Each way in which a provider is out of order.
fn outages() -> Vec<Misbehaviour> {
    let html = Reply::text("text/html", "<h1>Oops</h1>");
    vec![
        Reply::status(503).into(),
        html.clone().with_status(400).into(),
        html.into(),
        Reply::error(408, "timeout", "").into(),
        Reply::error(429, "slow_down", "").into(),
        Misbehaviour::Drop,
    ]
}

#[rocket::async_test]
async fn an_outage_of_two_hours_does_not_sign_out() {
    for store in STORES {
        for outage in outages() {
            let provider = TestProvider::start().await;
            let app = App::new(&provider).with("oidc.session.store", store);
            let browser = due(&app, &provider).await;
            provider.on_path(TOKEN, outage.clone());
            for _ in 0..8 {
                let seen = record(&browser).await.expect("signed in");
                assert_eq!(seen["claims"]["sub"], "alice");
                app.advance(minutes(15));
            }
            provider.clear_path(TOKEN);
            app.advance(LATER);
            let after = record(&browser).await.expect("signed in");
            assert!(after["access_token"].is_string(), "{outage:?}: {after}");
        }
    }
}

/// An answer while the provider has been out of order for longer than the grace.
async fn assert_waits(browser: &Browser) {
    let cookies = session_cookies(browser);
    for page in [browser.fetch("/record").await, browser.visit("/me").await] {
        page.is(Status::ServiceUnavailable);
        let wait = page.header("Retry-After").and_then(|wait| wait.parse().ok());
        assert!(wait.is_some_and(|wait: u64| (5..=60).contains(&wait)), "{page:#?}");
    }
    let page = browser.visit("/visitor").await;
    assert_eq!(page.is(Status::Ok).body, "null");
    assert_eq!(session_cookies(browser).len(), cookies.len());
}

#[rocket::async_test]
async fn beyond_the_grace_a_session_pauses_and_resumes_after_the_outage() {
    for store in STORES {
        for grace in [None, Some(("30m", 30))] {
            let provider = TestProvider::start().await;
            let mut app = App::new(&provider).with("oidc.session.store", store);
            if let Some((text, _)) = grace {
                app = app.with("oidc.session.refresh_grace", text);
            }
            let grace = grace.map_or(240, |(_, minutes)| minutes);
            let browser = due(&app, &provider).await;
            provider.on_path(TOKEN, Reply::status(503));
            for _ in 0..(grace - 10) / 10 {
                assert!(record(&browser).await.is_some());
                app.advance(minutes(10));
            }
            assert!(record(&browser).await.is_some());
            // A 503 is use: more than an hour of them does not make the session idle.
            app.advance(minutes(11));
            for _ in 0..5 {
                assert_waits(&browser).await;
                app.advance(minutes(20));
            }
            let asked = provider.count(TOKEN);
            assert_waits(&browser).await;
            assert!(provider.count(TOKEN) > asked, "a due request tries first");

            provider.clear_path(TOKEN);
            app.advance(LATER);
            let after = record(&browser).await.expect("signed in again");
            assert!(after["access_token"].is_string(), "{after}");
            assert_eq!(after["claims"]["sub"], "alice");
            assert_no_refresh_token_twice_but_in_outage(&provider);
        }
    }
}

/// The same token was sent again and again while nothing was spent, and another one never came.
#[track_caller]
fn assert_no_refresh_token_twice_but_in_outage(provider: &TestProvider) {
    let mut sent = refresh_tokens_sent(provider);
    sent.dedup();
    assert_eq!(sent.len(), 1, "{} tokens were sent", sent.len());
}

#[rocket::async_test]
async fn a_person_signs_out_while_the_provider_is_out_of_order() {
    for store in STORES {
        let provider = TestProvider::start().await;
        let app = App::new(&provider)
            .with("secret_key", KEY)
            .with("oidc.session.store", store)
            .with("oidc.session.refresh_grace", "10m");
        let browser = due(&app, &provider).await;
        provider.on_path(TOKEN, Reply::status(503));
        app.advance(minutes(11));
        assert_waits(&browser).await;
        let copy = browser.another();
        give_cookies(&copy, &session_cookies(&browser));

        browser.submit("/oidc/logout", "").await.is(Status::SeeOther);
        let left = browser.cookies().into_iter().map(|(name, _)| name);
        let left: Vec<_> = left.filter(|name| is_of_session(name)).collect();
        assert_eq!(left, [""; 0]);
        provider.clear_path(TOKEN);
        app.advance(LATER);
        for browser in [&browser, &copy] {
            assert_eq!(record(browser).await, None, "{store}");
        }
    }
}

/// A node that starts in the outage reads the time since when the session is due from the session itself.
#[rocket::async_test]
async fn a_restart_does_not_begin_the_grace_anew() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider)
        .with("secret_key", KEY)
        .with("oidc.session.refresh_grace", "30m");
    let browser = due(&app, &provider).await;
    provider.on_path(TOKEN, Reply::status(503));
    app.advance(minutes(20));
    assert!(record(&browser).await.is_some());
    app.advance(minutes(20));
    let restarted = node(&app).await;
    give_cookies(&restarted, &session_cookies(&browser));
    assert_waits(&restarted).await;
}
