//! What real products sign, kind by kind, and which of it opens an API. The shapes are in `products.json`, as their
//! documentation and source have them; the values are made up. Each token has `iss`, `iat` and `exp` too, and a good
//! signature. `tests/interop/issuer_shapes.rs` has an API judge the same shapes over HTTP.

use std::sync::LazyLock;

use super::*;
use crate::token::{Accepts, AudienceClaim};

static PRODUCTS: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(include_str!("products.json")).unwrap());

const ACCEPTED: &str = "accepted";
const TYPE: &str = "access_token_type";
const ANOTHER_USE: &str = "access_token_wrong_use";
const UNKNOWN_USE: &str = "access_token_unknown_use";
const CONFIRMATION: &str = "access_token_confirmation";
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

/// The claims of a product's token for this audience.
fn shape(product: &str, token: &str, aud: &str) -> Value {
    let claims = &PRODUCTS[product]["tokens"][token]["claims"];
    assert!(claims.is_object(), "{product}, {token}");
    filled_in(claims, aud)
}

/// With a value for what stands for the audience, and for a time.
fn filled_in(value: &Value, aud: &str) -> Value {
    match value {
        Value::String(text) if text == "$AUD" => json!(aud),
        Value::String(text) if text == "$NOW" => json!(NOW),
        Value::Array(list) => list.iter().map(|item| filled_in(item, aud)).collect(),
        Value::Object(object) => {
            let members = object.iter();
            let members = members.map(|(name, value)| (name.clone(), filled_in(value, aud)));
            Value::Object(members.collect())
        }
        other => other.clone(),
    }
}

/// The claims with these in addition, or in place of others.
fn with_more(mut claims: Value, more: Value) -> Value {
    let more = more.as_object().unwrap().clone();
    claims.as_object_mut().unwrap().extend(more);
    claims
}

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
        Err(error) => error.facts().reason,
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
    let github = || shape("GitHub Actions", "job", API);
    let kubernetes = || shape("Kubernetes", "service account", API);
    let firebase = || shape("Firebase", "ID token", API);
    let spiffe = || shape("SPIFFE", "JWT-SVID", API);
    let gitlab = || shape("GitLab", "job", API);
    let google = || shape("Google", "service account", API);
    let google_person = || shape("Google", "person", API);
    table(vec![
        ("GitHub Actions", &NOWHERE_TO_SIGN_IN, JWT, github(), ACCEPTED),
        ("Kubernetes", &NOWHERE_TO_SIGN_IN, None, kubernetes(), ACCEPTED),
        ("Firebase", &NOWHERE_TO_SIGN_IN, JWT, firebase(), ACCEPTED),
        ("SPIFFE", &NOWHERE_TO_SIGN_IN, JWT, spiffe(), ACCEPTED),
        ("SPIFFE, JOSE", &NOWHERE_TO_SIGN_IN, Some("JOSE"), spiffe(), ACCEPTED),
        // With keys alone nothing is known of the issuer.
        ("GitHub Actions, keys", &API_ONLY, JWT, github(), UNKNOWN_USE),
        ("Kubernetes, keys", &API_ONLY, None, kubernetes(), UNKNOWN_USE),
        ("Firebase, keys", &API_ONLY, JWT, firebase(), ANOTHER_USE),
        ("SPIFFE, keys", &API_ONLY, None, spiffe(), UNKNOWN_USE),
        ("SPIFFE, keys and setting", &IDENTITY, None, spiffe(), ACCEPTED),
        // Anybody can have these signed for any audience.
        ("GitLab CI", &API_ONLY, JWT, gitlab(), UNKNOWN_USE),
        ("GitLab CI, setting", &IDENTITY, JWT, gitlab(), ACCEPTED),
        ("Google service account", &API_ONLY, JWT, google(), UNKNOWN_USE),
        ("Google service account, setting", &IDENTITY, JWT, google(), ACCEPTED),
        ("Google person", &API_ONLY, JWT, google_person(), ANOTHER_USE),
        ("Google person, setting", &IDENTITY, JWT, google_person(), ACCEPTED),
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
        ("several audiences, the API's", &IDENTITY, JWT, several(), ACCEPTED),
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
        ("JARM", &IDENTITY, JWT, with("code", json!("x")), ANOTHER_USE),
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
            with("cnf", json!({"x5t#S256": "x"})),
            CONFIRMATION,
        ),
        ("Keycloak ID token", &IDENTITY, JWT, with("typ", json!("ID")), ACCEPTED),
        (
            "Cognito ID token",
            &IDENTITY,
            JWT,
            with("token_use", json!("id")),
            ACCEPTED,
        ),
        ("access token", &IDENTITY, JWT, with("typ", json!("Bearer")), ACCEPTED),
    ]);
}

#[test]
fn of_microsoft() {
    let v2 = |aud: &str| shape("Entra v2", "access token", aud);
    let v2_app = |aud: &str| shape("Entra v2", "app-only token", aud);
    let v2_id = |aud: &str| shape("Entra v2", "ID token", aud);
    let v1 = || shape("Entra v1", "access token", API);
    let v1_app = || shape("Entra v1", "app-only token", API);
    let v1_id = |aud: &str| shape("Entra v1", "ID token", aud);
    let graph = || with_more(v1(), json!({"nonce": "y", "xms_tcdt": NOW}));
    let b2c = |aud: &str| shape("Azure AD B2C", "access token", aud);
    let b2c_own = || shape("Azure AD B2C", "access token for the client itself", "app");
    let b2c_id = |aud: &str| shape("Azure AD B2C", "ID token", aud);
    let adfs = || shape("AD FS", "access token", API);
    let adfs_id = |aud: &str| shape("AD FS", "ID token", aud);
    let adfs_id_without = |aud: &str| shape("AD FS", "ID token without its client", aud);
    table(vec![
        ("Entra v2", &API_ONLY, JWT, v2(API), ACCEPTED),
        ("Entra v2, own client", &OWN_CLIENT_ID, JWT, v2("app"), ACCEPTED),
        ("Entra v2, app-only", &OWN_CLIENT_ID, JWT, v2_app("app"), ACCEPTED),
        (
            "Entra v2, app-only, other",
            &OTHER_CLIENT_ID,
            JWT,
            v2_app("spa"),
            ACCEPTED,
        ),
        ("Entra v2, ID token", &OWN_CLIENT_ID, JWT, v2_id("app"), ANOTHER_USE),
        (
            "Entra v2, ID token of another",
            &OTHER_CLIENT_ID,
            JWT,
            v2_id("spa"),
            ANOTHER_USE,
        ),
        ("Entra v1", &API_ONLY, JWT, v1(), ACCEPTED),
        ("Entra v1, app-only", &API_ONLY, JWT, v1_app(), ACCEPTED),
        ("Entra v1, ID token", &OWN_CLIENT_ID, JWT, v1_id("app"), ANOTHER_USE),
        (
            "Entra v1, ID token of another",
            &OTHER_CLIENT_ID,
            JWT,
            v1_id("spa"),
            ANOTHER_USE,
        ),
        ("Microsoft Graph", &API_ONLY, JWT, graph(), ACCEPTED),
        ("B2C", &OWN_CLIENT_ID, JWT, b2c("app"), ACCEPTED),
        ("B2C, another client", &OTHER_CLIENT_ID, JWT, b2c("spa"), ACCEPTED),
        ("B2C, the client as scope", &OWN_CLIENT_ID, JWT, b2c_own(), ANOTHER_USE),
        ("B2C, ID token", &OWN_CLIENT_ID, JWT, b2c_id("app"), ANOTHER_USE),
        (
            "B2C, ID token of another",
            &OTHER_CLIENT_ID,
            JWT,
            b2c_id("spa"),
            ANOTHER_USE,
        ),
        ("AD FS", &API_ONLY, JWT, adfs(), ACCEPTED),
        ("AD FS, ID token", &OWN_CLIENT_ID, JWT, adfs_id("app"), ANOTHER_USE),
        (
            "AD FS, ID token of another",
            &OTHER_CLIENT_ID,
            JWT,
            adfs_id("spa"),
            ANOTHER_USE,
        ),
        (
            "AD FS, ID token without client",
            &OTHER_CLIENT_ID,
            JWT,
            adfs_id_without("spa"),
            ANOTHER_USE,
        ),
    ]);
}

#[test]
fn of_services() {
    let cognito = || shape("Cognito", "access token", "app");
    let cognito_id = || shape("Cognito", "ID token", "app");
    let cognito_sdk_id = || shape("Cognito", "ID token of a sign-in by the SDK", "app");
    let by_client = Setting {
        audience_claim: AudienceClaim::ClientId,
        ..OWN_CLIENT_ID
    };
    let by_other_client = Setting {
        audience: "spa",
        ..by_client
    };
    // An API that knows the pool's clients, and is none of them.
    let by_clients_of_others = Setting {
        client_id: "",
        ..by_client
    };
    let auth0 = |token: &str| shape("Auth0", token, API);
    let auth0_id = || shape("Auth0", "ID token", "spa");
    let untyped_client = Setting {
        audience: "spa",
        ..UNTYPED
    };
    let okta = |scp: Value| with_more(shape("Okta", "access token", API), json!({"scp": scp}));
    let okta_id = |aud: &str| shape("Okta", "ID token", aud);
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
        ("Cognito, ID token", &OWN_CLIENT_ID, None, cognito_id(), ANOTHER_USE),
        (
            "Cognito, ID token, by client",
            &by_client,
            None,
            cognito_id(),
            ANOTHER_USE,
        ),
        (
            "Cognito, SDK's ID token, by client",
            &by_clients_of_others,
            None,
            cognito_sdk_id(),
            ANOTHER_USE,
        ),
        ("Auth0", &API_ONLY, JWT, auth0("access token"), ACCEPTED),
        (
            "Auth0, OpenID's scopes",
            &API_ONLY,
            JWT,
            with_more(auth0("access token"), json!({"scope": "openid profile"})),
            ACCEPTED,
        ),
        ("Auth0, machine", &API_ONLY, JWT, auth0("machine token"), ACCEPTED),
        (
            "Auth0, no scope",
            &API_ONLY,
            JWT,
            auth0("access token without scopes"),
            UNKNOWN_USE,
        ),
        (
            "Auth0, permissions alone",
            &API_ONLY,
            JWT,
            with_more(auth0("access token without scopes"), json!({"permissions": []})),
            UNKNOWN_USE,
        ),
        (
            "Auth0, no scope, preset",
            &UNTYPED,
            JWT,
            auth0("access token without scopes"),
            ACCEPTED,
        ),
        (
            "Auth0, RFC 9068",
            &API_ONLY,
            Some("at+jwt"),
            auth0("access token of RFC 9068"),
            ACCEPTED,
        ),
        ("Auth0, ID token", &untyped_client, JWT, auth0_id(), ANOTHER_USE),
        (
            "Auth0, logout token",
            &untyped_client,
            Some("logout+jwt"),
            shape("Auth0", "logout token", "spa"),
            TYPE,
        ),
        ("Okta", &API_ONLY, None, okta(json!(["notes:read"])), ACCEPTED),
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
        ("Okta, ID token", &OWN_CLIENT_ID, None, okta_id("app"), ANOTHER_USE),
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
    let zitadel = || shape("Zitadel", "access token", API);
    let zitadel_id = |token: &str| shape("Zitadel", token, API);
    let keycloak = |aud: &str| shape("Keycloak", "access token", aud);
    let keycloak_light = || shape("Keycloak", "lightweight access token", API);
    let keycloak_id = |aud: &str| shape("Keycloak", "ID token", aud);
    let keycloak_other = |typ: &str| with_more(shape("Keycloak", "refresh token", API), json!({"typ": typ}));
    let jarm = |aud: &str| json!({"aud": aud, "code": "x", "state": "y", "session_state": "z"});
    let jarm_error = |aud: &str| json!({"aud": aud, "error": "access_denied", "state": "y", "sub": "x"});
    let authelia = || shape("Authelia", "access token", API);
    let authelia_id = |aud: &str| shape("Authelia", "ID token", aud);
    let authentik = || shape("Authentik", "access token", "app");
    let authentik_with = |scope: &str| with_more(authentik(), json!({"scope": scope}));
    let dex = || shape("Dex", "access token of its client", "app");
    let dex_cross_client = || shape("Dex", "access token for another client", API);
    let hydra = |token: &str| shape("Hydra", token, API);
    let hydra_id = || shape("Hydra", "ID token", "app");
    let ping = || shape("PingFederate", "access token", API);
    let ping_id = || shape("PingFederate", "ID token", "app");
    let forgerock = |token: &str| shape("ForgeRock", token, "app");
    let duende = || shape("Duende", "access token", API);
    let duende_id = || shape("Duende", "ID token", "app");
    let uaa = || shape("UAA", "access token", API);
    let uaa_id = |aud: &str| shape("UAA", "ID token", aud);
    let uaa_refresh = || shape("UAA", "refresh token", API);
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
        ("Zitadel, own client", &OWN_CLIENT_ID, None, zitadel(), ACCEPTED),
        (
            "Zitadel, ID token",
            &API_ONLY,
            None,
            zitadel_id("ID token"),
            ANOTHER_USE,
        ),
        (
            "Zitadel, ID token without hash",
            &API_ONLY,
            None,
            zitadel_id("ID token without an access token"),
            ANOTHER_USE,
        ),
        ("Keycloak", &API_ONLY, JWT, keycloak(API), ACCEPTED),
        ("Keycloak, own client", &OWN_CLIENT_ID, JWT, keycloak("app"), ACCEPTED),
        ("Keycloak, at+jwt", &strict, Some("at+jwt"), keycloak(API), ACCEPTED),
        ("Keycloak, at+jwt required", &strict, JWT, keycloak(API), TYPE),
        ("Keycloak, lightweight", &API_ONLY, JWT, keycloak_light(), ACCEPTED),
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
        ("JARM, error", &OTHER_CLIENT_ID, JWT, jarm_error("spa"), UNKNOWN_USE),
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
        ("Dex", &OWN_CLIENT_ID, None, dex(), ANOTHER_USE),
        ("Dex, cross-client", &API_ONLY, None, dex_cross_client(), ANOTHER_USE),
        (
            "Dex, cross-client, setting",
            &IDENTITY,
            None,
            dex_cross_client(),
            ACCEPTED,
        ),
        ("Hydra", &API_ONLY, JWT, hydra("access token"), ACCEPTED),
        (
            "Hydra, no scope",
            &API_ONLY,
            JWT,
            hydra("access token without scopes"),
            ACCEPTED,
        ),
        ("Hydra, ID token", &OWN_CLIENT_ID, JWT, hydra_id(), ANOTHER_USE),
        ("PingFederate", &API_ONLY, None, ping(), ACCEPTED),
        ("PingFederate, ID token", &OWN_CLIENT_ID, None, ping_id(), ANOTHER_USE),
        ("ForgeRock", &OWN_CLIENT_ID, JWT, forgerock("access token"), ACCEPTED),
        (
            "ForgeRock, refresh token",
            &OWN_CLIENT_ID,
            JWT,
            forgerock("refresh token"),
            ANOTHER_USE,
        ),
        (
            "ForgeRock, ID token",
            &OWN_CLIENT_ID,
            JWT,
            forgerock("ID token"),
            ANOTHER_USE,
        ),
        ("Duende", &strict, Some("at+jwt"), duende(), ACCEPTED),
        ("Duende, untyped", &API_ONLY, JWT, duende(), ACCEPTED),
        ("Duende, ID token", &OWN_CLIENT_ID, JWT, duende_id(), ANOTHER_USE),
        ("UAA", &API_ONLY, JWT, uaa(), ACCEPTED),
        ("UAA, ID token", &OWN_CLIENT_ID, JWT, uaa_id("app"), ANOTHER_USE),
        (
            "UAA, ID token of another",
            &OTHER_CLIENT_ID,
            JWT,
            uaa_id("spa"),
            ANOTHER_USE,
        ),
        ("UAA, refresh token", &API_ONLY, JWT, uaa_refresh(), ANOTHER_USE),
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
        ("auth_time", &API_ONLY, at_jwt, with("auth_time", json!(NOW)), ACCEPTED),
        ("nonce", &API_ONLY, at_jwt, with("nonce", json!("x")), ACCEPTED),
        ("code", &API_ONLY, at_jwt, with("code", json!("x")), ACCEPTED),
        ("code, untyped", &API_ONLY, JWT, with("code", json!("x")), ANOTHER_USE),
        ("at_hash", &API_ONLY, at_jwt, with("at_hash", json!("x")), ANOTHER_USE),
        ("typ", &API_ONLY, at_jwt, with("typ", json!("Refresh")), ANOTHER_USE),
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
        ("client_id and jti", &API_ONLY, JWT, with("x", json!(1)), ACCEPTED),
        ("empty jti", &API_ONLY, JWT, with("jti", json!("")), UNKNOWN_USE),
        ("null is absent", &API_ONLY, JWT, with("nonce", json!(null)), ACCEPTED),
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
