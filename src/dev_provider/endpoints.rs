//! The development provider's endpoints. They are as strict as those of real providers, so that an app that works
//! here works there.

use std::collections::HashMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use rocket::{
    Request, Route, State, get,
    http::{Status, uri::Origin},
    post,
    request::{FromRequest, Outcome},
    routes,
};
use serde_json::{Map, Value, json};
use url::Url;

use super::{
    Op, Statement,
    answer::{Answer, bad_request, parameters, refused},
    api_docs::{self, API_DOCS},
    api_tokens,
    dpop::{self, Proofs, proved_key, refused_proof},
    grants::{ACCESS_TOKEN_TTL, AuthorizationRequest, Grant},
    pages,
    scoped_claims::{scopes_supported, visible_claims},
    signing::{at_hash, code_challenge, random},
};
use crate::secret::Secret;

pub(super) fn routes() -> Vec<Route> {
    let mut routes = routes![
        metadata,
        key_set,
        authorize,
        decide,
        token,
        user_info,
        user_info_post,
        introspect,
        revoke,
        end_session
    ];
    routes.extend(api_docs::routes());
    routes.extend(api_tokens::routes());
    routes
}

/// The `Authorization` header, or an empty string.
struct Authorization<'r>(&'r str);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Authorization<'r> {
    type Error = std::convert::Infallible;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Self::Error> {
        let header = request.headers().get_one("Authorization");
        Outcome::Success(Authorization(header.unwrap_or_default()))
    }
}

/// The original query of a request, cached in it.
#[derive(Default)]
struct Query(HashMap<String, String>);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for &'r Query {
    type Error = std::convert::Infallible;

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, Self::Error> {
        Outcome::Success(request.local_cache(Query::default))
    }
}

/// Removes the query, with `state`, `nonce` and the like, from Rocket's log, as the fairing does for the callback.
pub(super) fn hide_query(request: &mut Request<'_>) {
    let query = request.uri().query().map(|query| parameters(query.as_str()));
    let bare = Origin::parse_owned(request.uri().path().to_string());
    if let (Some(query), Ok(bare)) = (query, bare) {
        request.local_cache(|| Query(query));
        request.set_uri(bare);
    }
}

/// OpenID Connect Discovery 1.0 §4.
#[get("/.well-known/openid-configuration")]
fn metadata(op: &State<Op>) -> Answer {
    let at = |path: &str| format!("{}{path}", op.issuer());
    let methods = ["client_secret_basic", "client_secret_post"];
    // Without a secret: the client of `api_docs`.
    let token_methods = ["client_secret_basic", "client_secret_post", "none"];
    Answer::Json(
        Status::Ok,
        json!({
            "issuer": op.issuer(),
            "authorization_endpoint": at("/authorize"),
            "token_endpoint": at("/token"),
            "userinfo_endpoint": at("/userinfo"),
            "jwks_uri": at("/jwks"),
            "introspection_endpoint": at("/introspect"),
            "revocation_endpoint": at("/revoke"),
            "end_session_endpoint": at("/end_session"),
            "scopes_supported": scopes_supported(),
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": [
                "authorization_code", "refresh_token", "client_credentials", api_tokens::TOKEN_EXCHANGE
            ],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": token_methods,
            "introspection_endpoint_auth_methods_supported": methods,
            "revocation_endpoint_auth_methods_supported": methods,
            "code_challenge_methods_supported": ["S256"],
            "dpop_signing_alg_values_supported": dpop::ALGORITHMS,
            "authorization_response_iss_parameter_supported": true,
        }),
    )
}

#[get("/jwks")]
fn key_set(op: &State<Op>) -> Answer {
    Answer::Json(Status::Ok, op.key().key_set.clone())
}

/// The authorization endpoint (OpenID Connect Core 1.0 §3.1.2): a page to choose a user.
#[get("/authorize")]
fn authorize(op: &State<Op>, query: &Query) -> Answer {
    match authorization_request(op, &query.0) {
        Ok(request) => {
            let scope = request.scope.clone();
            let id = op.grants.add_request(request);
            Answer::Page(
                Status::Ok,
                pages::choose_user(op.client.label(), &id, &scope, &op.users),
            )
        }
        Err(answer) => answer,
    }
}

/// Validates an authorization request.
pub(super) fn authorization_request(op: &Op, query: &HashMap<String, String>) -> Result<AuthorizationRequest, Answer> {
    let parameter = |name: &str| query.get(name).map_or("", String::as_str);

    // No redirect before the client and the redirect URI are validated.
    let is_api_docs = parameter("client_id") == API_DOCS;
    let redirect_uri = parameter("redirect_uri");
    if is_api_docs {
        if !api_docs::is_page_of(&op.client, redirect_uri) {
            let text = format!("The `redirect_uri` is not a page of `{}`.", op.client.base_url);
            return Err(Answer::BadRequest(text));
        }
    } else if parameter("client_id") != op.client.client_id {
        return Err(bad_request(
            "The `client_id` is not that of the app that started this provider.",
        ));
    } else if redirect_uri != op.client.redirect_uri {
        let text = format!(
            "The `redirect_uri` is not `{}`, which the app registered.",
            op.client.redirect_uri
        );
        return Err(Answer::BadRequest(text));
    }

    let wrong = if parameter("response_type") != "code" {
        Some(("unsupported_response_type", "only `code` is supported"))
    } else if !is_api_docs && !parameter("scope").split(' ').any(|scope| scope == "openid") {
        Some(("invalid_scope", "`scope` lacks `openid`"))
    } else if parameter("state").is_empty() {
        Some(("invalid_request", "`state` is missing"))
    } else if !is_api_docs && parameter("nonce").is_empty() {
        Some(("invalid_request", "`nonce` is missing"))
    } else if parameter("code_challenge").len() != 43 || parameter("code_challenge_method") != "S256" {
        Some(("invalid_request", "`code_challenge` with the method S256 is missing"))
    } else if parameter("prompt") == "none" {
        Some(("login_required", "no user is signed in here"))
    } else {
        None
    };
    if let Some((error, description)) = wrong {
        return Err(refuse(op, redirect_uri, parameter("state"), error, description));
    }
    Ok(AuthorizationRequest {
        client_id: parameter("client_id").to_owned(),
        redirect_uri: redirect_uri.to_owned(),
        state: parameter("state").to_owned(),
        nonce: parameter("nonce").to_owned(),
        scope: parameter("scope").to_owned(),
        code_challenge: parameter("code_challenge").to_owned(),
        acr: parameter("acr_values").split_whitespace().next().map(str::to_owned),
        dpop_jkt: parameter("dpop_jkt").to_owned(),
    })
}

/// The form of the page: a listed user, custom claims, or a denial.
#[post("/authorize", data = "<form>")]
fn decide(op: &State<Op>, form: String) -> Answer {
    let form = parameters(&form);
    let Some(request) = form.get("request").and_then(|id| op.grants.request(id)) else {
        return bad_request("This page has expired. Go back to the app and sign in again.");
    };
    if form.contains_key("cancel") {
        let (uri, state) = (&request.redirect_uri, &request.state);
        return refuse(op, uri, state, "access_denied", "cancelled on the page");
    }
    let claims = match (form.get("user"), form.get("claims")) {
        (Some(sub), _) => op.user(sub).cloned(),
        (None, Some(claims)) => serde_json::from_str(claims).ok(),
        (None, None) => None,
    };
    sign_in(op, request, claims)
}

/// Signs in a user with these claims.
pub(super) fn sign_in(op: &Op, request: AuthorizationRequest, claims: Option<Map<String, Value>>) -> Answer {
    let has_sub = |claims: &Map<String, Value>| {
        let sub = claims.get("sub").and_then(Value::as_str);
        sub.is_some_and(|sub| !sub.is_empty())
    };
    match claims.filter(has_sub) {
        Some(claims) => {
            let (uri, state) = (request.redirect_uri.clone(), request.state.clone());
            let code = op.grants.new_code(request, claims, op.now());
            back(op, &uri, &state, &[("code", &code)])
        }
        None => bad_request("Choose a user of this provider, or enter a JSON object with a `sub`."),
    }
}

/// Redirects the browser to the app with an error (RFC 6749 §4.1.2.1).
fn refuse(op: &Op, redirect_uri: &str, state: &str, error: &str, description: &str) -> Answer {
    back(
        op,
        redirect_uri,
        state,
        &[("error", error), ("error_description", description)],
    )
}

/// Redirects the browser to the app (RFC 6749 §4.1.2), with `iss` (RFC 9207).
fn back(op: &Op, redirect_uri: &str, state: &str, parameters: &[(&str, &str)]) -> Answer {
    let Ok(mut url) = Url::parse(redirect_uri) else {
        return bad_request("The app's redirect URI is not a URL.");
    };
    let mut query = url.query_pairs_mut();
    query.extend_pairs(parameters).append_pair("iss", op.issuer());
    if !state.is_empty() {
        query.append_pair("state", state);
    }
    drop(query);
    Answer::Redirect(url)
}

/// The client at the token endpoint: as [`authenticate`], or the one without a secret.
fn client_of(op: &Op, authorization: &str, form: &HashMap<String, String>) -> Result<String, Answer> {
    let has_secret = form.get("client_secret").is_some_and(|secret| !secret.is_empty());
    let is_api_docs = form.get("client_id").is_some_and(|id| id == API_DOCS);
    if is_api_docs && !has_secret && authorization.is_empty() {
        return Ok(API_DOCS.to_owned());
    }
    authenticate(op, authorization, form)
}

/// The authenticated client, by either method (RFC 6749 §2.3.1): the app, or the command line.
fn authenticate(op: &Op, authorization: &str, form: &HashMap<String, String>) -> Result<String, Answer> {
    let decoded = |text: &str| parameters(&format!("x={text}")).remove("x").unwrap_or_default();
    let by_header = authorization
        .strip_prefix("Basic ")
        .and_then(|text| STANDARD.decode(text).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|text| text.split_once(':').map(|(id, secret)| (decoded(id), decoded(secret))));
    let by_form = form
        .get("client_secret")
        .map(|secret| (form.get("client_id").cloned().unwrap_or_default(), secret.clone()));

    let is_right = |(id, secret): &(String, String)| {
        (*id == op.client.client_id && Secret::new(secret.as_str()) == op.client.client_secret)
            || (id == api_tokens::CLI && secret == api_tokens::CLI)
    };
    match (by_header, by_form) {
        (Some(_), Some(_)) => Err(refused("invalid_request", "the client uses two authentication methods")),
        (Some(given), None) | (None, Some(given)) if is_right(&given) => Ok(given.0),
        _ => Err(Answer::Challenge(
            "Basic realm=\"development provider\"",
            json!({ "error": "invalid_client", "error_description": "wrong client id or secret" }),
        )),
    }
}

/// The token endpoint (OpenID Connect Core 1.0 §3.1.3, §12).
#[post("/token", data = "<form>")]
fn token(op: &State<Op>, authorization: Authorization<'_>, proofs: Proofs<'_>, form: String) -> Answer {
    let form = parameters(&form);
    let client_id = match client_of(op, authorization.0, &form) {
        Ok(client_id) => client_id,
        Err(answer) => return answer,
    };
    // Before the grant: a refused proof uses no code and no refresh token.
    let jkt = match proved_key(op, &proofs, ("POST", "/token"), None) {
        Ok(jkt) => jkt,
        Err(error) => return refused_proof(&error),
    };
    let parameter = |name: &str| form.get(name).map_or("", String::as_str);
    let now = op.now();
    match parameter("grant_type") {
        "authorization_code" if client_id == API_DOCS => match redeem_code(op, &client_id, &form, jkt, now) {
            Ok(grant) => api_docs::token(op, &grant, now),
            Err(answer) => answer,
        },
        _ if client_id == API_DOCS => refused("unauthorized_client", "this client may use authorization_code only"),
        "client_credentials" => api_tokens::by_client_credentials(op, &client_id, &form, jkt),
        _ if client_id != op.client.client_id => refused(
            "unauthorized_client",
            "the command line may use client_credentials only",
        ),
        "authorization_code" => match redeem_code(op, &client_id, &form, jkt, now) {
            Ok(grant) => tokens(op, &grant, Some(&grant.request.nonce), now),
            Err(answer) => answer,
        },
        "refresh_token" => refresh(op, &form, jkt.as_deref(), now),
        api_tokens::TOKEN_EXCHANGE => api_tokens::by_token_exchange(op, &form),
        _ => refused(
            "unsupported_grant_type",
            "expected authorization_code, refresh_token, client_credentials or token-exchange",
        ),
    }
}

/// The refresh grant (OpenID Connect Core 1.0 §12), with `resource` for another API (RFC 8707 §2.2). What is requested is
/// checked first: a request for an unknown API or scope does not use the refresh token.
fn refresh(op: &Op, form: &HashMap<String, String>, jkt: Option<&str>, now: i64) -> Answer {
    let parameter = |name: &str| form.get(name).map_or("", String::as_str);
    let (token, scope) = (parameter("refresh_token"), parameter("scope"));
    let audience = match api_tokens::audience_of_target(&op.client, form.get("resource")) {
        Ok(audience) => audience,
        Err(answer) => return answer,
    };
    let grant = op.grants.refresh_grant(token);
    let bound_to = grant.as_ref().and_then(|grant| grant.jkt.as_deref());
    if bound_to.is_some() && bound_to != jkt {
        return refused("invalid_grant", "the refresh token is bound to another key");
    }
    let granted = grant.map(|grant| grant.request.scope);
    let is_granted = |word: &str| {
        granted
            .as_ref()
            .is_none_or(|granted| granted.split(' ').any(|own| own == word))
    };
    if scope.split_whitespace().any(|word| !is_granted(word)) {
        return refused("invalid_scope", "a scope is not one of the sign-in");
    }
    match (op.grants.use_refresh_token(token, now), audience) {
        (Some(grant), Some(audience)) => api_tokens::by_refresh_token(op, grant, &audience, scope, now),
        (Some(grant), None) => tokens(op, &grant, None, now),
        (None, _) => refused("invalid_grant", "the refresh token is unknown, used or revoked"),
    }
}

/// Redeems a code of this client (OpenID Connect Core 1.0 §3.1.3.2, RFC 7636 §4.6).
fn redeem_code(
    op: &Op,
    client_id: &str,
    form: &HashMap<String, String>,
    jkt: Option<String>,
    now: i64,
) -> Result<Grant, Answer> {
    let parameter = |name: &str| form.get(name).map_or("", String::as_str);
    let invalid = |description: &str| Err(refused("invalid_grant", description));
    let Some(mut grant) = op.grants.use_code(parameter("code"), now) else {
        return invalid("the code is unknown, used or expired");
    };
    if grant.client_id != client_id {
        return invalid("the code is another client's");
    }
    if parameter("redirect_uri") != grant.request.redirect_uri {
        return invalid("`redirect_uri` is not that of the authorization request");
    }
    if code_challenge(parameter("code_verifier")) != grant.request.code_challenge {
        return invalid("`code_verifier` does not match `code_challenge`");
    }
    let named = &grant.request.dpop_jkt;
    if !named.is_empty() && jkt.as_ref() != Some(named) {
        return invalid("the proof is not by the key of `dpop_jkt`");
    }
    grant.jkt = jkt;
    Ok(grant)
}

/// Issues tokens for a grant. The ID token includes the user's claims, so that an app without UserInfo has a profile.
fn tokens(op: &Op, grant: &Grant, nonce: Option<&str>, now: i64) -> Answer {
    let (access_token, refresh_token) = op.grants.issue(grant, now);
    let mut claims = visible_claims(op, grant);
    claims.extend(
        [
            ("iss", json!(op.issuer())),
            ("aud", json!(op.client.client_id)),
            ("iat", json!(now)),
            ("exp", json!(now + ACCESS_TOKEN_TTL)),
            ("auth_time", json!(grant.auth_time)),
            ("sid", json!(grant.family)),
            ("jti", json!(random("id"))),
            ("at_hash", json!(at_hash(&access_token))),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    if let Some(acr) = &grant.request.acr {
        claims.insert("acr".into(), json!(acr));
    }
    if let Some(nonce) = nonce {
        claims.insert("nonce".into(), json!(nonce));
    }
    let statement = match nonce {
        Some(_) => Statement::IdToken,
        None => Statement::RefreshedIdToken,
    };
    (op.claims_hook)(statement, &mut claims);
    let Some(id_token) = op.key().private.sign("JWT", &claims) else {
        return Answer::Json(Status::InternalServerError, json!({ "error": "server_error" }));
    };
    Answer::Json(
        Status::Ok,
        json!({
            "access_token": access_token,
            "token_type": grant.token_type(),
            "expires_in": ACCESS_TOKEN_TTL,
            "refresh_token": refresh_token,
            "id_token": id_token,
            "scope": grant.request.scope,
        }),
    )
}

/// The UserInfo endpoint (OpenID Connect Core 1.0 §5.3).
#[get("/userinfo")]
fn user_info(op: &State<Op>, authorization: Authorization<'_>, proofs: Proofs<'_>) -> Answer {
    claims_about_user(op, "GET", authorization.0, &proofs)
}

#[post("/userinfo")]
fn user_info_post(op: &State<Op>, authorization: Authorization<'_>, proofs: Proofs<'_>) -> Answer {
    claims_about_user(op, "POST", authorization.0, &proofs)
}

/// The claims for an access token; for a bound one, with a proof of its key (RFC 9449 §7.1).
fn claims_about_user(op: &Op, method: &str, authorization: &str, proofs: &Proofs<'_>) -> Answer {
    let (scheme, token) = authorization.split_once(' ').unwrap_or_default();
    let is_dpop = scheme.eq_ignore_ascii_case("dpop");
    let proved = if is_dpop {
        match proved_key(op, proofs, (method, "/userinfo"), Some(token)) {
            Ok(proved) => proved,
            Err(error) => return dpop::challenge(&error),
        }
    } else {
        None
    };
    let known = op.grants.access_token(token, op.now());
    let is_of_scheme = is_dpop || scheme.eq_ignore_ascii_case("bearer");
    match known.filter(|(grant, _)| is_of_scheme && grant.jkt == proved && grant.jkt.is_some() == is_dpop) {
        Some((grant, _)) => {
            let mut claims = visible_claims(op, &grant);
            (op.claims_hook)(Statement::UserInfo, &mut claims);
            Answer::Json(Status::Ok, Value::Object(claims))
        }
        None => Answer::Challenge(
            "Bearer realm=\"development provider\", error=\"invalid_token\"",
            json!({ "error": "invalid_token" }),
        ),
    }
}

/// The introspection endpoint (RFC 7662).
#[post("/introspect", data = "<form>")]
fn introspect(op: &State<Op>, authorization: Authorization<'_>, form: String) -> Answer {
    let form = parameters(&form);
    if let Err(answer) = authenticate(op, authorization.0, &form) {
        return answer;
    }
    let token = form.get("token").map_or("", String::as_str);
    let body = match op.grants.access_token(token, op.now()) {
        Some((grant, expires_at)) => {
            let body = json!({
                "active": true,
                "iss": op.issuer(),
                "sub": grant.claims.get("sub"),
                "aud": op.client.audience,
                "client_id": grant.client_id,
                "scope": grant.request.scope,
                "exp": expires_at,
                "token_type": grant.token_type(),
            });
            let mut body = body.as_object().cloned().unwrap_or_default();
            if let Some(jkt) = &grant.jkt {
                body.insert("cnf".into(), json!({ "jkt": jkt }));
            }
            body.extend(grant.token_claims);
            Value::Object(body)
        }
        None => json!({ "active": false }),
    };
    Answer::Json(Status::Ok, body)
}

/// The revocation endpoint (RFC 7009).
#[post("/revoke", data = "<form>")]
fn revoke(op: &State<Op>, authorization: Authorization<'_>, form: String) -> Answer {
    let form = parameters(&form);
    if let Err(answer) = authenticate(op, authorization.0, &form) {
        return answer;
    }
    op.grants.revoke(form.get("token").map_or("", String::as_str));
    Answer::Json(Status::Ok, json!({}))
}

/// The end-session endpoint (OpenID Connect RP-Initiated Logout 1.0). This provider has no session to end.
#[get("/end_session")]
fn end_session(op: &State<Op>, query: &Query) -> Answer {
    let signed_out = || {
        let page = pages::message(
            op.client.label(),
            "Signed out",
            "The development provider keeps no session.",
        );
        Answer::Page(Status::Ok, page)
    };
    let Some(target) = query.0.get("post_logout_redirect_uri") else {
        return signed_out();
    };
    match Url::parse(target) {
        Ok(mut url) if url.origin() == op.client.base_url.origin() => {
            if let Some(state) = query.0.get("state") {
                url.query_pairs_mut().append_pair("state", state);
            }
            Answer::Redirect(url)
        }
        _ => bad_request("The `post_logout_redirect_uri` is not a URL of the app."),
    }
}
