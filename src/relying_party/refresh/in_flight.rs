//! The refreshes of this process that are in flight or have just completed: single-flight for each session.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use moka::Expiry;
use moka::ops::compute::CompResult;
use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use time::OffsetDateTime;
use tokio::sync::watch;

use super::{FORCED_INTERVAL, failure::Failure, session_locks::SessionLocks};
use crate::{
    observing::{self, ObservedProvider},
    secret::Secret,
    session::{CurrentSession, NoSession},
};

/// The minimum back-off after a failed refresh, doubled for each failure …
pub(super) const MIN_BACK_OFF: u32 = 5;
/// … up to this maximum, in seconds.
const MAX_BACK_OFF: u32 = 60;
/// The TTL of cached outcomes: longer than any back-off that the provider did not ask for.
const OUTCOME_TTL: Duration = Duration::from_secs(600);
/// The maximum number of cached outcomes.
const MAX_OUTCOMES: u64 = 100_000;
/// The TTL and the maximum number of the refresh tokens kept in memory because they could not be stored.
const UNSTORED_TTL: Duration = Duration::from_secs(24 * 60 * 60);
const MAX_UNSTORED: u64 = 10_000;

/// The cache of refreshes of this process.
pub(crate) struct Refreshes {
    /// The refreshes that are in flight or have just completed, by session name.
    flights: Cache<String, InFlightRefresh>,
    /// The refresh tokens that could not be stored, by session name: the ones before them are used up.
    pub(super) unstored: Cache<String, Secret>,
    /// Who may send a session's refresh token.
    pub(super) locks: SessionLocks,
}

/// One refresh. It continues when the request that began it is gone: its refresh token may be used up.
#[derive(Clone)]
pub(super) struct InFlightRefresh {
    pub(super) outcome: watch::Receiver<Option<Outcome>>,
}

/// The outcome of a refresh.
#[derive(Clone)]
pub(super) enum Outcome {
    Refreshed {
        session: CurrentSession,
        at: i64,
    },
    /// The session has ended.
    Ended(NoSession),
    /// This copy of the session cannot be used any more, or not at the moment.
    NoSession(NoSession),
    /// The session stays unchanged; no refresh is tried again until `retry_at`.
    Failed {
        /// The session with the new refresh token, if the provider sent tokens that cannot be verified yet.
        pending: Option<CurrentSession>,
        cause: Arc<str>,
        retry_at: i64,
        failures: u32,
        /// Whether the provider requires a new sign-in.
        asks_for_sign_in: bool,
    },
}

/// The TTL of a cached outcome, from the beginning of the refresh and again from its completion.
struct OutcomeTtl;

impl Expiry<String, InFlightRefresh> for OutcomeTtl {
    fn expire_after_create(&self, _: &String, _: &InFlightRefresh, _: Instant) -> Option<Duration> {
        Some(OUTCOME_TTL)
    }

    fn expire_after_update(
        &self,
        _: &String,
        flight: &InFlightRefresh,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        match &*flight.outcome.borrow() {
            // It holds a session, and only a forced refresh uses it.
            Some(Outcome::Refreshed { .. }) => Some(Duration::from_secs(FORCED_INTERVAL.unsigned_abs())),
            _ => Some(OUTCOME_TTL),
        }
    }
}

impl Refreshes {
    pub(crate) fn new() -> Refreshes {
        Refreshes {
            flights: Cache::builder()
                .max_capacity(MAX_OUTCOMES)
                .eviction_policy(EvictionPolicy::lru())
                .expire_after(OutcomeTtl)
                .build(),
            unstored: Cache::builder()
                .max_capacity(MAX_UNSTORED)
                .time_to_live(UNSTORED_TTL)
                .build(),
            locks: SessionLocks::default(),
        }
    }

    /// Removes and returns the refresh token of a session that could not be stored.
    pub(in crate::relying_party) fn take_unstored(&self, name: &str) -> Option<Secret> {
        self.unstored.remove(name)
    }

    /// Whether a refresh of this session is in flight.
    pub(crate) fn is_refresh_in_flight(&self, name: &str) -> bool {
        self.flights
            .get(name)
            .is_some_and(|flight| flight.outcome.borrow().is_none() && flight.outcome.has_changed().is_ok())
    }

    /// Whether the provider demanded a new sign-in at the last refresh of this session, which is not tried again yet.
    pub(super) fn asks_for_sign_in(&self, name: &str, now: OffsetDateTime) -> bool {
        let flight = self.flights.get(name);
        flight.is_some_and(|flight| match &*flight.outcome.borrow() {
            Some(Outcome::Failed {
                asks_for_sign_in,
                retry_at,
                ..
            }) => *asks_for_sign_in && now.unix_timestamp() < *retry_at,
            _ => false,
        })
    }

    /// Updates the TTL of the entry once the refresh has its outcome.
    pub(super) fn completed(&self, name: &str, flight: InFlightRefresh) {
        self.flights.entry_by_ref(name).and_compute_with(|entry| match entry {
            Some(entry) if entry.value().outcome.same_channel(&flight.outcome) => Op::Put(flight),
            _ => Op::Nop,
        });
    }

    /// The refresh to join: the cached one while it is valid, otherwise a new one. `begin` receives the number of
    /// failures before.
    pub(super) fn join(
        &self,
        name: &str,
        current: &CurrentSession,
        forced: Option<i64>,
        now: OffsetDateTime,
        begin: impl FnOnce(u32) -> InFlightRefresh,
    ) -> InFlightRefresh {
        let now = now.unix_timestamp();
        let joined = self.flights.entry_by_ref(name).and_compute_with(|entry| {
            let Some(entry) = entry else {
                return Op::Put(begin(0));
            };
            let flight = entry.into_value();
            let outcome = flight.outcome.borrow();
            match &*outcome {
                // It was dropped without an outcome, as at a shutdown.
                None if flight.outcome.has_changed().is_err() => Op::Put(begin(0)),
                None => Op::Nop,
                Some(Outcome::Refreshed { session, at }) => {
                    let counts = match forced {
                        // Another node may have refreshed the session later.
                        Some(interval) => session.generation >= current.generation && (now - at).abs() < interval,
                        None => {
                            session.generation > current.generation && session.refresh_due.is_none_or(|due| due > now)
                        }
                    };
                    if counts { Op::Nop } else { Op::Put(begin(0)) }
                }
                Some(Outcome::Failed { retry_at, failures, .. }) if now >= *retry_at => Op::Put(begin(*failures)),
                Some(Outcome::NoSession(_)) => Op::Put(begin(0)),
                Some(Outcome::Failed { .. } | Outcome::Ended(_)) => Op::Nop,
            }
        });
        match joined {
            CompResult::Inserted(entry)
            | CompResult::ReplacedWith(entry)
            | CompResult::Unchanged(entry)
            | CompResult::Removed(entry) => entry.into_value(),
            CompResult::StillNone(_) => InFlightRefresh::lost(),
        }
    }
}

impl fmt::Debug for Refreshes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Refreshes(…)")
    }
}

impl InFlightRefresh {
    /// `None` when it was dropped without an outcome, as at a shutdown.
    pub(super) async fn outcome(mut self) -> Option<Outcome> {
        let outcome = self.outcome.wait_for(Option::is_some).await.ok()?;
        outcome.clone()
    }

    fn lost() -> InFlightRefresh {
        let (_, outcome) = watch::channel(None);
        InFlightRefresh { outcome }
    }
}

impl Outcome {
    pub(super) fn of(
        result: Result<CurrentSession, Failure>,
        failures: u32,
        now: OffsetDateTime,
        at: &ObservedProvider,
    ) -> Outcome {
        let now = now.unix_timestamp();
        let back_off = MIN_BACK_OFF.saturating_mul(1 << failures.min(6)).min(MAX_BACK_OFF);
        let failed = |pending, cause: String, wait: u32, asks_for_sign_in| Outcome::Failed {
            pending,
            cause: cause.into(),
            retry_at: now + i64::from(wait),
            failures: failures.saturating_add(1),
            asks_for_sign_in,
        };
        match result {
            Ok(session) => {
                observing::refreshed(at);
                Outcome::Refreshed { session, at: now }
            }
            Err(Failure::Ended(reason)) => {
                observing::refresh_ended(reason.reason(), at);
                Outcome::Ended(reason)
            }
            Err(Failure::NoSession(reason)) => Outcome::NoSession(reason),
            Err(Failure::AsksForSignIn { reason, cause }) => {
                observing::refresh_failed(reason, at);
                tracing::info!(
                    reason,
                    provider = at.name(),
                    "a session was not refreshed; the provider requires a new sign-in: {cause}"
                );
                failed(None, cause, back_off, true)
            }
            Err(Failure::Later {
                reason,
                cause,
                retry_after,
                pending,
            }) => {
                observing::refresh_failed(reason, at);
                let requested = retry_after.map_or(0, |wait| u32::try_from(wait.as_secs()).unwrap_or(0));
                let wait = back_off.max(requested);
                tracing::warn!(
                    reason,
                    provider = at.name(),
                    "a session was not refreshed: {cause}; it remains valid, and the refresh is retried in {wait} s"
                );
                failed(pending, cause, wait, false)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{session::Session, token::Claims};

    fn time(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(seconds).unwrap()
    }

    fn session(generation: u64, refresh_due: i64) -> CurrentSession {
        let mut session = Session::new("https://op.example", Claims::default(), time(0));
        session.generation = generation;
        session.refresh_due = Some(refresh_due);
        CurrentSession::nowhere(session)
    }

    fn later(retry_after: Option<u64>) -> Failure {
        Failure::Later {
            reason: "timeout",
            cause: String::new(),
            retry_after: retry_after.map(Duration::from_secs),
            pending: None,
        }
    }

    #[test]
    fn the_back_off_doubles_up_to_a_minute_or_is_the_retry_after() {
        let wait = |failure, before| match Outcome::of(Err(failure), before, time(100), &ObservedProvider::default()) {
            Outcome::Failed { retry_at, failures, .. } => {
                assert_eq!(failures, before.saturating_add(1));
                retry_at - 100
            }
            _ => panic!("no failure"),
        };
        for (before, expected) in [(0, 5), (1, 10), (2, 20), (3, 40), (4, 60), (u32::MAX, 60)] {
            assert_eq!(wait(later(None), before), expected);
            let asks = Failure::AsksForSignIn {
                reason: "interaction_required",
                cause: String::new(),
            };
            assert_eq!(wait(asks, before), expected);
        }
        assert_eq!(wait(later(Some(3)), 0), 5);
        assert_eq!(wait(later(Some(120)), 0), 120);
    }

    #[test]
    fn a_refresh_is_joined_while_its_outcome_is_valid() {
        let refreshed = |generation, due| Outcome::Refreshed {
            session: session(generation, due),
            at: 100,
        };
        let failed = || Outcome::Failed {
            pending: None,
            cause: "".into(),
            retry_at: 105,
            failures: 3,
            asks_for_sign_in: false,
        };
        // Requested with generation 1, at this time; `begins` is the number of failures passed to another refresh.
        for (name, outcome, forced, now, begins) in [
            ("in flight", None, None, 100, None),
            ("newer", Some(refreshed(2, 200)), None, 199, None),
            ("newer and due", Some(refreshed(2, 200)), None, 200, Some(0)),
            ("as old", Some(refreshed(1, 200)), None, 100, Some(0)),
            ("just now", Some(refreshed(1, 200)), Some(10), 109, None),
            ("back", Some(refreshed(1, 200)), Some(10), 91, None),
            ("not just now", Some(refreshed(1, 200)), Some(10), 110, Some(0)),
            ("failed", Some(failed()), None, 104, None),
            ("failed before", Some(failed()), None, 105, Some(3)),
            ("ended", Some(Outcome::Ended(NoSession::Ended)), None, 999, None),
            (
                "a copy signed out",
                Some(Outcome::NoSession(NoSession::Superseded)),
                None,
                100,
                Some(0),
            ),
        ] {
            let refreshes = Refreshes::new();
            let (sender, outcome) = watch::channel(outcome);
            let current = session(1, 100);
            let mut begun = vec![];
            for _ in 0..2 {
                let flight = InFlightRefresh {
                    outcome: outcome.clone(),
                };
                let joined = refreshes.join("name", &current, forced, time(now), |failures| {
                    begun.push(failures);
                    flight
                });
                assert!(joined.outcome.same_channel(&outcome), "{name}");
            }
            let expected: Vec<u32> = [Some(0), begins].into_iter().flatten().collect();
            assert_eq!(begun, expected, "{name}");
            drop(sender);
        }

        // A refresh that was dropped without an outcome.
        let refreshes = Refreshes::new();
        let (current, mut begun) = (session(1, 100), 0);
        for _ in 0..2 {
            refreshes.join("name", &current, None, time(100), |_| {
                begun += 1;
                InFlightRefresh::lost()
            });
        }
        assert_eq!(begun, 2);
    }

    /// Another node may have refreshed the session since this one did.
    #[test]
    fn an_outcome_older_than_the_session_is_not_joined() {
        let refreshes = Refreshes::new();
        let session = |generation| {
            let mut session = Session::new("https://op.example", Claims::default(), time(0));
            session.generation = generation;
            CurrentSession::nowhere(session)
        };
        let (_tell, outcome) = watch::channel(Some(Outcome::Refreshed {
            session: session(2),
            at: 100,
        }));
        for (generation, is_begun) in [(1, true), (1, false), (2, false), (3, true)] {
            let mut begun = false;
            let begin = |_| {
                begun = true;
                let outcome = outcome.clone();
                InFlightRefresh { outcome }
            };
            let current = session(generation);
            refreshes.join("name", &current, Some(FORCED_INTERVAL), time(105), begin);
            assert_eq!(begun, is_begun, "{generation}");
        }
    }
}
