//! The settings: the `oidc` table of the profile, its environment variables, parsed into valid values.
// (skeleton: types and signatures; the settings author fills it in)

use std::{path::PathBuf, time::Duration};
use serde_json::{Map, Value};
use url::Url;
use crate::Secret;

#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    pub enabled: bool,                         // true
    pub testing_profile: Map<String, Value>,   // {}
    pub insecure_testing_profile: bool,        // false
    pub client_secrets: Option<ClientSecrets>, // path or table
    pub issuer: Option<String>,
    pub client_id: Option<String>,
    pub client_secret: Option<Secret>,
    pub client_secret_file: Option<PathBuf>,   // trailing newline trimmed
    pub server_metadata_url: Option<Url>,
    pub scopes: Vec<String>,                   // ["openid","email"], string or list
    pub clock_skew: Duration,                  // 60 s
    pub user_info_enabled: bool,               // true
    pub resource_server_only: bool,            // false
    pub overwrite_redirect_uri: Option<Url>,
    pub base_url: Option<Url>,
    pub preserve_next_on_error: bool,          // false
    pub token_endpoint_auth_method: Option<TokenEndpointAuthMethod>,
    pub id_token_signing_algs: Option<Vec<String>>, // to become crate::token::SigningAlgorithm
    pub post_logout_redirect_uri: Option<String>, // local path or absolute; default "/"
    pub mount: String,                         // "/oidc"
    pub trusted_audiences: Vec<String>,        // []
    pub extra_authorization_parameters: Map<String, Value>, // values string/number/bool
    pub session: SessionSettings,
    pub http: HttpSettings,
    pub dev_provider: Option<DevProviderSettings>, // `true` or a table
}

#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ClientSecrets { File(PathBuf), Table(ClientSecretsTable) }

/// The `web` object of a client_secrets.json.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientSecretsTable {
    pub client_id: String,
    pub client_secret: Option<Secret>,
    pub issuer: String,
    pub redirect_uris: Vec<Url>,
    pub auth_uri: Option<Url>,
    pub token_uri: Option<Url>,
    pub userinfo_uri: Option<Url>,
    pub jwks_uri: Option<Url>,
    pub token_introspection_uri: Option<Url>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenEndpointAuthMethod { ClientSecretBasic, ClientSecretPost, None }

#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionSettings { pub idle: Duration /* 1h */, pub lifetime: Duration /* 12h */, pub max_cookies: usize /* 2, at most 5 */ }

#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HttpSettings { pub connect_timeout: Duration /* 2 s */, pub timeout: Duration /* 5 s */, pub max_body: usize /* 256 KiB */ }

#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DevProviderSettings { pub port: u16 /* 9400 */, pub users: Vec<Map<String, Value>> /* each has `sub`; default alice, bob */ }

/// What the launch knows beside the table.
pub(crate) struct Surroundings { pub debug: bool, pub port: u16, pub tls: bool }

/// Where the app is reached: all that cookies and redirect URIs are derived from.
#[derive(Clone, Debug)]
pub(crate) struct Site { pub base_url: Url, pub redirect_uri: Url, pub mount: String, pub secure: bool }

/// What the settings ask for, with every value present that it needs.
#[derive(Clone, Debug)]
pub(crate) enum Mode {
    Disabled { testing_profile: Option<Map<String, Value>> },
    ResourceServerOnly(Registration),
    RelyingParty { registration: Registration, site: Site },
}

/// The client as the provider knows it.
#[derive(Clone, Debug)]
pub(crate) struct Registration {
    pub issuer: String,
    pub client_id: String,
    pub client_secret: Option<Secret>,
    pub metadata: MetadataSource,
}

#[derive(Clone, Debug)]
pub(crate) enum MetadataSource {
    Discovery { url: Url },
    /// from client_secrets: no discovery
    Given { authorization_endpoint: Url, token_endpoint: Url, userinfo_endpoint: Option<Url>, jwks_uri: Url, introspection_endpoint: Option<Url> },
}

impl Settings {
    // pub fn extract(figment: &figment::Figment) -> Result<Settings, SettingsError>   (the rocket figment; focuses "oidc", merges OIDC_*)
    // pub(crate) fn site(&self, surroundings: &Surroundings) -> Result<Site, SettingsError>
    // pub(crate) fn mode(&self, surroundings: &Surroundings) -> Result<Mode, SettingsError>
    // pub(crate) fn relaxations(&self) -> Vec<String>
}
