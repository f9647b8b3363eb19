//! Authorization responses that must not be accepted: what the browser brings back.

use std::time::Duration;

use rocket::http::Cookie;
use rocket::tokio::join;
use serde_json::{Value, json};

use super::{is_accepted, is_refused, nobody_is_signed_in, shows_refusal};
use crate::app::{App, Log, NOW, launch};
use crate::support::{Callback, Page, TestProvider, case};

const NOT_PENDING: &str = "no sign-in is under way in this browser that this response belongs to";
const STATE: &str = "`state` is not the one that was sent";

/// A sign-in of which the browser has the response and did not bring it yet.
struct Begun {
    provider: TestProvider,
    app: App,
    callback: Callback,
}

impl Begun {
    async fn new() -> Self {
        Self::at(|_| {}).await
    }

    async fn at(change: impl FnOnce(&TestProvider)) -> Self {
        case("an authorization response");
        let provider = TestProvider::start().await;
        change(&provider);
        let app = launch(&provider, json!({})).await;
        let callback = app.browser.begin_sign_in(&provider, "/me").await;
        Self {
            provider,
            app,
            callback,
        }
    }

    async fn bring(&self, callback: &Callback) -> Page {
        let path = callback.path_and_query();
        let page = self.app.browser.arrive_from_provider(&path).await;
        self.app.browser.follow(&self.provider, page).await
    }

    /// Brings the response with one change, is refused, and no code was sent on.
    async fn refused(
        self,
        change: impl FnOnce(Callback) -> Callback,
        status: u16,
        error: &str,
    ) -> Self {
        let page = self.bring(&change(self.callback.clone())).await;
        let error = error.replace("{issuer}", &self.provider.issuer());
        is_refused(&self.app, &page, status, &error).await;
        assert_eq!(self.provider.count("/token"), 0);
        self
    }

    /// The honest response still leads home: the refused one did not use up the attempt.
    async fn is_still_pending(&self) {
        let page = self.bring(&self.callback).await;
        assert_eq!(self.app.recorder.failures().len(), 1);
        assert_eq!(page.json::<Value>()["sub"], "alice");
    }

    /// The honest response comes too late: the refused one used up the attempt.
    async fn is_over(&self) {
        let page = self.bring(&self.callback).await;
        shows_refusal(&page, 400);
        assert_eq!(
            self.app.recorder.failures()[1..],
            [(400, NOT_PENDING.to_owned())]
        );
        assert_eq!(self.provider.count("/token"), 0);
        nobody_is_signed_in(&self.app).await;
    }
}

#[rocket::async_test]
async fn the_honest_response_is_accepted() {
    let begun = Begun::new().await;
    let page = begun.bring(&begun.callback).await;
    is_accepted(&begun.app, &page).await;
}

// ---- State.

#[rocket::async_test]
async fn state_missing() {
    let begun = Begun::new().await;
    let begun = begun.refused(|c| c.without("state"), 400, NOT_PENDING);
    begun.await.is_still_pending().await;
}

#[rocket::async_test]
async fn state_unknown() {
    for state in ["", "x", "unknown-unknown-unknown-unknown", "ééééééé\u{0}"] {
        let begun = Begun::new().await;
        let begun = begun.refused(|c| c.set("state", state), 400, NOT_PENDING);
        begun.await.is_still_pending().await;
    }
}

/// The part that names the attempt is in the cookie's name, and no proof.
#[rocket::async_test]
async fn state_right_in_its_beginning_alone() {
    let changes: [fn(&str) -> String; 3] = [
        |state| state[..8].to_owned(),
        |state| format!("{}{}", &state[..8], "A".repeat(35)),
        |state| format!("{state}A"),
    ];
    for change in changes {
        let begun = Begun::new().await;
        let forged = change(begun.callback.param("state").unwrap());
        let begun = begun.refused(|c| c.set("state", &forged), 400, STATE);
        begun.await.is_still_pending().await;
    }
}

#[rocket::async_test]
async fn state_of_another_browser() {
    let begun = Begun::new().await;
    let another = begun.app.browser.another();
    let other = another.begin_sign_in(&begun.provider, "/me").await;
    let state = other.param("state").unwrap();
    let begun = begun.refused(|c| c.set("state", state), 400, NOT_PENDING);
    begun.await.is_still_pending().await;
}

/// A code of one tab with the state of another: the code verifier does not fit.
#[rocket::async_test]
async fn state_of_another_attempt_of_this_browser() {
    let begun = Begun::new().await;
    let browser = &begun.app.browser;
    let other = browser.begin_sign_in(&begun.provider, "/admin").await;
    let mixed = begun
        .callback
        .clone()
        .set("state", other.param("state").unwrap());
    let page = begun.bring(&mixed).await;
    let error = "the provider's token endpoint refused with `invalid_grant`: wrong code_verifier";
    is_refused(&begun.app, &page, 400, error).await;
}

/// Login CSRF: somebody else's response, brought by a browser that began nothing.
#[rocket::async_test]
async fn response_in_another_browser() {
    let begun = Begun::new().await;
    let victim = App {
        browser: begun.app.browser.another(),
        recorder: begun.app.recorder.clone(),
        clock: begun.app.clock.clone(),
    };
    let path = begun.callback.path_and_query();
    let page = victim.browser.arrive_from_provider(&path).await;
    is_refused(&victim, &page, 400, NOT_PENDING).await;
    assert_eq!(begun.provider.count("/token"), 0);
    begun.is_still_pending().await;
}

/// The cookie of an attempt that is under way, by its name without the attempt's.
fn pending_cookie(begun: &Begun, callback: &Callback) -> Cookie<'static> {
    let name = format!("oidc_pending_{}", &callback.param("state").unwrap()[..8]);
    begun.app.browser.cookie(&name).expect("a pending cookie")
}

#[rocket::async_test]
async fn pending_cookie_damaged() {
    let begun = Begun::new().await;
    let mut cookie = pending_cookie(&begun, &begun.callback);
    let (first, rest) = cookie.value().split_at(1);
    let damaged = if first == "A" { "B" } else { "A" }.to_owned() + rest;
    cookie.set_value(damaged);
    begun.app.browser.set_cookie(cookie);
    begun.refused(|c| c, 400, NOT_PENDING).await;
}

/// What one attempt sealed does not open as another.
#[rocket::async_test]
async fn pending_cookie_of_another_attempt() {
    let begun = Begun::new().await;
    let browser = &begun.app.browser;
    let other = browser.begin_sign_in(&begun.provider, "/admin").await;
    let mut cookie = pending_cookie(&begun, &begun.callback);
    cookie.set_value(pending_cookie(&begun, &other).value().to_owned());
    browser.set_cookie(cookie);
    begun.refused(|c| c, 400, NOT_PENDING).await;
}

// ---- Twice, or too late.

#[rocket::async_test]
async fn response_twice() {
    let begun = Begun::new().await;
    begun.bring(&begun.callback).await.sees("alice");

    // As who is signed in, by the back button say.
    let path = begun.callback.path_and_query();
    let page = begun.app.browser.arrive_from_provider(&path).await;
    assert_eq!((page.status, page.location.as_deref()), (303, Some("/")));
    assert_eq!(begun.app.recorder.failures(), []);

    begun.app.browser.submit("/oidc/logout", "").await;
    let page = begun.bring(&begun.callback).await;
    is_refused(&begun.app, &page, 400, NOT_PENDING).await;
    assert_eq!(begun.provider.count("/token"), 1);
}

/// A code is good for one: whoever comes second is told so, and the first is signed in.
#[rocket::async_test]
async fn response_twice_at_once() {
    let begun = Begun::new().await;
    let (browser, path) = (&begun.app.browser, begun.callback.path_and_query());
    let held = begun.provider.hold("/token");
    let (one, other, ()) = join!(
        browser.arrive_from_provider(&path),
        browser.arrive_from_provider(&path),
        async {
            begun.provider.until_requested("/token", 2).await;
            held.release();
        }
    );
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [303, 400]);
    let error = "the provider's token endpoint refused with `invalid_grant`: unknown or spent code";
    assert_eq!(begun.app.recorder.failures(), [(400, error.to_owned())]);
    assert_eq!(browser.visit("/").await.body, "Hello alice");
}

#[rocket::async_test]
async fn response_after_ten_minutes() {
    let begun = Begun::new().await;
    begun.app.clock.advance(Duration::from_secs(600));
    begun.provider.set_time(NOW + 600);
    let error = "the sign-in was begun more than 10 minutes ago";
    begun.refused(|c| c, 400, error).await.is_over().await;
}

#[rocket::async_test]
async fn response_a_second_before_ten_minutes() {
    let begun = Begun::new().await;
    begun.app.clock.advance(Duration::from_secs(599));
    begun.provider.set_time(NOW + 599);
    let page = begun.bring(&begun.callback).await;
    is_accepted(&begun.app, &page).await;
}

// ---- The issuer (RFC 9207).

#[rocket::async_test]
async fn iss_of_another_provider() {
    let error = "the response's `iss` is `https://other.example`, expected `{issuer}`";
    let begun = Begun::new().await;
    let begun = begun.refused(|c| c.set("iss", "https://other.example"), 400, error);
    begun.await.is_over().await;
}

#[rocket::async_test]
async fn iss_missing_where_it_is_announced() {
    let error = "the response has no `iss`, which the provider's metadata announces";
    let begun = Begun::new().await;
    let begun = begun.refused(|c| c.without("iss"), 400, error);
    begun.await.is_over().await;
}

fn announce_no_iss(provider: &TestProvider) {
    provider.metadata(|metadata| {
        metadata.remove("authorization_response_iss_parameter_supported");
    });
}

#[rocket::async_test]
async fn iss_of_another_provider_where_none_is_announced() {
    let error = "the response's `iss` is `https://other.example`, expected `{issuer}`";
    let begun = Begun::at(announce_no_iss).await;
    let begun = begun.refused(|c| c.set("iss", "https://other.example"), 400, error);
    begun.await.is_over().await;
}

#[rocket::async_test]
async fn iss_missing_where_none_is_announced() {
    let begun = Begun::at(announce_no_iss).await;
    let page = begun.bring(&begun.callback.clone().without("iss")).await;
    is_accepted(&begun.app, &page).await;
}

// ---- Errors in place of a code.

#[rocket::async_test]
async fn error_response() {
    for (error, status) in [
        ("access_denied", 400),
        ("login_required", 400),
        ("invalid_scope", 400),
        ("unauthorized_client", 400),
        ("something_else", 400),
        ("server_error", 502),
        ("temporarily_unavailable", 503),
    ] {
        let begun = Begun::new().await;
        let text = format!("the provider answered `{error}`: because");
        let change = |c: Callback| c.error(error).set("error_description", "because");
        begun.refused(change, status, &text).await.is_over().await;
    }
}

#[rocket::async_test]
async fn error_response_without_description() {
    let begun = Begun::new().await;
    let error = "the provider answered `access_denied`: ";
    begun
        .refused(|c| c.error("access_denied"), 400, error)
        .await;
}

/// An error must not be forged into a sign-in of somebody else, no more than a code.
#[rocket::async_test]
async fn error_response_with_another_state() {
    let begun = Begun::new().await;
    let change = |c: Callback| c.error("access_denied").set("state", "unknown-unknown");
    let begun = begun.refused(change, 400, NOT_PENDING);
    begun.await.is_still_pending().await;
}

#[rocket::async_test]
async fn error_beside_a_code() {
    let begun = Begun::new().await;
    let error = "the provider answered `access_denied`: ";
    let change = |c: Callback| c.set("error", "access_denied");
    begun.refused(change, 400, error).await.is_over().await;
}

/// The page shows none of it; the log shows it in one line.
#[rocket::async_test]
async fn error_response_with_markup() {
    let begun = Begun::new().await;
    let callback = begun.callback.clone().error("<b>denied</b>\n").set(
        "error_description",
        "<script>alert(1)</script>\nERROR forged",
    );
    let page = begun.bring(&callback).await;
    page.sees_no("<script").sees_no("<b>").sees_no("forged");
    let error =
        "the provider answered `<b>denied</b>\\n`: <script>alert(1)</script>\\nERROR forged";
    is_refused(&begun.app, &page, 400, error).await;
}

#[rocket::async_test]
async fn the_page_shows_the_id_that_the_log_has() {
    let begun = Begun::new().await;
    let log = Log::listen();
    let page = begun
        .bring(&begun.callback.clone().error("access_denied"))
        .await;
    let (_, id) = page.body.split_once("<code id=\"error-id\">").unwrap();
    let (id, _) = id.split_once("</code>").unwrap();
    assert_eq!(id.len(), 8);
    log.has(&format!(
        "WARN sign-in failed [{id}]: the provider answered `access_denied`: "
    ));
    for secret in ["state", "code"] {
        let secret = begun.callback.param(secret).unwrap();
        page.sees_no(secret);
        assert!(!log.lines().concat().contains(secret));
    }
}

// ---- Parameters missing, or there twice.

#[rocket::async_test]
async fn code_missing() {
    let begun = Begun::new().await;
    let error = "the response has no `code`";
    let begun = begun.refused(|c| c.without("code"), 400, error);
    begun.await.is_over().await;
}

#[rocket::async_test]
async fn code_empty() {
    let begun = Begun::new().await;
    let error = "the response has no `code`";
    let begun = begun.refused(|c| c.set("code", ""), 400, error);
    begun.await.is_over().await;
}

#[rocket::async_test]
async fn parameter_twice() {
    for name in ["state", "code", "iss"] {
        let begun = Begun::new().await;
        let value = begun.callback.param(name).unwrap().to_owned();
        let error = format!("`{name}` stands more than once in the response");
        let begun = begun.refused(|c| c.add(name, &value), 400, &error);
        begun.await.is_still_pending().await;
    }
}

#[rocket::async_test]
async fn parameter_twice_that_we_do_not_know() {
    let begun = Begun::new().await;
    let callback = begun.callback.clone();
    let callback = callback.add("session_state", "a").add("session_state", "b");
    let page = begun.bring(&callback).await;
    is_accepted(&begun.app, &page).await;
}

/// Session Management 1.0 §2: it means something to the provider alone, and is often base64.
#[rocket::async_test]
async fn session_state_of_any_letters() {
    for text in ["a+b/c==", "a%2Bb%2Fc%3D%3D.s+alt", ""] {
        let begun = Begun::new().await;
        let path = begun.callback.path_and_query() + "&session_state=" + text;
        let page = begun.app.browser.arrive_from_provider(&path).await;
        let page = begun.app.browser.follow(&begun.provider, page).await;
        is_accepted(&begun.app, &page).await;
    }
}
