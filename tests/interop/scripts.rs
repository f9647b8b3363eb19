//! Pages that follow the session by `/oidc/session.js`, in Chromium: in two tabs, after sleep, offline, and from the
//! back/forward cache. The app is the example `spa`, with its development provider.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use rocket::tokio::time::sleep;
use serde_json::{Value, json};

use crate::{
    browser::{Browser, Tab},
    example::{Example, free_port},
};

const DEADLINE: Duration = Duration::from_secs(40);

struct Spa {
    browser: Browser,
    app: Example,
    provider: String,
}

impl Spa {
    /// Signed in as alice, on the page.
    async fn signed_in(environment: &[(&str, &str)]) -> Spa {
        let port = free_port().to_string();
        let dev_provider = format!("{{port={port}}}");
        let all = [environment, &[("OIDC_DEV_PROVIDER", &*dev_provider)]].concat();
        let spa = Spa {
            app: Example::start("spa", free_port(), &all),
            browser: Browser::start().await,
            provider: format!(":{port}/"),
        };
        spa.browser.goto(&spa.at("/")).await;
        spa.until("#signed-out").await;
        spa.browser.click("#sign-in").await;
        spa.sign_in().await;
        spa
    }

    fn at(&self, path: &str) -> String {
        self.app.at("localhost", path)
    }

    /// As alice, from the page that asks who signs in; ends on the page of the app.
    async fn sign_in(&self) {
        self.browser.wait_for_url(|url| url.contains(&self.provider)).await;
        self.browser.click("button[value=alice]").await;
        self.until("#signed-in").await;
    }

    /// Waits until this section of the page is shown.
    async fn until(&self, section: &str) {
        self.until_true(&format!(
            "const section = document.querySelector('{section}');
             return section !== null && !section.hidden && document.documentElement.style.opacity !== '0';"
        ))
        .await;
    }

    async fn until_true(&self, js: &str) {
        let begun = Instant::now();
        while self.browser.execute(js).await != json!(true) {
            if begun.elapsed() > DEADLINE {
                panic!(
                    "still not {js} at {}:\n{}",
                    self.browser.current_url().await,
                    self.browser.source().await
                );
            }
            sleep(Duration::from_millis(25)).await;
        }
    }

    /// A tab with this page, which is open now.
    async fn another_tab(&self, path: &str) -> Tab {
        let tab = self.browser.open_tabs(&[self.at(path)]).await.remove(0);
        self.browser.switch_to(&tab).await;
        tab
    }

    /// What a module sees of the session.
    async fn session(&self, js: &str) -> Value {
        let js = format!("return import('/oidc/session.js').then(async ({{ session, fetch }}) => {{ {js} }});");
        self.browser.execute(&js).await
    }

    async fn offline(&self, is_offline: bool) {
        let params = json!({
            "offline": is_offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1,
        });
        self.browser.cdp("Network.enable", json!({})).await;
        self.browser.cdp("Network.emulateNetworkConditions", params).await;
        let is_online = self.browser.execute("return navigator.onLine;").await;
        assert_eq!(is_online, json!(!is_offline));
    }
}

/// The script of the page, in tabs that are made up.
#[test]
#[ignore = "needs Node.js: run scripts/interop"]
fn the_script_in_tabs_that_are_made_up() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/scripts/");
    let tests = format!("{directory}session.test.mjs");
    let status = Command::new("node")
        .args(["--experimental-vm-modules", "--test", &tests])
        .status()
        .expect("Node.js is there");
    assert!(status.success());
}

#[rocket::async_test]
#[ignore = "needs Chromium: run scripts/interop"]
async fn a_tab_follows_the_sign_out_and_the_sign_in_of_another() {
    let spa = Spa::signed_in(&[]).await;
    let browser = &spa.browser;
    let first = browser.current_tab().await;
    assert_eq!(browser.text("#name").await, "Alice Liddell");
    browser.fill("#text", "buy milk").await;
    // By a message, and not because it is looked at again.
    spa.session(
        "window.seen = [];
         for (const name of ['signout', 'signin']) {
             session.addEventListener(name, () => window.seen.push([name, document.visibilityState]));
         }
         return null;",
    )
    .await;
    let second = spa.another_tab("/").await;
    spa.until("#signed-in").await;

    browser.click("#sign-out").await;
    spa.until("#signed-out").await;
    browser.switch_to(&first).await;
    // It is not loaded again: its own script keeps what was typed.
    spa.until("#signed-out").await;
    browser.screenshot("spa-signed-out-elsewhere").await;

    browser.switch_to(&second).await;
    browser.click("#sign-in").await;
    spa.sign_in().await;
    browser.switch_to(&first).await;
    spa.until("#signed-in").await;
    let draft = browser.execute("return document.querySelector('#text').value").await;
    assert_eq!(draft, "buy milk");
    assert_eq!(browser.current_url().await, spa.at("/"));
    let seen = browser.execute("return window.seen;").await;
    assert_eq!(
        (&seen[0], &seen[1][0]),
        (&json!(["signout", "hidden"]), &json!("signin"))
    );
}

/// The headers of the app, as a browser obeys them: the policy of the page, `If-None-Match`, and the hash of the tag.
#[rocket::async_test]
#[ignore = "needs Chromium: run scripts/interop"]
async fn the_page_learns_of_its_session_and_asks_another_api() {
    let spa = Spa::signed_in(&[]).await;
    let state = spa.session("return (await session.check()) && session.state;").await;
    assert_eq!(
        (&state["loggedIn"], &state["isExtendable"]),
        (&json!(true), &json!(true))
    );
    let left = spa.session("return session.secondsLeft;").await.as_i64().unwrap();
    assert!((3500..=3602).contains(&left), "{left}");
    let statuses = spa
        .session(
            "const first = await window.fetch('/oidc/me');
             const headers = { 'If-None-Match': first.headers.get('ETag') };
             const second = await window.fetch('/oidc/me', { headers });
             return [first.status, second.status, second.headers.get('Date') !== null];",
        )
        .await;
    assert_eq!(statuses, json!([200, 304, true]));
    spa.browser.click("#motto").await;
    spa.until_true("return document.querySelector('#motto').textContent === 'Do one thing today, alice.';")
        .await;

    // What the tag loads is what its hash says, and another hash loads nothing.
    let loaded = "const [good, bad] = await Promise.all(['', 'A'].map((wrong) => new Promise(async (resolve) => {
             const text = await (await window.fetch('/oidc/session.js')).text();
             const file = '/oidc/' + text.match(/session-[^\"]+/)[0];
             const bytes = new TextEncoder().encode(await (await window.fetch(file)).text() + wrong);
             const hash = new Uint8Array(await crypto.subtle.digest('SHA-384', bytes));
             const script = document.createElement('script');
             script.integrity = 'sha384-' + btoa(String.fromCharCode(...hash));
             script.onload = () => resolve(true);
             script.onerror = () => resolve(false);
             script.src = file + (wrong && '?' + wrong);
             script.type = 'module';
             document.head.append(script);
         })));
         return [good, bad];";
    assert_eq!(spa.session(loaded).await, json!([true, false]));
}

/// The clock of the app goes on while the tab sleeps.
#[rocket::async_test]
#[ignore = "needs Chromium: run scripts/interop"]
async fn a_tab_that_has_slept_is_signed_out_when_it_wakes() {
    let environment = [("OIDC_SESSION__IDLE_TIMEOUT", "6s")];
    let spa = Spa::signed_in(&environment).await;
    let state = |state: &str| json!({ "state": state });
    spa.browser.cdp("Page.setWebLifecycleState", state("frozen")).await;
    sleep(Duration::from_secs(8)).await;
    spa.browser.cdp("Page.setWebLifecycleState", state("active")).await;
    spa.until("#signed-out").await;
    let notice = spa.browser.text("#notice-text").await;
    assert!(notice.starts_with("You were signed out."), "{notice}");
}

#[rocket::async_test]
#[ignore = "needs Chromium: run scripts/interop"]
async fn a_user_is_warned_and_stays_or_is_signed_out() {
    let environment = [("OIDC_SESSION__IDLE_TIMEOUT", "20s")];
    let spa = Spa::signed_in(&environment).await;
    spa.session("session.warnBefore = 12; return null;").await;
    spa.until("#notice").await;
    spa.browser.screenshot("spa-ending").await;
    spa.browser.click("#stay").await;
    spa.until_true("return document.querySelector('#notice').hidden;").await;
    let left = spa.session("return session.secondsLeft;").await;
    assert!(left.as_i64().unwrap() > 12, "{left}");
    // Then the session is idle.
    spa.until("#signed-out").await;
}

#[rocket::async_test]
#[ignore = "needs Chromium: run scripts/interop"]
async fn offline_a_page_stays_and_asks_when_the_network_is_back() {
    let spa = Spa::signed_in(&[]).await;
    let browser = &spa.browser;
    let first = browser.current_tab().await;
    spa.offline(true).await;
    // So often that it is not asked again by itself for minutes.
    let asked = "let answered = false;
        for (let i = 0; i < 7; i++) answered ||= await session.check();
        return [answered, session.state.loggedIn];";
    assert_eq!(spa.session(asked).await, json!([false, true]));
    assert_eq!(browser.text("#name").await, "Alice Liddell");

    // Meanwhile the session ends, and no tab tells.
    browser.forget_cookies("localhost", "oidc_session").await;
    spa.offline(false).await;
    spa.until("#signed-out").await;
    assert_eq!(browser.current_tab().await, first);
}

/// Another page, without the script, is where the user signs out: no tab gets a message.
#[rocket::async_test]
#[ignore = "needs Chromium: run scripts/interop"]
async fn a_signed_out_page_does_not_come_back_from_the_back_forward_cache() {
    let spa = Spa::signed_in(&[]).await;
    let browser = &spa.browser;
    browser.execute("window.isThePageOfBefore = true; return null;").await;
    // It comes back as it was while the user is signed in.
    browser.goto(&spa.at("/style.css")).await;
    browser.back().await;
    spa.until("#signed-in").await;
    let is_cached = browser.execute("return window.isThePageOfBefore === true;").await;
    assert_eq!(is_cached, json!(true), "the browser has no back/forward cache");
    assert_eq!(browser.text("#name").await, "Alice Liddell");

    browser.goto(&spa.at("/style.css")).await;
    browser.forget_cookies("localhost", "oidc_session").await;
    browser.back().await;
    spa.until("#signed-out").await;
    assert_eq!(
        browser.execute("return window.isThePageOfBefore === true;").await,
        json!(false)
    );
    assert!(!browser.text("body").await.contains("Alice"));
}

/// The same with a sign-out, from a page that tells other tabs, and offline.
#[rocket::async_test]
#[ignore = "needs Chromium: run scripts/interop"]
async fn after_a_sign_out_nothing_comes_back_even_offline() {
    let spa = Spa::signed_in(&[]).await;
    let browser = &spa.browser;
    browser.execute("window.isThePageOfBefore = true; return null;").await;
    browser.click("#sign-out").await;
    spa.until("#signed-out").await;
    spa.offline(true).await;
    // The driver would wait for a page.
    browser.execute("history.back(); return null;").await;
    let is_shown = "return window.isThePageOfBefore === true && document.documentElement.style.opacity !== '0'
        && !document.querySelector('#signed-in').hidden;";
    for _ in 0..20 {
        sleep(Duration::from_millis(50)).await;
        let shown = browser.try_execute(is_shown).await;
        assert!(!matches!(shown, Ok(Value::Bool(true))), "it is shown");
    }
}

#[rocket::async_test]
#[ignore = "needs Chromium: run scripts/interop"]
async fn a_401_goes_to_sign_in_once() {
    let spa = Spa::signed_in(&[]).await;
    let browser = &spa.browser;
    browser.goto(&spa.at("/?list=today")).await;
    spa.until("#signed-in").await;
    browser.forget_cookies("localhost", "oidc_session").await;
    browser.fill("#text", "buy milk").await;
    browser.click("#add button").await;
    browser.wait_for_url(|url| url.contains(&spa.provider)).await;
    // Back without having signed in, in this tab.
    browser.goto(&spa.at("/?list=today")).await;
    spa.until("#signed-out").await;
    let status = spa.session("return (await fetch('/api/todos')).status;").await;
    assert_eq!(status, json!(401));
    sleep(Duration::from_millis(500)).await;
    assert_eq!(browser.current_url().await, spa.at("/?list=today"));

    browser.click("#sign-in").await;
    spa.sign_in().await;
    assert_eq!(browser.current_url().await, spa.at("/?list=today"));
    let draft = browser.execute("return document.querySelector('#text').value").await;
    assert_eq!(draft, "buy milk");
    browser.forget_cookies("localhost", "oidc_session").await;
    spa.session("await fetch('/api/todos'); return null;").await;
    browser.wait_for_url(|url| url.contains(&spa.provider)).await;
}
