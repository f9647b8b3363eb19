//! A guard's refusal of a known user or client, for the audit log.

use rocket::Request;

use crate::{
    audit::{AuditEvent, Who},
    relying_party::{audited, who_of},
    resource_server::{Accepted, BearerError},
    session::CurrentSession,
};

/// A guard refused a known user, or the client of a verified access token.
///
/// It is logged if the response is that refusal: an `Option` around a guard asks whether the user is permitted, and
/// denies them nothing.
pub(crate) struct Denial {
    reason: &'static str,
    provider: Option<String>,
    issuer: String,
    subject: Option<String>,
    session: Option<String>,
    client_id: Option<String>,
}

impl Denial {
    pub(super) fn of_user(reason: &'static str, session: &CurrentSession) -> Box<Denial> {
        let who = who_of(session);
        Box::new(Denial {
            reason,
            provider: who.provider.map(str::to_owned),
            issuer: session.issuer.to_string(),
            subject: who.subject.map(str::to_owned),
            session: who.session.map(str::to_owned),
            client_id: None,
        })
    }

    pub(super) fn of_token(accepted: &Accepted, error: &BearerError) -> Box<Denial> {
        let token = &accepted.token;
        Box::new(Denial {
            reason: error.facts().reason,
            provider: None,
            issuer: token.issuer().to_owned(),
            subject: token.subject().map(str::to_owned),
            session: None,
            client_id: token.client_id().map(str::to_owned),
        })
    }

    pub(super) fn log(&self, request: &Request<'_>, event: AuditEvent) {
        let who = Who {
            provider: self.provider.as_deref(),
            issuer: Some(&self.issuer),
            subject: self.subject.as_deref(),
            session: self.session.as_deref(),
        };
        audited(request, event, self.reason, who)
            .with("client_id", self.client_id.as_deref())
            .log();
    }
}
