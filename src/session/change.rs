//! `SessionChange`: the event that a session began, was refreshed or ended, for the log and for the app.

use std::{fmt, net::IpAddr, sync::Arc};

use serde_json::Value;
use time::OffsetDateTime;

use super::{CurrentSession, NoSession, Session, UserKey};
use crate::audit::{AuditEvent, AuditLine, Who};

/// The event that a session began, was refreshed, failed to refresh, or ended: the argument of
/// [`Events::session_changed`](crate::Events::session_changed).
///
/// It has the ids of the session and of its user, as far as they are known, and no token or cookie. For sessions in
/// cookies, an end that the provider or the app requested by `sid` or `sub` has no session id: it is about all sessions
/// with this `sid` or of this user, possibly none. [`is_about`](Self::is_about) compares either kind with a user.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionChange {
    cause: Cause,
    provider: Arc<str>,
    issuer: Arc<str>,
    subject: Option<String>,
    sid: Option<String>,
    session_id: Option<String>,
    /// The session that continues, of an end of all others.
    excepted: Option<String>,
}

/// What happened to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SessionChangeKind {
    /// It began.
    Began,
    /// It has new tokens, new claims, or both.
    Refreshed,
    /// A refresh failed. The session continues unchanged.
    RefreshFailed,
    /// It has ended.
    Ended,
}

/// What happened, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    NewSignIn,
    Refreshed,
    /// With the reason code of the failure.
    RefreshFailed(&'static str),
    Ended(EndCause),
}

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndCause {
    SignOut,
    BackchannelLogout,
    FrontchannelLogout,
    App,
    /// A new sign-in in the same browser.
    Replaced,
    MaxPerUser,
    RefreshRefused,
    /// Expired: idle, or at the end of its lifetime.
    Over(NoSession),
}

impl Cause {
    fn reason(self) -> &'static str {
        match self {
            Cause::NewSignIn => "signed_in",
            Cause::Refreshed => "refreshed",
            Cause::RefreshFailed(reason) => reason,
            Cause::Ended(cause) => cause.reason(),
        }
    }
}

impl EndCause {
    /// The reason code.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            EndCause::SignOut => "signed_out",
            EndCause::BackchannelLogout => "backchannel_logout",
            EndCause::FrontchannelLogout => "frontchannel_logout",
            EndCause::App => "ended_by_app",
            EndCause::Replaced => "session_replaced",
            EndCause::MaxPerUser => "max_per_user",
            EndCause::RefreshRefused => NoSession::RefreshRefused.reason(),
            EndCause::Over(reason) => reason.reason(),
        }
    }

    /// The cause with this reason code; `None` for an expired session.
    pub(crate) fn of_reason(reason: &str) -> Option<EndCause> {
        let causes = [
            EndCause::SignOut,
            EndCause::BackchannelLogout,
            EndCause::FrontchannelLogout,
            EndCause::App,
            EndCause::Replaced,
            EndCause::MaxPerUser,
            EndCause::RefreshRefused,
        ];
        causes.into_iter().find(|cause| cause.reason() == reason)
    }

    /// The sentence for the log.
    fn sentence(self) -> &'static str {
        match self {
            EndCause::SignOut => "a user signed out",
            EndCause::BackchannelLogout => "the provider ended a session",
            EndCause::FrontchannelLogout => "a front-channel logout by the provider ended a session",
            EndCause::App => "the app ended a session",
            EndCause::Replaced => "a new sign-in replaced a session",
            EndCause::MaxPerUser => "a new sign-in ended the user's oldest session",
            EndCause::RefreshRefused => "the provider ended a session at its refresh",
            EndCause::Over(NoSession::Idle) => "a session was idle for too long",
            EndCause::Over(_) => "a session reached the end of its lifetime",
        }
    }
}

impl SessionChange {
    /// What happened.
    pub fn kind(&self) -> SessionChangeKind {
        match self.cause {
            Cause::NewSignIn => SessionChangeKind::Began,
            Cause::Refreshed => SessionChangeKind::Refreshed,
            Cause::RefreshFailed(_) => SessionChangeKind::RefreshFailed,
            Cause::Ended(_) => SessionChangeKind::Ended,
        }
    }

    /// The cause: a reason code as in the log, listed on the manual's page on events.
    pub fn reason(&self) -> &'static str {
        self.cause.reason()
    }

    /// The provider that the user signed in at, as [`User::issuer`](crate::User::issuer). It is the template of a
    /// provider with an issuer per tenant (`oidc.tenants`), if nothing but the session's id is known.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The name of that provider in the settings, as [`User::provider`](crate::User::provider).
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// Who the user is; `None` when `sub` is not known.
    pub fn key(&self) -> Option<UserKey> {
        let subject = self.subject.as_deref()?;
        Some(UserKey::new(&self.provider, &self.issuer, subject))
    }

    /// `sub` of the user; `None` when it is not known, as for a logout by `sid` with sessions in cookies.
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// The provider's id of its own session, if there is one and it is known. Anyone who knows it can end the session
    /// by front-channel logout, if enabled: keep it out of logs.
    pub fn sid(&self) -> Option<&str> {
        self.sid.as_deref()
    }

    /// The session's id, as [`User::session_id`](crate::User::session_id); `None` when all sessions with this `sid` or
    /// of this user have ended, for sessions in cookies.
    pub fn session_id(&self) -> Option<&str> {
        self.session_id.as_deref()
    }

    /// The id of the session that continues, if all others of the user have ended
    /// ([`RelyingParty::end_other_sessions`](crate::RelyingParty::end_other_sessions)) and are kept in cookies.
    pub fn excepted_session_id(&self) -> Option<&str> {
        self.excepted.as_deref()
    }

    /// Whether the session has ended.
    pub fn has_ended(&self) -> bool {
        matches!(self.cause, Cause::Ended(_))
    }

    /// The audit event of a session that began or ended. A refresh is none: it changes nothing about who is signed in.
    pub(crate) fn audit_line(&self, address: Option<IpAddr>, now: OffsetDateTime) -> Option<AuditLine> {
        let event = match self.cause {
            Cause::NewSignIn => AuditEvent::SignInSucceeded,
            Cause::Ended(_) => AuditEvent::SessionEnded,
            Cause::Refreshed | Cause::RefreshFailed(_) => return None,
        };
        let who = Who {
            provider: Some(&self.provider),
            issuer: Some(&self.issuer),
            subject: self.subject(),
            session: self.session_id(),
        };
        Some(AuditLine::new(event, self.reason(), who, address, now))
    }

    /// What happened, for a log line that names no user; `None` for a refresh, which is logged by its caller.
    pub(crate) fn sentence(&self) -> Option<&'static str> {
        match self.cause {
            Cause::NewSignIn => Some("a user signed in"),
            Cause::Ended(cause) => Some(cause.sentence()),
            Cause::Refreshed | Cause::RefreshFailed(_) => None,
        }
    }

    pub(crate) fn began(session: &CurrentSession) -> SessionChange {
        SessionChange::of(session.name(), session, Cause::NewSignIn)
    }

    pub(crate) fn refreshed(session: &CurrentSession) -> SessionChange {
        SessionChange::of(session.name(), session, Cause::Refreshed)
    }

    pub(crate) fn refresh_failed(session: &CurrentSession, reason: &'static str) -> SessionChange {
        SessionChange::of(session.name(), session, Cause::RefreshFailed(reason))
    }

    pub(super) fn ended(name: &str, session: &Session, cause: EndCause) -> SessionChange {
        SessionChange::of(name, session, Cause::Ended(cause))
    }

    /// The end of a session of which nothing but its name is known.
    pub(super) fn ended_by_name(provider: &Arc<str>, issuer: &Arc<str>, name: &str, cause: EndCause) -> SessionChange {
        SessionChange {
            session_id: Some(name.to_owned()),
            ..SessionChange::ended_all(provider.clone(), issuer.clone(), None, None, cause)
        }
    }

    /// The end of all sessions with this `sid` or of this user.
    pub(crate) fn ended_all(
        provider: Arc<str>,
        issuer: impl Into<Arc<str>>,
        subject: Option<&str>,
        sid: Option<&str>,
        cause: EndCause,
    ) -> SessionChange {
        SessionChange {
            cause: Cause::Ended(cause),
            provider,
            issuer: issuer.into(),
            subject: subject.map(str::to_owned),
            sid: sid.map(str::to_owned),
            session_id: None,
            excepted: None,
        }
    }

    /// The end of all sessions of the user of this session but itself.
    pub(super) fn ended_others(session: &CurrentSession, cause: EndCause) -> SessionChange {
        let (provider, issuer) = (session.provider.clone(), session.issuer.clone());
        SessionChange {
            excepted: Some(session.name().to_owned()),
            ..SessionChange::ended_all(provider, issuer, Some(session.subject()), None, cause)
        }
    }

    /// With this user, who is known although the session itself is not.
    pub(super) fn of_user(mut self, issuer: &str, subject: &str) -> SessionChange {
        self.issuer = issuer.into();
        self.subject = Some(subject.to_owned());
        self
    }

    fn of(name: &str, session: &Session, cause: Cause) -> SessionChange {
        SessionChange {
            cause,
            provider: session.provider.clone(),
            issuer: session.issuer.clone(),
            subject: Some(session.subject().to_owned()),
            sid: session.sid().map(str::to_owned),
            session_id: Some(name.to_owned()),
            excepted: None,
        }
    }

    /// Whether it is about this session.
    pub(crate) fn is_about_session(&self, session: &CurrentSession) -> bool {
        if let Some(id) = &self.session_id {
            return id == session.name();
        }
        if self.excepted.as_deref() == Some(session.name()) {
            return false;
        }
        if self.provider != session.provider || self.issuer != session.issuer {
            return false;
        }
        let is_of_user = self.subject.as_deref() == Some(session.subject());
        match (&self.sid, session.sid()) {
            (Some(sid), Some(own)) => sid == own,
            _ => is_of_user,
        }
    }
}

impl Session {
    /// `sid`: the provider's id of its own session.
    pub(crate) fn sid(&self) -> Option<&str> {
        self.claims.value("sid").and_then(Value::as_str)
    }
}

impl fmt::Debug for SessionChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionChange")
            .field("kind", &self.kind())
            .field("reason", &self.reason())
            .field("issuer", &self.issuer)
            .field("subject", &self.subject)
            .field("session_id", &self.session_id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::session::only_provider;

    const ISSUER: &str = "https://op.example";

    fn session(name: &str, claims: Value) -> CurrentSession {
        let claims = serde_json::from_value(claims).unwrap();
        let session = Session::new(ISSUER, claims, OffsetDateTime::UNIX_EPOCH);
        CurrentSession::nowhere(session).with_name(name)
    }

    #[test]
    fn a_change_without_session_id_is_about_all_with_the_sid_or_of_the_user() {
        let with_sid = session("a", json!({ "sub": "alice", "sid": "1" }));
        let without_sid = session("b", json!({ "sub": "alice" }));
        let cause = EndCause::BackchannelLogout;
        let all = |subject, sid| SessionChange::ended_all(only_provider(), ISSUER, subject, sid, cause);
        for (change, expected) in [
            (SessionChange::began(&with_sid), [true, false]),
            (SessionChange::began(&without_sid), [false, true]),
            (all(None, Some("1")), [true, false]),
            (all(None, Some("2")), [false, false]),
            (all(Some("alice"), Some("1")), [true, true]),
            (all(Some("alice"), Some("2")), [false, true]),
            (all(Some("alice"), None), [true, true]),
            (all(Some("bob"), None), [false, false]),
            (all(None, None), [false, false]),
        ] {
            let actual = [&with_sid, &without_sid].map(|s| change.is_about_session(s));
            assert_eq!(actual, expected, "{change:?}");
        }
        let others = SessionChange::ended_others(&with_sid, EndCause::App);
        let actual = [&with_sid, &without_sid].map(|s| others.is_about_session(s));
        assert_eq!((actual, others.excepted_session_id()), ([false, true], Some("a")));
        let elsewhere = SessionChange::ended_all(only_provider(), "https://other.example", Some("alice"), None, cause);
        assert!(!elsewhere.is_about_session(&with_sid));
    }

    #[test]
    fn debug_names_no_sid() {
        let change = SessionChange::began(&session("a", json!({ "sub": "alice", "sid": "S-1" })));
        assert_eq!(
            format!("{change:?}"),
            "SessionChange { kind: Began, reason: \"signed_in\", issuer: \"https://op.example\", subject: Some(\"alice\"), session_id: Some(\"a\"), .. }"
        );
    }
}
