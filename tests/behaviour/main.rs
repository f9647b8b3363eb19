//! What an app with the fairing does, against a provider that can be told to misbehave.

mod app;
mod bearer;
mod common;
mod disabled;
mod events;
mod guards;
mod launch;
mod logout;
mod logout_at_provider;
mod logout_by_provider;
mod refresh;
mod rejections;
mod session;
mod sign_in;
mod stores;
mod support;
