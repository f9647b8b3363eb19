//! Providers that the app finds at run time.

use std::{
    collections::HashMap,
    error::Error,
    sync::{Arc, Mutex},
    time::Duration,
};

use rocket::{
    Build, Request, Rocket,
    futures::future::join_all,
    get,
    http::{Cookie, Method, Status},
    routes,
    serde::json::json,
};
use rocket_openidconnect::{
    Bearer, LoggedIn, Oidc, OptionalUser, ProviderRegistration, ProviderSource, RelyingParty, Secret, UserKey,
};

use crate::{
    common::{App, Log, cookie_of_kind, locked},
    support::{Browser, Page, TestProvider},
};

/// The app's table of tenants, which counts what it is asked.
#[derive(Clone, Default)]
struct Tenants(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    rows: HashMap<String, ProviderRegistration>,
    is_down: bool,
    asked: Vec<String>,
}

#[rocket::async_trait]
impl ProviderSource for Tenants {
    async fn registration(&self, name: &str) -> Result<Option<ProviderRegistration>, Box<dyn Error + Send + Sync>> {
        // Another request may come meanwhile.
        tokio::task::yield_now().await;
        let mut table = locked(&self.0);
        table.asked.push(name.to_owned());
        if table.is_down {
            return Err("the database is down".into());
        }
        Ok(table.rows.get(name).cloned())
    }
}

impl Tenants {
    fn set(&self, name: &str, registration: ProviderRegistration) {
        locked(&self.0).rows.insert(name.to_owned(), registration);
    }

    fn remove(&self, name: &str) {
        locked(&self.0).rows.remove(name);
    }

    fn set_down(&self, is_down: bool) {
        locked(&self.0).is_down = is_down;
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut locked(&self.0).asked)
    }
}

struct Sourced {
    provider: TestProvider,
    tenants: Tenants,
    app: App,
}

#[get("/me")]
fn me(user: LoggedIn) -> String {
    format!("{} {}", user.provider(), user.subject())
}

#[get("/open")]
fn open(visitor: OptionalUser) -> String {
    visitor
        .user()
        .map_or("nobody".to_owned(), |user| user.provider().to_owned())
}

#[get("/api")]
fn api(token: Bearer) -> String {
    token.issuer().to_owned()
}

#[get("/key")]
fn key(user: LoggedIn) -> String {
    user.key().to_string()
}

#[get("/end-key?<key>")]
async fn end_key(rp: &RelyingParty, key: &str) -> String {
    let key: UserKey = key.parse().expect("a key");
    format!("{:?}", rp.end_sessions_of_user(&key).await)
}

fn registration(provider: &TestProvider) -> ProviderRegistration {
    ProviderRegistration::new(&provider.issuer(), "app").client_secret(Secret::new("hush"))
}

impl Sourced {
    async fn start() -> Sourced {
        let provider = TestProvider::start().await;
        let tenants = Tenants::default();
        tenants.set("acme", registration(&provider));
        let app = App::new(&provider).with_all(json!({
            "issuer": null, "client_id": null, "client_secret": null,
            "session.store": "memory", "internal_provider_hosts": "127.0.0.1",
        }));
        Sourced { provider, tenants, app }
    }

    fn rocket(&self) -> Rocket<Build> {
        self.rocket_with(Oidc::fairing())
    }

    fn rocket_with(&self, fairing: Oidc) -> Rocket<Build> {
        let fairing = fairing.clock(self.app.clock()).provider_source(self.tenants.clone());
        self.app
            .bare()
            .attach(fairing)
            .mount("/", routes![me, open, key, end_key])
    }

    async fn signed_in(&self) -> Browser {
        let browser = Browser::open(self.rocket()).await;
        let page = browser.sign_in(&self.provider, "/oidc/login/acme?next=/me").await;
        assert_eq!(page.body, "acme alice", "{page:#?}");
        browser
    }
}

#[rocket::async_test]
async fn a_provider_is_found_by_its_name_and_asked_for_once_a_minute() {
    let sourced = Sourced::start().await;
    let browser = sourced.signed_in().await;
    assert_eq!(sourced.tenants.asked(), ["acme"]);
    let redirect_uri = sourced.provider.last_request("/token");
    assert_eq!(
        redirect_uri.form_value("redirect_uri"),
        Some("http://localhost:8000/oidc/authorize/acme")
    );
    for _ in 0..3 {
        assert_eq!(browser.visit("/me").await.body, "acme alice");
    }
    assert_eq!(sourced.tenants.asked(), [""; 0]);
    let metadata = sourced.provider.count(TestProvider::DISCOVERY);
    sourced.app.advance(Duration::from_secs(60));
    assert_eq!(browser.visit("/me").await.body, "acme alice");
    assert_eq!(sourced.tenants.asked(), ["acme"]);
    // It is the same provider, with the metadata that it had.
    assert_eq!(sourced.provider.count(TestProvider::DISCOVERY), metadata);
}

#[rocket::async_test]
async fn simultaneous_requests_ask_the_source_once() {
    let sourced = Sourced::start().await;
    let browser = Browser::open(sourced.rocket()).await;
    let pages = join_all((0..8).map(|_| browser.visit("/oidc/login/acme"))).await;
    assert!(pages.iter().all(|page| page.status == 303));
    assert_eq!(sourced.tenants.asked(), ["acme"]);
}

#[rocket::async_test]
async fn an_unknown_name_is_404_and_is_asked_for_again_after_ten_seconds() {
    let sourced = Sourced::start().await;
    let browser = Browser::open(sourced.rocket()).await;
    for _ in 0..3 {
        browser.visit("/oidc/login/beta").await.is(Status::NotFound);
    }
    assert_eq!(sourced.tenants.asked(), ["beta"]);
    sourced.tenants.set("beta", registration(&sourced.provider));
    browser.visit("/oidc/login/beta").await.is(Status::NotFound);
    sourced.app.advance(Duration::from_secs(10));
    browser.visit("/oidc/login/beta").await.is(Status::SeeOther);
    assert_eq!(sourced.tenants.asked(), ["beta"]);
    // What is no name does not reach the source.
    let long = "x".repeat(65);
    for name in ["Acme", "a.b", "a__b", "%2e%2e", "a%20b", "a~b", &long] {
        browser.visit(&format!("/oidc/login/{name}")).await.is(Status::NotFound);
    }
    assert_eq!(sourced.tenants.asked(), [""; 0]);
    // Of names that the settings do not have, the page offers none.
    let page = browser.visit("/oidc/login").await;
    page.is(Status::Ok).sees_no("acme");
}

#[rocket::async_test]
async fn a_source_that_is_down_is_503_and_ends_nothing() {
    let sourced = Sourced::start().await;
    let browser = sourced.signed_in().await;
    sourced.tenants.set_down(true);
    let log = Log::listen();
    for name in ["beta", "gamma", "delta"] {
        let path = format!("/oidc/login/{name}");
        browser.visit(&path).await.is(Status::ServiceUnavailable);
    }
    // Whoever makes up names does not fill the log.
    let error = "ERROR: the provider `beta` cannot be looked up: the database is down";
    assert_eq!(log.lines(), [error]);
    drop(log);
    // Until a minute has passed, the answer counts.
    browser.visit("/me").await.is(Status::Ok);
    sourced.app.advance(Duration::from_secs(60));
    browser.visit("/me").await.is(Status::ServiceUnavailable);
    assert_eq!(browser.visit("/open").await.body, "nobody");
    let callback = "/oidc/authorize/acme?code=x&state=y";
    browser.arrive_from_provider(callback).await.is(Status::BadRequest);
    sourced.tenants.set_down(false);
    assert_eq!(browser.visit("/me").await.body, "acme alice");
}

#[rocket::async_test]
async fn another_issuer_or_client_or_none_ends_the_sessions() {
    let of = |change: fn(&TestProvider) -> Option<ProviderRegistration>| change;
    for (change, stays) in [
        (
            of(|provider| Some(registration(provider).client_secret(Secret::new("another")))),
            true,
        ),
        (of(|provider| Some(registration(provider).label("Acme"))), true),
        (
            of(|provider| Some(ProviderRegistration::new(&provider.issuer(), "other"))),
            false,
        ),
        (
            of(|provider| Some(ProviderRegistration::new(&format!("{}/", provider.issuer()), "app"))),
            false,
        ),
        (of(|_| None), false),
    ] {
        let sourced = Sourced::start().await;
        let browser = sourced.signed_in().await;
        match change(&sourced.provider) {
            Some(registration) => sourced.tenants.set("acme", registration),
            None => sourced.tenants.remove("acme"),
        }
        sourced.app.advance(Duration::from_secs(60));
        let page = browser.visit("/me").await;
        if stays {
            assert_eq!(page.body, "acme alice");
        } else {
            page.redirects_to("/oidc/login?next=%2Fme");
        }
    }
}

#[rocket::async_test]
async fn a_registration_that_is_not_usable_is_no_provider() {
    let sourced = Sourced::start().await;
    let browser = Browser::open(sourced.rocket()).await;
    for (name, registration) in [
        ("a", ProviderRegistration::new("not a url", "app")),
        ("b", ProviderRegistration::new("http://op.example", "app")),
        ("c", ProviderRegistration::new("https://op.example", "")),
        (
            "d",
            ProviderRegistration::new("https://op.example", "app").private_key(Secret::new("no key")),
        ),
    ] {
        sourced.tenants.set(name, registration);
        browser.visit(&format!("/oidc/login/{name}")).await.is(Status::NotFound);
    }
}

#[rocket::async_test]
async fn users_of_found_providers_are_found_by_their_key() {
    let sourced = Sourced::start().await;
    let browser = sourced.signed_in().await;
    let key = browser.visit("/key").await.body;
    assert_eq!(key, format!("acme {} alice", sourced.provider.issuer()));
    let page = browser
        .visit(&format!("/end-key?key={}", key.replace(' ', "%20")))
        .await;
    assert_eq!(page.body, "Ok(Some(1))");
    browser.visit("/me").await.redirects_to("/oidc/login?");
}

#[rocket::async_test]
async fn simultaneous_requests_ask_a_source_that_is_down_once() {
    let sourced = Sourced::start().await;
    let browser = Browser::open(sourced.rocket()).await;
    sourced.tenants.set_down(true);
    for _ in 0..2 {
        let pages = join_all((0..8).map(|_| browser.visit("/oidc/login/acme"))).await;
        assert!(pages.iter().all(|page| page.status == 503), "{pages:#?}");
        assert_eq!(sourced.tenants.asked(), ["acme"]);
    }
    sourced.tenants.set_down(false);
    browser.visit("/oidc/login/acme").await.is(Status::SeeOther);
}

/// A tenant that registers another's issuer and client gets none of its users' sessions.
#[rocket::async_test]
async fn a_tenant_with_the_registration_of_another_is_another_tenant() {
    let sourced = Sourced::start().await;
    sourced.tenants.set("evil", registration(&sourced.provider));
    let browser = sourced.signed_in().await;
    let cookie = cookie_of_kind(&browser, "oidc_session");
    let thief = browser.another();
    let text = cookie.value().strip_prefix("acme~").unwrap();
    let mut forged = Cookie::new(cookie.name().to_owned(), format!("evil~{text}"));
    forged.set_path("/");
    thief.set_cookie(forged);
    assert_eq!(thief.visit("/open").await.body, "nobody");
}

#[rocket::async_test]
async fn tenants_by_host_are_found_too() {
    let sourced = Sourced::start().await;
    let fairing = Oidc::fairing().provider_for(|request: &Request<'_>| {
        let host = request.headers().get_one("Host")?;
        Some(host.strip_suffix(".example")?.to_owned())
    });
    sourced.tenants.set(
        "acme",
        registration(&sourced.provider).base_url("http://acme.example:8000".parse().unwrap()),
    );
    let rocket = sourced.rocket_with(fairing).mount("/", routes![api]);
    let browser = Browser::open(rocket).await;
    let at = async |host: &'static str, path: &str| -> Page { browser.visit_with(path, &[("Host", host)]).await };
    let page = at("acme.example", "/oidc/login?next=/me").await;
    let callback = sourced.provider.authorize(page.location.as_deref().unwrap());
    assert_eq!(callback.redirect_uri(), "http://acme.example:8000/oidc/authorize/acme");
    at("acme.example", &callback.path_and_query()).await.redirects_to("/me");
    assert_eq!(at("acme.example", "/me").await.body, "acme alice");
    let token = sourced.provider.access_token("", |token| token.set("aud", "app"));
    let authorization = format!("Bearer {token}");
    for (host, status) in [("acme.example", 200), ("beta.example", 401)] {
        let headers = [("Host", host), ("Authorization", &*authorization)];
        let page = browser.another().fetch_with("/api", &headers).await;
        assert_eq!(page.status, status, "{page:#?}");
    }
    at("beta.example", "/me").await.is(Status::Unauthorized);
    at("acme", "/me").await.is(Status::Unauthorized);
    sourced.tenants.set_down(true);
    at("gamma.example", "/me").await.is(Status::ServiceUnavailable);
}

#[rocket::async_test]
async fn a_found_provider_has_a_back_channel_path_of_its_own() {
    let sourced = Sourced::start().await;
    let browser = sourced.signed_in().await;
    let token = sourced.provider.logout_token(|_| ());
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    let body = format!("logout_token={token}");
    let post = async |path: &str| {
        browser
            .another()
            .request(Method::Post, path, &headers, &body)
            .await
            .status
    };
    sourced.tenants.set("evil", registration(&sourced.provider));
    // Without a name, the providers of the settings alone are meant; and another name has other sessions.
    assert_eq!(post("/oidc/backchannel-logout").await, 400);
    assert_eq!(post("/oidc/backchannel-logout/beta").await, 404);
    assert_eq!(post("/oidc/backchannel-logout/evil").await, 200);
    assert_eq!(browser.visit("/me").await.body, "acme alice");
    assert_eq!(post("/oidc/backchannel-logout/acme").await, 200);
    browser.visit("/me").await.redirects_to("/oidc/login?");
}
