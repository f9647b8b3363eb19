//! Tokens that the provider called active: an outage that it answers about one of them is its own, and none of a
//! stranger's making.

use std::{fmt, time::Duration};

use moka::sync::Cache;
use time::OffsetDateTime;

use super::TokenHash;

/// How many there are of an API. A stranger adds none.
const MAX_ENTRIES: u64 = 10_000;
/// How long after the provider called a token active an outage may be told by it.
const TTL: Duration = Duration::from_secs(60 * 60);

/// The tokens of an API that introspection called active within the last hour, and until when each counts: its `exp`, or
/// the hour.
pub(super) struct ActiveTokens(Cache<TokenHash, OffsetDateTime>);

impl ActiveTokens {
    pub(super) fn new() -> ActiveTokens {
        let cache = Cache::builder().max_capacity(MAX_ENTRIES);
        ActiveTokens(cache.time_to_live(TTL).build())
    }

    /// The latest time that a token of now may count.
    pub(super) fn latest(now: OffsetDateTime) -> OffsetDateTime {
        now + TTL
    }

    pub(super) fn add(&self, token: TokenHash, until: OffsetDateTime) {
        self.0.insert(token, until);
    }

    pub(super) fn remove(&self, token: &TokenHash) {
        self.0.invalidate(token);
    }

    pub(super) fn has(&self, token: &TokenHash, now: OffsetDateTime) -> bool {
        self.0.get(token).is_some_and(|until| now < until)
    }
}

impl fmt::Debug for ActiveTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ActiveTokens")
            .field(&self.0.entry_count())
            .finish()
    }
}
