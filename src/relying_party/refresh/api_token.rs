//! Access tokens for other APIs, from the refresh token of a session ([RFC 8707 §2.2]).
//!
//! [RFC 8707 §2.2]: https://www.rfc-editor.org/rfc/rfc8707#section-2.2

use std::sync::Arc;
#[cfg(feature = "api-client")]
use std::time::Duration;

use time::OffsetDateTime;

#[cfg(feature = "api-client")]
use super::FORCED_INTERVAL;
use super::{failure::Failure, lock::Locked};
use crate::{
    api_tokens::{ApiTokenError, IssuedToken, IssuedTokens, Limits, Target},
    clock::Clock,
    provider::{Metadata, Provider},
    relying_party::{Client, revoke_later::revoke_later},
    secret::Secret,
    session::{CurrentSession, NoSession, OutgoingSession, Session, SessionTokens},
    tasks::Tasks,
};

/// The tokens of all sessions of this process.
const LIMITS: Limits = Limits {
    bytes: 64 * 1024 * 1024,
    targets: 32,
};

/// Tokens for other APIs, by the name of the session that they were issued from.
pub(crate) type TokensOfSessions = Arc<IssuedTokens<Arc<str>>>;

pub(crate) fn tokens_of_sessions(clock: &Clock, tasks: &Tasks) -> TokensOfSessions {
    Arc::new(IssuedTokens::new("token for the API of a user", LIMITS, clock).awaited_by(tasks))
}

impl Client<'_> {
    /// The access token of a session for another API: the cached one, or that of a request with the session's refresh
    /// token. `answer` sets the session's cookies if the refresh token is another one afterwards.
    pub(crate) async fn token_of_session(
        &self,
        current: &CurrentSession,
        answer: &Arc<OutgoingSession>,
        target: Target,
    ) -> Result<IssuedToken, ApiTokenError> {
        self.can_have_tokens()?;
        let target = target.bound(is_bound(current));
        self.check_alive(current).await?;
        let owner = current.shared_name();
        let tokens = &self.rp.session_tokens;
        if let Some(token) = tokens.cached(&owner, &target) {
            return Ok(token);
        }
        if self.refresh_token_of(current).is_none() {
            return Err(ApiTokenError::NoRefreshToken);
        }
        if self.sessions.is_in_cookies() && answer.is_sent() {
            return Err(ApiTokenError::ResponseSent);
        }
        let begin = || {
            let (rp, provider) = (self.rp.clone(), self.provider.clone());
            let (current, answer, target) = (current.clone(), answer.clone(), target.clone());
            async move {
                let client = Client {
                    rp: &rp,
                    provider: &provider,
                };
                client.request_token_of_session(&current, &answer, &target).await
            }
        };
        let (tasks, provider, clock) = (self.tasks.clone(), self.provider.clone(), self.clock.clone());
        let unwanted = move |token: IssuedToken| revoke_unwanted(&tasks, &provider, token.secret(), None, clock.now());
        let name = self.sessions.observed.name();
        tokens.get(owner, target.clone(), name, begin, unwanted).await
    }

    /// Drops a token that the API rejects. `false` if the session may not request another one now.
    #[cfg(feature = "api-client")]
    pub(crate) fn reject_token_of_session(
        &self,
        current: &CurrentSession,
        answer: &OutgoingSession,
        target: &Target,
        rejected: &IssuedToken,
    ) -> bool {
        let may_request = !(self.sessions.is_in_cookies() && answer.is_sent());
        let interval = Some(Duration::from_secs(FORCED_INTERVAL.unsigned_abs()));
        let (owner, target) = (current.shared_name(), target.clone().bound(is_bound(current)));
        may_request && self.rp.session_tokens.reject(&owner, &target, rejected, interval)
    }

    /// Fails if the session has ended on any node, and drops its tokens then.
    async fn check_alive(&self, current: &CurrentSession) -> Result<(), ApiTokenError> {
        let now = self.clock.now();
        let alive = match self.sessions.newest(current, now).await {
            Ok(newest) => match self.sessions.check_times(newest.as_ref().unwrap_or(current), now) {
                // A task may use the session for longer than its user.
                Ok(()) | Err(NoSession::Idle) => Ok(()),
                ended => ended,
            },
            Err(reason) => Err(reason),
        };
        alive.map_err(|reason| {
            // An older copy of the session says nothing about the session itself.
            if let NoSession::Ended | NoSession::LifetimeEnded = reason {
                self.rp.session_tokens.drop_all_of(&current.shared_name());
            }
            ApiTokenError::NoSession(reason)
        })
    }

    async fn request_token_of_session(
        &self,
        current: &CurrentSession,
        answer: &OutgoingSession,
        target: &Target,
    ) -> Result<IssuedToken, ApiTokenError> {
        let now = self.clock.now();
        let metadata = self.provider.metadata(now).await?;
        let lock = match self.lock_refresh(current, now, |_| false).await? {
            Locked::Held(lock) => lock,
            Locked::Needless(_) => return Err(ApiTokenError::NoSession(NoSession::Superseded)),
        };
        let result = self.refresh_for(&metadata, &lock.newest, target).await;
        self.unlock_refresh(lock).await;
        let (token, advanced) = result?;
        if let Some(session) = advanced {
            answer.set(&session);
        }
        Ok(token)
    }

    /// The request itself. Also returns the session, if it has another refresh token than before.
    async fn refresh_for(
        &self,
        metadata: &Metadata,
        current: &CurrentSession,
        target: &Target,
    ) -> Result<(IssuedToken, Option<CurrentSession>), ApiTokenError> {
        let sent = self.refresh_token_of(current).ok_or(ApiTokenError::NoRefreshToken)?;
        let old = current.tokens().cloned().unwrap_or_default();
        let requested_at = self.clock.now();
        let parameters = target.parameters(self.settings.resource_parameter);
        let reply = self
            .provider
            .refresh_for(metadata, &sent, &parameters, old.proof_key.as_ref(), requested_at)
            .await?;
        let now = self.clock.now();

        // As at a refresh, the new refresh token is stored before the response is judged.
        let newest = reply.refresh_token.clone().unwrap_or(sent);
        let stored = if old.refresh_token.as_ref() == Some(&newest) {
            // Nothing to store; the session may have ended meanwhile.
            self.sessions
                .newest(current, now)
                .await
                .map(|_| None)
                .map_err(Failure::NoSession)
        } else {
            let (session, tokens) = rotated(current, &old, newest.clone());
            self.store_refresh_token(current, session, tokens, now).await.map(Some)
        };
        let advanced = stored.map_err(|failure| {
            if let Failure::Ended(_) | Failure::NoSession(NoSession::Ended) = &failure {
                revoke_unwanted(
                    &self.tasks,
                    self.provider,
                    &reply.access_token,
                    reply.refresh_token.as_ref(),
                    now,
                );
            }
            ApiTokenError::from(failure)
        })?;

        let key = self.provider.binding(&reply, old.proof_key.as_ref(), true)?.cloned();
        let session = advanced.as_ref().unwrap_or(current);
        let verified = self.verify_id_token(metadata, session, &old, &reply, now).await;
        verified.map_err(|failure| match failure {
            Failure::Ended(_) => ApiTokenError::IdToken,
            failure => failure.into(),
        })?;
        let token = IssuedToken::accept(reply, requested_at, None, key)?;
        Ok((token, advanced))
    }

    /// The refresh token to send: one that could not be stored yet, else that of the session.
    pub(super) fn refresh_token_of(&self, current: &CurrentSession) -> Option<Secret> {
        let unstored = self.refreshes.unstored.get(current.name());
        unstored.or_else(|| current.tokens()?.refresh_token.clone())
    }
}

/// Whether the tokens of a session are bound to its key.
fn is_bound(session: &CurrentSession) -> bool {
    session.tokens().is_some_and(|tokens| tokens.proof_key.is_some())
}

/// The next generation of a session, with another refresh token and nothing else.
fn rotated(current: &CurrentSession, old: &SessionTokens, refresh_token: Secret) -> (Session, SessionTokens) {
    let tokens = SessionTokens {
        refresh_token: Some(refresh_token),
        ..SessionTokens::clone(old)
    };
    (Session::clone(current), tokens)
}

/// Revokes tokens of a session that ended before they were issued.
fn revoke_unwanted(
    tasks: &Tasks,
    provider: &Arc<Provider>,
    access_token: &Secret,
    refresh_token: Option<&Secret>,
    now: OffsetDateTime,
) {
    let tokens = SessionTokens {
        access_token: Some(access_token.clone()),
        refresh_token: refresh_token.cloned(),
        ..SessionTokens::default()
    };
    revoke_later(tasks, provider, &tokens, now);
}

impl From<Failure> for ApiTokenError {
    fn from(failure: Failure) -> ApiTokenError {
        match failure {
            Failure::Ended(reason) | Failure::NoSession(reason) => ApiTokenError::NoSession(reason),
            Failure::AsksForSignIn { reason, cause } | Failure::Later { reason, cause, .. } => {
                ApiTokenError::Later { reason, cause }
            }
        }
    }
}
