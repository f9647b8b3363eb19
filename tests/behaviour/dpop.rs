//! Tokens that are bound to a key (DPoP, RFC 9449): which requests prove that key, and which do not.

pub mod app;
mod caching;
mod forgeries;
mod guards;
mod nodes;
mod paths;
mod settings;
