//! JWT access tokens: one change to an accepted token, one reason to refuse it.

use std::time::Duration;

use serde_json::{Value, json};

use super::app::{Api, refused};
use crate::{
    common::NOW,
    support::{SigningKey, TestProvider, case},
};

#[rocket::async_test]
async fn a_token_for_this_api_is_accepted() {
    let api = Api::open().await;
    let answer = api.whoami(|_| ()).await;
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(
        (answer.status, body),
        (
            200,
            json!({
                "sub": "alice", "client_id": "client", "iss": api.provider.issuer(),
                "scopes": ["notes:read"], "exp": NOW + 300,
            })
        )
    );
    assert_eq!(answer.challenge, None);
}

#[rocket::async_test]
async fn a_token_that_was_accepted_expires() {
    let api = Api::open().await;
    let token = api.provider.access_token("notes:read", |_| ());
    assert_eq!(api.call("/notes", &token).await.status, 200);
    // `exp` is in 300 s, and the clock may differ by 60 s.
    api.clock.advance(Duration::from_secs(359));
    assert_eq!(api.call("/notes", &token).await.status, 200);
    api.clock.advance(Duration::from_secs(1));
    assert_eq!(api.call("/notes", &token).await, refused("the token has expired"));
}

#[rocket::async_test]
async fn access_token_expired() {
    let api = Api::open().await;
    let logged = format!(
        "the token expired at {}, it is now {NOW} (seconds since 1970)",
        NOW - 60
    );
    api.refuses(|token| token.set("exp", NOW - 60), "the token has expired", &logged)
        .await;
}

#[rocket::async_test]
async fn access_token_without_exp() {
    let api = Api::open().await;
    api.refuses(
        |token| token.remove("exp"),
        "a claim of the token is missing or of the wrong type",
        "the claim \"exp\" is missing",
    )
    .await;
}

#[rocket::async_test]
async fn access_token_not_yet_valid() {
    let api = Api::open().await;
    let logged = format!(
        "the token is valid from {}, it is only {NOW} now (seconds since 1970)",
        NOW + 61
    );
    api.refuses(
        |token| token.set("nbf", NOW + 61),
        "the token is not valid yet",
        &logged,
    )
    .await;
}

#[rocket::async_test]
async fn access_token_for_another_api() {
    let api = Api::open().await;
    api.refuses(
        |token| token.set("aud", "https://other.example.com"),
        "the token is meant for another API",
        "the token is meant for [\"https://other.example.com\"], expected one of [\"https://api.example.com\"]",
    )
    .await;
}

#[rocket::async_test]
async fn access_token_without_audience() {
    let api = Api::open().await;
    api.refuses(
        |token| token.remove("aud"),
        "a claim of the token is missing or of the wrong type",
        "the claim \"aud\" is missing",
    )
    .await;
}

#[rocket::async_test]
async fn access_token_of_another_issuer() {
    let api = Api::open().await;
    let expected = api.provider.issuer();
    let logged = format!("the token is issued by \"{expected}/\", expected one of [\"{expected}\"]");
    api.refuses(
        |token| token.set("iss", format!("{expected}/")),
        "the token comes from another issuer",
        &logged,
    )
    .await;
}

#[rocket::async_test]
async fn access_token_signed_by_another_key() {
    let api = Api::open().await;
    api.refuses(
        |token| token.signing = SigningKey::Foreign,
        "the signature of the token is wrong",
        "the RS256 signature of the token is wrong",
    )
    .await;
    api.refuses(
        |token| token.break_signature = true,
        "the signature of the token is wrong",
        "the RS256 signature of the token is wrong",
    )
    .await;
}

#[rocket::async_test]
async fn access_token_without_signature() {
    let api = Api::open().await;
    api.refuses(
        |token| token.strip_signature = true,
        "the signature of the token is wrong",
        "the RS256 signature of the token is wrong",
    )
    .await;
    for alg in ["none", "None", "nOnE", "NONE"] {
        api.refuses(
            |token| {
                token.sign_with(SigningKey::None);
                token.set_header("alg", alg);
            },
            "the token is signed with an algorithm that is not accepted",
            &format!("the token is signed with {alg:?}, which is never accepted"),
        )
        .await;
    }
}

/// The public key, in any form, is no shared secret.
#[rocket::async_test]
async fn access_token_signed_with_the_public_key_as_secret() {
    let api = Api::open().await;
    let pem = SigningKey::Rsa.public_pem();
    let jwk = SigningKey::Rsa.jwk().to_string();
    for secret in [pem.clone(), pem.trim_end().to_owned(), jwk, "correct horse".into()] {
        api.refuses(
            |token| {
                token.sign_with(SigningKey::Hs256(secret.into_bytes()));
                token.set_header("kid", "rsa-1");
            },
            "the token is signed with an algorithm that is not accepted",
            "the token is signed with HS256, expected RS256, PS256, ES256, EdDSA",
        )
        .await;
    }
}

/// HS256 for ID tokens does not make access tokens of it good.
#[rocket::async_test]
async fn access_token_signed_with_the_client_secret() {
    let settings = json!({ "id_token_signing_algs": ["HS256", "RS256"] });
    let api = Api::with(settings).await;
    api.refuses(
        |token| token.sign_with(SigningKey::Hs256(b"correct horse".to_vec())),
        "the token is signed with an algorithm that is not accepted",
        "the token is signed with HS256, expected RS256, PS256, ES256, EdDSA",
    )
    .await;
}

#[rocket::async_test]
async fn the_algorithms_can_be_limited() {
    let api = Api::with(json!({ "access_token_signing_algs": "RS256 PS256" })).await;
    api.refuses(
        |token| token.sign_with(SigningKey::Ec),
        "the token is signed with an algorithm that is not accepted",
        "the token is signed with ES256, expected RS256, PS256",
    )
    .await;
}

#[rocket::async_test]
async fn every_algorithm_of_the_metadata_is_accepted() {
    let api = Api::open().await;
    for key in [SigningKey::Rsa, SigningKey::Ec, SigningKey::Ed] {
        let answer = api.whoami(|token| token.sign_with(key)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    // One key fits each algorithm, so the name of it may be missing.
    let answer = api.whoami(|token| token.remove_header("kid")).await;
    assert_eq!(answer.status, 200);
}

#[rocket::async_test]
async fn access_token_of_another_type() {
    let api = Api::open().await;
    api.refuses(
        |token| token.set_header("typ", "logout+jwt"),
        "the token is not an access token",
        "the token is of type \"logout+jwt\", expected \"at+jwt\", \"JWT\", \"JOSE\" or none",
    )
    .await;
    assert_eq!(api.whoami(|token| token.set_header("typ", "JWT")).await.status, 200);
    assert_eq!(api.whoami(|token| token.remove_header("typ")).await.status, 200);

    let api = Api::with(json!({ "require_at_jwt": true })).await;
    api.refuses(
        |token| token.set_header("typ", "JWT"),
        "the token is not an access token",
        "the token is of type \"JWT\", expected \"at+jwt\"",
    )
    .await;
    api.refuses(
        |token| token.remove_header("typ"),
        "the token is not an access token",
        "the token is of no type, expected \"at+jwt\"",
    )
    .await;
}

#[rocket::async_test]
async fn access_token_bound_to_a_key() {
    let api = Api::open().await;
    api.refuses(
        |token| token.set("cnf", json!({ "jkt": "A".repeat(43) })),
        "the token is bound to a key, which the request does not prove",
        "the token is bound to a key by \"cnf\", and the request has no proof of that key",
    )
    .await;
}

#[rocket::async_test]
async fn logout_token_as_access_token() {
    let api = Api::open().await;
    let logout_token = api.provider.logout_token(|token| {
        token.set("aud", TestProvider::API);
        token.set_header("typ", "JWT");
    });
    assert_eq!(
        api.call("/whoami", &logout_token).await,
        refused("the token is not an access token")
    );
}

/// Without an audience of the API's own, an ID token has the right one.
#[rocket::async_test]
async fn id_token_as_access_token() {
    let api = Api::with(json!({ "audience": null })).await;
    let for_the_client = |token: &mut crate::support::JwtParts| {
        token.set("aud", "client");
        token.set_header("typ", "JWT");
    };
    assert_eq!(api.whoami(for_the_client).await.status, 200);
    for name in ["at_hash", "c_hash", "s_hash"] {
        let answer = api
            .whoami(|token| {
                for_the_client(token);
                token.set(name, "x");
            })
            .await;
        assert_eq!(answer, refused("the token is not an access token"), "{name}");
    }
    // Access tokens of Azure AD B2C have a nonce. Beside a scope of the API it is no sign, beside OpenID's it is.
    for (scope, status) in [("notes:read", 200), ("openid email", 401)] {
        let answer = api
            .whoami(|token| {
                for_the_client(token);
                token.set("nonce", "x");
                token.set("scope", scope);
            })
            .await;
        assert_eq!(answer.status, status, "{scope}");
    }
    let bare = api
        .whoami(|token| {
            for_the_client(token);
            token.remove("scope");
            token.remove("client_id");
        })
        .await;
    let unknown = refused("the token does not show that it is an access token");
    assert_eq!(bare, unknown);
}

#[rocket::async_test]
async fn access_token_with_a_member_twice() {
    let api = Api::open().await;
    api.refuses(
        |token| {
            let claims = json!(token.claims).to_string();
            token.raw_claims = Some(claims.replacen('{', "{\"sub\":\"admin\",", 1));
        },
        "the token is not a well-formed signed JWT",
        "the payload of the token cannot be parsed: the member \"sub\" occurs more than once in one JSON object",
    )
    .await;
}

#[rocket::async_test]
async fn access_token_that_requires_extensions() {
    let api = Api::open().await;
    api.refuses(
        |token| token.set_header("crit", json!(["exp"])),
        "the token is not a well-formed signed JWT",
        "the token requires header extensions (\"crit\"), of which none is supported",
    )
    .await;
}

#[rocket::async_test]
async fn access_token_that_brings_its_own_key() {
    let api = Api::open().await;
    api.refuses(
        |token| {
            token.signing = SigningKey::Foreign;
            token.set_header("kid", "own");
            let mut jwk = SigningKey::Foreign.jwk();
            jwk["kid"] = "own".into();
            token.set_header("jwk", jwk);
        },
        "the token is signed with an unknown key",
        "the provider's key set has no usable key \"own\"",
    )
    .await;
    for member in ["jku", "x5u"] {
        let stranger = TestProvider::start().await;
        let url = format!("{}/jwks", stranger.issuer());
        api.refuses(
            |token| {
                token.signing = SigningKey::Foreign;
                token.set_header("kid", member);
                token.set_header(member, url);
            },
            "the token is signed with an unknown key",
            &format!("the provider's key set has no usable key {member:?}"),
        )
        .await;
        assert_eq!(stranger.requests().len(), 0);
    }
}

/// 16 KiB, and a byte more, which nobody reads.
#[rocket::async_test]
async fn access_token_too_long() {
    let api = Api::open().await;
    let length = |filler: usize| {
        let token = api.provider.access_token("notes:read", |token| {
            token.set("filler", "x".repeat(filler));
            token.set("jti", "j");
        });
        token.len()
    };
    let filler = (11_000..13_000)
        .rev()
        .find(|filler| length(*filler) <= 16 * 1024)
        .unwrap();
    let fits = |token: &mut crate::support::JwtParts, filler: usize| {
        token.set("filler", "x".repeat(filler));
        token.set("jti", "j");
    };
    assert_eq!(api.whoami(|token| fits(token, filler)).await.status, 200);
    let answer = api.whoami(|token| fits(token, filler + 3)).await;
    assert_eq!(answer, refused("the token is too long"));
}

/// Keycloak leaves most claims out of tokens that are to be introspected: the log says what to change there.
#[rocket::async_test]
async fn access_token_that_is_lightweight() {
    let api = Api::open().await;
    for (claims, error, remedy) in [
        (
            &["sub", "aud", "client_id"][..],
            "the claim \"aud\" is missing",
            "have the provider put this API into `aud` (an audience mapper, or a resource indicator); for Amazon Cognito, set `audience_claim = \"client_id\"`",
        ),
        (
            &["sub", "client_id"],
            "the token has neither \"sub\" nor \"client_id\"",
            "have the provider put `sub` or `client_id` into its access tokens; lightweight tokens lack them",
        ),
    ] {
        case(error);
        let refused = api.whoami(|token| claims.iter().for_each(|claim| token.remove(claim)));
        assert_eq!(refused.await.status, 401);
        let lines = api.log.debug_lines();
        let said = [
            format!("DEBUG: the access token is rejected: {error}"),
            format!("DEBUG: {remedy}"),
        ];
        assert!(lines.windows(2).any(|pair| pair == said), "{lines:#?}");
    }
}

#[rocket::async_test]
async fn access_token_without_sub_and_client_id() {
    let api = Api::open().await;
    api.refuses(
        |token| {
            token.remove("sub");
            token.remove("client_id");
        },
        "the token names neither a user nor a client",
        "the token has neither \"sub\" nor \"client_id\"",
    )
    .await;
    let client = api.whoami(|token| token.remove("sub")).await;
    let body: Value = serde_json::from_str(&client.body).unwrap();
    assert_eq!((&body["sub"], &body["client_id"]), (&Value::Null, &json!("client")));
}

#[rocket::async_test]
async fn roles_count_as_scopes_when_set() {
    let roles = |token: &mut crate::support::JwtParts| {
        token.set("realm_access", json!({ "roles": ["admin"] }));
    };
    let api = Api::open().await;
    let token = api.provider.access_token("", roles);
    assert_eq!(api.call("/admin", &token).await.status, 403);
    let api = Api::with(json!({ "roles_claim": "realm_access.roles" })).await;
    let token = api.provider.access_token("", roles);
    assert_eq!(api.call("/admin", &token).await.status, 200);
}
