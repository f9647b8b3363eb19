//! A bounded cache of issued tokens, with single-flight requests.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use moka::{ops::compute::Op, policy::EvictionPolicy, sync::Cache};
use tokio::sync::watch;
use tracing::Instrument;

use super::{ApiTokenError, IssuedToken, Target};
use crate::{
    clock::Clock,
    provider::{Endpoint, ProviderError},
    secret::Secret,
    session::NoSession,
    tasks::Tasks,
};

/// The back-off after a failed request, doubled for each failure, and its maximum; longer if the provider asks for it.
const MIN_BACK_OFF: Duration = Duration::from_secs(5);
const MAX_BACK_OFF: Duration = Duration::from_secs(60);
/// The longest back-off of all. A longer one shows that the clock was set back.
const LONGEST_BACK_OFF: i64 = 300;
/// How long tokens of an owner are cached that are not used.
const IDLE_TTL: Duration = Duration::from_secs(60 * 60);
/// The minimum age of a token that is replaced because the API rejects it: a younger one shows that another would be
/// rejected too.
#[cfg(feature = "api-client")]
const MIN_REJECTED_AGE: Duration = Duration::from_secs(60);
/// Approximate memory of an entry, beside its token.
const ENTRY_WEIGHT: usize = 600;

/// The bounds of a cache.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// The memory of all tokens, in bytes. The owner that was not used for the longest time is evicted.
    pub(crate) bytes: u64,
    /// The maximum number of tokens of one owner.
    pub(crate) targets: usize,
}

/// Issued tokens, by owner and target. The owner is what the provider grants a token to: the client, a session, or
/// another token.
pub(crate) struct IssuedTokens<O> {
    owners: Cache<O, Arc<Owned>>,
    limits: Limits,
    clock: Clock,
    tasks: Tasks,
    /// What the tokens are, for a log line.
    what: &'static str,
}

/// The tokens of one owner.
#[derive(Default)]
struct Owned(Mutex<OwnedTokens>);

#[derive(Default)]
struct OwnedTokens {
    flights: HashMap<Target, Flight>,
    /// Whether they were dropped: a token that is issued from now on is unwanted.
    is_dropped: bool,
    /// When a token was last replaced because the API rejected it, in seconds since 1970.
    #[cfg(feature = "api-client")]
    renewed_at: Option<i64>,
}

/// One request for a token. It continues when the request of the app that began it is gone.
#[derive(Clone)]
struct Flight(watch::Receiver<Option<Outcome>>);

#[derive(Clone)]
enum Outcome {
    Issued(IssuedToken),
    Failed {
        error: ApiTokenError,
        /// In seconds since 1970; `None` if the next call may try at once.
        retry_at: Option<i64>,
        failures: u32,
    },
}

/// What a call does.
enum Step {
    Join(Flight),
    Begin(watch::Sender<Option<Outcome>>, Flight, u32),
}

impl<O> IssuedTokens<O>
where
    O: Clone + Eq + Hash + Send + Sync + 'static,
{
    pub(crate) fn new(what: &'static str, limits: Limits, clock: &Clock) -> IssuedTokens<O> {
        IssuedTokens {
            owners: Cache::builder()
                .max_capacity(limits.bytes)
                .weigher(|_, owned: &Arc<Owned>| owned.weight())
                .eviction_policy(EvictionPolicy::lru())
                .time_to_idle(IDLE_TTL)
                .build(),
            limits,
            clock: clock.clone(),
            tasks: Tasks::default(),
            what,
        }
    }

    /// Makes a shutdown wait for requests: those of sessions may rotate a refresh token.
    pub(crate) fn awaited_by(self, tasks: &Tasks) -> IssuedTokens<O> {
        let tasks = tasks.clone();
        IssuedTokens { tasks, ..self }
    }

    /// The cached token of this owner, if it is usable.
    pub(crate) fn cached(&self, owner: &O, target: &Target) -> Option<IssuedToken> {
        let owned = self.owners.get(owner)?;
        let tokens = owned.lock();
        let token = tokens.flights.get(target)?.issued()?;
        token.is_usable(self.clock.now()).then_some(token)
    }

    /// The cached token, or that of the request in flight, or that of the request that `begin` makes: in a task, so
    /// that it completes in any case. A failed request is not repeated before its back-off is over.
    ///
    /// If the owner's tokens are dropped meanwhile, the call fails, and `unwanted` gets the token.
    pub(crate) async fn get<F>(
        self: &Arc<Self>,
        owner: O,
        target: Target,
        provider: Option<&str>,
        begin: impl FnOnce() -> F,
        unwanted: impl FnOnce(IssuedToken) + Send + 'static,
    ) -> Result<IssuedToken, ApiTokenError>
    where
        F: Future<Output = Result<IssuedToken, ApiTokenError>> + Send + 'static,
    {
        let (owned, step) = self.step(&owner, &target)?;
        let flight = match step {
            Step::Join(flight) => flight,
            Step::Begin(sender, flight, failures) => {
                let (request, tokens) = (begin(), self.clone());
                let provider = provider.map(str::to_owned);
                let requesting = async move {
                    let result = request.await;
                    if let Err(error) = &result {
                        error.log(tokens.what, target.resource(), provider.as_deref());
                    }
                    let outcome = Outcome::of(result, failures, tokens.clock.now().unix_timestamp());
                    match owned.complete(&sender, outcome) {
                        Some(token) => unwanted(token),
                        None => tokens.weigh_again(&owner, &owned),
                    }
                };
                // Otherwise the call fails.
                if !self.tasks.are_ending() {
                    self.tasks
                        .spawn(requesting.instrument(tracing::debug_span!("token_request")));
                }
                flight
            }
        };
        let interrupted = || ApiTokenError::Provider(self.busy());
        match flight.outcome().await.ok_or_else(interrupted)? {
            Outcome::Issued(token) => Ok(token),
            Outcome::Failed { error, .. } => Err(error),
        }
    }

    /// Drops a token that the API rejects, so that the next call requests another one. Returns `false`, and keeps it, if
    /// it is too young, or if the owner's tokens were renewed within this interval. `true` also if there is another one
    /// already.
    #[cfg(feature = "api-client")]
    pub(crate) fn reject(
        &self,
        owner: &O,
        target: &Target,
        rejected: &IssuedToken,
        interval: Option<Duration>,
    ) -> bool {
        let now = self.clock.now();
        if now
            < rejected
                .issued_at()
                .saturating_add(MIN_REJECTED_AGE.try_into().unwrap_or_default())
        {
            return false;
        }
        let owned = self.owners.get_with_by_ref(owner, Arc::default);
        let mut tokens = owned.lock();
        let cached = tokens.flights.get(target);
        // Absent: another call has just dropped it.
        if !cached.is_some_and(|flight| flight.issued().is_some_and(|token| token.secret() == rejected.secret())) {
            return true;
        }
        let now = now.unix_timestamp();
        let is_within = |at: i64, interval: Duration| (now - at).unsigned_abs() < interval.as_secs();
        if tokens
            .renewed_at
            .zip(interval)
            .is_some_and(|(at, interval)| is_within(at, interval))
        {
            return false;
        }
        tokens.renewed_at = Some(now);
        tokens.flights.remove(target);
        true
    }

    /// Decides, under the lock of the owner, whether a call joins a request or begins one.
    fn step(&self, owner: &O, target: &Target) -> Result<(Arc<Owned>, Step), ApiTokenError> {
        let now = self.clock.now();
        loop {
            let owned = self.owners.get_with_by_ref(owner, Arc::default);
            let mut tokens = owned.lock();
            if tokens.is_dropped {
                // It is no longer in the cache, or is about to leave it.
                drop(tokens);
                self.owners.entry_by_ref(owner).and_compute_with(|entry| match entry {
                    Some(entry) if Arc::ptr_eq(entry.value(), &owned) => Op::Remove,
                    _ => Op::Nop,
                });
                continue;
            }
            let known = tokens.flights.get(target).cloned();
            let failures = match known.map(|flight| (flight.now(), flight)) {
                None | Some((Now::Lost, _)) => 0,
                Some((Now::InFlight, flight)) => {
                    drop(tokens);
                    return Ok((owned, Step::Join(flight)));
                }
                Some((Now::Outcome(Outcome::Issued(token)), flight)) if token.is_usable(now) => {
                    drop(tokens);
                    return Ok((owned, Step::Join(flight)));
                }
                Some((Now::Outcome(Outcome::Issued(_)), _)) => 0,
                Some((
                    Now::Outcome(Outcome::Failed {
                        error,
                        retry_at,
                        failures,
                    }),
                    _,
                )) => {
                    let wait = retry_at.map_or(0, |at| at - now.unix_timestamp());
                    if (1..=LONGEST_BACK_OFF).contains(&wait) {
                        return Err(error.with_wait(Duration::from_secs(wait.unsigned_abs())));
                    }
                    failures
                }
            };
            if !tokens.make_room(target, self.limits.targets) {
                return Err(self.busy().into());
            }
            let (sender, outcome) = watch::channel(None);
            let flight = Flight(outcome);
            tokens.flights.insert(target.clone(), flight.clone());
            drop(tokens);
            return Ok((owned, Step::Begin(sender, flight, failures)));
        }
    }

    /// Drops the tokens of an owner, and those that are in flight; returns the ones that may still be valid.
    pub(crate) fn drop_all_of(&self, owner: &O) -> Vec<Secret> {
        let Some(owned) = self.owners.remove(owner) else {
            return vec![];
        };
        let now = self.clock.now();
        let mut tokens = owned.lock();
        tokens.is_dropped = true;
        let issued = tokens.flights.drain().filter_map(|(_, flight)| flight.issued());
        let alive = issued.filter(|token| token.expires_at().is_none_or(|end| now < end));
        alive.map(|token| token.secret().clone()).collect()
    }

    /// Lets the cache weigh an owner again, whose tokens have changed.
    fn weigh_again(&self, owner: &O, owned: &Arc<Owned>) {
        self.owners.entry_by_ref(owner).and_compute_with(|entry| match entry {
            Some(entry) if Arc::ptr_eq(entry.value(), owned) => Op::Put(owned.clone()),
            _ => Op::Nop,
        });
    }

    fn busy(&self) -> ProviderError {
        ProviderError::Busy {
            endpoint: Endpoint::Token,
            retry_after: Duration::from_secs(1),
        }
    }
}

impl<O> fmt::Debug for IssuedTokens<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IssuedTokens(…)")
    }
}

impl Owned {
    /// Tells the outcome to all that wait. If the tokens were dropped meanwhile, the outcome is that the session has
    /// ended, and an issued token is returned.
    fn complete(&self, sender: &watch::Sender<Option<Outcome>>, outcome: Outcome) -> Option<IssuedToken> {
        // Sent under the lock: who drops the tokens finds the outcome, or is found here.
        let tokens = self.lock();
        if !tokens.is_dropped {
            sender.send_replace(Some(outcome));
            return None;
        }
        drop(tokens);
        let ended = Outcome::Failed {
            error: ApiTokenError::NoSession(NoSession::Ended),
            retry_at: None,
            failures: 0,
        };
        sender.send_replace(Some(ended));
        match outcome {
            Outcome::Issued(token) => Some(token),
            Outcome::Failed { .. } => None,
        }
    }

    /// Approximate memory in bytes.
    fn weight(&self) -> u32 {
        let tokens = self.lock();
        let flights = tokens.flights.values();
        let of_tokens: usize = flights
            .map(|flight| ENTRY_WEIGHT + flight.issued().map_or(0, |token| token.expose().len()))
            .sum();
        u32::try_from(ENTRY_WEIGHT + of_tokens).unwrap_or(u32::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, OwnedTokens> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OwnedTokens {
    /// Makes room for one more target: the oldest outcome is evicted. Returns `false` if all requests are in flight.
    fn make_room(&mut self, target: &Target, max: usize) -> bool {
        if self.flights.len() < max || self.flights.contains_key(target) {
            return true;
        }
        let ended = self.flights.iter().filter_map(|(target, flight)| match flight.now() {
            Now::Outcome(Outcome::Issued(token)) => Some((token.issued_at().unix_timestamp(), target)),
            Now::Outcome(Outcome::Failed { .. }) | Now::Lost => Some((i64::MIN, target)),
            Now::InFlight => None,
        });
        let oldest = ended.min_by_key(|(at, _)| *at).map(|(_, target)| target.clone());
        oldest.is_some_and(|oldest| self.flights.remove(&oldest).is_some())
    }
}

/// The state of a request.
enum Now {
    InFlight,
    /// It was dropped without an outcome, as at a shutdown.
    Lost,
    Outcome(Outcome),
}

impl Flight {
    fn now(&self) -> Now {
        match &*self.0.borrow() {
            Some(outcome) => Now::Outcome(outcome.clone()),
            None if self.0.has_changed().is_err() => Now::Lost,
            None => Now::InFlight,
        }
    }

    fn issued(&self) -> Option<IssuedToken> {
        match self.now() {
            Now::Outcome(Outcome::Issued(token)) => Some(token),
            _ => None,
        }
    }

    async fn outcome(mut self) -> Option<Outcome> {
        let outcome = self.0.wait_for(Option::is_some).await.ok()?;
        outcome.clone()
    }
}

impl Outcome {
    fn of(result: Result<IssuedToken, ApiTokenError>, failures: u32, now: i64) -> Outcome {
        match result {
            Ok(token) => Outcome::Issued(token),
            Err(error) if error.is_of_provider() => {
                let back_off = MIN_BACK_OFF.saturating_mul(1 << failures.min(6)).min(MAX_BACK_OFF);
                let wait = back_off.max(error.retry_after().unwrap_or_default());
                Outcome::Failed {
                    error: error.with_wait(wait),
                    retry_at: Some(now.saturating_add(i64::try_from(wait.as_secs()).unwrap_or(LONGEST_BACK_OFF))),
                    failures: failures.saturating_add(1),
                }
            }
            Err(error) => Outcome::Failed {
                error,
                retry_at: None,
                failures: 0,
            },
        }
    }
}
