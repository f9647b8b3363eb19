//! The key that access tokens of this app are bound to, and the DPoP proofs that it signs.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use aws_lc_rs::{
    agreement::{self, ECDH_P256},
    digest, rand,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;
use time::OffsetDateTime;
use url::Url;

use super::{parse_object, parts_of, token_hash};
use crate::secret::Secret;

const SEED_LEN: usize = 32;

/// The algorithm of a proof key, by its name in `alg`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProofAlgorithm {
    /// ECDSA on P-256.
    Es256,
    /// Ed25519, by the name of [RFC 9864](https://www.rfc-editor.org/rfc/rfc9864).
    Ed25519,
    /// Ed25519, by the older name.
    EdDsa,
}

/// A private key for proofs ([RFC 9449 §4](https://www.rfc-editor.org/rfc/rfc9449#section-4)), made of a seed. Clones
/// share it.
#[derive(Clone)]
pub(crate) struct ProofKey(Arc<Inner>);

struct Inner {
    algorithm: ProofAlgorithm,
    seed: [u8; SEED_LEN],
    /// Made at the first use, which costs more than a signature.
    signer: OnceLock<Signer>,
}

struct Signer {
    pair: Pair,
    /// The public key, in the form of which RFC 7638 has the digest.
    jwk: String,
    thumbprint: String,
}

enum Pair {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl ProofAlgorithm {
    /// In the order of preference.
    const ALL: [ProofAlgorithm; 3] = [ProofAlgorithm::Es256, ProofAlgorithm::Ed25519, ProofAlgorithm::EdDsa];

    /// The preferred one of a provider's algorithms.
    pub(crate) fn preferred(listed: &[String]) -> Option<ProofAlgorithm> {
        let is_listed = |it: &ProofAlgorithm| listed.iter().any(|name| name == it.as_str());
        ProofAlgorithm::ALL.into_iter().find(is_listed)
    }

    /// A number for it, from 1.
    pub(crate) fn number(self) -> u8 {
        match self {
            ProofAlgorithm::Es256 => 1,
            ProofAlgorithm::Ed25519 => 2,
            ProofAlgorithm::EdDsa => 3,
        }
    }

    /// The algorithm with this number.
    pub(crate) fn of_number(number: u8) -> Option<ProofAlgorithm> {
        ProofAlgorithm::ALL.into_iter().find(|it| it.number() == number)
    }

    /// The name in `alg`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            ProofAlgorithm::Es256 => "ES256",
            ProofAlgorithm::Ed25519 => "Ed25519",
            ProofAlgorithm::EdDsa => "EdDSA",
        }
    }
}

impl ProofKey {
    /// The key of a seed: 43 characters of base64url, of which only a holder can make the key. `None` if it is
    /// something else.
    pub(crate) fn of_seed(algorithm: ProofAlgorithm, seed: &str) -> Option<ProofKey> {
        let seed = URL_SAFE_NO_PAD.decode(seed).ok()?.try_into().ok()?;
        Some(ProofKey::new(algorithm, seed))
    }

    /// A random key.
    pub(crate) fn random(algorithm: ProofAlgorithm) -> ProofKey {
        let mut seed = [0; SEED_LEN];
        rand::fill(&mut seed).expect("the system's random generator does not fail");
        ProofKey::new(algorithm, seed)
    }

    fn new(algorithm: ProofAlgorithm, seed: [u8; SEED_LEN]) -> ProofKey {
        ProofKey(Arc::new(Inner {
            algorithm,
            seed,
            signer: OnceLock::new(),
        }))
    }

    /// The SHA-256 thumbprint of the public key ([RFC 7638 §3](https://www.rfc-editor.org/rfc/rfc7638#section-3)), which
    /// is `dpop_jkt` and `cnf.jkt`.
    pub(crate) fn thumbprint(&self) -> &str {
        &self.signer().thumbprint
    }

    /// Signs a proof for one request ([RFC 9449 §4.2](https://www.rfc-editor.org/rfc/rfc9449#section-4.2)), with `ath` if
    /// it carries an access token.
    pub(crate) fn proof(
        &self,
        method: &str,
        url: &Url,
        access_token: Option<&Secret>,
        nonce: Option<&str>,
        now: OffsetDateTime,
    ) -> String {
        let signer = self.signer();
        let mut target = url.clone();
        target.set_query(None);
        target.set_fragment(None);
        let mut claims = json!({
            "jti": Secret::random().expose(),
            "htm": method,
            "htu": target.as_str(),
            "iat": now.unix_timestamp(),
        });
        if let Some(nonce) = nonce {
            claims["nonce"] = nonce.into();
        }
        if let Some(token) = access_token {
            claims["ath"] = token_hash(token.expose()).into();
        }
        let (alg, jwk) = (self.0.algorithm.as_str(), &signer.jwk);
        let header = format!(r#"{{"typ":"dpop+jwt","alg":"{alg}","jwk":{jwk}}}"#);
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let input = format!("{}.{}", encode(&header), encode(&claims.to_string()));
        let signature = signer.sign(input.as_bytes());
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn signer(&self) -> &Signer {
        self.0.signer.get_or_init(|| {
            // A seed that is not a number of the curve is hashed until it is one: one of 2^32 is not.
            (0..=u8::MAX)
                .find_map(|counter| Signer::of(self.0.algorithm, &candidate(&self.0.seed, counter)))
                .expect("one of 256 digests is below the order of the curve")
        })
    }
}

/// The number that a seed is used as: itself at first.
fn candidate(seed: &[u8; SEED_LEN], counter: u8) -> [u8; SEED_LEN] {
    if counter == 0 {
        return *seed;
    }
    let text = [b"rocket_openidconnect proof key", &[counter][..], seed].concat();
    let mut number = [0; SEED_LEN];
    number.copy_from_slice(digest::digest(&digest::SHA256, &text).as_ref());
    number
}

impl Signer {
    /// `None` if the number makes no key.
    fn of(algorithm: ProofAlgorithm, number: &[u8; SEED_LEN]) -> Option<Signer> {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (pair, jwk) = match algorithm {
            ProofAlgorithm::Es256 => {
                let private = agreement::PrivateKey::from_private_key(&ECDH_P256, number).ok()?;
                let public = private.compute_public_key().ok()?;
                let point = public.as_ref();
                let curve = &ECDSA_P256_SHA256_FIXED_SIGNING;
                let pair = EcdsaKeyPair::from_private_key_and_public_key(curve, number, point).ok()?;
                // A byte that says that the point is not compressed, then its two coordinates.
                let (x, y) = (encode(point.get(1..33)?), encode(point.get(33..65)?));
                let jwk = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
                (Pair::P256(pair), jwk)
            }
            ProofAlgorithm::Ed25519 | ProofAlgorithm::EdDsa => {
                let pair = Ed25519KeyPair::from_seed_unchecked(number).ok()?;
                let x = encode(pair.public_key().as_ref());
                (
                    Pair::Ed25519(pair),
                    format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#),
                )
            }
        };
        let thumbprint = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, jwk.as_bytes()));
        Some(Signer { pair, jwk, thumbprint })
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.pair {
            Pair::P256(pair) => {
                let signature = pair.sign(&SystemRandom::new(), message);
                let signature = signature.expect("the system's random generator does not fail");
                signature.as_ref().to_vec()
            }
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }
}

impl PartialEq for ProofKey {
    fn eq(&self, other: &ProofKey) -> bool {
        let are_equal = aws_lc_rs::constant_time::verify_slices_are_equal(&self.0.seed, &other.0.seed);
        self.0.algorithm == other.0.algorithm && are_equal.is_ok()
    }
}

impl Eq for ProofKey {}

impl fmt::Debug for ProofKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProofKey({}, …)", self.0.algorithm.as_str())
    }
}

/// The key that an access token names by `cnf.jkt`, if the token is a JWT whose payload is readable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NamedKey {
    /// The token is opaque.
    Unknown,
    /// It is a JWT that names no key.
    Missing,
    Thumbprint(String),
}

impl NamedKey {
    /// Reads it without a verification: the app is not the audience of its access token.
    pub(crate) fn of(access_token: &Secret) -> NamedKey {
        let payload = parts_of(access_token.expose()).and_then(|[_, payload, _]| URL_SAFE_NO_PAD.decode(payload).ok());
        let Some(claims) = payload.and_then(|payload| parse_object(&payload).ok()) else {
            return NamedKey::Unknown;
        };
        let jkt = claims.get("cnf").and_then(|cnf| cnf.get("jkt")?.as_str());
        jkt.map_or(NamedKey::Missing, |jkt| NamedKey::Thumbprint(jkt.to_owned()))
    }
}

/// Serializes a key with its seed, for payloads that are encrypted afterwards:
/// `#[serde(with = "optional_proof_key")]`.
pub(crate) mod optional_proof_key {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    use super::{ProofAlgorithm, ProofKey};

    pub(crate) fn serialize<S: Serializer>(key: &Option<ProofKey>, s: S) -> Result<S::Ok, S::Error> {
        let text = |key: &ProofKey| {
            let seed = URL_SAFE_NO_PAD.encode(key.0.seed);
            format!("{}.{seed}", key.0.algorithm.as_str())
        };
        key.as_ref().map(text).serialize(s)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<ProofKey>, D::Error> {
        let Some(text) = Option::<String>::deserialize(d)? else {
            return Ok(None);
        };
        let key = text.split_once('.').and_then(|(name, seed)| {
            let algorithm = ProofAlgorithm::ALL.into_iter().find(|it| it.as_str() == name)?;
            ProofKey::of_seed(algorithm, seed)
        });
        key.map(Some).ok_or_else(|| D::Error::custom("not a proof key"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::{ProofExpectations, TargetUri, UnverifiedProof};

    const ALGORITHMS: [ProofAlgorithm; 3] = ProofAlgorithm::ALL;

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
    }

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn a_proof_is_accepted_by_the_judge_of_apis() {
        for algorithm in ALGORITHMS {
            let (key, token) = (ProofKey::random(algorithm), Secret::new("at"));
            let address = url("https://api.example/a/b?x=1#y");
            let proof = key.proof("POST", &address, Some(&token), Some("n"), now());
            let unverified = UnverifiedProof::parse(&proof).unwrap();
            assert_eq!(unverified.thumbprint(), key.thumbprint());
            let expected = ProofExpectations {
                method: "POST",
                targets: &[TargetUri::parse("https://api.example/a/b").unwrap()],
                token_hash: Some(&token_hash("at")),
                max_age: std::time::Duration::from_secs(1),
                accepts_nonce: Some(&|nonce| nonce == "n"),
            };
            let accepted = unverified.accept(&expected, now()).unwrap();
            assert_eq!(accepted.thumbprint, key.thumbprint());
            assert_eq!(accepted.jti.len(), 43);
        }
    }

    #[test]
    fn each_proof_has_an_id_of_its_own() {
        let key = ProofKey::random(ProofAlgorithm::Es256);
        let proof = || key.proof("GET", &url("https://a.example"), None, None, now());
        let payload = |proof: String| proof.split('.').nth(1).unwrap().to_owned();
        let (one, other) = (payload(proof()), payload(proof()));
        assert_ne!(one, other);
        let claims: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(one).unwrap()).unwrap();
        let mut members: Vec<_> = claims.as_object().unwrap().keys().map(String::as_str).collect();
        members.sort_unstable();
        assert_eq!(members, ["htm", "htu", "iat", "jti"]);
    }

    #[test]
    fn the_same_seed_is_the_same_key() {
        let seed = Secret::random();
        for algorithm in ALGORITHMS {
            let key = || ProofKey::of_seed(algorithm, seed.expose()).unwrap();
            assert_eq!(key().thumbprint(), key().thumbprint());
            assert_eq!(key(), key());
            assert_ne!(key(), ProofKey::random(algorithm));
        }
        for not_a_seed in ["", "AAAA", &"A".repeat(44), "é"] {
            assert_eq!(ProofKey::of_seed(ProofAlgorithm::Es256, not_a_seed), None);
        }
    }

    /// Zero, the order of P-256, and the largest number.
    #[test]
    fn a_seed_that_is_not_a_number_of_the_curve_makes_a_key_all_the_same() {
        let order = "FFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551";
        let byte = |i: usize| u8::from_str_radix(&order[2 * i..2 * i + 2], 16).unwrap();
        for seed in [[0; 32], std::array::from_fn(byte), [0xFF; 32]] {
            assert!(Signer::of(ProofAlgorithm::Es256, &seed).is_none());
            let key = || ProofKey::new(ProofAlgorithm::Es256, seed);
            assert_eq!(key().thumbprint(), key().thumbprint());
            let proof = key().proof("GET", &url("https://a.example"), None, None, now());
            assert_eq!(UnverifiedProof::parse(&proof).unwrap().thumbprint(), key().thumbprint());
        }
    }

    #[test]
    fn es256_is_preferred() {
        let preferred = |listed: &[&str]| {
            let listed: Vec<_> = listed.iter().map(|name| name.to_string()).collect();
            ProofAlgorithm::preferred(&listed).map(ProofAlgorithm::as_str)
        };
        assert_eq!(preferred(&["RS256", "EdDSA", "ES256"]), Some("ES256"));
        assert_eq!(preferred(&["EdDSA", "Ed25519"]), Some("Ed25519"));
        assert_eq!(preferred(&["EdDSA"]), Some("EdDSA"));
        assert_eq!(preferred(&["RS256", "ES384", "es256"]), None);
        assert_eq!(preferred(&[]), None);
    }

    #[test]
    fn a_key_is_not_printed() {
        let key = ProofKey::random(ProofAlgorithm::Es256);
        key.thumbprint();
        assert_eq!(format!("{key:?}"), "ProofKey(ES256, …)");
    }

    #[test]
    fn the_key_that_a_token_names() {
        let named = |claims: &str| NamedKey::of(&Secret::new(format!("e30.{}.AAAA", URL_SAFE_NO_PAD.encode(claims))));
        assert_eq!(named(r#"{"cnf":{"jkt":"x"}}"#), NamedKey::Thumbprint("x".to_owned()));
        for claims in ["{}", r#"{"cnf":null}"#, r#"{"cnf":{"jkt":1}}"#, r#"{"cnf":"x"}"#] {
            assert_eq!(named(claims), NamedKey::Missing, "{claims}");
        }
        assert_eq!(named("x"), NamedKey::Unknown);
        for opaque in ["at", "a.b", "a.b.c.d.e", "a.!.c"] {
            assert_eq!(NamedKey::of(&Secret::new(opaque)), NamedKey::Unknown, "{opaque}");
        }
    }
}
