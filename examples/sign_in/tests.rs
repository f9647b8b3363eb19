//! The example as a visitor sees it.

use rocket::{
    figment::Figment,
    http::{Accept, Status},
    local::asynchronous::Client,
};

/// The app as `cargo run --example sign_in` has it, with a change to its settings.
async fn app(change: impl FnOnce(Figment) -> Figment) -> Client {
    let rocket = super::rocket();
    let figment = change(rocket.figment().clone());
    Client::tracked(rocket.configure(figment))
        .await
        .expect("the example launches")
}

/// On a development provider with a port of its own.
async fn app_with_provider() -> Client {
    app(|figment| figment.merge(("oidc.dev_provider", serde_json::json!({ "port": 0 })))).await
}

async fn visit(client: &Client, path: &str) -> (Status, Option<String>, String) {
    let response = client
        .get(path.to_owned())
        .header(Accept::HTML)
        .dispatch()
        .await;
    let location = response.headers().get_one("Location").map(str::to_owned);
    (
        response.status(),
        location,
        response.into_string().await.unwrap_or_default(),
    )
}

/// Follows the button at the development provider for a user, and yields the callback's address.
async fn sign_in_at_provider(authorization_request: &str, user: &str) -> String {
    let http = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let page = http
        .get(authorization_request)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let request = hidden_field(&page, "request");
    let origin = url::Url::parse(authorization_request).unwrap();
    let answer = http
        .post(origin.join("/authorize").unwrap())
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(format!("request={request}&user={user}"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 303);
    let callback = answer.headers()["location"].to_str().unwrap();
    let callback = url::Url::parse(callback).unwrap();
    format!("{}?{}", callback.path(), callback.query().unwrap())
}

fn hidden_field(page: &str, name: &str) -> String {
    let start = page
        .find(&format!("name=\"{name}\""))
        .expect("the field is there");
    let value = page[start..].split("value=\"").nth(1).unwrap();
    value.split('"').next().unwrap().to_owned()
}

#[rocket::async_test]
async fn a_stranger_is_offered_to_sign_in() {
    let client = app_with_provider().await;
    let (status, _, page) = visit(&client, "/").await;
    assert_eq!(status, Status::Ok);
    assert!(page.contains("Hello, stranger"));
}

#[rocket::async_test]
async fn alice_signs_in_sees_her_profile_and_signs_out() {
    let client = app_with_provider().await;

    let (status, login, _) = visit(&client, "/profile").await;
    assert_eq!(
        (status, login.as_deref()),
        (Status::SeeOther, Some("/oidc/login?next=%2Fprofile"))
    );
    let (status, provider, _) = visit(&client, &login.unwrap()).await;
    assert_eq!(status, Status::SeeOther);
    let callback = sign_in_at_provider(&provider.unwrap(), "alice").await;
    let (status, back, _) = visit(&client, &callback).await;
    assert_eq!(
        (status, back.as_deref()),
        (Status::SeeOther, Some("/profile"))
    );

    let (status, _, page) = visit(&client, "/profile").await;
    assert_eq!(status, Status::Ok);
    assert!(page.contains("Alice Liddell") && page.contains("alice@example.com"));

    let response = client.post("/oidc/logout?next=/").dispatch().await;
    assert_eq!(response.status(), Status::SeeOther);
    let (_, _, page) = visit(&client, "/").await;
    assert!(page.contains("Hello, stranger"));
}

#[rocket::async_test]
async fn without_a_provider_the_testing_profile_is_signed_in() {
    let client = app(|figment| figment.merge(("oidc.enabled", false))).await;
    let (status, _, page) = visit(&client, "/profile").await;
    assert_eq!(status, Status::Ok);
    assert!(page.contains("Tess Ting"));

    client.post("/oidc/logout").dispatch().await;
    assert_eq!(visit(&client, "/profile").await.0, Status::Unauthorized);
    assert!(visit(&client, "/").await.2.contains("Hello, stranger"));

    let (status, back, _) = visit(&client, "/oidc/login?next=/profile").await;
    assert_eq!(
        (status, back.as_deref()),
        (Status::SeeOther, Some("/profile"))
    );
    assert_eq!(visit(&client, "/profile").await.0, Status::Ok);
}
