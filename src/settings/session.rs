//! The table `oidc.session`: how long someone stays signed in, where that is kept, and how large it may be.

use std::time::Duration;

use serde::Deserialize;
use url::Url;

use super::{
    CacheSize, Settings, SettingsError,
    declaration::{named, settings},
    duration::AboveZero,
    value::{AtLeastOne, Between, CookieName, Words},
};
use crate::secret::Secret;

settings! {
    /// The settings of the table `oidc.session`.
    pub struct SessionSettings {
        /// How long a session lives without a request; seconds or a duration such as `"30m"`, at most
        /// `absolute_timeout`.
        ///
        /// _Default:_ `1h`
        pub idle_timeout: Duration as AboveZero = Duration::from_secs(60 * 60),
        /// How long a session lives in all; seconds or a duration such as `"7d"`.
        ///
        /// _Default:_ `12h`
        pub absolute_timeout: Duration as AboveZero = Duration::from_secs(12 * 60 * 60),
        /// The name of the session's cookie, before its prefix `__Host-` on https. Further chunks of a large
        /// session add `_1`, `_2`, … Two apps on one host need two names.
        ///
        /// _Default:_ `oidc_session_` and eight hex digits derived from issuer and client id
        pub cookie: Option<String> as Option<CookieName> = None,
        /// How long a session stays usable while a refresh that is due does not succeed because the provider
        /// is down; `0` is not at all. After that, guards answer 503 until a refresh succeeds.
        ///
        /// _Default:_ `4h`
        pub refresh_grace: Duration = Duration::from_secs(4 * 60 * 60),
        /// After how long a session with a refresh token is refreshed when the provider does not say when
        /// its access token expires.
        ///
        /// _Default:_ `1h`
        pub refresh_interval: Duration as AboveZero = Duration::from_secs(60 * 60),
        /// For how many sessions in cookies this process remembers that they were refreshed, so that older
        /// copies of their cookies are not accepted: about 64 bytes each. The session that was refreshed the
        /// longest ago is dropped first.
        ///
        /// _Default:_ `1000000`
        pub max_generations: usize as AtLeastOne = 1_000_000,
        /// Over how many cookies a large session may be divided, from 1 to 5. Browsers take 4 KB each, and
        /// proxies limit the length of all headers. For `store = "cookie"`.
        ///
        /// _Default:_ `3`
        pub max_cookies: usize as Between<1, 5> = 3,
        /// Where sessions are: `cookie`, encrypted in the browser; `memory`, in this process; `redis`, in Redis
        /// or Valkey for several nodes (cargo feature `redis`); `sql`, in SQLite for one machine (cargo feature
        /// `sqlite`) or PostgreSQL for several (cargo feature `postgres`). An app may bring its own by
        /// [`Oidc::session_store`](crate::Oidc::session_store), which takes precedence.
        ///
        /// _Default:_ `cookie`
        pub store: StoreKind = StoreKind::Cookie,
        /// Where Redis is: `redis://[user:password@]host[:port][/database]`, or `rediss://…` for TLS; or the SQL
        /// database: `sqlite://sessions.db`, a file that is created on demand, relative to the working directory
        /// of the process (`sqlite:///var/lib/app/sessions.db` is absolute), or
        /// `postgres://[user[:password]@]host[:port]/database[?sslmode=verify-full]`. With `store = "cookie"` the
        /// sessions stay in the browser, and what nodes must tell each other and a restart must not lose is kept
        /// there: which sessions have ended, and who refreshes one.
        ///
        /// _Default:_ none
        pub store_url: Option<Secret> = None,
        /// How many sessions `store = "memory"` holds; the one that was not used for the longest time goes
        /// first.
        ///
        /// _Default:_ `100000`
        pub max_sessions: usize as AtLeastOne = 100_000,
        /// How many sessions one person may have at a time; a further one ends the oldest. Not with
        /// `store = "cookie"`, which knows of no other session. In memory there is a limit unless this sets another:
        /// one account could fill it, and end the sessions of everybody else.
        ///
        /// _Default:_ `100` with `store = "memory"`, else none
        pub max_per_user: Option<usize> as Option<AtLeastOne> = None,
        /// How many sessions that were opened are remembered while they are in use, so that they are not opened
        /// and read anew at each request: `true` (10,000), `false`, or a number. Their times, and whether they
        /// have ended, are judged at each request. A session's claims are in the memory of this process for
        /// as long, and five to ten minutes longer.
        ///
        /// _Default:_ `true`
        pub cache: CacheSize = CacheSize::Flag(true),
        /// The claims to keep in a session, by name. `iss`, `sub`, `aud`, `auth_time` and `sid` are always
        /// kept: refresh and sign-out need them.
        ///
        /// _Default:_ all
        pub claims: Option<Vec<String>> as Option<Words> = None,
        /// The tokens to keep in a session, of `access_token`, `refresh_token` and `id_token`. Without
        /// `refresh_token` a session is not refreshed; without `id_token` some providers ask the person before
        /// they sign out.
        ///
        /// _Default:_ all three
        pub tokens: Vec<KeptToken> as Words<KeptToken> = vec![KeptToken::AccessToken, KeptToken::RefreshToken, KeptToken::IdToken],
        /// Whether UserInfo is asked again at each refresh, for claims that change.
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
    /// Without it some providers ask the person before they sign out.
    IdToken,
}

/// Where sessions are.
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

/// What `session.store_url` is the address of.
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
            "redis" | "rediss" => Some(StoreUrl::Redis),
            "sqlite" => Some(StoreUrl::Sqlite(rest)),
            "postgres" | "postgresql" => Some(StoreUrl::Postgres),
            _ => None,
        }
    }
}

const REDIS_URL: &str = "set `session.store_url` to `redis://host:6379`, or the like";
const SQL_URL: &str = "set `session.store_url` to `sqlite://sessions.db`, `postgres://user@host/database`, or the like";

/// What may follow `?` in the address of a PostgreSQL.
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
    pub(super) fn check_store(&self) -> Result<(), SettingsError> {
        let store = self.session.store;
        let Some(url) = &self.session.store_url else {
            let (cause, remedy) = match store {
                StoreKind::Redis => ("`redis`, and the address of Redis is missing", REDIS_URL),
                StoreKind::Sql => ("`sql`, and the address of the database is missing", SQL_URL),
                StoreKind::Cookie | StoreKind::Memory => return Ok(()),
            };
            return Err(self.error("session.store", cause, remedy));
        };
        check_store_url(store, url.expose())
            .map_err(|(cause, remedy)| self.error("session.store_url", cause, remedy))
    }
}

/// Whether an address fits the store, and can be used by this build. It may hold a password: the error, a cause and a
/// remedy, does not show it.
fn check_store_url(store: StoreKind, url: &str) -> Result<(), (&'static str, String)> {
    let refuse = |cause, remedy: &str| Err((cause, remedy.to_owned()));
    match (store, StoreUrl::parse(url)) {
        (StoreKind::Memory, _) => refuse(
            "an address, and `session.store` is `memory`",
            "remove it, or set `session.store` to `redis`, `sql` or `cookie`",
        ),
        (StoreKind::Redis | StoreKind::Cookie, Some(StoreUrl::Redis)) => {
            check_feature(cfg!(feature = "redis"), "redis")?;
            match Url::parse(url) {
                // The Redis client's word for "whatever certificate it shows".
                Ok(url) if url.fragment().is_some() => refuse(
                    "it ends in a fragment, such as `#insecure`",
                    "remove it; have this machine trust the server's certificate, on Linux by `SSL_CERT_FILE`",
                ),
                Ok(url) if url.has_host() => Ok(()),
                _ => refuse("it is not the address of a Redis", REDIS_URL),
            }
        }
        (StoreKind::Sql | StoreKind::Cookie, Some(StoreUrl::Sqlite(path))) => {
            check_feature(cfg!(feature = "sqlite"), "sqlite")?;
            let is_other = path.ends_with('/') || path.contains(['?', '#', '\0']);
            match path.is_empty() || path == ":memory:" || is_other {
                true => refuse(
                    "it is not `sqlite://` and the path of a file",
                    "write for example `sqlite://sessions.db`, or `sqlite:///var/lib/app/sessions.db`",
                ),
                false => Ok(()),
            }
        }
        (StoreKind::Sql | StoreKind::Cookie, Some(StoreUrl::Postgres)) => {
            check_feature(cfg!(feature = "postgres"), "postgres")?;
            let Ok(url) = Url::parse(url) else {
                return refuse("it is not the address of a PostgreSQL", SQL_URL);
            };
            // The PostgreSQL client would log others, with their values.
            let mut names = url.query_pairs();
            match names.all(|(name, _)| POSTGRES_PARAMETERS.contains(&&*name)) {
                true => Ok(()),
                false => {
                    let remedy = format!("choose from {}", POSTGRES_PARAMETERS.join(", "));
                    Err(("it has an unknown parameter", remedy))
                }
            }
        }
        (StoreKind::Redis, _) => refuse("it is not the address of a Redis", REDIS_URL),
        (StoreKind::Sql, _) => refuse("it is not the address of a SQL database", SQL_URL),
        (StoreKind::Cookie, None) => refuse(
            "it is the address of neither a Redis nor a SQL database",
            "write an address that begins with `redis://`, `rediss://`, `sqlite://` or `postgres://`",
        ),
    }
}

fn check_feature(is_enabled: bool, name: &str) -> Result<(), (&'static str, String)> {
    let remedy = format!("turn on the cargo feature `{name}` of rocket_openidconnect");
    match is_enabled {
        true => Ok(()),
        false => Err(("this build of the app cannot use that store", remedy)),
    }
}
