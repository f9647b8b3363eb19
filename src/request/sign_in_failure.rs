//! A failed sign-in, as the app's error page or catcher sees it.

use rocket::http::Status;

use crate::relying_party::SignInError;

/// A failed sign-in: its error, and what the error page shows.
///
/// [`Oidc::error_page`](crate::Oidc::error_page) receives it; a catcher gets it from [`of`](Self::of).
#[derive(Debug)]
#[non_exhaustive]
pub struct SignInFailure {
    /// The cause. For the log: it is not localised, and may name settings.
    pub error: SignInError,
    /// The error id: eight letters and digits, which the log has too.
    pub id: String,
    /// The text of the default page for the user, in English: a sentence or two, without details.
    pub explanation: String,
    /// The URL that starts a new attempt, with the page that the user requested.
    pub try_again: String,
}

impl SignInFailure {
    /// The status of the response.
    pub fn status(&self) -> Status {
        Status::from_code(self.error.status()).unwrap_or(Status::BadGateway)
    }

    /// The seconds to wait before another attempt (`Retry-After`), when the provider or the session store is
    /// down or too many sign-ins are in progress.
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
    fn too_many_sign_ins_have_a_retry_after() {
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
