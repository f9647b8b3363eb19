//! What guards and routes leave for the answer, in one place beside the request.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rocket::Request;

use crate::{
    SignInFailure,
    cookies::CookieChanges,
    resource_server::BearerError,
    scopes::Demand,
    session::{CurrentSession, SignedOut},
};

/// How many requests of this process have left something. While it is none, an answer does not even
/// look: most requests of most apps are for assets, and a look costs as much as all else that we do.
static LEFT: AtomicUsize = AtomicUsize::new(0);

pub(crate) struct RequestState {
    /// What the answer sets and removes.
    pub(crate) cookies: CookieChanges,
    /// The session, once a guard has looked for it.
    pub(crate) session: OnceLock<Result<Arc<CurrentSession>, SignedOut>>,
    /// The session that the answer carries, if it is to carry one.
    pub(crate) answer: Arc<Answer>,
    /// When a request is to be tried again that a guard answered with 503.
    pub(crate) retry_after: OnceLock<Duration>,
    /// Why a guard refused for want of a session. A page load with this goes to sign-in when its answer
    /// is 401.
    pub(crate) signed_out: OnceLock<SignedOut>,
    /// The session ends with this request: its tokens are not refreshed.
    pub(crate) is_ending: OnceLock<()>,
    /// Why guards refused for want of a token. An answer carries the challenge of the last one that has its status.
    bearer: OnceLock<Box<Refusal>>,
    /// Why a sign-in failed.
    pub(crate) sign_in: OnceLock<Box<SignInFailure>>,
}

/// Why a guard refused for want of a token, and what it asks for.
pub(crate) struct Refusal {
    pub(crate) error: BearerError,
    pub(crate) demand: Demand,
    /// That of a later guard.
    next: OnceLock<Box<Refusal>>,
}

impl RequestState {
    /// Notes that a guard refused for want of a token.
    pub(crate) fn refuse(&self, error: BearerError, demand: Demand) {
        let mut refusal = Box::new(Refusal {
            error,
            demand,
            next: OnceLock::new(),
        });
        let mut place = &self.bearer;
        while let Err(back) = place.set(refusal) {
            refusal = back;
            match place.get() {
                Some(taken) => place = &taken.next,
                None => return,
            }
        }
    }

    /// The refusals of guards for want of a token, in their order.
    pub(crate) fn refusals(&self) -> impl Iterator<Item = &Refusal> {
        let first = self.bearer.get();
        std::iter::successors(first, |refusal| refusal.next.get()).map(|refusal| &**refusal)
    }

    /// To leave something.
    pub(crate) fn of<'r>(request: &'r Request<'_>) -> &'r RequestState {
        request.local_cache(RequestState::new)
    }

    /// What was left, if anything was.
    pub(crate) fn left_by<'r>(request: &'r Request<'_>) -> Option<&'r RequestState> {
        (LEFT.load(Ordering::Acquire) > 0).then(|| RequestState::of(request))
    }

    fn new() -> RequestState {
        LEFT.fetch_add(1, Ordering::Release);
        RequestState {
            cookies: CookieChanges::default(),
            session: OnceLock::new(),
            answer: Arc::default(),
            retry_after: OnceLock::new(),
            signed_out: OnceLock::new(),
            is_ending: OnceLock::new(),
            bearer: OnceLock::new(),
            sign_in: OnceLock::new(),
        }
    }
}

impl Drop for RequestState {
    fn drop(&mut self) {
        LEFT.fetch_sub(1, Ordering::Release);
    }
}

/// The session that an answer carries to the browser: encrypted once, when the answer is made.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    state: Mutex<AnswerState>,
    has_ended: AtomicBool,
}

#[derive(Debug, Default)]
enum AnswerState {
    /// It carries none so far.
    #[default]
    Nothing,
    Session(Box<CurrentSession>),
    /// Its headers are made.
    Sent,
}

impl Answer {
    /// Has the answer carry this session, unless it has a newer generation of it. `false` when its headers
    /// are made already.
    pub(crate) fn set(&self, session: &CurrentSession) -> bool {
        let mut state = self.state();
        match &*state {
            AnswerState::Sent => return false,
            AnswerState::Session(other)
                if other.name() == session.name() && other.generation > session.generation => {}
            AnswerState::Nothing | AnswerState::Session(_) => {
                *state = AnswerState::Session(Box::new(session.clone()));
            }
        }
        true
    }

    /// The session of the request was not refreshed for this reason. If it has ended by that, the answer removes its
    /// cookies.
    pub(crate) fn not_refreshed(&self, session: &CurrentSession, reason: SignedOut) {
        if !matches!(reason, SignedOut::Ended | SignedOut::RefreshRefused) {
            return;
        }
        self.has_ended.store(true, Ordering::Release);
        let mut state = self.state();
        if matches!(&*state, AnswerState::Session(other) if other.name() == session.name()) {
            *state = AnswerState::Nothing;
        }
    }

    /// Whether the session of the request has ended at its refresh.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    pub(crate) fn is_sent(&self) -> bool {
        let state = self.state();
        matches!(*state, AnswerState::Sent)
    }

    /// The headers are made now: the session that they are to carry.
    pub(crate) fn send(&self) -> Option<CurrentSession> {
        let mut state = self.state();
        match std::mem::replace(&mut *state, AnswerState::Sent) {
            AnswerState::Session(session) => Some(*session),
            AnswerState::Nothing | AnswerState::Sent => None,
        }
    }

    fn state(&self) -> MutexGuard<'_, AnswerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SignedOut {
    /// Why a guard refused this request for want of a session, if one did: for catchers. See
    /// [`SignInFailure::of`] for an example.
    pub fn of(request: &Request<'_>) -> Option<SignedOut> {
        RequestState::left_by(request)?.signed_out.get().copied()
    }
}

impl BearerError {
    /// Why a guard refused this request for want of an access token, if one did: for catchers. See
    /// [`SignInFailure::of`] for an example.
    pub fn of<'r>(request: &'r Request<'_>) -> Option<&'r BearerError> {
        let last = RequestState::left_by(request)?.refusals().last()?;
        Some(&last.error)
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

    /// What an answer carries to which these sessions were given.
    fn carried(given: &[(&str, u64, i64)]) -> Option<(String, u64, i64)> {
        let answer = Answer::default();
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
    fn an_answer_carries_the_newest_generation_of_a_session_and_of_two_the_later() {
        let expected = |name: &str, generation, due| Some((name.to_owned(), generation, due));
        assert_eq!(carried(&[]), None);
        assert_eq!(carried(&[("a", 1, 0), ("a", 2, 0)]), expected("a", 2, 0));
        assert_eq!(carried(&[("a", 2, 0), ("a", 1, 0)]), expected("a", 2, 0));
        // Such as one whose use was noted.
        assert_eq!(carried(&[("a", 2, 0), ("a", 2, 1)]), expected("a", 2, 1));
        // A sign-in in place of a session that was refreshed often.
        assert_eq!(carried(&[("a", 9, 0), ("b", 1, 0)]), expected("b", 1, 0));
    }
}
