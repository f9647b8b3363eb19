//! A cache of tokens that the provider reported as active. An outage during the introspection of such a token is the
//! provider's, and was not caused by an attacker's made-up token.

use std::{fmt, time::Duration};

use moka::sync::Cache;
use time::OffsetDateTime;

use super::TokenHash;

/// The maximum number of entries for each API. Only active tokens are added, so that an attacker cannot fill the
/// cache.
const MAX_ENTRIES: u64 = 10_000;
/// How long a token counts after the provider reported it as active.
const TTL: Duration = Duration::from_secs(60 * 60);

/// The tokens of an API that introspection reported as active within the last hour. Each expires at its `exp` or
/// after that hour, whichever comes first.
pub(super) struct ActiveTokens(Cache<TokenHash, OffsetDateTime>);

impl ActiveTokens {
    pub(super) fn new() -> ActiveTokens {
        let cache = Cache::builder().max_capacity(MAX_ENTRIES);
        ActiveTokens(cache.time_to_live(TTL).build())
    }

    /// The latest expiry of an entry added now.
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
        f.debug_tuple("ActiveTokens").field(&self.0.entry_count()).finish()
    }
}
