//! The state that guards and routes attach to a request, for its response.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rocket::Request;

use crate::{
    cookies::CookieChanges,
    relying_party::{NoProvider, RelyingParty},
    request::{Denial, SignInFailure, StepUp},
    resource_server::BearerError,
    scopes::Demand,
    session::{CurrentSession, NoSession, OutgoingSession, Session, UserKey},
};

#[derive(Default)]
pub(crate) struct RequestState {
    /// The cookies that the response sets and removes.
    pub(crate) cookies: CookieChanges,
    /// Among several providers, the relying party of the tenant, or of the session in the request's cookies.
    pub(crate) provider: OnceLock<Result<Arc<RelyingParty>, NoProvider>>,
    /// Among several providers, the relying party that the path, or the sign-in attempt, of the request names.
    pub(crate) named: OnceLock<Arc<RelyingParty>>,
    /// Among several providers, the relying party at which this request begins a session.
    pub(crate) signed_in_at: OnceLock<Arc<RelyingParty>>,
    /// The session, cached once a guard has read it.
    pub(crate) session: OnceLock<Result<Arc<CurrentSession>, NoSession>>,
    /// The session that the response sends to the browser, if any.
    outgoing: OnceLock<Arc<OutgoingSession>>,
    /// `Retry-After`, for a request that a guard rejected with 503.
    pub(crate) retry_after: OnceLock<Duration>,
    /// Set when a route lacks a token for another API during an outage: a 503 has `retry_after`.
    pub(crate) is_out_of_tokens: OnceLock<()>,
    /// Why a guard rejected the request for lack of a session. With this, a page load whose response is 401 is
    /// redirected to sign-in.
    pub(crate) signed_out: OnceLock<NoSession>,
    /// The user of the request's session, if it ended at its refresh.
    pub(crate) ended_user: OnceLock<UserKey>,
    /// The page that sends the form of this request, which is kept: the address in Rocket. With this, a 401 is redirected
    /// to sign-in.
    pub(crate) kept_form: OnceLock<String>,
    /// What a guard demands of the authentication of a signed-in user who falls short. With this, a page load whose
    /// response is 401 is redirected to a sign-in that asks for it.
    pub(crate) step_up: OnceLock<Box<StepUp>>,
    /// Whether a guard rejected the request so that a silent sign-in is tried before the page is shown; decided once.
    pub(crate) is_silent_sign_in_due: OnceLock<bool>,
    /// Set by the routes of this crate that judge by rules of their own which page sent the request.
    pub(crate) has_own_sender_rule: OnceLock<()>,
    /// Set when this request only asks about the session: nothing is refreshed, no use is recorded, no session cookie is
    /// set, and no other origin may read the response.
    pub(crate) is_inquiry: OnceLock<()>,
    /// Set when this request ends the session: its tokens are not refreshed.
    pub(crate) is_ending: OnceLock<()>,
    /// Why guards rejected the token. The response has the challenge of the last rejection that has its status.
    bearer: OnceLock<Box<Refusal>>,
    /// Set when a template of the response may wait for the visitor.
    pub(crate) has_template: OnceLock<()>,
    /// The nonce that the response has for the next proof of the client.
    pub(crate) dpop_nonce: OnceLock<String>,
    /// Whom a guard refused with 403, if they are known.
    pub(crate) forbidden: OnceLock<Box<Denial>>,
    /// Whom a guard refused with 401, although they are signed in or have a verified token.
    pub(crate) insufficient: OnceLock<Box<Denial>>,
    /// Why the sign-in failed.
    pub(crate) sign_in: OnceLock<Box<SignInFailure>>,
}

/// Where Rocket keeps the state. Most requests for assets have none: then it is neither made nor looked through.
#[derive(Default)]
pub(crate) struct StatePlace {
    state: OnceLock<RequestState>,
    /// Set when the fairing has written the response.
    is_answered: AtomicBool,
}

impl StatePlace {
    pub(crate) fn of<'r>(request: &'r Request<'_>) -> &'r StatePlace {
        request.local_cache(StatePlace::default)
    }

    /// Whether no guard and no route has attached anything to this request.
    pub(crate) fn is_empty(&self) -> bool {
        self.state.get().is_none_or(RequestState::is_empty)
    }

    /// Records that the fairing has written the response to this request: what guards attach from now on is lost.
    pub(crate) fn note_answered(&self) {
        self.is_answered.store(true, Ordering::Release);
    }
}

/// A guard's rejection of a token, and the scopes that it demands.
pub(crate) struct Refusal {
    pub(crate) error: BearerError,
    pub(crate) demand: Demand,
    /// The rejection by a later guard.
    next: OnceLock<Box<Refusal>>,
}

impl RequestState {
    /// Records that a guard rejected the request for lack of an acceptable token.
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

    /// The relying party of the tenant, or of the session in the request's cookies; without several providers, the
    /// app's.
    pub(crate) fn relying_party<'r>(&'r self, request: &'r Request<'_>) -> Option<&'r RelyingParty> {
        let of_several = self.provider.get().and_then(|rp| rp.as_ref().ok());
        of_several.map(|rp| &**rp).or_else(|| request.rocket().state())
    }

    /// The relying party that this session is of: the one whose it was before, or at which this request began it.
    pub(crate) fn relying_party_of<'r>(
        &'r self,
        session: &Session,
        request: &'r Request<'_>,
    ) -> Option<&'r RelyingParty> {
        let began = self.signed_in_at.get().map(|rp| &**rp);
        let all = [began, self.relying_party(request)];
        all.into_iter()
            .flatten()
            .find(|rp| rp.provider_name() == &*session.provider)
    }

    /// The rejections by guards, in order.
    pub(crate) fn refusals(&self) -> impl Iterator<Item = &Refusal> {
        let first = self.bearer.get();
        std::iter::successors(first, |refusal| refusal.next.get()).map(|refusal| &**refusal)
    }

    /// The session that the response sends to the browser.
    pub(crate) fn outgoing(&self) -> &Arc<OutgoingSession> {
        self.outgoing.get_or_init(Arc::default)
    }

    fn is_empty(&self) -> bool {
        self.session.get().is_none()
            && self.signed_out.get().is_none()
            && self.step_up.get().is_none()
            && self.bearer.get().is_none()
            && self.dpop_nonce.get().is_none()
            && self.forbidden.get().is_none()
            && self.sign_in.get().is_none()
            && self.outgoing.get().is_none()
            && self.is_out_of_tokens.get().is_none()
            && self.is_inquiry.get().is_none()
            && self.has_template.get().is_none()
            && self.cookies.is_empty()
    }

    /// The state of this request, created on first use.
    pub(crate) fn of<'r>(request: &'r Request<'_>) -> &'r RequestState {
        StatePlace::of(request).state.get_or_init(RequestState::default)
    }

    /// Whether the fairing has written the response. Guards of a fairing that is attached later only read then.
    pub(crate) fn is_answered(request: &Request<'_>) -> bool {
        StatePlace::of(request).is_answered.load(Ordering::Acquire)
    }
}
