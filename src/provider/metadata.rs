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
use serde_json::{Map, Value, json};
use url::Url;

use super::{Endpoint, ProviderError, http_client::may_be_called, tolerance};
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
    /// Whether it names neither a place to sign in nor one that issues tokens to clients, so that what its keys sign
    /// are identity tokens of jobs or workloads.
    #[serde(default, rename = "rocket_openidconnect:signs_nobody_in")]
    pub signs_nobody_in: bool,
}

/// What a provider is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// People sign in there.
    SignIn,
    /// Its tokens are checked: the keys are enough.
    Keys,
}

/// In the place of an authorization endpoint that is not needed, and not there.
const NO_AUTHORIZATION_ENDPOINT: &str = "urn:rocket_openidconnect:none";

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
pub(crate) fn accept(body: &[u8], issuer: &str, need: Need) -> Result<Metadata, ProviderError> {
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

    document.remove("rocket_openidconnect:signs_nobody_in");
    if need == Need::Keys && !has_authorization_endpoint(&document) {
        let others = [
            "token_endpoint",
            "device_authorization_endpoint",
            "backchannel_authentication_endpoint",
        ];
        let is_there = |member: &str| document.get(member).is_some_and(|value| value != "");
        let signs_nobody_in = !others.into_iter().any(is_there);
        let member = "rocket_openidconnect:signs_nobody_in";
        document.insert(member.into(), json!(signs_nobody_in));
        let member = "authorization_endpoint";
        document.insert(member.into(), json!(NO_AUTHORIZATION_ENDPOINT));
    }

    let metadata: Metadata = serde_json::from_value(Value::Object(document))
        .map_err(|error| malformed(error.to_string()))?;
    check_endpoints(&metadata, need)?;
    Ok(metadata)
}

/// Whether it is an address at which people could sign in: Kubernetes names a URN, others leave it empty.
fn has_authorization_endpoint(document: &Map<String, Value>) -> bool {
    let endpoint = document.get("authorization_endpoint");
    let url = endpoint
        .and_then(Value::as_str)
        .and_then(|text| Url::parse(text).ok());
    url.is_some_and(|url| matches!(url.scheme(), "http" | "https"))
}

/// The metadata of an issuer of which the keys alone are known.
pub(crate) fn of_keys(jwks_uri: &Url) -> Result<Metadata, ProviderError> {
    let malformed = |error: url::ParseError| ProviderError::Malformed {
        endpoint: Endpoint::Metadata,
        cause: error.to_string(),
    };
    // The issuer's name may be no address, and is compared by the settings alone.
    let nobody = || NO_AUTHORIZATION_ENDPOINT.to_owned();
    let metadata = Metadata::new(
        IssuerUrl::new(nobody()).map_err(malformed)?,
        AuthUrl::new(nobody()).map_err(malformed)?,
        JsonWebKeySetUrl::from_url(jwks_uri.clone()),
        vec![],
        vec![],
        vec![],
        FurtherMetadata {
            // By their kinds, the keys limit them.
            algorithms: SigningAlgorithm::ASYMMETRIC.to_vec(),
            ..FurtherMetadata::default()
        },
    );
    check_endpoints(&metadata, Need::Keys)?;
    Ok(metadata)
}

/// Metadata from settings alone, without discovery.
pub(crate) fn given(source: &GivenEndpoints, issuer: &str) -> Result<Metadata, ProviderError> {
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

    check_endpoints(&metadata, Need::SignIn)?;
    Ok(metadata)
}

/// Every endpoint that carries a secret is `https` or on this machine.
fn check_endpoints(metadata: &Metadata, need: Need) -> Result<(), ProviderError> {
    if need == Need::SignIn && metadata.token_endpoint().is_none() {
        return Err(ProviderError::Malformed {
            endpoint: Endpoint::Metadata,
            cause: "it has no `token_endpoint`".into(),
        });
    }

    let check = |endpoint, url: &Url| match may_be_called(url) {
        true => Ok(()),
        false => Err(ProviderError::NotHttps {
            endpoint,
            url: url.to_string(),
        }),
    };
    let authorization_endpoint = metadata.authorization_endpoint().url();
    if authorization_endpoint.as_str() != NO_AUTHORIZATION_ENDPOINT {
        check(Endpoint::Metadata, authorization_endpoint)?;
    }
    check(Endpoint::KeySet, metadata.jwks_uri().url())?;
    if let Some(token_endpoint) = metadata.token_endpoint() {
        check(Endpoint::Token, token_endpoint.url())?;
    }
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
        accepted_for(document, Need::SignIn)
    }

    fn accepted_for(document: &Map<String, Value>, need: Need) -> Result<Metadata, String> {
        let body = serde_json::to_vec(document).unwrap();
        accept(&body, ISSUER, need).map_err(|error| error.to_string())
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
            ("authorization_endpoint", "metadata"),
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
                    "the provider's {name} is at `http://op.example/x`, which is neither https nor loopback"
                )
            );
        }
    }

    /// GitHub Actions and Firebase leave the endpoints out, Kubernetes names a URN, SPIRE an empty text.
    #[test]
    fn an_api_needs_keys_alone() {
        for endpoint in [
            None,
            Some(json!("")),
            Some(json!(null)),
            Some(json!("urn:kubernetes:programmatic_authorization")),
            Some(json!("/authorize")),
            Some(json!(7)),
        ] {
            let mut document = document();
            document.remove("token_endpoint");
            document.remove("authorization_endpoint");
            if let Some(endpoint) = &endpoint {
                document.insert("authorization_endpoint".into(), endpoint.clone());
            }
            let metadata = accepted_for(&document, Need::Keys).unwrap();
            assert!(
                metadata.additional_metadata().signs_nobody_in,
                "{endpoint:?}"
            );
            assert!(accepted(&document).is_err(), "{endpoint:?}");
        }
    }

    /// Whoever issues tokens to clients may issue ID tokens.
    #[test]
    fn issuers_with_endpoints_may_sign_people_in() {
        for (member, value) in [
            (
                "authorization_endpoint",
                json!("https://op.example/authorize"),
            ),
            ("token_endpoint", json!("https://op.example/token")),
            (
                "device_authorization_endpoint",
                json!("https://op.example/device"),
            ),
            (
                "backchannel_authentication_endpoint",
                json!("https://op.example/ciba"),
            ),
            ("backchannel_authentication_endpoint", json!("/ciba")),
        ] {
            let mut document = document();
            document.remove("token_endpoint");
            document.remove("authorization_endpoint");
            document.insert(member.into(), value);
            let metadata = accepted_for(&document, Need::Keys).unwrap();
            assert!(!metadata.additional_metadata().signs_nobody_in, "{member}");
        }
        let metadata = accepted(&document()).unwrap();
        assert!(!metadata.additional_metadata().signs_nobody_in);
    }

    /// What the document says of itself under our own names is not read.
    #[test]
    fn a_document_cannot_say_what_is_worked_out_here() {
        let mut document = document();
        document.insert("rocket_openidconnect:signs_nobody_in".into(), json!(true));
        for need in [Need::Keys, Need::SignIn] {
            let metadata = accepted_for(&document, need).unwrap();
            assert!(!metadata.additional_metadata().signs_nobody_in, "{need:?}");
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
