//! The PostgreSQL database of `SqlStore`: a server that several nodes share.

use std::str::FromStr;

use sqlx::{
    ConnectOptions, PgPool, Row,
    postgres::{PgConnectOptions, PgPoolOptions, PgRow},
};
use tokio::sync::OnceCell;

use super::{CONNECTION_TIMEOUT, Database, Dialect, SqlError, Value, run};
use crate::{secret::Secret, session::store::StoreError};

/// Maximum connections of this node.
const MAX_CONNECTIONS: u32 = 10;

const POSTGRES: Dialect = Dialect {
    name: "PostgreSQL",
    now: "CAST(extract(epoch FROM now()) * 1000 AS BIGINT)",
    skip_locked: "FOR UPDATE SKIP LOCKED",
    // Starting or shutting down, too many connections, read-only during a failover.
    outages: &["57P01", "57P02", "57P03", "53300", "25006"],
};

pub(super) struct Postgres {
    options: PgConnectOptions,
    pool: OnceCell<PgPool>,
}

impl Postgres {
    pub(super) fn new(url: &Secret) -> Result<Postgres, StoreError> {
        // The error would contain the URL, which may contain a password.
        let options = PgConnectOptions::from_str(url.expose())
            .map_err(|_| StoreError::new("`session.store_url` is not a valid PostgreSQL URL"))?;
        Ok(Postgres {
            options: options.disable_statement_logging(),
            pool: OnceCell::new(),
        })
    }

    /// The pool, created on first use, because it belongs to the async runtime that creates it.
    async fn pool(&self) -> &PgPool {
        let pool = self.pool.get_or_init(|| async {
            PgPoolOptions::new()
                .max_connections(MAX_CONNECTIONS)
                .acquire_timeout(CONNECTION_TIMEOUT)
                .connect_lazy_with(self.options.clone())
        });
        pool.await
    }
}

#[rocket::async_trait]
impl Database for Postgres {
    fn dialect(&self) -> &'static Dialect {
        &POSTGRES
    }

    async fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<u64, SqlError> {
        Ok(run!(execute, sql, values, self.pool().await)?.rows_affected())
    }

    async fn rows(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Vec<String>>, SqlError> {
        let rows = run!(fetch_all, sql, values, self.pool().await)?;
        let texts = |row: &PgRow| (0..row.len()).map(|i| row.try_get(i)).collect();
        Ok(rows.iter().map(texts).collect::<Result<_, _>>()?)
    }
}
