//! Sessions with bound tokens (DPoP, RFC 9449) at npm `oidc-provider`, which demands nonces, and at Keycloak.

use std::{cell::RefCell, collections::BTreeMap};

use rocket::{
    Config, State,
    figment::Figment,
    get,
    http::{Accept, Cookie, Header, Status},
    local::asynchronous::{Client, LocalRequest, LocalResponse},
    routes,
    serde::json::{Json, Value, json},
};
use rocket_openidconnect::{ApiCallError, ApiClient, LoggedIn, Oidc};
use url::Url;

use crate::{
    example::{Example, free_port},
    keycloak_server::{APP, NOTES_API, Realm},
    node_provider::{CLIENT_SECRET as SECRET, NodeProvider},
    servers::redis_server::RedisServer,
    visitor::Visitor,
    walker::{Person, Walker},
};

/// The resource indicator for which the provider issues JWTs.
const NOTES: &str = "https://api.notes.test";
/// Thirty-two bytes that are no secret.
const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

#[get("/me")]
fn me(user: LoggedIn) -> Json<Value> {
    Json(json!({ "sub": user.subject(), "email": user.email(), "is_bound": user.has_bound_tokens() }))
}

#[get("/refresh")]
async fn refresh(user: LoggedIn) -> String {
    match user.refresh().await {
        Ok(user) => user.subject().to_owned(),
        Err(error) => error.to_string(),
    }
}

/// Calls the API of `examples/notes`.
#[get("/notes")]
async fn notes(user: LoggedIn, api: &State<ApiClient>) -> Result<String, ApiCallError> {
    let tokens = user.tokens_for(NOTES, &["notes:read"]);
    let response = api.send(api.get("api/notes")?, &tokens).await?;
    Ok(response.status().as_u16().to_string())
}

async fn node(provider: &NodeProvider, api: &str, settings: &Value) -> Client {
    let figment = Figment::from(Config::debug_default())
        .merge(("log_level", "off"))
        .merge(("secret_key", KEY))
        .merge(("oidc.issuer", provider.issuer()))
        .merge(("oidc.scopes", "openid email notes:read"))
        .merge(("oidc.extra_authorization_parameters.resource", NOTES))
        .merge(("oidc.session.refresh_user_info", true))
        .merge(("oidc.dpop", "required"))
        .merge(("oidc", settings));
    let rocket = rocket::custom(figment)
        .attach(Oidc::fairing())
        .manage(ApiClient::new(api).unwrap())
        .mount("/", routes![me, refresh, notes]);
    Client::untracked(rocket).await.expect("the app launches")
}

/// A browser before all nodes of the app.
#[derive(Default)]
struct Browser(RefCell<BTreeMap<String, Cookie<'static>>>);

impl Browser {
    async fn send<'c>(&self, mut request: LocalRequest<'c>) -> LocalResponse<'c> {
        request.add_header(Accept::HTML);
        // The user typed the address, or pressed a button of the app.
        request.add_header(Header::new("Sec-Fetch-Site", "none"));
        let cookies: Vec<_> = self.0.borrow().values().cloned().collect();
        let response = request.cookies(cookies).dispatch().await;
        for cookie in response.cookies().iter() {
            let mut jar = self.0.borrow_mut();
            match cookie.max_age() {
                Some(age) if age.is_zero() => jar.remove(cookie.name()),
                _ => jar.insert(cookie.name().to_owned(), cookie.clone()),
            };
        }
        response
    }

    /// Where a `GET` leads.
    async fn location(&self, node: &Client, path: &str) -> String {
        let response = self.send(node.get(path.to_owned())).await;
        assert_eq!(response.status(), Status::SeeOther, "{path}");
        response.headers().get_one("Location").unwrap().to_owned()
    }

    async fn body(&self, node: &Client, path: &str) -> String {
        let response = self.send(node.get(path.to_owned())).await;
        assert_eq!(response.status(), Status::Ok, "{path}");
        response.into_string().await.unwrap()
    }
}

/// The API of `examples/notes`, which demands bound tokens and nonces.
fn api(provider: &NodeProvider) -> Example {
    let environment = [
        ("OIDC_ISSUER", provider.issuer()),
        ("OIDC_CLIENT_ID", "notes-api"),
        ("OIDC_CLIENT_SECRET", SECRET),
        ("OIDC_AUDIENCE", NOTES),
        ("OIDC_DPOP_TOKENS", "required"),
        ("OIDC_DPOP_NONCES", "true"),
    ];
    Example::start("notes", free_port(), &environment)
}

/// Signs in at the first node, completes it at the last, and uses the session at each.
async fn uses_a_session(provider: &NodeProvider, nodes: &[Client]) {
    let (browser, first, last) = (Browser::default(), &nodes[0], &nodes[nodes.len() - 1]);
    let login = browser.location(first, "/me").await;
    let request = browser.location(first, &login).await;
    let callback = Walker::new().walk(&request, Person::SignsIn("alice")).await;
    let callback = format!("{}?{}", callback.path(), callback.query().unwrap_or_default());
    assert_eq!(browser.location(last, &callback).await, "/me");
    for node in nodes {
        let me: Value = serde_json::from_str(&browser.body(node, "/me").await).unwrap();
        let expected = json!({ "sub": "alice", "email": "alice@example.com", "is_bound": true });
        assert_eq!(me, expected, "{}", provider.issuer());
        for _ in 0..2 {
            assert_eq!(browser.body(node, "/notes").await, "200");
        }
        // Within 10 s of the first, there is none at the second.
        assert_eq!(browser.body(node, "/refresh").await, "alice");
    }
    let signed_out = browser.send(last.post("/oidc/logout")).await;
    assert_eq!(signed_out.status(), Status::SeeOther);
    for node in nodes {
        let login = browser.location(node, "/me").await;
        assert!(login.starts_with("/oidc/login"), "{login}");
    }
}

#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn a_bound_session_at_a_provider_with_nonces() {
    for nonces in ["1", "0"] {
        let provider = NodeProvider::start(&[("ALWAYS_REFRESH", "1"), ("DPOP_NONCE", nonces)]).await;
        let api = api(&provider);
        let settings = json!({ "client_id": "rocket-app", "client_secret": SECRET });
        let node = node(&provider, &api.at("localhost", "/"), &settings).await;
        uses_a_session(&provider, &[node]).await;
    }
}

#[rocket::async_test]
#[ignore = "needs Node.js and redis-server: run scripts/interop"]
async fn a_bound_session_of_two_nodes() {
    let redis = RedisServer::start();
    let provider = NodeProvider::start(&[("ALWAYS_REFRESH", "1"), ("DPOP_NONCE", "1")]).await;
    let api = api(&provider);
    for store in ["redis", "cookie"] {
        let settings = json!({
            "client_id": "rocket-app", "client_secret": SECRET,
            "session": { "store": store, "store_url": redis.url(), "refresh_user_info": true },
        });
        let url = api.at("localhost", "/");
        let nodes = [
            node(&provider, &url, &settings).await,
            node(&provider, &url, &settings).await,
        ];
        uses_a_session(&provider, &nodes).await;
    }
}

/// FAPI 2.0: the profile of both sides, with pushed requests, `private_key_jwt` and bound tokens.
#[rocket::async_test]
#[ignore = "needs Node.js and redis-server: run scripts/interop"]
async fn a_session_by_the_fapi_profile() {
    let generator = "const { generateKeyPairSync } = require('crypto');
        const key = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' });
        console.log(JSON.stringify({ ...key, alg: 'ES256', kid: 'fapi' }))";
    let output = std::process::Command::new("node").args(["-e", generator]).output();
    let key: Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    let mut public = key.clone();
    public.as_object_mut().unwrap().remove("d");
    let clients = json!([{
        "client_id": "fapi",
        "token_endpoint_auth_method": "private_key_jwt",
        "token_endpoint_auth_signing_alg": "ES256",
        "id_token_signed_response_alg": "ES256",
        "dpop_bound_access_tokens": true,
        "require_pushed_authorization_requests": true,
        "jwks": { "keys": [public] },
        "redirect_uris": ["http://localhost:8000/oidc/authorize"],
        "post_logout_redirect_uris": ["http://localhost:8000/"],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
    }]);
    let provider = NodeProvider::start(&[
        ("ALWAYS_REFRESH", "1"),
        ("ROTATE", "0"),
        ("DPOP_NONCE", "1"),
        ("FAPI", "1"),
        ("CLIENTS", &clients.to_string()),
    ])
    .await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), key.to_string()).unwrap();
    let (redis, api) = (RedisServer::start(), api(&provider));
    let url = api.at("localhost", "/");
    let own = json!({ "client_id": "fapi", "private_key_file": file.path(), "profile": "fapi2" });
    uses_a_session(&provider, &[node(&provider, &url, &own).await]).await;

    let mut shared = own;
    shared["session"] = json!({ "store": "redis", "store_url": redis.url(), "refresh_user_info": true });
    let nodes = [
        node(&provider, &url, &shared).await,
        node(&provider, &url, &shared).await,
    ];
    uses_a_session(&provider, &nodes).await;
}

/// The API of `examples/notes` for tokens of this realm, which demands proofs with nonces.
fn keycloak_api(realm: &Realm) -> Example {
    let environment = [
        ("OIDC_ISSUER", realm.issuer()),
        ("OIDC_CLIENT_ID", NOTES_API[0]),
        ("OIDC_CLIENT_SECRET", NOTES_API[1]),
        ("OIDC_AUDIENCE", NOTES_API[0]),
        ("OIDC_DPOP_TOKENS", "required"),
        ("OIDC_DPOP_NONCES", "true"),
    ];
    Example::start("notes", free_port(), &environment)
}

/// Sign-in, refresh, UserInfo and an API, at two nodes. The provider refuses a client of bound tokens that sends no proof.
#[rocket::async_test]
#[ignore = "needs Keycloak: run scripts/interop"]
async fn a_bound_session_at_keycloak() {
    let realm = Realm::new("bound").await;
    realm
        .change_client(APP[0], |client| {
            client["attributes"]["dpop.bound.access.tokens"] = json!("true");
        })
        .await;
    let audience = json!({ "included.client.audience": NOTES_API[0] });
    realm.add_scope("notes", audience, &[APP[0]]).await;
    let api = keycloak_api(&realm);
    let accounts = api.at("localhost", "/api/whoami");
    for (dpop, is_accepted) in [("required", true), ("auto", true), ("off", false)] {
        let settings = [
            ("OIDC_DPOP", dpop),
            ("OIDC_SCOPES", "openid profile email notes"),
            ("OIDC_SESSION__REFRESH_USER_INFO", "true"),
            ("ROCKET_SECRET_KEY", KEY),
            ("NOTES_ACCOUNTS_URL", &accounts),
        ];
        let app = realm.start("notes", APP, &settings);
        let mut visitor = Visitor::new();
        let answer = visitor.sign_in(&realm.app_url(), "/me", "alice").await;
        assert_eq!(answer.status == 200, is_accepted, "{dpop}: {answer:?}");
        if is_accepted {
            let me: Value = serde_json::from_str(&answer.body).unwrap();
            assert_eq!(me["email"], "alice@example.com");
            // Another node, with the session's cookies and the key in them.
            let url = realm.app_url();
            let own = [
                ("OIDC_ISSUER", realm.issuer()),
                ("OIDC_CLIENT_ID", APP[0]),
                ("OIDC_CLIENT_SECRET", APP[1]),
                ("OIDC_BASE_URL", &*url),
            ];
            let another = Example::start("notes", free_port(), &[&own[..], &settings[..]].concat());
            for url in [url.clone() + "/accounts", another.at("localhost", "/accounts")] {
                let called: Value = serde_json::from_str(&visitor.visit(&url).await.body).unwrap();
                assert_eq!(called["status"], 200, "{dpop}: {called}");
                assert!(
                    called["body"]
                        .as_str()
                        .unwrap()
                        .contains(&format!("{:?}", me["sub"].as_str().unwrap()))
                );
            }
            let refreshed = visitor.submit(&format!("{}/me/refresh", realm.app_url())).await;
            assert_eq!(refreshed.status, 200, "{refreshed:?}");
            let changes: Value = serde_json::from_str(&refreshed.body).unwrap();
            assert_eq!(changes["new_access_token"], true);
            let answer = visitor.submit(&format!("{}/oidc/logout", realm.app_url())).await;
            assert_eq!(answer.status, 303, "{answer:?}");
            let location = Url::parse(answer.location.as_deref().unwrap()).unwrap();
            assert!(location.as_str().starts_with(realm.issuer()), "{location}");
        }
        drop(app);
    }
}
