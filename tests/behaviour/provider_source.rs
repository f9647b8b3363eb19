//! Providers that the app finds at run time.

use std::{
    collections::HashMap,
    error::Error,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use rocket::{
    Build, Request, Rocket,
    futures::future::{join, join_all},
    get,
    http::{Cookie, Method, Status},
    routes,
    serde::json::{Value, json},
};
use rocket_openidconnect::{
    Acr, Bearer, Claims, LoggedIn, Oidc, OptionalUser, ProviderRegistration, ProviderSource, RelyingParty, Secret,
    UserKey, acr_values,
};
use tokio::sync::Semaphore;

use crate::{
    common::{App, Log, NOW, cookie_of_kind, frontchannel_logout, locked},
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
    /// Holds the answers about names that begin with `made-up`.
    gate: Option<Arc<Semaphore>>,
}

#[rocket::async_trait]
impl ProviderSource for Tenants {
    async fn registration(&self, name: &str) -> Result<Option<ProviderRegistration>, Box<dyn Error + Send + Sync>> {
        // Another request may come meanwhile.
        tokio::task::yield_now().await;
        let gate = {
            let mut table = locked(&self.0);
            table.asked.push(name.to_owned());
            table.gate.clone().filter(|_| name.starts_with("made-up"))
        };
        if let Some(gate) = gate {
            let _ = gate.acquire().await;
        }
        let table = locked(&self.0);
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

acr_values! { Gold = "gold"; }

#[get("/gold")]
fn gold(user: LoggedIn<Claims, Acr<Gold>>) -> String {
    user.subject().to_owned()
}

#[get("/groups")]
fn groups(user: LoggedIn) -> String {
    user.groups().join(" ")
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
            .mount("/", routes![me, open, key, end_key, gold, groups])
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
    let mut sourced = Sourced::start().await;
    let fairing = Oidc::fairing().provider_for(|request: &Request<'_>| {
        let host = request.headers().get_one("Host")?;
        Some(host.strip_suffix(".example")?.to_owned())
    });
    sourced.tenants.set(
        "acme",
        registration(&sourced.provider).base_url("http://acme.example:8000".parse().unwrap()),
    );
    sourced.app = sourced
        .app
        .with_all(json!({ "extra_authorization_parameters": { "acr_values": "gold" } }));
    sourced.provider.on_id_token(|token| token.set("acr", "gold"));
    let rocket = sourced.rocket_with(fairing).mount("/", routes![api]);
    let browser = Browser::open(rocket).await;
    let at = async |host: &'static str, path: &str| -> Page { browser.visit_with(path, &[("Host", host)]).await };
    let page = at("acme.example", "/oidc/login?next=/me").await;
    let callback = sourced.provider.authorize(page.location.as_deref().unwrap());
    assert_eq!(callback.redirect_uri(), "http://acme.example:8000/oidc/authorize/acme");
    at("acme.example", &callback.path_and_query()).await.redirects_to("/me");
    assert_eq!(at("acme.example", "/me").await.body, "acme alice");
    // The tenant is trusted about its own users.
    assert_eq!(at("acme.example", "/groups").await.body, "users admin");
    assert_eq!(at("acme.example", "/gold").await.body, "alice");
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

/// Nothing says that the provider which a user named may decide about more than who that user is.
#[rocket::async_test]
async fn a_found_provider_that_is_not_a_tenant_is_not_trusted() {
    let mut sourced = Sourced::start().await;
    let asked = json!({ "extra_authorization_parameters": { "acr_values": "silver" } });
    sourced.app = sourced.app.with_all(asked);
    let browser = Browser::open(sourced.rocket()).await;
    // A value that no found provider is trusted to assert.
    let page = browser.visit("/oidc/login/acme?next=/me").await;
    page.is(Status::InternalServerError);

    let sourced = Sourced::start().await;
    sourced.provider.on_id_token(|token| token.set("acr", "gold"));
    let browser = sourced.signed_in().await;
    assert_eq!(browser.visit("/groups").await.is(Status::Ok).body, "");
    let page = browser.visit("/gold").await;
    let page = browser.visit(page.location.as_deref().unwrap()).await;
    page.is(Status::InternalServerError)
        .sees("a sign-in that the service you signed in with does not offer");
}

/// Without `provider_for`, nothing says that the users of a found provider may use the app's API.
#[rocket::async_test]
async fn an_api_accepts_tokens_of_the_settings_providers_alone() {
    let mut sourced = Sourced::start().await;
    let own = TestProvider::start().await;
    own.set_time(NOW);
    own.rotate_rsa_key();
    let client = json!({ "issuer": own.issuer(), "client_id": "app", "client_secret": "hush" });
    sourced.app = sourced.app.with_all(json!({ "providers": { "own": client } }));
    let browser = Browser::open(sourced.rocket().mount("/", routes![api])).await;
    let page = browser.sign_in(&sourced.provider, "/oidc/login/acme?next=/me").await;
    assert_eq!(page.body, "acme alice", "{page:#?}");
    let call = async |provider: &TestProvider| {
        let token = provider.access_token("", |token| token.set("aud", "app"));
        let authorization = format!("Bearer {token}");
        let headers = [("Authorization", &*authorization)];
        browser.another().fetch_with("/api", &headers).await.status
    };
    assert_eq!((call(&own).await, call(&sourced.provider).await), (200, 401));
    assert_eq!(sourced.provider.count("/introspect"), 0);
}

#[rocket::async_test]
async fn a_found_client_signs_assertions_for_its_issuer() {
    let mut sourced = Sourced::start().await;
    // The setting is of the operator's providers.
    sourced.app = sourced.app.with("oidc.client_assertion_audience", "endpoint");
    let key = aws_lc_rs::signature::Ed25519KeyPair::generate().unwrap();
    let pkcs8 = STANDARD.encode(key.to_pkcs8v1().unwrap());
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{pkcs8}\n-----END PRIVATE KEY-----\n");
    let registration = ProviderRegistration::new(&sourced.provider.issuer(), "app").private_key(Secret::new(pem));
    sourced.tenants.set("acme", registration);
    sourced.signed_in().await;
    let request = sourced.provider.last_request("/token");
    let assertion = request.form_value("client_assertion").expect("an assertion");
    let claims = URL_SAFE_NO_PAD.decode(assertion.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["aud"], sourced.provider.issuer());
    assert_eq!(
        (request.header("authorization"), request.form_value("client_secret")),
        (None, None)
    );
}

#[rocket::async_test]
async fn a_found_provider_has_a_front_channel_path_of_its_own() {
    for store in ["cookie", "memory"] {
        let mut sourced = Sourced::start().await;
        sourced.app = sourced
            .app
            .with_all(json!({ "session.store": store, "frontchannel_logout": true }));
        sourced.tenants.set("evil", registration(&sourced.provider));
        let browser = sourced.signed_in().await;
        let guest = browser.another();
        let frame = frontchannel_logout(&sourced.provider.issuer(), "sid-1");
        let at = |name: &str| frame.replace("-logout?", &format!("-logout/{name}?"));
        // Without a name, the providers of the settings alone are meant; and another name has other sessions.
        guest.visit(&frame).await.is(Status::BadRequest);
        guest.visit(&at("beta")).await.is(Status::NotFound);
        guest.visit(&at("evil")).await.is(Status::Ok);
        let other = frontchannel_logout("https://op.example", "sid-1");
        let other = other.replace("-logout?", "-logout/acme?");
        guest.visit(&other).await.is(Status::BadRequest);
        assert_eq!(browser.visit("/me").await.body, "acme alice", "{store}");
        let log = Log::listen();
        guest.visit(&at("acme")).await.is(Status::Ok);
        assert!(
            log.all_lines().iter().all(|line| !line.contains("sid-1")),
            "{:#?}",
            log.all_lines()
        );
        browser.visit("/me").await.redirects_to("/oidc/login?");
    }
}

#[rocket::async_test]
async fn a_third_party_begins_a_sign_in_at_a_found_provider_that_it_names() {
    let sourced = Sourced::start().await;
    let browser = Browser::open(sourced.rocket()).await;
    let issuer = sourced.provider.issuer().replace('/', "%2F");
    let query = |issuer: &str| format!("?iss={issuer}&target_link_uri=/me");
    // An issuer alone is looked up nowhere.
    let path = format!("/oidc/initiate-login{}", query(&issuer));
    browser.visit(&path).await.is(Status::BadRequest);
    assert_eq!(sourced.tenants.asked(), [""; 0]);
    let path = format!("/oidc/initiate-login/beta{}", query(&issuer));
    browser.visit(&path).await.is(Status::NotFound);
    let path = format!("/oidc/initiate-login/acme{}", query("https:%2F%2Fop.example"));
    browser.visit(&path).await.is(Status::BadRequest);
    let path = format!("/oidc/initiate-login/acme{}", query(&issuer));
    let page = browser.visit(&path).await;
    page.is(Status::Ok)
        .sees("action=\"&#x2F;oidc&#x2F;login&#x2F;acme?next");
    // The user decides, and until then no provider is asked.
    assert_eq!(sourced.provider.requests().len(), 0);
    let page = browser.submit("/oidc/login/acme?next=/me", "").await;
    let page = browser.follow(&sourced.provider, page).await;
    assert_eq!(page.body, "acme alice");
    // A form leads to the same page.
    let form = path.split_once('?').unwrap().1;
    let posted = browser.submit_from_provider("/oidc/initiate-login/acme", form).await;
    let query = posted.is(Status::SeeOther).location.as_deref().unwrap();
    let page = browser.visit(&format!("/oidc/initiate-login/acme{query}")).await;
    page.is(Status::Ok)
        .sees("action=\"&#x2F;oidc&#x2F;login&#x2F;acme?next");
}

/// Anyone can make up names. Few are looked up at a time, and they delay no provider that is known.
#[rocket::async_test]
async fn made_up_names_are_looked_up_a_few_at_a_time() {
    let sourced = Sourced::start().await;
    let browser = sourced.signed_in().await;
    sourced.tenants.asked();
    let gate = Arc::new(Semaphore::new(0));
    locked(&sourced.tenants.0).gate = Some(gate.clone());
    let guest = browser.another();
    let visits = (0..300).map(|n| {
        let path = format!("/oidc/login/made-up-{n}");
        let guest = &guest;
        async move { guest.visit(&path).await.status }
    });
    let meanwhile = async {
        while locked(&sourced.tenants.0).asked.len() < 4 {
            tokio::task::yield_now().await;
        }
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(sourced.tenants.asked().len(), 4);
        // The provider of a signed-in user is looked up again at once.
        sourced.app.advance(Duration::from_secs(60));
        assert_eq!(browser.visit("/me").await.body, "acme alice");
        assert_eq!(sourced.tenants.asked(), ["acme"]);
        gate.add_permits(1_000);
    };
    let (statuses, ()) = join(join_all(visits), meanwhile).await;
    let of = |status: u16| statuses.iter().filter(|other| **other == status).count();
    // One client has a quarter of the places; who finds none gets an answer at once.
    assert_eq!((of(404), of(503)), (256, 44));
    assert_eq!(sourced.tenants.asked().len(), 252);
}
