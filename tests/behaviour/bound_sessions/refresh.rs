//! Refreshes of bound sessions.

use std::time::Duration;

use rocket::{futures::future::join_all, http::Status};

use super::*;
use crate::{
    records::{DUE, carry_cookies},
    support::TestStore,
};

#[rocket::async_test]
async fn a_refresh_proves_the_key_of_the_sign_in() {
    for store in ["cookie", "memory"] {
        let provider = binding_provider().await;
        let app = bound(&provider)
            .with("oidc.session.store", store)
            .with("oidc.session.refresh_user_info", true);
        let browser = signed_in(&app, &provider).await;
        let key = provider.last_request(TOKEN).proved_key().unwrap();
        for _ in 0..2 {
            app.advance(DUE);
            browser.visit("/me").await.is(Status::Ok);
        }
        let refreshes = token_requests(&provider, "refresh_token");
        assert_eq!(refreshes.len(), 2);
        for request in refreshes.iter().chain(&provider.requests_to(USERINFO)) {
            assert_eq!(request.proved_key().as_ref(), Some(&key));
        }
        assert_eq!(provider.count(USERINFO), 3);
    }
}

/// One request refreshes for all, with one proof.
#[rocket::async_test]
async fn concurrent_requests_share_a_refresh() {
    let provider = binding_provider().await;
    let app = bound(&provider);
    let browser = signed_in(&app, &provider).await;
    app.advance(DUE);
    let pages = join_all((0..8).map(|_| browser.fetch("/is-bound"))).await;
    for page in pages {
        assert_eq!((page.status, &*page.body), (200, "true"));
    }
    assert_eq!(token_requests(&provider, "refresh_token").len(), 1);
}

/// Another node has the key by the record.
#[rocket::async_test]
async fn another_node_refreshes_with_the_same_key() {
    let provider = binding_provider().await;
    let store = TestStore::new();
    let app = bound(&provider).over(&store);
    let one = signed_in(&app, &provider).await;
    let key = provider.last_request(TOKEN).proved_key().unwrap();
    let other = Browser::open(rocket(&app, &provider)).await;
    carry_cookies(&one, &other);
    app.advance(DUE);
    other.visit("/me").await.is(Status::Ok);
    let refresh = token_requests(&provider, "refresh_token").pop().unwrap();
    assert_eq!(refresh.proved_key(), Some(key));
}

/// Sessions from before the setting stay as they are, and so do those from before it was removed.
#[rocket::async_test]
async fn a_session_keeps_what_it_began_with() {
    for (before, after, is_bound) in [("off", "required", false), ("required", "off", true)] {
        let provider = binding_provider().await;
        let app = App::new(&provider);
        let browser = signed_in(&app.clone().with("oidc.dpop", before), &provider).await;
        let later = Browser::open(rocket(&app.clone().with("oidc.dpop", after), &provider)).await;
        carry_cookies(&browser, &later);
        app.advance(DUE);
        later.visit("/me").await.is(Status::Ok);
        let refresh = token_requests(&provider, "refresh_token").pop().unwrap();
        assert_eq!(refresh.proved_key().is_some(), is_bound);
        assert_eq!(fetch(&later, "/is-bound").await, is_bound.to_string());
    }
}

/// The app's clock is wrong, which concerns all sessions: none ends.
#[rocket::async_test]
async fn a_rejected_proof_ends_no_session() {
    let provider = binding_provider().await;
    let app = bound(&provider);
    let browser = signed_in(&app, &provider).await;
    app.clock().advance(DUE);
    browser.visit("/me").await.is(Status::Ok);
    assert_eq!(token_requests(&provider, "refresh_token").len(), 1);
    // The provider's clock follows.
    app.advance(Duration::from_secs(900));
    browser.visit("/me").await.is(Status::Ok);
    assert_eq!(fetch(&browser, "/is-bound").await, "true");
}
