//! Form Post Response Mode 1.0: the response comes in a form that the provider's page posts, without our
//! cookies, and the code is in no address.

use rocket::{http::Status, serde::json::json};
use url::{Url, form_urlencoded};

use crate::{
    common::{App, assert_signed_out, attempt_cookies},
    support::{Browser, Page, TestProvider},
};

async fn open(provider: &TestProvider) -> (App, Browser) {
    let app = App::new(provider).with("oidc.response_mode", "form_post");
    let browser = app.open().await;
    (app, browser)
}

/// Posts a response, and follows to the page load that reads it.
async fn post(browser: &Browser, form: &str) -> (Page, Page) {
    let posted = browser.submit_from_provider("/oidc/authorize", form).await;
    posted.is(Status::SeeOther);
    let query = posted.location.clone().unwrap();
    let page = browser.arrive_from_provider(&format!("/oidc/authorize{query}")).await;
    (posted, page)
}

#[rocket::async_test]
async fn a_posted_response_signs_in() {
    let provider = TestProvider::start().await;
    let (app, browser) = open(&provider).await;
    let login = browser.visit("/oidc/login?next=/me").await;
    let request = Url::parse(login.location.as_deref().unwrap()).unwrap();
    let mode = request.query_pairs().find(|(name, _)| name == "response_mode");
    assert_eq!(mode.unwrap().1, "form_post");
    browser.forget_cookies();

    let callback = browser.begin_sign_in(&provider, "/me").await;
    let (posted, page) = post(&browser, &callback.form()).await;
    page.is(Status::SeeOther).redirects_to("/me");
    browser.visit("/me").await.is(Status::Ok).sees("alice");
    assert_eq!(app.failures(), [""; 0]);

    // Neither the code nor the state is in the address, and nothing is kept in the browser by the post.
    let location = posted.location.as_deref().unwrap();
    assert!(location.starts_with("?sealed="), "{location}");
    for name in ["code", "state"] {
        assert!(!location.contains(callback.param(name).unwrap()));
    }
    assert_eq!(posted.set_cookies(), [""; 0]);
    assert_eq!(posted.header("Cache-Control"), Some("no-store"));
    assert_eq!(attempt_cookies(&browser).len(), 1);
}

#[rocket::async_test]
async fn cookies_are_lax_as_always() {
    let provider = TestProvider::start().await;
    let (_, browser) = open(&provider).await;
    let page = browser.visit("/oidc/login").await;
    for cookie in page.set_cookies() {
        assert!(cookie.contains("SameSite=Lax"), "{cookie}");
    }
}

#[rocket::async_test]
async fn a_response_posted_by_another_browser_is_refused() {
    let provider = TestProvider::start().await;
    let (app, browser) = open(&provider).await;
    let callback = browser.begin_sign_in(&provider, "/me").await;
    let victim = browser.another();
    let (_, page) = post(&victim, &callback.form()).await;
    page.is(Status::BadRequest)
        .sees("has expired or was started in another browser");
    assert_eq!(app.failures(), ["the response belongs to no sign-in of this browser"]);
    assert!(!provider.requests().iter().any(|r| r.path == "/token"));
}

#[rocket::async_test]
async fn a_replayed_posted_response_redirects_to_its_page() {
    let provider = TestProvider::start().await;
    let (_, browser) = open(&provider).await;
    let callback = browser.begin_sign_in(&provider, "/me").await;
    post(&browser, &callback.form()).await.1.redirects_to("/me");
    let (_, again) = post(&browser, &callback.form()).await;
    again.is(Status::SeeOther);
    assert_eq!(again.location.as_deref(), Some("/me"));
    assert_eq!(provider.count("/token"), 1);
}

#[rocket::async_test]
async fn a_second_sign_in_replaces_the_first_session() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider)
        .with("oidc.response_mode", "form_post")
        .with("oidc.session.store", "memory");
    let browser = app.open().await;
    for sub in ["alice", "bob"] {
        provider.user_claims(json!({ "sub": sub }));
        let callback = browser.begin_sign_in(&provider, "/oidc/login?next=/me").await;
        post(&browser, &callback.form()).await;
        browser.visit("/me").await.sees(sub);
    }
}

#[rocket::async_test]
async fn an_error_that_is_posted_is_shown() {
    let provider = TestProvider::start().await;
    let (app, browser) = open(&provider).await;
    let callback = browser.begin_sign_in(&provider, "/me").await;
    let (_, page) = post(&browser, &callback.error("access_denied").form()).await;
    page.is(Status::BadRequest).sees("The sign-in was cancelled.");
    assert_eq!(app.failures().len(), 1);
    assert_signed_out(&browser).await;
}

#[rocket::async_test]
async fn a_form_that_is_not_a_response_is_refused() {
    let provider = TestProvider::start().await;
    let (app, browser) = open(&provider).await;
    let callback = browser.begin_sign_in(&provider, "/me").await;

    let form = callback.form();
    let long = format!("{form}&more={}", "x".repeat(9_000));
    let posted = browser.submit_from_provider("/oidc/authorize", &long).await;
    posted.is(Status::BadRequest);
    let headers = [("Content-Type", "application/json")];
    let method = rocket::http::Method::Post;
    let json = browser.request(method, "/oidc/authorize", &headers, "{}").await;
    json.is(Status::BadRequest);
    let cause = "the posted body is not a form with an authorization response";
    assert_eq!(app.failures(), [cause, cause]);

    // A parameter that is there twice, and a sealed text that is not ours.
    let state = callback.param("state").unwrap();
    post(&browser, &format!("{form}&state={state}"))
        .await
        .1
        .is(Status::BadRequest);
    let sealed: String = form_urlencoded::byte_serialize(form.as_bytes()).collect();
    let forged = format!("/oidc/authorize?sealed={sealed}");
    browser.arrive_from_provider(&forged).await.is(Status::BadRequest);

    // Through all of that the attempt is still there.
    post(&browser, &form).await.1.redirects_to("/me");
}

#[rocket::async_test]
async fn nothing_is_posted_where_the_response_comes_in_the_query() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = app.open().await;
    let callback = browser.begin_sign_in(&provider, "/me").await;
    let posted = browser.submit_from_provider("/oidc/authorize", &callback.form()).await;
    posted
        .is(Status::NotFound)
        .sees("This site is not set up correctly for its sign-in service.");
    assert_eq!(
        app.failures(),
        ["a response was posted, and `response_mode` is `query`"]
    );
    assert_eq!(provider.count("/token"), 0);

    // What is no response is no page of ours.
    for form in ["", "x=y", "description=state"] {
        let posted = browser.submit_from_provider("/oidc/authorize", form).await;
        posted.is(Status::NotFound);
    }
    assert_eq!(app.failures().len(), 1);
}
