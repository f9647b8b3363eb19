//! The app's own pages: for sign-ins that failed and for the sign-out button; and catchers that know why.

use rocket::{
    Build, Request, Rocket, catch, catchers,
    http::{Method, Status},
    response::{self, Redirect, Responder, content::RawHtml},
    routes,
};
use rocket_openidconnect::{
    Bearer, BearerError, BuiltInPages, NoSession, Oidc, Pages, SignInFailure, SignOutConfirmation,
};

use crate::{
    common::{App, Log, pages},
    support::{Browser, Page, TestProvider},
};

#[rocket::get("/api")]
fn api(_token: Bearer) -> &'static str {
    "api"
}

#[catch(default)]
fn sorry(status: Status, request: &Request<'_>) -> String {
    let failure = SignInFailure::of(request).map(|failure| failure.error.reason());
    let signed_out = NoSession::of(request).map(|reason| reason.reason());
    let bearer = BearerError::of(request).map(|error| error.reason());
    format!("{} {failure:?} {signed_out:?} {bearer:?}", status.code)
}

/// The page for a failed sign-in as a function.
struct Failed<F>(F);

impl<F, R> Pages for Failed<F>
where
    F: Fn(&Request<'_>, &SignInFailure) -> R + Send + Sync + 'static,
    R: for<'r> Responder<'r, 'static>,
{
    fn sign_in_failed(&self, request: &Request<'_>, failure: &SignInFailure) -> response::Result<'static> {
        (self.0)(request, failure).respond_to(request)
    }
}

/// Leaves every failure to the catchers.
struct Catchers;

impl Pages for Catchers {
    fn sign_in_failed(&self, _request: &Request<'_>, failure: &SignInFailure) -> response::Result<'static> {
        Err(failure.status())
    }
}

fn rocket(app: &App, oidc: Oidc) -> Rocket<Build> {
    app.bare()
        .attach(oidc.clock(app.clock()))
        .mount("/", pages())
        .mount("/", routes![api])
        .register("/", catchers![sorry])
}

/// The answer to a response that says that the person said no.
async fn denied(oidc: Oidc) -> (Browser, Page) {
    let provider = TestProvider::start().await;
    let browser = Browser::open(rocket(&App::new(&provider), oidc)).await;
    let callback = browser.begin_sign_in(&provider, "/notes?page=1&sort=x").await;
    let path = callback.error("access_denied").path_and_query();
    let page = browser.arrive_from_provider(&path).await;
    assert_eq!(page.header("Cache-Control"), Some("no-store"));
    assert_eq!(page.header("Referrer-Policy"), Some("no-referrer"));
    (browser, page)
}

#[rocket::async_test]
async fn the_app_renders_the_page() {
    let log = Log::listen();
    let oidc = Oidc::fairing().pages(Failed(|request: &Request<'_>, failure: &SignInFailure| {
        let explanation = &failure.explanation;
        let (id, again) = (&failure.id, &failure.try_again);
        let path = request.uri().path();
        RawHtml(format!("{path}|{explanation}|{again}|{id}"))
    }));
    let (_, page) = denied(oidc).await;
    page.is(Status::BadRequest);
    assert_eq!(page.header("Content-Type"), Some("text/html; charset=utf-8"));
    // The app's page may have styles and scripts.
    assert_eq!(page.header("Content-Security-Policy"), None);
    let parts: Vec<_> = page.body.split('|').collect();
    let again = "/oidc/login?next=%2Fnotes%3Fpage%3D1%26sort%3Dx";
    assert_eq!(parts[..3], ["/oidc/authorize", "The sign-in was cancelled.", again]);
    let logged = format!("WARN: sign-in failed [{}]: ", parts[3]);
    let lines = log.lines();
    assert!(lines.iter().any(|line| line.starts_with(&logged)), "{lines:#?}");
}

#[rocket::async_test]
async fn the_app_may_answer_with_a_status_of_its_own() {
    let oidc = Oidc::fairing().pages(Failed(|_: &Request<'_>, failure: &SignInFailure| {
        let reason = failure.error.reason();
        Redirect::to(format!("/sorry/{reason}"))
    }));
    let (_, page) = denied(oidc).await;
    page.redirects_to("/sorry/access_denied");
    let oidc = Oidc::fairing().pages(Failed(|_: &Request<'_>, _: &SignInFailure| {
        (Status::ImATeapot, "short and stout")
    }));
    let (_, page) = denied(oidc).await;
    page.is(Status::ImATeapot).sees("short and stout");
}

#[rocket::async_test]
async fn the_app_may_leave_it_to_its_catchers() {
    let oidc = Oidc::fairing().pages(Catchers);
    let (_, page) = denied(oidc).await;
    assert_eq!(
        page.is(Status::BadRequest).body,
        "400 Some(\"access_denied\") None None"
    );
}

#[rocket::async_test]
async fn without_a_page_of_the_apps_catchers_are_not_asked() {
    let (browser, page) = denied(Oidc::fairing()).await;
    page.is(Status::BadRequest)
        .sees("The sign-in was cancelled.")
        .sees("error-id");
    assert!(page.header("Content-Security-Policy").is_some());
    let other = browser.fetch("/nowhere").await;
    assert_eq!(other.body, "404 None None None");
}

#[rocket::async_test]
async fn catchers_know_why_a_guard_refused() {
    let (browser, _) = denied(Oidc::fairing()).await;
    let page = browser.fetch("/me").await;
    assert_eq!(page.body, "401 None Some(\"no_session\") None");
    let page = browser.fetch("/api").await;
    assert_eq!(page.body, "401 None None Some(\"no_token\")");
    let bad = [("Authorization", "Bearer two tokens")];
    let page = browser.fetch_with("/api", &bad).await;
    assert_eq!(page.body, "400 None None Some(\"malformed_header\")");
}

#[rocket::async_test]
async fn while_the_provider_is_down_every_page_has_retry_after() {
    for is_left_to_catchers in [false, true] {
        let provider = TestProvider::start().await;
        provider.stop();
        let mut oidc = Oidc::fairing();
        if is_left_to_catchers {
            oidc = oidc.pages(Catchers);
        }
        let browser = Browser::open(rocket(&App::new(&provider), oidc)).await;
        let page = browser.visit("/oidc/login").await;
        page.is(Status::ServiceUnavailable);
        let wait = page.header("Retry-After").map(str::parse::<u64>);
        assert!(matches!(wait, Some(Ok(1..=60))), "{page:#?}");
        assert_eq!(page.body.starts_with("503"), is_left_to_catchers);
    }
}

/// The page with the sign-out button, with what the app's own page says about frames.
struct SignOut {
    policy: Option<&'static str>,
}

impl Pages for SignOut {
    fn confirm_sign_out(&self, request: &Request<'_>, page: &SignOutConfirmation) -> response::Result<'static> {
        if page.action.ends_with("next=%2Fother") {
            return BuiltInPages.confirm_sign_out(request, page);
        }
        let [button] = &page.fields[..] else {
            return Err(Status::InternalServerError);
        };
        let rejected = page.rejected.is_some();
        let html = RawHtml(format!("{}|{}|{rejected}|{}", page.action, button.name, button.value));
        let mut response = html.respond_to(request)?;
        response.set_raw_header("Cache-Control", "public");
        response.set_raw_header("Referrer-Policy", "no-referrer");
        if let Some(policy) = self.policy {
            response.set_raw_header("Content-Security-Policy", policy);
        }
        Ok(response)
    }
}

#[rocket::async_test]
async fn the_app_renders_the_sign_out_button() {
    let provider = TestProvider::start().await;
    let oidc = Oidc::fairing().pages(SignOut { policy: None });
    let browser = Browser::open(rocket(&App::local(&provider), oidc)).await;
    browser.sign_in(&provider, "/me").await.is(Status::Ok);

    let page = browser.visit("/oidc/logout?next=/me").await;
    page.is(Status::Ok);
    assert_eq!(page.header("Content-Type"), Some("text/html; charset=utf-8"));
    assert_eq!(page.header("Cache-Control"), Some("no-store"));
    assert_eq!(page.header("Referrer-Policy"), Some("strict-origin"));
    let parts: Vec<_> = page.body.split('|').collect();
    assert_eq!(parts[..3], ["/oidc/logout?next=%2Fme", "button", "false"]);

    let other = browser.visit("/oidc/logout?next=/other").await;
    other.is(Status::Ok).sees("<h1>Sign out?</h1>");

    // The field of the app's page signs out, as that of the built-in page.
    let hidden = |value: &str| format!("button={value}");
    let headers = [
        ("Origin", "null"),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    let post = |form: String| {
        let browser = &browser;
        async move {
            browser
                .request(Method::Post, "/oidc/logout?next=/me", &headers, &form)
                .await
        }
    };
    let page = post(hidden("1")).await;
    page.is(Status::Forbidden).sees("/oidc/logout?next=%2Fme|button|true|");
    assert_eq!(page.header("Referrer-Policy"), Some("strict-origin"));
    post(hidden(parts[3])).await.redirects_to("/me");
    assert_eq!(browser.fetch("/me").await.status, 401);
}

/// A frame over another site's page would let that site place the button under the pointer.
#[rocket::async_test]
async fn no_page_with_a_button_is_shown_in_a_frame() {
    const NONE: &str = "frame-ancestors 'none'";
    for (policy, expected) in [
        (None, vec![NONE]),
        (Some("default-src 'self'"), vec!["default-src 'self'", NONE]),
        (Some("frame-ancestors *"), vec!["frame-ancestors *", NONE]),
        (
            Some("Frame-Ancestors *; frame-ancestors 'none'"),
            vec!["Frame-Ancestors *; frame-ancestors 'none'", NONE],
        ),
        (
            Some("img-src 'self'; frame-ancestors 'none'; form-action 'self'"),
            vec!["img-src 'self'; frame-ancestors 'none'; form-action 'self'"],
        ),
    ] {
        let provider = TestProvider::start().await;
        let oidc = Oidc::fairing().pages(SignOut { policy });
        let browser = Browser::open(rocket(&App::new(&provider), oidc)).await;
        let page = browser.visit("/oidc/logout").await;
        assert_eq!(page.header_values("Content-Security-Policy"), expected);
        let built_in = browser.visit("/oidc/logout?next=/other").await;
        assert_eq!(
            built_in.header_values("Content-Security-Policy"),
            ["default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"]
        );
    }
}
