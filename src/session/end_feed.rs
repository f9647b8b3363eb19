//! A feed of session ends in the store that the nodes of an app share: a node that waits for ends learns of those on
//! other nodes by one read a second, however many sessions it waits for.
//!
//! It uses the methods that every store has. The ends are entries with consecutive numbers, each written by `lock`, so
//! that no two nodes write the same one, and the number of the latest is an entry of its own. Nodes write ends while
//! there is an entry of a reader: an app without sockets stores nothing.

use std::{sync::Arc, time::Duration};

use super::{
    EndCause, Names,
    store::{SessionStore, StoreError},
};

/// How long an end is in the feed. A reader that missed one looks at every session.
const END_TTL: Duration = Duration::from_secs(2 * 60);
/// How long ends are written for a reader …
const READER_TTL: Duration = Duration::from_secs(60);
/// … which says this often that it still reads.
const READER_INTERVAL: i64 = 20_000;
/// How often the feed is read, in milliseconds.
const READ_INTERVAL: i64 = 1_000;
/// How long the number of the latest end is kept.
const LATEST_TTL: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Maximum ends in one read. A reader that is further behind looks at every session.
const MAX_READ: u64 = 500;
/// Maximum tries to write an end while other nodes write theirs.
const MAX_TRIES: u64 = 64;

/// The feed of one client in a shared store.
pub(super) struct EndFeed {
    store: Arc<dyn SessionStore>,
    names: Names,
}

/// The end of sessions, by names or index keys.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FeedEnd {
    pub(super) names: Vec<String>,
    pub(super) cause: EndCause,
}

/// What was new in the feed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FeedNews {
    pub(super) ends: Vec<FeedEnd>,
    /// Whether there may have been other ends, so that every session is to be looked at.
    pub(super) is_incomplete: bool,
}

/// A node's place in the feed. Times are in milliseconds since 1970.
pub(super) struct FeedReader<'a> {
    feed: &'a EndFeed,
    /// The number of the last end that was read; `None` before the first read, and after a failure.
    last: Option<u64>,
    next_read: i64,
    /// When it last said that it reads.
    announced: i64,
}

impl EndFeed {
    pub(super) fn new(store: Arc<dyn SessionStore>, names: Names) -> EndFeed {
        EndFeed { store, names }
    }

    /// Writes an end, which the store has recorded, if any node reads the feed.
    ///
    /// A node that begins to read just now misses it, and nothing: it looks at its sessions after it has said so.
    pub(super) async fn publish(&self, names: &[&str], cause: EndCause) -> Result<(), StoreError> {
        let [readers, latest] = [self.names.end_feed_readers(), self.names.end_feed_latest()];
        let entries = self.store.entries(&[&readers, &latest]).await?;
        let [Some(_), newest] = &entries[..] else {
            return Ok(());
        };
        let newest = number(newest.as_deref());
        let end = format!("{} {}", cause.reason(), names.join(" "));
        for number in (1..=MAX_TRIES).map(|i| newest.saturating_add(i)) {
            if self.store.lock(&self.names.end_in_feed(number), &end, END_TTL).await? {
                let written = self.store.put_entry_if_larger(&latest, number, LATEST_TTL);
                return written.await.map(drop);
            }
        }
        Err(StoreError::new("other nodes wrote to the feed of ends at each attempt"))
    }

    /// Reads the ends with these numbers.
    async fn ends(&self, first: u64, latest: u64) -> Result<FeedNews, StoreError> {
        let names: Vec<_> = (first..=latest).map(|number| self.names.end_in_feed(number)).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let entries = self.store.entries(&names).await?;
        let ends: Vec<_> = entries
            .iter()
            .flatten()
            .filter_map(|entry| FeedEnd::parse(entry))
            .collect();
        Ok(FeedNews {
            is_incomplete: ends.len() < names.len(),
            ends,
        })
    }
}

impl FeedEnd {
    fn parse(entry: &str) -> Option<FeedEnd> {
        let (reason, names) = entry.split_once(' ')?;
        Some(FeedEnd {
            names: names.split(' ').map(str::to_owned).collect(),
            cause: EndCause::of_reason(reason)?,
        })
    }
}

impl FeedReader<'_> {
    pub(super) fn new(feed: &EndFeed) -> FeedReader<'_> {
        FeedReader {
            feed,
            last: None,
            next_read: i64::MIN,
            announced: i64::MIN,
        }
    }

    /// When to read next.
    pub(super) fn next_read(&self) -> i64 {
        self.next_read
    }

    /// Reads what is new. After a failure, what follows is incomplete.
    pub(super) async fn read(&mut self, now: i64) -> Result<FeedNews, StoreError> {
        self.next_read = now.saturating_add(READ_INTERVAL);
        let last = self.last.take();
        let was_announced = self.announce(now).await?;
        let latest = self.feed.names.end_feed_latest();
        let latest = self.feed.store.entries(&[&latest]).await?.pop().flatten();
        let latest = number(latest.as_deref());
        let news = match last.filter(|_| was_announced) {
            Some(last) if last == latest => FeedNews {
                ends: vec![],
                is_incomplete: false,
            },
            Some(last) if last < latest && latest - last <= MAX_READ => self.feed.ends(last + 1, latest).await?,
            // The first read, one after a failure or far behind; or the store has lost its data.
            _ => FeedNews {
                ends: vec![],
                is_incomplete: true,
            },
        };
        self.last = Some(latest);
        Ok(news)
    }

    /// Says that this node reads the feed. Returns whether its entry existed without interruption.
    async fn announce(&mut self, now: i64) -> Result<bool, StoreError> {
        let since = now.saturating_sub(self.announced);
        if (0..READER_INTERVAL).contains(&since) {
            return Ok(true);
        }
        let readers = self.feed.names.end_feed_readers();
        self.feed.store.put_entry(&readers, "1", READER_TTL).await?;
        self.announced = now;
        // Less than its TTL, for a store whose clock differs.
        Ok((0..2 * READER_INTERVAL).contains(&since))
    }
}

/// The number in an entry; 0 without one.
fn number(entry: Option<&str>) -> u64 {
    entry.and_then(|entry| entry.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        keys::{KeyRing, SecretKey},
        session::store::MemoryStore,
    };

    const NOW: i64 = 1_800_000_000_000;

    fn feed() -> EndFeed {
        let key = SecretKey::from_bytes(vec![7; 32]).unwrap();
        let keys = KeyRing::new(&key, &[], &["https://op.example", "app"]);
        EndFeed::new(Arc::new(MemoryStore::new(10)), Names::new(keys))
    }

    async fn publish(feed: &EndFeed, name: &str) {
        feed.publish(&[name], EndCause::SignOut).await.unwrap();
    }

    /// The names of the ends that are new, and whether there may be others.
    async fn read(reader: &mut FeedReader<'_>, now: i64) -> (Vec<String>, bool) {
        let news = reader.read(now).await.unwrap();
        let names = news.ends.into_iter().flat_map(|end| end.names).collect();
        (names, news.is_incomplete)
    }

    #[rocket::async_test]
    async fn a_reader_reads_each_end_once() {
        let feed = feed();
        publish(&feed, "unread").await;
        let (mut reader, mut other) = (FeedReader::new(&feed), FeedReader::new(&feed));
        assert_eq!(read(&mut reader, NOW).await, (vec![], true), "the first read");
        assert_eq!(reader.last, Some(0), "no node read, so nothing was written");
        assert_eq!(read(&mut other, NOW).await, (vec![], true));
        feed.publish(&["a", "b"], EndCause::BackchannelLogout).await.unwrap();
        publish(&feed, "c").await;
        let news = reader.read(NOW + 1_000).await.unwrap();
        assert_eq!(news.ends[0].cause, EndCause::BackchannelLogout);
        assert_eq!(news.ends[0].names, ["a", "b"]);
        assert_eq!((news.ends.len(), news.is_incomplete), (2, false));
        assert_eq!(read(&mut reader, NOW + 2_000).await, (vec![], false));
        let names = ["a", "b", "c"].map(str::to_owned).to_vec();
        assert_eq!(read(&mut other, NOW + 3_000).await, (names, false));
    }

    #[rocket::async_test]
    async fn simultaneous_ends_are_all_written() {
        let feed = feed();
        let mut reader = FeedReader::new(&feed);
        read(&mut reader, NOW).await;
        let names: Vec<_> = (0..40).map(|i| i.to_string()).collect();
        let ends = names.iter().map(|name| publish(&feed, name));
        rocket::futures::future::join_all(ends).await;
        let (mut found, is_incomplete) = read(&mut reader, NOW + 1_000).await;
        found.sort_by_key(|name| name.parse::<usize>().unwrap());
        assert_eq!((found, is_incomplete), (names, false));
    }

    /// A node that stopped between the end and its number, or a store that lost data.
    #[rocket::async_test]
    async fn a_reader_that_may_have_missed_an_end_says_so() {
        let feed = feed();
        let mut reader = FeedReader::new(&feed);
        read(&mut reader, NOW).await;
        // The number of an end that is not there any more.
        let latest = feed.names.end_feed_latest();
        assert_eq!(feed.store.put_entry_if_larger(&latest, 2, LATEST_TTL).await, Ok(true));
        assert_eq!(read(&mut reader, NOW + 1_000).await, (vec![], true));
        assert_eq!(read(&mut reader, NOW + 2_000).await, (vec![], false));
        // Far behind.
        assert_eq!(feed.store.put_entry_if_larger(&latest, 600, LATEST_TTL).await, Ok(true));
        assert_eq!(read(&mut reader, NOW + 3_000).await, (vec![], true));
        // The store was emptied: numbers begin again.
        reader.last = Some(1_000);
        assert_eq!(read(&mut reader, NOW + 4_000).await, (vec![], true));
        // It did not say in time that it reads: nothing may have been written for it.
        assert_eq!(read(&mut reader, NOW + 100_000).await, (vec![], true));
        assert_eq!(read(&mut reader, NOW + 101_000).await, (vec![], false));
        // An entry that no version of this crate wrote.
        let end = feed.names.end_in_feed(601);
        assert_eq!(feed.store.lock(&end, "unknown name", END_TTL).await, Ok(true));
        publish(&feed, "a").await;
        assert_eq!(read(&mut reader, NOW + 102_000).await, (vec!["a".to_owned()], true));
    }
}
