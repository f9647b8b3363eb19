//! Sign-in at npm `oidc-provider`, with each kind of client that it has for us.

use rocket::{
    Config, Route,
    figment::Figment,
    get,
    http::{Accept, Status},
    local::asynchronous::Client,
    routes,
    serde::json::{Json, Value, json},
};
use rocket_openidconnect::{LoggedIn, Oidc};
use url::Url;

use crate::{
    node_provider::{CLIENT_SECRET as SECRET, NodeProvider},
    walker::{Person, Walker},
};

#[get("/me")]
fn me(user: LoggedIn) -> Json<Value> {
    Json(json!(*user))
}

fn app_routes() -> Vec<Route> {
    routes![me]
}

async fn app(provider: &NodeProvider, client_id: &str, settings: Value) -> Client {
    let figment = Figment::from(Config::debug_default())
        .merge(("log_level", "off"))
        .merge(("oidc.issuer", provider.issuer()))
        .merge(("oidc.client_id", client_id))
        .merge(("oidc.scopes", "openid profile email"))
        .merge(("oidc", settings));
    let rocket = rocket::custom(figment).attach(Oidc::fairing()).mount("/", app_routes());
    Client::tracked(rocket).await.unwrap()
}

/// Where a `GET` leads.
async fn location(client: &Client, path: &str) -> String {
    let response = client.get(path.to_owned()).header(Accept::HTML).dispatch().await;
    assert_eq!(response.status(), Status::SeeOther, "{path}");
    response.headers().get_one("Location").unwrap().to_owned()
}

fn path_and_query(url: &Url) -> String {
    format!("{}?{}", url.path(), url.query().unwrap_or_default())
}

async fn signs_in(provider: &NodeProvider, client_id: &str, settings: Value) {
    let client = app(provider, client_id, settings).await;
    let login = location(&client, "/me").await;
    let request = location(&client, &login).await;
    let callback = Walker::new().walk(&request, Person::SignsIn("alice")).await;
    assert_eq!(
        location(&client, &path_and_query(&callback)).await,
        "/me",
        "{client_id}"
    );

    let me: Value = client.get("/me").dispatch().await.into_json().await.unwrap();
    assert_eq!(me["sub"], "alice", "{client_id}");
    assert_eq!(me["iss"], provider.issuer(), "{client_id}");
    assert_eq!(me["email"], "alice@example.com", "{client_id}");
    assert_eq!(me["name"], "Alice Liddell", "{client_id}");
}

#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn every_kind_of_client_signs_in() {
    let provider = NodeProvider::start(&[]).await;
    for (client_id, settings) in [
        ("rocket-app", json!({ "client_secret": SECRET })),
        (
            "rocket-post",
            json!({ "client_secret": SECRET, "token_endpoint_auth_method": "client_secret_post" }),
        ),
        ("rocket-public", json!({})),
        ("rocket-rs384", json!({ "client_secret": SECRET })),
        ("rocket-rs512", json!({ "client_secret": SECRET })),
        ("rocket-ps256", json!({ "client_secret": SECRET })),
        ("rocket-es256", json!({ "client_secret": SECRET })),
        ("rocket-es384", json!({ "client_secret": SECRET })),
        ("rocket-eddsa", json!({ "client_secret": SECRET })),
        (
            "rocket-hs256",
            json!({ "client_secret": SECRET, "id_token_signing_algs": ["HS256"] }),
        ),
        ("rocket-userinfo-jwt", json!({ "client_secret": SECRET })),
        (
            "rocket-authtime",
            json!({ "client_secret": SECRET, "extra_authorization_parameters": { "max_age": 600, "acr_values": "urn:example:loa:2" } }),
        ),
    ] {
        signs_in(&provider, client_id, settings).await;
    }
}

/// HS256 is accepted only where settings ask for it.
#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn a_symmetric_signature_is_refused_by_default() {
    let provider = NodeProvider::start(&[]).await;
    let client = app(&provider, "rocket-hs256", json!({ "client_secret": SECRET })).await;
    let request = location(&client, "/oidc/login").await;
    let callback = Walker::new().walk(&request, Person::SignsIn("alice")).await;
    let response = client.get(path_and_query(&callback)).dispatch().await;
    assert_eq!(response.status(), Status::BadGateway);
}

#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn a_wrong_secret_is_an_error_page() {
    let provider = NodeProvider::start(&[]).await;
    let client = app(&provider, "rocket-app", json!({ "client_secret": "wrong" })).await;
    let request = location(&client, "/oidc/login").await;
    let callback = Walker::new().walk(&request, Person::SignsIn("alice")).await;
    let response = client.get(path_and_query(&callback)).dispatch().await;
    assert_eq!(response.status(), Status::BadGateway);
    assert!(response.into_string().await.unwrap().contains("Sign-in failed"));
}

#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn a_person_who_cancels_sees_a_page_that_says_so() {
    let provider = NodeProvider::start(&[]).await;
    let client = app(&provider, "rocket-app", json!({ "client_secret": SECRET })).await;
    let request = location(&client, "/oidc/login?next=/me").await;
    let callback = Walker::new().walk(&request, Person::Cancels).await;
    let response = client.get(path_and_query(&callback)).dispatch().await;
    assert_eq!(response.status(), Status::BadRequest);
    assert!(
        response
            .into_string()
            .await
            .unwrap()
            .contains("The sign-in was cancelled.")
    );
}

#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn clients_with_a_key_of_their_own_sign_in() {
    let generator = "const { generateKeyPairSync } = require('crypto');
        const jwk = (type, options) =>
            generateKeyPairSync(type, options).privateKey.export({ format: 'jwk' });
        console.log(JSON.stringify([
            { ...jwk('rsa', { modulusLength: 2048 }), alg: 'RS256' },
            { ...jwk('rsa', { modulusLength: 2048 }), alg: 'PS256' },
            { ...jwk('ec', { namedCurve: 'P-256' }), alg: 'ES256' },
            { ...jwk('ed25519', {}), alg: 'EdDSA' },
        ]))";
    let output = std::process::Command::new("node").args(["-e", generator]).output();
    let keys: Vec<Value> = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    let client = |key: &Value| {
        let mut public = key.clone();
        for member in ["d", "p", "q", "dp", "dq", "qi"] {
            public.as_object_mut().unwrap().remove(member);
        }
        json!({
            "client_id": key["alg"],
            "token_endpoint_auth_method": "private_key_jwt",
            "token_endpoint_auth_signing_alg": key["alg"],
            "jwks": { "keys": [public] },
            "redirect_uris": ["http://localhost:8000/oidc/authorize"],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
        })
    };
    let clients: Vec<Value> = keys.iter().map(client).collect();
    let clients = json!(clients).to_string();
    let provider = NodeProvider::start(&[("CLIENTS", &clients)]).await;
    for key in &keys {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), key.to_string()).unwrap();
        let alg = key["alg"].as_str().unwrap();
        for pushed in [false, true] {
            let settings = json!({
                "private_key_file": file.path(), "pushed_authorization_requests": pushed,
            });
            signs_in(&provider, alg, settings).await;
        }
    }
}

#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn authorization_requests_are_pushed() {
    let provider = NodeProvider::start(&[]).await;
    let settings = json!({ "client_secret": SECRET, "pushed_authorization_requests": true });
    for client_id in ["rocket-par", "rocket-post", "rocket-app"] {
        signs_in(&provider, client_id, settings.clone()).await;
    }

    // The metadata says so by itself.
    let provider = NodeProvider::start(&[("REQUIRE_PAR", "1")]).await;
    signs_in(&provider, "rocket-app", json!({ "client_secret": SECRET })).await;
}
