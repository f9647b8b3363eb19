//! An API that accepts access tokens: which it accepts, and what it says of the others.

mod app;
mod introspection;
mod jwt;
mod keys;
mod refusals;
mod roles;
