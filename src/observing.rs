//! Log events and metrics, in one place, with their reason codes. The functions take codes and strings, and do not
//! depend on the types of their callers.
//!
//! Failures are logged where they occur. Successes are logged here, at `debug`; who signs in and out is in the
//! [audit log](crate::audit).

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use time::OffsetDateTime;

/// Increments a counter, if the feature `metrics` is on. Literal labels cost no allocation. With `at`, it has the label
/// `provider`.
macro_rules! count {
    ($count:expr, $name:literal, $label:literal => $value:expr, at $provider:expr) => {{
        #[cfg(feature = "metrics")]
        ::metrics::counter!($name, $label => $value, "provider" => $provider.label.clone()).increment($count);
        #[cfg(not(feature = "metrics"))]
        let _ = ($count, $value, $provider);
    }};
    ($count:expr, $name:literal $(, $label:literal => $value:expr)+) => {{
        #[cfg(feature = "metrics")]
        ::metrics::counter!($name $(, $label => $value)+).increment($count);
        #[cfg(not(feature = "metrics"))]
        let _ = ($count $(, $value)+);
    }};
}

/// Which provider an event is about.
#[derive(Clone, Debug, Default)]
pub(crate) struct ObservedProvider {
    /// Its name among several, for log lines.
    name: Option<Arc<str>>,
    /// Its label in metrics, of which there are as many as in the settings, and two more.
    #[cfg(feature = "metrics")]
    label: ProviderLabel,
    /// Its issuer in the settings.
    #[cfg(feature = "metrics")]
    issuer: Option<Arc<str>>,
}

/// The label `provider`. No provider in the settings has the name `dynamic` or `none`.
#[cfg(feature = "metrics")]
#[derive(Clone, Debug, Default)]
enum ProviderLabel {
    /// The only one.
    #[default]
    Only,
    Named(Arc<str>),
    /// Any that the app has found at run time: there may be any number.
    Dynamic,
    /// Of several, it is not known which one.
    None,
}

/// Names that metrics use for what is not in the settings.
pub(crate) const RESERVED_NAMES: [&str; 2] = ["dynamic", "none"];

#[cfg(feature = "metrics")]
impl From<ProviderLabel> for ::metrics::SharedString {
    fn from(label: ProviderLabel) -> ::metrics::SharedString {
        let [dynamic, none] = RESERVED_NAMES;
        match label {
            ProviderLabel::Only => "default".into(),
            ProviderLabel::Named(name) => name.into(),
            ProviderLabel::Dynamic => dynamic.into(),
            ProviderLabel::None => none.into(),
        }
    }
}

impl ObservedProvider {
    /// One of the settings.
    pub(crate) fn of_settings(name: &Arc<str>) -> ObservedProvider {
        ObservedProvider {
            name: Some(name.clone()),
            #[cfg(feature = "metrics")]
            label: ProviderLabel::Named(name.clone()),
            #[cfg(feature = "metrics")]
            issuer: None,
        }
    }

    /// One that the app has found.
    pub(crate) fn found(name: &Arc<str>) -> ObservedProvider {
        ObservedProvider {
            name: Some(name.clone()),
            #[cfg(feature = "metrics")]
            label: ProviderLabel::Dynamic,
            #[cfg(feature = "metrics")]
            issuer: None,
        }
    }

    /// Any of several.
    pub(crate) fn none() -> ObservedProvider {
        ObservedProvider {
            name: None,
            #[cfg(feature = "metrics")]
            label: ProviderLabel::None,
            #[cfg(feature = "metrics")]
            issuer: None,
        }
    }

    /// The same, with its issuer, if that is one of the settings.
    pub(crate) fn with_issuer(self, issuer: &str) -> ObservedProvider {
        #[cfg(feature = "metrics")]
        return ObservedProvider {
            issuer: (!matches!(self.label, ProviderLabel::Dynamic)).then(|| issuer.into()),
            ..self
        };
        #[cfg(not(feature = "metrics"))]
        {
            let _ = issuer;
            self
        }
    }

    /// Its name, among several.
    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

/// A browser was redirected to the provider.
pub(crate) fn sign_in_begun(at: &ObservedProvider) {
    tracing::debug!(reason = "sign_in_begun", provider = at.name(), "a sign-in began");
}

/// The provider has no session that a silent sign-in can continue.
pub(crate) fn not_signed_in_silently(error: &impl fmt::Display, at: &ObservedProvider) {
    tracing::debug!(
        reason = "not_signed_in_silently",
        provider = at.name(),
        "a visitor was not signed in silently: {error}"
    );
}

/// A callback failed, and its sign-in restarts.
pub(crate) fn sign_in_restarted(error: &impl fmt::Display, at: &ObservedProvider) {
    tracing::debug!(
        reason = "sign_in_restarted",
        provider = at.name(),
        "a sign-in was restarted: {error}"
    );
}

/// A session began or ended. The audit log says whose.
pub(crate) fn session_changed(reason: &'static str, sentence: &'static str, provider: Option<&str>) {
    tracing::debug!(reason, provider, "{sentence}");
}

/// An event handler of the app panicked.
pub(crate) fn event_panicked(name: &'static str) {
    tracing::error!(
        reason = "event_panicked",
        "the app's `{name}` panicked; the event took effect nevertheless"
    );
}

/// A session began.
pub(crate) fn signed_in(at: &ObservedProvider) {
    count!(1, "oidc_sign_ins_total", "outcome" => "signed_in", at at);
}

/// A sign-in failed; the caller logs it.
pub(crate) fn sign_in_failed(reason: &'static str, at: &ObservedProvider) {
    count!(1, "oidc_sign_ins_total", "outcome" => reason, at at);
}

/// The ID token of a refresh has a newer `auth_time`, in seconds since 1970.
pub(crate) fn newer_auth_time(before: f64, now: f64) {
    tracing::info!(
        reason = "newer_auth_time",
        "the user authenticated at the provider again: `auth_time` was {before} and is {now} after a refresh"
    );
}

/// The claims of a new session lack these, which the provider sends as references.
pub(crate) fn claims_by_reference(names: &[String]) {
    if !names.is_empty() {
        let names = names.join(", ");
        tracing::warn!(
            "the provider sends {names} as a reference (`_claim_names`), which is not followed: the session has no such claim"
        );
        tracing::info!(
            "configure the provider to send the claim itself; in Microsoft Entra ID, limit the claim to groups \
             assigned to the application, or use app roles"
        );
    }
}

/// A session was refreshed.
pub(crate) fn refreshed(at: &ObservedProvider) {
    tracing::debug!(reason = "refreshed", provider = at.name(), "a session was refreshed");
    count!(1, "oidc_refreshes_total", "outcome" => "refreshed", at at);
}

/// A refresh failed and the session stays; the caller logs it.
pub(crate) fn refresh_failed(reason: &'static str, at: &ObservedProvider) {
    count!(1, "oidc_refreshes_total", "outcome" => reason, at at);
}

/// A session ended at its refresh; the caller logs it.
pub(crate) fn refresh_ended(reason: &'static str, at: &ObservedProvider) {
    count!(1, "oidc_refreshes_total", "outcome" => reason, at at);
    sessions_ended("refresh", 1, at);
}

/// `count` sessions ended because of `cause`.
pub(crate) fn sessions_ended(cause: &'static str, count: usize, at: &ObservedProvider) {
    count!(count as u64, "oidc_sessions_ended_total", "cause" => cause, at at);
}

/// A request has a session that is rejected.
pub(crate) fn session_rejected(reason: &'static str, cause: &impl fmt::Display) {
    tracing::debug!(reason, "a session was rejected: {cause}");
}

/// A user signed out at the app.
pub(crate) fn signed_out(at: &ObservedProvider) {
    sessions_ended("sign_out", 1, at);
}

/// The provider ended sessions by back-channel logout.
pub(crate) fn backchannel_logout(count: usize, at: &ObservedProvider) {
    sessions_ended("backchannel_logout", count, at);
    if count == 0 {
        tracing::debug!(
            reason = "backchannel_logout",
            provider = at.name(),
            "the provider ended a session that does not exist here"
        );
    }
}

/// The provider ended a session by front-channel logout.
pub(crate) fn frontchannel_logout(at: &ObservedProvider) {
    sessions_ended("frontchannel_logout", 1, at);
}

/// An access token was accepted.
pub(crate) fn token_accepted() {
    tracing::debug!(reason = "accepted", "an access token was accepted");
    count!(1, "oidc_bearer_decisions_total", "outcome" => "accepted");
}

/// Why a request is rejected because of its access token.
pub(crate) struct RejectedToken<'a> {
    pub(crate) reason: &'static str,
    pub(crate) cause: &'a dyn fmt::Display,
    pub(crate) remedy: &'a dyn fmt::Display,
    /// Whether the operator has to act.
    pub(crate) is_for_operators: bool,
    /// The token's issuer, by its name in the settings.
    pub(crate) issuer: &'a (dyn Fn() -> Option<&'a str> + Sync),
}

/// A request is rejected because of its access token. Anyone can cause that, at any rate, so that it is counted, and
/// logged at `debug`. What the operator has to fix is logged as an error, once a minute for each reason and issuer.
pub(crate) fn token_rejected(token: &RejectedToken<'_>, throttle: &Throttle, now: OffsetDateTime) {
    let (reason, cause) = (token.reason, token.cause);
    count!(1, "oidc_bearer_decisions_total", "outcome" => reason);
    let issuer = token.is_for_operators.then(token.issuer).flatten();
    let admitted = token.is_for_operators.then(|| throttle.admit(reason, issuer, now));
    match admitted.flatten() {
        None => {
            tracing::debug!(reason, "{cause}");
            tracing::debug!("{}", token.remedy);
            return;
        }
        Some(0) => tracing::error!(reason, issuer, "{cause}"),
        Some(suppressed) => tracing::error!(reason, issuer, "{cause}; {suppressed} similar lines were suppressed"),
    }
    tracing::info!("{}", token.remedy);
}

/// A guard read a session after the response was written.
pub(crate) fn guard_after_response(throttle: &Throttle, now: OffsetDateTime) {
    const SENTENCE: &str =
        "a fairing asked a guard for the session after the response was written: it is read and not refreshed";
    let reason = "guard_after_response";
    if mistake_of_app(reason, SENTENCE, throttle, now) {
        tracing::info!("attach that fairing before `Oidc`, so that its `on_response` runs first");
    }
}

/// A route that is protected for signed-in users was requested with an access token, or has a guard that needs one.
pub(crate) fn token_at_protected_route(throttle: &Throttle, now: OffsetDateTime) {
    const SENTENCE: &str = "an access token was sent to a route in `protect`, or a guard in such a route demands one: it admits sessions only";
    let reason = "token_at_protected_route";
    if mistake_of_app(reason, SENTENCE, throttle, now) {
        tracing::info!("wrap routes of an API in `protect_bearer`, or in `protect_caller` if users call them too");
    }
}

/// A mistake in the app's code, which each request may show: logged once a minute. Returns whether it was logged.
fn mistake_of_app(reason: &'static str, sentence: &str, throttle: &Throttle, now: OffsetDateTime) -> bool {
    let admitted = throttle.admit(reason, None, now);
    match admitted {
        None => {}
        Some(0) => tracing::warn!(reason, "{sentence}"),
        Some(suppressed) => tracing::warn!(reason, "{sentence}; {suppressed} similar lines were suppressed"),
    }
    admitted.is_some()
}

/// A rate limit for log lines: one a minute for each reason code and issuer of the settings. Keeps when the last one was
/// logged, and how many were suppressed since.
#[derive(Debug, Default)]
pub(crate) struct Throttle(Mutex<BTreeMap<LineKey, (OffsetDateTime, u64)>>);

/// The reason code and the issuer of a log line.
type LineKey = (&'static str, Option<String>);

impl Throttle {
    const PERIOD: Duration = Duration::from_secs(60);

    /// Whether a line with this reason and issuer may be logged now. If so, returns how many were suppressed since
    /// the last one.
    fn admit(&self, reason: &'static str, issuer: Option<&str>, now: OffsetDateTime) -> Option<u64> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = (reason, issuer.map(str::to_owned));
        let Some((since, suppressed)) = lines.get_mut(&line) else {
            lines.insert(line, (now, 0));
            return Some(0);
        };
        // If the clock was set back, the period starts again.
        if (*since..*since + Throttle::PERIOD).contains(&now) {
            *suppressed += 1;
            return None;
        }
        *since = now;
        Some(std::mem::take(suppressed))
    }
}

/// An access token was looked up in the cache.
pub(crate) fn token_looked_up(is_hit: bool) {
    if is_hit {
        count!(1, "oidc_cache_lookups_total", "cache" => "access_tokens", "result" => "hit");
    } else {
        count!(1, "oidc_cache_lookups_total", "cache" => "access_tokens", "result" => "miss");
    }
}

/// A session was looked up in the cache of decrypted sessions.
pub(crate) fn session_looked_up(is_hit: bool) {
    if is_hit {
        count!(1, "oidc_cache_lookups_total", "cache" => "sessions", "result" => "hit");
    } else {
        count!(1, "oidc_cache_lookups_total", "cache" => "sessions", "result" => "miss");
    }
}

/// The keys of a provider were fetched. Not of one that the app has found: any number of issuers would be labels.
pub(crate) fn keys_fetched(now: OffsetDateTime, of: &ObservedProvider) {
    #[cfg(feature = "metrics")]
    if let Some(issuer) = &of.issuer {
        ::metrics::gauge!("oidc_keys_fetched_timestamp_seconds", "issuer" => issuer.clone())
            .set(now.unix_timestamp() as f64);
    }
    #[cfg(not(feature = "metrics"))]
    let _ = (now, of);
}

/// `count` entries were evicted from the table of newest generations.
pub(crate) fn generations_dropped(count: u64) {
    tracing::debug!(
        reason = "generations_dropped",
        "{count} refreshed sessions lost the record of their newest generation"
    );
    count!(count, "oidc_generations_dropped_total", "table" => "sessions");
}

/// An insecure setting is in use.
pub(crate) fn insecure_setting(setting: &str, warning: &str) {
    tracing::warn!("{warning}");
    #[cfg(feature = "metrics")]
    ::metrics::gauge!("oidc_insecure_settings", "setting" => setting.to_owned()).set(1);
    #[cfg(not(feature = "metrics"))]
    let _ = setting;
}

/// Describes each metric to the recorder.
pub(crate) fn describe() {
    #[cfg(feature = "metrics")]
    {
        use ::metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

        describe_counter!("oidc_sign_ins_total", "Sign-ins by outcome and provider");
        describe_counter!("oidc_refreshes_total", "Refreshes by outcome and provider");
        describe_counter!(
            "oidc_bearer_decisions_total",
            "Requests with an access token by outcome"
        );
        describe_counter!("oidc_cache_lookups_total", "Lookups by cache and result");
        describe_counter!("oidc_sessions_ended_total", "Sessions that ended by cause and provider");
        describe_counter!(
            "oidc_generations_dropped_total",
            "Refreshed sessions whose newest generation was evicted"
        );
        describe_gauge!(
            "oidc_keys_fetched_timestamp_seconds",
            "When the keys of an issuer were fetched, in seconds since 1970"
        );
        describe_gauge!("oidc_insecure_settings", "Settings that make the app less secure");
        let requests = "oidc_client_request_duration_seconds";
        describe_histogram!(
            requests,
            Unit::Seconds,
            "Requests to the provider by endpoint and outcome"
        );
    }
}

/// A call to the provider ended, with a response or an error.
pub(crate) fn provider_called(
    endpoint: &'static str,
    answer: Result<u16, &'static str>,
    elapsed: Duration,
    at: &ObservedProvider,
) {
    #[cfg(feature = "metrics")]
    {
        let outcome = answer.map_or_else(|reason| reason, status_class);
        let name = "oidc_client_request_duration_seconds";
        ::metrics::histogram!(name, "endpoint" => endpoint, "outcome" => outcome, "provider" => at.label.clone())
            .record(elapsed.as_secs_f64());
    }
    let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    let provider = at.name();
    match answer {
        Ok(status) => {
            tracing::debug!(
                reason = "answered",
                provider,
                endpoint,
                status,
                ms,
                "called the provider"
            );
        }
        Err(reason) => {
            tracing::debug!(reason, provider, endpoint, ms, "called the provider");
        }
    }
}

/// The provider chooses the status: only its class is a label.
#[cfg(feature = "metrics")]
fn status_class(status: u16) -> &'static str {
    match status {
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        _ => "5xx",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_logged_once_a_period_for_each_issuer() {
        let throttle = Throttle::default();
        let at = |seconds| OffsetDateTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let day = 24 * 60 * 60;
        for (reason, seconds, expected) in [
            ("a", day, Some(0)),
            ("a", day, None),
            ("b", day + 1, Some(0)),
            ("a", day + 59, None),
            ("a of x", day + 59, Some(0)),
            ("a of y", day + 59, Some(0)),
            ("a of x", day + 60, None),
            ("a", day + 60, Some(2)),
            ("a", day + 119, None),
            ("b", day + 3600, Some(0)),
            ("a", day + 120, Some(1)),
            // If the clock is set back, lines are not suppressed for a day.
            ("a", 0, Some(0)),
            ("a", 1, None),
        ] {
            let (reason, issuer) = match reason.split_once(" of ") {
                Some((reason, issuer)) => (reason, Some(issuer)),
                None => (reason, None),
            };
            let found = throttle.admit(reason, issuer, at(seconds));
            assert_eq!(found, expected, "{reason} of {issuer:?} at {seconds}");
        }
    }

    /// Of any number of providers that the app finds, there is one label, and none of their issuers.
    #[cfg(feature = "metrics")]
    #[test]
    fn the_values_of_labels_are_a_fixed_set() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let names = ["one", "acme", "beta"].map(Arc::from);
        let [one, acme, beta] = &names;
        let observed = [
            ObservedProvider::default(),
            ObservedProvider::of_settings(one),
            ObservedProvider::found(acme),
            ObservedProvider::found(beta),
            ObservedProvider::none(),
        ];
        ::metrics::with_local_recorder(&recorder, || {
            for at in &observed {
                signed_in(at);
                refresh_ended("invalid_grant", at);
                provider_called("token", Ok(200), Duration::from_millis(1), at);
                let issuer = format!("https://{}.example", at.name().unwrap_or("only"));
                keys_fetched(OffsetDateTime::UNIX_EPOCH, &at.clone().with_issuer(&issuer));
            }
        });
        let rendered = recorder.handle().render();
        let mut lines: Vec<_> = rendered.lines().filter(|line| !line.starts_with('#')).collect();
        lines.retain(|line| !line.is_empty() && !line.contains("_sum") && !line.contains("quantile"));
        lines.sort_unstable();
        assert_eq!(
            lines,
            [
                "oidc_client_request_duration_seconds_count{endpoint=\"token\",outcome=\"2xx\",provider=\"default\"} 1",
                "oidc_client_request_duration_seconds_count{endpoint=\"token\",outcome=\"2xx\",provider=\"dynamic\"} 2",
                "oidc_client_request_duration_seconds_count{endpoint=\"token\",outcome=\"2xx\",provider=\"none\"} 1",
                "oidc_client_request_duration_seconds_count{endpoint=\"token\",outcome=\"2xx\",provider=\"one\"} 1",
                "oidc_keys_fetched_timestamp_seconds{issuer=\"https://one.example\"} 0",
                "oidc_keys_fetched_timestamp_seconds{issuer=\"https://only.example\"} 0",
                "oidc_refreshes_total{outcome=\"invalid_grant\",provider=\"default\"} 1",
                "oidc_refreshes_total{outcome=\"invalid_grant\",provider=\"dynamic\"} 2",
                "oidc_refreshes_total{outcome=\"invalid_grant\",provider=\"none\"} 1",
                "oidc_refreshes_total{outcome=\"invalid_grant\",provider=\"one\"} 1",
                "oidc_sessions_ended_total{cause=\"refresh\",provider=\"default\"} 1",
                "oidc_sessions_ended_total{cause=\"refresh\",provider=\"dynamic\"} 2",
                "oidc_sessions_ended_total{cause=\"refresh\",provider=\"none\"} 1",
                "oidc_sessions_ended_total{cause=\"refresh\",provider=\"one\"} 1",
                "oidc_sign_ins_total{outcome=\"signed_in\",provider=\"default\"} 1",
                "oidc_sign_ins_total{outcome=\"signed_in\",provider=\"dynamic\"} 2",
                "oidc_sign_ins_total{outcome=\"signed_in\",provider=\"none\"} 1",
                "oidc_sign_ins_total{outcome=\"signed_in\",provider=\"one\"} 1",
            ]
        );
    }
}
