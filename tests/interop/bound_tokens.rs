//! Tokens that npm `oidc-provider` binds to a key (DPoP, RFC 9449), at the API of `examples/notes`.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::{
    example::{Example, free_port},
    node_provider::{CLIENT_SECRET as SECRET, NodeProvider},
    patience,
    support::{
        JwtParts, SigningKey,
        keys::{random, sha256_base64url},
    },
};

/// The resource indicators for which the provider issues JWTs, and opaque tokens.
const RESOURCES: [&str; 2] = ["https://api.notes.test", "https://opaque.notes.test"];

/// A proof by this key; for the token endpoint, without a token.
fn proof(key: &SigningKey, method: &str, url: &str, token: Option<&str>, nonce: Option<&str>) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut parts = JwtParts::new(
        json!({ "jti": random(""), "htm": method, "htu": url, "iat": now }),
        key.clone(),
    );
    parts.remove_header("kid");
    parts.set_header("typ", "dpop+jwt");
    parts.set_header("jwk", key.jwk());
    if let Some(token) = token {
        parts.set("ath", sha256_base64url(token));
    }
    if let Some(nonce) = nonce {
        parts.set("nonce", nonce);
    }
    parts.compact()
}

/// A token that is bound to this key.
async fn token(provider: &NodeProvider, resource: &str, key: &SigningKey) -> String {
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "client_credentials")
        .append_pair("client_id", "notes-api-post")
        .append_pair("client_secret", SECRET)
        .append_pair("resource", resource)
        .append_pair("scope", "notes:read")
        .finish();
    let endpoint = format!("{}/token", provider.issuer());
    let reply = patience::client()
        .post(&endpoint)
        .header("Content-Type", "application/x-www-form-urlencoded")
        .header("DPoP", proof(key, "POST", &endpoint, None, None))
        .body(form)
        .send()
        .await
        .unwrap();
    let reply: Value = serde_json::from_str(&reply.text().await.unwrap()).unwrap();
    assert_eq!(reply["token_type"], "DPoP", "{reply}");
    reply["access_token"].as_str().unwrap().to_owned()
}

/// The status and the nonce of a request with this header `Authorization` and this proof.
async fn call(url: &str, authorization: String, proof: String) -> (u16, Option<String>) {
    let answer = patience::client()
        .get(url)
        .header("Authorization", authorization)
        .header("DPoP", proof)
        .send()
        .await
        .unwrap();
    let nonce = answer.headers().get("DPoP-Nonce");
    let nonce = nonce.map(|nonce| nonce.to_str().unwrap().to_owned());
    (answer.status().as_u16(), nonce)
}

#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn bound_tokens_of_a_real_provider() {
    let provider = NodeProvider::start(&[]).await;
    let app = |nonces| {
        let environment = [
            ("OIDC_ISSUER", provider.issuer()),
            ("OIDC_CLIENT_ID", "notes-api"),
            ("OIDC_CLIENT_SECRET", SECRET),
            ("OIDC_AUDIENCE", "https://api.notes.test https://opaque.notes.test"),
            ("OIDC_DPOP_TOKENS", "accepted"),
            ("OIDC_DPOP_NONCES", nonces),
        ];
        Example::start("notes", free_port(), &environment)
    };
    let plain = app("false");
    for (resource, key) in [
        (RESOURCES[0], SigningKey::Ec),
        (RESOURCES[0], SigningKey::Ed),
        (RESOURCES[1], SigningKey::Ec),
    ] {
        let token = token(&provider, resource, &key).await;
        let url = plain.at("localhost", "/api/notes");
        let prove = |key: &SigningKey| proof(key, "GET", &url, Some(&token), None);
        let good = prove(&key);
        let status = async |scheme: &str, proof: String| call(&url, format!("{scheme} {token}"), proof).await.0;
        assert_eq!(status("DPoP", good.clone()).await, 200, "{resource}");
        assert_eq!(status("DPoP", good).await, 401, "a replay");
        assert_eq!(status("Bearer", prove(&key)).await, 401);
        assert_eq!(status("DPoP", prove(&SigningKey::Rsa)).await, 401, "another key");
        assert_eq!(status("DPoP", prove(&key)).await, 200);
    }

    let with_nonces = app("true");
    let token = token(&provider, RESOURCES[0], &SigningKey::Ec).await;
    let url = with_nonces.at("localhost", "/api/notes");
    let dpop = format!("DPoP {token}");
    let first = proof(&SigningKey::Ec, "GET", &url, Some(&token), None);
    let (status, nonce) = call(&url, dpop.clone(), first).await;
    assert_eq!(status, 401);
    let second = proof(&SigningKey::Ec, "GET", &url, Some(&token), nonce.as_deref());
    assert_eq!(call(&url, dpop, second).await.0, 200);
}
