//! Sign-in and sign-out in a real browser: cookies, `SameSite`, `Path` and redirects are only proved
//! there. The apps are the examples, as processes with environment variables alone.

use serde_json::Value;
use url::form_urlencoded;

use crate::{
    browser::{Browser, Tab},
    example::{Example, free_port},
    node_provider::{CLIENT_SECRET, NodeProvider},
    support::return_addresses::{FOREIGN, LOCAL},
};

#[rocket::async_test]
#[ignore = "needs Chromium: run scripts/interop"]
async fn sign_in_on_the_development_provider_under_both_loopback_names() {
    let port = free_port().to_string();
    let dev_provider = format!("{{port={port}}}");
    let app = Example::start("sign_in", free_port(), &[("OIDC_DEV_PROVIDER", &dev_provider)]);
    let browser = Browser::start().await;

    for host in ["localhost", "127.0.0.1"] {
        browser.goto(&app.at(host, "/")).await;
        browser.screenshot("sign_in-1-stranger").await;
        browser.click("#sign-in").await;
        browser.wait_for_url(|url| url.contains(&format!(":{port}/"))).await;
        browser.screenshot("sign_in-2-provider").await;
        browser.click("button[value=alice]").await;

        let profile = app.at("localhost", "/profile");
        browser.wait_for_url(|url| url == profile).await;
        browser.screenshot("sign_in-3-profile").await;
        assert_eq!(browser.text("h1").await, "Alice Liddell");
        assert!(browser.source().await.contains("alice@example.com"));

        browser.click("#sign-out").await;
        let start = app.at("localhost", "/");
        browser.wait_for_url(|url| url == start).await;
        assert_eq!(browser.text("h1").await, "Hello, stranger");
    }

    // A link to sign-out shows a button.
    browser.goto(&app.at("localhost", "/oidc/logout")).await;
    browser.screenshot("sign_in-4-sign-out").await;
    assert_eq!(browser.text("h1").await, "Sign out?");
    // A callback that nobody asked for is an error page, not a loop.
    browser
        .goto(&app.at("localhost", "/oidc/authorize?code=x&state=0123456789"))
        .await;
    browser.screenshot("sign_in-5-failed").await;
    assert_eq!(browser.text("h1").await, "Sign-in failed");
}

/// Nothing of it is wider than a phone, in either scheme; the pictures are for people.
#[rocket::async_test]
#[ignore = "needs Chromium: run scripts/interop"]
async fn the_page_for_developers_fits_a_phone() {
    let port = free_port().to_string();
    let dev_provider = format!("{{port={port}}}");
    let app = Example::start("metrics", free_port(), &[("OIDC_DEV_PROVIDER", &dev_provider)]);
    let browser = Browser::start().await;
    browser.goto(&app.at("localhost", "/oidc/login?next=/profile")).await;
    browser.click("button[value=alice]").await;
    let profile = app.at("localhost", "/profile");
    browser.wait_for_url(|url| url == profile).await;
    browser
        .goto(&app.at("localhost", "/oidc/authorize?code=x&state=0123456789"))
        .await;
    for (width, is_dark) in [(360, false), (360, true), (1280, false), (1280, true)] {
        browser.becomes(width, is_dark).await;
        browser.goto(&app.at("localhost", "/oidc/debug")).await;
        assert_eq!(browser.text("h1").await, "OpenID Connect");
        let widths = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]";
        let widths = browser.execute(widths).await;
        assert_eq!(widths[0], widths[1], "at {width}");
        let scheme = if is_dark { "dark" } else { "light" };
        browser.screenshot(&format!("debug-{width}-{scheme}")).await;
    }
}

/// The example `sign_in` with a development provider, which asks in each tab who signs in.
struct Tabs {
    browser: Browser,
    app: Example,
    provider: String,
}

impl Tabs {
    async fn start() -> Tabs {
        let port = free_port().to_string();
        let dev_provider = format!("{{port={port}}}");
        let environment = [("OIDC_DEV_PROVIDER", &*dev_provider)];
        Tabs {
            app: Example::start("sign_in", free_port(), &environment),
            browser: Browser::start().await,
            provider: format!(":{port}/"),
        }
    }

    fn page(&self, name: impl std::fmt::Display) -> String {
        self.app.at("localhost", &format!("/profile?tab={name}"))
    }

    /// Opens these pages, and waits until each of their tabs asks who signs in.
    async fn open(&self, pages: &[String]) -> Vec<Tab> {
        let tabs = self.browser.open_tabs(pages).await;
        for tab in &tabs {
            self.browser.switch_to(tab).await;
            let is_asked = |url: &str| url.contains(&self.provider);
            self.browser.wait_for_url(is_asked).await;
        }
        tabs
    }

    /// Signs alice in, as often as this tab asks: the page where it ends, and how often that was.
    async fn finish(&self, tab: &Tab) -> (String, u32) {
        self.browser.switch_to(tab).await;
        let profile = self.app.at("localhost", "/profile");
        for times in 1..=3 {
            let asked = self.browser.current_url().await;
            self.browser.click("button[value=alice]").await;
            let is_next = |url: &str| url.starts_with(&profile) || url.contains(&self.provider) && url != asked;
            let url = self.browser.wait_for_url(is_next).await;
            if url.starts_with(&profile) {
                assert_eq!(self.browser.text("h1").await, "Alice Liddell");
                return (url, times);
            }
        }
        panic!("still asked:\n{}", self.browser.source().await);
    }
}

/// Each begins without a cookie, so that each is given one, of which the last is kept.
#[rocket::async_test]
#[ignore = "needs Chromium: run scripts/interop"]
async fn ten_tabs_that_a_new_browser_opens_at_once_all_end_on_their_pages() {
    let tabs = Tabs::start().await;
    let pages: Vec<_> = (0..10).map(|number| tabs.page(number)).collect();
    let opened = tabs.open(&pages).await;
    let mut ended = vec![];
    for (number, tab) in opened.iter().enumerate() {
        let (page, times) = tabs.finish(tab).await;
        // At most the first one is sent to the provider again.
        assert!(times == 1 || number == 0, "tab {number}: asked {times} times");
        ended.push(page);
    }
    ended.sort_unstable();
    assert_eq!(ended, pages);
    tabs.browser.screenshot("sign_in-ten-tabs").await;
}

#[rocket::async_test]
#[ignore = "needs Chromium: run scripts/interop"]
async fn a_tab_that_is_finished_after_another_one_leads_to_its_page() {
    let tabs = Tabs::start().await;
    // One after the other: they share the browser's cookie.
    let first = tabs.open(&[tabs.page("first")]).await.remove(0);
    let second = tabs.open(&[tabs.page("second")]).await.remove(0);
    assert_eq!(tabs.finish(&second).await, (tabs.page("second"), 1));
    assert_eq!(tabs.finish(&first).await, (tabs.page("first"), 1));
    tabs.browser.switch_to(&second).await;
    tabs.browser.goto(&tabs.page("second")).await;
    assert_eq!(tabs.browser.text("h1").await, "Alice Liddell");
}

#[rocket::async_test]
#[ignore = "needs Chromium: run scripts/interop"]
async fn without_a_provider_the_testing_profile_signs_out_and_in() {
    let app = Example::start("sign_in", free_port(), &[("OIDC_ENABLED", "false")]);
    let browser = Browser::start().await;
    browser.goto(&app.at("localhost", "/profile")).await;
    assert_eq!(browser.text("h1").await, "Tess Ting");
    browser.click("#sign-out").await;
    let start = app.at("localhost", "/");
    browser.wait_for_url(|url| url == start).await;
    assert_eq!(browser.text("h1").await, "Hello, stranger");
    browser.click("#sign-in").await;
    let profile = app.at("localhost", "/profile");
    browser.wait_for_url(|url| url == profile).await;
    assert_eq!(browser.text("h1").await, "Tess Ting");
}

#[rocket::async_test]
#[ignore = "needs Node.js and Chromium: run scripts/interop"]
async fn notes_signs_in_at_npm_oidc_provider_with_environment_variables_alone() {
    // The redirect URI is registered before the app runs: both sides are told the app's port.
    let port = free_port();
    let base_url = format!("http://localhost:{port}");
    let redirect_uri = format!("{base_url}/oidc/authorize");
    let provider = NodeProvider::start(&[
        ("REDIRECT_URI", &redirect_uri),
        ("POST_LOGOUT_REDIRECT_URI", &format!("{base_url}/")),
    ])
    .await;
    let app = Example::start(
        "notes",
        port,
        &[
            ("OIDC_ISSUER", provider.issuer()),
            ("OIDC_CLIENT_ID", "rocket-app"),
            ("OIDC_CLIENT_SECRET", CLIENT_SECRET),
            ("OIDC_SCOPES", "openid profile email"),
        ],
    );
    let at = |path: &str| app.at("localhost", path);
    let browser = Browser::start().await;

    browser.goto(&at("/")).await;
    assert_eq!(browser.text("#who").await, "Not signed in");

    browser.goto(&at("/me?from=bookmark")).await;
    provider.sign_in(&browser, "alice").await;
    browser.wait_for_url(|url| url == at("/me?from=bookmark")).await;
    let me: Value = serde_json::from_str(&browser.text("body").await).unwrap();
    assert_eq!(me["sub"], "alice");
    assert_eq!(me["name"], "Alice Liddell");
    assert_eq!(me["email"], "alice@example.com");
    assert_eq!(me["claims"]["iss"], provider.issuer());

    let cookies = browser.cookies().await;
    let session = cookies.iter().find(|cookie| cookie.name.starts_with("oidc_session_"));
    let session = session.expect("there is a session");
    assert!(session.http_only && !session.secure);
    assert_eq!(session.same_site.as_deref(), Some("Lax"));
    assert_eq!(session.path, "/");
    assert!(!cookies.iter().any(|cookie| cookie.name.starts_with("oidc_attempt")));

    browser.goto(&at("/")).await;
    assert_eq!(browser.text("#who").await, "Signed in as Alice Liddell");
    // The button of the page at `/oidc/logout`: browsers hold its policy against the way to the provider.
    browser.goto(&at("/oidc/logout")).await;
    browser.click("#sign-out").await;
    browser.wait_for_url(|url| url.starts_with(provider.issuer())).await;
    browser.screenshot("notes-sign-out-at-provider").await;
    browser.click("button[value=yes]").await;
    browser.wait_for_url(|url| url == at("/")).await;
    assert_eq!(browser.text("#who").await, "Not signed in");
    // But for the name that this browser has for attempts to sign in, which is a new one.
    let cookies = browser.cookies().await;
    let ours = cookies.iter().map(|cookie| &*cookie.name);
    let ours = ours.filter(|name| name.starts_with("oidc_") && !name.starts_with("oidc_browser_"));
    assert_eq!(ours.collect::<Vec<_>>(), [""; 0]);
}

#[rocket::async_test]
#[ignore = "needs Node.js and Chromium: run scripts/interop"]
async fn the_response_comes_in_a_form_without_a_cookie_of_ours() {
    let port = free_port();
    let redirect_uri = format!("http://localhost:{port}/oidc/authorize");
    let provider = NodeProvider::start(&[("REDIRECT_URI", &redirect_uri)]).await;
    let app = Example::start(
        "notes",
        port,
        &[
            ("OIDC_ISSUER", provider.issuer()),
            ("OIDC_CLIENT_ID", "rocket-app"),
            ("OIDC_CLIENT_SECRET", CLIENT_SECRET),
            ("OIDC_RESPONSE_MODE", "form_post"),
        ],
    );
    let browser = Browser::start().await;
    let me = app.at("localhost", "/me?from=bookmark");
    browser.goto(&me).await;
    provider.sign_in(&browser, "alice").await;
    browser.wait_for_url(|url| url == me).await;
    let profile: Value = serde_json::from_str(&browser.text("body").await).unwrap();
    assert_eq!(profile["sub"], "alice");
    for cookie in browser.cookies().await {
        if cookie.name.starts_with("oidc_") {
            assert_eq!(cookie.same_site.as_deref(), Some("Lax"), "{}", cookie.name);
        }
    }
}

/// What a browser makes of a redirect is its own: some strip controls, take `\` for `/`, collapse dots.
#[rocket::async_test]
#[ignore = "needs Chromium: run scripts/interop"]
async fn no_return_address_leaves_the_app() {
    let app = Example::start("sign_in", free_port(), &[("OIDC_ENABLED", "false")]);
    let browser = Browser::start().await;
    let home = app.at("localhost", "/");
    for (addresses, leads_home) in [(&FOREIGN[..], true), (&LOCAL[..], false)] {
        for next in addresses {
            let next: String = form_urlencoded::byte_serialize(next.as_bytes()).collect();
            let login = app.at("localhost", &format!("/oidc/login?next={next}"));
            browser.goto(&login).await;
            let url = browser.current_url().await;
            assert!(url.starts_with(&home), "{next} led to {url}");
            assert!(!leads_home || url == home, "{next} led to {url}");
        }
    }
}
