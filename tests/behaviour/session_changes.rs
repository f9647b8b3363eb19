//! `Events::session_changed`: each way a session begins, changes or ends is told once, with whom it is about.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rocket::{
    Build, Request, Rocket,
    http::{Method, Status},
};
use rocket_openidconnect::{Events, LoggedOut, NewSignIn, SessionChange, User};
use sqlx::{Connection, Executor, SqliteConnection};
use tempfile::TempDir;
use tokio::{
    sync::{Barrier, Mutex, mpsc},
    time::timeout,
};

use crate::{
    common::{
        App, Log, assert_signed_out, cookie_name, frontchannel_logout, session_pages, sign_out_unrecorded, sqlite_url,
    },
    records::{DUE, carry_cookies},
    support::{Browser, Reply, TestProvider, TestStore, until},
};

const STORES: [&str; 2] = ["cookie", "memory"];

/// Hears of all changes, and of the ends of sign-outs.
#[derive(Clone)]
struct Listener {
    heard: mpsc::UnboundedSender<String>,
    /// Sign-outs go on when so many have come to `before_logout`, twice.
    together: Option<Arc<Barrier>>,
    panics: Arc<AtomicBool>,
}

/// What a [`Listener`] heard, in order.
struct Heard(Mutex<mpsc::UnboundedReceiver<String>>);

impl Listener {
    fn new() -> (Listener, Heard) {
        let (heard, receiver) = mpsc::unbounded_channel();
        let listener = Listener {
            heard,
            together: None,
            panics: Arc::default(),
        };
        (listener, Heard(Mutex::new(receiver)))
    }

    fn hear(&self, line: String) {
        self.heard.send(line).unwrap();
        assert!(!self.panics.load(Ordering::SeqCst), "told to panic");
    }
}

#[rocket::async_trait]
impl Events for Listener {
    async fn before_logout(&self, _: &Request<'_>, _: Option<&User>) {
        if let Some(together) = &self.together {
            // Whoever waits too may do something in between.
            together.wait().await;
            together.wait().await;
        }
        assert!(!self.panics.load(Ordering::SeqCst), "told to panic");
    }

    async fn after_logout(&self, _: &Request<'_>, logout: &LoggedOut<'_>) {
        self.hear(format!("after_logout {}", logout.reason()));
    }

    async fn session_changed(&self, request: Option<&Request<'_>>, change: &SessionChange) {
        let or_dash = |text: Option<&str>| text.unwrap_or("-").to_owned();
        let path = request.map(|request| request.uri().path().to_string());
        self.hear(
            [
                format!("{:?}", change.kind()),
                change.reason().to_owned(),
                change.issuer().to_owned(),
                or_dash(change.subject()),
                or_dash(change.sid()),
                or_dash(change.session_id()),
                or_dash(path.as_deref()),
            ]
            .join(" "),
        );
    }
}

impl Heard {
    /// What was heard since the last look.
    async fn lines(&self) -> Vec<String> {
        let mut receiver = self.0.lock().await;
        let mut lines = vec![];
        while let Ok(line) = receiver.try_recv() {
            lines.push(line);
        }
        lines
    }

    /// The next line: refreshes tell beside the requests.
    async fn next(&self) -> String {
        let mut receiver = self.0.lock().await;
        let next = timeout(Duration::from_secs(10), receiver.recv());
        next.await.expect("nothing was heard").unwrap()
    }
}

/// One line of a [`Listener`].
fn line(provider: &TestProvider, what: &str, who: [&str; 4]) -> String {
    let [subject, sid, id, path] = who;
    format!("{what} {} {subject} {sid} {id} {path}", provider.issuer())
}

fn rocket(app: &App, listener: &Listener) -> Rocket<Build> {
    app.rocket_with(listener.clone()).mount("/", session_pages())
}

/// A node of an app with several.
async fn node(app: &App, listener: &Listener, store: &TestStore) -> Browser {
    Browser::open(rocket(&app.over(store), listener)).await
}

/// Signs in; answers the session's id.
async fn sign_in(browser: &Browser, provider: &TestProvider) -> String {
    let page = browser.sign_in(provider, "/oidc/login?next=/session-id");
    page.await.is(Status::Ok).body.clone()
}

/// Launches the app and signs a browser in; answers the browser and the session's id. What was heard is dropped.
async fn signed_in(app: &App, provider: &TestProvider, listener: &Listener, heard: &Heard) -> (Browser, String) {
    let browser = Browser::open(rocket(app, listener)).await;
    let id = sign_in(&browser, provider).await;
    heard.lines().await;
    (browser, id)
}

async fn backchannel(browser: &Browser, logout_token: &str) -> u16 {
    browser.post_logout_token(logout_token).await.status
}

// ---- Sign-in and sign-out.

#[rocket::async_test]
async fn a_sign_in_and_a_sign_out_are_reported_once() {
    for store in STORES {
        let provider = TestProvider::start().await;
        let (listener, heard) = Listener::new();
        let app = App::local(&provider).with("oidc.session.store", store);
        let browser = Browser::open(rocket(&app, &listener)).await;
        let id = sign_in(&browser, &provider).await;
        let began = ["alice", "sid-1", &id, "/oidc/authorize"];
        let began = line(&provider, "Began signed_in", began);
        assert_eq!(heard.lines().await, [began], "{store}");

        let headers = [("Sec-Fetch-Site", "cross-site")];
        let refused = browser.request(Method::Post, "/oidc/logout", &headers, "");
        refused.await.is(Status::Forbidden);
        assert_eq!(heard.lines().await, [""; 0]);

        browser.submit("/oidc/logout", "").await.redirects_to("/");
        let ended = ["alice", "sid-1", &id, "/oidc/logout"];
        let ended = line(&provider, "Ended signed_out", ended);
        let after = "after_logout signed_out".to_owned();
        assert_eq!(heard.lines().await, [ended, after]);
        browser.submit("/oidc/logout", "").await.redirects_to("/");
        assert_eq!(heard.lines().await, ["after_logout no_session"]);
    }
}

#[rocket::async_test]
async fn two_sign_outs_at_once_are_one_end() {
    for store in STORES {
        let provider = TestProvider::start().await;
        let (mut listener, heard) = Listener::new();
        listener.together = Some(Arc::new(Barrier::new(2)));
        let app = App::local(&provider).with("oidc.session.store", store);
        let (browser, id) = signed_in(&app, &provider, &listener, &heard).await;
        let copy = browser.another();
        carry_cookies(&browser, &copy);
        let (one, other) = (browser.submit("/oidc/logout", ""), copy.submit("/oidc/logout", ""));
        let (one, other) = rocket::futures::future::join(one, other).await;
        one.redirects_to("/");
        other.redirects_to("/");
        let ended = ["alice", "sid-1", &id, "/oidc/logout"];
        let mut lines = heard.lines().await;
        lines.sort();
        assert_eq!(
            lines,
            [
                line(&provider, "Ended signed_out", ended),
                "after_logout session_ended".to_owned(),
                "after_logout signed_out".to_owned(),
            ],
            "{store}"
        );
    }
}

#[rocket::async_test]
async fn identical_callbacks_begin_one_session() {
    let provider = TestProvider::start().await;
    let (listener, heard) = Listener::new();
    let app = App::local(&provider);
    let browser = Browser::open(rocket(&app, &listener)).await;
    let callback = browser.begin_sign_in(&provider, "/session-id").await;
    let path = callback.path_and_query();
    let callbacks = (0..5).map(|_| browser.arrive_from_provider(&path));
    for page in rocket::futures::future::join_all(callbacks).await {
        page.redirects_to("/session-id");
    }
    let id = browser.visit("/session-id").await.body;
    let began = ["alice", "sid-1", &id, "/oidc/authorize"];
    assert_eq!(heard.lines().await, [line(&provider, "Began signed_in", began)]);
}

#[rocket::async_test]
async fn a_new_sign_in_ends_the_session_before() {
    for store in STORES {
        let provider = TestProvider::start().await;
        let (listener, heard) = Listener::new();
        let app = App::local(&provider).with("oidc.session.store", store);
        let (browser, old) = signed_in(&app, &provider, &listener, &heard).await;
        let new = sign_in(&browser, &provider).await;
        let path = "/oidc/authorize";
        let expected = [
            ("Ended session_replaced", ["alice", "sid-1", &old, path]),
            ("Began signed_in", ["alice", "sid-2", &new, path]),
        ];
        let expected = expected.map(|(what, who)| line(&provider, what, who));
        assert_eq!(heard.lines().await, expected, "{store}");

        // One that has ended otherwise is not ended once more.
        let token = provider.logout_token(|_| ());
        assert_eq!(backchannel(&browser, &token).await, 200);
        heard.lines().await;
        app.advance(Duration::from_secs(1));
        let newest = sign_in(&browser, &provider).await;
        let began = ["alice", "sid-3", &newest, path];
        let began = line(&provider, "Began signed_in", began);
        assert_eq!(heard.lines().await, [began], "{store}");
    }
}

#[rocket::async_test]
async fn a_further_session_ends_the_oldest() {
    let provider = TestProvider::start().await;
    let (listener, heard) = Listener::new();
    let app = App::local(&provider)
        .with("oidc.session.store", "memory")
        .with("oidc.session.max_per_user", 1);
    let first = Browser::open(rocket(&app, &listener)).await;
    let old = sign_in(&first, &provider).await;
    heard.lines().await;
    app.advance(Duration::from_secs(1));
    let new = sign_in(&first.another(), &provider).await;
    let path = "/oidc/authorize";
    let expected = [
        ("Ended max_per_user", ["alice", "sid-1", &old, path]),
        ("Began signed_in", ["alice", "sid-2", &new, path]),
    ];
    let expected = expected.map(|(what, who)| line(&provider, what, who));
    assert_eq!(heard.lines().await, expected);
}

/// Beside one that another node could not record, which told of it.
#[rocket::async_test]
async fn of_two_unrecorded_ends_the_browsers_own_is_reported() {
    let provider = TestProvider::start().await;
    let (listener, heard) = Listener::new();
    let app = App::local(&provider);
    let (store, other_store) = (TestStore::new(), TestStore::new());
    let elsewhere = node(&app, &listener, &other_store).await;
    sign_in(&elsewhere, &provider).await;
    sign_out_unrecorded(&elsewhere, &other_store).await;
    let note = cookie_name("oidc_ended", &provider);
    let browser = node(&app, &listener, &store).await;
    let id = sign_in(&browser, &provider).await;
    browser.set_cookie(elsewhere.cookie(&note).unwrap());
    store.fail_all("switched off");
    heard.lines().await;
    let page = browser.submit("/oidc/logout", "").await;
    page.is(Status::ServiceUnavailable);
    assert_eq!(
        heard.lines().await,
        [
            line(&provider, "Ended signed_out", ["-", "-", &id, "/oidc/logout"]),
            "after_logout store_unavailable".to_owned(),
        ]
    );
}

/// The end is kept until the store takes it, and told when it is asked for.
#[rocket::async_test]
async fn an_unrecorded_sign_out_is_reported_once() {
    let provider = TestProvider::start().await;
    let (mut listener, heard) = Listener::new();
    let together = Arc::new(Barrier::new(2));
    listener.together = Some(together.clone());
    let app = App::local(&provider);
    let store = TestStore::new();
    let browser = node(&app, &listener, &store).await;
    let id = sign_in(&browser, &provider).await;
    heard.lines().await;
    let outage = async {
        // The session was found, and the app is in `before_logout`.
        together.wait().await;
        store.fail_all("switched off");
        together.wait().await;
    };
    let submit = browser.submit("/oidc/logout", "");
    rocket::futures::future::join(submit, outage).await;
    let path = "/oidc/logout";
    assert_eq!(
        heard.lines().await,
        [
            line(&provider, "Ended signed_out", ["alice", "sid-1", &id, path]),
            "after_logout store_unavailable".to_owned(),
        ]
    );

    store.recover();
    app.advance(Duration::from_secs(40));
    until("the end is recorded", async || {
        browser.visit("/").await.is(Status::Ok);
        store.inner().load(&id).await.unwrap().is_none()
    })
    .await;
    assert_eq!(heard.lines().await, [""; 0]);
}

/// Two browsers with one session, both in the outage.
#[rocket::async_test]
async fn two_unrecorded_sign_outs_of_one_session_are_one_end() {
    let provider = TestProvider::start().await;
    let (listener, heard) = Listener::new();
    let app = App::local(&provider);
    let store = TestStore::new();
    let browser = node(&app, &listener, &store).await;
    let id = sign_in(&browser, &provider).await;
    let copy = browser.another();
    carry_cookies(&browser, &copy);
    heard.lines().await;
    store.fail_all("switched off");
    let ended = ["-", "-", &id, "/oidc/logout"];
    let mut expected = vec![line(&provider, "Ended signed_out", ended)];
    for browser in [browser, copy] {
        let page = browser.submit("/oidc/logout", "").await;
        page.is(Status::ServiceUnavailable);
        expected.push("after_logout store_unavailable".to_owned());
        assert_eq!(heard.lines().await, expected);
        expected.clear();
    }
}

/// Whatever ends it once more when the store is there again, before its end is recorded.
#[rocket::async_test]
async fn an_end_that_is_recorded_later_is_reported_once() {
    for again in ["signed_out", "ended_by_app", "backchannel_logout"] {
        let provider = TestProvider::start().await;
        let (listener, heard) = Listener::new();
        let app = App::local(&provider);
        let store = TestStore::new();
        let browser = node(&app, &listener, &store).await;
        let id = sign_in(&browser, &provider).await;
        let copy = browser.another();
        carry_cookies(&browser, &copy);
        heard.lines().await;
        sign_out_unrecorded(&browser, &store).await;
        let ended = ["-", "-", &id, "/oidc/logout"];
        let ended = line(&provider, "Ended signed_out", ended);
        let after = "after_logout store_unavailable".to_owned();
        assert_eq!(heard.lines().await, [ended, after]);

        store.recover();
        let expected = match again {
            "signed_out" => {
                copy.submit("/oidc/logout", "").await.is(Status::SeeOther);
                vec!["after_logout session_ended"]
            }
            "ended_by_app" => {
                let page = copy.visit(&format!("/end/{id}")).await;
                assert_eq!(page.body, "Ok(false)");
                vec![]
            }
            _ => {
                let token = provider.logout_token(|_| ());
                assert_eq!(backchannel(&copy, &token).await, 200);
                vec![]
            }
        };
        assert_eq!(heard.lines().await, expected, "{again}");
    }
}

// ---- The app.

#[rocket::async_test]
async fn sessions_that_the_app_ends_are_reported_before_its_call_returns() {
    let provider = TestProvider::start().await;
    let (listener, heard) = Listener::new();
    let app = App::local(&provider).with("oidc.session.store", "memory");
    let browser = Browser::open(rocket(&app, &listener)).await;
    let ids = [
        sign_in(&browser, &provider).await,
        sign_in(&browser.another(), &provider).await,
        sign_in(&browser.another(), &provider).await,
    ];
    heard.lines().await;
    let ended = |sid, id| line(&provider, "Ended ended_by_app", ["alice", sid, id, "-"]);
    let path = format!("/end/{}", ids[1]);
    assert_eq!(browser.visit(&path).await.body, "Ok(true)");
    assert_eq!(heard.lines().await, [ended("sid-2", &ids[1])]);
    assert_eq!(browser.visit(&path).await.body, "Ok(false)");
    assert_eq!(heard.lines().await, [""; 0]);

    assert_eq!(browser.visit("/end-all/alice").await.body, "Ok(Some(2))");
    let mut expected = [ended("sid-1", &ids[0]), ended("sid-3", &ids[2])];
    expected.sort();
    let mut lines = heard.lines().await;
    lines.sort();
    assert_eq!(lines, expected);
    assert_eq!(browser.visit("/end-all/alice").await.body, "Ok(Some(0))");
    assert_eq!(heard.lines().await, [""; 0]);
}

#[rocket::async_test]
async fn unrecorded_ends_by_the_app_are_not_reported() {
    let provider = TestProvider::start().await;
    let (listener, heard) = Listener::new();
    let directory = TempDir::new().unwrap();
    let url = sqlite_url(&directory);
    let app = App::local(&provider)
        .with("oidc.session.store", "cookie")
        .with("oidc.session.store_url", &url);
    let (browser, _) = signed_in(&app, &provider, &listener, &heard).await;
    let mut database = SqliteConnection::connect(&url).await.unwrap();
    let gone = "ALTER TABLE oidc_entries RENAME TO gone";
    database.execute(gone).await.unwrap();
    for path in ["/end-all/alice", "/end/some-session"] {
        browser.another().visit(path).await.sees("Err(");
    }
    assert_eq!(heard.lines().await, [""; 0]);
}

#[rocket::async_test]
async fn the_app_ends_sessions_in_cookies_of_which_it_knows_the_name() {
    let provider = TestProvider::start().await;
    let (listener, heard) = Listener::new();
    let app = App::local(&provider);
    let (browser, id) = signed_in(&app, &provider, &listener, &heard).await;
    let path = format!("/end/{id}");
    assert_eq!(browser.visit(&path).await.body, "Ok(true)");
    let ended = |who| line(&provider, "Ended ended_by_app", who);
    assert_eq!(heard.lines().await, [ended(["-", "-", &id, "-"])]);
    assert_eq!(browser.visit(&path).await.body, "Ok(false)");
    assert_eq!(heard.lines().await, [""; 0]);
    assert_eq!(browser.visit("/end-all/alice").await.body, "Ok(None)");
    assert_eq!(heard.lines().await, [ended(["alice", "-", "-", "-"])]);
}

// ---- The provider.

#[rocket::async_test]
async fn a_back_channel_logout_names_the_sessions_that_a_store_has() {
    let provider = TestProvider::start().await;
    let (listener, heard) = Listener::new();
    let app = App::local(&provider).with("oidc.session.store", "memory");
    let (browser, id) = signed_in(&app, &provider, &listener, &heard).await;
    let token = provider.logout_token(|_| ());
    let path = "/oidc/backchannel-logout";
    let ended = ["alice", "sid-1", &id, path];
    let ended = line(&provider, "Ended backchannel_logout", ended);
    assert_eq!(backchannel(&browser, &token).await, 200);
    assert_eq!(heard.lines().await, [ended]);
    // Once more, and about nobody.
    assert_eq!(backchannel(&browser, &token).await, 400);
    let token = provider.logout_token(|_| ());
    assert_eq!(backchannel(&browser, &token).await, 200);
    let token = provider.logout_token(|token| token.break_signature = true);
    assert_eq!(backchannel(&browser, &token).await, 400);
    assert_eq!(heard.lines().await, [""; 0]);
}

#[rocket::async_test]
async fn a_back_channel_logout_of_sessions_in_cookies_is_about_all_that_it_names() {
    let provider = TestProvider::start().await;
    let (listener, heard) = Listener::new();
    let app = App::local(&provider);
    let (browser, _) = signed_in(&app, &provider, &listener, &heard).await;
    let path = "/oidc/backchannel-logout";
    let tokens = [
        (
            provider.logout_token(|token| token.remove("sub")),
            ["-", "sid-1", "-", path],
        ),
        (
            provider.logout_token(|token| token.remove("sid")),
            ["alice", "-", "-", path],
        ),
        (provider.logout_token(|_| ()), ["alice", "sid-1", "-", path]),
    ];
    for (token, who) in tokens {
        assert_eq!(backchannel(&browser, &token).await, 200);
        let ended = line(&provider, "Ended backchannel_logout", who);
        assert_eq!(heard.lines().await, [ended]);
        assert_eq!(backchannel(&browser, &token).await, 400);
        assert_eq!(heard.lines().await, [""; 0]);
    }
}

#[rocket::async_test]
async fn a_front_channel_logout_is_reported_once_and_a_strangers_never() {
    for store in STORES {
        let provider = TestProvider::start().await;
        let (listener, heard) = Listener::new();
        let app = App::local(&provider)
            .with("oidc.session.store", store)
            .with("oidc.frontchannel_logout", true);
        let (browser, id) = signed_in(&app, &provider, &listener, &heard).await;
        let frame = async |issuer: &str, sid: &str| {
            let path = frontchannel_logout(issuer, sid);
            browser.another().visit(&path).await.status
        };
        let issuer = provider.issuer();
        assert_eq!(frame(&issuer, "sid-2").await, 200);
        assert_eq!(frame("https://other.example", "sid-1").await, 400);
        assert_eq!(frame(&issuer, "").await, 400);
        assert_eq!(heard.lines().await, [""; 0]);

        let path = "/oidc/frontchannel-logout";
        let who = match store {
            "cookie" => ["-", "sid-1", "-", path],
            _ => ["alice", "sid-1", &id, path],
        };
        let ended = line(&provider, "Ended frontchannel_logout", who);
        assert_eq!(frame(&issuer, "sid-1").await, 200);
        assert_eq!(heard.lines().await, [ended], "{store}");
        assert_eq!(frame(&issuer, "sid-1").await, 200);
        assert_eq!(heard.lines().await, [""; 0], "{store}");
        assert_signed_out(&browser).await;
        assert_eq!(heard.lines().await, [""; 0], "{store}");
    }
}

// ---- Times.

#[rocket::async_test]
async fn the_end_of_an_expired_session_is_reported_at_its_next_request() {
    for (lifetime, reason) in [("12h", "session_idle"), ("20m", "session_expired")] {
        for store in STORES {
            let provider = TestProvider::start().await;
            let (listener, heard) = Listener::new();
            let app = App::local(&provider)
                .with("oidc.session.store", store)
                .with("oidc.session.idle_timeout", "20m")
                .with("oidc.session.absolute_timeout", lifetime);
            let (browser, id) = signed_in(&app, &provider, &listener, &heard).await;
            app.advance(Duration::from_secs(20 * 60));
            assert_eq!(heard.lines().await, [""; 0]);
            browser.visit("/me").await.is(Status::SeeOther);
            let ended = ["alice", "sid-1", &id, "/me"];
            let ended = line(&provider, &format!("Ended {reason}"), ended);
            assert_eq!(heard.lines().await, [ended], "{store}");
            browser.visit("/me").await.is(Status::SeeOther);
            // The provider is asked all the same; nothing ends here.
            browser.submit("/oidc/logout", "").await.redirects_to("/");
            let after = format!("after_logout {reason}");
            assert_eq!(heard.lines().await, [after], "{store}");
        }
    }
}

/// That it was used since, only the newer cookie says.
#[rocket::async_test]
async fn a_cookie_from_before_its_session_was_used_is_no_end() {
    let provider = TestProvider::start().await;
    provider.on_token_response(|reply| reply.remove("refresh_token"));
    let (listener, heard) = Listener::new();
    let app = App::local(&provider);
    let browser = Browser::open(rocket(&app, &listener)).await;
    let id = sign_in(&browser, &provider).await;
    let copy = browser.another();
    carry_cookies(&browser, &copy);
    heard.lines().await;
    app.advance(Duration::from_secs(30 * 60));
    browser.visit("/me").await.is(Status::Ok);
    app.advance(Duration::from_secs(30 * 60));
    copy.visit("/me").await.is(Status::SeeOther);
    assert_eq!(heard.lines().await, [""; 0]);
    app.advance(Duration::from_secs(30 * 60));
    browser.visit("/me").await.is(Status::SeeOther);
    let ended = ["alice", "sid-1", &id, "/me"];
    let ended = line(&provider, "Ended session_idle", ended);
    assert_eq!(heard.lines().await, [ended]);
}

/// The older cookie alone looks idle: the session that it ends was in use.
#[rocket::async_test]
async fn the_end_of_a_session_in_use_by_an_older_cookie_is_reported() {
    for (way, path) in [("signed_out", "/oidc/logout"), ("session_replaced", "/oidc/authorize")] {
        let provider = TestProvider::start().await;
        provider.on_token_response(|reply| reply.remove("refresh_token"));
        let (listener, heard) = Listener::new();
        let app = App::local(&provider);
        let browser = Browser::open(rocket(&app, &listener)).await;
        let id = sign_in(&browser, &provider).await;
        let copy = browser.another();
        carry_cookies(&browser, &copy);
        app.advance(Duration::from_secs(30 * 60));
        browser.visit("/me").await.is(Status::Ok);
        app.advance(Duration::from_secs(30 * 60));
        heard.lines().await;
        match way {
            "signed_out" => {
                copy.submit("/oidc/logout", "").await.redirects_to("/");
            }
            _ => {
                sign_in(&copy, &provider).await;
            }
        }
        let ended = ["alice", "sid-1", &id, path];
        let lines = heard.lines().await;
        assert_eq!(lines[0], line(&provider, &format!("Ended {way}"), ended));
        if way == "signed_out" {
            assert_eq!(lines[1..], ["after_logout signed_out"]);
        }
        browser.visit("/me").await.is(Status::SeeOther);
        assert_eq!(heard.lines().await, [""; 0]);
    }
}

/// Two nodes that share a database: that a session was used is known to both.
#[rocket::async_test]
async fn an_older_cookie_is_no_end_at_another_node() {
    let provider = TestProvider::start().await;
    let directory = TempDir::new().unwrap();
    let url = sqlite_url(&directory);
    let app = App::local(&provider)
        .with("oidc.session.store", "cookie")
        .with("oidc.session.store_url", &url);
    let ((one, heard_by_one), (other, heard_by_other)) = (Listener::new(), Listener::new());
    let browser = Browser::open(rocket(&app, &one)).await;
    let copy = Browser::open(rocket(&app, &other)).await;
    let id = sign_in(&browser, &provider).await;
    heard_by_one.lines().await;
    carry_cookies(&browser, &copy);
    let elsewhere = copy.another();
    carry_cookies(&browser, &elsewhere);
    app.advance(Duration::from_secs(30 * 60));
    browser.visit("/me").await.is(Status::Ok);
    app.advance(Duration::from_secs(30 * 60));
    copy.visit("/me").await.is(Status::SeeOther);
    assert_eq!(heard_by_other.lines().await, [""; 0]);

    // Its end is told when it is one.
    app.advance(Duration::from_secs(30 * 60));
    copy.visit("/me").await.is(Status::SeeOther);
    let ended = |what, path| line(&provider, what, ["alice", "sid-1", &id, path]);
    let lines = heard_by_other.lines().await;
    assert_eq!(lines, [ended("Ended session_idle", "/me")]);
    browser.visit("/me").await.is(Status::SeeOther);
    assert_eq!(heard_by_one.lines().await, [""; 0]);

    // So is the end of a session in use by a sign-out with the older cookie.
    let id = sign_in(&browser, &provider).await;
    heard_by_one.lines().await;
    carry_cookies(&browser, &elsewhere);
    app.advance(Duration::from_secs(30 * 60));
    browser.visit("/me").await.is(Status::Ok);
    app.advance(Duration::from_secs(30 * 60));
    let page = elsewhere.submit("/oidc/logout", "").await;
    page.redirects_to("/");
    let ended = ["alice", "sid-2", &id, "/oidc/logout"];
    let ended = line(&provider, "Ended signed_out", ended);
    let after = "after_logout signed_out".to_owned();
    assert_eq!(heard_by_other.lines().await, [ended, after]);
    assert_signed_out(&browser).await;
}

/// It is superseded, whatever its times are.
#[rocket::async_test]
async fn a_cookie_from_before_a_refresh_is_no_end() {
    let provider = TestProvider::start().await;
    let (listener, heard) = Listener::new();
    let app = App::new(&provider);
    let browser = Browser::open(rocket(&app, &listener)).await;
    sign_in(&browser, &provider).await;
    let copy = browser.another();
    carry_cookies(&browser, &copy);
    app.advance(Duration::from_secs(30 * 60));
    for _ in 0..2 {
        browser.visit("/me").await.is(Status::Ok);
    }
    app.advance(Duration::from_secs(30 * 60));
    copy.visit("/me").await.is(Status::SeeOther);
    let lines = heard.lines().await;
    assert!(!lines.iter().any(|line| line.starts_with("Ended")), "{lines:#?}");
    browser.visit("/me").await.is(Status::Ok);
}

// ---- Refresh.

#[rocket::async_test]
async fn results_of_refreshes_are_reported() {
    for store in STORES {
        let provider = TestProvider::start().await;
        let (listener, heard) = Listener::new();
        let app = App::new(&provider).with("oidc.session.store", store);
        let (browser, id) = signed_in(&app, &provider, &listener, &heard).await;
        let told = |what| line(&provider, what, ["alice", "sid-1", &id, "-"]);

        app.advance(DUE);
        let requests = (0..5).map(|_| browser.visit("/me"));
        for page in rocket::futures::future::join_all(requests).await {
            page.is(Status::Ok);
        }
        assert_eq!(heard.next().await, told("Refreshed refreshed"), "{store}");

        provider.on_refresh_response(|reply| *reply = Reply::status(500));
        app.advance(DUE);
        browser.visit("/me").await.is(Status::Ok);
        let failed = "RefreshFailed provider_status";
        assert_eq!(heard.next().await, told(failed), "{store}");
        // The next attempt is not due.
        browser.visit("/me").await.is(Status::Ok);

        provider.on_refresh_response(|_| ());
        provider.revoke_refresh_tokens();
        app.advance(Duration::from_secs(5));
        browser.visit("/me").await.is(Status::SeeOther);
        let ended = "Ended refresh_refused";
        assert_eq!(heard.next().await, told(ended), "{store}");
        assert_signed_out(&browser).await;
        browser.submit("/oidc/logout", "").await.redirects_to("/");
        assert_eq!(heard.next().await, "after_logout no_session");
        assert_eq!(heard.lines().await, [""; 0], "{store}");
    }
}

/// Who did it tells it.
#[rocket::async_test]
async fn one_of_two_nodes_reports_a_change() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let store = TestStore::new();
    let ((one, heard_by_one), (other, heard_by_other)) = (Listener::new(), Listener::new());
    let a = node(&app, &one, &store).await;
    let b = node(&app, &other, &store).await;
    let id = sign_in(&a, &provider).await;
    carry_cookies(&a, &b);
    assert_eq!(heard_by_one.lines().await.len(), 1);

    app.advance(DUE);
    let held = provider.hold("/token");
    let requests = (0..10).map(|i| if i % 2 == 0 { b.fetch("/me") } else { a.fetch("/me") });
    let release = async {
        provider.until_requested("/token", 2).await;
        held.release();
    };
    let requests = rocket::futures::future::join_all(requests);
    rocket::futures::future::join(requests, release).await;
    let refreshed = ["alice", "sid-1", &id, "-"];
    let refreshed = line(&provider, "Refreshed refreshed", refreshed);
    assert_eq!(heard_by_other.next().await, refreshed);

    assert_eq!(a.visit("/end-all/alice").await.body, "Ok(Some(1))");
    let ended = ["alice", "sid-1", &id, "-"];
    let ended = line(&provider, "Ended ended_by_app", ended);
    assert_eq!(heard_by_one.lines().await, [ended]);
    assert_signed_out(&b).await;
    assert_eq!(heard_by_other.lines().await, [""; 0]);
}

// ---- Handlers that misbehave.

#[rocket::async_test]
async fn handlers_that_panic_change_no_sign_in_or_sign_out() {
    let provider = TestProvider::start().await;
    let (listener, heard) = Listener::new();
    let app = App::new(&provider).with("oidc.rp_initiated_logout", false);
    let browser = Browser::open(rocket(&app, &listener)).await;
    listener.panics.store(true, Ordering::SeqCst);
    let log = Log::listen();
    sign_in(&browser, &provider).await;
    app.advance(DUE);
    browser.visit("/me").await.is(Status::Ok);
    app.advance(DUE);
    // The refresh before was told of, and the next one is one.
    browser.visit("/me").await.is(Status::Ok);
    let copy = browser.another();
    carry_cookies(&browser, &copy);
    browser.submit("/oidc/logout", "").await.redirects_to("/");
    assert_signed_out(&browser).await;
    assert_signed_out(&copy).await;
    let mut lines = vec![];
    for _ in 0..5 {
        let line = heard.next().await;
        lines.push(line.split(' ').take(2).collect::<Vec<_>>().join(" "));
    }
    lines.sort();
    assert_eq!(
        lines,
        [
            "Began signed_in",
            "Ended signed_out",
            "Refreshed refreshed",
            "Refreshed refreshed",
            "after_logout signed_out",
        ]
    );
    for name in ["session_changed", "before_logout", "after_logout"] {
        let line = format!("ERROR: the app's `{name}` panicked; the event took effect nevertheless");
        assert!(log.lines().contains(&line), "{:#?}", log.lines());
    }
}

/// Never returns from `session_changed`.
struct Stuck;

#[rocket::async_trait]
impl Events for Stuck {
    async fn session_changed(&self, _: Option<&Request<'_>>, change: &SessionChange) {
        if change.has_ended() {
            std::future::pending::<()>().await;
        }
    }
}

#[rocket::async_test]
async fn a_session_has_ended_when_its_end_is_reported() {
    for store in STORES {
        let provider = TestProvider::start().await;
        let app = App::local(&provider).with("oidc.session.store", store);
        let rocket = app.rocket_with(Stuck).mount("/", session_pages());
        let browser = Browser::open(rocket).await;
        browser.sign_in(&provider, "/me").await.is(Status::Ok);
        // It hangs up while the app takes its time.
        let submit = browser.submit("/oidc/logout", "");
        assert!(timeout(Duration::from_millis(200), submit).await.is_err());
        assert_signed_out(&browser).await;
    }
}

// ---- What is given away.

/// What a careless app prints.
struct Careless(std::sync::mpsc::Sender<String>);

#[rocket::async_trait]
impl Events for Careless {
    async fn before_login_redirect(&self, _: &Request<'_>, login: &mut rocket_openidconnect::LoginRedirect<'_>) {
        login.set_parameter("id_token_hint", "a-token-that-is-a-secret");
        self.0.send(format!("{login:?}")).unwrap();
    }

    async fn after_authorize(
        &self,
        _: &Request<'_>,
        sign_in: &mut NewSignIn<'_>,
    ) -> Result<(), rocket_openidconnect::Refused> {
        self.0.send(format!("{sign_in:?}")).unwrap();
        let tokens = [sign_in.access_token(), sign_in.refresh_token(), sign_in.id_token()];
        let tokens = tokens.map(|token| token.unwrap().expose());
        self.0.send(tokens.join(" ")).unwrap();
        let ends = sign_in.access_token_expires_at().unwrap().unix_timestamp();
        self.0.send(ends.to_string()).unwrap();
        Ok(())
    }
}

#[rocket::async_test]
async fn tokens_are_given_as_they_came_and_in_no_debug_output() {
    let provider = TestProvider::start().await;
    let (sender, printed) = std::sync::mpsc::channel();
    let app = App::new(&provider).with("oidc.session.tokens", "id_token");
    let given = Arc::new(std::sync::Mutex::new(None));
    let keep = given.clone();
    provider.on_token_response(move |reply| {
        let reply = serde_json::from_slice::<serde_json::Value>(&reply.body).unwrap();
        *crate::common::locked(&keep) = Some(reply);
    });
    let browser = Browser::open(app.rocket_with(Careless(sender))).await;
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    let given = crate::common::locked(&given).take().unwrap();
    let token = |name: &str| given[name].as_str().unwrap().to_owned();
    let tokens = ["access_token", "refresh_token", "id_token"].map(token);
    let printed: Vec<_> = printed.try_iter().collect();
    let issuer = provider.issuer();
    assert_eq!(
        printed,
        [
            "LoginRedirect { redirect_uri: \"http://localhost:8000/oidc/authorize\", parameters: [\"id_token_hint\"], .. }".to_owned(),
            format!("NewSignIn {{ issuer: \"{issuer}\", subject: \"alice\", .. }}"),
            tokens.join(" "),
            (crate::common::NOW + 300).to_string(),
        ]
    );
}
