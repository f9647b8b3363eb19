//! `TestProvider`: the development provider in the test's own process, with scripted failures.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use openidconnect::{HttpResponse, http};
use rocket::{Build, Rocket, config::SecretKey, figment::providers::Serialized};
use serde_json::{Map, Value, json};
use url::Url;

use super::{RecordedRequest, runtime::block_on};
use crate::{
    clock::Clock,
    dev_provider::{AuthorizationRejected, ClaimsHook, DevClient, DevProviderError, InProcessProvider, Statement},
    provider::Endpoint,
    secret::Secret,
    settings::{
        Answers, InProcess, NoAnswer, ProviderKind, RocketConfig, Settings, SettingsError, StoreKind,
        TokenEndpointAuthMethod,
    },
};

/// The issuer. The name is never resolved (RFC 6761 §6.2).
const ISSUER: &str = "https://provider.test";
/// The app's `base_url` in a profile that requires one and has none.
const BASE_URL: &str = "https://app.test";
/// The app's default `client_id`.
const CLIENT_ID: &str = "app";

/// An OpenID provider in the test's own process, for one app: no socket, no port, no network.
///
/// It is the development provider, and as strict: it checks client authentication, redirect URI, PKCE and nonce, and
/// that codes and refresh tokens are used once. It simulates failures of a real provider on demand. Its tokens are
/// signed, and the app verifies them, at the time of [`clock`](Self::clock), which stands still until it is advanced.
///
/// Clones share the same provider.
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
    /// For apps without a key; all nodes of one app need the same.
    secret_key: String,
    provider: OnceLock<InProcessProvider>,
    script: Arc<Mutex<Script>>,
    requests: Mutex<Vec<RecordedRequest>>,
    key: Mutex<usize>,
}

/// The scripted failures.
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

    /// A provider without a registered app.
    #[allow(clippy::new_without_default, reason = "a provider is made on purpose")]
    pub fn new() -> TestProvider {
        TestProvider(Arc::new(Inner {
            clock: Clock::fixed(),
            secret_key: {
                // 32 bytes in base64url without padding, converted to the padded base64 that Rocket expects.
                let key = Secret::random().expose().replace('-', "+");
                key.replace('_', "/") + "="
            },
            provider: OnceLock::new(),
            script: Arc::default(),
            requests: Mutex::default(),
            key: Mutex::new(0),
        }))
    }

    /// Registers an app as the client of this provider: its own `rocket()`, before the launch. The fairing then uses
    /// this provider instead of the one in its settings, wherever those come from, environment variables included;
    /// uses this provider's clock; keeps sessions in memory instead of Redis or SQL; and sets `enabled` to `true`.
    /// All other settings are the app's.
    ///
    /// Several nodes of one app may be registered, each as a separate `Rocket`.
    pub fn register(&self, rocket: Rocket<Build>) -> Rocket<Build> {
        let figment = rocket.figment().clone();
        let key = figment.extract_inner::<SecretKey>("secret_key");
        let rocket = if key.is_ok_and(|key| key.is_provided()) {
            rocket
        } else {
            let key = Serialized::global("secret_key", &self.0.secret_key);
            rocket.configure(figment.merge(key))
        };
        rocket.manage(self.clone())
    }

    /// The clock of this provider and of the apps that are registered at it.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Advances the clock of the provider and the app.
    pub fn advance_clock(&self, by: Duration) {
        self.0.clock.advance(by);
    }

    // ---- Normal operation.

    /// From now on, signs with a new key, and publishes only that one: the app rejects earlier tokens once it has
    /// fetched the keys again.
    ///
    /// # Panics
    ///
    /// Before an app is launched, as do all methods below.
    #[track_caller]
    pub fn rotate_keys(&self) {
        let mut number = lock(&self.0.key);
        *number += 1;
        self.provider().use_key(*number).expect("a key is generated");
    }

    /// Revokes an access or refresh token, and all others of the same sign-in (RFC 7009 §2.1).
    #[track_caller]
    pub fn revoke(&self, token: &str) {
        self.provider().revoke(token);
    }

    /// Revokes all tokens of a user: the next refresh fails with `invalid_grant`.
    #[track_caller]
    pub fn revoke_all_of(&self, subject: &str) {
        self.provider().revoke_all_of(subject);
    }

    /// Acts as the browser at the authorization endpoint: takes the URL that the app redirected to, signs in with
    /// these claims, and returns the path of the callback. For a whole sign-in see
    /// [`TestClient::sign_in`](super::TestClient::sign_in).
    ///
    /// # Panics
    ///
    /// If the provider shows an error instead of redirecting: the `client_id` or `redirect_uri` is wrong, or there is
    /// no `sub`.
    #[track_caller]
    pub fn authorize(&self, location: &str, claims: Value) -> String {
        let url = Url::parse(location).expect("a URL of the provider");
        match self.authorize_at(&url, &claims) {
            Ok(callback) => path_and_query(&callback),
            Err(AuthorizationRejected(page)) => panic!("the test provider shows an error: {page}"),
        }
    }

    /// A JWT access token (RFC 9068) for the app's API. These claims override or extend the default ones: `iss`,
    /// `aud`, `client_id`, `iat`, `exp` (in five minutes), `jti`. Introspection accepts it too.
    #[track_caller]
    pub fn access_token(&self, claims: Value) -> String {
        let Value::Object(claims) = claims else {
            panic!("claims must be an object, not {claims}");
        };
        let token = self.provider().access_token(claims);
        token.expect("claims are signed")
    }

    /// As [`access_token`](Self::access_token), for an API of the setting `apis`: `aud` is that API's audience.
    ///
    /// # Panics
    ///
    /// Also if the app has no API of this name.
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

    /// A logout token for all sessions of a user (OpenID Connect Back-Channel Logout 1.0 §2.4). To send it, see
    /// [`TestClient::send_backchannel_logout`](super::TestClient::send_backchannel_logout).
    #[track_caller]
    pub fn logout_token(&self, subject: &str) -> String {
        let token = self.provider().logout_token(subject);
        token.expect("claims are signed")
    }

    // ---- Failures.

    /// From now on, the provider is unreachable.
    pub fn take_down(&self) {
        self.script().is_down = true;
    }

    /// From now on, this endpoint responds with this status and an empty body.
    pub fn respond_with(&self, endpoint: Endpoint, status: u16) {
        self.script().statuses.insert(endpoint, status);
    }

    /// From now on, this endpoint delays its responses. The test does not wait: the clock is advanced instead. A
    /// delay of at least the app's `http.timeout` is a timeout.
    pub fn delay(&self, endpoint: Endpoint, by: Duration) {
        self.script().delays.insert(endpoint, by);
    }

    /// From now on, UserInfo and the ID tokens of a refresh are about another user: they have another `sub` (OpenID
    /// Connect Core 1.0 §5.3.2 and §12.2).
    pub fn swap_sub(&self) {
        self.script().other_sub = true;
    }

    /// From now on, changes the claims of each ID token before it is signed.
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

    /// Ends all scripted failures.
    pub fn recover(&self) {
        *self.script() = Script::default();
    }

    // ---- Recorded requests.

    /// The requests of the app, in order, including those of sign-ins by
    /// [`TestRequest::signed_in_as`](super::TestRequest::signed_in_as). Background requests of the app, such as token
    /// revocation at sign-out, may follow a moment later.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        lock(&self.0.requests).clone()
    }

    /// The requests of the app to this endpoint.
    pub fn requests_to(&self, endpoint: Endpoint) -> Vec<RecordedRequest> {
        let mut requests = self.requests();
        requests.retain(|request| request.endpoint() == endpoint);
        requests
    }

    /// Clears the recorded requests.
    pub fn clear_requests(&self) {
        lock(&self.0.requests).clear();
    }

    // ---- For the fairing and the kit.

    /// Replaces the provider in an app's settings, and launches this one for the first app.
    pub(crate) async fn replace_provider<E: From<SettingsError> + From<DevProviderError>>(
        &self,
        settings: &mut Settings,
        rocket_config: &RocketConfig,
    ) -> Result<(), E> {
        let has_url = settings.base_url.is_some() || settings.overwrite_redirect_uri.is_some();
        if !has_url && !rocket_config.debug {
            settings.base_url = Url::parse(BASE_URL).ok();
        }
        // The app is registered with a secret, and the provider does not support pushed requests.
        settings.private_key_file = None;
        settings.client_secret_issuer = None;
        settings.insecure_omit_pkce = false;
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
        if settings.provider_kind() == ProviderKind::GitHub {
            settings.provider = None;
            settings.scopes = Settings::default().scopes;
        }
        settings.issuer = Some(ISSUER.to_owned());
        let client_id = settings.client_id.get_or_insert_default();
        if client_id.is_empty() {
            CLIENT_ID.clone_into(client_id);
        }
        let client_id = client_id.clone();
        // The same for all nodes of an app.
        let client_secret = Secret::new("the secret of the app at the test provider");
        settings.client_secret = Some(client_secret.clone());
        settings.http.in_process = Some(InProcess(Arc::new(self.clone())));

        let site = settings.site(rocket_config)?;
        let client = DevClient::new(settings, client_id, client_secret, site);
        if self.0.provider.get().is_none() {
            let clock = self.0.clock.clone();
            let launched = InProcessProvider::launch(ISSUER, client, clock, self.claims_hook());
            let _ = self.0.provider.set(launched.await?);
        }
        Ok(())
    }

    /// Signs in as a browser; returns the URL of the callback.
    pub(super) fn authorize_at(&self, location: &Url, claims: &Value) -> Result<Url, AuthorizationRejected> {
        // A session that begins in the same millisecond as a logout would be ended by it.
        self.advance_clock(Duration::from_millis(1));
        self.provider().authorize(location, claims)
    }

    /// The redirect of the end-session endpoint.
    pub(super) fn end_session(&self, location: &Url) -> Option<Url> {
        block_on(self.provider().end_session(location))
    }

    /// Suspends the scripted failures while `task` runs.
    pub(super) async fn without_failures<T>(&self, task: impl Future<Output = T>) -> T {
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

    fn claims_hook(&self) -> ClaimsHook {
        let script = self.0.script.clone();
        Box::new(move |statement, claims| {
            // The lock is released before the test's function runs.
            let (other_sub, change) = {
                let script = lock(&script);
                (script.other_sub, script.id_token.clone())
            };
            if other_sub && statement != Statement::IdToken {
                claims.insert("sub".into(), json!("another user"));
            }
            if let (Some(change), true) = (change, statement != Statement::UserInfo) {
                change(claims);
            }
        })
    }
}

#[rocket::async_trait]
impl Answers for TestProvider {
    async fn answer(&self, request: &reqwest::Request, timeout: Duration) -> Result<HttpResponse, NoAnswer> {
        let endpoint = endpoint_at(request.url()).ok_or(NoAnswer::Unreachable)?;
        lock(&self.0.requests).push(RecordedRequest::new(endpoint, request));
        let (delay, status) = {
            let script = self.script();
            if script.is_down {
                return Err(NoAnswer::Unreachable);
            }
            let delay = script.delays.get(&endpoint).copied();
            (delay.unwrap_or_default(), script.statuses.get(&endpoint).copied())
        };
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

/// The endpoint at a URL; `None` for any other URL.
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

/// The path and query of a URL.
pub(super) fn path_and_query(url: &Url) -> String {
    url[url::Position::BeforePath..url::Position::AfterQuery].to_owned()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
