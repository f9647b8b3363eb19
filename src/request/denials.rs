//! The denials of a request: noted by guards, and logged with its response.

use rocket::http::Status;

use super::{Denial, RequestState};
use crate::{
    audit::AuditEvent,
    requirement::INSUFFICIENT,
    resource_server::{Accepted, BearerError},
    session::CurrentSession,
};

impl RequestState {
    /// The app's policy does not permit the user.
    pub(crate) fn not_permitted(&self, session: &CurrentSession) {
        self.forbidden.get_or_init(|| Denial::of_user("not_permitted", session));
    }

    /// The user must authenticate again, or in another way.
    pub(crate) fn insufficient(&self, session: &CurrentSession) {
        self.insufficient.get_or_init(|| Denial::of_user(INSUFFICIENT, session));
    }

    /// A verified token lacks scopes or groups, or its user's authentication is not what the guard demands.
    pub(crate) fn insufficient_token(&self, accepted: &Accepted, error: &BearerError) {
        let denials = match error {
            BearerError::Scope { .. } | BearerError::Groups { .. } => &self.forbidden,
            _ => &self.insufficient,
        };
        denials.get_or_init(|| Denial::of_token(accepted, error));
    }

    /// Logs the denial that a response with this status is.
    pub(crate) fn audit_denial(&self, request: &rocket::Request<'_>, status: Status) {
        let (event, denial) = match status.code {
            403 => (AuditEvent::AccessDenied, self.forbidden.get()),
            401 => (AuditEvent::StepUpRequired, self.insufficient.get()),
            _ => return,
        };
        if let Some(denial) = denial {
            denial.log(request, event);
        }
    }
}
