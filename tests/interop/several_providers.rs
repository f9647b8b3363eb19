//! An app with several providers, in Chromium: two npm `oidc-provider`s and the development provider.

use std::env;

use reqwest::Client;
use rocket::{Request, get, response::Redirect, routes, serde::json::Json};
use rocket_openidconnect::{Acr, Claims, LoggedIn, Oidc, OptionalUser, RelyingParty, UserKey, acr_values};
use serde_json::{Value, json};
use url::Url;

use crate::{
    browser::Browser,
    example::{Example, free_port},
    node_provider::{CLIENT_SECRET, NodeProvider},
    visitor::Visitor,
    walker::Person,
};

/// The test that is the app, and the app whose development provider the other one uses.
const TEST: &str = "several_providers::an_app";
/// Set in the environment of the app: whether its tenants have a provider each, by host.
const HAS_TENANTS: &str = "INTEROP_SEVERAL_PROVIDERS";
/// What a user has who signed in where the app asked for it.
const SECOND_FACTOR: &str = "urn:example:loa:2";

acr_values! { SecondFactor = "urn:example:loa:2"; }

#[get("/")]
fn index(visitor: OptionalUser) -> String {
    visitor
        .user()
        .map_or("nobody".to_owned(), |user| user.key().to_string())
}

#[get("/who")]
fn who(user: LoggedIn) -> String {
    format!("{} {}", user.provider(), user.subject())
}

#[get("/second")]
fn second(user: LoggedIn<Claims, Acr<SecondFactor>>) -> String {
    format!("{} {} with two factors", user.provider(), user.subject())
}

#[get("/again")]
fn again(rp: &RelyingParty, user: LoggedIn) -> Redirect {
    let url = rp.sign_in_url().provider(user.provider()).next("/second");
    Redirect::to(url.prompt("login").acr_values([SECOND_FACTOR]).to_string())
}

/// How many sessions a user has.
#[get("/sessions?<key>")]
async fn sessions(rp: &RelyingParty, key: &str) -> Json<Option<usize>> {
    let key: UserKey = key.parse().expect("a key");
    let sessions = rp.sessions_of_user(&key).await.expect("the store is in memory");
    Json(sessions.map(|sessions| sessions.len()))
}

/// Does nothing unless it is started as an app.
#[rocket::async_test]
#[ignore = "an app that other tests start: run scripts/interop"]
async fn an_app() {
    let Ok(has_tenants) = env::var(HAS_TENANTS) else {
        return;
    };
    let mut fairing = Oidc::fairing();
    if has_tenants == "true" {
        fairing = fairing.provider_for(|request: &Request<'_>| {
            let host = request.host()?.domain().as_str().to_owned();
            Some(host.strip_suffix(".localhost")?.to_owned())
        });
    }
    let rocket = rocket::build()
        .attach(fairing)
        .mount("/", routes![index, who, second, again, sessions]);
    rocket.launch().await.expect("it runs until it is killed");
}

/// Two providers `a` and `b`, and an app that is a client of both.
struct World {
    a: NodeProvider,
    b: NodeProvider,
    app: Example,
    port: u16,
}

/// How a world differs from the usual one.
#[derive(Clone, Copy, Default)]
struct Differences {
    has_tenants: bool,
    shares_redirect_uri: bool,
    /// The provider to whose path `a` posts its logout tokens.
    logout_tokens_of_a_to: Option<&'static str>,
    /// The port of a development provider.
    dev_provider: Option<u16>,
}

impl World {
    async fn start() -> World {
        World::with(Differences::default()).await
    }

    async fn with(differences: Differences) -> World {
        World::at(free_port(), differences).await
    }

    async fn at(port: u16, differences: Differences) -> World {
        let base_url = |name: &str| match differences.has_tenants {
            true => format!("http://{name}.localhost:{port}"),
            false => format!("http://localhost:{port}"),
        };
        let start = async |name: &str, issuer: Option<String>, provider_port: u16| {
            let base = base_url(name);
            let path = if differences.shares_redirect_uri {
                String::new()
            } else {
                format!("/{name}")
            };
            let logout_path = differences
                .logout_tokens_of_a_to
                .filter(|_| name == "a")
                .unwrap_or(name);
            let environment = [
                ("PORT", provider_port.to_string()),
                ("ISSUER", issuer.unwrap_or_default()),
                ("REDIRECT_URI", format!("{base}/oidc/authorize{path}")),
                ("POST_LOGOUT_REDIRECT_URI", format!("{base}/")),
                (
                    "BACKCHANNEL_LOGOUT_URI",
                    format!("http://localhost:{port}/oidc/backchannel-logout/{logout_path}"),
                ),
            ];
            let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
            NodeProvider::start(&environment).await
        };
        let a = start("a", None, 0).await;
        // Another host name, so that the providers do not share cookies.
        let port_of_b = free_port();
        let b = start("b", Some(format!("http://localhost:{port_of_b}")), port_of_b).await;

        let client = |name: &str, provider: &NodeProvider| {
            json!({
                "issuer": provider.issuer(), "client_id": "rocket-app", "client_secret": CLIENT_SECRET,
                "base_url": base_url(name),
            })
        };
        let mut providers = json!({ "a": client("a", &a), "b": client("b", &b) });
        providers["b"]["acr_values"] = SECOND_FACTOR.into();
        providers["b"]["label"] = "Company & Sons".into();
        if let Some(dev_port) = differences.dev_provider {
            providers["dev"] = json!({
                "issuer": format!("http://localhost:{dev_port}"), "client_id": "app", "client_secret": "shared",
            });
        }
        let environment = [
            (HAS_TENANTS, differences.has_tenants.to_string()),
            ("OIDC_PROVIDERS", providers.to_string()),
            ("OIDC_SESSION__STORE", "memory".to_owned()),
            ("OIDC_SHARED_REDIRECT_URI", differences.shares_redirect_uri.to_string()),
        ];
        let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
        let app = Example::of_test(TEST, port, &environment);
        World { a, b, app, port }
    }

    fn url(&self, path: &str) -> String {
        self.app.at("localhost", path)
    }

    /// Signs this user in at one of the two, from the chooser, where the app then shows its page.
    async fn sign_in(&self, browser: &Browser, name: &str, user: &str) {
        browser.goto(&self.url("/oidc/login?next=/who")).await;
        browser.click(&format!("#sign-in-{name}")).await;
        let provider = if name == "a" { &self.a } else { &self.b };
        browser.wait_for_url(|url| url.starts_with(provider.issuer())).await;
        provider.sign_in(browser, user).await;
        browser.wait_for_url(|url| url == self.url("/who")).await;
        assert_eq!(browser.text("body").await, format!("{name} {user}"));
    }

    async fn sessions_of(&self, key: &str) -> Value {
        let url = Url::parse_with_params(&self.url("/sessions"), [("key", key)]).unwrap();
        json_at(url.as_str()).await
    }
}

async fn json_at(url: &str) -> Value {
    let response = Client::new().get(url).send().await.unwrap();
    serde_json::from_slice(&response.bytes().await.unwrap()).expect("JSON")
}

/// How often an event of this name was noted at a provider.
async fn count(provider: &NodeProvider, event: &str) -> usize {
    let url = format!("{}/_test/events", provider.issuer());
    let events = json_at(&url).await;
    let events = events.as_array().expect("a list").iter();
    events.filter(|noted| noted["event"] == event).count()
}

/// Waits for an event that a provider notes after it has answered.
async fn wait_for(provider: &NodeProvider, event: &str) {
    let begun = std::time::Instant::now();
    while count(provider, event).await == 0 {
        assert!(begun.elapsed().as_secs() < 20, "no {event} at {}", provider.issuer());
        rocket::tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[rocket::async_test]
#[ignore = "needs Node.js and Chromium: run scripts/interop"]
async fn a_user_chooses_and_a_sign_in_elsewhere_ends_the_former_session() {
    let (port, dev_port) = (free_port(), free_port());
    // The development provider of another app, which has the same client.
    let redirect_uri = format!("http://localhost:{port}/oidc/authorize/dev");
    let dev_provider = format!("{{port={dev_port}}}");
    let environment = [
        (HAS_TENANTS, "false"),
        ("OIDC_DEV_PROVIDER", &*dev_provider),
        ("OIDC_CLIENT_ID", "app"),
        ("OIDC_CLIENT_SECRET", "shared"),
        ("OIDC_OVERWRITE_REDIRECT_URI", &redirect_uri),
    ];
    let _dev = Example::of_test(TEST, free_port(), &environment);
    let differences = Differences {
        dev_provider: Some(dev_port),
        ..Differences::default()
    };
    let world = World::at(port, differences).await;
    let browser = Browser::start().await;

    browser.goto(&world.url("/who")).await;
    assert_eq!(browser.current_url().await, world.url("/oidc/login?next=%2Fwho"));
    assert_eq!(browser.text("h1").await, "Sign in");
    assert_eq!(browser.text("#sign-in-b").await, "Sign in with Company & Sons");
    browser.screenshot("several-providers-chooser").await;

    world.sign_in(&browser, "a", "alice").await;
    let at_a = format!("a {} alice", world.a.issuer());
    assert_eq!(world.sessions_of(&at_a).await, 1);

    // The same `sub` at another provider is another user.
    world.sign_in(&browser, "b", "alice").await;
    let at_b = format!("b {} alice", world.b.issuer());
    assert_eq!(world.sessions_of(&at_a).await, 0);
    assert_eq!(world.sessions_of(&at_b).await, 1);

    browser.goto(&world.url("/oidc/login?next=/who")).await;
    browser.click("#sign-in-dev").await;
    browser.click("button[value=alice]").await;
    browser.wait_for_url(|url| url == world.url("/who")).await;
    assert_eq!(browser.text("body").await, "dev alice");
    assert_eq!(world.sessions_of(&at_b).await, 0);
    let cookies = browser.cookies().await;
    let sessions = cookies.iter().filter(|cookie| cookie.name.starts_with("oidc_session_"));
    assert_eq!(sessions.count(), 1);
}

/// RFC 9700 §4.4.
#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn an_answer_at_the_redirect_uri_of_the_other_provider_is_rejected_and_no_code_is_sent() {
    let world = World::start().await;
    let mut visitor = Visitor::new();
    let mut callbacks = vec![];
    for (name, provider) in [("a", &world.a), ("b", &world.b)] {
        let login = world.url(&format!("/oidc/login/{name}?next=/who"));
        let request = visitor.visit(&login).await.location.expect("the provider's URL");
        assert!(request.starts_with(provider.issuer()), "{request}");
        let callback = visitor.walker.walk(&request, Person::SignsIn("alice")).await;
        assert_eq!(callback.path(), format!("/oidc/authorize/{name}"));
        callbacks.push(callback);
    }
    for (callback, others) in callbacks.iter().zip(["/oidc/authorize/b", "/oidc/authorize/a"]) {
        for path in [others, "/oidc/authorize"] {
            let mut wrong = callback.clone();
            wrong.set_path(path);
            assert_eq!(visitor.visit(wrong.as_str()).await.status, 400, "{wrong}");
        }
    }
    assert!(world.app.has_logged("redirect_uri_mismatch"));
    for provider in [&world.a, &world.b] {
        assert_eq!(count(provider, "grant.success").await, 0);
        assert_eq!(count(provider, "grant.error").await, 0);
    }
    // They were not spoilt.
    let answer = visitor.visit(callbacks[1].as_str()).await;
    assert_eq!(answer.location.as_deref(), Some("/who"));
    assert_eq!(visitor.visit(&world.url("/who")).await.body, "b alice");
    assert_eq!(
        (
            count(&world.a, "grant.success").await,
            count(&world.b, "grant.success").await
        ),
        (0, 1)
    );
}

#[rocket::async_test]
#[ignore = "needs Node.js and Chromium: run scripts/interop"]
async fn step_up_stays_at_the_provider_of_the_session() {
    let world = World::start().await;
    let browser = Browser::start().await;
    let (second, again) = (world.url("/second"), world.url("/again"));

    // This one is not trusted with the value, and is not asked.
    world.sign_in(&browser, "a", "alice").await;
    browser.goto(&second).await;
    assert_eq!(browser.text("h1").await, "Sign-in failed");
    assert!(world.app.has_logged("acr_not_trusted"));
    browser.goto(&world.url("/who")).await;
    assert_eq!(browser.text("body").await, "a alice");

    // Where a session without the second factor is, the other one answers at once with what it has.
    world.sign_in(&browser, "b", "alice").await;
    let before = (
        count(&world.a, "grant.success").await,
        count(&world.b, "grant.success").await,
    );
    browser.goto(&second).await;
    assert_eq!(browser.text("h1").await, "Sign-in failed");
    assert!(world.app.has_logged("id_token_acr"));
    let after = (
        count(&world.a, "grant.success").await,
        count(&world.b, "grant.success").await,
    );
    assert_eq!(after, (before.0, before.1 + 1));

    browser.goto(&again).await;
    let url = browser.wait_for_url(|url| url.starts_with(world.b.issuer())).await;
    assert!(url.contains("/interaction/"), "{url}");
    world.b.sign_in(&browser, "alice").await;
    browser.wait_for_url(|url| url == second).await;
    assert_eq!(browser.text("body").await, "b alice with two factors");
}

#[rocket::async_test]
#[ignore = "needs Node.js and Chromium: run scripts/interop"]
async fn a_user_signs_out_at_the_provider_of_the_session() {
    let world = World::start().await;
    let browser = Browser::start().await;
    for (name, provider) in [("a", &world.a), ("b", &world.b)] {
        world.sign_in(&browser, name, "alice").await;
        browser.goto(&world.url("/oidc/logout")).await;
        browser.click("#sign-out").await;
        browser.wait_for_url(|url| url.starts_with(provider.issuer())).await;
        browser.click("button[value=yes]").await;
        browser.wait_for_url(|url| url == world.url("/")).await;
        assert_eq!(browser.text("body").await, "nobody");
        // The provider asks again.
        browser.goto(&world.url(&format!("/oidc/login/{name}?next=/who"))).await;
        browser.wait_for_url(|url| url.contains("/interaction/")).await;
    }
}

/// The user ends the session at the provider's own page, which tells the app.
#[rocket::async_test]
#[ignore = "needs Node.js and Chromium: run scripts/interop"]
async fn a_logout_token_ends_sessions_of_its_own_provider_alone() {
    for (path, event, is_ended) in [("a", "backchannel.success", true), ("b", "backchannel.error", false)] {
        let differences = Differences {
            logout_tokens_of_a_to: Some(path),
            ..Differences::default()
        };
        let world = World::with(differences).await;
        let (at_a, at_b) = (Browser::start().await, Browser::start().await);
        world.sign_in(&at_a, "a", "alice").await;
        world.sign_in(&at_b, "b", "alice").await;

        at_a.goto(&format!("{}/session/end", world.a.issuer())).await;
        at_a.click("button[value=yes]").await;
        wait_for(&world.a, event).await;
        at_a.goto(&world.url("/")).await;
        let expected = if is_ended {
            "nobody".to_owned()
        } else {
            format!("a {} alice", world.a.issuer())
        };
        assert_eq!(at_a.text("body").await, expected);
        at_b.goto(&world.url("/who")).await;
        assert_eq!(at_b.text("body").await, "b alice");
    }
}

#[rocket::async_test]
#[ignore = "needs Node.js and Chromium: run scripts/interop"]
async fn a_user_of_one_tenant_is_nobody_at_another() {
    let world = World::with(Differences {
        has_tenants: true,
        ..Differences::default()
    })
    .await;
    let browser = Browser::start().await;
    let at = |tenant: &str, path: &str| world.app.at(&format!("{tenant}.localhost"), path);
    browser.goto(&at("a", "/who")).await;
    // There is nothing to choose.
    browser.wait_for_url(|url| url.starts_with(world.a.issuer())).await;
    world.a.sign_in(&browser, "alice").await;
    browser.wait_for_url(|url| url == at("a", "/who")).await;
    assert_eq!(browser.text("body").await, "a alice");

    browser.goto(&at("b", "/")).await;
    assert_eq!(browser.text("body").await, "nobody");
    browser.goto(&at("b", "/who")).await;
    browser.wait_for_url(|url| url.starts_with(world.b.issuer())).await;
    world.b.sign_in(&browser, "bob").await;
    browser.wait_for_url(|url| url == at("b", "/who")).await;
    assert_eq!(browser.text("body").await, "b bob");
    browser.goto(&at("a", "/who")).await;
    assert_eq!(browser.text("body").await, "a alice");

    // The cookies of both at each host: those of the other one are nobody's.
    let cookies = browser.cookies().await;
    for (tenant, other) in [("a", "b"), ("b", "a")] {
        let theirs = cookies
            .iter()
            .find(|cookie| cookie.name.starts_with("oidc_session_") && cookie.domain == format!("{other}.localhost"));
        let theirs = theirs.expect("the session of the other tenant");
        let request = Client::new().get(format!("http://localhost:{}/", world.port));
        let request = request.header("Host", format!("{tenant}.localhost:{}", world.port));
        let request = request.header("Cookie", format!("{}={}", theirs.name, theirs.value));
        assert_eq!(request.send().await.unwrap().text().await.unwrap(), "nobody");
    }
    // A host of no tenant.
    browser.goto(&world.url("/")).await;
    assert_eq!(browser.text("body").await, "nobody");
    let login = Client::new().get(world.url("/oidc/login")).send().await.unwrap();
    assert_eq!(login.status(), 404);
    // Each signs out alone.
    browser.goto(&at("a", "/oidc/logout")).await;
    browser.click("#sign-out").await;
    browser.wait_for_url(|url| url.starts_with(world.a.issuer())).await;
    browser.click("button[value=yes]").await;
    browser.wait_for_url(|url| url == at("a", "/")).await;
    assert_eq!(browser.text("body").await, "nobody");
    browser.goto(&at("b", "/who")).await;
    assert_eq!(browser.text("body").await, "b bob");
}

#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn a_shared_redirect_uri_works_at_providers_that_send_iss() {
    let world = World::with(Differences {
        shares_redirect_uri: true,
        ..Differences::default()
    })
    .await;
    let mut visitor = Visitor::new();
    for (name, provider, other) in [("a", &world.a, &world.b), ("b", &world.b, &world.a)] {
        let login = world.url(&format!("/oidc/login/{name}?next=/who"));
        let request = visitor.visit(&login).await.location.expect("the provider's URL");
        let callback = visitor.walker.walk(&request, Person::SignsIn("alice")).await;
        assert_eq!(callback.path(), "/oidc/authorize");
        let of = |iss: Option<&str>| {
            let mut changed = callback.clone();
            let pairs: Vec<_> = callback.query_pairs().filter(|(key, _)| key != "iss").collect();
            changed.query_pairs_mut().clear().extend_pairs(pairs);
            if let Some(iss) = iss {
                changed.query_pairs_mut().append_pair("iss", iss);
            }
            changed
        };
        assert_eq!(
            of(Some(provider.issuer())).query_pairs().count(),
            callback.query_pairs().count()
        );
        for wrong in [of(None), of(Some(other.issuer()))] {
            assert_eq!(visitor.visit(wrong.as_str()).await.status, 400, "{wrong}");
        }
        assert_eq!(count(provider, "grant.success").await, 0);
        let answer = visitor.visit(callback.as_str()).await;
        assert_eq!(answer.location.as_deref(), Some("/who"));
        assert_eq!(visitor.visit(&world.url("/who")).await.body, format!("{name} alice"));
    }
}

/// Chromium says by `Sec-Fetch-Site` that a page of another site is the origin.
#[rocket::async_test]
#[ignore = "needs Node.js and Chromium: run scripts/interop"]
async fn a_sign_in_that_another_site_begins_waits_for_a_button() {
    let world = World::start().await;
    let browser = Browser::start().await;
    // A page of the site 127.0.0.1.
    browser
        .goto(&format!("{}/.well-known/openid-configuration", world.a.issuer()))
        .await;
    let login = world.url("/oidc/login/b?next=/who");
    browser.execute(&format!("location.href = '{login}'")).await;
    browser.wait_for_url(|url| url == login).await;
    browser.screenshot("several-providers-confirmation").await;
    assert_eq!(browser.text("#confirm").await, "Sign in with Company & Sons");
    browser.click("#confirm").await;
    browser.wait_for_url(|url| url.starts_with(world.b.issuer())).await;
    world.b.sign_in(&browser, "alice").await;
    browser.wait_for_url(|url| url == world.url("/who")).await;
    assert_eq!(browser.text("body").await, "b alice");
}
