//! The public error of a refresh.

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
    /// The response headers were sent, and the session is kept in cookies: its new tokens would not reach the
    /// browser. The provider was not asked.
    #[error("the response headers were sent, and the session is kept in cookies")]
    ResponseSent,
    /// The session does not exist, or not any more.
    #[error(transparent)]
    NoSession(NoSession),
    /// The provider was unreachable or rejected the refresh; the session is unchanged.
    #[error("the session was not refreshed: {cause}")]
    Failed {
        /// What went wrong.
        cause: String,
    },
    /// The new claims do not deserialize to the app's type; the session was refreshed.
    #[error("the claims are not a `{expected}`")]
    Claims {
        /// The app's type.
        expected: &'static str,
    },
}

impl RefreshError {
    /// The reason code, as listed in the manual.
    pub fn reason(&self) -> &'static str {
        match self {
            RefreshError::NoRefreshToken => "no_refresh_token",
            RefreshError::ResponseSent => "response_already_sent",
            RefreshError::NoSession(reason) => reason.reason(),
            RefreshError::Failed { .. } => "refresh_failed",
            RefreshError::Claims { .. } => "claims",
        }
    }
}
