//! Every built-in page against axe-core in Chromium, at the width of a phone, in light and in dark.

use std::{fs, path::Path};

use rocket::{
    Build, Config, Rocket,
    figment::Figment,
    get,
    http::{Header, Status, uri::Host},
    local::asynchronous::{Client, LocalRequest},
    routes,
    serde::json::{Value, json},
    uri,
};
use rocket_openidconnect::{
    Authorized, Oidc, Policy, User,
    testing::{TestClient, TestProvider, TestRequest},
};

use crate::{
    browser::Browser,
    example::{Example, free_port},
    support::TestStore,
};

struct Closed;

impl Policy for Closed {
    async fn permits(user: &User, _: &rocket::Request<'_>) -> bool {
        user.groups().contains(&"admin")
    }
}

#[get("/refused")]
fn refused(_user: Authorized<Closed>) -> &'static str {
    "in"
}

fn rocket(settings: Value, store: &TestStore) -> Rocket<Build> {
    let figment = Figment::from(Config::debug_default())
        .merge(("log_level", "off"))
        .merge(("oidc", settings));
    rocket::custom(figment)
        .attach(Oidc::fairing().session_store(store.clone()))
        .mount("/", routes![refused])
}

async fn html(request: LocalRequest<'_>, status: Status) -> String {
    let response = request.dispatch().await;
    assert_eq!(response.status(), status);
    response.into_string().await.expect("a page")
}

fn header(name: &'static str, value: &'static str) -> Header<'static> {
    Header::new(name, value)
}

/// The pages of the app, by name.
async fn pages_of_the_app() -> Vec<(&'static str, String)> {
    let store = TestStore::new();
    let one = json!({ "issuer": "https://one.example", "client_id": "app" });
    let client = Client::tracked(TestProvider::new().register(rocket(one, &store))).await;
    let client = client.expect("the app launches");
    let mut pages = vec![];
    let failed = client.get("/oidc/authorize?code=x&state=0123456789");
    pages.push(("sign_in_failed", html(failed, Status::BadRequest).await));
    pages.push(("sign_out", html(client.get("/oidc/logout"), Status::Ok).await));
    let of_another_site = client
        .post("/oidc/logout")
        .header(header("Origin", "https://evil.example"));
    pages.push(("not_signed_out", html(of_another_site, Status::Forbidden).await));
    let framed = client.get("/oidc/login");
    let framed = framed
        .header(header("Sec-Fetch-Mode", "navigate"))
        .header(header("Sec-Fetch-Dest", "iframe"));
    pages.push(("request_refused", html(framed, Status::Forbidden).await));
    let refused = client.get("/refused").signed_in_as(json!({ "sub": "alice" }));
    html(refused, Status::Forbidden).await;
    let mut debug = client
        .get("/oidc/debug")
        .remote("127.0.0.1:50000".parse().expect("an address"));
    debug.inner_mut().set_host(Host::from(uri!("localhost:8000")));
    pages.push(("debug", html(debug, Status::Ok).await));
    client.sign_in("/refused", json!({ "sub": "alice" })).await;
    store.fail_all("the store is down");
    let unrecorded = client.post("/oidc/logout");
    pages.push((
        "sign_out_unrecorded",
        html(unrecorded, Status::ServiceUnavailable).await,
    ));

    let provider = |name: &str, label: &str| json!({ "issuer": format!("https://{name}.example"), "client_id": "app", "label": label });
    let several = json!({ "providers": {
        "work": provider("work", "Example Ltd and its Many Subsidiaries"), "club": provider("club", "Chess Club"),
    } });
    let app = rocket(several, &TestStore::new());
    let client = Client::tracked(TestProvider::new().register(app)).await;
    let client = client.expect("the app launches");
    pages.push(("choose_provider", html(client.get("/oidc/login"), Status::Ok).await));
    let begun_elsewhere = client
        .get("/oidc/login/work")
        .header(header("Sec-Fetch-Site", "cross-site"));
    pages.push(("confirm_sign_in", html(begun_elsewhere, Status::Ok).await));
    pages
}

#[rocket::async_test]
#[ignore = "needs Chromium: run scripts/interop"]
async fn every_built_in_page_is_accessible_and_fits_a_phone() {
    let axe = axe();
    let browser = Browser::start().await;
    let pages = pages_of_the_app().await;

    let port = free_port().to_string();
    let dev_provider = format!("{{port={port}}}");
    let app = Example::start("sign_in", free_port(), &[("OIDC_DEV_PROVIDER", &dev_provider)]);
    let at_provider = [
        ("dev_sign_in", app.at("localhost", "/oidc/login")),
        ("dev_tokens", format!("http://localhost:{port}/tokens")),
        ("dev_signed_out", format!("http://localhost:{port}/end_session")),
        ("dev_rejected", format!("http://localhost:{port}/authorize")),
    ];
    for scheme in ["light", "dark"] {
        browser.becomes(360, scheme == "dark").await;
        for (name, html) in &pages {
            browser.goto("about:blank").await;
            let html = json!(html);
            browser
                .execute(&format!("document.open(); document.write({html}); document.close();"))
                .await;
            check(&browser, &axe, name, scheme).await;
        }
        for (name, url) in &at_provider {
            browser.goto(url).await;
            check(&browser, &axe, name, scheme).await;
        }
    }
}

/// The script of axe-core.
pub fn axe() -> String {
    let axe = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/provider/node_modules/axe-core/axe.min.js");
    fs::read_to_string(axe).expect("`scripts/interop` installs axe-core")
}

/// No violation of a rule, and nothing that a phone would have to scroll sideways to.
pub async fn check(browser: &Browser, axe: &str, name: &str, scheme: &str) {
    browser.screenshot(&format!("page-{name}-{scheme}")).await;
    let violations = browser
        .execute(&format!(
            "{axe}; return axe.run(document).then((found) => found.violations.map((it) => \
             [it.id, it.nodes.map((node) => node.html)]));"
        ))
        .await;
    assert_eq!(violations, json!([]), "{name}, {scheme}");
    let widths = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]";
    let widths = browser.execute(widths).await;
    assert_eq!(widths[0], widths[1], "{name}, {scheme}");
}
