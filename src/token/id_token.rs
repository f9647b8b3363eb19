//! The ID token: the provider's signed statement about a sign-in, verified for this client.

use std::time::Duration;

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::{
    ClaimError, Claims, ExpectedIssuer, Jws, JwsError, KeySet, SigningAlgorithm, StaleKeys,
    checks::{
        check_aud, check_exp, check_iat, check_nbf, check_sub, check_typ, optional_seconds, optional_text, seconds,
        since_1970, string,
    },
    facts::{TokenFacts, TokenKind},
};
use crate::printable::excerpt;
use crate::requirement::Authentication;
use crate::secret::Secret;

/// The expected values that an ID token is checked against.
#[derive(Clone, Debug)]
pub(crate) struct IdTokenExpectations<'a> {
    pub(crate) issuer: ExpectedIssuer<'a>,
    pub(crate) client_id: &'a str,
    /// Audiences that `aud` may name besides the client.
    pub(crate) trusted_audiences: &'a [String],
    pub(crate) algorithms: &'a [SigningAlgorithm],
    /// For HS256 only.
    pub(crate) client_secret: Option<&'a Secret>,
    /// The `nonce` of the authorization request; `None` for the token of a refresh.
    pub(crate) nonce: Option<&'a Secret>,
    /// Whether the token may lack a `nonce` despite that.
    pub(crate) accepts_missing_nonce: bool,
    /// The access token that was issued with it, for `at_hash`.
    pub(crate) access_token: Option<&'a Secret>,
    /// The `max_age` of the authorization request.
    pub(crate) max_age: Option<Duration>,
    /// When the authorization request was made, in seconds since 1970, if it demanded that the user authenticate
    /// again.
    pub(crate) authenticated_since: Option<i64>,
    /// The requested `acr_values`; empty to accept any.
    pub(crate) acr_values: &'a [String],
    pub(crate) clock_skew: Duration,
}

/// A verified ID token. Only [`IdToken::accept`] makes one.
#[derive(Clone, Debug)]
pub(crate) struct IdToken {
    pub(crate) claims: Claims,
    /// The signature algorithm.
    pub(crate) algorithm: SigningAlgorithm,
    /// The latest expiry of a session that is started or refreshed with it, in seconds since 1970.
    pub(crate) session_expiry: Option<f64>,
    /// How the user authenticated at the provider.
    pub(crate) authentication: Authentication,
    issuer: String,
    subject: String,
}

impl IdToken {
    /// Accepts an ID token.
    ///
    /// The steps are those of [Core §3.1.3.7]; the signature is verified first, so that no error is about an
    /// unauthenticated claim.
    ///
    /// [Core §3.1.3.7]: https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation
    pub(crate) fn accept(
        compact: &str,
        keys: &KeySet,
        expected: &IdTokenExpectations<'_>,
        now: OffsetDateTime,
    ) -> Result<IdToken, IdTokenError> {
        // Step 1, decryption: `Jws::parse` rejects encrypted tokens. Steps 6 to 8: the signature, by an allowed
        // algorithm. Step 6 permits trusting the TLS connection instead; this crate never does.
        let jws = Jws::parse(compact)?.of_issuer(expected.issuer);
        let jws = jws.verify(keys, expected.algorithms, expected.client_secret)?;
        check_typ(jws.typ.as_deref())?;

        let (claims, now, skew) = (&jws.claims, since_1970(now), expected.clock_skew);
        // Step 2.
        let issuer = expected.issuer.check(claims)?.to_owned();
        // Step 3.
        check_aud(claims, expected.client_id, expected.trusted_audiences)?;
        // Steps 4 and 5.
        check_azp(claims, expected.client_id)?;
        // Step 9.
        check_exp(seconds(claims, "exp")?, now, skew)?;
        // Step 10. The age of the token is left to `exp`: the token has just come from the provider.
        check_iat(seconds(claims, "iat")?, now, skew)?;
        // No step, but a rule for every JWT.
        check_nbf(claims, now, skew)?;
        let subject = check_sub(claims)?.to_owned();
        // Step 11.
        check_nonce(claims, expected.nonce, expected.accepts_missing_nonce)?;
        // §3.1.3.8.
        check_at_hash(claims, jws.algorithm, expected.access_token)?;
        // Step 12.
        check_acr(claims, expected.acr_values)?;
        // Step 13.
        match expected.authenticated_since {
            Some(since) => check_authenticated_since(claims, since, now, skew)?,
            None => check_auth_time(claims, expected.max_age, now, skew)?,
        }
        let authentication = authentication(claims, now, skew);
        let session_expiry = check_session_expiry(claims, now)?;

        Ok(IdToken {
            issuer,
            subject,
            authentication,
            session_expiry,
            algorithm: jws.algorithm,
            claims: Claims::from(jws.claims),
        })
    }

    /// The checks that it has passed, for developers, without `nonce` and hashes.
    pub(crate) fn checks(&self, now: OffsetDateTime) -> Vec<String> {
        let seconds = |name| self.claims.value(name).and_then(Value::as_f64);
        let now = since_1970(now);
        let has = |name| self.claims.value(name).is_some();
        let mut checks = vec![
            format!("signature: {} by a key of the provider", self.algorithm),
            format!("iss: {}", excerpt(&self.issuer)),
            "aud: this client".to_owned(),
            format!("exp: in {:.0} s", seconds("exp").unwrap_or(now) - now),
            format!("iat: {:.0} s ago", now - seconds("iat").unwrap_or(now)),
            format!("sub: {}", excerpt(&self.subject)),
            if has("nonce") {
                "nonce: that of the request"
            } else {
                "nonce: absent, which `insecure_accept_missing_nonce` allows"
            }
            .to_owned(),
            if has("at_hash") {
                "at_hash: that of the access token"
            } else {
                "at_hash: absent, which the standard allows"
            }
            .to_owned(),
        ];
        if let Some(time) = seconds("auth_time") {
            checks.push(format!("auth_time: {:.0} s ago", now - time));
        }
        if let Some(acr) = self.claims.value("acr").and_then(Value::as_str) {
            checks.push(format!("acr: {}", excerpt(acr)));
        }
        checks
    }

    /// `iss`: for a template, the issuer of the tenant.
    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// `sub`: the user's id at the issuer.
    pub(crate) fn subject(&self) -> &str {
        &self.subject
    }
}

/// The error of a rejected ID token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IdTokenError {
    /// It is not a valid JWS by a key of the provider.
    #[error(transparent)]
    Jws(#[from] JwsError),
    /// A claim that every kind of token has is absent or wrong.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// It was issued to another client.
    #[error("the ID token was issued to {actual:?} (\"azp\"), expected {expected:?}")]
    AuthorizedParty {
        /// The client id.
        expected: String,
        /// The `azp` of the token.
        actual: String,
    },
    /// Its `nonce` belongs to another authorization request.
    #[error("the nonce of the ID token is not the one that was sent")]
    Nonce,
    /// Its `at_hash` belongs to another access token.
    #[error("the \"at_hash\" of the ID token is not the hash of the access token it came with")]
    AccessTokenHash,
    /// The user was not authenticated with a requested `acr`.
    #[error("the sign-in has the authentication context {actual:?}, expected one of {expected:?}")]
    AuthenticationContext {
        /// The `acr_values` that were asked for.
        expected: Vec<String>,
        /// The `acr` of the token.
        actual: String,
    },
    /// The user was authenticated longer ago than the requested `max_age`.
    #[error("the user was authenticated {actual} s ago, expected at most {expected} s")]
    AuthenticationTooOld {
        /// The `max_age` that was asked for, in seconds.
        expected: u64,
        /// The age of the authentication, in seconds.
        actual: u64,
    },
    /// The user did not authenticate again, which the request demanded by `prompt=login` or `max_age=0`.
    #[error("the user was authenticated {before} s before this sign-in began, and it demands a new authentication")]
    NotAuthenticatedAgain {
        /// How long before the request, in seconds.
        before: u64,
    },
    /// The time at which the user authenticated is later than now.
    #[error("the user was authenticated {ahead} s from now (\"auth_time\")")]
    AuthenticatedInFuture {
        /// How much later, in seconds.
        ahead: u64,
    },
    /// A claim of the ID token of a refresh differs from that of the sign-in.
    #[error("the claim {claim:?} is not the one of the sign-in")]
    Changed {
        /// The name of the claim.
        claim: &'static str,
    },
    /// Its `session_expiry` has passed.
    #[error(
        "the session ended at {session_expiry} by the ID token (\"session_expiry\"), it is now {now} (seconds since 1970)"
    )]
    SessionExpired {
        /// The `session_expiry` of the token.
        session_expiry: i64,
        /// The time it was checked at.
        now: i64,
    },
}

impl IdTokenError {
    /// The reason code.
    pub(crate) fn reason(&self) -> &'static str {
        self.facts().reason
    }

    /// How to fix it.
    pub(crate) fn remedy(&self) -> &'static str {
        self.facts().remedy
    }

    pub(super) fn facts(&self) -> TokenFacts {
        match self {
            IdTokenError::Jws(error) => error.facts(TokenKind::IdToken),
            IdTokenError::Claim(error) => error.facts(TokenKind::IdToken),
            IdTokenError::AuthorizedParty { .. } => TokenFacts::new(
                "id_token_azp",
                "check that `client_id` is the id under which the provider knows this app",
            ),
            IdTokenError::Nonce => TokenFacts::new(
                "id_token_nonce",
                "sign in again; if it happens often, check the log for replayed responses",
            ),
            IdTokenError::AccessTokenHash => TokenFacts::new(
                "id_token_at_hash",
                "refuse the response; if it came from the provider itself, report its \"at_hash\" to it",
            ),
            IdTokenError::AuthenticationContext { .. } => TokenFacts::new(
                "id_token_acr",
                "have the provider support the `acr_values` that are asked for, or ask for others",
            ),
            IdTokenError::AuthenticationTooOld { .. } => TokenFacts::new(
                "id_token_auth_time",
                "have the provider honour `max_age`, or ask for a longer one",
            ),
            IdTokenError::NotAuthenticatedAgain { .. } => TokenFacts::new(
                "id_token_auth_time",
                "have the provider honour `prompt=login` and `max_age=0`, or do not ask for them",
            ),
            IdTokenError::AuthenticatedInFuture { .. } => TokenFacts::new(
                "id_token_auth_time",
                "synchronise the clocks of this machine and of the provider; `auth_time` is in seconds",
            ),
            IdTokenError::Changed { .. } => TokenFacts::new(
                "id_token_of_another_sign_in",
                "report this to the provider: a refresh answers with the sign-in that it refreshes",
            ),
            IdTokenError::SessionExpired { .. } => TokenFacts::new(
                "id_token_session_expiry",
                "sign in again; if it happens always, synchronise the clocks of this machine and of the provider, or have the provider send a later `session_expiry`",
            ),
        }
    }

    /// Whether every check up to the tenant passed, and the settings do not accept the tenant.
    pub(crate) fn is_about_tenant(&self) -> bool {
        matches!(self, IdTokenError::Claim(ClaimError::Tenant { .. }))
    }

    /// How the cached keys may be stale, if newer ones could make the token valid.
    pub(crate) fn wants_fresh_keys(&self) -> Option<StaleKeys> {
        match self {
            IdTokenError::Jws(error) => error.wants_fresh_keys(),
            _ => None,
        }
    }
}

/// Checks `session_expiry`, the provider's limit for the session, and returns it. Clock skew is not tolerated here:
/// a session that has expired by our clock would end at its first request.
/// <https://openid.net/specs/openid-connect-enterprise-extensions-1_0.html>
fn check_session_expiry(claims: &Map<String, Value>, now: f64) -> Result<Option<f64>, IdTokenError> {
    if claims.get("session_expiry").is_none_or(Value::is_null) {
        return Ok(None);
    }
    match optional_seconds(claims, "session_expiry")? {
        Some(ends) if ends <= now => Err(IdTokenError::SessionExpired {
            session_expiry: ends as i64,
            now: now as i64,
        }),
        ends => Ok(ends),
    }
}

/// Steps 4 and 5: `azp`, if present, is the client id. It is not required beside several audiences, because all of
/// them are explicitly trusted.
/// <https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation>
fn check_azp(claims: &Map<String, Value>, client_id: &str) -> Result<(), IdTokenError> {
    match optional_text(claims, "azp")? {
        Some(azp) if azp != client_id => Err(IdTokenError::AuthorizedParty {
            expected: client_id.to_owned(),
            actual: excerpt(azp),
        }),
        _ => Ok(()),
    }
}

/// Step 11. <https://openid.net/specs/openid-connect-core-1_0.html#NonceNotes>
fn check_nonce(
    claims: &Map<String, Value>,
    expected: Option<&Secret>,
    accepts_missing: bool,
) -> Result<(), IdTokenError> {
    let Some(expected) = expected else {
        return Ok(());
    };
    if accepts_missing && !claims.contains_key("nonce") {
        return Ok(());
    }
    if Secret::new(string(claims, "nonce")?) == *expected {
        Ok(())
    } else {
        Err(IdTokenError::Nonce)
    }
}

/// `at_hash` is the left half of the hash of the access token, by the hash function of the algorithm.
/// <https://openid.net/specs/openid-connect-core-1_0.html#CodeFlowTokenValidation>
fn check_at_hash(
    claims: &Map<String, Value>,
    algorithm: SigningAlgorithm,
    access_token: Option<&Secret>,
) -> Result<(), IdTokenError> {
    let Some(access_token) = access_token else {
        return Ok(());
    };
    let Some(actual) = optional_text(claims, "at_hash")? else {
        return Ok(());
    };
    let hash = digest::digest(algorithm.digest(), access_token.expose().as_bytes());
    let (left_half, _) = hash.as_ref().split_at(hash.as_ref().len() / 2);
    if Secret::new(URL_SAFE_NO_PAD.encode(left_half)) == Secret::new(actual) {
        Ok(())
    } else {
        Err(IdTokenError::AccessTokenHash)
    }
}

/// Step 12. One of the requested values is required, which is stricter than the standard.
/// <https://openid.net/specs/openid-connect-core-1_0.html#acrSemantics>
fn check_acr(claims: &Map<String, Value>, acr_values: &[String]) -> Result<(), IdTokenError> {
    if acr_values.is_empty() {
        return Ok(());
    }
    let actual = string(claims, "acr")?;
    if acr_values.iter().any(|acr| acr == actual) {
        return Ok(());
    }
    Err(IdTokenError::AuthenticationContext {
        expected: acr_values.to_vec(),
        actual: excerpt(actual),
    })
}

/// Step 13. <https://openid.net/specs/openid-connect-core-1_0.html#AuthRequest> (`max_age`)
fn check_auth_time(
    claims: &Map<String, Value>,
    max_age: Option<Duration>,
    now: f64,
    clock_skew: Duration,
) -> Result<(), IdTokenError> {
    let Some(max_age) = max_age else {
        return Ok(());
    };
    let age = now - check_auth_time_is_past(claims, now, clock_skew)?;
    if age <= max_age.as_secs_f64() + clock_skew.as_secs_f64() {
        return Ok(());
    }
    Err(IdTokenError::AuthenticationTooOld {
        expected: max_age.as_secs(),
        actual: age as u64,
    })
}

/// `auth_time`, which must be there and may not be later than now. A provider that sends milliseconds would otherwise
/// have authenticated every user just now, for ever.
fn check_auth_time_is_past(claims: &Map<String, Value>, now: f64, clock_skew: Duration) -> Result<f64, IdTokenError> {
    let time = seconds(claims, "auth_time")?;
    if time <= now + clock_skew.as_secs_f64() {
        return Ok(time);
    }
    // `as` saturates.
    let ahead = (time - now) as u64;
    Err(IdTokenError::AuthenticatedInFuture { ahead })
}

/// How the user authenticated, as far as the token says. A time within the clock skew after now counts as now, and a
/// later one as none.
fn authentication(claims: &Map<String, Value>, now: f64, clock_skew: Duration) -> Authentication {
    let time = check_auth_time_is_past(claims, now, clock_skew).ok();
    let acr = claims.get("acr").and_then(Value::as_str);
    Authentication {
        time: time.map(|time| time.min(now) as i64),
        acr: acr.map(str::to_owned),
    }
}

/// `prompt=login` and `max_age=0`: the user authenticated after the request was made, however long they then took.
/// <https://openid.net/specs/openid-connect-core-1_0.html#AuthRequest> (`prompt`)
fn check_authenticated_since(
    claims: &Map<String, Value>,
    since: i64,
    now: f64,
    clock_skew: Duration,
) -> Result<(), IdTokenError> {
    let before = since as f64 - check_auth_time_is_past(claims, now, clock_skew)?;
    if before <= clock_skew.as_secs_f64() {
        return Ok(());
    }
    // `as` saturates.
    Err(IdTokenError::NotAuthenticatedAgain { before: before as u64 })
}

#[cfg(test)]
mod differential;
#[cfg(test)]
mod tests;
