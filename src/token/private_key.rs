//! A private key in a PEM or JWK file, and the JWTs that it signs.

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rsa::{KeyPairComponents, PublicKeyComponents},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair,
    },
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, AlgorithmFamily, EncodingKey, crypto::aws_lc::DEFAULT_PROVIDER, jwk::EllipticCurve};
use serde::Serialize;
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::{SigningAlgorithm, parse_strict_object};

/// A private key, with its algorithm and `kid`.
#[derive(Clone)]
pub(crate) struct PrivateKey {
    key: Arc<EncodingKey>,
    algorithm: Algorithm,
    kid: Option<String>,
}

/// The error of an unusable key file.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum PrivateKeyError {
    #[error("it is neither a private key in PEM (PKCS#8, or PKCS#1 for RSA) nor a JWK or a JWK Set")]
    Unreadable,
    #[error("the JWK is not a private key of type RSA, P-256, P-384 or Ed25519")]
    UnsupportedJwk,
    #[error("the key does not sign with `alg` {0:?}")]
    Algorithm(String),
}

impl PrivateKey {
    /// Parses a key from PEM or a JWK. The `kid` and `alg` of a JWK are used; otherwise the kind of key determines
    /// the algorithm, `RS256` for RSA.
    pub(crate) fn parse(text: &str) -> Result<PrivateKey, PrivateKeyError> {
        if !text.trim_start().starts_with('{') {
            return PrivateKey::from_pem(text, None, None);
        }
        let jwk = parse_strict_object(text.as_bytes()).map_err(|_| PrivateKeyError::Unreadable)?;
        PrivateKey::from_jwk(&jwk)
    }

    /// Reads a JWK with its private part.
    pub(super) fn from_jwk(jwk: &Map<String, Value>) -> Result<PrivateKey, PrivateKeyError> {
        let pkcs8 = pkcs8(jwk).ok_or(PrivateKeyError::UnsupportedJwk)?;
        let text = |name| jwk.get(name).and_then(Value::as_str);
        PrivateKey::from_pkcs8(&pkcs8, text("alg"), text("kid"))
    }

    /// Parses a key from PKCS#8. jsonwebtoken reads that only as PEM.
    pub(crate) fn from_pkcs8(der: &[u8], alg: Option<&str>, kid: Option<&str>) -> Result<PrivateKey, PrivateKeyError> {
        let base64 = STANDARD.encode(der);
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{base64}\n-----END PRIVATE KEY-----\n");
        PrivateKey::from_pem(&pem, alg, kid)
    }

    fn from_pem(pem: &str, alg: Option<&str>, kid: Option<&str>) -> Result<PrivateKey, PrivateKeyError> {
        let pem = pem.as_bytes();
        let key = EncodingKey::from_rsa_pem(pem)
            .or_else(|_| EncodingKey::from_ec_pem(pem))
            .or_else(|_| EncodingKey::from_ed_pem(pem))
            .map_err(|_| PrivateKeyError::Unreadable)?;
        let is_named = |algorithm: &Algorithm| alg.is_none_or(|alg| alg.parse() == Ok(*algorithm));
        let family = key.family();
        let mut algorithms = family.algorithms().iter().copied().filter(is_named);
        // Only signing parses the key itself.
        match (algorithms.find(|algorithm| sign(*algorithm, &key, b"").is_some()), alg) {
            (Some(algorithm), _) => Ok(PrivateKey {
                key: Arc::new(key),
                algorithm,
                kid: kid.map(str::to_owned),
            }),
            (None, Some(alg)) => Err(PrivateKeyError::Algorithm(alg.to_owned())),
            (None, None) => Err(PrivateKeyError::Unreadable),
        }
    }

    /// The same key with this `kid`, if there is one.
    pub(crate) fn named(self, kid: Option<&str>) -> PrivateKey {
        PrivateKey {
            kid: kid.map(str::to_owned).or(self.kid),
            ..self
        }
    }

    pub(crate) fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The JWS algorithm of its signatures.
    pub(crate) fn alg(&self) -> SigningAlgorithm {
        let name = format!("{:?}", self.algorithm);
        name.parse().expect("every algorithm of a private key is known")
    }

    /// The public key as a JWK with `kty` and its numbers, and nothing else.
    pub(super) fn public_jwk(&self) -> Option<Value> {
        let (utils, der) = (&DEFAULT_PROVIDER.key_utils, self.key.as_bytes());
        let encode = |number: Vec<u8>| URL_SAFE_NO_PAD.encode(number);
        Some(match self.key.family() {
            AlgorithmFamily::Rsa => {
                let (n, e) = (utils.rsa_pub_components_from_private_key)(der).ok()?;
                json!({ "kty": "RSA", "n": encode(n), "e": encode(e) })
            }
            AlgorithmFamily::Ec => {
                let (crv, x, y) = (utils.ec_pub_components_from_private_key)(der, self.algorithm).ok()?;
                json!({ "kty": "EC", "crv": crv, "x": encode(x), "y": encode(y) })
            }
            AlgorithmFamily::Ed => {
                let x = (utils.ed_pub_components_from_private_key)(der, &EllipticCurve::Ed25519).ok()?;
                json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(x) })
            }
            AlgorithmFamily::Hmac => return None,
        })
    }

    /// Signs a JWT of this type ([RFC 7515 §7.1](https://www.rfc-editor.org/rfc/rfc7515#section-7.1)).
    pub(crate) fn sign(&self, typ: &str, claims: &impl Serialize) -> Option<String> {
        let input = signing_input(self.alg(), self.kid(), typ, claims)?;
        let signature = sign(self.algorithm, &self.key, input.as_bytes())?;
        Some(with_signature(&input, &signature))
    }
}

/// The header and the claims of a JWT to sign ([RFC 7515 §5.1](https://www.rfc-editor.org/rfc/rfc7515#section-5.1)).
pub(crate) fn signing_input(
    alg: SigningAlgorithm,
    kid: Option<&str>,
    typ: &str,
    claims: &impl Serialize,
) -> Option<String> {
    let mut header = json!({ "typ": typ, "alg": alg.as_str() });
    if let Some(kid) = kid {
        header["kid"] = kid.into();
    }
    Some(format!("{}.{}", part(&header)?, part(claims)?))
}

/// The JWT of a signing input and its signature.
pub(crate) fn with_signature(input: &str, signature: &[u8]) -> String {
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey")
            .field("algorithm", &self.algorithm)
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

// The crypto provider is explicit, and `jsonwebtoken::encode` is not used: the process-wide provider is for the app to
// choose.
fn sign(algorithm: Algorithm, key: &EncodingKey, message: &[u8]) -> Option<Vec<u8>> {
    let signer = (DEFAULT_PROVIDER.signer_factory)(&algorithm, key).ok()?;
    signer.try_sign(message).ok()
}

fn part(value: &impl Serialize) -> Option<String> {
    Some(URL_SAFE_NO_PAD.encode(serde_json::to_vec(value).ok()?))
}

/// Converts the private key of a JWK ([RFC 7518 §6], [RFC 8037 §2]) into PKCS#8. jsonwebtoken reads public JWKs only.
///
/// [RFC 7518 §6]: https://www.rfc-editor.org/rfc/rfc7518#section-6
/// [RFC 8037 §2]: https://www.rfc-editor.org/rfc/rfc8037#section-2
fn pkcs8(jwk: &Map<String, Value>) -> Option<Vec<u8>> {
    let member = |name: &str| URL_SAFE_NO_PAD.decode(jwk.get(name)?.as_str()?).ok();
    let der = |der: Pkcs8V1Der<'_>| der.as_ref().to_vec();
    match (jwk.get("kty")?.as_str()?, jwk.get("crv").and_then(Value::as_str)) {
        ("RSA", _) => {
            let components = KeyPairComponents {
                public_key: PublicKeyComponents {
                    n: member("n")?,
                    e: member("e")?,
                },
                d: member("d")?,
                p: member("p")?,
                q: member("q")?,
                dP: member("dp")?,
                dQ: member("dq")?,
                qInv: member("qi")?,
            };
            let key = RsaKeyPair::from_components(&components).ok()?;
            key.as_der().ok().map(der)
        }
        ("EC", Some(curve)) => {
            let algorithm = match curve {
                "P-256" => &ECDSA_P256_SHA256_FIXED_SIGNING,
                "P-384" => &ECDSA_P384_SHA384_FIXED_SIGNING,
                _ => return None,
            };
            let public = [vec![4], member("x")?, member("y")?].concat();
            let key = EcdsaKeyPair::from_private_key_and_public_key(algorithm, &member("d")?, &public);
            Some(key.ok()?.to_pkcs8v1().ok()?.as_ref().to_vec())
        }
        ("OKP", Some("Ed25519")) => {
            let key = Ed25519KeyPair::from_seed_and_public_key(&member("d")?, &member("x")?);
            key.ok()?.as_der().ok().map(der)
        }
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests;
