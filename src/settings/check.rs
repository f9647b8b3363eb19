//! Checks of single values that need to know nothing of the launch.

use std::{collections::HashSet, time::Duration};

use serde_json::Value;
use url::Url;

use super::{
    InsecureHttpHosts, Settings, SettingsError, StoreKind, TrustedProxies,
    session::{StoreUrl, TOKENS},
    stray_characters::{has_control, trimmed},
    value::is_https_or_loopback,
};
use crate::keys::SecretKey;

/// What `max_state_length` may be: room for an encrypted attempt, and what providers and proxies take.
const STATE_LENGTH: std::ops::RangeInclusive<usize> = 200..=4_000;

const SIGNING_ALGORITHMS: [&str; 11] = [
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
    "HS256",
];

/// What `clear_site_data` may name (Clear Site Data §3.1, and what Chromium and HTML have added).
pub(crate) const CLEAR_SITE_DATA: [&str; 8] = [
    "cache",
    "cookies",
    "storage",
    "executionContexts",
    "prefetchCache",
    "prerenderCache",
    "clientHints",
    "*",
];

/// What an authorization request carries from elsewhere.
const RESERVED_PARAMETERS: [&str; 14] = [
    "client_id",
    "response_type",
    "redirect_uri",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "request",
    "request_uri",
    "response_mode",
    // How a client authenticates where the request is pushed.
    "client_secret",
    "client_assertion",
    "client_assertion_type",
];

const REDIS_URL: &str = "set `session.url` to `redis://host:6379`, or the like";
const SQL_URL: &str =
    "set `session.url` to `sqlite://sessions.db`, `postgres://user@host/database`, or the like";

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
    /// Checks every value by itself, whether it was read or set by the app.
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        self.check_scopes()?;
        self.check_mount()?;
        self.check_durations()?;
        self.check_sign_in()?;
        self.check_session()?;
        self.check_algorithms()?;
        self.check_parameters()?;
        self.check_post_logout_redirect_uri()?;
        self.check_clear_site_data()?;
        self.check_users()?;
        self.check_credentials()?;
        self.check_insecure_http_hosts()?;
        self.check_resource_server()?;
        if let Some(issuer) = &self.issuer {
            self.check_issuer("issuer", issuer)?;
        }
        if let Some(url) = &self.server_metadata_url {
            self.check_endpoint("server_metadata_url", url)?;
        }
        Ok(())
    }

    fn check_scopes(&self) -> Result<(), SettingsError> {
        // OpenID Connect Core §3.1.2.1: without `openid` it is not an OpenID request.
        let needed = self.enabled && !self.resource_server_only;
        if needed && !self.scopes.iter().any(|scope| scope == "openid") {
            let found = self.scopes.join(" ");
            return Err(self.error(
                "scopes",
                format!("the scope `openid` is missing, found {found:?}"),
                "add `openid` to `scopes`, for example `scopes = \"openid email\"`",
            ));
        }
        // RFC 6749 §3.3: scope-token = 1*( %x21 / %x23-5B / %x5D-7E )
        let allowed = |c: char| matches!(c, '!' | '#'..='[' | ']'..='~');
        match self.scopes.iter().find(|scope| !scope.chars().all(allowed)) {
            Some(scope) => Err(self.error(
                "scopes",
                format!("{scope:?} is not a scope"),
                "write scopes in printable ASCII, without quotes and backslashes",
            )),
            None => Ok(()),
        }
    }

    pub(super) fn check_mount(&self) -> Result<(), SettingsError> {
        let plain = |segment: &str| {
            !matches!(segment, "" | "." | "..")
                && segment
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '~' | '-'))
        };
        let valid = self.mount == "/"
            || self
                .mount
                .strip_prefix('/')
                .is_some_and(|path| path.split('/').all(plain));
        match valid {
            true => Ok(()),
            false => Err(self.error(
                "mount",
                format!("{:?} is not a path to mount at", self.mount),
                "write a path such as `/oidc`: it starts with `/`, does not end with one, and is made \
                 of letters, digits and `.`, `_`, `~`, `-`",
            )),
        }
    }

    fn check_insecure_http_hosts(&self) -> Result<(), SettingsError> {
        match InsecureHttpHosts::parse(&self.insecure_http_hosts) {
            Ok(_) => Ok(()),
            Err(text) => Err(self.error(
                "insecure_http_hosts",
                format!("{text:?} is not a host"),
                "list exact names or addresses, without scheme, port and path, such as `keycloak`",
            )),
        }
    }

    fn check_durations(&self) -> Result<(), SettingsError> {
        for (key, duration) in [
            ("session.idle", self.session.idle),
            ("session.lifetime", self.session.lifetime),
            ("session.refresh_interval", self.session.refresh_interval),
            ("sign_in_timeout", self.sign_in_timeout),
            ("http.connect_timeout", self.http.connect_timeout),
            ("http.timeout", self.http.timeout),
        ] {
            if duration == Duration::ZERO {
                let remedy = format!("set `{key}` to a longer duration");
                return Err(self.error(key, "the duration is zero", remedy));
            }
        }
        let (idle, lifetime) = (self.session.idle, self.session.lifetime);
        if idle > lifetime {
            let cause = format!("{idle:?} is longer than `oidc.session.lifetime`, {lifetime:?}");
            let remedy = "set `session.idle` to at most `session.lifetime`";
            return Err(self.error("session.idle", cause, remedy));
        }
        if self.http.max_body == 0 {
            let remedy = "set `http.max_body` to a number of bytes, such as 262144";
            return Err(self.error("http.max_body", "no reply has zero bytes", remedy));
        }
        Ok(())
    }

    fn check_sign_in(&self) -> Result<(), SettingsError> {
        let range = STATE_LENGTH;
        if !range.contains(&self.max_state_length) {
            let (shortest, longest) = (range.start(), range.end());
            let cause = format!(
                "expected {shortest} to {longest}, found {}",
                self.max_state_length
            );
            let remedy = format!("set `max_state_length` to a number from {shortest} to {longest}");
            return Err(self.error("max_state_length", cause, remedy));
        }
        if let Err(text) = TrustedProxies::parse(&self.trusted_proxies) {
            let cause = format!("{text:?} is neither an address nor a prefix");
            let remedy = "list addresses or CIDR prefixes, such as `10.0.0.0/8` or `::1`";
            return Err(self.error("trusted_proxies", cause, remedy));
        }
        for key in &self.previous_secret_keys {
            if let Err(error) = SecretKey::parse(key.expose()) {
                let remedy = "list former values of `secret_key`, each as it was set";
                return Err(self.error("previous_secret_keys", error.cause(), remedy));
            }
        }
        Ok(())
    }

    fn check_session(&self) -> Result<(), SettingsError> {
        let cookies = self.session.max_cookies;
        if !(1..=5).contains(&cookies) {
            let cause = format!("expected 1 to 5, found {cookies}");
            let remedy = "set `session.max_cookies` to a number from 1 to 5";
            return Err(self.error("session.max_cookies", cause, remedy));
        }
        if self.session.max_generations == 0 {
            let remedy = "set `session.max_generations` to a number above zero";
            let cause = "no refresh would be remembered";
            return Err(self.error("session.max_generations", cause, remedy));
        }
        if self.session.max_sessions == 0 {
            let remedy = "set `session.max_sessions` to a number above zero";
            return Err(self.error("session.max_sessions", "no session would be kept", remedy));
        }
        if self.session.max_per_user == Some(0) {
            let remedy = "set `session.max_per_user` to a number above zero, or remove it";
            return Err(self.error("session.max_per_user", "nobody could sign in", remedy));
        }
        let tokens = &self.session.tokens;
        if let Some(token) = tokens
            .iter()
            .find(|token| !TOKENS.contains(&token.as_str()))
        {
            let remedy = format!("choose from {}", TOKENS.join(", "));
            let cause = format!("there is no token {token:?}");
            return Err(self.error("session.tokens", cause, remedy));
        }
        self.check_store()
    }

    fn check_store(&self) -> Result<(), SettingsError> {
        let (store, url) = (self.session.store, self.session.url.as_ref());
        let missing = |cause, remedy| Err(self.error("session.store", cause, remedy));
        let url = match (store, url) {
            (StoreKind::Redis, None) => {
                let cause = "`redis`, and the address of Redis is missing";
                return missing(cause, REDIS_URL);
            }
            (StoreKind::Sql, None) => {
                let cause = "`sql`, and the address of the database is missing";
                return missing(cause, SQL_URL);
            }
            (StoreKind::Memory, Some(_)) => {
                let cause = "an address, and `session.store` is `memory`";
                let remedy = "remove it, or set `session.store` to `redis`, `sql` or `cookie`";
                return Err(self.error("session.url", cause, remedy));
            }
            (_, None) => return Ok(()),
            (_, Some(url)) => url.expose(),
        };
        // The address may hold a password, so it is not shown.
        let refuse = |cause, remedy| Err(self.error("session.url", cause, remedy));
        match (store, StoreUrl::parse(url)) {
            (StoreKind::Redis | StoreKind::Cookie, Some(StoreUrl::Redis)) => self.check_redis(url),
            (StoreKind::Sql | StoreKind::Cookie, Some(StoreUrl::Sqlite(path))) => {
                self.check_sqlite(path)
            }
            (StoreKind::Sql | StoreKind::Cookie, Some(StoreUrl::Postgres)) => {
                self.check_postgres(url)
            }
            (StoreKind::Redis, _) => refuse("it is not the address of a Redis", REDIS_URL),
            (StoreKind::Sql, _) => refuse("it is not the address of a SQL database", SQL_URL),
            _ => refuse(
                "it is the address of neither a Redis nor a SQL database",
                "write an address that begins with `redis://`, `rediss://`, `sqlite://` or `postgres://`",
            ),
        }
    }

    fn check_redis(&self, url: &str) -> Result<(), SettingsError> {
        self.check_feature(
            cfg!(feature = "redis"),
            "this build of the app cannot use Redis",
            "turn on the cargo feature `redis` of rocket_openidconnect",
        )?;
        match Url::parse(url) {
            // The Redis client's word for "whatever certificate it shows".
            Ok(url) if url.fragment().is_some() => Err(self.error(
                "session.url",
                "it ends in a fragment, such as `#insecure`",
                "remove it; have this machine trust the server's certificate, on Linux by `SSL_CERT_FILE`",
            )),
            Ok(url) if url.has_host() => Ok(()),
            _ => Err(self.error("session.url", "it is not the address of a Redis", REDIS_URL)),
        }
    }

    fn check_sqlite(&self, path: &str) -> Result<(), SettingsError> {
        self.check_feature(
            cfg!(feature = "sqlite"),
            "this build of the app cannot use SQLite",
            "turn on the cargo feature `sqlite` of rocket_openidconnect",
        )?;
        if path.is_empty()
            || path == ":memory:"
            || path.ends_with('/')
            || path.contains(['?', '#', '\0'])
        {
            return Err(self.error(
                "session.url",
                "it is not `sqlite://` and the path of a file",
                "write for example `sqlite://sessions.db`, or `sqlite:///var/lib/app/sessions.db`",
            ));
        }
        Ok(())
    }

    fn check_postgres(&self, url: &str) -> Result<(), SettingsError> {
        self.check_feature(
            cfg!(feature = "postgres"),
            "this build of the app cannot use PostgreSQL",
            "turn on the cargo feature `postgres` of rocket_openidconnect",
        )?;
        let Ok(url) = Url::parse(url) else {
            let cause = "it is not the address of a PostgreSQL";
            return Err(self.error("session.url", cause, SQL_URL));
        };
        // The PostgreSQL client would log others, with their values.
        let unknown = url
            .query_pairs()
            .find(|(key, _)| !POSTGRES_PARAMETERS.contains(&&**key));
        match unknown {
            Some(_) => Err(self.error(
                "session.url",
                "it has an unknown parameter",
                format!("choose from {}", POSTGRES_PARAMETERS.join(", ")),
            )),
            None => Ok(()),
        }
    }

    fn check_feature(
        &self,
        is_enabled: bool,
        cause: &'static str,
        remedy: &'static str,
    ) -> Result<(), SettingsError> {
        match is_enabled {
            true => Ok(()),
            false => Err(self.error("session.url", cause, remedy)),
        }
    }

    fn check_algorithms(&self) -> Result<(), SettingsError> {
        let Some(algorithms) = &self.id_token_signing_algs else {
            return Ok(());
        };
        let unknown = algorithms
            .iter()
            .find(|name| !SIGNING_ALGORITHMS.contains(&name.as_str()));
        let cause = match unknown {
            Some(name) => format!("{name:?} is not a signing algorithm that is accepted"),
            None if algorithms.is_empty() => "no signing algorithm is left".to_owned(),
            None => return Ok(()),
        };
        let known = SIGNING_ALGORITHMS.join(", ");
        let remedy = format!("choose from {known}, or remove `id_token_signing_algs`");
        Err(self.error("id_token_signing_algs", cause, remedy))
    }

    fn check_parameters(&self) -> Result<(), SettingsError> {
        for (name, value) in &self.extra_authorization_parameters {
            let key = format!("extra_authorization_parameters.{name}");
            if is_reserved(name) {
                let cause = format!("`{name}` is set by the sign-in itself");
                return Err(self.error(&key, cause, format!("remove `{name}`")));
            }
            let Some(text) = parameter(value) else {
                return Err(self.error(
                    &key,
                    "expected a string, a number, a boolean or a list of strings",
                    format!("write `{name}` as one of these"),
                ));
            };
            if name == "max_age" && text.parse::<u32>().is_err() {
                let cause = format!("expected seconds as a whole number, found {text:?}");
                return Err(self.error(&key, cause, "write for example `max_age = 3600`"));
            }
        }
        Ok(())
    }

    fn check_post_logout_redirect_uri(&self) -> Result<(), SettingsError> {
        let Some(text) = &self.post_logout_redirect_uri else {
            return Ok(());
        };
        let plain = !text.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\');
        let local = text.starts_with('/') && !text.starts_with("//");
        let absolute = || Url::parse(text).is_ok_and(|url| is_https_or_loopback(&url));
        match plain && (local || absolute()) {
            true => Ok(()),
            false => Err(self.error(
                "post_logout_redirect_uri",
                format!("{text:?} is neither a local path nor an https URL"),
                "write a path such as `/goodbye`, or an absolute URL with `https`",
            )),
        }
    }

    fn check_clear_site_data(&self) -> Result<(), SettingsError> {
        let mut types = self.clear_site_data.iter();
        match types.find(|name| !CLEAR_SITE_DATA.contains(&name.as_str())) {
            Some(name) => Err(self.error(
                "clear_site_data",
                format!("there is no type {name:?} of `Clear-Site-Data`"),
                format!("choose from {}", CLEAR_SITE_DATA.join(", ")),
            )),
            None => Ok(()),
        }
    }

    fn check_users(&self) -> Result<(), SettingsError> {
        let subject = |claims: &serde_json::Map<String, Value>| match claims.get("sub") {
            Some(Value::String(sub)) if !sub.is_empty() => Some(sub.clone()),
            _ => None,
        };
        if !self.testing_profile.is_empty() && subject(&self.testing_profile).is_none() {
            return Err(self.error(
                "testing_profile",
                "`sub` is missing, empty or not a string",
                "add `sub`, for example `testing_profile = { sub = \"alice\" }`",
            ));
        }
        let Some(dev_provider) = &self.dev_provider else {
            return Ok(());
        };
        let mut subjects = HashSet::new();
        for (index, user) in dev_provider.users.iter().enumerate() {
            let cause = match subject(user) {
                None => format!("user {} has no `sub`", index + 1),
                Some(sub) if !subjects.insert(sub.clone()) => {
                    format!("two users have `sub` {sub:?}")
                }
                Some(_) => continue,
            };
            let remedy = "give every user a `sub` of its own, a string";
            return Err(self.error("dev_provider.users", cause, remedy));
        }
        match subjects.is_empty() {
            true => Err(self.error(
                "dev_provider.users",
                "there is no user",
                "add a user, for example `{ sub = \"alice\" }`, or remove `users`",
            )),
            false => Ok(()),
        }
    }

    /// What files and variables give is trimmed by now; this is what an app sets in its code.
    fn check_credentials(&self) -> Result<(), SettingsError> {
        let secret = self.client_secret.as_ref();
        for (key, text) in [
            ("client_id", self.client_id.as_deref()),
            ("client_secret", secret.map(|secret| secret.expose())),
            ("private_key_id", self.private_key_id.as_deref()),
        ] {
            if text.is_some_and(|text| trimmed(text) != text || has_control(text)) {
                return Err(self.error(
                    key,
                    "white space or another invisible character is around the value or in it",
                    format!("set `{key}` to the value alone"),
                ));
            }
        }
        Ok(())
    }

    /// OpenID Connect Discovery §3: an `https` URL without query and fragment. `http` on loopback too.
    pub(super) fn check_issuer(&self, key: &str, issuer: &str) -> Result<(), SettingsError> {
        let remedy = "write the issuer exactly as the provider's metadata has it, such as \
                      `https://accounts.example.com`";
        if issuer.contains('@') {
            return Err(self.error(key, "an issuer with an `@` is not accepted", remedy));
        }
        let url = match Url::parse(issuer) {
            Ok(url) if issuer.starts_with(&format!("{}://", url.scheme())) => url,
            _ => return Err(self.error(key, format!("{issuer:?} is not an absolute URL"), remedy)),
        };
        let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#' | '\\');
        if issuer.contains(odd) {
            let cause = format!("the issuer {issuer:?} has a query, a fragment or a space");
            return Err(self.error(key, cause, remedy));
        }
        if let Some(meant) = issuer_of_metadata(issuer) {
            let cause =
                format!("`{issuer}` is the address of the provider's metadata, not the issuer");
            let remedy = format!("write `{meant}`");
            return Err(self.error(key, cause, remedy));
        }
        self.check_endpoint(key, &url)
    }

    /// Everything is asked over `https`, on loopback, or of a host in `insecure_http_hosts`.
    pub(super) fn check_endpoint(&self, key: &str, url: &Url) -> Result<(), SettingsError> {
        let is_http = url.scheme() == "http";
        if is_https_or_loopback(url) || (is_http && self.insecure_hosts().has(url)) {
            return Ok(());
        }
        let cause = format!("`{url}` is neither `https` nor on loopback");
        let remedy = match url.host_str().filter(|_| is_http) {
            Some(host) => format!(
                "write an address with `https`; in a closed network, list `{host}` in `insecure_http_hosts`"
            ),
            None => "write an address with `https`".to_owned(),
        };
        Err(self.error(key, cause, remedy))
    }
}

/// The issuer whose metadata is at this address, if it is the address of metadata: by OpenID Connect Discovery §4, or
/// by RFC 8414 §3.1, where the issuer's path comes last.
fn issuer_of_metadata(url: &str) -> Option<String> {
    let names = ["openid-configuration", "oauth-authorization-server"];
    names.into_iter().find_map(|name| {
        let (before, after) = url.split_once(&format!("/.well-known/{name}"))?;
        let is_whole = after.is_empty() || after.starts_with('/');
        is_whole.then(|| format!("{before}{}", after.trim_end_matches('/')))
    })
}

/// Whether the sign-in itself sets this parameter. Providers read names in their ways: ASP.NET ignores their case,
/// and to PHP a dot is an underscore.
pub(crate) fn is_reserved(name: &str) -> bool {
    let name = name.replace('.', "_");
    let mut reserved = RESERVED_PARAMETERS.iter();
    reserved.any(|reserved| name.eq_ignore_ascii_case(reserved))
}

/// A parameter's value as text.
pub(super) fn parameter(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Array(list) => {
            let words: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
            Some(words?.join(" "))
        }
        Value::Null | Value::Object(_) => None,
    }
}
