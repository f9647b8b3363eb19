//! The recorded ends that a sign-in has read: an end from before a session began does not end it.

use std::time::Duration;

use aws_lc_rs::{digest, rand};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

/// Digests of the end entries that existed when a session began: sorted, without duplicates, and usually empty.
///
/// An end entry has the same value under each of its names: a random id, so that every end differs, and its TTL. It
/// contains no time, because the clocks of two nodes differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EarlierEnds(Vec<u64>);

/// The recorded ends of a user's sessions, as read by a sign-in.
pub(crate) struct EndsRead {
    pub(crate) ends: EarlierEnds,
    /// With the age of each, by the clock of the store.
    ages: Vec<(u64, Duration)>,
}

/// Maximum ends in an attempt: as many as exist while nodes change their keys, and few enough for any `state`.
const MAX_ENDS_IN_ATTEMPT: usize = 8;

/// The value of a new end entry with this TTL.
pub(super) fn new_end_entry(ttl: Duration) -> String {
    let mut id = [0; 8];
    rand::fill(&mut id).expect("the system's random generator does not fail");
    format!("{}.{}", URL_SAFE_NO_PAD.encode(id), ttl.as_millis())
}

/// The value of a new end entry with this TTL that does not apply to the session of this name.
pub(super) fn new_end_entry_except(session: &str, ttl: Duration) -> String {
    let entry = new_end_entry(ttl);
    let (id, ttl) = entry.split_once('.').unwrap_or((&entry, ""));
    format!("{id}~{session}.{ttl}")
}

/// Whether an end entry does not apply to the session of this name.
pub(super) fn excepts(entry: &str, session: &str) -> bool {
    let id = entry.split_once('.').map_or(entry, |(id, _)| id);
    id.split_once('~').is_some_and(|(_, excepted)| excepted == session)
}

/// The age of an end entry, from its remaining TTL. Without a valid TTL in its value the age is unknown, and 0.
fn age(entry: &str, left: Duration) -> Duration {
    let ttl = entry.split_once('.').and_then(|(_, ttl)| ttl.parse().ok());
    ttl.map_or(Duration::ZERO, |ttl| Duration::from_millis(ttl).saturating_sub(left))
}

/// The number of an end entry: a prefix of its digest, so that any text has one.
fn number(entry: &str) -> u64 {
    let digest = digest::digest(&digest::SHA256, entry.as_bytes());
    let start = digest.as_ref().first_chunk();
    start.map_or(0, |start| u64::from_be_bytes(*start))
}

impl EarlierEnds {
    pub(super) fn of<'n>(entries: impl IntoIterator<Item = &'n str>) -> EarlierEnds {
        let mut numbers: Vec<_> = entries.into_iter().map(number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        EarlierEnds(numbers)
    }

    pub(super) fn add(&mut self, entry: &str) {
        let number = number(entry);
        if let Err(place) = self.0.binary_search(&number) {
            self.0.insert(place, number);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this entry is one of them.
    pub(super) fn contains(&self, entry: &str) -> bool {
        !self.0.is_empty() && self.0.binary_search(&number(entry)).is_ok()
    }

    /// Whether this is a superset of `others`.
    pub(super) fn contains_all(&self, others: &EarlierEnds) -> bool {
        let contains = |number| self.0.binary_search(number).is_ok();
        others.0.iter().all(contains)
    }

    /// Serializes them for an attempt: the count, then eight bytes each. Ends beyond the limit are omitted, so that the
    /// attempt does not know them.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let carried = &self.0[..self.0.len().min(MAX_ENDS_IN_ATTEMPT)];
        let mut bytes = vec![carried.len() as u8];
        bytes.extend(carried.iter().flat_map(|number| number.to_be_bytes()));
        bytes
    }

    /// Parses the output of [`to_bytes`](Self::to_bytes). Also returns the remaining bytes.
    pub(crate) fn split(bytes: &[u8]) -> Option<(EarlierEnds, &[u8])> {
        let (count, mut rest) = bytes.split_first()?;
        let mut numbers = Vec::new();
        if *count == 0 || usize::from(*count) > MAX_ENDS_IN_ATTEMPT {
            return None;
        }
        for _ in 0..*count {
            let (number, after) = rest.split_first_chunk()?;
            numbers.push(u64::from_be_bytes(*number));
            rest = after;
        }
        numbers.is_sorted().then_some((EarlierEnds(numbers), rest))
    }
}

impl EndsRead {
    pub(super) fn of(entries: &[Option<(String, Duration)>]) -> EndsRead {
        let entries = entries.iter().flatten();
        EndsRead {
            ends: EarlierEnds::of(entries.clone().map(|(entry, _)| &**entry)),
            ages: entries
                .map(|(entry, left)| (number(entry), age(entry, *left)))
                .collect(),
        }
    }

    /// The age of the latest end that is not in `known`; `None` if there is none.
    pub(crate) fn youngest_except(&self, known: &EarlierEnds) -> Option<Duration> {
        let unknown = self.ages.iter();
        let unknown = unknown.filter(|(number, _)| known.0.binary_search(number).is_err());
        unknown.map(|(_, age)| *age).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn ends_are_compared_by_their_entries() {
        let entries: Vec<_> = (0..4).map(|_| new_end_entry(HOUR)).collect();
        let ends = EarlierEnds::of([&*entries[0], &entries[1], &entries[0]]);
        assert_eq!(ends.0.len(), 2);
        let contains: Vec<_> = entries.iter().map(|entry| ends.contains(entry)).collect();
        assert_eq!(contains, [true, true, false, false]);
        let one = EarlierEnds::of([&*entries[0]]);
        assert!(ends.contains_all(&one) && !one.contains_all(&ends) && one.contains_all(&EarlierEnds::default()));
        let other = EarlierEnds::of([&*entries[2]]);
        assert!(!one.contains_all(&other) && !ends.contains_all(&EarlierEnds::of([&*entries[0], &entries[2]])));
        assert!(!EarlierEnds::default().contains(&entries[0]));
        let mut added = one.clone();
        for _ in 0..2 {
            added.add(&entries[1]);
        }
        assert_eq!(added, ends);
    }

    #[test]
    fn an_attempt_holds_at_most_eight_ends() {
        let entries: Vec<_> = (0..9).map(|_| new_end_entry(HOUR)).collect();
        for count in [1, 2, 8, 9] {
            let ends = EarlierEnds::of(entries[..count].iter().map(String::as_str));
            let bytes = ends.to_bytes();
            let followed = [&bytes[..], b"/me"].concat();
            let (read, rest) = EarlierEnds::split(&followed).unwrap();
            assert_eq!((read.0.len(), rest), (count.min(8), &b"/me"[..]));
            assert!(ends.contains_all(&read));
            for length in 0..bytes.len() {
                assert_eq!(EarlierEnds::split(&bytes[..length]), None, "{length}");
            }
        }
        // Empty, too many, and not sorted.
        let one = |number: u64| number.to_be_bytes();
        for bytes in [
            vec![0],
            [&[9][..], &one(1).repeat(9)].concat(),
            [&[255][..], &one(1).repeat(255)].concat(),
            [&[2][..], &one(2), &one(1)].concat(),
        ] {
            assert_eq!(EarlierEnds::split(&bytes), None);
        }
    }

    #[test]
    fn the_age_of_an_end_follows_from_its_ttl() {
        let entry = new_end_entry(HOUR);
        assert_eq!(entry.len(), 11 + 1 + 7, "{entry}");
        for (left, expected) in [(3600, 0), (3599, 1), (0, 3600), (9999, 0)] {
            assert_eq!(age(&entry, seconds(left)), seconds(expected));
        }
        assert_eq!(age(&entry, Duration::MAX), seconds(0));
        // Unknown age: 0.
        for text in [
            "",
            ".",
            "1800000000000",
            "x.y",
            "x.-1",
            "x.1.2",
            "a.99999999999999999999999",
            "é.é",
        ] {
            assert_eq!(age(text, seconds(0)), seconds(0), "{text}");
        }
    }

    #[test]
    fn an_end_may_except_one_session() {
        let entry = new_end_entry_except("name", HOUR);
        assert!(excepts(&entry, "name"));
        assert_eq!(age(&entry, seconds(3_599)), seconds(1));
        assert_ne!(entry, new_end_entry_except("name", HOUR));
        for (entry, name) in [
            (&*entry, "other"),
            (&entry, ""),
            (&new_end_entry(HOUR), ""),
            ("", ""),
            ("x.~", ""),
        ] {
            assert!(!excepts(entry, name), "{entry} {name}");
        }
    }

    #[test]
    fn the_youngest_unknown_end_is_found() {
        let entries = [
            Some((new_end_entry(HOUR), seconds(600))),
            None,
            Some((new_end_entry(HOUR), seconds(3_590))),
        ];
        let read = EndsRead::of(&entries);
        let text = |i: usize| entries[i].as_ref().map_or("", |(entry, _)| entry);
        let known = |entries: &[&str]| EarlierEnds::of(entries.iter().copied());
        assert_eq!(read.ends, known(&[text(0), text(2)]));
        for (known, expected) in [
            (known(&[]), Some(seconds(10))),
            (known(&[text(0)]), Some(seconds(10))),
            (known(&[text(2)]), Some(seconds(3_000))),
            (read.ends.clone(), None),
        ] {
            assert_eq!(read.youngest_except(&known), expected);
        }
        let read = EndsRead::of(&[None, None]);
        assert_eq!(read.ends, EarlierEnds::default());
        assert_eq!(read.youngest_except(&EarlierEnds::default()), None);
    }
}
