//! A session store in Redis or Valkey, for several nodes of an app: one server, Sentinel or a cluster.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use redis::{Cmd, FromRedisValue, RedisError, SetExpiry, SetOptions, Value, cmd, pipe};
use rocket::futures::future::{join_all, try_join_all};
use tokio::sync::Semaphore;

use self::{
    connection::{Link, Request},
    error::store_error,
    server::{RESPONSE_TIMEOUT, Target},
};
use super::{SessionStore, StoreError, StoredSession};
use crate::{secret::Secret, settings::RedisUrl};

mod connection;
mod error;
mod sentinel;
mod server;

/// The prefixes of all keys.
const SESSION: &str = "oidc:session:";
const INDEX: &str = "oidc:index:";
const ENTRY: &str = "oidc:entry:";

/// How long a write waits for a replica.
const REPLICA_TIMEOUT: Duration = Duration::from_millis(200);
/// The maximum number of writes that wait for a replica at once: one connection waits for one after another.
const MAX_WAITING: usize = 4;
/// How long no write waits for replicas that did not acknowledge one in time.
const WAIT_PAUSE: Duration = Duration::from_secs(5);
/// How long no write waits where the server refuses to wait.
const REFUSED_WAIT_PAUSE: Duration = Duration::from_secs(60);
/// The maximum number of shards for which such a pause is kept.
const MAX_PAUSES: usize = 1024;
/// The TTL of the end of a session that was not found: the time in which its creation may be in flight.
const ABSENT_TTL: Duration = Duration::from_secs(60);

/// Stores a new session. Does nothing where there is one, which a repeated command has stored, or its end.
const CREATE: &str = "\
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end \
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'value', ARGV[2], 'index_keys', ARGV[3]) \
redis.call('PEXPIRE', KEYS[1], ARGV[4]) \
return 1";

/// Compare-and-set of a session by its version. The same replacement again succeeds again.
const REPLACE: &str = "\
local stored = redis.call('HMGET', KEYS[1], 'version', 'value') \
if stored[1] == ARGV[2] and stored[2] == ARGV[3] then return 1 end \
if stored[1] ~= ARGV[1] then return 0 end \
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'value', ARGV[3]) \
redis.call('PEXPIRE', KEYS[1], ARGV[4]) \
return 1";

/// Replaces a session by its end, which keeps the remaining TTL: nothing creates or replaces the session after that.
/// Returns the index keys if this call, or the same call before, ended it.
const REMOVE: &str = "\
local ended = redis.call('HGET', KEYS[1], 'ended') \
if ended and ended ~= ARGV[1] then return false end \
if not ended then \
redis.call('HSET', KEYS[1], 'ended', ARGV[1]) \
if redis.call('HDEL', KEYS[1], 'version', 'value') == 0 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end \
end \
return redis.call('HGET', KEYS[1], 'index_keys')";

/// Adds a session to an index until it ends, and removes expired ids. Neither a score nor the TTL of the index, which
/// is that of its longest-lived session, is lowered.
const INDEX_SESSION: &str = "\
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1]) \
redis.call('ZADD', KEYS[1], 'GT', ARGV[2], ARGV[3]) \
redis.call('PEXPIRE', KEYS[1], ARGV[4], 'NX') \
redis.call('PEXPIRE', KEYS[1], ARGV[4], 'GT') \
return 1";

/// The value of an entry, without the holder of a lock; see [`locked`].
macro_rules! plain {
    ($script:literal) => {
        concat!(
            "local function plain(value) ",
            "if value and string.byte(value) == 0 then return string.sub(value, 46) end ",
            "return value end ",
            "local existing = plain(redis.call('GET', KEYS[1])) ",
            $script
        )
    };
}

/// Stores an end, unless an entry other than the known one exists. Idempotent.
const PUT_END_IF_UNCHANGED: &str = plain!(
    "if existing and existing ~= ARGV[1] and existing ~= ARGV[3] then return 0 end \
     redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) \
     return 1"
);

/// Stores a number, unless an equal or larger one exists.
const PUT_IF_LARGER: &str = plain!(
    "existing = tonumber(existing) \
     if existing and existing >= tonumber(ARGV[1]) then return 0 end \
     redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) \
     return 1"
);

/// Removes an entry if it has this value.
const UNLOCK: &str = plain!(
    "if existing == ARGV[1] then return redis.call('DEL', KEYS[1]) end \
     return 0"
);

/// Stores an entry if there is none. The same call again, with the same holder, succeeds again.
const LOCK: &str = "\
local existing = redis.call('GET', KEYS[1]) \
if existing then return existing == ARGV[1] and 1 or 0 end \
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) \
return 1";

/// Reads an entry with its remaining TTL in milliseconds, atomically: between two commands it could be replaced.
const ENTRY_WITH_TTL: &str = "\
local value = redis.call('GET', KEYS[1]) \
if not value then return false end \
return {value, redis.call('PTTL', KEYS[1])}";

/// A [`SessionStore`] in Redis 7 or later, or Valkey (cargo feature `redis`): one server, Sentinel or a cluster. It
/// connects on first use, and reconnects when the connection is lost.
///
/// Each session is one key with the session's TTL; the sessions of an index key are in a sorted set, by their end. A
/// session that has ended leaves its end under its key for the remaining TTL. A reader of Redis learns how many
/// sessions there are and when they are used, but not whose they are. A writer can end sessions and restore an older
/// state of one, but cannot create one.
///
/// Every command has one key, and every command can be repeated: a client of a cluster repeats commands by itself. What
/// must not be lost, such as the end of a session or a new refresh token, is written once a replica has it, or after
/// 200 ms.
///
/// `rediss://` connects with TLS. The system must trust the server's certificate, as for requests to the provider; on
/// Linux, `SSL_CERT_FILE` sets other trusted certificates.
pub struct RedisStore {
    commands: Link,
    /// For writes that wait for a replica: other commands do not wait behind them.
    acknowledged: Link,
    /// Until when no write waits for replicas, by their addresses.
    pauses: Mutex<HashMap<String, Instant>>,
    waiting: Semaphore,
}

impl RedisStore {
    /// A store at the URL of the setting `session.store_url`.
    ///
    /// # Errors
    ///
    /// If the URL is not one of Redis. It does not connect yet.
    pub fn new(url: &Secret) -> Result<RedisStore, StoreError> {
        RedisStore::with_sentinel_credentials(url, None, None)
    }

    /// A store at the URL of the setting `session.store_url`, with the settings `session.sentinel_username` and
    /// `session.sentinel_password`. They are for the Sentinels of a `redis+sentinel://` URL alone.
    ///
    /// # Errors
    ///
    /// If the URL is not one of Redis. It does not connect yet.
    pub fn with_sentinel_credentials(
        url: &Secret,
        username: Option<&str>,
        password: Option<&Secret>,
    ) -> Result<RedisStore, StoreError> {
        let url = RedisUrl::parse(url.expose())
            .map_err(|error| StoreError::new(format!("`session.store_url` is not valid: {error}")))?;
        if url.tls {
            install_crypto_provider();
        }
        let target = Arc::new(Target {
            url,
            sentinel_username: username.map(str::to_owned),
            sentinel_password: password.cloned(),
        });
        Ok(RedisStore {
            commands: Link::new(target.clone()),
            acknowledged: Link::new(target),
            pauses: Mutex::default(),
            waiting: Semaphore::new(MAX_WAITING),
        })
    }

    /// Runs a command with one key.
    async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        first(self.commands.send(Request::Command(command)).await?)
    }

    /// Runs a command with one key that writes, and waits for a replica if there is one.
    ///
    /// Both are sent together: a connection that is made in between, perhaps to another server, would know nothing of
    /// the write.
    async fn query_acknowledged<T: FromRedisValue>(&self, key: &str, command: &Cmd) -> Result<T, StoreError> {
        let Some(replicas) = self.replicas(key).await? else {
            return self.query(command).await;
        };
        let waiting = tokio::time::timeout(RESPONSE_TIMEOUT, self.waiting.acquire()).await;
        let _waiting = waiting.map_err(|_| StoreError::new("Redis did not respond in time"))?;
        if self.is_paused(&replicas) {
            return self.query(command).await;
        }
        let mut commands = pipe();
        commands.add_command(command.clone());
        let timeout = u64::try_from(REPLICA_TIMEOUT.as_millis()).unwrap_or(u64::MAX);
        commands.cmd("WAIT").arg(1).arg(timeout);
        let mut values = self.acknowledged.send(Request::Together(&commands, key)).await?;
        match values.pop() {
            Some(Value::Int(1..)) => {}
            Some(Value::Int(_)) => {
                tracing::debug!("no replica of Redis acknowledged a write within 200 ms");
                self.pause(replicas, WAIT_PAUSE);
            }
            _ => {
                tracing::debug!("Redis does not permit `WAIT`: no replica acknowledges a write");
                self.pause(replicas, REFUSED_WAIT_PAUSE);
            }
        }
        first(values)
    }

    /// The addresses of the replicas that have this key; `None` if no write waits for them.
    async fn replicas(&self, key: &str) -> Result<Option<String>, StoreError> {
        let role = cmd("ROLE");
        let asked = self.commands.send(Request::At(&role, key)).await;
        let replicas = match asked {
            Ok(values) => match replicas(values.first()) {
                Some(replicas) => replicas,
                None => return Ok(None),
            },
            // Without permission for `ROLE`, it tries to wait.
            Err(error) if error.cause.starts_with("Redis returned NOPERM") || error.cause.contains("does not know") => {
                "unknown".to_owned()
            }
            Err(error) => return Err(error),
        };
        Ok(Some(replicas).filter(|replicas| !self.is_paused(replicas)))
    }

    fn is_paused(&self, replicas: &str) -> bool {
        let pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        pauses.get(replicas).is_some_and(|until| Instant::now() < *until)
    }

    fn pause(&self, replicas: String, time: Duration) {
        let mut pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        if pauses.len() >= MAX_PAUSES {
            pauses.clear();
        }
        pauses.insert(replicas, Instant::now() + time);
    }

    /// Adds a session to the index under its index keys until it ends.
    async fn add_to_index(&self, session: &StoredSession, ttl: Duration) -> Result<(), StoreError> {
        let (now, ttl) = (now(), milliseconds(ttl));
        let entries = session.index_keys.iter().map(async |index_key| {
            let mut command = eval(INDEX_SESSION, &format!("{INDEX}{index_key}"));
            command.arg(now).arg(now.saturating_add(ttl)).arg(&session.id).arg(ttl);
            self.query::<()>(&command).await
        });
        try_join_all(entries).await.map(drop)
    }
}

#[rocket::async_trait]
impl SessionStore for RedisStore {
    /// The index comes first: an id without a session does no harm, and a session without its index entries would not
    /// be found by a logout.
    async fn create(&self, session: &StoredSession, ttl: Duration) -> Result<(), StoreError> {
        self.add_to_index(session, ttl).await?;
        let key = format!("{SESSION}{}", session.id);
        let mut command = eval(CREATE, &key);
        command.arg(session.version).arg(&session.value);
        command.arg(session.index_keys.join(" ")).arg(milliseconds(ttl));
        self.query_acknowledged(&key, &command).await
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

    /// Writes the index again: a failover may have lost an entry.
    async fn replace(&self, session: &StoredSession, ttl: Duration) -> Result<bool, StoreError> {
        self.add_to_index(session, ttl).await?;
        let key = format!("{SESSION}{}", session.id);
        let mut command = eval(REPLACE, &key);
        command.arg(session.version.saturating_sub(1)).arg(session.version);
        command.arg(&session.value).arg(milliseconds(ttl));
        self.query_acknowledged(&key, &command).await
    }

    async fn remove(&self, id: &str) -> Result<bool, StoreError> {
        let key = format!("{SESSION}{id}");
        let mut command = eval(REMOVE, &key);
        command.arg(Secret::random().expose()).arg(milliseconds(ABSENT_TTL));
        let index_keys: Option<String> = self.query_acknowledged(&key, &command).await?;
        let Some(index_keys) = index_keys else {
            return Ok(false);
        };
        let removals = index_keys.split_whitespace().map(async |index_key| {
            let command = Cmd::zrem(format!("{INDEX}{index_key}"), id);
            // An id that remains in the index does no harm: `load` finds no session, and the next session with its
            // index key removes it after its expiry.
            if let Err(error) = self.query::<()>(&command).await {
                tracing::debug!("{error}");
            }
        });
        join_all(removals).await;
        Ok(true)
    }

    async fn ids_by_index_key(&self, index_key: &str) -> Result<Vec<String>, StoreError> {
        let mut command = cmd("ZRANGE");
        command.arg(format!("{INDEX}{index_key}")).arg(format!("({}", now()));
        self.query(command.arg("+inf").arg("BYSCORE")).await
    }

    async fn put_entry(&self, name: &str, value: &str, ttl: Duration) -> Result<(), StoreError> {
        let options = SetOptions::default().with_expiration(SetExpiry::PX(milliseconds(ttl)));
        let key = format!("{ENTRY}{name}");
        let command = Cmd::set_options(&key, value, options);
        self.query_acknowledged(&key, &command).await
    }

    async fn put_end_if_unchanged(
        &self,
        name: &str,
        known: Option<&str>,
        value: &str,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        let key = format!("{ENTRY}{name}");
        let mut command = eval(PUT_END_IF_UNCHANGED, &key);
        // Without `known` there is no third argument, and no entry equals it.
        self.query_acknowledged(&key, command.arg(value).arg(milliseconds(ttl)).arg(known))
            .await
    }

    async fn lock(&self, name: &str, value: &str, ttl: Duration) -> Result<bool, StoreError> {
        let key = format!("{ENTRY}{name}");
        let mut command = eval(LOCK, &key);
        let holder = locked(value, &Secret::random());
        self.query_acknowledged(&key, command.arg(holder).arg(milliseconds(ttl)))
            .await
    }

    async fn put_entry_if_larger(&self, name: &str, number: u64, ttl: Duration) -> Result<bool, StoreError> {
        let mut command = eval(PUT_IF_LARGER, &format!("{ENTRY}{name}"));
        // A repeated command may report that the number exists already, which is as good.
        self.query(command.arg(number).arg(milliseconds(ttl))).await
    }

    async fn entries(&self, names: &[&str]) -> Result<Vec<Option<String>>, StoreError> {
        let entries = names.iter().map(async |name| {
            let entry: Option<String> = self.query(&Cmd::get(format!("{ENTRY}{name}"))).await?;
            Ok(entry.map(unlocked))
        });
        try_join_all(entries).await
    }

    async fn entries_with_ttl(&self, names: &[&str]) -> Result<Vec<Option<(String, Duration)>>, StoreError> {
        let entries = names.iter().map(async |name| {
            let command = eval(ENTRY_WITH_TTL, &format!("{ENTRY}{name}"));
            let entry: Option<(String, i64)> = self.query(&command).await?;
            Ok(entry.map(|(value, left)| (unlocked(value), remaining_ttl(left))))
        });
        try_join_all(entries).await
    }

    async fn unlock(&self, name: &str, value: &str) -> Result<(), StoreError> {
        self.query(eval(UNLOCK, &format!("{ENTRY}{name}")).arg(value)).await
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").finish_non_exhaustive()
    }
}

/// A script for one key, so that it works in a cluster.
fn eval(script: &str, key: &str) -> Cmd {
    let mut command = cmd("EVAL");
    command.arg(script).arg(1).arg(key);
    command
}

/// The result of the first of several commands.
fn first<T: FromRedisValue>(values: Vec<Value>) -> Result<T, StoreError> {
    let value = values.into_iter().next().unwrap_or(Value::Nil);
    T::from_redis_value(value).map_err(|error| store_error(&RedisError::from(error)))
}

/// The addresses of the replicas in the answer to `ROLE`; `None` if there are none, or it is not that of a primary.
fn replicas(role: Option<&Value>) -> Option<String> {
    let Some(Value::Array(role)) = role else {
        return None;
    };
    let Some(Value::Array(replicas)) = role.get(2) else {
        return None;
    };
    let text = |value: Option<&Value>| String::from_redis_value_ref(value?).ok();
    let addresses = replicas.iter().filter_map(|replica| match replica {
        Value::Array(parts) => Some(format!("{}:{} ", text(parts.first())?, text(parts.get(1))?)),
        _ => None,
    });
    Some(addresses.collect::<String>()).filter(|addresses| !addresses.is_empty())
}

/// The entry of a lock: its value behind the holder, a random text of 43 characters between two null characters. A
/// client that did not get the answer, or a client of a cluster that repeated the command, finds its own lock by that.
/// Two holders may have the same value.
fn locked(value: &str, holder: &Secret) -> String {
    format!("\0{}\0{value}", holder.expose())
}

/// The value of an entry, without the holder of a lock.
fn unlocked(entry: String) -> String {
    const LENGTH: usize = 45;
    match entry.get(LENGTH..) {
        Some(value) if entry.starts_with('\0') => value.to_owned(),
        _ => entry,
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

#[cfg(test)]
mod tests {
    use rustls::crypto::CryptoProvider;

    use super::*;

    #[test]
    fn cryptography_is_chosen_before_a_connection_with_tls() {
        for url in [
            "rediss://h",
            "valkeys://h",
            "rediss+sentinel://h/m",
            "rediss-cluster://h",
        ] {
            RedisStore::new(&Secret::new(url)).unwrap();
            assert!(CryptoProvider::get_default().is_some());
        }
    }

    #[test]
    fn a_lock_is_read_without_its_holder() {
        let holder = Secret::random();
        for value in ["", "1", "a value", "\0", "é"] {
            assert_eq!(unlocked(locked(value, &holder)), value);
        }
        for entry in ["", "1", "\0", "a longer entry than the holder of a lock, which has 45"] {
            assert_eq!(unlocked(entry.to_owned()), entry);
        }
    }

    #[test]
    fn the_replicas_are_those_of_a_primary() {
        let text = |text: &str| Value::BulkString(text.into());
        let replica = |port: &str| Value::Array(vec![text("10.0.0.1"), text(port), text("42")]);
        let role = |name: &str, third: Value| Value::Array(vec![text(name), Value::Int(42), third]);
        let two = role("master", Value::Array(vec![replica("1"), replica("2")]));
        assert_eq!(replicas(Some(&two)).as_deref(), Some("10.0.0.1:1 10.0.0.1:2 "));
        for role in [
            role("master", Value::Array(vec![])),
            role("slave", Value::Int(6379)),
            Value::Array(vec![]),
            Value::Nil,
        ] {
            assert_eq!(replicas(Some(&role)), None, "{role:?}");
        }
        assert_eq!(replicas(None), None);
    }

    #[test]
    fn neither_an_error_nor_debug_shows_the_password() {
        let error = RedisStore::new(&Secret::new("http://:hush@localhost")).unwrap_err();
        let expected = StoreError::new("`session.store_url` is not valid: it is not the URL of a Redis server");
        assert_eq!(error, expected);
        let store = RedisStore::new(&Secret::new("redis://:hush@localhost")).unwrap();
        assert_eq!(format!("{store:?}"), "RedisStore { .. }");
    }
}
