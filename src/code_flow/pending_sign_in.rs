//! What must survive, in the browser, until the authorization response comes.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::ReturnTo;
use crate::{Secret, secret};

/// How long a person may take at the provider.
pub(crate) const LIFE: Duration = Duration::from_secs(10 * 60);

/// How much of the `state` names the attempt's cookie. The rest stays secret.
const ATTEMPT_LENGTH: usize = 8;

/// One attempt to sign in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PendingSignIn {
    /// Binds the response to this browser (RFC 6749 §10.12).
    #[serde(with = "secret::text")]
    pub state: Secret,
    /// Binds the ID token to this attempt (OpenID Connect Core 1.0 §15.5.2).
    #[serde(with = "secret::text")]
    pub nonce: Secret,
    /// RFC 7636 §4.1.
    #[serde(with = "secret::text")]
    pub code_verifier: Secret,
    /// Where the browser goes afterwards.
    pub return_to: ReturnTo,
    /// The provider that was asked.
    pub issuer: String,
    /// When this attempt ends, in seconds since 1970.
    pub expires: i64,
}

impl PendingSignIn {
    /// A new attempt, with fresh random values.
    pub(crate) fn new(issuer: &str, return_to: ReturnTo, now: OffsetDateTime) -> PendingSignIn {
        PendingSignIn {
            state: Secret::random(),
            nonce: Secret::random(),
            code_verifier: Secret::random(),
            return_to,
            issuer: issuer.to_owned(),
            expires: (now + LIFE).unix_timestamp(),
        }
    }

    /// The name of the attempt, which its cookie is called by.
    pub(crate) fn attempt(&self) -> &str {
        attempt_of(self.state.expose()).expect("our own states are 43 letters, digits, `-` and `_`")
    }

    pub(crate) fn is_over(&self, now: OffsetDateTime) -> bool {
        now.unix_timestamp() >= self.expires
    }
}

/// The name of the attempt that a `state` belongs to; `None` for what cannot be a state of ours.
pub(crate) fn attempt_of(state: &str) -> Option<&str> {
    state.get(..ATTEMPT_LENGTH).filter(|name| {
        name.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    })
}
