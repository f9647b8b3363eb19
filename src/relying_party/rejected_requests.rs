//! A bounded log of the last requests that pages of other origins sent, for developers. Kept in the debug profile only.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use time::OffsetDateTime;

/// The maximum number of requests that are kept.
const MAX_REQUESTS: usize = 10;

/// The last requests that guards rejected because a page of another origin sent them, newest first.
#[derive(Debug, Default)]
pub(crate) struct RejectedRequests(Option<Mutex<VecDeque<RejectedRequest>>>);

/// One request, with what its browser stated. The texts come from outside.
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

impl RejectedRequests {
    /// Keeps requests only in the debug profile.
    pub(crate) fn new(is_debug: bool) -> RejectedRequests {
        RejectedRequests(is_debug.then(Mutex::default))
    }

    pub(crate) fn record(&self, request: impl FnOnce() -> RejectedRequest) {
        if let Some(kept) = &self.0 {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.truncate(MAX_REQUESTS - 1);
            kept.push_front(request());
        }
    }

    /// The requests, newest first.
    pub(crate) fn list(&self) -> Vec<RejectedRequest> {
        let kept = self
            .0
            .as_ref()
            .map(|kept| kept.lock().unwrap_or_else(PoisonError::into_inner));
        kept.map_or_else(Vec::new, |kept| kept.iter().cloned().collect())
    }
}
