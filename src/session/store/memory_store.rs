//! An in-memory session store: a bounded LRU cache with expiry, which does not survive a restart.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use moka::{
    Entry, Expiry,
    notification::RemovalCause,
    ops::compute::{CompResult, Op},
    policy::EvictionPolicy,
    sync::Cache,
};

use time::OffsetDateTime;

use super::{SessionStore, StoreError, StoredSession};
use crate::{clock::Clock, session::generations::Generations};

/// Maximum entries per table; the least recently used is evicted first.
const MAX_ENTRIES: u64 = 1_000_000;

/// Maximum numeric entries.
const MAX_NUMBERS: usize = 1_000_000;

/// A [`SessionStore`] in the memory of this process. When it is full, the least recently used session is evicted, which
/// ends it.
pub struct MemoryStore {
    sessions: Cache<String, Expiring<Arc<StoredSession>>>,
    index: Arc<Index>,
    /// Separate tables, so that many entries of one kind evict none of another.
    ends: EntryTable,
    locks: EntryTable,
    entries: EntryTable,
    /// Entries of numbers: many and small.
    numbers: Generations,
    clock: Clock,
}

/// A table of entries of one kind. A lookup in a table that was never written is free: every request with a session in
/// cookies looks up several entries, and most apps write only one kind.
struct EntryTable {
    table: Cache<String, Expiring<Arc<str>>>,
    is_written: AtomicBool,
}

/// A value and its TTL: the cache evicts it after `ttl`, and `ends` decides on expiry, which a test's clock may reach
/// sooner.
#[derive(Clone)]
struct Expiring<T> {
    value: T,
    ttl: Duration,
    ends: Option<OffsetDateTime>,
}

/// The index: pairs of an index key and a session id.
#[derive(Default)]
struct Index(Mutex<BTreeSet<(String, String)>>);

impl MemoryStore {
    /// An empty store for at most this many sessions.
    pub fn new(max_sessions: usize) -> MemoryStore {
        let index = Arc::new(Index::default());
        let index_of_evicted = index.clone();
        MemoryStore {
            sessions: Cache::builder()
                .max_capacity(max_sessions as u64)
                .eviction_policy(EvictionPolicy::lru())
                .expire_after(OwnTtl)
                .eviction_listener(move |_, session: Expiring<Arc<StoredSession>>, cause| {
                    if cause != RemovalCause::Replaced {
                        index_of_evicted.remove(&session.value);
                    }
                })
                .build(),
            index,
            ends: EntryTable::new(MAX_ENTRIES),
            locks: EntryTable::new(MAX_ENTRIES),
            entries: EntryTable::new(MAX_ENTRIES),
            numbers: Generations::new(MAX_NUMBERS),
            clock: Clock::default(),
        }
    }

    /// Sets the maximum of numeric entries, such as the newest generation of a session; the one written the longest ago
    /// is evicted first. The default is a million.
    pub fn max_counters(mut self, max: usize) -> MemoryStore {
        self.numbers = Generations::new(max);
        self
    }

    /// Sets the maximum of entries per table.
    #[cfg(test)]
    pub(in crate::session) fn max_entries(mut self, max: u64) -> MemoryStore {
        (self.ends, self.locks, self.entries) = (EntryTable::new(max), EntryTable::new(max), EntryTable::new(max));
        self
    }

    /// Runs pending evictions of entries.
    #[cfg(test)]
    pub(in crate::session) fn evict_excess(&self) {
        for entries in [&self.ends, &self.entries, &self.locks] {
            entries.table.run_pending_tasks();
        }
    }

    /// Sets the clock that decides on expiry. The default is the system's.
    pub fn clock(mut self, clock: Clock) -> MemoryStore {
        self.clock = clock;
        self
    }

    fn expiring<T>(&self, value: T, ttl: Duration) -> Expiring<T> {
        Expiring {
            value,
            ttl,
            ends: time::Duration::try_from(ttl)
                .ok()
                .and_then(|ttl| self.clock.now().checked_add(ttl)),
        }
    }

    fn is_expired<T>(&self, kept: &Expiring<T>) -> bool {
        kept.ends.is_some_and(|ends| ends <= self.clock.now())
    }

    /// The entry under this name, in any table.
    fn find_entry(&self, name: &str) -> Option<Expiring<Arc<str>>> {
        let tables = [&self.ends, &self.entries, &self.locks];
        let mut kept = tables.into_iter().filter_map(|table| table.get(name));
        kept.find(|kept| !self.is_expired(kept))
    }
}

impl EntryTable {
    fn new(max: u64) -> EntryTable {
        EntryTable {
            table: Cache::builder()
                .max_capacity(max)
                .eviction_policy(EvictionPolicy::lru())
                .expire_after(OwnTtl)
                .build(),
            is_written: AtomicBool::new(false),
        }
    }

    fn get(&self, name: &str) -> Option<Expiring<Arc<str>>> {
        if self.is_written.load(Ordering::Acquire) {
            self.table.get(name)
        } else {
            None
        }
    }

    /// The table for a write: enables lookups.
    fn to_write(&self) -> &Cache<String, Expiring<Arc<str>>> {
        self.is_written.store(true, Ordering::Release);
        &self.table
    }
}

#[rocket::async_trait]
impl SessionStore for MemoryStore {
    async fn create(&self, session: &StoredSession, ttl: Duration) -> Result<(), StoreError> {
        self.index.add(session);
        let kept = self.expiring(Arc::new(session.clone()), ttl);
        self.sessions.insert(session.id.clone(), kept);
        Ok(())
    }

    async fn load(&self, id: &str) -> Result<Option<Arc<StoredSession>>, StoreError> {
        let kept = self.sessions.get(id).filter(|kept| !self.is_expired(kept));
        Ok(kept.map(|kept| kept.value))
    }

    async fn replace(&self, session: &StoredSession, ttl: Duration) -> Result<bool, StoreError> {
        let done =
            self.sessions
                .entry_by_ref(&session.id)
                .and_compute_with(|entry| match entry.map(Entry::into_value) {
                    Some(old) if old.value.version + 1 == session.version && !self.is_expired(&old) => {
                        Op::Put(self.expiring(Arc::new(session.clone()), ttl))
                    }
                    _ => Op::Nop,
                });
        Ok(matches!(done, CompResult::ReplacedWith(_)))
    }

    async fn remove(&self, id: &str) -> Result<bool, StoreError> {
        let removed = self.sessions.remove(id);
        Ok(removed.is_some_and(|kept| !self.is_expired(&kept)))
    }

    async fn ids_by_index_key(&self, index_key: &str) -> Result<Vec<String>, StoreError> {
        let ids = self.index.ids(index_key).into_iter();
        let is_valid = |id: &String| {
            let kept = self.sessions.get(id);
            kept.is_some_and(|kept| !self.is_expired(&kept))
        };
        Ok(ids.filter(is_valid).collect())
    }

    async fn put_entry(&self, name: &str, value: &str, ttl: Duration) -> Result<(), StoreError> {
        let kept = self.expiring(value.into(), ttl);
        self.entries.to_write().insert(name.to_owned(), kept);
        self.locks.table.invalidate(name);
        self.ends.table.invalidate(name);
        Ok(())
    }

    async fn put_end(&self, name: &str, value: &str, ttl: Duration) -> Result<(), StoreError> {
        let kept = self.expiring(value.into(), ttl);
        self.ends.to_write().insert(name.to_owned(), kept);
        Ok(())
    }

    async fn put_end_if_unchanged(
        &self,
        name: &str,
        known: Option<&str>,
        value: &str,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        let is_other = |kept: &Expiring<Arc<str>>| !self.is_expired(kept) && known != Some(&*kept.value);
        let others = [&self.entries, &self.locks];
        let mut others = others.into_iter().filter_map(|table| table.get(name));
        if others.any(|kept| is_other(&kept)) {
            return Ok(false);
        }
        let done = self
            .ends
            .to_write()
            .entry_by_ref(name)
            .and_compute_with(|entry| match entry {
                Some(entry) if is_other(entry.value()) => Op::Nop,
                _ => Op::Put(self.expiring(value.into(), ttl)),
            });
        Ok(matches!(done, CompResult::Inserted(_) | CompResult::ReplacedWith(_)))
    }

    async fn lock(&self, name: &str, value: &str, ttl: Duration) -> Result<bool, StoreError> {
        if self.find_entry(name).is_some() {
            return Ok(false);
        }
        let claimed = self
            .locks
            .to_write()
            .entry_by_ref(name)
            .or_insert_with_if(|| self.expiring(value.into(), ttl), |kept| self.is_expired(kept));
        Ok(claimed.is_fresh())
    }

    async fn put_entry_if_larger(&self, name: &str, number: u64, ttl: Duration) -> Result<bool, StoreError> {
        let now = self.clock.now().unix_timestamp();
        let ttl = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        let expires = now.saturating_add(ttl);
        Ok(self.numbers.advance(name, number, expires, now))
    }

    async fn entries_with_ttl(&self, names: &[&str]) -> Result<Vec<Option<(String, Duration)>>, StoreError> {
        let now = self.clock.now();
        let entry = |name: &&str| {
            if let Some((number, expires)) = self.numbers.entry(name, now.unix_timestamp()) {
                let ttl = expires.saturating_sub(now.unix_timestamp());
                return Some((number.to_string(), Duration::from_secs(ttl.unsigned_abs())));
            }
            let kept = self.find_entry(name)?;
            let left = kept.ends.map(|ends| Duration::try_from(ends - now));
            let left = left.unwrap_or(Ok(kept.ttl)).unwrap_or_default();
            Some((kept.value.to_string(), left))
        };
        Ok(names.iter().map(entry).collect())
    }

    async fn unlock(&self, name: &str, value: &str) -> Result<(), StoreError> {
        for entries in [&self.ends, &self.entries, &self.locks] {
            entries.table.entry_by_ref(name).and_compute_with(|entry| match entry {
                Some(entry) if *entry.value().value == *value => Op::Remove,
                _ => Op::Nop,
            });
        }
        Ok(())
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl Index {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<(String, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, session: &StoredSession) {
        let keys = session.index_keys.iter().cloned();
        self.lock().extend(keys.map(|key| (key, session.id.clone())));
    }

    fn remove(&self, session: &StoredSession) {
        let mut index = self.lock();
        for key in &session.index_keys {
            index.remove(&(key.clone(), session.id.clone()));
        }
    }

    fn ids(&self, key: &str) -> Vec<String> {
        let index = self.lock();
        let from_key = index.range((key.to_owned(), String::new())..);
        let of_key = from_key.take_while(|(other, _)| other == key);
        of_key.map(|(_, id)| id.clone()).collect()
    }
}

/// Each entry has its own TTL, from when it was written.
struct OwnTtl;

impl<T> Expiry<String, Expiring<T>> for OwnTtl {
    fn expire_after_create(&self, _: &String, kept: &Expiring<T>, _: Instant) -> Option<Duration> {
        Some(kept.ttl)
    }

    fn expire_after_update(&self, _: &String, kept: &Expiring<T>, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(kept.ttl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(feature = "testing")]
    use crate::keys::digest_name;

    fn session(id: &str, index_key: &str) -> StoredSession {
        StoredSession {
            id: id.to_owned(),
            version: 1,
            value: "sealed".to_owned(),
            index_keys: vec![index_key.to_owned()],
        }
    }

    #[rocket::async_test]
    async fn the_least_recently_used_session_is_evicted_when_the_store_is_full() {
        let (store, hour) = (MemoryStore::new(2), Duration::from_secs(3600));
        for (id, index_key) in [("a", "alice"), ("b", "bob")] {
            store.create(&session(id, index_key), hour).await.unwrap();
        }
        store.sessions.run_pending_tasks();
        assert!(store.load("a").await.unwrap().is_some());
        store.create(&session("c", "carol"), hour).await.unwrap();
        store.sessions.run_pending_tasks();

        assert_eq!(store.load("b").await, Ok(None));
        let kept = |id, index_key| Ok(Some(Arc::new(session(id, index_key))));
        assert_eq!(store.load("a").await, kept("a", "alice"));
        assert_eq!(store.load("c").await, kept("c", "carol"));
        assert_eq!(store.ids_by_index_key("bob").await, Ok(vec![]));
        assert_eq!(store.index.ids("bob"), [""; 0]);
    }

    #[rocket::async_test]
    async fn an_expired_session_is_not_found() {
        let store = MemoryStore::new(10);
        let ttl = Duration::from_nanos(1);
        store.create(&session("a", "alice"), ttl).await.unwrap();
        store.sessions.run_pending_tasks();
        assert_eq!(store.load("a").await, Ok(None));
        assert_eq!(store.ids_by_index_key("alice").await, Ok(vec![]));
    }

    /// Entries that are never read again do not stay until the store is full.
    #[cfg(feature = "testing")]
    #[rocket::async_test]
    async fn the_cache_evicts_expired_entries() {
        let store = MemoryStore::new(10).clock(Clock::fixed());
        let (hour, ttl) = (Duration::from_secs(3600), Duration::from_nanos(1));
        store.create(&session("a", "alice"), ttl).await.unwrap();
        store.put_entry("n", "1", ttl).await.unwrap();
        assert!(store.sessions.get("a").is_none());
        store.lock("c", "1", ttl).await.unwrap();
        store.put_end("e", "1", ttl).await.unwrap();
        for table in [&store.entries, &store.locks, &store.ends] {
            assert!(["n", "c", "e"].iter().all(|name| table.get(name).is_none()));
        }

        store.create(&session("b", "bob"), hour).await.unwrap();
        let next = StoredSession {
            version: 2,
            ..session("b", "bob")
        };
        assert_eq!(store.replace(&next, ttl).await, Ok(true));
        assert!(store.sessions.get("b").is_none());
    }

    /// The cache's own clock hardly advances meanwhile.
    #[cfg(feature = "testing")]
    #[rocket::async_test]
    async fn ttls_follow_the_test_clock() {
        let clock = Clock::fixed();
        let (store, minute) = (MemoryStore::new(10).clock(clock.clone()), Duration::from_secs(60));
        store.create(&session("a", "alice"), minute).await.unwrap();
        store.put_entry("n", "1", minute).await.unwrap();
        clock.advance(minute - Duration::from_millis(1));
        assert!(store.load("a").await.unwrap().is_some());
        assert_eq!(store.ids_by_index_key("alice").await.unwrap(), ["a"]);
        assert_eq!(store.lock("n", "2", minute).await, Ok(false));

        clock.advance(Duration::from_millis(1));
        let next = StoredSession {
            version: 2,
            ..session("a", "alice")
        };
        assert_eq!(store.replace(&next, minute).await, Ok(false));
        assert_eq!(store.load("a").await, Ok(None));
        assert_eq!(store.ids_by_index_key("alice").await, Ok(vec![]));
        assert_eq!(store.remove("a").await, Ok(false));
        assert_eq!(store.entries(&["n"]).await, Ok(vec![None]));
        assert_eq!(store.lock("n", "2", minute).await, Ok(true));
        assert_eq!(store.lock("n", "3", minute).await, Ok(false));
    }

    /// The last write counts, in whichever table: separate tables are not observable.
    #[cfg(feature = "testing")]
    #[rocket::async_test]
    async fn the_last_write_is_read() {
        let clock = Clock::fixed();
        let store = MemoryStore::new(10).clock(clock.clone());
        let (hour, minute) = (Duration::from_secs(3600), Duration::from_secs(60));
        let read = async || store.entries(&["n"]).await.unwrap().remove(0);
        assert_eq!(store.lock("n", "lock", hour).await, Ok(true));
        store.put_end("n", "end", hour).await.unwrap();
        assert_eq!(read().await.as_deref(), Some("end"));
        store.put_entry("n", "entry", minute).await.unwrap();
        assert_eq!(read().await.as_deref(), Some("entry"));
        store.put_end("n", "newer", minute).await.unwrap();
        assert_eq!(read().await.as_deref(), Some("newer"));
        clock.advance(minute);
        assert_eq!(read().await, None);
        assert_eq!(store.lock("n", "lock", minute).await, Ok(true));
        clock.advance(minute);
        assert_eq!(store.lock("n", "again", hour).await, Ok(true));
        assert_eq!(read().await.as_deref(), Some("again"));
    }

    #[rocket::async_test]
    async fn an_entry_of_any_kind_is_unlocked() {
        let (store, hour) = (MemoryStore::new(10), Duration::from_secs(3600));
        store.put_entry("entry", "1", hour).await.unwrap();
        store.put_end("end", "1", hour).await.unwrap();
        assert_eq!(store.lock("lock", "1", hour).await, Ok(true));
        for name in ["entry", "end", "lock"] {
            store.unlock(name, "2").await.unwrap();
            let one = Some("1".to_owned());
            assert_eq!(store.entries(&[name]).await, Ok(vec![one]), "{name}");
            store.unlock(name, "1").await.unwrap();
            assert_eq!(store.entries(&[name]).await, Ok(vec![None]), "{name}");
        }
    }

    #[cfg(feature = "testing")]
    #[rocket::async_test]
    async fn a_number_has_the_ttl_of_its_entry() {
        let clock = Clock::fixed();
        let store = MemoryStore::new(10).clock(clock.clone());
        let seconds = Duration::from_secs;
        let name = digest_name("generation", &["n"]);
        assert_eq!(store.put_entry_if_larger(&name, 5, seconds(60)).await, Ok(true));
        for (passed, left) in [(0, Some(60)), (59, Some(1)), (1, None)] {
            clock.advance(seconds(passed));
            let expected = left.map(|left| ("5".to_owned(), seconds(left)));
            let entries = store.entries_with_ttl(&[&name]).await;
            assert_eq!(entries, Ok(vec![expected]), "{passed}");
        }
    }

    /// Longer than any clock can represent.
    #[rocket::async_test]
    async fn an_entry_may_have_the_maximum_ttl() {
        let (store, long) = (MemoryStore::new(10), Duration::MAX);
        store.put_end("n", "1", long).await.unwrap();
        let expected = Some(("1".to_owned(), long));
        assert_eq!(store.entries_with_ttl(&["n"]).await, Ok(vec![expected]));
    }

    /// Many entries of one kind evict no recorded ends.
    #[rocket::async_test]
    async fn entries_of_one_kind_evict_none_of_another() {
        let hour = Duration::from_secs(3600);
        let fill = async |store: &MemoryStore, kind: &str| {
            for i in 0..50 {
                let name = format!("{kind} {i}");
                match kind {
                    "end" => store.put_end(&name, "1", hour).await.unwrap(),
                    "entry" => store.put_entry(&name, "1", hour).await.unwrap(),
                    _ => drop(store.lock(&name, "1", hour).await.unwrap()),
                }
            }
            store.evict_excess();
        };
        for (kept, others) in [
            ("end", ["entry", "lock"]),
            ("entry", ["end", "lock"]),
            ("lock", ["end", "entry"]),
        ] {
            let store = MemoryStore::new(10).max_entries(50);
            fill(&store, kept).await;
            for other in others {
                fill(&store, other).await;
            }
            let names: Vec<_> = (0..50).map(|i| format!("{kept} {i}")).collect();
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            let entries = store.entries(&names).await.unwrap();
            assert_eq!(entries, vec![Some("1".to_owned()); 50], "{kept}");
        }
    }
}
