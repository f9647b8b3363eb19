//! Bounded LRU caches by text, for verified tokens and decrypted sessions, and sets of names.

use std::{borrow::Borrow, hash::Hash, time::Duration};

use moka::{
    ops::compute::{CompResult, Op},
    policy::EvictionPolicy,
    sync::Cache,
};

/// An entry expires if it is not used for this long.
const IDLE_TTL: Duration = Duration::from_secs(5 * 60);

/// A bounded LRU cache with text keys.
///
/// Keys are hashed in full, with a random hash key. Add only texts that were verified or decrypted.
pub(crate) struct TextCache<K, V>(Cache<K, V>);

impl<K, V> TextCache<K, V>
where
    K: Borrow<str> + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// A cache of at most this many texts; 0 disables it.
    pub(crate) fn new(entries: u64) -> TextCache<K, V> {
        let cache = Cache::builder()
            .max_capacity(entries)
            .time_to_idle(IDLE_TTL)
            .eviction_policy(EvictionPolicy::lru());
        TextCache(cache.build())
    }

    pub(crate) fn get(&self, text: &str) -> Option<V> {
        self.0.get(text)
    }

    pub(crate) fn insert(&self, text: K, value: V) {
        self.0.insert(text, value);
    }

    pub(crate) fn len(&self) -> u64 {
        self.0.entry_count()
    }
}

/// Adds a name to a bounded set. Of any number of simultaneous calls one returns that it is new.
///
/// Not by moka's `or_insert`: of several threads more than one may be told that its entry is fresh.
pub(crate) fn is_new(names: &Cache<String, ()>, name: &str) -> bool {
    let added = names
        .entry_by_ref(name)
        .and_compute_with(|entry| entry.map_or(Op::Put(()), |_| Op::Nop));
    matches!(added, CompResult::Inserted(_))
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn of_several_threads_one_adds_a_name() {
        const NAMES: usize = 500;
        let (names, barrier) = (Cache::new(NAMES as u64 * 2), Barrier::new(8));
        let count_new = || {
            let is_new = |i: &usize| {
                barrier.wait();
                is_new(&names, &i.to_string())
            };
            (0..NAMES).filter(is_new).count()
        };
        let counts = std::thread::scope(|scope| {
            let threads = [(); 8].map(|()| scope.spawn(count_new));
            threads.map(|thread| thread.join().unwrap())
        });
        assert_eq!(counts.iter().sum::<usize>(), NAMES);
    }

    #[test]
    fn a_text_is_found_whole() {
        let cache = TextCache::new(10);
        cache.insert("text".to_owned(), 1);
        assert_eq!(cache.get("text"), Some(1));
        for other in ["", "tex", "texts", "other text"] {
            assert!(cache.get(other).is_none(), "{other}");
        }
    }

    #[test]
    fn the_least_recently_used_texts_are_evicted() {
        for entries in [0, 1, 7, 1_000] {
            let cache = TextCache::new(entries);
            for i in 0..2 * entries + 1 {
                cache.insert(format!("text {i}"), i);
                cache.0.run_pending_tasks();
            }
            assert_eq!(cache.len(), entries);
            let newest = format!("text {}", 2 * entries);
            assert_eq!(cache.get(&newest).is_some(), entries > 0);
            assert!(cache.get("text 0").is_none());
        }
    }
}
