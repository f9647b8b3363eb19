//! The example `team` in Chromium: the list in two tabs, a form whose session has ended, and every page against axe-core.

use std::time::{Duration, Instant};

use rocket::tokio::time::sleep;

use crate::{
    browser::{Browser, Tab},
    example::{Example, free_port},
    pages::{axe, check},
};

struct Team {
    browser: Browser,
    app: Example,
    axe: String,
}

impl Team {
    /// Alice at the list.
    async fn signed_in(environment: &[(&str, &str)]) -> Team {
        let dev_provider = format!("{{port={}}}", free_port());
        let environment = [&[("OIDC_DEV_PROVIDER", &*dev_provider)], environment].concat();
        let team = Team {
            app: Example::start("team", free_port(), &environment),
            browser: Browser::start().await,
            axe: axe(),
        };
        team.browser.goto(&team.at("/")).await;
        team.check("team-index").await;
        team.browser.goto(&team.at("/todos")).await;
        team.sign_in("/todos").await;
        team
    }

    fn at(&self, page: &str) -> String {
        self.app.at("localhost", page)
    }

    async fn sign_in(&self, page: &str) {
        self.browser.click("button[value=alice]").await;
        let page = self.at(page);
        self.browser.wait_for_url(|url| url == page).await;
    }

    async fn check(&self, name: &str) {
        check(&self.browser, &self.axe, name, "light").await;
    }

    /// Waits until the text of the element contains this.
    async fn sees(&self, css: &str, expected: &str) {
        let started = Instant::now();
        loop {
            let text = self.browser.text(css).await;
            if text.contains(expected) {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "{css}: {text}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn add(&self, text: &str) {
        self.browser.fill("input[name=text]", text).await;
        self.browser.click("#add").await;
    }

    async fn second_tab(&self) -> Tab {
        let tab = self.browser.open_tabs(&[self.at("/todos")]).await.remove(0);
        self.browser.switch_to(&tab).await;
        self.sees("h1", "To-dos").await;
        tab
    }
}

#[rocket::async_test]
#[ignore = "needs Chromium: run scripts/interop"]
async fn a_to_do_and_a_sign_out_reach_the_other_tab() {
    let team = Team::signed_in(&[]).await;
    team.browser.becomes(360, false).await;
    let first = team.browser.current_tab().await;
    let second = team.second_tab().await;
    team.sees("#live", "The list is live.").await;

    team.browser.switch_to(&first).await;
    team.add("Buy <b>milk</b>").await;
    team.sees("#todos", "Buy <b>milk</b> (Alice Liddell)").await;
    team.browser.switch_to(&second).await;
    team.sees("#todos", "Buy <b>milk</b> (Alice Liddell)").await;
    team.check("team-todos").await;
    team.browser.goto(&team.at("/sessions")).await;
    team.sees("#sessions", "(this browser)").await;
    team.check("team-sessions").await;
    team.browser.goto(&team.at("/nowhere")).await;
    team.check("team-failed").await;
    team.browser.goto(&team.at("/todos")).await;
    team.sees("#live", "The list is live.").await;

    team.browser.switch_to(&first).await;
    team.browser.click("#sign-out").await;
    let start = team.at("/");
    team.browser.wait_for_url(|url| url == start).await;
    team.browser.switch_to(&second).await;
    team.sees("#live", "You are signed out").await;
}

#[rocket::async_test]
#[ignore = "needs Chromium: run scripts/interop"]
async fn a_form_is_sent_after_the_session_was_idle() {
    let team = Team::signed_in(&[("OIDC_SESSION__IDLE_TIMEOUT", "5s")]).await;
    team.browser.becomes(360, false).await;
    team.browser.fill("input[name=text]", "Feed the cat").await;
    // The socket closes when the session is idle.
    team.sees("#live", "You are signed out").await;
    team.browser.click("#add").await;
    team.browser.click("button[value=alice]").await;
    team.sees("h1", "Send your form?").await;
    team.sees("#target", "/todos").await;
    team.check("kept_form").await;
    team.browser.click("#send").await;
    team.sees("#todos", "Feed the cat (Alice Liddell)").await;

    // The other way: the form is shown again.
    team.browser.fill("input[name=text]", "Water the plants").await;
    team.sees("#live", "You are signed out").await;
    team.browser.click("#add").await;
    team.browser.click("button[value=alice]").await;
    team.sees("h1", "Send your form?").await;
    team.browser.goto(&team.at("/todos")).await;
    let typed = team
        .browser
        .execute("return document.querySelector('input[name=text]').value")
        .await;
    assert_eq!(typed, "Water the plants");
}
