//! Ends that a store, another node or a sign-in could lose: by a write in between, an answer that does not come, or
//! a node with other settings.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rocket::{
    Request,
    futures::future::{join, join3},
    http::Status,
    routes,
    serde::json::json,
};
use rocket_openidconnect::{Events, NewSignIn, Refused, RelyingParty};

use crate::{
    common::{App, assert_signed_out, bring, locked, restarts},
    ended_sign_ins::{NAMED, Named, log_out, sessions},
    records::{another_with_cookies, carry_cookies, give_cookies, session_cookies},
    support::{Browser, Call, Gate, TestProvider, TestStore, case, until},
};

/// Ends the user's sessions at each sign-in, and has an answer of the store held in the one that `held` is set for.
#[derive(Clone)]
struct OneSession {
    store: TestStore,
    held: Arc<Mutex<Option<(usize, Gate)>>>,
}

#[rocket::async_trait]
impl Events for OneSession {
    async fn after_authorize(&self, request: &Request<'_>, signed_in: &mut NewSignIn<'_>) -> Result<(), Refused> {
        let held = locked(&self.held).take();
        if let Some((number, gate)) = &held {
            self.store.hold_answer(Call::Entries, *number, gate);
        }
        let rp = request.rocket().state::<RelyingParty>().unwrap();
        rp.end_sessions(signed_in.subject()).await.unwrap();
        if let Some((_, gate)) = held {
            wait_unless_reached(&gate).await;
        }
        Ok(())
    }
}

/// Waits at the gate, if no answer of the store was held there.
async fn wait_unless_reached(gate: &Gate) {
    if !gate.was_reached() {
        gate.wait().await;
    }
}

async fn node(app: &App, store: &TestStore) -> Browser {
    Browser::open(app.over(store).rocket().mount("/", routes![sessions])).await
}

/// With sessions in cookies, and their ends in the store that the app brings: it takes precedence over the address.
fn in_cookies(app: App) -> App {
    app.with("oidc.session.store", "cookie")
        .with("oidc.session.store_url", "sqlite://unused.db")
}

/// A session lives this long at most.
fn with_lifetime(provider: &TestProvider, lifetime: &str) -> App {
    in_cookies(App::local(provider))
        .with("oidc.session.idle_timeout", lifetime)
        .with("oidc.session.absolute_timeout", lifetime)
}

fn in_mode(app: App, is_in_cookies: bool) -> App {
    if is_in_cookies { in_cookies(app) } else { app }
}

/// What the app ends itself is not meant for the sign-in. What another node ends meanwhile is, and is not
/// overwritten by it.
#[rocket::async_test]
async fn an_end_at_another_node_while_the_app_ends_sessions_ends_the_sign_in() {
    for is_in_cookies in [true, false] {
        for was_ended_before in [false, true] {
            for named in NAMED {
                for held_read in 1..=3 {
                    case(&format!(
                        "{is_in_cookies}, {was_ended_before}, {named:?}, read {held_read}"
                    ));
                    let provider = TestProvider::start().await;
                    let app = in_mode(App::local(&provider), is_in_cookies);
                    let store = TestStore::with_clock(&app.clock());
                    let events = OneSession {
                        store: store.clone(),
                        held: Arc::default(),
                    };
                    let rocket = app.over(&store).rocket_with(events.clone());
                    let browser = Browser::open(rocket).await;
                    let other = node(&app, &store.another()).await;
                    other.sign_in(&provider, "/me").await.is(Status::Ok);
                    if was_ended_before {
                        log_out(&other, &provider, named).await;
                        app.advance(Duration::from_secs(60));
                    }

                    let callback = browser.begin_sign_in(&provider, "/me").await;
                    let gate = Gate::closed();
                    *locked(&events.held) = Some((held_read, gate.clone()));
                    let (page, ()) = join(bring(&browser, &callback), async {
                        gate.until_reached().await;
                        log_out(&other, &provider, named).await;
                        gate.open();
                    })
                    .await;
                    restarts(&page, &provider);
                    assert_signed_out(&browser).await;
                    assert_signed_out(&other).await;
                    // The user signs in again, and the app ends the sessions again.
                    let page = browser.follow(&provider, page).await;
                    page.is(Status::Ok).sees("alice");
                    browser.visit("/me").await.is(Status::Ok);
                }
            }
        }
    }
}

/// An end is noted for as long as the session lives that ends last. It is not known yet while one begins.
#[rocket::async_test]
async fn an_end_is_stored_for_as_long_as_a_session_lives_that_begins_meanwhile() {
    for held_read in [1, 2] {
        let provider = TestProvider::start().await;
        let (short, long) = (with_lifetime(&provider, "1h"), with_lifetime(&provider, "24h"));
        let store = TestStore::with_clock(&short.clock());
        let one = node(&short, &store).await;
        let other = node(&long, &store.another()).await;
        one.sign_in(&provider, "/me").await.is(Status::Ok);
        let callback = other.begin_sign_in(&provider, "/me").await;
        let gate = Gate::closed();
        store.hold_answer(Call::Entries, held_read, &gate);
        join(
            async {
                log_out(&one, &provider, Named::Sub).await;
                wait_unless_reached(&gate).await;
            },
            async {
                gate.until_reached().await;
                let _ = bring(&other, &callback).await;
                gate.open();
            },
        )
        .await;
        let cookies = session_cookies(&other);
        for passed in [Duration::ZERO, Duration::from_secs(2 * 60 * 60)] {
            short.advance(passed);
            long.advance(passed);
            // A browser that was signed out has no cookies any more.
            assert_signed_out(&another_with_cookies(&other, &cookies)).await;
        }
    }
}

/// No browser has it, so no sign-out would end it.
#[rocket::async_test]
async fn a_session_that_was_stored_without_an_answer_is_removed() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    let store = TestStore::with_clock(&app.clock());
    let browser = node(&app, &store).await;
    let callback = browser.begin_sign_in(&provider, "/me").await;
    store.lose_answers(Call::Create);
    let page = bring(&browser, &callback).await;
    page.is(Status::ServiceUnavailable);
    browser.visit("/sessions").await.sees("0");
    store.recover();
    bring(&browser, &callback).await.redirects_to("/me");
    browser.visit("/me").await.is(Status::Ok).sees("alice");
    browser.visit("/sessions").await.sees("1");
}

/// What it does not answer for may be an end.
#[rocket::async_test]
async fn a_store_that_leaves_out_an_end_is_an_outage() {
    let provider = TestProvider::start().await;
    let app = in_cookies(App::local(&provider));
    let store = TestStore::with_clock(&app.clock());
    let browser = node(&app, &store).await;
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    store.omit_entries(Call::Entries, 1);
    let page = browser.visit("/me").await;
    page.is(Status::ServiceUnavailable);
    store.recover();
    browser.visit("/me").await.is(Status::Ok).sees("alice");
}

/// At whichever node it arrives, while the sign-in goes on or after it.
#[rocket::async_test]
async fn an_identical_callback_of_an_ended_sign_in_restarts_at_another_node_too() {
    for is_in_cookies in [true, false] {
        for comes_later in [false, true] {
            case(&format!("{is_in_cookies}, {comes_later}"));
            let provider = TestProvider::start().await;
            let app = in_mode(App::local(&provider), is_in_cookies);
            let store = TestStore::with_clock(&app.clock());
            let (one, other) = (node(&app, &store).await, node(&app, &store).await);
            let callback = one.begin_sign_in(&provider, "/me").await;
            carry_cookies(&one, &other);
            let held = provider.hold("/userinfo");
            let (first, mut second, ()) = join3(
                bring(&one, &callback),
                async {
                    provider.until_requested("/userinfo", 1).await;
                    if !comes_later {
                        Some(bring(&other, &callback).await)
                    } else {
                        None
                    }
                },
                async {
                    provider.until_requested("/userinfo", 1).await;
                    log_out(&one, &provider, Named::Sub).await;
                    held.release();
                },
            )
            .await;
            if comes_later {
                second = Some(bring(&other, &callback).await);
            }
            restarts(&first, &provider);
            let second = second.unwrap();
            restarts(&second, &provider);
            assert_eq!(provider.count("/token"), 1);
            // The new attempt knows the end.
            let page = other.follow(&provider, second).await;
            page.is(Status::Ok).sees("alice");
            assert_eq!(provider.count("/token"), 2);
        }
    }
}

/// The attempt itself says which ends are from before it.
#[rocket::async_test]
async fn a_sign_in_survives_a_store_that_fails_at_the_first_read() {
    for is_ended_again in [false, true] {
        for is_in_cookies in [true, false] {
            case(&format!("{is_ended_again}, {is_in_cookies}"));
            let provider = TestProvider::start().await;
            let app = in_mode(App::local(&provider), is_in_cookies);
            let store = TestStore::with_clock(&app.clock());
            let browser = node(&app, &store).await;
            let callback = browser.begin_sign_in(&provider, "/me").await;
            let held = provider.hold("/userinfo");
            let (page, ()) = join(bring(&browser, &callback), async {
                provider.until_requested("/userinfo", 1).await;
                log_out(&browser, &provider, Named::Sub).await;
                held.release();
            })
            .await;
            restarts(&page, &provider);
            let callback = provider.authorize(page.location.as_deref().unwrap());
            if is_ended_again {
                log_out(&browser, &provider, Named::Sub).await;
            }
            store.lose_answer(Call::EntriesWithTtl, 1);
            let page = bring(&browser, &callback).await;
            if is_ended_again {
                page.is(Status::BadRequest)
                    .sees("You were signed out during this sign-in.");
                assert_signed_out(&browser).await;
            } else {
                page.redirects_to("/me");
                browser.visit("/me").await.is(Status::Ok).sees("alice");
            }
        }
    }
}

/// Another node has a longer `session.absolute_timeout`, and its sessions live on there.
#[rocket::async_test]
async fn an_end_is_kept_for_as_long_as_its_session_lives_at_another_node() {
    let provider = TestProvider::start().await;
    let (short, long) = (with_lifetime(&provider, "1h"), with_lifetime(&provider, "24h"));
    let store = TestStore::with_clock(&short.clock());
    let one = node(&short, &store).await;
    let other = node(&long, &store.another()).await;
    other.sign_in(&provider, "/me").await.is(Status::Ok);
    let copy = other.another();
    give_cookies(&copy, &session_cookies(&other));
    carry_cookies(&other, &one);

    store.fail_all("cut");
    let page = one.submit("/oidc/logout", "").await;
    page.is(Status::ServiceUnavailable);
    for app in [&short, &long] {
        app.advance(Duration::from_secs(2 * 60 * 60));
    }
    copy.visit("/me").await.is(Status::Ok).sees("alice");
    store.recover();
    let next = one.another();
    provider.user_claims(json!({ "sub": "bob" }));
    next.sign_in(&provider, "/me").await.is(Status::Ok);
    until("the end is recorded", async || {
        copy.fetch("/me").await.status != Status::Ok.code
    })
    .await;
    assert_signed_out(&copy).await;
}
