//! The report at liftoff: the settings in effect.

use std::collections::BTreeSet;

use crate::{
    observing,
    relying_party::{RelyingParty, Source},
    resource_server::ResourceServer,
    settings::ProviderKind,
};

const TARGET: &str = "rocket::launch";
const INDENTED: &str = "rocket::launch::_";

/// Logs the settings in effect, as Rocket logs its own.
pub(super) async fn report(rp: &RelyingParty) {
    tracing::info!(target: TARGET, "OpenID Connect:");
    let log = |name: &str, value: &str| tracing::info!(target: INDENTED, "{name}: {value}");
    match &rp.source {
        Source::TestingProfile(profile) => {
            let subject = profile.as_ref().and_then(|claims| claims.get::<String>("sub"));
            log("disabled", "no provider is contacted");
            log("testing profile", subject.as_deref().unwrap_or("none"));
        }
        Source::Provider(provider) => {
            if provider.registration.kind() == ProviderKind::GitHub {
                log("provider", provider.registration.kind().describe());
            }
            log("issuer", &provider.registration.issuer);
            if let Some(tenants) = &provider.registration.tenants {
                log("tenants", &tenants.to_string());
            }
            log("client id", &provider.registration.client_id);
            log("redirect URI to register", rp.site.redirect_uri.as_str());
            log("scopes", &rp.settings.scopes.join(" "));
            log("session", rp.sessions.describe());
            if let Some(size) = rp.sessions.describe_size() {
                log("a large session", &size);
            }
            if rp.settings.rp_initiated_logout && provider.registration.kind() == ProviderKind::OpenIdConnect {
                log("post-logout redirect URI to register", &rp.post_logout.redirect_uri);
            }
            match provider.metadata(rp.clock.now()).await {
                Ok(metadata) if rp.settings.user_info_enabled && metadata.userinfo_endpoint.is_none() => {
                    log("UserInfo", "not requested, the provider has no UserInfo endpoint");
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!("{error}; sign-in responds with 503 until the provider is available");
                }
            }
        }
    }
    for insecure in rp.settings.insecure_settings() {
        observing::insecure_setting(&insecure.setting, &insecure.to_string());
    }
}

/// Logs the access token settings, if the app accepts access tokens.
pub(super) async fn report_resource_server(resource_server: &ResourceServer, is_alone: bool) {
    let mut resources = resource_server.apis().iter();
    if !is_alone && !resources.any(|api| api.protected_resource.is_guarded()) {
        return;
    }
    tracing::info!(target: TARGET, "OpenID Connect, access tokens:");
    let mut reached = BTreeSet::new();
    for api in resource_server.apis() {
        let of_api = api.name().map(|name| format!("API {name}, ")).unwrap_or_default();
        for issuer in api.issuers() {
            let (name, audience) = (issuer.name(), issuer.audience().join(", "));
            let metadata = issuer.provider.metadata(resource_server.clock.now()).await;
            let signs_nobody_in = metadata
                .as_ref()
                .is_ok_and(|metadata| metadata.issues_only_identity_tokens);
            let accepts = issuer.accepts().describe(signs_nobody_in);
            let accepts = accepts.map(|tokens| format!(", also {tokens}")).unwrap_or_default();
            let tenants = issuer.provider.registration.tenants.as_ref();
            let tenants = tenants.map(|tenants| format!(" of {tenants}")).unwrap_or_default();
            tracing::info!(
                target: INDENTED,
                "{of_api}issuer: {name}{tenants}, for the audience {audience}{accepts}"
            );
            if !reached.insert(name) {
                continue;
            }
            if let Err(error) = metadata {
                let status = if error.is_outage() { 503 } else { 502 };
                tracing::warn!("{error}; its tokens are rejected with {status} until it is available");
            }
        }
        let path = api.protected_resource.path();
        if let Some(path) = path.filter(|_| !api.issuers().is_empty()) {
            tracing::info!(target: INDENTED, "{of_api}protected resource metadata: {path}");
        }
    }
    for insecure in resource_server.insecure_settings(is_alone) {
        observing::insecure_setting(&insecure.setting, &insecure.to_string());
    }
}
