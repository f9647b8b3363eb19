//! Sign-ins that must fail, end to end through the callback: each changes one thing against a
//! sign-in that succeeds. Each is tried with the response in the query and in a form.

mod basic_profile;
mod careless;
mod config_profile;
mod hostile;
mod id_token;
mod response;
mod token_endpoint;
mod user_info;

use std::ops::Deref;

use rocket::{Request, get, routes};
use rocket_openidconnect::{Authorized, Policy, User};
use serde_json::{Value, json};

use crate::common::App;
use crate::support::{Browser, Page, TestProvider, case};

/// A launched app with a browser before it.
pub struct Launched {
    pub app: App,
    pub browser: Browser,
}

impl Deref for Launched {
    type Target = App;

    fn deref(&self) -> &App {
        &self.app
    }
}

/// Launches the app with these members of the table `oidc`.
pub async fn launch(provider: &TestProvider, settings: Value) -> Launched {
    let app = App::client(provider).with_all(settings);
    let browser = Browser::open(app.rocket().mount("/", routes![admin])).await;
    Launched { app, browser }
}

#[get("/admin")]
fn admin(user: Authorized<Admin>) -> String {
    format!("Hello admin {}", user.subject())
}

/// Who is in the group `admin`.
struct Admin;

impl Policy for Admin {
    async fn permits(user: &User, _request: &Request<'_>) -> bool {
        user.groups().contains(&"admin")
    }
}

/// A person signs in at a provider that was changed in one thing, and is refused with this status
/// and this error, in which `{issuer}` stands for the provider's.
async fn refused(change: impl Fn(&TestProvider), status: u16, error: &str) {
    refused_with(json!({}), change, status, error).await;
}

/// As [`refused`], with further settings.
async fn refused_with(settings: Value, change: impl Fn(&TestProvider), status: u16, error: &str) {
    case(error);
    for response_mode in RESPONSE_MODES {
        let provider = TestProvider::start().await;
        change(&provider);
        let app = launch(&provider, with_response_mode(&settings, response_mode)).await;
        let page = app.browser.sign_in(&provider, "/me").await;
        let error = error.replace("{issuer}", &provider.issuer());
        is_refused(&app, &page, status, &error).await;
    }
}

/// The last is what [`accepted`] answers.
const RESPONSE_MODES: [&str; 2] = ["form_post", "query"];

fn with_response_mode(settings: &Value, response_mode: &str) -> Value {
    let mut settings = settings.clone();
    settings["response_mode"] = response_mode.into();
    settings
}

/// The app has told of this failure alone, shown its page, and nobody is signed in.
pub async fn is_refused(app: &Launched, page: &Page, status: u16, error: &str) {
    assert_eq!(app.failures_with_status(), [(status, error.to_owned())]);
    assert_refusal_page(page, status);
    assert_no_session(app).await;
}

fn assert_refusal_page(page: &Page, status: u16) {
    assert_eq!(page.status, status, "{page:#?}");
    assert_eq!(page.location, None);
    page.sees("Sign-in failed").sees_no("alice");
}

/// No session in the browser, and none that the app finds.
async fn assert_no_session(app: &Launched) {
    let cookies = app.browser.cookies();
    assert!(
        !cookies.iter().any(|(name, _)| name.contains("session")),
        "{cookies:#?}"
    );
    let page = app.browser.visit("/me").await;
    page.redirects_to("/oidc/login?next=%2Fme");
    assert_eq!(app.browser.fetch("/me").await.status, 401);
    let visitor: Value = app.browser.visit("/").await.json();
    assert_eq!(visitor, json!({ "logged_in": false, "user": null }));
}

/// A person signs in at a provider that was changed in one thing, and arrives.
async fn accepted(change: impl Fn(&TestProvider)) -> (TestProvider, Launched, Page) {
    accepted_with(json!({}), change).await
}

/// As [`accepted`], with further settings.
async fn accepted_with(settings: Value, change: impl Fn(&TestProvider)) -> (TestProvider, Launched, Page) {
    case("signed in");
    let mut last = None;
    for response_mode in RESPONSE_MODES {
        let provider = TestProvider::start().await;
        change(&provider);
        let app = launch(&provider, with_response_mode(&settings, response_mode)).await;
        let page = app.browser.sign_in(&provider, "/me").await;
        is_accepted(&app, &page).await;
        last = Some((provider, app, page));
    }
    last.expect("there are response modes")
}

/// Nothing failed, and the browser shows who is signed in.
pub async fn is_accepted(app: &Launched, page: &Page) {
    assert_eq!(app.failures_with_status(), []);
    assert_eq!((page.status, page.url.as_str()), (200, "/me"), "{page:#?}");
    assert_eq!(page.json::<Value>()["sub"], "alice");
    let visitor: Value = app.browser.visit("/").await.json();
    assert_eq!(visitor["user"]["sub"], "alice");
}
