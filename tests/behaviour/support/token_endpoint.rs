//! The test provider's token endpoint: codes and refresh tokens, each good for one use.

use std::collections::{HashMap, HashSet};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::endpoints::State;
use super::http::{RecordedRequest, Reply};
use super::keys::{random, sha256_base64url};
use super::lock;

/// Who signed in, where, and for what.
#[derive(Clone)]
pub(super) struct Grant {
    pub(super) sub: String,
    pub(super) client_id: String,
    pub(super) scope: String,
    pub(super) nonce: String,
    pub(super) sid: String,
    pub(super) auth_time: i64,
    /// The thumbprint of the key that its tokens are bound to.
    pub(super) jkt: Option<String>,
}

/// An authorization code's record.
#[derive(Clone)]
pub(super) struct Code {
    pub(super) grant: Grant,
    pub(super) code_challenge: String,
    pub(super) redirect_uri: String,
    pub(super) dpop_jkt: Option<String>,
}

/// All that has been issued.
#[derive(Default)]
pub(super) struct Grants {
    pub(super) codes: HashMap<String, Code>,
    pub(super) refresh: HashMap<String, Grant>,
    /// Claims by access token, as introspection tells them.
    pub(super) access: HashMap<String, Value>,
    pub(super) last: Option<Grant>,
    pub(super) sign_ins: usize,
    /// The ids of used proofs.
    pub(super) proofs: HashSet<String>,
}

impl State {
    pub(super) fn token(&self, request: &RecordedRequest) -> Reply {
        let jkt = match self.proved_key(request, None) {
            Ok(jkt) => jkt,
            Err(mut refusal) => {
                self.change_token_response(&mut refusal, false);
                return refusal;
            }
        };
        if request.form_value("grant_type") == Some("client_credentials") {
            let mut reply = self
                .by_client_credentials(request, jkt.is_some())
                .unwrap_or_else(|error| error);
            self.change_token_response(&mut reply, false);
            return reply;
        }
        if request
            .form_value("grant_type")
            .is_some_and(|grant| grant.starts_with("urn:"))
        {
            let mut reply = self.by_exchange(request).unwrap_or_else(|error| error);
            self.change_token_response(&mut reply, false);
            return reply;
        }
        let is_refresh = request.form_value("grant_type") == Some("refresh_token");
        let result = match request.form_value("grant_type") {
            Some("authorization_code") => self.check_code(request, jkt),
            Some("refresh_token") => self.check_refresh(request, jkt),
            other => Err(oauth_error("unsupported_grant_type", &format!("{other:?}"))),
        };
        let (mut reply, issued) = match result {
            Ok(grant) => {
                let (reply, issued) = self.issue(&grant, is_refresh);
                (reply, Some((grant, issued)))
            }
            Err(reply) => (reply, None),
        };
        self.change_token_response(&mut reply, is_refresh);
        // An outage spends nothing.
        if let Some((grant, issued)) = issued
            && reply.status < 400
        {
            let mut grants = lock(&self.grants);
            grants.codes.remove(request.form_value("code").unwrap_or(""));
            grants.refresh.remove(request.form_value("refresh_token").unwrap_or(""));
            grants.access.insert(issued.access_token, issued.access_claims);
            grants.refresh.insert(issued.refresh_token, grant);
        }
        reply
    }

    /// RFC 6749 §4.4: no refresh token, no ID token.
    fn by_client_credentials(&self, request: &RecordedRequest, is_bound: bool) -> Result<Reply, Reply> {
        client_id(request)?;
        let scope = request.form_value("scope").unwrap_or("");
        Ok(Reply::json(json!({
            "access_token": random("ct-"), "token_type": if is_bound { "DPoP" } else { "Bearer" },
            "expires_in": 300, "scope": scope,
        })))
    }

    /// RFC 8693, and Microsoft's on-behalf-of flow.
    fn by_exchange(&self, request: &RecordedRequest) -> Result<Reply, Reply> {
        client_id(request)?;
        let subject = request.form_value("subject_token").or(request.form_value("assertion"));
        let is_known = |token: &str| lock(&self.grants).access.contains_key(token);
        if !subject.is_some_and(is_known) {
            return Err(oauth_error("invalid_request", "unknown subject token"));
        }
        let mut reply = Reply::json(json!({
            "access_token": random("xt-"), "token_type": "Bearer", "expires_in": 300,
        }));
        if request.form_value("subject_token").is_some() {
            reply.set("issued_token_type", "urn:ietf:params:oauth:token-type:access_token");
        }
        Ok(reply)
    }

    fn check_code(&self, request: &RecordedRequest, jkt: Option<String>) -> Result<Grant, Reply> {
        let client_id = client_id(request)?;
        let code = request.form_value("code").unwrap_or("");
        let record = lock(&self.grants).codes.get(code).cloned();
        let mut record = record.ok_or_else(|| invalid_grant("unknown or spent code"))?;
        if record.dpop_jkt.is_some() && record.dpop_jkt != jkt {
            return Err(invalid_grant("code of another key"));
        }
        record.grant.jkt = jkt;
        if record.grant.client_id != client_id {
            return Err(invalid_grant("code of another client"));
        }
        if request.form_value("redirect_uri") != Some(&record.redirect_uri) {
            return Err(invalid_grant("another redirect_uri"));
        }
        if lock(&self.script).refuses_pkce {
            return match request.form_value("code_verifier") {
                None => Ok(record.grant),
                Some(_) => Err(Reply::error(401, "invalid_client", "Client authentication failed")),
            };
        }
        let verifier = request.form_value("code_verifier").unwrap_or("");
        if !(43..=128).contains(&verifier.len()) || sha256_base64url(verifier) != record.code_challenge {
            return Err(invalid_grant("wrong code_verifier"));
        }
        Ok(record.grant)
    }

    fn check_refresh(&self, request: &RecordedRequest, jkt: Option<String>) -> Result<Grant, Reply> {
        let client_id = client_id(request)?;
        let token = request.form_value("refresh_token").unwrap_or("");
        let grant = lock(&self.grants).refresh.get(token).cloned();
        match grant {
            Some(grant) if grant.jkt != jkt => Err(invalid_grant("refresh token of another key")),
            Some(grant) if grant.client_id == client_id => Ok(grant),
            Some(_) => Err(invalid_grant("refresh token of another client")),
            None => Err(invalid_grant("unknown or spent refresh token")),
        }
    }

    fn issue(&self, grant: &Grant, is_refresh: bool) -> (Reply, Issued) {
        let now = self.now();
        let (access_token, refresh_token) = (random("at-"), random("rt-"));
        let mut id_token = self.jwt(json!({
            "iss": self.issuer(), "sub": grant.sub, "aud": grant.client_id, "sid": grant.sid,
            "iat": now, "exp": now + 300, "auth_time": grant.auth_time,
        }));
        // Core §12.2: an ID token from a refresh should have no nonce.
        if !is_refresh {
            id_token.set("nonce", grant.nonce.as_str());
        }
        id_token.bind_access_token(&access_token);
        self.change_id_token(&mut id_token);
        let reply = Reply::json(json!({
            "access_token": access_token, "token_type": if grant.jkt.is_some() { "DPoP" } else { "Bearer" },
            "expires_in": 300,
            "refresh_token": refresh_token, "scope": grant.scope, "id_token": id_token.compact(),
        }));
        let mut access_claims = json!({
            "iss": self.issuer(), "sub": grant.sub, "aud": super::TestProvider::API,
            "client_id": grant.client_id, "scope": grant.scope, "iat": now, "exp": now + 300,
        });
        if let Some(jkt) = &grant.jkt {
            access_claims["cnf"] = json!({ "jkt": jkt });
        }
        let reply = reply.with_header("Cache-Control", "no-store");
        (
            reply,
            Issued {
                access_token,
                access_claims,
                refresh_token,
            },
        )
    }
}

struct Issued {
    access_token: String,
    access_claims: Value,
    refresh_token: String,
}

fn oauth_error(error: &str, description: &str) -> Reply {
    Reply::error(400, error, description)
}

fn invalid_grant(description: &str) -> Reply {
    oauth_error("invalid_grant", description)
}

/// The client, however it authenticates: Basic, in the body, by assertion, or not at all.
fn client_id(request: &RecordedRequest) -> Result<String, Reply> {
    let asserted = || {
        let payload = request.form_value("client_assertion")?.split('.').nth(1)?;
        let claims = URL_SAFE_NO_PAD.decode(payload).ok()?;
        let claims: Value = serde_json::from_slice(&claims).ok()?;
        claims["sub"].as_str().map(str::to_owned)
    };
    let basic = request.basic().map(|(id, _)| id);
    let in_body = request.form_value("client_id").map(str::to_owned);
    let named = [basic, in_body, asserted()].into_iter().flatten().collect::<Vec<_>>();
    match named.split_first() {
        Some((id, others)) if others.iter().all(|other| other == id) => Ok(id.clone()),
        Some(_) => Err(Reply::error(401, "invalid_client", "the client has two names")),
        None => Err(Reply::error(401, "invalid_client", "the client has no name")),
    }
}
