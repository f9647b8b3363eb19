//! The sign-in as a browser sees it.

use rocket::{Build, Config, Rocket, figment::Figment, get, routes};
use rocket_openidconnect::{LoggedIn, Oidc};
use serde_json::{Value, json};

use crate::support::*;

#[get("/me")]
fn me(user: LoggedIn) -> rocket::serde::json::Json<Value> {
    rocket::serde::json::Json(json!({ "sub": user.subject(), "name": user.name() }))
}

fn app(provider: &TestProvider) -> Rocket<Build> {
    let figment = Figment::from(Config::debug_default())
        .merge(("log_level", "off"))
        .merge(("oidc.issuer", provider.issuer()))
        .merge(("oidc.client_id", "app"))
        .merge(("oidc.client_secret", "hush"));
    rocket::custom(figment)
        .attach(Oidc::fairing())
        .mount("/", routes![me])
}

#[rocket::async_test]
async fn a_guarded_page_is_reached_by_signing_in() {
    let provider = TestProvider::start().await;
    let browser = Browser::open(app(&provider)).await;
    let page = browser.sign_in(&provider, "/me?tab=2").await;
    assert_eq!(page.url, "/me?tab=2");
    assert_eq!(
        page.json::<Value>(),
        json!({ "sub": "alice", "name": "Alice Liddell" })
    );
    assert_eq!(provider.count("/token"), 1);
}
