//! Data of the app that changes after the sign-in: each change is a generation of its session, like a refresh.

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
use rocket_openidconnect::{LoggedIn, RelyingParty, SessionDataError, User, UserKey};
use tempfile::TempDir;

use crate::{
    common::{App, assert_signed_out, locked, opened_session, session_pages, sqlite_url},
    records::{DUE, Numbers, another_with_cookies, carry_cookies, session_cookies, session_cookies_set},
    support::{Browser, Reply, TestProvider, TestStore},
};

const TOKEN: &str = "/token";

fn described(changed: Result<User, SessionDataError>, name: &str) -> Value {
    match changed {
        Ok(user) => json!({ "set": user.data::<Value>(name) }),
        Err(error) => json!({ "error": error.reason(), "text": error.to_string() }),
    }
}

#[post("/data/<name>", data = "<value>")]
async fn set(name: &str, value: Json<Value>, user: LoggedIn) -> Json<Value> {
    Json(described(user.set_data(name, value.into_inner()).await, name))
}

/// Two changes by one request, from the user as the guard read it.
#[post("/data-twice")]
async fn set_twice(user: LoggedIn) -> Json<Value> {
    user.set_data("first", 1).await.unwrap();
    let user = user.set_data("second", 2).await.unwrap();
    Json(json!([user.data::<u8>("first"), user.data::<u8>("second")]))
}

/// A map whose keys are not strings.
#[post("/data-not-json")]
async fn set_not_json(user: LoggedIn) -> Json<Value> {
    let value = std::collections::BTreeMap::from([((1, 2), 3)]);
    Json(described(user.set_data("map", value).await, "map"))
}

#[get("/data/<name>")]
fn data(name: &str, user: LoggedIn) -> Json<Value> {
    Json(json!(user.data::<Value>(name)))
}

#[get("/tokens")]
fn tokens(user: LoggedIn) -> Json<Value> {
    Json(json!([
        user.groups(),
        user.access_token().map(|token| token.expose().to_owned()).ok(),
        user.refresh_token().map(|token| token.expose().to_owned()),
    ]))
}

#[post("/session-data/<id>/<name>", data = "<value>")]
async fn set_by_id(id: &str, name: &str, value: Json<Value>, rp: &RelyingParty) -> Json<Value> {
    Json(match rp.set_data(id, name, value.into_inner()).await {
        Ok(()) => Value::Null,
        Err(error) => json!(error.reason()),
    })
}

#[post("/user-data/<name>", data = "<value>")]
async fn set_of_user(name: &str, value: Json<Value>, user: LoggedIn, rp: &RelyingParty) -> String {
    format!("{:?}", rp.set_data_of_user(&user.key(), name, value.into_inner()).await)
}

#[post("/nobodys-data")]
async fn set_of_nobody(rp: &RelyingParty) -> String {
    let key = UserKey::new("elsewhere", "https://op.example", "alice");
    format!("{:?}", rp.set_data_of_user(&key, "x", 1).await)
}

/// A task beside a request, which changes data when it may.
#[derive(Default)]
struct Beside(Mutex<Option<(oneshot::Receiver<()>, oneshot::Sender<Value>)>>);

#[get("/beside")]
async fn beside(user: LoggedIn, beside: &State<Beside>) -> &'static str {
    let (go, outcome) = locked(&beside.0).take().unwrap();
    let user = user.into_user();
    tokio::spawn(async move {
        let _ = go.await;
        let _ = outcome.send(described(user.set_data("late", true).await, "late"));
    });
    "answered"
}

fn rocket(app: &App) -> Rocket<Build> {
    let own = routes![
        set,
        set_twice,
        set_not_json,
        data,
        tokens,
        set_by_id,
        set_of_user,
        set_of_nobody,
        beside
    ];
    app.rocket()
        .manage(Beside::default())
        .mount("/", session_pages())
        .mount("/", own)
}

async fn signed_in(app: &App, provider: &TestProvider) -> Browser {
    Browser::signed_in(rocket(app), provider).await
}

/// An app whose sessions are kept in each of the ways, and whether several nodes may serve it.
fn deployments(provider: &TestProvider, directory: &TempDir) -> Vec<(&'static str, App, bool)> {
    let app = App::new(provider);
    let with = |store: &str| app.clone().with("oidc.session.store", store);
    let sqlite = sqlite_url(directory);
    vec![
        ("cookies", with("cookie"), false),
        (
            "cookies and SQLite",
            with("cookie").with("oidc.session.store_url", &sqlite),
            true,
        ),
        ("memory", with("memory"), false),
        ("SQLite", with("sql").with("oidc.session.store_url", &sqlite), true),
        ("a store of the app", app.over(&TestStore::new()), true),
    ]
}

async fn change(browser: &Browser, name: &str, value: Value) -> Value {
    let page = browser.submit(&format!("/data/{name}"), &value.to_string()).await;
    page.is(Status::Ok).json()
}

async fn value(browser: &Browser, name: &str) -> Value {
    browser.fetch(&format!("/data/{name}")).await.is(Status::Ok).json()
}

#[rocket::async_test]
async fn a_change_survives_refreshes_and_uses_and_null_removes_it() {
    let directory = TempDir::new().unwrap();
    let provider = TestProvider::start().await;
    for (name, app, _) in deployments(&provider, &directory) {
        provider.be_honest();
        let browser = signed_in(&app, &provider).await;
        assert_eq!(
            change(&browser, "theme", json!("dark")).await,
            json!({ "set": "dark" }),
            "{name}"
        );
        assert_eq!(value(&browser, "theme").await, "dark", "{name}");

        // A use that is recorded, then a refresh with other claims.
        app.advance(Duration::from_secs(400 - DUE.as_secs()));
        assert_eq!(value(&browser, "theme").await, "dark", "{name}");
        provider.on_id_token(|token| token.set("groups", json!(["new"])));
        app.advance(DUE);
        assert_eq!(value(&browser, "theme").await, "dark", "{name}");
        let tokens: Value = browser.fetch("/tokens").await.json();
        assert_eq!(tokens[0], json!(["new"]), "{name}");

        // It keeps the tokens of the refresh.
        assert_eq!(
            change(&browser, "theme", json!({ "deep": [1] })).await,
            json!({ "set": { "deep": [1] } })
        );
        assert_eq!(browser.fetch("/tokens").await.json::<Value>(), tokens, "{name}");

        // Nothing changes: no other generation, and no other cookie.
        let page = browser.submit("/data/theme", "{\"deep\":[1]}").await;
        assert_eq!(session_cookies_set(&page), [""; 0], "{name}");
        assert_eq!(
            change(&browser, "theme", Value::Null).await,
            json!({ "set": null }),
            "{name}"
        );
        assert_eq!(
            change(&browser, "absent", Value::Null).await,
            json!({ "set": null }),
            "{name}"
        );
        app.advance(DUE);
        assert_eq!(value(&browser, "theme").await, Value::Null, "{name}");
        assert_eq!(
            browser.submit("/data-twice", "").await.json::<Value>(),
            json!([1, 2]),
            "{name}"
        );
        assert_eq!(value(&browser, "first").await, 1, "{name}");
        let not_json: Value = browser.submit("/data-not-json", "").await.json();
        assert_eq!(
            not_json,
            json!({ "error": "not_json", "text": "`map` does not serialize to JSON" })
        );
    }
}

#[rocket::async_test]
async fn concurrent_changes_on_two_nodes_are_all_kept() {
    let directory = TempDir::new().unwrap();
    let provider = TestProvider::start().await;
    for (name, app, is_shared) in deployments(&provider, &directory) {
        let one = signed_in(&app, &provider).await;
        let other = if is_shared {
            Browser::open(rocket(&app)).await
        } else {
            one.another()
        };
        carry_cookies(&one, &other);
        let nodes = [&one, &other];
        let changes = (0..8).map(|i| {
            let node = nodes[i % 2];
            async move { change(node, &format!("n{i}"), json!(i)).await }
        });
        for (i, changed) in join_all(changes).await.into_iter().enumerate() {
            assert_eq!(changed, json!({ "set": i }), "{name}");
        }
        for node in nodes {
            for i in 0..8 {
                assert_eq!(value(node, &format!("n{i}")).await, i, "{name}");
            }
        }
    }
}

/// The refresh waits for the provider when the data is changed, on the other node where there are two.
#[rocket::async_test]
async fn a_change_during_a_refresh_loses_neither() {
    let directory = TempDir::new().unwrap();
    let provider = TestProvider::start().await;
    for (name, app, is_shared) in deployments(&provider, &directory) {
        let one = signed_in(&app, &provider).await;
        let other = if is_shared {
            Browser::open(rocket(&app)).await
        } else {
            one.another()
        };
        carry_cookies(&one, &other);
        let before: Value = one.fetch("/tokens").await.json();
        // Changed once, so that the change itself is of a session that is due.
        app.advance(DUE);
        let held = provider.hold(TOKEN);
        let asked = provider.count(TOKEN);
        let refreshing = one.fetch("/tokens");
        let changing = async {
            provider.until_requested(TOKEN, asked + 1).await;
            let changing = change(&other, "during", json!(true));
            let releasing = async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                held.release();
            };
            join(changing, releasing).await.0
        };
        let (page, changed) = join(refreshing, changing).await;
        page.is(Status::Ok);
        assert_eq!(changed, json!({ "set": true }), "{name}");
        let after: Value = one.fetch("/tokens").await.json();
        assert_ne!(after[2], before[2], "{name}");
        for node in [&one, &other] {
            assert_eq!(value(node, "during").await, true, "{name}");
            assert_eq!(node.fetch("/tokens").await.json::<Value>(), after, "{name}");
        }
        // The provider rotates refresh tokens: a former one would end the session.
        app.advance(DUE);
        assert_eq!(value(&other, "during").await, true, "{name}");
        assert_eq!(value(&one, "during").await, true, "{name}");
    }
}

#[rocket::async_test]
async fn an_older_copy_is_accepted_for_a_minute_after_a_change() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    let browser = signed_in(&app, &provider).await;
    let older = session_cookies(&browser);
    change(&browser, "balance", json!(0)).await;
    // The older copy gets the newest session, never its own data.
    let holder = another_with_cookies(&browser, &older);
    assert_eq!(value(&holder, "balance").await, 0);
    value(&browser, "balance").await;
    app.advance(Duration::from_secs(61));
    assert_signed_out(&another_with_cookies(&browser, &older)).await;
    assert_eq!(value(&browser, "balance").await, 0);
}

#[rocket::async_test]
async fn a_value_that_does_not_fit_into_the_cookies_changes_nothing() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider).with("oidc.session.max_cookies", 1);
    let browser = signed_in(&app, &provider).await;
    change(&browser, "theme", json!("dark")).await;
    let text = Numbers::seeded(2).text(4_000);
    let answer = change(&browser, "essay", json!(text)).await;
    assert_eq!(answer["error"], "session_too_large");
    let message = answer["text"].as_str().unwrap();
    assert!(message.contains("the app's `essay` with 4002 bytes"), "{message}");
    assert_eq!(value(&browser, "theme").await, "dark");
    assert_eq!(value(&browser, "essay").await, Value::Null);
    // In a store there is room.
    let app = App::local(&provider).with("oidc.session.store", "memory");
    let browser = signed_in(&app, &provider).await;
    assert_eq!(change(&browser, "essay", json!(text)).await["set"], *text);
}

#[rocket::async_test]
async fn after_the_response_a_change_fails_where_sessions_are_in_cookies() {
    let provider = TestProvider::start().await;
    for (store, expected) in [
        (
            "cookie",
            json!({
                "error": "response_already_sent",
                "text": "the response headers were sent, and the session is kept in cookies",
            }),
        ),
        ("memory", json!({ "set": true })),
    ] {
        let app = App::local(&provider).with("oidc.session.store", store);
        let browser = signed_in(&app, &provider).await;
        let (go, may_go) = oneshot::channel();
        let (outcome, changed) = oneshot::channel();
        let state = browser.client().rocket().state::<Beside>().unwrap();
        *locked(&state.0) = Some((may_go, outcome));
        browser.fetch("/beside").await.is(Status::Ok);
        go.send(()).unwrap();
        assert_eq!(changed.await.unwrap(), expected, "{store}");
        let late = if store == "memory" { json!(true) } else { Value::Null };
        assert_eq!(value(&browser, "late").await, late, "{store}");
    }
}

#[rocket::async_test]
async fn a_session_in_a_store_is_changed_by_id_and_by_user() {
    let directory = TempDir::new().unwrap();
    let provider = TestProvider::start().await;
    for (name, app, _) in deployments(&provider, &directory) {
        let is_in_cookies = name.starts_with("cookies");
        let laptop = signed_in(&app, &provider).await;
        let phone = laptop.another();
        phone.sign_in(&provider, "/me").await;
        let id = laptop.fetch("/session-id").await.body;
        let path = format!("/session-data/{id}/role");
        let answer: Value = phone.another().submit(&path, "\"boss\"").await.json();
        let expected = if is_in_cookies {
            json!("no_session")
        } else {
            Value::Null
        };
        assert_eq!(answer, expected, "{name}");
        let role = if is_in_cookies { Value::Null } else { json!("boss") };
        assert_eq!(value(&laptop, "role").await, role, "{name}");
        assert_eq!(value(&phone, "role").await, Value::Null, "{name}");
        let unknown: Value = laptop.submit("/session-data/x/role", "1").await.json();
        assert!(
            ["no_session", "session_ended"].contains(&unknown.as_str().unwrap()),
            "{name}: {unknown}"
        );

        let answer = laptop.submit("/user-data/plan", "\"gold\"").await.body;
        let nobody = laptop.submit("/nobodys-data", "").await.body;
        if is_in_cookies {
            assert_eq!([&*answer, &nobody], ["Err(NoSession(Absent))"; 2], "{name}");
            continue;
        }
        assert_eq!([&*answer, &nobody], ["Ok(2)", "Ok(0)"], "{name}");
        assert_eq!(value(&laptop, "plan").await, "gold", "{name}");
        assert_eq!(value(&phone, "plan").await, "gold", "{name}");
    }
}

/// A background job does not keep a session alive.
#[rocket::async_test]
async fn a_change_by_id_is_not_a_use_of_the_session() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider).with("oidc.session.store", "memory");
    let browser = signed_in(&app, &provider).await;
    let id = browser.fetch("/session-id").await.body;
    for _ in 0..2 {
        app.advance(Duration::from_secs(30 * 60 - 1));
        let answer = browser.another().submit(&format!("/session-data/{id}/n"), "1").await;
        assert_eq!(answer.json::<Value>(), Value::Null);
    }
    app.advance(Duration::from_secs(2));
    let late: Value = browser
        .another()
        .submit(&format!("/session-data/{id}/n"), "2")
        .await
        .json();
    assert_eq!(late, "session_idle");
    assert_signed_out(&browser).await;
}

#[rocket::async_test]
async fn an_ended_session_is_not_changed() {
    let provider = TestProvider::start().await;
    for store in ["cookie", "memory"] {
        let app = App::local(&provider).with("oidc.session.store", store);
        let browser = signed_in(&app, &provider).await;
        let (go, may_go) = oneshot::channel();
        let (outcome, changed) = oneshot::channel();
        let state = browser.client().rocket().state::<Beside>().unwrap();
        *locked(&state.0) = Some((may_go, outcome));
        browser.fetch("/beside").await.is(Status::Ok);
        let copy = session_cookies(&browser);
        browser.submit("/oidc/logout", "").await;
        go.send(()).unwrap();
        let expected = if store == "cookie" {
            "response_already_sent"
        } else {
            "session_ended"
        };
        assert_eq!(changed.await.unwrap()["error"], expected, "{store}");
        assert_signed_out(&another_with_cookies(&browser, &copy)).await;
    }
}

/// While the provider is down, data is changed all the same, and the next refresh has the newest refresh token.
#[rocket::async_test]
async fn data_is_changed_while_the_provider_is_down() {
    let provider = TestProvider::start().await;
    for store in ["cookie", "memory"] {
        provider.be_honest();
        let app = App::new(&provider).with("oidc.session.store", store);
        let browser = signed_in(&app, &provider).await;
        provider.on_path(TOKEN, Reply::status(503));
        app.advance(DUE);
        assert_eq!(
            change(&browser, "theme", json!("dark")).await,
            json!({ "set": "dark" }),
            "{store}"
        );
        provider.be_honest();
        app.advance(Duration::from_secs(61));
        assert_eq!(value(&browser, "theme").await, "dark", "{store}");
        if store == "cookie" {
            assert_eq!(opened_session(&browser, &provider)["data"]["theme"], "dark");
        }
    }
}
