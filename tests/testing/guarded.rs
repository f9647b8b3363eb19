//! `assert_guarded` finds what somebody forgot.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
};

use rocket::{
    fs::FileServer,
    get,
    local::{asynchronous, blocking::Client},
    routes,
    serde::json::json,
};
use rocket_openidconnect::{
    LoggedIn, protect,
    testing::{TestClient, TestProvider, assert_guarded},
};

use crate::app::rocket;

/// No address that is made up for it can be read as its arguments.
#[get("/report/<_is_final>/<_rest..>?draft&<sort>", format = "json")]
fn guarded_report(_user: LoggedIn, _is_final: bool, _rest: PathBuf, sort: u8) -> String {
    sort.to_string()
}

#[get("/leak/<_id>", format = "json")]
fn leak(_id: u32) -> &'static str {
    "a secret"
}

#[get("/elsewhere")]
fn elsewhere() -> rocket::response::Redirect {
    rocket::response::Redirect::to("/oidc-login")
}

/// What it panics with; the names of routes.
fn findings(client: &Client, public: &[&str]) -> Vec<String> {
    let panic = catch_unwind(AssertUnwindSafe(|| assert_guarded(client, public))).unwrap_err();
    let text = panic.downcast::<String>().unwrap();
    text.lines().skip(1).map(|line| line.trim().to_owned()).collect()
}

#[test]
fn every_route_that_answers_to_nobody_is_listed() {
    let app = TestProvider::new().register(rocket());
    let files = FileServer::from(concat!(env!("CARGO_MANIFEST_DIR"), "/docs"));
    let app = app
        .mount("/v1", routes![guarded_report, leak, elsewhere])
        .mount("/files", files.clone())
        .mount("/protected", protect(files))
        .mount("/also", protect(routes![leak]));
    let client = Client::untracked(app).unwrap();
    let mut found = findings(&client, &["/"]);
    found.sort();
    assert_eq!(
        found,
        [
            "GET /files/<path..> (FileServer: docs): 404 Not Found at /files/x",
            "GET /v1/elsewhere (elsewhere): 303 See Other at /v1/elsewhere",
            "GET /v1/leak/<_id> (leak): 200 OK at /v1/leak/1",
        ]
    );
    let public = ["/", "/files/<path..>", "/v1/elsewhere", "/v1/leak/<_id>"];
    assert_guarded(&client, &public);
}

#[rocket::async_test]
async fn the_asynchronous_client_finds_the_same() {
    let client = asynchronous::Client::untracked(rocket()).await.unwrap();
    assert_guarded(&client, &["/"]).await;
    let unguarded = asynchronous::Client::untracked(rocket().mount("/", routes![leak]))
        .await
        .unwrap();
    let visits = rocket::tokio::spawn(async move { assert_guarded(&unguarded, &["/"]).await });
    let panic = visits.await.unwrap_err().into_panic();
    let text = panic.downcast::<String>().unwrap();
    assert!(text.contains("GET /leak/<_id> (leak): 200 OK"), "{text}");
}

#[test]
#[should_panic(expected = "there is no public route `/index`")]
fn a_public_route_that_is_none_is_told() {
    let client = Client::untracked(TestProvider::new().register(rocket())).unwrap();
    assert_guarded(&client, &["/", "/index"]);
}

#[test]
#[should_panic(expected = "the client has cookies")]
fn a_client_that_is_somebody_is_told() {
    let client = Client::tracked(TestProvider::new().register(rocket())).unwrap();
    client.sign_in("/me", json!({ "sub": "alice" }));
    assert_guarded(&client, &["/"]);
}
