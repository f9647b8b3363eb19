//! Access tokens for other APIs, which the provider issues to this app: requested once, and cached.

mod error;
mod issued_token;
mod issued_tokens;
mod target;

pub use error::ApiTokenError;
pub use issued_token::IssuedToken;
pub(crate) use issued_tokens::{IssuedTokens, Limits};
pub(crate) use target::Target;
