//! A provider whose endpoint answers with a redirect to another host: nobody goes there, so that codes,
//! secrets and tokens stay between the app and its provider.

use std::time::Duration;

use rocket::{
    http::Status,
    tokio::time::{sleep, timeout},
};
use serde_json::{Value, json};

use crate::{
    bearer::app::{Answer, Api},
    common::{App, Log, assert_signed_out, signed_in},
    rejections::{is_refused, launch},
    support::{ForeignHost, Page, TestProvider, case},
};

/// A provider, and the host that the answers of this path lead to.
async fn redirecting_provider(path: &str, status: u16) -> (TestProvider, ForeignHost) {
    let provider = TestProvider::start().await;
    let foreign = redirect_elsewhere(&provider, path, status).await;
    (provider, foreign)
}

async fn redirect_elsewhere(provider: &TestProvider, path: &str, status: u16) -> ForeignHost {
    let foreign = ForeignHost::like(provider).await;
    provider.on_path(path, foreign.redirect(status, path));
    case(&format!("{status} from {path}"));
    foreign
}

// ---- Metadata.

#[rocket::async_test]
async fn metadata_elsewhere_is_not_read_at_launch() {
    for status in ForeignHost::REDIRECTS {
        let (provider, foreign) = redirecting_provider(TestProvider::DISCOVERY, status).await;
        let log = Log::listen();
        App::new(&provider).open().await;
        foreign.was_asked_nothing();
        log.has(&format!(
            "WARN: the provider's metadata responded with status {status}; the next attempt is due in 1 s"
        ));
        assert_eq!(provider.count(TestProvider::DISCOVERY), 1);
    }
}

/// Nobody answered at the launch, so that the first sign-in reads the metadata.
#[rocket::async_test]
async fn metadata_elsewhere_fails_the_first_sign_in() {
    for status in ForeignHost::REDIRECTS {
        let provider = TestProvider::start().await;
        provider.stop();
        let app = App::new(&provider);
        let browser = app.open().await;
        let foreign = redirect_elsewhere(&provider, TestProvider::DISCOVERY, status).await;
        provider.restart();
        app.advance(Duration::from_secs(1));
        let log = Log::listen();
        let page = browser.visit("/oidc/login").await;
        foreign.was_asked_nothing();
        let error = format!("the provider's metadata responded with status {status}; the next attempt is due in 2 s");
        page.is(Status::ServiceUnavailable);
        assert_eq!(app.failures(), [&*error]);
        is_logged(&log, &page, &error);
        assert_eq!(provider.count(TestProvider::DISCOVERY), 1);
    }
}

// ---- Sign-in: the code, the verifier, the client's secret, the access token.

#[rocket::async_test]
async fn a_sign_in_fails_at_an_endpoint_that_redirects() {
    for (path, endpoint) in [
        ("/par", "pushed authorization request endpoint"),
        ("/token", "token endpoint"),
        ("/jwks", "key set"),
        ("/userinfo", "UserInfo endpoint"),
    ] {
        for status in ForeignHost::REDIRECTS {
            let (provider, foreign) = redirecting_provider(path, status).await;
            let endpoint_of_par = format!("{}/par", provider.issuer());
            provider.metadata(|metadata| {
                let member = "pushed_authorization_request_endpoint";
                metadata.insert(member.to_owned(), endpoint_of_par.into());
            });
            let settings = json!({ "pushed_authorization_requests": path == "/par" });
            let app = launch(&provider, settings).await;
            let log = Log::listen();
            let page = app.browser.sign_in(&provider, "/me").await;
            foreign.was_asked_nothing();
            let error = format!("the provider's {endpoint} responded with status {status}");
            is_refused(&app, &page, 502, &error).await;
            is_logged(&log, &page, &error);
            assert_eq!(provider.count(path), 1, "{path}");
        }
    }
}

/// The log has the page's error.
#[track_caller]
fn is_logged(log: &Log, page: &Page, error: &str) {
    let (_, rest) = page.body.split_once("<code id=\"error-id\">").unwrap();
    let (id, _) = rest.split_once('<').unwrap();
    log.has(&format!("ERROR: sign-in failed [{id}]: {error}"));
}

// ---- A session: the refresh token, the access token, the client's secret.

/// It stays as it was, and is tried again later.
#[rocket::async_test]
async fn a_redirected_refresh_changes_nothing() {
    for (path, warning) in [
        (
            "/token",
            "WARN: a session was not refreshed: the provider's token endpoint responded with status \
             {status}; it remains valid, and the refresh is retried in 5 s",
        ),
        (
            "/userinfo",
            "WARN: the provider's UserInfo endpoint responded with status {status}; \
             the previous claims are kept",
        ),
    ] {
        for status in ForeignHost::REDIRECTS {
            let provider = TestProvider::start().await;
            let app = App::new(&provider).with("oidc.session.refresh_user_info", true);
            let browser = signed_in(&app, &provider).await;
            app.advance(Duration::from_secs(285));
            let foreign = redirect_elsewhere(&provider, path, status).await;
            let log = Log::listen();
            let page = browser.visit("/me").await;
            foreign.was_asked_nothing();
            page.is(Status::Ok).sees("alice@example.com");
            log.has(&warning.replace("{status}", &status.to_string()));
            assert_eq!(provider.count(path), 2, "{path}");
        }
    }
}

#[rocket::async_test]
async fn a_redirected_revocation_still_signs_out() {
    for status in ForeignHost::REDIRECTS {
        let (provider, foreign) = redirecting_provider("/revoke", status).await;
        let app = App::new(&provider);
        let browser = signed_in(&app, &provider).await;
        let log = Log::listen();
        let page = browser.submit("/oidc/logout", "").await;
        // Nobody waits for the revocations: there are two.
        let warning = format!(
            "WARN: the provider's revocation endpoint responded with status {status}; \
             a token of an ended session was not revoked, and remains valid until it expires"
        );
        let both = async {
            while log.lines().iter().filter(|line| **line == warning).count() < 2 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let told = timeout(Duration::from_secs(10), both).await;
        foreign.was_asked_nothing();
        told.unwrap_or_else(|_| panic!("{warning:?} twice in {:#?}", log.lines()));
        assert_eq!(provider.count("/revoke"), 2);
        page.is(Status::SeeOther);
        page.redirects_to(&format!("{}/end_session?", provider.issuer()));
        assert_signed_out(&browser).await;
    }
}

/// With keys from elsewhere, anybody could end a session.
#[rocket::async_test]
async fn a_logout_token_is_not_judged_by_keys_from_elsewhere() {
    for status in ForeignHost::REDIRECTS {
        let (provider, foreign) = redirecting_provider("/jwks", status).await;
        let browser = App::new(&provider).open().await;
        let log = Log::listen();
        let page = browser.post_logout_token(&provider.logout_token(|_| ())).await;
        foreign.was_asked_nothing();
        let error = format!("the provider's key set responded with status {status}");
        page.is(Status::BadRequest);
        assert_eq!(
            page.json::<Value>(),
            json!({ "error": "invalid_request", "error_description": error })
        );
        log.has(&format!("WARN: a back-channel logout was rejected: {error}"));
        assert_eq!(provider.count("/jwks"), 1);
    }
}

// ---- An API: the caller's token, the client's secret.

/// 502 for this token, which the log does not blame; and 200 once the endpoint answers itself.
async fn answers_502(api: &Api, foreign: &ForeignHost, path: &str, error: &str) {
    let token = api.provider.access_token("notes:read", |_| ());
    let answer = api.call("/notes", &token).await;
    foreign.was_asked_nothing();
    let bad_gateway = Answer {
        status: 502,
        challenge: None,
        retry_after: None,
        body: "wrong".to_owned(),
    };
    assert_eq!(answer, bad_gateway, "{error}");
    let lines = api.log.lines();
    assert!(lines.contains(&format!("ERROR: {error}")), "{lines:#?}");
    assert_eq!(api.provider.count(path), 1);

    api.provider.clear_path(path);
    api.clock.advance(Duration::from_secs(1));
    assert_eq!(api.call("/notes", &token).await.status, 200, "{error}");
    foreign.was_asked_nothing();
}

#[rocket::async_test]
async fn an_api_follows_no_redirect_of_the_keys() {
    for status in ForeignHost::REDIRECTS {
        let api = Api::open().await;
        let foreign = redirect_elsewhere(&api.provider, "/jwks", status).await;
        let error = format!("the provider's key set responded with status {status}");
        answers_502(&api, &foreign, "/jwks", &error).await;
    }
}

#[rocket::async_test]
async fn an_api_follows_no_redirect_of_introspection() {
    for method in ["client_secret_post", "client_secret_basic", "bearer"] {
        for status in ForeignHost::REDIRECTS {
            let settings = json!({
                "token_validation": "introspection", "introspection_auth_method": method,
            });
            let api = Api::with(settings).await;
            let foreign = redirect_elsewhere(&api.provider, "/introspect", status).await;
            let error = format!("the provider's introspection endpoint responded with status {status}");
            answers_502(&api, &foreign, "/introspect", &error).await;
        }
    }
}

#[rocket::async_test]
async fn an_api_follows_no_redirect_of_userinfo() {
    for status in ForeignHost::REDIRECTS {
        let api = Api::open().await;
        let foreign = redirect_elsewhere(&api.provider, "/userinfo", status).await;
        let token = api.provider.access_token("", |_| ());
        let answer = api.call("/person", &token).await;
        foreign.was_asked_nothing();
        let error = format!("the provider's UserInfo endpoint responded with status {status}");
        assert_eq!((answer.status, answer.body), (200, error));
        assert_eq!(api.provider.count("/userinfo"), 1);
    }
}
