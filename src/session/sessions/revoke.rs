//! Revocation of the tokens of ended sessions. Tokens of sessions that the provider ended are not revoked.

use std::sync::Arc;

use super::Sessions;
use crate::session::{CurrentSession, EndCause};

/// Revokes the tokens of an ended session. Arguments: its name, the session if known, and the session that replaced it,
/// if both may have tokens of one grant.
pub(crate) type Revoke = Arc<dyn Fn(&str, Option<&CurrentSession>, Option<&CurrentSession>) + Send + Sync>;

/// Drops what is cached of an ended session, by its name.
pub(crate) type DropCached = Arc<dyn Fn(&str) + Send + Sync>;

impl Sessions {
    /// Drops what is cached of a session that has ended.
    pub(in crate::session) fn drop_cached(&self, name: &str) {
        if let Some(drop_cached) = &self.drop_cached {
            drop_cached(name);
        }
    }

    /// Revokes the tokens of an ended session that this node knows. Does nothing if the provider ended it, or if
    /// another session replaces it: see [`revoke_replaced`](Self::revoke_replaced).
    pub(in crate::session) fn revoke(&self, name: &str, session: Option<&CurrentSession>, cause: EndCause) {
        let session = match cause {
            EndCause::SignOut | EndCause::App => session,
            // The tokens in its record were refused; new tokens of the refresh are revoked by the refresh.
            EndCause::RefreshRefused => None,
            EndCause::BackchannelLogout
            | EndCause::FrontchannelLogout
            | EndCause::Replaced
            | EndCause::MaxPerUser
            | EndCause::Over(_) => {
                self.drop_cached(name);
                return;
            }
        };
        if let Some(revoke) = &self.revoke {
            revoke(name, session, None);
        }
    }

    /// Revokes the tokens of a session that another one of the user replaced, unless both may be of one grant. Without
    /// `successor` if the other one did not begin.
    pub(crate) fn revoke_replaced(&self, replaced: &CurrentSession, successor: Option<&CurrentSession>) {
        if let Some(revoke) = &self.revoke {
            revoke(&replaced.name, Some(replaced), successor);
        }
    }
}
