//! Tokens of a session for other APIs: the refresh grant with a resource.

use std::{sync::Mutex, time::Duration};

use rocket::{
    Build, Rocket, State,
    futures::future::{join, join_all, join3},
    get,
    http::Status,
    routes,
    serde::json::{Json, Value, json},
};
use rocket_openidconnect::{ApiTokenError, IssuedToken, LoggedIn, RelyingParty, User};

use crate::{
    common::{App, Log, locked, session_pages},
    records::{DUE, carry_cookies},
    support::{Browser, Call, Reply, TestProvider, TestStore, until},
};

const TOKEN: &str = "/token";
const ORDERS: &str = "https://orders.example.com";
const STOCK: &str = "https://stock.example.com";
const STORES: [&str; 2] = ["cookie", "memory"];

fn described(token: Result<IssuedToken, ApiTokenError>) -> String {
    match token {
        Ok(token) => token.expose().to_owned(),
        Err(error) => format!("{} {}: {error}", error.status(), error.reason()),
    }
}

/// The token, or why there is none.
#[get("/api?<resource>&<scope>")]
async fn api(user: LoggedIn, resource: &str, scope: Vec<&str>) -> String {
    described(user.access_token_for(resource, &scope).await)
}

#[get("/route?<resource>")]
async fn route(user: LoggedIn, resource: &str) -> Result<String, ApiTokenError> {
    Ok(user.access_token_for(resource, &[]).await?.expose().to_owned())
}

/// Access token and refresh token of the session.
#[get("/tokens")]
fn tokens(user: LoggedIn) -> Json<Value> {
    let access_token = user.access_token().ok().map(|token| token.expose());
    Json(json!([access_token, user.refresh_token().map(|token| token.expose())]))
}

/// A user that the app keeps for longer than a request.
#[derive(Default)]
struct Kept(Mutex<Option<User>>);

#[get("/keep")]
fn keep(user: LoggedIn, kept: &State<Kept>) -> &'static str {
    *locked(&kept.0) = Some(user.into_user());
    "kept"
}

#[get("/kept?<resource>")]
async fn of_kept(kept: &State<Kept>, resource: &str) -> String {
    let user = locked(&kept.0).clone().expect("one is kept");
    described(user.access_token_for(resource, &[]).await)
}

#[get("/refresh-session/<id>")]
async fn refresh_session(rp: &RelyingParty, id: &str) -> String {
    match rp.refresh_session(id).await {
        Ok(()) => "refreshed".to_owned(),
        Err(error) => error.reason().to_owned(),
    }
}

fn with_routes(rocket: Rocket<Build>) -> Rocket<Build> {
    let routes = routes![api, route, tokens, keep, of_kept, refresh_session];
    let rocket = rocket.manage(Kept::default());
    rocket.mount("/", session_pages()).mount("/", routes)
}

async fn open(app: &App) -> Browser {
    Browser::open(with_routes(app.rocket())).await
}

async fn signed_in(app: &App, provider: &TestProvider) -> Browser {
    Browser::signed_in(with_routes(app.rocket()), provider).await
}

/// Two nodes of the app over one store, before which a browser is signed in, with their connections to it.
async fn nodes(app: &App, provider: &TestProvider) -> [(Browser, TestStore); 2] {
    let one = TestStore::with_clock(&app.clock());
    let other = one.another();
    let node = async |store: &TestStore| Browser::open(with_routes(app.over(store).rocket())).await;
    let browsers = (node(&one).await, node(&other).await);
    browsers.0.sign_in(provider, "/me").await.is(Status::Ok);
    carry_cookies(&browsers.0, &browsers.1);
    [(browsers.0, one), (browsers.1, other)]
}

async fn fetch(browser: &Browser, path: &str) -> String {
    browser.fetch(path).await.is(Status::Ok).body.clone()
}

async fn token_for(browser: &Browser, resource: &str) -> String {
    fetch(browser, &format!("/api?resource={resource}")).await
}

async fn own_tokens(browser: &Browser) -> [String; 2] {
    browser.fetch("/tokens").await.is(Status::Ok).json()
}

/// The refresh tokens that were sent, in order.
fn sent(provider: &TestProvider) -> Vec<String> {
    let requests = provider.requests_to(TOKEN);
    let sent = requests
        .iter()
        .filter_map(|request| request.form_value("refresh_token"));
    sent.map(str::to_owned).collect()
}

/// Lets the provider keep its refresh tokens as they are.
fn without_rotation(provider: &TestProvider, refresh_token: &str) {
    let same = refresh_token.to_owned();
    provider.on_refresh_response(move |reply| reply.set("refresh_token", same.clone()));
}

#[rocket::async_test]
async fn a_token_for_an_api_leaves_the_sessions_own_as_it_is() {
    for store in STORES {
        let provider = TestProvider::start().await;
        let app = App::new(&provider).with("oidc.session.store", store);
        let browser = signed_in(&app, &provider).await;
        let [own, refresh_token] = own_tokens(&browser).await;
        let path = format!("/api?resource={ORDERS}&scope=write&scope=read");
        let token = fetch(&browser, &path).await;
        assert!(token.starts_with("at-") && token != own, "{token}");
        let expected = [
            ("grant_type", "refresh_token"),
            ("refresh_token", &refresh_token),
            ("resource", ORDERS),
            ("scope", "read write"),
        ];
        let form = provider.last_request(TOKEN).form;
        let form: Vec<_> = form
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(form, expected);

        // It is cached, beside the session's own, and the refresh token is the new one.
        let [own_now, rotated] = own_tokens(&browser).await;
        assert_eq!(own_now, own);
        assert_ne!(rotated, refresh_token);
        assert_eq!(fetch(&browser, &path).await, token);
        assert_ne!(token_for(&browser, STOCK).await, token);
        assert_eq!(sent(&provider), [refresh_token, rotated], "{store}");

        app.advance(Duration::from_secs(269));
        assert_eq!(fetch(&browser, &path).await, token);
        app.advance(Duration::from_secs(1));
        assert_ne!(fetch(&browser, &path).await, token);
    }
}

#[rocket::async_test]
async fn the_session_is_refreshed_with_the_rotated_refresh_token() {
    for store in STORES {
        let provider = TestProvider::start().await;
        let app = App::new(&provider).with("oidc.session.store", store);
        let browser = signed_in(&app, &provider).await;
        let [own, first] = own_tokens(&browser).await;
        token_for(&browser, ORDERS).await;
        let [_, second] = own_tokens(&browser).await;
        app.advance(DUE);
        let [refreshed, third] = own_tokens(&browser).await;
        assert_ne!(refreshed, own);
        assert_eq!(sent(&provider), [first, second], "{store}");
        token_for(&browser, ORDERS).await;
        assert_eq!(sent(&provider)[2..], [third], "{store}");
        browser.fetch("/me").await.is(Status::Ok);
    }
}

#[rocket::async_test]
async fn a_token_belongs_to_one_session() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let alice = signed_in(&app, &provider).await;
    let of_alice = token_for(&alice, ORDERS).await;
    // The same user in another browser, and another user.
    let again = alice.another();
    again.sign_in(&provider, "/me").await.is(Status::Ok);
    provider.user_claims(json!({ "sub": "bob" }));
    let bob = alice.another();
    bob.sign_in(&provider, "/me").await.is(Status::Ok);
    let (of_again, of_bob) = (token_for(&again, ORDERS).await, token_for(&bob, ORDERS).await);
    assert!(of_again != of_alice && of_bob != of_alice && of_bob != of_again);
    bob.submit("/oidc/logout", "").await.is(Status::SeeOther);
    assert_eq!(token_for(&alice, ORDERS).await, of_alice);
    assert_eq!(token_for(&again, ORDERS).await, of_again);
}

#[rocket::async_test]
async fn an_unchanged_refresh_token_changes_no_cookie() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = signed_in(&app, &provider).await;
    let [_, refresh_token] = own_tokens(&browser).await;
    without_rotation(&provider, &refresh_token);
    let page = browser.fetch(&format!("/api?resource={ORDERS}")).await;
    assert_eq!(page.is(Status::Ok).set_cookies(), [""; 0]);
    provider.be_honest();
    let page = browser.fetch(&format!("/api?resource={STOCK}")).await;
    // This provider has spent it all the same.
    assert_eq!(
        page.body,
        "403 invalid_grant: the provider's token endpoint rejected the request with `invalid_grant`: unknown or spent refresh token"
    );
}

#[rocket::async_test]
async fn simultaneous_calls_share_one_request() {
    for store in STORES {
        let provider = TestProvider::start().await;
        let app = App::new(&provider).with("oidc.session.store", store);
        let browser = signed_in(&app, &provider).await;
        let held = provider.hold(TOKEN);
        let calls = join_all((0..20).map(|_| token_for(&browser, ORDERS)));
        let release = async {
            provider.until_requested(TOKEN, 2).await;
            held.release();
        };
        let (tokens, ()) = join(calls, release).await;
        assert!(
            tokens
                .iter()
                .all(|token| *token == tokens[0] && token.starts_with("at-"))
        );
        assert_eq!(provider.count(TOKEN), 2, "{store}");
    }
}

/// A refresh token is valid for one use: for one API after the other, and for a refresh that is due.
#[rocket::async_test]
async fn one_request_at_a_time_sends_the_refresh_token() {
    let are_different = |mut texts: Vec<String>| {
        let count = texts.len();
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), count, "{texts:?}");
    };
    let waiting = async |provider: &TestProvider, held: crate::support::Held| {
        provider.until_requested(TOKEN, 2).await;
        assert_eq!(provider.count(TOKEN), 2, "the others wait");
        held.release();
    };
    for store in STORES {
        let provider = TestProvider::start().await;
        let app = App::new(&provider).with("oidc.session.store", store);
        let browser = signed_in(&app, &provider).await;
        let held = provider.hold(TOKEN);
        let calls = join(token_for(&browser, ORDERS), token_for(&browser, STOCK));
        let ((orders, stock), ()) = join(calls, waiting(&provider, held)).await;
        assert!(
            orders.starts_with("at-") && stock.starts_with("at-"),
            "{orders} {stock}"
        );
        are_different(vec![orders, stock]);
        are_different(sent(&provider));
        assert_eq!(sent(&provider).len(), 2);
        browser.fetch("/me").await.is(Status::Ok);
    }

    let provider = TestProvider::start().await;
    let app = App::new(&provider).with("oidc.session.store", "memory");
    let browser = signed_in(&app, &provider).await;
    fetch(&browser, "/keep").await;
    app.advance(DUE);
    let held = provider.hold(TOKEN);
    let orders = format!("/kept?resource={ORDERS}");
    let stock = format!("/kept?resource={STOCK}");
    let calls = join3(fetch(&browser, &orders), fetch(&browser, &stock), own_tokens(&browser));
    let ((orders, stock, [own, _]), ()) = join(calls, waiting(&provider, held)).await;
    assert!([&orders, &stock, &own].iter().all(|token| token.starts_with("at-")));
    are_different(vec![orders, stock, own]);
    are_different(sent(&provider));
    assert_eq!(sent(&provider).len(), 3);
}

#[rocket::async_test]
async fn nodes_with_a_shared_store_wait_for_each_other() {
    for kept in STORES {
        let provider = TestProvider::start().await;
        let app = App::new(&provider).with("oidc.session.store", kept);
        let [(one, _), (other, store)] = nodes(&app, &provider).await;
        let held = provider.hold(TOKEN);
        let calls = join(token_for(&one, ORDERS), async {
            provider.until_requested(TOKEN, 2).await;
            token_for(&other, ORDERS).await
        });
        let release = async {
            store.until_lock_is_refused().await;
            assert_eq!(provider.count(TOKEN), 2);
            held.release();
        };
        let ((token, of_other), ()) = join(calls, release).await;
        assert!(
            token.starts_with("at-") && of_other.starts_with("at-"),
            "{token} {of_other}"
        );
        // Tokens stay in the memory of their node.
        assert_ne!(token, of_other);
        let [first, second] = &sent(&provider)[..] else {
            panic!("not two requests");
        };
        assert_ne!(first, second);
        one.fetch("/me").await.is(Status::Ok);
        other.fetch("/me").await.is(Status::Ok);
    }
}

#[rocket::async_test]
async fn a_sign_out_drops_and_revokes_the_tokens() {
    for store in STORES {
        let provider = TestProvider::start().await;
        let app = App::new(&provider).with("oidc.session.store", store);
        let browser = signed_in(&app, &provider).await;
        let orders = token_for(&browser, ORDERS).await;
        let stock = token_for(&browser, STOCK).await;
        let [own, refresh_token] = own_tokens(&browser).await;
        fetch(&browser, "/keep").await;
        assert_eq!(fetch(&browser, &format!("/kept?resource={ORDERS}")).await, orders);
        browser.submit("/oidc/logout", "").await.is(Status::SeeOther);
        provider.until_requested("/revoke", 4).await;
        let mut revoked = provider.revoked_tokens();
        revoked.sort();
        let mut expected = vec![orders, stock, own, refresh_token];
        expected.sort();
        assert_eq!(revoked, expected, "{store}");

        let count = provider.count(TOKEN);
        let of_kept = fetch(&browser, &format!("/kept?resource={ORDERS}")).await;
        assert_eq!(of_kept, "401 session_ended: the session was ended");
        assert_eq!(provider.count(TOKEN), count);
    }
}

#[rocket::async_test]
async fn the_end_of_a_session_on_one_node_drops_its_tokens_on_the_other() {
    for kept in STORES {
        let provider = TestProvider::start().await;
        let app = App::new(&provider).with("oidc.session.store", kept);
        let [(one, _), (other, _)] = nodes(&app, &provider).await;
        let token = token_for(&other, ORDERS).await;
        fetch(&other, "/keep").await;
        carry_cookies(&other, &one);
        one.submit("/oidc/logout", "").await.is(Status::SeeOther);
        let count = provider.count(TOKEN);
        let of_kept = format!("/kept?resource={ORDERS}");
        assert_eq!(
            fetch(&other, &of_kept).await,
            "401 session_ended: the session was ended"
        );
        other.fetch("/me").await.is(Status::Unauthorized);
        assert_eq!(provider.count(TOKEN), count);
        assert!(token.starts_with("at-"));
    }
}

/// The provider, and not the user, ends the session: what it has ended is not revoked.
#[rocket::async_test]
async fn a_back_channel_logout_drops_the_tokens() {
    for store in STORES {
        let provider = TestProvider::start().await;
        let app = App::new(&provider).with("oidc.session.store", store);
        let browser = signed_in(&app, &provider).await;
        token_for(&browser, ORDERS).await;
        fetch(&browser, "/keep").await;
        let page = browser.post_logout_token(&provider.logout_token(|_| ())).await;
        page.is(Status::Ok);
        let of_kept = fetch(&browser, &format!("/kept?resource={ORDERS}")).await;
        assert_eq!(of_kept, "401 session_ended: the session was ended");
        assert_eq!(provider.revoked_tokens(), [""; 0]);
    }
}

#[rocket::async_test]
async fn a_session_that_ends_during_the_request_gets_no_token() {
    for store in STORES {
        let provider = TestProvider::start().await;
        let app = App::new(&provider).with("oidc.session.store", store);
        let browser = signed_in(&app, &provider).await;
        let held = provider.hold(TOKEN);
        let sign_out = async {
            provider.until_requested(TOKEN, 2).await;
            // The provider ends it, so that none of its tokens is revoked but the new ones.
            let page = browser.post_logout_token(&provider.logout_token(|_| ())).await;
            page.is(Status::Ok);
            held.release();
        };
        let (token, ()) = join(token_for(&browser, ORDERS), sign_out).await;
        assert_eq!(token, "401 session_ended: the session was ended", "{store}");
        provider.until_requested("/revoke", 2).await;
        let revoked = provider.revoked_tokens();
        assert!(
            revoked[0].starts_with("rt-") && revoked[1].starts_with("at-"),
            "{revoked:?}"
        );
    }
}

/// What the provider has advanced is not lost.
#[rocket::async_test]
async fn a_rotated_refresh_token_survives_a_store_that_is_down() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with("oidc.session.store", "memory");
    let [(one, store), _] = nodes(&app, &provider).await;
    store.fail(Call::Replace, "it is read-only");
    let error = token_for(&one, ORDERS).await;
    assert_eq!(
        error,
        "503 store_unavailable: the refresh token of the session cannot be used now: the session store is not reachable: it is read-only"
    );
    store.recover();
    let token = async || token_for(&one, ORDERS).await.starts_with("at-");
    until("the new refresh token is stored", token).await;
    let sent = sent(&provider);
    assert_eq!(sent.len(), 2);
    assert_ne!(sent[0], sent[1]);
}

#[rocket::async_test]
async fn what_the_provider_refuses_leaves_the_session_as_it_is() {
    for (error, expected) in [
        (
            Reply::error(400, "invalid_target", "no such API"),
            "502 provider_refused",
        ),
        (Reply::error(400, "invalid_scope", "too much"), "502 provider_refused"),
        (Reply::error(400, "interaction_required", "MFA"), "403 provider_refused"),
        (Reply::error(400, "consent_required", "consent"), "403 provider_refused"),
        // Microsoft Entra ID says so too where consent to one API is missing.
        (Reply::error(400, "invalid_grant", "AADSTS65001"), "403 invalid_grant"),
        (Reply::status(503), "503 provider_unavailable"),
    ] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider);
        let browser = signed_in(&app, &provider).await;
        let before = own_tokens(&browser).await;
        provider.on_path(TOKEN, error);
        let answer = token_for(&browser, ORDERS).await;
        assert!(answer.starts_with(expected), "{answer}");
        let page = browser.fetch(&format!("/route?resource={ORDERS}")).await;
        assert_eq!(page.status.to_string(), expected[..3]);
        assert_eq!(page.header("Retry-After").is_some(), page.status == 503);
        assert_eq!(provider.count(TOKEN), 2, "within the back-off");
        provider.be_honest();
        assert_eq!(own_tokens(&browser).await, before);
        // Another API is not affected.
        assert!(token_for(&browser, STOCK).await.starts_with("at-"));
    }
}

#[rocket::async_test]
async fn the_token_of_another_user_is_not_used() {
    for store in STORES {
        let provider = TestProvider::start().await;
        let app = App::new(&provider).with("oidc.session.store", store);
        let browser = signed_in(&app, &provider).await;
        let [own, first] = own_tokens(&browser).await;
        provider.on_id_token(|token| token.set("sub", "mallory"));
        let log = Log::listen();
        let answer = token_for(&browser, ORDERS).await;
        assert_eq!(
            answer,
            "502 token_of_other_user: the ID token beside the access token is not one of this session"
        );
        assert!(
            log.lines()
                .iter()
                .any(|line| line.starts_with("ERROR: the ID token of a refresh is rejected: "))
        );
        provider.be_honest();
        // The refresh token was rotated all the same.
        let [own_now, second] = own_tokens(&browser).await;
        assert_eq!(own_now, own);
        assert_ne!(second, first);
        assert!(token_for(&browser, STOCK).await.starts_with("at-"));
    }
}

/// Each attempt would use the refresh token.
#[rocket::async_test]
async fn a_token_that_cannot_be_judged_is_not_requested_again_at_once() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = signed_in(&app, &provider).await;
    app.advance(Duration::from_secs(31));
    provider.rotate_rsa_key();
    provider.on_path("/jwks", Reply::status(503));
    for _ in 0..3 {
        let answer = token_for(&browser, ORDERS).await;
        assert!(answer.starts_with("503 provider_"), "{answer}");
        assert_eq!(provider.count(TOKEN), 2);
    }
    provider.clear_path("/jwks");
    app.advance(Duration::from_secs(60));
    assert!(token_for(&browser, ORDERS).await.starts_with("at-"));
    assert_eq!(provider.count(TOKEN), 3);
}

#[rocket::async_test]
async fn a_response_without_an_id_token_is_enough() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = signed_in(&app, &provider).await;
    provider.on_refresh_response(|reply| reply.remove("id_token"));
    assert!(token_for(&browser, ORDERS).await.starts_with("at-"));
}

#[rocket::async_test]
async fn without_a_refresh_token_the_provider_is_not_asked() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with("oidc.session.tokens", "access_token id_token");
    let browser = signed_in(&app, &provider).await;
    let expected = "500 no_refresh_token: the session has no refresh token";
    assert_eq!(token_for(&browser, ORDERS).await, expected);
    assert_eq!(provider.count(TOKEN), 1);

    let app = App::new(&provider)
        .with("oidc.enabled", false)
        .with("oidc.testing_profile", json!({ "sub": "tess" }));
    let browser = open(&app).await;
    let expected = "500 disabled: OpenID Connect is disabled: no provider issues tokens for other APIs";
    assert_eq!(token_for(&browser, ORDERS).await, expected);
}

/// The next response would set its new refresh token.
#[rocket::async_test]
async fn after_its_response_a_session_in_cookies_has_cached_tokens_only() {
    let provider = TestProvider::start().await;
    for (store, expected) in [
        (
            "cookie",
            "500 response_already_sent: the response headers were sent, and the session is kept in cookies",
        ),
        ("memory", "at-"),
    ] {
        let app = App::new(&provider).with("oidc.session.store", store);
        let browser = signed_in(&app, &provider).await;
        let orders = token_for(&browser, ORDERS).await;
        fetch(&browser, "/keep").await;
        assert_eq!(fetch(&browser, &format!("/kept?resource={ORDERS}")).await, orders);
        let stock = fetch(&browser, &format!("/kept?resource={STOCK}")).await;
        assert!(stock.starts_with(expected), "{stock}");
    }
}

#[rocket::async_test]
async fn a_session_that_outlived_its_lifetime_has_no_tokens() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with_all(json!({
        "session": { "store": "memory", "absolute_timeout": "2h", "idle_timeout": "1h" },
    }));
    provider.on_refresh_response(|reply| reply.set("expires_in", 86_400));
    let browser = signed_in(&app, &provider).await;
    let token = token_for(&browser, ORDERS).await;
    fetch(&browser, "/keep").await;
    let of_kept = format!("/kept?resource={ORDERS}");
    app.advance(Duration::from_secs(7_199));
    assert_eq!(fetch(&browser, &of_kept).await, token);
    app.advance(Duration::from_secs(1));
    let expected = "401 session_expired: the session's lifetime has ended";
    assert_eq!(fetch(&browser, &of_kept).await, expected);
}

/// It takes the rotated refresh token for what it is: a session that was not refreshed.
#[rocket::async_test]
async fn a_forced_refresh_follows_a_token_for_an_api() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with("oidc.session.store", "memory");
    let [(one, _), (other, store)] = nodes(&app, &provider).await;
    let id = fetch(&one, "/session-id").await;
    let [own, _] = own_tokens(&one).await;
    app.advance(Duration::from_secs(60));
    let held = provider.hold(TOKEN);
    let calls = join(token_for(&one, ORDERS), async {
        provider.until_requested(TOKEN, 2).await;
        fetch(&other, &format!("/refresh-session/{id}")).await
    });
    let release = async {
        store.until_lock_is_refused().await;
        held.release();
    };
    let ((token, refreshed), ()) = join(calls, release).await;
    assert!(token.starts_with("at-"), "{token}");
    assert_eq!(refreshed, "refreshed");
    assert_ne!(own_tokens(&one).await[0], own);
    assert_eq!(provider.count(TOKEN), 3);
}
