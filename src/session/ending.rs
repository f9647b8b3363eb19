//! The end of sessions, one or all of a person's, and what is known of those that there are.

use std::time::Duration;

use time::OffsetDateTime;

use super::{
    CurrentSession, EndCause, Session, SessionChange, SessionInfo, Sessions, SignedOut,
    generations::Generations, milliseconds, opened::SessionNames, sessions::unavailable,
    store::StoreError,
};
use crate::observing;

/// How many sessions at the provider are known by their `sid` at a node that shares nothing.
const MAX_KNOWN_SIDS: usize = 1_000_000;

/// Which sessions at the provider have sessions here, in cookies: what a request that nobody signed may end.
/// A stranger who does not know a `sid` leaves nothing behind.
pub(super) struct KnownSids(Generations);

impl KnownSids {
    pub(super) fn new() -> KnownSids {
        KnownSids(Generations::new(MAX_KNOWN_SIDS))
    }
}

impl Sessions {
    /// Ends one session by its name; `known` is that session, where the caller has it. Answers its end, once:
    /// `None` when it had ended before or is over by its times, as far as that can be known.
    pub(crate) async fn end(
        &self,
        name: &str,
        known: Option<&Session>,
        cause: EndCause,
        now: OffsetDateTime,
    ) -> Result<Option<SessionChange>, StoreError> {
        if !self.is_in_cookies {
            return self.remove(name, cause, now).await;
        }
        // No other session has this name: the first note is as good as any, and is made by one request.
        let at = milliseconds(now).to_string();
        let is_first = self.store.claim(name, &at, self.settings.lifetime).await?;
        Ok(self.ended(name, known, cause, now).filter(|_| is_first))
    }

    /// Removes a session from the store. `None` when there was none, or it was over by its times.
    async fn remove(
        &self,
        name: &str,
        cause: EndCause,
        now: OffsetDateTime,
    ) -> Result<Option<SessionChange>, StoreError> {
        let session = self.load(name).await?.ok();
        let is_first = self.store.remove(name).await?;
        Ok(self
            .ended(name, session.as_deref(), cause, now)
            .filter(|_| is_first))
    }

    /// The end of a session; `None` when it is over by its times, which whoever brings it notices.
    pub(super) fn ended(
        &self,
        name: &str,
        session: Option<&Session>,
        cause: EndCause,
        now: OffsetDateTime,
    ) -> Option<SessionChange> {
        let Some(session) = session else {
            return Some(SessionChange::ended_by_name(&self.issuer, name, cause));
        };
        let is_alive = self.check_times(session, now).is_ok();
        is_alive.then(|| SessionChange::ended(name, session, cause))
    }

    /// Ends all sessions of an owner, whose names under each key [`Names`](super::Names) makes. Adds their ends,
    /// also when the store fails in the middle of it; none where sessions are in cookies.
    pub(crate) async fn end_matching(
        &self,
        owner: &[String],
        cause: EndCause,
        now: OffsetDateTime,
        ended: &mut Vec<SessionChange>,
    ) -> Result<(), StoreError> {
        if self.is_in_cookies {
            // Under each key: a node that does not have the newest one yet reads the other.
            for name in owner {
                self.note_end(name, now).await?;
            }
            return Ok(());
        }
        for name in owner {
            for id in self.store.ids_of(name).await? {
                ended.extend(self.remove(&id, cause, now).await?);
            }
        }
        Ok(())
    }

    /// Ends the sessions of one session at the provider, when anybody could have asked for it. With sessions in
    /// cookies an end is a note, so there is none for a `sid` that no session has, and it is told once for the
    /// sessions that have it. Adds the ends.
    pub(crate) async fn end_sid_unsigned(
        &self,
        issuer: &str,
        sid: &str,
        now: OffsetDateTime,
        ended: &mut Vec<SessionChange>,
    ) -> Result<(), StoreError> {
        let cause = EndCause::FrontchannelLogout;
        let owner = self.names.sid(issuer, sid);
        if !self.is_in_cookies {
            return self.end_matching(&owner, cause, now, ended).await;
        }
        let Some(newest) = self.newest_of_sid(issuer, sid, now).await? else {
            return Ok(());
        };
        self.end_matching(&owner, cause, now, ended).await?;
        let told = self.names.told_end_of_sid(issuer, sid, newest);
        if self.store.claim(&told, "1", self.settings.lifetime).await? {
            ended.push(SessionChange::ended_all(issuer, None, Some(sid), cause));
        }
        Ok(())
    }

    /// Keeps in mind that there is a session with this `sid`, for
    /// [`end_sid_unsigned`](Self::end_sid_unsigned).
    pub(super) async fn know_sid(
        &self,
        session: &Session,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let Some(known) = &self.known_sids else {
            return Ok(());
        };
        let (true, Some(sid)) = (self.is_in_cookies, session.sid()) else {
            return Ok(());
        };
        let ends = self.end_of(session);
        let life = ends.saturating_sub(milliseconds(now));
        let Ok(life) = u64::try_from(life) else {
            return Ok(());
        };
        // The end itself is the number: of two sessions the later one counts.
        let ends = ends / 1000 + 1;
        let number = ends.max(0).unsigned_abs();
        for name in self.names.known_sid(&session.issuer, sid) {
            if self.is_shared {
                let life = Duration::from_millis(life);
                self.store.note_larger(&name, number, life).await?;
            } else {
                known.0.advance(&name, number, ends, now.unix_timestamp());
            }
        }
        Ok(())
    }

    /// The number of the newest session with this `sid`, if there is one.
    async fn newest_of_sid(
        &self,
        issuer: &str,
        sid: &str,
        now: OffsetDateTime,
    ) -> Result<Option<u64>, StoreError> {
        let Some(known) = &self.known_sids else {
            return Ok(None);
        };
        let names = self.names.known_sid(issuer, sid);
        if self.is_shared {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            let notes = self.store.notes(&names).await?;
            let numbers = notes.iter().flatten();
            // What is no number is known all the same.
            return Ok(numbers.map(|note| note.parse().unwrap_or(0)).max());
        }
        let now = now.unix_timestamp();
        Ok(names.iter().filter_map(|name| known.0.get(name, now)).max())
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
        ended: &mut Vec<SessionChange>,
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
            let end = self.remove(&session.id, EndCause::MaxPerUser, now).await?;
            observing::sessions_ended("max_per_user", usize::from(end.is_some()));
            ended.extend(end);
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
        if self.unrecorded.has(&names.session) {
            return Err(SignedOut::Ended);
        }
        let mut asked: Vec<&str> = Vec::with_capacity(6);
        asked.push(&names.generation);
        asked.extend(names.ends());
        let notes = self.store.notes(&asked).await;
        let notes = notes.map_err(|error| unavailable(&error))?;
        self.unrecorded.store_answered();
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
