//! A new private key, as a JWK.

use aws_lc_rs::{
    encoding::{AsBigEndian, AsDer, Curve25519SeedBin, EcPrivateKeyBin, Pkcs8V1Der},
    error::Unspecified,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
        Ed25519KeyPair, KeyPair, RsaKeyPair,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::ValueEnum;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::{
    cli::Failure,
    token::{ClientKeys, PublicKey},
};

/// An algorithm for which a key can be generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum KeyAlgorithm {
    /// ECDSA with P-256
    #[value(name = "ES256")]
    Es256,
    /// ECDSA with P-384
    #[value(name = "ES384")]
    Es384,
    /// Ed25519
    #[value(name = "EdDSA")]
    EdDsa,
    /// RSA with 3072 bits, PKCS#1 v1.5
    #[value(name = "RS256")]
    Rs256,
    /// RSA with 3072 bits, PSS
    #[value(name = "PS256")]
    Ps256,
}

impl KeyAlgorithm {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            KeyAlgorithm::Es256 => "ES256",
            KeyAlgorithm::Es384 => "ES384",
            KeyAlgorithm::EdDsa => "EdDSA",
            KeyAlgorithm::Rs256 => "RS256",
            KeyAlgorithm::Ps256 => "PS256",
        }
    }

    /// The algorithm of this name; that of a key which was made elsewhere may be another one.
    pub(super) fn of(name: &str) -> Option<KeyAlgorithm> {
        KeyAlgorithm::from_str(name, false).ok()
    }
}

/// Generates a key, whose `kid` is its thumbprint, and `iat` the time.
pub(super) fn generate(alg: KeyAlgorithm, now: OffsetDateTime) -> Result<Map<String, Value>, Failure> {
    let failed = || Failure::new("the key cannot be generated", "try again");
    let mut jwk = match alg {
        KeyAlgorithm::Es256 => ec("P-256", &ECDSA_P256_SHA256_FIXED_SIGNING),
        KeyAlgorithm::Es384 => ec("P-384", &ECDSA_P384_SHA384_FIXED_SIGNING),
        KeyAlgorithm::EdDsa => ed25519(),
        KeyAlgorithm::Rs256 | KeyAlgorithm::Ps256 => rsa(),
    }
    .map_err(|_| failed())?;
    jwk["alg"] = alg.as_str().into();
    jwk["use"] = "sig".into();
    // The app must accept what is written.
    let keys = ClientKeys::parse(&json!({ "keys": [jwk] }).to_string()).map_err(|_| failed())?;
    let kid = keys.published().first().map(PublicKey::kid).ok_or_else(failed)?;
    jwk["kid"] = kid.into();
    jwk["iat"] = now.unix_timestamp().into();
    match jwk {
        Value::Object(jwk) => Ok(jwk),
        _ => Err(failed()),
    }
}

fn ec(curve: &str, algorithm: &'static EcdsaSigningAlgorithm) -> Result<Value, Unspecified> {
    let key = EcdsaKeyPair::generate(algorithm)?;
    // An uncompressed point: 4, x, y.
    let point = &key.public_key().as_ref()[1..];
    let (x, y) = point.split_at(point.len() / 2);
    let d: EcPrivateKeyBin<'_> = key.private_key().as_be_bytes()?;
    Ok(json!({ "kty": "EC", "crv": curve, "x": encode(x), "y": encode(y), "d": encode(d.as_ref()) }))
}

fn ed25519() -> Result<Value, Unspecified> {
    let key = Ed25519KeyPair::generate()?;
    let d: Curve25519SeedBin<'_> = key.seed()?.as_be_bytes()?;
    let x = encode(key.public_key().as_ref());
    Ok(json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "d": encode(d.as_ref()) }))
}

/// The numbers are read from PKCS#1 ([RFC 8017 A.1.2](https://www.rfc-editor.org/rfc/rfc8017#appendix-A.1.2)) in PKCS#8,
/// the only form in which aws-lc gives them.
fn rsa() -> Result<Value, Unspecified> {
    let key = RsaKeyPair::generate(KeySize::Rsa3072)?;
    let pkcs8 = AsDer::<Pkcs8V1Der<'_>>::as_der(&key)?;
    let (pkcs8, _) = der_value(pkcs8.as_ref()).ok_or(Unspecified)?;
    let (_version, rest) = der_value(pkcs8).ok_or(Unspecified)?;
    let (_algorithm, rest) = der_value(rest).ok_or(Unspecified)?;
    let (pkcs1, _) = der_value(rest).ok_or(Unspecified)?;
    let (numbers, _) = der_value(pkcs1).ok_or(Unspecified)?;
    let (_version, mut rest) = der_value(numbers).ok_or(Unspecified)?;
    let mut jwk = json!({ "kty": "RSA" });
    for member in ["n", "e", "d", "p", "q", "dp", "dq", "qi"] {
        let (number, after) = der_value(rest).ok_or(Unspecified)?;
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        jwk[member] = encode(&number[zeros..]).into();
        rest = after;
    }
    Ok(jwk)
}

/// The content of the first DER value, and what follows it.
fn der_value(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        short @ ..0x80 => (usize::from(*short), rest),
        long => {
            let (length, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            let length = length.iter().try_fold(0_usize, |length, byte| {
                length.checked_mul(256)?.checked_add(usize::from(*byte))
            })?;
            (length, rest)
        }
    };
    rest.split_at_checked(length)
}

fn encode(number: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_each_algorithm_sign() {
        for alg in KeyAlgorithm::value_variants() {
            let key = generate(*alg, OffsetDateTime::UNIX_EPOCH).unwrap();
            let keys = ClientKeys::parse(&json!({ "keys": [key] }).to_string()).unwrap();
            assert_eq!(keys.active().alg().as_str(), alg.as_str());
            assert_eq!(keys.active().kid(), key["kid"].as_str());
            assert!(keys.active().sign("JWT", &json!({})).is_some());
            assert_eq!(KeyAlgorithm::of(alg.as_str()), Some(*alg));
        }
    }
}
