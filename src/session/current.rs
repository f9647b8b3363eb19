//! The session of a request; its tokens are deserialized on first use.

use std::{
    fmt,
    ops::Deref,
    sync::{Arc, OnceLock},
};

use time::OffsetDateTime;

use super::{Session, SessionTokens, record};

/// A session that was found or just created, with its encoded tokens.
#[derive(Clone)]
pub(crate) struct CurrentSession {
    pub(super) session: Arc<Session>,
    /// The body of its record: tokens and the sources of its claims, encoded.
    pub(super) body: Arc<[u8]>,
    /// Its name, the key in a store; not a secret.
    pub(super) name: Arc<str>,
    /// Its version in a store; 0 in cookies.
    pub(super) version: u64,
    tokens: OnceLock<Option<Arc<SessionTokens>>>,
    /// Why the tokens were not refreshed when they were due.
    pub(crate) not_refreshed: Option<Arc<str>>,
}

impl CurrentSession {
    pub(super) fn new(session: Arc<Session>, body: Arc<[u8]>, name: Arc<str>, version: u64) -> CurrentSession {
        CurrentSession {
            session,
            body,
            name,
            version,
            tokens: OnceLock::new(),
            not_refreshed: None,
        }
    }

    /// A session without storage: that of the testing profile.
    pub(crate) fn nowhere(session: Session) -> CurrentSession {
        CurrentSession::new(Arc::new(session), Arc::new([]), "testing_profile".into(), 0)
    }

    /// The same session with other values, as a request sees it: it is not stored.
    pub(crate) fn changed(mut self, change: impl FnOnce(&mut Session)) -> CurrentSession {
        change(Arc::make_mut(&mut self.session));
        self
    }

    /// The same session under another name.
    #[cfg(test)]
    pub(crate) fn with_name(mut self, name: &str) -> CurrentSession {
        self.name = name.into();
        self
    }

    /// The tokens; `None` for the testing profile.
    pub(crate) fn tokens(&self) -> Option<&Arc<SessionTokens>> {
        let tokens = self
            .tokens
            .get_or_init(|| record::decode_body(&self.body).map(Arc::new));
        tokens.as_ref()
    }

    /// When its last use was recorded, in seconds since 1970.
    pub(crate) fn seen(&self) -> i64 {
        self.session.seen
    }

    /// When it began.
    pub(crate) fn started(&self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.session.started) * 1_000_000)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// Its name, for the app to end it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The same without a copy, as a cache key.
    pub(crate) fn shared_name(&self) -> Arc<str> {
        self.name.clone()
    }

    /// Approximate memory size in bytes.
    pub(super) fn weight(&self) -> usize {
        // Claims as JSON values take about three times their text, and the body holds that text.
        500 + 4 * self.body.len()
    }
}

impl Deref for CurrentSession {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl fmt::Debug for CurrentSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CurrentSession")
            .field("session", &self.session)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Claims;

    /// The weight bounds the memory of caches.
    #[test]
    fn a_session_weighs_more_than_its_record() {
        let session = Session::new("", Claims::default(), OffsetDateTime::UNIX_EPOCH);
        let session = Arc::new(session);
        for length in [0, 100, 100_000] {
            let body = vec![0; length].into();
            let current = CurrentSession::new(session.clone(), body, "name".into(), 0);
            assert!(current.weight() > 4 * length);
        }
    }
}
