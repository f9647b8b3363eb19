//! Calls of another API, with the token in their header.

use std::time::Duration;

use rocket::{
    Build, Rocket, State,
    futures::future::{join, join_all},
    get,
    http::Status,
    routes,
};
use rocket_openidconnect::{
    ApiCallError, ApiClient, LoggedIn, RelyingParty,
    reqwest::{Method, header},
};

use crate::{
    common::{App, Log},
    support::{Browser, Misbehaviour, RecordedRequest, Reply, TestProvider},
};

const TOKEN: &str = "/token";
const ORDERS: &str = "/v1/orders";
const STOCK: &str = "/v1/stock";
/// The challenge to a token that the API does not accept.
const INVALID: &str = r#"Basic realm="x", Bearer realm="orders", error="invalid_token""#;

fn described(status: u16, body: &str) -> String {
    format!("{status} {body}")
}

/// Calls the API as the app itself.
#[get("/call/<path..>")]
async fn call(rp: &RelyingParty, api: &State<ApiClient>, path: std::path::PathBuf) -> Result<String, ApiCallError> {
    let tokens = rp.client_tokens(&["a"], None);
    let request = api.get(&path.to_string_lossy())?;
    let response = api.send(request, &tokens).await?;
    let status = response.status().as_u16();
    Ok(described(status, &response.text().await?))
}

/// Calls the API for a user, with a token for this resource.
#[get("/call-for-user/<path>")]
async fn call_for_user(user: LoggedIn, api: &State<ApiClient>, path: &str) -> Result<String, ApiCallError> {
    let tokens = user.tokens_for(&format!("https://api.example.com/{path}"), &[]);
    let request = api.request(Method::POST, path)?.body("the body");
    let response = api.send(request, &tokens).await?;
    let status = response.status().as_u16();
    Ok(described(status, &response.text().await?))
}

/// Sends a request of another client to any address.
#[get("/send?<url>&<timeout>")]
async fn send(rp: &RelyingParty, api: &State<ApiClient>, url: &str, timeout: Option<u64>) -> String {
    let tokens = rp.client_tokens(&["a"], None);
    let mut request = rocket_openidconnect::reqwest::Client::new().get(url);
    if let Some(timeout) = timeout {
        request = request.timeout(Duration::from_millis(timeout));
    }
    let response = api
        .send(request.header(header::AUTHORIZATION, "Basic x"), &tokens)
        .await;
    match response {
        Ok(response) => response.status().as_u16().to_string(),
        Err(error) => format!("{} {}: {error}", error.status(), error.reason()),
    }
}

fn rocket(app: &App, provider: &TestProvider) -> Rocket<Build> {
    let api = ApiClient::new(&format!("{}/v1", provider.issuer())).expect("a base address");
    app.rocket().manage(api).mount("/", routes![call, call_for_user, send])
}

async fn open(app: &App, provider: &TestProvider) -> Browser {
    Browser::open(rocket(app, provider)).await
}

async fn fetch(browser: &Browser, path: &str) -> String {
    browser.fetch(path).await.is(Status::Ok).body.clone()
}

fn rejected() -> Reply {
    Reply::text("text/plain", "rejected")
        .with_status(401)
        .with_header("WWW-Authenticate", INVALID)
}

/// The tokens that the API has received, in order.
fn received(provider: &TestProvider, path: &str) -> Vec<String> {
    let requests = provider.requests_to(path);
    let tokens = requests.iter().filter_map(RecordedRequest::bearer);
    tokens.map(str::to_owned).collect()
}

/// From the next token on, the API accepts what it gets.
fn reject_until_renewed(provider: &TestProvider, paths: &'static [&'static str]) {
    for path in paths {
        provider.on_path(path, rejected());
    }
    let api = provider.clone();
    provider.on_token_response(move |_| {
        for path in paths {
            api.on_path(path, Reply::text("text/plain", "accepted"));
        }
    });
}

#[rocket::async_test]
async fn a_request_carries_the_token() {
    let provider = TestProvider::start().await;
    let browser = open(&App::new(&provider), &provider).await;
    provider.on_path(ORDERS, Reply::text("text/plain", "two orders"));
    for _ in 0..2 {
        assert_eq!(fetch(&browser, "/call/orders").await, "200 two orders");
    }
    let tokens = received(&provider, ORDERS);
    assert!(tokens[0].starts_with("ct-") && tokens[0] == tokens[1], "{tokens:?}");
    assert_eq!(provider.count(TOKEN), 1);
    // It replaces any other.
    let url = format!("{}{ORDERS}?open=true", provider.issuer());
    assert_eq!(fetch(&browser, &format!("/send?url={url}")).await, "200");
    let request = provider.last_request(ORDERS);
    assert_eq!(request.bearer(), Some(&*tokens[0]));
    assert_eq!(request.query_value("open"), Some("true"));
    let of_header = request.headers.iter().filter(|(name, _)| name == "authorization");
    assert_eq!(of_header.count(), 1);
}

#[rocket::async_test]
async fn a_redirect_is_not_followed() {
    let (provider, other) = (TestProvider::start().await, TestProvider::start().await);
    let browser = open(&App::new(&provider), &provider).await;
    for address in [
        format!("{}/v1/stock", other.issuer()),
        format!("{}{STOCK}", provider.issuer()),
    ] {
        provider.on_path(ORDERS, Misbehaviour::RedirectTo(address));
        assert_eq!(fetch(&browser, "/call/orders").await, "302 ");
    }
    assert_eq!(other.requests().len(), 0);
    assert_eq!(provider.count(STOCK), 0);
}

#[rocket::async_test]
async fn another_address_gets_no_request_and_costs_no_token() {
    let (provider, other) = (TestProvider::start().await, TestProvider::start().await);
    let browser = open(&App::new(&provider), &provider).await;
    let (own, port) = (provider.issuer(), provider.port());
    for url in [
        format!("{}/v1/orders", other.issuer()),
        format!("{own}/v2/orders"),
        format!("{own}/v1/../token"),
        format!("http://localhost:{port}/v1/orders"),
        format!("http://127.0.0.1:{port}@{}/v1/", &other.issuer()[7..]),
        "https://api.example/v1/".to_owned(),
    ] {
        let answer = fetch(&browser, &format!("/send?url={url}")).await;
        assert!(
            answer.starts_with("500 api_address: the request is for `http"),
            "{answer}"
        );
        assert!(
            answer.ends_with(&format!("`, and not for an address below `{own}/v1/`")),
            "{answer}"
        );
    }
    assert_eq!(other.requests().len(), 0);
    assert_eq!((provider.count(TOKEN), provider.count(ORDERS)), (0, 0));
}

#[rocket::async_test]
async fn a_rejected_token_is_renewed_once() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = open(&app, &provider).await;
    assert!(fetch(&browser, "/call/orders").await.starts_with("404 "));
    reject_until_renewed(&provider, &[ORDERS]);

    // A token that is younger than a minute is the API's affair.
    app.advance(Duration::from_secs(59));
    assert_eq!(fetch(&browser, "/call/orders").await, "401 rejected");
    assert_eq!((provider.count(TOKEN), provider.count(ORDERS)), (1, 2));
    app.advance(Duration::from_secs(1));
    assert_eq!(fetch(&browser, "/call/orders").await, "200 accepted");
    assert_eq!((provider.count(TOKEN), provider.count(ORDERS)), (2, 4));
    let tokens = received(&provider, ORDERS);
    assert!(tokens[2] == tokens[0] && tokens[3] != tokens[0], "{tokens:?}");

    // The new one is rejected too.
    provider.be_honest();
    provider.on_path(ORDERS, rejected());
    app.advance(Duration::from_secs(60));
    assert_eq!(fetch(&browser, "/call/orders").await, "401 rejected");
    assert_eq!((provider.count(TOKEN), provider.count(ORDERS)), (3, 6));
    assert_eq!(fetch(&browser, "/call/orders").await, "401 rejected");
    assert_eq!((provider.count(TOKEN), provider.count(ORDERS)), (3, 7));
}

#[rocket::async_test]
async fn only_invalid_token_renews_a_token() {
    for (status, challenge) in [
        (401, ""),
        (401, "Bearer"),
        (401, r#"Bearer error="insufficient_scope""#),
        (401, r#"Bearer realm="error=invalid_token""#),
        (401, r#"Basic error="invalid_token""#),
        (403, INVALID),
        (400, INVALID),
    ] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider);
        let browser = open(&app, &provider).await;
        fetch(&browser, "/call/orders").await;
        app.advance(Duration::from_secs(100));
        provider.on_path(ORDERS, Reply::status(status).with_header("WWW-Authenticate", challenge));
        assert_eq!(fetch(&browser, "/call/orders").await, format!("{status} "));
        assert_eq!((provider.count(TOKEN), provider.count(ORDERS)), (1, 2), "{challenge}");
    }
}

#[rocket::async_test]
async fn the_tokens_of_a_session_are_renewed_once_in_ten_seconds() {
    for store in ["cookie", "memory"] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider).with("oidc.session.store", store);
        let browser = Browser::signed_in(rocket(&app, &provider), &provider).await;
        for path in ["orders", "stock"] {
            assert!(
                fetch(&browser, &format!("/call-for-user/{path}"))
                    .await
                    .starts_with("404 ")
            );
        }
        assert_eq!(provider.count(TOKEN), 3);
        app.advance(Duration::from_secs(60));
        reject_until_renewed(&provider, &[ORDERS]);
        provider.on_path(STOCK, rejected());
        assert_eq!(fetch(&browser, "/call-for-user/orders").await, "200 accepted");
        assert_eq!(provider.count(TOKEN), 4);
        for request in provider.requests_to(ORDERS) {
            assert_eq!(request.body, "the body");
        }

        app.advance(Duration::from_secs(9));
        assert_eq!(fetch(&browser, "/call-for-user/stock").await, "401 rejected");
        assert_eq!(provider.count(TOKEN), 4);
        app.advance(Duration::from_secs(1));
        reject_until_renewed(&provider, &[STOCK]);
        assert_eq!(fetch(&browser, "/call-for-user/stock").await, "200 accepted");
        assert_eq!(provider.count(TOKEN), 5, "{store}");
    }
}

#[rocket::async_test]
async fn simultaneous_rejections_share_one_new_token() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = Browser::signed_in(rocket(&app, &provider), &provider).await;
    fetch(&browser, "/call-for-user/orders").await;
    app.advance(Duration::from_secs(60));
    reject_until_renewed(&provider, &[ORDERS]);
    let held = provider.hold(TOKEN);
    let calls = join_all((0..5).map(|_| fetch(&browser, "/call-for-user/orders")));
    let release = async {
        provider.until_requested(TOKEN, 3).await;
        held.release();
    };
    let (answers, ()) = join(calls, release).await;
    assert_eq!(answers, ["200 accepted"; 5]);
    assert_eq!(provider.count(TOKEN), 3);
}

#[rocket::async_test]
async fn without_another_token_the_call_fails() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = open(&app, &provider).await;
    fetch(&browser, "/call/orders").await;
    app.advance(Duration::from_secs(60));
    provider.on_path(ORDERS, rejected());
    provider.on_path(TOKEN, Reply::status(503));
    let page = browser.fetch("/call/orders").await;
    assert_eq!(page.is(Status::ServiceUnavailable).header("Retry-After"), Some("5"));
    // The next one needs no second look.
    browser.fetch("/call/orders").await.is(Status::ServiceUnavailable);
    assert_eq!((provider.count(TOKEN), provider.count(ORDERS)), (2, 2));
}

#[rocket::async_test]
async fn an_api_that_does_not_respond() {
    let provider = TestProvider::start().await;
    let browser = open(&App::new(&provider), &provider).await;
    let log = Log::listen();
    provider.on_path(ORDERS, Misbehaviour::Drop);
    browser.fetch("/call/orders").await.is(Status::BadGateway);
    let lines = log.lines();
    assert!(lines[0].starts_with("ERROR: the API is not reachable: "), "{lines:?}");
    assert_eq!(
        lines[1],
        "INFO: check that the API is running and reachable from this machine"
    );
    provider.on_path(ORDERS, Misbehaviour::Hang);
    let url = format!("{}{ORDERS}?secret", provider.issuer());
    let answer = fetch(&browser, &format!("/send?timeout=50&url={url}")).await;
    assert_eq!(answer, "504 api_timeout: the API did not respond in time");
}
