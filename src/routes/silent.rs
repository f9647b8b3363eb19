//! Silent sign-in (`prompt=none`): begun by a page load of a signed-out visitor, it always returns to that page.

use rocket::route::Outcome;

use super::{RouteContext, redirect};
use crate::{
    code_flow::{AuthorizationResponse, ReturnTo, SignInAttempt, SignInParameters},
    guard::current_session,
    observing,
    relying_party::{SILENT_PARAMETER, SignInError, SilentSignIn},
    session::EarlierEnds,
};

const PROMPT: &str = "prompt";

impl<'r> RouteContext<'r, '_> {
    /// Whether the query of the sign-in route asks for a silent sign-in.
    pub(super) fn asks_for_silent_sign_in(&self) -> bool {
        self.rp.settings.silent && self.request.query_value::<bool>(SILENT_PARAMETER) == Some(Ok(true))
    }

    /// `GET {mount}/login?silent=true`: asks the provider for its session of the user, and shows no page. Once for each
    /// browser session: only a page load that was redirected here by a guard has the cookie for it.
    pub(super) async fn login_silently(&self, next: ReturnTo) -> Outcome<'r> {
        let _ = self.is_silent.set(());
        let jar = self.request.cookies();
        let may_try = self.rp.silent_client().is_some()
            && self.rp.silent_sign_in(jar) == Some(SilentSignIn::Requested)
            && !self.rp.has_last_session_ended(jar, self.now)
            // The cookies of this host are not those of the callback.
            && self.address_at_base_url().is_none()
            && current_session(self.request).await.is_err();
        if !may_try {
            return back_to(&next);
        }
        self.set([self.rp.set_silent_sign_in(SilentSignIn::Tried)]);
        let mut parameters = SignInParameters::default();
        parameters.set(PROMPT, "none");
        self.begin(EarlierEnds::default(), next, parameters, false).await
    }

    /// The parameters of a sign-in after the app's event handler: for a silent one with `prompt=none`, or `None` if they
    /// demand a new authentication.
    pub(super) fn silent_parameters(&self, mut parameters: SignInParameters) -> Option<SignInParameters> {
        if self.is_silent() {
            if parameters.demands_authentication() {
                return None;
            }
            parameters.set(PROMPT, "none");
        }
        Some(parameters)
    }

    /// Whether this request begins or completes a silent sign-in.
    pub(super) fn is_silent(&self) -> bool {
        self.is_silent.get().is_some()
    }

    /// Whether this is the callback of a silent sign-in, and a user has signed in meanwhile.
    pub(super) async fn has_user_meanwhile(&self, attempt: &SignInAttempt) -> bool {
        if !attempt.is_silent {
            return false;
        }
        let _ = self.is_silent.set(());
        current_session(self.request).await.is_ok()
    }

    /// The response to a silent sign-in for which the provider has no session of the user, which is not a failure.
    /// `None` for any other sign-in and any other error.
    pub(super) fn not_signed_in_silently(&self, error: &SignInError, return_to: &ReturnTo) -> Option<Outcome<'r>> {
        if !self.is_silent() || !error.requires_interaction() {
            return None;
        }
        if let Some(attempt) = self.attempt.get() {
            let step = "the provider has no session that this user can continue silently";
            self.rp.attempts.step(attempt, step, self.now);
        }
        observing::not_signed_in_silently(error, &self.rp.sessions.observed);
        Some(back_to(return_to))
    }

    /// Whether an error without `state`, which some providers omit, is probably the response to the silent sign-in of
    /// this browser. It is not authenticated: it only redirects to a page.
    pub(super) fn is_probably_silent(&self, response: &AuthorizationResponse) -> bool {
        response.requires_interaction()
            && self.rp.silent_client().is_some()
            && self.rp.silent_sign_in(self.request.cookies()) == Some(SilentSignIn::Tried)
    }
}

pub(super) fn back_to<'r>(page: &ReturnTo) -> Outcome<'r> {
    Outcome::Success(redirect(page.as_str()))
}
