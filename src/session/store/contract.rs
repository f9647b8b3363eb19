//! Contract tests for any [`SessionStore`], including your own.

use std::{sync::Arc, time::Duration};

use super::{SessionStore, StoreError, StoredSession};
use crate::secret::Secret;

const HOUR: Duration = Duration::from_secs(3600);

/// Tests a store against the contract of [`SessionStore`], under random names.
///
/// ```
/// use rocket_openidconnect::store::{MemoryStore, contract};
///
/// # rocket::async_test(async {
/// contract::check(&MemoryStore::new(1_000)).await;
/// # });
/// ```
///
/// # Panics
///
/// If the store violates the contract; the message says which part.
pub async fn check(store: &dyn SessionStore) {
    sessions_are_kept_and_replaced_by_version(store).await;
    one_of_many_replacements_wins(store).await;
    a_removed_session_does_not_come_back(store).await;
    sessions_are_found_by_index_key(store).await;
    entries_are_stored_and_locked_once(store).await;
    the_largest_number_stays(store).await;
    entries_have_a_remaining_ttl(store).await;
    an_end_replaces_only_the_known_one(store).await;
    expired_sessions_and_entries_are_gone(store).await;
}

fn name() -> String {
    Secret::random().expose().to_owned()
}

fn session(index_keys: &[&str]) -> StoredSession {
    StoredSession {
        id: name(),
        version: 1,
        value: "c2VhbGVk/+==".repeat(500),
        index_keys: index_keys.iter().map(|&index_key| index_key.to_owned()).collect(),
    }
}

fn next(session: &StoredSession, value: &str) -> StoredSession {
    StoredSession {
        version: session.version + 1,
        value: value.to_owned(),
        ..session.clone()
    }
}

async fn loaded(store: &dyn SessionStore, id: &str) -> Result<Option<StoredSession>, StoreError> {
    Ok(store.load(id).await?.map(Arc::unwrap_or_clone))
}

async fn sessions_are_kept_and_replaced_by_version(store: &dyn SessionStore) {
    let first = session(&[&name()]);
    assert_eq!(loaded(store, &first.id).await, Ok(None), "an unknown id");
    assert_eq!(store.create(&first, HOUR).await, Ok(()));
    assert_eq!(loaded(store, &first.id).await, Ok(Some(first.clone())));

    let second = next(&first, "second");
    assert_eq!(store.replace(&second, HOUR).await, Ok(true));
    assert_eq!(loaded(store, &first.id).await, Ok(Some(second.clone())));
    for stale in [next(&first, "stale"), next(&next(&second, "x"), "early")] {
        let result = store.replace(&stale, HOUR).await;
        assert_eq!(result, Ok(false), "a replacement of another version");
    }
    assert_eq!(loaded(store, &first.id).await, Ok(Some(second)));
}

async fn one_of_many_replacements_wins(store: &dyn SessionStore) {
    let first = session(&[]);
    assert_eq!(store.create(&first, HOUR).await, Ok(()));
    let rivals: Vec<_> = (0..16).map(|i| next(&first, &i.to_string())).collect();
    let results = rivals.iter().map(|rival| store.replace(rival, HOUR));
    let results = rocket::futures::future::join_all(results).await;
    let winners: Vec<_> = results
        .iter()
        .enumerate()
        .filter(|(_, result)| **result == Ok(true))
        .map(|(i, _)| i)
        .collect();
    assert_eq!(winners.len(), 1, "one of sixteen replacements: {results:?}");
    let winner = rivals[winners[0]].clone();
    assert_eq!(loaded(store, &first.id).await, Ok(Some(winner)));
}

async fn a_removed_session_does_not_come_back(store: &dyn SessionStore) {
    let index_key = name();
    let first = session(&[&index_key]);
    assert_eq!(store.create(&first, HOUR).await, Ok(()));
    assert_eq!(store.remove(&first.id).await, Ok(true));
    assert_eq!(store.remove(&first.id).await, Ok(false), "a second removal");
    let late = store.replace(&next(&first, "late"), HOUR).await;
    assert_eq!(late, Ok(false), "a replacement after the removal");
    assert_eq!(loaded(store, &first.id).await, Ok(None));
}

async fn sessions_are_found_by_index_key(store: &dyn SessionStore) {
    let (user, one, two) = (name(), name(), name());
    let (first, second) = (session(&[&user, &one]), session(&[&user, &two]));
    for session in [&first, &second] {
        assert_eq!(store.create(session, HOUR).await, Ok(()));
    }
    let replaced = store.replace(&next(&first, "replaced"), HOUR).await;
    assert_eq!(replaced, Ok(true));

    let mut expected = vec![first.id.clone(), second.id.clone()];
    expected.sort_unstable();
    let mut found = store.ids_by_index_key(&user).await.expect("the sessions of a user");
    found.sort_unstable();
    assert_eq!(found, expected, "the sessions of a user");
    assert_eq!(store.ids_by_index_key(&one).await, Ok(vec![first.id.clone()]));
    assert_eq!(
        store.ids_by_index_key(&name()).await,
        Ok(vec![]),
        "an unknown index key"
    );

    assert_eq!(store.remove(&first.id).await, Ok(true));
    for id in store.ids_by_index_key(&one).await.expect("the sessions of one") {
        assert_eq!(loaded(store, &id).await, Ok(None), "a removed session in the index");
    }
    let left = store.ids_by_index_key(&user).await.expect("the sessions of a user");
    assert!(left.contains(&second.id), "the other session stays");
}

async fn entries_are_stored_and_locked_once(store: &dyn SessionStore) {
    let (first, second) = (name(), name());
    assert_eq!(store.put_entry(&first, "a", HOUR).await, Ok(()));
    assert_eq!(store.put_entry(&first, "b", HOUR).await, Ok(()), "a newer entry");
    let entries = store.entries(&[&second, &first]).await;
    assert_eq!(entries, Ok(vec![None, Some("b".to_owned())]));

    let locks = (0..16).map(|_| store.lock(&second, "c", HOUR));
    let locks = rocket::futures::future::join_all(locks).await;
    let locked = locks.iter().filter(|lock| **lock == Ok(true)).count();
    assert_eq!(locked, 1, "one of sixteen locks: {locks:?}");
    assert_eq!(store.lock(&first, "c", HOUR).await, Ok(false), "an entry is a lock");

    assert_eq!(store.unlock(&second, "another").await, Ok(()));
    assert_eq!(
        store.lock(&second, "d", HOUR).await,
        Ok(false),
        "a lock with another value"
    );
    assert_eq!(store.unlock(&second, "c").await, Ok(()));
    assert_eq!(store.lock(&second, "d", HOUR).await, Ok(true), "an unlocked lock");
}

async fn the_largest_number_stays(store: &dyn SessionStore) {
    let name = name();
    assert_eq!(store.put_entry_if_larger(&name, 9, HOUR).await, Ok(true));
    for smaller in [9, 8] {
        let result = store.put_entry_if_larger(&name, smaller, HOUR).await;
        assert_eq!(result, Ok(false), "a number that is not larger");
    }
    assert_eq!(store.put_entry_if_larger(&name, 10, HOUR).await, Ok(true));
    assert_eq!(store.entries(&[&name]).await, Ok(vec![Some("10".to_owned())]));

    let rivals = (11..27).map(|number| store.put_entry_if_larger(&name, number, HOUR));
    rocket::futures::future::join_all(rivals).await;
    let entries = store.entries(&[&name]).await;
    assert_eq!(entries, Ok(vec![Some("26".to_owned())]), "the largest of many");
}

/// The value and the remaining TTL of one entry.
async fn entry_with_ttl(store: &dyn SessionStore, name: &str) -> Option<(String, Duration)> {
    let entries = store.entries_with_ttl(&[name]).await;
    let entries = entries.expect("the remaining TTL");
    let [entry] = &entries[..] else {
        panic!("one entry for one name: {entries:?}");
    };
    entry.clone()
}

async fn entries_have_a_remaining_ttl(store: &dyn SessionStore) {
    let (first, second, third) = (name(), name(), name());
    assert_eq!(store.put_entry(&first, "a", HOUR).await, Ok(()));
    assert_eq!(store.put_end(&second, "b", 2 * HOUR).await, Ok(()));
    let entries = store.entries_with_ttl(&[&third, &second, &first]).await;
    let entries = entries.expect("entries with their TTLs");
    let values: Vec<_> = entries
        .iter()
        .map(|entry| entry.as_ref().map(|entry| &*entry.0))
        .collect();
    assert_eq!(values, [None, Some("b"), Some("a")]);
    let ttls = entries.iter().flatten().map(|(_, left)| *left);
    for (left, ttl) in ttls.zip([2 * HOUR, HOUR]) {
        let least = ttl - Duration::from_secs(10);
        assert!(least < left && left <= ttl, "the remaining TTL of {ttl:?}: {left:?}");
    }
    assert_eq!(store.entries_with_ttl(&[]).await, Ok(vec![]), "no name");
    let entries = store.entries(&[&second]).await;
    assert_eq!(entries, Ok(vec![Some("b".to_owned())]), "an end is an entry");

    // It replaces any existing entry, with its own TTL.
    assert_eq!(store.put_end(&second, "c", HOUR).await, Ok(()));
    let newer = entry_with_ttl(store, &second).await.expect("a newer end");
    assert_eq!(newer.0, "c", "a newer end");
    assert!(newer.1 <= HOUR, "the TTL of a newer end: {newer:?}");
    assert_eq!(store.lock(&second, "d", HOUR).await, Ok(false), "an end is a lock");
}

async fn an_end_replaces_only_the_known_one(store: &dyn SessionStore) {
    let name = name();
    let has_entry = async |expected: &str| {
        let entries = store.entries(&[&name]).await;
        assert_eq!(entries, Ok(vec![Some(expected.to_owned())]), "the entry");
    };
    let replaced = store.put_end_if_unchanged(&name, Some("gone"), "a", 2 * HOUR).await;
    assert_eq!(replaced, Ok(true), "without an end");
    has_entry("a").await;
    for known in [None, Some("gone"), Some("")] {
        let replaced = store.put_end_if_unchanged(&name, known, "b", HOUR).await;
        assert_eq!(replaced, Ok(false), "in place of an unknown end");
        has_entry("a").await;
    }
    let replaced = store.put_end_if_unchanged(&name, Some("a"), "b", HOUR).await;
    assert_eq!(replaced, Ok(true), "in place of the known end");
    let replacement = entry_with_ttl(store, &name).await.expect("a newer end");
    assert_eq!(replacement.0, "b", "in place of the known end");
    assert!(replacement.1 <= HOUR, "the TTL of a newer end: {replacement:?}");
    let lock = store.lock(&name, "c", HOUR).await;
    assert_eq!(lock, Ok(false), "an end is a lock");
    assert_eq!(store.put_end(&name, "c", HOUR).await, Ok(()));
    let replaced = store.put_end_if_unchanged(&name, Some("b"), "d", HOUR).await;
    assert_eq!(replaced, Ok(false), "in place of an unknown end");
    has_entry("c").await;

    let rivals: Vec<_> = (0..16).map(|i| format!("rival {i}")).collect();
    let results = rivals
        .iter()
        .map(|rival| store.put_end_if_unchanged(&name, Some("c"), rival, HOUR));
    let results = rocket::futures::future::join_all(results).await;
    let winners = results.iter().zip(&rivals);
    let winners: Vec<_> = winners.filter(|(result, _)| **result == Ok(true)).collect();
    let [(_, winner)] = &winners[..] else {
        panic!("one of sixteen ends in place of one: {results:?}");
    };
    has_entry(winner).await;

    // Entries of other methods count too, and so does an empty value.
    let (entry, lock, empty) = (self::name(), self::name(), self::name());
    assert_eq!(store.put_entry(&entry, "x", HOUR).await, Ok(()));
    assert_eq!(store.lock(&lock, "x", HOUR).await, Ok(true));
    assert_eq!(store.put_end(&empty, "", HOUR).await, Ok(()));
    for (name, existing) in [(&entry, "x"), (&lock, "x"), (&empty, "")] {
        let replaced = store.put_end_if_unchanged(name, None, "y", HOUR).await;
        assert_eq!(replaced, Ok(false), "in place of another entry");
        let replaced = store.put_end_if_unchanged(name, Some(existing), "y", HOUR).await;
        assert_eq!(replaced, Ok(true), "in place of the known entry");
        let entries = store.entries(&[name]).await;
        assert_eq!(entries, Ok(vec![Some("y".to_owned())]), "the entry");
    }
}

async fn expired_sessions_and_entries_are_gone(store: &dyn SessionStore) {
    let (short, index_key, entry) = (Duration::from_millis(50), name(), name());
    let brief = session(&[&index_key]);
    assert_eq!(store.create(&brief, short).await, Ok(()));
    assert_eq!(store.lock(&entry, "x", short).await, Ok(true));
    let (end, brief_end) = (name(), name());
    assert_eq!(store.put_end(&end, "e", HOUR).await, Ok(()));
    assert_eq!(store.put_end(&brief_end, "e", short).await, Ok(()));
    let (_, before) = entry_with_ttl(store, &end).await.expect("an end");
    rocket::tokio::time::sleep(Duration::from_millis(1_100)).await;
    let (_, after) = entry_with_ttl(store, &end).await.expect("an end");
    let passed = before.saturating_sub(after);
    assert!(
        (Duration::from_secs(1)..Duration::from_secs(10)).contains(&passed),
        "the elapsed TTL: {passed:?} in 1.1 s"
    );
    assert_eq!(entry_with_ttl(store, &brief_end).await, None, "an expired end");
    assert_eq!(loaded(store, &brief.id).await, Ok(None), "an expired session");
    assert_eq!(
        store.put_end_if_unchanged(&brief_end, None, "f", HOUR).await,
        Ok(true),
        "an end in place of one that expired"
    );
    assert_eq!(store.lock(&entry, "y", HOUR).await, Ok(true), "an expired lock");
}

#[cfg(test)]
mod tests;
