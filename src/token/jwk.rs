//! The public keys of a provider, parsed once, each with the algorithms that it verifies.

use std::collections::{HashMap, HashSet};

use aws_lc_rs::{
    digest,
    signature::{
        self, EcdsaVerificationAlgorithm, ParsedPublicKey, RsaParameters, RsaPublicKeyComponents, VerificationAlgorithm,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::{
    JsonError, SigningAlgorithm,
    json::{Shape, replace_unpaired_surrogates, syntax, type_name, without_byte_order_mark},
    parse_strict_object,
};
use crate::printable::excerpt;

/// A JWK Set ([RFC 7517 §5]), reduced to its usable keys.
///
/// [RFC 7517 §5]: https://www.rfc-editor.org/rfc/rfc7517#section-5
#[derive(Debug)]
pub(crate) struct KeySet {
    keys: Vec<Jwk>,
    /// The indices of the keys with each `kid`.
    by_kid: HashMap<String, Vec<usize>>,
    skipped: Vec<SkippedKey>,
}

impl KeySet {
    /// The maximum number of keys; further ones are skipped.
    const MAX_KEYS: usize = 2_000;

    /// Parses a JWK Set. A key that cannot verify signatures is skipped, and is not an error.
    ///
    /// Malformed JSON is tolerated as in [`super::json`], key by key: one malformed key must not make the others
    /// unusable.
    pub(crate) fn parse(json: &[u8]) -> Result<KeySet, KeySetError> {
        let document = KeyDocument::parse(json)?;
        let Value::Object(object) = &document.value else {
            let actual = type_name(&document.value);
            return Err(JsonError::NotAnObject { actual }.into());
        };
        let entries = match object.get("keys") {
            Some(Value::Array(entries)) => entries,
            Some(Value::Null) | None => return Err(KeySetError::MissingKeys),
            Some(other) => {
                let actual = type_name(other);
                return Err(KeySetError::KeysNotAnArray { actual });
            }
        };

        let mut set = KeySet {
            keys: Vec::new(),
            by_kid: HashMap::new(),
            skipped: Vec::new(),
        };
        for (index, entry) in entries.iter().enumerate().take(KeySet::MAX_KEYS) {
            match document.key(index, entry) {
                Ok(key) => {
                    if let Some(kid) = &key.kid {
                        let places = set.by_kid.entry(kid.clone()).or_default();
                        places.push(set.keys.len());
                    }
                    set.keys.push(key);
                }
                Err(reason) => set.skipped.push(SkippedKey {
                    index,
                    kid: entry.get("kid").and_then(Value::as_str).map(excerpt),
                    reason,
                }),
            }
        }
        let (max, actual) = (KeySet::MAX_KEYS, entries.len());
        if actual > max {
            set.skipped.push(SkippedKey {
                index: max,
                kid: None,
                reason: SkipReason::TooMany { max, actual },
            });
        }
        Ok(set)
    }

    /// The number of usable keys.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key is usable.
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys that were skipped, and why.
    pub(crate) fn skipped(&self) -> &[SkippedKey] {
        &self.skipped
    }

    /// Each usable key: its `kid`, and the algorithms that it verifies.
    #[cfg(feature = "cli")]
    pub(crate) fn usable(&self) -> impl Iterator<Item = (Option<&str>, Vec<SigningAlgorithm>)> {
        self.keys.iter().map(|key| {
            let algorithms = key.verifiers.iter().map(|(algorithm, _)| *algorithm);
            (key.kid.as_deref(), algorithms.collect())
        })
    }

    /// Whether a usable key has this `kid`.
    pub(super) fn has_kid(&self, kid: &str) -> bool {
        self.by_kid.contains_key(kid)
    }

    /// The keys that may verify `algorithm`: those with this `kid`, or all without a `kid`; with `must_name_algorithm` only
    /// those whose `alg` is `algorithm`.
    pub(super) fn candidates<'a>(
        &'a self,
        kid: Option<&'a str>,
        algorithm: SigningAlgorithm,
        must_name_algorithm: bool,
    ) -> impl Iterator<Item = CandidateKey<'a>> {
        let named = kid.map(|kid| self.by_kid.get(kid).map_or(&[][..], Vec::as_slice));
        let named = named.map(|places| places.iter().map(|place| &self.keys[*place]));
        let all = kid.is_none().then_some(&self.keys);
        named
            .into_iter()
            .flatten()
            .chain(all.into_iter().flatten())
            .filter(move |key| key.names_algorithm || !must_name_algorithm)
            .filter_map(move |key| {
                Some(CandidateKey {
                    key: key.verifier(algorithm)?,
                    issuer: key.issuer.as_deref(),
                })
            })
    }
}

/// A key that may verify an algorithm.
pub(super) struct CandidateKey<'a> {
    pub(super) key: &'a ParsedPublicKey,
    /// The issuer that the key is published for, if the set names one.
    pub(super) issuer: Option<&'a str>,
}

/// The parsed document of a key set.
struct KeyDocument {
    value: Value,
    /// The indices of the keys that have a duplicate member with different values.
    ambiguous: HashSet<usize>,
    /// Whether unpaired surrogates were replaced by U+FFFD.
    is_repaired: bool,
}

impl KeyDocument {
    fn parse(json: &[u8]) -> Result<KeyDocument, JsonError> {
        let json = without_byte_order_mark(json);
        match Shape::parse(json) {
            Ok((shape, duplicate)) => {
                let mut ambiguous = HashSet::new();
                if let Shape::Object { members, conflicts } = &shape {
                    // The set itself has a duplicate member.
                    if let (false, Some(duplicate)) = (conflicts.is_empty(), duplicate) {
                        return Err(duplicate);
                    }
                    if let Some(Shape::Array(keys)) = members.get("keys") {
                        let keys = keys.iter().enumerate();
                        let keys = keys.filter(|(_, key)| !key.is_unambiguous());
                        ambiguous = keys.map(|(index, _)| index).collect();
                    }
                }
                Ok(KeyDocument {
                    value: serde_json::from_slice(json).map_err(|error| syntax(&error))?,
                    ambiguous,
                    is_repaired: false,
                })
            }
            Err(error) => {
                let repaired = replace_unpaired_surrogates(json).ok_or(error)??.json;
                Ok(KeyDocument {
                    value: Value::Object(parse_strict_object(&repaired)?),
                    ambiguous: HashSet::new(),
                    is_repaired: true,
                })
            }
        }
    }

    /// Parses the key at this index.
    fn key(&self, index: usize, entry: &Value) -> Result<Jwk, SkipReason> {
        if self.ambiguous.contains(&index) {
            return Err(SkipReason::Ambiguous);
        }
        let key = Jwk::parse(entry)?;
        let is_replaced = |kid: &String| self.is_repaired && kid.contains('\u{fffd}');
        if key.kid.as_ref().is_some_and(is_replaced) {
            Err(SkipReason::UnpairedSurrogate { member: "kid" })
        } else {
            Ok(key)
        }
    }
}

/// A skipped key, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SkippedKey {
    /// Its index in the set, from 0.
    pub(crate) index: usize,
    pub(crate) kid: Option<String>,
    pub(crate) reason: SkipReason,
}

impl SkippedKey {
    /// Whether it is an encryption key ([RFC 7517 §4.2]).
    ///
    /// [RFC 7517 §4.2]: https://www.rfc-editor.org/rfc/rfc7517#section-4.2
    #[cfg(feature = "cli")]
    pub(crate) fn is_for_encryption(&self) -> bool {
        match &self.reason {
            SkipReason::Use { actual } => actual == "enc",
            // RFC 7518 §4.1: a key management algorithm says so too, where there is no `use`.
            SkipReason::Algorithm { alg } => {
                alg.starts_with("RSA-OAEP") || alg == "RSA1_5" || alg.starts_with("ECDH-ES")
            }
            // RFC 8037 §3.2: these curves are for key agreement alone.
            SkipReason::UnknownCurve { crv } => matches!(crv.as_str(), "X25519" | "X448"),
            _ => false,
        }
    }
}

/// Why a key was skipped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SkipReason {
    #[error("the key is {actual}, not a JSON object")]
    NotAnObject { actual: &'static str },
    #[error("a member occurs more than once, with different values")]
    Ambiguous,
    #[error("the member {member:?} has an unpaired surrogate, which is not a character")]
    UnpairedSurrogate { member: &'static str },
    #[error("the member {member:?} is missing")]
    Missing { member: &'static str },
    #[error("the member {member:?} is {actual}, not {expected}")]
    WrongType {
        member: &'static str,
        expected: &'static str,
        actual: &'static str,
    },
    #[error("the key type {kty:?} holds a shared secret, not a public key")]
    Symmetric { kty: String },
    #[error("the key is a private key")]
    Private,
    #[error("the key type {kty:?} is not supported")]
    UnknownKeyType { kty: String },
    #[error("the curve {crv:?} is not supported")]
    UnknownCurve { crv: String },
    #[error("the key is for {actual:?}, not for \"sig\"")]
    Use { actual: String },
    #[error("the key operations do not include \"verify\"")]
    KeyOperations,
    #[error("the algorithm {alg:?} is not one that this kind of key verifies here")]
    Algorithm { alg: String },
    #[error("the member {member:?} is not base64url without padding")]
    Base64 { member: &'static str },
    #[error("the RSA modulus has {actual} bits, not 2048 to 8192")]
    RsaSize { actual: usize },
    #[error("the RSA exponent is not an odd number from 3 to 2^33 - 1")]
    RsaExponent,
    #[error("the member {member:?} has {actual} bytes, not {expected}")]
    Length {
        member: &'static str,
        expected: usize,
        actual: usize,
    },
    #[error("the numbers do not make a valid public key")]
    Invalid,
    #[error("the number {member:?} begins with a zero")]
    LeadingZero { member: &'static str },
    #[error("the set has {actual} keys; those after the first {max} are not read")]
    TooMany { max: usize, actual: usize },
}

/// The error of a document that is not a JWK Set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeySetError {
    /// It is not a JSON object.
    #[error("the key set cannot be parsed: {0}")]
    Json(#[from] JsonError),
    /// It has no `keys`.
    #[error("the key set has no member \"keys\"")]
    MissingKeys,
    /// Its `keys` is not an array.
    #[error("the member \"keys\" of the key set is {actual}, not an array")]
    KeysNotAnArray {
        /// The type of the value that was found.
        actual: &'static str,
    },
}

#[cfg(feature = "cli")]
impl KeySetError {
    /// How to fix it.
    pub(crate) fn remedy(&self) -> &'static str {
        "open the provider's `jwks_uri` and check that it answers with a JWK Set: {\"keys\": […]}"
    }
}

/// A public key, prepared for each algorithm that it may verify.
#[derive(Debug)]
struct Jwk {
    kid: Option<String>,
    /// `issuer`, a member of Microsoft Entra ID's keys; empty if it is not a string.
    issuer: Option<String>,
    /// Whether the key has an `alg`.
    names_algorithm: bool,
    verifiers: Vec<(SigningAlgorithm, ParsedPublicKey)>,
}

impl Jwk {
    fn parse(entry: &Value) -> Result<Jwk, SkipReason> {
        let Value::Object(jwk) = entry else {
            let actual = type_name(entry);
            return Err(SkipReason::NotAnObject { actual });
        };
        let kid = optional_str(jwk, "kid")?.map(str::to_owned);
        let kty = required_str(jwk, "kty")?;
        if kty == "oct" {
            return Err(SkipReason::Symmetric { kty: kty.into() });
        }
        // A published private key is compromised.
        if jwk.get("d").is_some_and(|d| !d.is_null()) {
            return Err(SkipReason::Private);
        }
        check_use(jwk)?;
        check_key_ops(jwk)?;
        let mut verifiers = match kty {
            "RSA" => rsa_verifiers(jwk)?,
            "EC" => vec![ec_verifier(jwk)?],
            "OKP" => vec![okp_verifier(jwk)?],
            other => {
                let kty = excerpt(other);
                return Err(SkipReason::UnknownKeyType { kty });
            }
        };
        // RFC 7517 §4.4: a key that names its algorithm is for that one only.
        let alg = optional_str(jwk, "alg")?.filter(|alg| !alg.is_empty());
        if let Some(alg) = alg {
            let own = alg.parse::<SigningAlgorithm>().ok();
            verifiers.retain(|(algorithm, _)| Some(*algorithm) == own);
            if verifiers.is_empty() {
                return Err(SkipReason::Algorithm { alg: excerpt(alg) });
            }
        }
        // `issuer` is in no standard: no value of it makes the key unusable by itself.
        let issuer = jwk.get("issuer").filter(|issuer| !issuer.is_null());
        Ok(Jwk {
            kid,
            issuer: issuer.map(|issuer| issuer.as_str().unwrap_or_default().to_owned()),
            names_algorithm: alg.is_some(),
            verifiers,
        })
    }

    fn verifier(&self, algorithm: SigningAlgorithm) -> Option<&ParsedPublicKey> {
        self.verifiers
            .iter()
            .find(|(own, _)| *own == algorithm)
            .map(|(_, key)| key)
    }
}

/// A public key in the header of a DPoP proof ([RFC 9449 §4.2](https://www.rfc-editor.org/rfc/rfc9449#section-4.2)).
/// Nothing vouches for it but its thumbprint.
pub(super) struct HeaderKey {
    numbers: Numbers,
    thumbprint: String,
}

/// The numbers of a key, and what verifies its signatures.
enum Numbers {
    Rsa(RsaPublicKeyComponents<Vec<u8>>, &'static RsaParameters),
    Point(Vec<u8>, &'static dyn VerificationAlgorithm),
}

impl HeaderKey {
    /// Members of private keys and shared secrets (RFC 7518 §6.2.2, §6.3.2, §6.4.1).
    const PRIVATE: [&'static str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

    /// Checks a key that verifies `algorithm`. Whether its numbers make a key is checked by
    /// [`verifier`](Self::verifier), which costs more.
    pub(super) fn parse(jwk: &Value, algorithm: SigningAlgorithm) -> Result<HeaderKey, SkipReason> {
        let Value::Object(jwk) = jwk else {
            let actual = type_name(jwk);
            return Err(SkipReason::NotAnObject { actual });
        };
        let kty = required_str(jwk, "kty")?;
        if kty == "oct" {
            return Err(SkipReason::Symmetric { kty: kty.into() });
        }
        if HeaderKey::PRIVATE.iter().any(|member| jwk.contains_key(*member)) {
            return Err(SkipReason::Private);
        }
        check_use(jwk)?;
        check_key_ops(jwk)?;
        // Of the numbers, each has one spelling, so that a key has one thumbprint (RFC 7638 §3.2): their members are in
        // alphabetical order, and none needs an escape.
        let text = |member| required_str(jwk, member);
        let (fits, numbers, members) = match kty {
            "RSA" => {
                let components = rsa_components(jwk)?;
                let members = format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, text("e")?, text("n")?);
                let of_algorithm = RSA_PARAMETERS.iter().find(|(own, _)| *own == algorithm);
                let (_, parameters) = of_algorithm.unwrap_or(&RSA_PARAMETERS[0]);
                (of_algorithm.is_some(), Numbers::Rsa(components, parameters), members)
            }
            "EC" => {
                let (own, verification, point) = ec_point(jwk)?;
                let (crv, x, y) = (text("crv")?, text("x")?, text("y")?);
                let members = format!(r#"{{"crv":"{crv}","kty":"EC","x":"{x}","y":"{y}"}}"#);
                (own == algorithm, Numbers::Point(point, verification), members)
            }
            "OKP" => {
                let point = okp_point(jwk)?;
                let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, text("x")?);
                let fits = algorithm == SigningAlgorithm::EdDSA;
                (fits, Numbers::Point(point, &signature::ED25519), members)
            }
            other => {
                let kty = excerpt(other);
                return Err(SkipReason::UnknownKeyType { kty });
            }
        };
        let own = optional_str(jwk, "alg")?.map(str::parse::<SigningAlgorithm>);
        if !fits || own.is_some_and(|own| own != Ok(algorithm)) {
            let alg = algorithm.as_str().to_owned();
            return Err(SkipReason::Algorithm { alg });
        }
        if kty == "RSA" {
            for member in ["n", "e"] {
                // RFC 7518 §2: without leading zeros.
                if bytes(jwk, member)?.first() == Some(&0) {
                    return Err(SkipReason::LeadingZero { member });
                }
            }
        }
        Ok(HeaderKey {
            numbers,
            thumbprint: URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, members.as_bytes())),
        })
    }

    /// The SHA-256 thumbprint ([RFC 7638 §3](https://www.rfc-editor.org/rfc/rfc7638#section-3)), in base64url.
    pub(super) fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// The key, prepared to verify its algorithm.
    pub(super) fn verifier(&self) -> Result<ParsedPublicKey, SkipReason> {
        let key = match &self.numbers {
            Numbers::Rsa(components, parameters) => components.to_parsed_public_key(parameters),
            Numbers::Point(point, verification) => ParsedPublicKey::new(*verification, point),
        };
        key.map_err(|_| SkipReason::Invalid)
    }
}

/// Checks `use`: <https://www.rfc-editor.org/rfc/rfc7517#section-4.2>. In the bundle of a SPIFFE trust domain, the
/// keys that sign tokens have `jwt-svid` (<https://spiffe.io/docs/latest/spiffe-specs/jwt-svid/#42-jwk-set>).
fn check_use(jwk: &Map<String, Value>) -> Result<(), SkipReason> {
    match optional_str(jwk, "use")? {
        None | Some("sig" | "jwt-svid" | "") => Ok(()),
        Some(other) => Err(SkipReason::Use { actual: excerpt(other) }),
    }
}

/// <https://www.rfc-editor.org/rfc/rfc7517#section-4.3>
fn check_key_ops(jwk: &Map<String, Value>) -> Result<(), SkipReason> {
    match jwk.get("key_ops") {
        None | Some(Value::Null) => Ok(()),
        Some(Value::Array(operations)) if operations.iter().any(|op| op == "verify") => Ok(()),
        Some(Value::Array(_)) => Err(SkipReason::KeyOperations),
        Some(other) => Err(SkipReason::WrongType {
            member: "key_ops",
            expected: "an array",
            actual: type_name(other),
        }),
    }
}

static RSA_PARAMETERS: [(SigningAlgorithm, &RsaParameters); 6] = [
    (SigningAlgorithm::RS256, &signature::RSA_PKCS1_2048_8192_SHA256),
    (SigningAlgorithm::RS384, &signature::RSA_PKCS1_2048_8192_SHA384),
    (SigningAlgorithm::RS512, &signature::RSA_PKCS1_2048_8192_SHA512),
    (SigningAlgorithm::PS256, &signature::RSA_PSS_2048_8192_SHA256),
    (SigningAlgorithm::PS384, &signature::RSA_PSS_2048_8192_SHA384),
    (SigningAlgorithm::PS512, &signature::RSA_PSS_2048_8192_SHA512),
];

/// The key for each RSA algorithm.
fn rsa_verifiers(jwk: &Map<String, Value>) -> Result<Vec<(SigningAlgorithm, ParsedPublicKey)>, SkipReason> {
    let components = rsa_components(jwk)?;
    RSA_PARAMETERS
        .iter()
        .map(|&(algorithm, parameters)| {
            let key = components.to_parsed_public_key(parameters);
            key.map(|key| (algorithm, key)).map_err(|_| SkipReason::Invalid)
        })
        .collect()
}

/// <https://www.rfc-editor.org/rfc/rfc7518#section-6.3.1>
fn rsa_components(jwk: &Map<String, Value>) -> Result<RsaPublicKeyComponents<Vec<u8>>, SkipReason> {
    let n = bytes(jwk, "n")?;
    let e = bytes(jwk, "e")?;
    // The standard forbids it, but libraries that print signed numbers add a leading zero.
    let n = without_leading_zeros(&n);
    let e = without_leading_zeros(&e);

    let bits = n
        .first()
        .map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
    if !(2048..=8192).contains(&bits) {
        return Err(SkipReason::RsaSize { actual: bits });
    }
    let exponent = (e.len() <= 5).then(|| e.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte)));
    if !exponent.is_some_and(|exponent| exponent % 2 == 1 && (3..1 << 33).contains(&exponent)) {
        return Err(SkipReason::RsaExponent);
    }
    Ok(RsaPublicKeyComponents {
        n: n.to_vec(),
        e: e.to_vec(),
    })
}

fn ec_verifier(jwk: &Map<String, Value>) -> Result<(SigningAlgorithm, ParsedPublicKey), SkipReason> {
    let (algorithm, verification, point) = ec_point(jwk)?;
    let key = ParsedPublicKey::new(verification, point).map_err(|_| SkipReason::Invalid)?;
    Ok((algorithm, key))
}

/// <https://www.rfc-editor.org/rfc/rfc7518#section-6.2.1>
fn ec_point(
    jwk: &Map<String, Value>,
) -> Result<(SigningAlgorithm, &'static EcdsaVerificationAlgorithm, Vec<u8>), SkipReason> {
    let (algorithm, verification, len) = match required_str(jwk, "crv")? {
        "P-256" => (SigningAlgorithm::ES256, &signature::ECDSA_P256_SHA256_FIXED, 32),
        "P-384" => (SigningAlgorithm::ES384, &signature::ECDSA_P384_SHA384_FIXED, 48),
        "P-521" => (SigningAlgorithm::ES512, &signature::ECDSA_P521_SHA512_FIXED, 66),
        other => {
            let crv = excerpt(other);
            return Err(SkipReason::UnknownCurve { crv });
        }
    };
    let mut point = vec![0x04];
    for member in ["x", "y"] {
        point.extend(bytes_of_length(jwk, member, len)?);
    }
    Ok((algorithm, verification, point))
}

fn okp_verifier(jwk: &Map<String, Value>) -> Result<(SigningAlgorithm, ParsedPublicKey), SkipReason> {
    let key = ParsedPublicKey::new(&signature::ED25519, okp_point(jwk)?);
    let key = key.map_err(|_| SkipReason::Invalid)?;
    Ok((SigningAlgorithm::EdDSA, key))
}

/// <https://www.rfc-editor.org/rfc/rfc8037#section-2>
fn okp_point(jwk: &Map<String, Value>) -> Result<Vec<u8>, SkipReason> {
    match required_str(jwk, "crv")? {
        "Ed25519" => bytes_of_length(jwk, "x", 32),
        other => Err(SkipReason::UnknownCurve { crv: excerpt(other) }),
    }
}

fn optional_str<'a>(jwk: &'a Map<String, Value>, member: &'static str) -> Result<Option<&'a str>, SkipReason> {
    match jwk.get(member) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(SkipReason::WrongType {
            member,
            expected: "a string",
            actual: type_name(other),
        }),
    }
}

fn required_str<'a>(jwk: &'a Map<String, Value>, member: &'static str) -> Result<&'a str, SkipReason> {
    optional_str(jwk, member)?.ok_or(SkipReason::Missing { member })
}

fn bytes(jwk: &Map<String, Value>, member: &'static str) -> Result<Vec<u8>, SkipReason> {
    URL_SAFE_NO_PAD
        .decode(required_str(jwk, member)?)
        .map_err(|_| SkipReason::Base64 { member })
}

fn bytes_of_length(jwk: &Map<String, Value>, member: &'static str, expected: usize) -> Result<Vec<u8>, SkipReason> {
    let bytes = bytes(jwk, member)?;
    match bytes.len() {
        actual if actual == expected => Ok(bytes),
        actual => Err(SkipReason::Length {
            member,
            expected,
            actual,
        }),
    }
}

fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|&&byte| byte == 0).count();
    &number[zeros..]
}

#[cfg(test)]
mod tests;
