//! Two npm `oidc-provider`s, and an app that is a client of both.

use std::time::{Duration, Instant};

use rocket::tokio::time::sleep;
use serde_json::{Value, json};
use url::Url;

use super::{HAS_TENANTS, SECOND_FACTOR, TEST};
use crate::{
    browser::Browser,
    example::{Example, free_port},
    node_provider::{CLIENT_SECRET, NodeProvider},
};

/// Two providers `a` and `b`, and an app that is a client of both.
pub struct World {
    pub a: NodeProvider,
    pub b: NodeProvider,
    pub app: Example,
    pub port: u16,
}

/// How a world differs from the usual one.
#[derive(Clone, Copy, Default)]
pub struct Differences {
    pub has_tenants: bool,
    pub shares_redirect_uri: bool,
    /// The provider to whose path `a` posts its logout tokens.
    pub logout_tokens_of_a_to: Option<&'static str>,
    /// The port of a development provider.
    pub dev_provider: Option<u16>,
    /// The port of a hostile provider.
    pub hostile: Option<u16>,
}

impl World {
    pub async fn start() -> World {
        World::with(Differences::default()).await
    }

    pub async fn with(differences: Differences) -> World {
        World::at(free_port(), differences).await
    }

    pub async fn at(port: u16, differences: Differences) -> World {
        let base_url = |name: &str| {
            if differences.has_tenants {
                format!("http://{name}.localhost:{port}")
            } else {
                format!("http://localhost:{port}")
            }
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
        if let Some(hostile) = differences.hostile {
            providers["hostile"] = json!({
                "issuer": format!("http://127.0.0.1:{hostile}"), "client_id": "rocket-app", "client_secret": "known",
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

    pub fn url(&self, path: &str) -> String {
        self.app.at("localhost", path)
    }

    /// Signs this user in at one of the two, from the chooser, where the app then shows its page.
    pub async fn sign_in(&self, browser: &Browser, name: &str, user: &str) {
        browser.goto(&self.url("/oidc/login?next=/who")).await;
        browser.click(&format!("#sign-in-{name}")).await;
        let provider = if name == "a" { &self.a } else { &self.b };
        browser.wait_for_url(|url| url.starts_with(provider.issuer())).await;
        provider.sign_in(browser, user).await;
        browser.wait_for_url(|url| url == self.url("/who")).await;
        assert_eq!(browser.text("body").await, format!("{name} {user}"));
    }

    pub async fn sessions_of(&self, key: &str) -> Value {
        let url = Url::parse_with_params(&self.url("/sessions"), [("key", key)]).unwrap();
        json_at(url.as_str()).await
    }
}

async fn json_at(url: &str) -> Value {
    let response = crate::patience::client().get(url).send().await.unwrap();
    serde_json::from_slice(&response.bytes().await.unwrap()).expect("JSON")
}

/// How often an event of this name was noted at a provider.
pub async fn count(provider: &NodeProvider, event: &str) -> usize {
    let url = format!("{}/_test/events", provider.issuer());
    let events = json_at(&url).await;
    let events = events.as_array().expect("a list").iter();
    events.filter(|noted| noted["event"] == event).count()
}

/// Waits for an event that a provider notes after it has answered.
pub async fn wait_for(provider: &NodeProvider, event: &str) {
    let begun = Instant::now();
    while count(provider, event).await == 0 {
        assert!(begun.elapsed().as_secs() < 20, "no {event} at {}", provider.issuer());
        sleep(Duration::from_millis(50)).await;
    }
}
