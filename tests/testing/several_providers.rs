//! Apps with several providers: each is the test provider under an issuer of its own.

use std::{error::Error, time::Duration};

use rocket::{
    Build, Config, Request, Rocket,
    figment::Figment,
    get,
    http::{Accept, Header, Status},
    local::{asynchronous, blocking::Client},
    routes,
    serde::json::{Value, json},
};
use rocket_openidconnect::{
    Bearer, Endpoint, LoggedIn, Oidc, OptionalUser, ProviderRegistration, ProviderSource, RelyingParty,
    testing::{TestClient, TestProvider, TestRequest, assert_guarded},
};

use crate::{app::ENVIRONMENT, requests::panic_of};

#[get("/key")]
fn key(user: LoggedIn) -> String {
    user.key().to_string()
}

#[get("/open")]
fn open(visitor: OptionalUser) -> String {
    let user = visitor.user();
    user.map_or_else(|| "nobody".to_owned(), |user| user.key().to_string())
}

#[get("/token")]
fn token(token: Bearer) -> String {
    format!("{} {}", token.issuer(), token.subject().unwrap_or_default())
}

/// A page that has users sign in at one provider.
#[get("/at-two")]
fn at_two(user: Option<LoggedIn>, rp: &RelyingParty) -> Result<String, Box<rocket::response::Redirect>> {
    let url = rp.sign_in_url().provider("two").next("/key").to_string();
    user.map(|user| user.key().to_string())
        .ok_or_else(|| Box::new(rocket::response::Redirect::to(url)))
}

/// A page that sends users of another provider to one.
#[get("/always-two")]
fn always_two(user: LoggedIn, rp: &RelyingParty) -> Result<String, Box<rocket::response::Redirect>> {
    let url = rp.sign_in_url().provider("two").next("/key").to_string();
    match user.provider() {
        "two" => Ok(user.key().to_string()),
        _ => Err(Box::new(rocket::response::Redirect::to(url))),
    }
}

/// Real providers, which no test reaches.
fn providers() -> Value {
    json!({
        "one": { "issuer": "https://one.example", "client_id": "app", "client_secret": "hush", "order": 2 },
        "two": { "provider": "google", "client_id": "two", "client_secret_file": "/nowhere", "order": 1 },
    })
}

fn rocket_with(settings: Value, fairing: Oidc) -> Rocket<Build> {
    crate::logging::listen();
    let figment = Figment::from(Config::debug_default())
        .merge(("log_level", "off"))
        .merge(("oidc", settings));
    rocket::custom(figment)
        .attach(fairing)
        .mount("/", routes![key, open, at_two, always_two])
}

fn rocket() -> Rocket<Build> {
    rocket_with(json!({ "providers": providers() }), Oidc::fairing()).mount("/", routes![token])
}

/// A variable at the top of the table would be refused here, as anywhere.
fn launch(rocket: Rocket<Build>) -> Client {
    let _unchanged = ENVIRONMENT.blocking_read();
    Client::tracked(rocket).unwrap()
}

fn start() -> (TestProvider, Client) {
    let provider = TestProvider::new();
    let client = launch(provider.register(rocket()));
    (provider, client)
}

fn alice() -> Value {
    json!({ "sub": "alice" })
}

fn key_at(name: &str) -> String {
    format!("{name} {}/{name} alice", TestProvider::ISSUER)
}

fn body(client: &Client, path: &str) -> String {
    client.get(path).dispatch().into_string().unwrap_or_default()
}

#[test]
fn a_request_is_signed_in_at_the_first_or_at_a_named_provider() {
    let (provider, client) = start();
    let key = |request: rocket::local::blocking::LocalRequest<'_>| request.dispatch().into_string().unwrap();
    // The first one of the chooser, not of the alphabet.
    assert_eq!(key(client.get("/key").signed_in_as(alice())), key_at("two"));
    assert_eq!(key(client.get("/key").signed_in_at("one", alice())), key_at("one"));
    assert_eq!(key(client.get("/key").signed_in_at("two", alice())), key_at("two"));
    let clients = |name: &str| {
        let requests = provider.at(name).requests_to(Endpoint::Token);
        assert!(requests.iter().all(|request| request.provider() == name));
        requests.len()
    };
    assert_eq!((clients("one"), clients("two")), (1, 2));
    assert_eq!(provider.requests_to(Endpoint::Token).len(), 3);
    provider.at("two").clear_requests();
    assert_eq!((clients("one"), clients("two")), (1, 0));
    assert_eq!(provider.issuer(), "https://provider.test/two");
    assert_eq!(provider.at("one").issuer(), "https://provider.test/one");
}

#[test]
fn a_browser_chooses_the_first_or_a_named_provider() {
    for (name, expected) in [(None, "two"), (Some("one"), "one"), (Some("two"), "two")] {
        for path in ["/key", "/oidc/login?next=/key"] {
            let (_, client) = start();
            let page = match name {
                None => client.sign_in(path, alice()),
                Some(name) => client.sign_in_at(name, path, alice()),
            };
            assert_eq!(page.into_string().unwrap(), key_at(expected), "{name:?} {path}");
            assert_eq!(body(&client, "/key"), key_at(expected));
            let page = client.sign_out("/open");
            assert_eq!(page.into_string().unwrap(), "nobody");
        }
    }
    // Whatever the page would do with a signed-out user.
    for name in ["one", "two"] {
        let (_, client) = start();
        let page = client.sign_in_at(name, "/at-two", alice());
        assert_eq!(page.into_string().unwrap(), key_at(name));
    }
    let (_, client) = start();
    let panic = panic_of(|| drop(client.sign_in_at("one", "/always-two", alice())));
    assert_eq!(panic, "the page has users sign in at the provider `two`, not at `one`");
}

#[test]
fn a_name_that_the_app_does_not_have_is_named() {
    let (provider, client) = start();
    let has = "there is no provider `three`: the table `oidc.providers` has `two`, `one`";
    assert_eq!(
        panic_of(|| drop(client.get("/key").signed_in_at("three", alice()))),
        has
    );
    assert_eq!(panic_of(|| drop(client.get("/key").bearer_at("three", alice()))), has);
    assert_eq!(panic_of(|| drop(client.sign_in_at("three", "/key", alice()))), has);
    assert_eq!(
        panic_of(|| {
            let _ = client.send_backchannel_logout_at("three", "alice");
        }),
        has
    );
    assert_eq!(
        panic_of(|| drop(provider.at("three"))),
        "there is no provider `three`: the app has `two`, `one`; one that its `provider_source` finds is there once the \
         app has asked for it"
    );
    assert_eq!(
        panic_of(|| drop(TestProvider::new().at("one"))),
        "an app was registered here by `TestProvider::register`, and launched"
    );
    let (_, client) = crate::app::open(crate::app::figment());
    assert_eq!(
        panic_of(|| drop(client.get("/me").signed_in_at("google", alice()))),
        "there is no provider `google`: the app has only one, without the table `oidc.providers`"
    );
    // The only one has the name that `User::provider` has.
    let me = client.get("/me").signed_in_at("default", alice());
    assert_eq!(me.dispatch().status(), Status::Ok);
}

#[test]
fn access_tokens_are_of_the_first_or_a_named_provider() {
    let (provider, client) = start();
    let ask = |request: rocket::local::blocking::LocalRequest<'_>| request.dispatch().into_string().unwrap();
    let of = |name: &str| format!("{}/{name} alice", TestProvider::ISSUER);
    assert_eq!(ask(client.get("/token").bearer(alice())), of("two"));
    assert_eq!(ask(client.get("/token").bearer_at("one", alice())), of("one"));
    // Each has keys of its own: a token of one in the name of the other is rejected.
    let forged = json!({ "sub": "alice", "iss": provider.at("two").issuer(), "aud": "two" });
    let answer = client.get("/token").bearer_at("one", forged).dispatch();
    assert_eq!(answer.status(), Status::Unauthorized);
}

#[test]
fn failures_and_revocations_are_at_all_or_at_one() {
    let (provider, client) = start();
    let login = |name: &str| client.get(format!("/oidc/login/{name}")).dispatch().status();
    provider.at("one").respond_with(Endpoint::Metadata, 503);
    assert_eq!(
        (login("one"), login("two")),
        (Status::ServiceUnavailable, Status::SeeOther)
    );
    provider.at("two").recover();
    provider.advance_clock(Duration::from_secs(60));
    assert_eq!(login("one"), Status::ServiceUnavailable);
    provider.at("one").recover();
    provider.advance_clock(Duration::from_secs(60));
    assert_eq!(login("one"), Status::SeeOther);

    for (revoked, stays) in [(Some("two"), true), (Some("one"), false), (None, false)] {
        let (provider, client) = start();
        client.sign_in_at("one", "/key", alice());
        match revoked {
            Some(name) => provider.at(name).revoke_all_of("alice"),
            None => provider.revoke_all_of("alice"),
        }
        provider.advance_clock(Duration::from_secs(285));
        let expected = if stays { key_at("one") } else { "nobody".to_owned() };
        assert_eq!(body(&client, "/open"), expected, "{revoked:?}");
    }

    // The other's tokens stay right.
    provider
        .at("two")
        .on_id_token(|claims| drop(claims.insert("aud".into(), json!("another"))));
    assert_eq!(
        client.attempt_sign_in_at("two", "/key", alice()).status(),
        Status::BadGateway
    );
    assert_eq!(client.sign_in_at("one", "/key", alice()).status(), Status::Ok);

    provider.rotate_keys();
    let answer = client.get("/token").bearer_at("one", alice()).dispatch();
    assert_eq!(answer.status(), Status::Ok);
}

#[rocket::async_test]
async fn each_provider_ends_its_own_sessions() {
    let client = {
        let _unchanged = ENVIRONMENT.read().await;
        let rocket = TestProvider::new().register(rocket());
        asynchronous::Client::tracked(rocket).await.unwrap()
    };
    let open = async || client.get("/open").dispatch().await.into_string().await.unwrap();
    client.sign_in_at("one", "/key", alice()).await;
    // `alice` of `two` is another person.
    assert_eq!(client.send_backchannel_logout("alice").await, Status::Ok);
    assert_eq!(open().await, key_at("one"));
    assert_eq!(client.send_backchannel_logout_at("one", "alice").await, Status::Ok);
    assert_eq!(open().await, "nobody");
}

#[test]
fn routes_of_several_providers_need_no_guard() {
    let client = launch(TestProvider::new().register(rocket()));
    assert_guarded(&client, &["/open", "/at-two"]);
}

/// Of an app in production.
#[test]
fn a_profile_without_base_url_has_one_here() {
    let rocket = rocket();
    let figment = rocket.figment().clone().select("release");
    let client = launch(TestProvider::new().register(rocket.configure(figment)));
    let login = client.get("/oidc/login/one").dispatch();
    let location = login.headers().get_one("Location").unwrap();
    assert!(
        location.contains("redirect_uri=https%3A%2F%2Fapp.test%2Foidc%2Fauthorize%2Fone"),
        "{location}"
    );
}

/// The provider of each tenant, by the host.
fn by_host(request: &Request<'_>) -> Option<String> {
    let host = request.headers().get_one("Host")?;
    Some(host.strip_suffix(".example")?.to_owned())
}

#[test]
fn a_request_is_at_the_provider_of_its_tenant() {
    let settings = json!({ "providers": {
        "one": { "issuer": "https://op.example", "client_id": "a", "client_secret": "x", "base_url": "https://one.example" },
        "two": { "issuer": "https://op.example", "client_id": "b", "client_secret": "x", "base_url": "https://two.example" },
    } });
    let rocket = rocket_with(settings, Oidc::fairing().provider_for(by_host)).mount("/", routes![token]);
    let client = launch(TestProvider::new().register(rocket));
    let host = |name: &str| Header::new("Host", format!("{name}.example"));
    for name in ["one", "two"] {
        let request = client.get("/key").header(host(name)).signed_in_as(alice());
        assert_eq!(request.dispatch().into_string().unwrap(), key_at(name));
        let request = client.get("/token").header(host(name)).bearer(alice());
        let issuer = format!("{}/{name} alice", TestProvider::ISSUER);
        assert_eq!(request.dispatch().into_string().unwrap(), issuer);
    }
    // Tenants are apart.
    let request = client.get("/open").header(host("one")).signed_in_at("two", alice());
    assert_eq!(request.dispatch().into_string().unwrap(), "nobody");
    let request = client.get("/token").header(host("one")).bearer_at("two", alice());
    assert_eq!(request.dispatch().status(), Status::Unauthorized);

    let panic = panic_of(|| drop(client.get("/key").signed_in_as(alice())));
    assert_eq!(
        panic,
        "the app's `provider_for` chooses none of its providers for this request: the table `oidc.providers` has `one`, \
         `two`. Add the headers by which it decides, such as `Host`, first; or name a provider, as with `signed_in_at`"
    );

    assert_eq!(
        client.sign_in_at("two", "/key", alice()).into_string().unwrap(),
        key_at("two")
    );
    let open = |name: &str| client.get("/open").header(host(name)).dispatch().into_string().unwrap();
    assert_eq!((open("one"), open("two")), ("nobody".to_owned(), key_at("two")));
    assert_eq!(client.send_backchannel_logout_at("two", "alice"), Status::Ok);
    assert_eq!(open("two"), "nobody");
}

/// The tenants in a database, but for one whose registration is not usable.
struct Tenants;

#[rocket::async_trait]
impl ProviderSource for Tenants {
    async fn registration(&self, name: &str) -> Result<Option<ProviderRegistration>, Box<dyn Error + Send + Sync>> {
        match name {
            "acme" | "beta" => {
                let issuer = format!("https://login.{name}.example");
                Ok(Some(ProviderRegistration::new(&issuer, name).audience("the-api")))
            }
            "wrong" => Ok(Some(ProviderRegistration::new("not a url", "app"))),
            "down" => Err("the database is down".into()),
            _ => Ok(None),
        }
    }
}

#[test]
fn providers_that_the_app_finds_are_replaced_too() {
    for settings in [json!({}), json!({ "providers": providers() })] {
        let has_first = settings != json!({});
        let provider = TestProvider::new();
        let rocket = rocket_with(settings, Oidc::fairing().provider_source(Tenants));
        let client = launch(provider.register(rocket));
        let request = client.get("/key").signed_in_at("acme", alice());
        assert_eq!(request.dispatch().into_string().unwrap(), key_at("acme"));
        assert_eq!(
            client.sign_in_at("beta", "/key", alice()).into_string().unwrap(),
            key_at("beta")
        );
        assert_eq!(client.send_backchannel_logout_at("acme", "alice"), Status::Ok);
        assert_eq!(body(&client, "/open"), key_at("beta"));
        provider.at("acme").revoke_all_of("alice");
        provider.advance_clock(Duration::from_secs(285));
        assert_eq!(body(&client, "/open"), key_at("beta"));
        provider.at("beta").revoke_all_of("alice");
        provider.advance_clock(Duration::from_secs(285));
        assert_eq!(body(&client, "/open"), "nobody");

        let panic = |name: &str| panic_of(|| drop(client.get("/key").signed_in_at(name, alice())));
        for name in ["gamma", "wrong", "No Name"] {
            let cause = if has_first {
                "the table `oidc.providers` has `two`, `one`, and `provider_source` does not find it"
            } else {
                "the app's `provider_source` does not find it"
            };
            assert_eq!(panic(name), format!("there is no provider `{name}`: {cause}"));
        }
        assert_eq!(
            panic("down"),
            "the app's `provider_source` failed for the provider `down`"
        );
        if has_first {
            assert_eq!(client.sign_in("/key", alice()).into_string().unwrap(), key_at("two"));
        } else {
            let panic = panic_of(|| drop(client.get("/key").signed_in_as(alice())));
            let expected = "the app finds its providers by its `provider_source`: name one, as with `signed_in_at`";
            assert_eq!(panic, expected);
        }
    }
}

#[test]
fn tenants_that_the_app_finds_have_access_tokens_too() {
    let fairing = Oidc::fairing().provider_source(Tenants).provider_for(by_host);
    let rocket = rocket_with(json!({ "providers": providers() }), fairing).mount("/", routes![token]);
    let client = launch(TestProvider::new().register(rocket));
    let host = |name: &str| Header::new("Host", format!("{name}.example"));
    let request = client.get("/token").header(host("acme")).bearer(alice());
    assert_eq!(
        request.dispatch().into_string().unwrap(),
        format!("{}/acme alice", TestProvider::ISSUER)
    );
    let request = client.get("/token").header(host("acme")).bearer_at("beta", alice());
    assert_eq!(request.dispatch().status(), Status::Unauthorized);
    let request = client.get("/key").header(host("acme")).header(Accept::HTML);
    let key = request.signed_in_as(alice()).dispatch();
    assert_eq!(key.into_string().unwrap(), key_at("acme"));
}
