//! Silent sign-in in a real browser, at npm `oidc-provider`.

use crate::{
    browser::Browser,
    example::{Example, free_port},
    node_provider::{CLIENT_SECRET, NodeProvider},
};

const STRANGER: &str = "Not signed in";
const ALICE: &str = "Signed in as Alice Liddell";

/// Loads the start page: whom it greets.
async fn greeted(browser: &Browser, start: &str) -> String {
    browser.goto(start).await;
    assert_eq!(browser.current_url().await, start);
    browser.text("#who").await
}

/// The value of the app's cookie of this kind, and whether it ends with the browser.
async fn cookie(browser: &Browser, kind: &str) -> Option<(String, bool)> {
    let cookies = browser.cookies().await;
    let cookie = cookies.into_iter().find(|cookie| cookie.name.contains(kind))?;
    assert_eq!(
        (&*cookie.domain, &*cookie.path, cookie.http_only),
        ("localhost", "/", true)
    );
    Some((cookie.value, cookie.expires < 0.0))
}

#[rocket::async_test]
#[ignore = "needs Node.js and Chromium: run scripts/interop"]
async fn a_visitor_is_signed_in_silently_and_stays_signed_out_after_a_sign_out() {
    let port = free_port();
    let redirect_uri = format!("http://localhost:{port}/oidc/authorize");
    let provider = NodeProvider::start(&[("REDIRECT_URI", &redirect_uri)]).await;
    let environment = [
        ("OIDC_ISSUER", provider.issuer()),
        ("OIDC_CLIENT_ID", "rocket-app"),
        ("OIDC_CLIENT_SECRET", CLIENT_SECRET),
        ("OIDC_SCOPES", "openid profile email"),
        ("OIDC_SILENT", "true"),
        // The session at the provider outlives a sign-out.
        ("OIDC_RP_INITIATED_LOGOUT", "false"),
    ];
    let app = Example::start("notes", port, &environment);
    let browser = Browser::start().await;
    let start = app.at("localhost", "/");
    let tried = Some(("tried".to_owned(), true));

    // The provider has no session: it answers `login_required`.
    assert_eq!(greeted(&browser, &start).await, STRANGER);
    assert_eq!(cookie(&browser, "oidc_silent").await, Some(("probed".to_owned(), true)));
    for _ in 0..3 {
        assert_eq!(greeted(&browser, &start).await, STRANGER);
        assert_eq!(cookie(&browser, "oidc_silent").await, tried);
    }
    assert!(cookie(&browser, "oidc_last_session").await.is_none());

    // A user signs in, and this app's cookies are lost: as if they had signed in at another app.
    browser.goto(&app.at("localhost", "/me")).await;
    provider.sign_in(&browser, "alice").await;
    browser.wait_for_url(|url| url == app.at("localhost", "/me")).await;
    browser.forget_cookies("localhost", "oidc").await;
    assert_eq!(greeted(&browser, &start).await, STRANGER);
    assert_eq!(greeted(&browser, &start).await, ALICE);
    browser.screenshot("silent-signed-in").await;
    let (_, ends_with_browser) = cookie(&browser, "oidc_last_session").await.expect("a session began");
    assert!(!ends_with_browser);

    // Whatever the browser session, and although the provider would.
    browser.click("#sign-out").await;
    let ended = Some(("0".to_owned(), false));
    for _ in 0..2 {
        for _ in 0..3 {
            assert_eq!(greeted(&browser, &start).await, STRANGER);
        }
        assert_eq!(cookie(&browser, "oidc_last_session").await, ended);
        browser.forget_cookies("localhost", "oidc_silent").await;
    }
    // Until a user signs in.
    browser.click("#sign-in").await;
    browser.wait_for_url(|url| url == start).await;
    assert_eq!(browser.text("#who").await, ALICE);
}
