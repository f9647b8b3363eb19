//! `SessionChange`: that a session began, was refreshed or ended, for the log and for the app.

use std::{fmt, sync::Arc};

use serde_json::Value;

use super::{CurrentSession, Session, SignedOut};
use crate::{
    observing::{self, SessionLine},
    printable::printable_name,
};

/// A session began, was refreshed, was not refreshed, or ended: what
/// [`Events::session_changed`](crate::Events::session_changed) is given.
///
/// It names the session and its user, as far as they are known, and holds no token and no cookie. Where sessions
/// are kept in cookies, an end that the provider or the app asked for by `sid` or `sub` names no session: it is
/// about all that there are with this `sid` or of this user, which may be none.
/// [`is_about`](Self::is_about) compares it with a user either way.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionChange {
    cause: Cause,
    issuer: Arc<str>,
    subject: Option<String>,
    sid: Option<String>,
    session_id: Option<String>,
}

/// What happened to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SessionChangeKind {
    /// It began.
    Began,
    /// It has new tokens, new claims, or both.
    Refreshed,
    /// It was to be refreshed and was not. It goes on as it was.
    RefreshFailed,
    /// It has ended.
    Ended,
}

/// What happened, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    SignedIn,
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
    /// By a new sign-in of the same browser.
    Replaced,
    MaxPerUser,
    RefreshRefused,
    /// By its times.
    Over(SignedOut),
}

impl Cause {
    fn reason(self) -> &'static str {
        match self {
            Cause::SignedIn => "signed_in",
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
            EndCause::RefreshRefused => SignedOut::RefreshRefused.reason(),
            EndCause::Over(reason) => reason.reason(),
        }
    }

    /// For the log.
    fn sentence(self) -> &'static str {
        match self {
            EndCause::SignOut => "a user signed out",
            EndCause::BackchannelLogout => "the provider ended a session",
            EndCause::FrontchannelLogout => "a page of the provider ended a session",
            EndCause::App => "the app ended a session",
            EndCause::Replaced => "a new sign-in replaced a session",
            EndCause::MaxPerUser => "a further session of a user ended the oldest one",
            EndCause::RefreshRefused => "the provider ended a session at its refresh",
            EndCause::Over(SignedOut::Idle) => "a session was idle for too long",
            EndCause::Over(_) => "a session reached the end of its lifetime",
        }
    }
}

impl SessionChange {
    /// What happened.
    pub fn kind(&self) -> SessionChangeKind {
        match self.cause {
            Cause::SignedIn => SessionChangeKind::Began,
            Cause::Refreshed => SessionChangeKind::Refreshed,
            Cause::RefreshFailed(_) => SessionChangeKind::RefreshFailed,
            Cause::Ended(_) => SessionChangeKind::Ended,
        }
    }

    /// Why: the reason code of the log, as the manual's page on events lists them.
    pub fn reason(&self) -> &'static str {
        self.cause.reason()
    }

    /// The provider that the user signed in at, as [`User::issuer`](crate::User::issuer). Of a session of which nothing but
    /// its id is known, and of a provider with an issuer for each tenant (`oidc.tenants`), the template.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// `sub` of the user; `None` when it is not known, as for a logout by `sid` where sessions are in cookies.
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// The provider's name for its own session, if there is one and it is known. Whoever knows it may end the
    /// session by the front channel, where that is on: keep it out of logs.
    pub fn sid(&self) -> Option<&str> {
        self.sid.as_deref()
    }

    /// The session, by the name that [`User::session_id`](crate::User::session_id) has; `None` when all of
    /// this `sid` or of this user have ended, where sessions are in cookies.
    pub fn session_id(&self) -> Option<&str> {
        self.session_id.as_deref()
    }

    /// Whether the session has ended.
    pub fn has_ended(&self) -> bool {
        matches!(self.cause, Cause::Ended(_))
    }

    /// For the log, where a session began or ended.
    fn sentence(&self) -> Option<&'static str> {
        match self.cause {
            Cause::SignedIn => Some("a user signed in"),
            Cause::Ended(cause) => Some(cause.sentence()),
            Cause::Refreshed | Cause::RefreshFailed(_) => None,
        }
    }

    /// Logs that the session began or ended. What becomes of a refresh is logged where it is known.
    ///
    /// Subjects come from outside: their control characters are escaped, so that none is a line of its own.
    pub(crate) fn log(&self) {
        if let Some(sentence) = self.sentence() {
            observing::session_changed(SessionLine {
                reason: self.reason(),
                sentence,
                issuer: printable_name(self.issuer()),
                subject: self.subject().map(printable_name),
                session: self.session_id().map(printable_name),
            });
        }
    }

    pub(crate) fn began(session: &CurrentSession) -> SessionChange {
        SessionChange::of(session.name(), session, Cause::SignedIn)
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

    /// A session of which nothing but its name is known.
    pub(super) fn ended_by_name(issuer: &Arc<str>, name: &str, cause: EndCause) -> SessionChange {
        SessionChange {
            session_id: Some(name.to_owned()),
            ..SessionChange::ended_all(issuer.clone(), None, None, cause)
        }
    }

    /// All sessions with this `sid` or of this user, whichever they are.
    pub(crate) fn ended_all(
        issuer: impl Into<Arc<str>>,
        subject: Option<&str>,
        sid: Option<&str>,
        cause: EndCause,
    ) -> SessionChange {
        SessionChange {
            cause: Cause::Ended(cause),
            issuer: issuer.into(),
            subject: subject.map(str::to_owned),
            sid: sid.map(str::to_owned),
            session_id: None,
        }
    }

    fn of(name: &str, session: &Session, cause: Cause) -> SessionChange {
        SessionChange {
            cause,
            issuer: session.issuer.clone(),
            subject: Some(session.subject().to_owned()),
            sid: session.sid().map(str::to_owned),
            session_id: Some(name.to_owned()),
        }
    }

    /// Whether it is about this session.
    pub(crate) fn is_about_session(&self, session: &CurrentSession) -> bool {
        if let Some(id) = &self.session_id {
            return id == session.name();
        }
        if self.issuer != session.issuer {
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
    /// `sid`: the provider's name for its own session.
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
    use time::OffsetDateTime;

    use super::*;

    const ISSUER: &str = "https://op.example";

    fn session(name: &str, claims: Value) -> CurrentSession {
        let claims = serde_json::from_value(claims).unwrap();
        let session = Session::new(ISSUER, claims, OffsetDateTime::UNIX_EPOCH);
        CurrentSession::nowhere(session).with_name(name)
    }

    #[test]
    fn what_names_no_session_is_about_all_with_the_sid_or_of_the_user() {
        let with_sid = session("a", json!({ "sub": "alice", "sid": "1" }));
        let without_sid = session("b", json!({ "sub": "alice" }));
        let cause = EndCause::BackchannelLogout;
        let all = |subject, sid| SessionChange::ended_all(ISSUER, subject, sid, cause);
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
        let elsewhere =
            SessionChange::ended_all("https://other.example", Some("alice"), None, cause);
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
