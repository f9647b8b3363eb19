//! A failed sign-in, as the app's page or catcher sees it.

use rocket::http::Status;
use serde::{Serialize, Serializer, ser::SerializeStruct};

use super::SignInFailureKind;
use crate::relying_party::SignInError;

/// A failed sign-in: its error, and what the error page shows.
///
/// [`Pages::sign_in_failed`](crate::Pages::sign_in_failed) receives it; a catcher gets it from [`of`](Self::of).
///
/// It serializes as the context of a template, with the fields `kind`, `reason` (the reason code), `status`, `id`,
/// `explanation`, `try_again` and `start_page`.
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
    /// The path of the app's start page in the browser.
    pub start_page: String,
}

impl SignInFailure {
    /// What the user can do about it: a page needs a text for each kind, not for each reason code.
    pub fn kind(&self) -> SignInFailureKind {
        SignInFailureKind::of(&self.error)
    }

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

/// Without the error itself, which is for the log.
impl Serialize for SignInFailure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("SignInFailure", 7)?;
        fields.serialize_field("kind", &self.kind())?;
        fields.serialize_field("reason", self.error.reason())?;
        fields.serialize_field("status", &self.status().code)?;
        fields.serialize_field("id", &self.id)?;
        fields.serialize_field("explanation", &self.explanation)?;
        fields.serialize_field("try_again", &self.try_again)?;
        fields.serialize_field("start_page", &self.start_page)?;
        fields.end()
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
            start_page: String::new(),
        };
        assert_eq!(failure.status(), Status::ServiceUnavailable);
        assert_eq!(failure.retry_after(), Some(60));
    }

    #[test]
    fn a_template_gets_the_reason_code_and_no_error() {
        let failure = SignInFailure {
            error: SignInError::AlreadyUsed,
            id: "a1b2c3d4".to_owned(),
            explanation: "Please sign in again.".to_owned(),
            try_again: "/oidc/login?next=%2F".to_owned(),
            start_page: "/".to_owned(),
        };
        let expected = serde_json::json!({
            "kind": "start_again",
            "reason": failure.error.reason(),
            "status": 400,
            "id": "a1b2c3d4",
            "explanation": "Please sign in again.",
            "try_again": "/oidc/login?next=%2F",
            "start_page": "/",
        });
        assert_eq!(serde_json::to_value(&failure).unwrap(), expected);
    }
}
