//! Tests of the contract: it detects stores that violate one requirement each.

use super::{super::MemoryStore, *};

/// The requirement that a store violates.
#[derive(Clone, Copy, PartialEq)]
enum Promise {
    Index,
    NewValue,
    OneReplacement,
    NothingComesBack,
    IdsByIndexKey,
    OneClaim,
    LargestNumber,
    Lives,
    Ends,
    KnownEnds,
    OneEnd,
    RestOfLife,
    PassingLife,
}

/// An in-memory store that violates one requirement.
struct Broken(Promise, MemoryStore);

impl Broken {
    fn breaks(&self, promise: Promise) -> bool {
        self.0 == promise
    }

    fn ttl(&self, ttl: Duration) -> Duration {
        if self.breaks(Promise::Lives) { HOUR } else { ttl }
    }
}

#[rocket::async_trait]
impl SessionStore for Broken {
    async fn create(&self, session: &StoredSession, ttl: Duration) -> Result<(), StoreError> {
        self.1.create(session, self.ttl(ttl)).await
    }

    async fn load(&self, id: &str) -> Result<Option<Arc<StoredSession>>, StoreError> {
        let found = self.1.load(id).await?.map(Arc::unwrap_or_clone);
        Ok(found.map(|mut session| {
            if self.breaks(Promise::Index) {
                session.index_keys.clear();
            }
            Arc::new(session)
        }))
    }

    async fn replace(&self, session: &StoredSession, ttl: Duration) -> Result<bool, StoreError> {
        let Some(before) = self.1.load(&session.id).await? else {
            if self.breaks(Promise::NothingComesBack) {
                self.create(session, ttl).await?;
            }
            return Ok(self.breaks(Promise::NothingComesBack));
        };
        let mut session = session.clone();
        if self.breaks(Promise::NewValue) {
            session.value.clone_from(&before.value);
        }
        if self.breaks(Promise::OneReplacement) && before.version + 1 == session.version {
            rocket::tokio::task::yield_now().await;
            self.create(&session, ttl).await?;
            return Ok(true);
        }
        self.1.replace(&session, ttl).await
    }

    async fn remove(&self, id: &str) -> Result<bool, StoreError> {
        self.1.remove(id).await
    }

    async fn ids_by_index_key(&self, index_key: &str) -> Result<Vec<String>, StoreError> {
        if self.breaks(Promise::IdsByIndexKey) {
            Ok(vec![])
        } else {
            self.1.ids_by_index_key(index_key).await
        }
    }

    async fn put_entry(&self, name: &str, value: &str, ttl: Duration) -> Result<(), StoreError> {
        self.1.put_entry(name, value, self.ttl(ttl)).await
    }

    async fn lock(&self, name: &str, value: &str, ttl: Duration) -> Result<bool, StoreError> {
        if self.breaks(Promise::OneClaim) {
            self.put_entry(name, value, ttl).await?;
            return Ok(true);
        }
        self.1.lock(name, value, self.ttl(ttl)).await
    }

    async fn put_entry_if_larger(&self, name: &str, number: u64, ttl: Duration) -> Result<bool, StoreError> {
        let result = self.1.put_entry_if_larger(name, number, self.ttl(ttl)).await?;
        Ok(result || self.breaks(Promise::LargestNumber))
    }

    async fn entries(&self, names: &[&str]) -> Result<Vec<Option<String>>, StoreError> {
        self.1.entries(names).await
    }

    async fn put_end(&self, name: &str, value: &str, ttl: Duration) -> Result<(), StoreError> {
        if self.breaks(Promise::Ends) {
            self.1.lock(name, value, ttl).await?;
            return Ok(());
        }
        self.1.put_end(name, value, ttl).await
    }

    async fn put_end_if_unchanged(
        &self,
        name: &str,
        known: Option<&str>,
        value: &str,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        let ttl = self.ttl(ttl);
        let before = self.1.entries(&[name]).await?.remove(0);
        let is_known = before.is_none() || before.as_deref() == known;
        if self.breaks(Promise::KnownEnds) || self.breaks(Promise::OneEnd) && is_known {
            rocket::tokio::task::yield_now().await;
            self.1.put_end(name, value, ttl).await?;
            return Ok(true);
        }
        self.1.put_end_if_unchanged(name, known, value, ttl).await
    }

    async fn entries_with_ttl(&self, names: &[&str]) -> Result<Vec<Option<(String, Duration)>>, StoreError> {
        let mut entries = self.1.entries_with_ttl(names).await?;
        for (_, left) in entries.iter_mut().flatten() {
            if self.breaks(Promise::RestOfLife) {
                *left *= 3;
            }
            if self.breaks(Promise::PassingLife) {
                // Rounds up to whole hours.
                *left = Duration::from_secs(left.as_secs().div_ceil(3600) * 3600);
            }
        }
        Ok(entries)
    }

    async fn unlock(&self, name: &str, value: &str) -> Result<(), StoreError> {
        self.1.unlock(name, value).await
    }
}

async fn check_without(promise: Promise) {
    check(&Broken(promise, MemoryStore::new(100))).await;
}

#[rocket::async_test]
#[should_panic(expected = "index_keys: []")]
async fn a_store_that_loses_index_keys_fails() {
    check_without(Promise::Index).await;
}

#[rocket::async_test]
#[should_panic(expected = "value: \"second\"")]
async fn a_store_that_keeps_the_old_value_is_found() {
    check_without(Promise::NewValue).await;
}

#[rocket::async_test]
#[should_panic(expected = "one of sixteen replacements")]
async fn a_store_where_several_replacements_win_is_found() {
    check_without(Promise::OneReplacement).await;
}

#[rocket::async_test]
#[should_panic(expected = "a replacement after the removal")]
async fn a_store_where_sessions_come_back_is_found() {
    check_without(Promise::NothingComesBack).await;
}

#[rocket::async_test]
#[should_panic(expected = "the sessions of a user")]
async fn a_store_that_finds_no_session_by_index_key_fails() {
    check_without(Promise::IdsByIndexKey).await;
}

#[rocket::async_test]
#[should_panic(expected = "one of sixteen locks")]
async fn a_store_where_several_claims_win_is_found() {
    check_without(Promise::OneClaim).await;
}

#[rocket::async_test]
#[should_panic(expected = "a number that is not larger")]
async fn a_store_where_a_smaller_number_wins_is_found() {
    check_without(Promise::LargestNumber).await;
}

#[rocket::async_test]
#[should_panic(expected = "a newer end")]
async fn a_store_that_keeps_the_older_end_is_found() {
    check_without(Promise::Ends).await;
}

#[rocket::async_test]
#[should_panic(expected = "in place of an unknown end")]
async fn a_store_that_overwrites_an_unknown_end_fails() {
    check_without(Promise::KnownEnds).await;
}

#[rocket::async_test]
#[should_panic(expected = "one of sixteen ends in place of one")]
async fn a_store_where_several_ends_replace_one_is_found() {
    check_without(Promise::OneEnd).await;
}

#[rocket::async_test]
#[should_panic(expected = "the remaining TTL of")]
async fn a_store_that_returns_a_wrong_ttl_fails() {
    check_without(Promise::RestOfLife).await;
}

#[rocket::async_test]
#[should_panic(expected = "the elapsed TTL: 0ns")]
async fn a_store_whose_lives_do_not_pass_is_found() {
    check_without(Promise::PassingLife).await;
}

#[rocket::async_test]
#[should_panic(expected = "an expired session")]
async fn a_store_that_returns_expired_entries_fails() {
    check_without(Promise::Lives).await;
}
