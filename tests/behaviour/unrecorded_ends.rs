//! The end of a session that the store does not record: a sign-out while it is down.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use rocket::{
    get,
    http::{Cookie, Method, Status},
    post, routes,
    serde::json::{Json, Value, json},
    tokio::task::yield_now,
};
use rocket_openidconnect::{__private::SessionCookies, LoggedIn, RelyingParty};
use sqlx::{Connection, Executor, SqliteConnection};
use tempfile::TempDir;

use crate::{
    common::{
        App, KEY, Log, assert_signed_out, cookie_name, frontchannel_logout, session_pages, sign_out_unrecorded,
        sqlite_url,
    },
    records::{carry_cookies, give_cookies, node as node_of, session_cookies, signed_in},
    support::{Browser, Call, Page, Reply, TestProvider, TestStore, until},
};

/// The kind of the cookie with the note.
const NOTE: &str = "oidc_ended";
/// How long a node waits at least before it tries the store again.
const PAUSE: Duration = Duration::from_secs(1);

/// A page that no guard looks at.
#[get("/plain")]
fn plain() {}

#[get("/sessions/<subject>")]
async fn sessions(subject: &str, rp: &RelyingParty) -> Json<Value> {
    let sessions = rp.sessions_of(subject).await.expect("the store is there");
    let ids = sessions.map(|sessions| sessions.into_iter().map(|s| s.id).collect::<Vec<_>>());
    Json(json!(ids))
}

#[post("/refresh")]
async fn refresh(user: LoggedIn) -> String {
    format!("{:?}", user.refresh().await.map(drop))
}

#[post("/refresh/<id>")]
async fn refresh_by_id(id: &str, rp: &RelyingParty) -> String {
    format!("{:?}", rp.refresh_session(id).await)
}

/// A node of the app that reaches the store in this way.
async fn node(app: &App, store: &TestStore) -> Browser {
    let routes = routes![plain, sessions, refresh, refresh_by_id];
    let rocket = app.over(store).rocket().mount("/", session_pages());
    Browser::open(rocket.mount("/", routes)).await
}

/// Signs in; answers the name of the session.
async fn sign_in(browser: &Browser, provider: &TestProvider) -> String {
    browser.sign_in(provider, "/me").await.is(Status::Ok);
    browser.visit("/session-id").await.body
}

/// A copy of a browser's cookies, at the same node.
fn copy_of(browser: &Browser) -> Browser {
    let copy = browser.another();
    give_cookies(&copy, &session_cookies(browser));
    copy
}

fn has_note(browser: &Browser) -> bool {
    let cookies = browser.cookies();
    cookies.iter().any(|(name, _)| name.contains(NOTE))
}

/// Visits a page until the browser's note is removed: the store has an end a moment before its node knows that.
async fn until_note_is_removed(browser: &Browser, path: &str) {
    until("the note is removed", async || {
        browser.visit(path).await.is(Status::Ok);
        !has_note(browser)
    })
    .await;
}

/// The address of a link in a page.
fn link(page: &Page, id: &str) -> Option<String> {
    let (_, rest) = page.body.split_once(&format!("id=\"{id}\" href=\""))?;
    let href = rest.split_once('"')?.0;
    let href = href.replace("&#x2F;", "/").replace("&amp;", "&");
    Some(href.replace("&#x27;", "'"))
}

/// The number of ends of sessions with this reason in the audit log.
fn ends_of(log: &Log, reason: &str) -> usize {
    let expected = format!("\"event\":\"session_ended\",\"reason\":\"{reason}\"");
    let lines = log.audit_lines().into_iter();
    lines.filter(|line| line.contains(&expected)).count()
}

#[rocket::async_test]
async fn a_sign_out_while_the_store_is_down_shows_that_it_is_unrecorded() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with("oidc.clear_site_data", ["cookies", "cache"]);
    let store = TestStore::new();
    let browser = node(&app, &store).await;
    sign_in(&browser, &provider).await;

    store.fail_all("cut");
    let (before, begun) = (store.calls_of(Call::Load), Instant::now());
    let page = browser.submit("/oidc/logout?next=/plain", "").await;
    page.is(Status::ServiceUnavailable)
        .sees("<h1>Signed out in this browser</h1>")
        .sees("This site could not record your sign-out")
        .sees("this server rejects every copy of your session");
    assert_eq!(page.header("Retry-After"), Some("5"));
    assert_eq!(page.header("Cache-Control"), Some("no-store"));
    assert_eq!(page.header("Clear-Site-Data"), Some("\"cache\""));
    // It was waited for once. The queue tries again from a second later, which a slow machine may reach.
    let loads = store.calls_of(Call::Load) - before;
    let retries = usize::try_from(begun.elapsed().as_secs()).unwrap();
    assert!((1..=1 + retries).contains(&loads), "{loads} loads");

    // The provider can be asked without what the store has.
    let there = link(&page, "sign-out-there").expect("a link to the provider");
    assert!(provider.is_end_session(&there), "{there}");
    assert!(there.contains("client_id=app&post_logout_redirect_uri="));
    assert!(!there.contains("id_token_hint"), "{there}");
    assert_eq!(link(&page, "go-on").as_deref(), Some("/plain"));
    let back = provider.end_session(&there).expect("the way back");
    let back = url::Url::parse(&back).unwrap();
    let back = &back[url::Position::BeforePath..];
    let page = browser.arrive_from_provider(back).await;
    page.redirects_to("/plain");
    // Not without the note.
    assert_eq!(page.header("Clear-Site-Data"), None);

    assert_eq!(session_cookies(&browser), []);
    let note = browser.cookie(&cookie_name(NOTE, &provider)).unwrap();
    assert_eq!((note.http_only(), note.path()), (Some(true), Some("/")));
    let life = note.max_age().unwrap().whole_seconds();
    assert_eq!(life, 12 * 60 * 60);
    browser.visit("/").await.sees("\"logged_in\":false");
}

#[rocket::async_test]
async fn an_unrecorded_sign_out_is_logged_once() {
    for (is_down, cause) in [(true, "cut"), (false, "read only")] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider);
        let store = TestStore::new();
        let browser = node(&app, &store).await;
        let id = sign_in(&browser, &provider).await;
        if is_down {
            store.fail_all(cause);
        } else {
            store.fail_writes(cause);
        }
        let log = Log::listen();
        let page = browser.submit("/oidc/logout", "").await;
        page.is(Status::ServiceUnavailable);
        // Attempts that fail are not told again.
        for _ in 0..3 {
            app.advance(Duration::from_secs(40));
            browser.visit("/plain").await.is(Status::Ok);
            for _ in 0..100 {
                yield_now().await;
            }
        }
        assert_eq!(
            log.lines(),
            [
                format!("ERROR: the session store is not reachable: {cause}"),
                "INFO: check that the session store at `oidc.session.store_url` is running and that this machine can reach it".to_owned(),
                "WARN: a sign-out is not recorded; it is retried until the store records it".to_owned(),
            ]
        );
        assert_eq!(ends_of(&log, "signed_out"), 1);
        store.recover();
        app.advance(PAUSE);
        browser.visit("/plain").await.is(Status::Ok);
        store.until_removed(&id).await;
        let expected = "INFO: the store has recorded 1 queued ends of sessions";
        until(expected, async || log.lines().iter().any(|line| line == expected)).await;
    }
}

#[rocket::async_test]
async fn a_node_survives_one_outage_after_another() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let store = TestStore::new();
    let other_way = store.another();
    let (browser, elsewhere) = (node(&app, &store).await, node(&app, &other_way).await);
    let log = Log::listen();
    let recorded = || {
        let lines = log.lines().into_iter();
        lines
            .filter(|line| line.starts_with("INFO: the store has recorded"))
            .collect::<Vec<_>>()
    };
    for outage in 1..=2 {
        let id = sign_in(&browser, &provider).await;
        sign_out_unrecorded(&browser, &store).await;
        store.recover();
        app.advance(PAUSE);
        browser.visit("/plain").await.is(Status::Ok);
        store.until_removed(&id).await;
        until("the recorded end is logged", async || recorded().len() >= outage).await;
    }
    let line = "INFO: the store has recorded 1 queued ends of sessions";
    assert_eq!(recorded(), [line; 2]);

    // What a browser brings from another node was no outage of this one.
    let id = sign_in(&elsewhere, &provider).await;
    sign_out_unrecorded(&elsewhere, &other_way).await;
    let visitor = browser.another();
    carry_cookies(&elsewhere, &visitor);
    visitor.visit("/plain").await.is(Status::Ok);
    store.until_removed(&id).await;
    until_note_is_removed(&visitor, "/plain").await;
    assert_eq!(recorded(), [line; 2]);
}

#[rocket::async_test]
async fn an_unrecorded_sign_out_links_to_the_site_of_the_setting() {
    let provider = TestProvider::start().await;
    let elsewhere = "https://www.example.com/bye";
    let app = App::new(&provider)
        .with("oidc.post_logout_redirect_uri", elsewhere)
        .with("oidc.clear_site_data", ["cookies", "cache"]);
    let store = TestStore::new();
    let browser = node(&app, &store).await;
    sign_in(&browser, &provider).await;
    store.fail_all("cut");
    // The provider leads there, whatever `next` says.
    let page = browser.submit("/oidc/logout?next=/plain", "").await;
    page.is(Status::ServiceUnavailable);
    assert_eq!(page.header("Clear-Site-Data"), Some("\"cache\""));
    assert!(link(&page, "sign-out-there").is_some());
    assert_eq!(link(&page, "go-on").as_deref(), Some(elsewhere));
}

#[rocket::async_test]
async fn a_front_channel_logout_while_the_store_is_down_shows_that_it_failed() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with("oidc.frontchannel_logout", true);
    let store = TestStore::new();
    let browser = node(&app, &store).await;
    sign_in(&browser, &provider).await;
    store.fail_all("cut");
    let frame = frontchannel_logout(&provider.issuer(), "sid-1");
    let page = browser.another().visit(&frame).await;
    page.is(Status::ServiceUnavailable).sees("Not signed out.");
    store.recover();
    browser.visit("/me").await.is(Status::Ok).sees("alice");
}

/// Guards, refreshes, sign-out and the app's own functions: none of them knows the session at this node.
#[rocket::async_test]
async fn a_copy_is_refused_at_this_node_until_the_store_has_the_end() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let store = TestStore::new();
    let other_way = store.another();
    let (browser, elsewhere) = (node(&app, &store).await, node(&app, &other_way).await);
    let id = sign_in(&browser, &provider).await;
    let copy = copy_of(&browser);
    give_cookies(&elsewhere, &session_cookies(&browser));

    store.fail_writes("read only");
    let page = browser.submit("/oidc/logout", "").await;
    page.is(Status::ServiceUnavailable);
    // What the store has of it is known.
    let there = link(&page, "sign-out-there").unwrap();
    assert!(there.contains("id_token_hint="), "{there}");
    provider.until_requested("/revoke", 2).await;

    let refreshes = provider.count("/token");
    copy.fetch("/me").await.is(Status::Unauthorized);
    copy.submit("/refresh", "").await.is(Status::Unauthorized);
    let page = copy.submit(&format!("/refresh/{id}"), "").await;
    assert_eq!(page.body, "Err(NoSession(Ended))");
    assert_eq!(provider.count("/token"), refreshes);
    copy.visit("/sessions/alice").await.sees("[]");
    let again = copy.another();
    give_cookies(&again, &session_cookies(&copy));
    let page = again.submit("/oidc/logout", "").await;
    page.is(Status::ServiceUnavailable);
    // Whoever can ask again gets the error.
    let page = copy.visit(&format!("/end/{id}")).await;
    page.sees("read only");
    // Nobody else knows yet.
    elsewhere.fetch("/me").await.is(Status::Ok).sees("alice");

    store.fail_all("cut");
    copy.fetch("/me").await.is(Status::Unauthorized);

    // Anybody who finds the store answering has the end recorded.
    store.recover();
    app.advance(PAUSE);
    let bob = copy.another();
    provider.user_claims(json!({ "sub": "bob" }));
    sign_in(&bob, &provider).await;
    store.until_removed(&id).await;
    assert_signed_out(&elsewhere).await;
    assert_signed_out(&copy).await;
    bob.visit("/me").await.is(Status::Ok).sees("bob");
    // The note has done its work.
    assert!(has_note(&browser));
    // The store has the end a moment before the node knows it.
    let mut pages = vec![];
    until("the note is removed", async || {
        pages.push(browser.visit("/plain").await);
        !has_note(&browser)
    })
    .await;
    let page = pages.pop().unwrap();
    assert_eq!(page.set_cookies().len(), 1);
    assert_eq!(page.header("Cache-Control"), Some("no-store"));
    assert!(pages.iter().all(|page| page.set_cookies().is_empty()));
    assert_eq!(browser.visit("/plain").await.set_cookies(), [""; 0]);
    // Its tokens were revoked at the sign-out.
    assert_eq!(provider.count("/revoke"), 2);
}

/// The node that knew of it is gone.
#[rocket::async_test]
async fn the_browser_has_another_node_record_its_sign_out() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let store = TestStore::new();
    let other_way = store.another();
    let browser = node(&app, &store).await;
    let id = sign_in(&browser, &provider).await;
    let copy = node(&app, &other_way).await;
    give_cookies(&copy, &session_cookies(&browser));
    sign_out_unrecorded(&browser, &store).await;
    let elsewhere = copy.another();
    carry_cookies(&browser, &elsewhere);
    drop(browser);
    copy.fetch("/me").await.is(Status::Ok).sees("alice");

    let page = elsewhere.visit("/plain").await;
    assert_eq!(page.is(Status::Ok).set_cookies(), [""; 0]);
    copy.fetch("/me").await.is(Status::Unauthorized);
    other_way.until_removed(&id).await;
    copy.fetch("/me").await.is(Status::Unauthorized);
    elsewhere.visit("/").await.sees("\"logged_in\":false");
    until_note_is_removed(&elsewhere, "/").await;
}

#[rocket::async_test]
async fn the_next_sign_out_of_the_browser_records_the_one_before() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with("oidc.rp_initiated_logout", false);
    let store = TestStore::new();
    let browser = node(&app, &store).await;
    let id = sign_in(&browser, &provider).await;
    let log = Log::listen();
    store.fail_all("cut");
    for _ in 0..2 {
        // Such as by loading the page again.
        let page = browser.submit("/oidc/logout?next=/plain", "").await;
        page.is(Status::ServiceUnavailable);
        assert_eq!(link(&page, "sign-out-there"), None);
        assert_eq!(link(&page, "go-on").as_deref(), Some("/plain"));
    }
    store.recover();
    let page = browser.submit("/oidc/logout?next=/plain", "").await;
    page.redirects_to("/plain");
    assert_eq!(store.inner().load(&id).await, Ok(None));
    assert!(!has_note(&browser));
    assert_eq!(ends_of(&log, "signed_out"), 1);
}

/// A store of the app's own may have a mistake.
#[rocket::async_test]
async fn an_end_outlasts_a_panic_of_the_store() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with("oidc.rp_initiated_logout", false);
    let store = TestStore::new();
    let browser = node(&app, &store).await;
    let id = sign_in(&browser, &provider).await;
    sign_out_unrecorded(&browser, &store).await;
    store.recover();
    store.panic_at_writes();
    let before = store.calls_of(Call::Remove);
    app.advance(PAUSE);
    browser.visit("/plain").await.is(Status::Ok);
    until("the store panics", async || store.calls_of(Call::Remove) > before).await;

    store.recover();
    until_note_is_removed(&browser, "/plain").await;
    assert_eq!(store.inner().load(&id).await, Ok(None));
}

#[rocket::async_test]
async fn a_later_sign_in_of_the_browser_is_kept() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let store = TestStore::new();
    let browser = node(&app, &store).await;
    let id = sign_in(&browser, &provider).await;
    sign_out_unrecorded(&browser, &store).await;
    store.recover();
    app.advance(PAUSE);
    let new = sign_in(&browser, &provider).await;
    assert_ne!(new, id);
    store.until_removed(&id).await;
    until_note_is_removed(&browser, "/me").await;
    browser.visit("/me").await.is(Status::Ok).sees("alice");
    browser.visit("/me").await.is(Status::Ok).sees("alice");
}

/// By a note a browser ends sessions that were signed out, and no others.
#[rocket::async_test]
async fn a_note_that_was_not_made_for_it_ends_nothing() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let store = TestStore::new();
    let other_way = store.another();
    let browser = node(&app, &store).await;
    let mallory = browser.another();
    let of_alice = sign_in(&browser, &provider).await;
    provider.user_claims(json!({ "sub": "mallory" }));
    let of_mallory = sign_in(&mallory, &provider).await;
    let copy = copy_of(&mallory);
    sign_out_unrecorded(&mallory, &store).await;
    let name = cookie_name(NOTE, &provider);
    let note = mallory.cookie(&name).unwrap();

    // Another node, which knows of nothing.
    let victim = node(&app, &other_way).await;
    carry_cookies(&browser, &victim);
    let other_keys = SessionCookies::new(KEY, &provider.issuer(), "other").unwrap();
    let others_id = other_keys.encrypt(b"x");
    let own_id = session_cookies(&browser)[0].1.clone();
    let (start, end) = note.value().split_at(60);
    let other = if end.starts_with('A') { "B" } else { "A" };
    let changed = format!("{start}{other}{}", &end[1..]);
    for value in [&changed, &others_id, &own_id, "", "?", &note.value()[..60]] {
        victim.set_cookie(Cookie::build((name.clone(), value.to_owned())).path("/").build());
        let page = victim.visit("/me").await;
        assert_eq!(page.is(Status::Ok).set_cookies().len(), 1, "{value}");
        // Nobody can read it later.
        assert!(!has_note(&victim), "{value}");
        copy.fetch("/session-id").await.is(Status::Unauthorized);
    }
    assert!(store.inner().load(&of_mallory).await.unwrap().is_some());

    // A sibling sub-domain plants its own.
    victim.set_cookie(note);
    victim.visit("/me").await.is(Status::Ok);
    store.until_removed(&of_mallory).await;
    until_note_is_removed(&victim, "/me").await;
    victim.visit("/me").await.is(Status::Ok).sees("alice");
    assert_eq!(victim.visit("/session-id").await.body, of_alice);
}

/// Its refresh token is refused, and nobody is there to try the end again.
#[rocket::async_test]
async fn an_unrecorded_end_at_a_refresh_is_kept() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let store = TestStore::new();
    // A sign-out that another node could not record.
    let other_store = TestStore::new();
    let elsewhere = node(&app, &other_store).await;
    sign_in(&elsewhere, &provider).await;
    sign_out_unrecorded(&elsewhere, &other_store).await;
    let note = cookie_name(NOTE, &provider);
    let earlier = elsewhere.cookie(&note).unwrap();
    let browser = node(&app, &store).await;
    let id = sign_in(&browser, &provider).await;
    let copy = copy_of(&browser);
    app.advance(Duration::from_secs(290));
    provider.revoke_refresh_tokens();
    let held = provider.hold("/token");
    let outage = async {
        provider.until_requested("/token", 3).await;
        store.fail_writes("read only");
        held.release();
    };
    let log = Log::listen();
    browser.set_cookie(earlier.clone());
    let (page, ()) = rocket::futures::future::join(browser.fetch("/me"), outage).await;
    page.is(Status::Unauthorized);
    log.has(
        "ERROR: the session store is not reachable: read only; the end of a session at its refresh is not recorded; it is retried until the store records it",
    );
    assert_eq!(ends_of(&log, "refresh_refused"), 1);
    assert_eq!(session_cookies(&browser), []);
    // It names both.
    let both = browser.cookie(&note).unwrap();
    let life = both.max_age().unwrap().whole_seconds();
    assert_eq!(life, 12 * 60 * 60);
    assert_eq!(both.value().len() - earlier.value().len(), 40 * 4 / 3);
    copy.fetch("/me").await.is(Status::Unauthorized);
    assert_eq!(provider.count("/token"), 3);

    store.recover();
    app.advance(PAUSE);
    browser.visit("/plain").await.is(Status::Ok);
    store.until_removed(&id).await;
    until_note_is_removed(&browser, "/plain").await;
}

/// As a guard's own refresh: the cookies go, and the note names the session while the store does not have its end.
#[rocket::async_test]
async fn a_refresh_that_the_app_asks_for_and_the_provider_refuses_ends_the_session() {
    for is_recorded in [true, false] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider);
        let store = TestStore::new();
        let browser = node(&app, &store).await;
        let id = sign_in(&browser, &provider).await;
        let copy = copy_of(&browser);
        // One that nobody can read leaves the new one.
        let name = cookie_name(NOTE, &provider);
        browser.set_cookie(Cookie::build((name, "AQIDBAUGBwg")).path("/").build());
        provider.revoke_refresh_tokens();
        let held = provider.hold("/token");
        let outage = async {
            provider.until_requested("/token", 2).await;
            if !is_recorded {
                store.fail_writes("read only");
            }
            held.release();
        };
        let (page, ()) = rocket::futures::future::join(browser.submit("/refresh", ""), outage).await;
        assert_eq!(page.body, "Err(NoSession(RefreshRefused))");
        assert_eq!(session_cookies(&browser), []);
        assert_eq!(has_note(&browser), !is_recorded);
        copy.fetch("/me").await.is(Status::Unauthorized);

        store.recover();
        app.advance(PAUSE);
        browser.visit("/plain").await.is(Status::Ok);
        store.until_removed(&id).await;
        until_note_is_removed(&browser, "/plain").await;
    }
}

/// The store has the end.
#[rocket::async_test]
async fn a_recorded_end_at_a_refresh_needs_no_cookie() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = node(&app, &TestStore::new()).await;
    sign_in(&browser, &provider).await;
    app.advance(Duration::from_secs(290));
    provider.revoke_refresh_tokens();
    let page = browser.fetch("/me").await;
    page.is(Status::Unauthorized);
    assert_eq!(session_cookies(&browser), []);
    assert!(!has_note(&browser), "{:?}", page.set_cookies());
}

/// With sessions in cookies the browser itself has what the provider needs.
#[rocket::async_test]
async fn a_session_in_cookies_whose_end_is_unrecorded_is_refused_at_this_node() {
    let provider = TestProvider::start().await;
    let directory = TempDir::new().unwrap();
    let url = sqlite_url(&directory);
    let app = App::new(&provider)
        .with("oidc.session.store", "cookie")
        .with("oidc.session.store_url", &url);
    let browser = signed_in(&app, &provider).await;
    let (copy, elsewhere) = (copy_of(&browser), node_of(&app).await);
    give_cookies(&elsewhere, &session_cookies(&browser));
    let mut database = SqliteConnection::connect(&url).await.unwrap();
    let mut rename = async |sql: &'static str| {
        database.execute(sql).await.unwrap();
    };
    rename("ALTER TABLE oidc_entries RENAME TO gone").await;
    let page = browser.submit("/oidc/logout", "").await;
    page.is(Status::ServiceUnavailable);
    let there = link(&page, "sign-out-there").unwrap();
    assert!(there.contains("id_token_hint="), "{there}");
    provider.until_requested("/revoke", 2).await;
    let hints = provider.requests_to("/revoke");
    let mut hints: Vec<_> = hints
        .iter()
        .filter_map(|request| request.form_value("token_type_hint"))
        .collect();
    hints.sort_unstable();
    assert_eq!(hints, ["access_token", "refresh_token"]);
    copy.fetch("/me").await.is(Status::Unauthorized);
    elsewhere.fetch("/me").await.is(Status::ServiceUnavailable);

    rename("ALTER TABLE gone RENAME TO oidc_entries").await;
    app.advance(PAUSE);
    until_note_is_removed(&browser, "/").await;
    copy.fetch("/me").await.is(Status::Unauthorized);
    elsewhere.fetch("/me").await.is(Status::Unauthorized);
}

/// Whoever kept cookies of years would fill what a node keeps, while the store is down.
#[rocket::async_test]
async fn an_expired_session_needs_no_end() {
    let provider = TestProvider::start().await;
    let directory = TempDir::new().unwrap();
    let url = sqlite_url(&directory);
    let app = App::new(&provider)
        .with("oidc.rp_initiated_logout", false)
        .with("oidc.session.store", "cookie")
        .with("oidc.session.store_url", &url);
    let browser = signed_in(&app, &provider).await;
    let mut database = SqliteConnection::connect(&url).await.unwrap();
    let rename = "ALTER TABLE oidc_entries RENAME TO gone";
    database.execute(rename).await.unwrap();
    let hour = Duration::from_secs(60 * 60);
    for passed in [11 * hour, 2 * hour, 300 * hour] {
        app.advance(passed);
        let copy = copy_of(&browser);
        let page = copy.submit("/oidc/logout?next=/visitor", "").await;
        if passed == 11 * hour {
            page.is(Status::ServiceUnavailable);
            assert!(has_note(&copy));
        } else {
            page.redirects_to("/visitor");
            assert!(!has_note(&copy));
        }
    }
}

/// Its tokens are nobody's then.
#[rocket::async_test]
async fn a_sign_out_during_a_refresh_leaves_no_tokens() {
    let provider = TestProvider::start().await;
    let directory = TempDir::new().unwrap();
    let url = sqlite_url(&directory);
    let app = App::new(&provider)
        .with("oidc.session.store", "cookie")
        .with("oidc.session.store_url", &url);
    let browser = signed_in(&app, &provider).await;
    let copy = copy_of(&browser);
    let mut database = SqliteConnection::connect(&url).await.unwrap();
    app.advance(Duration::from_secs(290));
    // The reply is under way already.
    provider.on_path("/revoke", Reply::status(200));
    let held = provider.hold("/token");
    let sign_out = async {
        provider.until_requested("/token", 2).await;
        let rename = "ALTER TABLE oidc_entries RENAME TO gone";
        database.execute(rename).await.unwrap();
        let page = copy.submit("/oidc/logout", "").await;
        page.is(Status::ServiceUnavailable);
        provider.until_requested("/revoke", 2).await;
        held.release();
    };
    let (page, ()) = rocket::futures::future::join(browser.fetch("/me"), sign_out).await;
    page.is(Status::Unauthorized);
    provider.until_requested("/revoke", 4).await;
    let tokens: HashSet<_> = provider.revoked_tokens().into_iter().collect();
    assert_eq!(tokens.len(), 4, "each once");
}

/// The newest cookies may be a thief's.
#[rocket::async_test]
async fn an_older_copy_ends_the_session_too() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with("oidc.rp_initiated_logout", false);
    let thief = app.open().await;
    thief.sign_in(&provider, "/me").await.is(Status::Ok);
    let victim = copy_of(&thief);
    app.advance(Duration::from_secs(290));
    thief.fetch("/me").await.is(Status::Ok);
    thief.fetch("/me").await.is(Status::Ok);
    app.advance(Duration::from_secs(100));
    victim.fetch("/me").await.is(Status::Unauthorized);
    thief.fetch("/me").await.is(Status::Ok);
    victim.submit("/oidc/logout", "").await.redirects_to("/");
    assert_signed_out(&thief).await;
    // By the tokens that the older copy has.
    provider.until_requested("/revoke", 2).await;
}

/// Its form is bound to the session, which only the cookie tells.
#[rocket::async_test]
async fn the_button_works_while_the_store_is_down() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let store = TestStore::new();
    let browser = node(&app, &store).await;
    sign_in(&browser, &provider).await;
    store.fail_all("cut");
    let page = browser.visit("/oidc/logout").await;
    let (_, rest) = page.body.split_once("name=\"button\" value=\"").unwrap();
    let form = format!("button={}", rest.split_once('"').unwrap().0);
    store.recover();
    let headers = [
        ("Host", "internal.example:8000"),
        ("Origin", "null"),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    let page = browser.request(Method::Post, "/oidc/logout", &headers, &form).await;
    page.is(Status::SeeOther);
}
