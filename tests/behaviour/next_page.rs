//! The page that the app sends a browser to after a sign-in, and what else it learns at the sign-in.

use std::sync::{Arc, Mutex};

use rocket::{
    Build, Request, Rocket,
    futures::future::join,
    http::Status,
    serde::json::{Value, json},
};
use rocket_openidconnect::{Events, NewSignIn, Refused};
use tempfile::TempDir;

use crate::{
    common::{App, bring, locked, sqlite_url},
    support::{Browser, TestProvider},
};

/// Sends browsers to this page.
#[derive(Clone)]
struct Welcomes(&'static str);

#[rocket::async_trait]
impl Events for Welcomes {
    async fn after_authorize(&self, _: &Request<'_>, sign_in: &mut NewSignIn<'_>) -> Result<(), Refused> {
        assert_eq!(sign_in.return_to(), "/me");
        sign_in.set_next(self.0);
        Ok(())
    }
}

async fn open(app: &App, page: &'static str) -> Browser {
    Browser::open(app.rocket_with(Welcomes(page))).await
}

#[rocket::async_test]
async fn the_app_chooses_a_page_of_its_own_and_no_other() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    for (page, expected) in [
        ("/welcome?new=1", "/welcome?new=1"),
        ("/oidc", "/oidc"),
        ("https://evil.example/", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/a/../..//evil.example", "/"),
        ("/me\r\nSet-Cookie: a=b", "/"),
        ("javascript:alert(1)", "/"),
        ("/oidc/logout", "/"),
        ("/oidc/login?next=/me", "/"),
        ("", "/"),
    ] {
        let browser = open(&app, page).await;
        let callback = browser.begin_sign_in(&provider, "/me").await;
        bring(&browser, &callback).await.redirects_to(expected);
        // The browser repeats the callback.
        bring(&browser, &callback).await.redirects_to(expected);
        browser.fetch("/me").await.is(Status::Ok);
    }
}

#[rocket::async_test]
async fn identical_callbacks_reach_the_page_on_all_nodes() {
    let provider = TestProvider::start().await;
    for store in ["cookie", "sql"] {
        let directory = TempDir::new().unwrap();
        let app = App::local(&provider)
            .with("oidc.session.store", store)
            .with("oidc.session.store_url", sqlite_url(&directory));
        let (one, other) = (open(&app, "/welcome").await, open(&app, "/welcome").await);
        let callback = one.begin_sign_in(&provider, "/me").await;
        crate::records::carry_cookies(&one, &other);
        let (first, second) = join(bring(&one, &callback), bring(&other, &callback)).await;
        first.redirects_to("/welcome");
        second.redirects_to("/welcome");
        bring(&other, &callback).await.redirects_to("/welcome");
        other.fetch("/me").await.is(Status::Ok);
    }
}

/// What the app sees of both sources.
#[derive(Clone, Default)]
struct Sources(Arc<Mutex<Value>>);

#[rocket::async_trait]
impl Events for Sources {
    async fn after_authorize(&self, _: &Request<'_>, sign_in: &mut NewSignIn<'_>) -> Result<(), Refused> {
        *locked(&self.0) = json!({
            "id_token": sign_in.id_token_claims(),
            "user_info": sign_in.user_info_claims(),
            "merged": sign_in.claims(),
            "has_access_token": sign_in.access_token().is_some(),
        });
        // `null` is absent.
        sign_in.set("kept", 1);
        sign_in.set("kept", ());
        assert!(format!("{sign_in:?}").starts_with("NewSignIn"));
        Ok(())
    }
}

fn rocket(app: &App, sources: &Sources) -> Rocket<Build> {
    app.rocket_with(sources.clone())
}

#[rocket::async_test]
async fn the_app_sees_the_claims_of_both_sources() {
    let provider = TestProvider::start().await;
    provider.on_id_token(|token| token.set("color", json!("red")));
    provider.on_user_info(|reply| {
        reply.set("color", "blue");
        reply.set("acr", "forged");
    });
    let sources = Sources::default();
    let app = App::local(&provider);
    let browser = Browser::open(rocket(&app, &sources)).await;
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    let seen = locked(&sources.0).clone();
    assert_eq!(
        [&seen["id_token"]["color"], &seen["user_info"]["color"]],
        ["red", "blue"]
    );
    assert_eq!(seen["merged"]["color"], "blue");
    assert!(seen["id_token"]["nonce"].is_string());
    assert_eq!(
        (&seen["user_info"]["acr"], &seen["merged"]["acr"]),
        (&json!("forged"), &Value::Null)
    );
    assert_eq!(seen["has_access_token"], true);

    // Without UserInfo there is one source.
    let app = app.with("oidc.user_info_enabled", false);
    let browser = Browser::open(rocket(&app, &sources)).await;
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    assert_eq!(locked(&sources.0)["user_info"], Value::Null);
}
