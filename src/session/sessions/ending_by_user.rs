//! Ending of sessions by their own user: one of them, or all but that of the request.

use std::time::Duration;

use time::OffsetDateTime;

use super::{
    MAX_CLOCK_SKEW, MAX_TRIES, Sessions,
    ending::{MAX_TTL, is_spared, refs},
};
use crate::session::{
    CurrentSession, EndCause, NoSession, SessionChange, earlier_ends::new_end_entry_except,
    session_cache::SessionNames, store::StoreError,
};

impl Sessions {
    /// Ends one session by its name, if it is of the same user as `current`. Returns its end once, as
    /// [`end`](Self::end); `None` also if it is not of this user.
    ///
    /// In a store, the record says whose it is. In cookies, the name itself does: it was made with a key, so that only
    /// names of sessions that this user began write an entry in the store.
    pub(crate) async fn end_of_user(
        &self,
        name: &str,
        current: &CurrentSession,
        cause: EndCause,
        now: OffsetDateTime,
    ) -> Result<Option<SessionChange>, StoreError> {
        if !self.names.is_own(name) {
            return Ok(None);
        }
        let (issuer, subject) = (&*current.issuer, current.subject());
        if self.is_in_cookies {
            if !self.names.is_marked_for(name, issuer, subject) {
                return Ok(None);
            }
            let known = Some(current).filter(|current| current.name() == name);
            let end = self.end(name, known, cause, now).await?;
            return Ok(end.map(|end| end.of_user(issuer, subject)));
        }
        match self.load(name).await? {
            Ok(session) if *session.issuer == *issuer && session.subject() == subject => {
                self.end(name, None, cause, now).await
            }
            // Whose it is cannot be checked.
            Err(reason @ NoSession::UnknownKey) => Err(StoreError::new(reason.to_string())),
            Ok(_) | Err(_) => Ok(None),
        }
    }

    /// Ends all sessions of the user of `current` but that one, and the user's sign-ins in progress. Pushes the ends to
    /// `ended`, as [`end_matching`](Self::end_matching). Returns `false` and does nothing if `current` has ended: a
    /// session that was ended must not end those that began since.
    pub(crate) async fn end_others(
        &self,
        current: &CurrentSession,
        cause: EndCause,
        now: OffsetDateTime,
        ended: &mut Vec<SessionChange>,
    ) -> Result<bool, StoreError> {
        let names = self.names_of(current);
        if self.is_in_cookies {
            if !self.put_end_of_others(current, &names, now).await? {
                return Ok(false);
            }
            ended.push(SessionChange::ended_others(current, cause));
            return Ok(true);
        }
        if self.load(current.name()).await?.is_err() {
            return Ok(false);
        }
        // First, as in `end_matching`.
        self.put_end(&refs(&names.subject), now).await?;
        for id in self.ids(&names.subject).await? {
            if id != current.name() {
                ended.extend(self.end(&id, None, cause, now).await?);
            }
        }
        Ok(true)
    }

    /// Records an end for all sessions of the user but this one, with the TTL of [`put_end`](Self::put_end).
    async fn put_end_of_others(
        &self,
        current: &CurrentSession,
        names: &SessionNames,
        now: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        let ttl = self.settings.absolute_timeout;
        if !self.put_end_except(current, names, ttl).await? {
            return Ok(false);
        }
        match self.longest_ttl(now).await? {
            Some(longest) if longest > ttl.saturating_add(MAX_CLOCK_SKEW) => {
                self.put_end_except(current, names, longest).await
            }
            _ => Ok(true),
        }
    }

    /// Records an end that excepts this session in place of the present one, if the present one does not apply to the
    /// session: otherwise the session would be valid again. Returns `false` if it does.
    async fn put_end_except(
        &self,
        current: &CurrentSession,
        names: &SessionNames,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        let ttl = ttl.min(MAX_TTL) + 2 * MAX_CLOCK_SKEW;
        let subject = refs(&names.subject);
        'again: for _ in 0..MAX_TRIES {
            match self.newest_generation(current, names).await {
                Ok(_) => {}
                Err(NoSession::StoreUnavailable) => return Err(StoreError::new("the ends of the user cannot be read")),
                Err(_) => return Ok(false),
            }
            let entries = self.entries(&subject).await?;
            let mut present = entries.iter().flatten();
            if !present.all(|entry| is_spared(entry, current, &names.session)) {
                return Ok(false);
            }
            let entry = new_end_entry_except(&names.session, ttl);
            for (name, present) in subject.iter().zip(&entries) {
                let present = present.as_deref();
                if !self.store.put_end_if_unchanged(name, present, &entry, ttl).await? {
                    continue 'again;
                }
            }
            self.add_known_end(&entries, &entry);
            return Ok(true);
        }
        Err(StoreError::new("the ends of the user were replaced at each attempt"))
    }
}
