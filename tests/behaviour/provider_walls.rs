//! Tenants with a provider each: what belongs to one is nobody at another.

use rocket::{
    Build, Request, Rocket, get,
    http::{Method, Status},
    routes,
    serde::json::{Value, json},
};
use rocket_openidconnect::{Bearer, Clock, LoggedIn, Oidc, OptionalUser, ProviderFor, RelyingParty};

use crate::{
    common::{App, NOW},
    support::{Browser, Page, TestProvider},
};

/// The provider is the first label of the host; `broken` cannot be decided.
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
            Some(name) if !name.is_empty() => Ok(Some(name.to_owned())),
            _ => Ok(None),
        }
    }
}

struct Tenants {
    acme: TestProvider,
    beta: TestProvider,
    app: App,
    clock: Clock,
}

const ACME: &str = "acme.example";
const BETA: &str = "beta.example";

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

#[get("/session-id")]
fn session_id(user: LoggedIn) -> String {
    user.session_id().to_owned()
}

#[get("/end/<id>")]
async fn end(id: &str, rp: &RelyingParty) -> String {
    format!("{:?}", rp.end_session(id).await)
}

#[get("/login-url")]
fn login_url(rp: &RelyingParty) -> String {
    rp.sign_in_url().prompt("login").to_string()
}

impl Tenants {
    async fn start(settings: Value) -> Tenants {
        let (acme, beta) = (TestProvider::start().await, TestProvider::start().await);
        let app = App::new(&acme).with_all(json!({ "issuer": null, "client_id": null, "client_secret": null }));
        beta.set_time(NOW);
        // The providers of these tests have one key at first.
        beta.rotate_rsa_key();
        let client = |provider: &TestProvider, host: &str| {
            json!({
                "issuer": provider.issuer(), "client_id": "app", "client_secret": "hush",
                "base_url": format!("http://{host}:8000"), "audience": TestProvider::API,
            })
        };
        let app = app
            .with_all(json!({ "providers": { "acme": client(&acme, ACME), "beta": client(&beta, BETA) } }))
            .with_all(settings);
        let clock = Clock::fixed_at(NOW);
        Tenants { acme, beta, app, clock }
    }

    fn rocket(&self) -> Rocket<Build> {
        let fairing = Oidc::fairing().clock(self.clock.clone()).provider_for(Hosts);
        let routes = routes![me, open, api, session_id, end, login_url];
        self.app.bare().attach(fairing).mount("/", routes)
    }

    async fn open(&self) -> Browser {
        Browser::open(self.rocket()).await
    }
}

async fn at(browser: &Browser, host: &str, path: &str) -> Page {
    browser.visit_with(path, &[("Host", host)]).await
}

/// Signs in at the tenant of this host, up to the redirect to the page.
async fn sign_in(browser: &Browser, provider: &TestProvider, host: &str) {
    let page = at(browser, host, "/oidc/login?next=/me").await;
    let callback = provider.authorize(page.location.as_deref().unwrap_or_else(|| panic!("{page:#?}")));
    let page = at(browser, host, &callback.path_and_query()).await;
    page.redirects_to("/me");
}

#[rocket::async_test]
async fn each_tenant_signs_in_at_its_own_provider() {
    let tenants = Tenants::start(json!({})).await;
    let browser = tenants.open().await;
    at(&browser, ACME, "/me")
        .await
        .redirects_to("/oidc/login/acme?next=%2Fme");
    sign_in(&browser, &tenants.acme, ACME).await;
    assert_eq!(at(&browser, ACME, "/me").await.body, "acme alice");
    let requests = tenants.acme.last_request("/token");
    assert_eq!(
        requests.form_value("redirect_uri"),
        Some("http://acme.example:8000/oidc/authorize/acme")
    );
    // No tenant is offered another's sign-in.
    at(&browser, ACME, "/oidc/login/beta").await.is(Status::NotFound);
    at(&browser, ACME, "/oidc/login?provider=beta")
        .await
        .is(Status::NotFound);
    assert_eq!(tenants.beta.requests().len(), 0);
}

/// One jar has the cookies of both, as on one host with two paths.
#[rocket::async_test]
async fn every_cookie_of_one_tenant_is_nobody_at_the_other() {
    for store in ["cookie", "memory"] {
        let tenants = Tenants::start(json!({ "session.store": store })).await;
        let browser = tenants.open().await;
        sign_in(&browser, &tenants.beta, BETA).await;
        let of_beta = browser.cookies();
        assert_eq!(at(&browser, BETA, "/me").await.body, "beta alice");
        at(&browser, ACME, "/me").await.redirects_to("/oidc/login/acme?");
        assert_eq!(at(&browser, ACME, "/open").await.body, "nobody");

        sign_in(&browser, &tenants.acme, ACME).await;
        assert_eq!(at(&browser, ACME, "/me").await.body, "acme alice");
        // Neither replaced the other.
        assert_eq!(at(&browser, BETA, "/me").await.body, "beta alice");

        // Under the names of the other tenant's cookies, too.
        let kinds = ["oidc_session", "oidc_browser"];
        let thief = browser.another();
        for kind in kinds {
            let value = of_beta
                .iter()
                .find(|(name, _)| name.starts_with(kind))
                .unwrap()
                .1
                .clone();
            let is_of_acme = |name: &str| name.starts_with(kind) && of_beta.iter().all(|(beta, _)| beta != name);
            let (name, _) = browser
                .cookies()
                .into_iter()
                .find(|(name, _)| is_of_acme(name))
                .unwrap();
            let mut cookie = rocket::http::Cookie::new(name, value);
            cookie.set_path("/");
            thief.set_cookie(cookie);
        }
        assert_eq!(at(&thief, ACME, "/open").await.body, "nobody", "{store}");
        at(&thief, ACME, "/me").await.redirects_to("/oidc/login/acme?");
    }
}

#[rocket::async_test]
async fn attempts_and_urls_of_one_tenant_are_not_the_other_s() {
    let tenants = Tenants::start(json!({})).await;
    let browser = tenants.open().await;
    let page = at(&browser, BETA, "/oidc/login").await;
    let callback = tenants
        .beta
        .authorize(page.location.as_deref().unwrap())
        .path_and_query();
    at(&browser, ACME, "/oidc/login").await;
    for path in [callback.clone(), callback.replace("/authorize/beta", "/authorize/acme")] {
        at(&browser, ACME, &path).await.is(Status::BadRequest);
    }
    at(&browser, BETA, &callback.replace("/authorize/beta", "/authorize/acme"))
        .await
        .is(Status::BadRequest);
    assert_eq!((tenants.acme.count("/token"), tenants.beta.count("/token")), (0, 0));
    at(&browser, BETA, &callback).await.redirects_to("/");

    let url = at(&browser, BETA, "/login-url").await.body;
    assert!(url.starts_with("/oidc/login/beta?"), "{url}");
    at(&browser, ACME, &url).await.is(Status::NotFound);
    at(&browser, ACME, &url.replace("/login/beta", "/login/acme"))
        .await
        .is(Status::BadRequest);
}

#[rocket::async_test]
async fn an_access_token_of_one_tenant_is_rejected_at_the_other() {
    let tenants = Tenants::start(json!({})).await;
    let browser = tenants.open().await;
    sign_in(&browser, &tenants.beta, BETA).await;
    let call = async |host: &str, token: &str| {
        let authorization = format!("Bearer {token}");
        let headers = [("Host", host), ("Authorization", &*authorization)];
        browser.another().fetch_with("/api", &headers).await
    };
    let token = tenants.beta.access_token("", |_| ());
    assert_eq!(call(BETA, &token).await.body, tenants.beta.issuer());
    // Also where its own tenant has accepted it before.
    call(ACME, &token).await.is(Status::Unauthorized);
    // An opaque one is shown to the tenant's provider alone.
    call(ACME, "opaque").await.is(Status::Unauthorized);
    assert_eq!(
        (tenants.acme.count("/introspect"), tenants.beta.count("/introspect")),
        (1, 0)
    );
    let page = call("nobody.example", &token).await;
    page.is(Status::Unauthorized);
    call("broken.example", &token).await.is(Status::ServiceUnavailable);
}

#[rocket::async_test]
async fn the_ends_of_one_tenant_do_not_reach_the_other() {
    for store in ["cookie", "memory"] {
        let tenants = Tenants::start(json!({ "session.store": store })).await;
        let browser = tenants.open().await;
        sign_in(&browser, &tenants.beta, BETA).await;
        let id = at(&browser, BETA, "/session-id").await.body;
        // An administrator of one tenant who knows the id.
        let guest = browser.another();
        assert_eq!(
            at(&guest, ACME, &format!("/end/{id}")).await.body,
            "Ok(false)",
            "{store}"
        );
        let token = tenants.beta.logout_token(|_| ());
        let headers = |host| [("Content-Type", "application/x-www-form-urlencoded"), ("Host", host)];
        let body = format!("logout_token={token}");
        let post = async |host: &'static str, path: &str| {
            browser
                .another()
                .request(Method::Post, path, &headers(host), &body)
                .await
                .status
        };
        assert_eq!(post(ACME, "/oidc/backchannel-logout").await, 400);
        assert_eq!(post(ACME, "/oidc/backchannel-logout/beta").await, 404);
        assert_eq!(at(&browser, BETA, "/me").await.body, "beta alice");
        assert_eq!(post(BETA, "/oidc/backchannel-logout").await, 200);
        at(&browser, BETA, "/me").await.redirects_to("/oidc/login/beta?");

        sign_in(&browser, &tenants.beta, BETA).await;
        let id = at(&browser, BETA, "/session-id").await.body;
        assert_eq!(
            at(&guest, BETA, &format!("/end/{id}")).await.body,
            "Ok(true)",
            "{store}"
        );
        at(&browser, BETA, "/me").await.redirects_to("/oidc/login/beta?");
    }
}

#[rocket::async_test]
async fn a_request_of_no_tenant_is_nobody_s() {
    let tenants = Tenants::start(json!({})).await;
    let browser = tenants.open().await;
    sign_in(&browser, &tenants.beta, BETA).await;
    for host in ["gamma.example", "BETA.example", ".beta.example"] {
        at(&browser, host, "/me").await.is(Status::Unauthorized);
        assert_eq!(at(&browser, host, "/open").await.body, "nobody", "{host}");
        for path in [
            "/oidc/login",
            "/oidc/login/beta",
            "/oidc/authorize/beta?state=x",
            "/oidc/logout",
            "/login-url",
        ] {
            let page = at(&browser, host, path).await;
            assert_eq!(page.status, 404, "{host} {path} {page:#?}");
        }
    }
    at(&browser, "broken.example", "/me")
        .await
        .is(Status::ServiceUnavailable);
    at(&browser, "broken.example", "/oidc/login")
        .await
        .is(Status::ServiceUnavailable);
    assert_eq!(at(&browser, "broken.example", "/open").await.body, "nobody");
    assert_eq!(at(&browser, BETA, "/me").await.body, "beta alice");
}

#[rocket::async_test]
async fn a_hook_without_providers_aborts_the_launch() {
    let provider = TestProvider::start().await;
    let rocket = App::new(&provider).bare().attach(Oidc::fairing().provider_for(Hosts));
    let (_, lines) = crate::common::launch_failure(rocket).await;
    assert_eq!(
        lines[0],
        "ERROR: `Oidc::provider_for` is set, and there are no `oidc.providers`"
    );
}
