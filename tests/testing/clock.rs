//! Time passes when the test says so.

use std::time::{Duration, Instant};

use rocket::{http::Status, serde::json::json};
use rocket_openidconnect::{
    Endpoint,
    testing::{TestClient, TestRequest},
};

use crate::app::{figment, is_signed_in, open, visit};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

#[test]
fn a_session_ends_when_it_is_idle() {
    for store in ["cookie", "memory"] {
        let (provider, client) = open(figment().merge(("oidc.session.store", store)));
        client.sign_in("/me", json!({ "sub": "alice" }));
        provider.advance_clock(HOUR - Duration::from_secs(1));
        assert!(is_signed_in(&client), "{store}");
        provider.advance_clock(HOUR - Duration::from_secs(1));
        assert!(is_signed_in(&client), "{store}");
        provider.advance_clock(HOUR);
        assert!(!is_signed_in(&client), "{store}");
        assert_eq!(visit(&client, "/me").status(), Status::SeeOther);
    }
}

#[test]
fn a_session_ends_at_the_end_of_its_lifetime() {
    for store in ["cookie", "memory"] {
        let (provider, client) = open(figment().merge(("oidc.session.store", store)));
        client.sign_in("/me", json!({ "sub": "alice" }));
        for _ in 0..23 {
            provider.advance_clock(HOUR / 2);
            assert!(is_signed_in(&client), "{store}");
        }
        provider.advance_clock(HOUR / 2 - Duration::from_millis(1));
        assert!(is_signed_in(&client), "{store}");
        provider.advance_clock(Duration::from_millis(1));
        assert!(!is_signed_in(&client), "{store}");
    }
}

#[test]
fn a_session_is_refreshed_when_its_token_is_about_to_end() {
    let (provider, client) = open(figment());
    client.sign_in("/me", json!({ "sub": "alice" }));
    let token = || client.get("/token").dispatch().into_string().unwrap();
    let refreshes = || {
        let mut requests = provider.requests_to(Endpoint::Token);
        requests.retain(|request| request.form_value("grant_type") == Some("refresh_token"));
        requests.len()
    };
    let first = token();
    provider.advance_clock(4 * MINUTE);
    assert_eq!((token(), refreshes()), (first.clone(), 0));
    provider.advance_clock(MINUTE);
    let second = token();
    assert_ne!(first, second);
    assert_eq!((token(), refreshes()), (second, 1));
    provider.advance_clock(5 * MINUTE);
    token();
    assert_eq!(refreshes(), 2);
}

#[test]
fn keys_are_rotated_and_fetched_again() {
    let (provider, client) = open(figment());
    let call = |token: &str| {
        let header = rocket::http::Header::new("Authorization", format!("Bearer {token}"));
        client.get("/notes").header(header).dispatch().status()
    };
    let claims = json!({ "sub": "alice", "scope": "notes:read" });
    let old = provider.access_token(claims.clone());
    assert_eq!(call(&old), Status::Ok);
    provider.rotate_keys();
    let new = provider.access_token(claims.clone());
    // An unknown key is looked for once.
    assert_eq!(call(&new), Status::Ok);
    assert_eq!(call(&old), Status::Unauthorized);
    assert_eq!(provider.requests_to(Endpoint::KeySet).len(), 2);

    // Not again for half a minute.
    provider.rotate_keys();
    let newest = provider.access_token(claims);
    assert_eq!(call(&newest), Status::Unauthorized);
    provider.advance_clock(Duration::from_secs(30));
    assert_eq!(call(&newest), Status::Ok);
    let me = client.sign_in("/me", json!({ "sub": "alice" }));
    assert_eq!(me.status(), Status::Ok);
}

/// Nothing of this is waited for.
#[test]
fn a_day_passes_in_milliseconds() {
    let (provider, client) = open(figment());
    let begun = Instant::now();
    for _ in 0..24 {
        let me = client.get("/me").signed_in_as(json!({ "sub": "alice" }));
        assert_eq!(me.dispatch().status(), Status::Ok);
        provider.advance_clock(HOUR);
    }
    assert!(begun.elapsed() < Duration::from_secs(20));
}
