//! Refresh: ahead of time, once however many ask, and what becomes of a session when it fails.

use std::time::Duration;

use rocket::{
    Build, Rocket, catch, catchers, futures::future::join_all, get, http::Status, routes, serde::json::Value,
};
use rocket_openidconnect::LoggedIn;
use serde_json::json;

use crate::{
    common::{App, Log, NOW, assert_signed_out, opened_session},
    records::{give_cookies, session_cookies, session_cookies_set},
    support::{Browser, Misbehaviour, Page, Reply, TestProvider},
};

const TOKEN: &str = "/token";
/// A token of 300 s is refreshed 30 s ahead of its end at most, and at least 15 s.
const NOT_DUE: Duration = Duration::from_secs(269);
const DUE: Duration = Duration::from_secs(285);

#[get("/token")]
async fn token(user: LoggedIn) -> String {
    match user.access_token() {
        Ok(token) => token.expose().to_owned(),
        Err(error) => format!("error: {error}"),
    }
}

#[get("/refresh-token")]
fn refresh_token(user: LoggedIn) -> String {
    user.refresh_token().map_or("none", |token| token.expose()).to_owned()
}

#[get("/missing")]
fn missing(_user: LoggedIn) -> Option<String> {
    None
}

#[catch(404)]
fn not_found() -> &'static str {
    "404 in the app's words"
}

fn rocket(app: &App) -> Rocket<Build> {
    app.rocket()
        .mount("/", routes![token, refresh_token, missing])
        .register("/", catchers![not_found])
}

async fn signed_in(app: &App, provider: &TestProvider) -> Browser {
    Browser::signed_in(rocket(app), provider).await
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Signed in, at a time when the session is due.
async fn due(app: &App, provider: &TestProvider) -> Browser {
    let browser = signed_in(app, provider).await;
    app.advance(DUE);
    browser
}

#[rocket::async_test]
async fn a_session_is_refreshed_ahead_of_the_end_of_its_token() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = signed_in(&app, &provider).await;
    let first = browser.visit("/token").await.body;
    app.advance(NOT_DUE);
    assert_eq!(browser.visit("/token").await.body, first);
    assert_eq!(provider.count(TOKEN), 1);

    app.advance(DUE - NOT_DUE);
    let old_refresh_token = {
        let request = provider.last_request(TOKEN);
        assert_eq!(request.form_value("grant_type"), Some("authorization_code"));
        opened_session(&browser, &provider)["refresh_token"].clone()
    };
    let second = browser.visit("/token").await.body;
    assert!(second.starts_with("at-"), "{second}");
    assert_ne!(second, first);
    let request = provider.last_request(TOKEN);
    assert_eq!(request.form_value("grant_type"), Some("refresh_token"));
    assert_eq!(request.form_value("refresh_token"), old_refresh_token.as_str());
    assert_eq!(request.basic(), Some(("app".into(), "hush".into())));

    // The rotated token is the next to be used, and the claims are the new ID token's.
    assert_eq!(browser.visit("/token").await.body, second);
    assert_eq!(provider.count(TOKEN), 2);
    let me: Value = browser.visit("/me").await.json();
    assert_eq!(me["iat"], json!(NOW + 285));
    assert_eq!(me["email"], json!("alice@example.com"), "from UserInfo");
    app.advance(DUE);
    assert_ne!(browser.visit("/token").await.body, second);
    assert_eq!(provider.count(TOKEN), 3);
    assert_eq!(provider.count("/userinfo"), 1);
}

#[rocket::async_test]
async fn twenty_parallel_requests_are_one_refresh() {
    for store in ["cookie", "memory"] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider).with("oidc.session.store", store);
        let browser = due(&app, &provider).await;
        let held = provider.hold(TOKEN);
        let requests = join_all((0..20).map(|_| browser.fetch("/token")));
        let release = async {
            provider.until_requested(TOKEN, 2).await;
            held.release();
        };
        let (pages, ()) = rocket::futures::future::join(requests, release).await;
        let tokens: Vec<_> = pages.iter().map(|page| page.is(Status::Ok).body.clone()).collect();
        assert!(tokens[0].starts_with("at-"), "{tokens:?}");
        assert!(tokens.iter().all(|token| *token == tokens[0]), "{tokens:?}");
        assert_eq!(provider.count(TOKEN), 2, "{store}");

        browser.visit("/me").await.is(Status::Ok);
        assert_eq!(provider.count(TOKEN), 2, "{store}");
    }
}

/// A request that was on its way with the old cookie, or whose answer was lost.
#[rocket::async_test]
async fn the_old_cookie_is_good_until_a_minute_after_the_newer_one_was_seen() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = due(&app, &provider).await;
    let late = browser.another();
    let old = session_cookies(&browser);
    give_cookies(&late, &old);
    let fresh = browser.visit("/token").await.body;
    assert_eq!(browser.visit("/token").await.body, fresh);

    app.advance(seconds(59));
    assert_eq!(late.visit("/token").await.body, fresh);
    let newest = opened_session(&browser, &provider);
    assert_eq!(opened_session(&late, &provider), newest);
    // It has the new ones now.
    assert_eq!(late.visit("/token").await.body, fresh);
    assert_eq!(provider.count(TOKEN), 2);

    give_cookies(&late, &old);
    app.advance(seconds(1));
    let page = late.fetch("/me").await;
    assert_eq!(page.is(Status::Unauthorized).set_cookies(), [""; 0]);
    assert_eq!(session_cookies(&late), old);
    // The refresh token of the old cookie is used up: it is not sent once more.
    assert_eq!(provider.count(TOKEN), 2);
    assert_eq!(browser.visit("/token").await.body, fresh);
}

/// The answer with the newer cookie did not arrive.
#[rocket::async_test]
async fn an_older_cookie_gets_the_newer_session_while_the_newer_one_was_not_seen() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = due(&app, &provider).await;
    let older = session_cookies(&browser);
    let fresh = browser.visit("/token").await.body;
    give_cookies(&browser, &older);
    app.advance(seconds(120));
    let page = browser.visit("/token").await;
    assert_eq!(page.body, fresh);
    assert!(!session_cookies_set(&page).is_empty());
    assert_eq!(browser.visit("/token").await.set_cookies(), [""; 0]);
    assert_eq!(provider.count(TOKEN), 2);
}

/// A cookie that a guard puts into Rocket's jar would be lost here, and with it the session.
#[rocket::async_test]
async fn the_rotated_token_arrives_when_a_catcher_answers() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = due(&app, &provider).await;
    let page = browser.visit("/missing").await;
    page.is(Status::NotFound).sees("404 in the app's words");
    assert_eq!(provider.count(TOKEN), 2);
    // Beyond the time in which the result is shared.
    app.advance(DUE);
    browser.visit("/me").await.is(Status::Ok);
    assert_eq!(provider.count(TOKEN), 3);
}

#[rocket::async_test]
async fn a_reply_without_id_token_or_refresh_token_keeps_the_old_ones() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = signed_in(&app, &provider).await;
    let before = opened_session(&browser, &provider);
    provider.on_refresh_response(|reply| {
        reply.remove("id_token");
        reply.remove("refresh_token");
    });
    app.advance(DUE);
    browser.visit("/me").await.is(Status::Ok);
    let after = opened_session(&browser, &provider);
    for name in ["id_token", "refresh_token", "nonce"] {
        assert_eq!(after[name], before[name], "{name}");
    }
    assert_ne!(after["access_token"], before["access_token"]);
    // The first is of the sign-in, the second was stored before its reply was judged.
    assert_eq!(before["generation"], json!(1));
    assert_eq!(after["generation"], json!(3));
}

#[rocket::async_test]
async fn the_id_token_of_a_refresh_replaces_the_old_one() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = signed_in(&app, &provider).await;
    let before = opened_session(&browser, &provider);
    app.advance(DUE);
    browser.visit("/me").await.is(Status::Ok);
    let after = opened_session(&browser, &provider);
    assert_ne!(after["id_token"], before["id_token"]);
    assert!(after["id_token"].is_string());
}

#[rocket::async_test]
async fn user_info_is_asked_again_when_the_setting_says_so() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with("oidc.session.refresh_user_info", true);
    let browser = signed_in(&app, &provider).await;
    provider.user_claims(json!({ "sub": "alice", "email": "new@example.com" }));
    app.advance(DUE);
    browser.visit("/me").await.is(Status::Ok).sees("new@example.com");
    assert_eq!(provider.count("/userinfo"), 2);

    // Another person's claims are not taken over, and an outage there changes nothing.
    provider.on_user_info(|reply| reply.set("sub", "bob"));
    app.advance(DUE);
    browser
        .visit("/me")
        .await
        .is(Status::Ok)
        .sees("new@example.com")
        .sees("\"alice\"");
    provider.on_user_info(|reply| *reply = Reply::status(500));
    app.advance(DUE);
    browser.visit("/me").await.is(Status::Ok).sees("new@example.com");
    assert_eq!(provider.count(TOKEN), 4);
}

#[rocket::async_test]
async fn without_a_refresh_token_nothing_is_refreshed() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with("oidc.session.tokens", "access_token id_token");
    let browser = due(&app, &provider).await;
    browser.visit("/me").await.is(Status::Ok);
    assert_eq!(browser.visit("/refresh-token").await.body, "none");
    app.advance(seconds(15));
    assert_eq!(
        browser.visit("/token").await.body,
        format!("error: the access token expired at {} (seconds since 1970)", NOW + 300)
    );
    assert_eq!(provider.count(TOKEN), 1);
}

async fn assert_refresh_ends_the_session_of(browser: &Browser, provider: &TestProvider) {
    browser.fetch("/me").await.is(Status::Unauthorized);
    assert_eq!(provider.count(TOKEN), 2);
    assert_eq!(session_cookies(browser), []);
}

async fn assert_refresh_ends_the_session(app: &App, provider: &TestProvider, browser: &Browser) {
    assert_refresh_ends_the_session_of(browser, provider).await;
    app.advance(seconds(61));
    assert_signed_out(browser).await;
    browser.sign_in(provider, "/me").await.is(Status::Ok);
}

#[rocket::async_test]
async fn invalid_grant_ends_the_session() {
    for store in ["cookie", "memory"] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider).with("oidc.session.store", store);
        let browser = due(&app, &provider).await;
        provider.revoke_refresh_tokens();
        assert_refresh_ends_the_session(&app, &provider, &browser).await;
    }
}

/// Also where nobody has to be signed in.
#[rocket::async_test]
async fn an_answer_that_ends_a_session_is_not_stored() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = due(&app, &provider).await;
    provider.revoke_refresh_tokens();
    let page = browser.visit("/").await;
    assert_eq!(page.is(Status::Ok).set_cookies().len(), 1, "{page:#?}");
    assert_eq!(page.header("Cache-Control"), Some("no-store"));
    assert_eq!(session_cookies(&browser), []);
    let page = browser.visit("/").await;
    assert_eq!(page.is(Status::Ok).set_cookies(), [""; 0]);
    assert_eq!(page.header("Cache-Control"), None);
}

/// The client's secret is wrong or was changed: nobody who signed in can help it.
#[rocket::async_test]
async fn invalid_client_keeps_the_session() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = due(&app, &provider).await;
    let before = session_cookies(&browser);
    provider.on_refresh_response(|reply| *reply = Reply::error(401, "invalid_client", ""));
    let log = Log::listen();
    let page = browser.fetch("/me").await;
    assert_eq!(page.is(Status::Ok).set_cookies(), [""; 0]);
    assert_eq!(session_cookies(&browser), before);
    assert_eq!(provider.count(TOKEN), 2);
    let lines = log.lines();
    let errors: Vec<_> = lines.iter().filter(|line| line.starts_with("ERROR")).collect();
    assert!(
        errors.len() == 1 && errors[0].contains("`invalid_client`"),
        "{lines:#?}"
    );

    provider.on_refresh_response(|_| ());
    app.advance(seconds(60));
    let page = browser.fetch("/me").await;
    assert!(!page.is(Status::Ok).set_cookies().is_empty());
    assert_eq!(provider.count(TOKEN), 3);
}

/// OpenID Connect Core 1.0 §12.2.
#[rocket::async_test]
async fn refresh_about_another_sign_in_ends_the_session() {
    for (claim, value) in [
        ("sub", json!("bob")),
        ("auth_time", json!(1)),
        ("nonce", json!("another")),
    ] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider);
        let browser = due(&app, &provider).await;
        provider.on_id_token(move |token| token.set(claim, value.clone()));
        let log = Log::listen();
        browser.fetch("/me").await.is(Status::Unauthorized);
        log.has(&format!(
            "ERROR: the ID token of a refresh is rejected: the claim {claim:?} is not the one of the sign-in"
        ));
        assert_eq!(session_cookies(&browser), [], "{claim}");
    }
}

#[rocket::async_test]
async fn an_invalid_grant_comes_back_only_when_the_setting_says_so() {
    for (preserves, login) in [
        (false, "/oidc/login?next=%2F"),
        (true, "/oidc/login?next=%2Fnotes%3Fpage%3D2%26sort%3Dx"),
    ] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider).with("oidc.preserve_next_on_error", preserves);
        let browser = due(&app, &provider).await;
        provider.revoke_refresh_tokens();
        let page = browser.visit("/notes?page=2&sort=x").await;
        page.is(Status::SeeOther);
        assert_eq!(page.location.as_deref(), Some(login));
    }
}

/// Each outage, and what the log says of it.
fn outages(provider: &TestProvider) -> Vec<(Misbehaviour, String)> {
    let html = Reply::text("text/html", "<h1>Oops</h1>");
    let malformed = "the provider's token endpoint sent an invalid response: it is not a JSON object";
    vec![
        (
            html.clone().with_status(500).into(),
            "the provider's token endpoint responded with status 500".into(),
        ),
        (html.clone().into(), malformed.into()),
        (
            html.with_status(403).into(),
            "the provider's token endpoint responded with status 403".into(),
        ),
        (
            Reply::status(400).into(),
            "the provider's token endpoint responded with status 400".into(),
        ),
        (
            Misbehaviour::Hang,
            "the provider's token endpoint did not respond within 1000 ms".into(),
        ),
        (
            Misbehaviour::RedirectTo(format!("{}/token2", provider.issuer())),
            "the provider's token endpoint responded with status 302".into(),
        ),
        (
            Reply::error(400, "temporarily_unavailable", "later").into(),
            "the provider's token endpoint rejected the request with `temporarily_unavailable`: later".into(),
        ),
    ]
}

#[rocket::async_test]
async fn an_outage_keeps_the_session_and_is_not_asked_again_at_once() {
    let provider = TestProvider::start().await;
    for (outage, cause) in outages(&provider) {
        let app = App::new(&provider)
            .with("oidc.http.timeout", "1s")
            .with("oidc.http.connect_timeout", "1s");
        let browser = due(&app, &provider).await;
        let before = provider.count(TOKEN);
        provider.on_path(TOKEN, outage);
        let log = Log::listen();
        let old = browser.visit("/token").await.body;
        assert!(old.starts_with("at-"), "still good: {old}");
        log.has(&format!(
            "WARN: a session was not refreshed: {cause}; it remains valid, and the refresh is retried in 5 s"
        ));
        assert!(
            log.lines()
                .iter()
                .all(|line| !line.contains("rt-") && !line.contains("at-"))
        );
        for _ in 0..5 {
            browser.visit("/me").await.is(Status::Ok);
        }
        assert_eq!(provider.count(TOKEN), before + 1, "{cause}");

        app.advance(seconds(4));
        browser.visit("/me").await.is(Status::Ok);
        assert_eq!(provider.count(TOKEN), before + 1, "{cause}");
        app.advance(seconds(1));
        browser.visit("/me").await.is(Status::Ok);
        assert_eq!(provider.count(TOKEN), before + 2, "{cause}");
        // The second time it takes ten seconds.
        app.advance(seconds(9));
        browser.visit("/me").await.is(Status::Ok);
        assert_eq!(provider.count(TOKEN), before + 2, "{cause}");
        app.advance(seconds(1));
        assert_eq!(
            browser.visit("/token").await.body,
            format!(
                "error: the access token expired at {} (seconds since 1970) and was not refreshed: {cause}",
                NOW + 300
            )
        );
        assert_eq!(provider.count(TOKEN), before + 3, "{cause}");

        // When the provider is back, so are the tokens.
        provider.clear_path(TOKEN);
        app.advance(seconds(20));
        let fresh = browser.visit("/token").await.body;
        assert!(fresh.starts_with("at-") && fresh != old, "{fresh}");
    }
}

#[rocket::async_test]
async fn a_session_lasts_to_its_end_while_the_provider_is_down() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with("oidc.session.absolute_timeout", "1h");
    let browser = due(&app, &provider).await;
    provider.stop();
    for _ in 0..3 {
        browser.visit("/me").await.is(Status::Ok);
        app.advance(seconds(1000));
    }
    app.advance(seconds(3600 - 3285));
    assert_signed_out_page(&browser.visit("/me").await);
}

fn assert_signed_out_page(page: &Page) {
    page.redirects_to("/oidc/login?next=%2Fme");
}

/// The time is that of the whole request, however busy the connection looks.
#[rocket::async_test]
async fn a_token_endpoint_that_drips_is_cut_off() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with("oidc.http.timeout", "1s");
    let browser = due(&app, &provider).await;
    provider.on_path(TOKEN, Misbehaviour::Drip);
    let log = Log::listen();
    browser.visit("/me").await.is(Status::Ok);
    log.has("WARN: a session was not refreshed: the provider's token endpoint did not respond within 1000 ms; it remains valid, and the refresh is retried in 5 s");
}

#[rocket::async_test]
async fn a_token_endpoint_without_end_is_cut_off() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider)
        .with("oidc.http.timeout", "500ms")
        .with("oidc.http.max_body", 4096);
    let browser = due(&app, &provider).await;
    provider.on_path(TOKEN, Misbehaviour::Endless);
    let log = Log::listen();
    browser.visit("/me").await.is(Status::Ok);
    log.has("WARN: a session was not refreshed: the provider's token endpoint responded with more than 4096 bytes; it remains valid, and the refresh is retried in 5 s");
}

#[rocket::async_test]
async fn id_token_of_refresh_with_a_bad_signature_ends_the_session() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = due(&app, &provider).await;
    provider.on_id_token(|token| token.break_signature = true);
    assert_refresh_ends_the_session_of(&browser, &provider).await;
    // Nobody else is to use the tokens that it came with.
    provider.until_requested("/revoke", 2).await;
    let revoked = provider.requests_to("/revoke");
    let revoked: Vec<_> = revoked
        .iter()
        .map(|request| request.form_value("token_type_hint"))
        .collect();
    assert_eq!(revoked, [Some("refresh_token"), Some("access_token")]);
    provider.be_honest();
    app.advance(seconds(61));
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
}

/// The time of the machine jumps: what is due is refreshed, and what is over is over.
#[rocket::async_test]
async fn a_clock_that_moves_a_day_ends_the_session_and_nothing_else() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = signed_in(&app, &provider).await;
    app.advance(seconds(24 * 3600));
    assert_signed_out(&browser).await;
    assert_eq!(provider.count(TOKEN), 1);
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
}
