//! Ends that a store, another node or a sign-in could lose: by a write in between, an answer that does not come, or
//! a node with other settings.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rocket::{
    Request,
    futures::future::{join, join3},
    get,
    http::Status,
    routes,
    serde::json::{Json, Value, json},
    tokio::{sync::Semaphore, task::yield_now, time::timeout},
};
use rocket_openidconnect::{
    Clock, Events, NewSignIn, Oidc, Refused, RelyingParty,
    store::{MemoryStore, SessionStore, StoreError, StoredSession},
};

use crate::{
    common::{App, assert_signed_out, locked, pages},
    ended_sign_ins::{NAMED, Named, bring, log_out, restarts},
    records::{carry_cookies, hold, session_cookies},
    support::{Browser, TestProvider, case},
};

/// A store as one node reaches it: it may be held at a read, lose answers, or be down.
#[derive(Clone)]
struct Link {
    store: Arc<MemoryStore>,
    /// How many reads of notes are left before one is held.
    reads: Arc<Mutex<Option<usize>>>,
    is_held: Arc<Semaphore>,
    gate: Arc<Semaphore>,
    loses_create: Arc<AtomicBool>,
    loses_lives: Arc<AtomicBool>,
    answers_for_fewer: Arc<AtomicBool>,
    is_down: Arc<AtomicBool>,
}

impl Link {
    fn new(clock: &Clock) -> Link {
        Link::to(Arc::new(MemoryStore::new(100).clock(clock.clone())))
    }

    fn to(store: Arc<MemoryStore>) -> Link {
        Link {
            store,
            reads: Arc::default(),
            is_held: Arc::new(Semaphore::new(0)),
            gate: Arc::new(Semaphore::new(0)),
            loses_create: Arc::default(),
            loses_lives: Arc::default(),
            answers_for_fewer: Arc::default(),
            is_down: Arc::default(),
        }
    }

    /// Has the answer of a read of notes held, so many from now.
    fn hold_read(&self, number: usize) {
        *locked(&self.reads) = Some(number);
    }

    /// Holds what runs here, if no read was held yet.
    async fn hold_at_last(&self) {
        if locked(&self.reads).take().is_some() {
            self.hold().await;
        }
    }

    async fn hold(&self) {
        self.is_held.add_permits(1);
        self.gate.acquire().await.unwrap().forget();
    }

    async fn until_held(&self) {
        self.is_held.acquire().await.unwrap().forget();
    }

    fn release(&self) {
        self.gate.add_permits(1);
    }

    fn up(&self) -> Result<&MemoryStore, StoreError> {
        if self.is_down.load(Ordering::SeqCst) {
            Err(StoreError::new("cut"))
        } else {
            Ok(&self.store)
        }
    }
}

#[rocket::async_trait]
impl SessionStore for Link {
    async fn create(&self, session: &StoredSession, life: Duration) -> Result<(), StoreError> {
        self.up()?.create(session, life).await?;
        if self.loses_create.load(Ordering::SeqCst) {
            Err(StoreError::new("the answer is lost"))
        } else {
            Ok(())
        }
    }

    async fn load(&self, id: &str) -> Result<Option<Arc<StoredSession>>, StoreError> {
        self.up()?.load(id).await
    }

    async fn replace(&self, session: &StoredSession, life: Duration) -> Result<bool, StoreError> {
        self.up()?.replace(session, life).await
    }

    async fn remove(&self, id: &str) -> Result<bool, StoreError> {
        self.up()?.remove(id).await
    }

    async fn ids_by_index_key(&self, owner: &str) -> Result<Vec<String>, StoreError> {
        self.up()?.ids_by_index_key(owner).await
    }

    async fn put_entry(&self, name: &str, value: &str, life: Duration) -> Result<(), StoreError> {
        self.up()?.put_entry(name, value, life).await
    }

    async fn put_end(&self, name: &str, value: &str, life: Duration) -> Result<(), StoreError> {
        self.up()?.put_end(name, value, life).await
    }

    async fn put_end_if_unchanged(
        &self,
        name: &str,
        known: Option<&str>,
        value: &str,
        life: Duration,
    ) -> Result<bool, StoreError> {
        self.up()?.put_end_if_unchanged(name, known, value, life).await
    }

    async fn lock(&self, name: &str, value: &str, life: Duration) -> Result<bool, StoreError> {
        self.up()?.lock(name, value, life).await
    }

    async fn put_entry_if_larger(&self, name: &str, number: u64, life: Duration) -> Result<bool, StoreError> {
        self.up()?.put_entry_if_larger(name, number, life).await
    }

    async fn entries(&self, names: &[&str]) -> Result<Vec<Option<String>>, StoreError> {
        let mut notes = self.up()?.entries(names).await?;
        let is_held = {
            let mut reads = locked(&self.reads);
            *reads = reads.map(|left| left - 1);
            reads.take_if(|left| *left == 0).is_some()
        };
        if is_held {
            self.hold().await;
        }
        if self.answers_for_fewer.load(Ordering::SeqCst) {
            notes.pop();
        }
        Ok(notes)
    }

    async fn entries_with_ttl(&self, names: &[&str]) -> Result<Vec<Option<(String, Duration)>>, StoreError> {
        if self.loses_lives.swap(false, Ordering::SeqCst) {
            Err(StoreError::new("the answer is lost"))
        } else {
            self.up()?.entries_with_ttl(names).await
        }
    }

    async fn unlock(&self, name: &str, value: &str) -> Result<(), StoreError> {
        self.up()?.unlock(name, value).await
    }
}

/// Ends the user's sessions at each sign-in, and has a read of the store held meanwhile.
#[derive(Clone)]
struct OneSession {
    link: Link,
    held_read: Arc<Mutex<Option<usize>>>,
}

#[rocket::async_trait]
impl Events for OneSession {
    async fn after_authorize(&self, request: &Request<'_>, signed_in: &mut NewSignIn<'_>) -> Result<(), Refused> {
        if let Some(number) = locked(&self.held_read).take() {
            self.link.hold_read(number);
        }
        let rp = request.rocket().state::<RelyingParty>().unwrap();
        rp.end_sessions(signed_in.subject()).await.unwrap();
        self.link.hold_at_last().await;
        Ok(())
    }
}

#[get("/sessions")]
async fn sessions(rp: &RelyingParty) -> Json<Value> {
    let sessions = rp.sessions_of("alice").await.unwrap();
    Json(json!(sessions.map(|sessions| sessions.len())))
}

/// A node that reaches the store in this way.
async fn node_with(app: &App, link: &Link, events: Option<OneSession>) -> Browser {
    let fairing = Oidc::fairing().clock(app.clock()).session_store(link.clone());
    let fairing = match events {
        Some(events) => fairing.events(events),
        None => fairing,
    };
    let rocket = app.bare().attach(fairing).mount("/", routes![sessions]);
    Browser::open(rocket.mount("/", pages())).await
}

async fn node(app: &App, link: &Link) -> Browser {
    node_with(app, link, None).await
}

/// With sessions in cookies, and their ends in the store that the app brings: it takes precedence over the address.
fn in_cookies(app: App) -> App {
    app.with("oidc.session.store", "cookie")
        .with("oidc.session.store_url", "sqlite://unused.db")
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
                    let link = Link::new(&app.clock());
                    let events = OneSession {
                        link: link.clone(),
                        held_read: Arc::default(),
                    };
                    let browser = node_with(&app, &link, Some(events.clone())).await;
                    let other = node(&app, &Link::to(link.store.clone())).await;
                    other.sign_in(&provider, "/me").await.is(Status::Ok);
                    if was_ended_before {
                        log_out(&other, &provider, named).await;
                        app.advance(Duration::from_secs(60));
                    }

                    let callback = browser.begin_sign_in(&provider, "/me").await;
                    *locked(&events.held_read) = Some(held_read);
                    let (page, ()) = join(bring(&browser, &callback), async {
                        link.until_held().await;
                        log_out(&other, &provider, named).await;
                        link.release();
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
async fn an_end_is_noted_for_as_long_as_a_session_lives_that_begins_meanwhile() {
    for held_read in [1, 2] {
        let provider = TestProvider::start().await;
        let app = |lifetime: &str| {
            in_cookies(App::local(&provider))
                .with("oidc.session.idle_timeout", lifetime)
                .with("oidc.session.absolute_timeout", lifetime)
        };
        let (short, long) = (app("1h"), app("24h"));
        let link = Link::new(&short.clock());
        let one = node(&short, &link).await;
        let other = node(&long, &Link::to(link.store.clone())).await;
        one.sign_in(&provider, "/me").await.is(Status::Ok);
        let callback = other.begin_sign_in(&provider, "/me").await;
        link.hold_read(held_read);
        join(
            async {
                log_out(&one, &provider, Named::Sub).await;
                link.hold_at_last().await;
            },
            async {
                link.until_held().await;
                let _ = bring(&other, &callback).await;
                link.release();
            },
        )
        .await;
        for passed in [Duration::ZERO, Duration::from_secs(2 * 60 * 60)] {
            short.advance(passed);
            long.advance(passed);
            assert_signed_out(&other).await;
        }
    }
}

/// No browser has it, so no sign-out would end it.
#[rocket::async_test]
async fn a_session_that_was_stored_without_an_answer_is_removed() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    let link = Link::new(&app.clock());
    let browser = node(&app, &link).await;
    let callback = browser.begin_sign_in(&provider, "/me").await;
    link.loses_create.store(true, Ordering::SeqCst);
    let page = bring(&browser, &callback).await;
    page.is(Status::ServiceUnavailable);
    browser.visit("/sessions").await.sees("0");
    link.loses_create.store(false, Ordering::SeqCst);
    bring(&browser, &callback).await.redirects_to("/me");
    browser.visit("/me").await.is(Status::Ok).sees("alice");
    browser.visit("/sessions").await.sees("1");
}

/// What it does not answer for may be an end.
#[rocket::async_test]
async fn a_store_that_leaves_out_an_end_is_an_outage() {
    let provider = TestProvider::start().await;
    let app = in_cookies(App::local(&provider));
    let link = Link::new(&app.clock());
    let browser = node(&app, &link).await;
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    link.answers_for_fewer.store(true, Ordering::SeqCst);
    let page = browser.visit("/me").await;
    page.is(Status::ServiceUnavailable);
    link.answers_for_fewer.store(false, Ordering::SeqCst);
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
            let link = Link::new(&app.clock());
            let (one, other) = (node(&app, &link).await, node(&app, &link).await);
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
async fn a_store_that_fails_at_the_first_look_costs_no_page() {
    for is_ended_again in [false, true] {
        for is_in_cookies in [true, false] {
            case(&format!("{is_ended_again}, {is_in_cookies}"));
            let provider = TestProvider::start().await;
            let app = in_mode(App::local(&provider), is_in_cookies);
            let link = Link::new(&app.clock());
            let browser = node(&app, &link).await;
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
            link.loses_lives.store(true, Ordering::SeqCst);
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
    let app = |lifetime: &str| {
        in_cookies(App::local(&provider))
            .with("oidc.session.idle_timeout", lifetime)
            .with("oidc.session.absolute_timeout", lifetime)
    };
    let (short, long) = (app("1h"), app("24h"));
    let link = Link::new(&short.clock());
    let one = node(&short, &link).await;
    let other = node(&long, &Link::to(link.store.clone())).await;
    other.sign_in(&provider, "/me").await.is(Status::Ok);
    let copy = other.another();
    hold(&copy, &session_cookies(&other));
    carry_cookies(&other, &one);

    link.is_down.store(true, Ordering::SeqCst);
    let page = one.submit("/oidc/logout", "").await;
    page.is(Status::ServiceUnavailable);
    for app in [&short, &long] {
        app.advance(Duration::from_secs(2 * 60 * 60));
    }
    copy.visit("/me").await.is(Status::Ok).sees("alice");
    link.is_down.store(false, Ordering::SeqCst);
    let next = one.another();
    provider.user_claims(json!({ "sub": "bob" }));
    next.sign_in(&provider, "/me").await.is(Status::Ok);
    let recorded = async {
        while copy.fetch("/me").await.status == Status::Ok.code {
            yield_now().await;
        }
    };
    let recorded = timeout(Duration::from_secs(10), recorded).await;
    recorded.expect("the end is recorded within ten seconds");
    assert_signed_out(&copy).await;
}
