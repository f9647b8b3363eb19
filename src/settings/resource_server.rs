//! The settings of a resource server: which access tokens `Bearer` accepts.

use std::collections::BTreeMap;

use serde::Deserialize;
use url::Url;

use super::{
    Settings,
    declaration::{named, settings},
    mistake::{Mistake, rule},
    value::{Issuer, Resource, RolesClaim, Scope, SomeWords, Words},
};
use crate::token::{Accepts, AudienceClaim};

/// How access tokens are verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TokenValidation {
    /// By their format: JWTs by their signature, other tokens by introspection.
    Auto,
    /// By their signature; other tokens are rejected.
    Jwt,
    /// By introspection, also JWTs: a revocation takes effect within a minute.
    Introspection,
}

/// How the client authenticates at the introspection endpoint
/// ([RFC 7662 §2.1](https://www.rfc-editor.org/rfc/rfc7662#section-2.1)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum IntrospectionAuthMethod {
    /// Identifier and secret in the form.
    ClientSecretPost,
    /// Identifier and secret in the `Authorization` header.
    ClientSecretBasic,
    /// The introspected token in the `Authorization` header, as in Flask-OIDC.
    Bearer,
}

/// The parameter of a token request that names the API which the token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ResourceParameter {
    /// `resource` ([RFC 8707 §2](https://www.rfc-editor.org/rfc/rfc8707#section-2)).
    Resource,
    /// `audience`, as at
    /// [Auth0](https://auth0.com/docs/get-started/authentication-and-authorization-flow/client-credentials-flow/call-your-api-using-the-client-credentials-flow).
    Audience,
    /// None: each scope begins with the identifier of the API, as at
    /// [Microsoft Entra ID](https://learn.microsoft.com/entra/identity-platform/scopes-oidc).
    Scope,
}

/// How an access token is exchanged for one for another API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TokenExchange {
    /// Token exchange ([RFC 8693](https://www.rfc-editor.org/rfc/rfc8693)).
    Standard,
    /// The on-behalf-of flow of
    /// [Microsoft Entra ID](https://learn.microsoft.com/entra/identity-platform/v2-oauth2-on-behalf-of-flow).
    OnBehalfOf,
}

/// Whether access tokens that are bound to a key by DPoP ([RFC 9449](https://www.rfc-editor.org/rfc/rfc9449)) are
/// accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DpopTokens {
    /// Only bearer tokens are accepted.
    Off,
    /// Bound tokens with a proof, and bearer tokens.
    Accepted,
    /// Only bound tokens with a proof.
    Required,
}

named!(
    TokenValidation,
    IntrospectionAuthMethod,
    ResourceParameter,
    TokenExchange,
    DpopTokens
);

settings! {
    /// An additional issuer whose access tokens are accepted: a table below `oidc.issuers`, of any name.
    pub struct IssuerSettings {
        /// The issuer, exactly as in its metadata; with `jwks_uri`, exactly as `iss` of its tokens, which need not be
        /// a URL then.
        pub issuer: String as Issuer,
        /// The accepted values of `aud` of its tokens, at least one required, at guards that name no API.
        ///
        /// _Default:_ none, then `apis` is needed, and guards that name no API accept no token of this issuer
        pub audience: Vec<String> as Words = vec![],
        /// The accepted values of `aud` of its tokens at guards of an API of `oidc.apis`, by the API's name. An API
        /// that is not listed accepts no token of this issuer.
        ///
        /// _Default:_ `{}`
        pub apis: BTreeMap<String, Vec<String>> as BTreeMap<String, SomeWords> = BTreeMap::new(),
        /// Whether clients get access tokens for this app from it: `authorization_servers` of the protected resource
        /// metadata then lists it. An issuer with `jwks_uri` is never listed: clients could not discover it.
        /// [RFC 9728 §2](https://www.rfc-editor.org/rfc/rfc9728#section-2)
        ///
        /// _Default:_ `true`; `false` with `accepts = "identity_tokens"`, because such an issuer signs jobs or people in, and
        /// gives nobody a token for this app
        pub authorization_server: Option<bool> = None,
        /// The URL of its metadata, if it is not the issuer's well-known URL.
        ///
        /// _Default:_ `{issuer}/.well-known/openid-configuration`
        pub server_metadata_url: Option<Url> = None,
        /// See [`Settings::tenants`].
        ///
        /// _Default:_ `[]`
        pub tenants: Vec<String> as Words = vec![],
        /// The URL of its keys, for an issuer without metadata.
        ///
        /// _Default:_ what the metadata says
        pub jwks_uri: Option<Url> = None,
        /// See [`Settings::accepts`]. An issuer whose metadata has no authorization endpoint, and `id_token` as its
        /// only response type, issues identity tokens only, and needs no setting.
        ///
        /// _Default:_ `access_tokens`
        pub accepts: Accepts = Accepts::AccessTokens,
        /// See [`Settings::audience_claim`].
        ///
        /// _Default:_ `aud`
        pub audience_claim: AudienceClaim = AudienceClaim::Aud,
        /// See [`Settings::roles_claim`].
        ///
        /// _Default:_ `roles_claim` of the table `oidc`; with several `tenants`, none
        pub roles_claim: Option<Vec<String>> as Option<Words<RolesClaim>> = None,
    }
}

settings! {
    /// One of several APIs in an app: a table below `oidc.apis`, whose name guards select with
    /// [`Scopes::API`](crate::Scopes::API).
    pub struct ApiSettings {
        /// The identifier of this API: a URL, with a path if needed. Its protected resource metadata is published
        /// at its well-known URL, and clients send it to the provider.
        /// [RFC 9728 §1.2](https://www.rfc-editor.org/rfc/rfc9728#section-1.2)
        pub resource: Url as Resource,
        /// The accepted values of `aud` of an access token for this API, one of which it must contain.
        ///
        /// _Default:_ `resource`
        pub audience: Option<Vec<String>> as Option<SomeWords> = None,
        /// Scopes in its metadata in addition to those of the guards that name this API.
        ///
        /// _Default:_ `[]`
        pub scopes_supported: Vec<String> as Words<Scope> = vec![],
    }
}

impl ApiSettings {
    /// The accepted values of `aud` of an access token, one of which it must contain.
    pub(crate) fn access_token_audience(&self) -> Vec<String> {
        match &self.audience {
            Some(audience) => audience.clone(),
            None => spellings(&self.resource),
        }
    }
}

impl Settings {
    /// The accepted `aud` values of an access token, at least one required, for this `client_id`.
    pub(crate) fn access_token_audience(&self, client_id: &str) -> Vec<String> {
        match (&self.audience, &self.resource) {
            (Some(audience), _) => audience.clone(),
            (None, Some(resource)) => spellings(resource),
            // Without a client id, the app has only its named APIs.
            (None, None) if client_id.is_empty() => vec![],
            (None, None) => vec![client_id.to_owned()],
        }
    }

    /// Whether the audience of access tokens is set.
    pub(crate) fn has_audience(&self) -> bool {
        self.audience.is_some() || self.resource.is_some()
    }

    /// Checks that the app can do without a client id.
    pub(super) fn check_client_id_is_not_needed(&self) -> Result<(), Mistake> {
        const REMEDY: &str =
            "set `client_id` in the table `oidc`, or OIDC_CLIENT_ID, to the identifier that the provider registered";
        rule("client_id", self.resource_server_only)
            .cause("the client's identifier at the provider is missing")
            .remedy(REMEDY)?;
        let is_authenticated = self.introspection_auth_method != Some(IntrospectionAuthMethod::Bearer);
        let introspects = self.token_validation == TokenValidation::Introspection;
        rule("client_id", !(introspects && is_authenticated))
            .cause("introspection needs the client's identifier at the provider, which is missing")
            .remedy(REMEDY)?;
        rule("client_id", self.has_audience() || !self.apis.is_empty())
            .cause("the client's identifier is the audience of access tokens unless another is set, and is missing")
            .remedy("set `audience` to the `aud` of access tokens for this API, or set `client_id`")
    }
}

/// The spellings of a resource in `aud`.
pub(crate) fn spellings(resource: &Url) -> Vec<String> {
    // Clients that normalise URLs request `https://api.example.com/`.
    let mut spellings = vec![resource_identifier(resource), resource.to_string()];
    spellings.dedup();
    spellings
}

/// The identifier of a resource (RFC 9728 §1.2), without the slash of an empty path.
pub(crate) fn resource_identifier(resource: &Url) -> String {
    let path = match resource.path() {
        "/" => "",
        path => path,
    };
    format!("{}{path}", resource.origin().ascii_serialization())
}
