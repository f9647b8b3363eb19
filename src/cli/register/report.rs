//! The report about a registration: what is registered, and what to do next.

use rocket::{Config, figment::Profile};
use serde_json::Value;
use time::OffsetDateTime;

use super::{Arguments, ClientMetadata, DEFAULT_MOUNT};
use crate::{
    cli::{app::App, terminal::Terminal},
    printable::printable,
    provider::{Metadata, Provider, RegisteredClient, default_authentication_method},
    settings::{ClientSecrets, Settings},
};

impl Arguments {
    /// Writes what is registered, how it differs from the request, and what to do next.
    pub(super) fn report(
        &self,
        client: &ClientMetadata,
        registered: &RegisteredClient,
        provider: &Metadata,
        done: &str,
        terminal: &Terminal,
    ) {
        let shown = self.output.display();
        terminal.line(format!("{done} the client {}", printable(&registered.client_id)));
        client.write(terminal, Some(&registered.metadata));
        self.warn_of_differences(client, registered, terminal);
        let mut file = Settings::default();
        file.client_secrets = Some(ClientSecrets::File(self.output.clone()));
        for line in file.stray_characters() {
            terminal.warn(&line, Some("have the provider issue another value"));
        }
        terminal.line(format!(
            "wrote {shown}, which contains secrets: keep it out of version control"
        ));
        terminal.line("\nSet in Rocket.toml:\n");
        let mut settings = vec![("client_secrets", shown.to_string())];
        settings.extend(self.other_settings(Some(registered)));
        let method = method(client, registered);
        let by_default = default_authentication_method(provider).as_str();
        if registered.client_secret.is_some()
            && method != by_default
            && ["client_secret_basic", "client_secret_post"].contains(&method)
        {
            settings.push(("token_endpoint_auth_method", method.to_owned()));
        }
        // A client registered for this method is usually rejected with any other, at each endpoint, and the setting's
        // default is another one.
        if self.introspection && method == "client_secret_basic" {
            settings.push(("introspection_auth_method", method.to_owned()));
        }
        self.print_settings(&settings, terminal);
        terminal.line("\nThen run `rocket-oidc doctor`.");
    }

    /// Prints the table of the provider, after that of the app if there are settings of the app as a whole.
    fn print_settings(&self, settings: &[(&'static str, String)], terminal: &Terminal) {
        let print = |settings: Vec<&(&str, String)>| {
            for (name, value) in settings {
                terminal.line(format!("{name} = {}", toml(value)));
            }
        };
        let profile = self.profile_beside_dev_provider(terminal);
        let Some(provider) = &self.provider else {
            terminal.line(format!("[{profile}.oidc]"));
            if profile.needs_no_dev_provider {
                terminal.line("dev_provider = false");
            }
            return print(settings.iter().collect());
        };
        let is_of_the_app = |(name, _): &&(&str, String)| ["base_url", "insecure_http_hosts", "mount"].contains(name);
        let (of_the_app, own): (Vec<_>, Vec<_>) = settings.iter().partition(is_of_the_app);
        if !of_the_app.is_empty() {
            terminal.line(format!("[{profile}.oidc]"));
            print(of_the_app);
            terminal.line("");
        }
        terminal.line(format!("[{profile}.oidc.providers.{provider}]"));
        if profile.needs_no_dev_provider {
            terminal.line("dev_provider = false");
        }
        print(own);
    }

    /// The profile of the printed tables: beside a development provider, which is of the debug profile, that of a release.
    /// There can be only one provider.
    fn profile_beside_dev_provider(&self, terminal: &Terminal) -> PrintedProfile {
        let key = match &self.provider {
            Some(name) => format!("oidc.providers.{name}.dev_provider"),
            None => "oidc.dev_provider".to_owned(),
        };
        let has_one = |profile: Profile| {
            let value = App::figment(Some(profile.as_str().as_str())).find_value(&key);
            value.is_ok_and(|value| value.to_bool() != Some(false))
        };
        let is_beside = has_one(Config::DEBUG_PROFILE);
        if is_beside {
            terminal.line("# The debug profile has a development provider, so this is for a release:");
        }
        PrintedProfile {
            name: if is_beside { "release" } else { "default" },
            needs_no_dev_provider: is_beside && has_one(Config::RELEASE_PROFILE),
        }
    }

    /// The settings for the app's URL, which the file gives by its redirect URIs.
    pub(super) fn site(&self, client: &ClientMetadata) -> Vec<(&'static str, String)> {
        let callback_path = &client.addresses.callback_path;
        match client.addresses.redirect_uris.first() {
            Some(uri) if uri.path() == callback_path && uri.query().is_none() => {
                vec![("base_url", client.addresses.base_url.clone())]
            }
            Some(uri) => vec![("overwrite_redirect_uri", uri.to_string())],
            None => vec![],
        }
    }

    /// The settings of this command line that the file does not hold; of the scopes, only the registered ones.
    pub(super) fn other_settings(&self, registered: Option<&RegisteredClient>) -> Vec<(&'static str, String)> {
        let mut settings = vec![];
        if let Some(base_url) = self.base_url().filter(|_| registered.is_some()) {
            settings.push(("base_url", base_url.as_str().trim_end_matches('/').to_owned()));
        }
        let mount = self.mount();
        if mount != DEFAULT_MOUNT {
            settings.push(("mount", mount));
        }
        if let Some(path) = &self.client_keys {
            settings.push(("private_key_file", path.display().to_string()));
        }
        if self.dpop {
            settings.push(("dpop", "required".to_owned()));
        }
        if let Some(scope) = &self.scope {
            let returned = registered.and_then(registered_scopes);
            let is_registered = |word: &&str| match &returned {
                Some(returned) => *word == "openid" || returned.contains(word),
                None => true,
            };
            let words: Vec<&str> = scope.split_whitespace().filter(is_registered).collect();
            settings.push(("scopes", words.join(" ")));
        }
        if !self.insecure_http_host.is_empty() {
            let hosts = self.insecure_http_host.join(" ");
            settings.push(("insecure_http_hosts", hosts));
        }
        if let Some(path) = self.post_logout.as_ref().filter(|path| *path != "/") {
            settings.push(("post_logout_redirect_uri", path.clone()));
        }
        settings
    }

    /// The instructions for a provider without dynamic registration.
    pub(super) fn print_manual_registration(
        &self,
        provider: &Provider,
        client: &ClientMetadata,
        other: Vec<(&'static str, String)>,
        terminal: &Terminal,
    ) {
        let issuer = &provider.registration.issuer;
        terminal.line(format!(
            "{issuer} has no registration endpoint. Create a client in its console with\n"
        ));
        client.write(terminal, None);
        terminal.line("\nThen set in Rocket.toml:\n");
        let mut settings = vec![("issuer", issuer.clone()), ("client_id", "…".to_owned())];
        settings.extend(other);
        self.print_settings(&settings, terminal);
        if !["none", "private_key_jwt"].contains(&client.token_endpoint_auth_method) {
            let of_several = self
                .provider
                .as_ref()
                .map(|name| format!("PROVIDERS__{}__", name.to_uppercase()));
            terminal.line(format!(
                "\nSet the client secret in the environment variable OIDC_{}CLIENT_SECRET.",
                of_several.unwrap_or_default()
            ));
        }
    }

    /// Warns of differences between the registration and the request, which RFC 7591 §3.2.1 permits.
    fn warn_of_differences(&self, client: &ClientMetadata, registered: &RegisteredClient, terminal: &Terminal) {
        let warn = |cause: &str| terminal.warn(cause, None);
        let given = |member: &str| registered.metadata.get(member);
        let lacks = |member: &str, value: &str| {
            let list = given(member).and_then(Value::as_array);
            list.is_some_and(|list| !list.iter().any(|given| given == value))
        };
        let path = &client.addresses.callback_path;
        for uri in &client.addresses.redirect_uris {
            if lacks("redirect_uris", uri.as_str()) {
                warn(&format!("the provider did not register {uri}"));
            } else if uri.path() != path {
                let remedy = "configure the proxy to forward it, or register a redirect URI that ends in";
                let cause = format!("the app's callback path is {path}, not that of {uri}");
                terminal.warn(&cause, Some(&format!("{remedy} {path}")));
            }
        }
        if lacks("response_types", "code") || lacks("grant_types", "authorization_code") {
            warn("the provider did not register the code flow: sign-in will fail");
        }
        if client.grant_types.contains(&"refresh_token") && lacks("grant_types", "refresh_token") {
            warn("the provider did not register the grant type refresh_token: sessions are not refreshed");
        }
        if let (Some(requested), Some(returned)) = (&self.scope, registered_scopes(registered)) {
            let is_missing = |word: &&str| !returned.contains(word);
            let missing: Vec<&str> = requested.split_whitespace().filter(is_missing).collect();
            if !missing.is_empty() {
                let missing = missing.join(" ");
                warn(&format!("the provider did not register the scopes {missing}"));
            }
        }
        let post_logout = client.addresses.post_logout_redirect_uris.iter();
        for uri in post_logout.filter(|_| self.post_logout.is_some()) {
            if lacks("post_logout_redirect_uris", uri) {
                warn(&format!(
                    "the provider did not register the post-logout redirect URI {uri}"
                ));
            }
        }
        let backchannel_logout = &client.addresses.backchannel_logout_uri;
        if let Some(Value::String(other)) = given("backchannel_logout_uri")
            && self.backchannel_logout
            && other != backchannel_logout
        {
            let other = printable(other);
            warn(&format!(
                "the provider registered another back-channel logout URI: {other}"
            ));
        }
        let (requested, method) = (client.token_endpoint_auth_method, method(client, registered));
        if method != requested {
            let (problem, remedy) = match method {
                "private_key_jwt" => ("", "set `private_key_file`, and register its public key".to_owned()),
                "client_secret_basic" | "client_secret_post" | "none" => {
                    ("", format!("set `token_endpoint_auth_method` to `{method}`"))
                }
                _ => (
                    ", which is not supported",
                    format!("change it to {requested} in the provider's console"),
                ),
            };
            let method = printable(method);
            let cause = format!("the provider requires client authentication with {method}{problem}");
            terminal.warn(&cause, Some(&remedy));
        }
        if registered.client_secret.is_none() && !self.public_client && self.client_keys.is_none() {
            warn("the provider issued no client secret");
        }
        if registered.registration_client_uri.is_none() || registered.registration_access_token.is_none() {
            warn("the provider does not support managing this registration: `--update` and `--delete` will fail");
        }
        let expires = given("client_secret_expires_at").and_then(Value::as_i64);
        if let Some(expires) = expires.filter(|seconds| *seconds > 0)
            && let Ok(date) = OffsetDateTime::from_unix_timestamp(expires)
        {
            warn(&format!("the client secret expires on {}", date.date()));
        }
        if client.addresses.redirect_uris.len() > 1 && self.backchannel_logout {
            warn(&format!(
                "a client has only one back-channel logout URI: {backchannel_logout}"
            ));
        }
    }
}

/// The profile for which settings are printed.
struct PrintedProfile {
    name: &'static str,
    /// Whether a development provider is set for every profile.
    needs_no_dev_provider: bool,
}

impl std::fmt::Display for PrintedProfile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// The registered client authentication method, else the requested one.
fn method<'a>(client: &'a ClientMetadata, registered: &'a RegisteredClient) -> &'a str {
    let method = registered.metadata.get("token_endpoint_auth_method");
    let method = method.and_then(Value::as_str);
    method.unwrap_or(client.token_endpoint_auth_method)
}

/// The registered scopes, if the response has them.
fn registered_scopes(registered: &RegisteredClient) -> Option<Vec<&str>> {
    let scope = registered.metadata.get("scope")?.as_str()?;
    Some(scope.split_whitespace().collect())
}

/// Formats a TOML string, which has the same escapes as JSON.
fn toml(text: &str) -> String {
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}
