//! A sign-in that failed, as the app's own page or catcher shows it.

use rocket::http::Status;

use crate::relying_party::SignInError;

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
