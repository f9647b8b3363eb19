//! Access tokens for APIs, to try one with `curl`: by client credentials, and from a page.

use std::collections::HashMap;

use rocket::{Route, State, get, http::Status, post, routes};
use serde_json::{Map, Value, json};

use super::{
    Op,
    endpoints::{Answer, bad_request, parameters, refused},
    grants::{ACCESS_TOKEN_LIFE, Grant},
    pages,
    signing::random,
};

/// A client for the command line, whose secret everybody knows.
pub(super) const CLI: &str = "dev-cli";

pub(super) fn routes() -> Vec<Route> {
    routes![page, issue]
}

/// A JWT access token (RFC 9068) for the app's audience, which introspection knows too.
pub(super) fn access_token(op: &Op, grant: &Grant, now: i64) -> Option<String> {
    let mut claims = Map::from_iter(
        [
            ("iss", json!(op.issuer())),
            ("sub", json!(grant.claims.get("sub"))),
            ("aud", json!(op.client.audience)),
            ("client_id", json!(grant.client_id)),
            ("scope", json!(grant.request.scope)),
            ("iat", json!(now)),
            ("exp", json!(now + ACCESS_TOKEN_LIFE)),
            ("jti", json!(random("id"))),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    claims.extend(grant.token_claims.clone());
    let token = op.key().sign("at+jwt", &claims)?;
    op.grants.keep_access_token(&token, grant, now);
    Some(token)
}

/// The client credentials grant (RFC 6749 §4.4): a token for the client itself.
pub(super) fn by_client_credentials(
    op: &Op,
    client_id: &str,
    form: &HashMap<String, String>,
) -> Answer {
    let now = op.now();
    let scope = form.get("scope").map_or("", String::as_str);
    let claims = Map::from_iter([("sub".to_owned(), json!(client_id))]);
    let grant = Grant::for_an_api(client_id, claims, scope, now);
    match access_token(op, &grant, now) {
        Some(token) => Answer::Json(
            Status::Ok,
            json!({
                "access_token": token,
                "token_type": "Bearer",
                "expires_in": ACCESS_TOKEN_LIFE,
                "scope": scope,
            }),
        ),
        None => refused("server_error", "the token could not be signed"),
    }
}

/// A page to copy a token from.
#[get("/tokens")]
fn page(op: &State<Op>) -> Answer {
    Answer::Page(Status::Ok, pages::tokens(&op.users, &op.client.audience))
}

#[post("/tokens", data = "<form>")]
fn issue(op: &State<Op>, form: String) -> Answer {
    let form = parameters(&form);
    let user = form.get("user").map_or("", String::as_str);
    let scope = form.get("scope").map_or("", |scope| scope.trim());
    let Some(claims) = op
        .users
        .iter()
        .find(|claims| claims.get("sub").and_then(Value::as_str) == Some(user))
    else {
        return bad_request("That is no user of this provider.");
    };
    let now = op.now();
    let grant = Grant::for_an_api(CLI, claims.clone(), scope, now);
    match access_token(op, &grant, now) {
        Some(token) => Answer::Page(
            Status::Ok,
            pages::token(user, scope, &token, op.client.base_url.as_str()),
        ),
        None => bad_request("The token could not be signed."),
    }
}
