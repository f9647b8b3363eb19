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
const MAX_CARRIED: usize = 8;

/// The value of a new end entry with this TTL.
pub(super) fn new_note(life: Duration) -> String {
    let mut id = [0; 8];
    rand::fill(&mut id).expect("the system's random generator does not fail");
    format!("{}.{}", URL_SAFE_NO_PAD.encode(id), life.as_millis())
}

/// The age of an end entry, from its remaining TTL. Without a valid TTL in its value the age is unknown, and 0.
fn age(note: &str, left: Duration) -> Duration {
    let life = note.split_once('.').and_then(|(_, life)| life.parse().ok());
    life.map_or(Duration::ZERO, |life| Duration::from_millis(life).saturating_sub(left))
}

/// The number of an end entry: a prefix of its digest, so that any text has one.
fn number(note: &str) -> u64 {
    let digest = digest::digest(&digest::SHA256, note.as_bytes());
    let start = digest.as_ref().first_chunk();
    start.map_or(0, |start| u64::from_be_bytes(*start))
}

impl EarlierEnds {
    pub(super) fn of<'n>(notes: impl IntoIterator<Item = &'n str>) -> EarlierEnds {
        let mut numbers: Vec<_> = notes.into_iter().map(number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        EarlierEnds(numbers)
    }

    pub(super) fn add(&mut self, note: &str) {
        let number = number(note);
        if let Err(place) = self.0.binary_search(&number) {
            self.0.insert(place, number);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this entry is one of them.
    pub(super) fn has(&self, note: &str) -> bool {
        !self.0.is_empty() && self.0.binary_search(&number(note)).is_ok()
    }

    /// Whether this is a superset of `others`.
    pub(super) fn have(&self, others: &EarlierEnds) -> bool {
        let has = |number| self.0.binary_search(number).is_ok();
        others.0.iter().all(has)
    }

    /// Serializes them for an attempt: the count, then eight bytes each. Ends beyond the limit are omitted, so that the
    /// attempt does not know them.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let carried = &self.0[..self.0.len().min(MAX_CARRIED)];
        let mut bytes = vec![carried.len() as u8];
        bytes.extend(carried.iter().flat_map(|number| number.to_be_bytes()));
        bytes
    }

    /// Parses the output of [`to_bytes`](Self::to_bytes). Also returns the remaining bytes.
    pub(crate) fn split(bytes: &[u8]) -> Option<(EarlierEnds, &[u8])> {
        let (count, mut rest) = bytes.split_first()?;
        let mut numbers = Vec::new();
        if *count == 0 || usize::from(*count) > MAX_CARRIED {
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
    pub(super) fn of(notes: &[Option<(String, Duration)>]) -> EndsRead {
        let notes = notes.iter().flatten();
        EndsRead {
            ends: EarlierEnds::of(notes.clone().map(|(note, _)| &**note)),
            ages: notes.map(|(note, left)| (number(note), age(note, *left))).collect(),
        }
    }

    /// The age of the latest end that is not in `known`; `None` if there is none.
    pub(crate) fn youngest_beside(&self, known: &EarlierEnds) -> Option<Duration> {
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
    fn an_end_is_one_of_those_that_were_read() {
        let notes: Vec<_> = (0..4).map(|_| new_note(HOUR)).collect();
        let ends = EarlierEnds::of([&*notes[0], &notes[1], &notes[0]]);
        assert_eq!(ends.0.len(), 2);
        let has: Vec<_> = notes.iter().map(|note| ends.has(note)).collect();
        assert_eq!(has, [true, true, false, false]);
        let one = EarlierEnds::of([&*notes[0]]);
        assert!(ends.have(&one) && !one.have(&ends) && one.have(&EarlierEnds::default()));
        let other = EarlierEnds::of([&*notes[2]]);
        assert!(!one.have(&other) && !ends.have(&EarlierEnds::of([&*notes[0], &notes[2]])));
        assert!(!EarlierEnds::default().has(&notes[0]));
        let mut added = one.clone();
        for _ in 0..2 {
            added.add(&notes[1]);
        }
        assert_eq!(added, ends);
    }

    #[test]
    fn an_attempt_carries_so_many() {
        let notes: Vec<_> = (0..9).map(|_| new_note(HOUR)).collect();
        for count in [1, 2, 8, 9] {
            let ends = EarlierEnds::of(notes[..count].iter().map(String::as_str));
            let bytes = ends.to_bytes();
            let followed = [&bytes[..], b"/me"].concat();
            let (read, rest) = EarlierEnds::split(&followed).unwrap();
            assert_eq!((read.0.len(), rest), (count.min(8), &b"/me"[..]));
            assert!(ends.have(&read));
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
    fn a_note_says_its_life_and_the_store_what_is_left() {
        let note = new_note(HOUR);
        assert_eq!(note.len(), 11 + 1 + 7, "{note}");
        for (left, expected) in [(3600, 0), (3599, 1), (0, 3600), (9999, 0)] {
            assert_eq!(age(&note, seconds(left)), seconds(expected));
        }
        assert_eq!(age(&note, Duration::MAX), seconds(0));
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
    fn the_youngest_counts() {
        let notes = [
            Some((new_note(HOUR), seconds(600))),
            None,
            Some((new_note(HOUR), seconds(3_590))),
        ];
        let read = EndsRead::of(&notes);
        let text = |i: usize| notes[i].as_ref().map_or("", |(note, _)| note);
        let known = |notes: &[&str]| EarlierEnds::of(notes.iter().copied());
        assert_eq!(read.ends, known(&[text(0), text(2)]));
        for (known, expected) in [
            (known(&[]), Some(seconds(10))),
            (known(&[text(0)]), Some(seconds(10))),
            (known(&[text(2)]), Some(seconds(3_000))),
            (read.ends.clone(), None),
        ] {
            assert_eq!(read.youngest_beside(&known), expected);
        }
        let read = EndsRead::of(&[None, None]);
        assert_eq!(read.ends, EarlierEnds::default());
        assert_eq!(read.youngest_beside(&EarlierEnds::default()), None);
    }
}
