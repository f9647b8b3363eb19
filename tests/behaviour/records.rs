//! A session as the app sees it, whole, and the cookies that it travels in: for tests of who holds the cookies.

use std::time::Duration;

use rocket::{
    Build, Request, Rocket, get,
    http::Cookie,
    routes,
    serde::json::{Json, Value, json},
};
use rocket_openidconnect::{Events, LoggedIn, NewSignIn, OptionalUser, Refused};

pub use crate::numbers::Numbers;
use crate::{
    common::App,
    support::{Browser, Page, TestProvider},
};

/// The name of each cookie of a session has this in it.
const SESSION: &str = "oidc_session";

/// A token of 300 s is refreshed by then at the latest.
pub const DUE: Duration = Duration::from_secs(285);

/// Names and values, in order.
pub type Cookies = Vec<(String, String)>;

/// Keeps data of the app in each session.
pub struct KeepsData;

#[rocket::async_trait]
impl Events for KeepsData {
    async fn after_authorize(&self, _: &Request<'_>, signed_in: &mut NewSignIn<'_>) -> Result<(), Refused> {
        let owner = signed_in.subject().to_owned();
        let sid = signed_in.claims().get::<String>("sid");
        signed_in.set("kept", json!({ "owner": owner, "sid": sid }));
        Ok(())
    }
}

/// All that a handler can read of a session.
#[get("/record")]
async fn whole(user: LoggedIn) -> Json<Value> {
    let access_token = match user.access_token() {
        Ok(token) => json!(token.expose()),
        Err(error) => json!({ "error": error.to_string() }),
    };
    Json(json!({
        "session": user.session_id(),
        "claims": user.claims(),
        "data": user.data::<Value>("kept"),
        "access_token": access_token,
        "refresh_token": user.refresh_token().map(|token| token.expose()),
    }))
}

/// The same where nobody has to be signed in.
#[get("/visitor")]
fn visitor(visitor: OptionalUser) -> Json<Value> {
    Json(json!(visitor.user().map(|user| user.subject())))
}

/// The app with routes that show a session whole.
pub fn rocket(app: &App) -> Rocket<Build> {
    app.rocket_with(KeepsData).mount("/", routes![whole, visitor])
}

/// Another node of the app, or the same after a restart: it shares the settings and the clock.
pub async fn node(app: &App) -> Browser {
    Browser::open(rocket(app)).await
}

/// A browser that is signed in.
pub async fn signed_in(app: &App, provider: &TestProvider) -> Browser {
    let browser = node(app).await;
    let page = browser.sign_in(provider, "/me").await;
    assert_eq!(page.status, 200, "{page:#?}");
    browser
}

/// The session as the app sees it; `None` when signed out. Panics at any other answer.
pub async fn record(browser: &Browser) -> Option<Value> {
    record_of(&browser.fetch("/record").await)
}

/// As [`record`], of an answer.
#[track_caller]
pub fn record_of(page: &Page) -> Option<Value> {
    match page.status {
        200 => Some(page.json()),
        401 => None,
        _ => panic!("neither signed in nor signed out: {page:#?}"),
    }
}

/// Whether this is the name of a session's cookie.
pub fn is_of_session(name: &str) -> bool {
    name.contains(SESSION)
}

/// The session's cookies that a browser has, the first chunk first.
pub fn session_cookies(browser: &Browser) -> Cookies {
    let mut cookies = browser.cookies();
    cookies.retain(|(name, _)| is_of_session(name));
    cookies.sort_by(|(a, _), (b, _)| (a.len(), a).cmp(&(b.len(), b)));
    cookies
}

/// The first of the session's cookies, which every session has.
#[track_caller]
pub fn session_cookie(browser: &Browser) -> Cookie<'static> {
    let cookies = session_cookies(browser);
    let (name, _) = cookies.first().expect("a session");
    browser.cookie(name).expect("it is there")
}

/// The names of the session's cookies that an answer sets or removes.
pub fn session_cookies_set(page: &Page) -> Vec<String> {
    let names = page.set_cookies().into_iter().map(name_of);
    names.filter(|name| is_of_session(name)).map(str::to_owned).collect()
}

/// The name in a `Set-Cookie`.
pub fn name_of(set_cookie: &str) -> &str {
    set_cookie.split('=').next().unwrap_or_default()
}

/// Lets a browser have these cookies and no other.
pub fn give_cookies(browser: &Browser, cookies: &[(String, String)]) {
    browser.forget_cookies();
    for (name, value) in cookies {
        let cookie = Cookie::build((name.clone(), value.clone())).path("/");
        browser.set_cookie(cookie.build());
    }
}

/// Another browser before the same app, with these cookies.
pub fn another_with_cookies(browser: &Browser, cookies: &[(String, String)]) -> Browser {
    let holder = browser.another();
    give_cookies(&holder, cookies);
    holder
}

/// Gives one browser all cookies of another and no other, as if they were one browser before two apps.
pub fn carry_cookies(from: &Browser, to: &Browser) {
    let mut cookies: Vec<Cookie<'static>> = vec![];
    for (name, _) in from.cookies() {
        cookies.extend(from.cookie(&name));
    }
    to.forget_cookies();
    for cookie in cookies {
        to.set_cookie(cookie);
    }
}

/// How many bytes the headers of an answer have on the wire, with what the server adds.
pub fn header_bytes(page: &Page) -> usize {
    const STATUS_LINE_AND_SERVER: usize = 128;
    let headers = page.headers.iter();
    let lines = headers.map(|(name, value)| name.len() + value.len() + ": \r\n".len());
    STATUS_LINE_AND_SERVER + lines.sum::<usize>()
}

/// How many bytes of an answer set cookies of the session.
pub fn session_cookie_bytes(page: &Page) -> usize {
    let cookies = page.set_cookies().into_iter();
    let of_session = cookies.filter(|cookie| is_of_session(name_of(cookie)));
    of_session.map(|cookie| "Set-Cookie: \r\n".len() + cookie.len()).sum()
}

/// How many bytes a `Cookie` header with all of a browser's cookies has.
pub fn cookie_header_bytes(browser: &Browser) -> usize {
    let cookies = browser.cookies();
    let pairs = cookies.iter().map(|(name, value)| name.len() + 1 + value.len());
    "Cookie: ".len() + pairs.sum::<usize>() + 2 * cookies.len().saturating_sub(1)
}
