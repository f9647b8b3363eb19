//! Why a refresh failed, and the consequence for the session.

use std::time::Duration;

use thiserror::Error;

use crate::{
    provider::{GitHubUserError, ProviderError, RefreshVerdict, UserInfoRequestError},
    session::{BeginError, CurrentSession, NoSession, store::StoreError},
    token::IdTokenError,
};

/// Why a refresh failed.
pub(super) enum Failure {
    /// The session has ended, at the provider or in this app.
    Ended(NoSession),
    /// This copy of the session cannot be used any more; the session itself may continue.
    NoSession(NoSession),
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

impl Failure {
    pub(super) fn later(reason: &'static str, cause: String) -> Failure {
        Failure::Later {
            reason,
            cause,
            retry_after: None,
            pending: None,
        }
    }

    /// The provider sent a token that is not bound to the key of the session.
    pub(super) fn of_binding(error: &ProviderError) -> Failure {
        let reason = error.reason();
        tracing::error!(reason, "the access token of a refresh is refused: {error}");
        tracing::info!("{}", error.remedy());
        Failure::later(reason, error.to_string())
    }

    /// With this session to use until the refresh is retried.
    pub(super) fn with_pending(mut self, session: &CurrentSession) -> Failure {
        if let Failure::Later { pending, .. } = &mut self {
            *pending = Some(session.clone());
        }
        self
    }
}

impl From<ProviderError> for Failure {
    fn from(error: ProviderError) -> Failure {
        let reason = error.reason();
        match RefreshVerdict::of(&error) {
            RefreshVerdict::Ends => {
                tracing::info!(reason, "a session ended at its refresh: {error}");
                Failure::Ended(NoSession::RefreshRefused)
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

/// Why claims could not be requested again.
#[derive(Debug, Error)]
pub(super) enum ClaimsError {
    #[error(transparent)]
    UserInfo(#[from] UserInfoRequestError),
    #[error(transparent)]
    GitHub(#[from] GitHubUserError),
}

impl ClaimsError {
    /// Whether the failure is an outage, after which a retry may succeed.
    pub(super) fn is_outage(&self) -> bool {
        self.of_provider().is_some_and(ProviderError::is_outage)
    }

    /// Whether the session cannot continue: nothing vouches for its user any more.
    pub(super) fn ends_session(&self) -> bool {
        use GitHubUserError::{AccessTokenRejected, AnotherUser};
        matches!(self, ClaimsError::GitHub(AccessTokenRejected | AnotherUser { .. }))
    }

    /// The reason code.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            ClaimsError::UserInfo(error) => error.reason(),
            ClaimsError::GitHub(error) => error.reason(),
        }
    }

    fn of_provider(&self) -> Option<&ProviderError> {
        match self {
            ClaimsError::UserInfo(UserInfoRequestError::Provider(error))
            | ClaimsError::GitHub(GitHubUserError::Provider(error)) => Some(error),
            _ => None,
        }
    }
}

impl From<ClaimsError> for Failure {
    fn from(error: ClaimsError) -> Failure {
        if error.ends_session() {
            return Failure::Ended(NoSession::RefreshRefused);
        }
        Failure::Later {
            reason: error.reason(),
            cause: error.to_string(),
            retry_after: error.of_provider().and_then(ProviderError::retry_after),
            pending: None,
        }
    }
}

impl From<IdTokenError> for Failure {
    fn from(error: IdTokenError) -> Failure {
        let reason = error.reason();
        if let IdTokenError::SessionExpired { .. } = error {
            tracing::info!(reason, "a session ended at its refresh: {error}");
        } else {
            tracing::error!(reason, "the ID token of a refresh is rejected: {error}");
            tracing::info!("{}", error.remedy());
        }
        Failure::Ended(NoSession::RefreshRefused)
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
            BeginError::Store(error) => error.into(),
            BeginError::Ended(_) => Failure::Ended(NoSession::Ended),
            BeginError::TooLarge(error) => {
                let reason = "session_too_large";
                tracing::error!(reason, "a session ended at its refresh: {error}");
                tracing::info!("{}", error.remedy());
                Failure::Ended(NoSession::RefreshRefused)
            }
        }
    }
}
