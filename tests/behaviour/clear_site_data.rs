//! What a browser is told to drop when somebody signs out.

use rocket::http::{Cookie, Method, Status};

use crate::{
    common::{App, Log, cookie_name, launch_failure, signed_in},
    support::{Page, TestProvider},
};

/// All types but cookies.
const WITHOUT_COOKIES: &str =
    r#""cache", "storage", "executionContexts", "prefetchCache", "prerenderCache", "clientHints""#;

fn cleared(page: &Page) -> Option<&str> {
    page.header("Clear-Site-Data")
}

#[rocket::async_test]
async fn nothing_is_dropped_unless_the_setting_says_so() {
    let provider = TestProvider::start().await;
    let browser = signed_in(&App::local(&provider), &provider).await;
    let page = browser.submit("/oidc/logout", "").await;
    assert_eq!(cleared(page.redirects_to("/")), None);
}

#[rocket::async_test]
async fn a_sign_out_here_drops_what_the_setting_names() {
    let provider = TestProvider::start().await;
    for (setting, expected) in [
        ("cache", r#""cache""#),
        ("cache storage", r#""cache", "storage""#),
        ("cookies storage", r#""cookies", "storage""#),
        ("*", r#""*""#),
    ] {
        let app = App::local(&provider).with("oidc.clear_site_data", setting);
        let browser = signed_in(&app, &provider).await;
        // Pages, and requests of other sites, drop nothing.
        assert_eq!(cleared(&browser.visit("/oidc/logout").await), None);
        let foreign = [("Sec-Fetch-Site", "cross-site")];
        let page = browser.request(Method::Post, "/oidc/logout", &foreign, "").await;
        assert_eq!(cleared(page.is(Status::Forbidden)), None);
        assert_eq!(cleared(&browser.visit("/oidc/logged-out?state=x").await), None);
        let page = browser.submit("/oidc/logout", "").await;
        assert_eq!(cleared(page.redirects_to("/")), Some(expected));
        // The provider may have ended the session before.
        let page = browser.submit("/oidc/logout", "").await;
        assert_eq!(cleared(page.redirects_to("/")), Some(expected));
    }
}

/// The cookie with the way back is needed in between.
#[rocket::async_test]
async fn cookies_are_dropped_when_the_browser_is_back_from_the_provider() {
    let provider = TestProvider::start().await;
    for (setting, first, last) in [
        ("storage", Some(r#""storage""#), None),
        ("cookies", None, Some(r#""cookies""#)),
        ("cookies storage", Some(r#""storage""#), Some(r#""cookies", "storage""#)),
        ("*", Some(WITHOUT_COOKIES), Some(r#""*""#)),
    ] {
        let app = App::new(&provider).with("oidc.clear_site_data", setting);
        let browser = signed_in(&app, &provider).await;
        let page = browser.submit("/oidc/logout?next=/notes", "").await;
        assert_eq!(cleared(&page), first, "{setting}");
        let back = provider.end_session(page.location.as_deref().unwrap());
        let back = url::Url::parse(&back.unwrap()).unwrap();
        let (_, state) = back.query_pairs().next().unwrap();
        for (state, expected) in [("other", None), (&*state, last)] {
            let page = browser
                .arrive_from_provider(&format!("/oidc/logged-out?state={state}"))
                .await;
            assert_eq!(cleared(page.is(Status::SeeOther)), expected, "{setting}");
        }
    }
}

/// Such as one of a key that is no longer in use.
#[rocket::async_test]
async fn a_note_that_does_not_decrypt_keeps_no_cookies() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with("oidc.clear_site_data", "cookies");
    let browser = signed_in(&app, &provider).await;
    let page = browser.submit("/oidc/logout?next=/notes", "").await;
    let back = provider.end_session(page.location.as_deref().unwrap());
    let back = url::Url::parse(&back.unwrap()).unwrap();
    let (_, state) = back.query_pairs().next().unwrap();
    let name = cookie_name("oidc_ended", &provider);
    browser.set_cookie(Cookie::build((name, "AQIDBAUGBwg")).path("/").build());
    let page = browser
        .arrive_from_provider(&format!("/oidc/logged-out?state={state}"))
        .await;
    assert_eq!(cleared(page.is(Status::SeeOther)), Some(r#""cookies""#));
}

/// Without its cookie, the person of the testing profile would be signed in again.
#[rocket::async_test]
async fn a_testing_profile_stays_signed_out() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider)
        .with("oidc.enabled", false)
        .with("oidc.testing_profile.sub", "alice")
        .with("oidc.clear_site_data", "*");
    let browser = app.open().await;
    let page = browser.submit("/oidc/logout", "").await;
    assert_eq!(cleared(&page), Some(WITHOUT_COOKIES));
}

#[rocket::async_test]
async fn an_unknown_type_aborts_the_launch() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with("oidc.clear_site_data", "cache Cookies");
    let (_, lines) = launch_failure(app.rocket()).await;
    let expected = "unknown value \"Cookies\"";
    assert!(lines[0].ends_with(expected), "{lines:#?}");
    assert_eq!(
        lines[1],
        "INFO: write `cache`, `cookies`, `storage`, `executionContexts`, `prefetchCache`, `prerenderCache`, \
         `clientHints` or `*`"
    );
}

#[rocket::async_test]
async fn cookies_of_sibling_sub_domains_are_warned_of() {
    let provider = TestProvider::start().await;
    for (setting, expected) in [("cache storage", false), ("cache cookies", true), ("*", true)] {
        let log = Log::listen();
        App::local(&provider).with("oidc.clear_site_data", setting).open().await;
        let lines = log.lines();
        let mut lines = lines.iter().filter(|line| line.contains("clear_site_data"));
        let warning = "WARN: `clear_site_data`: the cookies of sibling sub-domains are cleared too";
        let expected = expected.then(|| warning.to_owned());
        assert_eq!(lines.next(), expected.as_ref());
    }
}
