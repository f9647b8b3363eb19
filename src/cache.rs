//! What was found out about long texts before, so that it is not worked out again while they are in use.

use std::{
    borrow::Borrow,
    hash::Hash,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use quick_cache::{
    UnitWeighter,
    sync::{Cache, DefaultLifecycle},
};
use tokio::{task::spawn_blocking, time::sleep};

use crate::hash_of_end::HashOfEnd;

/// What nobody asked for during this time is forgotten within as much again.
const UNUSED_FOR: Duration = Duration::from_secs(5 * 60);

/// A bounded cache, by texts that end with a signature or a seal's tag. Only texts whose end is good may come
/// in, and nothing may stand behind it: then nobody else can fill it with texts that hash alike.
pub(crate) struct SeenTexts<K, V>(Arc<Texts<K, V>>);

type Texts<K, V> = Cache<K, Arc<Seen<V>>, UnitWeighter, HashOfEnd>;

/// What is remembered of a text.
pub(crate) struct Seen<V> {
    value: V,
    /// Whether somebody asked for it since that was looked at.
    is_used: AtomicBool,
}

impl<K, V> SeenTexts<K, V>
where
    K: Borrow<str> + Eq + Hash,
{
    /// Of so many texts; 0 is none.
    pub(crate) fn new(entries: u64) -> SeenTexts<K, V> {
        SeenTexts(Arc::new(Cache::with(
            usize::try_from(entries).unwrap_or(usize::MAX),
            entries,
            UnitWeighter,
            HashOfEnd::default(),
            DefaultLifecycle::default(),
        )))
    }

    pub(crate) fn get(&self, text: &str) -> Option<Arc<Seen<V>>> {
        let seen = self.0.get(text)?;
        if !seen.is_used.load(Ordering::Relaxed) {
            seen.is_used.store(true, Ordering::Relaxed);
        }
        Some(seen)
    }

    pub(crate) fn add(&self, text: K, value: V) -> Arc<Seen<V>> {
        let is_used = AtomicBool::new(true);
        let seen = Arc::new(Seen { value, is_used });
        self.0.insert(text, seen.clone());
        seen
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl<K, V> SeenTexts<K, V>
where
    K: Borrow<str> + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// From now on, for as long as the cache is there, forgets what is not in use.
    pub(crate) fn begin_forgetting(&self) {
        let texts = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            loop {
                sleep(UNUSED_FOR).await;
                let Some(texts) = texts.upgrade() else { return };
                // Of a large cache, that is nothing to hold requests up with.
                let _ = spawn_blocking(move || forget_unused(&texts)).await;
            }
        });
    }
}

/// Forgets what nobody asked for since the last call.
fn forget_unused<K: Eq + Hash, V>(texts: &Texts<K, V>) {
    texts.retain(|_, seen| seen.is_used.swap(false, Ordering::Relaxed));
}

impl<V> Deref for Seen<V> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_whole() {
        let texts = SeenTexts::new(10);
        assert_eq!(**texts.add("text".to_owned(), 1), 1);
        assert_eq!(texts.get("text").as_deref().map(|seen| **seen), Some(1));
        for other in ["", "tex", "texts", "other text"] {
            assert!(texts.get(other).is_none(), "{other}");
        }
    }

    #[test]
    fn there_are_as_many_as_were_asked_for() {
        for entries in [0, 1, 7, 1_000] {
            let texts = SeenTexts::new(entries);
            for i in 0..2 * entries + 1 {
                texts.add(format!("text {i}"), ());
            }
            // In several parts, of which some are not quite full.
            let count = texts.len() as u64;
            assert!(count <= entries && count >= entries / 10 * 8, "{count}");
        }
        let texts = SeenTexts::new(1);
        texts.add("first".to_owned(), ());
        texts.add("second".to_owned(), ());
        assert!(texts.get("first").is_none() && texts.get("second").is_some());
    }

    #[test]
    fn what_nobody_asks_for_is_forgotten() {
        let texts = SeenTexts::new(10);
        texts.add("used".to_owned(), ());
        texts.add("unused".to_owned(), ());
        forget_unused(&texts.0);
        assert_eq!(texts.len(), 2);
        assert!(texts.get("used").is_some());
        forget_unused(&texts.0);
        assert!(texts.get("unused").is_none());
        assert!(texts.get("used").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn forgetting_goes_on_for_as_long_as_the_cache_is_there() {
        let tasks = || {
            tokio::runtime::Handle::current()
                .metrics()
                .num_alive_tasks()
        };
        let texts = SeenTexts::new(10);
        texts.begin_forgetting();
        for _ in 0..2 {
            texts.add("text".to_owned(), ());
            sleep(UNUSED_FOR + Duration::from_secs(1)).await;
            assert_eq!(texts.len(), 1);
            sleep(UNUSED_FOR).await;
            assert_eq!((texts.len(), tasks()), (0, 1));
        }
        drop(texts);
        sleep(UNUSED_FOR).await;
        assert_eq!(tasks(), 0);
    }
}
