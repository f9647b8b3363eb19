#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
mod clock;
mod code_flow;
mod cookies;
#[cfg(feature = "dev-provider")]
mod dev_provider;
mod error;
mod events;
mod fairing;
mod guard;
mod hash_of_end;
#[cfg(feature = "__internals")]
#[doc(hidden)]
#[allow(missing_docs)]
pub mod internals;
mod keys;
#[cfg(doc)]
pub mod manual;
mod observing;
mod pages;
mod protect;
mod provider;
mod relying_party;
mod resource_server;
mod routes;
mod scopes;
mod secret;
mod seen_texts;
mod session;
pub mod settings;
mod sign_in_failure;
#[cfg(feature = "testing")]
pub mod testing;
pub mod token;
mod user;

pub use clock::Clock;
pub use error::{LaunchError, SignInError};
pub use events::{Events, LoggedOut, LoginRedirect, Refused, SignedIn};
pub use fairing::Oidc;
pub use guard::{
    Authorized, AuthorizedError, Bearer, Caller, CallerError, LoggedIn, LoggedInError,
    OptionalUser, Policy,
};
pub use protect::{protect, protect_with};
pub use provider::{Endpoint, ProviderError};
pub use relying_party::{RefreshError, RelyingParty};
pub use resource_server::{BearerError, BearerUserInfoError};
#[doc(hidden)]
pub use scopes::is_scope;
pub use scopes::{AnyScope, Scopes};
pub use secret::Secret;
pub use session::{
    SessionChange, SessionChangeKind, SessionInfo, SessionTooLarge, SignedOut, store,
};
pub use settings::Settings;
pub use sign_in_failure::SignInFailure;
pub use token::Claims;
pub use user::{AccessTokenError, User};
