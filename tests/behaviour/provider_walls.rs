//! Tenants with a provider each: what belongs to one is nobody at another.

use rocket::{
    Build, Request, Rocket, get,
    http::{Method, Status},
    routes,
    serde::json::{Value, json},
};
use rocket_openidconnect::{Bearer, Clock, LoggedIn, Oidc, OptionalUser, ProviderFor, RelyingParty};

use crate::{
    common::{App, NOW, frontchannel_logout},
    support::{Browser, Page, TestProvider},
};

/// The provider is the first label of the host; `broken` cannot be decided.
pub struct Hosts;

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

/// The digits of a client that its cookies' names end with.
fn digits(cookies: &[(String, String)]) -> String {
    let session = cookies.iter().find_map(|(name, _)| name.strip_prefix("oidc_session_"));
    session.expect("a session").to_owned()
}

/// One jar has the cookies of both, as on one host with two paths.
#[rocket::async_test]
async fn every_cookie_of_one_tenant_is_nobody_at_the_other() {
    for store in ["cookie", "memory"] {
        let settings = json!({ "session.store": store, "silent": true, "max_state_length": 200 });
        let tenants = Tenants::start(settings).await;
        let browser = tenants.open().await;
        sign_in(&browser, &tenants.beta, BETA).await;
        // An attempt with a cookie of its own, and a sign-out at the provider, are under way.
        let long = format!("/oidc/login?next=/me%3Fpage={}", "x".repeat(300));
        let attempt = at(&browser, BETA, &long).await.location.unwrap();
        let attempt = tenants.beta.authorize(&attempt).path_and_query();
        let of_session = browser.cookies();
        at(&browser, BETA, "/open").await;
        let page = post(&browser, BETA, "/oidc/logout", &[], "").await;
        assert!(tenants.beta.is_end_session(page.location.as_deref().unwrap()));
        let mut of_beta = browser.cookies();
        of_beta.retain(|(name, _)| of_session.iter().all(|(other, _)| other != name));
        of_beta.extend(of_session);
        for kind in ["session", "browser", "attempt", "logout", "last_session"] {
            let has = of_beta
                .iter()
                .any(|(name, _)| name.starts_with(&format!("oidc_{kind}")));
            assert!(has, "{kind} is not in {of_beta:#?}");
        }
        sign_in(&browser, &tenants.beta, BETA).await;
        assert_eq!(at(&browser, BETA, "/me").await.body, "beta alice");
        at(&browser, ACME, "/me").await.redirects_to("/oidc/login/acme?");
        assert_eq!(at(&browser, ACME, "/open").await.body, "nobody");

        sign_in(&browser, &tenants.acme, ACME).await;
        assert_eq!(at(&browser, ACME, "/me").await.body, "acme alice");
        // Neither replaced the other.
        assert_eq!(at(&browser, BETA, "/me").await.body, "beta alice");

        // Under the names of the other tenant's cookies, too: all of them, and with the host of either.
        let mut of_acme = browser.cookies();
        of_acme.retain(|(name, _)| !name.ends_with(&digits(&of_beta)));
        let (beta, acme) = (digits(&of_beta), digits(&of_acme));
        assert_ne!(beta, acme);
        let thief = browser.another();
        for (name, value) in of_beta {
            let mut cookie = rocket::http::Cookie::new(name.replace(&beta, &acme), value);
            cookie.set_path("/");
            thief.set_cookie(cookie);
        }
        for (host, name) in [(ACME, "acme"), (BETA, "beta")] {
            assert_eq!(at(&thief, host, "/open").await.body, "nobody", "{store} {host}");
            let login = format!("/oidc/login/{name}?");
            at(&thief, host, "/me").await.redirects_to(&login);
        }
        for path in [attempt.clone(), attempt.replace("/authorize/beta", "/authorize/acme")] {
            at(&thief, ACME, &path).await.is(Status::BadRequest);
        }
        assert_eq!(tenants.acme.count("/token"), 1, "{store}");
    }
}

/// Posts a form, as a page of the app at this host does.
async fn post(browser: &Browser, host: &str, path: &str, more: &[(&str, &str)], form: &str) -> Page {
    let headers = [("Host", host), ("Content-Type", "application/x-www-form-urlencoded")];
    let headers = [&headers[..], more].concat();
    browser.request(Method::Post, path, &headers, form).await
}

#[rocket::async_test]
async fn a_sign_out_at_one_tenant_is_none_at_the_other() {
    for store in ["cookie", "memory"] {
        let tenants = Tenants::start(json!({ "session.store": store })).await;
        let browser = tenants.open().await;
        sign_in(&browser, &tenants.beta, BETA).await;
        post(&browser, ACME, "/oidc/logout?next=/open", &[], "")
            .await
            .redirects_to("/open");
        assert_eq!(at(&browser, BETA, "/me").await.body, "beta alice", "{store}");

        // The button of a page, where the browser hides the origin.
        let button = async |host: &str| {
            let page = at(&browser, host, "/oidc/logout").await.body;
            let value = page.split("name=\"button\" value=\"").nth(1).expect("a button");
            format!("button={}", value.split('"').next().unwrap())
        };
        sign_in(&browser, &tenants.acme, ACME).await;
        let (of_acme, of_beta) = (button(ACME).await, button(BETA).await);
        let hidden = [("Origin", "null")];
        let path = "/oidc/logout?next=/open";
        post(&browser, BETA, path, &hidden, &of_acme)
            .await
            .is(Status::Forbidden);
        assert_eq!(at(&browser, BETA, "/me").await.body, "beta alice", "{store}");
        let page = post(&browser, BETA, path, &hidden, &of_beta).await;
        let location = page.location.clone().unwrap_or_else(|| panic!("{page:#?}"));
        assert!(tenants.beta.is_end_session(&location), "{location}");
        at(&browser, BETA, "/me").await.redirects_to("/oidc/login/beta?");
        assert_eq!(at(&browser, ACME, "/me").await.body, "acme alice", "{store}");

        // The return from the provider belongs to the tenant that the sign-out was at.
        let returned = tenants.beta.end_session(&location).unwrap();
        let returned = returned.strip_prefix("http://beta.example:8000").unwrap();
        assert_eq!(at(&browser, ACME, returned).await.location.as_deref(), Some("/"));
        assert_eq!(at(&browser, BETA, returned).await.location.as_deref(), Some("/open"));
    }
}

/// The provider, or a page of others, sends a user to a tenant: for the tenant's provider alone.
#[rocket::async_test]
async fn a_third_party_begins_a_sign_in_at_the_provider_of_the_tenant_alone() {
    let tenants = Tenants::start(json!({})).await;
    let browser = tenants.open().await;
    let (acme, beta) = (tenants.acme.issuer(), tenants.beta.issuer());
    let query = |issuer: &str| format!("?iss={}&target_link_uri=/me", issuer.replace('/', "%2F"));
    for path in ["/oidc/initiate-login", "/oidc/initiate-login/acme"] {
        at(&browser, ACME, &format!("{path}{}", query(&beta)))
            .await
            .is(Status::BadRequest);
        at(&browser, ACME, path).await.is(Status::BadRequest);
        let page = at(&browser, ACME, &format!("{path}{}", query(&acme))).await;
        let callback = tenants.acme.authorize(page.location.as_deref().unwrap());
        let page = at(&browser, ACME, &callback.path_and_query()).await;
        page.redirects_to("/me");
    }
    let path = format!("/oidc/initiate-login/beta{}", query(&beta));
    at(&browser, ACME, &path).await.is(Status::NotFound);
    assert_eq!(tenants.beta.requests().len(), 0);
}

#[rocket::async_test]
async fn a_front_channel_logout_ends_no_session_of_another_tenant() {
    for store in ["cookie", "memory"] {
        let tenants = Tenants::start(json!({ "session.store": store, "frontchannel_logout": true })).await;
        let browser = tenants.open().await;
        sign_in(&browser, &tenants.acme, ACME).await;
        sign_in(&browser, &tenants.beta, BETA).await;
        let guest = browser.another();
        let beta = frontchannel_logout(&tenants.beta.issuer(), "sid-1");
        let named = |path: &str, name: &str| path.replace("-logout?", &format!("-logout/{name}?"));
        at(&guest, ACME, &beta).await.is(Status::BadRequest);
        at(&guest, ACME, &named(&beta, "acme")).await.is(Status::BadRequest);
        at(&guest, ACME, &named(&beta, "beta")).await.is(Status::NotFound);
        assert_eq!(at(&browser, BETA, "/me").await.body, "beta alice", "{store}");
        at(&guest, BETA, &named(&beta, "beta")).await.is(Status::Ok);
        at(&browser, BETA, "/me").await.redirects_to("/oidc/login/beta?");
        // The other provider has a session of the same `sid`.
        assert_eq!(at(&browser, ACME, "/me").await.body, "acme alice", "{store}");
        let acme = frontchannel_logout(&tenants.acme.issuer(), "sid-1");
        at(&guest, ACME, &acme).await.is(Status::Ok);
        at(&browser, ACME, "/me").await.redirects_to("/oidc/login/acme?");
    }
}

/// A visitor is signed in silently at the tenant's provider alone.
#[rocket::async_test]
async fn a_silent_sign_in_is_at_the_provider_of_the_tenant() {
    let tenants = Tenants::start(json!({ "silent": true })).await;
    let browser = tenants.open().await;
    for (host, name, provider) in [(ACME, "acme", &tenants.acme), (BETA, "beta", &tenants.beta)] {
        assert_eq!(at(&browser, host, "/open").await.body, "nobody");
        let page = at(&browser, host, "/open").await;
        page.redirects_to(&format!("/oidc/login/{name}?next=%2Fopen&silent=true"));
        let page = at(&browser, host, page.location.as_deref().unwrap()).await;
        let location = page.location.as_deref().unwrap();
        assert!(location.contains("prompt=none"), "{location}");
        let callback = provider.authorize(location).path_and_query();
        at(&browser, host, &callback).await.redirects_to("/open");
        assert_eq!(at(&browser, host, "/open").await.body, name);
    }
    // A sign-out at one does not end the session at the other.
    post(&browser, ACME, "/oidc/logout", &[], "").await;
    for _ in 0..3 {
        assert_eq!(at(&browser, ACME, "/open").await.body, "nobody");
    }
    assert_eq!(at(&browser, BETA, "/open").await.body, "beta");
    // A host of no tenant has no provider to ask.
    for _ in 0..3 {
        assert_eq!(at(&browser, "gamma.example", "/open").await.body, "nobody");
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
