//! The exchange of a code for a session: single-flight, however many callbacks carry the code.
//!
//! Browsers repeat callbacks: they load a page twice, lose a response, restore a tab. The first callback of an
//! attempt claims it and begins the exchange, in a task of its own. Identical callbacks wait for its result: one of
//! them begins a session, and the others get the same session. A callback with another code is rejected.

use std::{
    fmt,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use time::OffsetDateTime;
use tokio::sync::{self, Notify, OwnedMutexGuard};
use tracing::Instrument;

use super::{
    Client, NotBegun, RelyingParty,
    claimed_attempts::{Claimed, ClaimedAttempts},
    revocations::revoke_failed,
};
use crate::{
    code_flow::{AttemptId, AttemptSecrets, ReturnTo, SignInAttempt},
    keys::Purpose,
    provider::Provider,
    relying_party::SignInError,
    secret::Secret,
    session::{CurrentSession, EarlierEnds, Session, SessionTokens, store::StoreError},
    tasks,
};

/// How long a result is kept for identical callbacks.
const RESULT_TTL: Duration = Duration::from_secs(60);
/// The interval at which a result that no callback took is checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The interval at which a node polls for the result of another node.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// The maximum clock skew between two nodes, in seconds, for shared claims.
const CLOCK_SKEW: i64 = 60;
/// The entry that other nodes read when there is no session.
const FAILED: &str = "failed";
/// The prefix of that entry if the user's sessions were ended meanwhile; the recorded ends follow.
const ENDED: &str = "ended.";

/// The exchanges of this node that are in flight or have just completed, by claimed attempt.
pub(crate) struct Exchanges(Mutex<ClaimedAttempts<Exchange>>);

/// One exchange. It continues when the callback that began it is gone: its code is used up.
pub(crate) struct Exchange {
    id: AttemptId,
    /// Locked by the task until it has a result.
    result: Arc<sync::Mutex<ExchangeResult>>,
    /// The number of waiting callbacks.
    waiting: AtomicUsize,
    /// Notified when a callback took the result.
    taken: Notify,
}

#[expect(clippy::large_enum_variant, reason = "each is behind an `Arc` already")]
enum ExchangeResult {
    InFlight,
    /// The tokens were verified, and no session has begun yet.
    Accepted {
        session: Session,
        tokens: SessionTokens,
        /// Whether other nodes can take it too.
        is_offered: bool,
    },
    Begun(BegunSession),
    Failed(NotBegun),
}

/// A session that has begun, and the page that the app sends its browser to, if not that of the attempt.
#[derive(Clone)]
pub(crate) struct BegunSession {
    pub(crate) current: CurrentSession,
    pub(crate) next: Option<ReturnTo>,
}

/// The result of an exchange for one callback.
#[expect(clippy::large_enum_variant, reason = "there is one in a callback")]
pub(crate) enum ExchangeOutcome<'e> {
    /// It is this callback's turn to begin the session.
    Turn(Turn<'e>),
    /// Another callback began it.
    Begun(BegunSession),
}

/// A callback's turn to begin the session. If it is dropped unused, as when the connection breaks, the next identical
/// callback gets the turn.
pub(crate) struct Turn<'e> {
    pub(crate) session: Session,
    pub(crate) tokens: SessionTokens,
    result: sync::MutexGuard<'e, ExchangeResult>,
    waiting: Waiting<'e>,
}

/// A waiting callback, counted by [`exchange_once`](Client::exchange_once).
struct Waiting<'e>(&'e Exchange);

impl Exchanges {
    pub(crate) fn new() -> Exchanges {
        Exchanges(Mutex::new(ClaimedAttempts::new()))
    }

    fn lock(&self) -> MutexGuard<'_, ClaimedAttempts<Exchange>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Exchanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exchanges(…)")
    }
}

impl Client<'_> {
    /// The exchange of this code for this attempt: a new one, or that of an identical callback. `None` when the
    /// result of an identical callback has expired.
    pub(crate) fn exchange_once(
        &self,
        attempt: &SignInAttempt,
        secrets: AttemptSecrets,
        code: Secret,
        client: Option<IpAddr>,
        kept: Option<CurrentSession>,
        now: OffsetDateTime,
    ) -> Result<Option<Arc<Exchange>>, SignInError> {
        let (id, ends) = (attempt.id, attempt.ends(self.settings.sign_in_timeout));
        let mut code_digest = [0; 32];
        let digest = digest::digest(&digest::SHA256, code.expose().as_bytes());
        code_digest.copy_from_slice(digest.as_ref());
        let seconds = now.unix_timestamp();
        let result = Arc::new(sync::Mutex::new(ExchangeResult::InFlight));
        let Ok(in_flight) = result.clone().try_lock_owned() else {
            return Ok(None);
        };
        let begin = || Exchange {
            id,
            result,
            // Counts the callback that begins it, so that its task does not find the exchange abandoned.
            waiting: AtomicUsize::new(1),
            taken: Notify::new(),
        };
        let claimed = self
            .exchanges
            .lock()
            .claim(id, code_digest, client, ends, seconds, begin);
        let exchange = match claimed {
            Claimed::First(exchange) => exchange,
            Claimed::Before(exchange) => {
                exchange.waiting.fetch_add(1, Ordering::AcqRel);
                return Ok(Some(exchange));
            }
            Claimed::Late => return Ok(None),
            Claimed::Used => return Err(SignInError::AlreadyUsed),
            Claimed::TooOld => return Err(self.expired()),
            Claimed::Full { until } => {
                let wait = until.saturating_sub(seconds).clamp(1, 60).unsigned_abs();
                let retry_after = Duration::from_secs(wait);
                return Err(SignInError::TooManySignIns { retry_after });
            }
        };

        let task = ExchangeTask {
            rp: self.rp.clone(),
            provider: self.provider.clone(),
            exchange: exchange.clone(),
            attempt: attempt.clone(),
            secrets,
            code,
            kept,
            code_digest: URL_SAFE_NO_PAD.encode(code_digest),
            ends,
            now,
            publishes: false,
        };
        let span = tracing::debug_span!(parent: None, "sign_in");
        tasks::spawn(task.run(in_flight).instrument(span));
        Ok(Some(exchange))
    }
}

impl RelyingParty {
    /// Waits for an exchange, and for the identical callbacks before this one. Call it once for each exchange that
    /// [`exchange_once`](Client::exchange_once) returns.
    pub(crate) async fn outcome<'e>(
        &self,
        exchange: &'e Exchange,
        now: OffsetDateTime,
    ) -> Result<ExchangeOutcome<'e>, NotBegun> {
        let waiting = Waiting(exchange);
        let mut result = exchange.result.lock().await;
        if let ExchangeResult::Accepted { is_offered, .. } = &mut *result
            && *is_offered
        {
            let is_turn = self.take_turn(exchange.id).await;
            if is_turn.map_err(SignInError::from)? {
                *is_offered = false;
            } else {
                // A callback on another node holds the lock.
                *result = self.result_of_other_node(exchange.id, None, now).await?;
            }
        }
        match &*result {
            ExchangeResult::Accepted { session, tokens, .. } => {
                let (mut session, tokens) = (session.clone(), tokens.clone());
                // An earlier turn may have left a session with this id in a store.
                session.id = Secret::random();
                Ok(ExchangeOutcome::Turn(Turn {
                    session,
                    tokens,
                    result,
                    waiting,
                }))
            }
            ExchangeResult::Begun(begun) => {
                let is_ended_or_expired = self.sessions.is_ended_or_expired(&begun.current, now).await;
                if is_ended_or_expired.map_err(SignInError::from)? {
                    Err(SignInError::AlreadyUsed.into())
                } else {
                    Ok(ExchangeOutcome::Begun(begun.clone()))
                }
            }
            ExchangeResult::Failed(error) => Err(error.clone()),
            ExchangeResult::InFlight => Err(SignInError::AlreadyUsed.into()),
        }
    }

    /// Encrypts a session that has begun, and its page, for the other nodes.
    fn export_begun(&self, begun: &BegunSession, name: &str) -> String {
        let session = self.sessions.export(&begun.current, name);
        let Some(next) = &begun.next else {
            return session;
        };
        let context = next_context(name);
        let keys = &self.cookies.keys;
        let next = keys.encrypt_text(Purpose::StoredValue, context.as_bytes(), next.as_str());
        format!("{session}.{next}")
    }

    /// Decrypts the output of [`export_begun`](Self::export_begun).
    fn import_begun(&self, name: &str, text: &str) -> Option<BegunSession> {
        let (session, next) = match text.split_once('.') {
            Some((session, next)) => (session, Some(next)),
            None => (text, None),
        };
        let next = next.and_then(|next| {
            let context = next_context(name);
            let keys = &self.cookies.keys;
            let next = keys.decrypt_text(Purpose::StoredValue, context.as_bytes(), next).ok()?;
            Some(self.local_address(&next))
        });
        let current = self.sessions.import(name, session)?;
        Some(BegunSession { current, next })
    }

    /// Takes the turn to begin a session, if several nodes may take it.
    async fn take_turn(&self, id: AttemptId) -> Result<bool, StoreError> {
        let name = id.store_name("attempt taken");
        self.sessions.store.lock(&name, "1", 2 * RESULT_TTL).await
    }

    /// Waits for the result of an exchange on another node. With `code`, that node must have claimed the attempt for
    /// this code.
    async fn result_of_other_node(
        &self,
        id: AttemptId,
        code: Option<&str>,
        now: OffsetDateTime,
    ) -> Result<ExchangeResult, SignInError> {
        let names = ["attempt", "attempt result", "attempt offered"];
        let names = names.map(|kind| id.store_name(kind));
        let [claim_name, result_name, offer_name] = &names;
        // Token endpoint, keys and UserInfo, and the app's event handler.
        let longest = self.settings.http.timeout.saturating_mul(3) + Duration::from_secs(2);
        let begun = Instant::now();
        loop {
            let names = [&**claim_name, result_name, offer_name];
            let entries = self.sessions.store.entries(&names).await?;
            let [claim, result, offer] = entries.try_into().unwrap_or_default();
            let claim = claim.unwrap_or_default();
            let (claimed_code, at) = claim.split_once('.').unwrap_or_default();
            if code.is_some_and(|code| code != claimed_code) {
                return Err(SignInError::AlreadyUsed);
            }
            if let Some(ends) = result.as_deref().and_then(parse_ends) {
                return Ok(ExchangeResult::Failed(NotBegun::Ended(ends)));
            }
            if let Some(text) = result {
                let begun = self.import_begun(result_name, &text);
                return begun.map(ExchangeResult::Begun).ok_or(SignInError::AlreadyUsed);
            }
            if let Some(text) = offer
                && code.is_some()
                && self.take_turn(id).await?
            {
                let accepted = self.sessions.import(offer_name, &text);
                let accepted = accepted.ok_or(SignInError::AlreadyUsed)?;
                return Ok(ExchangeResult::Accepted {
                    session: Session::clone(&accepted),
                    tokens: accepted.tokens().map(|t| (**t).clone()).unwrap_or_default(),
                    is_offered: false,
                });
            }
            let passed = now.unix_timestamp() - at.parse().unwrap_or(i64::MIN / 2);
            let is_lost = passed > longest.as_secs().cast_signed();
            if is_lost || begun.elapsed() > longest {
                return Err(SignInError::AlreadyUsed);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

/// What the page beside a session under this name is encrypted for.
fn next_context(name: &str) -> String {
    format!("{name} next")
}

/// The entry that other nodes read in place of a session that did not begin. Ends are numbers that reveal nothing
/// about the user; an attacker who could write this entry could also remove the recorded ends.
fn failure(result: &ExchangeResult) -> String {
    match result {
        ExchangeResult::Failed(NotBegun::Ended(ends)) => {
            format!("{ENDED}{}", URL_SAFE_NO_PAD.encode(ends.to_bytes()))
        }
        _ => FAILED.to_owned(),
    }
}

/// Parses the ends that [`failure`] encoded.
fn parse_ends(text: &str) -> Option<EarlierEnds> {
    let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(ENDED)?).ok()?;
    let (ends, rest) = EarlierEnds::split(&bytes)?;
    rest.is_empty().then_some(ends)
}

/// The background task of an exchange.
struct ExchangeTask {
    rp: RelyingParty,
    provider: Arc<Provider>,
    exchange: Arc<Exchange>,
    attempt: SignInAttempt,
    secrets: AttemptSecrets,
    code: Secret,
    /// The session that the browser keeps if this fails.
    kept: Option<CurrentSession>,
    code_digest: String,
    ends: i64,
    now: OffsetDateTime,
    /// Whether this node claimed the attempt in a shared store; then it reports the result to the other nodes.
    publishes: bool,
}

impl ExchangeTask {
    async fn run(mut self, mut in_flight: OwnedMutexGuard<ExchangeResult>) {
        let result = self.exchange().await;
        let result = result.unwrap_or_else(ExchangeResult::Failed);
        let until = self.seconds() + RESULT_TTL.as_secs().cast_signed();
        {
            let mut exchanges = self.rp.exchanges.lock();
            match &result {
                // The code was not sent.
                ExchangeResult::Failed(NotBegun::Failed(SignInError::Store(_))) => exchanges.release(self.exchange.id),
                _ => exchanges.keep_result(self.exchange.id, until),
            }
        }
        *in_flight = result;
        drop(in_flight);
        self.watch_result(until).await;
        tokio::time::sleep(RESULT_TTL).await;
        self.rp.exchanges.lock().sweep(self.seconds());
    }

    /// Exchanges the code unless another node does; otherwise waits for that node's result.
    async fn exchange(&mut self) -> Result<ExchangeResult, NotBegun> {
        let rp = &self.rp;
        if rp.sessions.is_shared {
            let name = self.exchange.id.store_name("attempt");
            let now = self.now.unix_timestamp();
            let ttl = (self.ends - now).saturating_add(CLOCK_SKEW).max(1);
            let ttl = Duration::from_secs(ttl.unsigned_abs());
            let value = format!("{}.{now}", self.code_digest);
            let claimed = rp.sessions.store.lock(&name, &value, ttl).await;
            if !claimed.map_err(SignInError::from)? {
                let code = Some(&*self.code_digest);
                let result = rp.result_of_other_node(self.exchange.id, code, self.now).await?;
                self.publishes = matches!(result, ExchangeResult::Accepted { .. });
                return Ok(result);
            }
            self.publishes = true;
        }
        let (attempt, secrets) = (&self.attempt, &self.secrets);
        let client = Client {
            rp,
            provider: &self.provider,
        };
        let exchanging = client.exchange(attempt, secrets, &self.code, self.kept.as_ref(), self.now);
        let (session, tokens) = exchanging.await?;
        Ok(ExchangeResult::Accepted {
            session,
            tokens,
            is_offered: false,
        })
    }

    /// Waits until a callback took the result; revokes its tokens if none does in time.
    async fn watch_result(&self, until: i64) {
        loop {
            let taken = self.exchange.taken.notified();
            if self.check_result(until).await {
                return;
            }
            let _ = tokio::time::timeout(CHECK_INTERVAL, taken).await;
        }
    }

    /// Whether the result is final.
    async fn check_result(&self, until: i64) -> bool {
        let (rp, exchange) = (&self.rp, &self.exchange);
        let result_name = exchange.id.store_name("attempt result");
        let mut result = exchange.result.lock().await;
        match &mut *result {
            ExchangeResult::Accepted {
                session,
                tokens,
                is_offered,
            } if self.seconds() >= until => {
                let is_own = !*is_offered || rp.take_turn(exchange.id).await.unwrap_or(false);
                if is_own {
                    tracing::debug!(
                        reason = "sign_in_abandoned",
                        "no callback took the session of a sign-in"
                    );
                    let client = Client {
                        rp,
                        provider: &self.provider,
                    };
                    revoke_failed(&client, tokens, Some(session), self.kept.as_ref(), self.now);
                }
                *result = ExchangeResult::Failed(SignInError::AlreadyUsed.into());
                true
            }
            ExchangeResult::Accepted {
                session,
                tokens,
                is_offered,
            } => {
                let is_awaited = exchange.waiting.load(Ordering::Acquire) > 0;
                let name = exchange.id.store_name("attempt offered");
                if self.publishes
                    && !*is_offered
                    && !is_awaited
                    && let Some(offer) = rp.sessions.export_new(session, tokens, &name)
                {
                    *is_offered = self.put_entry(&name, &offer).await;
                }
                false
            }
            ExchangeResult::Begun(begun) => {
                if self.publishes {
                    let session = rp.export_begun(begun, &result_name);
                    self.put_entry(&result_name, &session).await;
                }
                true
            }
            ExchangeResult::Failed(_) | ExchangeResult::InFlight => {
                if self.publishes {
                    self.put_entry(&result_name, &failure(&result)).await;
                }
                true
            }
        }
    }

    /// Stores an entry for the other nodes.
    async fn put_entry(&self, name: &str, value: &str) -> bool {
        let stored = self.rp.sessions.store.put_entry(name, value, RESULT_TTL).await;
        if let Err(error) = &stored {
            tracing::warn!("{error}; the other nodes do not learn the result of a sign-in");
        }
        stored.is_ok()
    }

    fn seconds(&self) -> i64 {
        self.rp.clock.now().unix_timestamp()
    }
}

impl Turn<'_> {
    /// Records that the session has begun.
    pub(crate) fn begun(mut self, begun: BegunSession) {
        *self.result = ExchangeResult::Begun(begun);
        self.waiting.0.taken.notify_one();
    }

    /// Records that the account was linked, so that no session begins. The app may have kept the tokens.
    pub(crate) fn linked(mut self) {
        *self.result = ExchangeResult::Failed(SignInError::AlreadyUsed.into());
        self.waiting.0.taken.notify_one();
    }

    /// Records that no session begins, and revokes the tokens, unless they may be of the grant of `kept`. While the session store is down, the next identical
    /// callback may try again instead.
    pub(crate) fn failed(
        mut self,
        error: &NotBegun,
        client: &Client<'_>,
        kept: Option<&CurrentSession>,
        now: OffsetDateTime,
    ) {
        if matches!(error, NotBegun::Failed(SignInError::Store(_))) {
            return;
        }
        revoke_failed(client, &self.tokens, Some(&self.session), kept, now);
        *self.result = ExchangeResult::Failed(error.clone());
        self.waiting.0.taken.notify_one();
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}
