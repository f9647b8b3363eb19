//! Refresh: a session gets new tokens ahead of time, once, however many requests ask for it.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use moka::{
    Expiry,
    ops::compute::{CompResult, Op},
    policy::EvictionPolicy,
    sync::Cache,
};
use time::OffsetDateTime;
use tokio::sync::watch;
use tracing::Instrument;

use super::RelyingParty;
use crate::{
    Secret, observing,
    provider::{Provider, ProviderError, Tokens, UserInfoRequestError},
    session::{
        BeginError, CurrentSession, Elsewhere, SHARED_FOR, Session, SessionTokens, SignedOut,
    },
    token::{IdTokenExpectations, OriginalSignIn, RefreshedIdToken, RefreshedIdTokenError},
};

/// How much ahead of its end a token is refreshed, at most.
const AHEAD: Duration = Duration::from_secs(60);
/// The wait after a refresh that failed: doubled each time …
const FIRST_BACK_OFF: u32 = 5;
/// … up to this, in seconds.
const LONGEST_BACK_OFF: u32 = 60;
/// How long flights are remembered that did not succeed: longer than any back-off. One that did holds a
/// session, and is remembered for as long as that is shared.
const REMEMBERED_FOR: Duration = Duration::from_secs(120);
/// How many flights are remembered.
const MOST_FLIGHTS: u64 = 100_000;
/// How often a node looks whether another one has finished.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The refreshes of this process that are under way or have just ended.
pub(crate) struct Refreshes(Cache<FlightKey, Flight>);

/// A session, and how many times it was refreshed before.
type FlightKey = (String, u32);

/// One refresh. It goes on when the request that began it is gone: its refresh token may be used up.
#[derive(Clone)]
struct Flight {
    outcome: watch::Receiver<Option<Outcome>>,
}

/// How a refresh ended.
#[derive(Clone)]
enum Outcome {
    Refreshed {
        session: CurrentSession,
        at: i64,
    },
    /// The provider ended the session, or the app did.
    Ended(SignedOut),
    /// The session stays as it is, and until `retry_at` nobody tries again.
    Failed {
        cause: Arc<str>,
        retry_at: i64,
        failures: u32,
    },
}

/// Why a refresh did not succeed.
enum Failure {
    Ended(SignedOut),
    Later { reason: &'static str, cause: String },
}

impl RelyingParty {
    /// The session with tokens that are fresh, and whether it is another one than before. It returns at
    /// once unless they are due. When the provider is down, the session is as it was.
    pub(crate) async fn keep_fresh(
        &self,
        provider: &Arc<Provider>,
        current: CurrentSession,
        now: OffsetDateTime,
    ) -> Result<(CurrentSession, bool), SignedOut> {
        if !is_due(current.refresh_due, now) {
            return Ok((current, false));
        }
        let Some(tokens) = current.tokens().cloned() else {
            return Ok((current, false));
        };
        // A slow answer brought back an older cookie beside newer tokens.
        if !is_due(tokens.refresh_due, now) {
            return Ok((current.with_refresh_due(tokens.refresh_due), true));
        }
        Box::pin(self.refresh_once(provider, current, &tokens, now)).await
    }

    /// Joins the refresh of this session that is under way or has just ended, or begins one.
    async fn refresh_once(
        &self,
        provider: &Arc<Provider>,
        mut current: CurrentSession,
        tokens: &SessionTokens,
        now: OffsetDateTime,
    ) -> Result<(CurrentSession, bool), SignedOut> {
        let key = (current.name().to_owned(), tokens.generation);
        let flight = self.refreshes.join(key.clone(), now, |failures| {
            let (rp, provider, current) = (self.clone(), provider.clone(), current.clone());
            let (tell, outcome) = watch::channel(None);
            let flight = Flight { outcome };
            let landing = flight.clone();
            let refreshing = async move {
                let result = rp.refresh_in_turn(&provider, &current, now).await;
                if let Err(Failure::Ended(_)) = &result
                    && let Err(error) = rp.sessions.end(current.name(), now).await
                {
                    tracing::warn!("{error}; a session that ended is still there");
                }
                tell.send_replace(Some(Outcome::of(result, failures, now)));
                rp.refreshes.landed(key, landing);
            };
            observing::spawn(refreshing.instrument(tracing::debug_span!("refresh")));
            flight
        });
        match flight.outcome().await {
            Some(Outcome::Refreshed { session, .. }) => Ok((session, true)),
            Some(Outcome::Ended(reason)) => Err(reason),
            Some(Outcome::Failed { cause, .. }) => {
                current.not_refreshed = Some(cause);
                Ok((current, false))
            }
            None => Ok((current, false)),
        }
    }

    /// Refreshes, when no other node does; else waits for its result.
    async fn refresh_in_turn(
        &self,
        provider: &Arc<Provider>,
        current: &CurrentSession,
        now: OffsetDateTime,
    ) -> Result<CurrentSession, Failure> {
        if !self.sessions.is_shared {
            return self.refresh(provider, current, now).await;
        }
        let generation = current.tokens().map_or(0, |tokens| tokens.generation);
        let lock = self.sessions.names.refresh(current.name(), generation);
        let holder = Secret::random();
        // A node that dies in the middle of it leaves the lock behind for so long.
        let longest = self.settings.http.timeout.saturating_mul(2) + Duration::from_secs(2);
        let begun = Instant::now();
        loop {
            let is_ours = self
                .sessions
                .store
                .claim(&lock, holder.expose(), longest)
                .await?;
            match self.sessions.refreshed_elsewhere(current).await? {
                Elsewhere::Refreshed(session) => return Ok(session),
                Elsewhere::Ended => return Err(Failure::Ended(SignedOut::Ended)),
                Elsewhere::NotYet => {}
            }
            if is_ours {
                break;
            }
            if begun.elapsed() > longest {
                return Err(Failure::Later {
                    reason: "refresh_elsewhere",
                    cause: "another node did not finish it".to_owned(),
                });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let result = self.refresh(provider, current, now).await;
        if let Err(error) = self.sessions.store.forget(&lock, holder.expose()).await {
            tracing::warn!("{error}; the lock of a refresh ends by itself");
        }
        result
    }

    /// The refresh itself (OpenID Connect Core 1.0 §12).
    async fn refresh(
        &self,
        provider: &Arc<Provider>,
        current: &CurrentSession,
        now: OffsetDateTime,
    ) -> Result<CurrentSession, Failure> {
        let old = current.tokens().cloned().unwrap_or_default();
        let Some(refresh_token) = &old.refresh_token else {
            return Err(Failure::Later {
                reason: "no_refresh_token",
                cause: "there is no refresh token".to_owned(),
            });
        };
        let metadata = provider.metadata(now).await?;
        let reply = provider.refresh(&metadata, refresh_token, now).await?;

        let mut session = Session::clone(current);
        if let Some(id_token) = &reply.id_token {
            let algorithms = provider.id_token_algorithms(&metadata);
            let expected = IdTokenExpectations {
                issuer: &provider.registration.issuer,
                client_id: &provider.registration.client_id,
                trusted_audiences: &self.settings.trusted_audiences,
                algorithms: &algorithms,
                client_secret: provider.registration.client_secret.as_ref(),
                nonce: None,
                access_token: Some(&reply.access_token),
                max_age: None,
                acr_values: &[],
                clock_skew: self.settings.clock_skew,
            };
            let original = OriginalSignIn {
                claims: &current.claims,
                nonce: old.nonce.as_ref(),
            };
            let refreshed = provider
                .with_keys(
                    &metadata,
                    now,
                    |keys| {
                        RefreshedIdToken::accept(id_token.expose(), keys, &expected, &original, now)
                    },
                    |error| error.wants_fresh_keys(),
                )
                .await??;
            session.claims.renew(&refreshed.claims);
        }
        if self.settings.session.refresh_user_info && self.settings.user_info_enabled {
            let asked =
                provider.user_info_about(&metadata, session.subject(), &reply.access_token, now);
            match asked.await {
                Ok(user_info) => session.claims.merge(user_info.unwrap_or_default()),
                Err(UserInfoRequestError::Provider(error)) => {
                    tracing::warn!("{error}; the claims of before are kept");
                }
                Err(UserInfoRequestError::UserInfo(error)) => {
                    tracing::error!("{error}; the claims of before are kept");
                    tracing::info!("{}", error.remedy());
                }
            }
        }

        let tokens = session_tokens(reply, &old, now);
        let replaced = self.sessions.replace(current, session, tokens, now).await?;
        replaced.ok_or(Failure::Ended(SignedOut::Ended))
    }
}

/// The tokens of a reply; what it leaves out is as before (OpenID Connect Core 1.0 §12.2).
pub(super) fn session_tokens(
    reply: Tokens,
    old: &SessionTokens,
    now: OffsetDateTime,
) -> SessionTokens {
    let now = now.unix_timestamp();
    let life = reply
        .expires_in
        .map(|life| i64::try_from(life.as_secs()).unwrap_or(i64::MAX));
    SessionTokens {
        access_token: Some(reply.access_token),
        access_token_ends: life.map(|life| now.saturating_add(life)),
        refresh_token: reply.refresh_token.or_else(|| old.refresh_token.clone()),
        id_token: reply.id_token.or_else(|| old.id_token.clone()),
        nonce: old.nonce.clone(),
        refresh_due: life.map(|life| now.saturating_add(refresh_after(life, random_share()))),
        generation: old.generation.saturating_add(1),
    }
}

/// After how long a token of this life is refreshed: a minute or a tenth of its life before its end, and
/// up to half of that later, so that sessions that began together are not refreshed together.
fn refresh_after(life: i64, share: f64) -> i64 {
    let ahead = (life / 10).min(AHEAD.as_secs().cast_signed());
    let later = (ahead as f64 / 2.0 * share) as i64;
    (life - ahead + later).max(1)
}

/// A random number from 0 to 1.
fn random_share() -> f64 {
    let mut byte = [0];
    // Without randomness, sessions are only refreshed together.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    f64::from(byte[0]) / 255.0
}

fn is_due(due: Option<i64>, now: OffsetDateTime) -> bool {
    due.is_some_and(|due| due <= now.unix_timestamp())
}

impl Refreshes {
    pub(crate) fn new() -> Refreshes {
        Refreshes(
            Cache::builder()
                .max_capacity(MOST_FLIGHTS)
                .eviction_policy(EvictionPolicy::lru())
                .expire_after(FlightLife)
                .build(),
        )
    }

    /// A flight has its outcome, and a life by it.
    fn landed(&self, key: FlightKey, flight: Flight) {
        self.0.entry(key).and_compute_with(|entry| match entry {
            Some(entry) if entry.value().outcome.same_channel(&flight.outcome) => Op::Put(flight),
            _ => Op::Nop,
        });
    }

    /// The flight to join: the one that is there while it counts, else the one that `begin` begins, after
    /// so many failures.
    fn join(
        &self,
        key: FlightKey,
        now: OffsetDateTime,
        begin: impl FnOnce(u32) -> Flight,
    ) -> Flight {
        let now = now.unix_timestamp();
        let shared_for = SHARED_FOR.as_secs().cast_signed();
        let joined = self.0.entry(key).and_compute_with(|entry| {
            let Some(entry) = entry else {
                return Op::Put(begin(0));
            };
            let flight = entry.into_value();
            let outcome = flight.outcome.borrow();
            match &*outcome {
                None if flight.outcome.has_changed().is_err() => Op::Put(begin(0)),
                None => Op::Nop,
                Some(Outcome::Refreshed { at, .. }) if now - at > shared_for => Op::Put(begin(0)),
                Some(Outcome::Failed {
                    retry_at, failures, ..
                }) if now >= *retry_at => Op::Put(begin(*failures)),
                Some(_) => Op::Nop,
            }
        });
        match joined {
            CompResult::Inserted(entry)
            | CompResult::ReplacedWith(entry)
            | CompResult::Unchanged(entry)
            | CompResult::Removed(entry) => entry.into_value(),
            CompResult::StillNone(_) => Flight::lost(),
        }
    }
}

/// How long a flight is remembered, from when it began, and from when it landed.
struct FlightLife;

impl Expiry<FlightKey, Flight> for FlightLife {
    fn expire_after_create(&self, _: &FlightKey, _: &Flight, _: Instant) -> Option<Duration> {
        Some(REMEMBERED_FOR)
    }

    fn expire_after_update(
        &self,
        _: &FlightKey,
        flight: &Flight,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        match &*flight.outcome.borrow() {
            Some(Outcome::Refreshed { .. }) => Some(SHARED_FOR),
            _ => Some(REMEMBERED_FOR),
        }
    }
}

impl fmt::Debug for Refreshes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Refreshes(…)")
    }
}

impl Flight {
    /// `None` when it ended without an outcome, as at a shutdown.
    async fn outcome(mut self) -> Option<Outcome> {
        let outcome = self.outcome.wait_for(Option::is_some).await.ok()?;
        outcome.clone()
    }

    fn lost() -> Flight {
        let (_, outcome) = watch::channel(None);
        Flight { outcome }
    }
}

impl Outcome {
    fn of(result: Result<CurrentSession, Failure>, failures: u32, now: OffsetDateTime) -> Outcome {
        match result {
            Ok(session) => {
                observing::refreshed();
                Outcome::Refreshed {
                    session,
                    at: now.unix_timestamp(),
                }
            }
            Err(Failure::Ended(reason)) => {
                observing::refresh_ended(reason);
                Outcome::Ended(reason)
            }
            Err(Failure::Later { reason, cause }) => {
                observing::refresh_failed(reason);
                let wait = FIRST_BACK_OFF
                    .saturating_mul(1 << failures.min(6))
                    .min(LONGEST_BACK_OFF);
                tracing::warn!(
                    reason,
                    "a session is not refreshed: {cause}; it stays, and the next attempt is due in {wait} s"
                );
                Outcome::Failed {
                    cause: cause.into(),
                    retry_at: now.unix_timestamp() + i64::from(wait),
                    failures: failures.saturating_add(1),
                }
            }
        }
    }
}

impl From<ProviderError> for Failure {
    fn from(error: ProviderError) -> Failure {
        let reason = error.reason();
        match &error {
            // RFC 6749 §5.2: the refresh token is invalid, expired or revoked; or we are nobody there.
            ProviderError::Refused { error: code, .. }
                if ["invalid_grant", "invalid_client"].contains(&code.as_str()) =>
            {
                match code.as_str() {
                    "invalid_grant" => {
                        tracing::info!(reason, "a session ended at its refresh: {error}");
                    }
                    _ => {
                        tracing::error!(reason, "a session ended at its refresh: {error}");
                        tracing::info!("{}", error.remedy());
                    }
                }
                Failure::Ended(SignedOut::RefreshRefused)
            }
            _ => Failure::Later {
                reason,
                cause: error.to_string(),
            },
        }
    }
}

impl From<RefreshedIdTokenError> for Failure {
    fn from(error: RefreshedIdTokenError) -> Failure {
        let reason = error.reason();
        tracing::error!(reason, "the ID token of a refresh is refused: {error}");
        tracing::info!("{}", error.remedy());
        match error.is_another_sign_in() {
            true => Failure::Ended(SignedOut::RefreshRefused),
            false => Failure::Later {
                reason,
                cause: error.to_string(),
            },
        }
    }
}

impl From<crate::store::StoreError> for Failure {
    fn from(error: crate::store::StoreError) -> Failure {
        Failure::Later {
            reason: "store_unavailable",
            cause: error.to_string(),
        }
    }
}

impl From<BeginError> for Failure {
    fn from(error: BeginError) -> Failure {
        match error {
            BeginError::Store(error) => error.into(),
            BeginError::TooLarge(error) => {
                let reason = "session_too_large";
                tracing::error!(reason, "a session ended at its refresh: {error}");
                tracing::info!("{}", error.remedy());
                Failure::Ended(SignedOut::RefreshRefused)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_refreshed_a_minute_or_a_tenth_of_its_life_ahead() {
        for (life, earliest, latest) in [
            (3600, 3540, 3570),
            (300, 270, 285),
            (100, 90, 95),
            (10, 9, 9),
            (1, 1, 1),
            (0, 1, 1),
        ] {
            assert_eq!(refresh_after(life, 0.0), earliest, "{life}");
            assert_eq!(refresh_after(life, 1.0), latest, "{life}");
        }
        assert!((0.0..=1.0).contains(&random_share()));
    }
}
