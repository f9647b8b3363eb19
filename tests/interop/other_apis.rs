//! Tokens for other APIs, of npm `oidc-provider` and of Keycloak.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rocket::{
    Config,
    figment::Figment,
    get,
    http::{Accept, Header, Status},
    local::asynchronous::Client,
    routes,
    serde::json::{Json, Value, json},
};
use rocket_openidconnect::{ApiTokenError, Bearer, IssuedToken, LoggedIn, Oidc, RelyingParty};

use crate::{
    keycloak_server::{APP, NOTES_API, ROBOT, Realm, text},
    node_provider::{CLIENT_SECRET as SECRET, NodeProvider},
    walker::{Person, Walker},
};

/// The resource indicators for which npm `oidc-provider` issues JWTs, and opaque tokens.
const JWTS: &str = "https://api.notes.test";
const OPAQUE: &str = "https://opaque.notes.test";

fn described(token: Result<IssuedToken, ApiTokenError>) -> String {
    match token {
        Ok(token) => token.expose().to_owned(),
        Err(error) => format!("{} {}: {error}", error.status(), error.reason()),
    }
}

#[get("/client?<resource>&<scope>")]
async fn client(rp: &RelyingParty, resource: Option<&str>, scope: Vec<&str>) -> String {
    described(rp.client_token(&scope, resource).await)
}

#[get("/user?<resource>&<scope>")]
async fn user(user: LoggedIn, resource: &str, scope: Vec<&str>) -> String {
    described(user.access_token_for(resource, &scope).await)
}

#[get("/own")]
async fn own(user: LoggedIn) -> Json<Value> {
    let access_token = user.access_token().ok().map(|token| token.expose());
    Json(json!([access_token, user.refresh_token().map(|token| token.expose())]))
}

#[get("/refresh")]
async fn refresh(user: LoggedIn) -> String {
    match user.refresh().await {
        Ok(user) => user.subject().to_owned(),
        Err(error) => error.to_string(),
    }
}

#[get("/exchange?<audience>&<scope>")]
async fn exchange(token: Bearer, audience: &str, scope: Vec<&str>) -> String {
    described(token.exchange(audience, &scope).await)
}

async fn app(issuer: &str, client: [&str; 2], settings: Value) -> Client {
    let figment = Figment::from(Config::debug_default())
        .merge(("log_level", "off"))
        .merge(("oidc.issuer", issuer))
        .merge(("oidc.client_id", client[0]))
        .merge(("oidc.client_secret", client[1]))
        .merge(("oidc", settings));
    let rocket = rocket::custom(figment).attach(Oidc::fairing());
    let rocket = rocket.mount("/", routes![client, user, own, refresh]);
    Client::tracked(rocket).await.unwrap()
}

/// Where a `GET` leads.
async fn location(client: &Client, path: &str) -> String {
    let response = client.get(path.to_owned()).header(Accept::HTML).dispatch().await;
    assert_eq!(response.status(), Status::SeeOther, "{path}");
    response.headers().get_one("Location").unwrap().to_owned()
}

async fn body(client: &Client, path: &str) -> String {
    let response = client.get(path.to_owned()).dispatch().await;
    assert_eq!(response.status(), Status::Ok, "{path}");
    response.into_string().await.unwrap()
}

fn claims(jwt: &str) -> Value {
    let payload = jwt.split('.').nth(1).unwrap_or_else(|| panic!("not a JWT: {jwt}"));
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn client_credentials_with_a_resource_at_oidc_provider() {
    let provider = NodeProvider::start(&[]).await;
    let app = app(provider.issuer(), ["notes-api", SECRET], json!({})).await;
    let token = body(&app, &format!("/client?resource={JWTS}&scope=notes:read")).await;
    let claims = claims(&token);
    assert_eq!((&claims["aud"], &claims["scope"]), (&json!(JWTS), &json!("notes:read")));
    assert_eq!(claims["client_id"], "notes-api");
    assert_eq!(
        body(&app, &format!("/client?resource={JWTS}&scope=notes:read")).await,
        token
    );
    let opaque = body(&app, &format!("/client?resource={OPAQUE}&scope=notes:read")).await;
    assert!(!opaque.contains('.') && !opaque.contains(' '), "{opaque}");
    let unknown = body(&app, "/client?resource=https://unknown.test&scope=notes:read").await;
    assert!(unknown.starts_with("502 provider_refused: "), "{unknown}");
    assert!(unknown.contains("`invalid_target`"), "{unknown}");
}

#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn a_users_token_for_another_api_at_oidc_provider() {
    for rotates in ["1", "0"] {
        let provider = NodeProvider::start(&[("ALWAYS_REFRESH", "1"), ("ROTATE", rotates)]).await;
        let settings = json!({
            "scopes": "openid email notes:read",
            "extra_authorization_parameters": { "resource": JWTS },
        });
        let app = app(provider.issuer(), ["rocket-app", SECRET], settings).await;
        let login = location(&app, "/own").await;
        let request = location(&app, &login).await;
        let callback = Walker::new().walk(&request, Person::SignsIn("alice")).await;
        let callback = format!("{}?{}", callback.path(), callback.query().unwrap_or_default());
        assert_eq!(location(&app, &callback).await, "/own");
        let before: [String; 2] = serde_json::from_str(&body(&app, "/own").await).unwrap();

        let path = format!("/user?resource={JWTS}&scope=notes:read");
        let token = body(&app, &path).await;
        let claims = claims(&token);
        assert_eq!((&claims["aud"], &claims["scope"]), (&json!(JWTS), &json!("notes:read")));
        assert_eq!(claims["sub"], "alice");
        assert_eq!(body(&app, &path).await, token);
        let after: [String; 2] = serde_json::from_str(&body(&app, "/own").await).unwrap();
        assert_eq!(after[0], before[0]);
        assert_eq!(after[1] != before[1], rotates == "1");
        // The session goes on with the rotated refresh token.
        assert_eq!(body(&app, "/refresh").await, "alice");
        // The user was not asked about this one.
        let other = body(&app, &format!("/user?resource={OPAQUE}&scope=notes:read")).await;
        assert!(other.starts_with("502 provider_refused: "), "{other}");
        assert_eq!(body(&app, "/refresh").await, "alice");
    }
}

#[rocket::async_test]
#[ignore = "needs Keycloak: run scripts/interop"]
async fn tokens_are_exchanged_at_keycloak() {
    let realm = Realm::new("token-exchange").await;
    realm
        .change_client(APP[0], |client| client["directAccessGrantsEnabled"] = json!(true))
        .await;
    let attribute = "standard.token.exchange.enabled";
    realm
        .change_client(NOTES_API[0], |client| client["attributes"][attribute] = json!("true"))
        .await;
    let orders = json!({ "clientId": "orders-api", "secret": "orders-api-secret", "standardFlowEnabled": false });
    realm.call(reqwest::Method::POST, "/clients", orders).await;
    let audience = |client: &str| json!({ "included.client.audience": client });
    realm.add_scope("notes", audience(NOTES_API[0]), &[APP[0]]).await;
    realm.add_scope("orders", audience("orders-api"), &[NOTES_API[0]]).await;

    let figment = Figment::from(Config::debug_default())
        .merge(("log_level", "off"))
        .merge(("oidc.issuer", realm.issuer()))
        .merge(("oidc.client_id", NOTES_API[0]))
        .merge(("oidc.client_secret", NOTES_API[1]))
        .merge(("oidc.audience", NOTES_API[0]))
        .merge(("oidc.resource_server_only", true));
    let rocket = rocket::custom(figment)
        .attach(Oidc::fairing())
        .mount("/", routes![exchange]);
    let api = Client::untracked(rocket).await.unwrap();
    let subject = realm.tokens_of_alice("notes").await;
    let subject = text(&subject["access_token"]);
    let exchange = async |query: &str| {
        let authorization = Header::new("Authorization", format!("Bearer {subject}"));
        let response = api
            .get(format!("/exchange?{query}"))
            .header(authorization)
            .dispatch()
            .await;
        assert_eq!(response.status(), Status::Ok, "{query}");
        response.into_string().await.unwrap()
    };
    let token = exchange("audience=orders-api&scope=orders").await;
    let exchanged = claims(&token);
    assert_eq!(exchanged["aud"], "orders-api");
    assert_eq!(exchanged["azp"], NOTES_API[0]);
    assert_eq!(exchanged["sub"], claims(subject)["sub"]);
    assert_eq!(exchange("audience=orders-api&scope=orders").await, token);
    // Keycloak exchanges for what the client may ask for alone.
    let refused = exchange(&format!("audience={}", ROBOT[0])).await;
    assert!(refused.starts_with("502 "), "{refused}");

    // The client credentials grant, at a provider without resource indicators.
    let robot = app(realm.issuer(), ROBOT, json!({})).await;
    let token = body(&robot, "/client?scope=profile").await;
    assert_eq!(claims(&token)["azp"], ROBOT[0]);
}
