//! A client with a key, whose proofs the app verifies (DPoP).

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::issuer::now;

/// The key of a client.
#[derive(Debug)]
pub enum Prover {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

impl Prover {
    pub fn es256() -> Prover {
        Prover::Es256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    pub fn eddsa() -> Prover {
        Prover::EdDsa(Ed25519KeyPair::generate().unwrap())
    }

    fn jwk(&self) -> Value {
        match self {
            Prover::Es256(key) => {
                let point = key.public_key().as_ref();
                let [x, y] = [&point[1..33], &point[33..65]].map(|part| URL_SAFE_NO_PAD.encode(part));
                json!({ "crv": "P-256", "kty": "EC", "x": x, "y": y })
            }
            Prover::EdDsa(key) => {
                json!({ "crv": "Ed25519", "kty": "OKP", "x": URL_SAFE_NO_PAD.encode(key.public_key()) })
            }
        }
    }

    /// The `cnf` of a token that is bound to this key. The members of a JSON object here are in alphabetical order, as in
    /// RFC 7638 §3.
    pub fn confirmation(&self) -> Value {
        json!({ "jkt": sha256(&self.jwk().to_string()) })
    }

    /// A proof for `GET` of this URL with this token.
    pub fn proof(&self, url: &str, token: &str, number: usize) -> String {
        let alg = match self {
            Prover::Es256(_) => "ES256",
            Prover::EdDsa(_) => "EdDSA",
        };
        let header = json!({ "typ": "dpop+jwt", "alg": alg, "jwk": self.jwk() });
        let claims = json!({
            "jti": format!("{number:032}"), "htm": "GET", "htu": url, "iat": now(), "ath": sha256(token),
        });
        let encode = |part: Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let input = format!("{}.{}", encode(header), encode(claims));
        let signature = match self {
            Prover::Es256(key) => key
                .sign(&SystemRandom::new(), input.as_bytes())
                .unwrap()
                .as_ref()
                .to_vec(),
            Prover::EdDsa(key) => key.sign(input.as_bytes()).as_ref().to_vec(),
        };
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn sha256(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()))
}
