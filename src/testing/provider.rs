//! `TestProvider`: the development provider in the test's own process, with scripted failures.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use openidconnect::{HttpResponse, http};
use rocket::{Build, Rocket, config::SecretKey, figment::providers::Serialized};
use serde_json::{Map, Value};
use url::Url;

use super::{
    RecordedRequest,
    named_provider::{ISSUER, NamedProvider},
    runtime::block_on,
    script::{Script, Scripts, lock},
};
use crate::{
    clock::Clock,
    dev_provider::{AuthorizationRejected, UnscopedClaims},
    provider::Endpoint,
    secret::Secret,
    settings::{Answers, NoAnswer},
};

const NOT_LAUNCHED: &str = "an app was registered here by `TestProvider::register`, and launched";

/// An OpenID provider in the test's own process, for one app: no socket, no port, no network. It takes the place of each
/// provider of the app, under an issuer for each: see [`at`](Self::at).
///
/// It is the development provider, and as strict: it checks client authentication, redirect URI, PKCE and nonce, that codes
/// and refresh tokens are used once, and it sends the claims of granted scopes alone: see
/// [`send_unscoped`](Self::send_unscoped). It simulates failures of a real provider on demand. Its tokens are
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
pub struct TestProvider {
    pub(super) inner: Arc<Inner>,
    /// The only one of the app's providers that this is about.
    only: Option<Arc<str>>,
}

pub(super) struct Inner {
    clock: Clock,
    /// For apps without a key; all nodes of one app need the same.
    secret_key: String,
    pub(super) providers: RwLock<Vec<Arc<NamedProvider>>>,
    pub(super) scripts: Arc<Mutex<Scripts>>,
    requests: Mutex<Vec<RecordedRequest>>,
    /// The number of the next signing key.
    pub(super) next_key: Mutex<usize>,
    pub(super) unscoped_claims: UnscopedClaims,
}

impl TestProvider {
    /// The `iss` of its tokens; in an app with the table `providers`, the beginning of it: see [`issuer`](Self::issuer).
    pub const ISSUER: &str = ISSUER;

    /// A provider without a registered app.
    #[allow(clippy::new_without_default, reason = "a provider is made on purpose")]
    pub fn new() -> TestProvider {
        let inner = Inner {
            clock: Clock::fixed(),
            secret_key: {
                // 32 bytes in base64url without padding, converted to the padded base64 that Rocket expects.
                let key = Secret::random().expose().replace('-', "+");
                key.replace('_', "/") + "="
            },
            providers: RwLock::default(),
            scripts: Arc::default(),
            requests: Mutex::default(),
            next_key: Mutex::default(),
            unscoped_claims: UnscopedClaims::default(),
        };
        TestProvider {
            inner: Arc::new(inner),
            only: None,
        }
    }

    /// Registers an app as the client of this provider: its own `rocket()`, before the launch. The fairing then uses
    /// this provider instead of the one in its settings, wherever those come from, environment variables included;
    /// uses this provider's clock; keeps sessions in memory instead of Redis or SQL; and sets `enabled` to `true`.
    /// All other settings are the app's.
    ///
    /// In an app with the table `providers`, each provider in it is replaced by one of this process, with an issuer and
    /// keys of its own. So is each provider that the app's [`ProviderSource`](crate::ProviderSource) finds, when the app
    /// asks for it: the source is the app's, and decides which names there are. Its registrations are used except for
    /// issuer, secret and key, so that a test does not see the sessions end when a registration gets another issuer.
    ///
    /// Several nodes of one app may be registered, each as a separate `Rocket`.
    pub fn register(&self, rocket: Rocket<Build>) -> Rocket<Build> {
        let figment = rocket.figment().clone();
        let key = figment.extract_inner::<SecretKey>("secret_key");
        let rocket = if key.is_ok_and(|key| key.is_provided()) {
            rocket
        } else {
            let key = Serialized::global("secret_key", &self.inner.secret_key);
            rocket.configure(figment.merge(key))
        };
        let all = TestProvider {
            inner: self.inner.clone(),
            only: None,
        };
        rocket.manage(all)
    }

    /// One of the app's providers, by its name in the settings: what is asked of it, scripted and recorded is about that
    /// one alone. Without this, failures and revocations are those of all providers, requests are those to all, and
    /// tokens are of the first one that a user can choose.
    ///
    /// ```
    /// # use rocket::{Build, Rocket, get, routes};
    /// # use rocket_openidconnect::{LoggedIn, Oidc};
    /// # use serde_json::json;
    /// # #[get("/me")]
    /// # fn me(user: LoggedIn) -> String { format!("{} of {}", user.subject(), user.provider()) }
    /// # fn rocket() -> Rocket<Build> {
    /// #     let providers = json!({
    /// #         "google": { "provider": "google", "client_id": "app", "client_secret": "hush" },
    /// #         "acme": { "issuer": "https://login.acme.example", "client_id": "app", "client_secret": "hush" },
    /// #     });
    /// #     let figment = rocket::figment::Figment::from(rocket::Config::debug_default());
    /// #     let figment = figment.merge(("oidc.providers", providers));
    /// #     rocket::custom(figment).attach(Oidc::fairing()).mount("/", routes![me])
    /// # }
    /// use rocket::{http::Status, local::blocking::Client};
    /// use rocket_openidconnect::testing::{TestProvider, TestRequest};
    ///
    /// let provider = TestProvider::new();
    /// let client = Client::untracked(provider.register(rocket())).unwrap();
    ///
    /// provider.at("acme").take_down();
    /// assert_eq!(client.get("/oidc/login/acme").dispatch().status(), Status::ServiceUnavailable);
    /// assert_eq!(client.get("/oidc/login/google").dispatch().status(), Status::SeeOther);
    ///
    /// let me = client.get("/me").signed_in_at("google", json!({ "sub": "alice" }));
    /// assert_eq!(me.dispatch().into_string().unwrap(), "alice of google");
    /// ```
    ///
    /// # Panics
    ///
    /// Before an app is launched, and if it has no provider of this name. One that its `provider_source` finds is there
    /// once the app has asked for it.
    #[track_caller]
    pub fn at(&self, provider: &str) -> TestProvider {
        let all = self.all();
        assert!(!all.is_empty(), "{NOT_LAUNCHED}");
        let Some(found) = all.iter().find(|of| &*of.name == provider) else {
            panic!("there is no provider `{provider}`: {}", self.names());
        };
        TestProvider {
            inner: self.inner.clone(),
            only: Some(found.name.clone()),
        }
    }

    /// The `iss` of its tokens: [`ISSUER`](Self::ISSUER), and in an app with the table `providers` `/` and the name after
    /// it.
    pub fn issuer(&self) -> String {
        let mut own = self.all().into_iter();
        let own = own.find(|of| self.only.as_ref().is_none_or(|only| of.name == *only));
        own.map_or_else(|| ISSUER.to_owned(), |own| own.issuer.clone())
    }

    /// The names of the providers, for a panic.
    pub(super) fn names(&self) -> String {
        let names = self.all().into_iter().map(|of| format!("`{}`", of.name));
        let names: Vec<_> = names.collect();
        format!(
            "the app has {}; one that its `provider_source` finds is there once the app has asked for it",
            names.join(", ")
        )
    }

    /// The clock of this provider and of the apps that are registered at it.
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// Advances the clock of the provider and the app.
    pub fn advance_clock(&self, by: Duration) {
        self.inner.clock.advance(by);
    }

    // ---- Normal operation.

    /// Also sends these claims when no granted scope has them, as some providers send `groups`. Without this, claims go by
    /// scope, as at the development provider
    /// ([`unscoped_claims`](crate::settings::DevProviderSettings::unscoped_claims), which counts here too): a user who
    /// signs in with `name` has none, unless the setting `scopes` has `profile`.
    ///
    /// ```
    /// # use rocket_openidconnect::testing::TestProvider;
    /// let provider = TestProvider::new();
    /// provider.send_unscoped(&["groups"]);
    /// ```
    pub fn send_unscoped(&self, claims: &[&str]) {
        self.inner.unscoped_claims.add(claims);
    }

    /// From now on, signs with a new key, and publishes only that one: the app rejects earlier tokens once it has
    /// fetched the keys again.
    ///
    /// # Panics
    ///
    /// Before an app is launched, as do all methods below.
    #[track_caller]
    pub fn rotate_keys(&self) {
        for of in self.each() {
            of.provider.use_key(self.next_key()).expect("a key is generated");
        }
    }

    /// Revokes an access or refresh token, and all others of the same sign-in (RFC 7009 §2.1).
    #[track_caller]
    pub fn revoke(&self, token: &str) {
        self.each().iter().for_each(|of| of.provider.revoke(token));
    }

    /// Revokes all tokens of a user: the next refresh fails with `invalid_grant`.
    #[track_caller]
    pub fn revoke_all_of(&self, subject: &str) {
        self.each().iter().for_each(|of| of.provider.revoke_all_of(subject));
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
        let token = self.provider().provider.access_token(claims);
        token.expect("claims are signed")
    }

    /// As [`access_token`](Self::access_token), for an API of the setting `apis`: `aud` is that API's audience.
    ///
    /// # Panics
    ///
    /// Also if the app has no API of this name.
    #[track_caller]
    pub fn access_token_for(&self, api: &str, claims: Value) -> String {
        let audience = self.provider().provider.audience_of(api);
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
        let token = self.provider().provider.logout_token(subject);
        token.expect("claims are signed")
    }

    // ---- Failures.

    /// From now on, the provider is unreachable.
    pub fn take_down(&self) {
        self.change_script(|script| script.is_down = true);
    }

    /// From now on, this endpoint responds with this status and an empty body.
    pub fn respond_with(&self, endpoint: Endpoint, status: u16) {
        self.change_script(|script| {
            script.statuses.insert(endpoint, status);
        });
    }

    /// From now on, this endpoint delays its responses. The test does not wait: the clock is advanced instead. A
    /// delay of at least the app's `http.timeout` is a timeout.
    pub fn delay(&self, endpoint: Endpoint, by: Duration) {
        self.change_script(|script| {
            script.delays.insert(endpoint, by);
        });
    }

    /// From now on, proofs (DPoP, [RFC 9449 §8](https://www.rfc-editor.org/rfc/rfc9449#section-8)) must have a nonce of
    /// this provider, and another one after each call of this. An app with
    /// [`dpop`](crate::settings::Settings::dpop) learns it from the response, and repeats its request.
    #[track_caller]
    pub fn demand_dpop_nonces(&self) {
        self.each().iter().for_each(|of| of.provider.change_nonce());
    }

    /// From now on, UserInfo and the ID tokens of a refresh are about another user: they have another `sub` (OpenID
    /// Connect Core 1.0 §5.3.2 and §12.2).
    pub fn swap_sub(&self) {
        self.change_script(|script| script.other_sub = true);
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
        self.change_script(|script| script.id_token = Some(Arc::new(change)));
    }

    /// Ends all scripted failures; those of one provider, if it is [`at`](Self::at) that one.
    pub fn recover(&self) {
        lock(&self.inner.scripts).recover(self.only.as_ref());
    }

    // ---- Recorded requests.

    /// The requests of the app, in order, including those of sign-ins by
    /// [`TestRequest::signed_in_as`](super::TestRequest::signed_in_as). Background requests of the app, such as token
    /// revocation at sign-out, may follow a moment later.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        let mut requests = lock(&self.inner.requests).clone();
        requests.retain(|request| self.is_about(request));
        requests
    }

    /// The requests of the app to this endpoint.
    pub fn requests_to(&self, endpoint: Endpoint) -> Vec<RecordedRequest> {
        let mut requests = self.requests();
        requests.retain(|request| request.endpoint() == endpoint);
        requests
    }

    /// Clears the recorded requests.
    pub fn clear_requests(&self) {
        lock(&self.inner.requests).retain(|request| !self.is_about(request));
    }

    fn is_about(&self, request: &RecordedRequest) -> bool {
        self.only.as_ref().is_none_or(|only| request.provider() == &**only)
    }

    // ---- For the fairing and the kit.

    /// Signs in as a browser; returns the URL of the callback.
    pub(super) fn authorize_at(&self, location: &Url, claims: &Value) -> Result<Url, AuthorizationRejected> {
        // A session that begins in the same millisecond as a logout would be ended by it.
        self.advance_clock(Duration::from_millis(1));
        match self.provider_at(location) {
            Some(at) => at.provider.authorize(location, claims),
            None => {
                let page = format!("`{}` is not at a provider: {}", location.path(), self.names());
                Err(AuthorizationRejected(page))
            }
        }
    }

    /// The redirect of the end-session endpoint.
    pub(super) fn end_session(&self, location: &Url) -> Option<Url> {
        let at = self.provider_at(location)?;
        block_on(at.provider.end_session(location))
    }

    /// Suspends the scripted failures while `task` runs.
    pub(super) async fn without_failures<T>(&self, task: impl Future<Output = T>) -> T {
        struct Restore<'a>(&'a TestProvider, Option<Scripts>);
        impl Drop for Restore<'_> {
            fn drop(&mut self) {
                if let Some(scripts) = self.1.take() {
                    *lock(&self.0.inner.scripts) = scripts;
                }
            }
        }
        let scripts = std::mem::take(&mut *lock(&self.inner.scripts));
        let _restore = Restore(self, Some(scripts));
        task.await
    }

    /// The provider with this name in the app; of several, the first.
    #[track_caller]
    fn provider(&self) -> Arc<NamedProvider> {
        let providers = self.each();
        providers.into_iter().next().expect(NOT_LAUNCHED)
    }

    /// The provider of this handle, or all.
    #[track_caller]
    fn each(&self) -> Vec<Arc<NamedProvider>> {
        let mut providers = self.all();
        assert!(!providers.is_empty(), "{NOT_LAUNCHED}");
        providers.retain(|of| self.only.as_ref().is_none_or(|only| of.name == *only));
        providers
    }

    /// All providers, those of the settings in the order in which a user chooses.
    pub(super) fn all(&self) -> Vec<Arc<NamedProvider>> {
        let providers = self.inner.providers.read().unwrap_or_else(PoisonError::into_inner);
        providers.clone()
    }

    /// The provider at whose URL a browser or the app is.
    pub(super) fn provider_at(&self, url: &Url) -> Option<Arc<NamedProvider>> {
        let is_below = |of: &Arc<NamedProvider>| {
            let rest = url.as_str().strip_prefix(&*of.issuer);
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        // An issuer without a path is that of the only one.
        self.all().into_iter().find(is_below)
    }

    fn change_script(&self, change: impl FnOnce(&mut Script)) {
        change(lock(&self.inner.scripts).script(self.only.as_ref()));
    }
}

#[rocket::async_trait]
impl Answers for TestProvider {
    async fn answer(&self, request: &reqwest::Request, timeout: Duration) -> Result<HttpResponse, NoAnswer> {
        let at = self.provider_at(request.url()).ok_or(NoAnswer::Unreachable)?;
        let endpoint = endpoint_at(request.url(), &at.issuer).ok_or(NoAnswer::Unreachable)?;
        let recorded = RecordedRequest::new(at.name.clone(), endpoint, request);
        lock(&self.inner.requests).push(recorded);
        let failures = lock(&self.inner.scripts).failures(&at.name, endpoint);
        if failures.is_down {
            return Err(NoAnswer::Unreachable);
        }
        self.advance_clock(failures.delay.min(timeout));
        if failures.delay >= timeout {
            return Err(NoAnswer::Timeout);
        }
        match failures.status {
            Some(status) => {
                let answer = http::Response::builder().status(status).body(vec![]);
                Ok(answer.unwrap_or_default())
            }
            None => Ok(at.provider.answer(request).await),
        }
    }
}

impl fmt::Debug for TestProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestProvider")
            .field("clock", &self.inner.clock)
            .finish_non_exhaustive()
    }
}

/// The endpoint of this issuer at a URL; `None` for any other URL.
fn endpoint_at(url: &Url, issuer: &str) -> Option<Endpoint> {
    match url.as_str().strip_prefix(issuer)? {
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
