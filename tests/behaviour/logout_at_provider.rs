//! Signing out here signs out at the provider too: RP-initiated logout, and the tokens revoked.

use std::time::Duration;

use rocket::http::Status;
use serde_json::json;
use url::Url;

use crate::{
    common::{App, assert_signed_out, cookie_name, cookies_but_the_browsers, opened_session, signed_in},
    records::{give_cookies, header_bytes, session_cookie, session_cookies},
    support::{Browser, Misbehaviour, Page, TestProvider, http},
};

/// The parameters of a logout request, and where it goes.
fn logout_request(page: &Page) -> (String, Vec<(String, String)>) {
    page.is(Status::SeeOther);
    let url = Url::parse(page.location.as_deref().unwrap()).unwrap();
    let endpoint = url[..url::Position::AfterPath].to_owned();
    (endpoint, http::pairs(url.query().unwrap_or_default()))
}

fn value<'a>(parameters: &'a [(String, String)], name: &str) -> &'a str {
    http::find(parameters, name).unwrap_or_else(|| panic!("no {name} in {parameters:?}"))
}

/// The ID token that the session has now.
fn id_token(browser: &Browser, provider: &TestProvider) -> String {
    let session = opened_session(browser, provider);
    session["id_token"].as_str().unwrap().to_owned()
}

#[rocket::async_test]
async fn signing_out_redirects_to_the_provider_and_back() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = signed_in(&app, &provider).await;
    let id_token = id_token(&browser, &provider);
    let page = browser.submit("/oidc/logout?next=/notes?page=1%26sort=x", "").await;
    assert_eq!(page.header("Cache-Control"), Some("no-store"));
    assert_eq!(page.header("Referrer-Policy"), Some("no-referrer"));

    let (endpoint, parameters) = logout_request(&page);
    assert_eq!(endpoint, format!("{}/end_session", provider.issuer()));
    let names: Vec<_> = parameters.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["id_token_hint", "client_id", "post_logout_redirect_uri", "state"]
    );
    assert_eq!(value(&parameters, "id_token_hint"), id_token);
    assert_eq!(value(&parameters, "client_id"), "app");
    assert_eq!(value(&parameters, "post_logout_redirect_uri"), "http://localhost:8000/");
    assert_eq!(value(&parameters, "state").len(), 43);
    // Here the session has ended before the provider is asked.
    let logout = cookie_name("oidc_logout", &provider);
    assert_eq!(cookies_but_the_browsers(&browser), [logout]);

    let back = provider.end_session(page.location.as_deref().unwrap()).unwrap();
    let back = back.strip_prefix("http://localhost:8000").unwrap();
    let page = browser.arrive_from_provider(back).await;
    page.is(Status::SeeOther);
    assert_eq!(page.location.as_deref(), Some("/notes?page=1&sort=x"));
    assert_eq!(cookies_but_the_browsers(&browser), [""; 0]);
    assert_signed_out(&browser).await;
}

#[rocket::async_test]
async fn a_return_without_or_with_a_foreign_state_is_harmless() {
    let provider = TestProvider::start().await;
    let browser = signed_in(&App::new(&provider), &provider).await;
    browser.submit("/oidc/logout?next=/me", "").await.is(Status::SeeOther);
    for path in ["/", "/?state=", "/?state=foreign", "/?other=1", "/?state=a&state=b"] {
        let page = browser.arrive_from_provider(path).await;
        assert!(
            page.status == 200 || page.location.as_deref() == Some("/"),
            "{path}: {page:#?}"
        );
    }
    for path in ["/oidc/logged-out", "/oidc/logged-out?state=x"] {
        let page = browser.arrive_from_provider(path).await;
        assert_eq!(page.location.as_deref(), Some("/"), "{path}");
    }
    let logout_cookie = cookie_name("oidc_logout", &provider);
    assert!(browser.cookie(&logout_cookie).is_some());
    let app = App::new(&provider).with("oidc.post_logout_redirect_uri", "/bye");
    let path = "/oidc/logged-out?state=x";
    let page = app.open().await.arrive_from_provider(path).await;
    assert_eq!(page.location.as_deref(), Some("/bye"));

    // Nobody else's return ends anything of a browser that has no sign-out under way.
    let other = browser.another();
    other.sign_in(&provider, "/me").await.is(Status::Ok);
    let page = other.arrive_from_provider("/?state=foreign").await;
    page.is(Status::Ok).sees("\"logged_in\":true");
    other.visit("/me").await.is(Status::Ok);
}

#[rocket::async_test]
async fn the_return_is_good_for_the_browser_that_signed_out() {
    let provider = TestProvider::start().await;
    let browser = signed_in(&App::new(&provider), &provider).await;
    let page = browser.submit("/oidc/logout?next=/me", "").await;
    let (_, parameters) = logout_request(&page);
    let state = value(&parameters, "state");
    let other = browser.another();
    other
        .arrive_from_provider(&format!("/?state={state}"))
        .await
        .is(Status::Ok);
    let page = browser.arrive_from_provider(&format!("/?state={state}")).await;
    assert_eq!(page.location.as_deref(), Some("/me"));
}

#[rocket::async_test]
async fn the_post_logout_redirect_uri_is_as_the_setting_says() {
    let provider = TestProvider::start().await;
    for (setting, sent, has_state) in [
        ("/goodbye", "http://localhost:8000/goodbye", true),
        ("http://localhost:8000/bye", "http://localhost:8000/bye", true),
        ("https://www.example.com/", "https://www.example.com/", false),
    ] {
        let app = App::new(&provider).with("oidc.post_logout_redirect_uri", setting);
        let browser = signed_in(&app, &provider).await;
        let (_, parameters) = logout_request(&browser.submit("/oidc/logout", "").await);
        assert_eq!(value(&parameters, "post_logout_redirect_uri"), sent);
        assert_eq!(http::find(&parameters, "state").is_some(), has_state, "{setting}");
    }
}

#[rocket::async_test]
async fn without_an_end_session_endpoint_signing_out_is_local() {
    let provider = TestProvider::start().await;
    provider.metadata(|metadata| drop(metadata.remove("end_session_endpoint")));
    for (setting, location) in [
        (None, "/"),
        (Some("/goodbye"), "/goodbye"),
        (Some("https://www.example.com/"), "https://www.example.com/"),
    ] {
        let mut app = App::new(&provider);
        if let Some(setting) = setting {
            app = app.with("oidc.post_logout_redirect_uri", setting);
        }
        let browser = signed_in(&app, &provider).await;
        let page = browser.submit("/oidc/logout", "").await;
        assert_eq!(page.location.as_deref(), Some(location));
        assert_signed_out(&browser).await;
    }
}

#[rocket::async_test]
async fn the_endpoints_own_query_is_kept() {
    let provider = TestProvider::start().await;
    let endpoint = format!("{}/end_session?tenant=a%26b", provider.issuer());
    provider.metadata(move |metadata| drop(metadata.insert("end_session_endpoint".into(), json!(endpoint))));
    let browser = signed_in(&App::new(&provider), &provider).await;
    let (_, parameters) = logout_request(&browser.submit("/oidc/logout", "").await);
    assert_eq!(value(&parameters, "tenant"), "a&b");
    assert_eq!(value(&parameters, "client_id"), "app");
}

#[rocket::async_test]
async fn signing_out_twice_and_signed_out_stays_here() {
    let provider = TestProvider::start().await;
    let browser = signed_in(&App::new(&provider), &provider).await;
    logout_request(&browser.submit("/oidc/logout", "").await);
    let page = browser.submit("/oidc/logout?next=/notes?page=1%26sort=x", "").await;
    assert_eq!(page.location.as_deref(), Some("/notes?page=1&sort=x"));
}

/// A copy of the cookies that somebody made before is no session any more.
#[rocket::async_test]
async fn copied_cookies_end_with_the_session() {
    for store in ["cookie", "memory"] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider).with("oidc.session.store", store);
        let browser = signed_in(&app, &provider).await;
        let thief = browser.another();
        give_cookies(&thief, &session_cookies(&browser));
        thief.visit("/me").await.is(Status::Ok);
        browser.submit("/oidc/logout", "").await.is(Status::SeeOther);
        assert_signed_out(&thief).await;
    }
}

#[rocket::async_test]
async fn both_tokens_are_revoked_in_the_background() {
    let provider = TestProvider::start().await;
    let browser = signed_in(&App::new(&provider), &provider).await;
    let tokens = opened_session(&browser, &provider);

    let held = provider.hold("/revoke");
    browser.submit("/oidc/logout", "").await.is(Status::SeeOther);
    provider.until_requested("/revoke", 1).await;
    held.release();
    provider.until_requested("/revoke", 2).await;
    let revoked: Vec<_> = provider
        .requests_to("/revoke")
        .iter()
        .map(|request| {
            assert_eq!(request.basic(), Some(("app".into(), "hush".into())));
            let value = |name| request.form_value(name).unwrap_or_default().to_owned();
            (value("token_type_hint"), value("token"))
        })
        .collect();
    let token = |name: &str| (name.to_owned(), tokens[name].as_str().unwrap().to_owned());
    assert_eq!(revoked, [token("refresh_token"), token("access_token")]);
}

/// By the method of the token endpoint, unless the metadata lists others alone.
#[rocket::async_test]
async fn tokens_are_revoked_as_the_metadata_lists() {
    const POST: &str = "client_secret_post";
    const BASIC: &str = "client_secret_basic";
    for (listed, set, expected) in [
        (json!(null), None, BASIC),
        (json!([POST, BASIC]), None, BASIC),
        (json!([POST, BASIC]), Some(POST), POST),
        (json!(null), Some(POST), POST),
        (json!([POST]), None, POST),
        (json!([BASIC]), Some(POST), BASIC),
        (json!(["private_key_jwt", POST]), None, POST),
        (json!(["tls_client_auth"]), None, BASIC),
    ] {
        let provider = TestProvider::start().await;
        let member = "revocation_endpoint_auth_methods_supported";
        provider.metadata(|metadata| drop(metadata.insert(member.to_owned(), listed.clone())));
        let app = App::new(&provider).with("oidc.token_endpoint_auth_method", set);
        let browser = signed_in(&app, &provider).await;
        let page = browser.submit("/oidc/logout", "").await;
        page.is(Status::SeeOther);
        provider.until_requested("/revoke", 2).await;
        for request in provider.requests_to("/revoke") {
            let found = match (request.basic(), request.form_value("client_secret")) {
                (Some(_), None) => BASIC,
                (None, Some("hush")) => POST,
                other => panic!("{listed} {set:?}: {other:?}"),
            };
            assert_eq!(found, expected, "{listed} {set:?}");
        }
    }
}

#[rocket::async_test]
async fn a_public_client_names_itself_when_it_revokes() {
    let provider = TestProvider::start().await;
    // As Keycloak lists, which has no word for such a client.
    let listed = json!(["private_key_jwt", "client_secret_basic", "client_secret_post"]);
    let member = "revocation_endpoint_auth_methods_supported";
    provider.metadata(|metadata| drop(metadata.insert(member.to_owned(), listed)));
    let browser = signed_in(&App::public(&provider), &provider).await;
    browser.submit("/oidc/logout", "").await.is(Status::SeeOther);
    provider.until_requested("/revoke", 2).await;
    let request = provider.last_request("/revoke");
    assert_eq!(request.form_value("client_id"), Some("app"));
    assert_eq!(request.header("authorization"), None);
}

/// The provider is gone: the person is signed out here all the same, at once.
#[rocket::async_test]
async fn a_sign_out_succeeds_while_the_provider_is_down() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = signed_in(&app, &provider).await;
    // Its tokens are due: sign-out does not refresh them first.
    app.advance(Duration::from_secs(290));
    provider.on_path("/token", Misbehaviour::Hang);
    provider.stop();
    browser.submit("/oidc/logout", "").await.is(Status::SeeOther);
    assert_eq!(provider.count("/token"), 1);
    assert_signed_out(&browser).await;
}

#[rocket::async_test]
async fn local_sign_out_is_a_setting() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with("oidc.rp_initiated_logout", false);
    let browser = signed_in(&app, &provider).await;
    let page = browser.submit("/oidc/logout?next=/me", "").await;
    assert_eq!(page.location.as_deref(), Some("/me"));
    assert_eq!(cookies_but_the_browsers(&browser), [""; 0]);
}

/// An nginx with its defaults takes 4 KB of headers, where the hint is one part.
#[rocket::async_test]
async fn a_long_id_token_is_no_hint() {
    let provider = TestProvider::start().await;
    let app = App::released(&provider).with("oidc.session.max_cookies", 5);
    let browser = app.open().await;
    let sign_in_with = async |length: usize| {
        provider.on_id_token(move |token| token.set("padding", "x".repeat(length)));
        browser.sign_in(&provider, "/me").await.is(Status::Ok);
        let session = opened_session(&browser, &provider);
        session["id_token"].as_str().unwrap().len()
    };
    // Three bytes of claims are four characters.
    let longest = 2_500;
    let padding = (longest - sign_in_with(0).await) * 3 / 4;
    for (padding, is_hint) in [(padding - 4, true), (padding + 4, false), (12_000, false)] {
        let length = sign_in_with(padding).await;
        assert_eq!(length <= longest, is_hint, "{length}");
        let page = browser.submit("/oidc/logout", "").await;
        let (_, parameters) = logout_request(&page);
        let names: Vec<_> = parameters.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names.contains(&"id_token_hint"), is_hint, "{length}");
        assert_eq!(value(&parameters, "client_id"), "app");
        let size = header_bytes(&page);
        assert!(size < 4096, "{size} bytes of headers");
    }
}

/// Whoever comes back to a page of yesterday and signs out there means the provider too.
#[rocket::async_test]
async fn signing_out_of_an_expired_session_redirects_to_the_provider() {
    let (hour, day) = (Duration::from_secs(3600), Duration::from_secs(24 * 3600));
    for store in ["cookie", "memory"] {
        for passed in [hour, day] {
            let provider = TestProvider::start().await;
            let app = App::new(&provider)
                .with("oidc.session.store", store)
                .with("oidc.session.idle_timeout", "1h")
                .with("oidc.session.absolute_timeout", "12h");
            let browser = signed_in(&app, &provider).await;
            app.advance(passed);
            assert_signed_out(&browser).await;
            let page = browser.submit("/oidc/logout?next=/me", "").await;
            let (endpoint, parameters) = logout_request(&page);
            assert_eq!(endpoint, format!("{}/end_session", provider.issuer()));
            let hint = value(&parameters, "id_token_hint");
            assert_eq!(hint.split('.').count(), 3, "{store}");
            provider.until_requested("/revoke", 2).await;
            let logout = cookie_name("oidc_logout", &provider);
            assert_eq!(cookies_but_the_browsers(&browser), [logout]);
        }
    }
}

/// The browser itself keeps the cookie until then.
#[rocket::async_test]
async fn a_session_cookie_outlasts_its_session_by_a_day() {
    for store in ["cookie", "memory"] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider)
            .with("oidc.session.store", store)
            .with("oidc.session.idle_timeout", "1h")
            .with("oidc.session.absolute_timeout", "12h");
        let browser = signed_in(&app, &provider).await;
        let age = session_cookie(&browser).max_age().unwrap();
        assert_eq!(age.whole_seconds(), 36 * 3600, "{store}");
        app.advance(Duration::from_secs(36 * 3600));
        assert_signed_out(&browser).await;
        let page = browser.submit("/oidc/logout?next=/me", "").await;
        assert_eq!(page.location.as_deref(), Some("/me"));
    }
}

/// A copy of the cookies of before is worth nothing then.
#[rocket::async_test]
async fn signing_in_again_ends_the_previous_session() {
    for store in ["cookie", "memory"] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider).with("oidc.session.store", store);
        let browser = signed_in(&app, &provider).await;
        let thief = browser.another();
        give_cookies(&thief, &session_cookies(&browser));
        let callback = browser.begin_sign_in(&provider, "/oidc/login?next=/me").await;
        thief.visit("/me").await.is(Status::Ok);
        let page = browser.arrive_from_provider(&callback.path_and_query()).await;
        page.redirects_to("/me");
        assert_signed_out(&thief).await;
        browser.visit("/me").await.is(Status::Ok);
        // The provider counts it as another session.
        provider.until_requested("/revoke", 2).await;

        // The same callback again is the same sign-in.
        let again = browser.arrive_from_provider(&callback.path_and_query()).await;
        again.redirects_to("/me");
        browser.visit("/me").await.is(Status::Ok);
        assert_eq!(provider.count("/revoke"), 2, "{store}");
    }
}

/// Their tokens may belong to one grant, which providers revoke as a whole.
#[rocket::async_test]
async fn tokens_of_the_same_session_at_the_provider_are_not_revoked_at_a_new_sign_in() {
    for (sid, subject, revoked) in [(Some("same"), "alice", 0), (None, "alice", 0), (None, "bob", 2)] {
        for store in ["cookie", "memory"] {
            let provider = TestProvider::start().await;
            provider.on_id_token(move |token| match sid {
                Some(sid) => token.set("sid", sid),
                None => token.remove("sid"),
            });
            let app = App::new(&provider).with("oidc.session.store", store);
            let browser = signed_in(&app, &provider).await;
            provider.user_claims(json!({ "sub": subject }));
            let page = browser.sign_in(&provider, "/oidc/login?next=/me").await;
            page.is(Status::Ok).sees(subject);
            provider.until_requested("/revoke", revoked).await;
            // What is revoked, is so beside the requests.
            browser.submit("/oidc/logout", "").await.is(Status::SeeOther);
            provider.until_requested("/revoke", revoked + 2).await;
            assert_eq!(provider.count("/revoke"), revoked + 2, "{store} {sid:?}");
        }
    }
}

/// A provider may answer two sign-ins with one token.
#[rocket::async_test]
async fn a_token_that_the_new_session_has_too_is_not_revoked() {
    for (same, revoked) in [("refresh_token", "access_token"), ("access_token", "refresh_token")] {
        let provider = TestProvider::start().await;
        provider.on_token_response(move |reply| reply.set(same, "same"));
        provider.on_id_token(|token| token.remove("at_hash"));
        let app = App::new(&provider).with("oidc.user_info_enabled", false);
        let browser = signed_in(&app, &provider).await;
        provider.user_claims(json!({ "sub": "bob" }));
        let page = browser.sign_in(&provider, "/oidc/login?next=/me").await;
        page.is(Status::Ok).sees("bob");
        provider.until_requested("/revoke", 1).await;
        let page = browser.submit("/oidc/logout", "").await;
        page.is(Status::SeeOther);
        provider.until_requested("/revoke", 3).await;
        let requests = provider.requests_to("/revoke");
        let hints = requests
            .iter()
            .filter_map(|request| request.form_value("token_type_hint"));
        let mut hints: Vec<_> = hints.collect();
        hints[1..].sort_unstable();
        assert_eq!(hints, [revoked, "access_token", "refresh_token"]);
    }
}
