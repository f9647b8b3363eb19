//! A bounded cache of verified tokens: JWTs and introspection results.

use std::{fmt, sync::Arc, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use moka::future::Cache;
use time::OffsetDateTime;

use super::{Accepted, Issuer};
use crate::{
    cache::TextCache,
    provider::ProviderError,
    token::{AccessTokenError, KeySet},
};

/// The maximum time an accepted JWT is cached; `exp` is checked at each use.
const JWT_TTL: Duration = Duration::from_secs(5 * 60);
/// The maximum time an active introspection result is cached.
const ACTIVE_TTL: Duration = Duration::from_secs(60);
/// How long a rejection is cached.
const REJECTED_TTL: Duration = Duration::from_secs(5);

/// The token cache of one API.
pub(super) struct TokenCache {
    /// Keyed by the token. Only JWTs with a valid signature are cached.
    jwts: TextCache<Arc<str>, Entry<CachedJwt>>,
    introspected: Cache<TokenHash, Entry<Verdict>>,
}

/// The SHA-256 of an introspected token, as a cache key. Rejected tokens are cached too, and anyone can send such.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TokenHash([u8; 32]);

/// A JWT that was verified with these keys.
#[derive(Clone)]
pub(super) struct CachedJwt {
    pub(super) accepted: Arc<Accepted>,
    pub(super) issuer: Arc<Issuer>,
    pub(super) keys: Arc<KeySet>,
}

/// The checked introspection result of a token.
pub(super) type Verdict = Result<Arc<Accepted>, AccessTokenError>;

/// A cache entry. moka evicts it in real time; `until` is compared with the app's clock, which tests can set ahead.
#[derive(Clone)]
struct Entry<T> {
    value: T,
    until: OffsetDateTime,
}

impl TokenCache {
    /// A cache with at most `entries` entries of each kind.
    pub(super) fn new(entries: u64) -> TokenCache {
        TokenCache {
            jwts: TextCache::new(entries),
            introspected: Cache::builder().max_capacity(entries).time_to_live(ACTIVE_TTL).build(),
        }
    }

    pub(super) fn jwt(&self, token: &str, now: OffsetDateTime) -> Option<CachedJwt> {
        let entry = self.jwts.get(token).filter(|entry| now < entry.until);
        entry.map(|entry| entry.value)
    }

    pub(super) fn add_jwt(&self, jwt: CachedJwt, now: OffsetDateTime) {
        let token = jwt.accepted.token.token.shared();
        let until = now + JWT_TTL;
        self.jwts.insert(token, Entry { value: jwt, until });
    }

    pub(super) async fn verdict(&self, token: &TokenHash, now: OffsetDateTime) -> Option<Verdict> {
        // Boxed to keep the future small: it is larger than the rest of the cached path.
        let entry = Box::pin(self.introspected.get(token)).await;
        entry.filter(|entry| now < entry.until).map(|entry| entry.value)
    }

    /// Single-flight introspection: runs `introspection` and caches the verdict. Concurrent requests with the same token
    /// share the one in-flight call.
    pub(super) async fn verdict_or_introspect(
        &self,
        token: TokenHash,
        introspection: impl Future<Output = Result<Verdict, ProviderError>>,
        now: OffsetDateTime,
    ) -> Result<Verdict, Arc<ProviderError>> {
        // An existing entry has expired by `until`.
        self.introspected.invalidate(&token).await;
        let asked = self.introspected.try_get_with(token, async {
            let verdict = introspection.await?;
            let until = match &verdict {
                // After `exp` the provider is asked each time: its clock decides, not ours.
                Ok(accepted) => accepted.token.ends_by(now + ACTIVE_TTL),
                Err(_) => now + REJECTED_TTL,
            };
            Ok(Entry { value: verdict, until })
        });
        Ok(asked.await?.value)
    }
}

impl TokenHash {
    pub(super) fn of(token: &str) -> TokenHash {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        TokenHash(hash)
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCache")
            .field("jwts", &self.jwts.len())
            .field("introspected", &self.introspected.entry_count())
            .finish()
    }
}
