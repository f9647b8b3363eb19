//! The end of sessions, one or all of a person's, and what is known of those that there are.

use time::OffsetDateTime;

use super::{
    CurrentSession, SessionInfo, Sessions, SignedOut, milliseconds, opened::Opened,
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

    /// Ends all sessions of an owner, of which there is a name in [`Names`]. Answers how many, if the store
    /// can say so.
    pub(crate) async fn end_matching(
        &self,
        owner: &str,
        now: OffsetDateTime,
    ) -> Result<Option<usize>, StoreError> {
        if self.is_in_cookies {
            self.note_end(owner, now).await?;
            return Ok(None);
        }
        let mut ended = 0;
        for id in self.store.ids_of(owner).await? {
            ended += usize::from(self.store.remove(&id).await?);
        }
        Ok(Some(ended))
    }

    /// As [`end_matching`](Self::end_matching), when anybody could have asked for it. With sessions in
    /// cookies each call leaves a note, so only so many are taken in a second; `false` beyond.
    pub(crate) async fn end_matching_unsigned(
        &self,
        owner: &str,
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
        owner: &str,
        now: OffsetDateTime,
    ) -> Result<Option<Vec<SessionInfo>>, StoreError> {
        if self.is_in_cookies {
            return Ok(None);
        }
        let mut sessions = vec![];
        for id in self.store.ids_of(owner).await? {
            let session = self.load(&id).await?;
            sessions.extend(session.filter(|session| self.check_times(session, now).is_ok()));
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

    /// Whether a session that lives in cookies was ended: it alone, with the session at the provider, or
    /// with all sessions of the person.
    pub(super) async fn check_not_ended(&self, opened: &Opened) -> Result<(), SignedOut> {
        let names = &opened.names;
        let (session, subject) = (&*names.session, &*names.subject);
        let notes = match &names.sid {
            Some(sid) => self.store.notes(&[session, subject, sid]).await,
            None => self.store.notes(&[session, subject]).await,
        };
        let notes = match notes {
            Ok(notes) => notes,
            Err(error) => return Err(unavailable(&error)),
        };
        let ended = |note: &String| {
            note.parse()
                .is_ok_and(|at: i64| opened.session.started <= at)
        };
        match notes.iter().flatten().any(ended) {
            true => Err(SignedOut::Ended),
            false => Ok(()),
        }
    }
}
