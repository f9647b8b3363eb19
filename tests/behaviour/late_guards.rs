//! Guards that a fairing asks in `on_response`: before the cookies are written, and after that.

use std::time::Duration;

use rocket::{Build, Request, Response, Rocket, fairing::AdHoc, get, http::Status, routes, serde::json::json};
use rocket_openidconnect::{
    ApiClient, Authorized, Caller, Claims, Fresh, LoggedIn, OptionalUser, Policy, RelyingParty, User,
};

use crate::{
    common::{App, Log, session_pages},
    github::Test,
    support::{Browser, GitHub, Page, TestProvider},
};

const TOKEN: &str = "/token";
const STORES: [&str; 2] = ["cookie", "memory"];
/// A token of 300 s is due by then.
const DUE: Duration = Duration::from_secs(285);
/// The request header that says what the fairing asks, and the one of the response with what it got.
const ASK: &str = "X-Ask";
const GOT: &str = "X-Got";
const ORDERS: &str = "https://orders.example.com";
const WARNING: &str =
    "WARN: a fairing asked a guard for the session after the response was written: it is read and not refreshed";
const REMEDY: &str = "INFO: attach that fairing before `Oidc`, so that its `on_response` runs first";

struct Anyone;

impl Policy for Anyone {
    async fn permits(_: &User, _: &Request<'_>) -> bool {
        true
    }
}

#[get("/public")]
fn public() -> &'static str {
    "for everyone"
}

#[get("/tokens")]
fn tokens(user: LoggedIn) -> String {
    let text = |token: Option<&rocket_openidconnect::Secret>| token.map_or("none", |it| it.expose()).to_owned();
    format!("{} {}", text(user.access_token().ok()), text(user.refresh_token()))
}

/// What the fairing gets.
async fn asked(request: &Request<'_>, what: &str) -> String {
    let user = request.guard::<OptionalUser>().await.succeeded();
    let user = user.and_then(OptionalUser::into_user);
    let subject = |user: &User| user.subject().to_owned();
    let none = || "none".to_owned();
    match what {
        "logged-in" => {
            let user = request.guard::<LoggedIn>().await.succeeded();
            user.map_or_else(none, |user| subject(&user))
        }
        "authorized" => {
            let user = request.guard::<Authorized<Anyone>>().await.succeeded();
            user.map_or_else(none, |user| subject(&user))
        }
        "caller" => {
            let caller = request.guard::<Caller>().await.succeeded();
            caller.map_or_else(none, |caller| caller.subject().unwrap_or_default().to_owned())
        }
        "fresh" => {
            let user = request.guard::<LoggedIn<Claims, Fresh<1>>>().await;
            user.succeeded().map_or_else(none, |user| subject(&user))
        }
        "optional" => user.as_ref().map_or_else(none, subject),
        "access-token" => match user.map(|user| user.access_token().map(|token| token.expose().to_owned())) {
            Some(token) => token.unwrap_or_else(|error| error.to_string()),
            None => none(),
        },
        "refresh" => match user {
            Some(user) => match user.refresh().await {
                Ok(user) => subject(&user),
                Err(error) => error.reason().to_owned(),
            },
            None => none(),
        },
        "token-for" => match user {
            Some(user) => match user.access_token_for(ORDERS, &[]).await {
                Ok(_) => "a token".to_owned(),
                Err(error) => error.reason().to_owned(),
            },
            None => none(),
        },
        "bound-client" => match user {
            Some(user) => {
                let api = ApiClient::new("http://127.0.0.1:9/").expect("an API");
                let api = user.bound_client(&api);
                let sent = api.send(api.get("orders").expect("a path")).await;
                sent.expect_err("none listens there").reason().to_owned()
            }
            None => none(),
        },
        "end" => {
            let rp = request.rocket().state::<RelyingParty>().expect("is managed");
            let id = user.map(|user| user.session_id().to_owned()).unwrap_or_default();
            format!("{:?}", rp.end_session(&id).await)
        }
        other => panic!("unknown: {other}"),
    }
}

/// The fairing, which asks what a header of the request says.
fn asking() -> AdHoc {
    AdHoc::on_response("Who is it?", |request: &Request<'_>, response: &mut Response<'_>| {
        Box::pin(async move {
            if let Some(what) = request.headers().get_one(ASK) {
                let got = asked(request, what).await;
                response.set_raw_header(GOT, got);
            }
        })
    })
}

fn with_routes(rocket: Rocket<Build>) -> Rocket<Build> {
    rocket.mount("/", routes![public, tokens]).mount("/", session_pages())
}

/// Attached after `Oidc`, whose `on_response` runs first.
fn after(app: &App) -> Rocket<Build> {
    with_routes(app.rocket()).attach(asking())
}

/// Attached before `Oidc`.
fn before(app: &App) -> Rocket<Build> {
    with_routes(app.rocket_after(asking()))
}

async fn ask(browser: &Browser, what: &str) -> Page {
    browser.fetch_with("/public", &[(ASK, what)]).await
}

fn got(page: &Page) -> String {
    page.is(Status::Ok).header(GOT).expect("the fairing asked").to_owned()
}

fn session_cookies_of(page: &Page) -> Vec<&str> {
    let set = page.set_cookies().into_iter();
    set.filter(|cookie| cookie.contains("oidc_session")).collect()
}

async fn token_pair(browser: &Browser) -> String {
    browser.fetch("/tokens").await.is(Status::Ok).body.clone()
}

#[rocket::async_test]
async fn after_the_response_is_written_no_guard_uses_up_the_refresh_token() {
    for store in STORES {
        for what in ["logged-in", "authorized", "caller", "optional"] {
            let provider = TestProvider::start().await;
            let app = App::new(&provider).with("oidc.session.store", store);
            let browser = Browser::signed_in(after(&app), &provider).await;
            let first = token_pair(&browser).await;
            app.advance(DUE);
            let log = Log::listen();
            for _ in 0..2 {
                let page = ask(&browser, what).await;
                assert_eq!(got(&page), "alice", "{store} {what}");
                assert_eq!(session_cookies_of(&page), [] as [&str; 0], "{store} {what}");
            }
            assert_eq!(provider.count(TOKEN), 1, "{store} {what}");
            // Once a minute.
            assert_eq!(log.lines(), [WARNING, REMEDY], "{store} {what}");

            // The session is refreshed where its cookie can be written, and again.
            for count in [2, 3] {
                assert_ne!(token_pair(&browser).await, first, "{store} {what}");
                assert_eq!(provider.count(TOKEN), count, "{store} {what}");
                app.advance(DUE);
            }
        }
    }
}

#[rocket::async_test]
async fn before_the_response_is_written_a_guard_refreshes_as_in_a_route() {
    for store in STORES {
        let provider = TestProvider::start().await;
        let app = App::new(&provider).with("oidc.session.store", store);
        let browser = Browser::signed_in(before(&app), &provider).await;
        let log = Log::listen();
        for count in [2, 3] {
            app.advance(DUE);
            let page = ask(&browser, "logged-in").await;
            assert_eq!(got(&page), "alice", "{store}");
            assert_ne!(session_cookies_of(&page), [] as [&str; 0], "{store}");
            assert_eq!(provider.count(TOKEN), count, "{store}");
        }
        token_pair(&browser).await;
        assert_eq!(provider.count(TOKEN), 3, "{store}");
        let lines = log.lines();
        assert!(!lines.contains(&WARNING.to_owned()), "{lines:#?}");
    }
}

#[rocket::async_test]
async fn a_session_that_a_route_has_read_is_no_reason_to_warn() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = Browser::signed_in(after(&app), &provider).await;
    app.advance(DUE);
    let log = Log::listen();
    let page = browser.fetch_with("/me", &[(ASK, "logged-in")]).await;
    assert_eq!(got(&page), "alice");
    assert_eq!(session_cookies_of(&page).len(), 1);
    assert_eq!(provider.count(TOKEN), 2);
    assert_eq!(log.lines(), [] as [&str; 0]);
    // A visitor without a session.
    assert_eq!(got(&ask(&browser.another(), "logged-in").await), "none");
    assert_eq!(log.lines(), [] as [&str; 0]);
}

#[rocket::async_test]
async fn a_token_that_was_not_refreshed_says_why() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = Browser::signed_in(after(&app), &provider).await;
    app.advance(Duration::from_secs(301));
    assert_eq!(
        got(&ask(&browser, "access-token").await),
        "the access token expired at 1700000300 (seconds since 1970) and was not refreshed: \
         the response headers were written before a guard read the session"
    );
    assert_eq!(provider.count(TOKEN), 1);
}

#[rocket::async_test]
async fn a_session_whose_refresh_is_overdue_is_none_after_the_response() {
    for store in STORES {
        let provider = TestProvider::start().await;
        let app = App::new(&provider)
            .with("oidc.session.store", store)
            .with("oidc.session.refresh_grace", "60s");
        let browser = Browser::signed_in(after(&app), &provider).await;
        app.advance(DUE);
        assert_eq!(got(&ask(&browser, "logged-in").await), "alice", "{store}");
        app.advance(Duration::from_secs(60));
        assert_eq!(got(&ask(&browser, "logged-in").await), "none", "{store}");
        assert_eq!(provider.count(TOKEN), 1, "{store}");
        token_pair(&browser).await;
        assert_eq!(got(&ask(&browser, "logged-in").await), "alice", "{store}");
        assert_eq!(provider.count(TOKEN), 2, "{store}");
    }
}

/// What the app calls itself: in cookies the new refresh token would be lost; a store keeps it.
#[rocket::async_test]
async fn calls_for_new_tokens_after_the_response_need_a_store() {
    for (what, refused, done) in [
        ("refresh", "response_already_sent", "alice"),
        ("token-for", "response_already_sent", "a token"),
        ("bound-client", "response_already_sent", "api_unreachable"),
    ] {
        for store in STORES {
            let provider = TestProvider::start().await;
            let app = App::new(&provider).with("oidc.session.store", store);
            let browser = Browser::signed_in(after(&app), &provider).await;
            app.advance(Duration::from_secs(301));
            let answer = got(&ask(&browser, what).await);
            match store {
                "cookie" => {
                    assert_eq!(answer, refused, "{what}");
                    assert_eq!(provider.count(TOKEN), 1, "{what}");
                }
                _ => {
                    assert_eq!(answer, done, "{what}");
                    assert_eq!(provider.count(TOKEN), 2, "{what}");
                }
            }
            // In either case the session goes on.
            for _ in 0..2 {
                token_pair(&browser).await;
                app.advance(DUE);
            }
        }
    }
}

#[rocket::async_test]
async fn a_guard_after_the_response_does_not_extend_idleness() {
    for store in STORES {
        let provider = TestProvider::start().await;
        let app = App::local(&provider).with("oidc.session.store", store);
        for (rocket, is_extended) in [(after(&app), false), (before(&app), true)] {
            let browser = Browser::signed_in(rocket, &provider).await;
            for _ in 0..2 {
                app.advance(Duration::from_secs(40 * 60));
                ask(&browser, "logged-in").await;
            }
            let status = browser.fetch("/me").await.status;
            assert_eq!(status == 200, is_extended, "{store}");
        }
    }
}

#[rocket::async_test]
async fn no_silent_sign_in_begins_after_the_response() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider).with("oidc.silent", true);
    let browser = Browser::open(after(&app)).await;
    for _ in 0..3 {
        let page = browser.visit_with("/public", &[(ASK, "optional")]).await;
        page.sees("for everyone");
        assert_eq!(got(&page), "none");
        assert_eq!(page.set_cookies(), [] as [&str; 0]);
    }
    // A fairing before ours begins one, and the page is loaded once more.
    let browser = Browser::open(before(&app)).await;
    browser.visit_with("/public", &[(ASK, "optional")]).await.is(Status::Ok);
    let page = browser.visit_with("/public", &[(ASK, "optional")]).await;
    page.redirects_to("/oidc/login?next=%2Fpublic&silent=true");
}

#[rocket::async_test]
async fn a_step_up_after_the_response_changes_nothing() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = Browser::signed_in(after(&app), &provider).await;
    app.advance(Duration::from_secs(240));
    let page = browser.visit_with("/public", &[(ASK, "fresh")]).await;
    page.sees("for everyone");
    assert_eq!(got(&page), "none");
    assert_eq!(page.header("WWW-Authenticate"), None);
}

#[rocket::async_test]
async fn a_session_that_a_late_fairing_ends_has_ended() {
    for store in STORES {
        let provider = TestProvider::start().await;
        let app = App::new(&provider).with("oidc.session.store", store);
        let browser = Browser::signed_in(after(&app), &provider).await;
        assert!(got(&ask(&browser, "end").await).starts_with("Ok("), "{store}");
        assert_eq!(got(&ask(&browser, "logged-in").await), "none", "{store}");
        browser.fetch("/me").await.is(Status::Unauthorized);
    }
}

#[rocket::async_test]
async fn the_same_at_one_of_several_providers() {
    let provider = TestProvider::start().await;
    for of_tenants in [false, true] {
        let of = json!({ "issuer": provider.issuer(), "client_id": "app", "client_secret": "hush" });
        let app = App::new(&provider).with_all(json!({
            "issuer": null, "client_id": null, "client_secret": null, "providers": { "one": of },
        }));
        let fairing = rocket_openidconnect::Oidc::fairing().clock(app.clock());
        let fairing = if of_tenants {
            fairing.provider_for(|_: &Request<'_>| Some("one".to_owned()))
        } else {
            fairing
        };
        let rocket = app.bare().attach(fairing).mount("/", crate::common::pages());
        let browser = Browser::signed_in(with_routes(rocket).attach(asking()), &provider).await;
        let begun = provider.count(TOKEN);
        app.advance(DUE);
        assert_eq!(got(&ask(&browser, "logged-in").await), "alice");
        assert_eq!(got(&ask(&browser, "refresh").await), "response_already_sent");
        assert_eq!(provider.count(TOKEN), begun);
        token_pair(&browser).await;
        assert_eq!(provider.count(TOKEN), begun + 1);
    }
}

#[rocket::async_test]
async fn a_user_of_github_is_not_read_again_after_the_response() {
    let test = Test::new().await.with("oidc.session.idle_timeout", "12h");
    let browser = Browser::open(test.rocket().mount("/", routes![public]).attach(asking())).await;
    test.come_back(&browser).await.redirects_to("/kind");
    let read = test.github.requests_to(GitHub::USER).len();
    test.app.advance(Duration::from_secs(60 * 60));
    assert_eq!(got(&ask(&browser, "logged-in").await), "583231");
    assert_eq!(got(&ask(&browser, "refresh").await), "response_already_sent");
    assert_eq!(test.github.requests_to(GitHub::USER).len(), read);
}
