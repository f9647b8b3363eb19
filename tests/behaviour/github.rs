//! Sign-in with GitHub, a plain OAuth 2.0 provider: the user of its API, without an ID token.

use rocket::{
    Build, Rocket, get,
    http::{Header, Status},
    routes,
    serde::json::{Json, Value, json},
};
use rocket_openidconnect::{__private::SessionCookies, Acr, Bearer, Claims, Fresh, LoggedIn, RelyingParty, acr_values};
use url::Url;

use crate::{
    common::{App, KEY, Log, NOW, launch_failure},
    support::{Browser, Callback, GitHub, Page, TestProvider},
};

acr_values! { Gold = "gold"; }

#[get("/kind")]
fn kind(user: LoggedIn) -> Json<Value> {
    let token = user.access_token().map(|token| token.expose().to_owned());
    Json(json!({
        "kind": user.kind(),
        "issuer": user.issuer(),
        "subject": user.subject(),
        "email": user.email(),
        "is_verified": user.email_verified(),
        "access_token": token.map_err(|error| error.to_string()),
        "refresh_token": user.refresh_token().map(|token| token.expose()),
    }))
}

#[get("/fresh")]
fn fresh(user: LoggedIn<Claims, Fresh<5>>) -> String {
    user.subject().to_owned()
}

#[get("/gold")]
fn gold(user: LoggedIn<Claims, Acr<Gold>>) -> String {
    user.subject().to_owned()
}

#[get("/again")]
async fn again(user: LoggedIn) -> String {
    match user.refresh().await {
        Ok(user) => user.name().unwrap_or("no name").to_owned(),
        Err(error) => format!("error: {error}"),
    }
}

#[get("/login-of/<hint>")]
fn login_of(hint: &str, rp: &RelyingParty) -> String {
    rp.sign_in_url().login_hint(hint).scope("read:org").to_string()
}

#[get("/api")]
fn api(token: Bearer) -> String {
    token.subject().unwrap_or_default().to_owned()
}

/// An app whose users sign in with GitHub. Its time is that of an OpenID provider that nobody asks.
pub struct Test {
    pub github: GitHub,
    pub provider: TestProvider,
    pub app: App,
}

impl Test {
    pub async fn new() -> Test {
        let (github, provider) = (GitHub::start(), TestProvider::start().await);
        let app = App::public(&provider).with_all(json!({
            "issuer": null,
            "provider": { "name": "github", "url": github.url() },
            "client_id": GitHub::CLIENT_ID,
            "client_secret": GitHub::CLIENT_SECRET,
        }));
        Test { github, provider, app }
    }

    pub fn with(mut self, key: &str, value: impl serde::Serialize) -> Test {
        self.app = self.app.with(key, value);
        self
    }

    pub fn rocket(&self) -> Rocket<Build> {
        self.app
            .rocket()
            .mount("/", routes![kind, fresh, gold, again, login_of])
    }

    pub async fn open(&self) -> Browser {
        Browser::open(self.rocket()).await
    }

    /// What comes back from GitHub for this page.
    pub async fn callback(&self, browser: &Browser, path: &str) -> Callback {
        let page = browser.visit(path).await;
        let page = browser
            .visit(page.is(Status::SeeOther).location.as_deref().unwrap())
            .await;
        self.github
            .authorize(page.is(Status::SeeOther).location.as_deref().unwrap())
    }

    /// The answer to the callback.
    pub async fn come_back(&self, browser: &Browser) -> Page {
        let callback = self.callback(browser, "/kind").await;
        browser.arrive_from_provider(&callback.path_and_query()).await
    }

    /// Signed in.
    pub async fn signed_in(&self) -> Browser {
        let browser = self.open().await;
        self.come_back(&browser)
            .await
            .is(Status::SeeOther)
            .redirects_to("/kind");
        browser
    }

    /// Why a sign-in fails now.
    pub async fn failure(&self) -> (u16, String) {
        let browser = self.open().await;
        let status = self.come_back(&browser).await.status;
        let error = self.app.failures_with_status().pop().expect("the sign-in fails");
        assert_eq!(error.0, status);
        error
    }

    /// The claims after a sign-in.
    pub async fn claims(&self) -> Value {
        let browser = self.signed_in().await;
        browser.visit("/me").await.is(Status::Ok).json()
    }
}

#[rocket::async_test]
async fn the_user_is_that_of_the_api() {
    let log = Log::listen();
    let test = Test::new().await;
    let browser = test.open().await;
    let page = browser.visit("/kind").await;
    let page = browser.visit(page.location.as_deref().unwrap()).await;
    let location = page.is(Status::SeeOther).location.clone().unwrap();
    let request = Url::parse(&location).unwrap();
    assert_eq!(
        request[..url::Position::AfterPath],
        format!("{}/login/oauth/authorize", test.github.url())
    );
    let mut names: Vec<_> = request.query_pairs().map(|(name, _)| name.into_owned()).collect();
    names.sort();
    assert_eq!(
        names,
        [
            "client_id",
            "code_challenge",
            "code_challenge_method",
            "redirect_uri",
            "response_type",
            "scope",
            "state"
        ]
    );
    let scope = request.query_pairs().find(|(name, _)| name == "scope").unwrap().1;
    assert_eq!(scope, "read:user user:email");

    let callback = test.github.authorize(&location);
    assert_eq!(callback.param("iss"), Some(&*test.github.issuer()));
    let page = browser.arrive_from_provider(&callback.path_and_query()).await;
    page.is(Status::SeeOther).redirects_to("/kind");
    let kind: Value = browser.visit("/kind").await.is(Status::Ok).json();
    let access_token = kind["access_token"]["Ok"].as_str().unwrap().to_owned();
    assert_eq!(
        kind,
        json!({
            "kind": "oauth2",
            "issuer": test.github.issuer(),
            "subject": "583231",
            "email": "octocat@github.com",
            "is_verified": true,
            "access_token": { "Ok": access_token },
            "refresh_token": null,
        })
    );
    let me: Value = browser.visit("/me").await.json();
    assert_eq!(
        me,
        json!({
            "sub": "583231",
            "preferred_username": "octocat",
            "name": "The Octocat",
            "picture": "https://avatars.example/u/583231?v=4",
            "profile": "https://github.example/octocat",
            "email": "octocat@github.com",
            "email_verified": true,
        })
    );

    let [token, user, addresses] = &test.github.requests()[..] else {
        panic!("not three requests: {:#?}", test.github.requests());
    };
    let mut form: Vec<_> = token.form.iter().map(|(name, _)| &**name).collect();
    form.sort_unstable();
    assert_eq!(
        form,
        [
            "client_id",
            "client_secret",
            "code",
            "code_verifier",
            "grant_type",
            "redirect_uri"
        ]
    );
    assert_eq!(token.header("accept"), Some("application/json"));
    assert_eq!(token.header("authorization"), None);
    assert_eq!((&*user.method, &*user.path), ("GET", GitHub::USER));
    assert_eq!((&*addresses.method, &*addresses.path), ("GET", GitHub::ADDRESSES));
    assert_eq!(addresses.query, [("per_page".to_owned(), "100".to_owned())]);
    for request in [user, addresses] {
        assert_eq!(request.bearer(), Some(&*access_token));
        assert_eq!(request.header("accept"), Some("application/vnd.github+json"));
        assert_eq!(request.header("x-github-api-version"), Some("2022-11-28"));
        let agent = request.header("user-agent").unwrap();
        assert!(agent.starts_with("rocket_openidconnect/"), "{agent}");
    }
    assert_eq!(test.provider.requests().len(), 0);

    let secrets = [&access_token, callback.param("code").unwrap(), GitHub::CLIENT_SECRET];
    for line in log.all_lines() {
        assert!(!secrets.iter().any(|secret| line.contains(secret)), "{line}");
    }
}

#[rocket::async_test]
async fn a_login_hint_and_scopes_have_githubs_names() {
    let test = Test::new().await;
    let browser = test.open().await;
    let url = browser.visit("/login-of/octocat").await.body;
    let page = browser.visit(&url).await;
    let location = page.is(Status::SeeOther).location.clone().unwrap();
    let pairs: Vec<_> = Url::parse(&location).unwrap().query_pairs().into_owned().collect();
    let value = |name: &str| pairs.iter().find(|(other, _)| other == name).map(|(_, value)| &**value);
    assert_eq!(value("login"), Some("octocat"));
    assert_eq!(value("login_hint"), None);
    assert_eq!(value("nonce"), None);
    assert_eq!(value("scope"), Some("read:user user:email read:org"));
    // GitHub lists the granted scopes with commas.
    let callback = test.github.authorize(&location);
    browser
        .arrive_from_provider(&callback.path_and_query())
        .await
        .is(Status::SeeOther);
    assert_eq!(browser.visit("/kind").await.status, 200);
}

#[rocket::async_test]
async fn scopes_that_were_not_granted_fail_the_sign_in() {
    let test = Test::new().await;
    test.github.becomes_github_app();
    let browser = test.open().await;
    let url = browser.visit("/login-of/octocat").await.body;
    let page = browser.visit(&url).await;
    let callback = test.github.authorize(page.location.as_deref().unwrap());
    let page = browser.arrive_from_provider(&callback.path_and_query()).await;
    page.is(Status::Forbidden);
    assert_eq!(test.app.failures(), ["the provider did not grant the scopes read:org"]);
}

#[rocket::async_test]
async fn iss_of_the_response_is_compared_if_it_is_there() {
    let test = Test::new().await;
    let browser = test.open().await;
    let callback = test
        .callback(&browser, "/kind")
        .await
        .set("iss", "https://github.com/login/oauth");
    browser
        .arrive_from_provider(&callback.path_and_query())
        .await
        .is(Status::BadRequest);
    assert_eq!(
        test.app.failures(),
        [format!(
            "the response's `iss` is `https://github.com/login/oauth`, expected `{}`",
            test.github.issuer()
        )]
    );
    assert_eq!(test.github.requests().len(), 0);

    let callback = test.callback(&browser, "/kind").await.without("iss");
    browser
        .arrive_from_provider(&callback.path_and_query())
        .await
        .is(Status::SeeOther)
        .redirects_to("/kind");
}

/// The code is bound to this sign-in by the code verifier, and the response to this browser by the state.
#[rocket::async_test]
async fn a_code_of_another_sign_in_is_rejected() {
    let test = Test::new().await;
    let browser = test.open().await;
    let attacker = browser.another();
    let injected = test.callback(&attacker, "/kind").await;
    let code = injected.param("code").unwrap().to_owned();
    let callback = test.callback(&browser, "/kind").await.set("code", &code);
    let page = browser.arrive_from_provider(&callback.path_and_query()).await;
    // A rejected code restarts the sign-in, once.
    let location = page.is(Status::SeeOther).location.clone().unwrap();
    assert!(
        location.starts_with(&format!("{}/authorize?", test.github.issuer())),
        "{location}"
    );
    let callback = test.github.authorize(&location).set("code", "made-up");
    let page = browser.arrive_from_provider(&callback.path_and_query()).await;
    page.is(Status::BadRequest);
    assert_eq!(
        test.app.failures(),
        [
            "the provider's token endpoint rejected the request with `bad_verification_code`: The code passed is \
          incorrect or expired."
        ]
    );
    assert_eq!(test.github.requests_to(GitHub::USER).len(), 0);

    let theirs = test.callback(&attacker, "/kind").await;
    let page = browser.arrive_from_provider(&theirs.path_and_query()).await;
    page.is(Status::SeeOther);
    assert_eq!(test.github.valid_tokens(), 0);
}

/// No redirect to GitHub, which could change nothing.
#[rocket::async_test]
async fn fresh_and_acr_are_never_satisfied_and_never_loop() {
    let test = Test::new().await;
    let browser = test.signed_in().await;
    for path in ["/fresh", "/gold"] {
        let page = browser.visit(path).await;
        let location = page.is(Status::SeeOther).location.clone().unwrap();
        assert!(location.starts_with("/oidc/login?next="), "{location}");
        let page = browser.visit(&location).await;
        page.is(Status::Forbidden).sees("Error");
        assert_eq!(page.location, None);
        assert_eq!(browser.fetch(path).await.status, 401);
    }
    let expected = "the sign-in demands an authentication of which the provider states nothing".to_owned();
    assert_eq!(
        test.app.failures_with_status(),
        [(403, expected.clone()), (403, expected)]
    );
    // The session stays.
    browser.visit("/kind").await.is(Status::Ok);
}

#[rocket::async_test]
async fn github_sends_no_logout_tokens() {
    let test = Test::new().await;
    let browser = test.open().await;
    let page = browser.post_logout_token("eyJhbGciOiJub25lIn0.e30.").await;
    page.is(Status::BadRequest);
    assert_eq!(
        page.json::<Value>(),
        json!({
            "error": "invalid_request",
            "error_description": "the provider of this app sends no logout tokens",
        })
    );
    assert_eq!(browser.visit("/oidc/frontchannel-logout").await.status, 404);
    assert_eq!(test.github.requests().len(), 0);
}

/// Any app could use the tokens of its users here.
#[rocket::async_test]
async fn github_tokens_are_no_bearer_tokens() {
    let test = Test::new().await.with("oidc.audience", "https://api.example");
    let (kind, lines) = launch_failure(test.rocket().mount("/", routes![api])).await;
    assert_eq!(kind, "1 sentinels abort");
    let guard = "rocket_openidconnect::guard::bearer::Bearer";
    assert_eq!(
        lines,
        [
            format!(
                "ERROR: `{guard}` is used in a route, but access tokens of GitHub are not for this API: any app of its \
                 users has some"
            ),
            "INFO: add an issuer of access tokens for this API to `oidc.issuers`, or use `LoggedIn`".to_owned(),
        ]
    );

    let issuer = test.provider.issuer();
    let test = test.with(
        "oidc.issuers",
        json!({"sso": {"issuer": issuer, "audience": TestProvider::API}}),
    );
    let browser = Browser::open(test.rocket().mount("/", routes![api])).await;
    let theirs = test.provider.access_token("", |_| ());
    let page = browser
        .fetch_with("/api", &[("Authorization", &format!("Bearer {theirs}"))])
        .await;
    page.is(Status::Ok).sees("alice");
    test.come_back(&browser).await.is(Status::SeeOther);
    let kind: Value = browser.visit("/kind").await.json();
    let own = kind["access_token"]["Ok"].as_str().unwrap();
    let page = browser
        .fetch_with("/api", &[("Authorization", &format!("Bearer {own}"))])
        .await;
    page.is(Status::Unauthorized);
}

#[rocket::async_test]
async fn the_report_and_the_record_say_the_kind() {
    let log = Log::listen();
    let test = Test::new().await;
    let browser = test.signed_in().await;
    let lines = log.lines_with_report();
    let issuer = test.github.issuer();
    for line in [
        "INFO: provider: GitHub, plain OAuth 2.0 without ID tokens".to_owned(),
        format!("INFO: issuer: {issuer}"),
        "INFO: scopes: read:user user:email".to_owned(),
    ] {
        assert!(lines.contains(&line), "{line:?} is not in {lines:#?}");
    }
    assert!(!lines.iter().any(|line| line.contains("post-logout")), "{lines:#?}");

    let request = browser
        .client()
        .get("/oidc/debug")
        .remote("127.0.0.1:50000".parse().unwrap());
    let page = request.header(Header::new("Host", "localhost:8000")).dispatch().await;
    let page = page.into_string().await.unwrap();
    assert!(
        page.contains("<summary>Provider</summary><pre>GitHub, plain OAuth 2.0 without ID tokens</pre>"),
        "{page}"
    );
    assert!(!page.contains("keys</summary>"), "{page}");

    let keys = SessionCookies::new(KEY, &issuer, GitHub::CLIENT_ID).unwrap();
    let text: String = crate::records::session_cookies(&browser)
        .into_iter()
        .map(|(_, value)| value)
        .collect();
    let session = keys.decrypt(&text).expect("a session");
    assert_eq!(session["claims"]["sub"], "583231");
    assert_eq!(session["id_token"], Value::Null);
    assert_eq!(session["nonce"], Value::Null);
}

/// A testing profile stands for a user of GitHub.
#[rocket::async_test]
async fn the_testing_profile_has_the_kind_too() {
    let test = Test::new().await.with("oidc.enabled", false);
    let test = test.with(
        "oidc.testing_profile",
        json!({"sub": "583231", "auth_time": NOW, "acr": "gold"}),
    );
    let browser = test.open().await;
    let kind: Value = browser.visit("/kind").await.is(Status::Ok).json();
    assert_eq!((&kind["kind"], &kind["subject"]), (&json!("oauth2"), &json!("583231")));
    for path in ["/fresh", "/gold"] {
        assert_eq!(browser.fetch(path).await.status, 401, "{path}");
    }
}
