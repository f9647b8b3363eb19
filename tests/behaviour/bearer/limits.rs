//! Calls that anybody's request can cause: so many and no more, and none in the place of somebody else's.

use std::time::Duration;

use rocket::{
    futures::future::{join, join_all},
    http::Header,
    tokio::{sync::Semaphore, time::timeout},
};
use serde_json::json;

use super::app::{Answer, Api};
use crate::support::{Misbehaviour, Reply};

const INTROSPECT: &str = "/introspect";
/// How many calls of one address run or wait: a quarter of all.
const QUARTER: usize = 32;

/// Calls with this token from this address; `reported` is what a proxy says of it.
async fn call(api: &Api, token: &str, peer: &str, reported: Option<&str>) -> Answer {
    let mut request = api.client.get("/notes");
    request.add_header(Header::new("Authorization", format!("Bearer {token}")));
    if let Some(reported) = reported {
        request.add_header(Header::new("X-Real-IP", reported.to_owned()));
    }
    Answer::to(request.remote(peer.parse().unwrap())).await
}

fn busy() -> Answer {
    Answer {
        status: 503,
        challenge: None,
        retry_after: Some("1".to_owned()),
        body: "wrong".to_owned(),
    }
}

/// Tokens that the provider knows.
fn real_tokens(api: &Api, count: usize) -> Vec<String> {
    let make = |_| api.provider.access_token("notes:read", |_| ());
    (0..count).map(make).collect()
}

/// Makes all these calls at once. Their requests to a path of the provider are held until so many calls are refused for want
/// of a place, so that none of those takes the place of one that has ended.
async fn all_at_once(api: &Api, path: &str, refused: usize, calls: Vec<impl Future<Output = Answer>>) -> Vec<Answer> {
    let (held, seen) = (api.provider.hold(path), Semaphore::new(0));
    let seen = &seen;
    let calls = calls.into_iter().map(|call| async move {
        let answer = call.await;
        if answer == busy() || answer.body.starts_with("too many requests") {
            seen.add_permits(1);
        }
        answer
    });
    let release = async {
        let all = timeout(Duration::from_secs(30), seen.acquire_many(refused as u32)).await;
        drop(all.expect("so many are refused").unwrap());
        held.release();
    };
    join(join_all(calls), release).await.0
}

/// Three hundred at once, from one address: a bounded number of calls, and others are served, with new tokens too.
async fn strangers_and_others(settings: serde_json::Value, behind: Option<&str>) {
    let mut settings = settings;
    settings["token_validation"] = json!("introspection");
    let api = Api::with(settings).await;
    let from = async |token: String, address: String| match behind {
        Some(proxy) => call(&api, &token, proxy, Some(&address)).await,
        None => call(&api, &token, &format!("{address}:50000"), None).await,
    };
    let real = real_tokens(&api, 20);
    // Of the same address, and cached by now.
    let cached = real[0].clone();
    let answer = from(cached.clone(), "192.0.2.1".to_owned()).await;
    assert_eq!(answer.status, 200);

    let strangers = (0..300).map(|n| (format!("made-up-{n}"), "192.0.2.1".to_owned()));
    let others = real[1..].iter().enumerate();
    let others = others.map(|(n, token)| (token.clone(), format!("198.51.100.{n}")));
    let after = [(cached, "192.0.2.1".to_owned())];
    let calls = strangers.chain(others).chain(after);
    let calls = calls.map(|(token, address)| from(token, address)).collect();
    let answers = all_at_once(&api, INTROSPECT, 300 - QUARTER, calls).await;
    let (strangers, others) = answers.split_at(300);
    let refused = strangers.iter().filter(|answer| answer.status == 401);
    assert_eq!(refused.count(), QUARTER);
    let full = strangers.iter().filter(|answer| **answer == busy());
    assert_eq!(full.count(), 300 - QUARTER);
    let statuses: Vec<_> = others.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200; 20]);
    assert_eq!(api.provider.count(INTROSPECT), 1 + QUARTER + 19);
    let warnings = api
        .log
        .lines()
        .into_iter()
        .filter(|line| line == "WARN: too many requests wait for the provider's introspection endpoint");
    assert_eq!(warnings.count(), 1);
}

#[rocket::async_test]
async fn made_up_tokens_of_one_address_leave_room_for_others() {
    strangers_and_others(json!({}), None).await;
}

#[rocket::async_test]
async fn made_up_tokens_of_one_address_behind_a_named_proxy() {
    let settings = json!({ "trusted_proxies": ["10.0.0.0/8"] });
    strangers_and_others(settings, Some("10.0.0.1:50000")).await;
}

/// A header that no named proxy has set makes nobody another client.
#[rocket::async_test]
async fn a_client_that_claims_many_addresses_is_one_client() {
    let api = Api::with(json!({})).await;
    let claim = async |n: usize| {
        let reported = format!("198.51.{}.{}", n / 200, n % 200);
        let token = format!("made-up-{n}");
        call(&api, &token, "192.0.2.1:50000", Some(&reported)).await
    };
    let calls = (0..300).map(&claim).collect();
    all_at_once(&api, INTROSPECT, 300 - QUARTER, calls).await;
    assert_eq!(api.provider.count(INTROSPECT), QUARTER);
}

/// Of all addresses together there are no more calls than there are places.
#[rocket::async_test]
async fn made_up_tokens_of_many_addresses_are_bounded() {
    let api = Api::with(json!({})).await;
    let stranger = async |n: usize| {
        let (token, peer) = (format!("made-up-{n}"), format!("198.51.100.{}:1", n % 200));
        call(&api, &token, &peer, None).await
    };
    let calls = (0..300).map(&stranger).collect();
    all_at_once(&api, INTROSPECT, 300 - 4 * QUARTER, calls).await;
    assert_eq!(api.provider.count(INTROSPECT), 4 * QUARTER);
    // And then there is room again.
    assert_eq!(api.call("/notes", "one-more").await.status, 401);
}

/// Introspection of all tokens, and so many that the provider called active. It is asked about each of them again.
async fn known_tokens(count: usize) -> (Api, Vec<String>) {
    let api = Api::with(json!({ "token_validation": "introspection" })).await;
    let tokens = real_tokens(&api, count);
    for token in &tokens {
        assert_eq!(api.call("/notes", token).await.status, 200);
    }
    assert_eq!(api.provider.count(INTROSPECT), count);
    advance(&api, 60);
    (api, tokens)
}

fn advance(api: &Api, seconds: u64) {
    api.clock.advance(Duration::from_secs(seconds));
    api.provider.set_time(api.clock.now().unix_timestamp());
}

/// The provider answers so to what is no active token.
fn on_garbage(api: &Api, answer: Reply) {
    api.provider.on_introspection(move |reply| {
        if reply.body == br#"{"active":false}"# {
            *reply = answer.clone();
        }
    });
}

/// An outage is found out by five calls about tokens that were active, and its end by one such call at a time.
#[rocket::async_test]
async fn an_outage_is_not_asked_about_again_and_again() {
    let (api, tokens) = known_tokens(20).await;
    api.provider.on_path(INTROSPECT, Reply::status(500));
    for n in 0..40 {
        let answer = api.call("/notes", &tokens[n % 20]).await;
        assert_eq!(answer.status, 503, "{n}");
        let wait = if n < 5 { "5" } else { "1" };
        assert_eq!(answer.retry_after.as_deref(), Some(wait), "{n}");
    }
    assert_eq!(api.call("/notes", "made-up").await, busy());
    assert_eq!(api.provider.count(INTROSPECT), 25);
    let lines = api.log.lines();
    let cause = "the provider's introspection endpoint responded with status 500";
    assert!(lines.contains(&format!("WARN: {cause}; the next attempt is due in 1 s")));
    // The first refusal, and the breaker's line: whoever comes meanwhile adds none.
    assert_eq!(
        lines.iter().filter(|line| line.contains(cause)).count(),
        2,
        "{lines:#?}"
    );

    advance(&api, 1);
    let held = api.provider.hold(INTROSPECT);
    let calls = join_all(tokens.iter().map(|token| {
        let api = &api;
        async move { api.call("/notes", token).await.status }
    }));
    let release = async {
        api.provider.until_requested(INTROSPECT, 26).await;
        held.release();
    };
    let (statuses, ()) = join(calls, release).await;
    assert_eq!(api.provider.count(INTROSPECT), 26);
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1);
    assert_eq!(statuses.iter().filter(|status| **status == 503).count(), 19);
    for token in &tokens {
        assert_eq!(api.call("/notes", token).await.status, 200);
    }
}

/// What goes wrong with a made-up token may be about that token: others are asked about.
#[rocket::async_test]
async fn a_stranger_does_not_open_a_breaker() {
    for (status, retry_after) in [
        (500, None),
        (502, None),
        (503, None),
        (504, None),
        // As a proxy says it, whatever its server has failed on.
        (503, Some("120")),
    ] {
        let (api, tokens) = known_tokens(1).await;
        let mut answer = Reply::status(status);
        if let Some(retry_after) = retry_after {
            answer = answer.with_header("Retry-After", retry_after);
        }
        on_garbage(&api, answer);
        for n in 0..40 {
            let (token, peer) = (format!("made-up-{n}"), format!("198.51.100.{n}:1"));
            let answer = call(&api, &token, &peer, None).await;
            let told = (answer.status, answer.retry_after.as_deref());
            let wait = retry_after.or(Some("5"));
            assert_eq!(told, (503, wait), "{status} {n}");
        }
        assert_eq!(api.provider.count(INTROSPECT), 41);
        let new = real_tokens(&api, 1).remove(0);
        for token in [&tokens[0], &new] {
            assert_eq!(api.call("/notes", token).await.status, 200, "{status}");
        }
        // Nor does a token that was active and has expired.
        advance(&api, 300);
        for _ in 0..10 {
            assert_eq!(api.call("/notes", &tokens[0]).await.status, 503);
        }
        assert_eq!(api.provider.count(INTROSPECT), 53);
        let new = real_tokens(&api, 1).remove(0);
        assert_eq!(api.call("/notes", &new).await.status, 200, "{status}");
    }
}

/// Nor does a stranger keep the breaker open when the outage is over.
#[rocket::async_test]
async fn a_stranger_does_not_keep_a_breaker_open() {
    for is_known in [true, false] {
        let (api, tokens) = known_tokens(6).await;
        api.provider.on_path(INTROSPECT, Reply::status(503));
        for token in &tokens {
            assert_eq!(api.call("/notes", token).await.status, 503);
        }
        assert_eq!(api.provider.count(INTROSPECT), 6 + 5);
        api.provider.clear_path(INTROSPECT);
        on_garbage(&api, Reply::status(500));
        assert_eq!(api.call("/notes", &tokens[0]).await, busy());
        advance(&api, 1);
        for n in 0..20 {
            let answer = api.call("/notes", &format!("made-up-{n}")).await;
            assert_eq!(answer.status, 503);
        }
        assert_eq!(api.provider.count(INTROSPECT), 6 + 5 + 20);
        let new = real_tokens(&api, 1).remove(0);
        let token = if is_known { &tokens[0] } else { &new };
        assert_eq!(api.call("/notes", token).await.status, 200, "{is_known}");
        assert_eq!(api.call("/notes", &tokens[1]).await.status, 200);
    }
}

/// What the provider asks for is done, for five minutes at most.
#[rocket::async_test]
async fn the_providers_wait_is_passed_on() {
    for (retry_after, wait) in [("120", 120), ("86400", 300)] {
        let api = Api::with(json!({})).await;
        let reply = Reply::status(429).with_header("Retry-After", retry_after);
        api.provider.on_path(INTROSPECT, reply);
        for n in 0..10 {
            let answer = api.call("/notes", &format!("made-up-{n}")).await;
            let told = answer.retry_after.map(|wait| wait.parse::<u64>().unwrap());
            assert_eq!((answer.status, told), (503, Some(wait)));
        }
        assert_eq!(api.provider.count(INTROSPECT), 1);
        api.clock.advance(Duration::from_secs(wait - 1));
        assert_eq!(api.call("/notes", "made-up").await, busy());
        assert_eq!(api.provider.count(INTROSPECT), 1);
        api.provider.clear_path(INTROSPECT);
        api.clock.advance(Duration::from_secs(1));
        assert_eq!(api.call("/notes", "made-up").await.status, 401);
    }
}

/// Only outages count: refusals and useless answers are answers.
#[rocket::async_test]
async fn answers_of_no_use_are_no_outage() {
    let api = Api::with(json!({})).await;
    for reply in [
        Misbehaviour::Reply(Reply::status(401)),
        Misbehaviour::Reply(Reply::status(404)),
        Misbehaviour::Reply(Reply::text("text/html", "<h1>Welcome</h1>")),
        Misbehaviour::Huge(2 * 1024 * 1024),
    ] {
        api.provider.on_path(INTROSPECT, reply);
        let before = api.provider.count(INTROSPECT);
        for n in 0..8 {
            let answer = api.call("/notes", &format!("made-up-{n}")).await;
            assert_eq!(answer.status, 502);
        }
        assert_eq!(api.provider.count(INTROSPECT), before + 8);
    }
}

/// Of one address, UserInfo is asked about no more tokens at a time.
#[rocket::async_test]
async fn userinfo_for_bearer_tokens_is_bounded_too() {
    let api = Api::open().await;
    let tokens = real_tokens(&api, 60);
    let calls = tokens.iter().map(|token| api.call("/person", token));
    all_at_once(&api, "/userinfo", 60 - QUARTER, calls.collect()).await;
    assert_eq!(api.provider.count("/userinfo"), QUARTER);
}

/// Status 500 may be about this person: UserInfo is asked about others.
#[rocket::async_test]
async fn a_user_whom_userinfo_fails_for_blocks_no_other_user() {
    let api = Api::open().await;
    let tokens = real_tokens(&api, 21);
    api.provider.on_path("/userinfo", Reply::status(500));
    for token in &tokens[..20] {
        let answer = api.call("/person", token).await;
        assert_eq!(
            answer.body,
            "the provider's UserInfo endpoint responded with status 500"
        );
    }
    api.provider.clear_path("/userinfo");
    let answer = api.call("/person", &tokens[20]).await;
    assert_eq!(answer.body, "Alice Liddell");
    // No answer is about nobody in particular.
    api.provider.on_path("/userinfo", Reply::status(502));
    for token in &tokens[..10] {
        api.call("/person", token).await;
    }
    assert_eq!(api.provider.count("/userinfo"), 20 + 1 + 5);
}
