//! A request that a page of another origin sent, for developers.

use time::OffsetDateTime;

/// A request that guards rejected, with what its browser stated. The texts come from outside.
#[derive(Clone, Debug)]
pub(crate) struct RejectedRequest {
    pub(crate) at: OffsetDateTime,
    /// Method and path.
    pub(crate) request: String,
    /// `Sec-Fetch-Site`; empty without it, `unknown` for a value that no browser sends.
    pub(crate) site: String,
    /// `Origin`; empty without it.
    pub(crate) origin: String,
    pub(crate) cause: String,
    pub(crate) remedy: &'static str,
}
