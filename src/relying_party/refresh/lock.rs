//! The distributed lock of a refresh: one node at a time, where nodes share a store.

use std::time::Duration;
use std::time::Instant;

use time::OffsetDateTime;

use tracing::Instrument;

use super::{FORCED_INTERVAL, STORE_PAUSE, STORE_TRIES, failure::Failure, is_due, pending, session_locks::SessionLock};
use crate::{
    relying_party::Client,
    secret::Secret,
    session::{BeginError, CurrentSession, NoSession, store::StoreError},
};

/// The interval at which a node polls for the result of another node.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The interval at which a node tries to store a refresh token that it could not store.
const STORE_LATER_PAUSE: Duration = Duration::from_millis(500);

/// The lock of a session's refresh.
pub(super) struct RefreshLock {
    /// The newest generation of the session.
    pub(super) newest: CurrentSession,
    /// The lock in a shared store.
    of_nodes: Option<HeldLock>,
    _here: SessionLock,
}

/// What became of waiting for the lock.
pub(super) enum Locked {
    Held(RefreshLock),
    /// Another request or node has done what the lock was for.
    Needless(CurrentSession),
}

/// A lock in a shared store.
struct HeldLock {
    name: String,
    holder: Secret,
    /// When it expires by itself.
    until: Instant,
}

/// A refreshed session.
pub(super) enum Refreshed {
    Here(CurrentSession),
    /// Another node refreshed it, or it was refreshed before.
    Elsewhere(CurrentSession),
}

impl Client<'_> {
    /// Refreshes the session unless another node does; otherwise waits for that node's result.
    pub(super) async fn refresh_with_lock(
        &self,
        current: &CurrentSession,
        is_forced: bool,
        now: OffsetDateTime,
    ) -> Result<Refreshed, Failure> {
        // Before the lock, which covers only the token request and a write.
        let metadata = self.provider.metadata(now).await?;
        let mut current = current.clone();
        if is_forced {
            let is_recent = self.was_refreshed_elsewhere(&current, now).await?;
            // The app may have kept a `User` with an older copy.
            let newest = self.sessions.newest(&current, now).await;
            current = newest.map_err(Failure::NoSession)?.unwrap_or(current);
            if is_recent {
                return Ok(Refreshed::Elsewhere(current));
            }
        }
        let due = current.refresh_due;
        // A generation that only has another refresh token is due when the one before it was.
        let is_refreshed = |newest: &CurrentSession| {
            let is_only_rotated = is_forced && newest.refresh_due == due;
            !is_due(newest.refresh_due, now) && !is_only_rotated
        };
        let lock = match self.lock_refresh(&current, now, is_refreshed).await? {
            Locked::Needless(session) => return Ok(Refreshed::Elsewhere(session)),
            Locked::Held(lock) => lock,
        };
        let result = self.refresh(&metadata, &lock.newest, is_forced, now).await;
        if result.is_ok() {
            self.record_refresh(&lock.newest, now).await;
        }
        self.unlock_refresh(lock).await;
        result.map(Refreshed::Here)
    }

    /// Takes the lock of a session's refresh: of this process first, then of all nodes. While it is held, no other
    /// request with the session's refresh token is sent. Gives up if `is_needless` of a newer generation, which is
    /// then returned.
    pub(super) async fn lock_refresh(
        &self,
        current: &CurrentSession,
        now: OffsetDateTime,
        is_needless: impl Fn(&CurrentSession) -> bool,
    ) -> Result<Locked, Failure> {
        let elsewhere = || {
            Failure::later(
                "refresh_elsewhere",
                "another request or node did not complete the refresh".to_owned(),
            )
        };
        // The TTL of the lock, which a node that stops half-way leaves behind.
        let longest = self.settings.http.timeout.saturating_mul(3) + STORE_PAUSE * STORE_TRIES;
        let begun = Instant::now();
        let here = self.refreshes.locks.lock(current.name());
        let here = tokio::time::timeout(longest, here).await.map_err(|_| elsewhere())?;

        let name = self.sessions.names.refresh_lock(current.name());
        let holder = Secret::random();
        let (store, is_shared) = (&self.sessions.store, self.sessions.is_shared);
        let (is_ours, locked_at, newest) = loop {
            let locked_at = Instant::now();
            let is_ours = !is_shared || store.lock(&name, holder.expose(), longest).await?;
            let newest = self.sessions.newest(current, now).await;
            let is_over = match &newest {
                Ok(Some(session)) => is_needless(session),
                Ok(None) => false,
                Err(_) => true,
            };
            if is_ours || is_over {
                break (is_ours, locked_at, newest);
            }
            if begun.elapsed() > longest {
                return Err(elsewhere());
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        };
        let lock = |newest| RefreshLock {
            newest,
            of_nodes: (is_shared && is_ours).then_some(HeldLock {
                name,
                holder,
                until: locked_at + longest,
            }),
            _here: here,
        };
        let needless = match newest {
            Ok(Some(session)) if is_needless(&session) => Ok(Locked::Needless(session)),
            Err(reason) => Err(Failure::NoSession(reason)),
            // For example a pending session, which another node may be about to replace.
            Ok(newest) => return Ok(Locked::Held(lock(newest.unwrap_or_else(|| current.clone())))),
        };
        self.unlock_refresh(lock(current.clone())).await;
        needless
    }

    /// Releases the lock; if a new refresh token could not be stored, once it is stored.
    pub(super) async fn unlock_refresh(&self, lock: RefreshLock) {
        let Some(of_nodes) = lock.of_nodes else {
            return;
        };
        if self.refreshes.unstored.contains_key(lock.newest.name()) {
            self.store_later(lock.newest, of_nodes);
        } else if let Err(error) = self
            .sessions
            .store
            .unlock(&of_nodes.name, of_nodes.holder.expose())
            .await
        {
            tracing::warn!("{error}; the lock of a refresh expires by itself");
        }
    }

    /// Stores the new refresh token of a session once the store responds; until then the lock keeps other nodes from
    /// sending the former one.
    fn store_later(&self, refreshed: CurrentSession, lock: HeldLock) {
        let (rp, provider) = (self.rp.clone(), self.provider.clone());
        let storing = async move {
            let client = Client {
                rp: &rp,
                provider: &provider,
            };
            while Instant::now() + STORE_LATER_PAUSE < lock.until {
                tokio::time::sleep(STORE_LATER_PAUSE).await;
                if client.store_unstored(&refreshed, rp.clock.now()).await {
                    break;
                }
            }
            if let Err(error) = rp.sessions.store.unlock(&lock.name, lock.holder.expose()).await {
                tracing::warn!("{error}; the lock of a refresh expires by itself");
            }
        };
        self.tasks.spawn(storing.instrument(tracing::debug_span!("refresh")));
    }

    /// Stores the new refresh token of a session that was refreshed. Returns `false` while the store does not respond.
    async fn store_unstored(&self, refreshed: &CurrentSession, now: OffsetDateTime) -> bool {
        let Some(refresh_token) = self.refreshes.unstored.get(refreshed.name()) else {
            return true;
        };
        let newest = match self.sessions.newest(refreshed, now).await {
            Ok(None) => refreshed,
            Err(NoSession::StoreUnavailable) => return false,
            // It has ended, or it was stored in spite of the error.
            Ok(Some(_)) | Err(_) => return true,
        };
        let old = newest.tokens().cloned().unwrap_or_default();
        let (pending, tokens) = pending(newest, &old, Some(refresh_token), now);
        match self.sessions.advance(newest, pending, tokens, now).await {
            Ok(_) => {
                self.refreshes.unstored.invalidate(refreshed.name());
                true
            }
            Err(BeginError::Store(_)) => false,
            Err(_) => true,
        }
    }

    /// Whether another node refreshed this session so recently that no refresh is forced.
    async fn was_refreshed_elsewhere(&self, current: &CurrentSession, now: OffsetDateTime) -> Result<bool, StoreError> {
        if !self.sessions.is_shared {
            return Ok(false);
        }
        let name = self.sessions.names.last_refresh(current.name());
        let at = self.sessions.entry(&name).await?;
        let at = at.and_then(|at| at.parse::<i64>().ok());
        Ok(at.is_some_and(|at| (now.unix_timestamp() - at).abs() < FORCED_INTERVAL))
    }

    /// Records in a shared store that this session was refreshed.
    async fn record_refresh(&self, current: &CurrentSession, now: OffsetDateTime) {
        if !self.sessions.is_shared {
            return;
        }
        let name = self.sessions.names.last_refresh(current.name());
        let at = now.unix_timestamp().to_string();
        let ttl = Duration::from_secs(FORCED_INTERVAL.unsigned_abs());
        if let Err(error) = self.sessions.store.put_entry(&name, &at, ttl).await {
            tracing::debug!("{error}; another node may force a refresh too early");
        }
    }
}

impl Refreshed {
    pub(super) fn into_session(self) -> CurrentSession {
        match self {
            Refreshed::Here(session) | Refreshed::Elsewhere(session) => session,
        }
    }
}
