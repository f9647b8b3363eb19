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
/// The grant type and the token type of RFC 8693.
pub(super) const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

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
    if let Some(jkt) = &grant.jkt {
        claims.insert("cnf".to_owned(), json!({ "jkt": jkt }));
    }
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

/// The audience of tokens for the API that the app's client requests: one of its own, or any other by its absolute URI,
/// which this provider cannot know. `None` if none is requested.
pub(super) fn audience_of_target(client: &DevClient, target: Option<&String>) -> Result<Option<Vec<String>>, Answer> {
    let Some(target) = target else {
        return Ok(None);
    };
    let is_uri = || Url::parse(target).is_ok_and(|url| url.fragment().is_none());
    match audience_of(client, target) {
        Some(audience) => Ok(Some(audience)),
        None if is_uri() => Ok(Some(vec![target.clone()])),
        None => Err(refused(
            "invalid_target",
            "the API is neither the app's nor an absolute URI",
        )),
    }
}

/// The refresh grant for another API (RFC 8707 §2.2): a JWT for its audience, and the next refresh token.
pub(super) fn by_refresh_token(op: &Op, grant: Grant, audience: &[String], scope: &str, now: i64) -> Answer {
    let refresh_token = op.grants.issue_refresh_token(&grant);
    let scope = if scope.is_empty() {
        grant.request.scope.clone()
    } else {
        scope.to_owned()
    };
    let mut of_api = grant;
    of_api.request.scope.clone_from(&scope);
    of_api.token_claims.extend(for_audience(audience));
    match access_token(op, &of_api, now) {
        Some(token) => Answer::Json(
            Status::Ok,
            json!({
                "access_token": token,
                "token_type": of_api.token_type(),
                "expires_in": ACCESS_TOKEN_TTL,
                "refresh_token": refresh_token,
                "scope": scope,
            }),
        ),
        None => refused("server_error", "the token could not be signed"),
    }
}

/// Token exchange (RFC 8693): a token of the same user for another API.
pub(super) fn by_token_exchange(op: &Op, form: &HashMap<String, String>) -> Answer {
    let parameter = |name: &str| form.get(name).map_or("", String::as_str);
    let now = op.now();
    if parameter("subject_token_type") != ACCESS_TOKEN
        || !["", ACCESS_TOKEN].contains(&parameter("requested_token_type"))
    {
        return refused("invalid_request", "only access tokens are exchanged, for access tokens");
    }
    let Some((mut grant, expires_at)) = op.grants.access_token(parameter("subject_token"), now) else {
        return refused("invalid_request", "the subject token is unknown, expired or revoked");
    };
    let audience = match audience_of_target(&op.client, form.get("audience").or(form.get("resource"))) {
        Ok(Some(audience)) => audience,
        Ok(None) => return refused("invalid_request", "`audience` is missing"),
        Err(answer) => return answer,
    };
    let scope = parameter("scope").to_owned();
    grant.request.scope.clone_from(&scope);
    grant.client_id.clone_from(&op.client.client_id);
    grant.token_claims = for_audience(&audience);
    grant.jkt = None;
    let expires_in = ACCESS_TOKEN_TTL.min(expires_at - now);
    match access_token(op, &grant, now) {
        Some(token) => Answer::Json(
            Status::Ok,
            json!({
                "access_token": token,
                "issued_token_type": ACCESS_TOKEN,
                "token_type": "Bearer",
                "expires_in": expires_in,
                "scope": scope,
            }),
        ),
        None => refused("server_error", "the token could not be signed"),
    }
}

/// The claims that override the default audience of a token.
fn for_audience(audience: &[String]) -> Map<String, Value> {
    Map::from_iter([("aud".to_owned(), json!(audience))])
}

/// The client credentials grant (RFC 6749 §4.4): a token for the client itself.
pub(super) fn by_client_credentials(
    op: &Op,
    client_id: &str,
    form: &HashMap<String, String>,
    jkt: Option<String>,
) -> Answer {
    let now = op.now();
    let scope = form.get("scope").map_or("", String::as_str);
    let claims = Map::from_iter([("sub".to_owned(), json!(client_id))]);
    let mut grant = Grant::for_an_api(client_id, claims, scope, now);
    grant.jkt = jkt;
    // RFC 8707 §2: the requested API. The command line has tokens for those of the app alone.
    let audience = match form.get("resource") {
        Some(resource) if client_id == CLI => match audience_of(&op.client, resource) {
            Some(audience) => Some(audience),
            None => return refused("invalid_target", "the app has no API with this URL"),
        },
        resource => match audience_of_target(&op.client, resource) {
            Ok(audience) => audience,
            Err(answer) => return answer,
        },
    };
    if let Some(audience) = audience {
        grant.token_claims = for_audience(&audience);
    }
    match access_token(op, &grant, now) {
        Some(token) => Answer::Json(
            Status::Ok,
            json!({
                "access_token": token,
                "token_type": grant.token_type(),
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
