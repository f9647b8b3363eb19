//! Attempts to sign in: any number of them, each good for one session, and none of them anybody else's.

use std::time::Duration;

use rocket::{
    futures::future::{join, join3},
    http::{Cookie, Method, Status},
    serde::json::Value,
    tokio::task::yield_now,
};
use serde_json::json;

use crate::{
    common::{App, KEY},
    records::{
        Numbers, carry_cookies, cookie_header_bytes, give_cookies, node, record, session_cookies, session_cookies_set,
        signed_in,
    },
    support::{Browser, Callback, Page, Reply, TestProvider},
};

const TOKEN: &str = "/token";
const NAVIGATION: [(&str, &str); 4] = [
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Dest", "document"),
    ("Sec-Fetch-Site", "none"),
    ("Accept", "text/html"),
];

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

async fn arrive(browser: &Browser, callback: &Callback) -> Page {
    browser.arrive_from_provider(&callback.path_and_query()).await
}

/// Another browser before the same app, with the same cookies.
fn twin(browser: &Browser) -> Browser {
    let twin = browser.another();
    carry_cookies(browser, &twin);
    twin
}

/// Follows an answer within the app to the provider, and says where that sends the browser back to. `None` when
/// the answer does not lead to the provider.
async fn led_to_provider(browser: &Browser, provider: &TestProvider, page: &Page) -> Option<Callback> {
    let mut page = page.clone();
    for _ in 0..3 {
        let location = page.location.clone()?;
        if provider.is_authorization(&location) {
            return Some(provider.authorize(&location));
        }
        if !location.starts_with("/oidc/login") {
            return None;
        }
        page = browser.visit(&location).await;
    }
    None
}

/// An error page: no redirect, and nobody is signed in by it.
#[track_caller]
fn is_page(page: &Page) {
    assert!((400..600).contains(&page.status), "{page:#?}");
    assert_eq!(page.location, None);
    assert_eq!(session_cookies_set(page), [""; 0]);
}

/// A page from which the person begins once more.
#[track_caller]
fn is_page_with_a_button(page: &Page) {
    is_page(page);
    let body = page.body.replace("&#x2F;", "/");
    assert!(body.contains("/oidc/login"), "{page:#?}");
}

#[track_caller]
fn assert_redirect(page: &Page, address: &str) {
    page.is(Status::SeeOther);
    assert_eq!(page.location.as_deref(), Some(address), "{page:#?}");
}

/// Who is signed in.
async fn subject(browser: &Browser) -> Option<String> {
    let seen = record(browser).await?;
    Some(seen["claims"]["sub"].as_str().expect("a sub").to_owned())
}

// ---- One exchange for an attempt.

#[rocket::async_test]
async fn two_identical_callbacks_at_once_are_one_sign_in_for_both() {
    for store in ["cookie", "memory"] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider).with("oidc.session.store", store);
        let browser = node(&app).await;
        let callback = browser.begin_sign_in(&provider, "/me").await;
        let other = twin(&browser);
        let held = provider.hold(TOKEN);
        let release = async {
            provider.until_requested(TOKEN, 1).await;
            for _ in 0..100 {
                yield_now().await;
            }
            held.release();
        };
        let (one, two, ()) = join3(arrive(&browser, &callback), arrive(&other, &callback), release).await;
        assert_eq!(provider.count(TOKEN), 1, "{store}");
        assert_redirect(&one, "/me");
        assert_redirect(&two, "/me");
        let sessions = [record(&browser).await, record(&other).await];
        assert!(sessions[0].is_some(), "{store}");
        assert_eq!(sessions[0], sessions[1], "{store}");
        assert_eq!(provider.count("/userinfo"), 1, "{store}");
        // A provider that sees a code twice revokes what it gave for it.
        assert_eq!(provider.count("/revoke"), 0, "{store}");
    }
}

/// The first answer was lost with its connection, and the browser asks again.
#[rocket::async_test]
async fn an_identical_callback_within_a_minute_gets_the_same_session() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = node(&app).await;
    let callback = browser.begin_sign_in(&provider, "/me").await;
    let (second, late) = (twin(&browser), twin(&browser));
    assert_redirect(&arrive(&browser, &callback).await, "/me");
    app.advance(Duration::from_secs(59));
    assert_redirect(&arrive(&second, &callback).await, "/me");
    assert_eq!(record(&second).await, record(&browser).await);
    assert!(record(&second).await.is_some());

    // Later ones are led to their page, and are not signed in by that.
    app.advance(Duration::from_secs(2));
    let page = arrive(&late, &callback).await;
    assert_redirect(&page, "/me");
    assert_eq!(session_cookies_set(&page), [""; 0]);
    assert_eq!(record(&late).await, None);
    assert_eq!(provider.count(TOKEN), 1);
}

#[rocket::async_test]
async fn an_identical_callback_after_signing_out_gets_no_session() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = node(&app).await;
    let callback = browser.begin_sign_in(&provider, "/me").await;
    let kept = twin(&browser);
    assert_redirect(&arrive(&browser, &callback).await, "/me");
    browser.submit("/oidc/logout", "").await.is(Status::SeeOther);
    for browser in [&browser, &kept] {
        arrive(browser, &callback).await;
        assert_eq!(record(browser).await, None);
    }
    assert_eq!(provider.count(TOKEN), 1);
}

#[rocket::async_test]
async fn fifty_callbacks_of_one_attempt_are_one_token_request() {
    for code_is_made_up in [false, true] {
        let provider = TestProvider::start().await;
        let browser = node(&App::new(&provider)).await;
        let callback = browser.begin_sign_in(&provider, "/me").await;
        for i in 0..50 {
            let mut callback = callback.clone();
            if code_is_made_up {
                callback = callback.set("code", &format!("code-{i}"));
            }
            // The attempt's cookie is kept, whatever the answer says of it.
            arrive(&twin(&browser), &callback).await;
        }
        assert_eq!(provider.count(TOKEN), 1, "{code_is_made_up}");
    }
}

#[rocket::async_test]
async fn a_request_that_is_not_a_page_load_does_not_use_up_the_attempt() {
    let provider = TestProvider::start().await;
    let browser = node(&App::new(&provider)).await;
    let callback = browser.begin_sign_in(&provider, "/me").await;
    let path = callback.path_and_query();
    let page = browser.request(Method::Head, &path, &NAVIGATION, "").await;
    assert_eq!(session_cookies_set(&page), [""; 0], "HEAD");
    let prefetch = [&NAVIGATION[..], &[("Sec-Purpose", "prefetch")]].concat();
    let page = browser.request(Method::Get, &path, &prefetch, "").await;
    assert_eq!(session_cookies_set(&page), [""; 0], "prefetch");
    // A link preview elsewhere has no cookies.
    let preview = browser.another();
    preview.request(Method::Get, &path, &[], "").await;
    preview.request(Method::Head, &path, &[], "").await;
    assert_eq!(provider.count(TOKEN), 0);

    assert_redirect(&arrive(&browser, &callback).await, "/me");
    assert_eq!(subject(&browser).await.as_deref(), Some("alice"));
    assert_eq!(provider.count(TOKEN), 1);
}

// ---- Many attempts.

#[rocket::async_test]
async fn however_many_tabs_begin_to_sign_in_each_of_them_ends_on_its_page() {
    for count in [7, 40] {
        for app in [
            |provider: &TestProvider| App::new(provider),
            |provider: &TestProvider| App::released(provider),
            |provider: &TestProvider| App::new(provider).with("oidc.mount", "/"),
        ] {
            let provider = TestProvider::start().await;
            let app = app(&provider);
            let browser = node(&app).await;
            let mut callbacks = vec![];
            for i in 0..count {
                let address = format!("/notes?page={i}&sort=x");
                let callback = browser.begin_sign_in(&provider, &address).await;
                callbacks.push((address, callback));
                app.advance(Duration::from_secs(1));
            }
            // The first one first.
            for (address, callback) in callbacks {
                let page = arrive(&browser, &callback).await;
                assert_redirect(&page, &address);
                assert!(record(&browser).await.is_some(), "{address}");
            }
        }
    }
}

#[rocket::async_test]
async fn two_hundred_tabs_with_long_addresses_all_end_on_their_pages() {
    let provider = TestProvider::start().await;
    for app in [App::new(&provider), App::released(&provider)] {
        let browser = node(&app).await;
        let mut numbers = Numbers::seeded(40);
        let mut callbacks = vec![];
        for i in 0..200 {
            let start = format!("/notes?page={i}&sort=");
            let address = format!("{start}{}", numbers.text(250 - start.len()));
            assert_eq!(address.len(), 250);
            let callback = browser.begin_sign_in(&provider, &address).await;
            let state = callback.param("state").expect("a state");
            assert!(state.len() <= 500, "{} characters of state", state.len());
            callbacks.push((address, callback));
        }
        let size = cookie_header_bytes(&browser);
        assert!(size < 1024, "{size} bytes of cookies");
        for (address, callback) in callbacks {
            assert_redirect(&arrive(&browser, &callback).await, &address);
        }
        assert!(record(&browser).await.is_some());
    }
}

/// What does not fit into `state` is in cookies, of which there are two at most: the oldest are lost, the sign-in is
/// not.
#[rocket::async_test]
async fn an_address_that_is_too_long_may_be_lost_and_the_sign_in_is_not() {
    let provider = TestProvider::start().await;
    let browser = node(&App::new(&provider)).await;
    let mut numbers = Numbers::seeded(41);
    let mut callbacks = vec![];
    for i in 0..10 {
        let address = format!("/notes?page={i}&sort={}", numbers.text(600));
        let callback = browser.begin_sign_in(&provider, &address).await;
        let state = callback.param("state").expect("a state");
        assert!(state.len() <= 500, "{} characters of state", state.len());
        callbacks.push((address, callback));
    }
    let size = cookie_header_bytes(&browser);
    assert!(size < 2048 + 400, "{size} bytes of cookies");
    let last = callbacks.len() - 1;
    for (i, (address, callback)) in callbacks.into_iter().enumerate().rev() {
        let page = arrive(&browser, &callback).await;
        page.is(Status::SeeOther);
        let location = page.location.as_deref().unwrap_or_default();
        assert!(location == address || (location == "/" && i < last), "{location}");
        assert!(record(&browser).await.is_some());
    }
}

/// A browser sends the cookies of one host name to all of its ports.
#[rocket::async_test]
async fn attempts_at_two_apps_on_one_host_name_both_succeed() {
    let provider = TestProvider::start().await;
    let a = App::new(&provider).with("secret_key", KEY);
    let b = App::new(&provider)
        .with("secret_key", KEY)
        .with("oidc.client_id", "other");
    let (at_a, at_b) = (node(&a).await, node(&b).await);
    let of_a = at_a.begin_sign_in(&provider, "/me").await;
    carry_cookies(&at_a, &at_b);
    let of_b = at_b.begin_sign_in(&provider, "/me").await;
    carry_cookies(&at_b, &at_a);
    assert_redirect(&arrive(&at_a, &of_a).await, "/me");
    carry_cookies(&at_a, &at_b);
    assert_redirect(&arrive(&at_b, &of_b).await, "/me");
    assert!(record(&at_b).await.is_some());
    carry_cookies(&at_b, &at_a);
    assert!(record(&at_a).await.is_some());
}

// ---- Whose attempt it is.

/// What a sibling sub-domain can set for this host, out of these cookies: any name but those that begin with
/// `__Host-`, whatever the letters' case.
fn plantable(cookies: &[(String, String)]) -> Vec<(String, String)> {
    let mut planted = vec![];
    for (name, value) in cookies {
        let bare = name.trim_start_matches("__Host-").trim_start_matches("__Secure-");
        for name in [bare.to_owned(), format!("__Secure-{bare}")] {
            planted.push((name, value.clone()));
        }
    }
    planted
}

fn plant(browser: &Browser, cookies: &[(String, String)], path: &str) {
    for (name, value) in cookies {
        let cookie = Cookie::build((name.clone(), value.clone()));
        browser.set_cookie(cookie.path(path.to_owned()).secure(true).build());
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    /// Never began to sign in.
    New,
    /// Has an attempt of their own under way.
    Signing,
    NewSignIn,
    NoSession,
}

async fn victim(kind: Victim, app: &App, mount: &str, provider: &TestProvider) -> Browser {
    provider.user_claims(json!({ "sub": "alice" }));
    match kind {
        Victim::New => node(app).await,
        Victim::Signing => {
            let browser = node(app).await;
            let _ = browser.begin_sign_in(provider, "/me").await;
            browser
        }
        Victim::NewSignIn => signed_in(app, provider).await,
        Victim::NoSession => {
            let browser = signed_in(app, provider).await;
            browser
                .submit(&format!("{}/logout", mount.trim_end_matches('/')), "")
                .await
                .is(Status::SeeOther);
            browser
        }
    }
}

#[rocket::async_test]
async fn planted_cookies_do_not_sign_in_as_the_attacker() {
    let kinds = [Victim::New, Victim::Signing, Victim::NewSignIn, Victim::NoSession];
    for kind in kinds {
        for mount in ["/oidc", "/"] {
            for path in ["/", "/oidc", "/oidc/authorize"] {
                for planted_first in [false, true] {
                    assert_not_the_attacker(kind, mount, path, planted_first).await;
                }
            }
        }
    }
}

async fn assert_not_the_attacker(kind: Victim, mount: &str, path: &str, planted_first: bool) {
    let provider = TestProvider::start().await;
    let app = App::released(&provider)
        .with("oidc.mount", mount)
        .with("oidc.rp_initiated_logout", false);
    let browser = victim(kind, &app, mount, &provider).await;

    let attacker = browser.another();
    provider.user_claims(json!({ "sub": "mallory" }));
    let callback = attacker.begin_sign_in(&provider, "/notes?page=1&sort=x").await;
    let own = browser.cookies();
    let planted = plantable(&attacker.cookies());
    if planted_first {
        let kept = browser.another();
        carry_cookies(&browser, &kept);
        browser.forget_cookies();
        plant(&browser, &planted, path);
        for (name, _) in own {
            browser.set_cookie(kept.cookie(&name).expect("it was there"));
        }
    } else {
        plant(&browser, &planted, path);
    }

    // At the provider, the victim is who they are.
    provider.user_claims(json!({ "sub": "alice" }));
    let case = format!("{kind:?}, mount {mount}, path {path}, planted first: {planted_first}");
    let page = arrive(&browser, &callback).await;
    let direct = subject(&browser).await;
    assert_ne!(direct.as_deref(), Some("mallory"), "{case}");
    if kind == Victim::NewSignIn {
        assert_eq!(direct.as_deref(), Some("alice"), "{case}");
    }
    browser.follow(&provider, page).await;
    let followed = subject(&browser).await;
    assert_ne!(followed.as_deref(), Some("mallory"), "{case}");
    assert_ne!(subject_of(&browser.visit("/").await), Some("mallory".into()), "{case}");

    // Nothing of it kept the victim from signing in.
    let page = browser.sign_in(&provider, "/me").await;
    page.is(Status::Ok);
    assert_eq!(page.json::<Value>()["sub"], "alice", "{case}");
}

fn subject_of(page: &Page) -> Option<String> {
    let visitor: Value = page.json();
    Some(visitor["user"]["sub"].as_str()?.to_owned())
}

/// The attempt of another browser is not used up, and the person signs in as themselves.
#[rocket::async_test]
async fn a_callback_of_another_browser_starts_the_persons_own_sign_in_once() {
    let provider = TestProvider::start().await;
    let app = App::released(&provider);
    let browser = victim(Victim::Signing, &app, "/oidc", &provider).await;
    let attacker = browser.another();
    provider.user_claims(json!({ "sub": "mallory" }));
    let address = "/notes?page=1&sort=x";
    let foreign = attacker.begin_sign_in(&provider, address).await;

    provider.user_claims(json!({ "sub": "alice" }));
    let page = arrive(&browser, &foreign).await;
    let own = led_to_provider(&browser, &provider, &page).await;
    let own = own.expect("the sign-in starts once more by itself");
    assert_eq!(provider.count(TOKEN), 0);
    // The one that was started by itself, in a browser that it does not belong to: no second time.
    let third = browser.another();
    let _ = third.begin_sign_in(&provider, "/me").await;
    is_page_with_a_button(&arrive(&third, &own).await);
    assert_eq!(provider.count(TOKEN), 0);

    assert_redirect(&arrive(&browser, &own).await, address);
    assert_eq!(subject(&browser).await.as_deref(), Some("alice"));
    // And the attacker's own attempt is as it was.
    assert_redirect(&arrive(&attacker, &foreign).await, address);
    assert_eq!(subject(&attacker).await.as_deref(), Some("mallory"));
}

#[rocket::async_test]
async fn a_callback_in_a_browser_without_cookies_is_a_page_with_a_button() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = node(&app).await;
    let callback = browser.begin_sign_in(&provider, "/me").await;
    let other = browser.another();
    let page = arrive(&other, &callback).await;
    is_page_with_a_button(&page);
    assert_eq!(provider.count(TOKEN), 0);
    assert_redirect(&arrive(&browser, &callback).await, "/me");
}

// ---- Callbacks that come too late, twice, or with an error.

#[rocket::async_test]
async fn an_attempt_lives_for_half_an_hour_and_is_started_once_more_by_itself() {
    for (setting, good, late) in [(None, 29, 31), (Some("5m"), 4, 6)] {
        let provider = TestProvider::start().await;
        let mut app = App::new(&provider);
        if let Some(text) = setting {
            app = app.with("oidc.sign_in_timeout", text);
        }
        let browser = node(&app).await;
        let address = "/notes?page=1&sort=x";
        let callback = browser.begin_sign_in(&provider, address).await;
        app.advance(minutes(good));
        assert_redirect(&arrive(&browser, &callback).await, address);

        let browser = browser.another();
        let callback = browser.begin_sign_in(&provider, address).await;
        app.advance(minutes(late));
        let asked = provider.count(TOKEN);
        let page = arrive(&browser, &callback).await;
        let again = led_to_provider(&browser, &provider, &page).await;
        let again = again.expect("the sign-in starts once more by itself");
        assert_eq!(provider.count(TOKEN), asked);
        // The second failure is a page.
        app.advance(minutes(late));
        let page = arrive(&browser, &again).await;
        is_page_with_a_button(&page);
        assert_eq!(provider.count(TOKEN), asked);
        // Its link begins from the start.
        let page = browser.sign_in(&provider, "/oidc/login?next=/me").await;
        page.is(Status::Ok);
    }
}

#[rocket::async_test]
async fn a_sign_in_that_was_started_once_more_ends_on_its_page() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = node(&app).await;
    let address = "/notes?page=1&sort=x";
    let callback = browser.begin_sign_in(&provider, address).await;
    app.advance(minutes(31));
    let page = arrive(&browser, &callback).await;
    let page = browser.follow(&provider, page).await;
    page.is(Status::Ok).sees("alice, page 1");
    assert_eq!(page.url, address);
}

#[rocket::async_test]
async fn a_code_that_the_provider_calls_expired_starts_the_sign_in_once_more() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = node(&app).await;
    provider.on_token_response(|reply| *reply = Reply::error(400, "invalid_grant", "expired"));
    let callback = browser.begin_sign_in(&provider, "/me").await;
    let page = arrive(&browser, &callback).await;
    let again = led_to_provider(&browser, &provider, &page).await;
    let again = again.expect("the sign-in starts once more by itself");
    is_page(&arrive(&browser, &again).await);
    assert_eq!(provider.count(TOKEN), 2);
}

#[rocket::async_test]
async fn a_late_or_repeated_callback_redirects_a_signed_in_user_to_its_page() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with("oidc.session.idle_timeout", "3h");
    let browser = node(&app).await;
    let address = "/notes?page=1&sort=x";
    let late = browser.begin_sign_in(&provider, "/notes?page=2&sort=y").await;
    let callback = browser.begin_sign_in(&provider, address).await;
    assert_redirect(&arrive(&browser, &callback).await, address);
    let session = record(&browser).await.expect("signed in")["session"].clone();
    for passed in [0, 10, 31] {
        app.advance(minutes(passed));
        let asked = provider.requests_to(TOKEN);
        let codes = |requests: &[crate::support::RecordedRequest]| {
            let codes = requests.iter().filter(|r| r.form_value("code").is_some());
            codes.count()
        };
        assert_redirect(&arrive(&browser, &callback).await, address);
        if passed == 31 {
            assert_redirect(&arrive(&browser, &late).await, "/notes?page=2&sort=y");
        }
        let now = provider.requests_to(TOKEN);
        assert_eq!(codes(&now), codes(&asked), "a code was sent after {passed} min");
        let seen = record(&browser).await.expect("signed in");
        assert_eq!(seen["session"], session);
    }
}

#[rocket::async_test]
async fn a_state_that_is_no_attempt_is_a_page() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = node(&app).await;
    let callback = browser.begin_sign_in(&provider, "/me").await;
    let state = callback.param("state").expect("a state").to_owned();
    let mut changed = vec![
        String::new(),
        "x".to_owned(),
        Numbers::seeded(5).text(state.len()),
        format!("{state}A"),
        state[..state.len() - 1].to_owned(),
    ];
    for at in [0, state.len() / 3, state.len() / 2, state.len() - 2] {
        let mut bytes = state.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        changed.push(String::from_utf8(bytes).expect("ASCII"));
    }
    for state in changed {
        is_page(&arrive(&browser, &callback.clone().set("state", &state)).await);
    }
    assert_eq!(provider.count(TOKEN), 0);
    // Made under another key.
    let other = node(&app.with("secret_key", "07".repeat(32))).await;
    let foreign = other.begin_sign_in(&provider, "/me").await;
    is_page(&arrive(&browser, &foreign).await);
    assert_redirect(&arrive(&browser, &callback).await, "/me");
}

#[rocket::async_test]
async fn an_error_response_without_state_does_nothing_by_itself() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    for is_signed_in in [false, true] {
        let browser = if is_signed_in {
            signed_in(&app, &provider).await
        } else {
            node(&app).await
        };
        let callback = browser.begin_sign_in(&provider, "/oidc/login?next=/me").await;
        let (sessions, seen) = (session_cookies(&browser), record(&browser).await);
        let asked = provider.requests().len();
        for error in [
            "access_denied",
            "login_required",
            "temporarily_unavailable",
            "server_error",
        ] {
            let response = format!("/oidc/authorize?error={error}");
            for page in [
                browser.arrive_from_provider(&response).await,
                browser.another().arrive_from_provider(&response).await,
            ] {
                is_page(&page);
            }
        }
        assert_eq!(provider.requests().len(), asked);
        assert_eq!(session_cookies(&browser), sessions);
        assert_eq!(record(&browser).await, seen);
        assert_redirect(&arrive(&browser, &callback).await, "/me");
    }
}

/// Both tabs of a new browser were opened before either had an answer.
#[rocket::async_test]
async fn tabs_that_a_new_browser_opens_at_once_all_end_on_their_pages() {
    let provider = TestProvider::start().await;
    let browser = node(&App::new(&provider)).await;
    let addresses = ["/notes?page=1&sort=x", "/notes?page=2&sort=y"];
    let login = |address: &str| {
        let next = url::form_urlencoded::byte_serialize(address.as_bytes()).collect::<String>();
        format!("/oidc/login?next={next}")
    };
    // Neither request has a cookie; the answers set theirs one after the other.
    let empty = browser.another();
    let first = browser.visit(&login(addresses[0])).await;
    let second = empty.visit(&login(addresses[1])).await;
    for (name, _) in empty.cookies() {
        browser.set_cookie(empty.cookie(&name).expect("it is there"));
    }
    let callbacks = [first, second].map(|page| {
        let location = page.location.expect("a redirect");
        provider.authorize(&location)
    });
    let (one, two) = join(arrive(&browser, &callbacks[0]), arrive(&browser, &callbacks[1])).await;
    for (page, address) in [one, two].into_iter().zip(addresses) {
        let page = browser.follow(&provider, page).await;
        page.is(Status::Ok).sees("alice, page");
        assert_eq!(page.url, address);
    }
}

/// Signing out makes a new binding: what was begun before belongs to nobody's next session.
#[rocket::async_test]
async fn an_attempt_from_before_a_sign_out_does_not_sign_in_by_itself() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with("oidc.rp_initiated_logout", false);
    let browser = node(&app).await;
    provider.user_claims(json!({ "sub": "bob" }));
    let before = browser.begin_sign_in(&provider, "/me").await;
    provider.user_claims(json!({ "sub": "alice" }));
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    let kept = browser.cookies();
    browser.submit("/oidc/logout", "").await.is(Status::SeeOther);
    arrive(&browser, &before).await;
    assert_ne!(subject(&browser).await.as_deref(), Some("bob"));
    assert_eq!(provider.count(TOKEN), 1);
    give_cookies(&browser, &kept);
    assert_eq!(record(&browser).await, None, "the session has ended");
}
