//! What an API accepts: the settings behind `Bearer`.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use url::Url;

use super::{
    Registration, Settings, SettingsError,
    mode::MetadataSource,
    value::{self, AcceptsName, Address, AudienceClaimName, Text, Words},
};
use crate::token::{Accepts, AudienceClaim, ClaimPath, SigningAlgorithm};

/// How access tokens are checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenValidation {
    /// By their shape: JWTs by their signature, other tokens by introspection.
    #[default]
    Auto,
    /// By their signature; other tokens are refused.
    Jwt,
    /// By introspection, JWTs too: a revoked one is noticed within a minute.
    Introspection,
}

/// How the client authenticates at the introspection endpoint
/// ([RFC 7662 §2.1](https://www.rfc-editor.org/rfc/rfc7662#section-2.1)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IntrospectionAuthMethod {
    /// Identifier and secret in the form.
    ClientSecretPost,
    /// Identifier and secret in the `Authorization` header.
    ClientSecretBasic,
    /// The token that is asked about in the `Authorization` header, as Flask-OIDC has it.
    Bearer,
}

/// A further issuer whose access tokens are accepted: a table below `oidc.issuers`, of any name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct IssuerSettings {
    /// The issuer, exactly as its metadata has it; with `jwks_uri`, exactly as its tokens have it in `iss`, which need
    /// not be an address then.
    #[serde(deserialize_with = "value::via::<_, Text, _>")]
    pub issuer: String,
    /// What `aud` of its tokens must contain one of at guards that name no API: an identifier of this app's API.
    ///
    /// _Default:_ none, then `apis` is needed, and guards that name no API accept no token of this issuer
    #[serde(default, deserialize_with = "value::via::<_, Words, _>")]
    pub audience: Vec<String>,
    /// What `aud` of its tokens must contain one of at guards of an API of `oidc.apis`, by the API's name. An API that
    /// is not listed accepts no token of this issuer.
    ///
    /// _Default:_ `{}`
    #[serde(default, deserialize_with = "audiences")]
    pub apis: BTreeMap<String, Vec<String>>,
    /// Whether clients get access tokens for this app from it: `authorization_servers` of the protected resource
    /// metadata lists it. One with `jwks_uri` is not listed in any case: without metadata nobody is sent there.
    /// [RFC 9728 §2](https://www.rfc-editor.org/rfc/rfc9728#section-2)
    ///
    /// _Default:_ `true`; `false` with `accepts = "identity_tokens"`, because such an issuer signs jobs or people in, and
    /// gives nobody a token for this app
    #[serde(default)]
    pub authorization_server: Option<bool>,
    /// Where its metadata is, if not at the issuer's well-known place.
    ///
    /// _Default:_ `{issuer}/.well-known/openid-configuration`
    #[serde(default, deserialize_with = "value::optional::<_, Address, _>")]
    pub server_metadata_url: Option<Url>,
    /// As [`Settings::tenants`].
    ///
    /// _Default:_ `[]`
    #[serde(default, deserialize_with = "value::via::<_, Words, _>")]
    pub tenants: Vec<String>,
    /// Where its keys are, for an issuer without metadata.
    ///
    /// _Default:_ what the metadata says
    #[serde(default, deserialize_with = "value::optional::<_, Address, _>")]
    pub jwks_uri: Option<Url>,
    /// As [`Settings::accepts`]. An issuer whose metadata has nowhere to sign in, and `id_token` as its only response
    /// type, has identity tokens alone, and needs no setting.
    ///
    /// _Default:_ `access_tokens`
    #[serde(default, deserialize_with = "value::via::<_, AcceptsName, _>")]
    pub accepts: Accepts,
    /// As [`Settings::audience_claim`].
    ///
    /// _Default:_ `aud`
    #[serde(default, deserialize_with = "value::via::<_, AudienceClaimName, _>")]
    pub audience_claim: AudienceClaim,
    /// As [`Settings::roles_claim`].
    ///
    /// _Default:_ `roles_claim` of the table `oidc`
    #[serde(default, deserialize_with = "value::optional::<_, Words, _>")]
    pub roles_claim: Option<Vec<String>>,
}

fn audiences<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, Vec<String>>, D::Error> {
    let audiences = BTreeMap::<String, Words>::deserialize(deserializer)?;
    let audiences = audiences.into_iter();
    Ok(audiences
        .map(|(name, words)| (name, words.into()))
        .collect())
}

/// One of several APIs in an app: a table below `oidc.apis`, whose name guards ask for by
/// [`Scopes::API`](crate::Scopes::API).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ApiSettings {
    /// The identifier of this API: an address, with a path if need be. Its protected resource metadata is published under
    /// it, and clients name it to the provider.
    /// [RFC 9728 §1.2](https://www.rfc-editor.org/rfc/rfc9728#section-1.2)
    #[serde(deserialize_with = "value::via::<_, Address, _>")]
    pub resource: Url,
    /// What `aud` of an access token for this API must contain one of.
    ///
    /// _Default:_ `resource`
    #[serde(default, deserialize_with = "value::optional::<_, Words, _>")]
    pub audience: Option<Vec<String>>,
    /// Scopes for its metadata beside those of the guards that name this API.
    ///
    /// _Default:_ `[]`
    #[serde(default, deserialize_with = "value::via::<_, Words, _>")]
    pub scopes_supported: Vec<String>,
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

impl IssuerSettings {
    /// As whom a further issuer knows us: as nobody. Its metadata and keys are read, and no more.
    pub(crate) fn registration(
        &self,
        name: &str,
        settings: &Settings,
    ) -> Result<Registration, SettingsError> {
        let metadata = match (&self.jwks_uri, &self.server_metadata_url) {
            (Some(url), _) => MetadataSource::Keys {
                jwks_uri: url.clone(),
            },
            (None, Some(url)) => MetadataSource::Discovery { url: url.clone() },
            (None, None) => settings.discovery(&self.issuer)?,
        };
        let table = format!("issuers.{name}.");
        Ok(Registration {
            issuer: self.issuer.clone(),
            tenants: settings.tenants_of(&table, &self.issuer, &self.tenants, &metadata)?,
            client_id: String::new(),
            client_secret: None,
            client_key: None,
            metadata,
            introspection_endpoint: None,
        })
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

    /// The algorithms an access token may be signed with, when that is set.
    pub(crate) fn access_token_algorithms(&self) -> Option<Vec<SigningAlgorithm>> {
        let names = self.access_token_signing_algs.as_ref()?;
        Some(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    pub(super) fn check_resource_server(&self) -> Result<(), SettingsError> {
        self.check_access_token_algorithms()?;
        if self.audience.as_ref().is_some_and(Vec::is_empty) {
            return Err(self.error(
                "audience",
                "no audience is left, so that no token could be accepted",
                "set `audience` to what the provider puts into `aud` for this API, or remove it",
            ));
        }
        // RFC 9110 §5.6.4: what a quoted string can hold without escapes.
        let plain = |c: char| matches!(c, ' ' | '!' | '#'..='[' | ']'..='~');
        if self.realm.is_empty() || !self.realm.chars().all(plain) {
            return Err(self.error(
                "realm",
                format!("{:?} cannot stand in a challenge", self.realm),
                "write it in printable ASCII, without quotes and backslashes",
            ));
        }
        if let Some(resource) = &self.resource {
            self.check_resource("resource", resource)?;
        }
        self.check_scopes_supported("scopes_supported", &self.scopes_supported)?;
        self.check_apis()?;
        self.check_issuers()
    }

    fn check_resource(&self, key: &str, resource: &Url) -> Result<(), SettingsError> {
        if resource.fragment().is_some() || resource.query().is_some() {
            return Err(self.error(
                key,
                format!("`{resource}` has a query or a fragment"),
                "write scheme, host and path of the API (RFC 9728 §1.2)",
            ));
        }
        match is_plain(resource.path()) {
            true => Ok(()),
            false => Err(self.error(
                key,
                format!(
                    "no metadata can be served for the path `{}`",
                    resource.path()
                ),
                "write a path of letters, digits and `.`, `_`, `~`, `-`, such as `/v1`",
            )),
        }
    }

    fn check_scopes_supported(&self, key: &str, scopes: &[String]) -> Result<(), SettingsError> {
        let allowed = |c: char| matches!(c, '!' | '#'..='[' | ']'..='~');
        match scopes.iter().find(|scope| !scope.chars().all(allowed)) {
            Some(scope) => Err(self.error(
                key,
                format!("{scope:?} is not a scope"),
                "write scopes in printable ASCII, without quotes and backslashes",
            )),
            None => Ok(()),
        }
    }

    /// The APIs that guards ask for by name.
    fn check_apis(&self) -> Result<(), SettingsError> {
        let mut resources = BTreeMap::new();
        if let Some(resource) = &self.resource {
            resources.insert(resource_identifier(resource), "oidc.resource".to_owned());
        }
        for (name, api) in &self.apis {
            let key = format!("apis.{name}.resource");
            self.check_resource(&key, &api.resource)?;
            let identifier = resource_identifier(&api.resource);
            if let Some(other) = resources.insert(identifier, format!("oidc.apis.{name}")) {
                let cause = format!("`{}` is the resource of `{other}` already", api.resource);
                return Err(self.error(&key, cause, "give each API an address of its own"));
            }
            if api.audience.as_ref().is_some_and(Vec::is_empty) {
                return Err(self.error(
                    &format!("apis.{name}.audience"),
                    "no audience is left, so that no token could be accepted",
                    "set it to what the provider puts into `aud` for this API, or remove it",
                ));
            }
            let key = format!("apis.{name}.scopes_supported");
            self.check_scopes_supported(&key, &api.scopes_supported)?;
        }
        Ok(())
    }

    fn check_issuers(&self) -> Result<(), SettingsError> {
        if self.token_validation == TokenValidation::Introspection
            && let Some(name) = self.issuers.keys().next()
        {
            return Err(self.error(
                "token_validation",
                format!(
                    "every token is asked about at `oidc.issuer`, which knows none of `oidc.issuers.{name}`"
                ),
                format!("set `token_validation = \"auto\"`, or remove `issuers.{name}`"),
            ));
        }
        for (name, other) in &self.issuers {
            let key = format!("issuers.{name}.issuer");
            match &other.jwks_uri {
                None => self.check_issuer(&key, &other.issuer)?,
                Some(url) => self.check_endpoint(&format!("issuers.{name}.jwks_uri"), url)?,
            }
            if self.issuer.as_ref() == Some(&other.issuer) {
                let cause = format!("{:?} is `oidc.issuer` already", other.issuer);
                return Err(self.error(&key, cause, format!("remove `issuers.{name}`")));
            }
            let mut before = self
                .issuers
                .iter()
                .take_while(|(before, _)| *before != name);
            if let Some((before, _)) = before.find(|(_, before)| before.issuer == other.issuer) {
                let cause = format!("{:?} is `oidc.issuers.{before}` already", other.issuer);
                return Err(self.error(&key, cause, format!("remove `issuers.{name}`")));
            }
            if other.audience.is_empty() && other.apis.is_empty() {
                return Err(self.error(
                    &format!("issuers.{name}.audience"),
                    "no audience is left, so that no token could be accepted",
                    "set it to what that issuer puts into `aud` for this API",
                ));
            }
            for (api, audience) in &other.apis {
                let key = format!("issuers.{name}.apis.{api}");
                if !self.apis.contains_key(api) {
                    let cause = format!("there is no API `oidc.apis.{api}`");
                    let remedy = format!("add a table `oidc.apis.{api}`, or remove this");
                    return Err(self.error(&key, cause, remedy));
                }
                if audience.is_empty() {
                    return Err(self.error(
                        &key,
                        "no audience is left, so that no token could be accepted",
                        "set it to what that issuer puts into `aud` for this API",
                    ));
                }
            }
            if let Some(url) = &other.server_metadata_url {
                let key = format!("issuers.{name}.server_metadata_url");
                self.check_endpoint(&key, url)?;
                if other.jwks_uri.is_some() {
                    return Err(self.error(
                        &key,
                        "`jwks_uri` is set too, with which no metadata is read",
                        "remove one of them",
                    ));
                }
            }
            if let Some(paths) = &other.roles_claim {
                self.check_roles(&format!("issuers.{name}.roles_claim"), paths)?;
            }
        }
        self.check_roles("roles_claim", &self.roles_claim)
    }

    fn check_roles(&self, key: &str, paths: &[String]) -> Result<(), SettingsError> {
        match paths.iter().find(|path| ClaimPath::parse(path).is_none()) {
            Some(path) => Err(self.error(
                key,
                format!("{path:?} is not a JSON Pointer"),
                "write `~0` for `~` and `~1` for `/` in a name (RFC 6901)",
            )),
            None => Ok(()),
        }
    }

    fn check_access_token_algorithms(&self) -> Result<(), SettingsError> {
        let Some(names) = &self.access_token_signing_algs else {
            return Ok(());
        };
        let is_good =
            |name: &String| matches!(name.parse(), Ok(alg) if !SigningAlgorithm::is_symmetric(alg));
        let cause = match names.iter().find(|name| !is_good(name)) {
            Some(name) => {
                format!("{name:?} is not an algorithm that access tokens may be signed with")
            }
            None if names.is_empty() => "no signing algorithm is left".to_owned(),
            None => return Ok(()),
        };
        Err(self.error(
            "access_token_signing_algs",
            cause,
            "choose from RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA, or remove it",
        ))
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

/// Whether a path means the same in a route of this app as in a URL.
fn is_plain(path: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '~' | '-' | '/');
    path.chars().all(plain) && !path.contains("//")
}
