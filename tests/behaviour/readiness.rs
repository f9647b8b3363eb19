//! Readiness probes: what a node needs to serve users, and whom a probe asks.

use std::time::Duration;

use rocket::{
    Build, Rocket, error::ErrorKind, futures::future::join_all, get, http::Status, local::asynchronous::Client, routes,
};
use rocket_openidconnect::{Bearer, Oidc, Readiness, RelyingParty};
use serde_json::json;

use crate::{
    common::App,
    support::{Browser, Call, Gate, Page, Reply, TestProvider, TestStore, until},
};

#[get("/ready")]
fn ready(readiness: Readiness) -> Readiness {
    readiness
}

#[get("/missing")]
async fn missing(rp: &RelyingParty) -> String {
    let readiness = rp.ready().await;
    assert_eq!(readiness.is_ready(), readiness.missing().is_empty());
    readiness.missing().join(" ")
}

#[get("/api")]
fn api(_token: Bearer) {}

fn rocket(app: &App) -> Rocket<Build> {
    app.rocket().mount("/", routes![ready, missing])
}

/// Asserts the status and the body of a probe.
#[track_caller]
fn is(page: &Page, status: Status, body: &str) {
    assert_eq!((page.status, page.body.as_str()), (status.code, body));
    assert_eq!(page.header("Cache-Control"), Some("no-store"));
    assert_eq!(page.header("Content-Type"), Some("text/plain; charset=utf-8"));
    assert_eq!(page.set_cookies(), Vec::<&str>::new());
}

async fn probe(browser: &Browser, status: Status, body: &str) {
    is(&browser.fetch("/ready").await, status, body);
}

/// Probes until what was missing has been read.
async fn until_ready(browser: &Browser) {
    until("the node is ready", async || {
        browser.fetch("/ready").await.status == 200
    })
    .await;
    probe(browser, Status::Ok, "ready\n").await;
}

#[rocket::async_test]
async fn a_node_reads_the_keys_before_it_is_ready() {
    let provider = TestProvider::start().await;
    let browser = Browser::open(rocket(&App::new(&provider))).await;
    let held = provider.hold("/jwks");
    // The launch has read the metadata. However many probes there are, one of them asks.
    // Each waits half a second of real time.
    let probes = (0..50).map(|_| browser.fetch("/ready"));
    for page in join_all(probes).await {
        is(&page, Status::ServiceUnavailable, "not ready: keys\n");
    }
    assert_eq!(browser.fetch("/missing").await.body, "keys");
    provider.until_requested("/jwks", 1).await;
    held.release();
    until_ready(&browser).await;
    assert_eq!(provider.count("/jwks"), 1);
    assert_eq!(browser.fetch("/missing").await.body, "");
}

#[rocket::async_test]
async fn a_node_that_starts_without_its_provider_waits_for_it() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    provider.on_path("/.well-known/openid-configuration", Reply::status(503));
    let browser = Browser::open(rocket(&app)).await;
    for _ in 0..20 {
        probe(&browser, Status::ServiceUnavailable, "not ready: metadata, keys\n").await;
    }
    // Before the back-off of a second ends, only the launch has asked.
    assert_eq!(provider.count("/.well-known/openid-configuration"), 1);
    provider.clear_path("/.well-known/openid-configuration");
    app.advance(Duration::from_secs(1));
    until_ready(&browser).await;
    assert_eq!(provider.count("/.well-known/openid-configuration"), 2);
}

/// Otherwise an outage of the provider would take the pages away that need no provider.
#[rocket::async_test]
async fn an_outage_of_the_provider_leaves_a_node_ready() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = Browser::open(rocket(&app)).await;
    until_ready(&browser).await;
    let requests = provider.requests().len();
    provider.stop();
    for _ in 0..3 {
        app.advance(Duration::from_secs(24 * 60 * 60));
        probe(&browser, Status::Ok, "ready\n").await;
    }
    assert_eq!(provider.requests().len(), requests);
}

#[rocket::async_test]
async fn the_store_is_asked_once_a_second() {
    let provider = TestProvider::start().await;
    let (app, store) = (App::new(&provider), TestStore::new());
    let browser = Browser::open(rocket(&app.over(&store))).await;
    until_ready(&browser).await;

    app.advance(Duration::from_secs(1));
    let before = store.calls();
    for _ in 0..20 {
        probe(&browser, Status::Ok, "ready\n").await;
    }
    assert_eq!(store.calls(), before + 1);

    // What it answered counts until the second is over, good or bad.
    store.fail_all("password hunter2 was refused");
    app.advance(Duration::from_millis(999));
    probe(&browser, Status::Ok, "ready\n").await;
    app.advance(Duration::from_millis(1));
    for _ in 0..20 {
        probe(&browser, Status::ServiceUnavailable, "not ready: store\n").await;
    }
    assert_eq!(store.calls(), before + 2);
    store.recover();
    probe(&browser, Status::ServiceUnavailable, "not ready: store\n").await;
    app.advance(Duration::from_secs(1));
    probe(&browser, Status::Ok, "ready\n").await;
}

#[rocket::async_test]
async fn a_store_that_hangs_is_missing() {
    let provider = TestProvider::start().await;
    let (app, store) = (App::new(&provider), TestStore::new());
    let browser = Browser::open(rocket(&app.over(&store))).await;
    until_ready(&browser).await;
    app.advance(Duration::from_secs(1));
    let gate = Gate::closed();
    store.hold(Call::Entries, &gate);
    // All wait for one answer, for a second of real time.
    let probes = (0..20).map(|_| browser.fetch("/ready"));
    for page in join_all(probes).await {
        is(&page, Status::ServiceUnavailable, "not ready: store\n");
    }
    gate.open();
}

/// A cookie that cannot be read, or a session, changes nothing.
#[rocket::async_test]
async fn the_request_does_not_matter() {
    let provider = TestProvider::start().await;
    let browser = Browser::open(rocket(&App::new(&provider))).await;
    until_ready(&browser).await;
    let page = browser
        .fetch_with(
            "/ready",
            &[("Cookie", "__Host-oidc_session=x; a=b"), ("Authorization", "Bearer x")],
        )
        .await;
    is(&page, Status::Ok, "ready\n");
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    let page = browser.fetch("/ready").await;
    assert_eq!((page.status, page.body.as_str()), (200, "ready\n"));
}

#[rocket::async_test]
async fn an_api_needs_what_it_verifies_tokens_with() {
    let provider = TestProvider::start().await;
    let api = |validation: &str| {
        let app = App::new(&provider).with_all(json!({
            "resource_server_only": true,
            "audience": "api",
            "token_validation": validation,
        }));
        app.rocket_of_api(routes![ready, api])
    };
    let browser = Browser::open(api("jwt")).await;
    until_ready(&browser).await;
    assert_eq!(provider.count("/jwks"), 1);

    let browser = Browser::open(api("introspection")).await;
    probe(&browser, Status::Ok, "ready\n").await;
    assert_eq!(provider.count("/jwks"), 1);
}

/// They are read when they are needed, and a probe is of no tenant.
#[rocket::async_test]
async fn several_providers_are_not_asked() {
    let provider = TestProvider::start().await;
    let several = App::new(&provider).with_all(json!({
        "issuer": null,
        "client_id": null,
        "client_secret": null,
        "providers": { "acme": { "issuer": provider.issuer(), "client_id": "app", "client_secret": "hush" } },
    }));
    let browser = Browser::open(rocket(&several)).await;
    probe(&browser, Status::Ok, "ready\n").await;
    let tenants = Oidc::fairing().provider_for(|_: &rocket::Request<'_>| None::<String>);
    let tenants = several.bare().attach(tenants).mount("/", routes![ready]);
    let browser = Browser::open(tenants).await;
    probe(&browser, Status::Ok, "ready\n").await;
    assert_eq!(provider.requests().len(), 0);
}

#[rocket::async_test]
async fn an_app_without_a_provider_is_ready() {
    let provider = TestProvider::start().await;
    for api_only in [false, true] {
        let app = App::new(&provider).with("oidc.enabled", false);
        let app = app.with("oidc.resource_server_only", api_only);
        let browser = Browser::open(app.rocket_of_api(routes![ready])).await;
        probe(&browser, Status::Ok, "ready\n").await;
    }
    assert_eq!(provider.requests().len(), 0);
}

#[rocket::async_test]
async fn without_the_fairing_the_launch_fails() {
    let provider = TestProvider::start().await;
    let rocket = App::new(&provider).bare().mount("/", routes![ready]);
    let error = Client::untracked(rocket).await.expect_err("no fairing");
    assert!(matches!(error.kind(), ErrorKind::SentinelAborts(_)), "{error}");
}
