//! The small app that the tests sign in to, at a time that they set.

use std::{
    fmt::{self, Write},
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};

use rocket::{
    Build, Config, Request, Rocket,
    error::ErrorKind,
    fairing::AdHoc,
    figment::Figment,
    get,
    http::{Status, uri::Host},
    routes,
    serde::json::{Json, Value, json},
};
use rocket_openidconnect::{
    __private::SessionCookies, Clock, Events, LoggedIn, Oidc, OptionalUser, RelyingParty, SignInError,
};
use serde::Serialize;
use tempfile::TempDir;
use tracing::subscriber::{DefaultGuard, Interest};
use url::form_urlencoded::byte_serialize;

use crate::support::{Browser, Callback, Page, TestProvider, TestStore};

/// When every test begins, in seconds since 1970, for the app and for the provider.
pub const NOW: i64 = 1_700_000_000;
/// Thirty-two bytes that are no secret.
pub const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// An app before its launch: its settings, its clock and the sign-ins that failed. Clones share clock and failures.
#[derive(Clone)]
pub struct App {
    provider: TestProvider,
    config: Config,
    /// Names and values; a later one replaces an earlier one of its name.
    settings: Vec<(String, Value)>,
    clock: Clock,
    failures: Failures,
    store: Option<TestStore>,
}

/// The statuses and errors of sign-ins that failed, in order.
#[derive(Clone, Default)]
pub struct Failures(Arc<Mutex<Vec<(u16, String)>>>);

#[rocket::async_trait]
impl Events for Failures {
    async fn sign_in_failed(&self, _: &Request<'_>, error: &SignInError) {
        locked(&self.0).push((error.status(), error.to_string()));
    }
}

impl App {
    /// In the debug profile, with a client secret.
    pub fn new(provider: &TestProvider) -> App {
        App::public(provider).with("oidc.client_secret", "hush")
    }

    /// In the debug profile, without a client secret.
    pub fn public(provider: &TestProvider) -> App {
        App::with_config(provider, Config::debug_default())
    }

    /// In the release profile, at `https://app.example.com`.
    pub fn released(provider: &TestProvider) -> App {
        App::with_config(provider, Config::release_default())
            .with("oidc.client_secret", "hush")
            .with("oidc.base_url", "https://app.example.com")
    }

    /// As [`new`](Self::new), with the client id and the client secret of the tests of rejections and of APIs.
    pub fn client(provider: &TestProvider) -> App {
        App::public(provider)
            .with("oidc.client_id", "client")
            .with("oidc.client_secret", "correct horse")
    }

    /// Signs out here alone, and refreshes nothing: for tests of what has nothing to do with either.
    pub fn local(provider: &TestProvider) -> App {
        App::new(provider).local_only()
    }

    /// As [`local`](Self::local), of any app.
    pub fn local_only(self) -> App {
        self.with("oidc.rp_initiated_logout", false)
            .with("oidc.session.tokens", "access_token id_token")
    }

    fn with_config(provider: &TestProvider, config: Config) -> App {
        provider.set_time(NOW);
        let app = App {
            provider: provider.clone(),
            config,
            settings: vec![],
            clock: Clock::fixed_at(NOW),
            failures: Failures::default(),
            store: None,
        };
        app.with("log_level", "off")
            .with("secret_key", KEY)
            .with("oidc.issuer", provider.issuer())
            .with("oidc.client_id", "app")
    }

    /// With this setting.
    pub fn with(mut self, key: &str, value: impl Serialize) -> App {
        self.settings.push((key.to_owned(), json!(value)));
        self
    }

    /// With these members of the table `oidc`; `null` takes the setting of that name away.
    pub fn with_all(mut self, settings: Value) -> App {
        let Value::Object(settings) = settings else {
            panic!("settings are an object, not {settings}")
        };
        for (name, value) in settings {
            let key = format!("oidc.{name}");
            if value.is_null() {
                self.settings.retain(|(set, _)| *set != key);
            } else {
                self = self.with(&key, value);
            }
        }
        self
    }

    /// All settings.
    pub fn figment(&self) -> Figment {
        let settings = self.settings.iter();
        settings.fold(Figment::from(&self.config), |figment, (key, value)| {
            figment.merge((key.as_str(), value))
        })
    }

    /// A node of this app that keeps its sessions in this store.
    pub fn over(&self, store: &TestStore) -> App {
        let store = Some(store.clone());
        App { store, ..self.clone() }
    }

    /// The app, to be launched.
    pub fn rocket(&self) -> Rocket<Build> {
        let is_off = |(name, value): &(String, Value)| name == "oidc.enabled" && *value == json!(false);
        if self.settings.iter().any(is_off) {
            // With events, a browser would have to sign in before it is the testing profile.
            return self.rocket_of_api(pages());
        }
        self.rocket_with(self.failures.clone())
    }

    /// The app with other events, which then has no [`failures`](Self::failures).
    pub fn rocket_with(&self, events: impl Events) -> Rocket<Build> {
        self.bare().attach(self.fairing(events)).mount("/", pages())
    }

    /// The app with another fairing before ours.
    pub fn rocket_after(&self, first: AdHoc) -> Rocket<Build> {
        let fairing = self.fairing(self.failures.clone());
        self.bare().attach(first).attach(fairing).mount("/", pages())
    }

    fn fairing(&self, events: impl Events) -> Oidc {
        let fairing = Oidc::fairing().clock(self.clock.clone()).events(events);
        match &self.store {
            Some(store) => fairing.session_store(store.clone()),
            None => fairing,
        }
    }

    /// An app without users' pages.
    pub fn rocket_of_api(&self, routes: Vec<rocket::Route>) -> Rocket<Build> {
        let fairing = Oidc::fairing().clock(self.clock.clone());
        self.bare().attach(fairing).mount("/", routes)
    }

    /// The settings and nothing else.
    pub fn bare(&self) -> Rocket<Build> {
        rocket::custom(self.figment()).attach(host_of_header())
    }

    /// Launches the app and opens a browser before it.
    pub async fn open(&self) -> Browser {
        Browser::open(self.rocket()).await
    }

    /// The app's clock.
    pub fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// Moves the time of the app and of the provider.
    pub fn advance(&self, by: Duration) {
        self.clock.advance(by);
        self.provider.set_time(self.clock.now().unix_timestamp());
    }

    /// Events that record why sign-ins fail, for a fairing of a test's own.
    pub fn recorded(&self) -> Failures {
        self.failures.clone()
    }

    /// Why sign-ins failed.
    pub fn failures(&self) -> Vec<String> {
        let failures = self.failures_with_status().into_iter();
        failures.map(|(_, error)| error).collect()
    }

    /// With which status sign-ins failed, and why.
    pub fn failures_with_status(&self) -> Vec<(u16, String)> {
        locked(&self.failures.0).clone()
    }
}

/// The app's routes.
pub fn pages() -> Vec<rocket::Route> {
    routes![index, me, notes]
}

/// Further routes, which name a session and end sessions.
pub fn session_pages() -> Vec<rocket::Route> {
    routes![session_id, end, end_all]
}

/// A local request has no host: as a server does, takes it from the header.
fn host_of_header() -> AdHoc {
    AdHoc::on_request("Host", |request, _| {
        Box::pin(async move {
            let host = request.headers().get_one("Host").map(str::to_owned);
            if let Some(host) = host.and_then(|host| Host::parse_owned(host).ok()) {
                request.set_host(host);
            }
        })
    })
}

#[get("/")]
fn index(visitor: OptionalUser) -> Json<Value> {
    Json(json!(visitor))
}

#[get("/me")]
fn me(user: LoggedIn) -> Json<Value> {
    Json(json!(user))
}

#[get("/notes?<page>&<sort>")]
fn notes(user: LoggedIn, page: u32, sort: &str) -> String {
    format!("{}, page {page} by {sort:?}", user.subject())
}

#[get("/session-id")]
fn session_id(user: LoggedIn) -> String {
    user.session_id().to_owned()
}

#[get("/end/<id>")]
async fn end(id: &str, rp: &RelyingParty) -> String {
    format!("{:?}", rp.end_session(id).await)
}

#[get("/end-all/<subject>")]
async fn end_all(subject: &str, rp: &RelyingParty) -> String {
    format!("{:?}", rp.end_sessions(subject).await)
}

/// Launches the app and signs a browser in.
pub async fn signed_in(app: &App, provider: &TestProvider) -> Browser {
    Browser::signed_in(app.rocket(), provider).await
}

/// Lets a browser come back from the provider with this response. Follows nothing.
pub async fn bring(browser: &Browser, callback: &Callback) -> Page {
    browser.arrive_from_provider(&callback.path_and_query()).await
}

/// Asserts that an answer begins no session, and that it begins the sign-in once more at the provider.
#[track_caller]
pub fn restarts(page: &Page, provider: &TestProvider) {
    page.redirects_to(&format!("{}/authorize?", provider.issuer()));
    let of_session = |set: &&str| set.contains("oidc_session") && !set.contains("Max-Age=0");
    assert_eq!(page.set_cookies().into_iter().find(of_session), None);
}

/// Signs out while the store is down, which then stays down.
pub async fn sign_out_unrecorded(browser: &Browser, store: &TestStore) {
    store.fail_all("the store is down");
    let page = browser.submit("/oidc/logout", "").await;
    page.is(Status::ServiceUnavailable);
}

/// What a page of a provider loads in a frame to end the session of this `sid`.
pub fn frontchannel_logout(issuer: &str, sid: &str) -> String {
    let encode = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    format!("/oidc/frontchannel-logout?iss={}&sid={}", encode(issuer), encode(sid))
}

/// The address of a new SQLite database in this directory.
pub fn sqlite_url(directory: &TempDir) -> String {
    format!("sqlite://{}", directory.path().join("sessions.db").display())
}

/// The session in the cookies that a browser has, decrypted as the app does it.
#[track_caller]
pub fn opened_session(browser: &Browser, provider: &TestProvider) -> Value {
    let text: String = crate::records::session_cookies(browser)
        .into_iter()
        .map(|(_, value)| value)
        .collect();
    let keys = SessionCookies::new(KEY, &provider.issuer(), "app").expect("a key");
    let session = keys.decrypt(&text);
    session.unwrap_or_else(|| panic!("the cookies are not a session: {text:?}"))
}

/// The name of a cookie of this kind, at the app that the tests sign in to.
pub fn cookie_name(kind: &str, provider: &TestProvider) -> String {
    let keys = SessionCookies::new(KEY, &provider.issuer(), "app").expect("a key");
    format!("{kind}_{}", keys.client_tag())
}

/// The names of the cookies that attempts to sign in need: the browser's, and those of long return addresses.
pub fn attempt_cookies(browser: &Browser) -> Vec<String> {
    let names = browser.cookies().into_iter().map(|(name, _)| name);
    names
        .filter(|name| name.contains("oidc_browser") || name.contains("oidc_attempt"))
        .collect()
}

/// The names of all cookies but that of the browser.
pub fn cookies_but_the_browsers(browser: &Browser) -> Vec<String> {
    let names = browser.cookies().into_iter().map(|(name, _)| name);
    names.filter(|name| !name.contains("oidc_browser")).collect()
}

/// The cookie of this kind, whose name ends in the tag of the client.
pub fn cookie_of_kind(browser: &Browser, kind: &str) -> rocket::http::Cookie<'static> {
    let names = browser.cookies().into_iter().map(|(name, _)| name);
    let names: Vec<_> = names.filter(|name| name.contains(kind)).collect();
    let [name] = &names[..] else {
        panic!("not one cookie {kind}: {names:?}");
    };
    browser.cookie(name).unwrap()
}

/// Asserts that a browser is signed out, and that nothing went wrong but that.
pub async fn assert_signed_out(browser: &Browser) {
    let page = browser.visit("/").await;
    assert_eq!(page.json::<Value>(), json!({ "logged_in": false, "user": null }));
    let page = browser.visit("/me").await;
    assert_eq!(page.status, 303, "{page:#?}");
    assert_eq!(page.location.as_deref(), Some("/oidc/login?next=%2Fme"));
}

/// Why an app does not launch, in short, with the errors and remedies that it logs.
pub async fn launch_failure(rocket: Rocket<Build>) -> (String, Vec<String>) {
    let log = Log::listen();
    let result = rocket.ignite().await;
    let error = result.map(drop).expect_err("the launch fails");
    let kind = match error.kind() {
        ErrorKind::FailedFairings(fairings) => {
            let names: Vec<_> = fairings.iter().map(|info| info.name).collect();
            format!("failed fairings: {}", names.join(", "))
        }
        ErrorKind::SentinelAborts(sentries) => format!("{} sentinels abort", sentries.len()),
        other => other.to_string(),
    };
    (kind, log.lines())
}

/// What this thread logs while this lives: level and message of each line.
pub struct Log {
    lines: Lines,
    _recording: DefaultGuard,
}

/// Targets and lines.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<(&'static str, String)>>>);

/// To be called before a test listens. While there is but one subscriber, tracing asks the thread that
/// comes by a new place of a log line whether it listens, and keeps a no for all threads.
pub fn expect_listeners() {
    static ANOTHER: LazyLock<tracing::Dispatch> =
        LazyLock::new(|| tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default()));
    LazyLock::force(&ANOTHER);
}

/// The target of the report at liftoff, which Rocket's own report has too.
const REPORT: &str = "rocket::launch";
/// The target of audit events.
const AUDIT: &str = "oidc::audit";

impl Log {
    /// Begins to record.
    pub fn listen() -> Log {
        expect_listeners();
        let lines = Lines::default();
        let recording = tracing::subscriber::set_default(lines.clone());
        Log {
            lines,
            _recording: recording,
        }
    }

    /// The lines of this crate from `info` up, without the report at liftoff.
    pub fn lines(&self) -> Vec<String> {
        self.lines_where(|target, line| !target.starts_with(REPORT) && !line.starts_with("DEBUG:"))
    }

    /// The lines of this crate from `info` up.
    pub fn lines_with_report(&self) -> Vec<String> {
        self.lines_where(|_, line| !line.starts_with("DEBUG:"))
    }

    /// The lines of this crate at `debug`.
    pub fn debug_lines(&self) -> Vec<String> {
        self.lines_where(|_, line| line.starts_with("DEBUG:"))
    }

    /// All lines of this crate.
    pub fn all_lines(&self) -> Vec<String> {
        self.lines_where(|_, _| true)
    }

    /// The audit events since the last time.
    pub fn audit_lines(&self) -> Vec<String> {
        let mut lines = locked(&self.lines.0);
        let is_audit = |(target, _): &(&str, String)| *target == AUDIT;
        let audited = lines.iter().filter(|line| is_audit(line));
        let audited = audited.map(|(_, line)| line.strip_prefix("INFO: ").expect("a level").to_owned());
        let audited = audited.collect();
        lines.retain(|line| !is_audit(line));
        audited
    }

    /// Asserts that one of the lines is exactly this.
    #[track_caller]
    pub fn has(&self, line: &str) {
        let lines = self.all_lines();
        assert!(lines.iter().any(|l| l == line), "{line:?} is not in {lines:#?}");
    }

    fn lines_where(&self, is_wanted: impl Fn(&str, &str) -> bool) -> Vec<String> {
        let lines = locked(&self.lines.0);
        let wanted = lines.iter().filter(|(target, _)| *target != AUDIT);
        let wanted = wanted.filter(|(target, line)| is_wanted(target, line));
        wanted.map(|(_, line)| line.clone()).collect()
    }
}

impl tracing::Subscriber for Lines {
    fn register_callsite(&self, _: &'static tracing::Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.is_event()
            && *metadata.level() <= tracing::Level::DEBUG
            && ["rocket_openidconnect", REPORT, AUDIT]
                .iter()
                .any(|target| metadata.target().starts_with(target))
    }

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line(format!("{}:", event.metadata().level()));
        event.record(&mut line);
        locked(&self.0).push((event.metadata().target(), line.0));
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

struct Line(String);

impl tracing::field::Visit for Line {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.0, " {value:?}");
        }
    }
}

/// Locks past a panic.
pub fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
