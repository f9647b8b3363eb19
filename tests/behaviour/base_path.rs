//! An app below a path of its host, whose proxy keeps the path or strips it.

use rocket::{
    Build, Request, Rocket, catch, catchers, get,
    http::{Method, Status},
    routes,
};
use rocket_openidconnect::{Bearer, Oidc, ProviderFor, RelyingParty};
use serde_json::{Value, json};
use url::{Url, form_urlencoded::byte_serialize};

use crate::{
    common::{App, Log, launch_failure, pages},
    support::{
        Browser, TestProvider,
        return_addresses::{FOREIGN, LOCAL},
    },
};

const BASE: &str = "/team";
const BASE_URL: &str = "https://example.com/team";

#[derive(Clone, Copy, Debug, PartialEq)]
enum Proxy {
    Keeps,
    Strips,
}

const BOTH: [Proxy; 2] = [Proxy::Keeps, Proxy::Strips];

#[get("/links")]
fn links(rp: &RelyingParty) -> String {
    // The app below knows where it mounted its pages.
    let is_stripped = rp.login_url("/team/me").contains("%2Fteam%2Fteam");
    let page = if is_stripped { "/me" } else { "/team/me" };
    let sign_in = rp.sign_in_url().next(page).to_string();
    [
        rp.login_url(page),
        rp.logout_url(page),
        rp.login_url("//evil.example"),
        sign_in,
    ]
    .join("\n")
}

#[get("/api")]
fn api(token: Bearer) -> String {
    token.subject().unwrap_or_default().to_owned()
}

/// Every request is for this tenant.
struct Acme;

#[rocket::async_trait]
impl ProviderFor for Acme {
    async fn provider_for(&self, _: &Request<'_>) -> Result<Option<String>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Some("acme".to_owned()))
    }
}

impl Proxy {
    fn app(self, provider: &TestProvider) -> App {
        App::released(provider)
            .with("oidc.base_url", BASE_URL)
            .with("oidc.proxy_strips_path", self == Proxy::Strips)
    }

    fn rocket(self, app: &App) -> Rocket<Build> {
        let base = if self == Proxy::Keeps { BASE } else { "/" };
        let fairing = Oidc::fairing().clock(app.clock());
        let pages = [pages(), routes![links, api]].concat();
        app.bare().attach(fairing).mount(base, pages)
    }

    async fn open(self, app: &App) -> Browser {
        let browser = Browser::open(self.rocket(app)).await;
        match self {
            Proxy::Keeps => browser,
            Proxy::Strips => browser.behind_proxy_that_strips(BASE),
        }
    }
}

fn encoded(text: &str) -> String {
    byte_serialize(text.as_bytes()).collect()
}

#[rocket::async_test]
async fn a_user_signs_in_and_out() {
    for proxy in BOTH {
        let provider = TestProvider::start().await;
        let browser = proxy.open(&proxy.app(&provider)).await;
        let page = browser.visit("/team/notes?page=2&sort=a").await;
        let login = "/team/oidc/login?next=%2Fteam%2Fnotes%3Fpage%3D2%26sort%3Da";
        assert_eq!(page.location.as_deref(), Some(login), "{proxy:?}");

        let page = browser.sign_in(&provider, "/team/notes?page=2&sort=a").await;
        page.is(Status::Ok).sees("alice, page 2");
        assert_eq!(page.url, "/team/notes?page=2&sort=a");
        let authorization = provider.last_request("/token");
        let sent = authorization.form_value("redirect_uri");
        assert_eq!(sent, Some("https://example.com/team/oidc/authorize"));

        let page = browser.visit("/team/oidc/logout").await;
        page.is(Status::Ok);
        page.sees("action=\"&#x2F;team&#x2F;oidc&#x2F;logout?next=%2Fteam%2F\"");
        page.sees("<a href=\"&#x2F;team&#x2F;\">Stay signed in</a>");
        let sent_by_app = [("Sec-Fetch-Site", "same-origin")];
        let page = browser
            .request(Method::Post, "/team/oidc/logout", &sent_by_app, "")
            .await;
        let at_provider = Url::parse(page.location.as_deref().unwrap()).unwrap();
        let returns_to = at_provider
            .query_pairs()
            .find(|(name, _)| name == "post_logout_redirect_uri");
        assert_eq!(returns_to.unwrap().1, "https://example.com/team/");
        let page = browser.follow(&provider, page).await;
        page.is(Status::Ok);
        assert_eq!(page.url, "/team/", "{proxy:?}");
        assert_eq!(page.json::<Value>()["logged_in"], json!(false));
    }
}

#[rocket::async_test]
async fn no_address_leaves_the_path_of_the_app() {
    for proxy in BOTH {
        let provider = TestProvider::start().await;
        let app = proxy
            .app(&provider)
            .with("oidc.enabled", false)
            .with("oidc.insecure_testing_profile", true)
            .with("oidc.testing_profile", json!({ "sub": "alice" }));
        let browser = proxy.open(&app).await;
        let target = async |next: &str| {
            let page = browser.visit(&format!("/team/oidc/login?next={}", encoded(next))).await;
            page.is(Status::SeeOther).location.clone().unwrap()
        };
        for next in FOREIGN.iter().chain(&LOCAL) {
            assert_eq!(target(next).await, "/team/", "{proxy:?} {next:?}");
        }
        for next in [
            "/",
            "/teams",
            "/other/me",
            "/oidc/login",
            "/team/oidc/login",
            "/team/../me",
            "/TEAM/me",
        ] {
            assert_eq!(target(next).await, "/team/", "{proxy:?} {next:?}");
        }
        for next in ["/team", "/team/", "/team/me?a=b", "/team?a=b", "/team/team/x"] {
            assert_eq!(target(next).await, next, "{proxy:?}");
        }
    }
}

#[rocket::async_test]
async fn the_code_of_the_app_names_pages_as_rocket_does() {
    for proxy in BOTH {
        let provider = TestProvider::start().await;
        let browser = proxy.open(&proxy.app(&provider)).await;
        let page = browser.visit("/team/links").await;
        let links: Vec<_> = page.body.lines().collect();
        assert_eq!(links[0], "/team/oidc/login?next=%2Fteam%2Fme", "{proxy:?}");
        assert_eq!(links[1], "/team/oidc/logout?next=%2Fteam%2Fme");
        assert_eq!(links[2], "/team/oidc/login?next=%2Fteam%2F");
        assert_eq!(links[3], "/team/oidc/login?next=%2Fteam%2Fme");
    }
}

#[rocket::async_test]
async fn a_failed_sign_in_links_to_the_app() {
    for proxy in BOTH {
        let provider = TestProvider::start().await;
        let browser = proxy.open(&proxy.app(&provider)).await;
        let callback = browser.begin_sign_in(&provider, "/team/me").await;
        let page = browser
            .arrive_from_provider(&callback.error("access_denied").path_and_query())
            .await;
        page.sees("href=\"&#x2F;team&#x2F;oidc&#x2F;login?next=%2Fteam%2Fme\"");
        page.sees("<a href=\"&#x2F;team&#x2F;\">Start page</a>");
        let page = browser.fetch("/team/oidc/authorize?code=x&state=y").await;
        page.is(Status::Forbidden)
            .sees("<a href=\"&#x2F;team&#x2F;\">Start page</a>");
    }
}

/// A proxy does with the path what the settings do not say: no route is found, and Rocket logs the URI.
#[rocket::async_test]
async fn a_misrouted_callback_has_no_query_in_the_log() {
    #[catch(404)]
    fn not_found(request: &Request<'_>) -> String {
        request.uri().to_string()
    }

    let provider = TestProvider::start().await;
    for (proxy, misrouted) in [(Proxy::Keeps, "/oidc"), (Proxy::Strips, "/team/oidc")] {
        let app = proxy.app(&provider);
        let direct = Browser::open(proxy.rocket(&app).register("/", catchers![not_found])).await;
        for path in ["/authorize", "/backchannel-logout", "/logged-out", "/%61uthorize"] {
            let page = direct.fetch(&format!("{misrouted}{path}?code=hush&state=hush")).await;
            page.is(Status::NotFound).sees_no("hush");
        }
        let page = direct.fetch("/other?code=mine").await;
        page.is(Status::NotFound).sees("/other?code=mine");
    }
    let own = json!({ "issuer": provider.issuer(), "client_id": "app", "client_secret": "hush" });
    let app = Proxy::Keeps
        .app(&provider)
        .with_all(json!({ "issuer": null, "client_id": null, "client_secret": null }))
        .with("oidc.providers", json!({ "acme": own }));
    let direct = Browser::open(Proxy::Keeps.rocket(&app).register("/", catchers![not_found])).await;
    let page = direct.fetch("/oidc/authorize/acme?code=hush").await;
    page.is(Status::NotFound).sees_no("hush");
}

/// Only `__Host-` keeps sibling sub-domains from setting a cookie, and it needs `Path=/`.
#[rocket::async_test]
async fn cookies_of_two_apps_on_one_host() {
    let provider = TestProvider::start().await;
    let mut names = vec![];
    for base_url in ["https://example.com", BASE_URL, "https://example.com/other"] {
        let app = App::released(&provider)
            .with("oidc.base_url", base_url)
            .with("oidc.proxy_strips_path", base_url != "https://example.com")
            .with("oidc.max_state_length", 256);
        let path = Url::parse(base_url).unwrap().path().trim_end_matches('/').to_owned();
        let browser = Browser::open(Proxy::Strips.rocket(&app)).await;
        let browser = browser.behind_proxy_that_strips(path.leak());
        let path = Url::parse(base_url).unwrap().path().trim_end_matches('/').to_owned();
        browser.sign_in(&provider, &format!("{path}/me")).await.is(Status::Ok);
        for (name, _) in browser.cookies() {
            assert!(name.starts_with("__Host-oidc_"), "{name}");
            assert_eq!(browser.cookie(&name).unwrap().path(), Some("/"));
            names.push(name);
        }
        let long = format!(
            "{path}/oidc/login?next={}",
            encoded(&format!("{path}/{}", "a".repeat(1000)))
        );
        let page = browser.another().visit(&long).await;
        let set = page.set_cookies();
        let details = set
            .iter()
            .find(|set| set.contains("oidc_attempt"))
            .expect("a cookie of the attempt");
        assert!(details.contains(&format!("Path={path}/oidc;")), "{details}");
    }
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all, "{names:?}");
}

#[rocket::async_test]
async fn a_session_of_one_app_is_none_of_the_other() {
    let provider = TestProvider::start().await;
    let other = App::released(&provider).with("oidc.base_url", "https://example.com/other");
    let other = Browser::open(
        other
            .bare()
            .attach(Oidc::fairing().clock(other.clock()))
            .mount("/other", pages()),
    )
    .await;
    other.sign_in(&provider, "/other/me").await.is(Status::Ok);
    let browser = Proxy::Keeps.open(&Proxy::Keeps.app(&provider)).await;
    browser.sign_in(&provider, "/team/me").await.is(Status::Ok);
    let own: Vec<_> = browser
        .cookies()
        .into_iter()
        .filter(|(name, _)| name.contains("session"))
        .collect();
    let foreign: Vec<_> = other
        .cookies()
        .into_iter()
        .filter(|(name, _)| name.contains("session"))
        .collect();
    assert_eq!((own.len(), foreign.len()), (1, 1));
    let mut cookie = browser.cookie(&own[0].0).unwrap();
    cookie.set_value(foreign[0].1.clone());
    browser.set_cookie(cookie);
    browser.visit("/team/me").await.is(Status::SeeOther);
}

#[rocket::async_test]
async fn challenges_name_metadata_below_the_path() {
    for proxy in BOTH {
        let provider = TestProvider::start().await;
        let browser = proxy.open(&proxy.app(&provider)).await;
        let page = browser.fetch("/team/api").await;
        let challenge = page.header("www-authenticate").unwrap();
        let url = "https://example.com/team/.well-known/oauth-protected-resource";
        assert!(
            challenge.contains(&format!("resource_metadata=\"{url}\"")),
            "{challenge}"
        );
        let page = browser.fetch("/team/.well-known/oauth-protected-resource").await;
        assert_eq!(page.json::<Value>()["resource"], json!(BASE_URL), "{proxy:?}");
        // A proxy that forwards the well-known path of the host does not strip it.
        let direct = Browser::open(proxy.rocket(&proxy.app(&provider))).await;
        let page = direct.fetch("/.well-known/oauth-protected-resource/team").await;
        assert_eq!(page.json::<Value>()["resource"], json!(BASE_URL));
    }
}

#[rocket::async_test]
async fn metadata_of_a_resource_below_the_app_and_of_another() {
    let provider = TestProvider::start().await;
    for (resource, url, path) in [
        (
            "https://example.com/team/v1",
            "https://example.com/team/.well-known/oauth-protected-resource/v1",
            "/.well-known/oauth-protected-resource/v1",
        ),
        (
            "https://example.com/teams",
            "https://example.com/.well-known/oauth-protected-resource/teams",
            "/.well-known/oauth-protected-resource/teams",
        ),
        (
            "https://api.example.com/team",
            "https://api.example.com/.well-known/oauth-protected-resource/team",
            "/.well-known/oauth-protected-resource/team",
        ),
    ] {
        let app = Proxy::Strips.app(&provider).with("oidc.resource", resource);
        let direct = Browser::open(Proxy::Strips.rocket(&app)).await;
        let challenge = direct
            .fetch("/api")
            .await
            .header("www-authenticate")
            .unwrap()
            .to_owned();
        assert!(
            challenge.contains(&format!("resource_metadata=\"{url}\"")),
            "{challenge}"
        );
        let page = direct.fetch(path).await;
        assert_eq!(page.json::<Value>()["resource"], json!(resource));
    }
}

#[rocket::async_test]
async fn the_provider_ends_a_session() {
    for proxy in BOTH {
        let provider = TestProvider::start().await;
        let app = proxy.app(&provider).with("oidc.session", json!({ "store": "memory" }));
        let browser = proxy.open(&app).await;
        browser.sign_in(&provider, "/team/me").await.is(Status::Ok);
        let token = provider.logout_token(|_| ());
        let page = browser
            .submit("/team/oidc/backchannel-logout", &format!("logout_token={token}"))
            .await;
        page.is(Status::Ok);
        browser.visit("/team/me").await.is(Status::SeeOther);
    }
}

#[rocket::async_test]
async fn a_third_party_begins_a_sign_in() {
    for proxy in BOTH {
        let provider = TestProvider::start().await;
        let browser = proxy.open(&proxy.app(&provider)).await;
        let issuer = encoded(&provider.issuer());
        for (target, page_at_end) in [
            ("https://example.com/team/me", "/team/me"),
            ("/team/me", "/team/me"),
            ("https://example.com/me", "/team/"),
            ("https://example.com", "/team/"),
            ("https://example.com.evil.example/team/me", "/team/"),
        ] {
            let target = encoded(target);
            let path = format!("/team/oidc/initiate-login?iss={issuer}&target_link_uri={target}");
            let page = browser.another().sign_in(&provider, &path).await;
            assert_eq!(page.url, page_at_end, "{proxy:?}");
        }
    }
}

#[rocket::async_test]
async fn a_provider_at_another_path_needs_a_proxy_that_strips() {
    let provider = TestProvider::start().await;
    let app = |strips: bool, has_tenants: bool| {
        let own = json!({
            "issuer": provider.issuer(), "client_id": "app", "client_secret": "hush",
            "base_url": "https://example.com/acme",
        });
        let app = Proxy::Keeps
            .app(&provider)
            .with_all(json!({ "issuer": null, "client_id": null, "client_secret": null }))
            .with("oidc.proxy_strips_path", strips)
            .with("oidc.providers", json!({ "acme": own }));
        let fairing = Oidc::fairing().clock(app.clock());
        let fairing = if has_tenants {
            fairing.provider_for(Acme)
        } else {
            fairing
        };
        app.bare().attach(fairing).mount("/", routes![links])
    };
    let cause = "the routes of this provider are at `/acme/oidc`, those of the app at `/team/oidc`";
    for (strips, has_tenants) in [(false, true), (false, false), (true, false)] {
        let (_, lines) = launch_failure(app(strips, has_tenants)).await;
        assert!(
            lines[0].starts_with("ERROR: `global.oidc.providers.acme.base_url`"),
            "{lines:#?}"
        );
        assert!(lines[0].ends_with(cause), "{lines:#?}");
    }
    let browser = Browser::open(app(true, true)).await.behind_proxy_that_strips("/acme");
    let callback = browser
        .begin_sign_in(&provider, "/acme/oidc/login?next=/acme/links")
        .await;
    assert_eq!(callback.redirect_uri(), "https://example.com/acme/oidc/authorize/acme");
    let page = browser.arrive_from_provider(&callback.path_and_query()).await;
    assert_eq!(page.location.as_deref(), Some("/acme/links"));
}

#[rocket::async_test]
async fn the_launch_says_where_the_routes_are() {
    for (proxy, in_rocket) in [(Proxy::Keeps, "/team/oidc"), (Proxy::Strips, "/oidc")] {
        let provider = TestProvider::start().await;
        let log = Log::listen();
        let _browser = proxy.open(&proxy.app(&provider)).await;
        let expected = format!("INFO: routes: /team/oidc in the browser, {in_rocket} in Rocket");
        log.has(&expected);
    }
}
