//! A node whose clock is wrong: a process of its own, which other tests start by the binary that they are in.

use std::{
    env,
    time::{Duration, Instant},
};

use rocket::{
    get, routes,
    serde::json::{Json, Value, json},
    tokio::time::sleep,
};
use rocket_openidconnect::{Clock, LoggedIn, Oidc};
use time::OffsetDateTime;

/// By how many seconds its clock is behind.
pub const BEHIND: &str = "INTEROP_BEHIND";
/// The test that is the node.
pub const TEST: &str = "slow_node::a_node";

#[get("/me")]
fn me(user: LoggedIn) -> Json<Value> {
    Json(json!(user))
}

/// Does nothing unless it is started as a node.
#[rocket::async_test]
#[ignore = "a node that other tests start: run scripts/interop"]
async fn a_node() {
    let Ok(behind) = env::var(BEHIND) else {
        return;
    };
    let behind: i64 = behind.parse().expect("seconds");
    let clock = Clock::fixed_at(OffsetDateTime::now_utc().unix_timestamp() - behind);
    let ticking = clock.clone();
    rocket::tokio::spawn(async move {
        let (begun, mut told) = (Instant::now(), Duration::ZERO);
        loop {
            sleep(Duration::from_millis(20)).await;
            let passed = Duration::from_millis(begun.elapsed().as_millis() as u64);
            ticking.advance(passed - told);
            told = passed;
        }
    });
    let rocket = rocket::build()
        .attach(Oidc::fairing().clock(clock))
        .mount("/", routes![me]);
    rocket.launch().await.expect("it runs until it is killed");
}
