//! The access token: verified claims and scopes of a client at this API.

mod roles;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use serde::Deserialize;
use serde_json::{Map, Value};
use time::OffsetDateTime;

pub(crate) use roles::{ClaimPath, GroupPaths};

use super::{
    Accepts, AccessTokenError, AllowedAlgorithms, Certificate, ClaimError, Claims, ExpectedIssuer, Jws, KeySet,
    SigningAlgorithm, Tenants,
    checks::{
        audiences, check_exp, check_iat, check_nbf, optional_seconds, optional_string, seconds, since_1970, string,
    },
    confirmation::{Confirmation, confirmation_of_introspected},
    json::type_name,
    parse_object,
    purpose::{
        CLIENT_ID, Circumstances, MatchedAudience, Source, check_header_type, check_purpose, is_at_jwt, is_present,
    },
    token_hash,
};
use crate::printable::excerpt;
use crate::secret::Secret;

/// The maximum length of an access token, in bytes. It is sent in a header with every request.
pub(crate) const MAX_ACCESS_TOKEN: usize = 16 * 1024;

/// The expected values that an access token is checked against.
#[derive(Clone, Debug)]
pub(crate) struct AccessTokenExpectations {
    /// The issuer as in the metadata.
    pub(crate) issuer: String,
    /// The accepted tenants, if the issuer is a template.
    pub(crate) tenants: Option<Tenants>,
    /// The token must be for one of these audiences.
    pub(crate) audience: Vec<String>,
    pub(crate) audience_claim: AudienceClaim,
    /// Whether an introspection response must have an audience.
    pub(crate) introspection_needs_audience: bool,
    /// The client id of this app: the audience of its ID tokens.
    pub(crate) client_id: String,
    pub(crate) accepts: Accepts,
    /// The name of the setting `accepts` of this issuer, for errors.
    pub(crate) accepts_setting: String,
    /// Whether the header `typ` must be `at+jwt`.
    pub(crate) require_at_jwt: bool,
    /// The claims with groups, and those whose roles count as scopes.
    pub(crate) group_paths: Arc<GroupPaths>,
    /// The allowed algorithms. `None` allows those of the provider's metadata, and those that its keys name.
    pub(crate) algorithms: Option<Vec<SigningAlgorithm>>,
    pub(crate) clock_skew: Duration,
}

/// The claim that holds the audience of an access token: the setting `audience_claim`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AudienceClaim {
    /// `aud` (RFC 9068 §2.2).
    #[default]
    Aud,
    /// `client_id` if there is no `aud`, as Amazon Cognito does: the token is for any API that its client calls.
    ClientId,
}

impl AccessTokenExpectations {
    pub(crate) fn issuer(&self) -> ExpectedIssuer<'_> {
        ExpectedIssuer::new(&self.issuer, self.tenants.as_ref())
    }

    /// Whether one of the audiences is also that of this app's ID tokens.
    pub(crate) fn audience_is_client_id(&self) -> bool {
        self.audience.contains(&self.client_id)
    }

    fn circumstances(&self, audience: MatchedAudience, signs_nobody_in: bool) -> Circumstances {
        Circumstances {
            accepts: self.accepts,
            signs_nobody_in,
            requires_at_jwt: self.require_at_jwt,
            audience,
        }
    }
}

/// A parsed JWT access token whose signature is not verified. It can be rejected, but not accepted.
pub(crate) struct UnverifiedAccessToken<'a> {
    compact: &'a str,
    pub(crate) jws: Jws<'a>,
    pub(crate) claims: Map<String, Value>,
}

impl<'a> UnverifiedAccessToken<'a> {
    /// Parses a JWT.
    pub(crate) fn parse(compact: &'a str) -> Result<Self, AccessTokenError> {
        let jws = Jws::parse(compact)?;
        let claims = jws.unverified_claims()?;
        Ok(UnverifiedAccessToken { compact, jws, claims })
    }

    /// The unverified `iss`, which selects the keys to verify the signature with.
    pub(crate) fn issuer(&self) -> Result<&str, AccessTokenError> {
        Ok(string(&self.claims, "iss")?)
    }

    /// Checks everything but the signature, which is the most expensive check
    /// ([RFC 9068 §4](https://www.rfc-editor.org/rfc/rfc9068#section-4)). `signs_nobody_in` comes from the issuer's
    /// metadata.
    pub(crate) fn check(
        &self,
        expected: &AccessTokenExpectations,
        algorithms: AllowedAlgorithms<'_>,
        signs_nobody_in: bool,
        now: OffsetDateTime,
    ) -> Result<ClaimsChecked, AccessTokenError> {
        let on_result = |_: &'static str, verdict| verdict;
        let outcome = self.run_checks(expected, algorithms, signs_nobody_in, now, on_result);
        outcome.map(ClaimsChecked)
    }

    /// The result of each of those checks in order, with the name of the header member or claim.
    #[cfg(feature = "cli")]
    pub(crate) fn every_check(
        &self,
        expected: &AccessTokenExpectations,
        algorithms: AllowedAlgorithms<'_>,
        signs_nobody_in: bool,
        now: OffsetDateTime,
    ) -> Vec<(&'static str, Option<AccessTokenError>)> {
        let mut verdicts = Vec::new();
        let on_result = |name, verdict: Result<(), AccessTokenError>| {
            verdicts.push((name, verdict.err()));
            Ok(())
        };
        let outcome = self.run_checks(expected, algorithms, signs_nobody_in, now, on_result);
        debug_assert!(outcome.is_ok(), "every verdict was taken for a good one");
        verdicts
    }

    /// Runs the checks, and stops at the first error that `on_result` returns.
    #[inline]
    fn run_checks(
        &self,
        expected: &AccessTokenExpectations,
        algorithms: AllowedAlgorithms<'_>,
        signs_nobody_in: bool,
        now: OffsetDateTime,
        mut on_result: impl FnMut(&'static str, Result<(), AccessTokenError>) -> Result<(), AccessTokenError>,
    ) -> Result<Circumstances, AccessTokenError> {
        let (claims, now, skew) = (&self.claims, since_1970(now), expected.clock_skew);
        on_result("typ", check_header_type(self.jws.typ()))?;
        let alg = self.jws.check_algorithm(algorithms);
        on_result("alg", alg.map_err(Into::into))?;
        let iss = expected.issuer().check(claims);
        on_result("iss", iss.map(drop).map_err(Into::into))?;
        let (audience, aud) = match matched_audience(claims, expected) {
            Ok(audience) => (audience, Ok(())),
            Err(error) => (MatchedAudience::Unknown, Err(error)),
        };
        on_result("aud", aud)?;
        let exp = seconds(claims, "exp").and_then(|exp| check_exp(exp, now, skew));
        on_result("exp", exp.map_err(Into::into))?;
        let nbf = check_nbf(claims, now, skew);
        on_result("nbf", nbf.map_err(Into::into))?;
        let iat = optional_seconds(claims, "iat");
        let iat = iat.and_then(|iat| iat.map_or(Ok(()), |iat| check_iat(iat, now, skew)));
        on_result("iat", iat.map_err(Into::into))?;
        on_result("cnf", Confirmation::of(claims).map(drop))?;
        let circumstances = expected.circumstances(audience, signs_nobody_in);
        let typ = self.jws.typ();
        let setting = &expected.accepts_setting;
        let purpose = check_purpose(Source::Jwt { typ }, claims, circumstances, setting);
        on_result("use", purpose)?;
        on_result("sub", check_sub_or_client_id(claims))?;
        Ok(circumstances)
    }

    /// Verifies the signature over the header and claims that [`check`](Self::check) checks.
    pub(crate) fn check_signature(
        &self,
        keys: &KeySet,
        algorithms: AllowedAlgorithms<'_>,
        expected: &AccessTokenExpectations,
    ) -> Result<SignatureChecked, AccessTokenError> {
        let issuer = Some(expected.issuer());
        self.jws.check_signature(keys, algorithms, None, issuer)?;
        Ok(SignatureChecked(()))
    }

    /// The scopes that it would grant.
    #[cfg(feature = "cli")]
    pub(crate) fn scopes(&self, expected: &AccessTokenExpectations) -> Vec<String> {
        scopes(&self.claims, &expected.group_paths)
    }

    /// Accepts the token, given the proofs of both checks.
    pub(crate) fn accept(
        self,
        ClaimsChecked(circumstances): ClaimsChecked,
        _: SignatureChecked,
        expected: &AccessTokenExpectations,
    ) -> Result<AccessToken, AccessTokenError> {
        let typ = is_at_jwt(self.jws.typ()).then_some("at+jwt");
        let judged = Judged {
            source: Source::Jwt { typ },
            circumstances,
        };
        let confirmation = Confirmation::of(&self.claims)?;
        AccessToken::new(self.compact, self.claims, confirmation, judged, expected)
    }
}

/// Proof that [`UnverifiedAccessToken::check`] succeeded.
#[derive(Debug)]
pub(crate) struct ClaimsChecked(Circumstances);

/// Proof that [`UnverifiedAccessToken::check_signature`] succeeded.
#[derive(Debug)]
pub(crate) struct SignatureChecked(());

/// A verified access token. Made from a JWT by [`UnverifiedAccessToken::accept`], and from an introspection
/// response by [`AccessToken::accept_introspection`].
#[derive(Clone, Debug)]
pub(crate) struct AccessToken {
    pub(crate) token: Secret,
    pub(crate) claims: Arc<Claims>,
    /// The words of `scope`, and the roles.
    pub(crate) scopes: Vec<String>,
    group_paths: Arc<GroupPaths>,
    /// What the token is bound to. The token says so; that a request proves it is checked at each request.
    pub(crate) confirmation: Confirmation,
    /// See [`hash`](Self::hash).
    hash: OnceLock<String>,
    issuer: String,
    /// In seconds since 1970.
    exp: Option<f64>,
    nbf: Option<f64>,
    /// `None` for a testing profile.
    judged: Option<Judged>,
}

/// The circumstances in which the purpose check accepted a token: in others it is repeated.
#[derive(Clone, Copy, Debug)]
struct Judged {
    source: Source<'static>,
    circumstances: Circumstances,
}

impl AccessToken {
    /// Accepts an introspection response about a token
    /// ([RFC 7662 §2.2](https://www.rfc-editor.org/rfc/rfc7662#section-2.2)). The caller bounds its size.
    ///
    /// `null` and empty values are absent. `exp`, `nbf`, `iat` and `iss` are checked if present.
    pub(crate) fn accept_introspection(
        token: &str,
        body: &[u8],
        expected: &AccessTokenExpectations,
        now: OffsetDateTime,
    ) -> Result<AccessToken, AccessTokenError> {
        let mut claims = parse_object(body).map_err(AccessTokenError::Introspection)?;
        claims.retain(|_, value| is_present(value));
        match claims.remove("active") {
            Some(Value::Bool(true)) => {}
            Some(Value::Bool(false)) => return Err(AccessTokenError::Inactive),
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

        check_types(&claims)?;
        let (at, skew) = (since_1970(now), expected.clock_skew);
        // A template requires `iss`: nothing else names the tenant.
        if claims.contains_key("iss") || expected.issuer().is_template() {
            expected.issuer().check(&claims)?;
        }
        if let Some(exp) = optional_seconds(&claims, "exp")? {
            check_exp(exp, at, skew)?;
        }
        check_nbf(&claims, at, skew)?;
        if let Some(iat) = optional_seconds(&claims, "iat")? {
            check_iat(iat, at, skew)?;
        }
        let confirmation = confirmation_of_introspected(token, &claims)?;
        let audience = introspected_audience(&claims, expected);
        let matched = audience.as_ref().copied();
        let circumstances = expected.circumstances(matched.unwrap_or(MatchedAudience::Unknown), false);
        let setting = &expected.accepts_setting;
        check_purpose(Source::Introspection, &claims, circumstances, setting)?;
        audience?;
        check_sub_or_client_id(&claims)?;
        let judged = Judged {
            source: Source::Introspection,
            circumstances,
        };
        AccessToken::new(token, claims, confirmation, judged, expected)
    }

    /// The token of a testing profile, which no provider issued.
    pub(crate) fn of_testing_profile(claims: &Claims, issuer: &str, paths: GroupPaths) -> AccessToken {
        AccessToken {
            token: Secret::new("testing-profile"),
            scopes: scopes(claims.as_map(), &paths),
            group_paths: Arc::new(paths),
            issuer: issuer.to_owned(),
            claims: Arc::new(claims.clone()),
            confirmation: Confirmation::default(),
            hash: OnceLock::new(),
            exp: None,
            nbf: None,
            judged: None,
        }
    }

    fn new(
        token: &str,
        claims: Map<String, Value>,
        confirmation: Confirmation,
        judged: Judged,
        expected: &AccessTokenExpectations,
    ) -> Result<AccessToken, AccessTokenError> {
        Ok(AccessToken {
            token: Secret::new(token),
            scopes: scopes(&claims, &expected.group_paths),
            group_paths: expected.group_paths.clone(),
            issuer: issuer_of(&claims, expected),
            exp: optional_seconds(&claims, "exp")?,
            nbf: optional_seconds(&claims, "nbf")?,
            claims: Arc::new(Claims::from(claims)),
            confirmation,
            hash: OnceLock::new(),
            judged: Some(judged),
        })
    }

    /// The groups of its user or client.
    pub(crate) fn groups(&self) -> Vec<&str> {
        self.group_paths.groups(self.claims.as_map()).unwrap_or_default()
    }

    /// The roles of its user or client, which are among the scopes.
    pub(crate) fn roles(&self) -> Vec<&str> {
        self.group_paths.roles(self.claims.as_map()).unwrap_or_default()
    }

    /// The [`token_hash`], computed once for all requests with this token.
    pub(crate) fn hash(&self) -> &str {
        self.hash.get_or_init(|| token_hash(self.token.expose()))
    }

    /// Rechecks a cached token against what time, settings, metadata or another guard may have changed. What
    /// a request proves is not in the cache: see [`check_possession`](Self::check_possession).
    pub(crate) fn check_again(
        &self,
        expected: &AccessTokenExpectations,
        signs_nobody_in: bool,
        now: OffsetDateTime,
    ) -> Result<(), AccessTokenError> {
        let (now, skew) = (since_1970(now), expected.clock_skew);
        if let Some(exp) = self.exp {
            check_exp(exp, now, skew)?;
        }
        if let Some(nbf) = self.nbf
            && nbf - skew.as_secs_f64() > now
        {
            check_nbf(self.claims.as_map(), now, skew)?;
        }
        let Some(judged) = self.judged else {
            return Ok(());
        };
        let claims = self.claims.as_map();
        let (audience, signs_nobody_in) = match judged.source {
            Source::Jwt { .. } => (matched_audience(claims, expected)?, signs_nobody_in),
            Source::Introspection => (introspected_audience(claims, expected)?, false),
        };
        let circumstances = expected.circumstances(audience, signs_nobody_in);
        if circumstances == judged.circumstances {
            Ok(())
        } else {
            check_purpose(judged.source, claims, circumstances, &expected.accepts_setting)
        }
    }

    /// Whether the request proved the key that the token is bound to
    /// ([RFC 9449 §7.1 and §7.2](https://www.rfc-editor.org/rfc/rfc9449#section-7.1)). `proved_key` is the thumbprint of
    /// the key in a proof; `None` for the scheme `Bearer`.
    pub(crate) fn check_possession(&self, proved_key: Option<&str>) -> Result<(), AccessTokenError> {
        match (&self.confirmation.key, proved_key) {
            (None, None) => Ok(()),
            (Some(_), None) => Err(AccessTokenError::Bound),
            (None, Some(_)) => Err(AccessTokenError::Unbound),
            (Some(confirmed), Some(proved)) if confirmed == proved => Ok(()),
            (Some(_), Some(_)) => Err(AccessTokenError::OtherKey),
        }
    }

    /// Whether the request has the client certificate that the token is bound to, if it is bound to one
    /// ([RFC 8705 §3](https://www.rfc-editor.org/rfc/rfc8705#section-3)). A client with a certificate may send any other
    /// token too.
    pub(crate) fn check_certificate(&self, certificate: Option<&Certificate>) -> Result<(), AccessTokenError> {
        match (&self.confirmation.certificate, certificate) {
            (None, _) => Ok(()),
            (Some(_), None) => Err(AccessTokenError::NoCertificate),
            (Some(confirmed), Some(certificate)) if confirmed == certificate.thumbprint() => Ok(()),
            (Some(_), Some(_)) => Err(AccessTokenError::OtherCertificate),
        }
    }

    /// `iss`, or the issuer that was asked by introspection.
    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(crate) fn subject(&self) -> Option<&str> {
        self.claims.value("sub")?.as_str()
    }

    pub(crate) fn client_id(&self) -> Option<&str> {
        CLIENT_ID.iter().find_map(|name| self.claims.value(name)?.as_str())
    }

    /// `exp`, or `latest` if that is earlier or there is no `exp`.
    pub(crate) fn ends_by(&self, latest: OffsetDateTime) -> OffsetDateTime {
        self.exp()
            .and_then(|exp| OffsetDateTime::from_unix_timestamp(exp).ok())
            .map_or(latest, |exp| exp.min(latest))
    }

    /// `exp` in seconds since 1970; `None` if introspection does not return it.
    pub(crate) fn exp(&self) -> Option<i64> {
        self.exp.map(|exp| exp as i64)
    }
}

/// [RFC 9068 §4](https://www.rfc-editor.org/rfc/rfc9068#section-4), step 4: matches the token's audiences with the
/// expected ones. Of several matches, our client id counts, because its purpose check is stricter.
fn matched_audience(
    claims: &Map<String, Value>,
    expected: &AccessTokenExpectations,
) -> Result<MatchedAudience, AccessTokenError> {
    let client_id = match expected.audience_claim {
        AudienceClaim::ClientId if !claims.contains_key("aud") => optional_string(claims, "client_id")?,
        _ => None,
    };
    let actual = match client_id {
        Some(client_id) => vec![client_id],
        None => audiences(claims)?,
    };
    let is_own = |aud: &str| {
        let mut clients = CLIENT_ID.iter().filter_map(|name| claims.get(*name));
        clients.any(|client| client == aud)
    };
    let matched = actual
        .iter()
        .filter(|aud| expected.audience.iter().any(|expected| expected == *aud));
    let matched = matched.map(|&aud| match aud {
        aud if aud == expected.client_id => MatchedAudience::OurClientId,
        aud if is_own(aud) => MatchedAudience::TokensOwnClient,
        _ => MatchedAudience::Api,
    });
    matched.min().ok_or_else(|| AccessTokenError::Audience {
        expected: expected.audience.clone(),
        actual: actual.iter().take(10).map(|aud| excerpt(aud)).collect(),
    })
}

/// As [`matched_audience`], but the audience may be absent where a setting allows that.
fn introspected_audience(
    claims: &Map<String, Value>,
    expected: &AccessTokenExpectations,
) -> Result<MatchedAudience, AccessTokenError> {
    match matched_audience(claims, expected) {
        Err(AccessTokenError::Claim(ClaimError::Missing { .. })) => {
            if expected.introspection_needs_audience {
                Err(AccessTokenError::NoAudience {
                    expected: expected.audience.clone(),
                })
            } else {
                Ok(MatchedAudience::Unknown)
            }
        }
        matched => matched,
    }
}

/// Checks the types of those members of an introspection response that are read here (RFC 7662 §2.2).
fn check_types(claims: &Map<String, Value>) -> Result<(), ClaimError> {
    for claim in ["iss", "sub", "client_id", "token_type"] {
        optional_string(claims, claim)?;
    }
    match claims.get("scope") {
        // Some providers send an array.
        None | Some(Value::String(_) | Value::Array(_)) => Ok(()),
        Some(other) => Err(ClaimError::WrongType {
            claim: "scope",
            expected: "a string",
            actual: type_name(other),
        }),
    }
}

/// Checks that `sub` or a client id is there; [RFC 9068 §2.2](https://www.rfc-editor.org/rfc/rfc9068#section-2.2)
/// requires both.
fn check_sub_or_client_id(claims: &Map<String, Value>) -> Result<(), AccessTokenError> {
    if let Some(sub) = optional_string(claims, "sub")? {
        return if sub.is_empty() {
            Err(ClaimError::EmptySubject.into())
        } else {
            Ok(())
        };
    }
    let has_client = CLIENT_ID.iter().any(|name| {
        claims
            .get(*name)
            .and_then(Value::as_str)
            .is_some_and(|id| !id.is_empty())
    });
    if has_client {
        Ok(())
    } else {
        Err(AccessTokenError::NoSubject)
    }
}

/// The scopes: the words of `scope` (RFC 9068 §2.2.3), of `scp` (Microsoft Entra ID, Okta), and the roles.
fn scopes(claims: &Map<String, Value>, paths: &GroupPaths) -> Vec<String> {
    let mut scopes = Vec::new();
    for value in [claims.get("scope"), claims.get("scp")] {
        add_words(value, &mut scopes);
    }
    let roles = paths.roles(claims).unwrap_or_default();
    scopes.extend(roles.into_iter().map(str::to_owned));
    scopes
}

/// The issuer of a token whose `iss` was checked: for a template, `iss` itself.
fn issuer_of(claims: &Map<String, Value>, expected: &AccessTokenExpectations) -> String {
    let of_tenant = if expected.issuer().is_template() {
        claims.get("iss").and_then(Value::as_str)
    } else {
        None
    };
    of_tenant.unwrap_or(&expected.issuer).to_owned()
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

#[cfg(test)]
mod tests;
