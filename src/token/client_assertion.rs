//! The client assertion: client authentication by a signed JWT (`private_key_jwt`).

use std::{fmt, sync::Arc, time::Duration};

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
use jsonwebtoken::{Algorithm, EncodingKey, Header, crypto::aws_lc::DEFAULT_PROVIDER};
use serde::Serialize;
use serde_json::{Map, Value, json};
use thiserror::Error;
use time::OffsetDateTime;

use super::parse_strict_object;
use crate::secret::Secret;

/// `client_assertion_type` ([RFC 7523 §2.2](https://www.rfc-editor.org/rfc/rfc7523#section-2.2)).
pub(crate) const CLIENT_ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The lifetime of an assertion, which is sent at once.
const LIFE: Duration = Duration::from_secs(60);

/// The algorithms that a key may sign with, in order of preference.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// The client's private key, with its algorithm and `kid`.
#[derive(Clone)]
pub(crate) struct ClientKey {
    key: Arc<EncodingKey>,
    algorithm: Algorithm,
    kid: Option<String>,
}

/// The error of an unusable key file.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum ClientKeyError {
    #[error("it is neither a private key in PEM (PKCS#8, or PKCS#1 for RSA) nor a JWK")]
    Unreadable,
    #[error("the JWK is no private key of type RSA, P-256, P-384 or Ed25519")]
    NoPrivateJwk,
    #[error("the key does not sign with `alg` {0:?}")]
    Algorithm(String),
}

impl ClientKey {
    /// Parses a key from PEM or a JWK. The `kid` and `alg` of a JWK are used; otherwise the kind of key determines
    /// the algorithm, `RS256` for RSA.
    pub(crate) fn parse(text: &str) -> Result<ClientKey, ClientKeyError> {
        if !text.trim_start().starts_with('{') {
            return ClientKey::from_pem(text, None, None);
        }
        let jwk = parse_strict_object(text.as_bytes()).map_err(|_| ClientKeyError::Unreadable)?;
        let pkcs8 = pkcs8(&jwk).ok_or(ClientKeyError::NoPrivateJwk)?;
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            STANDARD.encode(pkcs8)
        );
        let text = |name| jwk.get(name).and_then(Value::as_str);
        ClientKey::from_pem(&pem, text("alg"), text("kid"))
    }

    fn from_pem(pem: &str, alg: Option<&str>, kid: Option<&str>) -> Result<ClientKey, ClientKeyError> {
        let pem = pem.as_bytes();
        let key = EncodingKey::from_rsa_pem(pem)
            .or_else(|_| EncodingKey::from_ec_pem(pem))
            .or_else(|_| EncodingKey::from_ed_pem(pem))
            .map_err(|_| ClientKeyError::Unreadable)?;
        let is_named = |algorithm: &Algorithm| alg.is_none_or(|alg| alg == name(*algorithm));
        let algorithm = ALGORITHMS
            .into_iter()
            .filter(is_named)
            .find(|algorithm| sign(*algorithm, &key, b"").is_some());
        match (algorithm, alg) {
            (Some(algorithm), _) => Ok(ClientKey {
                key: Arc::new(key),
                algorithm,
                kid: kid.map(str::to_owned),
            }),
            (None, Some(alg)) => Err(ClientKeyError::Algorithm(alg.to_owned())),
            (None, None) => Err(ClientKeyError::Unreadable),
        }
    }

    /// The same key with this `kid`, if there is one.
    pub(crate) fn named(self, kid: Option<&str>) -> ClientKey {
        ClientKey {
            kid: kid.map(str::to_owned).or(self.kid),
            ..self
        }
    }

    /// Signs an assertion for one request to this audience (OpenID Connect Core 1.0 §9, `private_key_jwt`).
    pub(crate) fn assertion(&self, client_id: &str, audience: &str, now: OffsetDateTime) -> Secret {
        let header = Header {
            kid: self.kid.clone(),
            ..Header::new(self.algorithm)
        };
        let now = now.unix_timestamp();
        let claims = json!({
            "iss": client_id,
            "sub": client_id,
            "aud": audience,
            "jti": Secret::random().expose(),
            "iat": now,
            "exp": now + LIFE.as_secs().cast_signed(),
        });
        let input = format!("{}.{}", part(&header), part(&claims));
        let signature = sign(self.algorithm, &self.key, input.as_bytes()).expect("the key signed when it was read");
        let signature = URL_SAFE_NO_PAD.encode(signature);
        Secret::new(format!("{input}.{signature}"))
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientKey")
            .field("algorithm", &self.algorithm)
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

// The crypto provider is explicit in each call: the process-wide one of jsonwebtoken is for the app to choose.
fn sign(algorithm: Algorithm, key: &EncodingKey, message: &[u8]) -> Option<Vec<u8>> {
    let signer = (DEFAULT_PROVIDER.signer_factory)(&algorithm, key).ok()?;
    signer.try_sign(message).ok()
}

fn part(value: &impl Serialize) -> String {
    let json = serde_json::to_vec(value).expect("strings and numbers always serialize");
    URL_SAFE_NO_PAD.encode(json)
}

fn name(algorithm: Algorithm) -> String {
    format!("{algorithm:?}")
}

/// Converts the private key of a JWK ([RFC 7518 §6], [RFC 8037 §2]) into PKCS#8.
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
mod tests;
