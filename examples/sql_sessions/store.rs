//! A session store on SQL: three tables, and statements that any SQL database with `ON CONFLICT` runs.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rocket_openidconnect::store::{SessionStore, StoreError, StoredSession};
use sqlx::{
    Row, SqlitePool,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};

/// What is over is dropped whenever a session begins; every look at it asks for `ends` too.
const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS sessions (
    id TEXT PRIMARY KEY, version INTEGER NOT NULL, value TEXT NOT NULL, index_keys TEXT NOT NULL,
    ends INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS index_keys (
    owner TEXT NOT NULL, id TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE,
    PRIMARY KEY (owner, id)
);
CREATE TABLE IF NOT EXISTS notes (
    name TEXT PRIMARY KEY, value TEXT NOT NULL, ends INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS sessions_end ON sessions (ends);
CREATE INDEX IF NOT EXISTS notes_end ON notes (ends);
";

/// Sessions in SQLite.
pub struct SqlStore {
    pool: SqlitePool,
}

impl SqlStore {
    /// Opens the database at this address, and makes its tables.
    pub async fn open(address: &str) -> Result<SqlStore, sqlx::Error> {
        let options: SqliteConnectOptions = address.parse()?;
        let options = options.create_if_missing(true).foreign_keys(true);
        // SQLite has one writer at a time.
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(Duration::from_secs(2))
            .connect_with(options)
            .await?;
        sqlx::raw_sql(SCHEMA).execute(&pool).await?;
        Ok(SqlStore { pool })
    }

    async fn drop_what_is_over(&self) -> Result<(), StoreError> {
        for statement in [
            "DELETE FROM sessions WHERE ends <= ?",
            "DELETE FROM notes WHERE ends <= ?",
        ] {
            let deleting = sqlx::query(statement).bind(now()).execute(&self.pool);
            deleting.await.map_err(failed)?;
        }
        Ok(())
    }
}

#[rocket::async_trait]
impl SessionStore for SqlStore {
    async fn create(&self, session: &StoredSession, life: Duration) -> Result<(), StoreError> {
        self.drop_what_is_over().await?;
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        sqlx::query("INSERT INTO sessions (id, version, value, index_keys, ends) VALUES (?, ?, ?, ?, ?)")
            .bind(&session.id)
            .bind(session.version.cast_signed())
            .bind(&session.value)
            .bind(session.index_keys.join(" "))
            .bind(end(life))
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        for owner in &session.index_keys {
            sqlx::query("INSERT INTO index_keys (owner, id) VALUES (?, ?)")
                .bind(owner)
                .bind(&session.id)
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)
    }

    async fn load(&self, id: &str) -> Result<Option<Arc<StoredSession>>, StoreError> {
        let row = sqlx::query("SELECT version, value, index_keys FROM sessions WHERE id = ? AND ends > ?")
            .bind(id)
            .bind(now())
            .fetch_optional(&self.pool)
            .await
            .map_err(failed)?;
        let session = row.map(|row| {
            let index_keys: String = row.try_get("index_keys")?;
            let index_keys = index_keys.split_whitespace().map(str::to_owned).collect();
            let version = row.try_get::<i64, _>("version")?.cast_unsigned();
            let value: String = row.try_get("value")?;
            Ok(Arc::new(StoredSession::new(id, version, value, index_keys)))
        });
        session.transpose().map_err(failed)
    }

    async fn replace(&self, session: &StoredSession, life: Duration) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE sessions SET version = ?, value = ?, ends = ? \
             WHERE id = ? AND version = ? AND ends > ?",
        )
        .bind(session.version.cast_signed())
        .bind(&session.value)
        .bind(end(life))
        .bind(&session.id)
        .bind(session.version.saturating_sub(1).cast_signed())
        .bind(now())
        .execute(&self.pool)
        .await
        .map_err(failed)?;
        Ok(done.rows_affected() == 1)
    }

    async fn remove(&self, id: &str) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM sessions WHERE id = ?")
            .bind(id)
            .execute(&self.pool)
            .await
            .map_err(failed)?;
        Ok(done.rows_affected() == 1)
    }

    async fn ids_by_index_key(&self, owner: &str) -> Result<Vec<String>, StoreError> {
        sqlx::query_scalar("SELECT id FROM index_keys JOIN sessions USING (id) WHERE owner = ? AND ends > ?")
            .bind(owner)
            .bind(now())
            .fetch_all(&self.pool)
            .await
            .map_err(failed)
    }

    async fn put_entry(&self, name: &str, value: &str, life: Duration) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO notes (name, value, ends) VALUES (?, ?, ?) \
             ON CONFLICT (name) DO UPDATE SET value = excluded.value, ends = excluded.ends",
        )
        .bind(name)
        .bind(value)
        .bind(end(life))
        .execute(&self.pool)
        .await
        .map_err(failed)?;
        Ok(())
    }

    async fn put_end_if_unchanged(
        &self,
        name: &str,
        known: Option<&str>,
        value: &str,
        life: Duration,
    ) -> Result<bool, StoreError> {
        let Some(known) = known else {
            return self.lock(name, value, life).await;
        };
        let done = sqlx::query(
            "INSERT INTO notes (name, value, ends) VALUES (?, ?, ?) \
             ON CONFLICT (name) DO UPDATE SET value = excluded.value, ends = excluded.ends \
             WHERE notes.ends <= ? OR notes.value = ?",
        )
        .bind(name)
        .bind(value)
        .bind(end(life))
        .bind(now())
        .bind(known)
        .execute(&self.pool)
        .await
        .map_err(failed)?;
        Ok(done.rows_affected() == 1)
    }

    async fn lock(&self, name: &str, value: &str, life: Duration) -> Result<bool, StoreError> {
        // One statement, so that of many claims one finds nothing there, or something that is over.
        let done = sqlx::query(
            "INSERT INTO notes (name, value, ends) VALUES (?, ?, ?) \
             ON CONFLICT (name) DO UPDATE SET value = excluded.value, ends = excluded.ends \
             WHERE notes.ends <= ?",
        )
        .bind(name)
        .bind(value)
        .bind(end(life))
        .bind(now())
        .execute(&self.pool)
        .await
        .map_err(failed)?;
        Ok(done.rows_affected() == 1)
    }

    async fn put_entry_if_larger(&self, name: &str, number: u64, life: Duration) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "INSERT INTO notes (name, value, ends) VALUES (?, ?, ?) \
             ON CONFLICT (name) DO UPDATE SET value = excluded.value, ends = excluded.ends \
             WHERE notes.ends <= ? OR CAST(notes.value AS INTEGER) < CAST(excluded.value AS INTEGER)",
        )
        .bind(name)
        .bind(number.to_string())
        .bind(end(life))
        .bind(now())
        .execute(&self.pool)
        .await
        .map_err(failed)?;
        Ok(done.rows_affected() == 1)
    }

    async fn entries(&self, names: &[&str]) -> Result<Vec<Option<String>>, StoreError> {
        let mut notes = vec![];
        for name in names {
            let note = sqlx::query_scalar("SELECT value FROM notes WHERE name = ? AND ends > ?")
                .bind(*name)
                .bind(now())
                .fetch_optional(&self.pool);
            notes.push(note.await.map_err(failed)?);
        }
        Ok(notes)
    }

    async fn entries_with_ttl(&self, names: &[&str]) -> Result<Vec<Option<(String, Duration)>>, StoreError> {
        let mut notes = vec![];
        for name in names {
            let now = now();
            let note = sqlx::query("SELECT value, ends FROM notes WHERE name = ? AND ends > ?")
                .bind(*name)
                .bind(now)
                .fetch_optional(&self.pool)
                .await
                .map_err(failed)?;
            let note = note.map(|row| {
                let left: i64 = row.try_get::<i64, _>("ends")? - now;
                let left = Duration::from_millis(left.unsigned_abs());
                Ok((row.try_get("value")?, left))
            });
            notes.push(note.transpose().map_err(failed)?);
        }
        Ok(notes)
    }

    async fn unlock(&self, name: &str, value: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM notes WHERE name = ? AND value = ?")
            .bind(name)
            .bind(value)
            .execute(&self.pool)
            .await
            .map_err(failed)?;
        Ok(())
    }
}

/// In milliseconds since 1970.
fn now() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since_1970.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}

fn end(life: Duration) -> i64 {
    let life = i64::try_from(life.as_millis()).unwrap_or(i64::MAX);
    now().saturating_add(life)
}

/// The kind of the error alone: a database's message may quote a value.
fn failed(error: sqlx::Error) -> StoreError {
    StoreError::new(match &error {
        sqlx::Error::Database(error) => format!("SQL error {}", error.code().unwrap_or_default()),
        sqlx::Error::PoolTimedOut => "no connection in time".to_owned(),
        _ => "no connection, or an answer that does not fit".to_owned(),
    })
}
