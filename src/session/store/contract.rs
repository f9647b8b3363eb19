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
    sessions_are_found_by_their_owners(store).await;
    notes_are_kept_and_claimed_once(store).await;
    the_largest_number_stays(store).await;
    notes_say_how_long_they_live(store).await;
    an_end_replaces_the_known_one_alone(store).await;
    what_is_over_is_gone(store).await;
}

fn name() -> String {
    Secret::random().expose().to_owned()
}

fn session(index_keys: &[&str]) -> StoredSession {
    StoredSession {
        id: name(),
        version: 1,
        value: "c2VhbGVk/+==".repeat(500),
        index_keys: index_keys.iter().map(|&owner| owner.to_owned()).collect(),
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
    assert_eq!(loaded(store, &first.id).await, Ok(None), "an id nobody has");
    assert_eq!(store.create(&first, HOUR).await, Ok(()));
    assert_eq!(loaded(store, &first.id).await, Ok(Some(first.clone())));

    let second = next(&first, "second");
    assert_eq!(store.replace(&second, HOUR).await, Ok(true));
    assert_eq!(loaded(store, &first.id).await, Ok(Some(second.clone())));
    for stale in [next(&first, "stale"), next(&next(&second, "x"), "early")] {
        let answer = store.replace(&stale, HOUR).await;
        assert_eq!(answer, Ok(false), "a replacement of another version");
    }
    assert_eq!(loaded(store, &first.id).await, Ok(Some(second)));
}

async fn one_of_many_replacements_wins(store: &dyn SessionStore) {
    let first = session(&[]);
    assert_eq!(store.create(&first, HOUR).await, Ok(()));
    let rivals: Vec<_> = (0..16).map(|i| next(&first, &i.to_string())).collect();
    let answers = rivals.iter().map(|rival| store.replace(rival, HOUR));
    let answers = rocket::futures::future::join_all(answers).await;
    let winners: Vec<_> = answers
        .iter()
        .enumerate()
        .filter(|(_, answer)| **answer == Ok(true))
        .map(|(i, _)| i)
        .collect();
    assert_eq!(winners.len(), 1, "one of sixteen replacements: {answers:?}");
    let winner = rivals[winners[0]].clone();
    assert_eq!(loaded(store, &first.id).await, Ok(Some(winner)));
}

async fn a_removed_session_does_not_come_back(store: &dyn SessionStore) {
    let owner = name();
    let first = session(&[&owner]);
    assert_eq!(store.create(&first, HOUR).await, Ok(()));
    assert_eq!(store.remove(&first.id).await, Ok(true));
    assert_eq!(store.remove(&first.id).await, Ok(false), "a second removal");
    let late = store.replace(&next(&first, "late"), HOUR).await;
    assert_eq!(late, Ok(false), "a replacement after the removal");
    assert_eq!(loaded(store, &first.id).await, Ok(None));
}

async fn sessions_are_found_by_their_owners(store: &dyn SessionStore) {
    let (person, one, two) = (name(), name(), name());
    let (first, second) = (session(&[&person, &one]), session(&[&person, &two]));
    for session in [&first, &second] {
        assert_eq!(store.create(session, HOUR).await, Ok(()));
    }
    let replaced = store.replace(&next(&first, "replaced"), HOUR).await;
    assert_eq!(replaced, Ok(true));

    let mut expected = vec![first.id.clone(), second.id.clone()];
    expected.sort_unstable();
    let mut found = store.ids_by_index_key(&person).await.expect("the person's sessions");
    found.sort_unstable();
    assert_eq!(found, expected, "the sessions of one person");
    assert_eq!(store.ids_by_index_key(&one).await, Ok(vec![first.id.clone()]));
    assert_eq!(store.ids_by_index_key(&name()).await, Ok(vec![]), "nobody's sessions");

    assert_eq!(store.remove(&first.id).await, Ok(true));
    for id in store.ids_by_index_key(&one).await.expect("the sessions of one") {
        assert_eq!(loaded(store, &id).await, Ok(None), "what is gone may be named");
    }
    let left = store.ids_by_index_key(&person).await.expect("the person's sessions");
    assert!(left.contains(&second.id), "the other session stays");
}

async fn notes_are_kept_and_claimed_once(store: &dyn SessionStore) {
    let (first, second) = (name(), name());
    assert_eq!(store.put_entry(&first, "a", HOUR).await, Ok(()));
    assert_eq!(store.put_entry(&first, "b", HOUR).await, Ok(()), "a newer note");
    let notes = store.entries(&[&second, &first]).await;
    assert_eq!(notes, Ok(vec![None, Some("b".to_owned())]));

    let claims = (0..16).map(|_| store.lock(&second, "c", HOUR));
    let claims = rocket::futures::future::join_all(claims).await;
    let claimed = claims.iter().filter(|claim| **claim == Ok(true)).count();
    assert_eq!(claimed, 1, "one of sixteen claims: {claims:?}");
    assert_eq!(store.lock(&first, "c", HOUR).await, Ok(false), "a note is a claim");

    assert_eq!(store.unlock(&second, "another").await, Ok(()));
    assert_eq!(store.lock(&second, "d", HOUR).await, Ok(false), "not forgotten");
    assert_eq!(store.unlock(&second, "c").await, Ok(()));
    assert_eq!(store.lock(&second, "d", HOUR).await, Ok(true), "forgotten");
}

async fn the_largest_number_stays(store: &dyn SessionStore) {
    let name = name();
    assert_eq!(store.put_entry_if_larger(&name, 9, HOUR).await, Ok(true));
    for smaller in [9, 8] {
        let answer = store.put_entry_if_larger(&name, smaller, HOUR).await;
        assert_eq!(answer, Ok(false), "a number that is not larger");
    }
    assert_eq!(store.put_entry_if_larger(&name, 10, HOUR).await, Ok(true));
    assert_eq!(store.entries(&[&name]).await, Ok(vec![Some("10".to_owned())]));

    let rivals = (11..27).map(|number| store.put_entry_if_larger(&name, number, HOUR));
    rocket::futures::future::join_all(rivals).await;
    let notes = store.entries(&[&name]).await;
    assert_eq!(notes, Ok(vec![Some("26".to_owned())]), "the largest of many");
}

/// The value and the remaining TTL of one entry.
async fn life_of(store: &dyn SessionStore, name: &str) -> Option<(String, Duration)> {
    let notes = store.entries_with_ttl(&[name]).await;
    let notes = notes.expect("the rest of a life");
    let [note] = &notes[..] else {
        panic!("one note for one name: {notes:?}");
    };
    note.clone()
}

async fn notes_say_how_long_they_live(store: &dyn SessionStore) {
    let (first, second, third) = (name(), name(), name());
    assert_eq!(store.put_entry(&first, "a", HOUR).await, Ok(()));
    assert_eq!(store.put_end(&second, "b", 2 * HOUR).await, Ok(()));
    let notes = store.entries_with_ttl(&[&third, &second, &first]).await;
    let notes = notes.expect("notes with their lives");
    let values: Vec<_> = notes.iter().map(|note| note.as_ref().map(|note| &*note.0)).collect();
    assert_eq!(values, [None, Some("b"), Some("a")]);
    let lives = notes.iter().flatten().map(|(_, left)| *left);
    for (left, life) in lives.zip([2 * HOUR, HOUR]) {
        let least = life - Duration::from_secs(10);
        assert!(least < left && left <= life, "the rest of a life of {life:?}: {left:?}");
    }
    assert_eq!(store.entries_with_ttl(&[]).await, Ok(vec![]), "no name");
    let notes = store.entries(&[&second]).await;
    assert_eq!(notes, Ok(vec![Some("b".to_owned())]), "an end is a note");

    // It replaces any existing entry, with its own TTL.
    assert_eq!(store.put_end(&second, "c", HOUR).await, Ok(()));
    let newer = life_of(store, &second).await.expect("a newer end");
    assert_eq!(newer.0, "c", "a newer end");
    assert!(newer.1 <= HOUR, "the life of a newer end: {newer:?}");
    assert_eq!(store.lock(&second, "d", HOUR).await, Ok(false), "an end is a claim");
}

async fn an_end_replaces_the_known_one_alone(store: &dyn SessionStore) {
    let name = name();
    let noted = async |expected: &str| {
        let notes = store.entries(&[&name]).await;
        assert_eq!(notes, Ok(vec![Some(expected.to_owned())]), "what is noted");
    };
    let replaced = store.put_end_if_unchanged(&name, Some("gone"), "a", 2 * HOUR).await;
    assert_eq!(replaced, Ok(true), "where there is no end");
    noted("a").await;
    for known in [None, Some("gone"), Some("")] {
        let replaced = store.put_end_if_unchanged(&name, known, "b", HOUR).await;
        assert_eq!(replaced, Ok(false), "in place of an end that is not known");
        noted("a").await;
    }
    let replaced = store.put_end_if_unchanged(&name, Some("a"), "b", HOUR).await;
    assert_eq!(replaced, Ok(true), "in place of the known end");
    let replacement = life_of(store, &name).await.expect("a newer end");
    assert_eq!(replacement.0, "b", "in place of the known end");
    assert!(replacement.1 <= HOUR, "the life of a newer end: {replacement:?}");
    let claim = store.lock(&name, "c", HOUR).await;
    assert_eq!(claim, Ok(false), "an end is a claim");
    assert_eq!(store.put_end(&name, "c", HOUR).await, Ok(()));
    let replaced = store.put_end_if_unchanged(&name, Some("b"), "d", HOUR).await;
    assert_eq!(replaced, Ok(false), "in place of an end that is not known");
    noted("c").await;

    let rivals: Vec<_> = (0..16).map(|i| format!("rival {i}")).collect();
    let answers = rivals
        .iter()
        .map(|rival| store.put_end_if_unchanged(&name, Some("c"), rival, HOUR));
    let answers = rocket::futures::future::join_all(answers).await;
    let winners = answers.iter().zip(&rivals);
    let winners: Vec<_> = winners.filter(|(answer, _)| **answer == Ok(true)).collect();
    let [(_, winner)] = &winners[..] else {
        panic!("one of sixteen ends in place of one: {answers:?}");
    };
    noted(winner).await;

    // Entries of other methods count too, and so does an empty value.
    let (note, claim, empty) = (self::name(), self::name(), self::name());
    assert_eq!(store.put_entry(&note, "x", HOUR).await, Ok(()));
    assert_eq!(store.lock(&claim, "x", HOUR).await, Ok(true));
    assert_eq!(store.put_end(&empty, "", HOUR).await, Ok(()));
    for (name, there) in [(&note, "x"), (&claim, "x"), (&empty, "")] {
        let replaced = store.put_end_if_unchanged(name, None, "y", HOUR).await;
        assert_eq!(replaced, Ok(false), "where another note is");
        let replaced = store.put_end_if_unchanged(name, Some(there), "y", HOUR).await;
        assert_eq!(replaced, Ok(true), "in place of the known note");
        let notes = store.entries(&[name]).await;
        assert_eq!(notes, Ok(vec![Some("y".to_owned())]), "what is noted");
    }
}

async fn what_is_over_is_gone(store: &dyn SessionStore) {
    let (short, owner, note) = (Duration::from_millis(50), name(), name());
    let brief = session(&[&owner]);
    assert_eq!(store.create(&brief, short).await, Ok(()));
    assert_eq!(store.lock(&note, "x", short).await, Ok(true));
    let (end, brief_end) = (name(), name());
    assert_eq!(store.put_end(&end, "e", HOUR).await, Ok(()));
    assert_eq!(store.put_end(&brief_end, "e", short).await, Ok(()));
    let (_, before) = life_of(store, &end).await.expect("an end");
    rocket::tokio::time::sleep(Duration::from_millis(1_100)).await;
    let (_, after) = life_of(store, &end).await.expect("an end");
    let passed = before.saturating_sub(after);
    assert!(
        (Duration::from_secs(1)..Duration::from_secs(10)).contains(&passed),
        "a life that passes: {passed:?} in 1.1 s"
    );
    assert_eq!(life_of(store, &brief_end).await, None, "an end that is over");
    assert_eq!(loaded(store, &brief.id).await, Ok(None), "a life that is over");
    assert_eq!(
        store.put_end_if_unchanged(&brief_end, None, "f", HOUR).await,
        Ok(true),
        "an end in place of one that expired"
    );
    assert_eq!(store.lock(&note, "y", HOUR).await, Ok(true), "a claim that is over");
}

#[cfg(test)]
mod tests;
