//! What a route learns from `Bearer`, and how a refusal passes through an app's own code.

use rocket::{
    catch, catchers, get,
    http::{Accept, Header, Status},
    local::asynchronous::Client,
    routes,
    serde::json::{Json, Value, json},
};
use rocket_openidconnect::{Bearer, BearerError, Caller, Clock, LoggedIn};

use super::app::{Answer, Api, METADATA, refused, rocket};
use crate::{
    common::{KEY, NOW, launch_failure},
    support::{Browser, TestProvider},
};

#[get("/all")]
fn all(token: Bearer) -> Json<Value> {
    Json(json!({
        "has": [token.has_scope("notes:read"), token.has_scope("notes"), token.has_scope("")],
        "groups": token.claim::<Vec<String>>("groups"),
        "absent": token.claim::<String>("absent"),
        "other_type": token.claim::<String>("groups"),
        "jti": token.claims().get::<String>("jti").is_some(),
        "debug": format!("{token:?} {:?}", token.token()),
        "token": token.token().expose(),
        "clone": token.clone().subject(),
    }))
}

/// A handler that asks for a token in its own way.
#[get("/own")]
fn own(token: Option<Bearer>) -> Result<&'static str, Status> {
    token.map(|_| "in").ok_or(Status::Unauthorized)
}

#[get("/hidden")]
fn hidden(token: Option<Bearer>) -> Result<&'static str, Status> {
    token.map(|_| "in").ok_or(Status::NotFound)
}

#[get("/reason")]
fn reason(token: Result<Bearer, BearerError>) -> String {
    match token {
        Ok(_) => "in".to_owned(),
        Err(error) => format!("{}: {error}; {}", error.status(), error.remedy()),
    }
}

#[get("/ranked", rank = 1)]
fn ranked(_token: Bearer) -> &'static str {
    "with a token"
}

#[get("/ranked", rank = 2)]
fn ranked_below() -> &'static str {
    "without"
}

#[catch(401)]
fn teapot() -> (Status, &'static str) {
    (Status::ImATeapot, "no")
}

/// The API with these routes too.
async fn client(provider: &TestProvider) -> Client {
    let rocket = rocket(provider, json!({}), &Clock::fixed_at(NOW))
        .mount("/", routes![all, own, hidden, reason, ranked, ranked_below])
        .mount("/teapot", routes![ranked])
        .register("/teapot", catchers![teapot]);
    Client::untracked(rocket).await.unwrap()
}

async fn call(client: &Client, path: &str, token: Option<&str>) -> Answer {
    let mut request = client.get(path.to_owned());
    if let Some(token) = token {
        request.add_header(Header::new("Authorization", format!("Bearer {token}")));
    }
    Answer::to(request).await
}

async fn provider() -> TestProvider {
    let provider = TestProvider::start().await;
    provider.set_time(NOW);
    provider
}

#[rocket::async_test]
async fn a_route_learns_all_from_the_token() {
    let provider = provider().await;
    let client = client(&provider).await;
    let token = provider.access_token("notes:read x", |token| {
        token.set("groups", json!(["a", "b"]));
    });
    let answer = call(&client, "/all", Some(&token)).await;
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(
        body,
        json!({
            "has": [true, false, false],
            "groups": ["a", "b"],
            "absent": null,
            "other_type": null,
            "jti": true,
            "debug": "Bearer { subject: Some(\"alice\"), client_id: Some(\"client\"), \
                      scopes: [\"notes:read\", \"x\"], .. } Secret(…)",
            "token": token,
            "clone": "alice",
        })
    );
}

/// The challenge belongs to the refusal: an answer of its status carries it, another does not.
#[rocket::async_test]
async fn a_challenge_is_sent_with_its_status_only() {
    let provider = provider().await;
    let client = client(&provider).await;
    let expired = provider.access_token("", |token| token.set("exp", NOW - 60));
    let description = "the token has expired";
    assert_eq!(call(&client, "/own", Some(&expired)).await, refused(description));
    let bare = call(&client, "/own", None).await.challenge;
    assert_eq!(bare, Some(format!("Bearer realm=\"api\", {METADATA}")));
    let hidden = call(&client, "/hidden", Some(&expired)).await;
    assert_eq!((hidden.status, hidden.challenge), (404, None));
    let teapot = call(&client, "/teapot/ranked", Some(&expired)).await;
    assert_eq!((teapot.status, teapot.challenge), (418, None));
}

/// A refusal is an error: no route below is tried.
#[rocket::async_test]
async fn a_refusal_never_forwards() {
    let provider = provider().await;
    let client = client(&provider).await;
    assert_eq!(call(&client, "/ranked", None).await.status, 401);
    let expired = provider.access_token("", |token| token.set("exp", NOW - 60));
    assert_eq!(
        call(&client, "/ranked", Some(&expired)).await,
        refused("the token has expired")
    );
}

#[rocket::async_test]
async fn a_route_can_read_the_reason() {
    let provider = provider().await;
    let client = client(&provider).await;
    assert_eq!(
        call(&client, "/reason", None).await.body,
        "401: the request has no access token; send an access token: `Authorization: Bearer …`"
    );
    let none = provider.access_token("", |token| token.remove("aud"));
    assert_eq!(
        call(&client, "/reason", Some(&none)).await.body,
        "401: the access token is rejected: the claim \"aud\" is missing; have the provider put this \
         API into `aud` (an audience mapper, or a resource indicator); for Amazon Cognito, set \
         `audience_claim = \"client_id\"`"
    );
    assert_eq!(
        call(&client, "/reason", Some("a b")).await.body,
        "400: the request's token is malformed: the Authorization header has more than one token; \
         send one `Authorization: Bearer …` header"
    );
}

/// A claim that is not there is no value of the type, and is named.
#[rocket::async_test]
async fn a_token_without_a_claim_of_the_type() {
    let api = Api::open().await;
    let token = api.provider.access_token("", |_| ());
    let lacks = refused("the token lacks a claim that this API needs");
    assert_eq!(api.call("/staff", &token).await, lacks);
    let line = "ERROR: the access token's claims do not deserialize into `behaviour::bearer::app::Staff`: \
                missing field `desk`";
    let lines = api.log.lines();
    assert!(lines.contains(&line.to_owned()), "{lines:#?}");
}

/// A page load that a token's guard refuses is no reason to sign in.
#[rocket::async_test]
async fn a_refused_token_does_not_redirect_to_sign_in() {
    let api = Api::open().await;
    for path in ["/whoami", "/either"] {
        let request = api
            .client
            .get(path)
            .header(Accept::HTML)
            .header(Header::new("Authorization", "Bearer x.y"));
        let answer = Answer::to(request).await;
        assert_eq!(answer, refused("the token is not active"), "{path}");
    }
}

#[rocket::async_test]
async fn a_session_guard_aborts_a_resource_server_only() {
    #[get("/session")]
    fn session(_user: LoggedIn) {}
    #[get("/either-or")]
    fn either_or(_caller: Caller) {}

    let provider = provider().await;
    let settings = json!({ "resource_server_only": true, "client_secret": null });
    let launch = || rocket(&provider, settings.clone(), &Clock::fixed_at(NOW));
    let (kind, lines) = launch_failure(launch().mount("/", routes![session])).await;
    assert_eq!(kind, "1 sentinels abort");
    assert!(
        lines.contains(&"INFO: remove the setting, or use `Bearer` in that route".to_owned()),
        "{lines:#?}"
    );
    let with_caller = launch().mount("/", routes![either_or]);
    assert!(with_caller.ignite().await.is_ok());
}

/// A session of the same app in its other role, under the same key, is nothing to it.
#[rocket::async_test]
async fn a_resource_server_only_reads_no_session() {
    let provider = provider().await;
    let with_key = |settings: Value| {
        let rocket = rocket(&provider, settings, &Clock::fixed_at(NOW));
        let figment = rocket.figment().clone().merge(("secret_key", KEY));
        rocket.configure(figment)
    };
    let browser = Browser::open(with_key(json!({}))).await;
    browser.sign_in(&provider, "/either").await.sees("person alice");
    let cookies = browser.cookies();
    assert!(!cookies.is_empty());

    let call = async |settings: Value| {
        let client = Client::untracked(with_key(settings)).await.unwrap();
        let mut request = client.get("/either").header(Accept::HTML);
        for (name, value) in &cookies {
            request = request.cookie((name.clone(), value.clone()));
        }
        Answer::to(request).await
    };
    assert_eq!(call(json!({})).await.body, "person alice");
    let answer = call(json!({ "resource_server_only": true })).await;
    let bare = format!("Bearer realm=\"api\", scope=\"notes:read\", {METADATA}");
    assert_eq!((answer.status, answer.challenge), (401, Some(bare)));
}

/// The same app without a provider: no more routes than with one, and every caller a client.
#[rocket::async_test]
async fn a_resource_server_only_that_is_disabled() {
    let settings = json!({
        "enabled": false, "resource_server_only": true, "client_id": null, "client_secret": null,
        "testing_profile": { "sub": "tess", "client_id": "test", "scope": "notes:read" },
    });
    let api = Api::with(settings).await;
    for path in ["/oidc/login", "/oidc/authorize", "/oidc/logout"] {
        assert_eq!(api.call_with(path, &[]).await.status, 404, "{path}");
    }
    let either = api.call_with("/either", &[]).await;
    assert_eq!(either.body, "client Some(\"test\")");
    assert_eq!(api.call_with("/notes", &[]).await.status, 200);
    assert_eq!(api.provider.requests().len(), 0);
}
