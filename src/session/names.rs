//! Keys of a store's entries and sessions. Names of random ids are plain digests; names of guessable values, such as a
//! `sub`, are keyed hashes, so that a reader of the store cannot guess them.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    keys::{KeyRing, digest, digest_name},
    secret::Secret,
};

/// Bytes at the end of the name of a session in cookies that are a keyed hash of its user.
const USER_MARK_LEN: usize = 14;
/// Length of the rest of such a name, in base64url.
const UNMARKED_LEN: usize = 24;

/// Computes names for one client at one issuer.
#[derive(Clone, Debug)]
pub(crate) struct Names(KeyRing);

impl Names {
    pub(crate) fn new(keys: KeyRing) -> Names {
        Names(keys)
    }

    /// The name of a session, from the secret id in its browser's cookie: the tag of the client, which is no secret,
    /// and 28 bytes of a digest.
    pub(crate) fn session(&self, id: &Secret) -> String {
        let mut name = digest("session", &[id.expose()]);
        let tag = self.0.client_tag_bytes();
        name[..tag.len()].copy_from_slice(&tag);
        URL_SAFE_NO_PAD.encode(name)
    }

    /// The name of a session in cookies: that of [`session`](Self::session), whose end is this mark of its user.
    pub(crate) fn marked_session(&self, id: &Secret, user_mark: &str) -> String {
        let name = self.session(id);
        format!("{}{user_mark}", &name[..UNMARKED_LEN])
    }

    /// The mark of a user in the name of a session in cookies: a keyed hash of both, under the key to write. No record
    /// says whose such a session is, and an id without this proof could end the session of another user.
    pub(crate) fn user_mark(&self, id: &Secret, issuer: &str, subject: &str) -> String {
        let marks = self.user_marks(&self.session(id), issuer, subject);
        marks.into_iter().next().unwrap_or_default()
    }

    /// Whether a session in cookies of this name is of this user.
    pub(crate) fn is_marked_for(&self, session: &str, issuer: &str, subject: &str) -> bool {
        let Some(mark) = session.get(UNMARKED_LEN..) else {
            return false;
        };
        let mut marks = self.user_marks(session, issuer, subject).into_iter();
        marks.any(|expected| verify_slices_are_equal(expected.as_bytes(), mark.as_bytes()).is_ok())
    }

    /// The mark of a user under each key, for a session whose name begins like this one.
    fn user_marks(&self, session: &str, issuer: &str, subject: &str) -> Vec<String> {
        let unmarked = session.get(..UNMARKED_LEN).unwrap_or_default();
        let hashes = self.0.index_names("user of session", &[unmarked, issuer, subject]);
        let mark = |hash: String| {
            let bytes = URL_SAFE_NO_PAD.decode(hash).unwrap_or_default();
            URL_SAFE_NO_PAD.encode(&bytes[..bytes.len().min(USER_MARK_LEN)])
        };
        hashes.into_iter().map(mark).collect()
    }

    /// Whether a session of this name is of this client at this provider.
    pub(crate) fn is_own(&self, session: &str) -> bool {
        let tag = self.0.client_tag_bytes();
        URL_SAFE_NO_PAD.decode(session).is_ok_and(|name| name.starts_with(&tag))
    }

    /// The index keys of a user's sessions: one per secret key, the one to write first.
    pub(crate) fn subject(&self, issuer: &str, subject: &str) -> Vec<String> {
        self.0.index_names("sub", &[issuer, subject])
    }

    /// The index keys of the sessions of one provider session, like [`subject`](Self::subject).
    pub(crate) fn sid(&self, issuer: &str, sid: &str) -> Vec<String> {
        self.0.index_names("sid", &[issuer, sid])
    }

    /// The index keys of a user's sessions without `sid`, like [`subject`](Self::subject).
    pub(crate) fn without_sid(&self, issuer: &str, subject: &str) -> Vec<String> {
        self.0.index_names("sub without sid", &[issuer, subject])
    }

    /// Entries that record that a provider session has sessions here, like [`subject`](Self::subject).
    pub(crate) fn known_sid(&self, issuer: &str, sid: &str) -> Vec<String> {
        self.0.index_names("known sid", &[issuer, sid])
    }

    /// The lock to report the end of a provider session's sessions, up to the session `newest`.
    pub(crate) fn sid_end_report_lock(&self, issuer: &str, sid: &str, newest: u64) -> String {
        let names = self
            .0
            .index_names("end report of sid", &[issuer, sid, &newest.to_string()]);
        // The same on nodes that have the same keys in another order.
        names.into_iter().min().unwrap_or_default()
    }

    /// The lock to report the end of this session.
    pub(crate) fn end_report_lock(&self, session: &str) -> String {
        digest_name("end report", &[session])
    }

    /// The lock to report that a session has expired.
    pub(crate) fn expiry_report_lock(&self, session: &str) -> String {
        digest_name("expiry report", &[session])
    }

    /// Entries with the end of the session that ends last, like [`subject`](Self::subject).
    pub(crate) fn last_end(&self, issuer: &str) -> Vec<String> {
        self.0.index_names("last end", &[issuer])
    }

    /// Locks of an accepted logout token, like [`subject`](Self::subject).
    pub(crate) fn jti(&self, issuer: &str, jti: &str) -> Vec<String> {
        self.0.index_names("jti", &[issuer, jti])
    }

    /// The entry with the newest generation of a session.
    pub(crate) fn generation(&self, session: &str) -> String {
        digest_name("generation", &[session])
    }

    /// The entry with the record of one generation of a session.
    pub(crate) fn record(&self, session: &str, generation: u64) -> String {
        digest_name("record", &[session, &generation.to_string()])
    }

    /// The lock that a node holds while it refreshes a session.
    pub(crate) fn refresh_lock(&self, session: &str) -> String {
        digest_name("refresh lock", &[session])
    }

    /// The entry with the time of a session's last refresh.
    pub(crate) fn last_refresh(&self, session: &str) -> String {
        digest_name("last refresh", &[session])
    }

    /// An entry that is never written.
    pub(crate) fn probe(&self) -> String {
        digest_name("probe", &[])
    }

    /// The entry that exists while a node waits for the ends of sessions of this client.
    pub(crate) fn end_feed_readers(&self) -> String {
        digest_name("end feed readers", &[&self.0.client_tag()])
    }

    /// The entry with the number of the latest end in the feed of this client.
    pub(crate) fn end_feed_latest(&self) -> String {
        digest_name("end feed latest", &[&self.0.client_tag()])
    }

    /// The entry with an end in the feed of this client.
    pub(crate) fn end_in_feed(&self, number: u64) -> String {
        digest_name("end in feed", &[&self.0.client_tag(), &number.to_string()])
    }

    /// The entry with the time of the last use of a session in cookies.
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
    fn names_are_distinct() {
        let key = SecretKey::from_bytes(vec![1; 32]).unwrap();
        let keys = KeyRing::new(&key, &[], &["https://op.example", "app"]);
        let names = Names::new(keys);
        let all = [
            names.session(&Secret::new("id")),
            names.session(&Secret::new("other")),
            names.marked_session(&Secret::new("id"), &names.user_mark(&Secret::new("id"), "issuer", "id")),
            names.marked_session(
                &Secret::new("id"),
                &names.user_mark(&Secret::new("id"), "issuer", "other"),
            ),
            names.subject("issuer", "id").remove(0),
            names.sid("issuer", "id").remove(0),
            names.without_sid("issuer", "id").remove(0),
            names.known_sid("issuer", "id").remove(0),
            names.sid_end_report_lock("issuer", "id", 1),
            names.sid_end_report_lock("issuer", "id", 2),
            names.end_report_lock("id"),
            names.expiry_report_lock("id"),
            names.jti("issuer", "id").remove(0),
            names.last_end("issuer").remove(0),
            names.generation("id"),
            names.record("id", 1),
            names.record("id", 2),
            names.record("other", 1),
            names.refresh_lock("id"),
            names.last_refresh("id"),
            names.last_use("id"),
            names.end_feed_readers(),
            names.end_feed_latest(),
            names.end_in_feed(1),
            names.end_in_feed(2),
        ];
        for name in &all {
            assert_eq!(name.len(), 43);
        }
        assert_eq!(HashSet::from(all.clone()).len(), all.len());
    }

    #[test]
    fn a_marked_name_is_of_one_user() {
        let key = |byte| SecretKey::from_bytes(vec![byte; 32]).unwrap();
        let names = |first, previous: &[u8]| {
            let previous: Vec<_> = previous.iter().map(|byte| key(*byte)).collect();
            Names::new(KeyRing::new(&key(first), &previous, &["https://op.example", "app"]))
        };
        let (old, id) = (names(1, &[]), Secret::new("id"));
        let name = old.marked_session(&id, &old.user_mark(&id, "issuer", "alice"));
        assert!(old.is_own(&name) && old.is_marked_for(&name, "issuer", "alice"));
        for (issuer, subject) in [
            ("issuer", "bob"),
            ("other", "alice"),
            ("issueralice", ""),
            ("", "issueralice"),
        ] {
            assert!(!old.is_marked_for(&name, issuer, subject), "{issuer} {subject}");
        }
        // While the key is changed, and afterwards.
        for (names, expected) in [(names(1, &[2]), true), (names(2, &[1]), true), (names(2, &[]), false)] {
            assert_eq!(names.is_marked_for(&name, "issuer", "alice"), expected);
        }
        // An invented id, one without a mark, and texts that are no ids.
        let invented = format!("{}A{}", &name[..6], &name[7..]);
        let unmarked = old.session(&id);
        for name in [
            &*invented,
            &unmarked,
            &name[..42],
            &format!("{name}A"),
            "",
            "é",
            &"é".repeat(22),
        ] {
            assert!(!old.is_marked_for(name, "issuer", "alice"), "{name}");
        }
    }

    /// Sessions in a store outlive the version of this crate that named them.
    #[test]
    fn names_are_stable() {
        let key = SecretKey::from_bytes((0..64).collect()).unwrap();
        let names = Names::new(KeyRing::new(&key, &[], &["https://op.example", "app"]));
        let session = names.session(&Secret::new("id"));
        let subject = names.subject("https://op.example", "alice").remove(0);
        assert_eq!(
            [session, subject],
            [
                "6ztF8k8EHfONk_ITpNRhWTAwksUdj3JmV85dGp1LoV4",
                "ZIr7XEUn-0hQBJXow-IeXHw8NyzkBI05nnOKlhH_Miw"
            ]
        );
    }
}
