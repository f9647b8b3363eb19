//! The result of each check of one token, for `rocket-oidc token`. The checks are those of
//! [`ResourceServer::accept`], but they go on after a failure.

use rocket::http::{Header, HeaderMap};
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    Api, BearerError, Issuer, ResourceServer, check_length, credentials, introspect, introspection_endpoint, issuer_of,
};
use crate::{
    printable::printable,
    provider::{KeyPurpose, Metadata, ProviderError},
    settings::DpopTokens,
    token::{
        Accepts, AccessTokenError, AccessTokenExpectations, AllowedAlgorithms, Confirmation, JwsError, KeySet,
        SigningAlgorithm, UnverifiedAccessToken,
    },
};

/// One check of a token.
#[derive(Debug)]
pub(crate) struct ExaminedField {
    /// The checked field, such as `aud`.
    pub name: &'static str,
    /// The values that would be accepted.
    pub expected: String,
    /// The value in the token, if present.
    pub actual: Option<String>,
    /// Why the guard rejects it; `None` if it does not.
    pub error: Option<BearerError>,
    /// Why the result is not known without the metadata, as a sentence.
    pub undecided: Option<String>,
}

impl ExaminedField {
    fn new(
        name: &'static str,
        expected: impl Into<String>,
        actual: Option<String>,
        error: Option<BearerError>,
    ) -> ExaminedField {
        ExaminedField {
            name,
            expected: expected.into(),
            actual,
            error,
            undecided: None,
        }
    }
}

impl ResourceServer {
    /// Runs every applicable check on a token. With `keys`, the token is not introspected and no keys are fetched.
    pub(crate) async fn examine(
        &self,
        api: &Api,
        token: &str,
        keys: Option<&KeySet>,
        required_scopes: &[String],
        now: OffsetDateTime,
    ) -> Vec<ExaminedField> {
        let mut fields = vec![];
        let mut headers = HeaderMap::new();
        headers.add(Header::new("Authorization", format!("Bearer {token}")));
        let length = format!("{} bytes", token.len());
        let found = credentials(&headers, false);
        let shape = found.and_then(|found| check_length(found.token).map_err(BearerError::from));
        let is_rejected = shape.is_err();
        let expected = "one token of letters, digits and -._~+/=, not too long";
        fields.push(ExaminedField::new("token", expected, Some(length), shape.err()));
        if is_rejected {
            return fields;
        }
        if self.is_validated_locally(token) {
            self.examine_jwt(api, token, keys, required_scopes, now, &mut fields)
                .await;
        } else {
            self.examine_opaque(api, token, keys.is_some(), required_scopes, now, &mut fields)
                .await;
        }
        fields
    }

    /// Whether a token that is bound to this, or to nothing, can be accepted by the settings.
    fn check_binding(&self, confirmation: &Confirmation) -> Result<(), AccessTokenError> {
        let dpop_tokens = self.settings.dpop_tokens;
        if confirmation.certificate.is_some() && !self.settings.client_certificate.is_set() {
            return Err(AccessTokenError::NoCertificate);
        }
        match (dpop_tokens, &confirmation.key) {
            (DpopTokens::Off, Some(_)) => Err(AccessTokenError::Bound),
            (DpopTokens::Required, None) => Err(AccessTokenError::ProofRequired),
            _ if self.settings.require_bound_tokens && !confirmation.is_bound() => {
                Err(AccessTokenError::BindingRequired)
            }
            _ => Ok(()),
        }
    }

    async fn examine_jwt(
        &self,
        api: &Api,
        token: &str,
        keys: Option<&KeySet>,
        required_scopes: &[String],
        now: OffsetDateTime,
        fields: &mut Vec<ExaminedField>,
    ) {
        let parsed = UnverifiedAccessToken::parse(token);
        let Ok(unverified) = parsed else {
            let error = parsed.err().map(BearerError::from);
            return fields.push(ExaminedField::new("format", "a signed JWT", None, error));
        };
        let found = issuer_of(api.issuers(), &unverified);
        let unknown_issuer = found.as_ref().err().cloned();
        // A token of an unknown issuer is checked as if it were the provider's, to find further errors.
        let Some(issuer) = found.ok().or(api.issuers().first()) else {
            return;
        };
        let expected = &issuer.expected;

        // Where the settings name the keys or all endpoints, no metadata is requested.
        let is_offline = keys.is_some() && issuer.provider.is_discovered();
        let metadata = if is_offline {
            None
        } else {
            match issuer.provider.current_metadata().await {
                Ok(metadata) => Some(metadata),
                Err(error) => {
                    fields.push(unavailable_provider(error));
                    None
                }
            }
        };
        let listed = match (&expected.algorithms, &metadata) {
            (Some(algorithms), _) => algorithms.clone(),
            (None, Some(metadata)) => metadata.signing_algorithms().to_vec(),
            (None, None) => SigningAlgorithm::ASYMMETRIC.to_vec(),
        };
        let algorithms = AllowedAlgorithms {
            listed: &listed,
            allows_alg_of_key: expected.algorithms.is_none(),
        };
        let signs_nobody_in = metadata
            .as_ref()
            .is_some_and(|metadata| metadata.issues_only_identity_tokens);
        for (name, error) in unverified.every_check(expected, algorithms, signs_nobody_in, now) {
            let error = match name {
                "iss" => unknown_issuer.clone().or(error),
                "cnf" => error.or_else(|| {
                    let confirmation = Confirmation::of(&unverified.claims);
                    confirmation.and_then(|it| self.check_binding(&it)).err()
                }),
                _ => error,
            };
            let undecided = is_offline.then(|| undecided(name, error.as_ref(), &unverified, expected, keys, now));
            let accepted = api.expected(name, expected, algorithms, now);
            let error = error.map(BearerError::from);
            fields.push(ExaminedField {
                undecided: undecided.flatten(),
                ..ExaminedField::new(name, accepted, actual(&unverified, name), error)
            });
        }
        let signature = match (keys, &metadata) {
            (Some(keys), _) => unverified
                .check_signature(keys, algorithms, expected)
                .map(drop)
                .map_err(BearerError::from),
            (None, Some(metadata)) => check_signature(issuer, metadata, &unverified, algorithms, now).await,
            // Already reported above.
            (None, None) => return,
        };
        let expected_key = match keys {
            Some(_) => "by a key of the given set".to_owned(),
            None => format!("by a key of {}", issuer.name()),
        };
        let kid = unverified
            .jws
            .kid()
            .map(|kid| format!("by the key {:?}", printable(kid)));
        fields.push(ExaminedField::new("signature", expected_key, kid, signature.err()));
        let scopes = unverified.scopes(expected);
        fields.push(scope(scopes, required_scopes));
    }

    /// Examines an opaque token by introspection.
    async fn examine_opaque(
        &self,
        api: &Api,
        token: &str,
        is_offline: bool,
        required_scopes: &[String],
        now: OffsetDateTime,
        fields: &mut Vec<ExaminedField>,
    ) {
        let Some(issuer) = api.introspection_issuer().filter(|_| !is_offline) else {
            let expected = "a signed JWT: only the provider can validate others";
            let error = Some(AccessTokenError::Opaque.into());
            return fields.push(ExaminedField::new("format", expected, None, error));
        };
        let endpoint = match introspection_endpoint(issuer, now).await {
            Ok(endpoint) => endpoint,
            Err(error) => return fields.push(unavailable_provider(error)),
        };
        let verdict = match endpoint {
            None => Err(AccessTokenError::Opaque.into()),
            Some(endpoint) => match introspect(issuer, &endpoint, token, false, None, now).await {
                Ok(verdict) => verdict.map_err(BearerError::from),
                Err(error) => Err(error.into()),
            },
        };
        let verdict = verdict.and_then(|accepted| {
            self.check_binding(&accepted.token.confirmation)?;
            Ok(accepted)
        });
        let scopes = verdict.as_ref().ok().map(|it| it.token.scopes.clone());
        let expected = format!("active, for {}", list(issuer.audience()));
        let actual = verdict.as_ref().ok().map(|_| "active".to_owned());
        fields.push(ExaminedField::new("introspection", expected, actual, verdict.err()));
        fields.extend(scopes.map(|scopes| scope(scopes, required_scopes)));
    }
}

impl Api {
    /// The values that a check would accept, for display.
    fn expected(
        &self,
        name: &str,
        expected: &AccessTokenExpectations,
        algorithms: AllowedAlgorithms<'_>,
        now: OffsetDateTime,
    ) -> String {
        let (earliest, latest) = (now - expected.clock_skew, now + expected.clock_skew);
        match name {
            "typ" => "at+jwt, JWT, JOSE or none".to_owned(),
            "alg" => {
                let listed = algorithms.listed.iter();
                let mut names: Vec<_> = listed.map(|alg| alg.as_str()).collect();
                names.dedup();
                let names = names.join(", ");
                if algorithms.allows_alg_of_key {
                    format!("{names}, or what the key names")
                } else {
                    names
                }
            }
            "iss" => {
                let names = self.issuers().iter().map(|issuer| issuer.name().to_owned());
                list(&names.collect::<Vec<_>>())
            }
            "aud" => list(&expected.audience),
            "exp" => format!("after {}", time(earliest)),
            "nbf" => format!("none, or by {}", time(latest)),
            "iat" => format!("none, or by {}", time(latest)),
            "use" if expected.require_at_jwt => "the type at+jwt, and no mark of another token".to_owned(),
            "use" => match expected.accepts {
                Accepts::IdentityTokens => "an identity token, or an access token".to_owned(),
                Accepts::UntypedTokens => "an access token, or no mark of another one".to_owned(),
                _ => "a mark of an access token, such as at+jwt or a scope, and none of another token".to_owned(),
            },
            "cnf" => "none, `jkt` with `dpop_tokens`, `x5t#S256` with `client_certificate`; a request must prove them"
                .to_owned(),
            "sub" => "`sub`, or a client id".to_owned(),
            _ => String::new(),
        }
    }
}

/// Why the result of a check depends on metadata that is not read, if it does.
fn undecided(
    name: &str,
    error: Option<&AccessTokenError>,
    token: &UnverifiedAccessToken<'_>,
    expected: &AccessTokenExpectations,
    keys: Option<&KeySet>,
    now: OffsetDateTime,
) -> Option<String> {
    let issuer = printable(&expected.issuer);
    match name {
        "use" => {
            let all = AllowedAlgorithms::only(SigningAlgorithm::ASYMMETRIC);
            let verdicts = token.every_check(expected, all, true, now);
            let (_, otherwise) = verdicts.into_iter().find(|(check, _)| *check == name)?;
            let differs = otherwise.is_none() != error.is_none();
            let refused = error.or(otherwise.as_ref()).filter(|_| differs)?;
            Some(format!(
                "the metadata of {issuer} is not read (`--jwks`): it is accepted if that names no endpoint to sign in or get tokens at and no response type but `id_token`, else {refused}"
            ))
        }
        "alg" if expected.algorithms.is_none() && error.is_none() => {
            // Without listed algorithms the default is RS256, and every provider must list RS256 (Discovery §3).
            let least = AllowedAlgorithms {
                listed: &[SigningAlgorithm::RS256],
                allows_alg_of_key: true,
            };
            let verdict = token.check_signature(keys?, least, expected);
            let is_open = matches!(
                verdict,
                Err(AccessTokenError::Jws(JwsError::AlgorithmNotAllowed { .. }))
            );
            is_open.then(|| {
                format!(
                    "the metadata of {issuer} is not read (`--jwks`): it is accepted if that lists {}",
                    token.jws.algorithm().as_str()
                )
            })
        }
        _ => None,
    }
}

async fn check_signature(
    issuer: &Issuer,
    metadata: &Metadata,
    unverified: &UnverifiedAccessToken<'_>,
    algorithms: AllowedAlgorithms<'_>,
    now: OffsetDateTime,
) -> Result<(), BearerError> {
    issuer
        .provider
        .with_keys(
            metadata,
            KeyPurpose::AnyRequest(None),
            now,
            |keys| unverified.check_signature(keys, algorithms, &issuer.expected),
            AccessTokenError::wants_fresh_keys,
        )
        .await??;
    Ok(())
}

/// The token's value for a check, for display.
fn actual(token: &UnverifiedAccessToken<'_>, name: &str) -> Option<String> {
    let claims = &token.claims;
    match name {
        "typ" => token.jws.typ().map(printable),
        "alg" => Some(token.jws.algorithm().as_str().to_owned()),
        "exp" | "nbf" | "iat" => {
            let seconds = claims.get(name)?.as_f64()?;
            let at = OffsetDateTime::from_unix_timestamp(seconds as i64);
            at.ok().map(time)
        }
        "sub" => ["sub", "client_id", "azp", "appid", "cid"]
            .iter()
            .find_map(|claim| claims.get(*claim)?.as_str().map(printable)),
        _ => match claims.get(name)? {
            Value::String(text) => Some(printable(text)),
            other => Some(printable(&other.to_string())),
        },
    }
}

/// RFC 6750 §3.1: the guard requires scopes that only the caller knows.
fn scope(actual: Vec<String>, required: &[String]) -> ExaminedField {
    let has_all = required.iter().all(|word| actual.contains(word));
    let expected = if required.is_empty() {
        "what the route's `Bearer<…>` names".to_owned()
    } else {
        required.join(" ")
    };
    let shown = Some(printable(&actual.join(" ")));
    let error = (!has_all).then(|| BearerError::Scope {
        required: required.join(" "),
        actual,
    });
    ExaminedField::new("scope", expected, shown, error)
}

fn unavailable_provider(error: ProviderError) -> ExaminedField {
    let expected = "its metadata and keys, without which no signature is verified";
    ExaminedField::new("provider", expected, None, Some(error.into()))
}

fn list(names: &[String]) -> String {
    match names {
        [name] => name.clone(),
        names => format!("one of {}", names.join(", ")),
    }
}

fn time(at: OffsetDateTime) -> String {
    let whole = at.replace_nanosecond(0).unwrap_or(at);
    whole.format(&Rfc3339).unwrap_or_default()
}
