//! The distributed lock of a refresh: one node at a time, where nodes share a store.

use std::time::Duration;
use std::time::Instant;

use time::OffsetDateTime;

use super::{FORCED_INTERVAL, STORE_PAUSE, STORE_TRIES, failure::Failure, is_due};
use crate::{
    relying_party::Client,
    secret::Secret,
    session::{CurrentSession, Newest, store::StoreError},
};

/// The interval at which a node polls for the result of another node.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

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
        if !self.sessions.is_shared {
            let newest = match self.sessions.newest(current, now).await {
                Ok(Newest::ThisOne) => current.clone(),
                Ok(Newest::Other(session)) if !is_forced && !is_due(session.refresh_due, now) => {
                    return Ok(Refreshed::Elsewhere(session));
                }
                // For example a pending session, or one that is newer than the copy of a `User` kept by the app.
                Ok(Newest::Other(session)) => session,
                Ok(Newest::None(reason)) | Err(reason) => return Err(Failure::NoSession(reason)),
            };
            return self
                .refresh(&metadata, &newest, is_forced, now)
                .await
                .map(Refreshed::Here);
        }
        let mut current = current.clone();
        if is_forced {
            let is_recent = self.was_refreshed_elsewhere(&current, now).await?;
            match self.sessions.newest(&current, now).await {
                Ok(Newest::ThisOne) => {}
                Ok(Newest::Other(session)) => current = session,
                Ok(Newest::None(reason)) | Err(reason) => return Err(Failure::NoSession(reason)),
            }
            if is_recent {
                return Ok(Refreshed::Elsewhere(current));
            }
        }
        let lock = self.sessions.names.refresh_lock(current.name());
        let holder = Secret::random();
        // The TTL of the lock, which a node that stops half-way leaves behind.
        let longest = self.settings.http.timeout.saturating_mul(3) + STORE_PAUSE * STORE_TRIES;
        let begun = Instant::now();
        loop {
            let store = &self.sessions.store;
            let is_ours = store.lock(&lock, holder.expose(), longest).await?;
            let newest = self.sessions.newest(&current, now).await;
            let unlock = async || {
                if is_ours && let Err(error) = store.unlock(&lock, holder.expose()).await {
                    tracing::warn!("{error}; the lock of a refresh expires by itself");
                }
            };
            let newest = match newest {
                Ok(Newest::ThisOne) => current.clone(),
                Ok(Newest::Other(session)) if !is_due(session.refresh_due, now) => {
                    unlock().await;
                    return Ok(Refreshed::Elsewhere(session));
                }
                // For example a pending session, which another node may be about to replace.
                Ok(Newest::Other(session)) => session,
                Ok(Newest::None(reason)) | Err(reason) => {
                    unlock().await;
                    return Err(Failure::NoSession(reason));
                }
            };
            if is_ours {
                let result = self.refresh(&metadata, &newest, is_forced, now).await;
                if result.is_ok() {
                    self.record_refresh(&newest, now).await;
                }
                unlock().await;
                return result.map(Refreshed::Here);
            }
            if begun.elapsed() > longest {
                return Err(Failure::later(
                    "refresh_elsewhere",
                    "another node did not complete the refresh".to_owned(),
                ));
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Whether another node refreshed this session so recently that no refresh is forced.
    async fn was_refreshed_elsewhere(&self, current: &CurrentSession, now: OffsetDateTime) -> Result<bool, StoreError> {
        let name = self.sessions.names.last_refresh(current.name());
        let entries = self.sessions.store.entries(&[&name]).await?;
        let at = entries.into_iter().flatten().next();
        let at = at.and_then(|at| at.parse::<i64>().ok());
        Ok(at.is_some_and(|at| (now.unix_timestamp() - at).abs() < FORCED_INTERVAL))
    }

    /// Records in the store that this session was refreshed.
    async fn record_refresh(&self, current: &CurrentSession, now: OffsetDateTime) {
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
