//! RFC 9126: the authorization request goes to the provider first.

use rocket::{
    http::Status,
    serde::json::{Value, json},
};
use url::Url;

use crate::{
    common::App,
    support::{Reply, TestProvider},
};

const REQUEST_URI: &str = "urn:ietf:params:oauth:request_uri:6esc_11ACC5bwc014ltc14eY22c";

/// A provider with the endpoint.
async fn provider() -> TestProvider {
    let provider = TestProvider::start().await;
    let endpoint = format!("{}/par", provider.issuer());
    provider.metadata(|metadata| {
        metadata.insert("pushed_authorization_request_endpoint".into(), endpoint.into());
    });
    let reply = Reply::json(json!({ "request_uri": REQUEST_URI, "expires_in": 60 }));
    provider.on_path("/par", reply.with_status(201));
    provider
}

async fn login(provider: &TestProvider, settings: &[(&str, Value)]) -> (App, crate::support::Page) {
    let app = settings
        .iter()
        .fold(App::new(provider), |app, (key, value)| app.with(key, value));
    let page = app.open().await.visit("/oidc/login?next=/me").await;
    (app, page)
}

#[rocket::async_test]
async fn the_browser_carries_a_reference_alone() {
    let provider = provider().await;
    let (_, page) = login(&provider, &[("oidc.pushed_authorization_requests", json!(true))]).await;
    let url = Url::parse(page.location.as_deref().unwrap()).unwrap();
    let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    assert_eq!(
        pairs,
        [
            ("client_id".to_owned(), "app".to_owned()),
            ("request_uri".to_owned(), REQUEST_URI.to_owned()),
        ]
    );

    let pushed = provider.last_request("/par");
    assert_eq!(pushed.method, "POST");
    assert_eq!(pushed.basic(), Some(("app".into(), "hush".into())));
    let mut names: Vec<_> = pushed.form.iter().map(|(name, _)| &**name).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "client_id",
            "code_challenge",
            "code_challenge_method",
            "nonce",
            "redirect_uri",
            "response_type",
            "scope",
            "state",
        ]
    );
}

#[rocket::async_test]
async fn the_client_is_named_once_whatever_the_method() {
    for method in ["client_secret_post", "client_secret_basic", "none"] {
        let provider = provider().await;
        let settings = [
            ("oidc.pushed_authorization_requests", json!(true)),
            ("oidc.token_endpoint_auth_method", json!(method)),
        ];
        login(&provider, &settings).await;
        let pushed = provider.last_request("/par");
        let ids = pushed.form.iter().filter(|(name, _)| name == "client_id");
        assert_eq!(ids.count(), 1, "{method}");
    }
}

#[rocket::async_test]
async fn a_provider_that_requires_it_needs_no_setting() {
    let provider = provider().await;
    provider.metadata(|metadata| {
        metadata.insert("require_pushed_authorization_requests".into(), true.into());
    });
    let (_, page) = login(&provider, &[]).await;
    assert!(page.location.unwrap().contains("request_uri="));
}

#[rocket::async_test]
async fn without_the_setting_nothing_is_pushed() {
    let provider = provider().await;
    let (_, page) = login(&provider, &[]).await;
    assert!(page.location.unwrap().contains("code_challenge="));
    assert!(!provider.requests().iter().any(|r| r.path == "/par"));
}

#[rocket::async_test]
async fn a_wrong_reply_of_the_endpoint_is_an_error_page() {
    let name = "pushed authorization request endpoint";
    for (reply, status, failure) in [
        (
            Reply::error(400, "invalid_request", "no PKCE"),
            Status::BadGateway,
            format!("the provider's {name} rejected the request with `invalid_request`: no PKCE"),
        ),
        (
            Reply::json(json!({ "expires_in": 60 })),
            Status::BadGateway,
            format!("the provider's {name} sent an invalid response: it has no `request_uri`"),
        ),
        (
            Reply::text("text/html", "<html>").with_status(201),
            Status::BadGateway,
            format!("the provider's {name} sent an invalid response: it has no `request_uri`"),
        ),
        (
            Reply::status(500),
            Status::ServiceUnavailable,
            format!("the provider's {name} responded with status 500"),
        ),
    ] {
        let provider = provider().await;
        provider.on_path("/par", reply);
        let settings = [("oidc.pushed_authorization_requests", json!(true))];
        let (app, page) = login(&provider, &settings).await;
        page.is(status);
        assert_eq!(app.failures(), [failure]);
    }
}

#[rocket::async_test]
async fn a_provider_without_the_endpoint_is_named() {
    let provider = TestProvider::start().await;
    let settings = [("oidc.pushed_authorization_requests", json!(true))];
    let (app, page) = login(&provider, &settings).await;
    page.is(Status::BadGateway);
    assert_eq!(
        app.failures(),
        [
            "the member `pushed_authorization_request_endpoint` of the provider's metadata is missing, \
             expected an absolute address"
        ]
    );
}

/// Status 500 may be about what a stranger put into this request: the next person signs in.
#[rocket::async_test]
async fn a_pushed_request_that_fails_blocks_no_other_sign_in() {
    let provider = provider().await;
    let app = App::new(&provider).with("oidc.pushed_authorization_requests", true);
    let browser = app.open().await;
    let good = Reply::json(json!({ "request_uri": REQUEST_URI, "expires_in": 60 }));
    for (status, refused) in [(500, false), (503, true)] {
        provider.on_path("/par", Reply::status(status));
        for n in 0..20 {
            let issuer = provider.issuer();
            let begin = format!("/oidc/initiate-login?iss={issuer}&login_hint=%00{n}");
            let page = browser.another().arrive_from_provider(&begin).await;
            page.is(Status::ServiceUnavailable);
        }
        provider.on_path("/par", good.clone().with_status(201));
        let page = browser.visit("/oidc/login?next=/me").await;
        assert_eq!(page.status == 503, refused, "{status}: {page:#?}");
    }
    assert_eq!(provider.count("/par"), 20 + 1 + 5);
}
