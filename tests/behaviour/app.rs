//! A small app with the fairing, and what it hears of sign-ins that fail.

use std::sync::{Arc, Mutex, PoisonError};

use rocket::figment::Figment;
use rocket::serde::json::Json;
use rocket::{Build, Request, Rocket, get, routes};
use rocket_openidconnect::{
    Authorized, Claims, Clock, Events, LoggedIn, Oidc, OptionalUser, Policy, SignInError, User,
};
use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::span;
use tracing::subscriber::{DefaultGuard, Interest};

use crate::common::expect_listeners;
use crate::support::{Browser, TestProvider};

/// When every test begins, in seconds since 1970, for the app and for the provider.
pub const NOW: i64 = 1_700_000_000;

/// A launched app with a browser before it.
pub struct App {
    pub browser: Browser,
    pub recorder: Recorder,
    pub clock: Clock,
}

/// Launches the app for this provider. The settings are members of the table `oidc`; `null` takes
/// one of the usual settings away.
pub async fn launch(provider: &TestProvider, settings: Value) -> App {
    let (recorder, clock) = (Recorder::default(), Clock::standing_at(NOW));
    let rocket = rocket(provider, settings, &recorder, &clock);
    App {
        browser: Browser::open(rocket).await,
        recorder,
        clock,
    }
}

/// The app, to be launched.
pub fn rocket(provider: &TestProvider, settings: Value, recorder: &Recorder, clock: &Clock) -> Rocket<Build> {
    provider.set_time(NOW);
    let mut oidc = Map::from_iter([
        ("issuer".to_owned(), json!(provider.issuer())),
        ("client_id".to_owned(), json!("client")),
        ("client_secret".to_owned(), json!("correct horse")),
    ]);
    let Value::Object(settings) = settings else {
        panic!("settings are an object, not {settings}")
    };
    oidc.extend(settings);
    oidc.retain(|_, value| !value.is_null());

    let figment = Figment::from(rocket::Config::debug_default())
        .merge(("log_level", "off"))
        .merge(("oidc", oidc));
    rocket::custom(figment)
        .attach(Oidc::fairing().events(recorder.clone()).clock(clock.clone()))
        .mount("/", routes![index, me, admin])
}

#[get("/")]
fn index(visitor: OptionalUser) -> String {
    match visitor.user() {
        Some(user) => format!("Hello {}", user.subject()),
        None => "Hello stranger".to_owned(),
    }
}

#[get("/me")]
fn me(user: LoggedIn) -> Json<Claims> {
    Json(user.claims().clone())
}

#[get("/admin")]
fn admin(user: Authorized<Admin>) -> String {
    format!("Hello admin {}", user.subject())
}

/// Who is in the group `admin`.
struct Admin;

#[rocket::async_trait]
impl Policy for Admin {
    async fn permits(user: &User, _request: &Request<'_>) -> bool {
        user.groups().contains(&"admin")
    }
}

/// Keeps the status and the words of each sign-in that failed. Clones are the same recorder.
#[derive(Clone, Default)]
pub struct Recorder(Arc<Mutex<Vec<(u16, String)>>>);

impl Recorder {
    /// All failures, in order.
    pub fn failures(&self) -> Vec<(u16, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[rocket::async_trait]
impl Events for Recorder {
    async fn sign_in_failed(&self, _request: &Request<'_>, error: &SignInError) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((error.status(), error.to_string()));
    }
}

/// What this thread logs while this lives.
pub struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    _guard: DefaultGuard,
}

impl Log {
    /// Begins to listen.
    pub fn listen() -> Self {
        expect_listeners();
        let lines = Arc::default();
        let guard = tracing::subscriber::set_default(Listener(Arc::clone(&lines)));
        Self { lines, _guard: guard }
    }

    /// The lines of this crate so far: level, then text.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether one of the lines is exactly this.
    #[track_caller]
    pub fn has(&self, line: &str) {
        let lines = self.lines();
        assert!(lines.iter().any(|l| l == line), "{line:?} is not in {lines:#?}");
    }
}

struct Listener(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Listener {
    fn register_callsite(&self, _: &'static tracing::Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("rocket_openidconnect")
    }

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = event.metadata().level().to_string();
        event.record(&mut Message(&mut line));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// Writes an event's message behind its level.
struct Message<'a>(&'a mut String);

impl Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0.push_str(&format!(" {value:?}"));
        }
    }
}
