//! The end of sessions, one or all of a person's, and what is known of those that there are.

use time::OffsetDateTime;

use super::{
    CurrentSession, Session, SessionInfo, Sessions, SignedOut, milliseconds, opened::SessionNames,
    sessions::unavailable, store::StoreError,
};
use crate::observing;

/// How many notes a second are taken on nobody's signature: fewer in the lifetime of a session than a
/// memory store holds.
const MOST_UNSIGNED_ENDS: u32 = 20;

/// How many notes of ended sessions were taken in the present second on nobody's signature.
#[derive(Default)]
pub(super) struct UnsignedEnds {
    second: i64,
    count: u32,
}

impl Sessions {
    /// Ends one session by its name. `false` when there was none, if the store can say so.
    pub(crate) async fn end(&self, name: &str, now: OffsetDateTime) -> Result<bool, StoreError> {
        if self.is_in_cookies {
            self.note_end(name, now).await?;
            return Ok(true);
        }
        self.store.remove(name).await
    }

    /// Ends all sessions of an owner, whose names under each key [`Names`](super::Names) makes. Answers how
    /// many, if the store can say so.
    pub(crate) async fn end_matching(
        &self,
        owner: &[String],
        now: OffsetDateTime,
    ) -> Result<Option<usize>, StoreError> {
        if self.is_in_cookies {
            // Under each key: a node that does not have the newest one yet reads the other.
            for name in owner {
                self.note_end(name, now).await?;
            }
            return Ok(None);
        }
        let mut ended = 0;
        for name in owner {
            for id in self.store.ids_of(name).await? {
                ended += usize::from(self.store.remove(&id).await?);
            }
        }
        Ok(Some(ended))
    }

    /// As [`end_matching`](Self::end_matching), when anybody could have asked for it. With sessions in
    /// cookies each call leaves a note, so only so many are taken in a second; `false` beyond.
    pub(crate) async fn end_matching_unsigned(
        &self,
        owner: &[String],
        now: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        if self.is_in_cookies && !self.may_note_unsigned(now) {
            return Ok(false);
        }
        self.end_matching(owner, now).await?;
        Ok(true)
    }

    fn may_note_unsigned(&self, now: OffsetDateTime) -> bool {
        let Ok(mut ends) = self.unsigned_ends.lock() else {
            return false;
        };
        if ends.second != now.unix_timestamp() {
            *ends = UnsignedEnds {
                second: now.unix_timestamp(),
                count: 0,
            };
        }
        ends.count += 1;
        ends.count <= MOST_UNSIGNED_ENDS
    }

    async fn note_end(&self, name: &str, now: OffsetDateTime) -> Result<(), StoreError> {
        let at = milliseconds(now).to_string();
        self.store.note(name, &at, self.settings.lifetime).await
    }

    /// The sessions of an owner, oldest first; `None` where they live in cookies.
    pub(crate) async fn of(
        &self,
        owner: &[String],
        now: OffsetDateTime,
    ) -> Result<Option<Vec<SessionInfo>>, StoreError> {
        if self.is_in_cookies {
            return Ok(None);
        }
        let mut sessions = vec![];
        for name in owner {
            for id in self.store.ids_of(name).await? {
                let session = self.load(&id).await?.ok();
                sessions.extend(session.filter(|session| self.check_times(session, now).is_ok()));
            }
        }
        sessions.sort_by_key(|session| session.started);
        let info = |session: &CurrentSession| {
            let started = session.started();
            let seen = OffsetDateTime::from_unix_timestamp(session.seen);
            SessionInfo {
                id: session.name().to_owned(),
                started,
                // Of when it was seen only the second is known.
                seen: seen.unwrap_or(started).max(started),
            }
        };
        Ok(Some(sessions.iter().map(info).collect()))
    }

    /// Ends the oldest sessions of a person who has as many as `session.max_per_user` allows.
    pub(super) async fn make_room(
        &self,
        current: &CurrentSession,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let Some(most) = self.settings.max_per_user else {
            return Ok(());
        };
        let owner = self.names.subject(&current.issuer, current.subject());
        let sessions = self.of(&owner, now).await?.unwrap_or_default();
        for session in sessions
            .iter()
            .take((sessions.len() + 1).saturating_sub(most))
        {
            let ended = self.store.remove(&session.id).await?;
            observing::sessions_ended("max_per_user", usize::from(ended));
        }
        Ok(())
    }

    /// The newest generation of a session in cookies, if it is known. Fails when the session was ended: it
    /// alone, with the session at the provider, or with all sessions of the user. One call to the store.
    pub(super) async fn newest_generation(
        &self,
        session: &Session,
        names: &SessionNames,
    ) -> Result<Option<u64>, SignedOut> {
        let mut asked: Vec<&str> = Vec::with_capacity(6);
        asked.push(&names.generation);
        asked.extend(names.ends());
        let notes = self.store.notes(&asked).await;
        let notes = notes.map_err(|error| unavailable(&error))?;
        let mut notes = notes.iter().map(Option::as_deref);
        let generation = notes.next().flatten().and_then(|note| note.parse().ok());
        // No other session has its name: it has ended, whatever the time is by which clock.
        let has_ended_itself = notes.next().flatten().is_some();
        let is_ended = |note: &str| note.parse().is_ok_and(|at: i64| session.started <= at);
        if has_ended_itself || notes.flatten().any(is_ended) {
            Err(SignedOut::Ended)
        } else {
            Ok(generation)
        }
    }
}
