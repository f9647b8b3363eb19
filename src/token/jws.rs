//! A compact JWS: parsing, header checks and signature verification, shared by all kinds of token.

use std::fmt;

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::{
    ExpectedIssuer, JsonError, KeySet, SigningAlgorithm,
    facts::{TokenFacts, TokenKind, reason_of},
    json::type_name,
    jwk::CandidateKey,
    parse_object, parse_strict_object,
};
use crate::printable::excerpt;
use crate::secret::Secret;

/// The maximum length of a token, in bytes. ID tokens with many groups reach tens of kilobytes.
pub(crate) const MAX_TOKEN: usize = 64 * 1024;

/// The maximum number of keys that are tried when several fit, which bounds the verifications per token.
const MAX_TRIES: usize = 5;

/// A compact JWS ([RFC 7515 §7.1]) with a parsed header and an unverified signature.
///
/// Keys in the header (`jwk`, `jku`, `x5u`, `x5c`) are never used.
///
/// [RFC 7515 §7.1]: https://www.rfc-editor.org/rfc/rfc7515#section-7.1
pub(crate) struct Jws<'a> {
    signing_input: &'a str,
    payload: Vec<u8>,
    signature: &'a str,
    algorithm: SigningAlgorithm,
    kid: Option<String>,
    typ: Option<String>,
    issuer: Option<ExpectedIssuer<'a>>,
}

/// The signature algorithms that a token may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AllowedAlgorithms<'a> {
    pub(crate) listed: &'a [SigningAlgorithm],
    /// Whether a key's own `alg` is allowed too, if it is asymmetric. The provider publishes it like its metadata,
    /// whose list may be for another use.
    pub(crate) allows_alg_of_key: bool,
}

impl<'a> AllowedAlgorithms<'a> {
    /// Only the listed algorithms.
    pub(crate) fn only(listed: &'a [SigningAlgorithm]) -> AllowedAlgorithms<'a> {
        AllowedAlgorithms {
            listed,
            allows_alg_of_key: false,
        }
    }
}

impl<'a> Jws<'a> {
    /// Parses a compact JWS.
    pub(crate) fn parse(compact: &'a str) -> Result<Jws<'a>, JwsError> {
        if compact.len() > MAX_TOKEN {
            return Err(JwsError::TooLong {
                max: MAX_TOKEN,
                actual: compact.len(),
            });
        }
        let Some([header, payload, signature]) = parts_of(compact) else {
            return Err(JwsError::Parts {
                actual: compact.split('.').count(),
            });
        };
        let signing_input = &compact[..header.len() + 1 + payload.len()];

        let Header { algorithm, kid, typ } = Header::parse(&decode("header", header)?)?;
        Ok(Jws {
            signing_input,
            payload: decode("payload", payload)?,
            signature,
            algorithm,
            kid,
            typ,
            issuer: None,
        })
    }

    /// Rejects keys that are published for another issuer than the token's.
    pub(super) fn of_issuer(self, issuer: ExpectedIssuer<'a>) -> Jws<'a> {
        Jws {
            issuer: Some(issuer),
            ..self
        }
    }

    /// The `kid` of the header.
    pub(crate) fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The `typ` of the header.
    pub(crate) fn typ(&self) -> Option<&str> {
        self.typ.as_deref()
    }

    /// The `alg` of the header.
    pub(crate) fn algorithm(&self) -> SigningAlgorithm {
        self.algorithm
    }

    /// Verifies the signature, then parses the payload as a JSON object.
    pub(crate) fn verify(
        self,
        keys: &KeySet,
        allowed: &[SigningAlgorithm],
        client_secret: Option<&Secret>,
    ) -> Result<VerifiedJws, JwsError> {
        self.check_signature(keys, AllowedAlgorithms::only(allowed), client_secret, self.issuer)?;
        Ok(VerifiedJws {
            claims: self.unverified_claims()?,
            algorithm: self.algorithm,
            typ: self.typ,
            _made_by_verify: (),
        })
    }

    /// Parses the payload as a JSON object without authentication. Use it only to reject a token before the
    /// expensive signature check, and to select the keys of that check.
    pub(super) fn unverified_claims(&self) -> Result<Map<String, Value>, JwsError> {
        parse_object(&self.payload).map_err(JwsError::Payload)
    }

    /// Verifies the signature, with public keys of this issuer only.
    ///
    /// The keys and `allowed` determine which keys fit, never the token alone: a public key is never used as a MAC
    /// key, and HS256 needs both an entry in `allowed` and the client secret.
    pub(super) fn check_signature(
        &self,
        keys: &KeySet,
        allowed: AllowedAlgorithms<'_>,
        client_secret: Option<&Secret>,
        issuer: Option<ExpectedIssuer<'_>>,
    ) -> Result<(), JwsError> {
        self.check_algorithm(allowed)?;
        let signature = decode("signature", self.signature)?;
        if self.algorithm.is_symmetric() {
            self.verify_with_secret(&signature, client_secret)
        } else {
            self.verify_with_keys(&signature, keys, allowed.listed, issuer)
        }
    }

    /// Whether the algorithm is listed, or may be allowed by a key's own `alg`.
    pub(super) fn check_algorithm(&self, allowed: AllowedAlgorithms<'_>) -> Result<(), JwsError> {
        let may_be_named = allowed.allows_alg_of_key && !self.algorithm.is_symmetric();
        if may_be_named || allowed.listed.contains(&self.algorithm) {
            Ok(())
        } else {
            Err(self.algorithm_not_allowed(allowed.listed))
        }
    }

    /// <https://openid.net/specs/openid-connect-core-1_0.html#Signing> (§10.1, symmetric signatures)
    fn verify_with_secret(&self, signature: &[u8], client_secret: Option<&Secret>) -> Result<(), JwsError> {
        // Anyone can sign with an empty secret: it counts as absent.
        let secret = client_secret
            .map(|secret| secret.expose().as_bytes())
            .filter(|secret| !secret.is_empty())
            .ok_or(JwsError::MissingClientSecret {
                algorithm: self.algorithm,
            })?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        hmac::verify(&key, self.signing_input.as_bytes(), signature).map_err(|_| self.bad_signature())
    }

    fn verify_with_keys(
        &self,
        signature: &[u8],
        keys: &KeySet,
        listed: &[SigningAlgorithm],
        issuer: Option<ExpectedIssuer<'_>>,
    ) -> Result<(), JwsError> {
        if let Some(kid) = self.kid().filter(|kid| !keys.has_kid(kid)) {
            return Err(JwsError::UnknownKey { kid: excerpt(kid) });
        }
        // An algorithm that is not listed needs a key that names it.
        let is_listed = listed.contains(&self.algorithm);
        let mut candidates = keys.candidates(self.kid(), self.algorithm, !is_listed).peekable();
        if candidates.peek().is_none() {
            return Err(if is_listed {
                JwsError::NoFittingKey {
                    algorithm: self.algorithm,
                    kid: self.kid().map(excerpt),
                }
            } else {
                self.algorithm_not_allowed(listed)
            });
        }
        let message = self.signing_input.as_bytes();
        let verified = candidates
            .take(MAX_TRIES)
            .filter(|candidates| candidates.key.verify_sig(message, signature).is_ok());
        // Of several, one that is published for the token's issuer suffices.
        let mut refused = self.bad_signature();
        for CandidateKey { issuer: found, .. } in verified {
            match self.check_key_issuer(found, issuer) {
                Ok(()) => return Ok(()),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    fn check_key_issuer(&self, found: Option<&str>, issuer: Option<ExpectedIssuer<'_>>) -> Result<(), JwsError> {
        let (Some(found), Some(issuer)) = (found, issuer) else {
            return Ok(());
        };
        if !issuer.is_template() {
            return Ok(());
        }
        let claims = self.unverified_claims()?;
        let iss = claims.get("iss").and_then(Value::as_str);
        let iss = iss.unwrap_or_default();
        if issuer.is_signed_by(Some(found), iss) {
            Ok(())
        } else {
            Err(JwsError::KeyIssuer {
                expected: excerpt(iss),
                actual: excerpt(found),
            })
        }
    }

    fn algorithm_not_allowed(&self, listed: &[SigningAlgorithm]) -> JwsError {
        JwsError::AlgorithmNotAllowed {
            expected: listed.to_vec(),
            actual: self.algorithm,
        }
    }

    fn bad_signature(&self) -> JwsError {
        JwsError::BadSignature {
            algorithm: self.algorithm,
            kid: self.kid().map(excerpt),
        }
    }
}

// Omits payload and signature: with the header they would be the token.
impl fmt::Debug for Jws<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jws")
            .field("algorithm", &self.algorithm)
            .field("kid", &self.kid)
            .field("typ", &self.typ)
            .finish_non_exhaustive()
    }
}

/// The claims of a JWS with a verified signature. Only [`Jws::verify`] makes one.
#[derive(Debug)]
pub(crate) struct VerifiedJws {
    pub(crate) claims: Map<String, Value>,
    pub(crate) algorithm: SigningAlgorithm,
    pub(crate) typ: Option<String>,
    _made_by_verify: (),
}

/// The error of a token that is not an acceptable JWS.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JwsError {
    /// It is longer than the maximum.
    #[error("the token has {actual} bytes, more than {max}")]
    TooLong {
        /// The maximum length.
        max: usize,
        /// The length of the token.
        actual: usize,
    },
    /// It does not have three parts. Five parts are an encrypted token.
    #[error("expected a signed JWT of 3 parts, found {actual}")]
    Parts {
        /// How many parts it has.
        actual: usize,
    },
    /// A part is not base64url without padding.
    #[error("the {part} of the token is not base64url without padding")]
    Base64 {
        /// `header`, `payload` or `signature`.
        part: &'static str,
    },
    /// The header is not a JSON object.
    #[error("the header of the token cannot be parsed: {0}")]
    Header(#[source] JsonError),
    /// A member of the header is of another type.
    #[error("the header member {member:?} of the token is {actual}, not a string")]
    HeaderMember {
        /// The name of the member.
        member: &'static str,
        /// The type of the value that was found.
        actual: &'static str,
    },
    /// The header requires extensions by `crit`; none is supported.
    #[error("the token requires header extensions (\"crit\"), of which none is supported")]
    CriticalExtension,
    /// The header has no `alg`.
    #[error("the header of the token has no \"alg\"")]
    MissingAlgorithm,
    /// The header names an algorithm that is never accepted, such as `none`.
    #[error("the token is signed with {actual:?}, which is never accepted")]
    UnknownAlgorithm {
        /// The algorithm of the token, truncated if it is long.
        actual: String,
    },
    /// The header names an algorithm that is not allowed here.
    #[error("the token is signed with {actual}, expected {}", listed(expected))]
    AlgorithmNotAllowed {
        /// The allowed algorithms.
        expected: Vec<SigningAlgorithm>,
        /// The algorithm of the token.
        actual: SigningAlgorithm,
    },
    /// The signature is made with the client secret, and there is none.
    #[error("the token is signed with {algorithm}, and there is no client secret to verify it with")]
    MissingClientSecret {
        /// The algorithm of the token.
        algorithm: SigningAlgorithm,
    },
    /// The provider's key set has no usable key with that `kid`. The key may be new.
    #[error("the provider's key set has no usable key {kid:?}")]
    UnknownKey {
        /// The `kid` of the token, truncated if it is long.
        kid: String,
    },
    /// No key of the provider's key set may verify this algorithm.
    #[error(
        "the provider's key set has no key for {algorithm}{}",
        kid.as_ref().map(|kid| format!(" named {kid:?}")).unwrap_or_default()
    )]
    NoFittingKey {
        /// The algorithm of the token.
        algorithm: SigningAlgorithm,
        /// The `kid` of the token, truncated if it is long.
        kid: Option<String>,
    },
    /// The signature does not verify.
    #[error("the {algorithm} signature of the token is wrong")]
    BadSignature {
        /// The algorithm of the token.
        algorithm: SigningAlgorithm,
        /// The `kid` of the token, truncated if it is long.
        kid: Option<String>,
    },
    /// The key that signed it is published for another issuer.
    #[error("the token is issued by {expected:?}, and signed by a key of {actual:?}")]
    KeyIssuer {
        /// The `iss` of the token.
        expected: String,
        /// The `issuer` of the key.
        actual: String,
    },
    /// The payload is not a JSON object.
    #[error("the payload of the token cannot be parsed: {0}")]
    Payload(#[source] JsonError),
}

impl JwsError {
    /// The reason code and remedy, for this kind of token.
    pub(super) fn facts(&self, kind: TokenKind) -> TokenFacts {
        const REPORT: &str = "report this to the provider: its token is not a well-formed signed JWT";
        match self {
            JwsError::TooLong { .. } => TokenFacts::new(
                reason_of!(kind, "too_long"),
                "have the provider put fewer claims into the token; UserInfo can carry the rest",
            ),
            JwsError::Parts { .. } => TokenFacts::new(
                reason_of!(kind, "malformed"),
                "have the provider send signed tokens that are not encrypted for this client",
            ),
            JwsError::Base64 { .. } | JwsError::Header(_) | JwsError::HeaderMember { .. } | JwsError::Payload(_) => {
                TokenFacts::new(reason_of!(kind, "malformed"), REPORT)
            }
            JwsError::CriticalExtension => TokenFacts::new(reason_of!(kind, "crit"), REPORT),
            JwsError::MissingAlgorithm => TokenFacts::new(reason_of!(kind, "alg"), REPORT),
            JwsError::UnknownAlgorithm { .. } => TokenFacts::new(
                reason_of!(kind, "alg"),
                "have the provider sign with RS256, ES256 or another algorithm that is supported",
            ),
            JwsError::AlgorithmNotAllowed { .. } => TokenFacts::new(
                reason_of!(kind, "alg"),
                "have the provider sign with an expected algorithm for this client, or set `id_token_signing_algs`",
            ),
            JwsError::MissingClientSecret { .. } => TokenFacts::new(
                reason_of!(kind, "alg"),
                "set `client_secret`, or have the provider sign with a public key algorithm",
            ),
            JwsError::UnknownKey { .. } | JwsError::NoFittingKey { .. } => TokenFacts::new(
                reason_of!(kind, "unknown_key"),
                "check that the provider publishes its signing keys at its `jwks_uri`, and see the log for keys that were skipped",
            ),
            JwsError::BadSignature { algorithm, .. } if algorithm.is_symmetric() => TokenFacts::new(
                reason_of!(kind, "signature"),
                "check that `client_secret` is the one the provider signs with",
            ),
            JwsError::BadSignature { .. } => TokenFacts::new(
                reason_of!(kind, "signature"),
                "refuse the token; if it came from the provider itself, check that its `jwks_uri` shows its current keys",
            ),
            JwsError::KeyIssuer { .. } => TokenFacts::new(
                reason_of!(kind, "key_issuer"),
                "refuse the token; if it came from the provider itself, check that its `jwks_uri` is the one of its metadata",
            ),
        }
    }

    /// How the cached keys may be stale, if newer ones could make the token valid.
    pub(crate) fn wants_fresh_keys(&self) -> Option<StaleKeys> {
        match self {
            JwsError::UnknownKey { .. } | JwsError::NoFittingKey { .. } => Some(StaleKeys::Missing),
            JwsError::BadSignature { algorithm, .. } if algorithm.is_symmetric() => None,
            // Without a `kid`, a signature by a new key looks like an invalid one.
            JwsError::BadSignature { kid: None, .. } => Some(StaleKeys::Missing),
            JwsError::BadSignature { .. } => Some(StaleKeys::Replaced),
            _ => None,
        }
    }
}

/// How the cached keys may be stale, when they rejected a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StaleKeys {
    /// The key may be new.
    Missing,
    /// A key with that `kid` exists, and the signature does not verify with it: the provider may have replaced the
    /// key under the same `kid`, or the token is forged.
    Replaced,
}

/// Splits a token into header, payload and signature in base64url; `None` unless there are exactly three parts.
pub(crate) fn parts_of(compact: &str) -> Option<[&str; 3]> {
    let mut dots = memchr::memchr_iter(b'.', compact.as_bytes());
    match (dots.next(), dots.next(), dots.next()) {
        (Some(first), Some(second), None) => {
            Some([&compact[..first], &compact[first + 1..second], &compact[second + 1..]])
        }
        _ => None,
    }
}

pub(super) fn decode(part: &'static str, text: &str) -> Result<Vec<u8>, JwsError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| JwsError::Base64 { part })
}

/// The header members that are used.
#[derive(Debug, PartialEq)]
struct Header {
    algorithm: SigningAlgorithm,
    kid: Option<String>,
    typ: Option<String>,
}

impl Header {
    fn parse(json: &[u8]) -> Result<Header, JwsError> {
        let header = parse_strict_object(json).map_err(JwsError::Header)?;
        // A recipient must reject a token with an extension that it does not support, and none is supported, `b64`
        // included. <https://www.rfc-editor.org/rfc/rfc7515#section-4.1.11>
        if header.contains_key("crit") {
            return Err(JwsError::CriticalExtension);
        }
        let algorithm = match header_str(&header, "alg")? {
            Some(alg) => alg
                .parse()
                .map_err(|_| JwsError::UnknownAlgorithm { actual: excerpt(alg) })?,
            None => return Err(JwsError::MissingAlgorithm),
        };
        Ok(Header {
            algorithm,
            kid: header_str(&header, "kid")?.map(str::to_owned),
            typ: header_str(&header, "typ")?.map(str::to_owned),
        })
    }
}

fn header_str<'a>(header: &'a Map<String, Value>, member: &'static str) -> Result<Option<&'a str>, JwsError> {
    match header.get(member) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(JwsError::HeaderMember {
            member,
            actual: type_name(other),
        }),
    }
}

fn listed(algorithms: &[SigningAlgorithm]) -> String {
    let names: Vec<_> = algorithms.iter().map(|alg| alg.as_str()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests;
