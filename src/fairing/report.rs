//! The report at liftoff: the settings in effect.

use std::{collections::BTreeSet, sync::Arc};

use rocket::{Orbit, Rocket};

use crate::{
    observing,
    provider::Provider,
    relying_party::{RelyingParty, Source, script_file, script_integrity},
    resource_server::ResourceServer,
    settings::ProviderKind,
};

const TARGET: &str = "rocket::launch";
const INDENTED: &str = "rocket::launch::_";

/// Logs the settings in effect, as Rocket logs its own.
pub(super) async fn report(rp: &RelyingParty) {
    tracing::info!(target: TARGET, "OpenID Connect:");
    let log = |name: &str, value: &str| tracing::info!(target: INDENTED, "{name}: {value}");
    let paths = &rp.site.paths;
    if !paths.base().is_empty() {
        let mount = paths.in_rocket(paths.mount());
        log(
            "routes",
            &format!("{} in the browser, {mount} in Rocket", paths.mount()),
        );
    }
    if let Some(claims) = &rp.settings.me_claims {
        let (path, script) = (rp.route_path("me"), rp.route_path(script_file()));
        let claims = if claims.is_empty() {
            "no claims".to_owned()
        } else {
            claims.join(", ")
        };
        log(
            "for scripts",
            &format!("{path}: {claims}; {script}, {}", script_integrity()),
        );
    }
    match &rp.source {
        Source::TestingProfile(profile) => {
            let subject = profile.as_ref().and_then(|claims| claims.get::<String>("sub"));
            log("disabled", "no provider is contacted");
            log("testing profile", subject.as_deref().unwrap_or("none"));
        }
        Source::Provider(provider) => report_provider(rp, provider).await,
        Source::Several(providers) => {
            log("session", rp.sessions.describe());
            if let Some(size) = rp.sessions.describe_size() {
                log("a large session", &size);
            }
            let chosen_by = if rp.has_tenants() { "`provider_for`" } else { "the user" };
            log("provider chosen by", chosen_by);
            for rp in &providers.of_settings {
                report_one_of_several(rp);
            }
        }
    }
    if rp.kept_forms.is_used() {
        let place = if rp.sessions.is_shared {
            "in the session store"
        } else {
            "in the memory of this process, up to 16 MB; other nodes do not have them, and a restart loses them"
        };
        log("forms whose session ended", place);
    }
    for insecure in rp.settings.insecure_settings() {
        observing::insecure_setting(&insecure.setting, &insecure.to_string());
    }
}

/// Warns if any client may choose the address that the app's `client_ip` sees, outside of development.
pub(super) fn report_addresses(rocket: &Rocket<Orbit>) {
    let config = rocket.config();
    let trusts_no_proxy = rocket
        .state::<ResourceServer>()
        .is_some_and(ResourceServer::trusts_no_proxy);
    let is_debug = config.profile == rocket::Config::DEBUG_PROFILE;
    if let Some(header) = config.ip_header.as_ref().filter(|_| trusts_no_proxy && !is_debug) {
        tracing::warn!(
            "any client can set its address in the header `{header}` (Rocket's `ip_header`): no proxy is named that sets it"
        );
        tracing::info!(
            "name the proxy in `oidc.trusted_proxies`, or set `ip_header = false` if there is none; until then the audit \
             log and rate limits use the address of the connection"
        );
    }
}

/// Logs the settings of the only provider, and whether it responds.
async fn report_provider(rp: &RelyingParty, provider: &Arc<Provider>) {
    let log = |name: &str, value: &str| tracing::info!(target: INDENTED, "{name}: {value}");
    let kind = provider.registration.kind();
    if kind == ProviderKind::GitHub {
        log("provider", kind.describe());
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
    if rp.settings.rp_initiated_logout && kind == ProviderKind::OpenIdConnect {
        log("post-logout redirect URI to register", &rp.post_logout.redirect_uri);
    }
    let metadata = provider.metadata(rp.clock.now()).await;
    if let Some(binding) = provider.describe_binding(metadata.as_deref().ok()) {
        log("tokens bound to keys (DPoP)", &binding);
    }
    match metadata {
        Ok(metadata) if rp.settings.user_info_enabled && metadata.userinfo_endpoint.is_none() => {
            log("UserInfo", "not requested, the provider has no UserInfo endpoint");
        }
        Ok(_) => {}
        Err(error) => {
            tracing::warn!("{error}; sign-in responds with 503 until the provider is available");
        }
    }
}

/// Logs what the operator registers at one of several providers, without a request to it.
fn report_one_of_several(rp: &RelyingParty) {
    let Some(client) = rp.client() else { return };
    let (name, registration) = (rp.provider_name(), &client.provider.registration);
    let log = |what: &str, value: &str| tracing::info!(target: INDENTED, "{name}, {what}: {value}");
    log("issuer", &registration.issuer);
    if let Some(tenants) = &registration.tenants {
        log("tenants", &tenants.to_string());
    }
    log("client id", &registration.client_id);
    log("redirect URI to register", rp.site.redirect_uri.as_str());
    if rp.settings.rp_initiated_logout && registration.kind() == ProviderKind::OpenIdConnect {
        log("post-logout redirect URI to register", &rp.post_logout.redirect_uri);
    }
    if let Some(binding) = client.provider.describe_binding(None) {
        log("tokens bound to keys (DPoP)", &binding);
    }
    for insecure in rp.settings.insecure_settings_of_provider() {
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
            // Of several providers, each is asked when it is needed.
            let metadata = match issuer.provider.settings.provider_name {
                None => Some(issuer.provider.metadata(resource_server.clock.now()).await),
                Some(_) => None,
            };
            let known = metadata.as_ref().and_then(|metadata| metadata.as_ref().ok());
            let signs_nobody_in = known.is_some_and(|metadata| metadata.issues_only_identity_tokens);
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
            if let Some(Err(error)) = metadata {
                let status = if error.is_outage() { 503 } else { 502 };
                tracing::warn!("{error}; its tokens are rejected with {status} until it is available");
            }
        }
        let path = api.protected_resource.paths().first();
        if let Some(path) = path.filter(|_| !api.issuers().is_empty()) {
            tracing::info!(target: INDENTED, "{of_api}protected resource metadata: {path}");
        }
    }
    if let Some(proofs) = resource_server.describe_proofs() {
        tracing::info!(target: INDENTED, "proofs of possession (DPoP): {proofs}");
    }
    if let Some(certificates) = resource_server.describe_certificates() {
        tracing::info!(target: INDENTED, "client certificates: {certificates}");
    }
    for insecure in resource_server.insecure_settings(is_alone) {
        observing::insecure_setting(&insecure.setting, &insecure.to_string());
    }
}
