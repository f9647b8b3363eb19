//! The relying parties of an app with several providers.

use std::sync::Arc;

use super::{LaunchError, key_ring};
#[cfg(feature = "testing")]
use crate::testing::TestProvider;
use crate::{
    cookies::Cookies,
    keys::SecretKey,
    provider::{HttpClient, Provider},
    relying_party::{MakeRelyingParty, PostLogout, RelyingParty, Revocations, Source, client_tokens},
    resource_server::{Guards, Proofs, ResourceServer},
    session::SessionProvider,
    settings::{FoundRegistration, ProviderMode, RocketConfig},
};

/// Makes the relying party of each provider, from that of the app.
pub(super) struct RelyingParties {
    pub(super) app: RelyingParty,
    pub(super) secret_key: SecretKey,
    /// Whether the app's tenants have a provider each: then each has cookies and access tokens of its own.
    pub(super) has_tenants: bool,
    /// What tenants share about proofs of possession.
    pub(super) proofs: Option<Proofs>,
    /// The HTTP client of the providers that the app finds.
    pub(super) http: HttpClient,
    /// Replaces the providers that the app finds, in a test.
    #[cfg(feature = "testing")]
    pub(super) test_provider: Option<TestProvider>,
}

impl RelyingParties {
    /// Makes the relying parties of registrations that the app finds. `guards` are those of its routes.
    pub(super) fn into_maker(self, guards: Guards, rocket_config: RocketConfig) -> MakeRelyingParty {
        Box::new(move |name, found| {
            let settings = self.app.settings.of_found_provider(name, self.has_tenants);
            let found = FoundRegistration {
                issuer: &found.issuer,
                client_id: &found.client_id,
                client_secret: found.client_secret.as_ref(),
                private_key: found.private_key.as_ref(),
                base_url: found.base_url.as_ref(),
                label: found.label.as_deref(),
                audience: &found.audience,
            };
            let mode = settings.found_provider(&found, &rocket_config);
            let mode = mode.map_err(LaunchError::from);
            #[cfg(feature = "testing")]
            let mode = mode.and_then(|mut mode| {
                if let Some(provider) = &self.test_provider {
                    provider.replace_found_provider(&mut mode)?;
                }
                Ok(mode)
            });
            let rp = mode.and_then(|mode| self.relying_party(mode));
            let rp = rp.map_err(|error| format!("{error}; {}", error.remedy()))?;
            if let Some(resource_server) = &rp.resource_server {
                resource_server.share_guards(&guards);
            }
            Ok(rp)
        })
    }

    pub(super) fn relying_party(&self, mode: ProviderMode) -> Result<RelyingParty, LaunchError> {
        let (app, settings) = (&self.app, Arc::new(mode.settings));
        let name: Arc<str> = settings.provider_name().into();
        settings.check_mount(&mode.site.paths, &app.site.paths, self.has_tenants)?;
        let registration = mode.registration;
        let client = [&*registration.issuer, &*registration.client_id, &*name];
        let keys = key_ring(&self.secret_key, &settings, &client)?;
        let cookies = if self.has_tenants {
            Cookies::new(keys.clone(), mode.site.secure)
        } else {
            app.cookies.clone()
        };
        let redirect_uri = Some(mode.site.redirect_uri.clone());
        let provider = Arc::new(Provider::with_http(
            registration,
            redirect_uri,
            settings.clone(),
            &self.http,
        )?);
        let registration = &provider.registration;
        let session_provider = SessionProvider {
            name,
            observed: settings.observed(),
            issuer: &registration.issuer,
            tenants: registration.tenants.clone(),
            keys: &keys,
            shares_cookies: !self.has_tenants,
        };
        let revocations = Revocations::new(&provider, &app.refreshes, &app.session_tokens, &app.clock, &app.tasks);
        let (revoke, drop_cached) = revocations.into_callbacks();
        let sessions = app.sessions.of_provider(session_provider, &cookies);
        let resource_server = if self.has_tenants {
            let own = vec![provider.clone()];
            let base_url = Some(&mode.site.base_url);
            let server = ResourceServer::new(own, base_url, settings.clone(), app.clock.clone(), self.proofs.clone())?;
            Some(Arc::new(server))
        } else {
            None
        };
        Ok(RelyingParty {
            post_logout: PostLogout::new(&settings, &mode.site),
            site: mode.site,
            sessions: Arc::new(sessions.with_revocation(revoke, drop_cached)),
            cookies,
            client_tokens: client_tokens(&app.clock),
            source: Source::Provider(provider),
            settings,
            resource_server,
            ..app.clone()
        })
    }
}
