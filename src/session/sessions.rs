//! The sessions of this app: begun, found, advanced and ended, in cookies or in a store.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use moka::{ops::compute::Op, sync::Cache};
use rocket::http::CookieJar;
use serde_json::Value;
use thiserror::Error;
use time::OffsetDateTime;

use super::{
    CurrentSession, EarlierEnds, EndCause, Names, Session, SessionChange, SessionTokens,
    SessionTooLarge, SignedOut,
    chunks::{SessionCookies, without_end},
    ended_note::EndedNote,
    ending::KnownSids,
    handed_out::{AFTER_SEEN, HandedOut},
    milliseconds,
    opened::{Opened, OpenedSessions, SessionNames},
    record,
    store::{MemoryStore, SessionStore, StoreError, StoredSession},
    unrecorded_ends::UnrecordedEnds,
};
use crate::{
    Clock, Secret,
    cookies::{Cookies, SetCookie},
    keys::{DecryptError, KeyRing, Purpose},
    observing,
    settings::{KeptToken, SessionSettings, StoreKind, StoreUrl},
    token::{Claims, VERIFIED},
};

/// How often a replacement in a store is tried again after another request replaced the session.
const MAX_TRIES: usize = 5;
/// How long a session that is over by its times is kept, for the provider to be asked at sign-out, and its tokens
/// to be revoked.
const KEPT_AFTER_END: Duration = Duration::from_secs(24 * 60 * 60);
/// For how many sessions in cookies it is known that their use was just noted.
const MAX_TOUCHED: u64 = 10_000;
/// What nginx takes of response headers by default (`proxy_buffer_size`), less what other headers take.
const USUAL_HEADER_LIMIT: usize = 4 * 1024 - 512;
/// How much longer than a session its newest generation is known: by how much the clocks of nodes and of a
/// store may differ.
pub(super) const MAX_DIFFERENCE: Duration = Duration::from_secs(60);
/// How many sessions one person may have in the memory of this process, unless set: else one account fills it,
/// and ends the sessions of all others.
const MAX_PER_USER_IN_MEMORY: usize = 100;
/// What precedes a record in a shared store whose browser has shown the cookie with it.
const SEEN: char = '.';
/// Claims that bind a token to its request, and say nothing about the user.
const ABOUT_THE_REQUEST: [&str; 3] = ["nonce", "at_hash", "c_hash"];
/// Claims that refresh and sign-out need.
const ALWAYS_KEPT: [&str; 5] = ["iss", "sub", "aud", "auth_time", "sid"];

/// The sessions of this app.
pub(crate) struct Sessions {
    pub(super) settings: SessionSettings,
    keys: KeyRing,
    cookies: SessionCookies,
    pub(super) issuer: Arc<str>,
    pub(crate) names: Names,
    pub(super) is_in_cookies: bool,
    /// Has the sessions, or with cookies: which of them have ended, and which generation is the newest.
    pub(crate) store: Arc<dyn SessionStore>,
    /// Whether other nodes use the store too.
    pub(crate) is_shared: bool,
    /// How many sessions one person may have, where that is known.
    pub(super) max_per_user: Option<usize>,
    /// For front-channel logout, where it is turned on.
    pub(super) known_sids: Option<KnownSids>,
    pub(super) unrecorded: Arc<UnrecordedEnds>,
    pub(super) ended_note: EndedNote,
    opened: OpenedSessions,
    /// The newest records of sessions in cookies, where the store is not shared.
    handed_out: HandedOut,
    /// When the use of a session in cookies was noted last.
    touched: Cache<String, i64>,
    /// Of which sessions it was counted that they are over by their times.
    noticed_ends: Cache<String, ()>,
    /// Whether it was logged that a session makes large answers.
    is_size_known: AtomicBool,
    /// The newest generation of which this node knows that its browser has it, where the store is shared.
    seen_newest: Cache<String, u64>,
}

/// Why a session does not begin.
#[derive(Debug, Error)]
pub(crate) enum BeginError {
    #[error(transparent)]
    TooLarge(#[from] SessionTooLarge),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Of a session in place of another one, which has ended.
    #[error("the session store is not reachable: {}", error.cause)]
    NotStored {
        error: StoreError,
        begun: Box<Begun>,
    },
    #[error("the sessions of the user were ended while they signed in")]
    Ended {
        /// The ends that are noted now.
        ends: EarlierEnds,
        /// The session that the browser had before, which has ended too.
        replaced: Option<Box<CurrentSession>>,
    },
}

/// A session that has begun.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) session: CurrentSession,
    /// The one that the browser had before, which has ended now.
    pub(crate) replaced: Option<CurrentSession>,
}

/// A session that was found.
pub(crate) struct Found {
    pub(crate) session: CurrentSession,
    /// The browser has an older copy of it, and is to get this one.
    pub(crate) is_newer: bool,
}

/// What is newer than a session at hand.
pub(crate) enum Newest {
    /// Nothing: it is the newest.
    ThisOne,
    Other(CurrentSession),
    /// Why there is none to go on with.
    None(SignedOut),
}

impl Sessions {
    /// Where the settings say, or in the app's own store.
    pub(crate) fn open(
        settings: SessionSettings,
        cookies: &Cookies,
        issuer: &str,
        own: Option<Arc<dyn SessionStore>>,
        clock: &Clock,
    ) -> Result<Sessions, StoreError> {
        let shared = match (own, &settings.store_url) {
            (Some(own), _) => Some(own),
            (None, Some(url)) => Some(shared_store(url)?),
            (None, None) => None,
        };
        let is_own = shared.is_some() && settings.store_url.is_none();
        let is_shared = shared.is_some();
        let is_in_cookies = settings.store == StoreKind::Cookie && !is_own;
        if is_in_cookies && settings.max_per_user.is_some() {
            tracing::warn!(
                "`session.max_per_user` changes nothing: sessions in cookies know of no other"
            );
        }
        let memory = || {
            let store = MemoryStore::new(settings.max_sessions).clock(clock.clone());
            Arc::new(store.max_numbers(settings.max_generations))
        };
        let in_memory = !is_shared && !is_in_cookies;
        let max_per_user = settings
            .max_per_user
            .or(in_memory.then_some(MAX_PER_USER_IN_MEMORY));
        Ok(Sessions {
            max_per_user,
            names: Names::new(cookies.keys.clone()),
            keys: cookies.keys.clone(),
            cookies: SessionCookies::new(cookies, settings.cookie.as_deref()),
            issuer: issuer.into(),
            is_in_cookies,
            store: shared.unwrap_or_else(|| memory()),
            is_shared,
            known_sids: None,
            unrecorded: Arc::new(UnrecordedEnds::new(clock)),
            ended_note: EndedNote::new(cookies),
            opened: OpenedSessions::new(settings.cache),
            handed_out: HandedOut::new(),
            touched: Cache::new(MAX_TOUCHED),
            noticed_ends: Cache::new(MAX_TOUCHED),
            is_size_known: AtomicBool::new(false),
            seen_newest: Cache::new(MAX_TOUCHED),
            settings,
        })
    }

    /// Whether the provider may end sessions by requests that nobody signs.
    pub(crate) fn with_front_channel(mut self, is_on: bool) -> Sessions {
        self.known_sids = is_on.then(KnownSids::new);
        self
    }

    /// What goes on beside the requests, from liftoff on.
    pub(crate) fn lift_off(&self) {
        self.opened.begin_forgetting();
    }

    /// For the report at liftoff.
    pub(crate) fn describe(&self) -> &'static str {
        match (self.is_in_cookies, self.is_shared) {
            (true, false) => {
                "encrypted cookies; what ends them early (sign-out elsewhere, at the provider, by the app) and which copies are old is known to this node only, until it restarts"
            }
            (true, true) => "encrypted cookies; all nodes know which have ended and which are old",
            (false, false) => "in the memory of this process, for one node",
            (false, true) => "in a store that all nodes share",
        }
    }

    /// What proxies must take, for a report; `None` where every answer is small.
    pub(crate) fn describe_size(&self) -> Option<String> {
        let max = self.settings.max_cookies;
        let is_large = self.is_in_cookies && max > 1;
        is_large.then(|| {
            format!(
                "up to {max} cookies, {} KB of response headers; nginx takes 4 KB unless `proxy_buffer_size` is larger",
                4 * max
            )
        })
    }

    /// The name and the attributes of the session's cookie, for a report.
    #[cfg(feature = "cli")]
    pub(crate) fn describe_cookie(&self) -> String {
        self.cookies.first().describe()
    }

    /// Begins a session, in place of any in this jar. [`set_cookies`](Self::set_cookies)
    /// are what the browser is to have. Adds the ends of the sessions that make room for it, whatever becomes
    /// of it.
    pub(crate) async fn begin(
        &self,
        mut session: Session,
        mut tokens: SessionTokens,
        jar: Option<&CookieJar<'_>>,
        now: OffsetDateTime,
        ended: &mut Vec<SessionChange>,
    ) -> Result<Begun, BeginError> {
        session.ends = self.end_of(&session);
        self.reduce(&mut session, &mut tokens);
        let names = self.names_of(&session);
        let version = u64::from(!self.is_in_cookies);
        let current = self.record(session, &tokens, names.session.clone(), version)?;
        let replaced = match jar {
            Some(jar) => self.end_replaced(&current, jar, now, ended).await?,
            None => None,
        };
        let stored = self.store_new(&current, now, ended).await;
        let begun = Begun {
            session: current,
            replaced,
        };
        match stored {
            Ok(None) => Ok(begun),
            Ok(Some(ends)) => Err(BeginError::Ended {
                ends,
                replaced: begun.replaced.map(Box::new),
            }),
            Err(error) if begun.replaced.is_none() => Err(error.into()),
            Err(error) => Err(BeginError::NotStored {
                error,
                begun: Box::new(begun),
            }),
        }
    }

    /// Keeps a new session, and tells the nodes of it. Answers the ends of its user that are noted, when it is
    /// ended by one: then nobody has it.
    async fn store_new(
        &self,
        current: &CurrentSession,
        now: OffsetDateTime,
        ended: &mut Vec<SessionChange>,
    ) -> Result<Option<EarlierEnds>, StoreError> {
        if !self.is_in_cookies {
            self.make_room(current, now, ended).await?;
            let stored = self.stored(current, self.names_of(current).into_owners());
            let life = self.kept_for(current, now);
            self.store.create(&stored, life).await?;
        }
        match self.recorded(current, now).await {
            Ok(None) => Ok(None),
            // Whoever ended the sessions of this user may not have found it.
            Ok(Some(ends)) => {
                self.withdraw(current).await?;
                Ok(Some(ends))
            }
            Err(error) => {
                if let Err(error) = self.withdraw(current).await {
                    tracing::debug!("{error}; a session that no browser has stays in the store");
                }
                Err(error)
            }
        }
    }

    /// Tells the nodes of a new session. Answers the ends of its user that are noted, when it is ended by one.
    async fn recorded(
        &self,
        current: &CurrentSession,
        now: OffsetDateTime,
    ) -> Result<Option<EarlierEnds>, StoreError> {
        self.know_session(current, now).await?;
        self.note_last_end(current, now).await?;
        self.later_ends(current, now).await
    }

    /// Removes a session that no browser has.
    async fn withdraw(&self, current: &CurrentSession) -> Result<(), StoreError> {
        if !self.is_in_cookies {
            self.store.remove(&current.name).await?;
        }
        Ok(())
    }

    /// Ends the session that this browser has, for a new one. Answers it if it had not ended before.
    async fn end_replaced(
        &self,
        new: &CurrentSession,
        jar: &CookieJar<'_>,
        now: OffsetDateTime,
        ended: &mut Vec<SessionChange>,
    ) -> Result<Option<CurrentSession>, StoreError> {
        let Some(name) = self.name_in(jar).filter(|name| *name != new.name) else {
            return Ok(None);
        };
        let replaced = self.find_ending(jar, now).await;
        if let Err(SignedOut::StoreUnavailable) = replaced {
            // Without a second wait for it.
            return Err(StoreError::new("the session before cannot be ended"));
        }
        let known = replaced.as_ref().ok().map(|replaced| &**replaced);
        let end = self.end(&name, known, EndCause::Replaced, now).await?;
        // Where sessions are in cookies, one that had ended is ended by its name once more.
        let goes_on = matches!(
            replaced,
            Ok(_) | Err(SignedOut::Superseded | SignedOut::UnknownKey)
        );
        ended.extend(end.filter(|_| goes_on));
        let replaced = replaced.ok();
        let was_alive = |session: &CurrentSession| self.check_times(session, now).is_ok();
        let count = usize::from(replaced.as_ref().is_some_and(was_alive));
        observing::sessions_ended("replaced", count);
        Ok(replaced)
    }

    /// A session that has not begun, for other nodes to begin.
    pub(crate) fn unstored(
        &self,
        session: Session,
        tokens: &SessionTokens,
    ) -> Option<CurrentSession> {
        let body = record::encode_body(tokens).ok()?;
        let name = self.names.session(&session.id).into();
        Some(CurrentSession::new(Arc::new(session), body.into(), name, 0))
    }

    /// Whether a session that began a moment ago has ended.
    pub(crate) async fn is_over(
        &self,
        current: &CurrentSession,
        now: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        if self.check_times(current, now).is_err() {
            return Ok(true);
        }
        if !self.is_in_cookies {
            return Ok(self.load(&current.name).await?.is_err());
        }
        match self
            .newest_generation(current, &self.names_of(current))
            .await
        {
            Ok(_) => Ok(false),
            Err(SignedOut::Ended) => Ok(true),
            Err(reason) => Err(StoreError::new(reason.to_string())),
        }
    }

    /// The session of this browser. Adds its end, when it is the first to notice that its times are over.
    pub(crate) async fn find(
        &self,
        jar: &CookieJar<'_>,
        now: OffsetDateTime,
        ended: &mut Vec<SessionChange>,
    ) -> Result<Found, SignedOut> {
        let found = if self.is_in_cookies {
            self.find_in_cookies(jar, now).await?
        } else {
            let session = self.find_in_store(jar).await?;
            Found {
                session,
                is_newer: false,
            }
        };
        let session = &found.session;
        match self.check_times(session, now) {
            Ok(()) => Ok(found),
            Err(reason) => {
                if self.is_first_to_notice(session, reason, now).await {
                    let cause = EndCause::Over(reason);
                    ended.push(SessionChange::ended(session.name(), session, cause));
                }
                Err(reason)
            }
        }
    }

    /// Whether nobody has noticed before that a session is over by its times.
    async fn is_first_to_notice(
        &self,
        session: &CurrentSession,
        reason: SignedOut,
        now: OffsetDateTime,
    ) -> bool {
        let name = session.name();
        if reason == SignedOut::Idle && self.was_used(name, now) {
            // An older copy of a cookie: the session goes on with the newer one.
            return false;
        }
        // Its browser may show it for days.
        if !self
            .noticed_ends
            .entry_by_ref(name)
            .or_insert(())
            .is_fresh()
        {
            return false;
        }
        observing::session_over(reason);
        // No browser keeps its cookie any longer: it is a copy.
        let life = self.kept_for(session, now);
        if life.is_zero() || !self.is_shared {
            return !life.is_zero();
        }
        let noticed = self.names.noticed_end(name);
        let is_first = self.store.claim(&noticed, "1", life).await;
        is_first.unwrap_or_else(|error| {
            tracing::debug!("{error}; another node may notice the end of a session too");
            true
        })
    }

    async fn find_in_cookies(
        &self,
        jar: &CookieJar<'_>,
        now: OffsetDateTime,
    ) -> Result<Found, SignedOut> {
        let text = self.cookies.read(jar).ok_or(SignedOut::NoSession)?;
        let opened = self
            .opened
            .in_cookies(text, |text| self.open_cookie(text))
            .ok_or(SignedOut::Unreadable)?;
        let session = CurrentSession::new(
            opened.session.clone(),
            opened.body.clone(),
            opened.names.session.clone(),
            0,
        );
        match self.newer_than(&opened.session, &opened.names, now).await? {
            Newest::ThisOne => {
                // A node that shares nothing and was restarted learns it from the first cookie that it sees.
                if !self.is_shared
                    && let Err(error) = self.know_session(&session, now).await
                {
                    tracing::debug!("{error}; front-channel logout does not find a session");
                }
                if session.generation > 1 {
                    self.newest_was_seen(&opened.session, &opened.names, now)
                        .await;
                }
                Ok(Found {
                    session,
                    is_newer: false,
                })
            }
            Newest::Other(session) => Ok(Found {
                session,
                is_newer: true,
            }),
            Newest::None(reason) => Err(reason),
        }
    }

    async fn find_in_store(&self, jar: &CookieJar<'_>) -> Result<CurrentSession, SignedOut> {
        let text = self.cookies.read(jar).ok_or(SignedOut::NoSession)?;
        let session = self
            .opened
            .in_store(&text, || Some(self.names.session(&self.id_in_text(&text)?)))
            .ok_or(SignedOut::Unreadable)?;
        if self.unrecorded.has(&session.name) {
            return Err(SignedOut::Ended);
        }
        let stored = self.store.load(&session.name).await;
        let stored = stored.map_err(|error| unavailable(&error))?;
        self.unrecorded.store_answered();
        let Some(stored) = stored else {
            return Err(SignedOut::Ended);
        };
        let mut why = SignedOut::Ended;
        let open = || {
            let opened = self.open_stored(&session.name, &stored);
            opened.map_err(|reason| why = reason).ok()
        };
        let opened = session.opened(&stored, open);
        opened.map(|opened| current(&opened, &stored)).ok_or(why)
    }

    /// Decrypts the text of the session's cookies.
    fn open_cookie(&self, text: &str) -> Option<Opened> {
        let value = URL_SAFE_NO_PAD.decode(without_end(text)?).ok()?;
        let decrypted = self.keys.decrypt(Purpose::Session, b"", value).ok()?;
        self.opened(&decrypted.plaintext)
    }

    /// Whether this browser has a session's cookie, whatever is in it.
    pub(crate) fn is_one_in(&self, jar: &CookieJar<'_>) -> bool {
        let name = self.cookies.first().name();
        jar.iter().any(|cookie| cookie.name() == name)
    }

    /// The session's id in this browser's cookie, where sessions are in a store.
    fn id_in(&self, jar: &CookieJar<'_>) -> Option<Secret> {
        self.id_in_text(&self.cookies.read(jar)?)
    }

    fn id_in_text(&self, text: &str) -> Option<Secret> {
        let text = without_end(text)?;
        let id = self.keys.decrypt_text(Purpose::SessionId, b"", text).ok()?;
        Some(Secret::new(id))
    }

    /// Whether sessions are kept in cookies.
    pub(crate) fn is_in_cookies(&self) -> bool {
        self.is_in_cookies
    }

    /// The session of this name, which is known where sessions are in a store alone.
    pub(crate) async fn by_name(
        &self,
        name: &str,
        now: OffsetDateTime,
    ) -> Result<CurrentSession, SignedOut> {
        if self.is_in_cookies {
            return Err(SignedOut::NoSession);
        }
        let session = self.load(name).await;
        let session = session.map_err(|error| unavailable(&error))??;
        self.check_times(&session, now)?;
        Ok(session)
    }

    /// The session of this name in the store.
    pub(super) async fn load(
        &self,
        name: &str,
    ) -> Result<Result<CurrentSession, SignedOut>, StoreError> {
        if self.unrecorded.has(name) {
            return Ok(Err(SignedOut::Ended));
        }
        let Some(stored) = self.store.load(name).await? else {
            return Ok(Err(SignedOut::Ended));
        };
        let opened = self.open_stored(name, &stored);
        Ok(opened.map(|opened| current(&opened, &stored)))
    }

    /// Decrypts what the store has under this name. What is damaged, of another name or another version of
    /// this crate is not a session; what is of another key may be one for another node.
    fn open_stored(&self, name: &str, stored: &StoredSession) -> Result<Opened, SignedOut> {
        match self.open_value(name, &stored.value) {
            Ok(Some(opened)) => Ok(opened),
            Err(DecryptError::UnknownKey) => Err(unknown_key()),
            Ok(None) | Err(_) => Err(SignedOut::Ended),
        }
    }

    /// Decrypts a record in a store. `Ok(None)` is one of another version of this crate.
    fn open_value(&self, name: &str, value: &str) -> Result<Option<Opened>, DecryptError> {
        let value = URL_SAFE_NO_PAD.decode(value);
        let value = value.map_err(|_| DecryptError::Damaged)?;
        let record = self
            .keys
            .decrypt(Purpose::StoredValue, name.as_bytes(), value)?;
        Ok(self.opened(&record.plaintext))
    }

    /// Reads a record that was decrypted just now.
    fn opened(&self, record: &[u8]) -> Option<Opened> {
        let (mut session, body_start) = record::decode(record, &self.issuer)?;
        self.keep_chosen(&mut session.claims);
        Some(Opened {
            names: self.names_of(&session),
            session: Arc::new(session),
            body: record[body_start..].into(),
        })
    }

    /// The session of this browser, for its end: also one that is over by its times.
    pub(crate) async fn find_ending(
        &self,
        jar: &CookieJar<'_>,
        now: OffsetDateTime,
    ) -> Result<CurrentSession, SignedOut> {
        let session = match self.is_in_cookies {
            true => self.find_in_cookies(jar, now).await?.session,
            false => self.find_in_store(jar).await?,
        };
        match self.kept_for(&session, now).is_zero() {
            true => Err(SignedOut::LifetimeEnded),
            false => Ok(session),
        }
    }

    /// The session that this browser's cookies hold themselves, for its end: whatever the store says of it.
    pub(crate) fn ending_in_cookies(
        &self,
        jar: &CookieJar<'_>,
        now: OffsetDateTime,
    ) -> Option<CurrentSession> {
        if !self.is_in_cookies {
            return None;
        }
        let text = self.cookies.read(jar)?;
        let opened = self
            .opened
            .in_cookies(text, |text| self.open_cookie(text))?;
        let (session, body) = (opened.session.clone(), opened.body.clone());
        let session = CurrentSession::new(session, body, opened.names.session.clone(), 0);
        (!self.kept_for(&session, now).is_zero()).then_some(session)
    }

    /// The name of this browser's session, whatever has become of it.
    pub(crate) fn name_in(&self, jar: &CookieJar<'_>) -> Option<Arc<str>> {
        if !self.is_in_cookies {
            return Some(self.names.session(&self.id_in(jar)?).into());
        }
        let text = self.cookies.read(jar)?;
        let opened = self.opened.in_cookies(text, |text| self.open_cookie(text));
        opened.map(|opened| opened.names.session.clone())
    }

    pub(crate) fn check_times(
        &self,
        session: &Session,
        now: OffsetDateTime,
    ) -> Result<(), SignedOut> {
        let idle = now.unix_timestamp().saturating_sub(session.seen);
        if milliseconds(now) >= self.end_of(session) {
            Err(SignedOut::LifetimeEnded)
        } else if idle >= seconds(self.settings.idle_timeout) {
            Err(SignedOut::Idle)
        } else {
            Ok(())
        }
    }

    /// When a session ends at the latest: as was said at its sign-in or by an ID token since, or by today's
    /// `session.absolute_timeout` if that is earlier. In milliseconds since 1970.
    pub(super) fn end_of(&self, session: &Session) -> i64 {
        let lifetime = seconds(self.settings.absolute_timeout).saturating_mul(1000);
        session.ends.min(session.started.saturating_add(lifetime))
    }

    /// Notes that the session is in use. `false` when that was noted a short while ago: a tenth of the
    /// idle time, so that few answers carry a cookie.
    pub(crate) async fn touch(&self, current: &mut CurrentSession, now: OffsetDateTime) -> bool {
        if !self.is_touch_due(current, now) {
            return false;
        }
        let now_s = now.unix_timestamp();
        let mut touched = current.clone();
        Arc::make_mut(&mut touched.session).seen = now_s;
        if self.is_in_cookies {
            // Of requests at one time, one is enough.
            let is_first = self.is_first_touch(&current.name, now_s);
            if is_first {
                *current = touched;
            }
            return is_first;
        }
        touched.version += 1;
        let stored = self.stored(&touched, self.names_of(&touched).into_owners());
        let life = self.kept_for(&touched, now);
        match self.store.replace(&stored, life).await {
            Ok(true) => *current = touched,
            // Another request did as much.
            Ok(false) => {}
            Err(error) => tracing::warn!("{error}; the session's idle time was not renewed"),
        }
        true
    }

    /// Whether its use was noted longer ago than a tenth of the idle time.
    pub(crate) fn is_touch_due(&self, current: &CurrentSession, now: OffsetDateTime) -> bool {
        now.unix_timestamp().saturating_sub(current.seen) >= self.touch_pause()
    }

    fn touch_pause(&self) -> i64 {
        seconds(self.settings.idle_timeout / 10).max(1)
    }

    /// Whether this node noted the use of a session in cookies within the idle time.
    fn was_used(&self, name: &str, now: OffsetDateTime) -> bool {
        let used = self.touched.get(name);
        used.is_some_and(|used| {
            now.unix_timestamp().saturating_sub(used) < seconds(self.settings.idle_timeout)
        })
    }

    fn is_first_touch(&self, name: &str, now: i64) -> bool {
        let pause = self.touch_pause();
        let mut is_first = false;
        self.touched.entry_by_ref(name).and_compute_with(|last| {
            is_first = last.is_none_or(|last| (now - last.into_value()).abs() >= pause);
            if is_first { Op::Put(now) } else { Op::Nop }
        });
        is_first
    }

    /// Keeps a new generation of a session: the one after `current`. Answers what is the newest then, which
    /// another node may have made; `None` when the session was ended meanwhile.
    ///
    /// In cookies, it is kept to be handed to requests with an older copy, until the browser has shown the
    /// cookie with it.
    pub(crate) async fn advance(
        &self,
        current: &CurrentSession,
        mut session: Session,
        mut tokens: SessionTokens,
        now: OffsetDateTime,
    ) -> Result<Option<CurrentSession>, BeginError> {
        session.generation = current.generation.saturating_add(1);
        session.seen = now.unix_timestamp();
        // A refreshed ID token may have moved it.
        if session.ends != current.ends {
            session.ends = self.end_of(&session);
        }
        self.reduce(&mut session, &mut tokens);
        let mut next = self.record(session, &tokens, current.name.clone(), current.version)?;
        if self.is_in_cookies {
            if next.ends > current.ends {
                self.note_last_end(&next, now).await?;
            }
            return Ok(self.advance_in_cookies(next, now).await?);
        }
        let owners = self.names_of(&next).into_owners();
        for _ in 0..MAX_TRIES {
            if self.unrecorded.has(&current.name) {
                return Ok(None);
            }
            next.version += 1;
            let stored = self.stored(&next, owners.clone());
            let life = self.kept_for(&next, now);
            if self.store.replace(&stored, life).await? {
                return Ok(Some(next));
            }
            match self.load(&current.name).await? {
                Err(SignedOut::Ended) => return Ok(None),
                Err(reason) => return Err(StoreError::new(reason.to_string()).into()),
                Ok(other) if other.generation >= next.generation => return Ok(Some(other)),
                // Its use was noted meanwhile.
                Ok(other) => next.version = other.version,
            }
        }
        Err(StoreError::new("the session is replaced again and again").into())
    }

    async fn advance_in_cookies(
        &self,
        next: CurrentSession,
        now: OffsetDateTime,
    ) -> Result<Option<CurrentSession>, StoreError> {
        // The store may be down still.
        if self.unrecorded.has(&next.name) {
            return Ok(None);
        }
        // The record first: who sees the number finds it.
        let life = self.remaining(&next, now);
        if self.is_shared {
            let name = self.names.record(&next.name, next.generation);
            self.store
                .note(&name, &self.value(&next, &name), life)
                .await?;
        } else {
            self.handed_out.keep(&next, life, now.unix_timestamp());
        }
        let names = self.names_of(&next);
        self.note_generation(&next, &names, now).await?;
        self.know_session(&next, now).await?;
        // It may have been ended while the provider was asked, or another node was quicker.
        match self.newer_than(&next, &names, now).await {
            Ok(Newest::ThisOne) => Ok(Some(next)),
            Ok(Newest::Other(other)) => Ok(Some(other)),
            Ok(Newest::None(SignedOut::Ended)) | Err(SignedOut::Ended) => Ok(None),
            // The store has it; what else is there is found out by the next request.
            Ok(Newest::None(_)) | Err(_) => Ok(Some(next)),
        }
    }

    /// Notes that this generation of a session in cookies is the newest, unless a newer one is known.
    async fn note_generation(
        &self,
        session: &Session,
        names: &SessionNames,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        // As was said at the sign-in: tomorrow's `session.absolute_timeout` may be longer than today's.
        let until_end = session.ends.saturating_sub(milliseconds(now));
        let until_end = Duration::from_millis(until_end.max(0).unsigned_abs());
        let life = until_end.saturating_add(MAX_DIFFERENCE);
        let name = &names.generation;
        self.store
            .note_larger(name, session.generation, life)
            .await
            .map(drop)
    }

    /// What is newer than this session, which is at hand.
    pub(crate) async fn newest(
        &self,
        current: &CurrentSession,
        now: OffsetDateTime,
    ) -> Result<Newest, SignedOut> {
        if self.is_in_cookies {
            let names = self.names_of(current);
            return self.newer_than(current, &names, now).await;
        }
        let stored = self.load(&current.name).await;
        Ok(match stored.map_err(|error| unavailable(&error))? {
            Err(reason) => Newest::None(reason),
            Ok(other) if other.generation > current.generation => Newest::Other(other),
            Ok(_) => Newest::ThisOne,
        })
    }

    /// Whether a session in cookies has ended, or a newer generation of it is known.
    async fn newer_than(
        &self,
        session: &Session,
        names: &SessionNames,
        now: OffsetDateTime,
    ) -> Result<Newest, SignedOut> {
        let newest = self.newest_generation(session, names).await?;
        let Some(newest) = newest.filter(|newest| *newest >= session.generation) else {
            // A node that was restarted learns from the first cookie that it sees.
            if session.generation > 1
                && let Err(error) = self.note_generation(session, names, now).await
            {
                tracing::debug!(
                    "{error}; older copies of a session are accepted until they are due"
                );
            }
            return Ok(Newest::ThisOne);
        };
        if newest == session.generation {
            return Ok(Newest::ThisOne);
        }
        if !self.is_shared {
            let kept = self
                .handed_out
                .get(&names.session, newest, now.unix_timestamp());
            return Ok(kept.map_or(Newest::None(SignedOut::Superseded), Newest::Other));
        }
        let name = self.names.record(&names.session, newest);
        let value = self.store.notes(&[&name]).await;
        let value = value.map_err(|error| unavailable(&error))?;
        let Some(value) = value.into_iter().next().flatten() else {
            return Ok(Newest::None(SignedOut::Superseded));
        };
        match self.open_value(&name, value.trim_start_matches(SEEN)) {
            Ok(Some(opened)) => Ok(Newest::Other(CurrentSession::new(
                opened.session,
                opened.body,
                names.session.clone(),
                0,
            ))),
            Err(DecryptError::UnknownKey) => Ok(Newest::None(unknown_key())),
            Ok(None) | Err(_) => Ok(Newest::None(SignedOut::Superseded)),
        }
    }

    /// A browser showed the newest generation: older copies are answered for a short while more.
    async fn newest_was_seen(&self, session: &Session, names: &SessionNames, now: OffsetDateTime) {
        if !self.is_shared {
            let now = now.unix_timestamp();
            self.handed_out
                .seen(&names.session, session.generation, now);
            return;
        }
        if self.seen_newest.get(&*names.session) == Some(session.generation) {
            return;
        }
        let name = self.names.record(&names.session, session.generation);
        let shortened = async {
            let notes = self.store.notes(&[&name]).await?;
            let value = notes.into_iter().flatten().next();
            // Another node may have seen it before.
            if let Some(value) = value.filter(|value| !value.starts_with(SEEN)) {
                let value = format!("{SEEN}{value}");
                self.store.note(&name, &value, AFTER_SEEN).await?;
            }
            Ok::<_, StoreError>(())
        };
        match shortened.await {
            Ok(()) => {
                self.seen_newest
                    .insert(names.session.as_ref().to_owned(), session.generation);
            }
            Err(error) => tracing::debug!("{error}; an older copy is answered for longer"),
        }
    }

    /// Whether an answer may still carry this session: it has not ended, and nothing newer is known.
    pub(crate) async fn may_be_written(
        &self,
        current: &CurrentSession,
        now: OffsetDateTime,
    ) -> bool {
        if !self.is_in_cookies {
            return true;
        }
        let names = self.names_of(current);
        match self.newer_than(current, &names, now).await {
            Ok(Newest::ThisOne) => true,
            Ok(Newest::Other(_) | Newest::None(_)) | Err(_) => false,
        }
    }

    /// The cookies of a session.
    pub(crate) fn set_cookies(
        &self,
        current: &CurrentSession,
        jar: &CookieJar<'_>,
        now: OffsetDateTime,
    ) -> Vec<SetCookie> {
        let life = self.kept_for(current, now);
        let text = if self.is_in_cookies {
            self.cookie_text(current)
        } else {
            let id = current.id.expose();
            self.keys.encrypt_text(Purpose::SessionId, b"", id)
        };
        let set = self.cookies.write(jar, &text, life, now);
        self.warn_of_size(&set);
        set
    }

    /// Says once that proxies with their usual limit refuse such an answer.
    fn warn_of_size(&self, set: &[SetCookie]) {
        let size: usize = set.iter().map(SetCookie::header_len).sum();
        if size > USUAL_HEADER_LIMIT && !self.is_size_known.swap(true, Ordering::Relaxed) {
            let reason = "large_answer";
            tracing::warn!(
                reason,
                "a session takes {size} bytes of response headers; nginx and others refuse more than 4 KB unless they are told otherwise"
            );
            tracing::info!(
                "set `proxy_buffer_size` as the manual's page on deployment says, or keep less with `oidc.session.claims` and `oidc.session.tokens`"
            );
        }
    }

    /// The cookies that end the session in this browser.
    pub(crate) fn removals(&self, jar: &CookieJar<'_>) -> Vec<SetCookie> {
        self.cookies.removals(jar, 0)
    }

    /// A session as text for a shared store, under a name of the caller's.
    pub(crate) fn export(&self, current: &CurrentSession, name: &str) -> String {
        self.value(current, name)
    }

    /// The session that was exported under this name.
    pub(crate) fn import(&self, name: &str, text: &str) -> Option<CurrentSession> {
        let opened = self.open_value(name, text).ok()??;
        let version = u64::from(!self.is_in_cookies);
        Some(CurrentSession::new(
            opened.session,
            opened.body,
            opened.names.session,
            version,
        ))
    }

    /// A session with its record, if it fits.
    fn record(
        &self,
        session: Session,
        tokens: &SessionTokens,
        name: Arc<str>,
        version: u64,
    ) -> Result<CurrentSession, SessionTooLarge> {
        let max = self.settings.max_cookies;
        let too_large = |size| SessionTooLarge::new(&session, tokens, size, max);
        let body = record::encode_body(tokens).map_err(|too_long| too_large(too_long.0))?;
        let current = CurrentSession::new(Arc::new(session), body.into(), name, version);
        if self.is_in_cookies {
            let text = self.cookie_text(&current);
            if !SessionCookies::fits(&text, max) {
                return Err(SessionTooLarge::new(&current, tokens, text.len(), max));
            }
        }
        Ok(current)
    }

    /// The encrypted text of a session in cookies.
    fn cookie_text(&self, current: &CurrentSession) -> String {
        let record = record::encode(current, &current.body);
        URL_SAFE_NO_PAD.encode(self.keys.encrypt(Purpose::Session, b"", &record))
    }

    /// The encrypted text of a session in a store.
    fn value(&self, current: &CurrentSession, name: &str) -> String {
        let record = record::encode(current, &current.body);
        let value = self
            .keys
            .encrypt(Purpose::StoredValue, name.as_bytes(), &record);
        URL_SAFE_NO_PAD.encode(value)
    }

    /// Leaves out what the settings do not keep.
    fn reduce(&self, session: &mut Session, tokens: &mut SessionTokens) {
        if let Some(nonce) = tokens.sources.id_token.get::<String>("nonce") {
            tokens.nonce = Some(Secret::new(nonce));
        }
        let drops = |token| !self.settings.tokens.contains(&token);
        if drops(KeptToken::AccessToken) {
            tokens.access_token = None;
        }
        if drops(KeptToken::RefreshToken) {
            tokens.refresh_token = None;
        }
        if drops(KeptToken::IdToken) {
            tokens.id_token = None;
        }
        if tokens.refresh_token.is_none() {
            session.refresh_due = None;
            session.user_info_due = false;
        }
        self.keep_chosen(&mut session.claims);
        // With an ID token its claims are kept in it, whole.
        if tokens.id_token.is_none() {
            self.keep_source(&mut tokens.sources.id_token);
        }
        if let Some(user_info) = &mut tokens.sources.user_info {
            self.keep_source(user_info);
        }
    }

    /// Removes the claims that the settings do not keep.
    fn keep_chosen(&self, claims: &mut Claims) {
        if self.settings.claims.is_some() {
            claims.retain(|name| self.is_chosen(name));
            return;
        }
        // To retain is to build the object anew.
        for name in ABOUT_THE_REQUEST {
            claims.remove(name);
        }
    }

    /// As [`keep_chosen`](Self::keep_chosen), of one source. What is verified stays beside whether it is: of
    /// which source that is taken depends on it.
    fn keep_source(&self, claims: &mut Claims) {
        let is_beside_chosen = |name: &str| {
            let mut pairs = VERIFIED.iter().filter(|(verified, _)| *verified == name);
            pairs.any(|(_, is_verified)| self.is_chosen(is_verified))
        };
        claims.retain(|name| self.is_chosen(name) || is_beside_chosen(name));
    }

    fn is_chosen(&self, name: &str) -> bool {
        let chosen = self.settings.claims.as_deref();
        !ABOUT_THE_REQUEST.contains(&name)
            && (ALWAYS_KEPT.contains(&name)
                || chosen.is_none_or(|chosen| chosen.iter().any(|claim| claim == name)))
    }

    fn names_of(&self, session: &Session) -> SessionNames {
        let name = self.names.session(&session.id);
        let (subject, sid) = self.owner_names(&session.issuer, &session.claims);
        SessionNames {
            generation: self.names.generation(&name),
            session: name.into(),
            subject,
            sid,
        }
    }

    /// The names of the user, and of the session at the provider, of a session with these claims.
    pub(super) fn owner_names(&self, issuer: &str, claims: &Claims) -> (Vec<String>, Vec<String>) {
        let text = |name| claims.value(name).and_then(Value::as_str);
        let subject = text("sub").unwrap_or_default();
        let sid = match text("sid") {
            Some(sid) => self.names.sid(issuer, sid),
            None => self.names.without_sid(issuer, subject),
        };
        (self.names.subject(issuer, subject), sid)
    }

    fn stored(&self, current: &CurrentSession, owners: Vec<String>) -> StoredSession {
        StoredSession {
            id: current.name().to_owned(),
            version: current.version,
            value: self.value(current, current.name()),
            owners,
        }
    }

    /// How long browser and store keep the session.
    fn kept_for(&self, session: &Session, now: OffsetDateTime) -> Duration {
        let until_end = self.end_of(session).saturating_sub(milliseconds(now));
        let kept = until_end.saturating_add(seconds(KEPT_AFTER_END) * 1000);
        Duration::from_millis(kept.max(0).unsigned_abs())
    }

    /// How long the session lives if it is not used again.
    fn remaining(&self, session: &Session, now: OffsetDateTime) -> Duration {
        let until_end = self.end_of(session).saturating_sub(milliseconds(now));
        let until_idle = session
            .seen
            .saturating_add(seconds(self.settings.idle_timeout))
            .saturating_sub(now.unix_timestamp())
            .saturating_mul(1000);
        Duration::from_millis(until_end.min(until_idle).max(0).unsigned_abs())
    }
}

/// A session that a store has.
fn current(opened: &Opened, stored: &StoredSession) -> CurrentSession {
    CurrentSession::new(
        opened.session.clone(),
        opened.body.clone(),
        opened.names.session.clone(),
        stored.version,
    )
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("is_in_cookies", &self.is_in_cookies)
            .field("is_shared", &self.is_shared)
            .finish_non_exhaustive()
    }
}

/// The store at the address `session.store_url`.
fn shared_store(url: &Secret) -> Result<Arc<dyn SessionStore>, StoreError> {
    match StoreUrl::parse(url.expose()) {
        #[cfg(feature = "redis")]
        Some(StoreUrl::Redis) => Ok(Arc::new(super::store::RedisStore::new(url)?)),
        #[cfg(any(feature = "sqlite", feature = "postgres"))]
        Some(StoreUrl::Sqlite(_) | StoreUrl::Postgres) => {
            Ok(Arc::new(super::store::SqlStore::new(url)?))
        }
        _ => Err(StoreError::new(
            "no cargo feature for the address `session.store_url` is enabled",
        )),
    }
}

/// Logs the error, and says what the guard answers.
pub(super) fn unavailable(error: &StoreError) -> SignedOut {
    tracing::error!(reason = "store_unavailable", "{error}");
    tracing::info!("{}", error.remedy());
    SignedOut::StoreUnavailable
}

/// Logs that another node has another key, and says what the guard answers.
fn unknown_key() -> SignedOut {
    let reason = SignedOut::UnknownKey;
    tracing::error!(reason = reason.reason(), "{reason}");
    tracing::info!(
        "give all nodes the same `secret_key`; while it is changed, list the other one in `oidc.previous_secret_keys` of every node first"
    );
    reason
}

pub(super) fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
