//! What an app with the fairing does, against a provider that can be told to misbehave.

mod app;
mod bearer;
mod common;
mod debug_page;
mod dev_provider;
mod disabled;
mod error_pages;
mod events;
mod form_post;
mod guards;
mod initiate_login;
mod launch;
mod logout;
mod logout_at_provider;
mod logout_by_provider;
mod observing;
mod private_key_jwt;
mod protect;
mod pushed_authorization;
mod refresh;
mod rejections;
mod return_addresses;
mod session;
mod sign_in;
mod stores;
mod support;
