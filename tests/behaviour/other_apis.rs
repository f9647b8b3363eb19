//! Access tokens for other APIs.

mod api_client;
mod client_token;
mod exchange;
mod user_token;
