//! What careless providers send and what harms nobody: people sign in. Where it is known who does it, the
//! name is there.

use rocket::http::Status;
use serde_json::{Map, Value, json};

use super::{accepted, refused};
use crate::support::{JwtParts, Reply, SigningKey, TestProvider};

/// People sign in whatever one of these changes is made to the ID token.
async fn with_claims(changes: Vec<(&'static str, Value)>) {
    for (claim, value) in changes {
        accepted(|provider| {
            let value = value.clone();
            provider.on_id_token(move |token| token.set(claim, value.clone()));
        })
        .await;
    }
}

#[rocket::async_test]
async fn claims_of_odd_types() {
    with_claims(vec![
        // Amazon Cognito, Apple.
        ("email_verified", json!("true")),
        ("email_verified", json!(1)),
        ("email_verified", json!("yes")),
        ("amr", json!("pwd")),
        ("acr", json!(1)),
        // Auth0.
        ("updated_at", json!("2023-11-14T22:13:20Z")),
        ("updated_at", json!(1_700_000_000.5)),
        ("address", json!("Oxford")),
        ("email", Value::Null),
        ("groups", json!({ "admin": true })),
        // Keycloak, where nobody authenticated in person.
        ("auth_time", json!(0)),
        ("auth_time", json!(1_799_999_999.5)),
        ("aud", json!(["client"])),
    ])
    .await;
}

#[rocket::async_test]
async fn times_with_a_fraction() {
    accepted(|provider| {
        provider.on_id_token(|token| {
            for claim in ["exp", "iat"] {
                let time = token.claims[claim].as_f64().unwrap();
                token.set(claim, time + 0.25);
            }
        });
    })
    .await;
}

#[rocket::async_test]
async fn id_token_without_at_hash() {
    accepted(|provider| {
        provider.on_id_token(|token| {
            token.claims.remove("at_hash");
        });
    })
    .await;
}

#[rocket::async_test]
async fn token_replies() {
    let changes: [fn(&mut Reply); 9] = [
        |reply| reply.remove("token_type"),
        |reply| reply.set("token_type", "bearer"),
        |reply| reply.set("token_type", "BEARER"),
        // Microsoft, at its older endpoint.
        |reply| reply.set("expires_in", "300"),
        |reply| reply.remove("expires_in"),
        // Twitch.
        |reply| reply.set("scope", json!(["openid", "email"])),
        |reply| reply.remove("scope"),
        |reply| reply.remove("refresh_token"),
        |reply| reply.set_header("Content-Type", "text/plain"),
    ];
    for change in changes {
        accepted(|provider| provider.on_token_response(change)).await;
    }
}

#[rocket::async_test]
async fn replies_as_text() {
    let text = |reply: &mut Reply| reply.set_header("Content-Type", "text/plain; charset=utf-8");
    accepted(|provider| provider.on_jwks(text)).await;
    accepted(|provider| provider.on_user_info(text)).await;
    accepted(|provider| {
        let mut document = Value::Null;
        provider.metadata(|metadata| document = json!(metadata));
        let reply = Reply::json(document).with_header("Content-Type", "text/plain");
        provider.on_path(TestProvider::DISCOVERY, reply);
    })
    .await;
    // The type that RFC 7517 §8.5 registers: npm oidc-provider.
    let registered = |reply: &mut Reply| reply.set_header("Content-Type", "application/jwk-set+json");
    accepted(|provider| provider.on_jwks(registered)).await;
}

/// Changes the list of keys.
fn keys(reply: &mut Reply, change: impl FnOnce(&mut Vec<Value>)) {
    reply.edit(|set| change(set["keys"].as_array_mut().expect("a list of keys")));
}

#[rocket::async_test]
async fn key_sets() {
    let changes: [fn(&mut Reply); 6] = [
        |reply| {
            keys(reply, |keys| {
                keys.insert(0, json!({ "kty": "AKP", "kid": "new", "pub": "AAAA" }));
            });
        },
        |reply| {
            keys(reply, |keys| {
                keys.insert(0, json!({ "kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA" }));
            });
        },
        |reply| keys(reply, |keys| keys.insert(0, json!("no key"))),
        |reply| {
            keys(reply, |keys| {
                for key in keys {
                    let key = key.as_object_mut().unwrap();
                    key.remove("alg");
                    key.remove("use");
                }
            });
        },
        // Keycloak publishes a key for encryption beside the one for signatures.
        |reply| {
            keys(reply, |keys| {
                let mut other = SigningKey::NextRsa.jwk();
                other["kid"] = keys[0]["kid"].clone();
                other["use"] = "enc".into();
                other["alg"] = "RSA-OAEP".into();
                keys.insert(0, other);
            });
        },
        |reply| {
            keys(reply, |keys| {
                for i in 0..1_000 {
                    let mut other = SigningKey::NextRsa.jwk();
                    other["kid"] = format!("other-{i}").into();
                    keys.insert(0, other);
                }
            });
        },
    ];
    for change in changes {
        accepted(|provider| provider.on_jwks(change)).await;
    }
}

#[rocket::async_test]
async fn metadata() {
    let changes: [fn(&mut Map<String, Value>); 7] = [
        |metadata| drop(metadata.remove("response_types_supported")),
        |metadata| drop(metadata.remove("subject_types_supported")),
        |metadata| drop(metadata.remove("id_token_signing_alg_values_supported")),
        |metadata| drop(metadata.insert("op_policy_uri".into(), json!(""))),
        |metadata| drop(metadata.insert("op_tos_uri".into(), json!("/terms"))),
        |metadata| drop(metadata.insert("end_session_endpoint".into(), Value::Null)),
        |metadata| drop(metadata.insert("claims_parameter_supported".into(), Value::Null)),
    ];
    for change in changes {
        accepted(|provider| provider.metadata(change)).await;
    }
}

/// Whatever an error looks like, it is one, and nobody is signed in.
#[rocket::async_test]
async fn errors_without_the_words_of_the_standard() {
    for (reply, cause) in [
        (Reply::status(400), "responded with status 400"),
        (Reply::status(403), "responded with status 403"),
        (
            Reply::text("text/html", "<h1>Forbidden</h1>").with_status(403),
            "responded with status 403",
        ),
        (
            Reply::text("application/json", "").with_status(401),
            "responded with status 401",
        ),
        (
            Reply::json(json!({ "message": "no" })).with_status(400),
            "responded with status 400",
        ),
    ] {
        let status = Status::BadGateway.code;
        let error = format!("the provider's token endpoint {cause}");
        refused(|provider| provider.on_path("/token", reply.clone()), status, &error).await;
    }
}

/// A lone key needs no name, nor do several of which one fits.
#[rocket::async_test]
async fn id_token_without_kid() {
    fn unnamed(token: &mut JwtParts) {
        token.remove_header("kid");
    }
    accepted(|provider| provider.on_id_token(unnamed)).await;
}
