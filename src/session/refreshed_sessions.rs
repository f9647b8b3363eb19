//! A cache of refreshed sessions in cookies, for requests that still send the older cookie.

use std::time::{Duration, Instant};

use moka::{Expiry, ops::compute::Op, policy::EvictionPolicy, sync::Cache};

use super::CurrentSession;

/// Maximum size of the cache, in bytes.
const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// How long requests with an older copy get the refreshed session after the browser has sent the newer cookie.
pub(crate) const AFTER_SEEN: Duration = Duration::from_secs(60);

/// The newest records of refreshed sessions, in the memory of this process.
pub(super) struct RefreshedSessions(Cache<String, Entry>);

#[derive(Clone)]
struct Entry {
    session: CurrentSession,
    /// In seconds since 1970. It decides on expiry; the cache evicts the entry after `ttl`.
    expires: i64,
    ttl: Duration,
    is_seen: bool,
}

impl RefreshedSessions {
    pub(super) fn new() -> RefreshedSessions {
        RefreshedSessions(
            Cache::builder()
                .max_capacity(MAX_BYTES)
                .weigher(|_, entry: &Entry| u32::try_from(entry.session.weight()).unwrap_or(u32::MAX))
                .eviction_policy(EvictionPolicy::lru())
                .expire_after(OwnTtl)
                .build(),
        )
    }

    /// Caches a session with this TTL, unless a newer generation is cached.
    pub(super) fn insert(&self, session: &CurrentSession, ttl: Duration, now: i64) {
        let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        let entry = Entry {
            session: session.clone(),
            expires: now.saturating_add(seconds),
            ttl,
            is_seen: false,
        };
        self.0.entry_by_ref(session.name()).and_compute_with(|kept| {
            let kept = kept.map(moka::Entry::into_value);
            if kept.is_some_and(|kept| kept.session.generation > session.generation) {
                Op::Nop
            } else {
                Op::Put(entry)
            }
        });
    }

    /// The cached record of this session, if it is of this generation.
    pub(super) fn get(&self, name: &str, generation: u64, now: i64) -> Option<CurrentSession> {
        let entry = self.0.get(name)?;
        let is_current = entry.session.generation == generation && entry.expires > now;
        is_current.then_some(entry.session)
    }

    /// Records that the browser has sent the newest cookie: the record expires after `AFTER_SEEN` at the latest.
    pub(super) fn mark_seen(&self, name: &str, generation: u64, now: i64) {
        let is_unseen = |entry: &Entry| !entry.is_seen && entry.session.generation == generation;
        // Check with a cheaper `get` first: most requests find no entry, or one that is marked already.
        if !self.0.get(name).is_some_and(|entry| is_unseen(&entry)) {
            return;
        }
        self.0.entry_by_ref(name).and_compute_with(|entry| {
            let Some(mut entry) = entry.map(moka::Entry::into_value).filter(is_unseen) else {
                return Op::Nop;
            };
            let limit = now.saturating_add(AFTER_SEEN.as_secs().cast_signed());
            entry.expires = entry.expires.min(limit);
            entry.ttl = AFTER_SEEN;
            entry.is_seen = true;
            Op::Put(entry)
        });
    }
}

/// Each entry has its own TTL, from when it was written.
struct OwnTtl;

impl Expiry<String, Entry> for OwnTtl {
    fn expire_after_create(&self, _: &String, entry: &Entry, _: Instant) -> Option<Duration> {
        Some(entry.ttl)
    }

    fn expire_after_update(&self, _: &String, entry: &Entry, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(entry.ttl)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use time::OffsetDateTime;

    use super::*;
    use crate::{session::Session, token::Claims};

    fn session(generation: u64) -> CurrentSession {
        let now = OffsetDateTime::UNIX_EPOCH;
        let mut session = Session::new("https://op.example", Claims::default(), now);
        session.generation = generation;
        CurrentSession::new(Arc::new(session), Arc::new([]), "name".into(), 0)
    }

    /// The generations that are in the cache at this time.
    fn generation(refreshed_sessions: &RefreshedSessions, now: i64) -> Vec<u64> {
        let found = (1..5).filter_map(|generation| refreshed_sessions.get("name", generation, now));
        found.map(|session| session.generation).collect()
    }

    #[test]
    fn the_newest_generation_is_cached_for_its_ttl() {
        let refreshed_sessions = RefreshedSessions::new();
        let ttl = Duration::from_secs(1_000);
        assert_eq!(generation(&refreshed_sessions, 0), [0; 0]);
        for (kept, newest) in [(2, 2), (3, 3), (2, 3)] {
            refreshed_sessions.insert(&session(kept), ttl, 0);
            assert_eq!(generation(&refreshed_sessions, 0), [newest]);
        }
        assert_eq!(generation(&refreshed_sessions, 999), [3]);
        assert_eq!(generation(&refreshed_sessions, 1_000), [0; 0]);
    }

    #[test]
    fn a_generation_that_was_seen_is_cached_for_a_minute_more() {
        let refreshed_sessions = RefreshedSessions::new();
        refreshed_sessions.insert(&session(3), Duration::from_secs(1_000), 0);
        // Another generation, or another session, does not count.
        refreshed_sessions.mark_seen("name", 2, 100);
        refreshed_sessions.mark_seen("other", 3, 100);
        assert_eq!(generation(&refreshed_sessions, 999), [3]);
        for now in [100, 130] {
            refreshed_sessions.mark_seen("name", 3, now);
            assert_eq!(generation(&refreshed_sessions, 159), [3]);
            assert_eq!(generation(&refreshed_sessions, 160), [0; 0]);
        }
        refreshed_sessions.insert(&session(4), Duration::from_secs(1_000), 200);
        refreshed_sessions.mark_seen("name", 4, 1_190);
        assert_eq!(generation(&refreshed_sessions, 1_200), [0; 0], "not for longer");
    }
}
