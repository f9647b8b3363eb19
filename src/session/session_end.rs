//! `SessionEnd`: why a socket or a stream of a session is to be closed.

use std::fmt;

use super::{EndCause, NoSession};

/// Why a WebSocket or a stream of a session is to be closed: what [`User::ended`](crate::User::ended) completes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionEnd {
    reason: &'static str,
    has_session_ended: bool,
}

impl SessionEnd {
    /// The node stops.
    pub(super) const SHUTDOWN: SessionEnd = SessionEnd {
        reason: "shutdown",
        has_session_ended: false,
    };

    pub(super) fn by(cause: EndCause) -> SessionEnd {
        SessionEnd {
            reason: cause.reason(),
            has_session_ended: true,
        }
    }

    /// The session was looked up, and is not usable for this reason.
    pub(super) fn found(reason: NoSession) -> SessionEnd {
        SessionEnd {
            reason: reason.reason(),
            has_session_ended: !reason.is_outage(),
        }
    }

    /// The reason code:
    ///
    /// - how the session ended: `signed_out`, `backchannel_logout`, `frontchannel_logout`, `ended_by_app`,
    ///   `session_replaced`, `max_per_user`, `refresh_refused`, `session_idle` or `session_expired`; `session_ended`
    ///   where that is not known;
    /// - why it is not known whether the session goes on: `refresh_unavailable` when its refresh is overdue by more
    ///   than `session.refresh_grace`, `store_unavailable` and `session_unknown_key` when it could not be read for that
    ///   long;
    /// - `shutdown` when this node stops.
    pub fn reason(&self) -> &'static str {
        self.reason
    }

    /// Whether the session has ended. If `false`, a new connection may be accepted: now, or once the provider or the
    /// session store is reachable again.
    pub fn has_session_ended(&self) -> bool {
        self.has_session_ended
    }
}

impl fmt::Display for SessionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason)
    }
}
