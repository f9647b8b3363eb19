//! A small OpenID provider for development: real messages, strict checks, and no passwords.
//!
//! The fairing starts it on its own loopback listener when the settings say `dev_provider`, in the
//! debug profile only. Everything is in memory and bounded; a restart forgets sessions and tokens,
//! and makes new keys.

mod answer;
mod api_tokens;
mod endpoints;
mod grants;
#[cfg(feature = "testing")]
mod in_process;
mod pages;
mod signing;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
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
pub(crate) use self::in_process::{InProcessProvider, Unsuitable};
use self::{grants::Grants, signing::SigningKey};
use crate::{
    clock::Clock,
    provider::{Endpoint, http_client::HttpClient},
    secret::Secret,
    settings::{ApiSettings, DevProviderSettings, HttpSettings, InsecureHttpHosts},
};

/// The app's `client_id` here, unless its settings say another.
pub(crate) const CLIENT_ID: &str = "dev-client";

/// The one client that is registered here: the app itself.
#[derive(Clone, Debug)]
pub(crate) struct DevClient {
    pub client_id: String,
    pub client_secret: Secret,
    pub redirect_uri: String,
    /// Sign-out leads back to pages of this origin.
    pub base_url: Url,
    /// What access tokens for its API name.
    pub audience: Vec<String>,
    /// The address of that API, if it is not `base_url`.
    pub resource: Option<Url>,
    /// Its further APIs, by name.
    pub apis: BTreeMap<String, ApiSettings>,
}

/// The provider while it runs. It stops when this is dropped.
#[derive(Debug)]
pub(crate) struct DevProvider {
    issuer: String,
    shutdown: Shutdown,
}

/// Why it did not start.
#[derive(Debug, Error)]
pub(crate) enum DevProviderError {
    #[error("its port cannot be used: {cause}")]
    Port { cause: String },
    #[error("no signing key could be made")]
    Key,
    #[error("it stopped while it started")]
    Stopped,
}

impl DevProviderError {
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            DevProviderError::Port { .. } => {
                "stop what listens there, or choose another port in `oidc.dev_provider.port`; 0 takes a free one"
            }
            DevProviderError::Key | DevProviderError::Stopped => "start the app again",
        }
    }
}

/// What the endpoints work with.
struct Op {
    /// Known when the port is: at liftoff.
    issuer: OnceLock<String>,
    client: DevClient,
    users: Vec<Map<String, Value>>,
    clock: Clock,
    key: RwLock<Arc<SigningKey>>,
    grants: Grants,
    retouch: Retouch,
}

/// What the provider says of a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Statement {
    IdToken,
    RefreshedIdToken,
    UserInfo,
}

/// A last hand at the claims of a statement, for a provider that is to misbehave.
pub(crate) type Retouch = Box<dyn Fn(Statement, &mut Map<String, Value>) + Send + Sync>;

impl Op {
    fn new(
        client: DevClient,
        users: Vec<Map<String, Value>>,
        key: Arc<SigningKey>,
        clock: Clock,
    ) -> Op {
        Op {
            issuer: OnceLock::new(),
            client,
            users,
            clock,
            key: RwLock::new(key),
            grants: Grants::default(),
            retouch: Box::new(|_, _| ()),
        }
    }

    fn issuer(&self) -> &str {
        self.issuer.get().map_or("", String::as_str)
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

impl DevProvider {
    /// Starts the provider and waits until it listens.
    pub(crate) async fn start(
        settings: &DevProviderSettings,
        client: DevClient,
        clock: Clock,
    ) -> Result<DevProvider, DevProviderError> {
        let key = SigningKey::new().ok_or(DevProviderError::Key)?;
        let op = Op::new(client, settings.users.clone(), Arc::new(key), clock);
        let (tell, listening) = oneshot::channel();
        let tell = Mutex::new(Some(tell));
        let rocket = rocket(settings.port, op)?.attach(AdHoc::on_liftoff("Issuer", |rocket| {
            Box::pin(async move {
                let issuer = format!("http://localhost:{}", rocket.config().port);
                if let Some(op) = rocket.state::<Op>() {
                    let _ = op.issuer.set(issuer.clone());
                }
                if let Some(tell) = tell.lock().ok().and_then(|mut tell| tell.take()) {
                    let _ = tell.send((issuer, rocket.shutdown()));
                }
            })
        }));

        // Rocket's log level is the process's: the app keeps its own.
        let log_level = log::max_level();
        let launch = tokio::spawn(async move {
            match rocket.launch().await {
                Ok(_) => DevProviderError::Stopped,
                Err(error) => match error.kind() {
                    ErrorKind::Bind(cause) => DevProviderError::Port {
                        cause: cause.to_string(),
                    },
                    _ => DevProviderError::Stopped,
                },
            }
        });
        let started = match listening.await {
            Ok((issuer, shutdown)) => {
                answers(&issuer).await;
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

/// Waits for the first answer. Rocket says that it launched after liftoff, and nobody should take
/// this provider's address for the app's.
async fn answers(issuer: &str) {
    let metadata = format!("{issuer}/.well-known/openid-configuration");
    if let (Ok(http), Ok(url)) = (
        HttpClient::new(&HttpSettings::default(), InsecureHttpHosts::default()),
        Url::parse(&metadata),
    ) {
        let _ = http.get(Endpoint::Metadata, &url).await;
    }
}

impl Drop for DevProvider {
    fn drop(&mut self) {
        self.shutdown.clone().notify();
    }
}

/// The provider as a Rocket app of its own, silent and without signal handlers.
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
                // A page on another site must not reach this provider by a name that resolves to here.
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
        .mount("/", endpoints::routes()))
}
