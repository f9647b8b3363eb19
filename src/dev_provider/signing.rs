//! The development provider's RS256 signing key, generated at each start.

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    rsa::KeySize,
    signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

pub(super) struct SigningKey {
    pair: RsaKeyPair,
    kid: String,
}

impl SigningKey {
    /// A new key of 2,048 bits.
    pub fn new() -> Option<SigningKey> {
        Some(SigningKey {
            pair: RsaKeyPair::generate(KeySize::Rsa2048).ok()?,
            kid: random("key"),
        })
    }

    /// The JWK Set (RFC 7517 §5).
    pub fn key_set(&self) -> Value {
        let public = self.pair.public_key();
        let (n, e) = (public.modulus(), public.exponent());
        json!({ "keys": [{
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": self.kid,
            "n": base64url(n.big_endian_without_leading_zero()),
            "e": base64url(e.big_endian_without_leading_zero()),
        }] })
    }

    /// A signed JWT (RFC 7515 §7.1) of this type.
    pub fn sign(&self, typ: &str, claims: &Map<String, Value>) -> Option<String> {
        let header = json!({ "alg": "RS256", "typ": typ, "kid": self.kid });
        let input = format!(
            "{}.{}",
            base64url(header.to_string()),
            base64url(serde_json::to_vec(claims).ok()?)
        );
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                input.as_bytes(),
                &mut signature,
            )
            .ok()?;
        Some(format!("{input}.{}", base64url(signature)))
    }
}

pub(super) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A random, unguessable value, prefixed with its kind.
pub(super) fn random(kind: &str) -> String {
    format!("{kind}-{}", crate::secret::Secret::random().expose())
}

/// `S256` of a code verifier (RFC 7636 §4.2).
pub(super) fn code_challenge(code_verifier: &str) -> String {
    base64url(digest(&SHA256, code_verifier.as_bytes()))
}

/// `at_hash` for RS256 (OpenID Connect Core 1.0 §3.1.3.6).
pub(super) fn at_hash(access_token: &str) -> String {
    base64url(&digest(&SHA256, access_token.as_bytes()).as_ref()[..16])
}
