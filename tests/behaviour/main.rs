//! What an app with the fairing does, against a provider that can be told to misbehave.

mod sign_in;
mod support;
