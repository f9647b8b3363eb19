//! Guards: who reaches a route, and what everybody else gets.

use std::{path::PathBuf, time::Duration};

use rocket::{
    Build, Config, Request, Rocket, State, catch, catchers,
    figment::Figment,
    fs::FileServer,
    get,
    http::{Header, Method, Status},
    post,
    request::{FromRequest, Outcome},
    response::Responder,
    routes,
    serde::json::{Json, Value, json},
};
use rocket_openidconnect::{Authorized, LoggedIn, NoSession, Oidc, OptionalUser, Policy, RelyingParty, User};
use serde::Deserialize;

use crate::{
    common::{App, Log, NOW, launch_failure},
    records::session_cookie,
    support::{Browser, Page, TestProvider},
};

const CATCH_ALL: &str = "the catch-all route";
const UNAUTHORIZED: &str = "401 in the app's words";
const PAGE: [(&str, &str); 2] = [("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "document")];

#[derive(Deserialize)]
struct Staff {
    email: String,
    groups: Vec<String>,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "is never there")]
struct WithBadge {
    badge: u32,
}

/// The group whose people are let in.
struct Doorkeeper(&'static str);

struct Admitted;

impl Policy for Admitted {
    async fn permits(user: &User, request: &Request<'_>) -> bool {
        let doorkeeper = request.rocket().state::<Doorkeeper>().unwrap();
        user.groups().contains(&doorkeeper.0)
    }
}

struct Never;

impl<C: Send + Sync> Policy<C> for Never {
    async fn permits(_: &User<C>, _: &Request<'_>) -> bool {
        false
    }
}

/// An answer with the app's own `Cache-Control`.
#[derive(Responder)]
struct Cached(String, Header<'static>);

#[get("/staff")]
fn staff(user: LoggedIn<Staff>) -> String {
    format!("{} of {}", user.claims().email, user.claims().groups.join("+"))
}

#[get("/badge")]
fn badge(_user: LoggedIn<WithBadge>) -> &'static str {
    "a badge"
}

#[get("/optional-badge")]
fn optional_badge(visitor: OptionalUser<WithBadge>) -> String {
    visitor.logged_in().to_string()
}

#[get("/maybe")]
fn maybe(user: Option<LoggedIn>) -> String {
    user.map_or_else(|| "nobody".into(), |user| user.subject().to_owned())
}

#[get("/own-401")]
fn own_401(user: Option<LoggedIn>) -> Result<String, Status> {
    let user = user.ok_or(Status::Unauthorized)?;
    Ok(user.subject().to_owned())
}

#[get("/other-401")]
fn other_401() -> Status {
    Status::Unauthorized
}

#[get("/public-401")]
fn public_401(_visitor: OptionalUser) -> Status {
    Status::Unauthorized
}

#[get("/why")]
fn why(user: Result<LoggedIn, rocket_openidconnect::LoggedInError>) -> String {
    match user {
        Ok(user) => user.subject().to_owned(),
        Err(error) => error.to_string(),
    }
}

#[get("/admitted")]
fn admitted(user: Authorized<Admitted>) -> String {
    format!("{} is admitted", user.subject())
}

#[get("/never")]
fn never(_user: Authorized<Never>) -> &'static str {
    "somebody"
}

#[get("/never-with-badge")]
fn never_with_badge(_user: Authorized<Never, WithBadge>) -> &'static str {
    "somebody"
}

#[get("/decisions.md")]
fn a_file(_user: Authorized<Never>) -> &'static str {
    "somebody"
}

#[get("/thrice")]
fn thrice(visitor: OptionalUser, user: LoggedIn, _same: Authorized<Admitted>) -> String {
    format!("{}, {}", visitor.logged_in(), user.subject())
}

#[get("/cached")]
fn cached(_visitor: OptionalUser) -> Cached {
    let header = Header::new("Cache-Control", "private, max-age=60");
    Cached("cached".into(), header)
}

#[get("/plain")]
fn plain() -> &'static str {
    "no guard"
}

#[post("/post")]
fn posted(user: LoggedIn) -> String {
    format!("{} posts", user.subject())
}

#[get("/token")]
async fn token(user: LoggedIn) -> String {
    match user.access_token() {
        Ok(token) => token.expose().to_owned(),
        Err(error) => error.to_string(),
    }
}

#[get("/refresh-token")]
fn refresh_token(user: LoggedIn) -> Option<String> {
    Some(user.refresh_token()?.expose().to_owned())
}

#[get("/debug")]
fn debug(user: LoggedIn, visitor: OptionalUser, rp: &RelyingParty) -> String {
    format!("{user:?} {visitor:?} {rp:?}")
}

#[get("/person")]
fn person(user: LoggedIn) -> Json<Value> {
    Json(json!({
        "subject": user.subject(),
        "issuer": user.issuer(),
        "name": user.name(),
        "email": user.email(),
        "email_verified": user.email_verified(),
        "groups": user.groups(),
        "age": user.claim::<u8>("age"),
        "user": *user,
    }))
}

#[get("/addresses?<next>")]
fn addresses(rp: &RelyingParty, next: &str) -> String {
    format!("{} {}", rp.login_url(next), rp.logout_url(next))
}

#[get("/<path..>", rank = 20)]
fn catch_all(path: PathBuf, _doorkeeper: &State<Doorkeeper>) -> &'static str {
    let _ = path;
    CATCH_ALL
}

#[catch(401)]
fn unauthorized() -> &'static str {
    UNAUTHORIZED
}

fn rocket(app: &App) -> Rocket<Build> {
    app.rocket()
        .manage(Doorkeeper("admin"))
        .mount("/", routes![staff, badge, optional_badge, maybe, own_401, other_401])
        .mount("/", routes![public_401, why, admitted, never, never_with_badge])
        .mount("/", routes![a_file, thrice, cached, plain, posted, token, person])
        .mount("/", routes![addresses, refresh_token, debug, catch_all])
        .mount("/", FileServer::from(concat!(env!("CARGO_MANIFEST_DIR"), "/docs")))
        .register("/", catchers![unauthorized])
}

async fn browser(provider: &TestProvider) -> Browser {
    Browser::open(rocket(&App::new(provider))).await
}

async fn signed_in(provider: &TestProvider) -> Browser {
    let browser = browser(provider).await;
    browser.sign_in(provider, "/me").await.is(Status::Ok);
    browser
}

async fn get(browser: &Browser, path: &str, headers: &[(&str, &str)]) -> Page {
    browser.request(Method::Get, path, headers, "").await
}

/// A signed-out visitor gets the app's own 401.
#[track_caller]
fn assert_401(page: &Page) {
    page.is(Status::Unauthorized);
    assert_eq!(page.body, UNAUTHORIZED);
    assert_eq!(page.location, None);
    assert_eq!(page.header("Cache-Control"), None);
}

#[rocket::async_test]
async fn a_page_load_is_sent_to_sign_in() {
    let provider = TestProvider::start().await;
    let browser = browser(&provider).await;
    let accepts = [("Accept", "application/xhtml+xml, text/html;q=0.9, */*;q=0.8")];
    let empty_purpose = [&PAGE[..], &[("Purpose", "")]].concat();
    for headers in [&PAGE[..], &accepts, &empty_purpose] {
        let page = get(&browser, "/me?a=b", headers).await;
        page.is(Status::SeeOther);
        assert_eq!(page.location.as_deref(), Some("/oidc/login?next=%2Fme%3Fa%3Db"));
        assert_eq!(page.header("Cache-Control"), Some("no-store"));
        assert_eq!(page.header("Content-Type"), None);
        assert_eq!(page.body, "");
    }
}

#[rocket::async_test]
async fn a_401_of_a_request_that_is_not_a_page_load_stays_a_401() {
    let provider = TestProvider::start().await;
    let browser = browser(&provider).await;
    let html = ("Accept", "text/html");
    for headers in [
        &[("Sec-Fetch-Mode", "cors"), ("Sec-Fetch-Dest", "empty"), html][..],
        &[("Sec-Fetch-Mode", "same-origin"), ("Sec-Fetch-Dest", "empty"), html],
        &[("Sec-Fetch-Mode", "no-cors"), ("Sec-Fetch-Dest", "image"), html],
        &[("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "iframe"), html],
        &[("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Dest", "object"), html],
        &[("Sec-Fetch-Mode", "websocket"), html],
        &[("Sec-Fetch-Mode", "navigate"), html],
        &[("Sec-Fetch-Dest", "document"), html],
        &[&PAGE[..], &[("Sec-Purpose", "prefetch"), html]].concat(),
        &[&PAGE[..], &[("Sec-Purpose", "prefetch;prerender")]].concat(),
        &[&PAGE[..], &[("Sec-Purpose", "prerender")]].concat(),
        &[&PAGE[..], &[("Purpose", "prefetch")]].concat(),
        &[&PAGE[..], &[("X-Purpose", "preview")]].concat(),
        &[&PAGE[..], &[("X-Moz", "prefetch")]].concat(),
        &[("Accept", "application/json")],
        &[("Accept", "*/*")],
        &[],
    ] {
        assert_401(&get(&browser, "/me", headers).await);
    }
    let page = browser.request(Method::Post, "/post", &PAGE, "").await;
    assert_401(&page);
}

#[rocket::async_test]
async fn a_head_request_is_answered_as_its_get() {
    let provider = TestProvider::start().await;
    let browser = browser(&provider).await;
    let page = browser.request(Method::Head, "/me", &PAGE, "").await;
    // Rocket shows a HEAD request to fairings as the GET that answers it.
    page.redirects_to("/oidc/login?next=%2Fme");
    assert_eq!(page.body, "");
}

#[rocket::async_test]
async fn an_optional_guard_runs_the_route_and_its_own_401_redirects_to_sign_in() {
    let provider = TestProvider::start().await;
    let browser = browser(&provider).await;
    assert_eq!(browser.visit("/maybe").await.is(Status::Ok).body, "nobody");
    let page = browser.visit("/own-401").await;
    page.redirects_to("/oidc/login?next=%2Fown-401");
    assert_401(&browser.fetch("/own-401").await);

    browser
        .sign_in(&provider, "/own-401")
        .await
        .is(Status::Ok)
        .sees("alice");
    assert_eq!(browser.visit("/maybe").await.is(Status::Ok).body, "alice");
}

#[rocket::async_test]
async fn a_401_that_no_guard_caused_stays_a_401() {
    let provider = TestProvider::start().await;
    let browser = browser(&provider).await;
    for path in ["/other-401", "/public-401"] {
        assert_401(&browser.visit(path).await);
    }
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    for path in ["/other-401", "/public-401"] {
        let page = browser.visit(path).await;
        page.is(Status::Unauthorized).sees(UNAUTHORIZED);
    }
}

#[rocket::async_test]
async fn a_guard_as_a_result_gives_the_reason() {
    let provider = TestProvider::start().await;
    let browser = browser(&provider).await;
    let page = browser.visit("/why").await;
    assert_eq!(page.is(Status::Ok).body, NoSession::Absent.to_string());
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    assert_eq!(browser.visit("/why").await.body, "alice");
}

#[rocket::async_test]
async fn the_apps_own_claims_type() {
    let provider = TestProvider::start().await;
    let browser = signed_in(&provider).await;
    let page = browser.visit("/staff").await;
    assert_eq!(page.is(Status::Ok).body, "alice@example.com of users+admin");
}

#[rocket::async_test]
async fn claims_that_do_not_fit_are_a_500_and_no_way_to_sign_in() {
    let provider = TestProvider::start().await;
    let browser = browser(&provider).await;
    let page = browser.visit("/badge").await;
    page.redirects_to("/oidc/login?next=%2Fbadge");

    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    let log = Log::listen();
    let page = browser.visit("/badge").await;
    page.is(Status::InternalServerError);
    assert_eq!(page.location, None);
    let claims = std::any::type_name::<WithBadge>();
    assert_eq!(
        log.lines(),
        [
            format!("ERROR: the claims of a signed-in user do not deserialize into `{claims}`: missing field `badge`"),
            "INFO: make the claim optional in that type, or have the provider send it".into(),
        ]
    );

    let page = browser.visit("/optional-badge").await;
    assert_eq!(page.is(Status::Ok).body, "false");
    browser.visit("/never-with-badge").await.is(Status::InternalServerError);
}

/// A guard of the app's own, which asks one of ours.
struct Member;

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Member {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Member, ()> {
        let user = request.guard::<LoggedIn>().await;
        user.map(|_| Member).map_error(|(status, _)| (status, ()))
    }
}

#[get("/members")]
fn members(_member: Member) -> &'static str {
    "among members"
}

#[rocket::async_test]
async fn a_guard_behind_a_guard_says_that_the_fairing_is_missing() {
    let figment = Figment::from(Config::debug_default()).merge(("log_level", "off"));
    let browser = Browser::open(rocket::custom(figment).mount("/", routes![members])).await;
    let log = Log::listen();
    let page = browser.visit("/members").await;
    page.is(Status::Unauthorized);
    assert_eq!(
        log.lines(),
        [
            "ERROR: a guard needs a session, but the fairing `Oidc` is not attached or \
             `oidc.resource_server_only` is set",
            "INFO: add `.attach(rocket_openidconnect::Oidc::fairing())`, or remove the setting",
        ]
    );
}

#[rocket::async_test]
async fn optional_user_is_logged_in_and_user() {
    let provider = TestProvider::start().await;
    let browser = browser(&provider).await;
    let page = browser.visit("/").await;
    assert_eq!(page.json::<Value>(), json!({ "logged_in": false, "user": null }));
    assert_eq!(page.header("Cache-Control"), None);

    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    let page = browser.visit("/").await;
    let visitor: Value = page.json();
    assert_eq!(visitor["logged_in"], true);
    assert_eq!(visitor["user"]["sub"], "alice");
    assert_eq!(visitor.as_object().unwrap().len(), 2);
}

#[rocket::async_test]
async fn a_policy_refuses_with_403_and_reads_managed_state() {
    let provider = TestProvider::start().await;
    let browser = browser(&provider).await;
    browser
        .visit("/admitted")
        .await
        .redirects_to("/oidc/login?next=%2Fadmitted");
    assert_401(&browser.fetch("/admitted").await);

    let page = browser.sign_in(&provider, "/admitted").await;
    assert_eq!(page.is(Status::Ok).body, "alice is admitted");
    let page = browser.visit("/never").await;
    page.is(Status::Forbidden);
    assert_eq!(page.location, None);

    provider.user_claims(json!({ "sub": "bob", "groups": ["users"] }));
    let bob = browser.another();
    bob.sign_in(&provider, "/admitted").await.is(Status::Forbidden);
}

/// Forwarding would let a route of a higher rank answer.
#[rocket::async_test]
async fn a_guard_that_refuses_does_not_forward() {
    let provider = TestProvider::start().await;
    let browser = browser(&provider).await;
    browser.visit("/elsewhere").await.is(Status::Ok).sees(CATCH_ALL);
    for path in ["/me", "/badge", "/admitted", "/decisions.md"] {
        assert_401(&browser.fetch(path).await);
    }
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    browser
        .fetch("/badge")
        .await
        .is(Status::InternalServerError)
        .sees_no(CATCH_ALL);
    for path in ["/never", "/decisions.md"] {
        let page = browser.fetch(path).await;
        page.is(Status::Forbidden).sees_no(CATCH_ALL).sees_no("openidconnect");
    }
}

#[rocket::async_test]
async fn guards_of_one_request_read_the_session_once() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    let browser = Browser::open(rocket(&app)).await;
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    app.advance(Duration::from_secs(360));
    let page = browser.visit("/thrice").await;
    assert_eq!(page.is(Status::Ok).body, "true, alice");
    assert_eq!(page.set_cookies().len(), 1, "{page:#?}");
}

#[rocket::async_test]
async fn an_answer_to_a_signed_in_person_is_not_stored() {
    let provider = TestProvider::start().await;
    let browser = browser(&provider).await;
    assert_eq!(browser.visit("/maybe").await.header("Cache-Control"), None);
    let own = Some("private, max-age=60");
    assert_eq!(browser.visit("/cached").await.header("Cache-Control"), own);

    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    for path in ["/me", "/maybe", "/", "/never", "/badge"] {
        let page = browser.visit(path).await;
        assert_eq!(page.header("Cache-Control"), Some("no-store"), "{path}");
    }
    assert_eq!(browser.visit("/cached").await.header("Cache-Control"), own);
    assert_eq!(browser.visit("/plain").await.header("Cache-Control"), None);
}

/// A cache that kept it would hand one person's session to another.
#[rocket::async_test]
async fn an_answer_that_renews_a_session_is_not_stored_whatever_the_app_says() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    let browser = Browser::open(rocket(&app)).await;
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    app.advance(Duration::from_secs(360));
    let page = browser.visit("/cached").await;
    assert_eq!(page.set_cookies().len(), 1, "{page:#?}");
    assert_eq!(page.header("Cache-Control"), Some("no-store"));
    let page = browser.visit("/cached").await;
    assert_eq!(page.set_cookies(), [""; 0]);
    assert_eq!(page.header("Cache-Control"), Some("private, max-age=60"));
}

#[rocket::async_test]
async fn a_guard_without_the_fairing_aborts_the_launch() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    for (routes, guard) in [
        (routes![staff], "logged_in::LoggedIn<behaviour::guards::Staff>"),
        (routes![maybe], "logged_in::LoggedIn"),
        (routes![cached], "optional_user::OptionalUser"),
        (routes![admitted], "authorized::Authorized<behaviour::guards::Admitted>"),
        (routes![addresses], "rocket_openidconnect::relying_party::RelyingParty"),
    ] {
        let (kind, lines) = launch_failure(app.bare().mount("/", routes)).await;
        assert_eq!(kind, "1 sentinels abort", "{guard}");
        assert_eq!(lines.len(), 2);
        assert!(lines[0].contains(guard), "{guard}: {lines:?}");
        assert!(
            lines[0].ends_with("` is used in a route, but the fairing `Oidc` is not attached"),
            "{lines:?}"
        );
        assert_eq!(lines[1], "INFO: add `.attach(rocket_openidconnect::Oidc::fairing())`");
    }
    let without = app.bare().mount("/", routes![plain]).ignite().await;
    assert!(without.is_ok());
    let rocket = app.bare().attach(Oidc::fairing()).mount("/", routes![staff]);
    assert!(rocket.ignite().await.is_ok());
}

#[rocket::async_test]
async fn a_user_serializes_as_claims_without_tokens() {
    let provider = TestProvider::start().await;
    let browser = signed_in(&provider).await;
    let access_token = browser.visit("/token").await.body;
    assert!(access_token.starts_with("at-"), "{access_token}");
    for path in ["/me", "/", "/person"] {
        let page = browser.visit(path).await;
        page.is(Status::Ok).sees("alice@example.com");
        page.sees_no(&access_token).sees_no("rt-").sees_no("_token");
    }
}

#[rocket::async_test]
async fn debug_shows_no_token_and_no_secret() {
    let provider = TestProvider::start().await;
    let browser = signed_in(&provider).await;
    let page = browser.visit("/debug").await;
    page.is(Status::Ok).sees("alice@example.com");
    let session = session_cookie(&browser);
    for path in ["/token", "/refresh-token"] {
        let token = browser.visit(path).await.is(Status::Ok).body.clone();
        assert!(token.starts_with("at-") || token.starts_with("rt-"));
        page.sees_no(&token);
    }
    page.sees_no("hush").sees_no(session.value());
}

#[rocket::async_test]
async fn a_refresh_token_is_there_if_the_provider_gave_one() {
    let provider = TestProvider::start().await;
    let browser = signed_in(&provider).await;
    browser.visit("/refresh-token").await.is(Status::Ok);
    provider.on_token_response(|reply| reply.remove("refresh_token"));
    let other = browser.another();
    other.sign_in(&provider, "/me").await.is(Status::Ok);
    other.visit("/refresh-token").await.is(Status::NotFound);
}

#[rocket::async_test]
async fn an_access_token_ends_by_the_clock() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    let browser = Browser::open(rocket(&app)).await;
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    app.advance(Duration::from_secs(299));
    assert!(browser.visit("/token").await.body.starts_with("at-"));
    app.advance(Duration::from_secs(1));
    assert_eq!(
        browser.visit("/token").await.is(Status::Ok).body,
        format!("the access token expired at {} (seconds since 1970)", NOW + 300)
    );
}

#[rocket::async_test]
async fn a_person_as_the_provider_describes_them() {
    let provider = TestProvider::start().await;
    let browser = browser(&provider).await;
    for (email_verified, is_verified) in [
        (json!(true), true),
        (json!("true"), true),
        (json!(false), false),
        (json!("false"), false),
        (json!("TRUE"), false),
        (json!(1), false),
        (json!(null), false),
    ] {
        provider.user_claims(json!({ "sub": "bob", "email_verified": email_verified }));
        let bob = browser.another();
        let person: Value = bob.sign_in(&provider, "/person").await.is(Status::Ok).json();
        assert_eq!(person["email_verified"], is_verified, "{email_verified}");
    }
    for (groups, expected) in [
        (json!(["a", "b"]), json!(["a", "b"])),
        (json!("a b"), json!(["a b"])),
        (json!(["a", 1, null]), json!(["a"])),
        (json!({ "a": 1 }), json!([])),
        (json!(null), json!([])),
    ] {
        provider.user_claims(json!({ "sub": "bob", "groups": groups }));
        let bob = browser.another();
        let person: Value = bob.sign_in(&provider, "/person").await.is(Status::Ok).json();
        assert_eq!(person["groups"], expected, "{groups}");
    }

    provider.user_claims(json!({ "sub": "carol", "name": 7, "age": 300 }));
    let carol = browser.another();
    let person: Value = carol.sign_in(&provider, "/person").await.is(Status::Ok).json();
    assert_eq!(person["subject"], "carol");
    assert_eq!(person["issuer"], json!(provider.issuer()));
    assert_eq!(person["name"], Value::Null);
    assert_eq!(person["email"], Value::Null);
    assert_eq!(person["age"], Value::Null);
}

#[rocket::async_test]
async fn the_relying_party_returns_the_addresses() {
    let provider = TestProvider::start().await;
    let browser = browser(&provider).await;
    for (next, kept) in [
        ("/me%3Fa=b%26c", "%2Fme%3Fa%3Db%26c"),
        ("https://evil.example", "%2F"),
        ("/oidc/logout", "%2F"),
    ] {
        let page = browser.visit(&format!("/addresses?next={next}")).await;
        assert_eq!(
            page.is(Status::Ok).body,
            format!("/oidc/login?next={kept} /oidc/logout?next={kept}")
        );
    }
}
