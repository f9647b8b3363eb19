//! Signing out: by a button, and never by another site.

use rocket::http::{Method, Status};

use crate::{
    common::{App, assert_signed_out, cookies_but_the_browsers, signed_in},
    records::{Numbers, session_cookie, session_cookies},
    support::{Browser, Page, TestProvider},
};

async fn post(browser: &Browser, path: &str, headers: &[(&str, &str)]) -> Page {
    browser.request(Method::Post, path, headers, "").await
}

#[rocket::async_test]
async fn a_post_ends_the_session() {
    let provider = TestProvider::start().await;
    let browser = signed_in(&App::local(&provider), &provider).await;
    let page = browser.submit("/oidc/logout?next=/notes?page=1%26sort=x", "").await;
    page.is(Status::SeeOther);
    assert_eq!(page.location.as_deref(), Some("/notes?page=1&sort=x"));
    assert_eq!(page.header("Cache-Control"), Some("no-store"));
    let is_of_note = |cookie: &&str| cookie.contains("oidc_ended");
    assert_eq!(page.set_cookies().into_iter().find(is_of_note), None);
    assert_eq!(cookies_but_the_browsers(&browser), [""; 0]);
    assert_signed_out(&browser).await;
}

#[rocket::async_test]
async fn a_post_of_a_signed_out_visitor_is_redirected() {
    let provider = TestProvider::start().await;
    let browser = App::local(&provider).open().await;
    let page = browser.submit("/oidc/logout?next=/me", "").await;
    page.is(Status::SeeOther);
    assert_eq!(page.location.as_deref(), Some("/me"));
}

#[rocket::async_test]
async fn a_get_shows_a_button_and_ends_nothing() {
    let provider = TestProvider::start().await;
    let browser = signed_in(&App::local(&provider), &provider).await;
    let page = browser.visit("/oidc/logout?next=/me").await;
    page.is(Status::Ok)
        .sees("<h1>Sign out?</h1>")
        .sees("<form method=\"post\" action=\"&#x2F;oidc&#x2F;logout?next=%2Fme\">");
    assert_eq!(page.set_cookies(), [""; 0]);
    browser.visit("/me").await.is(Status::Ok);
}

#[rocket::async_test]
async fn every_piece_of_a_large_session_goes() {
    let provider = TestProvider::start().await;
    let big = Numbers::seeded(1).text(3000);
    provider.user_claims(rocket::serde::json::json!({ "sub": "alice", "big": big }));
    let browser = signed_in(&App::local(&provider), &provider).await;
    assert_eq!(session_cookies(&browser).len(), 2);
    browser.submit("/oidc/logout", "").await.redirects_to("/");
    assert_eq!(cookies_but_the_browsers(&browser), [""; 0]);
}

#[rocket::async_test]
async fn an_https_app_removes_its_prefixed_cookies() {
    let provider = TestProvider::start().await;
    let browser = signed_in(&App::released(&provider).local_only(), &provider).await;
    let name = session_cookie(&browser).name().to_owned();
    assert!(name.starts_with("__Host-oidc_session_"), "{name}");
    browser.submit("/oidc/logout", "").await.redirects_to("/");
    assert_eq!(cookies_but_the_browsers(&browser), [""; 0]);
}

/// A renewal that is due at sign-out must not bring the session back.
#[rocket::async_test]
async fn a_session_that_is_due_for_renewal_ends_too() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    let browser = signed_in(&app, &provider).await;
    app.advance(std::time::Duration::from_secs(1800));
    browser.submit("/oidc/logout", "").await.redirects_to("/");
    assert_signed_out(&browser).await;
}

#[rocket::async_test]
async fn another_site_does_not_sign_out() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider).with("oidc.base_url", "https://app.example.com");
    let browser = signed_in(&app, &provider).await;
    let host = ("Host", "internal.example:8000");
    for headers in [
        &[("Sec-Fetch-Site", "cross-site")][..],
        &[("Sec-Fetch-Site", "Cross-Site"), ("Origin", "https://app.example.com")],
        &[("Sec-Fetch-Site", "same-site")],
        &[host, ("Origin", "https://evil.example")],
        &[host, ("Origin", "https://www.example.com")],
        &[("Host", "app.example.com"), ("Origin", "http://app.example.com")],
        &[host, ("Origin", "")],
        &[host, ("Referer", "https://www.example.com/page")],
        &[host, ("Origin", "https://app.example.com.evil.example")],
        &[host, ("Origin", "https://app.example.com:444")],
        &[host, ("Origin", "https://internal.example")],
        // Neither names an origin.
        &[("Origin", "internal.example:8000")],
    ] {
        let page = post(&browser, "/oidc/logout", headers).await;
        page.is(Status::Forbidden).sees("Another site asked to sign you out.");
        assert_eq!(page.set_cookies(), [""; 0], "{headers:?}");
        browser.visit("/me").await.is(Status::Ok);
    }
}

#[rocket::async_test]
async fn this_site_signs_out() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider).with("oidc.base_url", "https://app.example.com");
    let browser = signed_in(&app, &provider).await;
    for headers in [
        &[("Sec-Fetch-Site", "same-origin")][..],
        &[("Sec-Fetch-Site", "Same-Origin")],
        &[("Sec-Fetch-Site", "none")],
        &[("Origin", "https://app.example.com")],
        &[
            ("Host", "internal.example:8000"),
            ("Origin", "http://internal.example:8000"),
        ],
        &[
            ("Host", "Internal.Example:8000"),
            ("Origin", "http://internal.example:8000"),
        ],
        &[
            ("Host", "internal.example:8000"),
            ("Origin", "http://INTERNAL.example:8000"),
        ],
        &[("Referer", "https://app.example.com/page")],
        // A client that is no browser.
        &[],
    ] {
        post(&browser, "/oidc/logout", headers).await.redirects_to("/");
        assert_signed_out(&browser).await;
        browser.sign_in(&provider, "/me").await.is(Status::Ok);
    }
}

#[rocket::async_test]
async fn sign_out_redirects_to_a_page_of_this_app() {
    let provider = TestProvider::start().await;
    let browser = App::local(&provider).open().await;
    for next in [
        "https://evil.example",
        "//evil.example",
        "/%5Cevil.example",
        "",
        "/oidc/logout",
    ] {
        let page = browser.submit(&format!("/oidc/logout?next={next}"), "").await;
        assert_eq!(page.location.as_deref(), Some("/"), "{next}");
        let page = browser.visit(&format!("/oidc/logout?next={next}")).await;
        page.sees("action=\"&#x2F;oidc&#x2F;logout?next=%2F\"");
    }
}

#[rocket::async_test]
async fn sign_out_redirects_where_the_setting_says() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider).with("oidc.post_logout_redirect_uri", "/goodbye");
    let browser = signed_in(&app, &provider).await;
    for (path, location) in [
        ("/oidc/logout", "/goodbye"),
        ("/oidc/logout?next=/me", "/me"),
        ("/oidc/logout?next=https://evil.example", "/"),
    ] {
        let page = browser.submit(path, "").await;
        assert_eq!(page.location.as_deref(), Some(location), "{path}");
    }
    browser
        .visit("/oidc/logout")
        .await
        .sees("action=\"&#x2F;oidc&#x2F;logout?next=%2Fgoodbye\"");
}

#[rocket::async_test]
async fn sign_out_redirects_to_the_query_of_the_setting_too() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider).with("oidc.post_logout_redirect_uri", "/bye?x=1");
    let page = app.open().await.submit("/oidc/logout", "").await;
    page.redirects_to("/bye?x=1");
}

#[rocket::async_test]
async fn sign_out_redirects_to_no_route_of_the_fairing() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with("oidc.post_logout_redirect_uri", "/oidc/logout");
    let page = app.open().await.submit("/oidc/logout", "").await;
    assert_eq!(page.location.as_deref(), Some("/"));
}

/// Only the setting may name another site.
#[rocket::async_test]
async fn sign_out_redirects_to_the_site_that_the_setting_names() {
    let provider = TestProvider::start().await;
    let goodbye = "https://www.example.com/goodbye?from=app";
    let app = App::local(&provider).with("oidc.post_logout_redirect_uri", goodbye);
    let browser = signed_in(&app, &provider).await;
    for (path, location) in [
        ("/oidc/logout", goodbye),
        ("/oidc/logout?next=/me", "/me"),
        ("/oidc/logout?next=https://www.example.com/goodbye", "/"),
    ] {
        let page = browser.submit(path, "").await;
        assert_eq!(page.location.as_deref(), Some(location), "{path}");
    }
    let page = browser.visit("/oidc/logout").await;
    page.sees("action=\"&#x2F;oidc&#x2F;logout\"");
    // Chromium holds a form to this over redirects too.
    let policy = page.header("Content-Security-Policy").unwrap();
    assert!(!policy.contains("form-action"), "{policy}");
}

/// The value that the button's form sends along.
fn button_value(page: &Page) -> String {
    let (_, rest) = page.body.split_once("name=\"button\" value=\"").unwrap();
    rest.split_once('"').unwrap().0.to_owned()
}

/// As a browser without `Sec-Fetch-Site` does from a page whose policy is `no-referrer`.
async fn post_without_origin(browser: &Browser, form: &str) -> Page {
    let headers = [
        ("Host", "internal.example:8000"),
        ("Origin", "null"),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    browser
        .request(Method::Post, "/oidc/logout?next=/me", &headers, form)
        .await
}

#[rocket::async_test]
async fn the_button_signs_out_in_every_browser() {
    for store in ["cookie", "memory"] {
        let provider = TestProvider::start().await;
        let app = App::local(&provider).with("oidc.session.store", store);
        let browser = signed_in(&app, &provider).await;
        let page = browser.visit("/oidc/logout?next=/me").await;
        // With `no-referrer`, browsers send `Origin: null` in place of the app's own.
        assert_eq!(page.header("Referrer-Policy"), Some("strict-origin"));
        // A proxy may set that policy all the same.
        let form = format!("button={}", button_value(&page));
        post_without_origin(&browser, &form).await.redirects_to("/me");
        assert_signed_out(&browser).await;
    }
}

/// The page that refuses has the button too: whoever wanted to sign out does.
#[rocket::async_test]
async fn a_form_whose_origin_is_hidden_is_answered_with_the_button() {
    let provider = TestProvider::start().await;
    let browser = signed_in(&App::local(&provider), &provider).await;
    let page = post_without_origin(&browser, "").await;
    page.is(Status::Forbidden)
        .sees("Your browser did not say which site asked to sign you out.")
        .sees("<form method=\"post\" action=\"&#x2F;oidc&#x2F;logout?next=%2Fme\">");
    assert_eq!(page.header("Referrer-Policy"), Some("strict-origin"));
    browser.visit("/me").await.is(Status::Ok);
    let form = format!("button={}", button_value(&page));
    post_without_origin(&browser, &form).await.redirects_to("/me");
    assert_signed_out(&browser).await;
}

#[rocket::async_test]
async fn the_button_of_another_session_or_hour_does_not_sign_out() {
    for store in ["cookie", "memory"] {
        let provider = TestProvider::start().await;
        let app = App::local(&provider)
            .with("oidc.session.store", store)
            .with("oidc.session.idle_timeout", "3h");
        let browser = signed_in(&app, &provider).await;
        let (stranger, visitor) = (browser.another(), browser.another());
        stranger.sign_in(&provider, "/me").await.is(Status::Ok);
        let others = button_value(&stranger.visit("/oidc/logout").await);
        let nobodys = button_value(&visitor.visit("/oidc/logout").await);
        let own = button_value(&browser.visit("/oidc/logout").await);
        for form in [
            String::new(),
            "button=".to_owned(),
            "button=1".to_owned(),
            format!("button={others}"),
            format!("button={nobodys}"),
            format!("button={own}x"),
            format!("other={own}"),
        ] {
            let page = post_without_origin(&browser, &form).await;
            page.is(Status::Forbidden);
            assert_eq!(page.set_cookies(), [""; 0], "{form}");
        }
        let form = format!("button={own}");
        // It says nothing where the browser names another site.
        let page = browser
            .request(
                Method::Post,
                "/oidc/logout",
                &[
                    ("Sec-Fetch-Site", "same-site"),
                    ("Content-Type", "application/x-www-form-urlencoded"),
                ],
                &form,
            )
            .await;
        page.is(Status::Forbidden);
        app.advance(std::time::Duration::from_secs(3600));
        post_without_origin(&browser, &form).await.is(Status::Forbidden);
        browser.visit("/me").await.is(Status::Ok);
    }
}
