//! The messages that the browser carries between app and provider. No socket, clock or rocket here.

mod authorization_request;
mod authorization_response;
mod logout_request;
pub(crate) mod pending_sign_in;
mod return_to;

pub(crate) use authorization_request::authorization_request;
pub(crate) use authorization_response::AuthorizationResponse;
pub(crate) use logout_request::{PendingLogout, logout_request};
pub(crate) use pending_sign_in::PendingSignIn;
pub(crate) use return_to::ReturnTo;
