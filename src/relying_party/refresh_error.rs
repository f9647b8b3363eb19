//! Why a session was not refreshed, as an app sees it.

use thiserror::Error;

use crate::session::NoSession;

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
    NoSession(NoSession),
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
            RefreshError::AnswerSent => "response_already_sent",
            RefreshError::NoSession(reason) => reason.reason(),
            RefreshError::Failed { .. } => "refresh_failed",
            RefreshError::Claims { .. } => "claims",
        }
    }
}
