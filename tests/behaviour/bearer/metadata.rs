//! Protected resource metadata (RFC 9728) of resources that are not plain.

use rocket::{
    figment::Figment,
    get,
    http::{Header, Method},
    local::asynchronous::Client,
    routes,
    serde::json::{Value, json},
};
use rocket_openidconnect::{Bearer, Oidc};

use super::app::Api;
use crate::support::TestProvider;

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// Whatever the path of the resource, the challenge leads to the metadata.
#[rocket::async_test]
async fn the_metadata_is_where_the_challenge_says() {
    for (resource, path) in [
        ("https://api.example.com", ""),
        ("https://api.example.com/", ""),
        ("https://api.example.com/v1/notes", "/v1/notes"),
        ("https://api.example.com/v1/", "/v1/"),
        ("https://api.example.com:8443/a-b_c~d.e", "/a-b_c~d.e"),
    ] {
        let api = Api::with(json!({ "resource": resource })).await;
        let challenge = api.call_with("/whoami", &[]).await.challenge.unwrap();
        let (_, url) = challenge.split_once("resource_metadata=\"").unwrap();
        let url = url.trim_end_matches('"');
        assert!(url.ends_with(&format!("{WELL_KNOWN}{path}")), "{url}");
        let answer = api.call_with(&format!("{WELL_KNOWN}{path}"), &[]).await;
        assert_eq!(answer.status, 200, "{resource}");
        let metadata: Value = serde_json::from_str(&answer.body).unwrap();
        let origin = url.split("/.well-known").next().unwrap();
        assert_eq!(metadata["resource"], json!(format!("{origin}{path}")));
    }
}

/// Clients ask the provider for a token for the resource (RFC 8707), so that is in `aud`.
#[rocket::async_test]
async fn the_resource_is_the_audience_unless_that_is_set() {
    let accepted = async |audience: Value, resource: &str, aud: &str| {
        let api = Api::with(json!({ "audience": audience, "resource": resource })).await;
        let answer = api.whoami(|token| token.set("aud", aud)).await;
        let is_meant_for_another = answer.status == 401
            && (answer.challenge.as_ref()).is_some_and(|it| it.contains("the token is meant for another API"));
        assert!(answer.status == 200 || is_meant_for_another, "{answer:?}");
        answer.status == 200
    };
    let (mcp, root) = ("https://api.example.com/mcp", "https://api.example.com");
    assert!(accepted(json!(null), mcp, mcp).await);
    for other in ["client", root, "https://api.example.com/mcp/"] {
        assert!(!accepted(json!(null), mcp, other).await, "{other}");
    }
    // An empty path is spelled in two ways.
    assert!(accepted(json!(null), root, root).await);
    assert!(accepted(json!(null), root, "https://api.example.com/").await);
    assert!(!accepted(json!("notes-api"), mcp, mcp).await);
    assert!(accepted(json!("notes-api"), mcp, "notes-api").await);
}

/// An app in production that knows neither its base URL nor its resource publishes nothing.
#[rocket::async_test]
async fn a_resource_of_unknown_address_has_no_metadata() {
    #[get("/whoami")]
    fn whoami(_token: Bearer) {}

    let provider = TestProvider::start().await;
    let launch = async |more: Value| {
        let figment = Figment::from(rocket::Config::release_default())
            .merge(("log_level", "off"))
            .merge(("secret_key", crate::common::KEY))
            .merge((
                "oidc",
                json!({
                    "issuer": provider.issuer(), "client_id": "client",
                    "audience": TestProvider::API, "resource_server_only": true,
                }),
            ))
            .merge(("oidc", more));
        let rocket = rocket::custom(figment)
            .attach(Oidc::fairing())
            .mount("/", routes![whoami]);
        Client::untracked(rocket).await.unwrap()
    };
    let challenge = async |client: &Client| {
        let response = client.get("/whoami").dispatch().await;
        let challenge = response.headers().get_one("WWW-Authenticate");
        challenge.unwrap().to_owned()
    };
    let unknown = launch(json!({})).await;
    assert_eq!(challenge(&unknown).await, "Bearer realm=\"api\"");
    let response = unknown.get(WELL_KNOWN).dispatch().await;
    assert_eq!(response.status().code, 404);

    let known = launch(json!({ "base_url": "https://api.example.com" })).await;
    assert_eq!(
        challenge(&known).await,
        "Bearer realm=\"api\", resource_metadata=\"https://api.example.com/.well-known/oauth-protected-resource\""
    );
    let response = known.get(WELL_KNOWN).dispatch().await;
    let metadata: Value = serde_json::from_str(&response.into_string().await.unwrap()).unwrap();
    // No guard asks for a scope, so none is told.
    assert_eq!(
        metadata,
        json!({
            "resource": "https://api.example.com",
            "authorization_servers": [provider.issuer()],
            "bearer_methods_supported": ["header"],
        })
    );
}

/// Scripts of other origins read it, after they have asked whether they may
/// ([Fetch §3.3](https://fetch.spec.whatwg.org/#http-cors-protocol)).
#[rocket::async_test]
async fn the_metadata_is_for_scripts_of_any_origin() {
    let api = Api::with(json!({ "resource": "https://api.example.com/mcp" })).await;
    let at = format!("{WELL_KNOWN}/mcp");
    let origin = Header::new("Origin", "https://client.example");
    let response = api
        .client
        .options(&at)
        .header(origin.clone())
        .header(Header::new("Access-Control-Request-Method", "GET"))
        .header(Header::new("Access-Control-Request-Headers", "mcp-protocol-version"))
        .dispatch()
        .await;
    assert_eq!(response.status().code, 204);
    let header = |name| response.headers().get(name).collect::<Vec<_>>();
    assert_eq!(header("Access-Control-Allow-Origin"), ["*"]);
    assert_eq!(header("Access-Control-Allow-Methods"), ["GET, HEAD"]);
    assert_eq!(header("Access-Control-Allow-Headers"), ["*, Authorization, DPoP"]);
    assert_eq!(header("Access-Control-Max-Age"), ["7200"]);
    assert_eq!(header("Allow"), ["GET, HEAD, OPTIONS"]);
    assert_eq!(header("Access-Control-Allow-Credentials"), [""; 0]);
    assert_eq!(response.into_string().await.unwrap_or_default(), "");

    for method in [Method::Get, Method::Head] {
        let response = api.client.req(method, &at).header(origin.clone());
        let response = response.dispatch().await;
        assert_eq!(response.status().code, 200, "{method}");
        let allowed: Vec<_> = response.headers().get("Access-Control-Allow-Origin").collect();
        assert_eq!(allowed, ["*"], "{method}");
    }
    // Nothing is answered for other paths, nor where nothing is published.
    for (settings, path) in [
        (json!({}), format!("{WELL_KNOWN}/mcp")),
        (json!({ "resource_metadata": false }), WELL_KNOWN.to_owned()),
    ] {
        let api = Api::with(settings).await;
        let response = api.client.options(&path).dispatch().await;
        assert_eq!(response.status().code, 404, "{path}");
    }
}

/// It is read, and nothing else.
#[rocket::async_test]
async fn the_metadata_is_only_read() {
    let api = Api::open().await;
    for method in [Method::Post, Method::Put, Method::Delete] {
        let response = api.client.req(method, WELL_KNOWN).dispatch().await;
        assert_eq!(response.status().code, 404, "{method}");
    }
    let head = api.client.head(WELL_KNOWN).dispatch().await;
    assert_eq!(head.status().code, 200);
}
