//! Requests by whoever a test wants, which the real guards judge.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rocket::{
    http::{Cookie, Status},
    local::{asynchronous, blocking::Client},
    serde::json::{Value, json},
};
use rocket_openidconnect::{
    Endpoint, Oidc,
    store::MemoryStore,
    testing::{TestClient, TestProvider, TestRequest},
};

use crate::app::{Changes, ENVIRONMENT, app_with, figment, figment_without_issuer, open, rocket, rocket_with};

/// The message of a panic.
pub fn panic_of(task: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(task)).unwrap_err();
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => (*panic.downcast::<&str>().unwrap()).to_owned(),
    }
}

#[test]
fn a_request_is_signed_in_and_the_next_one_is_not() {
    let (_, client) = open(figment());
    let alice = json!({ "sub": "alice", "name": "Alice", "groups": ["staff", "admin"] });
    let me = client.get("/me").signed_in_as(alice.clone()).dispatch();
    assert_eq!(me.headers().get_one("Cache-Control"), Some("no-store"));
    let claims: Value = me.into_json().unwrap();
    for name in ["sub", "name", "groups"] {
        assert_eq!(claims[name], alice[name], "{name}");
    }
    assert_eq!(claims["iss"], TestProvider::ISSUER);
    assert_eq!(claims["aud"], "notes");

    assert_eq!(client.get("/me").dispatch().status(), Status::Unauthorized);
    assert_eq!(client.cookies().iter().count(), 0);
    let posted = client.post("/notes").body("milk");
    let posted = posted.signed_in_as(json!({ "sub": "bob" })).dispatch();
    assert_eq!(posted.into_string().unwrap(), "bob: milk");
}

#[test]
fn policies_and_events_have_their_say() {
    let (_, client) = open(figment());
    let admin = |groups: Value| {
        let request = client.get("/admin");
        let claims = json!({ "sub": "ann", "groups": groups });
        request.signed_in_as(claims).dispatch().status()
    };
    assert_eq!(admin(json!(["admin"])), Status::Ok);
    assert_eq!(admin(json!(["users"])), Status::Forbidden);

    let desk = client.get("/desk").signed_in_as(json!({ "sub": "ann" }));
    assert_eq!(desk.dispatch().into_string().unwrap(), "the desk of ann");
    let changes = || client.rocket().state::<Changes>().unwrap().take();
    assert_eq!(changes(), ["ann signed_in"; 3]);
    let panic = panic_of(|| drop(client.get("/").signed_in_as(json!({ "sub": "mallory" }))));
    assert_eq!(
        panic,
        "the sign-in with these claims failed: the app rejected the user: Not you."
    );
    let panic = panic_of(|| drop(client.get("/").signed_in_as(json!({ "name": "Ann" }))));
    assert!(panic.contains("enter a JSON object with a `sub`"), "{panic}");
}

/// Whatever the provider was told to do.
#[test]
fn a_request_is_signed_in_while_the_provider_is_down() {
    let (provider, client) = open(figment());
    provider.take_down();
    let me = client.get("/me").signed_in_as(json!({ "sub": "alice" }));
    assert_eq!(me.dispatch().status(), Status::Ok);
    assert_eq!(client.get("/oidc/login").dispatch().status(), Status::SeeOther);
    let callback = client.attempt_sign_in("/me", json!({ "sub": "alice" }));
    assert_eq!(callback.status(), Status::ServiceUnavailable);
    provider.recover();
    let me = client.sign_in("/me", json!({ "sub": "alice" }));
    assert_eq!(me.status(), Status::Ok);
}

/// In cookies, in memory, in a store of the app's own; none of them knows of a test.
#[rocket::async_test]
async fn sessions_are_where_the_app_keeps_them() {
    let memory = figment().merge(("oidc.session.store", "memory"));
    let redis = figment()
        .merge(("oidc.session.store", "redis"))
        .merge(("oidc.session.store_url", "redis://redis.invalid"));
    let own = Oidc::fairing().session_store(MemoryStore::new(10));
    let own = app_with(figment(), own);
    for app in [rocket(), rocket_with(memory), rocket_with(redis), own] {
        let app = TestProvider::new().register(app);
        let client = asynchronous::Client::tracked(app).await.unwrap();
        let me = client.get("/").signed_in_as(json!({ "sub": "alice" }));
        let me = me.dispatch().await.into_string().await;
        assert_eq!(me.unwrap(), "alice");
        let me = client.sign_in("/me", json!({ "sub": "bob" })).await;
        assert_eq!(me.into_json::<Value>().await.unwrap()["sub"], "bob");
        assert_eq!(client.send_backchannel_logout("bob").await, Status::Ok);
        let index = client.get("/").dispatch().await;
        assert_eq!(index.into_string().await.unwrap(), "nobody");
    }
}

#[test]
fn a_bearer_token_is_judged_claim_by_claim() {
    let (provider, client) = open(figment());
    let call = |change: Value| {
        let mut claims = json!({ "sub": "alice", "scope": "notes:read", "plan": "gold" });
        claims
            .as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        let response = client.get("/notes").bearer(claims).dispatch();
        let challenge = response.headers().get_one("WWW-Authenticate");
        let challenge = challenge.unwrap_or_default().to_owned();
        (response.status(), challenge, response.into_json::<Value>())
    };
    let (status, _, body) = call(json!({}));
    assert_eq!(status, Status::Ok);
    let body = body.unwrap();
    assert_eq!((&body["sub"], &body["client_id"]), (&json!("alice"), &json!("notes")));
    assert_eq!(body["claims"]["plan"], "gold");
    assert_eq!(body["claims"]["aud"], json!(["https://notes.example.com"]));

    let now = provider.clock().now().unix_timestamp();
    for (change, refused) in [
        (json!({ "aud": "https://other.example.com" }), "invalid_token"),
        (json!({ "exp": now - 61 }), "invalid_token"),
        (json!({ "iss": "https://other.example.com" }), "invalid_token"),
        (json!({ "scope": "notes:write" }), "insufficient_scope"),
    ] {
        let (status, challenge, _) = call(change.clone());
        assert!([401, 403].contains(&status.code), "{change}: {status}");
        assert!(challenge.contains(refused), "{change}: {challenge}");
    }
    assert_eq!(client.get("/notes").dispatch().status(), Status::Unauthorized);
}

#[test]
fn a_bearer_token_is_accepted_by_introspection_too() {
    let (provider, client) = open(figment().merge(("oidc.token_validation", "introspection")));
    let call = || {
        let claims = json!({ "sub": "alice", "scope": "notes:read", "plan": "gold" });
        client.get("/notes").bearer(claims).dispatch()
    };
    let body: Value = call().into_json().unwrap();
    assert_eq!(body["claims"]["plan"], "gold");
    assert_eq!(provider.requests_to(Endpoint::Introspection).len(), 1);
    provider.respond_with(Endpoint::Introspection, 503);
    assert_eq!(call().status(), Status::ServiceUnavailable);
}

/// The settings of the environment go before those of files, and the kit before both.
#[test]
#[allow(clippy::result_large_err, reason = "figment's own error")]
fn what_the_settings_say_of_a_provider_does_not_matter() {
    let _alone = ENVIRONMENT.blocking_write();
    rocket::figment::Jail::expect_with(|jail| {
        jail.set_env("OIDC_ISSUER", "https://elsewhere.example.com");
        jail.set_env("OIDC_ENABLED", "false");
        jail.set_env("OIDC_CLIENT_SECRET_FILE", "/no/such/file");
        jail.set_env("OIDC_TOKEN_ENDPOINT_AUTH_METHOD", "none");
        jail.set_env("OIDC_DEV_PROVIDER", "true");
        let (_, client) = open(figment());
        let me = client.sign_in("/me", json!({ "sub": "alice" }));
        assert_eq!(me.status(), Status::Ok);
        Ok(())
    });
}

/// Nodes share the key that they were given none of.
#[test]
fn a_session_of_one_node_is_one_of_the_other() {
    let provider = TestProvider::new();
    let nodes = [(); 2].map(|()| Client::tracked(provider.register(rocket())).unwrap());
    let [one, other] = &nodes;
    one.sign_in("/me", json!({ "sub": "alice" }));
    let mut request = other.get("/");
    for cookie in one.cookies().iter() {
        request = request.cookie(cookie.clone());
    }
    assert_eq!(request.dispatch().into_string().unwrap(), "alice");
}

#[test]
fn the_release_profile_is_tested_as_well() {
    let figment = figment().select(rocket::Config::RELEASE_PROFILE);
    let (_, client) = open(figment);
    let me = client.sign_in("/me", json!({ "sub": "alice" }));
    assert_eq!(me.status(), Status::Ok);
    let name = |cookie: &Cookie<'_>| cookie.name().starts_with("__Host-oidc_session_");
    assert!(client.cookies().iter().any(name));
    let me = client.get("/").signed_in_as(json!({ "sub": "bob" }));
    assert_eq!(me.dispatch().into_string().unwrap(), "bob");
}

#[test]
fn an_app_that_is_not_registered_is_told() {
    let figment = figment().merge(("oidc.enabled", false));
    let client = Client::untracked(rocket_with(figment)).unwrap();
    let expected = "the app is not registered: launch the `Rocket` that `TestProvider::register` returns";
    let panic = panic_of(|| drop(client.get("/").signed_in_as(json!({ "sub": "alice" }))));
    assert_eq!(panic, expected);
    let panic = panic_of(|| drop(client.get("/").bearer(json!({}))));
    assert_eq!(panic, expected);
}

/// What an app says of its real provider does not keep it from being tested.
#[test]
fn an_app_with_a_key_of_its_own_that_pushes_its_requests() {
    let figment = figment()
        .merge(("oidc.private_key_file", "/run/secrets/key.pem"))
        .merge(("oidc.token_endpoint_auth_method", "private_key_jwt"))
        .merge(("oidc.pushed_authorization_requests", true))
        .merge(("oidc.response_mode", "form_post"));
    let (_, client) = open(figment);
    let me = client.get("/me").signed_in_as(json!({ "sub": "alice" }));
    assert_eq!(me.dispatch().status(), Status::Ok);
}

/// Nor what a preset says of it: another client authentication, and the lack of PKCE.
#[test]
fn an_app_with_the_preset_of_a_peculiar_provider() {
    for preset in [
        json!({ "name": "apple", "team_id": "A1B2C3D4E5" }),
        json!("linkedin"),
        json!({ "name": "cognito", "user_pool": "eu-central-1_aBcDeFgHi" }),
        json!({ "name": "microsoft", "tenant": "common" }),
    ] {
        let figment = figment_without_issuer().merge(("oidc.provider", &preset));
        let (_, client) = open(figment);
        let me = client.get("/me").signed_in_as(json!({ "sub": "alice" }));
        assert_eq!(me.dispatch().status(), Status::Ok, "{preset}");
    }
}

/// A proof is for the method and the public URL of its request, and serves it once.
#[test]
fn a_request_proves_the_key_of_its_token() {
    for (settings, path) in [
        (json!({ "dpop_tokens": "accepted" }), "/notes"),
        (
            json!({ "dpop_tokens": "required", "dpop_nonces": true }),
            "/notes?page=2",
        ),
        (
            json!({ "dpop_tokens": "accepted", "base_url": "https://example.com/team", "proxy_strips_path": true }),
            "/notes",
        ),
    ] {
        let mut figment = figment();
        for (name, value) in settings.as_object().unwrap() {
            figment = figment.merge((format!("oidc.{name}"), value));
        }
        let (_, client) = open(figment);
        let alice = || json!({ "sub": "alice", "scope": "notes:read" });
        let status = |request: rocket::local::blocking::LocalRequest<'_>| request.dispatch().status();
        assert_eq!(status(client.get(path).dpop(alice())), Status::Ok, "{settings}");
        assert_eq!(status(client.get(path).dpop(alice())), Status::Ok, "{settings}");
        let mut other = alice();
        other["cnf"] = json!({ "jkt": "A".repeat(43) });
        assert_eq!(status(client.get(path).dpop(other.clone())), Status::Unauthorized);
        assert_eq!(status(client.get(path).bearer(other)), Status::Unauthorized);
    }
}

#[test]
fn an_app_that_accepts_no_bound_token_has_none_sent() {
    let (_, client) = open(figment());
    let panic = panic_of(|| drop(client.get("/notes").dpop(json!({ "sub": "alice" }))));
    let expected = "the app accepts no tokens that are bound to a key: set `oidc.dpop_tokens = \"accepted\"`";
    assert!(panic.starts_with(expected), "{panic}");
}
