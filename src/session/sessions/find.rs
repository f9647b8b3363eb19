//! Lookup of the session of a request: reads its cookies, decrypts or uses the cache, and checks expiry.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rocket::http::CookieJar;
use serde_json::Value;
use time::OffsetDateTime;

use super::{Sessions, unavailable, unknown_key};
use crate::{
    cache::is_new,
    keys::{DecryptError, Purpose},
    observing,
    secret::Secret,
    session::{
        CurrentSession, EndCause, NoSession, SessionChange, UserKey,
        chunks::strip_terminator,
        record,
        session_cache::DecryptedSession,
        store::{StoreError, StoredSession},
    },
    token::{Claims, ExpectedIssuer},
};

/// A session that was found.
pub(crate) struct Found {
    pub(crate) session: CurrentSession,
    /// Whether the browser has an older copy, and the response must set this one.
    pub(crate) is_newer: bool,
}

impl Sessions {
    /// Whether a session that began a moment ago has ended, or is expired.
    pub(crate) async fn is_ended_or_expired(
        &self,
        current: &CurrentSession,
        now: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        if self.check_times(current, now).is_err() {
            return Ok(true);
        }
        if !self.is_in_cookies {
            return Ok(self.load(&current.name).await?.is_err());
        }
        match self.newest_generation(current, &self.names_of(current)).await {
            Ok(_) => Ok(false),
            Err(NoSession::Ended) => Ok(true),
            Err(reason) => Err(StoreError::new(reason.to_string())),
        }
    }

    /// Finds the session of this browser. If it has expired and this is the first request to notice, its end is pushed
    /// to `ended`.
    pub(crate) async fn find(
        &self,
        jar: &CookieJar<'_>,
        now: OffsetDateTime,
        ended: &mut Vec<SessionChange>,
    ) -> Result<Found, NoSession> {
        let found = if self.is_in_cookies {
            self.find_in_cookies(jar, now).await?
        } else {
            Found {
                session: self.find_in_store(jar).await?,
                is_newer: false,
            }
        };
        let session = &found.session;
        let Err(reason) = self.check_times(session, now) else {
            return Ok(found);
        };
        if self.is_first_to_report_expiry(session, reason, now).await {
            ended.push(SessionChange::ended(session.name(), session, EndCause::Over(reason)));
        }
        Err(reason)
    }

    /// Whether this call is the first, on any node, to notice that a session has expired.
    pub(super) async fn is_first_to_report_expiry(
        &self,
        session: &CurrentSession,
        reason: NoSession,
        now: OffsetDateTime,
    ) -> bool {
        let name = session.name();
        if self.reported_expiries.contains_key(name) {
            return false;
        }
        self.read_last_use(session, now).await;
        // An older copy of a cookie may have expired while the newer one is still valid. The browser may send an
        // expired cookie for days.
        if self.is_alive(name, session, now) || !is_new(&self.reported_expiries, name) {
            return false;
        }
        match reason {
            NoSession::Idle => observing::sessions_ended("idle", 1, &self.observed),
            NoSession::LifetimeEnded => observing::sessions_ended("lifetime", 1, &self.observed),
            _ => {}
        }
        // The browser's own cookie has expired by then: a request with it is a replayed copy.
        let ttl = self.storage_ttl(session, now);
        if ttl.is_zero() || !self.is_shared {
            return !ttl.is_zero();
        }
        let lock = self.names.expiry_report_lock(name);
        let is_first = self.store.lock(&lock, "1", ttl).await;
        is_first.unwrap_or_else(|error| {
            tracing::debug!("{error}; another node may report the end of a session too");
            true
        })
    }

    pub(super) async fn find_in_cookies(&self, jar: &CookieJar<'_>, now: OffsetDateTime) -> Result<Found, NoSession> {
        let decrypted = self.decrypted_in_cookies(jar)?;
        let (session, names) = (decrypted.current(0), &decrypted.names);
        if let Some(session) = self.newer_than(&session, names, now).await? {
            return Ok(Found {
                session,
                is_newer: true,
            });
        }
        // A node without a shared store learns the `sid` after a restart from the first cookie that it receives.
        if !self.is_shared
            && let Err(error) = self.record_known_sid(&session, now).await
        {
            tracing::debug!("{error}; front-channel logout cannot end a session");
        }
        if session.generation > 1 {
            self.record_newest_seen(&session, names, now).await;
        }
        Ok(Found {
            session,
            is_newer: false,
        })
    }

    async fn find_in_store(&self, jar: &CookieJar<'_>) -> Result<CurrentSession, NoSession> {
        let text = self.cookies.read(jar).ok_or(NoSession::Absent)?;
        let session = self
            .cache
            .in_store(&text, || Some(self.names.session(&self.id_in_text(&text)?)))
            .ok_or(NoSession::Unreadable)?;
        if self.unrecorded.contains(&session.name) {
            self.drop_cached(&session.name);
            return Err(NoSession::Ended);
        }
        let stored = self.store.load(&session.name).await.map_err(unavailable)?;
        self.unrecorded.store_responded();
        let stored = stored.ok_or_else(|| {
            self.drop_cached(&session.name);
            NoSession::Ended
        })?;
        let decrypted = session.decrypted(&stored, || self.decrypt_stored(&session.name, &stored))?;
        Ok(decrypted.current(stored.version))
    }

    /// Decrypts the session in this browser's cookies, where sessions are in cookies.
    fn decrypted_in_cookies(&self, jar: &CookieJar<'_>) -> Result<Arc<DecryptedSession>, NoSession> {
        let text = self.cookies.read(jar).ok_or(NoSession::Absent)?;
        let decrypted = self.cache.in_cookies(text, |text| self.decrypt_cookie(text));
        decrypted.ok_or(NoSession::Unreadable)
    }

    /// Decrypts the joined text of the session cookies.
    pub(super) fn decrypt_cookie(&self, text: &str) -> Option<DecryptedSession> {
        let value = URL_SAFE_NO_PAD.decode(strip_terminator(text)?).ok()?;
        let decrypted = self.keys.decrypt(Purpose::Session, b"", value).ok()?;
        self.decode(&decrypted.plaintext)
    }

    /// The session id in the text of the cookie, for sessions in a store.
    fn id_in_text(&self, text: &str) -> Option<Secret> {
        let text = strip_terminator(text)?;
        let id = self.keys.decrypt_text(Purpose::SessionId, b"", text).ok()?;
        Some(Secret::new(id))
    }

    /// The session of this name; always `Absent` for sessions in cookies.
    pub(crate) async fn by_name(&self, name: &str, now: OffsetDateTime) -> Result<CurrentSession, NoSession> {
        if self.is_in_cookies {
            return Err(NoSession::Absent);
        }
        let session = self.load(name).await.map_err(unavailable)??;
        self.check_times(&session, now)?;
        Ok(session)
    }

    /// Loads and decrypts the session of this name from the store.
    pub(in crate::session) async fn load(&self, name: &str) -> Result<Result<CurrentSession, NoSession>, StoreError> {
        if self.unrecorded.contains(name) {
            Ok(Err(NoSession::Ended))
        } else {
            self.load_stored(name).await
        }
    }

    /// Like [`load`](Self::load), but also returns a session whose end is not recorded in the store yet.
    pub(in crate::session) async fn load_stored(
        &self,
        name: &str,
    ) -> Result<Result<CurrentSession, NoSession>, StoreError> {
        let Some(stored) = self.store.load(name).await? else {
            self.drop_cached(name);
            return Ok(Err(NoSession::Ended));
        };
        let decrypted = self.decrypt_stored(name, &stored);
        Ok(decrypted.map(|decrypted| decrypted.current(stored.version)))
    }

    /// Decrypts a stored session. A damaged value, one of another name or of another version of this crate is not a
    /// session; one encrypted with an unknown key may be valid for another node.
    pub(super) fn decrypt_stored(&self, name: &str, stored: &StoredSession) -> Result<DecryptedSession, NoSession> {
        self.decrypt_record(name, &stored.value).map_err(|error| match error {
            DecryptError::UnknownKey => unknown_key(),
            _ => NoSession::Ended,
        })
    }

    /// Decrypts a record of the store. One of another version of this crate counts as damaged.
    pub(super) fn decrypt_record(&self, name: &str, value: &str) -> Result<DecryptedSession, DecryptError> {
        let value = URL_SAFE_NO_PAD.decode(value).map_err(|_| DecryptError::Damaged)?;
        let record = self.keys.decrypt(Purpose::StoredValue, name.as_bytes(), value)?;
        self.decode(&record.plaintext).ok_or(DecryptError::Damaged)
    }

    /// Deserializes a decrypted record.
    pub(super) fn decode(&self, record: &[u8]) -> Option<DecryptedSession> {
        let issuer = |claims: &Claims| self.issuer_of(claims);
        let (mut session, body_start) = record::decode(record, issuer)?;
        session.provider = self.provider.clone();
        self.retain_kept_claims(&mut session.claims);
        Some(DecryptedSession {
            names: self.names_of(&session),
            session: Arc::new(session),
            body: record[body_start..].into(),
        })
    }

    /// The issuer of these claims: for a template their `iss`, if its tenant is accepted.
    fn issuer_of(&self, claims: &Claims) -> Option<Arc<str>> {
        if self.tenants.is_none() {
            return Some(self.issuer.clone());
        }
        let expected = ExpectedIssuer::new(&self.issuer, self.tenants.as_ref());
        let iss = claims.value("iss").and_then(Value::as_str)?;
        expected.accepts(iss).then(|| iss.into())
    }

    /// The session of this browser, to be ended: also an expired one.
    pub(crate) async fn find_ending(
        &self,
        jar: &CookieJar<'_>,
        now: OffsetDateTime,
    ) -> Result<CurrentSession, NoSession> {
        let session = if self.is_in_cookies {
            self.find_in_cookies(jar, now).await?.session
        } else {
            self.find_in_store(jar).await?
        };
        if self.storage_ttl(&session, now).is_zero() {
            Err(NoSession::LifetimeEnded)
        } else {
            Ok(session)
        }
    }

    /// The session that this browser keeps if a sign-in fails.
    pub(crate) async fn find_kept(&self, jar: &CookieJar<'_>, now: OffsetDateTime) -> Option<CurrentSession> {
        let session = self.find_ending(jar, now).await.ok()?;
        self.check_times(&session, now).is_ok().then_some(session)
    }

    /// The session in this browser's cookies, to be ended, without asking the store.
    pub(crate) fn ending_in_cookies(&self, jar: &CookieJar<'_>, now: OffsetDateTime) -> Option<CurrentSession> {
        if !self.is_in_cookies {
            return None;
        }
        let session = self.decrypted_in_cookies(jar).ok()?.current(0);
        (!self.storage_ttl(&session, now).is_zero()).then_some(session)
    }

    /// The user of this browser's session, even if it has ended or expired, as far as its record can be decrypted.
    pub(crate) async fn user_of_ended(&self, jar: &CookieJar<'_>) -> Option<UserKey> {
        if self.is_in_cookies {
            return Some(self.decrypted_in_cookies(jar).ok()?.session.user_key());
        }
        let session = self.load_stored(&self.name_in(jar)?).await.ok()?.ok()?;
        Some(session.user_key())
    }

    /// The name of this browser's session, even if it has ended or expired.
    pub(crate) fn name_in(&self, jar: &CookieJar<'_>) -> Option<Arc<str>> {
        if self.is_in_cookies {
            Some(self.decrypted_in_cookies(jar).ok()?.names.session.clone())
        } else {
            let id = self.id_in_text(&self.cookies.read(jar)?)?;
            Some(self.names.session(&id).into())
        }
    }
}
