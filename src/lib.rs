#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[cfg(feature = "api-client")]
mod api_client;
mod api_tokens;
mod audit;
mod cache;
#[cfg(feature = "cli")]
mod cli;
mod client_key;
mod clock;
mod code_flow;
mod cookies;
#[cfg(feature = "dev-provider")]
mod dev_provider;
mod facts;
mod fair_queue;
mod fairing;
mod groups;
mod guard;
#[cfg(feature = "__internals")]
#[allow(missing_docs)]
mod internals;
mod keys;
#[cfg(doc)]
pub mod manual;
mod observing;
mod pages;
mod printable;
mod protect;
mod provider;
mod relying_party;
mod request;
mod requirement;
mod resource_server;
mod routes;
mod scopes;
mod secret;
mod session;
pub mod settings;
mod tasks;
#[cfg(feature = "templates")]
mod templates;
#[cfg(feature = "testing")]
pub mod testing;
mod token;

#[cfg(feature = "api-client")]
pub use api_client::{ApiCallError, ApiClient, BoundClient, TokenSource};
pub use api_tokens::{ApiTokenError, IssuedToken};
pub use client_key::ClientSigner;
pub use clock::Clock;
pub use code_flow::{ResponseError, UnverifiedUser};
pub use fairing::{LaunchError, Oidc};
pub use guard::{
    Authorized, AuthorizedError, Bearer, BoundBearer, Caller, CallerError, Draft, Kept, KeptError, LoggedIn,
    LoggedInError, OptionalUser, Policy, SecuritySchemes, Visitor,
};
pub use pages::{
    BuiltInPages, HiddenField, KeptFormPage, Pages, ProviderChoice, ProviderLink, RefusedRequest, SignInConfirmation,
    SignOutConfirmation, UnrecordedSignOut, UserLabel,
};
pub use protect::{keep_forms, protect, protect_bearer, protect_caller, protect_requiring, protect_with};
pub use provider::{Endpoint, ProviderError};
pub use relying_party::{
    Events, LocalPage, LoggedOut, LoginRedirect, NewSignIn, NoAccessToken, ProviderFor, ProviderRegistration,
    ProviderSource, Readiness, RefreshError, Refused, RelyingParty, SessionDataError, SignInError, SignInUrl, User,
};
pub use request::{SignInFailure, SignInFailureKind, StepUp};
pub use requirement::{Acr, AcrValues, Fresh, ProviderName, RequiredAuthentication, Requirement, SignedInAt};
#[cfg(feature = "api-client")]
pub use reqwest;
pub use resource_server::{BearerError, BearerUserInfoError, ClientCertificateError};
pub use scopes::{AnyScope, Scopes};
pub use secret::Secret;
pub use session::{
    InvalidUserKey, NoSession, SessionChange, SessionChangeKind, SessionEnd, SessionEnded, SessionInfo,
    SessionTooLarge, UserKey, UserKind, store,
};
#[cfg(feature = "templates")]
pub use templates::{VisitorTemplate, render};
pub use token::{Claims, TokenError};

/// For macros, binary, benches and fuzz targets of this crate. Not part of the public API.
#[doc(hidden)]
pub mod __private {
    #[cfg(feature = "cli")]
    pub use crate::cli::main;
    #[cfg(feature = "__internals")]
    pub use crate::internals::*;
    pub use crate::{groups::are_met as are_groups_met, scopes::is_scope};
    /// An alias, because the compiler would show the name of a re-export in its messages.
    pub type Request<'r> = rocket::Request<'r>;
}
