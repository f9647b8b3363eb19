//! The provider's keys: rotated, flooded, gone.

use std::{net::SocketAddr, time::Duration};

use rocket::{futures::future::join_all, http::Header};
use serde_json::json;

use super::app::{Answer, Api, refused};
use crate::support::{JwtParts, Reply, SigningKey, TestProvider};

const JWKS: &str = "/jwks";

#[rocket::async_test]
async fn a_new_key_is_fetched_once_for_all_waiting_requests() {
    let api = Api::open().await;
    assert_eq!(api.whoami(|_| ()).await.status, 200);
    assert_eq!(api.provider.count(JWKS), 1);
    api.provider.rotate_rsa_key();
    let tokens: Vec<_> = (0..20)
        .map(|_| {
            api.provider
                .access_token("notes:read", |token| token.sign_with(SigningKey::NextRsa))
        })
        .collect();
    let answers = join_all(tokens.iter().map(|token| api.call("/notes", token))).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    assert_eq!(api.provider.count(JWKS), 2);
}

/// A token that was accepted with a key is not accepted when that key is gone.
#[rocket::async_test]
async fn a_cached_token_is_evicted_with_its_key() {
    let api = Api::open().await;
    let token = api.provider.access_token("notes:read", |_| ());
    assert_eq!(api.call("/notes", &token).await.status, 200);
    api.provider.rotate_rsa_key();
    let next = api
        .provider
        .access_token("notes:read", |token| token.sign_with(SigningKey::NextRsa));
    assert_eq!(api.call("/notes", &next).await.status, 200);
    assert_eq!(
        api.call("/notes", &token).await,
        refused("the token is signed with an unknown key")
    );
}

/// The same document means the same keys: nothing is verified once more.
#[rocket::async_test]
async fn keys_that_did_not_change_keep_their_tokens() {
    let api = Api::open().await;
    let token = api.provider.access_token("notes:read", |token| {
        token.set("exp", crate::common::NOW + 100_000);
    });
    assert_eq!(api.call("/notes", &token).await.status, 200);
    // Due after an hour: fetched beside the request.
    api.clock.advance(Duration::from_secs(3600));
    assert_eq!(api.call("/notes", &token).await.status, 200);
    api.provider.until_requested(JWKS, 2).await;
    assert_eq!(api.call("/notes", &token).await.status, 200);
}

/// Whatever names keys, the provider is asked once in thirty seconds, and nobody else waits.
#[rocket::async_test]
async fn a_flood_of_unknown_keys_causes_one_fetch() {
    let api = Api::open().await;
    let good = api.provider.access_token("notes:read", |_| ());
    let unknown = |i: usize| {
        api.provider.access_token("notes:read", |token| {
            token.set_header("kid", format!("random-{i}"));
            token.signing = SigningKey::None;
        })
    };
    assert_eq!(api.call("/notes", &good).await.status, 200);
    assert_eq!(api.provider.count(JWKS), 1);

    let held = api.provider.hold(JWKS);
    let (first, another) = (unknown(0), api.provider.access_token("notes:read", |_| ()));
    let waiting = api.call("/notes", &first);
    let meanwhile = async {
        api.provider.until_requested(JWKS, 2).await;
        // The fetch is under way: a token of a known key, never seen before, does not wait for it.
        assert_eq!(api.call("/notes", &another).await.status, 200);
        held.release();
    };
    let (answer, ()) = rocket::futures::future::join(waiting, meanwhile).await;
    let refusal = refused("the token is signed with an unknown key");
    assert_eq!(answer, refusal);
    for i in 1..10_000 {
        assert_eq!(api.call("/notes", &unknown(i)).await.status, 401);
    }
    assert_eq!(api.provider.count(JWKS), 2);
    assert_eq!(api.call("/notes", &good).await.status, 200);

    api.clock.advance(Duration::from_secs(29));
    assert_eq!(api.call("/notes", &unknown(1)).await, refusal);
    assert_eq!(api.provider.count(JWKS), 2);
    api.clock.advance(Duration::from_secs(1));
    assert_eq!(api.call("/notes", &unknown(1)).await, refusal);
    assert_eq!(api.provider.count(JWKS), 3);
}

/// Calls with this token, from this address.
async fn call_from(api: &Api, token: &str, address: &str) -> Answer {
    let mut request = api.client.get("/notes");
    request.add_header(Header::new("Authorization", format!("Bearer {token}")));
    let peer = SocketAddr::new(address.parse().unwrap(), 50_000);
    Answer::to(request.remote(peer)).await
}

/// What a stranger can make up: a token that names an unknown key, and one that the known key did not sign.
fn made_up(api: &Api) -> [String; 2] {
    let unknown = |token: &mut JwtParts| {
        token.set_header("kid", "made-up");
        token.signing = SigningKey::None;
    };
    let wrong = |token: &mut JwtParts| token.break_signature = true;
    [
        api.provider.access_token("notes:read", unknown),
        api.provider.access_token("notes:read", wrong),
    ]
}

/// Publishes another key, under a name of its own or under the known one; answers a token that it signed.
fn new_key(api: &Api, has_a_new_name: bool) -> String {
    if has_a_new_name {
        api.provider.rotate_rsa_key();
        return api
            .provider
            .access_token("notes:read", |token| token.sign_with(SigningKey::NextRsa));
    }
    api.provider.on_jwks(|reply| {
        let mut jwk = SigningKey::Foreign.jwk();
        jwk["kid"] = json!("rsa-1");
        *reply = Reply::json(json!({ "keys": [jwk] }));
    });
    let replaced = |token: &mut JwtParts| token.signing = SigningKey::Foreign;
    api.provider.access_token("notes:read", replaced)
}

/// Whatever one address sends, another one's token with a new key is accepted at once.
#[rocket::async_test]
async fn a_stranger_does_not_keep_a_client_from_a_new_key() {
    for has_a_new_name in [true, false] {
        let api = Api::open().await;
        assert_eq!(api.whoami(|_| ()).await.status, 200);
        for token in made_up(&api) {
            for _ in 0..100 {
                assert_eq!(call_from(&api, &token, "192.0.2.1").await.status, 401);
            }
        }
        assert_eq!(api.provider.count(JWKS), 3);
        let token = new_key(&api, has_a_new_name);
        let answer = call_from(&api, &token, "198.51.100.1").await;
        assert_eq!(answer.status, 200, "{has_a_new_name}");
        assert_eq!(api.provider.count(JWKS), 4);
    }
}

/// Four looks at once, and one more every ten seconds: that is all that strangers at many addresses can take, and each of
/// their looks finds a new key for everybody.
#[rocket::async_test]
async fn strangers_at_many_addresses_delay_a_new_key_by_ten_seconds() {
    for has_a_new_name in [true, false] {
        let api = Api::open().await;
        assert_eq!(api.whoami(|_| ()).await.status, 200);
        let made_up = made_up(&api);
        let strangers = async |network: usize| {
            for token in &made_up {
                for n in 0..200 {
                    let address = format!("192.0.{network}.{n}");
                    assert_eq!(call_from(&api, token, &address).await.status, 401);
                }
            }
        };
        strangers(2).await;
        assert_eq!(api.provider.count(JWKS), 1 + 2 * 4);
        let token = new_key(&api, has_a_new_name);
        assert_eq!(call_from(&api, &token, "198.51.100.1").await.status, 401);
        api.clock.advance(Duration::from_secs(9));
        strangers(3).await;
        assert_eq!(call_from(&api, &token, "198.51.100.1").await.status, 401);
        assert_eq!(api.provider.count(JWKS), 1 + 2 * 4);
        api.clock.advance(Duration::from_secs(1));
        strangers(4).await;
        // Of a rotated key the name is unknown now, too, and takes no look of the other kind.
        let looks = if has_a_new_name { 1 } else { 2 };
        assert_eq!(api.provider.count(JWKS), 1 + 2 * 4 + looks);
        assert_eq!(call_from(&api, &token, "198.51.100.1").await.status, 200);
        assert_eq!(api.provider.count(JWKS), 1 + 2 * 4 + looks);
    }
}

#[rocket::async_test]
async fn the_last_known_good_keys_are_used_for_a_day() {
    let api = Api::open().await;
    let token = || {
        api.provider.access_token("notes:read", |token| {
            token.set("exp", crate::common::NOW + 1_000_000);
        })
    };
    assert_eq!(api.call("/notes", &token()).await.status, 200);
    api.provider.on_path(JWKS, Reply::status(500));
    let token = token();
    api.clock.advance(Duration::from_secs(24 * 3600 - 1));
    assert_eq!(api.call("/notes", &token).await.status, 200);
    api.clock.advance(Duration::from_secs(1));
    assert_eq!(api.call("/notes", &token).await.status, 503);
}

/// While there are no keys at all, the provider is asked less and less, and nobody waits for the others.
#[rocket::async_test]
async fn keys_that_never_came_are_503_at_once() {
    let api = Api::open().await;
    api.provider.on_path(JWKS, Reply::status(500));
    let token = api.provider.access_token("notes:read", |_| ());
    let calls = join_all((0..20).map(|_| api.call("/notes", &token))).await;
    assert!(calls.iter().all(|answer| answer.status == 503), "{calls:?}");
    assert_eq!(api.provider.count(JWKS), 1);
    assert_eq!(calls[19].retry_after.as_deref(), Some("1"));
    api.provider.clear_path(JWKS);
    api.clock.advance(Duration::from_secs(1));
    assert_eq!(api.call("/notes", &token).await.status, 200);
}

/// An answer that is no key set is the provider's fault; then, too, it is asked less and less.
#[rocket::async_test]
async fn keys_of_no_use_are_502() {
    let api = Api::open().await;
    let useless = Reply::text("text/html", "<h1>Welcome</h1>");
    api.provider.on_path(JWKS, useless);
    assert_eq!(api.whoami(|_| ()).await.status, 502);
    let line = "ERROR: the provider's key set sent an invalid response: the key set cannot be parsed: \
                not valid JSON: parsing failed at line 1, column 1";
    let lines = api.log.lines();
    assert!(lines.contains(&line.to_owned()), "{lines:#?}");
    let soon = api.whoami(|_| ()).await;
    assert_eq!((soon.status, soon.retry_after.as_deref()), (503, Some("1")));
    assert_eq!(api.provider.count(JWKS), 1);
    for (wait, count) in [(1, 2), (1, 2), (1, 3)] {
        api.clock.advance(Duration::from_secs(wait));
        api.whoami(|_| ()).await;
        assert_eq!(api.provider.count(JWKS), count);
    }
}

/// A key set that became useless leaves the keys that were there.
#[rocket::async_test]
async fn keys_of_no_use_do_not_replace_good_ones() {
    let api = Api::open().await;
    assert_eq!(api.whoami(|_| ()).await.status, 200);
    let useless = Reply::text("text/html", "<h1>Welcome</h1>");
    api.provider.on_path(JWKS, useless);
    let unknown = |token: &mut JwtParts| token.set_header("kid", "unknown");
    let refusal = refused("the token is signed with an unknown key");
    assert_eq!(api.whoami(unknown).await, refusal);
    assert_eq!(api.provider.count(JWKS), 2);
    assert_eq!(api.whoami(|_| ()).await.status, 200);
}

/// A new key that comes within the cool-down waits for its end, and no longer.
#[rocket::async_test]
async fn a_new_key_within_the_cool_down() {
    let api = Api::open().await;
    let unknown = |token: &mut JwtParts| token.set_header("kid", "unknown");
    let refusal = refused("the token is signed with an unknown key");
    assert_eq!(api.whoami(unknown).await, refusal);
    api.provider.rotate_rsa_key();
    let next = api
        .provider
        .access_token("notes:read", |token| token.sign_with(SigningKey::NextRsa));
    api.clock.advance(Duration::from_secs(29));
    assert_eq!(api.call("/notes", &next).await, refusal);
    api.clock.advance(Duration::from_secs(1));
    assert_eq!(api.call("/notes", &next).await.status, 200);
}

/// Without a name, a new key looks like a wrong signature: that too causes one fetch in a while.
#[rocket::async_test]
async fn a_flood_of_tokens_without_a_key_name_causes_one_fetch() {
    let api = Api::open().await;
    let nameless = |token: &mut JwtParts| {
        token.remove_header("kid");
        token.signing = SigningKey::NextRsa;
    };
    let refusal = refused("the signature of the token is wrong");
    assert_eq!(api.whoami(|_| ()).await.status, 200);
    for _ in 0..50 {
        assert_eq!(api.whoami(nameless).await, refusal);
    }
    assert_eq!(api.provider.count(JWKS), 2);
    api.provider.rotate_rsa_key();
    api.clock.advance(Duration::from_secs(30));
    assert_eq!(api.whoami(nameless).await.status, 200);
    assert_eq!(api.provider.count(JWKS), 3);
}

/// With a name, the provider may have a new key of that name: that causes one fetch in a while, and takes none from
/// tokens that name a new key.
#[rocket::async_test]
async fn a_flood_of_wrong_signatures_causes_one_fetch() {
    let api = Api::open().await;
    let forged = |token: &mut JwtParts| token.break_signature = true;
    let refusal = refused("the signature of the token is wrong");
    assert_eq!(api.whoami(|_| ()).await.status, 200);
    for count in [2, 3] {
        for _ in 0..20 {
            assert_eq!(api.whoami(forged).await, refusal);
        }
        assert_eq!(api.provider.count(JWKS), count);
        api.clock.advance(Duration::from_secs(30));
    }
    assert_eq!(api.whoami(forged).await, refusal);
    assert_eq!(api.provider.count(JWKS), 4);
    api.provider.rotate_rsa_key();
    let next = |token: &mut JwtParts| token.sign_with(SigningKey::NextRsa);
    assert_eq!(api.whoami(next).await.status, 200);
    assert_eq!(api.provider.count(JWKS), 5);
}

#[rocket::async_test]
async fn a_new_key_of_the_same_name() {
    let api = Api::open().await;
    assert_eq!(api.whoami(|_| ()).await.status, 200);
    api.provider.on_jwks(|reply| {
        let mut jwk = SigningKey::NextRsa.jwk();
        jwk["kid"] = json!("rsa-1");
        reply.set("keys", json!([jwk]));
    });
    let next = |token: &mut JwtParts| {
        token.sign_with(SigningKey::NextRsa);
        token.set_header("kid", "rsa-1");
    };
    assert_eq!(api.whoami(next).await.status, 200);
    assert_eq!(api.provider.count(JWKS), 2);
}

/// What is refused for its claims costs no look at the keys.
#[rocket::async_test]
async fn a_token_that_is_refused_for_its_claims_reads_no_key() {
    let api = Api::open().await;
    let changes: [fn(&mut JwtParts); 4] = [
        |token| token.set("exp", crate::common::NOW - 60),
        |token| token.set("aud", "other"),
        |token| token.set("iss", "https://other.example"),
        // One that is not listed may be what the key names.
        |token| token.set_header("alg", "HS256"),
    ];
    for change in changes {
        assert_eq!(api.whoami(change).await.status, 401);
    }
    assert_eq!(api.provider.count(JWKS), 0);
}

/// The provider says how long its keys serve; when they are due, they are fetched beside the request.
#[rocket::async_test]
async fn keys_are_cached_as_long_as_their_provider_says() {
    let provider = TestProvider::start().await;
    provider.on_jwks(|reply| reply.set_header("Cache-Control", "public, max-age=600"));
    let api = Api::at(provider, json!({})).await;
    let token = |api: &Api| {
        api.provider.access_token("notes:read", |token| {
            token.set("exp", crate::common::NOW + 100_000);
        })
    };
    assert_eq!(api.call("/notes", &token(&api)).await.status, 200);
    api.clock.advance(Duration::from_secs(599));
    assert_eq!(api.call("/notes", &token(&api)).await.status, 200);
    assert_eq!(api.provider.count(JWKS), 1);
    api.clock.advance(Duration::from_secs(1));
    let held = api.provider.hold(JWKS);
    for _ in 0..20 {
        assert_eq!(api.call("/notes", &token(&api)).await.status, 200);
    }
    api.provider.until_requested(JWKS, 2).await;
    assert_eq!(api.provider.count(JWKS), 2);
    held.release();
    // Whoever fetches next does so after all who wanted to before: that was one.
    let unknown = api.whoami(|token| {
        token.set("exp", crate::common::NOW + 100_000);
        token.set_header("kid", "unknown");
    });
    assert_eq!(unknown.await, refused("the token is signed with an unknown key"));
    assert_eq!(api.provider.count(JWKS), 3);
}

/// A key that nobody can use is skipped, and takes no other with it.
#[rocket::async_test]
async fn unusable_keys_are_skipped() {
    let provider = TestProvider::start().await;
    provider.on_jwks(|reply| {
        reply.edit(|set| {
            let keys = set["keys"].as_array_mut().unwrap();
            let own = |change: serde_json::Value| {
                let mut jwk = SigningKey::Foreign.jwk();
                jwk["kid"] = json!("foreign");
                for (member, value) in change.as_object().unwrap() {
                    jwk[member] = value.clone();
                }
                jwk
            };
            let unusable = [
                json!("no object"),
                own(json!({ "use": "enc" })),
                own(json!({ "key_ops": ["encrypt"] })),
                own(json!({ "alg": "RSA-OAEP" })),
                own(json!({ "d": "AQAB" })),
                own(json!({ "n": "AQAB" })),
                json!({ "kty": "oct", "kid": "foreign", "k": "AQAB" }),
            ];
            keys.splice(..0, unusable);
        });
    });
    let api = Api::at(provider, json!({})).await;
    api.refuses(
        |token| {
            token.signing = SigningKey::Foreign;
            token.set_header("kid", "foreign");
        },
        "the token is signed with an unknown key",
        "the provider's key set has no usable key \"foreign\"",
    )
    .await;
}

/// A key set of a thousand keys, one of an odd kind among them.
#[rocket::async_test]
async fn a_key_is_found_among_a_thousand() {
    let provider = TestProvider::start().await;
    provider.on_jwks(|reply| {
        reply.edit(|set| {
            let keys = set["keys"].as_array_mut().unwrap();
            let others = (0..1000).map(|i| {
                let mut jwk = SigningKey::Foreign.jwk();
                jwk["kid"] = json!(format!("other-{i}"));
                jwk
            });
            let odd = json!({ "kty": "XYZ", "kid": "odd" });
            let all: Vec<_> = others.chain([odd]).chain(keys.drain(..)).collect();
            *keys = all;
        });
    });
    let api = Api::at(provider, json!({})).await;
    assert_eq!(api.whoami(|_| ()).await.status, 200);
    let other = api
        .whoami(|token| {
            token.signing = SigningKey::Foreign;
            token.set_header("kid", "other-999");
        })
        .await;
    assert_eq!(other.status, 200);
}
