//! The relying parties of an app with several providers.

use std::sync::Arc;

use super::{LaunchError, key_ring};
use crate::{
    cookies::Cookies,
    keys::SecretKey,
    provider::Provider,
    relying_party::{PostLogout, RelyingParty, Revocations, Source},
    resource_server::ResourceServer,
    session::SessionProvider,
    settings::ProviderMode,
};

/// Makes the relying party of each provider, from that of the app.
pub(super) struct RelyingParties<'a> {
    pub(super) app: &'a RelyingParty,
    pub(super) secret_key: &'a SecretKey,
    /// Whether the app's tenants have a provider each: then each has cookies and access tokens of its own.
    pub(super) has_tenants: bool,
}

impl RelyingParties<'_> {
    pub(super) fn relying_party(&self, mode: ProviderMode) -> Result<RelyingParty, LaunchError> {
        let (app, settings) = (self.app, Arc::new(mode.settings));
        let name: Arc<str> = settings.provider_name().into();
        let registration = mode.registration;
        let client = [&*registration.issuer, &*registration.client_id, &*name];
        let keys = key_ring(self.secret_key, &settings, &client)?;
        let cookies = if self.has_tenants {
            Cookies::new(keys.clone(), mode.site.secure)
        } else {
            app.cookies.clone()
        };
        let redirect_uri = Some(mode.site.redirect_uri.clone());
        let provider = Arc::new(Provider::new(registration, redirect_uri, settings.clone())?);
        let registration = &provider.registration;
        let session_provider = SessionProvider {
            name,
            issuer: &registration.issuer,
            tenants: registration.tenants.clone(),
            keys: &keys,
        };
        let revocations = Revocations::new(&provider, &app.refreshes, &app.clock);
        let sessions = app.sessions.of_provider(session_provider, &cookies);
        let resource_server = if self.has_tenants {
            let own = vec![provider.clone()];
            let base_url = Some(&mode.site.base_url);
            let server = ResourceServer::new(own, base_url, settings.clone(), app.clock.clone())?;
            Some(Arc::new(server))
        } else {
            None
        };
        Ok(RelyingParty {
            post_logout: PostLogout::new(&settings, &mode.site),
            site: mode.site,
            sessions: Arc::new(sessions.with_revocation(revocations.into_revoke())),
            cookies,
            source: Source::Provider(provider),
            settings,
            resource_server,
            ..app.clone()
        })
    }
}
