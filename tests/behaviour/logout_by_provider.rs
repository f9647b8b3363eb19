//! The provider ends sessions: back-channel and front-channel logout.

use std::{net::SocketAddr, time::Duration};

use rocket::{
    http::{ContentType, Method, Status},
    serde::json::{Value, json},
};
use sqlx::{Connection, Executor, SqliteConnection};
use tempfile::TempDir;

use crate::{
    common::{App, Log, NOW, assert_signed_out, frontchannel_logout, signed_in, sqlite_url},
    records::{give_cookies, session_cookies},
    support::{Browser, Call, JwtParts, Page, SigningKey, TestProvider, TestStore, case},
};

const BACKCHANNEL: &str = "/oidc/backchannel-logout";
/// A secret key of before.
const OTHER_KEY: &str = "b3RoZXJvdGhlcm90aGVyb3RoZXJvdGhlcm90aGVybzE=";

/// What the provider's own HTTP client sends: no cookie, no header of a browser.
async fn post(browser: &Browser, body: &str) -> Page {
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    browser.another().request(Method::Post, BACKCHANNEL, &form, body).await
}

async fn logout(browser: &Browser, logout_token: &str) -> Page {
    browser.post_logout_token(logout_token).await
}

#[track_caller]
fn accepted(page: &Page) {
    assert_eq!(page.is(Status::Ok).body, "");
    assert_eq!(page.header("Cache-Control"), Some("no-store"));
}

#[track_caller]
fn refused(page: &Page, description: &str) {
    case(description);
    page.is(Status::BadRequest);
    assert_eq!(page.header("Cache-Control"), Some("no-store"));
    assert_eq!(page.header("Content-Type"), Some("application/json"));
    assert_eq!(
        page.json::<Value>(),
        json!({ "error": "invalid_request", "error_description": description })
    );
}

/// Whatever a stranger posts, the provider's own logout token by a new key is accepted.
#[rocket::async_test]
async fn a_stranger_does_not_keep_a_logout_token_from_a_new_key() {
    let provider = TestProvider::start().await;
    let browser = signed_in(&App::new(&provider), &provider).await;
    let post_from = async |logout_token: &str, address: &str| {
        let request = browser.client().post(BACKCHANNEL);
        let request = request.header(ContentType::Form);
        let request = request.body(format!("logout_token={logout_token}"));
        let peer = SocketAddr::new(address.parse().unwrap(), 50_000);
        request.remote(peer).dispatch().await.status()
    };
    let made_up = provider.logout_token(|token| token.set_header("kid", "made-up"));
    for _ in 0..10 {
        let status = post_from(&made_up, "192.0.2.1").await;
        assert_eq!(status, Status::BadRequest);
    }
    assert_eq!(provider.count("/jwks"), 2);
    provider.rotate_rsa_key();
    let logout_token = provider.logout_token(|_| ());
    let status = post_from(&logout_token, "198.51.100.1").await;
    assert_eq!(status, Status::Ok);
    assert_signed_out(&browser).await;
}

#[rocket::async_test]
async fn a_sid_ends_one_session() {
    for store in ["cookie", "memory"] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider).with("oidc.session.store", store);
        let first = signed_in(&app, &provider).await;
        let second = first.another();
        second.sign_in(&provider, "/me").await.is(Status::Ok);
        // The latest sign-in's.
        accepted(&logout(&first, &provider.logout_token(|_| ())).await);
        assert_signed_out(&second).await;
        first.visit("/me").await.is(Status::Ok);
        second.sign_in(&provider, "/me").await.is(Status::Ok);
    }
}

#[rocket::async_test]
async fn a_sub_ends_all_sessions_of_that_user_only() {
    for store in ["cookie", "memory"] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider).with("oidc.session.store", store);
        let first = signed_in(&app, &provider).await;
        let second = first.another();
        second.sign_in(&provider, "/me").await.is(Status::Ok);
        let bob = first.another();
        provider.user_claims(json!({ "sub": "bob" }));
        bob.sign_in(&provider, "/me").await.is(Status::Ok);

        let token = provider.logout_token(|token| {
            token.remove("sid");
            token.set("sub", "alice");
        });
        accepted(&logout(&first, &token).await);
        for browser in [&first, &second] {
            assert_signed_out(browser).await;
        }
        bob.visit("/me").await.is(Status::Ok).sees("bob");

        // The person may sign in again, a moment later.
        app.advance(Duration::from_secs(1));
        provider.user_claims(json!({ "sub": "alice" }));
        first.sign_in(&provider, "/me").await.is(Status::Ok);
        first.visit("/me").await.is(Status::Ok);
    }
}

#[rocket::async_test]
async fn the_logout_of_an_unknown_session_is_a_success() {
    for store in ["cookie", "memory"] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider).with("oidc.session.store", store);
        let browser = signed_in(&app, &provider).await;
        for sid in ["sid-1", "sid-1", "sid-999"] {
            accepted(&logout(&browser, &provider.logout_token(|token| token.set("sid", sid))).await);
        }
        assert_signed_out(&browser).await;
    }
}

#[rocket::async_test]
async fn logout_token_replayed() {
    for store in ["cookie", "memory"] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider).with("oidc.session.store", store);
        let browser = signed_in(&app, &provider).await;
        let token = provider.logout_token(|_| ());
        accepted(&logout(&browser, &token).await);
        let page = logout(&browser, &token).await;
        refused(&page, "the logout token is rejected: the logout token was used before");
    }
}

/// The provider sends it again then. It is remembered under the name of each key.
#[rocket::async_test]
async fn a_logout_token_that_may_have_been_claimed_is_accepted_again() {
    for lost in [1, 2] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider).with("oidc.previous_secret_keys", [OTHER_KEY]);
        let store = TestStore::new();
        let browser = signed_in(&app.over(&store), &provider).await;
        let token = provider.logout_token(|_| ());
        store.lose_answer(Call::Lock, lost);
        let page = logout(&browser, &token).await;
        refused(&page, "the session store is not reachable: the answer is lost");
        browser.visit("/me").await.is(Status::Ok);
        accepted(&logout(&browser, &token).await);
        assert_signed_out(&browser).await;

        // Whose claim it was is not known: another one's stays.
        store.lose_answer(Call::Lock, 1);
        logout(&browser, &token).await.is(Status::BadRequest);
        let page = logout(&browser, &token).await;
        refused(&page, "the logout token is rejected: the logout token was used before");
    }
}

/// While the keys are changed, the first key of one node is another's second, or no key of it.
#[rocket::async_test]
async fn a_logout_token_is_accepted_once_at_nodes_with_other_first_keys() {
    let (new, old) = (crate::common::KEY, OTHER_KEY);
    let (old_alone, new_first, old_first) = ((old, None), (new, Some(old)), (old, Some(new)));
    for (here, there) in [
        (new_first, old_alone),
        (old_alone, new_first),
        (new_first, old_first),
        (old_first, new_first),
    ] {
        let provider = TestProvider::start().await;
        let store = TestStore::new();
        let node = async |(key, previous): (&str, Option<&str>)| {
            let app = App::new(&provider)
                .with("secret_key", key)
                .with("oidc.previous_secret_keys", Vec::from_iter(previous));
            app.over(&store).open().await
        };
        let (here, there) = (node(here).await, node(there).await);
        here.sign_in(&provider, "/me").await.is(Status::Ok);
        let token = provider.logout_token(|_| ());
        accepted(&logout(&here, &token).await);
        assert_signed_out(&here).await;
        for node in [&there, &here] {
            let page = logout(node, &token).await;
            refused(&page, "the logout token is rejected: the logout token was used before");
        }
    }
}

/// Also one without `exp`, which is accepted for two minutes.
#[rocket::async_test]
async fn a_logout_token_without_exp_is_accepted_once_until_it_is_too_old() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with("oidc.session.store", "memory");
    let browser = signed_in(&app, &provider).await;
    let token = provider.logout_token(|token| token.remove("exp"));
    accepted(&logout(&browser, &token).await);
    app.advance(Duration::from_secs(120));
    let page = logout(&browser, &token).await;
    refused(&page, "the logout token is rejected: the logout token was used before");
    app.advance(Duration::from_secs(1));
    let page = logout(&browser, &token).await;
    assert!(page.is(Status::BadRequest).body.contains("longer than 120 s ago"));
}

/// Some providers name sessions in logout tokens and not in ID tokens.
#[rocket::async_test]
async fn a_sub_beside_a_sid_ends_the_sessions_that_have_no_sid() {
    for store in ["cookie", "memory"] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider).with("oidc.session.store", store);
        let named = signed_in(&app, &provider).await;
        provider.on_id_token(|token| token.remove("sid"));
        let unnamed = named.another();
        unnamed.sign_in(&provider, "/me").await.is(Status::Ok);
        let bob = named.another();
        provider.user_claims(json!({ "sub": "bob" }));
        bob.sign_in(&provider, "/me").await.is(Status::Ok);

        // One without `sub` does not say whose.
        let token = provider.logout_token(|token| {
            token.remove("sub");
            token.set("sid", "sid-9");
        });
        accepted(&logout(&named, &token).await);
        unnamed.visit("/me").await.is(Status::Ok);
        let token = provider.logout_token(|token| {
            token.set("sub", "alice");
            token.set("sid", "sid-9");
        });
        accepted(&logout(&named, &token).await);
        assert_signed_out(&unnamed).await;
        for other in [&named, &bob] {
            other.visit("/me").await.is(Status::Ok);
        }
    }
}

/// A key of the same provider that signs other things signs no logout token.
#[rocket::async_test]
async fn logout_token_by_another_algorithm_than_the_id_tokens() {
    let provider = TestProvider::start().await;
    let browser = signed_in(&App::new(&provider), &provider).await;
    for (key, name) in [(SigningKey::Ec, "ES256"), (SigningKey::Ed, "EdDSA")] {
        let token = provider.logout_token(|token| token.sign_with(key));
        refused(
            &logout(&browser, &token).await,
            &format!("the logout token is rejected: the token is signed with {name}, expected RS256"),
        );
    }
    browser.visit("/me").await.is(Status::Ok);
    accepted(&logout(&browser, &provider.logout_token(|_| ())).await);
    assert_signed_out(&browser).await;
}

#[rocket::async_test]
async fn the_algorithm_of_the_last_id_token_is_the_logout_tokens() {
    let provider = TestProvider::start().await;
    provider.on_id_token(|token| token.sign_with(SigningKey::Ec));
    let app = App::new(&provider);
    let browser = signed_in(&app, &provider).await;
    let expected = "the logout token is rejected: the token is signed with RS256, expected ES256";
    refused(&logout(&browser, &provider.logout_token(|_| ())).await, expected);
    let token = provider.logout_token(|token| token.sign_with(SigningKey::Ec));
    accepted(&logout(&browser, &token).await);
    assert_signed_out(&browser).await;

    // Of a refresh too.
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    provider.on_id_token(|token| token.sign_with(SigningKey::Ed));
    app.advance(crate::records::DUE);
    browser.visit("/me").await.is(Status::Ok);
    let token = provider.logout_token(|token| token.sign_with(SigningKey::Ed));
    accepted(&logout(&browser, &token).await);
    assert_signed_out(&browser).await;
}

/// A node that was restarted, or is another one, learns it from a session.
#[rocket::async_test]
async fn the_algorithm_is_known_from_a_session_after_a_restart() {
    let provider = TestProvider::start().await;
    provider.on_id_token(|token| token.sign_with(SigningKey::Ec));
    let app = App::new(&provider);
    let before = signed_in(&app, &provider).await;
    let after = app.open().await;
    give_cookies(&after, &session_cookies(&before));
    after.visit("/me").await.is(Status::Ok);
    let token = provider.logout_token(|token| token.sign_with(SigningKey::Ec));
    accepted(&logout(&after, &token).await);
    assert_signed_out(&after).await;
}

/// The first thing that this node hears of the provider may be a logout token.
#[rocket::async_test]
async fn before_any_id_token_the_metadata_and_the_settings_say_the_algorithm() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let (rsa, ec) = (
        || provider.logout_token(|token| token.set("sub", "alice")),
        || provider.logout_token(|token| token.sign_with(SigningKey::Ec)),
    );
    signed_in(&app, &provider).await;
    let restarted = app.open().await;
    refused(
        &logout(&restarted, &ec()).await,
        "the logout token is rejected: the token is signed with ES256, expected RS256",
    );
    accepted(&logout(&restarted, &rsa()).await);

    let set = App::new(&provider).with("oidc.id_token_signing_algs", "ES256 RS256");
    let browser = set.open().await;
    for token in [ec(), rsa()] {
        accepted(&logout(&browser, &token).await);
    }

    provider.metadata(|metadata| {
        let only = json!(["ES256"]);
        metadata.insert("id_token_signing_alg_values_supported".into(), only);
    });
    accepted(&logout(&app.open().await, &ec()).await);
}

type Change = fn(&mut JwtParts);

/// Each changes one thing about an accepted logout token, and is refused with these words.
fn refused_logout_tokens() -> Vec<(Change, &'static str)> {
    [about_whom_and_what(), about_the_times(), about_the_signature()].concat()
}

const NO_EVENT: &str = "the claim \"events\" has no back-channel logout event";

fn about_whom_and_what() -> Vec<(Change, &'static str)> {
    vec![
        (|t| t.remove("iss"), "the claim \"iss\" is missing"),
        (
            |t| t.set("iss", "https://other.example"),
            "the token is issued by \"https://other.example\", expected \"{issuer}\"",
        ),
        (|t| t.set("iss", 1), "the claim \"iss\" is a number, not a string"),
        (|t| t.remove("aud"), "the claim \"aud\" is missing"),
        (
            |t| t.set("aud", "other"),
            "the token is meant for [\"other\"], expected \"app\" among them",
        ),
        (
            |t| t.set("aud", json!([])),
            "the token is meant for [], expected \"app\" among them",
        ),
        (
            |t| t.set("aud", json!(["app", "other"])),
            "the token is also meant for \"other\", which is not a trusted audience",
        ),
        (
            |t| t.set("aud", json!({ "app": true })),
            "the claim \"aud\" is an object, not a string or an array of strings",
        ),
        (
            |t| {
                t.remove("sub");
                t.remove("sid");
            },
            "the logout token has neither \"sub\" nor \"sid\"",
        ),
        (|t| t.set("sub", ""), "the claim \"sub\" is empty"),
        (|t| t.set("sub", 1), "the claim \"sub\" is a number, not a string"),
        (|t| t.set("sid", ""), "the claim \"sid\" is empty"),
        (
            |t| t.set("sid", json!(["sid-1"])),
            "the claim \"sid\" is an array, not a string",
        ),
        (|t| t.remove("jti"), "the claim \"jti\" is missing"),
        (|t| t.set("jti", ""), "the claim \"jti\" is empty"),
        (|t| t.set("jti", 1), "the claim \"jti\" is a number, not a string"),
        (|t| t.set("nonce", "n"), "the logout token has a \"nonce\""),
        (|t| t.remove("events"), "the claim \"events\" is missing"),
        (
            |t| t.set("events", json!([EVENT])),
            "the claim \"events\" is an array, not an object",
        ),
        (
            |t| t.set("events", EVENT),
            "the claim \"events\" is a string, not an object",
        ),
        (|t| t.set("events", json!({})), NO_EVENT),
        (|t| t.set("events", json!({ "urn:other": {} })), NO_EVENT),
        (|t| t.set("events", json!({ EVENT: null })), NO_EVENT),
        (|t| t.set("events", json!({ EVENT: true })), NO_EVENT),
    ]
}

const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

fn about_the_times() -> Vec<(Change, &'static str)> {
    vec![
        (|t| t.remove("iat"), "the claim \"iat\" is missing"),
        (
            |t| t.set("iat", "1700000000"),
            "the claim \"iat\" is a string, not a number",
        ),
        (
            |t| t.set("iat", NOW + 61),
            "the token was issued at 1700000061, it is only 1700000000 now (seconds since 1970)",
        ),
        (
            |t| {
                t.remove("exp");
                t.set("iat", NOW - 121);
            },
            "the logout token has no \"exp\" and was issued at 1699999879, longer than 120 s ago: it is now 1700000000 (seconds since 1970)",
        ),
        (
            |t| t.set("exp", "1700000120"),
            "the claim \"exp\" is a string, not a number",
        ),
        (
            |t| t.set("exp", NOW - 60),
            "the token expired at 1699999940, it is now 1700000000 (seconds since 1970)",
        ),
        (
            |t| t.set("nbf", NOW + 61),
            "the token is valid from 1700000061, it is only 1700000000 now (seconds since 1970)",
        ),
    ]
}

const WRONG: &str = "the RS256 signature of the token is wrong";

fn about_the_signature() -> Vec<(Change, &'static str)> {
    vec![
        (|t| t.break_signature = true, WRONG),
        (|t| t.strip_signature = true, WRONG),
        (|t| t.sign_with(SigningKey::Foreign), WRONG),
        (
            |t| {
                t.sign_with(SigningKey::Foreign);
                t.set_header("jwk", SigningKey::Foreign.jwk());
            },
            WRONG,
        ),
        (
            |t| t.sign_with(SigningKey::None),
            "the token is signed with \"none\", which is never accepted",
        ),
        (
            |t| t.sign_with(SigningKey::Hs256(b"hush".to_vec())),
            "the token is signed with HS256, expected RS256",
        ),
        (
            |t| t.sign_with(SigningKey::Hs256(SigningKey::Rsa.public_pem().into_bytes())),
            "the token is signed with HS256, expected RS256",
        ),
        (
            |t| t.set_header("kid", "rsa-9"),
            "the provider's key set has no usable key \"rsa-9\"",
        ),
        (
            |t| t.set_header("alg", "PS256"),
            "the token is signed with PS256, expected RS256",
        ),
        (|t| t.remove_header("alg"), "the header of the token has no \"alg\""),
        (
            |t| t.set_header("crit", json!(["b64"])),
            "the token requires header extensions (\"crit\"), of which none is supported",
        ),
        (
            |t| t.set_header("typ", "at+jwt"),
            "the token is of type \"at+jwt\", expected \"logout+jwt\"",
        ),
        (
            |t| t.raw = Some("a.b".to_owned()),
            "expected a signed JWT of 3 parts, found 2",
        ),
        (
            |t| t.raw_claims = Some("{\"sub\":\"a\",\"sub\":\"alice\"}".to_owned()),
            "the payload of the token cannot be parsed: the member \"sub\" occurs more than once in one JSON object",
        ),
    ]
}

#[rocket::async_test]
async fn an_invalid_logout_token_ends_no_session() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = signed_in(&app, &provider).await;
    for (change, words) in refused_logout_tokens() {
        let log = Log::listen();
        let token = provider.logout_token(change);
        let words = words.replace("{issuer}", &provider.issuer());
        let description = format!("the logout token is rejected: {words}");
        refused(&logout(&browser, &token).await, &description);
        log.has(&format!("WARN: a back-channel logout was rejected: {description}"));
        assert!(log.all_lines().iter().all(|line| !line.contains(&token)));
    }
    browser.visit("/me").await.is(Status::Ok);
}

#[rocket::async_test]
async fn an_odd_but_valid_logout_token_ends_the_session() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let changes: [Change; 11] = [
        |t| t.set_header("typ", "JWT"),
        |t| t.set_header("typ", "application/logout+jwt"),
        |t| t.remove_header("typ"),
        |t| t.remove_header("kid"),
        |t| t.remove("sub"),
        |t| t.set("aud", json!(["app"])),
        |t| t.set("exp", NOW as f64 + 0.5),
        |t| {
            t.remove("exp");
            t.set("iat", NOW - 120);
        },
        |t| t.set("exp", Value::Null),
        |t| t.set("nonce", Value::Null),
        |t| t.set("events", json!({ EVENT: { "x": 1 }, "urn:other": {} })),
    ];
    for change in changes {
        case("signed out");
        let browser = signed_in(&app, &provider).await;
        accepted(&logout(&browser, &provider.logout_token(change)).await);
        assert_signed_out(&browser).await;
    }
}

#[rocket::async_test]
async fn a_request_that_is_no_logout_request_is_refused() {
    let provider = TestProvider::start().await;
    let browser = signed_in(&App::new(&provider), &provider).await;
    let token = provider.logout_token(|_| ());
    for body in ["", "x=y", &format!("logout_token={token}&logout_token={token}")] {
        refused(
            &post(&browser, body).await,
            "`logout_token` must be present exactly once",
        );
    }
    let long = format!("logout_token={}", "x".repeat(65 * 1024));
    let page = post(&browser, &long).await;
    refused(&page, "the body is not a form, or is too long");
    let json = [("Content-Type", "application/json")];
    let page = browser.request(Method::Post, BACKCHANNEL, &json, "{}").await;
    refused(&page, "the body is not a form, or is too long");
    browser.visit("/me").await.is(Status::Ok);
}

fn with_front_channel(provider: &TestProvider) -> App {
    App::new(provider).with("oidc.frontchannel_logout", true)
}

/// A frame of the provider's page: the browser sends no cookie along.
async fn in_a_frame(browser: &Browser, path: &str) -> Page {
    let headers = [
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Dest", "iframe"),
        ("Sec-Fetch-Site", "cross-site"),
    ];
    browser.another().request(Method::Get, path, &headers, "").await
}

#[rocket::async_test]
async fn a_frame_of_the_provider_ends_the_session_of_its_sid() {
    for store in ["cookie", "memory"] {
        let provider = TestProvider::start().await;
        let app = with_front_channel(&provider).with("oidc.session.store", store);
        let first = signed_in(&app, &provider).await;
        let second = first.another();
        second.sign_in(&provider, "/me").await.is(Status::Ok);

        let page = in_a_frame(&first, &frontchannel_logout(&provider.issuer(), "sid-2")).await;
        page.is(Status::Ok).sees("Signed out.");
        assert_eq!(page.header("Cache-Control"), Some("no-store"));
        assert_eq!(
            page.header("Content-Security-Policy"),
            Some(&*format!(
                "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors {}",
                provider.issuer()
            ))
        );
        assert_signed_out(&second).await;
        first.visit("/me").await.is(Status::Ok);
    }
}

/// Its page of sign-out may be of another origin than its issuer.
#[rocket::async_test]
async fn the_frame_may_be_in_the_providers_pages_of_two_origins() {
    let provider = TestProvider::start().await;
    provider.metadata(|metadata| {
        let there = json!("https://logout.example.com/session/end?x=y");
        metadata.insert("end_session_endpoint".to_owned(), there);
    });
    let browser = with_front_channel(&provider).open().await;
    let page = in_a_frame(&browser, &frontchannel_logout(&provider.issuer(), "sid-1")).await;
    let expected = format!(
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors {} https://logout.example.com",
        provider.issuer()
    );
    assert_eq!(page.header("Content-Security-Policy"), Some(&*expected));
}

/// The provider sends it again, as it was.
#[rocket::async_test]
async fn a_logout_token_is_accepted_again_after_the_store_failed() {
    let provider = TestProvider::start().await;
    let directory = TempDir::new().unwrap();
    let url = sqlite_url(&directory);
    let app = App::new(&provider)
        .with("oidc.session.store", "sql")
        .with("oidc.session.store_url", &url);
    let browser = signed_in(&app, &provider).await;
    let mut database = SqliteConnection::connect(&url).await.unwrap();
    let token = provider.logout_token(|_| ());
    let gone = "ALTER TABLE oidc_session_index RENAME TO gone";
    database.execute(gone).await.unwrap();
    logout(&browser, &token).await.is(Status::BadRequest);
    browser.visit("/me").await.is(Status::Ok);
    let there = "ALTER TABLE gone RENAME TO oidc_session_index";
    database.execute(there).await.unwrap();
    accepted(&logout(&browser, &token).await);
    assert_signed_out(&browser).await;
    refused(
        &logout(&browser, &token).await,
        "the logout token is rejected: the logout token was used before",
    );
}

/// Nobody signs these requests: a flood of them takes no place, and keeps nobody else's from being heard.
#[rocket::async_test]
async fn a_flood_of_frames_ends_no_session_and_delays_no_user() {
    for store in ["cookie", "memory"] {
        let provider = TestProvider::start().await;
        let app = with_front_channel(&provider).with("oidc.session.store", store);
        let first = signed_in(&app, &provider).await;
        let (second, ended) = (first.another(), first.another());
        second.sign_in(&provider, "/me").await.is(Status::Ok);
        ended.sign_in(&provider, "/me").await.is(Status::Ok);
        // Signed out for real, before the flood.
        let copy = ended.another();
        give_cookies(&copy, &session_cookies(&ended));
        ended.submit("/oidc/logout", "").await.is(Status::SeeOther);
        for i in 0..200 {
            let frame = frontchannel_logout(&provider.issuer(), &format!("made-up-{i}"));
            in_a_frame(&first, &frame).await.is(Status::Ok);
        }
        let own = frontchannel_logout(&provider.issuer(), "sid-1");
        in_a_frame(&first, &own).await.is(Status::Ok);
        for browser in [&first, &copy] {
            assert_signed_out(browser).await;
        }
        second.visit("/me").await.is(Status::Ok);
    }
}

/// A node that was restarted hears of a session when its browser comes by.
#[rocket::async_test]
async fn a_frame_ends_a_session_that_began_before_a_restart() {
    let provider = TestProvider::start().await;
    let app = with_front_channel(&provider);
    let before = signed_in(&app, &provider).await;
    let after = app.open().await;
    give_cookies(&after, &session_cookies(&before));
    after.visit("/me").await.is(Status::Ok);
    let own = frontchannel_logout(&provider.issuer(), "sid-1");
    in_a_frame(&after, &own).await.is(Status::Ok);
    assert_signed_out(&after).await;
}

#[rocket::async_test]
async fn without_the_setting_there_is_no_front_channel() {
    for store in ["cookie", "memory"] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider).with("oidc.session.store", store);
        let browser = signed_in(&app, &provider).await;
        let own = frontchannel_logout(&provider.issuer(), "sid-1");
        in_a_frame(&browser, &own).await.is(Status::NotFound);
        browser.visit("/me").await.is(Status::Ok);
    }
}

#[rocket::async_test]
async fn a_frame_that_names_another_provider_or_no_session_ends_nothing() {
    let provider = TestProvider::start().await;
    let browser = signed_in(&with_front_channel(&provider), &provider).await;
    let issuer = provider.issuer();
    for path in [
        frontchannel_logout("https://other.example", "sid-1"),
        frontchannel_logout(&format!("{issuer}/"), "sid-1"),
        frontchannel_logout(&issuer, ""),
        frontchannel_logout("", "sid-1"),
        "/oidc/frontchannel-logout".to_owned(),
        "/oidc/frontchannel-logout?sid=sid-1".to_owned(),
    ] {
        let page = in_a_frame(&browser, &path).await;
        page.is(Status::BadRequest).sees("The request was rejected.");
    }
    in_a_frame(&browser, &frontchannel_logout(&issuer, "sid-999"))
        .await
        .is(Status::Ok);
    browser.visit("/me").await.is(Status::Ok);
}
