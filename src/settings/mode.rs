//! What the settings ask for at launch: which role the app has, and as whom the provider knows it.

use std::borrow::Cow;

use figment::Figment;
use rocket::Config;
use serde_json::{Map, Value};
use url::Url;

use super::{
    ClientSecrets, ClientSecretsTable, IntrospectionAuthMethod, Settings, SettingsError,
    TokenEndpointAuthMethod,
    client_secrets::read_text,
    error::list,
    site::Site,
    stray_characters::{has_control, trimmed},
};
use crate::{
    secret::Secret,
    token::{ClientKey, ExpectedIssuer, Tenants},
};

/// What the launch knows beside the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surroundings {
    /// Whether the selected profile is Rocket's debug profile.
    pub debug: bool,
    pub port: u16,
    /// Whether Rocket itself does TLS.
    pub tls: bool,
}

impl Surroundings {
    pub(crate) fn of(figment: &Figment) -> Surroundings {
        Surroundings {
            debug: *figment.profile() == Config::DEBUG_PROFILE,
            port: figment.extract_inner("port").unwrap_or(8000),
            tls: figment.find_value("tls").is_ok(),
        }
    }
}

/// What the settings ask for, with every value present that it needs.
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

/// The client as the provider knows it.
#[derive(Clone, Debug)]
pub(crate) struct Registration {
    /// As the metadata has it.
    pub issuer: String,
    /// Those that are accepted, if the issuer is a template.
    pub tenants: Option<Tenants>,
    /// Empty for an API that needs none.
    pub client_id: String,
    pub client_secret: Option<Secret>,
    /// With what it signs its assertions.
    pub client_key: Option<ClientKey>,
    pub metadata: MetadataSource,
    /// Where client secrets say that tokens are introspected; else the metadata says it.
    pub introspection_endpoint: Option<Url>,
}

impl Registration {
    /// Whose tokens are accepted.
    pub(crate) fn expected_issuer(&self) -> ExpectedIssuer<'_> {
        ExpectedIssuer::new(&self.issuer, self.tenants.as_ref())
    }

    /// Whether there is something to authenticate by at the introspection endpoint.
    pub(crate) fn may_introspect(&self, settings: &Settings) -> bool {
        !self.client_id.is_empty()
            || settings.introspection_auth_method == Some(IntrospectionAuthMethod::Bearer)
    }
}

/// Where the provider's endpoints come from.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one in an app")]
pub(crate) enum MetadataSource {
    Discovery {
        url: Url,
    },
    /// From client secrets, without discovery.
    Given(GivenEndpoints),
    /// There are keys alone, of an issuer whose tokens are accepted and whom nothing else is asked.
    Keys {
        jwks_uri: Url,
    },
}

/// The endpoints that client secrets name.
#[derive(Clone, Debug)]
pub(crate) struct GivenEndpoints {
    pub authorization_endpoint: Url,
    pub token_endpoint: Url,
    pub userinfo_endpoint: Option<Url>,
    pub jwks_uri: Url,
}

impl Settings {
    /// What the settings ask for. When a development provider was asked for, it runs by now, and its
    /// `issuer` and `client_id` are filled in.
    pub(crate) fn mode(&self, surroundings: &Surroundings) -> Result<Mode, SettingsError> {
        self.check()?;
        self.check_dev_provider(surroundings)?;
        if !self.enabled {
            return self.disabled(surroundings);
        }
        let client_secrets = self.client_secrets()?;
        let registration = self.registration(client_secrets.as_deref())?;
        if self.resource_server_only {
            return Ok(Mode::ResourceServerOnly(registration));
        }
        self.check_authentication(&registration)?;
        Ok(Mode::RelyingParty {
            registration,
            site: self.site(surroundings)?,
        })
    }

    /// The development provider to start, if there is one. To be asked before its issuer is filled in.
    #[cfg(feature = "dev-provider")]
    pub(crate) fn dev_provider_to_start(
        &self,
        surroundings: &Surroundings,
    ) -> Result<Option<&super::DevProviderSettings>, SettingsError> {
        self.check()?;
        self.check_dev_provider(surroundings)?;
        let Some(dev_provider) = self.dev_provider.as_ref().filter(|_| self.enabled) else {
            return Ok(None);
        };
        for (key, present) in [
            ("provider", self.provider.is_some()),
            ("issuer", self.issuer.is_some()),
            ("server_metadata_url", self.server_metadata_url.is_some()),
            ("client_secrets", self.client_secrets.is_some()),
        ] {
            if present {
                let other = self.origins.find(key);
                return Err(self.error(
                    "dev_provider",
                    format!("{other} is set too, and there can be only one provider"),
                    format!("remove `{key}`, or set `dev_provider = false`"),
                ));
            }
        }
        Ok(Some(dev_provider))
    }

    fn check_dev_provider(&self, surroundings: &Surroundings) -> Result<(), SettingsError> {
        if self.dev_provider.is_none() {
            return Ok(());
        }
        if !surroundings.debug {
            return Err(self.error(
                "dev_provider",
                "the development provider starts in the debug profile only",
                "remove `dev_provider` and set `issuer`, or select the profile with \
                 ROCKET_PROFILE=debug",
            ));
        }
        match cfg!(feature = "dev-provider") {
            true => Ok(()),
            false => Err(self.error(
                "dev_provider",
                "the development provider is not compiled in",
                "turn on the feature `dev-provider` of `rocket_openidconnect` in Cargo.toml, or \
                 remove `dev_provider`",
            )),
        }
    }

    fn disabled(&self, surroundings: &Surroundings) -> Result<Mode, SettingsError> {
        if self.testing_profile.is_empty() {
            return Ok(Mode::Disabled {
                testing_profile: None,
            });
        }
        match surroundings.debug || self.insecure_testing_profile {
            true => Ok(Mode::Disabled {
                testing_profile: Some(self.testing_profile.clone()),
            }),
            false => Err(self.error(
                "testing_profile",
                "outside the debug profile, every visitor would be this user",
                "set `enabled = true`, or remove `testing_profile`; a closed test environment may \
                 set `insecure_testing_profile = true`",
            )),
        }
    }

    pub(super) fn client_secrets(
        &self,
    ) -> Result<Option<Cow<'_, ClientSecretsTable>>, SettingsError> {
        match &self.client_secrets {
            None => Ok(None),
            Some(ClientSecrets::Table(table)) => Ok(Some(Cow::Borrowed(table))),
            Some(ClientSecrets::File(path)) => ClientSecretsTable::read(path)
                .map(|table| Some(Cow::Owned(table)))
                .map_err(|(cause, remedy)| self.error("client_secrets", cause, remedy)),
        }
    }

    fn registration(
        &self,
        client_secrets: Option<&ClientSecretsTable>,
    ) -> Result<Registration, SettingsError> {
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
            // Endpoints belong to the issuer they were written down with.
            (None, Some(table)) if table.issuer.as_ref().is_none_or(|other| other == issuer) => {
                self.metadata(issuer, table)?
            }
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
        let Some(url) = client_secrets
            .filter(|table| table.issuer.as_deref().is_none_or(|other| other == issuer))
            .and_then(|table| table.token_introspection_uri.as_ref())
        else {
            return Ok(None);
        };
        self.check_endpoint("client_secrets", url)?;
        Ok(Some(url.clone()))
    }

    fn missing_issuer(&self) -> SettingsError {
        const WELL_KNOWN: &str = "/.well-known/openid-configuration";
        let metadata_url = self.server_metadata_url.as_ref().map(Url::as_str);
        let remedy = match metadata_url.and_then(|url| url.strip_suffix(WELL_KNOWN)) {
            Some(issuer) => format!(
                "set `issuer` to the `issuer` in the metadata, probably `{issuer}` or `{issuer}/`"
            ),
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

    fn metadata(
        &self,
        issuer: &str,
        table: &ClientSecretsTable,
    ) -> Result<MetadataSource, SettingsError> {
        let (Some(authorization), Some(token), Some(jwks)) =
            (&table.auth_uri, &table.token_uri, &table.jwks_uri)
        else {
            return self.discovery(issuer);
        };
        for url in [authorization, token, jwks]
            .into_iter()
            .chain(&table.userinfo_uri)
        {
            self.check_endpoint("client_secrets", url)?;
        }
        Ok(MetadataSource::Given(GivenEndpoints {
            authorization_endpoint: authorization.clone(),
            token_endpoint: token.clone(),
            userinfo_endpoint: table.userinfo_uri.clone(),
            jwks_uri: jwks.clone(),
        }))
    }

    /// The endpoints in client secrets that are not used, and why: to be told at liftoff.
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
        let found = list(found.map(|(member, ..)| *member))?;
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
        let missing = list(missing.map(|(member, ..)| *member))?;
        unused(
            format!("without {missing} the endpoints are discovered"),
            format!("add {missing}, or remove the other endpoints"),
        )
    }

    fn secret(
        &self,
        client_secrets: Option<&ClientSecretsTable>,
    ) -> Result<Option<Secret>, SettingsError> {
        let path = match (&self.client_secret, &self.client_secret_file) {
            (Some(_), Some(_)) => {
                let other = self.origins.find("client_secret");
                return Err(self.error(
                    "client_secret_file",
                    format!("{other} is set too, and there can be only one secret"),
                    "remove `client_secret` or `client_secret_file`",
                ));
            }
            (Some(secret), None) => return Ok(Some(secret.clone())),
            (None, None) => {
                return Ok(client_secrets.and_then(|table| table.client_secret.clone()));
            }
            (None, Some(path)) => path,
        };
        let shown = path.display();
        let text = read_text(path).map_err(|cause| {
            let remedy = format!("make `{shown}` readable, or correct the path");
            self.error("client_secret_file", cause, remedy)
        })?;
        let text = trimmed(&text);
        if text.is_empty() {
            return Err(self.error(
                "client_secret_file",
                format!("`{shown}` is empty"),
                format!("write the client secret into `{shown}`, or remove `client_secret_file`"),
            ));
        }
        if has_control(text) {
            return Err(self.error(
                "client_secret_file",
                format!("`{shown}` has a line break or another invisible character in it"),
                format!("write the client secret into `{shown}`, on one line, and nothing else"),
            ));
        }
        Ok(Some(Secret::new(text)))
    }

    fn client_key(&self) -> Result<Option<ClientKey>, SettingsError> {
        let Some(path) = &self.private_key_file else {
            return Ok(None);
        };
        let shown = path.display();
        let text = read_text(path).map_err(|cause| {
            let remedy = format!("make `{shown}` readable, or correct the path");
            self.error("private_key_file", cause, remedy)
        })?;
        let key = ClientKey::parse(&text).map_err(|error| {
            self.error(
                "private_key_file",
                format!("`{shown}` is of no use: {error}"),
                "make a key by `openssl genpkey -algorithm ed25519` or `-algorithm rsa`, and register its \
                 public part at the provider",
            )
        })?;
        Ok(Some(key.named(self.private_key_id.as_deref())))
    }

    fn check_authentication(&self, registration: &Registration) -> Result<(), SettingsError> {
        let name = match self.token_endpoint_auth_method {
            Some(TokenEndpointAuthMethod::ClientSecretBasic) => "client_secret_basic",
            Some(TokenEndpointAuthMethod::ClientSecretPost) => "client_secret_post",
            Some(TokenEndpointAuthMethod::PrivateKeyJwt) if registration.client_key.is_none() => {
                return Err(self.error(
                    "token_endpoint_auth_method",
                    "`private_key_jwt` needs a private key, and there is none",
                    "set `private_key_file`, or remove `token_endpoint_auth_method`",
                ));
            }
            Some(TokenEndpointAuthMethod::PrivateKeyJwt | TokenEndpointAuthMethod::None) | None => {
                return Ok(());
            }
        };
        match registration.client_secret {
            Some(_) => Ok(()),
            None => Err(self.error(
                "token_endpoint_auth_method",
                format!("`{name}` needs a client secret, and there is none"),
                "set OIDC_CLIENT_SECRET or `client_secret_file`, or, for a public client, remove \
                 `token_endpoint_auth_method`",
            )),
        }
    }
}

#[cfg(test)]
mod tests;
