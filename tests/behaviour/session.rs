//! Sessions: how long they live, and what becomes of cookies that are damaged, large or lost.

use std::time::Duration;

use rocket::{
    Build, Rocket, catch, catchers, get,
    http::{Cookie, CookieJar, Status},
    post, routes,
    serde::json::{Value, json},
};
use rocket_openidconnect::LoggedIn;

use crate::{
    common::{App, KEY, NOW, assert_signed_out, cookie_of_kind, opened_cookie, session},
    support::{Browser, TestProvider},
};

const SESSION: &str = "oidc_session";
const SECOND_PIECE: &str = "oidc_session_1";

#[get("/missing")]
fn missing(_user: LoggedIn) -> Option<String> {
    None
}

/// Seals a text as a private cookie for `/`, as Rocket does.
#[post("/oidc/sealed/<name>", data = "<text>")]
fn sealed(name: String, text: String, jar: &CookieJar<'_>) {
    jar.add_private(Cookie::build((name, text)).path("/"));
}

#[catch(404)]
fn not_found() -> &'static str {
    "404 in the app's words"
}

fn rocket(app: &App) -> Rocket<Build> {
    app.rocket()
        .mount("/", routes![missing, sealed])
        .register("/", catchers![not_found])
}

async fn signed_in(app: &App, provider: &TestProvider) -> Browser {
    let browser = Browser::open(rocket(app)).await;
    browser.sign_in(provider, "/me").await.is(Status::Ok);
    browser
}

/// Makes the next person to sign in known for a claim of this length.
fn large_person(provider: &TestProvider, length: usize) {
    provider.user_claims(json!({ "sub": "alice", "big": "x".repeat(length) }));
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

/// The session's cookies that the browser has.
fn pieces(browser: &Browser) -> Vec<String> {
    let names = browser.cookies().into_iter().map(|(name, _)| name);
    let mut pieces: Vec<_> = names.filter(|name| name.contains(SESSION)).collect();
    pieces.sort_unstable();
    pieces
}

/// Replaces the value of a cookie that the browser has.
fn replace_value(browser: &Browser, name: &str, value: impl Into<String>) {
    let mut cookie = browser.cookie(name).expect("the cookie is there");
    cookie.set_value(value.into());
    browser.set_cookie(cookie);
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
        .with("oidc.session.idle", "30m")
        .with("oidc.session.lifetime", "70m");
    let browser = signed_in(&app, &provider).await;
    for _ in 0..2 {
        app.advance(minutes(29));
        browser.visit("/me").await.is(Status::Ok);
    }
    // The cookie does not outlive the session: twelve minutes are left.
    let cookie = browser.cookie(SESSION).unwrap();
    assert_eq!(cookie.max_age().unwrap().whole_seconds(), 12 * 60);
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
    let (id, _) = session(&browser, SESSION).await;

    app.advance(Duration::from_secs(359));
    assert_eq!(browser.visit("/me").await.set_cookies(), [""; 0]);
    app.advance(Duration::from_secs(1));
    let page = browser.visit("/me").await;
    assert_eq!(page.is(Status::Ok).set_cookies().len(), 1);
    assert_eq!(browser.visit("/me").await.set_cookies(), [""; 0]);

    let (renewed, content) = session(&browser, SESSION).await;
    assert_eq!(renewed, id);
    assert_eq!(content["started"], json!(NOW * 1000));
    assert_eq!(content["seen"], json!(NOW + 360));
    // A page without a guard renews nothing.
    app.advance(minutes(10));
    let page = browser.visit("/oidc/opened/none").await;
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
    let (_, content) = session(&browser, SESSION).await;
    assert_eq!(content["seen"], json!(NOW + 360));
}

#[rocket::async_test]
async fn a_damaged_cookie_is_signed_out_and_a_new_sign_in_works() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    let browser = signed_in(&app, &provider).await;
    let sealed = browser.cookie(SESSION).unwrap().value().to_owned();
    let mut flipped = sealed.clone().into_bytes();
    flipped[40] = if flipped[40] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).unwrap();
    for damaged in [
        &flipped,
        &sealed[..sealed.len() - 4],
        &sealed[4..],
        "",
        "x",
        "%00",
        "0:0:1:{}",
    ] {
        // Further apart than what counts as a loop.
        app.advance(Duration::from_secs(61));
        replace_value(&browser, SESSION, damaged);
        assert_signed_out(&browser).await;
        let page = browser.sign_in(&provider, "/me").await;
        page.is(Status::Ok).sees("alice");
    }
    assert_eq!(app.failures(), [""; 0]);
}

/// A session is found by the end of its cookie: it counts only when all of it is the same.
#[rocket::async_test]
async fn no_mutation_of_a_remembered_cookie_is_a_session() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    let browser = signed_in(&app, &provider).await;
    let sealed = browser.cookie(SESSION).unwrap().value().to_owned();
    let mut changed: Vec<String> = (0..sealed.len())
        .map(|place| {
            let mut bytes = sealed.clone().into_bytes();
            bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
            String::from_utf8(bytes).unwrap()
        })
        .collect();
    changed.extend([
        sealed[4..].to_owned(),
        format!("A{sealed}"),
        format!(" {sealed}"),
        format!("{sealed}A"),
    ]);
    let is_signed_in = async || {
        let page: Value = browser.visit("/").await.is(Status::Ok).json();
        page["logged_in"] == true
    };
    assert!(is_signed_in().await);
    for value in changed {
        replace_value(&browser, SESSION, &value);
        assert!(!is_signed_in().await, "{value}");
    }
    replace_value(&browser, SESSION, sealed);
    assert!(is_signed_in().await);
}

#[rocket::async_test]
async fn a_cookie_under_another_key_is_signed_out() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider).with("secret_key", KEY);
    let browser = signed_in(&app, &provider).await;
    let session = browser.cookie(SESSION).unwrap();

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

/// Sealed under the app's own key by an earlier build, or by one with another setting of where sessions are.
#[rocket::async_test]
async fn a_session_of_another_version_signs_in_again() {
    let provider = TestProvider::start().await;
    let of_layout_1 = json!({
        "layout": 1, "id": "x", "issuer": provider.issuer(), "claims": { "sub": "alice" },
        "access_token": "at", "started": NOW, "seen": NOW,
    });
    let of_layout_3 = json!({ "layout": 3, "who": "alice" });
    let of_layout_2_with_less = json!({ "layout": 2, "id": "x" });
    for store in ["cookie", "memory"] {
        let app = App::local(&provider).with("oidc.session.store", store);
        let browser = Browser::open(rocket(&app)).await;
        for text in [
            format!("x:0:1:{of_layout_1}"),
            format!("x:0:1:{of_layout_3}"),
            format!("x:0:1:{of_layout_2_with_less}"),
            "id:nobody-has-this".to_owned(),
            String::new(),
        ] {
            app.advance(Duration::from_secs(61));
            let path = format!("/oidc/sealed/{SESSION}");
            browser.submit(&path, &text).await.is(Status::Ok);
            assert!(browser.cookie(SESSION).is_some());
            assert_signed_out(&browser).await;
            browser
                .sign_in(&provider, "/me")
                .await
                .is(Status::Ok)
                .sees("alice");
        }
        assert_eq!(app.failures(), [""; 0]);
    }
}

/// Sealed by this very app, for another purpose.
#[rocket::async_test]
async fn a_cookie_of_another_name_is_no_session() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    let browser = signed_in(&app, &provider).await;
    let session = browser.cookie(SESSION).unwrap().value().to_owned();
    let other = cookie_of_kind(&browser, "oidc_browser").value().to_owned();
    replace_value(&browser, SESSION, other);
    assert_signed_out(&browser).await;

    browser.forget_cookies();
    browser.set_cookie(Cookie::build((SECOND_PIECE, session)).path("/").build());
    assert_signed_out(&browser).await;
}

/// Of a version of this crate that keeps sessions in another way.
#[rocket::async_test]
async fn a_session_of_another_layout_is_signed_out() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = signed_in(&app, &provider).await;
    let text = opened_cookie(&browser, SESSION).await;
    let path = format!("/oidc/sealed/{SESSION}");
    browser.submit(&path, &text).await.is(Status::Ok);
    browser.visit("/me").await.is(Status::Ok).sees("alice");

    let later = text.replacen("\"layout\":2,", "\"layout\":99,", 1);
    assert_ne!(later, text);
    browser.submit(&path, &later).await.is(Status::Ok);
    assert_signed_out(&browser).await;
}

#[rocket::async_test]
async fn a_large_session_takes_two_cookies() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    large_person(&provider, 3000);
    let browser = signed_in(&app, &provider).await;
    assert_eq!(pieces(&browser), [SESSION, SECOND_PIECE]);
    for name in [SESSION, SECOND_PIECE] {
        let cookie = browser.cookie(name).unwrap();
        assert!(name.len() + cookie.value().len() <= 4096, "{name}");
        assert_eq!(cookie.path(), Some("/"));
    }
    let person: Value = browser.visit("/me").await.is(Status::Ok).json();
    assert_eq!(person["big"], json!("x".repeat(3000)));

    app.advance(minutes(6));
    let page = browser.visit("/me").await;
    assert_eq!(page.is(Status::Ok).set_cookies().len(), 2);
}

#[rocket::async_test]
async fn a_piece_that_is_missing_or_of_another_session_is_signed_out() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    large_person(&provider, 3000);
    let browser = signed_in(&app, &provider).await;
    let own = browser.cookie(SECOND_PIECE).unwrap();
    let first = browser.cookie(SESSION).unwrap();

    let other = browser.another();
    other.sign_in(&provider, "/me").await.is(Status::Ok);
    browser.set_cookie(other.cookie(SECOND_PIECE).unwrap());
    assert_signed_out(&browser).await;

    browser.forget_cookies();
    browser.set_cookie(first);
    assert_signed_out(&browser).await;

    browser.set_cookie(own);
    browser.visit("/me").await.is(Status::Ok);
}

#[rocket::async_test]
async fn a_session_that_is_too_large_is_an_error_that_names_the_largest_claims() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    provider.user_claims(json!({
        "sub": "alice", "big": "x".repeat(6000), "less": "y".repeat(500), "list": vec!["zz"; 150],
    }));
    let browser = Browser::open(rocket(&app)).await;
    let page = browser.sign_in(&provider, "/me").await;
    page.is(Status::BadGateway)
        .sees("The sign-in service sent more about you than this site can keep.")
        .sees("href=\"&#x2F;oidc&#x2F;login?next=%2Fme\"")
        .sees_no("xxx");
    assert_eq!(pieces(&browser), [""; 0]);

    let failures = app.failures();
    let [failure] = &failures[..] else {
        panic!("{failures:?}");
    };
    let (sizes, largest) = failure.split_once("; the largest parts are ").unwrap();
    assert!(sizes.starts_with("the session has 7"), "{sizes}");
    assert!(
        sizes.ends_with(" bytes and its cookies hold 5400"),
        "{sizes}"
    );
    assert_eq!(
        largest,
        "claim `big` with 6002 bytes, claim `list` with 751 bytes, claim `less` with 502 bytes"
    );

    let app = App::local(&provider).with("oidc.session.max_cookies", 3);
    let browser = signed_in(&app, &provider).await;
    assert_eq!(pieces(&browser), [SESSION, SECOND_PIECE, "oidc_session_2"]);
}

#[rocket::async_test]
async fn a_smaller_session_removes_the_pieces_of_the_larger() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    large_person(&provider, 3000);
    let browser = signed_in(&app, &provider).await;
    assert_eq!(pieces(&browser).len(), 2);
    large_person(&provider, 10);
    browser
        .sign_in(&provider, "/oidc/login?next=/me")
        .await
        .is(Status::Ok);
    assert_eq!(pieces(&browser), [SESSION]);
}

#[rocket::async_test]
async fn a_session_of_another_issuer_is_signed_out() {
    let (provider, other) = (TestProvider::start().await, TestProvider::start().await);
    let browser = signed_in(&App::local(&provider).with("secret_key", KEY), &provider).await;

    let moved = App::new(&other).with("secret_key", KEY);
    let moved = Browser::open(rocket(&moved)).await;
    moved.set_cookie(browser.cookie(SESSION).unwrap());
    assert_signed_out(&moved).await;
    let page = moved.sign_in(&other, "/me").await;
    assert_eq!(
        page.is(Status::Ok).json::<Value>()["iss"],
        json!(other.issuer())
    );
}

/// The settings changed in between: what the old provider answers is nothing to the new one.
#[rocket::async_test]
async fn a_sign_in_that_began_at_another_issuer_is_over() {
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
    assert_eq!(
        moved.failures(),
        ["`state` is absent, or not one that this app made"]
    );
    assert_eq!(other.count("/token"), 0);
    assert_signed_out(&there).await;
    there.sign_in(&other, "/me").await.is(Status::Ok);
}

/// Loses the session's cookie, as a browser does that finds the headers too large.
fn lose_session(browser: &Browser) {
    let kept = cookie_of_kind(browser, "oidc_browser");
    browser.forget_cookies();
    browser.set_cookie(kept);
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
        .sees("The sign-in succeeds, but the browser does not keep it.")
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

#[rocket::async_test]
async fn a_session_does_not_survive_under_the_name_of_another_scheme() {
    let provider = TestProvider::start().await;
    let plain = App::local(&provider).with("secret_key", KEY);
    let browser = signed_in(&plain, &provider).await;
    let session = browser.cookie(SESSION).unwrap();

    // Sealed for one name, a value does not open under another.
    let secure = Browser::open(rocket(&App::released(&provider))).await;
    secure.set_cookie(session.clone());
    secure.set_cookie(
        Cookie::build(("__Host-oidc_session", session.value().to_owned()))
            .path("/")
            .build(),
    );
    assert_signed_out(&secure).await;
}
