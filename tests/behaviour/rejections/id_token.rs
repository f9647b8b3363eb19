//! ID tokens that must not be accepted, and odd ones that must.

use serde_json::{Value, json};

use super::{accepted, accepted_with, refused, refused_with};
use crate::common::NOW;
use crate::support::keys::base64url;
use crate::support::{JwtParts, SigningKey, TestProvider};

/// The ID token is changed in one thing, and refused with this.
async fn token_refused(change: impl Fn(&mut JwtParts) + Send + Sync + Clone + 'static, error: &str) {
    token_refused_with(json!({}), change, error).await;
}

async fn token_refused_with(
    settings: Value,
    change: impl Fn(&mut JwtParts) + Send + Sync + Clone + 'static,
    error: &str,
) {
    refused_with(
        settings,
        |provider| provider.on_id_token(change.clone()),
        502,
        &format!("the ID token is rejected: {error}"),
    )
    .await;
}

async fn token_accepted(change: impl Fn(&mut JwtParts) + Send + Sync + Clone + 'static) {
    accepted(|provider| provider.on_id_token(change.clone())).await;
}

async fn token_accepted_with(settings: Value, change: impl Fn(&mut JwtParts) + Send + Sync + Clone + 'static) {
    accepted_with(settings, |provider| provider.on_id_token(change.clone())).await;
}

// ---- The form.

#[rocket::async_test]
async fn not_three_parts() {
    for (raw, parts) in [(".", 2), ("no token", 1), ("a.b", 2), ("a.b.c.d.e", 5)] {
        let error = format!("expected a signed JWT of 3 parts, found {parts}");
        token_refused(move |token| token.raw = Some(raw.to_owned()), &error).await;
    }
}

#[rocket::async_test]
async fn not_base64url() {
    token_refused(
        |token| token.raw = Some(token.compact().replacen('.', "=.", 1)),
        "the header of the token is not base64url without padding",
    )
    .await;
}

#[rocket::async_test]
async fn longer_than_any_token() {
    let settings = json!({"http": {"max_body": 1_000_000}});
    token_refused_with(
        settings,
        |token| token.raw = Some("a".repeat(65_537)),
        "the token has 65537 bytes, more than 65536",
    )
    .await;
}

#[rocket::async_test]
async fn duplicate_member_in_the_claims() {
    token_refused(
        |token| {
            let claims = json!(token.claims).to_string();
            token.raw_claims = Some(claims.replacen('{', "{\"sub\":\"mallory\",", 1));
        },
        "the payload of the token cannot be parsed: the member \"sub\" occurs more than once in one JSON object",
    )
    .await;
}

#[rocket::async_test]
async fn duplicate_member_in_the_header() {
    token_refused(
        |token| {
            let header = json!(token.header).to_string();
            token.raw_header = Some(header.replacen('{', "{\"alg\":\"none\",", 1));
        },
        "the header of the token cannot be parsed: the member \"alg\" occurs more than once in one JSON object",
    )
    .await;
}

#[rocket::async_test]
async fn claims_are_no_object() {
    token_refused(
        |token| token.raw_claims = Some("[\"alice\"]".to_owned()),
        "the payload of the token cannot be parsed: expected a JSON object, found an array",
    )
    .await;
}

#[rocket::async_test]
async fn crit() {
    token_refused(
        |token| token.set_header("crit", json!(["exp"])),
        "the token requires header extensions (\"crit\"), of which none is supported",
    )
    .await;
}

#[rocket::async_test]
async fn typ_of_another_token() {
    for typ in ["at+jwt", "application/at+jwt", "Logout+JWT"] {
        let error = format!("the token is of type \"{typ}\", which must not be used here");
        token_refused(move |token| token.set_header("typ", typ), &error).await;
    }
    token_accepted(|token| token.set_header("typ", "JWT")).await;
}

// ---- The signature.

#[rocket::async_test]
async fn alg_none_in_any_spelling() {
    for alg in ["none", "None", "NONE", "nOnE", "none ", ""] {
        let error = format!("the token is signed with \"{alg}\", which is never accepted");
        token_refused(
            move |token| {
                token.sign_with(SigningKey::None);
                token.set_header("alg", alg);
            },
            &error,
        )
        .await;
    }
}

#[rocket::async_test]
async fn alg_missing() {
    token_refused(
        |token| token.remove_header("alg"),
        "the header of the token has no \"alg\"",
    )
    .await;
}

#[rocket::async_test]
async fn alg_that_is_not_announced() {
    token_refused(
        |token| token.set_header("alg", "RS512"),
        "the token is signed with RS512, expected RS256, PS256, ES256, EdDSA",
    )
    .await;
}

#[rocket::async_test]
async fn alg_that_is_announced_but_not_set() {
    token_refused_with(
        json!({"id_token_signing_algs": ["ES256"]}),
        |_| {},
        "the token is signed with RS256, expected ES256",
    )
    .await;
}

#[rocket::async_test]
async fn each_announced_alg_is_accepted() {
    token_accepted(|token| token.sign_with(SigningKey::Ec)).await;
    token_accepted(|token| token.sign_with(SigningKey::Ed)).await;
    accepted(|provider| {
        provider.on_jwks(|keys| {
            let mut key = SigningKey::Rsa.jwk();
            key["alg"] = json!("PS256");
            keys.set("keys", json!([key]));
        });
        provider.on_id_token(|token| token.set_header("alg", "PS256"));
    })
    .await;
}

#[rocket::async_test]
async fn alg_that_the_key_is_not_for() {
    token_refused(
        |token| token.set_header("alg", "PS256"),
        "the provider's key set has no key for PS256 named \"rsa-1\"",
    )
    .await;
}

#[rocket::async_test]
async fn alg_of_another_kind_of_key() {
    token_refused(
        |token| {
            token.sign_with(SigningKey::Ec);
            token.set_header("kid", "rsa-1");
        },
        "the provider's key set has no key for ES256 named \"rsa-1\"",
    )
    .await;
}

/// Signs as those do who hope that the public key is taken for a secret.
fn with_the_public_key(token: &mut JwtParts) {
    token.sign_with(SigningKey::Hs256(SigningKey::Rsa.public_pem().into_bytes()));
    token.set_header("kid", "rsa-1");
}

#[rocket::async_test]
async fn hs256_with_the_public_key() {
    token_refused(
        with_the_public_key,
        "the token is signed with HS256, expected RS256, PS256, ES256, EdDSA",
    )
    .await;
}

#[rocket::async_test]
async fn hs256_with_the_public_key_where_hs256_is_set() {
    token_refused_with(
        json!({"id_token_signing_algs": ["RS256", "HS256"]}),
        with_the_public_key,
        "the HS256 signature of the token is wrong",
    )
    .await;
}

fn with_the_client_secret(token: &mut JwtParts) {
    token.sign_with(SigningKey::Hs256(b"correct horse".to_vec()));
}

/// Even when the metadata lists it: only the setting allows it.
#[rocket::async_test]
async fn hs256_by_default() {
    refused(
        |provider| {
            provider.metadata(|metadata| {
                let listed = json!(["RS256", "HS256"]);
                metadata.insert("id_token_signing_alg_values_supported".to_owned(), listed);
            });
            provider.on_id_token(with_the_client_secret);
        },
        502,
        "the ID token is rejected: the token is signed with HS256, expected RS256",
    )
    .await;
}

#[rocket::async_test]
async fn hs256_where_it_is_set() {
    let settings = json!({"id_token_signing_algs": ["HS256"]});
    token_accepted_with(settings, with_the_client_secret).await;
}

#[rocket::async_test]
async fn hs256_with_the_empty_secret() {
    token_refused_with(
        json!({"id_token_signing_algs": ["HS256"]}),
        |token| token.sign_with(SigningKey::Hs256(vec![])),
        "the HS256 signature of the token is wrong",
    )
    .await;
}

#[rocket::async_test]
async fn foreign_key_under_a_known_kid() {
    token_refused(
        |token| token.sign_with(SigningKey::Foreign),
        "the RS256 signature of the token is wrong",
    )
    .await;
}

#[rocket::async_test]
async fn unknown_kid() {
    token_refused(
        |token| token.set_header("kid", "rsa-9"),
        "the provider's key set has no usable key \"rsa-9\"",
    )
    .await;
}

#[rocket::async_test]
async fn key_in_the_header() {
    token_refused(
        |token| {
            token.sign_with(SigningKey::Foreign);
            token.set_header("jwk", SigningKey::Foreign.jwk());
        },
        "the RS256 signature of the token is wrong",
    )
    .await;
}

/// The address is not even asked.
#[rocket::async_test]
async fn address_of_a_key_in_the_header() {
    let elsewhere = TestProvider::start().await;
    for member in ["jku", "x5u"] {
        let url = format!("{}/jwks", elsewhere.issuer());
        token_refused(
            move |token| {
                token.sign_with(SigningKey::Foreign);
                token.set_header(member, url.as_str());
            },
            "the RS256 signature of the token is wrong",
        )
        .await;
    }
    assert_eq!(elsewhere.requests().len(), 0);
}

#[rocket::async_test]
async fn signature_stripped() {
    token_refused(
        |token| token.strip_signature = true,
        "the RS256 signature of the token is wrong",
    )
    .await;
}

#[rocket::async_test]
async fn claims_changed_after_signing() {
    token_refused(
        |token| {
            let compact = token.compact();
            let mut parts: Vec<_> = compact.split('.').collect();
            token.set("sub", "mallory");
            let claims = base64url(json!(token.claims).to_string());
            parts[1] = &claims;
            token.raw = Some(parts.join("."));
        },
        "the RS256 signature of the token is wrong",
    )
    .await;
}

// ---- The times. Clocks may be 60 s apart.

#[rocket::async_test]
async fn expired() {
    token_refused(
        |token| token.set("exp", NOW - 60),
        "the token expired at 1699999940, it is now 1700000000 (seconds since 1970)",
    )
    .await;
    token_accepted(|token| token.set("exp", NOW - 59)).await;
}

#[rocket::async_test]
async fn expired_by_another_clock_skew() {
    token_refused_with(
        json!({"clock_skew": "5s"}),
        |token| token.set("exp", NOW - 5),
        "the token expired at 1699999995, it is now 1700000000 (seconds since 1970)",
    )
    .await;
}

#[rocket::async_test]
async fn exp_missing() {
    token_refused(|token| token.remove("exp"), "the claim \"exp\" is missing").await;
}

#[rocket::async_test]
async fn times_that_are_no_numbers() {
    for claim in ["exp", "iat", "nbf"] {
        for (time, actual) in [
            (json!("1700000300"), "a string"),
            (json!([1_700_000_300]), "an array"),
            (json!(true), "a boolean"),
        ] {
            let error = format!("the claim \"{claim}\" is {actual}, not a number");
            token_refused(move |token| token.set(claim, time.clone()), &error).await;
        }
    }
}

#[rocket::async_test]
async fn iat_in_the_future() {
    token_refused(
        |token| token.set("iat", NOW + 61),
        "the token was issued at 1700000061, it is only 1700000000 now (seconds since 1970)",
    )
    .await;
    token_accepted(|token| token.set("iat", NOW + 60)).await;
}

#[rocket::async_test]
async fn nbf_in_the_future() {
    token_refused(
        |token| token.set("nbf", NOW + 61),
        "the token is valid from 1700000061, it is only 1700000000 now (seconds since 1970)",
    )
    .await;
    token_accepted(|token| token.set("nbf", NOW + 60)).await;
}

// ---- Whom it is by, for, and about.

#[rocket::async_test]
async fn iss_missing() {
    token_refused(|token| token.remove("iss"), "the claim \"iss\" is missing").await;
}

#[rocket::async_test]
async fn iss_with_a_slash_more() {
    refused(
        |provider| {
            let other = format!("{}/", provider.issuer());
            provider.on_id_token(move |token| token.set("iss", other.as_str()));
        },
        502,
        "the ID token is rejected: the token is issued by \"{issuer}/\", expected \"{issuer}\"",
    )
    .await;
}

#[rocket::async_test]
async fn aud_with_a_stranger() {
    token_refused(
        |token| token.set("aud", json!(["client", "other"])),
        "the token is also meant for \"other\", which is not a trusted audience",
    )
    .await;
}

#[rocket::async_test]
async fn aud_with_a_trusted_client() {
    let settings = json!({"trusted_audiences": ["other"]});
    token_accepted_with(settings, |token| {
        token.set("aud", json!(["other", "client"]));
    })
    .await;
}

#[rocket::async_test]
async fn aud_of_a_trusted_client_alone() {
    token_refused_with(
        json!({"trusted_audiences": ["other"]}),
        |token| token.set("aud", "other"),
        "the token is meant for [\"other\"], expected \"client\" among them",
    )
    .await;
}

#[rocket::async_test]
async fn aud_as_an_array_of_one() {
    token_accepted(|token| token.set("aud", json!(["client"]))).await;
}

#[rocket::async_test]
async fn aud_empty() {
    token_refused(
        |token| token.set("aud", json!([])),
        "the token is meant for [], expected \"client\" among them",
    )
    .await;
}

#[rocket::async_test]
async fn aud_that_begins_alike() {
    for aud in ["clien", "client2", "Client", "client ", ""] {
        let error = format!("the token is meant for [\"{aud}\"], expected \"client\" among them");
        token_refused(move |token| token.set("aud", aud), &error).await;
    }
}

#[rocket::async_test]
async fn aud_of_another_type() {
    for (aud, actual) in [
        (json!({"client": true}), "an object"),
        (json!(1), "a number"),
        (json!(["client", 1]), "an array with other values"),
    ] {
        let error = format!("the claim \"aud\" is {actual}, not a string or an array of strings");
        token_refused(move |token| token.set("aud", aud.clone()), &error).await;
    }
}

#[rocket::async_test]
async fn azp_of_another_client() {
    token_refused(
        |token| token.set("azp", "other"),
        "the ID token was issued to \"other\" (\"azp\"), expected \"client\"",
    )
    .await;
    token_accepted(|token| token.set("azp", "client")).await;
}

#[rocket::async_test]
async fn sub_empty() {
    token_refused(|token| token.set("sub", ""), "the claim \"sub\" is empty").await;
}

#[rocket::async_test]
async fn sub_of_another_type() {
    for (sub, actual) in [(json!(7), "a number"), (json!(["alice"]), "an array")] {
        let error = format!("the claim \"sub\" is {actual}, not a string");
        token_refused(move |token| token.set("sub", sub.clone()), &error).await;
    }
}

/// `null` is absent, and what is needed is missing then.
#[rocket::async_test]
async fn claims_that_are_null() {
    for claim in ["iss", "sub", "aud", "exp", "iat", "nonce"] {
        let error = format!("the claim \"{claim}\" is missing");
        token_refused(move |token| token.set(claim, Value::Null), &error).await;
    }
    for claim in ["azp", "at_hash", "nbf"] {
        token_accepted(move |token| token.set(claim, Value::Null)).await;
    }
}

// ---- What ties it to this sign-in.

#[rocket::async_test]
async fn nonce_missing() {
    token_refused(|token| token.remove("nonce"), "the claim \"nonce\" is missing").await;
}

#[rocket::async_test]
async fn at_hash_of_another_access_token() {
    token_refused(
        |token| token.bind_access_token("another"),
        "the \"at_hash\" of the ID token is not the hash of the access token it came with",
    )
    .await;
}

/// It is optional in the code flow.
#[rocket::async_test]
async fn at_hash_missing() {
    token_accepted(|token| token.remove("at_hash")).await;
}

fn max_age() -> Value {
    json!({"extra_authorization_parameters": {"max_age": 300}})
}

#[rocket::async_test]
async fn auth_time_missing_where_max_age_was_sent() {
    token_refused_with(
        max_age(),
        |token| token.remove("auth_time"),
        "the claim \"auth_time\" is missing",
    )
    .await;
    token_accepted(|token| token.remove("auth_time")).await;
}

#[rocket::async_test]
async fn auth_time_older_than_max_age() {
    token_refused_with(
        max_age(),
        |token| token.set("auth_time", NOW - 361),
        "the user was authenticated 361 s ago, expected at most 300 s",
    )
    .await;
    token_accepted_with(max_age(), |token| token.set("auth_time", NOW - 360)).await;
}

fn acr_values() -> Value {
    json!({"extra_authorization_parameters": {"acr_values": "urn:mfa urn:card"}})
}

#[rocket::async_test]
async fn acr_that_was_not_asked_for() {
    token_refused_with(
        acr_values(),
        |token| token.set("acr", "urn:pwd"),
        "the sign-in has the authentication context \"urn:pwd\", expected one of [\"urn:mfa\", \"urn:card\"]",
    )
    .await;
    token_accepted_with(acr_values(), |token| token.set("acr", "urn:card")).await;
}

#[rocket::async_test]
async fn acr_missing_where_it_was_asked_for() {
    token_refused_with(acr_values(), |_| {}, "the claim \"acr\" is missing").await;
}
