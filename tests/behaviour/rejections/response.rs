//! Authorization responses that must not be accepted: what the browser brings back.

use std::time::Duration;

use rocket::tokio::join;
use serde_json::{Value, json};

use super::{Launched, assert_no_session, is_accepted, is_refused, launch};
use crate::common::{Log, cookie_of_kind};
use crate::support::{Callback, Page, TestProvider, case};

const NOT_PENDING: &str = "the response belongs to no sign-in of this browser";
const STATE: &str = "`state` is missing, or was not issued by this app";

/// A sign-in of which the browser has the response and did not bring it yet.
struct Begun {
    provider: TestProvider,
    app: Launched,
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
    async fn refused(self, change: impl FnOnce(Callback) -> Callback, status: u16, error: &str) -> Self {
        let page = self.bring(&change(self.callback.clone())).await;
        let error = error.replace("{issuer}", &self.provider.issuer());
        is_refused(&self.app, &page, status, &error).await;
        assert_eq!(self.provider.count("/token"), 0);
        self
    }

    /// The honest response still leads home: the refused one did not use up the attempt.
    async fn is_still_pending(&self) {
        let page = self.bring(&self.callback).await;
        assert_eq!(self.app.failures_with_status().len(), 1);
        assert_eq!(page.json::<Value>()["sub"], "alice");
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
    let begun = begun.refused(|c| c.without("state"), 400, STATE);
    begun.await.is_still_pending().await;
}

#[rocket::async_test]
async fn state_unknown() {
    for state in ["", "x", "unknown-unknown-unknown-unknown", "ééééééé\u{0}"] {
        let begun = Begun::new().await;
        let begun = begun.refused(|c| c.set("state", state), 400, STATE);
        begun.await.is_still_pending().await;
    }
}

#[rocket::async_test]
async fn state_right_in_a_part_alone() {
    let changes: [fn(&str) -> String; 4] = [
        |state| state[..8].to_owned(),
        // Another last letter, without bits that base64 leaves unused.
        |state| {
            let (start, last) = state.split_at(state.len() - 1);
            format!("{start}{}", if last == "A" { "Q" } else { "A" })
        },
        |state| format!("{state}AAAA"),
        |state| format!("{}{}", &state[..60], "A".repeat(state.len() - 60)),
    ];
    for change in changes {
        let begun = Begun::new().await;
        let forged = change(begun.callback.param("state").unwrap());
        let begun = begun.refused(|c| c.set("state", &forged), 400, STATE);
        begun.await.is_still_pending().await;
    }
}

/// The sign-in begins once more: the right tab of another browser is a wrong one here.
#[rocket::async_test]
async fn state_of_another_browser() {
    let begun = Begun::new().await;
    let another = begun.app.browser.another();
    let other = another.begin_sign_in(&begun.provider, "/admin").await;
    let mixed = begun.callback.clone().set("state", other.param("state").unwrap());
    let path = mixed.path_and_query();
    let page = begun.app.browser.arrive_from_provider(&path).await;
    page.redirects_to(&format!("{}/authorize?", begun.provider.issuer()));
    assert_eq!(begun.provider.count("/token"), 0);
    assert_eq!(begun.app.failures_with_status(), []);
    let page = begun.bring(&begun.callback).await;
    assert_eq!(page.json::<Value>()["sub"], "alice");
}

/// A code of one tab with the state of another: the code verifier does not fit.
#[rocket::async_test]
async fn state_of_another_attempt_of_this_browser() {
    let begun = Begun::new().await;
    let browser = &begun.app.browser;
    let other = browser.begin_sign_in(&begun.provider, "/admin").await;
    let mixed = begun.callback.clone().set("state", other.param("state").unwrap());
    let path = mixed.path_and_query();
    let page = browser.arrive_from_provider(&path).await;
    page.redirects_to(&format!("{}/authorize?", begun.provider.issuer()));
    assert_eq!(begun.provider.count("/token"), 1);
    assert_no_session(&begun.app).await;
}

/// Login CSRF: somebody else's response, brought by a browser that began nothing.
#[rocket::async_test]
async fn response_in_another_browser() {
    let begun = Begun::new().await;
    let victim = Launched {
        app: begun.app.app.clone(),
        browser: begun.app.browser.another(),
    };
    let path = begun.callback.path_and_query();
    let page = victim.browser.arrive_from_provider(&path).await;
    is_refused(&victim, &page, 400, NOT_PENDING).await;
    assert_eq!(begun.provider.count("/token"), 0);
    begun.is_still_pending().await;
}

#[rocket::async_test]
async fn browser_cookie_damaged() {
    for value in ["", "x", ".0", "AAAAAAAAAAAAAAAAAAAAA.0", "AAAAAAAAAAAAAAAAAAAAAAA.0"] {
        let begun = Begun::new().await;
        let mut cookie = cookie_of_kind(&begun.app.browser, "oidc_browser");
        cookie.set_value(value);
        begun.app.browser.set_cookie(cookie);
        begun.refused(|c| c, 400, NOT_PENDING).await;
    }
}

// ---- Twice, or too late.

#[rocket::async_test]
async fn response_twice() {
    let begun = Begun::new().await;
    begun.bring(&begun.callback).await.sees("alice");

    // As who is signed in, by the back button say.
    let path = begun.callback.path_and_query();
    let page = begun.app.browser.arrive_from_provider(&path).await;
    assert_eq!((page.status, page.location.as_deref()), (303, Some("/me")));
    assert_eq!(begun.app.failures_with_status(), []);

    // Sign-out gives the browser a new id: what was begun before is another browser's.
    begun.app.browser.submit("/oidc/logout", "").await;
    let page = begun.app.browser.arrive_from_provider(&path).await;
    page.redirects_to(&format!("{}/authorize?", begun.provider.issuer()));
    assert_eq!(begun.provider.count("/token"), 1);
}

/// A code is good for one exchange, whose result both get.
#[rocket::async_test]
async fn response_twice_at_once() {
    let begun = Begun::new().await;
    let (browser, path) = (&begun.app.browser, begun.callback.path_and_query());
    let held = begun.provider.hold("/token");
    let (one, other, ()) = join!(
        browser.arrive_from_provider(&path),
        browser.arrive_from_provider(&path),
        async {
            begun.provider.until_requested("/token", 1).await;
            held.release();
        }
    );
    for page in [one, other] {
        assert_eq!((page.status, page.location.as_deref()), (303, Some("/me")));
    }
    assert_eq!(begun.provider.count("/token"), 1);
    assert_eq!(begun.app.failures_with_status(), []);
    let visitor: Value = browser.visit("/").await.json();
    assert_eq!(visitor["user"]["sub"], "alice");
}

/// It begins once more by itself, and only once.
#[rocket::async_test]
async fn response_after_the_timeout() {
    let begun = Begun::new().await;
    let mut callback = begun.callback.clone();
    for is_restarted in [false, true] {
        begun.app.advance(Duration::from_secs(1_800));
        let path = callback.path_and_query();
        let page = begun.app.browser.arrive_from_provider(&path).await;
        assert_eq!(begun.provider.count("/token"), 0);
        if is_restarted {
            let error = "the sign-in began more than 30 minutes ago";
            is_refused(&begun.app, &page, 400, error).await;
        } else {
            callback = begun.provider.authorize(page.location.as_deref().unwrap());
        }
    }
}

#[rocket::async_test]
async fn response_a_second_before_the_timeout() {
    let begun = Begun::new().await;
    begun.app.advance(Duration::from_secs(1_799));
    let page = begun.bring(&begun.callback).await;
    is_accepted(&begun.app, &page).await;
}

// ---- The issuer (RFC 9207).

#[rocket::async_test]
async fn iss_of_another_provider() {
    let error = "the response's `iss` is `https://other.example`, expected `{issuer}`";
    let begun = Begun::new().await;
    let begun = begun.refused(|c| c.set("iss", "https://other.example"), 400, error);
    begun.await.is_still_pending().await;
}

#[rocket::async_test]
async fn iss_missing_where_it_is_announced() {
    let error = "the response has no `iss`, which the provider's metadata announces or `shared_redirect_uri` requires";
    let begun = Begun::new().await;
    let begun = begun.refused(|c| c.without("iss"), 400, error);
    begun.await.is_still_pending().await;
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
    begun.await.is_still_pending().await;
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
        let text = format!("the provider returned `{error}`: because");
        let change = |c: Callback| c.error(error).set("error_description", "because");
        begun.refused(change, status, &text).await.is_still_pending().await;
    }
}

#[rocket::async_test]
async fn error_response_without_description() {
    let begun = Begun::new().await;
    let error = "the provider returned `access_denied`: ";
    begun.refused(|c| c.error("access_denied"), 400, error).await;
}

/// An error must not be forged into a sign-in of somebody else, no more than a code.
#[rocket::async_test]
async fn error_response_with_another_state() {
    let begun = Begun::new().await;
    let change = |c: Callback| c.error("access_denied").set("state", "unknown-unknown");
    let error = format!("{STATE}; the response, which is not authenticated, has the error `access_denied`: ");
    let begun = begun.refused(change, 400, &error);
    begun.await.is_still_pending().await;
}

#[rocket::async_test]
async fn error_beside_a_code() {
    let begun = Begun::new().await;
    let error = "the provider returned `access_denied`: ";
    let change = |c: Callback| c.set("error", "access_denied");
    begun.refused(change, 400, error).await.is_still_pending().await;
}

/// The page shows none of it; the log shows it in one line.
#[rocket::async_test]
async fn error_response_with_markup() {
    let begun = Begun::new().await;
    let callback = begun
        .callback
        .clone()
        .error("<b>denied</b>\n")
        .set("error_description", "<script>alert(1)</script>\nERROR forged");
    let page = begun.bring(&callback).await;
    page.sees_no("<script").sees_no("<b>").sees_no("forged");
    let error = "the provider returned `<b>denied</b>\\n`: <script>alert(1)</script>\\nERROR forged";
    is_refused(&begun.app, &page, 400, error).await;
}

#[rocket::async_test]
async fn the_page_shows_the_id_that_the_log_has() {
    let begun = Begun::new().await;
    let log = Log::listen();
    let page = begun.bring(&begun.callback.clone().error("access_denied")).await;
    let (_, id) = page.body.split_once("<code id=\"error-id\">").unwrap();
    let (id, _) = id.split_once("</code>").unwrap();
    assert_eq!(id.len(), 8);
    log.has(&format!(
        "WARN: sign-in failed [{id}]: the provider returned `access_denied`: "
    ));
    for secret in ["state", "code"] {
        let secret = begun.callback.param(secret).unwrap();
        page.sees_no(secret);
        assert!(!log.all_lines().concat().contains(secret));
    }
}

// ---- Parameters missing, or there twice.

#[rocket::async_test]
async fn code_missing() {
    let begun = Begun::new().await;
    let error = "the response has no `code`";
    let begun = begun.refused(|c| c.without("code"), 400, error);
    begun.await.is_still_pending().await;
}

#[rocket::async_test]
async fn code_empty() {
    let begun = Begun::new().await;
    let error = "the response has no `code`";
    let begun = begun.refused(|c| c.set("code", ""), 400, error);
    begun.await.is_still_pending().await;
}

#[rocket::async_test]
async fn parameter_twice() {
    for name in ["state", "code", "iss"] {
        let begun = Begun::new().await;
        let value = begun.callback.param(name).unwrap().to_owned();
        let error = format!("`{name}` appears more than once in the response");
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
