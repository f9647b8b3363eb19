//! Sessions: how long they live, and what becomes of cookies that are damaged, large or lost.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rocket::{
    Build, Rocket, catch, catchers, get,
    http::{Cookie, CookieJar, Status},
    post, routes,
    serde::json::{Value, json},
};
use rocket_openidconnect::{__private::SessionCookies, LoggedIn};

use crate::{
    common::{App, KEY, NOW, assert_signed_out, cookie_name, opened_session},
    records::{Numbers, give_cookies, is_of_session, session_cookie, session_cookies},
    support::{Browser, TestProvider},
};

#[get("/missing")]
fn missing(_user: LoggedIn) -> Option<String> {
    None
}

#[get("/unguarded")]
fn unguarded() {}

/// Encrypts a text as a private cookie for `/`, as Rocket does.
#[post("/private/<name>", data = "<text>")]
fn private(name: String, text: String, jar: &CookieJar<'_>) {
    jar.add_private(Cookie::build((name, text)).path("/"));
}

#[catch(404)]
fn not_found() -> &'static str {
    "404 in the app's words"
}

fn rocket(app: &App) -> Rocket<Build> {
    app.rocket()
        .mount("/", routes![missing, unguarded, private])
        .register("/", catchers![not_found])
}

async fn signed_in(app: &App, provider: &TestProvider) -> Browser {
    Browser::signed_in(rocket(app), provider).await
}

/// Gives the next person to sign in a claim of this length that does not compress, and returns it.
fn large_person(provider: &TestProvider, length: usize) -> String {
    let big = Numbers::seeded(1).text(length);
    provider.user_claims(json!({ "sub": "alice", "big": big }));
    big
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

/// The names of the session's cookies that the browser has.
fn chunks(browser: &Browser) -> Vec<String> {
    let names = session_cookies(browser).into_iter().map(|(name, _)| name);
    names.collect()
}

/// The names of the first so many cookies of a session.
fn chunk_names(provider: &TestProvider, count: usize) -> Vec<String> {
    let first = cookie_name("oidc_session", provider);
    let further = (1..count).map(|i| format!("{first}_{i}"));
    std::iter::once(first.clone()).chain(further).collect()
}

/// Lets the browser have this as its session's only cookie.
fn set_session(browser: &Browser, provider: &TestProvider, value: &str) {
    let name = cookie_name("oidc_session", provider);
    let cookie = Cookie::build((name, value.to_owned())).path("/");
    browser.set_cookie(cookie.build());
}

/// Decrypts and encrypts sessions as the app does.
fn session_keys(provider: &TestProvider) -> SessionCookies {
    SessionCookies::new(KEY, &provider.issuer(), "app").expect("a key")
}

#[rocket::async_test]
async fn an_idle_session_ends() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    let browser = signed_in(&app, &provider).await;
    app.advance(Duration::from_secs(3599));
    browser.visit("/me").await.is(Status::Ok);
    app.advance(Duration::from_secs(3599));
    browser.visit("/me").await.is(Status::Ok);
    app.advance(Duration::from_secs(3600));
    assert_signed_out(&browser).await;
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
}

#[rocket::async_test]
async fn a_session_in_use_ends_with_its_lifetime() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider)
        .with("oidc.session.idle_timeout", "30m")
        .with("oidc.session.absolute_timeout", "70m");
    let browser = signed_in(&app, &provider).await;
    for _ in 0..2 {
        app.advance(minutes(29));
        browser.visit("/me").await.is(Status::Ok);
    }
    // Twelve minutes are left, and a day for a sign-out.
    let cookie = session_cookie(&browser);
    let day = 24 * 3600;
    assert_eq!(cookie.max_age().unwrap().whole_seconds(), 12 * 60 + day);
    app.advance(Duration::from_secs(12 * 60 - 1));
    browser.visit("/me").await.is(Status::Ok);
    app.advance(Duration::from_secs(1));
    assert_signed_out(&browser).await;
}

#[rocket::async_test]
async fn a_session_in_use_is_renewed_now_and_then() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    let browser = signed_in(&app, &provider).await;
    let before = opened_session(&browser, &provider);

    app.advance(Duration::from_secs(359));
    assert_eq!(browser.visit("/me").await.set_cookies(), [""; 0]);
    app.advance(Duration::from_secs(1));
    let page = browser.visit("/me").await;
    assert_eq!(page.is(Status::Ok).set_cookies().len(), 1);
    assert_eq!(browser.visit("/me").await.set_cookies(), [""; 0]);

    let renewed = opened_session(&browser, &provider);
    let mut expected = before;
    assert_eq!(expected["started"], json!(NOW * 1000));
    assert_eq!(expected["seen"], json!(NOW));
    expected["seen"] = json!(NOW + 360);
    assert_eq!(renewed, expected, "nothing else changes");
    // A page without a guard renews nothing.
    app.advance(minutes(10));
    let page = browser.visit("/unguarded").await;
    assert_eq!(page.set_cookies(), [""; 0]);
}

/// A cookie that a guard puts into Rocket's jar would be lost here.
#[rocket::async_test]
async fn the_renewal_arrives_when_a_catcher_answers() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    let browser = signed_in(&app, &provider).await;
    app.advance(minutes(6));
    let page = browser.visit("/missing").await;
    page.is(Status::NotFound).sees("404 in the app's words");
    assert_eq!(page.set_cookies().len(), 1, "{page:#?}");
    assert_eq!(page.header("Cache-Control"), Some("no-store"));
    let renewed = opened_session(&browser, &provider);
    assert_eq!(renewed["seen"], json!(NOW + 360));
}

#[rocket::async_test]
async fn a_damaged_cookie_is_signed_out_and_a_new_sign_in_works() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    let browser = signed_in(&app, &provider).await;
    let value = session_cookie(&browser).value().to_owned();
    let mut flipped = value.clone().into_bytes();
    flipped[40] = if flipped[40] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).unwrap();
    for damaged in [
        &flipped,
        &value[..value.len() - 5],
        // Without its end.
        &value[..value.len() - 1],
        &value[4..],
        ".",
        "..",
        "",
        "x",
        "%00",
        "0:0:1:{}",
    ] {
        // Further apart than what counts as a loop.
        app.advance(Duration::from_secs(61));
        set_session(&browser, &provider, damaged);
        assert_signed_out(&browser).await;
        let page = browser.sign_in(&provider, "/me").await;
        page.is(Status::Ok).sees("alice");
    }
    assert_eq!(app.failures(), [""; 0]);
}

/// A session is found by the end of its cookie: it counts only when all of it is the same.
#[rocket::async_test]
async fn no_mutation_of_a_cached_cookie_is_a_session() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    let browser = signed_in(&app, &provider).await;
    let whole = session_cookie(&browser).value().to_owned();
    let mut changed: Vec<String> = (0..whole.len())
        .map(|place| {
            let mut bytes = whole.clone().into_bytes();
            bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
            String::from_utf8(bytes).unwrap()
        })
        .collect();
    changed.extend([
        whole[4..].to_owned(),
        format!("A{whole}"),
        format!(" {whole}"),
        format!("{whole}A"),
    ]);
    let is_signed_in = async || {
        let page: Value = browser.visit("/").await.is(Status::Ok).json();
        page["logged_in"] == true
    };
    assert!(is_signed_in().await);
    for value in changed {
        set_session(&browser, &provider, &value);
        assert!(!is_signed_in().await, "{value}");
    }
    set_session(&browser, &provider, &whole);
    assert!(is_signed_in().await);
}

#[rocket::async_test]
async fn a_cookie_under_another_key_is_signed_out() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider).with("secret_key", KEY);
    let browser = signed_in(&app, &provider).await;
    let session = session_cookie(&browser);

    let same = signed_in(&App::local(&provider).with("secret_key", KEY), &provider).await;
    same.forget_cookies();
    same.set_cookie(session.clone());
    same.visit("/me").await.is(Status::Ok);

    let other_key = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";
    let other = App::local(&provider).with("secret_key", other_key);
    let other = Browser::open(rocket(&other)).await;
    other.set_cookie(session);
    assert_signed_out(&other).await;
    other.sign_in(&provider, "/me").await.is(Status::Ok);
}

/// Of an earlier or a later build: under the app's own key, but not a session that this one reads.
#[rocket::async_test]
async fn a_session_of_another_version_signs_in_again() {
    let provider = TestProvider::start().await;
    let private = |layout| {
        let record = json!({
            "layout": layout, "id": "x", "issuer": provider.issuer(), "claims": { "sub": "alice" },
            "access_token": "at", "started": NOW, "seen": NOW,
        });
        format!("x:0:1:{record}")
    };
    let keys = session_keys(&provider);
    let record = |head: Value| {
        let head = head.to_string();
        let length = u8::try_from(head.len()).expect("a short head");
        keys.encrypt(&[&[length], head.as_bytes()].concat())
    };
    for store in ["cookie", "memory"] {
        let app = App::local(&provider).with("oidc.session.store", store);
        let browser = Browser::open(rocket(&app)).await;
        let is_signed_out_and_signs_in = async || {
            assert_signed_out(&browser).await;
            let page = browser.sign_in(&provider, "/me").await;
            page.is(Status::Ok).sees("alice");
        };
        // Rocket's private cookies, as of earlier versions, under the name of then and of now.
        let own_name = cookie_name("oidc_session", &provider);
        for name in ["oidc_session", &own_name] {
            for text in [&private(1), &private(2), &private(3), "id:nobody", ""] {
                app.advance(Duration::from_secs(61));
                give_cookies(&browser, &[]);
                let path = format!("/private/{name}");
                browser.submit(&path, text).await.is(Status::Ok);
                assert!(browser.cookie(name).is_some());
                is_signed_out_and_signs_in().await;
            }
        }
        for value in [
            record(json!({ "layout": 99, "who": "alice" })),
            record(json!({ "i": "x" })),
            record(json!({ "i": "x", "b": NOW * 1000, "e": NOW + 9999, "s": NOW, "g": 1 })),
            keys.encrypt(b"alice"),
            keys.encrypt(b""),
        ] {
            app.advance(Duration::from_secs(61));
            set_session(&browser, &provider, &value);
            is_signed_out_and_signs_in().await;
        }
        assert_eq!(app.failures(), [""; 0]);
    }
}

/// The settings changed in between.
#[rocket::async_test]
async fn a_session_of_another_kind_of_store_signs_in_again() {
    let provider = TestProvider::start().await;
    let app = |store| App::local(&provider).with("oidc.session.store", store);
    for (before, after) in [("cookie", "memory"), ("memory", "cookie"), ("memory", "memory")] {
        let browser = signed_in(&app(before), &provider).await;
        let app = app(after);
        let there = Browser::open(rocket(&app)).await;
        give_cookies(&there, &session_cookies(&browser));
        assert_signed_out(&there).await;
        there.sign_in(&provider, "/me").await.is(Status::Ok);
        assert_eq!(app.failures(), [""; 0]);
    }
}

/// Encrypted by this very app, for another purpose.
#[rocket::async_test]
async fn a_cookie_of_another_name_is_no_session() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    let browser = signed_in(&app, &provider).await;
    let session = session_cookie(&browser).value().to_owned();
    let attempt = browser.another();
    let _ = attempt.begin_sign_in(&provider, "/me").await;
    let mut others = [browser.cookies(), attempt.cookies()].concat();
    others.retain(|(name, _)| !is_of_session(name));
    assert!(!others.is_empty());
    for (_, value) in others {
        for value in [format!("{value}."), value] {
            set_session(&browser, &provider, &value);
            assert_signed_out(&browser).await;
        }
    }

    let [_, second] = &chunk_names(&provider, 2)[..] else {
        unreachable!("two names");
    };
    give_cookies(&browser, &[(second.clone(), session)]);
    assert_signed_out(&browser).await;
}

/// Of a version of this crate that keeps sessions in another way: the first byte says which.
#[rocket::async_test]
async fn a_session_of_another_layout_is_signed_out() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = signed_in(&app, &provider).await;
    let value = session_cookie(&browser).value().to_owned();
    let bytes = URL_SAFE_NO_PAD.decode(value.trim_end_matches('.'));
    let mut bytes = bytes.expect("base64url");
    for layout in (0..=u8::MAX).rev() {
        bytes[0] = layout;
        let value = format!("{}.", URL_SAFE_NO_PAD.encode(&bytes));
        set_session(&browser, &provider, &value);
        let page: Value = browser.visit("/").await.is(Status::Ok).json();
        assert_eq!(page["logged_in"], layout == 3, "{layout}");
    }
}

#[rocket::async_test]
async fn a_large_session_takes_two_cookies() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    let big = large_person(&provider, 3000);
    let browser = signed_in(&app, &provider).await;
    assert_eq!(chunks(&browser), chunk_names(&provider, 2));
    for (name, value) in session_cookies(&browser) {
        assert!(name.len() + value.len() <= 4096, "{name}");
        assert_eq!(browser.cookie(&name).unwrap().path(), Some("/"));
    }
    let person: Value = browser.visit("/me").await.is(Status::Ok).json();
    assert_eq!(person["big"], json!(big));

    app.advance(minutes(6));
    let page = browser.visit("/me").await;
    assert_eq!(page.is(Status::Ok).set_cookies().len(), 2);
}

#[rocket::async_test]
async fn a_chunk_that_is_missing_or_of_another_session_is_signed_out() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    large_person(&provider, 3000);
    let browser = signed_in(&app, &provider).await;
    let own = session_cookies(&browser);
    let other = browser.another();
    other.sign_in(&provider, "/me").await.is(Status::Ok);
    let others = session_cookies(&other);

    for held in [
        vec![own[0].clone(), others[1].clone()],
        vec![others[0].clone(), own[1].clone()],
        vec![own[0].clone()],
        vec![own[1].clone()],
    ] {
        give_cookies(&browser, &held);
        assert_signed_out(&browser).await;
    }
    give_cookies(&browser, &own);
    browser.visit("/me").await.is(Status::Ok);
}

#[rocket::async_test]
async fn a_session_that_is_too_large_is_an_error_that_names_the_largest_claims() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    let text = |length| Numbers::seeded(1).text(length);
    provider.user_claims(json!({
        "sub": "alice", "big": text(12_000), "less": text(900), "list": vec!["zz"; 150],
    }));
    let browser = Browser::open(rocket(&app)).await;
    let page = browser.sign_in(&provider, "/me").await;
    page.is(Status::BadGateway)
        .sees("The sign-in service sent more data about you than this site can store.")
        .sees("href=\"&#x2F;oidc&#x2F;login?next=%2Fme\"")
        .sees_no(&text(20));
    assert_eq!(chunks(&browser), [""; 0]);

    let failures = app.failures();
    let [failure] = &failures[..] else {
        panic!("{failures:?}");
    };
    let (sizes, largest) = failure.split_once("; the largest parts are ").unwrap();
    // Encrypted; `big` does not compress.
    let size = sizes.strip_prefix("the session needs ");
    let size = size.and_then(|sizes| sizes.strip_suffix(" bytes and its cookies hold 11400"));
    let size: usize = size.expect(sizes).parse().unwrap();
    assert!((12_000..14_000).contains(&size), "{size}");
    assert_eq!(
        largest,
        "claim `big` with 12002 bytes, claim `less` with 902 bytes, claim `list` with 751 bytes"
    );

    let app = App::local(&provider).with("oidc.session.max_cookies", 4);
    let browser = signed_in(&app, &provider).await;
    assert_eq!(chunks(&browser), chunk_names(&provider, 4));
}

#[rocket::async_test]
async fn a_smaller_session_removes_the_chunks_of_the_larger() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    large_person(&provider, 3000);
    let browser = signed_in(&app, &provider).await;
    assert_eq!(chunks(&browser).len(), 2);
    large_person(&provider, 10);
    browser.sign_in(&provider, "/oidc/login?next=/me").await.is(Status::Ok);
    assert_eq!(chunks(&browser), chunk_names(&provider, 1));
}

/// Neither under the name that its cookie has nor under the one that the app looks for.
#[rocket::async_test]
async fn a_session_of_another_issuer_is_signed_out() {
    let (provider, other) = (TestProvider::start().await, TestProvider::start().await);
    let browser = signed_in(&App::local(&provider), &provider).await;

    let moved = Browser::open(rocket(&App::new(&other))).await;
    let session = session_cookie(&browser);
    moved.set_cookie(session.clone());
    assert_signed_out(&moved).await;
    set_session(&moved, &other, session.value());
    assert_signed_out(&moved).await;
    let page = moved.sign_in(&other, "/me").await;
    assert_eq!(page.is(Status::Ok).json::<Value>()["iss"], json!(other.issuer()));
}

/// The settings changed in between: what the old provider answers is nothing to the new one.
#[rocket::async_test]
async fn a_sign_in_that_began_at_another_issuer_is_refused() {
    let (provider, other) = (TestProvider::start().await, TestProvider::start().await);
    let browser = App::new(&provider).with("secret_key", KEY).open().await;
    let callback = browser.begin_sign_in(&provider, "/me").await;

    let moved = App::new(&other).with("secret_key", KEY);
    let there = moved.open().await;
    for (name, _) in browser.cookies() {
        there.set_cookie(browser.cookie(&name).unwrap());
    }
    let page = there.arrive_from_provider(&callback.path_and_query()).await;
    page.is(Status::BadRequest).sees("Sign-in failed");
    assert_eq!(moved.failures(), ["`state` is missing, or was not issued by this app"]);
    assert_eq!(other.count("/token"), 0);
    assert_signed_out(&there).await;
    there.sign_in(&other, "/me").await.is(Status::Ok);
}

/// Loses the session's cookie, as a browser does that finds the headers too large.
fn lose_session(browser: &Browser) {
    let cookies = browser.cookies().into_iter().map(|(name, _)| name);
    let kept: Vec<_> = cookies
        .filter(|name| !is_of_session(name))
        .filter_map(|name| browser.cookie(&name))
        .collect();
    browser.forget_cookies();
    for cookie in kept.into_iter() {
        browser.set_cookie(cookie);
    }
}

#[rocket::async_test]
async fn a_browser_that_loses_its_session_ends_on_an_error_page() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    let browser = Browser::open(rocket(&app)).await;
    for _ in 0..3 {
        browser.sign_in(&provider, "/me").await.is(Status::Ok);
        lose_session(&browser);
    }
    let page = browser.sign_in(&provider, "/me").await;
    page.is(Status::BadRequest)
        .sees("You signed in, but your browser did not stay signed in.")
        .sees("href=\"&#x2F;oidc&#x2F;login?next=%2Fme\"");
    assert_eq!(
        app.failures(),
        ["3 sign-ins within a minute did not keep their session"]
    );
    // The link on that page tries again.
    let page = browser.sign_in(&provider, "/oidc/login?next=/me").await;
    page.is(Status::Ok).sees("alice");
}

#[rocket::async_test]
async fn signing_in_often_is_no_loop_when_the_session_is_kept() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    let browser = Browser::open(rocket(&app)).await;
    for _ in 0..5 {
        let page = browser.sign_in(&provider, "/oidc/login?next=/me").await;
        page.is(Status::Ok).sees("alice");
    }
    // Nor is it one to sign out and in again.
    for _ in 0..5 {
        browser.submit("/oidc/logout", "").await.redirects_to("/");
        browser.sign_in(&provider, "/me").await.is(Status::Ok);
    }
    assert_eq!(app.failures(), [""; 0]);
}

/// Over plain http, a stranger can set a cookie; one with the prefix they cannot.
#[rocket::async_test]
async fn an_app_on_https_reads_no_session_without_the_prefix() {
    let provider = TestProvider::start().await;
    let plain = App::local(&provider).with("secret_key", KEY);
    let browser = signed_in(&plain, &provider).await;
    let secure = Browser::open(rocket(&App::released(&provider))).await;
    secure.set_cookie(session_cookie(&browser));
    assert_signed_out(&secure).await;
}
