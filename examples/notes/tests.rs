//! The reference application without a provider; with one it is tested in `tests/interop`.

use rocket::{
    figment::Figment,
    http::{Accept, Status},
    local::asynchronous::Client,
    serde::json::{Value, json},
};

async fn app(testing_profile: Value) -> Client {
    let figment = super::figment()
        .select(rocket::Config::DEBUG_PROFILE)
        .merge(("oidc.enabled", false))
        .merge(("oidc.testing_profile", testing_profile));
    client(figment).await
}

async fn client(figment: Figment) -> Client {
    Client::tracked(super::app(figment))
        .await
        .expect("the example launches")
}

#[rocket::async_test]
async fn an_admin_sees_everything() {
    let profile =
        json!({ "sub": "ann", "name": "Ann", "email": "ann@example.com", "groups": ["admin"] });
    let client = app(profile.clone()).await;
    assert_eq!(
        client
            .get("/health")
            .dispatch()
            .await
            .into_string()
            .await
            .unwrap(),
        "ok"
    );

    let me = client.get("/me").dispatch().await;
    assert_eq!(me.headers().get_one("Cache-Control"), Some("no-store"));
    assert_eq!(
        me.into_json::<Value>().await.unwrap(),
        json!({ "sub": "ann", "name": "Ann", "email": "ann@example.com", "claims": profile })
    );
    let admin = client.get("/admin").dispatch().await;
    assert_eq!(
        admin.into_json::<Value>().await.unwrap(),
        json!({ "sub": "ann", "groups": ["admin"] })
    );
}

#[rocket::async_test]
async fn who_is_no_admin_is_refused() {
    let client = app(json!({ "sub": "bea", "groups": ["users"] })).await;
    assert_eq!(client.get("/me").dispatch().await.status(), Status::Ok);
    assert_eq!(
        client.get("/admin").dispatch().await.status(),
        Status::Forbidden
    );
}

#[rocket::async_test]
async fn without_a_profile_nobody_is_signed_in() {
    let client = app(json!({})).await;
    let index = client.get("/").dispatch().await;
    assert_eq!(index.headers().get_one("Cache-Control"), None);
    assert!(
        index
            .into_string()
            .await
            .unwrap()
            .contains("Nobody is signed in")
    );
    let me = client.get("/me").header(Accept::HTML).dispatch().await;
    assert_eq!(me.status(), Status::Unauthorized);
}

/// The provider is down: the app starts, and answers all that needs no sign-in.
#[rocket::async_test]
async fn health_does_not_need_the_provider() {
    let figment = super::figment()
        .select(rocket::Config::DEBUG_PROFILE)
        .merge(("oidc.issuer", "http://127.0.0.1:1"))
        .merge(("oidc.client_id", "notes"));
    let client = client(figment).await;
    assert_eq!(client.get("/health").dispatch().await.status(), Status::Ok);
    assert_eq!(
        client.get("/me").dispatch().await.status(),
        Status::Unauthorized
    );
    let login = client.get("/oidc/login").dispatch().await;
    assert_eq!(login.status(), Status::ServiceUnavailable);
    assert!(login.headers().get_one("Retry-After").is_some());
}

/// Without a provider, the testing profile's `scope` stands for a token.
#[rocket::async_test]
async fn the_api_serves_the_testing_profile() {
    let client = app(json!({ "sub": "ann", "scope": "notes:read notes:write" })).await;
    let whoami = client.get("/api/whoami").dispatch().await;
    assert_eq!(
        whoami.into_json::<Value>().await.unwrap(),
        json!({ "sub": "ann", "client_id": null, "scope": "notes:read notes:write" })
    );
    let note = json!({ "text": "Buy milk" });
    let added = client.post("/api/notes").json(&note).dispatch().await;
    assert_eq!(added.status(), Status::Created);
    let author = "urn:rocket_openidconnect:testing_profile ann";
    assert_eq!(
        client
            .get("/api/notes")
            .dispatch()
            .await
            .into_json::<Value>()
            .await
            .unwrap(),
        json!([{ "author": author, "text": "Buy milk" }])
    );
    let either = client.get("/api/either").dispatch().await;
    assert_eq!(
        either.into_json::<Value>().await.unwrap(),
        json!({ "kind": "user", "sub": "ann" })
    );
}

#[rocket::async_test]
async fn the_api_refuses_a_profile_without_the_scope() {
    let client = app(json!({ "sub": "bea", "scope": "notes:read" })).await;
    let note = json!({ "text": "Buy milk" });
    let added = client.post("/api/notes").json(&note).dispatch().await;
    assert_eq!(added.status(), Status::Forbidden);
    assert_eq!(
        added.headers().get_one("WWW-Authenticate"),
        Some(
            "Bearer realm=\"api\", error=\"insufficient_scope\", \
             error_description=\"the token does not allow this\", scope=\"notes:write\""
        )
    );
}
