//! The mode of the app, resolved from the settings at launch, and its client registration at the provider.

use std::borrow::Cow;

use serde_json::{Map, Value};
use url::Url;

use super::{
    ClientIdentity, ClientSecrets, ClientSecretsTable, DpopTokens, IntrospectionAuthMethod, IssuerSettings,
    KnownProvider, RocketConfig, Settings, SettingsError, TokenEndpointAuthMethod,
    client_secrets::read_text,
    error::list,
    launch_check::add,
    metadata_source::MetadataSource,
    mistake::{Mistake, rule},
    site::Site,
    stray_characters::{has_control, trimmed},
    tenants::tenants_of,
};
use crate::{
    client_key::ClientKey,
    secret::Secret,
    token::{ClientKeys, ExpectedIssuer, SigningAlgorithm, Tenants},
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
    /// The table `providers`, in the order of the chooser.
    SeveralProviders {
        providers: Vec<ProviderMode>,
        site: Site,
    },
}

/// One of several providers, with every value that it requires.
#[derive(Clone, Debug)]
pub(crate) struct ProviderMode {
    pub settings: Settings,
    pub registration: Registration,
    pub site: Site,
}

/// A registration at a provider that is not in the settings.
#[derive(Clone, Copy)]
pub(crate) struct FoundRegistration<'a> {
    pub issuer: &'a str,
    pub client_id: &'a str,
    pub client_secret: Option<&'a Secret>,
    /// In PEM, as a JWK or as a JWK Set.
    pub private_key: Option<&'a Secret>,
    pub base_url: Option<&'a Url>,
    pub label: Option<&'a str>,
    pub audience: &'a [String],
}

/// Who entered a registration, and so which hosts may be called for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The operator, in the settings: any host that they name.
    Operator,
    /// A person who is not trusted, at run time: public hosts over https, and those of `internal_provider_hosts`.
    Public,
}

/// The app's client registration at the provider.
#[derive(Clone, Debug)]
pub(crate) struct Registration {
    pub reach: Reach,
    /// The issuer, exactly as in the metadata.
    pub issuer: String,
    /// The accepted tenants, if the issuer is a template.
    pub tenants: Option<Tenants>,
    /// Empty for a resource server that needs none.
    pub client_id: String,
    pub client_secret: Option<Secret>,
    /// What signs its assertions, or its secrets.
    pub client_key: Option<ClientKey>,
    /// The certificate and key of its TLS connections.
    pub client_identity: Option<ClientIdentity>,
    /// The `iss` of secrets that the key signs.
    pub secret_issuer: Option<String>,
    pub metadata: MetadataSource,
    /// The introspection endpoint in client secrets; otherwise that of the metadata is used.
    pub introspection_endpoint: Option<Url>,
}

impl ProviderMode {
    /// The same, if it meets the demands of its profile.
    fn checked(self, rocket_config: &RocketConfig) -> Result<ProviderMode, SettingsError> {
        self.settings.check_profile(&self.registration, rocket_config)?;
        Ok(self)
    }
}

impl Registration {
    /// A registration that is entered at run time: endpoints and keys come from the metadata of the issuer. `None`
    /// if the issuer is not a URL.
    #[cfg(test)]
    pub(crate) fn public(issuer: &str, client_id: &str, client_secret: Option<Secret>) -> Option<Registration> {
        Some(Registration {
            reach: Reach::Public,
            issuer: issuer.to_owned(),
            tenants: None,
            client_id: client_id.to_owned(),
            client_secret,
            client_key: None,
            client_identity: None,
            secret_issuer: None,
            metadata: discovery(issuer).ok()?,
            introspection_endpoint: None,
        })
    }

    /// Whether the metadata is that of the issuer, at its well-known URL.
    pub(crate) fn is_discovered_at_issuer(&self) -> bool {
        match (&self.metadata, discovery(&self.issuer)) {
            (MetadataSource::Discovery { url }, Ok(MetadataSource::Discovery { url: well_known })) => {
                *url == well_known
            }
            _ => false,
        }
    }

    /// The issuer or issuers whose tokens are accepted.
    pub(crate) fn expected_issuer(&self) -> ExpectedIssuer<'_> {
        ExpectedIssuer::new(&self.issuer, self.tenants.as_ref())
    }

    /// Whether the client has a secret, or signs one.
    pub(crate) fn has_secret(&self) -> bool {
        self.client_secret.is_some() || self.secret_issuer.is_some()
    }

    /// Whether the app can authenticate at the introspection endpoint.
    pub(crate) fn may_introspect(&self, settings: &Settings) -> bool {
        !self.client_id.is_empty() || settings.introspection_auth_method == Some(IntrospectionAuthMethod::Bearer)
    }
}

impl Settings {
    /// Resolves the mode. If the settings enable a development provider, it is running by now, and its `issuer` and
    /// `client_id` are filled in.
    pub(crate) fn mode(&self, rocket_config: &RocketConfig) -> Result<Mode, SettingsError> {
        self.check()?;
        self.mode_of_checked(rocket_config)
    }

    pub(super) fn mode_of_checked(&self, rocket_config: &RocketConfig) -> Result<Mode, SettingsError> {
        if self.enabled && !self.providers.is_empty() {
            return self.several_providers_of_checked(rocket_config);
        }
        let mode = self.resolve(rocket_config)?;
        if let Mode::ResourceServerOnly(registration) | Mode::RelyingParty { registration, .. } = &mode {
            self.check_profile(registration, rocket_config)?;
        }
        Ok(mode)
    }

    /// Resolves the mode of an app with the table `providers`, or with providers that it finds at run time.
    pub(crate) fn several_providers(&self, rocket_config: &RocketConfig) -> Result<Mode, SettingsError> {
        self.check()?;
        self.several_providers_of_checked(rocket_config)
    }

    pub(super) fn several_providers_of_checked(&self, rocket_config: &RocketConfig) -> Result<Mode, SettingsError> {
        let mut mistakes = self.check_no_client_at_the_top();
        mistakes.extend(self.check_mutual_tls(rocket_config).err());
        let site = self
            .resolve_site(rocket_config)
            .map_err(|mistake| mistakes.push(mistake));
        let providers = self
            .of_providers()
            .into_iter()
            .map(|own| own.provider_mode(rocket_config)?.checked(rocket_config));
        let providers: Vec<_> = providers.collect();
        let mut errors: Vec<_> = mistakes.into_iter().map(|mistake| self.error(mistake)).collect();
        for own in providers.iter().filter_map(|own| own.as_ref().err()) {
            add(&mut errors, Err(own.clone()));
        }
        SettingsError::all(errors)?;
        let Ok(site) = site else {
            unreachable!("the mistake is among those above");
        };
        let providers = providers.into_iter().flatten().collect();
        Ok(Mode::SeveralProviders { providers, site })
    }

    /// Resolves a registration that the app has found.
    pub(crate) fn found_provider(
        mut self,
        found: &FoundRegistration<'_>,
        rocket_config: &RocketConfig,
    ) -> Result<ProviderMode, SettingsError> {
        self.issuer = Some(found.issuer.to_owned());
        self.client_id = Some(found.client_id.to_owned());
        self.client_secret = found.client_secret.cloned();
        self.base_url = found.base_url.cloned().or(self.base_url);
        self.label = found.label.map(str::to_owned);
        self.audience = (!found.audience.is_empty()).then(|| found.audience.to_vec());
        let key = match found.private_key.map(|key| ClientKeys::parse(key.expose())).transpose() {
            Ok(key) => key,
            Err(error) => {
                let mistake = Mistake::new(
                    format!("the private key is not usable: {error}"),
                    "register another key",
                );
                return Err(self.error(mistake.at("private_key_file")));
            }
        };
        let mut mode = self.provider_mode(rocket_config)?;
        mode.registration.reach = Reach::Public;
        mode.registration.client_key = key.map(ClientKey::Keys);
        mode.checked(rocket_config)
    }

    /// Resolves the settings of one of several providers.
    pub(crate) fn provider_mode(self, rocket_config: &RocketConfig) -> Result<ProviderMode, SettingsError> {
        let mut errors = vec![];
        add(&mut errors, self.check());
        let found = [self.check_dev_provider(rocket_config)];
        let resolved = self.client_and_site(found, rocket_config);
        add(&mut errors, resolved.as_ref().map(|_| ()).map_err(SettingsError::clone));
        SettingsError::all(errors)?;
        let (registration, site) = resolved?;
        Ok(ProviderMode {
            settings: self,
            registration,
            site,
        })
    }

    /// The client and the site, or what is wrong with either, after what was found before.
    fn client_and_site<const N: usize>(
        &self,
        found: [Result<(), Mistake>; N],
        rocket_config: &RocketConfig,
    ) -> Result<(Registration, Site), SettingsError> {
        let mut mistakes: Vec<_> = found.into_iter().filter_map(Result::err).collect();
        let registration = self.authenticated_registration();
        let registration = registration.map_err(|mistake| mistakes.push(mistake));
        let site = self
            .resolve_site(rocket_config)
            .map_err(|mistake| mistakes.push(mistake));
        self.no_mistake(mistakes)?;
        let (Ok(registration), Ok(site)) = (registration, site) else {
            unreachable!("the mistake is among those above");
        };
        Ok((registration, site))
    }

    fn no_mistake(&self, mistakes: Vec<Mistake>) -> Result<(), SettingsError> {
        SettingsError::all(mistakes.into_iter().map(|mistake| self.error(mistake)))
    }

    fn authenticated_registration(&self) -> Result<Registration, Mistake> {
        let client_secrets = self.client_secrets()?;
        let registration = self.registration(client_secrets.as_deref())?;
        self.check_authentication(&registration)?;
        Ok(registration)
    }

    fn resolve(&self, rocket_config: &RocketConfig) -> Result<Mode, SettingsError> {
        let error = |mistake| self.error(mistake);
        if !self.enabled {
            self.check_dev_provider(rocket_config).map_err(error)?;
            let testing_profile = Some(&self.testing_profile).filter(|profile| !profile.is_empty());
            let may_be_used = rocket_config.debug || self.insecure_testing_profile;
            rule("testing_profile", testing_profile.is_none() || may_be_used)
                .cause("outside the debug profile, every visitor would be this user")
                .remedy(
                    "set `enabled = true`, or remove `testing_profile`; a closed test environment may set \
                     `insecure_testing_profile = true`",
                )
                .map_err(error)?;
            let testing_profile = testing_profile.cloned();
            return Ok(Mode::Disabled { testing_profile });
        }
        let found = [
            self.check_dev_provider(rocket_config),
            self.check_mutual_tls(rocket_config),
        ];
        if !self.resource_server_only {
            let (registration, site) = self.client_and_site(found, rocket_config)?;
            return Ok(Mode::RelyingParty { registration, site });
        }
        let api = || {
            let client_secrets = self.client_secrets()?;
            let registration = self.registration(client_secrets.as_deref())?;
            let has_url = self.dpop_tokens == DpopTokens::Off || self.resolve_site(rocket_config).is_ok();
            rule("base_url", has_url || self.base_url.is_some())
                .cause("`dpop_tokens` is set, and the public URL of the app, which proofs name, is missing")
                .remedy(
                    "set `base_url` in the table `oidc`, or OIDC_BASE_URL, for example \
                     `base_url = \"https://api.example.com\"`; or set `dpop_tokens = \"off\"`",
                )?;
            if !has_url {
                self.resolve_site(rocket_config)?;
            }
            Ok(registration)
        };
        let registration = api();
        let mistakes = found.into_iter().filter_map(Result::err);
        let mistakes = mistakes.chain(registration.as_ref().err().cloned());
        self.no_mistake(mistakes.collect())?;
        registration.map(Mode::ResourceServerOnly).map_err(error)
    }

    /// The development provider to start, if any. Call this before its issuer is filled in.
    #[cfg(feature = "dev-provider")]
    pub(crate) fn dev_provider_to_start(
        &self,
        rocket_config: &RocketConfig,
    ) -> Result<Option<&super::DevProviderSettings>, SettingsError> {
        self.check()?;
        self.check_dev_provider_alone(rocket_config)?;
        Ok(self.dev_provider.as_ref().filter(|_| self.enabled))
    }

    /// Checks that a development provider may start, and is the only one.
    #[cfg(feature = "dev-provider")]
    pub(super) fn check_dev_provider_alone(&self, rocket_config: &RocketConfig) -> Result<(), SettingsError> {
        let dev_provider = self.dev_provider.as_ref().filter(|_| self.enabled);
        let others = [
            ("provider", self.provider.is_some()),
            ("issuer", self.issuer.is_some()),
            ("server_metadata_url", self.server_metadata_url.is_some()),
            ("client_secrets", self.client_secrets.is_some()),
        ];
        let other = others.iter().find(|(_, is_set)| *is_set && dev_provider.is_some());
        let (other, _) = other.unwrap_or(&("", false));
        self.check_dev_provider(rocket_config)
            .and_then(|()| {
                rule("dev_provider", other.is_empty())
                    .cause(format!(
                        "{} is set too, and there can be only one provider",
                        self.origins.find(other)
                    ))
                    .remedy(format!("remove `{other}`, or set `dev_provider = false`"))
            })
            .map_err(|mistake| self.error(mistake))
    }

    fn check_dev_provider(&self, rocket_config: &RocketConfig) -> Result<(), Mistake> {
        let is_absent = self.dev_provider.is_none();
        rule("dev_provider", is_absent || rocket_config.debug)
            .cause("the development provider starts in the debug profile only")
            .remedy("remove `dev_provider` and set `issuer`, or select the profile with ROCKET_PROFILE=debug")?;
        rule("dev_provider", is_absent || cfg!(feature = "dev-provider"))
            .cause("the development provider is not compiled in")
            .remedy(
                "enable the feature `dev-provider` of `rocket_openidconnect` in Cargo.toml, or remove `dev_provider`",
            )
    }

    pub(super) fn client_secrets(&self) -> Result<Option<Cow<'_, ClientSecretsTable>>, Mistake> {
        match &self.client_secrets {
            None => Ok(None),
            Some(ClientSecrets::Table(table)) => Ok(Some(Cow::Borrowed(table))),
            Some(ClientSecrets::File(path)) => ClientSecretsTable::read(path)
                .map(|(table, _)| Some(Cow::Owned(table)))
                .map_err(|mistake| mistake.at("client_secrets")),
        }
    }

    fn registration(&self, client_secrets: Option<&ClientSecretsTable>) -> Result<Registration, Mistake> {
        if let Some(preset) = self
            .provider
            .as_ref()
            .filter(|preset| preset.name == KnownProvider::GitHub)
        {
            return self.github_registration(preset, client_secrets);
        }
        let file_issuer = client_secrets.and_then(|table| table.issuer.as_ref());
        let issuer = match (&self.issuer, file_issuer) {
            (Some(issuer), _) => issuer,
            (None, Some(issuer)) => {
                self.check_issuer("client_secrets", issuer)?;
                issuer
            }
            (None, None) => return Err(self.missing_issuer()),
        };
        let of_table = client_secrets.and_then(|table| table.client_id.as_ref());
        let client_id = self.client_id.as_ref().or(of_table).cloned().unwrap_or_default();
        if client_id.is_empty() {
            self.check_client_id_is_not_needed()?;
        }
        let metadata = match (&self.server_metadata_url, client_secrets) {
            (Some(url), _) => MetadataSource::Discovery { url: url.clone() },
            // Endpoints belong to the issuer in the same table.
            (None, Some(table)) if table.is_of(issuer) => self.metadata(issuer, table)?,
            (None, _) => discovery(issuer)?,
        };
        let of_issuer = client_secrets.filter(|table| table.is_of(issuer));
        let introspection_endpoint = of_issuer.and_then(|table| table.token_introspection_uri.clone());
        self.check_endpoint("client_secrets", &introspection_endpoint)?;
        let (client_secret, client_key) = (self.secret(client_secrets)?, self.client_key()?);
        self.check_secret_issuer(client_secret.as_ref(), client_key.as_ref())?;
        Ok(Registration {
            reach: Reach::Operator,
            issuer: issuer.clone(),
            tenants: tenants_of("", issuer, &self.tenants, &metadata)?,
            client_id,
            client_secret,
            client_key,
            client_identity: self.client_identity()?,
            secret_issuer: self.client_secret_issuer.clone(),
            metadata,
            introspection_endpoint,
        })
    }

    fn missing_issuer(&self) -> Mistake {
        const WELL_KNOWN: &str = "/.well-known/openid-configuration";
        let metadata_url = self.server_metadata_url.as_ref().map(Url::as_str);
        let remedy = match metadata_url.and_then(|url| url.strip_suffix(WELL_KNOWN)) {
            Some(issuer) => format!("set `issuer` to the `issuer` in the metadata, probably `{issuer}` or `{issuer}/`"),
            None => "set `issuer` in the table `oidc`, or OIDC_ISSUER; to run without a provider, set `enabled = false` or, while developing, `dev_provider = true`"
                .to_owned(),
        };
        Mistake::new("the provider's issuer is missing", remedy).at("issuer")
    }

    fn metadata(&self, issuer: &str, table: &ClientSecretsTable) -> Result<MetadataSource, Mistake> {
        let (Some(authorization), Some(token), Some(jwks)) = (&table.auth_uri, &table.token_uri, &table.jwks_uri)
        else {
            return discovery(issuer);
        };
        for url in [&table.auth_uri, &table.token_uri, &table.jwks_uri, &table.userinfo_uri] {
            self.check_endpoint("client_secrets", url)?;
        }
        Ok(MetadataSource::Given {
            authorization_endpoint: authorization.clone(),
            token_endpoint: token.clone(),
            userinfo_endpoint: table.userinfo_uri.clone(),
            jwks_uri: jwks.clone(),
        })
    }

    /// A warning at liftoff about endpoints in client secrets that are not used, and why.
    pub(crate) fn unused_endpoints(&self) -> Option<SettingsError> {
        if !self.enabled {
            return None;
        }
        let table = self.client_secrets().ok()??;
        let required = [
            ("auth_uri", &table.auth_uri),
            ("token_uri", &table.token_uri),
            ("jwks_uri", &table.jwks_uri),
        ];
        let [authorization, token, jwks] = required;
        let members = [authorization, token, ("userinfo_uri", &table.userinfo_uri), jwks];
        let found = members.iter().filter(|(_, uri)| uri.is_some());
        let found = list(found.map(|(member, _)| *member), "and")?;
        let missing = required.iter().filter(|(_, uri)| uri.is_none());
        let missing = list(missing.map(|(member, _)| *member), "and");
        let other = table.issuer.as_ref().filter(|_| self.issuer.is_some());
        let other = other.filter(|other| Some(*other) != self.issuer.as_ref());
        let (why, remedy) = match (&self.server_metadata_url, other, missing) {
            (Some(_), ..) => (
                "`server_metadata_url` names the metadata that has the endpoints".to_owned(),
                "remove them, or `server_metadata_url`".to_owned(),
            ),
            (None, Some(other), _) => (
                format!(
                    "they belong to `{other}`, and `issuer` is `{}`",
                    self.issuer.as_deref().unwrap_or_default()
                ),
                "remove them, or `issuer`".to_owned(),
            ),
            (None, None, Some(missing)) => (
                format!("without {missing} the endpoints are discovered"),
                format!("add {missing}, or remove the other endpoints"),
            ),
            (None, None, None) => return None,
        };
        let cause = format!("the endpoints in it are not used ({found}): {why}");
        Some(self.error(Mistake::new(cause, remedy).at("client_secrets")))
    }

    pub(super) fn secret(&self, client_secrets: Option<&ClientSecretsTable>) -> Result<Option<Secret>, Mistake> {
        const KEY: &str = "client_secret_file";
        let Some(path) = &self.client_secret_file else {
            let of_table = || client_secrets?.client_secret.clone();
            return Ok(self.client_secret.clone().or_else(of_table));
        };
        rule(KEY, self.client_secret.is_none())
            .cause(format!(
                "{} is set too, and there can be only one secret",
                self.origins.find("client_secret")
            ))
            .remedy("remove `client_secret` or `client_secret_file`")?;
        let text = read_text(path).map_err(|mistake| mistake.at(KEY))?;
        let (text, shown) = (trimmed(&text), path.display());
        rule(KEY, !text.is_empty())
            .cause(format!("`{shown}` is empty"))
            .remedy(format!(
                "write the client secret into `{shown}`, or remove `client_secret_file`"
            ))?;
        rule(KEY, !has_control(text))
            .cause(format!(
                "`{shown}` has a line break or another invisible character in it"
            ))
            .remedy(format!(
                "write the client secret into `{shown}`, on one line, and nothing else"
            ))?;
        Ok(Some(Secret::new(text)))
    }

    /// The app's signer, or the keys of the file.
    fn client_key(&self) -> Result<Option<ClientKey>, Mistake> {
        const FILE: &str = "private_key_file";
        const ID: &str = "private_key_id";
        let kid = self.private_key_id.as_deref();
        if let Some(signer) = &self.client_signer {
            rule(FILE, self.private_key_file.is_none())
                .cause("the app has a `ClientSigner` for this provider too, and only one of them can sign")
                .remedy("remove `private_key_file`, or the call of `Oidc::client_signer`")?;
            let own = signer.public_key().kid();
            rule(ID, kid.is_none_or(|kid| kid == own))
                .cause(format!("the app's `ClientSigner` has the `kid` {own:?}"))
                .remedy("remove `private_key_id`")?;
            return Ok(Some(ClientKey::Signer(signer.clone())));
        }
        let Some(path) = &self.private_key_file else {
            return Ok(None);
        };
        let text = read_text(path).map_err(|mistake| mistake.at(FILE))?;
        let shown = path.display();
        let keys = ClientKeys::parse(&text).map_err(|error| {
            let cause = format!("`{shown}` is not a usable private key: {error}");
            Mistake::new(cause, error.remedy()).at(FILE)
        })?;
        let active = keys.active().kid().unwrap_or_default();
        rule(ID, !keys.is_set() || kid.is_none_or(|kid| kid == active))
            .cause(format!(
                "the key of the JWK Set `{shown}` that signs, its first one, has the `kid` {active:?}"
            ))
            .remedy("remove `private_key_id`; to sign with another key, move it to the beginning of the JWK Set")?;
        Ok(Some(ClientKey::Keys(keys.named(kid))))
    }

    fn check_secret_issuer(&self, secret: Option<&Secret>, key: Option<&ClientKey>) -> Result<(), Mistake> {
        if self.client_secret_issuer.is_none() {
            return Ok(());
        }
        rule("client_secret_issuer", secret.is_none())
            .cause("a client secret is set too, and the app makes its own")
            .remedy("remove `client_secret`, `client_secret_file` and the one in `client_secrets`, or `client_secret_issuer`")?;
        let Some(key) = key else {
            let cause = "the private key is missing that signs the client secret";
            let remedy =
                "set `private_key_file` to the key file of the provider (Apple: `AuthKey_….p8`), and `private_key_id`";
            return Err(Mistake::new(cause, remedy).at("private_key_file"));
        };
        rule("private_key_file", key.alg() == SigningAlgorithm::ES256)
            .cause("the client secret is signed with ES256, and the key is not a P-256 key")
            .remedy("set it to the key file of the provider (Apple: `AuthKey_….p8`)")?;
        rule("private_key_id", key.kid().is_some())
            .cause("it is not set, and the header of the client secret needs it")
            .remedy("set it to the id of the key at the provider (Apple: the ten characters in `AuthKey_….p8`)")
    }

    fn check_authentication(&self, registration: &Registration) -> Result<(), Mistake> {
        use TokenEndpointAuthMethod::{ClientSecretBasic, ClientSecretPost, PrivateKeyJwt};

        let has_certificate = registration.client_identity.is_some();
        const KEY: &str = "token_endpoint_auth_method";
        let method = self.token_endpoint_auth_method;
        rule(KEY, method != Some(PrivateKeyJwt) || registration.client_key.is_some())
            .cause("`private_key_jwt` needs a private key, and none is set")
            .remedy("set `private_key_file`, or remove `token_endpoint_auth_method`")?;
        let by_certificate = method.is_some_and(TokenEndpointAuthMethod::is_by_certificate);
        rule(KEY, !by_certificate || has_certificate)
            .cause("the method needs the certificate of the client, and none is set")
            .remedy("set `tls_client_certificate` and `tls_client_key`, or remove `token_endpoint_auth_method`")?;
        let by_secret = method.filter(|method| [ClientSecretBasic, ClientSecretPost].contains(method));
        let name = by_secret.map_or("", TokenEndpointAuthMethod::as_str);
        rule(KEY, by_secret.is_none() || registration.has_secret())
            .cause(format!("`{name}` needs a client secret, and none is set"))
            .remedy(
                "set OIDC_CLIENT_SECRET or `client_secret_file`, or, for a public client, remove \
                 `token_endpoint_auth_method`",
            )?;
        // Without PKCE, any finder of a code could exchange it.
        let is_public = method == Some(TokenEndpointAuthMethod::None)
            || !(registration.has_secret() || registration.client_key.is_some() || by_certificate);
        rule("insecure_omit_pkce", !(self.insecure_omit_pkce && is_public))
            .cause("a public client has nothing but PKCE to protect an authorization code")
            .remedy("set OIDC_CLIENT_SECRET or `client_secret_file`, or remove `insecure_omit_pkce`")
    }
}

/// Discovery §4: the well-known path is appended to the issuer, without a `/` at its end.
fn discovery(issuer: &str) -> Result<MetadataSource, Mistake> {
    let base = issuer.strip_suffix('/').unwrap_or(issuer);
    match Url::parse(&format!("{base}/.well-known/openid-configuration")) {
        Ok(url) => Ok(MetadataSource::Discovery { url }),
        Err(error) => Err(Mistake::new(error.to_string(), "correct `issuer`").at("issuer")),
    }
}

impl IssuerSettings {
    /// The registration for a further issuer: without a client. Only its metadata and keys are read.
    pub(crate) fn registration(&self, name: &str, settings: &Settings) -> Result<Registration, SettingsError> {
        let metadata = match (&self.jwks_uri, &self.server_metadata_url) {
            (Some(url), _) => MetadataSource::Keys { jwks_uri: url.clone() },
            (None, Some(url)) => MetadataSource::Discovery { url: url.clone() },
            (None, None) => discovery(&self.issuer).map_err(|mistake| settings.error(mistake))?,
        };
        let tenants = tenants_of(&format!("issuers.{name}."), &self.issuer, &self.tenants, &metadata);
        Ok(Registration {
            reach: Reach::Operator,
            issuer: self.issuer.clone(),
            tenants: tenants.map_err(|mistake| settings.error(mistake))?,
            client_id: String::new(),
            client_secret: None,
            client_key: None,
            client_identity: None,
            secret_issuer: None,
            metadata,
            introspection_endpoint: None,
        })
    }
}

#[cfg(test)]
mod tests;
