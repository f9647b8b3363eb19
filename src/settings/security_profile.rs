//! Security profiles: FAPI 2.0 and OAuth 2.1, as demands on the settings. Those on the provider's metadata are in
//! `provider::security_profile`.

use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::{
    Dpop, DpopTokens, IntrospectionAuthMethod, ProviderKind, Registration, RocketConfig, Settings, SettingsError,
    TokenEndpointAuthMethod,
    declaration::named,
    error::list,
    mistake::{Mistake, rule},
    value::is_loopback,
};
use crate::{client_key::ClientKey, token::SigningAlgorithm};

/// A security profile, whose demands the app and its provider must meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum SecurityProfile {
    /// [OAuth 2.1](https://datatracker.ietf.org/doc/html/draft-ietf-oauth-v2-1): PKCE, https, and no setting that begins
    /// with `insecure_`.
    OAuth21,
    /// The [FAPI 2.0 Security Profile](https://openid.net/specs/fapi-security-profile-2_0-final.html), as a client and
    /// as a resource server.
    Fapi2,
}

named!(SecurityProfile);

/// One demand of a profile, and whether the app meets it.
pub(crate) struct Demand {
    /// What is demanded, with its section.
    #[cfg_attr(not(feature = "cli"), allow(dead_code, reason = "listed by the doctor"))]
    pub text: &'static str,
    pub verdict: Result<(), SettingsError>,
}

impl SecurityProfile {
    /// The name in the settings.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            SecurityProfile::OAuth21 => "oauth21",
            SecurityProfile::Fapi2 => "fapi2",
        }
    }

    /// The profile of this name in the settings.
    #[cfg(feature = "cli")]
    pub(crate) fn named(name: &str) -> Option<SecurityProfile> {
        let all = [SecurityProfile::OAuth21, SecurityProfile::Fapi2];
        all.into_iter().find(|profile| profile.as_str() == name)
    }

    /// Whether signatures by this algorithm are accepted (FAPI 2.0 §5.4.1).
    pub(crate) fn accepts_algorithm(self, algorithm: SigningAlgorithm) -> bool {
        self != SecurityProfile::Fapi2 || FAPI2_ALGORITHMS.contains(&algorithm)
    }
}

/// FAPI 2.0 §5.4.1.
const FAPI2_ALGORITHMS: [SigningAlgorithm; 3] = [
    SigningAlgorithm::PS256,
    SigningAlgorithm::ES256,
    SigningAlgorithm::EdDSA,
];

impl Settings {
    /// Adds what the profile turns on to `defaults`, which have lower precedence than all explicit settings.
    pub(super) fn set_profile_defaults(&self, defaults: &mut Value) {
        if self.profile != Some(SecurityProfile::Fapi2) {
            return;
        }
        let algorithms = FAPI2_ALGORITHMS.map(SigningAlgorithm::as_str);
        defaults["pushed_authorization_requests"] = json!(true);
        defaults["id_token_signing_algs"] = json!(algorithms);
        defaults["access_token_signing_algs"] = json!(algorithms);
        if self.tls_client_certificate.is_none() {
            defaults["dpop"] = json!("required");
        }
        defaults["require_bound_tokens"] = json!(true);
        let api_has_certificates = self.client_certificate.is_set();
        defaults["dpop_tokens"] = json!(if api_has_certificates { "accepted" } else { "required" });
    }

    /// The accepted signing algorithms of ID tokens of a provider that the app has found.
    pub(super) fn id_token_signing_algs_of_profile(&self) -> Option<Vec<SigningAlgorithm>> {
        (self.profile == Some(SecurityProfile::Fapi2)).then(|| FAPI2_ALGORITHMS.to_vec())
    }

    /// Whether a sign-in that no page of the app began waits for the user to confirm it (FAPI 2.0 §5.3.3.1, 12).
    pub(crate) fn confirms_sign_ins(&self) -> bool {
        self.profile == Some(SecurityProfile::Fapi2)
    }

    /// Removes the profile, so that nothing is demanded, from these settings and those of each provider. Whether all of
    /// them had this one.
    #[cfg(feature = "cli")]
    pub(crate) fn set_aside_profile(&mut self, profile: SecurityProfile) -> bool {
        let of_app = self.profile.take();
        let of_providers: Vec<_> = self.providers.values_mut().map(|own| own.profile.take()).collect();
        if of_providers.is_empty() {
            of_app == Some(profile)
        } else {
            of_providers.iter().all(|own| *own == Some(profile))
        }
    }

    /// Checks all demands of the profile, if one is set.
    pub(super) fn check_profile(
        &self,
        registration: &Registration,
        rocket_config: &RocketConfig,
    ) -> Result<(), SettingsError> {
        let Some(profile) = self.profile else { return Ok(()) };
        let demands = self.profile_demands(profile, registration, rocket_config);
        SettingsError::all(demands.into_iter().filter_map(|demand| demand.verdict.err()))
    }

    /// The demands of this profile on the settings of the app, and whether each is met.
    pub(crate) fn profile_demands(
        &self,
        profile: SecurityProfile,
        registration: &Registration,
        rocket_config: &RocketConfig,
    ) -> Vec<Demand> {
        let mut demands = self.demands_of_both(profile, registration, rocket_config);
        if profile == SecurityProfile::Fapi2 {
            if !self.resource_server_only {
                demands.extend(self.fapi2_demands_of_client(registration));
            }
            demands.extend(self.fapi2_demands_of_api());
        }
        let named = |(text, verdict): (_, Result<(), Mistake>)| Demand {
            text,
            verdict: verdict.map_err(|mistake| {
                let cause = format!(
                    "the profile `{}` does not allow it: {}",
                    profile.as_str(),
                    mistake.cause
                );
                self.error(Mistake { cause, ..mistake })
            }),
        };
        demands.into_iter().map(named).collect()
    }

    fn demands_of_both(
        &self,
        profile: SecurityProfile,
        registration: &Registration,
        rocket_config: &RocketConfig,
    ) -> Vec<(&'static str, Result<(), Mistake>)> {
        let issuer = Url::parse(&registration.issuer).ok();
        let is_https = issuer.is_some_and(|url| url.scheme() == "https" || (rocket_config.debug && is_loopback(&url)));
        let insecure = [
            ("insecure_http_hosts", !self.insecure_http_hosts.is_empty()),
            ("insecure_accept_missing_nonce", self.insecure_accept_missing_nonce),
            ("insecure_omit_pkce", self.insecure_omit_pkce),
            (
                "insecure_introspection_without_audience",
                self.insecure_introspection_without_audience,
            ),
        ];
        let found = insecure.into_iter().find(|(_, is_set)| *is_set);
        let (key, _) = found.unwrap_or(("profile", false));
        let name = profile.as_str();
        vec![
            (
                "every endpoint is called over https (FAPI 2.0 §5.2.1, OAuth 2.1 §1.5)",
                rule("issuer", is_https)
                    .cause(format!("`{}` is not https", registration.issuer))
                    .remedy("use a provider over https; http on loopback is accepted in the debug profile alone"),
            ),
            (
                "no check is weakened",
                rule(key, found.is_none())
                    .cause("the setting weakens a check")
                    .remedy(format!("remove `{key}`, or `profile = \"{name}\"`")),
            ),
        ]
    }

    fn fapi2_demands_of_client(&self, registration: &Registration) -> Vec<(&'static str, Result<(), Mistake>)> {
        let (key, certificate) = (&registration.client_key, &registration.client_identity);
        let is_strong = match self.token_endpoint_auth_method {
            Some(method) => method == TokenEndpointAuthMethod::PrivateKeyJwt || method.is_by_certificate(),
            None => !registration.has_secret() && (key.is_some() || certificate.is_some()),
        };
        let key_algorithm = key.as_ref().map(ClientKey::alg);
        let key_algorithm = key_algorithm.filter(|algorithm| !FAPI2_ALGORITHMS.contains(algorithm));
        let audience = self.client_assertion_audience.as_deref();
        let is_openid_connect = registration.kind() == ProviderKind::OpenIdConnect;
        vec![
            (
                "metadata and endpoints come from the issuer alone (§5.3.3.1, 9 to 11)",
                rule(
                    if registration.is_discovered_at_issuer() {
                        "issuer"
                    } else {
                        self.key_of_endpoints()
                    },
                    is_openid_connect && registration.is_discovered_at_issuer() && registration.tenants.is_none(),
                )
                .cause("the endpoints are not those of the metadata at one issuer")
                .remedy(
                    "set `issuer` to the issuer of an OpenID provider, without `server_metadata_url` and endpoints in \
                     `client_secrets`",
                ),
            ),
            (
                "tokens are bound to a key or a certificate (§5.3.3.1, 1)",
                rule("dpop", self.dpop == Dpop::Required || certificate.is_some())
                    .cause("bearer tokens are accepted from the provider")
                    .remedy("set `dpop = \"required\"`, or `tls_client_certificate`"),
            ),
            (
                "the client authenticates by a key or a certificate (§5.3.3.1, 2)",
                rule("token_endpoint_auth_method", is_strong)
                    .cause("the client authenticates neither by a key nor by a certificate")
                    .remedy(
                        "set `private_key_file` or `tls_client_certificate`, without a client secret and \
                         `token_endpoint_auth_method`",
                    ),
            ),
            (
                "the client signs with PS256, ES256 or EdDSA (§5.4.1)",
                rule("private_key_file", key_algorithm.is_none())
                    .cause(format!(
                        "the key signs with {}",
                        key_algorithm.map_or("", SigningAlgorithm::as_str)
                    ))
                    .remedy("use a P-256 or Ed25519 key, or for RSA a JWK with `\"alg\": \"PS256\"`"),
            ),
            (
                "the audience of client assertions is the issuer (§5.3.3.1, 5)",
                rule(
                    "client_assertion_audience",
                    audience.is_none_or(|audience| audience == registration.issuer),
                )
                .cause(format!("client assertions name `{}`", audience.unwrap_or_default()))
                .remedy("remove `client_assertion_audience`"),
            ),
            (
                "authorization requests are pushed (§5.3.3.2, 2)",
                rule("pushed_authorization_requests", self.pushed_authorization_requests)
                    .cause("authorization requests are not pushed")
                    .remedy("set `pushed_authorization_requests = true`"),
            ),
            (
                "ID tokens are signed with PS256, ES256 or EdDSA (§5.4.1)",
                of_algorithms("id_token_signing_algs", self.id_token_signing_algs.as_deref()),
            ),
            (
                "a user begins or confirms each sign-in (§5.3.3.1, 12)",
                rule("silent", !self.silent)
                    .cause("a link of another site can begin a silent sign-in")
                    .remedy("remove `silent`"),
            ),
        ]
    }

    fn fapi2_demands_of_api(&self) -> Vec<(&'static str, Result<(), Mistake>)> {
        let authenticates_by_token = self.introspection_auth_method == Some(IntrospectionAuthMethod::Bearer);
        vec![
            (
                "APIs accept sender-constrained access tokens alone (§5.3.4, 5)",
                rule(
                    "dpop_tokens",
                    self.dpop_tokens == DpopTokens::Required || self.require_bound_tokens,
                )
                .cause("a stolen bearer token works for the thief")
                .remedy("set `dpop_tokens = \"required\"`, or `require_bound_tokens = true`"),
            ),
            (
                "access tokens are signed with PS256, ES256 or EdDSA (§5.4.1)",
                of_algorithms("access_token_signing_algs", self.access_token_signing_algs.as_deref()),
            ),
            (
                "introspection does not present the client's token as the app's own (§5.3.4)",
                rule("introspection_auth_method", !authenticates_by_token)
                    .cause("a sender-constrained token is sent without its key")
                    .remedy("remove `introspection_auth_method`"),
            ),
        ]
    }

    /// The setting that names endpoints by hand.
    fn key_of_endpoints(&self) -> &'static str {
        match (&self.server_metadata_url, &self.client_secrets) {
            (Some(_), _) => "server_metadata_url",
            (None, Some(_)) => "client_secrets",
            (None, None) => "issuer",
        }
    }
}

/// Checks the setting `key` of signing algorithms. Without a value, the provider decides.
fn of_algorithms(key: &'static str, algorithms: Option<&[SigningAlgorithm]>) -> Result<(), Mistake> {
    let remedy = "set it to some of `PS256`, `ES256` and `EdDSA`";
    let Some(algorithms) = algorithms else {
        return rule(key, false)
            .cause("the provider decides which algorithms are accepted")
            .remedy(remedy);
    };
    let others = algorithms
        .iter()
        .filter(|algorithm| !FAPI2_ALGORITHMS.contains(algorithm));
    let others = list(others.map(|algorithm| algorithm.as_str()), "and");
    rule(key, others.is_none())
        .cause(format!("it has {}", others.unwrap_or_default()))
        .remedy(remedy)
}
