//! The test provider's side of each request: endpoints, and the misbehaviour scripted for them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use rocket::tokio::io::AsyncWriteExt;
use rocket::tokio::net::TcpStream;
use rocket::tokio::sync::watch;
use serde_json::{Map, Value, json};
use url::Url;

use super::callback::Callback;
use super::http::{self, Misbehaviour, RecordedRequest, Reply, find};
use super::keys::{JwtParts, SigningKey, random};
use super::lock;
use super::provider::TestProvider;
use super::token_endpoint::{Code, Grant, Grants};

/// What the endpoints share with the test.
pub(super) struct State {
    pub(super) issuer: String,
    pub(super) address: SocketAddr,
    pub(super) metadata: Mutex<Map<String, Value>>,
    pub(super) script: Mutex<Script>,
    pub(super) users: Mutex<Users>,
    pub(super) grants: Mutex<Grants>,
    pub(super) requests: Mutex<Vec<RecordedRequest>>,
    pub(super) arrivals: watch::Sender<usize>,
    pub(super) now: Mutex<Option<i64>>,
    pub(super) rsa: Mutex<SigningKey>,
    /// Pushed authorization requests by their `request_uri`.
    pub(super) pushed: Mutex<HashMap<String, Vec<(String, String)>>>,
}

/// A change to an honest answer.
pub(super) type Hook<T> = Option<Arc<dyn Fn(&mut T) + Send + Sync>>;

/// What the test has scripted.
#[derive(Default)]
pub(super) struct Script {
    pub(super) id_token: Hook<JwtParts>,
    pub(super) token_response: Hook<Reply>,
    pub(super) refresh_response: Hook<Reply>,
    pub(super) user_info: Hook<Reply>,
    pub(super) user_info_jwt: Hook<JwtParts>,
    pub(super) jwks: Hook<Reply>,
    pub(super) introspection: Hook<Reply>,
    pub(super) paths: HashMap<String, Misbehaviour>,
    pub(super) refuses_pkce: bool,
    /// The nonce that proofs must have.
    pub(super) nonce: Option<String>,
}

/// Who signs in next, and what is known of everyone.
pub(super) struct Users {
    pub(super) current: String,
    pub(super) claims: HashMap<String, Value>,
}

pub(super) async fn answer(mut stream: TcpStream, state: Arc<State>) -> std::io::Result<()> {
    let request = http::read_request(&mut stream).await?;
    state.record(request.clone());
    let misbehaviour = lock(&state.script).paths.get(&request.path).cloned();
    let (mut reply, mut sent) = (None, None);
    match misbehaviour {
        None => {}
        Some(Misbehaviour::Reply(other)) => reply = Some(other),
        Some(Misbehaviour::Drop) => return Ok(()),
        Some(Misbehaviour::Reset) => return stream.set_zero_linger(),
        Some(Misbehaviour::Hang) => std::future::pending().await,
        Some(Misbehaviour::RedirectTo(url)) => reply = Some(Reply::redirect(&url).with_status(302)),
        Some(Misbehaviour::Truncate) => {
            let honest = state.reply(&request);
            sent = Some(honest.body.len() / 2);
            reply = Some(honest);
        }
        Some(Misbehaviour::Huge(size)) => {
            let mut honest = state.reply(&request);
            honest.body.splice(..0, std::iter::repeat_n(b' ', size));
            reply = Some(honest);
        }
        Some(Misbehaviour::Drip) => {
            return http::write_slowly(&mut stream, &state.reply(&request)).await;
        }
        Some(Misbehaviour::Endless) => return http::write_endlessly(&mut stream).await,
        Some(Misbehaviour::Raw(bytes)) => {
            stream.write_all(&bytes).await?;
            return stream.shutdown().await;
        }
        Some(Misbehaviour::Hold(gate)) => drop(gate.acquire().await),
    }
    let reply = reply.unwrap_or_else(|| state.reply(&request));
    let sent = sent.unwrap_or(reply.body.len());
    http::write_reply(&mut stream, &reply, sent).await
}

impl State {
    fn reply(&self, request: &RecordedRequest) -> Reply {
        // The same endpoints for clients with a certificate.
        let path = request.path.strip_prefix("/mtls").unwrap_or(&request.path);
        match (request.method.as_str(), path) {
            ("GET", TestProvider::DISCOVERY) => Reply::json(json!(*lock(&self.metadata))),
            ("GET", "/jwks") => self.jwks(),
            ("GET", "/authorize") => self.authorize_over_http(request),
            ("POST", "/par") => self.push(request),
            ("POST", "/token") => self.token(request),
            ("GET" | "POST", "/userinfo") => self.user_info(request),
            ("POST", "/introspect") => self.introspect(request),
            ("POST", "/revoke") => self.revoke(request),
            ("GET" | "POST", "/end_session") => {
                let params = [&request.query[..], &request.form].concat();
                self.end_session(&params)
                    .map_or(Reply::status(204), |url| Reply::redirect(&url))
            }
            (_, path) => Reply::text("text/plain", format!("no such endpoint: {path}")).with_status(404),
        }
    }

    fn jwks(&self) -> Reply {
        let rsa = lock(&self.rsa).jwk();
        let mut reply = Reply::json(json!({"keys": [rsa, SigningKey::Ec.jwk(), SigningKey::Ed.jwk()]}));
        self.hook(|script| &script.jwks, &mut reply);
        reply
    }

    fn user_info(&self, request: &RecordedRequest) -> Reply {
        let token = request.bearer().or(request.dpop_token()).unwrap_or("");
        let proved = match request.dpop_token() {
            Some(token) => self.proved_key(request, Some(token)),
            None => Ok(None),
        };
        let mut reply = match self.active_token(token) {
            _ if proved.is_err() => {
                let mut refusal = proved.expect_err("it is an error");
                let error = String::from_utf8_lossy(&refusal.body).contains("use_dpop_nonce");
                let error = if error { "use_dpop_nonce" } else { "invalid_dpop_proof" };
                refusal.set_header("WWW-Authenticate", &format!("dpop algs=\"ES256\", error=\"{error}\""));
                refusal.with_status(401)
            }
            Some(access) if access["cnf"]["jkt"].as_str() == proved.as_ref().unwrap().as_deref() => {
                let sub = access["sub"].as_str().unwrap_or("");
                let claims = lock(&self.users).claims.get(sub).cloned();
                self.user_info_reply(claims.unwrap_or_else(|| json!({"sub": sub})))
            }
            _ => Reply::status(401).with_header("WWW-Authenticate", "Bearer error=\"invalid_token\""),
        };
        self.hook(|script| &script.user_info, &mut reply);
        reply
    }

    fn user_info_reply(&self, claims: Value) -> Reply {
        if lock(&self.script).user_info_jwt.is_none() {
            return Reply::json(claims);
        }
        let mut parts = self.jwt(claims);
        parts.set("iss", self.issuer.as_str());
        parts.set("aud", self.last_grant().client_id);
        self.hook(|script| &script.user_info_jwt, &mut parts);
        Reply::text("application/jwt", parts.compact())
    }

    fn introspect(&self, request: &RecordedRequest) -> Reply {
        let token = request.form_value("token").unwrap_or("");
        let mut reply = match self.active_token(token) {
            Some(mut claims) => {
                claims["active"] = json!(true);
                claims["token_type"] = json!("Bearer");
                Reply::json(claims)
            }
            None => Reply::json(json!({"active": false})),
        };
        self.hook(|script| &script.introspection, &mut reply);
        reply
    }

    fn revoke(&self, request: &RecordedRequest) -> Reply {
        let token = request.form_value("token").unwrap_or("");
        let mut grants = lock(&self.grants);
        grants.access.remove(token);
        grants.refresh.remove(token);
        Reply::status(200)
    }

    fn active_token(&self, token: &str) -> Option<Value> {
        let claims = lock(&self.grants).access.get(token).cloned()?;
        (claims["exp"].as_i64()? > self.now()).then_some(claims)
    }

    pub(super) fn end_session(&self, params: &[(String, String)]) -> Option<String> {
        let mut url = Url::parse(find(params, "post_logout_redirect_uri")?).unwrap();
        if let Some(state) = find(params, "state") {
            url.query_pairs_mut().append_pair("state", state);
        }
        Some(url.into())
    }

    /// RFC 9126 §2.
    fn push(&self, request: &RecordedRequest) -> Reply {
        let uri = random("urn:ietf:params:oauth:request_uri:");
        lock(&self.pushed).insert(uri.clone(), request.form.clone());
        Reply::json(json!({ "request_uri": uri, "expires_in": 60 })).with_status(201)
    }

    fn authorize_over_http(&self, request: &RecordedRequest) -> Reply {
        let mut url = Url::parse(&self.issuer).unwrap();
        url.set_path(&request.path);
        url.query_pairs_mut().extend_pairs(&request.query);
        match self.authorize(&url) {
            Ok(callback) => Reply::redirect(&callback.url()),
            Err(fault) => Reply::text("text/plain", fault).with_status(400),
        }
    }

    pub(super) fn authorize(&self, url: &Url) -> Result<Callback, String> {
        let mut params = http::pairs(url.query().unwrap_or(""));
        if let Some(uri) = find(&params, "request_uri").map(str::to_owned) {
            if params.len() != 2 {
                return Err(format!("parameters beside a reference: {params:?}"));
            }
            params = lock(&self.pushed).remove(&uri).ok_or("unknown request_uri")?;
        }
        let one = |name: &str| match params.iter().filter(|(n, _)| n == name).count() {
            1 => Ok(find(&params, name).unwrap()),
            count => Err(format!("{name} {count} times")),
        };
        let expect = |holds: bool, fault: &str| if holds { Ok(()) } else { Err(fault.to_owned()) };

        let endpoint = "authorization_endpoint";
        expect(
            self.is_endpoint(endpoint, url.as_str()),
            "not to the authorization endpoint",
        )?;
        expect(one("response_type")? == "code", "response_type is not code")?;
        expect(one("scope")?.split(' ').any(|s| s == "openid"), "scope without openid")?;
        // 22 characters of base64url hold 128 bits.
        expect(one("state")?.len() >= 22, "state is short enough to guess")?;
        expect(one("nonce")?.len() >= 22, "nonce is short enough to guess")?;
        expect(one("state")? != one("nonce")?, "state and nonce are the same")?;
        if lock(&self.script).refuses_pkce {
            expect(
                one("code_challenge_method").is_err(),
                "there is a code_challenge_method",
            )?;
            expect(one("code_challenge").is_err(), "there is a code_challenge")?;
        } else {
            expect(
                one("code_challenge_method")? == "S256",
                "code_challenge_method is not S256",
            )?;
            expect(one("code_challenge")?.len() == 43, "code_challenge is no SHA-256")?;
        }
        expect(!one("client_id")?.is_empty(), "client_id is empty")?;
        expect(one("client_secret").is_err(), "client_secret in the browser")?;
        expect(one("code_verifier").is_err(), "code_verifier in the browser")?;
        let redirect_uri =
            Url::parse(one("redirect_uri")?).map_err(|e| format!("redirect_uri is not absolute: {e}"))?;
        expect(redirect_uri.fragment().is_none(), "redirect_uri has a fragment")?;

        let code = random("code-");
        let mut grants = lock(&self.grants);
        grants.sign_ins += 1;
        let grant = Grant {
            sub: self.current_sub(),
            client_id: one("client_id")?.to_owned(),
            scope: one("scope")?.to_owned(),
            nonce: one("nonce")?.to_owned(),
            sid: format!("sid-{}", grants.sign_ins),
            auth_time: self.now(),
            jkt: None,
        };
        grants.last = Some(grant.clone());
        let code_challenge = one("code_challenge").unwrap_or_default().to_owned();
        let redirect = one("redirect_uri")?.to_owned();
        let record = Code {
            grant,
            code_challenge,
            redirect_uri: redirect,
            dpop_jkt: one("dpop_jkt").ok().map(str::to_owned),
        };
        grants.codes.insert(code.clone(), record);
        // RFC 9207 §2: the issuer of its metadata.
        let metadata = lock(&self.metadata);
        let issuer = metadata.get("issuer").and_then(Value::as_str);
        let params = [
            ("code", &*code),
            ("state", one("state")?),
            ("iss", issuer.unwrap_or(&self.issuer)),
        ];
        Ok(Callback::new(redirect_uri, &params))
    }

    pub(super) fn is_endpoint(&self, name: &str, location: &str) -> bool {
        let endpoint = lock(&self.metadata)
            .get(name)
            .and_then(Value::as_str)
            .map(str::to_owned);
        let bare = location.split(['?', '#']).next();
        endpoint.is_some_and(|endpoint| endpoint.split(['?', '#']).next() == bare)
    }

    pub(super) fn record_browser(&self, url: &Url) {
        self.record(RecordedRequest {
            method: "GET".to_owned(),
            path: url.path().to_owned(),
            query: http::pairs(url.query().unwrap_or("")),
            form: Vec::new(),
            body: String::new(),
            headers: Vec::new(),
        });
    }

    fn record(&self, request: RecordedRequest) {
        lock(&self.requests).push(request);
        self.arrivals.send_modify(|count| *count += 1);
    }

    pub(super) fn now(&self) -> i64 {
        lock(&self.now).unwrap_or_else(|| {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap()
                .as_secs()
                .cast_signed()
        })
    }

    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Honest parts under the current RSA key.
    pub(super) fn jwt(&self, claims: Value) -> JwtParts {
        JwtParts::new(claims, lock(&self.rsa).clone())
    }

    pub(super) fn change_id_token(&self, parts: &mut JwtParts) {
        self.hook(|script| &script.id_token, parts);
    }

    pub(super) fn change_token_response(&self, reply: &mut Reply, is_refresh: bool) {
        self.hook(|script| &script.token_response, reply);
        if is_refresh {
            self.hook(|script| &script.refresh_response, reply);
        }
    }

    fn hook<T>(&self, which: impl FnOnce(&Script) -> &Hook<T>, value: &mut T) {
        // Called without the lock: a hook may script on.
        let hook = which(&lock(&self.script)).clone();
        if let Some(change) = hook {
            change(value);
        }
    }

    pub(super) fn current_sub(&self) -> String {
        lock(&self.users).current.clone()
    }

    pub(super) fn last_grant(&self) -> Grant {
        lock(&self.grants).last.clone().unwrap_or_else(|| Grant {
            sub: self.current_sub(),
            client_id: "client".to_owned(),
            scope: "openid".to_owned(),
            nonce: String::new(),
            sid: "sid-0".to_owned(),
            auth_time: self.now(),
            jkt: None,
        })
    }
}

pub(super) fn honest_metadata(issuer: &str) -> Map<String, Value> {
    let at = |path: &str| format!("{issuer}{path}");
    let metadata = json!({
        "issuer": issuer,
        "authorization_endpoint": at("/authorize"),
        "token_endpoint": at("/token"),
        "userinfo_endpoint": at("/userinfo"),
        "jwks_uri": at("/jwks"),
        "end_session_endpoint": at("/end_session"),
        "introspection_endpoint": at("/introspect"),
        "revocation_endpoint": at("/revoke"),
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256", "PS256", "ES256", "EdDSA"],
        "userinfo_signing_alg_values_supported": ["RS256", "PS256", "ES256", "EdDSA"],
        "token_endpoint_auth_methods_supported":
            ["client_secret_basic", "client_secret_post", "private_key_jwt", "none"],
        "code_challenge_methods_supported": ["S256"],
        "scopes_supported": ["openid", "email", "profile", "offline_access"],
        "claims_supported": ["sub", "name", "email", "email_verified", "groups"],
        "authorization_response_iss_parameter_supported": true,
        "backchannel_logout_supported": true,
        "backchannel_logout_session_supported": true,
    });
    let Value::Object(metadata) = metadata else {
        unreachable!("written as an object above")
    };
    metadata
}
