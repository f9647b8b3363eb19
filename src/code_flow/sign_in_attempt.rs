//! A sign-in attempt, encrypted in `state` and carried by the browser.

use std::{fmt, time::Duration};

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest, rand};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use time::OffsetDateTime;

use super::{MAX_PARAMETERS_LEN, ReturnTo, SignInParameters};
use crate::{
    keys::{DecryptError, KeyNumber, KeyRing, Purpose, digest_name},
    secret::Secret,
    session::EarlierEnds,
    settings::AppPaths,
    token::{ProofAlgorithm, ProofKey},
};

const ID_LEN: usize = 16;
/// The length of an id in base64url.
const ID_TEXT_LEN: usize = 22;
const TIME_LEN: usize = 8;
/// The fixed part of the payload: id, start time, flags and the digest of the browser id. It is followed by the
/// algorithm of the proof key, the provider, the earlier ends of sessions and the parameters, if any, and the return address.
const FIXED_LEN: usize = ID_LEN + TIME_LEN + 1 + ID_LEN;

/// The maximum length of parameters and return address in a cookie, in bytes, if there are parameters.
const MAX_DETAILS_LEN: usize = MAX_PARAMETERS_LEN + 150;

const IS_RESTARTED: u8 = 1;
const HAS_DETAILS: u8 = 2;
const HAS_ENDS: u8 = 4;
const HAS_PARAMETERS: u8 = 8;
const HAS_PROVIDER: u8 = 16;
const IS_SILENT: u8 = 32;
const HAS_PROOF_KEY: u8 = 64;

/// A random id of 128 bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct AttemptId([u8; ID_LEN]);

/// The random id of a browser, kept in a cookie. It alone binds an attempt to the browser that started it.
#[derive(Clone, Copy)]
pub(crate) struct BrowserId([u8; ID_LEN]);

/// The payload of the browser cookie: the browser id, and the count of successive sign-ins. The count is not
/// encrypted: it only stops redirect loops, and a user who changes it affects only their own browser.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Browser {
    pub(crate) id: BrowserId,
    /// The count of successive sign-ins, each within a minute of the one before.
    pub(crate) sign_ins: u8,
    /// The time of the last sign-in, in seconds since 1970.
    pub(crate) last_sign_in: i64,
}

/// A sign-in attempt.
#[derive(Clone, Debug)]
pub(crate) struct SignInAttempt {
    pub(crate) id: AttemptId,
    /// The start time, in seconds since 1970.
    begun: i64,
    /// A SHA-256 digest of the browser id, truncated to 16 bytes.
    browser: [u8; ID_LEN],
    /// The name of the provider, in an app with several.
    pub(crate) provider: Option<String>,
    /// It was started automatically, to replace an attempt that could not be completed.
    pub(crate) is_restarted: bool,
    /// It was begun by a page load (`prompt=none`), and returns to that page whatever happens.
    pub(crate) is_silent: bool,
    /// The ends of the user's sessions that were recorded before this attempt started. They may have been meant
    /// for the attempt that it replaces, and do not apply to this one.
    pub(crate) earlier_ends: EarlierEnds,
    /// The parameters, if any, and the return address are in a separate cookie.
    pub(crate) has_details: bool,
    /// What this sign-in asks for beside the settings. `None` if that is in a cookie which the browser did not send:
    /// such an attempt begins no session, or a user could leave out what the app demands.
    pub(crate) parameters: Option<SignInParameters>,
    /// The algorithm of the key that its tokens are to be bound to; `None` for bearer tokens.
    pub(crate) proof_algorithm: Option<ProofAlgorithm>,
    /// Where the browser is redirected afterwards.
    pub(crate) return_to: ReturnTo,
}

/// The secrets of an attempt that the authorization request carries: in the clear, or hashed (`code_verifier`).
#[derive(Clone, Debug)]
pub(crate) struct AttemptSecrets {
    /// The attempt itself, encrypted (RFC 6749 §10.12).
    pub(crate) state: Secret,
    /// Binds the ID token to this attempt (OpenID Connect Core 1.0 §15.5.2).
    pub(crate) nonce: Secret,
    /// The PKCE secret (RFC 7636 §4.1).
    pub(crate) code_verifier: Secret,
    /// What the key is made of that its tokens are to be bound to
    /// ([RFC 9449 §10](https://www.rfc-editor.org/rfc/rfc9449#section-10)); the request carries its thumbprint.
    pub(crate) proof_key_seed: Secret,
}

impl SignInAttempt {
    /// Starts an attempt for this browser.
    pub(crate) fn new(
        browser: &BrowserId,
        return_to: ReturnTo,
        is_restarted: bool,
        now: OffsetDateTime,
    ) -> SignInAttempt {
        SignInAttempt {
            id: AttemptId(random()),
            begun: now.unix_timestamp(),
            browser: browser.digest(),
            provider: None,
            is_restarted,
            is_silent: false,
            earlier_ends: EarlierEnds::default(),
            has_details: false,
            parameters: Some(SignInParameters::default()),
            proof_algorithm: None,
            return_to,
        }
    }

    /// Sets the provider, in an app with several: the attempt is for its response alone.
    pub(crate) fn at_provider(mut self, name: Option<&str>) -> SignInAttempt {
        self.provider = name.map(str::to_owned);
        self
    }

    /// Sets what this attempt asks for beside the settings.
    pub(crate) fn with_parameters(mut self, parameters: SignInParameters) -> SignInAttempt {
        self.parameters = Some(parameters);
        self
    }

    /// Sets whether the attempt is silent.
    pub(crate) fn silently(mut self, is_silent: bool) -> SignInAttempt {
        self.is_silent = is_silent;
        self
    }

    /// Records the ends of sessions that were read before this attempt started.
    pub(crate) fn after_ends(mut self, ends: EarlierEnds) -> SignInAttempt {
        self.earlier_ends = ends;
        self
    }

    /// Encrypts the attempt into `state`, and derives nonce and code verifier. If `state` is longer than
    /// `max_state_length`, parameters and return address move to a cookie, whose value is returned too.
    pub(crate) fn encrypt(
        &mut self,
        keys: &KeyRing,
        browser: &BrowserId,
        max_state_length: usize,
    ) -> (AttemptSecrets, Option<String>) {
        let state = |attempt: &SignInAttempt| {
            let value = keys.encrypt(Purpose::Attempt, b"", &attempt.to_bytes());
            URL_SAFE_NO_PAD.encode(value)
        };
        let mut text = state(self);
        let mut details = None;
        if text.len() > max_state_length {
            self.has_details = true;
            text = state(self);
            details = Some(self.encrypt_details(keys));
        }
        let secrets = self.secrets(keys, KeyNumber::FIRST, browser, Secret::new(text));
        (secrets, details)
    }

    /// Decrypts `state` into the attempt, and returns the key that decrypted it.
    pub(crate) fn decrypt(
        keys: &KeyRing,
        state: &str,
        paths: &AppPaths,
    ) -> Result<(SignInAttempt, KeyNumber), DecryptError> {
        let value = URL_SAFE_NO_PAD.decode(state);
        let value = value.map_err(|_| DecryptError::Layout)?;
        let decrypted = keys.decrypt(Purpose::Attempt, b"", value)?;
        let attempt = SignInAttempt::from_bytes(&decrypted.plaintext, paths);
        Ok((attempt.ok_or(DecryptError::Layout)?, decrypted.key))
    }

    /// Derives nonce, code verifier and the seed of the proof key from the attempt id and the browser id, under the key that encrypted
    /// `state`: neither id alone reveals them.
    pub(crate) fn secrets(&self, keys: &KeyRing, key: KeyNumber, browser: &BrowserId, state: Secret) -> AttemptSecrets {
        let derive = |label| keys.derive(key, label, &[&self.id.0, &browser.0]);
        AttemptSecrets {
            state,
            nonce: derive("nonce"),
            code_verifier: derive("code_verifier"),
            proof_key_seed: derive("proof_key"),
        }
    }

    /// Whether this browser started the attempt.
    pub(crate) fn is_of(&self, browser: &BrowserId) -> bool {
        verify_slices_are_equal(&self.browser, &browser.digest()).is_ok()
    }

    /// When it started, in seconds since 1970.
    pub(crate) fn begun(&self) -> i64 {
        self.begun
    }

    /// When the attempt expires, in seconds since 1970.
    pub(crate) fn ends(&self, timeout: Duration) -> i64 {
        let timeout = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
        self.begun.saturating_add(timeout)
    }

    /// The age of the attempt, by the clocks of this node and of the node that started it.
    pub(crate) fn age(&self, now: OffsetDateTime) -> Duration {
        let seconds = now.unix_timestamp().saturating_sub(self.begun);
        Duration::from_secs(seconds.max(0).unsigned_abs())
    }

    /// Encrypts parameters and return address for a cookie, bound to this attempt: no other cookie decrypts in its
    /// place, because an attempt has one.
    fn encrypt_details(&self, keys: &KeyRing) -> String {
        let (mut address, parameters) = (self.return_to.as_str(), self.parameters_text());
        // The cookie has a maximum size, and the parameters take precedence.
        if !parameters.is_empty() && parameters.len() + address.len() > MAX_DETAILS_LEN {
            address = "/";
        }
        let length = length_of(&parameters);
        let text = [
            &self.id.0[..],
            &self.begun.to_be_bytes(),
            &length,
            parameters.as_bytes(),
            address.as_bytes(),
        ]
        .concat();
        let context = self.id.short_name();
        let value = keys.encrypt(Purpose::AttemptDetails, context.as_bytes(), &text);
        URL_SAFE_NO_PAD.encode(value)
    }

    /// Restores parameters and return address from their cookie. Without a valid cookie the address becomes the start
    /// page, and the parameters, if there are any, stay `None`.
    pub(crate) fn add_details(&mut self, keys: &KeyRing, value: Option<&str>, paths: &AppPaths) {
        if !self.has_details {
            return;
        }
        let details = value
            .and_then(|value| Details::decrypt(keys, &self.id.short_name(), value))
            .filter(|details| details.attempt == self.id);
        let Some(details) = details else {
            self.return_to = ReturnTo::home(paths);
            return;
        };
        self.return_to = ReturnTo::parse(&details.return_to, paths);
        self.parameters = Some(details.parameters);
    }

    fn parameters_text(&self) -> String {
        self.parameters
            .as_ref()
            .map(SignInParameters::to_text)
            .unwrap_or_default()
    }

    fn to_bytes(&self) -> Vec<u8> {
        let parameters = self.parameters_text();
        let address = if self.has_details { "" } else { self.return_to.as_str() };
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        let flags = flag(self.is_restarted, IS_RESTARTED)
            | flag(self.has_details, HAS_DETAILS)
            | flag(!self.earlier_ends.is_empty(), HAS_ENDS)
            | flag(!parameters.is_empty(), HAS_PARAMETERS)
            | flag(self.provider.is_some(), HAS_PROVIDER)
            | flag(self.is_silent, IS_SILENT)
            | flag(self.proof_algorithm.is_some(), HAS_PROOF_KEY);
        let mut bytes = Vec::with_capacity(FIXED_LEN + address.len());
        bytes.extend_from_slice(&self.id.0);
        bytes.extend_from_slice(&self.begun.to_be_bytes());
        bytes.push(flags);
        bytes.extend_from_slice(&self.browser);
        bytes.extend(self.proof_algorithm.map(ProofAlgorithm::number));
        if let Some(provider) = &self.provider {
            bytes.extend_from_slice(&length_of(provider));
            bytes.extend_from_slice(provider.as_bytes());
        }
        if !self.earlier_ends.is_empty() {
            bytes.extend_from_slice(&self.earlier_ends.to_bytes());
        }
        if !parameters.is_empty() && !self.has_details {
            bytes.extend_from_slice(&length_of(&parameters));
            bytes.extend_from_slice(parameters.as_bytes());
        }
        bytes.extend_from_slice(address.as_bytes());
        bytes
    }

    /// Decodes a payload written by [`to_bytes`](Self::to_bytes). An unknown flag, of another version, is
    /// rejected: it may demand a check that this version does not make.
    pub(crate) fn from_bytes(bytes: &[u8], paths: &AppPaths) -> Option<SignInAttempt> {
        let (id, rest) = bytes.split_first_chunk()?;
        let (begun, rest) = rest.split_first_chunk()?;
        let (flags, rest) = rest.split_first()?;
        let (browser, mut address) = rest.split_first_chunk()?;
        const KNOWN: u8 =
            IS_RESTARTED | HAS_DETAILS | HAS_ENDS | HAS_PARAMETERS | HAS_PROVIDER | IS_SILENT | HAS_PROOF_KEY;
        if flags & !KNOWN != 0 {
            return None;
        }
        let mut proof_algorithm = None;
        if flags & HAS_PROOF_KEY != 0 {
            let (number, rest) = address.split_first()?;
            (proof_algorithm, address) = (Some(ProofAlgorithm::of_number(*number)?), rest);
        }
        let mut provider = None;
        if flags & HAS_PROVIDER != 0 {
            let (name, rest) = split_text(address)?;
            (provider, address) = (Some(name.to_owned()), rest);
        }
        let mut earlier_ends = EarlierEnds::default();
        if flags & HAS_ENDS != 0 {
            (earlier_ends, address) = EarlierEnds::split(address)?;
        }
        let has_details = flags & HAS_DETAILS != 0;
        let mut parameters = Some(SignInParameters::default());
        if flags & HAS_PARAMETERS != 0 {
            parameters = None;
            if !has_details {
                let (text, rest) = split_text(address)?;
                (parameters, address) = (Some(SignInParameters::parse(text)?), rest);
            }
        }
        let address = std::str::from_utf8(address).ok()?;
        if has_details != address.is_empty() {
            return None;
        }
        Some(SignInAttempt {
            id: AttemptId(*id),
            begun: i64::from_be_bytes(*begun),
            browser: *browser,
            provider,
            is_restarted: flags & IS_RESTARTED != 0,
            is_silent: flags & IS_SILENT != 0,
            earlier_ends,
            has_details,
            parameters,
            proof_algorithm,
            return_to: ReturnTo::parse(address, paths),
        })
    }
}

/// The details of an attempt that are kept in a separate cookie.
pub(crate) struct Details {
    attempt: AttemptId,
    /// When the attempt began, in seconds since 1970.
    pub(crate) begun: i64,
    parameters: SignInParameters,
    return_to: String,
}

impl Details {
    /// Decrypts the cookie of the attempt with this short name.
    pub(crate) fn decrypt(keys: &KeyRing, short_name: &str, value: &str) -> Option<Details> {
        let value = URL_SAFE_NO_PAD.decode(value).ok()?;
        let decrypted = keys.decrypt(Purpose::AttemptDetails, short_name.as_bytes(), value);
        Details::from_bytes(&decrypted.ok()?.plaintext)
    }

    fn from_bytes(bytes: &[u8]) -> Option<Details> {
        let (id, rest) = bytes.split_first_chunk()?;
        let (begun, rest) = rest.split_first_chunk()?;
        let (parameters, address) = split_text(rest)?;
        Some(Details {
            attempt: AttemptId(*id),
            begun: i64::from_be_bytes(*begun),
            parameters: SignInParameters::parse(parameters)?,
            return_to: std::str::from_utf8(address).ok()?.to_owned(),
        })
    }
}

/// The length of a text that precedes it.
fn length_of(text: &str) -> [u8; 2] {
    u16::try_from(text.len())
        .expect("names and parameters are bounded when they are set")
        .to_be_bytes()
}

/// Splits a text with its length off the beginning.
fn split_text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (text, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

impl AttemptSecrets {
    /// The key that the tokens of this attempt are to be bound to.
    pub(crate) fn proof_key(&self, algorithm: ProofAlgorithm) -> ProofKey {
        ProofKey::of_seed(algorithm, self.proof_key_seed.expose()).expect("a derived secret has 32 bytes")
    }

    /// Random secrets without an attempt, for a request whose response is never read.
    #[cfg(feature = "cli")]
    pub(crate) fn random() -> AttemptSecrets {
        AttemptSecrets {
            state: Secret::random(),
            nonce: Secret::random(),
            code_verifier: Secret::random(),
            proof_key_seed: Secret::random(),
        }
    }
}

impl AttemptId {
    /// The 8-character name of the attempt in cookies and on the debug page.
    pub(crate) fn short_name(&self) -> String {
        URL_SAFE_NO_PAD.encode(&self.0[..6])
    }

    /// The name of the attempt in a shared session store.
    pub(crate) fn store_name(&self, kind: &str) -> String {
        digest_name(kind, &[&URL_SAFE_NO_PAD.encode(self.0)])
    }
}

impl fmt::Debug for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AttemptId({}…)", self.short_name())
    }
}

impl BrowserId {
    pub(crate) fn random() -> BrowserId {
        BrowserId(random())
    }

    fn digest(&self) -> [u8; ID_LEN] {
        let digest = digest::digest(&digest::SHA256, &self.0);
        let mut start = [0; ID_LEN];
        start.copy_from_slice(&digest.as_ref()[..ID_LEN]);
        start
    }
}

impl fmt::Debug for BrowserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BrowserId(…)")
    }
}

impl Browser {
    /// A new browser, without sign-ins.
    pub(crate) fn new() -> Browser {
        Browser {
            id: BrowserId::random(),
            sign_ins: 0,
            last_sign_in: 0,
        }
    }

    /// Parses the cookie. `None` if the id is malformed; a malformed count is zero.
    pub(crate) fn parse(value: &str) -> Option<Browser> {
        let (id, count) = value.split_once('.').unwrap_or((value, ""));
        if id.len() != ID_TEXT_LEN {
            return None;
        }
        let id = URL_SAFE_NO_PAD.decode(id).ok()?.try_into().ok()?;
        let (sign_ins, last) = count.split_once('-').unwrap_or_default();
        let (sign_ins, last_sign_in) = match (sign_ins.parse(), last.parse()) {
            (Ok(sign_ins), Ok(last)) => (sign_ins, last),
            _ => (0, 0),
        };
        Some(Browser {
            id: BrowserId(id),
            sign_ins,
            last_sign_in,
        })
    }

    /// The value of the cookie.
    pub(crate) fn text(&self) -> String {
        let id = URL_SAFE_NO_PAD.encode(self.id.0);
        match self.sign_ins {
            0 => format!("{id}.0"),
            count => format!("{id}.{count}-{}", self.last_sign_in),
        }
    }
}

fn random() -> [u8; ID_LEN] {
    let mut bytes = [0; ID_LEN];
    rand::fill(&mut bytes).expect("the system's random generator does not fail");
    bytes
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use crate::keys::SecretKey;

    static PATHS: LazyLock<AppPaths> = LazyLock::new(|| AppPaths::new("/", "/oidc", false));

    fn keys(byte: u8, previous: &[u8]) -> KeyRing {
        let key = |byte| SecretKey::from_bytes(vec![byte; 32]).unwrap();
        let previous: Vec<_> = previous.iter().map(|byte| key(*byte)).collect();
        KeyRing::new(&key(byte), &previous, &["https://op.example", "app"])
    }

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
    }

    /// Earlier ends of sessions, `count` of them.
    fn ends(count: u8) -> EarlierEnds {
        let numbers = (1..=u64::from(count)).flat_map(u64::to_be_bytes);
        let bytes: Vec<_> = [count].into_iter().chain(numbers).collect();
        EarlierEnds::split(&bytes).map_or_else(EarlierEnds::default, |(ends, _)| ends)
    }

    fn attempt(browser: &BrowserId, return_to: &str) -> SignInAttempt {
        SignInAttempt::new(browser, ReturnTo::parse(return_to, &PATHS), false, now())
    }

    #[test]
    fn state_is_the_attempt() {
        let (keys, browser) = (keys(1, &[]), BrowserId::random());
        for (is_restarted, count) in [(false, 0), (true, 0), (true, 1), (true, 2), (true, 3), (true, 8)] {
            let return_to = ReturnTo::parse("/me?a=b", &PATHS);
            let attempt = SignInAttempt::new(&browser, return_to, is_restarted, now());
            let ends = ends(count);
            let is_silent = count == 1;
            let mut attempt = attempt.after_ends(ends.clone()).silently(is_silent);
            attempt.proof_algorithm = ProofAlgorithm::of_number(count);
            let (secrets, details) = attempt.encrypt(&keys, &browser, 500);
            assert_eq!(details, None);
            let state = secrets.state.expose();
            let (read, key) = SignInAttempt::decrypt(&keys, state, &PATHS).unwrap();
            assert_eq!(read.id, attempt.id);
            assert_eq!(read.is_restarted, is_restarted);
            assert_eq!(read.is_silent, is_silent);
            assert_eq!(read.earlier_ends, ends);
            assert_eq!(read.proof_algorithm, attempt.proof_algorithm);
            assert_eq!(read.return_to.as_str(), "/me?a=b");
            assert_eq!(read.ends(Duration::from_secs(60)), 1_800_000_060);
            assert_eq!(read.ends(Duration::MAX), i64::MAX);
            assert!(read.is_of(&browser));
            assert!(!read.is_of(&BrowserId::random()));

            let again = read.secrets(&keys, key, &browser, secrets.state.clone());
            assert_eq!(again.nonce, secrets.nonce);
            assert_eq!(again.code_verifier, secrets.code_verifier);
            assert_ne!(again.nonce, again.code_verifier);
            // RFC 7636 §4.1: 43 to 128 characters.
            assert_eq!(again.code_verifier.expose().len(), 43);
            let other = read.secrets(&keys, key, &BrowserId::random(), secrets.state);
            assert_ne!(other.nonce, again.nonce);
            assert_ne!(other.code_verifier, again.code_verifier);
        }
    }

    /// Nonce and code verifier are derived under the key that encrypted `state`.
    #[test]
    fn an_attempt_survives_a_change_of_the_key() {
        let (old, new) = (keys(1, &[]), keys(2, &[1]));
        let browser = BrowserId::random();
        let (secrets, _) = attempt(&browser, "/me").encrypt(&old, &browser, 500);
        let state = secrets.state.expose();
        let (read, key) = SignInAttempt::decrypt(&new, state, &PATHS).unwrap();
        let again = read.secrets(&new, key, &browser, secrets.state.clone());
        assert_eq!(again.nonce, secrets.nonce);
        assert_eq!(again.code_verifier, secrets.code_verifier);
        let error = SignInAttempt::decrypt(&keys(2, &[]), state, &PATHS).err();
        assert_eq!(error, Some(DecryptError::UnknownKey));
    }

    #[test]
    fn state_has_at_most_the_configured_length() {
        let (keys, browser) = (keys(1, &[]), BrowserId::random());
        for max_length in [200, 500, 4_000] {
            for length in 1..=2_048 {
                let address = format!("/{}", "a".repeat(length - 1));
                let mut attempt = attempt(&browser, &address);
                if length == 2_048 {
                    attempt = attempt.after_ends(ends(8));
                }
                let (secrets, details) = attempt.encrypt(&keys, &browser, max_length);
                let state = secrets.state.expose();
                assert!(state.len() <= max_length, "{length}");
                // The attempt and its encryption take 78 bytes.
                assert_eq!(details.is_some(), (78 + length) * 4 > max_length * 3);
                let (mut read, _) = SignInAttempt::decrypt(&keys, state, &PATHS).unwrap();
                read.add_details(&keys, details.as_deref(), &PATHS);
                assert_eq!(read.return_to.as_str(), address);
            }
        }
    }

    #[test]
    fn parameters_are_in_state_or_in_the_cookie() {
        let (keys, browser) = (keys(1, &[]), BrowserId::random());
        for (length, is_in_cookie) in [(0, false), (100, false), (600, true), (1_100, true)] {
            let mut parameters = SignInParameters::default();
            parameters.set("acr_values", "gold");
            parameters.set("long", "x".repeat(length));
            parameters.add_scopes("notes");
            let mut attempt = attempt(&browser, "/me")
                .after_ends(ends(2))
                .with_parameters(parameters.clone());
            let (secrets, details) = attempt.encrypt(&keys, &browser, 500);
            assert_eq!(details.is_some(), is_in_cookie, "{length}");
            let (mut read, _) = SignInAttempt::decrypt(&keys, secrets.state.expose(), &PATHS).unwrap();
            assert_eq!(read.parameters.is_none(), is_in_cookie);
            read.add_details(&keys, None, &PATHS);
            assert_eq!(read.parameters.is_none(), is_in_cookie);
            read.add_details(&keys, details.as_deref(), &PATHS);
            assert_eq!(read.parameters, Some(parameters));
            assert_eq!(read.return_to.as_str(), "/me");
            assert_eq!(read.earlier_ends, ends(2));
        }
        // A cookie with a return address alone leaves nothing out.
        let mut plain = attempt(&browser, &format!("/{}", "a".repeat(1_000)));
        let (secrets, details) = plain.encrypt(&keys, &browser, 500);
        assert!(details.is_some());
        let (read, _) = SignInAttempt::decrypt(&keys, secrets.state.expose(), &PATHS).unwrap();
        assert_eq!(read.parameters, Some(SignInParameters::default()));
    }

    #[test]
    fn details_are_of_one_attempt() {
        let (keys, browser) = (keys(1, &[]), BrowserId::random());
        let long = format!("/{}", "a".repeat(1_000));
        let (mut one, mut other) = (attempt(&browser, &long), attempt(&browser, &long));
        let (_, details) = one.encrypt(&keys, &browser, 500);
        let (_, others) = other.encrypt(&keys, &browser, 500);
        let (details, others) = (details.unwrap(), others.unwrap());
        for (value, expected) in [
            (Some(&*details), &*long),
            (Some(&others), "/"),
            (Some(&details[1..]), "/"),
            (Some(""), "/"),
            (None, "/"),
        ] {
            let mut attempt = one.clone();
            attempt.add_details(&keys, value, &PATHS);
            assert_eq!(attempt.return_to.as_str(), expected);
        }
        // Without the flag the cookie is ignored.
        let mut short = attempt(&browser, "/me");
        short.add_details(&keys, Some(&details), &PATHS);
        assert_eq!(short.return_to.as_str(), "/me");
    }

    #[test]
    fn a_malformed_payload_is_rejected() {
        let browser = BrowserId::random();
        let bytes = attempt(&browser, "/me").to_bytes();
        assert_eq!(bytes.len(), FIXED_LEN + 3);
        let read = |bytes: &[u8]| {
            let attempt = SignInAttempt::from_bytes(bytes, &PATHS);
            attempt.map(|attempt| attempt.return_to.as_str().to_owned())
        };
        assert_eq!(read(&bytes).as_deref(), Some("/me"));
        for length in 0..=FIXED_LEN {
            assert_eq!(read(&bytes[..length]), None, "{length}");
        }
        let with_ends = attempt(&browser, "/me").after_ends(ends(2)).to_bytes();
        assert_eq!(read(&with_ends).as_deref(), Some("/me"));
        for length in 0..=FIXED_LEN + 17 {
            assert_eq!(read(&with_ends[..length]), None, "{length}");
        }
        let flags = ID_LEN + TIME_LEN;
        let with = |at: usize, byte: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = byte;
            bytes
        };
        assert_eq!(read(&with(flags, IS_RESTARTED)).as_deref(), Some("/me"));
        assert_eq!(read(&with(flags, IS_SILENT)).as_deref(), Some("/me"));
        // An address despite the flag for a cookie, an unknown flag, a byte that is not UTF-8.
        for bytes in [
            with(flags, HAS_DETAILS),
            // An address does not decode as parameters.
            with(flags, HAS_PARAMETERS),
            with(flags, HAS_PROVIDER),
            with(flags, 64),
            with(flags, 0x80),
            // An address does not decode as earlier ends.
            with(flags, HAS_ENDS),
            with(FIXED_LEN + 1, 0xff),
        ] {
            assert_eq!(read(&bytes), None);
        }
        // Neither another origin nor one of our own routes, whatever was encrypted.
        for address in ["//evil.example", "/oidc/logout"] {
            let bytes = [&bytes[..FIXED_LEN], address.as_bytes()].concat();
            assert_eq!(read(&bytes).as_deref(), Some("/"));
        }
    }

    /// A value encrypted for any other purpose is not an attempt.
    #[test]
    fn a_value_for_another_purpose_is_not_an_attempt() {
        let keys = keys(1, &[]);
        let bytes = attempt(&BrowserId::random(), "/me").to_bytes();
        for (purpose, is_attempt) in [
            (Purpose::Attempt, true),
            (Purpose::AttemptDetails, false),
            (Purpose::PostedResponse, false),
            (Purpose::Session, false),
            (Purpose::SignOut, false),
        ] {
            let state = URL_SAFE_NO_PAD.encode(keys.encrypt(purpose, b"", &bytes));
            let attempt = SignInAttempt::decrypt(&keys, &state, &PATHS);
            assert_eq!(attempt.is_ok(), is_attempt);
        }
    }

    #[test]
    fn the_browsers_cookie() {
        let id = "AAECAwQFBgcICQoLDA0ODw";
        for (value, expected) in [
            ("AAECAwQFBgcICQoLDA0ODw", Some("0")),
            ("AAECAwQFBgcICQoLDA0ODw.", Some("0")),
            ("AAECAwQFBgcICQoLDA0ODw.0", Some("0")),
            ("AAECAwQFBgcICQoLDA0ODw.3-1800000000", Some("3-1800000000")),
            ("AAECAwQFBgcICQoLDA0ODw.255-1", Some("255-1")),
            ("AAECAwQFBgcICQoLDA0ODw.256-1", Some("0")),
            ("AAECAwQFBgcICQoLDA0ODw.3", Some("0")),
            ("AAECAwQFBgcICQoLDA0ODw.3-x", Some("0")),
            ("AAECAwQFBgcICQoLDA0ODw.3-1-2", Some("0")),
            // Excess bits in the last character, other alphabets, other lengths.
            ("AAECAwQFBgcICQoLDA0ODx.0", None),
            ("AAECAwQFBgcICQoLDA0OD+.0", None),
            ("AAECAwQFBgcICQoLDA0OD=.0", None),
            ("AAECAwQFBgcICQoLDA0ODwA.0", None),
            ("AAECAwQFBgcICQoLDA0OD.0", None),
            ("", None),
            (".", None),
            ("é", None),
        ] {
            let browser = Browser::parse(value);
            let expected = expected.map(|count| format!("{id}.{count}"));
            assert_eq!(browser.map(|browser| browser.text()), expected, "{value}");
        }
        let random = Browser::new().text();
        assert!(Browser::parse(&random).is_some());
        assert_ne!(random, Browser::new().text());
        assert!(format!("{:?}", Browser::new()).contains("BrowserId(…)"));
    }
}
