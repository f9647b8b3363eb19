//! Guards that read the session, and requests that pages of other origins send.

use rocket::{
    Build, Request, Rocket, catch, catchers, get,
    http::{Header, Method, Status},
    post, put, routes,
    serde::json::json,
};
use rocket_openidconnect::{
    Authorized, Bearer, Caller, Clock, LoggedIn, LoggedInError, NoSession, Oidc, OptionalUser, Policy, User, Visitor,
    protect, protect_with,
};

use crate::{
    common::{App, Log, NOW, launch_failure},
    support::{Browser, Page, TestProvider},
};

struct Anyone;

impl Policy for Anyone {
    async fn permits(_user: &User, _request: &Request<'_>) -> bool {
        true
    }
}

#[post("/logged-in")]
fn logged_in(user: LoggedIn) -> String {
    user.subject().to_owned()
}

#[put("/logged-in")]
fn put_logged_in(user: LoggedIn) -> String {
    user.subject().to_owned()
}

#[post("/optional")]
fn optional(visitor: OptionalUser) -> String {
    visitor.user().map_or("none", User::subject).to_owned()
}

#[post("/visitor")]
fn visitor(visitor: Visitor) -> String {
    visitor.user().map_or("none", User::subject).to_owned()
}

#[post("/authorized")]
fn authorized(user: Authorized<Anyone>) -> String {
    user.subject().to_owned()
}

#[post("/caller")]
fn caller(caller: Caller) -> String {
    caller.subject().unwrap_or_default().to_owned()
}

#[post("/bearer")]
fn bearer(token: Bearer) -> String {
    token.subject().unwrap_or_default().to_owned()
}

#[post("/protected")]
fn protected() -> &'static str {
    "alice"
}

#[post("/maybe")]
fn maybe(user: Option<LoggedIn>) -> String {
    user.map_or("none".to_owned(), |user| user.subject().to_owned())
}

#[post("/why")]
fn why(user: Result<LoggedIn, LoggedInError>) -> String {
    user.err().map(|error| error.to_string()).unwrap_or_default()
}

#[get("/socket")]
fn socket(user: LoggedIn) -> String {
    user.subject().to_owned()
}

#[get("/page")]
fn page(user: LoggedIn) -> String {
    user.subject().to_owned()
}

#[catch(403)]
fn forbidden(request: &Request<'_>) -> String {
    NoSession::of(request).map_or_else(|| "no reason".to_owned(), |reason| reason.reason().to_owned())
}

/// Every guard that reads the session.
const GUARDED: [&str; 7] = [
    "/logged-in",
    "/optional",
    "/visitor",
    "/authorized",
    "/caller",
    "/protected",
    "/protected-with/protected",
];

fn with_routes(rocket: Rocket<Build>) -> Rocket<Build> {
    rocket
        .mount(
            "/",
            routes![
                logged_in,
                put_logged_in,
                optional,
                visitor,
                authorized,
                caller,
                bearer,
                maybe,
                why
            ],
        )
        .mount("/", routes![socket, page])
        .mount("/api", routes![logged_in])
        .mount("/", protect(routes![protected]))
        .mount("/protected-with", protect_with::<Anyone>(routes![protected]))
        .register("/", catchers![forbidden])
}

async fn signed_in(app: &App, provider: &TestProvider) -> Browser {
    Browser::signed_in(with_routes(app.rocket()), provider).await
}

async fn send(browser: &Browser, method: Method, path: &str, headers: &[(&str, &str)]) -> Page {
    browser.request(method, path, headers, "").await
}

const SAME_ORIGIN: (&str, &str) = ("Sec-Fetch-Site", "same-origin");
const SAME_SITE: (&str, &str) = ("Sec-Fetch-Site", "same-site");
const CROSS_SITE: (&str, &str) = ("Sec-Fetch-Site", "cross-site");
const OWN: (&str, &str) = ("Origin", "http://localhost:8000");
const SIBLING: (&str, &str) = ("Origin", "http://blog.localhost:8000");
const NULL: (&str, &str) = ("Origin", "null");
const WEBSOCKET: (&str, &str) = ("Upgrade", "websocket");

#[rocket::async_test]
async fn every_guard_of_the_session_rejects_requests_of_other_origins() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with("oidc.audience", TestProvider::API);
    let browser = signed_in(&app, &provider).await;
    for path in GUARDED {
        for headers in [
            &[SAME_ORIGIN, OWN][..],
            &[SAME_ORIGIN, NULL],
            &[("Sec-Fetch-Site", "none")],
            &[OWN],
            &[],
        ] {
            let page = send(&browser, Method::Post, path, headers).await;
            assert_eq!((page.status, page.body.as_str()), (200, "alice"), "{path} {headers:?}");
        }
        for headers in [
            &[SAME_SITE, SIBLING][..],
            &[SAME_SITE],
            &[CROSS_SITE, ("Origin", "https://evil.example")],
            &[SIBLING],
            &[NULL],
            &[OWN, SIBLING],
            &[("Sec-Fetch-Site", "unknown"), OWN],
        ] {
            let page = send(&browser, Method::Post, path, headers).await;
            let found = (page.status, page.body.as_str());
            assert_eq!(found, (403, "cross_origin"), "{path} {headers:?}");
            assert_eq!(page.location, None);
            assert_eq!(page.set_cookies(), [""; 0]);
            // Whether the browser has a session or not.
            let page = send(&browser.another(), Method::Post, path, headers).await;
            assert_eq!(page.status, 403, "{path} {headers:?}");
        }
    }
    send(&browser, Method::Put, "/logged-in", &[SAME_SITE])
        .await
        .is(Status::Forbidden);
    // There is no user for a handler that goes on.
    let maybe = send(&browser, Method::Post, "/maybe", &[SAME_SITE]).await;
    assert_eq!(maybe.is(Status::Ok).body, "none");
    let why = send(&browser, Method::Post, "/why", &[SAME_SITE]).await;
    assert_eq!(why.is(Status::Ok).body, NoSession::CrossOrigin.to_string());
    // A link from another site still opens a page.
    for headers in [&[CROSS_SITE][..], &[SAME_SITE, SIBLING], &[NULL]] {
        assert_eq!(send(&browser, Method::Get, "/page", headers).await.body, "alice");
    }
    assert_eq!(browser.visit("/page").await.is(Status::Ok).body, "alice");
}

#[rocket::async_test]
async fn a_token_counts_whatever_page_sent_it() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with("oidc.audience", TestProvider::API);
    let browser = signed_in(&app, &provider).await;
    let token = format!("Bearer {}", provider.access_token("", |_| ()));
    for path in ["/bearer", "/caller"] {
        for headers in [[CROSS_SITE, ("Origin", "https://spa.example")], [SAME_SITE, SIBLING]] {
            let headers = [&headers[..], &[("Authorization", &token)]].concat();
            assert_eq!(
                send(&browser, Method::Post, path, &headers).await.is(Status::Ok).body,
                "alice"
            );
        }
    }
}

/// Chromium sends no `Sec-Fetch-Site` with the handshake.
#[rocket::async_test]
async fn a_websocket_of_another_origin_is_rejected() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with("oidc.allowed_origins./socket", ["https://admin.example.com"]);
    let browser = signed_in(&app, &provider).await;
    let listed = ("Origin", "https://admin.example.com");
    for headers in [
        &[WEBSOCKET, OWN][..],
        &[WEBSOCKET],
        &[WEBSOCKET, listed],
        &[WEBSOCKET, CROSS_SITE, listed],
    ] {
        assert_eq!(
            send(&browser, Method::Get, "/socket", headers)
                .await
                .is(Status::Ok)
                .body,
            "alice"
        );
    }
    for headers in [
        &[WEBSOCKET, SIBLING][..],
        &[WEBSOCKET, NULL],
        &[WEBSOCKET, OWN, OWN],
        &[("Upgrade", "h2c, WebSocket"), SIBLING],
        &[WEBSOCKET, SAME_SITE],
        &[WEBSOCKET, ("Accept", "text/html"), SIBLING],
    ] {
        send(&browser, Method::Get, "/socket", headers)
            .await
            .is(Status::Forbidden);
    }
    send(&browser, Method::Get, "/page", &[WEBSOCKET, listed])
        .await
        .is(Status::Forbidden);
}

#[rocket::async_test]
async fn the_settings_list_origins_for_a_path() {
    let provider = TestProvider::start().await;
    let listed = json!({ "/api": ["https://admin.example.com"] });
    let app = App::new(&provider).with("oidc.allowed_origins", listed);
    let browser = signed_in(&app, &provider).await;
    let admin = ("Origin", "https://admin.example.com");
    for headers in [&[SAME_SITE, admin][..], &[admin]] {
        assert_eq!(
            send(&browser, Method::Post, "/api/logged-in", headers).await.body,
            "alice"
        );
        send(&browser, Method::Post, "/logged-in", headers)
            .await
            .is(Status::Forbidden);
    }
    let other = ("Origin", "https://other.example.com");
    for headers in [&[SAME_SITE, other][..], &[SAME_SITE], &[NULL], &[admin, admin]] {
        send(&browser, Method::Post, "/api/logged-in", headers)
            .await
            .is(Status::Forbidden);
    }

    for (table, cause) in [
        (
            json!({ "/api": ["https://a.example/"] }),
            "/api` in (&str, &serde_json::value::Value): \"https://a.example/\" is not the origin of a page",
        ),
        (
            json!({ "/api": ["http://a.example"] }),
            "/api` in (&str, &serde_json::value::Value): \"http://a.example\" is not the origin of a page",
        ),
        (
            json!({ "/api": ["*"] }),
            "/api` in (&str, &serde_json::value::Value): \"*\" is not the origin of a page",
        ),
        (
            json!({ "/api": ["null"] }),
            "/api` in (&str, &serde_json::value::Value): \"null\" is not the origin of a page",
        ),
        (
            json!({ "/api": [] }),
            "/api` in (&str, &serde_json::value::Value): the list is empty",
        ),
        (
            json!({ "api": ["https://a.example"] }),
            "allowed_origins.api` in (&str, &serde_json::value::Value): \"api\" is not a path to mount at",
        ),
    ] {
        let app = App::new(&provider).with("oidc.allowed_origins", table);
        let (_, log) = launch_failure(app.rocket()).await;
        assert!(log.iter().any(|line| line.contains(cause)), "{log:#?}");
    }
}

/// It is not refreshed for a stranger's request either.
#[rocket::async_test]
async fn a_request_of_another_origin_causes_no_refresh() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = signed_in(&app, &provider).await;
    app.advance(std::time::Duration::from_secs(58 * 60));
    let before = provider.count("/token");
    send(&browser, Method::Post, "/logged-in", &[SAME_SITE])
        .await
        .is(Status::Forbidden);
    assert_eq!(provider.count("/token"), before);
    send(&browser, Method::Post, "/logged-in", &[SAME_ORIGIN])
        .await
        .is(Status::Ok);
    assert_eq!(provider.count("/token"), before + 1);
}

#[rocket::async_test]
async fn the_log_and_the_debug_page_have_cause_and_remedy() {
    let provider = TestProvider::start().await;
    let browser = signed_in(&App::new(&provider), &provider).await;
    for (headers, cause, remedy) in [
        (
            &[SAME_SITE, SIBLING][..],
            "`Sec-Fetch-Site` is `same-site` or `cross-site`: a page of another origin sent it",
            "if pages of that origin may act for the users of this app, list it in `oidc.allowed_origins`",
        ),
        (
            &[SIBLING],
            "its `Origin` is not that of `base_url`: a page of another origin sent it",
            "open the app at `oidc.base_url`, or list an origin whose pages may act for its users in `oidc.allowed_origins`",
        ),
        (
            &[NULL],
            "its `Origin` is `null`: the browser hides which page sent it",
            "give the page with the form another `Referrer-Policy` than `no-referrer`, such as `same-origin`",
        ),
        (
            &[SAME_ORIGIN, OWN, OWN],
            "its `Sec-Fetch-Site` or `Origin` is not as a browser sends it",
            "have the proxy in front of the app pass these headers on unchanged",
        ),
    ] {
        let log = Log::listen();
        send(&browser, Method::Post, "/logged-in", headers)
            .await
            .is(Status::Forbidden);
        let expected = [
            format!("WARN: a request was rejected: {cause}"),
            format!("INFO: {remedy}"),
        ];
        assert_eq!(log.lines(), expected);
        let mut request = browser.client().get("/oidc/debug");
        request.add_header(Header::new("Host", "localhost:8000"));
        let page = request.remote("127.0.0.1:50000".parse().unwrap()).dispatch().await;
        let page = page
            .into_string()
            .await
            .unwrap()
            .replace("&#x2F;", "/")
            .replace("&#96;", "`");
        assert!(page.contains("POST /logged-in"), "{page}");
        assert!(page.contains(cause), "{page}");
        assert!(page.contains(remedy), "{page}");
    }
}

/// While sign-in is disabled, `base_url` need not be that of the app.
#[rocket::async_test]
async fn the_testing_profile_is_behind_the_same_check() {
    let provider = TestProvider::start().await;
    let settings = json!({ "enabled": false, "testing_profile": { "sub": "alice" } });
    let app = App::new(&provider).with_all(settings);
    let browser = Browser::open(with_routes(app.rocket())).await;
    let host = ("Host", "dev.lan:8000");
    for headers in [&[host, OWN][..], &[host, ("Origin", "http://dev.lan:8000")], &[host]] {
        assert_eq!(
            send(&browser, Method::Post, "/logged-in", headers)
                .await
                .is(Status::Ok)
                .body,
            "alice"
        );
    }
    for headers in [&[host, ("Origin", "http://evil.lan:8000")][..], &[host, SAME_SITE]] {
        send(&browser, Method::Post, "/logged-in", headers)
            .await
            .is(Status::Forbidden);
    }
}

#[rocket::async_test]
async fn another_tenant_is_another_origin() {
    let (acme, beta) = (TestProvider::start().await, TestProvider::start().await);
    beta.set_time(NOW);
    let client = |provider: &TestProvider, host: &str| {
        json!({
            "issuer": provider.issuer(), "client_id": "app", "client_secret": "hush",
            "base_url": format!("http://{host}:8000"),
        })
    };
    let providers = json!({ "acme": client(&acme, "acme.example"), "beta": client(&beta, "beta.example") });
    let app = App::new(&acme)
        .with_all(json!({ "issuer": null, "client_id": null, "client_secret": null }))
        .with_all(json!({ "providers": providers }));
    let fairing = Oidc::fairing()
        .clock(Clock::fixed_at(NOW))
        .provider_for(|request: &Request<'_>| {
            let host = request.headers().get_one("Host")?;
            Some(host.split('.').next()?.to_owned())
        });
    let browser = Browser::open(with_routes(app.bare().attach(fairing))).await;
    let at = ("Host", "acme.example");
    let page = browser.visit_with("/oidc/login?next=/page", &[at]).await;
    let callback = acme.authorize(page.location.as_deref().unwrap());
    browser
        .visit_with(&callback.path_and_query(), &[at])
        .await
        .redirects_to("/page");

    let own = ("Origin", "http://acme.example:8000");
    let others = ("Origin", "http://beta.example:8000");
    for headers in [&[at, own][..], &[at, SAME_ORIGIN, own]] {
        assert_eq!(
            send(&browser, Method::Post, "/logged-in", headers)
                .await
                .is(Status::Ok)
                .body,
            "alice"
        );
    }
    let socket = send(&browser, Method::Get, "/socket", &[at, WEBSOCKET, own]).await;
    assert_eq!(socket.is(Status::Ok).body, "alice");
    for headers in [&[at, others][..], &[at, SAME_SITE, others], &[at, OWN]] {
        send(&browser, Method::Post, "/logged-in", headers)
            .await
            .is(Status::Forbidden);
        let headers = [headers, &[WEBSOCKET]].concat();
        send(&browser, Method::Get, "/socket", &headers)
            .await
            .is(Status::Forbidden);
    }
}
