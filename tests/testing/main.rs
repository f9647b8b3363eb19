//! The test kit, used as an app uses it: nothing here is private.

mod app;
mod claims;
mod clock;
mod guarded;
mod launch;
mod logging;
mod provider;
mod requests;
mod security_schemes;
mod several_providers;
mod sign_in;
