//! Sessions in a SQLite file: what a restart of the app changes, which is nothing.

use std::time::Duration;

use rocket::http::Status;
use tempfile::TempDir;

use crate::{
    common::{App, assert_signed_out, launch_failure, sqlite_url},
    records::{carry_cookies, give_cookies, node, record, session_cookies, signed_in},
    support::{Browser, TestProvider},
};

fn app(provider: &TestProvider, store: &str, directory: &TempDir) -> App {
    App::new(provider)
        .with("oidc.session.store", store)
        .with("oidc.session.store_url", sqlite_url(directory))
}

/// The browser, before the same app after a restart.
async fn restarted(app: &App, browser: Browser) -> Browser {
    let after = node(app).await;
    carry_cookies(&browser, &after);
    after
}

#[rocket::async_test]
async fn a_session_outlives_the_app() {
    let provider = TestProvider::start().await;
    for store in ["sql", "cookie"] {
        let directory = TempDir::new().unwrap();
        let app = app(&provider, store, &directory);
        let before = signed_in(&app, &provider).await;
        let after = restarted(&app, before).await;
        after.fetch("/me").await.is(Status::Ok).sees("alice");

        // It goes on there: refreshed, and once more after another restart.
        app.advance(Duration::from_secs(290));
        after.fetch("/me").await.is(Status::Ok);
        let last = restarted(&app, after).await;
        last.fetch("/me").await.is(Status::Ok).sees("alice");
    }
}

#[rocket::async_test]
async fn a_session_that_has_ended_stays_ended_after_a_restart() {
    let provider = TestProvider::start().await;
    for store in ["sql", "cookie"] {
        let directory = TempDir::new().unwrap();
        let app = app(&provider, store, &directory);
        let browser = signed_in(&app, &provider).await;
        let copy = session_cookies(&browser);
        assert_ne!(copy, [], "{store}");
        browser.submit("/oidc/logout", "").await;

        let thief = node(&app).await;
        give_cookies(&thief, &copy);
        assert_signed_out(&thief).await;
    }
}

/// It is not used to ask the provider, but answered with the newest session, as on the node that refreshed it.
#[rocket::async_test]
async fn an_older_copy_is_known_as_such_after_a_restart() {
    let provider = TestProvider::start().await;
    let directory = TempDir::new().unwrap();
    let app = app(&provider, "cookie", &directory);
    let browser = signed_in(&app, &provider).await;
    let older = session_cookies(&browser);
    app.advance(Duration::from_secs(290));
    browser.fetch("/me").await.is(Status::Ok);
    assert_eq!(provider.count("/token"), 2);

    let late = node(&app).await;
    give_cookies(&late, &older);
    assert_eq!(record(&late).await, record(&browser).await);
    assert_eq!(provider.count("/token"), 2);
}

#[rocket::async_test]
async fn two_nodes_share_one_file() {
    let provider = TestProvider::start().await;
    for store in ["sql", "cookie"] {
        let directory = TempDir::new().unwrap();
        let app = app(&provider, store, &directory);
        let (a, b) = (node(&app).await, node(&app).await);
        a.sign_in(&provider, "/me").await.is(Status::Ok);
        carry_cookies(&a, &b);
        b.fetch("/me").await.is(Status::Ok).sees("alice");
        let copy = session_cookies(&a);
        b.submit("/oidc/logout", "").await;
        give_cookies(&a, &copy);
        assert_signed_out(&a).await;
    }
}

#[rocket::async_test]
async fn a_file_that_cannot_be_created_aborts_the_launch() {
    let provider = TestProvider::start().await;
    for store in ["sql", "cookie"] {
        let app = App::new(&provider)
            .with("oidc.session.store", store)
            .with("oidc.session.store_url", "sqlite:///dev/null/sessions.db");
        let (kind, lines) = launch_failure(app.rocket()).await;
        assert_eq!(kind, "failed fairings: OpenID Connect");
        assert_eq!(
            lines,
            [
                "ERROR: the session store is not reachable: the SQLite file of `session.store_url` cannot be \
                 opened or created: not a directory",
                "INFO: check that the session store at `oidc.session.store_url` is running and that this \
                 machine can reach it",
            ]
        );
    }
}

/// As with a provider that is down.
#[rocket::async_test]
async fn a_database_that_is_down_does_not_abort_the_launch() {
    let provider = TestProvider::start().await;
    let browser = App::new(&provider)
        .with("oidc.session.store", "sql")
        .with("oidc.session.store_url", "postgres://a:hush@127.0.0.1:1/a")
        .open()
        .await;
    let page = browser.sign_in(&provider, "/me").await;
    page.is(Status::ServiceUnavailable);
}
