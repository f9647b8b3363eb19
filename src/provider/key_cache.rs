//! A cache of the provider's keys: lock-free reads, single-flight fetches.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use openidconnect::http::{HeaderMap, header::CACHE_CONTROL};
use time::OffsetDateTime;
use tokio::sync::Mutex;
use url::Url;

use super::{
    Endpoint, ProviderError,
    back_off::{BackOff, LogThrottle, SharedTokenBucket, TokenBucket},
    http_client::HttpClient,
};
use crate::{
    observing,
    token::{Document, KeySet, StaleKeys},
};

/// The minimum interval between fetches for a key that one client names, between fetches for a key that may have been
/// replaced under its name, and between scheduled refreshes.
const COOL_DOWN: Duration = Duration::from_secs(30);
/// The burst of fetches for all tokens that clients send, of which one client has a quarter; one more is allowed per
/// [`FETCH_REFILL`]. Attackers at many addresses can use them all; but every fetch updates the cache for everyone, so
/// that a new key is known that long after the provider publishes it.
const FETCHES_FOR_ANY_REQUEST: u32 = 4;
/// The burst of fetches for keys that the provider's own replies name; one more is allowed per [`FETCH_REFILL`]. A
/// provider may publish several keys within seconds.
const FETCHES: u32 = 6;
const FETCH_REFILL: Duration = Duration::from_secs(10);
/// The TTL of keys whose response does not give one.
const DEFAULT_TTL: Duration = Duration::from_secs(60 * 60);
/// The bounds of the TTL that a response gives.
const MIN_TTL: Duration = Duration::from_secs(5 * 60);
const MAX_TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the last known good keys are used while fetches fail.
const LAST_KNOWN_GOOD: Duration = Duration::from_secs(24 * 60 * 60);

/// The last good key set, with its expiry.
#[derive(Debug)]
struct Fetched {
    keys: Arc<KeySet>,
    /// The JWKS document.
    body: Vec<u8>,
    at: OffsetDateTime,
    fresh_until: OffsetDateTime,
}

/// See [`KeyCache::fetched`].
pub(crate) type FetchedKeys = (serde_json::Value, Vec<(usize, String)>, OffsetDateTime);

/// The source of the token that names a key. Each source has its own rate limit, so that requests that anyone can
/// send never block the key fetch of a sign-in or a refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyPurpose {
    /// A reply of the provider to the app's own request: the token endpoint, UserInfo.
    ProviderReply,
    /// A request that anyone can send, by a client with this address: a bearer token, a logout token.
    AnyRequest(Option<IpAddr>),
}

/// The result of looking for a key that the cached set does not hold.
#[derive(Debug)]
pub(crate) enum Refetch {
    /// Other keys than `seen`, from a fetch that had begun before.
    Newer(Arc<KeySet>),
    /// The keys that the provider publishes now, which may be `seen`.
    Latest(Arc<KeySet>),
    /// Unknown: the fetch failed, or the rate limit does not allow one.
    Failed(ProviderError),
}

/// The state of the last fetch, with the rate limits of the next.
#[derive(Debug)]
struct LastFetch {
    /// Its number, as counted by [`KeyCache::begun`].
    number: u64,
    is_good: bool,
    limits: FetchLimits<TokenBucket>,
    limits_for_any_request: FetchLimits<SharedTokenBucket>,
    /// The URL it used.
    jwks_uri: Option<Url>,
    /// The back-off while there are no usable keys.
    failed: BackOff,
    failed_for_any_request: BackOff,
}

/// The rate limits of key fetches for one purpose.
#[derive(Debug)]
struct FetchLimits<B> {
    missing: B,
    replaced: B,
}

impl<B> FetchLimits<B> {
    fn bucket(&mut self, doubt: StaleKeys) -> &mut B {
        match doubt {
            StaleKeys::Missing => &mut self.missing,
            StaleKeys::Replaced => &mut self.replaced,
        }
    }
}

impl Default for LastFetch {
    fn default() -> LastFetch {
        let of_all = || TokenBucket::new(FETCHES_FOR_ANY_REQUEST, FETCH_REFILL);
        LastFetch {
            number: 0,
            is_good: false,
            limits: FetchLimits {
                missing: TokenBucket::new(FETCHES, FETCH_REFILL),
                replaced: TokenBucket::new(1, COOL_DOWN),
            },
            limits_for_any_request: FetchLimits {
                missing: SharedTokenBucket::new(of_all(), COOL_DOWN),
                replaced: SharedTokenBucket::new(of_all(), COOL_DOWN),
            },
            jwks_uri: None,
            failed: BackOff::default(),
            failed_for_any_request: BackOff::default(),
        }
    }
}

impl LastFetch {
    /// Fails while the next attempt at this URL is not due.
    fn check_back_off(&self, jwks_uri: &Url, purpose: KeyPurpose, now: OffsetDateTime) -> Result<(), ProviderError> {
        match purpose {
            _ if self.jwks_uri.as_ref() != Some(jwks_uri) => Ok(()),
            KeyPurpose::ProviderReply => self.failed.check(now),
            KeyPurpose::AnyRequest(_) => self.failed_for_any_request.check(now),
        }
    }

    /// A failed fetch for anyone's request does not delay the next one for a reply of the provider.
    fn failed(&mut self, purpose: KeyPurpose, now: OffsetDateTime, error: &ProviderError) {
        self.is_good = false;
        self.failed_for_any_request.failed(now, error);
        if purpose == KeyPurpose::ProviderReply {
            self.failed.failed(now, error);
        }
    }

    fn succeeded(&mut self) {
        self.is_good = true;
        self.failed_for_any_request.succeeded();
        self.failed.succeeded();
    }

    /// Spends one fetch of the rate limit, for a key that is missing or may have been replaced.
    fn take_fetch(&mut self, doubt: StaleKeys, purpose: KeyPurpose, now: OffsetDateTime) -> Result<(), ProviderError> {
        let taken = match purpose {
            KeyPurpose::ProviderReply => self.limits.bucket(doubt).take(now),
            KeyPurpose::AnyRequest(client) => {
                let bucket = self.limits_for_any_request.bucket(doubt);
                bucket.take(client, now)
            }
        };
        taken.map_err(|retry_after| ProviderError::KeysRateLimited { retry_after })
    }
}

/// The key cache of one provider.
#[derive(Debug)]
pub(crate) struct KeyCache {
    http: HttpClient,
    fetched: ArcSwapOption<Fetched>,
    /// Lets one request at a time start a background refresh.
    due: LogThrottle,
    /// Held during a fetch: single-flight, with a result that all waiting callers share.
    last_fetch: Mutex<LastFetch>,
    /// How many fetches have begun.
    begun: AtomicU64,
}

impl KeyCache {
    pub(crate) fn new(http: HttpClient) -> KeyCache {
        KeyCache {
            http,
            fetched: ArcSwapOption::empty(),
            due: LogThrottle::default(),
            last_fetch: Mutex::default(),
            begun: AtomicU64::new(0),
        }
    }

    /// The keys to verify with. Waits for a fetch only if there are none. Expired keys are refreshed in the
    /// background, and the last known good ones are used for a day.
    pub(crate) async fn keys(
        self: &Arc<Self>,
        jwks_uri: &Url,
        purpose: KeyPurpose,
        now: OffsetDateTime,
    ) -> Result<Arc<KeySet>, ProviderError> {
        match &*self.fetched.load() {
            Some(fetched) if now < fetched.fresh_until => Ok(fetched.keys.clone()),
            Some(fetched) if now < fetched.at + LAST_KNOWN_GOOD => {
                if self.due.passes(now, COOL_DOWN) {
                    let (cache, jwks_uri) = (self.clone(), jwks_uri.clone());
                    tokio::spawn(async move {
                        let mut last_fetch = cache.last_fetch.lock().await;
                        // The refresh is scheduled; it does not matter whose request started it.
                        let purpose = KeyPurpose::AnyRequest(None);
                        let fetch = cache.fetch(&jwks_uri, &mut last_fetch, purpose, now);
                        if let Err(error) = fetch.await {
                            let reason = error.reason();
                            tracing::warn!(reason, "{error}; the last known good keys stay in use");
                        }
                    });
                }
                Ok(fetched.keys.clone())
            }
            _ => Box::pin(self.first_keys(jwks_uri, purpose, now)).await,
        }
    }

    /// Whether a key set was ever fetched.
    pub(crate) fn is_known(&self) -> bool {
        self.fetched.load().is_some()
    }

    /// The last fetched JWKS document, the keys in it that are skipped (each by index, with the reason), and the time
    /// of the fetch.
    pub(crate) fn fetched(&self) -> Option<FetchedKeys> {
        let fetched = self.fetched.load_full()?;
        let document = Document::parse(&fetched.body).ok()?.into_displayed();
        let skipped = fetched.keys.skipped().iter();
        let skipped = skipped.map(|key| (key.index, key.reason.to_string()));
        Some((document.into(), skipped.collect(), fetched.at))
    }

    /// FetchLimits for a key that a token names and that `seen` does not hold or holds in another version. Fetches are
    /// limited by [`FETCHES_FOR_ANY_REQUEST`] for any request, and by [`FETCHES`] for the provider's own replies.
    pub(crate) async fn refetch(
        &self,
        seen: &Arc<KeySet>,
        doubt: StaleKeys,
        jwks_uri: &Url,
        purpose: KeyPurpose,
        now: OffsetDateTime,
    ) -> Refetch {
        let begun = self.begun.load(Ordering::SeqCst);
        let mut last_fetch = self.last_fetch.lock().await;
        // All waiting callers share the result of a fetch that began after this call, good or bad.
        let is_shared = last_fetch.number > begun;
        match &*self.fetched.load() {
            Some(fetched) if is_shared && last_fetch.is_good => {
                return Refetch::Latest(fetched.keys.clone());
            }
            // A fetch that had begun before may have missed the key.
            Some(fetched) if !Arc::ptr_eq(seen, &fetched.keys) => {
                return Refetch::Newer(fetched.keys.clone());
            }
            _ if is_shared => {
                return Refetch::Failed(last_fetch.failed_for_any_request.last_failure());
            }
            _ => {}
        }
        if let Err(error) = last_fetch.take_fetch(doubt, purpose, now) {
            return Refetch::Failed(error);
        }
        match self.fetch(jwks_uri, &mut last_fetch, purpose, now).await {
            Ok(keys) => Refetch::Latest(keys),
            Err(error) => {
                tracing::warn!(reason = error.reason(), "{error}");
                Refetch::Failed(error)
            }
        }
    }

    /// Waits for the first usable keys.
    async fn first_keys(
        &self,
        jwks_uri: &Url,
        purpose: KeyPurpose,
        now: OffsetDateTime,
    ) -> Result<Arc<KeySet>, ProviderError> {
        let mut last_fetch = self.last_fetch.lock().await;
        if let Some(fetched) = &*self.fetched.load()
            && now < fetched.at + LAST_KNOWN_GOOD
        {
            return Ok(fetched.keys.clone());
        }
        last_fetch.check_back_off(jwks_uri, purpose, now)?;
        self.fetch(jwks_uri, &mut last_fetch, purpose, now).await
    }

    async fn fetch(
        &self,
        jwks_uri: &Url,
        last_fetch: &mut LastFetch,
        purpose: KeyPurpose,
        now: OffsetDateTime,
    ) -> Result<Arc<KeySet>, ProviderError> {
        last_fetch.number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        last_fetch.is_good = false;
        last_fetch.jwks_uri = Some(jwks_uri.clone());
        let read = self.read(jwks_uri).await;
        // A set without usable keys is not a rotation but a mistake of the provider: the last good keys stay.
        let has_keys = (self.fetched.load().as_ref()).is_some_and(|last| !last.keys.is_empty());
        let read = match read {
            Ok((keys, ..)) if keys.is_empty() && has_keys => Err(ProviderError::Malformed {
                endpoint: Endpoint::KeySet,
                cause: "it has no key that can verify a signature".to_owned(),
            }),
            read => read,
        };
        match read {
            Ok((keys, body, ttl)) => {
                last_fetch.succeeded();
                observing::keys_fetched(now, &self.http.provider);
                // If the document is unchanged, the same `Arc` is kept, so that tokens verified with it stay cached.
                let keys = match &*self.fetched.load() {
                    Some(fetched) if fetched.body == body => fetched.keys.clone(),
                    _ => Arc::new(keys),
                };
                self.fetched.store(Some(Arc::new(Fetched {
                    keys: keys.clone(),
                    body,
                    at: now,
                    fresh_until: now + ttl,
                })));
                Ok(keys)
            }
            Err(error) => {
                last_fetch.failed(purpose, now, &error);
                Err(error)
            }
        }
    }

    async fn read(&self, jwks_uri: &Url) -> Result<(KeySet, Vec<u8>, Duration), ProviderError> {
        let reply = self.http.get(Endpoint::KeySet, jwks_uri).await?;
        if reply.status() != 200 {
            return Err(ProviderError::of_status(Endpoint::KeySet, &reply));
        }
        let keys = KeySet::parse(reply.body()).map_err(|error| ProviderError::Malformed {
            endpoint: Endpoint::KeySet,
            cause: error.to_string(),
        })?;
        for skipped in keys.skipped() {
            tracing::debug!("a key of the provider is not used: {}", skipped.reason);
        }
        if keys.is_empty() {
            tracing::warn!("the provider's key set has no key that can verify a signature");
        } else {
            tracing::debug!("the provider's key set has {} usable keys", keys.len());
        }
        let ttl = ttl(reply.headers());
        Ok((keys, reply.into_body(), ttl))
    }
}

/// The TTL of a response (RFC 9111 §5.2.2.1), clamped to our bounds.
fn ttl(headers: &HeaderMap) -> Duration {
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
    max_age.unwrap_or(DEFAULT_TTL).clamp(MIN_TTL, MAX_TTL)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpListener,
        sync::atomic::AtomicUsize,
        thread,
    };

    use rocket::futures::future::join_all;

    use super::*;
    use crate::settings::{HttpSettings, InsecureHttpHosts};

    /// A cache, and a count of its provider's requests. The first response is a key set, and so are the others if
    /// `is_good`.
    async fn cache(is_good: bool) -> (KeyCache, Url, Arc<KeySet>, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4096]);
                let status = if count.fetch_add(1, Ordering::SeqCst) == 0 || is_good {
                    200
                } else {
                    500
                };
                let reply =
                    format!("HTTP/1.1 {status} -\r\nConnection: close\r\nContent-Length: 11\r\n\r\n{{\"keys\":[]}}");
                let _ = stream.write_all(reply.as_bytes());
            }
        });
        let cache = Arc::new(KeyCache::new(
            HttpClient::new(&HttpSettings::default(), InsecureHttpHosts::default()).unwrap(),
        ));
        let url = Url::parse(&url).unwrap();
        let keys = cache.keys(&url, KeyPurpose::AnyRequest(None), now()).await.unwrap();
        (Arc::into_inner(cache).unwrap(), url, keys, asked)
    }

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
    }

    /// The second of twenty begins during the first fetch, which may have missed its key; the other callers share its
    /// own fetch.
    #[tokio::test]
    async fn a_fetch_is_shared_by_all_who_asked_before_it_began() {
        let (cache, url, seen, asked) = cache(true).await;
        let look = || cache.refetch(&seen, StaleKeys::Missing, &url, KeyPurpose::ProviderReply, now());
        for look in join_all((0..20).map(|_| look())).await {
            assert!(matches!(look, Refetch::Latest(keys) if Arc::ptr_eq(&keys, &seen)));
        }
        assert_eq!(asked.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn a_fetch_that_fails_is_shared_too() {
        let (cache, url, seen, asked) = cache(false).await;
        let look = || cache.refetch(&seen, StaleKeys::Missing, &url, KeyPurpose::ProviderReply, now());
        let looks = join_all((0..20).map(|_| look())).await;
        let causes = looks.iter().map(|look| match look {
            Refetch::Failed(cause) => cause.reason(),
            other => panic!("{other:?}"),
        });
        let mut expected = vec!["provider_status"; 2];
        expected.resize(20, "provider_unavailable");
        assert_eq!(causes.collect::<Vec<_>>(), expected);
        assert_eq!(asked.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn any_request_and_replies_have_limits_of_their_own() {
        use KeyPurpose::{AnyRequest, ProviderReply};

        let client = |n: u8| AnyRequest(Some(IpAddr::from([192, 0, 2, n])));
        let (cache, url, seen, asked) = cache(true).await;
        let mut expected = 1;
        for (passed, purpose, waits) in [
            (0, AnyRequest(None), None),
            (0, AnyRequest(None), Some(30)),
            // Each client has its own limit, within that of all clients.
            (0, client(1), None),
            (0, client(1), Some(30)),
            (0, client(2), None),
            (0, client(3), None),
            (0, client(4), Some(10)),
            (0, ProviderReply, None),
            (0, ProviderReply, None),
            (0, ProviderReply, None),
            (0, ProviderReply, None),
            (0, ProviderReply, None),
            (0, ProviderReply, None),
            (0, ProviderReply, Some(10)),
            (10, client(1), Some(20)),
            (10, client(4), None),
            (10, client(5), Some(10)),
            (29, AnyRequest(None), Some(1)),
            (30, AnyRequest(None), None),
            (30, ProviderReply, None),
            // The clock is set back: the wait does not apply any more.
            (-100_000, AnyRequest(None), None),
            (-100_000, AnyRequest(None), Some(30)),
            (-99_970, AnyRequest(None), None),
        ] {
            let at = now() + time::Duration::seconds(passed);
            let look = cache.refetch(&seen, StaleKeys::Missing, &url, purpose, at);
            match (look.await, waits) {
                (Refetch::Latest(_), None) => expected += 1,
                (Refetch::Failed(ProviderError::KeysRateLimited { retry_after }), Some(wait)) => {
                    assert_eq!(retry_after.as_secs(), wait, "{passed} {purpose:?}");
                }
                (look, _) => panic!("{passed} {purpose:?}: {look:?}"),
            }
            assert_eq!(asked.load(Ordering::SeqCst), expected, "{passed} {purpose:?}");
        }
    }

    /// Keys that may be missing and keys that may have been replaced have separate limits too.
    #[tokio::test]
    async fn a_key_of_the_same_name_is_looked_for_every_half_minute() {
        use KeyPurpose::ProviderReply;

        const ANY_REQUEST: KeyPurpose = KeyPurpose::AnyRequest(None);
        let (cache, url, seen, asked) = cache(true).await;
        for (passed, purpose, doubt, count) in [
            (0, ProviderReply, StaleKeys::Replaced, 2),
            (0, ProviderReply, StaleKeys::Replaced, 2),
            (0, ANY_REQUEST, StaleKeys::Replaced, 3),
            (0, ANY_REQUEST, StaleKeys::Replaced, 3),
            (0, ANY_REQUEST, StaleKeys::Missing, 4),
            (0, ProviderReply, StaleKeys::Missing, 5),
            (29, ProviderReply, StaleKeys::Replaced, 5),
            (30, ProviderReply, StaleKeys::Replaced, 6),
            (30, ANY_REQUEST, StaleKeys::Replaced, 7),
        ] {
            let at = now() + time::Duration::seconds(passed);
            cache.refetch(&seen, doubt, &url, purpose, at).await;
            let case = (passed, purpose, doubt);
            assert_eq!(asked.load(Ordering::SeqCst), count, "{case:?}");
        }
    }

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
            assert_eq!(ttl(&headers), Duration::from_secs(seconds), "{header:?}");
        }
    }
}
