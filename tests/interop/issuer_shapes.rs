//! Tokens in the shape of those of real products, at an API that is set up as the manual says. The issuers are a process
//! that serves the metadata and the keys of each product, and signs by npm `jose`; the API is a process too, and most of
//! the issuers are in the settings of one.

use std::{collections::BTreeSet, env};

use rocket::{
    get, routes,
    serde::json::{Json, Value, json},
};
use rocket_openidconnect::{Bearer, Oidc, settings::TokenValidation};

use crate::{
    example::{Example, free_port},
    issuer_recipes::{CLIENT_ID, RECIPES, Recipe},
    node_provider::NodeProvider,
};

/// What the products have, which the unit tests of access tokens read too.
const SHAPES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/src/token/access_token/tests/products.json"
);
const CLIENT_SECRET: &str = "interop-secret";

/// The issuers, each at an address of its own.
struct Issuers {
    shapes: Value,
    addresses: Value,
    http: reqwest::Client,
    _process: NodeProvider,
}

impl Issuers {
    fn start(products: &[&str]) -> Issuers {
        let client = format!("{CLIENT_ID}:{CLIENT_SECRET}");
        let script = [&["issuers.mjs", SHAPES], products].concat();
        let process = NodeProvider::run(&script, &[("CLIENT", &client)]);
        let mut shapes: Value = serde_json::from_str(&std::fs::read_to_string(SHAPES).unwrap()).unwrap();
        let tokens = shapes["Cognito"]["tokens"].clone();
        shapes["Cognito without a domain"]["tokens"] = tokens;
        Issuers {
            shapes,
            addresses: serde_json::from_str(process.issuer()).unwrap(),
            http: crate::patience::client(),
            _process: process,
        }
    }

    /// With the address of the product's issuer in place of its origins.
    fn local(&self, product: &str, value: &Value) -> Value {
        let mut text = value.to_string();
        for origin in self.shapes[product]["origins"].as_array().unwrap() {
            let address = self.addresses[product].as_str().unwrap();
            text = text.replace(origin.as_str().unwrap(), address);
        }
        serde_json::from_str(&text).unwrap()
    }

    /// The product's table of `issuers`.
    fn table(&self, product: &str) -> (String, Value) {
        let (name, table) = Recipe::of(product).table(&self.shapes[product]);
        (name, self.local(product, &table))
    }

    /// Every token of the product: its name, and the members of the file.
    fn tokens(&self, product: &str) -> impl Iterator<Item = (&str, &Value)> {
        let tokens = self.shapes[product]["tokens"].as_object().unwrap().iter();
        tokens.map(|(name, token)| (name.as_str(), token))
    }

    /// A token that the product's issuer signs now.
    async fn sign(&self, product: &str, token: &str, aud: &str, key: &str) -> String {
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("token", token)
            .append_pair("aud", aud)
            .append_pair("key", key)
            .finish();
        let address = self.addresses[product].as_str().unwrap();
        let request = self.http.get(format!("{address}/_sign?{query}"));
        let reply = request.send().await.unwrap();
        assert_eq!(reply.status(), 200, "{product}, {token}");
        reply.text().await.unwrap()
    }
}

/// Set where the test below is to be an API.
const IS_API: &str = "INTEROP_API";

#[get("/whoami")]
fn whoami(token: Bearer) -> Json<Value> {
    Json(json!({ "iss": token.issuer(), "sub": token.subject() }))
}

/// Does nothing unless it is started as an API.
#[rocket::async_test]
#[ignore = "an API that other tests start: run scripts/interop"]
async fn an_api() {
    if env::var_os(IS_API).is_none() {
        return;
    }
    let rocket = rocket::build().attach(Oidc::fairing()).mount("/", routes![whoami]);
    rocket.launch().await.expect("it runs until it is killed");
}

/// The API as a process.
struct Api {
    process: Example,
    http: reqwest::Client,
}

#[derive(Debug, PartialEq)]
struct Answer {
    status: u16,
    challenge: Option<String>,
    body: Value,
}

impl Api {
    /// With environment variables alone: no Rocket.toml has a part in it.
    fn start(settings: &[(&str, &str)]) -> Api {
        let environment = [
            (IS_API, "1"),
            ("ROCKET_CONFIG", "/dev/null"),
            ("OIDC_RESOURCE_SERVER_ONLY", "true"),
            ("OIDC_CLIENT_ID", CLIENT_ID),
            ("OIDC_CLIENT_SECRET", CLIENT_SECRET),
        ];
        let environment = [&environment[..], settings].concat();
        Api {
            process: Example::of_test("issuer_shapes::an_api", free_port(), &environment),
            http: crate::patience::client(),
        }
    }

    /// For tokens of Keycloak, and of these issuers.
    fn with_issuers(issuers: &Issuers, tables: &Value, log_level: &str) -> Api {
        let (_, keycloak) = issuers.table("Keycloak");
        Api::start(&[
            ("ROCKET_LOG_LEVEL", log_level),
            ("OIDC_ISSUER", keycloak["issuer"].as_str().unwrap()),
            ("OIDC_AUDIENCE", keycloak["audience"][0].as_str().unwrap()),
            ("OIDC_ISSUERS", &tables.to_string()),
        ])
    }

    async fn call(&self, token: &str) -> Answer {
        let answer = self
            .http
            .get(self.process.at("127.0.0.1", "/whoami"))
            .header("Authorization", format!("Bearer {token}"))
            .header("Accept", "application/json")
            .send()
            .await
            .unwrap();
        let challenge = answer.headers().get("WWW-Authenticate");
        let challenge = challenge.map(|value| value.to_str().unwrap().to_owned());
        Answer {
            status: answer.status().as_u16(),
            challenge,
            body: serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default(),
        }
    }

    /// Whether the token's verdict is this one: a reason code, or `accepted`, and then what the handler sees.
    async fn judges(&self, token: &str, verdict: &str, seen: &Value, what: &str) {
        let answer = self.call(token).await;
        if verdict == "accepted" {
            assert_eq!((answer.status, answer.challenge), (200, None), "{what}");
            assert_eq!(&answer.body, seen, "{what}");
        } else {
            self.is_refused(&answer, description(verdict), what);
        }
    }

    fn is_refused(&self, answer: &Answer, description: &str, what: &str) {
        let expected = format!("Bearer realm=\"api\", error=\"invalid_token\", error_description=\"{description}\"");
        let actual = answer.challenge.as_deref().unwrap_or_default();
        let actual = actual.split(", resource_metadata=").next().unwrap();
        assert_eq!((answer.status, actual), (401, &*expected), "{what}");
    }
}

/// What the caller is told for a reason code.
fn description(reason: &str) -> &'static str {
    match reason {
        "access_token_wrong_use" | "access_token_type" => "the token is not an access token",
        "access_token_unknown_use" => "the token does not show that it is an access token",
        "access_token_claim_missing" => "a claim of the token is missing or of the wrong type",
        "access_token_inactive" => "the token is not active",
        other => panic!("{other}"),
    }
}

/// What the log says of a token that a setting would let in, with the name of the setting.
fn words(reason: &str, table: &str) -> String {
    match reason {
        "access_token_unknown_use" => {
            format!("and `oidc.issuers.{table}.accepts` is \"access_tokens\"")
        }
        "access_token_wrong_use" => {
            "set `token_validation = \"introspection\"`; to accept its identity tokens, such as those of a CI \
             job or a workload, set `accepts = \"identity_tokens\"` for it"
                .to_owned()
        }
        "access_token_claim_missing" => "set `audience_claim = \"client_id\"`".to_owned(),
        other => panic!("{other}"),
    }
}

/// All but the one that is asked about each token.
fn judged_here(shapes: &Value) -> Vec<String> {
    let products = shapes.as_object().unwrap().keys().cloned();
    products.filter(|product| product != "Authentik").collect()
}

#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn tokens_of_every_product_at_one_api() {
    let issuers = Issuers::start(&[]);
    let products = judged_here(&issuers.shapes);
    let covered: BTreeSet<_> = RECIPES.iter().map(|recipe| recipe.product).collect();
    let all: BTreeSet<_> = issuers.shapes.as_object().unwrap().keys().collect();
    assert!(all.into_iter().eq(covered), "a recipe each");
    let tables: serde_json::Map<_, _> = products
        .iter()
        .filter(|product| *product != "Keycloak")
        .map(|product| issuers.table(product))
        .collect();
    assert_eq!(tables.len(), products.len() - 1, "a name each");
    let api = Api::with_issuers(&issuers, &json!(tables), "normal");

    let mut accepted = 0;
    for product in &products {
        let (_, table) = issuers.table(product);
        let aud = table["audience"][0].as_str().unwrap();
        for (name, token) in issuers.tokens(product) {
            let what = &format!("{product}, {name}");
            let verdict = token["by_recipe"].as_str().unwrap();
            let seen = &json!({ "iss": table["issuer"], "sub": token["claims"]["sub"] });
            let good = issuers.sign(product, name, aud, "").await;
            api.judges(&good, verdict, seen, what).await;
            if verdict != "accepted" {
                continue;
            }
            accepted += 1;
            // Once more, as it is cached.
            api.judges(&good, verdict, seen, what).await;
            let elsewhere = "https://other.example.com";
            let elsewhere = issuers.sign(product, name, elsewhere, "").await;
            let answer = api.call(&elsewhere).await;
            api.is_refused(&answer, "the token is meant for another API", what);
            let forged = issuers.sign(product, name, aud, "another").await;
            let answer = api.call(&forged).await;
            api.is_refused(&answer, "the signature of the token is wrong", what);
        }
    }
    assert_eq!(accepted, 33);
}

/// What fails closed says which setting is the way out.
#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn tokens_that_need_a_setting() {
    let products = [
        "Keycloak",
        "SPIFFE",
        "GitLab",
        "Google",
        "Cognito",
        "Auth0",
        "Authentik",
        "Dex",
    ];
    let issuers = Issuers::start(&products);
    let without = |product: &&str| {
        let (name, mut table) = issuers.table(product);
        for setting in ["accepts", "audience_claim"] {
            table.as_object_mut().unwrap().remove(setting);
        }
        (name, table)
    };
    let tables: serde_json::Map<_, _> = products[1..].iter().map(without).collect();
    let api = Api::with_issuers(&issuers, &json!(tables), "debug");

    let mut refused = 0;
    for product in &products[1..] {
        let (table, settings) = issuers.table(product);
        let aud = settings["audience"][0].as_str().unwrap();
        for (name, token) in issuers.tokens(product) {
            let Some(reason) = token["without"].as_str() else {
                continue;
            };
            refused += 1;
            let what = &format!("{product}, {name}");
            let token = issuers.sign(product, name, aud, "").await;
            let since = api.process.log().len();
            api.judges(&token, reason, &Value::Null, what).await;
            let words = words(reason, &table);
            assert!(
                api.process.has_logged_since(since, &words),
                "{what}: {words} is not in the log"
            );
        }
    }
    assert_eq!(refused, 11);
}

/// Introspection shows the scopes, and nothing of ID tokens.
#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn authentik_by_introspection() {
    let issuers = Issuers::start(&["Authentik"]);
    let settings = Recipe::of("Authentik").settings();
    assert_eq!(settings.token_validation, TokenValidation::Introspection);
    let (_, table) = issuers.table("Authentik");
    let api = Api::start(&[
        ("OIDC_ISSUER", table["issuer"].as_str().unwrap()),
        ("OIDC_TOKEN_VALIDATION", "introspection"),
    ]);
    for (name, token) in issuers.tokens("Authentik") {
        let verdict = token["by_recipe"].as_str().unwrap();
        let seen = &json!({ "iss": table["issuer"], "sub": token["claims"]["sub"] });
        let token = issuers.sign("Authentik", name, CLIENT_ID, "").await;
        api.judges(&token, verdict, seen, name).await;
        // What it says of a token for another client is no good here.
        if verdict == "accepted" {
            let token = issuers.sign("Authentik", name, "another-client", "").await;
            let answer = api.call(&token).await;
            api.is_refused(&answer, "the token is meant for another API", name);
        }
    }
}
