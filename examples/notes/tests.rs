//! The reference application, at a provider of the test; at a certified one it is tested in `tests/interop`.

use rocket::{
    Config,
    http::{Accept, Status},
    local::blocking::{Client, LocalRequest},
    serde::json::{Value, json},
};
use rocket_openidconnect::testing::{TestProvider, TestRequest, assert_guarded};

fn app() -> Client {
    at(&TestProvider::new())
}

fn at(provider: &TestProvider) -> Client {
    let figment = super::figment().select(Config::DEBUG_PROFILE);
    Client::untracked(provider.register(super::app(figment))).expect("the example launches")
}

fn status(request: LocalRequest<'_>) -> Status {
    request.dispatch().status()
}

fn json_of(request: LocalRequest<'_>) -> Value {
    let response = request.dispatch();
    assert!(
        response.status().class().is_success(),
        "{}",
        response.status()
    );
    response.into_json().unwrap()
}

#[test]
fn only_these_are_public() {
    assert_guarded(&app(), &["/", "/health"]);
}

#[test]
fn an_admin_sees_everything() {
    let ann =
        json!({ "sub": "ann", "name": "Ann", "email": "ann@example.com", "groups": ["admin"] });
    let client = app();
    let me = client.get("/me").signed_in_as(ann.clone()).dispatch();
    assert_eq!(me.headers().get_one("Cache-Control"), Some("no-store"));
    let me: Value = me.into_json().unwrap();
    for name in ["sub", "name", "email"] {
        assert_eq!(me[name], ann[name]);
    }
    assert_eq!(me["claims"]["groups"], ann["groups"]);
    assert_eq!(
        json_of(client.get("/admin").signed_in_as(ann)),
        json!({ "sub": "ann", "groups": ["admin"] })
    );
}

#[test]
fn who_is_no_admin_is_refused() {
    let bea = json!({ "sub": "bea", "groups": ["users"] });
    let client = app();
    let me = client.get("/me").signed_in_as(bea.clone());
    assert_eq!(status(me), Status::Ok);
    let admin = client.get("/admin").signed_in_as(bea);
    assert_eq!(status(admin), Status::Forbidden);
}

#[test]
fn a_stranger_is_sent_to_sign_in() {
    let client = app();
    let index = client.get("/").dispatch();
    assert_eq!(index.headers().get_one("Cache-Control"), None);
    let page = index.into_string().unwrap();
    assert!(page.contains("Nobody is signed in"));
    let me = client.get("/me").header(Accept::HTML);
    assert_eq!(status(me), Status::SeeOther);
    assert_eq!(status(client.get("/me")), Status::Unauthorized);
}

/// The provider is down: the app starts, and answers all that needs no sign-in.
#[test]
fn health_does_not_need_the_provider() {
    let provider = TestProvider::new();
    provider.go_down();
    let client = at(&provider);
    assert_eq!(status(client.get("/health")), Status::Ok);
    assert_eq!(status(client.get("/me")), Status::Unauthorized);
    let login = client.get("/oidc/login").dispatch();
    assert_eq!(login.status(), Status::ServiceUnavailable);
    assert_eq!(login.headers().get_one("Retry-After"), Some("1"));
}

#[test]
fn notes_are_kept_by_author() {
    let client = app();
    let ann = json!({ "sub": "ann", "scope": "notes:read notes:write" });
    let note = json!({ "text": "Buy milk" });
    let add = client.post("/api/notes").json(&note).bearer(ann.clone());
    assert_eq!(status(add), Status::Created);
    let author = format!("{} ann", TestProvider::ISSUER);
    assert_eq!(
        json_of(client.get("/api/notes").bearer(ann)),
        json!([{ "author": author, "text": "Buy milk" }])
    );
    let bea = json!({ "sub": "bea", "scope": "notes:read" });
    assert_eq!(json_of(client.get("/api/notes").bearer(bea)), json!([]));
}

#[test]
fn the_api_refuses_a_token_without_the_scope() {
    let client = app();
    let bea = json!({ "sub": "bea", "scope": "notes:read" });
    let note = json!({ "text": "Buy milk" });
    let add = client.post("/api/notes").json(&note).bearer(bea).dispatch();
    assert_eq!(add.status(), Status::Forbidden);
    let challenge = add.headers().get_one("WWW-Authenticate").unwrap();
    assert!(
        challenge.starts_with(
            "Bearer realm=\"api\", error=\"insufficient_scope\", \
             error_description=\"the token does not allow this\", scope=\"notes:write\""
        ),
        "{challenge}"
    );
}

#[test]
fn either_is_for_people_and_for_tokens() {
    let client = app();
    let whoami = json!({ "sub": "ann", "client_id": "robot", "scope": "notes:read" });
    assert_eq!(
        json_of(client.get("/api/whoami").bearer(whoami.clone())),
        whoami
    );
    assert_eq!(
        json_of(client.get("/api/either").bearer(whoami)),
        json!({ "kind": "bearer", "sub": "ann" })
    );
    let ann = json!({ "sub": "ann" });
    assert_eq!(
        json_of(client.get("/api/either").signed_in_as(ann)),
        json!({ "kind": "user", "sub": "ann" })
    );
    assert_eq!(status(client.get("/api/either")), Status::Unauthorized);
}

/// Without any provider, the testing profile's `scope` stands for a token.
#[test]
fn the_api_serves_the_testing_profile() {
    let figment = super::figment()
        .select(Config::DEBUG_PROFILE)
        .merge(("oidc.enabled", false))
        .merge((
            "oidc.testing_profile",
            json!({ "sub": "ann", "scope": "notes:read" }),
        ));
    let client = Client::untracked(super::app(figment)).expect("the example launches");
    assert_eq!(
        json_of(client.get("/api/whoami")),
        json!({ "sub": "ann", "client_id": null, "scope": "notes:read" })
    );
    assert_eq!(json_of(client.get("/api/notes")), json!([]));
    let note = json!({ "text": "Buy milk" });
    let add = client.post("/api/notes").json(&note);
    assert_eq!(status(add), Status::Forbidden);
}
