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
use thiserror::Error;
use time::OffsetDateTime;
use tokio::sync::watch;
use tracing::Instrument;

use super::{RelyingParty, Source, revoke_later::revoke_later};
use crate::{
    observing,
    provider::{
        KeyPurpose, Metadata, Provider, ProviderError, RefreshVerdict, RequestedBy, Tokens,
        UserInfoRequestError,
    },
    secret::Secret,
    session::{
        BeginError, CurrentSession, EndCause, KeptEnd, Newest, Session, SessionChange,
        SessionTokens, SignedOut, store::StoreError,
    },
    token::{
        Claims, IdTokenError, IdTokenExpectations, OriginalSignIn, RefreshedIdToken,
        RefreshedIdTokenError,
    },
};

/// How much ahead of its end a token is refreshed, at most.
const REFRESH_MARGIN: Duration = Duration::from_secs(60);
/// The wait after a refresh that failed: doubled each time …
const MIN_BACK_OFF: u32 = 5;
/// … up to this, in seconds.
const MAX_BACK_OFF: u32 = 60;
/// How long the outcomes of refreshes are cached: longer than any back-off that is not the provider's wish.
const OUTCOME_TTL: Duration = Duration::from_secs(600);
/// How many outcomes are cached.
const MAX_OUTCOMES: u64 = 100_000;
/// How often an app may force a refresh of one session, in seconds.
const FORCED_INTERVAL: i64 = 10;
/// How often a node looks whether another one has finished.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How often, and how long after each other, a node tries to store tokens that it received.
const STORE_TRIES: u32 = 5;
const STORE_PAUSE: Duration = Duration::from_millis(200);
/// For how long, and for how many sessions, refresh tokens are kept in memory that could not be stored.
const UNSTORED_TTL: Duration = Duration::from_secs(24 * 60 * 60);
const MAX_UNSTORED: u64 = 10_000;

/// The refreshes of this process.
pub(crate) struct Refreshes {
    /// Those that are in flight or have just completed, by session name.
    flights: Cache<String, Flight>,
    /// The refresh tokens of replies that no store took, by session name: the ones before them are spent.
    unstored: Cache<String, Secret>,
}

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
    /// The session has ended.
    Ended(SignedOut),
    /// There is no way to go on with this copy of the session, or not at the moment.
    SignedOut(SignedOut),
    /// The session stays as it is, and nothing is tried again until `retry_at`.
    Failed {
        /// The session with the new refresh token, if the provider sent tokens that cannot be judged yet.
        pending: Option<CurrentSession>,
        cause: Arc<str>,
        retry_at: i64,
        failures: u32,
        /// Whether the provider asks for a new sign-in.
        asks_for_sign_in: bool,
    },
}

/// A session that is refreshed.
enum Refreshed {
    Here(CurrentSession),
    /// Another node did it, or it had been done.
    Elsewhere(CurrentSession),
}

/// Why a refresh did not succeed.
enum Failure {
    /// The session has ended, at the provider or here.
    Ended(SignedOut),
    /// This copy of the session cannot go on; the session itself may.
    SignedOut(SignedOut),
    AsksForSignIn {
        reason: &'static str,
        cause: String,
    },
    Later {
        reason: &'static str,
        cause: String,
        retry_after: Option<Duration>,
        pending: Option<CurrentSession>,
    },
}

/// A forced refresh that did not succeed.
pub(crate) struct NotRefreshed {
    pub(crate) error: RefreshError,
    /// The session with the new refresh token, if the provider sent tokens that cannot be judged yet.
    pub(crate) pending: Option<CurrentSession>,
}

/// A session after a look at whether it is due.
pub(crate) enum Freshness {
    /// It is not due.
    Fresh(CurrentSession),
    /// It is another generation than before, which the browser is to get.
    Renewed(CurrentSession),
    /// It is due, and was not refreshed. Within the grace it is used as it is.
    Stale {
        session: CurrentSession,
        /// Whether it is another generation than before.
        is_renewed: bool,
        /// When it has been due for longer than `session.refresh_grace`: in how many seconds to try again.
        overdue: Option<i64>,
    },
    /// There is no way to go on with it.
    SignedOut {
        session: CurrentSession,
        reason: SignedOut,
    },
}

/// Why [`User::refresh`](crate::User::refresh) did not refresh the session.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RefreshError {
    /// The session has no refresh token: the provider sends none, `session.tokens` leaves it out, or
    /// `enabled = false`.
    #[error("the session has no refresh token")]
    NoRefreshToken,
    /// The headers of the answer have been sent, and the session is kept in cookies: its new tokens would
    /// reach no browser. The provider was not asked.
    #[error("the answer's headers have been sent, and the session is kept in cookies")]
    AnswerSent,
    /// There is no such session, or not any more.
    #[error(transparent)]
    SignedOut(SignedOut),
    /// The provider was not reachable or refused; the session stays as it was.
    #[error("the session was not refreshed: {cause}")]
    Failed {
        /// What went wrong.
        cause: String,
    },
    /// The new claims do not fit the app's type; the session was refreshed.
    #[error("the claims are not a `{expected}`")]
    Claims {
        /// The app's type.
        expected: &'static str,
    },
}

impl RefreshError {
    /// The reason code, as the manual lists them.
    pub fn reason(&self) -> &'static str {
        match self {
            RefreshError::NoRefreshToken => "no_refresh_token",
            RefreshError::AnswerSent => "answer_sent",
            RefreshError::SignedOut(reason) => reason.reason(),
            RefreshError::Failed { .. } => "refresh_failed",
            RefreshError::Claims { .. } => "claims",
        }
    }
}

impl From<RefreshError> for NotRefreshed {
    fn from(error: RefreshError) -> NotRefreshed {
        NotRefreshed {
            error,
            pending: None,
        }
    }
}

impl RelyingParty {
    /// Refreshes the session if it is due. It returns at once unless it is.
    pub(crate) async fn keep_fresh(
        &self,
        provider: &Arc<Provider>,
        current: CurrentSession,
        now: OffsetDateTime,
    ) -> Freshness {
        if !is_due(current.refresh_due, now) && !current.user_info_due {
            return Freshness::Fresh(current);
        }
        Box::pin(self.refresh_due(provider, current, now)).await
    }

    async fn refresh_due(
        &self,
        provider: &Arc<Provider>,
        mut current: CurrentSession,
        now: OffsetDateTime,
    ) -> Freshness {
        let now_s = now.unix_timestamp();
        let grace = i64::try_from(self.settings.session.refresh_grace.as_secs());
        let grace = grace.unwrap_or(i64::MAX);
        let due = current.refresh_due.unwrap_or(i64::MAX);
        let is_overdue = now_s >= due.saturating_add(grace);
        match self.refresh_once(provider, &current, None, now).await {
            Some(Outcome::Refreshed { session, .. }) => Freshness::Renewed(session),
            Some(Outcome::Ended(reason) | Outcome::SignedOut(reason)) => Freshness::SignedOut {
                session: current,
                reason,
            },
            Some(Outcome::Failed {
                asks_for_sign_in: true,
                ..
            }) => Freshness::SignedOut {
                session: current,
                reason: SignedOut::SignInRequired,
            },
            Some(Outcome::Failed {
                pending,
                cause,
                retry_at,
                ..
            }) => {
                let pending = pending.filter(|pending| pending.generation > current.generation);
                let is_renewed = pending.is_some();
                let mut session = pending.unwrap_or(current);
                session.not_refreshed = Some(cause);
                Freshness::Stale {
                    session,
                    is_renewed,
                    overdue: is_overdue.then_some((retry_at - now_s).max(1)),
                }
            }
            None => {
                current.not_refreshed = Some("it was interrupted".into());
                Freshness::Stale {
                    session: current,
                    is_renewed: false,
                    overdue: is_overdue.then_some(i64::from(MIN_BACK_OFF)),
                }
            }
        }
    }

    /// Refreshes a session now, whether it is due or not.
    pub(crate) async fn refresh_now(
        &self,
        current: &CurrentSession,
    ) -> Result<CurrentSession, NotRefreshed> {
        let Source::Provider(provider) = &self.source else {
            return Err(RefreshError::NoRefreshToken.into());
        };
        let tokens = current.tokens();
        if tokens.is_none_or(|tokens| tokens.refresh_token.is_none()) {
            return Err(RefreshError::NoRefreshToken.into());
        }
        let now = self.clock.now();
        let forced = Some(FORCED_INTERVAL);
        match self.refresh_once(provider, current, forced, now).await {
            Some(Outcome::Refreshed { session, .. }) => Ok(session),
            Some(Outcome::Ended(reason) | Outcome::SignedOut(reason)) => {
                Err(RefreshError::SignedOut(reason).into())
            }
            Some(Outcome::Failed {
                asks_for_sign_in: true,
                ..
            }) => Err(RefreshError::SignedOut(SignedOut::SignInRequired).into()),
            Some(Outcome::Failed { cause, pending, .. }) => Err(NotRefreshed {
                error: RefreshError::Failed {
                    cause: cause.to_string(),
                },
                pending: pending.filter(|pending| pending.generation > current.generation),
            }),
            None => Err(RefreshError::Failed {
                cause: "it was interrupted".to_owned(),
            }
            .into()),
        }
    }

    /// Refreshes a session in a store now, by the id that [`User::session_id`](crate::User::session_id) and
    /// [`sessions_of`](Self::sessions_of) give: for work that is done beside requests. Within 10 s of the
    /// last refresh of a session, nothing is done.
    ///
    /// # Errors
    ///
    /// When there is no such session, which is always so where sessions are kept in cookies, or when it is
    /// not refreshed.
    pub async fn refresh_session(&self, id: &str) -> Result<(), RefreshError> {
        let session = self.sessions.by_name(id, self.clock.now()).await;
        let session = session.map_err(RefreshError::SignedOut)?;
        let refreshed = self.refresh_now(&session).await;
        refreshed.map(drop).map_err(|not| not.error)
    }

    /// Joins the refresh of this session that is in flight or has just failed, or begins one. `forced` is
    /// within how many seconds of a refresh that succeeded none is begun.
    async fn refresh_once(
        &self,
        provider: &Arc<Provider>,
        current: &CurrentSession,
        forced: Option<i64>,
        now: OffsetDateTime,
    ) -> Option<Outcome> {
        let name = current.name().to_owned();
        let flight = self
            .refreshes
            .join(&name, current, forced, now, |failures| {
                let (rp, provider, current) = (self.clone(), provider.clone(), current.clone());
                let (tell, outcome) = watch::channel(None);
                let flight = Flight { outcome };
                let in_flight = flight.clone();
                let is_forced = forced.is_some();
                let refreshing = async move {
                    let result = rp
                        .refresh_in_turn(&provider, &current, is_forced, now)
                        .await;
                    let change = rp.change_of_refresh(&result, &current, now).await;
                    let result = result.map(Refreshed::into_session);
                    tell.send_replace(Some(Outcome::of(result, failures, now)));
                    rp.refreshes.completed(current.name(), in_flight);
                    // Last: the requests do not wait for the app.
                    rp.events.notify(None, change.as_slice()).await;
                };
                observing::spawn(refreshing.instrument(tracing::debug_span!("refresh")));
                flight
            });
        flight.outcome().await
    }

    /// What a refresh at this node changed, which the log is told; ends the session that it found to have ended.
    async fn change_of_refresh(
        &self,
        result: &Result<Refreshed, Failure>,
        current: &CurrentSession,
        now: OffsetDateTime,
    ) -> Option<SessionChange> {
        match result {
            Ok(Refreshed::Here(session)) => Some(SessionChange::refreshed(session)),
            Ok(Refreshed::Elsewhere(_)) | Err(Failure::SignedOut(_)) => None,
            Err(Failure::Ended(reason)) => {
                let cause = EndCause::RefreshRefused;
                let ending = self
                    .sessions
                    .end_or_keep(current.name(), Some(current), cause, now);
                let KeptEnd { end, error } = ending.await;
                if let Some(error) = error {
                    tracing::error!(
                        reason = "store_unavailable",
                        "{error}; the end of a session at its refresh is not recorded, and is tried again until the store has it"
                    );
                    tracing::info!("{}", error.remedy());
                }
                // One that was ended otherwise was told of there.
                let end = end.filter(|_| *reason == SignedOut::RefreshRefused);
                end.inspect(SessionChange::log)
            }
            Err(Failure::AsksForSignIn { reason, .. } | Failure::Later { reason, .. }) => {
                Some(SessionChange::refresh_failed(current, reason))
            }
        }
    }

    /// Refreshes, when no other node does; else waits for its result.
    async fn refresh_in_turn(
        &self,
        provider: &Arc<Provider>,
        current: &CurrentSession,
        is_forced: bool,
        now: OffsetDateTime,
    ) -> Result<Refreshed, Failure> {
        // Before the lock, which covers the token call and a write alone.
        let metadata = provider.metadata(now).await?;
        if !self.sessions.is_shared {
            let newest = match self.sessions.newest(current, now).await {
                Ok(Newest::ThisOne) => current.clone(),
                Ok(Newest::Other(session)) if !is_forced && !is_due(session.refresh_due, now) => {
                    return Ok(Refreshed::Elsewhere(session));
                }
                // Such as a pending one, or one that a user who was kept does not know of.
                Ok(Newest::Other(session)) => session,
                Ok(Newest::None(reason)) | Err(reason) => return Err(Failure::SignedOut(reason)),
            };
            return self
                .refresh(provider, &metadata, &newest, is_forced, now)
                .await
                .map(Refreshed::Here);
        }
        let mut current = current.clone();
        if is_forced {
            let is_recent = self.was_refreshed_elsewhere(&current, now).await?;
            match self.sessions.newest(&current, now).await {
                Ok(Newest::ThisOne) => {}
                Ok(Newest::Other(session)) => current = session,
                Ok(Newest::None(reason)) | Err(reason) => return Err(Failure::SignedOut(reason)),
            }
            if is_recent {
                return Ok(Refreshed::Elsewhere(current));
            }
        }
        let lock = self.sessions.names.refresh_lock(current.name());
        let holder = Secret::random();
        // A node that stops in the middle of it leaves the lock behind for so long.
        let longest = self.settings.http.timeout.saturating_mul(3) + STORE_PAUSE * STORE_TRIES;
        let begun = Instant::now();
        loop {
            let store = &self.sessions.store;
            let is_ours = store.claim(&lock, holder.expose(), longest).await?;
            let newest = self.sessions.newest(&current, now).await;
            let unlock = async || {
                if is_ours && let Err(error) = store.forget(&lock, holder.expose()).await {
                    tracing::warn!("{error}; the lock of a refresh expires by itself");
                }
            };
            let newest = match newest {
                Ok(Newest::ThisOne) => current.clone(),
                Ok(Newest::Other(session)) if !is_due(session.refresh_due, now) => {
                    unlock().await;
                    return Ok(Refreshed::Elsewhere(session));
                }
                // Such as a pending one, which another node may be about to replace.
                Ok(Newest::Other(session)) => session,
                Ok(Newest::None(reason)) | Err(reason) => {
                    unlock().await;
                    return Err(Failure::SignedOut(reason));
                }
            };
            if is_ours {
                let result = self
                    .refresh(provider, &metadata, &newest, is_forced, now)
                    .await;
                if result.is_ok() {
                    self.note_refresh(&newest, now).await;
                }
                unlock().await;
                return result.map(Refreshed::Here);
            }
            if begun.elapsed() > longest {
                return Err(Failure::later(
                    "refresh_elsewhere",
                    "another node did not finish it".to_owned(),
                ));
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Whether another node refreshed this session so short a while ago that none is forced.
    async fn was_refreshed_elsewhere(
        &self,
        current: &CurrentSession,
        now: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        let name = self.sessions.names.last_refresh(current.name());
        let notes = self.sessions.store.notes(&[&name]).await?;
        let at = notes.into_iter().flatten().next();
        let at = at.and_then(|at| at.parse::<i64>().ok());
        Ok(at.is_some_and(|at| (now.unix_timestamp() - at).abs() < FORCED_INTERVAL))
    }

    /// Tells the other nodes that this session was refreshed.
    async fn note_refresh(&self, current: &CurrentSession, now: OffsetDateTime) {
        let name = self.sessions.names.last_refresh(current.name());
        let at = now.unix_timestamp().to_string();
        let life = Duration::from_secs(FORCED_INTERVAL.unsigned_abs());
        if let Err(error) = self.sessions.store.note(&name, &at, life).await {
            tracing::debug!("{error}; another node may force a refresh too early");
        }
    }

    /// The refresh itself (OpenID Connect Core 1.0 §12).
    async fn refresh(
        &self,
        provider: &Arc<Provider>,
        metadata: &Metadata,
        current: &CurrentSession,
        is_forced: bool,
        now: OffsetDateTime,
    ) -> Result<CurrentSession, Failure> {
        let old = current.tokens().cloned().unwrap_or_default();
        if current.user_info_due && !is_forced && !is_due(current.refresh_due, now) {
            return self
                .look_at_user_info(provider, metadata, current, &old, now)
                .await;
        }
        let unstored = self.refreshes.unstored.get(current.name());
        let Some(refresh_token) = unstored.as_ref().or(old.refresh_token.as_ref()) else {
            let cause = "there is no refresh token".to_owned();
            return Err(Failure::later("no_refresh_token", cause));
        };
        let reply = provider.refresh(metadata, refresh_token, now).await?;
        // The lock and the reply may have taken long: its ID token is judged by the time at which it came.
        let now = self.clock.now();

        // Kept before it is judged: the old refresh token may be used up. Until it is judged, the new one
        // serves the next refresh and nothing else.
        let received = SessionTokens {
            access_token: Some(reply.access_token.clone()),
            refresh_token: reply
                .refresh_token
                .clone()
                .or_else(|| Some(refresh_token.clone())),
            ..SessionTokens::default()
        };
        let pending_tokens = SessionTokens {
            access_token: None,
            refresh_token: received.refresh_token.clone(),
            ..SessionTokens::clone(&old)
        };
        let mut pending = Session::clone(current);
        // Also when this refresh was asked for: whoever finds it waits for this refresh, or begins another.
        let now_s = now.unix_timestamp();
        pending.refresh_due = Some(pending.refresh_due.map_or(now_s, |due| due.min(now_s)));
        let pending = self
            .store_generation(current, pending, pending_tokens, now)
            .await;
        let pending = match pending {
            Ok(Some(pending)) => pending,
            // The session was ended meanwhile, so the tokens end too.
            Ok(None) => {
                revoke_later(provider, &received, now);
                return Err(Failure::Ended(SignedOut::Ended));
            }
            Err(ended @ Failure::Ended(_)) => {
                revoke_later(provider, &received, now);
                return Err(ended);
            }
            // The store is down: the new refresh token waits here for the next refresh.
            Err(failure) => {
                let name = current.name().to_owned();
                if let Some(refresh_token) = &received.refresh_token {
                    self.refreshes.unstored.insert(name, refresh_token.clone());
                }
                return Err(failure);
            }
        };
        self.refreshes.unstored.invalidate(current.name());

        let judged = self
            .judge(provider, metadata, current, &old, &reply, now)
            .await;
        let id_token = match judged {
            Ok(id_token) => id_token,
            Err(failure) => {
                return Err(match failure {
                    Failure::Later {
                        reason,
                        cause,
                        retry_after,
                        ..
                    } => Failure::Later {
                        reason,
                        cause,
                        retry_after,
                        pending: Some(pending),
                    },
                    rejected => {
                        revoke_later(provider, &received, now);
                        rejected
                    }
                });
            }
        };

        let mut session = Session::clone(&pending);
        let mut tokens = self.session_tokens(reply, &old, &mut session, now);
        tokens.refresh_token = received.refresh_token.clone();
        if let Some(id_token) = id_token {
            session.end_by(id_token.session_expiry);
            tokens.sources = tokens.sources.with_id_token(id_token.claims);
        }
        session.user_info_due = false;
        if self.settings.session.refresh_user_info
            && let Some(access_token) = &tokens.access_token
        {
            let asked = self
                .ask_user_info(provider, metadata, &session, access_token, now)
                .await;
            match asked {
                Ok(Some(claims)) => tokens.sources = tokens.sources.with_user_info(claims),
                Ok(None) => {}
                Err(error) => {
                    session.user_info_due = true;
                    // What nobody vouches for now is not kept where a sign-in would do without it.
                    if self.settings.user_info_optional && error.is_outage() {
                        tokens.sources.user_info = None;
                    }
                }
            }
        }
        session.claims = tokens.sources.merged();
        let advanced = self.store_generation(&pending, session, tokens, now).await;
        match advanced {
            Ok(Some(session)) => Ok(session),
            Ok(None) => {
                revoke_later(provider, &received, now);
                Err(Failure::Ended(SignedOut::Ended))
            }
            Err(ended @ Failure::Ended(_)) => {
                revoke_later(provider, &received, now);
                Err(ended)
            }
            Err(Failure::Later {
                reason,
                cause,
                retry_after,
                ..
            }) => Err(Failure::Later {
                reason,
                cause,
                retry_after,
                pending: Some(pending),
            }),
            Err(failure) => Err(failure),
        }
    }

    /// Stores a generation, with patience: the provider does not send its tokens a second time.
    async fn store_generation(
        &self,
        current: &CurrentSession,
        session: Session,
        tokens: SessionTokens,
        now: OffsetDateTime,
    ) -> Result<Option<CurrentSession>, Failure> {
        for _ in 1..STORE_TRIES {
            let advanced = self
                .sessions
                .advance(current, session.clone(), tokens.clone(), now)
                .await;
            match advanced {
                Err(BeginError::Store(error)) => {
                    tracing::warn!("{error}; the tokens of a refresh are not stored yet");
                    tokio::time::sleep(STORE_PAUSE).await;
                }
                advanced => return Ok(advanced?),
            }
        }
        Ok(self.sessions.advance(current, session, tokens, now).await?)
    }

    /// Judges the ID token of a reply (OpenID Connect Core 1.0 §12.2). `None` when there is none.
    async fn judge(
        &self,
        provider: &Arc<Provider>,
        metadata: &Metadata,
        current: &CurrentSession,
        old: &SessionTokens,
        reply: &Tokens,
        now: OffsetDateTime,
    ) -> Result<Option<RefreshedIdToken>, Failure> {
        let Some(id_token) = &reply.id_token else {
            return Ok(None);
        };
        let algorithms = provider.id_token_algorithms(metadata);
        let expected = IdTokenExpectations {
            issuer: provider.registration.expected_issuer(),
            client_id: &provider.registration.client_id,
            trusted_audiences: &self.settings.trusted_audiences,
            algorithms: &algorithms,
            client_secret: provider.registration.client_secret.as_ref(),
            nonce: None,
            accepts_missing_nonce: false,
            access_token: Some(&reply.access_token),
            max_age: None,
            acr_values: &[],
            clock_skew: self.settings.clock_skew,
        };
        let original = OriginalSignIn {
            issuer: &current.issuer,
            claims: &current.claims,
            nonce: old.nonce.as_ref(),
        };
        let verdict = provider
            .with_keys(
                metadata,
                KeyPurpose::ProviderReply,
                now,
                |keys| RefreshedIdToken::accept(id_token.expose(), keys, &expected, &original, now),
                |error| error.wants_fresh_keys(),
            )
            .await
            // Whatever is wrong with the keys, it says nothing about this token.
            .map_err(|error| Failure::later(error.reason(), error.to_string()))?;
        match verdict {
            Ok(accepted) => {
                provider.id_token_accepted(accepted.algorithm);
                Ok(Some(accepted))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Asks UserInfo again; logs what goes wrong.
    async fn ask_user_info(
        &self,
        provider: &Arc<Provider>,
        metadata: &Metadata,
        session: &Session,
        access_token: &Secret,
        now: OffsetDateTime,
    ) -> Result<Option<Claims>, UserInfoRequestError> {
        if !self.settings.user_info_enabled {
            return Ok(None);
        }
        let asked = provider.user_info_about(
            metadata,
            (&session.issuer, session.subject()),
            access_token,
            RequestedBy::Session,
            now,
        );
        let kept = match self.settings.user_info_optional {
            true => "the claims of the ID token are left (`user_info_optional`)",
            false => "the claims of before are kept",
        };
        asked.await.inspect_err(|error| match error {
            error if error.is_outage() => tracing::warn!("{error}; {kept}"),
            UserInfoRequestError::Provider(error) => {
                tracing::warn!("{error}; the claims of before are kept");
            }
            UserInfoRequestError::UserInfo(error) => {
                tracing::error!("{error}; the claims of before are kept");
                tracing::info!("{}", error.remedy());
            }
        })
    }

    /// Catches up on a look at UserInfo that did not succeed at the last refresh.
    async fn look_at_user_info(
        &self,
        provider: &Arc<Provider>,
        metadata: &Metadata,
        current: &CurrentSession,
        old: &SessionTokens,
        now: OffsetDateTime,
    ) -> Result<CurrentSession, Failure> {
        let mut session = Session::clone(current);
        let mut tokens = old.clone();
        session.user_info_due = false;
        if self.settings.session.refresh_user_info
            && let Some(access_token) = &old.access_token
        {
            let asked = self
                .ask_user_info(provider, metadata, &session, access_token, now)
                .await;
            let claims =
                asked.map_err(|error| Failure::later(error.reason(), error.to_string()))?;
            if let Some(claims) = claims {
                tokens.sources = tokens.sources.with_user_info(claims);
            }
            session.claims = tokens.sources.merged();
        }
        let advanced = self.sessions.advance(current, session, tokens, now).await?;
        advanced.ok_or(Failure::Ended(SignedOut::Ended))
    }

    /// The tokens of a reply; what it leaves out is as before (OpenID Connect Core 1.0 §12.2). Sets when
    /// the session is due.
    pub(super) fn session_tokens(
        &self,
        reply: Tokens,
        old: &SessionTokens,
        session: &mut Session,
        now: OffsetDateTime,
    ) -> SessionTokens {
        let now = now.unix_timestamp();
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        let life = reply.expires_in.map(seconds);
        let due_in = match life {
            Some(life) => refresh_after(life, random_share()),
            None => seconds(self.settings.session.refresh_interval),
        };
        session.refresh_due = Some(now.saturating_add(due_in));
        SessionTokens {
            access_token: Some(reply.access_token),
            access_token_ends: life.map(|life| now.saturating_add(life)),
            refresh_token: reply.refresh_token.or_else(|| old.refresh_token.clone()),
            id_token: reply.id_token.or_else(|| old.id_token.clone()),
            nonce: old.nonce.clone(),
            sources: old.sources.clone(),
        }
    }
}

/// After how long a token of this life is refreshed: a minute or a tenth of its life before its end, and
/// up to half of that later, so that sessions that began together are not refreshed together.
fn refresh_after(life: i64, share: f64) -> i64 {
    let ahead = (life / 10).min(REFRESH_MARGIN.as_secs().cast_signed());
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
        }
    }

    /// Takes the refresh token of a session that no store took.
    pub(super) fn take_unstored(&self, name: &str) -> Option<Secret> {
        self.unstored.remove(name)
    }

    /// Whether a refresh of this session is under way.
    pub(crate) fn is_under_way(&self, name: &str) -> bool {
        self.flights.get(name).is_some_and(|flight| {
            flight.outcome.borrow().is_none() && flight.outcome.has_changed().is_ok()
        })
    }

    /// A refresh has its outcome, and a time to live by it.
    fn completed(&self, name: &str, flight: Flight) {
        self.flights
            .entry_by_ref(name)
            .and_compute_with(|entry| match entry {
                Some(entry) if entry.value().outcome.same_channel(&flight.outcome) => {
                    Op::Put(flight)
                }
                _ => Op::Nop,
            });
    }

    /// The refresh to join: the one that is there while it counts, else the one that `begin` begins, after
    /// so many failures.
    fn join(
        &self,
        name: &str,
        current: &CurrentSession,
        forced: Option<i64>,
        now: OffsetDateTime,
        begin: impl FnOnce(u32) -> Flight,
    ) -> Flight {
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
                        // Another node may have been later.
                        Some(interval) => {
                            session.generation >= current.generation && (now - at).abs() < interval
                        }
                        None => {
                            session.generation > current.generation
                                && !is_due(session.refresh_due, at_time(now))
                        }
                    };
                    if counts { Op::Nop } else { Op::Put(begin(0)) }
                }
                Some(Outcome::Failed {
                    retry_at, failures, ..
                }) if now >= *retry_at => Op::Put(begin(*failures)),
                Some(Outcome::SignedOut(_)) => Op::Put(begin(0)),
                Some(Outcome::Failed { .. } | Outcome::Ended(_)) => Op::Nop,
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

fn at_time(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// How long an outcome is cached, from when the refresh began and from when it completed.
struct OutcomeTtl;

impl Expiry<String, Flight> for OutcomeTtl {
    fn expire_after_create(&self, _: &String, _: &Flight, _: Instant) -> Option<Duration> {
        Some(OUTCOME_TTL)
    }

    fn expire_after_update(
        &self,
        _: &String,
        flight: &Flight,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        match &*flight.outcome.borrow() {
            // It holds a session, and is of use to a forced refresh alone.
            Some(Outcome::Refreshed { .. }) => {
                Some(Duration::from_secs(FORCED_INTERVAL.unsigned_abs()))
            }
            _ => Some(OUTCOME_TTL),
        }
    }
}

impl fmt::Debug for Refreshes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Refreshes(…)")
    }
}

impl Flight {
    /// `None` when it was dropped without an outcome, as at a shutdown.
    async fn outcome(mut self) -> Option<Outcome> {
        let outcome = self.outcome.wait_for(Option::is_some).await.ok()?;
        outcome.clone()
    }

    fn lost() -> Flight {
        let (_, outcome) = watch::channel(None);
        Flight { outcome }
    }
}

impl Refreshed {
    fn into_session(self) -> CurrentSession {
        match self {
            Refreshed::Here(session) | Refreshed::Elsewhere(session) => session,
        }
    }
}

impl Outcome {
    fn of(result: Result<CurrentSession, Failure>, failures: u32, now: OffsetDateTime) -> Outcome {
        let now = now.unix_timestamp();
        let back_off = MIN_BACK_OFF
            .saturating_mul(1 << failures.min(6))
            .min(MAX_BACK_OFF);
        match result {
            Ok(session) => {
                observing::refreshed();
                Outcome::Refreshed { session, at: now }
            }
            Err(Failure::Ended(reason)) => {
                observing::refresh_ended(reason.reason());
                Outcome::Ended(reason)
            }
            Err(Failure::SignedOut(reason)) => Outcome::SignedOut(reason),
            Err(Failure::AsksForSignIn { reason, cause }) => {
                observing::refresh_failed(reason);
                tracing::info!(
                    reason,
                    "a session is not refreshed, and its user signs in again: {cause}"
                );
                Outcome::Failed {
                    pending: None,
                    cause: cause.into(),
                    retry_at: now + i64::from(back_off),
                    failures: failures.saturating_add(1),
                    asks_for_sign_in: true,
                }
            }
            Err(Failure::Later {
                reason,
                cause,
                retry_after,
                pending,
            }) => {
                observing::refresh_failed(reason);
                let wished =
                    retry_after.map_or(0, |wait| u32::try_from(wait.as_secs()).unwrap_or(0));
                let wait = back_off.max(wished);
                tracing::warn!(
                    reason,
                    "a session is not refreshed: {cause}; it stays, and the next attempt is due in {wait} s"
                );
                Outcome::Failed {
                    pending,
                    cause: cause.into(),
                    retry_at: now + i64::from(wait),
                    failures: failures.saturating_add(1),
                    asks_for_sign_in: false,
                }
            }
        }
    }
}

impl Failure {
    fn later(reason: &'static str, cause: String) -> Failure {
        Failure::Later {
            reason,
            cause,
            retry_after: None,
            pending: None,
        }
    }
}

impl From<ProviderError> for Failure {
    fn from(error: ProviderError) -> Failure {
        let reason = error.reason();
        match RefreshVerdict::of(&error) {
            RefreshVerdict::Ends => {
                tracing::info!(reason, "a session ended at its refresh: {error}");
                Failure::Ended(SignedOut::RefreshRefused)
            }
            RefreshVerdict::Waits { retry_after } => Failure::Later {
                reason,
                cause: error.to_string(),
                retry_after,
                pending: None,
            },
            RefreshVerdict::OperatorsFault => {
                tracing::error!(reason, "no session can be refreshed: {error}");
                tracing::info!("{}", error.remedy());
                Failure::later(reason, error.to_string())
            }
            RefreshVerdict::AsksForSignIn => Failure::AsksForSignIn {
                reason,
                cause: error.to_string(),
            },
        }
    }
}

impl From<RefreshedIdTokenError> for Failure {
    fn from(error: RefreshedIdTokenError) -> Failure {
        let reason = error.reason();
        if let RefreshedIdTokenError::IdToken(IdTokenError::SessionExpired { .. }) = error {
            tracing::info!(reason, "a session ended at its refresh: {error}");
            return Failure::Ended(SignedOut::RefreshRefused);
        }
        tracing::error!(reason, "the ID token of a refresh is rejected: {error}");
        tracing::info!("{}", error.remedy());
        Failure::Ended(SignedOut::RefreshRefused)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::later("store_unavailable", error.to_string())
    }
}

impl From<BeginError> for Failure {
    fn from(error: BeginError) -> Failure {
        match error {
            BeginError::Store(error) | BeginError::NotStored { error, .. } => error.into(),
            BeginError::Ended { .. } => Failure::Ended(SignedOut::Ended),
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
        let shares: Vec<f64> = (0..100).map(|_| random_share()).collect();
        assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)));
        assert!(shares.iter().any(|share| *share != shares[0]));
    }

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
    fn the_wait_after_a_failure_doubles_up_to_a_minute_or_is_what_the_provider_wishes() {
        let wait = |failure, before| match Outcome::of(Err(failure), before, time(100)) {
            Outcome::Failed {
                retry_at, failures, ..
            } => {
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
    fn a_refresh_is_joined_while_its_outcome_counts() {
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
        // Asked for by a request with generation 1, at this time; after how many failures another begins.
        for (name, outcome, forced, now, begins) in [
            ("in flight", None, None, 100, None),
            ("newer", Some(refreshed(2, 200)), None, 199, None),
            ("newer and due", Some(refreshed(2, 200)), None, 200, Some(0)),
            ("as old", Some(refreshed(1, 200)), None, 100, Some(0)),
            ("just now", Some(refreshed(1, 200)), Some(10), 109, None),
            ("back", Some(refreshed(1, 200)), Some(10), 91, None),
            (
                "not just now",
                Some(refreshed(1, 200)),
                Some(10),
                110,
                Some(0),
            ),
            ("failed", Some(failed()), None, 104, None),
            ("failed before", Some(failed()), None, 105, Some(3)),
            (
                "ended",
                Some(Outcome::Ended(SignedOut::Ended)),
                None,
                999,
                None,
            ),
            (
                "a copy signed out",
                Some(Outcome::SignedOut(SignedOut::Superseded)),
                None,
                100,
                Some(0),
            ),
        ] {
            let refreshes = Refreshes::new();
            let (tell, outcome) = watch::channel(outcome);
            let current = session(1, 100);
            let mut begun = vec![];
            for _ in 0..2 {
                let flight = Flight {
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
            drop(tell);
        }

        // One that was dropped without an outcome.
        let refreshes = Refreshes::new();
        let (current, mut begun) = (session(1, 100), 0);
        for _ in 0..2 {
            refreshes.join("name", &current, None, time(100), |_| {
                begun += 1;
                Flight::lost()
            });
        }
        assert_eq!(begun, 2);
    }

    /// Another node may have refreshed the session since this one did.
    #[test]
    fn an_outcome_that_is_older_than_the_session_at_hand_does_not_count() {
        let refreshes = Refreshes::new();
        let session = |generation| {
            let mut session = Session::new("https://op.example", Claims::default(), at_time(0));
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
                Flight { outcome }
            };
            let current = session(generation);
            refreshes.join("name", &current, Some(FORCED_INTERVAL), at_time(105), begin);
            assert_eq!(begun, is_begun, "{generation}");
        }
    }
}
