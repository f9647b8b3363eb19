//! The end of a user's sessions, beside their sign-ins: what began before it ends, whatever the clocks of nodes
//! say, and what began after it stays.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rocket::{
    Request,
    futures::future::join,
    get,
    http::Status,
    routes,
    serde::json::{Json, Value, json},
};
use rocket_openidconnect::{Clock, Events, NewSignIn, Oidc, Refused, RelyingParty};
use tempfile::TempDir;

use crate::{
    common::{App, NOW, assert_signed_out, bring, frontchannel_logout, locked, pages, restarts, sqlite_url},
    records::{carry_cookies, give_cookies, session_cookies},
    support::{Browser, Call, Gate, TestProvider, TestStore, case},
};

/// Where sessions and ends are: `store`, and whether there is a database.
const MODES: [(&str, bool); 4] = [("cookie", false), ("cookie", true), ("memory", false), ("sql", true)];

/// Whom a logout token names.
#[derive(Clone, Copy, Debug)]
pub enum Named {
    Sub,
    Sid,
    Both,
}

pub const NAMED: [Named; 3] = [Named::Sub, Named::Sid, Named::Both];

fn in_mode(provider: &TestProvider, mode: (&str, bool), directory: &TempDir) -> App {
    let app = App::local(provider).with("oidc.session.store", mode.0);
    if mode.1 {
        app.with("oidc.session.store_url", sqlite_url(directory))
    } else {
        app
    }
}

/// A logout token for the latest sign-in, from the provider's own HTTP client.
pub async fn log_out(node: &Browser, provider: &TestProvider, named: Named) {
    let token = provider.logout_token(|token| match named {
        Named::Sub => token.remove("sid"),
        Named::Sid => token.remove("sub"),
        Named::Both => {}
    });
    node.post_logout_token(&token).await.is(Status::Ok);
}

/// How many codes were exchanged.
fn exchanges(provider: &TestProvider) -> usize {
    let requests = provider.requests_to("/token");
    let with_code = |r: &&crate::support::RecordedRequest| r.form_value("code").is_some();
    requests.iter().filter(with_code).count()
}

#[rocket::async_test]
async fn a_logout_by_the_provider_ends_earlier_sessions_despite_clock_skew() {
    for store in ["cookie", "sql"] {
        for ahead in [-5, 0, 5] {
            for named in NAMED {
                case(&format!("{store}, {ahead} s ahead, {named:?}"));
                let (provider, directory) = (TestProvider::start().await, TempDir::new().unwrap());
                let app = in_mode(&provider, (store, true), &directory);
                let one = app.open().await;
                let clock = Clock::fixed_at(NOW + ahead);
                let fairing = Oidc::fairing().clock(clock.clone());
                let other = Browser::open(app.bare().attach(fairing).mount("/", pages())).await;

                one.sign_in(&provider, "/me").await.is(Status::Ok);
                let second = one.another();
                provider.user_claims(json!({ "sub": "bob" }));
                second.sign_in(&provider, "/me").await.is(Status::Ok);
                provider.user_claims(json!({ "sub": "alice" }));
                let first = one.another();
                first.sign_in(&provider, "/me").await.is(Status::Ok);
                for it in [&app.clock(), &clock] {
                    it.advance(Duration::from_secs(2));
                }
                carry_cookies(&first, &other);
                other.visit("/me").await.is(Status::Ok);
                log_out(&other, &provider, named).await;
                assert_signed_out(&first).await;
                assert_signed_out(&other).await;
                second.visit("/me").await.is(Status::Ok).sees("bob");

                // At once, at either node, and of the other node's browser.
                for (here, there) in [(&first, &other), (&other, &first)] {
                    here.sign_in(&provider, "/me").await.is(Status::Ok);
                    here.visit("/me").await.is(Status::Ok).sees("alice");
                    carry_cookies(here, there);
                    there.visit("/me").await.is(Status::Ok).sees("alice");
                    log_out(there, &provider, named).await;
                    assert_signed_out(here).await;
                    assert_signed_out(there).await;
                }
            }
        }
    }
}

/// The provider ended the sessions for which it had issued the code.
#[rocket::async_test]
async fn a_sign_in_that_is_under_way_is_ended_with_the_sessions_of_its_user() {
    for mode in MODES {
        for named in NAMED {
            for moment in ["/token", "/userinfo"] {
                case(&format!("{mode:?}, {named:?}, while {moment} is asked"));
                let (provider, directory) = (TestProvider::start().await, TempDir::new().unwrap());
                let app = in_mode(&provider, mode, &directory);
                let browser = app.open().await;
                let callback = browser.begin_sign_in(&provider, "/me").await;
                let held = provider.hold(moment);
                let (page, ()) = join(bring(&browser, &callback), async {
                    provider.until_requested(moment, 1).await;
                    log_out(&browser, &provider, named).await;
                    held.release();
                })
                .await;
                restarts(&page, &provider);
                provider.until_requested("/revoke", 2).await;
                assert_signed_out(&browser).await;

                // The user signs in again, is signed in, and stays it.
                let page = browser.follow(&provider, page).await;
                page.is(Status::Ok).sees("alice");
                assert_eq!(page.url, "/me");
                app.advance(Duration::from_secs(60));
                browser.visit("/me").await.is(Status::Ok);
                assert_eq!(exchanges(&provider), 2);
                log_out(&browser, &provider, named).await;
                assert_signed_out(&browser).await;
            }
        }
    }
}

/// Once more by itself, and not for ever.
#[rocket::async_test]
async fn a_sign_in_that_is_ended_again_and_again_is_a_page() {
    for mode in MODES {
        let (provider, directory) = (TestProvider::start().await, TempDir::new().unwrap());
        let app = in_mode(&provider, mode, &directory);
        let browser = app.open().await;
        let mut callback = browser.begin_sign_in(&provider, "/me").await;
        for times in [1, 2] {
            let held = provider.hold("/userinfo");
            let (page, ()) = join(bring(&browser, &callback), async {
                provider.until_requested("/userinfo", times).await;
                log_out(&browser, &provider, Named::Sub).await;
                held.release();
            })
            .await;
            if times == 1 {
                restarts(&page, &provider);
                callback = provider.authorize(page.location.as_deref().unwrap());
                continue;
            }
            page.is(Status::BadRequest)
                .sees("You were signed out during this sign-in.")
                .sees("<a class=\"button\" href=\"&#x2F;oidc&#x2F;login?next=%2Fme\">");
        }
        assert_eq!(
            app.failures(),
            ["the sessions of the user were ended while they signed in"]
        );
        assert_signed_out(&browser).await;
        provider.until_requested("/revoke", 4).await;
        // By the button.
        browser.sign_in(&provider, "/me").await.is(Status::Ok);
        browser.visit("/me").await.is(Status::Ok);
    }
}

/// What an app does about a sign-in: waits once, or ends the other sessions of the user.
#[derive(Clone, Default)]
struct Asked {
    gate: Arc<Mutex<Option<Gate>>>,
    ends_others: Arc<AtomicBool>,
}

#[rocket::async_trait]
impl Events for Asked {
    async fn after_authorize(&self, request: &Request<'_>, signed_in: &mut NewSignIn<'_>) -> Result<(), Refused> {
        let gate = locked(&self.gate).take();
        if let Some(gate) = gate {
            gate.wait().await;
        }
        if self.ends_others.load(Ordering::SeqCst) {
            let rp = request.rocket().state::<RelyingParty>().unwrap();
            rp.end_sessions(signed_in.subject()).await.unwrap();
        }
        Ok(())
    }
}

/// After UserInfo and before there is a session that an end could find.
#[rocket::async_test]
async fn an_end_while_the_app_is_asked_ends_the_sign_in() {
    for mode in MODES {
        for named in NAMED {
            for ends_others in [false, true] {
                case(&format!("{mode:?}, {named:?}, {ends_others}"));
                let (provider, directory) = (TestProvider::start().await, TempDir::new().unwrap());
                let app = in_mode(&provider, mode, &directory);
                let asked = Asked::default();
                let browser = Browser::open(app.rocket_with(asked.clone())).await;
                let callback = browser.begin_sign_in(&provider, "/me").await;
                let gate = Gate::closed();
                *locked(&asked.gate) = Some(gate.clone());
                asked.ends_others.store(ends_others, Ordering::SeqCst);
                let (page, ()) = join(bring(&browser, &callback), async {
                    gate.until_reached().await;
                    log_out(&browser, &provider, named).await;
                    gate.open();
                })
                .await;
                restarts(&page, &provider);
                provider.until_requested("/revoke", 2).await;
                assert_signed_out(&browser).await;
                let page = browser.follow(&provider, page).await;
                page.is(Status::Ok).sees("alice");
                browser.visit("/me").await.is(Status::Ok);
            }
        }
    }
}

/// An app may let each user have one session.
#[rocket::async_test]
async fn an_app_that_ends_the_other_sessions_at_a_sign_in_keeps_this_one() {
    for mode in MODES {
        let (provider, directory) = (TestProvider::start().await, TempDir::new().unwrap());
        let app = in_mode(&provider, mode, &directory);
        let asked = Asked::default();
        asked.ends_others.store(true, Ordering::SeqCst);
        let first = Browser::open(app.rocket_with(asked)).await;
        first.sign_in(&provider, "/me").await.is(Status::Ok);
        let second = first.another();
        // Long after, and at once.
        for (here, there, passed) in [(&second, &first, 60), (&first, &second, 0)] {
            there.visit("/me").await.is(Status::Ok);
            app.advance(Duration::from_secs(passed));
            here.sign_in(&provider, "/me").await.is(Status::Ok);
            here.visit("/me").await.is(Status::Ok);
            assert_signed_out(there).await;
        }
    }
}

/// Sign-out, the provider's word of it, and the next sign-in, within a second.
#[rocket::async_test]
async fn a_user_who_signs_out_and_in_again_at_once_is_signed_in() {
    for mode in MODES {
        for named in NAMED {
            case(&format!("{mode:?}, {named:?}"));
            let (provider, directory) = (TestProvider::start().await, TempDir::new().unwrap());
            let app = in_mode(&provider, mode, &directory);
            let browser = app.open().await;
            browser.sign_in(&provider, "/me").await.is(Status::Ok);
            for _ in 0..2 {
                let kept = session_cookies(&browser);
                browser.submit("/oidc/logout", "").await.redirects_to("/");
                log_out(&browser, &provider, named).await;
                let page = browser.sign_in(&provider, "/me").await;
                page.is(Status::Ok).sees("alice");
                browser.visit("/me").await.is(Status::Ok);
                let copy = browser.another();
                give_cookies(&copy, &kept);
                assert_signed_out(&copy).await;
                browser.visit("/me").await.is(Status::Ok);
            }
        }
    }
}

#[rocket::async_test]
async fn a_logout_from_before_a_sign_in_does_not_end_it_and_a_newer_one_does() {
    for mode in MODES {
        for named in NAMED {
            case(&format!("{mode:?}, {named:?}"));
            let (provider, directory) = (TestProvider::start().await, TempDir::new().unwrap());
            let app = in_mode(&provider, mode, &directory);
            let first = app.open().await;
            first.sign_in(&provider, "/me").await.is(Status::Ok);
            log_out(&first, &provider, named).await;
            // The database goes by its own clock, in which this is a moment.
            app.advance(Duration::from_secs(10));
            let second = first.another();
            second.sign_in(&provider, "/me").await.is(Status::Ok);
            let codes = exchanges(&provider);
            assert!(codes == 2 || mode.1, "{codes} codes");
            app.advance(Duration::from_secs(600));
            second.visit("/me").await.is(Status::Ok);
            assert_signed_out(&first).await;
            log_out(&first, &provider, named).await;
            assert_signed_out(&second).await;
        }
    }
}

/// A code that was issued before the sessions were ended, and is brought long after it.
#[rocket::async_test]
async fn a_callback_from_before_a_logout_by_the_provider_begins_no_session() {
    for mode in MODES {
        let (provider, directory) = (TestProvider::start().await, TempDir::new().unwrap());
        let app = in_mode(&provider, mode, &directory);
        let browser = app.open().await;
        let callback = browser.begin_sign_in(&provider, "/me").await;
        app.advance(Duration::from_secs(60));
        log_out(&browser, &provider, Named::Sub).await;
        app.advance(Duration::from_secs(60));
        let page = bring(&browser, &callback).await;
        restarts(&page, &provider);
        assert_signed_out(&browser).await;
    }
}

/// A page of the provider, without a signature, for a sign-in that has no session yet.
#[rocket::async_test]
async fn a_frame_ends_a_sign_in_that_is_under_way() {
    for mode in MODES {
        let (provider, directory) = (TestProvider::start().await, TempDir::new().unwrap());
        let app = in_mode(&provider, mode, &directory).with("oidc.frontchannel_logout", true);
        let browser = app.open().await;
        let callback = browser.begin_sign_in(&provider, "/me").await;
        let held = provider.hold("/userinfo");
        let (page, ()) = join(bring(&browser, &callback), async {
            provider.until_requested("/userinfo", 1).await;
            for sid in ["sid-1", "sid-2"] {
                let page = browser
                    .another()
                    .visit(&frontchannel_logout(&provider.issuer(), sid))
                    .await;
                page.is(Status::Ok);
            }
            held.release();
        })
        .await;
        restarts(&page, &provider);
        // There was no sign-in for the other one, so that nothing was noted for it.
        let page = browser.follow(&provider, page).await;
        page.is(Status::Ok).sees("alice");
        assert_eq!(exchanges(&provider), 2);
    }
}

/// How many sessions the store has of the user, as far as it can list them.
#[get("/sessions")]
pub async fn sessions(rp: &RelyingParty) -> Json<Value> {
    let sessions = rp.sessions_of("alice").await.unwrap();
    Json(json!(sessions.map(|sessions| sessions.len())))
}

async fn with_store(app: &App, store: &TestStore) -> Browser {
    Browser::open(app.over(store).rocket().mount("/", routes![sessions])).await
}

/// The end looks for sessions before there is this one.
#[rocket::async_test]
async fn a_session_that_is_stored_after_an_end_was_noted_is_removed() {
    for named in NAMED {
        let provider = TestProvider::start().await;
        let app = App::local(&provider);
        let store = TestStore::new();
        let browser = with_store(&app, &store).await;
        let callback = browser.begin_sign_in(&provider, "/me").await;
        let gate = Gate::closed();
        store.hold(Call::Create, &gate);
        let (page, ()) = join(bring(&browser, &callback), async {
            gate.until_reached().await;
            log_out(&browser, &provider, named).await;
            gate.open();
        })
        .await;
        restarts(&page, &provider);
        provider.until_requested("/revoke", 2).await;
        browser.visit("/sessions").await.sees("0");
        browser.follow(&provider, page).await.is(Status::Ok).sees("alice");
        browser.visit("/sessions").await.sees("1");
    }
}

/// Notes of an earlier version, and whatever else: nobody knows how old they are.
#[rocket::async_test]
async fn an_unreadable_end_in_the_store_ends_earlier_sessions() {
    for text in [
        "",
        ".",
        "1800000000000",
        "x.y",
        "x.99999999999999999999999",
        "\u{1F600}",
    ] {
        let provider = TestProvider::start().await;
        let app = App::local(&provider);
        let store = TestStore::new();
        let browser = with_store(&app, &store).await;
        browser.sign_in(&provider, "/me").await.is(Status::Ok);
        store.write_ends_as(text);
        log_out(&browser, &provider, Named::Sub).await;
        assert_signed_out(&browser).await;
        // It is there for hours, and keeps nobody from signing in.
        app.advance(Duration::from_secs(3600));
        let callback = browser.begin_sign_in(&provider, "/me").await;
        let page = bring(&browser, &callback).await;
        restarts(&page, &provider);
        browser.follow(&provider, page).await.is(Status::Ok);
        browser.visit("/me").await.is(Status::Ok);
    }
}

#[rocket::async_test]
async fn a_store_that_does_not_answer_for_all_names_is_an_outage() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    let store = TestStore::new();
    let browser = with_store(&app, &store).await;
    store.omit_entries(Call::EntriesWithTtl, usize::MAX);
    let page = browser.sign_in(&provider, "/me").await;
    page.is(Status::ServiceUnavailable);
    browser.visit("/sessions").await.sees("0");
}

/// One account does not fill the memory of a node, nor end the sessions of others.
#[rocket::async_test]
async fn one_user_has_a_hundred_sessions_in_memory() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider)
        .with("oidc.session.store", "memory")
        .with("oidc.session.max_sessions", 150)
        .with("oidc.user_info_enabled", false);
    let bob = app.open().await;
    provider.user_claims(json!({ "sub": "bob" }));
    bob.sign_in(&provider, "/me").await.is(Status::Ok);
    provider.user_claims(json!({ "sub": "alice" }));
    let mut browsers = vec![];
    for _ in 0..102 {
        let browser = bob.another();
        // Which is the oldest.
        app.advance(Duration::from_millis(1));
        browser.sign_in(&provider, "/me").await.is(Status::Ok);
        browsers.push(browser);
    }
    for browser in &browsers[..2] {
        browser.fetch("/me").await.is(Status::Unauthorized);
    }
    for browser in &browsers[2..] {
        browser.fetch("/me").await.is(Status::Ok);
    }
    bob.fetch("/me").await.is(Status::Ok);
}
