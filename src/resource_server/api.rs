//! An API of the app: whose access tokens it accepts, for which audience, and how it describes itself.

use std::sync::Arc;

use url::Url;

use super::{ActiveTokens, Issuer, ProtectedResource, SeenTokens};
use crate::{
    provider::Provider,
    settings::{ApiSettings, IssuerSettings, Settings},
    token::Accepts,
};

/// A provider, with its table of the setting `issuers` and the table's name if it is not the app's own.
type Known<'a> = (Arc<Provider>, Option<(&'a str, &'a IssuerSettings)>);

/// One API of the app. What was found out about a token counts at the API where it was found out, and at no other.
#[derive(Debug)]
pub(crate) struct Api {
    /// The name of its table in the setting `apis`; `None` for the app's own.
    name: Option<String>,
    pub(crate) protected_resource: ProtectedResource,
    /// Those of whose tokens it accepts any, the provider first; none while disabled.
    pub(super) issuers: Vec<Arc<Issuer>>,
    /// `None` when the setting `token_cache` says so.
    pub(super) seen: Option<SeenTokens>,
    pub(super) active: ActiveTokens,
}

impl Api {
    /// The API of guards that name none.
    pub(super) fn unnamed(
        providers: &[Known<'_>],
        base_url: Option<&Url>,
        settings: &Settings,
    ) -> Api {
        let audience = |known: Option<&IssuerSettings>, client_id: &str| match known {
            None => settings.access_token_audience(client_id),
            Some(other) => other.audience.clone(),
        };
        let needs_audience =
            settings.has_audience() && !settings.insecure_introspection_without_audience;
        let (issuers, authorization_servers) =
            issuers(providers, audience, needs_audience, settings);
        let resource = settings.resource.as_ref().or(base_url);
        let is_asked_for = settings.resource.is_some()
            || settings.resource_server_only && settings.apis.is_empty();
        let scopes = &settings.scopes_supported;
        let protected_resource = ProtectedResource::new(settings, resource, scopes)
            .of_authorization_servers(authorization_servers)
            .published_if(is_asked_for || !scopes.is_empty());
        Api::new(None, protected_resource, issuers, settings)
    }

    /// An API of the setting `apis`.
    pub(super) fn named(
        name: &str,
        api: &ApiSettings,
        providers: &[Known<'_>],
        settings: &Settings,
    ) -> Api {
        let audience = |known: Option<&IssuerSettings>, _: &str| match known {
            None => api.access_token_audience(),
            Some(other) => other.apis.get(name).cloned().unwrap_or_default(),
        };
        // Nothing else tells a token for this API from one for another.
        let (issuers, authorization_servers) = issuers(providers, audience, true, settings);
        let protected_resource =
            ProtectedResource::new(settings, Some(&api.resource), &api.scopes_supported)
                .of_authorization_servers(authorization_servers)
                .published_if(true);
        Api::new(Some(name), protected_resource, issuers, settings)
    }

    /// One that accepts no token, while `enabled = false`.
    pub(super) fn disabled(name: Option<&String>, settings: &Settings) -> Api {
        let protected_resource = ProtectedResource::new(settings, None, &[]);
        let name = name.map(String::as_str);
        Api::new(name, protected_resource, vec![], settings)
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
            seen: (entries > 0 && !issuers.is_empty()).then(|| SeenTokens::new(entries)),
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

    /// Whom to ask about tokens that are not for us to read.
    pub(super) fn issuer_to_ask(&self) -> Option<&Arc<Issuer>> {
        self.issuers.iter().find(|issuer| issuer.is_asked)
    }
}

/// The issuers that have an audience, and the names of those that clients get tokens from.
fn issuers(
    providers: &[Known<'_>],
    audience: impl Fn(Option<&IssuerSettings>, &str) -> Vec<String>,
    introspection_needs_audience: bool,
    settings: &Settings,
) -> (Vec<Arc<Issuer>>, Vec<String>) {
    let own = providers.iter().find(|(_, other)| other.is_none());
    let client_id = own.map_or("", |(own, _)| &*own.registration.client_id);
    let mut issuers = vec![];
    let mut authorization_servers = vec![];
    for (provider, other) in providers {
        let table = other.map(|(_, table)| table);
        let audience = audience(table, client_id);
        if audience.is_empty() {
            continue;
        }
        let issuer = Issuer::new(
            provider.clone(),
            *other,
            audience,
            introspection_needs_audience,
            client_id,
            settings,
        );
        let is_listed = match table {
            Some(table) => table.authorization_server,
            None => settings.authorization_server,
        };
        // Identity tokens are none that a client gets for this API.
        let is_listed = is_listed.unwrap_or(issuer.accepts() != Accepts::IdentityTokens);
        // Without metadata, nobody is sent there for a token.
        if is_listed && !issuer.has_keys_alone() {
            authorization_servers.extend(issuer.authorization_servers());
        }
        issuers.push(Arc::new(issuer));
    }
    (issuers, authorization_servers)
}
