//! No secret is logged: a full scenario with everything captured at TRACE, and then searched.
//!
//! A test binary of its own, because what is captured is what the whole process logs, on all threads.

#[path = "../behaviour/common.rs"]
#[allow(dead_code)]
mod common;
#[path = "../behaviour/numbers.rs"]
#[allow(dead_code, reason = "it has more than these tests use")]
mod numbers;
mod queries;
mod recorder;
#[path = "../behaviour/records.rs"]
#[allow(dead_code, unused_imports)]
mod records;
mod scenario;
mod server;
#[path = "../behaviour/support/mod.rs"]
mod support;

use recorder::{Recorder, Secrets};

/// Two in a row in one test: there is one recorder for the process.
#[rocket::async_test]
async fn no_secret_is_in_any_line() {
    let recorder = Recorder::install();
    the_recorder_sees_what_leaks(recorder);

    let mut secrets = Secrets::default();
    scenario::run(&mut secrets).await;
    // All that the scenario was to have.
    for kind in [
        "access_token",
        "assertion",
        "client_secret",
        "code",
        "code_verifier",
        "cookie",
        "id_token",
        "logout_token",
        "nonce",
        "private key",
        "proof",
        "proof key",
        "refresh_token",
        "request_uri",
        "sealed",
        "secret_key",
        "session",
        "state",
    ] {
        assert!(secrets.has(kind), "the scenario had no {kind}");
    }

    // Everybody who might have something to say was heard.
    for target in ["rocket_openidconnect", "oidc::audit", "rocket::", "hyper", "reqwest"] {
        assert!(recorder.heard(target), "nothing of {target} was recorded");
    }
    let found = recorder.lines_with(&secrets);
    assert!(found.is_empty(), "{found:#?}");
    // What Rocket says at its level `debug`, and warns of: headers, cookies included.
    let targets = recorder.rocket_debug_targets_with(&secrets);
    assert_eq!(targets, ["rocket::server"]);
    queries::are_in_no_line(recorder).await;
}

/// A secret in an event, in a span and in a line of `log`, whole, in part, escaped or as bytes, is found.
fn the_recorder_sees_what_leaks(recorder: &Recorder) {
    let mut secrets = Secrets::default();
    let secret = "a \"secret\" that is longer than sixteen";
    secrets.add("canary", secret);
    tracing::trace!("event {secret}");
    tracing::trace!(field = ?secret);
    let span = tracing::trace_span!("span", field = ?Some(secret), later = tracing::field::Empty);
    span.record("later", format!("{:?}", secret.as_bytes()));
    span.in_scope(|| tracing::info!("nothing"));
    log::trace!(target: "elsewhere", "{}", &secret[8..30]);
    log::info!(target: "rocket::server", "{secret}");
    assert_eq!(recorder.lines_with(&secrets).len(), 6);
    assert_eq!(recorder.rocket_debug_targets_with(&secrets), [""; 0]);
    log::debug!(target: "rocket::server", "{secret}");
    assert_eq!(recorder.lines_with(&secrets).len(), 6);
    assert_eq!(recorder.rocket_debug_targets_with(&secrets), ["rocket::server"]);
    recorder.clear();
}
