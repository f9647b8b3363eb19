//! Parameters of one sign-in in Chromium, at npm `oidc-provider`.

use std::env;

use rocket::{get, response::Redirect, routes};
use rocket_openidconnect::{LoggedIn, Oidc, RelyingParty};

use crate::{
    browser::Browser,
    example::{Example, free_port},
    node_provider::{CLIENT_SECRET, NodeProvider},
};

/// The test that is the app.
const TEST: &str = "browser_step_up::an_app";
/// Set in the environment of the app.
const IS_APP: &str = "INTEROP_BROWSER_STEP_UP";

#[get("/me")]
fn me(user: LoggedIn) -> String {
    user.subject().to_owned()
}

#[get("/again")]
fn again(rp: &RelyingParty) -> Redirect {
    Redirect::to(rp.sign_in_url().next("/me").prompt("login").to_string())
}

#[get("/as-bob")]
fn as_bob(rp: &RelyingParty) -> Redirect {
    let url = rp.sign_in_url().next("/me").prompt("login").login_hint("bob");
    Redirect::to(url.to_string())
}

/// Does nothing unless it is started as the app.
#[rocket::async_test]
#[ignore = "an app that other tests start: run scripts/interop"]
async fn an_app() {
    if env::var(IS_APP).is_err() {
        return;
    }
    let rocket = rocket::build()
        .attach(Oidc::fairing())
        .mount("/", routes![me, again, as_bob]);
    rocket.launch().await.expect("it runs until it is killed");
}

async fn start() -> (NodeProvider, Example) {
    let port = free_port();
    let redirect_uri = format!("http://localhost:{port}/oidc/authorize");
    let provider = NodeProvider::start(&[("REDIRECT_URI", &redirect_uri)]).await;
    let environment = [
        (IS_APP, "1"),
        ("OIDC_ISSUER", provider.issuer()),
        ("OIDC_CLIENT_ID", "rocket-app"),
        ("OIDC_CLIENT_SECRET", CLIENT_SECRET),
    ];
    let app = Example::of_test(TEST, port, &environment);
    (provider, app)
}

async fn prefilled(provider: &NodeProvider, browser: &Browser) -> String {
    browser.wait_for_url(|url| url.starts_with(provider.issuer())).await;
    let value = browser
        .execute("return document.querySelector('[name=login]').value")
        .await;
    value.as_str().expect("the value of a field").to_owned()
}

#[rocket::async_test]
#[ignore = "needs Node.js and Chromium: run scripts/interop"]
async fn prompt_login_asks_a_user_who_is_signed_in() {
    let (provider, app) = start().await;
    let me = app.at("localhost", "/me");
    let browser = Browser::start().await;
    browser.goto(&me).await;
    assert_eq!(prefilled(&provider, &browser).await, "");
    provider.sign_in(&browser, "alice").await;
    browser.wait_for_url(|url| url == me).await;
    assert_eq!(browser.text("body").await, "alice");

    // Without a prompt the provider asks nothing.
    browser.goto(&app.at("localhost", "/oidc/login?next=/me")).await;
    assert_eq!(browser.current_url().await, me);

    browser.goto(&app.at("localhost", "/again")).await;
    assert_eq!(prefilled(&provider, &browser).await, "");
    browser.screenshot("prompt-login").await;
    provider.sign_in(&browser, "alice").await;
    browser.wait_for_url(|url| url == me).await;
    assert_eq!(browser.text("body").await, "alice");
}

#[rocket::async_test]
#[ignore = "needs Node.js and Chromium: run scripts/interop"]
async fn login_hint_is_in_the_form() {
    let (provider, app) = start().await;
    let me = app.at("localhost", "/me");
    let browser = Browser::start().await;
    // In the query of the app's own route, with what a URL has to escape.
    let hint = "alice+o'neil@example.com";
    let login = app.at(
        "localhost",
        "/oidc/login?next=/me&login_hint=alice%2Bo%27neil%40example.com",
    );
    browser.goto(&login).await;
    assert_eq!(prefilled(&provider, &browser).await, hint);
    browser.screenshot("login-hint").await;
    provider.sign_in(&browser, "alice").await;
    browser.wait_for_url(|url| url == me).await;

    // Of a URL that the app makes, for another account.
    browser.goto(&app.at("localhost", "/as-bob")).await;
    assert_eq!(prefilled(&provider, &browser).await, "bob");
    provider.sign_in(&browser, "bob").await;
    browser.wait_for_url(|url| url == me).await;
    assert_eq!(browser.text("body").await, "bob");
}
