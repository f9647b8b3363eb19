//! Replaces the providers in an app's settings, and those that it finds, by the test provider.

use std::sync::{Arc, PoisonError};

use url::Url;

use super::{
    TestProvider,
    named_provider::{CLIENT_ID, ISSUER, NamedProvider},
    runtime::block_on,
    script::{claims_hook, lock},
};
use crate::{
    dev_provider::{DevClient, DevProviderError, InProcessProvider},
    secret::Secret,
    settings::{
        InProcess, MetadataSource, ProviderKind, ProviderMode, ResourceParameter, RocketConfig, Settings,
        SettingsError, Site, StoreKind, TokenEndpointAuthMethod, TokenExchange,
    },
};

/// The app's `base_url` in a profile that requires one and has none.
const BASE_URL: &str = "https://app.test";

impl TestProvider {
    /// Replaces the providers in an app's settings, and launches them for the first app. An app with a source of
    /// providers may have none there.
    pub(crate) async fn replace_providers<E: From<SettingsError> + From<DevProviderError>>(
        &self,
        settings: &mut Settings,
        has_source: bool,
        rocket_config: &RocketConfig,
    ) -> Result<(), E> {
        settings.http.in_process = Some(InProcess(Arc::new(self.clone())));
        if matches!(settings.session.store, StoreKind::Redis | StoreKind::Sql) {
            settings.session.store = StoreKind::Memory;
        }
        settings.session.store_url = None;
        settings.enabled = true;
        let tables = settings.dev_provider.iter();
        let of_providers = settings.providers.values().filter_map(|own| own.dev_provider.as_ref());
        for dev_provider in tables.chain(of_providers) {
            self.inner.unscoped_claims.add(&dev_provider.unscoped_claims);
        }
        prepare(settings, rocket_config);
        if settings.providers.is_empty() && !has_source {
            register(settings);
            let site = settings.site(rocket_config)?;
            return Ok(self.launch(settings, site, false).await?);
        }
        for own in settings.providers.values_mut() {
            prepare(own, rocket_config);
            register(own);
        }
        for own in settings.of_providers() {
            let site = own.site(rocket_config)?;
            self.launch(&own, site, false).await?;
        }
        Ok(())
    }

    /// Replaces a provider that the app has found, and launches it.
    pub(crate) fn replace_found_provider(&self, mode: &mut ProviderMode) -> Result<(), DevProviderError> {
        let (settings, registration) = (&mut mode.settings, &mut mode.registration);
        register(settings);
        registration.issuer = settings.issuer.clone().unwrap_or_default();
        registration.client_secret = settings.client_secret.clone();
        registration.client_key = None;
        registration.client_identity = None;
        registration.tenants = None;
        let url = format!("{}/.well-known/openid-configuration", registration.issuer);
        let url = Url::parse(&url).map_err(|_| DevProviderError::Stopped)?;
        registration.metadata = MetadataSource::Discovery { url };
        block_on(self.launch(settings, mode.site.clone(), true))
    }

    /// Launches a provider for the app with these settings, unless there is one already. The registration at a found one
    /// may have changed.
    async fn launch(&self, settings: &Settings, site: Site, is_found: bool) -> Result<(), DevProviderError> {
        let name: Arc<str> = settings.provider_name().into();
        let client_id = settings.client_id.clone().unwrap_or_default();
        let redirect_uri = site.redirect_uri.to_string();
        let is_new = |of: &NamedProvider| of.client_id != client_id || of.redirect_uri != redirect_uri;
        if self.all().iter().any(|of| of.name == name && !(is_found && is_new(of))) {
            return Ok(());
        }
        let client_secret = settings.client_secret.clone().unwrap_or_else(Secret::random);
        let client = DevClient::new(settings, client_id.clone(), client_secret, site);
        let issuer = issuer(settings);
        let claims = (
            claims_hook(&self.inner.scripts, &name),
            self.inner.unscoped_claims.clone(),
        );
        let key = self.next_key();
        let provider = InProcessProvider::launch(&issuer, client, self.clock().clone(), claims, key).await?;
        let launched = Arc::new(NamedProvider {
            name,
            issuer,
            client_id,
            redirect_uri,
            provider,
        });
        let mut providers = self.inner.providers.write().unwrap_or_else(PoisonError::into_inner);
        match providers.iter_mut().find(|of| of.name == launched.name) {
            Some(former) => *former = launched,
            None => providers.push(launched),
        }
        Ok(())
    }

    /// The number of a key that no provider has.
    pub(super) fn next_key(&self) -> usize {
        let mut next = lock(&self.inner.next_key);
        *next += 1;
        *next - 1
    }
}

/// The issuer of the provider of these settings.
fn issuer(settings: &Settings) -> String {
    match &settings.provider_name {
        Some(name) => format!("{ISSUER}/{name}"),
        None => ISSUER.to_owned(),
    }
}

/// Removes what the test provider does not support.
fn prepare(settings: &mut Settings, rocket_config: &RocketConfig) {
    let has_url = settings.base_url.is_some() || settings.overwrite_redirect_uri.is_some();
    if !has_url && !rocket_config.debug {
        settings.base_url = Url::parse(BASE_URL).ok();
    }
    if settings.provider_kind() == ProviderKind::GitHub {
        settings.provider = None;
        settings.scopes = Settings::default().scopes;
    }
    settings.insecure_omit_pkce = false;
    settings.pushed_authorization_requests = false;
    if matches!(
        settings.token_endpoint_auth_method,
        Some(
            TokenEndpointAuthMethod::None
                | TokenEndpointAuthMethod::PrivateKeyJwt
                | TokenEndpointAuthMethod::TlsClientAuth
                | TokenEndpointAuthMethod::SelfSignedTlsClientAuth
        )
    ) {
        settings.token_endpoint_auth_method = None;
    }
    settings.resource_parameter = ResourceParameter::Resource;
    settings.token_exchange = TokenExchange::Standard;
    settings.id_token_signing_algs = None;
    settings.access_token_signing_algs = None;
}

/// Makes the app a client of the test provider, with a secret.
fn register(settings: &mut Settings) {
    let client_id = settings.client_id.take().filter(|client_id| !client_id.is_empty());
    unregister(settings);
    settings.issuer = Some(issuer(settings));
    settings.client_id = client_id.or_else(|| Some(CLIENT_ID.to_owned()));
    // The same for all nodes of an app.
    settings.client_secret = Some(Secret::new("the secret of the app at the test provider"));
}

/// Removes the registration at a provider.
fn unregister(settings: &mut Settings) {
    settings.issuer = None;
    settings.client_id = None;
    settings.client_secret = None;
    settings.client_secret_file = None;
    settings.client_secret_issuer = None;
    settings.client_secrets = None;
    settings.private_key_file = None;
    settings.tls_client_certificate = None;
    settings.tls_client_key = None;
    settings.private_key_id = None;
    settings.server_metadata_url = None;
    settings.tenants = vec![];
    settings.dev_provider = None;
}
