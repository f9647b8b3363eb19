//! The example as tools that read its document see it.

use rocket::{http::Status, local::blocking::Client};
use rocket_openidconnect::testing::TestProvider;
use serde_json::{Value, json};

fn app() -> Client {
    Client::untracked(TestProvider::new().register(super::rocket())).expect("the example launches")
}

fn document(client: &Client) -> Value {
    client
        .get("/openapi.json")
        .dispatch()
        .into_json()
        .expect("the document")
}

#[test]
fn the_schemes_have_the_addresses_of_the_provider() {
    let document = document(&app());
    let schemes = &document["components"]["securitySchemes"];
    let names: Vec<_> = schemes.as_object().unwrap().keys().collect();
    assert_eq!(names, ["bearer", "oauth2", "oidc", "session"]);
    let issuer = TestProvider::ISSUER;
    let metadata = format!("{issuer}/.well-known/openid-configuration");
    assert_eq!(
        schemes["oidc"],
        json!({ "type": "openIdConnect", "openIdConnectUrl": metadata })
    );
    let flow = json!({
        "authorizationUrl": format!("{issuer}/authorize"),
        "tokenUrl": format!("{issuer}/token"),
        "scopes": { "notes:admin": "", "notes:read": "", "notes:write": "" },
    });
    assert_eq!(
        schemes["oauth2"],
        json!({ "type": "oauth2", "flows": { "authorizationCode": flow } })
    );
    assert_eq!(schemes["bearer"], json!({ "type": "http", "scheme": "bearer" }));
    let session = &schemes["session"];
    assert_eq!((&session["type"], &session["in"]), (&json!("apiKey"), &json!("cookie")));
    assert!(
        session["name"].as_str().unwrap().starts_with("oidc_session_"),
        "{session}"
    );
}

#[test]
fn guards_are_requirements_and_responses() {
    let document = document(&app());
    let of = |method: &str, path: &str| {
        let operation = &document["paths"][path][method];
        let statuses = operation["responses"].as_object().unwrap().keys();
        (
            operation["security"].clone(),
            statuses.cloned().collect::<Vec<_>>().join(" "),
        )
    };
    let read = json!([{ "bearer": [] }, { "oauth2": ["notes:read"] }, { "oidc": ["notes:read"] }]);
    assert_eq!(of("get", "/notes"), (read, "200 400 401 403 502 503".to_owned()));
    let write = json!([
        { "bearer": [] },
        { "oauth2": ["notes:read", "notes:write"] },
        { "oidc": ["notes:read", "notes:write"] },
        { "oauth2": ["notes:admin"] },
        { "oidc": ["notes:admin"] },
    ]);
    assert_eq!(of("post", "/notes").0, write);
    let (security, _) = of("get", "/notes/count");
    assert_eq!(security.as_array().unwrap().last(), Some(&json!({ "session": [] })));
    assert_eq!(of("get", "/me"), (json!([{ "session": [] }]), "200 401 503".to_owned()));
}

#[test]
fn swagger_ui_is_served_by_the_app_with_its_client() {
    let client = app();
    for (path, expected) in [
        ("/api-docs/index.html", "swagger-ui-bundle.js"),
        ("/api-docs/swagger-initializer.js", "usePkceWithAuthorizationCodeGrant"),
        ("/api-docs/oauth2-redirect.html", "swaggerUIRedirectOauth2"),
        ("/api-docs/swagger-ui-config.json", "/openapi.json"),
    ] {
        let response = client.get(path).dispatch();
        assert_eq!(response.status(), Status::Ok, "{path}");
        assert!(response.into_string().unwrap().contains(expected), "{path}");
    }
}
