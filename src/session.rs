//! Sessions: the state of a signed-in user, and where it is stored.

mod change;
mod chunks;
mod current;
mod earlier_ends;
mod end_feed;
mod ended_cookie;
mod generations;
mod last_use;
mod names;
mod outgoing;
mod record;
mod refreshed_sessions;
mod session_cache;
mod session_end;
mod session_info;
mod sessions;
pub mod store;
mod user_key;
mod user_kind;

use std::{
    ops::Not,
    sync::{Arc, LazyLock},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;
use time::{Date, OffsetDateTime, Time};

pub(crate) use change::EndCause;
pub use change::{SessionChange, SessionChangeKind};
pub(crate) use current::CurrentSession;
pub(crate) use earlier_ends::{EarlierEnds, EndsRead};
pub(crate) use names::Names;
pub(crate) use outgoing::OutgoingSession;
#[cfg(feature = "__internals")]
pub(crate) use record::{to_json, to_record};
pub use session_end::SessionEnd;
pub use session_info::SessionInfo;
pub use sessions::SessionEnded;
pub(crate) use sessions::{
    BeginError, DropCached, Revoke, SessionProvider, Sessions, open_shared_store, while_signing_in,
};
pub use user_key::{InvalidUserKey, UserKey};
pub use user_kind::UserKind;

use crate::{
    keys::digest_name,
    requirement::Authentication,
    secret::{self, Secret},
    settings::ONLY_PROVIDER,
    token::{ClaimSources, Claims, ProofKey},
};

/// The prefix of the session cookies' names.
pub(crate) const COOKIE: &str = "oidc_session";

/// The session of a signed-in user, from sign-in until it ends: what guards read.
///
/// It is serialized as the head of its record, without the issuer and the claims: these are decoded from the body.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Session {
    /// Random, new at every sign-in.
    #[serde(rename = "i", with = "secret::text")]
    pub id: Secret,
    /// The name of the provider, by whose keys the record is encrypted.
    #[serde(skip, default = "only_provider")]
    pub provider: Arc<str>,
    #[serde(skip)]
    pub issuer: Arc<str>,
    /// The merged claims of the ID token and UserInfo, as an app reads them.
    #[serde(skip)]
    pub claims: Claims,
    /// In milliseconds since 1970.
    #[serde(rename = "b")]
    started: i64,
    /// When it ends at the latest, in milliseconds since 1970.
    #[serde(rename = "e")]
    ends: i64,
    /// When its last use was recorded, in seconds since 1970.
    #[serde(rename = "s")]
    seen: i64,
    /// 1 at the sign-in, one more whenever claims, tokens or the app's data change.
    #[serde(rename = "g")]
    pub generation: u64,
    /// When the tokens are to be refreshed, in seconds since 1970; `None` for never.
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    pub refresh_due: Option<i64>,
    /// Whether UserInfo failed at the last refresh, and is to be fetched again.
    #[serde(rename = "u", default, skip_serializing_if = "Not::not")]
    pub user_info_due: bool,
    /// The ends of the user's sessions that were recorded before it began.
    #[serde(rename = "n", default, skip_serializing_if = "EarlierEnds::is_empty")]
    pub earlier_ends: EarlierEnds,
    /// The user's authentication at the provider, by the sign-in's ID token; a refresh does not change it.
    #[serde(rename = "t", default, skip_serializing_if = "Authentication::is_unknown")]
    pub authentication: Authentication,
    #[serde(rename = "k", default, skip_serializing_if = "UserKind::is_openid_connect")]
    pub kind: UserKind,
    /// In cookies: the part of its name that is of its user, as [`Names::user_mark`] computed it when the session
    /// began. It stays when the secret key changes.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    user_mark: Option<String>,
    /// What the app added in `after_authorize`.
    #[serde(rename = "a", default, skip_serializing_if = "Map::is_empty")]
    pub data: Map<String, Value>,
}

/// The provider's tokens for a session, and the claims of the ID token and UserInfo.
#[derive(Clone, Debug, Default)]
pub(crate) struct SessionTokens {
    pub access_token: Option<Secret>,
    /// Expiry in seconds since 1970; `None` when the provider does not state it.
    pub access_token_expires_at: Option<i64>,
    pub refresh_token: Option<Secret>,
    /// The latest ID token, sent as `id_token_hint` at sign-out.
    pub id_token: Option<Secret>,
    /// The `nonce` of the sign-in: a refreshed ID token may repeat it and may not have another.
    pub nonce: Option<Secret>,
    /// The `authorization_details` that the provider granted.
    pub authorization_details: Vec<Value>,
    /// The key that access token and refresh token are bound to; `None` for bearer tokens.
    pub proof_key: Option<ProofKey>,
    pub sources: ClaimSources,
}

impl Session {
    /// A session that begins now, with a random id. It ends after `session.absolute_timeout`, which [`Sessions::begin`]
    /// sets, or earlier by [`end_by`](Self::end_by).
    pub(crate) fn new(issuer: &str, claims: Claims, now: OffsetDateTime) -> Session {
        Session {
            id: Secret::random(),
            provider: only_provider(),
            issuer: issuer.into(),
            claims,
            data: Map::new(),
            authentication: Authentication::default(),
            kind: UserKind::default(),
            user_mark: None,
            generation: 1,
            refresh_due: None,
            user_info_due: false,
            started: milliseconds(now),
            ends: i64::MAX,
            seen: now.unix_timestamp(),
            earlier_ends: EarlierEnds::default(),
        }
    }

    /// Sets when it ends, in seconds since 1970; `None` changes nothing. `session.absolute_timeout` is an upper limit
    /// in any case.
    pub(crate) fn end_by(&mut self, session_expiry: Option<f64>) {
        if let Some(ends) = session_expiry {
            // `as` saturates.
            self.ends = (ends * 1000.0) as i64;
        }
    }

    /// A short name of the user: a digest of provider, issuer and subject.
    pub(crate) fn user_name(&self) -> String {
        let mut name = digest_name("user", &[&self.provider, &self.issuer, self.subject()]);
        name.truncate(22);
        name
    }

    /// Who the user is.
    pub(crate) fn user_key(&self) -> UserKey {
        UserKey::new(&self.provider, &self.issuer, self.subject())
    }

    /// Sets one value of the app's data; `null` removes it. Returns whether that changes anything.
    pub(crate) fn set_data(&mut self, name: &str, value: Value) -> bool {
        if value.is_null() {
            return self.data.remove(name).is_some();
        }
        if self.data.get(name) == Some(&value) {
            return false;
        }
        self.data.insert(name.to_owned(), value);
        true
    }

    /// `sub`.
    pub(crate) fn subject(&self) -> &str {
        let sub = self.claims.value("sub").and_then(Value::as_str);
        sub.unwrap_or_default()
    }
}

impl SessionTokens {
    /// Tokens that hold claims only.
    #[cfg(feature = "__internals")]
    pub(crate) fn of_claims(claims: Claims) -> SessionTokens {
        SessionTokens {
            sources: ClaimSources::new(claims, None),
            ..SessionTokens::default()
        }
    }

    #[cfg(test)]
    fn texts(&self) -> [Option<&str>; 3] {
        let tokens = [&self.access_token, &self.refresh_token, &self.id_token];
        tokens.map(|token| token.as_ref().map(Secret::expose))
    }
}

/// The provider's name in an app with one provider, made once.
pub(crate) fn only_provider() -> Arc<str> {
    static NAME: LazyLock<Arc<str>> = LazyLock::new(|| ONLY_PROVIDER.into());
    NAME.clone()
}

fn milliseconds(time: OffsetDateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

/// The time of this number of milliseconds since 1970; the last representable one if it is later.
fn from_milliseconds(milliseconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(milliseconds) * 1_000_000)
        .unwrap_or(OffsetDateTime::new_utc(Date::MAX, Time::MIDNIGHT))
}

/// The time until `end`, in milliseconds since 1970; zero if it has passed.
fn time_until(end: i64, now: OffsetDateTime) -> Duration {
    let left = end.saturating_sub(milliseconds(now));
    Duration::from_millis(left.max(0).unsigned_abs())
}

/// Why there is no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NoSession {
    /// The request carries no session.
    #[error("the request carries no session")]
    Absent,
    /// The cookie cannot be decrypted: another key, issuer or client, another version of this crate, or damage.
    #[error("the session's cookie cannot be decrypted")]
    Unreadable,
    /// The session was not used for longer than `session.idle_timeout`.
    #[error("the session was idle for too long")]
    Idle,
    /// The session is older than `session.absolute_timeout`.
    #[error("the session's lifetime has ended")]
    LifetimeEnded,
    /// The session was ended: by sign-out, by the provider or by the app.
    #[error("the session was ended")]
    Ended,
    /// The cookie is an older copy of a session that was refreshed since, and the newer one is no longer kept. The
    /// session itself stays valid, with its newest cookie.
    #[error("the cookie is an older copy of a session that was refreshed since")]
    Superseded,
    /// The provider refused to refresh the session: it has ended there.
    #[error("the provider ended the session at its refresh")]
    RefreshRefused,
    /// The provider asks for a new sign-in before it refreshes the session.
    #[error("the provider requires a new sign-in to refresh the session")]
    SignInRequired,
    /// A refresh is overdue by more than `session.refresh_grace`, and fails because the provider is down. The session
    /// is kept; guards respond with 503.
    #[error("the session is overdue for a refresh, and the provider is not reachable")]
    RefreshUnavailable,
    /// The session was refreshed with a key that this node does not have. The session is kept; guards respond with 503.
    #[error("the session was refreshed by a node with another secret key")]
    UnknownKey,
    /// The session store is not reachable, so the session cannot be looked up. The session is kept; guards respond with
    /// 503.
    #[error("the session store is not reachable")]
    StoreUnavailable,
    /// The request belongs to no provider, by [`Oidc::provider_for`](crate::Oidc::provider_for), and has no user. A page
    /// load is not redirected to sign-in.
    #[error("the request belongs to no provider")]
    NoProvider,
    /// `Oidc::provider_for` failed. The session is kept; guards respond with 503.
    #[error("the provider of the request is not known")]
    ProviderUndecided,
    /// A page of another origin sent the request, which changes something or opens a WebSocket: the session was not read.
    /// Guards respond with 403.
    #[error("a page of another origin sent the request")]
    CrossOrigin,
    /// `enabled = false`, and there is no testing profile or it was signed out.
    #[error("OpenID Connect is disabled, and no user is signed in")]
    Disabled,
}

impl NoSession {
    /// The reason code, as listed in the manual.
    pub fn reason(&self) -> &'static str {
        match self {
            NoSession::Absent => "no_session",
            NoSession::Unreadable => "session_unreadable",
            NoSession::Idle => "session_idle",
            NoSession::LifetimeEnded => "session_expired",
            NoSession::Ended => "session_ended",
            NoSession::Superseded => "session_superseded",
            NoSession::RefreshRefused => "refresh_refused",
            NoSession::SignInRequired => "sign_in_required",
            NoSession::RefreshUnavailable => "refresh_unavailable",
            NoSession::UnknownKey => "session_unknown_key",
            NoSession::StoreUnavailable => "store_unavailable",
            NoSession::NoProvider => "no_provider",
            NoSession::ProviderUndecided => "provider_undecided",
            NoSession::CrossOrigin => "cross_origin",
            NoSession::Disabled => "disabled",
        }
    }

    /// Whether a later request may find the session: the guard responds with 503 instead of 401.
    pub(crate) fn is_outage(self) -> bool {
        matches!(
            self,
            NoSession::RefreshUnavailable
                | NoSession::UnknownKey
                | NoSession::StoreUnavailable
                | NoSession::ProviderUndecided
        )
    }
}

/// The session does not fit into its cookies.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("the session needs {size} bytes and its cookies hold {limit}; the largest parts are {}", largest.join(", "))]
#[non_exhaustive]
pub struct SessionTooLarge {
    /// The size of the session, compressed and encrypted, in bytes.
    pub size: usize,
    /// The limit by `session.max_cookies`, in bytes.
    pub limit: usize,
    /// The largest claims, tokens and values of the app with their sizes before compression, largest first.
    pub largest: Vec<String>,
}

impl SessionTooLarge {
    /// How to fix it.
    pub fn remedy(&self) -> String {
        "keep fewer claims and tokens with `oidc.session.claims` and `oidc.session.tokens`, request fewer `oidc.scopes`, raise `oidc.session.max_cookies` (5 at most), or set `oidc.session.store` to `memory`, `redis` or `sql`".into()
    }

    /// Lists the largest parts of the session.
    fn new(session: &Session, tokens: &SessionTokens, size: usize, max_cookies: usize) -> SessionTooLarge {
        let claims = session
            .claims
            .iter()
            .map(|(name, value)| (format!("claim `{name}`"), value));
        let data = session
            .data
            .iter()
            .map(|(name, value)| (format!("the app's `{name}`"), value));
        let values = claims.chain(data).map(|(name, value)| (name, value.to_string().len()));
        let tokens = [
            ("the access token", &tokens.access_token),
            ("the refresh token", &tokens.refresh_token),
            ("the ID token", &tokens.id_token),
        ];
        let tokens = tokens.map(|(name, token)| (name.to_owned(), token.as_ref().map_or(0, |t| t.expose().len())));
        let mut parts: Vec<_> = values.chain(tokens).collect();
        parts.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
        let largest = parts.into_iter().take(3);
        SessionTooLarge {
            size,
            limit: chunks::CHUNK_LEN * max_cookies,
            largest: largest
                .map(|(name, size)| format!("{name} with {size} bytes"))
                .collect(),
        }
    }
}
