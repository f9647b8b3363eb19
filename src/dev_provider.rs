//! The development provider: a small OpenID provider with real messages, strict checks, and no passwords.
//!
//! The fairing starts it on its own loopback listener if the setting `dev_provider` is present, in the debug profile
//! only; of several providers, each that is one has a listener of its own. Its state is in memory and bounded; a restart loses requests, codes and tokens, and generates new keys.

mod answer;
mod api_docs;
mod api_tokens;
mod dpop;
mod endpoints;
mod grants;
#[cfg(feature = "testing")]
mod in_process;
mod pages;
mod scoped_claims;
mod signing;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock},
};

use figment::Figment;
use rocket::{
    Build, Config, Rocket, Shutdown,
    config::{LogLevel, SecretKey},
    error::ErrorKind,
    fairing::AdHoc,
    http::uri::Origin,
};
use serde_json::{Map, Value};
use thiserror::Error;
use tokio::sync::oneshot;
use tracing::log;
use url::Url;

#[cfg(feature = "testing")]
pub(crate) use self::in_process::{AuthorizationRejected, InProcessProvider};
use self::{dpop::DemandedNonce, grants::Grants, signing::SigningKey};
use crate::{
    clock::Clock,
    provider::{Endpoint, http_client::HttpClient},
    secret::Secret,
    settings::{ApiSettings, DevProviderSettings, HttpSettings, InsecureHttpHosts, Settings, Site},
};

/// The app's default `client_id` at this provider.
pub(crate) const CLIENT_ID: &str = "dev-client";

/// The registered client, which is the app itself.
#[derive(Clone, Debug)]
pub(crate) struct DevClient {
    pub client_id: String,
    pub client_secret: Secret,
    pub redirect_uri: String,
    /// Sign-out redirects only to pages of this origin.
    pub base_url: Url,
    /// The audience of access tokens for its API.
    pub audience: Vec<String>,
    /// The URL of that API, if it is not `base_url`.
    pub resource: Option<Url>,
    /// Its further APIs, by name.
    pub apis: BTreeMap<String, ApiSettings>,
    /// The name of this provider for people, if it is one of several.
    pub label: Option<String>,
}

/// The running provider. Dropping it stops the provider.
#[derive(Debug)]
pub(crate) struct DevProvider {
    issuer: String,
    shutdown: Shutdown,
}

/// Why it failed to start.
#[derive(Debug, Error)]
pub(crate) enum DevProviderError {
    #[error("its port is not available: {cause}")]
    Port { cause: String },
    #[error("no signing key could be generated")]
    Key,
    #[error("it stopped during startup")]
    Stopped,
}

impl DevProviderError {
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            DevProviderError::Port { .. } => {
                "stop the process that uses the port, or set `port` in the table `dev_provider` to another port; 0 \
                 selects a free one"
            }
            DevProviderError::Key | DevProviderError::Stopped => "start the app again",
        }
    }
}

/// The state that the endpoints share.
struct Op {
    /// Set at liftoff, when the port is known.
    issuer: OnceLock<String>,
    client: DevClient,
    users: Vec<Map<String, Value>>,
    unscoped_claims: UnscopedClaims,
    clock: Clock,
    key: RwLock<Arc<SigningKey>>,
    grants: Grants,
    nonce: DemandedNonce,
    claims_hook: ClaimsHook,
}

/// The message in which the provider sends claims about a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Statement {
    IdToken,
    RefreshedIdToken,
    UserInfo,
}

/// The names of the claims that are sent whatever the scopes; clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct UnscopedClaims(Arc<RwLock<BTreeSet<String>>>);

impl UnscopedClaims {
    pub(crate) fn add<S: ToString>(&self, names: &[S]) {
        let mut claims = self.0.write().unwrap_or_else(PoisonError::into_inner);
        claims.extend(names.iter().map(ToString::to_string));
    }

    fn contains(&self, name: &str) -> bool {
        let claims = self.0.read().unwrap_or_else(PoisonError::into_inner);
        claims.contains(name)
    }
}

/// Changes the claims of a statement before it is sent, to make the provider misbehave.
pub(crate) type ClaimsHook = Box<dyn Fn(Statement, &mut Map<String, Value>) + Send + Sync>;

impl Op {
    fn new(client: DevClient, users: Vec<Map<String, Value>>, key: Arc<SigningKey>, clock: Clock) -> Op {
        Op {
            issuer: OnceLock::new(),
            client,
            users,
            unscoped_claims: UnscopedClaims::default(),
            clock,
            key: RwLock::new(key),
            grants: Grants::default(),
            nonce: DemandedNonce::default(),
            claims_hook: Box::new(|_, _| ()),
        }
    }

    fn issuer(&self) -> &str {
        self.issuer.get().map_or("", String::as_str)
    }

    fn user(&self, sub: &str) -> Option<&Map<String, Value>> {
        let is_found = |user: &&Map<String, Value>| user.get("sub").and_then(Value::as_str) == Some(sub);
        self.users.iter().find(is_found)
    }

    /// In seconds since 1970.
    fn now(&self) -> i64 {
        self.clock.now().unix_timestamp()
    }

    fn key(&self) -> Arc<SigningKey> {
        let key = self.key.read().unwrap_or_else(PoisonError::into_inner);
        key.clone()
    }
}

impl DevClient {
    /// The app with these settings, as it is registered at this provider.
    pub(crate) fn new(settings: &Settings, client_id: String, client_secret: Secret, site: Site) -> DevClient {
        DevClient {
            redirect_uri: site.redirect_uri.to_string(),
            base_url: site.base_url,
            audience: settings.access_token_audience(&client_id),
            resource: settings.resource.clone(),
            apis: settings.apis.clone(),
            label: settings.provider_name.as_ref().map(|name| {
                let label = settings.label.as_deref();
                label.unwrap_or(name).to_owned()
            }),
            client_id,
            client_secret,
        }
    }

    fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }
}

impl DevProvider {
    /// Starts the provider and waits until it accepts requests.
    pub(crate) async fn start(
        settings: &DevProviderSettings,
        client: DevClient,
        clock: Clock,
    ) -> Result<DevProvider, DevProviderError> {
        let key = SigningKey::new().ok_or(DevProviderError::Key)?;
        let op = Op::new(client, settings.users.clone(), Arc::new(key), clock);
        op.unscoped_claims.add(&settings.unscoped_claims);
        let (sender, listening) = oneshot::channel();
        let sender = Mutex::new(Some(sender));
        let rocket = rocket(settings.port, op)?.attach(AdHoc::on_liftoff("Issuer", |rocket| {
            Box::pin(async move {
                let issuer = format!("http://localhost:{}", rocket.config().port);
                if let Some(op) = rocket.state::<Op>() {
                    let _ = op.issuer.set(issuer.clone());
                }
                if let Some(sender) = sender.lock().ok().and_then(|mut sender| sender.take()) {
                    let _ = sender.send((issuer, rocket.shutdown()));
                }
            })
        }));

        // Rocket sets the log level of the whole process: the app's is restored.
        let log_level = log::max_level();
        let launch = tokio::spawn(async move {
            if let Err(error) = rocket.launch().await
                && let ErrorKind::Bind(cause) = error.kind()
            {
                let cause = cause.to_string();
                return DevProviderError::Port { cause };
            }
            DevProviderError::Stopped
        });
        let started = match listening.await {
            Ok((issuer, shutdown)) => {
                wait_until_ready(&issuer).await;
                Ok(DevProvider { issuer, shutdown })
            }
            Err(_) => Err(launch.await.unwrap_or(DevProviderError::Stopped)),
        };
        log::set_max_level(log_level);
        started
    }

    /// `http://localhost:<port>`.
    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }
}

/// Waits for the first response. Rocket logs its launch after liftoff, and that URL must not be taken for the app's.
async fn wait_until_ready(issuer: &str) {
    let http = HttpClient::new(&HttpSettings::default(), InsecureHttpHosts::default());
    let url = Url::parse(&format!("{issuer}/.well-known/openid-configuration"));
    if let (Ok(http), Ok(url)) = (http, url) {
        let _ = http.get(Endpoint::Metadata, &url).await;
    }
}

impl Drop for DevProvider {
    fn drop(&mut self) {
        self.shutdown.clone().notify();
    }
}

/// The provider as a separate Rocket app, without logging and signal handlers.
fn rocket(port: u16, op: Op) -> Result<Rocket<Build>, DevProviderError> {
    let config = Config {
        address: Ipv4Addr::LOCALHOST.into(),
        port,
        log_level: LogLevel::Off,
        secret_key: SecretKey::generate().ok_or(DevProviderError::Key)?,
        cli_colors: false,
        ..Config::debug_default()
    };
    let figment = Figment::from(config)
        .merge(("shutdown.ctrlc", false))
        .merge(("shutdown.signals", Vec::<String>::new()))
        .merge(("shutdown.grace", 0))
        .merge(("shutdown.mercy", 0));

    Ok(rocket::custom(figment)
        .manage(op)
        .attach(AdHoc::on_request("Request", |request, _| {
            Box::pin(async move {
                // Prevents DNS rebinding: a page on another site must not reach this provider by a name that resolves
                // to loopback.
                let is_other = request.host().is_some_and(|host| {
                    let name = host.domain().as_str();
                    name != "localhost" && name != "127.0.0.1"
                });
                if is_other {
                    request.set_uri(Origin::const_new("/other-host", None));
                }
                endpoints::hide_query(request);
            })
        }))
        .attach(AdHoc::on_response("Pages of the app", |request, response| {
            Box::pin(async move { api_docs::allow_app(request, response) })
        }))
        .attach(AdHoc::on_response("Nonce", |request, response| {
            Box::pin(async move { dpop::send_nonce(request, response) })
        }))
        .mount("/", endpoints::routes()))
}
