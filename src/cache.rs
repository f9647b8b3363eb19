//! Bounded LRU caches by text, for verified tokens and decrypted sessions.

use std::{borrow::Borrow, hash::Hash, time::Duration};

use moka::{policy::EvictionPolicy, sync::Cache};

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

#[cfg(test)]
mod tests {
    use super::*;

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
