//! A bounded log of the last requests that a policy refused, for developers. Kept in the debug profile only.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rocket::Request;
use time::OffsetDateTime;

use super::{RelyingParty, User, missed_claims::MissedClaim};

/// The maximum number of refusals that are kept.
const MAX_REFUSALS: usize = 20;

/// The last refusals, newest first.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<VecDeque<Refusal>>);

/// A request that a policy refused.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) at: OffsetDateTime,
    pub(crate) path: String,
    pub(crate) policy: &'static str,
    /// What the policy looked for in vain, each with its remedy.
    pub(crate) missed: Vec<(String, String)>,
}

impl Refusals {
    /// Newest first.
    pub(crate) fn list(&self) -> Vec<Refusal> {
        self.lock().iter().cloned().collect()
    }

    fn add(&self, refusal: Refusal) {
        let mut refusals = self.lock();
        refusals.truncate(MAX_REFUSALS - 1);
        refusals.push_front(refusal);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Refusal>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs which claims a policy looked for in vain before it refused this user, and keeps them for the debug page. Names
/// alone: neither a value nor who the user is.
pub(crate) fn refused_by_policy<C>(request: &Request<'_>, user: &User<C>, policy: &'static str) {
    let Some(app) = request.rocket().state::<RelyingParty>() else {
        return;
    };
    let settings = user.settings().unwrap_or(&app.settings);
    let missed = user.missed_claims().into_iter();
    let missed: Vec<_> = missed.map(|missed| (missed.cause(), missed.remedy(settings))).collect();
    for (cause, remedy) in &missed {
        tracing::warn!(policy, "the policy `{policy}` refused a user: {cause}");
        tracing::info!("{remedy}");
    }
    if let Some(refusals) = app.attempts.refusals() {
        refusals.add(Refusal {
            at: app.clock.now(),
            path: request.uri().path().to_string(),
            policy,
            missed,
        });
    }
}

impl<C> User<C> {
    /// What was looked for in vain while a policy decided.
    fn missed_claims(&self) -> Vec<MissedClaim> {
        self.missed().map(|missed| missed.list()).unwrap_or_default()
    }
}
