//! The key of the test's client, to which tokens are bound, and its proofs (DPoP, RFC 9449).

use std::sync::LazyLock;

use aws_lc_rs::{
    digest,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::secret::Secret;

/// One for all tests of a process.
static KEY: LazyLock<EcdsaKeyPair> =
    LazyLock::new(|| EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key is generated"));

/// Binds a token with these claims to the key, unless they say otherwise.
pub(super) fn bind(mut claims: Value) -> Value {
    if let Value::Object(claims) = &mut claims {
        let [x, y] = coordinates();
        // RFC 7638 §3.2.
        let members = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let thumbprint = sha256(&members);
        claims.entry("cnf").or_insert_with(|| json!({ "jkt": thumbprint }));
    }
    claims
}

/// A proof for a request of this method to this URI with this token.
pub(super) fn proof(method: &str, target: &str, token: &str, nonce: Option<String>, now: OffsetDateTime) -> String {
    let [x, y] = coordinates();
    let jwk = json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y });
    let header = json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": jwk });
    let mut claims = json!({
        "jti": Secret::random().expose(),
        "htm": method,
        "htu": target,
        "iat": now.unix_timestamp(),
        "ath": sha256(token),
    });
    if let Some(nonce) = nonce {
        claims["nonce"] = nonce.into();
    }
    let encode = |part: Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let input = format!("{}.{}", encode(header), encode(claims));
    let signature = KEY.sign(&SystemRandom::new(), input.as_bytes());
    let signature = signature.expect("a message is signed");
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// The point of the public key: a byte that says that it is not compressed, then its two coordinates.
fn coordinates() -> [String; 2] {
    let point = KEY.public_key().as_ref();
    [&point[1..33], &point[33..65]].map(|coordinate| URL_SAFE_NO_PAD.encode(coordinate))
}

fn sha256(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, text.as_bytes()))
}
