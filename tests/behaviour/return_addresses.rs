//! Where sign-in and sign-out lead: whatever is asked for, to a page of this app.

use rocket::http::{Method, Status};
use serde_json::json;
use url::{Url, form_urlencoded};

use crate::{
    common::App,
    support::{
        Browser, TestProvider,
        return_addresses::{FOREIGN, LOCAL},
    },
};

/// An app that leads on at once.
async fn disabled() -> Browser {
    let provider = TestProvider::start().await;
    let app = App::public(&provider)
        .with("oidc.enabled", false)
        .with("oidc.testing_profile", json!({ "sub": "alice" }));
    app.open().await
}

async fn redirect_target(browser: &Browser, method: Method, route: &str, next: &str) -> String {
    let next: String = form_urlencoded::byte_serialize(next.as_bytes()).collect();
    let path = format!("/oidc/{route}?next={next}");
    let page = browser
        .request(method, &path, &[("Sec-Fetch-Site", "same-origin")], "")
        .await;
    page.is(Status::SeeOther);
    let location = page.location.expect("a redirect");
    let base = Url::parse("http://localhost:8000").unwrap();
    assert_eq!(base.join(&location).unwrap().origin(), base.origin(), "{location}");
    location
}

#[rocket::async_test]
async fn no_address_leaves_the_origin() {
    assert!(FOREIGN.len() + LOCAL.len() >= 150);
    let browser = disabled().await;
    for (method, route) in [(Method::Get, "login"), (Method::Post, "logout")] {
        for next in FOREIGN {
            assert_eq!(redirect_target(&browser, method, route, next).await, "/", "{next:?}");
        }
        for next in LOCAL {
            assert_eq!(redirect_target(&browser, method, route, next).await, next);
        }
    }
}

#[rocket::async_test]
async fn a_completed_sign_in_redirects_to_a_safe_address() {
    let provider = TestProvider::start().await;
    let browser = App::local(&provider).open().await;
    for (next, leads) in [
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/%2e%2e//evil.example", "/"),
        ("https://localhost:8000/me", "/"),
        ("/me?x=//evil.example", "/me?x=//evil.example"),
    ] {
        let next: String = form_urlencoded::byte_serialize(next.as_bytes()).collect();
        let page = browser.sign_in(&provider, &format!("/oidc/login?next={next}")).await;
        assert_eq!(page.url, leads);
    }
}
