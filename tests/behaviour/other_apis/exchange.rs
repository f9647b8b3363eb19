//! A token for another API in exchange for that of a client (RFC 8693).

use std::time::Duration;

use rocket::{
    Build, Rocket, State,
    futures::future::{join, join_all},
    get,
    http::{Header, Status},
    local::asynchronous::Client,
    routes,
    serde::json::{Value, json},
};
use rocket_openidconnect::{ApiCallError, ApiClient, ApiTokenError, Bearer};

use crate::{
    common::App,
    support::{JwtParts, Reply, SigningKey, TestProvider},
};

const TOKEN: &str = "/token";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// The exchanged token, or why there is none.
#[get("/exchange?<audience>&<scope>")]
async fn exchange(token: Bearer, audience: &str, scope: Vec<&str>) -> String {
    match token.exchange(audience, &scope).await {
        Ok(token) => token.expose().to_owned(),
        Err(error) => format!("{} {}: {error}", error.status(), error.reason()),
    }
}

#[get("/route")]
async fn route(token: Bearer) -> Result<String, ApiTokenError> {
    Ok(token.exchange("orders", &[]).await?.expose().to_owned())
}

#[get("/call")]
async fn call(token: Bearer, api: &State<ApiClient>) -> Result<String, ApiCallError> {
    let response = api.send(api.get("orders")?, &token.tokens_for("orders", &[])).await?;
    Ok(response.status().as_u16().to_string())
}

/// An API that calls another one.
struct Gateway {
    client: Client,
    provider: TestProvider,
    app: App,
}

fn rocket(app: &App, provider: &TestProvider) -> Rocket<Build> {
    let api = ApiClient::new(&format!("{}/v1", provider.issuer())).expect("a base address");
    app.rocket().manage(api).mount("/", routes![exchange, route, call])
}

impl Gateway {
    async fn open() -> Gateway {
        Gateway::with(json!({})).await
    }

    async fn with(settings: Value) -> Gateway {
        let provider = TestProvider::start().await;
        let app = App::new(&provider)
            .with("oidc.audience", TestProvider::API)
            .with_all(settings);
        let client = Client::untracked(rocket(&app, &provider))
            .await
            .expect("the API launches");
        Gateway { client, provider, app }
    }

    /// A token of a client, changed in one way.
    fn token(&self, change: impl FnOnce(&mut JwtParts)) -> String {
        self.provider.access_token("notes:read", change)
    }

    async fn status(&self, path: &str, token: &str) -> (Status, Option<String>, String) {
        let authorization = Header::new("Authorization", format!("Bearer {token}"));
        let response = self.client.get(path.to_owned()).header(authorization).dispatch().await;
        let retry_after = response.headers().get_one("Retry-After").map(str::to_owned);
        (
            response.status(),
            retry_after,
            response.into_string().await.unwrap_or_default(),
        )
    }

    async fn call(&self, path: &str, token: &str) -> String {
        let (status, _, body) = self.status(path, token).await;
        assert_eq!(status, Status::Ok, "{body}");
        body
    }

    async fn exchange(&self, token: &str) -> String {
        self.call("/exchange?audience=orders&scope=read", token).await
    }

    fn count(&self) -> usize {
        self.provider.count(TOKEN)
    }
}

#[rocket::async_test]
async fn a_token_is_exchanged_once() {
    let api = Gateway::open().await;
    let subject = api.token(|_| ());
    let token = api.exchange(&subject).await;
    assert!(token.starts_with("xt-"), "{token}");
    let request = api.provider.last_request(TOKEN);
    let expected = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token", &subject),
        ("subject_token_type", ACCESS_TOKEN),
        ("requested_token_type", ACCESS_TOKEN),
        ("audience", "orders"),
        ("scope", "read"),
    ];
    let form: Vec<_> = request
        .form
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(form, expected);
    assert_eq!(request.basic(), Some(("app".to_owned(), "hush".to_owned())));

    assert_eq!(api.exchange(&subject).await, token);
    assert_eq!(api.count(), 1);
    // Another audience, other scopes, another token.
    let mut tokens = vec![token];
    for path in ["/exchange?audience=stock&scope=read", "/exchange?audience=orders"] {
        tokens.push(api.call(path, &subject).await);
    }
    tokens.push(api.exchange(&api.token(|_| ())).await);
    assert_eq!(api.count(), 4);
    tokens.sort();
    tokens.dedup();
    assert_eq!(tokens.len(), 4);
}

#[rocket::async_test]
async fn simultaneous_calls_share_one_exchange() {
    let api = Gateway::open().await;
    let subject = api.token(|_| ());
    let held = api.provider.hold(TOKEN);
    let calls = join_all((0..20).map(|_| api.exchange(&subject)));
    let release = async {
        api.provider.until_requested(TOKEN, 1).await;
        held.release();
    };
    let (tokens, ()) = join(calls, release).await;
    assert!(
        tokens
            .iter()
            .all(|token| *token == tokens[0] && token.starts_with("xt-"))
    );
    assert_eq!(api.count(), 1);
}

#[rocket::async_test]
async fn an_exchanged_token_ends_with_its_subject_token() {
    let api = Gateway::open().await;
    api.provider.on_token_response(|reply| reply.set("expires_in", 86_400));
    let now = api.provider.now();
    let subject = api.token(|token| token.set("exp", now + 100));
    let token = api.exchange(&subject).await;
    api.app.advance(Duration::from_secs(99));
    assert_eq!(api.exchange(&subject).await, token);
    assert_eq!(api.count(), 1);
    // It is accepted for the clock skew, and exchanged each time.
    api.app.advance(Duration::from_secs(1));
    assert_ne!(api.exchange(&subject).await, token);
    api.exchange(&subject).await;
    assert_eq!(api.count(), 3);
    api.app.advance(Duration::from_secs(60));
    assert_eq!(api.status("/route", &subject).await.0, Status::Unauthorized);
    assert_eq!(api.count(), 3);
}

#[rocket::async_test]
async fn a_token_without_an_end_is_exchanged_for_a_minute() {
    let api = Gateway::with(json!({ "token_validation": "introspection" })).await;
    api.provider
        .on_introspection(|reply| reply.edit(|body| drop(body.remove("exp"))));
    let subject = api.token(|_| ());
    let token = api.exchange(&subject).await;
    api.app.advance(Duration::from_secs(59));
    assert_eq!(api.exchange(&subject).await, token);
    api.app.advance(Duration::from_secs(1));
    assert_ne!(api.exchange(&subject).await, token);
}

#[rocket::async_test]
async fn only_an_access_token_is_accepted() {
    let malformed = |cause: &str| {
        format!("502 provider_reply_malformed: the provider's token endpoint sent an invalid response: {cause}")
    };
    let wrong_type = |kind: &str| malformed(&format!("`issued_token_type` is `{kind}`, expected `{ACCESS_TOKEN}`"));
    let id_token = "urn:ietf:params:oauth:token-type:id_token";
    let jwt = "urn:ietf:params:oauth:token-type:jwt";
    for (member, value, expected) in [
        (
            "token_type",
            json!("N_A"),
            malformed("`token_type` is `N_A`, expected `Bearer`"),
        ),
        (
            "token_type",
            json!("n_a"),
            malformed("`token_type` is `n_a`, expected `Bearer`"),
        ),
        (
            "token_type",
            json!("DPoP"),
            malformed("`token_type` is `DPoP`, expected `Bearer`"),
        ),
        ("token_type", json!(null), malformed("`token_type` is missing")),
        ("token_type", json!(""), malformed("`token_type` is missing")),
        (
            "issued_token_type",
            json!(null),
            malformed("`issued_token_type` is missing"),
        ),
        (
            "issued_token_type",
            json!([ACCESS_TOKEN]),
            malformed("`issued_token_type` is missing"),
        ),
        ("issued_token_type", json!(id_token), wrong_type(id_token)),
        ("issued_token_type", json!(jwt), wrong_type(jwt)),
        ("access_token", json!(null), malformed("`access_token` is missing")),
    ] {
        let api = Gateway::open().await;
        let set = value.clone();
        api.provider
            .on_token_response(move |reply| reply.set(member, set.clone()));
        assert_eq!(api.exchange(&api.token(|_| ())).await, expected, "{member} {value}");
    }
}

#[rocket::async_test]
async fn on_behalf_of_is_a_dialect() {
    let api = Gateway::with(json!({ "token_exchange": "on_behalf_of" })).await;
    let subject = api.token(|_| ());
    let path = "/exchange?audience=api://orders&scope=read";
    assert!(api.call(path, &subject).await.starts_with("xt-"));
    let form = api.provider.last_request(TOKEN).form;
    let expected = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
        ("assertion", &subject),
        ("requested_token_use", "on_behalf_of"),
        ("scope", "api://orders/read"),
    ];
    let form: Vec<_> = form
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(form, expected);
}

/// Neither the token nor the app's credentials go to it.
#[rocket::async_test]
async fn a_further_issuer_exchanges_nothing() {
    let partner = TestProvider::start().await;
    partner.set_time(crate::common::NOW);
    partner.rotate_rsa_key();
    let issuers = json!({ "partner": { "issuer": partner.issuer(), "audience": "partner-api" } });
    let api = Gateway::with(json!({ "issuers": issuers })).await;
    let theirs = partner.access_token("notes:read", |token| {
        token.set("aud", "partner-api");
        token.sign_with(SigningKey::NextRsa);
    });
    let expected = "500 no_client_credentials: the client has no credentials at this provider";
    assert_eq!(api.exchange(&theirs).await, expected);
    assert_eq!((api.count(), partner.count(TOKEN)), (0, 0));
}

#[rocket::async_test]
async fn without_credentials_or_a_provider_nothing_is_exchanged() {
    let provider = TestProvider::start().await;
    let app = App::public(&provider).with("oidc.audience", TestProvider::API);
    let client = Client::untracked(rocket(&app, &provider))
        .await
        .expect("the API launches");
    let api = Gateway { client, provider, app };
    let expected = "500 no_client_credentials: the client has no credentials at this provider";
    assert_eq!(api.exchange(&api.token(|_| ())).await, expected);
    assert_eq!(api.count(), 0);

    let api = Gateway::with(json!({ "enabled": false, "testing_profile": { "sub": "tess" } })).await;
    let response = api.client.get("/exchange?audience=orders").dispatch().await;
    let expected = "500 disabled: OpenID Connect is disabled: no provider issues tokens for other APIs";
    assert_eq!(response.into_string().await.unwrap(), expected);
}

#[rocket::async_test]
async fn an_invalid_audience_costs_no_request() {
    let api = Gateway::open().await;
    let subject = api.token(|_| ());
    let expected =
        "500 token_target: the audience \"a b\" is empty, too long, or has characters that no audience may have";
    assert_eq!(api.call("/exchange?audience=a%20b", &subject).await, expected);
    assert_eq!(api.count(), 0);
}

#[rocket::async_test]
async fn a_refused_exchange_is_told_in_the_log_alone() {
    let api = Gateway::open().await;
    let subject = api.token(|_| ());
    for (reply, expected, retry_after) in [
        (
            Reply::error(400, "invalid_target", "of the provider"),
            Status::BadGateway,
            None,
        ),
        (
            Reply::error(400, "invalid_grant", "of the provider"),
            Status::Forbidden,
            None,
        ),
        (Reply::status(503), Status::ServiceUnavailable, Some("20")),
    ] {
        api.provider.on_path(TOKEN, reply);
        let (status, wait, body) = api.status("/route", &subject).await;
        assert_eq!((status, wait.as_deref()), (expected, retry_after));
        assert!(!body.contains("of the provider"), "{body}");
        api.app.advance(Duration::from_secs(10));
    }
}

#[rocket::async_test]
async fn a_rejected_token_is_exchanged_again() {
    let api = Gateway::open().await;
    let subject = api.token(|_| ());
    assert_eq!(api.call("/call", &subject).await, "404");
    let rejected = Reply::status(401).with_header("WWW-Authenticate", "Bearer error=\"invalid_token\"");
    api.provider.on_path("/v1/orders", rejected);
    assert_eq!(api.call("/call", &subject).await, "401");
    assert_eq!(api.count(), 1);
    api.app.advance(Duration::from_secs(60));
    assert_eq!(api.call("/call", &subject).await, "401");
    assert_eq!((api.count(), api.provider.count("/v1/orders")), (2, 4));
}
