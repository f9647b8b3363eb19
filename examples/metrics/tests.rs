//! What Prometheus reads after people came and went.

use rocket::{
    http::{Accept, Status},
    local::asynchronous::Client,
};

async fn location(client: &Client, path: &str) -> String {
    let request = client.get(path.to_owned()).header(Accept::HTML);
    let response = request.dispatch().await;
    assert_eq!(response.status(), Status::SeeOther, "{path}");
    response.headers().get_one("Location").unwrap().to_owned()
}

/// Presses the button of alice at the development provider; answers the callback's address.
async fn sign_in_at_provider(authorization_request: &str) -> String {
    let http = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let page = http.get(authorization_request).send().await.unwrap();
    let page = page.text().await.unwrap();
    let field = page.split("name=\"request\"").nth(1).unwrap();
    let request = field.split('"').nth(1).unwrap();
    let origin = url::Url::parse(authorization_request).unwrap();
    let answer = http
        .post(origin.join("/authorize").unwrap())
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(format!("request={request}&user=alice"))
        .send()
        .await
        .unwrap();
    let callback = answer.headers()["location"].to_str().unwrap();
    let callback = url::Url::parse(callback).unwrap();
    format!("{}?{}", callback.path(), callback.query().unwrap())
}

/// One test: there is one recorder for the process.
#[rocket::async_test]
async fn prometheus_reads_what_happened() {
    let rocket = super::app(super::recorder());
    let figment = rocket
        .figment()
        .clone()
        .merge(("log_level", "off"))
        .merge(("oidc.dev_provider", serde_json::json!({ "port": 0 })));
    let client = Client::tracked(rocket.configure(figment)).await.unwrap();

    let login = location(&client, "/profile").await;
    let provider = location(&client, &login).await;
    let callback = sign_in_at_provider(&provider).await;
    assert_eq!(location(&client, &callback).await, "/profile");
    for _ in 0..3 {
        let profile = client.get("/profile").dispatch().await;
        assert_eq!(profile.status(), Status::Ok);
    }
    // A sign-out, and a response that belongs to no attempt.
    client.post("/oidc/logout").dispatch().await;
    let path = "/oidc/authorize?code=c&state=of-nobody";
    let refused = client.get(path).dispatch().await;
    assert_eq!(refused.status(), Status::BadRequest);

    let metrics = client.get("/metrics").dispatch().await;
    let metrics = metrics.into_string().await.unwrap();
    for line in [
        "# TYPE oidc_sign_ins_total counter",
        "# HELP oidc_sign_ins_total Sign-ins by outcome and provider",
        "oidc_sign_ins_total{outcome=\"signed_in\",provider=\"default\"} 1",
        "oidc_sign_ins_total{outcome=\"state_mismatch\",provider=\"default\"} 1",
        "oidc_sessions_ended_total{cause=\"sign_out\",provider=\"default\"} 1",
        "oidc_client_request_duration_seconds_count{endpoint=\"token\",outcome=\"2xx\",provider=\"default\"} 1",
        "oidc_cache_lookups_total{cache=\"sessions\",result=\"miss\"} 1",
        "oidc_cache_lookups_total{cache=\"sessions\",result=\"hit\"} 4",
        "oidc_insecure_settings{setting=\"dev_provider\"} 1",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line}\n{metrics}");
    }
    let gauge = "oidc_keys_fetched_timestamp_seconds{issuer=\"http://localhost:";
    assert!(metrics.contains(gauge), "{metrics}");
}
