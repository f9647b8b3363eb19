//! Refreshed sessions in cookies whose browser has not shown the newer cookie yet.

use std::time::{Duration, Instant};

use moka::{Expiry, ops::compute::Op, policy::EvictionPolicy, sync::Cache};

use super::CurrentSession;

/// How much memory refreshed sessions may take, in bytes.
const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// How long a refreshed session is handed to requests with an older copy, after the newer cookie was seen.
pub(crate) const AFTER_SEEN: Duration = Duration::from_secs(60);

/// The newest records of refreshed sessions, in the memory of this process.
pub(super) struct HandedOut(Cache<String, Entry>);

#[derive(Clone)]
struct Entry {
    session: CurrentSession,
    /// In seconds since 1970. By this it is judged; the cache drops it after `life`.
    expires: i64,
    life: Duration,
    is_seen: bool,
}

impl HandedOut {
    pub(super) fn new() -> HandedOut {
        HandedOut(
            Cache::builder()
                .max_capacity(MAX_BYTES)
                .weigher(|_, entry: &Entry| {
                    u32::try_from(entry.session.weight()).unwrap_or(u32::MAX)
                })
                .eviction_policy(EvictionPolicy::lru())
                .expire_after(Life)
                .build(),
        )
    }

    /// Keeps a session for so long, unless a newer generation of it is kept.
    pub(super) fn keep(&self, session: &CurrentSession, life: Duration, now: i64) {
        let seconds = i64::try_from(life.as_secs()).unwrap_or(i64::MAX);
        let entry = Entry {
            session: session.clone(),
            expires: now.saturating_add(seconds),
            life,
            is_seen: false,
        };
        self.0
            .entry_by_ref(session.name())
            .and_compute_with(|kept| {
                let kept = kept.map(moka::Entry::into_value);
                if kept.is_some_and(|kept| kept.session.generation > session.generation) {
                    Op::Nop
                } else {
                    Op::Put(entry)
                }
            });
    }

    /// The newest record of this session, if it is of this generation.
    pub(super) fn get(&self, name: &str, generation: u64, now: i64) -> Option<CurrentSession> {
        let entry = self.0.get(name)?;
        let is_current = entry.session.generation == generation && entry.expires > now;
        is_current.then_some(entry.session)
    }

    /// A browser showed the newest cookie: its record is kept for a short time more.
    pub(super) fn seen(&self, name: &str, generation: u64, now: i64) {
        let is_news = |entry: &Entry| !entry.is_seen && entry.session.generation == generation;
        // A look first: most requests find nothing, or what was seen before.
        if !self.0.get(name).is_some_and(|entry| is_news(&entry)) {
            return;
        }
        self.0.entry_by_ref(name).and_compute_with(|entry| {
            let Some(mut entry) = entry.map(moka::Entry::into_value).filter(is_news) else {
                return Op::Nop;
            };
            let limit = now.saturating_add(AFTER_SEEN.as_secs().cast_signed());
            entry.expires = entry.expires.min(limit);
            entry.life = AFTER_SEEN;
            entry.is_seen = true;
            Op::Put(entry)
        });
    }
}

/// Each entry has a life of its own, from when it was written.
struct Life;

impl Expiry<String, Entry> for Life {
    fn expire_after_create(&self, _: &String, entry: &Entry, _: Instant) -> Option<Duration> {
        Some(entry.life)
    }

    fn expire_after_update(
        &self,
        _: &String,
        entry: &Entry,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.life)
    }
}
