//! The development provider's state: pending requests, codes and tokens, all bounded.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::{Map, Value};

use super::signing::random;

/// The maximum number of entries of each kind; the oldest is evicted.
const MAX_ENTRIES: usize = 1_000;
/// Lifetimes, in seconds.
const CODE_TTL: i64 = 60;
pub(super) const ACCESS_TOKEN_TTL: i64 = 300;

/// A validated authorization request (OpenID Connect Core 1.0 §3.1.2.1).
#[derive(Clone, Default)]
pub(super) struct AuthorizationRequest {
    pub client_id: String,
    pub redirect_uri: String,
    pub state: String,
    pub nonce: String,
    pub scope: String,
    pub code_challenge: String,
    pub acr: Option<String>,
    /// The thumbprint of the key that the code is bound to, or nothing (RFC 9449 §10).
    pub dpop_jkt: String,
}

/// What the client is granted by a user's sign-in.
#[derive(Clone, Default)]
pub(super) struct Grant {
    /// All tokens of one sign-in share this, and are revoked together.
    pub family: String,
    pub client_id: String,
    pub claims: Map<String, Value>,
    pub request: AuthorizationRequest,
    pub auth_time: i64,
    /// The thumbprint of the key that its tokens are bound to (RFC 9449 §6).
    pub jkt: Option<String>,
    /// Additional claims of its access tokens.
    pub token_claims: Map<String, Value>,
}

impl Grant {
    /// A grant for an API, without a sign-in.
    pub fn for_an_api(client_id: &str, claims: Map<String, Value>, scope: &str, now: i64) -> Grant {
        // APIs often check `groups`; other claims about the user belong to UserInfo.
        let groups = claims.get_key_value("groups");
        let groups = groups.map(|(name, value)| (name.clone(), value.clone()));
        Grant {
            family: random("family"),
            client_id: client_id.to_owned(),
            token_claims: groups.into_iter().collect(),
            claims,
            request: AuthorizationRequest {
                scope: scope.to_owned(),
                ..AuthorizationRequest::default()
            },
            auth_time: now,
            jkt: None,
        }
    }
}

/// An entry with its expiry, in seconds since 1970; `None` lives until it is evicted or revoked.
struct Entry<T> {
    key: String,
    expires_at: Option<i64>,
    is_used: bool,
    value: T,
}

/// The newest entries of one kind, in a bounded queue.
#[derive(Default)]
struct Table<T>(VecDeque<Entry<T>>);

impl<T> Table<T> {
    fn insert(&mut self, key: String, expires_at: Option<i64>, value: T) {
        if self.0.len() == MAX_ENTRIES {
            self.0.pop_front();
        }
        self.0.push_back(Entry {
            key,
            expires_at,
            is_used: false,
            value,
        });
    }

    fn find(&mut self, key: &str, now: i64) -> Option<&mut Entry<T>> {
        let is_found =
            |entry: &&mut Entry<T>| entry.key == key && entry.expires_at.is_none_or(|expires_at| now < expires_at);
        self.0.iter_mut().find(is_found)
    }
}

#[derive(Default)]
struct Tables {
    requests: Table<AuthorizationRequest>,
    codes: Table<Grant>,
    access_tokens: Table<Grant>,
    refresh_tokens: Table<Grant>,
    proofs: Table<()>,
}

/// All tables, behind a lock.
#[derive(Default)]
pub(super) struct Grants(Mutex<Tables>);

impl Grants {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores a request while its page is shown.
    pub fn add_request(&self, request: AuthorizationRequest) -> String {
        let id = random("request");
        self.tables().requests.insert(id.clone(), None, request);
        id
    }

    pub fn request(&self, id: &str) -> Option<AuthorizationRequest> {
        Some(self.tables().requests.find(id, 0)?.value.clone())
    }

    /// Issues a code for a user who has just signed in.
    pub fn new_code(&self, request: AuthorizationRequest, claims: Map<String, Value>, now: i64) -> String {
        let code = random("code");
        let grant = Grant {
            family: random("family"),
            client_id: request.client_id.clone(),
            claims,
            request,
            auth_time: now,
            ..Grant::default()
        };
        self.tables().codes.insert(code.clone(), Some(now + CODE_TTL), grant);
        code
    }

    /// Redeems a code. A second use revokes the tokens of the first (RFC 6749 §4.1.2).
    pub fn use_code(&self, code: &str, now: i64) -> Option<Grant> {
        self.redeem(|tables| &mut tables.codes, code, now)
    }

    /// Redeems a refresh token. A second use revokes the family (RFC 9700 §4.14.2).
    pub fn use_refresh_token(&self, token: &str, now: i64) -> Option<Grant> {
        self.redeem(|tables| &mut tables.refresh_tokens, token, now)
    }

    /// The grant of a refresh token, which stays as it is.
    pub fn refresh_grant(&self, token: &str) -> Option<Grant> {
        Some(self.tables().refresh_tokens.find(token, 0)?.value.clone())
    }

    fn redeem(&self, table: fn(&mut Tables) -> &mut Table<Grant>, key: &str, now: i64) -> Option<Grant> {
        let mut tables = self.tables();
        let entry = table(&mut tables).find(key, now)?;
        let (grant, was_used) = (entry.value.clone(), std::mem::replace(&mut entry.is_used, true));
        if was_used {
            tables.revoke(&grant.family);
            return None;
        }
        Some(grant)
    }

    /// Records the id of a proof; `false` if it was used before.
    pub fn use_proof(&self, jti: &str, ends: i64, now: i64) -> bool {
        let proofs = &mut self.tables().proofs;
        let is_new = proofs.find(jti, now).is_none();
        if is_new {
            proofs.insert(jti.to_owned(), Some(ends), ());
        }
        is_new
    }

    /// Issues an access token and a refresh token.
    pub fn issue(&self, grant: &Grant, now: i64) -> (String, String) {
        let access_token = random("access");
        self.add_access_token(&access_token, grant, now);
        (access_token, self.issue_refresh_token(grant))
    }

    /// Issues a refresh token.
    pub fn issue_refresh_token(&self, grant: &Grant) -> String {
        let refresh_token = random("refresh");
        let mut tables = self.tables();
        tables.refresh_tokens.insert(refresh_token.clone(), None, grant.clone());
        refresh_token
    }

    /// Stores an access token that was issued elsewhere.
    pub fn add_access_token(&self, token: &str, grant: &Grant, now: i64) {
        let expires_at = Some(now + ACCESS_TOKEN_TTL);
        let mut tables = self.tables();
        tables.access_tokens.insert(token.to_owned(), expires_at, grant.clone());
    }

    /// The grant and the expiry of a valid access token.
    pub fn access_token(&self, token: &str, now: i64) -> Option<(Grant, i64)> {
        let mut tables = self.tables();
        let entry = tables.access_tokens.find(token, now)?;
        Some((entry.value.clone(), entry.expires_at.unwrap_or(now)))
    }

    /// Revokes a token, and all others of its sign-in (RFC 7009 §2.1).
    pub fn revoke(&self, token: &str) {
        let tables = &mut *self.tables();
        let family = [&mut tables.access_tokens, &mut tables.refresh_tokens]
            .into_iter()
            .find_map(|table| Some(table.find(token, 0)?.value.family.clone()));
        if let Some(family) = family {
            tables.revoke(&family);
        }
    }
}

#[cfg(feature = "testing")]
impl Grants {
    /// Revokes all tokens of a user.
    pub fn revoke_all_of(&self, subject: &str) {
        let is_of = |grant: &Grant| grant.claims.get("sub").and_then(Value::as_str) == Some(subject);
        let tables = &mut *self.tables();
        for table in [&mut tables.access_tokens, &mut tables.refresh_tokens] {
            table.0.retain(|entry| !is_of(&entry.value));
        }
    }
}

impl Tables {
    fn revoke(&mut self, family: &str) {
        for table in [&mut self.access_tokens, &mut self.refresh_tokens] {
            table.0.retain(|entry| entry.value.family != family);
        }
    }
}
