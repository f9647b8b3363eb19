//! The example as `curl` sees it.

use rocket::{
    http::{Header, Status},
    local::asynchronous::Client,
};

/// The example, and a token of its development provider.
async fn app_and_token(scope: &str) -> (Client, String) {
    let rocket = super::rocket();
    let figment = rocket
        .figment()
        .clone()
        .merge(("oidc.dev_provider", serde_json::json!({ "port": 0 })));
    let client = Client::untracked(rocket.configure(figment))
        .await
        .expect("the example launches");

    let metadata = client
        .get("/.well-known/oauth-protected-resource")
        .dispatch()
        .await
        .into_json::<serde_json::Value>()
        .await
        .unwrap();
    let provider = metadata["authorization_servers"][0].as_str().unwrap();
    let reply = reqwest::Client::new()
        .post(format!("{provider}/token"))
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(format!(
            "grant_type=client_credentials&scope={scope}&client_id=dev-cli&client_secret=dev-cli"
        ))
        .send()
        .await
        .unwrap();
    let reply: serde_json::Value = serde_json::from_str(&reply.text().await.unwrap()).unwrap();
    (client, reply["access_token"].as_str().unwrap().to_owned())
}

async fn call(client: &Client, token: Option<&str>) -> (Status, Option<String>, String) {
    let mut request = client.get("/notes");
    if let Some(token) = token {
        request.add_header(Header::new("Authorization", format!("Bearer {token}")));
    }
    let response = request.dispatch().await;
    let challenge = response.headers().get_one("WWW-Authenticate");
    let challenge = challenge.map(str::to_owned);
    (
        response.status(),
        challenge,
        response.into_string().await.unwrap_or_default(),
    )
}

#[rocket::async_test]
async fn a_token_with_the_scope_is_answered() {
    let (client, token) = app_and_token("notes:read").await;
    assert_eq!(
        call(&client, Some(&token)).await,
        (Status::Ok, None, "Dear dev-cli: buy milk.\n".to_owned())
    );
}

#[rocket::async_test]
async fn others_are_told_what_is_missing() {
    let (client, token) = app_and_token("notes:write").await;
    let metadata =
        "resource_metadata=\"http://localhost:8000/.well-known/oauth-protected-resource\"";
    let (status, challenge, _) = call(&client, None).await;
    assert_eq!(
        (status, challenge),
        (
            Status::Unauthorized,
            Some(format!("Bearer realm=\"api\", {metadata}"))
        )
    );
    let (status, challenge, _) = call(&client, Some(&token)).await;
    assert_eq!(
        (status, challenge),
        (
            Status::Forbidden,
            Some(format!(
                "Bearer realm=\"api\", error=\"insufficient_scope\", \
                 error_description=\"the token does not allow this\", scope=\"notes:read\", {metadata}"
            ))
        )
    );
}
