//! The report at liftoff: the settings in effect.

use std::collections::BTreeSet;

use crate::{
    observing,
    relying_party::{RelyingParty, Source},
    resource_server::ResourceServer,
};

/// Logs the settings in effect, as Rocket logs its own.
pub(super) async fn report(rp: &RelyingParty) {
    const TARGET: &str = "rocket::launch";
    const INDENTED: &str = "rocket::launch::_";

    tracing::info!(target: TARGET, "OpenID Connect:");
    let tell = |name: &str, value: &str| tracing::info!(target: INDENTED, "{name}: {value}");
    match &rp.source {
        Source::TestingProfile(profile) => {
            let who = profile
                .as_ref()
                .and_then(|claims| claims.get::<String>("sub"))
                .unwrap_or_else(|| "nobody".into());
            tell("disabled", "no provider is contacted");
            tell("testing profile", &who);
        }
        Source::Provider(provider) => {
            tell("issuer", &provider.registration.issuer);
            if let Some(tenants) = &provider.registration.tenants {
                tell("tenants", &tenants.to_string());
            }
            tell("client id", &provider.registration.client_id);
            tell("redirect URI to register", rp.site.redirect_uri.as_str());
            tell("scopes", &rp.settings.scopes.join(" "));
            tell("session", rp.sessions.describe());
            if let Some(size) = rp.sessions.describe_size() {
                tell("a large session", &size);
            }
            if rp.settings.rp_initiated_logout {
                let uri = &rp.post_logout.redirect_uri;
                tell("post-logout redirect URI to register", uri);
            }
            match provider.metadata(rp.clock.now()).await {
                Ok(metadata) if rp.settings.user_info_enabled && metadata.userinfo_endpoint.as_ref().is_none() => {
                    tell("UserInfo", "skipped, the provider has no such endpoint");
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!("{error}; sign-in answers 503 until the provider is there");
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
    const TARGET: &str = "rocket::launch";
    const INDENTED: &str = "rocket::launch::_";

    let mut resources = resource_server.apis().iter();
    if !is_alone && !resources.any(|api| api.protected_resource.is_guarded()) {
        return;
    }
    tracing::info!(target: TARGET, "OpenID Connect, access tokens:");
    let mut reached = BTreeSet::new();
    for api in resource_server.apis() {
        let of_api = api.name().map(|name| format!("API {name}, "));
        let of_api = of_api.unwrap_or_default();
        for issuer in api.issuers() {
            let (name, audience) = (issuer.name(), issuer.audience().join(", "));
            let metadata = issuer.provider.metadata(resource_server.clock.now()).await;
            let signs_nobody_in = metadata
                .as_ref()
                .is_ok_and(|metadata| metadata.issues_only_identity_tokens);
            let accepts = match issuer.accepts().describe(signs_nobody_in) {
                Some(tokens) => format!(", also {tokens}"),
                None => String::new(),
            };
            let tenants = match &issuer.provider.registration.tenants {
                Some(tenants) => format!(" of {tenants}"),
                None => String::new(),
            };
            tracing::info!(
                target: INDENTED,
                "{of_api}issuer: {name}{tenants}, for the audience {audience}{accepts}"
            );
            if !reached.insert(name) {
                continue;
            }
            if let Err(error) = metadata {
                let status = if error.is_outage() { 503 } else { 502 };
                tracing::warn!("{error}; its tokens are answered with {status} until it is there");
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
