//! Events: what an app hears of sign-in and sign-out, and how it says no.

use std::sync::Mutex;

use rocket::{
    Build, Request, Rocket, get,
    http::Status,
    routes,
    serde::json::{Json, Value, json},
};
use rocket_openidconnect::{Events, LoggedIn, LoggedOut, LoginRedirect, NewSignIn, Refused, SignInError, User};

use crate::{
    common::{App, cookies_but_the_browsers, locked},
    support::{Browser, TestProvider},
};

/// What happened, kept in managed state.
#[derive(Default)]
struct Diary(Mutex<Vec<String>>);

impl Diary {
    fn add(request: &Request<'_>, entry: String) {
        let diary = request.rocket().state::<Diary>().expect("is managed");
        locked(&diary.0).push(entry);
    }
}

/// Writes the diary, keeps data, and refuses Mallory.
struct Diarist;

#[rocket::async_trait]
impl Events for Diarist {
    async fn before_login_redirect(&self, request: &Request<'_>, login: &mut LoginRedirect<'_>) {
        let (next, redirect_uri) = (login.next(), login.redirect_uri());
        let entry = format!("before_login_redirect to {next} by {redirect_uri}");
        Diary::add(request, entry);
    }

    async fn before_authorize(&self, request: &Request<'_>) {
        Diary::add(request, "before_authorize".into());
    }

    async fn after_authorize(&self, request: &Request<'_>, sign_in: &mut NewSignIn<'_>) -> Result<(), Refused> {
        let email: Option<String> = sign_in.claims().get("email");
        Diary::add(
            request,
            format!(
                "after_authorize {} with {email:?} to {}",
                sign_in.subject(),
                sign_in.return_to()
            ),
        );
        if sign_in.subject() == "mallory" {
            return Err(Refused::new("Not <b>you</b> & \"friends\"."));
        }
        sign_in.set("desk", 4);
        sign_in.set("from", sign_in.issuer().to_owned());
        Ok(())
    }

    async fn before_logout(&self, request: &Request<'_>, user: Option<&User>) {
        let subject = user.map(|user| user.subject().to_owned());
        Diary::add(request, format!("before_logout of {subject:?}"));
    }

    async fn after_logout(&self, request: &Request<'_>, logout: &LoggedOut<'_>) {
        let (reason, return_to) = (logout.reason(), logout.return_to());
        Diary::add(request, format!("after_logout to {return_to}: {reason}"));
    }

    async fn sign_in_failed(&self, request: &Request<'_>, error: &SignInError) {
        Diary::add(request, format!("sign_in_failed: {error}"));
    }
}

#[get("/desk")]
fn desk(user: LoggedIn) -> Json<Value> {
    Json(json!({
        "desk": user.data::<u8>("desk"),
        "from": user.data::<String>("from"),
        "desk as text": user.data::<String>("desk"),
        "nothing": user.data::<Value>("nothing"),
        "claim": user.claim::<u8>("desk"),
    }))
}

fn rocket(provider: &TestProvider) -> Rocket<Build> {
    App::local(provider)
        .rocket_with(Diarist)
        .manage(Diary::default())
        .mount("/", routes![desk])
}

/// The diary's entries since the last look.
fn entries(browser: &Browser) -> Vec<String> {
    let diary = browser.client().rocket().state::<Diary>().unwrap();
    std::mem::take(&mut *locked(&diary.0))
}

#[rocket::async_test]
async fn every_event_in_its_order() {
    let provider = TestProvider::start().await;
    let browser = Browser::open(rocket(&provider)).await;
    browser.sign_in(&provider, "/me?a=b").await.is(Status::Ok);
    assert_eq!(
        entries(&browser),
        [
            "before_login_redirect to /me?a=b by http://localhost:8000/oidc/authorize",
            "before_authorize",
            "after_authorize alice with Some(\"alice@example.com\") to /me?a=b",
        ]
    );

    let path = "/oidc/logout?next=/goodbye";
    browser.submit(path, "").await.redirects_to("/goodbye");
    assert_eq!(
        entries(&browser),
        [
            "before_logout of Some(\"alice\")",
            "after_logout to /goodbye: signed_out"
        ]
    );
    browser.submit("/oidc/logout", "").await.redirects_to("/");
    assert_eq!(
        entries(&browser),
        ["before_logout of None", "after_logout to /: no_session"]
    );
    browser.visit("/oidc/logout").await.is(Status::Ok);
    assert_eq!(entries(&browser), [""; 0]);
}

#[rocket::async_test]
async fn a_failed_sign_in_is_reported() {
    let provider = TestProvider::start().await;
    let browser = Browser::open(rocket(&provider)).await;
    let callback = browser.begin_sign_in(&provider, "/me").await;
    entries(&browser);
    let callback = callback.error("access_denied");
    let page = browser.arrive_from_provider(&callback.path_and_query()).await;
    page.is(Status::BadRequest).sees("The sign-in was cancelled.");
    assert_eq!(
        entries(&browser),
        [
            "before_authorize",
            "sign_in_failed: the provider returned `access_denied`: ",
        ]
    );
}

#[rocket::async_test]
async fn the_app_refuses_a_person_in_its_own_words() {
    let provider = TestProvider::start().await;
    provider.user_claims(json!({ "sub": "mallory" }));
    let browser = Browser::open(rocket(&provider)).await;
    let page = browser.sign_in(&provider, "/me").await;
    page.is(Status::Forbidden)
        .sees("<p>Not &lt;b&gt;you&lt;&#x2F;b&gt; &amp; &quot;friends&quot;.</p>")
        .sees_no("<b>you");
    assert_eq!(cookies_but_the_browsers(&browser), [""; 0]);
    assert_eq!(
        entries(&browser)[2..],
        [
            "after_authorize mallory with None to /me",
            "sign_in_failed: the app rejected the user: Not <b>you</b> & \"friends\".",
        ]
    );
    browser.visit("/me").await.redirects_to("/oidc/login?next=%2Fme");
}

/// Who was signed in before stays so.
#[rocket::async_test]
async fn a_refusal_ends_no_other_session() {
    let provider = TestProvider::start().await;
    let browser = Browser::open(rocket(&provider)).await;
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    provider.user_claims(json!({ "sub": "mallory" }));
    browser.sign_in(&provider, "/oidc/login").await.is(Status::Forbidden);
    browser.visit("/me").await.is(Status::Ok).sees("alice");
}

#[rocket::async_test]
async fn data_that_the_app_keeps_is_available_to_its_routes() {
    let provider = TestProvider::start().await;
    let browser = Browser::open(rocket(&provider)).await;
    let page = browser.sign_in(&provider, "/desk").await;
    assert_eq!(
        page.is(Status::Ok).json::<Value>(),
        json!({
            "desk": 4, "from": provider.issuer(), "desk as text": null, "nothing": null, "claim": null,
        })
    );
    // It is no claim, so templates do not see it.
    browser.visit("/me").await.is(Status::Ok).sees_no("desk");
}
