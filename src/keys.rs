//! Key derivation and authenticated encryption: one key per purpose, derived by HKDF from Rocket's `secret_key`.

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest, hkdf, hmac, rand,
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};

use crate::secret::Secret;

/// The format version of all encrypted values. Values of other versions are rejected.
const LAYOUT: u8 = 3;
/// HKDF salt: separates these keys from all others derived from the same secret key.
const SALT: &[u8] = b"rocket_openidconnect";
/// The header before the nonce: format version, key id and client tag.
const HEADER_LEN: usize = 1 + KEY_ID_LEN + CLIENT_TAG_LEN;
const KEY_ID_LEN: usize = 4;
const CLIENT_TAG_LEN: usize = 4;
const TAG_LEN: usize = 16;

/// The purpose of an encrypted value, which selects its key: a value does not decrypt for another purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A session in its cookies.
    Session,
    /// The id of a session in a store, in its cookie.
    SessionId,
    /// A sign-in attempt, as `state`.
    Attempt,
    /// The part of a sign-in attempt that has its own cookie.
    AttemptDetails,
    /// What the URL of a sign-in asks for.
    SignInUrl,
    /// A posted authorization response.
    PostedResponse,
    /// A value in a session store.
    StoredValue,
    /// A sign-out in progress.
    SignOut,
    /// The token in the form of the sign-out page.
    SignOutButton,
    /// The list of a browser's ended sessions, while the store could not record their ends.
    EndedNote,
    /// A form whose session had ended.
    KeptForm,
}

impl Purpose {
    const ALL: [(Purpose, &str); 11] = [
        (Purpose::Session, "session"),
        (Purpose::SessionId, "session id"),
        (Purpose::Attempt, "attempt"),
        (Purpose::AttemptDetails, "attempt details"),
        (Purpose::SignInUrl, "sign-in URL"),
        (Purpose::PostedResponse, "posted response"),
        (Purpose::StoredValue, "stored value"),
        (Purpose::SignOut, "sign-out"),
        (Purpose::SignOutButton, "sign-out button"),
        (Purpose::EndedNote, "ended note"),
        (Purpose::KeptForm, "kept form"),
    ];
}

/// A configured secret key: at least 32 bytes, in one of Rocket's formats.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SecretKey(Box<[u8]>);

impl SecretKey {
    /// Generates a random key, and its text for Rocket's configuration.
    pub(crate) fn generate() -> (SecretKey, String) {
        let mut bytes = [0; 64];
        rand::fill(&mut bytes).expect("the system's random generator does not fail");
        (SecretKey(bytes.into()), STANDARD.encode(bytes))
    }

    /// Parses base64 of at least 32 bytes, or hex of exactly 32.
    pub(crate) fn parse(text: &str) -> Result<SecretKey, SecretKeyError> {
        let bytes = if text.len() == 64 {
            let pair = |i| u8::from_str_radix(text.get(i..i + 2)?, 16).ok();
            let bytes = (0..64).step_by(2).map(pair).collect::<Option<Vec<u8>>>();
            bytes.ok_or(SecretKeyError::Hex)?
        } else {
            STANDARD.decode(text).map_err(|_| SecretKeyError::Text)?
        };
        SecretKey::from_bytes(bytes)
    }

    /// Accepts at least 32 bytes.
    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Result<SecretKey, SecretKeyError> {
        if bytes.is_empty() {
            Err(SecretKeyError::Empty)
        } else if bytes.iter().all(|byte| *byte == 0) {
            Err(SecretKeyError::Zero)
        } else if bytes.len() < 32 {
            Err(SecretKeyError::Short)
        } else {
            Ok(SecretKey(bytes.into()))
        }
    }
}

/// Why a configured secret key is invalid. No variant contains the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SecretKeyError {
    Hex,
    Text,
    Empty,
    Zero,
    Short,
}

impl SecretKeyError {
    pub(crate) fn cause(self) -> &'static str {
        match self {
            SecretKeyError::Hex => "64 characters that are not hex",
            SecretKeyError::Text => "neither base64 nor hex",
            SecretKeyError::Empty => "it is empty",
            SecretKeyError::Zero => "all bytes are zero",
            SecretKeyError::Short => "fewer than 32 bytes",
        }
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

/// The keys of one client at one issuer. The first secret key encrypts; it and the previous ones decrypt.
#[derive(Clone)]
pub(crate) struct KeyRing(Arc<Ring>);

struct Ring {
    client_tag: [u8; CLIENT_TAG_LEN],
    keys: Vec<Keys>,
}

/// The keys derived from one secret key.
struct Keys {
    id: [u8; KEY_ID_LEN],
    purposes: Vec<LessSafeKey>,
    index: hmac::Key,
    prk: hkdf::Prk,
}

/// A decrypted value.
pub(crate) struct Decrypted {
    pub(crate) plaintext: Vec<u8>,
    /// Which of the ring's keys decrypted it, for [`KeyRing::derive`].
    pub(crate) key: KeyNumber,
}

/// The index of one of the ring's secret keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyNumber(usize);

impl KeyNumber {
    /// The key that encrypts.
    pub(crate) const FIRST: KeyNumber = KeyNumber(0);
}

/// Why decryption fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DecryptError {
    /// The value is too short, or of another format version.
    Layout,
    /// The value belongs to another issuer or client.
    OtherClient,
    /// The value was encrypted with an unknown key.
    UnknownKey,
    /// The value is damaged, or for another purpose.
    Damaged,
}

impl KeyRing {
    /// Derives the keys of a client from the secret key and the previous ones. The client is its issuer and its id;
    /// among several providers, also the provider's name.
    pub(crate) fn new(secret_key: &SecretKey, previous: &[SecretKey], client: &[&str]) -> KeyRing {
        let parts: Vec<&[u8]> = client.iter().map(|part| part.as_bytes()).collect();
        let client = joined(&parts);
        let digest = digest::digest(&digest::SHA256, &client);
        let mut client_tag = [0; CLIENT_TAG_LEN];
        client_tag.copy_from_slice(&digest.as_ref()[..CLIENT_TAG_LEN]);
        let keys = std::iter::once(secret_key)
            .chain(previous.iter().filter(|key| *key != secret_key))
            .map(|key| Keys::derive(key, &client))
            .collect();
        KeyRing(Arc::new(Ring { client_tag, keys }))
    }

    /// The tag of this client: four bytes of a digest.
    pub(crate) fn client_tag_bytes(&self) -> [u8; CLIENT_TAG_LEN] {
        self.0.client_tag
    }

    /// Eight hex digits of this issuer and client, the suffix of cookie names.
    pub(crate) fn client_tag(&self) -> String {
        let digits = self.0.client_tag.iter();
        digits.map(|byte| format!("{byte:02x}")).collect()
    }

    /// Encrypts a value with AES-256-GCM-SIV. `context` is associated data that identifies the value, such as its name
    /// in a store: decryption needs the same.
    pub(crate) fn encrypt(&self, purpose: Purpose, context: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let keys = &self.0.keys[0];
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).expect("the system's random generator does not fail");
        let mut value = Vec::with_capacity(HEADER_LEN + NONCE_LEN + plaintext.len() + TAG_LEN);
        value.push(LAYOUT);
        value.extend_from_slice(&keys.id);
        value.extend_from_slice(&self.0.client_tag);
        let aad = Aad::from(joined(&[&value, context]));
        value.extend_from_slice(&nonce);
        value.extend_from_slice(plaintext);
        let start = HEADER_LEN + NONCE_LEN;
        let tag = keys
            .key(purpose)
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad, &mut value[start..])
            .expect("a value is shorter than the 64 GiB that AES-GCM-SIV takes");
        value.extend_from_slice(tag.as_ref());
        value
    }

    /// Decrypts and verifies a value, in place.
    pub(crate) fn decrypt(
        &self,
        purpose: Purpose,
        context: &[u8],
        mut value: Vec<u8>,
    ) -> Result<Decrypted, DecryptError> {
        let (header, rest) = value
            .split_first_chunk::<HEADER_LEN>()
            .filter(|(header, _)| header[0] == LAYOUT)
            .ok_or(DecryptError::Layout)?;
        let (key_id, client_tag) = header[1..].split_at(KEY_ID_LEN);
        if client_tag != self.0.client_tag {
            return Err(DecryptError::OtherClient);
        }
        let number = self.0.keys.iter().position(|keys| keys.id == *key_id);
        let number = number.ok_or(DecryptError::UnknownKey)?;
        let nonce = rest.first_chunk().ok_or(DecryptError::Layout)?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let aad = Aad::from(joined(&[header, context]));
        let start = HEADER_LEN + NONCE_LEN;
        let length = self.0.keys[number]
            .key(purpose)
            .open_within(nonce, aad, &mut value, start..)
            .map_err(|_| DecryptError::Damaged)?
            .len();
        value.truncate(length);
        Ok(Decrypted {
            plaintext: value,
            key: KeyNumber(number),
        })
    }

    /// [`encrypt`](Self::encrypt), as base64url.
    pub(crate) fn encrypt_text(&self, purpose: Purpose, context: &[u8], text: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.encrypt(purpose, context, text.as_bytes()))
    }

    /// [`decrypt`](Self::decrypt), from base64url.
    pub(crate) fn decrypt_text(&self, purpose: Purpose, context: &[u8], text: &str) -> Result<String, DecryptError> {
        let value = URL_SAFE_NO_PAD.decode(text);
        let value = value.map_err(|_| DecryptError::Layout)?;
        let decrypted = self.decrypt(purpose, context, value)?;
        String::from_utf8(decrypted.plaintext).map_err(|_| DecryptError::Damaged)
    }

    /// Derives a secret of 43 characters from public parts, which only a holder of this key can compute.
    pub(crate) fn derive(&self, key: KeyNumber, label: &str, parts: &[&[u8]]) -> Secret {
        self.0.keys[key.0].derived(label, parts)
    }

    /// The secrets that [`derive`](Self::derive) derives from each key, the first key's first.
    pub(crate) fn derive_each(&self, label: &str, parts: &[&[u8]]) -> impl Iterator<Item = Secret> {
        self.0.keys.iter().map(move |keys| keys.derived(label, parts))
    }

    /// The keyed hash (HMAC-SHA-256) of values that others may know, such as a `sub`, so that a store does not reveal
    /// them: one per secret key, the one to write first.
    pub(crate) fn index_names(&self, kind: &str, parts: &[&str]) -> Vec<String> {
        let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
        let text = joined(&[&[kind.as_bytes()], &parts[..]].concat());
        let name = |keys: &Keys| URL_SAFE_NO_PAD.encode(hmac::sign(&keys.index, &text));
        self.0.keys.iter().map(name).collect()
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyRing(…)")
    }
}

impl Keys {
    fn derive(secret_key: &SecretKey, client: &[u8]) -> Keys {
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(&secret_key.0);
        let derive = |label: &str| expand(&prk, &[label.as_bytes(), &[LAYOUT], client]);
        let mut id = [0; KEY_ID_LEN];
        id.copy_from_slice(&derive("key id")[..KEY_ID_LEN]);
        let aead = |(_, label): &(Purpose, &str)| {
            let key = UnboundKey::new(&AES_256_GCM_SIV, &derive(label));
            LessSafeKey::new(key.expect("a derived key has 256 bits"))
        };
        let root = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, &derive("derived secrets"));
        Keys {
            id,
            purposes: Purpose::ALL.iter().map(aead).collect(),
            index: hmac::Key::new(hmac::HMAC_SHA256, &derive("index")),
            prk: root,
        }
    }

    fn derived(&self, label: &str, parts: &[&[u8]]) -> Secret {
        let info = [&[b"derived", label.as_bytes()], parts].concat();
        Secret::new(URL_SAFE_NO_PAD.encode(expand(&self.prk, &info)))
    }

    fn key(&self, purpose: Purpose) -> &LessSafeKey {
        &self.purposes[purpose as usize]
    }
}

/// The SHA-256 digest of random ids, which need no key, as 43 characters of base64url.
pub(crate) fn digest_name(kind: &str, parts: &[&str]) -> String {
    URL_SAFE_NO_PAD.encode(digest(kind, parts))
}

/// The SHA-256 digest of random ids.
pub(crate) fn digest(kind: &str, parts: &[&str]) -> [u8; 32] {
    let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
    let text = joined(&[&[kind.as_bytes()], &parts[..]].concat());
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, &text).as_ref());
    bytes
}

fn expand(prk: &hkdf::Prk, info: &[&[u8]]) -> [u8; 32] {
    let info = [&joined(info)[..]];
    let mut key = [0; 32];
    prk.expand(&info, hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut key))
        .expect("32 bytes are less than the 8,160 that HKDF gives");
    key
}

/// Concatenates the parts, each prefixed with its length, so that different lists never give the same text. With four
/// bytes of length most names fit into one block of SHA-256.
fn joined(parts: &[&[u8]]) -> Vec<u8> {
    let mut text = Vec::with_capacity(parts.iter().map(|part| 4 + part.len()).sum());
    for part in parts {
        let length = u32::try_from(part.len()).expect("issuers, names and ids are bounded");
        text.extend_from_slice(&length.to_be_bytes());
        text.extend_from_slice(part);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn secret_key(byte: u8) -> SecretKey {
        SecretKey::from_bytes(vec![byte; 32]).unwrap()
    }

    fn ring(key: u8, previous: &[u8], issuer: &str, client_id: &str) -> KeyRing {
        let previous: Vec<_> = previous.iter().map(|byte| secret_key(*byte)).collect();
        KeyRing::new(&secret_key(key), &previous, &[issuer, client_id])
    }

    fn app() -> KeyRing {
        ring(1, &[], "https://op.example", "app")
    }

    fn error(result: Result<Decrypted, DecryptError>) -> DecryptError {
        result.err().expect("it does not decrypt")
    }

    #[test]
    fn purposes_are_in_order() {
        for (i, (purpose, _)) in Purpose::ALL.into_iter().enumerate() {
            assert_eq!(purpose as usize, i);
        }
        let labels: HashSet<_> = Purpose::ALL.iter().map(|(_, label)| label).collect();
        assert_eq!(labels.len(), Purpose::ALL.len());
    }

    #[test]
    fn a_value_decrypts_for_its_purpose_and_context_alone() {
        let ring = app();
        for length in [0, 1, 15, 16, 17, 5_000] {
            let text = vec![b'x'; length];
            for (purpose, _) in Purpose::ALL {
                let value = ring.encrypt(purpose, b"name", &text);
                assert_eq!(value.len(), HEADER_LEN + NONCE_LEN + length + TAG_LEN);
                for (other, _) in Purpose::ALL {
                    let plain = ring.decrypt(other, b"name", value.clone());
                    match plain {
                        Ok(plain) => assert_eq!((other, plain.plaintext), (purpose, text.clone())),
                        Err(error) => assert_eq!(error, DecryptError::Damaged),
                    }
                }
                assert!(ring.decrypt(purpose, b"name", value.clone()).is_ok());
                let other = ring.decrypt(purpose, b"other", value);
                assert_eq!(error(other), DecryptError::Damaged);
            }
        }
    }

    /// Equal values are not recognisable as equal.
    #[test]
    fn each_value_has_a_nonce_of_its_own() {
        let ring = app();
        let encrypt = || ring.encrypt(Purpose::Session, b"", b"alice");
        let values: HashSet<_> = (0..100).map(|_| encrypt()).collect();
        let nonces = values.iter().map(|value| &value[HEADER_LEN..][..NONCE_LEN]);
        assert_eq!(nonces.collect::<HashSet<_>>().len(), 100);
    }

    #[test]
    fn no_changed_byte_and_no_other_length_decrypts() {
        let ring = app();
        let value = ring.encrypt(Purpose::Session, b"", b"alice");
        for place in 0..value.len() {
            for change in [1, 0x80] {
                let mut changed = value.clone();
                changed[place] ^= change;
                let expected = match place {
                    0 => DecryptError::Layout,
                    1..5 => DecryptError::UnknownKey,
                    5..9 => DecryptError::OtherClient,
                    _ => DecryptError::Damaged,
                };
                let actual = error(ring.decrypt(Purpose::Session, b"", changed));
                assert_eq!(actual, expected, "{place}");
            }
        }
        for length in 0..value.len() {
            let shorter = value[..length].to_vec();
            error(ring.decrypt(Purpose::Session, b"", shorter));
        }
        let longer = [&value[..], b"x"].concat();
        assert_eq!(
            error(ring.decrypt(Purpose::Session, b"", longer)),
            DecryptError::Damaged
        );
    }

    #[test]
    fn keys_are_bound_to_issuer_and_client() {
        let value = app().encrypt(Purpose::Session, b"", b"alice");
        for (issuer, client_id) in [
            ("https://op.example", "other"),
            ("https://other.example", "app"),
            ("https://op.exampleapp", ""),
            ("https://op.examplea", "pp"),
        ] {
            let other = ring(1, &[], issuer, client_id);
            let mut value = value.clone();
            let actual = error(other.decrypt(Purpose::Session, b"", value.clone()));
            assert_eq!(actual, DecryptError::OtherClient);
            // Nor with the header of the other client.
            let own = other.encrypt(Purpose::Session, b"", b"");
            value[..HEADER_LEN].copy_from_slice(&own[..HEADER_LEN]);
            let actual = error(other.decrypt(Purpose::Session, b"", value));
            assert_eq!(actual, DecryptError::Damaged);
            let names = other.index_names("sub", &["alice"]);
            assert_ne!(names, app().index_names("sub", &["alice"]));
            assert_ne!(other.client_tag(), app().client_tag());
        }
        assert_eq!(app().client_tag().len(), 8);
    }

    /// Key rotation in three steps: the new key is first a previous key on every node.
    #[test]
    fn previous_keys_decrypt_and_never_encrypt() {
        let at = |key, previous: &[u8]| ring(key, previous, "https://op.example", "app");
        let old = at(1, &[]);
        let (ready, changed, done) = (at(1, &[2]), at(2, &[1]), at(2, &[]));
        let reads = |reader: &KeyRing, writer: &KeyRing| {
            let value = writer.encrypt(Purpose::Session, b"", b"alice");
            let plain = reader.decrypt(Purpose::Session, b"", value);
            plain.map(|plain| plain.key)
        };
        assert_eq!(reads(&ready, &old), Ok(KeyNumber(0)));
        assert_eq!(reads(&old, &ready), Ok(KeyNumber(0)));
        assert_eq!(reads(&ready, &changed), Ok(KeyNumber(1)));
        assert_eq!(reads(&changed, &ready), Ok(KeyNumber(1)));
        assert_eq!(reads(&done, &changed), Ok(KeyNumber(0)));
        assert_eq!(reads(&done, &old), Err(DecryptError::UnknownKey));
        assert_eq!(reads(&old, &changed), Err(DecryptError::UnknownKey));
        assert_eq!(at(1, &[1, 1]).0.keys.len(), 1, "the same key again is one key");

        let names = changed.index_names("sub", &["alice"]);
        assert_eq!(names[0], done.index_names("sub", &["alice"])[0]);
        assert_eq!(names[1], old.index_names("sub", &["alice"])[0]);
        assert_eq!(names.len(), 2);
        let derived = |ring: &KeyRing, key| ring.derive(KeyNumber(key), "nonce", &[b"id"]);
        assert_eq!(derived(&changed, 1), derived(&old, 0));
        assert_ne!(derived(&changed, 0), derived(&old, 0));
    }

    #[test]
    fn derived_secrets_differ_by_label_and_parts() {
        let ring = app();
        let derive = |label, parts: &[&[u8]]| {
            let secret = ring.derive(KeyNumber::FIRST, label, parts);
            assert_eq!(secret.expose().len(), 43);
            secret.expose().to_owned()
        };
        let all = [
            derive("nonce", &[b"a", b"b"]),
            derive("nonce", &[b"ab"]),
            derive("nonce", &[b"b", b"a"]),
            derive("code_verifier", &[b"a", b"b"]),
        ];
        assert_eq!(HashSet::from(all.clone()).len(), all.len());
        assert_eq!(derive("nonce", &[b"ab"]), all[1]);
    }

    #[test]
    fn names_differ_by_kind_and_parts() {
        let ring = app();
        let names = [
            ring.index_names("sub", &["issuer", "id"]).remove(0),
            ring.index_names("sid", &["issuer", "id"]).remove(0),
            ring.index_names("sub", &["issueri", "d"]).remove(0),
            digest_name("session", &["id"]),
            digest_name("lock", &["id"]),
            digest_name("session", &["i", "d"]),
        ];
        for name in &names {
            assert_eq!(name.len(), 43);
        }
        assert_eq!(HashSet::from(names.clone()).len(), names.len());
    }

    #[test]
    fn a_secret_key_has_the_forms_that_rocket_takes() {
        let bytes = vec![7; 32];
        let expected = SecretKey::from_bytes(bytes.clone());
        assert_eq!(SecretKey::parse(&STANDARD.encode(&bytes)), expected);
        assert_eq!(SecretKey::parse(&"07".repeat(32)), expected);
        for (text, cause) in [
            ("x".repeat(64), "64 characters that are not hex"),
            ("é".repeat(32), "64 characters that are not hex"),
            ("?".to_owned(), "neither base64 nor hex"),
            (String::new(), "it is empty"),
            (STANDARD.encode([7; 31]), "fewer than 32 bytes"),
            (STANDARD.encode([0; 32]), "all bytes are zero"),
        ] {
            let error = SecretKey::parse(&text).unwrap_err();
            assert_eq!(error.cause(), cause);
        }
        let (key, text) = SecretKey::generate();
        assert_eq!(SecretKey::parse(&text), Ok(key.clone()));
        assert_eq!(format!("{key:?}"), "SecretKey(…)");
    }
}
