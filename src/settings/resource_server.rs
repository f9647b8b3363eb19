//! What an API accepts: the settings behind `Bearer`.

use serde::Deserialize;
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
    /// What `aud` of its tokens must contain one of: an identifier of this API.
    #[serde(deserialize_with = "value::via::<_, Words, _>")]
    pub audience: Vec<String>,
    /// Where its metadata is, if not at the issuer's well-known place.
    ///
    /// _Default:_ `{issuer}/.well-known/openid-configuration`
    #[serde(default, deserialize_with = "value::optional::<_, Address, _>")]
    pub server_metadata_url: Option<Url>,
    /// Where its keys are, for an issuer without metadata.
    ///
    /// _Default:_ what the metadata says
    #[serde(default, deserialize_with = "value::optional::<_, Address, _>")]
    pub jwks_uri: Option<Url>,
    /// As [`Settings::accepts`]. An issuer whose metadata has nowhere to sign in has identity tokens alone, and needs
    /// no setting.
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

impl IssuerSettings {
    /// As whom a further issuer knows us: as nobody. Its metadata and keys are read, and no more.
    pub(crate) fn registration(&self, settings: &Settings) -> Result<Registration, SettingsError> {
        let metadata = match (&self.jwks_uri, &self.server_metadata_url) {
            (Some(url), _) => MetadataSource::Keys {
                jwks_uri: url.clone(),
            },
            (None, Some(url)) => MetadataSource::Discovery { url: url.clone() },
            (None, None) => settings.discovery(&self.issuer)?,
        };
        Ok(Registration {
            issuer: self.issuer.clone(),
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
            (None, Some(resource)) => {
                // Clients that write URLs by the book ask for `https://api.example.com/`.
                let mut spellings = vec![resource_identifier(resource), resource.to_string()];
                spellings.dedup();
                spellings
            }
            (None, None) => vec![client_id.to_owned()],
        }
    }

    /// Whether it is said which audience access tokens have.
    pub(crate) fn has_audience(&self) -> bool {
        self.audience.is_some() || self.resource.is_some()
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
        if let Some(resource) = &self.resource
            && (resource.fragment().is_some() || resource.query().is_some())
        {
            return Err(self.error(
                "resource",
                format!("`{resource}` has a query or a fragment"),
                "write scheme, host and path of the API (RFC 9728 §1.2)",
            ));
        }
        if let Some(resource) = &self.resource
            && !is_plain(resource.path())
        {
            return Err(self.error(
                "resource",
                format!(
                    "no metadata can be served for the path `{}`",
                    resource.path()
                ),
                "write a path of letters, digits and `.`, `_`, `~`, `-`, such as `/v1`",
            ));
        }
        let allowed = |c: char| matches!(c, '!' | '#'..='[' | ']'..='~');
        if let Some(scope) = self
            .scopes_supported
            .iter()
            .find(|scope| !scope.chars().all(allowed))
        {
            return Err(self.error(
                "scopes_supported",
                format!("{scope:?} is not a scope"),
                "write scopes in printable ASCII, without quotes and backslashes",
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
            if other.audience.is_empty() {
                return Err(self.error(
                    &format!("issuers.{name}.audience"),
                    "no audience is left, so that no token could be accepted",
                    "set it to what that issuer puts into `aud` for this API",
                ));
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
