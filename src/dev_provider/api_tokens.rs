//! Access tokens to try an API with `curl`: by the client credentials grant, and from a page.

use std::collections::HashMap;

use rocket::{Route, State, get, http::Status, post, routes};
use serde_json::{Map, Value, json};
use url::Url;

use super::{
    DevClient, Op,
    answer::{Answer, bad_request, parameters, refused},
    grants::{ACCESS_TOKEN_TTL, Grant},
    pages,
    signing::random,
};
use crate::settings::spellings;

/// The client id for the command line. Its secret is public.
pub(super) const CLI: &str = "dev-cli";

pub(super) fn routes() -> Vec<Route> {
    routes![page, issue]
}

/// A JWT access token (RFC 9068) for the app's audience, which introspection also accepts.
pub(super) fn access_token(op: &Op, grant: &Grant, now: i64) -> Option<String> {
    let mut claims = Map::from_iter(
        [
            ("iss", json!(op.issuer())),
            ("sub", json!(grant.claims.get("sub"))),
            ("aud", json!(op.client.audience)),
            ("client_id", json!(grant.client_id)),
            ("scope", json!(grant.request.scope)),
            ("iat", json!(now)),
            ("exp", json!(now + ACCESS_TOKEN_TTL)),
            ("jti", json!(random("id"))),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    claims.extend(grant.token_claims.clone());
    let token = op.key().private.sign("at+jwt", &claims)?;
    op.grants.add_access_token(&token, grant, now);
    Some(token)
}

/// The audience of tokens for the API that a client requests by its URL or by its audience.
fn audience_of(client: &DevClient, resource: &String) -> Option<Vec<String>> {
    let is_requested =
        |address: &Url, audience: &[String]| audience.contains(resource) || spellings(address).contains(resource);
    let address = client.resource.as_ref().unwrap_or(&client.base_url);
    if is_requested(address, &client.audience) {
        return Some(client.audience.clone());
    }
    let mut apis = client.apis.values();
    let api = apis.find(|api| is_requested(&api.resource, &api.access_token_audience()))?;
    Some(api.access_token_audience())
}

/// The claims that override the default audience of a token.
fn for_audience(audience: &[String]) -> Map<String, Value> {
    Map::from_iter([("aud".to_owned(), json!(audience))])
}

/// The client credentials grant (RFC 6749 §4.4): a token for the client itself.
pub(super) fn by_client_credentials(op: &Op, client_id: &str, form: &HashMap<String, String>) -> Answer {
    let now = op.now();
    let scope = form.get("scope").map_or("", String::as_str);
    let claims = Map::from_iter([("sub".to_owned(), json!(client_id))]);
    let mut grant = Grant::for_an_api(client_id, claims, scope, now);
    // RFC 8707 §2: the requested API.
    if let Some(resource) = form.get("resource") {
        let Some(audience) = audience_of(&op.client, resource) else {
            return refused("invalid_target", "the app has no API with this URL");
        };
        grant.token_claims = for_audience(&audience);
    }
    match access_token(op, &grant, now) {
        Some(token) => Answer::Json(
            Status::Ok,
            json!({
                "access_token": token,
                "token_type": "Bearer",
                "expires_in": ACCESS_TOKEN_TTL,
                "scope": scope,
            }),
        ),
        None => refused("server_error", "the token could not be signed"),
    }
}

/// The page that issues a token to copy.
#[get("/tokens")]
fn page(op: &State<Op>) -> Answer {
    let (audience, apis) = (&op.client.audience, op.client.apis.keys());
    Answer::Page(Status::Ok, pages::tokens(op.client.label(), &op.users, audience, apis))
}

#[post("/tokens", data = "<form>")]
fn issue(op: &State<Op>, form: String) -> Answer {
    let form = parameters(&form);
    let user = form.get("user").map_or("", String::as_str);
    let scope = form.get("scope").map_or("", |scope| scope.trim());
    let Some(claims) = op.user(user) else {
        return bad_request("This provider has no such user.");
    };
    let now = op.now();
    let mut grant = Grant::for_an_api(CLI, claims.clone(), scope, now);
    if let Some(api) = form.get("api").filter(|api| !api.is_empty()) {
        let Some(api) = op.client.apis.get(api) else {
            return bad_request("The app has no such API.");
        };
        grant.token_claims = for_audience(&api.access_token_audience());
    }
    match access_token(op, &grant, now) {
        Some(token) => Answer::Page(
            Status::Ok,
            pages::token(op.client.label(), user, scope, &token, op.client.base_url.as_str()),
        ),
        None => bad_request("The token could not be signed."),
    }
}
