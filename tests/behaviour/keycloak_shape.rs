//! Token replies in the shape of Keycloak's: JWTs for all three tokens, with its claims and their lengths.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::{
    numbers::Numbers,
    support::{JwtParts, SigningKey, TestProvider, keys::base64url},
};

/// Lengths of the three tokens, in characters.
#[derive(Clone, Copy, Debug)]
pub struct Lengths {
    pub access_token: usize,
    pub refresh_token: usize,
    pub id_token: usize,
}

/// What makes one person's tokens larger than another's.
#[derive(Clone, Default)]
pub struct Person {
    /// Realm roles beside the usual ones, in the access token.
    pub roles: Vec<String>,
    /// Groups, in the ID token and in UserInfo.
    pub groups: Vec<String>,
}

/// So many names of roles as generators make them, of 25 characters.
pub fn random_roles(count: usize) -> Vec<String> {
    let mut numbers = Numbers::seeded(300);
    (0..count).map(|_| format!("app-role-{}", numbers.hex(16))).collect()
}

/// So many paths of groups, of 17 characters: with quotes and comma 20 bytes of claims.
pub fn groups(count: usize) -> Vec<String> {
    let mut numbers = Numbers::seeded(600);
    let places = ["berlin", "london", "madrid", "vienna"];
    (0..count)
        .map(|_| format!("/{}/team-{}", numbers.one_of(&places), numbers.hex(4)))
        .collect()
}

/// Lets the provider answer sign-ins as Keycloak does, and tells how long the tokens are.
pub fn answer(provider: &TestProvider, person: &Person) -> Lengths {
    let mut user_info = json!({
        "sub": SUB, "email_verified": true, "name": "Alice Liddell",
        "preferred_username": "alice", "given_name": "Alice", "family_name": "Liddell",
        "email": "alice@example.com",
    });
    if !person.groups.is_empty() {
        user_info["groups"] = json!(person.groups);
    }
    provider.user_claims(user_info);

    provider.on_jwks(|reply| {
        reply.edit(|jwks| jwks["keys"][0]["kid"] = json!(KID));
    });
    let shell = provider.clone();
    let person_there = person.clone();
    provider.on_token_response(move |reply| {
        let mut body: Value = serde_json::from_slice(&reply.body).expect("a token reply");
        let Some(honest) = body["id_token"].as_str().map(payload) else {
            return;
        };
        let tokens = tokens(&shell, &person_there, &honest);
        shell.know_refresh_token(&tokens.refresh_token);
        body["access_token"] = json!(tokens.access_token);
        body["refresh_token"] = json!(tokens.refresh_token);
        body["id_token"] = json!(tokens.id_token);
        body["refresh_expires_in"] = json!(1800);
        body["not-before-policy"] = json!(0);
        body["session_state"] = honest["sid"].clone();
        body["scope"] = json!("openid profile email");
        reply.body = body.to_string().into_bytes();
    });
    let example = json!({
        "iss": provider.issuer(), "aud": "app", "exp": provider.now() + 300, "iat": provider.now(),
        "auth_time": provider.now(), "nonce": "n".repeat(43), "sid": "sid-1", "sub": SUB,
    });
    let tokens = tokens(provider, person, &example);
    Lengths {
        access_token: tokens.access_token.len(),
        refresh_token: tokens.refresh_token.len(),
        id_token: tokens.id_token.len(),
    }
}

const SUB: &str = "4f1c0f1a-7f6d-4a53-9c0e-0d0c1f3a9b77";
const KID: &str = "Qm0lU1cK2v3bXo8eR5tY7uI9oP1aS3dF5gH7jK9lZ2x";

struct Tokens {
    access_token: String,
    refresh_token: String,
    id_token: String,
}

/// The claims of the honest ID token decide about time, audience and nonce.
fn tokens(provider: &TestProvider, person: &Person, honest: &Value) -> Tokens {
    let mut numbers = Numbers::seeded(267);
    let (iat, exp) = (&honest["iat"], &honest["exp"]);
    let (iss, client, sid) = (&honest["iss"], &honest["aud"], &honest["sid"]);
    let mut roles = vec![
        "default-roles-example".to_owned(),
        "offline_access".to_owned(),
        "uma_authorization".to_owned(),
        "reports-reader".to_owned(),
        "timesheets-editor".to_owned(),
    ];
    roles.extend(person.roles.clone());

    let access_claims = json!({
        "exp": exp, "iat": iat, "auth_time": honest["auth_time"],
        "jti": format!("onrtac:{}", numbers.uuid()), "iss": iss, "aud": "account", "sub": SUB,
        "typ": "Bearer", "azp": client, "sid": numbers.uuid(), "acr": "1",
        "allowed-origins": ["https://app.example.com", "http://localhost:8000"],
        "realm_access": { "roles": roles },
        "resource_access": {
            "account": { "roles": ["manage-account", "manage-account-links", "view-profile"] },
        },
        "scope": "openid profile email", "email_verified": true, "name": "Alice Liddell",
        "preferred_username": "alice", "given_name": "Alice", "family_name": "Liddell",
        "email": "alice@example.com",
    });
    // Known to UserInfo as the provider's other access tokens are.
    let access_token = provider.access_token("openid profile email", |parts| {
        let Value::Object(claims) = access_claims else {
            unreachable!("written as an object above")
        };
        parts.claims = claims;
        parts.set_header("typ", "JWT");
        parts.set_header("kid", KID);
    });

    let refresh_claims = json!({
        "exp": iat.as_i64().unwrap_or_default() + 1800, "iat": iat, "jti": numbers.uuid(),
        "iss": iss, "aud": iss, "sub": SUB, "typ": "Refresh", "azp": client,
        "sid": numbers.uuid(),
        "scope": "openid web-origins roles profile email acr basic service_account",
        "reuse_id": numbers.uuid(), "nonce": numbers.text(43),
    });
    let header = json!({ "alg": "HS512", "typ": "JWT", "kid": numbers.uuid() });
    let mut signature = [0; 64];
    signature.fill_with(|| numbers.next().to_le_bytes()[0]);
    let refresh_token = [
        base64url(header.to_string()),
        base64url(refresh_claims.to_string()),
        base64url(signature),
    ]
    .join(".");

    let id_claims = json!({
        "exp": exp, "iat": iat, "auth_time": honest["auth_time"], "jti": numbers.uuid(),
        "iss": iss, "aud": client, "sub": SUB, "typ": "ID", "azp": client, "sid": sid,
        "acr": "1", "email_verified": true, "name": "Alice Liddell",
        "preferred_username": "alice", "given_name": "Alice", "family_name": "Liddell",
        "email": "alice@example.com",
    });
    let mut id_token = JwtParts::new(id_claims, SigningKey::Rsa);
    id_token.set_header("typ", "JWT");
    id_token.set_header("kid", KID);
    if let Some(nonce) = honest.get("nonce") {
        id_token.set("nonce", nonce.clone());
    }
    if !person.groups.is_empty() {
        id_token.set("groups", person.groups.clone());
    }
    id_token.bind_access_token(&access_token);
    Tokens {
        access_token,
        refresh_token,
        id_token: id_token.compact(),
    }
}

/// The claims of a JWT.
fn payload(jwt: &str) -> Value {
    let payload = jwt.split('.').nth(1).expect("a JWT");
    let payload = URL_SAFE_NO_PAD.decode(payload).expect("base64url");
    serde_json::from_slice(&payload).expect("claims")
}
