//! Why guards rejected a request: for the app's catchers.

use rocket::Request;

use super::{RequestState, SignInFailure};
use crate::{resource_server::BearerError, session::SignedOut};

impl SignInFailure {
    /// The failure that this request is answered with, if it is: for catchers, which have it when
    /// [`Oidc::error_page`](crate::Oidc::error_page) leaves the answer to them.
    ///
    /// ```
    /// use rocket::{Request, catch};
    /// use rocket_openidconnect::{BearerError, SignInFailure, SignedOut};
    ///
    /// #[catch(default)]
    /// fn sorry(status: rocket::http::Status, request: &Request<'_>) -> String {
    ///     if let Some(failure) = SignInFailure::of(request) {
    ///         format!("No sign-in ({}), error {}", failure.error.reason(), failure.id)
    ///     } else if let Some(signed_out) = SignedOut::of(request) {
    ///         format!("Please sign in: {signed_out}")
    ///     } else if let Some(error) = BearerError::of(request) {
    ///         format!("Please send another token: {error}")
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

impl SignedOut {
    /// Why a guard refused this request for want of a session, if one did: for catchers. See
    /// [`SignInFailure::of`](super::SignInFailure::of) for an example.
    pub fn of(request: &Request<'_>) -> Option<SignedOut> {
        RequestState::of(request).signed_out.get().copied()
    }
}

impl BearerError {
    /// Why a guard refused this request for want of an access token, if one did: for catchers. See
    /// [`SignInFailure::of`](super::SignInFailure::of) for an example.
    pub fn of<'r>(request: &'r Request<'_>) -> Option<&'r BearerError> {
        let last = RequestState::of(request).refusals().last()?;
        Some(&last.error)
    }
}
