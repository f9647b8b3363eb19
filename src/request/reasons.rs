//! Accessors for catchers: the reason why a guard or route rejected the request.

use rocket::Request;

use super::{RequestState, SignInFailure, StepUp};
use crate::{resource_server::BearerError, session::NoSession};

impl SignInFailure {
    /// The failed sign-in that this request's response reports, if there is one. Catchers use it when
    /// [`Pages::sign_in_failed`](crate::Pages::sign_in_failed) leaves the response to them.
    ///
    /// ```
    /// use rocket::{Request, catch};
    /// use rocket_openidconnect::{BearerError, SignInFailure, NoSession};
    ///
    /// #[catch(default)]
    /// fn sorry(status: rocket::http::Status, request: &Request<'_>) -> String {
    ///     if let Some(failure) = SignInFailure::of(request) {
    ///         format!("No sign-in ({}), error {}", failure.error.reason(), failure.id)
    ///     } else if let Some(signed_out) = NoSession::of(request) {
    ///         format!("Please sign in: {signed_out}")
    ///     } else if let Some(error) = BearerError::of(request) {
    ///         format!("Please send another token ({})", error.reason())
    ///     } else {
    ///         status.to_string()
    ///     }
    /// }
    /// ```
    pub fn of<'r>(request: &'r Request<'_>) -> Option<&'r SignInFailure> {
        let failure = RequestState::of(request).sign_in.get()?;
        Some(failure)
    }
}

impl NoSession {
    /// Why a guard rejected this request for lack of a session, if one did. For catchers; for an example see
    /// [`SignInFailure::of`](super::SignInFailure::of).
    pub fn of(request: &Request<'_>) -> Option<NoSession> {
        RequestState::of(request).signed_out.get().copied()
    }
}

impl BearerError {
    /// Why a guard rejected this request for lack of an acceptable access token, if one did. For catchers; for
    /// an example see [`SignInFailure::of`](super::SignInFailure::of).
    pub fn of<'r>(request: &'r Request<'_>) -> Option<&'r BearerError> {
        let last = RequestState::of(request).refusals().last()?;
        Some(&last.error)
    }
}

impl StepUp {
    /// What a guard demanded of this request's user, if one did.
    pub fn of<'r>(request: &'r Request<'_>) -> Option<&'r StepUp> {
        RequestState::of(request).step_up.get().map(|step_up| &**step_up)
    }
}
