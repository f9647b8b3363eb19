//! `TestProvider`: the development provider in the test's own process, which does as it is told.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use openidconnect::{HttpResponse, http};
use rocket::{Build, Rocket, config::SecretKey, figment::providers::Serialized};
use serde_json::{Map, Value, json};
use thiserror::Error;
use url::Url;

use super::{RecordedRequest, runtime::block_on};
use crate::{
    clock::Clock,
    dev_provider::{
        DevClient, DevProviderError, InProcessProvider, Retouch, Statement, Unsuitable,
    },
    provider::Endpoint,
    secret::Secret,
    settings::{
        Answers, InProcess, NoAnswer, RocketConfig, Settings, SettingsError, StoreKind,
        TokenEndpointAuthMethod,
    },
};

/// Why the provider cannot take an app's settings over.
#[derive(Debug, Error)]
pub(crate) enum TakeOverError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Provider(#[from] DevProviderError),
}

/// The issuer. Nothing of this name is ever looked up (RFC 6761 §6.2).
const ISSUER: &str = "https://provider.test";
/// Where the app is, in a profile that wants to be told and is not.
const BASE_URL: &str = "https://app.test";
/// The app's `client_id`, unless its settings say another.
const CLIENT_ID: &str = "app";

/// An OpenID provider in the process of the test, for one app: no socket, no port, no network.
///
/// It is the development provider, as strict as that: client authentication, redirect URI, PKCE, nonce and
/// the single use of codes and refresh tokens are checked. What a real provider might do on a bad day, it
/// does on demand. Its tokens are really signed, and really verified by the app, at the time of
/// [`clock`](Self::clock), which stands still until it is moved.
///
/// Clones are the same provider.
///
/// ```
/// # use rocket::{Build, Rocket, get, routes};
/// # use rocket_openidconnect::{LoggedIn, Oidc};
/// # #[get("/me")]
/// # fn me(user: LoggedIn) -> String { user.subject().to_owned() }
/// # fn rocket() -> Rocket<Build> {
/// #     rocket::build().attach(Oidc::fairing()).mount("/", routes![me])
/// # }
/// use std::time::Duration;
/// use rocket::{http::Status, local::blocking::Client};
/// use rocket_openidconnect::{Endpoint, testing::{TestClient, TestProvider}};
/// use serde_json::json;
///
/// let provider = TestProvider::new();
/// let client = Client::tracked(provider.register(rocket())).unwrap();
/// client.sign_in("/me", json!({ "sub": "alice" }));
///
/// // Her access token is about to end, and the provider is down: she stays signed in.
/// provider.respond_with(Endpoint::Token, 503);
/// provider.advance_clock(Duration::from_secs(5 * 60));
/// assert_eq!(client.get("/me").dispatch().status(), Status::Ok);
/// assert_eq!(provider.requests_to(Endpoint::Token).len(), 2);
///
/// // It is up again, and will have none of her.
/// provider.recover();
/// provider.revoke_all_of("alice");
/// provider.advance_clock(Duration::from_secs(60));
/// assert_eq!(client.get("/me").dispatch().status(), Status::Unauthorized);
/// ```
#[derive(Clone)]
pub struct TestProvider(Arc<Inner>);

struct Inner {
    clock: Clock,
    /// For apps that have none of their own; the nodes of one must have the same.
    secret_key: String,
    provider: OnceLock<InProcessProvider>,
    script: Arc<Mutex<Script>>,
    requests: Mutex<Vec<RecordedRequest>>,
    key: Mutex<usize>,
}

/// How it misbehaves.
#[derive(Default)]
struct Script {
    is_down: bool,
    statuses: HashMap<Endpoint, u16>,
    delays: HashMap<Endpoint, Duration>,
    other_sub: bool,
    id_token: Option<Arc<ChangeClaims>>,
}

type ChangeClaims = dyn Fn(&mut Map<String, Value>) + Send + Sync;

impl TestProvider {
    /// The `iss` of its tokens.
    pub const ISSUER: &str = ISSUER;

    /// A provider that no app is registered at yet.
    #[allow(clippy::new_without_default, reason = "a provider is made on purpose")]
    pub fn new() -> TestProvider {
        TestProvider(Arc::new(Inner {
            clock: Clock::standing(),
            secret_key: {
                // 32 bytes in base64url without padding, of which Rocket takes base64 with it.
                let key = Secret::random().expose().replace('-', "+");
                key.replace('_', "/") + "="
            },
            provider: OnceLock::new(),
            script: Arc::default(),
            requests: Mutex::default(),
            key: Mutex::new(0),
        }))
    }

    /// Registers an app as the client of this provider: its own `rocket()`, before the launch. The fairing
    /// then takes this provider in the place of the one in its settings, whatever they say and wherever they
    /// stand, variables of the environment included; it takes this provider's clock; sessions that belong
    /// into Redis are kept in memory; and `enabled` is `true`. All other settings are the app's.
    ///
    /// Several nodes of one app may be registered, each a `Rocket` of its own.
    pub fn register(&self, rocket: Rocket<Build>) -> Rocket<Build> {
        let figment = rocket.figment().clone();
        let key = figment.extract_inner::<SecretKey>("secret_key");
        let rocket = match key.is_ok_and(|key| key.is_provided()) {
            true => rocket,
            false => {
                let key = Serialized::global("secret_key", &self.0.secret_key);
                rocket.configure(figment.merge(key))
            }
        };
        rocket.manage(self.clone())
    }

    /// The time of this provider and of the apps that are registered here.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Moves the time on, for the provider and the app.
    pub fn advance_clock(&self, by: Duration) {
        self.0.clock.advance(by);
    }

    // ---- What happens at a provider.

    /// Signs with a new key from now on, and publishes that one alone: tokens of before are those of a key
    /// that nobody knows, once the app has looked.
    ///
    /// # Panics
    ///
    /// Before an app was launched; as all methods below.
    #[track_caller]
    pub fn rotate_keys(&self) {
        let mut number = lock(&self.0.key);
        *number += 1;
        self.provider().use_key(*number).expect("a key is made");
    }

    /// Ends a token, of either kind, and all that came from the same sign-in (RFC 7009 §2.1).
    #[track_caller]
    pub fn revoke(&self, token: &str) {
        self.provider().revoke(token);
    }

    /// Ends all tokens of a person: the next refresh answers `invalid_grant`.
    #[track_caller]
    pub fn revoke_all_of(&self, subject: &str) {
        self.provider().revoke_all_of(subject);
    }

    /// What a browser does at the authorization endpoint: takes the address that the app sent it to, signs
    /// in with these claims, and comes back by the path that this yields. For a whole sign-in see
    /// [`TestClient::sign_in`](super::TestClient::sign_in).
    ///
    /// # Panics
    ///
    /// When the provider shows the person an error, in place of sending them back: the `client_id` or
    /// `redirect_uri` is wrong, or there is no `sub`.
    #[track_caller]
    pub fn authorize(&self, location: &str, claims: Value) -> String {
        let url = Url::parse(location).expect("the address of the provider");
        match block_on(self.authorize_at(&url, &claims)) {
            Ok(callback) => path_and_query(&callback),
            Err(Unsuitable(page)) => panic!("the test provider shows an error: {page}"),
        }
    }

    /// A JWT access token (RFC 9068) for the app's API, with these claims in place of, or beside, the usual
    /// ones: `iss`, `aud`, `client_id`, `iat`, `exp` (in five minutes), `jti`. Introspection knows it too.
    #[track_caller]
    pub fn access_token(&self, claims: Value) -> String {
        let Value::Object(claims) = claims else {
            panic!("claims are an object, not {claims}");
        };
        let token = self.provider().access_token(claims);
        token.expect("claims are signed")
    }

    /// As [`access_token`](Self::access_token), for an API of the setting `apis`: `aud` is that API's audience.
    ///
    /// # Panics
    ///
    /// When the app has no API of this name, too.
    #[track_caller]
    pub fn access_token_for(&self, api: &str, claims: Value) -> String {
        let audience = self.provider().audience_of(api);
        let audience = audience.unwrap_or_else(|| panic!("there is no API `oidc.apis.{api}`"));
        let mut claims = claims;
        if let Value::Object(claims) = &mut claims {
            claims.entry("aud").or_insert_with(|| audience.into());
        }
        self.access_token(claims)
    }

    /// A logout token for all sessions of a person (OpenID Connect Back-Channel Logout 1.0 §2.4). To have it
    /// sent, see [`TestClient::send_backchannel_logout`](super::TestClient::send_backchannel_logout).
    #[track_caller]
    pub fn logout_token(&self, subject: &str) -> String {
        let token = self.provider().logout_token(subject);
        token.expect("claims are signed")
    }

    // ---- What goes wrong there.

    /// Is not to be reached from now on.
    pub fn go_down(&self) {
        self.script().is_down = true;
    }

    /// Answers this endpoint with an empty body of this status from now on.
    pub fn respond_with(&self, endpoint: Endpoint, status: u16) {
        self.script().statuses.insert(endpoint, status);
    }

    /// Takes so long for each answer of this endpoint from now on. Nobody waits: the clock is moved on. What
    /// takes as long as the app's `http.timeout` or longer is a time-out.
    pub fn delay(&self, endpoint: Endpoint, by: Duration) {
        self.script().delays.insert(endpoint, by);
    }

    /// Speaks of somebody else from now on, in UserInfo and in ID tokens of a refresh: the `sub` is another
    /// (OpenID Connect Core 1.0 §5.3.2 and §12.2).
    pub fn swap_sub(&self) {
        self.script().other_sub = true;
    }

    /// Changes the claims of each ID token from now on, before it is signed.
    ///
    /// ```
    /// # use rocket_openidconnect::testing::TestProvider;
    /// # use serde_json::json;
    /// # let provider = TestProvider::new();
    /// provider.on_id_token(|claims| {
    ///     claims.insert("nonce".into(), json!("of another request"));
    /// });
    /// ```
    pub fn on_id_token(&self, change: impl Fn(&mut Map<String, Value>) + Send + Sync + 'static) {
        self.script().id_token = Some(Arc::new(change));
    }

    /// Behaves well again.
    pub fn recover(&self) {
        *self.script() = Script::default();
    }

    // ---- What it was asked.

    /// What the app asked, in this order, sign-ins by
    /// [`TestRequest::signed_in_as`](super::TestRequest::signed_in_as) included. What the app does beside its
    /// answers, such as the revocation of tokens at sign-out, may come a moment later.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        lock(&self.0.requests).clone()
    }

    /// What the app asked of this endpoint.
    pub fn requests_to(&self, endpoint: Endpoint) -> Vec<RecordedRequest> {
        let mut requests = self.requests();
        requests.retain(|request| request.endpoint() == endpoint);
        requests
    }

    /// Forgets what was asked so far.
    pub fn forget_requests(&self) {
        lock(&self.0.requests).clear();
    }

    // ---- For the fairing and the kit.

    /// Puts this provider into an app's settings, and starts it when this is the first app.
    pub(crate) async fn take_over(
        &self,
        settings: &mut Settings,
        rocket_config: &RocketConfig,
    ) -> Result<(), TakeOverError> {
        let is_told = settings.base_url.is_some() || settings.overwrite_redirect_uri.is_some();
        if !is_told && !rocket_config.debug {
            settings.base_url = Url::parse(BASE_URL).ok();
        }
        // It knows the app by a secret, and has one way to be asked.
        settings.private_key_file = None;
        settings.pushed_authorization_requests = false;
        if matches!(
            settings.token_endpoint_auth_method,
            Some(TokenEndpointAuthMethod::None | TokenEndpointAuthMethod::PrivateKeyJwt)
        ) {
            settings.token_endpoint_auth_method = None;
        }
        if matches!(settings.session.store, StoreKind::Redis | StoreKind::Sql) {
            settings.session.store = StoreKind::Memory;
        }
        settings.session.store_url = None;
        settings.enabled = true;
        settings.dev_provider = None;
        settings.server_metadata_url = None;
        settings.tenants = vec![];
        settings.client_secrets = None;
        settings.client_secret_file = None;
        settings.id_token_signing_algs = None;
        settings.access_token_signing_algs = None;
        settings.issuer = Some(ISSUER.to_owned());
        let client_id = settings.client_id.take().filter(|id| !id.is_empty());
        let client_id = client_id.unwrap_or_else(|| CLIENT_ID.to_owned());
        settings.client_id = Some(client_id.clone());
        // The same for all nodes.
        let client_secret = Secret::new("the secret of the app at the test provider");
        settings.client_secret = Some(client_secret.clone());
        settings.http.in_process = Some(InProcess(Arc::new(self.clone())));

        let site = settings.site(rocket_config)?;
        let client = DevClient {
            redirect_uri: site.redirect_uri.to_string(),
            base_url: site.base_url,
            audience: settings.access_token_audience(&client_id),
            resource: settings.resource.clone(),
            apis: settings.apis.clone(),
            client_id,
            client_secret,
        };
        if self.0.provider.get().is_none() {
            let clock = self.0.clock.clone();
            let launched = InProcessProvider::launch(ISSUER, client, clock, self.retouch());
            let _ = self.0.provider.set(launched.await?);
        }
        Ok(())
    }

    /// Signs a browser in: yields the callback's address.
    pub(super) async fn authorize_at(
        &self,
        location: &Url,
        claims: &Value,
    ) -> Result<Url, Unsuitable> {
        // Sessions that begin in the millisecond in which others were ended would be among those.
        self.advance_clock(Duration::from_millis(1));
        self.provider().authorize(location, claims).await
    }

    /// Where a browser is sent from the end-session endpoint.
    pub(super) fn end_session(&self, location: &Url) -> Option<Url> {
        block_on(self.provider().end_session(location))
    }

    /// Behaves well while `task` is done.
    pub(super) async fn behaving_well<T>(&self, task: impl Future<Output = T>) -> T {
        struct Restore<'a>(&'a TestProvider, Option<Script>);
        impl Drop for Restore<'_> {
            fn drop(&mut self) {
                if let Some(script) = self.1.take() {
                    *self.0.script() = script;
                }
            }
        }
        let script = std::mem::take(&mut *self.script());
        let _restore = Restore(self, Some(script));
        task.await
    }

    #[track_caller]
    fn provider(&self) -> &InProcessProvider {
        let provider = self.0.provider.get();
        provider.expect("an app was registered here by `TestProvider::register`, and launched")
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        lock(&self.0.script)
    }

    fn retouch(&self) -> Retouch {
        let script = self.0.script.clone();
        Box::new(move |statement, claims| {
            // Not locked while the test's own function runs.
            let (other_sub, change) = {
                let script = lock(&script);
                (script.other_sub, script.id_token.clone())
            };
            if other_sub && statement != Statement::IdToken {
                claims.insert("sub".into(), json!("somebody else"));
            }
            if let (Some(change), true) = (change, statement != Statement::UserInfo) {
                change(claims);
            }
        })
    }
}

#[rocket::async_trait]
impl Answers for TestProvider {
    async fn answer(
        &self,
        request: &reqwest::Request,
        timeout: Duration,
    ) -> Result<HttpResponse, NoAnswer> {
        let endpoint = endpoint_at(request.url()).ok_or(NoAnswer::Unreachable)?;
        lock(&self.0.requests).push(RecordedRequest::new(endpoint, request));
        let (is_down, delay, status) = {
            let script = self.script();
            let delay = script.delays.get(&endpoint).copied();
            let status = script.statuses.get(&endpoint).copied();
            (script.is_down, delay.unwrap_or_default(), status)
        };
        if is_down {
            return Err(NoAnswer::Unreachable);
        }
        self.advance_clock(delay.min(timeout));
        if delay >= timeout {
            return Err(NoAnswer::Timeout);
        }
        match status {
            Some(status) => {
                let answer = http::Response::builder().status(status).body(vec![]);
                Ok(answer.unwrap_or_default())
            }
            None => Ok(self.provider().answer(request).await),
        }
    }
}

impl fmt::Debug for TestProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestProvider")
            .field("clock", &self.0.clock)
            .finish_non_exhaustive()
    }
}

/// Which of the development provider's endpoints this is; `None` elsewhere.
fn endpoint_at(url: &Url) -> Option<Endpoint> {
    match url.as_str().strip_prefix(ISSUER)? {
        "/.well-known/openid-configuration" => Some(Endpoint::Metadata),
        "/jwks" => Some(Endpoint::KeySet),
        "/token" => Some(Endpoint::Token),
        "/userinfo" => Some(Endpoint::UserInfo),
        "/introspect" => Some(Endpoint::Introspection),
        "/revoke" => Some(Endpoint::Revocation),
        _ => None,
    }
}

/// Path and query of an address.
pub(super) fn path_and_query(url: &Url) -> String {
    url[url::Position::BeforePath..url::Position::AfterQuery].to_owned()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
