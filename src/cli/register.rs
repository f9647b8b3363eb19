//! `rocket-oidc register`: OpenID Connect Dynamic Client Registration 1.0 and RFC 7592.

mod addresses;
mod client_metadata;
mod report;
mod secrets_file;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use serde_json::{Map, Value, json};
use url::Url;

use self::{
    addresses::{Addresses, ApplicationType, mount_of},
    client_metadata::{CONTROLLED, ClientMetadata},
    secrets_file::{SecretsFile, management, merge_response},
};
use super::{Failure, read_token, terminal::Terminal};
use crate::{
    provider::{Metadata, Provider, ProviderError, RegisteredClient},
    secret::Secret,
    settings::{
        ClientSecrets, MetadataSource, Reach, Registration, RocketConfig, Settings, is_loopback, is_provider_name,
    },
};

/// The default of the setting `mount`.
const DEFAULT_MOUNT: &str = "/oidc";

/// Register the app at a provider, and save the registration to a file
///
/// The setting `client_secrets` reads this file. A client with https redirect URIs is a `web`
/// application; one with http redirect URIs on loopback (localhost, 127.0.0.1, [::1]) is a `native`
/// application. No standard permits both in one client: register a separate one for development.
#[derive(Debug, clap::Args)]
#[allow(rustdoc::bare_urls, reason = "the help shows these comments as they are")]
pub(super) struct Arguments {
    /// The provider's issuer, such as https://accounts.example.com
    #[arg(required_unless_present = "delete")]
    issuer: Option<String>,
    /// Public URLs of the app, such as https://app.example.com, or https://example.com/app/ for an
    /// app below a path; a URL with a path but without the final slash is the redirect URI itself
    #[arg(required_unless_present = "delete", value_name = "APP_URL")]
    app_urls: Vec<Url>,
    /// The setting `mount`: redirect URIs are {APP_URL}{MOUNT}/authorize [default: the path before
    /// /authorize in an APP_URL, or /oidc]
    #[arg(long)]
    mount: Option<String>,
    /// Of several providers, the name of this one, a table of `oidc.providers`: redirect URIs are
    /// {APP_URL}{MOUNT}/authorize/{NAME}. The settings of the app are not read
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// The name of the app that users see [default: the host of the first APP_URL]
    #[arg(long)]
    name: Option<String>,
    /// E-mail address of a contact for the provider, such as ops@example.com; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    contact: Vec<String>,
    /// The scopes that the app may request, separated by spaces [default: the provider's choice]
    #[arg(long)]
    scope: Option<String>,
    /// Register a client without a secret
    #[arg(long)]
    public_client: bool,
    /// Register a client that authenticates with the keys of this file, the setting
    /// `private_key_file`: the provider gets the URL of the public keys ({APP_URL}{MOUNT}/jwks.json),
    /// or, of an app on loopback, the keys themselves
    #[arg(long, value_name = "FILE", conflicts_with = "public_client")]
    client_keys: Option<PathBuf>,
    /// Save the introspection endpoint to the file too
    #[arg(long)]
    introspection: bool,
    /// Have the provider notify the app when a session ends (back-channel logout)
    #[arg(long)]
    backchannel_logout: bool,
    /// Have the provider bind all tokens to keys, as for the setting `dpop = "required"`
    #[arg(long)]
    dpop: bool,
    /// Have the provider redirect users to this path after sign-out
    #[arg(
        long,
        value_name = "PATH",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "/"
    )]
    post_logout: Option<String>,
    /// The type of the application [default: derived from the redirect URIs]
    #[arg(long)]
    application_type: Option<ApplicationType>,
    /// A host of a closed network to call by plain http, as in the setting `insecure_http_hosts`: an
    /// exact name or address, without a port; may be repeated
    #[arg(long, value_name = "NAME")]
    insecure_http_host: Vec<String>,
    /// The initial access token that the provider issued; `-` reads it from standard input
    #[arg(long, value_name = "TOKEN")]
    initial_access_token: Option<String>,
    /// The file of the registration, readable by its owner only
    #[arg(long, short, value_name = "FILE", default_value = "client_secrets.json")]
    output: PathBuf,
    /// Overwrite an existing file
    #[arg(long, conflicts_with_all = ["update", "delete"])]
    force: bool,
    /// Update the registration in the file to match this command line (RFC 7592)
    #[arg(long, conflicts_with_all = ["delete", "initial_access_token"])]
    update: bool,
    /// Delete the registration in the file at the provider, and the file (RFC 7592)
    #[arg(long)]
    delete: bool,
}

impl Arguments {
    pub(super) async fn run(mut self, terminal: &Terminal) -> Result<ExitCode, Failure> {
        if self.delete {
            return self.delete(terminal).await;
        }
        let initial_access_token = self.initial_access_token()?;
        self.check_issuer()?;
        self.check_provider()?;
        let settings = self.settings();
        let addresses = Addresses::derive(&settings, &self.app_urls)?;
        let (provider, metadata) = find(addresses.registration.clone(), settings, terminal).await?;
        let client = ClientMetadata::new(&self, addresses, &metadata)?;
        if self.introspection && metadata.introspection_endpoint.as_ref().is_none() {
            return Err(Failure::new(
                "the provider's metadata lists no introspection endpoint",
                "omit `--introspection`: JWT access tokens do not need it",
            ));
        }
        match (self.update, metadata.registration_endpoint.as_ref()) {
            (true, _) => self.update(&provider, &metadata, client, terminal).await,
            (false, Some(endpoint)) => {
                let file = SecretsFile::reserve(&self.output, self.force)?;
                let work = provider.register(endpoint, initial_access_token.as_ref(), &client.members);
                let registered = terminal.wait("registering the app", work).await;
                let has_token = initial_access_token.is_some();
                let registered = registered.map_err(|error| self.rejection(error, has_token))?;
                let web = self.web(&provider, &metadata, &client, &registered, Map::new());
                file.write(&web, |path| self.check(path, &client))?;
                self.report(&client, &registered, &metadata, "registered", terminal);
                Ok(ExitCode::SUCCESS)
            }
            (false, None) => {
                let mut settings = self.site(&client);
                settings.extend(self.other_settings(None));
                self.print_manual_registration(&provider, &client, settings, terminal);
                Ok(ExitCode::FAILURE)
            }
        }
    }

    /// RFC 7592 §2.2. An update replaces the whole registration, so that members that the command line does not
    /// decide are read first.
    async fn update(
        &self,
        provider: &Provider,
        metadata: &Metadata,
        client: ClientMetadata,
        terminal: &Terminal,
    ) -> Result<ExitCode, Failure> {
        let mut web = secrets_file::read(&self.output)?;
        let issuer = &provider.registration.issuer;
        if let Some(other) = web.get("issuer").filter(|other| *other != issuer) {
            return Err(Failure::new(
                format!("`{}` is a registration at the issuer {other}", self.output.display()),
                "pass that issuer, or the file of this one with `--output`",
            ));
        }
        let (uri, token) = management(&web, &self.output)?;
        let file = SecretsFile::reserve(&self.output, true)?;

        let work = provider.registered(&uri, &token);
        let current = terminal.wait("reading the registration", work).await?;
        // Each response may have a new token and URL (RFC 7592 §3).
        let token = current.registration_access_token.clone().unwrap_or(token);
        let uri = current.registration_client_uri.clone().unwrap_or(uri);
        merge_response(&mut web, &current, &[]);

        let mut wanted = current.metadata;
        for member in secrets_file::RESPONSE_ONLY.iter().chain(&CONTROLLED) {
            wanted.remove(*member);
        }
        wanted.extend(client.members.clone());
        wanted.insert("client_id".into(), json!(current.client_id));
        if let Some(secret) = &current.client_secret {
            wanted.insert("client_secret".into(), json!(secret.expose()));
        }
        let work = provider.update_registration(&uri, &token, &wanted);
        let updated = match terminal.wait("changing the registration", work).await {
            Ok(updated) => updated,
            Err(error) => {
                // The token and URL of the first response must not be lost.
                file.write(&web, |_| Ok(()))?;
                return Err(error.into());
            }
        };
        let web = self.web(provider, metadata, &client, &updated, web);
        file.write(&web, |path| self.check(path, &client))?;
        self.report(&client, &updated, metadata, "updated", terminal);
        Ok(ExitCode::SUCCESS)
    }

    /// RFC 7592 §2.3.
    async fn delete(&self, terminal: &Terminal) -> Result<ExitCode, Failure> {
        let web = secrets_file::read(&self.output)?;
        let (uri, token) = management(&web, &self.output)?;
        let text = |member| web.get(member).and_then(Value::as_str).unwrap_or_default();
        // No metadata is read. The management URL came from the provider; it is bounded by the host of the issuer.
        let url = Url::parse(text("issuer")).unwrap_or_else(|_| uri.clone());
        let registration = Registration {
            reach: Reach::Operator,
            issuer: text("issuer").to_owned(),
            tenants: None,
            client_id: text("client_id").to_owned(),
            client_secret: None,
            client_key: None,
            client_identity: None,
            secret_issuer: None,
            metadata: MetadataSource::Discovery { url },
            introspection_endpoint: None,
        };
        let mut settings = Settings::default();
        settings.insecure_http_hosts = self.insecure_http_host.clone();
        let provider = Provider::new(registration, None, Arc::new(settings))?;
        let work = provider.delete_registration(&uri, &token);
        terminal.wait("deleting the registration", work).await?;
        let shown = self.output.display();
        std::fs::remove_file(&self.output).map_err(|error| {
            let cause = format!("`{shown}` cannot be removed: {error}");
            Failure::new(cause, "remove it by hand: its client is deleted at the provider")
        })?;
        let client_id = &provider.registration.client_id;
        terminal.line(format!("deleted the client {client_id}, and {shown}"));
        Ok(ExitCode::SUCCESS)
    }

    /// The settings that an app with the addresses of this command line would have.
    fn settings(&self) -> Settings {
        let scope = self.scope.as_deref().unwrap_or("openid");
        let mut settings = Settings::default();
        settings.issuer = self.issuer.clone();
        settings.client_id = Some("not registered yet".to_owned());
        settings.mount = self.mount();
        settings.base_url = self.base_url();
        settings.provider_name = self.provider.as_deref().map(Into::into);
        settings.scopes = scope.split_whitespace().map(str::to_owned).collect();
        settings.post_logout_redirect_uri = self.post_logout.clone();
        settings.insecure_http_hosts = self.insecure_http_host.clone();
        settings
    }

    /// Rejects a name that no provider can have.
    fn check_provider(&self) -> Result<(), Failure> {
        match &self.provider {
            Some(name) if !is_provider_name(name) => Err(Failure::new(
                format!("{name:?} is not a name for a provider"),
                "pass the name of a table of `oidc.providers`: lowercase letters, digits, `-` and single `_`",
            )),
            _ => Ok(()),
        }
    }

    /// Rejects a plain http issuer, unless the command line names a host of a closed network.
    fn check_issuer(&self) -> Result<(), Failure> {
        let issuer = self.issuer.as_deref().unwrap_or_default();
        let url = Url::parse(issuer).ok();
        let Some(url) = url.filter(|url| url.scheme() == "http" && !is_loopback(url)) else {
            return Ok(());
        };
        if self.insecure_http_host.is_empty() {
            let host = url.host_str().unwrap_or_default();
            Err(Failure::new(
                format!("`{issuer}` is neither `https` nor on loopback"),
                format!("use an `https` URL, or in a closed network pass `--insecure-http-host {host}`"),
            ))
        } else {
            Ok(())
        }
    }

    /// The URL of an app below a path, which no other setting implies.
    fn base_url(&self) -> Option<Url> {
        let is_below_path = |url: &&Url| url.path() != "/" && url.path().ends_with('/');
        self.app_urls.iter().find(is_below_path).cloned()
    }

    /// The mount point of the app. Without `--mount`, it is taken from a complete redirect URI.
    fn mount(&self) -> String {
        let given = self.mount.clone().or_else(|| {
            self.app_urls
                .iter()
                .find_map(|url| mount_of(url, self.provider.as_deref()))
        });
        given.unwrap_or_else(|| DEFAULT_MOUNT.to_owned())
    }

    /// Checks that the app accepts the file at `path`, with the settings that are printed.
    fn check(&self, path: &Path, client: &ClientMetadata) -> Result<(), Failure> {
        let mut settings = self.settings();
        settings.issuer = None;
        settings.client_id = None;
        settings.client_secrets = Some(ClientSecrets::File(path.to_owned()));
        settings.private_key_file = self.client_keys.clone();
        let mut uris = client.addresses.redirect_uris.iter();
        let rocket_config = RocketConfig {
            debug: uris.any(|uri| uri.scheme() == "http" && !is_loopback(uri)),
            port: 0,
            tls: false,
            mutual_tls: false,
        };
        settings.mode(&rocket_config)?;
        Ok(())
    }

    fn initial_access_token(&mut self) -> Result<Option<Secret>, Failure> {
        let Some(given) = self.initial_access_token.take() else {
            return Ok(None);
        };
        if given != "-" {
            return Ok(Some(Secret::new(given)));
        }
        let token = read_token("write the initial access token to standard input")?;
        Ok(Some(Secret::new(token.trim())))
    }

    /// The error if the provider rejects the registration. Some require a token, or reject scopes, with an error that
    /// does not say so: Keycloak with `insufficient_scope`, and the name of one of its policies.
    fn rejection(&self, error: ProviderError, has_token: bool) -> Failure {
        let (status, description) = match &error {
            ProviderError::Refused {
                status, description, ..
            } => (*status, description.to_ascii_lowercase()),
            _ => return error.into(),
        };
        let remedy = match status {
            _ if self.contact.is_empty() && description.contains("contact") => {
                "pass the address of a contact, such as `--contact ops@example.com`"
            }
            401 | 403 if !has_token => {
                "get an initial access token from the provider's administrator and pass it with \
                 `--initial-access-token`, or register the app in the provider's console"
            }
            // The scopes of the client, not of the token.
            400 | 403 if self.scope.is_some() && description.contains("scope") && !description.contains("token") => {
                "omit `--scope` and set the app's `scopes` by hand, as some providers do not register `openid`; or \
                 create the scopes at the provider first"
            }
            _ => error.remedy(),
        };
        Failure::new(error.to_string(), remedy)
    }

    /// The content of the file: without endpoints, which discovery provides.
    fn web(
        &self,
        provider: &Provider,
        metadata: &Metadata,
        requested: &ClientMetadata,
        client: &RegisteredClient,
        mut web: Map<String, Value>,
    ) -> Map<String, Value> {
        merge_response(&mut web, client, &requested.addresses.redirect_uris);
        web.insert("issuer".into(), json!(provider.registration.issuer));
        let introspection = metadata.introspection_endpoint.as_ref();
        match introspection.filter(|_| self.introspection) {
            Some(url) => web.insert("token_introspection_uri".into(), json!(url)),
            None => web.remove("token_introspection_uri"),
        };
        web
    }
}

/// Reads the provider's metadata.
async fn find(
    registration: Registration,
    settings: Settings,
    terminal: &Terminal,
) -> Result<(Arc<Provider>, Metadata), Failure> {
    let settings = Arc::new(settings);
    let read = async |registration: Registration| {
        let provider = Arc::new(Provider::new(registration, None, settings.clone())?);
        let work = provider.current_metadata();
        let found = terminal.wait("reading the provider's metadata", work).await;
        Ok::<_, Failure>((provider, found))
    };
    let (mut provider, mut found) = read(registration.clone()).await?;
    // Both spellings of an issuer have the same metadata URL (Discovery §4): the provider's spelling is used.
    if let Err(ProviderError::IssuerMismatch { expected, actual }) = &found
        && expected.strip_suffix('/').unwrap_or(expected) == actual.strip_suffix('/').unwrap_or(actual)
    {
        let issuer = actual.clone();
        (provider, found) = read(Registration { issuer, ..registration }).await?;
    }
    match found {
        Ok(metadata) => Ok((provider, metadata)),
        Err(error @ ProviderError::IssuerMismatch { .. }) => {
            let remedy = "pass the issuer exactly as the provider spells it, including a trailing slash";
            Err(Failure::new(error.to_string(), remedy))
        }
        Err(error) if !error.is_outage() => {
            let url = provider.first_url();
            let remedy = format!("check ISSUER: its metadata is expected at {url}");
            Err(Failure::new(error.to_string(), remedy))
        }
        Err(error) => Err(error.into()),
    }
}
