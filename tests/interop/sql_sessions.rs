//! Sessions in a SQL database: PostgreSQL for several nodes, SQLite for several processes on one machine.

use std::time::Duration;

use rocket::futures::future::join_all;
use rocket_openidconnect::{
    Secret,
    store::{SessionStore, SqlStore, StoreError, contract},
};
use tempfile::TempDir;

use crate::{
    servers::{Server, postgres_server::PostgresServer},
    sessions::{
        a_node_dies_in_the_middle_of_a_refresh, a_node_is_stopped_in_the_middle_of_a_refresh, in_store,
        one_session_on_two_nodes, store_that_stops_during_a_refresh_loses_no_token,
        store_that_stops_under_load_signs_nobody_out, two_nodes_whose_clocks_differ, within,
    },
};

const HOUR: Duration = Duration::from_secs(3600);
/// Where sessions are; what has ended is in the database with either.
const STORES: [&str; 2] = ["sql", "cookie"];

fn store(url: String) -> SqlStore {
    SqlStore::new(&Secret::new(url)).unwrap()
}

fn in_sqlite(directory: &TempDir) -> String {
    format!("sqlite://{}/sessions.db", directory.path().display())
}

#[rocket::async_test]
#[ignore = "needs PostgreSQL: run scripts/interop"]
async fn the_postgresql_store_keeps_its_promises() {
    let server = PostgresServer::start();
    contract::check(&store(server.url())).await;
    let tables =
        server.ask("SELECT string_agg(tablename, ' ' ORDER BY tablename) FROM pg_tables WHERE schemaname = 'public'");
    assert_eq!(tables, "oidc_entries oidc_schema oidc_session_index oidc_sessions");
    // By its own clock.
    let life = "SELECT ends / 1000 - extract(epoch FROM now())::bigint FROM oidc_entries WHERE name = 'n'";
    store(server.url()).put_entry("n", "1", HOUR).await.unwrap();
    let life: u64 = server.ask(life).parse().unwrap();
    assert!((3590..=3600).contains(&life), "{life}");
}

/// None of them finds a table, and each has a pool of its own.
#[rocket::async_test]
#[ignore = "needs PostgreSQL: run scripts/interop"]
async fn nodes_that_start_at_once_create_the_tables_once() {
    let server = PostgresServer::start();
    let stores: Vec<_> = (0..6).map(|_| store(server.url())).collect();
    let claims = stores.iter().map(|store| store.lock("n", "1", HOUR));
    let claims = join_all(claims).await;
    let won = claims.iter().filter(|claim| **claim == Ok(true)).count();
    let lost = claims.iter().filter(|claim| **claim == Ok(false)).count();
    assert_eq!((won, lost), (1, 5), "{claims:?}");
}

#[rocket::async_test]
#[ignore = "needs PostgreSQL: run scripts/interop"]
async fn an_account_that_may_create_nothing_uses_the_tables_that_are_there() {
    let server = PostgresServer::start();
    server.ask("CREATE ROLE small LOGIN");
    let refused = StoreError::new("PostgreSQL returned error code 42501");
    let small = store(server.url_of("small"));
    assert_eq!(small.prepare().await, Err(refused));

    store(server.url()).prepare().await.unwrap();
    server.ask("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO small");
    assert_eq!(small.prepare().await, Ok(()));
    assert_eq!(small.lock("n", "1", HOUR).await, Ok(true));
}

#[rocket::async_test]
#[ignore = "needs PostgreSQL: run scripts/interop"]
async fn a_postgresql_that_cannot_be_used_is_refused_without_a_password() {
    let server = PostgresServer::start();
    for (url, code) in [
        (server.url_of("nobody:hush"), "28000"),
        (server.url().replace("/app?", "/missing?"), "3D000"),
    ] {
        let cause = format!("PostgreSQL returned error code {code}");
        assert_eq!(store(url).prepare().await, Err(StoreError::new(cause)));
    }
    // It has no TLS.
    let strict = store(format!("{}sslmode=require", server.url()));
    let cause = StoreError::new("the TLS connection to PostgreSQL failed");
    assert_eq!(strict.prepare().await, Err(cause));

    store(server.url()).prepare().await.unwrap();
    server.ask("UPDATE oidc_schema SET version = 2");
    let cause = "the tables `oidc_…` have version 2, and this version of rocket_openidconnect needs 1";
    let other = store(server.url()).prepare().await;
    assert_eq!(other, Err(StoreError::new(cause)));
}

/// Somebody else may answer where PostgreSQL should be.
#[rocket::async_test]
#[ignore = "needs PostgreSQL: run scripts/interop"]
async fn a_postgresql_that_is_not_trusted_is_told_nothing() {
    let server = PostgresServer::start_with_tls();
    let full = format!("{}sslmode=verify-full", server.url());
    let trusting = format!("{full}&sslrootcert={}", server.certificate());
    let other_host = trusting.replace("@localhost", "@127.0.0.1");
    for url in [&full, &other_host] {
        let error = store(url.clone()).prepare().await.unwrap_err();
        let refused = "the TLS connection to PostgreSQL failed: invalid peer certificate: ";
        assert!(error.cause.starts_with(refused), "{error}");
    }
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(server.ask(tables), "0");

    let store = store(trusting);
    assert_eq!(store.prepare().await, Ok(()));
    let with_tls = "SELECT count(*) > 0 FROM pg_stat_ssl WHERE ssl";
    assert_eq!(server.ask(with_tls), "t");
}

#[rocket::async_test]
#[ignore = "needs PostgreSQL: run scripts/interop"]
async fn a_postgresql_that_is_down_is_an_error_and_comes_back() {
    let mut server = PostgresServer::start();
    let store = store(server.url());
    store.put_entry("a", "1", HOUR).await.unwrap();
    server.stop();
    let cause = StoreError::new("PostgreSQL did not respond in time");
    assert_eq!(store.entries(&["a"]).await, Err(cause));
    server.restart();
    let look = || async { store.entries(&["a"]).await == Ok(vec![Some("1".to_owned())]) };
    within(Duration::from_secs(5), look).await;
}

/// Its connections are lost, and the next request does not notice.
#[rocket::async_test]
#[ignore = "needs PostgreSQL: run scripts/interop"]
async fn a_connection_that_is_lost_is_made_again() {
    let server = PostgresServer::start();
    let store = store(server.url());
    store.put_entry("a", "1", HOUR).await.unwrap();
    server.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = 'app' AND backend_type = 'client backend'");
    let notes = store.entries(&["a"]).await;
    assert_eq!(notes, Ok(vec![Some("1".to_owned())]));
}

#[rocket::async_test]
#[ignore = "needs Node.js and PostgreSQL: run scripts/interop"]
async fn one_session_on_two_nodes_in_postgresql() {
    for store in STORES {
        let server = PostgresServer::start();
        one_session_on_two_nodes(&in_store(store, &server.url())).await;
        // Whoever reads the database learns nothing about anybody, and no connection waits in a transaction.
        let rows = server.ask("SELECT s::text FROM oidc_sessions s UNION ALL SELECT n::text FROM oidc_entries n UNION ALL SELECT o::text FROM oidc_session_index o");
        assert_ne!(rows, "");
        for secret in ["alice", "Alice", "example.com", "eyJhbGci", "\"sid\""] {
            assert!(!rows.contains(secret), "{secret} is in the database");
        }
    }
}

#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn one_session_on_two_processes_in_sqlite() {
    for store in STORES {
        let directory = TempDir::new().unwrap();
        one_session_on_two_nodes(&in_store(store, &in_sqlite(&directory))).await;
    }
}

#[rocket::async_test]
#[ignore = "needs Node.js and PostgreSQL: run scripts/interop"]
async fn a_node_that_dies_leaves_the_session_in_a_database_to_the_other() {
    for store in STORES {
        let server = PostgresServer::start();
        let session = in_store(store, &server.url());
        assert!(a_node_dies_in_the_middle_of_a_refresh(&session, 900, 0).await);
        let directory = TempDir::new().unwrap();
        let session = in_store(store, &in_sqlite(&directory));
        assert!(a_node_dies_in_the_middle_of_a_refresh(&session, 900, 0).await);
    }
}

#[rocket::async_test]
#[ignore = "needs Node.js and PostgreSQL: run scripts/interop"]
async fn a_node_that_is_stopped_in_postgresql_stores_its_refresh_first() {
    let server = PostgresServer::start();
    a_node_is_stopped_in_the_middle_of_a_refresh(&in_store("sql", &server.url())).await;
}

/// What the provider sent in place of the refresh token has died with the node.
#[rocket::async_test]
#[ignore = "needs Node.js and PostgreSQL: run scripts/interop"]
async fn a_node_that_dies_after_the_provider_rotated_makes_the_user_of_a_database_sign_in_again() {
    for store in STORES {
        let server = PostgresServer::start();
        let session = in_store(store, &server.url());
        assert!(!a_node_dies_in_the_middle_of_a_refresh(&session, 0, 900).await);
        let directory = TempDir::new().unwrap();
        let session = in_store(store, &in_sqlite(&directory));
        assert!(!a_node_dies_in_the_middle_of_a_refresh(&session, 0, 900).await);
    }
}

#[rocket::async_test]
#[ignore = "needs Node.js and PostgreSQL: run scripts/interop"]
async fn two_nodes_whose_clocks_differ_in_postgresql() {
    for store in STORES {
        let server = PostgresServer::start();
        two_nodes_whose_clocks_differ(&in_store(store, &server.url())).await;
    }
}

#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn two_processes_whose_clocks_differ_in_sqlite() {
    for store in STORES {
        let directory = TempDir::new().unwrap();
        two_nodes_whose_clocks_differ(&in_store(store, &in_sqlite(&directory))).await;
    }
}

#[rocket::async_test]
#[ignore = "needs Node.js and PostgreSQL: run scripts/interop"]
async fn postgresql_that_stops_under_load_signs_nobody_out() {
    for store in STORES {
        store_that_stops_under_load_signs_nobody_out(store, &mut PostgresServer::start()).await;
    }
}

#[rocket::async_test]
#[ignore = "needs Node.js and PostgreSQL: run scripts/interop"]
async fn postgresql_that_stops_during_a_refresh_loses_no_token() {
    for store in STORES {
        store_that_stops_during_a_refresh_loses_no_token(store, &mut PostgresServer::start()).await;
    }
}
