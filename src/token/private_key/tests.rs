use aws_lc_rs::{
    encoding::{AsBigEndian, Curve25519SeedBin, EcPrivateKeyBin, EcPrivateKeyRfc5915Der},
    rsa::KeySize,
    signature::KeyPair,
};
use serde_json::json;
use time::OffsetDateTime;

use super::*;
use crate::token::{Jws, KeySet, SigningAlgorithm, assertion_claims};

const NOW: i64 = 1_700_000_000;

/// A key as its owner has it, in PEM and as a JWK, and its public part.
pub(in crate::token) struct Made {
    pub pem: String,
    pub private: Value,
    pub public: Value,
    pub algorithm: SigningAlgorithm,
}

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    let text = lines.join("\n");
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

fn made(private: Value, der: &[u8], algorithm: SigningAlgorithm) -> Made {
    let mut public = private.clone();
    for member in ["d", "p", "q", "dp", "dq", "qi"] {
        public.as_object_mut().unwrap().remove(member);
    }
    Made {
        pem: pem("PRIVATE KEY", der),
        private,
        public,
        algorithm,
    }
}

/// One value of DER: its content, and what follows.
fn der_value(der: &[u8]) -> (&[u8], &[u8]) {
    let (length, start) = match der[1] {
        short @ ..0x80 => (usize::from(short), 2),
        long => {
            let bytes = usize::from(long & 0x7f);
            let length = der[2..2 + bytes].iter();
            let length = length.fold(0, |length, byte| length << 8 | usize::from(*byte));
            (length, 2 + bytes)
        }
    };
    (&der[start..start + length], &der[start + length..])
}

/// The key in PKCS#1 (RFC 8017 A.1.2) that PKCS#8 wraps.
fn pkcs1(pkcs8: &[u8]) -> &[u8] {
    let (_version, rest) = der_value(der_value(pkcs8).0);
    let (_algorithm, rest) = der_value(rest);
    der_value(rest).0
}

fn rsa() -> (Made, Vec<u8>) {
    let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let pkcs8 = AsDer::<Pkcs8V1Der<'_>>::as_der(&key).unwrap();
    let mut rest = der_value(pkcs1(pkcs8.as_ref())).0;
    rest = der_value(rest).1;
    let mut jwk = json!({ "kty": "RSA" });
    for member in ["n", "e", "d", "p", "q", "dp", "dq", "qi"] {
        let (integer, after) = der_value(rest);
        let zeros = integer.iter().take_while(|byte| **byte == 0).count();
        jwk[member] = base64url(&integer[zeros..]).into();
        rest = after;
    }
    let pkcs8 = pkcs8.as_ref().to_vec();
    (made(jwk, &pkcs8, SigningAlgorithm::RS256), pkcs8)
}

pub(in crate::token) fn ec(curve: &str, algorithm: SigningAlgorithm) -> Made {
    let key = EcdsaKeyPair::generate(match curve {
        "P-256" => &ECDSA_P256_SHA256_FIXED_SIGNING,
        _ => &ECDSA_P384_SHA384_FIXED_SIGNING,
    })
    .unwrap();
    let public = &key.public_key().as_ref()[1..];
    let (x, y) = public.split_at(public.len() / 2);
    let d: EcPrivateKeyBin<'_> = key.private_key().as_be_bytes().unwrap();
    let jwk = json!({ "kty": "EC", "crv": curve, "x": base64url(x), "y": base64url(y),
                      "d": base64url(d.as_ref()) });
    made(jwk, key.to_pkcs8v1().unwrap().as_ref(), algorithm)
}

pub(in crate::token) fn ed25519() -> Made {
    let key = Ed25519KeyPair::generate().unwrap();
    let d: Curve25519SeedBin<'_> = key.seed().unwrap().as_be_bytes().unwrap();
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": base64url(key.public_key()),
                      "d": base64url(d.as_ref()) });
    made(jwk, key.to_pkcs8v1().unwrap().as_ref(), SigningAlgorithm::EdDSA)
}

pub(in crate::token) fn all() -> Vec<Made> {
    vec![
        rsa().0,
        ec("P-256", SigningAlgorithm::ES256),
        ec("P-384", SigningAlgorithm::ES384),
        ed25519(),
    ]
}

/// The claims of an assertion that the public key verifies.
pub(in crate::token) fn claims(key: &PrivateKey, public: &Value, algorithm: SigningAlgorithm) -> Map<String, Value> {
    let now = OffsetDateTime::from_unix_timestamp(NOW).unwrap();
    let assertion = key
        .sign("JWT", &assertion_claims("app", "https://op.example/token", now))
        .unwrap();
    let keys = json!({ "keys": [public] }).to_string();
    let keys = KeySet::parse(keys.as_bytes()).unwrap();
    let jws = Jws::parse(&assertion).unwrap();
    jws.verify(&keys, &[algorithm], None).unwrap().claims
}

#[test]
fn an_assertion_names_the_client_and_is_good_for_a_minute() {
    let Made {
        pem, public, algorithm, ..
    } = ed25519();
    let key = PrivateKey::parse(&pem).unwrap();
    let (mut first, second) = (claims(&key, &public, algorithm), claims(&key, &public, algorithm));
    assert_ne!(first["jti"], second["jti"]);
    assert_eq!(first["jti"].as_str().unwrap().len(), 43);
    first.remove("jti");
    assert_eq!(
        Value::Object(first),
        json!({ "iss": "app", "sub": "app", "aud": "https://op.example/token",
                "iat": NOW, "exp": NOW + 60 })
    );
}

#[test]
fn keys_in_pem_and_as_jwk_sign() {
    for Made {
        pem,
        private,
        public,
        algorithm,
    } in all()
    {
        claims(&PrivateKey::parse(&pem).unwrap(), &public, algorithm);
        let key = PrivateKey::parse(&private.to_string()).unwrap();
        claims(&key, &public, algorithm);
    }
}

#[test]
fn an_rsa_key_in_pkcs1_signs() {
    let (made, pkcs8) = rsa();
    let key = PrivateKey::parse(&pem("RSA PRIVATE KEY", pkcs1(&pkcs8))).unwrap();
    claims(&key, &made.public, SigningAlgorithm::RS256);
}

#[test]
fn kid_and_alg_of_a_jwk_are_used() {
    let mut made = rsa().0;
    made.private["kid"] = "mine".into();
    made.private["alg"] = "PS384".into();
    made.public["kid"] = "mine".into();
    let key = PrivateKey::parse(&made.private.to_string()).unwrap();
    claims(&key, &made.public, SigningAlgorithm::PS384);
    assert_eq!(
        format!("{key:?}"),
        "PrivateKey { algorithm: PS384, kid: Some(\"mine\"), .. }"
    );
    assert_eq!(key.clone().named(None).kid.as_deref(), Some("mine"));
    assert_eq!(key.named(Some("other")).kid.as_deref(), Some("other"));
}

#[test]
fn files_that_are_not_private_keys_are_rejected() {
    let made = ec("P-256", SigningAlgorithm::ES256);
    // SEC1, which `openssl pkcs8 -topk8` converts.
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let sec1 = AsDer::<EcPrivateKeyRfc5915Der<'_>>::as_der(&key.private_key()).unwrap();
    let mut other_alg = made.private.clone();
    other_alg["alg"] = "RS256".into();
    let mut other_curve = made.private.clone();
    other_curve["crv"] = "P-521".into();
    for (text, error) in [
        (String::new(), PrivateKeyError::Unreadable),
        ("hush".to_owned(), PrivateKeyError::Unreadable),
        ("{\"kty\":\"RSA\",".to_owned(), PrivateKeyError::Unreadable),
        (made.pem.replace("PRIVATE", "PUBLIC"), PrivateKeyError::Unreadable),
        (pem("EC PRIVATE KEY", sec1.as_ref()), PrivateKeyError::Unreadable),
        (pem("PRIVATE KEY", b"hush"), PrivateKeyError::Unreadable),
        (made.public.to_string(), PrivateKeyError::UnsupportedJwk),
        (other_curve.to_string(), PrivateKeyError::UnsupportedJwk),
        (other_alg.to_string(), PrivateKeyError::Algorithm("RS256".into())),
    ] {
        assert_eq!(PrivateKey::parse(&text).unwrap_err(), error, "{text}");
    }
}
