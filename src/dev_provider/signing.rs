//! The development provider's RS256 signing key, generated at each start.

use aws_lc_rs::{
    digest::{SHA256, digest},
    encoding::{AsDer, Pkcs8V1Der},
    rsa::KeySize,
    signature::{KeyPair, RsaKeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::token::PrivateKey;

pub(super) struct SigningKey {
    pub private: PrivateKey,
    /// The JWK Set (RFC 7517 §5).
    pub key_set: Value,
}

impl SigningKey {
    /// A new key of 2,048 bits.
    pub fn new() -> Option<SigningKey> {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).ok()?;
        let pkcs8 = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).ok()?;
        let kid = random("key");
        let (n, e) = (pair.public_key().modulus(), pair.public_key().exponent());
        Some(SigningKey {
            private: PrivateKey::from_pkcs8(pkcs8.as_ref(), None, Some(&kid)).ok()?,
            key_set: json!({ "keys": [{
                "kty": "RSA",
                "use": "sig",
                "alg": "RS256",
                "kid": kid,
                "n": base64url(n.big_endian_without_leading_zero()),
                "e": base64url(e.big_endian_without_leading_zero()),
            }] }),
        })
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
