//! The last sign-ins, step by step, for a developer to look at. Kept in the debug profile only.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use time::OffsetDateTime;

use crate::relying_party::SignInError;

/// How many attempts are kept.
const MOST: usize = 20;
/// How many steps of each: more than a sign-in has.
const MOST_STEPS: usize = 16;

/// The last attempts to sign in, newest first.
#[derive(Debug, Default)]
pub(crate) struct Attempts(Option<Mutex<VecDeque<Attempt>>>);

/// One attempt to sign in, as far as it came.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// What its cookie is named by; no part of the page. `None` for a response that no attempt belongs to.
    name: Option<String>,
    pub(crate) return_to: String,
    pub(crate) steps: Vec<(OffsetDateTime, String)>,
    pub(crate) failure: Option<Failure>,
    pub(crate) is_signed_in: bool,
}

/// Why an attempt came to nothing.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) at: OffsetDateTime,
    pub(crate) id: String,
    pub(crate) reason: &'static str,
    pub(crate) cause: String,
    pub(crate) remedy: String,
}

impl Attempts {
    /// Keeps attempts, in the debug profile.
    pub(crate) fn new(is_debug: bool) -> Attempts {
        Attempts(is_debug.then(Mutex::default))
    }

    /// An attempt begins: the browser is sent to the provider.
    pub(crate) fn begin(&self, name: &str, return_to: &str, now: OffsetDateTime) {
        if let Some(mut attempts) = self.lock() {
            push(&mut attempts, Some(name), return_to);
        }
        self.step(name, "the browser was sent to the provider", now);
    }

    /// An attempt comes one step further.
    pub(crate) fn step(&self, name: &str, step: &str, now: OffsetDateTime) {
        if let Some(mut attempts) = self.lock()
            && let Some(attempt) = find(&mut attempts, name)
            && attempt.steps.len() < MOST_STEPS
        {
            attempt.steps.push((now, step.to_owned()));
        }
    }

    /// An attempt succeeds.
    pub(crate) fn signed_in(&self, name: &str, now: OffsetDateTime) {
        self.step(name, "the session began", now);
        if let Some(mut attempts) = self.lock()
            && let Some(attempt) = find(&mut attempts, name)
        {
            attempt.is_signed_in = true;
        }
    }

    /// An attempt fails; or a response does that belongs to none.
    pub(crate) fn failed(
        &self,
        name: Option<&str>,
        return_to: &str,
        (id, error): (&str, &SignInError),
        now: OffsetDateTime,
    ) {
        let Some(mut attempts) = self.lock() else {
            return;
        };
        let is_known = name.is_some_and(|name| find(&mut attempts, name).is_some());
        if !is_known {
            push(&mut attempts, name, return_to);
        }
        let attempt = match name.filter(|_| is_known) {
            Some(name) => find(&mut attempts, name),
            None => attempts.front_mut(),
        };
        if let Some(attempt) = attempt {
            attempt.failure = Some(Failure {
                at: now,
                id: id.to_owned(),
                reason: error.reason(),
                cause: error.to_string(),
                remedy: error.remedy(),
            });
        }
    }

    /// The attempts, newest first.
    pub(crate) fn list(&self) -> Vec<Attempt> {
        self.lock()
            .map_or_else(Vec::new, |attempts| attempts.iter().cloned().collect())
    }

    fn lock(&self) -> Option<MutexGuard<'_, VecDeque<Attempt>>> {
        let attempts = self.0.as_ref()?;
        Some(attempts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn push(attempts: &mut VecDeque<Attempt>, name: Option<&str>, return_to: &str) {
    attempts.truncate(MOST - 1);
    attempts.push_front(Attempt {
        name: name.map(str::to_owned),
        return_to: return_to.to_owned(),
        steps: vec![],
        failure: None,
        is_signed_in: false,
    });
}

fn find<'a>(attempts: &'a mut VecDeque<Attempt>, name: &str) -> Option<&'a mut Attempt> {
    attempts
        .iter_mut()
        .find(|attempt| attempt.name.as_deref() == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_bounded_and_the_newest_is_first() {
        let (attempts, now) = (Attempts::new(true), OffsetDateTime::UNIX_EPOCH);
        for n in 0..50 {
            attempts.begin(&format!("attempt{n}"), "/me", now);
        }
        for _ in 0..100 {
            attempts.step("attempt49", "again", now);
        }
        let list = attempts.list();
        assert_eq!((list.len(), list[0].steps.len()), (MOST, MOST_STEPS));
        let error = ("id", &SignInError::Used);
        attempts.failed(Some("attempt40"), "/me", error, now);
        assert_eq!(
            attempts.list()[9].failure.as_ref().unwrap().reason,
            "sign_in_over"
        );
        attempts.failed(None, "/", error, now);
        assert_eq!(attempts.list().len(), MOST);
        assert_eq!(attempts.list()[0].name, None);
    }

    #[test]
    fn nothing_is_kept_outside_of_debug() {
        let (attempts, now) = (Attempts::new(false), OffsetDateTime::UNIX_EPOCH);
        attempts.begin("attempt", "/me", now);
        attempts.failed(None, "/", ("id", &SignInError::Used), now);
        assert!(attempts.list().is_empty());
    }
}
