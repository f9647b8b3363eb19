//! The table `oidc.session`: the lifetime, storage and size of sessions.

use std::time::Duration;

use serde::Deserialize;
use url::Url;

use super::{
    CacheSize, Settings,
    declaration::{named, settings},
    duration::AboveZero,
    mistake::{Mistake, rule},
    redis_url::{Deployment, REDIS_URL, RedisUrl},
    value::{AtLeastOne, Between, CookieName, Text, Words},
};
use crate::secret::Secret;

settings! {
    /// The settings of the table `oidc.session`.
    pub struct SessionSettings {
        /// The idle timeout of a session, since its last request; seconds or a duration such as `"30m"`, at most
        /// `absolute_timeout`.
        ///
        /// _Default:_ `1h`
        pub idle_timeout: Duration as AboveZero = Duration::from_secs(60 * 60),
        /// The absolute timeout of a session, since its sign-in; seconds or a duration such as `"7d"`.
        ///
        /// _Default:_ `12h`
        pub absolute_timeout: Duration as AboveZero = Duration::from_secs(12 * 60 * 60),
        /// The name of the session cookie, without its prefix `__Host-` on https. Further chunks of a large session
        /// add `_1`, `_2`, … Two apps on one host need two names.
        ///
        /// _Default:_ `oidc_session_` and eight hex digits derived from issuer and client id
        pub cookie: Option<String> as Option<CookieName> = None,
        /// The grace period in which a session stays usable although a due refresh fails because the provider is
        /// down; `0` for none. After that, guards respond with 503 until a refresh succeeds.
        ///
        /// _Default:_ `4h`
        pub refresh_grace: Duration = Duration::from_secs(4 * 60 * 60),
        /// The refresh interval of a session with a refresh token if the provider does not say when its access token
        /// expires; and of a session at GitHub without one, whose user is then read from the API again.
        ///
        /// _Default:_ `1h`
        pub refresh_interval: Duration as AboveZero = Duration::from_secs(60 * 60),
        /// The maximum number of cookie sessions whose refresh is cached in this process, so that older copies of
        /// their cookies are rejected: about 64 bytes each. The session with the oldest refresh is evicted first.
        ///
        /// _Default:_ `1000000`
        pub max_generations: usize as AtLeastOne = 1_000_000,
        /// The maximum number of cookies over which a large session is chunked, from 1 to 5. Browsers accept 4 KB
        /// each, and proxies limit the total length of headers. For `store = "cookie"`.
        ///
        /// _Default:_ `3`
        pub max_cookies: usize as Between<1, 5> = 3,
        /// Where sessions are stored: `cookie`, encrypted in the browser; `memory`, in this process; `redis`, in
        /// Redis or Valkey for several nodes (cargo feature `redis`); `sql`, in SQLite for one machine (cargo feature
        /// `sqlite`) or PostgreSQL for several (cargo feature `postgres`). An app may provide its own with
        /// [`Oidc::session_store`](crate::Oidc::session_store), which takes precedence.
        ///
        /// _Default:_ `cookie`
        pub store: StoreKind = StoreKind::Cookie,
        /// The URL of Redis or Valkey: `redis://[user:password@]host[:port][/database]` for one server,
        /// `unix:///run/redis.sock[?db=1]` for its socket,
        /// `redis+sentinel://[user:password@]host[:port],host/master_name[/database]` for Sentinel, or
        /// `redis-cluster://[user:password@]host[:port],host` for a cluster; `rediss…` in place of `redis` for TLS, and
        /// `valkey…` or `valkeys…` likewise. Or the URL of the SQL database: `sqlite://sessions.db`, a file that is
        /// created on demand, relative to the working directory of the process (`sqlite:///var/lib/app/sessions.db` is
        /// absolute), or `postgres://[user[:password]@]host[:port]/database[?sslmode=verify-full]`. With
        /// `store = "cookie"` the sessions stay in the browser, and the store has only what nodes must share and a
        /// restart must not lose: which sessions have ended, and the locks of refreshes.
        ///
        /// _Default:_ none
        pub store_url: Option<Secret> = None,
        /// The user for the Sentinels of a `redis+sentinel://` URL, if they ask for one. The user and the password in
        /// `store_url` are for Redis itself.
        ///
        /// _Default:_ none
        pub sentinel_username: Option<String> as Option<Text> = None,
        /// The password for the Sentinels of a `redis+sentinel://` URL, if they ask for one.
        ///
        /// _Default:_ none
        pub sentinel_password: Option<Secret> = None,
        /// The maximum number of sessions in `store = "memory"`; the least recently used one is evicted first.
        ///
        /// _Default:_ `100000`
        pub max_sessions: usize as AtLeastOne = 100_000,
        /// The maximum number of simultaneous sessions per user; a further one ends the oldest. Not with
        /// `store = "cookie"`, which cannot count sessions. In memory there is a default limit: otherwise one account could
        /// fill the store, and evict the sessions of all other users.
        ///
        /// _Default:_ `100` with `store = "memory"`, else none
        pub max_per_user: Option<usize> as Option<AtLeastOne> = None,
        /// The maximum number of decrypted sessions that are cached while in use: `true` (10,000), `false` (no
        /// cache), or a number. Whether a cached session has expired or ended is still checked at each request. A
        /// session's claims stay in the memory of this process for as long, and five to ten minutes longer.
        ///
        /// _Default:_ `true`
        pub cache: CacheSize = CacheSize::Flag(true),
        /// The claims to keep in a session, by name. `iss`, `sub`, `aud`, `auth_time` and `sid` are always kept, for
        /// refresh and sign-out.
        ///
        /// _Default:_ all
        pub claims: Option<Vec<String>> as Option<Words> = None,
        /// The tokens to keep in a session: `access_token`, `refresh_token` and `id_token`. Without `refresh_token` a
        /// session is not refreshed; without `id_token` some providers ask the user to confirm a sign-out.
        ///
        /// _Default:_ all three
        pub tokens: Vec<KeptToken> as Words<KeptToken> = vec![KeptToken::AccessToken, KeptToken::RefreshToken, KeptToken::IdToken],
        /// Whether UserInfo is requested again at each refresh, for claims that change. A user of GitHub is always read
        /// from the API again.
        ///
        /// _Default:_ `false`
        pub refresh_user_info: bool = false,
    }
}

/// A token that a session keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum KeptToken {
    /// For calls to other APIs.
    AccessToken,
    /// Without it a session is not refreshed.
    RefreshToken,
    /// Without it some providers ask the user to confirm a sign-out.
    IdToken,
}

/// Where sessions are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum StoreKind {
    /// In the browser, encrypted.
    Cookie,
    /// In this process.
    Memory,
    /// In Redis or Valkey.
    Redis,
    /// In SQLite or PostgreSQL.
    Sql,
}

named!(KeptToken, StoreKind);

/// The kind of store at `session.store_url`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreUrl<'a> {
    Redis,
    /// With the path of the file.
    Sqlite(&'a str),
    Postgres,
}

impl StoreUrl<'_> {
    pub(crate) fn parse(url: &str) -> Option<StoreUrl<'_>> {
        let (scheme, rest) = url.split_once("://")?;
        match scheme {
            _ if RedisUrl::has_scheme(scheme) => Some(StoreUrl::Redis),
            "sqlite" => Some(StoreUrl::Sqlite(rest)),
            "postgres" | "postgresql" => Some(StoreUrl::Postgres),
            _ => None,
        }
    }
}

/// Claims that bind a token to its request, and say nothing about the user: never kept.
pub(crate) const REQUEST_CLAIMS: [&str; 3] = ["nonce", "at_hash", "c_hash"];
/// Claims that refresh and sign-out need: always kept.
const ALWAYS_KEPT: [&str; 5] = ["iss", "sub", "aud", "auth_time", "sid"];
/// Claims that are kept with `groups`: they say that it is absent because it did not fit into the token.
const GROUPS_OVERAGE: [&str; 2] = ["_claim_names", "hasgroups"];

impl SessionSettings {
    /// Whether sessions keep the claim of this name.
    pub(crate) fn keeps_claim(&self, name: &str) -> bool {
        let chosen = self.claims.as_deref();
        let name = if GROUPS_OVERAGE.contains(&name) { "groups" } else { name };
        !REQUEST_CLAIMS.contains(&name)
            && (ALWAYS_KEPT.contains(&name) || chosen.is_none_or(|chosen| chosen.iter().any(|claim| claim == name)))
    }
}

const SQL_URL: &str = "set `session.store_url` to `sqlite://sessions.db`, `postgres://user@host/database`, or the like";

/// The query parameters that the URL of a PostgreSQL may have.
const POSTGRES_PARAMETERS: [&str; 8] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "application_name",
    "options",
    "statement-cache-capacity",
];

impl Settings {
    /// Checks that `session.store_url` fits the store, and is supported by this build. It may contain a password: no
    /// error shows it.
    pub(super) fn check_store(&self) -> Result<(), Mistake> {
        let (store, url) = (self.session.store, self.session.store_url.as_ref());
        rule("session.store", store != StoreKind::Redis || url.is_some())
            .cause("`redis`, and the URL of Redis is missing")
            .remedy(REDIS_URL)?;
        rule("session.store", store != StoreKind::Sql || url.is_some())
            .cause("`sql`, and the URL of the database is missing")
            .remedy(SQL_URL)?;
        let redis = url.map(|url| RedisUrl::parse(url.expose()));
        let is_sentinel = matches!(&redis, Some(Ok(redis)) if matches!(redis.deployment, Deployment::Sentinel { .. }));
        for (key, is_set) in [
            ("session.sentinel_username", self.session.sentinel_username.is_some()),
            ("session.sentinel_password", self.session.sentinel_password.is_some()),
        ] {
            // A wrong URL of Sentinels has a mistake of its own.
            let may_be_sentinel = is_sentinel || url.is_some_and(|url| url.expose().contains("+sentinel://"));
            rule(key, !is_set || may_be_sentinel)
                .cause("it is set, and `session.store_url` is not the URL of Sentinels")
                .remedy("remove it, or set `session.store_url` to `redis+sentinel://host,host/master_name`")?;
        }
        let has_password = self.session.sentinel_password.is_some();
        rule(
            "session.sentinel_username",
            self.session.sentinel_username.is_none() || has_password,
        )
        .cause("it is set, and `session.sentinel_password` is missing")
        .remedy("set `session.sentinel_password`, or remove `session.sentinel_username`")?;
        let Some(url) = url.map(Secret::expose) else {
            return Ok(());
        };
        let (kind, parsed) = (StoreUrl::parse(url), Url::parse(url).ok());
        let rule = |is_met| rule("session.store_url", is_met);
        rule(store != StoreKind::Memory)
            .cause("a URL is set, and `session.store` is `memory`")
            .remedy("remove it, or set `session.store` to `redis`, `sql` or `cookie`")?;
        rule(store != StoreKind::Redis || kind == Some(StoreUrl::Redis))
            .cause("it is not the URL of a Redis server")
            .remedy(REDIS_URL)?;
        rule(store != StoreKind::Sql || !matches!(kind, None | Some(StoreUrl::Redis)))
            .cause("it is not the URL of a SQL database")
            .remedy(SQL_URL)?;
        rule(kind.is_some())
            .cause("it is the URL of neither a Redis server nor a SQL database")
            .remedy(
                "write a URL that begins with `redis://`, `redis+sentinel://`, `redis-cluster://`, `sqlite://`, `postgres://` or the like",
            )?;
        let (feature, is_enabled) = match kind {
            Some(StoreUrl::Sqlite(_)) => ("sqlite", cfg!(feature = "sqlite")),
            Some(StoreUrl::Postgres) => ("postgres", cfg!(feature = "postgres")),
            _ => ("redis", cfg!(feature = "redis")),
        };
        rule(is_enabled)
            .cause("this build of the app cannot use that store")
            .remedy(format!("turn on the cargo feature `{feature}` of rocket_openidconnect"))?;
        if let Some(StoreUrl::Sqlite(path)) = kind {
            let is_directory = path.is_empty() || path.ends_with('/');
            return rule(!is_directory && path != ":memory:" && !path.contains(['?', '#', '\0']))
                .cause("it is not `sqlite://` and the path of a file")
                .remedy("write for example `sqlite://sessions.db`, or `sqlite:///var/lib/app/sessions.db`");
        }
        if kind == Some(StoreUrl::Postgres) {
            rule(parsed.is_some())
                .cause("it is not the URL of a PostgreSQL database")
                .remedy(SQL_URL)?;
            // The PostgreSQL client would log unknown parameters, with their values.
            let mut names = parsed.iter().flat_map(|url| url.query_pairs().map(|(name, _)| name));
            return rule(names.all(|name| POSTGRES_PARAMETERS.contains(&&*name)))
                .cause("it has an unknown parameter")
                .remedy(format!("choose from {}", POSTGRES_PARAMETERS.join(", ")));
        }
        match redis {
            Some(Err(error)) => Err(Mistake::new(error.cause, error.remedy).at("session.store_url")),
            _ => Ok(()),
        }
    }
}
