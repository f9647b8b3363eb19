//! The example as a visitor sees it.

use rocket::{
    http::{Accept, Status},
    local::blocking::{Client, LocalResponse},
};
use rocket_openidconnect::testing::{TestClient, TestProvider, TestRequest, assert_guarded};
use serde_json::{Value, json};

/// The app as `cargo run --example sign_in` has it, at a provider of the test.
fn app() -> Client {
    Client::tracked(TestProvider::new().register(super::rocket())).expect("the example launches")
}

fn visit<'c>(client: &'c Client, path: &'c str) -> LocalResponse<'c> {
    client.get(path).header(Accept::HTML).dispatch()
}

fn text(response: LocalResponse<'_>) -> String {
    assert_eq!(response.status(), Status::Ok);
    response.into_string().unwrap()
}

fn alice() -> Value {
    json!({ "sub": "alice", "name": "Alice Liddell", "email": "alice@example.com" })
}

#[test]
fn only_the_start_page_is_public() {
    assert_guarded(&app(), &["/"]);
}

#[test]
fn a_stranger_is_offered_to_sign_in() {
    let client = app();
    assert!(text(visit(&client, "/")).contains("Hello, stranger"));
    let profile = visit(&client, "/profile");
    assert_eq!(profile.status(), Status::SeeOther);
    assert_eq!(
        profile.headers().get_one("Location"),
        Some("/oidc/login?next=%2Fprofile")
    );
}

#[test]
fn alice_signs_in_sees_her_profile_and_signs_out() {
    let client = app();
    let page = text(client.sign_in("/profile", alice()));
    assert!(page.contains("Alice Liddell") && page.contains("alice@example.com"));
    assert!(text(visit(&client, "/")).contains("Hello, Alice Liddell"));

    assert!(text(client.sign_out("/")).contains("Hello, stranger"));
    assert!(text(visit(&client, "/")).contains("Hello, stranger"));
}

#[test]
fn what_the_provider_says_is_shown_as_text() {
    let name = "<script>alert(1)</script>";
    let client = app();
    let profile = client.get("/profile");
    let profile = profile.signed_in_as(json!({ "sub": "eve", "name": name }));
    let page = text(profile.dispatch());
    assert!(page.contains("&lt;script&gt;") && !page.contains("<script>"));
}

/// No provider at all, as with `OIDC_ENABLED=false`.
#[test]
fn without_a_provider_the_testing_profile_is_signed_in() {
    let rocket = super::rocket();
    let figment = rocket.figment().clone().merge(("oidc.enabled", false));
    let client = Client::tracked(rocket.configure(figment)).expect("the example launches");
    assert!(text(visit(&client, "/profile")).contains("Tess Ting"));

    client.post("/oidc/logout").dispatch();
    assert_eq!(visit(&client, "/profile").status(), Status::Unauthorized);
    assert!(text(visit(&client, "/")).contains("Hello, stranger"));

    let back = visit(&client, "/oidc/login?next=/profile");
    assert_eq!(back.headers().get_one("Location"), Some("/profile"));
    assert_eq!(visit(&client, "/profile").status(), Status::Ok);
}
