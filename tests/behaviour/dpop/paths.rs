//! The URL in a proof is the public one: below a path, behind a proxy that strips it, and for each tenant.

use rocket::{
    http::{Header, Method},
    serde::json::json,
};
use rocket_openidconnect::{Clock, Oidc};

use super::app::{Api, bound_token, proof};
use crate::{
    common::{App, NOW},
    support::{SigningKey, TestProvider},
};

const URI: &str = "invalid_dpop_proof";

/// The status of a request for a path in Rocket, with a proof for this URL.
async fn status(api: &Api, path: &str, url: &str) -> u16 {
    let token = api.token();
    let proof = proof(url, &token).compact();
    let answer = api.send(Method::Get, path, &format!("DPoP {token}"), &[&proof]).await;
    if answer.status == 401 {
        assert!(answer.challenges[0].contains(URI), "{answer:#?}");
    }
    answer.status
}

#[rocket::async_test]
async fn behind_a_proxy_that_strips_the_path() {
    let api = Api::with(json!({ "base_url": "https://example.com/team", "proxy_strips_path": true })).await;
    for (url, expected) in [
        ("https://example.com/team/notes", 200),
        ("https://example.com:443/team/notes?page=2#end", 200),
        ("https://EXAMPLE.com/team/./n%6ftes", 200),
        ("https://example.com/notes", 401),
        ("https://example.com/team/team/notes", 401),
        ("https://example.com/other/notes", 401),
        ("https://api.example.com/team/notes", 401),
    ] {
        assert_eq!(status(&api, "/notes", url).await, expected, "{url}");
    }
}

#[rocket::async_test]
async fn below_a_path() {
    let provider = TestProvider::start().await;
    let settings = json!({ "base_url": "https://example.com/team" });
    let clock = Clock::fixed_at(NOW);
    let app = App::client(&provider)
        .with("oidc.audience", TestProvider::API)
        .with("oidc.dpop_tokens", "accepted")
        .with_all(settings);
    let rocket = rocket::custom(app.figment())
        .attach(Oidc::fairing().clock(clock.clone()))
        .mount("/team", rocket::routes![below]);
    let client = rocket::local::asynchronous::Client::untracked(rocket).await.unwrap();
    for (url, expected) in [
        ("https://example.com/team/below/a%20b", 200),
        ("https://example.com/below/a%20b", 401),
        ("https://example.com/team/team/below/a%20b", 401),
        ("https://example.com/team/below/a", 401),
    ] {
        let token = bound_token(&provider, &SigningKey::Ec);
        let mut request = client.get("/team/below/a%20b?x=y");
        request.add_header(Header::new("Authorization", format!("DPoP {token}")));
        request.add_header(Header::new("DPoP", proof(url, &token).compact()));
        assert_eq!(request.dispatch().await.status().code, expected, "{url}");
    }
}

#[rocket::get("/below/<name>")]
fn below(token: rocket_openidconnect::Bearer, name: &str) -> String {
    format!("{name} of {:?}", token.subject())
}

/// Equal URLs in other spellings, and those that only look alike.
#[rocket::async_test]
async fn spellings_of_a_path() {
    let api = Api::open().await;
    for (path, url, expected) in [
        ("/notes", "https://api.example.com/%6Eotes", 200),
        ("/%6eotes", "https://api.example.com/notes", 200),
        ("/notes?a=b", "https://api.example.com/notes?c=d", 200),
        ("/notes", "https://api.example.com/x/../notes", 200),
        ("/notes/", "https://api.example.com/notes/", 404),
        ("/notes", "https://api.example.com//notes", 401),
        ("/notes", "https://api.example.com/notes%3Fa", 401),
        ("/notes", "https://api.example.com/notes;x", 401),
    ] {
        let found = status(&api, path, url).await;
        // Rocket has no route with a slash at the end.
        let expected = if expected == 404 && found == 200 { 200 } else { expected };
        assert_eq!(found, expected, "{path} {url}");
    }
}

/// The host of an API beside that of the app, which the settings name too.
#[rocket::async_test]
async fn an_api_with_a_host_of_its_own() {
    let settings = json!({
        "base_url": "https://example.com/team", "proxy_strips_path": true, "resource": "https://notes.example.org/v1",
    });
    let api = Api::with(settings).await;
    for (url, expected) in [
        ("https://notes.example.org/notes", 200),
        ("https://example.com/team/notes", 200),
        ("https://notes.example.org/team/notes", 401),
        ("https://example.com/notes", 401),
    ] {
        assert_eq!(status(&api, "/notes", url).await, expected, "{url}");
    }
}

/// Each tenant has a URL of its own: a proof for one is none at another.
#[rocket::async_test]
async fn tenants_have_urls_of_their_own() {
    let provider = TestProvider::start().await;
    let other = TestProvider::start().await;
    other.set_time(NOW);
    other.rotate_rsa_key();
    let tenant = |provider: &TestProvider, host: &str| {
        json!({
            "issuer": provider.issuer(), "client_id": "app", "client_secret": "hush",
            "base_url": format!("https://{host}"), "audience": TestProvider::API,
        })
    };
    let app = App::new(&provider)
        .with_all(json!({ "issuer": null, "client_id": null, "client_secret": null, "dpop_tokens": "accepted" }))
        .with(
            "oidc.providers",
            json!({
                "acme": tenant(&provider, "acme.example"), "beta": tenant(&other, "beta.example"),
            }),
        );
    let fairing = Oidc::fairing().clock(Clock::fixed_at(NOW));
    let fairing = fairing.provider_for(|request: &rocket::Request<'_>| {
        let host = request.headers().get_one("Host")?;
        Some(host.split('.').next()?.to_owned())
    });
    let rocket = app.bare().attach(fairing).mount("/", rocket::routes![below]);
    let client = rocket::local::asynchronous::Client::untracked(rocket).await.unwrap();
    for (provider, host, url, expected) in [
        (&provider, "acme.example", "https://acme.example/below/x", 200),
        (&provider, "acme.example", "https://beta.example/below/x", 401),
        (&provider, "acme.example", "http://localhost:8000/below/x", 401),
        (&other, "beta.example", "https://beta.example/below/x", 200),
        (&other, "beta.example", "https://acme.example/below/x", 401),
        (&other, "acme.example", "https://acme.example/below/x", 401),
    ] {
        let token = bound_token(provider, &SigningKey::Ec);
        let mut request = client.get("/below/x");
        request.add_header(Header::new("Host", host));
        request.add_header(Header::new("Authorization", format!("DPoP {token}")));
        request.add_header(Header::new("DPoP", proof(url, &token).compact()));
        let response = request.dispatch().await;
        assert_eq!(response.status().code, expected, "{host} {url}");
    }
}
