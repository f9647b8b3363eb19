//! Sessions whose tokens are bound to a key of their own (DPoP, RFC 9449): the client's side.

mod apis;
mod nonces;
mod refresh;
mod sign_in;
mod token_type;

use rocket::{
    Build, Rocket, State, get,
    http::Status,
    post, routes,
    serde::json::{Value, json},
};
use rocket_openidconnect::{
    ApiCallError, ApiClient, LoggedIn, RelyingParty,
    reqwest::{Method, Response},
};

use crate::{
    common::App,
    records,
    support::{Browser, RecordedRequest, TestProvider, keys::base64url},
};

const TOKEN: &str = "/token";
const USERINFO: &str = "/userinfo";
const ORDERS: &str = "/v1/orders";

async fn described(response: Response) -> Result<String, ApiCallError> {
    let status = response.status().as_u16();
    Ok(format!("{status} {}", response.text().await?))
}

/// Calls the API with the access token of the session.
#[get("/own/<path>")]
async fn own(user: LoggedIn, api: &State<ApiClient>, path: &str) -> Result<String, ApiCallError> {
    let api = user.bound_client(api);
    described(api.send(api.get(&format!("{path}?open=true"))?).await?).await
}

/// With a body that can be sent again.
#[post("/own/<path>")]
async fn post_own(user: LoggedIn, api: &State<ApiClient>, path: &str) -> Result<String, ApiCallError> {
    let api = user.bound_client(api);
    described(api.send(api.request(Method::POST, path)?.body("the body")).await?).await
}

/// Sends a request for any address with the access token of the session.
#[get("/elsewhere?<url>")]
async fn elsewhere(user: LoggedIn, api: &State<ApiClient>, url: &str) -> String {
    let request = rocket_openidconnect::reqwest::Client::new().get(url);
    match user.bound_client(api).send(request).await {
        Ok(response) => response.status().as_u16().to_string(),
        Err(error) => error.to_string(),
    }
}

/// Calls the API with a token for it.
#[get("/for/<path>")]
async fn for_api(user: LoggedIn, api: &State<ApiClient>, path: &str) -> Result<String, ApiCallError> {
    let tokens = user.tokens_for("https://api.example.com", &[]);
    described(api.send(api.get(path)?, &tokens).await?).await
}

/// Calls the API as the app itself.
#[get("/client/<path>")]
async fn client(rp: &RelyingParty, api: &State<ApiClient>, path: &str) -> Result<String, ApiCallError> {
    described(api.send(api.get(path)?, &rp.client_tokens(&[], None)).await?).await
}

#[get("/is-bound")]
fn is_bound(user: LoggedIn) -> String {
    user.has_bound_tokens().to_string()
}

#[post("/refresh")]
async fn refresh_now(user: LoggedIn) -> String {
    match user.refresh().await {
        Ok(_) => "refreshed".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn rocket(app: &App, provider: &TestProvider) -> Rocket<Build> {
    let api = ApiClient::new(&format!("{}/v1", provider.issuer())).expect("a base address");
    let pages = routes![own, post_own, elsewhere, for_api, client, is_bound, refresh_now];
    records::rocket(app).manage(api).mount("/", pages)
}

/// A provider that binds tokens.
async fn binding_provider() -> TestProvider {
    let provider = TestProvider::start().await;
    provider.bind_tokens(&["RS256", "EdDSA", "ES256"]);
    provider
}

/// An app that requires bound tokens.
fn bound(provider: &TestProvider) -> App {
    App::new(provider).with("oidc.dpop", "required")
}

async fn signed_in(app: &App, provider: &TestProvider) -> Browser {
    let browser = Browser::open(rocket(app, provider)).await;
    browser.sign_in(provider, "/me").await.is(Status::Ok);
    browser
}

async fn fetch(browser: &Browser, path: &str) -> String {
    browser.fetch(path).await.is(Status::Ok).body.clone()
}

/// The token requests of this grant.
fn token_requests(provider: &TestProvider, grant: &str) -> Vec<RecordedRequest> {
    let mut requests = provider.requests_to(TOKEN);
    requests.retain(|request| request.form_value("grant_type") == Some(grant));
    requests
}

/// A JWT that names this key as an access token does. Its signature is never verified.
fn jwt(cnf: &Value) -> String {
    let claims = json!({ "sub": "alice", "cnf": cnf });
    format!(
        "{}.{}.c2ln",
        base64url(r#"{"alg":"RS256"}"#),
        base64url(claims.to_string())
    )
}
