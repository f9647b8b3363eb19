//! SQLite: a file on this machine.

use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    ConnectOptions, Row, Sqlite as SqliteKind, SqlitePool,
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::{sync::OnceCell, time::sleep};

use super::{CALL_TIMEOUT, Database, Dialect, SqlError, Value, run};

/// How long a writer waits for the writer of another process: shorter than a call.
const BUSY_TIMEOUT: Duration = Duration::from_secs(4);
/// The pause before the file is opened again while another process is opening it.
const OPEN_PAUSE: Duration = Duration::from_millis(20);
/// How many readers there are.
const MAX_READERS: u32 = 4;

/// SQLITE_BUSY and SQLITE_BUSY_RECOVERY.
const BUSY: [&str; 2] = ["5", "261"];

const SQLITE: Dialect = Dialect {
    name: "SQLite",
    now: "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
    skip_locked: "",
    // SQLITE_BUSY, SQLITE_BUSY_RECOVERY, SQLITE_BUSY_SNAPSHOT, SQLITE_FULL.
    outages: &["5", "261", "517", "13"],
};

pub(super) struct Sqlite {
    path: PathBuf,
    pools: OnceCell<Pools>,
}

/// There is one writer at a time. In WAL mode readers do not wait for it.
struct Pools {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl Sqlite {
    pub(super) fn new(path: &str) -> Sqlite {
        Sqlite {
            path: path.into(),
            pools: OnceCell::new(),
        }
    }

    /// Made when they are first needed, because they belong to the runtime that they are made in.
    async fn pools(&self) -> Result<&Pools, SqlError> {
        let pools = self.pools.get_or_try_init(|| async {
            create_file(&self.path)?;
            let options = SqliteConnectOptions::new()
                .filename(&self.path)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .busy_timeout(BUSY_TIMEOUT)
                .disable_statement_logging();
            let pool = |size| {
                SqlitePoolOptions::new()
                    .max_connections(size)
                    .acquire_timeout(CALL_TIMEOUT)
                    .connect_lazy_with(options.clone())
            };
            Ok(Pools {
                writer: pool(1),
                readers: pool(MAX_READERS),
            })
        });
        pools.await
    }
}

/// A connection of a pool. When several processes open a new file at once, the switch to WAL mode fails with
/// SQLITE_BUSY without a wait: SQLite asks no busy handler where a reader becomes a writer. So opening is
/// tried again, until the call times out.
async fn connection(pool: &SqlitePool) -> Result<PoolConnection<SqliteKind>, SqlError> {
    loop {
        match pool.acquire().await {
            Err(sqlx::Error::Database(error))
                if error.code().is_some_and(|code| BUSY.contains(&&*code)) =>
            {
                sleep(OPEN_PAUSE).await;
            }
            acquired => return Ok(acquired?),
        }
    }
}

#[rocket::async_trait]
impl Database for Sqlite {
    fn dialect(&self) -> &'static Dialect {
        &SQLITE
    }

    async fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<u64, SqlError> {
        let pools = self.pools().await?;
        let mut writer = connection(&pools.writer).await?;
        Ok(run!(execute, sql, values, &mut *writer)?.rows_affected())
    }

    async fn rows(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Vec<String>>, SqlError> {
        let pools = self.pools().await?;
        let mut reader = connection(&pools.readers).await?;
        let rows = run!(fetch_all, sql, values, &mut *reader)?;
        let texts =
            |row: &sqlx::sqlite::SqliteRow| (0..row.len()).map(|i| row.try_get(i)).collect();
        Ok(rows.iter().map(texts).collect::<Result<_, _>>()?)
    }
}

/// Creates the file if there is none, for this user alone. SQLite gives its further files the same mode.
fn create_file(path: &Path) -> Result<(), SqlError> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) => Err(SqlError::Unusable(format!(
            "the SQLite file of `session.store_url` cannot be opened or created: {}",
            error.kind()
        ))),
    }
}
