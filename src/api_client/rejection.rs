//! How an API rejects a token: the challenge of RFC 6750 or of RFC 9449.

use reqwest::header::HeaderMap;

use crate::provider::has_challenge;
#[cfg(feature = "__internals")]
use crate::provider::has_error;

/// Whether a challenge has `error="invalid_token"`
/// ([RFC 6750 §3.1](https://www.rfc-editor.org/rfc/rfc6750#section-3.1)).
pub(super) fn is_invalid_token(headers: &HeaderMap, scheme: &str) -> bool {
    has_challenge(headers, scheme, "invalid_token")
}

/// Whether a proof needs the nonce of the response
/// ([RFC 9449 §9](https://www.rfc-editor.org/rfc/rfc9449#section-9)).
pub(super) fn demands_nonce(headers: &HeaderMap) -> bool {
    has_challenge(headers, "DPoP", "use_dpop_nonce")
}

#[cfg(feature = "__internals")]
pub(crate) fn has_invalid_token(text: &str) -> bool {
    has_error(text, "Bearer", "invalid_token")
}
