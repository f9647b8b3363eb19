//! Who is signed in, and where that is kept.

pub(crate) mod cookie;
mod current;
mod ending;
mod memory_store;
mod names;
mod opened;
mod pieces;
#[cfg(feature = "redis")]
mod redis_store;
mod sessions;
pub mod store;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;
use time::OffsetDateTime;

pub(crate) use current::CurrentSession;
pub(crate) use names::Names;
#[cfg(feature = "cli")]
pub(crate) use sessions::COOKIE as SESSION_COOKIE;
pub(crate) use sessions::{BeginError, Elsewhere, SHARED_FOR, Sessions};

use crate::{Secret, secret, token::Claims};

/// The layout of what is sealed. What has another layout is no session.
const LAYOUT: u8 = 2;

/// One sign-in, from its callback until it ends: the part that guards read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Session {
    layout: u8,
    /// New at every sign-in.
    #[serde(with = "secret::text")]
    pub id: Secret,
    pub issuer: String,
    /// The ID token's claims merged with UserInfo.
    pub claims: Claims,
    /// What the app added in `after_authorize`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub data: Map<String, Value>,
    /// When the tokens are to be refreshed, in seconds since 1970. A copy: what the tokens say counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_due: Option<i64>,
    /// In milliseconds since 1970: somebody may sign in again in the second in which a session ended.
    started: i64,
    /// In seconds since 1970.
    seen: i64,
}

/// The tokens of a session, opened only by who needs them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct SessionTokens {
    #[serde(
        default,
        with = "secret::optional_text",
        skip_serializing_if = "Option::is_none"
    )]
    pub access_token: Option<Secret>,
    /// In seconds since 1970; `None` when the provider does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_token_ends: Option<i64>,
    #[serde(
        default,
        with = "secret::optional_text",
        skip_serializing_if = "Option::is_none"
    )]
    pub refresh_token: Option<Secret>,
    /// The latest ID token, to name the session by when it ends at the provider.
    #[serde(
        default,
        with = "secret::optional_text",
        skip_serializing_if = "Option::is_none"
    )]
    pub id_token: Option<Secret>,
    /// The `nonce` of the sign-in: a refreshed ID token may repeat it and may not have another.
    #[serde(
        default,
        with = "secret::optional_text",
        skip_serializing_if = "Option::is_none"
    )]
    pub nonce: Option<Secret>,
    /// In seconds since 1970; `None` when they are not refreshed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_due: Option<i64>,
    /// How many times they were refreshed.
    #[serde(default)]
    pub generation: u32,
}

impl Session {
    /// A session that begins now, with an id of its own.
    pub(crate) fn new(issuer: &str, claims: Claims, now: OffsetDateTime) -> Session {
        Session {
            layout: LAYOUT,
            id: Secret::random(),
            issuer: issuer.to_owned(),
            claims,
            data: Map::new(),
            refresh_due: None,
            started: milliseconds(now),
            seen: now.unix_timestamp(),
        }
    }

    /// `sub`.
    pub(crate) fn subject(&self) -> &str {
        let sub = self.claims.value("sub").and_then(Value::as_str);
        sub.unwrap_or_default()
    }
}

fn milliseconds(time: OffsetDateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

/// A session of a person, as [`RelyingParty::sessions_of`](crate::RelyingParty::sessions_of) lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// Names the session, for [`RelyingParty::end_session`](crate::RelyingParty::end_session). It is no
    /// secret: nobody is signed in by it.
    pub id: String,
    /// When the person signed in.
    pub started: OffsetDateTime,
    /// When the session was last used, to within a tenth of `session.idle`.
    pub seen: OffsetDateTime,
}

/// Why there is no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SignedOut {
    /// The request carries no session.
    #[error("the request carries no session")]
    NoSession,
    /// The cookie cannot be opened: another key, another version of this crate, or damage.
    #[error("the session's cookie cannot be opened")]
    Unreadable,
    /// The session was not used for longer than `session.idle`.
    #[error("the session was idle for too long")]
    Idle,
    /// The session is older than `session.lifetime`.
    #[error("the session's lifetime has ended")]
    LifetimeEnded,
    /// The session comes from another provider than the one in the settings.
    #[error("the session comes from another issuer")]
    OtherIssuer,
    /// The session was ended: by sign-out, by the provider or by the app.
    #[error("the session was ended")]
    Ended,
    /// The provider refused to refresh the session: it has ended there.
    #[error("the provider ended the session at a refresh")]
    RefreshRefused,
    /// Whether somebody is signed in is not known: the session store is not reachable. Nothing is lost;
    /// guards answer 503.
    #[error("the session store is not reachable")]
    StoreUnavailable,
    /// `enabled = false`, and there is no testing profile or it was signed out.
    #[error("OpenID Connect is disabled and nobody is signed in")]
    Disabled,
}

impl SignedOut {
    /// The reason code, as the manual lists them.
    pub fn reason(&self) -> &'static str {
        match self {
            SignedOut::NoSession => "no_session",
            SignedOut::Unreadable => "session_unreadable",
            SignedOut::Idle => "session_idle",
            SignedOut::LifetimeEnded => "session_lifetime",
            SignedOut::OtherIssuer => "session_other_issuer",
            SignedOut::Ended => "session_ended",
            SignedOut::RefreshRefused => "refresh_refused",
            SignedOut::StoreUnavailable => "store_unavailable",
            SignedOut::Disabled => "disabled",
        }
    }
}

/// The session does not fit into its cookies.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("the session has {size} bytes and its cookies hold {limit}; the largest parts are {}", largest.join(", "))]
#[non_exhaustive]
pub struct SessionTooLarge {
    /// What the session takes, in bytes: its claims or its tokens, whichever do not fit.
    pub size: usize,
    /// What `session.max_cookies` allow, in bytes.
    pub limit: usize,
    /// The largest claims or tokens with their sizes, largest first.
    pub largest: Vec<String>,
}

impl SessionTooLarge {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        "keep less with `oidc.session.claims` and `oidc.session.tokens`, ask for fewer `oidc.scopes`, raise `oidc.session.max_cookies` (5 at most), or set `oidc.session.store` to `memory` or `redis`".into()
    }

    /// Names what takes the most room.
    fn new(size: usize, max_cookies: usize, mut parts: Vec<(String, usize)>) -> SessionTooLarge {
        parts.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
        SessionTooLarge {
            size,
            limit: pieces::PIECE * max_cookies,
            largest: parts
                .into_iter()
                .take(3)
                .map(|(name, size)| format!("{name} with {size} bytes"))
                .collect(),
        }
    }

    fn of_claims(session: &Session, size: usize, max_cookies: usize) -> SessionTooLarge {
        let claims = session.claims.iter();
        let claims = claims.map(|(name, value)| (format!("claim `{name}`"), value));
        let data = session.data.iter();
        let data = data.map(|(name, value)| (format!("the app's `{name}`"), value));
        let parts = claims.chain(data);
        let parts = parts.map(|(name, value)| (name, value.to_string().len()));
        SessionTooLarge::new(size, max_cookies, parts.collect())
    }

    fn of_tokens(tokens: &SessionTokens, size: usize, max_cookies: usize) -> SessionTooLarge {
        let length = |token: &Option<Secret>| token.as_ref().map_or(0, |t| t.expose().len());
        let parts = vec![
            ("the access token".to_owned(), length(&tokens.access_token)),
            (
                "the refresh token".to_owned(),
                length(&tokens.refresh_token),
            ),
            ("the ID token".to_owned(), length(&tokens.id_token)),
        ];
        SessionTooLarge::new(size, max_cookies, parts)
    }
}
