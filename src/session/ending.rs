//! The end of sessions, one or all of a person's, and what is known of those that there are.

use std::{cell::RefCell, time::Duration};

use time::OffsetDateTime;

use super::{
    CurrentSession, EarlierEnds, EndCause, EndsRead, Session, SessionChange, SessionInfo, Sessions,
    SignedOut,
    earlier_ends::new_note,
    generations::Generations,
    milliseconds,
    opened::SessionNames,
    sessions::{MAX_DIFFERENCE, unavailable},
    store::StoreError,
};
use crate::{observing, token::Claims};

/// How many sessions at the provider are known by their `sid` at a node that shares nothing.
const MAX_KNOWN_SIDS: usize = 1_000_000;

/// What stores can keep, and say the rest of.
const MAX_LIFE: Duration = Duration::from_secs(1_000 * 365 * 24 * 60 * 60);
/// How long a sign-in takes at most from its ID token to its session.
const SIGN_IN_TTL: Duration = Duration::from_secs(10 * 60);

/// Which sessions at the provider have sessions here, in cookies: what a request that nobody signed may end.
/// A stranger who does not know a `sid` leaves nothing behind.
pub(super) struct KnownSids(Generations);

impl KnownSids {
    pub(super) fn new() -> KnownSids {
        KnownSids(Generations::new(MAX_KNOWN_SIDS))
    }
}

tokio::task_local! {
    /// The ends that the sign-in knows of which the app is asked about at the moment.
    static SIGN_IN: RefCell<EarlierEnds>;
}

/// Asks the app about a sign-in that has read these ends. Answers also which ends it knows then: what the app
/// itself ends meanwhile, such as the user's other sessions, is not meant for this one.
pub(crate) async fn while_signing_in<T>(
    ends: EarlierEnds,
    asking: impl Future<Output = T>,
) -> (T, EarlierEnds) {
    let asking = async {
        let answer = asking.await;
        (answer, SIGN_IN.with(|ends| ends.take()))
    };
    SIGN_IN.scope(RefCell::new(ends), asking).await
}

impl Sessions {
    /// Ends one session by its name; `known` is that session, where the caller has it. Answers its end, once:
    /// `None` when it had ended before, as one whose end is kept, or is over by its times, as far as that can be
    /// known.
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
        let is_told = self.unrecorded.has(name);
        self.note_end(&[name], now).await?;
        // No other session has this name. Of several who end it, one tells.
        let life = self.settings.absolute_timeout;
        let telling = self
            .store
            .claim(&self.names.told_end(name), "1", life)
            .await;
        let is_first = telling.unwrap_or(true) && !is_told;
        Ok(self.ended(name, known, cause, now).filter(|_| is_first))
    }

    /// Removes a session from the store. `None` when there was none, or only one whose end is kept, or it was over
    /// by its times.
    async fn remove(
        &self,
        name: &str,
        cause: EndCause,
        now: OffsetDateTime,
    ) -> Result<Option<SessionChange>, StoreError> {
        let is_told = self.unrecorded.has(name);
        let session = self.load(name).await?.ok();
        let is_first = self.store.remove(name).await? && !is_told;
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
    ///
    /// The note is first, also where sessions are in the store: a session that begins meanwhile is found among
    /// those of the owner, or its sign-in, which reads once it is there, finds the note.
    pub(crate) async fn end_matching(
        &self,
        owner: &[String],
        cause: EndCause,
        now: OffsetDateTime,
        ended: &mut Vec<SessionChange>,
    ) -> Result<(), StoreError> {
        // Under each key: a node that does not have the newest one yet reads the other.
        let names: Vec<_> = owner.iter().map(String::as_str).collect();
        self.note_end(&names, now).await?;
        if self.is_in_cookies {
            return Ok(());
        }
        for name in owner {
            for id in self.store.ids_of(name).await? {
                ended.extend(self.remove(&id, cause, now).await?);
            }
        }
        Ok(())
    }

    /// Ends the sessions of one session at the provider, when anybody could have asked for it. An end is a note,
    /// so there is none for a `sid` that no session and no sign-in has; where sessions are in cookies, it is told
    /// once for those that have it. Adds the ends.
    pub(crate) async fn end_sid_unsigned(
        &self,
        issuer: &str,
        sid: &str,
        now: OffsetDateTime,
        ended: &mut Vec<SessionChange>,
    ) -> Result<(), StoreError> {
        let cause = EndCause::FrontchannelLogout;
        let owner = self.names.sid(issuer, sid);
        let newest = self.newest_of_sid(issuer, sid, now).await?;
        if newest.is_none() && !self.has_any(&owner).await? {
            return Ok(());
        }
        self.end_matching(&owner, cause, now, ended).await?;
        let Some(newest) = newest.filter(|_| self.is_in_cookies) else {
            return Ok(());
        };
        let told = self.names.told_end_of_sid(issuer, sid, newest);
        if self
            .store
            .claim(&told, "1", self.settings.absolute_timeout)
            .await?
        {
            ended.push(SessionChange::ended_all(issuer, None, Some(sid), cause));
        }
        Ok(())
    }

    /// Whether the store has a session of this owner.
    async fn has_any(&self, owner: &[String]) -> Result<bool, StoreError> {
        if self.is_in_cookies {
            return Ok(false);
        }
        for name in owner {
            if !self.store.ids_of(name).await?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads which ends are noted for the user of a sign-in. To be called once its ID token is accepted, and
    /// again, by [`begin`](Sessions::begin), once its session is there.
    pub(crate) async fn read_ends(
        &self,
        issuer: &str,
        claims: &Claims,
        now: OffsetDateTime,
    ) -> Result<EndsRead, StoreError> {
        if let Some(sid) = claims.value("sid").and_then(serde_json::Value::as_str) {
            let until = now.saturating_add(SIGN_IN_TTL.try_into().unwrap_or_default());
            self.know_sid(issuer, sid, milliseconds(until), now).await?;
        }
        let (subject, sid) = self.owner_names(issuer, claims);
        let names: Vec<_> = subject.iter().chain(&sid).map(String::as_str).collect();
        let notes = self.store.notes_with_life(&names).await?;
        check_length(notes.len(), names.len())?;
        Ok(EndsRead::of(&notes))
    }

    /// Which ends are noted for the user of this session, when one of them is not from before it.
    pub(super) async fn later_ends(
        &self,
        session: &Session,
        now: OffsetDateTime,
    ) -> Result<Option<EarlierEnds>, StoreError> {
        let read = self
            .read_ends(&session.issuer, &session.claims, now)
            .await?;
        let is_later = !session.earlier_ends.have(&read.ends);
        Ok(is_later.then_some(read.ends))
    }

    /// Keeps in mind that there is a session in cookies with this `sid`, for
    /// [`end_sid_unsigned`](Self::end_sid_unsigned). Those in a store are found there.
    pub(super) async fn know_session(
        &self,
        session: &Session,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        match session.sid() {
            Some(sid) if self.is_in_cookies => {
                let ends = self.end_of(session);
                self.know_sid(&session.issuer, sid, ends, now).await
            }
            _ => Ok(()),
        }
    }

    /// Keeps in mind until then, in milliseconds since 1970, that there is a session or a sign-in with this
    /// `sid`.
    async fn know_sid(
        &self,
        issuer: &str,
        sid: &str,
        ends: i64,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let Some(known) = &self.known_sids else {
            return Ok(());
        };
        let life = ends.saturating_sub(milliseconds(now));
        let Ok(life) = u64::try_from(life) else {
            return Ok(());
        };
        // The end itself is the number: of two sessions the later one counts.
        let ends = ends / 1000 + 1;
        let number = ends.max(0).unsigned_abs();
        for name in self.names.known_sid(issuer, sid) {
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

    /// Notes an end: one text under all these names, so that a session knows it under any of them.
    async fn note_end(&self, names: &[&str], now: OffsetDateTime) -> Result<(), StoreError> {
        let life = self.end_life(now).await?;
        let note = new_note(life);
        if let Ok(known) = SIGN_IN.try_with(|ends| ends.borrow().clone()) {
            // Not in place of an end that the sign-in has not read: that one is for it too.
            let notes = self.store.notes(names).await?;
            let there = EarlierEnds::of(notes.iter().flatten().map(String::as_str));
            if known.have(&there) {
                SIGN_IN.with(|ends| ends.borrow_mut().add(&note));
            }
        }
        for name in names {
            self.store.note_end(name, &note, life).await?;
        }
        Ok(())
    }

    /// How long an end is noted: as long as any session lives that it may be for. That may be longer than
    /// today's `session.absolute_timeout`, which another node or yesterday's settings may exceed.
    async fn end_life(&self, now: OffsetDateTime) -> Result<Duration, StoreError> {
        let mut life = self.settings.absolute_timeout;
        if self.is_shared && self.is_in_cookies {
            let names = self.names.last_end(&self.issuer);
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            let notes = self.store.notes(&names).await?;
            let ends = notes.iter().flatten().filter_map(|note| note.parse().ok());
            if let Some(end) = ends.max() {
                let left: i64 = i64::saturating_sub(end, now.unix_timestamp());
                life = life.max(Duration::from_secs(left.max(0).unsigned_abs()));
            }
        }
        // By the clock of the node that began it, and of the node that reads it.
        Ok(life.min(MAX_LIFE) + 2 * MAX_DIFFERENCE)
    }

    /// Tells all nodes when the session ends that ends last, for [`end_life`](Self::end_life).
    pub(super) async fn note_last_end(
        &self,
        session: &Session,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        if !(self.is_shared && self.is_in_cookies) {
            return Ok(());
        }
        let until_end = session.ends.saturating_sub(milliseconds(now)).max(0);
        let life = Duration::from_millis(until_end.unsigned_abs());
        let end = (session.ends / 1000).saturating_add(1).max(0);
        let Some(name) = self.names.last_end(&self.issuer).into_iter().next() else {
            return Ok(());
        };
        let life = life.saturating_add(2 * MAX_DIFFERENCE);
        self.store
            .note_larger(&name, end.unsigned_abs(), life)
            .await
            .map(drop)
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
        let Some(most) = self.max_per_user else {
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
        let notes = notes.and_then(|notes| {
            check_length(notes.len(), asked.len())?;
            Ok(notes)
        });
        let notes = notes.map_err(|error| unavailable(&error))?;
        self.unrecorded.store_answered();
        let mut notes = notes.iter().map(Option::as_deref);
        let generation = notes.next().flatten().and_then(|note| note.parse().ok());
        // No other session has its name.
        let has_ended_itself = notes.next().flatten().is_some();
        let is_ended = |note: &str| !session.earlier_ends.has(note);
        if has_ended_itself || notes.flatten().any(is_ended) {
            Err(SignedOut::Ended)
        } else {
            Ok(generation)
        }
    }
}

/// A store that answers for fewer names than it was asked about says of none that there is no note.
fn check_length(answered: usize, asked: usize) -> Result<(), StoreError> {
    match answered == asked {
        true => Ok(()),
        false => Err(StoreError::new(format!(
            "it answered for {answered} of {asked} names"
        ))),
    }
}
