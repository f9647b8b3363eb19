//! The provider's metadata: read, repaired where real providers are careless, and checked.

use openidconnect::{
    AdditionalProviderMetadata, AuthUrl, IssuerUrl, JsonWebKeySetUrl, ProviderMetadata,
    ResponseTypes, TokenUrl, UserInfoUrl,
    core::{
        CoreAuthDisplay, CoreClaimName, CoreClaimType, CoreClientAuthMethod, CoreGrantType,
        CoreJsonWebKey, CoreJweContentEncryptionAlgorithm, CoreJweKeyManagementAlgorithm,
        CoreResponseMode, CoreResponseType, CoreSubjectIdentifierType,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use super::{Endpoint, ProviderError, address_policy::AddressPolicy, tolerance};
use crate::{
    settings::GivenEndpoints,
    token::{self, SigningAlgorithm},
};

/// The metadata of `openidconnect`, with the members of other standards that we read.
pub(crate) type Metadata = ProviderMetadata<
    FurtherMetadata,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

/// Metadata members that OpenID Connect Discovery 1.0 does not have.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct FurtherMetadata {
    /// RFC 9207 §3.
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
    /// RFC 8414 §2.
    #[serde(default)]
    pub introspection_endpoint: Option<Url>,
    /// RFC 8414 §2.
    #[serde(default, deserialize_with = "tolerance::list_of_strings")]
    pub introspection_endpoint_auth_methods_supported: Vec<String>,
    /// RFC 8414 §2.
    #[serde(default)]
    pub revocation_endpoint: Option<Url>,
    /// OpenID Connect RP-Initiated Logout 1.0 §2.1.
    #[serde(default)]
    pub end_session_endpoint: Option<Url>,
    /// RFC 9126 §5.
    #[serde(default)]
    pub pushed_authorization_request_endpoint: Option<Url>,
    /// RFC 9126 §5.
    #[serde(default)]
    pub require_pushed_authorization_requests: bool,
    /// What is listed for ID tokens of the asymmetric algorithms: those that we do not know are not an
    /// error.
    #[serde(default, rename = "rocket_openidconnect:algs")]
    algorithms: Vec<SigningAlgorithm>,
}

impl FurtherMetadata {
    /// The algorithms that tokens may be signed with; `RS256` when the metadata lists none that is
    /// asymmetric and known (OpenID Connect Core 1.0 §3.1.3.7, step 7).
    pub(crate) fn signing_algorithms(&self) -> &[SigningAlgorithm] {
        match self.algorithms.is_empty() {
            true => &[SigningAlgorithm::RS256],
            false => &self.algorithms,
        }
    }
}

impl AdditionalProviderMetadata for FurtherMetadata {}

/// Reads a metadata document and checks it (OpenID Connect Discovery 1.0 §4.3).
pub(crate) fn accept(
    body: &[u8],
    issuer: &str,
    addresses: &AddressPolicy,
) -> Result<Metadata, ProviderError> {
    let malformed = |cause: String| ProviderError::Malformed {
        endpoint: Endpoint::Metadata,
        cause,
    };

    let mut document = token::parse_object(body).map_err(|error| malformed(error.to_string()))?;

    // §4.3: the issuer returned must be exactly the one that was asked for.
    match document.get("issuer") {
        Some(Value::String(actual)) if actual == issuer => {}
        Some(Value::String(actual)) => {
            return Err(ProviderError::IssuerMismatch {
                expected: issuer.to_owned(),
                actual: actual.clone(),
            });
        }
        _ => return Err(malformed("it has no `issuer`".into())),
    }

    tolerance::repair_metadata(&mut document);
    let listed = tolerance::strings(document.get("id_token_signing_alg_values_supported"));
    let algorithms: Vec<SigningAlgorithm> = listed
        .iter()
        .filter_map(|name| name.parse().ok())
        .filter(|algorithm: &SigningAlgorithm| !algorithm.is_symmetric())
        .collect();
    document.insert("rocket_openidconnect:algs".into(), json!(algorithms));

    let metadata: Metadata = serde_json::from_value(Value::Object(document))
        .map_err(|error| malformed(error.to_string()))?;
    check_endpoints(&metadata, |endpoint, url| {
        addresses.check_fetched(endpoint, url)
    })?;
    Ok(metadata)
}

/// Whether this is metadata at all, of whatever issuer.
pub(super) fn is_metadata(body: &[u8]) -> bool {
    token::parse_object(body).is_ok_and(|it| it.get("issuer").is_some_and(Value::is_string))
}

/// Metadata from settings alone, without discovery.
pub(crate) fn given(
    source: &GivenEndpoints,
    issuer: &str,
    addresses: &AddressPolicy,
) -> Result<Metadata, ProviderError> {
    let issuer = IssuerUrl::new(issuer.to_owned()).map_err(|error| ProviderError::Malformed {
        endpoint: Endpoint::Metadata,
        cause: error.to_string(),
    })?;
    let metadata = Metadata::new(
        issuer,
        AuthUrl::from_url(source.authorization_endpoint.clone()),
        JsonWebKeySetUrl::from_url(source.jwks_uri.clone()),
        vec![ResponseTypes::new(vec![CoreResponseType::Code])],
        vec![CoreSubjectIdentifierType::Public],
        vec![],
        FurtherMetadata::default(),
    )
    .set_token_endpoint(Some(TokenUrl::from_url(source.token_endpoint.clone())))
    .set_userinfo_endpoint(source.userinfo_endpoint.clone().map(UserInfoUrl::from_url));

    check_endpoints(&metadata, |endpoint, url| {
        addresses.check_set(endpoint, url)
    })?;
    Ok(metadata)
}

/// Every endpoint is where it may be.
fn check_endpoints(
    metadata: &Metadata,
    check: impl Fn(Endpoint, &Url) -> Result<(), ProviderError>,
) -> Result<(), ProviderError> {
    let Some(token_endpoint) = metadata.token_endpoint() else {
        return Err(ProviderError::Malformed {
            endpoint: Endpoint::Metadata,
            cause: "it has no `token_endpoint`".into(),
        });
    };

    check(
        Endpoint::Authorization,
        metadata.authorization_endpoint().url(),
    )?;
    check(Endpoint::KeySet, metadata.jwks_uri().url())?;
    check(Endpoint::Token, token_endpoint.url())?;
    if let Some(url) = &metadata.additional_metadata().introspection_endpoint {
        check(Endpoint::Introspection, url)?;
    }
    if let Some(url) = &metadata.additional_metadata().revocation_endpoint {
        check(Endpoint::Revocation, url)?;
    }
    if let Some(url) = &metadata
        .additional_metadata()
        .pushed_authorization_request_endpoint
    {
        check(Endpoint::PushedAuthorizationRequest, url)?;
    }
    // The ID token goes there, through the browser.
    if let Some(url) = &metadata.additional_metadata().end_session_endpoint {
        check(Endpoint::EndSession, url)?;
    }
    match metadata.userinfo_endpoint() {
        Some(endpoint) => check(Endpoint::UserInfo, endpoint.url()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;

    const ISSUER: &str = "https://op.example";

    fn document() -> Map<String, Value> {
        json!({
            "issuer": ISSUER,
            "authorization_endpoint": "https://op.example/authorize",
            "token_endpoint": "https://op.example/token",
            "jwks_uri": "https://op.example/jwks",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        })
        .as_object()
        .unwrap()
        .clone()
    }

    fn accepted(document: &Map<String, Value>) -> Result<Metadata, String> {
        let addresses = AddressPolicy::of_issuer(ISSUER);
        accept(&serde_json::to_vec(document).unwrap(), ISSUER, &addresses)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn discovery_issuer_mismatch() {
        let mut document = document();
        document["issuer"] = json!("https://op.example/");
        assert_eq!(
            accepted(&document).unwrap_err(),
            "the metadata's issuer is `https://op.example/`, expected `https://op.example`"
        );
    }

    #[test]
    fn metadata_without_issuer_is_refused() {
        let mut document = document();
        document.remove("issuer");
        assert_eq!(
            accepted(&document).unwrap_err(),
            "the provider's metadata gave an unusable answer: it has no `issuer`"
        );
    }

    #[test]
    fn metadata_without_token_endpoint_is_refused() {
        let mut document = document();
        document.remove("token_endpoint");
        assert_eq!(
            accepted(&document).unwrap_err(),
            "the provider's metadata gave an unusable answer: it has no `token_endpoint`"
        );
    }

    #[test]
    fn endpoints_without_tls_are_refused() {
        for (member, name) in [
            ("authorization_endpoint", "authorization endpoint"),
            ("token_endpoint", "token endpoint"),
            ("jwks_uri", "key set"),
            ("userinfo_endpoint", "UserInfo endpoint"),
            ("introspection_endpoint", "introspection endpoint"),
            ("revocation_endpoint", "revocation endpoint"),
            ("end_session_endpoint", "end session endpoint"),
            (
                "pushed_authorization_request_endpoint",
                "pushed authorization request endpoint",
            ),
        ] {
            let mut document = document();
            document.insert(member.into(), json!("http://op.example/x"));
            assert_eq!(
                accepted(&document).unwrap_err(),
                format!(
                    "the provider's {name} is at `http://op.example/x`, plain http, and its issuer is https: it does not know that it is behind TLS"
                )
            );
            document.insert(member.into(), json!("https://169.254.169.254/x"));
            assert_eq!(
                accepted(&document).unwrap_err(),
                format!(
                    "the provider's {name} is at `https://169.254.169.254/x`, an address of this machine or of a private network, which no setting names"
                )
            );
        }
    }

    #[test]
    fn lesser_members_may_be_careless() {
        let mut document = document();
        document.remove("response_types_supported");
        document.remove("subject_types_supported");
        document.insert("op_policy_uri".into(), json!(""));
        document.insert("op_tos_uri".into(), json!("/terms"));
        document.insert(
            "id_token_signing_alg_values_supported".into(),
            json!(["HS256", "XX1", "ES256"]),
        );
        let metadata = accepted(&document).unwrap();
        assert_eq!(
            metadata.additional_metadata().signing_algorithms(),
            [SigningAlgorithm::ES256]
        );
    }
}
