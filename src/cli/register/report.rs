//! What a person is told about a registration: what it is, and what to do next.

use serde_json::Value;
use time::OffsetDateTime;

use super::{Arguments, ClientMetadata};
use crate::{
    cli::terminal::Terminal,
    provider::{Provider, RegisteredClient},
};

impl Arguments {
    /// Tells what is registered, where it differs from what was asked for, and what comes next.
    pub(super) fn told(
        &self,
        client: &ClientMetadata,
        registered: &RegisteredClient,
        done: &str,
        terminal: &Terminal,
    ) {
        let shown = self.output.display();
        terminal.line(format!("{done} the client {}", registered.client_id));
        client.write(terminal);
        for warning in self.differences(client, registered) {
            terminal.warn(&warning);
        }
        terminal.line(format!(
            "wrote {shown}, which holds secrets: keep it out of version control"
        ));
        terminal.line("\nSet in Rocket.toml:\n\n[default.oidc]");
        terminal.line(format!("client_secrets = \"{shown}\""));
        for (name, value) in self.other_settings() {
            terminal.line(format!("{name} = {value:?}"));
        }
        if self.introspection && is_basic(client, registered) {
            terminal.line("introspection_auth_method = \"client_secret_basic\"");
        }
        terminal.line("\nThen run `rocket-oidc doctor`.");
    }

    /// Where the app is, as settings: the file says it otherwise.
    pub(super) fn site(&self) -> Vec<(&'static str, String)> {
        match self.app_urls.first() {
            Some(url) if url.path() == "/" => {
                let base_url = url.as_str().trim_end_matches('/');
                vec![("base_url", base_url.to_owned())]
            }
            Some(url) => vec![("overwrite_redirect_uri", url.to_string())],
            None => vec![],
        }
    }

    /// What this command line says that the file does not.
    pub(super) fn other_settings(&self) -> Vec<(&'static str, String)> {
        let mut settings = vec![];
        if self.mount != "/oidc" {
            settings.push(("mount", self.mount.clone()));
        }
        if let Some(scope) = &self.scope {
            settings.push(("scopes", scope.clone()));
        }
        if let Some(path) = self.post_logout.as_ref().filter(|path| *path != "/") {
            settings.push(("post_logout_redirect_uri", path.clone()));
        }
        settings
    }

    /// The provider may register something else than it was asked for (RFC 7591 §3.2.1).
    fn differences(&self, client: &ClientMetadata, registered: &RegisteredClient) -> Vec<String> {
        let mut lines = vec![];
        let given = |member: &str| registered.metadata.get(member);
        let uris = given("redirect_uris").and_then(Value::as_array);
        for uri in &client.addresses.redirect_uris {
            if uris.is_some_and(|uris| !uris.iter().any(|given| given == uri.as_str())) {
                lines.push(format!("the provider did not register {uri}"));
            }
        }
        let asked = client.token_endpoint_auth_method;
        match given("token_endpoint_auth_method").and_then(Value::as_str) {
            Some(method) if method != asked => lines.push(format!(
                "the provider wants the client to authenticate with {method}: set \
                 `token_endpoint_auth_method` to it"
            )),
            _ => {}
        }
        if registered.client_secret.is_none() && !self.public_client {
            lines.push("the provider gave no client secret".to_owned());
        }
        if registered.registration_client_uri.is_none()
            || registered.registration_access_token.is_none()
        {
            lines.push(
                "the provider gave no way to change this registration: `--update` and `--delete` \
                 will not work"
                    .to_owned(),
            );
        }
        let expires = given("client_secret_expires_at").and_then(Value::as_i64);
        if let Some(expires) = expires.filter(|seconds| *seconds > 0)
            && let Ok(date) = OffsetDateTime::from_unix_timestamp(expires)
        {
            lines.push(format!("the client secret expires on {}", date.date()));
        }
        if client.addresses.redirect_uris.len() > 1 && self.backchannel_logout {
            lines.push(format!(
                "a client has one back-channel logout URI: {}",
                client.addresses.backchannel_logout_uri
            ));
        }
        lines
    }
}

/// Whether the client authenticates by `client_secret_basic`. Where that is what it is registered for, providers refuse
/// other ways at each endpoint, and the setting's default is another one.
fn is_basic(client: &ClientMetadata, registered: &RegisteredClient) -> bool {
    let method = registered.metadata.get("token_endpoint_auth_method");
    let method = method.and_then(Value::as_str);
    method.unwrap_or(client.token_endpoint_auth_method) == "client_secret_basic"
}

/// What to do where a provider registers nobody by itself.
pub(super) fn by_hand(
    provider: &Provider,
    client: &ClientMetadata,
    settings: &[(&str, String)],
    terminal: &Terminal,
) {
    let issuer = &provider.registration.issuer;
    terminal.line(format!(
        "{issuer} has no registration endpoint. Create a client in its console, with\n"
    ));
    client.write(terminal);
    terminal.line("\nand set in Rocket.toml what it gives you:\n\n[default.oidc]");
    terminal.line(format!("issuer = {issuer:?}"));
    terminal.line("client_id = \"…\"");
    for (name, value) in settings {
        terminal.line(format!("{name} = {value:?}"));
    }
    if client.token_endpoint_auth_method != "none" {
        terminal.line("\nand the secret in the environment variable OIDC_CLIENT_SECRET.");
    }
}
