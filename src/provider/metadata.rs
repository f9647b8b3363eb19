//! The provider's metadata (OpenID Connect Discovery 1.0 §3): the members that are used.

use serde::Serialize;
use url::Url;

use super::{Endpoint, ProviderError, address_policy::AddressPolicy, tolerance};
use crate::{
    settings::GivenEndpoints,
    token::{Document, SigningAlgorithm},
};

/// The members of the metadata that are used. All others are ignored, whatever they are.
///
/// A member that is needed fails the document when it cannot be used. Any other counts as absent then, and is logged.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Metadata {
    /// Absent only where nobody signs in, as the token endpoint.
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
    /// No member of the document.
    #[serde(skip)]
    signs_nobody_in: bool,
}

/// What a provider is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// People sign in there.
    SignIn,
    /// Its tokens are checked: the keys are enough.
    Keys,
}

impl Metadata {
    /// Discovery §3.
    ///
    /// # Errors
    ///
    /// When it is absent, which it can only be where nobody signs in.
    pub(crate) fn authorization_endpoint(&self) -> Result<&Url, ProviderError> {
        needed(
            "authorization_endpoint",
            self.authorization_endpoint.as_ref(),
        )
    }

    /// Discovery §3.
    ///
    /// # Errors
    ///
    /// When it is absent, which it can only be where nobody signs in.
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

    /// RFC 8414 §2. Empty where nothing is listed.
    pub(crate) fn introspection_endpoint_auth_methods_supported(&self) -> &[String] {
        let listed = self
            .introspection_endpoint_auth_methods_supported
            .as_deref();
        listed.unwrap_or_default()
    }

    /// RFC 8414 §2.
    pub(crate) fn revocation_endpoint(&self) -> Option<&Url> {
        self.revocation_endpoint.as_ref()
    }

    /// RFC 8414 §2. Empty where nothing is listed.
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

    /// The algorithms that tokens may be signed with, of `id_token_signing_alg_values_supported`; `RS256` when it lists
    /// none that is asymmetric and known (OpenID Connect Core 1.0 §3.1.3.7, step 7).
    pub(crate) fn signing_algorithms(&self) -> &[SigningAlgorithm] {
        match self.id_token_signing_algorithms.is_empty() {
            true => &[SigningAlgorithm::RS256],
            false => &self.id_token_signing_algorithms,
        }
    }

    /// The algorithms of `userinfo_signing_alg_values_supported` that are asymmetric and known, which may be none.
    pub(crate) fn userinfo_signing_algorithms(&self) -> &[SigningAlgorithm] {
        &self.userinfo_signing_algorithms
    }

    /// Whether it names neither a place to sign in nor one that issues tokens to clients, and nothing but ID tokens as
    /// its responses, so that what its keys sign are identity tokens of jobs or workloads.
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

/// Reads a metadata document and checks it (OpenID Connect Discovery 1.0 §4.3).
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

    // §4.3: the issuer returned must be exactly the one that was asked for.
    let actual = tolerance::required(&document, "issuer", "a string", |text| {
        Some(text.to_owned())
    })?;
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
        introspection_endpoint_auth_methods_supported: list(
            "introspection_endpoint_auth_methods_supported",
        ),
        revocation_endpoint: optional("revocation_endpoint"),
        revocation_endpoint_auth_methods_supported: list(
            "revocation_endpoint_auth_methods_supported",
        ),
        end_session_endpoint: optional("end_session_endpoint"),
        pushed_authorization_request_endpoint: optional("pushed_authorization_request_endpoint"),
        require_pushed_authorization_requests: flag("require_pushed_authorization_requests"),
        authorization_response_iss_parameter_supported: flag(
            "authorization_response_iss_parameter_supported",
        ),
        token_endpoint_auth_methods_supported: list("token_endpoint_auth_methods_supported"),
        id_token_signing_algorithms: asymmetric(list("id_token_signing_alg_values_supported")),
        userinfo_signing_algorithms: asymmetric(list("userinfo_signing_alg_values_supported")),
        #[cfg(feature = "cli")]
        grant_types_supported: list("grant_types_supported"),
        #[cfg(feature = "cli")]
        scopes_supported: list("scopes_supported"),
    };
    check_endpoints(&metadata, |endpoint, url| {
        addresses.check_fetched(endpoint, url)
    })?;
    Ok(metadata)
}

/// Whether this is metadata at all, of whatever issuer.
pub(super) fn is_metadata(body: &[u8]) -> bool {
    Document::parse(body).is_ok_and(|document| {
        document.text("issuer").is_some() || document.defect("issuer").is_some()
    })
}

/// An address at which people could sign in. Kubernetes names a URN, others leave the member empty: that is no
/// mistake of theirs.
fn place_to_sign_in(document: &Document) -> Option<Url> {
    let url = document.text("authorization_endpoint").and_then(address)?;
    matches!(url.scheme(), "http" | "https").then_some(url)
}

/// Whether clients may get tokens there, whatever the address is.
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
    // What is there twice may be an address of which the other half is none.
    document.defect("authorization_endpoint").is_some() || endpoints.into_iter().any(is_there)
}

/// Whether `id_token` is the only response type (Discovery §3). Where people sign in by an API of the provider's own, as
/// at a user pool of Amazon Cognito without a domain, there are no endpoints, and access tokens all the same.
fn responds_with_id_tokens_alone(document: &Document) -> bool {
    let types = tolerance::list(document, "response_types_supported").unwrap_or_default();
    !types.is_empty() && types.iter().all(|name| name == "id_token")
}

/// Metadata from settings alone, without discovery.
pub(crate) fn given(
    source: &GivenEndpoints,
    addresses: &AddressPolicy,
) -> Result<Metadata, ProviderError> {
    let metadata = Metadata {
        authorization_endpoint: Some(source.authorization_endpoint.clone()),
        token_endpoint: Some(source.token_endpoint.clone()),
        userinfo_endpoint: source.userinfo_endpoint.clone(),
        ..only_keys(&source.jwks_uri)
    };
    check_endpoints(&metadata, |endpoint, url| {
        addresses.check_set(endpoint, url)
    })?;
    Ok(metadata)
}

/// The metadata of an issuer of which the keys alone are known.
pub(crate) fn of_keys(
    jwks_uri: &Url,
    addresses: &AddressPolicy,
) -> Result<Metadata, ProviderError> {
    let metadata = Metadata {
        // By their kinds, the keys limit them.
        id_token_signing_algorithms: SigningAlgorithm::ASYMMETRIC.to_vec(),
        ..only_keys(jwks_uri)
    };
    check_endpoints(&metadata, |endpoint, url| {
        addresses.check_set(endpoint, url)
    })?;
    Ok(metadata)
}

/// Metadata that names the keys and nothing else. Of an issuer's endpoints it says nothing.
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

/// An address with a host. Whether it may be called is another question.
fn address(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(Url::has_host)
}

/// Those that we do not know are not an error, and those whose key is the client secret are for settings to allow.
fn asymmetric(names: Option<Vec<String>>) -> Vec<SigningAlgorithm> {
    let names = names.unwrap_or_default();
    let known = names.iter().filter_map(|name| name.parse().ok());
    known
        .filter(|algorithm: &SigningAlgorithm| !algorithm.is_symmetric())
        .collect()
}

/// Every endpoint is where it may be.
fn check_endpoints(
    metadata: &Metadata,
    check: impl Fn(Endpoint, &Url) -> Result<(), ProviderError>,
) -> Result<(), ProviderError> {
    let endpoints = [
        (
            Endpoint::Authorization,
            metadata.authorization_endpoint.as_ref(),
        ),
        (Endpoint::KeySet, Some(metadata.jwks_uri())),
        (Endpoint::Token, metadata.token_endpoint.as_ref()),
        (Endpoint::Introspection, metadata.introspection_endpoint()),
        (Endpoint::Revocation, metadata.revocation_endpoint()),
        (
            Endpoint::PushedAuthorizationRequest,
            metadata.pushed_authorization_request_endpoint(),
        ),
        // The ID token goes there, through the browser.
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
