//! `Oidc`, the Rocket fairing: settings, discovery, routes, and the handling of every request and response.

mod answer;
mod client_signers;
#[cfg(feature = "dev-provider")]
mod dev_providers;
mod launch_error;
mod providers;
mod report;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use rocket::{
    Build, Data, Orbit, Request, Response, Rocket,
    fairing::{self, Fairing, Info, Kind},
    figment::{Figment, providers::Serialized},
    http::Method,
};
use serde::Deserialize;
use url::Url;

use client_signers::{NamedSigner, attach_signers};
#[cfg(feature = "dev-provider")]
pub(crate) use dev_providers::start_dev_providers;
pub use launch_error::LaunchError;
use providers::RelyingParties;

#[cfg(feature = "testing")]
use crate::testing::TestProvider;
use crate::{
    client_key::ClientSigner,
    clock::Clock,
    cookies::Cookies,
    keys::{KeyRing, SecretKey, SecretKeyError},
    observing::{self, ObservedProvider},
    pages::{AppPages, Pages},
    protect,
    provider::{HttpClient, Provider},
    relying_party::{
        AppEvents, Attempts, DeveloperLog, Events, Exchanges, NoEvents, PostLogout, ProviderFor, ProviderSource,
        Providers, Refreshes, RelyingParty, Revocations, Source, SourcedProviders, client_tokens, tokens_of_sessions,
    },
    request::{self, PrivatePaths, RequestState, StatePlace},
    resource_server::{self, DpopNonces, ProofRecord, Proofs, ResourceServer},
    routes::{self, PublishedKeys},
    session::{Sessions, open_shared_store, store::SessionStore},
    settings::{DpopTokens, Mode, Reach, Registration, RocketConfig, Settings, Site, TrustedProxies},
    tasks::Tasks,
    token::{Claims, TESTING_ISSUER},
};

/// How long a shutdown waits for the store, beyond the timeout of a request to the provider.
const SHUTDOWN_MARGIN: Duration = Duration::from_secs(5);

type Customize = Box<dyn Fn(Settings) -> Result<Settings, Box<dyn std::error::Error>> + Send + Sync>;

/// The OpenID Connect fairing. It
///
/// 1. reads its settings from the `oidc` table of Rocket's figment, then from `OIDC_*` variables, then from the
///    function given to [`custom`](Self::custom), and aborts the launch if one is invalid;
/// 2. reads the provider's metadata; the app starts even if the provider is down;
/// 3. mounts `login`, `authorize` and `logout` under the setting `mount` (`/oidc`), `jwks.json` too if the client has a
///    key, and manages [`RelyingParty`];
/// 4. redirects a page load to sign-in if a guard rejected it for want of a session;
/// 5. writes sessions into responses, and `Cache-Control: no-store` if a user is signed in and the app did not set
///    its own, and on every response that renews or ends a session;
/// 6. keeps `code`, `state` and `sid`, which the provider sends through the browser, out of Rocket's log;
/// 7. at a shutdown, completes [`User::ended`](crate::User::ended) of open sockets, and waits for refreshes that are in
///    flight, for at most `http.timeout` and 5 s.
///
/// ```no_run
/// use rocket::{get, launch, routes};
/// use rocket_openidconnect::{LoggedIn, Oidc};
///
/// #[get("/profile")]
/// fn profile(user: LoggedIn) -> String {
///     format!("Hello {}", user.subject())
/// }
///
/// #[launch]
/// fn rocket() -> _ {
///     rocket::build()
///         .attach(Oidc::fairing())
///         .mount("/", routes![profile])
/// }
/// ```
pub struct Oidc {
    customize: Customize,
    events: Arc<dyn Events>,
    has_events: bool,
    clock: Clock,
    session_store: Option<Arc<dyn SessionStore>>,
    provider_for: Option<Arc<dyn ProviderFor>>,
    provider_source: Option<Arc<dyn ProviderSource>>,
    client_signers: Vec<NamedSigner>,
    pages: AppPages,
    private_paths: OnceLock<PrivatePaths>,
}

impl Oidc {
    /// The fairing with its settings from figment only.
    pub fn fairing() -> Oidc {
        Oidc::custom(|settings| settings)
    }

    /// The fairing with settings that the app may change after they are read.
    ///
    /// ```
    /// use rocket_openidconnect::Oidc;
    ///
    /// let fairing = Oidc::custom(|mut settings| {
    ///     settings.mount = "/auth".into();
    ///     settings
    /// });
    /// ```
    pub fn custom(change: impl Fn(Settings) -> Settings + Send + Sync + 'static) -> Oidc {
        Oidc::try_custom(move |settings| Ok(change(settings)))
    }

    /// Like [`custom`](Self::custom), for a function that may fail; its error aborts the launch.
    ///
    /// ```
    /// use rocket_openidconnect::{Oidc, Secret};
    ///
    /// let fairing = Oidc::try_custom(|mut settings| {
    ///     settings.client_secret = Some(Secret::new(std::env::var("VAULT_SECRET")?));
    ///     Ok(settings)
    /// });
    /// ```
    pub fn try_custom(
        change: impl Fn(Settings) -> Result<Settings, Box<dyn std::error::Error>> + Send + Sync + 'static,
    ) -> Oidc {
        Oidc {
            customize: Box::new(change),
            events: Arc::new(NoEvents),
            has_events: false,
            clock: Clock::default(),
            session_store: None,
            provider_for: None,
            provider_source: None,
            client_signers: vec![],
            pages: AppPages::default(),
            private_paths: OnceLock::new(),
        }
    }

    /// Sets the app's event handlers for sign-in and sign-out.
    pub fn events(mut self, events: impl Events) -> Oidc {
        self.events = Arc::new(events);
        self.has_events = true;
        self
    }

    /// Sets the clock by which expiry is checked. The default is the system's.
    pub fn clock(mut self, clock: Clock) -> Oidc {
        self.clock = clock;
        self
    }

    /// Keeps sessions in the app's own store. It takes precedence over the setting `session.store`, and is assumed to
    /// be shared by all nodes of the app. An API without sign-in records used proofs of possession in it
    /// ([bound tokens](crate::manual::bound_tokens)).
    ///
    /// ```
    /// use rocket_openidconnect::{Oidc, store::MemoryStore};
    ///
    /// let fairing = Oidc::fairing().session_store(MemoryStore::new(1_000));
    /// ```
    pub fn session_store(mut self, store: impl SessionStore) -> Oidc {
        self.session_store = Some(Arc::new(store));
        self
    }

    /// Decides which of several providers ([`Settings::providers`](crate::settings::Settings::providers)) a request
    /// belongs to, in an app whose tenants have a provider each: by its host, or by its path. Sign-in is at that provider
    /// alone, and every guard rejects the users, sessions and access tokens of another provider: they have
    /// cookies and keys of their own. Where the function returns `None`, the request has no user.
    ///
    /// Without it, users choose a provider, and each user of each provider is a user of the app.
    ///
    /// ```
    /// use rocket_openidconnect::Oidc;
    ///
    /// // acme.app.example.com is the tenant `acme`.
    /// let fairing = Oidc::fairing().provider_for(|request: &rocket::Request<'_>| {
    ///     let host = request.host()?.domain().as_str().to_owned();
    ///     Some(host.strip_suffix(".app.example.com")?.to_owned())
    /// });
    /// ```
    ///
    /// # Security
    ///
    /// A browser's `Host` is chosen by whoever makes the request. This decides which provider's users are accepted, and
    /// must be the same function that decides whose data the app shows.
    pub fn provider_for(mut self, provider_for: impl ProviderFor) -> Oidc {
        self.provider_for = Some(Arc::new(provider_for));
        self
    }

    /// Finds providers that are not in the settings: tenants in a database. They may be added to the table
    /// `oidc.providers`, or stand alone; the app needs no provider at its launch then. Their URLs come from strangers:
    /// they are called over https, at public addresses only (setting `internal_provider_hosts`).
    ///
    /// For an example see [`ProviderSource`].
    pub fn provider_source(mut self, source: impl ProviderSource) -> Oidc {
        self.provider_source = Some(Arc::new(source));
        self
    }

    /// Signs the client's assertions (`private_key_jwt`) with a key outside of the app, such as that of a key management
    /// service, in place of the setting `private_key_file`. Its public key is published at `{mount}/jwks.json`.
    ///
    /// For an example see [`ClientSigner`].
    pub fn client_signer(mut self, signer: impl ClientSigner) -> Oidc {
        self.client_signers.push((None, Arc::new(signer)));
        self
    }

    /// As [`client_signer`](Self::client_signer), for one of several providers: a table of `oidc.providers`.
    pub fn client_signer_for(mut self, provider: &str, signer: impl ClientSigner) -> Oidc {
        self.client_signers.push((Some(provider.to_owned()), Arc::new(signer)));
        self
    }

    /// Sets the app's own pages, such as the one for a failed sign-in, in place of the built-in ones.
    ///
    /// For an example see [`Pages`].
    pub fn pages(mut self, pages: impl Pages) -> Oidc {
        self.pages = AppPages(Arc::new(pages));
        self
    }

    /// Runs the launch steps; see the list at [`Oidc`].
    async fn prepare(&self, rocket: &Rocket<Build>) -> Result<Prepared, LaunchError> {
        let figment = rocket.figment();
        let (mut settings, mut found) = Settings::extract_with_errors(figment)?;
        settings = (self.customize)(settings).map_err(|error| LaunchError::Custom {
            cause: error.to_string(),
        })?;
        let rocket_config = RocketConfig::of(figment);

        let clock = self.clock.clone();
        #[cfg(feature = "testing")]
        let clock = match rocket.state::<TestProvider>() {
            Some(provider) => {
                crate::settings::SettingsError::all(std::mem::take(&mut found))?;
                settings.check_features()?;
                let has_source = self.provider_source.is_some();
                provider
                    .replace_providers::<LaunchError>(&mut settings, has_source, &rocket_config)
                    .await?;
                provider.clock().clone()
            }
            None => clock,
        };
        #[cfg(feature = "testing")]
        let has_test_provider = rocket.state::<TestProvider>().is_some();
        #[cfg(not(feature = "testing"))]
        let has_test_provider = false;
        // The client of the test provider has a secret.
        if !has_test_provider {
            attach_signers(&mut settings, &self.client_signers, self.provider_source.is_some())?;
            let found = std::mem::take(&mut found);
            settings.check_launch(found, &rocket_config, self.provider_source.is_some())?;
        }
        #[cfg(feature = "dev-provider")]
        let dev_providers = start_dev_providers(&mut settings, &rocket_config, &clock).await?;
        let mode = match &self.provider_source {
            Some(_) if settings.enabled => settings.several_providers(&rocket_config)?,
            _ => settings.mode(&rocket_config)?,
        };
        if let Some(unused) = settings.unused_endpoints() {
            tracing::warn!("{unused}");
            tracing::info!("{}", unused.remedy());
        }
        let published_keys = PublishedKeys::of(&mode);
        let (key, generated_key) = secret_key(figment)?;
        let has_nonces = settings.dpop_tokens != DpopTokens::Off && settings.dpop_nonces;
        // An API sets no cookies, but Rocket requires a key: it gets a random one for this process.
        if generated_key.is_some() && !rocket_config.debug {
            // Every node must accept the nonces of the others.
            if !settings.resource_server_only || has_nonces {
                return Err(LaunchError::NoSecretKey);
            }
            tracing::info!(
                "`secret_key` is not set, and this API does not need it; the app's own private cookies are lost at a \
                 restart"
            );
        }
        let settings = Arc::new(settings);
        let paths = settings.app_paths();
        let keys_mount = paths.in_rocket(paths.mount()).to_owned();

        let proofs = |shared: Option<Arc<dyn SessionStore>>| -> Result<Option<Proofs>, LaunchError> {
            if settings.dpop_tokens == DpopTokens::Off {
                return Ok(None);
            }
            let has_tenants = self.provider_for.is_some();
            let record = ProofRecord::new(settings.dpop_max_proofs, settings.dpop_max_age, has_tenants, shared);
            let keys = has_nonces
                .then(|| key_ring(&key, &settings, &["DPoP", ""]))
                .transpose()?;
            Ok(Some(Proofs {
                record: Arc::new(record),
                nonces: keys.map(DpopNonces::new),
            }))
        };
        let proofs_of = |rp: &RelyingParty| {
            let sessions = &rp.sessions;
            proofs(sessions.is_shared.then(|| sessions.store.clone()))
        };
        let resource_server = |own: Vec<Arc<Provider>>, base_url: Option<&Url>, proofs: Option<Proofs>| {
            ResourceServer::new(own, base_url, settings.clone(), clock.clone(), proofs)
        };
        let relying_party = |source: Source, site: Site, client: &[&str]| {
            let cookies = Cookies::new(key_ring(&key, &settings, client)?, site.secure);
            let attempts = Attempts::new(rocket_config.debug);
            self.relying_party(source, site, cookies, settings.clone(), clock.clone(), attempts)
        };
        if self.provider_for.is_some() && !matches!(mode, Mode::SeveralProviders { .. } | Mode::Disabled { .. }) {
            return Err(LaunchError::NoProviders);
        }
        let (relying_party, resource_server) = match mode {
            Mode::ResourceServerOnly(registration) => {
                let provider = reach(registration, None, &settings, &clock).await?;
                let base_url = settings.site(&rocket_config).ok().map(|site| site.base_url);
                let shared = match settings.dpop_tokens {
                    DpopTokens::Off => None,
                    _ => open_shared_store(&settings.session, self.session_store.clone())?,
                };
                if let Some(store) = &shared {
                    store.prepare().await?;
                }
                let own = vec![provider];
                (None, resource_server(own, base_url.as_ref(), proofs(shared)?)?)
            }
            Mode::Disabled { testing_profile } => {
                let profile = testing_profile.map(Claims::from);
                let resource_server = ResourceServer::disabled(profile.as_ref(), settings.clone(), clock.clone());
                let relying_party = if settings.resource_server_only {
                    None
                } else {
                    let site = settings.site(&rocket_config)?;
                    Some(relying_party(
                        Source::TestingProfile(profile),
                        site,
                        &[TESTING_ISSUER, ""],
                    )?)
                };
                (relying_party, resource_server)
            }
            Mode::RelyingParty { registration, site } => {
                let provider = reach(registration, Some(&site), &settings, &clock).await?;
                let registration = &provider.registration;
                let client = [&*registration.issuer, &registration.client_id];
                let relying_party = relying_party(Source::Provider(provider.clone()), site, &client)?;
                let (base_url, proofs) = (&relying_party.site.base_url, proofs_of(&relying_party)?);
                let resource_server = resource_server(vec![provider.clone()], Some(base_url), proofs)?;
                (Some(relying_party), resource_server)
            }
            Mode::SeveralProviders { providers, site } => {
                let base_url = site.base_url.clone();
                let none = Source::Several(Arc::default());
                let mut app = relying_party(none, site, &["", base_url.as_str()])?;
                let proofs = proofs_of(&app)?;
                let relying_parties = RelyingParties {
                    app: app.clone(),
                    secret_key: key,
                    has_tenants: self.provider_for.is_some(),
                    proofs: proofs.clone(),
                    http: HttpClient::of(Reach::Public, &settings)?,
                    #[cfg(feature = "testing")]
                    test_provider: rocket.state::<TestProvider>().cloned(),
                };
                let of_settings = providers
                    .into_iter()
                    .map(|mode| relying_parties.relying_party(mode).map(Arc::new));
                let of_settings = of_settings.collect::<Result<Vec<_>, _>>()?;
                let own = of_settings.iter().filter_map(|rp| rp.client());
                let own = own.map(|client| client.provider.clone());
                let resource_server = resource_server(own.collect(), Some(&base_url), proofs)?;
                for tenant in of_settings.iter().filter_map(|rp| rp.resource_server.as_ref()) {
                    tenant.share_guards(&resource_server.guards());
                }
                let of_source = self.provider_source.as_ref().map(|source| {
                    let make = relying_parties.into_maker(resource_server.guards(), rocket_config);
                    SourcedProviders::new(source.clone(), make, clock.clone(), app.settings.http.timeout)
                });
                app.source = Source::Several(Arc::new(Providers {
                    of_settings,
                    of_source,
                    chosen_by: self.provider_for.clone(),
                }));
                (Some(app), resource_server)
            }
        };
        if let Some(rp) = &relying_party {
            rp.sessions.store.prepare().await?;
        }
        Ok(Prepared {
            relying_party,
            resource_server,
            published_keys,
            keys_mount,
            generated_key,
            #[cfg(feature = "dev-provider")]
            dev_providers,
        })
    }

    fn relying_party(
        &self,
        source: Source,
        site: Site,
        cookies: Cookies,
        settings: Arc<Settings>,
        clock: Clock,
        attempts: Attempts,
    ) -> Result<RelyingParty, LaunchError> {
        let store = self.session_store.clone();
        let (issuer, _) = source.client();
        let mut sessions = Sessions::open(settings.session.clone(), &cookies, issuer, store, &clock)?
            .with_front_channel(settings.frontchannel_logout);
        let refreshes = Arc::new(Refreshes::new());
        let tasks = Tasks::default();
        let session_tokens = tokens_of_sessions(&clock, &tasks);
        if let Source::Provider(provider) = &source {
            let (revoke, drop_cached) =
                Revocations::new(provider, &refreshes, &session_tokens, &clock, &tasks).into_callbacks();
            sessions = sessions
                .with_tenants(provider.registration.tenants.clone())
                .with_revocation(revoke, drop_cached);
        }
        let developer_log = Arc::new(DeveloperLog::new(attempts.are_kept()));
        if matches!(source, Source::Several(_)) {
            sessions.observed = ObservedProvider::none();
        }
        Ok(RelyingParty {
            sessions: Arc::new(sessions),
            refreshes,
            exchanges: Arc::new(Exchanges::new()),
            attempts: Arc::new(attempts),
            client_tokens: client_tokens(&clock),
            session_tokens,
            readiness: Arc::default(),
            kept_forms: Arc::default(),
            tasks,
            trusted_proxies: Arc::new(TrustedProxies::new(&settings.trusted_proxies)),
            post_logout: PostLogout::new(&settings, &site),
            clock: clock.clone(),
            site,
            cookies,
            events: AppEvents {
                events: self.events.clone(),
                are_of_app: self.has_events,
                has_several_providers: matches!(source, Source::Several(_)),
                clock: clock.clone(),
                developer_log,
            },
            source,
            settings,
            resource_server: None,
        })
    }
}

/// The keys of this client, with those of the setting `previous_secret_keys`.
pub(crate) fn key_ring(key: &SecretKey, settings: &Settings, client: &[&str]) -> Result<KeyRing, LaunchError> {
    let previous = settings.previous_secret_keys.iter();
    let previous: Result<Vec<_>, _> = previous.map(|key| SecretKey::parse(key.expose())).collect();
    let previous = previous.map_err(|error| wrong_key(error.cause()))?;
    // Of two apps on one host, neither reads the cookies of the other.
    let paths = settings.app_paths();
    let base = Some(paths.base()).filter(|base| !base.is_empty());
    let bound_to: Vec<&str> = client.iter().copied().chain(base).collect();
    Ok(KeyRing::new(key, &previous, &bound_to))
}

fn wrong_key(cause: &'static str) -> LaunchError {
    LaunchError::SecretKey {
        cause: cause.to_owned(),
    }
}

/// Reads the provider's metadata. Invalid metadata aborts the launch, an outage does not.
async fn reach(
    registration: Registration,
    site: Option<&Site>,
    settings: &Arc<Settings>,
    clock: &Clock,
) -> Result<Arc<Provider>, LaunchError> {
    let redirect_uri = site.map(|site| site.redirect_uri.clone());
    let provider = Provider::new(registration, redirect_uri, settings.clone())?;
    let provider = Arc::new(provider);
    match provider.metadata(clock.now()).await {
        Err(error) if !error.is_outage() => Err(error.into()),
        _ => Ok(provider),
    }
}

/// The result of [`Oidc::prepare`].
struct Prepared {
    /// `None` when the setting `resource_server_only` disables sign-in.
    relying_party: Option<RelyingParty>,
    resource_server: ResourceServer,
    published_keys: Option<PublishedKeys>,
    /// Where Rocket mounts them.
    keys_mount: String,
    generated_key: Option<String>,
    #[cfg(feature = "dev-provider")]
    dev_providers: Vec<crate::dev_provider::DevProvider>,
}

impl Prepared {
    fn into_rocket(self, mut rocket: Rocket<Build>, pages: AppPages) -> Rocket<Build> {
        if let Some(key) = self.generated_key {
            let figment = rocket.figment().clone();
            rocket = rocket.configure(figment.merge(Serialized::global("secret_key", key)));
        }
        #[cfg(feature = "dev-provider")]
        if !self.dev_providers.is_empty() {
            rocket = rocket.manage(self.dev_providers);
        }
        let metadata = resource_server::routes(self.resource_server.apis(), |request| {
            Box::pin(async { request::resource_server(request).await.ok().flatten() })
        });
        rocket = rocket.mount("/", metadata).manage(self.resource_server);
        if let Some(keys) = self.published_keys {
            rocket = rocket.mount(self.keys_mount, keys.into_routes());
        }
        let Some(rp) = self.relying_party else {
            return rocket;
        };
        let paths = &rp.site.paths;
        let (mount, routes) = (paths.in_rocket(paths.mount()).to_owned(), routes::routes(&rp));
        if *rocket.figment().profile() == rocket::Config::DEBUG_PROFILE {
            rocket = rocket.mount(mount.clone(), routes::debug_routes());
        }
        let rocket = rocket.manage(Arc::new(rp.clone())).manage(rp);
        rocket.manage(pages).mount(mount, routes)
    }
}

#[rocket::async_trait]
impl Fairing for Oidc {
    fn info(&self) -> Info {
        Info {
            name: "OpenID Connect",
            kind: Kind::Ignite | Kind::Liftoff | Kind::Request | Kind::Response | Kind::Shutdown | Kind::Singleton,
        }
    }

    async fn on_ignite(&self, rocket: Rocket<Build>) -> fairing::Result {
        let error = match self.prepare(&rocket).await {
            Ok(prepared) => return Ok(prepared.into_rocket(rocket, self.pages.clone())),
            Err(error) => error,
        };
        tracing::error!("{error}");
        tracing::info!("{}", error.remedy());
        if let LaunchError::Settings(first) = &error {
            for other in first.others() {
                tracing::error!("{other}");
                tracing::info!("{}", other.remedy());
            }
            if let Some(error) = wrong_secret_key(rocket.figment()) {
                tracing::error!("{error}");
                tracing::info!("{}", error.remedy());
            }
        }
        Err(rocket)
    }

    async fn on_liftoff(&self, rocket: &Rocket<Orbit>) {
        observing::describe();
        let rp = rocket.state::<RelyingParty>();
        report::report_addresses(rocket);
        if let Some(rp) = rp {
            report::report(rp).await;
        }
        if let Some(resource_server) = rocket.state::<ResourceServer>() {
            report::report_resource_server(resource_server, rp.is_none()).await;
        }
        protect::check_at_liftoff(rocket);
    }

    async fn on_request(&self, request: &mut Request<'_>, _: &mut Data<'_>) {
        if request.method() == Method::Head {
            // Guards see the `GET` of the route.
            resource_server::note_head(request);
        }
        if let Some(rp) = request.rocket().state::<RelyingParty>() {
            let private_paths = self.private_paths.get_or_init(|| PrivatePaths::new(rp));
            private_paths.hide_query(rp, request);
            if request.method() == Method::Head && rp.settings.silent {
                // Guards see the `GET` of the route.
                let _ = RequestState::of(request).is_silent_sign_in_due.set(false);
            }
        }
    }

    async fn on_response<'r>(&self, request: &'r Request<'_>, response: &mut Response<'r>) {
        let state = StatePlace::of(request);
        // Most requests for assets end here.
        if request.cookies().iter().next().is_some() || !state.is_empty() {
            Box::pin(answer::finish(request, response)).await;
        }
        state.note_answered();
    }

    /// Ends open sockets, and waits for refreshes in flight: the provider may have exchanged their refresh tokens already.
    async fn on_shutdown(&self, rocket: &Rocket<Orbit>) {
        let Some(rp) = rocket.state::<RelyingParty>() else {
            return;
        };
        rp.sessions.stop_waiting();
        let longest = rp.settings.http.timeout.saturating_add(SHUTDOWN_MARGIN);
        let unfinished = rp.tasks.end(longest).await;
        if unfinished > 0 {
            tracing::warn!(
                reason = "shutdown_unfinished",
                "the app ends before {unfinished} refreshes or revocations of tokens have ended"
            );
            tracing::info!("their users may have to sign in again");
        }
    }
}

/// What is wrong with the key, for a launch that fails anyway.
fn wrong_secret_key(figment: &Figment) -> Option<LaunchError> {
    let is_api = figment.extract_inner("oidc.resource_server_only").unwrap_or(false);
    match secret_key(figment) {
        Err(error) => Some(error),
        Ok((_, Some(_))) if !is_api && !RocketConfig::of(figment).debug => Some(LaunchError::NoSecretKey),
        Ok(_) => None,
    }
}

/// Rocket's secret key, from which this crate's keys are derived. Without one, a generated key, which Rocket must be
/// configured with, so that all parts of the app use the same.
pub(crate) fn secret_key(figment: &Figment) -> Result<(SecretKey, Option<String>), LaunchError> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        Text(String),
        Bytes(Vec<u8>),
    }

    let generated = || {
        let (key, text) = SecretKey::generate();
        Ok((key, Some(text)))
    };
    let Ok(value) = figment.find_value("secret_key") else {
        return generated();
    };
    let key = match value.deserialize() {
        Ok(Given::Bytes(bytes)) => SecretKey::from_bytes(bytes),
        Ok(Given::Text(text)) => SecretKey::parse(&text),
        Err(_) => return Err(wrong_key("neither a string nor a list of bytes")),
    };
    match key {
        // Rocket treats both as no key.
        Err(SecretKeyError::Empty | SecretKeyError::Zero) => generated(),
        key => Ok((key.map_err(|error| wrong_key(error.cause()))?, None)),
    }
}
