//! `GET {mount}/jwks.json`.

use std::error::Error;

use rocket::{
    Build, Rocket,
    http::{Method, Status},
    serde::json::{Value, json},
};
use rocket_openidconnect::{Oidc, ProviderRegistration, ProviderSource, Secret};

use super::{Key, file};
use crate::{
    common::{App, pages, signed_in},
    support::{Browser, TestProvider},
};

/// Members of private keys.
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

#[rocket::async_test]
async fn the_public_keys_and_nothing_else_are_published() {
    let provider = TestProvider::start().await;
    let [old, active, encrypts] = ["old", "active", "encrypts"].map(Key::new);
    let mut noted = active.private();
    noted["iat"] = 1.into();
    noted["x5u"] = "https://internal.example".into();
    let mut for_encryption = encrypts.private();
    for_encryption["use"] = "enc".into();
    let file = file(&[noted, old.public(), for_encryption]);
    let app = App::public(&provider)
        .with("oidc.private_key_file", file.path())
        .with("oidc.mount", "/auth");
    let browser = signed_in(&app, &provider).await;
    // A user in the browser changes nothing.
    for browser in [browser.another(), browser] {
        let page = browser.visit("/auth/jwks.json").await;
        page.is(Status::Ok);
        assert_eq!(page.header("content-type"), Some("application/jwk-set+json"));
        assert_eq!(page.header("cache-control"), Some("public, max-age=300"));
        assert!(page.set_cookies().is_empty(), "{page:#?}");
        let keys = page.json::<Value>();
        assert_eq!(keys, json!({ "keys": [active.published(), old.published()] }));
        for key in keys["keys"].as_array().unwrap() {
            assert!(PRIVATE.iter().all(|member| key.get(member).is_none()), "{key}");
        }
    }
    let head = app.open().await.request(Method::Head, "/auth/jwks.json", &[], "").await;
    head.is(Status::Ok);
}

#[rocket::async_test]
async fn without_a_key_there_is_no_route() {
    let provider = TestProvider::start().await;
    let browser = App::new(&provider).open().await;
    browser.visit("/oidc/jwks.json").await.is(Status::NotFound);
}

#[rocket::async_test]
async fn an_api_without_sign_in_publishes_the_key_that_introspects() {
    let (provider, key) = (TestProvider::start().await, Key::new("mine"));
    let file = file(&[key.private()]);
    let app = App::public(&provider)
        .with("oidc.private_key_file", file.path())
        .with("oidc.resource_server_only", true);
    let browser = Browser::open(app.rocket_of_api(vec![])).await;
    let page = browser.visit("/oidc/jwks.json").await;
    assert_eq!(page.json::<Value>(), json!({ "keys": [key.published()] }));
}

/// A source whose providers have a key each.
struct Tenants(String, Secret);

#[rocket::async_trait]
impl ProviderSource for Tenants {
    async fn registration(&self, _: &str) -> Result<Option<ProviderRegistration>, Box<dyn Error + Send + Sync>> {
        let found = ProviderRegistration::new(&self.0, "app").private_key(self.1.clone());
        Ok(Some(found))
    }
}

fn with_tenants(app: &App, provider: &TestProvider, key: &Key) -> Rocket<Build> {
    let tenants = Tenants(provider.issuer(), Secret::new(key.private().to_string()));
    let fairing = Oidc::fairing().clock(app.clock()).provider_source(tenants);
    app.bare().attach(fairing).mount("/", pages())
}

#[rocket::async_test]
async fn several_providers_have_a_set_each() {
    let (one, two) = (TestProvider::start().await, TestProvider::start().await);
    let [first, second, shared] = ["first", "second", "shared"].map(Key::new);
    let files = [
        file(&[first.private(), shared.public()]),
        file(&[second.private(), shared.public()]),
    ];
    let of = |provider: &TestProvider, file: Option<&tempfile::NamedTempFile>| {
        let path = file.map(|file| file.path());
        json!({ "issuer": provider.issuer(), "client_id": "app", "private_key_file": path })
    };
    let none = TestProvider::start().await;
    let app = App::public(&one).with_all(json!({ "issuer": null, "client_id": null, "providers": {
        "one": of(&one, Some(&files[0])),
        "two": of(&two, Some(&files[1])),
        "public": { "issuer": none.issuer(), "client_id": "app" },
    } }));
    let browser = app.open().await;
    for (path, keys) in [
        ("/oidc/jwks.json/one", vec![&first, &shared]),
        ("/oidc/jwks.json/two", vec![&second, &shared]),
        ("/oidc/jwks.json", vec![&first, &shared, &second]),
    ] {
        let page = browser.visit(path).await;
        let keys: Vec<_> = keys.into_iter().map(Key::published).collect();
        assert_eq!(page.json::<Value>(), json!({ "keys": keys }), "{path}");
        assert_eq!(page.header("content-type"), Some("application/jwk-set+json"));
    }
    for name in ["public", "three", "..", "ONE"] {
        let page = browser.visit(&format!("/oidc/jwks.json/{name}")).await;
        page.is(Status::NotFound);
    }
}

/// Their keys belong to tenants, and the set would tell who the tenants are.
#[rocket::async_test]
async fn keys_of_providers_that_are_found_are_never_published() {
    let (one, two) = (TestProvider::start().await, TestProvider::start().await);
    let [own, of_tenant] = ["own", "of-tenant"].map(Key::new);
    let file = file(&[own.private()]);
    let app = App::public(&one).with_all(json!({ "issuer": null, "client_id": null, "providers": {
        "one": { "issuer": one.issuer(), "client_id": "app", "private_key_file": file.path() },
    } }));
    let browser = Browser::open(with_tenants(&app, &two, &of_tenant)).await;
    // The tenant is found, and is used.
    browser.visit("/oidc/login/acme").await;
    let page = browser.visit("/oidc/jwks.json").await;
    assert_eq!(page.json::<Value>(), json!({ "keys": [own.published()] }));
    browser.visit("/oidc/jwks.json/acme").await.is(Status::NotFound);

    // An app whose providers are all found has no key of its own.
    let app = App::public(&one).with_all(json!({ "issuer": null, "client_id": null }));
    let browser = Browser::open(with_tenants(&app, &two, &of_tenant)).await;
    browser.visit("/oidc/login/acme").await;
    for path in ["/oidc/jwks.json", "/oidc/jwks.json/acme"] {
        browser.visit(path).await.is(Status::NotFound);
    }
}
