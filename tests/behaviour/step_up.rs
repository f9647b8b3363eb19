//! Guards that demand a recent authentication or an authentication context.

use std::time::Duration;

use rocket::{
    Build, Request, Rocket, catch, catchers, get,
    http::{Method, Status},
    post, routes,
    serde::json::{Json, Value, json},
};
use rocket_openidconnect::{
    Acr, AnyScope, Authorized, Bearer, BearerError, Caller, Claims, Fresh, LoggedIn, Policy, StepUp, User, acr_values,
    protect_requiring,
};
use url::Url;

use crate::{
    common::{App, NOW, launch_failure},
    records::DUE,
    support::{Browser, Page, TestProvider, case},
};

acr_values! {
    Gold = "gold" | "platinum";
    Platinum = "platinum";
    Silver = "silver";
}

struct Everybody;

impl Policy for Everybody {
    async fn permits(_: &User, _: &Request<'_>) -> bool {
        true
    }
}

#[get("/fresh")]
fn fresh(user: LoggedIn<Claims, Fresh<5>>) -> String {
    user.subject().to_owned()
}

#[post("/fresh")]
fn post_fresh(user: LoggedIn<Claims, Fresh<5>>) -> String {
    user.subject().to_owned()
}

#[get("/gold?<page>")]
fn gold(user: Authorized<Everybody, Claims, Acr<Gold>>, page: Option<u32>) -> String {
    format!("{} {page:?}", user.subject())
}

#[get("/both")]
fn both(user: LoggedIn<Claims, (Fresh<5>, Acr<Gold>, Fresh<2>, Acr<Platinum>)>) -> String {
    user.subject().to_owned()
}

#[get("/api")]
fn api(token: Bearer<AnyScope, Claims, (Fresh<5>, Acr<Gold>)>) -> String {
    token.subject().unwrap_or_default().to_owned()
}

#[get("/caller")]
fn caller(caller: Caller<AnyScope, Claims, Fresh<5>>) -> String {
    caller.subject().unwrap_or_default().to_owned()
}

#[get("/bank")]
fn bank() -> &'static str {
    "the bank"
}

#[catch(401)]
fn unauthorized(request: &Request<'_>) -> Json<Value> {
    Json(json!({
        "step_up": StepUp::of(request),
        "bearer": BearerError::of(request).map(BearerError::reason),
    }))
}

fn with_routes(rocket: Rocket<Build>) -> Rocket<Build> {
    rocket
        .mount("/", routes![fresh, post_fresh, gold, both, api, caller])
        .mount("/", protect_requiring::<Fresh<5>>(routes![bank]))
        .register("/", catchers![unauthorized])
}

/// An app, and a browser in which `alice` signed in with these claims of the ID token.
async fn signed_in(provider: &TestProvider, claims: Value) -> (App, Browser) {
    answer(provider, claims);
    let app = App::new(provider).with("oidc.audience", TestProvider::API);
    let browser = Browser::open(with_routes(app.rocket())).await;
    browser.sign_in(provider, "/me").await.is(Status::Ok);
    (app, browser)
}

/// The provider answers with these claims from now on; `null` removes one.
fn answer(provider: &TestProvider, claims: Value) {
    provider.on_id_token(move |token| {
        for (name, value) in claims.as_object().unwrap() {
            if value.is_null() {
                token.claims.remove(name);
            } else {
                token.set(name, value.clone());
            }
        }
    });
}

/// The values of parameters of the authorization request to which a page load is redirected.
async fn asked(browser: &Browser, page: &Page, names: [&str; 2]) -> [Option<String>; 2] {
    page.is(Status::SeeOther).redirects_to("/oidc/login?next=");
    let page = browser.visit(page.location.as_deref().unwrap()).await;
    let url = Url::parse(page.location.as_deref().unwrap()).unwrap();
    names.map(|name| {
        let mut pairs = url.query_pairs();
        pairs
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.into_owned())
    })
}

#[rocket::async_test]
async fn who_satisfies_a_guard_reaches_the_page() {
    let provider = TestProvider::start().await;
    let (_, browser) = signed_in(&provider, json!({ "auth_time": NOW, "acr": "platinum" })).await;
    for path in ["/fresh", "/both", "/caller"] {
        assert_eq!(browser.visit(path).await.is(Status::Ok).body, "alice", "{path}");
    }
    assert_eq!(browser.visit("/gold?page=7").await.is(Status::Ok).body, "alice Some(7)");
    assert_eq!(browser.visit("/bank").await.is(Status::Ok).body, "the bank");
    assert_eq!(browser.submit("/fresh", "").await.is(Status::Ok).body, "alice");
}

#[rocket::async_test]
async fn a_page_load_that_falls_short_asks_the_provider_once_for_all() {
    let provider = TestProvider::start().await;
    let (_, browser) = signed_in(&provider, json!({ "auth_time": NOW - 1_000, "acr": "silver" })).await;
    for (path, max_age, acr_values) in [
        ("/fresh", Some("300"), None),
        ("/bank", Some("300"), None),
        ("/caller", Some("300"), None),
        ("/gold?page=7", None, Some("gold platinum")),
        ("/both", Some("120"), Some("platinum")),
    ] {
        case(path);
        let page = browser.visit(path).await;
        let asked = asked(&browser, &page, ["max_age", "acr_values"]).await;
        assert_eq!(asked, [max_age, acr_values].map(|value| value.map(str::to_owned)));
        assert_eq!(page.header("Cache-Control"), Some("no-store"));
        assert_eq!(page.header("WWW-Authenticate"), None);
    }
    // And comes back.
    answer(&provider, json!({ "auth_time": NOW, "acr": "platinum" }));
    let page = browser.sign_in(&provider, "/gold?page=7").await;
    assert_eq!(page.is(Status::Ok).body, "alice Some(7)");
    assert_eq!(browser.visit("/both").await.is(Status::Ok).body, "alice");
}

#[rocket::async_test]
async fn anything_else_that_falls_short_gets_the_challenge() {
    let provider = TestProvider::start().await;
    let (_, browser) = signed_in(&provider, json!({ "auth_time": NOW - 361, "acr": "silver" })).await;
    for (path, challenge, body) in [
        ("/fresh", r#"max_age="300""#, json!({ "max_age": 300 })),
        ("/bank", r#"max_age="300""#, json!({ "max_age": 300 })),
        ("/caller", r#"max_age="300""#, json!({ "max_age": 300 })),
        (
            "/gold",
            r#"acr_values="gold platinum""#,
            json!({ "acr_values": ["gold", "platinum"] }),
        ),
        (
            "/both",
            r#"acr_values="platinum", max_age="120""#,
            json!({ "max_age": 120, "acr_values": ["platinum"] }),
        ),
    ] {
        case(path);
        let page = browser.fetch(path).await;
        page.is(Status::Unauthorized);
        let expected = format!(r#"Bearer error="insufficient_user_authentication", {challenge}"#);
        assert_eq!(page.header("WWW-Authenticate"), Some(&*expected));
        assert_eq!(page.json::<Value>(), json!({ "step_up": body, "bearer": null }));
    }
    let page = browser.submit("/fresh", "").await;
    page.is(Status::Unauthorized);
    assert_eq!(page.json::<Value>()["step_up"], json!({ "max_age": 300 }));
    // Without a session it is a sign-in, not a step-up.
    let page = browser.another().fetch("/fresh").await;
    assert_eq!(page.json::<Value>(), json!({ "step_up": null, "bearer": null }));
}

#[rocket::async_test]
async fn the_guard_and_the_answer_have_one_rule() {
    let provider = TestProvider::start().await;
    for (auth_time, is_met) in [
        (json!(NOW - 360), true),
        (json!(NOW - 361), false),
        (json!(NOW + 60), true),
        // As from a provider that sends milliseconds.
        (json!(NOW * 1_000), false),
        (json!(NOW + 61), false),
        (json!(null), false),
        (json!(NOW.to_string()), false),
    ] {
        case(&auth_time.to_string());
        let (_, browser) = signed_in(&provider, json!({ "auth_time": auth_time })).await;
        assert_eq!(browser.visit("/fresh").await.status == 200, is_met);
        // And at the provider's answer to the step-up.
        let app = App::new(&provider);
        let browser = Browser::open(with_routes(app.rocket())).await;
        let page = browser.sign_in(&provider, "/fresh").await;
        assert_eq!(page.status, if is_met { 200 } else { 502 });
    }
}

/// The time is that of the authentication, not of the session.
#[rocket::async_test]
async fn a_fresh_authentication_becomes_stale() {
    let provider = TestProvider::start().await;
    let (app, browser) = signed_in(&provider, json!({ "auth_time": NOW })).await;
    app.advance(Duration::from_secs(360));
    browser.visit("/fresh").await.is(Status::Ok);
    app.advance(Duration::from_secs(1));
    browser.visit("/fresh").await.is(Status::SeeOther);
    browser.visit("/me").await.is(Status::Ok);
}

/// A refresh proves nothing about the user.
#[rocket::async_test]
async fn what_a_refresh_says_of_the_authentication_does_not_count() {
    let provider = TestProvider::start().await;
    for store in ["cookie", "memory"] {
        answer(&provider, json!({ "auth_time": NOW - 1_000, "acr": "silver" }));
        let app = App::new(&provider).with("oidc.session.store", store);
        let browser = Browser::open(with_routes(app.rocket())).await;
        browser.sign_in(&provider, "/me").await.is(Status::Ok);
        answer(&provider, json!({ "auth_time": NOW + 285, "acr": "platinum" }));
        app.advance(DUE);
        let me: Value = browser.visit("/me").await.json();
        assert_eq!(me["acr"], "platinum");
        browser.visit("/fresh").await.is(Status::SeeOther);
        browser.visit("/gold").await.is(Status::SeeOther);
    }
}

/// UserInfo is not the sign-in's ID token either.
#[rocket::async_test]
async fn what_userinfo_says_of_the_authentication_does_not_count() {
    let provider = TestProvider::start().await;
    provider.on_user_info(|reply| {
        reply.set("acr", "platinum");
        reply.set("auth_time", NOW);
    });
    let (_, browser) = signed_in(&provider, json!({ "auth_time": null, "acr": null })).await;
    browser.visit("/fresh").await.is(Status::SeeOther);
    browser.visit("/gold").await.is(Status::SeeOther);
}

#[rocket::async_test]
async fn a_provider_that_cannot_is_an_error_page_and_no_loop() {
    let provider = TestProvider::start().await;
    let (app, browser) = signed_in(&provider, json!({ "auth_time": NOW - 1_000, "acr": "silver" })).await;
    browser.sign_in(&provider, "/fresh").await.is(Status::BadGateway);
    browser.sign_in(&provider, "/gold").await.is(Status::BadGateway);
    assert_eq!(app.failures().len(), 2, "{:?}", app.failures());
    // Alice is signed in as before.
    browser.visit("/me").await.is(Status::Ok).sees("alice");
}

/// The page is for the user whose session was to be stepped up.
#[rocket::async_test]
async fn another_user_comes_back_to_the_start_page() {
    let provider = TestProvider::start().await;
    let (_, browser) = signed_in(&provider, json!({ "auth_time": NOW - 1_000 })).await;
    answer(&provider, json!({ "auth_time": NOW }));
    provider.user_claims(json!({ "sub": "bob", "email": "bob@example.com" }));
    let page = browser.visit("/fresh").await;
    let callback = browser
        .begin_sign_in(&provider, page.location.as_deref().unwrap())
        .await;
    let page = browser.arrive_from_provider(&callback.path_and_query()).await;
    assert_eq!(page.location.as_deref(), Some("/"));
    // The same callback again.
    let page = browser.arrive_from_provider(&callback.path_and_query()).await;
    assert_eq!(page.location.as_deref(), Some("/"));
    browser.visit("/me").await.is(Status::Ok).sees("bob");
}

/// The step-up of one user, sent to a signed-out browser, does not reach the page either.
#[rocket::async_test]
async fn a_step_up_of_one_user_is_no_sign_in_of_another_to_the_page() {
    let provider = TestProvider::start().await;
    let (_, browser) = signed_in(&provider, json!({ "auth_time": NOW - 1_000 })).await;
    let step_up = browser.visit("/fresh").await.location.unwrap();
    answer(&provider, json!({ "auth_time": NOW }));
    provider.user_claims(json!({ "sub": "bob" }));
    let other = browser.another();
    let callback = other.begin_sign_in(&provider, &step_up).await;
    let page = other.arrive_from_provider(&callback.path_and_query()).await;
    assert_eq!(page.location.as_deref(), Some("/"));
}

#[rocket::async_test]
async fn an_api_answers_with_the_challenge_of_rfc_9470() {
    let provider = TestProvider::start().await;
    let (_, browser) = signed_in(&provider, json!({})).await;
    for (claims, is_met) in [
        (json!({ "auth_time": NOW - 360, "acr": "gold" }), true),
        (json!({ "auth_time": NOW - 361, "acr": "gold" }), false),
        (json!({ "auth_time": NOW, "acr": "silver" }), false),
        (json!({ "auth_time": NOW, "acr": ["gold"] }), false),
        (json!({ "auth_time": NOW }), false),
        (json!({ "acr": "gold" }), false),
        (json!({ "auth_time": NOW + 61, "acr": "gold" }), false),
        (json!({ "auth_time": NOW.to_string(), "acr": "gold" }), false),
        (json!({}), false),
    ] {
        case(&claims.to_string());
        let token = provider.access_token("notes:read", |token| {
            for (name, value) in claims.as_object().unwrap() {
                token.set(name, value.clone());
            }
        });
        let authorization = format!("Bearer {token}");
        let page = browser
            .another()
            .request(Method::Get, "/api", &[("Authorization", &authorization)], "")
            .await;
        if is_met {
            assert_eq!(page.is(Status::Ok).body, "alice");
            continue;
        }
        page.is(Status::Unauthorized);
        let challenge = page.header("WWW-Authenticate").unwrap();
        let expected = r#"error="insufficient_user_authentication", error_description="the user must authenticate again or in another way", acr_values="gold platinum", max_age="300""#;
        assert!(challenge.contains(expected), "{challenge}");
        assert_eq!(page.json::<Value>()["bearer"], "insufficient_user_authentication");
    }
}

/// While `enabled = false` the developer has just authenticated, unless the profile says otherwise.
#[rocket::async_test]
async fn the_testing_profile_authenticated_just_now() {
    let provider = TestProvider::start().await;
    for (profile, path, status) in [
        (json!({ "sub": "dev" }), "/fresh", 200),
        (json!({ "sub": "dev", "auth_time": NOW - 361 }), "/fresh", 401),
        (json!({ "sub": "dev" }), "/gold", 401),
        (json!({ "sub": "dev", "acr": "gold" }), "/gold", 200),
        (json!({ "sub": "dev", "acr": "gold" }), "/api", 200),
        (json!({ "sub": "dev" }), "/api", 401),
    ] {
        case(&format!("{path} {profile}"));
        let app = App::new(&provider)
            .with("oidc.enabled", false)
            .with("oidc.testing_profile", profile);
        let browser = Browser::open(with_routes(app.rocket())).await;
        assert_eq!(browser.visit(path).await.status, status);
    }
}

#[get("/never")]
fn never(_user: LoggedIn<Claims, (Acr<Gold>, Acr<Silver>)>) {}

#[get("/never")]
fn never_an_api(_token: Bearer<AnyScope, Claims, (Acr<Gold>, Acr<Silver>)>) {}

#[rocket::async_test]
async fn what_nothing_satisfies_aborts_the_launch() {
    let provider = TestProvider::start().await;
    for routes in [routes![never], routes![never_an_api]] {
        let app = App::new(&provider).with("oidc.audience", TestProvider::API);
        let (kind, lines) = launch_failure(app.rocket().mount("/", routes)).await;
        assert_eq!(kind, "1 sentinels abort");
        let errors: Vec<_> = lines.iter().filter(|line| line.starts_with("ERROR")).collect();
        assert_eq!(errors.len(), 1, "{lines:#?}");
        assert!(errors[0].ends_with("is used in a route, and no user can satisfy all of its requirements"));
    }
}
