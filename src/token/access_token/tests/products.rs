//! What real products sign, kind by kind, and which of it opens an API. The shapes are those of their documentation and
//! source; the values are made up. Each token has `iss`, `iat` and `exp` too, and a good signature.

use super::*;
use crate::token::{Accepts, AudienceClaim};

const ACCEPTED: &str = "accepted";
const TYPE: &str = "access_token_type";
const ANOTHER_USE: &str = "access_token_of_another_use";
const UNKNOWN_USE: &str = "access_token_of_unknown_use";
const BOUND: &str = "access_token_bound";
const AUDIENCE: &str = "access_token_aud";
const MISSING: &str = "access_token_claim_missing";

/// How an API is set up for an issuer.
struct Setting {
    audience: &'static str,
    client_id: &'static str,
    accepts: Accepts,
    signs_nobody_in: bool,
    audience_claim: AudienceClaim,
    require_at_jwt: bool,
}

/// The API has an audience of its own.
const API_ONLY: Setting = Setting {
    audience: API,
    client_id: "app",
    accepts: Accepts::AccessTokens,
    signs_nobody_in: false,
    audience_claim: AudienceClaim::Aud,
    require_at_jwt: false,
};
/// No audience is set: it is our client id.
const OWN_CLIENT_ID: Setting = Setting {
    audience: "app",
    ..API_ONLY
};
/// The audience is the id of another client, as a project of several clients may have it.
const OTHER_CLIENT_ID: Setting = Setting {
    audience: "spa",
    ..API_ONLY
};
const NOWHERE_TO_SIGN_IN: Setting = Setting {
    signs_nobody_in: true,
    ..API_ONLY
};
const IDENTITY: Setting = Setting {
    accepts: Accepts::IdentityTokens,
    ..API_ONLY
};
const UNTYPED: Setting = Setting {
    accepts: Accepts::UntypedTokens,
    ..API_ONLY
};

fn verdict(setting: &Setting, typ: Option<&str>, mut claims: Value) -> &'static str {
    for (name, value) in [
        ("iss", json!("https://op.example")),
        ("iat", json!(NOW)),
        ("exp", json!(NOW + 300)),
    ] {
        claims[name] = value;
    }
    let expected = AccessTokenExpectations {
        audience: vec![setting.audience.into()],
        client_id: setting.client_id.into(),
        accepts: setting.accepts,
        audience_claim: setting.audience_claim,
        require_at_jwt: setting.require_at_jwt,
        ..expected()
    };
    let mut header = header(ES256);
    if let Some(typ) = typ {
        header["typ"] = typ.into();
    }
    let token = sign(ES256, &header, &claims);
    let algorithms = AllowedAlgorithms::only(&[ES256]);
    let judged = UnverifiedAccessToken::parse(&token).and_then(|unverified| {
        let nobody = setting.signs_nobody_in;
        let checked = unverified.check(&expected, algorithms, nobody, now())?;
        let verified = unverified.check_signature(&key_set(), algorithms, &expected)?;
        let accepted = unverified.accept(checked, verified, &expected)?;
        // The cache comes to the same.
        accepted.check_again(&expected, nobody, now())
    });
    match judged {
        Ok(()) => ACCEPTED,
        Err(error) => error.reason(),
    }
}

#[track_caller]
fn table(cases: Vec<(&str, &Setting, Option<&str>, Value, &str)>) {
    let mut wrong = vec![];
    for (name, setting, typ, claims, expected) in cases {
        let found = verdict(setting, typ, claims);
        if found != expected {
            wrong.push(format!("{name}: {found}, expected {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

const JWT: Option<&str> = Some("JWT");

#[test]
fn of_jobs_and_workloads() {
    let github = || {
        json!({
            "jti": "1", "sub": "repo:octo/app:ref:refs/heads/main", "aud": API, "ref": "refs/heads/main",
            "sha": "e1", "repository": "octo/app", "actor": "octocat", "workflow": "ci", "nbf": NOW,
            "event_name": "push", "runner_environment": "github-hosted",
        })
    };
    let kubernetes = || {
        json!({
            "aud": [API], "jti": "2", "nbf": NOW, "sub": "system:serviceaccount:shop:cart",
            "kubernetes.io": {"namespace": "shop", "serviceaccount": {"name": "cart", "uid": "3"}},
        })
    };
    let firebase = || {
        json!({
            "aud": API, "auth_time": NOW, "user_id": "4", "sub": "4", "email": "a@example.com",
            "email_verified": true,
            "firebase": {"identities": {"email": ["a@example.com"]}, "sign_in_provider": "password"},
        })
    };
    let spiffe = || json!({"sub": "spiffe://example.org/cart", "aud": [API]});
    let gitlab = || {
        json!({
            "namespace_id": "72", "namespace_path": "group", "project_id": "20", "project_path": "group/app",
            "user_id": "1", "user_login": "sam", "user_email": "sam@example.com", "pipeline_id": "574",
            "pipeline_source": "web", "job_id": "302", "ref": "main", "ref_type": "branch", "jti": "5",
            "nbf": NOW, "sub": "project_path:group/app:ref_type:branch:ref:main", "aud": API,
        })
    };
    let google = || {
        json!({
            "azp": "1123", "aud": API, "sub": "1123", "email": "cart@example.iam.gserviceaccount.com",
            "email_verified": true,
        })
    };
    let google_person = || {
        json!({
            "azp": "spa", "aud": API, "sub": "7", "hd": "example.com", "email": "a@example.com",
            "email_verified": true, "at_hash": "x", "nonce": "y",
        })
    };
    table(vec![
        (
            "GitHub Actions",
            &NOWHERE_TO_SIGN_IN,
            JWT,
            github(),
            ACCEPTED,
        ),
        (
            "Kubernetes",
            &NOWHERE_TO_SIGN_IN,
            None,
            kubernetes(),
            ACCEPTED,
        ),
        ("Firebase", &NOWHERE_TO_SIGN_IN, JWT, firebase(), ACCEPTED),
        ("SPIFFE", &NOWHERE_TO_SIGN_IN, JWT, spiffe(), ACCEPTED),
        (
            "SPIFFE, JOSE",
            &NOWHERE_TO_SIGN_IN,
            Some("JOSE"),
            spiffe(),
            ACCEPTED,
        ),
        // With keys alone nothing is known of the issuer.
        (
            "GitHub Actions, keys",
            &API_ONLY,
            JWT,
            github(),
            UNKNOWN_USE,
        ),
        (
            "Kubernetes, keys",
            &API_ONLY,
            None,
            kubernetes(),
            UNKNOWN_USE,
        ),
        ("Firebase, keys", &API_ONLY, JWT, firebase(), ANOTHER_USE),
        ("SPIFFE, keys", &API_ONLY, None, spiffe(), UNKNOWN_USE),
        (
            "SPIFFE, keys and setting",
            &IDENTITY,
            None,
            spiffe(),
            ACCEPTED,
        ),
        // Anybody can have these signed for any audience.
        ("GitLab CI", &API_ONLY, JWT, gitlab(), UNKNOWN_USE),
        ("GitLab CI, setting", &IDENTITY, JWT, gitlab(), ACCEPTED),
        (
            "Google service account",
            &API_ONLY,
            JWT,
            google(),
            UNKNOWN_USE,
        ),
        (
            "Google service account, setting",
            &IDENTITY,
            JWT,
            google(),
            ACCEPTED,
        ),
        (
            "Google person",
            &API_ONLY,
            JWT,
            google_person(),
            ANOTHER_USE,
        ),
        (
            "Google person, setting",
            &IDENTITY,
            JWT,
            google_person(),
            ACCEPTED,
        ),
    ]);
}

/// Our own ID tokens open nothing, whatever a setting says.
#[test]
fn of_our_own_sign_in() {
    let id_token = || {
        json!({
            "aud": "app", "azp": "app", "sub": "7", "at_hash": "x", "nonce": "y", "email": "a@example.com",
        })
    };
    let bare = || json!({"aud": "app", "sub": "7"});
    let several = || json!({"aud": ["other", "app", API], "azp": "app", "sub": "7"});
    let both = Setting {
        audience: "app",
        ..IDENTITY
    };
    let untyped = Setting {
        audience: "app",
        ..UNTYPED
    };
    let nowhere = Setting {
        audience: "app",
        ..NOWHERE_TO_SIGN_IN
    };
    table(vec![
        ("ID token", &both, JWT, id_token(), ANOTHER_USE),
        ("bare ID token", &both, JWT, bare(), UNKNOWN_USE),
        ("bare ID token, untyped", &untyped, JWT, bare(), UNKNOWN_USE),
        ("bare ID token, nowhere", &nowhere, JWT, bare(), UNKNOWN_USE),
        ("several audiences", &both, JWT, several(), UNKNOWN_USE),
        (
            "several audiences, the API's",
            &IDENTITY,
            JWT,
            several(),
            ACCEPTED,
        ),
    ]);
}

/// Where identity tokens are meant, other tokens of the issuer are still none.
#[test]
fn of_a_third_kind_at_an_issuer_of_identity_tokens() {
    let with = |name: &str, value: Value| {
        let mut claims = json!({"aud": API, "sub": "7"});
        claims[name] = value;
        claims
    };
    table(vec![
        (
            "refresh token",
            &IDENTITY,
            JWT,
            with("typ", json!("Refresh")),
            ANOTHER_USE,
        ),
        (
            "offline token",
            &IDENTITY,
            JWT,
            with("typ", json!("Offline")),
            ANOTHER_USE,
        ),
        (
            "action token",
            &IDENTITY,
            JWT,
            with("typ", json!("execute-actions")),
            ANOTHER_USE,
        ),
        (
            "JARM",
            &IDENTITY,
            JWT,
            with("code", json!("x")),
            ANOTHER_USE,
        ),
        (
            "request object",
            &IDENTITY,
            JWT,
            with("response_type", json!("code")),
            ANOTHER_USE,
        ),
        (
            "logout token",
            &IDENTITY,
            JWT,
            with("events", json!({"x": {}})),
            ANOTHER_USE,
        ),
        (
            "logout token, typed",
            &IDENTITY,
            Some("logout+jwt"),
            with("sid", json!("x")),
            TYPE,
        ),
        (
            "bound",
            &IDENTITY,
            JWT,
            with("cnf", json!({"jkt": "x"})),
            BOUND,
        ),
        (
            "Keycloak ID token",
            &IDENTITY,
            JWT,
            with("typ", json!("ID")),
            ACCEPTED,
        ),
        (
            "Cognito ID token",
            &IDENTITY,
            JWT,
            with("token_use", json!("id")),
            ACCEPTED,
        ),
        (
            "access token",
            &IDENTITY,
            JWT,
            with("typ", json!("Bearer")),
            ACCEPTED,
        ),
    ]);
}

#[test]
fn of_microsoft() {
    let v2 = |aud: &str| {
        json!({
            "aud": aud, "nbf": NOW, "aio": "x", "azp": "spa", "azpacr": "1", "name": "Alice", "oid": "8",
            "preferred_username": "alice@example.com", "rh": "x", "scp": "notes.read", "sub": "7",
            "tid": "9", "uti": "x", "ver": "2.0",
        })
    };
    let v2_app = |aud: &str| {
        json!({
            "aud": aud, "nbf": NOW, "aio": "x", "azp": "app", "azpacr": "1", "oid": "8", "rh": "x",
            "roles": ["Notes.Read"], "sub": "8", "tid": "9", "uti": "x", "ver": "2.0",
        })
    };
    let v2_id = |aud: &str| {
        json!({
            "aud": aud, "nbf": NOW, "aio": "x", "name": "Alice", "nonce": "y", "oid": "8",
            "preferred_username": "alice@example.com", "rh": "x", "sub": "7", "tid": "9", "uti": "x",
            "ver": "2.0", "roles": ["Notes.Read"],
        })
    };
    let v1 = || {
        json!({
            "aud": API, "nbf": NOW, "acr": "1", "aio": "x", "amr": ["pwd"], "appid": "spa", "appidacr": "0",
            "ipaddr": "192.0.2.1", "name": "Alice", "oid": "8", "rh": "x", "scp": "user_impersonation",
            "sub": "7", "tid": "9", "unique_name": "alice@example.com", "uti": "x", "ver": "1.0",
        })
    };
    let v1_app = || {
        json!({
            "aud": API, "nbf": NOW, "aio": "x", "appid": "job", "appidacr": "2", "idp": "x", "oid": "8",
            "rh": "x", "roles": ["Notes.Read"], "sub": "8", "tid": "9", "uti": "x", "ver": "1.0",
        })
    };
    let v1_id = |aud: &str| {
        json!({
            "aud": aud, "nbf": NOW, "amr": ["pwd"], "family_name": "L", "ipaddr": "192.0.2.1", "oid": "8",
            "sub": "7", "tid": "9", "unique_name": "alice@example.com", "uti": "x", "ver": "1.0",
        })
    };
    let graph = || {
        let mut claims = v1();
        claims["nonce"] = json!("y");
        claims["xms_tcdt"] = json!(NOW);
        claims
    };
    let b2c = |aud: &str| {
        json!({
            "aud": aud, "sub": "7", "idp": "x", "nonce": "y", "scp": "notes.read", "azp": "spa",
            "ver": "1.0", "nbf": NOW, "tfp": "B2C_1_signin", "name": "Alice",
        })
    };
    let b2c_own =
        || json!({"aud": "app", "sub": "7", "nonce": "y", "azp": "app", "ver": "1.0", "tfp": "x"});
    let b2c_id = |aud: &str| {
        json!({
            "aud": aud, "sub": "7", "nonce": "y", "auth_time": NOW, "ver": "1.0", "nbf": NOW,
            "tfp": "B2C_1_signin", "at_hash": "x",
        })
    };
    let adfs = || {
        json!({
            "aud": API, "nbf": NOW, "apptype": "Confidential", "appid": "spa", "authmethod": "urn:x",
            "auth_time": "2026-11-29T10:00:00.000Z", "ver": "1.0", "scp": "openid", "sub": "7",
        })
    };
    let adfs_id = |aud: &str, appid: Value| {
        json!({
            "aud": aud, "auth_time": NOW, "sub": "7", "upn": "alice@example.com", "sid": "S-1-5-21",
            "unique_name": "EXAMPLE\\alice", "apptype": "Public", "appid": appid, "authmethod": "urn:x",
            "ver": "1.0", "scp": "openid", "nonce": "y",
        })
    };
    table(vec![
        ("Entra v2", &API_ONLY, JWT, v2(API), ACCEPTED),
        (
            "Entra v2, own client",
            &OWN_CLIENT_ID,
            JWT,
            v2("app"),
            ACCEPTED,
        ),
        (
            "Entra v2, app-only",
            &OWN_CLIENT_ID,
            JWT,
            v2_app("app"),
            ACCEPTED,
        ),
        (
            "Entra v2, app-only, other",
            &OTHER_CLIENT_ID,
            JWT,
            v2_app("spa"),
            ACCEPTED,
        ),
        (
            "Entra v2, ID token",
            &OWN_CLIENT_ID,
            JWT,
            v2_id("app"),
            ANOTHER_USE,
        ),
        (
            "Entra v2, ID token of another",
            &OTHER_CLIENT_ID,
            JWT,
            v2_id("spa"),
            ANOTHER_USE,
        ),
        ("Entra v1", &API_ONLY, JWT, v1(), ACCEPTED),
        ("Entra v1, app-only", &API_ONLY, JWT, v1_app(), ACCEPTED),
        (
            "Entra v1, ID token",
            &OWN_CLIENT_ID,
            JWT,
            v1_id("app"),
            ANOTHER_USE,
        ),
        (
            "Entra v1, ID token of another",
            &OTHER_CLIENT_ID,
            JWT,
            v1_id("spa"),
            ANOTHER_USE,
        ),
        ("Microsoft Graph", &API_ONLY, JWT, graph(), ACCEPTED),
        ("B2C", &OWN_CLIENT_ID, JWT, b2c("app"), ACCEPTED),
        (
            "B2C, another client",
            &OTHER_CLIENT_ID,
            JWT,
            b2c("spa"),
            ACCEPTED,
        ),
        (
            "B2C, the client as scope",
            &OWN_CLIENT_ID,
            JWT,
            b2c_own(),
            ANOTHER_USE,
        ),
        (
            "B2C, ID token",
            &OWN_CLIENT_ID,
            JWT,
            b2c_id("app"),
            ANOTHER_USE,
        ),
        (
            "B2C, ID token of another",
            &OTHER_CLIENT_ID,
            JWT,
            b2c_id("spa"),
            ANOTHER_USE,
        ),
        ("AD FS", &API_ONLY, JWT, adfs(), ACCEPTED),
        (
            "AD FS, ID token",
            &OWN_CLIENT_ID,
            JWT,
            adfs_id("app", json!("app")),
            ANOTHER_USE,
        ),
        (
            "AD FS, ID token of another",
            &OTHER_CLIENT_ID,
            JWT,
            adfs_id("spa", json!("spa")),
            ANOTHER_USE,
        ),
        (
            "AD FS, ID token without client",
            &OTHER_CLIENT_ID,
            JWT,
            adfs_id("spa", json!(null)),
            ANOTHER_USE,
        ),
    ]);
}

#[test]
fn of_services() {
    let cognito = || {
        json!({
            "sub": "7", "cognito:groups": ["staff"], "version": 2, "client_id": "app", "origin_jti": "x",
            "event_id": "x", "token_use": "access", "scope": "openid", "auth_time": NOW, "jti": "1",
            "username": "alice",
        })
    };
    let cognito_id = || {
        json!({
            "at_hash": "x", "sub": "7", "aud": "app", "event_id": "x", "token_use": "id", "auth_time": NOW,
            "cognito:username": "alice", "nonce": "y", "origin_jti": "x", "jti": "1",
        })
    };
    let by_client = Setting {
        audience_claim: AudienceClaim::ClientId,
        ..OWN_CLIENT_ID
    };
    let by_other_client = Setting {
        audience: "spa",
        ..by_client
    };
    let auth0 = |more: Value| {
        let mut claims =
            json!({"sub": "auth0|7", "aud": [API, "https://op.example/userinfo"], "azp": "spa"});
        claims
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        claims
    };
    let auth0_id = |more: Value| {
        let mut claims = json!({
            "nickname": "alice", "name": "Alice", "picture": "x", "updated_at": "x", "sub": "auth0|7",
            "aud": "spa", "sid": "x",
        });
        claims
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        claims
    };
    let untyped_client = Setting {
        audience: "spa",
        ..UNTYPED
    };
    let okta = |scp: Value| {
        json!({
            "ver": 1, "jti": "AT.x", "aud": API, "cid": "spa", "uid": "7", "scp": scp, "auth_time": NOW,
            "sub": "alice@example.com",
        })
    };
    let okta_id = |aud: &str| {
        json!({
            "sub": "7", "ver": 1, "aud": aud, "jti": "ID.x", "amr": ["pwd"], "idp": "x", "nonce": "y",
            "auth_time": NOW, "at_hash": "x", "preferred_username": "alice",
        })
    };
    table(vec![
        ("Cognito", &OWN_CLIENT_ID, None, cognito(), MISSING),
        ("Cognito, by client", &by_client, None, cognito(), ACCEPTED),
        (
            "Cognito, by another client",
            &by_other_client,
            None,
            cognito(),
            AUDIENCE,
        ),
        (
            "Cognito, ID token",
            &OWN_CLIENT_ID,
            None,
            cognito_id(),
            ANOTHER_USE,
        ),
        (
            "Cognito, ID token, by client",
            &by_client,
            None,
            cognito_id(),
            ANOTHER_USE,
        ),
        (
            "Auth0",
            &API_ONLY,
            JWT,
            auth0(json!({"scope": "openid read:notes"})),
            ACCEPTED,
        ),
        (
            "Auth0, OpenID's scopes",
            &API_ONLY,
            JWT,
            auth0(json!({"scope": "openid profile"})),
            ACCEPTED,
        ),
        (
            "Auth0, machine",
            &API_ONLY,
            JWT,
            auth0(json!({"gty": "client-credentials"})),
            ACCEPTED,
        ),
        (
            "Auth0, no scope",
            &API_ONLY,
            JWT,
            auth0(json!({})),
            UNKNOWN_USE,
        ),
        (
            "Auth0, permissions alone",
            &API_ONLY,
            JWT,
            auth0(json!({"permissions": []})),
            UNKNOWN_USE,
        ),
        (
            "Auth0, no scope, preset",
            &UNTYPED,
            JWT,
            auth0(json!({})),
            ACCEPTED,
        ),
        (
            "Auth0, RFC 9068",
            &API_ONLY,
            Some("at+jwt"),
            auth0(json!({"client_id": "spa", "jti": "1"})),
            ACCEPTED,
        ),
        (
            "Auth0, ID token",
            &untyped_client,
            JWT,
            auth0_id(json!({"nonce": "y"})),
            ANOTHER_USE,
        ),
        (
            "Auth0, logout token",
            &untyped_client,
            Some("logout+jwt"),
            auth0_id(json!({})),
            TYPE,
        ),
        (
            "Okta",
            &API_ONLY,
            None,
            okta(json!(["notes:read"])),
            ACCEPTED,
        ),
        (
            "Okta, OpenID's scopes",
            &API_ONLY,
            None,
            okta(json!(["openid"])),
            ACCEPTED,
        ),
        (
            "Okta, its own API",
            &API_ONLY,
            Some("application/okta-internal-at+jwt"),
            okta(json!(["x"])),
            TYPE,
        ),
        (
            "Okta, ID token",
            &OWN_CLIENT_ID,
            None,
            okta_id("app"),
            ANOTHER_USE,
        ),
        (
            "Okta, ID token of another",
            &OTHER_CLIENT_ID,
            None,
            okta_id("spa"),
            ANOTHER_USE,
        ),
    ]);
}

#[test]
fn of_servers() {
    let zitadel = || {
        json!({
            "sub": "7", "aud": ["app", "spa", API], "nbf": NOW, "client_id": "spa", "jti": "1",
            "urn:zitadel:iam:org:project:roles": {"admin": {"1": "x"}},
        })
    };
    let zitadel_id = |at_hash: Value| {
        json!({
            "sub": "7", "aud": ["app", "spa", API], "auth_time": NOW, "nonce": "y", "amr": ["pwd"],
            "azp": "spa", "client_id": "spa", "at_hash": at_hash, "sid": "x", "jti": "1",
        })
    };
    let keycloak = |aud: &str, typ: &str| {
        json!({
            "auth_time": NOW, "jti": "onrtac:1", "aud": [aud, "account"], "sub": "7", "typ": typ, "azp": "spa",
            "sid": "x", "acr": "1", "realm_access": {"roles": ["admin"]}, "scope": "openid profile email",
        })
    };
    let keycloak_light = || json!({"jti": "ltrtac:1", "typ": "Bearer", "azp": "spa", "sid": "x", "sub": "7", "aud": API});
    let keycloak_id = |aud: &str| {
        json!({
            "auth_time": NOW, "jti": "1", "aud": aud, "sub": "7", "typ": "ID", "azp": aud, "nonce": "y",
            "sid": "x", "at_hash": "x", "acr": "1",
        })
    };
    let keycloak_other = |typ: &str| json!({"jti": "1", "aud": API, "sub": "7", "typ": typ, "azp": "spa", "nonce": "y", "scope": "openid"});
    let jarm = |aud: &str| json!({"aud": aud, "code": "x", "state": "y", "session_state": "z"});
    let jarm_error =
        |aud: &str| json!({"aud": aud, "error": "access_denied", "state": "y", "sub": "x"});
    let authelia = || json!({"client_id": "spa", "jti": "1", "nbf": NOW, "scp": ["openid", "notes"], "aud": [API], "sub": "7"});
    let authelia_id = |aud: &str| {
        json!({
            "amr": ["pwd"], "at_hash": "x", "aud": [aud], "auth_time": NOW, "azp": aud, "client_id": aud,
            "jti": "1", "nonce": "y", "rat": NOW, "sub": "7",
        })
    };
    let authentik = || {
        json!({
            "sub": "7", "aud": "app", "auth_time": NOW, "acr": "goauthentik.io/providers/oauth2/default",
            "amr": ["pwd"], "sid": "x", "email": "a@example.com", "azp": "app", "uid": "x",
        })
    };
    let authentik_with = |scope: &str| {
        let mut claims = authentik();
        claims["scope"] = scope.into();
        claims
    };
    let dex = |aud: Value| json!({"sub": "7", "aud": aud, "azp": "spa", "at_hash": "x", "email": "a@example.com", "groups": ["x"]});
    let hydra = |scp: Value| json!({"aud": [API], "client_id": "spa", "ext": {}, "jti": "1", "nbf": NOW, "scp": scp, "sub": "7"});
    let hydra_id = || {
        json!({
            "amr": [], "at_hash": "x", "aud": ["app"], "auth_time": NOW, "jti": "1", "rat": NOW, "sid": "x",
            "sub": "7",
        })
    };
    let ping = || json!({"scope": "notes", "client_id": "spa", "aud": API, "jti": "1", "Username": "alice"});
    let ping_id = || json!({"sub": "alice", "aud": "app", "jti": "1", "acr": "x", "auth_time": NOW, "pi.sri": "x"});
    let forgerock = |name: &str| {
        json!({
            "sub": "(usr!alice)", "cts": "OAUTH2_STATELESS_GRANT", "auth_level": 0, "auditTrackingId": "x",
            "subname": "alice", "tokenName": name, "token_type": "Bearer", "authGrantId": "x", "aud": "app",
            "client_id": "app", "nbf": NOW, "grant_type": "authorization_code", "scope": ["openid"],
            "auth_time": NOW, "realm": "/", "expires_in": 3600, "jti": "1", "nonce": "y",
        })
    };
    let forgerock_id = || {
        json!({
            "sub": "alice", "auditTrackingId": "x", "subname": "alice", "tokenName": "id_token", "sid": "x",
            "aud": "app", "acr": "0", "azp": "app", "auth_time": NOW, "realm": "/", "tokenType": "JWTToken",
        })
    };
    let duende = || {
        json!({
            "nbf": NOW, "aud": API, "client_id": "spa", "sub": "7", "auth_time": NOW, "idp": "local",
            "jti": "1", "sid": "x", "scope": ["openid", "notes"], "amr": ["pwd"],
        })
    };
    let duende_id = || {
        json!({
            "nbf": NOW, "aud": "app", "nonce": "y", "at_hash": "x", "sid": "x", "sub": "7",
            "auth_time": NOW, "idp": "local", "amr": ["pwd"],
        })
    };
    let uaa = || {
        json!({
            "jti": "1", "sub": "7", "scope": ["openid", "notes.read"], "client_id": "spa", "cid": "spa",
            "azp": "spa", "grant_type": "authorization_code", "user_id": "7", "origin": "uaa",
            "user_name": "alice", "auth_time": NOW, "rev_sig": "x", "zid": "uaa", "aud": ["notes", "spa", API],
        })
    };
    let uaa_id = |aud: &str| {
        json!({
            "sub": "7", "aud": [aud], "amr": ["pwd"], "azp": aud, "scope": ["openid"], "cid": aud,
            "client_id": aud, "grant_type": "authorization_code", "user_name": "alice", "zid": "uaa",
            "origin": "uaa", "jti": "1", "rev_sig": "x", "auth_time": NOW, "user_id": "7",
        })
    };
    let uaa_refresh = || {
        json!({
            "jti": "1-r", "sub": "7", "granted_scopes": ["openid", "notes.read"], "cid": "spa",
            "client_id": "spa", "zid": "uaa", "grant_type": "authorization_code", "user_name": "alice",
            "origin": "uaa", "user_id": "7", "rev_sig": "x", "aud": ["notes", API],
        })
    };
    let strict = Setting {
        require_at_jwt: true,
        ..API_ONLY
    };
    let strict_identity = Setting {
        require_at_jwt: true,
        ..IDENTITY
    };
    table(vec![
        ("Zitadel", &API_ONLY, None, zitadel(), ACCEPTED),
        (
            "Zitadel, own client",
            &OWN_CLIENT_ID,
            None,
            zitadel(),
            ACCEPTED,
        ),
        (
            "Zitadel, ID token",
            &API_ONLY,
            None,
            zitadel_id(json!("x")),
            ANOTHER_USE,
        ),
        (
            "Zitadel, ID token without hash",
            &API_ONLY,
            None,
            zitadel_id(json!(null)),
            ANOTHER_USE,
        ),
        (
            "Keycloak",
            &API_ONLY,
            JWT,
            keycloak(API, "Bearer"),
            ACCEPTED,
        ),
        (
            "Keycloak, own client",
            &OWN_CLIENT_ID,
            JWT,
            keycloak("app", "Bearer"),
            ACCEPTED,
        ),
        (
            "Keycloak, at+jwt",
            &strict,
            Some("at+jwt"),
            keycloak(API, "Bearer"),
            ACCEPTED,
        ),
        (
            "Keycloak, at+jwt required",
            &strict,
            JWT,
            keycloak(API, "Bearer"),
            TYPE,
        ),
        (
            "Keycloak, lightweight",
            &API_ONLY,
            JWT,
            keycloak_light(),
            ACCEPTED,
        ),
        (
            "Keycloak, ID token",
            &OWN_CLIENT_ID,
            JWT,
            keycloak_id("app"),
            ANOTHER_USE,
        ),
        (
            "Keycloak, ID token of another",
            &OTHER_CLIENT_ID,
            JWT,
            keycloak_id("spa"),
            ANOTHER_USE,
        ),
        (
            "Keycloak, refresh token",
            &API_ONLY,
            JWT,
            keycloak_other("Refresh"),
            ANOTHER_USE,
        ),
        (
            "Keycloak, offline token",
            &API_ONLY,
            JWT,
            keycloak_other("Offline"),
            ANOTHER_USE,
        ),
        (
            "Keycloak, action token",
            &API_ONLY,
            JWT,
            keycloak_other("execute-actions"),
            ANOTHER_USE,
        ),
        (
            "Keycloak, registration token",
            &API_ONLY,
            JWT,
            keycloak_other("RegistrationAccessToken"),
            ANOTHER_USE,
        ),
        (
            "Keycloak, logout token",
            &API_ONLY,
            Some("logout+jwt"),
            keycloak_other("Logout"),
            TYPE,
        ),
        ("JARM", &OTHER_CLIENT_ID, JWT, jarm("spa"), ANOTHER_USE),
        ("JARM, own", &OWN_CLIENT_ID, JWT, jarm("app"), ANOTHER_USE),
        (
            "JARM, error",
            &OTHER_CLIENT_ID,
            JWT,
            jarm_error("spa"),
            UNKNOWN_USE,
        ),
        ("Authelia", &API_ONLY, Some("at+jwt"), authelia(), ACCEPTED),
        (
            "Authelia, ID token",
            &OTHER_CLIENT_ID,
            JWT,
            authelia_id("spa"),
            ANOTHER_USE,
        ),
        ("Authentik", &OWN_CLIENT_ID, JWT, authentik(), ANOTHER_USE),
        (
            "Authentik, scopes",
            &OWN_CLIENT_ID,
            JWT,
            authentik_with("openid email"),
            ANOTHER_USE,
        ),
        (
            "Authentik, scope of the API",
            &OWN_CLIENT_ID,
            JWT,
            authentik_with("openid notes"),
            ACCEPTED,
        ),
        ("Dex", &OWN_CLIENT_ID, None, dex(json!("app")), ANOTHER_USE),
        (
            "Dex, cross-client",
            &API_ONLY,
            None,
            dex(json!([API, "spa"])),
            ANOTHER_USE,
        ),
        (
            "Dex, cross-client, setting",
            &IDENTITY,
            None,
            dex(json!([API, "spa"])),
            ACCEPTED,
        ),
        ("Hydra", &API_ONLY, JWT, hydra(json!(["notes"])), ACCEPTED),
        (
            "Hydra, no scope",
            &API_ONLY,
            JWT,
            hydra(json!([])),
            ACCEPTED,
        ),
        (
            "Hydra, ID token",
            &OWN_CLIENT_ID,
            JWT,
            hydra_id(),
            ANOTHER_USE,
        ),
        ("PingFederate", &API_ONLY, None, ping(), ACCEPTED),
        (
            "PingFederate, ID token",
            &OWN_CLIENT_ID,
            None,
            ping_id(),
            ANOTHER_USE,
        ),
        (
            "ForgeRock",
            &OWN_CLIENT_ID,
            JWT,
            forgerock("access_token"),
            ACCEPTED,
        ),
        (
            "ForgeRock, refresh token",
            &OWN_CLIENT_ID,
            JWT,
            forgerock("refresh_token"),
            ANOTHER_USE,
        ),
        (
            "ForgeRock, ID token",
            &OWN_CLIENT_ID,
            JWT,
            forgerock_id(),
            ANOTHER_USE,
        ),
        ("Duende", &strict, Some("at+jwt"), duende(), ACCEPTED),
        ("Duende, untyped", &API_ONLY, JWT, duende(), ACCEPTED),
        (
            "Duende, ID token",
            &OWN_CLIENT_ID,
            JWT,
            duende_id(),
            ANOTHER_USE,
        ),
        ("UAA", &API_ONLY, JWT, uaa(), ACCEPTED),
        (
            "UAA, ID token",
            &OWN_CLIENT_ID,
            JWT,
            uaa_id("app"),
            ANOTHER_USE,
        ),
        (
            "UAA, ID token of another",
            &OTHER_CLIENT_ID,
            JWT,
            uaa_id("spa"),
            ANOTHER_USE,
        ),
        (
            "UAA, refresh token",
            &API_ONLY,
            JWT,
            uaa_refresh(),
            ANOTHER_USE,
        ),
        // A type that is required of access tokens is not required of identity tokens.
        (
            "identity token, at+jwt required",
            &strict_identity,
            JWT,
            json!({"aud": API, "sub": "7"}),
            ACCEPTED,
        ),
    ]);
}

/// An access token of RFC 9068 keeps its purpose beside claims that others have.
#[test]
fn of_the_standard() {
    let with = |name: &str, value: Value| {
        let mut claims = json!({"aud": API, "sub": "7", "client_id": "spa", "jti": "1"});
        claims[name] = value;
        claims
    };
    let at_jwt = Some("at+jwt");
    table(vec![
        (
            "auth_time",
            &API_ONLY,
            at_jwt,
            with("auth_time", json!(NOW)),
            ACCEPTED,
        ),
        (
            "nonce",
            &API_ONLY,
            at_jwt,
            with("nonce", json!("x")),
            ACCEPTED,
        ),
        (
            "code",
            &API_ONLY,
            at_jwt,
            with("code", json!("x")),
            ACCEPTED,
        ),
        (
            "code, untyped",
            &API_ONLY,
            JWT,
            with("code", json!("x")),
            ANOTHER_USE,
        ),
        (
            "at_hash",
            &API_ONLY,
            at_jwt,
            with("at_hash", json!("x")),
            ANOTHER_USE,
        ),
        (
            "typ",
            &API_ONLY,
            at_jwt,
            with("typ", json!("Refresh")),
            ANOTHER_USE,
        ),
        (
            "typ of another type",
            &API_ONLY,
            at_jwt,
            with("typ", json!(["Bearer"])),
            ANOTHER_USE,
        ),
        (
            "two words",
            &API_ONLY,
            at_jwt,
            json!({"aud": API, "sub": "7", "typ": "Bearer", "token_use": "refresh"}),
            ANOTHER_USE,
        ),
        (
            "client_id and jti",
            &API_ONLY,
            JWT,
            with("x", json!(1)),
            ACCEPTED,
        ),
        (
            "empty jti",
            &API_ONLY,
            JWT,
            with("jti", json!("")),
            UNKNOWN_USE,
        ),
        (
            "null is absent",
            &API_ONLY,
            JWT,
            with("nonce", json!(null)),
            ACCEPTED,
        ),
        (
            "azp and roles",
            &API_ONLY,
            JWT,
            json!({"aud": API, "sub": "7", "azp": "spa", "roles": ["x"], "jti": "1"}),
            UNKNOWN_USE,
        ),
        (
            "empty scope",
            &API_ONLY,
            JWT,
            json!({"aud": API, "sub": "7", "scope": ""}),
            UNKNOWN_USE,
        ),
        (
            "null scope",
            &API_ONLY,
            JWT,
            json!({"aud": API, "sub": "7", "scope": null}),
            UNKNOWN_USE,
        ),
        (
            "no issuer's sign but a nonce",
            &API_ONLY,
            JWT,
            json!({"aud": API, "sub": "7", "nonce": "x"}),
            ANOTHER_USE,
        ),
    ]);
}
