//! Changes of the app's data in a session that has begun.
//!
//! A change is a generation of the session, like a refresh, and takes the lock of its refresh: neither loses what the
//! other stored, and of two changes under one name the later one remains.

use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use tokio::sync::oneshot;
use tracing::Instrument;

use super::{failure::Failure, lock::Locked};
use crate::{
    relying_party::{Client, RelyingParty, SessionDataError},
    session::{BeginError, CurrentSession, NoSession, Session, SessionTokens, UserKey, store::StoreError},
};

/// Maximum tries to store a change, if other nodes store generations although this one has the lock, which expired.
const MAX_TRIES: usize = 5;

impl RelyingParty {
    /// Sets a value of the app's data in a session in a store, by the id that
    /// [`User::session_id`](crate::User::session_id) and [`sessions_of_user`](Self::sessions_of_user) return: for
    /// administrators and background jobs. `null` removes the value. It does not count as a use of the session.
    /// [`User::set_data`](crate::User::set_data) is for the session of a request.
    ///
    /// # Security
    ///
    /// It does not ask whose session it is: never call it with an id from a request of a user who is not an
    /// administrator.
    ///
    /// # Errors
    ///
    /// Fails when there is no such session, which is always so where sessions are kept in cookies, when the value is not
    /// JSON, or when the session store fails.
    pub async fn set_data(&self, id: &str, name: &str, value: impl Serialize) -> Result<(), SessionDataError> {
        let value = to_json(name, value)?;
        let rp = self.of_session(id);
        let rp = rp.ok_or(SessionDataError::NoSession(NoSession::Absent))?;
        rp.set_data_by_name(id, name, value).await
    }

    /// Sets a value of the app's data in all sessions of a user in a store, like [`set_data`](Self::set_data). Returns
    /// the number of sessions, those among them that had the value already.
    ///
    /// A session that begins meanwhile does not have the value, unless
    /// [`Events::after_authorize`](crate::Events::after_authorize) sets it.
    ///
    /// # Errors
    ///
    /// As [`set_data`](Self::set_data); some sessions may have the value then. A user without sessions is not an error.
    pub async fn set_data_of_user(
        &self,
        user: &UserKey,
        name: &str,
        value: impl Serialize,
    ) -> Result<usize, SessionDataError> {
        let value = to_json(name, value)?;
        if self.sessions.is_in_cookies() {
            return Err(SessionDataError::NoSession(NoSession::Absent));
        }
        let Some(rp) = self.at_provider(user.provider()).await? else {
            return Ok(0);
        };
        let index_keys = rp.sessions.names.subject(user.issuer(), user.subject());
        let mut changed = 0;
        for session in rp.sessions.of(&index_keys, self.clock.now()).await?.unwrap_or_default() {
            match rp.set_data_by_name(&session.id, name, value.clone()).await {
                Ok(()) => changed += 1,
                // It has ended meanwhile.
                Err(SessionDataError::NoSession(reason)) if !reason.is_outage() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(changed)
    }

    async fn set_data_by_name(&self, id: &str, name: &str, value: Value) -> Result<(), SessionDataError> {
        let client = self.client();
        let client = client.ok_or(SessionDataError::NoSession(NoSession::Absent))?;
        let session = self.sessions.by_name(id, self.clock.now()).await;
        let session = session.map_err(SessionDataError::NoSession)?;
        client.set_data_once(&session, name, value).await.map(drop)
    }
}

/// The value as the session keeps it.
pub(crate) fn to_json(name: &str, value: impl Serialize) -> Result<Value, SessionDataError> {
    serde_json::to_value(value).map_err(|_| SessionDataError::NotJson { name: name.to_owned() })
}

impl Client<'_> {
    /// Sets a value of the app's data, in a task: a request that is dropped must not keep the lock of the session.
    /// Returns the newest generation of the session.
    pub(crate) async fn set_data_once(
        &self,
        current: &CurrentSession,
        name: &str,
        value: Value,
    ) -> Result<CurrentSession, SessionDataError> {
        let (rp, provider) = (self.rp.clone(), self.provider.clone());
        let (current, name) = (current.clone(), name.to_owned());
        let (sender, changed) = oneshot::channel();
        let changing = async move {
            let client = Client {
                rp: &rp,
                provider: &provider,
            };
            // The receiver is gone if the request was dropped.
            let _ = sender.send(client.set_data_with_lock(&current, &name, value).await);
        };
        self.tasks.spawn(changing.instrument(tracing::debug_span!("set_data")));
        let interrupted = |_| SessionDataError::Failed {
            cause: "the change was interrupted".to_owned(),
        };
        changed.await.map_err(interrupted)?
    }

    async fn set_data_with_lock(
        &self,
        current: &CurrentSession,
        name: &str,
        value: Value,
    ) -> Result<CurrentSession, SessionDataError> {
        let now = self.clock.now();
        let lock = match self.lock_refresh(current, now, |_| false).await? {
            Locked::Held(lock) => lock,
            Locked::Needless(_) => return Err(SessionDataError::NoSession(NoSession::Superseded)),
        };
        let changed = self
            .store_data(lock.newest.clone(), name, value, self.clock.now())
            .await;
        self.unlock_refresh(lock).await;
        changed
    }

    /// Stores the next generation of a session, with this value and what the newest one has.
    async fn store_data(
        &self,
        mut newest: CurrentSession,
        name: &str,
        value: Value,
        now: OffsetDateTime,
    ) -> Result<CurrentSession, SessionDataError> {
        for _ in 0..MAX_TRIES {
            let alive = self.sessions.check_times(&newest, now);
            alive.map_err(SessionDataError::NoSession)?;
            let mut session = Session::clone(&newest);
            if !session.set_data(name, value.clone()) {
                return Ok(newest);
            }
            let tokens = SessionTokens {
                // One that could not be stored yet must not be lost to this generation.
                refresh_token: self.refresh_token_of(&newest),
                ..newest.tokens().map(|tokens| (**tokens).clone()).unwrap_or_default()
            };
            let advanced = self.sessions.advance_unused(&newest, session, tokens, now).await?;
            let advanced = advanced.ok_or(SessionDataError::NoSession(NoSession::Ended))?;
            self.refreshes.unstored.invalidate(advanced.name());
            self.sessions.expire_superseded(&newest).await;
            newest = advanced;
        }
        Err(SessionDataError::Failed {
            cause: "other requests replaced the session at each attempt".to_owned(),
        })
    }
}

impl From<Failure> for SessionDataError {
    fn from(failure: Failure) -> SessionDataError {
        match failure {
            Failure::Ended(reason) | Failure::NoSession(reason) => SessionDataError::NoSession(reason),
            Failure::AsksForSignIn { cause, .. } | Failure::Later { cause, .. } => SessionDataError::Failed { cause },
        }
    }
}

impl From<StoreError> for SessionDataError {
    fn from(error: StoreError) -> SessionDataError {
        SessionDataError::Failed {
            cause: error.to_string(),
        }
    }
}

impl From<BeginError> for SessionDataError {
    fn from(error: BeginError) -> SessionDataError {
        match error {
            BeginError::TooLarge(error) => error.into(),
            BeginError::Store(error) => error.into(),
            BeginError::Ended(_) => SessionDataError::NoSession(NoSession::Ended),
        }
    }
}
