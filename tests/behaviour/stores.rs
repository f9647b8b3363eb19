//! Where sessions live: in cookies, in memory, and in a store of the app's own that may be down.

use std::{collections::HashSet, time::Duration};

use rocket::{
    Build, Rocket, get,
    http::Status,
    post, routes,
    serde::json::{Json, Value, json},
};
use rocket_openidconnect::{
    __private::SessionCookies,
    LoggedIn, RelyingParty,
    store::{MemoryStore, SessionStore, contract},
};
use url::Url;

use crate::{
    common::{App, KEY, Log, NOW, assert_signed_out, opened_session, session_pages},
    records::{Numbers, carry_cookies, give_cookies, session_cookies},
    support::{Browser, Call, TestProvider, TestStore},
};

#[get("/sessions/<subject>")]
async fn sessions(subject: &str, rp: &RelyingParty) -> Json<Value> {
    let sessions = rp.sessions_of(subject).await.expect("the store is there");
    Json(json!(sessions.map(|sessions| {
        let entry = |s: &rocket_openidconnect::SessionInfo| {
            json!([s.id, s.started.unix_timestamp(), s.last_seen.unix_timestamp()])
        };
        sessions.iter().map(entry).collect::<Vec<_>>()
    })))
}

/// The access token after a refresh, or why there was none.
#[post("/refresh")]
async fn refresh(user: LoggedIn) -> String {
    let user = match user.refresh().await {
        Ok(user) => user,
        Err(error) => return error.to_string(),
    };
    match user.access_token() {
        Ok(token) => token.expose().to_owned(),
        Err(error) => error.to_string(),
    }
}

fn rocket(app: &App) -> Rocket<Build> {
    app.rocket().mount("/", session_pages()).mount("/", routes![sessions])
}

async fn signed_in(app: &App, provider: &TestProvider) -> Browser {
    Browser::signed_in(rocket(app), provider).await
}

#[rocket::async_test]
async fn the_memory_store_keeps_its_promises() {
    contract::check(&MemoryStore::new(1_000)).await;
}

/// Identity, claims, times and tokens, in one record.
#[rocket::async_test]
async fn the_cookie_of_an_ordinary_session_is_small() {
    let provider = TestProvider::start().await;
    let browser = Browser::open(rocket(&App::new(&provider))).await;
    let page = browser.visit("/oidc/login?next=/me").await;
    let location = Url::parse(page.location.as_deref().unwrap()).unwrap();
    let mut parameters = location.query_pairs();
    let nonce = parameters.find(|(name, _)| name == "nonce").unwrap().1;
    browser.follow(&provider, page.clone()).await.is(Status::Ok);
    let [(_, value)] = &session_cookies(&browser)[..] else {
        panic!("not one cookie");
    };
    assert!(value.len() <= 1500, "{} bytes", value.len());
    let session = opened_session(&browser, &provider);
    assert_eq!(session["id"].as_str().map(str::len), Some(43));
    assert_eq!(session["claims"]["email"], json!("alice@example.com"));
    let me: Value = browser.visit("/me").await.json();
    for absent in ["nonce", "at_hash"] {
        assert_eq!(me.get(absent), None, "{absent}");
    }
    assert_eq!(session["nonce"].as_str(), Some(&*nonce));
    for token in ["access_token", "refresh_token", "id_token"] {
        assert!(session[token].is_string(), "{token}");
    }
}

/// A part of another session is no use, least of all to refresh with.
#[rocket::async_test]
async fn tokens_of_another_session_are_not_used() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let large = |sub: &str| {
        let big = Numbers::seeded(1).text(3000);
        provider.user_claims(json!({ "sub": sub, "big": big }));
    };
    large("alice");
    let alice = signed_in(&app, &provider).await;
    let bob = alice.another();
    large("bob");
    bob.sign_in(&provider, "/me").await.is(Status::Ok);
    let (of_alice, of_bob) = (session_cookies(&alice), session_cookies(&bob));
    assert_eq!((of_alice.len(), of_bob.len()), (2, 2));

    give_cookies(&alice, &[of_alice[0].clone(), of_bob[1].clone()]);
    app.advance(Duration::from_secs(290));
    alice.fetch("/me").await.is(Status::Unauthorized);
    assert_eq!(provider.count("/token"), 2);
}

#[rocket::async_test]
async fn only_the_claims_of_the_setting_are_kept() {
    let provider = TestProvider::start().await;
    for store in ["cookie", "memory"] {
        let app = App::new(&provider)
            .with("oidc.session.claims", "email groups")
            .with("oidc.session.store", store);
        let browser = signed_in(&app, &provider).await;
        let me: Value = browser.visit("/me").await.json();
        let mut names: Vec<_> = me.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["aud", "auth_time", "email", "groups", "iss", "sid", "sub"]);
    }
}

#[rocket::async_test]
async fn tokens_that_are_too_large_are_an_error_that_names_them() {
    let provider = TestProvider::start().await;
    provider.on_token_response(|reply| reply.set("refresh_token", "r".repeat(9000)));
    let app = App::new(&provider);
    let browser = Browser::open(rocket(&app)).await;
    browser.sign_in(&provider, "/me").await.is(Status::BadGateway);
    let failures = app.failures();
    let (sizes, largest) = failures[0].split_once("; the largest parts are ").unwrap();
    assert!(sizes.ends_with(" bytes and its cookies hold 11400"), "{sizes}");
    assert!(
        largest.starts_with("the refresh token with 9000 bytes, the ID token with "),
        "{largest}"
    );

    for (key, value) in [
        ("oidc.session.tokens", "access_token"),
        ("oidc.session.store", "memory"),
    ] {
        signed_in(&App::new(&provider).with(key, value), &provider).await;
    }
}

/// Proxies refuse an answer of more than 4 KB of headers, unless they are told otherwise.
#[rocket::async_test]
async fn a_session_of_large_answers_is_warned_of_once() {
    for (length, expected) in [(1_500, 0), (4_500, 1)] {
        let provider = TestProvider::start().await;
        let big = Numbers::seeded(1).text(length);
        provider.user_claims(json!({ "sub": "alice", "big": big }));
        let log = Log::listen();
        let browser = signed_in(&App::new(&provider), &provider).await;
        for _ in 0..2 {
            let other = browser.another();
            other.sign_in(&provider, "/me").await.is(Status::Ok);
        }
        let lines = log.lines();
        let of_size = |line: &&String| line.contains("bytes of response headers; nginx");
        let warned: Vec<_> = lines.iter().filter(of_size).collect();
        assert_eq!(warned.len(), expected, "{lines:#?}");
        assert!(warned.iter().all(|line| line.starts_with("WARN: a session")));
    }
}

#[rocket::async_test]
async fn a_session_in_memory_has_only_its_id_in_the_browser() {
    let provider = TestProvider::start().await;
    provider.user_claims(json!({ "sub": "alice", "big": "x".repeat(20_000) }));
    let app = App::new(&provider).with("oidc.session.store", "memory");
    let browser = signed_in(&app, &provider).await;
    let [(_, value)] = &session_cookies(&browser)[..] else {
        panic!("not one cookie");
    };
    let keys = SessionCookies::new(KEY, &provider.issuer(), "app").unwrap();
    let id = keys.decrypt_id(value).expect("an id");
    assert_eq!(id.len(), 43);
    let me: Value = browser.visit("/me").await.json();
    assert_eq!(me["big"], json!("x".repeat(20_000)));
    // The name that the app knows is another one.
    let name = browser.visit("/session-id").await.body;
    assert!(name.len() == 43 && name != id);
}

#[rocket::async_test]
async fn a_session_in_memory_ends_by_its_times() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider).with("oidc.session.store", "memory");
    let browser = signed_in(&app, &provider).await;
    app.advance(Duration::from_secs(3599));
    let page = browser.visit("/me").await;
    assert_eq!(page.is(Status::Ok).set_cookies().len(), 1);
    app.advance(Duration::from_secs(3599));
    browser.visit("/me").await.is(Status::Ok);
    app.advance(Duration::from_secs(3600));
    assert_signed_out(&browser).await;
}

/// A new id at every sign-in, and the old session ends.
#[rocket::async_test]
async fn a_second_sign_in_has_a_new_id_and_ends_the_first_session() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with("oidc.session.store", "memory");
    let browser = signed_in(&app, &provider).await;
    let old = browser.another();
    give_cookies(&old, &session_cookies(&browser));
    old.visit("/me").await.is(Status::Ok);
    browser.sign_in(&provider, "/oidc/login?next=/me").await.is(Status::Ok);
    assert_signed_out(&old).await;
    browser.visit("/me").await.is(Status::Ok);
}

#[rocket::async_test]
async fn the_app_lists_and_ends_sessions() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider).with("oidc.session.store", "memory");
    let first = signed_in(&app, &provider).await;
    app.advance(Duration::from_secs(10));
    let second = first.another();
    second.sign_in(&provider, "/me").await.is(Status::Ok);
    app.advance(Duration::from_secs(360));
    first.visit("/me").await.is(Status::Ok);

    let (one, two) = (
        first.visit("/session-id").await.body,
        second.visit("/session-id").await.body,
    );
    assert_eq!(
        first.visit("/sessions/alice").await.json::<Value>(),
        json!([[one, NOW, NOW + 370], [two, NOW + 10, NOW + 370]])
    );
    assert_eq!(first.visit("/sessions/bob").await.json::<Value>(), json!([]));

    assert_eq!(first.visit(&format!("/end/{two}")).await.body, "Ok(true)");
    assert_eq!(first.visit(&format!("/end/{two}")).await.body, "Ok(false)");
    assert_signed_out(&second).await;
    first.visit("/me").await.is(Status::Ok);
    second.sign_in(&provider, "/me").await.is(Status::Ok);
    assert_eq!(first.visit("/end-all/alice").await.body, "Ok(Some(2))");
    for browser in [&first, &second] {
        assert_signed_out(browser).await;
    }
}

#[rocket::async_test]
async fn the_app_ends_sessions_in_cookies_and_cannot_list_them() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let first = signed_in(&app, &provider).await;
    let second = first.another();
    second.sign_in(&provider, "/me").await.is(Status::Ok);
    assert_eq!(first.visit("/sessions/alice").await.json::<Value>(), json!(null));
    let id = second.visit("/session-id").await.body;
    assert_eq!(first.visit(&format!("/end/{id}")).await.body, "Ok(true)");
    assert_signed_out(&second).await;
    first.visit("/me").await.is(Status::Ok);
    assert_eq!(first.visit("/end-all/alice").await.body, "Ok(None)");
    assert_signed_out(&first).await;
}

#[rocket::async_test]
async fn a_further_session_ends_the_oldest_one() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider)
        .with("oidc.session.store", "memory")
        .with("oidc.session.max_per_user", 2);
    let first = signed_in(&app, &provider).await;
    let (second, third) = (first.another(), first.another());
    for browser in [&second, &third] {
        app.advance(Duration::from_secs(1));
        browser.sign_in(&provider, "/me").await.is(Status::Ok);
    }
    assert_signed_out(&first).await;
    for browser in [&second, &third] {
        browser.visit("/me").await.is(Status::Ok);
    }
    let bob = first.another();
    provider.user_claims(json!({ "sub": "bob" }));
    bob.sign_in(&provider, "/me").await.is(Status::Ok);
    second.visit("/me").await.is(Status::Ok);
}

#[rocket::async_test]
async fn a_session_limit_that_cookies_cannot_enforce_is_logged() {
    let provider = TestProvider::start().await;
    let told = "WARN: `session.max_per_user` has no effect on sessions in cookies";
    for (store, limit, is_told) in [
        ("cookie", Some(2), true),
        ("cookie", None, false),
        ("memory", Some(2), false),
    ] {
        let log = Log::listen();
        let mut app = App::new(&provider).with("oidc.session.store", store);
        if let Some(limit) = limit {
            app = app.with("oidc.session.max_per_user", limit);
        }
        Browser::open(rocket(&app)).await;
        assert_eq!(log.lines().iter().any(|line| line == told), is_told);
    }
}

/// The settings changed in between.
#[rocket::async_test]
async fn a_session_in_memory_removes_the_cookies_of_the_one_before() {
    let provider = TestProvider::start().await;
    provider.user_claims(json!({ "sub": "alice", "big": Numbers::seeded(1).text(3000) }));
    let app = App::local(&provider);
    let before = signed_in(&app, &provider).await;
    let app = App::local(&provider).with("oidc.session.store", "memory");
    let after = Browser::open(rocket(&app)).await;
    carry_cookies(&before, &after);
    after.sign_in(&provider, "/me").await.is(Status::Ok);
    let (before, after) = (session_cookies(&before), session_cookies(&after));
    assert_eq!((before.len(), after.len()), (2, 1));
    assert_eq!(before[0].0, after[0].0, "the first cookie has one name");
}

/// A thousand sessions of one person end by one word of the provider.
#[rocket::async_test]
async fn a_thousand_sessions_end_by_one_sub() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider).with("oidc.user_info_enabled", false);
    // An own store: in that of the setting, one person has fewer.
    let store = TestStore::over(MemoryStore::new(2_000));
    let first = signed_in(&app.over(&store), &provider).await;
    let mut browsers = vec![];
    for _ in 1..1_000 {
        let browser = first.another();
        browser.sign_in(&provider, "/me").await.is(Status::Ok);
        browsers.push(browser);
    }
    let token = provider.logout_token(|token| token.remove("sid"));
    first.post_logout_token(&token).await.is(Status::Ok);
    browsers.push(first);
    for browser in &browsers {
        browser.fetch("/me").await.is(Status::Unauthorized);
    }
}

/// Two nodes of one app with one store.
async fn two_nodes(app: &App, store: &TestStore) -> (Browser, Browser) {
    let node = || rocket(&app.over(store)).mount("/", routes![refresh]);
    (Browser::open(node()).await, Browser::open(node()).await)
}

/// Nobody has it any more, and the next identical callback does not find it.
#[rocket::async_test]
async fn the_tokens_of_a_replaced_session_are_revoked_though_the_new_one_is_not_stored() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with("oidc.rp_initiated_logout", false);
    let store = TestStore::new();
    let (browser, _) = two_nodes(&app, &store).await;
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    provider.user_claims(json!({ "sub": "bob" }));
    let login = "/oidc/login?next=/me";
    let callback = browser.begin_sign_in(&provider, login).await;
    let path = callback.path_and_query();
    store.fail(Call::Create, "full");
    let page = browser.arrive_from_provider(&path).await;
    page.is(Status::ServiceUnavailable);
    provider.until_requested("/revoke", 2).await;
    store.recover();
    let page = browser.arrive_from_provider(&path).await;
    page.redirects_to("/me");
    browser.visit("/me").await.is(Status::Ok).sees("bob");
    // Those of the new session live.
    browser.submit("/oidc/logout", "").await.redirects_to("/");
    provider.until_requested("/revoke", 4).await;
    let tokens: HashSet<_> = provider.revoked_tokens().into_iter().collect();
    assert_eq!(tokens.len(), 4, "each once");
}

/// The provider does not send its new tokens a second time, and takes a second use of the old ones for theft.
#[rocket::async_test]
async fn the_tokens_of_a_refresh_survive_an_outage_of_the_store() {
    for signs_out in [false, true] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider).with("oidc.rp_initiated_logout", false);
        let store = TestStore::new();
        let (browser, _) = two_nodes(&app, &store).await;
        browser.sign_in(&provider, "/me").await.is(Status::Ok);
        app.advance(Duration::from_secs(285));
        let held = provider.hold("/token");
        let outage = async {
            provider.until_requested("/token", 2).await;
            store.fail_all("switched off");
            held.release();
        };
        rocket::futures::future::join(browser.fetch("/me"), outage).await;
        store.recover();
        app.advance(Duration::from_secs(120));
        if signs_out {
            browser.submit("/oidc/logout", "").await.redirects_to("/");
            provider.until_requested("/revoke", 2).await;
            let revoked = provider.requests_to("/revoke");
            let hints: Vec<_> = revoked.iter().map(|r| r.form_value("token_type_hint")).collect();
            assert!(hints.contains(&Some("refresh_token")), "{hints:?}");
            let spent = provider.last_request("/token");
            let spent = spent.form_value("refresh_token");
            assert!(revoked.iter().all(|request| request.form_value("token") != spent));
            continue;
        }
        browser.fetch("/me").await.is(Status::Ok);
        let sent = provider.requests_to("/token");
        let sent: Vec<_> = sent
            .iter()
            .filter_map(|request| request.form_value("refresh_token"))
            .collect();
        assert_eq!(sent.len(), 2, "{} refreshes", sent.len());
        assert_ne!(sent[0], sent[1]);
    }
}

/// Whether it has ended cannot be known then.
#[rocket::async_test]
async fn a_session_in_cookies_is_not_accepted_while_the_store_of_ends_is_down() {
    let provider = TestProvider::start().await;
    let app = || App::new(&provider);
    let before = signed_in(&app(), &provider).await;
    let app = app()
        .with("oidc.session.store", "cookie")
        .with("oidc.session.store_url", "redis://127.0.0.1:1");
    let after = Browser::open(rocket(&app)).await;
    carry_cookies(&before, &after);
    let page = after.visit("/me").await;
    assert_eq!(page.is(Status::ServiceUnavailable).set_cookies(), [""; 0]);
    assert_eq!(session_cookies(&after), session_cookies(&before));
}

#[rocket::async_test]
async fn a_store_that_is_down_is_503_and_does_not_sign_out() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let store = TestStore::new();
    let (browser, _) = two_nodes(&app, &store).await;
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    let cookies = browser.cookies();

    store.fail_all("switched off");
    let log = Log::listen();
    for page in [browser.visit("/me").await, browser.fetch("/me").await] {
        page.is(Status::ServiceUnavailable);
        assert_eq!(page.header("Retry-After"), Some("5"));
        assert_eq!(page.set_cookies(), [""; 0]);
    }
    log.has("ERROR: the session store is not reachable: switched off");
    browser.visit("/").await.is(Status::Ok).sees("\"logged_in\":false");
    assert_eq!(browser.cookies(), cookies);
    // Nobody can sign in, and is told so.
    let stranger = browser.another();
    let page = stranger.sign_in(&provider, "/me").await;
    page.is(Status::ServiceUnavailable);
    let page = stranger.sign_in(&provider, "/oidc/login?next=/me").await;
    page.is(Status::ServiceUnavailable)
        .sees("This site cannot save your sign-in right now.");
    assert_eq!(page.header("Retry-After"), Some("5"));
    // The provider is told that its logout failed, and may try again with the same token.
    let token = provider.logout_token(|token| token.set("sid", "sid-1"));
    browser.post_logout_token(&token).await.is(Status::BadRequest);

    store.recover();
    browser.visit("/me").await.is(Status::Ok).sees("alice");
    browser.post_logout_token(&token).await.is(Status::Ok);
    assert_signed_out(&browser).await;
}

#[rocket::async_test]
async fn a_session_of_one_node_is_one_of_the_other() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let store = TestStore::new();
    let (a, b) = two_nodes(&app, &store).await;
    a.sign_in(&provider, "/me").await.is(Status::Ok);
    carry_cookies(&a, &b);
    b.visit("/me").await.is(Status::Ok).sees("alice");

    // Twenty requests at both nodes when the tokens are due: one refresh.
    app.advance(Duration::from_secs(285));
    let held = provider.hold("/token");
    let requests = (0..20).map(|i| if i % 2 == 0 { a.fetch("/me") } else { b.fetch("/me") });
    let requests = rocket::futures::future::join_all(requests);
    let release = async {
        provider.until_requested("/token", 2).await;
        held.release();
    };
    let (pages, ()) = rocket::futures::future::join(requests, release).await;
    for page in &pages {
        page.is(Status::Ok);
    }
    assert_eq!(provider.count("/token"), 2);

    let token = provider.logout_token(|_| ());
    a.post_logout_token(&token).await.is(Status::Ok);
    assert_signed_out(&b).await;
}

/// Within ten seconds of a refresh at one node, none is forced at another.
#[rocket::async_test]
async fn a_forced_refresh_of_one_node_is_one_of_the_other() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let store = TestStore::new();
    let (a, b) = two_nodes(&app, &store).await;
    a.sign_in(&provider, "/me").await.is(Status::Ok);
    carry_cookies(&a, &b);
    let refreshed = async |browser: &Browser| {
        // A lock that was left behind would take longer.
        let page = rocket::tokio::time::timeout(Duration::from_secs(8), browser.submit("/refresh", ""));
        let token = page.await.expect("an answer").body;
        assert!(token.starts_with("at-"), "{token}");
        (provider.count("/token"), token)
    };
    let first = refreshed(&a).await;
    assert_eq!(first.0, 2);
    app.advance(Duration::from_secs(9));
    assert_eq!(refreshed(&b).await, first);
    app.advance(Duration::from_secs(1));
    let second = refreshed(&a).await;
    assert_eq!(second.0, 3);

    // Both at a time, while the provider is asked for tokens and then for the keys that they need.
    app.advance(Duration::from_secs(600));
    provider.rotate_rsa_key();
    let looks = provider.count("/jwks");
    let (tokens, keys) = (provider.hold("/token"), provider.hold("/jwks"));
    let release = async {
        provider.until_requested("/token", 4).await;
        store.until_lock_is_refused().await;
        tokens.release();
        provider.until_requested("/jwks", looks + 1).await;
        store.until_lock_is_refused().await;
        keys.release();
    };
    let (at_a, at_b, ()) = rocket::futures::future::join3(refreshed(&a), refreshed(&b), release).await;
    assert_eq!((at_a.0, &at_a.1), (4, &at_b.1));
    assert_ne!(at_a.1, second.1);
}

/// A record is sealed under the name of its session.
#[rocket::async_test]
async fn a_store_that_mixes_sessions_up_does_not_switch_users() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let store = TestStore::new();
    let (alice, bob) = two_nodes(&app, &store).await;
    alice.sign_in(&provider, "/me").await.is(Status::Ok);
    provider.user_claims(json!({ "sub": "bob" }));
    bob.sign_in(&provider, "/me").await.is(Status::Ok);

    let of_alice = alice.visit("/session-id").await.body;
    let of_alice = store.load(&of_alice).await.unwrap().unwrap();
    store.find_session(of_alice);
    alice.visit("/me").await.is(Status::Ok).sees("alice");
    bob.fetch("/me").await.is(Status::Unauthorized);
}
