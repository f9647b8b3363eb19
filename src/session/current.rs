//! The session of a request, with its tokens at hand and not opened before somebody asks.

use std::{
    fmt,
    ops::Deref,
    sync::{Arc, OnceLock},
};

use time::OffsetDateTime;

use super::{Session, SessionTokens, cookie::CookieSeal, pieces, sessions::TOKENS_COOKIE};

/// A session that was found, or was just made.
#[derive(Clone)]
pub(crate) struct CurrentSession {
    pub(super) session: Arc<Session>,
    /// Its name in a store, which is no secret.
    pub(super) name: Arc<str>,
    /// In a store; 0 in cookies.
    pub(super) version: u64,
    tokens: OnceLock<Option<Arc<SessionTokens>>>,
    sealed: Option<(CookieSeal, String)>,
    /// Why the tokens were not refreshed when they were due.
    pub(crate) not_refreshed: Option<Arc<str>>,
}

impl CurrentSession {
    pub(super) fn new(
        session: Arc<Session>,
        name: Arc<str>,
        version: u64,
        tokens: Option<Arc<SessionTokens>>,
    ) -> CurrentSession {
        CurrentSession {
            session,
            name,
            version,
            tokens: OnceLock::from(tokens),
            sealed: None,
            not_refreshed: None,
        }
    }

    /// A session whose tokens lie sealed in cookies.
    pub(super) fn with_sealed_tokens(
        session: Arc<Session>,
        name: Arc<str>,
        seal: &CookieSeal,
        tokens: Option<String>,
    ) -> CurrentSession {
        CurrentSession {
            session,
            name,
            version: 0,
            tokens: OnceLock::new(),
            sealed: tokens.map(|tokens| (seal.clone(), tokens)),
            not_refreshed: None,
        }
    }

    /// A session that lives nowhere: the testing profile's.
    pub(crate) fn nowhere(session: Session) -> CurrentSession {
        CurrentSession::new(Arc::new(session), "testing_profile".into(), 0, None)
    }

    /// The tokens, if they are there and belong to this session.
    pub(crate) fn tokens(&self) -> Option<&Arc<SessionTokens>> {
        let opened = self.tokens.get_or_init(|| {
            let (seal, sealed) = self.sealed.as_ref()?;
            pieces::open(seal, TOKENS_COOKIE, sealed, |id, text| {
                let (id, _) = id.split_once('.')?;
                let is_of_this_session = crate::Secret::new(id) == self.session.id;
                let tokens = is_of_this_session.then_some(text)?;
                serde_json::from_str(tokens).ok().map(Arc::new)
            })
            .map(|read| read.value)
        });
        opened.as_ref()
    }

    /// The same with a renewed copy of when its tokens are due.
    pub(crate) fn with_refresh_due(mut self, due: Option<i64>) -> CurrentSession {
        Arc::make_mut(&mut self.session).refresh_due = due;
        self
    }

    /// When it was last noted to be in use, in seconds since 1970.
    pub(crate) fn seen(&self) -> i64 {
        self.session.seen
    }

    /// When it began.
    pub(crate) fn started(&self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.session.started) * 1_000_000)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// Its name, by which the app may end it.
    pub(crate) fn name(&self) -> &str {
        &self.name
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
