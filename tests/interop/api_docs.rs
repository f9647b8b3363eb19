//! The example api_docs in Chromium: a user signs in at the development provider from Swagger UI, and calls the API.

use std::time::{Duration, Instant};

use rocket::tokio::time::sleep;

use crate::{
    browser::Browser,
    example::{Example, free_port},
};

const NOTES: &str = "#operations-Notes-notes";
/// The part of the dialogue with a scheme.
const OAUTH2: &str = ".auth-container:has([id$=checkbox-oauth2])";

/// Calls the operation, and waits for this status.
async fn execute(browser: &Browser, expected: &str) {
    let status = format!("{NOTES} .live-responses-table tbody .response-col_status");
    let started = Instant::now();
    browser.click(&format!("{NOTES} .execute")).await;
    loop {
        let found = browser.text(&status).await;
        if found.starts_with(expected) {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{found}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[rocket::async_test]
#[ignore = "needs Chromium: run scripts/interop"]
async fn a_user_signs_in_from_swagger_ui_and_calls_the_api() {
    let (port, dev_port) = (free_port(), free_port());
    let app = Example::start(
        "api_docs",
        port,
        &[("OIDC_DEV_PROVIDER", &*format!("{{port={dev_port}}}"))],
    );
    let browser = Browser::start().await;
    browser.goto(&app.at("localhost", "/")).await;
    let page = browser.current_tab().await;
    assert_eq!(browser.current_url().await, app.at("localhost", "/api-docs/index.html"));

    browser.click(&format!("{NOTES} .opblock-summary-control")).await;
    browser.click(&format!("{NOTES} .try-out__btn")).await;
    execute(&browser, "401").await;

    browser.click(".auth-wrapper .authorize").await;
    // Swagger UI has read the provider's metadata for the scheme `oidc`: another origin, which allows it.
    browser.text("label[for=openid-authorization_code-checkbox-oidc]").await;
    let scope = "label[for='notes:read-authorizationCode-checkbox-oauth2']";
    browser.click(scope).await;
    browser.screenshot("api-docs-schemes").await;
    browser.click(&format!("{OAUTH2} .authorize")).await;
    let popup = browser.new_tab(&page).await;
    browser.switch_to(&popup).await;
    let request = browser.wait_for_url(|url| url.contains("/authorize?")).await;
    assert!(
        request.starts_with(&format!("http://localhost:{dev_port}/authorize?")),
        "{request}"
    );
    for parameter in [
        "client_id=api-docs&",
        "scope=notes%3Aread&",
        "&code_challenge_method=S256",
    ] {
        assert!(request.contains(parameter), "{request}");
    }
    browser.click("button[value=alice]").await;

    browser.switch_to(&page).await;
    browser.text(".modal-ux [aria-label='Remove authorization']").await;
    browser.click(".modal-ux .close-modal").await;
    execute(&browser, "200").await;
    let body = browser
        .text(&format!(
            "{NOTES} .live-responses-table tbody .response-col_description"
        ))
        .await;
    assert!(body.contains("Dear alice: buy milk."), "{body}");
    browser.screenshot("api-docs-response").await;
}
