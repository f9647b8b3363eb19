//! What operators see of each part of the work: one place for its events, with their reason codes, and for
//! its metrics.
//!
//! Failures are told where they happen, in words; what goes well is told here: at `info` that a session began or
//! ended, all else at `debug`.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;
use time::OffsetDateTime;
use tracing::{dispatcher, instrument::WithSubscriber, subscriber::NoSubscriber};
use url::Url;

use crate::{
    error::SignInError,
    provider::{Endpoint, ProviderError},
    resource_server::BearerError,
    session::{SessionChange, SignedOut},
    token::{Claims, printable, printable_name},
};

/// Counts something, if the feature `metrics` is on. Labels that are literals cost no allocation.
macro_rules! count {
    ($count:expr, $name:literal $(, $label:literal => $value:expr)+) => {{
        #[cfg(feature = "metrics")]
        ::metrics::counter!($name $(, $label => $value)+).increment($count);
        #[cfg(not(feature = "metrics"))]
        let _ = ($count $(, $value)+);
    }};
}

/// Spawns a task whose events go where those of its maker go.
///
/// None is not handed on as a subscriber: to `tracing` that would be one, and from then on nothing of this
/// process would reach `log`, and with it Rocket's logger.
pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    let subscriber = dispatcher::get_default(Clone::clone);
    match subscriber.is::<NoSubscriber>() {
        true => tokio::spawn(task),
        false => tokio::spawn(task.with_subscriber(subscriber)),
    };
}

/// A browser was sent to the provider.
pub(crate) fn sign_in_begun() {
    tracing::debug!(reason = "sign_in_begun", "a sign-in begins");
}

/// A callback came to nothing, and its sign-in begins once more.
pub(crate) fn sign_in_restarted(error: &SignInError) {
    tracing::debug!(
        reason = "sign_in_restarted",
        "a sign-in begins once more: {error}"
    );
}

/// That a session began or ended: one line, for audits. What becomes of a refresh is told where it is known.
///
/// Subjects come from outside: their control characters are escaped, so that none is a line of its own.
pub(crate) fn session_changed(change: &SessionChange) {
    let Some(sentence) = change.sentence() else {
        return;
    };
    let issuer = printable_name(change.issuer());
    let subject = change.subject().map(printable_name);
    let session = change.session_id().map(printable_name);
    tracing::info!(
        reason = change.reason(),
        issuer,
        subject,
        session,
        "{sentence}"
    );
}

/// A handler of the app's panicked.
pub(crate) fn event_panicked(name: &'static str) {
    tracing::error!(
        reason = "event_panicked",
        "the app's `{name}` panicked; what it was told of happened all the same"
    );
}

/// A session began.
pub(crate) fn signed_in() {
    count!(1, "oidc_sign_ins_total", "outcome" => "signed_in");
}

/// A sign-in failed, which is told where it did.
pub(crate) fn sign_in_failed(reason: &'static str) {
    count!(1, "oidc_sign_ins_total", "outcome" => reason);
}

/// The ID token of a refresh is about a newer authentication, in seconds since 1970.
pub(crate) fn newer_auth_time(before: f64, now: f64) {
    tracing::info!(
        reason = "newer_auth_time",
        "the person authenticated at the provider again: `auth_time` was {before} and is {now} after a refresh"
    );
}

/// The claims of a new session leave out what the provider keeps elsewhere (OpenID Connect Core 1.0 §5.6.2), as
/// Microsoft Entra ID does with more groups than it puts into a token.
pub(crate) fn claims_by_reference(claims: &Claims) {
    const MAX_NAMES: usize = 5;

    let elsewhere = claims.value("_claim_names").and_then(Value::as_object);
    let elsewhere = elsewhere.into_iter().flatten();
    let mut names: Vec<String> = elsewhere
        .filter(|(name, source)| !source.is_null() && claims.value(name).is_none())
        .map(|(name, _)| format!("`{}`", printable(name)))
        .take(MAX_NAMES)
        .collect();
    // The same in the words of the implicit flow.
    if names.is_empty() && claims.get("hasgroups") == Some(true) && claims.value("groups").is_none()
    {
        names.push("`groups`".to_owned());
    }
    if !names.is_empty() {
        let names = names.join(", ");
        tracing::warn!(
            "the provider sends {names} as a reference (`_claim_names`), which is not followed: the session has no such claim"
        );
        tracing::info!(
            "have the provider send the claim itself; in Microsoft Entra ID, limit the claim to groups assigned to the application, or use app roles"
        );
    }
}

/// A session has new tokens.
pub(crate) fn refreshed() {
    tracing::debug!(reason = "refreshed", "a session is refreshed");
    count!(1, "oidc_refreshes_total", "outcome" => "refreshed");
}

/// A session is not refreshed, and stays, which is told where it was found.
pub(crate) fn refresh_failed(reason: &'static str) {
    count!(1, "oidc_refreshes_total", "outcome" => reason);
}

/// A session ended at its refresh, which is told where it was found.
pub(crate) fn refresh_ended(signed_out: SignedOut) {
    count!(1, "oidc_refreshes_total", "outcome" => signed_out.reason());
    sessions_ended("refresh", 1);
}

/// So many sessions ended because of this.
pub(crate) fn sessions_ended(cause: &'static str, count: usize) {
    count!(count as u64, "oidc_sessions_ended_total", "cause" => cause);
}

/// A request came with a session that does not count.
pub(crate) fn session_refused(signed_out: SignedOut) {
    if signed_out != SignedOut::NoSession {
        let reason = signed_out.reason();
        tracing::debug!(reason, "a session does not count: {signed_out}");
    }
}

/// A session was found to be over by its times.
pub(crate) fn session_over(signed_out: SignedOut) {
    match signed_out {
        SignedOut::Idle => sessions_ended("idle", 1),
        SignedOut::LifetimeEnded => sessions_ended("lifetime", 1),
        _ => {}
    }
}

/// A person signed out here.
pub(crate) fn signed_out() {
    sessions_ended("sign_out", 1);
}

/// The provider ended sessions through the back channel.
pub(crate) fn backchannel_logout(count: usize) {
    sessions_ended("backchannel_logout", count);
    if count == 0 {
        tracing::debug!(
            reason = "backchannel_logout",
            "the provider ended a session that is not here"
        );
    }
}

/// The provider ended sessions through a page of its own.
pub(crate) fn frontchannel_logout() {
    sessions_ended("frontchannel_logout", 1);
}

/// An access token is accepted.
pub(crate) fn token_accepted() {
    tracing::debug!(reason = "accepted", "an access token is accepted");
    count!(1, "oidc_bearer_decisions_total", "reason" => "accepted");
}

/// A request is refused for its access token. Anybody can cause that, as often as they like: it is counted, and logged at
/// `debug`. What the operator has to look after is logged as an error, once a minute for each reason.
pub(crate) fn token_refused(error: &BearerError, throttle: &Throttle, now: OffsetDateTime) {
    let (reason, remedy) = (error.reason(), error.remedy());
    count!(1, "oidc_bearer_decisions_total", "reason" => reason);
    let admitted = match error.is_for_operators() {
        true => throttle.admit(reason, now),
        false => None,
    };
    match admitted {
        None => {
            tracing::debug!(reason, "{error}");
            tracing::debug!("{remedy}");
        }
        Some(0) => {
            tracing::error!(reason, "{error}");
            tracing::info!("{remedy}");
        }
        Some(suppressed) => {
            tracing::error!(
                reason,
                "{error}; and {suppressed} more since the last such line"
            );
            tracing::info!("{remedy}");
        }
    }
}

/// A rate limit of log lines: one a minute for each reason code.
#[derive(Debug, Default)]
pub(crate) struct Throttle(Mutex<BTreeMap<&'static str, Throttled>>);

#[derive(Debug)]
struct Throttled {
    since: OffsetDateTime,
    suppressed: u64,
}

impl Throttle {
    const PERIOD: Duration = Duration::from_secs(60);

    /// Whether there may be a line with this reason now: how many were suppressed since the last one.
    fn admit(&self, reason: &'static str, now: OffsetDateTime) -> Option<u64> {
        let mut reasons = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = reasons.get_mut(reason) else {
            let first = Throttled {
                since: now,
                suppressed: 0,
            };
            reasons.insert(reason, first);
            return Some(0);
        };
        // A clock that was set back starts anew.
        if (last.since..last.since + Throttle::PERIOD).contains(&now) {
            last.suppressed += 1;
            return None;
        }
        last.since = now;
        Some(std::mem::take(&mut last.suppressed))
    }
}

/// An access token was looked up among those seen before.
pub(crate) fn token_looked_up(is_hit: bool) {
    match is_hit {
        true => {
            count!(1, "oidc_cache_lookups_total", "cache" => "access_tokens", "result" => "hit")
        }
        false => {
            count!(1, "oidc_cache_lookups_total", "cache" => "access_tokens", "result" => "miss");
        }
    }
}

/// A session was looked up among those opened before.
pub(crate) fn session_looked_up(is_hit: bool) {
    match is_hit {
        true => count!(1, "oidc_cache_lookups_total", "cache" => "sessions", "result" => "hit"),
        false => count!(1, "oidc_cache_lookups_total", "cache" => "sessions", "result" => "miss"),
    }
}

/// A provider's keys were fetched.
pub(crate) fn keys_fetched(jwks_uri: &Url, now: OffsetDateTime) {
    #[cfg(feature = "metrics")]
    ::metrics::gauge!("oidc_keys_fetched_timestamp_seconds", "jwks_uri" => jwks_uri.to_string())
        .set(now.unix_timestamp() as f64);
    #[cfg(not(feature = "metrics"))]
    let _ = (jwks_uri, now);
}

/// The table of newest generations had no room for so many of them.
pub(crate) fn generations_dropped(count: u64) {
    tracing::debug!(
        reason = "generations_dropped",
        "{count} refreshed sessions are no longer known by their newest generation"
    );
    count!(count, "oidc_generations_dropped_total", "table" => "sessions");
}

/// A setting makes the app less secure.
pub(crate) fn insecure_setting(setting: &'static str, warning: &str) {
    tracing::warn!("{warning}");
    #[cfg(feature = "metrics")]
    ::metrics::gauge!("oidc_insecure_settings", "setting" => setting).set(1);
    #[cfg(not(feature = "metrics"))]
    let _ = setting;
}

/// Says of each metric what it is.
pub(crate) fn describe() {
    #[cfg(feature = "metrics")]
    {
        use ::metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

        describe_counter!("oidc_sign_ins_total", "Sign-ins by outcome");
        describe_counter!("oidc_refreshes_total", "Refreshes by outcome");
        describe_counter!("oidc_bearer_decisions_total", "Access tokens by decision");
        describe_counter!("oidc_cache_lookups_total", "Lookups by cache and result");
        describe_counter!("oidc_sessions_ended_total", "Sessions ended by cause");
        describe_counter!(
            "oidc_generations_dropped_total",
            "Refreshed sessions whose newest generation is no longer known"
        );
        describe_gauge!(
            "oidc_keys_fetched_timestamp_seconds",
            "When keys were fetched"
        );
        describe_gauge!(
            "oidc_insecure_settings",
            "Settings that make the app less secure"
        );
        let calls = "oidc_provider_call_seconds";
        describe_histogram!(calls, Unit::Seconds, "Calls to the provider");
    }
}

/// A call to the provider has ended, with an answer or without.
pub(crate) fn provider_called(
    endpoint: Endpoint,
    answer: Result<u16, &ProviderError>,
    elapsed: Duration,
) {
    let endpoint = endpoint.code();
    #[cfg(feature = "metrics")]
    {
        let outcome = answer.map_or_else(|error| error.reason(), |_| "answered");
        let labels = [("endpoint", endpoint), ("outcome", outcome)];
        ::metrics::histogram!("oidc_provider_call_seconds", &labels).record(elapsed.as_secs_f64());
    }
    let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    match answer {
        Ok(status) => {
            tracing::debug!(
                reason = "answered",
                endpoint,
                status,
                ms,
                "a call to the provider"
            );
        }
        Err(error) => {
            let reason = error.reason();
            tracing::debug!(reason, endpoint, ms, "a call to the provider");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_logged_once_a_period() {
        let throttle = Throttle::default();
        let at = |seconds| OffsetDateTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let day = 24 * 60 * 60;
        for (reason, seconds, expected) in [
            ("a", day, Some(0)),
            ("a", day, None),
            ("b", day + 1, Some(0)),
            ("a", day + 59, None),
            ("a", day + 60, Some(2)),
            ("a", day + 119, None),
            ("b", day + 3600, Some(0)),
            ("a", day + 120, Some(1)),
            // A clock that is set back keeps nobody quiet for a day.
            ("a", 0, Some(0)),
            ("a", 1, None),
        ] {
            let found = throttle.admit(reason, at(seconds));
            assert_eq!(found, expected, "{reason} at {seconds}");
        }
    }
}
