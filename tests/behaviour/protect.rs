//! `protect`: signed-out requests stop there, and signed-in ones see the routes as they are.

use std::sync::atomic::{AtomicUsize, Ordering};

use rocket::{
    Build, Data, Request, Rocket, Route, State, catch, catchers,
    fs::FileServer,
    get,
    http::{Method, Status},
    outcome::Outcome,
    post, route, routes,
    serde::json::json,
};
use rocket_openidconnect::{
    Bearer, Caller, LoggedIn, Oidc, Policy, User, protect, protect_bearer, protect_caller, protect_with, scopes,
};

use crate::{
    common::{App, Log, launch_failure},
    support::{Browser, TestProvider},
};

const CATCH_ALL: &str = "the catch-all route";
const UNAUTHORIZED: &str = "401 in the app's words";

/// How many requests reached a handler.
#[derive(Default)]
struct Reached(AtomicUsize);

#[get("/number/<number>", rank = 3, format = "text/plain")]
fn number(number: u32, reached: &State<Reached>) -> String {
    reached.0.fetch_add(1, Ordering::SeqCst);
    format!("the number {number}")
}

#[post("/number", data = "<body>")]
fn post_number(body: &str, reached: &State<Reached>) -> String {
    reached.0.fetch_add(1, Ordering::SeqCst);
    body.to_owned()
}

#[get("/<_..>", rank = 90)]
fn catch_all() -> &'static str {
    CATCH_ALL
}

#[catch(401)]
fn unauthorized() -> &'static str {
    UNAUTHORIZED
}

/// A route as another crate makes it: a plain function, that forwards on request.
fn foreign<'r>(request: &'r Request<'_>, data: Data<'r>) -> route::BoxFuture<'r> {
    Box::pin(async move {
        let reached = request.rocket().state::<Reached>().unwrap();
        reached.0.fetch_add(1, Ordering::SeqCst);
        match request.uri().query() {
            Some(_) => Outcome::forward(data, Status::ImATeapot),
            None => route::Outcome::from(request, "foreign"),
        }
    })
}

struct Admin;

impl Policy for Admin {
    async fn permits(user: &User, _request: &Request<'_>) -> bool {
        user.groups().contains(&"admin")
    }
}

fn files() -> FileServer {
    FileServer::from(concat!(env!("CARGO_MANIFEST_DIR"), "/docs"))
}

fn rocket(app: &App) -> Rocket<Build> {
    let foreign = Route::new(Method::Get, "/foreign", foreign);
    app.bare()
        .attach(Oidc::fairing().clock(app.clock()))
        .manage(Reached::default())
        .mount("/", protect(routes![number, post_number]))
        .mount("/", protect(vec![foreign.clone()]))
        .mount("/admin", protect_with::<Admin>(vec![foreign]))
        .mount("/", protect(files()))
        .register("/", catchers![unauthorized])
}

fn reached(browser: &Browser) -> usize {
    let reached = browser.client().rocket().state::<Reached>().unwrap();
    reached.0.load(Ordering::SeqCst)
}

const PATHS: [&str; 6] = [
    "/number/4",
    "/number/four",
    "/foreign?forward",
    "/admin/foreign",
    "/performance.md",
    "/there/is/no/such/file",
];

#[rocket::async_test]
async fn a_signed_out_request_never_reaches_a_handler() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = Browser::open(rocket(&app).mount("/", routes![catch_all])).await;
    for path in PATHS {
        let page = browser.fetch(path).await;
        page.is(Status::Unauthorized);
        assert_eq!(page.body, UNAUTHORIZED, "{path}");
    }
    let posted = browser.submit("/number", "7").await;
    posted.is(Status::Unauthorized);
    let head = browser.request(Method::Head, "/performance.md", &[], "").await;
    head.is(Status::Unauthorized);
    assert_eq!(reached(&browser), 0);
    // What nothing protected matches, is as it was.
    let put = browser.request(Method::Put, "/number", &[], "").await;
    put.is(Status::NotFound);
}

#[rocket::async_test]
async fn a_signed_out_page_load_redirects_to_sign_in_and_back() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = Browser::open(rocket(&app)).await;
    let page = browser.visit("/performance.md").await;
    page.redirects_to("/oidc/login?next=%2Fperformance.md");
    let page = browser.sign_in(&provider, "/performance.md").await;
    page.is(Status::Ok).sees("# ");
    assert_eq!(page.url, "/performance.md");
    assert_eq!(page.header("Cache-Control"), Some("no-store"));
}

#[rocket::async_test]
async fn signed_in_a_route_answers_and_forwards_as_without() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let protected = Browser::open(rocket(&app).mount("/", routes![catch_all])).await;
    protected.sign_in(&provider, "/number/4").await;
    let before = reached(&protected);

    let bare = app
        .bare()
        .attach(Oidc::fairing().clock(app.clock()))
        .manage(Reached::default())
        .mount("/", routes![number, post_number, catch_all])
        .mount("/", vec![Route::new(Method::Get, "/foreign", foreign)])
        .mount("/", files());
    let bare = Browser::open(bare).await;
    for path in PATHS.iter().filter(|path| **path != "/admin/foreign") {
        let (with, without) = (protected.fetch(path).await, bare.fetch(path).await);
        assert_eq!((with.status, &with.body), (without.status, &without.body), "{path}");
    }
    assert_eq!(protected.fetch("/number/four").await.body, CATCH_ALL);
    assert_eq!(protected.fetch("/foreign?forward").await.body, CATCH_ALL);
    assert_eq!(protected.fetch("/no/such/file").await.body, CATCH_ALL);
    assert_eq!(protected.submit("/number", "7").await.body, "7");
    assert_eq!(reached(&protected) - before, reached(&bare) + 2);
}

/// Without another route, the status of a forward is the answer's.
#[rocket::async_test]
async fn the_status_of_a_forward_is_kept() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let rocket = app
        .bare()
        .attach(Oidc::fairing().clock(app.clock()))
        .manage(Reached::default())
        .mount("/", protect(vec![Route::new(Method::Get, "/", foreign)]));
    let browser = Browser::open(rocket).await;
    browser.sign_in(&provider, "/").await.sees("foreign");
    browser.fetch("/?forward").await.is(Status::ImATeapot);
}

#[rocket::async_test]
async fn a_policy_accepts_some_users() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = Browser::open(rocket(&app)).await;
    provider.user_claims(json!({ "sub": "bob", "groups": ["users"] }));
    let page = browser.sign_in(&provider, "/admin/foreign").await;
    page.is(Status::Forbidden);
    assert_eq!(reached(&browser), 0);

    provider.user_claims(json!({ "sub": "ann", "groups": ["admin"] }));
    let admin = browser.another();
    let page = admin.sign_in(&provider, "/admin/foreign").await;
    page.is(Status::Ok).sees("foreign");
    assert_eq!(reached(&browser), 1);
}

#[test]
fn a_protected_route_keeps_its_name_method_uri_rank_and_format() {
    let shape = |route: &Route| {
        let uri = route.uri.to_string();
        let format = route.format.clone();
        (route.name.clone(), route.method, uri, route.rank, format)
    };
    let mut all = routes![number, post_number, catch_all];
    all.extend(Vec::<Route>::from(files()));
    let before: Vec<_> = all.iter().map(shape).collect();
    let after: Vec<_> = protect_with::<Admin>(protect(all)).iter().map(shape).collect();
    assert_eq!(before, after);
    assert_eq!(before[0].0.as_deref(), Some("number"));
    assert_eq!((before[0].3, before[3].3), (3, 10));
}

#[rocket::async_test]
async fn a_protected_route_keeps_its_sentinels() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let rocket = app.bare().attach(Oidc::fairing()).mount("/", protect(routes![number]));
    // `&State<Reached>` without the state.
    assert_eq!(launch_failure(rocket).await.0, "1 sentinels abort");
}

#[rocket::async_test]
async fn without_the_fairing_no_request_is_accepted() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let log = Log::listen();
    let rocket = app.bare().mount("/", protect(files()));
    let browser = Browser::open(rocket.mount("/", routes![catch_all])).await;
    let page = browser.visit("/performance.md").await;
    page.is(Status::InternalServerError);
    assert_eq!(
        log.lines(),
        [
            "ERROR: a route is protected, but this app has no sign-in",
            "INFO: attach `Oidc::fairing()`, without `resource_server_only`, or use `Bearer` in that route, or `protect_bearer`",
        ]
    );
}

scopes! {
    Read = "notes:read";
    Write = "notes:write";
    OfUnknown = "notes:read" for "unknown";
}

#[get("/token")]
fn token(token: Bearer) -> String {
    format!("{:?}", token.subject())
}

#[post("/token", data = "<body>")]
fn write(_token: Bearer<Write>, body: &str) -> String {
    body.to_owned()
}

#[get("/caller")]
fn caller(caller: Caller) -> String {
    match &caller {
        Caller::User(user) => format!("the user {}", user.subject()),
        Caller::Bearer(token) => format!("the client of {:?}", token.subject()),
    }
}

#[get("/mixed")]
fn mixed(_user: LoggedIn, _token: Bearer) -> &'static str {
    "both"
}

#[get("/anything")]
fn anything(reached: &State<Reached>) -> &'static str {
    reached.0.fetch_add(1, Ordering::SeqCst);
    "anything"
}

fn api(app: &App) -> Rocket<Build> {
    app.bare()
        .attach(Oidc::fairing().clock(app.clock()))
        .manage(Reached::default())
        .mount("/protected", protect(routes![token, mixed]))
        .mount("/bearer", protect_bearer::<Read>(routes![token, write, anything]))
        .mount("/caller", protect_caller::<Read>(routes![caller, anything]))
}

fn with_audience(provider: &TestProvider) -> App {
    App::client(provider).with("oidc.audience", "https://api.example.com")
}

fn access_token(provider: &TestProvider, scope: &str) -> String {
    provider.access_token(scope, |_| {})
}

async fn call(browser: &Browser, path: &str, token: &str) -> crate::support::Page {
    let authorization = format!("Bearer {token}");
    browser.fetch_with(path, &[("Authorization", &authorization)]).await
}

#[rocket::async_test]
async fn an_api_is_protected_by_the_challenges_of_its_guards() {
    let provider = TestProvider::start().await;
    let browser = Browser::open(api(&with_audience(&provider))).await;
    let good = access_token(&provider, "notes:read");
    for (path, seen) in [
        ("/bearer/token", "Some(\"alice\")"),
        ("/bearer/anything", "anything"),
        ("/caller/caller", "the client of Some(\"alice\")"),
        ("/caller/anything", "anything"),
    ] {
        call(&browser, path, &good).await.is(Status::Ok).sees(seen);
    }
    let before = reached(&browser);
    for path in ["/bearer/anything", "/caller/anything"] {
        // Each changes one thing.
        let narrow = call(&browser, path, &access_token(&provider, "notes:other")).await;
        narrow.is(Status::Forbidden);
        let challenge = narrow.header("WWW-Authenticate").unwrap();
        assert!(challenge.contains("error=\"insufficient_scope\""), "{challenge}");
        assert!(challenge.contains("scope=\"notes:read\""), "{challenge}");
        let forged = call(&browser, path, &format!("{}A", &good[..good.len() - 4])).await;
        forged.is(Status::Unauthorized);
        assert!(
            forged
                .header("WWW-Authenticate")
                .unwrap()
                .contains("error=\"invalid_token\"")
        );
        let none = browser.fetch(path).await;
        none.is(Status::Unauthorized);
        let challenge = none.header("WWW-Authenticate").unwrap();
        assert!(
            challenge.starts_with("Bearer") && !challenge.contains("error"),
            "{challenge}"
        );
    }
    assert_eq!(reached(&browser), before);
    // A guard in the signature demands more.
    let authorization = format!("Bearer {good}");
    let headers = [("Authorization", &*authorization)];
    let narrow = browser.request(Method::Post, "/bearer/token", &headers, "body").await;
    narrow.is(Status::Forbidden);
    let authorization = format!("Bearer {}", access_token(&provider, "notes:read notes:write"));
    let headers = [("Authorization", &*authorization)];
    let page = browser.request(Method::Post, "/bearer/token", &headers, "body").await;
    assert_eq!(page.is(Status::Ok).body, "body");
}

#[rocket::async_test]
async fn a_session_reaches_what_is_protected_for_callers_alone() {
    let provider = TestProvider::start().await;
    let browser = Browser::open(api(&with_audience(&provider))).await;
    browser.visit("/bearer/token").await.is(Status::Unauthorized);
    let page = browser.visit("/caller/caller").await;
    page.redirects_to("/oidc/login?next=%2Fcaller%2Fcaller");
    let page = browser.sign_in(&provider, "/caller/caller").await;
    page.is(Status::Ok).sees("the user alice");
    browser.fetch("/bearer/token").await.is(Status::Unauthorized);
    // With a header, only the token counts.
    call(&browser, "/caller/caller", "nonsense")
        .await
        .is(Status::Unauthorized);
}

#[rocket::async_test]
async fn a_token_at_a_route_for_users_is_logged() {
    const LINES: [&str; 2] = [
        "WARN: an access token was sent to a route in `protect`, or a guard in such a route demands one: it admits sessions only",
        "INFO: wrap routes of an API in `protect_bearer`, or in `protect_caller` if users call them too",
    ];
    let provider = TestProvider::start().await;
    let good = access_token(&provider, "notes:read");
    let browser = Browser::open(api(&with_audience(&provider))).await;
    let log = Log::listen();
    browser.fetch("/protected/token").await.is(Status::Unauthorized);
    assert_eq!(log.lines(), [] as [&str; 0]);
    for _ in 0..3 {
        call(&browser, "/protected/token", &good).await.is(Status::Unauthorized);
    }
    assert_eq!(log.lines(), LINES);

    // Signed in, where the guard in the signature has no token.
    let browser = Browser::open(api(&with_audience(&provider))).await;
    browser.sign_in(&provider, "/caller/caller").await.is(Status::Ok);
    let log = Log::listen();
    browser.fetch("/protected/token").await.is(Status::Unauthorized);
    assert_eq!(log.lines(), LINES);
}

#[rocket::async_test]
async fn what_a_protected_api_lacks_is_logged_at_liftoff() {
    let provider = TestProvider::start().await;
    let of_clients = protect_bearer::<OfUnknown>(routes![number, post_number]);
    let of_callers = protect_caller::<OfUnknown>(routes![number]);
    for (routes, guard) in [(of_clients, "Bearer"), (of_callers, "Bearer")] {
        let log = Log::listen();
        let rocket = with_audience(&provider).bare().attach(Oidc::fairing());
        let browser = Browser::open(rocket.manage(Reached::default()).mount("/", routes)).await;
        // Once for a list of routes.
        let lines = log.lines().into_iter();
        let lines: Vec<_> = lines.filter(|line| line.starts_with("ERROR")).collect();
        assert_eq!(lines.len(), 1, "{lines:#?}");
        let has_cause = lines[0].contains(guard) && lines[0].contains("but there is no API `oidc.apis.unknown`");
        assert!(has_cause, "{lines:#?}");
        browser.fetch("/number/4").await.is(Status::InternalServerError);
        assert_eq!(reached(&browser), 0);
    }
}

/// As those of guards in signatures, before the first request.
#[rocket::async_test]
async fn the_scopes_of_a_protected_api_are_in_its_metadata() {
    let provider = TestProvider::start().await;
    let rocket = with_audience(&provider).bare().attach(Oidc::fairing());
    let browser = Browser::open(rocket.mount("/", protect_bearer::<Read>(routes![foreign_page]))).await;
    let metadata = browser.fetch("/.well-known/oauth-protected-resource").await;
    let metadata: rocket::serde::json::Value = metadata.is(Status::Ok).json();
    assert_eq!(metadata["scopes_supported"], json!(["notes:read"]));
}

#[get("/page")]
fn foreign_page() -> &'static str {
    "a page"
}
