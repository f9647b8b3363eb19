//! A signer outside of this process: a key management service, or a hardware security module.

use std::{error::Error, fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use rocket::futures::FutureExt;
use serde_json::Value;
use thiserror::Error;

use crate::{
    printable::printable,
    secret::Secret,
    token::{PublicKey, SigningAlgorithm, signing_input, with_signature},
};

/// Signs the client's assertions (`private_key_jwt`) with a key that the app does not hold. Set it by
/// [`Oidc::client_signer`](crate::Oidc::client_signer).
///
/// It is asked for one signature for each request with an assertion: to the token endpoint, and to those for pushed
/// requests, introspection and revocation. No more than the queues of these endpoints allow are asked for at a time.
///
/// ```
/// use rocket::serde::json::{Value, json};
/// use rocket_openidconnect::{ClientSigner, Oidc};
///
/// struct KeyService(Kms);
///
/// #[rocket::async_trait]
/// impl ClientSigner for KeyService {
///     fn alg(&self) -> &str {
///         "ES256"
///     }
///
///     fn kid(&self) -> &str {
///         "2026-01"
///     }
///
///     fn public_jwk(&self) -> Value {
///         json!({ "kty": "EC", "crv": "P-256", "x": self.0.x, "y": self.0.y })
///     }
///
///     async fn sign(&self, signing_input: &[u8]) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
///         // Of ECDSA, the two numbers one after the other; many services return DER, which is to be converted.
///         Ok(self.0.sign("alias/login", signing_input).await?)
///     }
/// }
///
/// # fn fairing(kms: Kms) -> Oidc {
/// Oidc::fairing().client_signer(KeyService(kms))
/// # }
/// # struct Kms { x: String, y: String }
/// # impl Kms {
/// #     async fn sign(&self, _: &str, _: &[u8]) -> Result<Vec<u8>, std::io::Error> { Ok(vec![]) }
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not sign for the client",
    label = "expected a type that implements `ClientSigner`",
    note = "implement it, with `#[rocket::async_trait]` above the `impl`"
)]
#[rocket::async_trait]
pub trait ClientSigner: Send + Sync + 'static {
    /// The algorithm of the signatures ([RFC 7518 §3.1](https://www.rfc-editor.org/rfc/rfc7518#section-3.1)): `RS256`,
    /// `PS256`, `ES256`, `ES384`, `EdDSA`, or another one of these kinds. Read once, at launch.
    fn alg(&self) -> &str;

    /// The `kid` of the key at the provider. Read once, at launch.
    fn kid(&self) -> &str;

    /// The public key, as a JWK, which the app publishes with [`kid`](Self::kid) and [`alg`](Self::alg). Read once, at
    /// launch: one with a private part aborts it.
    fn public_jwk(&self) -> Value;

    /// Further public keys that the app publishes, each with a `kid` and an `alg`: the next key, or the previous one.
    ///
    /// _Default:_ none
    fn other_public_jwks(&self) -> Vec<Value> {
        vec![]
    }

    /// The signature of these bytes, in the form of a JWS: for ECDSA `R` and `S` one after the other
    /// ([RFC 7518 §3.4](https://www.rfc-editor.org/rfc/rfc7518#section-3.4)), not DER. It must not block the thread.
    ///
    /// # Errors
    ///
    /// An error, a panic, a signature of the wrong length, or no answer within `http.timeout` fail the request with
    /// [`ProviderError::ClientSigner`](crate::ProviderError::ClientSigner), status 503, and nothing is sent. The text of
    /// the error is logged: it must not have a secret in it.
    async fn sign(&self, signing_input: &[u8]) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>>;
}

/// A signer whose public keys are valid.
#[derive(Clone)]
pub(crate) struct AttachedSigner {
    signer: Arc<dyn ClientSigner>,
    /// Its own, and then further ones.
    published: Arc<[PublicKey]>,
}

/// Why there is no signature.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum SignerFailure {
    #[error("it returned an error: {0}")]
    Error(String),
    #[error("it did not respond within {} ms", after.as_millis())]
    Timeout { after: Duration },
    #[error("it panicked")]
    Panic,
    #[error("its signature has {actual} bytes, and one of {alg} has {expected}")]
    Length {
        alg: &'static str,
        expected: usize,
        actual: usize,
    },
}

impl AttachedSigner {
    /// Reads what the signer is.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(crate) fn new(signer: Arc<dyn ClientSigner>) -> Result<AttachedSigner, String> {
        let (kid, others) = (signer.kid(), signer.other_public_jwks());
        if kid.trim().is_empty() {
            return Err("its `kid` is empty".to_owned());
        }
        let mut published = vec![public_key(&signer.public_jwk(), Some(signer.alg()), Some(kid))?];
        for other in &others {
            let text = |member| other.get(member).and_then(Value::as_str);
            let other = public_key(other, text("alg"), text("kid"))?;
            if published.iter().any(|known| known.kid() == other.kid()) {
                return Err(format!("two of its public keys have the `kid` {:?}", other.kid()));
            }
            published.push(other);
        }
        Ok(AttachedSigner {
            signer,
            published: published.into(),
        })
    }

    /// The public key of its signatures.
    pub(crate) fn public_key(&self) -> &PublicKey {
        &self.published[0]
    }

    pub(crate) fn published(&self) -> &[PublicKey] {
        &self.published
    }

    /// Signs a JWT, within this time.
    pub(crate) async fn sign(&self, typ: &str, claims: &Value, longest: Duration) -> Result<Secret, SignerFailure> {
        let key = self.public_key();
        let input = signing_input(key.alg(), Some(key.kid()), typ, claims);
        let input = input.expect("a JSON value can be written");
        // The app's code: a panic in it fails this request alone.
        let signing = AssertUnwindSafe(async { self.signer.sign(input.as_bytes()).await });
        let signature = match tokio::time::timeout(longest, signing.catch_unwind()).await {
            Ok(Ok(Ok(signature))) => signature,
            Ok(Ok(Err(error))) => return Err(SignerFailure::Error(printable(&error.to_string()))),
            Ok(Err(_)) => return Err(SignerFailure::Panic),
            Err(_) => return Err(SignerFailure::Timeout { after: longest }),
        };
        let (expected, actual) = (key.signature_len(), signature.len());
        if expected != actual {
            let alg = key.alg().as_str();
            return Err(SignerFailure::Length { alg, expected, actual });
        }
        Ok(Secret::new(with_signature(&input, &signature)))
    }
}

impl fmt::Debug for AttachedSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.public_key();
        f.debug_struct("AttachedSigner")
            .field("alg", &key.alg())
            .field("kid", &key.kid())
            .finish_non_exhaustive()
    }
}

fn public_key(jwk: &Value, alg: Option<&str>, kid: Option<&str>) -> Result<PublicKey, String> {
    let alg = alg.ok_or("a further public key has no `alg`")?;
    let alg: SigningAlgorithm = alg.parse().map_err(|_| format!("its `alg` {alg:?} is not supported"))?;
    PublicKey::new(jwk, alg, kid).map_err(|reason| format!("its public JWK is not usable: {reason}"))
}

#[cfg(test)]
mod tests;
