//! Which errors of a provider are outages, and which a retry may fix.

use std::time::Duration;

use super::{Endpoint, ProviderError};

impl ProviderError {
    /// How long to wait before another attempt, if known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            ProviderError::Unavailable { retry_after, .. }
            | ProviderError::KeysRateLimited { retry_after }
            | ProviderError::RateLimited { retry_after, .. }
            | ProviderError::Busy { retry_after, .. } => Some(*retry_after),
            ProviderError::Status { retry_after, .. } | ProviderError::Refused { retry_after, .. } => {
                retry_after.filter(|_| self.is_outage())
            }
            _ => None,
        }
    }

    /// The same outage, with the next attempt after this time.
    pub(crate) fn unavailable_for(self, retry_after: Duration) -> ProviderError {
        let last = match self {
            ProviderError::Unavailable { last, .. } => last,
            error => Some(Box::new(error)),
        };
        ProviderError::Unavailable { retry_after, last }
    }

    /// Whether the endpoint may have moved, so that the metadata is to be read again.
    pub(crate) fn may_have_moved(&self) -> bool {
        match self {
            ProviderError::Unreachable { endpoint, .. } => *endpoint != Endpoint::Metadata,
            error => error.is_missing(),
        }
    }

    /// Whether there is no endpoint at the URL, so that nothing of the request was processed.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, ProviderError::Status { endpoint, status, .. } | ProviderError::Refused { endpoint, status, .. }
            if *endpoint != Endpoint::Metadata && is_missing(*status))
    }

    /// Whether the failure is an outage, after which a retry may succeed.
    pub(crate) fn is_outage(&self) -> bool {
        match self {
            ProviderError::Unavailable { .. }
            | ProviderError::KeysRateLimited { .. }
            | ProviderError::RateLimited { .. }
            | ProviderError::Busy { .. }
            | ProviderError::Unreachable { .. }
            | ProviderError::Timeout { .. }
            | ProviderError::ClientSigner { .. } => true,
            ProviderError::Status { status, .. } => is_outage(*status),
            // RFC 6749 §4.1.2.1 defines these for the authorization endpoint; providers send them from other
            // endpoints too.
            ProviderError::Refused { status, error, .. } => {
                is_outage(*status) || matches!(error.as_str(), "temporarily_unavailable" | "server_error")
            }
            _ => false,
        }
    }

    /// Whether a retry may succeed without a restart. It cannot if the cause is in the settings, or in the metadata
    /// of the issuer that they name. [`NotMetadata`](Self::NotMetadata) can pass, as when an ingress responds before
    /// the provider is up.
    pub(super) fn is_retryable(&self) -> bool {
        !matches!(
            self,
            ProviderError::IssuerMismatch { .. }
                | ProviderError::Profile { .. }
                | ProviderError::Malformed {
                    endpoint: Endpoint::Metadata,
                    ..
                }
                | ProviderError::MetadataMember { .. }
                | ProviderError::NotHttps { .. }
                | ProviderError::PlainHttp { .. }
                | ProviderError::PrivateAddress { .. }
                | ProviderError::NotPublic { .. }
                | ProviderError::Address { .. }
                | ProviderError::HttpClient { .. }
        )
    }
}

/// Whether a status is about the server rather than the request, whatever the body says.
pub(super) fn is_outage(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..)
}

/// Whether the status says that there is no such endpoint.
pub(super) fn is_missing(status: u16) -> bool {
    matches!(status, 301..=303 | 307 | 308 | 404 | 405 | 410)
}
