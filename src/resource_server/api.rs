//! An API of the app: the issuers and audiences it accepts, and its protected resource metadata.

use std::sync::Arc;

use url::Url;

use super::{ActiveTokens, Issuer, ProtectedResource, TokenCache};
use crate::{
    provider::Provider,
    settings::{ApiSettings, IssuerSettings, Settings},
    token::Accepts,
};

/// A provider. For an entry of the setting `issuers`, also its name and table; `None` for the app's own provider.
type Known<'a> = (Arc<Provider>, Option<(&'a str, &'a IssuerSettings)>);

/// One API of the app. A cached verification result is valid for this API only.
#[derive(Debug)]
pub(crate) struct Api {
    /// The name of its table in the setting `apis`; `None` for the app's own.
    name: Option<String>,
    pub(crate) protected_resource: ProtectedResource,
    /// The issuers whose tokens it accepts, the provider first; empty while disabled.
    pub(super) issuers: Vec<Arc<Issuer>>,
    /// `None` when the setting `token_cache` turns the cache off.
    pub(super) cache: Option<TokenCache>,
    pub(super) active: ActiveTokens,
}

impl Api {
    /// The app's own API, for guards that name none.
    pub(super) fn unnamed(providers: &[Known<'_>], base_url: Option<&Url>, settings: &Settings) -> Api {
        let audience = |known: Option<&IssuerSettings>, provider: &Provider| match known {
            None => provider
                .settings
                .access_token_audience(&provider.registration.client_id),
            Some(other) => other.audience.clone(),
        };
        let needs_audience =
            |settings: &Settings| settings.has_audience() && !settings.insecure_introspection_without_audience;
        let (issuers, authorization_servers) = issuers(providers, audience, needs_audience, settings);
        let resource = settings.resource.as_ref().or(base_url);
        let is_requested = settings.resource.is_some() || settings.resource_server_only && settings.apis.is_empty();
        let scopes = &settings.scopes_supported;
        let is_requested = is_requested || !scopes.is_empty();
        let protected_resource =
            ProtectedResource::new(settings, resource, scopes, authorization_servers, is_requested);
        Api::new(None, protected_resource, issuers, settings)
    }

    /// An API of the setting `apis`.
    pub(super) fn named(name: &str, api: &ApiSettings, providers: &[Known<'_>], settings: &Settings) -> Api {
        let audience = |known: Option<&IssuerSettings>, _: &Provider| match known {
            None => api.access_token_audience(),
            Some(other) => other.apis.get(name).cloned().unwrap_or_default(),
        };
        // Only the audience distinguishes a token for this API from one for another.
        let (issuers, authorization_servers) = issuers(providers, audience, |_| true, settings);
        let (resource, scopes) = (Some(&api.resource), &api.scopes_supported);
        let protected_resource = ProtectedResource::new(settings, resource, scopes, authorization_servers, true);
        Api::new(Some(name), protected_resource, issuers, settings)
    }

    /// An API while `enabled = false`: it accepts no token.
    pub(super) fn disabled(name: Option<&String>, settings: &Settings) -> Api {
        let protected_resource = ProtectedResource::new(settings, None, &[], vec![], false);
        Api::new(name.map(String::as_str), protected_resource, vec![], settings)
    }

    fn new(
        name: Option<&str>,
        protected_resource: ProtectedResource,
        issuers: Vec<Arc<Issuer>>,
        settings: &Settings,
    ) -> Api {
        let entries = settings.token_cache.entries();
        Api {
            name: name.map(str::to_owned),
            protected_resource,
            cache: (entries > 0 && !issuers.is_empty()).then(|| TokenCache::new(entries)),
            active: ActiveTokens::new(),
            issuers,
        }
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub(crate) fn issuers(&self) -> &[Arc<Issuer>] {
        &self.issuers
    }

    /// The issuer at which opaque tokens are introspected.
    pub(super) fn introspection_issuer(&self) -> Option<&Arc<Issuer>> {
        self.issuers.iter().find(|issuer| issuer.is_introspected)
    }
}

/// The issuers that have an audience, and those of them that the metadata lists as `authorization_servers`.
fn issuers(
    providers: &[Known<'_>],
    audience: impl Fn(Option<&IssuerSettings>, &Provider) -> Vec<String>,
    introspection_needs_audience: impl Fn(&Settings) -> bool,
    settings: &Settings,
) -> (Vec<Arc<Issuer>>, Vec<String>) {
    let own = || providers.iter().filter(|(_, other)| other.is_none());
    let first_client_id = own().next().map_or("", |(own, _)| &*own.registration.client_id);
    let is_only = own().count() == 1;
    let mut issuers = vec![];
    let mut authorization_servers = vec![];
    for (provider, other) in providers {
        let table = other.map(|(_, table)| table);
        let audience = audience(table, provider);
        if audience.is_empty() {
            continue;
        }
        let client_id = match table {
            Some(_) => first_client_id,
            None => &provider.registration.client_id,
        };
        // Opaque tokens do not say who issued them, and are not shown to one provider after the other.
        let is_named = || settings.introspection_provider.as_deref() == Some(provider.settings.provider_name());
        let is_introspected = table.is_none() && (is_only || is_named());
        let mut issuer = Issuer::new(
            provider.clone(),
            *other,
            audience,
            introspection_needs_audience(&provider.settings),
            client_id,
            is_introspected,
        );
        let is_listed = match table {
            Some(table) => table.authorization_server,
            None => provider.settings.authorization_server,
        };
        // Clients do not request identity tokens for this API, so their issuer is not listed by default.
        let is_listed = is_listed.unwrap_or(issuer.accepts() != Accepts::IdentityTokens);
        // Without metadata, clients could not find its endpoints.
        issuer.is_authorization_server = is_listed && !issuer.has_only_keys();
        if issuer.is_authorization_server {
            authorization_servers.extend(issuer.authorization_servers());
        }
        issuers.push(Arc::new(issuer));
    }
    (issuers, authorization_servers)
}
