//! `enabled = false`: no provider, and one person or nobody.

use std::sync::{Arc, Mutex};

use rocket::{
    Config, Request,
    figment::Figment,
    get,
    http::{Cookie, Status},
    routes,
    serde::json::{Json, Value, json},
};
use rocket_openidconnect::{
    __private::SessionCookies, Events, LoggedIn, LoggedOut, LoginRedirect, NewSignIn, Oidc, Refused, SessionChange,
    SignInError, User,
};

use crate::{
    common::{App, KEY, Log, locked, session_pages},
    records::session_cookie,
    support::{Browser, TestProvider},
};

#[get("/token")]
async fn token(user: LoggedIn) -> String {
    match user.access_token() {
        Ok(token) => token.expose().to_owned(),
        Err(error) => error.to_string(),
    }
}

/// An app that names a provider and does not ask it.
async fn disabled(provider: &TestProvider, testing_profile: Value) -> Browser {
    let app = App::new(provider)
        .with("oidc.enabled", false)
        .with("oidc.testing_profile", testing_profile);
    Browser::open(app.rocket().mount("/", routes![token])).await
}

#[rocket::async_test]
async fn the_testing_profile_signs_out_and_in_without_a_provider() {
    let provider = TestProvider::start().await;
    let profile = json!({ "sub": "tess", "name": "Tess Ting", "groups": ["users"] });
    let browser = disabled(&provider, profile.clone()).await;
    let page = browser.visit("/me").await;
    assert_eq!(page.is(Status::Ok).json::<Value>(), profile);
    assert_eq!(page.header("Cache-Control"), Some("no-store"));
    assert_eq!(
        browser.visit("/token").await.is(Status::Ok).body,
        "this session has no access token"
    );

    browser
        .visit("/oidc/logout?next=/notes")
        .await
        .is(Status::Ok)
        .sees("Sign out?");
    let page = browser.submit("/oidc/logout?next=/notes", "").await;
    assert_eq!(page.is(Status::SeeOther).location.as_deref(), Some("/notes"));
    let page = browser.visit("/").await;
    assert_eq!(page.json::<Value>(), json!({ "logged_in": false, "user": null }));
    // Nobody is redirected: sign-in would lead back at once.
    let page = browser.visit("/me").await;
    assert_eq!(page.is(Status::Unauthorized).location, None);

    for (next, location) in [("/me", "/me"), ("https://evil.example", "/")] {
        browser.submit("/oidc/logout", "").await.redirects_to("/");
        let page = browser.visit(&format!("/oidc/login?next={next}")).await;
        assert_eq!(page.is(Status::SeeOther).location.as_deref(), Some(location));
        browser.visit("/me").await.is(Status::Ok).sees("tess");
    }
    let page = browser.visit("/oidc/authorize?code=a&state=b").await;
    assert_eq!(page.is(Status::SeeOther).location.as_deref(), Some("/"));
    assert_eq!(provider.requests().len(), 0);
}

#[rocket::async_test]
async fn another_site_does_not_sign_the_testing_profile_out() {
    let provider = TestProvider::start().await;
    let browser = disabled(&provider, json!({ "sub": "tess" })).await;
    let headers = [("Sec-Fetch-Site", "cross-site")];
    let method = rocket::http::Method::Post;
    let page = browser.request(method, "/oidc/logout", &headers, "").await;
    page.is(Status::Forbidden);
    browser.visit("/me").await.is(Status::Ok);
}

#[rocket::async_test]
async fn without_a_testing_profile_everybody_is_anonymous() {
    let provider = TestProvider::start().await;
    let browser = disabled(&provider, json!({})).await;
    let page = browser.visit("/").await;
    assert_eq!(page.json::<Value>(), json!({ "logged_in": false, "user": null }));
    for _ in 0..2 {
        let page = browser.visit("/me").await;
        assert_eq!(page.is(Status::Unauthorized).location, None);
        let page = browser.visit("/oidc/login?next=/me").await;
        assert_eq!(page.is(Status::SeeOther).location.as_deref(), Some("/me"));
    }
    browser.submit("/oidc/logout", "").await.redirects_to("/");
    assert_eq!(provider.requests().len(), 0);
}

/// In a closed test environment, by a setting that says so, and with a warning.
#[rocket::async_test]
async fn a_testing_profile_outside_of_debug_is_logged() {
    let figment = Figment::from(Config::release_default())
        .merge(("log_level", "off"))
        .merge(("secret_key", KEY))
        .merge((
            "oidc",
            json!({
                "enabled": false,
                "insecure_testing_profile": true,
                "testing_profile": { "sub": "tess" },
            }),
        ));
    let log = Log::listen();
    Browser::open(rocket::custom(figment).attach(Oidc::fairing())).await;
    assert_eq!(
        log.lines_with_report(),
        [
            "WARN: any client can set its address in the header `X-Real-IP` (Rocket's `ip_header`): no proxy is named that \
             sets it",
            "INFO: name the proxy in `oidc.trusted_proxies`, or set `ip_header = false` if there is none; until then the \
             audit log and rate limits use the address of the connection",
            "INFO: OpenID Connect:",
            "INFO: disabled: no provider is contacted",
            "INFO: testing profile: tess",
            "WARN: `enabled`: sign-in is off: every visitor is the user \"tess\" of `testing_profile`",
            "WARN: `insecure_testing_profile`: a testing profile is used in any profile",
        ]
    );
}

/// Records what happens, keeps data, and refuses Mallory.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    fn add(&self, entry: String) {
        locked(&self.0).push(entry);
    }

    /// The entries since the last look.
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *locked(&self.0))
    }
}

#[rocket::async_trait]
impl Events for Diary {
    async fn before_login_redirect(&self, _: &Request<'_>, _: &mut LoginRedirect<'_>) {
        self.add("before_login_redirect".into());
    }

    async fn before_authorize(&self, _: &Request<'_>) {
        self.add("before_authorize".into());
    }

    async fn after_authorize(&self, _: &Request<'_>, sign_in: &mut NewSignIn<'_>) -> Result<(), Refused> {
        let name: Option<String> = sign_in.claims().get("name");
        self.add(format!("after_authorize {name:?} to {}", sign_in.return_to()));
        if sign_in.subject() == "mallory" {
            return Err(Refused::new("Not you."));
        }
        sign_in.set("desk", 4);
        Ok(())
    }

    async fn before_logout(&self, _: &Request<'_>, user: Option<&User>) {
        self.add(format!(
            "before_logout of {:?}",
            user.map(|user| user.subject().to_owned())
        ));
    }

    async fn after_logout(&self, _: &Request<'_>, logout: &LoggedOut<'_>) {
        self.add(format!("after_logout: {}", logout.reason()));
    }

    async fn sign_in_failed(&self, _: &Request<'_>, error: &SignInError) {
        self.add(format!("sign_in_failed: {error}"));
    }

    async fn session_changed(&self, _: Option<&Request<'_>>, change: &SessionChange) {
        let subject = change.subject().unwrap_or("unknown");
        self.add(format!("session_changed of {subject}: {}", change.reason()));
    }
}

#[get("/data")]
fn data(user: LoggedIn) -> Json<Value> {
    Json(json!([
        user.data::<u8>("desk"),
        user.data::<String>("floor"),
        user.name()
    ]))
}

fn profile() -> Value {
    json!({ "sub": "tess", "name": "Tess" })
}

fn with_events(app: &App, profile: Value, store: &str) -> (Diary, rocket::Rocket<rocket::Build>) {
    let diary = Diary::default();
    let app = app
        .clone()
        .with("oidc.enabled", false)
        .with("oidc.session.store", store)
        .with("oidc.testing_profile", profile)
        .with("oidc.testing_profile_data", json!({ "desk": 1, "floor": "third" }));
    let rocket = app.rocket_with(diary.clone());
    (
        diary,
        rocket.mount("/", routes![data, token]).mount("/", session_pages()),
    )
}

#[rocket::async_test]
async fn the_handlers_of_the_app_decide_about_the_testing_profile_once_for_each_browser() {
    let provider = TestProvider::start().await;
    for store in ["cookie", "memory"] {
        let (diary, rocket) = with_events(&App::new(&provider), profile(), store);
        let browser = Browser::open(rocket).await;
        // Signed out until then, as with a provider.
        let page = browser.visit("/").await;
        assert_eq!(
            page.json::<Value>(),
            json!({ "logged_in": false, "user": null }),
            "{store}"
        );
        browser.fetch("/data").await.is(Status::Unauthorized);
        let page = browser.visit("/data").await;
        page.redirects_to("/oidc/login?next=%2Fdata");
        assert_eq!(diary.take(), [] as [&str; 0]);

        let page = browser.visit("/oidc/login?next=/data").await;
        assert_eq!(page.is(Status::SeeOther).location.as_deref(), Some("/data"));
        let begun = [
            "after_authorize Some(\"Tess\") to /data",
            "session_changed of tess: signed_in",
        ];
        assert_eq!(diary.take(), begun, "{store}");
        let page = browser.visit("/data").await;
        assert_eq!(
            page.is(Status::Ok).json::<Value>(),
            json!([4, "third", "Tess"]),
            "{store}"
        );
        assert_eq!(page.header("Cache-Control"), Some("no-store"));
        assert_eq!(browser.fetch("/token").await.body, "this session has no access token");
        assert_eq!(browser.fetch("/me").await.json::<Value>(), profile());
        // Once, whatever follows.
        browser.visit("/oidc/login?next=/data").await.redirects_to("/data");
        assert_eq!(diary.take(), [] as [&str; 0]);
        browser.another().fetch("/data").await.is(Status::Unauthorized);

        browser.submit("/oidc/logout?next=/", "").await.redirects_to("/");
        assert_eq!(
            diary.take(),
            [
                "before_logout of Some(\"tess\")",
                "session_changed of tess: signed_out",
                "after_logout: signed_out",
            ],
            "{store}"
        );
        // Signed out, until the user signs in.
        let page = browser.visit("/data").await;
        assert_eq!(page.is(Status::Unauthorized).location, None);
        browser.visit("/oidc/login?next=/data").await.redirects_to("/data");
        browser.visit("/data").await.is(Status::Ok);
        assert_eq!(diary.take(), begun, "{store}");

        // The app ends it.
        let id = browser.fetch("/session-id").await.is(Status::Ok).body.clone();
        assert_eq!(browser.another().fetch(&format!("/end/{id}")).await.body, "Ok(true)");
        browser.visit("/data").await.redirects_to("/oidc/login?next=%2Fdata");
        browser.visit("/oidc/login?next=/data").await.redirects_to("/data");
        browser.visit("/data").await.is(Status::Ok);
        browser.another().fetch("/end-all/tess").await.is(Status::Ok);
        browser.visit("/data").await.redirects_to("/oidc/login?next=%2Fdata");
        browser.visit("/oidc/login?next=/data").await.redirects_to("/data");
        browser.visit("/data").await.is(Status::Ok);
    }
    assert_eq!(provider.requests().len(), 0);
}

#[rocket::async_test]
async fn the_app_may_refuse_the_testing_profile() {
    let provider = TestProvider::start().await;
    let (diary, rocket) = with_events(&App::new(&provider), json!({ "sub": "mallory" }), "cookie");
    let browser = Browser::open(rocket).await;
    let page = browser.visit("/oidc/login?next=/data").await;
    page.is(Status::Forbidden).sees("Not you.");
    assert_eq!(
        diary.take(),
        [
            "after_authorize None to /data",
            "sign_in_failed: the app rejected the user: Not you.",
        ]
    );
    browser.fetch("/data").await.is(Status::Unauthorized);
    browser.visit("/data").await.redirects_to("/oidc/login?next=%2Fdata");
}

#[rocket::async_test]
async fn without_handlers_the_testing_profile_has_the_data_of_the_settings() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider)
        .with("oidc.enabled", false)
        .with("oidc.testing_profile", profile())
        .with("oidc.testing_profile_data", json!({ "desk": 1, "floor": "third" }));
    let browser = Browser::open(app.rocket().mount("/", routes![data])).await;
    let page = browser.fetch("/data").await;
    assert_eq!(page.is(Status::Ok).json::<Value>(), json!([1, "third", "Tess"]));
    assert_eq!(page.set_cookies(), [] as [&str; 0]);
}

/// The claims are those of the settings now, and the session is of the user who signed in.
#[rocket::async_test]
async fn a_changed_testing_profile_is_seen_at_once_and_another_user_is_signed_out() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let (_, rocket) = with_events(&app, profile(), "cookie");
    let browser = Browser::open(rocket).await;
    browser.visit("/oidc/login?next=/data").await.redirects_to("/data");
    let cookie = session_cookie(&browser);
    let with = async |profile: Value| {
        let (_, rocket) = with_events(&app, profile, "cookie");
        let browser = Browser::open(rocket).await;
        browser.set_cookie(cookie.clone());
        browser.fetch("/data").await
    };
    let page = with(json!({ "sub": "tess", "name": "Tessa" })).await;
    assert_eq!(page.is(Status::Ok).json::<Value>(), json!([4, "third", "Tessa"]));
    with(json!({ "sub": "tom", "name": "Tess" }))
        .await
        .is(Status::Unauthorized);
    with(profile()).await.is(Status::Ok);
}

/// A browser can neither read nor write what the app keeps in it, and no other app takes it.
#[rocket::async_test]
async fn the_data_of_the_testing_profile_is_encrypted_for_this_app_alone() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let (_, rocket) = with_events(&app, profile(), "cookie");
    let browser = Browser::open(rocket).await;
    browser.visit("/oidc/login?next=/data").await.redirects_to("/data");
    let cookie = session_cookie(&browser);
    let value = cookie.value().to_owned();
    assert!(!value.contains("third") && !value.contains("tess"), "{value}");

    for position in [0, 1, value.len() / 2, value.len() - 2] {
        let mut changed = value.clone().into_bytes();
        changed[position] = if changed[position] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        browser.set_cookie(Cookie::new(cookie.name().to_owned(), changed));
        browser.fetch("/data").await.is(Status::Unauthorized);
    }
    browser.set_cookie(cookie.clone());
    browser.fetch("/data").await.is(Status::Ok);

    // With a provider, it is not a session, under whichever name.
    let with_provider = Browser::open(app.rocket().mount("/", routes![data])).await;
    let keys = SessionCookies::new(KEY, &provider.issuer(), "app").expect("a key");
    for name in [cookie.name().to_owned(), format!("oidc_session_{}", keys.client_tag())] {
        with_provider.set_cookie(Cookie::new(name, value.clone()));
        with_provider.fetch("/data").await.is(Status::Unauthorized);
    }
    // Nor is the session of a user of the provider one of the testing profile.
    let (_, rocket) = with_events(&app, json!({ "sub": "alice" }), "cookie");
    let disabled = Browser::open(rocket).await;
    let signed_in = Browser::signed_in(app.rocket(), &provider).await;
    let of_provider = session_cookie(&signed_in).value().to_owned();
    disabled.set_cookie(Cookie::new(cookie.name().to_owned(), of_provider));
    disabled.fetch("/data").await.is(Status::Unauthorized);
}
