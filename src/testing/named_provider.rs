//! One provider in the test's process.

use std::sync::Arc;

use crate::dev_provider::InProcessProvider;

/// The issuer. The name is never resolved (RFC 6761 §6.2).
pub(super) const ISSUER: &str = "https://provider.test";
/// The app's default `client_id`.
pub(super) const CLIENT_ID: &str = "app";

/// One provider in the test's process.
pub(super) struct NamedProvider {
    /// As [`User::provider`](crate::User::provider).
    pub(super) name: Arc<str>,
    pub(super) issuer: String,
    pub(super) client_id: String,
    pub(super) redirect_uri: String,
    pub(super) provider: InProcessProvider,
}
