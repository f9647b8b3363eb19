//! The store keeps its promises, and a session outlives the app.

use rocket::{
    figment::providers::Serialized,
    http::Status,
    local::asynchronous::Client,
    serde::json::{Value, json},
};
use rocket_openidconnect::{
    store::contract,
    testing::{TestClient, TestProvider, TestRequest, assert_guarded},
};

use super::store::SqlStore;

#[rocket::async_test]
async fn the_sql_store_keeps_its_promises() {
    contract::check(&SqlStore::open("sqlite::memory:").await.unwrap()).await;
}

/// The app on this database.
async fn app(database: &str, provider: &TestProvider) -> Client {
    let rocket = super::app(SqlStore::open(database).await.unwrap());
    let key = Serialized::global("secret_key", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=");
    let figment = rocket.figment().clone().merge(key);
    let rocket = provider.register(rocket.configure(figment));
    Client::tracked(rocket).await.unwrap()
}

#[rocket::async_test]
async fn only_the_start_page_is_public() {
    let client = app("sqlite::memory:", &TestProvider::new()).await;
    assert_guarded(&client, &["/"]).await;
}

#[rocket::async_test]
async fn a_session_is_in_the_database_outlives_the_app_and_ends_there() {
    let file = std::env::temp_dir().join(format!("sql_sessions-{}.db", std::process::id()));
    let database = format!("sqlite:{}", file.display());
    let provider = TestProvider::new();
    let before = app(&database, &provider).await;
    let page = before.sign_in("/sessions", json!({ "sub": "alice" })).await;
    let list: Value = page.into_json().await.unwrap();
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert_eq!(list[0]["this one"], true);

    // Whoever reads the database learns nothing of her.
    let seen = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
    assert!(seen.contains(list[0]["id"].as_str().unwrap()));
    assert!(!seen.contains("alice"));

    let after = app(&database, &provider).await;
    let mut request = after.get("/sessions");
    for cookie in before.cookies().iter() {
        request = request.cookie(cookie.clone());
    }
    let again: Value = request.dispatch().await.into_json().await.unwrap();
    assert_eq!(again, list);

    // She has another browser.
    let other = after.get("/sessions").signed_in_as(json!({ "sub": "alice" }));
    let both: Value = other.dispatch().await.into_json().await.unwrap();
    assert_eq!(both.as_array().unwrap().len(), 2);
    assert_eq!((&both[0]["id"], &both[0]["this one"]), (&list[0]["id"], &json!(false)));
    assert_eq!(both[1]["this one"], true);

    before.sign_out("/").await;
    let answer = before.get("/sessions").dispatch().await.status();
    assert_eq!(answer, Status::Unauthorized);
    drop((before, after));
    let _ = std::fs::remove_file(&file);
}
