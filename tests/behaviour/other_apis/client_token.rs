//! The app's own tokens: the client credentials grant.

use std::time::Duration;

use rocket::{
    Build, Rocket,
    futures::future::{join, join_all},
    get,
    http::Status,
    routes,
    serde::json::{Value, json},
};
use rocket_openidconnect::{ApiTokenError, RelyingParty};

use crate::{
    common::{App, Log},
    support::{Browser, Misbehaviour, Reply, TestProvider},
};

const TOKEN: &str = "/token";
const API: &str = "https://stock.example.com";

#[get("/token?<scope>&<resource>")]
async fn token(rp: &RelyingParty, scope: Vec<&str>, resource: Option<&str>) -> Result<String, ApiTokenError> {
    Ok(rp.client_token(&scope, resource).await?.expose().to_owned())
}

#[get("/token/<provider>")]
async fn token_at(rp: &RelyingParty, provider: &str) -> Result<String, ApiTokenError> {
    Ok(rp
        .client_token_at(provider, &["a"], Some(API))
        .await?
        .expose()
        .to_owned())
}

/// Why there is no token.
#[get("/error?<scope>&<resource>")]
async fn error(rp: &RelyingParty, scope: Vec<&str>, resource: Option<&str>) -> String {
    let token = rp.client_token(&scope, resource).await;
    let error = token.map(drop).expect_err("there is no token");
    format!("{} {}: {error}", error.status(), error.reason())
}

fn rocket(app: &App) -> Rocket<Build> {
    app.rocket().mount("/", routes![token, token_at, error])
}

async fn open(app: &App) -> Browser {
    Browser::open(rocket(app)).await
}

async fn fetch(browser: &Browser, path: &str) -> String {
    browser.fetch(path).await.is(Status::Ok).body.clone()
}

fn parameters(provider: &TestProvider) -> Vec<(String, String)> {
    provider.last_request(TOKEN).form
}

#[rocket::async_test]
async fn a_token_is_requested_once_and_used_until_shortly_before_its_expiry() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = open(&app).await;
    let path = format!("/token?scope=b&scope=a&resource={API}");
    let first = fetch(&browser, &path).await;
    let expected = [
        ("grant_type", "client_credentials"),
        ("resource", API),
        ("scope", "a b"),
    ];
    let expected: Vec<_> = expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    assert_eq!(parameters(&provider), expected);
    let basic = provider.last_request(TOKEN).basic();
    assert_eq!(basic, Some(("app".to_owned(), "hush".to_owned())));

    // It lasts for 300 s.
    app.advance(Duration::from_secs(269));
    assert_eq!(fetch(&browser, &path).await, first);
    assert_eq!(
        fetch(&browser, &format!("/token?scope=a%20b&resource={API}")).await,
        first
    );
    assert_eq!(provider.count(TOKEN), 1);
    app.advance(Duration::from_secs(1));
    assert_ne!(fetch(&browser, &path).await, first);
    assert_eq!(provider.count(TOKEN), 2);
}

#[rocket::async_test]
async fn each_api_and_each_set_of_scopes_has_a_token_of_its_own() {
    let provider = TestProvider::start().await;
    let browser = open(&App::new(&provider)).await;
    let mut tokens = vec![];
    for query in [
        "scope=a".to_owned(),
        "scope=a&scope=b".to_owned(),
        format!("scope=a&resource={API}"),
        format!("scope=a&resource={API}/"),
        format!("resource={API}"),
    ] {
        let token = fetch(&browser, &format!("/token?{query}")).await;
        assert!(!tokens.contains(&token), "{query}");
        tokens.push(token);
    }
    assert_eq!(provider.count(TOKEN), 5);
}

#[rocket::async_test]
async fn simultaneous_calls_share_one_request() {
    let provider = TestProvider::start().await;
    let browser = open(&App::new(&provider)).await;
    let held = provider.hold(TOKEN);
    let calls = join_all((0..20).map(|_| fetch(&browser, "/token?scope=a")));
    let release = async {
        provider.until_requested(TOKEN, 1).await;
        held.release();
    };
    let (tokens, ()) = join(calls, release).await;
    assert!(tokens.iter().all(|token| *token == tokens[0]));
    assert_eq!(provider.count(TOKEN), 1);
}

#[rocket::async_test]
async fn a_request_goes_on_without_its_caller() {
    let provider = TestProvider::start().await;
    let browser = open(&App::new(&provider)).await;
    let held = provider.hold(TOKEN);
    {
        let call = std::pin::pin!(browser.fetch("/token?scope=a"));
        let requested = std::pin::pin!(provider.until_requested(TOKEN, 1));
        rocket::futures::future::select(call, requested).await;
    }
    held.release();
    fetch(&browser, "/token?scope=a").await;
    assert_eq!(provider.count(TOKEN), 1);
}

#[rocket::async_test]
async fn while_the_provider_is_down_calls_fail_with_503_and_cost_no_requests() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = open(&app).await;
    provider.on_path(TOKEN, Reply::status(503));
    let log = Log::listen();
    for (passed, retry_after, count) in [(0, "5", 1), (4, "1", 1), (1, "10", 2), (9, "1", 2), (1, "20", 3)] {
        app.advance(Duration::from_secs(passed));
        let page = browser.fetch("/token?scope=a").await;
        page.is(Status::ServiceUnavailable);
        assert_eq!(page.header("Retry-After"), Some(retry_after));
        assert!(!page.body.contains("endpoint"), "{}", page.body);
        assert_eq!(provider.count(TOKEN), count);
    }
    log.has("WARN: the provider's token endpoint responded with status 503; there is no token of the client");
    provider.be_honest();
    app.advance(Duration::from_secs(20));
    fetch(&browser, "/token?scope=a").await;
    // The next failure is the first again.
    provider.on_path(TOKEN, Reply::status(503));
    app.advance(Duration::from_secs(300));
    let page = browser.fetch("/token?scope=a").await;
    assert_eq!(page.header("Retry-After"), Some("5"));
}

#[rocket::async_test]
async fn the_providers_own_wait_is_kept() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = open(&app).await;
    provider.on_path(TOKEN, Reply::status(429).with_header("Retry-After", "120"));
    let page = browser.fetch("/token?scope=a").await;
    assert_eq!(page.is(Status::ServiceUnavailable).header("Retry-After"), Some("120"));
    provider.be_honest();
    app.advance(Duration::from_secs(119));
    let page = browser.fetch("/token?scope=a").await;
    assert_eq!(page.is(Status::ServiceUnavailable).header("Retry-After"), Some("1"));
    assert_eq!(provider.count(TOKEN), 1);
    app.advance(Duration::from_secs(1));
    fetch(&browser, "/token?scope=a").await;
}

#[rocket::async_test]
async fn a_rejection_is_told_in_the_log_and_not_to_the_client() {
    for (status, code, expected, remedy) in [
        (
            400,
            "invalid_target",
            "502 provider_refused",
            "name an API that the provider knows and this client may call; see `oidc.resource_parameter` for a provider with another parameter",
        ),
        (
            400,
            "invalid_scope",
            "502 provider_refused",
            "request scopes that the provider grants this client, and for a user's token those of the sign-in",
        ),
        (
            401,
            "invalid_client",
            "502 invalid_client",
            "check `oidc.client_id`, `oidc.client_secret` and `oidc.token_endpoint_auth_method`; for a client with a key, `oidc.private_key_file` and `oidc.client_assertion_audience`",
        ),
        (
            400,
            "unauthorized_client",
            "502 provider_refused",
            "allow this client the grant type at the provider",
        ),
    ] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider);
        let browser = open(&app).await;
        provider.on_path(TOKEN, Reply::error(status, code, "of the provider"));
        let log = Log::listen();
        let page = browser.fetch("/token?scope=a").await;
        page.is(Status::BadGateway);
        assert!(!page.body.contains("of the provider"), "{}", page.body);
        let message = format!("the provider's token endpoint rejected the request with `{code}`: of the provider");
        log.has(&format!("ERROR: {message}; there is no token of the client"));
        log.has(&format!("INFO: {remedy}"));
        assert_eq!(
            fetch(&browser, "/error?scope=a").await,
            format!("{expected}: {message}")
        );
        assert_eq!(provider.count(TOKEN), 1, "within the back-off");
        app.advance(Duration::from_secs(5));
        fetch(&browser, "/error?scope=a").await;
        assert_eq!(provider.count(TOKEN), 2);
    }
}

/// What the token endpoint says of `expires_in`, and for how many seconds the token is used.
#[rocket::async_test]
async fn the_lifetime_of_a_hostile_response() {
    for (expires_in, seconds) in [
        (json!(null), 60),
        (json!(-1), 60),
        (json!("soon"), 60),
        (json!([300]), 60),
        (json!("100"), 90),
        (json!(0), 0),
        (json!(1e300), 60),
        (json!(i64::MAX), 86_400),
        (json!(100_000_000_000_i64), 86_400),
    ] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider);
        let browser = open(&app).await;
        let value = expires_in.clone();
        provider.on_token_response(move |reply| reply.set("expires_in", value.clone()));
        let first = fetch(&browser, "/token?scope=a").await;
        if let Some(almost) = u64::checked_sub(seconds, 1) {
            app.advance(Duration::from_secs(almost));
            assert_eq!(fetch(&browser, "/token?scope=a").await, first, "{expires_in}");
            app.advance(Duration::from_secs(1));
        }
        assert_ne!(fetch(&browser, "/token?scope=a").await, first, "{expires_in}");
    }
}

#[rocket::async_test]
async fn a_hostile_response_is_no_token() {
    let malformed = |cause: &str| {
        format!("502 provider_reply_malformed: the provider's token endpoint sent an invalid response: {cause}")
    };
    let set = |member: &'static str, value: Value| move |reply: &mut Reply| reply.set(member, value.clone());
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = open(&app).await;
    let check = async |expected: String| {
        assert_eq!(fetch(&browser, "/error?scope=a").await, expected);
        provider.be_honest();
        app.advance(Duration::from_secs(300));
    };
    provider.on_token_response(set("token_type", json!("N_A")));
    check(malformed("`token_type` is `N_A`, expected `Bearer`")).await;
    provider.on_token_response(set("token_type", json!("DPoP")));
    check(malformed("`token_type` is `DPoP`, expected `Bearer`")).await;
    provider.on_token_response(set("access_token", json!(["a"])));
    check(malformed("`access_token` is not a string")).await;
    provider.on_token_response(set("access_token", json!("")));
    check(malformed("`access_token` is missing")).await;
    provider.on_token_response(set("access_token", json!("a\r\nX-Evil: 1")));
    check(malformed("`access_token` has characters that no header may have")).await;
    provider.on_token_response(set("access_token", json!("a".repeat(20_000))));
    check(malformed("`access_token` is longer than any header may be")).await;
    provider.on_path(TOKEN, Reply::text("application/json", "[]"));
    check(malformed("it is not a JSON object")).await;
    provider.on_path(TOKEN, Misbehaviour::Endless);
    let too_large = "502 provider_reply_too_large: the provider's token endpoint responded with more than 262144 bytes";
    check(too_large.to_owned()).await;
    fetch(&browser, "/token?scope=a").await;
}

#[rocket::async_test]
async fn wrong_arguments_cost_no_request() {
    let provider = TestProvider::start().await;
    let browser = open(&App::new(&provider)).await;
    let resource = "500 token_target: the resource \"stock\" is not an absolute URI without a fragment";
    assert_eq!(fetch(&browser, "/error?scope=a&resource=stock").await, resource);
    let scope = "500 token_target: the scope \"a\\\"\" has characters that no scope may have, or is too long";
    assert_eq!(fetch(&browser, "/error?scope=a%22").await, scope);
    assert_eq!(provider.count(TOKEN), 0);
}

#[rocket::async_test]
async fn a_public_client_has_no_tokens_of_its_own() {
    let provider = TestProvider::start().await;
    let without_secret = App::public(&provider);
    let without_authentication = App::new(&provider).with("oidc.token_endpoint_auth_method", "none");
    for app in [without_secret, without_authentication] {
        let browser = open(&app).await;
        let expected = "500 no_client_credentials: the client has no credentials at this provider";
        assert_eq!(fetch(&browser, "/error?scope=a").await, expected);
    }
    assert_eq!(provider.count(TOKEN), 0);
}

#[rocket::async_test]
async fn without_a_provider_there_is_no_token() {
    let provider = TestProvider::start().await;
    let browser = open(&App::new(&provider).with("oidc.enabled", false)).await;
    let expected = "500 disabled: OpenID Connect is disabled: no provider issues tokens for other APIs";
    assert_eq!(fetch(&browser, "/error?scope=a").await, expected);
    assert_eq!(provider.count(TOKEN), 0);
}

#[rocket::async_test]
async fn each_provider_issues_tokens_to_its_own_client() {
    let (one, other) = (TestProvider::start().await, TestProvider::start().await);
    let app = App::new(&one).with_all(json!({
        "issuer": null, "client_id": null, "client_secret": null,
        "providers": {
            "one": { "issuer": one.issuer(), "client_id": "app", "client_secret": "hush" },
            "other": { "issuer": other.issuer(), "client_id": "app", "client_secret": "another" },
        },
    }));
    let browser = open(&app).await;
    let token = fetch(&browser, "/token/one").await;
    assert_eq!((one.count(TOKEN), other.count(TOKEN)), (1, 0));
    assert_ne!(fetch(&browser, "/token/other").await, token);
    let basic = other.last_request(TOKEN).basic();
    assert_eq!(basic, Some(("app".to_owned(), "another".to_owned())));
    assert_eq!(fetch(&browser, "/token/one").await, token);
    assert_eq!((one.count(TOKEN), other.count(TOKEN)), (1, 1));

    browser.fetch("/token/none").await.is(Status::InternalServerError);
    let expected = "500 no_provider: the app has several providers, and none is named, or none has this name";
    assert_eq!(fetch(&browser, "/error?scope=a").await, expected);
}

#[rocket::async_test]
async fn the_setting_says_how_the_api_is_named() {
    for (parameter, expected) in [
        ("audience", &[("audience", API), ("scope", "a")][..]),
        ("scope", &[("scope", "https://stock.example.com/a")]),
    ] {
        let provider = TestProvider::start().await;
        let browser = open(&App::new(&provider).with("oidc.resource_parameter", parameter)).await;
        fetch(&browser, &format!("/token?scope=a&resource={API}")).await;
        let sent = parameters(&provider);
        let sent: Vec<_> = sent[1..]
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(sent, expected);
    }
}
