//! Cache of decrypted sessions, so that a session in use is not decrypted at each request.

use std::{borrow::Cow, sync::Arc};

use arc_swap::ArcSwapOption;

use super::{CurrentSession, NoSession, Session, store::StoredSession};
use crate::{cache::TextCache, observing, settings::CacheSize};

/// Characters at the end of an encrypted text that identify it: more than its 16-byte AEAD tag in base64.
const TAG_LEN: usize = 32;

/// A decrypted session. Its expiry is checked at every use.
pub(super) struct DecryptedSession {
    pub(super) session: Arc<Session>,
    /// The body of its record.
    pub(super) body: Arc<[u8]>,
    pub(super) names: SessionNames,
}

impl DecryptedSession {
    /// The session of a request; its version in a store, or 0 in cookies.
    pub(super) fn current(&self, version: u64) -> CurrentSession {
        let (session, body) = (self.session.clone(), self.body.clone());
        CurrentSession::new(session, body, self.names.session.clone(), version)
    }
}

/// The names and index keys of a session.
pub(super) struct SessionNames {
    pub(super) session: Arc<str>,
    /// The name of its newest generation.
    pub(super) generation: String,
    /// The user's index keys, one per secret key.
    pub(super) subject: Vec<String>,
    /// The index keys of the provider's session, or of the user's sessions without `sid` if it has none.
    pub(super) sid: Vec<String>,
}

impl SessionNames {
    /// The index keys of the user and of the provider's session, under the first secret key.
    pub(super) fn into_index_keys(self) -> Vec<String> {
        let first = |names: Vec<String>| names.into_iter().next();
        [first(self.subject), first(self.sid)].into_iter().flatten().collect()
    }

    /// All names under which an end may be recorded, the session's own first.
    pub(super) fn ends(&self) -> impl Iterator<Item = &str> {
        let indexed = self.subject.iter().chain(&self.sid);
        std::iter::once(&*self.session).chain(indexed.map(String::as_str))
    }
}

pub(super) struct SessionCache {
    /// Sessions in cookies, by their encrypted text.
    in_cookies: TextCache<String, Arc<DecryptedSession>>,
    /// Sessions in a store, by the value of the cookie with the id.
    in_store: TextCache<String, Arc<StoredSessionCache>>,
}

/// A session in a store.
pub(super) struct StoredSessionCache {
    pub(super) name: Arc<str>,
    /// The last decrypted version.
    last: ArcSwapOption<Version>,
}

struct Version {
    number: u64,
    /// The end of the encrypted text, with its AEAD tag, which nobody without the key can forge.
    end: Box<str>,
    decrypted: Arc<DecryptedSession>,
}

impl SessionCache {
    /// A cache of this size.
    pub(super) fn new(size: CacheSize) -> SessionCache {
        SessionCache {
            in_cookies: TextCache::new(size.entries()),
            in_store: TextCache::new(size.entries()),
        }
    }

    /// The session in these cookies; `open` decrypts it on a cache miss.
    pub(super) fn in_cookies(
        &self,
        text: Cow<'_, str>,
        open: impl FnOnce(&str) -> Option<DecryptedSession>,
    ) -> Option<Arc<DecryptedSession>> {
        let before = self.in_cookies.get(&text);
        observing::session_looked_up(before.is_some());
        before.or_else(|| {
            let decrypted = Arc::new(open(&text)?);
            self.in_cookies.insert(text.into_owned(), decrypted.clone());
            Some(decrypted)
        })
    }

    /// The session of the id in this cookie; `open` decrypts the id on a cache miss.
    pub(super) fn in_store(
        &self,
        cookie: &str,
        open: impl FnOnce() -> Option<String>,
    ) -> Option<Arc<StoredSessionCache>> {
        self.in_store.get(cookie).or_else(|| {
            let session = Arc::new(StoredSessionCache {
                name: open()?.into(),
                last: ArcSwapOption::empty(),
            });
            self.in_store.insert(cookie.to_owned(), session.clone());
            Some(session)
        })
    }
}

impl StoredSessionCache {
    /// The stored session; `open` decrypts it on a cache miss.
    pub(super) fn decrypted(
        &self,
        stored: &StoredSession,
        open: impl FnOnce() -> Result<DecryptedSession, NoSession>,
    ) -> Result<Arc<DecryptedSession>, NoSession> {
        let end = stored.value.len().saturating_sub(TAG_LEN);
        let end = stored.value.get(end..).unwrap_or(&stored.value);
        let last = self.last.load();
        let cached = last.as_ref();
        let cached = cached.filter(|last| last.number == stored.version && *last.end == *end);
        observing::session_looked_up(cached.is_some());
        if let Some(cached) = cached {
            return Ok(cached.decrypted.clone());
        }

        let decrypted = Arc::new(open()?);
        self.last.store(Some(Arc::new(Version {
            number: stored.version,
            end: end.into(),
            decrypted: decrypted.clone(),
        })));
        Ok(decrypted)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use time::OffsetDateTime;

    use super::*;
    use crate::token::Claims;

    fn decrypted() -> DecryptedSession {
        let now = OffsetDateTime::now_utc();
        DecryptedSession {
            session: Arc::new(Session::new("https://op.example", Claims::default(), now)),
            body: Arc::new([]),
            names: SessionNames {
                session: "name".into(),
                generation: "generation".into(),
                subject: vec!["subject".into()],
                sid: vec![],
            },
        }
    }

    #[test]
    fn the_setting_is_for_sessions_in_cookies_and_in_a_store() {
        for (size, expected) in [(CacheSize::Flag(true), 1), (CacheSize::Flag(false), 2)] {
            let sessions = SessionCache::new(size);
            let (in_cookies, in_store) = (Cell::new(0), Cell::new(0));
            for _ in 0..2 {
                let decrypted = sessions.in_cookies("sealed".into(), |_| {
                    in_cookies.set(in_cookies.get() + 1);
                    Some(decrypted())
                });
                let session = sessions.in_store("sealed", || {
                    in_store.set(in_store.get() + 1);
                    Some("name".into())
                });
                assert!(decrypted.is_some() && session.is_some());
            }
            assert_eq!((in_cookies.get(), in_store.get()), (expected, expected));
        }
    }

    /// After the restore of a backup, a store may have another text of the same version.
    #[test]
    fn each_text_of_a_session_in_a_store_is_decrypted_once() {
        let sessions = SessionCache::new(CacheSize::Flag(true));
        assert!(sessions.in_store("cookie", || Some("name".into())).is_some());
        let session = sessions.in_store("cookie", || None).unwrap();
        let times = Cell::new(0);
        let open = |version, value: &str| {
            let stored = StoredSession {
                id: "name".into(),
                version,
                value: format!("{}{value}", "x".repeat(TAG_LEN)),
                index_keys: vec![],
            };
            let found = session.decrypted(&stored, || {
                times.set(times.get() + 1);
                Ok(decrypted())
            });
            assert!(found.is_ok());
            times.get()
        };
        assert_eq!([open(1, "one"), open(1, "one")], [1, 1]);
        assert_eq!([open(1, "other"), open(1, "other")], [2, 2]);
        assert_eq!([open(2, "other"), open(2, "other")], [3, 3]);
    }
}
