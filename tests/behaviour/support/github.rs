//! A stand-in for GitHub Enterprise Server on the loopback, which answers as GitHub documents it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rocket::tokio::net::{TcpSocket, TcpStream};
use rocket::tokio::runtime;
use rocket::tokio::select;
use rocket::tokio::sync::{oneshot, watch};
use serde_json::{Value, json};
use url::{Url, form_urlencoded};

use super::callback::Callback;
use super::http::{RecordedRequest, Reply, read_request, write_reply};
use super::keys::{random, sha256_base64url};
use super::lock;

/// The stand-in. It stops when it is dropped.
pub struct GitHub {
    state: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct State {
    url: String,
    data: Mutex<Data>,
    /// How many requests came.
    asked: watch::Sender<usize>,
}

struct Data {
    user: Value,
    addresses: Value,
    /// Whether it is a GitHub App, whose tokens expire and whose scopes are permissions.
    is_github_app: bool,
    /// Challenge, redirect URI and scopes by code.
    codes: HashMap<String, [String; 3]>,
    /// The scopes by access token.
    access_tokens: HashMap<String, String>,
    refresh_tokens: Vec<String>,
    replies: HashMap<String, Reply>,
    requests: Vec<RecordedRequest>,
}

impl GitHub {
    /// The client at GitHub.
    pub const CLIENT_ID: &str = "Iv1.8a61f9b3a7aba766";
    pub const CLIENT_SECRET: &str = "a-secret-of-github";
    pub const TOKEN: &str = "/login/oauth/access_token";
    pub const USER: &str = "/api/v3/user";
    pub const ADDRESSES: &str = "/api/v3/user/emails";
    pub const DELETION: &str = "/api/v3/applications/Iv1.8a61f9b3a7aba766/token";

    /// An OAuth App's GitHub, on a free port.
    pub fn start() -> GitHub {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let port = socket.local_addr().unwrap().port();
        let state = Arc::new(State {
            url: format!("http://127.0.0.1:{port}"),
            data: Mutex::new(Data {
                user: octocat(),
                addresses: json!([
                    {"email": "octocat@users.noreply.github.com", "primary": false, "verified": true, "visibility": null},
                    {"email": "octocat@github.com", "primary": true, "verified": true, "visibility": "private"},
                    {"email": "old@example.com", "primary": false, "verified": true, "visibility": null},
                    {"email": "new@example.com", "primary": false, "verified": false, "visibility": null},
                ]),
                is_github_app: false,
                codes: HashMap::new(),
                access_tokens: HashMap::new(),
                refresh_tokens: Vec::new(),
                replies: HashMap::new(),
                requests: Vec::new(),
            }),
            asked: watch::Sender::new(0),
        });
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = mpsc::channel();
        let served = state.clone();
        let serve = move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve(socket, served, stopped, ready));
        };
        let thread = thread::Builder::new().name("github".to_owned()).spawn(serve).unwrap();
        is_ready.recv().expect("the stand-in listens");
        GitHub {
            state,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// The address of the instance.
    pub fn url(&self) -> &str {
        &self.state.url
    }

    /// `{url}/login/oauth`.
    pub fn issuer(&self) -> String {
        format!("{}/login/oauth", self.state.url)
    }

    /// From now on, the app is a GitHub App.
    pub fn becomes_github_app(&self) {
        self.data(|data| data.is_github_app = true);
    }

    /// Changes the user.
    pub fn user(&self, change: impl FnOnce(&mut Value)) {
        self.data(|data| change(&mut data.user));
    }

    /// Replaces the e-mail addresses.
    pub fn addresses(&self, addresses: Value) {
        self.data(|data| data.addresses = addresses);
    }

    /// Answers at this path with this reply from now on.
    pub fn on_path(&self, path: &str, reply: Reply) {
        self.data(|data| drop(data.replies.insert(path.to_owned(), reply)));
    }

    /// Answers honestly at this path again.
    pub fn honest(&self, path: &str) {
        self.data(|data| drop(data.replies.remove(path)));
    }

    /// The user revokes the app's authorization.
    pub fn revoke_all(&self) {
        self.data(|data| {
            data.access_tokens.clear();
            data.refresh_tokens.clear();
        });
    }

    /// The number of access tokens that are valid.
    pub fn valid_tokens(&self) -> usize {
        self.data(|data| data.access_tokens.len())
    }

    /// All requests, in order.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.data(|data| data.requests.clone())
    }

    /// The requests to a path, in order.
    pub fn requests_to(&self, path: &str) -> Vec<RecordedRequest> {
        let requests = self.requests().into_iter();
        requests.filter(|request| request.path == path).collect()
    }

    /// Waits until a path was requested this many times.
    pub async fn until_requested(&self, path: &str, times: usize) {
        let mut asked = self.state.asked.subscribe();
        while self.requests_to(path).len() < times {
            asked.changed().await.unwrap();
        }
    }

    /// What the user's browser brings back from this authorization URL: the user agrees.
    pub fn authorize(&self, location: &str) -> Callback {
        let url = Url::parse(location).unwrap();
        assert_eq!(url.path(), "/login/oauth/authorize", "{location}");
        let parameter = |name: &str| {
            let mut pairs = url.query_pairs();
            let found = pairs.find(|(other, _)| other == name);
            found.map_or_else(String::new, |(_, value)| value.into_owned())
        };
        assert_eq!(parameter("client_id"), GitHub::CLIENT_ID, "{location}");
        assert_eq!(parameter("code_challenge_method"), "S256", "{location}");
        let code = random("");
        let redirect_uri = parameter("redirect_uri");
        let granted = [parameter("code_challenge"), redirect_uri.clone(), parameter("scope")];
        self.data(|data| drop(data.codes.insert(code.clone(), granted)));
        let state = parameter("state");
        let response = [("code", &*code), ("state", &state), ("iss", &self.issuer())];
        Callback::new(Url::parse(&redirect_uri).unwrap(), &response)
    }

    fn data<T>(&self, read: impl FnOnce(&mut Data) -> T) -> T {
        read(&mut lock(&self.state.data))
    }
}

impl Drop for GitHub {
    fn drop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// [GitHub's example](https://docs.github.com/en/rest/users/users#get-the-authenticated-user), shortened.
fn octocat() -> Value {
    json!({
        "login": "octocat",
        "id": 583_231,
        "node_id": "MDQ6VXNlcjE=",
        "avatar_url": "https://avatars.example/u/583231?v=4",
        "gravatar_id": "",
        "url": "https://api.example/users/octocat",
        "html_url": "https://github.example/octocat",
        "type": "User",
        "site_admin": false,
        "name": "The Octocat",
        "company": "@github",
        "email": "public@example.com",
        "two_factor_authentication": true,
        "plan": {"name": "pro", "space": 976_562_499},
    })
}

async fn serve(socket: TcpSocket, state: Arc<State>, mut stopped: oneshot::Receiver<()>, ready: mpsc::Sender<()>) {
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
}

async fn answer(mut stream: TcpStream, state: Arc<State>) {
    let Ok(request) = read_request(&mut stream).await else {
        return;
    };
    let reply = {
        let mut data = lock(&state.data);
        data.requests.push(request.clone());
        match data.replies.get(&request.path) {
            Some(reply) => reply.clone(),
            None => data.reply(&request),
        }
    };
    state.asked.send_modify(|asked| *asked += 1);
    let _ = write_reply(&mut stream, &reply, reply.body.len()).await;
}

impl Data {
    fn reply(&mut self, request: &RecordedRequest) -> Reply {
        match (&*request.method, &*request.path) {
            ("POST", GitHub::TOKEN) => {
                let body = self.token(request);
                // "The format of these responses is determined by the accept header you pass."
                match request.header("accept") {
                    Some("application/json") => Reply::json(body),
                    _ => form_encoded(&body),
                }
            }
            ("GET", GitHub::USER) => self.api(request, |data, _| Reply::json(data.user.clone())),
            ("GET", GitHub::ADDRESSES) => self.api(request, |data, scopes| {
                let is_permitted = data.is_github_app || scopes.split(' ').any(|scope| scope == "user:email");
                if is_permitted {
                    Reply::json(data.addresses.clone())
                } else {
                    message(404, "Not Found")
                }
            }),
            ("DELETE", GitHub::DELETION) => self.delete(request),
            _ => message(404, "Not Found"),
        }
    }

    /// Errors have the status 200 too.
    fn token(&mut self, request: &RecordedRequest) -> Value {
        let error = |code: &str, description: &str| json!({"error": code, "error_description": description, "error_uri": "https://docs.example/"});
        let value = |name| request.form_value(name).unwrap_or("");
        if value("client_id") != GitHub::CLIENT_ID || value("client_secret") != GitHub::CLIENT_SECRET {
            let description = "The client_id and/or client_secret passed are incorrect.";
            return error("incorrect_client_credentials", description);
        }
        let scopes = if value("grant_type") == "refresh_token" {
            let known = self
                .refresh_tokens
                .iter()
                .position(|token| token == value("refresh_token"));
            let Some(known) = known else {
                return error("bad_refresh_token", "The refresh token passed is incorrect or expired.");
            };
            self.refresh_tokens.remove(known);
            self.access_tokens.clear();
            String::new()
        } else {
            let found = self.codes.remove(value("code"));
            let Some([challenge, redirect_uri, scopes]) = found else {
                return error("bad_verification_code", "The code passed is incorrect or expired.");
            };
            if redirect_uri != value("redirect_uri") {
                let description = "The redirect_uri MUST match the registered callback URL for this application.";
                return error("redirect_uri_mismatch", description);
            }
            if sha256_base64url(value("code_verifier")) != challenge {
                return error("bad_verification_code", "The code passed is incorrect or expired.");
            }
            scopes
        };
        let access_token = random("gho_");
        self.access_tokens.insert(access_token.clone(), scopes.clone());
        if !self.is_github_app {
            return json!({"access_token": access_token, "scope": scopes.replace(' ', ","), "token_type": "bearer"});
        }
        let refresh_token = random("ghr_");
        self.refresh_tokens.push(refresh_token.clone());
        json!({
            "access_token": access_token,
            "expires_in": 28800,
            "refresh_token": refresh_token,
            "refresh_token_expires_in": 15_811_200,
            "scope": "",
            "token_type": "bearer",
        })
    }

    fn api(&mut self, request: &RecordedRequest, reply: impl Fn(&Data, &str) -> Reply) -> Reply {
        if request.header("user-agent").is_none() {
            return message(403, "Request forbidden by administrative rules.");
        }
        let scopes = request.bearer().and_then(|token| self.access_tokens.get(token));
        let Some(scopes) = scopes else {
            return message(401, "Bad credentials");
        };
        reply(self, scopes)
            .with_header("X-RateLimit-Limit", "5000")
            .with_header("X-RateLimit-Remaining", "4999")
    }

    fn delete(&mut self, request: &RecordedRequest) -> Reply {
        let credentials = STANDARD.encode(format!("{}:{}", GitHub::CLIENT_ID, GitHub::CLIENT_SECRET));
        if request.header("authorization") != Some(&*format!("Basic {credentials}")) {
            return message(404, "Not Found");
        }
        let body: Value = serde_json::from_str(&request.body).unwrap_or_default();
        let removed = body["access_token"]
            .as_str()
            .and_then(|token| self.access_tokens.remove(token));
        match removed {
            Some(_) => Reply::status(204),
            None => message(404, "Not Found"),
        }
    }
}

/// An error of the API.
pub fn message(status: u16, message: &str) -> Reply {
    let body = json!({"message": message, "documentation_url": "https://docs.example/rest"});
    Reply::json(body).with_status(status)
}

/// A response of the token endpoint as GitHub sends it unless JSON is requested.
pub fn form_encoded(body: &Value) -> Reply {
    let members = body.as_object().into_iter().flatten();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let form = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(members.map(|(name, value)| (name, text(value))))
        .finish();
    Reply::text("application/x-www-form-urlencoded; charset=utf-8", form)
}
