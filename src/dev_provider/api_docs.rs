//! A second client: the page of an app's API documentation, such as Swagger UI, which gets access tokens by itself.
//!
//! It runs in a browser and has no secret (RFC 8252 §8.4, RFC 9700 §2.1.1): PKCE protects its codes, and its redirect URI
//! is a page of the app.

use rocket::{
    Request, Response, Route,
    http::{Header, Status},
    options, routes,
};
use serde_json::json;
use url::Url;

use super::{
    DevClient, Op,
    answer::{Answer, refused},
    api_tokens,
    grants::{ACCESS_TOKEN_TTL, Grant},
};

/// The client id of the page.
pub(super) const API_DOCS: &str = "api-docs";

pub(super) fn routes() -> Vec<Route> {
    routes![preflight]
}

/// Whether this is a page of the app.
pub(super) fn is_page_of(client: &DevClient, redirect_uri: &str) -> bool {
    let url = Url::parse(redirect_uri);
    url.is_ok_and(|url| url.origin() == client.base_url.origin() && url.fragment().is_none())
}

/// An access token for the app's API, without an ID token or a refresh token.
pub(super) fn token(op: &Op, grant: &Grant, now: i64) -> Answer {
    let mut for_api = Grant::for_an_api(API_DOCS, grant.claims.clone(), &grant.request.scope, now);
    for_api.family.clone_from(&grant.family);
    match api_tokens::access_token(op, &for_api, now) {
        Some(token) => Answer::Json(
            Status::Ok,
            json!({
                "access_token": token,
                "token_type": "Bearer",
                "expires_in": ACCESS_TOKEN_TTL,
                "scope": grant.request.scope,
            }),
        ),
        None => refused("server_error", "the token could not be signed"),
    }
}

/// The request before one with `X-Requested-With`, which Swagger UI sends (CORS).
#[options("/token")]
fn preflight() -> Status {
    Status::NoContent
}

/// Lets pages of the app read responses: the metadata, and their own tokens.
pub(super) fn allow_app(request: &Request<'_>, response: &mut Response<'_>) {
    let Some(op) = request.rocket().state::<Op>() else {
        return;
    };
    response.adjoin_header(Header::new("Vary", "Origin"));
    let own = op.client.base_url.origin().ascii_serialization();
    let path = request.uri().path();
    let is_for_pages = path == "/token" || path == "/.well-known/openid-configuration";
    if is_for_pages && request.headers().get_one("Origin") == Some(&own) {
        response.set_raw_header("Access-Control-Allow-Origin", own);
        response.set_raw_header("Access-Control-Allow-Methods", "GET, POST");
        response.set_raw_header("Access-Control-Allow-Headers", "Content-Type, X-Requested-With");
    }
}
