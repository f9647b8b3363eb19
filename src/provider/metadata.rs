//! The provider's metadata (OpenID Connect Discovery 1.0 §3): the members that are used.

use serde::Serialize;
use serde_json::Value;
use url::Url;

use super::{Endpoint, ProviderError, address_policy::AddressPolicy, tolerance};
use crate::{
    settings::MetadataSource,
    token::{Document, SigningAlgorithm},
};

/// The members of the metadata that are used. All others are ignored.
///
/// An invalid required member makes the document invalid. Any other invalid member counts as absent, and is logged.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Metadata {
    /// Absent only where no user signs in, as is the token endpoint.
    authorization_endpoint: Option<Url>,
    token_endpoint: Option<Url>,
    /// Absent only for GitHub, which signs nothing.
    jwks_uri: Option<Url>,
    /// Discovery §3.
    pub(crate) userinfo_endpoint: Option<Url>,
    /// Discovery §3.
    pub(crate) registration_endpoint: Option<Url>,
    /// RFC 8414 §2.
    pub(crate) introspection_endpoint: Option<Url>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) introspection_endpoint_auth_methods_supported: Vec<String>,
    /// RFC 8414 §2.
    pub(crate) revocation_endpoint: Option<Url>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) revocation_endpoint_auth_methods_supported: Vec<String>,
    /// OpenID Connect RP-Initiated Logout 1.0 §2.1.
    pub(crate) end_session_endpoint: Option<Url>,
    /// RFC 9126 §5.
    pub(crate) pushed_authorization_request_endpoint: Option<Url>,
    /// RFC 9126 §5.
    pub(crate) require_pushed_authorization_requests: bool,
    /// RFC 9207 §3.
    pub(crate) authorization_response_iss_parameter_supported: bool,
    /// Discovery §3.
    pub(crate) token_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// RFC 8414 §2.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) code_challenge_methods_supported: Vec<String>,
    #[serde(rename = "id_token_signing_alg_values_supported")]
    id_token_signing_algorithms: Vec<SigningAlgorithm>,
    #[serde(rename = "userinfo_signing_alg_values_supported")]
    userinfo_signing_algorithms: Vec<SigningAlgorithm>,
    /// RFC 9449 §5.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dpop_signing_alg_values_supported: Option<Vec<String>>,
    #[cfg(feature = "cli")]
    pub(crate) grant_types_supported: Option<Vec<String>>,
    #[cfg(feature = "cli")]
    pub(crate) scopes_supported: Option<Vec<String>>,
    /// The URLs of endpoints for clients with a certificate
    /// ([RFC 8705 §5](https://www.rfc-editor.org/rfc/rfc8705#section-5)).
    #[serde(skip)]
    mtls_endpoint_aliases: Vec<(&'static str, Url)>,
    /// RFC 8705 §3.3.
    #[serde(skip)]
    pub(crate) tls_client_certificate_bound_access_tokens: bool,
    /// Not a member of the document.
    #[serde(skip)]
    pub(crate) issues_only_identity_tokens: bool,
}

/// What a provider is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Users sign in there.
    SignIn,
    /// Only its tokens are verified: the keys suffice.
    Keys,
}

impl Metadata {
    /// Discovery §3.
    ///
    /// # Errors
    ///
    /// When it is absent, which is only possible where no user signs in.
    pub(crate) fn authorization_endpoint(&self) -> Result<&Url, ProviderError> {
        needed("authorization_endpoint", self.authorization_endpoint.as_ref())
    }

    /// Discovery §3.
    ///
    /// # Errors
    ///
    /// When it is absent, which is only possible where no user signs in.
    pub(crate) fn token_endpoint(&self) -> Result<&Url, ProviderError> {
        needed("token_endpoint", self.token_endpoint.as_ref())
    }

    /// Discovery §3.
    ///
    /// # Errors
    ///
    /// When it is absent, which is only possible for a provider that is not an OpenID provider.
    pub(crate) fn jwks_uri(&self) -> Result<&Url, ProviderError> {
        needed("jwks_uri", self.jwks_uri.as_ref())
    }

    /// The same for a client with a certificate: the endpoints of `mtls_endpoint_aliases` take precedence.
    ///
    /// # Errors
    ///
    /// When such an endpoint may not be called.
    pub(super) fn with_mtls_endpoints(mut self, addresses: &AddressPolicy) -> Result<Metadata, ProviderError> {
        for (name, url) in std::mem::take(&mut self.mtls_endpoint_aliases) {
            if let Some((_, endpoint)) = self.aliased().into_iter().find(|(member, _)| *member == name) {
                *endpoint = Some(url);
            }
        }
        check_endpoints(&self, |endpoint, url| addresses.check_fetched(endpoint, url))?;
        Ok(self)
    }

    /// The endpoints at which a client may authenticate with its certificate, or sends an access token.
    fn aliased(&mut self) -> [(&'static str, &mut Option<Url>); 5] {
        [
            ("token_endpoint", &mut self.token_endpoint),
            ("userinfo_endpoint", &mut self.userinfo_endpoint),
            ("introspection_endpoint", &mut self.introspection_endpoint),
            ("revocation_endpoint", &mut self.revocation_endpoint),
            (
                "pushed_authorization_request_endpoint",
                &mut self.pushed_authorization_request_endpoint,
            ),
        ]
    }

    /// The algorithms that tokens may be signed with, from `id_token_signing_alg_values_supported`; `RS256` if it
    /// lists none that is asymmetric and supported (OpenID Connect Core 1.0 §3.1.3.7, step 7).
    pub(crate) fn signing_algorithms(&self) -> &[SigningAlgorithm] {
        if self.id_token_signing_algorithms.is_empty() {
            &[SigningAlgorithm::RS256]
        } else {
            &self.id_token_signing_algorithms
        }
    }

    /// The asymmetric, supported algorithms of `userinfo_signing_alg_values_supported`; may be empty.
    pub(crate) fn userinfo_signing_algorithms(&self) -> &[SigningAlgorithm] {
        &self.userinfo_signing_algorithms
    }
}

fn needed<'m>(member: &'static str, url: Option<&'m Url>) -> Result<&'m Url, ProviderError> {
    url.ok_or(ProviderError::MetadataMember {
        member,
        expected: ADDRESS,
        actual: None,
    })
}

/// Parses and validates a metadata document (OpenID Connect Discovery 1.0 §4.3).
pub(crate) fn accept(
    body: &[u8],
    issuer: &str,
    need: Need,
    addresses: &AddressPolicy,
) -> Result<Metadata, ProviderError> {
    let document = Document::parse(body).map_err(|error| ProviderError::Malformed {
        endpoint: Endpoint::Metadata,
        cause: error.to_string(),
    })?;

    // §4.3: the issuer in the document must be exactly the configured one.
    let actual = tolerance::required(&document, "issuer", "a string", |text| Some(text.to_owned()))?;
    if actual != issuer {
        return Err(ProviderError::IssuerMismatch {
            expected: issuer.to_owned(),
            actual,
        });
    }

    let required = |member| tolerance::required(&document, member, ADDRESS, address);
    let optional = |member| tolerance::optional(&document, member, ADDRESS, address);
    let list = |member| tolerance::list(&document, member);
    let flag = |member| tolerance::flag(&document, member);
    let (authorization_endpoint, token_endpoint) = match need {
        Need::SignIn => (
            Some(required("authorization_endpoint")?),
            Some(required("token_endpoint")?),
        ),
        Need::Keys => (authorization_endpoint(&document), optional("token_endpoint")),
    };
    let metadata = Metadata {
        issues_only_identity_tokens: authorization_endpoint.is_none()
            && !issues_tokens(&document)
            && responds_with_id_tokens_alone(&document),
        authorization_endpoint,
        token_endpoint,
        jwks_uri: Some(required("jwks_uri")?),
        userinfo_endpoint: optional("userinfo_endpoint"),
        registration_endpoint: optional("registration_endpoint"),
        introspection_endpoint: optional("introspection_endpoint"),
        introspection_endpoint_auth_methods_supported: list("introspection_endpoint_auth_methods_supported")
            .unwrap_or_default(),
        revocation_endpoint: optional("revocation_endpoint"),
        revocation_endpoint_auth_methods_supported: list("revocation_endpoint_auth_methods_supported")
            .unwrap_or_default(),
        end_session_endpoint: optional("end_session_endpoint"),
        pushed_authorization_request_endpoint: optional("pushed_authorization_request_endpoint"),
        require_pushed_authorization_requests: flag("require_pushed_authorization_requests"),
        authorization_response_iss_parameter_supported: flag("authorization_response_iss_parameter_supported"),
        token_endpoint_auth_methods_supported: list("token_endpoint_auth_methods_supported"),
        mtls_endpoint_aliases: mtls_endpoint_aliases(&document),
        tls_client_certificate_bound_access_tokens: flag("tls_client_certificate_bound_access_tokens"),
        code_challenge_methods_supported: list("code_challenge_methods_supported").unwrap_or_default(),
        id_token_signing_algorithms: asymmetric(list("id_token_signing_alg_values_supported")),
        userinfo_signing_algorithms: asymmetric(list("userinfo_signing_alg_values_supported")),
        dpop_signing_alg_values_supported: list("dpop_signing_alg_values_supported"),
        #[cfg(feature = "cli")]
        grant_types_supported: list("grant_types_supported"),
        #[cfg(feature = "cli")]
        scopes_supported: list("scopes_supported"),
    };
    check_endpoints(&metadata, |endpoint, url| addresses.check_fetched(endpoint, url))?;
    Ok(metadata)
}

/// Whether this is a metadata document, of any issuer.
pub(super) fn is_metadata(body: &[u8]) -> bool {
    Document::parse(body).is_ok_and(|document| document.text("issuer").is_some() || document.defect("issuer").is_some())
}

/// The URL of an authorization endpoint at which users can sign in. Kubernetes names a URN, others leave the member
/// empty: neither is an error.
fn authorization_endpoint(document: &Document) -> Option<Url> {
    let url = document.text("authorization_endpoint").and_then(address)?;
    matches!(url.scheme(), "http" | "https").then_some(url)
}

/// Whether clients can get tokens from this issuer, whatever the URLs are.
fn issues_tokens(document: &Document) -> bool {
    let is_there = |member: &str| {
        let value = document.value(member);
        document.defect(member).is_some() || value.is_some_and(|value| value != "")
    };
    let endpoints = [
        "token_endpoint",
        "device_authorization_endpoint",
        "backchannel_authentication_endpoint",
    ];
    // A duplicated member counts as present: one of its values may be a URL.
    document.defect("authorization_endpoint").is_some() || endpoints.into_iter().any(is_there)
}

/// Whether `id_token` is the only response type (Discovery §3). Without this check, an issuer that names no endpoints
/// but issues access tokens would be misjudged, such as an Amazon Cognito user pool without a domain, where users
/// sign in by an API.
fn responds_with_id_tokens_alone(document: &Document) -> bool {
    let types = tolerance::list(document, "response_types_supported").unwrap_or_default();
    !types.is_empty() && types.iter().all(|name| name == "id_token")
}

/// The metadata from settings alone; `None` if it is discovered.
pub(super) fn of_settings(
    source: &MetadataSource,
    addresses: &AddressPolicy,
) -> Option<Result<Metadata, ProviderError>> {
    let metadata = match source {
        MetadataSource::Discovery { .. } => return None,
        MetadataSource::Given {
            authorization_endpoint,
            token_endpoint,
            userinfo_endpoint,
            jwks_uri,
        } => Metadata {
            authorization_endpoint: Some(authorization_endpoint.clone()),
            token_endpoint: Some(token_endpoint.clone()),
            userinfo_endpoint: userinfo_endpoint.clone(),
            ..only_keys(jwks_uri)
        },
        MetadataSource::GitHub {
            authorization_endpoint,
            token_endpoint,
            user_endpoint,
            revocation_endpoint,
        } => Metadata {
            authorization_endpoint: Some(authorization_endpoint.clone()),
            token_endpoint: Some(token_endpoint.clone()),
            userinfo_endpoint: Some(user_endpoint.clone()),
            revocation_endpoint: Some(revocation_endpoint.clone()),
            token_endpoint_auth_methods_supported: Some(vec!["client_secret_post".to_owned()]),
            ..without_members()
        },
        MetadataSource::Keys { jwks_uri } => Metadata {
            // All: the key types limit the algorithms.
            id_token_signing_algorithms: SigningAlgorithm::ASYMMETRIC.to_vec(),
            ..only_keys(jwks_uri)
        },
    };
    let checked = check_endpoints(&metadata, |endpoint, url| addresses.check_set(endpoint, url));
    Some(checked.map(|()| metadata))
}

/// Metadata with a `jwks_uri` and nothing else. It says nothing about the issuer's endpoints.
fn only_keys(jwks_uri: &Url) -> Metadata {
    Metadata {
        jwks_uri: Some(jwks_uri.clone()),
        ..without_members()
    }
}

fn without_members() -> Metadata {
    Metadata {
        authorization_endpoint: None,
        token_endpoint: None,
        jwks_uri: None,
        userinfo_endpoint: None,
        registration_endpoint: None,
        introspection_endpoint: None,
        introspection_endpoint_auth_methods_supported: vec![],
        revocation_endpoint: None,
        revocation_endpoint_auth_methods_supported: vec![],
        end_session_endpoint: None,
        pushed_authorization_request_endpoint: None,
        require_pushed_authorization_requests: false,
        authorization_response_iss_parameter_supported: false,
        token_endpoint_auth_methods_supported: None,
        mtls_endpoint_aliases: vec![],
        tls_client_certificate_bound_access_tokens: false,
        code_challenge_methods_supported: vec![],
        id_token_signing_algorithms: vec![],
        userinfo_signing_algorithms: vec![],
        dpop_signing_alg_values_supported: None,
        #[cfg(feature = "cli")]
        grant_types_supported: None,
        #[cfg(feature = "cli")]
        scopes_supported: None,
        issues_only_identity_tokens: false,
    }
}

const ADDRESS: &str = "an absolute address";

/// Parses a URL with a host. Whether it may be called is checked elsewhere.
fn address(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(Url::has_host)
}

/// The members of `mtls_endpoint_aliases` that are URLs; all others count as absent.
fn mtls_endpoint_aliases(document: &Document) -> Vec<(&'static str, Url)> {
    let Some(Value::Object(aliases)) = document.value("mtls_endpoint_aliases") else {
        return vec![];
    };
    let url = |name: &'static str| Some((name, aliases.get(name)?.as_str().and_then(address)?));
    without_members()
        .aliased()
        .into_iter()
        .filter_map(|(name, _)| url(name))
        .collect()
}

/// Unknown algorithms are skipped without an error. Symmetric ones, whose key is the client secret, need a setting.
fn asymmetric(names: Option<Vec<String>>) -> Vec<SigningAlgorithm> {
    let names = names.unwrap_or_default();
    let known = names.iter().filter_map(|name| name.parse().ok());
    known
        .filter(|algorithm: &SigningAlgorithm| !algorithm.is_symmetric())
        .collect()
}

/// Checks the URL of every endpoint.
fn check_endpoints(
    metadata: &Metadata,
    check: impl Fn(Endpoint, &Url) -> Result<(), ProviderError>,
) -> Result<(), ProviderError> {
    let endpoints = [
        (Endpoint::Authorization, metadata.authorization_endpoint.as_ref()),
        (Endpoint::KeySet, metadata.jwks_uri.as_ref()),
        (Endpoint::Token, metadata.token_endpoint.as_ref()),
        (Endpoint::Introspection, metadata.introspection_endpoint.as_ref()),
        (Endpoint::Revocation, metadata.revocation_endpoint.as_ref()),
        (
            Endpoint::PushedAuthorizationRequest,
            metadata.pushed_authorization_request_endpoint.as_ref(),
        ),
        // The ID token is sent there, through the browser.
        (Endpoint::EndSession, metadata.end_session_endpoint.as_ref()),
        (Endpoint::UserInfo, metadata.userinfo_endpoint.as_ref()),
    ];
    let mut named = endpoints
        .into_iter()
        .filter_map(|(endpoint, url)| Some((endpoint, url?)));
    named.try_for_each(|(endpoint, url)| check(endpoint, url))
}

#[cfg(test)]
mod tests;
