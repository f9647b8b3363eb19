//! Which tokens are revoked when a session ends: those of sessions that end here, and not those of sessions that the
//! provider has ended.

use super::Sessions;
use crate::{session::CurrentSession, session::EndCause};

/// Has the tokens of a session revoked that ended: by its name, with the session if it is known, and the one that took
/// its place, if that may have tokens of the same grant.
pub(crate) type Revoke =
    Box<dyn Fn(&str, Option<&CurrentSession>, Option<&CurrentSession>) + Send + Sync>;

impl Sessions {
    /// Has the tokens of a session revoked that ended, those that this node holds of it: unless the provider has ended
    /// it, or another one takes its place, which [`revoke_replaced`](Self::revoke_replaced) is for.
    pub(in crate::session) fn revoke(
        &self,
        name: &str,
        session: Option<&CurrentSession>,
        cause: EndCause,
    ) {
        let session = match cause {
            EndCause::SignOut | EndCause::App => session,
            // Those of its record are the refused ones, and those that the refresh brought are revoked there.
            EndCause::RefreshRefused => None,
            EndCause::BackchannelLogout
            | EndCause::FrontchannelLogout
            | EndCause::Replaced
            | EndCause::MaxPerUser
            | EndCause::Over(_) => return,
        };
        if let Some(revoke) = &self.revoke {
            revoke(name, session, None);
        }
    }

    /// Has the tokens of a session revoked that ended for another one of the user, unless both may be of one grant;
    /// without the other one, when that did not begin.
    pub(crate) fn revoke_replaced(
        &self,
        replaced: &CurrentSession,
        successor: Option<&CurrentSession>,
    ) {
        if let Some(revoke) = &self.revoke {
            revoke(&replaced.name, Some(replaced), successor);
        }
    }
}
