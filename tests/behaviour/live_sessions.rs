//! What is open for longer than a request ends with its session: `User::ended`.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rocket::{
    Build, Rocket, State,
    futures::{StreamExt, future::pending, stream},
    get,
    http::Status,
    routes,
    tokio::{
        task::yield_now,
        time::{sleep, timeout},
    },
};
use rocket_openidconnect::{LoggedIn, OptionalUser, SessionEnd, SessionEnded};
use serde_json::json;
use tempfile::TempDir;

use crate::{
    common::{App, frontchannel_logout, session_pages, sqlite_url},
    records::{DUE, carry_cookies},
    support::{Browser, Call, Gate, TestProvider, TestStore, case},
};

/// The sockets of an app, as their tasks have them.
#[derive(Default)]
struct Sockets(Mutex<Vec<SessionEnded>>);

#[get("/socket")]
fn socket(user: LoggedIn, sockets: &State<Sockets>) {
    let mut sockets = sockets.0.lock().unwrap_or_else(PoisonError::into_inner);
    sockets.push(user.ended());
}

/// The socket is open only once the session has been looked at by other means.
#[get("/late-socket")]
async fn late_socket(user: LoggedIn, sockets: &State<Sockets>, gate: &State<Gate>) {
    gate.wait().await;
    let mut sockets = sockets.0.lock().unwrap_or_else(PoisonError::into_inner);
    sockets.push(user.ended());
}

#[get("/visitor-socket")]
fn visitor_socket(visitor: OptionalUser, sockets: &State<Sockets>) {
    let mut sockets = sockets.0.lock().unwrap_or_else(PoisonError::into_inner);
    sockets.extend(visitor.user().map(|user| user.ended()));
}

fn rocket(app: &App) -> Rocket<Build> {
    let sockets = routes![socket, late_socket, visitor_socket];
    let rocket = app.rocket().manage(Sockets::default()).manage(Gate::closed());
    rocket.mount("/", sockets).mount("/", session_pages())
}

async fn signed_in(app: &App, provider: &TestProvider) -> Browser {
    Browser::signed_in(rocket(app), provider).await
}

/// Opens a socket in this browser.
async fn open(browser: &Browser) -> SessionEnded {
    browser.visit("/socket").await.is(Status::Ok);
    last(browser)
}

fn last(browser: &Browser) -> SessionEnded {
    let sockets = browser.client().rocket().state::<Sockets>().unwrap();
    sockets.0.lock().unwrap().pop().expect("a socket")
}

async fn end_of(socket: SessionEnded) -> SessionEnd {
    timeout(Duration::from_secs(20), socket).await.expect("the socket ends")
}

async fn reason_of(socket: SessionEnded) -> &'static str {
    end_of(socket).await.reason()
}

/// Whether it is still open, after the watcher has had its turn.
async fn is_open(socket: &mut SessionEnded) -> bool {
    for _ in 0..100 {
        yield_now().await;
    }
    timeout(Duration::from_millis(50), socket).await.is_err()
}

/// Waits until one more such call is answered.
async fn until_called(store: &TestStore, call: Call, before: usize) {
    for _ in 0..2_000 {
        if store.calls_of(call) > before {
            return;
        }
        sleep(Duration::from_millis(5)).await;
    }
    panic!("no further call {call:?}");
}

#[rocket::async_test]
async fn each_end_on_this_node_ends_its_sockets_at_once() {
    for store in ["cookie", "memory"] {
        let provider = TestProvider::start().await;
        let app = App::local(&provider)
            .with("oidc.session.store", store)
            .with("oidc.frontchannel_logout", true);
        let browser = signed_in(&app, &provider).await;
        let again = async || {
            // Not a loop of sign-ins.
            app.advance(Duration::from_secs(61));
            browser.sign_in(&provider, "/me").await.is(Status::Ok);
            let other = browser.another();
            other.sign_in(&provider, "/me").await.is(Status::Ok);
            // Two tabs of one browser, and another one of the same user.
            (open(&browser).await, open(&browser).await, open(&other).await, other)
        };
        let ends = async |sockets: (SessionEnded, SessionEnded), expected: &str| {
            case(expected);
            for socket in [sockets.0, sockets.1] {
                let end = end_of(socket).await;
                assert_eq!((end.reason(), end.has_session_ended()), (expected, true));
            }
        };

        let (first, second, mut others, other) = again().await;
        browser.submit("/oidc/logout", "").await;
        ends((first, second), "signed_out").await;
        assert!(is_open(&mut others).await);
        assert_eq!(others.await_after(other.submit("/oidc/logout", "")).await, "signed_out");

        let (first, second, others, _) = again().await;
        let token = provider.logout_token(|token| {
            token.remove("sid");
            token.set("sub", "alice");
        });
        browser.post_logout_token(&token).await.is(Status::Ok);
        ends((first, second), "backchannel_logout").await;
        assert_eq!(reason_of(others).await, "backchannel_logout");

        // The latest sign-in's.
        let (mut first, second, others, _) = again().await;
        let token = provider.logout_token(|_| ());
        let sid = token_sid(&token);
        browser
            .another()
            .visit(&frontchannel_logout(&provider.issuer(), &sid))
            .await;
        assert_eq!(reason_of(others).await, "frontchannel_logout");
        assert!(is_open(&mut first).await);
        let id = browser.visit("/session-id").await.body;
        browser.another().visit(&format!("/end/{id}")).await;
        ends((first, second), "ended_by_app").await;

        let (first, second, others, _) = again().await;
        browser.another().visit("/end-all/alice").await;
        ends((first, second), "ended_by_app").await;
        assert_eq!(reason_of(others).await, "ended_by_app");

        // What began after an end that is still recorded is not ended by it.
        let (first, second, mut others, _) = again().await;
        assert!(is_open(&mut others).await);
        browser.sign_in(&provider, "/oidc/login?next=/me").await;
        ends((first, second), "session_replaced").await;
    }
}

fn token_sid(token: &str) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let payload = token.split('.').nth(1).unwrap();
    let payload = URL_SAFE_NO_PAD.decode(payload).unwrap();
    let payload: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    payload["sid"].as_str().expect("a sid").to_owned()
}

/// A socket that ends by what is done next.
trait AwaitAfter {
    async fn await_after<T>(self, done: impl Future<Output = T>) -> &'static str;
}

impl AwaitAfter for SessionEnded {
    async fn await_after<T>(self, done: impl Future<Output = T>) -> &'static str {
        done.await;
        reason_of(self).await
    }
}

#[rocket::async_test]
async fn the_oldest_session_of_too_many_closes_its_sockets() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider)
        .with("oidc.session.store", "memory")
        .with("oidc.session.max_per_user", 1);
    let browser = signed_in(&app, &provider).await;
    let socket = open(&browser).await;
    browser.another().sign_in(&provider, "/me").await.is(Status::Ok);
    assert_eq!(reason_of(socket).await, "max_per_user");
}

#[rocket::async_test]
async fn a_socket_ends_with_the_lifetime_of_its_session() {
    for store in ["cookie", "memory"] {
        let provider = TestProvider::start().await;
        let app = App::local(&provider)
            .with("oidc.session.store", store)
            .with("oidc.session.idle_timeout", 3_600)
            .with("oidc.session.absolute_timeout", 3_600);
        let browser = signed_in(&app, &provider).await;
        let mut socket = open(&browser).await;
        app.advance(Duration::from_secs(3_599));
        assert!(is_open(&mut socket).await);
        app.advance(Duration::from_secs(1));
        assert_eq!(reason_of(socket).await, "session_expired", "{store}");
    }
}

/// An open socket is no use of its session; a request is, and the record has it.
#[rocket::async_test]
async fn a_socket_ends_when_its_session_in_a_store_is_idle() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider)
        .with("oidc.session.store", "memory")
        .with("oidc.session.idle_timeout", 600);
    let browser = signed_in(&app, &provider).await;
    let mut socket = open(&browser).await;
    app.advance(Duration::from_secs(500));
    browser.visit("/me").await.is(Status::Ok);
    app.advance(Duration::from_secs(599));
    assert!(is_open(&mut socket).await);
    app.advance(Duration::from_secs(1));
    assert_eq!(reason_of(socket).await, "session_idle");
    // It was not in use before the guard either.
    assert_eq!(browser.visit("/me").await.status, 303);
}

#[rocket::async_test]
async fn a_socket_of_a_session_in_cookies_does_not_end_by_idleness() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider).with("oidc.session.idle_timeout", 600);
    let browser = signed_in(&app, &provider).await;
    let mut socket = open(&browser).await;
    app.advance(Duration::from_secs(3_600));
    assert!(is_open(&mut socket).await);
    let id = browser.visit("/end-all/alice");
    assert_eq!(socket.await_after(id).await, "ended_by_app");
}

#[rocket::async_test]
async fn a_rejected_refresh_closes_the_sockets() {
    for store in ["cookie", "memory"] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider).with("oidc.session.store", store);
        let browser = signed_in(&app, &provider).await;
        let socket = open(&browser).await;
        app.advance(DUE);
        provider.revoke_refresh_tokens();
        browser.visit("/me").await;
        assert_eq!(reason_of(socket).await, "refresh_refused", "{store}");
    }
}

/// Until then the provider has not been asked whether its session goes on. Other requests of the page ask.
#[rocket::async_test]
async fn an_overdue_session_closes_its_sockets() {
    for store in ["cookie", "memory"] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider)
            .with("oidc.session.store", store)
            .with("oidc.session.refresh_grace", 1_000);
        let browser = signed_in(&app, &provider).await;
        let mut socket = open(&browser).await;
        app.advance(DUE);
        browser.visit("/me").await.is(Status::Ok);
        assert_eq!(provider.count("/token"), 2);
        app.advance(Duration::from_secs(1_200));
        assert!(is_open(&mut socket).await, "{store}");
        app.advance(Duration::from_secs(100));
        let end = end_of(socket).await;
        assert_eq!((end.reason(), end.has_session_ended()), ("refresh_unavailable", false));
        // A new connection has the session refreshed.
        drop(open(&browser).await);
    }
}

/// Two nodes with one store: a browser at the first, and the same at the second.
struct Nodes {
    provider: TestProvider,
    app: App,
    at_a: Browser,
    at_b: Browser,
    a: TestStore,
    _directory: TempDir,
}

impl Nodes {
    /// With sessions in the store, or in cookies with notes in SQLite.
    async fn start(is_in_cookies: bool) -> Nodes {
        let provider = TestProvider::start().await;
        let app = App::local(&provider).with("oidc.session.refresh_grace", 60);
        let directory = TempDir::new().unwrap();
        let a = TestStore::with_clock(&app.clock());
        let (of_a, of_b) = if is_in_cookies {
            let app = app.clone().with("oidc.session.store_url", sqlite_url(&directory));
            (app.clone(), app)
        } else {
            (app.over(&a), app.over(&a.another()))
        };
        let at_a = signed_in(&of_a, &provider).await;
        let at_b = Browser::open(rocket(&of_b)).await;
        carry_cookies(&at_a, &at_b);
        Nodes {
            provider,
            app,
            at_a,
            at_b,
            a,
            _directory: directory,
        }
    }

    /// Opens a socket at the first node, which has looked at it, and reads the feed. For sessions in the store.
    async fn open(&self) -> SessionEnded {
        let loads = self.a.calls_of(Call::Load);
        let socket = open(&self.at_a).await;
        // The guard's and the watcher's.
        until_called(&self.a, Call::Load, loads + 1).await;
        socket
    }
}

#[rocket::async_test]
#[allow(clippy::async_yields_async, reason = "the test waits for the end later")]
async fn an_end_on_another_node_closes_the_sockets_within_a_second() {
    for is_in_cookies in [false, true] {
        let nodes = Nodes::start(is_in_cookies).await;
        let again = async || {
            nodes.at_a.sign_in(&nodes.provider, "/me").await.is(Status::Ok);
            carry_cookies(&nodes.at_a, &nodes.at_b);
            if is_in_cookies {
                open(&nodes.at_a).await
            } else {
                nodes.open().await
            }
        };
        let ends = async |socket: SessionEnded, expected: &str| {
            nodes.app.advance(Duration::from_secs(1));
            let end = end_of(socket).await;
            assert!(end.has_session_ended());
            // In cookies, the first look may come later than the end, and does not know its cause.
            if !(is_in_cookies && end.reason() == "session_ended") {
                assert_eq!(end.reason(), expected);
            }
        };
        let socket = again().await;
        nodes.at_b.submit("/oidc/logout", "").await.is(Status::SeeOther);
        ends(socket, "signed_out").await;

        let socket = again().await;
        let token = nodes.provider.logout_token(|_| ());
        nodes.at_b.post_logout_token(&token).await.is(Status::Ok);
        ends(socket, "backchannel_logout").await;

        let socket = again().await;
        nodes.at_b.visit("/end-all/alice").await;
        ends(socket, "ended_by_app").await;
    }
}

/// Between the guard's look and the socket, and between the socket and its first look.
#[rocket::async_test]
async fn an_end_while_the_socket_opens_is_not_missed() {
    let nodes = Nodes::start(false).await;
    let gate = nodes.at_a.client().rocket().state::<Gate>().unwrap().clone();
    let loads = nodes.a.calls_of(Call::Load);
    let opening = async { nodes.at_a.visit("/late-socket").await.is(Status::Ok).status };
    let ending = async {
        until_called(&nodes.a, Call::Load, loads).await;
        nodes.at_b.submit("/oidc/logout", "").await;
        gate.open();
    };
    rocket::tokio::join!(opening, ending);
    assert_eq!(reason_of(last(&nodes.at_a)).await, "session_ended");

    let nodes = Nodes::start(false).await;
    let (held, loads) = (Gate::closed(), nodes.a.calls_of(Call::Load));
    // The first is the guard's: the second finds the session, and its answer is late.
    nodes.a.hold_answer(Call::Load, 2, &held);
    let socket = open(&nodes.at_a).await;
    until_called(&nodes.a, Call::Load, loads + 1).await;
    nodes.at_b.submit("/oidc/logout", "").await;
    held.open();
    nodes.app.advance(Duration::from_secs(1));
    assert_eq!(reason_of(socket).await, "signed_out");
}

/// What was ended while the store was not reachable from a node is found afterwards, without a word in the feed.
#[rocket::async_test]
async fn after_an_outage_of_the_store_every_session_is_looked_at() {
    let nodes = Nodes::start(false).await;
    let mut socket = nodes.open().await;
    let reads = nodes.a.calls_of(Call::Entries);
    nodes.a.fail_all("the store is down");
    nodes.app.advance(Duration::from_secs(1));
    until_called(&nodes.a, Call::Entries, reads).await;
    nodes.at_b.submit("/oidc/logout", "").await;
    nodes.app.advance(Duration::from_secs(50));
    assert!(is_open(&mut socket).await, "the grace");
    nodes.a.recover();
    nodes.app.advance(Duration::from_secs(1));
    assert_eq!(reason_of(socket).await, "session_ended");
}

#[rocket::async_test]
async fn a_store_that_stays_down_closes_the_sockets_after_the_grace() {
    let nodes = Nodes::start(false).await;
    let mut socket = nodes.open().await;
    let reads = nodes.a.calls_of(Call::Entries);
    nodes.a.fail_all("the store is down");
    nodes.app.advance(Duration::from_secs(1));
    until_called(&nodes.a, Call::Entries, reads).await;
    nodes.app.advance(Duration::from_secs(59));
    assert!(is_open(&mut socket).await, "the grace");
    nodes.app.advance(Duration::from_secs(1));
    let end = end_of(socket).await;
    assert_eq!((end.reason(), end.has_session_ended()), ("store_unavailable", false));
    // The session itself goes on.
    nodes.a.recover();
    nodes.at_a.visit("/me").await.is(Status::Ok);
}

/// The node that ended the session could not write to the feed.
#[rocket::async_test]
async fn an_end_that_is_not_in_the_feed_is_found_within_45_seconds() {
    let nodes = Nodes::start(false).await;
    let mut socket = nodes.open().await;
    let id = nodes.at_a.visit("/session-id").await.body;
    assert_eq!(nodes.a.inner().remove(&id).await, Ok(true));
    nodes.app.advance(Duration::from_secs(30));
    assert!(is_open(&mut socket).await);
    nodes.app.advance(Duration::from_secs(15));
    assert_eq!(reason_of(socket).await, "session_ended");
}

#[rocket::async_test]
async fn a_sign_out_that_the_store_does_not_record_closes_the_sockets() {
    let nodes = Nodes::start(false).await;
    let socket = open(&nodes.at_a).await;
    nodes.a.fail_all("the store is down");
    nodes
        .at_a
        .submit("/oidc/logout", "")
        .await
        .is(Status::ServiceUnavailable);
    assert_eq!(reason_of(socket).await, "signed_out");
}

/// Without sockets, the end of a session writes nothing more than before.
#[rocket::async_test]
async fn nodes_without_sockets_write_no_feed() {
    let nodes = Nodes::start(false).await;
    let before = nodes.a.calls_of(Call::Lock);
    nodes.at_a.submit("/oidc/logout", "").await;
    assert_eq!(nodes.a.calls_of(Call::Lock), before);

    // A socket that was closed leaves no task behind that reads.
    nodes.at_a.sign_in(&nodes.provider, "/me").await.is(Status::Ok);
    drop(open(&nodes.at_a).await);
    nodes.app.advance(Duration::from_secs(5));
    for _ in 0..100 {
        yield_now().await;
    }
    sleep(Duration::from_millis(50)).await;
    let calls = nodes.a.calls();
    nodes.app.advance(Duration::from_secs(5));
    sleep(Duration::from_millis(50)).await;
    assert_eq!(nodes.a.calls(), calls);
}

#[rocket::async_test]
async fn a_socket_of_the_testing_profile_stays_open() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider)
        .with("oidc.enabled", false)
        .with("oidc.testing_profile", json!({ "sub": "alice" }));
    let browser = Browser::open(rocket(&app)).await;
    browser.visit("/visitor-socket").await.is(Status::Ok);
    let mut socket = last(&browser);
    app.advance(Duration::from_secs(100 * 24 * 60 * 60));
    assert!(is_open(&mut socket).await);
}

/// It can be waited for again, by all means that apps have.
#[rocket::async_test]
async fn an_end_is_told_again() {
    let provider = TestProvider::start().await;
    let browser = signed_in(&App::local(&provider), &provider).await;
    let mut socket = open(&browser).await;
    browser.submit("/oidc/logout", "").await;
    let first = (&mut socket).await;
    let again = rocket::tokio::select! {
        end = &mut socket => end,
        () = pending() => unreachable!(),
    };
    let ticks = stream::repeat(()).take_until(socket);
    assert_eq!(ticks.count().await, 0);
    assert_eq!((first.reason(), again), ("signed_out", first));
}
