//! The session service: begins, finds, refreshes and ends the sessions of this app, in encrypted cookies or in a store.

mod advance;
mod begin;
mod ending;
mod ending_by_user;
mod find;
mod revoke;
mod unrecorded_ends;
mod waiting;
mod watcher;
mod write;

use std::{
    fmt,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use moka::sync::Cache;
use rocket::http::CookieJar;
use serde_json::Value;
use time::OffsetDateTime;

pub(crate) use begin::BeginError;
pub(crate) use ending::while_signing_in;
pub(crate) use revoke::{DropCached, Revoke};
pub use waiting::SessionEnded;

use unrecorded_ends::UnrecordedEnds;
use watcher::Watcher;

use super::{
    CurrentSession, Names, NoSession, Session,
    chunks::SessionCookies,
    end_feed::EndFeed,
    ended_cookie::EndedCookie,
    milliseconds, only_provider,
    refreshed_sessions::RefreshedSessions,
    session_cache::{SessionCache, SessionNames},
    store::{MemoryStore, SessionStore, StoreError, StoredSession},
    time_until,
};
use crate::{
    clock::Clock,
    cookies::Cookies,
    keys::KeyRing,
    observing::ObservedProvider,
    secret::Secret,
    settings::{SessionSettings, StoreKind, StoreUrl},
    token::{Claims, Tenants},
};

/// Maximum attempts of a compare-and-set in the store while other requests replace the session.
const MAX_TRIES: usize = 5;
/// How long an expired session is kept: sign-out still needs its ID token for the provider, and its tokens are still to
/// be revoked.
const ENDED_SESSION_TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// Maximum entries of each cache that is keyed by session name.
const MAX_TOUCHED: u64 = 10_000;
/// nginx's default limit of response headers (`proxy_buffer_size`), less an allowance for other headers.
const USUAL_HEADER_LIMIT: usize = 4 * 1024 - 512;
/// Extra TTL of a session's newest generation: the maximum clock difference between nodes and the store.
pub(super) const MAX_CLOCK_SKEW: Duration = Duration::from_secs(60);
/// Maximum `sid`s that a node without a shared store keeps.
const MAX_KNOWN_SIDS: usize = 1_000_000;
/// Default `session.max_per_user` of the in-memory store: without it one account could fill the store, and evict the
/// sessions of all other users.
const MAX_PER_USER_IN_MEMORY: usize = 100;
/// Prefix of a record in a shared store once the browser has sent the cookie of that generation.
const SEEN_MARK: char = '.';

/// The provider of sessions, and the keys that encrypt them.
pub(crate) struct SessionProvider<'a> {
    pub(crate) name: Arc<str>,
    pub(crate) observed: ObservedProvider,
    pub(crate) issuer: &'a str,
    /// The accepted tenants, if the issuer is a template.
    pub(crate) tenants: Option<Tenants>,
    pub(crate) keys: &'a KeyRing,
    /// Whether the sessions of other providers have cookies of the same names.
    pub(crate) shares_cookies: bool,
}

/// The sessions of this app, and the caches about them.
pub(crate) struct Sessions {
    pub(super) settings: SessionSettings,
    keys: KeyRing,
    cookies: SessionCookies,
    /// The name of the provider.
    pub(crate) provider: Arc<str>,
    /// The same, for metrics and log lines.
    pub(crate) observed: ObservedProvider,
    pub(super) issuer: Arc<str>,
    /// The accepted tenants, if the issuer is a template.
    tenants: Option<Tenants>,
    pub(crate) names: Names,
    pub(super) is_in_cookies: bool,
    /// The sessions themselves; for sessions in cookies only which of them have ended, and their newest generations.
    pub(crate) store: Arc<dyn SessionStore>,
    /// Whether other nodes use the store too.
    pub(crate) is_shared: bool,
    /// Maximum sessions per user; `None` is no limit.
    pub(super) max_per_user: Option<usize>,
    /// The entries of `sid`s with a session in cookies here, for front-channel logout; `None` while it is disabled. They
    /// are the only ones that an unsigned request may end: a request with an unknown `sid` writes no entry.
    known_sids: Option<Arc<dyn SessionStore>>,
    pub(super) unrecorded: Arc<UnrecordedEnds>,
    watcher: Arc<Watcher>,
    pub(super) ended_cookie: EndedCookie,
    /// Revokes the tokens of ended sessions; `None` without a provider.
    pub(super) revoke: Option<Revoke>,
    /// Drops what is cached of sessions that have ended; `None` without a provider.
    pub(super) drop_cached: Option<DropCached>,
    cache: SessionCache,
    /// The newest records of sessions in cookies, where the store is not shared.
    refreshed_sessions: Arc<RefreshedSessions>,
    /// When the use of each session in cookies was last recorded, in seconds since 1970.
    pub(super) touched: Cache<String, i64>,
    /// Sessions whose expiry has been reported already.
    reported_expiries: Cache<String, ()>,
    /// Whether the warning about large response headers has been logged.
    is_size_known: Arc<AtomicBool>,
    /// The newest generation that the browser is known to have, per session; for a shared store.
    seen_newest: Cache<String, u64>,
}

impl Sessions {
    /// Opens the store that the settings name, or uses the app's own.
    pub(crate) fn open(
        settings: SessionSettings,
        cookies: &Cookies,
        issuer: &str,
        own: Option<Arc<dyn SessionStore>>,
        clock: &Clock,
    ) -> Result<Sessions, StoreError> {
        let shared = open_shared_store(&settings, own)?;
        let is_own = shared.is_some() && settings.store_url.is_none();
        let is_shared = shared.is_some();
        let is_in_cookies = settings.store == StoreKind::Cookie && !is_own;
        if is_in_cookies && settings.max_per_user.is_some() {
            tracing::warn!("`session.max_per_user` has no effect on sessions in cookies");
        }
        let memory = || {
            let store = MemoryStore::new(settings.max_sessions).clock(clock.clone());
            Arc::new(store.max_counters(settings.max_generations))
        };
        let store = shared.unwrap_or_else(|| memory());
        let names = Names::new(cookies.keys.clone());
        let feed = is_shared.then(|| EndFeed::new(store.clone(), names.clone()));
        let in_memory = !is_shared && !is_in_cookies;
        let max_per_user = settings.max_per_user.or(in_memory.then_some(MAX_PER_USER_IN_MEMORY));
        Ok(Sessions {
            max_per_user,
            names,
            keys: cookies.keys.clone(),
            cookies: SessionCookies::new(cookies, settings.cookie.as_deref(), None),
            provider: only_provider(),
            observed: ObservedProvider::default(),
            issuer: issuer.into(),
            tenants: None,
            is_in_cookies,
            store,
            is_shared,
            known_sids: None,
            unrecorded: Arc::new(UnrecordedEnds::new(clock)),
            watcher: Arc::new(Watcher::new(feed, clock)),
            ended_cookie: EndedCookie::new(cookies),
            revoke: None,
            drop_cached: None,
            cache: SessionCache::new(settings.cache),
            refreshed_sessions: Arc::new(RefreshedSessions::new()),
            touched: Cache::new(MAX_TOUCHED),
            reported_expiries: Cache::new(MAX_TOUCHED),
            is_size_known: Arc::default(),
            seen_newest: Cache::new(MAX_TOUCHED),
            settings,
        })
    }

    /// The sessions of one of several providers: under its own keys, in the same store, with the same knowledge of what
    /// has ended.
    pub(crate) fn of_provider(&self, provider: SessionProvider<'_>, cookies: &Cookies) -> Sessions {
        let SessionProvider {
            name,
            observed,
            issuer,
            tenants,
            keys,
            shares_cookies,
        } = provider;
        let prefix = shares_cookies.then(|| name.clone());
        let suffix = if shares_cookies {
            String::new()
        } else {
            format!("_{}", keys.client_tag())
        };
        let cookie = self.settings.cookie.as_ref().map(|cookie| format!("{cookie}{suffix}"));
        Sessions {
            settings: self.settings.clone(),
            max_per_user: self.max_per_user,
            names: Names::new(keys.clone()),
            keys: keys.clone(),
            cookies: SessionCookies::new(cookies, cookie.as_deref(), prefix),
            provider: name,
            observed,
            issuer: issuer.into(),
            tenants,
            is_in_cookies: self.is_in_cookies,
            store: self.store.clone(),
            is_shared: self.is_shared,
            known_sids: self.known_sids.clone(),
            unrecorded: self.unrecorded.clone(),
            watcher: self.watcher.clone(),
            ended_cookie: EndedCookie::new(cookies),
            revoke: None,
            drop_cached: None,
            // By the text of cookies, which one provider's keys decrypt.
            cache: SessionCache::new(self.settings.cache),
            refreshed_sessions: self.refreshed_sessions.clone(),
            touched: self.touched.clone(),
            reported_expiries: self.reported_expiries.clone(),
            is_size_known: self.is_size_known.clone(),
            seen_newest: self.seen_newest.clone(),
        }
    }

    /// The name of the provider whose session a request carries, where providers share cookies.
    pub(crate) fn provider_in<'r>(&self, jar: &'r CookieJar<'_>) -> Option<&'r str> {
        self.cookies.provider(jar)
    }

    /// Enables front-channel logout, whose requests are unsigned.
    pub(crate) fn with_front_channel(mut self, is_on: bool) -> Sessions {
        self.known_sids = is_on.then(|| {
            if self.is_shared {
                return self.store.clone();
            }
            let clock = self.unrecorded.clock.clone();
            Arc::new(MemoryStore::new(0).max_counters(MAX_KNOWN_SIDS).clock(clock))
        });
        self
    }

    /// Sets the accepted tenants, if the issuer is a template.
    pub(crate) fn with_tenants(mut self, tenants: Option<Tenants>) -> Sessions {
        self.tenants = tenants;
        self
    }

    /// Sets what revokes the tokens of ended sessions, and what drops those that are cached beside them.
    pub(crate) fn with_revocation(mut self, revoke: Revoke, drop_cached: DropCached) -> Sessions {
        self.revoke = Some(revoke);
        self.drop_cached = Some(drop_cached);
        self
    }

    /// Where the sessions are, for the report at liftoff.
    pub(crate) fn describe(&self) -> &'static str {
        match (self.is_in_cookies, self.is_shared) {
            (true, false) => {
                "encrypted cookies; early ends (sign-out elsewhere, by the provider, by the app) and outdated copies are known to this node only, until it restarts"
            }
            (true, true) => "encrypted cookies; early ends and outdated copies are known to all nodes",
            (false, false) => "in the memory of this process, for one node",
            (false, true) => "in a store that all nodes share",
        }
    }

    /// The header size that proxies must allow, for a report; `None` where every response is small.
    pub(crate) fn describe_size(&self) -> Option<String> {
        let max = self.settings.max_cookies;
        let is_large = self.is_in_cookies && max > 1;
        is_large.then(|| {
            format!(
                "up to {max} cookies, {} KB of response headers; nginx accepts 4 KB unless `proxy_buffer_size` is larger",
                4 * max
            )
        })
    }

    /// The name and the attributes of the session cookie, for a report.
    #[cfg(feature = "cli")]
    pub(crate) fn describe_cookie(&self) -> String {
        self.cookies.first().describe()
    }

    /// The name of the session cookie, the first of several.
    pub(crate) fn cookie_name(&self) -> String {
        self.cookies.first().name().to_owned()
    }

    /// Whether sessions are kept in cookies.
    pub(crate) fn is_in_cookies(&self) -> bool {
        self.is_in_cookies
    }

    pub(crate) fn check_times(&self, session: &Session, now: OffsetDateTime) -> Result<(), NoSession> {
        let idle = now.unix_timestamp().saturating_sub(session.seen);
        if milliseconds(now) >= self.end_of(session) {
            Err(NoSession::LifetimeEnded)
        } else if idle >= seconds(self.settings.idle_timeout) {
            Err(NoSession::Idle)
        } else {
            Ok(())
        }
    }

    /// When a session ends at the latest, in milliseconds since 1970: the time set at its sign-in or by a later ID
    /// token, or `session.absolute_timeout` as configured now if that is earlier.
    pub(crate) fn end_of(&self, session: &Session) -> i64 {
        let lifetime = seconds(self.settings.absolute_timeout).saturating_mul(1000);
        session.ends.min(session.started.saturating_add(lifetime))
    }

    /// The name of a session.
    fn name_of(&self, session: &Session) -> String {
        match &session.user_mark {
            Some(mark) => self.names.marked_session(&session.id, mark),
            None => self.names.session(&session.id),
        }
    }

    /// When a session ends, in seconds since 1970: at the latest, and if it is not used again.
    pub(crate) fn ends_of(&self, session: &Session) -> (i64, i64) {
        let idle_end = session.seen.saturating_add(seconds(self.settings.idle_timeout));
        (self.end_of(session) / 1000, idle_end)
    }

    fn names_of(&self, session: &Session) -> SessionNames {
        let name = self.name_of(session);
        let (subject, sid) = self.index_keys_of(&session.issuer, &session.claims);
        SessionNames {
            generation: self.names.generation(&name),
            session: name.into(),
            subject,
            sid,
        }
    }

    /// The index keys of a session with these claims: of the user, and of the provider's session.
    pub(super) fn index_keys_of(&self, issuer: &str, claims: &Claims) -> (Vec<String>, Vec<String>) {
        let text = |name| claims.value(name).and_then(Value::as_str);
        let subject = text("sub").unwrap_or_default();
        let sid = match text("sid") {
            Some(sid) => self.names.sid(issuer, sid),
            None => self.names.without_sid(issuer, subject),
        };
        (self.names.subject(issuer, subject), sid)
    }

    fn stored(&self, current: &CurrentSession, index_keys: Vec<String>) -> StoredSession {
        StoredSession {
            id: current.name().to_owned(),
            version: current.version,
            value: self.export(current, current.name()),
            index_keys,
        }
    }

    /// The TTL of the session in the browser and in the store.
    fn storage_ttl(&self, session: &Session, now: OffsetDateTime) -> Duration {
        let end = self.end_of(session);
        time_until(end.saturating_add(seconds(ENDED_SESSION_TTL) * 1000), now)
    }

    /// How long the session lives if it is not used again.
    fn remaining(&self, session: &Session, now: OffsetDateTime) -> Duration {
        let idle_end = session.seen.saturating_add(seconds(self.settings.idle_timeout));
        time_until(self.end_of(session).min(idle_end.saturating_mul(1000)), now)
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("is_in_cookies", &self.is_in_cookies)
            .field("is_shared", &self.is_shared)
            .finish_non_exhaustive()
    }
}

/// The store that the nodes of the app share: the app's own, or the one of the settings.
pub(crate) fn open_shared_store(
    settings: &SessionSettings,
    own: Option<Arc<dyn SessionStore>>,
) -> Result<Option<Arc<dyn SessionStore>>, StoreError> {
    match (own, &settings.store_url) {
        (Some(own), _) => Ok(Some(own)),
        (None, Some(url)) => shared_store(url, settings).map(Some),
        (None, None) => Ok(None),
    }
}

/// Opens the store at `session.store_url`.
#[cfg_attr(not(feature = "redis"), allow(unused_variables))]
fn shared_store(url: &Secret, settings: &SessionSettings) -> Result<Arc<dyn SessionStore>, StoreError> {
    match StoreUrl::parse(url.expose()) {
        #[cfg(feature = "redis")]
        Some(StoreUrl::Redis) => Ok(Arc::new(super::store::RedisStore::with_sentinel_credentials(
            url,
            settings.sentinel_username.as_deref(),
            settings.sentinel_password.as_ref(),
        )?)),
        #[cfg(any(feature = "sqlite", feature = "postgres"))]
        Some(StoreUrl::Sqlite(_) | StoreUrl::Postgres) => Ok(Arc::new(super::store::SqlStore::new(url)?)),
        _ => Err(StoreError::new(
            "the cargo feature for the URL in `session.store_url` is not enabled",
        )),
    }
}

/// Logs that another node has another key, and returns the reason for the guard.
fn unknown_key() -> NoSession {
    let reason = NoSession::UnknownKey;
    tracing::error!(reason = reason.reason(), "{reason}");
    tracing::info!(
        "set the same `oidc.secret_key` on all nodes; before you change it, list the new key in `oidc.previous_secret_keys` of every node"
    );
    reason
}

/// Logs the error, and returns the reason for the guard.
pub(super) fn unavailable(error: StoreError) -> NoSession {
    tracing::error!(reason = "store_unavailable", "{error}");
    tracing::info!("{}", error.remedy());
    NoSession::StoreUnavailable
}

pub(super) fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
