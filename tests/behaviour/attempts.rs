//! Attempts to sign in: what a browser, its owner, a sibling sub-domain and a lost connection make of them.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rocket::{
    Request,
    http::{Cookie, Method, Status},
    serde::json::{Value, json},
    tokio::{
        self, join,
        sync::Semaphore,
        time::{sleep, timeout},
    },
};
use rocket_openidconnect::{__private::SessionCookies, Events, NewSignIn, Refused};
use url::Url;

use crate::{
    common::{App, KEY, NOW, assert_signed_out, attempt_cookies, bring, cookie_of_kind, restarts, session_pages},
    records::{carry_cookies, session_cookie},
    support::{Browser, Callback, Held, Page, Reply, TestProvider, TestStore},
};

const NOT_PENDING: &str = "the response belongs to no sign-in of this browser";
const USED: &str = "the sign-in of this response was completed, or has failed";

/// A page with a button that begins the sign-in anew.
#[track_caller]
fn shows_a_button(page: &Page, next: &str) {
    page.is(Status::BadRequest).sees(&format!(
        "<a class=\"button\" href=\"&#x2F;oidc&#x2F;login?next={next}\">"
    ));
}

fn state(page: &Page) -> String {
    let url = Url::parse(page.location.as_deref().unwrap()).unwrap();
    let mut pairs = url.query_pairs();
    pairs.find(|(name, _)| name == "state").unwrap().1.into()
}

// ---- Many tabs.

/// More than any number of cookies would hold.
#[rocket::async_test]
async fn any_number_of_tabs_end_on_their_pages() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    let browser = app.open().await;
    let mut tabs = vec![];
    for i in 0..200 {
        let page = format!("/notes?page={i}&sort={}", "a".repeat(235));
        tabs.push((browser.begin_sign_in(&provider, &page).await, page));
    }
    let cookies = browser.cookies().into_iter();
    let header: usize = cookies.map(|(n, v)| n.len() + v.len() + 3).sum();
    assert!(header < 1_024, "{header}");
    let mut states = HashSet::new();
    for (callback, page) in tabs {
        let state = callback.param("state").unwrap();
        assert!(state.len() <= 500, "{}", state.len());
        states.insert(state.to_owned());
        bring(&browser, &callback).await.redirects_to(&page);
    }
    assert_eq!(states.len(), 200);
    assert_eq!(app.failures(), [""; 0]);
}

/// Each gets an id of its own, and the browser keeps the last one.
#[rocket::async_test]
async fn tabs_that_a_new_browser_opens_at_once_end_on_their_pages() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    let browser = app.open().await;
    let mut tabs = vec![];
    for i in 0..10 {
        browser.forget_cookies();
        let page = format!("/notes?page={i}&sort=x");
        tabs.push((browser.begin_sign_in(&provider, &page).await, page));
    }
    let mut restarted = 0;
    for (callback, wanted) in &tabs {
        let mut page = bring(&browser, callback).await;
        if page.location.as_deref() != Some(wanted) {
            restarts(&page, &provider);
            restarted += 1;
            page = browser.follow(&provider, page).await;
            page.is(Status::Ok);
            assert_eq!(page.url, *wanted);
        }
    }
    // The first signs in, and the others are led to their pages.
    assert_eq!(restarted, 1);
    assert_eq!(app.failures(), [""; 0]);
}

#[rocket::async_test]
async fn an_address_that_is_too_long_for_state_is_in_a_cookie() {
    let provider = TestProvider::start().await;
    for app in [App::local(&provider), App::released(&provider).local_only()] {
        let browser = app.open().await;
        let long = |i: u8| format!("/notes?page={i}&sort={}", "a".repeat(320));
        let mut tabs = vec![];
        for i in 0..3 {
            tabs.push(browser.begin_sign_in(&provider, &long(i)).await);
            app.advance(Duration::from_secs(1));
        }
        // The browser's, and two of three attempts.
        assert_eq!(attempt_cookies(&browser).len(), 3);
        let details = browser.cookies().into_iter();
        let details = details.filter(|(name, _)| name.contains("oidc_attempt_"));
        let sizes: usize = details.map(|(n, v)| n.len() + 1 + v.len()).sum();
        assert!(sizes <= 2_048, "{sizes}");
        bring(&browser, &tabs[0]).await.is(Status::SeeOther);
        for (i, expected) in [(0, "/".to_owned()), (1, long(1)), (2, long(2))] {
            let page = bring(&browser, &tabs[i]).await;
            assert_eq!(page.location.as_deref(), Some(&*expected));
        }
        assert_eq!(app.failures(), [""; 0]);
    }
}

#[rocket::async_test]
async fn cookies_of_attempts_have_two_kilobytes_together() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    let browser = app.open().await;
    let long = |length| format!("/notes?page=1&sort={}", "a".repeat(length));
    let one = browser.begin_sign_in(&provider, &long(800)).await;
    app.advance(Duration::from_secs(1));
    let _ = browser.begin_sign_in(&provider, &long(800)).await;
    assert_eq!(attempt_cookies(&browser).len(), 2);
    bring(&browser, &one).await.redirects_to("/");
    // Longer than any cookie: it is not kept at all, and drops nothing.
    let fresh = browser.another();
    let _ = fresh.begin_sign_in(&provider, &long(800)).await;
    let callback = fresh.begin_sign_in(&provider, &long(1_900)).await;
    assert_eq!(attempt_cookies(&fresh).len(), 2);
    let page = bring(&fresh, &callback).await;
    assert_eq!(page.location.as_deref(), Some("/"));
}

/// A cookie with a path can be planted by a sibling sub-domain.
#[rocket::async_test]
async fn a_planted_address_is_not_followed() {
    let provider = TestProvider::start().await;
    let app = App::released(&provider).local_only();
    let browser = app.open().await;
    let attacker = browser.another();
    let long = |page| format!("/notes?page={page}&sort={}", "a".repeat(500));
    let _ = attacker.begin_sign_in(&provider, &long(666)).await;
    let callback = browser.begin_sign_in(&provider, &long(1)).await;
    let planted = cookie_of_kind(&attacker, "oidc_attempt_").value().to_owned();
    let mut own = cookie_of_kind(&browser, "oidc_attempt_");
    own.set_value(planted);
    browser.set_cookie(own);
    let page = bring(&browser, &callback).await;
    assert_eq!(page.location.as_deref(), Some("/"));
    browser.visit("/me").await.sees("alice");
}

#[rocket::async_test]
async fn state_is_as_short_as_set() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider).with("oidc.max_state_length", 200);
    let browser = app.open().await;
    let path = format!("/notes?page=1&sort={}", "a".repeat(100));
    let callback = browser.begin_sign_in(&provider, &path).await;
    assert!(callback.param("state").unwrap().len() <= 200);
    bring(&browser, &callback).await.redirects_to(&path);
}

// ---- Whose attempt it is.

/// Nobody is signed in as the attacker, whatever of the attacker's the victim's browser has.
#[rocket::async_test]
async fn a_callback_of_another_browser_does_not_sign_in() {
    let provider = TestProvider::start().await;
    let app = App::released(&provider).local_only();
    let victim = app.open().await;
    let attacker = victim.another();
    provider.user_claims(json!({ "sub": "mallory" }));
    let callback = attacker.begin_sign_in(&provider, "/me").await;
    let planted = cookie_of_kind(&attacker, "oidc_browser");
    let name = planted.name().strip_prefix("__Host-").unwrap().to_owned();
    for name in [name.clone(), format!("__Secure-{name}")] {
        let cookie = Cookie::build((name, planted.value().to_owned())).path("/oidc");
        victim.set_cookie(cookie.build());
    }

    // A browser that began nothing.
    shows_a_button(&bring(&victim, &callback).await, "%2Fme");
    assert_eq!(app.failures(), [NOT_PENDING]);
    // One that did.
    provider.user_claims(json!({ "sub": "alice" }));
    let own = victim.begin_sign_in(&provider, "/oidc/login").await;
    let page = bring(&victim, &callback).await;
    restarts(&page, &provider);
    assert_eq!(provider.count("/token"), 0);
    victim.follow(&provider, page).await.sees("alice");
    // One that is signed in.
    let page = bring(&victim, &callback).await;
    assert_eq!(page.location.as_deref(), Some("/me"));
    bring(&victim, &own).await.redirects_to("/");
    victim.visit("/me").await.sees("alice");
    assert_eq!(app.failures(), [NOT_PENDING]);

    // Nothing of it used the attempt up.
    bring(&attacker, &callback).await.redirects_to("/me");
    attacker.visit("/me").await.sees("mallory");
}

#[rocket::async_test]
async fn an_attempt_begins_once_more_by_itself_and_not_twice() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    let browser = app.open().await;
    let mut callback = browser.begin_sign_in(&provider, "/me").await;
    for is_restarted in [false, true] {
        // Another tab of a browser without cookies.
        browser.forget_cookies();
        let _ = browser.begin_sign_in(&provider, "/oidc/login").await;
        let page = bring(&browser, &callback).await;
        if !is_restarted {
            callback = provider.authorize(page.location.as_deref().unwrap());
        } else {
            shows_a_button(&page, "%2Fme");
        }
    }
    assert_eq!(provider.count("/token"), 0);
    assert_eq!(app.failures(), [NOT_PENDING]);
}

/// A person's no in a tab whose id is not the browser's any more.
#[rocket::async_test]
async fn a_denied_sign_in_is_not_restarted() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    let browser = app.open().await;
    let callback = browser.begin_sign_in(&provider, "/me").await;
    browser.forget_cookies();
    let _ = browser.begin_sign_in(&provider, "/oidc/login").await;
    let denied = callback.clone().error("access_denied");
    shows_a_button(&bring(&browser, &denied).await, "%2Fme");
    let other = callback.error("temporarily_unavailable");
    restarts(&bring(&browser, &other).await, &provider);
    let without = other.without("state");
    shows_a_button(&bring(&browser, &without).await, "%2F");
}

/// Some providers leave `state` out of an error. Anybody can make such a response: its words are told, and no more.
#[rocket::async_test]
async fn an_error_without_state_is_reported_as_unproved() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    let browser = app.open().await;
    let callback = browser.begin_sign_in(&provider, "/me").await;
    let unproved = |words: &str| {
        format!(
            "`state` is missing, or was not issued by this app; the response, which is not \
             authenticated, has the error {words}"
        )
    };
    let error = |code: &str, description: &str| {
        let error = callback.clone().error(code);
        error.set("error_description", description)
    };
    let mut told = vec![];
    for (response, words, page) in [
        (
            error("access_denied", "no").without("state"),
            "`access_denied`: no",
            "The sign-in was cancelled.",
        ),
        (
            error("access_denied", "").set("state", ""),
            "`access_denied`: ",
            "The sign-in was cancelled.",
        ),
        (
            error("access_denied", "").set("state", "another-node's"),
            "`access_denied`: ",
            "The sign-in was cancelled.",
        ),
        (
            error("server_error", "a\nb\u{1b}[31m<script>").without("state"),
            "`server_error`: a\\nb\\u{1b}[31m<script>",
            "The response of the sign-in service did not match this sign-in. Please try again.",
        ),
    ] {
        let before = browser.cookies();
        let page_shown = bring(&browser, &response).await;
        page_shown.is(Status::BadRequest).sees(page);
        assert!(!page_shown.body.contains("script"), "{}", page_shown.body);
        shows_a_button(&page_shown, "%2F");
        assert_eq!(page_shown.set_cookies(), [""; 0]);
        assert_eq!(browser.cookies(), before);
        told.push(unproved(words));
    }
    assert_eq!(app.failures(), told);
    assert_eq!(provider.count("/token"), 0);

    // The attempt that is under way is not touched.
    bring(&browser, &callback).await.redirects_to("/me");
    let page = bring(&browser, &error("access_denied", "").without("state")).await;
    page.is(Status::BadRequest);
    browser.visit("/me").await.is(Status::Ok).sees("alice");

    let long = error("server_error", &"x".repeat(5_000)).without("state");
    bring(&browser, &long).await.is(Status::BadRequest);
    assert!(app.failures().last().unwrap().len() < 500);
}

#[rocket::async_test]
async fn the_id_of_a_browser_stays_until_it_signs_out() {
    let provider = TestProvider::start().await;
    let browser = App::local(&provider).open().await;
    let id = || {
        let cookie = cookie_of_kind(&browser, "oidc_browser");
        let (id, count) = cookie.value().split_once('.').unwrap();
        (id.to_owned(), count.to_owned())
    };
    let _ = browser.begin_sign_in(&provider, "/me").await;
    let (first, count) = id();
    assert_eq!(count, "0");
    let callback = browser.begin_sign_in(&provider, "/me").await;
    assert_eq!(id(), (first.clone(), "0".to_owned()));
    bring(&browser, &callback).await.redirects_to("/me");
    assert_eq!(id(), (first.clone(), format!("1-{NOW}")));
    let open = browser.begin_sign_in(&provider, "/oidc/login?next=/me").await;
    browser.submit("/oidc/logout", "").await.redirects_to("/");
    let (second, count) = id();
    assert_ne!(second, first);
    assert_eq!(count, "0");
    // What was begun before belongs to another browser now.
    restarts(&bring(&browser, &open).await, &provider);
}

// ---- One exchange.

/// With one code and with many.
#[rocket::async_test]
async fn an_attempt_sends_one_code() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    let browser = app.open().await;
    let callback = browser.begin_sign_in(&provider, "/me").await;
    let cookies = browser.cookies();
    let forged = callback.clone().set("code", "forged");
    restarts(&bring(&browser, &forged).await, &provider);
    for i in 0..50 {
        let forged = callback.clone().set("code", &format!("forged-{i}"));
        let page = bring(&browser, &forged).await;
        shows_a_button(&page, "%2Fme");
    }
    assert_eq!(provider.count("/token"), 1);
    // The honest one comes too late.
    shows_a_button(&bring(&browser, &callback).await, "%2Fme");
    assert_eq!(app.failures(), [USED; 51]);
    assert_eq!(browser.cookies().len(), cookies.len());
    assert_signed_out(&browser).await;
}

#[rocket::async_test]
async fn a_prefetch_does_not_use_up_the_attempt() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    let browser = app.open().await;
    let callback = browser.begin_sign_in(&provider, "/me").await;
    let path = callback.path_and_query();
    for (method, headers) in [
        (Method::Head, &[][..]),
        (Method::Head, &[("Accept", "text/html")]),
        (Method::Get, &[("Purpose", "prefetch")]),
        (Method::Get, &[("X-Purpose", "preview")]),
        (Method::Get, &[("X-moz", "prefetch")]),
        (Method::Get, &[("Sec-Purpose", "prefetch;prerender")]),
        (Method::Get, &[("Sec-Fetch-Mode", "no-cors")]),
        (Method::Get, &[("Sec-Fetch-Dest", "image")]),
    ] {
        let page = browser.request(method, &path, headers, "").await;
        let expected = if method == Method::Head { 200 } else { 403 };
        assert_eq!((page.status, page.set_cookies().len()), (expected, 0));
        assert_eq!(page.header("Cache-Control"), Some("no-store"));
    }
    assert_eq!(provider.count("/token"), 0);
    assert_eq!(app.failures(), [""; 0]);
    // A client that says nothing of the kind.
    let page = browser.request(Method::Get, &path, &[], "").await;
    page.redirects_to("/me");
}

/// The same 303 and the same session, also for who asks a while later.
#[rocket::async_test]
async fn identical_callbacks_get_the_same_session() {
    let provider = TestProvider::start().await;
    for store in ["cookie", "memory"] {
        let app = App::local(&provider).with("oidc.session.store", store);
        let browser = Browser::open(app.rocket().mount("/", session_pages())).await;
        let callback = browser.begin_sign_in(&provider, "/me").await;
        let (tokens, attempt) = (provider.count("/token"), browser.cookies());
        let restore = || {
            browser.forget_cookies();
            for (name, value) in &attempt {
                let cookie = Cookie::build((name.clone(), value.clone())).path("/");
                browser.set_cookie(cookie.build());
            }
        };
        let mut ids = HashSet::new();
        for wait in [0, 0, 59] {
            app.advance(Duration::from_secs(wait));
            restore();
            bring(&browser, &callback).await.redirects_to("/me");
            browser.visit("/me").await.is(Status::Ok).sees("alice");
            ids.insert(browser.visit("/session-id").await.body);
        }
        assert_eq!(ids.len(), 1, "{ids:?}");
        // After a minute the session is not given out again.
        app.advance(Duration::from_secs(1));
        restore();
        let page = bring(&browser, &callback).await;
        assert_eq!(page.redirects_to("/me").set_cookies(), [""; 0]);
        assert_eq!(provider.count("/token"), tokens + 1);
        assert_signed_out(&browser).await;
    }
}

/// The reload of an older callback does not bring the older session back.
#[rocket::async_test]
async fn an_identical_callback_replaces_no_later_session() {
    let provider = TestProvider::start().await;
    for store in ["cookie", "memory"] {
        let app = App::local(&provider).with("oidc.session.store", store);
        let browser = app.open().await;
        provider.user_claims(json!({ "sub": "alice" }));
        let alice = browser.begin_sign_in(&provider, "/oidc/login").await;
        bring(&browser, &alice).await.redirects_to("/");
        let page = bring(&browser, &alice).await;
        assert_eq!(page.set_cookies(), [""; 0]);
        let before = browser.another();
        carry_cookies(&browser, &before);
        app.advance(Duration::from_secs(1));
        provider.user_claims(json!({ "sub": "bob" }));
        let bob = browser.begin_sign_in(&provider, "/oidc/login").await;
        carry_cookies(&browser, &before);
        bring(&browser, &bob).await.redirects_to("/");
        bring(&browser, &alice).await.redirects_to("/");
        browser.visit("/me").await.sees("bob");
        // A double of the later one, which the browser sent with the older session.
        bring(&before, &bob).await.redirects_to("/");
        before.visit("/me").await.sees("bob");
    }
}

/// An answer that was lost must not bring a session back that has ended.
#[rocket::async_test]
async fn an_ended_session_is_not_given_out_again() {
    let provider = TestProvider::start().await;
    for store in ["cookie", "memory"] {
        let app = App::local(&provider).with("oidc.session.store", store);
        let browser = app.open().await;
        let callback = browser.begin_sign_in(&provider, "/me").await;
        let attempt = cookie_of_kind(&browser, "oidc_browser");
        bring(&browser, &callback).await.redirects_to("/me");
        browser.submit("/oidc/logout", "").await.redirects_to("/");
        browser.set_cookie(attempt);
        let page = bring(&browser, &callback).await;
        assert_eq!(page.redirects_to("/me").set_cookies(), [""; 0]);
        assert_signed_out(&browser).await;
    }
}

#[rocket::async_test]
async fn identical_callbacks_get_the_same_failure() {
    let provider = TestProvider::start().await;
    provider.on_id_token(|token| token.set("nonce", "other"));
    let app = App::local(&provider);
    let browser = app.open().await;
    let callback = browser.begin_sign_in(&provider, "/me").await;
    let (one, other) = join!(bring(&browser, &callback), bring(&browser, &callback));
    one.is(Status::BadGateway);
    other.is(Status::BadGateway);
    assert_eq!(provider.count("/token"), 1);
    assert_eq!(app.failures()[0], app.failures()[1]);
    provider.until_requested("/revoke", 1).await;
}

/// The provider does not know the code any more: it begins once more, once.
#[rocket::async_test]
async fn a_code_that_expired_begins_once_more() {
    let provider = TestProvider::start().await;
    provider.on_token_response(|reply| {
        *reply = Reply::json(json!({ "error": "invalid_grant" })).with_status(400);
    });
    let app = App::local(&provider);
    let browser = app.open().await;
    let callback = browser.begin_sign_in(&provider, "/me").await;
    let page = bring(&browser, &callback).await;
    restarts(&page, &provider);
    let page = browser.follow(&provider, page).await;
    shows_a_button(&page, "%2Fme");
    assert_eq!(provider.count("/token"), 2);
    let error = "the provider's token endpoint rejected the request with `invalid_grant`: ";
    assert_eq!(app.failures(), [error]);
}

// ---- Lost connections.

/// Holds `after_authorize` until it is let go, and counts.
#[derive(Clone)]
struct Slow {
    calls: Arc<AtomicUsize>,
    gate: Arc<Semaphore>,
}

impl Slow {
    fn new() -> Slow {
        Slow {
            calls: Arc::default(),
            gate: Arc::new(Semaphore::new(0)),
        }
    }
}

#[rocket::async_trait]
impl Events for Slow {
    async fn after_authorize(&self, _: &Request<'_>, _: &mut NewSignIn<'_>) -> Result<(), Refused> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await.unwrap().forget();
        Ok(())
    }
}

/// The exchange goes on without the callback that began it, and its code is not sent again.
#[rocket::async_test]
async fn a_dropped_connection_stops_no_exchange() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    let browser = app.open().await;
    let callback = browser.begin_sign_in(&provider, "/me").await;
    let held = provider.hold("/token");
    let dropped = timeout(Duration::from_secs(5), async {
        tokio::select! {
            _ = bring(&browser, &callback) => panic!("it is held"),
            () = provider.until_requested("/token", 1) => {}
        }
    });
    dropped.await.unwrap();
    held.release();
    bring(&browser, &callback).await.redirects_to("/me");
    browser.visit("/me").await.sees("alice");
    assert_eq!(provider.count("/token"), 1);
}

/// The app's event runs again for the next identical callback.
#[rocket::async_test]
async fn the_apps_event_runs_again_after_a_connection_dropped_in_it() {
    let provider = TestProvider::start().await;
    let (app, slow) = (App::local(&provider), Slow::new());
    let browser = Browser::open(app.rocket_with(slow.clone())).await;
    let callback = browser.begin_sign_in(&provider, "/me").await;
    tokio::select! {
        _ = bring(&browser, &callback) => panic!("it is held"),
        () = async { while slow.calls.load(Ordering::SeqCst) == 0 { sleep(Duration::from_millis(5)).await } } => {}
    }
    slow.gate.add_permits(1);
    bring(&browser, &callback).await.redirects_to("/me");
    assert_eq!(slow.calls.load(Ordering::SeqCst), 2);
    bring(&browser, &callback).await.redirects_to("/me");
    assert_eq!(slow.calls.load(Ordering::SeqCst), 2);
    assert_eq!(provider.count("/token"), 1);
}

#[rocket::async_test]
async fn tokens_of_an_abandoned_sign_in_are_revoked() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    let browser = app.open().await;
    let callback = browser.begin_sign_in(&provider, "/me").await;
    let held = provider.hold("/userinfo");
    tokio::select! {
        _ = bring(&browser, &callback) => panic!("it is held"),
        () = provider.until_requested("/userinfo", 1) => {}
    }
    held.release();
    sleep(Duration::from_millis(200)).await;
    assert_eq!(provider.count("/revoke"), 0);
    app.advance(Duration::from_secs(60));
    provider.until_requested("/revoke", 2).await;
    let page = bring(&browser, &callback).await;
    assert_eq!(page.redirects_to("/me").set_cookies(), [""; 0]);
    assert_eq!(provider.count("/token"), 1);
}

#[rocket::async_test]
async fn tokens_of_a_sign_in_that_fails_are_revoked() {
    let provider = TestProvider::start().await;
    struct Refuses;
    #[rocket::async_trait]
    impl Events for Refuses {
        async fn after_authorize(&self, _: &Request<'_>, _: &mut NewSignIn<'_>) -> Result<(), Refused> {
            Err(Refused::new("no"))
        }
    }
    let browser = Browser::open(App::local(&provider).rocket_with(Refuses)).await;
    let page = browser.sign_in(&provider, "/me").await;
    page.is(Status::Forbidden);
    provider.until_requested("/revoke", 2).await;
    let hints = provider.requests_to("/revoke").into_iter();
    let hints: Vec<_> = hints
        .map(|r| r.form_value("token_type_hint").unwrap().to_owned())
        .collect();
    assert_eq!(hints, ["refresh_token", "access_token"]);
}

// ---- Form post.

/// Posts a response; answers where it leads.
async fn post(browser: &Browser, callback: &Callback) -> String {
    let form = callback.form();
    let posted = browser.submit_from_provider("/oidc/authorize", &form).await;
    format!("/oidc/authorize{}", posted.location.unwrap())
}

#[rocket::async_test]
async fn a_posted_response_is_good_for_a_minute() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider).with("oidc.response_mode", "form_post");
    let browser = app.open().await;
    let callback = browser.begin_sign_in(&provider, "/me").await;
    let path = post(&browser, &callback).await;
    app.advance(Duration::from_secs(60));
    let page = browser.arrive_from_provider(&path).await;
    // It is too late with its state, and the code was not sent.
    restarts(&page, &provider);
    assert_eq!(provider.count("/token"), 0);
    let path = post(&browser, &callback).await;
    app.advance(Duration::from_secs(59));
    let page = browser.arrive_from_provider(&path).await;
    page.redirects_to("/me");
}

#[rocket::async_test]
async fn a_posted_response_fits_into_an_address() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider).with("oidc.response_mode", "form_post");
    let browser = app.open().await;
    let callback = browser.begin_sign_in(&provider, "/me").await;
    for (length, fits) in [(3_700, true), (4_200, false)] {
        let form = callback.clone().set("code", &"c".repeat(length)).form();
        let posted = browser.submit_from_provider("/oidc/authorize", &form).await;
        if fits {
            posted.is(Status::SeeOther);
            let length = posted.location.unwrap().len();
            assert!((5_000..=5_640).contains(&length), "{length}");
        } else {
            posted.is(Status::BadRequest);
        }
    }
}

// ---- Nodes that share a store.

/// One browser before two nodes that share a store, and the response to the sign-in that it has begun.
struct TwoNodes {
    provider: TestProvider,
    app: App,
    store: TestStore,
    one: Browser,
    other: Browser,
    callback: Callback,
}

impl TwoNodes {
    async fn begin_sign_in() -> TwoNodes {
        let provider = TestProvider::start().await;
        let app = App::local(&provider);
        let store = TestStore::with_clock(&app.clock());
        let node = app.over(&store);
        let (one, other) = (node.open().await, node.open().await);
        let callback = one.begin_sign_in(&provider, "/me").await;
        carry_cookies(&one, &other);
        TwoNodes {
            provider,
            app,
            store,
            one,
            other,
            callback,
        }
    }

    /// Brings the response to the first node, and drops the connection while the provider is asked for UserInfo.
    async fn drop_callback(&self) -> Held {
        let held = self.provider.hold("/userinfo");
        tokio::select! {
            _ = bring(&self.one, &self.callback) => panic!("it is held"),
            () = self.provider.until_requested("/userinfo", 1) => {}
        }
        held
    }
}

/// The id of the session that a browser has.
#[track_caller]
fn id_of_session(browser: &Browser, provider: &TestProvider) -> String {
    let keys = SessionCookies::new(KEY, &provider.issuer(), "app").unwrap();
    let id = keys.decrypt_id(session_cookie(browser).value());
    id.expect("an id")
}

#[rocket::async_test]
async fn another_node_answers_an_identical_callback() {
    let nodes = TwoNodes::begin_sign_in().await;
    let held = nodes.provider.hold("/token");
    let (first, second, ()) = join!(
        bring(&nodes.one, &nodes.callback),
        bring(&nodes.other, &nodes.callback),
        async {
            nodes.provider.until_requested("/token", 1).await;
            sleep(Duration::from_millis(200)).await;
            held.release();
        }
    );
    first.redirects_to("/me");
    second.redirects_to("/me");
    assert_eq!(nodes.provider.count("/token"), 1);
    nodes.other.visit("/me").await.sees("alice");
    assert_eq!(
        id_of_session(&nodes.one, &nodes.provider),
        id_of_session(&nodes.other, &nodes.provider)
    );

    // Another code is not sent by the second node either.
    let forged = nodes.callback.clone().set("code", "forged");
    assert_eq!(bring(&nodes.other, &forged).await.location.as_deref(), Some("/me"));
    assert_eq!(nodes.provider.count("/token"), 1);
}

/// The first node exchanged the code for a callback that is gone; the second begins the session.
#[rocket::async_test]
async fn another_node_completes_an_abandoned_sign_in() {
    let nodes = TwoNodes::begin_sign_in().await;
    let held = nodes.drop_callback().await;
    held.release();
    bring(&nodes.other, &nodes.callback).await.redirects_to("/me");
    nodes.other.visit("/me").await.sees("alice");
    // And the first gets the same session from the second.
    bring(&nodes.one, &nodes.callback).await.redirects_to("/me");
    nodes.one.visit("/me").await.sees("alice");
    assert_eq!(
        id_of_session(&nodes.one, &nodes.provider),
        id_of_session(&nodes.other, &nodes.provider)
    );
    assert_eq!(nodes.provider.count("/token"), 1);
    nodes.app.advance(Duration::from_secs(61));
    sleep(Duration::from_millis(1_200)).await;
    assert_eq!(nodes.provider.count("/revoke"), 0);
}

/// What the first node offers is revoked after a minute, unless the second took it.
#[rocket::async_test]
async fn tokens_of_a_sign_in_that_no_node_completes_are_revoked() {
    for is_taken in [true, false] {
        let nodes = TwoNodes::begin_sign_in().await;
        let held = nodes.drop_callback().await;
        held.release();
        if is_taken {
            bring(&nodes.other, &nodes.callback).await.redirects_to("/me");
        } else {
            sleep(Duration::from_millis(500)).await;
        }
        nodes.app.advance(Duration::from_secs(61));
        if is_taken {
            sleep(Duration::from_millis(1_500)).await;
            assert_eq!(nodes.provider.count("/revoke"), 0);
            nodes.other.visit("/me").await.sees("alice");
        } else {
            nodes.provider.until_requested("/revoke", 2).await;
        }
    }
}

/// A claim lives as long as its attempt: the code is not sent a second time.
#[rocket::async_test]
async fn another_node_sends_no_code_that_was_sent_long_ago() {
    let nodes = TwoNodes::begin_sign_in().await;
    bring(&nodes.one, &nodes.callback).await.redirects_to("/me");
    // Until the first node has told of the session.
    sleep(Duration::from_millis(500)).await;
    nodes.app.advance(Duration::from_secs(29 * 60));
    let page = bring(&nodes.other, &nodes.callback).await;
    assert_eq!(page.redirects_to("/me").set_cookies(), [""; 0]);
    assert_eq!(nodes.provider.count("/token"), 1);
}

/// A node that has stopped leaves its claims behind. It is waited for as long as its requests to the provider may
/// take: three times 5 s, and two more.
#[rocket::async_test]
async fn another_node_is_waited_for_while_its_exchange_may_last() {
    for (passed, may_last) in [(17, true), (18, false)] {
        let nodes = TwoNodes::begin_sign_in().await;
        let held = nodes.drop_callback().await;
        nodes.app.advance(Duration::from_secs(passed));
        // Earlier than the first node gives up.
        let arriving = timeout(Duration::from_secs(4), bring(&nodes.other, &nodes.callback));
        if may_last {
            let release = async {
                sleep(Duration::from_millis(200)).await;
                held.release();
            };
            let (page, ()) = join!(arriving, release);
            page.expect("an answer").redirects_to("/me");
            nodes.other.visit("/me").await.sees("alice");
        } else {
            let page = arriving.await.expect("an answer at once");
            assert_eq!(page.redirects_to("/me").set_cookies(), [""; 0]);
        }
        assert_eq!(nodes.provider.count("/token"), 1);
    }
}

#[rocket::async_test]
async fn without_the_store_no_code_is_sent() {
    let nodes = TwoNodes::begin_sign_in().await;
    nodes.store.fail_all("down");
    for _ in 0..2 {
        let page = bring(&nodes.one, &nodes.callback).await;
        page.is(Status::ServiceUnavailable);
        assert_eq!(page.header("Retry-After"), Some("5"));
    }
    assert_eq!(nodes.provider.count("/token"), 0);
    nodes.store.recover();
    bring(&nodes.one, &nodes.callback).await.redirects_to("/me");
    nodes.one.visit("/me").await.sees("alice");
}

/// The session store went down between the exchange and the session: the tokens wait for a reload.
#[rocket::async_test]
async fn a_session_that_could_not_be_stored_begins_at_the_next_callback() {
    let nodes = TwoNodes::begin_sign_in().await;
    let held = nodes.provider.hold("/userinfo");
    let (page, ()) = join!(bring(&nodes.one, &nodes.callback), async {
        nodes.provider.until_requested("/userinfo", 1).await;
        nodes.store.fail_all("down");
        held.release();
    });
    page.is(Status::ServiceUnavailable);
    nodes.store.recover();
    bring(&nodes.one, &nodes.callback).await.redirects_to("/me");
    nodes.one.visit("/me").await.sees("alice");
    assert_eq!(nodes.provider.count("/token"), 1);
    assert_eq!(nodes.provider.count("/revoke"), 0);
}

/// An attempt that was encrypted under the key of before.
#[rocket::async_test]
async fn an_attempt_survives_a_change_of_the_key() {
    const OLD: &str = "b2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xkbw==";
    let provider = TestProvider::start().await;
    let old = App::local(&provider).with("secret_key", OLD).open().await;
    let new = App::local(&provider)
        .with("oidc.previous_secret_keys", [OLD])
        .open()
        .await;
    let callback = old.begin_sign_in(&provider, "/me").await;
    carry_cookies(&old, &new);
    bring(&new, &callback).await.redirects_to("/me");
    let value: Value = new.visit("/me").await.json();
    assert_eq!(value["sub"], "alice");
}

#[rocket::async_test]
async fn the_state_of_a_restarted_attempt_does_not_show_the_restart() {
    let provider = TestProvider::start().await;
    let browser = App::local(&provider).open().await;
    let callback = browser.begin_sign_in(&provider, "/me").await;
    browser.forget_cookies();
    let _ = browser.begin_sign_in(&provider, "/me").await;
    let restarted = bring(&browser, &callback).await;
    let first = browser.visit("/oidc/login?next=/me").await;
    assert_eq!(state(&restarted).len(), state(&first).len());
}
