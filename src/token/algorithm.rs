//! The JWS signature algorithms that are supported; `none` is not a value of the type.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::printable::excerpt;

/// A JWS signature algorithm ([RFC 7518 §3.1], [RFC 8037 §3.1]).
///
/// Names are case-sensitive, as in the standard: `rs256` is not an algorithm. `none` cannot be expressed.
///
/// ```
/// use rocket_openidconnect::settings::SigningAlgorithm;
///
/// assert_eq!("ES256".parse(), Ok(SigningAlgorithm::ES256));
/// assert!("none".parse::<SigningAlgorithm>().is_err());
/// ```
///
/// [RFC 7518 §3.1]: https://www.rfc-editor.org/rfc/rfc7518#section-3.1
/// [RFC 8037 §3.1]: https://www.rfc-editor.org/rfc/rfc8037#section-3.1
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub enum SigningAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256, the default of OpenID Connect.
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RS512,
    /// RSASSA-PSS with SHA-256.
    PS256,
    /// RSASSA-PSS with SHA-384.
    PS384,
    /// RSASSA-PSS with SHA-512.
    PS512,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// ECDSA on P-521 with SHA-512.
    ES512,
    /// EdDSA on Ed25519. The newer name `Ed25519` ([RFC 9864]) parses as this.
    ///
    /// [RFC 9864]: https://www.rfc-editor.org/rfc/rfc9864
    EdDSA,
    /// HMAC with SHA-256, keyed with the client secret.
    HS256,
}

impl SigningAlgorithm {
    /// The algorithms whose signature is verified with a public key.
    pub(crate) const ASYMMETRIC: &'static [SigningAlgorithm] = &[
        SigningAlgorithm::RS256,
        SigningAlgorithm::RS384,
        SigningAlgorithm::RS512,
        SigningAlgorithm::PS256,
        SigningAlgorithm::PS384,
        SigningAlgorithm::PS512,
        SigningAlgorithm::ES256,
        SigningAlgorithm::ES384,
        SigningAlgorithm::ES512,
        SigningAlgorithm::EdDSA,
    ];

    /// Whether the key is a shared secret.
    pub fn is_symmetric(self) -> bool {
        matches!(self, SigningAlgorithm::HS256)
    }

    /// The name in the standard's spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            SigningAlgorithm::RS256 => "RS256",
            SigningAlgorithm::RS384 => "RS384",
            SigningAlgorithm::RS512 => "RS512",
            SigningAlgorithm::PS256 => "PS256",
            SigningAlgorithm::PS384 => "PS384",
            SigningAlgorithm::PS512 => "PS512",
            SigningAlgorithm::ES256 => "ES256",
            SigningAlgorithm::ES384 => "ES384",
            SigningAlgorithm::ES512 => "ES512",
            SigningAlgorithm::EdDSA => "EdDSA",
            SigningAlgorithm::HS256 => "HS256",
        }
    }

    /// The hash function of `at_hash` (Core §3.1.3.6). The standard names none for EdDSA; providers agreed on
    /// SHA-512, which Ed25519 itself uses.
    pub(crate) fn digest(self) -> &'static aws_lc_rs::digest::Algorithm {
        use aws_lc_rs::digest::{SHA256, SHA384, SHA512};
        match self {
            SigningAlgorithm::RS256 | SigningAlgorithm::PS256 | SigningAlgorithm::ES256 | SigningAlgorithm::HS256 => {
                &SHA256
            }
            SigningAlgorithm::RS384 | SigningAlgorithm::PS384 | SigningAlgorithm::ES384 => &SHA384,
            SigningAlgorithm::RS512 | SigningAlgorithm::PS512 | SigningAlgorithm::ES512 | SigningAlgorithm::EdDSA => {
                &SHA512
            }
        }
    }
}

/// The error of a name that is not a [`SigningAlgorithm`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a signature algorithm that this crate accepts")]
#[non_exhaustive]
pub struct UnknownAlgorithm {
    /// The name, truncated if it is long.
    pub name: String,
}

impl UnknownAlgorithm {
    /// How to fix it.
    pub fn remedy(&self) -> &'static str {
        "use one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA, HS256, spelled exactly so"
    }
}

impl FromStr for SigningAlgorithm {
    type Err = UnknownAlgorithm;

    fn from_str(name: &str) -> Result<SigningAlgorithm, UnknownAlgorithm> {
        let name = if name == "Ed25519" { "EdDSA" } else { name };
        let all = SigningAlgorithm::ASYMMETRIC.iter().chain(&[SigningAlgorithm::HS256]);
        let mut named = all.copied().filter(|algorithm| algorithm.as_str() == name);
        named.next().ok_or_else(|| UnknownAlgorithm { name: excerpt(name) })
    }
}

impl fmt::Display for SigningAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl<'de> Deserialize<'de> for SigningAlgorithm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SigningAlgorithm, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_algorithm_reads_its_own_name() {
        for &algorithm in SigningAlgorithm::ASYMMETRIC.iter().chain(&[SigningAlgorithm::HS256]) {
            assert_eq!(algorithm.to_string().parse(), Ok(algorithm));
            let json = serde_json::to_string(&algorithm).unwrap();
            assert_eq!(serde_json::from_str::<SigningAlgorithm>(&json).unwrap(), algorithm);
            assert_eq!(algorithm.is_symmetric(), algorithm.as_str() == "HS256");
        }
        assert_eq!("Ed25519".parse(), Ok(SigningAlgorithm::EdDSA));
    }

    #[test]
    fn none_and_other_spellings_are_not_algorithms() {
        for name in [
            "none", "None", "NONE", "nOnE", "", "rs256", "RS256 ", "HS384", "ES256K", "eddsa", "RS1",
        ] {
            assert_eq!(
                name.parse::<SigningAlgorithm>(),
                Err(UnknownAlgorithm { name: name.into() })
            );
        }
    }

    #[test]
    fn the_remedy_names_every_algorithm() {
        let remedy = "none".parse::<SigningAlgorithm>().unwrap_err().remedy();
        let names = remedy
            .strip_prefix("use one of ")
            .and_then(|names| names.strip_suffix(", spelled exactly so"));
        let all = SigningAlgorithm::ASYMMETRIC
            .iter()
            .chain(&[SigningAlgorithm::HS256])
            .map(|algorithm| algorithm.as_str());
        assert_eq!(names, Some(&*all.collect::<Vec<_>>().join(", ")));
    }
}
