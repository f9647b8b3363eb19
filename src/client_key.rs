//! What signs for the client (`private_key_jwt`): the keys of a file, or the app's own signer.

mod client_signer;

use std::time::Duration;

use serde_json::Value;

pub use client_signer::ClientSigner;
pub(crate) use client_signer::{AttachedSigner, SignerFailure};

use crate::{
    secret::Secret,
    token::{ClientKeys, PublicKey, SigningAlgorithm},
};

/// The client's private key, wherever it is.
#[derive(Clone, Debug)]
pub(crate) enum ClientKey {
    /// The setting `private_key_file`.
    Keys(ClientKeys),
    /// [`Oidc::client_signer`](crate::Oidc::client_signer).
    Signer(AttachedSigner),
}

impl ClientKey {
    pub(crate) fn alg(&self) -> SigningAlgorithm {
        match self {
            ClientKey::Keys(keys) => keys.active().alg(),
            ClientKey::Signer(signer) => signer.public_key().alg(),
        }
    }

    /// The `kid` in the header of what it signs.
    pub(crate) fn kid(&self) -> Option<&str> {
        match self {
            ClientKey::Keys(keys) => keys.active().kid(),
            ClientKey::Signer(signer) => Some(signer.public_key().kid()),
        }
    }

    /// The public keys that the app publishes.
    pub(crate) fn published(&self) -> &[PublicKey] {
        match self {
            ClientKey::Keys(keys) => keys.published(),
            ClientKey::Signer(signer) => signer.published(),
        }
    }

    /// Signs a JWT with these claims. A signer of the app may take this long.
    pub(crate) async fn sign(&self, claims: &Value, longest: Duration) -> Result<Secret, SignerFailure> {
        match self {
            ClientKey::Keys(keys) => {
                let signed = keys.active().sign("JWT", claims);
                Ok(Secret::new(signed.expect("the key signed when it was parsed")))
            }
            ClientKey::Signer(signer) => signer.sign("JWT", claims, longest).await,
        }
    }
}
