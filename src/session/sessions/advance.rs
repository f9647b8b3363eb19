//! Updates of a live session: last use, refreshed generations, and which generation is the newest.

use std::sync::Arc;

use moka::ops::compute::Op;
use time::OffsetDateTime;

use super::{BeginError, MAX_CLOCK_SKEW, MAX_TRIES, SEEN_MARK, Sessions, seconds, unavailable, unknown_key};
use crate::{
    keys::DecryptError,
    session::{
        CurrentSession, NoSession, Session, SessionTokens, refreshed_sessions::AFTER_SEEN, session_cache::SessionNames,
        store::StoreError, time_until,
    },
};

impl Sessions {
    /// Records that the session is in use. Returns `false` if the last record is younger than a tenth of the idle
    /// timeout, so that few responses set a cookie.
    pub(crate) async fn touch(&self, current: &mut CurrentSession, now: OffsetDateTime) -> bool {
        if !self.is_touch_due(current, now) {
            return false;
        }
        let now_s = now.unix_timestamp();
        let mut touched = current.clone();
        Arc::make_mut(&mut touched.session).seen = now_s;
        if self.is_in_cookies {
            // One of several simultaneous requests is enough.
            let is_first = self.is_first_touch(&current.name, now_s);
            if is_first {
                *current = touched;
                self.record_use(current, now).await;
            }
            return is_first;
        }
        touched.version += 1;
        let stored = self.stored(&touched, self.names_of(&touched).into_index_keys());
        let ttl = self.storage_ttl(&touched, now);
        match self.store.replace(&stored, ttl).await {
            Ok(true) => *current = touched,
            // Another request recorded its use.
            Ok(false) => {}
            Err(error) => tracing::warn!("{error}; the session's idle time was not renewed"),
        }
        true
    }

    /// Whether the last recorded use is older than a tenth of the idle timeout.
    pub(crate) fn is_touch_due(&self, current: &CurrentSession, now: OffsetDateTime) -> bool {
        now.unix_timestamp().saturating_sub(current.seen) >= self.touch_interval()
    }

    pub(super) fn touch_interval(&self) -> i64 {
        seconds(self.settings.idle_timeout / 10).max(1)
    }

    pub(super) fn is_first_touch(&self, name: &str, now: i64) -> bool {
        let pause = self.touch_interval();
        let mut is_first = false;
        self.touched.entry_by_ref(name).and_compute_with(|last| {
            is_first = last.is_none_or(|last| (now - last.into_value()).abs() >= pause);
            if is_first { Op::Put(now) } else { Op::Nop }
        });
        is_first
    }

    /// Stores the next generation of `current`. Returns the newest generation, which may be another node's; `None` when
    /// the session was ended meanwhile.
    ///
    /// For sessions in cookies, the new generation is kept for requests with an older copy, until the browser has sent
    /// the new cookie.
    pub(crate) async fn advance(
        &self,
        current: &CurrentSession,
        mut session: Session,
        tokens: SessionTokens,
        now: OffsetDateTime,
    ) -> Result<Option<CurrentSession>, BeginError> {
        session.seen = now.unix_timestamp();
        self.advance_unused(current, session, tokens, now).await
    }

    /// Like [`advance`](Self::advance), for a change that is not a use of the session: its idle time goes on.
    pub(crate) async fn advance_unused(
        &self,
        current: &CurrentSession,
        mut session: Session,
        mut tokens: SessionTokens,
        now: OffsetDateTime,
    ) -> Result<Option<CurrentSession>, BeginError> {
        session.generation = current.generation.saturating_add(1);
        // A refreshed ID token may have changed the end.
        if session.ends != current.ends {
            session.ends = self.end_of(&session);
        }
        self.drop_unkept(&mut session, &mut tokens);
        let mut next = self.record(session, &tokens, current.name.clone(), current.version)?;
        if self.is_in_cookies {
            if next.ends > current.ends {
                self.record_last_end(&next, now).await?;
            }
            return Ok(self.advance_in_cookies(next, now).await?);
        }
        let index_keys = self.names_of(&next).into_index_keys();
        for _ in 0..MAX_TRIES {
            if self.unrecorded.contains(&current.name) {
                return Ok(None);
            }
            next.version += 1;
            let stored = self.stored(&next, index_keys.clone());
            let ttl = self.storage_ttl(&next, now);
            if self.store.replace(&stored, ttl).await? {
                return Ok(Some(next));
            }
            match self.load(&current.name).await? {
                Err(NoSession::Ended) => return Ok(None),
                Err(reason) => return Err(StoreError::new(reason.to_string()).into()),
                Ok(other) if other.generation >= next.generation => return Ok(Some(other)),
                // Its last use was recorded meanwhile.
                Ok(other) => {
                    next.version = other.version;
                    let session = Arc::make_mut(&mut next.session);
                    session.seen = session.seen.max(other.seen);
                }
            }
        }
        Err(StoreError::new("the session was replaced by other requests at each attempt").into())
    }

    pub(super) async fn advance_in_cookies(
        &self,
        next: CurrentSession,
        now: OffsetDateTime,
    ) -> Result<Option<CurrentSession>, StoreError> {
        // The end may not be recorded in the store yet.
        if self.unrecorded.contains(&next.name) {
            return Ok(None);
        }
        // Write the record first: a node that reads the new number must find the record.
        let ttl = self.remaining(&next, now);
        if self.is_shared {
            let name = self.names.record(&next.name, next.generation);
            self.store.put_entry(&name, &self.export(&next, &name), ttl).await?;
        } else {
            self.refreshed_sessions.insert(&next, ttl, now.unix_timestamp());
        }
        let names = self.names_of(&next);
        self.record_generation(&next, &names, now).await?;
        self.record_known_sid(&next, now).await?;
        // The session may have ended during the refresh, or another node was faster.
        match self.newer_than(&next, &names, now).await {
            Ok(newer) => Ok(Some(newer.unwrap_or(next))),
            Err(NoSession::Ended) => Ok(None),
            // The generation is stored; the next request finds out about anything newer.
            Err(_) => Ok(Some(next)),
        }
    }

    /// Lets the record of a generation of a session in cookies expire, once there is a newer one: an app may change the
    /// data of a session often, and each generation is an entry in a shared store.
    pub(crate) async fn expire_superseded(&self, superseded: &CurrentSession) {
        if !self.is_in_cookies || !self.is_shared || superseded.generation == 1 {
            return;
        }
        // A node may just have read that it is the newest.
        let name = self.names.record(&superseded.name, superseded.generation);
        let value = format!("{SEEN_MARK}{}", self.export(superseded, &name));
        if let Err(error) = self.store.put_entry(&name, &value, AFTER_SEEN).await {
            tracing::debug!("{error}; a record of a former generation is kept for longer");
        }
    }

    /// Records that this generation of a session in cookies is the newest, unless a newer one is known.
    pub(super) async fn record_generation(
        &self,
        session: &Session,
        names: &SessionNames,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        // The end as set at sign-in: a later configuration may raise `session.absolute_timeout`.
        let ttl = time_until(session.ends, now).saturating_add(MAX_CLOCK_SKEW);
        let recorded = self
            .store
            .put_entry_if_larger(&names.generation, session.generation, ttl);
        recorded.await.map(drop)
    }

    /// The newest known generation of this session; `None` if it is this one.
    pub(crate) async fn newest(
        &self,
        current: &CurrentSession,
        now: OffsetDateTime,
    ) -> Result<Option<CurrentSession>, NoSession> {
        if self.is_in_cookies {
            let names = self.names_of(current);
            return self.newer_than(current, &names, now).await;
        }
        let stored = self.load(&current.name).await.map_err(unavailable)??;
        Ok(Some(stored).filter(|stored| stored.generation > current.generation))
    }

    /// A newer known generation of a session in cookies, if there is one. Fails if the session has ended, or if the
    /// newer one is not usable.
    pub(super) async fn newer_than(
        &self,
        session: &Session,
        names: &SessionNames,
        now: OffsetDateTime,
    ) -> Result<Option<CurrentSession>, NoSession> {
        let newest = self.newest_generation(session, names).await?.unwrap_or(0);
        if newest < session.generation {
            // After a restart, a node learns the generation from the first cookie that it receives.
            if session.generation > 1
                && let Err(error) = self.record_generation(session, names, now).await
            {
                tracing::debug!("{error}; older copies of a session are accepted until they are due");
            }
            return Ok(None);
        }
        if newest == session.generation {
            return Ok(None);
        }
        self.generation(&names.session, newest, now).await.map(Some)
    }

    /// A generation of a session in cookies, while it is kept for older copies.
    pub(super) async fn generation(
        &self,
        session: &str,
        number: u64,
        now: OffsetDateTime,
    ) -> Result<CurrentSession, NoSession> {
        if !self.is_shared {
            let cached = self.refreshed_sessions.get(session, number, now.unix_timestamp());
            return cached.ok_or(NoSession::Superseded);
        }
        let name = self.names.record(session, number);
        let value = self.entry(&name).await.map_err(unavailable)?;
        let value = value.ok_or(NoSession::Superseded)?;
        match self.decrypt_record(&name, value.trim_start_matches(SEEN_MARK)) {
            Ok(decrypted) => Ok(decrypted.current(0)),
            Err(DecryptError::UnknownKey) => Err(unknown_key()),
            Err(_) => Err(NoSession::Superseded),
        }
    }

    /// Records that the browser has sent the newest generation: older copies are accepted for `AFTER_SEEN` more.
    pub(super) async fn record_newest_seen(&self, session: &Session, names: &SessionNames, now: OffsetDateTime) {
        if !self.is_shared {
            let now = now.unix_timestamp();
            self.refreshed_sessions
                .mark_seen(&names.session, session.generation, now);
            return;
        }
        if self.seen_newest.get(&*names.session) == Some(session.generation) {
            return;
        }
        let name = self.names.record(&names.session, session.generation);
        let shortened = async {
            let value = self.entry(&name).await?;
            // Another node may have recorded it before.
            if let Some(value) = value.filter(|value| !value.starts_with(SEEN_MARK)) {
                let value = format!("{SEEN_MARK}{value}");
                self.store.put_entry(&name, &value, AFTER_SEEN).await?;
            }
            Ok::<_, StoreError>(())
        };
        match shortened.await {
            Ok(()) => {
                self.seen_newest
                    .insert(names.session.as_ref().to_owned(), session.generation);
            }
            Err(error) => tracing::debug!("{error}; an older copy of a session is accepted for longer"),
        }
    }
}
