//! Which tokens are revoked when a session ends (RFC 7009): those of the sessions that end here, whoever asks for
//! it, and not those of sessions that the provider has ended.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rocket::{
    Build, Request, Rocket,
    futures::future::join,
    get,
    http::Status,
    routes,
    serde::json::{Json, Value, json},
};
use rocket_openidconnect::{Events, LoggedIn, NewSignIn, Refused};

use crate::{
    common::{App, locked, session_pages, sign_out_unrecorded},
    records::{DUE, carry_cookies},
    support::{Browser, TestProvider, TestStore},
};

/// How long a node waits at least before it tries the store again.
const PAUSE: Duration = Duration::from_secs(1);

/// The session and its tokens: what is revoked, the refresh token first.
#[get("/tokens")]
async fn tokens(user: LoggedIn) -> Json<Value> {
    let access_token = user.access_token().ok();
    Json(json!([
        user.session_id(),
        user.refresh_token().map(|token| token.expose()),
        access_token.map(|token| token.expose()),
    ]))
}

fn with_routes(rocket: Rocket<Build>) -> Rocket<Build> {
    rocket.mount("/", session_pages()).mount("/", routes![tokens])
}

/// A node of the app that keeps its sessions in this store.
async fn node(app: &App, store: &TestStore) -> Browser {
    Browser::open(with_routes(app.over(store).rocket())).await
}

/// Name, refresh token and access token of the session that begins.
async fn sign_in(browser: &Browser, provider: &TestProvider) -> [String; 3] {
    browser.sign_in(provider, "/me").await.is(Status::Ok);
    browser.visit("/tokens").await.is(Status::Ok).json()
}

/// The provider ends the session.
async fn backchannel_logout(browser: &Browser, provider: &TestProvider) {
    let page = browser.post_logout_token(&provider.logout_token(|_| ())).await;
    page.is(Status::Ok);
}

/// The tokens that were revoked, in order, once there are so many.
async fn revoked(provider: &TestProvider, count: usize) -> Vec<String> {
    provider.until_requested("/revoke", count).await;
    provider.revoked_tokens()
}

#[rocket::async_test]
async fn the_tokens_of_a_session_that_the_app_ends_are_revoked() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with("oidc.session.store", "memory");
    let browser = Browser::open(with_routes(app.rocket())).await;
    // The provider knows what it ends itself.
    sign_in(&browser, &provider).await;
    backchannel_logout(&browser, &provider).await;

    app.advance(Duration::from_secs(1));
    let [id, refresh_token, access_token] = sign_in(&browser, &provider).await;
    let page = browser.visit(&format!("/end/{id}")).await;
    assert_eq!(page.body, "Ok(true)");
    let mut expected = vec![refresh_token, access_token];
    assert_eq!(revoked(&provider, 2).await, expected);

    let [_, refresh_token, access_token] = sign_in(&browser, &provider).await;
    assert_eq!(browser.visit("/end-all/alice").await.body, "Ok(Some(1))");
    expected.extend([refresh_token, access_token]);
    assert_eq!(revoked(&provider, 4).await, expected);
}

/// Unless both may come from one grant, which providers revoke as a whole.
#[rocket::async_test]
async fn the_tokens_of_a_session_that_makes_room_are_revoked() {
    for has_sid in [true, false] {
        let provider = TestProvider::start().await;
        if !has_sid {
            provider.on_id_token(|token| token.remove("sid"));
        }
        let app = App::new(&provider)
            .with("oidc.session.store", "memory")
            .with("oidc.session.max_per_user", 1);
        let browser = Browser::open(with_routes(app.rocket())).await;
        let [_, first_refresh, first_access] = sign_in(&browser, &provider).await;
        app.advance(Duration::from_secs(1));
        let newer = browser.another();
        let [_, refresh_token, access_token] = sign_in(&newer, &provider).await;
        let mut expected = vec![];
        if has_sid {
            expected.extend([first_refresh, first_access]);
        }
        assert_eq!(revoked(&provider, expected.len()).await, expected);
        newer.submit("/oidc/logout", "").await.is(Status::SeeOther);
        expected.extend([refresh_token, access_token]);
        assert_eq!(revoked(&provider, expected.len()).await, expected);
    }
}

/// Which are in the store alone.
#[rocket::async_test]
async fn a_sign_out_while_the_store_is_down_revokes_the_tokens_when_it_is_back() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let store = TestStore::new();
    let browser = node(&app, &store).await;
    let [id, refresh_token, access_token] = sign_in(&browser, &provider).await;
    sign_out_unrecorded(&browser, &store).await;
    store.recover();
    app.advance(PAUSE);
    browser.visit("/me").await.is(Status::SeeOther);
    store.until_removed(&id).await;
    let expected = [refresh_token, access_token];
    assert_eq!(revoked(&provider, 2).await, expected);
}

/// The provider ends the session too when the browser goes there, and may be quicker than the next attempt.
#[rocket::async_test]
async fn a_logout_by_the_provider_does_not_keep_the_tokens_of_a_sign_out() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let store = TestStore::new();
    let browser = node(&app, &store).await;
    let [_, refresh_token, access_token] = sign_in(&browser, &provider).await;
    sign_out_unrecorded(&browser, &store).await;
    store.recover();
    backchannel_logout(&browser, &provider).await;
    let expected = [refresh_token, access_token];
    assert_eq!(revoked(&provider, 2).await, expected);
}

/// By the note of its browser: the node of the sign-out is gone.
#[rocket::async_test]
async fn another_node_revokes_the_tokens_of_an_unrecorded_sign_out() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let store = TestStore::new();
    let browser = node(&app, &store).await;
    let [id, refresh_token, access_token] = sign_in(&browser, &provider).await;
    sign_out_unrecorded(&browser, &store).await;
    let elsewhere = node(&app, &store).await;
    carry_cookies(&browser, &elsewhere);
    drop(browser);
    store.recover();
    elsewhere.visit("/").await.is(Status::Ok);
    store.until_removed(&id).await;
    let expected = [refresh_token, access_token];
    assert_eq!(revoked(&provider, 2).await, expected);
}

/// The provider rotated it, and waits for nobody to store it.
#[rocket::async_test]
async fn a_refresh_token_that_was_not_stored_is_revoked_whichever_way_its_session_ends() {
    for way in ["end", "sign out", "sign out unrecorded", "sign in as another"] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider);
        let store = TestStore::new();
        let browser = node(&app, &store).await;
        let [id, _, access_token] = sign_in(&browser, &provider).await;
        let newer: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = newer.clone();
        provider.on_refresh_response(move |reply| {
            let body: Value = serde_json::from_slice(&reply.body).expect("a reply in JSON");
            let token = body["refresh_token"].as_str().expect("a refresh token");
            locked(&kept).push(token.to_owned());
        });
        app.advance(DUE);
        let held = provider.hold("/token");
        let outage = async {
            provider.until_requested("/token", 2).await;
            store.fail_all("switched off");
            held.release();
        };
        let (page, ()) = join(browser.fetch("/me"), outage).await;
        page.is(Status::Ok).sees("alice");

        let is_down = way == "sign out unrecorded";
        if !is_down {
            store.recover();
        }
        match way {
            "end" => {
                let page = browser.visit(&format!("/end/{id}")).await;
                assert_eq!(page.body, "Ok(true)");
            }
            "sign in as another" => {
                provider.user_claims(json!({ "sub": "bob" }));
                let page = browser.sign_in(&provider, "/oidc/login?next=/me").await;
                page.is(Status::Ok).sees("bob");
            }
            _ => {
                let page = browser.submit("/oidc/logout", "").await;
                page.is(if is_down {
                    Status::ServiceUnavailable
                } else {
                    Status::SeeOther
                });
            }
        }
        let mut expected = locked(&newer).clone();
        assert_eq!(expected.len(), 1, "{way}");
        if !is_down {
            expected.push(access_token);
        }
        assert_eq!(revoked(&provider, expected.len()).await, expected, "{way}");
    }
}

/// Refuses everybody, once this is set.
#[derive(Clone, Default)]
struct Closed(Arc<AtomicBool>);

#[rocket::async_trait]
impl Events for Closed {
    async fn after_authorize(&self, _: &Request<'_>, _: &mut NewSignIn<'_>) -> Result<(), Refused> {
        if self.0.load(Ordering::SeqCst) {
            return Err(Refused::new("closed"));
        }
        Ok(())
    }
}

/// The tokens of the last token response, as they are revoked.
fn last_tokens(provider: &TestProvider) -> Arc<Mutex<Vec<String>>> {
    let last: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = last.clone();
    provider.on_token_response(move |reply| {
        let body: Value = serde_json::from_slice(&reply.body).expect("a reply in JSON");
        let tokens = ["refresh_token", "access_token"].map(|name| body[name].as_str().expect("a token").to_owned());
        *locked(&kept) = tokens.to_vec();
    });
    last
}

/// How a second sign-in of a browser fails.
#[derive(Clone, Copy, Debug)]
enum Fails {
    IdToken,
    Scopes,
    App,
}

const WAYS: [Fails; 3] = [Fails::IdToken, Fails::Scopes, Fails::App];

/// A signed-in browser, and one more sign-in that fails.
async fn fail_again(fails: Fails, browser: &Browser, provider: &TestProvider, closed: &Closed) {
    match fails {
        Fails::IdToken => provider.on_id_token(|token| {
            token.set("sid", "one");
            token.set("nonce", "another");
        }),
        Fails::Scopes => provider.on_token_response(|reply| reply.set("scope", "openid")),
        Fails::App => closed.0.store(true, Ordering::SeqCst),
    }
    let page = match fails {
        Fails::Scopes => browser.sign_in(provider, "/more").await,
        _ => browser.sign_in(provider, "/oidc/login?next=/me").await,
    };
    assert!(page.status >= 400, "{fails:?}: {page:#?}");
}

#[get("/more")]
fn more(rp: &rocket_openidconnect::RelyingParty) -> rocket::response::Redirect {
    rocket::response::Redirect::to(rp.sign_in_url().scope("api:more").to_string())
}

/// Many providers revoke a grant as a whole, and end their own session with it: a second factor that was not given would
/// sign the user out.
#[rocket::async_test]
async fn a_sign_in_that_fails_keeps_the_grant_of_the_session() {
    for store in ["cookie", "memory"] {
        for fails in WAYS {
            let provider = TestProvider::start().await;
            provider.on_id_token(|token| token.set("sid", "one"));
            let app = App::new(&provider).with("oidc.session.store", store);
            let closed = Closed::default();
            let rocket = with_routes(app.rocket_with(closed.clone())).mount("/", routes![more]);
            let browser = Browser::open(rocket).await;
            let [_, refresh_token, access_token] = sign_in(&browser, &provider).await;
            fail_again(fails, &browser, &provider, &closed).await;
            // The session goes on, and its tokens are the only ones that are ever revoked.
            browser.visit("/me").await.is(Status::Ok).sees("alice");
            browser.submit("/oidc/logout", "").await.is(Status::SeeOther);
            let expected = [refresh_token, access_token];
            assert_eq!(revoked(&provider, 2).await, expected, "{store}, {fails:?}");
        }
    }
}

/// Of another user, of another session at the provider, and of a browser without a session.
#[rocket::async_test]
async fn a_sign_in_that_fails_without_a_session_to_keep_is_revoked() {
    for of in ["another user", "another sid", "nobody"] {
        let provider = TestProvider::start().await;
        let closed = Closed::default();
        let rocket = with_routes(App::new(&provider).rocket_with(closed.clone()));
        let browser = Browser::open(rocket).await;
        if of != "nobody" {
            sign_in(&browser, &provider).await;
        }
        match of {
            "another user" => provider.user_claims(json!({ "sub": "bob" })),
            "another sid" => provider.on_id_token(|token| token.set("sid", "another")),
            _ => {}
        }
        let last = last_tokens(&provider);
        fail_again(Fails::App, &browser, &provider, &closed).await;
        let expected = locked(&last).clone();
        assert_eq!(revoked(&provider, 2).await, expected, "{of}");
    }
}

/// The session that was there is expired: nothing is to be kept.
#[rocket::async_test]
async fn a_sign_in_that_fails_after_a_session_is_revoked() {
    let provider = TestProvider::start().await;
    let closed = Closed::default();
    let app = App::new(&provider).with("oidc.session.idle_timeout", "10m");
    let browser = Browser::open(with_routes(app.rocket_with(closed.clone()))).await;
    sign_in(&browser, &provider).await;
    app.advance(Duration::from_secs(601));
    let last = last_tokens(&provider);
    fail_again(Fails::App, &browser, &provider, &closed).await;
    let expected = locked(&last).clone();
    assert_eq!(revoked(&provider, 2).await, expected);
}
