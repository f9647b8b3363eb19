//! The provider ends sessions: back-channel and front-channel logout.

use rocket::{
    http::{Method, Status},
    serde::json::{Value, json},
};
use url::form_urlencoded::byte_serialize;

use crate::{
    app::Log,
    common::{App, assert_signed_out},
    support::{Browser, JwtParts, Page, TestProvider},
};

const BACKCHANNEL: &str = "/oidc/backchannel-logout";

async fn signed_in(app: &App, provider: &TestProvider) -> Browser {
    let browser = app.open().await;
    browser.sign_in(provider, "/me").await.is(Status::Ok);
    browser
}

/// What the provider's own HTTP client sends: no cookie, no header of a browser.
async fn post(browser: &Browser, body: &str) -> Page {
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    browser
        .another()
        .request(Method::Post, BACKCHANNEL, &form, body)
        .await
}

async fn logout(browser: &Browser, logout_token: &str) -> Page {
    post(browser, &format!("logout_token={logout_token}")).await
}

#[track_caller]
fn accepted(page: &Page) {
    assert_eq!(page.is(Status::Ok).body, "");
    assert_eq!(page.header("Cache-Control"), Some("no-store"));
}

#[track_caller]
fn refused(page: &Page, description: &str) {
    page.is(Status::BadRequest);
    assert_eq!(page.header("Cache-Control"), Some("no-store"));
    assert_eq!(page.header("Content-Type"), Some("application/json"));
    assert_eq!(
        page.json::<Value>(),
        json!({ "error": "invalid_request", "error_description": description })
    );
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
async fn a_sub_ends_all_sessions_of_the_person_and_of_nobody_else() {
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
        app.advance(std::time::Duration::from_secs(1));
        provider.user_claims(json!({ "sub": "alice" }));
        first.sign_in(&provider, "/me").await.is(Status::Ok);
        first.visit("/me").await.is(Status::Ok);
    }
}

#[rocket::async_test]
async fn a_session_that_is_gone_or_was_never_there_is_a_success() {
    for store in ["cookie", "memory"] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider).with("oidc.session.store", store);
        let browser = signed_in(&app, &provider).await;
        for sid in ["sid-1", "sid-1", "sid-999"] {
            accepted(
                &logout(
                    &browser,
                    &provider.logout_token(|token| token.set("sid", sid)),
                )
                .await,
            );
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
        refused(
            &page,
            "the logout token is refused: the logout token was used before",
        );
    }
}

/// Each rule by itself is a unit test; here each kind of error arrives as the standard says.
#[rocket::async_test]
async fn a_logout_token_that_does_not_hold_ends_nothing() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = signed_in(&app, &provider).await;
    type Change = fn(&mut JwtParts);
    let refuse: [(Change, &str); 6] = [
        (
            |token| token.set("nonce", "n"),
            "the logout token has a \"nonce\"",
        ),
        (|token| token.remove("jti"), "the claim \"jti\" is missing"),
        (
            |token| token.remove("events"),
            "the claim \"events\" is missing",
        ),
        (
            |token| token.set("aud", "other"),
            "the token is meant for [\"other\"], expected \"app\" among them",
        ),
        (
            |token| token.set_header("typ", "at+jwt"),
            "the token is of type \"at+jwt\", expected \"logout+jwt\"",
        ),
        (
            |token| token.break_signature = true,
            "the signature is wrong",
        ),
    ];
    for (change, description) in refuse {
        let log = Log::listen();
        let token = provider.logout_token(change);
        let page = logout(&browser, &token).await;
        let description = match description {
            "the signature is wrong" => page.json::<Value>()["error_description"]
                .as_str()
                .filter(|words| words.starts_with("the logout token is refused: "))
                .expect("a reason")
                .to_owned(),
            words => format!("the logout token is refused: {words}"),
        };
        refused(&page, &description);
        log.has(&format!(
            "WARN a back-channel logout did nothing: {description}"
        ));
        assert!(log.lines().iter().all(|line| !line.contains(&token)));
    }
    browser.visit("/me").await.is(Status::Ok);
}

#[rocket::async_test]
async fn a_request_that_is_no_logout_request_is_refused() {
    let provider = TestProvider::start().await;
    let browser = signed_in(&App::new(&provider), &provider).await;
    let token = provider.logout_token(|_| ());
    for body in [
        "",
        "x=y",
        &format!("logout_token={token}&logout_token={token}"),
    ] {
        refused(
            &post(&browser, body).await,
            "`logout_token` must be there once",
        );
    }
    let long = format!("logout_token={}", "x".repeat(65 * 1024));
    let page = post(&browser, &long).await;
    refused(&page, "the body is no form, or is too long");
    let json = [("Content-Type", "application/json")];
    let page = browser
        .request(Method::Post, BACKCHANNEL, &json, "{}")
        .await;
    refused(&page, "the body is no form, or is too long");
    browser.visit("/me").await.is(Status::Ok);
}

fn frontchannel(issuer: &str, sid: &str) -> String {
    let encode = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    format!(
        "/oidc/frontchannel-logout?iss={}&sid={}",
        encode(issuer),
        encode(sid)
    )
}

/// A frame of the provider's page: the browser sends no cookie along.
async fn in_a_frame(browser: &Browser, path: &str) -> Page {
    let headers = [
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Dest", "iframe"),
        ("Sec-Fetch-Site", "cross-site"),
    ];
    browser
        .another()
        .request(Method::Get, path, &headers, "")
        .await
}

#[rocket::async_test]
async fn a_frame_of_the_provider_ends_the_session_of_its_sid() {
    for store in ["cookie", "memory"] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider).with("oidc.session.store", store);
        let first = signed_in(&app, &provider).await;
        let second = first.another();
        second.sign_in(&provider, "/me").await.is(Status::Ok);

        let page = in_a_frame(&first, &frontchannel(&provider.issuer(), "sid-2")).await;
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

/// Nobody signs these requests: a flood of them fills no store.
#[rocket::async_test]
async fn frames_are_taken_twenty_a_second() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = signed_in(&app, &provider).await;
    let frame = |i: u32| frontchannel(&provider.issuer(), &format!("made-up-{i}"));
    for i in 0..20 {
        in_a_frame(&browser, &frame(i)).await.is(Status::Ok);
    }
    let page = in_a_frame(&browser, &frame(20)).await;
    page.is(Status::TooManyRequests).sees("Not signed out.");
    app.advance(std::time::Duration::from_secs(1));
    let own = frontchannel(&provider.issuer(), "sid-1");
    in_a_frame(&browser, &own).await.is(Status::Ok);
    assert_signed_out(&browser).await;
}

#[rocket::async_test]
async fn a_frame_that_names_another_provider_or_no_session_ends_nothing() {
    let provider = TestProvider::start().await;
    let browser = signed_in(&App::new(&provider), &provider).await;
    let issuer = provider.issuer();
    for path in [
        frontchannel("https://other.example", "sid-1"),
        frontchannel(&format!("{issuer}/"), "sid-1"),
        frontchannel(&issuer, ""),
        frontchannel("", "sid-1"),
        "/oidc/frontchannel-logout".to_owned(),
        "/oidc/frontchannel-logout?sid=sid-1".to_owned(),
    ] {
        let page = in_a_frame(&browser, &path).await;
        page.is(Status::BadRequest).sees("Nothing was done.");
    }
    in_a_frame(&browser, &frontchannel(&issuer, "sid-999"))
        .await
        .is(Status::Ok);
    browser.visit("/me").await.is(Status::Ok);
}
