//! The client's own keys: the private key that signs, and the public keys that the app publishes.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use thiserror::Error;

use super::{
    PrivateKey, SigningAlgorithm, SkipReason, jwk::HeaderKey, parse_strict_object, private_key::PrivateKeyError,
};
use crate::printable::excerpt;

/// The keys of `private_key_file`.
#[derive(Clone, Debug)]
pub(crate) struct ClientKeys {
    /// The key that signs: in a JWK Set, the first one that has a private part and is for signatures.
    active: PrivateKey,
    /// The public keys, in the order of the file.
    published: Vec<PublicKey>,
    is_set: bool,
}

/// The error of an unusable file of keys.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum ClientKeysError {
    #[error(transparent)]
    Key(#[from] PrivateKeyError),
    #[error("the member `keys` of the JWK Set is not an array")]
    NotAnArray,
    #[error("the key {key} of the JWK Set is not usable: {cause}")]
    InSet { key: String, cause: String },
    #[error("two keys of the JWK Set have the `kid` {kid:?}")]
    Duplicate { kid: String },
    #[error("no key of the JWK Set can sign: each has only a public part, or is for encryption")]
    NoneSigns,
}

impl ClientKeysError {
    /// How to fix it.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            ClientKeysError::Key(_) => {
                "generate a key with `rocket-oidc keys new`, `openssl genpkey -algorithm ed25519` or `-algorithm rsa`, \
                 and register its public part at the provider"
            }
            ClientKeysError::NotAnArray => "correct the file, or generate one with `rocket-oidc keys new`",
            ClientKeysError::InSet { .. } => {
                "correct the key, or remove it; `rocket-oidc keys new` generates a JWK Set"
            }
            ClientKeysError::Duplicate { .. } => "give each key a `kid` of its own, or remove one of the two",
            ClientKeysError::NoneSigns => "add a private key, for example with `rocket-oidc keys new`",
        }
    }
}

impl ClientKeys {
    /// Parses one private key, in PEM or as a JWK, or a JWK Set ([RFC 7517 §5]).
    ///
    /// In a set, a key without a private part is published and never signs; one for encryption is ignored. A key without
    /// a `kid` gets its thumbprint ([RFC 7638]).
    ///
    /// [RFC 7517 §5]: https://www.rfc-editor.org/rfc/rfc7517#section-5
    /// [RFC 7638]: https://www.rfc-editor.org/rfc/rfc7638
    pub(crate) fn parse(text: &str) -> Result<ClientKeys, ClientKeysError> {
        let is_json = text.trim_start().starts_with('{');
        let document = parse_strict_object(text.as_bytes()).ok().filter(|_| is_json);
        match document.as_ref().and_then(|document| document.get("keys")) {
            None => Ok(ClientKeys::of(PrivateKey::parse(text)?)),
            Some(Value::Array(entries)) => ClientKeys::of_set(entries),
            Some(_) => Err(ClientKeysError::NotAnArray),
        }
    }

    fn of(key: PrivateKey) -> ClientKeys {
        let public = key.public_jwk();
        let public = public.and_then(|public| PublicKey::new(&public, key.alg(), key.kid()).ok());
        ClientKeys {
            published: public.into_iter().collect(),
            active: key,
            is_set: false,
        }
    }

    fn of_set(entries: &[Value]) -> Result<ClientKeys, ClientKeysError> {
        let (mut active, mut published) = (None, Vec::<PublicKey>::new());
        for (index, entry) in entries.iter().enumerate() {
            let (key, public) = match SetKey::parse(entry) {
                Ok(SetKey::Ignored) => continue,
                Ok(SetKey::Public(public)) => (None, public),
                Ok(SetKey::Private(key, public)) => (Some(key), public),
                Err(cause) => {
                    let kid = entry.get("kid").and_then(Value::as_str);
                    let kid = kid.map(|kid| format!("{:?}", excerpt(kid)));
                    let key = kid.unwrap_or_else(|| format!("at position {}", index + 1));
                    return Err(ClientKeysError::InSet { key, cause });
                }
            };
            if published.iter().any(|other| other.kid() == public.kid()) {
                let kid = excerpt(public.kid());
                return Err(ClientKeysError::Duplicate { kid });
            }
            active = active.or(key.map(|key| key.named(Some(public.kid()))));
            published.push(public);
        }
        Ok(ClientKeys {
            active: active.ok_or(ClientKeysError::NoneSigns)?,
            published,
            is_set: true,
        })
    }

    /// The same keys with this `kid`, if there is one; not for a JWK Set, whose keys have a `kid` each.
    pub(crate) fn named(self, kid: Option<&str>) -> ClientKeys {
        match kid {
            Some(kid) if !self.is_set => ClientKeys::of(self.active.named(Some(kid))),
            _ => self,
        }
    }

    /// Whether they come from a JWK Set.
    pub(crate) fn is_set(&self) -> bool {
        self.is_set
    }

    /// The key that signs.
    pub(crate) fn active(&self) -> &PrivateKey {
        &self.active
    }

    /// The public keys to publish.
    pub(crate) fn published(&self) -> &[PublicKey] {
        &self.published
    }
}

/// One key of a set.
enum SetKey {
    /// It is for encryption.
    Ignored,
    /// It has no private part, or does not sign.
    Public(PublicKey),
    Private(PrivateKey, PublicKey),
}

impl SetKey {
    fn parse(entry: &Value) -> Result<SetKey, String> {
        let jwk = entry.as_object().ok_or("it is not a JSON object")?;
        match jwk.get("use").map(Value::as_str) {
            None | Some(Some("sig")) => {}
            Some(Some("enc")) => return Ok(SetKey::Ignored),
            Some(_) => return Err("its `use` is neither \"sig\" nor \"enc\"".to_owned()),
        }
        let operations = jwk.get("key_ops").and_then(Value::as_array);
        let may = |operation: &str| operations.is_none_or(|list| list.iter().any(|it| it == operation));
        if !may("sign") && !may("verify") {
            return Ok(SetKey::Ignored);
        }
        let kid = match jwk.get("kid") {
            None => None,
            Some(Value::String(kid)) if !kid.trim().is_empty() => Some(&**kid),
            Some(_) => return Err("its `kid` is not a string, or is empty".to_owned()),
        };
        if !jwk.contains_key("d") {
            let alg = algorithm(jwk)?;
            let mut public = jwk.clone();
            public.remove("key_ops");
            let public = PublicKey::new(&Value::Object(public), alg, kid);
            return Ok(SetKey::Public(public.map_err(|reason| reason.to_string())?));
        }
        let key = PrivateKey::from_jwk(jwk).map_err(|error| error.to_string())?;
        let public = key.public_jwk().ok_or("its public part cannot be derived")?;
        let public = PublicKey::new(&public, key.alg(), kid).map_err(|reason| reason.to_string())?;
        Ok(if may("sign") {
            SetKey::Private(key, public)
        } else {
            SetKey::Public(public)
        })
    }
}

/// The algorithm of a public JWK: its `alg`, else that of its kind, which is RS256 for RSA.
fn algorithm(jwk: &Map<String, Value>) -> Result<SigningAlgorithm, String> {
    let text = |member| jwk.get(member).and_then(Value::as_str);
    match (text("alg"), text("kty"), text("crv")) {
        (Some(alg), ..) => alg
            .parse()
            .map_err(|_| format!("its `alg` {:?} is not supported", excerpt(alg))),
        (None, Some("EC"), Some("P-384")) => Ok(SigningAlgorithm::ES384),
        (None, Some("EC"), _) => Ok(SigningAlgorithm::ES256),
        (None, Some("OKP"), _) => Ok(SigningAlgorithm::EdDSA),
        (None, ..) => Ok(SigningAlgorithm::RS256),
    }
}

/// A public key of the client, as the app publishes it: its numbers, `kty`, `kid`, `use` and `alg`, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublicKey {
    jwk: Map<String, Value>,
    alg: SigningAlgorithm,
    kid: String,
}

impl PublicKey {
    /// Reads a public JWK whose key verifies `alg`. Without a `kid`, it is the thumbprint.
    ///
    /// # Errors
    ///
    /// When the JWK has a private part, or is not a valid key for `alg`.
    pub(crate) fn new(jwk: &Value, alg: SigningAlgorithm, kid: Option<&str>) -> Result<PublicKey, SkipReason> {
        let key = HeaderKey::parse(jwk, alg)?;
        key.verifier()?;
        let kid = kid.unwrap_or_else(|| key.thumbprint()).to_owned();
        let numbers: &[&str] = match jwk["kty"].as_str() {
            Some("RSA") => &["n", "e"],
            Some("EC") => &["crv", "x", "y"],
            _ => &["crv", "x"],
        };
        let mut published = Map::new();
        for member in ["kty"].iter().chain(numbers) {
            published.insert((*member).to_owned(), jwk[*member].clone());
        }
        published.insert("use".to_owned(), "sig".into());
        published.insert("alg".to_owned(), alg.as_str().into());
        published.insert("kid".to_owned(), kid.as_str().into());
        Ok(PublicKey {
            jwk: published,
            alg,
            kid,
        })
    }

    pub(crate) fn jwk(&self) -> &Map<String, Value> {
        &self.jwk
    }

    pub(crate) fn alg(&self) -> SigningAlgorithm {
        self.alg
    }

    pub(crate) fn kid(&self) -> &str {
        &self.kid
    }

    /// The length of its signatures in a JWS ([RFC 7518 §3.3](https://www.rfc-editor.org/rfc/rfc7518#section-3.3) and
    /// the following sections), in bytes.
    pub(crate) fn signature_len(&self) -> usize {
        match self.alg {
            SigningAlgorithm::ES384 => 96,
            SigningAlgorithm::ES512 => 132,
            SigningAlgorithm::ES256 | SigningAlgorithm::EdDSA => 64,
            // Of RSA: as long as the modulus.
            _ => {
                let modulus = self.jwk.get("n").and_then(Value::as_str);
                let modulus = modulus.and_then(|modulus| URL_SAFE_NO_PAD.decode(modulus).ok());
                modulus.map_or(0, |modulus| modulus.len())
            }
        }
    }
}

#[cfg(test)]
mod tests;
