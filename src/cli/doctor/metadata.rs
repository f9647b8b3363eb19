//! Compares the features that the provider's metadata lists with those that the app uses.

use super::{Doctor, reach::Found};
use crate::provider::{Metadata, Provider, strings};

impl Doctor {
    /// Checks the code flow, PKCE and client authentication. A member that is absent from the metadata is not
    /// reported.
    pub(super) fn supported_features(&mut self, provider: &Provider, found: &Found) {
        const CHECK: &str = "supported";
        let lacks = |member: &str, value: &str| {
            let listed = found.document.get(member).and_then(strings);
            listed.is_some_and(|listed| !listed.iter().any(|name| name == value))
        };
        let mut is_supported = true;
        let remedy = "enable it at the provider, or ignore this if the metadata is incomplete";
        for (member, value) in [
            ("response_types_supported", "code"),
            ("code_challenge_methods_supported", "S256"),
        ] {
            let is_used = member != "code_challenge_methods_supported" || !provider.settings.insecure_omit_pkce;
            if is_used && lacks(member, value) {
                is_supported = false;
                let finding = format!("`{member}` in the metadata lacks `{value}`");
                self.report.warning(CHECK, finding, remedy);
            }
        }
        let method = provider.authentication_method(&found.metadata).as_str();
        let member = "token_endpoint_auth_methods_supported";
        // Discovery §3: the default is client_secret_basic, which the app uses then. Keycloak, for example, has
        // public clients and does not list `none`, which is not an authentication method.
        if method != "none" && lacks(member, method) {
            is_supported = false;
            let finding = format!("`{member}` in the metadata lacks `{method}`");
            let listed = found.metadata.token_endpoint_auth_methods_supported.as_deref();
            let listed = listed.unwrap_or_default().join(", ");
            let remedy = format!("set `token_endpoint_auth_method` to one of {listed}");
            self.report.warning(CHECK, finding, remedy);
        }
        if is_supported {
            let pkce = if provider.settings.insecure_omit_pkce {
                "without PKCE"
            } else {
                "PKCE with S256"
            };
            let finding = format!("the code flow, {pkce}, {method}");
            self.report.ok(CHECK, finding);
        }
    }

    /// Checks the scopes, if the provider lists its own (Discovery §3: it need not list all).
    pub(super) fn scopes(&mut self, provider: &Provider, metadata: &Metadata) {
        const CHECK: &str = "scopes";
        let wanted = &provider.settings.scopes;
        let Some(supported) = metadata.scopes_supported.as_deref() else {
            let finding = format!("{}; the provider does not list its scopes", wanted.join(" "));
            return self.report.ok(CHECK, finding);
        };
        let unlisted = wanted.iter().filter(|scope| !supported.contains(scope));
        let unlisted: Vec<&str> = unlisted.map(String::as_str).collect();
        if unlisted.is_empty() {
            return self.report.ok(CHECK, wanted.join(" "));
        }
        let finding = format!("the provider does not list {}", unlisted.join(", "));
        let remedy = "remove it from `scopes`, or create it at the provider";
        self.report.warning(CHECK, finding, remedy);
    }
}
