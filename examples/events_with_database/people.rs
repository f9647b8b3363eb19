//! The people who signed in, and what became of their sessions: two tables.

use std::time::Duration;

use rocket_openidconnect::{Claims, SessionChange};
use sqlx::{
    Row, SqlitePool,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteRow},
};

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS people (
    id INTEGER PRIMARY KEY, issuer TEXT NOT NULL, subject TEXT NOT NULL,
    name TEXT, email TEXT, nickname TEXT,
    visits INTEGER NOT NULL DEFAULT 1, blocked INTEGER NOT NULL DEFAULT 0,
    UNIQUE (issuer, subject)
);
CREATE TABLE IF NOT EXISTS sessions (
    id INTEGER PRIMARY KEY, at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
    what TEXT NOT NULL, reason TEXT NOT NULL, issuer TEXT NOT NULL, subject TEXT, session TEXT
)";

/// The tables.
#[derive(Clone)]
pub struct People(SqlitePool);

/// That a session began or ended.
pub struct Change {
    pub at: String,
    pub what: String,
    pub reason: String,
    /// Not known where sessions in cookies end by the provider's `sid`.
    pub subject: Option<String>,
}

/// A row of it.
pub struct Person {
    pub id: i64,
    pub subject: String,
    /// As the provider had them at the latest sign-in.
    pub name: Option<String>,
    pub email: Option<String>,
    /// The app's own.
    pub nickname: Option<String>,
    pub visits: i64,
    pub is_blocked: bool,
}

impl People {
    /// Opens the database at this address, and makes its tables.
    pub async fn open(address: &str) -> Result<People, sqlx::Error> {
        let options: SqliteConnectOptions = address.parse()?;
        // SQLite has one writer at a time.
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(Duration::from_secs(2))
            .connect_with(options.create_if_missing(true))
            .await?;
        sqlx::raw_sql(SCHEMA).execute(&pool).await?;
        Ok(People(pool))
    }

    /// Somebody signs in: a new row, or the one that is there with what the provider says today.
    pub async fn greet(&self, issuer: &str, subject: &str, claims: &Claims) -> Result<Person, sqlx::Error> {
        let row = sqlx::query(
            "INSERT INTO people (issuer, subject, name, email) VALUES (?, ?, ?, ?)
             ON CONFLICT (issuer, subject) DO UPDATE
             SET name = excluded.name, email = excluded.email, visits = visits + 1
             RETURNING *",
        )
        .bind(issuer)
        .bind(subject)
        .bind(claims.get::<String>("name"))
        .bind(claims.get::<String>("email"))
        .fetch_one(&self.0);
        Person::from_row(&row.await?)
    }

    pub async fn find(&self, id: i64) -> Result<Option<Person>, sqlx::Error> {
        let row = sqlx::query("SELECT * FROM people WHERE id = ?").bind(id);
        let row = row.fetch_optional(&self.0).await?;
        row.as_ref().map(Person::from_row).transpose()
    }

    pub async fn all(&self) -> Result<Vec<Person>, sqlx::Error> {
        let rows = sqlx::query("SELECT * FROM people ORDER BY id");
        let rows = rows.fetch_all(&self.0).await?;
        rows.iter().map(Person::from_row).collect()
    }

    pub async fn rename(&self, id: i64, nickname: &str) -> Result<(), sqlx::Error> {
        let update = sqlx::query("UPDATE people SET nickname = ? WHERE id = ?");
        let update = update.bind(nickname).bind(id);
        update.execute(&self.0).await.map(drop)
    }

    pub async fn note(&self, what: &str, change: &SessionChange) -> Result<(), sqlx::Error> {
        let insert =
            sqlx::query("INSERT INTO sessions (what, reason, issuer, subject, session) VALUES (?, ?, ?, ?, ?)")
                .bind(what)
                .bind(change.reason())
                .bind(change.issuer())
                .bind(change.subject())
                .bind(change.session_id());
        insert.execute(&self.0).await.map(drop)
    }

    pub async fn latest_changes(&self) -> Result<Vec<Change>, sqlx::Error> {
        let rows = sqlx::query("SELECT * FROM sessions ORDER BY id DESC LIMIT 50");
        let rows = rows.fetch_all(&self.0).await?;
        rows.iter().map(Change::from_row).collect()
    }

    pub async fn block(&self, id: i64) -> Result<Option<Person>, sqlx::Error> {
        let update = sqlx::query("UPDATE people SET blocked = 1 WHERE id = ? RETURNING *");
        let row = update.bind(id).fetch_optional(&self.0).await?;
        row.as_ref().map(Person::from_row).transpose()
    }
}

impl Change {
    fn from_row(row: &SqliteRow) -> Result<Change, sqlx::Error> {
        Ok(Change {
            at: row.try_get("at")?,
            what: row.try_get("what")?,
            reason: row.try_get("reason")?,
            subject: row.try_get("subject")?,
        })
    }
}

impl Person {
    fn from_row(row: &SqliteRow) -> Result<Person, sqlx::Error> {
        Ok(Person {
            id: row.try_get("id")?,
            subject: row.try_get("subject")?,
            name: row.try_get("name")?,
            email: row.try_get("email")?,
            nickname: row.try_get("nickname")?,
            visits: row.try_get("visits")?,
            is_blocked: row.try_get("blocked")?,
        })
    }

    /// What to call them.
    pub fn display_name(&self) -> &str {
        let names = [&self.nickname, &self.name];
        let name = names.into_iter().flatten().next();
        name.unwrap_or(&self.subject)
    }
}
