//! The response to a route's [`ApiTokenError`].

use rocket::{
    Request,
    http::Status,
    response::{Responder, Result},
};

use super::RequestState;
use crate::api_tokens::ApiTokenError;

impl<'r> Responder<'r, 'static> for ApiTokenError {
    /// Fails with its status, so that the app's catcher makes the response. The fairing adds `Retry-After`, and
    /// redirects a page load without a session to sign-in.
    fn respond_to(self, request: &'r Request<'_>) -> Result<'static> {
        RequestState::of(request).has_no_token(&self);
        Err(Status::from_code(self.status()).unwrap_or(Status::InternalServerError))
    }
}

#[cfg(feature = "api-client")]
impl<'r> Responder<'r, 'static> for crate::api_client::ApiCallError {
    /// Fails with its status, as [`ApiTokenError`] does. What the API did is logged.
    fn respond_to(self, request: &'r Request<'_>) -> Result<'static> {
        match &self {
            // Logged where the token was requested.
            crate::api_client::ApiCallError::Token(error) => RequestState::of(request).has_no_token(error),
            error => {
                tracing::error!(reason = error.reason(), "{error}");
                tracing::info!("{}", error.remedy());
            }
        }
        Err(Status::from_code(self.status()).unwrap_or(Status::InternalServerError))
    }
}

impl RequestState {
    /// Records why a route lacks a token, for the headers of its response.
    fn has_no_token(&self, error: &ApiTokenError) {
        if let ApiTokenError::NoSession(reason) = error {
            let _ = self.signed_out.set(*reason);
        }
        if let Some(wait) = error.retry_after() {
            let _ = self.retry_after.set(wait);
            let _ = self.is_out_of_tokens.set(());
        }
    }
}
