//! Sessions in Redis or Valkey, for the several nodes of an app.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use redis::{
    Client, Cmd, ConnectionAddr, FromRedisValue, Pipeline, RedisError,
    aio::{ConnectionManager, ConnectionManagerConfig},
    cmd, pipe,
};
use rocket::futures::future::try_join_all;

use super::{SessionStore, StoreError, StoredSession};
use crate::secret::Secret;

/// How long a command may take; then the store counts as unreachable.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long connecting may take.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(2);

/// What stands before the names of all our keys.
const SESSION: &str = "oidc:session:";
const OWNER: &str = "oidc:owner:";
const NOTE: &str = "oidc:note:";

/// Replaces a session if its version is the one before. One key, so that it works in a cluster too.
const REPLACE: &str = "\
if redis.call('HGET', KEYS[1], 'version') ~= ARGV[1] then return 0 end \
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'value', ARGV[3]) \
redis.call('PEXPIRE', KEYS[1], ARGV[4]) \
return 1";

/// Keeps an end, unless another note than the known one is there. Run twice, it answers the same.
const REPLACE_END: &str = "\
local there = redis.call('GET', KEYS[1]) \
if there and there ~= ARGV[1] and there ~= ARGV[3] then return 0 end \
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) \
return 1";

/// Keeps a number, unless one as large or larger is there.
const NOTE_LARGER: &str = "\
local there = tonumber(redis.call('GET', KEYS[1])) \
if there and there >= tonumber(ARGV[1]) then return 0 end \
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) \
return 1";

/// A note with the rest of its life, in milliseconds. Read by two commands, it could be replaced in between.
const ENTRY_WITH_TTL: &str = "\
local value = redis.call('GET', KEYS[1]) \
if not value then return false end \
return {value, redis.call('PTTL', KEYS[1])}";

/// Drops a note if it has this value.
const FORGET: &str = "\
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end \
return 0";

/// A [`SessionStore`] in Redis 7 or later, or Valkey (cargo feature `redis`). It connects when it is first
/// needed, and again whenever the connection was lost.
///
/// Each session is one key with the life of the session; the sessions of an owner are named in a sorted set
/// by when they end. A reader of Redis learns how many sessions there are and when they are used, and not
/// whose they are. Who can write there can end sessions and bring back an older state of one, and cannot
/// make one.
///
/// `rediss://` connects with TLS. The server's certificate must be one that the system trusts, as for
/// requests to the provider; on Linux `SSL_CERT_FILE` names others.
pub struct RedisStore {
    client: Client,
    connection: OnceLock<ConnectionManager>,
}

impl RedisStore {
    /// With the address of the setting `session.store_url`.
    ///
    /// # Errors
    ///
    /// When it is not the address of a Redis. Nothing is connected yet.
    pub fn new(url: &Secret) -> Result<RedisStore, StoreError> {
        // The error would show the address, which may hold a password.
        let client = Client::open(url.expose())
            .map_err(|_| StoreError::new("`session.store_url` is not the address of a Redis"))?;
        if let ConnectionAddr::TcpTls { .. } = client.get_connection_info().addr() {
            choose_cryptography();
        }
        Ok(RedisStore {
            client,
            connection: OnceLock::new(),
        })
    }

    /// Made when it is first needed, because it belongs to the runtime that it is made in.
    fn connection(&self) -> Result<ConnectionManager, StoreError> {
        if let Some(connection) = self.connection.get() {
            return Ok(connection.clone());
        }
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(1)
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            .set_connection_timeout(Some(CONNECTION_TIMEOUT));
        let made = ConnectionManager::new_lazy_with_config(self.client.clone(), config);
        let made = made.map_err(|error| store_error(&error))?;
        Ok(self.connection.get_or_init(|| made).clone())
    }

    /// Runs a command that does no harm when it is run twice: once more when the connection was lost.
    async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        let mut connection = self.connection()?;
        match command.query_async(&mut connection).await {
            Err(error) if error.is_connection_dropped() => self.query_once(command).await,
            answer => answer.map_err(|error| store_error(&error)),
        }
    }

    async fn query_once<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        let mut connection = self.connection()?;
        let answer = command.query_async(&mut connection).await;
        answer.map_err(|error| store_error(&error))
    }

    async fn run(&self, commands: &Pipeline) -> Result<(), StoreError> {
        if commands.is_empty() {
            return Ok(());
        }
        let mut connection = self.connection()?;
        let done = match commands.exec_async(&mut connection).await {
            Err(error) if error.is_connection_dropped() => {
                commands.exec_async(&mut connection).await
            }
            done => done,
        };
        done.map_err(|error| store_error(&error))
    }
}

#[rocket::async_trait]
impl SessionStore for RedisStore {
    async fn create(&self, session: &StoredSession, life: Duration) -> Result<(), StoreError> {
        let key = format!("{SESSION}{}", session.id);
        let mut commands = pipe();
        // As a whole: a session without an end would stay forever.
        commands
            .atomic()
            .cmd("HSET")
            .arg(&key)
            .arg("version")
            .arg(session.version)
            .arg("value")
            .arg(&session.value)
            .arg("index_keys")
            .arg(session.index_keys.join(" "))
            .ignore()
            .cmd("PEXPIRE")
            .arg(&key)
            .arg(milliseconds(life))
            .ignore();
        name_at_owners(&mut commands, session, life);
        self.run(&commands).await
    }

    async fn load(&self, id: &str) -> Result<Option<Arc<StoredSession>>, StoreError> {
        let command = cmd("HMGET")
            .arg(format!("{SESSION}{id}"))
            .arg(&["version", "value", "index_keys"])
            .to_owned();
        let (version, value, index_keys): (Option<u64>, Option<String>, Option<String>) =
            self.query(&command).await?;
        let (Some(version), Some(value)) = (version, value) else {
            return Ok(None);
        };
        let index_keys = index_keys.unwrap_or_default();
        Ok(Some(Arc::new(StoredSession {
            id: id.to_owned(),
            version,
            value,
            index_keys: index_keys.split_whitespace().map(str::to_owned).collect(),
        })))
    }

    async fn replace(&self, session: &StoredSession, life: Duration) -> Result<bool, StoreError> {
        let command = cmd("EVAL")
            .arg(REPLACE)
            .arg(1)
            .arg(format!("{SESSION}{}", session.id))
            .arg(session.version.saturating_sub(1))
            .arg(session.version)
            .arg(&session.value)
            .arg(milliseconds(life))
            .to_owned();
        if !self.query::<bool>(&command).await? {
            return Ok(false);
        }
        let mut commands = pipe();
        name_at_owners(&mut commands, session, life);
        self.run(&commands).await?;
        Ok(true)
    }

    async fn remove(&self, id: &str) -> Result<bool, StoreError> {
        let Some(session) = self.load(id).await? else {
            return Ok(false);
        };
        let command = cmd("DEL").arg(format!("{SESSION}{id}")).to_owned();
        let is_gone = self.query::<bool>(&command).await?;
        let mut commands = pipe();
        for owner in &session.index_keys {
            let key = format!("{OWNER}{owner}");
            commands.cmd("ZREM").arg(key).arg(id).ignore();
        }
        // An id that stays named there leads to nothing, and goes with the next session of its owner.
        if let Err(error) = self.run(&commands).await {
            tracing::debug!("{error}");
        }
        Ok(is_gone)
    }

    async fn ids_by_index_key(&self, owner: &str) -> Result<Vec<String>, StoreError> {
        let command = cmd("ZRANGE")
            .arg(format!("{OWNER}{owner}"))
            .arg(format!("({}", now()))
            .arg("+inf")
            .arg("BYSCORE")
            .to_owned();
        self.query(&command).await
    }

    async fn put_entry(&self, name: &str, value: &str, life: Duration) -> Result<(), StoreError> {
        let command = cmd("SET")
            .arg(format!("{NOTE}{name}"))
            .arg(value)
            .arg("PX")
            .arg(milliseconds(life))
            .to_owned();
        self.query(&command).await
    }

    async fn put_end_if_unchanged(
        &self,
        name: &str,
        known: Option<&str>,
        value: &str,
        life: Duration,
    ) -> Result<bool, StoreError> {
        // Without a known one there is no third argument, and no note equals it.
        let command = cmd("EVAL")
            .arg(REPLACE_END)
            .arg(1)
            .arg(format!("{NOTE}{name}"))
            .arg(value)
            .arg(milliseconds(life))
            .arg(known)
            .to_owned();
        self.query(&command).await
    }

    async fn lock(&self, name: &str, value: &str, life: Duration) -> Result<bool, StoreError> {
        let command = cmd("SET")
            .arg(format!("{NOTE}{name}"))
            .arg(value)
            .arg("NX")
            .arg("PX")
            .arg(milliseconds(life))
            .to_owned();
        // Run twice, it would refuse its own claim.
        let done: Option<String> = self.query_once(&command).await?;
        Ok(done.is_some())
    }

    async fn put_entry_if_larger(
        &self,
        name: &str,
        number: u64,
        life: Duration,
    ) -> Result<bool, StoreError> {
        let command = cmd("EVAL")
            .arg(NOTE_LARGER)
            .arg(1)
            .arg(format!("{NOTE}{name}"))
            .arg(number)
            .arg(milliseconds(life))
            .to_owned();
        // Run twice, it answers that the number is there, which is as good.
        self.query(&command).await
    }

    async fn entries(&self, names: &[&str]) -> Result<Vec<Option<String>>, StoreError> {
        let mut command = cmd("MGET");
        for name in names {
            command.arg(format!("{NOTE}{name}"));
        }
        self.query(&command).await
    }

    async fn entries_with_ttl(
        &self,
        names: &[&str],
    ) -> Result<Vec<Option<(String, Duration)>>, StoreError> {
        // At once over one connection, and a command for each name, so that a cluster takes them too.
        let notes = names.iter().map(async |name| {
            let command = cmd("EVAL")
                .arg(ENTRY_WITH_TTL)
                .arg(1)
                .arg(format!("{NOTE}{name}"))
                .to_owned();
            self.query::<Option<(String, i64)>>(&command).await
        });
        let notes = try_join_all(notes).await?.into_iter();
        Ok(notes
            .map(|note| note.map(|(value, life)| (value, rest_of(life))))
            .collect())
    }

    async fn unlock(&self, name: &str, value: &str) -> Result<(), StoreError> {
        let command = cmd("EVAL")
            .arg(FORGET)
            .arg(1)
            .arg(format!("{NOTE}{name}"))
            .arg(value)
            .to_owned();
        self.query(&command).await
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").finish_non_exhaustive()
    }
}

/// Names a session at its index_keys until it ends, and drops the names of those that have.
fn name_at_owners(commands: &mut Pipeline, session: &StoredSession, life: Duration) {
    let (now, life) = (now(), milliseconds(life));
    for owner in &session.index_keys {
        let key = format!("{OWNER}{owner}");
        commands
            .cmd("ZREMRANGEBYSCORE")
            .arg(&key)
            .arg("-inf")
            .arg(now)
            .ignore()
            .cmd("ZADD")
            .arg(&key)
            .arg(now.saturating_add(life))
            .arg(&session.id)
            .ignore()
            // The set lives as long as the session in it that ends last, and no shorter than it did.
            .cmd("PEXPIRE")
            .arg(&key)
            .arg(life)
            .arg("NX")
            .ignore()
            .cmd("PEXPIRE")
            .arg(&key)
            .arg(life)
            .arg("GT")
            .ignore();
    }
}

/// What is left of a life, as PTTL says it: -1 of a key without an end, which somebody else wrote.
fn rest_of(milliseconds: i64) -> Duration {
    u64::try_from(milliseconds).map_or(Duration::MAX, Duration::from_millis)
}

/// Redis takes no life of zero.
fn milliseconds(life: Duration) -> u64 {
    u64::try_from(life.as_millis())
        .unwrap_or(u64::MAX)
        .clamp(1, 1 << 50)
}

fn now() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since_1970.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

/// The Redis client asks rustls for the cryptography of the process, and rustls panics when nobody chose it
/// and other crates of the app brought more than one.
fn choose_cryptography() {
    // An error says that it is chosen: by the app, or at another store.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// The kind of an error, and the operating system's word: a message of the server may quote a value.
fn store_error(error: &RedisError) -> StoreError {
    // Of a transaction: what its first command was refused for.
    let answers = error.clone().into_server_errors();
    let code = answers.as_deref().and_then(|answers| answers.first());
    let cause = match code.map(|(_, answer)| answer.code()).or(error.code()) {
        Some(code) => format!("Redis answered {code}"),
        None if error.is_timeout() => "Redis did not answer in time".to_owned(),
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
            (
                of_io(io::ErrorKind::TimedOut),
                "Redis did not answer in time",
            ),
            (
                of_io(io::ErrorKind::ConnectionRefused),
                "connection refused",
            ),
            (
                RedisError::from((ErrorKind::UnexpectedReturnType, "no text", detail.clone())),
                "UnexpectedReturnType",
            ),
            (
                redis::make_extension_error("NOPE".into(), Some(detail)),
                "Redis answered NOPE",
            ),
        ] {
            assert_eq!(store_error(&error), StoreError::new(cause));
        }
    }

    #[test]
    fn neither_an_error_nor_debug_shows_the_password() {
        let error = RedisStore::new(&Secret::new("http://:hush@localhost")).unwrap_err();
        let expected = StoreError::new("`session.store_url` is not the address of a Redis");
        assert_eq!(error, expected);
        let store = RedisStore::new(&Secret::new("redis://:hush@localhost")).unwrap();
        assert_eq!(format!("{store:?}"), "RedisStore { .. }");
    }
}
