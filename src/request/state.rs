//! What guards and routes leave for the answer, in one place beside the request.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use rocket::Request;

use crate::{
    cookies::CookieChanges,
    request::SignInFailure,
    resource_server::BearerError,
    scopes::Demand,
    session::{CurrentSession, OutgoingSession, SignedOut},
};

#[derive(Default)]
pub(crate) struct RequestState {
    /// What the answer sets and removes.
    pub(crate) cookies: CookieChanges,
    /// The session, once a guard has looked for it.
    pub(crate) session: OnceLock<Result<Arc<CurrentSession>, SignedOut>>,
    /// The session that the answer carries, if it is to carry one.
    pub(crate) answer: Arc<OutgoingSession>,
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

    /// The state of this request.
    pub(crate) fn of<'r>(request: &'r Request<'_>) -> &'r RequestState {
        request.local_cache(RequestState::default)
    }
}
