//! A secret string that is redacted in `Debug` output.

use std::{fmt, sync::Arc};

use aws_lc_rs::constant_time::verify_slices_are_equal;

/// A secret string: a client secret, a token, a code verifier.
///
/// It has no `Display` and no `Serialize`; its `Debug` output is `Secret(…)`, whatever it holds. Two
/// secrets of the same length are compared in constant time.
///
/// ```
/// use rocket_openidconnect::Secret;
///
/// let secret = Secret::new("correct horse");
/// assert_eq!(format!("{secret:?}"), "Secret(…)");
/// assert_eq!(secret.expose(), "correct horse");
/// ```
#[derive(Clone)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps a string.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into().into())
    }

    /// The secret itself. Pass it only to its intended recipient.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The same string without a copy, as a cache key.
    pub(crate) fn shared(&self) -> Arc<str> {
        self.0.clone()
    }

    /// Generates a random secret: 256 bits from the system, as 43 characters of base64url.
    pub(crate) fn random() -> Secret {
        use base64::Engine;

        let mut bytes = [0; 32];
        aws_lc_rs::rand::fill(&mut bytes).expect("the system's random generator does not fail");
        Secret::new(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Secret) -> bool {
        verify_slices_are_equal(self.0.as_bytes(), other.0.as_bytes()).is_ok()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Serializes a secret as plain text, for payloads that are encrypted afterwards:
/// `#[serde(with = "secret::text")]`.
pub(crate) mod text {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Secret;

    pub(crate) fn serialize<S: Serializer>(secret: &Secret, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(secret.expose())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Secret, D::Error> {
        String::deserialize(d).map(Secret::new)
    }
}

/// As [`text`], for an optional secret.
pub(crate) mod optional_text {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Secret;

    pub(crate) fn serialize<S: Serializer>(secret: &Option<Secret>, s: S) -> Result<S::Ok, S::Error> {
        secret.as_ref().map(Secret::expose).serialize(s)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Secret>, D::Error> {
        Ok(Option::<String>::deserialize(d)?.map(Secret::new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_compare_by_content() {
        assert_eq!(Secret::new("a"), Secret::new("a"));
        assert_ne!(Secret::new("a"), Secret::new("b"));
        assert_ne!(Secret::new("a"), Secret::new("aa"));
    }

    #[test]
    fn random_secrets_are_long_and_differ() {
        assert_eq!(Secret::random().expose().len(), 43);
        assert_ne!(Secret::random(), Secret::random());
    }
}
