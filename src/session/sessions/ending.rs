//! Ending of sessions: one, or all of a user or of a provider's session; and the entries in the store that record it.

use std::{cell::RefCell, time::Duration};

use time::OffsetDateTime;

use super::{MAX_CLOCK_SKEW, Sessions, unavailable};
use crate::session::{
    CurrentSession, EarlierEnds, EndCause, EndsRead, NoSession, Session, SessionChange, SessionInfo,
    earlier_ends::{excepts, new_end_entry},
    from_milliseconds, milliseconds,
    session_cache::SessionNames,
    store::StoreError,
    time_until,
};
use crate::{observing, token::Claims};

/// Maximum TTL: every store can keep it, and can report the remaining part.
pub(super) const MAX_TTL: Duration = Duration::from_secs(1_000 * 365 * 24 * 60 * 60);
/// Maximum time of a sign-in between its ID token and its session.
const SIGN_IN_TTL: Duration = Duration::from_secs(10 * 60);

tokio::task_local! {
    /// The recorded ends that the current sign-in knows, while the app's callbacks decide about it.
    static SIGN_IN: RefCell<EarlierEnds>;
}

/// Runs the app's callbacks for a sign-in that has read these ends. Also returns the ends known afterwards: what the
/// app itself ends meanwhile, such as the user's other sessions, does not end this one.
pub(crate) async fn while_signing_in<T>(ends: EarlierEnds, handler: impl Future<Output = T>) -> (T, EarlierEnds) {
    let handler = async {
        let answer = handler.await;
        (answer, SIGN_IN.with(|ends| ends.take()))
    };
    SIGN_IN.scope(RefCell::new(ends), handler).await
}

impl Sessions {
    /// Ends one session by its name; `known` is that session, if the caller has it. Returns its end once: `None` if it
    /// had already ended, its end awaits recording, or it is expired, as far as that can be known.
    pub(crate) async fn end(
        &self,
        name: &str,
        known: Option<&CurrentSession>,
        cause: EndCause,
        now: OffsetDateTime,
    ) -> Result<Option<SessionChange>, StoreError> {
        let is_queued = self.unrecorded.contains(name);
        if !self.is_in_cookies {
            let (end, session) = self.remove(name, cause, now).await?;
            // Its user signed out before, while the store was down.
            let cause = if is_queued { EndCause::SignOut } else { cause };
            self.revoke(name, session.as_ref(), cause);
            return Ok(end);
        }
        self.put_end(&[name], now).await?;
        self.watcher.ended(&[name], cause).await;
        self.revoke(name, known, cause);
        // Session names are unique. Of several callers that end it, one reports.
        let ttl = self.settings.absolute_timeout;
        let is_reporter = self.store.lock(&self.names.end_report_lock(name), "1", ttl).await;
        if is_queued || !is_reporter.unwrap_or(true) {
            return Ok(None);
        }
        if let Some(known) = known {
            self.read_last_use(known, now).await;
        }
        Ok(self.end_to_report(name, known.map(|known| &**known), cause, now))
    }

    /// Removes a session from the store. Returns its end, unless there was none, its end awaits recording, or it is
    /// expired; and the session, if this call removed it and it can be decrypted.
    async fn remove(
        &self,
        name: &str,
        cause: EndCause,
        now: OffsetDateTime,
    ) -> Result<(Option<SessionChange>, Option<CurrentSession>), StoreError> {
        let is_queued = self.unrecorded.contains(name);
        // Also load one whose end awaits recording: its tokens are to be revoked.
        let session = self.load_stored(name).await?.ok();
        if !self.store.remove(name).await? {
            self.watcher.ended_here(&[name], cause);
            return Ok((None, None));
        }
        self.watcher.ended(&[name], cause).await;
        let end = || self.end_to_report(name, session.as_deref(), cause, now);
        let end = if is_queued { None } else { end() };
        Ok((end, session))
    }

    /// The end of a session that ends now, for the first caller on this node. `None` when it is expired: the first
    /// request with it reports that.
    pub(in crate::session) fn end_to_report(
        &self,
        name: &str,
        session: Option<&Session>,
        cause: EndCause,
        now: OffsetDateTime,
    ) -> Option<SessionChange> {
        let end = match session {
            Some(session) if !self.is_alive(name, session, now) => return None,
            Some(session) => SessionChange::ended(name, session, cause),
            None => SessionChange::ended_by_name(&self.provider, &self.issuer, name, cause),
        };
        self.unrecorded.is_first_report(name).then_some(end)
    }

    /// Ends all sessions with one of these index keys, as [`Names`](crate::session::Names) makes them. Pushes the
    /// ends to `ended`, even if the store fails in between; none for sessions in cookies.
    ///
    /// The end is recorded first, also if sessions are in the store: a session that begins meanwhile is either found by
    /// the index key, or its sign-in, which reads the ends once it is stored, finds the entry.
    pub(crate) async fn end_matching(
        &self,
        index_keys: &[String],
        cause: EndCause,
        now: OffsetDateTime,
        ended: &mut Vec<SessionChange>,
    ) -> Result<(), StoreError> {
        // Under each key: a node that does not have the newest key yet reads the other.
        self.put_end(&refs(index_keys), now).await?;
        if self.is_in_cookies {
            self.watcher.ended(&refs(index_keys), cause).await;
            return Ok(());
        }
        for name in index_keys {
            for id in self.store.ids_by_index_key(name).await? {
                ended.extend(self.end(&id, None, cause, now).await?);
            }
        }
        Ok(())
    }

    /// Ends the sessions of one provider session (`sid`) for an unsigned request. An end takes an entry in the store,
    /// so none is written for a `sid` without a session or a sign-in; for sessions in cookies it is reported once.
    /// Pushes the ends to `ended`.
    pub(crate) async fn end_sid_unsigned(
        &self,
        issuer: &str,
        sid: &str,
        now: OffsetDateTime,
        ended: &mut Vec<SessionChange>,
    ) -> Result<(), StoreError> {
        let cause = EndCause::FrontchannelLogout;
        let index_keys = self.names.sid(issuer, sid);
        let newest = self.newest_of_sid(issuer, sid).await?;
        if newest.is_none() && self.ids(&index_keys).await?.is_empty() {
            return Ok(());
        }
        self.end_matching(&index_keys, cause, now, ended).await?;
        let Some(newest) = newest.filter(|_| self.is_in_cookies) else {
            return Ok(());
        };
        let told = self.names.sid_end_report_lock(issuer, sid, newest);
        if self.store.lock(&told, "1", self.settings.absolute_timeout).await? {
            ended.push(SessionChange::ended_all(
                self.provider.clone(),
                issuer,
                None,
                Some(sid),
                cause,
            ));
        }
        Ok(())
    }

    /// The ids of the sessions with any of these index keys; none for sessions in cookies.
    pub(super) async fn ids(&self, index_keys: &[String]) -> Result<Vec<String>, StoreError> {
        let mut ids = vec![];
        if !self.is_in_cookies {
            for index_key in index_keys {
                ids.extend(self.store.ids_by_index_key(index_key).await?);
            }
        }
        Ok(ids)
    }

    /// Reads the recorded ends of the user of a sign-in. Call it once its ID token is accepted;
    /// [`begin`](Sessions::begin) calls it again once the session is stored.
    pub(crate) async fn read_ends(
        &self,
        issuer: &str,
        claims: &Claims,
        now: OffsetDateTime,
    ) -> Result<EndsRead, StoreError> {
        if let Some(sid) = claims.value("sid").and_then(serde_json::Value::as_str) {
            let until = now.saturating_add(SIGN_IN_TTL.try_into().unwrap_or_default());
            self.put_known_sid(issuer, sid, milliseconds(until), now).await?;
        }
        let (subject, sid) = self.index_keys_of(issuer, claims);
        let names = [subject, sid].concat();
        let entries = self.store.entries_with_ttl(&refs(&names)).await?;
        check_length(entries.len(), names.len())?;
        Ok(EndsRead::of(&entries))
    }

    /// The recorded ends of this session's user, if any of them is later than the session.
    pub(in crate::session) async fn later_ends(
        &self,
        session: &Session,
        now: OffsetDateTime,
    ) -> Result<Option<EarlierEnds>, StoreError> {
        let read = self.read_ends(&session.issuer, &session.claims, now).await?;
        let is_later = !session.earlier_ends.contains_all(&read.ends);
        Ok(is_later.then_some(read.ends))
    }

    /// Records that there is a session in cookies with this `sid`, for [`end_sid_unsigned`](Self::end_sid_unsigned).
    /// Sessions in a store are found by their index key.
    pub(in crate::session) async fn record_known_sid(
        &self,
        session: &Session,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        match session.sid() {
            Some(sid) if self.is_in_cookies => {
                let ends = self.end_of(session);
                self.put_known_sid(&session.issuer, sid, ends, now).await
            }
            _ => Ok(()),
        }
    }

    /// Records, until `ends` in milliseconds since 1970, that there is a session or a sign-in with this `sid`.
    async fn put_known_sid(&self, issuer: &str, sid: &str, ends: i64, now: OffsetDateTime) -> Result<(), StoreError> {
        let ttl = time_until(ends, now);
        let Some(known) = self.known_sids.as_ref().filter(|_| !ttl.is_zero()) else {
            return Ok(());
        };
        // The end time is the number: the later of two sessions replaces the earlier.
        let number = (ends / 1000 + 1).unsigned_abs();
        for name in self.names.known_sid(issuer, sid) {
            // A store may round the TTL down to a second.
            known
                .put_entry_if_larger(&name, number, ttl + Duration::from_secs(1))
                .await?;
        }
        Ok(())
    }

    /// The number of the latest session with this `sid`, if any.
    async fn newest_of_sid(&self, issuer: &str, sid: &str) -> Result<Option<u64>, StoreError> {
        let Some(known) = &self.known_sids else {
            return Ok(None);
        };
        let entries = known.entries(&refs(&self.names.known_sid(issuer, sid))).await?;
        // An entry that is not a number still counts as known.
        let numbers = entries.iter().flatten().map(|entry| entry.parse().unwrap_or(0));
        Ok(numbers.max())
    }

    /// Records an end for as long as any affected session may live. That may be longer than `session.absolute_timeout`
    /// here, which another node or an earlier configuration may exceed.
    ///
    /// The longest lifetime is read after the end is recorded: a session that begins meanwhile writes its lifetime
    /// before it reads the ends. So either it finds this end, or its lifetime is found here.
    pub(super) async fn put_end(&self, names: &[&str], now: OffsetDateTime) -> Result<(), StoreError> {
        let ttl = self.settings.absolute_timeout;
        self.put_end_with_ttl(names, ttl).await?;
        match self.longest_ttl(now).await? {
            // The entry outlives its sessions by the maximum clock difference between two nodes.
            Some(longest) if longest > ttl.saturating_add(MAX_CLOCK_SKEW) => {
                self.put_end_with_ttl(names, longest).await
            }
            _ => Ok(()),
        }
    }

    /// Records an end for sessions of this lifetime: the same value under all names, so that a session recognises it
    /// under any of them.
    async fn put_end_with_ttl(&self, names: &[&str], ttl: Duration) -> Result<(), StoreError> {
        // The clocks of the node that began it and of the node that reads it may each differ.
        let ttl = ttl.min(MAX_TTL) + 2 * MAX_CLOCK_SKEW;
        let entry = new_end_entry(ttl);
        if self.replace_known_ends(names, &entry, ttl).await? {
            return Ok(());
        }
        for name in names {
            self.store.put_end(name, &entry, ttl).await?;
        }
        Ok(())
    }

    /// Records an end by the app that does not apply to the current sign-in. Returns `false` without a sign-in, or if
    /// there is an end that the sign-in has not read: that end applies to it and is not overwritten. Some of the names
    /// may have the new entry then.
    async fn replace_known_ends(&self, names: &[&str], entry: &str, ttl: Duration) -> Result<bool, StoreError> {
        let Ok(known) = SIGN_IN.try_with(|ends| ends.borrow().clone()) else {
            return Ok(false);
        };
        let entries = self.entries(names).await?;
        let existing = EarlierEnds::of(entries.iter().flatten().map(String::as_str));
        if !known.contains_all(&existing) {
            return Ok(false);
        }
        for (name, existing) in names.iter().zip(&entries) {
            let existing = existing.as_deref();
            if !self.store.put_end_if_unchanged(name, existing, entry, ttl).await? {
                return Ok(false);
            }
        }
        SIGN_IN.with(|ends| ends.borrow_mut().add(entry));
        Ok(true)
    }

    /// Lets the current sign-in know a new end by the app, so that it does not apply to its session; not if one of the
    /// entries that it replaced does.
    pub(super) fn add_known_end(&self, replaced: &[Option<String>], entry: &str) {
        let replaced = EarlierEnds::of(replaced.iter().flatten().map(String::as_str));
        // Outside of a sign-in there is none to let know.
        let _ = SIGN_IN.try_with(|known| {
            let mut known = known.borrow_mut();
            if known.contains_all(&replaced) {
                known.add(entry);
            }
        });
    }

    /// The remaining lifetime of the session that ends last, for sessions in cookies with a shared store.
    pub(super) async fn longest_ttl(&self, now: OffsetDateTime) -> Result<Option<Duration>, StoreError> {
        if !(self.is_shared && self.is_in_cookies) {
            return Ok(None);
        }
        let entries = self.store.entries(&refs(&self.names.last_end(&self.issuer))).await?;
        let ends = entries.iter().flatten().filter_map(|entry| entry.parse().ok());
        Ok(ends.max().map(|end: i64| {
            let left = end.saturating_sub(now.unix_timestamp());
            Duration::from_secs(left.max(0).unsigned_abs())
        }))
    }

    /// Publishes the end of the session that ends last, for [`longest_ttl`](Self::longest_ttl): under each key,
    /// because a node that does not have the newest key yet reads the other.
    pub(in crate::session) async fn record_last_end(
        &self,
        session: &Session,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        if !(self.is_shared && self.is_in_cookies) {
            return Ok(());
        }
        let ttl = time_until(session.ends, now).saturating_add(2 * MAX_CLOCK_SKEW);
        let end = (session.ends / 1000).saturating_add(1).max(0);
        for name in self.names.last_end(&self.issuer) {
            self.store.put_entry_if_larger(&name, end.unsigned_abs(), ttl).await?;
        }
        Ok(())
    }

    /// The sessions with one of these index keys, oldest first; `None` for sessions in cookies.
    pub(crate) async fn of(
        &self,
        index_keys: &[String],
        now: OffsetDateTime,
    ) -> Result<Option<Vec<SessionInfo>>, StoreError> {
        if self.is_in_cookies {
            return Ok(None);
        }
        let mut sessions = vec![];
        for id in self.ids(index_keys).await? {
            let session = self.load(&id).await?.ok();
            sessions.extend(session.filter(|session| self.check_times(session, now).is_ok()));
        }
        sessions.sort_by_key(|session| session.started);
        let info = |session: &CurrentSession| {
            let started = session.started();
            let seen = OffsetDateTime::from_unix_timestamp(session.seen);
            SessionInfo {
                id: session.name().to_owned(),
                provider: session.provider.to_string(),
                started,
                // `seen` has a resolution of one second.
                last_seen: seen.unwrap_or(started).max(started),
                ends: from_milliseconds(self.end_of(session)),
                data: session.data.clone(),
            }
        };
        Ok(Some(sessions.iter().map(info).collect()))
    }

    /// Ends the oldest sessions of a user who has reached `session.max_per_user`.
    pub(in crate::session) async fn enforce_max_per_user(
        &self,
        current: &CurrentSession,
        now: OffsetDateTime,
        ended: &mut Vec<SessionChange>,
    ) -> Result<(), StoreError> {
        let Some(most) = self.max_per_user else {
            return Ok(());
        };
        let index_keys = self.names.subject(&current.issuer, current.subject());
        let sessions = self.of(&index_keys, now).await?.unwrap_or_default();
        for session in sessions.iter().take((sessions.len() + 1).saturating_sub(most)) {
            let (end, oldest) = self.remove(&session.id, EndCause::MaxPerUser, now).await?;
            if let Some(oldest) = &oldest {
                self.revoke_replaced(oldest, Some(current));
            }
            observing::sessions_ended("max_per_user", usize::from(end.is_some()), &self.observed);
            ended.extend(end);
        }
        Ok(())
    }

    /// The newest known generation of a session in cookies. Fails if the session was ended: by its name, by its
    /// provider session, or with all sessions of the user. One round trip to the store.
    pub(in crate::session) async fn newest_generation(
        &self,
        session: &Session,
        names: &SessionNames,
    ) -> Result<Option<u64>, NoSession> {
        if self.unrecorded.contains(&names.session) {
            self.drop_cached(&names.session);
            return Err(NoSession::Ended);
        }
        let mut requested = vec![&*names.generation];
        requested.extend(names.ends());
        let entries = self.entries(&requested).await.map_err(unavailable)?;
        self.unrecorded.store_responded();
        let mut entries = entries.iter().map(Option::as_deref);
        let generation = entries.next().flatten().and_then(|entry| entry.parse().ok());
        // Session names are unique: any entry is its end.
        let has_ended_itself = entries.next().flatten().is_some();
        let is_ended = |entry: &str| !is_spared(entry, session, &names.session);
        if has_ended_itself || entries.flatten().any(is_ended) {
            self.drop_cached(&names.session);
            Err(NoSession::Ended)
        } else {
            Ok(generation)
        }
    }

    /// The entries of the store under these names.
    pub(super) async fn entries(&self, names: &[&str]) -> Result<Vec<Option<String>>, StoreError> {
        let entries = self.store.entries(names).await?;
        check_length(entries.len(), names.len())?;
        Ok(entries)
    }

    /// The entry of the store under this name.
    pub(crate) async fn entry(&self, name: &str) -> Result<Option<String>, StoreError> {
        Ok(self.store.entries(&[name]).await?.pop().flatten())
    }
}

/// Whether an end under a name of this session's user does not apply to the session.
pub(super) fn is_spared(entry: &str, session: &Session, name: &str) -> bool {
    session.earlier_ends.contains(entry) || excepts(entry, name)
}

pub(super) fn refs(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

/// Rejects a response with too few or too many values: missing ends would read as no end.
fn check_length(returned: usize, requested: usize) -> Result<(), StoreError> {
    if returned == requested {
        Ok(())
    } else {
        Err(StoreError::new(format!(
            "it returned {returned} of {requested} entries"
        )))
    }
}
