//! The provider's keys: read without a lock, fetched by one at a time.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use openidconnect::http::{HeaderMap, header::CACHE_CONTROL};
use time::OffsetDateTime;
use tokio::sync::Mutex;
use url::Url;

use super::{Endpoint, ProviderError, http_client::HttpClient};
use crate::token::KeySet;

/// At most one fetch per this long for keys that the set does not have.
const COOL_DOWN: Duration = Duration::from_secs(30);
/// How long keys serve when the reply does not say.
const DEFAULT_LIFE: Duration = Duration::from_secs(60 * 60);
/// The bounds of what a reply may say.
const SHORTEST_LIFE: Duration = Duration::from_secs(5 * 60);
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the last known good keys serve while the provider gives no new ones.
const LAST_KNOWN_GOOD: Duration = Duration::from_secs(24 * 60 * 60);

/// The last good key set and when it is due for another look.
#[derive(Debug)]
struct Fetched {
    keys: Arc<KeySet>,
    at: OffsetDateTime,
    fresh_until: OffsetDateTime,
}

/// The keys of one provider.
#[derive(Debug)]
pub(crate) struct KeyCache {
    fetched: ArcSwap<Option<Fetched>>,
    last_attempt: Mutex<Option<OffsetDateTime>>,
}

impl KeyCache {
    pub(crate) fn new() -> KeyCache {
        KeyCache {
            fetched: ArcSwap::from_pointee(None),
            last_attempt: Mutex::new(None),
        }
    }

    /// The keys to verify with. Fetches them when there are none, or when they are due and the
    /// provider answers; else the last known good ones serve for a day.
    pub(crate) async fn keys(
        &self,
        http: &HttpClient,
        jwks_uri: &Url,
        now: OffsetDateTime,
    ) -> Result<Arc<KeySet>, ProviderError> {
        let known = match &**self.fetched.load() {
            Some(fetched) if now < fetched.fresh_until => return Ok(fetched.keys.clone()),
            Some(fetched) if now < fetched.at + LAST_KNOWN_GOOD => Some(fetched.keys.clone()),
            _ => None,
        };

        match (self.fetch(http, jwks_uri, known.as_ref(), now).await, known) {
            (Ok(keys), _) => Ok(keys),
            (Err(error), Some(known)) => {
                tracing::warn!("{error}; the last known good keys serve on");
                Ok(known)
            }
            (Err(error), None) => Err(error),
        }
    }

    /// The keys after a token named one that `seen` does not have: fetched anew, or `None` when the
    /// last look was too short ago. Everybody who waits shares one fetch.
    pub(crate) async fn keys_other_than(
        &self,
        seen: &Arc<KeySet>,
        http: &HttpClient,
        jwks_uri: &Url,
        now: OffsetDateTime,
    ) -> Option<Arc<KeySet>> {
        self.fetch(http, jwks_uri, Some(seen), now)
            .await
            .inspect_err(|error| tracing::warn!("{error}"))
            .ok()
            .filter(|keys| !Arc::ptr_eq(keys, seen))
    }

    /// One fetch at a time; who waited for it takes its result instead of fetching again.
    async fn fetch(
        &self,
        http: &HttpClient,
        jwks_uri: &Url,
        seen: Option<&Arc<KeySet>>,
        now: OffsetDateTime,
    ) -> Result<Arc<KeySet>, ProviderError> {
        let mut last_attempt = self.last_attempt.lock().await;
        if let Some(fetched) = &**self.fetched.load() {
            let is_news = seen.is_none_or(|seen| !Arc::ptr_eq(seen, &fetched.keys));
            if is_news && now < fetched.fresh_until {
                return Ok(fetched.keys.clone());
            }
        }
        if let (Some(seen), Some(last)) = (seen, *last_attempt)
            && now < last + COOL_DOWN
        {
            return Ok(seen.clone());
        }
        *last_attempt = Some(now);

        let reply = http.get(Endpoint::KeySet, jwks_uri).await?;
        if reply.status() != 200 {
            return Err(ProviderError::Status {
                endpoint: Endpoint::KeySet,
                status: reply.status().as_u16(),
            });
        }
        let keys = KeySet::parse(reply.body()).map_err(|error| ProviderError::Malformed {
            endpoint: Endpoint::KeySet,
            cause: error.to_string(),
        })?;
        for skipped in keys.skipped() {
            tracing::debug!("a key of the provider is not used: {}", skipped.reason);
        }

        match keys.is_empty() {
            true => tracing::warn!("the provider's key set has no key that can verify a signature"),
            false => tracing::debug!("the provider's key set has {} usable keys", keys.len()),
        }

        let keys = Arc::new(keys);
        self.fetched.store(Arc::new(Some(Fetched {
            keys: keys.clone(),
            at: now,
            fresh_until: now + life(reply.headers()),
        })));
        Ok(keys)
    }
}

/// How long a reply may serve (RFC 9111 §5.2.2.1), within our bounds.
fn life(headers: &HeaderMap) -> Duration {
    let max_age = headers
        .get_all(CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .find_map(|directive| {
            let (name, value) = directive.trim().split_once('=')?;
            let seconds = value.trim_matches('"').parse().ok()?;
            name.eq_ignore_ascii_case("max-age")
                .then(|| Duration::from_secs(seconds))
        });
    max_age
        .unwrap_or(DEFAULT_LIFE)
        .clamp(SHORTEST_LIFE, LONGEST_LIFE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_control_is_honoured_within_bounds() {
        for (header, seconds) in [
            (None, 3600),
            (Some("public, max-age=600"), 600),
            (Some("max-age=0"), 300),
            (Some("Max-Age=\"700\""), 700),
            (Some("max-age=99999999"), 86400),
            (Some("max-age=x"), 3600),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(header) = header {
                headers.insert(CACHE_CONTROL, header.parse().unwrap());
            }
            assert_eq!(life(&headers), Duration::from_secs(seconds), "{header:?}");
        }
    }
}
