//! Where events go while the app has no subscriber: to `log`, from which Rocket's logger has them.

use std::{cell::RefCell, sync::Once, time::Duration};

use rocket::{
    http::{Header, Status},
    local::blocking::Client,
    serde::json::json,
};
use rocket_openidconnect::{Endpoint, testing::TestClient};

use crate::app::{figment, open};

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(vec![]) };
    /// The messages with the target `oidc::audit`.
    static AUDIT: RefCell<Vec<String>> = const { RefCell::new(vec![]) };
}

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LINES.with_borrow_mut(|lines| lines.push(record.args().to_string()));
        if record.target() == "oidc::audit" {
            assert_eq!(record.level(), log::Level::Info);
            AUDIT.with_borrow_mut(|lines| lines.push(record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

/// Before any app of this process is launched: then Rocket leaves the logger as it is.
pub fn listen() {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| {
        log::set_logger(&Logger).expect("no other logger");
        log::set_max_level(log::LevelFilter::Debug);
    });
}

/// The lines since the last call, in this thread.
pub fn take() -> Vec<String> {
    LINES.take()
}

/// Whether it is logged that an access token is refused.
fn is_told(client: &Client) -> bool {
    LINES.take();
    let token = Header::new("Authorization", "Bearer of.no.token");
    let answer = client.get("/notes").header(token).dispatch();
    assert_eq!(answer.status(), Status::Unauthorized);
    LINES.take().iter().any(|line| line.contains("access token"))
}

/// Both go on in tasks of their own, which hand the subscriber on, if there is one.
#[test]
fn a_refresh_and_a_sign_out_leave_the_log_as_it_was() {
    let (provider, client) = open(figment());
    assert!(is_told(&client));

    client.sign_in("/me", json!({ "sub": "alice" }));
    provider.advance_clock(Duration::from_secs(5 * 60));
    client.get("/token").dispatch();
    assert_eq!(provider.requests_to(Endpoint::Token).len(), 2);
    assert!(is_told(&client));

    client.sign_out("/");
    assert_eq!(client.get("/me").dispatch().status(), Status::Unauthorized);
    assert!(is_told(&client));
}

/// As with a subscriber, the message is one JSON object, and nothing is added to it.
#[test]
fn an_audit_event_is_whole_in_log() {
    let (_, client) = open(figment());
    AUDIT.take();
    client.sign_in("/me", json!({ "sub": "alice" }));
    client.sign_out("/");
    let lines = AUDIT.take();
    let objects = lines
        .iter()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let events = objects.map(|object| {
        let text = |name: &str| object[name].as_str().unwrap_or("null").to_owned();
        format!("{} {} {}", text("event"), text("reason"), text("sub"))
    });
    assert_eq!(
        events.collect::<Vec<_>>(),
        [
            "sign_in_begun sign_in_begun null",
            "sign_in_succeeded signed_in alice",
            "session_ended signed_out alice",
        ]
    );
}
