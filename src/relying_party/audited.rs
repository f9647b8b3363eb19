//! Audit events of a request: its time, and the address that it came from.

use rocket::Request;

use super::RelyingParty;
use crate::{
    audit::{AuditEvent, AuditLine, Who},
    resource_server::ResourceServer,
    session::CurrentSession,
};

/// An audit event that happened in this request.
pub(crate) fn audited(request: &Request<'_>, event: AuditEvent, reason: &str, who: Who<'_>) -> AuditLine {
    // The fairing manages it in every mode.
    match request.rocket().state::<ResourceServer>() {
        Some(server) => AuditLine::new(event, reason, who, server.address_of(request), server.clock.now()),
        None => AuditLine::new(event, reason, who, None, crate::clock::Clock::default().now()),
    }
}

impl RelyingParty {
    /// The provider, for an event whose user is not known.
    pub(crate) fn who(&self) -> Who<'_> {
        match self.client() {
            Some(_) => Who {
                provider: Some(self.provider_name()),
                issuer: Some(self.issuer()),
                ..Who::default()
            },
            None => Who::default(),
        }
    }
}

/// The user of a session.
pub(crate) fn who_of(session: &CurrentSession) -> Who<'_> {
    Who {
        provider: Some(&session.provider),
        issuer: Some(&session.issuer),
        subject: Some(session.subject()),
        session: Some(session.name()).filter(|name| !name.is_empty()),
    }
}
