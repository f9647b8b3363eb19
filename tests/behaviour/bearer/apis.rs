//! Several APIs in one app: each guard accepts the tokens of its own, and says where its metadata is.

use std::time::Duration;

use rocket::{
    Build, Rocket,
    figment::Figment,
    get,
    http::{
        Header,
        uri::{Authority, Host},
    },
    local::asynchronous::Client,
    routes,
    serde::json::{Value, json},
};
use rocket_openidconnect::{Bearer, Caller, Clock, scopes};

use super::app::{Answer, METADATA, rocket};
use crate::{
    common::{Log, NOW, launch_failure},
    support::{JwtParts, Reply, SigningKey, TestProvider},
};

const ORDERS: &str = "https://api.example.com/orders";
const STOCK: &str = "https://stock.example";
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

scopes! {
    OrdersRead = "orders:read" for "orders";
    Orders for "orders";
    Stock for "stock";
    Unknown for "unknown";
}

#[get("/orders")]
fn orders(token: Bearer<OrdersRead>) -> String {
    format!("orders of {:?}", token.subject())
}

#[get("/orders/any")]
fn any_order(_token: Bearer<Orders>) -> &'static str {
    "orders"
}

#[get("/orders/caller")]
fn order_caller(_caller: Caller<OrdersRead>) -> &'static str {
    "orders"
}

#[get("/stock")]
fn stock(_token: Bearer<Stock>) -> &'static str {
    "stock"
}

#[get("/both")]
fn both(orders: Option<Bearer<Orders>>, stock: Option<Bearer<Stock>>) -> String {
    format!("{} {}", orders.is_some(), stock.is_some())
}

/// The app of [`super::app`], with two more APIs.
struct Apis {
    client: Client,
    provider: TestProvider,
    clock: Clock,
    log: Log,
}

fn app(provider: &TestProvider, settings: Value, clock: &Clock) -> Rocket<Build> {
    let mut all = json!({ "apis": {
        "orders": { "resource": ORDERS, "scopes_supported": "orders:write" },
        "stock": { "resource": STOCK, "audience": "stock-api" },
    } });
    let more = settings.as_object().unwrap().clone();
    all.as_object_mut().unwrap().extend(more);
    rocket(provider, all, clock).mount("/", routes![orders, any_order, order_caller, stock, both])
}

impl Apis {
    async fn open() -> Apis {
        Apis::with(json!({})).await
    }

    async fn with(settings: Value) -> Apis {
        let provider = TestProvider::start().await;
        provider.set_time(NOW);
        let clock = Clock::fixed_at(NOW);
        let log = Log::listen();
        let client = Client::untracked(app(&provider, settings, &clock)).await;
        Apis {
            client: client.expect("the app launches"),
            provider,
            clock,
            log,
        }
    }

    async fn call(&self, path: &str, token: &str) -> Answer {
        let authorization = Header::new("Authorization", format!("Bearer {token}"));
        let request = self.client.get(path.to_owned()).header(authorization);
        Answer::to(request).await
    }

    async fn statuses(&self, token: &str) -> [u16; 3] {
        let mut statuses = [0; 3];
        for (status, path) in statuses.iter_mut().zip(["/whoami", "/orders/any", "/stock"]) {
            *status = self.call(path, token).await.status;
        }
        statuses
    }

    fn token(&self, aud: Value) -> String {
        let all = "notes:read orders:read";
        self.provider.access_token(all, |token| token.set("aud", aud))
    }

    /// The metadata at this path of this host.
    async fn metadata(&self, host: &str, path: &str) -> Value {
        let mut request = self.client.get(format!("{WELL_KNOWN}{path}"));
        let authority = Authority::parse_owned(host.to_owned()).unwrap();
        request.inner_mut().set_host(Host::new(authority));
        let answer = Answer::to(request).await;
        assert_eq!(answer.status, 200, "{host}{path}");
        serde_json::from_str(&answer.body).unwrap()
    }
}

#[rocket::async_test]
async fn a_token_for_one_api_is_none_for_another() {
    let apis = Apis::open().await;
    for (aud, expected) in [
        (json!(TestProvider::API), [200, 401, 401]),
        (json!(ORDERS), [401, 200, 401]),
        (json!("stock-api"), [401, 401, 200]),
        // Its audience is set, so its resource is none.
        (json!(STOCK), [401, 401, 401]),
        (json!(format!("{ORDERS}/")), [401, 401, 401]),
        (json!(["stock-api", ORDERS]), [401, 200, 200]),
        (json!("client"), [401, 401, 401]),
    ] {
        let token = apis.token(aud.clone());
        // Accepted and refused once, it is the same again, whatever the cache has.
        for _ in 0..2 {
            assert_eq!(apis.statuses(&token).await, expected, "{aud}");
        }
    }
}

#[rocket::async_test]
async fn the_log_names_the_audience_that_the_api_has() {
    let apis = Apis::open().await;
    let token = apis.token(json!("stock-api"));
    assert_eq!(apis.call("/orders", &token).await.status, 401);
    let line = format!(
        "DEBUG: the access token is rejected: the token is meant for [\"stock-api\"], \
         expected one of [{ORDERS:?}]"
    );
    let lines = apis.log.debug_lines();
    assert!(lines.contains(&line), "{lines:#?}");
}

#[rocket::async_test]
async fn a_challenge_names_the_metadata_of_its_own_api() {
    let apis = Apis::open().await;
    let at = |url: &str| format!("resource_metadata=\"{url}\"");
    let of_orders = at("https://api.example.com/.well-known/oauth-protected-resource/orders");
    let of_stock = at("https://stock.example/.well-known/oauth-protected-resource");
    for (path, scope, metadata) in [
        ("/whoami", "", METADATA),
        ("/notes", ", scope=\"notes:read\"", METADATA),
        ("/orders", ", scope=\"orders:read\"", &of_orders),
        ("/orders/any", "", &of_orders),
        ("/orders/caller", ", scope=\"orders:read\"", &of_orders),
        ("/stock", "", &of_stock),
    ] {
        let answer = Answer::to(apis.client.get(path)).await;
        let challenge = format!("Bearer realm=\"api\"{scope}, {metadata}");
        assert_eq!((answer.status, answer.challenge), (401, Some(challenge)));
    }
    let token = apis.token(json!("stock-api"));
    assert_eq!(
        apis.call("/orders", &token).await.challenge,
        Some(format!(
            "Bearer realm=\"api\", error=\"invalid_token\", \
             error_description=\"the token is meant for another API\", {of_orders}"
        ))
    );
    let token = apis.provider.access_token("", |token| token.set("aud", ORDERS));
    let answer = apis.call("/orders", &token).await;
    let challenge = format!(
        "Bearer realm=\"api\", error=\"insufficient_scope\", \
         error_description=\"the token does not allow this\", scope=\"orders:read\", {of_orders}"
    );
    assert_eq!((answer.status, answer.challenge), (403, Some(challenge)));
}

/// Two of them share a path, on two hosts.
#[rocket::async_test]
async fn each_api_has_a_metadata_document_at_its_address() {
    let apis = Apis::open().await;
    let servers = json!([apis.provider.issuer()]);
    let document = |resource: &str, scopes: Value| {
        let mut document = json!({
            "resource": resource, "authorization_servers": servers,
            "bearer_methods_supported": ["header"],
        });
        if !scopes.is_null() {
            document["scopes_supported"] = scopes;
        }
        document
    };
    let of_orders = document(ORDERS, json!(["orders:read", "orders:write"]));
    let own = document("http://localhost:8000", json!(["admin", "notes:read", "notes:write"]));
    let of_stock = document(STOCK, Value::Null);
    for (host, path, expected) in [
        ("api.example.com", "/orders", &of_orders),
        ("anything.example", "/orders", &of_orders),
        ("localhost:8000", "", &own),
        ("stock.example", "", &of_stock),
        ("STOCK.example", "", &of_stock),
        // Where no host fits, a client sees by `resource` that this is another.
        ("stock.example:8443", "", &own),
        ("stock.example.evil.example", "", &own),
    ] {
        assert_eq!(&apis.metadata(host, path).await, expected, "{host}{path}");
    }
    for path in ["/stock", "/orders/any", "/order"] {
        let answer = Answer::to(apis.client.get(format!("{WELL_KNOWN}{path}"))).await;
        assert_eq!(answer.status, 404, "{path}");
    }
}

/// A refusal is remembered too: it is none at the API that the token is for.
#[rocket::async_test]
async fn an_introspection_is_valid_at_one_api() {
    let apis = Apis::with(json!({ "token_validation": "introspection" })).await;
    let token = apis.token(json!("stock-api"));
    for _ in 0..2 {
        assert_eq!(apis.statuses(&token).await, [401, 401, 200]);
    }
    assert_eq!(apis.provider.count("/introspect"), 3);
    apis.clock.advance(Duration::from_secs(5));
    assert_eq!(apis.statuses(&token).await, [401, 401, 200]);
    assert_eq!(apis.provider.count("/introspect"), 5);
}

/// Nothing but its audience tells a token for one API from a token for another.
#[rocket::async_test]
async fn introspection_without_audience_counts_at_no_named_api() {
    let apis = Apis::with(json!({
        "token_validation": "introspection", "insecure_introspection_without_audience": true,
    }))
    .await;
    let scope = "notes:read orders:read";
    let reply = json!({ "active": true, "sub": "alice", "client_id": "client", "scope": scope });
    apis.provider
        .on_introspection(move |answer| *answer = Reply::json(reply.clone()));
    assert_eq!(apis.statuses("opaque").await, [200, 401, 401]);
    let refused = apis.call("/stock", "opaque").await;
    assert!(refused.challenge.unwrap().contains("the token has no audience"));
}

#[rocket::async_test]
async fn two_guards_of_one_route_judge_a_token_apart() {
    let apis = Apis::open().await;
    for (aud, expected) in [
        (json!(ORDERS), "true false"),
        (json!("stock-api"), "false true"),
        (json!(["stock-api", ORDERS]), "true true"),
        (json!(TestProvider::API), "false false"),
    ] {
        let answer = apis.call("/both", &apis.token(aud)).await;
        assert_eq!((answer.status, &*answer.body), (200, expected));
    }
}

/// Of several guards that refuse, the answer's is the last one of its status: the one that a client has to satisfy.
#[rocket::async_test]
async fn the_challenge_is_of_the_guard_that_refused_the_request() {
    #[get("/first-optional")]
    fn first_optional(_orders: Option<Bearer<OrdersRead>>, _stock: Bearer<Stock>) {}
    #[get("/own-status")]
    fn own_status(_orders: Option<Bearer<OrdersRead>>, _stock: Option<Bearer<Stock>>) -> rocket::http::Status {
        rocket::http::Status::Forbidden
    }

    let provider = TestProvider::start().await;
    provider.set_time(NOW);
    let app = app(&provider, json!({}), &Clock::fixed_at(NOW)).mount("/", routes![first_optional, own_status]);
    let client = Client::untracked(app).await.unwrap();
    let answer = Answer::to(client.get("/first-optional")).await;
    let of_stock = "https://stock.example/.well-known/oauth-protected-resource";
    let challenge = format!("Bearer realm=\"api\", resource_metadata=\"{of_stock}\"");
    assert_eq!((answer.status, answer.challenge), (401, Some(challenge)));

    // The first lacks a scope (403), the second is for another API (401).
    let token = provider.access_token("", |token| token.set("aud", ORDERS));
    let authorization = Header::new("Authorization", format!("Bearer {token}"));
    let answer = Answer::to(client.get("/own-status").header(authorization)).await;
    let challenge = answer.challenge.unwrap();
    assert_eq!(answer.status, 403);
    assert!(challenge.contains("error=\"insufficient_scope\""), "{challenge}");
    assert!(challenge.contains("oauth-protected-resource/orders"), "{challenge}");
}

/// Whoever may name any audience at a further issuer gets into no API that was not given to that issuer.
#[rocket::async_test]
async fn a_further_issuer_is_for_the_apis_that_it_lists() {
    let partner = TestProvider::start().await;
    partner.set_time(NOW);
    partner.rotate_rsa_key();
    let with = async |more: Value| {
        let mut issuer = json!({ "issuer": partner.issuer() });
        let more = more.as_object().unwrap().clone();
        issuer.as_object_mut().unwrap().extend(more);
        Apis::with(json!({ "issuers": { "partner": issuer } })).await
    };
    let theirs = |aud: &str| {
        partner.access_token("orders:read", |token: &mut JwtParts| {
            token.set("aud", aud);
            token.sign_with(SigningKey::NextRsa);
        })
    };
    let servers = async |apis: &Apis, host: &str, path: &str| {
        let metadata = apis.metadata(host, path).await;
        let servers = metadata["authorization_servers"].as_array().unwrap();
        servers.contains(&json!(partner.issuer()))
    };

    let apis = with(json!({ "audience": "partner" })).await;
    assert_eq!(apis.statuses(&theirs("partner")).await, [200, 401, 401]);
    for aud in [ORDERS, "stock-api", TestProvider::API] {
        assert_eq!(apis.statuses(&theirs(aud)).await, [401, 401, 401], "{aud}");
    }
    assert!(!servers(&apis, "api.example.com", "/orders").await);
    assert!(servers(&apis, "localhost:8000", "").await);

    let apis = with(json!({ "apis": { "orders": "partner-orders" } })).await;
    assert_eq!(apis.statuses(&theirs("partner-orders")).await, [401, 200, 401]);
    for aud in [ORDERS, "stock-api", TestProvider::API] {
        assert_eq!(apis.statuses(&theirs(aud)).await, [401, 401, 401], "{aud}");
    }
    assert!(servers(&apis, "api.example.com", "/orders").await);
    assert!(!servers(&apis, "localhost:8000", "").await);
}

#[rocket::async_test]
async fn a_guard_of_an_api_that_no_setting_has_aborts_the_launch() {
    #[get("/unknown")]
    fn unknown(_token: Bearer<Unknown>) {}
    #[get("/unknown")]
    fn unknown_caller(_caller: Caller<Unknown>) {}

    let provider = TestProvider::start().await;
    for routes in [routes![unknown], routes![unknown_caller]] {
        let app = app(&provider, json!({}), &Clock::fixed_at(NOW)).mount("/", routes);
        let (kind, lines) = launch_failure(app).await;
        assert_eq!(kind, "1 sentinels abort");
        let said = [
            "but there is no API `oidc.apis.unknown`",
            "INFO: add a table `oidc.apis.unknown` with `resource`",
        ];
        for text in said {
            assert!(lines.iter().any(|line| line.ends_with(text)), "{lines:#?}");
        }
    }
}

/// An app of named APIs alone: it is known by no client id, and nothing is left that a guard without a name accepts.
#[rocket::async_test]
async fn an_app_may_have_named_apis_alone() {
    #[get("/named")]
    fn named(_token: Bearer<Orders>) {}
    #[get("/unnamed")]
    fn unnamed(_token: Bearer) {}

    let provider = TestProvider::start().await;
    provider.set_time(NOW);
    let app = |routes| {
        let oidc = json!({
            "issuer": provider.issuer(), "resource_server_only": true,
            "apis": { "orders": { "resource": ORDERS } },
        });
        let figment = Figment::from(::rocket::Config::debug_default())
            .merge(("log_level", "off"))
            .merge(("oidc", oidc));
        let oidc = rocket_openidconnect::Oidc::fairing().clock(Clock::fixed_at(NOW));
        ::rocket::custom(figment).attach(oidc).mount("/", routes)
    };
    let client = Client::untracked(app(routes![named])).await.unwrap();
    for (aud, status) in [(ORDERS, 200), ("", 401), ("client", 401)] {
        let token = provider.access_token("", |token| token.set("aud", aud));
        let authorization = Header::new("Authorization", format!("Bearer {token}"));
        let response = client.get("/named").header(authorization).dispatch().await;
        assert_eq!(response.status().code, status, "{aud:?}");
    }
    // There are no credentials to ask with.
    let authorization = Header::new("Authorization", "Bearer opaque");
    let response = client.get("/named").header(authorization).dispatch().await;
    assert_eq!(response.status().code, 401);
    assert_eq!(provider.count("/introspect"), 0);
    // No guard speaks for the app as a whole.
    let response = client.get(WELL_KNOWN).dispatch().await;
    assert_eq!(response.status().code, 404);

    let (kind, lines) = launch_failure(app(routes![unnamed])).await;
    assert_eq!(kind, "1 sentinels abort");
    let remedy = "INFO: set `oidc.audience`, or name an API of `oidc.apis` in the guard's scopes";
    assert!(lines.contains(&remedy.to_owned()), "{lines:#?}");
}

/// Without a provider, the testing profile calls each of them.
#[rocket::async_test]
async fn the_testing_profile_calls_every_api() {
    let apis = Apis::with(json!({
        "enabled": false, "testing_profile": { "sub": "tess", "scope": "orders:read" },
    }))
    .await;
    for path in ["/whoami", "/orders", "/stock"] {
        assert_eq!(Answer::to(apis.client.get(path)).await.status, 200, "{path}");
    }
    assert_eq!(apis.call("/orders", "x").await.status, 401);
}

/// An outage of the provider is no reason to take a token for another API's.
#[rocket::async_test]
async fn an_api_whose_provider_is_broken_answers_502_at_each() {
    let apis = Apis::open().await;
    let reply = Reply::status(503);
    apis.provider.on_path("/jwks", reply);
    let token = apis.token(json!(ORDERS));
    assert_eq!(apis.call("/orders", &token).await.status, 503);
    assert_eq!(apis.call("/stock", &token).await.status, 401);
}
