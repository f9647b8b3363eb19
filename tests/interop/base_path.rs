//! Apps below a path of a host, in Chromium through nginx with TLS and the headers that it sends by itself.

use rocket::{get, routes};
use rocket_openidconnect::{LoggedIn, Oidc, OptionalUser};

use crate::{
    browser::Browser,
    example::{Example, free_port},
    nginx::Nginx,
    node_provider::{CLIENT_ID, CLIENT_SECRET, NodeProvider},
};

/// The test that is the app, and where it mounts its pages.
const TEST: &str = "base_path::an_app";
const PAGES: &str = "INTEROP_PAGES_AT";

/// Thirty-two bytes that are no secret.
const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

#[get("/")]
fn index(visitor: OptionalUser) -> String {
    visitor
        .user()
        .map_or("nobody".to_owned(), |user| user.subject().to_owned())
}

#[get("/me")]
fn me(user: LoggedIn) -> String {
    format!("me: {}", user.subject())
}

/// Does nothing unless it is started as an app.
#[rocket::async_test]
#[ignore = "an app that other tests start: run scripts/interop"]
async fn an_app() {
    let Ok(pages_at) = std::env::var(PAGES) else {
        return;
    };
    let rocket = rocket::build()
        .attach(Oidc::fairing())
        .mount(pages_at, routes![index, me]);
    rocket.launch().await.expect("it runs until it is killed");
}

/// Two apps on one host, with one client and one key: nginx strips the path of one and keeps that of the other.
struct Host {
    port: u16,
    provider: NodeProvider,
    _apps: [Example; 2],
    _nginx: Nginx,
}

impl Host {
    async fn start(profile: &str) -> Host {
        let port = free_port();
        let of = |path: &str| format!("https://localhost:{port}/{path}");
        let redirect_uris = [of("kept/oidc/authorize"), of("stripped/oidc/authorize")].join(" ");
        let provider = NodeProvider::start(&[
            ("REDIRECT_URI", &redirect_uris),
            ("POST_LOGOUT_REDIRECT_URI", &[of("kept/"), of("stripped/")].join(" ")),
            ("BACKCHANNEL_LOGOUT_URI", ""),
        ])
        .await;
        let (kept, stripped) = (free_port(), free_port());
        let app = |app_port, path: &str, strips: &str, pages_at: &str| {
            Example::of_test(
                TEST,
                app_port,
                &[
                    (PAGES, pages_at),
                    ("ROCKET_PROFILE", profile),
                    ("ROCKET_SECRET_KEY", KEY),
                    ("OIDC_ISSUER", provider.issuer()),
                    ("OIDC_CLIENT_ID", CLIENT_ID),
                    ("OIDC_CLIENT_SECRET", CLIENT_SECRET),
                    ("OIDC_BASE_URL", &of(path)),
                    ("OIDC_PROXY_STRIPS_PATH", strips),
                ],
            )
        };
        let apps = [
            app(kept, "kept", "false", "/kept"),
            app(stripped, "stripped", "true", "/"),
        ];
        let lines = format!(
            "location /kept/ {{ proxy_pass http://127.0.0.1:{kept}; }}\n\
             location /stripped/ {{ proxy_pass http://127.0.0.1:{stripped}/; }}"
        );
        Host {
            _nginx: Nginx::start_with_tls(port, &lines),
            port,
            provider,
            _apps: apps,
        }
    }

    fn at(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }
}

async fn users_sign_in_and_out(profile: &str) {
    let host = Host::start(profile).await;
    let browser = Browser::start().await;
    for app in ["/kept", "/stripped"] {
        let (start, me) = (host.at(&format!("{app}/")), host.at(&format!("{app}/me")));
        browser.goto(&start).await;
        assert_eq!(browser.text("body").await, "nobody");
        browser.goto(&me).await;
        if app == "/kept" {
            host.provider.sign_in(&browser, "alice").await;
        }
        // The provider knows the user of the first app.
        browser.wait_for_url(|url| url == me).await;
        assert_eq!(browser.text("body").await, "me: alice");
    }
    // Each app has its own session: the end of one leaves the other.
    let cookies = browser.cookies().await;
    let names: Vec<_> = cookies.iter().map(|cookie| cookie.name.as_str()).collect();
    let sessions = names.iter().filter(|name| name.starts_with("__Host-oidc_session_"));
    assert_eq!(sessions.count(), 2, "{names:?}");

    for (app, other) in [("/stripped", "/kept"), ("/kept", "/stripped")] {
        browser.goto(&host.at(&format!("{app}/oidc/logout"))).await;
        browser.click("#sign-out").await;
        if app == "/stripped" {
            // The provider asks while it has a session.
            let provider = host.provider.issuer();
            browser.wait_for_url(|url| url.starts_with(provider)).await;
            browser.click("[name=logout]").await;
        }
        let start = host.at(&format!("{app}/"));
        browser.wait_for_url(|url| url == start).await;
        assert_eq!(browser.text("body").await, "nobody");
        if app == "/stripped" {
            browser.goto(&host.at(&format!("{other}/"))).await;
            assert_eq!(browser.text("body").await, "alice");
        }
    }
    // The page of a failed sign-in leads back to the app.
    for app in ["/kept", "/stripped"] {
        browser
            .goto(&host.at(&format!("{app}/oidc/authorize?code=x&state=0123456789")))
            .await;
        assert_eq!(browser.text("h1").await, "Sign-in failed");
        browser.click("p a:not(.button)").await;
        let start = host.at(&format!("{app}/"));
        browser.wait_for_url(|url| url == start).await;
    }
}

#[rocket::async_test]
#[ignore = "needs Node.js, Chromium and nginx: run scripts/interop"]
async fn users_sign_in_and_out_of_two_apps_on_one_host() {
    users_sign_in_and_out("release").await;
}

/// nginx passes on the host of the app, which in development is an alias of the one in `base_url`.
#[rocket::async_test]
#[ignore = "needs Node.js, Chromium and nginx: run scripts/interop"]
async fn in_the_debug_profile_nothing_redirects_to_itself() {
    users_sign_in_and_out("debug").await;
}
