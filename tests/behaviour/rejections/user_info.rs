//! UserInfo answers that must not be accepted, and sign-ins that do without.

use serde_json::{Value, json};

use super::{accepted, accepted_with, refused};
use crate::common::NOW;
use crate::support::{JwtParts, Misbehaviour, Reply, SigningKey};

async fn reply_refused(change: impl Fn(&mut Reply) + Send + Sync + Clone + 'static, error: &str) {
    refused(|provider| provider.on_user_info(change.clone()), 502, error).await;
}

// ---- Another person, or nobody.

#[rocket::async_test]
async fn sub_missing() {
    reply_refused(
        |reply| reply.remove("sub"),
        "the UserInfo response is rejected: the claim \"sub\" is missing",
    )
    .await;
}

#[rocket::async_test]
async fn sub_of_another_person() {
    for sub in ["bob", "Alice", "alice ", ""] {
        let error = format!("the UserInfo response is about \"{sub}\", expected \"alice\"");
        reply_refused(move |reply| reply.set("sub", sub), &error).await;
    }
}

#[rocket::async_test]
async fn sub_as_an_array() {
    reply_refused(
        |reply| reply.set("sub", json!(["alice"])),
        "the UserInfo response is rejected: the claim \"sub\" is an array, not a string",
    )
    .await;
}

#[rocket::async_test]
async fn duplicate_member() {
    reply_refused(
        |reply| reply.body = br#"{"sub":"mallory","sub":"alice"}"#.to_vec(),
        "the UserInfo response cannot be parsed: the member \"sub\" occurs more than once in one JSON object",
    )
    .await;
}

#[rocket::async_test]
async fn an_array() {
    reply_refused(
        |reply| *reply = Reply::json(json!([{"sub": "alice"}])),
        "the UserInfo response cannot be parsed: expected a JSON object, found an array",
    )
    .await;
}

// ---- No answer.

#[rocket::async_test]
async fn html() {
    reply_refused(
        |reply| *reply = Reply::text("text/html", "<h1>Maintenance</h1>"),
        "the UserInfo response cannot be parsed: not valid JSON: parsing failed at line 1, column 1",
    )
    .await;
}

#[rocket::async_test]
async fn empty() {
    reply_refused(
        |reply| *reply = Reply::status(200),
        "the UserInfo response cannot be parsed: not valid JSON: parsing failed at line 1, column 0",
    )
    .await;
}

#[rocket::async_test]
async fn error_status() {
    for (status, expected) in [(401, 502), (403, 502), (404, 502), (429, 503), (500, 503), (503, 503)] {
        refused(
            |provider| provider.on_user_info(move |reply| *reply = Reply::status(status)),
            expected,
            &format!("the provider's UserInfo endpoint responded with status {status}"),
        )
        .await;
    }
}

#[rocket::async_test]
async fn connection_dropped() {
    refused(
        |provider| provider.on_path("/userinfo", Misbehaviour::Drop),
        503,
        "the provider's UserInfo endpoint is not reachable: connection closed before message completed",
    )
    .await;
}

#[rocket::async_test]
async fn body_too_large() {
    for body in [Misbehaviour::Huge(256 * 1024), Misbehaviour::Endless] {
        refused(
            |provider| provider.on_path("/userinfo", body.clone()),
            502,
            "the provider's UserInfo endpoint responded with more than 262144 bytes",
        )
        .await;
    }
}

// ---- Without UserInfo.

#[rocket::async_test]
async fn switched_off() {
    let settings = json!({"user_info_enabled": false});
    let (provider, _, page) = accepted_with(settings, |_| {}).await;
    assert_eq!(provider.count("/userinfo"), 0);
    assert_eq!(page.json::<Value>()["email"], Value::Null);
}

#[rocket::async_test]
async fn no_endpoint() {
    let (provider, ..) = accepted(|provider| {
        provider.metadata(|metadata| drop(metadata.remove("userinfo_endpoint")));
    })
    .await;
    assert_eq!(provider.count("/userinfo"), 0);
}

// ---- What it may say.

/// It adds to the ID token, and changes nothing the ID token says about the sign-in.
#[rocket::async_test]
async fn claims_about_the_sign_in_are_not_replaced() {
    let (provider, _, page) = accepted(|provider| {
        provider.on_user_info(|reply| {
            for claim in ["iss", "aud", "azp", "nonce", "acr", "sid", "amr"] {
                reply.set(claim, "forged");
            }
            for claim in ["exp", "iat", "auth_time"] {
                reply.set(claim, 4_000_000_000_u32);
            }
            reply.set("nickname", "Al");
        });
    })
    .await;
    page.sees_no("forged").sees_no("4000000000");
    let claims: Value = page.json();
    assert_eq!(claims["iss"], provider.issuer());
    assert_eq!(claims["nickname"], "Al");
}

#[rocket::async_test]
async fn odd_claims_do_not_fail_a_sign_in() {
    for (claim, value) in [
        ("email_verified", json!(1)),
        // Amazon Cognito.
        ("email_verified", json!("true")),
        ("updated_at", json!("2023-11-14T22:13:20Z")),
        ("address", json!("Oxford")),
        ("name", Value::Null),
    ] {
        accepted(|provider| {
            let value = value.clone();
            provider.on_user_info(move |reply| reply.set(claim, value.clone()));
        })
        .await;
    }
}

// ---- Signed.

async fn jwt_refused(change: impl Fn(&mut JwtParts) + Send + Sync + Clone + 'static, error: &str) {
    let error = format!("the UserInfo response {error}");
    refused(|provider| provider.user_info_as_jwt(change.clone()), 502, &error).await;
}

#[rocket::async_test]
async fn signed() {
    let (_, _, page) = accepted(|provider| provider.user_info_as_jwt(|_| {})).await;
    assert_eq!(page.json::<Value>()["email"], "alice@example.com");
}

#[rocket::async_test]
async fn signed_with_sub_of_another_person() {
    jwt_refused(|jwt| jwt.set("sub", "bob"), "is about \"bob\", expected \"alice\"").await;
}

#[rocket::async_test]
async fn signed_with_sub_missing() {
    jwt_refused(|jwt| jwt.remove("sub"), "is rejected: the claim \"sub\" is missing").await;
}

#[rocket::async_test]
async fn signed_for_another_client() {
    jwt_refused(
        |jwt| jwt.set("aud", "other"),
        "is rejected: the token is meant for [\"other\"], expected \"client\" among them",
    )
    .await;
}

#[rocket::async_test]
async fn signed_by_another_issuer() {
    jwt_refused(
        |jwt| jwt.set("iss", "https://other.example"),
        "is rejected: the token is issued by \"https://other.example\", expected \"{issuer}\"",
    )
    .await;
}

#[rocket::async_test]
async fn signed_and_expired() {
    jwt_refused(
        |jwt| jwt.set("exp", NOW - 60),
        "is rejected: the token expired at 1699999940, it is now 1700000000 (seconds since 1970)",
    )
    .await;
}

#[rocket::async_test]
async fn signed_by_a_foreign_key() {
    jwt_refused(
        |jwt| jwt.sign_with(SigningKey::Foreign),
        "is rejected: the RS256 signature of the token is wrong",
    )
    .await;
}

#[rocket::async_test]
async fn unsigned_as_a_jwt() {
    jwt_refused(
        |jwt| jwt.sign_with(SigningKey::None),
        "is rejected: the token is signed with \"none\", which is never accepted",
    )
    .await;
}

/// A response in JSON needs no signature; one that is signed needs a good one.
#[rocket::async_test]
async fn signed_wrongly() {
    const WRONG: &str = "the RS256 signature of the token is wrong";
    const HS256: &str = "the token is signed with HS256, expected RS256, PS256, ES256, EdDSA";
    type Change = fn(&mut JwtParts);
    let changes: [(Change, &str); 10] = [
        (|jwt| jwt.break_signature = true, WRONG),
        (|jwt| jwt.strip_signature = true, WRONG),
        (
            |jwt| {
                jwt.sign_with(SigningKey::Foreign);
                jwt.set_header("jwk", SigningKey::Foreign.jwk());
            },
            WRONG,
        ),
        (|jwt| jwt.sign_with(SigningKey::Hs256(b"correct horse".to_vec())), HS256),
        (
            |jwt| {
                let public_key = SigningKey::Rsa.public_pem().into_bytes();
                jwt.sign_with(SigningKey::Hs256(public_key));
            },
            HS256,
        ),
        (
            |jwt| jwt.set_header("alg", "RS512"),
            "the token is signed with RS512, expected RS256, PS256, ES256, EdDSA",
        ),
        (
            |jwt| jwt.set_header("alg", "PS256"),
            "the provider's key set has no key for PS256 named \"rsa-1\"",
        ),
        (
            |jwt| jwt.set_header("kid", "rsa-9"),
            "the provider's key set has no usable key \"rsa-9\"",
        ),
        (
            |jwt| jwt.set_header("alg", "NONE"),
            "the token is signed with \"NONE\", which is never accepted",
        ),
        (
            |jwt| jwt.set_header("crit", json!(["b64"])),
            "the token requires header extensions (\"crit\"), of which none is supported",
        ),
    ];
    for (change, error) in changes {
        jwt_refused(change, &format!("is rejected: {error}")).await;
    }
}

/// An access token in the form of a JWT has the same `iss`, `sub` and `aud`.
#[rocket::async_test]
async fn signed_as_another_kind_of_token() {
    jwt_refused(
        |jwt| jwt.set_header("typ", "at+jwt"),
        "is rejected: the token is of type \"at+jwt\", which must not be used here",
    )
    .await;
}
