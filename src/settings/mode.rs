//! The mode of the app, resolved from the settings at launch, and its client registration at the provider.

use std::{borrow::Cow, path::Path};

use serde_json::{Map, Value};
use url::Url;

use super::{
    ClientSecrets, ClientSecretsTable, IntrospectionAuthMethod, IssuerSettings, RocketConfig, Settings, SettingsError,
    TokenEndpointAuthMethod,
    client_secrets::read_text,
    error::list,
    site::Site,
    stray_characters::{has_control, trimmed},
};
use crate::{
    secret::Secret,
    token::{ExpectedIssuer, PrivateKey, Tenants},
};

/// The role of the app, with every value that it requires.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one in an app")]
pub(crate) enum Mode {
    Disabled {
        testing_profile: Option<Map<String, Value>>,
    },
    ResourceServerOnly(Registration),
    RelyingParty {
        registration: Registration,
        site: Site,
    },
}

/// The app's client registration at the provider.
#[derive(Clone, Debug)]
pub(crate) struct Registration {
    /// The issuer, exactly as in the metadata.
    pub issuer: String,
    /// The accepted tenants, if the issuer is a template.
    pub tenants: Option<Tenants>,
    /// Empty for a resource server that needs none.
    pub client_id: String,
    pub client_secret: Option<Secret>,
    /// The private key that signs its assertions.
    pub client_key: Option<PrivateKey>,
    pub metadata: MetadataSource,
    /// The introspection endpoint in client secrets; otherwise that of the metadata is used.
    pub introspection_endpoint: Option<Url>,
}

impl Registration {
    /// The issuer or issuers whose tokens are accepted.
    pub(crate) fn expected_issuer(&self) -> ExpectedIssuer<'_> {
        ExpectedIssuer::new(&self.issuer, self.tenants.as_ref())
    }

    /// Whether the app can authenticate at the introspection endpoint.
    pub(crate) fn may_introspect(&self, settings: &Settings) -> bool {
        !self.client_id.is_empty() || settings.introspection_auth_method == Some(IntrospectionAuthMethod::Bearer)
    }
}

/// The source of the provider's endpoints.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one in an app")]
pub(crate) enum MetadataSource {
    Discovery {
        url: Url,
    },
    /// From client secrets, without discovery.
    Given(GivenEndpoints),
    /// Only keys, for a further issuer whose tokens are accepted and which is not contacted otherwise.
    Keys {
        jwks_uri: Url,
    },
}

/// The endpoints in client secrets.
#[derive(Clone, Debug)]
pub(crate) struct GivenEndpoints {
    pub authorization_endpoint: Url,
    pub token_endpoint: Url,
    pub userinfo_endpoint: Option<Url>,
    pub jwks_uri: Url,
}

impl Settings {
    /// Resolves the mode. If the settings enable a development provider, it is running by now, and its `issuer` and
    /// `client_id` are filled in.
    pub(crate) fn mode(&self, rocket_config: &RocketConfig) -> Result<Mode, SettingsError> {
        self.check()?;
        self.check_dev_provider(rocket_config)?;
        if !self.enabled {
            return self.disabled(rocket_config);
        }
        let client_secrets = self.client_secrets()?;
        let registration = self.registration(client_secrets.as_deref())?;
        if self.resource_server_only {
            return Ok(Mode::ResourceServerOnly(registration));
        }
        self.check_authentication(&registration)?;
        Ok(Mode::RelyingParty {
            registration,
            site: self.site(rocket_config)?,
        })
    }

    /// The development provider to start, if any. Call this before its issuer is filled in.
    #[cfg(feature = "dev-provider")]
    pub(crate) fn dev_provider_to_start(
        &self,
        rocket_config: &RocketConfig,
    ) -> Result<Option<&super::DevProviderSettings>, SettingsError> {
        self.check()?;
        self.check_dev_provider(rocket_config)?;
        let Some(dev_provider) = self.dev_provider.as_ref().filter(|_| self.enabled) else {
            return Ok(None);
        };
        for (key, is_absent) in [
            ("provider", self.provider.is_none()),
            ("issuer", self.issuer.is_none()),
            ("server_metadata_url", self.server_metadata_url.is_none()),
            ("client_secrets", self.client_secrets.is_none()),
        ] {
            let other = self.origins.find(key);
            self.ensure(
                is_absent,
                "dev_provider",
                format!("{other} is set too, and there can be only one provider"),
                format!("remove `{key}`, or set `dev_provider = false`"),
            )?;
        }
        Ok(Some(dev_provider))
    }

    fn check_dev_provider(&self, rocket_config: &RocketConfig) -> Result<(), SettingsError> {
        let is_absent = self.dev_provider.is_none();
        self.ensure(
            is_absent || rocket_config.debug,
            "dev_provider",
            "the development provider starts in the debug profile only",
            "remove `dev_provider` and set `issuer`, or select the profile with ROCKET_PROFILE=debug",
        )?;
        self.ensure(
            is_absent || cfg!(feature = "dev-provider"),
            "dev_provider",
            "the development provider is not compiled in",
            "turn on the feature `dev-provider` of `rocket_openidconnect` in Cargo.toml, or remove `dev_provider`",
        )
    }

    fn disabled(&self, rocket_config: &RocketConfig) -> Result<Mode, SettingsError> {
        let profile = Some(&self.testing_profile).filter(|profile| !profile.is_empty());
        self.ensure(
            profile.is_none() || rocket_config.debug || self.insecure_testing_profile,
            "testing_profile",
            "outside the debug profile, every visitor would be this user",
            "set `enabled = true`, or remove `testing_profile`; a closed test environment may set \
             `insecure_testing_profile = true`",
        )?;
        Ok(Mode::Disabled {
            testing_profile: profile.cloned(),
        })
    }

    pub(super) fn client_secrets(&self) -> Result<Option<Cow<'_, ClientSecretsTable>>, SettingsError> {
        match &self.client_secrets {
            None => Ok(None),
            Some(ClientSecrets::Table(table)) => Ok(Some(Cow::Borrowed(table))),
            Some(ClientSecrets::File(path)) => ClientSecretsTable::read(path)
                .map(|(table, _)| Some(Cow::Owned(table)))
                .map_err(|(cause, remedy)| self.error("client_secrets", cause, remedy)),
        }
    }

    fn registration(&self, client_secrets: Option<&ClientSecretsTable>) -> Result<Registration, SettingsError> {
        let file_issuer = client_secrets.and_then(|table| table.issuer.as_ref());
        let issuer = match (&self.issuer, file_issuer) {
            (Some(issuer), _) => issuer,
            (None, Some(issuer)) => {
                self.check_issuer("client_secrets", issuer)?;
                issuer
            }
            (None, None) => return Err(self.missing_issuer()),
        };
        let client_id = self
            .client_id
            .as_ref()
            .or(client_secrets.and_then(|table| table.client_id.as_ref()))
            .filter(|client_id| !client_id.is_empty());
        let client_id = match (client_id, self.need_of_client_id()) {
            (Some(client_id), _) => client_id.clone(),
            (None, None) => String::new(),
            (None, Some((cause, remedy))) => return Err(self.error("client_id", cause, remedy)),
        };
        let metadata = match (&self.server_metadata_url, client_secrets) {
            (Some(url), _) => MetadataSource::Discovery { url: url.clone() },
            // Endpoints belong to the issuer in the same table.
            (None, Some(table)) if table.is_of(issuer) => self.metadata(issuer, table)?,
            (None, _) => self.discovery(issuer)?,
        };
        Ok(Registration {
            issuer: issuer.clone(),
            tenants: self.tenants_of("", issuer, &self.tenants, &metadata)?,
            client_id,
            client_secret: self.secret(client_secrets)?,
            client_key: self.client_key()?,
            metadata,
            introspection_endpoint: self.introspection_endpoint(issuer, client_secrets)?,
        })
    }

    fn introspection_endpoint(
        &self,
        issuer: &str,
        client_secrets: Option<&ClientSecretsTable>,
    ) -> Result<Option<Url>, SettingsError> {
        let of_issuer = client_secrets.filter(|table| table.is_of(issuer));
        let url = of_issuer.and_then(|table| table.token_introspection_uri.as_ref());
        url.map_or(Ok(()), |url| self.check_endpoint("client_secrets", url))?;
        Ok(url.cloned())
    }

    fn missing_issuer(&self) -> SettingsError {
        const WELL_KNOWN: &str = "/.well-known/openid-configuration";
        let metadata_url = self.server_metadata_url.as_ref().map(Url::as_str);
        let remedy = match metadata_url.and_then(|url| url.strip_suffix(WELL_KNOWN)) {
            Some(issuer) => format!("set `issuer` to the `issuer` in the metadata, probably `{issuer}` or `{issuer}/`"),
            None => "set `issuer` in the table `oidc`, or OIDC_ISSUER; to do without a provider, \
                     set `enabled = false` or, while developing, `dev_provider = true`"
                .to_owned(),
        };
        self.error("issuer", "the provider's issuer is missing", remedy)
    }

    /// Discovery §4: the well-known path is appended to the issuer, without a `/` at its end.
    pub(super) fn discovery(&self, issuer: &str) -> Result<MetadataSource, SettingsError> {
        let base = issuer.strip_suffix('/').unwrap_or(issuer);
        match Url::parse(&format!("{base}/.well-known/openid-configuration")) {
            Ok(url) => Ok(MetadataSource::Discovery { url }),
            Err(error) => Err(self.error("issuer", error.to_string(), "correct `issuer`")),
        }
    }

    fn metadata(&self, issuer: &str, table: &ClientSecretsTable) -> Result<MetadataSource, SettingsError> {
        let (Some(authorization), Some(token), Some(jwks)) = (&table.auth_uri, &table.token_uri, &table.jwks_uri)
        else {
            return self.discovery(issuer);
        };
        for url in [authorization, token, jwks].into_iter().chain(&table.userinfo_uri) {
            self.check_endpoint("client_secrets", url)?;
        }
        Ok(MetadataSource::Given(GivenEndpoints {
            authorization_endpoint: authorization.clone(),
            token_endpoint: token.clone(),
            userinfo_endpoint: table.userinfo_uri.clone(),
            jwks_uri: jwks.clone(),
        }))
    }

    /// A warning at liftoff about endpoints in client secrets that are not used, and why.
    pub(crate) fn unused_endpoints(&self) -> Option<SettingsError> {
        if !self.enabled {
            return None;
        }
        let table = self.client_secrets().ok()??;
        let members = [
            ("auth_uri", &table.auth_uri, true),
            ("token_uri", &table.token_uri, true),
            ("userinfo_uri", &table.userinfo_uri, false),
            ("jwks_uri", &table.jwks_uri, true),
        ];
        let found = members.iter().filter(|(_, uri, _)| uri.is_some());
        let found = list(found.map(|(member, ..)| *member), "and")?;
        let unused = |why: String, remedy: String| {
            let cause = format!("the endpoints in it are not used ({found}): {why}");
            Some(self.error("client_secrets", cause, remedy))
        };
        if self.server_metadata_url.is_some() {
            return unused(
                "`server_metadata_url` names the metadata that has the endpoints".to_owned(),
                "remove them, or `server_metadata_url`".to_owned(),
            );
        }
        if let (Some(issuer), Some(other)) = (&self.issuer, &table.issuer)
            && issuer != other
        {
            return unused(
                format!("they belong to `{other}`, and `issuer` is `{issuer}`"),
                "remove them, or `issuer`".to_owned(),
            );
        }
        let missing = members
            .iter()
            .filter(|(_, uri, is_required)| *is_required && uri.is_none());
        let missing = list(missing.map(|(member, ..)| *member), "and")?;
        unused(
            format!("without {missing} the endpoints are discovered"),
            format!("add {missing}, or remove the other endpoints"),
        )
    }

    fn secret(&self, client_secrets: Option<&ClientSecretsTable>) -> Result<Option<Secret>, SettingsError> {
        const KEY: &str = "client_secret_file";
        let Some(path) = &self.client_secret_file else {
            let of_table = || client_secrets?.client_secret.clone();
            return Ok(self.client_secret.clone().or_else(of_table));
        };
        let other = self.origins.find("client_secret");
        self.ensure(
            self.client_secret.is_none(),
            KEY,
            format!("{other} is set too, and there can be only one secret"),
            "remove `client_secret` or `client_secret_file`",
        )?;
        let text = self.read_file(KEY, path)?;
        let (text, shown) = (trimmed(&text), path.display());
        self.ensure(
            !text.is_empty(),
            KEY,
            format!("`{shown}` is empty"),
            format!("write the client secret into `{shown}`, or remove `client_secret_file`"),
        )?;
        self.ensure(
            !has_control(text),
            KEY,
            format!("`{shown}` has a line break or another invisible character in it"),
            format!("write the client secret into `{shown}`, on one line, and nothing else"),
        )?;
        Ok(Some(Secret::new(text)))
    }

    fn client_key(&self) -> Result<Option<PrivateKey>, SettingsError> {
        let Some(path) = &self.private_key_file else {
            return Ok(None);
        };
        let key = PrivateKey::parse(&self.read_file("private_key_file", path)?);
        let key = key.map_err(|error| {
            self.error(
                "private_key_file",
                format!("`{}` is of no use: {error}", path.display()),
                "make a key by `openssl genpkey -algorithm ed25519` or `-algorithm rsa`, and register its \
                 public part at the provider",
            )
        })?;
        Ok(Some(key.named(self.private_key_id.as_deref())))
    }

    fn read_file(&self, key: &str, path: &Path) -> Result<String, SettingsError> {
        read_text(path).map_err(|(cause, remedy)| self.error(key, cause, remedy))
    }

    fn check_authentication(&self, registration: &Registration) -> Result<(), SettingsError> {
        const KEY: &str = "token_endpoint_auth_method";
        let Some(method) = self.token_endpoint_auth_method else {
            return Ok(());
        };
        self.ensure(
            method != TokenEndpointAuthMethod::PrivateKeyJwt || registration.client_key.is_some(),
            KEY,
            "`private_key_jwt` needs a private key, and there is none",
            "set `private_key_file`, or remove `token_endpoint_auth_method`",
        )?;
        let needs_secret = matches!(
            method,
            TokenEndpointAuthMethod::ClientSecretBasic | TokenEndpointAuthMethod::ClientSecretPost
        );
        self.ensure(
            !needs_secret || registration.client_secret.is_some(),
            KEY,
            format!("`{}` needs a client secret, and there is none", method.as_str()),
            "set OIDC_CLIENT_SECRET or `client_secret_file`, or, for a public client, remove \
             `token_endpoint_auth_method`",
        )
    }
}

impl IssuerSettings {
    /// The registration for a further issuer: without a client. Only its metadata and keys are read.
    pub(crate) fn registration(&self, name: &str, settings: &Settings) -> Result<Registration, SettingsError> {
        let metadata = match (&self.jwks_uri, &self.server_metadata_url) {
            (Some(url), _) => MetadataSource::Keys { jwks_uri: url.clone() },
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

#[cfg(test)]
mod tests;
