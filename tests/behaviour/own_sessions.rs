//! What users do with their own sessions: they see them, end one, and end all others.

use std::sync::{Arc, Mutex};

use rocket::{
    Build, Request, Rocket, State, get,
    http::{Method, Status},
    post,
    request::FromRequest,
    routes,
    serde::json::{Json, Value, json},
    tokio::sync::oneshot,
};
use rocket_openidconnect::{Events, LoggedIn, NewSignIn, OptionalUser, Refused, RelyingParty, SessionChange};
use tempfile::TempDir;

use crate::{
    common::{App, assert_signed_out, locked, session_pages, sqlite_url},
    records::{carry_cookies, session_cookies_set},
    support::{Browser, TestProvider, TestStore},
};

#[post("/own/<id>/end")]
async fn end_own(id: &str, user: LoggedIn, rp: &RelyingParty) -> String {
    format!("{:?}", rp.end_session_of(&user, id).await)
}

#[post("/own/end-others")]
async fn end_others(user: LoggedIn, rp: &RelyingParty) -> String {
    format!("{:?}", rp.end_other_sessions(&user).await)
}

#[get("/own")]
async fn own(user: LoggedIn, rp: &RelyingParty) -> Json<Value> {
    Json(json!(rp.sessions_of_user(&user.key()).await.unwrap()))
}

/// When a request that has its user goes on.
#[derive(Default)]
struct Gate(Mutex<Option<(oneshot::Sender<()>, oneshot::Receiver<()>)>>);

#[post("/own/end-others-later")]
async fn end_others_later(user: LoggedIn, rp: &RelyingParty, gate: &State<Gate>) -> String {
    let (here, go) = locked(&gate.0).take().unwrap();
    here.send(()).unwrap();
    go.await.unwrap();
    format!("{:?}", rp.end_other_sessions(&user).await)
}

#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<SessionChange>>>);

#[rocket::async_trait]
impl Events for Heard {
    async fn after_authorize(&self, request: &Request<'_>, sign_in: &mut NewSignIn<'_>) -> Result<(), Refused> {
        let agent = request.headers().get_one("User-Agent").unwrap_or("unknown");
        sign_in.set("user_agent", agent);
        Ok(())
    }

    async fn session_changed(&self, _: Option<&Request<'_>>, change: &SessionChange) {
        if change.has_ended() {
            locked(&self.0).push(change.clone());
        }
    }
}

impl Heard {
    fn take(&self) -> Vec<SessionChange> {
        std::mem::take(&mut *locked(&self.0))
    }
}

fn rocket_with(app: &App, events: impl Events) -> Rocket<Build> {
    app.rocket_with(events)
        .manage(Gate::default())
        .mount("/", session_pages())
        .mount("/", routes![end_own, end_others, own, end_others_later])
}

fn rocket(app: &App) -> Rocket<Build> {
    rocket_with(app, Heard::default())
}

/// An app whose sessions are kept in each of the ways.
struct Deployment {
    name: &'static str,
    app: App,
    is_in_cookies: bool,
    is_shared: bool,
    _directory: TempDir,
}

fn deployments(provider: &TestProvider) -> Vec<Deployment> {
    let deployment = |name, store: &str, is_sql: bool| {
        let directory = TempDir::new().unwrap();
        let app = App::local(provider).with("oidc.session.store", store);
        Deployment {
            name,
            app: if is_sql {
                app.with("oidc.session.store_url", sqlite_url(&directory))
            } else {
                app
            },
            is_in_cookies: store == "cookie",
            is_shared: is_sql,
            _directory: directory,
        }
    };
    let mut all = vec![
        deployment("cookies", "cookie", false),
        deployment("cookies with a store", "cookie", true),
        deployment("memory", "memory", false),
        deployment("SQLite", "sql", true),
    ];
    all.push(Deployment {
        app: App::local(provider).over(&TestStore::new()),
        is_shared: true,
        ..deployment("a store of the app", "memory", false)
    });
    all
}

/// Signs in as this user; returns the session's id.
async fn sign_in(browser: &Browser, provider: &TestProvider, subject: &str) -> String {
    provider.user_claims(json!({ "sub": subject }));
    let page = browser.sign_in(provider, "/oidc/login?next=/session-id").await;
    page.is(Status::Ok).body.clone()
}

async fn post(browser: &Browser, path: &str) -> String {
    browser.submit(path, "").await.is(Status::Ok).body.clone()
}

async fn is_signed_in(browser: &Browser) -> bool {
    browser.fetch("/me").await.status == 200
}

#[rocket::async_test]
async fn users_end_their_own_sessions_and_no_others() {
    let provider = TestProvider::start().await;
    for Deployment { name, app, .. } in deployments(&provider) {
        let laptop = Browser::open(rocket(&app)).await;
        let (phone, bob) = (laptop.another(), laptop.another());
        let own_id = sign_in(&laptop, &provider, "alice").await;
        let id = sign_in(&phone, &provider, "alice").await;
        let of_bob = sign_in(&bob, &provider, "bob").await;

        // Another user's id, ids of no session, and texts that are no ids.
        let mut invented = id.clone().into_bytes();
        invented[10] ^= 1;
        let invented = String::from_utf8(invented).unwrap();
        let spliced = format!("{}{}", &of_bob[..24], &id[24..]);
        for foreign in [&of_bob, &invented, &spliced, &id[..42], "x", "%C3%A9"] {
            let ended = post(&laptop, &format!("/own/{foreign}/end")).await;
            assert_eq!(ended, "Ok(false)", "{name}: {foreign}");
        }
        for browser in [&laptop, &phone, &bob] {
            assert!(is_signed_in(browser).await, "{name}");
        }

        let path = format!("/own/{id}/end");
        assert_eq!(post(&laptop, &path).await, "Ok(true)", "{name}");
        assert_signed_out(&phone).await;
        assert_eq!(post(&laptop, &path).await, "Ok(false)", "{name}");
        assert_eq!(post(&laptop, &format!("/own/{own_id}/end")).await, "Ok(true)", "{name}");
        assert_signed_out(&laptop).await;
        assert!(is_signed_in(&bob).await, "{name}");
    }
}

#[rocket::async_test]
async fn a_user_of_another_provider_with_the_same_sub_is_another_user() {
    let (acme, beta) = (TestProvider::start().await, TestProvider::start().await);
    for store in ["cookie", "memory"] {
        let client = |provider: &TestProvider| json!({ "issuer": provider.issuer(), "client_id": "app", "client_secret": "hush" });
        let app = App::local(&acme)
            .with_all(json!({ "issuer": null, "client_id": null, "client_secret": null }))
            .with_all(json!({ "providers": { "acme": client(&acme), "beta": client(&beta) } }))
            .with("oidc.session.store", store);
        beta.set_time(acme.now());
        let at_acme = Browser::open(rocket(&app)).await;
        let at_beta = at_acme.another();
        let mut ids = vec![];
        for (browser, provider, name) in [(&at_acme, &acme, "acme"), (&at_beta, &beta, "beta")] {
            provider.user_claims(json!({ "sub": "alice" }));
            let path = format!("/oidc/login/{name}?next=/session-id");
            let page = browser.sign_in(provider, &path).await;
            ids.push(page.is(Status::Ok).body.clone());
        }
        assert_eq!(post(&at_beta, &format!("/own/{}/end", ids[0])).await, "Ok(false)");
        let none = if store == "cookie" { "Ok(None)" } else { "Ok(Some(0))" };
        assert_eq!(post(&at_beta, "/own/end-others").await, none);
        assert!(is_signed_in(&at_acme).await && is_signed_in(&at_beta).await, "{store}");
        assert_eq!(post(&at_acme, &format!("/own/{}/end", ids[0])).await, "Ok(true)");
        assert!(!is_signed_in(&at_acme).await && is_signed_in(&at_beta).await, "{store}");
    }
}

#[rocket::async_test]
async fn a_user_ends_all_other_sessions_on_all_nodes() {
    let provider = TestProvider::start().await;
    for deployment in deployments(&provider) {
        let Deployment {
            name,
            app,
            is_in_cookies,
            is_shared,
            ..
        } = deployment;
        let laptop = Browser::open(rocket(&app)).await;
        let elsewhere = if is_shared {
            Browser::open(rocket(&app)).await
        } else {
            laptop.another()
        };
        let (phone, tablet, bob) = (laptop.another(), elsewhere.another(), elsewhere.another());
        for (browser, user) in [(&phone, "alice"), (&tablet, "alice"), (&bob, "bob"), (&laptop, "alice")] {
            sign_in(browser, &provider, user).await;
        }
        // The same session at the other node.
        carry_cookies(&laptop, &elsewhere);

        let page = laptop.submit("/own/end-others", "").await;
        let count = |count: usize| {
            if is_in_cookies {
                "Ok(None)".to_owned()
            } else {
                format!("Ok(Some({count}))")
            }
        };
        assert_eq!(page.body, count(2), "{name}");
        // It needs no other cookie: a lost response signs no user out.
        assert_eq!(session_cookies_set(&page), [""; 0], "{name}");
        for ended in [&phone, &tablet] {
            assert_signed_out(ended).await;
        }
        for kept in [&laptop, &elsewhere, &bob] {
            assert!(is_signed_in(kept).await, "{name}");
        }

        // Once more, and by a session that began since.
        assert_eq!(post(&laptop, "/own/end-others").await, count(0), "{name}");
        sign_in(&phone, &provider, "alice").await;
        assert!(is_signed_in(&laptop).await && is_signed_in(&phone).await, "{name}");
        assert_eq!(post(&phone, "/own/end-others").await, count(1), "{name}");
        assert_signed_out(&laptop).await;
        assert_signed_out(&elsewhere).await;
        assert_signed_out(&tablet).await;
        assert!(is_signed_in(&phone).await, "{name}");

        // A later end of all sessions is an end of this one too.
        laptop.visit("/end-all/alice").await;
        assert_signed_out(&phone).await;
    }
}

/// The request had its user before the session was ended.
#[rocket::async_test]
async fn a_session_that_was_ended_does_not_end_others_and_does_not_come_back() {
    let provider = TestProvider::start().await;
    for Deployment { name, app, .. } in deployments(&provider) {
        let laptop = Browser::open(rocket(&app)).await;
        let phone = laptop.another();
        sign_in(&laptop, &provider, "alice").await;
        let (here, is_here) = oneshot::channel();
        let (go, may_go) = oneshot::channel();
        let gate = laptop.client().rocket().state::<Gate>().unwrap();
        *locked(&gate.0) = Some((here, may_go));
        let meanwhile = async {
            is_here.await.unwrap();
            phone.visit("/end-all/alice").await.is(Status::Ok);
            sign_in(&phone, &provider, "alice").await;
            go.send(()).unwrap();
        };
        let late = laptop.submit("/own/end-others-later", "");
        let (late, ()) = rocket::futures::future::join(late, meanwhile).await;
        assert!(
            ["Ok(None)", "Ok(Some(0))"].contains(&&*late.body),
            "{name}: {}",
            late.body
        );
        assert_signed_out(&laptop).await;
        assert!(is_signed_in(&phone).await, "{name}");
    }
}

#[rocket::async_test]
async fn a_sign_in_in_progress_ends_with_the_others() {
    let provider = TestProvider::start().await;
    for Deployment { name, app, .. } in deployments(&provider) {
        let laptop = Browser::open(rocket(&app)).await;
        let phone = laptop.another();
        sign_in(&laptop, &provider, "alice").await;
        let callback = phone.begin_sign_in(&provider, "/me").await;
        post(&laptop, "/own/end-others").await;
        let page = phone.arrive_from_provider(&callback.path_and_query()).await;
        // Whether the provider issued its code before or after that is not known: it is asked again.
        page.redirects_to(&format!("{}/authorize?", provider.issuer()));
        assert!(is_signed_in(&laptop).await, "{name}");
    }
}

/// At a sign-in, ends the sessions of the browser's former user but that one.
struct EndsOthers;

#[rocket::async_trait]
impl Events for EndsOthers {
    async fn after_authorize(&self, request: &Request<'_>, _: &mut NewSignIn<'_>) -> Result<(), Refused> {
        let visitor: Option<OptionalUser> = OptionalUser::from_request(request).await.succeeded();
        if let Some(user) = visitor.and_then(OptionalUser::into_user) {
            let rp = request.rocket().state::<RelyingParty>().unwrap();
            rp.end_other_sessions(&user).await.unwrap();
        }
        Ok(())
    }
}

#[rocket::async_test]
async fn a_sign_in_that_ends_the_others_goes_on() {
    let provider = TestProvider::start().await;
    for Deployment { name, app, .. } in deployments(&provider) {
        let laptop = Browser::open(rocket_with(&app, EndsOthers)).await;
        let phone = laptop.another();
        for browser in [&phone, &laptop] {
            sign_in(browser, &provider, "alice").await;
        }
        let callback = laptop.begin_sign_in(&provider, "/oidc/login?next=/me").await;
        let page = laptop.arrive_from_provider(&callback.path_and_query()).await;
        page.redirects_to("/me");
        assert_signed_out(&phone).await;
        assert!(is_signed_in(&laptop).await, "{name}");
    }
}

#[rocket::async_test]
async fn an_end_of_all_others_is_not_about_the_session_that_stays() {
    let provider = TestProvider::start().await;
    for deployment in deployments(&provider) {
        let Deployment {
            name,
            app,
            is_in_cookies,
            ..
        } = deployment;
        let heard = Heard::default();
        let laptop = Browser::open(rocket_with(&app, heard.clone())).await;
        let phone = laptop.another();
        let other = sign_in(&phone, &provider, "alice").await;
        let own = sign_in(&laptop, &provider, "alice").await;
        post(&laptop, "/own/end-others").await;
        let changes = heard.take();
        let [change] = &changes[..] else {
            panic!("{name}: {changes:?}");
        };
        assert_eq!(
            (change.reason(), change.subject()),
            ("ended_by_app", Some("alice")),
            "{name}"
        );
        let ids = (change.session_id(), change.excepted_session_id());
        let expected = if is_in_cookies {
            (None, Some(&*own))
        } else {
            (Some(&*other), None)
        };
        assert_eq!(ids, expected, "{name}");

        // With sessions in cookies too, the user of one that ends is known here.
        sign_in(&phone, &provider, "alice").await;
        heard.take();
        let id = phone.fetch("/session-id").await.body;
        post(&laptop, &format!("/own/{id}/end")).await;
        let changes = heard.take();
        let [change] = &changes[..] else {
            panic!("{name}: {changes:?}");
        };
        assert_eq!(
            (change.session_id(), change.subject()),
            (Some(&*id), Some("alice")),
            "{name}"
        );
    }
}

#[rocket::async_test]
async fn while_the_store_is_down_nothing_ends() {
    let provider = TestProvider::start().await;
    let store = TestStore::new();
    let app = App::local(&provider).over(&store);
    let laptop = Browser::open(rocket(&app)).await;
    let phone = laptop.another();
    let id = sign_in(&phone, &provider, "alice").await;
    sign_in(&laptop, &provider, "alice").await;
    // After the guard's own look.
    for (path, call) in [
        (format!("/own/{id}/end"), crate::support::Call::Remove),
        ("/own/end-others".to_owned(), crate::support::Call::PutEnd),
    ] {
        store.fail(call, "the store is down");
        let answer = post(&laptop, &path).await;
        assert!(answer.starts_with("Err("), "{answer}");
        store.recover();
        assert!(is_signed_in(&laptop).await && is_signed_in(&phone).await, "{path}");
    }
}

/// A node that cannot read a session does not know whose it is.
#[rocket::async_test]
async fn a_session_under_an_unknown_key_is_not_ended() {
    let provider = TestProvider::start().await;
    let store = TestStore::new();
    let app = App::local(&provider).over(&store);
    let other_key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE=";
    let laptop = Browser::open(rocket(&app)).await;
    let phone = Browser::open(rocket(&app.clone().with("secret_key", other_key))).await;
    sign_in(&laptop, &provider, "alice").await;
    let id = sign_in(&phone, &provider, "alice").await;
    let answer = post(&laptop, &format!("/own/{id}/end")).await;
    assert!(answer.starts_with("Err("), "{answer}");
    assert!(is_signed_in(&phone).await);
}

#[rocket::async_test]
async fn sessions_are_listed_with_times_and_data() {
    let provider = TestProvider::start().await;
    for deployment in deployments(&provider) {
        let Deployment {
            name,
            app,
            is_in_cookies,
            ..
        } = deployment;
        let laptop = Browser::open(rocket(&app)).await;
        provider.user_claims(json!({ "sub": "alice" }));
        let callback = laptop.begin_sign_in(&provider, "/session-id").await;
        let headers = [
            ("Sec-Fetch-Mode", "navigate"),
            ("Sec-Fetch-Dest", "document"),
            ("Sec-Fetch-Site", "cross-site"),
            ("Accept", "text/html"),
            ("User-Agent", "Firefox on <Linux>"),
        ];
        let page = laptop
            .request(Method::Get, &callback.path_and_query(), &headers, "")
            .await;
        page.redirects_to("/session-id");
        let id = laptop.fetch("/session-id").await.body;
        let listed: Value = laptop.fetch("/own").await.json();
        let expected = json!([{
            "id": id, "provider": "default", "started": "2023-11-14T22:13:20Z", "last_seen": "2023-11-14T22:13:20Z",
            "ends": "2023-11-15T10:13:20Z", "data": { "user_agent": "Firefox on <Linux>" },
        }]);
        assert_eq!(listed, if is_in_cookies { Value::Null } else { expected }, "{name}");
    }
}
