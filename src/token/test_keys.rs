//! Keys and signatures for the tests of this module, generated once per run by aws-lc-rs.

use std::sync::OnceLock;

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair, RsaPublicKeyComponents},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{KeySet, SigningAlgorithm};

/// The client secret of the tests.
pub(super) const CLIENT_SECRET: &str = "a client secret of more than 32 bytes";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TestKey {
    Rsa,
    Ec256,
    /// A second P-256 key, which is not in the key set of the tests.
    StrangeEc256,
    Ec384,
    Ec521,
    Ed25519,
}

impl TestKey {
    /// The public key, named by [`kid`](TestKey::kid).
    pub(super) fn jwk(self) -> Value {
        let keys = keys();
        let ec = |crv: &str, key: &EcdsaKeyPair| {
            let (x, y) = key.public_key().as_ref()[1..].split_at(key.public_key().as_ref().len() / 2);
            json!({"kty": "EC", "crv": crv, "x": base64url(x), "y": base64url(y)})
        };
        let mut jwk = match self {
            TestKey::Rsa => {
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(keys.rsa.public_key());
                json!({"kty": "RSA", "n": base64url(&public.n), "e": base64url(&public.e)})
            }
            TestKey::Ec256 => ec("P-256", &keys.ec256),
            TestKey::StrangeEc256 => ec("P-256", &keys.strange_ec256),
            TestKey::Ec384 => ec("P-384", &keys.ec384),
            TestKey::Ec521 => ec("P-521", &keys.ec521),
            TestKey::Ed25519 => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(keys.ed25519.public_key().as_ref())})
            }
        };
        jwk["kid"] = self.kid().into();
        jwk
    }

    pub(super) fn kid(self) -> &'static str {
        match self {
            TestKey::Rsa => "rsa",
            TestKey::Ec256 => "ec256",
            TestKey::StrangeEc256 => "strange",
            TestKey::Ec384 => "ec384",
            TestKey::Ec521 => "ec521",
            TestKey::Ed25519 => "ed25519",
        }
    }

    /// The key that signs `algorithm`; `None` for HS256.
    pub(super) fn of(algorithm: SigningAlgorithm) -> Option<TestKey> {
        match algorithm {
            SigningAlgorithm::HS256 => None,
            SigningAlgorithm::ES256 => Some(TestKey::Ec256),
            SigningAlgorithm::ES384 => Some(TestKey::Ec384),
            SigningAlgorithm::ES512 => Some(TestKey::Ec521),
            SigningAlgorithm::EdDSA => Some(TestKey::Ed25519),
            _ => Some(TestKey::Rsa),
        }
    }

    /// The bare signature, by the key's own algorithm.
    pub(super) fn sign(self, algorithm: SigningAlgorithm, message: &[u8]) -> Vec<u8> {
        let (keys, random) = (keys(), SystemRandom::new());
        let ec = |key: &EcdsaKeyPair| key.sign(&random, message).unwrap().as_ref().to_vec();
        match self {
            TestKey::Rsa => {
                let encoding = match algorithm {
                    SigningAlgorithm::RS256 => &signature::RSA_PKCS1_SHA256,
                    SigningAlgorithm::RS384 => &signature::RSA_PKCS1_SHA384,
                    SigningAlgorithm::RS512 => &signature::RSA_PKCS1_SHA512,
                    SigningAlgorithm::PS256 => &signature::RSA_PSS_SHA256,
                    SigningAlgorithm::PS384 => &signature::RSA_PSS_SHA384,
                    SigningAlgorithm::PS512 => &signature::RSA_PSS_SHA512,
                    other => panic!("{other} is not signed with RSA"),
                };
                let mut signature = vec![0; keys.rsa.public_modulus_len()];
                keys.rsa.sign(encoding, &random, message, &mut signature).unwrap();
                signature
            }
            TestKey::Ec256 => ec(&keys.ec256),
            TestKey::StrangeEc256 => ec(&keys.strange_ec256),
            TestKey::Ec384 => ec(&keys.ec384),
            TestKey::Ec521 => ec(&keys.ec521),
            TestKey::Ed25519 => keys.ed25519.sign(message).as_ref().to_vec(),
        }
    }
}

/// The provider's key set in the tests: all keys but `StrangeEc256`.
pub(super) fn key_set() -> KeySet {
    let keys = [
        TestKey::Rsa,
        TestKey::Ec256,
        TestKey::Ec384,
        TestKey::Ec521,
        TestKey::Ed25519,
    ];
    key_set_of(&keys.map(TestKey::jwk))
}

pub(super) fn key_set_of(jwks: &[Value]) -> KeySet {
    KeySet::parse(json!({ "keys": jwks }).to_string().as_bytes()).unwrap()
}

/// A header with `alg`, and the `kid` of the key that signs it.
pub(super) fn header(algorithm: SigningAlgorithm) -> Value {
    match TestKey::of(algorithm) {
        Some(key) => json!({"alg": algorithm, "kid": key.kid()}),
        None => json!({"alg": algorithm}),
    }
}

/// A token signed with the test key for `algorithm`, whatever its header says.
pub(super) fn sign(algorithm: SigningAlgorithm, header: &Value, claims: &Value) -> String {
    sign_text(algorithm, &header.to_string(), &claims.to_string())
}

pub(super) fn sign_text(algorithm: SigningAlgorithm, header: &str, payload: &str) -> String {
    match TestKey::of(algorithm) {
        Some(key) => sign_by(header, payload, |message| key.sign(algorithm, message)),
        None => sign_by(header, payload, |message| mac(CLIENT_SECRET.as_bytes(), message)),
    }
}

pub(super) fn sign_by(header: &str, payload: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let input = format!("{}.{}", base64url(header.as_bytes()), base64url(payload.as_bytes()));
    let signature = base64url(&sign(input.as_bytes()));
    format!("{input}.{signature}")
}

pub(super) fn mac(secret: &[u8], message: &[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    hmac::sign(&key, message).as_ref().to_vec()
}

pub(super) fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The RSA public key in the encoding that an attacker would try as a MAC key.
pub(super) fn rsa_public_key_forms() -> Vec<Vec<u8>> {
    use aws_lc_rs::encoding::AsDer;
    let public = keys().rsa.public_key();
    let spki = public.as_der().unwrap().as_ref().to_vec();
    let base64 = base64::engine::general_purpose::STANDARD.encode(&spki);
    let lines: Vec<_> = base64
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        lines.join("\n")
    );
    let components = RsaPublicKeyComponents::<Vec<u8>>::from(public);
    vec![public.as_ref().to_vec(), spki, pem.into_bytes(), components.n]
}

struct Keys {
    rsa: RsaKeyPair,
    ec256: EcdsaKeyPair,
    strange_ec256: EcdsaKeyPair,
    ec384: EcdsaKeyPair,
    ec521: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
}

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| Keys {
        rsa: RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap(),
        ec256: EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
        strange_ec256: EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
        ec384: EcdsaKeyPair::generate(&signature::ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(),
        ec521: EcdsaKeyPair::generate(&signature::ECDSA_P521_SHA512_FIXED_SIGNING).unwrap(),
        ed25519: Ed25519KeyPair::generate().unwrap(),
    })
}
