//! Token refresh: a session gets new tokens before the old ones expire, single-flight.

mod api_token;
mod failure;
mod in_flight;
mod lock;
mod session_data;
mod session_locks;
mod verify;

use std::{sync::Arc, time::Duration};

use time::OffsetDateTime;
use tokio::sync::watch;
use tracing::Instrument;

pub(crate) use api_token::{TokensOfSessions, tokens_of_sessions};
pub(crate) use in_flight::Refreshes;
pub(crate) use session_data::to_json;

use failure::Failure;
use in_flight::{InFlightRefresh, Outcome};
use lock::Refreshed;

use crate::{
    provider::{Metadata, Tokens},
    relying_party::{Client, RefreshError, RelyingParty, revoke_later::revoke_later},
    secret::Secret,
    session::{BeginError, CurrentSession, EndCause, NoSession, Session, SessionChange, SessionTokens},
};

/// The maximum time before its expiry at which a token is refreshed.
const REFRESH_MARGIN: Duration = Duration::from_secs(60);
/// The minimum interval between forced refreshes of one session, in seconds.
const FORCED_INTERVAL: i64 = 10;
/// The number of tries to store received tokens, and the pause between them.
const STORE_TRIES: u32 = 5;
const STORE_PAUSE: Duration = Duration::from_millis(200);

/// A failed forced refresh.
pub(crate) struct NotRefreshed {
    pub(crate) error: RefreshError,
    /// The session with the new refresh token, if the provider sent tokens that cannot be verified yet.
    pub(crate) pending: Option<CurrentSession>,
}

/// The result of checking whether a session is due for a refresh.
pub(crate) enum Freshness {
    /// The session is not due.
    Fresh(CurrentSession),
    /// The session has another generation than before, which the browser must get.
    Renewed(CurrentSession),
    /// The session is due, and was not refreshed. Within the grace period it is used as it is.
    Stale {
        session: CurrentSession,
        /// Whether it has another generation than before.
        is_renewed: bool,
        /// When it has been due for longer than `session.refresh_grace`: the retry delay in seconds.
        overdue: Option<i64>,
    },
    /// The session cannot be used any more.
    NoSession { session: CurrentSession, reason: NoSession },
}

/// Why the refresh that a request joined has no new session.
enum Unrefreshed {
    NoSession(NoSession),
    /// The session is unchanged, or is `pending`: a newer generation with the new refresh token, if the provider sent
    /// tokens that cannot be verified yet.
    Later {
        cause: Arc<str>,
        pending: Option<CurrentSession>,
        retry_at: i64,
    },
}

impl From<RefreshError> for NotRefreshed {
    fn from(error: RefreshError) -> NotRefreshed {
        NotRefreshed { error, pending: None }
    }
}

impl RelyingParty {
    /// Refreshes a session now, whether it is due or not.
    pub(crate) async fn refresh_now(&self, current: &CurrentSession) -> Result<CurrentSession, NotRefreshed> {
        let client = self.client().ok_or(RefreshError::NoRefreshToken)?;
        let tokens = current.tokens();
        if tokens.is_none_or(|tokens| tokens.refresh_token.is_none()) && !client.is_read_again(current) {
            return Err(RefreshError::NoRefreshToken.into());
        }
        let forced = Some(FORCED_INTERVAL);
        match client.refresh_once(current, forced, self.clock.now()).await {
            Ok(session) => Ok(session),
            Err(Unrefreshed::NoSession(reason)) => Err(RefreshError::NoSession(reason).into()),
            Err(Unrefreshed::Later { cause, pending, .. }) => Err(NotRefreshed {
                error: RefreshError::Failed {
                    cause: cause.to_string(),
                },
                pending,
            }),
        }
    }

    /// Refreshes a session in a store now, by the id that [`User::session_id`](crate::User::session_id) and
    /// [`sessions_of`](Self::sessions_of) return: for background jobs. Within 10 s of the last refresh of a session,
    /// it does nothing.
    ///
    /// # Errors
    ///
    /// Fails when there is no such session, which is always so where sessions are kept in cookies, or when it is not
    /// refreshed.
    pub async fn refresh_session(&self, id: &str) -> Result<(), RefreshError> {
        let rp = self.of_session(id).ok_or(RefreshError::NoSession(NoSession::Absent))?;
        let session = rp.sessions.by_name(id, self.clock.now()).await;
        let session = session.map_err(RefreshError::NoSession)?;
        let refreshed = rp.refresh_now(&session).await;
        refreshed.map(drop).map_err(|not| not.error)
    }

    /// The tokens of a token response; a token that it omits keeps its old value (OpenID Connect Core 1.0 §12.2).
    /// Sets when the session is due for a refresh.
    pub(super) fn session_tokens(
        &self,
        reply: Tokens,
        old: &SessionTokens,
        session: &mut Session,
        now: OffsetDateTime,
    ) -> SessionTokens {
        let now = now.unix_timestamp();
        let ttl = reply.expires_in.map(seconds);
        let due_in = match ttl {
            Some(ttl) => refresh_after(ttl, random_share()),
            None => seconds(self.settings.session.refresh_interval),
        };
        session.refresh_due = Some(now.saturating_add(due_in));
        SessionTokens {
            access_token: Some(reply.access_token),
            access_token_expires_at: ttl.map(|ttl| now.saturating_add(ttl)),
            refresh_token: reply.refresh_token.or_else(|| old.refresh_token.clone()),
            id_token: reply.id_token.or_else(|| old.id_token.clone()),
            nonce: old.nonce.clone(),
            authorization_details: if reply.authorization_details.is_empty() {
                old.authorization_details.clone()
            } else {
                reply.authorization_details
            },
            proof_key: old.proof_key.clone(),
            sources: old.sources.clone(),
        }
    }
}

impl Client<'_> {
    /// Refreshes the session if it is due; otherwise returns at once.
    pub(crate) async fn keep_fresh(&self, current: CurrentSession, now: OffsetDateTime) -> Freshness {
        if !is_due(current.refresh_due, now) && !current.user_info_due {
            return Freshness::Fresh(current);
        }
        Box::pin(self.refresh_due(current, now)).await
    }

    /// Whether [`keep_fresh`](Self::keep_fresh) would demand a sign-in without asking the provider, which did so just now.
    pub(crate) fn is_sign_in_required(&self, current: &CurrentSession, now: OffsetDateTime) -> bool {
        (is_due(current.refresh_due, now) || current.user_info_due)
            && self.refreshes.asks_for_sign_in(current.name(), now)
    }

    /// The session as it is, for a guard that runs after the response is written: another generation could not reach the
    /// browser. Fails where a session that is not refreshed fails too, beyond `session.refresh_grace`.
    pub(crate) fn without_refresh(
        &self,
        mut session: CurrentSession,
        now: OffsetDateTime,
    ) -> Result<CurrentSession, NoSession> {
        if !is_due(session.refresh_due, now) {
            return Ok(session);
        }
        let grace = seconds(self.settings.session.refresh_grace);
        let due = session.refresh_due.unwrap_or(i64::MAX);
        if now.unix_timestamp() >= due.saturating_add(grace) {
            return Err(NoSession::RefreshUnavailable);
        }
        session.not_refreshed = Some("the response headers were written before a guard read the session".into());
        Ok(session)
    }

    async fn refresh_due(&self, current: CurrentSession, now: OffsetDateTime) -> Freshness {
        let now_s = now.unix_timestamp();
        let grace = seconds(self.settings.session.refresh_grace);
        let due = current.refresh_due.unwrap_or(i64::MAX);
        let is_overdue = now_s >= due.saturating_add(grace);
        match self.refresh_once(&current, None, now).await {
            Ok(session) => Freshness::Renewed(session),
            Err(Unrefreshed::NoSession(reason)) => Freshness::NoSession {
                session: current,
                reason,
            },
            Err(Unrefreshed::Later {
                cause,
                pending,
                retry_at,
            }) => {
                let is_renewed = pending.is_some();
                let mut session = pending.unwrap_or(current);
                session.not_refreshed = Some(cause);
                Freshness::Stale {
                    session,
                    is_renewed,
                    overdue: is_overdue.then_some((retry_at - now_s).max(1)),
                }
            }
        }
    }

    /// Joins the refresh of this session that is in flight or has just failed, or begins one. With `forced`, no
    /// refresh begins within this number of seconds after a successful one.
    async fn refresh_once(
        &self,
        current: &CurrentSession,
        forced: Option<i64>,
        now: OffsetDateTime,
    ) -> Result<CurrentSession, Unrefreshed> {
        if self.tasks.are_ending() {
            return Err(Unrefreshed::Later {
                cause: "the app shuts down".into(),
                pending: None,
                retry_at: now.unix_timestamp() + 1,
            });
        }
        let name = current.name().to_owned();
        let flight = self.refreshes.join(&name, current, forced, now, |failures| {
            let (rp, provider, current) = (self.rp.clone(), self.provider.clone(), current.clone());
            let (sender, outcome) = watch::channel(None);
            let flight = InFlightRefresh { outcome };
            let in_flight = flight.clone();
            let is_forced = forced.is_some();
            let refreshing = async move {
                let client = Client {
                    rp: &rp,
                    provider: &provider,
                };
                let result = client.refresh_with_lock(&current, is_forced, now).await;
                let change = client.change_of_refresh(&result, &current, now).await;
                let result = result.map(Refreshed::into_session);
                sender.send_replace(Some(Outcome::of(result, failures, now, &rp.sessions.observed)));
                rp.refreshes.completed(current.name(), in_flight);
                // Last: the waiting requests do not wait for the app's handler.
                rp.events.notify(None, change.as_slice()).await;
            };
            self.tasks.spawn(refreshing.instrument(tracing::debug_span!("refresh")));
            flight
        });
        match flight.outcome().await {
            Some(Outcome::Refreshed { session, .. }) => Ok(session),
            Some(Outcome::Ended(reason) | Outcome::NoSession(reason)) => Err(Unrefreshed::NoSession(reason)),
            Some(Outcome::Failed {
                asks_for_sign_in: true, ..
            }) => Err(Unrefreshed::NoSession(NoSession::SignInRequired)),
            Some(Outcome::Failed {
                pending,
                cause,
                retry_at,
                ..
            }) => Err(Unrefreshed::Later {
                cause,
                pending: pending.filter(|pending| pending.generation > current.generation),
                retry_at,
            }),
            None => Err(Unrefreshed::Later {
                cause: "the refresh was interrupted".into(),
                pending: None,
                retry_at: now.unix_timestamp() + i64::from(in_flight::MIN_BACK_OFF),
            }),
        }
    }

    /// What a refresh on this node changed, which is logged; ends the session if the refresh found it ended.
    async fn change_of_refresh(
        &self,
        result: &Result<Refreshed, Failure>,
        current: &CurrentSession,
        now: OffsetDateTime,
    ) -> Option<SessionChange> {
        match result {
            Ok(Refreshed::Here(session)) => Some(SessionChange::refreshed(session)),
            Ok(Refreshed::Elsewhere(_)) | Err(Failure::NoSession(_)) => None,
            Err(Failure::Ended(reason)) => {
                let cause = EndCause::RefreshRefused;
                let ending = self.sessions.end_or_queue(current.name(), Some(current), cause, now);
                let (end, error) = ending.await;
                if let Some(error) = error {
                    tracing::error!(
                        reason = "store_unavailable",
                        "{error}; the end of a session at its refresh is not recorded; it is retried until the store records it"
                    );
                    tracing::info!("{}", error.remedy());
                }
                // A session that ended for another reason was reported there.
                let end = end.filter(|_| *reason == NoSession::RefreshRefused);
                end.inspect(|change| self.events.log(None, std::slice::from_ref(change)))
            }
            Err(Failure::AsksForSignIn { reason, .. } | Failure::Later { reason, .. }) => {
                Some(SessionChange::refresh_failed(current, reason))
            }
        }
    }

    /// The token refresh itself (OpenID Connect Core 1.0 §12).
    async fn refresh(
        &self,
        metadata: &Metadata,
        current: &CurrentSession,
        is_forced: bool,
        now: OffsetDateTime,
    ) -> Result<CurrentSession, Failure> {
        let old = current.tokens().cloned().unwrap_or_default();
        if current.user_info_due && !is_forced && !is_due(current.refresh_due, now) {
            return self.retry_user_info(metadata, current, &old, now).await;
        }
        let unstored = self.refreshes.unstored.get(current.name());
        let Some(refresh_token) = unstored.as_ref().or(old.refresh_token.as_ref()) else {
            if self.is_read_again(current) {
                return self.retry_user_info(metadata, current, &old, now).await;
            }
            let cause = "the session has no refresh token".to_owned();
            return Err(Failure::later("no_refresh_token", cause));
        };
        let reply = self
            .provider
            .refresh(metadata, refresh_token, old.proof_key.as_ref(), now)
            .await?;
        // The lock and the response may have taken long: the ID token is verified at the time of its arrival.
        let now = self.clock.now();

        let received = SessionTokens {
            access_token: Some(reply.access_token.clone()),
            refresh_token: reply.refresh_token.clone().or_else(|| Some(refresh_token.clone())),
            ..SessionTokens::default()
        };
        let refreshed = self.apply_reply(metadata, current, &old, reply, &received, now).await;
        // Either the response was rejected, or the session was ended meanwhile.
        if let Err(Failure::Ended(_)) = &refreshed {
            revoke_later(&self.tasks, self.provider, &received, now);
        }
        refreshed
    }

    /// Stores and verifies the response to a refresh.
    async fn apply_reply(
        &self,
        metadata: &Metadata,
        current: &CurrentSession,
        old: &SessionTokens,
        reply: Tokens,
        received: &SessionTokens,
        now: OffsetDateTime,
    ) -> Result<CurrentSession, Failure> {
        // Store the new refresh token before verifying the response: the old one may be used up.
        let (pending, pending_tokens) = pending(current, old, received.refresh_token.clone(), now);
        let pending = self.store_refresh_token(current, pending, pending_tokens, now).await?;

        // The tokens of a session that were bound stay so.
        let binding = self.provider.binding(&reply, old.proof_key.as_ref(), true);
        binding.map_err(|error| Failure::of_binding(&error).with_pending(&pending))?;
        let verified = self.verify_id_token(metadata, current, old, &reply, now).await;
        let id_token = verified.map_err(|failure| failure.with_pending(&pending))?;
        let mut session = Session::clone(&pending);
        let mut tokens = self.session_tokens(reply, old, &mut session, now);
        tokens.refresh_token = received.refresh_token.clone();
        if let Some(id_token) = id_token {
            session.end_by(id_token.session_expiry);
            tokens.sources = tokens.sources.with_id_token(id_token.claims);
        }
        session.user_info_due = false;
        match self.request_user_info(metadata, &session, &tokens, now).await {
            Ok(Some(claims)) => tokens.sources = tokens.sources.with_user_info(claims),
            Ok(None) => {}
            Err(error) if error.ends_session() => return Err(Failure::Ended(NoSession::RefreshRefused)),
            Err(error) => {
                session.user_info_due = true;
                // Claims that no source confirms now are dropped where a sign-in would do without them.
                if self.settings.user_info_optional && error.is_outage() {
                    tokens.sources.user_info = None;
                }
            }
        }
        session.claims = tokens.sources.merged();
        let advanced = self.store_generation(&pending, session, tokens, now).await;
        advanced.map_err(|failure| failure.with_pending(&pending))
    }

    /// Stores a generation with a new refresh token. While the store is down, the token is kept in memory, for the next
    /// request with it.
    async fn store_refresh_token(
        &self,
        current: &CurrentSession,
        session: Session,
        tokens: SessionTokens,
        now: OffsetDateTime,
    ) -> Result<CurrentSession, Failure> {
        let refresh_token = tokens.refresh_token.clone();
        let stored = self.store_generation(current, session, tokens, now).await;
        match &stored {
            Ok(_) => self.refreshes.unstored.invalidate(current.name()),
            Err(Failure::Ended(_)) => {}
            Err(_) => {
                if let Some(refresh_token) = refresh_token {
                    let name = current.name().to_owned();
                    self.refreshes.unstored.insert(name, refresh_token);
                }
            }
        }
        stored
    }

    /// Stores a generation, with retries: the provider does not send its tokens a second time.
    async fn store_generation(
        &self,
        current: &CurrentSession,
        session: Session,
        tokens: SessionTokens,
        now: OffsetDateTime,
    ) -> Result<CurrentSession, Failure> {
        let mut tries = 1;
        loop {
            let (session, tokens) = (session.clone(), tokens.clone());
            match self.sessions.advance(current, session, tokens, now).await {
                Err(BeginError::Store(error)) if tries < STORE_TRIES => {
                    tracing::warn!("{error}; the tokens of a refresh are not stored yet");
                    tries += 1;
                    tokio::time::sleep(STORE_PAUSE).await;
                }
                advanced => return advanced?.ok_or(Failure::Ended(NoSession::Ended)),
            }
        }
    }

    /// Repeats a UserInfo request that failed at the last refresh, or reads the user of a plain OAuth 2.0 provider
    /// again.
    async fn retry_user_info(
        &self,
        metadata: &Metadata,
        current: &CurrentSession,
        old: &SessionTokens,
        now: OffsetDateTime,
    ) -> Result<CurrentSession, Failure> {
        let mut session = Session::clone(current);
        let mut tokens = old.clone();
        session.user_info_due = false;
        let requested = self.request_user_info(metadata, &session, &tokens, now).await;
        let claims = requested?;
        self.user_was_read(&mut session, &tokens, now);
        if let Some(claims) = claims {
            tokens.sources = tokens.sources.with_user_info(claims);
        }
        session.claims = tokens.sources.merged();
        let advanced = self.sessions.advance(current, session, tokens, now).await?;
        advanced.ok_or(Failure::Ended(NoSession::Ended))
    }
}

/// The next generation of a session with a new refresh token, and nothing else that the provider sent. Until the
/// response is verified, the new one is used for the next refresh only.
fn pending(
    current: &CurrentSession,
    old: &SessionTokens,
    refresh_token: Option<Secret>,
    now: OffsetDateTime,
) -> (Session, SessionTokens) {
    let tokens = SessionTokens {
        access_token: None,
        refresh_token,
        ..SessionTokens::clone(old)
    };
    let mut pending = Session::clone(current);
    // Also due when this refresh was forced: a request that finds it waits for this refresh, or begins another.
    let now = now.unix_timestamp();
    pending.refresh_due = Some(pending.refresh_due.map_or(now, |due| due.min(now)));
    (pending, tokens)
}

/// The delay before a token with this lifetime is refreshed: until a tenth of its lifetime, at most a minute, before
/// expiry, and up to half of that later, so that sessions that began together are not refreshed together.
fn refresh_after(ttl: i64, share: f64) -> i64 {
    let margin = (ttl / 10).min(REFRESH_MARGIN.as_secs().cast_signed());
    let later = (margin as f64 / 2.0 * share) as i64;
    (ttl - margin + later).max(1)
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// A random number from 0 to 1.
fn random_share() -> f64 {
    let mut byte = [0];
    // Without randomness, the only effect is that sessions are refreshed together.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    f64::from(byte[0]) / 255.0
}

fn is_due(due: Option<i64>, now: OffsetDateTime) -> bool {
    due.is_some_and(|due| due <= now.unix_timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_refreshed_a_minute_or_a_tenth_of_its_lifetime_early() {
        for (ttl, earliest, latest) in [
            (3600, 3540, 3570),
            (300, 270, 285),
            (100, 90, 95),
            (10, 9, 9),
            (1, 1, 1),
            (0, 1, 1),
        ] {
            assert_eq!(refresh_after(ttl, 0.0), earliest, "{ttl}");
            assert_eq!(refresh_after(ttl, 1.0), latest, "{ttl}");
        }
        let shares: Vec<f64> = (0..100).map(|_| random_share()).collect();
        assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)));
        assert!(shares.iter().any(|share| *share != shares[0]));
    }
}
