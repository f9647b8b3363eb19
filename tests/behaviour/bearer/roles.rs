//! `Bearer` beside sessions, without sign-in, without a provider; several issuers; the API's own metadata.

use rocket::{
    figment::Figment,
    http::{Accept, Header},
    local::asynchronous::Client,
    serde::json::{Value, json},
};
use rocket_openidconnect::{__private::SessionCookies, Clock};

use super::app::{Answer, Api, METADATA, refused, rocket};
use crate::{
    common::{App, KEY, Log, NOW, launch_failure},
    support::{Browser, SigningKey, TestProvider},
};

#[rocket::async_test]
async fn a_caller_is_a_client_or_a_person() {
    let provider = TestProvider::start().await;
    provider.set_time(NOW);
    let rocket = rocket(&provider, json!({}), &Clock::fixed_at(NOW));
    let browser = Browser::open(rocket).await;

    // Nobody: a page load signs in, a fetch gets the bare challenge.
    let page = browser.visit("/either").await;
    assert_eq!(page.location.as_deref(), Some("/oidc/login?next=%2Feither"));
    let fetched = browser.fetch("/either").await;
    assert_eq!(fetched.status, 401);
    assert_eq!(
        fetched.header("WWW-Authenticate"),
        Some(format!("Bearer realm=\"api\", scope=\"notes:read\", {METADATA}").as_str())
    );

    // A person, whatever the scopes.
    browser.sign_in(&provider, "/either").await.sees("person alice");

    // A header decides, also beside a session.
    let token = provider.access_token("notes:read", |_| ());
    let with = async |value: String| browser.fetch_with("/either", &[("Authorization", &*value)]).await;
    let client = with(format!("Bearer {token}")).await;
    assert_eq!(client.body, "client Some(\"client\")");
    let without_scope = provider.access_token("x", |_| ());
    assert_eq!(with(format!("Bearer {without_scope}")).await.status, 403);
    assert_eq!(with("Bearer x".to_owned()).await.status, 401);
    assert_eq!(with("Basic YTpi".to_owned()).await.status, 401);
}

#[rocket::async_test]
async fn a_resource_server_only_has_no_routes_and_reads_no_cookies() {
    let settings = json!({
        "resource_server_only": true, "client_id": "client", "client_secret": null,
    });
    let api = Api::with(settings).await;
    assert_eq!(api.whoami(|_| ()).await.status, 200);
    for path in ["/oidc/login", "/oidc/authorize", "/oidc/logout"] {
        assert_eq!(api.call_with(path, &[]).await.status, 404, "{path}");
    }
    let keys = SessionCookies::new(KEY, &api.provider.issuer(), "client").unwrap();
    let cookie = (format!("oidc_session_{}", keys.client_tag()), "x");
    let response = api.client.get("/either").cookie(cookie).header(Accept::HTML);
    let response = response.dispatch().await;
    assert_eq!(response.status().code, 401);
    assert_eq!(response.headers().get("Set-Cookie").count(), 0);
}

/// In production too, an API needs an issuer and an audience, and no secret.
#[rocket::async_test]
async fn a_resource_server_only_needs_no_secret_and_no_name() {
    #[rocket::get("/whoami")]
    fn whoami(token: rocket_openidconnect::Bearer) -> String {
        token.subject().unwrap_or_default().to_owned()
    }

    let provider = TestProvider::start().await;
    provider.set_time(NOW);
    let app = |more: Value| {
        let oidc = json!({
            "issuer": provider.issuer(), "audience": TestProvider::API, "resource_server_only": true,
        });
        let figment = Figment::from(rocket::Config::release_default())
            .merge(("log_level", "off"))
            .merge(("oidc", oidc))
            .merge(("oidc", more));
        let oidc = rocket_openidconnect::Oidc::fairing().clock(Clock::fixed_at(NOW));
        ::rocket::custom(figment)
            .attach(oidc)
            .mount("/", rocket::routes![whoami])
    };
    let log = Log::listen();
    let client = Client::untracked(app(json!({}))).await.unwrap();
    let told = "INFO: `secret_key` is not set, and this API does not need it; the app's own private cookies are lost \
                at a restart";
    assert_eq!(log.lines()[0], told);
    let call = async |token: &str| {
        let authorization = Header::new("Authorization", format!("Bearer {token}"));
        let request = client.get("/whoami").header(authorization);
        Answer::to(request).await
    };
    let token = provider.access_token("", |_| ());
    let answer = call(&token).await;
    assert_eq!((answer.status, &*answer.body), (200, "alice"));
    // Nobody can be asked about another kind of token.
    let answer = call("opaque").await;
    assert_eq!(
        answer.challenge.as_deref(),
        Some(
            "Bearer realm=\"api\", error=\"invalid_token\", \
             error_description=\"the token is not a JWT\""
        )
    );
    assert_eq!(provider.count("/introspect"), 0);

    // A key that is no key is wrong here as anywhere.
    let wrong = app(json!({}));
    let figment = wrong.figment().clone().merge(("secret_key", "short"));
    let (kind, lines) = launch_failure(wrong.configure(figment)).await;
    assert_eq!(kind, "failed fairings: OpenID Connect");
    assert!(lines[0].starts_with("ERROR: `secret_key` is invalid"), "{lines:#?}");
    // Sessions need one.
    let settings = json!({
        "resource_server_only": false, "client_id": "client", "base_url": "https://app.example.com",
    });
    let (kind, lines) = launch_failure(app(settings)).await;
    assert_eq!(kind, "failed fairings: OpenID Connect");
    assert_eq!(
        lines[0],
        "ERROR: `secret_key` is missing: outside of the debug profile Rocket does not launch without one"
    );
}

#[rocket::async_test]
async fn a_guard_without_the_fairing_aborts_the_launch() {
    use rocket_openidconnect::{Bearer, Caller};

    #[rocket::get("/bearer")]
    fn bearer(_token: Bearer) {}
    #[rocket::get("/caller")]
    fn caller(_caller: Caller) {}

    for routes in [rocket::routes![bearer], rocket::routes![caller]] {
        let figment = rocket::Config::figment().merge(("log_level", "off"));
        let rocket = ::rocket::custom(figment).mount("/", routes);
        let (kind, lines) = launch_failure(rocket).await;
        assert_eq!(kind, "1 sentinels abort");
        assert_eq!(lines[1], "INFO: add `.attach(rocket_openidconnect::Oidc::fairing())`");
    }
}

async fn disabled(profile: Value) -> Api {
    Api::with(json!({ "enabled": false, "testing_profile": profile })).await
}

/// While disabled, a request without a token is the testing profile's, with its scopes.
#[rocket::async_test]
async fn without_a_provider_the_testing_profile_calls() {
    let api = disabled(json!({ "sub": "tess", "scope": "notes:read", "iss": "urn:test" })).await;
    let body: Value = serde_json::from_str(&api.call_with("/whoami", &[]).await.body).unwrap();
    assert_eq!(
        body,
        json!({
            "sub": "tess", "client_id": null, "iss": "urn:test", "scopes": ["notes:read"], "exp": null,
        })
    );
    assert_eq!(api.call_with("/notes", &[]).await.status, 200);
    assert_eq!(api.call_with("/admin", &[]).await.status, 403);
    assert_eq!(api.call_with("/either", &[]).await.body, "person tess");
    let with_token = api.call("/whoami", "x").await;
    assert_eq!(with_token.status, 401);
    assert_eq!(
        with_token.challenge.as_deref(),
        Some(
            "Bearer realm=\"api\", error=\"invalid_token\", error_description=\"tokens are not accepted at the moment\""
        )
    );
    let metadata = api.call_with("/.well-known/oauth-protected-resource", &[]).await;
    assert_eq!(metadata.status, 404);
    assert_eq!(api.provider.requests().len(), 0);
    assert_eq!(
        api.call_with("/person", &[]).await.body,
        "there is no UserInfo endpoint to ask"
    );

    let nobody = disabled(json!({})).await;
    assert_eq!(nobody.call_with("/whoami", &[]).await.status, 401);
}

#[rocket::async_test]
async fn every_issuer_has_its_own_keys_and_audience() {
    let partner = TestProvider::start().await;
    partner.set_time(NOW);
    let api = Api::with(json!({ "issuers": { "partner": {
        "issuer": partner.issuer(), "audience": "partner-api",
    } } }))
    .await;
    assert_eq!(api.whoami(|_| ()).await.status, 200);
    assert_eq!(partner.count("/jwks"), 0);

    let theirs = |change: &dyn Fn(&mut crate::support::JwtParts)| {
        partner.access_token("notes:read", |token| {
            token.set("aud", "partner-api");
            change(token);
        })
    };
    let answer = api.call("/whoami", &theirs(&|_| ())).await;
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(body["iss"], json!(partner.issuer()));
    assert_eq!(
        api.call("/whoami", &theirs(&|token| token.set("aud", TestProvider::API)))
            .await,
        refused("the token is meant for another API")
    );
    // Nor can one issuer speak for the other.
    let own_audience = api.whoami(|token| token.set("aud", "partner-api")).await;
    assert_eq!(own_audience, refused("the token is meant for another API"));
    let main = api.provider.issuer();
    let forged = theirs(&|token| {
        token.set("iss", main.clone());
        token.set("aud", TestProvider::API);
        token.signing = SigningKey::Foreign;
    });
    assert_eq!(
        api.call("/whoami", &forged).await,
        refused("the signature of the token is wrong")
    );
}

#[rocket::async_test]
async fn an_issuer_that_is_down_does_not_stop_the_others() {
    let partner = TestProvider::start().await;
    partner.set_time(NOW);
    let api = Api::with(json!({ "issuers": { "partner": {
        "issuer": partner.issuer(), "audience": TestProvider::API,
    } } }))
    .await;
    let theirs = partner.access_token("notes:read", |_| ());
    partner.stop();
    let down = api.call("/notes", &theirs).await;
    assert_eq!((down.status, down.retry_after.as_deref()), (503, Some("5")));
    assert_eq!(api.whoami(|_| ()).await.status, 200);
    partner.restart();
    api.clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(api.call("/notes", &theirs).await.status, 200);
}

async fn metadata(api: &Api, path: &str) -> (u16, Value) {
    let answer = api.call_with(path, &[]).await;
    (answer.status, serde_json::from_str(&answer.body).unwrap_or(Value::Null))
}

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// RFC 9728: the scopes are those of the guards in the app's routes.
#[rocket::async_test]
async fn the_metadata_describes_this_api() {
    let api = Api::with(json!({ "scopes_supported": ["notes:share"] })).await;
    assert_eq!(
        metadata(&api, WELL_KNOWN).await,
        (
            200,
            json!({
                "resource": "http://localhost:8000",
                "authorization_servers": [api.provider.issuer()],
                "bearer_methods_supported": ["header"],
                "scopes_supported": ["admin", "notes:read", "notes:share", "notes:write"],
            })
        )
    );
    let response = api.client.get(WELL_KNOWN).dispatch().await;
    assert_eq!(response.headers().get_one("Access-Control-Allow-Origin"), Some("*"));
    assert_eq!(response.headers().get_one("Cache-Control"), Some("max-age=300"));
}

#[rocket::async_test]
async fn the_metadata_of_a_resource_with_a_path() {
    let api = Api::with(json!({ "resource": "https://api.example.com/v1" })).await;
    let (status, body) = metadata(&api, &format!("{WELL_KNOWN}/v1")).await;
    assert_eq!((status, &body["resource"]), (200, &json!("https://api.example.com/v1")));
    assert_eq!(metadata(&api, WELL_KNOWN).await.0, 404);
    assert_eq!(
        api.call_with("/whoami", &[]).await.challenge.as_deref(),
        Some(
            "Bearer realm=\"api\", resource_metadata=\"https://api.example.com/.well-known/oauth-protected-resource/v1\""
        )
    );
}

#[rocket::async_test]
async fn the_metadata_can_be_switched_off() {
    let api = Api::with(json!({ "resource_metadata": false })).await;
    assert_eq!(metadata(&api, WELL_KNOWN).await.0, 404);
    assert_eq!(
        api.call_with("/whoami", &[]).await,
        Answer {
            status: 401,
            challenge: Some("Bearer realm=\"api\"".to_owned()),
            retry_after: None,
            body: "no".to_owned(),
        }
    );
}

/// An app that only signs people in is no API, and publishes nothing.
#[rocket::async_test]
async fn an_app_without_bearer_has_no_metadata() {
    let provider = TestProvider::start().await;
    let client = Client::untracked(App::client(&provider).rocket()).await.unwrap();
    let response = client.get(WELL_KNOWN).dispatch().await;
    assert_eq!(response.status().code, 404);
}

/// The audience of ID tokens as that of the API is told at liftoff.
#[rocket::async_test]
async fn the_client_id_as_audience_is_a_warning() {
    let lines = |settings: Value| async move {
        let api = Api::with(settings).await;
        let log: &Log = &api.log;
        log.lines()
    };
    let warning = "WARN: `audience`: access tokens are accepted for the client id, which is also the \
                   audience of ID tokens; set it to an identifier of this API";
    let found = lines(json!({ "audience": null })).await;
    assert!(found.contains(&warning.to_owned()), "{found:#?}");
    let found = lines(json!({})).await;
    assert!(!found.contains(&warning.to_owned()), "{found:#?}");
}
