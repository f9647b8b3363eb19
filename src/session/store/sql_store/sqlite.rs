//! The SQLite database of `SqlStore`: a file on this machine.

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

/// How long a writer waits for the lock of another process: less than `CALL_TIMEOUT`.
const BUSY_TIMEOUT: Duration = Duration::from_secs(4);
/// The pause before opening the file is retried while another process opens it.
const OPEN_PAUSE: Duration = Duration::from_millis(20);
/// Maximum connections for reading.
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

/// One connection for writing. In WAL mode, readers do not wait for it.
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

    /// The pools, created on first use, because they belong to the async runtime that creates them.
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

/// Acquires a connection of a pool. When several processes open a new file simultaneously, the switch to WAL mode fails
/// with SQLITE_BUSY at once: SQLite does not call the busy handler when a reader upgrades to a writer. So this retries,
/// until the call times out.
async fn connection(pool: &SqlitePool) -> Result<PoolConnection<SqliteKind>, SqlError> {
    loop {
        match pool.acquire().await {
            Err(sqlx::Error::Database(error)) if error.code().is_some_and(|code| BUSY.contains(&&*code)) => {
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
        let texts = |row: &sqlx::sqlite::SqliteRow| (0..row.len()).map(|i| row.try_get(i)).collect();
        Ok(rows.iter().map(texts).collect::<Result<_, _>>()?)
    }
}

/// Creates the file if there is none, with mode 0600. SQLite creates its auxiliary files with the same mode.
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
