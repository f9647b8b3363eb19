//! The example as a visitor sees it.

use std::time::Duration;

use rocket::{
    http::{Accept, ContentType, Status},
    local::blocking::{Client, LocalResponse},
    serde::json::{Value, json},
};
use rocket_openidconnect::testing::{TestClient, TestProvider, assert_guarded};

fn app() -> (TestProvider, Client) {
    let provider = TestProvider::new();
    let client = Client::tracked(provider.register(super::rocket())).expect("the example launches");
    (provider, client)
}

fn visit<'c>(client: &'c Client, path: &'c str) -> LocalResponse<'c> {
    client.get(path).header(Accept::HTML).dispatch()
}

fn location(response: &LocalResponse<'_>) -> String {
    response.headers().get_one("Location").unwrap_or_default().to_owned()
}

fn transfer(client: &Client) -> LocalResponse<'_> {
    client
        .post("/transfer")
        .header(ContentType::Form)
        .body("amount=7")
        .dispatch()
}

#[test]
fn only_the_start_page_and_the_change_of_account_are_public() {
    assert_guarded(&app().1, &["/", "/other-account"]);
}

/// The provider is asked for the second factor, and the user comes back to the page.
#[test]
fn a_user_with_one_factor_is_asked_for_the_second() {
    let (_, client) = app();
    let page = client.sign_in("/oidc/login?next=/", json!({ "sub": "alice" }));
    assert_eq!(page.status(), Status::Ok);
    let page = visit(&client, "/accounts");
    assert_eq!(page.status(), Status::SeeOther);
    let request = location(&visit(&client, &location(&page)));
    assert!(request.contains("acr_values=two-factor+hardware-key"), "{request}");
    assert_eq!(
        client.sign_in("/accounts", json!({ "sub": "alice" })).status(),
        Status::Ok
    );
}

#[test]
fn a_transfer_needs_an_authentication_of_the_last_minutes() {
    let (provider, client) = app();
    assert_eq!(
        client.sign_in("/transfer", json!({ "sub": "alice" })).status(),
        Status::Ok
    );
    assert_eq!(transfer(&client).into_string().unwrap(), "alice transferred 7");

    provider.clock().advance(Duration::from_secs(10 * 60));
    let late = transfer(&client);
    assert_eq!(late.status(), Status::Unauthorized);
    assert_eq!(
        late.headers().get_one("WWW-Authenticate"),
        Some(
            "Bearer error=\"insufficient_user_authentication\", acr_values=\"two-factor hardware-key\", max_age=\"300\""
        )
    );
    let body: Value = late.into_json().unwrap();
    assert_eq!(body["error"], "authenticate_again");
    assert_eq!(
        body["demanded"],
        json!({ "max_age": 300, "acr_values": ["two-factor", "hardware-key"] })
    );
    // The accounts do not need it.
    assert_eq!(visit(&client, "/accounts").status(), Status::Ok);

    let request = location(&visit(&client, body["url"].as_str().unwrap()));
    assert!(request.contains("max_age=300"), "{request}");
    assert_eq!(
        client.sign_in("/transfer", json!({ "sub": "alice" })).status(),
        Status::Ok
    );
    assert_eq!(transfer(&client).into_string().unwrap(), "alice transferred 7");
}

#[test]
fn the_provider_is_asked_for_another_account() {
    let (_, client) = app();
    let login = location(&client.get("/other-account").dispatch());
    let request = location(&visit(&client, &login));
    assert!(request.contains("prompt=select_account"), "{request}");
}
