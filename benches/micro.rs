//! The parts of a guard by themselves: a token of each algorithm, key sets of each size, what is refused.
//!
//! ```sh
//! cargo bench --bench micro
//! ```

#[path = "requests/issuer.rs"]
#[expect(dead_code, reason = "it does not go away here")]
mod issuer;

use std::sync::OnceLock;

use divan::{Bencher, black_box};
use rocket_openidconnect::__private::{AccessTokens, SessionCookies, is_bearer, object, usable_keys};
use serde_json::{Value, json};

use crate::issuer::{AUDIENCE, Issuer, now};

fn main() {
    divan::main();
}

struct Api {
    issuer: std::sync::Arc<Issuer>,
    tokens: AccessTokens,
    claims: Value,
}

/// An API, and an issuer with so many further keys.
fn api(further_keys: usize) -> Api {
    let issuer = Issuer::start(further_keys);
    let jwks = issuer.key_set().to_string();
    let mut claims = issuer.claims(0);
    claims["exp"] = json!(now() + 100_000);
    Api {
        tokens: AccessTokens::new(jwks.as_bytes(), &issuer.url, AUDIENCE),
        issuer,
        claims,
    }
}

fn shared() -> &'static Api {
    static API: OnceLock<Api> = OnceLock::new();
    API.get_or_init(|| api(0))
}

#[divan::bench(args = ["RS256", "ES256", "EdDSA"])]
fn accept(bencher: Bencher<'_, '_>, algorithm: &str) {
    let api = shared();
    let token = match algorithm {
        "RS256" => api.issuer.rs256(&api.claims),
        "ES256" => api.issuer.es256(&api.claims),
        _ => api.issuer.eddsa(&api.claims),
    };
    assert!(api.tokens.accept(&token, now()));
    bencher.bench(|| api.tokens.accept(black_box(&token), now()));
}

#[divan::bench(args = [0, 10, 100, 1_000])]
fn accept_eddsa_among_keys(bencher: Bencher<'_, '_>, further_keys: usize) {
    let api = api(further_keys);
    let token = api.issuer.eddsa(&api.claims);
    assert!(api.tokens.accept(&token, now()));
    bencher.bench(|| api.tokens.accept(black_box(&token), now()));
}

#[divan::bench(args = ["malformed", "expired", "wrong audience", "unknown key", "bad signature"])]
fn refuse(bencher: Bencher<'_, '_>, why: &str) {
    let api = shared();
    let mut claims = api.claims.clone();
    let token = match why {
        "malformed" => "a.b.c".to_owned(),
        "expired" => {
            claims["exp"] = json!(now() - 3600);
            api.issuer.rs256(&claims)
        }
        "wrong audience" => {
            claims["aud"] = json!("other");
            api.issuer.rs256(&claims)
        }
        "unknown key" => Issuer::compact("EdDSA", "nobody", &claims, |_| vec![0; 64]),
        _ => {
            let token = api.issuer.rs256(&claims);
            format!("{}AAAA", &token[..token.len() - 4])
        }
    };
    assert!(!api.tokens.accept(&token, now()));
    bencher.bench(|| api.tokens.accept(black_box(&token), now()));
}

#[divan::bench]
fn read_claims(bencher: Bencher<'_, '_>) {
    let json = shared().claims.to_string();
    bencher.bench(|| object(black_box(json.as_bytes())));
}

#[divan::bench]
fn read_header(bencher: Bencher<'_, '_>) {
    let header = format!("Bearer {}", shared().issuer.rs256(&shared().claims));
    assert!(is_bearer(&header));
    bencher.bench(|| is_bearer(black_box(&header)));
}

#[divan::bench(args = [1, 10, 1_000])]
fn parse_key_set(bencher: Bencher<'_, '_>, keys: usize) {
    let json = Issuer::start(keys).key_set().to_string();
    assert_eq!(usable_keys(json.as_bytes()), Some(keys + 3));
    bencher.bench(|| usable_keys(black_box(json.as_bytes())));
}

/// A session at first sight: its cookie is decrypted, and read.
#[divan::bench(args = [500, 2_000, 3_500])]
fn open_session_cookie(bencher: Bencher<'_, '_>, bytes: usize) {
    let mut claims = json!({ "iss": "https://op.example", "sub": "alice", "groups": [] });
    while claims.to_string().len() < bytes {
        claims["groups"]
            .as_array_mut()
            .unwrap()
            .push(json!("staff of the north"));
    }
    let key = "07".repeat(32);
    let cookies = SessionCookies::new(&key, "https://op.example", "app").unwrap();
    let text = cookies.with_claims(serde_json::from_value(claims).unwrap());
    bencher.bench(|| cookies.decrypt(black_box(&text)).unwrap());
}
