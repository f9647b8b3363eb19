//! What scripts of the app learn about the session, and that they change nothing by asking; and the script itself.

use std::time::Duration;

use aws_lc_rs::digest::{SHA384, digest};
use base64::{Engine, engine::general_purpose::STANDARD};
use rocket::{
    Build, Request, Response, Rocket,
    fairing::AdHoc,
    get,
    http::{Cookie, Header, Method, Status},
    routes,
    serde::json::{Value, json},
};
use rocket_openidconnect::{LoggedIn, Oidc, ProviderFor, RelyingParty};

use crate::{
    common::{App, Log, NOW, assert_signed_out, launch_failure, sign_out_unrecorded, signed_in},
    records::{DUE, give_cookies, session_cookies},
    support::{Browser, Page, Reply, TestProvider, TestStore},
};

const ME: &str = "/oidc/me";
const HOUR: i64 = 60 * 60;

fn app(provider: &TestProvider) -> App {
    App::new(provider).with("oidc.me_claims", "name email")
}

fn local(provider: &TestProvider) -> App {
    app(provider).local_only()
}

async fn me(browser: &Browser) -> Value {
    let page = browser.fetch(ME).await;
    page.is(Status::Ok).json()
}

fn signed_out() -> Value {
    json!({ "logged_in": false, "login_url": "/oidc/login" })
}

/// Every response has them, whatever it says.
#[track_caller]
fn is_private(page: &Page) {
    for (name, expected) in [
        ("Cache-Control", "private, no-store"),
        ("Vary", "Cookie"),
        ("X-Content-Type-Options", "nosniff"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
    ] {
        assert_eq!(page.header_values(name), [expected], "{page:#?}");
    }
    let of_cors = |(name, _): &&(String, String)| name.to_ascii_lowercase().starts_with("access-control-");
    assert_eq!(page.headers.iter().find(of_cors), None);
    assert_eq!(page.set_cookies(), [""; 0]);
}

#[rocket::async_test]
async fn a_page_learns_who_is_signed_in_and_until_when() {
    for store in ["cookie", "memory"] {
        let provider = TestProvider::start().await;
        provider.user_claims(
            json!({ "sub": "alice", "name": "Alice", "email": "alice@example.com", "ssn": "078-05-1120" }),
        );
        let app = app(&provider).with("oidc.session.store", store);
        let browser = app.open().await;
        let page = browser.fetch(ME).await;
        is_private(page.is(Status::Ok));
        assert_eq!(page.header("Content-Type"), Some("application/json"));
        assert_eq!(page.json::<Value>(), signed_out());

        browser.sign_in(&provider, "/me").await.is(Status::Ok);
        let page = browser.fetch(ME).await;
        is_private(page.is(Status::Ok));
        // By the clock of the app.
        assert_eq!(page.header("Date"), Some("Tue, 14 Nov 2023 22:13:20 GMT"));
        let mut me: Value = page.json();
        let key = me["user_key"].take();
        assert!(key.as_str().is_some_and(|key| key.len() == 22), "{key}");
        assert_eq!(
            me,
            json!({
                "logged_in": true,
                "login_url": "/oidc/login",
                "logout_url": "/oidc/logout",
                "user": { "name": "Alice", "email": "alice@example.com" },
                "user_key": null,
                "ends_at": NOW + 12 * HOUR,
                "idle_ends_at": NOW + HOUR,
            })
        );
        let head = browser
            .request(Method::Head, ME, &[("Sec-Fetch-Site", "same-origin")], "")
            .await;
        is_private(head.is(Status::Ok));
        assert_eq!(head.body, "");
    }
}

#[rocket::async_test]
async fn without_the_setting_there_is_neither_route_nor_script() {
    let provider = TestProvider::start().await;
    let browser = signed_in(&App::local(&provider), &provider).await;
    for path in [ME, "/oidc/session.js"] {
        browser.fetch(path).await.is(Status::NotFound);
    }
    let rp = browser.client().rocket().state::<RelyingParty>().unwrap();
    assert_eq!(rp.script_tag(), None);
    // And with it, no claim need be there.
    let browser = signed_in(&App::local(&provider).with("oidc.me_claims", ""), &provider).await;
    assert_eq!(me(&browser).await["user"], json!({}));
}

#[rocket::async_test]
async fn a_claim_that_sessions_do_not_keep_aborts_the_launch() {
    let provider = TestProvider::start().await;
    for (claims, kept) in [("name nonce", None), ("name phone", Some("name"))] {
        let mut app = App::new(&provider).with("oidc.me_claims", claims);
        if let Some(kept) = kept {
            app = app.with("oidc.session.claims", kept);
        }
        let (_, lines) = launch_failure(app.rocket()).await;
        let missing = claims.split(' ').nth(1).unwrap();
        assert!(
            lines[0].ends_with(&format!("sessions do not keep the claim {missing:?}")),
            "{lines:#?}"
        );
        assert_eq!(
            lines[1],
            "INFO: add it to `session.claims`, or remove it from `me_claims`"
        );
    }
    App::new(&provider)
        .with("oidc.me_claims", "name sub")
        .with("oidc.session.claims", "name")
        .open()
        .await;
}

// ---- Asking changes nothing.

#[rocket::async_test]
async fn asking_is_no_use_of_the_session() {
    for store in ["cookie", "memory"] {
        let provider = TestProvider::start().await;
        let app = local(&provider).with("oidc.session.store", store);
        let browser = signed_in(&app, &provider).await;
        let before = browser.cookies();
        for _ in 0..5 {
            app.advance(Duration::from_secs(11 * 60));
            let page = browser.fetch(ME).await;
            is_private(&page);
            assert_eq!(page.json::<Value>()["idle_ends_at"], NOW + HOUR);
        }
        assert_eq!(browser.cookies(), before);
        app.advance(Duration::from_secs(5 * 60));
        assert_eq!(me(&browser).await, signed_out());
        assert_signed_out(&browser).await;

        // A guard does what asking does not.
        let browser = signed_in(&app, &provider).await;
        let began = me(&browser).await["idle_ends_at"].as_i64().unwrap();
        app.advance(Duration::from_secs(11 * 60));
        browser.fetch("/me").await.is(Status::Ok);
        assert_eq!(me(&browser).await["idle_ends_at"], began + 11 * 60, "{store}");
    }
}

#[rocket::async_test]
async fn asking_refreshes_nothing() {
    for store in ["cookie", "memory"] {
        let provider = TestProvider::start().await;
        let app = app(&provider).with("oidc.session.store", store);
        let browser = signed_in(&app, &provider).await;
        let before = browser.cookies();
        app.advance(DUE);
        for _ in 0..3 {
            is_private(browser.fetch(ME).await.is(Status::Ok));
        }
        assert_eq!((provider.count("/token"), browser.cookies()), (1, before));
        browser.fetch("/me").await.is(Status::Ok);
        assert_eq!(provider.count("/token"), 2);
    }
}

/// The older cookie reads the newer session, and the browser gets that from a request that uses it.
#[rocket::async_test]
async fn an_older_copy_reads_the_newest_session_and_is_not_replaced() {
    let provider = TestProvider::start().await;
    let app = app(&provider);
    let browser = signed_in(&app, &provider).await;
    let older = session_cookies(&browser);
    app.advance(DUE);
    browser.fetch("/me").await.is(Status::Ok);
    let newest = browser.fetch(ME).await;
    give_cookies(&browser, &older);
    let page = browser.fetch(ME).await;
    is_private(page.is(Status::Ok));
    assert_eq!(page.header("ETag"), newest.header("ETag"));
    assert_eq!(session_cookies(&browser), older);
}

/// A fairing that is attached later asks who it is when the response is made.
#[rocket::async_test]
async fn neither_does_a_guard_of_the_same_request() {
    async fn ask(request: &Request<'_>) {
        let _ = request.guard::<LoggedIn>().await;
    }

    let provider = TestProvider::start().await;
    let app = app(&provider);
    let asks = AdHoc::on_response("asks", |request, _: &mut Response<'_>| Box::pin(ask(request)));
    let browser = Browser::signed_in(app.rocket().attach(asks), &provider).await;
    app.advance(DUE);
    is_private(browser.fetch(ME).await.is(Status::Ok));
    assert_eq!(provider.count("/token"), 1);
}

/// A guard would answer 401 without asking the provider again, and so does a page learn.
#[rocket::async_test]
async fn a_session_whose_provider_wants_the_user_is_none() {
    let provider = TestProvider::start().await;
    let app = app(&provider);
    let browser = signed_in(&app, &provider).await;
    app.advance(DUE);
    assert_eq!(me(&browser).await["logged_in"], true);
    provider.on_refresh_response(|reply| *reply = Reply::error(400, "interaction_required", ""));
    browser.fetch("/me").await.is(Status::Unauthorized);
    assert_eq!(me(&browser).await, signed_out());
}

// ---- The entity tag.

fn tag(page: &Page) -> String {
    page.header("ETag").unwrap().to_owned()
}

#[rocket::async_test]
async fn what_has_not_changed_is_not_sent_again() {
    let provider = TestProvider::start().await;
    let app = local(&provider);
    let browser = signed_in(&app, &provider).await;
    let first = tag(&browser.fetch(ME).await);
    app.advance(Duration::from_secs(60));
    for listed in [
        first.clone(),
        format!("\"other\", {first}"),
        // A proxy has compressed the response.
        format!("W/{first}"),
        "*".to_owned(),
    ] {
        let page = browser.fetch_with(ME, &[("If-None-Match", &listed)]).await;
        is_private(page.is(Status::NotModified));
        assert_eq!((&*page.body, tag(&page)), ("", first.clone()));
        assert_eq!(page.header("Date"), Some("Tue, 14 Nov 2023 22:14:20 GMT"));
    }
    for listed in ["\"other\"", "", "W/", &first[..5], &first[1..first.len() - 1]] {
        browser
            .fetch_with(ME, &[("If-None-Match", listed)])
            .await
            .is(Status::Ok);
    }
}

#[rocket::async_test]
async fn each_session_each_generation_and_each_state_has_a_tag_of_its_own() {
    let provider = TestProvider::start().await;
    let app = app(&provider);
    let browser = app.open().await;
    let mut tags = vec![tag(&browser.fetch(ME).await)];
    browser.sign_in(&provider, "/me").await;
    tags.push(tag(&browser.fetch(ME).await));
    // The same user, at the same second.
    let another = browser.another();
    another.sign_in(&provider, "/me").await;
    assert_eq!(me(&another).await, me(&browser).await);
    tags.push(tag(&another.fetch(ME).await));
    app.advance(DUE);
    browser.fetch("/me").await.is(Status::Ok);
    tags.push(tag(&browser.fetch(ME).await));
    app.advance(Duration::from_secs(7 * 60));
    browser.fetch("/").await.is(Status::Ok);
    tags.push(tag(&browser.fetch(ME).await));
    for (i, tag) in tags.iter().enumerate() {
        assert!(!tags[..i].contains(tag), "{tags:?}");
    }
    // The state before is none of the state after.
    let page = browser.fetch_with(ME, &[("If-None-Match", &tags[1])]).await;
    page.is(Status::Ok);
    browser.forget_cookies();
    assert_eq!(tag(&browser.fetch(ME).await), tags[0]);
}

// ---- Other origins.

#[rocket::async_test]
async fn no_other_origin_reads_it() {
    let provider = TestProvider::start().await;
    let store = TestStore::new();
    let browser = signed_in(&local(&provider).over(&store), &provider).await;
    let calls = store.calls();
    let of_session = tag(&browser.fetch(ME).await);
    assert!(store.calls() > calls);
    let calls = store.calls();
    for headers in [
        &[("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors")][..],
        &[("Sec-Fetch-Site", "same-site"), ("Sec-Fetch-Mode", "cors")],
        // A window that another site opened.
        &[("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate")],
        &[("Sec-Fetch-Site", "same-site"), ("Origin", "http://localhost:8000")],
        &[("Sec-Fetch-Site", "")],
        // Without the header, as on plain http.
        &[("Origin", "https://evil.example")],
        &[("Origin", "http://localhost:8001")],
        &[("Origin", "null")],
        &[("Referer", "https://evil.example/")],
    ] {
        let headers = [headers, &[("If-None-Match", &of_session)]].concat();
        let page = browser.request(Method::Get, ME, &headers, "").await;
        is_private(page.is(Status::Forbidden));
        assert_eq!((&*page.body, page.header("ETag")), ("", None));
    }
    // Neither time nor status depends on the session.
    assert_eq!(store.calls(), calls);
    for headers in [
        &[][..],
        &[("Sec-Fetch-Site", "none")],
        &[("Sec-Fetch-Site", "same-origin"), ("Origin", "http://localhost:8000")],
        &[("Origin", "http://localhost:8000")],
        &[("Referer", "http://localhost:8000/notes")],
    ] {
        let page = browser.request(Method::Get, ME, headers, "").await;
        assert_eq!(page.is(Status::Ok).json::<Value>()["logged_in"], true, "{headers:?}");
    }
}

/// A fairing that lets every origin read everything, with cookies.
fn cors() -> AdHoc {
    AdHoc::on_response("CORS", |request, response| {
        Box::pin(async move {
            let origin = request.headers().get_one("Origin").unwrap_or("*").to_owned();
            response.set_header(Header::new("Access-Control-Allow-Origin", origin));
            response.set_header(Header::new("access-control-allow-credentials", "true"));
            response.adjoin_header(Header::new("Access-Control-Expose-Headers", "ETag"));
        })
    })
}

#[rocket::async_test]
async fn cors_of_the_app_does_not_apply() {
    let provider = TestProvider::start().await;
    let app = local(&provider);
    let first: fn(&App) -> Rocket<Build> = |app| {
        let oidc = Oidc::fairing().clock(app.clock());
        app.bare()
            .attach(cors())
            .attach(oidc)
            .mount("/", crate::common::pages())
    };
    let last: fn(&App) -> Rocket<Build> = |app| app.rocket().attach(cors());
    let origin = ("Origin", "https://evil.example");
    for (rocket, is_first) in [(first, true), (last, false)] {
        let browser = Browser::signed_in(rocket(&app), &provider).await;
        let page = browser.fetch("/me").await;
        assert_eq!(page.header("Access-Control-Allow-Origin"), Some("*"));
        let page = browser.fetch(ME).await;
        assert_eq!(page.json::<Value>()["logged_in"], true);
        if is_first {
            is_private(&page);
        }
        // A fairing that is attached later allows the reading of nothing.
        for site in [Some(("Sec-Fetch-Site", "same-site")), None] {
            let headers: Vec<_> = site.into_iter().chain([origin]).collect();
            let page = browser.request(Method::Get, ME, &headers, "").await;
            assert_eq!(page.is(Status::Forbidden).body, "");
            assert_eq!(page.header("ETag"), None);
            if is_first {
                is_private(&page);
            }
        }
    }
}

// ---- No session, and no store.

#[rocket::async_test]
async fn a_sign_out_is_seen_at_once() {
    for store in ["cookie", "memory"] {
        let provider = TestProvider::start().await;
        let app = local(&provider).with("oidc.session.store", store);
        let browser = signed_in(&app, &provider).await;
        let copy = browser.another();
        give_cookies(&copy, &session_cookies(&browser));
        assert_eq!(me(&copy).await["logged_in"], true);
        browser.submit("/oidc/logout", "").await.redirects_to("/");
        for browser in [&browser, &copy] {
            assert_eq!(me(browser).await, signed_out());
        }
        // Not a session of this app.
        let (name, value) = session_cookies(&signed_in(&app, &provider).await).remove(0);
        let changed = Cookie::build((name, value.replace(|c: char| c.is_ascii_digit(), "x"))).path("/");
        browser.set_cookie(changed.build());
        assert_eq!(me(&browser).await, signed_out());
    }
}

#[rocket::async_test]
async fn while_the_store_is_down_nothing_is_said_of_the_session() {
    let provider = TestProvider::start().await;
    let store = TestStore::new();
    let browser = signed_in(&local(&provider).over(&store), &provider).await;
    store.fail_all("the store is down");
    let page = browser.fetch(ME).await;
    is_private(page.is(Status::ServiceUnavailable));
    assert_eq!((&*page.body, page.header("Retry-After")), ("", Some("5")));
    store.recover();
    assert_eq!(me(&browser).await["logged_in"], true);
    // A sign-out that the store has not recorded is one all the same.
    sign_out_unrecorded(&browser, &store).await;
    assert_eq!(me(&browser).await, signed_out());
}

#[rocket::async_test]
async fn the_testing_profile_has_no_end() {
    let provider = TestProvider::start().await;
    let app = app(&provider)
        .with("oidc.enabled", false)
        .with("oidc.testing_profile", json!({ "sub": "tess", "name": "Tess" }));
    let browser = app.open().await;
    let first = browser.fetch(ME).await;
    let mut profile: Value = first.json();
    profile["user_key"].take();
    assert_eq!(
        profile,
        json!({
            "logged_in": true,
            "login_url": "/oidc/login",
            "logout_url": "/oidc/logout",
            "user": { "name": "Tess" },
            "user_key": null,
        })
    );
    app.advance(Duration::from_secs(60));
    let page = browser.fetch_with(ME, &[("If-None-Match", &tag(&first))]).await;
    page.is(Status::NotModified);
    browser.submit("/oidc/logout", "").await.redirects_to("/");
    assert_eq!(me(&browser).await, signed_out());
    browser.visit("/oidc/login").await.redirects_to("/");
    assert_eq!(me(&browser).await["logged_in"], true);
}

// ---- Several providers.

fn providers(one: &TestProvider, two: &TestProvider) -> App {
    let client = |provider: &TestProvider| json!({ "issuer": provider.issuer(), "client_id": "app" });
    two.set_time(NOW);
    // The providers of these tests have one key at first.
    two.rotate_rsa_key();
    App::new(one)
        .with_all(json!({ "issuer": null, "client_id": null, "client_secret": null }))
        .with_all(json!({ "me_claims": "name", "providers": { "one": client(one), "two": client(two) } }))
}

#[rocket::async_test]
async fn of_several_providers_it_is_that_of_the_session() {
    let (one, two) = (TestProvider::start().await, TestProvider::start().await);
    two.user_claims(json!({ "sub": "bob", "name": "Bob" }));
    let browser = providers(&one, &two).open().await;
    assert_eq!(me(&browser).await, signed_out());
    let page = browser.visit("/oidc/login/two?next=/me").await;
    browser.follow(&two, page).await.is(Status::Ok);
    let me = me(&browser).await;
    assert_eq!(
        (&me["user"], &me["login_url"]),
        (&json!({ "name": "Bob" }), &json!("/oidc/login/two"))
    );

    let app = providers(&one, &two).with("oidc.providers.one.me_claims", "email");
    let (_, lines) = launch_failure(app.rocket()).await;
    assert_eq!(lines[1], "INFO: move `me_claims` to the table `oidc`");
}

/// The provider is the first label of the host.
struct Hosts;

#[rocket::async_trait]
impl ProviderFor for Hosts {
    async fn provider_for(
        &self,
        request: &Request<'_>,
    ) -> Result<Option<String>, Box<dyn std::error::Error + Send + Sync>> {
        let host = request.headers().get_one("Host").unwrap_or_default();
        match host.split('.').next() {
            Some("broken") => Err("the database is down".into()),
            name => Ok(name.filter(|name| !name.is_empty()).map(str::to_owned)),
        }
    }
}

#[rocket::async_test]
async fn the_session_of_one_tenant_is_none_at_another() {
    let (one, two) = (TestProvider::start().await, TestProvider::start().await);
    let app = providers(&one, &two)
        .with("oidc.providers.one.base_url", "http://one.example:8000")
        .with("oidc.providers.two.base_url", "http://two.example:8000");
    let fairing = Oidc::fairing().clock(app.clock()).provider_for(Hosts);
    let browser = Browser::open(app.bare().attach(fairing)).await;
    let host = [("Host", "one.example:8000")];
    let page = browser.visit_with("/oidc/login?next=/x", &host).await;
    let callback = one.authorize(page.location.as_deref().unwrap());
    let page = browser.visit_with(&callback.path_and_query(), &host).await;
    page.redirects_to("/x");
    for (host, expected) in [
        ("one.example:8000", Some(true)),
        ("two.example:8000", Some(false)),
        ("other.example:8000", None),
        ("", None),
    ] {
        let page = browser.fetch_with(ME, &[("Host", host)]).await;
        match expected {
            Some(expected) => assert_eq!(page.is(Status::Ok).json::<Value>()["logged_in"], expected, "{host}"),
            None => drop(page.is(Status::NotFound).sees_no("logged_in")),
        }
    }
    let page = browser.fetch_with(ME, &[("Host", "broken.example")]).await;
    page.is(Status::ServiceUnavailable).sees_no("logged_in");
}

// ---- The script.

#[get("/tag")]
fn tag_of_page(rp: &RelyingParty) -> String {
    rp.script_tag().unwrap_or_default()
}

#[rocket::async_test]
async fn the_script_has_its_hash_in_its_name_and_in_the_tag() {
    let provider = TestProvider::start().await;
    let app = local(&provider);
    let log = Log::listen();
    let browser = signed_in_with_tag(&app, &provider).await;
    let name = browser.fetch("/oidc/session.js").await;
    assert_eq!(name.is(Status::Ok).header("Cache-Control"), Some("no-cache"));
    let file = name.body.strip_prefix("export * from \"./").unwrap();
    let file = file.strip_suffix("\";\n").unwrap();
    let not_changed = [("If-None-Match", name.header("ETag").unwrap())];
    let page = browser.fetch_with("/oidc/session.js", &not_changed).await;
    page.is(Status::NotModified);

    let script = browser.fetch(&format!("/oidc/{file}")).await;
    let cache = "public, max-age=31536000, immutable";
    assert_eq!(script.is(Status::Ok).header("Cache-Control"), Some(cache));
    for page in [&name, &script] {
        assert_eq!(page.header("Content-Type"), Some("text/javascript"));
        assert_eq!(page.header("X-Content-Type-Options"), Some("nosniff"));
        assert_eq!(page.header("Cross-Origin-Resource-Policy"), Some("same-origin"));
        assert_eq!(page.set_cookies(), [""; 0]);
    }
    let hash = STANDARD.encode(digest(&SHA384, script.body.as_bytes()));
    let expected = format!("<script type=\"module\" src=\"/oidc/{file}\" integrity=\"sha384-{hash}\"></script>");
    assert_eq!(browser.visit("/tag").await.body, expected);
    let lines = log.lines_with_report();
    let line = format!("INFO: for scripts: /oidc/me: name, email; /oidc/{file}, sha384-{hash}");
    assert!(lines.contains(&line), "{lines:#?}");
    // Of another version.
    browser
        .fetch("/oidc/session-AAAAAAAAAAAA.js")
        .await
        .is(Status::NotFound);
}

async fn signed_in_with_tag(app: &App, provider: &TestProvider) -> Browser {
    Browser::signed_in(app.rocket().mount("/", routes![tag_of_page]), provider).await
}

#[rocket::async_test]
async fn below_a_path_the_tag_has_it() {
    let provider = TestProvider::start().await;
    let app = local(&provider)
        .with("oidc.base_url", "http://localhost:8000/team")
        .with("oidc.proxy_strips_path", true);
    let browser = Browser::open(app.rocket().mount("/", routes![tag_of_page])).await;
    let tag = browser.visit("/tag").await.body;
    assert!(
        tag.starts_with("<script type=\"module\" src=\"/team/oidc/session-"),
        "{tag}"
    );
    let me: Value = browser.fetch(ME).await.json();
    assert_eq!(me["login_url"], "/team/oidc/login");
}
