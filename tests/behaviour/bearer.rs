//! An API that accepts access tokens: which it accepts, and what it says of the others.

mod apis;
pub mod app;
mod forgeries;
mod guard;
mod introspection;
mod issuers;
mod jwt;
mod keys;
mod limits;
mod metadata;
mod outage;
mod purpose;
mod refusals;
mod roles;
mod userinfo;
