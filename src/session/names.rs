//! The names under which a store keeps things. Names that are made of random ids are plain digests; names
//! that are made of what others know are keyed, so that nothing can be read or guessed from them.

use crate::{
    keys::{KeyRing, digest_name},
    secret::Secret,
};

/// Makes names for one client at one issuer.
#[derive(Clone, Debug)]
pub(crate) struct Names(KeyRing);

impl Names {
    pub(crate) fn new(keys: KeyRing) -> Names {
        Names(keys)
    }

    /// A session, by the secret that its browser has.
    pub(crate) fn session(&self, id: &Secret) -> String {
        digest_name("session", &[id.expose()])
    }

    /// All sessions of a user: a name under each key, the one to write under first.
    pub(crate) fn subject(&self, issuer: &str, subject: &str) -> Vec<String> {
        self.0.index_names("sub", &[issuer, subject])
    }

    /// The sessions that belong to one session at the provider, as [`subject`](Self::subject).
    pub(crate) fn sid(&self, issuer: &str, sid: &str) -> Vec<String> {
        self.0.index_names("sid", &[issuer, sid])
    }

    /// The sessions of a user that have no name at the provider, as [`subject`](Self::subject).
    pub(crate) fn without_sid(&self, issuer: &str, subject: &str) -> Vec<String> {
        self.0.index_names("sub without sid", &[issuer, subject])
    }

    /// That there are sessions which belong to one session at the provider, as [`subject`](Self::subject).
    pub(crate) fn known_sid(&self, issuer: &str, sid: &str) -> Vec<String> {
        self.0.index_names("known sid", &[issuer, sid])
    }

    /// That the end of the sessions up to this one was told, which belong to one session at the provider.
    pub(crate) fn told_end_of_sid(&self, issuer: &str, sid: &str, newest: u64) -> String {
        let names = self
            .0
            .index_names("told end of sid", &[issuer, sid, &newest.to_string()]);
        // The same at nodes that have the same keys in another order.
        names.into_iter().min().unwrap_or_default()
    }

    /// That the end of this session was told.
    pub(crate) fn told_end(&self, session: &str) -> String {
        digest_name("told end", &[session])
    }

    /// That somebody noticed that a session is over by its times.
    pub(crate) fn noticed_end(&self, session: &str) -> String {
        digest_name("noticed end", &[session])
    }

    /// When the last of all sessions ends, as [`subject`](Self::subject).
    pub(crate) fn last_end(&self, issuer: &str) -> Vec<String> {
        self.0.index_names("last end", &[issuer])
    }

    /// A logout token that was accepted, as [`subject`](Self::subject).
    pub(crate) fn jti(&self, issuer: &str, jti: &str) -> Vec<String> {
        self.0.index_names("jti", &[issuer, jti])
    }

    /// Which generation of a session is the newest.
    pub(crate) fn generation(&self, session: &str) -> String {
        digest_name("generation", &[session])
    }

    /// The record of one generation of a session.
    pub(crate) fn record(&self, session: &str, generation: u64) -> String {
        digest_name("record", &[session, &generation.to_string()])
    }

    /// The lock that a node holds while it refreshes a session.
    pub(crate) fn refresh_lock(&self, session: &str) -> String {
        digest_name("refresh lock", &[session])
    }

    /// When a session was refreshed last.
    pub(crate) fn last_refresh(&self, session: &str) -> String {
        digest_name("last refresh", &[session])
    }

    /// When the use of a session in cookies was noted last.
    pub(crate) fn last_use(&self, session: &str) -> String {
        digest_name("last use", &[session])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::keys::SecretKey;

    #[test]
    fn each_thing_has_a_name_of_its_own() {
        let key = SecretKey::from_bytes(vec![1; 32]).unwrap();
        let keys = KeyRing::new(&key, &[], "https://op.example", "app");
        let names = Names::new(keys);
        let all = [
            names.session(&Secret::new("id")),
            names.session(&Secret::new("other")),
            names.subject("issuer", "id").remove(0),
            names.sid("issuer", "id").remove(0),
            names.without_sid("issuer", "id").remove(0),
            names.known_sid("issuer", "id").remove(0),
            names.told_end_of_sid("issuer", "id", 1),
            names.told_end_of_sid("issuer", "id", 2),
            names.told_end("id"),
            names.noticed_end("id"),
            names.jti("issuer", "id").remove(0),
            names.last_end("issuer").remove(0),
            names.generation("id"),
            names.record("id", 1),
            names.record("id", 2),
            names.record("other", 1),
            names.refresh_lock("id"),
            names.last_refresh("id"),
            names.last_use("id"),
        ];
        for name in &all {
            assert_eq!(name.len(), 43);
        }
        assert_eq!(HashSet::from(all.clone()).len(), all.len());
    }

    /// Sessions in a store outlive the version of this crate that named them.
    #[test]
    fn a_name_stays_what_it_is() {
        let key = SecretKey::from_bytes((0..64).collect()).unwrap();
        let names = Names::new(KeyRing::new(&key, &[], "https://op.example", "app"));
        let session = names.session(&Secret::new("id"));
        let subject = names.subject("https://op.example", "alice").remove(0);
        assert_eq!(
            [session, subject],
            [
                "RlZaX08EHfONk_ITpNRhWTAwksUdj3JmV85dGp1LoV4",
                "ZIr7XEUn-0hQBJXow-IeXHw8NyzkBI05nnOKlhH_Miw"
            ]
        );
    }
}
