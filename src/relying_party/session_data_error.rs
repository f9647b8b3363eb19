//! The public error of a change of a session's data.

use thiserror::Error;

use crate::session::{NoSession, SessionTooLarge};

/// Why [`User::set_data`](crate::User::set_data) or [`RelyingParty::set_data`](crate::RelyingParty::set_data) did not
/// change the session's data.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum SessionDataError {
    /// The value is not JSON, such as a map with keys that are not strings.
    #[error("`{name}` does not serialize to JSON")]
    NotJson {
        /// The name of the value.
        name: String,
    },
    /// The response headers were sent, and the session is kept in cookies: the change would not reach the browser.
    #[error("the response headers were sent, and the session is kept in cookies")]
    ResponseSent,
    /// The session does not exist, or not any more; `Absent` also where sessions are kept in cookies and there is no
    /// request.
    #[error(transparent)]
    NoSession(NoSession),
    /// With this value the session does not fit into its cookies.
    #[error(transparent)]
    TooLarge(#[from] SessionTooLarge),
    /// The data was changed. The session was refreshed meanwhile, and its new claims do not deserialize to the app's type.
    #[error("the claims are not a `{expected}`")]
    Claims {
        /// The app's type.
        expected: &'static str,
    },
    /// The session store failed, or another request or node did not complete its change of the session in time.
    #[error("the session's data was not changed: {cause}")]
    Failed {
        /// What went wrong.
        cause: String,
    },
}

impl SessionDataError {
    /// The reason code, as listed in the manual.
    pub fn reason(&self) -> &'static str {
        match self {
            SessionDataError::NotJson { .. } => "not_json",
            SessionDataError::ResponseSent => "response_already_sent",
            SessionDataError::NoSession(reason) => reason.reason(),
            SessionDataError::TooLarge(_) => "session_too_large",
            SessionDataError::Claims { .. } => "claims",
            SessionDataError::Failed { .. } => "data_not_changed",
        }
    }
}
