//! Silent sign-in: which page loads of signed-out visitors are tried at the provider, once, and come back to the page.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rocket::{
    Build, Request, Rocket, State, catch, catchers, get,
    http::{Cookie, Method, Status},
    post,
    request::{FromRequest, Outcome},
    response::Redirect,
    routes,
    serde::json::{Value, json},
};
use rocket_openidconnect::{LoggedIn, OptionalUser, User};
use url::Url;

use crate::{
    common::{App, Log, NOW, bring, cookie_name, cookie_of_kind, signed_in},
    records::DUE,
    support::{Browser, Callback, Page, TestProvider},
};

pub const LOGIN: &str = "/oidc/login?next=%2F&silent=true";

pub fn silent(provider: &TestProvider) -> App {
    App::local(provider).with("oidc.silent", true)
}

/// Puts a cookie of this kind into the browser.
pub fn plant(browser: &Browser, kind: &str, value: &str, provider: &TestProvider) {
    let cookie = Cookie::build((cookie_name(kind, provider), value.to_owned())).path("/");
    browser.set_cookie(cookie.max_age(rocket::time::Duration::days(1)).build());
}

/// The page as a signed-out visitor sees it.
#[track_caller]
pub fn is_shown(page: &Page) {
    page.is(Status::Ok);
    assert_eq!(page.json::<Value>(), json!({ "logged_in": false, "user": null }));
}

/// The values of `Set-Cookie` headers up to their attributes.
fn set(page: &Page) -> Vec<&str> {
    let cookies = page.set_cookies().into_iter();
    cookies.map(|cookie| cookie.split(';').next().unwrap()).collect()
}

/// The page is shown, whatever the browser session: nothing is tried.
pub async fn is_never_tried(browser: &Browser) {
    for _ in 0..2 {
        for _ in 0..3 {
            is_shown(&browser.visit("/").await);
        }
        browser.restart();
    }
}

/// The page is shown, then the second page load is tried.
pub async fn is_tried(browser: &Browser, provider: &TestProvider) -> Callback {
    is_shown(&browser.visit("/").await);
    begun(browser, provider, "/").await
}

/// A page load that is tried, as far as the provider.
pub async fn begun(browser: &Browser, provider: &TestProvider, path: &str) -> Callback {
    let page = browser.visit(path).await;
    let page = browser
        .visit(page.redirects_to("/oidc/login?next=").location.as_deref().unwrap())
        .await;
    let location = page
        .redirects_to(&format!("{}/authorize?", provider.issuer()))
        .location
        .as_deref();
    assert_eq!(parameter(location.unwrap(), "prompt").as_deref(), Some("none"));
    provider.authorize(location.unwrap())
}

pub fn parameter(url: &str, name: &str) -> Option<String> {
    let url = Url::parse(url).unwrap();
    let mut pairs = url.query_pairs();
    pairs
        .find(|(other, _)| other == name)
        .map(|(_, value)| value.into_owned())
}

#[track_caller]
pub fn returns(page: &Page, to: &str) {
    page.is(Status::SeeOther);
    assert_eq!(page.location.as_deref(), Some(to));
    assert_eq!(page.header("Cache-Control"), Some("no-store"));
}

// ---- Which page loads are tried.

#[rocket::async_test]
async fn without_cookies_the_page_is_shown() {
    let provider = TestProvider::start().await;
    let browser = silent(&provider).open().await;
    for _ in 0..4 {
        let page = browser.visit("/").await;
        is_shown(&page);
        let name = cookie_name("oidc_silent", &provider);
        assert_eq!(
            page.set_cookies(),
            [format!("{name}=probed; HttpOnly; SameSite=Lax; Path=/")]
        );
        assert_eq!(page.header("Cache-Control"), Some("no-store"));
        browser.forget_cookies();
    }
    let released = App::released(&provider).with("oidc.silent", true);
    let page = released.open().await.visit("/").await;
    let name = cookie_name("__Host-oidc_silent", &provider);
    assert_eq!(
        page.set_cookies(),
        [format!("{name}=probed; HttpOnly; SameSite=Lax; Secure; Path=/")]
    );
    assert_eq!(provider.count("/authorize"), 0);
}

#[rocket::async_test]
async fn a_browser_with_our_cookie_is_tried_once_for_each_browser_session() {
    for error in [
        "login_required",
        "interaction_required",
        "consent_required",
        "account_selection_required",
    ] {
        let provider = TestProvider::start().await;
        let app = silent(&provider);
        let browser = app.open().await;
        let cookie = cookie_name("oidc_silent", &provider);
        for _ in 0..2 {
            is_shown(&browser.visit("/").await);

            let page = browser.visit("/").await;
            returns(&page, LOGIN);
            assert_eq!((page.body.as_str(), page.header("Content-Type")), ("", None));
            assert_eq!(set(&page), [format!("{cookie}=requested")]);

            let page = browser.visit(LOGIN).await;
            let location = page.location.clone().unwrap();
            returns(&page, &location);
            assert_eq!(set(&page)[0], format!("{cookie}=tried"));
            assert_eq!(set(&page).len(), 2, "and the browser's id");
            assert_eq!(parameter(&location, "prompt").as_deref(), Some("none"));

            let log = Log::listen();
            let callback = provider.authorize(&location).error(error);
            let page = bring(&browser, &callback).await;
            returns(&page, "/");
            assert_eq!(page.set_cookies(), [""; 0]);
            assert_eq!(log.lines(), [""; 0]);
            log.has(&format!(
                "DEBUG: a visitor was not signed in silently: the provider returned `{error}`: "
            ));
            for _ in 0..3 {
                let page = browser.visit("/").await;
                is_shown(&page);
                assert_eq!(page.set_cookies(), [""; 0]);
                assert_eq!(page.header("Cache-Control"), None);
            }
            browser.restart();
        }
        assert_eq!(app.failures(), [""; 0]);
        assert_eq!(provider.count("/token"), 0);
    }
}

#[rocket::async_test]
async fn the_visitor_returns_to_the_page_with_its_query() {
    let provider = TestProvider::start().await;
    let rocket = silent(&provider).rocket().mount("/", routes![search]);
    let browser = Browser::open(rocket).await;
    browser.visit("/").await;
    let long = "x".repeat(600);
    for path in ["/search?q=a%20b&r=%2F", &format!("/search?q={long}")] {
        browser.forget("oidc_silent");
        browser.visit("/").await;
        let callback = begun(&browser, &provider, path).await.error("login_required");
        returns(&bring(&browser, &callback).await, path);
    }
    // No sign-in can return to an address of this length.
    browser.forget("oidc_silent");
    browser.visit("/").await;
    let long = "x".repeat(2_100);
    let page = browser.visit(&format!("/search?q={long}")).await;
    assert_eq!((page.status, page.body), (200, format!("nobody searches {long}")));
}

#[get("/search?<q>")]
fn search(visitor: OptionalUser, q: &str) -> String {
    let name = visitor.user().map_or("nobody", |user| user.subject());
    format!("{name} searches {q}")
}

#[rocket::async_test]
async fn what_is_not_a_page_load_is_never_tried() {
    let provider = TestProvider::start().await;
    let rocket = silent(&provider).rocket().mount("/", routes![post_page]);
    let browser = Browser::open(rocket).await;
    let load = [
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Dest", "document"),
        ("Accept", "text/html"),
    ];
    let dest = |dest| [load[0], ("Sec-Fetch-Dest", dest), load[2]];
    let with = |header| [load[0], load[1], header];
    let requests: [(Method, &[(&str, &str)]); 15] = [
        (Method::Head, &load),
        (Method::Post, &load),
        (Method::Get, &dest("iframe")),
        (Method::Get, &dest("embed")),
        (Method::Get, &dest("empty")),
        (Method::Get, &[("Sec-Fetch-Mode", "cors"), ("Sec-Fetch-Dest", "empty")]),
        (
            Method::Get,
            &[("Sec-Fetch-Mode", "no-cors"), ("Sec-Fetch-Dest", "image")],
        ),
        (Method::Get, &[("Sec-Fetch-Mode", "navigate")]),
        (Method::Get, &with(("Sec-Purpose", "prefetch"))),
        (Method::Get, &with(("Sec-Purpose", "prefetch;prerender"))),
        (Method::Get, &with(("Purpose", "prefetch"))),
        (Method::Get, &with(("X-Purpose", "preview"))),
        (Method::Get, &with(("X-Moz", "prefetch"))),
        // Without the headers of a browser, it may be a frame.
        (Method::Get, &[("Accept", "text/html")]),
        (Method::Get, &[]),
    ];
    for is_probed in [false, true] {
        if is_probed {
            is_shown(&browser.visit("/").await);
        }
        for (method, headers) in requests {
            let page = browser.request(method, "/", headers, "").await;
            assert_eq!((page.status, page.set_cookies()), (200, vec![]), "{method} {headers:?}");
        }
    }
    returns(&browser.visit("/").await, LOGIN);
}

#[post("/")]
fn post_page(visitor: OptionalUser) -> String {
    visitor.logged_in().to_string()
}

#[rocket::async_test]
async fn nothing_is_tried_unless_the_setting_says_so() {
    let provider = TestProvider::start().await;
    for app in [
        App::local(&provider),
        App::local(&provider).with("oidc.silent", false),
        silent(&provider).with("oidc.enabled", false),
    ] {
        let browser = app.open().await;
        plant(&browser, "oidc_silent", "probed", &provider);
        for _ in 0..3 {
            let page = browser.visit("/").await;
            is_shown(&page);
            assert_eq!(page.set_cookies(), [""; 0]);
        }
    }
    let browser = signed_in(&App::local(&provider), &provider).await;
    browser.submit("/oidc/logout", "").await.redirects_to("/");
    let names: Vec<_> = browser.cookies().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, [cookie_name("oidc_browser", &provider)]);
}

#[rocket::async_test]
async fn only_a_page_load_that_was_redirected_reaches_the_provider() {
    let provider = TestProvider::start().await;
    let browser = silent(&provider).open().await;
    // A link of another site.
    returns(&browser.visit(LOGIN).await, "/");
    for state in ["probed", "tried", "", "2"] {
        plant(&browser, "oidc_silent", state, &provider);
        returns(&browser.visit("/oidc/login?silent=true&next=/me").await, "/me");
        returns(&browser.visit("/oidc/login?silent=true&next=//evil.example").await, "/");
    }
    // The redirect was lost: it counts.
    browser.forget_cookies();
    is_shown(&browser.visit("/").await);
    returns(&browser.visit("/").await, LOGIN);
    is_shown(&browser.visit("/").await);
    // A reload of the redirect does not try again.
    browser.visit(LOGIN).await.redirects_to(&provider.issuer());
    returns(&browser.visit(LOGIN).await, "/");
    is_shown(&browser.visit("/").await);

    let browser = App::local(&provider).open().await;
    let page = browser.visit(LOGIN).await;
    let location = page.redirects_to(&provider.issuer()).location.as_deref().unwrap();
    assert_eq!(parameter(location, "prompt"), None);
}

/// In development the cookies of `127.0.0.1` are not those of `localhost`.
#[rocket::async_test]
async fn a_visitor_under_another_name_of_this_machine_stays_there() {
    let provider = TestProvider::start().await;
    let browser = silent(&provider).open().await;
    let host = [("Host", "127.0.0.1:8000")];
    is_shown(&browser.visit_with("/", &host).await);
    returns(&browser.visit_with("/", &host).await, LOGIN);
    returns(&browser.visit_with(LOGIN, &host).await, "/");
    is_shown(&browser.visit_with("/", &host).await);
}

// ---- What guards and catchers do meanwhile.

/// What the app's own code has seen.
#[derive(Clone, Default)]
struct Seen(Arc<AtomicUsize>);

/// An app's own guard, which asks ours.
struct Visitor(Option<User>);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Visitor {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let visitor = <OptionalUser>::from_request(request).await.succeeded();
        Outcome::Success(Visitor(visitor.and_then(OptionalUser::into_user)))
    }
}

#[get("/once")]
fn once(_visitor: OptionalUser, seen: &State<Seen>) -> &'static str {
    seen.0.fetch_add(1, Ordering::Relaxed);
    "once"
}

#[get("/own")]
fn own(visitor: Visitor) -> String {
    visitor.0.is_some().to_string()
}

#[get("/option")]
fn option(visitor: Option<OptionalUser>) -> String {
    visitor.is_some().to_string()
}

#[get("/both")]
fn both(_visitor: OptionalUser, user: LoggedIn) -> String {
    user.subject().to_owned()
}

#[get("/own-both")]
fn own_both(_visitor: Visitor, user: LoggedIn) -> String {
    user.subject().to_owned()
}

#[catch(401)]
fn away() -> Redirect {
    Redirect::to("/away")
}

#[catch(404)]
async fn lost(request: &Request<'_>) -> String {
    let visitor = <OptionalUser>::from_request(request).await.succeeded();
    format!("lost {}", visitor.is_some())
}

fn with_routes(rocket: Rocket<Build>, seen: &Seen) -> Rocket<Build> {
    rocket
        .manage(seen.clone())
        .mount("/", routes![once, own, option, both, own_both])
        .register("/", catchers![away, lost])
}

#[rocket::async_test]
async fn the_handler_runs_once_and_a_catcher_does_not_prevent_the_redirect() {
    let provider = TestProvider::start().await;
    let seen = Seen::default();
    let browser = Browser::open(with_routes(silent(&provider).rocket(), &seen)).await;
    for path in ["/once", "/own", "/option", "/both", "/lost"] {
        browser.forget_cookies();
        is_shown(&browser.visit("/").await);
        let expected = format!("/oidc/login?next=%2F{}&silent=true", &path[1..]);
        let page = browser.visit(path).await;
        returns(&page, &expected);
        assert_eq!((page.body.as_str(), page.header("Content-Type")), ("", None), "{path}");
    }
    assert_eq!(seen.0.load(Ordering::Relaxed), 0);
    browser.visit("/once").await.sees("once");
    assert_eq!(seen.0.load(Ordering::Relaxed), 1);
    browser.visit("/lost").await.sees("lost true");

    // A guard that needs a user takes precedence.
    browser.forget_cookies();
    is_shown(&browser.visit("/").await);
    let page = browser.visit("/own-both").await;
    assert_eq!(page.location.as_deref(), Some("/away"), "by the app's own catcher");
    let browser = Browser::open(silent(&provider).rocket().mount("/", routes![own_both])).await;
    is_shown(&browser.visit("/").await);
    returns(&browser.visit("/own-both").await, "/oidc/login?next=%2Fown-both");
    returns(&browser.visit("/me").await, "/oidc/login?next=%2Fme");
}

// ---- After a session.

#[rocket::async_test]
async fn it_is_not_tried_after_a_session_ended_until_a_user_signs_in() {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    for (store, end) in [
        ("cookie", "sign-out"),
        ("memory", "sign-out"),
        ("cookie", "idle"),
        ("memory", "idle"),
        ("cookie", "lifetime"),
        ("cookie", "lifetime unseen"),
        ("cookie", "provider"),
        ("memory", "provider"),
        ("cookie", "refresh"),
    ] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider)
            .with("oidc.silent", true)
            .with("oidc.rp_initiated_logout", false)
            .with("oidc.session.store", store);
        let browser = app.open().await;
        // Before its first session, it is.
        drop(is_tried(&browser, &provider).await);
        browser.sign_in(&provider, "/me").await.is(Status::Ok);
        let cookie = cookie_of_kind(&browser, "oidc_last_session");
        assert_eq!(cookie.value(), (NOW + 12 * 60 * 60).to_string());
        assert_eq!(cookie.max_age().unwrap().whole_days(), 400);
        browser.visit("/").await.sees("alice");
        match end {
            "sign-out" => drop(browser.submit("/oidc/logout", "").await.redirects_to("/")),
            "idle" => app.advance(minutes(61)),
            "lifetime" => app.advance(minutes(12 * 60)),
            "lifetime unseen" => {
                app.advance(minutes(12 * 60));
                browser.forget("oidc_session");
            }
            "provider" => {
                let token = provider.logout_token(|_| {});
                browser.post_logout_token(&token).await.is(Status::Ok);
            }
            "refresh" => {
                provider.revoke_refresh_tokens();
                app.advance(DUE);
                let page = browser.fetch("/me").await;
                page.is(Status::Unauthorized);
                let cookie = cookie_name("oidc_last_session", &provider);
                assert!(set(&page).contains(&&*format!("{cookie}=0")), "{page:#?}");
            }
            _ => unreachable!(),
        }
        browser.restart();
        is_never_tried(&browser).await;
        // The browser drops the session's own cookie some time later.
        browser.forget("oidc_session");
        is_never_tried(&browser).await;
        if end != "lifetime" && end != "lifetime unseen" {
            assert_eq!(
                cookie_of_kind(&browser, "oidc_last_session").value(),
                "0",
                "{store} {end}"
            );
        }
        assert_eq!(provider.count("/authorize"), 2, "{store} {end}");

        // A user signs in, and the browser loses that session without an end.
        browser.sign_in(&provider, "/me").await.is(Status::Ok);
        browser.restart();
        browser.visit("/").await.sees("alice");
        browser.forget("oidc_session");
        drop(is_tried(&browser, &provider).await);
    }
}

#[rocket::async_test]
async fn a_fetch_that_finds_the_end_of_a_session_prevents_it_too() {
    let provider = TestProvider::start().await;
    let app = silent(&provider);
    let browser = signed_in(&app, &provider).await;
    app.advance(Duration::from_secs(61 * 60));
    let page = browser.fetch("/").await;
    let cookie = cookie_name("oidc_last_session", &provider);
    assert_eq!(set(&page), [format!("{cookie}=0")]);
    assert_eq!(page.header("Cache-Control"), Some("no-store"));
    assert_eq!(browser.fetch("/").await.set_cookies(), [""; 0]);
    browser.forget("oidc_session");
    is_never_tried(&browser).await;
}

#[rocket::async_test]
async fn a_value_that_is_not_a_time_counts_as_an_end() {
    let provider = TestProvider::start().await;
    let browser = silent(&provider).open().await;
    for value in ["", "x", "99999999999999999999", "-1", "0", &NOW.to_string()] {
        browser.forget_cookies();
        plant(&browser, "oidc_last_session", value, &provider);
        is_never_tried(&browser).await;
    }
    plant(&browser, "oidc_last_session", &(NOW + 1).to_string(), &provider);
    drop(is_tried(&browser, &provider).await);
}

/// The session is kept: it is not known whether it has ended.
#[rocket::async_test]
async fn an_outage_of_the_session_store_tries_nothing() {
    let provider = TestProvider::start().await;
    let store = crate::support::TestStore::new();
    let app = silent(&provider).over(&store);
    let browser = signed_in(&app, &provider).await;
    browser.forget("oidc_last_session");
    store.fail_all("the store is down");
    for _ in 0..3 {
        let page = browser.visit("/").await;
        is_shown(&page);
        assert_eq!(page.set_cookies(), [""; 0]);
    }
}
