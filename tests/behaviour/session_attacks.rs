//! What nobody means to happen to a session, and what must not come of it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rocket::{
    State,
    fairing::AdHoc,
    futures::future::join,
    get,
    http::Status,
    post, routes,
    serde::json::{Json, Value, json},
};
use rocket_openidconnect::{LoggedIn, OptionalUser, User};

use crate::{
    common::{App, KEY, locked},
    records::{self, DUE, give_cookies, record, session_cookies, session_cookies_set, signed_in},
    support::{Browser, Reply, TestProvider},
};

const TOKEN: &str = "/token";
const JWKS: &str = "/jwks";
const STORES: [&str; 2] = ["cookie", "memory"];

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[get("/unguarded")]
fn unguarded() {}

#[post("/refresh")]
async fn refresh(user: LoggedIn) -> Json<Value> {
    Json(groups_of(&user.into_user()).await)
}

/// The groups after a refresh, or why there was none.
async fn groups_of(user: &User) -> Value {
    match user.refresh().await {
        Ok(user) => json!(user.groups()),
        Err(error) => json!(error.reason()),
    }
}

/// A user that outlives its request.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Option<User>>>);

#[get("/keep")]
fn keep(user: LoggedIn, kept: &State<Kept>) {
    *locked(&kept.0) = Some(user.into_user());
}

/// The answer is made: what a guard of a later fairing changes would reach no browser.
#[rocket::async_test]
async fn a_guard_after_the_answer_refreshes_nothing() {
    for path in ["/unguarded", "/record"] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider);
        let later = AdHoc::on_response("later", |request, _| {
            Box::pin(async move {
                let _ = request.guard::<OptionalUser>().await;
            })
        });
        let rocket = records::rocket(&app).mount("/", routes![unguarded]);
        let browser = Browser::open(rocket.attach(later)).await;
        browser.sign_in(&provider, "/me").await.is(Status::Ok);
        app.advance(DUE);
        let page = browser.fetch(path).await;
        let is_guarded = path == "/record";
        assert_eq!(session_cookies_set(&page).is_empty(), !is_guarded);
        assert_eq!(provider.count(TOKEN), 1 + usize::from(is_guarded), "{path}");
    }
}

/// Others may have refreshed the session since, longer ago than two forced refreshes are apart.
#[rocket::async_test]
async fn a_stored_user_gets_the_current_claims() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with("oidc.session.store", "memory");
    let kept = Kept::default();
    let rocket = app.rocket().mount("/", routes![keep, refresh]);
    let browser = Browser::open(rocket.manage(kept.clone())).await;
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    browser.visit("/keep").await.is(Status::Ok);
    let user = locked(&kept.0).clone().expect("signed in");
    provider.on_id_token(|token| token.set("groups", json!(["admin"])));
    app.advance(seconds(60));
    let page = browser.submit("/refresh", "").await;
    assert_eq!(page.json::<Value>(), json!(["admin"]));

    provider.on_id_token(|token| token.set("groups", json!(["users"])));
    app.advance(seconds(60));
    assert_eq!(groups_of(&user).await, json!(["users"]));
    assert_eq!(provider.count(TOKEN), 3);
    // Again within 10 s, nothing is asked.
    assert_eq!(groups_of(&user).await, json!(["users"]));
    assert_eq!(provider.count(TOKEN), 3);
}

/// The ID token is issued long after the refresh began, and is no token of the future.
#[rocket::async_test]
async fn a_slow_provider_ends_no_session() {
    for store in STORES {
        let provider = TestProvider::start().await;
        let app = App::new(&provider)
            .with("oidc.session.store", store)
            .with("oidc.clock_skew", "0s");
        let browser = signed_in(&app, &provider).await;
        app.advance(DUE);
        let held = provider.hold(TOKEN);
        let answer = async {
            provider.until_requested(TOKEN, 2).await;
            app.advance(seconds(7));
            held.release();
        };
        let (after, ()) = join(record(&browser), answer).await;
        assert!(after.expect("signed in")["access_token"].is_string());
        assert_eq!(provider.count(TOKEN), 2);
    }
}

/// Its answer could come after that of the refresh, and put the older cookie in the place of the newer.
#[rocket::async_test]
async fn no_use_is_noted_while_a_refresh_is_under_way() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with("oidc.session.idle_timeout", "10m");
    let browser = Browser::open(records::rocket(&app).mount("/", routes![refresh])).await;
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    // A tenth of the idle time is over while the provider is asked.
    app.advance(seconds(50));
    let held = provider.hold(TOKEN);
    let meanwhile = async {
        provider.until_requested(TOKEN, 2).await;
        app.advance(seconds(20));
        let page = browser.fetch("/record").await;
        held.release();
        page
    };
    let (refreshed, page) = join(browser.submit("/refresh", ""), meanwhile).await;
    assert_eq!(session_cookies_set(&page), [""; 0]);
    refreshed.is(Status::Ok);
    assert_ne!(session_cookies_set(&refreshed), [""; 0]);
}

/// The old refresh token is used up, and the new one is nowhere else.
#[rocket::async_test]
async fn a_forced_refresh_that_waits_for_keys_survives_a_restart() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with("secret_key", KEY);
    let rocket = || records::rocket(&app).mount("/", routes![refresh]);
    let before = Browser::open(rocket()).await;
    before.sign_in(&provider, "/me").await.is(Status::Ok);
    app.advance(seconds(60));
    provider.rotate_rsa_key();
    provider.on_path(JWKS, Reply::status(503));
    let page = before.submit("/refresh", "").await;
    assert_eq!(page.json::<Value>(), json!("refresh_failed"));

    provider.clear_path(JWKS);
    app.advance(seconds(15 * 60));
    let after = Browser::open(rocket()).await;
    give_cookies(&after, &session_cookies(&before));
    let record = record(&after).await.expect("signed in");
    assert!(record["access_token"].is_string(), "{record}");
}
