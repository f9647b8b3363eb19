//! Per-request state: what guards and routes store for the response, and how the request arrived.

mod api_token_error;
mod denial;
mod denials;
mod failure_kind;
mod page_load;
mod reasons;
mod relying_party;
mod returned_query;
mod sender;
mod sign_in_failure;
mod state;
mod step_up;

pub(crate) use denial::Denial;
pub use failure_kind::SignInFailureKind;
pub(crate) use page_load::{is_fetched, is_form_navigation, is_page_load, is_top_level_page_load};
pub(crate) use relying_party::{relying_party, relying_party_of_session, resource_server};
pub(crate) use returned_query::{PrivatePaths, ReturnedQuery};
pub(crate) use sender::{CrossOrigin, Sender, check_sender, is_own_origin};
pub use sign_in_failure::SignInFailure;
pub(crate) use state::{Refusal, RequestState, StatePlace};
pub use step_up::StepUp;
