//! A bounded log of the last sign-in attempts, step by step, for developers. Kept in the debug profile only.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use time::OffsetDateTime;

use super::SignInError;

/// The maximum number of attempts that are kept.
const MAX_ATTEMPTS: usize = 20;
/// The maximum number of steps per attempt: more than a sign-in has.
const MAX_STEPS: usize = 16;

/// The last sign-in attempts, newest first.
#[derive(Debug, Default)]
pub(crate) struct Attempts(Option<Mutex<VecDeque<Attempt>>>);

/// One sign-in attempt and the steps that it has completed.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// The short name of the attempt, which names its cookie; not shown. `None` for a response without an attempt.
    name: Option<String>,
    pub(crate) return_to: String,
    pub(crate) steps: Vec<Step>,
    pub(crate) failure: Option<Failure>,
    pub(crate) is_signed_in: bool,
}

/// A step of an attempt.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) at: OffsetDateTime,
    pub(crate) text: String,
    /// The checks that a token has passed in it.
    pub(crate) checks: Vec<String>,
}

/// Why an attempt failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) at: OffsetDateTime,
    pub(crate) id: String,
    pub(crate) reason: &'static str,
    pub(crate) cause: String,
    pub(crate) remedy: String,
}

impl Attempts {
    /// Keeps attempts only in the debug profile.
    pub(crate) fn new(is_debug: bool) -> Attempts {
        Attempts(is_debug.then(Mutex::default))
    }

    /// Whether attempts are kept.
    pub(crate) fn are_kept(&self) -> bool {
        self.0.is_some()
    }

    /// Records a new attempt: the browser is redirected to the provider.
    pub(crate) fn begin(&self, name: &str, return_to: &str, now: OffsetDateTime) {
        if let Some(mut attempts) = self.lock() {
            push(&mut attempts, Some(name), return_to);
        }
        self.step(name, "the browser was redirected to the provider", now);
    }

    /// Records a step of an attempt.
    pub(crate) fn step(&self, name: &str, step: &str, now: OffsetDateTime) {
        self.checked(name, step, Vec::new, now);
    }

    /// Records a step of an attempt, with the checks that a token has passed.
    pub(crate) fn checked(&self, name: &str, step: &str, checks: impl FnOnce() -> Vec<String>, now: OffsetDateTime) {
        if let Some(mut attempts) = self.lock()
            && let Some(attempt) = find(&mut attempts, name)
            && attempt.steps.len() < MAX_STEPS
        {
            attempt.steps.push(Step {
                at: now,
                text: step.to_owned(),
                checks: checks(),
            });
        }
    }

    /// Records that an attempt succeeded.
    pub(crate) fn signed_in(&self, name: &str, now: OffsetDateTime) {
        self.step(name, "the session began", now);
        if let Some(mut attempts) = self.lock()
            && let Some(attempt) = find(&mut attempts, name)
        {
            attempt.is_signed_in = true;
        }
    }

    /// Records that an attempt failed, or a response that belongs to no attempt.
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
        if name.is_none_or(|name| find(&mut attempts, name).is_none()) {
            push(&mut attempts, name, return_to);
        }
        let attempt = match name {
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
    attempts.truncate(MAX_ATTEMPTS - 1);
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
        assert_eq!((list.len(), list[0].steps.len()), (MAX_ATTEMPTS, MAX_STEPS));
        let error = ("id", &SignInError::AlreadyUsed);
        attempts.failed(Some("attempt40"), "/me", error, now);
        assert_eq!(
            attempts.list()[9].failure.as_ref().unwrap().reason,
            "sign_in_already_used"
        );
        attempts.failed(None, "/", error, now);
        assert_eq!(attempts.list().len(), MAX_ATTEMPTS);
        assert_eq!(attempts.list()[0].name, None);
    }

    #[test]
    fn attempts_are_recorded_in_the_debug_profile_only() {
        let (attempts, now) = (Attempts::new(false), OffsetDateTime::UNIX_EPOCH);
        attempts.begin("attempt", "/me", now);
        attempts.failed(None, "/", ("id", &SignInError::AlreadyUsed), now);
        assert!(attempts.list().is_empty());
    }
}
