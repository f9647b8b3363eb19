//! The development provider without a socket, for the test kit, called in process.

use std::sync::{Arc, Mutex, PoisonError};

use openidconnect::{HttpResponse, http};
use rocket::{http::Header, local::asynchronous::Client};
use serde_json::{Map, Value, json};
use tracing::log;
use url::{Position, Url};

use super::{
    ClaimsHook, DevClient, DevProviderError, Op, UnscopedClaims,
    answer::{Answer, parameters},
    api_tokens, endpoints,
    grants::Grant,
    rocket,
    signing::{SigningKey, random},
};
use crate::clock::Clock;

/// Signing keys by number, generated once per process: generating one takes longer than a whole test.
static KEYS: Mutex<Vec<Arc<SigningKey>>> = Mutex::new(vec![]);

/// The lifetime of a logout token, in seconds.
const LOGOUT_TOKEN_TTL: i64 = 120;

/// The launched provider, without a listener.
pub(crate) struct InProcessProvider {
    client: Client,
    /// The path of its issuer, below which its endpoints are.
    path: String,
}

/// The provider rejected the authorization request or the user's claims; holds the text of its error page.
#[derive(Debug)]
pub(crate) struct AuthorizationRejected(pub(crate) String);

impl InProcessProvider {
    /// Launches the provider with this issuer, and the key of this number.
    pub(crate) async fn launch(
        issuer: &str,
        client: DevClient,
        clock: Clock,
        (claims_hook, unscoped_claims): (ClaimsHook, UnscopedClaims),
        key_number: usize,
    ) -> Result<InProcessProvider, DevProviderError> {
        let key = key(key_number).ok_or(DevProviderError::Key)?;
        let path = Url::parse(issuer).map_or_else(|_| String::new(), |url| url.path().trim_end_matches('/').to_owned());
        let op = Op {
            claims_hook,
            unscoped_claims,
            ..Op::new(client, vec![], key, clock)
        };
        let _ = op.issuer.set(issuer.to_owned());

        // Rocket sets the log level of the whole process: the app's is restored.
        let log_level = log::max_level();
        let launched = Client::untracked(rocket(0, op)?).await;
        log::set_max_level(log_level);
        let launched = launched.map(|client| InProcessProvider { client, path });
        launched.map_err(|error| {
            // Rocket's launch error panics on drop unless it was inspected.
            let _ = error.kind();
            DevProviderError::Stopped
        })
    }

    fn op(&self) -> &Op {
        let op = self.client.rocket().state();
        op.expect("`rocket` manages it")
    }

    /// The path and query of a URL, below its issuer.
    fn target(&self, url: &Url) -> String {
        let target = &url[Position::BeforePath..Position::AfterQuery];
        target.strip_prefix(&*self.path).unwrap_or(target).to_owned()
    }

    /// Dispatches a request of the app, and returns the response.
    pub(crate) async fn answer(&self, asked: &reqwest::Request) -> HttpResponse {
        let target = self.target(asked.url());
        let mut request = match *asked.method() {
            http::Method::POST => self.client.post(target),
            _ => self.client.get(target),
        };
        for (name, value) in asked.headers() {
            if let Ok(value) = value.to_str() {
                request.add_header(Header::new(name.to_string(), value.to_owned()));
            }
        }
        let body = asked.body().and_then(reqwest::Body::as_bytes);
        let response = request.body(body.unwrap_or_default()).dispatch().await;

        let mut answer = http::Response::builder().status(response.status().code);
        for header in response.headers().iter() {
            answer = answer.header(header.name().as_str(), header.value());
        }
        let body = response.into_bytes().await.unwrap_or_default();
        answer.body(body).unwrap_or_default()
    }

    /// Acts as the browser at the authorization endpoint: signs in with these claims, and returns the redirect.
    pub(crate) fn authorize(&self, request: &Url, claims: &Value) -> Result<Url, AuthorizationRejected> {
        let (op, query) = (self.op(), parameters(request.query().unwrap_or_default()));
        let answer = match endpoints::authorization_request(op, &query) {
            Ok(request) => endpoints::sign_in(op, request, claims.as_object().cloned()),
            Err(answer) => answer,
        };
        match answer {
            Answer::Redirect(url) => Ok(url),
            Answer::BadRequest(text) => Err(AuthorizationRejected(text)),
            _ => Err(AuthorizationRejected("unexpected response".to_owned())),
        }
    }

    /// The redirect of the end-session endpoint; `None` if it shows a page.
    pub(crate) async fn end_session(&self, request: &Url) -> Option<Url> {
        let response = self.client.get(self.target(request)).dispatch().await;
        Url::parse(response.headers().get_one("Location")?).ok()
    }

    /// A JWT access token (RFC 9068). These claims override or extend the default ones.
    pub(crate) fn access_token(&self, claims: Map<String, Value>) -> Option<String> {
        let op = self.op();
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let client_id = text("client_id").unwrap_or(&op.client.client_id);
        let scope = text("scope").unwrap_or_default();
        let mut grant = Grant::for_an_api(client_id, claims.clone(), scope, op.now());
        grant.token_claims = claims;
        api_tokens::access_token(op, &grant, op.now())
    }

    /// The audience of this API of the app.
    pub(crate) fn audience_of(&self, api: &str) -> Option<Vec<String>> {
        let api = self.op().client.apis.get(api)?;
        Some(api.access_token_audience())
    }

    /// A logout token for all sessions of a user (OpenID Connect Back-Channel Logout 1.0 §2.4).
    pub(crate) fn logout_token(&self, subject: &str) -> Option<String> {
        let (op, now) = (self.op(), self.op().now());
        let claims = json!({
            "iss": op.issuer(),
            "sub": subject,
            "aud": op.client.client_id,
            "iat": now,
            "exp": now + LOGOUT_TOKEN_TTL,
            "jti": random("id"),
            "events": { "http://schemas.openid.net/event/backchannel-logout": {} },
        });
        op.key().private.sign("logout+jwt", &claims)
    }

    /// From now on, signs with the key of this number, and publishes only that one.
    pub(crate) fn use_key(&self, number: usize) -> Result<(), DevProviderError> {
        let other = key(number).ok_or(DevProviderError::Key)?;
        *self.op().key.write().unwrap_or_else(PoisonError::into_inner) = other;
        Ok(())
    }

    /// Demands another nonce in proofs than before.
    pub(crate) fn change_nonce(&self) {
        self.op().nonce.change();
    }

    pub(crate) fn revoke(&self, token: &str) {
        self.op().grants.revoke(token);
    }

    pub(crate) fn revoke_all_of(&self, subject: &str) {
        self.op().grants.revoke_all_of(subject);
    }
}

/// The key of this number.
fn key(number: usize) -> Option<Arc<SigningKey>> {
    let mut keys = KEYS.lock().unwrap_or_else(PoisonError::into_inner);
    while keys.len() <= number {
        keys.push(Arc::new(SigningKey::new()?));
    }
    Some(keys[number].clone())
}
