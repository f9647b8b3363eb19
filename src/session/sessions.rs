//! The sessions of this app: begun, found, renewed and ended, in cookies or in a store.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use rocket::http::CookieJar;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;
use time::OffsetDateTime;

use super::{
    CurrentSession, LAYOUT, Names, Session, SessionTokens, SessionTooLarge, SignedOut,
    cookie::{CookieSeal, SetCookie},
    ending::UnsignedEnds,
    milliseconds,
    opened::{Opened, OpenedSessions, SessionNames},
    pieces,
    store::{MemoryStore, SessionStore, StoreError, StoredSession},
};
use crate::{
    Clock, Secret,
    settings::{SessionSettings, StoreKind},
};

/// The name of the session's cookie, before its prefix. Further pieces add `_1`, `_2`, …
pub(crate) const COOKIE: &str = "oidc_session";
/// The name of the cookie with the session's tokens.
pub(super) const TOKENS_COOKIE: &str = "oidc_tokens";
/// How long a refreshed session is handed to requests that still carry the old one.
pub(crate) const SHARED_FOR: Duration = Duration::from_secs(30);
/// How often a replacement is tried again after another request replaced the session.
const MOST_TRIES: usize = 5;

/// The sessions of this app.
pub(crate) struct Sessions {
    pub(super) settings: SessionSettings,
    seal: CookieSeal,
    pub(crate) names: Names,
    pub(super) is_in_cookies: bool,
    /// Has the sessions, or with cookies: which of them have ended.
    pub(crate) store: Arc<dyn SessionStore>,
    /// Whether other nodes use the store too.
    pub(crate) is_shared: bool,
    pub(super) unsigned_ends: Mutex<UnsignedEnds>,
    opened: OpenedSessions,
}

/// What a store keeps of a session, before it is sealed.
#[derive(Serialize, Deserialize)]
struct Record {
    session: Session,
    tokens: SessionTokens,
}

/// Why a session does not begin.
#[derive(Debug, Error)]
pub(crate) enum BeginError {
    #[error(transparent)]
    TooLarge(#[from] SessionTooLarge),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What became of a refresh on another node.
pub(crate) enum Elsewhere {
    NotYet,
    Refreshed(CurrentSession),
    Ended,
}

impl Sessions {
    /// Where the settings say, or in the app's own store.
    pub(crate) fn open(
        settings: SessionSettings,
        seal: CookieSeal,
        own: Option<Arc<dyn SessionStore>>,
        clock: &Clock,
    ) -> Result<Sessions, StoreError> {
        let shared = match (own, &settings.url) {
            (Some(own), _) => Some(own),
            (None, Some(url)) => Some(redis(url)?),
            (None, None) => None,
        };
        let is_own = shared.is_some() && settings.url.is_none();
        let is_shared = shared.is_some();
        let is_in_cookies = settings.store == StoreKind::Cookie && !is_own;
        if is_in_cookies && settings.max_per_user.is_some() {
            tracing::warn!(
                "`session.max_per_user` changes nothing: sessions in cookies know of no other"
            );
        }
        Ok(Sessions {
            names: seal.names(),
            seal,
            is_in_cookies,
            store: shared.unwrap_or_else(|| {
                Arc::new(MemoryStore::new(settings.max_sessions).clock(clock.clone()))
            }),
            is_shared,
            unsigned_ends: Mutex::default(),
            opened: OpenedSessions::new(settings.cache),
            settings,
        })
    }

    /// What goes on beside the requests, from liftoff on.
    pub(crate) fn lift_off(&self) {
        self.opened.begin_forgetting();
    }

    /// For the report at liftoff.
    pub(crate) fn describe(&self) -> &'static str {
        match (self.is_in_cookies, self.is_shared) {
            (true, false) => {
                "sealed cookies; what ends them early (sign-out elsewhere, at the provider, by the app) is known to this node only"
            }
            (true, true) => "sealed cookies; all nodes know which have ended",
            (false, false) => "in the memory of this process, for one node",
            (false, true) => "in a store that all nodes share",
        }
    }

    /// Begins a session in this browser, in place of any that it has. [`cookies`](Self::cookies) are what
    /// the browser is to have.
    pub(crate) async fn begin(
        &self,
        mut session: Session,
        mut tokens: SessionTokens,
        jar: &CookieJar<'_>,
        now: OffsetDateTime,
    ) -> Result<CurrentSession, BeginError> {
        self.reduce(&mut session, &mut tokens);
        let current = self.unstored(session, tokens);
        if self.is_in_cookies {
            self.texts(&current)?;
        } else {
            if let Some(id) = self.id_in(jar) {
                self.store.remove(&self.names.session(&id)).await?;
            }
            self.make_room(&current, now).await?;
            let stored = self.stored(&current, self.names_of(&current).into_owners());
            let life = self.remaining(&current, now);
            self.store.create(&stored, life).await?;
        }
        Ok(current)
    }

    /// A session that has not begun.
    pub(crate) fn unstored(&self, session: Session, tokens: SessionTokens) -> CurrentSession {
        let names = self.names_of(&session);
        CurrentSession::new(
            Arc::new(session),
            names.session,
            u64::from(!self.is_in_cookies),
            Some(Arc::new(tokens)),
        )
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
            return Ok(self.load(&current.name).await?.is_none());
        }
        let names = self.names_of(current);
        let names = [
            Some(&*names.session),
            Some(&*names.subject),
            names.sid.as_deref(),
        ];
        let names: Vec<&str> = names.into_iter().flatten().collect();
        let notes = self.store.notes(&names).await?;
        let ended = |note: &String| note.parse().is_ok_and(|at: i64| current.started <= at);
        Ok(notes.iter().flatten().any(ended))
    }

    /// A session as a text for a store that nodes share, encrypted, and bound to its name there.
    pub(crate) fn export(&self, current: &CurrentSession, name: &str) -> String {
        self.seal.seal_text(name, &record_text(current))
    }

    /// Reads what [`export`](Self::export) wrote under this name.
    pub(crate) fn import(&self, name: &str, text: &str) -> Option<CurrentSession> {
        let text = self.seal.open_text(name, text)?;
        let Record { session, tokens } = serde_json::from_str(&text).ok()?;
        Some(self.unstored(session, tokens))
    }

    /// The session of this browser.
    pub(crate) async fn find(
        &self,
        jar: &CookieJar<'_>,
        now: OffsetDateTime,
    ) -> Result<CurrentSession, SignedOut> {
        let found = match self.is_in_cookies {
            true => self.find_in_cookies(jar).await,
            false => self.find_in_store(jar).await,
        }?;
        self.check_times(&found, now)?;
        Ok(found)
    }

    async fn find_in_cookies(&self, jar: &CookieJar<'_>) -> Result<CurrentSession, SignedOut> {
        let sealed = pieces::read(&self.seal, jar, COOKIE).ok_or(SignedOut::NoSession)?;
        let opened = self
            .opened
            .in_cookies(sealed, |sealed| {
                pieces::open(&self.seal, COOKIE, sealed, |_, text| {
                    self.opened(serde_json::from_str(text).ok()?, None)
                })
            })
            .ok_or(SignedOut::Unreadable)?;
        self.check_not_ended(&opened).await?;

        let tokens = pieces::read(&self.seal, jar, TOKENS_COOKIE);
        Ok(CurrentSession::with_sealed_tokens(
            opened.session.clone(),
            opened.names.session.clone(),
            &self.seal,
            tokens.map(Cow::into_owned),
        ))
    }

    async fn find_in_store(&self, jar: &CookieJar<'_>) -> Result<CurrentSession, SignedOut> {
        let cookie = self.seal.sealed(jar, COOKIE).ok_or(SignedOut::NoSession)?;
        let session = self
            .opened
            .in_store(cookie, || Some(self.names.session(&self.id_in(jar)?)))
            .ok_or(SignedOut::Unreadable)?;
        let stored = self.store.load(&session.name).await;
        let Some(stored) = stored.map_err(|error| unavailable(&error))? else {
            return Err(SignedOut::Ended);
        };
        session
            .opened(&stored, || self.open_stored(&session.name, &stored))
            .map(|opened| current(&opened, &stored))
            .ok_or(SignedOut::Ended)
    }

    /// The session's id in this browser's cookie, where sessions are in a store.
    fn id_in(&self, jar: &CookieJar<'_>) -> Option<Secret> {
        let text = self.seal.open(jar, COOKIE)??;
        text.strip_prefix("id:").map(Secret::new)
    }

    /// The session of this name in the store.
    pub(super) async fn load(&self, name: &str) -> Result<Option<CurrentSession>, StoreError> {
        let Some(stored) = self.store.load(name).await? else {
            return Ok(None);
        };
        let opened = self.open_stored(name, &stored);
        Ok(opened.map(|opened| current(&opened, &stored)))
    }

    /// Opens what the store has under this name. What does not open is of another key, another name or
    /// another version of this crate: no session.
    fn open_stored(&self, name: &str, stored: &StoredSession) -> Option<Opened> {
        let text = self.seal.open_text(name, &stored.value)?;
        let record: Record = serde_json::from_str(&text).ok()?;
        self.opened(record.session, Some(record.tokens))
    }

    /// What was opened just now, if it is of this version.
    fn opened(&self, session: Session, tokens: Option<SessionTokens>) -> Option<Opened> {
        (session.layout == LAYOUT).then(|| Opened {
            names: self.names_of(&session),
            session: Arc::new(session),
            tokens: tokens.map(Arc::new),
        })
    }

    pub(super) fn check_times(
        &self,
        session: &Session,
        now: OffsetDateTime,
    ) -> Result<(), SignedOut> {
        let age = milliseconds(now).saturating_sub(session.started);
        let idle = now.unix_timestamp().saturating_sub(session.seen);
        if age / 1000 >= seconds(self.settings.lifetime) {
            Err(SignedOut::LifetimeEnded)
        } else if idle >= seconds(self.settings.idle) {
            Err(SignedOut::Idle)
        } else {
            Ok(())
        }
    }

    /// Notes that the session is in use. `None` when that was noted a short while ago: a tenth of
    /// the idle time, so that few answers carry a cookie.
    pub(crate) async fn touch(
        &self,
        current: &mut CurrentSession,
        jar: &CookieJar<'_>,
        now: OffsetDateTime,
    ) -> Option<Vec<SetCookie>> {
        if now.unix_timestamp() - current.seen < seconds(self.settings.idle / 10) {
            return None;
        }
        let mut touched = current.clone();
        Arc::make_mut(&mut touched.session).seen = now.unix_timestamp();
        if self.is_in_cookies {
            *current = touched;
            return self.identity_cookies(current, jar, now).ok();
        }
        touched.version += 1;
        let stored = self.stored(&touched, self.names_of(&touched).into_owners());
        match self
            .store
            .replace(&stored, self.remaining(&touched, now))
            .await
        {
            Ok(true) => *current = touched,
            // Another request did as much.
            Ok(false) => {}
            Err(error) => tracing::warn!("{error}; the session's idle time was not renewed"),
        }
        self.identity_cookies(current, jar, now).ok()
    }

    /// Replaces what a session holds after a refresh. `None` when it was ended meanwhile. What else
    /// changed the session in a store, such as its use, does not stand in the way; another refresh does,
    /// and then its result is the session.
    pub(crate) async fn replace(
        &self,
        current: &CurrentSession,
        mut session: Session,
        mut tokens: SessionTokens,
        now: OffsetDateTime,
    ) -> Result<Option<CurrentSession>, BeginError> {
        self.reduce(&mut session, &mut tokens);
        let owners = self.names_of(&session).into_owners();
        let generation = tokens.generation;
        let mut next = CurrentSession::new(
            Arc::new(session),
            current.name.clone(),
            current.version,
            Some(Arc::new(tokens)),
        );
        if self.is_in_cookies {
            self.texts(&next)?;
            self.share(current, &next).await?;
            return Ok(Some(next));
        }
        for _ in 0..MOST_TRIES {
            next.version += 1;
            let stored = self.stored(&next, owners.clone());
            if self
                .store
                .replace(&stored, self.remaining(&next, now))
                .await?
            {
                return Ok(Some(next));
            }
            match self.load(&current.name).await? {
                None => return Ok(None),
                Some(other) if other.generation() >= generation => return Ok(Some(other)),
                Some(other) => next.version = other.version,
            }
        }
        Err(StoreError::new("the session is replaced again and again").into())
    }

    /// Leaves a refreshed cookie session for the other nodes.
    async fn share(&self, old: &CurrentSession, new: &CurrentSession) -> Result<(), StoreError> {
        if !self.is_shared {
            return Ok(());
        }
        let name = self.names.refreshed(&old.name, old.generation());
        let sealed = self.seal.seal_text(&name, &record_text(new));
        self.store.note(&name, &sealed, SHARED_FOR).await
    }

    /// What became of the refresh of this session, if another node did it.
    pub(crate) async fn refreshed_elsewhere(
        &self,
        current: &CurrentSession,
    ) -> Result<Elsewhere, StoreError> {
        if !self.is_in_cookies {
            return Ok(match self.load(&current.name).await? {
                None => Elsewhere::Ended,
                Some(other) if other.generation() > current.generation() => {
                    Elsewhere::Refreshed(other)
                }
                Some(_) => Elsewhere::NotYet,
            });
        }
        let name = self.names.refreshed(&current.name, current.generation());
        let note = self.store.notes(&[&name]).await?.pop().flatten();
        let text = note.and_then(|sealed| self.seal.open_text(&name, &sealed));
        let record = text.and_then(|text| serde_json::from_str::<Record>(&text).ok());
        Ok(match record {
            Some(Record { session, tokens }) => Elsewhere::Refreshed(CurrentSession::new(
                Arc::new(session),
                current.name.clone(),
                0,
                Some(Arc::new(tokens)),
            )),
            None => Elsewhere::NotYet,
        })
    }

    /// All cookies of a session: those that guards read, and those with the tokens.
    pub(crate) fn cookies(
        &self,
        current: &CurrentSession,
        jar: &CookieJar<'_>,
        now: OffsetDateTime,
    ) -> Result<Vec<SetCookie>, SessionTooLarge> {
        let mut cookies = self.identity_cookies(current, jar, now)?;
        if !self.is_in_cookies {
            cookies.extend(pieces::removals(&self.seal, jar, TOKENS_COOKIE, 0));
            return Ok(cookies);
        }
        let (_, tokens) = self.texts(current)?;
        // As long as the session may live: it is renewed with each refresh, and not with each use.
        let life = self.settings.lifetime.saturating_sub(age(current, now));
        let id = format!("{}.{}", current.id.expose(), current.generation());
        let most = self.settings.max_cookies;
        let tokens = pieces::write(
            &self.seal,
            jar,
            TOKENS_COOKIE,
            (&id, &tokens),
            most,
            (life, now),
        );
        cookies.extend(tokens.unwrap_or_default());
        Ok(cookies)
    }

    fn identity_cookies(
        &self,
        current: &CurrentSession,
        jar: &CookieJar<'_>,
        now: OffsetDateTime,
    ) -> Result<Vec<SetCookie>, SessionTooLarge> {
        let life = self.remaining(current, now);
        if !self.is_in_cookies {
            let id = format!("id:{}", current.id.expose());
            let mut cookies = vec![self.seal.set(COOKIE, &id, "/", life, now)];
            cookies.extend(pieces::removals(&self.seal, jar, COOKIE, 1));
            return Ok(cookies);
        }
        let text = identity_text(current);
        let (id, most) = (current.id.expose(), self.settings.max_cookies);
        pieces::write(&self.seal, jar, COOKIE, (id, &text), most, (life, now))
            .ok_or_else(|| SessionTooLarge::of_claims(current, text.len(), most))
    }

    /// The texts of both parts, if each fits into its cookies.
    fn texts(&self, current: &CurrentSession) -> Result<(String, String), SessionTooLarge> {
        let most = self.settings.max_cookies;
        // Pieces are cut between characters, so each but the last may lack three bytes.
        let fits = |text: &str| text.len() + 3 * (most - 1) <= pieces::PIECE * most;
        let identity = identity_text(current);
        if !fits(&identity) {
            return Err(SessionTooLarge::of_claims(current, identity.len(), most));
        }
        let tokens = current.tokens().cloned().unwrap_or_default();
        let text = serde_json::to_string(&*tokens)
            .expect("tokens are strings and numbers, which always serialize");
        if !fits(&text) {
            return Err(SessionTooLarge::of_tokens(&tokens, text.len(), most));
        }
        Ok((identity, text))
    }

    /// The cookies that end the session in this browser.
    pub(crate) fn removals(&self, jar: &CookieJar<'_>) -> Vec<SetCookie> {
        let mut cookies = pieces::removals(&self.seal, jar, COOKIE, 0);
        cookies.extend(pieces::removals(&self.seal, jar, TOKENS_COOKIE, 0));
        cookies
    }

    /// Leaves out what the settings do not keep.
    fn reduce(&self, session: &mut Session, tokens: &mut SessionTokens) {
        if let Some(nonce) = session.claims.get::<String>("nonce") {
            tokens.nonce = Some(Secret::new(nonce));
        }
        // They bind a token to its request, and say nothing about the person.
        let of_the_request = ["nonce", "at_hash", "c_hash"];
        let always = ["iss", "sub", "aud", "auth_time", "sid"];
        let chosen = self.settings.claims.as_deref();
        session.claims.retain(|name| {
            !of_the_request.contains(&name)
                && (always.contains(&name)
                    || chosen.is_none_or(|chosen| chosen.iter().any(|claim| claim == name)))
        });
        let keeps = |name: &str| self.settings.tokens.iter().any(|token| token == name);
        tokens.access_token = tokens.access_token.take().filter(|_| keeps("access_token"));
        tokens.refresh_token = tokens
            .refresh_token
            .take()
            .filter(|_| keeps("refresh_token"));
        tokens.id_token = tokens.id_token.take().filter(|_| keeps("id_token"));
        if tokens.refresh_token.is_none() {
            tokens.refresh_due = None;
        }
        session.refresh_due = tokens.refresh_due;
    }

    fn names_of(&self, session: &Session) -> SessionNames {
        let sid = session.claims.value("sid").and_then(Value::as_str);
        SessionNames {
            session: self.names.session(&session.id).into(),
            subject: self.names.subject(&session.issuer, session.subject()),
            sid: sid.map(|sid| self.names.sid(&session.issuer, sid)),
        }
    }

    fn stored(&self, current: &CurrentSession, owners: Vec<String>) -> StoredSession {
        StoredSession {
            id: current.name().to_owned(),
            version: current.version,
            value: self.seal.seal_text(current.name(), &record_text(current)),
            owners,
        }
    }

    /// How long the session lives if it is not used again.
    fn remaining(&self, session: &Session, now: OffsetDateTime) -> Duration {
        self.settings
            .lifetime
            .saturating_sub(age(session, now))
            .min(self.settings.idle)
    }
}

impl CurrentSession {
    fn generation(&self) -> u32 {
        self.tokens().map_or(0, |tokens| tokens.generation)
    }
}

/// A session that a store has.
fn current(opened: &Opened, stored: &StoredSession) -> CurrentSession {
    CurrentSession::new(
        opened.session.clone(),
        opened.names.session.clone(),
        stored.version,
        opened.tokens.clone(),
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

#[cfg(feature = "redis")]
fn redis(url: &Secret) -> Result<Arc<dyn SessionStore>, StoreError> {
    Ok(Arc::new(super::store::RedisStore::new(url)?))
}

#[cfg(not(feature = "redis"))]
fn redis(_: &Secret) -> Result<Arc<dyn SessionStore>, StoreError> {
    Err(StoreError::new(
        "the cargo feature `redis` is not turned on",
    ))
}

/// Tells the operator, and what to tell the guard.
pub(super) fn unavailable(error: &StoreError) -> SignedOut {
    tracing::error!(reason = "store_unavailable", "{error}");
    tracing::info!("{}", error.remedy());
    SignedOut::StoreUnavailable
}

fn identity_text(session: &Session) -> String {
    serde_json::to_string(session)
        .expect("a session is strings, numbers and JSON, which always serialize")
}

fn record_text(current: &CurrentSession) -> String {
    let tokens = current.tokens().cloned().unwrap_or_default();
    serde_json::to_string(&serde_json::json!({ "session": *current.session, "tokens": *tokens }))
        .expect("a session is strings, numbers and JSON, which always serialize")
}

fn age(session: &Session, now: OffsetDateTime) -> Duration {
    Duration::from_millis(
        milliseconds(now)
            .saturating_sub(session.started)
            .max(0)
            .unsigned_abs(),
    )
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
