//! Who a user is: provider, issuer and subject.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::settings::ONLY_PROVIDER;

/// Who a user is, from [`User::key`](crate::User::key): the provider's name in the settings, the issuer and `sub`. An
/// app keeps its own data about a user under this key, never under an e-mail address (OpenID Connect Core 1.0 §5.7).
///
/// As a text, `to_string()` and `parse()`, it has the three parts separated by spaces, which neither a name nor an
/// issuer contains:
///
/// ```
/// use rocket_openidconnect::UserKey;
///
/// let key = UserKey::new("google", "https://accounts.google.com", "1056");
/// assert_eq!(key.to_string(), "google https://accounts.google.com 1056");
/// assert_eq!("google https://accounts.google.com 1056".parse(), Ok(key));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UserKey {
    provider: String,
    issuer: String,
    subject: String,
}

/// A text is not a [`UserKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("expected provider, issuer and subject, separated by spaces")]
#[non_exhaustive]
pub struct InvalidUserKey;

impl UserKey {
    /// The user with this `sub` of this issuer, at the provider with this name: that of its table in
    /// `oidc.providers`, or `default` in an app with one provider.
    pub fn new(provider: &str, issuer: &str, subject: &str) -> UserKey {
        UserKey {
            provider: provider.to_owned(),
            issuer: issuer.to_owned(),
            subject: subject.to_owned(),
        }
    }

    /// The same, of the only provider of an app.
    pub fn of_only_provider(issuer: &str, subject: &str) -> UserKey {
        UserKey::new(ONLY_PROVIDER, issuer, subject)
    }

    /// The provider's name in the settings.
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// The issuer; with a template (`tenants`), that of the user's tenant.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// `sub`: unique within the issuer.
    pub fn subject(&self) -> &str {
        &self.subject
    }
}

impl fmt::Display for UserKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.provider, self.issuer, self.subject)
    }
}

impl FromStr for UserKey {
    type Err = InvalidUserKey;

    fn from_str(text: &str) -> Result<UserKey, InvalidUserKey> {
        let mut parts = text.splitn(3, ' ');
        let mut part = || parts.next().filter(|part| !part.is_empty()).ok_or(InvalidUserKey);
        Ok(UserKey::new(part()?, part()?, part()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_same_after_its_text() {
        for subject in ["alice", "a b", " ", "é ~|", "google https://op.example x"] {
            let key = UserKey::new("a-b_1", "https://op.example/t", subject);
            assert_eq!(key.to_string().parse(), Ok(key));
        }
        for text in ["", "a", "a b", "a  b", " a b", "a b "] {
            assert_eq!(text.parse::<UserKey>(), Err(InvalidUserKey), "{text:?}");
        }
    }
}
