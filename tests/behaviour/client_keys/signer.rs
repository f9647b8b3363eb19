//! The app's own signer, in place of a key file.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rocket::{
    Build, Rocket,
    http::Status,
    serde::json::{Value, json},
};
use rocket_openidconnect::{ClientSigner, Oidc};

use super::{Key, claims, file};
use crate::{
    common::{App, launch_failure, pages},
    support::{Browser, TestProvider},
};

/// What the key service does with each request.
#[derive(Clone, Copy)]
enum Does {
    Signs,
    Fails,
    Panics,
    Hangs,
    SignsTooShort,
}

/// A key service with one key.
#[derive(Clone)]
struct Service(Arc<Inner>);

struct Inner {
    key: Key,
    jwk: Value,
    does: Does,
    calls: AtomicUsize,
}

impl Service {
    fn new(does: Does) -> Service {
        let key = Key::new("hsm");
        Service(Arc::new(Inner {
            jwk: key.public(),
            key,
            does,
            calls: AtomicUsize::new(0),
        }))
    }

    fn rocket(&self, app: &App) -> Rocket<Build> {
        with(app, |oidc| oidc.client_signer(self.clone()))
    }
}

#[rocket::async_trait]
impl ClientSigner for Service {
    fn alg(&self) -> &str {
        "EdDSA"
    }

    fn kid(&self) -> &str {
        self.0.key.kid
    }

    fn public_jwk(&self) -> Value {
        self.0.jwk.clone()
    }

    async fn sign(&self, input: &[u8]) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        let signature = self.0.key.pair.sign(input).as_ref().to_vec();
        match self.0.does {
            Does::Signs => Ok(signature),
            Does::Fails => Err("access denied".into()),
            Does::Panics => panic!("the driver of the module"),
            Does::Hangs => std::future::pending().await,
            Does::SignsTooShort => Ok(signature[..63].to_vec()),
        }
    }
}

fn with(app: &App, attach: impl FnOnce(Oidc) -> Oidc) -> Rocket<Build> {
    let fairing = Oidc::fairing().clock(app.clock()).events(app.recorded());
    app.bare().attach(attach(fairing)).mount("/", pages())
}

#[rocket::async_test]
async fn a_client_with_a_signer_signs_in_and_publishes_its_key() {
    let (provider, service) = (TestProvider::start().await, Service::new(Does::Signs));
    let app = App::public(&provider);
    let browser = Browser::signed_in(service.rocket(&app), &provider).await;
    claims(&provider.last_request("/token"), &service.0.key);
    assert_eq!(service.0.calls.load(Ordering::SeqCst), 1);
    let page = browser.visit("/oidc/jwks.json").await;
    assert_eq!(page.json::<Value>(), json!({ "keys": [service.0.key.published()] }));
}

#[rocket::async_test]
async fn a_signer_that_fails_fails_the_sign_in_and_sends_nothing() {
    for (does, cause) in [
        (Does::Fails, "it returned an error: access denied"),
        (Does::Panics, "it panicked"),
        (Does::Hangs, "it did not respond within 50 ms"),
        (
            Does::SignsTooShort,
            "its signature has 63 bytes, and one of EdDSA has 64",
        ),
    ] {
        let (provider, service) = (TestProvider::start().await, Service::new(does));
        let app = App::public(&provider).with("oidc.http.timeout", "50ms");
        let browser = Browser::open(service.rocket(&app)).await;
        let page = browser.sign_in(&provider, "/me").await;
        page.is(Status::ServiceUnavailable).sees_no("access denied");
        let error = format!("the client's signer failed: {cause}");
        assert_eq!(app.failures_with_status(), [(503, error)]);
        assert_eq!(provider.count("/token"), 0);
        // The app goes on.
        browser.visit("/").await.is(Status::Ok);
    }
}

/// An outage of the key service is not one of the user's session.
#[rocket::async_test]
async fn a_refresh_waits_for_the_signer() {
    let (provider, service) = (TestProvider::start().await, Service::new(Does::Signs));
    let app = App::public(&provider);
    let browser = Browser::signed_in(service.rocket(&app), &provider).await;
    let failing = Service(Arc::new(Inner {
        key: Key::new("hsm"),
        jwk: service.0.jwk.clone(),
        does: Does::Fails,
        calls: AtomicUsize::new(0),
    }));
    let node = Browser::open(failing.rocket(&app)).await;
    for (name, value) in browser.cookies() {
        node.set_cookie(rocket::http::Cookie::new(name, value));
    }
    app.advance(Duration::from_secs(3_590));
    node.visit("/me").await.is(Status::Ok);
    assert_eq!(failing.0.calls.load(Ordering::SeqCst), 1);
    assert_eq!(provider.count("/token"), 1);
}

#[rocket::async_test]
async fn a_signer_that_contradicts_the_settings_stops_the_launch() {
    let provider = TestProvider::start().await;
    let key = Key::new("mine");
    let file = file(&[key.private()]);
    let service = Service::new(Does::Signs);
    let app = App::public(&provider);
    let mut private = Inner {
        jwk: Key::new("hsm").private(),
        key: Key::new("hsm"),
        does: Does::Signs,
        calls: AtomicUsize::new(0),
    };
    private.jwk["kid"] = "hsm".into();
    let private = Service(Arc::new(private));
    for (rocket, cause) in [
        (
            service.rocket(&app.clone().with("oidc.private_key_file", file.path())),
            "the app has a `ClientSigner` for this provider too, and only one of them can sign",
        ),
        (
            service.rocket(&app.clone().with("oidc.private_key_id", "mine")),
            "the app's `ClientSigner` has the `kid` \"hsm\"",
        ),
        (
            private.rocket(&app),
            "the `ClientSigner` cannot be used: its public JWK is not usable: the key is a private key",
        ),
        (
            with(&app, |oidc| {
                oidc.client_signer(service.clone()).client_signer(service.clone())
            }),
            "the `ClientSigner` cannot be used: it is the second one",
        ),
        (
            with(&app, |oidc| oidc.client_signer_for("acme", service.clone())),
            "the `ClientSigner` for the provider `acme` cannot be used: there is no provider `acme` in `oidc.providers`",
        ),
    ] {
        let (_, log) = launch_failure(rocket).await;
        assert!(log[0].contains(cause), "{log:?}");
    }
}

#[rocket::async_test]
async fn one_of_several_providers_has_a_signer() {
    let (one, two) = (TestProvider::start().await, TestProvider::start().await);
    let app = App::public(&one).with_all(json!({ "issuer": null, "client_id": null, "providers": {
        "one": { "issuer": one.issuer(), "client_id": "app" },
        "two": { "issuer": two.issuer(), "client_id": "app" },
    } }));
    two.set_time(one.now());
    let service = Service::new(Does::Signs);
    let rocket = with(&app, |oidc| oidc.client_signer_for("two", service.clone()));
    let browser = Browser::open(rocket).await;
    for (provider, name) in [(&one, "one"), (&two, "two")] {
        let page = browser.visit(&format!("/oidc/login/{name}?next=/")).await;
        browser.follow(provider, page).await;
    }
    assert_eq!(one.last_request("/token").form_value("client_assertion"), None);
    claims(&two.last_request("/token"), &service.0.key);
    let keys = json!({ "keys": [service.0.key.published()] });
    for path in ["/oidc/jwks.json", "/oidc/jwks.json/two"] {
        assert_eq!(browser.visit(path).await.json::<Value>(), keys);
    }
    browser.visit("/oidc/jwks.json/one").await.is(Status::NotFound);

    let rocket = with(&app, |oidc| oidc.client_signer(service.clone()));
    let (_, log) = launch_failure(rocket).await;
    assert!(
        log[0].contains("the `ClientSigner` cannot be used: the app has several providers"),
        "{log:?}"
    );
}
