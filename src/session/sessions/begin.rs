//! Creation of a session, which replaces the browser's previous one.

use rocket::http::CookieJar;
use thiserror::Error;
use time::OffsetDateTime;

use super::Sessions;
use crate::{
    observing,
    session::{
        CurrentSession, EarlierEnds, EndCause, NoSession, Session, SessionChange, SessionTokens, SessionTooLarge,
        store::StoreError,
    },
};

/// Why a session could not begin.
#[derive(Debug, Error)]
pub(crate) enum BeginError {
    #[error(transparent)]
    TooLarge(#[from] SessionTooLarge),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A recorded end of the user's sessions applies to it: the recorded ends, read now.
    #[error("the sessions of the user were ended while they signed in")]
    Ended(EarlierEnds),
}

impl Sessions {
    /// Begins a session, which replaces any session in this jar. The caller sends its
    /// [`set_cookies`](Self::set_cookies). Sessions that are ended to make room for it are pushed to `ended`, even if
    /// it fails.
    pub(crate) async fn begin(
        &self,
        mut session: Session,
        mut tokens: SessionTokens,
        jar: Option<&CookieJar<'_>>,
        now: OffsetDateTime,
        ended: &mut Vec<SessionChange>,
    ) -> Result<CurrentSession, BeginError> {
        session.ends = self.end_of(&session);
        session.provider = self.provider.clone();
        self.drop_unkept(&mut session, &mut tokens);
        if self.is_in_cookies {
            let mark = self.names.user_mark(&session.id, &session.issuer, session.subject());
            session.user_mark = Some(mark);
        }
        let name = self.name_of(&session).into();
        let version = u64::from(!self.is_in_cookies);
        let current = self.record(session, &tokens, name, version)?;
        let replaced = match jar {
            Some(jar) => self.end_replaced(&current, jar, now, ended).await?,
            None => None,
        };
        let stored = self.store_new(&current, now, ended).await;
        if let Some(replaced) = &replaced {
            // If the store fails, the next identical callback may use the new session.
            let successor = Some(&current).filter(|_| !matches!(stored, Ok(Some(_))));
            self.revoke_replaced(replaced, successor);
        }
        match stored? {
            None => Ok(current),
            Some(ends) => Err(BeginError::Ended(ends)),
        }
    }

    /// Stores a new session and publishes it to all nodes. If an end applies to the session, returns the user's
    /// recorded ends. In that case, and when the store fails, the session is removed: no browser has it.
    pub(super) async fn store_new(
        &self,
        current: &CurrentSession,
        now: OffsetDateTime,
        ended: &mut Vec<SessionChange>,
    ) -> Result<Option<EarlierEnds>, StoreError> {
        if !self.is_in_cookies {
            self.enforce_max_per_user(current, now, ended).await?;
        }
        let recorded = self.recorded(current, now).await;
        match &recorded {
            Ok(None) => {}
            // Whoever ended the sessions of this user may have missed it.
            Ok(Some(_)) => self.remove_unused(current).await?,
            // The store may have written it in spite of the error.
            Err(_) => {
                if let Err(error) = self.remove_unused(current).await {
                    tracing::debug!("{error}; a session that no browser has may remain in the store");
                }
            }
        }
        recorded
    }

    /// Stores a new session and publishes it to all nodes. If an end applies to the session, returns the user's
    /// recorded ends.
    pub(super) async fn recorded(
        &self,
        current: &CurrentSession,
        now: OffsetDateTime,
    ) -> Result<Option<EarlierEnds>, StoreError> {
        if !self.is_in_cookies {
            let stored = self.stored(current, self.names_of(current).into_index_keys());
            let ttl = self.storage_ttl(current, now);
            self.store.create(&stored, ttl).await?;
        }
        self.record_known_sid(current, now).await?;
        self.record_last_end(current, now).await?;
        self.later_ends(current, now).await
    }

    /// Removes a session that no browser has.
    pub(super) async fn remove_unused(&self, current: &CurrentSession) -> Result<(), StoreError> {
        if !self.is_in_cookies {
            self.store.remove(&current.name).await?;
        }
        Ok(())
    }

    /// Ends the browser's current session in favour of a new one. Returns it if it had not ended before.
    pub(super) async fn end_replaced(
        &self,
        new: &CurrentSession,
        jar: &CookieJar<'_>,
        now: OffsetDateTime,
        ended: &mut Vec<SessionChange>,
    ) -> Result<Option<CurrentSession>, StoreError> {
        match self.name_in(jar).filter(|name| *name != new.name) {
            Some(name) => self.end_former(&name, jar, now, ended).await,
            None => Ok(None),
        }
    }

    /// Ends the browser's session here in favour of one at another provider, and revokes its tokens.
    pub(crate) async fn end_before_other(
        &self,
        jar: &CookieJar<'_>,
        now: OffsetDateTime,
        ended: &mut Vec<SessionChange>,
    ) -> Result<(), StoreError> {
        let Some(name) = self.name_in(jar) else {
            return Ok(());
        };
        if let Some(former) = self.end_former(&name, jar, now, ended).await? {
            self.revoke_replaced(&former, None);
        }
        Ok(())
    }

    async fn end_former(
        &self,
        name: &str,
        jar: &CookieJar<'_>,
        now: OffsetDateTime,
        ended: &mut Vec<SessionChange>,
    ) -> Result<Option<CurrentSession>, StoreError> {
        let replaced = self.find_ending(jar, now).await;
        if let Err(NoSession::StoreUnavailable) = replaced {
            // Fail now: do not wait for the store twice.
            return Err(StoreError::new("the browser's previous session cannot be ended"));
        }
        let known = replaced.as_ref().ok();
        let end = self.end(name, known, EndCause::Replaced, now).await?;
        // In cookie mode, an ended session is ended by its name again.
        let was_alive_before = matches!(replaced, Ok(_) | Err(NoSession::Superseded | NoSession::UnknownKey));
        ended.extend(end.filter(|_| was_alive_before));
        let replaced = replaced.ok();
        let was_alive = |session: &CurrentSession| self.is_alive(name, session, now);
        let count = usize::from(replaced.as_ref().is_some_and(was_alive));
        observing::sessions_ended("replaced", count, &self.observed);
        Ok(replaced)
    }
}
