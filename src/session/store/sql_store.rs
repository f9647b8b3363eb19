//! A session store in a SQL database: SQLite for one machine, PostgreSQL for several.

#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::{
    fmt, io,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    sync::OnceCell,
    time::{sleep, timeout},
};

use super::{SessionStore, StoreError, StoredSession};
use crate::{secret::Secret, settings::StoreUrl};

/// The timeout of a call, including connecting; then the store counts as unreachable.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// The timeout of acquiring a connection from the pool.
#[cfg(feature = "postgres")]
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(2);
/// The interval of deleting expired rows.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(60);
/// Maximum rows per DELETE, so that other statements do not wait long for it.
const EXPIRY_BATCH: i64 = 500;
/// The pause after a full batch.
const EXPIRY_PAUSE: Duration = Duration::from_millis(20);
/// Maximum attempts to create the tables, which fail when another node creates them simultaneously.
const MAX_TRIES: usize = 10;

/// The schema version of the tables.
const VERSION: &str = "1";

/// The schema, idempotent. The version is written last: it marks the tables as complete.
const SCHEMA: [&str; 8] = [
    "CREATE TABLE IF NOT EXISTS oidc_sessions (\
     id TEXT PRIMARY KEY, version BIGINT NOT NULL, value TEXT NOT NULL, index_keys TEXT NOT NULL, \
     ends BIGINT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS oidc_session_index (\
     index_key TEXT NOT NULL, id TEXT NOT NULL, ends BIGINT NOT NULL, PRIMARY KEY (index_key, id))",
    "CREATE TABLE IF NOT EXISTS oidc_entries (\
     name TEXT PRIMARY KEY, value TEXT NOT NULL, ends BIGINT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS oidc_sessions_ends ON oidc_sessions (ends)",
    "CREATE INDEX IF NOT EXISTS oidc_session_index_ends ON oidc_session_index (ends)",
    "CREATE INDEX IF NOT EXISTS oidc_entries_ends ON oidc_entries (ends)",
    "CREATE TABLE IF NOT EXISTS oidc_schema (id INTEGER PRIMARY KEY, version BIGINT NOT NULL)",
    "INSERT INTO oidc_schema (id, version) VALUES (1, 1) ON CONFLICT DO NOTHING",
];

/// Deletes a batch of expired rows. `ends` is checked twice, for rows that another node has renewed meanwhile.
const EXPIRE: [&str; 3] = [
    "DELETE FROM oidc_sessions WHERE ends <= {now} AND id IN \
     (SELECT id FROM oidc_sessions WHERE ends <= {now} LIMIT $1 {skip_locked})",
    "DELETE FROM oidc_session_index WHERE ends <= {now} AND (index_key, id) IN \
     (SELECT index_key, id FROM oidc_session_index WHERE ends <= {now} LIMIT $1 {skip_locked})",
    "DELETE FROM oidc_entries WHERE ends <= {now} AND name IN \
     (SELECT name FROM oidc_entries WHERE ends <= {now} LIMIT $1 {skip_locked})",
];

/// A [`SessionStore`] in SQLite (cargo feature `sqlite`) or PostgreSQL (cargo feature `postgres`). It connects on first
/// use, creates its tables, and deletes expired rows once a minute.
///
/// Its tables are `oidc_sessions`, `oidc_session_index`, `oidc_entries` and `oidc_schema`, which contains the schema
/// version; other tables in the database are not touched. Times are by the database's clock. A reader of the database
/// learns how many sessions there are and when they end, but not whose they are. A writer can end sessions and restore
/// an older state of one, but cannot create one.
///
/// SQLite is a file on this machine, for one app in one or several processes. It is created with mode 0600 and written
/// with `synchronous=FULL`: a session whose response was sent survives a power failure.
pub struct SqlStore {
    inner: Arc<Inner>,
}

struct Inner {
    database: Box<dyn Database>,
    /// Set once the tables exist and have this version.
    is_ready: OnceCell<()>,
}

/// A connection pool of one database. The SQL is shared, except for the parts in [`Dialect`].
#[rocket::async_trait]
trait Database: Send + Sync {
    fn dialect(&self) -> &'static Dialect;

    /// Executes a statement, and returns the number of changed rows.
    async fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<u64, SqlError>;

    /// Runs a query whose columns are text.
    async fn rows(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Vec<String>>, SqlError>;
}

struct Dialect {
    name: &'static str,
    /// The SQL of the current time, in milliseconds since 1970.
    now: &'static str,
    skip_locked: &'static str,
    /// The codes of transient errors.
    outages: &'static [&'static str],
}

/// A bound value of a placeholder `$1`, `$2`, …
#[derive(Clone, Copy)]
enum Value<'a> {
    Text(&'a str),
    Number(i64),
}

enum SqlError {
    Sqlx(sqlx::Error),
    /// A permanent error that needs an administrator, with its cause.
    Unusable(String),
}

impl SqlStore {
    /// A store at the URL of the setting `session.store_url`: `sqlite://sessions.db`, relative to the working directory
    /// of the process, `sqlite:///var/lib/app/sessions.db`, or `postgres://[user[:password]@]host[:port]/database`.
    ///
    /// # Errors
    ///
    /// If the URL is invalid, or its cargo feature is not enabled. It does not connect yet.
    pub fn new(url: &Secret) -> Result<SqlStore, StoreError> {
        let database: Box<dyn Database> = match StoreUrl::parse(url.expose()) {
            #[cfg(feature = "sqlite")]
            Some(StoreUrl::Sqlite(path)) => Box::new(sqlite::Sqlite::new(path)),
            #[cfg(feature = "postgres")]
            Some(StoreUrl::Postgres) => Box::new(postgres::Postgres::new(url)?),
            #[cfg(not(feature = "sqlite"))]
            Some(StoreUrl::Sqlite(_)) => return Err(without_feature("sqlite")),
            #[cfg(not(feature = "postgres"))]
            Some(StoreUrl::Postgres) => return Err(without_feature("postgres")),
            _ => {
                return Err(StoreError::new("`session.store_url` is not the URL of a SQL database"));
            }
        };
        let is_ready = OnceCell::new();
        Ok(SqlStore {
            inner: Arc::new(Inner { database, is_ready }),
        })
    }

    /// Executes a statement, and returns the number of changed rows.
    async fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<u64, StoreError> {
        let work = async {
            self.ready().await?;
            self.inner.execute(sql, values).await
        };
        in_time(work).await.map_err(|error| self.inner.store_error(&error))
    }

    async fn rows(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Vec<String>>, StoreError> {
        let work = async {
            self.ready().await?;
            self.inner.database.rows(&self.inner.in_dialect(sql), values).await
        };
        in_time(work).await.map_err(|error| self.inner.store_error(&error))
    }

    /// Creates the tables and starts the expiry task, once.
    async fn ready(&self) -> Result<(), SqlError> {
        let done = self.inner.is_ready.get_or_try_init(|| async {
            self.inner.create_tables().await?;
            tokio::spawn(expire(Arc::downgrade(&self.inner)));
            Ok(())
        });
        done.await.copied()
    }

    /// Adds a session to the index under its index keys until it ends.
    async fn add_to_index(&self, session: &StoredSession, ttl: Duration) -> Result<(), StoreError> {
        if session.index_keys.is_empty() {
            return Ok(());
        }
        let mut values = vec![Value::Text(&session.id), milliseconds(ttl)];
        values.extend(session.index_keys.iter().map(|index_key| Value::Text(index_key)));
        let rows = (3..=values.len()).map(|i| format!("(${i}, $1, {{now}} + $2)"));
        let sql = format!(
            "INSERT INTO oidc_session_index (index_key, id, ends) VALUES {} \
             ON CONFLICT (index_key, id) DO UPDATE SET ends = excluded.ends \
             WHERE oidc_session_index.ends < excluded.ends",
            rows.collect::<Vec<_>>().join(", ")
        );
        self.execute(&sql, &values).await.map(drop)
    }

    /// Stores an entry, in place of one that has expired or meets the condition. Returns whether it was stored. The
    /// condition may use `known` as `$4`.
    async fn put_entry_if(
        &self,
        condition: &str,
        name: &str,
        value: &str,
        ttl: Duration,
        known: Option<&str>,
    ) -> Result<bool, StoreError> {
        let sql = format!(
            "INSERT INTO oidc_entries (name, value, ends) VALUES ($1, $2, {{now}} + $3) \
             ON CONFLICT (name) DO UPDATE SET value = excluded.value, ends = excluded.ends \
             WHERE oidc_entries.ends <= {{now}} OR {condition}"
        );
        let mut values = vec![Value::Text(name), Value::Text(value), milliseconds(ttl)];
        values.extend(known.map(Value::Text));
        Ok(self.execute(&sql, &values).await? == 1)
    }
}

#[rocket::async_trait]
impl SessionStore for SqlStore {
    async fn prepare(&self) -> Result<(), StoreError> {
        let Err(error) = in_time(self.ready()).await else {
            return Ok(());
        };
        let is_outage = self.inner.is_outage(&error);
        let error = self.inner.store_error(&error);
        if !is_outage {
            return Err(error);
        }
        tracing::warn!("{error}");
        tracing::info!("{}", error.remedy());
        Ok(())
    }

    async fn create(&self, session: &StoredSession, ttl: Duration) -> Result<(), StoreError> {
        // The index first, so that no stored session is missing in it.
        self.add_to_index(session, ttl).await?;
        let sql = "INSERT INTO oidc_sessions (id, version, value, index_keys, ends) \
             VALUES ($1, $2, $3, $4, {now} + $5) \
             ON CONFLICT (id) DO UPDATE SET version = excluded.version, value = excluded.value, \
             index_keys = excluded.index_keys, ends = excluded.ends";
        let index_keys = session.index_keys.join(" ");
        let values = [
            Value::Text(&session.id),
            number(session.version),
            Value::Text(&session.value),
            Value::Text(&index_keys),
            milliseconds(ttl),
        ];
        self.execute(sql, &values).await.map(drop)
    }

    async fn load(&self, id: &str) -> Result<Option<Arc<StoredSession>>, StoreError> {
        let sql = "SELECT CAST(version AS TEXT), value, index_keys FROM oidc_sessions \
             WHERE id = $1 AND ends > {now}";
        let mut rows = self.rows(sql, &[Value::Text(id)]).await?;
        let Some(row) = rows.pop() else {
            return Ok(None);
        };
        let Ok([version, value, index_keys]) = <[String; 3]>::try_from(row) else {
            return Err(StoreError::new("a row has unexpected columns"));
        };
        let version = version
            .parse()
            .map_err(|_| StoreError::new("a version is not a number"))?;
        let index_keys = index_keys.split_whitespace().map(str::to_owned).collect();
        Ok(Some(Arc::new(StoredSession::new(id, version, value, index_keys))))
    }

    async fn replace(&self, session: &StoredSession, ttl: Duration) -> Result<bool, StoreError> {
        self.add_to_index(session, ttl).await?;
        let sql = "UPDATE oidc_sessions SET version = $1, value = $2, ends = {now} + $3 \
             WHERE id = $4 AND version = $5 AND ends > {now}";
        let values = [
            number(session.version),
            Value::Text(&session.value),
            milliseconds(ttl),
            Value::Text(&session.id),
            number(session.version.saturating_sub(1)),
        ];
        Ok(self.execute(sql, &values).await? == 1)
    }

    async fn remove(&self, id: &str) -> Result<bool, StoreError> {
        let sql = "DELETE FROM oidc_sessions WHERE id = $1 AND ends > {now}";
        Ok(self.execute(sql, &[Value::Text(id)]).await? == 1)
    }

    async fn ids_by_index_key(&self, index_key: &str) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT s.id FROM oidc_session_index AS i JOIN oidc_sessions AS s ON s.id = i.id \
             WHERE i.index_key = $1 AND s.ends > {now}";
        let rows = self.rows(sql, &[Value::Text(index_key)]).await?;
        Ok(rows.into_iter().flatten().collect())
    }

    async fn put_entry(&self, name: &str, value: &str, ttl: Duration) -> Result<(), StoreError> {
        self.put_entry_if("TRUE", name, value, ttl, None).await.map(drop)
    }

    async fn put_end_if_unchanged(
        &self,
        name: &str,
        known: Option<&str>,
        value: &str,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        let condition = if known.is_some() {
            "oidc_entries.value = $4"
        } else {
            "FALSE"
        };
        self.put_entry_if(condition, name, value, ttl, known).await
    }

    async fn lock(&self, name: &str, value: &str, ttl: Duration) -> Result<bool, StoreError> {
        self.put_entry_if("FALSE", name, value, ttl, None).await
    }

    async fn put_entry_if_larger(&self, name: &str, number: u64, ttl: Duration) -> Result<bool, StoreError> {
        // For decimal numbers, a longer text is larger. A SQL integer ends at 2^63.
        let condition = "(length(oidc_entries.value), oidc_entries.value) < (length(excluded.value), excluded.value)";
        self.put_entry_if(condition, name, &number.to_string(), ttl, None).await
    }

    async fn entries_with_ttl(&self, names: &[&str]) -> Result<Vec<Option<(String, Duration)>>, StoreError> {
        if names.is_empty() {
            return Ok(vec![]);
        }
        let placeholders: Vec<_> = (1..=names.len()).map(|i| format!("${i}")).collect();
        let sql = format!(
            "SELECT name, value, CAST(ends - {{now}} AS TEXT) FROM oidc_entries \
             WHERE name IN ({}) AND ends > {{now}}",
            placeholders.join(", ")
        );
        let values: Vec<_> = names.iter().map(|name| Value::Text(name)).collect();
        let found = self.rows(&sql, &values).await?;
        let entry = |name: &&str| {
            let Some(row) = found.iter().find(|row| row[0] == **name) else {
                return Ok(None);
            };
            let [_, value, ttl] = &row[..] else {
                return Err(StoreError::new("a row has unexpected columns"));
            };
            // Negative when the clock advanced between the two reads of it.
            let ttl: i64 = ttl.parse().map_err(|_| StoreError::new("a TTL is not a number"))?;
            let ttl = Duration::from_millis(ttl.max(0).unsigned_abs());
            Ok(Some((value.clone(), ttl)))
        };
        names.iter().map(entry).collect()
    }

    async fn unlock(&self, name: &str, value: &str) -> Result<(), StoreError> {
        let sql = "DELETE FROM oidc_entries WHERE name = $1 AND value = $2";
        let values = [Value::Text(name), Value::Text(value)];
        self.execute(sql, &values).await.map(drop)
    }
}

impl fmt::Debug for SqlStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlStore").finish_non_exhaustive()
    }
}

impl Inner {
    fn in_dialect(&self, sql: &str) -> String {
        let dialect = self.database.dialect();
        sql.replace("{now}", dialect.now)
            .replace("{skip_locked}", dialect.skip_locked)
    }

    async fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<u64, SqlError> {
        self.database.execute(&self.in_dialect(sql), values).await
    }

    /// Checks the version of the tables, or creates them. An account without the right to create tables can use
    /// existing ones.
    async fn create_tables(&self) -> Result<(), SqlError> {
        let mut tries = 0;
        loop {
            let error = match self.version().await {
                Ok(Some(version)) if version == VERSION => return Ok(()),
                Ok(Some(version)) => {
                    return Err(SqlError::Unusable(format!(
                        "the tables `oidc_…` have version {version}, and this version of rocket_openidconnect needs {VERSION}"
                    )));
                }
                Err(error @ SqlError::Unusable(_)) => return Err(error),
                Err(error) if self.is_outage(&error) => return Err(error),
                // The table does not exist, for which each database has its own error.
                Ok(None) | Err(_) => match self.run_schema().await {
                    Ok(()) => continue,
                    Err(error) => error,
                },
            };
            tries += 1;
            if tries == MAX_TRIES {
                return Err(error);
            }
        }
    }

    async fn version(&self) -> Result<Option<String>, SqlError> {
        let sql = "SELECT CAST(version AS TEXT) FROM oidc_schema WHERE id = 1";
        let rows = self.database.rows(sql, &[]).await?;
        Ok(rows.into_iter().flatten().next())
    }

    async fn run_schema(&self) -> Result<(), SqlError> {
        for sql in SCHEMA {
            self.execute(sql, &[]).await?;
        }
        Ok(())
    }

    /// Deletes all expired rows in batches, and returns their number.
    async fn delete_expired(&self) -> Result<u64, SqlError> {
        let mut sum = 0;
        for sql in EXPIRE {
            loop {
                let deleted = self.execute(sql, &[Value::Number(EXPIRY_BATCH)]).await?;
                sum += deleted;
                if deleted < EXPIRY_BATCH.unsigned_abs() {
                    break;
                }
                sleep(EXPIRY_PAUSE).await;
            }
        }
        Ok(sum)
    }

    /// Whether the error is transient: the database is down or busy.
    fn is_outage(&self, error: &SqlError) -> bool {
        match error {
            SqlError::Sqlx(sqlx::Error::Database(error)) => {
                let outages = self.database.dialect().outages;
                error.code().is_some_and(|code| outages.contains(&&*code))
            }
            SqlError::Sqlx(sqlx::Error::Io(error)) => !is_of_tls(error),
            SqlError::Sqlx(error) => {
                matches!(error, sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed)
            }
            SqlError::Unusable(_) => false,
        }
    }

    /// The error without its message: a message of the database may contain a value, and one about the URL a password.
    fn store_error(&self, error: &SqlError) -> StoreError {
        let name = self.database.dialect().name;
        StoreError::new(match error {
            SqlError::Sqlx(sqlx::Error::PoolTimedOut) => format!("{name} did not respond in time"),
            SqlError::Unusable(cause) => cause.clone(),
            SqlError::Sqlx(sqlx::Error::Database(error)) => match error.code() {
                Some(code) => format!("{name} returned error code {code}"),
                None => format!("{name} returned an error"),
            },
            SqlError::Sqlx(sqlx::Error::Io(error)) if is_of_tls(error) => {
                format!("the TLS connection to {name} failed: {error}")
            }
            SqlError::Sqlx(sqlx::Error::Io(error)) => error.kind().to_string(),
            SqlError::Sqlx(sqlx::Error::Tls(_)) => format!("the TLS connection to {name} failed"),
            SqlError::Sqlx(_) => format!("no connection to {name}, or an unexpected response"),
        })
    }
}

impl From<sqlx::Error> for SqlError {
    fn from(error: sqlx::Error) -> SqlError {
        SqlError::Sqlx(error)
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T, SqlError>>) -> Result<T, SqlError> {
    let done = timeout(CALL_TIMEOUT, work).await;
    done.unwrap_or(Err(SqlError::Sqlx(sqlx::Error::PoolTimedOut)))
}

/// A failed TLS handshake, for example because of the server's certificate, is an I/O error of this kind.
fn is_of_tls(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}

/// The background task that deletes expired rows until the store is dropped.
async fn expire(store: Weak<Inner>) {
    loop {
        sleep(EXPIRY_INTERVAL).await;
        let Some(store) = store.upgrade() else {
            return;
        };
        if let Err(error) = store.delete_expired().await {
            tracing::debug!("expired sessions were not deleted: {}", store.store_error(&error));
        }
    }
}

fn number(number: u64) -> Value<'static> {
    Value::Number(i64::try_from(number).unwrap_or(i64::MAX))
}

/// At most 2^50 ms (35,000 years), so that no sum overflows.
fn milliseconds(ttl: Duration) -> Value<'static> {
    Value::Number(i64::try_from(ttl.as_millis()).map_or(1 << 50, |ttl| ttl.min(1 << 50)))
}

/// The body of `execute` and `rows` of a [`Database`]: the pools differ in type only.
macro_rules! run {
    ($execute:ident, $sql:expr, $values:expr, $pool:expr) => {{
        let mut query = sqlx::query($sql);
        for value in $values {
            query = match *value {
                Value::Text(text) => query.bind(text),
                Value::Number(number) => query.bind(number),
            };
        }
        query.$execute($pool).await
    }};
}
use run;

#[cfg(not(all(feature = "sqlite", feature = "postgres")))]
fn without_feature(feature: &str) -> StoreError {
    StoreError::new(format!("the cargo feature `{feature}` is not enabled"))
}

#[cfg(all(test, feature = "sqlite"))]
mod tests;
