//! Why guards rejected a request: for the app's catchers.

use rocket::Request;

use super::RequestState;
use crate::{resource_server::BearerError, session::SignedOut};

impl SignedOut {
    /// Why a guard refused this request for want of a session, if one did: for catchers. See
    /// [`SignInFailure::of`](super::SignInFailure::of) for an example.
    pub fn of(request: &Request<'_>) -> Option<SignedOut> {
        RequestState::left_by(request)?.signed_out.get().copied()
    }
}

impl BearerError {
    /// Why a guard refused this request for want of an access token, if one did: for catchers. See
    /// [`SignInFailure::of`](super::SignInFailure::of) for an example.
    pub fn of<'r>(request: &'r Request<'_>) -> Option<&'r BearerError> {
        let last = RequestState::left_by(request)?.refusals().last()?;
        Some(&last.error)
    }
}
