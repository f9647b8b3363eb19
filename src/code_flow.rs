//! The messages that the browser carries between app and provider: no I/O, no clock and no Rocket types.

mod authorization_request;
mod authorization_response;
mod logout_request;
mod response_error;
mod return_to;
mod sign_in_attempt;
mod sign_in_parameters;
mod unverified_user;

pub(crate) use authorization_request::authorization_request;
pub(crate) use authorization_response::{AcceptedResponse, AuthorizationResponse};
pub(crate) use logout_request::{PENDING_LOGOUT, PendingLogout, logout_request};
pub use response_error::ResponseError;
pub(crate) use return_to::ReturnTo;
pub(crate) use sign_in_attempt::{AttemptId, AttemptSecrets, Browser, BrowserId, Details, SignInAttempt};
pub(crate) use sign_in_parameters::{MAX_PARAMETERS_LEN, SignInParameters};
pub(crate) use unverified_user::MAX_USER_LEN;
pub use unverified_user::UnverifiedUser;
