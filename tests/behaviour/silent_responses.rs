//! Silent sign-in: what the provider and the app answer, and where the visitor ends.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rocket::{
    Request,
    http::Status,
    request::FromRequest,
    serde::json::{Value, json},
};
use rocket_openidconnect::{Events, LoginRedirect, NewSignIn, OptionalUser, Refused};

use crate::{
    common::{NOW, bring, cookie_of_kind, launch_failure, locked},
    ended_sign_ins::{Named, log_out},
    silent::{LOGIN, begun, is_never_tried, is_shown, is_tried, parameter, plant, returns, silent},
    support::{Browser, Callback, Misbehaviour, TestProvider},
};

#[rocket::async_test]
async fn a_user_who_is_signed_in_at_the_provider_is_signed_in_silently() {
    for (store, mode) in [("cookie", "query"), ("memory", "query"), ("cookie", "form_post")] {
        let provider = TestProvider::start().await;
        provider.on_id_token(|token| token.set("auth_time", NOW - 3_600));
        let app = silent(&provider)
            .with("oidc.session.store", store)
            .with("oidc.response_mode", mode);
        let browser = app.open().await;
        is_shown(&browser.visit("/").await);
        let page = browser.sign_in(&provider, "/").await;
        assert_eq!(page.url, "/");
        let user = &page.json::<Value>()["user"];
        assert_eq!(
            (&user["sub"], &user["auth_time"]),
            (&json!("alice"), &json!(NOW - 3_600))
        );
        let cookie = cookie_of_kind(&browser, "oidc_last_session");
        assert_eq!(cookie.value(), (NOW + 12 * 60 * 60).to_string());
        assert_eq!(provider.count("/authorize"), 1);
        assert_eq!(app.failures(), [""; 0]);
    }
}

#[rocket::async_test]
async fn a_provider_that_fails_shows_the_page() {
    let provider = TestProvider::start().await;
    // The provider is down since the launch.
    let app = silent(&provider);
    provider.stop();
    let browser = app.open().await;
    is_shown(&browser.visit("/").await);
    returns(&browser.visit("/").await, LOGIN);
    returns(&browser.visit(LOGIN).await, "/");
    is_never_tried_again(&browser).await;
    assert_eq!(app.failures_with_status().len(), 1);
    assert_eq!(app.failures_with_status()[0].0, 503);
    provider.restart();

    // The pushed request is not answered.
    provider.metadata(|metadata| {
        let endpoint = format!("{}/par", metadata["issuer"].as_str().unwrap());
        metadata.insert("pushed_authorization_request_endpoint".to_owned(), json!(endpoint));
    });
    provider.on_path("/par", Misbehaviour::Drop);
    let app = silent(&provider).with("oidc.pushed_authorization_requests", true);
    let browser = app.open().await;
    is_shown(&browser.visit("/").await);
    returns(&browser.visit("/").await, LOGIN);
    returns(&browser.visit(LOGIN).await, "/");
    is_never_tried_again(&browser).await;
    assert_eq!(app.failures_with_status().len(), 1);
}

async fn is_never_tried_again(browser: &Browser) {
    for _ in 0..3 {
        is_shown(&browser.visit("/").await);
    }
}

#[rocket::async_test]
async fn whatever_fails_the_visitor_returns_to_the_page() {
    type Change = fn(Callback) -> Callback;
    let changes: [(Change, &str); 6] = [
        (
            |it| it.error("access_denied"),
            "the provider returned `access_denied`: ",
        ),
        (|it| it.error("server_error"), "the provider returned `server_error`: "),
        (
            |it| it.error("invalid_scope"),
            "the provider returned `invalid_scope`: ",
        ),
        (|it| it.without("code"), "the response has no `code`"),
        (
            |it| it.set("code", "made-up"),
            "the provider's token endpoint rejected the request with `invalid_grant`: ",
        ),
        (
            |it| it.error("login_required").set("iss", "https://evil.example"),
            "the response's `iss` is `https://evil.example`, expected ",
        ),
    ];
    for (change, expected) in changes {
        let provider = TestProvider::start().await;
        let app = silent(&provider);
        let browser = app.open().await;
        let callback = change(is_tried(&browser, &provider).await);
        let page = bring(&browser, &callback).await;
        returns(&page, "/");
        assert_eq!(page.set_cookies(), [""; 0]);
        is_never_tried_again(&browser).await;
        let failures = app.failures();
        assert_eq!(failures.len(), 1);
        assert!(failures[0].starts_with(expected), "{failures:?}");
    }
    // The ID token of another sign-in.
    let provider = TestProvider::start().await;
    provider.on_id_token(|token| token.set("nonce", "another"));
    let app = silent(&provider);
    let browser = app.open().await;
    let callback = is_tried(&browser, &provider).await;
    returns(&bring(&browser, &callback).await, "/");
    is_never_tried_again(&browser).await;
    assert_eq!(app.failures().len(), 1);
    // It is too late, or its code is used up: it does not restart.
    for late in [false, true] {
        let browser = app.open().await;
        provider.be_honest();
        let callback = is_tried(&browser, &provider).await;
        if late {
            app.advance(Duration::from_secs(30 * 60));
        } else {
            provider.on_id_token(|token| token.set("nonce", "another"));
            returns(&bring(&browser, &callback).await, "/");
        }
        let page = bring(&browser, &callback).await;
        returns(&page, "/");
        assert_eq!(page.set_cookies(), [""; 0]);
        is_never_tried_again(&browser).await;
    }
}

#[rocket::async_test]
async fn a_forged_error_changes_nothing() {
    let provider = TestProvider::start().await;
    let app = silent(&provider);
    let victim = app.open().await;
    let other = victim.another();
    let foreign = is_tried(&other, &provider).await;

    // Another browser's silent attempt leads to a page of this app, and leaves no trace.
    is_shown(&victim.visit("/").await);
    let before = victim.cookies();
    let page = bring(&victim, &foreign.clone().error("login_required")).await;
    returns(&page, "/");
    assert_eq!((page.set_cookies(), victim.cookies()), (vec![], before));
    // It neither begins a session here.
    let page = bring(&victim, &foreign).await;
    returns(&page, "/");
    assert_eq!(page.set_cookies(), [""; 0]);

    // An error does not use up the attempt of the browser, whose response comes after it.
    let own = begun(&victim, &provider, "/").await;
    returns(&bring(&victim, &own.clone().error("login_required")).await, "/");
    returns(&bring(&victim, &own).await, "/");
    victim.visit("/").await.sees("alice");

    // A sign-in that is not silent has an error page, as before.
    let person = victim.another();
    let callback = person.begin_sign_in(&provider, "/me").await;
    bring(&person, &callback.error("login_required"))
        .await
        .is(Status::BadRequest);
}

/// Some providers leave `state` out of an error. Nothing proves what it is about.
#[rocket::async_test]
async fn an_error_without_state_leads_to_the_start_page_of_a_browser_that_was_tried() {
    let provider = TestProvider::start().await;
    let app = silent(&provider);
    let browser = app.open().await;
    let callback = is_tried(&browser, &provider).await.without("state");
    let page = bring(&browser, &callback.clone().error("login_required")).await;
    returns(&page, "/");
    assert_eq!(page.set_cookies(), [""; 0]);
    bring(&browser, &callback.clone().error("server_error"))
        .await
        .is(Status::BadRequest);
    let other = browser.another();
    bring(&other, &callback.clone().error("login_required"))
        .await
        .is(Status::BadRequest);
}

#[rocket::async_test]
async fn a_user_who_signed_in_meanwhile_is_not_replaced() {
    let provider = TestProvider::start().await;
    let browser = silent(&provider).open().await;
    let callback = is_tried(&browser, &provider).await;
    provider.user_claims(json!({ "sub": "bob" }));
    browser.sign_in(&provider, "/me").await.sees("bob");
    assert_eq!(provider.count("/token"), 1);
    returns(&bring(&browser, &callback).await, "/");
    browser.visit("/me").await.sees("bob");
    assert_eq!(provider.count("/token"), 1);

    // Nor by a tab whose redirect came late.
    plant(&browser, "oidc_silent", "requested", &provider);
    returns(&browser.visit(LOGIN).await, "/");
}

#[rocket::async_test]
async fn a_sign_out_ends_an_attempt_that_is_under_way() {
    let provider = TestProvider::start().await;
    let browser = silent(&provider).open().await;
    let callback = is_tried(&browser, &provider).await;
    browser.submit("/oidc/logout", "").await.redirects_to("/");
    let page = bring(&browser, &callback).await;
    returns(&page, "/");
    assert_eq!(page.set_cookies(), [""; 0]);
    assert_eq!(provider.count("/token"), 0);
    // Before it has reached the sign-in route, too.
    plant(&browser, "oidc_silent", "requested", &provider);
    returns(&browser.visit(LOGIN).await, "/");
    is_never_tried(&browser).await;
}

/// The provider ended the user's sessions, and may have issued the code before that.
#[rocket::async_test]
async fn an_end_of_the_users_sessions_does_not_restart_it() {
    let provider = TestProvider::start().await;
    let app = silent(&provider);
    let browser = app.open().await;
    let callback = is_tried(&browser, &provider).await;
    log_out(&browser, &provider, Named::Sub).await;
    let page = bring(&browser, &callback).await;
    returns(&page, "/");
    assert_eq!(page.set_cookies(), [""; 0]);
    is_never_tried_again(&browser).await;
    let expected = "the sessions of the user were ended while they signed in";
    assert_eq!(app.failures(), [expected]);
}

// ---- The app's events.

/// Sets this prompt, and refuses whoever signs in, if told so.
#[derive(Clone, Default)]
struct Rules {
    prompt: Option<&'static str>,
    max_age: Option<&'static str>,
    refuses: bool,
    log: Arc<Mutex<Vec<String>>>,
}

#[rocket::async_trait]
impl Events for Rules {
    async fn before_login_redirect(&self, request: &Request<'_>, login: &mut LoginRedirect<'_>) {
        // A guard on a route of the crate tries nothing.
        let visitor = <OptionalUser>::from_request(request).await.succeeded();
        locked(&self.log).push(format!("{} {:?}", visitor.is_some(), login.parameter("prompt")));
        if let Some(prompt) = self.prompt {
            login.set_parameter("prompt", prompt);
        }
        if let Some(max_age) = self.max_age {
            login.set_parameter("max_age", max_age);
        }
    }

    async fn after_authorize(&self, _: &Request<'_>, sign_in: &mut NewSignIn<'_>) -> Result<(), Refused> {
        locked(&self.log).push(format!("after_authorize {}", sign_in.subject()));
        if self.refuses { Err(Refused::new("no")) } else { Ok(()) }
    }
}

#[rocket::async_test]
async fn a_user_whom_the_app_refuses_sees_the_page_signed_out() {
    let provider = TestProvider::start().await;
    let rules = Rules {
        refuses: true,
        ..Rules::default()
    };
    let browser = Browser::open(silent(&provider).rocket_with(rules.clone())).await;
    let callback = is_tried(&browser, &provider).await;
    let page = bring(&browser, &callback).await;
    returns(&page, "/");
    assert_eq!(page.set_cookies(), [""; 0]);
    is_never_tried_again(&browser).await;
    assert_eq!(*locked(&rules.log), ["true Some(\"none\")", "after_authorize alice"]);
}

/// An event handler is part of a request to a route of the crate, to which nothing returns.
#[rocket::async_test]
async fn a_guard_in_an_event_handler_tries_nothing() {
    let provider = TestProvider::start().await;
    let browser = Browser::open(silent(&provider).rocket_with(Rules::default())).await;
    is_shown(&browser.visit("/").await);
    let page = browser.visit("/oidc/login").await;
    let location = page.redirects_to(&provider.issuer()).location.as_deref().unwrap();
    assert_eq!(parameter(location, "prompt"), None);
    bring(&browser, &provider.authorize(location)).await.redirects_to("/");
    browser.visit("/").await.sees("alice");
}

#[rocket::async_test]
async fn the_app_cannot_show_a_page_and_may_demand_a_new_authentication() {
    let provider = TestProvider::start().await;
    for prompt in ["consent", "select_account", "none consent", ""] {
        let rules = Rules {
            prompt: Some(prompt),
            ..Rules::default()
        };
        let browser = Browser::open(silent(&provider).rocket_with(rules)).await;
        drop(is_tried(&browser, &provider).await);
    }
    for (prompt, max_age) in [(Some("login"), None), (Some("consent login"), None), (None, Some("0"))] {
        let rules = Rules {
            prompt,
            max_age,
            ..Rules::default()
        };
        let browser = Browser::open(silent(&provider).rocket_with(rules)).await;
        is_shown(&browser.visit("/").await);
        returns(&browser.visit("/").await, LOGIN);
        returns(&browser.visit(LOGIN).await, "/");
        is_never_tried_again(&browser).await;
    }
}

/// What the settings ask of every sign-in is asked here too, except for a page.
#[rocket::async_test]
async fn the_settings_parameters_are_sent_and_checked() {
    let provider = TestProvider::start().await;
    let parameters = json!({ "prompt": "consent", "max_age": 300, "ui_locales": "de" });
    let app = silent(&provider).with("oidc.extra_authorization_parameters", parameters);
    let browser = app.open().await;
    is_shown(&browser.visit("/").await);
    browser.visit("/").await;
    let page = browser.visit(LOGIN).await;
    let location = page.location.unwrap();
    for (name, value) in [("prompt", "none"), ("max_age", "300"), ("ui_locales", "de")] {
        assert_eq!(parameter(&location, name).as_deref(), Some(value));
    }
    provider.on_id_token(|token| token.set("auth_time", NOW - 400));
    returns(&bring(&browser, &provider.authorize(&location)).await, "/");
    is_never_tried_again(&browser).await;
    assert_eq!(app.failures().len(), 1);
}

#[rocket::async_test]
async fn settings_that_contradict_it_abort_the_launch() {
    let provider = TestProvider::start().await;
    let app = silent(&provider).with("oidc.clear_site_data", "cookies");
    let (kind, lines) = launch_failure(app.rocket()).await;
    assert_eq!(kind, "failed fairings: OpenID Connect");
    assert!(lines[0].contains("oidc.clear_site_data`"), "{lines:?}");
}
