//! The access token: what a client may do at this API, as the provider says it, now.

mod error;

use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value};
use time::OffsetDateTime;

pub use error::BearerTokenError;

use super::{
    ClaimError, Claims, Jws, KeySet, SigningAlgorithm,
    checks::{
        audiences, check_exp, check_iat, check_iss, check_nbf, is_media_type, optional_seconds,
        optional_string, seconds, since_1970, string,
    },
    excerpt,
    json::type_name,
    parse_object,
};
use crate::Secret;

/// The longest access token that is looked at, in bytes. It travels in a header with every request.
pub(crate) const MAX_ACCESS_TOKEN: usize = 16 * 1024;

/// Claims that only an ID token has (OpenID Connect Core 1.0 §2, §3.3.2.11).
const OF_ID_TOKENS: [&str; 3] = ["nonce", "at_hash", "c_hash"];
/// Claims of which an access token has at least one.
const OF_ACCESS_TOKENS: [&str; 3] = ["scope", "scp", "client_id"];
/// Where providers name the client: RFC 9068, OpenID Connect, Microsoft Entra ID, Okta.
const CLIENT_ID: [&str; 4] = ["client_id", "azp", "appid", "cid"];

/// What an access token must say to be accepted.
#[derive(Clone, Debug)]
pub(crate) struct AccessTokenExpectations {
    pub(crate) issuer: String,
    /// The token must name one of these.
    pub(crate) audience: Vec<String>,
    /// Whether an ID token of this provider could name one of them: the client id.
    pub(crate) audience_is_client_id: bool,
    /// Whether the header must say `at+jwt`.
    pub(crate) require_at_jwt: bool,
    /// Where roles are that count as scopes.
    pub(crate) roles_claim: Option<String>,
    /// `None` takes those that the provider's metadata lists.
    pub(crate) algorithms: Option<Vec<SigningAlgorithm>>,
    pub(crate) clock_skew: Duration,
}

/// A JWT access token whose signature is not checked yet. It may be refused, and not accepted.
pub(crate) struct UnverifiedAccessToken<'a> {
    compact: &'a str,
    jws: Jws<'a>,
    claims: Map<String, Value>,
}

impl<'a> UnverifiedAccessToken<'a> {
    /// Takes a JWT apart.
    pub(crate) fn parse(compact: &'a str) -> Result<Self, BearerTokenError> {
        let jws = Jws::parse(compact)?;
        let claims = jws.unverified_claims()?;
        Ok(UnverifiedAccessToken {
            compact,
            jws,
            claims,
        })
    }

    /// Who is said to have issued it: whose keys it is to be checked with.
    pub(crate) fn issuer(&self) -> Result<&str, BearerTokenError> {
        Ok(string(&self.claims, "iss")?)
    }

    /// Everything but the signature, which costs more than all of it
    /// ([RFC 9068 §4](https://www.rfc-editor.org/rfc/rfc9068#section-4)).
    pub(crate) fn check(
        &self,
        expected: &AccessTokenExpectations,
        algorithms: &[SigningAlgorithm],
        now: OffsetDateTime,
    ) -> Result<ClaimsChecked, BearerTokenError> {
        self.hear_checks(expected, algorithms, now, |_, verdict| verdict)?;
        Ok(ClaimsChecked(()))
    }

    /// What each of those checks says, in their order, with the member of header or claims that it is about.
    #[cfg(feature = "cli")]
    pub(crate) fn every_check(
        &self,
        expected: &AccessTokenExpectations,
        algorithms: &[SigningAlgorithm],
        now: OffsetDateTime,
    ) -> Vec<(&'static str, Option<BearerTokenError>)> {
        let mut verdicts = Vec::new();
        let heard = self.hear_checks(expected, algorithms, now, |name, verdict| {
            verdicts.push((name, verdict.err()));
            Ok(())
        });
        debug_assert!(heard.is_ok(), "every verdict was taken for a good one");
        verdicts
    }

    /// Makes the checks, as long as `hear` has nothing against it.
    #[inline]
    fn hear_checks(
        &self,
        expected: &AccessTokenExpectations,
        algorithms: &[SigningAlgorithm],
        now: OffsetDateTime,
        mut hear: impl FnMut(&'static str, Result<(), BearerTokenError>) -> Result<(), BearerTokenError>,
    ) -> Result<(), BearerTokenError> {
        let (claims, now, skew) = (&self.claims, since_1970(now), expected.clock_skew);
        hear("typ", check_typ(self.jws.typ(), expected.require_at_jwt))?;
        let alg = self.jws.check_algorithm(algorithms);
        hear("alg", alg.map_err(Into::into))?;
        let iss = check_iss(claims, &expected.issuer);
        hear("iss", iss.map_err(Into::into))?;
        hear("aud", check_aud(claims, &expected.audience))?;
        let exp = seconds(claims, "exp").and_then(|exp| check_exp(exp, now, skew));
        hear("exp", exp.map_err(Into::into))?;
        let nbf = check_nbf(claims, now, skew);
        hear("nbf", nbf.map_err(Into::into))?;
        let iat = optional_seconds(claims, "iat");
        let iat = iat.and_then(|iat| iat.map_or(Ok(()), |iat| check_iat(iat, now, skew)));
        hear("iat", iat.map_err(Into::into))?;
        hear("use", check_use(claims, expected.audience_is_client_id))?;
        hear("cnf", check_cnf(claims))?;
        hear("sub", check_sub_or_client_id(claims))
    }

    /// Checks the signature. What it covers is what [`check`](Self::check) judges.
    pub(crate) fn check_signature(
        &self,
        keys: &KeySet,
        algorithms: &[SigningAlgorithm],
    ) -> Result<SignatureChecked, BearerTokenError> {
        self.jws.check_signature(keys, algorithms, None)?;
        Ok(SignatureChecked(()))
    }

    /// The key that the header names.
    #[cfg(feature = "cli")]
    pub(crate) fn kid(&self) -> Option<&str> {
        self.jws.kid()
    }

    /// The type that the header names.
    #[cfg(feature = "cli")]
    pub(crate) fn typ(&self) -> Option<&str> {
        self.jws.typ()
    }

    #[cfg(feature = "cli")]
    pub(crate) fn algorithm(&self) -> SigningAlgorithm {
        self.jws.algorithm()
    }

    /// What anybody may have written: good for showing it.
    #[cfg(feature = "cli")]
    pub(crate) fn unverified_claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// What it would allow.
    #[cfg(feature = "cli")]
    pub(crate) fn scopes(&self, expected: &AccessTokenExpectations) -> Vec<String> {
        scopes(&self.claims, expected.roles_claim.as_deref())
    }

    /// Accepts the token, of which both were checked.
    pub(crate) fn accept(
        self,
        _: ClaimsChecked,
        _: SignatureChecked,
        expected: &AccessTokenExpectations,
    ) -> Result<AccessToken, BearerTokenError> {
        AccessToken::new(self.compact, self.claims, expected)
    }
}

/// The proof that [`UnverifiedAccessToken::check`] succeeded.
#[derive(Debug)]
pub(crate) struct ClaimsChecked(());

/// The proof that [`UnverifiedAccessToken::check_signature`] succeeded.
#[derive(Debug)]
pub(crate) struct SignatureChecked(());

/// An access token that was accepted. It is made from a JWT by [`UnverifiedAccessToken::accept`], and
/// from the provider's word by [`AccessToken::accept_introspection`].
#[derive(Clone, Debug)]
pub(crate) struct AccessToken {
    pub(crate) token: Secret,
    pub(crate) claims: Arc<Claims>,
    pub(crate) scopes: Vec<String>,
    issuer: String,
    /// In seconds since 1970.
    exp: Option<f64>,
    nbf: Option<f64>,
}

impl AccessToken {
    /// Accepts what the introspection endpoint says about a token
    /// ([RFC 7662 §2.2](https://www.rfc-editor.org/rfc/rfc7662#section-2.2)). The caller bounds its size.
    ///
    /// What is not said there cannot be checked: of `exp`, `nbf`, `iat`, `aud` and `iss`, those that are
    /// there must hold.
    pub(crate) fn accept_introspection(
        token: &str,
        body: &[u8],
        expected: &AccessTokenExpectations,
        now: OffsetDateTime,
    ) -> Result<AccessToken, BearerTokenError> {
        let mut claims = parse_object(body).map_err(BearerTokenError::Introspection)?;
        match claims.remove("active") {
            Some(Value::Bool(true)) => {}
            Some(Value::Bool(false)) => return Err(BearerTokenError::Inactive),
            Some(other) => {
                return Err(ClaimError::WrongType {
                    claim: "active",
                    expected: "a boolean",
                    actual: type_name(&other),
                }
                .into());
            }
            None => return Err(ClaimError::Missing { claim: "active" }.into()),
        }

        let (at, skew) = (since_1970(now), expected.clock_skew);
        if claims.contains_key("iss") {
            check_iss(&claims, &expected.issuer)?;
        }
        if claims.contains_key("aud") {
            check_aud(&claims, &expected.audience)?;
        }
        if let Some(exp) = optional_seconds(&claims, "exp")? {
            check_exp(exp, at, skew)?;
        }
        check_nbf(&claims, at, skew)?;
        if let Some(iat) = optional_seconds(&claims, "iat")? {
            check_iat(iat, at, skew)?;
        }
        check_token_type(&claims)?;
        check_use(&claims, false)?;
        check_cnf(&claims)?;
        check_sub_or_client_id(&claims)?;
        AccessToken::new(token, claims, expected)
    }

    /// The token of a testing profile, which nobody issued.
    pub(crate) fn of_testing_profile(
        claims: &Claims,
        issuer: &str,
        roles_claim: Option<&str>,
    ) -> AccessToken {
        AccessToken {
            token: Secret::new("testing-profile"),
            scopes: scopes(claims.as_map(), roles_claim),
            issuer: issuer.to_owned(),
            claims: Arc::new(claims.clone()),
            exp: None,
            nbf: None,
        }
    }

    fn new(
        token: &str,
        claims: Map<String, Value>,
        expected: &AccessTokenExpectations,
    ) -> Result<AccessToken, BearerTokenError> {
        Ok(AccessToken {
            token: Secret::new(token),
            scopes: scopes(&claims, expected.roles_claim.as_deref()),
            issuer: expected.issuer.clone(),
            exp: optional_seconds(&claims, "exp")?,
            nbf: optional_seconds(&claims, "nbf")?,
            claims: Arc::new(Claims::from(claims)),
        })
    }

    /// Checks once more what time or settings may have changed since the token was accepted.
    pub(crate) fn check_again(
        &self,
        expected: &AccessTokenExpectations,
        now: OffsetDateTime,
    ) -> Result<(), BearerTokenError> {
        let (now, skew) = (since_1970(now), expected.clock_skew);
        if let Some(exp) = self.exp {
            check_exp(exp, now, skew)?;
        }
        if let Some(nbf) = self.nbf
            && nbf - skew.as_secs_f64() > now
        {
            check_nbf(self.claims.as_map(), now, skew)?;
        }
        match self.claims.value("aud") {
            Some(_) => check_aud(self.claims.as_map(), &expected.audience),
            None => Ok(()),
        }
    }

    /// `iss`, or the provider that was asked.
    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(crate) fn subject(&self) -> Option<&str> {
        self.claims.value("sub")?.as_str()
    }

    pub(crate) fn client_id(&self) -> Option<&str> {
        CLIENT_ID
            .iter()
            .find_map(|name| self.claims.value(name)?.as_str())
    }

    /// `exp`, and `latest` when that is sooner or nothing is said.
    pub(crate) fn ends_by(&self, latest: OffsetDateTime) -> OffsetDateTime {
        self.exp()
            .and_then(|exp| OffsetDateTime::from_unix_timestamp(exp).ok())
            .map_or(latest, |exp| exp.min(latest))
    }

    /// In seconds since 1970; `None` when introspection does not say.
    pub(crate) fn exp(&self) -> Option<i64> {
        self.exp.map(|exp| exp as i64)
    }
}

/// [RFC 9068 §4](https://www.rfc-editor.org/rfc/rfc9068#section-4), step 1; many providers name no type.
fn check_typ(typ: Option<&str>, is_required: bool) -> Result<(), BearerTokenError> {
    let is_good = match typ {
        Some(typ) if is_media_type(typ, "jwt") => !is_required,
        Some(typ) => is_media_type(typ, "at+jwt"),
        None => !is_required,
    };
    match is_good {
        true => Ok(()),
        false => Err(BearerTokenError::TokenType {
            expected: match is_required {
                true => "\"at+jwt\"",
                false => "\"at+jwt\", \"JWT\" or none",
            },
            actual: typ.map(excerpt),
        }),
    }
}

/// [RFC 9068 §4](https://www.rfc-editor.org/rfc/rfc9068#section-4), step 4.
fn check_aud(claims: &Map<String, Value>, expected: &[String]) -> Result<(), BearerTokenError> {
    let actual = audiences(claims)?;
    match actual.iter().any(|aud| expected.iter().any(|e| e == aud)) {
        true => Ok(()),
        false => Err(BearerTokenError::Audience {
            expected: expected.to_vec(),
            actual: actual.iter().take(10).map(|aud| excerpt(aud)).collect(),
        }),
    }
}

/// A token that was made for another use must not be taken for an access token
/// ([RFC 8725 §3.12](https://www.rfc-editor.org/rfc/rfc8725#section-3.12)). The audience of an ID token is
/// the client id: while that is an audience here, a token must show that it is none.
fn check_use(
    claims: &Map<String, Value>,
    audience_is_client_id: bool,
) -> Result<(), BearerTokenError> {
    let another_use = |reason: String| Err(BearerTokenError::AnotherUse { reason });
    // Keycloak names the use in the payload.
    if let Some(Value::String(typ)) = claims.get("typ")
        && ["id", "refresh", "offline", "logout"]
            .iter()
            .any(|other| typ.eq_ignore_ascii_case(other))
    {
        return another_use(format!("its payload has \"typ\" {typ:?}"));
    }
    // Back-Channel Logout 1.0 §2.4, and every security event token (RFC 8417 §2.2).
    if claims.contains_key("events") {
        return another_use("it has \"events\"".to_owned());
    }
    if !audience_is_client_id {
        return Ok(());
    }
    if let Some(name) = OF_ID_TOKENS.iter().find(|name| claims.contains_key(**name)) {
        return another_use(format!(
            "its audience is the client id, and it has {name:?}"
        ));
    }
    match OF_ACCESS_TOKENS.iter().any(|name| claims.contains_key(*name)) {
        true => Ok(()),
        false => another_use(
            "its audience is the client id, and it has none of \"scope\", \"scp\" and \"client_id\""
                .to_owned(),
        ),
    }
}

/// Introspection answers for refresh tokens too (RFC 7662 §2.2, `token_type`).
fn check_token_type(claims: &Map<String, Value>) -> Result<(), BearerTokenError> {
    let Some(token_type) = optional_string(claims, "token_type")? else {
        return Ok(());
    };
    match ["bearer", "access_token"]
        .iter()
        .any(|good| token_type.eq_ignore_ascii_case(good))
    {
        true => Ok(()),
        false => Err(BearerTokenError::AnotherUse {
            reason: format!("its \"token_type\" is {:?}", excerpt(token_type)),
        }),
    }
}

/// [RFC 7800 §3](https://www.rfc-editor.org/rfc/rfc7800#section-3): who presents it must prove a key.
fn check_cnf(claims: &Map<String, Value>) -> Result<(), BearerTokenError> {
    match claims.contains_key("cnf") {
        true => Err(BearerTokenError::Bound),
        false => Ok(()),
    }
}

/// [RFC 9068 §2.2](https://www.rfc-editor.org/rfc/rfc9068#section-2.2) wants both; one must be there.
fn check_sub_or_client_id(claims: &Map<String, Value>) -> Result<(), BearerTokenError> {
    if let Some(sub) = optional_string(claims, "sub")? {
        return match sub.is_empty() {
            true => Err(ClaimError::EmptySubject.into()),
            false => Ok(()),
        };
    }
    let has_client = CLIENT_ID.iter().any(|name| {
        claims
            .get(*name)
            .and_then(Value::as_str)
            .is_some_and(|id| !id.is_empty())
    });
    match has_client {
        true => Ok(()),
        false => Err(BearerTokenError::Nobody),
    }
}

/// The scopes: words of `scope` (RFC 9068 §2.2.3), of `scp` (Microsoft Entra ID, Okta), and roles.
fn scopes(claims: &Map<String, Value>, roles_claim: Option<&str>) -> Vec<String> {
    let mut scopes = Vec::new();
    for value in [claims.get("scope"), claims.get("scp")] {
        add_words(value, &mut scopes);
    }
    if let Some(path) = roles_claim {
        add_words(at_path(claims, path), &mut scopes);
    }
    scopes
}

fn add_words(value: Option<&Value>, words: &mut Vec<String>) {
    match value {
        Some(Value::String(text)) => words.extend(text.split_ascii_whitespace().map(str::to_owned)),
        Some(Value::Array(list)) => {
            words.extend(list.iter().filter_map(Value::as_str).map(str::to_owned));
        }
        _ => {}
    }
}

/// The claim of this name, else the member that a path with dots leads to.
fn at_path<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let (first, rest) = path.split_once('.')?;
    let mut value = claims.get(first)?;
    for member in rest.split('.') {
        value = value.get(member)?;
    }
    Some(value)
}

#[cfg(test)]
mod tests;
