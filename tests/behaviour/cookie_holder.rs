//! Who holds a session's cookies: what they may keep, drop and mix, and what comes of it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use rocket::{State, futures::future::join, get, http::Status, routes, serde::json::Value, tokio::sync::Notify};
use rocket_openidconnect::LoggedIn;
use serde_json::json;

use crate::{
    common::{App, KEY},
    keycloak_shape::{self, Person},
    records::{
        Cookies, DUE, Numbers, another_with_cookies, carry_cookies, give_cookies, header_bytes, name_of, node, record,
        record_of, rocket, session_cookie_bytes, session_cookies, session_cookies_set, signed_in,
    },
    support::{Browser, Page, Reply, TestProvider},
};

const TOKEN: &str = "/token";

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn groups(record: &Value) -> &Value {
    &record["claims"]["groups"]
}

/// The provider says in the ID token and in UserInfo which groups alice is in.
fn alice_in(provider: &TestProvider, groups: &[&str]) {
    let groups = json!(groups);
    provider.user_claims(json!({ "sub": "alice", "name": "Alice Liddell", "groups": groups }));
    provider.on_id_token(move |token| token.set("groups", groups.clone()));
}

/// Each cookie from the one or from the other, in every way.
fn mixes(one: &Cookies, other: &Cookies) -> Vec<Cookies> {
    let mut names: Vec<&String> = one.iter().chain(other).map(|(name, _)| name).collect();
    names.sort_unstable();
    names.dedup();
    let mut mixes: Vec<Cookies> = vec![vec![]];
    for name in names {
        let choices = [one, other].map(|cookies| cookies.iter().find(|(n, _)| n == name));
        mixes = mixes
            .iter()
            .flat_map(|mix| choices.map(|choice| mix.iter().chain(choice).cloned().collect::<Cookies>()))
            .collect();
    }
    mixes.sort_unstable();
    mixes.dedup();
    mixes
}

/// A claim of the person's own choice stands where the other version has the groups.
#[rocket::async_test]
async fn chunks_of_two_versions_of_a_session_make_no_third() {
    const VERSIONS: usize = 40;
    let provider = TestProvider::start().await;
    let app = App::new(&provider)
        .with("secret_key", KEY)
        .with("oidc.session.refresh_user_info", true)
        .with("oidc.session.max_cookies", 5);
    let mut numbers = Numbers::seeded(1);
    let (before, after) = (numbers.text(2529), numbers.text(3000));
    let person = |shorter: usize| {
        json!({
            "sub": "alice", "about": before[shorter..], "groups": ["users"],
            "hobbies": ["admin"], "website": after,
        })
    };
    provider.user_claims(person(0));
    let browser = signed_in(&app, &provider).await;
    let mut written = vec![];
    for shorter in 0..VERSIONS {
        if shorter > 0 {
            provider.user_claims(person(shorter));
            app.advance(DUE);
        }
        let session = record(&browser).await.expect("signed in");
        written.push((session, session_cookies(&browser)));
    }
    assert!(written[0].1.len() >= 2, "the session is in one cookie");

    // One node knows the newest version, the other knows none and cannot ask for a newer one.
    provider.on_path(TOKEN, Reply::status(503));
    let stranger = node(&app).await;
    let mut whole = 0;
    for (_, one) in &written {
        for (_, other) in &written {
            for reader in [&browser, &stranger] {
                let mix: Cookies = one[..1].iter().chain(&other[1..]).cloned().collect();
                give_cookies(reader, &mix);
                let page = reader.fetch("/record").await;
                if page.status == 503 {
                    continue;
                }
                let Some(seen) = record_of(&page) else {
                    continue;
                };
                assert_eq!(groups(&seen), &json!(["users"]), "nobody wrote that");
                let is_written = written.iter().any(|(w, _)| w["claims"] == seen["claims"]);
                assert!(is_written, "nobody wrote what is seen");
                whole += 1;
            }
        }
    }
    assert!(whole > 0, "no version was accepted, not even a whole one");
}

/// Whoever keeps back a cookie after the access token's end is signed out, or refreshed like anybody.
#[rocket::async_test]
async fn a_session_without_one_of_its_cookies_escapes_no_refresh() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with("secret_key", KEY);
    let browser = node(&app).await;
    let before: BTreeSet<String> = names(&browser);
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    let set: Vec<String> = names(&browser).difference(&before).cloned().collect();
    assert!(!set.is_empty());
    let cookies = browser.cookies();
    app.advance(seconds(301));
    for name in set {
        for damage in [None, Some("x"), Some("")] {
            let mut fewer = cookies.clone();
            match damage {
                None => fewer.retain(|(n, _)| *n != name),
                Some(text) => {
                    let cookie = fewer.iter_mut().find(|(n, _)| *n == name);
                    cookie.expect("the cookie is there").1 = text.to_owned();
                }
            }
            // A node that has not seen this session: what it accepts, it reads from the cookies.
            let holder = node(&app).await;
            give_cookies(&holder, &fewer);
            let asked = provider.count(TOKEN);
            let page = holder.fetch("/record").await;
            assert!(
                page.status == 401 || provider.count(TOKEN) == asked + 1,
                "signed in without a refresh, {name} is {damage:?}: {page:#?}"
            );
        }
    }
}

fn names(browser: &Browser) -> BTreeSet<String> {
    browser.cookies().into_iter().map(|(name, _)| name).collect()
}

#[rocket::async_test]
async fn an_old_cookie_beside_a_new_one_does_not_keep_a_group() {
    for size in [0, 5000] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider)
            .with("oidc.session.max_cookies", 5)
            .with("secret_key", KEY);
        let blob = Numbers::seeded(2).text(size);
        let alice = move |groups: &[&str]| {
            let (groups, blob) = (json!(groups), blob.clone());
            move |token: &mut crate::support::JwtParts| {
                token.set("groups", groups.clone());
                token.set("blob", blob.clone());
            }
        };
        provider.user_claims(json!({ "sub": "alice" }));
        provider.on_id_token(alice(&["admin"]));
        let browser = signed_in(&app, &provider).await;
        let old = browser.cookies();
        provider.on_id_token(alice(&["users"]));
        app.advance(DUE);
        let newest = record(&browser).await.expect("signed in");
        assert_eq!(groups(&newest), &json!(["users"]));
        let new = browser.cookies();
        assert_ne!(old, new);

        let mixes = mixes(&old, &new);
        for later in [0, 61] {
            app.advance(seconds(later));
            record(&browser).await.expect("signed in");
            for mix in &mixes {
                if let Some(seen) = record(&another_with_cookies(&browser, mix)).await {
                    assert_eq!(seen, newest, "{later} s later");
                }
            }
        }
    }
}

#[rocket::async_test]
async fn a_session_of_another_client_is_no_session_under_any_name() {
    for size in [0, 5000] {
        let provider = TestProvider::start().await;
        provider.user_claims(json!({ "sub": "alice", "blob": Numbers::seeded(3).text(size) }));
        let app = || {
            App::new(&provider)
                .with("secret_key", KEY)
                .with("oidc.session.max_cookies", 5)
        };
        let (a, b) = (app(), app().with("oidc.client_id", "other"));
        let (at_a, at_b) = (signed_in(&a, &provider).await, signed_in(&b, &provider).await);
        for (from, to) in [(&at_a, &at_b), (&at_b, &at_a)] {
            let own = session_cookies(to);
            assert!(record(to).await.is_some());
            // As they are, and under the names that sessions have there.
            let foreign = session_cookies(from);
            let renamed: Cookies = foreign
                .iter()
                .zip(&own)
                .map(|((_, value), (name, _))| (name.clone(), value.clone()))
                .collect();
            assert_eq!(renamed.len(), own.len());
            for cookies in [foreign, renamed] {
                assert_eq!(record(&another_with_cookies(to, &cookies)).await, None, "{size}");
            }
        }
    }
}

/// A browser sends the cookies of one host name to all of its ports and paths.
#[rocket::async_test]
async fn two_apps_on_one_host_name_keep_their_sessions() {
    let (provider, elsewhere) = (TestProvider::start().await, TestProvider::start().await);
    let a = || App::new(&provider).with("secret_key", KEY);
    let of_another_issuer = App::new(&elsewhere).with("secret_key", KEY);
    for (b, provider_of_b) in [
        (a().with("oidc.client_id", "other"), &provider),
        (
            a().with("oidc.client_id", "other").with("oidc.mount", "/auth"),
            &provider,
        ),
        (of_another_issuer, &elsewhere),
    ] {
        let (at_a, at_b) = (node(&a()).await, node(&b).await);
        at_a.sign_in(&provider, "/me").await.is(Status::Ok);
        carry_cookies(&at_a, &at_b);
        at_b.sign_in(provider_of_b, "/oidc/login?next=/me").await;
        at_b.sign_in(provider_of_b, "/me").await.is(Status::Ok);
        let of_b = record(&at_b).await;

        carry_cookies(&at_b, &at_a);
        let of_a = record(&at_a).await.expect("still signed in at A");
        carry_cookies(&at_a, &at_b);
        assert_eq!(record(&at_b).await, of_b, "still signed in at B");
        assert_ne!(of_b.unwrap()["session"], of_a["session"]);

        // Nor does signing out at one of them reach the other.
        at_a.sign_in(&provider, "/me").await.is(Status::Ok);
        at_a.submit("/oidc/logout", "").await.is(Status::SeeOther);
        assert_eq!(record(&at_a).await, None);
        carry_cookies(&at_a, &at_b);
        assert!(record(&at_b).await.is_some());
    }
}

/// What a slow page waits for, after its guard has read the session.
#[derive(Clone, Default)]
struct Slow {
    entered: Arc<Notify>,
    goes_on: Arc<Notify>,
}

#[get("/slow")]
async fn slow(_user: LoggedIn, slow: &State<Slow>) -> &'static str {
    slow.entered.notify_one();
    slow.goes_on.notified().await;
    "slow"
}

#[rocket::async_test]
async fn the_late_answer_to_an_older_request_writes_no_older_session() {
    for (store, began) in [("cookie", 0), ("cookie", 120), ("memory", 120)] {
        let provider = TestProvider::start().await;
        // In use after a minute, the session is written again.
        let app = App::new(&provider)
            .with("oidc.session.idle_timeout", "10m")
            .with("oidc.session.store", store);
        let pause = Slow::default();
        let rocket = rocket(&app).mount("/", routes![slow]).manage(pause.clone());
        let browser = Browser::open(rocket).await;
        browser.sign_in(&provider, "/me").await.is(Status::Ok);
        app.advance(seconds(began));

        let meanwhile = async {
            pause.entered.notified().await;
            app.advance(DUE - seconds(began));
            let fresh = record(&browser).await.expect("signed in");
            assert_eq!(provider.count(TOKEN), 2);
            app.advance(seconds(20));
            assert_eq!(record(&browser).await.as_ref(), Some(&fresh));
            pause.goes_on.notify_one();
            fresh
        };
        let (page, fresh) = join(browser.fetch("/slow"), meanwhile).await;
        page.is(Status::Ok).sees("slow");
        if store == "cookie" {
            assert_eq!(session_cookies_set(&page), [""; 0], "{page:#?}");
        }
        // Beyond the time in which an older copy is answered.
        app.advance(seconds(61));
        assert_eq!(record(&browser).await, Some(fresh));
        app.advance(DUE);
        assert!(record(&browser).await.is_some());
        assert_no_refresh_token_twice(&provider);
    }
}

/// A provider that rotates refresh tokens ends the whole session at the second use.
#[track_caller]
fn assert_no_refresh_token_twice(provider: &TestProvider) {
    let requests = provider.requests_to(TOKEN);
    let mut used: Vec<_> = requests
        .iter()
        .filter_map(|request| request.form_value("refresh_token"))
        .collect();
    let count = used.len();
    used.sort_unstable();
    used.dedup();
    assert_eq!(used.len(), count, "a refresh token was sent again");
}

#[rocket::async_test]
async fn an_older_copy_gets_the_newest_claims_or_none() {
    for says_expires_in in [true, false] {
        for store in ["cookie", "memory"] {
            let provider = TestProvider::start().await;
            if !says_expires_in {
                provider.on_token_response(|reply| {
                    if reply.status == 200 {
                        reply.remove("expires_in");
                    }
                });
            }
            let app = App::new(&provider)
                .with("oidc.session.store", store)
                .with("oidc.session.idle_timeout", "3h");
            alice_in(&provider, &["admin"]);
            let browser = signed_in(&app, &provider).await;
            let old = session_cookies(&browser);
            assert_eq!(groups(&record(&browser).await.unwrap()), &json!(["admin"]));
            alice_in(&provider, &["users"]);
            app.advance(if says_expires_in { DUE } else { seconds(3600) });
            let first = browser.fetch("/record").await;
            let newest = record_of(&first).expect("signed in");
            assert_eq!(groups(&newest), &json!(["users"]), "{says_expires_in}");
            assert_eq!(provider.count(TOKEN), 2);

            // Before the newer cookie was seen, after it, and so on; nothing is due meanwhile.
            for (passed, is_seen) in [(0, false), (40, true), (19, false), (41, false)] {
                app.advance(seconds(passed));
                if is_seen {
                    assert_eq!(record(&browser).await.as_ref(), Some(&newest));
                }
                let copy = another_with_cookies(&browser, &old);
                if let Some(seen) = record(&copy).await {
                    assert_eq!(seen, newest, "{store}");
                }
            }
            assert_eq!(record(&browser).await, Some(newest));
            assert_eq!(provider.count(TOKEN), 2, "an older copy was refreshed");
        }
    }
}

#[rocket::async_test]
async fn an_older_copy_is_signed_out_a_minute_after_the_newer_cookie_was_seen() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with("oidc.session.idle_timeout", "3h");
    let browser = signed_in(&app, &provider).await;
    let old = session_cookies(&browser);
    app.advance(DUE);
    let newest = record(&browser).await.expect("signed in");
    assert_ne!(session_cookies(&browser), old);

    app.advance(seconds(100));
    let copy = another_with_cookies(&browser, &old);
    assert_eq!(record(&copy).await.as_ref(), Some(&newest), "not seen yet");
    assert_eq!(record(&browser).await.as_ref(), Some(&newest));
    app.advance(seconds(59));
    let copy = another_with_cookies(&browser, &old);
    assert_eq!(record(&copy).await.as_ref(), Some(&newest));

    app.advance(seconds(2));
    let copy = another_with_cookies(&browser, &old);
    for page in [copy.fetch("/record").await, copy.visit("/visitor").await] {
        assert!(page.status == 401 || page.body == "null", "{page:#?}");
        assert_eq!(session_cookies_set(&page), [""; 0], "{page:#?}");
    }
    assert_eq!(session_cookies(&copy), old);
    assert_eq!(record(&browser).await, Some(newest));
    assert_eq!(provider.count(TOKEN), 2);
}

#[rocket::async_test]
async fn a_refresh_whose_answer_is_lost_does_not_sign_out() {
    for store in ["cookie", "memory"] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider).with("oidc.session.store", store);
        let browser = signed_in(&app, &provider).await;
        let kept = session_cookies(&browser);
        app.advance(DUE);
        let lost = record(&browser).await.expect("signed in");
        give_cookies(&browser, &kept);
        app.advance(seconds(200));
        let page = browser.fetch("/record").await;
        assert_eq!(record_of(&page), Some(lost));
        app.advance(seconds(300));
        assert!(record(&browser).await.is_some());
        assert_no_refresh_token_twice(&provider);
        assert_eq!(provider.count(TOKEN), 3);
    }
}

/// The answer to the callback, before the browser goes on.
async fn callback_answer(app: &App, provider: &TestProvider) -> (Browser, Page) {
    let browser = node(app).await;
    let callback = browser.begin_sign_in(provider, "/me").await;
    let page = browser.arrive_from_provider(&callback.path_and_query()).await;
    (browser, page)
}

/// Those who keep cookies within a browser's limits: 4 KB each.
#[track_caller]
fn assert_browsers_keep(page: &Page) {
    for set_cookie in page.set_cookies() {
        let pair = set_cookie.split(';').next().unwrap_or_default();
        assert!(pair.len() <= 4096, "{} is too long", name_of(set_cookie));
    }
}

#[rocket::async_test]
async fn six_hundred_groups_sign_in_with_default_settings() {
    for released in [false, true] {
        let provider = TestProvider::start().await;
        let app = if !released {
            App::new(&provider)
        } else {
            App::released(&provider)
        };
        let person = Person {
            groups: keycloak_shape::groups(600),
            ..Person::default()
        };
        let size = json!(person.groups).to_string().len();
        assert!((12_000..12_300).contains(&size), "{size} bytes of groups");
        let lengths = keycloak_shape::answer(&provider, &person);
        let (browser, page) = callback_answer(&app, &provider).await;
        println!("600 groups: {lengths:?}, {} bytes set", session_cookie_bytes(&page));
        page.redirects_to("/me");
        assert_browsers_keep(&page);
        assert!(session_cookie_bytes(&page) < 3 * 4096);
        let seen = record(&browser).await.expect("signed in");
        assert_eq!(groups(&seen), &json!(person.groups));
    }
}

#[rocket::async_test]
async fn three_hundred_roles_of_random_names_sign_in_with_default_settings() {
    let provider = TestProvider::start().await;
    let person = Person {
        roles: keycloak_shape::random_roles(300),
        ..Person::default()
    };
    for app in [App::new(&provider), App::released(&provider)] {
        let lengths = keycloak_shape::answer(&provider, &person);
        assert!((11_000..13_000).contains(&lengths.access_token), "{lengths:?}");
        let (browser, page) = callback_answer(&app, &provider).await;
        println!("300 roles: {lengths:?}, {} bytes set", session_cookie_bytes(&page));
        page.redirects_to("/me");
        assert_browsers_keep(&page);
        assert!(session_cookie_bytes(&page) < 3 * 4096);
        let seen = record(&browser).await.expect("signed in");
        let token = seen["access_token"].as_str().expect("an access token");
        assert_eq!(token.len(), lengths.access_token);
    }
}

/// nginx takes 4 KB of response headers where nobody changed its settings.
#[rocket::async_test]
async fn an_ordinary_person_signs_in_behind_a_proxy_that_takes_four_kilobytes_of_headers() {
    let provider = TestProvider::start().await;
    for app in [App::new(&provider), App::released(&provider)] {
        let lengths = keycloak_shape::answer(&provider, &Person::default());
        for (length, expected) in [
            (lengths.access_token, 1500),
            (lengths.refresh_token, 800),
            (lengths.id_token, 1050),
        ] {
            assert!(length.abs_diff(expected) <= 100, "{lengths:?}");
        }
        let (browser, page) = callback_answer(&app, &provider).await;
        page.redirects_to("/me");
        let (all, of_session) = (header_bytes(&page), session_cookie_bytes(&page));
        println!("an ordinary person: {lengths:?}, {all} bytes of headers, {of_session} set");
        assert!(all < 4096, "{all} bytes of headers");
        // Among them the mark of the user in the name of the session, by which people end their own sessions alone.
        assert!(of_session < 2650, "{of_session} bytes of session cookies");
        let seen = record(&browser).await.expect("signed in");
        assert_eq!(seen["claims"]["email"], "alice@example.com");
        let token = seen["access_token"].as_str().expect("an access token");
        assert_eq!(token.len(), lengths.access_token);
    }
}
