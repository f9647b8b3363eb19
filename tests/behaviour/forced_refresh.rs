//! A refresh that the app asks for: by a user's request, and by the name of a session.

use std::{sync::Mutex, time::Duration};

use rocket::{
    Build, Rocket, State,
    futures::future::{join, join_all},
    get,
    http::Status,
    post, routes,
    serde::json::{Json, Value, json},
    tokio::{self, sync::oneshot},
};
use rocket_openidconnect::{LoggedIn, NoSession, RefreshError, RelyingParty, User};

use crate::{
    common::{App, locked},
    records::{DUE, give_cookies, session_cookies},
    support::{Browser, Reply, TestProvider},
};

const TOKEN: &str = "/token";
const JWKS: &str = "/jwks";
const USER_INFO: &str = "/userinfo";
const STORES: [&str; 2] = ["cookie", "memory"];

/// Who the user is after a refresh, or why there was none.
#[post("/refresh")]
async fn refresh(user: LoggedIn) -> Json<Value> {
    Json(described(&user.refresh().await))
}

fn described(refreshed: &Result<User, RefreshError>) -> Value {
    match refreshed {
        Ok(user) => json!({ "groups": user.groups(), "session": user.session_id() }),
        Err(error) => json!({ "error": error.reason(), "text": error.to_string() }),
    }
}

#[get("/access-token")]
async fn access_token(user: LoggedIn) -> String {
    match user.access_token() {
        Ok(token) => token.expose().to_owned(),
        Err(error) => error.to_string(),
    }
}

#[post("/refresh-session/<id>")]
async fn refresh_session(rp: &RelyingParty, id: &str) -> Json<Value> {
    Json(match rp.refresh_session(id).await {
        Ok(()) => Value::Null,
        Err(error) => json!(error.reason()),
    })
}

/// A task beside a request.
#[derive(Default)]
struct Beside(Mutex<Option<Channels>>);

struct Channels {
    /// When the task is to refresh the session.
    go: oneshot::Receiver<()>,
    /// When the request is to be answered.
    answer: oneshot::Receiver<()>,
    /// What came of the refresh.
    outcome: oneshot::Sender<Value>,
}

#[get("/beside")]
async fn beside(user: LoggedIn, beside: &State<Beside>) -> &'static str {
    let channels = locked(&beside.0).take().expect("the test has set it");
    let user = user.into_user();
    tokio::spawn(async move {
        let _ = channels.go.await;
        let _ = channels.outcome.send(described(&user.refresh().await));
    });
    let _ = channels.answer.await;
    "answered"
}

fn rocket(app: &App) -> Rocket<Build> {
    app.rocket()
        .manage(Beside::default())
        .mount("/", routes![refresh, access_token, refresh_session, beside])
}

async fn signed_in(app: &App, provider: &TestProvider) -> Browser {
    Browser::signed_in(rocket(app), provider).await
}

/// An app whose sessions are kept there, at a provider that never says when access tokens expire.
fn without_expires_in(provider: &TestProvider, store: &str) -> App {
    provider.on_token_response(|reply| {
        if reply.status == 200 {
            reply.remove("expires_in");
        }
    });
    App::new(provider).with("oidc.session.store", store)
}

async fn refreshed(browser: &Browser) -> Value {
    let page = browser.submit("/refresh", "").await;
    page.is(Status::Ok).json()
}

fn groups(provider: &TestProvider, groups: &'static [&str]) {
    provider.on_id_token(move |token| token.set("groups", json!(groups)));
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[rocket::async_test]
async fn a_session_is_refreshed_at_once_without_expires_in() {
    for store in STORES {
        let provider = TestProvider::start().await;
        let app = without_expires_in(&provider, store);
        groups(&provider, &["users", "admin"]);
        let browser = signed_in(&app, &provider).await;
        let before = browser.visit("/access-token").await.body;
        groups(&provider, &["users"]);

        app.advance(seconds(1));
        assert_eq!(refreshed(&browser).await["groups"], json!(["users"]));
        let request = provider.last_request(TOKEN);
        assert_eq!(request.form_value("grant_type"), Some("refresh_token"));
        assert_eq!(provider.count(TOKEN), 2, "{store}");
        // The answer carried it.
        let me: Value = browser.visit("/me").await.json();
        assert_eq!(me["groups"], json!(["users"]), "{store}");
        assert_ne!(browser.visit("/access-token").await.body, before);
        assert_eq!(provider.count(TOKEN), 2, "{store}");
    }
}

/// The cookie from before a demotion.
#[rocket::async_test]
async fn the_cookie_from_before_is_answered_with_the_newest_record() {
    let provider = TestProvider::start().await;
    let app = without_expires_in(&provider, "cookie");
    groups(&provider, &["users", "admin"]);
    let browser = signed_in(&app, &provider).await;
    let old = session_cookies(&browser);
    groups(&provider, &["users"]);
    refreshed(&browser).await;

    let holder = browser.another();
    give_cookies(&holder, &old);
    let me: Value = holder.fetch("/me").await.is(Status::Ok).json();
    assert_eq!(me["groups"], json!(["users"]));
    // It was seen, and is kept for a minute more. Then the copy is nothing, and costs no request.
    browser.visit("/me").await.is(Status::Ok);
    app.advance(seconds(61));
    give_cookies(&holder, &old);
    holder.fetch("/me").await.is(Status::Unauthorized);
    give_cookies(&holder, &old);
    let page = holder.submit("/refresh", "").await;
    page.is(Status::Unauthorized);
    assert_eq!(provider.count(TOKEN), 2);
    browser.visit("/me").await.is(Status::Ok);
}

#[rocket::async_test]
async fn parallel_requests_share_one_refresh() {
    for store in STORES {
        let provider = TestProvider::start().await;
        let app = without_expires_in(&provider, store);
        let browser = signed_in(&app, &provider).await;
        groups(&provider, &["users"]);
        let held = provider.hold(TOKEN);
        let requests = join_all((0..20).map(|_| refreshed(&browser)));
        let release = async {
            provider.until_requested(TOKEN, 2).await;
            held.release();
        };
        let (answers, ()) = join(requests, release).await;
        for answer in answers {
            assert_eq!(answer["groups"], json!(["users"]), "{answer}");
        }
        assert_eq!(provider.count(TOKEN), 2, "{store}");
    }
}

/// One that is due, and one that is asked for.
#[rocket::async_test]
async fn a_request_that_asks_shares_the_refresh_of_one_that_is_due() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = signed_in(&app, &provider).await;
    app.advance(DUE);
    groups(&provider, &["users"]);
    let held = provider.hold(TOKEN);
    let requests = join(browser.fetch("/me"), refreshed(&browser));
    let release = async {
        provider.until_requested(TOKEN, 2).await;
        held.release();
    };
    let ((page, answer), ()) = join(requests, release).await;
    let me: Value = page.is(Status::Ok).json();
    assert_eq!(me["groups"], json!(["users"]));
    assert_eq!(answer["groups"], json!(["users"]));
    assert_eq!(provider.count(TOKEN), 2);
}

#[rocket::async_test]
async fn a_session_is_refreshed_once_in_ten_seconds() {
    for store in STORES {
        let provider = TestProvider::start().await;
        let app = without_expires_in(&provider, store);
        let browser = signed_in(&app, &provider).await;
        groups(&provider, &["first"]);
        refreshed(&browser).await;
        let first = browser.visit("/access-token").await.body;
        groups(&provider, &["second"]);

        app.advance(seconds(9));
        assert_eq!(refreshed(&browser).await["groups"], json!(["first"]));
        assert_eq!(browser.visit("/access-token").await.body, first);
        assert_eq!(provider.count(TOKEN), 2, "{store}");

        // Another session of the same user is another matter.
        let other = browser.another();
        other.sign_in(&provider, "/me").await.is(Status::Ok);
        assert_eq!(refreshed(&other).await["groups"], json!(["second"]));
        assert_eq!(provider.count(TOKEN), 4, "{store}");

        app.advance(seconds(1));
        assert_eq!(refreshed(&browser).await["groups"], json!(["second"]));
        assert_eq!(provider.count(TOKEN), 5, "{store}");
    }
}

/// Has the next request to `/beside` do what the test tells it to.
fn channels(browser: &Browser) -> (oneshot::Sender<()>, oneshot::Sender<()>, oneshot::Receiver<Value>) {
    let (go, is_to_go) = oneshot::channel();
    let (answer, is_to_answer) = oneshot::channel();
    let (tell, outcome) = oneshot::channel();
    let state = browser.client().rocket().state::<Beside>();
    *locked(&state.expect("the app manages it").0) = Some(Channels {
        go: is_to_go,
        answer: is_to_answer,
        outcome: tell,
    });
    (go, answer, outcome)
}

/// Lets a task beside a request refresh its session after the answer was received.
async fn refreshed_after_the_answer(browser: &Browser) -> Value {
    let (go, answer, outcome) = channels(browser);
    answer.send(()).expect("the channel is open");
    browser.fetch("/beside").await.is(Status::Ok);
    go.send(()).expect("the task waits");
    outcome.await.expect("the task tells")
}

#[rocket::async_test]
async fn after_the_answer_nothing_is_refreshed_in_cookies() {
    let provider = TestProvider::start().await;
    let app = without_expires_in(&provider, "cookie");
    let browser = signed_in(&app, &provider).await;
    assert_eq!(
        refreshed_after_the_answer(&browser).await,
        json!({
            "error": "response_already_sent",
            "text": "the response headers were sent, and the session is kept in cookies",
        })
    );
    assert_eq!(provider.count(TOKEN), 1);
    // Nothing is lost.
    groups(&provider, &["users"]);
    assert_eq!(refreshed(&browser).await["groups"], json!(["users"]));
}

#[rocket::async_test]
async fn after_the_answer_a_session_in_a_store_is_refreshed() {
    let provider = TestProvider::start().await;
    let app = without_expires_in(&provider, "memory");
    let browser = signed_in(&app, &provider).await;
    groups(&provider, &["users"]);
    let outcome = refreshed_after_the_answer(&browser).await;
    assert_eq!(outcome["groups"], json!(["users"]));
    assert_eq!(provider.count(TOKEN), 2);
    let me: Value = browser.visit("/me").await.json();
    assert_eq!(me["groups"], json!(["users"]));
}

/// The answer is sent while the provider is asked: the next one carries the cookie.
#[rocket::async_test]
async fn a_refresh_that_outlives_its_answer_reaches_the_next_one() {
    let provider = TestProvider::start().await;
    let app = without_expires_in(&provider, "cookie");
    let browser = signed_in(&app, &provider).await;
    groups(&provider, &["users"]);
    let before = session_cookies(&browser);
    let (go, answer, outcome) = channels(&browser);
    let held = provider.hold(TOKEN);
    go.send(()).expect("the channel is open");
    let begun = async {
        provider.until_requested(TOKEN, 2).await;
        answer.send(()).expect("the request waits");
    };
    let (page, ()) = join(browser.fetch("/beside"), begun).await;
    page.is(Status::Ok);
    held.release();
    let outcome = outcome.await.expect("the task tells");
    assert_eq!(outcome["groups"], json!(["users"]));
    assert_eq!(session_cookies(&browser), before);

    let me: Value = browser.visit("/me").await.json();
    assert_eq!(me["groups"], json!(["users"]));
    assert_ne!(session_cookies(&browser), before);
    assert_eq!(provider.count(TOKEN), 2);
}

/// A request that takes long has a copy of the session that is no longer the newest: the newest is refreshed.
#[rocket::async_test]
async fn an_older_copy_has_the_newest_one_refreshed() {
    for store in STORES {
        // Without `expires_in` a session is due after an hour.
        for passed in [59 * 60, 60 * 60] {
            let provider = TestProvider::start().await;
            let app = without_expires_in(&provider, store).with("oidc.session.idle_timeout", "2h");
            let browser = signed_in(&app, &provider).await;
            let other = browser.another();
            give_cookies(&other, &session_cookies(&browser));
            let (go, answer, outcome) = channels(&browser);
            let newer = async {
                groups(&provider, &["second"]);
                refreshed(&other).await;
                groups(&provider, &["third"]);
                app.advance(seconds(passed));
                go.send(()).expect("the task waits");
                let outcome = outcome.await.expect("the task tells");
                answer.send(()).expect("the request waits");
                outcome
            };
            let (page, outcome) = join(browser.fetch("/beside"), newer).await;
            page.is(Status::Ok);
            assert_eq!(outcome["groups"], json!(["third"]), "{store}");
            assert_eq!(provider.count(TOKEN), 3, "{store}");
            let me: Value = browser.visit("/me").await.json();
            assert_eq!(me["groups"], json!(["third"]), "{store}");
        }
    }
}

#[rocket::async_test]
async fn a_session_in_a_store_is_refreshed_by_its_name() {
    let provider = TestProvider::start().await;
    let app = without_expires_in(&provider, "memory");
    let browser = signed_in(&app, &provider).await;
    let id = refreshed(&browser).await["session"].clone();
    let path = format!("/refresh-session/{}", id.as_str().expect("a name"));
    groups(&provider, &["users"]);

    let worker = browser.another();
    let answer: Value = worker.submit(&path, "").await.json();
    assert_eq!((answer, provider.count(TOKEN)), (Value::Null, 2), "within 10 s");
    app.advance(seconds(10));
    let answer: Value = worker.submit(&path, "").await.json();
    assert_eq!((answer, provider.count(TOKEN)), (Value::Null, 3));
    let me: Value = browser.visit("/me").await.json();
    assert_eq!(me["groups"], json!(["users"]));

    for unknown in ["/refresh-session/unknown", "/refresh-session/%00"] {
        let answer: Value = worker.submit(unknown, "").await.json();
        assert_eq!(answer, json!("session_ended"));
    }
    // Nor when it has ended.
    browser.submit("/oidc/logout", "").await.is(Status::SeeOther);
    app.advance(seconds(10));
    let answer: Value = worker.submit(&path, "").await.json();
    assert_eq!(answer, json!("session_ended"));
    assert_eq!(provider.count(TOKEN), 3);
}

#[rocket::async_test]
async fn a_session_in_cookies_is_not_known_by_its_name() {
    let provider = TestProvider::start().await;
    let app = without_expires_in(&provider, "cookie");
    let browser = signed_in(&app, &provider).await;
    let id = refreshed(&browser).await["session"].clone();
    app.advance(seconds(10));
    let path = format!("/refresh-session/{}", id.as_str().expect("a name"));
    let answer: Value = browser.submit(&path, "").await.json();
    assert_eq!(answer, json!("no_session"));
    assert_eq!(provider.count(TOKEN), 2);
}

#[rocket::async_test]
async fn without_a_refresh_token_there_is_an_error() {
    for store in STORES {
        let provider = TestProvider::start().await;
        let app = without_expires_in(&provider, store).with("oidc.session.tokens", "access_token id_token");
        let browser = signed_in(&app, &provider).await;
        assert_eq!(
            refreshed(&browser).await,
            json!({ "error": "no_refresh_token", "text": "the session has no refresh token" })
        );
        assert_eq!(provider.count(TOKEN), 1, "{store}");
    }
}

#[rocket::async_test]
async fn the_testing_profile_has_nothing_to_refresh() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider)
        .with("oidc.enabled", false)
        .with("oidc.testing_profile", json!({ "sub": "tess" }));
    let browser = Browser::open(rocket(&app)).await;
    assert_eq!(refreshed(&browser).await["error"], "no_refresh_token");
}

#[rocket::async_test]
async fn a_provider_that_is_down_leaves_the_session_as_it_was() {
    for store in STORES {
        let provider = TestProvider::start().await;
        let app = without_expires_in(&provider, store);
        let browser = signed_in(&app, &provider).await;
        let before = browser.visit("/access-token").await.body;
        provider.on_path(TOKEN, Reply::status(503));
        let answer = refreshed(&browser).await;
        assert_eq!(answer["error"], "refresh_failed");
        let text = answer["text"].as_str().unwrap_or_default();
        assert!(text.starts_with("the session was not refreshed: "), "{text}");
        assert_eq!(browser.visit("/access-token").await.body, before);
        assert_eq!(provider.count(TOKEN), 2, "{store}");

        // There is a pause between attempts, asked for or not.
        provider.clear_path(TOKEN);
        app.advance(seconds(4));
        assert_eq!(refreshed(&browser).await["error"], "refresh_failed");
        assert_eq!(provider.count(TOKEN), 2, "{store}");
        app.advance(seconds(1));
        assert!(refreshed(&browser).await["groups"].is_array());
        assert_eq!(provider.count(TOKEN), 3, "{store}");
    }
}

#[rocket::async_test]
async fn invalid_grant_signs_out() {
    for store in STORES {
        let provider = TestProvider::start().await;
        let app = without_expires_in(&provider, store);
        let browser = signed_in(&app, &provider).await;
        provider.revoke_refresh_tokens();
        let reason = NoSession::RefreshRefused;
        assert_eq!(
            refreshed(&browser).await,
            json!({ "error": reason.reason(), "text": reason.to_string() })
        );
        browser.fetch("/me").await.is(Status::Unauthorized);
        let page = browser.submit("/refresh", "").await;
        page.is(Status::Unauthorized);
        assert_eq!(provider.count(TOKEN), 2, "{store}");
    }
}

/// The provider wants the user, and the session waits for that.
#[rocket::async_test]
async fn interaction_required_asks_for_a_sign_in() {
    let provider = TestProvider::start().await;
    let app = without_expires_in(&provider, "cookie");
    let browser = signed_in(&app, &provider).await;
    provider.on_path(TOKEN, Reply::error(400, "interaction_required", "sign in again"));
    assert_eq!(refreshed(&browser).await["error"], NoSession::SignInRequired.reason());
    // It is not due: pages go on.
    browser.fetch("/me").await.is(Status::Ok);
}

/// Until then there is no access token: the old one may have ended, and the new one was not accepted.
#[rocket::async_test]
async fn a_refresh_that_cannot_be_judged_is_repeated_by_the_next_request() {
    for store in STORES {
        let provider = TestProvider::start().await;
        let app = without_expires_in(&provider, store);
        let browser = signed_in(&app, &provider).await;
        let before = browser.visit("/access-token").await.body;
        provider.rotate_rsa_key();
        provider.on_path(JWKS, Reply::status(503));
        assert_eq!(refreshed(&browser).await["error"], "refresh_failed");
        assert_eq!(provider.count(TOKEN), 2, "{store}");

        provider.clear_path(JWKS);
        app.advance(seconds(15 * 60));
        let after = browser.visit("/access-token").await.body;
        assert!(after.starts_with("at-") && after != before, "{after}");
        assert_eq!(provider.count(TOKEN), 3, "{store}");
    }
}

/// UserInfo did not answer at a refresh: it is asked again without one, unless tokens are due or asked for.
#[rocket::async_test]
async fn only_a_refresh_that_is_due_or_asked_for_sends_the_refresh_token() {
    for store in STORES {
        let provider = TestProvider::start().await;
        let app = without_expires_in(&provider, store).with("oidc.session.refresh_user_info", true);
        let browser = signed_in(&app, &provider).await;
        let counts = || (provider.count(TOKEN), provider.count(USER_INFO));
        provider.on_path(USER_INFO, Reply::status(503));
        let session = refreshed(&browser).await["session"].clone();
        let id = session.as_str().expect("a name");
        assert_eq!(counts(), (2, 2), "{store}");
        app.advance(seconds(15 * 60));
        browser.visit("/me").await.is(Status::Ok);
        assert_eq!(counts(), (2, 3), "{store}");
        app.advance(seconds(45 * 60));
        browser.visit("/me").await.is(Status::Ok);
        assert_eq!(counts(), (3, 4), "{store}: due");
        if store == "memory" {
            app.advance(seconds(15 * 60));
            let path = format!("/refresh-session/{id}");
            let page = browser.another().submit(&path, "").await;
            assert_eq!(page.is(Status::Ok).json::<Value>(), Value::Null);
            assert_eq!(counts(), (4, 5), "asked for");
        }
        let before = counts();
        provider.clear_path(USER_INFO);
        for _ in 0..2 {
            app.advance(seconds(60));
            browser.visit("/me").await.is(Status::Ok);
            assert_eq!(counts(), (before.0, before.1 + 1), "{store}");
        }
    }
}

/// The session is neither the old nor the new one while the reply is judged.
#[rocket::async_test]
async fn requests_wait_while_a_reply_is_judged() {
    for store in STORES {
        let provider = TestProvider::start().await;
        let app = without_expires_in(&provider, store);
        let browser = signed_in(&app, &provider).await;
        provider.rotate_rsa_key();
        let looks = provider.count(JWKS);
        let held = provider.hold(JWKS);
        let late = async {
            provider.until_requested(JWKS, looks + 1).await;
            let page = browser.fetch("/access-token");
            let release = async { held.release() };
            join(page, release).await.0
        };
        let (answer, page) = join(refreshed(&browser), late).await;
        assert!(answer["groups"].is_array(), "{answer}");
        assert!(page.body.starts_with("at-"), "{store}: {}", page.body);
        assert_eq!(browser.visit("/access-token").await.body, page.body);
        assert_eq!(provider.count(TOKEN), 2, "{store}");
    }
}
