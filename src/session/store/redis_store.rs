//! A session store in Redis or Valkey, for several nodes of an app.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use redis::{
    Client, Cmd, ConnectionAddr, ExistenceCheck, FromRedisValue, Pipeline, RedisError, SetExpiry, SetOptions,
    aio::{ConnectionManager, ConnectionManagerConfig},
    cmd, pipe,
};
use rocket::futures::future::try_join_all;

use super::{SessionStore, StoreError, StoredSession};
use crate::secret::Secret;

/// The timeout of a command; then the store counts as unreachable.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
/// The timeout of connecting.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(2);

/// The prefixes of all keys.
const SESSION: &str = "oidc:session:";
const INDEX: &str = "oidc:index:";
const ENTRY: &str = "oidc:entry:";

/// Compare-and-set of a session by its version.
const REPLACE: &str = "\
if redis.call('HGET', KEYS[1], 'version') ~= ARGV[1] then return 0 end \
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'value', ARGV[3]) \
redis.call('PEXPIRE', KEYS[1], ARGV[4]) \
return 1";

/// Stores an end, unless an entry other than the known one exists. Idempotent.
const PUT_END_IF_UNCHANGED: &str = "\
local existing = redis.call('GET', KEYS[1]) \
if existing and existing ~= ARGV[1] and existing ~= ARGV[3] then return 0 end \
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) \
return 1";

/// Stores a number, unless an equal or larger one exists.
const PUT_IF_LARGER: &str = "\
local existing = tonumber(redis.call('GET', KEYS[1])) \
if existing and existing >= tonumber(ARGV[1]) then return 0 end \
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) \
return 1";

/// Reads an entry with its remaining TTL in milliseconds, atomically: between two commands it could be replaced.
const ENTRY_WITH_TTL: &str = "\
local value = redis.call('GET', KEYS[1]) \
if not value then return false end \
return {value, redis.call('PTTL', KEYS[1])}";

/// Removes an entry if it has this value.
const UNLOCK: &str = "\
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end \
return 0";

/// A [`SessionStore`] in Redis 7 or later, or Valkey (cargo feature `redis`). It connects on first use, and reconnects
/// when the connection is lost.
///
/// Each session is one key with the session's TTL; the sessions of an index key are in a sorted set, by their end. A
/// reader of Redis learns how many sessions there are and when they are used, but not whose they are. A writer can end
/// sessions and restore an older state of one, but cannot create one.
///
/// `rediss://` connects with TLS. The system must trust the server's certificate, as for requests to the provider; on
/// Linux, `SSL_CERT_FILE` sets other trusted certificates.
pub struct RedisStore {
    client: Client,
    connection: OnceLock<ConnectionManager>,
}

impl RedisStore {
    /// A store at the URL of the setting `session.store_url`.
    ///
    /// # Errors
    ///
    /// If the URL is not one of Redis. It does not connect yet.
    pub fn new(url: &Secret) -> Result<RedisStore, StoreError> {
        // The error would contain the URL, which may contain a password.
        let client =
            Client::open(url.expose()).map_err(|_| StoreError::new("`session.store_url` is not a valid Redis URL"))?;
        if let ConnectionAddr::TcpTls { .. } = client.get_connection_info().addr() {
            install_crypto_provider();
        }
        Ok(RedisStore {
            client,
            connection: OnceLock::new(),
        })
    }

    /// The connection, created on first use, because it belongs to the async runtime that creates it.
    fn connection(&self) -> Result<ConnectionManager, StoreError> {
        if let Some(connection) = self.connection.get() {
            return Ok(connection.clone());
        }
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(1)
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            .set_connection_timeout(Some(CONNECTION_TIMEOUT));
        let manager = ConnectionManager::new_lazy_with_config(self.client.clone(), config);
        let manager = manager.map_err(|error| store_error(&error))?;
        Ok(self.connection.get_or_init(|| manager).clone())
    }

    /// Runs an idempotent command: retries it once if the connection was lost.
    async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        let mut connection = self.connection()?;
        match command.query_async(&mut connection).await {
            Err(error) if error.is_connection_dropped() => self.query_once(command).await,
            result => result.map_err(|error| store_error(&error)),
        }
    }

    async fn query_once<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        let mut connection = self.connection()?;
        let result = command.query_async(&mut connection).await;
        result.map_err(|error| store_error(&error))
    }

    async fn run(&self, commands: &Pipeline) -> Result<(), StoreError> {
        if commands.is_empty() {
            return Ok(());
        }
        let mut connection = self.connection()?;
        let done = match commands.exec_async(&mut connection).await {
            Err(error) if error.is_connection_dropped() => commands.exec_async(&mut connection).await,
            done => done,
        };
        done.map_err(|error| store_error(&error))
    }
}

#[rocket::async_trait]
impl SessionStore for RedisStore {
    async fn create(&self, session: &StoredSession, ttl: Duration) -> Result<(), StoreError> {
        let key = format!("{SESSION}{}", session.id);
        let mut commands = pipe();
        let fields = [("value", &session.value), ("index_keys", &session.index_keys.join(" "))];
        // Atomic: a session without a TTL would never expire.
        commands
            .atomic()
            .cmd("HSET")
            .arg(&key)
            .arg("version")
            .arg(session.version)
            .arg(&fields);
        commands.pexpire(&key, milliseconds(ttl).cast_signed());
        add_to_index(&mut commands, session, ttl);
        self.run(&commands).await
    }

    async fn load(&self, id: &str) -> Result<Option<Arc<StoredSession>>, StoreError> {
        let command = Cmd::hmget(format!("{SESSION}{id}"), &["version", "value", "index_keys"]);
        let (version, value, index_keys): (Option<u64>, Option<String>, Option<String>) = self.query(&command).await?;
        let (Some(version), Some(value)) = (version, value) else {
            return Ok(None);
        };
        let index_keys = index_keys.unwrap_or_default();
        let index_keys = index_keys.split_whitespace().map(str::to_owned).collect();
        Ok(Some(Arc::new(StoredSession::new(id, version, value, index_keys))))
    }

    async fn replace(&self, session: &StoredSession, ttl: Duration) -> Result<bool, StoreError> {
        let mut command = eval(REPLACE, format!("{SESSION}{}", session.id));
        command.arg(session.version.saturating_sub(1)).arg(session.version);
        command.arg(&session.value).arg(milliseconds(ttl));
        if !self.query::<bool>(&command).await? {
            return Ok(false);
        }
        let mut commands = pipe();
        add_to_index(&mut commands, session, ttl);
        self.run(&commands).await?;
        Ok(true)
    }

    async fn remove(&self, id: &str) -> Result<bool, StoreError> {
        let Some(session) = self.load(id).await? else {
            return Ok(false);
        };
        let is_removed = self.query::<bool>(&Cmd::del(format!("{SESSION}{id}"))).await?;
        let mut commands = pipe();
        for index_key in &session.index_keys {
            commands.zrem(format!("{INDEX}{index_key}"), id);
        }
        // An id that remains in the index does no harm: `load` finds no session, and the next session with its index
        // key removes it after its expiry.
        if let Err(error) = self.run(&commands).await {
            tracing::debug!("{error}");
        }
        Ok(is_removed)
    }

    async fn ids_by_index_key(&self, index_key: &str) -> Result<Vec<String>, StoreError> {
        let mut command = cmd("ZRANGE");
        command.arg(format!("{INDEX}{index_key}")).arg(format!("({}", now()));
        self.query(command.arg("+inf").arg("BYSCORE")).await
    }

    async fn put_entry(&self, name: &str, value: &str, ttl: Duration) -> Result<(), StoreError> {
        let options = SetOptions::default().with_expiration(SetExpiry::PX(milliseconds(ttl)));
        let command = Cmd::set_options(format!("{ENTRY}{name}"), value, options);
        self.query(&command).await
    }

    async fn put_end_if_unchanged(
        &self,
        name: &str,
        known: Option<&str>,
        value: &str,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        let mut command = eval(PUT_END_IF_UNCHANGED, format!("{ENTRY}{name}"));
        // Without `known` there is no third argument, and no entry equals it.
        self.query(command.arg(value).arg(milliseconds(ttl)).arg(known)).await
    }

    async fn lock(&self, name: &str, value: &str, ttl: Duration) -> Result<bool, StoreError> {
        let options = SetOptions::default().with_expiration(SetExpiry::PX(milliseconds(ttl)));
        let options = options.conditional_set(ExistenceCheck::NX);
        let command = Cmd::set_options(format!("{ENTRY}{name}"), value, options);
        // No retry: it would find its own lock.
        let locked: Option<String> = self.query_once(&command).await?;
        Ok(locked.is_some())
    }

    async fn put_entry_if_larger(&self, name: &str, number: u64, ttl: Duration) -> Result<bool, StoreError> {
        let mut command = eval(PUT_IF_LARGER, format!("{ENTRY}{name}"));
        // A retry may report that the number exists already, which is as good.
        self.query(command.arg(number).arg(milliseconds(ttl))).await
    }

    async fn entries(&self, names: &[&str]) -> Result<Vec<Option<String>>, StoreError> {
        let keys: Vec<_> = names.iter().map(|name| format!("{ENTRY}{name}")).collect();
        self.query(&Cmd::mget(keys)).await
    }

    async fn entries_with_ttl(&self, names: &[&str]) -> Result<Vec<Option<(String, Duration)>>, StoreError> {
        // Pipelined over one connection, with one command per name, so that it works in a cluster.
        let entries = names.iter().map(async |name| {
            let command = eval(ENTRY_WITH_TTL, format!("{ENTRY}{name}"));
            let entry: Option<(String, i64)> = self.query(&command).await?;
            Ok(entry.map(|(value, left)| (value, remaining_ttl(left))))
        });
        try_join_all(entries).await
    }

    async fn unlock(&self, name: &str, value: &str) -> Result<(), StoreError> {
        self.query(eval(UNLOCK, format!("{ENTRY}{name}")).arg(value)).await
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").finish_non_exhaustive()
    }
}

/// A script for one key, so that it works in a cluster.
fn eval(script: &str, key: String) -> Cmd {
    let mut command = cmd("EVAL");
    command.arg(script).arg(1).arg(key);
    command
}

/// Adds a session to the index under its index keys until it ends, and removes expired ids.
fn add_to_index(commands: &mut Pipeline, session: &StoredSession, ttl: Duration) {
    let (now, ttl) = (now(), milliseconds(ttl));
    for index_key in &session.index_keys {
        let key = format!("{INDEX}{index_key}");
        commands.zrembyscore(&key, "-inf", now);
        commands.zadd(&key, &session.id, now.saturating_add(ttl));
        // The TTL of the set is that of its longest-lived session, and is never shortened.
        commands.pexpire(&key, ttl.cast_signed()).arg("NX");
        commands.pexpire(&key, ttl.cast_signed()).arg("GT");
    }
}

/// The remaining TTL, as PTTL returns it: -1 for a key without TTL, which this store does not write.
fn remaining_ttl(milliseconds: i64) -> Duration {
    u64::try_from(milliseconds).map_or(Duration::MAX, Duration::from_millis)
}

/// Redis rejects a TTL of zero.
fn milliseconds(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).clamp(1, 1 << 50)
}

fn now() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since_1970.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

/// Installs rustls's default cryptography provider, which the Redis client uses: without one rustls panics, if other
/// crates of the app enable more than one.
fn install_crypto_provider() {
    // An error means that one is installed: by the app, or by another store.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// The error's kind, or the operating system's message: a message of the server may contain a value.
fn store_error(error: &RedisError) -> StoreError {
    // For a transaction: the error of its first failed command.
    let errors = error.clone().into_server_errors();
    let code = errors.as_deref().and_then(|errors| errors.first());
    let cause = match code.map(|(_, result)| result.code()).or(error.code()) {
        Some(code) => format!("Redis returned {code}"),
        None if error.is_timeout() => "Redis did not respond in time".to_owned(),
        None if error.is_io_error() => error.to_string(),
        None => format!("{:?}", error.kind()),
    };
    StoreError::new(cause)
}

#[cfg(test)]
mod tests {
    use std::io;

    use redis::ErrorKind;
    use rustls::crypto::CryptoProvider;

    use super::*;

    #[test]
    fn cryptography_is_chosen_before_a_connection_with_tls() {
        for _ in 0..2 {
            RedisStore::new(&Secret::new("rediss://localhost")).unwrap();
            assert!(CryptoProvider::get_default().is_some());
        }
    }

    #[test]
    fn an_error_has_a_kind_and_no_value() {
        let of_io = |kind: io::ErrorKind| RedisError::from(io::Error::from(kind));
        let detail = "a value".to_owned();
        for (error, cause) in [
            (of_io(io::ErrorKind::TimedOut), "Redis did not respond in time"),
            (of_io(io::ErrorKind::ConnectionRefused), "connection refused"),
            (
                RedisError::from((ErrorKind::UnexpectedReturnType, "no text", detail.clone())),
                "UnexpectedReturnType",
            ),
            (
                redis::make_extension_error("NOPE".into(), Some(detail)),
                "Redis returned NOPE",
            ),
        ] {
            assert_eq!(store_error(&error), StoreError::new(cause));
        }
    }

    #[test]
    fn neither_an_error_nor_debug_shows_the_password() {
        let error = RedisStore::new(&Secret::new("http://:hush@localhost")).unwrap_err();
        let expected = StoreError::new("`session.store_url` is not a valid Redis URL");
        assert_eq!(error, expected);
        let store = RedisStore::new(&Secret::new("redis://:hush@localhost")).unwrap();
        assert_eq!(format!("{store:?}"), "RedisStore { .. }");
    }
}
