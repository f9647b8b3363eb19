//! The security schemes of an app's OpenAPI document, in apps of all kinds.

use rocket::{Build, Rocket, figment::Figment, get, local::blocking::Client, routes, serde::json::Value};
use rocket_openidconnect::{Bearer, Oidc, SecuritySchemes, scopes, testing::TestProvider};
use serde_json::json;

use crate::app::figment;

scopes! { pub Write = "notes:write" & "notes:read"; }

/// The app's own document, with a scheme of its own under a name of ours.
#[get("/openapi.json")]
fn document(schemes: SecuritySchemes) -> Value {
    let own = json!({ "components": { "securitySchemes": { "bearer": { "type": "mine" } } } });
    schemes.complete(own).unwrap()
}

#[get("/schemes")]
fn schemes(schemes: SecuritySchemes) -> Value {
    Value::Object(schemes.schemes().clone())
}

#[get("/write")]
fn write(_token: Bearer<Write>) {}

fn app(figment: Figment) -> Rocket<Build> {
    rocket::custom(figment)
        .attach(Oidc::fairing())
        .mount("/", routes![document, schemes])
}

fn get(client: &Client, path: &'static str) -> Value {
    client.get(path).dispatch().into_json().unwrap()
}

fn names(schemes: &Value) -> Vec<&String> {
    schemes.as_object().unwrap().keys().collect()
}

#[test]
fn the_endpoints_are_left_out_until_the_metadata_is_read() {
    let provider = TestProvider::new();
    provider.take_down();
    let rocket = provider.register(app(figment()).mount("/", routes![write]));
    let client = Client::untracked(rocket).unwrap();
    assert_eq!(names(&get(&client, "/schemes")), ["bearer", "oidc", "session"]);

    provider.recover();
    provider.advance_clock(std::time::Duration::from_secs(120));
    let found = get(&client, "/schemes");
    assert_eq!(names(&found), ["bearer", "oauth2", "oidc", "session"]);
    let flow = &found["oauth2"]["flows"]["authorizationCode"];
    assert_eq!(flow["scopes"], json!({ "notes:read": "", "notes:write": "" }));
    provider.take_down();
    assert_eq!(get(&client, "/schemes"), found);
}

#[test]
fn an_api_without_sign_in_has_no_session() {
    let figment = figment().merge(("oidc.resource_server_only", true));
    let client = Client::untracked(TestProvider::new().register(app(figment))).unwrap();
    assert_eq!(names(&get(&client, "/schemes")), ["bearer", "oauth2", "oidc"]);
}

#[test]
fn tokens_of_github_are_not_asked_for() {
    let figment = Figment::from(rocket::Config::debug_default())
        .merge(("log_level", "off"))
        .merge(("oidc.provider", "github"))
        .merge(("oidc.client_id", "notes"))
        .merge(("oidc.client_secret", "hush"));
    let client = Client::untracked(app(figment)).unwrap();
    assert_eq!(names(&get(&client, "/schemes")), ["bearer", "session"]);
}

#[test]
fn while_sign_in_is_disabled_there_is_no_provider() {
    let client = Client::untracked(app(figment().merge(("oidc.enabled", false)))).unwrap();
    assert_eq!(names(&get(&client, "/schemes")), ["bearer"]);
}

#[test]
fn a_further_issuer_has_schemes_of_its_own_and_one_with_keys_alone_has_none() {
    let issuers = json!({
        "partner": { "issuer": "https://partner.example", "audience": ["https://notes.example.com"] },
        "machines": {
            "issuer": "https://machines.example",
            "jwks_uri": "https://machines.example/jwks",
            "audience": ["https://notes.example.com"],
        },
    });
    let figment = figment().merge(("oidc.issuers", issuers));
    let client = Client::untracked(TestProvider::new().register(app(figment))).unwrap();
    let found = get(&client, "/schemes");
    assert_eq!(names(&found), ["bearer", "oauth2", "oidc", "oidc_2", "session"]);
    let metadata = "https://partner.example/.well-known/openid-configuration";
    assert_eq!(found["oidc_2"]["openIdConnectUrl"], metadata);
}

#[test]
fn each_of_several_providers_has_schemes() {
    let providers = json!({
        "a": { "issuer": "https://a.example", "client_id": "app", "client_secret": "hush" },
        "b": { "issuer": "https://b.example", "client_id": "app", "client_secret": "hush" },
    });
    let figment = Figment::from(rocket::Config::debug_default())
        .merge(("log_level", "off"))
        .merge(("oidc.audience", "https://notes.example.com"))
        .merge(("oidc.providers", providers));
    let provider = TestProvider::new();
    let client = Client::untracked(provider.register(app(figment))).unwrap();
    let found = get(&client, "/schemes");
    let all = ["bearer", "oauth2", "oauth2_2", "oidc", "oidc_2", "session"];
    assert_eq!(names(&found), all);
    for (scheme, name) in [("oidc", "a"), ("oidc_2", "b")] {
        let metadata = format!("{}/{name}/.well-known/openid-configuration", TestProvider::ISSUER);
        assert_eq!(found[scheme]["openIdConnectUrl"], metadata);
    }
}

#[test]
fn a_scheme_of_the_app_is_kept() {
    let client = Client::untracked(TestProvider::new().register(app(figment()))).unwrap();
    let document = get(&client, "/openapi.json");
    let schemes = &document["components"]["securitySchemes"];
    assert_eq!(schemes["bearer"], json!({ "type": "mine" }));
    assert_eq!(names(schemes), ["bearer", "oauth2", "oidc", "session"]);
}

#[test]
fn the_launch_is_aborted_without_the_fairing() {
    let rocket = rocket::custom(figment()).mount("/", routes![schemes]);
    let error = Client::untracked(rocket).unwrap_err();
    let expected = rocket::error::ErrorKind::SentinelAborts(vec![]);
    assert_eq!(std::mem::discriminant(error.kind()), std::mem::discriminant(&expected));
}
