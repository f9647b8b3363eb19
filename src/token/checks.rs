//! Checks of the claims that several kinds of token share.

use std::time::Duration;

use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::{
    facts::{TokenFacts, TokenKind, reason_of},
    json::type_name,
};
use crate::printable::excerpt;

/// The error of a claim that is absent, of another type, or of another value than expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClaimError {
    /// The `typ` of the header is that of another kind of token.
    #[error("the token is of type {actual:?}, which must not be used here")]
    TokenType {
        /// The `typ` of the header.
        actual: String,
    },
    /// A required claim is absent.
    #[error("the claim {claim:?} is missing")]
    Missing {
        /// The name of the claim.
        claim: &'static str,
    },
    /// A claim is of another type.
    #[error("the claim {claim:?} is {actual}, not {expected}")]
    WrongType {
        /// The name of the claim.
        claim: &'static str,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        actual: &'static str,
    },
    /// `iss` is another issuer.
    #[error("the token is issued by {actual:?}, expected {expected:?}")]
    Issuer {
        /// The issuer that is expected.
        expected: String,
        /// The `iss` of the token.
        actual: String,
    },
    /// The issuer is not the one of the token's tenant.
    #[error("the token is issued by {actual:?}, expected {expected:?} for its tenant (\"tid\")")]
    IssuerOfTenant {
        /// The issuer of the tenant that `tid` names.
        expected: String,
        /// The `iss` of the token.
        actual: String,
    },
    /// `tid` is not a tenant id.
    #[error("the tenant of the token is {actual:?} (\"tid\"), expected a GUID in lower case")]
    TenantId {
        /// The `tid` of the token.
        actual: String,
    },
    /// The setting `tenants` does not accept the token's tenant.
    #[error("the token is of the tenant {actual:?}, which `tenants` does not accept")]
    Tenant {
        /// The `tid` of the token.
        actual: String,
    },
    /// `aud` does not name this client.
    #[error("the token is meant for {actual:?}, expected {expected:?} among them")]
    Audience {
        /// The client id.
        expected: String,
        /// The `aud` of the token.
        actual: Vec<String>,
    },
    /// `aud` also names an audience that is not trusted.
    #[error("the token is also meant for {actual:?}, which is not a trusted audience")]
    UntrustedAudience {
        /// The audiences that are trusted besides the client itself.
        trusted: Vec<String>,
        /// The first audience that is not.
        actual: String,
    },
    /// The token has expired.
    #[error("the token expired at {exp}, it is now {now} (seconds since 1970)")]
    Expired {
        /// The `exp` of the token.
        exp: i64,
        /// The time it was checked at.
        now: i64,
    },
    /// `iat` is in the future.
    #[error("the token was issued at {iat}, it is only {now} now (seconds since 1970)")]
    IssuedInTheFuture {
        /// The `iat` of the token.
        iat: i64,
        /// The time it was checked at.
        now: i64,
    },
    /// The token is not valid yet (`nbf`).
    #[error("the token is valid from {nbf}, it is only {now} now (seconds since 1970)")]
    NotYetValid {
        /// The `nbf` of the token.
        nbf: i64,
        /// The time it was checked at.
        now: i64,
    },
    /// The subject is empty.
    #[error("the claim \"sub\" is empty")]
    EmptySubject,
}

impl ClaimError {
    /// The reason code and remedy, for this kind of token.
    pub(super) fn facts(&self, kind: TokenKind) -> TokenFacts {
        const CLOCKS: &str = "synchronise the clocks of this machine and of the provider, or raise `clock_skew`";
        const STANDARD: &str = "have the provider send the claim as its standard requires";
        match self {
            ClaimError::TokenType { .. } => TokenFacts::new(
                reason_of!(kind, "type"),
                "refuse the token; it was made for another purpose than the one it is used for",
            ),
            ClaimError::Issuer { .. } => TokenFacts::new(
                reason_of!(kind, "iss"),
                "set `issuer` to exactly what the provider's metadata calls `issuer`, with or without a trailing slash",
            ),
            ClaimError::IssuerOfTenant { .. } => TokenFacts::new(
                reason_of!(kind, "iss"),
                "refuse the token: `iss` and `tid` name different tenants",
            ),
            ClaimError::Tenant { .. } => TokenFacts::new(
                reason_of!(kind, "tenant"),
                "to accept users of that tenant, add its id to `tenants`",
            ),
            ClaimError::Audience { .. } => TokenFacts::new(
                reason_of!(kind, "aud"),
                "check that `client_id` is the id under which the provider knows this app",
            ),
            ClaimError::UntrustedAudience { .. } => TokenFacts::new(
                reason_of!(kind, "untrusted_aud"),
                "add the audience to `trusted_audiences` if its owner may use this app's tokens",
            ),
            ClaimError::Expired { .. } => TokenFacts::new(reason_of!(kind, "expired"), CLOCKS),
            ClaimError::IssuedInTheFuture { .. } | ClaimError::NotYetValid { .. } => {
                TokenFacts::new(reason_of!(kind, "not_yet_valid"), CLOCKS)
            }
            ClaimError::Missing { .. } => TokenFacts::new(reason_of!(kind, "claim_missing"), STANDARD),
            ClaimError::WrongType { .. } | ClaimError::TenantId { .. } | ClaimError::EmptySubject => {
                TokenFacts::new(reason_of!(kind, "claim_malformed"), STANDARD)
            }
        }
    }
}

/// A required string claim.
pub(super) fn string<'a>(claims: &'a Map<String, Value>, claim: &'static str) -> Result<&'a str, ClaimError> {
    optional_string(claims, claim)?.ok_or(ClaimError::Missing { claim })
}

/// An optional string claim.
pub(super) fn optional_string<'a>(
    claims: &'a Map<String, Value>,
    claim: &'static str,
) -> Result<Option<&'a str>, ClaimError> {
    match claims.get(claim) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(ClaimError::WrongType {
            claim,
            expected: "a string",
            actual: type_name(other),
        }),
    }
}

/// An optional string claim, of which an empty string counts as absent: no value of the claim is empty.
pub(super) fn optional_text<'a>(
    claims: &'a Map<String, Value>,
    claim: &'static str,
) -> Result<Option<&'a str>, ClaimError> {
    Ok(optional_string(claims, claim)?.filter(|text| !text.is_empty()))
}

/// A required claim in seconds since 1970. Floating point compares numbers of any size without overflow, and the
/// loss of microseconds does not matter.
pub(super) fn seconds(claims: &Map<String, Value>, claim: &'static str) -> Result<f64, ClaimError> {
    optional_seconds(claims, claim)?.ok_or(ClaimError::Missing { claim })
}

/// An optional claim in seconds since 1970. An empty string counts as absent.
pub(super) fn optional_seconds(claims: &Map<String, Value>, claim: &'static str) -> Result<Option<f64>, ClaimError> {
    let Some(value) = claims.get(claim).filter(|value| *value != "") else {
        return Ok(None);
    };
    match value.as_f64().filter(|seconds| seconds.is_finite()) {
        Some(seconds) => Ok(Some(seconds)),
        None => Err(ClaimError::WrongType {
            claim,
            expected: "a number",
            actual: type_name(value),
        }),
    }
}

/// A time in the form of [`seconds`].
pub(super) fn since_1970(now: OffsetDateTime) -> f64 {
    now.unix_timestamp_nanos() as f64 / 1e9
}

/// Rejects the `typ` of other tokens that the same keys sign.
/// <https://www.rfc-editor.org/rfc/rfc8725#section-3.11>
pub(super) fn check_typ(typ: Option<&str>) -> Result<(), ClaimError> {
    match typ {
        Some(typ) if is_media_type(typ, "at+jwt") || is_media_type(typ, "logout+jwt") => {
            Err(ClaimError::TokenType { actual: excerpt(typ) })
        }
        _ => Ok(()),
    }
}

/// Whether a `typ` is the media type `application/{name}`, whose prefix `application/` may be omitted.
/// <https://www.rfc-editor.org/rfc/rfc7515#section-4.1.9>
pub(super) fn is_media_type(typ: &str, name: &str) -> bool {
    const APPLICATION: &str = "application/";
    let short = match typ.get(..APPLICATION.len()) {
        Some(start) if start.eq_ignore_ascii_case(APPLICATION) => &typ[APPLICATION.len()..],
        _ => typ,
    };
    short.eq_ignore_ascii_case(name)
}

/// Compares `iss` character by character. <https://www.rfc-editor.org/rfc/rfc7519#section-4.1.1>
pub(super) fn check_iss(claims: &Map<String, Value>, issuer: &str) -> Result<(), ClaimError> {
    let actual = string(claims, "iss")?;
    if actual != issuer {
        return Err(ClaimError::Issuer {
            expected: issuer.to_owned(),
            actual: excerpt(actual),
        });
    }
    Ok(())
}

/// Checks that `aud`, a string or an array of strings, names the client and no untrusted audience.
/// <https://www.rfc-editor.org/rfc/rfc7519#section-4.1.3>
pub(super) fn check_aud(claims: &Map<String, Value>, client_id: &str, trusted: &[String]) -> Result<(), ClaimError> {
    let audiences = audiences(claims)?;
    if !audiences.contains(&client_id) {
        return Err(ClaimError::Audience {
            expected: client_id.to_owned(),
            actual: audiences.iter().take(10).map(|aud| excerpt(aud)).collect(),
        });
    }
    let untrusted = audiences
        .iter()
        .find(|&&aud| aud != client_id && !trusted.iter().any(|trusted| trusted == aud));
    match untrusted {
        None => Ok(()),
        Some(actual) => Err(ClaimError::UntrustedAudience {
            trusted: trusted.to_vec(),
            actual: excerpt(actual),
        }),
    }
}

pub(super) fn audiences(claims: &Map<String, Value>) -> Result<Vec<&str>, ClaimError> {
    let wrong_type = |actual| ClaimError::WrongType {
        claim: "aud",
        expected: "a string or an array of strings",
        actual,
    };
    match claims.get("aud") {
        None => Err(ClaimError::Missing { claim: "aud" }),
        Some(Value::String(audience)) => Ok(vec![audience]),
        Some(Value::Array(audiences)) => {
            let texts = audiences.iter().map(Value::as_str).collect::<Option<_>>();
            texts.ok_or_else(|| wrong_type("an array with other values"))
        }
        Some(other) => Err(wrong_type(type_name(other))),
    }
}

/// <https://www.rfc-editor.org/rfc/rfc7519#section-4.1.4>
pub(super) fn check_exp(exp: f64, now: f64, clock_skew: Duration) -> Result<(), ClaimError> {
    if exp + clock_skew.as_secs_f64() > now {
        return Ok(());
    }
    Err(ClaimError::Expired {
        exp: exp as i64,
        now: now as i64,
    })
}

/// <https://www.rfc-editor.org/rfc/rfc7519#section-4.1.6>
pub(super) fn check_iat(iat: f64, now: f64, clock_skew: Duration) -> Result<(), ClaimError> {
    if iat - clock_skew.as_secs_f64() <= now {
        return Ok(());
    }
    Err(ClaimError::IssuedInTheFuture {
        iat: iat as i64,
        now: now as i64,
    })
}

/// <https://www.rfc-editor.org/rfc/rfc7519#section-4.1.5>
pub(super) fn check_nbf(claims: &Map<String, Value>, now: f64, clock_skew: Duration) -> Result<(), ClaimError> {
    match optional_seconds(claims, "nbf")? {
        Some(nbf) if nbf - clock_skew.as_secs_f64() > now => Err(ClaimError::NotYetValid {
            nbf: nbf as i64,
            now: now as i64,
        }),
        _ => Ok(()),
    }
}

/// <https://openid.net/specs/openid-connect-core-1_0.html#IDToken> (`sub`)
pub(super) fn check_sub(claims: &Map<String, Value>) -> Result<&str, ClaimError> {
    match string(claims, "sub")? {
        "" => Err(ClaimError::EmptySubject),
        subject => Ok(subject),
    }
}
