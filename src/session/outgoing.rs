//! The session that a response sets in its cookies.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use super::{CurrentSession, NoSession};

/// The session that a response sets: encrypted once, when the response is finished.
#[derive(Debug, Default)]
pub(crate) struct OutgoingSession {
    state: Mutex<OutgoingState>,
    has_ended: AtomicBool,
}

#[derive(Debug, Default)]
enum OutgoingState {
    /// No session to set so far.
    #[default]
    Nothing,
    Session(Box<CurrentSession>),
    /// The headers have been written.
    Sent,
}

impl OutgoingSession {
    /// Sets the response's session, unless it has a newer generation of it. Returns `false` if the headers have been
    /// written.
    pub(crate) fn set(&self, session: &CurrentSession) -> bool {
        let mut state = self.state();
        match &*state {
            OutgoingState::Sent => return false,
            OutgoingState::Session(other)
                if other.name() == session.name() && other.generation > session.generation => {}
            OutgoingState::Nothing | OutgoingState::Session(_) => {
                *state = OutgoingState::Session(Box::new(session.clone()));
            }
        }
        true
    }

    /// Records that the refresh of the request's session failed for this reason. If that ended the session, the
    /// response removes its cookies.
    pub(crate) fn not_refreshed(&self, session: &CurrentSession, reason: NoSession) {
        if !matches!(reason, NoSession::Ended | NoSession::RefreshRefused) {
            return;
        }
        self.has_ended.store(true, Ordering::Release);
        let mut state = self.state();
        if matches!(&*state, OutgoingState::Session(other) if other.name() == session.name()) {
            *state = OutgoingState::Nothing;
        }
    }

    /// Whether the request's session has ended at its refresh.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    pub(crate) fn is_sent(&self) -> bool {
        let state = self.state();
        matches!(*state, OutgoingState::Sent)
    }

    /// Takes the session to set, when the headers are written.
    pub(crate) fn send(&self) -> Option<CurrentSession> {
        let mut state = self.state();
        match std::mem::replace(&mut *state, OutgoingState::Sent) {
            OutgoingState::Session(session) => Some(*session),
            OutgoingState::Nothing | OutgoingState::Sent => None,
        }
    }

    fn state(&self) -> MutexGuard<'_, OutgoingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;
    use crate::{session::Session, token::Claims};

    fn session(name: &str, generation: u64, refresh_due: i64) -> CurrentSession {
        let now = OffsetDateTime::UNIX_EPOCH;
        let mut session = Session::new("https://op.example", Claims::default(), now);
        session.generation = generation;
        session.refresh_due = Some(refresh_due);
        CurrentSession::nowhere(session).with_name(name)
    }

    /// The session that a response sets after these calls of `set`.
    fn carried(given: &[(&str, u64, i64)]) -> Option<(String, u64, i64)> {
        let answer = OutgoingSession::default();
        for (name, generation, refresh_due) in given {
            assert!(answer.set(&session(name, *generation, *refresh_due)));
        }
        assert!(!answer.is_sent());
        let sent = answer.send();
        assert!(answer.is_sent());
        assert!(!answer.set(&session("late", 9, 0)));
        assert!(answer.send().is_none());
        sent.map(|s| (s.name().to_owned(), s.generation, s.refresh_due.unwrap()))
    }

    #[test]
    fn a_response_sets_the_newest_generation_of_a_session_and_the_later_of_two() {
        let expected = |name: &str, generation, due| Some((name.to_owned(), generation, due));
        assert_eq!(carried(&[]), None);
        assert_eq!(carried(&[("a", 1, 0), ("a", 2, 0)]), expected("a", 2, 0));
        assert_eq!(carried(&[("a", 2, 0), ("a", 1, 0)]), expected("a", 2, 0));
        // For example, its last use was updated.
        assert_eq!(carried(&[("a", 2, 0), ("a", 2, 1)]), expected("a", 2, 1));
        // A sign-in replaces a session that was refreshed often.
        assert_eq!(carried(&[("a", 9, 0), ("b", 1, 0)]), expected("b", 1, 0));
    }
}
