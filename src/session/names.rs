//! The names under which a store keeps things: keyed hashes, from which nothing can be read or guessed.

use std::fmt;

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::Secret;

/// What most parts take together, in bytes.
const USUAL_LENGTH: usize = 256;

/// Makes names under the app's secret key.
#[derive(Clone)]
pub(crate) struct Names(hmac::Key);

impl Names {
    pub(crate) fn new(secret_key: &[u8]) -> Names {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret_key);
        let derived = hmac::sign(&key, b"rocket_openidconnect: names in a session store");
        Names(hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()))
    }

    /// A session, by the secret that its browser has.
    pub(crate) fn session(&self, id: &Secret) -> String {
        self.name("session", &[id.expose()])
    }

    /// All sessions of a person.
    pub(crate) fn subject(&self, issuer: &str, subject: &str) -> String {
        self.name("sub", &[issuer, subject])
    }

    /// The sessions that belong to one session at the provider.
    pub(crate) fn sid(&self, issuer: &str, sid: &str) -> String {
        self.name("sid", &[issuer, sid])
    }

    /// A logout token that was accepted.
    pub(crate) fn jti(&self, issuer: &str, jti: &str) -> String {
        self.name("jti", &[issuer, jti])
    }

    /// One refresh: of this session, when it had been refreshed so many times before.
    pub(crate) fn refresh(&self, session: &str, generation: u32) -> String {
        self.name("refresh", &[session, &generation.to_string()])
    }

    /// The result of that refresh.
    pub(crate) fn refreshed(&self, session: &str, generation: u32) -> String {
        self.name("refreshed", &[session, &generation.to_string()])
    }

    /// Each part with its length in front, so that no two lists of parts are one text.
    fn name(&self, kind: &str, parts: &[&str]) -> String {
        let mut text = Vec::with_capacity(USUAL_LENGTH);
        let mut add = |part: &str| {
            text.extend_from_slice(&part.len().to_be_bytes());
            text.extend_from_slice(part.as_bytes());
        };
        add(kind);
        parts.iter().copied().for_each(add);
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.0, &text))
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Names(…)")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_differ_by_kind_by_parts_and_by_key() {
        let names = Names::new(b"key");
        let one = names.subject("https://op.example", "alice");
        assert_eq!(one, names.subject("https://op.example", "alice"));
        for other in [
            names.sid("https://op.example", "alice"),
            names.subject("https://op.examplea", "lice"),
            Names::new(b"other").subject("https://op.example", "alice"),
        ] {
            assert_ne!(one, other);
        }
    }

    /// Sessions in a store outlive the version of this crate that named them.
    #[test]
    fn a_name_stays_what_it_is() {
        let names = Names::new(b"key");
        let subject = names.subject("https://op.example", "alice");
        assert_eq!(subject, "3ms0yOKyKc1SZTfHtz2V5jPU1Yh5FvoPo8qEO6Qv5E8");
        let session = names.session(&Secret::new("id"));
        assert_eq!(session, "4EoayWlxR_TztaXBxeZkHPYC9mP750RRTmo51-UKg5w");
    }

    #[test]
    fn each_thing_has_a_name_of_its_own() {
        let names = Names::new(b"key");
        let all = [
            names.session(&Secret::new("id")),
            names.session(&Secret::new("other")),
            names.subject("issuer", "id"),
            names.sid("issuer", "id"),
            names.jti("issuer", "id"),
            names.refresh("id", 1),
            names.refresh("id", 2),
            names.refreshed("id", 1),
            names.refreshed("id", 2),
            names.refreshed("other", 1),
        ];
        for name in &all {
            assert_eq!(name.len(), 43);
        }
        assert_eq!(HashSet::from(all.clone()).len(), all.len());
    }
}
