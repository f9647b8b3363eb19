//! Signing keys of the test provider, and tokens taken apart so that a test can change one thing.

use std::sync::OnceLock;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

/// Unpadded base64url.
pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Unpadded base64url of SHA-256, as PKCE has it.
pub fn sha256_base64url(text: &str) -> String {
    base64url(digest::digest(&digest::SHA256, text.as_bytes()))
}

/// An unguessable value of 256 bits, after a prefix that says what it is.
pub fn random(prefix: &str) -> String {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    format!("{prefix}{}", base64url(bytes))
}

/// The key a token is signed with. Keys are made once per process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SigningKey {
    /// `rsa-1`, RSA of 2048 bits. The header's `alg` chooses among RS and PS 256, 384, 512.
    Rsa,
    /// `rsa-2`, published by [`rotate_rsa_key`](super::TestProvider::rotate_rsa_key).
    NextRsa,
    /// `ec-1`, P-256.
    Ec,
    /// `ed-1`, Ed25519.
    Ed,
    /// An RSA key the provider never publishes, under the kid `rsa-1`.
    Foreign,
    /// HMAC with this secret.
    Hs256(Vec<u8>),
    /// An empty signature.
    None,
}

impl SigningKey {
    fn kid(&self) -> Option<&'static str> {
        match self {
            Self::Rsa | Self::Foreign => Some("rsa-1"),
            Self::NextRsa => Some("rsa-2"),
            Self::Ec => Some("ec-1"),
            Self::Ed => Some("ed-1"),
            Self::Hs256(_) | Self::None => None,
        }
    }

    fn alg(&self) -> &'static str {
        match self {
            Self::Rsa | Self::NextRsa | Self::Foreign => "RS256",
            Self::Ec => "ES256",
            Self::Ed => "EdDSA",
            Self::Hs256(_) => "HS256",
            Self::None => "none",
        }
    }

    fn rsa(&self) -> Option<&'static RsaKeyPair> {
        static KEYS: [OnceLock<RsaKeyPair>; 3] = [const { OnceLock::new() }; 3];
        let index = match self {
            Self::Rsa => 0,
            Self::NextRsa => 1,
            Self::Foreign => 2,
            _ => return None,
        };
        Some(KEYS[index].get_or_init(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap()))
    }

    fn ec() -> &'static EcdsaKeyPair {
        static KEY: OnceLock<EcdsaKeyPair> = OnceLock::new();
        KEY.get_or_init(|| EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn ed() -> &'static Ed25519KeyPair {
        static KEY: OnceLock<Ed25519KeyPair> = OnceLock::new();
        KEY.get_or_init(|| Ed25519KeyPair::generate().unwrap())
    }

    /// The public JWK. Panics for the two that have none.
    pub fn jwk(&self) -> Value {
        let mut jwk = match self {
            Self::Rsa | Self::NextRsa | Self::Foreign => {
                let public = self.rsa().unwrap().public_key();
                let n = public.modulus().big_endian_without_leading_zero();
                let e = public.exponent().big_endian_without_leading_zero();
                json!({"kty": "RSA", "n": base64url(n), "e": base64url(e)})
            }
            Self::Ec => {
                let point = Self::ec().public_key().as_ref();
                let (x, y) = point[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "x": base64url(x), "y": base64url(y)})
            }
            Self::Ed => {
                let x = base64url(Self::ed().public_key());
                json!({"kty": "OKP", "crv": "Ed25519", "x": x})
            }
            Self::Hs256(_) | Self::None => panic!("{self:?} has no public key"),
        };
        jwk["kid"] = json!(self.kid());
        jwk["alg"] = json!(self.alg());
        jwk["use"] = json!("sig");
        jwk
    }

    /// The public key as PEM: what an algorithm-confusion attack takes for an HMAC secret.
    pub fn public_pem(&self) -> String {
        let der =
            AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(self.rsa().expect("an RSA key").public_key());
        let body = STANDARD.encode(der.unwrap().as_ref());
        let lines: Vec<_> = body.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        let lines = lines.join("\n");
        format!("-----BEGIN PUBLIC KEY-----\n{lines}\n-----END PUBLIC KEY-----\n")
    }

    fn sign(&self, alg: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa | Self::NextRsa | Self::Foreign => {
                let key = self.rsa().unwrap();
                let encoding: &'static dyn signature::RsaEncoding = match alg {
                    "RS384" => &signature::RSA_PKCS1_SHA384,
                    "RS512" => &signature::RSA_PKCS1_SHA512,
                    "PS256" => &signature::RSA_PSS_SHA256,
                    "PS384" => &signature::RSA_PSS_SHA384,
                    "PS512" => &signature::RSA_PSS_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut bytes = vec![0; key.public_modulus_len()];
                key.sign(encoding, &random, message, &mut bytes).unwrap();
                bytes
            }
            Self::Ec => Self::ec().sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed => Self::ed().sign(message).as_ref().to_vec(),
            Self::Hs256(secret) => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
                hmac::sign(&key, message).as_ref().to_vec()
            }
            Self::None => Vec::new(),
        }
    }
}

/// A JWT before it is signed. Change one thing; the rest stays honest.
#[derive(Clone, Debug)]
pub struct JwtParts {
    /// The JOSE header: `alg`, `kid`, and `typ` where the token has one.
    pub header: Map<String, Value>,
    /// The claims.
    pub claims: Map<String, Value>,
    /// The key that really signs. [`sign_with`](Self::sign_with) changes the header along.
    pub signing: SigningKey,
    /// Sent in place of the entire compact form.
    pub raw: Option<String>,
    /// The header's JSON text in place of `header`: for duplicate members, odd spacing.
    pub raw_header: Option<String>,
    /// The payload's text in place of `claims`: for duplicate members, text that is no JSON.
    pub raw_claims: Option<String>,
    /// Sends the token with nothing after its second dot.
    pub strip_signature: bool,
    /// Flips one bit of the signature.
    pub break_signature: bool,
    /// The access token beside this ID token; `at_hash` follows the header's `alg` with it.
    access_token: Option<String>,
}

/// The ID token's parts.
pub type IdTokenParts = JwtParts;

impl JwtParts {
    /// Honest parts: these claims, this key, and a header that says so.
    pub fn new(claims: Value, signing: SigningKey) -> Self {
        let Value::Object(claims) = claims else {
            panic!("claims are an object, not {claims}")
        };
        let mut parts = Self {
            header: Map::new(),
            claims,
            signing: SigningKey::None,
            raw: None,
            raw_header: None,
            raw_claims: None,
            strip_signature: false,
            break_signature: false,
            access_token: None,
        };
        parts.sign_with(signing);
        parts
    }

    /// Binds an access token by `at_hash` (Core §3.1.3.6).
    pub fn bind_access_token(&mut self, access_token: &str) {
        self.access_token = Some(access_token.to_owned());
        self.set("at_hash", at_hash(self.alg(), access_token));
    }

    /// Sets a claim.
    pub fn set(&mut self, claim: &str, value: impl Into<Value>) {
        self.claims.insert(claim.to_owned(), value.into());
    }

    /// Removes a claim. Panics if the honest token has none: the test would prove nothing.
    pub fn remove(&mut self, claim: &str) {
        let removed = self.claims.remove(claim);
        assert!(removed.is_some(), "the token has no claim {claim}");
    }

    /// Sets a header member.
    pub fn set_header(&mut self, name: &str, value: impl Into<Value>) {
        self.header.insert(name.to_owned(), value.into());
    }

    /// Removes a header member.
    pub fn remove_header(&mut self, name: &str) {
        let removed = self.header.remove(name);
        assert!(removed.is_some(), "the header has no member {name}");
    }

    /// Signs with this key, and says so in `alg` and `kid`.
    pub fn sign_with(&mut self, signing: SigningKey) {
        self.set_header("alg", signing.alg());
        match signing.kid() {
            Some(kid) => self.set_header("kid", kid),
            None => drop(self.header.remove("kid")),
        }
        self.signing = signing;
    }

    fn alg(&self) -> &str {
        self.header.get("alg").and_then(Value::as_str).unwrap_or("")
    }

    /// The compact form.
    pub fn compact(&self) -> String {
        if let Some(raw) = &self.raw {
            return raw.clone();
        }
        let mut claims = self.claims.clone();
        if let Some(access_token) = &self.access_token
            && claims.get("at_hash") == Some(&json!(at_hash("RS256", access_token)))
        {
            claims["at_hash"] = json!(at_hash(self.alg(), access_token));
        }
        let header = self
            .raw_header
            .clone()
            .unwrap_or_else(|| json!(self.header).to_string());
        let claims = self.raw_claims.clone().unwrap_or_else(|| json!(claims).to_string());
        let message = format!("{}.{}", base64url(header), base64url(claims));
        let mut signature = self.signing.sign(self.alg(), message.as_bytes());
        if self.break_signature {
            *signature.last_mut().expect("a signature to break") ^= 1;
        }
        if self.strip_signature {
            signature.clear();
        }
        format!("{message}.{}", base64url(signature))
    }
}

fn at_hash(alg: &str, access_token: &str) -> String {
    let algorithm = match alg {
        alg if alg.ends_with("384") => &digest::SHA384,
        alg if alg.ends_with("512") => &digest::SHA512,
        // Ed25519 hashes with SHA-512 inside (RFC 8032 §5.1).
        "EdDSA" | "Ed25519" => &digest::SHA512,
        _ => &digest::SHA256,
    };
    let hash = digest::digest(algorithm, access_token.as_bytes());
    base64url(&hash.as_ref()[..hash.as_ref().len() / 2])
}
