//! The store keeps its promises, and a session outlives the app.

use rocket::{
    http::{Accept, Status},
    local::asynchronous::Client,
    serde::json::Value,
};
use rocket_openidconnect::store::contract;

use super::store::SqlStore;

#[rocket::async_test]
async fn the_sql_store_keeps_its_promises() {
    contract::check(&SqlStore::open("sqlite::memory:").await.unwrap()).await;
}

/// The app on this database, on a development provider with a port of its own.
async fn app(database: &str) -> Client {
    let rocket = super::app(SqlStore::open(database).await.unwrap());
    let figment = rocket
        .figment()
        .clone()
        .merge(("log_level", "off"))
        .merge(("secret_key", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="))
        .merge(("oidc.dev_provider", serde_json::json!({ "port": 0 })));
    Client::tracked(rocket.configure(figment)).await.unwrap()
}

async fn location(client: &Client, path: &str) -> String {
    let response = client
        .get(path.to_owned())
        .header(Accept::HTML)
        .dispatch()
        .await;
    assert_eq!(response.status(), Status::SeeOther, "{path}");
    response.headers().get_one("Location").unwrap().to_owned()
}

/// Presses the button of a user at the development provider; answers the callback's address.
async fn sign_in_at_provider(authorization_request: &str, user: &str) -> String {
    let http = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let page = http.get(authorization_request).send().await.unwrap();
    let page = page.text().await.unwrap();
    let field = page.split("name=\"request\"").nth(1).unwrap();
    let request = field.split('"').nth(1).unwrap();
    let origin = url::Url::parse(authorization_request).unwrap();
    let answer = http
        .post(origin.join("/authorize").unwrap())
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(format!("request={request}&user={user}"))
        .send()
        .await
        .unwrap();
    let callback = answer.headers()["location"].to_str().unwrap();
    let callback = url::Url::parse(callback).unwrap();
    format!("{}?{}", callback.path(), callback.query().unwrap())
}

#[rocket::async_test]
async fn a_session_is_in_the_database_and_ends_there() {
    let file = std::env::temp_dir().join(format!("sql_sessions-{}.db", std::process::id()));
    let database = format!("sqlite:{}", file.display());
    let client = app(&database).await;
    let login = location(&client, "/sessions").await;
    let provider = location(&client, &login).await;
    let callback = sign_in_at_provider(&provider, "alice").await;
    assert_eq!(location(&client, &callback).await, "/sessions");
    let sessions: Value = client
        .get("/sessions")
        .dispatch()
        .await
        .into_json()
        .await
        .unwrap();
    assert_eq!(sessions.as_array().unwrap().len(), 1);
    assert_eq!(sessions[0]["this one"], true);

    // Whoever reads the database learns nothing of her.
    let seen = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
    assert!(seen.contains(sessions[0]["id"].as_str().unwrap()));
    assert!(!seen.contains("alice"));

    client.post("/oidc/logout").dispatch().await;
    let answer = client.get("/sessions").dispatch().await.status();
    assert_eq!(answer, Status::Unauthorized);
    drop(client);
    let _ = std::fs::remove_file(&file);
}
