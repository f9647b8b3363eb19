//! `LoginRedirect::set_parameter`: what an app may ask the provider for at a sign-in, and what it may not.

use rocket::{Request, http::Status, serde::json::json};
use rocket_openidconnect::{Events, LoginRedirect};
use url::Url;

use crate::{
    common::{App, Log},
    support::{Browser, Page, Reply, TestProvider, case},
};

/// Sets these parameters.
struct Sets(Vec<(String, String)>);

impl Sets {
    fn these(pairs: &[(&str, &str)]) -> Sets {
        let pairs = pairs.iter();
        Sets(pairs.map(|(n, v)| (n.to_string(), v.to_string())).collect())
    }
}

#[rocket::async_trait]
impl Events for Sets {
    async fn before_login_redirect(&self, _: &Request<'_>, login: &mut LoginRedirect<'_>) {
        for (name, value) in &self.0 {
            login.set_parameter(name, value);
        }
    }
}

/// The values of a parameter in the address that a browser is sent to.
fn values(page: &Page, name: &str) -> Vec<String> {
    let url = Url::parse(page.location.as_deref().unwrap()).unwrap();
    let pairs = url.query_pairs().into_owned();
    let pairs = pairs.filter(|(other, _)| other == name);
    pairs.map(|(_, value)| value).collect()
}

#[rocket::async_test]
async fn the_app_adds_parameters_in_place_of_the_settings() {
    let provider = TestProvider::start().await;
    let extra = json!({ "prompt": "consent", "ui_locales": "fr", "login_hint": "settings" });
    let app = App::new(&provider).with("oidc.extra_authorization_parameters", extra);
    let sets = Sets::these(&[("prompt", "none"), ("prompt", "login"), ("odd", "ä &=\r\nx")]);
    let browser = Browser::open(app.rocket_with(sets)).await;
    let page = browser.visit("/oidc/login?next=/me").await;
    assert_eq!(values(&page, "prompt"), ["login"]);
    assert_eq!(values(&page, "ui_locales"), ["fr"]);
    assert_eq!(values(&page, "login_hint"), ["settings"]);
    assert_eq!(values(&page, "odd"), ["ä &=\r\nx"]);
    assert_eq!(values(&page, "client_id"), ["app"]);
    browser.follow(&provider, page).await.is(Status::Ok);
}

/// Whoever asked for the sign-in.
#[rocket::async_test]
async fn the_apps_login_hint_is_the_one() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let address = format!("/oidc/initiate-login?iss={}&login_hint=theirs", provider.issuer());
    for (sets, expected) in [
        (Sets::these(&[]), "theirs"),
        (Sets::these(&[("login_hint", "ours")]), "ours"),
    ] {
        let browser = Browser::open(app.rocket_with(sets)).await;
        let page = browser.visit(&address).await;
        assert_eq!(values(&page, "login_hint"), [expected]);
    }
}

#[rocket::async_test]
async fn parameters_of_the_app_are_in_a_pushed_request() {
    let provider = TestProvider::start().await;
    let endpoint = format!("{}/par", provider.issuer());
    provider.metadata(|metadata| {
        let name = "pushed_authorization_request_endpoint";
        metadata.insert(name.into(), endpoint.into());
    });
    let reply = Reply::json(json!({ "request_uri": "urn:x", "expires_in": 60 }));
    provider.on_path("/par", reply.with_status(201));
    let app = App::new(&provider).with("oidc.pushed_authorization_requests", true);
    let sets = Sets::these(&[("prompt", "login")]);
    let browser = Browser::open(app.rocket_with(sets)).await;
    let page = browser.visit("/oidc/login?next=/me").await;
    assert_eq!(values(&page, "prompt"), [""; 0]);
    assert_eq!(values(&page, "request_uri"), ["urn:x"]);
    let pushed = provider.last_request("/par");
    assert_eq!(pushed.form_value("prompt"), Some("login"));
}

/// Names as providers in other languages read them too.
#[rocket::async_test]
async fn the_app_cannot_set_the_parameters_of_the_sign_in() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    for name in [
        "client_id",
        "response_type",
        "redirect_uri",
        "scope",
        "state",
        "nonce",
        "code_challenge",
        "code_challenge_method",
        "request",
        "request_uri",
        "response_mode",
        "client_secret",
        "client_assertion",
        "client_assertion_type",
        "Redirect_URI",
        "MAX_AGE",
        "redirect.uri",
        "redirect_uri[]",
        "redirect uri",
        "state\n",
        "",
    ] {
        case(name);
        let sets = Sets::these(&[("prompt", "login"), (name, "evil"), ("display", "page")]);
        let browser = Browser::open(app.rocket_with(sets)).await;
        let log = Log::listen();
        let page = browser.visit("/oidc/login?next=/me").await;
        page.is(Status::InternalServerError)
            .sees("Something went wrong on this site. Please contact its operators.");
        assert_eq!(page.location, None);
        assert!(page.set_cookies().iter().all(|it| !it.contains("attempt")));
        let lines = log.lines();
        let shown = name.escape_debug();
        let end = format!("]: the app sets the parameter `{shown}`, which it may not set to this value or at all");
        let [error, remedy] = &lines[..] else {
            panic!("{lines:#?}");
        };
        assert!(error.starts_with("ERROR: sign-in failed [") && error.ends_with(&end));
        assert_eq!(
            remedy,
            "INFO: remove it from `before_login_redirect` and from the `SignInUrl`; `max_age` is a number of seconds, and scopes have a method of their own"
        );
    }
}
