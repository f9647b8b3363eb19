//! The calls that sign-ins and sessions cause: each kind has a limit of its own.

use std::time::Duration;

use rocket::{
    futures::future::{join_all, join3},
    http::Status,
    tokio::{sync::Semaphore, time::timeout},
};

use crate::{
    common::App,
    support::{Browser, Page, TestProvider},
};

const TOKEN: &str = "/token";
/// How many calls of a kind run at a time, and how many run or wait.
const RUNNING: usize = 64;
const PLACES: usize = 1024;
/// The tokens of a sign-in are due by then.
const DUE: Duration = Duration::from_secs(290);

/// Answers of many requests that need the token endpoint, which answers when one request of them was refused for want of a
/// place and `other` has reached it.
async fn one_too_many(
    provider: &TestProvider,
    requests: Vec<impl Future<Output = Page>>,
    other: impl Future<Output = Page>,
) -> (Vec<Page>, Page) {
    let before = provider.count(TOKEN);
    let (held, refused) = (provider.hold(TOKEN), Semaphore::new(0));
    let (refused, count) = (&refused, requests.len());
    assert_eq!(count, PLACES + 1);
    let requests = requests.into_iter().map(|request| async move {
        let page = request.await;
        if page.status == 503 {
            refused.add_permits(1);
        }
        page
    });
    let other = async {
        provider.until_requested(TOKEN, before + RUNNING).await;
        other.await
    };
    let release = async {
        let refused = timeout(Duration::from_secs(60), refused.acquire()).await;
        drop(refused.expect("one is refused").unwrap());
        provider.until_requested(TOKEN, before + RUNNING + 1).await;
        assert_eq!(provider.count(TOKEN), before + RUNNING + 1);
        held.release();
    };
    let (pages, other, ()) = join3(join_all(requests), other, release).await;
    assert_eq!(provider.count(TOKEN), before + PLACES + 1);
    (pages, other)
}

/// Asserts that all pages but one are of this status, and that one is told when to come again. Answers which one it is.
#[track_caller]
fn all_but_one(pages: &[Page], status: Status, retry_after: &str) -> usize {
    let of = |status: u16| pages.iter().filter(move |page| page.status == status);
    assert_eq!(of(status.code).count(), PLACES);
    let busy: Vec<_> = of(503).collect();
    assert_eq!(busy.len(), 1);
    assert_eq!(busy[0].header("Retry-After"), Some(retry_after));
    pages.iter().position(|page| page.status == 503).unwrap()
}

/// As many exchanges of codes as there may be leave room for a refresh, and as many refreshes for an exchange. One more is
/// answered with 503.
#[rocket::async_test]
async fn exchanges_and_refreshes_take_no_place_from_each_other() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider)
        .with("oidc.http.timeout", "2m")
        .with("oidc.session.refresh_grace", "1s");
    let early = app.open().await;
    early.sign_in(&provider, "/me").await.is(Status::Ok);
    app.advance(DUE);

    let mut browsers: Vec<Browser> = (0..=PLACES).map(|_| early.another()).collect();
    let begin = browsers.iter().map(async |browser| {
        let callback = browser.begin_sign_in(&provider, "/me").await;
        callback.path_and_query()
    });
    let callbacks = join_all(begin).await;
    let arrive = browsers
        .iter()
        .zip(&callbacks)
        .map(|(browser, callback)| browser.arrive_from_provider(callback));
    let (pages, refreshed) = one_too_many(&provider, arrive.collect(), early.visit("/me")).await;
    refreshed.is(Status::Ok).sees("alice");
    let late = all_but_one(&pages, Status::SeeOther, "1");

    // Its code was not sent, so that it begins anew.
    let late = browsers.swap_remove(late);
    app.advance(DUE);
    let callback = late.begin_sign_in(&provider, "/me").await.path_and_query();
    browsers.push(early);
    let visits = browsers.iter().map(|browser| browser.visit("/me"));
    let arrival = late.arrive_from_provider(&callback);
    let (pages, arrived) = one_too_many(&provider, visits.collect(), arrival).await;
    arrived.redirects_to("/me");
    let busy = all_but_one(&pages, Status::Ok, "5");

    // It was not signed out.
    app.advance(Duration::from_secs(5));
    let page = browsers[busy].visit("/me").await;
    page.is(Status::Ok).sees("alice");
}
