//! Tokens that are bound to a client certificate (mutual TLS, RFC 8705): which requests have that certificate, by whose word,
//! and which do not.

mod app;
mod caching;
mod forged_headers;
mod guards;
mod launch;
