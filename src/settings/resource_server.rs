//! What an API accepts: the settings behind `Bearer`.

use std::collections::BTreeMap;

use serde::Deserialize;
use url::Url;

use super::{
    Settings,
    declaration::{named, settings},
    value::{Issuer, Resource, RolesClaim, Scope, SomeWords, Words},
};
use crate::token::{Accepts, AudienceClaim};

/// How access tokens are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TokenValidation {
    /// By their shape: JWTs by their signature, other tokens by introspection.
    Auto,
    /// By their signature; other tokens are refused.
    Jwt,
    /// By introspection, JWTs too: a revoked one is noticed within a minute.
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
    /// The token that is asked about in the `Authorization` header, as Flask-OIDC has it.
    Bearer,
}

named!(TokenValidation, IntrospectionAuthMethod);

settings! {
    /// A further issuer whose access tokens are accepted: a table below `oidc.issuers`, of any name.
    pub struct IssuerSettings {
        /// The issuer, exactly as its metadata has it; with `jwks_uri`, exactly as its tokens have it in `iss`, which need
        /// not be an address then.
        pub issuer: String as Issuer,
        /// What `aud` of its tokens must contain one of at guards that name no API: an identifier of this app's API.
        ///
        /// _Default:_ none, then `apis` is needed, and guards that name no API accept no token of this issuer
        pub audience: Vec<String> as Words = vec![],
        /// What `aud` of its tokens must contain one of at guards of an API of `oidc.apis`, by the API's name. An API that
        /// is not listed accepts no token of this issuer.
        ///
        /// _Default:_ `{}`
        pub apis: BTreeMap<String, Vec<String>> as BTreeMap<String, SomeWords> = BTreeMap::new(),
        /// Whether clients get access tokens for this app from it: `authorization_servers` of the protected resource
        /// metadata lists it. One with `jwks_uri` is not listed in any case: without metadata nobody is sent there.
        /// [RFC 9728 §2](https://www.rfc-editor.org/rfc/rfc9728#section-2)
        ///
        /// _Default:_ `true`; `false` with `accepts = "identity_tokens"`, because such an issuer signs jobs or people in, and
        /// gives nobody a token for this app
        pub authorization_server: Option<bool> = None,
        /// Where its metadata is, if not at the issuer's well-known place.
        ///
        /// _Default:_ `{issuer}/.well-known/openid-configuration`
        pub server_metadata_url: Option<Url> = None,
        /// As [`Settings::tenants`].
        ///
        /// _Default:_ `[]`
        pub tenants: Vec<String> as Words = vec![],
        /// Where its keys are, for an issuer without metadata.
        ///
        /// _Default:_ what the metadata says
        pub jwks_uri: Option<Url> = None,
        /// As [`Settings::accepts`]. An issuer whose metadata has nowhere to sign in, and `id_token` as its only response
        /// type, has identity tokens alone, and needs no setting.
        ///
        /// _Default:_ `access_tokens`
        pub accepts: Accepts = Accepts::AccessTokens,
        /// As [`Settings::audience_claim`].
        ///
        /// _Default:_ `aud`
        pub audience_claim: AudienceClaim = AudienceClaim::Aud,
        /// As [`Settings::roles_claim`].
        ///
        /// _Default:_ `roles_claim` of the table `oidc`
        pub roles_claim: Option<Vec<String>> as Option<Words<RolesClaim>> = None,
    }
}

settings! {
    /// One of several APIs in an app: a table below `oidc.apis`, whose name guards ask for by
    /// [`Scopes::API`](crate::Scopes::API).
    pub struct ApiSettings {
        /// The identifier of this API: an address, with a path if need be. Its protected resource metadata is published under
        /// it, and clients name it to the provider.
        /// [RFC 9728 §1.2](https://www.rfc-editor.org/rfc/rfc9728#section-1.2)
        pub resource: Url as Resource,
        /// What `aud` of an access token for this API must contain one of.
        ///
        /// _Default:_ `resource`
        pub audience: Option<Vec<String>> as Option<SomeWords> = None,
        /// Scopes for its metadata beside those of the guards that name this API.
        ///
        /// _Default:_ `[]`
        pub scopes_supported: Vec<String> as Words<Scope> = vec![],
    }
}

impl ApiSettings {
    /// What `aud` of an access token must contain one of.
    pub(crate) fn access_token_audience(&self) -> Vec<String> {
        match &self.audience {
            Some(audience) => audience.clone(),
            None => spellings(&self.resource),
        }
    }
}

impl Settings {
    /// What `aud` of an access token must contain one of, for a client of this `client_id`.
    pub(crate) fn access_token_audience(&self, client_id: &str) -> Vec<String> {
        match (&self.audience, &self.resource) {
            (Some(audience), _) => audience.clone(),
            (None, Some(resource)) => spellings(resource),
            // Known by no client id, the app has its named APIs alone.
            (None, None) if client_id.is_empty() => vec![],
            (None, None) => vec![client_id.to_owned()],
        }
    }

    /// Whether it is said which audience access tokens have.
    pub(crate) fn has_audience(&self) -> bool {
        self.audience.is_some() || self.resource.is_some()
    }

    /// What needs a client id, if anything does: a cause and a remedy.
    pub(super) fn need_of_client_id(&self) -> Option<(&'static str, &'static str)> {
        if !self.resource_server_only {
            return Some((
                "the client's identifier at the provider is missing",
                "set `client_id` in the table `oidc`, or OIDC_CLIENT_ID, to what the provider registered",
            ));
        }
        if self.token_validation == TokenValidation::Introspection
            && self.introspection_auth_method != Some(IntrospectionAuthMethod::Bearer)
        {
            return Some((
                "the provider is asked about tokens, and the client's identifier there is missing",
                "set `client_id` in the table `oidc`, or OIDC_CLIENT_ID, to what the provider registered",
            ));
        }
        if self.audience.is_none() && self.resource.is_none() && self.apis.is_empty() {
            return Some((
                "the client's identifier is the audience of access tokens unless another is set, and is missing",
                "set `audience` to what the provider puts into `aud` for this API, or `client_id`",
            ));
        }
        None
    }
}

/// What stands for a resource in `aud`.
pub(crate) fn spellings(resource: &Url) -> Vec<String> {
    // Clients that write URLs by the book ask for `https://api.example.com/`.
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
