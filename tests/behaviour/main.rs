//! What an app with the fairing does, against a provider that can be told to misbehave.

mod app;
mod bearer;
mod common;
mod disabled;
mod events;
mod guards;
mod launch;
mod logout;
mod rejections;
mod session;
mod sign_in;
mod support;
