use std::path::Path;

use rocket::futures::future::join_all;
use sqlx::{Connection, Row, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

use super::{super::contract, *};

const HOUR: Duration = Duration::from_secs(3600);

fn store(file: &Path) -> SqlStore {
    SqlStore::new(&Secret::new(format!("sqlite://{}", file.display()))).unwrap()
}

fn session(id: &str, index_key: &str) -> StoredSession {
    StoredSession {
        id: id.to_owned(),
        version: 1,
        value: "encrypted".to_owned(),
        index_keys: vec![index_key.to_owned()],
    }
}

/// Another connection to the file.
async fn connection(file: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(file);
    SqliteConnection::connect_with(&options).await.unwrap()
}

async fn text(file: &Path, sql: &str) -> String {
    let mut connection = connection(file).await;
    let row = sqlx::query(sql).fetch_one(&mut connection).await;
    row.unwrap().get(0)
}

#[rocket::async_test]
async fn it_fulfils_the_contract_of_a_store() {
    let directory = TempDir::new().unwrap();
    contract::check(&store(&directory.path().join("a.db"))).await;
}

#[rocket::async_test]
async fn a_session_survives_a_restart() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("a.db");
    let before = store(&file);
    before.create(&session("a", "alice"), HOUR).await.unwrap();
    before.put_entry("n", "1", HOUR).await.unwrap();
    drop(before);

    let after = store(&file);
    let found = after.load("a").await.unwrap().unwrap();
    assert_eq!(*found, session("a", "alice"));
    assert_eq!(after.ids_by_index_key("alice").await.unwrap(), ["a"]);
    assert_eq!(after.entries(&["n"]).await, Ok(vec![Some("1".to_owned())]));
}

#[rocket::async_test]
async fn several_stores_may_have_one_file() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("a.db");
    let stores: Vec<_> = (0..4).map(|_| store(&file)).collect();
    // Concurrent from the start, before the tables exist.
    let claims = (0..32).map(|i| stores[i % 4].lock("n", "1", HOUR));
    let claims: Vec<_> = join_all(claims).await.into_iter().collect();
    let won = claims.iter().filter(|claim| **claim == Ok(true)).count();
    let lost = claims.iter().filter(|claim| **claim == Ok(false)).count();
    assert_eq!((won, lost), (1, 31), "{claims:?}");

    stores[0].create(&session("a", "alice"), HOUR).await.unwrap();
    let next = StoredSession {
        version: 2,
        ..session("a", "alice")
    };
    let replaced = stores.iter().map(|store| store.replace(&next, HOUR));
    let replaced = join_all(replaced).await;
    let won = replaced.iter().filter(|done| **done == Ok(true)).count();
    assert_eq!(won, 1, "{replaced:?}");
    assert_eq!(stores[3].load("a").await.unwrap().unwrap().version, 2);
    assert_eq!(stores[2].remove("a").await, Ok(true));
    assert_eq!(stores[1].load("a").await, Ok(None));
    assert_eq!(stores[1].ids_by_index_key("alice").await, Ok(vec![]));
}

/// SQLite's own busy timeout does not apply to the switch of a new file to WAL mode.
#[rocket::async_test]
async fn a_file_that_another_process_is_creating_is_opened_afterwards() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("a.db");
    let options = SqliteConnectOptions::new().filename(&file).create_if_missing(true);
    let mut other = SqliteConnection::connect_with(&options).await.unwrap();
    let begin = "BEGIN IMMEDIATE; CREATE TABLE other (id INTEGER)";
    sqlx::raw_sql(begin).execute(&mut other).await.unwrap();

    let store = store(&file);
    let mut noting = store.put_entry("n", "1", HOUR);
    let early = timeout(Duration::from_millis(200), &mut noting).await;
    assert!(early.is_err(), "{early:?}");
    sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
    assert_eq!(noting.await, Ok(()));
    assert_eq!(store.entries(&["n"]).await, Ok(vec![Some("1".to_owned())]));
}

#[rocket::async_test]
async fn the_largest_numbers_are_compared_as_numbers() {
    let directory = TempDir::new().unwrap();
    let store = store(&directory.path().join("a.db"));
    for (number, is_kept) in [
        (9, true),
        (10, true),
        (9, false),
        (i64::MAX.unsigned_abs() + 1, true),
        (10, false),
        (u64::MAX, true),
        (u64::MAX, false),
    ] {
        let answer = store.put_entry_if_larger("n", number, HOUR).await;
        assert_eq!(answer, Ok(is_kept), "{number}");
    }
    let entries = store.entries(&["n", "n", "m"]).await.unwrap();
    let largest = Some(u64::MAX.to_string());
    assert_eq!(entries, [largest.clone(), largest, None]);
    assert_eq!(store.entries(&[]).await, Ok(vec![]));
}

#[rocket::async_test]
async fn a_number_that_has_expired_is_replaced_by_a_smaller_one() {
    let directory = TempDir::new().unwrap();
    let store = store(&directory.path().join("a.db"));
    assert_eq!(store.put_entry_if_larger("n", 9, Duration::ZERO).await, Ok(true));
    assert_eq!(store.entries(&["n"]).await, Ok(vec![None]));
    assert_eq!(store.put_entry_if_larger("n", 8, HOUR).await, Ok(true));
}

#[rocket::async_test]
async fn expired_rows_are_not_found_and_then_deleted_in_batches() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("a.db");
    let store = store(&file);
    store.create(&session("a", "alice"), HOUR).await.unwrap();
    store.create(&session("b", "alice"), Duration::ZERO).await.unwrap();
    assert_eq!(store.load("b").await, Ok(None));
    assert_eq!(store.ids_by_index_key("alice").await.unwrap(), ["a"]);
    assert_eq!(store.remove("b").await, Ok(false));
    let next = StoredSession {
        version: 2,
        ..session("b", "alice")
    };
    // `replace` adds it to the index before it finds that it has expired.
    assert_eq!(store.replace(&next, Duration::ZERO).await, Ok(false));

    let many = "INSERT INTO oidc_entries (name, value, ends) \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200) \
         SELECT 'n' || i, '', 1 FROM n";
    sqlx::query(many).execute(&mut connection(&file).await).await.unwrap();
    store.put_entry("kept", "", HOUR).await.unwrap();
    let deleted = store.inner.delete_expired().await;
    assert_eq!(deleted.unwrap_or_else(|_| panic!("it is deleted")), 1_202);
    let rows = "SELECT (SELECT group_concat(id) FROM oidc_sessions) || ' ' || \
         (SELECT group_concat(id) FROM oidc_session_index) || ' ' || \
         (SELECT group_concat(name) FROM oidc_entries)";
    assert_eq!(text(&file, rows).await, "a a kept");
}

#[rocket::async_test]
async fn a_session_stays_in_the_index_when_its_ttl_grows() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("a.db");
    let store = store(&file);
    let ends = "SELECT CAST((SELECT ends FROM oidc_session_index) - (SELECT ends FROM oidc_sessions) > -1000 \
         AND (SELECT ends FROM oidc_sessions) > (unixepoch() + 3000) * 1000 AS TEXT)";
    let first = session("a", "alice");
    store.create(&first, Duration::from_secs(60)).await.unwrap();
    assert_eq!(text(&file, ends).await, "0");
    let next = StoredSession { version: 2, ..first };
    assert_eq!(store.replace(&next, HOUR).await, Ok(true));
    assert_eq!(text(&file, ends).await, "1");
    // A late replacement does not shorten it.
    assert_eq!(store.replace(&next, Duration::ZERO).await, Ok(false));
    assert_eq!(text(&file, ends).await, "1");
}

#[cfg(unix)]
#[rocket::async_test]
async fn the_file_is_for_this_user_alone_and_survives_a_loss_of_power() {
    use std::os::unix::fs::PermissionsExt;

    let directory = TempDir::new().unwrap();
    let file = directory.path().join("a.db");
    let store = store(&file);
    store.put_entry("n", "1", HOUR).await.unwrap();
    let mut seen: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode();
            format!("{} {:o}", entry.file_name().display(), mode & 0o777)
        })
        .collect();
    seen.sort();
    assert_eq!(seen, ["a.db 600", "a.db-shm 600", "a.db-wal 600"]);
    // 2 is FULL.
    let rows = store
        .inner
        .database
        .rows("SELECT CAST(synchronous AS TEXT) FROM pragma_synchronous", &[]);
    let rows = rows.await.unwrap_or_else(|_| panic!("the setting is read"));
    assert_eq!(rows, [["2"]]);
}

#[rocket::async_test]
async fn tables_of_another_version_are_rejected_and_unchanged() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("a.db");
    store(&file).prepare().await.unwrap();
    let newer = "UPDATE oidc_schema SET version = 2";
    sqlx::query(newer).execute(&mut connection(&file).await).await.unwrap();

    let store = store(&file);
    let expected =
        StoreError::new("the tables `oidc_…` have version 2, and this version of rocket_openidconnect needs 1");
    assert_eq!(store.prepare().await, Err(expected.clone()));
    assert_eq!(store.load("a").await, Err(expected));
    let version = "SELECT CAST(version AS TEXT) FROM oidc_schema";
    assert_eq!(text(&file, version).await, "2");
}

#[rocket::async_test]
async fn a_file_that_cannot_be_created_or_is_none_of_sqlite_is_refused() {
    let directory = TempDir::new().unwrap();
    let nowhere = store(&directory.path().join("missing/a.db"));
    let expected =
        StoreError::new("the SQLite file of `session.store_url` cannot be opened or created: entity not found");
    assert_eq!(nowhere.prepare().await, Err(expected));

    let other = directory.path().join("a.txt");
    std::fs::write(
        &other,
        "not a database, and longer than a header of SQLite. ".repeat(100),
    )
    .unwrap();
    let expected = StoreError::new("SQLite returned error code 26");
    assert_eq!(store(&other).prepare().await, Err(expected));
    assert!(std::fs::read_to_string(&other).unwrap().starts_with("not a database"));
}

/// A write lock that is never released is an outage, which does not abort the launch.
#[rocket::async_test]
async fn a_locked_file_is_an_outage() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("a.db");
    let store = store(&file);
    store.put_entry("n", "1", HOUR).await.unwrap();
    let mut other = connection(&file).await;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let (noted, read) = rocket::tokio::join!(store.put_entry("n", "2", HOUR), store.entries(&["n"]));
    assert_eq!(noted, Err(StoreError::new("SQLite returned error code 5")));
    assert_eq!(read, Ok(vec![Some("1".to_owned())]));
    sqlx::query("COMMIT").execute(&mut other).await.unwrap();
    assert_eq!(store.put_entry("n", "2", HOUR).await, Ok(()));
}

/// A call waits for the write lock of another process.
#[rocket::async_test]
async fn a_file_that_is_locked_for_a_moment_is_none() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("a.db");
    let store = store(&file);
    store.put_entry("n", "1", HOUR).await.unwrap();
    let mut other = connection(&file).await;
    let begin = "BEGIN IMMEDIATE";
    sqlx::raw_sql(begin).execute(&mut other).await.unwrap();
    let mut noting = store.put_entry("n", "2", HOUR);
    let early = timeout(Duration::from_millis(200), &mut noting).await;
    assert!(early.is_err(), "{early:?}");
    sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
    assert_eq!(noting.await, Ok(()));
    assert_eq!(store.entries(&["n"]).await, Ok(vec![Some("2".to_owned())]));
}

#[rocket::tokio::test]
async fn expired_rows_are_deleted_once_a_minute() {
    use rocket::tokio::time::{advance, pause, resume};

    let directory = TempDir::new().unwrap();
    let file = directory.path().join("a.db");
    let store = store(&file);
    store.put_entry("n", "1", Duration::ZERO).await.unwrap();
    let count = "SELECT CAST(count(*) AS TEXT) FROM oidc_entries";
    assert_eq!(text(&file, count).await, "1");
    pause();
    advance(EXPIRY_INTERVAL).await;
    resume();
    let deleted = async { while text(&file, count).await != "0" {} };
    let deleted = timeout(Duration::from_secs(10), deleted).await;
    assert_eq!(deleted, Ok(()));
}

/// Only transient errors do not abort the launch.
#[rocket::async_test]
async fn an_outage_passes_by_itself() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("a.db");
    let store = store(&file);
    store.prepare().await.unwrap();
    let io = |kind| SqlError::Sqlx(sqlx::Error::Io(io::Error::from(kind)));
    let timed_out = "SQLite did not respond in time";
    let mut cases = vec![
        (sqlx::Error::PoolTimedOut.into(), true, timed_out),
        (
            sqlx::Error::PoolClosed.into(),
            true,
            "no connection to SQLite, or an unexpected response",
        ),
        (
            sqlx::Error::RowNotFound.into(),
            false,
            "no connection to SQLite, or an unexpected response",
        ),
        (io(io::ErrorKind::ConnectionRefused), true, "connection refused"),
        (
            io(io::ErrorKind::InvalidData),
            false,
            "the TLS connection to SQLite failed: invalid data",
        ),
        (SqlError::Unusable("why".to_owned()), false, "why"),
    ];
    let options = SqliteConnectOptions::new().filename(&file).busy_timeout(Duration::ZERO);
    let mut writer = connection(&file).await;
    let begin = sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut writer).await;
    begin.unwrap();
    for (sql, is_outage, expected) in [
        ("BEGIN IMMEDIATE", true, "SQLite returned error code 5"),
        ("SELECT", false, "SQLite returned error code 1"),
    ] {
        let mut other = SqliteConnection::connect_with(&options).await.unwrap();
        let error = sqlx::raw_sql(sql).execute(&mut other).await.unwrap_err();
        cases.push((error.into(), is_outage, expected));
    }
    for (error, is_outage, expected) in cases {
        assert_eq!(store.inner.is_outage(&error), is_outage, "{expected}");
        let error = store.inner.store_error(&error);
        assert_eq!(error, StoreError::new(expected));
    }
}

#[rocket::async_test]
async fn a_life_of_ages_is_one_that_a_database_can_add() {
    let directory = TempDir::new().unwrap();
    let store = store(&directory.path().join("a.db"));
    for ttl in [Duration::from_millis(i64::MAX as u64), Duration::MAX] {
        store.put_entry("n", "1", ttl).await.unwrap();
        let entries = store.entries_with_ttl(&["n"]).await.unwrap();
        let (value, left) = entries[0].clone().unwrap();
        assert_eq!(value, "1");
        assert!(left.as_millis() > 1 << 49, "{left:?}");
    }
}

#[test]
fn neither_an_error_nor_debug_shows_the_password() {
    for url in ["http://:hush@localhost", "redis://:hush@localhost"] {
        let error = SqlStore::new(&Secret::new(url)).unwrap_err();
        let expected = "`session.store_url` is not the URL of a SQL database";
        assert_eq!(error, StoreError::new(expected));
    }
    let store = SqlStore::new(&Secret::new("sqlite://hush.db")).unwrap();
    assert_eq!(format!("{store:?}"), "SqlStore { .. }");
}

#[cfg(feature = "postgres")]
#[test]
fn a_wrong_address_of_a_postgresql_shows_no_password() {
    for url in [
        "postgres://:hush@localhost:x/a",
        "postgres://a:hush@localhost/a?sslmode=hush",
    ] {
        let error = SqlStore::new(&Secret::new(url)).unwrap_err();
        let expected = "`session.store_url` is not a valid PostgreSQL URL";
        assert_eq!(error, StoreError::new(expected));
    }
}
