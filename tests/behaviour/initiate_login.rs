//! OpenID Connect Core 1.0 §4: the provider, or a page of others, sends a person to sign in here.

use rocket::http::Status;
use url::Url;

use crate::{
    common::App,
    support::{Page, TestProvider},
};

fn address(provider: &TestProvider, more: &[(&str, &str)]) -> String {
    let mut url = Url::parse("http://app/oidc/initiate-login").unwrap();
    url.query_pairs_mut()
        .append_pair("iss", &provider.issuer())
        .extend_pairs(more);
    format!("{}?{}", url.path(), url.query().unwrap())
}

fn parameter(page: &Page, name: &str) -> Option<String> {
    let url = Url::parse(page.location.as_deref().unwrap()).unwrap();
    let mut pairs = url.query_pairs();
    pairs.find(|(n, _)| n == name).map(|(_, value)| value.into_owned())
}

#[rocket::async_test]
async fn a_person_signs_in_and_comes_to_the_target() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = app.open().await;
    for target in ["/me", "http://localhost:8000/me"] {
        let address = address(&provider, &[("target_link_uri", target), ("login_hint", "alice@x")]);
        let begun = browser.arrive_from_provider(&address).await;
        begun.redirects_to(&format!("{}/authorize?", provider.issuer()));
        assert_eq!(parameter(&begun, "login_hint").as_deref(), Some("alice@x"));
        let page = browser.follow(&provider, begun).await;
        page.is(Status::Ok).sees("alice");
        assert_eq!(page.url, "/me");
    }
}

#[rocket::async_test]
async fn the_same_by_a_form() {
    let provider = TestProvider::start().await;
    let browser = App::new(&provider).open().await;
    let address = address(&provider, &[("target_link_uri", "/me"), ("other", "x")]);
    let form = address.split_once('?').unwrap().1;
    let posted = browser.submit_from_provider("/oidc/initiate-login", form).await;
    posted.is(Status::SeeOther);
    let query = posted.location.as_deref().unwrap();
    assert_eq!(query, format!("?{}", form.strip_suffix("&other=x").unwrap()));
    let path = format!("/oidc/initiate-login{query}");
    let begun = browser.arrive_from_provider(&path).await;
    let page = browser.follow(&provider, begun).await;
    assert_eq!(page.url, "/me");
}

#[rocket::async_test]
async fn a_target_at_another_site_redirects_to_the_home_page() {
    let provider = TestProvider::start().await;
    let browser = App::new(&provider).open().await;
    for target in [
        "https://evil.example/me",
        "http://localhost:8000.evil.example/",
        "http://localhost:8000@evil.example/",
        "http://localhost:8000//evil.example/",
        "//evil.example",
        "javascript:alert(1)",
        "/oidc/login",
        "/oidc/initiate-login",
        "http://localhost:8000",
        "",
    ] {
        let address = address(&provider, &[("target_link_uri", target)]);
        let begun = browser.arrive_from_provider(&address).await;
        let page = browser.follow(&provider, begun).await;
        assert_eq!((page.status, &*page.url), (200, "/"), "{target}");
    }
}

#[rocket::async_test]
async fn another_issuer_is_refused() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = app.open().await;
    let issuer = provider.issuer();
    for iss in [
        "?iss=https://evil.example",
        &format!("?iss={issuer}/"),
        "?target_link_uri=/me",
        "",
    ] {
        let page = browser
            .arrive_from_provider(&format!("/oidc/initiate-login{iss}"))
            .await;
        page.is(Status::BadRequest).sees_no("evil.example");
        assert_eq!(page.location, None);
    }
    assert_eq!(
        app.failures(),
        [
            format!("a sign-in at `https://evil.example` was requested, expected `{issuer}`"),
            format!("a sign-in at `{issuer}/` was requested, expected `{issuer}`"),
            format!("a sign-in at no issuer was requested, expected `{issuer}`"),
            format!("a sign-in at no issuer was requested, expected `{issuer}`"),
        ]
    );
}

#[rocket::async_test]
async fn only_page_loads_begin_a_sign_in() {
    let provider = TestProvider::start().await;
    let browser = App::new(&provider).open().await;
    browser.fetch(&address(&provider, &[])).await.is(Status::Forbidden);
}

#[rocket::async_test]
async fn a_login_hint_replaces_the_settings_and_is_bounded() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with("oidc.extra_authorization_parameters.login_hint", "bob");
    let browser = app.open().await;
    let long = "x".repeat(257);
    for (hint, sent) in [("alice", "alice"), (&*long, "bob")] {
        let page = browser.visit(&address(&provider, &[("login_hint", hint)])).await;
        assert_eq!(parameter(&page, "login_hint").as_deref(), Some(sent));
    }
}
