//! What operators see of each part of the work: one place for its events, with their reason codes.
//!
//! Failures are told where they happen, in words; what goes well is told here, at `debug`.

use std::time::Duration;

use crate::{
    provider::{Endpoint, ProviderError},
    session::SignedOut,
};

/// A browser was sent to the provider.
pub(crate) fn sign_in_begun() {
    tracing::debug!(reason = "sign_in_begun", "a sign-in begins");
}

/// A session began.
pub(crate) fn signed_in() {
    tracing::debug!(reason = "signed_in", "somebody signed in");
}

/// A session has new tokens.
pub(crate) fn refreshed() {
    tracing::debug!(reason = "refreshed", "a session is refreshed");
}

/// A request came with a session that does not count.
pub(crate) fn session_refused(signed_out: SignedOut) {
    if signed_out != SignedOut::NoSession {
        let reason = signed_out.reason();
        tracing::debug!(reason, "a session does not count: {signed_out}");
    }
}

/// A person signed out here.
pub(crate) fn signed_out() {
    tracing::debug!(reason = "signed_out", "somebody signed out");
}

/// The provider ended sessions through the back channel.
pub(crate) fn backchannel_logout() {
    tracing::debug!(
        reason = "backchannel_logout",
        "the provider ended a session"
    );
}

/// The provider ended sessions through a page of its own.
pub(crate) fn frontchannel_logout() {
    tracing::debug!(
        reason = "frontchannel_logout",
        "a page of the provider ended a session"
    );
}

/// An access token is accepted.
pub(crate) fn token_accepted() {
    tracing::debug!(reason = "accepted", "an access token is accepted");
}

/// A call to the provider has ended, with an answer or without.
pub(crate) fn provider_called(
    endpoint: Endpoint,
    answer: Result<u16, &ProviderError>,
    elapsed: Duration,
) {
    let endpoint = endpoint.code();
    let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    match answer {
        Ok(status) => {
            tracing::debug!(
                reason = "answered",
                endpoint,
                status,
                ms,
                "a call to the provider"
            );
        }
        Err(error) => {
            let reason = error.reason();
            tracing::debug!(reason, endpoint, ms, "a call to the provider");
        }
    }
}
