//! The back-channel logout token: the provider's signed statement that a session, or all sessions of a user, ended.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::{
    ClaimError, ExpectedIssuer, Jws, JwsError, KeySet, SigningAlgorithm, StaleKeys,
    checks::{
        check_aud, check_exp, check_iat, check_nbf, check_sub, is_media_type, optional_string, seconds, since_1970,
        string,
    },
    facts::{TokenFacts, TokenKind},
    json::{parse_object, type_name},
    jws::parts_of,
};
use crate::printable::excerpt;
use crate::secret::Secret;

/// The event type of a back-channel logout.
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// The expected values that a logout token is checked against.
#[derive(Clone, Debug)]
pub(crate) struct LogoutTokenExpectations<'a> {
    pub(crate) issuer: ExpectedIssuer<'a>,
    pub(crate) client_id: &'a str,
    /// Audiences that `aud` may name besides the client.
    pub(crate) trusted_audiences: &'a [String],
    pub(crate) algorithms: &'a [SigningAlgorithm],
    /// For HS256 only.
    pub(crate) client_secret: Option<&'a Secret>,
    pub(crate) clock_skew: Duration,
}

/// A verified logout token. Only [`LogoutToken::accept`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogoutToken {
    /// `iss`: for a template, the issuer of the tenant.
    pub(crate) issuer: String,
    /// The token id, to be recorded until [`ends`](Self::ends) against replay.
    pub(crate) jti: String,
    pub(crate) ended: EndedSession,
    /// When the token expires, including the clock skew, in seconds since 1970.
    pub(crate) ends: i64,
}

/// The sessions that ended at the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EndedSession {
    /// One session of the provider, by `sid`.
    Sid(String),
    /// One session of a user. The user's sessions without a `sid` may be it too.
    SidOf {
        /// `sid`.
        sid: String,
        /// `sub`.
        subject: String,
    },
    /// All sessions of a user.
    Subject(String),
}

impl EndedSession {
    /// `sub`, if the token has it.
    pub(crate) fn subject(&self) -> Option<&str> {
        match self {
            EndedSession::Sid(_) => None,
            EndedSession::SidOf { subject, .. } | EndedSession::Subject(subject) => Some(subject),
        }
    }
}

impl LogoutToken {
    /// `iss` and `aud` of a token that is not verified, to find out which provider verifies it.
    pub(crate) fn unverified_parties(compact: &str) -> Option<(String, Vec<String>)> {
        let [_, payload, _] = parts_of(compact)?;
        let claims = parse_object(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
        let issuer = claims.get("iss")?.as_str()?.to_owned();
        let audience = match claims.get("aud")? {
            Value::String(one) => vec![one.clone()],
            Value::Array(all) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => return None,
        };
        Some((issuer, audience))
    }

    /// Accepts a logout token by the steps of [Back-Channel Logout §2.6], the signature first. The caller checks
    /// whether its `jti` was used before (step 8).
    ///
    /// [Back-Channel Logout §2.6]: https://openid.net/specs/openid-connect-backchannel-1_0.html#Validation
    pub(crate) fn accept(
        compact: &str,
        keys: &KeySet,
        expected: &LogoutTokenExpectations<'_>,
        now: OffsetDateTime,
    ) -> Result<LogoutToken, LogoutTokenError> {
        // Step 1: encrypted tokens are not accepted. Steps 2 and 3: the signature, as for an ID token.
        let jws = Jws::parse(compact)?.of_issuer(expected.issuer);
        let jws = jws.verify(keys, expected.algorithms, expected.client_secret)?;
        check_typ(jws.typ.as_deref())?;

        let (claims, now, skew) = (&jws.claims, since_1970(now), expected.clock_skew);
        // Step 4.
        let issuer = expected.issuer.check(claims)?.to_owned();
        check_aud(claims, expected.client_id, expected.trusted_audiences)?;
        let iat = seconds(claims, "iat")?;
        check_iat(iat, now, skew)?;
        let ends = check_end(claims, iat, now, skew)?;
        check_nbf(claims, now, skew)?;
        // Step 5.
        let ended = ended_session(claims)?;
        // Step 6.
        check_events(claims)?;
        // Step 7.
        // A token with a `nonce` may be an ID token.
        if claims.contains_key("nonce") {
            return Err(LogoutTokenError::Nonce);
        }
        let jti = match string(claims, "jti")? {
            "" => return Err(LogoutTokenError::EmptyJti),
            jti => jti.to_owned(),
        };
        Ok(LogoutToken {
            issuer,
            jti,
            ended,
            ends: (ends + skew.as_secs_f64()).ceil() as i64,
        })
    }
}

/// The error of a rejected logout token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogoutTokenError {
    /// It is not a valid JWS by a key of the provider.
    #[error(transparent)]
    Jws(#[from] JwsError),
    /// A claim that every kind of token has is absent or wrong.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The `typ` of the header is that of another kind of token.
    #[error("the token is of type {actual:?}, expected \"logout+jwt\"")]
    TokenType {
        /// The `typ` of the header.
        actual: String,
    },
    /// It has no `exp`, and its `iat` is too old.
    #[error(
        "the logout token has no \"exp\" and was issued at {iat}, longer than {MAX_AGE} s ago: it is now {now} (seconds since 1970)"
    )]
    TooOld {
        /// The `iat` of the token.
        iat: i64,
        /// The time it was checked at.
        now: i64,
    },
    /// It has neither `sub` nor `sid`.
    #[error("the logout token has neither \"sub\" nor \"sid\"")]
    NoSubject,
    /// The claim `sid` is empty.
    #[error("the claim \"sid\" is empty")]
    EmptySid,
    /// The claim `jti` is empty.
    #[error("the claim \"jti\" is empty")]
    EmptyJti,
    /// It has no logout event.
    #[error("the claim \"events\" has no back-channel logout event")]
    NoLogoutEvent,
    /// It has a `nonce`, as an ID token has.
    #[error("the logout token has a \"nonce\"")]
    Nonce,
    /// It was used before.
    #[error("the logout token was used before")]
    Replayed,
}

impl LogoutTokenError {
    /// The reason code.
    pub(crate) fn reason(&self) -> &'static str {
        self.facts().reason
    }

    /// How to fix it.
    pub fn remedy(&self) -> &'static str {
        self.facts().remedy
    }

    fn facts(&self) -> TokenFacts {
        const REPORT: &str =
            "refuse the request; if it came from the provider itself, report to it what its logout token lacks";
        match self {
            LogoutTokenError::Jws(error) => error.facts(TokenKind::LogoutToken),
            LogoutTokenError::Claim(error) => error.facts(TokenKind::LogoutToken),
            LogoutTokenError::TokenType { .. } => TokenFacts::new("logout_token_type", REPORT),
            LogoutTokenError::TooOld { .. } => TokenFacts::new(
                "logout_token_expired",
                "have the provider send `exp`, and check the clocks of both machines",
            ),
            LogoutTokenError::NoSubject => TokenFacts::new("logout_token_missing_subject", REPORT),
            LogoutTokenError::EmptySid | LogoutTokenError::EmptyJti => {
                TokenFacts::new("logout_token_claim_malformed", REPORT)
            }
            LogoutTokenError::NoLogoutEvent => TokenFacts::new("logout_token_events", REPORT),
            LogoutTokenError::Nonce => TokenFacts::new("logout_token_nonce", REPORT),
            LogoutTokenError::Replayed => TokenFacts::new(
                "logout_token_replayed",
                "ignore it if it is rare: the provider may send a logout token twice; else check where the requests come from",
            ),
        }
    }

    /// How the cached keys may be stale, if newer ones could make the token valid.
    pub(crate) fn wants_fresh_keys(&self) -> Option<StaleKeys> {
        match self {
            LogoutTokenError::Jws(error) => error.wants_fresh_keys(),
            _ => None,
        }
    }
}

/// §2.4 recommends `logout+jwt`. A token with the generic type is distinguished from an ID token by its event, and
/// by the `nonce` that it must not have.
fn check_typ(typ: Option<&str>) -> Result<(), LogoutTokenError> {
    match typ {
        Some(typ) if !is_media_type(typ, "logout+jwt") && !is_media_type(typ, "jwt") => {
            Err(LogoutTokenError::TokenType { actual: excerpt(typ) })
        }
        _ => Ok(()),
    }
}

/// The maximum age of a token without `exp`, in seconds: what §2.4 recommends for `exp`.
const MAX_AGE: i64 = 120;

/// Checks when the token expires, and returns it. Older versions of the standard have no `exp`, and some providers
/// omit it.
fn check_end(claims: &Map<String, Value>, iat: f64, now: f64, clock_skew: Duration) -> Result<f64, LogoutTokenError> {
    if claims.get("exp").is_some_and(|exp| !exp.is_null()) {
        let exp = seconds(claims, "exp")?;
        check_exp(exp, now, clock_skew)?;
        return Ok(exp);
    }
    let ends = iat + MAX_AGE as f64;
    if now <= ends {
        Ok(ends)
    } else {
        Err(LogoutTokenError::TooOld {
            iat: iat as i64,
            now: now as i64,
        })
    }
}

/// Step 5: `sub`, `sid`, or both.
fn ended_session(claims: &Map<String, Value>) -> Result<EndedSession, LogoutTokenError> {
    let subject = claims.get("sub").map(|_| check_sub(claims)).transpose()?;
    match (optional_string(claims, "sid")?, subject) {
        (Some(""), _) => Err(LogoutTokenError::EmptySid),
        (Some(sid), None) => Ok(EndedSession::Sid(sid.to_owned())),
        (Some(sid), Some(subject)) => Ok(EndedSession::SidOf {
            sid: sid.to_owned(),
            subject: subject.to_owned(),
        }),
        (None, Some(subject)) => Ok(EndedSession::Subject(subject.to_owned())),
        (None, None) => Err(LogoutTokenError::NoSubject),
    }
}

/// Step 6: `events` is an object with the logout event, whose value is an object.
fn check_events(claims: &Map<String, Value>) -> Result<(), LogoutTokenError> {
    match claims.get("events") {
        None => Err(ClaimError::Missing { claim: "events" }.into()),
        Some(Value::Object(events)) => match events.get(EVENT) {
            Some(Value::Object(_)) => Ok(()),
            _ => Err(LogoutTokenError::NoLogoutEvent),
        },
        Some(other) => Err(LogoutTokenError::Claim(ClaimError::WrongType {
            claim: "events",
            expected: "an object",
            actual: type_name(other),
        })),
    }
}

#[cfg(test)]
mod tests;
