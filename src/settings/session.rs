//! The table `oidc.session`: how long someone stays signed in, where that is kept, and how large it may be.

use std::time::Duration;

use serde::Deserialize;

use super::{CacheSize, value};
use crate::secret::Secret;

/// The settings of the table `oidc.session`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SessionSettings {
    /// How long a session lives without a request; seconds or a duration such as `"30m"`, at most
    /// `lifetime`.
    ///
    /// _Default:_ `1h`
    #[serde(deserialize_with = "value::duration")]
    pub idle: Duration,
    /// How long a session lives in all; seconds or a duration such as `"7d"`.
    ///
    /// _Default:_ `12h`
    #[serde(deserialize_with = "value::duration")]
    pub lifetime: Duration,
    /// The name of the session's cookie, before its prefix `__Host-` on https. Further chunks of a large
    /// session add `_1`, `_2`, …
    ///
    /// _Default:_ `oidc_session_` and eight hex digits that stand for issuer and client id, so that several
    /// apps on one host do not overwrite each other's cookies
    #[serde(deserialize_with = "value::optional::<_, value::CookieName, _>")]
    pub cookie: Option<String>,
    /// How long a session stays usable while a refresh that is due does not succeed because the provider
    /// is down; `0` is not at all. After that, guards answer 503 until a refresh succeeds.
    ///
    /// _Default:_ `4h`
    #[serde(deserialize_with = "value::duration")]
    pub refresh_grace: Duration,
    /// After how long a session with a refresh token is refreshed when the provider does not say when
    /// its access token expires.
    ///
    /// _Default:_ `1h`
    #[serde(deserialize_with = "value::duration")]
    pub refresh_interval: Duration,
    /// For how many sessions in cookies this process remembers that they were refreshed, so that older
    /// copies of their cookies are not accepted: about 64 bytes each. The session that was refreshed the
    /// longest ago is dropped first.
    ///
    /// _Default:_ `1000000`
    pub max_generations: usize,
    /// Over how many cookies a large session may be divided, from 1 to 5. Browsers take 4 KB each, and
    /// proxies limit the length of all headers. For `store = "cookie"`.
    ///
    /// _Default:_ `3`
    pub max_cookies: usize,
    /// Where sessions are: `cookie`, encrypted in the browser; `memory`, in this process; `redis`, in Redis
    /// or Valkey for several nodes (cargo feature `redis`); `sql`, in SQLite for one machine (cargo feature
    /// `sqlite`) or PostgreSQL for several (cargo feature `postgres`). An app may bring its own by
    /// [`Oidc::session_store`](crate::Oidc::session_store), which takes precedence.
    ///
    /// _Default:_ `cookie`
    #[serde(deserialize_with = "value::via::<_, value::StoreName, _>")]
    pub store: StoreKind,
    /// Where Redis is: `redis://[user:password@]host[:port][/database]`, or `rediss://…` for TLS; or the SQL
    /// database: `sqlite://sessions.db`, a file that is created on demand, relative to the working directory
    /// of the process (`sqlite:///var/lib/app/sessions.db` is absolute), or
    /// `postgres://[user[:password]@]host[:port]/database[?sslmode=verify-full]`. With `store = "cookie"` the
    /// sessions stay in the browser, and what nodes must tell each other and a restart must not lose is kept
    /// there: which sessions have ended, and who refreshes one.
    ///
    /// _Default:_ none
    #[serde(deserialize_with = "value::optional::<_, value::SecretText, _>")]
    pub url: Option<Secret>,
    /// How many sessions `store = "memory"` holds; the one that was not used for the longest time goes
    /// first.
    ///
    /// _Default:_ `100000`
    pub max_sessions: usize,
    /// How many sessions one person may have at a time; a further one ends the oldest. Not with
    /// `store = "cookie"`, which knows of no other session. In memory there is a limit unless this sets another:
    /// one account could fill it, and end the sessions of everybody else.
    ///
    /// _Default:_ `100` with `store = "memory"`, else none
    pub max_per_user: Option<usize>,
    /// How many sessions that were opened are remembered while they are in use, so that they are not opened
    /// and read anew at each request: `true` (10,000), `false`, or a number. Their times, and whether they
    /// have ended, are judged at each request. A session's claims are in the memory of this process for
    /// as long, and five to ten minutes longer.
    ///
    /// _Default:_ `true`
    pub cache: CacheSize,
    /// The claims to keep in a session, by name. `iss`, `sub`, `aud`, `auth_time` and `sid` are always
    /// kept: refresh and sign-out need them.
    ///
    /// _Default:_ all
    #[serde(deserialize_with = "value::optional::<_, value::Words, _>")]
    pub claims: Option<Vec<String>>,
    /// The tokens to keep in a session, of `access_token`, `refresh_token` and `id_token`. Without
    /// `refresh_token` a session is not refreshed; without `id_token` some providers ask the person before
    /// they sign out.
    ///
    /// _Default:_ all three
    #[serde(deserialize_with = "value::via::<_, value::Words, _>")]
    pub tokens: Vec<String>,
    /// Whether UserInfo is asked again at each refresh, for claims that change.
    ///
    /// _Default:_ `false`
    pub refresh_user_info: bool,
}

/// Where sessions are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// What `session.url` is the address of.
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

/// What `session.tokens` may name.
pub(super) const TOKENS: [&str; 3] = ["access_token", "refresh_token", "id_token"];

impl Default for SessionSettings {
    fn default() -> SessionSettings {
        SessionSettings {
            idle: Duration::from_secs(60 * 60),
            lifetime: Duration::from_secs(12 * 60 * 60),
            cookie: None,
            refresh_grace: Duration::from_secs(4 * 60 * 60),
            refresh_interval: Duration::from_secs(60 * 60),
            max_generations: 1_000_000,
            max_cookies: 3,
            store: StoreKind::Cookie,
            url: None,
            max_sessions: 100_000,
            max_per_user: None,
            cache: CacheSize::default(),
            claims: None,
            tokens: TOKENS.map(str::to_owned).to_vec(),
            refresh_user_info: false,
        }
    }
}
