//! `enabled = false`: no provider, and one person or nobody.

use rocket::{
    Config,
    figment::Figment,
    get,
    http::Status,
    routes,
    serde::json::{Value, json},
};
use rocket_openidconnect::{LoggedIn, Oidc};

use crate::{
    common::{App, KEY, Log},
    support::{Browser, TestProvider},
};

#[get("/token")]
async fn token(user: LoggedIn) -> String {
    match user.access_token() {
        Ok(token) => token.expose().to_owned(),
        Err(error) => error.to_string(),
    }
}

/// An app that names a provider and does not ask it.
async fn disabled(provider: &TestProvider, testing_profile: Value) -> Browser {
    let app = App::new(provider)
        .with("oidc.enabled", false)
        .with("oidc.testing_profile", testing_profile);
    Browser::open(app.rocket().mount("/", routes![token])).await
}

#[rocket::async_test]
async fn the_testing_profile_signs_out_and_in_without_a_provider() {
    let provider = TestProvider::start().await;
    let profile = json!({ "sub": "tess", "name": "Tess Ting", "groups": ["users"] });
    let browser = disabled(&provider, profile.clone()).await;
    let page = browser.visit("/me").await;
    assert_eq!(page.is(Status::Ok).json::<Value>(), profile);
    assert_eq!(page.header("Cache-Control"), Some("no-store"));
    assert_eq!(
        browser.visit("/token").await.is(Status::Ok).body,
        "this session has no access token"
    );

    browser
        .visit("/oidc/logout?next=/notes")
        .await
        .is(Status::Ok)
        .sees("Sign out?");
    let page = browser.submit("/oidc/logout?next=/notes", "").await;
    assert_eq!(page.is(Status::SeeOther).location.as_deref(), Some("/notes"));
    let page = browser.visit("/").await;
    assert_eq!(page.json::<Value>(), json!({ "logged_in": false, "user": null }));
    // Nobody is redirected: sign-in would lead back at once.
    let page = browser.visit("/me").await;
    assert_eq!(page.is(Status::Unauthorized).location, None);

    for (next, location) in [("/me", "/me"), ("https://evil.example", "/")] {
        browser.submit("/oidc/logout", "").await.redirects_to("/");
        let page = browser.visit(&format!("/oidc/login?next={next}")).await;
        assert_eq!(page.is(Status::SeeOther).location.as_deref(), Some(location));
        browser.visit("/me").await.is(Status::Ok).sees("tess");
    }
    let page = browser.visit("/oidc/authorize?code=a&state=b").await;
    assert_eq!(page.is(Status::SeeOther).location.as_deref(), Some("/"));
    assert_eq!(provider.requests().len(), 0);
}

#[rocket::async_test]
async fn another_site_does_not_sign_the_testing_profile_out() {
    let provider = TestProvider::start().await;
    let browser = disabled(&provider, json!({ "sub": "tess" })).await;
    let headers = [("Sec-Fetch-Site", "cross-site")];
    let method = rocket::http::Method::Post;
    let page = browser.request(method, "/oidc/logout", &headers, "").await;
    page.is(Status::Forbidden);
    browser.visit("/me").await.is(Status::Ok);
}

#[rocket::async_test]
async fn without_a_testing_profile_everybody_is_anonymous() {
    let provider = TestProvider::start().await;
    let browser = disabled(&provider, json!({})).await;
    let page = browser.visit("/").await;
    assert_eq!(page.json::<Value>(), json!({ "logged_in": false, "user": null }));
    for _ in 0..2 {
        let page = browser.visit("/me").await;
        assert_eq!(page.is(Status::Unauthorized).location, None);
        let page = browser.visit("/oidc/login?next=/me").await;
        assert_eq!(page.is(Status::SeeOther).location.as_deref(), Some("/me"));
    }
    browser.submit("/oidc/logout", "").await.redirects_to("/");
    assert_eq!(provider.requests().len(), 0);
}

/// In a closed test environment, by a setting that says so, and with a warning.
#[rocket::async_test]
async fn a_testing_profile_outside_of_debug_is_logged() {
    let figment = Figment::from(Config::release_default())
        .merge(("log_level", "off"))
        .merge(("secret_key", KEY))
        .merge((
            "oidc",
            json!({
                "enabled": false,
                "insecure_testing_profile": true,
                "testing_profile": { "sub": "tess" },
            }),
        ));
    let log = Log::listen();
    Browser::open(rocket::custom(figment).attach(Oidc::fairing())).await;
    assert_eq!(
        log.lines_with_report(),
        [
            "INFO: OpenID Connect:",
            "INFO: disabled: no provider is contacted",
            "INFO: testing profile: tess",
            "WARN: `enabled`: sign-in is off: every visitor is the user \"tess\" of `testing_profile`",
            "WARN: `insecure_testing_profile`: a testing profile is used in any profile",
        ]
    );
}
