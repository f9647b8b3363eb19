//! A sign-in that failed, as the app's own page or catcher shows it.

use rocket::{Request, http::Status};

use crate::{relying_party::SignInError, request::RequestState};

/// A sign-in that failed: what the person, the app and the log share.
///
/// [`Oidc::error_page`](crate::Oidc::error_page) is given one; a catcher finds it by [`of`](Self::of).
#[derive(Debug)]
#[non_exhaustive]
pub struct SignInFailure {
    /// Why. For the log: it is in nobody's language, and may name settings.
    pub error: SignInError,
    /// Eight letters and digits that the log has too.
    pub id: String,
    /// What the default page tells the person, in English: a sentence or two, without details.
    pub explanation: String,
    /// Where a further attempt begins, with the page that the person wanted.
    pub try_again: String,
}

impl SignInFailure {
    /// The failure that this request is answered with, if it is: for catchers, which have it when
    /// [`Oidc::error_page`](crate::Oidc::error_page) leaves the answer to them.
    ///
    /// ```
    /// use rocket::{Request, catch};
    /// use rocket_openidconnect::{BearerError, SignInFailure, SignedOut};
    ///
    /// #[catch(default)]
    /// fn sorry(status: rocket::http::Status, request: &Request<'_>) -> String {
    ///     if let Some(failure) = SignInFailure::of(request) {
    ///         format!("No sign-in ({}), error {}", failure.error.reason(), failure.id)
    ///     } else if let Some(signed_out) = SignedOut::of(request) {
    ///         format!("Please sign in: {signed_out}")
    ///     } else if let Some(error) = BearerError::of(request) {
    ///         format!("Please send another token: {error}")
    ///     } else {
    ///         status.to_string()
    ///     }
    /// }
    /// ```
    pub fn of<'r>(request: &'r Request<'_>) -> Option<&'r SignInFailure> {
        let failure = RequestState::left_by(request)?.sign_in.get()?;
        Some(failure)
    }

    /// The status of the answer.
    pub fn status(&self) -> Status {
        Status::from_code(self.error.status()).unwrap_or(Status::BadGateway)
    }

    /// How many seconds to wait before another attempt, while the provider or the session store is down, or
    /// too many people sign in.
    pub fn retry_after(&self) -> Option<u64> {
        let wait = match &self.error {
            SignInError::Provider(error) => error.retry_after()?,
            SignInError::TooManySignIns { retry_after } => *retry_after,
            SignInError::Store(_) => crate::session::store::RETRY_AFTER,
            _ => return None,
        };
        Some(wait.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn too_many_sign_ins_are_to_come_again() {
        let retry_after = Duration::from_secs(60);
        let error = SignInError::TooManySignIns { retry_after };
        let failure = SignInFailure {
            error,
            id: String::new(),
            explanation: String::new(),
            try_again: String::new(),
        };
        assert_eq!(failure.status(), Status::ServiceUnavailable);
        assert_eq!(failure.retry_after(), Some(60));
    }
}
