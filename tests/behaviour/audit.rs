//! The audit log: an exact line for each event, and none for what it does not have.

use std::{net::SocketAddr, time::Duration};

use rocket::{
    Build, Request, Rocket,
    fairing::AdHoc,
    get,
    http::{Header, Status},
    routes,
    serde::json::{Value, json},
};
use rocket_openidconnect::{
    Authorized, Bearer, Claims, Events, Fresh, LoggedIn, NewSignIn, Policy, Refused, RelyingParty, User, scopes,
};

use crate::{
    common::{App, Log, NOW, frontchannel_logout, session_pages},
    support::{Browser, TestProvider},
};

scopes! { Read = "notes:read"; }

/// What every line of these tests begins with.
const TIME: &str = "2023-11-14T22:13:20Z";

struct Admins;

impl Policy for Admins {
    async fn permits(user: &User, _: &Request<'_>) -> bool {
        user.subject() == "root"
    }
}

#[get("/admin")]
fn admin(user: Authorized<Admins>) -> String {
    user.subject().to_owned()
}

#[get("/maybe-admin")]
fn maybe_admin(user: Option<Authorized<Admins>>) -> String {
    user.is_some().to_string()
}

#[get("/fresh")]
fn fresh(user: LoggedIn<Claims, Fresh<5>>) -> String {
    user.subject().to_owned()
}

#[get("/api")]
fn api(token: Bearer<Read>) -> String {
    token.subject().unwrap_or_default().to_owned()
}

#[get("/fresh-api")]
fn fresh_api(token: Bearer<Read, Claims, Fresh<5>>) -> String {
    token.subject().unwrap_or_default().to_owned()
}

#[get("/link/<provider>")]
fn link(user: LoggedIn, rp: &RelyingParty, provider: &str) -> String {
    rp.link(&user, provider).next("/session-id").to_string()
}

/// Refuses people who are blocked, and accounts that are taken.
struct Strict;

#[rocket::async_trait]
impl Events for Strict {
    async fn after_authorize(&self, _: &Request<'_>, sign_in: &mut NewSignIn<'_>) -> Result<(), Refused> {
        match sign_in.claims().get::<bool>("blocked") {
            Some(true) => Err(Refused::new("blocked")),
            _ => Ok(()),
        }
    }

    async fn account_linked(&self, _: &Request<'_>, _: &User, account: &NewSignIn<'_>) -> Result<(), Refused> {
        match account.claims().get::<bool>("taken") {
            Some(true) => Err(Refused::new("taken")),
            _ => Ok(()),
        }
    }
}

/// Requests come from this address, or from the one in the header `Peer`.
fn peer() -> AdHoc {
    AdHoc::on_request("Peer", |request, _| {
        Box::pin(async move {
            let peer = request.headers().get_one("Peer").unwrap_or("192.0.2.7:4711");
            request.set_remote(peer.parse::<SocketAddr>().unwrap());
        })
    })
}

fn rocket(app: &App) -> Rocket<Build> {
    app.rocket_with(Strict)
        .attach(peer())
        .mount("/", session_pages())
        .mount("/", routes![admin, maybe_admin, fresh, api, fresh_api, link])
}

/// An app with sessions in memory, and a browser before it.
async fn open(provider: &TestProvider) -> (App, Browser) {
    let app = App::local(provider)
        .with("oidc.session.store", "memory")
        .with("oidc.frontchannel_logout", true)
        .with("oidc.audience", TestProvider::API);
    let browser = Browser::open(rocket(&app)).await;
    (app, browser)
}

/// Signs `alice` in. Returns the name of the session.
async fn sign_in(browser: &Browser, provider: &TestProvider) -> String {
    let page = browser.sign_in(provider, "/oidc/login?next=/session-id").await;
    page.is(Status::Ok).body.clone()
}

/// The only provider's line about `alice`, or about no user.
fn line(event: &str, reason: &str, provider: &TestProvider, session: Option<&str>) -> String {
    let issuer = provider.issuer();
    let sub = match session {
        Some(_) => "\"alice\"",
        None => "null",
    };
    let session = session.map_or("null".to_owned(), |name| format!("\"{name}\""));
    format!(
        "{{\"time\":\"{TIME}\",\"event\":\"{event}\",\"reason\":\"{reason}\",\"provider\":\"default\",\
         \"issuer\":\"{issuer}\",\"sub\":{sub},\"session\":{session},\"address\":\"192.0.2.7\"}}"
    )
}

/// A line with further fields.
fn with(line: String, fields: &str) -> String {
    format!("{},{fields}}}", line.strip_suffix('}').unwrap())
}

#[rocket::async_test]
async fn a_sign_in_begins_and_succeeds() {
    let provider = TestProvider::start().await;
    let (_, browser) = open(&provider).await;
    let log = Log::listen();
    let id = sign_in(&browser, &provider).await;
    assert_eq!(
        log.audit_lines(),
        [
            with(
                line("sign_in_begun", "sign_in_begun", &provider, None),
                "\"purpose\":\"sign_in\""
            ),
            line("sign_in_succeeded", "signed_in", &provider, Some(&id)),
        ]
    );
    // A page of a signed-in user is no event.
    browser.visit("/me").await.is(Status::Ok);
    browser.visit("/").await.is(Status::Ok);
    assert_eq!(log.audit_lines(), [""; 0]);
}

#[rocket::async_test]
async fn a_session_ends_for_each_cause() {
    let provider = TestProvider::start().await;
    let (app, browser) = open(&provider).await;
    let log = Log::listen();
    let ended = |reason, id: &str| line("session_ended", reason, &provider, Some(id));

    let first = sign_in(&browser, &provider).await;
    log.audit_lines();
    let second = sign_in(&browser, &provider).await;
    assert_eq!(log.audit_lines()[1], ended("session_replaced", &first));
    browser.submit("/oidc/logout", "").await.redirects_to("/");
    browser.submit("/oidc/logout", "").await.redirects_to("/");
    assert_eq!(log.audit_lines(), [ended("signed_out", &second)]);

    // The app may do so in any request, or without one.
    let third = sign_in(&browser, &provider).await;
    log.audit_lines();
    browser.visit(&format!("/end/{third}")).await.is(Status::Ok);
    let by_app = ended("ended_by_app", &third).replace("\"192.0.2.7\"", "null");
    assert_eq!(log.audit_lines(), [by_app]);

    let fourth = sign_in(&browser, &provider).await;
    let token = provider.logout_token(|_| ());
    log.audit_lines();
    browser.post_logout_token(&token).await.is(Status::Ok);
    assert_eq!(log.audit_lines()[1], ended("backchannel_logout", &fourth));

    // A browser that signs in again and again is in a loop.
    let browser = browser.another();
    let fifth = sign_in(&browser, &provider).await;
    log.audit_lines();
    let sid = provider.logout_token(|_| ());
    let sid = sid.split('.').nth(1).map(|payload| {
        use base64::Engine;
        let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload);
        serde_json::from_slice::<Value>(&payload.unwrap()).unwrap()["sid"].clone()
    });
    let url = frontchannel_logout(&provider.issuer(), sid.unwrap().as_str().unwrap());
    browser.visit(&url).await.is(Status::Ok);
    assert_eq!(
        log.audit_lines(),
        [
            with(
                line("logout_accepted", "frontchannel_logout", &provider, None),
                "\"sessions\":1"
            ),
            ended("frontchannel_logout", &fifth),
        ]
    );

    let sixth = sign_in(&browser, &provider).await;
    log.audit_lines();
    app.advance(Duration::from_secs(60 * 60));
    browser.visit("/me").await.is(Status::SeeOther);
    browser.visit("/me").await.is(Status::SeeOther);
    let at = |line: String, time: &str| line.replace(TIME, time);
    assert_eq!(
        log.audit_lines(),
        [at(ended("session_idle", &sixth), "2023-11-14T23:13:20Z")]
    );
}

#[rocket::async_test]
async fn a_session_ends_at_its_limits_and_at_its_refresh() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with_all(json!({
        "session.store": "memory", "session.max_per_user": 1, "session.absolute_timeout": "20m",
        "session.idle_timeout": "20m",
    }));
    let browser = Browser::open(rocket(&app)).await;
    let log = Log::listen();
    let reasons = || -> Vec<(String, String)> {
        let lines = log.audit_lines().into_iter();
        let lines = lines.map(|line| serde_json::from_str::<Value>(&line).unwrap());
        let ended = lines.filter(|line| line["event"] == "session_ended");
        let text = |value: &Value| value.as_str().unwrap_or("null").to_owned();
        ended
            .map(|line| (text(&line["reason"]), text(&line["session"])))
            .collect()
    };
    let first = sign_in(&browser, &provider).await;
    let other = browser.another();
    let second = sign_in(&other, &provider).await;
    assert_eq!(reasons(), [("max_per_user".to_owned(), first)]);

    provider.revoke_refresh_tokens();
    app.advance(Duration::from_secs(285));
    other.visit("/me").await.is(Status::SeeOther);
    assert_eq!(reasons(), [("refresh_refused".to_owned(), second)]);

    let third = sign_in(&browser, &provider).await;
    app.advance(Duration::from_secs(20 * 60));
    browser.visit("/me").await.is(Status::SeeOther);
    assert_eq!(reasons(), [("session_expired".to_owned(), third)]);
}

#[rocket::async_test]
async fn a_failed_sign_in_has_the_error_id_of_its_page() {
    let provider = TestProvider::start().await;
    let (_, browser) = open(&provider).await;
    let callback = browser.begin_sign_in(&provider, "/me").await;
    let log = Log::listen();
    let path = callback.error("access_denied").path_and_query();
    let page = browser.arrive_from_provider(&path).await;
    let id = page.body.split("id=\"error-id\">").nth(1).unwrap();
    let id = id.split('<').next().unwrap();
    let failed = line("sign_in_failed", "access_denied", &provider, None);
    assert_eq!(log.audit_lines(), [with(failed, &format!("\"error_id\":\"{id}\""))]);
}

#[rocket::async_test]
async fn a_user_whom_the_app_refuses_is_named() {
    let provider = TestProvider::start().await;
    let (_, browser) = open(&provider).await;
    provider.user_claims(json!({ "sub": "alice", "blocked": true }));
    let callback = browser.begin_sign_in(&provider, "/me").await.path_and_query();
    let log = Log::listen();
    browser.arrive_from_provider(&callback).await.is(Status::Forbidden);
    let refused = line("sign_in_refused", "refused_by_app", &provider, None);
    assert_eq!(
        log.audit_lines(),
        [refused.replace("\"sub\":null", "\"sub\":\"alice\"")]
    );
}

#[rocket::async_test]
async fn an_account_is_linked_or_refused() {
    let (one, two) = (TestProvider::start().await, TestProvider::start().await);
    two.set_time(NOW);
    let table =
        |provider: &TestProvider| json!({ "issuer": provider.issuer(), "client_id": "app", "client_secret": "hush" });
    let app = App::local(&one)
        .with_all(json!({ "issuer": null, "client_id": null, "client_secret": null }))
        .with_all(json!({ "providers": { "one": table(&one), "two": table(&two) }, "session.store": "memory" }));
    let browser = Browser::open(rocket(&app)).await;
    let page = browser.sign_in(&one, "/oidc/login/one?next=/session-id").await;
    let id = page.is(Status::Ok).body.clone();
    let url = browser.visit("/link/two").await.body;
    let at = |provider: &str, line: String| line.replace("\"default\"", &format!("\"{provider}\""));

    let log = Log::listen();
    two.user_claims(json!({ "sub": "alice-at-two" }));
    let callback = browser.begin_sign_in(&two, &url).await.path_and_query();
    browser
        .arrive_from_provider(&callback)
        .await
        .redirects_to("/session-id");
    // The browser repeats the callback.
    browser
        .arrive_from_provider(&callback)
        .await
        .redirects_to("/session-id");
    let begun = line("sign_in_begun", "sign_in_begun", &two, None);
    let linked = line("account_linked", "account_linked", &one, Some(&id));
    let account = format!(
        "\"linked_provider\":\"two\",\"linked_issuer\":\"{}\",\"linked_sub\":\"alice-at-two\"",
        two.issuer()
    );
    assert_eq!(
        log.audit_lines(),
        [
            at("two", with(begun, "\"purpose\":\"link\"")),
            at("one", with(linked, &account))
        ]
    );

    two.user_claims(json!({ "sub": "bob", "taken": true }));
    let url = browser.visit("/link/two").await.body;
    browser.sign_in(&two, &url).await.is(Status::Forbidden);
    let refused = line("sign_in_refused", "refused_by_app", &two, None);
    let refused = refused.replace("\"sub\":null", "\"sub\":\"bob\"");
    assert_eq!(log.audit_lines()[1..], [at("two", refused)]);
}

#[rocket::async_test]
async fn a_guard_that_demands_more_is_an_event() {
    let provider = TestProvider::start().await;
    provider.on_id_token(|token| {
        token.set("auth_time", NOW - 600);
    });
    let (_, browser) = open(&provider).await;
    let id = sign_in(&browser, &provider).await;
    let log = Log::listen();
    let page = browser.visit("/fresh").await;
    let required = line(
        "step_up_required",
        "insufficient_user_authentication",
        &provider,
        Some(&id),
    );
    assert_eq!(log.audit_lines(), [with(required, "\"client_id\":null")]);
    browser.visit(page.location.as_deref().unwrap()).await;
    let begun = line("sign_in_begun", "sign_in_begun", &provider, None);
    assert_eq!(log.audit_lines(), [with(begun, "\"purpose\":\"step_up\"")]);
}

#[rocket::async_test]
async fn who_is_denied_is_known() {
    let provider = TestProvider::start().await;
    let (_, browser) = open(&provider).await;
    let log = Log::listen();
    // A stranger is denied nothing.
    browser.visit("/admin").await.is(Status::SeeOther);
    assert_eq!(log.audit_lines(), [""; 0]);
    let id = sign_in(&browser, &provider).await;
    log.audit_lines();
    browser.visit("/admin").await.is(Status::Forbidden);
    let denied = line("access_denied", "not_permitted", &provider, Some(&id));
    assert_eq!(log.audit_lines(), [with(denied, "\"client_id\":null")]);
    // A page that asks whether its user is permitted.
    assert_eq!(browser.visit("/maybe-admin").await.is(Status::Ok).body, "false");
    assert_eq!(log.audit_lines(), [""; 0]);

    let call = async |path: &str, token: String| {
        let authorization = format!("Bearer {token}");
        let client = browser.another();
        let page = client.fetch_with(path, &[("Authorization", &authorization)]).await;
        page.status
    };
    let of_token = |line: String| {
        let line = line
            .replace("\"default\"", "null")
            .replace("\"sub\":null", "\"sub\":\"alice\"");
        with(line, "\"client_id\":\"client-1\"")
    };
    let token = |scope: &str| {
        provider.access_token(scope, |token| {
            token.set("sub", "alice");
            token.set("client_id", "client-1");
            token.set("auth_time", NOW - 600);
        })
    };
    assert_eq!(call("/api", token("other")).await, 403);
    let denied = line("access_denied", "insufficient_scope", &provider, None);
    assert_eq!(log.audit_lines(), [of_token(denied)]);
    assert_eq!(call("/fresh-api", token("notes:read")).await, 401);
    let required = line("step_up_required", "insufficient_user_authentication", &provider, None);
    assert_eq!(log.audit_lines(), [of_token(required)]);
    // Accepted, and refused without knowing whose: any client can send any number.
    assert_eq!(call("/api", token("notes:read")).await, 200);
    let late = provider.access_token("notes:read", |token| token.set("exp", 1));
    assert_eq!(call("/api", late).await, 401);
    assert_eq!(call("/api", "of.no.token".to_owned()).await, 401);
    assert_eq!(log.audit_lines(), [""; 0]);
}

#[rocket::async_test]
async fn logouts_of_the_provider_are_accepted_or_rejected() {
    let provider = TestProvider::start().await;
    let (_, browser) = open(&provider).await;
    let id = sign_in(&browser, &provider).await;
    let token = provider.logout_token(|_| ());
    let log = Log::listen();
    browser.post_logout_token(&token).await.is(Status::Ok);
    let accepted = line("logout_accepted", "backchannel_logout", &provider, None);
    let accepted = with(accepted, "\"sessions\":1");
    let lines = log.audit_lines();
    let sub = |line: &str| line.replace("\"sub\":\"alice\"", "\"sub\":null");
    assert_eq!(sub(&lines[0]), accepted);
    assert_eq!(
        lines[1],
        line("session_ended", "backchannel_logout", &provider, Some(&id))
    );

    browser.post_logout_token(&token).await.is(Status::BadRequest);
    let rejected = |reason| line("logout_rejected", reason, &provider, None);
    assert_eq!(log.audit_lines(), [rejected("logout_token_replayed")]);
    let url = frontchannel_logout("https://elsewhere.example", "sid");
    browser.visit(&url).await.is(Status::BadRequest);
    assert_eq!(log.audit_lines(), [rejected("logout_of_another_issuer")]);
    let from = [("Sec-Fetch-Site", "cross-site")];
    let page = browser.request(rocket::http::Method::Post, "/oidc/logout", &from, "");
    page.await.is(Status::Forbidden);
    assert_eq!(log.audit_lines(), [rejected("sign_out_by_another_site")]);
}

/// The number is not known, and a line says so.
#[rocket::async_test]
async fn of_sessions_in_cookies_the_number_is_unknown() {
    let provider = TestProvider::start().await;
    let browser = Browser::open(rocket(&App::local(&provider))).await;
    sign_in(&browser, &provider).await;
    let token = provider.logout_token(|_| ());
    let log = Log::listen();
    browser.post_logout_token(&token).await.is(Status::Ok);
    let lines = log.audit_lines();
    assert_eq!(lines.len(), 2);
    assert!(
        lines[0].ends_with("\"address\":\"192.0.2.7\",\"sessions\":null}"),
        "{lines:#?}"
    );
    assert!(lines[1].contains("\"event\":\"session_ended\"") && lines[1].contains("\"session\":null"));
}

/// The header is a stranger's unless the peer is a proxy that the settings name.
#[rocket::async_test]
async fn the_address_is_the_peer_s_or_what_a_named_proxy_reports() {
    let provider = TestProvider::start().await;
    for (proxies, peer, reported, expected) in [
        (json!([]), "192.0.2.7:1", Some("198.51.100.1"), "192.0.2.7"),
        (
            json!(["192.0.2.0/24"]),
            "192.0.2.7:1",
            Some("198.51.100.1"),
            "198.51.100.1",
        ),
        (json!(["192.0.2.0/24"]), "192.0.2.7:1", None, "192.0.2.7"),
        (
            json!(["192.0.2.0/24"]),
            "203.0.113.1:1",
            Some("198.51.100.1"),
            "203.0.113.1",
        ),
        // Whole, other than for rate limits.
        (json!([]), "[2001:db8::1:2:3:4]:1", None, "2001:db8:0:0:1:2:3:4"),
        (json!([]), "[::ffff:192.0.2.9]:1", None, "192.0.2.9"),
    ] {
        let app = App::local(&provider).with("oidc.trusted_proxies", proxies);
        let browser = Browser::open(rocket(&app)).await;
        let log = Log::listen();
        let mut request = browser.client().get("/oidc/login").header(Header::new("Peer", peer));
        request.add_header(Header::new("Sec-Fetch-Mode", "navigate"));
        if let Some(reported) = reported {
            request.add_header(Header::new("X-Real-IP", reported));
        }
        assert_eq!(request.dispatch().await.status(), Status::SeeOther);
        let lines = log.audit_lines();
        let expected: std::net::IpAddr = expected.parse().unwrap();
        assert!(lines[0].contains(&format!("\"address\":\"{expected}\"")), "{lines:#?}");
    }
}

/// A user's name neither writes a line nor turns one around.
#[rocket::async_test]
async fn a_subject_forges_no_line() {
    let provider = TestProvider::start().await;
    let subject = "al\r\n{\"event\":\"\u{1b}[2K\u{202e}\u{2028}é";
    let long = subject.repeat(20);
    for subject in [subject, &long] {
        provider.user_claims(json!({ "sub": subject }));
        let (_, browser) = open(&provider).await;
        let log = Log::listen();
        sign_in(&browser, &provider).await;
        let lines = log.audit_lines();
        let succeeded = &lines[1];
        let object: Value = serde_json::from_str(succeeded).unwrap();
        assert_eq!(object["event"], "sign_in_succeeded");
        let named = object["sub"].as_str().unwrap();
        assert!(
            subject.starts_with(named) && named.len() >= subject.len().min(100),
            "{named}"
        );
        assert!(
            !succeeded.contains(char::is_control) && succeeded.len() < 600,
            "{succeeded}"
        );
        assert!(!succeeded.contains(['\u{2028}', '\u{202e}']));
    }
}

#[rocket::async_test]
async fn an_app_without_a_named_proxy_is_warned() {
    let provider = TestProvider::start().await;
    let warning = "WARN: any client can set its address in the header `x-real-ip` (Rocket's `ip_header`): no proxy is named that sets it";
    let released = || App::released(&provider);
    for (app, is_warned) in [
        (released(), true),
        (released().with("oidc.trusted_proxies", ["10.0.0.1"]), false),
        (released().with("ip_header", false), false),
        (App::new(&provider), false),
    ] {
        let log = Log::listen();
        app.open().await;
        let lines = log.lines();
        let warned = lines.iter().any(|line| line.eq_ignore_ascii_case(warning));
        assert_eq!(warned, is_warned, "{lines:#?}");
    }
}
