//! Signing in, from a guarded page to the provider and back.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use rocket::{
    Request,
    fairing::AdHoc,
    http::{SameSite, Status},
    serde::json::{Value, json},
};
use rocket_openidconnect::Events;
use url::{Url, form_urlencoded};

use crate::{
    common::{App, Log, NOW, attempt_cookies, cookie_of_kind, locked, opened_session},
    records::session_cookie,
    support::{Browser, Page, RecordedRequest, TestProvider},
};

/// The parameters of the authorization request that a page load leads to.
fn authorization_parameters(page: &Page) -> Vec<(String, String)> {
    let url = Url::parse(page.location.as_deref().expect("a redirect")).unwrap();
    url.query_pairs().into_owned().collect()
}

fn parameter<'a>(parameters: &'a [(String, String)], name: &str) -> &'a str {
    let mut values = parameters.iter().filter(|(n, _)| n == name);
    let (Some((_, value)), None) = (values.next(), values.next()) else {
        panic!("not one {name} in {parameters:?}");
    };
    value
}

/// The token request of a sign-in that succeeds.
async fn token_request(provider: &TestProvider, browser: &Browser) -> RecordedRequest {
    browser.sign_in(provider, "/me").await.is(Status::Ok);
    provider.last_request("/token")
}

#[rocket::async_test]
async fn a_guarded_page_redirects_to_the_provider_and_back() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = app.open().await;

    let address = "/notes?page=2&sort=a%20b%26c";
    let refused = browser.visit(address).await;
    refused.is(Status::SeeOther);
    assert_eq!(
        refused.location.as_deref(),
        Some("/oidc/login?next=%2Fnotes%3Fpage%3D2%26sort%3Da%2520b%2526c")
    );
    assert_eq!(refused.header("Cache-Control"), Some("no-store"));
    assert_eq!(refused.body, "");

    let page = browser.sign_in(&provider, address).await;
    page.is(Status::Ok).sees("alice, page 2 by \"a b&c\"");
    assert_eq!(page.url, address);
    assert_eq!(app.failures(), [""; 0]);
}

#[rocket::async_test]
async fn the_authorization_request_has_these_parameters_and_no_other() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider)
        .with("oidc.base_url", "https://app.example.com")
        .with("oidc.scopes", "profile openid email groups")
        .with(
            "oidc.extra_authorization_parameters",
            json!({ "prompt": "login", "ui_locales": ["de", "en"] }),
        );
    let browser = app.open().await;
    let evil = [("Host", "evil.example"), ("X-Forwarded-Host", "evil.example")];
    let page = browser.visit_with("/oidc/login?next=/me", &evil).await;
    page.redirects_to(&format!("{}/authorize?", provider.issuer()));

    let parameters = authorization_parameters(&page);
    let mut names: Vec<_> = parameters.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "client_id",
            "code_challenge",
            "code_challenge_method",
            "nonce",
            "prompt",
            "redirect_uri",
            "response_type",
            "scope",
            "state",
            "ui_locales",
        ]
    );
    for (name, value) in [
        ("response_type", "code"),
        ("client_id", "app"),
        ("scope", "openid profile email groups"),
        ("code_challenge_method", "S256"),
        ("redirect_uri", "https://app.example.com/oidc/authorize"),
        ("prompt", "login"),
        ("ui_locales", "de en"),
    ] {
        assert_eq!(parameter(&parameters, name), value);
    }
}

#[rocket::async_test]
async fn state_nonce_and_challenge_are_long_and_never_the_same() {
    let provider = TestProvider::start().await;
    let browser = App::new(&provider).open().await;
    let mut seen = vec![];
    for _ in 0..8 {
        let parameters = authorization_parameters(&browser.visit("/oidc/login").await);
        for name in ["state", "nonce", "code_challenge"] {
            let value = parameter(&parameters, name).to_owned();
            assert!(value.len() >= 43, "{name} is {value}");
            assert!(!seen.contains(&value), "{name} is repeated");
            seen.push(value);
        }
    }
}

/// RFC 6749 §2.3.1: both are form-encoded before they are joined.
#[rocket::async_test]
async fn the_client_authenticates_by_basic_with_encoded_id_and_secret() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider)
        .with("oidc.client_id", "my app:1%+")
        .with("oidc.client_secret", "p:a%s+s w/ö&=");
    let request = token_request(&provider, &app.open().await).await;

    let pair = "my+app%3A1%25%2B:p%3Aa%25s%2Bs+w%2F%C3%B6%26%3D";
    let expected = format!("Basic {}", STANDARD.encode(pair));
    assert_eq!(request.header("Authorization"), Some(&*expected));
    assert_eq!(request.form_value("client_secret"), None);
    assert_eq!(
        request.form_value("redirect_uri"),
        Some("http://localhost:8000/oidc/authorize")
    );
    assert_eq!(request.form_value("grant_type"), Some("authorization_code"));
}

#[rocket::async_test]
async fn the_client_authenticates_in_the_form_where_the_provider_takes_nothing_else() {
    let provider = TestProvider::start().await;
    provider.metadata(|metadata| {
        let methods = json!(["client_secret_post"]);
        metadata.insert("token_endpoint_auth_methods_supported".into(), methods);
    });
    let app = App::new(&provider).with("oidc.client_secret", "p:a%s+s w");
    let request = token_request(&provider, &app.open().await).await;
    assert_eq!(request.header("Authorization"), None);
    assert_eq!(request.form_value("client_id"), Some("app"));
    assert_eq!(request.form_value("client_secret"), Some("p:a%s+s w"));
}

#[rocket::async_test]
async fn the_client_authenticates_in_the_form_when_the_setting_says_so() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with("oidc.token_endpoint_auth_method", "client_secret_post");
    let request = token_request(&provider, &app.open().await).await;
    assert_eq!(request.header("Authorization"), None);
    assert_eq!(request.form_value("client_secret"), Some("hush"));
}

#[rocket::async_test]
async fn the_client_authenticates_by_basic_when_the_metadata_is_silent() {
    let provider = TestProvider::start().await;
    provider.metadata(|metadata| {
        metadata.remove("token_endpoint_auth_methods_supported");
    });
    let request = token_request(&provider, &App::new(&provider).open().await).await;
    let expected = format!("Basic {}", STANDARD.encode("app:hush"));
    assert_eq!(request.header("Authorization"), Some(&*expected));
}

#[rocket::async_test]
async fn a_public_client_sends_its_name_and_no_secret() {
    let provider = TestProvider::start().await;
    let request = token_request(&provider, &App::public(&provider).open().await).await;
    assert_eq!(request.header("Authorization"), None);
    assert_eq!(request.form_value("client_id"), Some("app"));
    assert_eq!(request.form_value("client_secret"), None);
    assert_eq!(request.form_value("code_verifier").unwrap().len(), 43);
}

#[rocket::async_test]
async fn the_profile_is_the_id_token_with_user_info() {
    let provider = TestProvider::start().await;
    provider.on_id_token(|token| {
        token.set("name", "A name of the ID token");
        token.set("locale", "en-GB");
    });
    let browser = App::new(&provider).open().await;
    let page = browser.sign_in(&provider, "/me").await;
    let profile: Value = page.is(Status::Ok).json();
    for (claim, value) in [
        ("iss", json!(provider.issuer())),
        ("sub", json!("alice")),
        ("aud", json!("app")),
        ("locale", json!("en-GB")),
        ("name", json!("Alice Liddell")),
        ("email", json!("alice@example.com")),
        ("email_verified", json!(true)),
        ("groups", json!(["users", "admin"])),
        ("auth_time", json!(NOW)),
    ] {
        assert_eq!(profile[claim], value, "{claim}");
    }
}

#[rocket::async_test]
async fn without_user_info_the_profile_is_the_id_token() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with("oidc.user_info_enabled", false);
    let page = app.open().await.sign_in(&provider, "/me").await;
    let profile: Value = page.is(Status::Ok).json();
    assert_eq!(profile["sub"], "alice");
    assert_eq!(profile["name"], Value::Null);
    assert_eq!(provider.count("/userinfo"), 0);
}

#[rocket::async_test]
async fn each_sign_in_begins_a_new_session() {
    let provider = TestProvider::start().await;
    let browser = App::new(&provider).open().await;
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    let first = opened_session(&browser, &provider)["id"].clone();
    browser.sign_in(&provider, "/oidc/login?next=/me").await.is(Status::Ok);
    let second = opened_session(&browser, &provider)["id"].clone();
    assert_eq!(first.as_str().map(str::len), Some(43));
    assert_eq!(second.as_str().map(str::len), Some(43));
    assert_ne!(first, second);
}

#[rocket::async_test]
async fn sign_ins_in_two_tabs_both_succeed() {
    let provider = TestProvider::start().await;
    let browser = App::new(&provider).open().await;
    let one = browser.begin_sign_in(&provider, "/me").await;
    let other = browser.begin_sign_in(&provider, "/notes?page=1&sort=x").await;
    assert_eq!(attempt_cookies(&browser).len(), 1);

    let page = browser.arrive_from_provider(&other.path_and_query()).await;
    page.redirects_to("/notes?page=1&sort=x");
    let page = browser.arrive_from_provider(&one.path_and_query()).await;
    page.redirects_to("/me");
    browser.visit("/me").await.sees("alice");
}

#[rocket::async_test]
async fn a_replayed_callback_redirects_a_signed_in_user_to_its_page() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = app.open().await;
    let callback = browser.begin_sign_in(&provider, "/me").await.path_and_query();
    browser.arrive_from_provider(&callback).await.redirects_to("/me");
    for wait in [0, 59, 1, 120] {
        app.advance(Duration::from_secs(wait));
        let page = browser.arrive_from_provider(&callback).await;
        page.is(Status::SeeOther);
        assert_eq!(page.location.as_deref(), Some("/me"), "{wait}");
    }
    assert_eq!(provider.count("/token"), 1);
    assert_eq!(app.failures(), [""; 0]);
}

/// The cookie that `GET /oidc/login` sets, with its attributes in lower case.
fn set_cookie(page: &Page) -> (String, Vec<String>) {
    let [header] = page.set_cookies()[..] else {
        panic!("not one cookie: {page:#?}");
    };
    let mut parts = header.split("; ").map(str::to_owned);
    let pair = parts.next().unwrap();
    let mut attributes: Vec<_> = parts.map(|part| part.to_ascii_lowercase()).collect();
    attributes.sort_unstable();
    (pair.split('=').next().unwrap().to_owned(), attributes)
}

#[rocket::async_test]
async fn the_cookies_of_an_app_on_plain_http() {
    let provider = TestProvider::start().await;
    let browser = App::new(&provider).open().await;
    let page = browser.visit("/oidc/login?next=/me").await;
    let (name, attributes) = set_cookie(&page);
    assert!(name.starts_with("oidc_browser_"), "{name}");
    assert_eq!(
        attributes,
        [
            "expires=wed, 15 nov 2023 22:13:20 gmt",
            "httponly",
            "max-age=86400",
            "path=/",
            "samesite=lax",
        ]
    );
    let cookie = cookie_of_kind(&browser, "oidc_browser");
    let (id, count) = cookie.value().split_once('.').unwrap();
    assert_eq!((id.len(), count), (22, "0"));
    assert!(cookie.name().len() + cookie.value().len() <= 60);

    browser.follow(&provider, page).await.is(Status::Ok);
    let cookie = session_cookie(&browser);
    assert_eq!(cookie.path(), Some("/"));
    assert_eq!(cookie.domain(), None);
    assert_eq!(cookie.http_only(), Some(true));
    assert_eq!(cookie.secure(), None);
    assert_eq!(cookie.same_site(), Some(SameSite::Lax));
    // The lifetime of the session, and a day for a sign-out.
    let life = (12 + 24) * 3600;
    assert_eq!(cookie.max_age().unwrap().whole_seconds(), life);
    let expires = cookie.expires_datetime().unwrap();
    assert_eq!(expires.unix_timestamp(), NOW + life);
    let content = opened_session(&browser, &provider);
    assert_eq!(content["claims"]["sub"], "alice");
}

#[rocket::async_test]
async fn the_cookies_of_an_app_on_https() {
    let provider = TestProvider::start().await;
    let browser = App::released(&provider).open().await;
    let page = browser.visit("/oidc/login?next=/me").await;
    let (name, attributes) = set_cookie(&page);
    assert!(name.starts_with("__Host-oidc_browser_"), "{name}");
    assert_eq!(
        attributes,
        [
            "expires=wed, 15 nov 2023 22:13:20 gmt",
            "httponly",
            "max-age=86400",
            "path=/",
            "samesite=lax",
            "secure",
        ]
    );

    browser.follow(&provider, page).await.is(Status::Ok);
    let cookie = session_cookie(&browser);
    assert!(cookie.name().starts_with("__Host-oidc_session_"));
    assert_eq!(cookie.path(), Some("/"));
    assert_eq!(cookie.domain(), None);
    assert_eq!(cookie.http_only(), Some(true));
    assert_eq!(cookie.secure(), Some(true));
    assert_eq!(cookie.same_site(), Some(SameSite::Lax));
    let content = opened_session(&browser, &provider);
    assert_eq!(content["claims"]["sub"], "alice");
}

#[rocket::async_test]
async fn another_mount_has_its_own_paths() {
    let provider = TestProvider::start().await;
    let browser = App::new(&provider).with("oidc.mount", "/").open().await;
    let page = browser.visit("/me").await;
    page.is(Status::SeeOther);
    assert_eq!(page.location.as_deref(), Some("/login?next=%2Fme"));
    let page = browser.visit("/login?next=/me").await;
    let parameters = authorization_parameters(&page);
    assert_eq!(
        parameter(&parameters, "redirect_uri"),
        "http://localhost:8000/authorize"
    );
    let (_, attributes) = set_cookie(&page);
    assert!(attributes.contains(&"path=/".to_owned()), "{attributes:?}");
    browser.follow(&provider, page).await.is(Status::Ok).sees("alice");
}

/// Collects request URIs as Rocket has them.
#[derive(Clone, Default)]
struct Uris(Arc<Mutex<Vec<String>>>);

impl Uris {
    fn add(&self, request: &Request<'_>) {
        // The way that Rocket's log prints a request.
        locked(&self.0).push(request.to_string());
    }
}

#[rocket::async_trait]
impl Events for Uris {
    async fn before_authorize(&self, request: &Request<'_>) {
        self.add(request);
    }
}

#[rocket::async_test]
async fn the_callbacks_query_is_not_in_rockets_request() {
    let provider = TestProvider::start().await;
    let uris = Uris::default();
    let (before, after) = (uris.clone(), uris.clone());
    let rocket = App::new(&provider)
        .rocket_with(uris.clone())
        .attach(AdHoc::on_request("before", move |request, _| {
            before.add(request);
            Box::pin(async {})
        }))
        .attach(AdHoc::on_response("after", move |request, _| {
            after.add(request);
            Box::pin(async {})
        }));
    let browser = Browser::open(rocket).await;
    let callback = browser.begin_sign_in(&provider, "/me").await;
    locked(&uris.0).clear();
    let page = browser.arrive_from_provider(&callback.path_and_query()).await;
    page.redirects_to("/me");
    assert_eq!(*locked(&uris.0), ["GET /oidc/authorize text/html"; 3],);
}

#[rocket::async_test]
async fn the_log_has_the_error_pages_id_and_neither_code_nor_state() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = app.open().await;
    let callback = browser.begin_sign_in(&provider, "/me").await;
    provider.on_id_token(|token| token.remove("exp"));

    let log = Log::listen();
    let page = browser.arrive_from_provider(&callback.path_and_query()).await;
    page.is(Status::BadGateway);
    let (_, rest) = page.body.split_once("<code id=\"error-id\">").unwrap();
    let (id, _) = rest.split_once('<').unwrap();
    assert_eq!(id.len(), 8);
    let [failure] = &app.failures()[..] else {
        panic!("not one failure");
    };
    let lines = log.lines();
    assert_eq!(lines[0], format!("ERROR: sign-in failed [{id}]: {failure}"));
    assert_eq!(lines.len(), 2, "{lines:?}");
    for name in ["code", "state"] {
        let secret = callback.param(name).unwrap();
        assert!(!lines.concat().contains(secret), "{name} in {lines:?}");
        page.sees_no(secret);
    }
}

#[rocket::async_test]
async fn sign_in_begins_with_a_page_load_only() {
    let provider = TestProvider::start().await;
    let browser = App::new(&provider).open().await;
    let page = browser.fetch("/oidc/login?next=/me").await;
    page.is(Status::Forbidden).sees("Sign-in needs a page load.");
    let prefetch = [("Sec-Purpose", "prefetch;prerender")];
    let page = browser.visit_with("/oidc/login?next=/me", &prefetch).await;
    page.is(Status::Forbidden);
    assert_eq!(browser.cookies(), []);
}

#[rocket::async_test]
async fn pages_of_sign_in_are_not_stored_and_send_no_referrer() {
    let provider = TestProvider::start().await;
    let browser = App::new(&provider).open().await;
    let login = browser.visit("/oidc/login").await;
    let callback = provider.authorize(login.location.as_deref().unwrap());
    let failed = browser.visit("/oidc/authorize").await;
    let callback = browser.arrive_from_provider(&callback.path_and_query()).await;
    let logout = browser.visit("/oidc/logout").await;
    for page in [&login, &callback, &failed, &logout] {
        assert_eq!(page.header("Cache-Control"), Some("no-store"), "{}", page.url);
        // The button's form needs its `Origin`.
        let policy = match page.url.as_str() {
            "/oidc/logout" => "strict-origin",
            _ => "no-referrer",
        };
        assert_eq!(page.header("Referrer-Policy"), Some(policy), "{}", page.url);
    }
    for page in [&failed, &logout] {
        let policy = page.header("Content-Security-Policy").unwrap();
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    }
}

/// In development, people open the app under a loopback name that the provider does not return to.
#[rocket::async_test]
async fn another_loopback_name_redirects_to_the_one_of_the_redirect_uri() {
    let provider = TestProvider::start().await;
    let browser = App::new(&provider).open().await;
    let next = form_urlencoded::byte_serialize(b"/me?a=b").collect::<String>();
    let login = format!("/oidc/login?next={next}");
    for host in ["127.0.0.1:8000", "[::1]:8000", "127.0.0.1"] {
        let page = browser.visit_with(&login, &[("Host", host)]).await;
        page.is(Status::SeeOther);
        let expected = format!("http://localhost:8000{login}");
        assert_eq!(page.location, Some(expected), "{host}");
        assert_eq!(page.set_cookies(), [""; 0]);
    }
    for host in ["localhost:8000", "app.example.com"] {
        let page = browser.visit_with(&login, &[("Host", host)]).await;
        page.redirects_to(&provider.issuer());
    }

    // Elsewhere the operator's proxy sees to names.
    for base_url in ["https://app.example.com", "http://localhost:8000"] {
        let released = App::released(&provider).with("oidc.base_url", base_url);
        let page = released
            .open()
            .await
            .visit_with(&login, &[("Host", "127.0.0.1:8000")])
            .await;
        page.redirects_to(&provider.issuer());
    }
}
