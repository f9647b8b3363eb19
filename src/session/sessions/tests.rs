//! Tests of concurrent requests, and of nodes without shared memory, on one session.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rocket::{http::Cookie, local::asynchronous::Client};
use serde_json::json;

use super::*;
use crate::{
    cookies::CookieChanges,
    keys::SecretKey,
    session::{EarlierEnds, EndCause, SessionChange, SessionTokens, refreshed_sessions::AFTER_SEEN, while_signing_in},
    settings::{CacheSize, KeptToken},
    token::{ClaimSources, Claims},
};

const ISSUER: &str = "https://op.example";

/// Cookies that are encrypted with the first key, and decrypted with any of these keys.
fn app_cookies(keys: &[u8]) -> Cookies {
    let mut keys = keys.iter().map(|byte| SecretKey::from_bytes(vec![*byte; 32]).unwrap());
    let first = keys.next().unwrap();
    let previous: Vec<_> = keys.collect();
    Cookies::new(KeyRing::new(&first, &previous, &[ISSUER, "app"]), false)
}

/// A node of the app with this shared store and these keys.
fn node_with(store: &Arc<MemoryStore>, is_in_cookies: bool, keys: &[u8]) -> Sessions {
    let store: Arc<dyn SessionStore> = store.clone();
    let settings = SessionSettings::default();
    let clock = Clock::default();
    Sessions {
        is_in_cookies,
        ..Sessions::open(settings, &app_cookies(keys), ISSUER, Some(store), &clock).unwrap()
    }
}

fn node(store: &Arc<MemoryStore>, is_in_cookies: bool) -> Sessions {
    node_with(store, is_in_cookies, &[7])
}

/// A node without a shared store.
fn single_node() -> Sessions {
    let settings = SessionSettings::default();
    Sessions::open(settings, &app_cookies(&[7]), ISSUER, None, &Clock::default()).unwrap()
}

fn store() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new(10))
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn alice(more: serde_json::Value) -> Claims {
    let mut claims = json!({ "iss": ISSUER, "sub": "alice" });
    let members = more.as_object().unwrap().clone();
    claims.as_object_mut().unwrap().extend(members);
    serde_json::from_value(claims).unwrap()
}

/// Tokens with this access token, and an ID token with these claims and `alice`'s.
fn tokens(access_token: &str, more: serde_json::Value) -> SessionTokens {
    SessionTokens {
        access_token: Some(Secret::new(access_token)),
        sources: ClaimSources::new(alice(more), None),
        ..SessionTokens::default()
    }
}

/// Begins a session now.
async fn begun_with(sessions: &Sessions, more: serde_json::Value) -> CurrentSession {
    let client = Client::untracked(rocket::build()).await.unwrap();
    let request = client.get("/");
    let tokens = tokens("old", more);
    let mut session = Session::new(ISSUER, tokens.sources.merged(), now());
    let read = sessions.read_ends(ISSUER, &session.claims, now()).await;
    session.earlier_ends = read.unwrap().ends;
    let jar = request.inner().cookies();
    let begun = sessions.begin(session, tokens, Some(jar), now(), &mut vec![]).await;
    begun.unwrap()
}

async fn begun(sessions: &Sessions) -> CurrentSession {
    begun_with(sessions, json!({})).await
}

/// Stores the result of a refresh. Returns generation, version and access token of the newest session.
async fn advanced(sessions: &Sessions, current: &CurrentSession, access_token: &str) -> Option<(u64, u64, String)> {
    let tokens = tokens(access_token, json!({}));
    let session = Session::clone(current);
    let next = sessions.advance(current, session, tokens, now()).await;
    next.unwrap().map(|next| facts(&next))
}

/// Generation, version and access token.
fn facts(session: &CurrentSession) -> (u64, u64, String) {
    let token = access_token(session);
    (session.generation, session.version, token)
}

/// The access token of a newer generation of this session that this node knows.
async fn elsewhere(sessions: &Sessions, current: &CurrentSession) -> Result<Option<String>, NoSession> {
    let newest = sessions.newest(current, now()).await?;
    Ok(newest.as_ref().map(access_token))
}

fn access_token(session: &CurrentSession) -> String {
    let tokens = session.tokens().unwrap();
    let token = tokens.access_token.as_ref().unwrap();
    token.expose().to_owned()
}

/// The cookies of a browser after a response with this session.
async fn sent(sessions: &Sessions, current: &CurrentSession) -> Vec<Cookie<'static>> {
    let client = Client::untracked(rocket::build()).await.unwrap();
    let request = client.get("/");
    let cookies = sessions.set_cookies(current, request.inner().cookies(), now());
    let changes = CookieChanges::default();
    changes.add(cookies);
    let cookies = changes.take().into_iter();
    cookies.map(|cookie| Cookie::parse(cookie).unwrap()).collect()
}

/// Finds the session of a request with these cookies.
async fn found(
    sessions: &Sessions,
    cookies: impl IntoIterator<Item = Cookie<'static>>,
) -> Result<CurrentSession, NoSession> {
    let client = Client::untracked(rocket::build()).await.unwrap();
    let request = client.get("/").cookies(cookies);
    let found = sessions.find(request.inner().cookies(), now(), &mut vec![]).await;
    found.map(|found| found.session)
}

#[rocket::async_test]
async fn a_refresh_survives_a_concurrent_touch() {
    let sessions = node(&store(), false);
    let current = begun(&sessions).await;
    let mut used = current.clone();
    used.version = 2;
    let stored = sessions.stored(&used, vec![]);
    let ttl = sessions.remaining(&used, now());
    assert_eq!(sessions.store.replace(&stored, ttl).await, Ok(true));
    assert_eq!(elsewhere(&sessions, &current).await, Ok(None));

    let next = advanced(&sessions, &current, "new").await;
    assert_eq!(next, Some((2, 3, "new".into())));
    let there = elsewhere(&sessions, &current).await;
    assert_eq!(there, Ok(Some("new".into())));
}

#[rocket::async_test]
async fn the_first_of_two_refreshes_counts() {
    for is_in_cookies in [false, true] {
        let sessions = node(&store(), is_in_cookies);
        let current = begun(&sessions).await;
        let version = if is_in_cookies { 0 } else { 2 };
        assert_eq!(
            advanced(&sessions, &current, "first").await,
            Some((2, version, "first".to_owned()))
        );
        if is_in_cookies {
            // A node runs one refresh at a time; between nodes, the lock ensures it.
            continue;
        }
        assert_eq!(
            advanced(&sessions, &current, "second").await,
            Some((2, version, "first".to_owned()))
        );
    }
}

#[rocket::async_test]
async fn a_refresh_does_not_bring_an_ended_session_back() {
    for is_in_cookies in [false, true] {
        let sessions = node(&store(), is_in_cookies);
        let current = begun(&sessions).await;
        let end = sessions.end(current.name(), Some(&current), EndCause::SignOut, now());
        let expected = SessionChange::ended(current.name(), &current, EndCause::SignOut);
        assert_eq!(end.await, Ok(Some(expected)));
        let there = elsewhere(&sessions, &current).await;
        assert_eq!(there, Err(NoSession::Ended));
        assert_eq!(advanced(&sessions, &current, "new").await, None);
    }
}

#[rocket::async_test]
async fn a_refreshed_session_in_cookies_is_there_for_the_other_nodes() {
    let store = store();
    let (one, other) = (node(&store, true), node(&store, true));
    let (alice, bob) = (begun(&one).await, begun(&one).await);
    assert_eq!(elsewhere(&other, &alice).await, Ok(None));

    let next = advanced(&one, &alice, "new").await;
    assert_eq!(next, Some((2, 0, "new".into())));
    let there = elsewhere(&other, &alice).await;
    assert_eq!(there, Ok(Some("new".into())));
    assert_eq!(elsewhere(&other, &bob).await, Ok(None));
}

/// A request with an older copy gets the newest record until the browser has sent the newest cookie.
#[rocket::async_test]
async fn an_older_copy_becomes_worthless() {
    let shared = store();
    for (one, other) in [
        (node(&shared, true), node(&shared, true)),
        (single_node(), single_node()),
    ] {
        let first = begun(&one).await;
        let older = sent(&one, &first).await;
        let tokens = tokens("new", json!({}));
        let next = one.advance(&first, Session::clone(&first), tokens, now());
        let next = next.await.unwrap().unwrap();
        let newer = sent(&one, &next).await;

        assert_eq!(access_token(&found(&one, older.clone()).await.unwrap()), "new");
        assert!(!one.may_be_written(&first, now()).await);
        assert!(one.may_be_written(&next, now()).await);
        // Another node without a shared store accepts it, until it has received the newer one.
        let elsewhere = access_token(&found(&other, older.clone()).await.unwrap());
        assert_eq!(elsewhere, if one.is_shared { "new" } else { "old" });

        assert!(found(&one, newer.clone()).await.is_ok());
        assert!(found(&other, newer).await.is_ok());
        let client = Client::untracked(rocket::build()).await.unwrap();
        let later = now() + AFTER_SEEN + Duration::from_secs(1);
        for node in [&one, &other] {
            let request = client.get("/").cookies(older.clone());
            let found = node.find(request.inner().cookies(), later, &mut vec![]).await;
            if node.is_shared {
                // The store uses the system clock.
                continue;
            }
            assert_eq!(found.map(drop), Err(NoSession::Superseded));
        }
    }
}

/// Whichever node received it, and however often.
#[rocket::async_test]
async fn an_older_copy_is_answered_for_a_minute_after_the_newest_was_shown() {
    let clock = Clock::fixed();
    let store = Arc::new(MemoryStore::new(10).clock(clock.clone()));
    let (one, other) = (node(&store, true), node(&store, true));
    let first = begun(&one).await;
    let older = sent(&one, &first).await;
    let tokens = tokens("new", json!({}));
    let next = one.advance(&first, Session::clone(&first), tokens, now());
    let newer = sent(&one, &next.await.unwrap().unwrap()).await;
    clock.advance(Duration::from_secs(600));
    let answered = async |node| found(node, older.clone()).await.map(drop);
    assert_eq!(answered(&other).await, Ok(()));
    assert!(found(&one, newer.clone()).await.is_ok());
    clock.advance(AFTER_SEEN - Duration::from_secs(1));
    assert!(found(&one, newer.clone()).await.is_ok());
    for node in [&one, &other] {
        assert_eq!(answered(node).await, Ok(()));
    }
    clock.advance(Duration::from_secs(1));
    for node in [&one, &other] {
        assert_eq!(answered(node).await, Err(NoSession::Superseded));
    }
}

/// A refresh counts as use.
#[rocket::async_test]
async fn a_session_is_seen_when_it_is_refreshed() {
    for is_in_cookies in [false, true] {
        let sessions = node(&store(), is_in_cookies);
        let current = begun(&sessions).await;
        let later = now() + Duration::from_secs(600);
        let next = sessions.advance(&current, Session::clone(&current), tokens("new", json!({})), later);
        let next = next.await.unwrap().unwrap();
        assert_eq!(next.seen(), later.unix_timestamp());
    }
}

#[rocket::async_test]
async fn a_session_under_a_newer_key_is_an_unknown_key() {
    for is_in_cookies in [true, false] {
        newer_key(is_in_cookies).await;
    }
}

async fn newer_key(is_in_cookies: bool) {
    let store = store();
    let (changed, behind) = (
        node_with(&store, is_in_cookies, &[2, 1]),
        node_with(&store, is_in_cookies, &[1]),
    );
    let first = begun(&behind).await;
    let older = sent(&behind, &first).await;
    let seen = found(&changed, older.clone()).await.unwrap();
    assert!(advanced(&changed, &seen, "new").await.is_some());
    assert_eq!(
        found(&behind, older.clone()).await.map(drop),
        Err(NoSession::UnknownKey)
    );
    let there = elsewhere(&behind, &first).await;
    assert_eq!(there, Err(NoSession::UnknownKey));
    let ready = node_with(&store, is_in_cookies, &[1, 2]);
    assert_eq!(access_token(&found(&ready, older).await.unwrap()), "new");
}

#[rocket::async_test]
async fn a_user_is_signed_out_under_each_key() {
    let store = store();
    for keys in [&[2, 1], &[1, 2]] {
        let node = node_with(&store, true, keys);
        let session = sent(&node, &begun(&node).await).await;
        let other = node_with(&store, true, &[keys[1], keys[0]]);
        let index_keys = other.names.subject(ISSUER, "alice");
        assert!(found(&node, session.clone()).await.is_ok());
        let ended = &mut vec![];
        let ending = other.end_matching(&index_keys, EndCause::App, now(), ended);
        ending.await.unwrap();
        assert_eq!(found(&node, session).await.map(drop), Err(NoSession::Ended));
    }
}

async fn end_all(sessions: &Sessions, index_keys: &[String]) {
    let mut ended = vec![];
    let ending = sessions.end_matching(index_keys, EndCause::App, now(), &mut ended);
    ending.await.unwrap();
}

/// Two nodes during key rotation: each has the other's key as its previous one.
#[rocket::async_test]
async fn an_end_ends_earlier_sessions_under_any_key() {
    let store = store();
    for is_in_cookies in [true, false] {
        let one = node_with(&store, is_in_cookies, &[2, 1]);
        let other = node_with(&store, is_in_cookies, &[1, 2]);
        for (ending, beginning) in [(&one, &other), (&other, &one)] {
            let before = sent(beginning, &begun(beginning).await).await;
            let index_keys = ending.names.subject(ISSUER, "alice");
            end_all(ending, &index_keys).await;
            let after = sent(beginning, &begun(beginning).await).await;
            for node in [&one, &other] {
                let found_before = found(node, before.clone()).await.map(drop);
                assert_eq!(found_before, Err(NoSession::Ended));
                assert!(found(node, after.clone()).await.is_ok());
            }
            // Records a newer end over the one that the session knows.
            end_all(beginning, &beginning.names.subject(ISSUER, "alice")).await;
            for node in [&one, &other] {
                let found_after = found(node, after.clone()).await.map(drop);
                assert_eq!(found_after, Err(NoSession::Ended));
            }
        }
    }
}

/// While the secret key is changed, an end of all others is known to nodes with either key.
#[rocket::async_test]
async fn an_end_of_others_is_recorded_under_each_key() {
    for is_in_cookies in [true, false] {
        let store = store();
        let (one, other) = (
            node_with(&store, is_in_cookies, &[1, 2]),
            node_with(&store, is_in_cookies, &[2, 1]),
        );
        let (kept, ended) = (begun(&one).await, begun(&other).await);
        let (kept_cookies, ended_cookies) = (sent(&one, &kept).await, sent(&other, &ended).await);
        let result = one.end_others(&kept, EndCause::App, now(), &mut vec![]).await;
        assert_eq!(result, Ok(true));
        for node in [&one, &other] {
            assert!(found(node, kept_cookies.clone()).await.is_ok());
            let found_ended = found(node, ended_cookies.clone()).await.map(drop);
            assert_eq!(found_ended, Err(NoSession::Ended));
        }
        // The session that has ended ends none, and its name is still that of its user.
        let result = other.end_others(&ended, EndCause::App, now(), &mut vec![]).await;
        assert_eq!(result, Ok(false));
        for node in [&one, &other] {
            assert!(found(node, kept_cookies.clone()).await.is_ok());
        }
        let end = other.end_of_user(kept.name(), &ended, EndCause::App, now()).await;
        assert!(end.unwrap().is_some());
        let found_kept = found(&one, kept_cookies).await.map(drop);
        assert_eq!(found_kept, Err(NoSession::Ended));
    }
}

/// Two sessions of a user end each other: at most one of them stays.
#[rocket::async_test]
async fn of_simultaneous_ends_of_others_at_most_one_session_stays() {
    for is_in_cookies in [true, false] {
        let store = store();
        let (one, other) = (node(&store, is_in_cookies), node(&store, is_in_cookies));
        let (first, second) = (begun(&one).await, begun(&other).await);
        let cookies = [sent(&one, &first).await, sent(&other, &second).await];
        let (mut by_first, mut by_second) = (vec![], vec![]);
        let ends = rocket::futures::future::join(
            one.end_others(&first, EndCause::App, now(), &mut by_first),
            other.end_others(&second, EndCause::App, now(), &mut by_second),
        );
        let (first, second) = ends.await;
        assert!(first.is_ok() && second.is_ok());
        let mut left = 0;
        for cookies in cookies {
            left += usize::from(found(&one, cookies).await.is_ok());
        }
        assert!(left <= 1, "{left}");
    }
}

/// Records of former generations do not pile up in the store.
#[rocket::async_test]
async fn a_superseded_record_expires_soon() {
    let store = store();
    let sessions = node(&store, true);
    let mut current = begun(&sessions).await;
    for i in 0..3 {
        let mut session = Session::clone(&current);
        session.set_data("n", json!(i));
        let tokens = SessionTokens::clone(current.tokens().unwrap());
        let next = sessions.advance_unused(&current, session, tokens, now()).await;
        let next = next.unwrap().unwrap();
        sessions.expire_superseded(&current).await;
        current = next;
    }
    let names: Vec<_> = (1..=4).map(|i| sessions.names.record(current.name(), i)).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let entries = store.entries_with_ttl(&names).await.unwrap();
    let is_short = |entry: &Option<(String, Duration)>| entry.as_ref().map(|(_, left)| *left <= AFTER_SEEN);
    let lives: Vec<_> = entries.iter().map(is_short).collect();
    assert_eq!(lives, [None, Some(true), Some(true), Some(false)]);
}

/// Between the first read of the ends and the creation of the session, for an end by `sub` or by `sid`.
#[rocket::async_test]
async fn an_end_during_a_sign_in_is_found_when_its_session_is_there() {
    for is_in_cookies in [true, false] {
        for i in 0..2 {
            let store = store();
            let sessions = node(&store, is_in_cookies);
            let tokens = tokens("new", json!({ "sid": "s-1" }));
            let mut session = Session::new(ISSUER, tokens.sources.merged(), now());
            let read = sessions.read_ends(ISSUER, &session.claims, now()).await;
            let read = read.unwrap();
            assert!(read.ends.is_empty());
            session.earlier_ends = read.ends;

            let index_keys = [
                sessions.names.subject(ISSUER, "alice"),
                sessions.names.sid(ISSUER, "s-1"),
            ];
            end_all(&sessions, &index_keys[i]).await;
            let name = sessions.names.session(&session.id);
            let mut made_room = vec![];
            let begun = sessions.begin(session, tokens, None, now(), &mut made_room).await;
            let Err(BeginError::Ended(ends)) = begun.map(drop) else {
                panic!("the session begins");
            };
            assert_eq!(store.load(&name).await, Ok(None));
            // The next sign-in reads the same ends.
            let again = sessions.read_ends(ISSUER, &alice(json!({ "sid": "s-1" })), now()).await;
            let again = again.unwrap();
            assert_eq!(again.ends, ends);
            let age = again.youngest_except(&EarlierEnds::default());
            assert!(age.is_some_and(|age| age < Duration::from_secs(60)));
        }
    }
}

/// An account that creates many other entries cannot make ended sessions valid again.
#[rocket::async_test]
async fn an_end_survives_a_full_store() {
    for is_signing_in in [false, true] {
        let store = Arc::new(MemoryStore::new(10).max_entries(50));
        let sessions = node(&store, true);
        let session = sent(&sessions, &begun(&sessions).await).await;
        let index_keys = sessions.names.subject(ISSUER, "alice");
        let ending = end_all(&sessions, &index_keys);
        if is_signing_in {
            drop(while_signing_in(EarlierEnds::default(), ending).await);
        } else {
            ending.await;
        }
        let hour = Duration::from_secs(3600);
        for i in 0..100 {
            let (entry, claim) = (format!("note {i}"), format!("claim {i}"));
            store.put_entry(&entry, "1", hour).await.unwrap();
            store.lock(&claim, "1", hour).await.unwrap();
        }
        store.evict_excess();
        assert_eq!(store.entries(&["note 0", "claim 0"]).await, Ok(vec![None; 2]));
        let found = found(&sessions, session).await.map(drop);
        assert_eq!(found, Err(NoSession::Ended));
    }
}

/// `session.absolute_timeout` was longer earlier, or is longer on another node.
#[rocket::async_test]
async fn an_end_is_recorded_for_the_longest_session() {
    let hours = |hours: u64| Duration::from_secs(3600 * hours);
    // Also with a newer key than the other node, or an older one.
    for (keys, keys_today) in [(&[7][..], &[7][..]), (&[7], &[2, 7]), (&[2, 7], &[7])] {
        let clock = Clock::fixed();
        let store = Arc::new(MemoryStore::new(10).clock(clock.clone()));
        let mut before = node_with(&store, true, keys);
        before.settings.absolute_timeout = hours(24);
        before.settings.idle_timeout = hours(24);
        let mut today = node_with(&store, true, keys_today);
        today.settings.absolute_timeout = hours(1);
        let one = sent(&before, &begun(&before).await).await;
        begun(&today).await;
        let index_keys = today.names.subject(ISSUER, "alice");
        end_all(&today, &index_keys).await;
        for passed in [hours(2), hours(21)] {
            clock.advance(passed);
            let found = found(&before, one.clone()).await.map(drop);
            assert_eq!(found, Err(NoSession::Ended));
        }
        // `MAX_CLOCK_SKEW` for the clock of the node that began it, and once more for the node that reads it.
        clock.advance(hours(1) + 2 * MAX_CLOCK_SKEW - Duration::from_secs(2));
        assert_eq!(found(&before, one.clone()).await.map(drop), Err(NoSession::Ended));
        clock.advance(Duration::from_secs(5));
        assert!(found(&before, one).await.is_ok(), "the entry is gone");
    }
}

#[test]
fn sessions_in_memory_are_limited_per_user_by_default() {
    let of = |kind, most, own: bool| {
        let settings = SessionSettings {
            store: kind,
            max_per_user: most,
            ..SessionSettings::default()
        };
        let own = own.then(|| store() as Arc<dyn SessionStore>);
        let sessions = Sessions::open(settings, &app_cookies(&[7]), ISSUER, own, &Clock::default());
        sessions.unwrap().max_per_user
    };
    assert_eq!(of(StoreKind::Memory, None, false), Some(100));
    assert_eq!(of(StoreKind::Memory, Some(2), false), Some(2));
    assert_eq!(of(StoreKind::Cookie, None, false), None);
    assert_eq!(of(StoreKind::Cookie, None, true), None);
}

#[rocket::async_test]
async fn a_session_that_begins_in_cookies_leaves_nothing_in_the_store() {
    let store = store();
    let sessions = node(&store, true);
    let current = begun(&sessions).await;
    let index_keys = sessions.names.subject(ISSUER, "alice");
    assert_eq!(sent(&sessions, &current).await.len(), 1);
    assert_eq!(store.ids_by_index_key(&index_keys[0]).await, Ok(vec![]));
}

#[rocket::async_test]
async fn a_session_that_begins_in_a_store_has_version_1() {
    let store = store();
    let sessions = node(&store, false);
    let current = begun(&sessions).await;
    let index_keys = sessions.names.subject(ISSUER, "alice");
    assert_eq!(sent(&sessions, &current).await.len(), 1);
    let ids = store.ids_by_index_key(&index_keys[0]).await.unwrap();
    let stored = store.load(&ids[0]).await.unwrap().unwrap();
    assert_eq!((ids.len(), stored.version), (1, 1));
}

#[rocket::async_test]
async fn a_session_in_a_store_keeps_its_index_keys() {
    let store = store();
    let sessions = node(&store, false);
    let mut current = begun(&sessions).await;
    let stored = async || {
        let stored = store.load(current.name()).await.unwrap().unwrap();
        (stored.version, stored.index_keys.clone())
    };
    let (_, index_keys) = stored().await;
    assert_eq!(index_keys.len(), 2);
    advanced(&sessions, &current, "new").await;
    assert_eq!(stored().await, (2, index_keys.clone()));

    current = sessions.load(current.name()).await.unwrap().unwrap();
    let later = now() + sessions.settings.idle_timeout / 2;
    assert!(sessions.touch(&mut current, later).await);
    let stored = store.load(current.name()).await.unwrap().unwrap();
    assert_eq!((stored.version, &stored.index_keys), (3, &index_keys));
}

/// One of several parallel requests records the use.
#[rocket::async_test]
async fn one_of_many_requests_records_the_use() {
    let sessions = node(&store(), true);
    let current = begun(&sessions).await;
    let tenth = sessions.settings.idle_timeout / 10;
    let touched = async |after: Duration| {
        let mut copy = current.clone();
        let is_touched = sessions.touch(&mut copy, now() + after).await;
        assert_eq!(copy.seen() > current.seen(), is_touched);
        is_touched
    };
    let second = Duration::from_secs(1);
    assert!(!touched(tenth - 2 * second).await);
    assert!(touched(tenth + second).await);
    for _ in 0..3 {
        assert!(!touched(tenth + 2 * second).await);
    }
    assert!(touched(2 * tenth + 2 * second).await);
}

/// The last use has a resolution of one second, and the start one of a millisecond.
#[rocket::async_test]
async fn a_session_is_not_seen_before_it_began() {
    let sessions = node(&store(), false);
    let current = begun(&sessions).await;
    let index_keys = sessions.names.subject(ISSUER, "alice");
    let listed = sessions.of(&index_keys, now()).await.unwrap().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].started, current.started());
    assert_eq!(listed[0].last_seen, current.started());
}

/// In whichever order the store returns them.
#[rocket::async_test]
async fn sessions_of_a_user_are_listed_from_the_oldest_on() {
    let sessions = node(&store(), false);
    let client = Client::untracked(rocket::build()).await.unwrap();
    let mut started = vec![];
    for ago in [20, 60, 40] {
        let at = now() - Duration::from_secs(ago);
        let tokens = tokens("old", json!({}));
        let session = Session::new(ISSUER, tokens.sources.merged(), at);
        let request = client.get("/");
        let jar = request.inner().cookies();
        let current = sessions
            .begin(session, tokens, Some(jar), now(), &mut vec![])
            .await
            .unwrap();
        started.push(current.started());
    }
    let index_keys = sessions.names.subject(ISSUER, "alice");
    let listed = sessions.of(&index_keys, now()).await.unwrap().unwrap();
    let listed: Vec<_> = listed.iter().map(|session| session.started).collect();
    assert_eq!(listed, [started[1], started[2], started[0]]);
}

#[rocket::async_test]
async fn a_session_in_cookies_ends_by_each_of_its_names() {
    for (sid, expected) in [(None, [true, true, false]), (Some("s"), [true; 3])] {
        for (i, is_ended) in expected.into_iter().enumerate() {
            let sessions = node(&store(), true);
            let more = sid.map_or(json!({}), |sid| json!({ "sid": sid }));
            let current = begun_with(&sessions, more).await;
            let names = [
                vec![current.name().to_owned()],
                sessions.names.subject(ISSUER, "alice"),
                sessions.names.sid(ISSUER, "s"),
            ];
            let cookies = sent(&sessions, &current).await;
            assert!(found(&sessions, cookies.clone()).await.is_ok());
            let ended = &mut vec![];
            let ending = sessions.end_matching(&names[i], EndCause::App, now(), ended);
            ending.await.unwrap();
            let found = found(&sessions, cookies).await;
            assert_eq!(found.is_err(), is_ended, "{sid:?} {i}");
        }
    }
}

#[rocket::async_test]
async fn sessions_are_listed_under_each_key() {
    let store = store();
    let before = node_with(&store, false, &[1]);
    let current = begun(&before).await;
    let today = node_with(&store, false, &[2, 1]);
    let index_keys = today.names.subject(ISSUER, "alice");
    let listed = today.of(&index_keys, now()).await.unwrap().unwrap();
    let ids: Vec<_> = listed.iter().map(|session| &*session.id).collect();
    assert_eq!(ids, [current.name()]);
}

/// The number of ends that a front-channel logout request reports.
async fn framed(sessions: &Sessions, at: OffsetDateTime) -> usize {
    let mut ended = vec![];
    let ending = sessions.end_sid_unsigned(ISSUER, "s", at, &mut ended);
    ending.await.unwrap();
    ended.len()
}

/// Under whichever key its index keys are, and after the entry of its sign-in has expired.
#[rocket::async_test]
async fn a_frame_ends_a_session_in_a_store_for_as_long_as_it_lives() {
    let store = store();
    let before = node_with(&store, false, &[1]);
    let current = begun_with(&before, json!({ "sid": "s" })).await;
    let today = node_with(&store, false, &[2, 1]).with_front_channel(true);
    let later = now() + Duration::from_secs(11 * 60);
    assert_eq!(framed(&today, later).await, 1);
    assert_eq!(store.load(current.name()).await, Ok(None));
    assert_eq!(framed(&today, later).await, 0);
}

/// During key rotation.
#[rocket::async_test]
async fn a_sid_of_sessions_in_cookies_is_known_under_each_key() {
    let store = store();
    let old = node_with(&store, true, &[1]).with_front_channel(true);
    let new = node_with(&store, true, &[2, 1]).with_front_channel(true);
    begun_with(&new, json!({ "sid": "s" })).await;
    assert_eq!(framed(&old, now()).await, 1);
    framed(&new, now()).await;
    assert_eq!(framed(&new, now()).await, 0);
    // A newer session counts, even if a node without the new key began it.
    let at = now() + Duration::from_secs(10);
    let newer = Session::new(ISSUER, alice(json!({ "sid": "s" })), at);
    old.record_known_sid(&newer, now()).await.unwrap();
    assert_eq!(framed(&new, now()).await, 1);
    assert_eq!(framed(&new, now()).await, 0);
}

#[rocket::async_test]
async fn an_end_of_a_session_in_cookies_is_reported_once() {
    let clock = Clock::fixed();
    let store = Arc::new(MemoryStore::new(10).clock(clock.clone()));
    let sessions = node(&store, true).with_front_channel(true);
    let current = begun_with(&sessions, json!({ "sid": "s" })).await;
    for expected in [1, 0] {
        let end = sessions.end(current.name(), None, EndCause::App, now());
        assert_eq!(end.await.unwrap().iter().len(), expected);
        assert_eq!(framed(&sessions, now()).await, expected);
        clock.advance(Duration::from_secs(3600));
    }
}

/// By `session.absolute_timeout` as configured at the sign-in or now, whichever ends earlier.
#[rocket::async_test]
async fn a_session_ends_at_the_earlier_of_two_lifetimes() {
    let hours = |hours: u64| Duration::from_secs(3600 * hours);
    for (then, today, expected) in [(12, 2, 2), (2, 12, 2), (12, 12, 12)] {
        let mut sessions = node(&store(), true);
        sessions.settings.idle_timeout = hours(24);
        sessions.settings.absolute_timeout = hours(then);
        let current = begun(&sessions).await;
        sessions.settings.absolute_timeout = hours(today);
        let at = |after| sessions.check_times(&current, current.started() + after);
        assert_eq!(at(hours(expected) - Duration::from_secs(2)), Ok(()));
        assert_eq!(at(hours(expected)), Err(NoSession::LifetimeEnded));
    }
}

#[test]
fn only_sessions_in_several_cookies_have_large_headers() {
    for (is_in_cookies, max_cookies, is_large) in [(true, 2, true), (true, 1, false), (false, 3, false)] {
        let mut sessions = node(&store(), is_in_cookies);
        sessions.settings.max_cookies = max_cookies;
        assert_eq!(sessions.describe_size().is_some(), is_large);
    }
}

#[test]
fn sessions_are_cached_if_the_setting_is_on() {
    for (cache, is_cached) in [(CacheSize::Flag(true), true), (CacheSize::Flag(false), false)] {
        let mut settings = SessionSettings::default();
        assert_eq!(settings.cache, CacheSize::Flag(true));
        settings.cache = cache;
        let cookies = app_cookies(&[7]);
        let sessions = Sessions::open(settings, &cookies, ISSUER, None, &Clock::default());
        let sessions = sessions.unwrap();
        let first = sessions.cache.in_store("text", || Some("name".into()));
        assert!(first.is_some());
        let again = sessions.cache.in_store("text", || None);
        assert_eq!(again.is_some(), is_cached);
    }
}

#[rocket::async_test]
async fn a_missing_and_an_unreadable_cookie_are_distinguished() {
    for is_in_cookies in [true, false] {
        let sessions = node(&store(), is_in_cookies);
        let name = sessions.cookies.first().name().to_owned();
        let of_another_kind = node(&store(), !is_in_cookies);
        let other = sent(&of_another_kind, &begun(&of_another_kind).await).await;
        let other = other[0].value().to_owned();
        for (value, expected) in [
            (None, NoSession::Absent),
            (Some(""), NoSession::Unreadable),
            (Some("."), NoSession::Unreadable),
            (Some(&*other), NoSession::Unreadable),
        ] {
            let cookie = value.map(|value| Cookie::new(name.clone(), value.to_owned()));
            let found = found(&sessions, cookie).await;
            assert_eq!(found.map(|_| ()), Err(expected));
        }
    }
}

/// An incompressible text.
fn random(length: usize) -> String {
    let mut text = String::new();
    while text.len() < length {
        text.push_str(Secret::random().expose());
    }
    text.truncate(length);
    text
}

/// Stale chunks of a larger session, or cookies of another site under the same domain.
#[rocket::async_test]
async fn chunks_behind_the_end_are_ignored() {
    let mut sessions = node(&store(), true);
    sessions.settings.max_cookies = 5;
    let name = sessions.cookies.first().name().to_owned();
    let mut lengths = vec![];
    for length in (0..12_000).step_by(300) {
        let claim = random(length);
        let current = begun_with(&sessions, json!({ "x": claim })).await;
        let mut cookies = sent(&sessions, &current).await;
        let count = cookies.len();
        lengths.push(count);
        for i in count.max(1)..5 {
            cookies.push(Cookie::new(format!("{name}_{i}"), "left-over."));
        }
        for _ in 0..2 {
            let found = found(&sessions, cookies.clone()).await.unwrap();
            assert_eq!(found.claims.get::<String>("x"), Some(claim.clone()));
            assert_eq!(access_token(&found), "old");
        }
        cookies.remove(count - 1);
        let found = found(&sessions, cookies).await;
        let expected = if count == 1 {
            NoSession::Absent
        } else {
            NoSession::Unreadable
        };
        assert_eq!(found.map(drop), Err(expected));
    }
    lengths.dedup();
    assert_eq!(lengths, [1, 2, 3, 4]);
}

#[rocket::async_test]
async fn a_refreshed_session_in_cookies_of_a_single_node_is_not_in_its_store() {
    let sessions = single_node();
    let current = begun(&sessions).await;
    advanced(&sessions, &current, "new").await;
    let record = sessions.names.record(current.name(), 2);
    let generation = sessions.names.generation(current.name());
    let entries = sessions.store.entries(&[&record, &generation]).await;
    assert_eq!(entries, Ok(vec![None, Some("2".into())]));
}

#[rocket::async_test]
async fn a_session_may_fill_its_cookies_to_the_last_character() {
    let mut sessions = node(&store(), true);
    for max in 1..=3 {
        sessions.settings.max_cookies = max;
        let fits = |length: usize| {
            let tokens = SessionTokens {
                access_token: Some(Secret::new("a".repeat(length))),
                ..SessionTokens::default()
            };
            let session = Session::new(ISSUER, Claims::default(), now());
            let record = sessions.record(session, &tokens, "".into(), 0);
            record.map(|current| sessions.cookie_text(&current).len() + 1)
        };
        let limit = max * crate::session::chunks::CHUNK_LEN;
        let longest = (0..limit).rev().find(|length| fits(*length).is_ok()).unwrap();
        // Base64 takes one or two characters per byte.
        let text = fits(longest).unwrap();
        assert!(text <= limit && text + 2 > limit, "{text} of {limit}");
        let error = fits(longest + 1).unwrap_err();
        assert!(error.size + 1 > limit, "{error:?}");
        assert_eq!(error.limit, limit);
        assert_eq!(error.largest[0], format!("the access token with {} bytes", longest + 1));
    }
}

#[rocket::async_test]
async fn a_session_keeps_the_claims_of_the_setting() {
    let mut sessions = node(&store(), true);
    sessions.settings.claims = Some(vec!["email".into()]);
    for with_id_token in [false, true] {
        let current = begun(&sessions).await;
        let more = json!({ "email": "e", "name": "n", "nonce": "once" });
        let mut tokens = tokens("new", more);
        let user_info = alice(json!({ "name": "n" }));
        tokens.sources = tokens.sources.with_user_info(user_info);
        if with_id_token {
            let payload = json!(tokens.sources.id_token).to_string();
            let payload = URL_SAFE_NO_PAD.encode(payload);
            tokens.id_token = Some(Secret::new(format!("e30.{payload}.AA")));
        }
        let mut session = Session::clone(&current);
        session.claims = tokens.sources.merged();
        let next = sessions.advance(&current, session, tokens, now());
        let next = next.await.unwrap().unwrap();
        let next = found(&sessions, sent(&sessions, &next).await).await.unwrap();
        let mut claims: Vec<_> = next.claims.iter().map(|(name, _)| name).collect();
        claims.sort_unstable();
        assert_eq!(claims, ["email", "iss", "sub"]);
        // The record lacks unused claims too, except in an ID token, which is kept in full.
        let sources = &next.tokens().unwrap().sources;
        let stated = |claims: &Claims| claims.value("name").is_some();
        assert_eq!(stated(&sources.id_token), with_id_token);
        assert_eq!(sources.user_info.as_ref().map(stated), Some(false));
        // A refreshed ID token may repeat the `nonce`.
        let nonce = next.tokens().unwrap().nonce.clone();
        assert_eq!(nonce, Some(Secret::new("once")));
    }
}

#[rocket::async_test]
async fn a_session_keeps_the_tokens_of_the_setting() {
    let mut sessions = node(&store(), true);
    for kept in [KeptToken::AccessToken, KeptToken::RefreshToken, KeptToken::IdToken] {
        sessions.settings.tokens = vec![kept];
        let current = begun(&sessions).await;
        let tokens = SessionTokens {
            access_token: Some(Secret::new("access")),
            refresh_token: Some(Secret::new("refresh")),
            id_token: Some(Secret::new("id")),
            ..SessionTokens::default()
        };
        let mut session = Session::clone(&current);
        session.refresh_due = Some(1);
        let next = sessions.advance(&current, session, tokens, now()).await;
        let next = next.unwrap().unwrap();
        let tokens = next.tokens().unwrap();
        for (name, token) in [
            (KeptToken::AccessToken, &tokens.access_token),
            (KeptToken::RefreshToken, &tokens.refresh_token),
            (KeptToken::IdToken, &tokens.id_token),
        ] {
            assert_eq!(token.is_some(), name == kept, "{name:?} of {kept:?}");
        }
        let due = (kept == KeptToken::RefreshToken).then_some(1);
        assert_eq!(next.refresh_due, due);
    }
}

#[rocket::async_test]
async fn a_refresh_whose_claims_do_not_fit_is_rejected() {
    let sessions = node(&store(), true);
    let current = begun(&sessions).await;
    let mut session = Session::clone(&current);
    let tokens = tokens("new", json!({ "big": random(12_000) }));
    session.claims = tokens.sources.merged();
    let next = sessions.advance(&current, session, tokens, now());
    let error = match next.await {
        Err(BeginError::TooLarge(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        error.largest[..2],
        ["claim `big` with 12002 bytes", "claim `iss` with 20 bytes"]
    );
    assert_eq!(
        error.remedy().split(',').next(),
        Some("keep fewer claims and tokens with `oidc.session.claims` and `oidc.session.tokens`")
    );
}

#[rocket::async_test]
async fn an_exported_session_is_imported_under_its_name_alone() {
    let sessions = node(&store(), true);
    let current = begun(&sessions).await;
    let text = sessions.export(&current, "name");
    let imported = sessions.import("name", &text).unwrap();
    assert_eq!(facts(&imported), facts(&current));
    assert_eq!(imported.name(), current.name());
    assert!(sessions.import("other", &text).is_none());
}

#[rocket::async_test]
async fn debug_shows_neither_keys_nor_sessions() {
    let sessions = node(&store(), false);
    for (shown, expected) in [
        (
            format!("{sessions:?}"),
            "Sessions { is_in_cookies: false, is_shared: true, .. }",
        ),
        (format!("{:?}", sessions.names), "Names(KeyRing(…))"),
        (format!("{:?}", store()), "MemoryStore { .. }"),
    ] {
        assert_eq!(shown, expected);
    }
}

/// The session with these cookies, at some time.
async fn found_at(sessions: &Sessions, cookies: &[Cookie<'static>], at: OffsetDateTime) -> Result<(), NoSession> {
    let client = Client::untracked(rocket::build()).await.unwrap();
    let request = client.get("/").cookies(cookies.to_vec());
    let found = sessions.find(request.inner().cookies(), at, &mut vec![]).await;
    found.map(drop)
}

/// The clock is set back between sign-in and sign-out, or a node's clock is slow.
#[rocket::async_test]
async fn a_session_in_cookies_ends_whatever_the_clock_says() {
    let sessions = node(&store(), true);
    let current = begun(&sessions).await;
    let cookies = sent(&sessions, &current).await;
    let earlier = current.started() - Duration::from_secs(600);
    let end = sessions.end(current.name(), None, EndCause::App, earlier);
    end.await.unwrap();
    assert_eq!(found_at(&sessions, &cookies, now()).await, Err(NoSession::Ended));
}

/// An older copy stays invalid until the end of the session.
#[rocket::async_test]
async fn a_generation_is_known_until_the_session_ends() {
    let mut sessions = single_node();
    sessions.settings.idle_timeout = sessions.settings.absolute_timeout + AFTER_SEEN;
    let clock = Clock::fixed();
    sessions.store = Arc::new(MemoryStore::new(10).clock(clock.clone()));
    let first = begun(&sessions).await;
    let older = sent(&sessions, &first).await;
    let tokens = tokens("new", json!({}));
    // `session.absolute_timeout` is shorter for a while.
    let lifetime = sessions.settings.absolute_timeout;
    sessions.settings.absolute_timeout = lifetime / 6;
    let advance = sessions.advance(&first, Session::clone(&first), tokens, clock.now());
    let next = advance.await.unwrap().unwrap();
    sessions.settings.absolute_timeout = lifetime;
    let newer = sent(&sessions, &next).await;
    let end = first.started() + sessions.settings.absolute_timeout;
    let last = end - Duration::from_millis(1);
    clock.advance((last - clock.now()).try_into().unwrap());
    assert_eq!(found_at(&sessions, &newer, last).await, Ok(()));
    sessions.refreshed_sessions = RefreshedSessions::new().into();
    assert_eq!(found_at(&sessions, &older, last).await, Err(NoSession::Superseded));
}

/// Each node receives the newest cookie for the first time at a different time.
#[rocket::async_test]
async fn another_node_that_sees_the_newest_cookie_later_keeps_no_record_for_longer() {
    let clock = Clock::fixed();
    let shared = Arc::new(MemoryStore::new(10).clock(clock.clone()));
    let (one, other) = (node(&shared, true), node(&shared, true));
    let first = begun(&one).await;
    let older = sent(&one, &first).await;
    let tokens = tokens("new", json!({}));
    let advance = one.advance(&first, Session::clone(&first), tokens, clock.now());
    let newer = sent(&one, &advance.await.unwrap().unwrap()).await;
    assert_eq!(found_at(&one, &newer, clock.now()).await, Ok(()));
    clock.advance(AFTER_SEEN - Duration::from_secs(1));
    assert_eq!(found_at(&other, &newer, clock.now()).await, Ok(()));
    assert_eq!(found_at(&other, &older, clock.now()).await, Ok(()));
    clock.advance(Duration::from_secs(2));
    for node in [&one, &other] {
        assert_eq!(found_at(node, &older, clock.now()).await, Err(NoSession::Superseded));
        assert_eq!(found_at(node, &newer, clock.now()).await, Ok(()));
    }
}

/// A store may return expired sessions: the times in the record decide.
#[rocket::async_test]
async fn an_expired_session_is_not_found_by_its_name() {
    let sessions = node(&store(), false);
    let current = begun(&sessions).await;
    let at = |after: Duration| sessions.by_name(current.name(), now() + after);
    assert!(at(Duration::ZERO).await.is_ok());
    let idle = at(sessions.settings.idle_timeout).await;
    assert_eq!(idle.map(drop), Err(NoSession::Idle));
    let over = at(sessions.settings.absolute_timeout).await;
    assert_eq!(over.map(drop), Err(NoSession::LifetimeEnded));
}

/// Settings at their extremes.
#[rocket::async_test]
async fn the_longest_durations_are_accepted() {
    for is_in_cookies in [true, false] {
        for ttl in [Duration::MAX, Duration::from_secs(u64::MAX / 1000)] {
            let mut sessions = node(&store(), is_in_cookies);
            (sessions.settings.idle_timeout, sessions.settings.absolute_timeout) = (ttl, ttl);
            let mut current = begun(&sessions).await;
            assert!(!sessions.touch(&mut current, now()).await);
            assert!(advanced(&sessions, &current, "new").await.is_some());
            let cookies = sent(&sessions, &current).await;
            assert_eq!(found_at(&sessions, &cookies, now()).await, Ok(()));
            let mut single = single_node();
            (single.settings.idle_timeout, single.settings.absolute_timeout) = (ttl, ttl);
            let current = begun(&single).await;
            assert!(advanced(&single, &current, "new").await.is_some());
            assert_eq!(found_at(&single, &sent(&single, &current).await, now()).await, Ok(()));
        }
    }
}

/// Otherwise a user with too many groups would look like one without.
#[rocket::async_test]
async fn a_groups_overage_is_kept_with_the_groups() {
    for (kept, expected) in [("groups", true), ("email", false)] {
        let mut sessions = single_node();
        sessions.settings.claims = Some(vec![kept.into()]);
        for overage in [
            json!({ "_claim_names": { "groups": "src1" }, "_claim_sources": { "src1": {} } }),
            json!({ "hasgroups": true }),
        ] {
            let sources = ClaimSources::new(alice(overage), None);
            let session = Session::new(ISSUER, sources.merged(), now());
            let tokens = SessionTokens {
                sources,
                ..SessionTokens::default()
            };
            let client = Client::untracked(rocket::build()).await.unwrap();
            let jar = client.get("/");
            let (jar, ended) = (jar.inner().cookies(), &mut vec![]);
            let begun = sessions.begin(session, tokens, Some(jar), now(), ended);
            let cookies = sent(&sessions, &begun.await.unwrap()).await;
            let found = found(&sessions, cookies).await.unwrap();
            assert_eq!(found.claims.groups_overage(), expected, "{found:?}");
            assert_eq!(found.claims.value("_claim_sources"), None);
        }
    }
}

/// `email_verified` must not apply to another address, whether that is kept or not.
#[rocket::async_test]
async fn a_verification_is_not_kept_without_its_address() {
    let mut sessions = single_node();
    sessions.settings.claims = Some(vec!["email_verified".into()]);
    let verified = alice(json!({ "email": "a@x", "email_verified": true }));
    let sources = ClaimSources::new(verified, Some(alice(json!({ "email": "b@x" }))));
    let session = Session::new(ISSUER, sources.merged(), now());
    assert_eq!(session.claims.value("email_verified"), None);
    let tokens = SessionTokens {
        sources,
        ..SessionTokens::default()
    };
    let client = Client::untracked(rocket::build()).await.unwrap();
    let jar = client.get("/");
    let (jar, ended) = (jar.inner().cookies(), &mut vec![]);
    let begun = sessions.begin(session, tokens, Some(jar), now(), ended);
    let cookies = sent(&sessions, &begun.await.unwrap()).await;
    let found = found(&sessions, cookies).await.unwrap();
    assert_eq!(found.claims.value("email_verified"), None, "{found:?}");
}

/// The next generation of a session, whose refreshed ID token sets its end to `ttl` seconds from now.
async fn moved(sessions: &Sessions, current: &CurrentSession, ttl: i64) -> CurrentSession {
    let mut session = Session::clone(current);
    session.end_by(Some((now().unix_timestamp() + ttl) as f64));
    let tokens = tokens("new", json!({}));
    let next = sessions.advance(current, session, tokens, now()).await;
    next.unwrap().unwrap()
}

/// A session that the provider ends in `ttl` seconds, unless a refresh changes that.
async fn begun_until(sessions: &Sessions, ttl: i64) -> CurrentSession {
    let tokens = tokens("old", json!({}));
    let mut session = Session::new(ISSUER, tokens.sources.merged(), now());
    session.end_by(Some((now().unix_timestamp() + ttl) as f64));
    let ended = &mut vec![];
    let begun = sessions.begin(session, tokens, None, now(), ended);
    begun.await.unwrap()
}

/// A node whose `session.absolute_timeout` is a day, while the provider sets an earlier end at sign-in.
#[rocket::async_test]
async fn an_end_is_recorded_for_sessions_that_refreshes_prolonged() {
    let hours = |hours: u64| Duration::from_secs(3600 * hours);
    let clock = Clock::fixed();
    let store = Arc::new(MemoryStore::new(10).clock(clock.clone()));
    let mut before = node(&store, true);
    before.settings.absolute_timeout = hours(24);
    before.settings.idle_timeout = hours(24);
    let mut today = node(&store, true);
    today.settings.absolute_timeout = hours(1);
    let first = begun_until(&before, 600).await;
    let next = sent(&before, &moved(&before, &first, 23 * 3600).await).await;
    end_all(&today, &today.names.subject(ISSUER, "alice")).await;
    clock.advance(hours(22));
    let found = found(&before, next).await.map(drop);
    assert_eq!(found, Err(NoSession::Ended));
}

/// The browser that signs out may have an older copy, while another has a newer one whose end a refresh postponed.
#[rocket::async_test]
async fn an_end_is_queued_for_the_lifetime_of_the_newest_copy() {
    let clock = Clock::fixed();
    let (settings, cookies) = (SessionSettings::default(), app_cookies(&[7]));
    let sessions = Sessions {
        is_in_cookies: true,
        ..Sessions::open(settings, &cookies, ISSUER, Some(store()), &clock).unwrap()
    };
    let sessions = Arc::new(sessions);
    let first = begun_until(&sessions, 600).await;
    let next = sent(&sessions, &moved(&sessions, &first, 6_000).await).await;

    let client = Client::untracked(rocket::build()).await.unwrap();
    let request = client.get("/");
    let (jar, name) = (request.inner().cookies(), Some(first.name()));
    let ended = sessions.end_in_browser(name, Some(&first), jar, true, now());
    assert!(!ended.await.is_recorded);
    clock.advance(Duration::from_secs(900));
    let found = found(&sessions, next).await.map(drop);
    assert_eq!(found, Err(NoSession::Ended));
}

/// The request is unsigned: an unknown `sid` writes no entry to the store.
#[rocket::async_test]
async fn an_unsigned_end_is_for_a_sid_that_a_session_has() {
    let store = store();
    let node = || node(&store, true).with_front_channel(true);
    let (one, other) = (node(), node());
    let current = begun_with(&one, json!({ "sid": "known" })).await;

    let end = async |sid| {
        let mut ended = vec![];
        let ending = other.end_sid_unsigned(ISSUER, sid, now(), &mut ended);
        ending.await.unwrap();
        ended
    };
    assert_eq!(end("made-up").await, []);
    let names = other.names.sid(ISSUER, "made-up");
    assert_eq!(store.entries(&[&names[0]]).await, Ok(vec![None]));
    assert_eq!(elsewhere(&other, &current).await, Ok(None));

    let cause = EndCause::FrontchannelLogout;
    let expected = SessionChange::ended_all(crate::session::only_provider(), ISSUER, None, Some("known"), cause);
    assert_eq!(end("known").await, [expected]);
    // A session may have begun since on a node with a slow clock: it ends too, and nothing is reported twice.
    assert_eq!(end("known").await, []);
    let there = elsewhere(&one, &current).await;
    assert_eq!(there, Err(NoSession::Ended));
}

/// Whichever of two nodes receives the request, and in later requests.
#[rocket::async_test]
async fn an_end_by_the_times_is_noticed_once() {
    for is_in_cookies in [false, true] {
        let store = store();
        let (one, other) = (node(&store, is_in_cookies), node(&store, is_in_cookies));
        let current = begun(&one).await;
        let cookies = sent(&one, &current).await;
        let late = now() + time::Duration::hours(2);
        let notice = async |node: &Sessions, at| {
            let client = Client::untracked(rocket::build()).await.unwrap();
            let request = client.get("/").cookies(cookies.to_vec());
            let mut ended = vec![];
            let found = node.find(request.inner().cookies(), at, &mut ended).await;
            (found.map(drop), ended)
        };
        let cause = EndCause::Over(NoSession::Idle);
        let expected = SessionChange::ended(current.name(), &current, cause);
        let idle = Err(NoSession::Idle);
        assert_eq!(notice(&other, late).await, (idle, vec![expected]));
        for node in [&one, &other] {
            assert_eq!(notice(node, late).await, (idle, vec![]));
        }
    }
}

/// No browser keeps a cookie for this long.
#[rocket::async_test]
async fn a_copy_of_an_old_cookie_is_no_end() {
    let sessions = single_node();
    let current = begun(&sessions).await;
    let cookies = sent(&sessions, &current).await;
    let client = Client::untracked(rocket::build()).await.unwrap();
    let request = client.get("/").cookies(cookies.to_vec());
    let (jar, mut ended) = (request.inner().cookies(), vec![]);
    let late = now() + time::Duration::days(30);
    let found = sessions.find(jar, late, &mut ended).await.map(drop);
    assert_eq!((found, ended), (Err(NoSession::LifetimeEnded), vec![]));
}

/// The store keeps it for sign-out only.
#[rocket::async_test]
async fn an_expired_session_is_rejected() {
    let sessions = node(&store(), false);
    let current = begun(&sessions).await;
    let index_keys = sessions.names.subject(ISSUER, "alice");
    let (soon, late) = (now(), now() + time::Duration::hours(2));
    let count = async |at| sessions.of(&index_keys, at).await.unwrap().unwrap().len();
    assert_eq!((count(soon).await, count(late).await), (1, 0));
    let found = async |at| sessions.by_name(current.name(), at).await.map(drop);
    assert_eq!(found(soon).await, Ok(()));
    assert_eq!(found(late).await, Err(NoSession::Idle));
    let cookies = sent(&sessions, &current).await;
    assert!(found_with(&sessions, cookies, late).await.is_ok());
    let end = sessions.end(current.name(), Some(&current), EndCause::SignOut, late);
    assert_eq!(end.await, Ok(None));
    assert_eq!(found(soon).await, Err(NoSession::Ended));
}

/// Finds the session to sign out in a request with these cookies.
async fn found_with(
    sessions: &Sessions,
    cookies: Vec<Cookie<'static>>,
    now: OffsetDateTime,
) -> Result<CurrentSession, NoSession> {
    let client = Client::untracked(rocket::build()).await.unwrap();
    let request = client.get("/").cookies(cookies);
    let jar = request.inner().cookies();
    sessions.find_ending(jar, now).await
}
