//! Tokens seen before: what was found about them counts for a while.

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

/// How long an accepted JWT is remembered, at most; `exp` is checked at each use.
const JWT_LIFE: Duration = Duration::from_secs(5 * 60);
/// How long the provider's word on a token counts, at most.
const ACTIVE_LIFE: Duration = Duration::from_secs(60);
/// How long it counts when it was a no.
const REFUSED_LIFE: Duration = Duration::from_secs(5);

/// What is remembered.
pub(super) struct SeenTokens {
    /// By the tokens themselves: those whose signature is good.
    jwts: TextCache<Arc<str>, Kept<SeenJwt>>,
    introspected: Cache<TokenHash, Kept<Verdict>>,
}

/// The SHA-256 of a token that the provider is asked about: those that it refuses are in the cache too,
/// and anybody can make such.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TokenHash([u8; 32]);

/// A JWT that these keys verified.
#[derive(Clone)]
pub(super) struct SeenJwt {
    pub(super) accepted: Arc<Accepted>,
    pub(super) issuer: Arc<Issuer>,
    pub(super) keys: Arc<KeySet>,
}

/// What the provider says about a token, judged.
pub(super) type Verdict = Result<Arc<Accepted>, AccessTokenError>;

/// The cache drops an entry in time; by `until` it is judged, which a test's clock may reach sooner.
#[derive(Clone)]
struct Kept<T> {
    value: T,
    until: OffsetDateTime,
}

impl SeenTokens {
    /// Of each kind so many.
    pub(super) fn new(entries: u64) -> SeenTokens {
        SeenTokens {
            jwts: TextCache::new(entries),
            introspected: Cache::builder()
                .max_capacity(entries)
                .time_to_live(ACTIVE_LIFE)
                .build(),
        }
    }

    pub(super) fn jwt(&self, token: &str, now: OffsetDateTime) -> Option<SeenJwt> {
        let kept = self.jwts.get(token).filter(|kept| now < kept.until);
        kept.map(|kept| kept.value)
    }

    pub(super) fn add_jwt(&self, jwt: SeenJwt, now: OffsetDateTime) {
        let token = jwt.accepted.token.token.shared();
        let until = now + JWT_LIFE;
        self.jwts.insert(token, Kept { value: jwt, until });
    }

    pub(super) async fn verdict(&self, token: &TokenHash, now: OffsetDateTime) -> Option<Verdict> {
        // Boxed: it is larger than all else that a token seen before takes.
        let kept = Box::pin(self.introspected.get(token)).await;
        kept.filter(|kept| now < kept.until).map(|kept| kept.value)
    }

    /// The verdict that `asking` finds. There is one question under way per token, whose answer all
    /// requests with that token share.
    pub(super) async fn verdict_by(
        &self,
        token: TokenHash,
        asking: impl Future<Output = Result<Verdict, ProviderError>>,
        now: OffsetDateTime,
    ) -> Result<Verdict, Arc<ProviderError>> {
        // What is there has come to its end.
        self.introspected.invalidate(&token).await;
        let asked = self.introspected.try_get_with(token, async {
            let verdict = asking.await?;
            let until = match &verdict {
                // From `exp` on the provider is asked each time: its clock counts, not ours.
                Ok(accepted) => accepted.token.ends_by(now + ACTIVE_LIFE),
                Err(_) => now + REFUSED_LIFE,
            };
            Ok(Kept {
                value: verdict,
                until,
            })
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

impl fmt::Debug for SeenTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SeenTokens")
            .field("jwts", &self.jwts.len())
            .field("introspected", &self.introspected.entry_count())
            .finish()
    }
}
