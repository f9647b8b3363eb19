//! Bounded map of session names to their newest generation, which invalidates older copies of their cookies.

use std::{
    collections::HashMap,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::observing;

/// A bounded map of names to numbers that only grow. Each entry costs about 50 bytes.
///
/// Entries are in two halves. When the younger half is full, the older half is evicted and the younger replaces it:
/// entries whose number grew the longest ago are evicted first.
pub(super) struct Generations {
    half: usize,
    halves: Mutex<Halves>,
}

#[derive(Default)]
struct Halves {
    younger: HashMap<Key, Entry>,
    older: HashMap<Key, Entry>,
    evicted: u64,
}

/// A prefix of a name: names are digests of 32 bytes in base64url.
type Key = [u8; 16];

#[derive(Clone, Copy)]
struct Entry {
    number: u32,
    /// In seconds since 1970; sufficient until 2106.
    expires: u32,
}

impl Generations {
    /// A map for this many names.
    pub(super) fn new(max: usize) -> Generations {
        Generations {
            half: (max / 2).max(1),
            halves: Mutex::default(),
        }
    }

    /// The number of this name, and its expiry.
    pub(super) fn entry(&self, name: &str, now: i64) -> Option<(u64, i64)> {
        let key = key(name)?;
        let halves = self.lock();
        let entry = halves.younger.get(&key).or_else(|| halves.older.get(&key));
        let entry = entry.map(|entry| (entry.number.into(), entry.expires.into()));
        entry.filter(|(_, expires)| *expires > now)
    }

    /// Stores a number, unless the name has an equal or larger one. Returns whether it was stored.
    pub(super) fn advance(&self, name: &str, number: u64, expires: i64, now: i64) -> bool {
        let (Some(key), Ok(number)) = (key(name), u32::try_from(number)) else {
            return false;
        };
        let expires = u32::try_from(expires).unwrap_or(u32::MAX);
        let mut halves = self.lock();
        let halves = &mut *halves;
        let is_newer = |entry: &Entry| entry.number < number || i64::from(entry.expires) <= now;
        let known = halves.younger.get(&key).or_else(|| halves.older.get(&key));
        if !known.is_none_or(is_newer) {
            return false;
        }
        if halves.younger.len() >= self.half && !halves.younger.contains_key(&key) {
            let younger = mem::take(&mut halves.younger);
            let evicted = mem::replace(&mut halves.older, younger);
            let alive = evicted.iter();
            let alive = alive.filter(|(evicted, entry)| {
                let is_kept = **evicted == key || halves.older.contains_key(*evicted);
                i64::from(entry.expires) > now && !is_kept
            });
            let count = alive.count() as u64;
            halves.evicted += count;
            observing::generations_dropped(count);
        }
        halves.younger.insert(key, Entry { number, expires });
        true
    }

    /// How many unexpired entries were evicted.
    #[cfg(test)]
    fn evicted(&self) -> u64 {
        self.lock().evicted
    }

    fn lock(&self) -> MutexGuard<'_, Halves> {
        self.halves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `None` if `name` is not a digest.
fn key(name: &str) -> Option<Key> {
    let mut bytes = [0; 33];
    let length = URL_SAFE_NO_PAD.decode_slice(name, &mut bytes).ok()?;
    bytes[..length].first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::digest_name;

    impl Generations {
        fn get(&self, name: &str, now: i64) -> Option<u64> {
            self.entry(name, now).map(|(number, _)| number)
        }
    }

    fn name(i: usize) -> String {
        digest_name("generation", &[&i.to_string()])
    }

    #[test]
    fn a_number_never_decreases() {
        let generations = Generations::new(10);
        let name = name(1);
        assert_eq!(generations.get(&name, 0), None);
        assert!(generations.advance(&name, 2, 100, 0));
        assert!(!generations.advance(&name, 2, 100, 0));
        assert!(!generations.advance(&name, 1, 100, 0));
        assert_eq!(generations.get(&name, 99), Some(2));
        assert!(generations.advance(&name, 3, 100, 0));
        assert_eq!(generations.get(&name, 0), Some(3));
        assert_eq!(generations.get(&name, 100), None);
        assert!(generations.advance(&name, 1, 200, 100), "it has expired");
    }

    #[test]
    fn the_oldest_entries_are_evicted_first_and_counted() {
        let generations = Generations::new(10);
        for i in 0..15 {
            assert!(generations.advance(&name(i), 2, 100, 0));
        }
        let known = |i: usize| generations.get(&name(i), 0).is_some();
        assert_eq!((0..15).map(known).filter(|known| *known).count(), 10);
        assert!((5..15).all(known));
        assert_eq!(generations.evicted(), 5);
        // An updated entry is young again; expired entries are not counted.
        assert!(generations.advance(&name(5), 3, 100, 0));
        assert!(generations.advance(&name(99), 2, 300, 200));
        assert!(known(5));
        assert_eq!(generations.evicted(), 9);
    }

    #[test]
    fn only_digests_are_names() {
        let generations = Generations::new(10);
        for other in ["", "short", "?", &"x".repeat(80)] {
            assert!(!generations.advance(other, 1, 100, 0));
            assert_eq!(generations.get(other, 0), None);
        }
    }

    #[test]
    fn an_entry_costs_at_most_64_bytes() {
        // The load factor of a million entries: both are just below a power of two.
        let generations = Generations::new(62_500);
        for i in 0..62_500 {
            generations.advance(&name(i), 2, 100, 0);
        }
        let halves = generations.lock();
        let entries = halves.younger.len() + halves.older.len();
        assert_eq!(entries, 62_500);
        // `HashMap`: one control byte per slot, and at most 7/8 of the slots are used.
        let slots = |map: &HashMap<Key, Entry>| map.capacity() * 8 / 7;
        let bytes = (slots(&halves.younger) + slots(&halves.older)) * (size_of::<(Key, Entry)>() + 1);
        assert!(bytes / entries <= 64, "{} bytes", bytes / entries);
    }
}
