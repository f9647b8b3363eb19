//! `assert_guarded` finds what somebody forgot.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
};

use rocket::{
    fs::FileServer,
    get, head,
    local::{asynchronous, blocking::Client},
    post, put, routes,
    serde::json::json,
};
use rocket_openidconnect::{
    AnyScope, LoggedIn, protect, protect_bearer,
    testing::{TestClient, TestProvider, assert_all_guarded, assert_guarded},
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

#[post("/open", data = "<body>", format = "application/x-www-form-urlencoded")]
fn post_open(body: &str) -> String {
    body.to_owned()
}

#[put("/guarded/<_id>", format = "json")]
fn put_guarded(_id: u32, _user: LoggedIn) {}

#[put("/written/<id>", format = "json")]
fn put_open(id: u32) -> String {
    id.to_string()
}

#[head("/head")]
fn head_open() {}

fn with_all_methods() -> rocket::Rocket<rocket::Build> {
    let app = TestProvider::new().register(rocket());
    app.mount("/v1", routes![post_open, put_guarded, put_open, head_open])
        .mount("/api", protect_bearer::<AnyScope>(routes![post_open, leak]))
}

#[test]
fn routes_of_every_method_are_requested() {
    let panic = catch_unwind(AssertUnwindSafe(|| assert_all_guarded(with_all_methods(), &["/"]))).unwrap_err();
    let text = panic.downcast::<String>().unwrap();
    let mut found: Vec<_> = text.lines().skip(1).map(str::trim).collect();
    found.sort_unstable();
    assert_eq!(
        found,
        [
            "HEAD /v1/head (head_open): 200 OK at /v1/head",
            "POST /v1/open (post_open): 200 OK at /v1/open",
            "PUT /v1/written/<id> (put_open): 200 OK at /v1/written/1",
        ]
    );
    let public = ["/", "HEAD /v1/head", "POST /v1/open", "PUT /v1/written/<id>"];
    assert_all_guarded(with_all_methods(), &public);
    // Of a running app, only what changes nothing; the list is the same.
    let client = Client::untracked(with_all_methods()).unwrap();
    assert_eq!(
        findings(&client, &["/", "PUT /v1/written/<id>"]),
        ["HEAD /v1/head (head_open): 200 OK at /v1/head"]
    );
    assert_guarded(&client, &public);
}

#[test]
#[should_panic(expected = "there is no public route `POST /`")]
fn a_public_route_is_of_its_method() {
    assert_all_guarded(with_all_methods(), &["POST /"]);
}

#[rocket::async_test]
async fn an_asynchronous_test_waits_too() {
    let public = ["/", "HEAD /v1/head", "POST /v1/open", "PUT /v1/written/<id>"];
    assert_all_guarded(with_all_methods(), &public);
}
