//! `rocket-oidc register`: OpenID Connect Dynamic Client Registration 1.0 and RFC 7592.

mod addresses;
mod client_metadata;
mod report;
mod secrets_file;

use std::{
    io::Read,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use serde_json::{Map, Value, json};
use url::Url;

use self::{
    addresses::{Addresses, ApplicationType, mount_of},
    client_metadata::{ClientMetadata, DECIDED},
    report::by_hand,
    secrets_file::{SecretsFile, keep, management},
};
use super::{Failure, terminal::Terminal};
use crate::{
    provider::{Metadata, Provider, ProviderError, RegisteredClient},
    secret::Secret,
    settings::{ClientSecrets, MetadataSource, Registration, RocketConfig, Settings, is_loopback},
};

/// The default of the setting `mount`.
const DEFAULT_MOUNT: &str = "/oidc";

/// Register the app at a provider, and keep the registration in a file
///
/// The file is what the setting `client_secrets` reads. Redirect URIs with https make a `web`
/// application, those with http on a loopback address (localhost, 127.0.0.1, [::1]) a `native` one;
/// no standard has both in one client, so development is registered apart.
#[derive(Debug, clap::Args)]
#[allow(rustdoc::bare_urls, reason = "the help shows these comments as they are")]
pub(super) struct Arguments {
    /// The provider's issuer, such as https://accounts.example.com
    #[arg(required_unless_present = "delete")]
    issuer: Option<String>,
    /// Public addresses of the app, such as https://app.example.com; one with a path is taken as
    /// the redirect URI itself
    #[arg(required_unless_present = "delete", value_name = "APP_URL")]
    app_urls: Vec<Url>,
    /// The setting `mount`: redirect URIs are {APP_URL}{MOUNT}/authorize [default: what an APP_URL
    /// that ends in /authorize has before that, else /oidc]
    #[arg(long)]
    mount: Option<String>,
    /// What people see as the app's name [default: the host of the first APP_URL]
    #[arg(long)]
    name: Option<String>,
    /// Whom the provider may write to, such as ops@example.com; again for a further one
    #[arg(long, value_name = "ADDRESS")]
    contact: Vec<String>,
    /// The scopes that the app may ask for, in one text [default: the provider's choice]
    #[arg(long)]
    scope: Option<String>,
    /// A client without a secret
    #[arg(long)]
    public_client: bool,
    /// Keep the introspection endpoint in the file too
    #[arg(long)]
    introspection: bool,
    /// Have the provider tell the app when a session ends there
    #[arg(long)]
    backchannel_logout: bool,
    /// Have the provider lead people back to this path after sign-out
    #[arg(
        long,
        value_name = "PATH",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "/"
    )]
    post_logout: Option<String>,
    /// What kind of application it is [default: as the redirect URIs say]
    #[arg(long)]
    application_type: Option<ApplicationType>,
    /// A host of a closed network that is asked by plain http, as the setting `insecure_http_hosts`:
    /// an exact name or address, without port; again for a further one
    #[arg(long, value_name = "NAME")]
    insecure_http_host: Vec<String>,
    /// What the provider gave to register with; `-` reads it from standard input
    #[arg(long, value_name = "TOKEN")]
    initial_access_token: Option<String>,
    /// Where the registration is kept, for its owner to read only
    #[arg(long, short, value_name = "FILE", default_value = "client_secrets.json")]
    output: PathBuf,
    /// Overwrite the file
    #[arg(long, conflicts_with_all = ["update", "delete"])]
    force: bool,
    /// Change the registration in the file to what this command line says (RFC 7592)
    #[arg(long, conflicts_with_all = ["delete", "initial_access_token"])]
    update: bool,
    /// End the registration in the file, and remove the file (RFC 7592)
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
        let settings = self.settings();
        let addresses = Addresses::derive(&settings, &self.app_urls)?;
        let (provider, metadata) = find(addresses.registration.clone(), settings, terminal).await?;
        let client = ClientMetadata::new(&self, addresses, &metadata)?;
        if self.introspection && metadata.introspection_endpoint.as_ref().is_none() {
            return Err(Failure::new(
                "the provider's metadata names no introspection endpoint",
                "leave out `--introspection`: JWT access tokens are accepted without one",
            ));
        }
        match (self.update, metadata.registration_endpoint.as_ref()) {
            (true, _) => self.update(&provider, &metadata, client, terminal).await,
            (false, Some(endpoint)) => {
                let file = SecretsFile::reserve(&self.output, self.force)?;
                let asked = client.as_json();
                let work = provider.register(endpoint, initial_access_token.as_ref(), &asked);
                let registered = terminal.wait("registering the app", work).await;
                let has_token = initial_access_token.is_some();
                let registered = registered.map_err(|error| self.refusal(error, has_token))?;
                let web = self.web(&provider, &metadata, &client, &registered, Map::new());
                file.write_checked(&web, |path| self.check(path, &client))?;
                self.told(&client, &registered, &metadata, "registered", terminal);
                Ok(ExitCode::SUCCESS)
            }
            (false, None) => {
                let mut settings = self.site(&client);
                settings.extend(self.other_settings(None));
                by_hand(&provider, &client, &settings, terminal);
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
                format!("`{}` is of the issuer {other}", self.output.display()),
                "give that issuer, or the file of this one by `--output`",
            ));
        }
        let (uri, token) = management(&web, &self.output)?;
        let file = SecretsFile::reserve(&self.output, true)?;

        let work = provider.registered(&uri, &token);
        let current = terminal.wait("reading the registration", work).await?;
        // Each response may have a new token and URL (RFC 7592 §3).
        let token = current.registration_access_token.clone().unwrap_or(token);
        let uri = current.registration_client_uri.clone().unwrap_or(uri);
        keep(&mut web, &current, &[]);

        let mut wanted = current.metadata;
        for member in secrets_file::OF_REPLIES.iter().chain(&DECIDED) {
            wanted.remove(*member);
        }
        wanted.extend(client.as_json());
        wanted.insert("client_id".into(), json!(current.client_id));
        if let Some(secret) = &current.client_secret {
            wanted.insert("client_secret".into(), json!(secret.expose()));
        }
        let work = provider.update_registration(&uri, &token, &wanted);
        let updated = match terminal.wait("changing the registration", work).await {
            Ok(updated) => updated,
            Err(error) => {
                // The token and URL of the first response must not be lost.
                file.write(&web)?;
                return Err(error.into());
            }
        };
        let web = self.web(provider, metadata, &client, &updated, web);
        file.write_checked(&web, |path| self.check(path, &client))?;
        self.told(&client, &updated, metadata, "updated", terminal);
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
            issuer: text("issuer").to_owned(),
            tenants: None,
            client_id: text("client_id").to_owned(),
            client_secret: None,
            client_key: None,
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
            Failure::new(cause, "remove it: its client is not registered any more")
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
        settings.scopes = scope.split_whitespace().map(str::to_owned).collect();
        settings.post_logout_redirect_uri = self.post_logout.clone();
        settings.insecure_http_hosts = self.insecure_http_host.clone();
        settings
    }

    /// Rejects a plain http issuer, unless the command line names a host of a closed network.
    fn check_issuer(&self) -> Result<(), Failure> {
        let issuer = self.issuer.as_deref().unwrap_or_default();
        let url = Url::parse(issuer).ok();
        let Some(url) = url.filter(|url| url.scheme() == "http" && !is_loopback(url)) else {
            return Ok(());
        };
        let host = url.host_str().unwrap_or_default();
        if self.settings().insecure_hosts().has(&url) || !self.insecure_http_host.is_empty() {
            Ok(())
        } else {
            Err(Failure::new(
                format!("`{issuer}` is neither `https` nor on loopback"),
                format!("give the address with `https`; in a closed network, say `--insecure-http-host {host}`"),
            ))
        }
    }

    /// The mount point of the app. Without `--mount`, it is taken from a complete redirect URI.
    fn mount(&self) -> String {
        let given = self.mount.clone();
        given
            .or_else(|| self.app_urls.iter().find_map(mount_of))
            .unwrap_or_else(|| DEFAULT_MOUNT.to_owned())
    }

    /// Checks that the app accepts the file at `path`, with the settings that are printed.
    fn check(&self, path: &Path, client: &ClientMetadata) -> Result<(), Failure> {
        let mut settings = self.settings();
        settings.issuer = None;
        settings.client_id = None;
        settings.client_secrets = Some(ClientSecrets::File(path.to_owned()));
        let rocket_config = RocketConfig {
            debug: client.is_plain_http(),
            port: 0,
            tls: false,
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
        let mut text = String::new();
        let read = std::io::stdin().take(64 * 1024).read_to_string(&mut text);
        match (read, text.trim()) {
            (Ok(_), token) if !token.is_empty() => Ok(Some(Secret::new(token))),
            _ => Err(Failure::new(
                "standard input holds no token",
                "write the initial access token into standard input",
            )),
        }
    }

    /// The error if the provider rejects the registration. Some require a token, or reject scopes, with an error that
    /// does not say so: Keycloak with `insufficient_scope`, and the name of one of its policies.
    fn refusal(&self, error: ProviderError, has_token: bool) -> Failure {
        let (status, description) = match &error {
            ProviderError::Refused {
                status, description, ..
            } => (*status, description.to_ascii_lowercase()),
            _ => return error.into(),
        };
        match status {
            _ if self.contact.is_empty() && description.contains("contact") => Failure::new(
                error.to_string(),
                "say by `--contact` whom the provider may write to, such as `--contact ops@example.com`",
            ),
            401 | 403 if !has_token => Failure::new(
                error.to_string(),
                "have the provider's administrator issue an initial access token, and give it by \
                 `--initial-access-token`; or register by hand in its console",
            ),
            // The scopes of the client, not of the token.
            400 | 403 if self.scope.is_some() && description.contains("scope") && !description.contains("token") => {
                Failure::new(
                    error.to_string(),
                    "leave out `--scope`, and set `scopes` of the app yourself: not every provider has \
                 `openid` registered; or create the scopes there first",
                )
            }
            _ => error.into(),
        }
    }

    /// The content of the file: without endpoints, which discovery provides.
    fn web(
        &self,
        provider: &Provider,
        metadata: &Metadata,
        asked: &ClientMetadata,
        client: &RegisteredClient,
        mut web: Map<String, Value>,
    ) -> Map<String, Value> {
        keep(&mut web, client, &asked.addresses.redirect_uris);
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
            let remedy = "give the issuer letter by letter; a trailing slash counts";
            Err(Failure::new(error.to_string(), remedy))
        }
        Err(error) if !error.is_outage() => {
            let url = provider.first_url();
            let remedy = format!("check ISSUER: its metadata should be at {url}");
            Err(Failure::new(error.to_string(), remedy))
        }
        Err(error) => Err(error.into()),
    }
}
