//! Checks of the client's own key: its file, its algorithm, and the place where the provider reads the public keys.

use super::{Doctor, reach::Found};
use crate::{
    client_key::ClientKey,
    provider::{Endpoint, Provider, strings},
    settings::{Settings, Site, TokenEndpointAuthMethod},
    token::KeySet,
};

const FILE: &str = "client key file";

impl Doctor {
    pub(super) async fn client_keys(&mut self, provider: &Provider, found: &Found, settings: &Settings, site: &Site) {
        let Some(key) = &provider.registration.client_key else {
            return;
        };
        self.key_file(settings);
        if provider.authentication_method(&found.metadata) == TokenEndpointAuthMethod::PrivateKeyJwt {
            self.key_algorithm(key, found);
        }
        self.published_keys(provider, key, settings, site).await;
    }

    /// The file was read when the settings were resolved.
    fn key_file(&mut self, settings: &Settings) {
        let Some(path) = &settings.private_key_file else {
            return;
        };
        let shown = path.display();
        #[cfg(unix)]
        if let Ok(found) = std::fs::metadata(path) {
            let mode = std::os::unix::fs::PermissionsExt::mode(&found.permissions());
            if mode & 0o007 != 0 {
                let finding = format!("every user of this machine may read or change `{shown}`");
                let remedy = format!("run `chmod o= {shown}`, and replace its keys if others use this machine");
                return self.report.failure(FILE, finding, remedy);
            }
        }
        self.report
            .ok(FILE, format!("`{shown}` is readable, and not by every user"));
    }

    /// OpenID Connect Discovery 1.0 §3.
    fn key_algorithm(&mut self, key: &ClientKey, found: &Found) {
        const CHECK: &str = "client key algorithm";
        const MEMBER: &str = "token_endpoint_auth_signing_alg_values_supported";
        let alg = key.alg().as_str();
        match found.document.get(MEMBER).and_then(strings) {
            Some(listed) if !listed.iter().any(|name| name == alg) => self.report.failure(
                CHECK,
                format!("the active key signs with {alg}, and `{MEMBER}` in the metadata lacks it"),
                format!(
                    "generate a key for one of {}: `rocket-oidc keys new --alg …`",
                    listed.join(", ")
                ),
            ),
            Some(_) => self.report.ok(CHECK, format!("{alg}, which the provider lists")),
            None => self
                .report
                .ok(CHECK, format!("{alg}; the provider does not list its algorithms")),
        }
    }

    /// The provider reads the keys here if the client is registered with this `jwks_uri`.
    async fn published_keys(&mut self, provider: &Provider, key: &ClientKey, settings: &Settings, site: &Site) {
        const CHECK: &str = "client keys";
        let Some(active) = key.published().first() else {
            return;
        };
        let kid = key.kid().unwrap_or_else(|| active.kid());
        let of_several = settings.provider_name.as_ref().map(|name| format!("/{name}"));
        let path = format!("jwks.json{}", of_several.unwrap_or_default());
        let url = site.url(&site.paths.route(&path));
        let work = provider.visit(Endpoint::KeySet, &url);
        let reply = match self.terminal.wait("calling the app", work).await {
            Ok(reply) => reply,
            Err(error) => return self.app_unreachable(CHECK, &url, error, "the provider needs", "`base_url`"),
        };
        if reply.status().as_u16() != 200 {
            return self.report.failure(
                CHECK,
                format!("{url} responds with status {}", reply.status().as_u16()),
                "check `base_url`, `mount`, and that the proxy in front of the app forwards GET requests to this path",
            );
        }
        let keys = KeySet::parse(reply.body());
        if keys.is_ok_and(|keys| keys.usable().any(|(listed, _)| listed == Some(kid))) {
            return self.report.ok(CHECK, format!("{url} has the active key {kid}"));
        }
        self.report.failure(
            CHECK,
            format!("{url} lacks the active key {kid}"),
            "restart the app: it publishes the keys that the file had at its launch",
        );
    }
}
