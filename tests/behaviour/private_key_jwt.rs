//! OpenID Connect Core 1.0 §9, `private_key_jwt`: the client signs who it is.
//!
//! The tests are built with both back ends of jsonwebtoken, so that its process-wide choice would panic.

use std::time::Duration;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use rocket::{http::Status, serde::json::Value};

use crate::{
    common::{App, NOW, launch_failure, signed_in},
    support::{RecordedRequest, TestProvider},
};

/// A key of the client's own, in a file.
struct Client {
    key: Ed25519KeyPair,
    file: tempfile::NamedTempFile,
}

impl Client {
    fn new() -> Client {
        let key = Ed25519KeyPair::generate().unwrap();
        let pkcs8 = STANDARD.encode(key.to_pkcs8v1().unwrap());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{pkcs8}\n-----END PRIVATE KEY-----\n");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), pem).unwrap();
        Client { key, file }
    }

    fn app(&self, provider: &TestProvider) -> App {
        App::public(provider)
            .with("oidc.private_key_file", self.file.path())
            .with("oidc.private_key_id", "mine")
    }

    /// The claims of the request's assertion, which must be the request's only authentication.
    fn claims(&self, request: &RecordedRequest) -> Value {
        assert_eq!(request.header("authorization"), None);
        assert_eq!(request.form_value("client_secret"), None);
        assert_eq!(request.form_value("client_id"), Some("app"));
        assert_eq!(
            request.form_value("client_assertion_type"),
            Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
        );
        let assertion = request.form_value("client_assertion").unwrap();
        let (input, signature) = assertion.rsplit_once('.').unwrap();
        let (header, claims) = input.split_once('.').unwrap();
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
        let header: Value = serde_json::from_slice(&decode(header)).unwrap();
        assert_eq!(
            header,
            serde_json::json!({ "typ": "JWT", "alg": "EdDSA", "kid": "mine" })
        );
        UnparsedPublicKey::new(&ED25519, self.key.public_key().as_ref())
            .verify(input.as_bytes(), &decode(signature))
            .unwrap();
        serde_json::from_slice(&decode(claims)).unwrap()
    }
}

#[rocket::async_test]
async fn a_client_with_a_key_signs_in() {
    let (provider, client) = (TestProvider::start().await, Client::new());
    signed_in(&client.app(&provider), &provider).await;
    let mut claims = client.claims(&provider.last_request("/token"));
    let jti = claims.as_object_mut().unwrap().remove("jti").unwrap();
    assert_eq!(jti.as_str().unwrap().len(), 43);
    let issuer = provider.issuer();
    assert_eq!(
        claims,
        serde_json::json!({ "iss": "app", "sub": "app", "aud": issuer, "iat": NOW, "exp": NOW + 60 })
    );
}

#[rocket::async_test]
async fn each_request_has_an_assertion_of_its_own() {
    let (provider, client) = (TestProvider::start().await, Client::new());
    let app = client.app(&provider);
    let browser = signed_in(&app, &provider).await;
    let first = client.claims(&provider.last_request("/token"));
    app.advance(Duration::from_secs(3_590));
    browser.visit("/me").await.is(Status::Ok);
    let refresh = provider.last_request("/token");
    assert_eq!(refresh.form_value("grant_type"), Some("refresh_token"));
    let second = client.claims(&refresh);
    assert_ne!(first["jti"], second["jti"]);
    assert_eq!(second["iat"], NOW + 3_590);
}

#[rocket::async_test]
async fn the_audience_can_be_set() {
    for (audience, expected) in [
        (Some("endpoint"), None),
        (Some("https://other.example"), Some("https://other.example")),
    ] {
        let (provider, client) = (TestProvider::start().await, Client::new());
        let app = client.app(&provider).with("oidc.client_assertion_audience", audience);
        signed_in(&app, &provider).await;
        let claims = client.claims(&provider.last_request("/token"));
        let endpoint = format!("{}/token", provider.issuer());
        assert_eq!(claims["aud"], expected.unwrap_or(&endpoint));
    }
}

/// Keycloak takes no assertion for its revocation endpoint that names that endpoint.
#[rocket::async_test]
async fn tokens_are_revoked_with_the_issuer_as_audience() {
    let (provider, client) = (TestProvider::start().await, Client::new());
    let browser = signed_in(&client.app(&provider), &provider).await;
    browser.submit("/oidc/logout", "").await;
    provider.until_requested("/revoke", 1).await;
    let claims = client.claims(&provider.last_request("/revoke"));
    assert_eq!(claims["aud"], provider.issuer());
}

#[rocket::async_test]
async fn a_secret_goes_before_the_key_unless_the_method_is_set() {
    let (provider, client) = (TestProvider::start().await, Client::new());
    let app = client.app(&provider).with("oidc.client_secret", "hush");
    signed_in(&app, &provider).await;
    let request = provider.last_request("/token");
    assert_eq!(request.basic(), Some(("app".into(), "hush".into())));
    assert_eq!(request.form_value("client_assertion"), None);

    let app = app.with("oidc.token_endpoint_auth_method", "private_key_jwt");
    signed_in(&app, &provider).await;
    client.claims(&provider.last_request("/token"));
}

#[rocket::async_test]
async fn a_key_that_is_missing_or_none_stops_the_launch() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with("oidc.token_endpoint_auth_method", "private_key_jwt");
    let (_, log) = launch_failure(app.rocket()).await;
    assert!(
        log[0].contains("`private_key_jwt` needs a private key, and none is set"),
        "{log:?}"
    );

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "hush").unwrap();
    let app = App::public(&provider).with("oidc.private_key_file", file.path());
    let (_, log) = launch_failure(app.rocket()).await;
    let cause = "is not a usable private key: it is neither a private key in PEM (PKCS#8, or PKCS#1 for RSA) nor a JWK or a JWK Set";
    assert!(log[0].contains(cause), "{log:?}");
    assert!(!log.concat().contains("hush"), "{log:?}");

    let app = App::public(&provider).with("oidc.private_key_file", "/nowhere/key.pem");
    let (_, log) = launch_failure(app.rocket()).await;
    assert!(log[0].contains("there is no file `/nowhere/key.pem`"), "{log:?}");
}
