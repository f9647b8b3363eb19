//! What requests and nodes that know nothing of each other do to one session.

use rocket::{http::Cookie, local::asynchronous::Client};

use super::*;
use crate::{session::cookie::CookieChanges, settings::CacheSize, token::Claims};

/// A node of the app, with this store.
fn node(store: &Arc<MemoryStore>, is_in_cookies: bool) -> Sessions {
    let seal = CookieSeal::new(::cookie::Key::from(&[7; 64]), false);
    let store: Arc<dyn SessionStore> = store.clone();
    let settings = SessionSettings::default();
    Sessions {
        is_in_cookies,
        ..Sessions::open(settings, seal, Some(store), &Clock::default()).unwrap()
    }
}

fn store() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new(10))
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// Tokens that were refreshed so many times, and the last time by this request.
fn tokens(generation: u32, access_token: &str) -> SessionTokens {
    SessionTokens {
        access_token: Some(Secret::new(access_token)),
        generation,
        ..SessionTokens::default()
    }
}

/// A session that was never refreshed, in the store unless it is in cookies.
async fn begun(sessions: &Sessions) -> CurrentSession {
    let mut claims = Claims::default();
    claims.insert("sub", "alice");
    let session = Session::new("https://op.example", claims, now());
    let names = sessions.names_of(&session);
    let current = CurrentSession::new(
        Arc::new(session),
        names.session.clone(),
        u64::from(!sessions.is_in_cookies),
        Some(Arc::new(tokens(0, "old"))),
    );
    if !sessions.is_in_cookies {
        let stored = sessions.stored(&current, names.into_owners());
        let life = sessions.remaining(&current, now());
        sessions.store.create(&stored, life).await.unwrap();
    }
    current
}

/// Writes the result of a refresh, and answers with the version and the access token that count then.
async fn refreshed(
    sessions: &Sessions,
    current: &CurrentSession,
    tokens: SessionTokens,
) -> Option<(u64, String)> {
    let session = Session::clone(current);
    let next = sessions.replace(current, session, tokens, now()).await;
    next.unwrap()
        .map(|next| (next.version, access_token(&next)))
}

/// The access token that another node has from a refresh of this session.
async fn elsewhere(sessions: &Sessions, current: &CurrentSession) -> Option<String> {
    match sessions.refreshed_elsewhere(current).await.unwrap() {
        Elsewhere::Refreshed(other) => Some(access_token(&other)),
        Elsewhere::NotYet => None,
        Elsewhere::Ended => panic!("the session has not ended"),
    }
}

fn access_token(session: &CurrentSession) -> String {
    let tokens = session.tokens().unwrap();
    let token = tokens.access_token.as_ref().unwrap();
    token.expose().to_owned()
}

#[rocket::async_test]
async fn a_refresh_outlasts_what_else_changed_the_session() {
    let sessions = node(&store(), false);
    let current = begun(&sessions).await;
    let mut used = current.clone();
    used.version = 2;
    let stored = sessions.stored(&used, vec![]);
    let life = sessions.remaining(&used, now());
    assert_eq!(sessions.store.replace(&stored, life).await, Ok(true));
    assert_eq!(elsewhere(&sessions, &current).await, None);

    let next = refreshed(&sessions, &current, tokens(1, "new")).await;
    assert_eq!(next, Some((3, "new".into())));
    let there = elsewhere(&sessions, &current).await;
    assert_eq!(there.as_deref(), Some("new"));
}

#[rocket::async_test]
async fn the_first_of_two_refreshes_counts() {
    let sessions = node(&store(), false);
    let current = begun(&sessions).await;
    let first = Some((2, "first".to_owned()));
    for name in ["first", "second"] {
        let next = refreshed(&sessions, &current, tokens(1, name)).await;
        assert_eq!(next, first, "{name}");
    }
}

#[rocket::async_test]
async fn a_refresh_does_not_bring_an_ended_session_back() {
    let sessions = node(&store(), false);
    let current = begun(&sessions).await;
    assert_eq!(sessions.store.remove(current.name()).await, Ok(true));
    assert!(matches!(
        sessions.refreshed_elsewhere(&current).await,
        Ok(Elsewhere::Ended)
    ));
    let next = refreshed(&sessions, &current, tokens(1, "new")).await;
    assert_eq!(next, None);
}

#[rocket::async_test]
async fn a_refreshed_session_in_cookies_is_there_for_the_other_nodes() {
    let store = store();
    let (one, other) = (node(&store, true), node(&store, true));
    let (alice, bob) = (begun(&one).await, begun(&one).await);
    assert_eq!(elsewhere(&other, &alice).await, None);

    let next = refreshed(&one, &alice, tokens(1, "new")).await;
    assert_eq!(next, Some((0, "new".into())));
    let there = elsewhere(&other, &alice).await;
    assert_eq!(there.as_deref(), Some("new"));
    // Not for another session, and not in place of a later refresh.
    assert_eq!(elsewhere(&other, &bob).await, None);
    let newer = Some(Arc::new(tokens(1, "new")));
    let later = CurrentSession::new(alice.session.clone(), alice.name.clone(), 0, newer);
    assert_eq!(elsewhere(&other, &later).await, None);
}

#[rocket::async_test]
async fn a_session_that_begins_in_cookies_leaves_nothing_in_the_store() {
    let store = store();
    let sessions = node(&store, true);
    let client = Client::untracked(rocket::build()).await.unwrap();
    let request = client.get("/");
    let session = Session::clone(&begun(&sessions).await.session);
    let owner = sessions.names.subject(&session.issuer, "alice");
    let jar = request.inner().cookies();
    let current = sessions.begin(session, tokens(0, "new"), jar, now()).await;
    let cookies = sessions.cookies(&current.unwrap(), jar, now()).unwrap();
    assert_eq!(cookies.len(), 2);
    assert_eq!(store.ids_of(&owner).await, Ok(vec![]));
}

#[rocket::async_test]
async fn a_session_that_begins_in_a_store_has_version_1() {
    let store = store();
    let sessions = node(&store, false);
    let client = Client::untracked(rocket::build()).await.unwrap();
    let request = client.get("/");
    let mut claims = Claims::default();
    claims.insert("sub", "alice");
    let session = Session::new("https://op.example", claims, now());
    let owner = sessions.names.subject(&session.issuer, "alice");
    let jar = request.inner().cookies();
    let current = sessions.begin(session, tokens(0, "new"), jar, now()).await;
    let cookies = sessions.cookies(&current.unwrap(), jar, now()).unwrap();
    assert_eq!(cookies.len(), 1);
    let ids = store.ids_of(&owner).await.unwrap();
    let stored = store.load(&ids[0]).await.unwrap().unwrap();
    assert_eq!((ids.len(), stored.version), (1, 1));
}

#[rocket::async_test]
async fn a_session_in_a_store_keeps_its_owners() {
    let store = store();
    let sessions = node(&store, false);
    let mut current = begun(&sessions).await;
    let stored = async || {
        let stored = store.load(current.name()).await.unwrap().unwrap();
        (stored.version, stored.owners.clone())
    };
    let (_, owners) = stored().await;
    assert_eq!(owners.len(), 1);
    refreshed(&sessions, &current, tokens(1, "new")).await;
    assert_eq!(stored().await, (2, owners.clone()));

    current = sessions.load(current.name()).await.unwrap().unwrap();
    let client = Client::untracked(rocket::build()).await.unwrap();
    let request = client.get("/");
    let later = now() + sessions.settings.idle / 2;
    let jar = request.inner().cookies();
    assert!(sessions.touch(&mut current, jar, later).await.is_some());
    let stored = store.load(current.name()).await.unwrap().unwrap();
    assert_eq!((stored.version, &stored.owners), (3, &owners));
}

/// It is known by the second when a session was seen, and by the millisecond when it began.
#[rocket::async_test]
async fn a_session_is_not_seen_before_it_began() {
    let sessions = node(&store(), false);
    let current = begun(&sessions).await;
    let owner = sessions.names.subject("https://op.example", "alice");
    let listed = sessions.of(&owner, now()).await.unwrap().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].started, current.started());
    assert_eq!(listed[0].seen, current.started());
}

#[rocket::async_test]
async fn a_session_in_cookies_ends_by_each_of_its_names() {
    let issuer = "https://op.example";
    for (sid, expected) in [(None, [true, true, false]), (Some("s"), [true; 3])] {
        for (i, is_ended) in expected.into_iter().enumerate() {
            let sessions = node(&store(), true);
            let mut claims = Claims::default();
            claims.insert("sub", "alice");
            if let Some(sid) = sid {
                claims.insert("sid", sid);
            }
            let session = Session::new(issuer, claims, now());
            let names = &sessions.names;
            let names = [
                names.session(&session.id),
                names.subject(issuer, "alice"),
                names.sid(issuer, "s"),
            ];
            let opened = sessions.opened(session, None).unwrap();
            assert_eq!(sessions.check_not_ended(&opened).await, Ok(()));
            sessions.end_matching(&names[i], now()).await.unwrap();
            let found = sessions.check_not_ended(&opened).await;
            assert_eq!(found.is_err(), is_ended, "{sid:?} {i}");
        }
    }
}

/// What a browser sends that was sent these cookies.
fn sent(cookies: Vec<SetCookie>) -> Vec<Cookie<'static>> {
    let changes = CookieChanges::default();
    changes.add(cookies);
    let cookies = changes.take().into_iter();
    cookies
        .map(|cookie| Cookie::parse_encoded(cookie).unwrap())
        .collect()
}

/// What is found in a request with these cookies.
async fn found(
    sessions: &Sessions,
    cookies: impl IntoIterator<Item = Cookie<'static>>,
) -> Result<CurrentSession, SignedOut> {
    let client = Client::untracked(rocket::build()).await.unwrap();
    let request = client.get("/").cookies(cookies);
    sessions.find(request.inner().cookies(), now()).await
}

#[test]
fn the_setting_says_whether_sessions_are_remembered() {
    for (cache, is_remembered) in [
        (CacheSize::default(), true),
        (CacheSize::Flag(false), false),
    ] {
        let mut settings = SessionSettings::default();
        assert_eq!(settings.cache, CacheSize::Flag(true));
        settings.cache = cache;
        let seal = CookieSeal::new(::cookie::Key::from(&[7; 64]), false);
        let sessions = Sessions::open(settings, seal, None, &Clock::default()).unwrap();
        let first = sessions.opened.in_store("sealed", || Some("name".into()));
        assert!(first.is_some());
        let again = sessions.opened.in_store("sealed", || None);
        assert_eq!(again.is_some(), is_remembered);
    }
}

#[rocket::async_test]
async fn no_cookie_and_one_that_does_not_open_are_told_apart() {
    for is_in_cookies in [true, false] {
        let sessions = node(&store(), is_in_cookies);
        let sealed = sessions.seal.seal_text("other", "id:x");
        for (cookie, expected) in [
            (None, SignedOut::NoSession),
            (Some(""), SignedOut::Unreadable),
            (Some(&*sealed), SignedOut::Unreadable),
        ] {
            let cookie = cookie.map(|value| Cookie::new(COOKIE, value.to_owned()));
            let found = found(&sessions, cookie).await;
            assert_eq!(found.map(|_| ()), Err(expected));
        }
    }
}

/// Cookies that a larger session has left, or another site under the same domain.
#[rocket::async_test]
async fn what_stands_behind_a_session_is_passed_over() {
    let mut sessions = node(&store(), true);
    sessions.settings.max_cookies = 5;
    let piece = pieces::PIECE;
    for (length, left_over) in [
        (500, &[][..]),
        (500, &[1]),
        (piece - 3, &[]),
        (piece - 3, &[1]),
        (piece - 3, &[2]),
        (piece, &[1, 2]),
        (piece + 1, &[2]),
        (2 * piece, &[2, 3, 4]),
        (5 * (piece - 3) + 3, &[5]),
    ] {
        let mut session = Session::clone(&begun(&sessions).await.session);
        let more = length - identity_text(&session).len() - r#","x":"""#.len();
        session.claims.insert("x", "x".repeat(more));
        assert_eq!(identity_text(&session).len(), length);
        let name = sessions.names_of(&session).session;
        let empty = serde_json::to_string(&tokens(0, "")).unwrap().len();
        let token = "x".repeat(length - empty);
        let tokens = Some(Arc::new(tokens(0, &token)));
        let current = CurrentSession::new(Arc::new(session), name, 0, tokens);
        let client = Client::untracked(rocket::build()).await.unwrap();
        let jar = client.get("/");
        let cookies = sessions.cookies(&current, jar.inner().cookies(), now());
        let mut cookies = sent(cookies.unwrap());
        for i in left_over {
            for name in [COOKIE, TOKENS_COOKIE] {
                cookies.retain(|cookie| cookie.name() != format!("{name}_{i}"));
                cookies.push(Cookie::new(format!("{name}_{i}"), "left over"));
            }
        }
        for _ in 0..2 {
            let found = found(&sessions, cookies.clone()).await.unwrap();
            assert_eq!(found.subject(), "alice", "{length} {left_over:?}");
            assert_eq!(access_token(&found), token, "{length} {left_over:?}");
        }
    }
}

#[rocket::async_test]
async fn a_refreshed_session_in_cookies_of_a_single_node_leaves_nothing() {
    let store = store();
    let sessions = Sessions {
        is_shared: false,
        ..node(&store, true)
    };
    let current = begun(&sessions).await;
    refreshed(&sessions, &current, tokens(1, "new")).await;
    let name = sessions.names.refreshed(current.name(), 0);
    assert_eq!(store.notes(&[&name]).await, Ok(vec![None]));
}

#[rocket::async_test]
async fn tokens_may_fill_their_cookies_to_the_last_byte() {
    let mut sessions = node(&store(), true);
    let session = begun(&sessions).await.session;
    for cookies in 1..=3 {
        sessions.settings.max_cookies = cookies;
        let of_length = |length: usize| {
            let text = serde_json::to_string(&tokens(0, "")).unwrap();
            let tokens = Some(Arc::new(tokens(0, &"a".repeat(length - text.len()))));
            let current = CurrentSession::new(session.clone(), "".into(), 0, tokens);
            sessions.texts(&current).map(|(_, text)| text.len())
        };
        // Each but the last may lack three bytes where a character does not fit.
        let most = cookies * pieces::PIECE - 3 * (cookies - 1);
        assert_eq!(of_length(most), Ok(most));
        let error = of_length(most + 1).unwrap_err();
        let expected = (most + 1, cookies * pieces::PIECE);
        assert_eq!((error.size, error.limit), expected);
    }
}

#[rocket::async_test]
async fn a_refresh_keeps_the_claims_of_the_setting() {
    let mut sessions = node(&store(), true);
    sessions.settings.claims = Some(vec!["email".into()]);
    let current = begun(&sessions).await;
    let mut session = Session::clone(&current);
    for claim in ["email", "name", "nonce"] {
        session.claims.insert(claim, claim);
    }
    let next = sessions.replace(&current, session, tokens(1, "new"), now());
    let next = next.await.unwrap().unwrap();
    let mut claims: Vec<_> = next.claims.iter().map(|(name, _)| name).collect();
    claims.sort_unstable();
    assert_eq!(claims, ["email", "sub"]);
    // The ID token of the next refresh may repeat it.
    let nonce = next.tokens().unwrap().nonce.clone();
    assert_eq!(nonce, Some(Secret::new("nonce")));
}

#[rocket::async_test]
async fn a_refresh_keeps_the_tokens_of_the_setting() {
    let mut sessions = node(&store(), true);
    for kept in ["access_token", "refresh_token", "id_token"] {
        sessions.settings.tokens = vec![kept.into()];
        let current = begun(&sessions).await;
        let tokens = SessionTokens {
            refresh_token: Some(Secret::new("refresh")),
            refresh_due: Some(1),
            id_token: Some(Secret::new("id")),
            ..tokens(1, "new")
        };
        let session = Session::clone(&current);
        let next = sessions.replace(&current, session, tokens, now()).await;
        let next = next.unwrap().unwrap();
        let tokens = next.tokens().unwrap();
        for (name, token) in [
            ("access_token", &tokens.access_token),
            ("refresh_token", &tokens.refresh_token),
            ("id_token", &tokens.id_token),
        ] {
            assert_eq!(token.is_some(), name == kept, "{name} of {kept}");
        }
        let due = (kept == "refresh_token").then_some(1);
        assert_eq!((tokens.refresh_due, next.refresh_due), (due, due));
    }
}

#[rocket::async_test]
async fn a_refresh_whose_claims_do_not_fit_is_refused() {
    let sessions = node(&store(), true);
    let current = begun(&sessions).await;
    let mut session = Session::clone(&current);
    session.claims.insert("big", "x".repeat(6000));
    let next = sessions.replace(&current, session, tokens(1, "new"), now());
    let error = match next.await {
        Err(BeginError::TooLarge(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        error.largest,
        ["claim `big` with 6002 bytes", "claim `sub` with 7 bytes"]
    );
    assert_eq!(
        error.remedy().split(',').next(),
        Some("keep less with `oidc.session.claims` and `oidc.session.tokens`")
    );
}

#[rocket::async_test]
async fn debug_shows_neither_keys_nor_what_is_kept() {
    let sessions = node(&store(), false);
    let hour = Duration::from_secs(3600);
    let cookie = sessions.seal.set(COOKIE, "id:secret", "/", hour, now());
    for (shown, expected) in [
        (
            format!("{sessions:?}"),
            "Sessions { is_in_cookies: false, is_shared: true, .. }",
        ),
        (
            format!("{:?}", sessions.seal),
            "CookieSeal { is_secure: false, .. }",
        ),
        (format!("{cookie:?}"), "SetCookie(oidc_session=…)"),
        (format!("{:?}", sessions.names), "Names(…)"),
        (format!("{:?}", store()), "MemoryStore { .. }"),
    ] {
        assert_eq!(shown, expected);
    }
}
