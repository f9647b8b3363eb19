//! What changes a session while it lives: its use, its refreshes, and which generation is the newest.

use std::sync::Arc;
use std::time::Duration;

use moka::ops::compute::Op;
use time::OffsetDateTime;

use super::{
    BeginError, MAX_DIFFERENCE, MAX_TRIES, SEEN, Sessions, seconds, unavailable, unknown_key,
};
use crate::{
    keys::DecryptError,
    session::{
        CurrentSession, NoSession, Session, SessionTokens, handed_out::AFTER_SEEN, milliseconds,
        session_cache::SessionNames, store::StoreError,
    },
};

/// What is newer than a session at hand.
pub(crate) enum Newest {
    /// Nothing: it is the newest.
    ThisOne,
    Other(CurrentSession),
    /// Why there is none to go on with.
    None(NoSession),
}

impl Sessions {
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
                self.note_use(current, now).await;
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

    pub(super) fn touch_pause(&self) -> i64 {
        seconds(self.settings.idle_timeout / 10).max(1)
    }

    pub(super) fn is_first_touch(&self, name: &str, now: i64) -> bool {
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
        let index_keys = self.names_of(&next).into_owners();
        for _ in 0..MAX_TRIES {
            if self.unrecorded.has(&current.name) {
                return Ok(None);
            }
            next.version += 1;
            let stored = self.stored(&next, index_keys.clone());
            let life = self.kept_for(&next, now);
            if self.store.replace(&stored, life).await? {
                return Ok(Some(next));
            }
            match self.load(&current.name).await? {
                Err(NoSession::Ended) => return Ok(None),
                Err(reason) => return Err(StoreError::new(reason.to_string()).into()),
                Ok(other) if other.generation >= next.generation => return Ok(Some(other)),
                // Its use was noted meanwhile.
                Ok(other) => next.version = other.version,
            }
        }
        Err(StoreError::new("the session is replaced again and again").into())
    }

    pub(super) async fn advance_in_cookies(
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
                .put_entry(&name, &self.value(&next, &name), life)
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
            Ok(Newest::None(NoSession::Ended)) | Err(NoSession::Ended) => Ok(None),
            // The store has it; what else is there is found out by the next request.
            Ok(Newest::None(_)) | Err(_) => Ok(Some(next)),
        }
    }

    /// Notes that this generation of a session in cookies is the newest, unless a newer one is known.
    pub(super) async fn note_generation(
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
            .put_entry_if_larger(name, session.generation, life)
            .await
            .map(drop)
    }

    /// What is newer than this session, which is at hand.
    pub(crate) async fn newest(
        &self,
        current: &CurrentSession,
        now: OffsetDateTime,
    ) -> Result<Newest, NoSession> {
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
    pub(super) async fn newer_than(
        &self,
        session: &Session,
        names: &SessionNames,
        now: OffsetDateTime,
    ) -> Result<Newest, NoSession> {
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
            return Ok(kept.map_or(Newest::None(NoSession::Superseded), Newest::Other));
        }
        let name = self.names.record(&names.session, newest);
        let value = self.store.entries(&[&name]).await;
        let value = value.map_err(|error| unavailable(&error))?;
        let Some(value) = value.into_iter().next().flatten() else {
            return Ok(Newest::None(NoSession::Superseded));
        };
        match self.open_value(&name, value.trim_start_matches(SEEN)) {
            Ok(Some(opened)) => Ok(Newest::Other(CurrentSession::new(
                opened.session,
                opened.body,
                names.session.clone(),
                0,
            ))),
            Err(DecryptError::UnknownKey) => Ok(Newest::None(unknown_key())),
            Ok(None) | Err(_) => Ok(Newest::None(NoSession::Superseded)),
        }
    }

    /// A browser showed the newest generation: older copies are answered for a short while more.
    pub(super) async fn newest_was_seen(
        &self,
        session: &Session,
        names: &SessionNames,
        now: OffsetDateTime,
    ) {
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
            let notes = self.store.entries(&[&name]).await?;
            let value = notes.into_iter().flatten().next();
            // Another node may have seen it before.
            if let Some(value) = value.filter(|value| !value.starts_with(SEEN)) {
                let value = format!("{SEEN}{value}");
                self.store.put_entry(&name, &value, AFTER_SEEN).await?;
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
}
