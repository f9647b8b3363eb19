//! The setting `profile`: FAPI 2.0 and OAuth 2.1, and what each turns on and demands.

use aws_lc_rs::{
    encoding::AsDer,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use rocket::{
    get,
    http::Status,
    routes,
    serde::json::{Value, json},
};
use rocket_openidconnect::{Bearer, scopes};
use url::Url;

use crate::{
    common::{App, Log, launch_failure, signed_in},
    support::{Browser, Page, SigningKey, TestProvider},
};

scopes! { Read = "read"; }

/// A provider that meets FAPI 2.0.
async fn provider() -> TestProvider {
    let provider = TestProvider::start().await;
    let endpoint = format!("{}/par", provider.issuer());
    provider.metadata(|metadata| {
        for (member, value) in [
            ("pushed_authorization_request_endpoint", json!(endpoint)),
            ("authorization_response_iss_parameter_supported", json!(true)),
            ("token_endpoint_auth_methods_supported", json!(["private_key_jwt"])),
            ("id_token_signing_alg_values_supported", json!(["ES256"])),
            ("code_challenge_methods_supported", json!(["S256"])),
            ("dpop_signing_alg_values_supported", json!(["ES256"])),
        ] {
            metadata.insert(member.into(), value);
        }
    });
    provider.on_id_token(|id_token| id_token.sign_with(SigningKey::Ec));
    provider
}

/// A private key in a file.
fn key_file(pkcs8: &[u8]) -> tempfile::NamedTempFile {
    let pkcs8 = STANDARD.encode(pkcs8);
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{pkcs8}\n-----END PRIVATE KEY-----\n");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pem).unwrap();
    file
}

fn ed25519() -> tempfile::NamedTempFile {
    let key = Ed25519KeyPair::generate().unwrap();
    key_file(key.to_pkcs8v1().unwrap().as_ref())
}

/// An app with the profile, a client key, and nothing else.
fn app(provider: &TestProvider, key: &tempfile::NamedTempFile) -> App {
    App::public(provider)
        .with("oidc.profile", "fapi2")
        .with("oidc.private_key_file", key.path())
}

/// The failure of a launch: its first line, and its remedy.
async fn failure(app: &App) -> [String; 2] {
    let (_, lines) = launch_failure(app.rocket()).await;
    [lines[0].clone(), lines[1].clone()]
}

fn pairs(page: &Page) -> Vec<String> {
    let url = Url::parse(page.location.as_deref().unwrap()).unwrap();
    url.query_pairs().map(|(name, _)| name.into_owned()).collect()
}

#[rocket::async_test]
async fn a_sign_in_by_fapi_2_0() {
    let (provider, key) = (provider().await, ed25519());
    let app = app(&provider, &key);
    let browser = app.open().await;
    let begun = browser.visit("/oidc/login?next=/me").await;
    // §5.3.3.2: the browser carries these alone.
    assert_eq!(pairs(&begun), ["client_id", "request_uri"]);
    let page = browser.follow(&provider, begun).await;
    page.is(Status::Ok).sees("alice");

    let (pushed, token) = (provider.last_request("/par"), provider.last_request("/token"));
    assert_eq!(pushed.form_value("code_challenge_method"), Some("S256"));
    assert_eq!(pushed.form_value("nonce").map(str::len), Some(43));
    for request in [pushed, token] {
        assert_eq!(request.header("authorization"), None);
        let assertion = request.form_value("client_assertion").unwrap();
        let claims = assertion.split('.').nth(1).unwrap();
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        assert_eq!(claims["aud"], json!(provider.issuer()));
    }
}

#[rocket::async_test]
async fn an_id_token_by_another_algorithm_is_rejected() {
    let (provider, key) = (provider().await, ed25519());
    let listed = json!(["ES256", "RS256"]);
    provider.metadata(|metadata| {
        metadata.insert("id_token_signing_alg_values_supported".into(), listed);
    });
    provider.on_id_token(|id_token| id_token.sign_with(SigningKey::Rsa));
    let app = app(&provider, &key);
    let page = app.open().await.sign_in(&provider, "/me").await;
    assert_eq!(page.status, 502);
    assert_eq!(
        app.failures(),
        ["the ID token is rejected: the token is signed with RS256, expected PS256, ES256, EdDSA"]
    );
}

/// Each setting that contradicts the profile, alone.
#[rocket::async_test]
async fn settings_that_contradict_fapi_2_0_abort_the_launch() {
    let (provider, key) = (provider().await, ed25519());
    let metadata_url = format!("{}/metadata", provider.issuer());
    for (key_of_error, settings, cause) in [
        (
            "pushed_authorization_requests",
            json!({ "pushed_authorization_requests": false }),
            "authorization requests are not pushed",
        ),
        (
            "token_endpoint_auth_method",
            json!({ "client_secret": "hush" }),
            "the client authenticates neither by a key nor by a certificate",
        ),
        (
            "token_endpoint_auth_method",
            json!({ "client_secret": "hush", "token_endpoint_auth_method": "client_secret_basic" }),
            "the client authenticates neither by a key nor by a certificate",
        ),
        (
            "token_endpoint_auth_method",
            json!({ "private_key_file": null }),
            "the client authenticates neither by a key nor by a certificate",
        ),
        (
            "client_assertion_audience",
            json!({ "client_assertion_audience": "endpoint" }),
            "client assertions name `endpoint`",
        ),
        (
            "id_token_signing_algs",
            json!({ "id_token_signing_algs": "PS256 RS256 PS384" }),
            "it has `RS256` and `PS384`",
        ),
        (
            "access_token_signing_algs",
            json!({ "access_token_signing_algs": ["RS256"] }),
            "it has `RS256`",
        ),
        (
            "dpop_tokens",
            json!({ "dpop_tokens": "accepted", "require_bound_tokens": false }),
            "a stolen bearer token works for the thief",
        ),
        (
            "dpop",
            json!({ "dpop": "auto" }),
            "bearer tokens are accepted from the provider",
        ),
        (
            "silent",
            json!({ "silent": true }),
            "a link of another site can begin a silent sign-in",
        ),
        (
            "server_metadata_url",
            json!({ "server_metadata_url": metadata_url }),
            "the endpoints are not those of the metadata at one issuer",
        ),
        (
            "introspection_auth_method",
            json!({ "introspection_auth_method": "bearer" }),
            "a sender-constrained token is sent without its key",
        ),
        (
            "insecure_accept_missing_nonce",
            json!({ "insecure_accept_missing_nonce": true }),
            "the setting weakens a check",
        ),
        (
            "insecure_omit_pkce",
            json!({ "insecure_omit_pkce": true }),
            "the setting weakens a check",
        ),
        (
            "insecure_http_hosts",
            json!({ "insecure_http_hosts": ["op.example"] }),
            "the setting weakens a check",
        ),
    ] {
        let [line, remedy] = failure(&app(&provider, &key).with_all(settings.clone())).await;
        let expected = format!("the profile `fapi2` does not allow it: {cause}");
        assert!(line.contains(&expected), "{settings}: {line}");
        assert!(line.contains(&format!("oidc.{key_of_error}")), "{settings}: {line}");
        assert!(remedy.len() > 10, "{settings}: {remedy}");
    }
    assert_eq!(provider.requests().len(), 0);
}

#[rocket::async_test]
async fn a_key_that_signs_by_another_algorithm_aborts_the_launch() {
    let provider = provider().await;
    let rsa = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let rsa = key_file(
        AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&rsa)
            .unwrap()
            .as_ref(),
    );
    let [line, remedy] = failure(&app(&provider, &rsa)).await;
    assert!(line.ends_with("the key signs with RS256"), "{line}");
    assert!(
        remedy.ends_with("use a P-256 or Ed25519 key, or for RSA a JWK with `\"alg\": \"PS256\"`"),
        "{remedy}"
    );
    let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let ec = key_file(ec.to_pkcs8v1().unwrap().as_ref());
    signed_in(&app(&provider, &ec), &provider).await;
}

/// Outside the debug profile, http on loopback is no exception.
#[rocket::async_test]
async fn the_issuer_is_https_in_a_release() {
    let (provider, key) = (provider().await, ed25519());
    let app = App::released(&provider)
        .with_all(json!({ "client_secret": null, "profile": "fapi2" }))
        .with("oidc.private_key_file", key.path());
    let [line, _] = failure(&app).await;
    let expected = format!(
        "the profile `fapi2` does not allow it: `{}` is not https",
        provider.issuer()
    );
    assert!(line.ends_with(&expected), "{line}");
}

/// Each member that the metadata lacks, alone.
#[rocket::async_test]
async fn metadata_that_lacks_something_aborts_the_launch() {
    let key = ed25519();
    for (member, value, expected) in [
        (
            "pushed_authorization_request_endpoint",
            Value::Null,
            "be there (FAPI 2.0 §5.3.2.2, 2)",
        ),
        (
            "authorization_response_iss_parameter_supported",
            json!(false),
            "be `true` (FAPI 2.0 §5.3.2.2, 7)",
        ),
        (
            "token_endpoint_auth_methods_supported",
            json!(["client_secret_basic"]),
            "list `private_key_jwt` (FAPI 2.0 §5.3.2.1, 6)",
        ),
        (
            "token_endpoint_auth_methods_supported",
            Value::Null,
            "list `private_key_jwt` (FAPI 2.0 §5.3.2.1, 6)",
        ),
        (
            "id_token_signing_alg_values_supported",
            json!(["RS256"]),
            "list `PS256`, `ES256` or `EdDSA` (FAPI 2.0 §5.4.1)",
        ),
        (
            "dpop_signing_alg_values_supported",
            Value::Null,
            "list `ES256` or `EdDSA` (FAPI 2.0 §5.3.2.1, 5)",
        ),
        (
            "code_challenge_methods_supported",
            json!(["plain"]),
            "list `S256` (FAPI 2.0 §5.3.2.2, 5; OAuth 2.1 §7.5.2)",
        ),
    ] {
        let provider = provider().await;
        provider.metadata(|metadata| {
            metadata.insert(member.into(), value);
        });
        let [line, remedy] = failure(&app(&provider, &key)).await;
        let expected = format!("the provider does not meet the profile `fapi2`: `{member}` must {expected}");
        assert!(line.ends_with(&expected), "{line}");
        assert!(
            remedy.ends_with("enable it at the provider, use another provider, or remove `oidc.profile`"),
            "{remedy}"
        );
    }
}

/// What another site begins waits for the user (§5.3.3.1, 12).
#[rocket::async_test]
async fn a_sign_in_is_begun_or_confirmed_by_the_user() {
    let (provider, key) = (provider().await, ed25519());
    let browser = app(&provider, &key).open().await;
    let initiated = format!("/oidc/initiate-login?iss={}", provider.issuer());
    let is_asked = |page: &Page| {
        page.is(Status::Ok).sees("<form method=\"post\"");
        assert_eq!(page.header("cache-control"), Some("no-store"));
    };
    for site in ["cross-site", "same-site", "another"] {
        is_asked(
            &browser
                .visit_with("/oidc/login?next=/me", &[("Sec-Fetch-Site", site)])
                .await,
        );
    }
    // A browser that does not say who began it, and the provider.
    is_asked(
        &browser
            .request(
                rocket::http::Method::Get,
                "/oidc/login?next=/me",
                &[("Accept", "text/html")],
                "",
            )
            .await,
    );
    is_asked(&browser.visit(&initiated).await);
    // A page of the app that needs a user, from a link elsewhere.
    let page = browser.visit_with("/me", &[("Sec-Fetch-Site", "cross-site")]).await;
    let location = page.location.unwrap();
    is_asked(&browser.visit_with(&location, &[("Sec-Fetch-Site", "cross-site")]).await);
    // The button, pressed by another site.
    is_asked(&browser.submit_from_provider("/oidc/login?next=/me", "").await);
    assert_eq!(provider.count("/par"), 0);

    let begun = browser.submit("/oidc/login?next=%2Fme", "").await;
    assert_eq!(pairs(&begun), ["client_id", "request_uri"]);
    browser.follow(&provider, begun).await.is(Status::Ok).sees("alice");
}

#[rocket::async_test]
async fn without_the_profile_there_is_nothing_to_confirm() {
    let provider = TestProvider::start().await;
    let browser = App::new(&provider).open().await;
    browser.submit("/oidc/login?next=/me", "").await.is(Status::NotFound);
    let page = browser
        .visit_with("/oidc/login?next=/me", &[("Sec-Fetch-Site", "cross-site")])
        .await;
    assert!(provider.is_authorization(page.location.as_deref().unwrap()));
}

#[get("/notes")]
fn notes(token: Bearer<Read>) -> String {
    token.subject().unwrap_or_default().to_owned()
}

#[rocket::async_test]
async fn an_api_accepts_no_bearer_tokens() {
    let provider = provider().await;
    let app = App::public(&provider).with_all(json!({
        "profile": "fapi2",
        "resource_server_only": true,
        "audience": TestProvider::API,
        "base_url": "https://api.example.com",
    }));
    let browser = Browser::open(app.rocket_of_api(routes![notes])).await;
    let token = provider.access_token("read", |token| token.sign_with(SigningKey::Ec));
    let bearer = format!("Bearer {token}");
    let page = browser.fetch_with("/notes", &[("Authorization", &bearer)]).await;
    page.is(Status::Unauthorized);
    let challenges = page.header_values("www-authenticate");
    assert!(
        challenges.iter().all(|challenge| challenge.starts_with("DPoP ")),
        "{challenges:?}"
    );
    // An API reads keys alone, so that the metadata need not describe a sign-in.
    provider.metadata(|metadata| {
        metadata.remove("pushed_authorization_request_endpoint");
    });
    Browser::open(app.rocket_of_api(routes![notes])).await;
}

#[rocket::async_test]
async fn oauth_2_1_demands_pkce() {
    let provider = provider().await;
    provider.on_id_token(|id_token| id_token.sign_with(SigningKey::Ec));
    let app = App::new(&provider).with("oidc.profile", "oauth21");
    signed_in(&app, &provider).await;
    let [line, _] = failure(&app.clone().with("oidc.insecure_omit_pkce", true)).await;
    let expected = "the profile `oauth21` does not allow it: the setting weakens a check";
    assert!(
        line.contains("oidc.insecure_omit_pkce") && line.ends_with(expected),
        "{line}"
    );
    provider.metadata(|metadata| {
        metadata.remove("code_challenge_methods_supported");
    });
    let [line, _] = failure(&app).await;
    assert!(
        line.ends_with(
            "the provider does not meet the profile `oauth21`: `code_challenge_methods_supported` must list `S256` \
             (FAPI 2.0 §5.3.2.2, 5; OAuth 2.1 §7.5.2)"
        ),
        "{line}"
    );
}

/// With `enabled = false` there is no provider to meet anything.
#[rocket::async_test]
async fn a_disabled_app_demands_nothing() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with_all(json!({ "profile": "fapi2", "enabled": false }));
    let log = Log::listen();
    let browser = app.open().await;
    browser.visit("/oidc/login?next=/").await.is(Status::SeeOther);
    drop(log);
}
