//! The DPoP proof: a JWT by which the sender of a request proves to have the key of the access token.

use std::time::Duration;

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::{
    ClaimError, JsonError, SigningAlgorithm, TargetUri,
    checks::{optional_seconds, optional_string, seconds, since_1970, string},
    facts::TokenFacts,
    json::type_name,
    jwk::{HeaderKey, SkipReason},
    jws::decode,
    parse_strict_object, parts_of,
};
use crate::printable::excerpt;

/// The maximum length of a proof, in bytes. One by an RSA key of 8192 bits has about 4,500.
const MAX_PROOF: usize = 8 * 1024;
/// How far the clock of a client may be ahead, in seconds.
pub(crate) const MAX_AHEAD: f64 = 10.0;

/// The expected values that a proof is checked against.
pub(crate) struct ProofExpectations<'a> {
    /// The method of the request.
    pub(crate) method: &'a str,
    /// The public URIs of the request: usually one. An API may have a host of its own beside that of the app.
    pub(crate) targets: &'a [TargetUri],
    /// The [`token_hash`] of the access token of the request; `None` for a request of tokens.
    pub(crate) token_hash: Option<&'a str>,
    /// How old a proof may be.
    pub(crate) max_age: Duration,
    /// Whether the nonce of a proof is one of ours; `None` if none is required.
    pub(crate) accepts_nonce: Option<&'a (dyn Fn(&str) -> bool + Sync)>,
}

/// A parsed proof whose signature is not verified. It can be rejected, but not accepted.
pub(crate) struct UnverifiedProof<'a> {
    signing_input: &'a str,
    signature: &'a str,
    algorithm: SigningAlgorithm,
    key: HeaderKey,
    claims: Map<String, Value>,
}

/// A verified proof. Only [`UnverifiedProof::accept`] makes one.
#[derive(Debug)]
pub(crate) struct DpopProof {
    /// The thumbprint of its key.
    pub(crate) thumbprint: String,
    pub(crate) jti: String,
    /// The first second, since 1970, at which it is not accepted any more.
    pub(crate) ends: i64,
}

impl<'a> UnverifiedProof<'a> {
    /// Parses a proof and checks its header
    /// ([RFC 9449 §4.3](https://www.rfc-editor.org/rfc/rfc9449#section-4.3), steps 2 to 6 and 7 of the key).
    pub(crate) fn parse(compact: &'a str) -> Result<UnverifiedProof<'a>, DpopProofError> {
        if compact.len() > MAX_PROOF {
            return Err(DpopProofError::TooLong {
                max: MAX_PROOF,
                actual: compact.len(),
            });
        }
        let Some([header, payload, signature]) = parts_of(compact) else {
            return Err(DpopProofError::Parts {
                actual: compact.split('.').count(),
            });
        };
        let object = |part, text| {
            let json = decode(part, text).map_err(|_| DpopProofError::Base64 { part })?;
            parse_strict_object(&json).map_err(|cause| DpopProofError::Json { part, cause })
        };
        let members = object("header", header)?;
        if members.contains_key("crit") {
            return Err(DpopProofError::CriticalExtension);
        }
        match members.get("typ") {
            Some(Value::String(typ)) if typ == "dpop+jwt" => {}
            typ => {
                return Err(DpopProofError::Type { actual: typ.map(shown) });
            }
        }
        let algorithm = match members.get("alg") {
            Some(Value::String(alg)) => alg.parse::<SigningAlgorithm>().ok(),
            _ => None,
        };
        let Some(algorithm) = algorithm.filter(|algorithm| !algorithm.is_symmetric()) else {
            return Err(DpopProofError::Algorithm {
                actual: members.get("alg").map(shown),
            });
        };
        let jwk = members.get("jwk").ok_or(SkipReason::Missing { member: "jwk" });
        let key = jwk.and_then(|jwk| HeaderKey::parse(jwk, algorithm));
        Ok(UnverifiedProof {
            signing_input: &compact[..header.len() + 1 + payload.len()],
            signature,
            algorithm,
            key: key.map_err(DpopProofError::Key)?,
            claims: object("payload", payload)?,
        })
    }

    /// The thumbprint of the key that it names, without evidence that the sender has it: to reject a proof before the
    /// signature is verified, which costs more.
    pub(crate) fn thumbprint(&self) -> &str {
        self.key.thumbprint()
    }

    /// Checks the claims, then the signature ([RFC 9449 §4.3](https://www.rfc-editor.org/rfc/rfc9449#section-4.3), steps 3
    /// and 7 to 12). Whether its `jti` was used before is for the caller to check.
    pub(crate) fn accept(
        self,
        expected: &ProofExpectations<'_>,
        now: OffsetDateTime,
    ) -> Result<DpopProof, DpopProofError> {
        let (claims, now) = (&self.claims, since_1970(now));
        let jti = string(claims, "jti")?;
        if jti.is_empty() {
            return Err(ClaimError::Missing { claim: "jti" }.into());
        }
        let htm = string(claims, "htm")?;
        if htm != expected.method {
            return Err(DpopProofError::Method {
                expected: expected.method.to_owned(),
                actual: excerpt(htm),
            });
        }
        let htu = string(claims, "htu")?;
        let target = TargetUri::parse(htu);
        if target.as_ref().is_none_or(|target| !expected.targets.contains(target)) {
            return Err(DpopProofError::Target {
                expected: expected.targets.first().map(|target| excerpt(target.as_str())),
                actual: target.map(|target| excerpt(target.as_str())),
            });
        }
        let iat = seconds(claims, "iat")?;
        if iat > now + MAX_AHEAD {
            return Err(DpopProofError::InTheFuture {
                iat: iat as i64,
                now: now as i64,
            });
        }
        let end = iat + expected.max_age.as_secs_f64();
        if now > end {
            return Err(DpopProofError::TooOld {
                iat: iat as i64,
                now: now as i64,
                max_age: expected.max_age,
            });
        }
        // RFC 7519 §4.1.4 and §4.1.5, for a client that sends them.
        let has_expired = optional_seconds(claims, "exp")?.is_some_and(|exp| exp <= now);
        let is_early = optional_seconds(claims, "nbf")?.is_some_and(|nbf| nbf > now + MAX_AHEAD);
        if has_expired || is_early {
            return Err(DpopProofError::Times);
        }
        if let Some(token_hash) = expected.token_hash
            && string(claims, "ath")? != token_hash
        {
            return Err(DpopProofError::TokenHash);
        }
        if let Some(accepts) = expected.accepts_nonce {
            match optional_string(claims, "nonce")? {
                None => return Err(DpopProofError::NoNonce),
                Some(nonce) if !accepts(nonce) => return Err(DpopProofError::StaleNonce),
                Some(_) => {}
            }
        }
        let jti = jti.to_owned();
        self.check_signature()?;
        Ok(DpopProof {
            thumbprint: self.key.thumbprint().to_owned(),
            jti,
            ends: end.floor() as i64 + 1,
        })
    }

    fn check_signature(&self) -> Result<(), DpopProofError> {
        let part = "signature";
        let signature = decode(part, self.signature).map_err(|_| DpopProofError::Base64 { part })?;
        let key = self.key.verifier().map_err(DpopProofError::Key)?;
        key.verify_sig(self.signing_input.as_bytes(), &signature)
            .map_err(|_| DpopProofError::Signature {
                algorithm: self.algorithm,
            })
    }
}

/// The `ath` of the proofs for an access token ([RFC 9449 §4.2](https://www.rfc-editor.org/rfc/rfc9449#section-4.2)).
pub(crate) fn token_hash(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, token.as_bytes()))
}

/// A header member of a proof, for an error.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => excerpt(text),
        other => type_name(other).to_owned(),
    }
}

fn found(value: Option<&String>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| format!("{value:?}"))
}

/// The error of a rejected proof, for the log. The API client gets [`description`](Self::description).
///
/// No variant holds the proof or the token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DpopProofError {
    /// The request has no proof.
    #[error("the request has no header DPoP")]
    Missing,
    /// The request has more than one proof.
    #[error("the request has more than one header DPoP")]
    Several,
    /// It is longer than the maximum.
    #[error("the proof has {actual} bytes, more than {max}")]
    TooLong {
        /// The maximum length.
        max: usize,
        /// The length of the proof.
        actual: usize,
    },
    /// It does not have three parts.
    #[error("expected a proof of 3 parts, found {actual}")]
    Parts {
        /// How many parts it has.
        actual: usize,
    },
    /// A part is not base64url without padding.
    #[error("the {part} of the proof is not base64url without padding")]
    Base64 {
        /// `header`, `payload` or `signature`.
        part: &'static str,
    },
    /// A part is not a JSON object.
    #[error("the {part} of the proof cannot be parsed: {cause}")]
    Json {
        /// `header` or `payload`.
        part: &'static str,
        #[source]
        cause: JsonError,
    },
    /// The header requires extensions by `crit`.
    #[error("the proof requires header extensions (\"crit\"), of which none is supported")]
    CriticalExtension,
    /// `typ` is not `dpop+jwt`.
    #[error("the proof is of type {}, expected \"dpop+jwt\"", found(actual.as_ref()))]
    Type {
        /// The `typ` of the header, truncated if it is long.
        actual: Option<String>,
    },
    /// `alg` is not that of an asymmetric signature that is supported.
    #[error("the proof has the algorithm {}, which is not accepted", found(actual.as_ref()))]
    Algorithm {
        /// The `alg` of the header, truncated if it is long.
        actual: Option<String>,
    },
    /// The `jwk` of the header is absent or not usable.
    #[error("the key of the proof is not usable: {0}")]
    Key(SkipReason),
    /// A claim is absent or of another type.
    #[error("the proof is not complete: {0}")]
    Claim(#[from] ClaimError),
    /// It is for another method.
    #[error("the proof is for the method {actual:?}, expected {expected:?}")]
    Method {
        /// The method of the request.
        expected: String,
        /// `htm`, truncated if it is long.
        actual: String,
    },
    /// It is for another URI.
    #[error("the proof is for {}, expected {}", found(actual.as_ref()), found(expected.as_ref()))]
    Target {
        /// The public URI of the request, truncated if it is long.
        expected: Option<String>,
        /// `htu` without query and fragment, truncated if it is long; `None` if it is not an absolute URI.
        actual: Option<String>,
    },
    /// `iat` is in the future.
    #[error("the proof was made at {iat}, it is only {now} now (seconds since 1970)")]
    InTheFuture {
        /// `iat`.
        iat: i64,
        /// The time it was checked at.
        now: i64,
    },
    /// `iat` is too long ago.
    #[error("the proof was made at {iat}, it is now {now} (seconds since 1970), more than {max_age:?} later")]
    TooOld {
        /// `iat`.
        iat: i64,
        /// The time it was checked at.
        now: i64,
        /// The setting `dpop_max_age`.
        max_age: Duration,
    },
    /// It has `exp` or `nbf`, and is not valid now.
    #[error("the proof is not valid now, by its \"exp\" or \"nbf\"")]
    Times,
    /// It is for another token.
    #[error("the \"ath\" of the proof is not that of the token")]
    TokenHash,
    /// It has no nonce, and one is required.
    #[error("the proof has no nonce")]
    NoNonce,
    /// Its nonce is not one of ours, or has expired.
    #[error("the nonce of the proof has expired, or was not issued here")]
    StaleNonce,
    /// The signature does not verify.
    #[error("the {algorithm} signature of the proof is wrong")]
    Signature {
        /// The algorithm of the proof.
        algorithm: SigningAlgorithm,
    },
    /// Its `jti` was used before.
    #[error("the proof was used before")]
    Replayed,
}

impl DpopProofError {
    /// The reason code and remedy.
    pub(crate) fn facts(&self) -> TokenFacts {
        match self {
            DpopProofError::Missing => TokenFacts::new("dpop_proof_missing", "send a proof in the header `DPoP`"),
            DpopProofError::Several => TokenFacts::new("dpop_proof_malformed", "send one header `DPoP` with one proof"),
            DpopProofError::TooLong { .. } => TokenFacts::new(
                "dpop_proof_malformed",
                "send the claims that RFC 9449 has, and no others",
            ),
            DpopProofError::Parts { .. }
            | DpopProofError::Base64 { .. }
            | DpopProofError::Json { .. }
            | DpopProofError::CriticalExtension => TokenFacts::new(
                "dpop_proof_malformed",
                "send a proof that is a signed JWT, as in RFC 9449 §4",
            ),
            DpopProofError::Type { .. } => {
                TokenFacts::new("dpop_proof_type", "set the `typ` of the proof to `dpop+jwt`")
            }
            DpopProofError::Algorithm { .. } => TokenFacts::new(
                "dpop_proof_alg",
                "sign the proof with one of the `algs` of the challenge",
            ),
            DpopProofError::Key(_) => TokenFacts::new(
                "dpop_proof_key",
                "put the public key alone into the `jwk` of the header: RSA from 2048 bits, P-256, P-384, P-521 or Ed25519",
            ),
            DpopProofError::Claim(_) => TokenFacts::new(
                "dpop_proof_claims",
                "put `jti`, `htm`, `htu`, `iat` and `ath` into the proof",
            ),
            DpopProofError::Method { .. } => TokenFacts::new(
                "dpop_proof_htm",
                "make a proof for each request, with its method in `htm`",
            ),
            DpopProofError::Target { .. } => TokenFacts::new(
                "dpop_proof_htu",
                "check that `base_url` is the public URL of the app; have the client put the URL that it requests into `htu`",
            ),
            DpopProofError::InTheFuture { .. } | DpopProofError::TooOld { .. } | DpopProofError::Times => {
                TokenFacts::new(
                    "dpop_proof_iat",
                    "make a proof for each request; synchronise the clocks of this machine and of the client, or raise `dpop_max_age`",
                )
            }
            DpopProofError::TokenHash => TokenFacts::new(
                "dpop_proof_ath",
                "put the SHA-256 digest of the access token, in base64url, into `ath`",
            ),
            DpopProofError::NoNonce | DpopProofError::StaleNonce => TokenFacts::new(
                "dpop_proof_nonce",
                "repeat the request with a new proof that has the value of the header `DPoP-Nonce` as its `nonce`",
            ),
            DpopProofError::Signature { .. } => TokenFacts::new(
                "dpop_proof_signature",
                "sign the proof with the private key of the `jwk` in its header",
            ),
            DpopProofError::Replayed => TokenFacts::new(
                "dpop_proof_replayed",
                "make a proof for each request, with a random `jti`; a request that is repeated needs a new one",
            ),
        }
    }

    /// The error code for the API client (RFC 9449 §7.1 and §9).
    pub(crate) fn code(&self) -> &'static str {
        match self {
            DpopProofError::NoNonce | DpopProofError::StaleNonce => "use_dpop_nonce",
            _ => "invalid_dpop_proof",
        }
    }

    /// The `error_description` for the API client: which check failed, without values of the proof or the settings.
    pub(crate) fn description(&self) -> &'static str {
        match self {
            DpopProofError::Missing => "the request has no proof",
            DpopProofError::Several => "the request has more than one proof",
            DpopProofError::TooLong { .. } => "the proof is too long",
            DpopProofError::Parts { .. }
            | DpopProofError::Base64 { .. }
            | DpopProofError::Json { .. }
            | DpopProofError::CriticalExtension => "the proof is not a well-formed signed JWT",
            DpopProofError::Type { .. } => "the typ of the proof is not dpop+jwt",
            DpopProofError::Algorithm { .. } => "the proof is signed with an algorithm that is not accepted",
            DpopProofError::Key(_) => "the jwk of the proof is not an accepted public key",
            DpopProofError::Claim(_) => "a claim of the proof is missing or of the wrong type",
            DpopProofError::Method { .. } => "the proof is for another method",
            DpopProofError::Target { .. } => "the proof is for another URI",
            DpopProofError::InTheFuture { .. } | DpopProofError::Times => "the proof is not valid now",
            DpopProofError::TooOld { .. } => "the proof is too old",
            DpopProofError::TokenHash => "the proof is for another token",
            DpopProofError::NoNonce => "a nonce is required in the proof",
            DpopProofError::StaleNonce => "the nonce of the proof is not valid any more",
            DpopProofError::Signature { .. } => "the signature of the proof is wrong",
            DpopProofError::Replayed => "the proof was used before",
        }
    }
}

#[cfg(test)]
mod tests;
