//! Parameters of one sign-in, and guards that demand an authentication, at npm `oidc-provider`.

use std::time::Duration;

use rocket::{
    Build, Config, Rocket,
    figment::Figment,
    get,
    http::{Accept, Status},
    local::asynchronous::Client,
    response::Redirect,
    routes,
};
use rocket_openidconnect::{Acr, Claims, Fresh, LoggedIn, Oidc, RelyingParty, acr_values};
use serde_json::{Value, json};
use url::Url;

use crate::{
    node_provider::{CLIENT_SECRET, NodeProvider},
    walker::{Person, Walker},
};

acr_values! {
    SecondFactor = "urn:example:loa:2";
}

#[get("/me")]
fn me(user: LoggedIn) -> String {
    user.subject().to_owned()
}

#[get("/fresh")]
fn fresh(user: LoggedIn<Claims, Fresh<5>>) -> String {
    user.subject().to_owned()
}

#[get("/second")]
fn second(user: LoggedIn<Claims, (Fresh<5>, Acr<SecondFactor>)>) -> String {
    user.subject().to_owned()
}

/// Always asks the user to authenticate again.
#[get("/again")]
fn again(rp: &RelyingParty) -> Redirect {
    let url = rp.sign_in_url().next("/second").prompt("login");
    Redirect::to(url.acr_values(["urn:example:loa:2"]).to_string())
}

/// Asks for an authentication that the provider has already.
#[get("/recent")]
fn recent(rp: &RelyingParty) -> Redirect {
    let url = rp.sign_in_url().next("/me").max_age(Duration::from_secs(300));
    Redirect::to(url.to_string())
}

/// A scope of an API, with which the token response has another audience.
#[get("/notes")]
fn notes(rp: &RelyingParty) -> Redirect {
    let url = rp.sign_in_url().next("/me").scope("notes:read");
    Redirect::to(url.extra("resource", "https://api.notes.test").to_string())
}

/// A scope that the provider does not have.
#[get("/unknown")]
fn unknown(rp: &RelyingParty) -> Redirect {
    Redirect::to(rp.sign_in_url().next("/me").scope("notes:burn").to_string())
}

/// An app, a browser, and the person before it.
pub struct Visit {
    pub client: Client,
    pub walker: Walker,
}

impl Visit {
    async fn of(provider: &NodeProvider, settings: Value) -> Visit {
        let figment = Figment::from(Config::debug_default())
            .merge(("log_level", "off"))
            .merge(("oidc.issuer", provider.issuer()))
            .merge(("oidc.client_id", "rocket-app"))
            .merge(("oidc.client_secret", CLIENT_SECRET))
            .merge(("oidc", settings));
        let rocket = rocket::custom(figment)
            .attach(Oidc::fairing())
            .mount("/", routes![me, fresh, second, again, recent, notes, unknown]);
        Visit::open(rocket).await
    }

    pub async fn open(rocket: Rocket<Build>) -> Visit {
        Visit {
            client: Client::tracked(rocket).await.unwrap(),
            walker: Walker::new(),
        }
    }

    /// Loads a page and follows redirects, also those of the provider, where the person does this.
    pub async fn load(&mut self, path: &str, person: fn() -> Person) -> (Status, String) {
        let mut path = path.to_owned();
        for _ in 0..10 {
            let response = self.client.get(path.clone()).header(Accept::HTML).dispatch().await;
            let Some(location) = response.headers().get_one("Location").map(str::to_owned) else {
                return (response.status(), response.into_string().await.unwrap_or_default());
            };
            path = match Url::parse(&location) {
                Ok(url) => {
                    let callback = self.walker.walk(url.as_str(), person()).await;
                    format!("{}?{}", callback.path(), callback.query().unwrap_or_default())
                }
                Err(_) => location,
            };
        }
        panic!("redirects without end, last to {path}");
    }

    /// Loads a page, where the person signs in as `alice` if the provider asks.
    async fn sees(&mut self, path: &str, body: &str) {
        let page = self.load(path, || Person::SignsIn("alice")).await;
        assert_eq!(page, (Status::Ok, body.to_owned()), "{path}");
    }
}

#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn a_guard_that_demands_a_recent_authentication_lets_the_user_in() {
    let provider = NodeProvider::start(&[]).await;
    let pushed = json!({ "client_id": "rocket-par", "pushed_authorization_requests": true });
    for settings in [json!({}), pushed, json!({ "session": { "store": "memory" } })] {
        let mut visit = Visit::of(&provider, settings).await;
        visit.sees("/me", "alice").await;
        visit.sees("/fresh", "alice").await;
        visit.sees("/recent", "alice").await;
    }
}

/// The provider has a session of one factor, and `acr_values` are a wish to it: it answers with what it has.
#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn an_acr_that_falls_short_is_an_error_page_and_a_new_authentication_helps() {
    let provider = NodeProvider::start(&[]).await;
    let mut visit = Visit::of(&provider, json!({})).await;
    visit.sees("/me", "alice").await;
    let (status, _) = visit.load("/second", || Person::SignsIn("alice")).await;
    assert_eq!(status, Status::BadGateway);
    visit.sees("/me", "alice").await;
    visit.sees("/again", "alice").await;
    visit.sees("/second", "alice").await;
}

/// `prompt=login` shows the form to a user who is signed in at the provider; without it there is nothing to cancel.
#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn a_user_who_cancels_the_new_authentication_stays_signed_in() {
    let provider = NodeProvider::start(&[]).await;
    let mut visit = Visit::of(&provider, json!({})).await;
    visit.sees("/me", "alice").await;
    let recent = visit.load("/recent", || Person::Cancels).await;
    assert_eq!(recent, (Status::Ok, "alice".to_owned()));
    let (status, page) = visit.load("/again", || Person::Cancels).await;
    assert_eq!(status, Status::BadRequest, "{page}");
    assert!(page.contains("The sign-in was cancelled."), "{page}");
    visit.sees("/me", "alice").await;
}

/// Another user authenticates: they are signed in, and the page of the first one is not shown to them.
#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn a_step_up_by_another_user_ends_at_the_start_page() {
    let provider = NodeProvider::start(&[]).await;
    let mut visit = Visit::of(&provider, json!({})).await;
    visit.sees("/me", "alice").await;
    visit.walker = Walker::new();
    let (status, _) = visit.load("/second", || Person::SignsIn("bob")).await;
    // The app has no start page.
    assert_eq!(status, Status::NotFound);
    visit.sees("/me", "bob").await;
    visit.sees("/second", "bob").await;
}

#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn a_scope_that_the_provider_does_not_grant_signs_nobody_in() {
    let provider = NodeProvider::start(&[]).await;
    let mut visit = Visit::of(&provider, json!({ "user_info_enabled": false })).await;
    visit.sees("/notes", "alice").await;
    let mut visit = Visit::of(&provider, json!({})).await;
    let (status, page) = visit.load("/unknown", || Person::SignsIn("alice")).await;
    assert_eq!(status, Status::Forbidden, "{page}");
}
