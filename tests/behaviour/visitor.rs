//! `Visitor`: what a page shows of its visitor, by a guard and in a catcher.

use std::time::Duration;

use rocket::{
    Build, Request, Rocket, catch, catchers, get,
    http::{Method, Status},
    post, response, routes,
    serde::json::{Json, Value, json},
};
use rocket_openidconnect::{Oidc, Pages, SignInFailure, Visitor};
use serde::Deserialize;

use crate::{
    common::{App, Log, NOW, launch_failure, pages, signed_in},
    provider_walls::Hosts,
    support::{Browser, Page, TestProvider, TestStore},
};

#[derive(Deserialize)]
#[allow(dead_code, reason = "is never there")]
struct WithBadge {
    badge: u32,
}

#[get("/visitor?<_page>")]
fn visitor(visitor: Visitor, _page: Option<u32>) -> Json<Value> {
    Json(json!(visitor))
}

#[post("/visitor")]
fn posted(visitor: Visitor) -> Json<Value> {
    Json(json!(visitor))
}

#[get("/badge")]
fn badge(visitor: Visitor<WithBadge>) -> String {
    visitor.logged_in().to_string()
}

#[get("/methods")]
fn methods(visitor: Visitor) -> String {
    let subject = visitor.user().map(|user| user.subject().to_owned());
    let urls = format!("{:?} {:?}", visitor.login_url(), visitor.logout_url());
    assert_eq!(visitor.logged_in(), subject.is_some());
    assert_eq!(visitor.into_user().map(|user| user.subject().to_owned()), subject);
    format!("{subject:?} {urls}")
}

#[catch(default)]
async fn failed(status: Status, request: &Request<'_>) -> Json<Value> {
    Json(json!({ "status": status.code, "visitor": Visitor::of(request).await }))
}

fn rocket(app: &App) -> Rocket<Build> {
    app.rocket()
        .mount("/", routes![visitor, posted, badge, methods])
        .register("/", catchers![failed])
}

fn stranger(login_url: &str) -> Value {
    json!({ "logged_in": false, "user": null, "login_url": login_url, "logout_url": "/oidc/logout" })
}

#[rocket::async_test]
async fn a_stranger_gets_the_way_back_to_this_page() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = Browser::open(rocket(&app)).await;
    let page = browser.visit("/visitor?_page=2").await;
    let expected = stranger("/oidc/login?next=%2Fvisitor%3F_page%3D2");
    assert_eq!(page.is(Status::Ok).json::<Value>(), expected);
    assert_eq!(page.header("Cache-Control"), None);
    assert!(page.set_cookies().is_empty());
    let page = browser.visit("/methods").await;
    assert_eq!(
        page.body,
        "None Some(\"/oidc/login?next=%2Fmethods\") Some(\"/oidc/logout\")"
    );
    // A page that was posted to cannot be loaded again.
    let page = browser.submit("/visitor", "").await;
    assert_eq!(page.is(Status::Ok).json::<Value>(), stranger("/oidc/login?next=%2F"));
    let page = browser.request(Method::Head, "/visitor", &[], "").await;
    page.is(Status::Ok);
    // The address works.
    let page = browser.sign_in(&provider, "/oidc/login?next=%2Fmethods").await;
    page.is(Status::Ok).sees("Some(\"alice\")");
}

#[rocket::async_test]
async fn a_user_is_their_claims_and_no_token() {
    let provider = TestProvider::start().await;
    provider.user_claims(json!({
        "sub": "alice", "email": "alice@example.com", "email_verified": "true", "groups": "admin",
        "subject": "bob", "provider": "another", "name": 4, "access_token": "of-somebody-else", "locale": "en",
    }));
    let app = App::new(&provider);
    let browser = Browser::signed_in(rocket(&app), &provider).await;
    let page = browser.visit("/visitor").await;
    let found = page.is(Status::Ok).json::<Value>();
    let user = found["user"].as_object().unwrap();
    for (name, value) in [
        ("name", Value::Null),
        ("email", json!("alice@example.com")),
        ("email_verified", json!(true)),
        ("subject", json!("alice")),
        ("sub", json!("alice")),
        ("issuer", json!(provider.issuer())),
        ("provider", json!("default")),
        ("groups", json!(["admin"])),
        ("locale", json!("en")),
    ] {
        assert_eq!(user[name], value, "{name}");
    }
    assert_eq!(found["logged_in"], true);
    assert_eq!(found["login_url"], "/oidc/login?next=%2Fvisitor");
    assert_eq!(page.header("Cache-Control"), Some("no-store"));
    for token in ["at-", "rt-", "eyJ"] {
        page.sees_no(token);
    }
}

#[rocket::async_test]
async fn it_never_fails() {
    let provider = TestProvider::start().await;
    let store = TestStore::new();
    let app = App::new(&provider).over(&store);
    let browser = Browser::signed_in(rocket(&app), &provider).await;
    // The claims do not fit.
    assert_eq!(browser.visit("/badge").await.is(Status::Ok).body, "false");
    store.fail_all("the store is down");
    let page = browser.visit("/visitor").await;
    assert_eq!(
        page.is(Status::Ok).json::<Value>(),
        stranger("/oidc/login?next=%2Fvisitor")
    );
    store.recover();
    assert_eq!(browser.visit("/visitor").await.json::<Value>()["logged_in"], true);
    // With `silent`, the page is shown all the same.
    let app = App::new(&provider).with("oidc.silent", true);
    let browser = Browser::open(rocket(&app)).await;
    for _ in 0..2 {
        browser.visit("/visitor").await.is(Status::Ok);
    }
}

#[rocket::async_test]
async fn a_catcher_has_the_visitor_too() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = Browser::open(rocket(&app)).await;
    let page = browser.visit("/nowhere").await;
    let visitor = stranger("/oidc/login?next=%2Fnowhere");
    let expected = json!({ "status": 404, "visitor": visitor });
    assert_eq!(page.is(Status::NotFound).json::<Value>(), expected);

    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    app.advance(Duration::from_secs(285));
    // The refresh of a catcher is not lost.
    let page = browser.visit("/nowhere").await;
    assert_eq!(page.json::<Value>()["visitor"]["user"]["subject"], "alice");
    assert_eq!(provider.count("/token"), 2);
    assert!(!page.set_cookies().is_empty());
    browser.visit("/me").await.is(Status::Ok);
    assert_eq!(provider.count("/token"), 2);
}

struct ToCatchers;

impl Pages for ToCatchers {
    fn sign_in_failed(&self, _: &Request<'_>, failure: &SignInFailure) -> response::Result<'static> {
        Err(failure.status())
    }
}

/// Of a failed sign-in, the page is the one that it was for.
#[rocket::async_test]
async fn after_a_failed_sign_in_the_way_is_to_the_page_of_that_sign_in() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let fairing = Oidc::fairing().clock(app.clock()).pages(ToCatchers);
    let rocket = app.bare().attach(fairing).mount("/", pages());
    let browser = Browser::open(rocket.register("/", catchers![failed])).await;
    let callback = browser.begin_sign_in(&provider, "/me").await.error("access_denied");
    let page = browser.arrive_from_provider(&callback.path_and_query()).await;
    let found = page.json::<Value>();
    assert_eq!(found["visitor"]["login_url"], "/oidc/login?next=%2Fme", "{page:#?}");
}

#[rocket::async_test]
async fn below_a_path_of_the_host() {
    for strips in [false, true] {
        let provider = TestProvider::start().await;
        let app = App::released(&provider)
            .with("oidc.base_url", "https://example.com/team")
            .with("oidc.proxy_strips_path", strips);
        let fairing = Oidc::fairing().clock(app.clock());
        let base = if strips { "/" } else { "/team" };
        let browser = Browser::open(app.bare().attach(fairing).mount(base, routes![visitor])).await;
        let browser = if strips {
            browser.behind_proxy_that_strips("/team")
        } else {
            browser
        };
        let found = browser.visit("/team/visitor").await.is(Status::Ok).json::<Value>();
        assert_eq!(found["login_url"], "/team/oidc/login?next=%2Fteam%2Fvisitor");
        assert_eq!(found["logout_url"], "/team/oidc/logout");
    }
}

#[rocket::async_test]
async fn while_sign_in_is_disabled_it_is_the_testing_profile() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with("oidc.enabled", false);
    let browser = Browser::open(rocket(&app)).await;
    let found = browser.visit("/visitor").await.is(Status::Ok).json::<Value>();
    assert_eq!(found, stranger("/oidc/login?next=%2Fvisitor"));

    let app = app.with("oidc.testing_profile", json!({ "sub": "tess", "name": "Tess" }));
    let browser = Browser::open(rocket(&app)).await;
    let found = browser.visit("/visitor").await.is(Status::Ok).json::<Value>();
    assert_eq!(found["user"]["name"], "Tess");
    assert_eq!(found["user"]["groups"], json!([]));
    browser.submit("/oidc/logout", "").await.is(Status::SeeOther);
    let found = browser.visit("/visitor").await.json::<Value>();
    assert_eq!(found["logged_in"], false);
    // Its address signs in again.
    browser.visit(found["login_url"].as_str().unwrap()).await;
    assert_eq!(browser.visit("/visitor").await.json::<Value>()["logged_in"], true);
}

#[rocket::async_test]
async fn an_api_without_sign_in_has_no_visitor() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider)
        .with("oidc.resource_server_only", true)
        .with("oidc.audience", "https://api.example.com");
    let (kind, lines) = launch_failure(app.rocket_of_api(routes![visitor])).await;
    assert_eq!(kind, "1 sentinels abort");
    assert!(
        lines
            .iter()
            .any(|line| line.contains("Visitor") && line.contains("`oidc.resource_server_only` is set")),
        "{lines:#?}"
    );
    let (_, lines) = launch_failure(app.bare().mount("/", routes![visitor])).await;
    assert!(
        lines
            .iter()
            .any(|line| line.contains("the fairing `Oidc` is not attached")),
        "{lines:#?}"
    );

    // A catcher is not seen at launch: there, it is signed out.
    let rocket = app.rocket_of_api(routes![]).register("/", catchers![failed]);
    let browser = Browser::open(rocket).await;
    let log = Log::listen();
    let page = browser.visit("/nowhere").await;
    let nobody = json!({ "logged_in": false, "user": null, "login_url": null, "logout_url": null });
    assert_eq!(page.is(Status::NotFound).json::<Value>()["visitor"], nobody);
    assert!(log.lines()[0].contains("a guard needs a session"), "{:#?}", log.lines());
}

/// Several providers, or one for each tenant.
fn with_providers(one: &TestProvider, two: &TestProvider) -> App {
    one.set_time(NOW);
    two.set_time(NOW);
    let client = |provider: &TestProvider, host: &str| json!({ "issuer": provider.issuer(), "client_id": "app", "client_secret": "hush", "base_url": host });
    let several =
        json!({ "acme": client(one, "http://acme.example:8000"), "beta": client(two, "http://beta.example:8000") });
    App::new(one)
        .with_all(json!({ "issuer": null, "client_id": null, "client_secret": null }))
        .with_all(json!({ "providers": several }))
}

#[rocket::async_test]
async fn among_several_providers_the_user_chooses() {
    let (one, two) = (TestProvider::start().await, TestProvider::start().await);
    two.rotate_rsa_key();
    one.user_claims(json!({ "sub": "alice", "groups": ["admin"], "provider": "beta" }));
    let mut app = with_providers(&one, &two);
    app = app.with_all(json!({ "providers": {
        "acme": { "issuer": one.issuer(), "client_id": "app", "client_secret": "hush" },
        "beta": { "issuer": two.issuer(), "client_id": "app", "client_secret": "hush", "trust_groups": true },
    } }));
    let browser = Browser::open(rocket(&app)).await;
    let found = browser.visit("/visitor").await.is(Status::Ok).json::<Value>();
    assert_eq!(found, stranger("/oidc/login?next=%2Fvisitor"));
    browser
        .visit("/oidc/login?next=%2Fvisitor")
        .await
        .is(Status::Ok)
        .sees("acme")
        .sees("beta");

    // A provider that the settings do not trust with groups puts no user into one.
    let page = browser.sign_in(&one, "/oidc/login/acme?next=/visitor").await;
    let user = page.json::<Value>()["user"].clone();
    assert_eq!((&user["provider"], &user["groups"]), (&json!("acme"), &json!([])));

    let browser = browser.another();
    two.user_claims(json!({ "sub": "alice", "groups": ["admin"] }));
    let page = browser.sign_in(&two, "/oidc/login/beta?next=/visitor").await;
    let user = page.json::<Value>()["user"].clone();
    assert_eq!(
        (&user["provider"], &user["groups"]),
        (&json!("beta"), &json!(["admin"]))
    );
}

#[rocket::async_test]
async fn with_tenants_the_address_is_that_of_the_tenant() {
    async fn at(browser: &Browser, host: &str, path: &str) -> Page {
        browser.visit_with(path, &[("Host", host)]).await
    }
    let (one, two) = (TestProvider::start().await, TestProvider::start().await);
    two.rotate_rsa_key();
    let app = with_providers(&one, &two);
    let fairing = Oidc::fairing().clock(app.clock()).provider_for(Hosts);
    let rocket = app.bare().attach(fairing).mount("/", routes![visitor]);
    let browser = Browser::open(rocket).await;
    for (host, login) in [
        ("acme.example", json!("/oidc/login/acme?next=%2Fvisitor")),
        ("beta.example", json!("/oidc/login/beta?next=%2Fvisitor")),
        // No tenant, and one that cannot be decided.
        ("nobody.example", json!(null)),
        ("broken.example", json!(null)),
    ] {
        let found = at(&browser, host, "/visitor").await.is(Status::Ok).json::<Value>();
        assert_eq!(found["login_url"], login, "{host}");
        assert_eq!(found["logged_in"], false);
        assert_eq!(found["logout_url"], "/oidc/logout");
    }
    let page = at(&browser, "acme.example", "/oidc/login/acme?next=/visitor").await;
    let callback = one.authorize(page.location.as_deref().unwrap());
    let page = at(&browser, "acme.example", &callback.path_and_query()).await;
    page.redirects_to("/visitor");
    let found = at(&browser, "acme.example", "/visitor").await.json::<Value>();
    assert_eq!(found["user"]["provider"], "acme");
    // What belongs to one tenant is not shown at another.
    let found = at(&browser, "beta.example", "/visitor").await.json::<Value>();
    assert_eq!(found["user"], Value::Null);
}

#[rocket::async_test]
async fn sign_out_goes_to_the_start_page() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    let browser = signed_in(&app, &provider).await;
    let page = browser.submit("/oidc/logout", "").await;
    assert_eq!(page.is(Status::SeeOther).location.as_deref(), Some("/"));
}
