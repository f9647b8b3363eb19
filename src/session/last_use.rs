//! The last use of sessions in cookies, which their older copies do not contain: only the end of a live session is
//! reported.

use moka::ops::compute::Op;
use time::OffsetDateTime;

use super::{
    CurrentSession, NoSession, Session, Sessions,
    sessions::{MAX_CLOCK_SKEW, seconds},
};

impl Sessions {
    /// Whether a session is not expired, by its own times or by those of a newer cookie whose use this node knows.
    pub(super) fn is_alive(&self, name: &str, session: &Session, now: OffsetDateTime) -> bool {
        match self.check_times(session, now) {
            Ok(()) => true,
            Err(NoSession::Idle) => self.was_used(name, now),
            Err(_) => false,
        }
    }

    /// Publishes to other nodes that a session in cookies was used.
    pub(super) async fn record_use(&self, current: &CurrentSession, now: OffsetDateTime) {
        if !self.is_shared {
            return;
        }
        let name = self.names.last_use(&current.name);
        let used = now.unix_timestamp().max(0).unsigned_abs();
        let ttl = self.settings.idle_timeout.saturating_add(MAX_CLOCK_SKEW);
        if let Err(error) = self.store.put_entry_if_larger(&name, used, ttl).await {
            tracing::debug!("{error}; another node may consider the session idle");
        }
    }

    /// Reads from the store whether another node recorded the use of a session in cookies that looks idle here.
    pub(super) async fn read_last_use(&self, session: &CurrentSession, now: OffsetDateTime) {
        let seems_idle = self.check_times(session, now) == Err(NoSession::Idle);
        if !(seems_idle && self.is_in_cookies && self.is_shared) {
            return;
        }
        let name = self.names.last_use(&session.name);
        let used = self.entry(&name).await.unwrap_or_else(|error| {
            tracing::debug!("{error}; it is unknown whether another node recorded a use of the session");
            None
        });
        if let Some(used) = used.and_then(|used| used.parse::<i64>().ok()) {
            self.touched.entry_by_ref(&*session.name).and_compute_with(|last| {
                if last.is_none_or(|last| last.into_value() < used) {
                    Op::Put(used)
                } else {
                    Op::Nop
                }
            });
        }
    }

    /// Whether this node knows of a use of a session in cookies within the idle timeout.
    pub(super) fn was_used(&self, name: &str, now: OffsetDateTime) -> bool {
        let used = self.touched.get(name);
        used.is_some_and(|used| now.unix_timestamp().saturating_sub(used) < seconds(self.settings.idle_timeout))
    }
}
