//! The app's own words for what went wrong: a page for sign-ins that failed, and catchers that know why.

use rocket::{
    Build, Request, Rocket, catch, catchers,
    http::Status,
    response::{Redirect, content::RawHtml},
    routes,
};
use rocket_openidconnect::{Bearer, BearerError, NoSession, Oidc, SignInFailure};

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
    let oidc = Oidc::fairing().error_page(|request, failure| {
        let explanation = &failure.explanation;
        let (id, again) = (&failure.id, &failure.try_again);
        let path = request.uri().path();
        RawHtml(format!("{path}|{explanation}|{again}|{id}"))
    });
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
    let oidc = Oidc::fairing().error_page(|_, failure| {
        let reason = failure.error.reason();
        Redirect::to(format!("/sorry/{reason}"))
    });
    let (_, page) = denied(oidc).await;
    page.redirects_to("/sorry/access_denied");
    let oidc = Oidc::fairing().error_page(|_, _| (Status::ImATeapot, "short and stout"));
    let (_, page) = denied(oidc).await;
    page.is(Status::ImATeapot).sees("short and stout");
}

#[rocket::async_test]
async fn the_app_may_leave_it_to_its_catchers() {
    let oidc = Oidc::fairing().error_page(|_, failure| failure.status());
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
            oidc = oidc.error_page(|_, failure| failure.status());
        }
        let browser = Browser::open(rocket(&App::new(&provider), oidc)).await;
        let page = browser.visit("/oidc/login").await;
        page.is(Status::ServiceUnavailable);
        let wait = page.header("Retry-After").map(str::parse::<u64>);
        assert!(matches!(wait, Some(Ok(1..=60))), "{page:#?}");
        assert_eq!(page.body.starts_with("503"), is_left_to_catchers);
    }
}
