//! The provider's metadata (OpenID Connect Discovery 1.0 §3): the members that are used.

use serde::Serialize;
use url::Url;

use super::{Endpoint, ProviderError, address_policy::AddressPolicy, tolerance};
use crate::{
    settings::GivenEndpoints,
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
    jwks_uri: Url,
    userinfo_endpoint: Option<Url>,
    registration_endpoint: Option<Url>,
    introspection_endpoint: Option<Url>,
    introspection_endpoint_auth_methods_supported: Option<Vec<String>>,
    revocation_endpoint: Option<Url>,
    revocation_endpoint_auth_methods_supported: Option<Vec<String>>,
    end_session_endpoint: Option<Url>,
    pushed_authorization_request_endpoint: Option<Url>,
    require_pushed_authorization_requests: bool,
    authorization_response_iss_parameter_supported: bool,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(rename = "id_token_signing_alg_values_supported")]
    id_token_signing_algorithms: Vec<SigningAlgorithm>,
    #[serde(rename = "userinfo_signing_alg_values_supported")]
    userinfo_signing_algorithms: Vec<SigningAlgorithm>,
    #[cfg(feature = "cli")]
    grant_types_supported: Option<Vec<String>>,
    #[cfg(feature = "cli")]
    scopes_supported: Option<Vec<String>>,
    /// Not a member of the document.
    #[serde(skip)]
    signs_nobody_in: bool,
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
    pub(crate) fn jwks_uri(&self) -> &Url {
        &self.jwks_uri
    }

    /// Discovery §3.
    pub(crate) fn userinfo_endpoint(&self) -> Option<&Url> {
        self.userinfo_endpoint.as_ref()
    }

    /// Discovery §3.
    #[cfg(feature = "cli")]
    pub(crate) fn registration_endpoint(&self) -> Option<&Url> {
        self.registration_endpoint.as_ref()
    }

    /// RFC 8414 §2.
    pub(crate) fn introspection_endpoint(&self) -> Option<&Url> {
        self.introspection_endpoint.as_ref()
    }

    /// RFC 8414 §2. Empty if nothing is listed.
    pub(crate) fn introspection_endpoint_auth_methods_supported(&self) -> &[String] {
        let listed = self.introspection_endpoint_auth_methods_supported.as_deref();
        listed.unwrap_or_default()
    }

    /// RFC 8414 §2.
    pub(crate) fn revocation_endpoint(&self) -> Option<&Url> {
        self.revocation_endpoint.as_ref()
    }

    /// RFC 8414 §2. Empty if nothing is listed.
    pub(crate) fn revocation_endpoint_auth_methods_supported(&self) -> &[String] {
        let listed = self.revocation_endpoint_auth_methods_supported.as_deref();
        listed.unwrap_or_default()
    }

    /// OpenID Connect RP-Initiated Logout 1.0 §2.1.
    pub(crate) fn end_session_endpoint(&self) -> Option<&Url> {
        self.end_session_endpoint.as_ref()
    }

    /// RFC 9126 §5.
    pub(crate) fn pushed_authorization_request_endpoint(&self) -> Option<&Url> {
        self.pushed_authorization_request_endpoint.as_ref()
    }

    /// RFC 9126 §5.
    pub(crate) fn require_pushed_authorization_requests(&self) -> bool {
        self.require_pushed_authorization_requests
    }

    /// RFC 9207 §3.
    pub(crate) fn authorization_response_iss_parameter_supported(&self) -> bool {
        self.authorization_response_iss_parameter_supported
    }

    /// Discovery §3.
    pub(crate) fn token_endpoint_auth_methods_supported(&self) -> Option<&[String]> {
        self.token_endpoint_auth_methods_supported.as_deref()
    }

    /// Discovery §3.
    #[cfg(feature = "cli")]
    pub(crate) fn grant_types_supported(&self) -> Option<&[String]> {
        self.grant_types_supported.as_deref()
    }

    /// Discovery §3.
    #[cfg(feature = "cli")]
    pub(crate) fn scopes_supported(&self) -> Option<&[String]> {
        self.scopes_supported.as_deref()
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

    /// Whether the metadata names no endpoint to sign in at or to get tokens from, and ID tokens as the only
    /// responses, so that its keys sign identity tokens of jobs or workloads.
    pub(crate) fn signs_nobody_in(&self) -> bool {
        self.signs_nobody_in
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
        Need::Keys => (place_to_sign_in(&document), optional("token_endpoint")),
    };
    let metadata = Metadata {
        signs_nobody_in: authorization_endpoint.is_none()
            && !issues_tokens(&document)
            && responds_with_id_tokens_alone(&document),
        authorization_endpoint,
        token_endpoint,
        jwks_uri: required("jwks_uri")?,
        userinfo_endpoint: optional("userinfo_endpoint"),
        registration_endpoint: optional("registration_endpoint"),
        introspection_endpoint: optional("introspection_endpoint"),
        introspection_endpoint_auth_methods_supported: list("introspection_endpoint_auth_methods_supported"),
        revocation_endpoint: optional("revocation_endpoint"),
        revocation_endpoint_auth_methods_supported: list("revocation_endpoint_auth_methods_supported"),
        end_session_endpoint: optional("end_session_endpoint"),
        pushed_authorization_request_endpoint: optional("pushed_authorization_request_endpoint"),
        require_pushed_authorization_requests: flag("require_pushed_authorization_requests"),
        authorization_response_iss_parameter_supported: flag("authorization_response_iss_parameter_supported"),
        token_endpoint_auth_methods_supported: list("token_endpoint_auth_methods_supported"),
        id_token_signing_algorithms: asymmetric(list("id_token_signing_alg_values_supported")),
        userinfo_signing_algorithms: asymmetric(list("userinfo_signing_alg_values_supported")),
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
fn place_to_sign_in(document: &Document) -> Option<Url> {
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

/// The metadata from settings alone, without discovery.
pub(crate) fn given(source: &GivenEndpoints, addresses: &AddressPolicy) -> Result<Metadata, ProviderError> {
    let metadata = Metadata {
        authorization_endpoint: Some(source.authorization_endpoint.clone()),
        token_endpoint: Some(source.token_endpoint.clone()),
        userinfo_endpoint: source.userinfo_endpoint.clone(),
        ..only_keys(&source.jwks_uri)
    };
    check_endpoints(&metadata, |endpoint, url| addresses.check_set(endpoint, url))?;
    Ok(metadata)
}

/// The metadata of an issuer of which only the `jwks_uri` is known.
pub(crate) fn of_keys(jwks_uri: &Url, addresses: &AddressPolicy) -> Result<Metadata, ProviderError> {
    let metadata = Metadata {
        // All: the key types limit the algorithms.
        id_token_signing_algorithms: SigningAlgorithm::ASYMMETRIC.to_vec(),
        ..only_keys(jwks_uri)
    };
    check_endpoints(&metadata, |endpoint, url| addresses.check_set(endpoint, url))?;
    Ok(metadata)
}

/// Metadata with a `jwks_uri` and nothing else. It says nothing about the issuer's endpoints.
fn only_keys(jwks_uri: &Url) -> Metadata {
    Metadata {
        authorization_endpoint: None,
        token_endpoint: None,
        jwks_uri: jwks_uri.clone(),
        userinfo_endpoint: None,
        registration_endpoint: None,
        introspection_endpoint: None,
        introspection_endpoint_auth_methods_supported: None,
        revocation_endpoint: None,
        revocation_endpoint_auth_methods_supported: None,
        end_session_endpoint: None,
        pushed_authorization_request_endpoint: None,
        require_pushed_authorization_requests: false,
        authorization_response_iss_parameter_supported: false,
        token_endpoint_auth_methods_supported: None,
        id_token_signing_algorithms: vec![],
        userinfo_signing_algorithms: vec![],
        #[cfg(feature = "cli")]
        grant_types_supported: None,
        #[cfg(feature = "cli")]
        scopes_supported: None,
        signs_nobody_in: false,
    }
}

const ADDRESS: &str = "an absolute address";

/// Parses a URL with a host. Whether it may be called is checked elsewhere.
fn address(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(Url::has_host)
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
        (Endpoint::KeySet, Some(metadata.jwks_uri())),
        (Endpoint::Token, metadata.token_endpoint.as_ref()),
        (Endpoint::Introspection, metadata.introspection_endpoint()),
        (Endpoint::Revocation, metadata.revocation_endpoint()),
        (
            Endpoint::PushedAuthorizationRequest,
            metadata.pushed_authorization_request_endpoint(),
        ),
        // The ID token is sent there, through the browser.
        (Endpoint::EndSession, metadata.end_session_endpoint()),
        (Endpoint::UserInfo, metadata.userinfo_endpoint()),
    ];
    for (endpoint, url) in endpoints {
        if let Some(url) = url {
            check(endpoint, url)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
