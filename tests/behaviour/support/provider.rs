//! A scripted OpenID provider on the loopback: honest until a test changes one thing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rocket::tokio::net::TcpSocket;
use rocket::tokio::runtime;
use rocket::tokio::select;
use rocket::tokio::sync::{Semaphore, oneshot, watch};
use rocket::tokio::time::timeout;
use serde_json::{Map, Value, json};
use url::Url;

use super::callback::Callback;
use super::endpoints::{Script, State, Users, answer, honest_metadata};
use super::http::{self, Misbehaviour, RecordedRequest, Reply};
use super::keys::{JwtParts, SigningKey, random};
use super::lock;

/// A running provider. Clones are the same provider; it stops with the last of them.
#[derive(Clone)]
pub struct TestProvider(Arc<Shell>);

struct Shell {
    state: Arc<State>,
    listening: Mutex<Listening>,
}

enum Listening {
    Up {
        stop: oneshot::Sender<()>,
        thread: JoinHandle<()>,
    },
    /// The socket is bound but does not listen: connections are refused, the port stays ours.
    Down(Option<TcpSocket>),
}

/// Requests to a path wait at the provider until this is released or dropped.
pub struct Held {
    state: Arc<State>,
    path: String,
    gate: Arc<Semaphore>,
}

impl Held {
    /// Lets them all go on.
    pub fn release(self) {}
}

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.state.script).paths.remove(&self.path);
        self.gate.close();
    }
}

impl TestProvider {
    /// Path of the discovery document.
    pub const DISCOVERY: &str = "/.well-known/openid-configuration";
    /// Audience of the access tokens that [`access_token`](Self::access_token) makes.
    pub const API: &str = "https://api.example.com";

    /// Starts on a free port.
    pub async fn start() -> Self {
        Self::start_at(0).await
    }

    /// Starts on this port.
    pub async fn start_at(port: u16) -> Self {
        let socket = bind(port).unwrap_or_else(|e| panic!("port {port} is not free: {e}"));
        let address = socket.local_addr().unwrap();
        let issuer = format!("http://{address}");
        let alice = json!({
            "sub": "alice", "name": "Alice Liddell", "email": "alice@example.com",
            "email_verified": true, "groups": ["users", "admin"],
        });
        let state = Arc::new(State {
            metadata: Mutex::new(honest_metadata(&issuer)),
            issuer,
            address,
            script: Mutex::default(),
            users: Mutex::new(Users {
                current: "alice".to_owned(),
                claims: HashMap::from([("alice".to_owned(), alice)]),
            }),
            grants: Mutex::default(),
            requests: Mutex::default(),
            arrivals: watch::Sender::new(0),
            now: Mutex::default(),
            rsa: Mutex::new(SigningKey::Rsa),
            pushed: Mutex::default(),
        });
        let listening = Mutex::new(listen(socket, state.clone()));
        Self(Arc::new(Shell { state, listening }))
    }

    /// Goes down: open connections break, new ones are refused. Scripts, grants and port stay.
    pub fn stop(&self) {
        self.0.halt();
        let socket = bind(self.port()).ok();
        *lock(&self.0.listening) = Listening::Down(socket);
    }

    /// Comes up again on the same port.
    pub fn restart(&self) {
        let mut listening = lock(&self.0.listening);
        if let Listening::Down(socket) = &mut *listening {
            let socket = socket.take().or_else(|| bind(self.port()).ok());
            let socket = socket.unwrap_or_else(|| panic!("port {} was taken", self.port()));
            *listening = listen(socket, self.0.state.clone());
        }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn issuer(&self) -> String {
        self.0.state.issuer.clone()
    }

    /// The port, kept over [`stop`](Self::stop) and [`restart`](Self::restart).
    pub fn port(&self) -> u16 {
        self.0.state.address.port()
    }

    /// Sets the clock of all that is issued from now on, in seconds since 1970.
    pub fn set_time(&self, unix: i64) {
        *lock(&self.0.state.now) = Some(unix);
    }

    /// The time as this provider sees it.
    pub fn now(&self) -> i64 {
        self.0.state.now()
    }

    /// Makes this person, by `sub`, the one who signs in next; also what UserInfo says of them.
    pub fn user_claims(&self, claims: Value) {
        let sub = claims["sub"].as_str().expect("a sub").to_owned();
        let mut users = lock(&self.0.state.users);
        users.current = sub.clone();
        users.claims.insert(sub, claims);
    }

    /// Publishes `rsa-2` in place of `rsa-1`, and signs with it.
    pub fn rotate_rsa_key(&self) {
        *lock(&self.0.state.rsa) = SigningKey::NextRsa;
    }

    // ---- Scripting. A hook replaces the earlier one of its name and holds until `be_honest`.

    /// Changes the discovery document.
    pub fn metadata(&self, change: impl FnOnce(&mut Map<String, Value>)) {
        change(&mut lock(&self.0.state.metadata));
    }

    /// Changes each ID token before it is signed.
    pub fn on_id_token(&self, change: impl Fn(&mut JwtParts) + Send + Sync + 'static) {
        self.script().id_token = Some(Arc::new(change));
    }

    /// Changes each reply of the token endpoint. One turned into an error spends no grant.
    pub fn on_token_response(&self, change: impl Fn(&mut Reply) + Send + Sync + 'static) {
        self.script().token_response = Some(Arc::new(change));
    }

    /// Changes each reply to a refresh request, and to no other.
    pub fn on_refresh_response(&self, change: impl Fn(&mut Reply) + Send + Sync + 'static) {
        self.script().refresh_response = Some(Arc::new(change));
    }

    /// Changes each reply of the UserInfo endpoint.
    pub fn on_user_info(&self, change: impl Fn(&mut Reply) + Send + Sync + 'static) {
        self.script().user_info = Some(Arc::new(change));
    }

    /// Answers UserInfo as a signed JWT, with this change.
    pub fn user_info_as_jwt(&self, change: impl Fn(&mut JwtParts) + Send + Sync + 'static) {
        self.script().user_info_jwt = Some(Arc::new(change));
    }

    /// Changes each reply with the keys.
    pub fn on_jwks(&self, change: impl Fn(&mut Reply) + Send + Sync + 'static) {
        self.script().jwks = Some(Arc::new(change));
    }

    /// Changes each reply of the introspection endpoint.
    pub fn on_introspection(&self, change: impl Fn(&mut Reply) + Send + Sync + 'static) {
        self.script().introspection = Some(Arc::new(change));
    }

    /// Answers a path in this way; `Reply` values do too.
    pub fn on_path(&self, path: &str, misbehaviour: impl Into<Misbehaviour>) {
        self.script().paths.insert(path.to_owned(), misbehaviour.into());
    }

    /// Answers a path in its own way again.
    pub fn clear_path(&self, path: &str) {
        self.script().paths.remove(path);
    }

    /// Holds requests to a path until [`Held::release`].
    pub fn hold(&self, path: &str) -> Held {
        let gate = Arc::new(Semaphore::new(0));
        self.on_path(path, Misbehaviour::Hold(gate.clone()));
        Held {
            state: self.0.state.clone(),
            path: path.to_owned(),
            gate,
        }
    }

    /// Refuses PKCE, as LinkedIn does: an authorization request with a challenge, and a token request with a verifier.
    pub fn refuse_pkce(&self) {
        self.script().refuses_pkce = true;
    }

    /// Forgets all hooks and misbehaviours, and restores the discovery document.
    pub fn be_honest(&self) {
        *self.script() = Script::default();
        *lock(&self.0.state.metadata) = honest_metadata(&self.0.state.issuer);
    }

    pub(super) fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        lock(&self.0.state.script)
    }

    // ---- What was asked of it.

    /// All requests, in the order of arrival, those of [`authorize`](Self::authorize) included.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        lock(&self.0.state.requests).clone()
    }

    /// The requests to this path.
    pub fn requests_to(&self, path: &str) -> Vec<RecordedRequest> {
        self.requests()
            .into_iter()
            .filter(|request| request.path == path)
            .collect()
    }

    /// The tokens that it was asked to revoke, in order.
    pub fn revoked_tokens(&self) -> Vec<String> {
        let requests = self.requests_to("/revoke");
        let tokens = requests.iter().filter_map(|request| request.form_value("token"));
        tokens.map(str::to_owned).collect()
    }

    /// The latest request to this path. Panics if there was none.
    pub fn last_request(&self, path: &str) -> RecordedRequest {
        self.requests_to(path)
            .pop()
            .unwrap_or_else(|| panic!("no request to {path}"))
    }

    /// How many requests this path had, those still held included.
    pub fn count(&self, path: &str) -> usize {
        self.requests_to(path).len()
    }

    /// Returns as soon as this path has had so many requests. Panics after ten seconds.
    pub async fn until_requested(&self, path: &str, times: usize) {
        let mut arrivals = self.0.state.arrivals.subscribe();
        let arrived = async {
            while self.count(path) < times {
                arrivals.changed().await.unwrap();
            }
        };
        if timeout(Duration::from_secs(10), arrived).await.is_err() {
            panic!("{} of {times} requests to {path} in ten seconds", self.count(path));
        }
    }

    // ---- The browser's side.

    /// What a browser does at the provider: takes the URL our app redirected to, signs the
    /// current user in, and comes back. Panics unless the request is strictly right.
    pub fn authorize(&self, location: &str) -> Callback {
        let url = Url::parse(location).unwrap_or_else(|e| panic!("{location}: {e}"));
        self.0.state.record_browser(&url);
        let result = self.0.state.authorize(&url);
        result.unwrap_or_else(|fault| panic!("authorization request: {fault}\n{location}"))
    }

    /// What a browser does at the end-session endpoint; answers where it is sent from there.
    pub fn end_session(&self, location: &str) -> Option<String> {
        let url = Url::parse(location).unwrap_or_else(|e| panic!("{location}: {e}"));
        self.0.state.record_browser(&url);
        self.0.state.end_session(&http::pairs(url.query().unwrap_or("")))
    }

    /// Whether this URL leads to the authorization endpoint.
    pub fn is_authorization(&self, location: &str) -> bool {
        self.0.state.is_endpoint("authorization_endpoint", location)
    }

    /// Whether this URL leads to the end-session endpoint.
    pub fn is_end_session(&self, location: &str) -> bool {
        self.0.state.is_endpoint("end_session_endpoint", location)
    }

    // ---- Tokens made to order.

    /// A JWT access token (RFC 9068) of the current user, known to introspection and UserInfo.
    pub fn access_token(&self, scope: &str, change: impl FnOnce(&mut JwtParts)) -> String {
        let state = &self.0.state;
        let (now, client_id) = (self.now(), state.last_grant().client_id);
        let mut parts = state.jwt(json!({
            "iss": state.issuer, "sub": state.current_sub(), "aud": Self::API,
            "client_id": client_id, "iat": now, "exp": now + 300, "jti": random("jti-"),
            "scope": scope,
        }));
        parts.set_header("typ", "at+jwt");
        change(&mut parts);
        let token = parts.compact();
        lock(&state.grants).access.insert(token.clone(), parts.claims.into());
        token
    }

    /// A logout token (Back-Channel Logout §2.4) for the session of the latest sign-in.
    pub fn logout_token(&self, change: impl FnOnce(&mut JwtParts)) -> String {
        let state = &self.0.state;
        let (now, grant) = (self.now(), state.last_grant());
        let mut parts = state.jwt(json!({
            "iss": state.issuer, "sub": grant.sub, "aud": grant.client_id, "sid": grant.sid,
            "iat": now, "exp": now + 120, "jti": random("jti-"),
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
        }));
        parts.set_header("typ", "logout+jwt");
        change(&mut parts);
        parts.compact()
    }

    /// Lets a hook of [`on_token_response`](Self::on_token_response) put a refresh token of its own, known from
    /// now on, into the place of the one that is being issued.
    pub fn know_refresh_token(&self, token: &str) {
        let mut grants = lock(&self.0.state.grants);
        let grant = grants.last.clone().expect("somebody has signed in");
        grants.refresh.insert(token.to_owned(), grant);
    }

    /// Lets every access token run out, or be revoked: introspection and UserInfo refuse them.
    pub fn revoke_access_tokens(&self) {
        lock(&self.0.state.grants).access.clear();
    }

    /// Ends every grant: each refresh answers `invalid_grant`.
    pub fn revoke_refresh_tokens(&self) {
        lock(&self.0.state.grants).refresh.clear();
    }
}

impl Shell {
    fn halt(&self) {
        let listening = std::mem::replace(&mut *lock(&self.listening), Listening::Down(None));
        if let Listening::Up { stop, thread } = listening {
            let _ = stop.send(());
            // The last clone may go away in a hook, on the provider's own thread.
            if thread.thread().id() != thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.halt();
    }
}

fn bind(port: u16) -> std::io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(([127, 0, 0, 1], port).into())?;
    Ok(socket)
}

/// Serves on a thread of its own: a test that blocks its runtime does not block the provider,
/// and once the thread has ended, the port is closed.
fn listen(socket: TcpSocket, state: Arc<State>) -> Listening {
    let (stop, mut stopped) = oneshot::channel();
    let (ready, is_ready) = mpsc::channel();
    let serve = move || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = socket.listen(1024).unwrap();
            ready.send(()).unwrap();
            loop {
                select! {
                    _ = &mut stopped => break,
                    Ok((stream, _)) = listener.accept() => {
                        runtime::Handle::current().spawn(answer(stream, state.clone()));
                    }
                }
            }
        });
    };
    let thread = thread::Builder::new().name("provider".to_owned()).spawn(serve).unwrap();
    is_ready.recv().expect("the provider listens");
    Listening::Up { stop, thread }
}
