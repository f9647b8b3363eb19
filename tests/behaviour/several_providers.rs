//! Several providers in one app: the user chooses, and everything that follows is at that provider.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rocket::{
    Build, Request, Rocket, get,
    http::{Cookie, Method, Status},
    response::{self, Responder},
    routes,
    serde::json::{Json, Value, json},
};
use rocket_openidconnect::{
    Acr, Bearer, Claims, Clock, Events, LoggedIn, NewSignIn, Oidc, Pages, ProviderChoice, Refused, RelyingParty,
    SessionChange, SignInConfirmation, SignInError, SignedInAt, User, UserKey, acr_values, provider_names,
};

use crate::{
    common::{App, NOW, cookie_of_kind, frontchannel_logout, launch_failure, locked, pages, session_pages},
    support::{Browser, GitHub, Page, TestProvider},
};

acr_values! { Gold = "gold"; }

/// An app with the providers `one` and `two`.
struct Several {
    one: TestProvider,
    two: TestProvider,
    app: App,
    events: Recorded,
}

/// What the app's events saw.
#[derive(Clone, Default)]
struct Recorded(Arc<Mutex<Vec<String>>>);

#[rocket::async_trait]
impl Events for Recorded {
    async fn after_authorize(&self, _: &Request<'_>, sign_in: &mut NewSignIn<'_>) -> Result<(), Refused> {
        self.add(format!("authorized {}", sign_in.key().provider()));
        match sign_in.claims().get::<bool>("blocked") {
            Some(true) => Err(Refused::new("blocked")),
            _ => Ok(()),
        }
    }

    async fn account_linked(&self, _: &Request<'_>, user: &User, account: &NewSignIn<'_>) -> Result<(), Refused> {
        let (user, linked) = (user.key(), account.key());
        self.add(format!(
            "linked {}/{} to {}",
            linked.provider(),
            linked.subject(),
            user.provider()
        ));
        assert!(account.access_token().is_some());
        match account.claims().get::<bool>("taken") {
            Some(true) => Err(Refused::new("taken")),
            _ => Ok(()),
        }
    }

    async fn session_changed(&self, _: Option<&Request<'_>>, change: &SessionChange) {
        let key = change.key().map(|key| format!("{}/{}", key.provider(), key.subject()));
        self.add(format!("{} {}", change.reason(), key.unwrap_or_default()));
    }

    async fn sign_in_failed(&self, _: &Request<'_>, error: &SignInError) {
        self.add(format!("{} {}", error.status(), error.reason()));
    }
}

impl Recorded {
    fn add(&self, line: String) {
        locked(&self.0).push(line);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut locked(&self.0))
    }
}

impl Several {
    async fn start() -> Several {
        let (one, two) = (TestProvider::start().await, TestProvider::start().await);
        let app = App::new(&one).with_all(json!({ "issuer": null, "client_id": null, "client_secret": null }));
        two.set_time(NOW);
        // The providers of these tests have one key at first.
        two.rotate_rsa_key();
        let app = app.with_all(json!({ "providers": {
            "one": { "issuer": one.issuer(), "client_id": "app", "client_secret": "hush", "label": "Acme & Co" },
            "two": { "issuer": two.issuer(), "client_id": "app", "client_secret": "hush" },
        } }));
        let events = Recorded::default();
        Several { one, two, app, events }
    }

    fn with(mut self, settings: Value) -> Several {
        self.app = self.app.with_all(settings);
        self
    }

    fn rocket(&self) -> Rocket<Build> {
        self.app
            .rocket_with(self.events.clone())
            .mount("/", session_pages())
            .mount("/", routes![who, key, end_key, gold, token, link])
    }

    async fn open(&self) -> Browser {
        Browser::open(self.rocket()).await
    }

    async fn sign_in_at_one(&self, browser: &Browser) {
        let page = browser.sign_in(&self.one, "/oidc/login/one?next=/who").await;
        assert_eq!(
            page.json::<Value>(),
            json!({ "provider": "one", "groups": [] }),
            "{page:#?}"
        );
    }

    async fn sign_in_at_two(&self, browser: &Browser) {
        let page = browser.sign_in(&self.two, "/oidc/login/two?next=/who").await;
        assert_eq!(
            page.json::<Value>(),
            json!({ "provider": "two", "groups": [] }),
            "{page:#?}"
        );
    }
}

#[get("/who")]
fn who(user: LoggedIn) -> Json<Value> {
    Json(json!({ "provider": user.provider(), "groups": user.groups() }))
}

#[get("/key")]
fn key(user: LoggedIn) -> String {
    user.key().to_string()
}

#[get("/end-key?<key>")]
async fn end_key(rp: &RelyingParty, key: &str) -> String {
    let key: UserKey = key.parse().expect("a key");
    format!("{:?}", rp.end_sessions_of_user(&key).await)
}

#[get("/link/<provider>")]
fn link(user: LoggedIn, rp: &RelyingParty, provider: &str) -> String {
    rp.link(&user, provider).next("/who").to_string()
}

#[get("/gold")]
fn gold(user: LoggedIn<Claims, Acr<Gold>>) -> String {
    user.subject().to_owned()
}

#[get("/token")]
fn token(token: Bearer) -> String {
    format!("{} {}", token.issuer(), token.scopes().join(" "))
}

/// The text of a page, with the characters that HTML escapes.
fn text(page: &Page) -> String {
    let escaped = [("&#x2F;", "/"), ("&#x3D;", "="), ("&#61;", "="), ("&amp;", "&")];
    escaped
        .iter()
        .fold(page.body.clone(), |text, (from, to)| text.replace(from, to))
}

#[track_caller]
fn shows(page: &Page, expected: &str) {
    page.is(Status::Ok);
    assert!(text(page).contains(expected), "{expected:?} is not in {}", text(page));
}

fn is_signed_out(page: &Page) {
    page.redirects_to("/oidc/login?next=");
}

#[rocket::async_test]
async fn a_page_offers_the_providers_and_each_signs_in_with_its_own_redirect_uri() {
    let several = Several::start().await;
    let browser = several.open().await;
    let page = browser.visit("/who").await;
    is_signed_out(&page);
    let choice = browser.visit("/oidc/login?next=%2Fwho&login_hint=al%26ice").await;
    shows(&choice, "href=\"/oidc/login/one?next=%2Fwho&login_hint=al%26ice\"");
    choice.sees("Acme &amp; Co");
    shows(&choice, "href=\"/oidc/login/two?next=%2Fwho&login_hint=al%26ice\"");
    assert_eq!(choice.header("Cache-Control"), Some("no-store"));
    // Nobody has been asked for anything yet.
    assert_eq!((several.one.requests().len(), several.two.requests().len()), (0, 0));

    let callback = browser.begin_sign_in(&several.one, "/oidc/login/one?next=%2Fwho").await;
    assert_eq!(callback.redirect_uri(), "http://localhost:8000/oidc/authorize/one");
    several.sign_in_at_one(&browser).await;
    assert_eq!(several.two.requests().len(), 0);
    let cookies = browser.cookies();
    let session = cookies.iter().find(|(name, _)| name.starts_with("oidc_session_"));
    assert!(session.unwrap().1.starts_with("one~"));

    // The query may name it, too.
    let page = browser.visit("/oidc/login?provider=two").await;
    assert!(several.two.is_authorization(&page.location.unwrap()));
    browser.visit("/oidc/login/three").await.is(Status::NotFound);
    browser.visit("/oidc/login?provider=three").await.is(Status::NotFound);
    browser
        .visit("/oidc/authorize/three?state=x")
        .await
        .is(Status::BadRequest);
}

#[rocket::async_test]
async fn the_order_of_the_page_is_set() {
    let several = Several::start().await;
    let several = several.with(json!({ "providers.one.order": 2, "providers.two.order": 1 }));
    let page = several.open().await.visit("/oidc/login").await;
    let place = |name: &str| text(&page).find(&format!("/oidc/login/{name}")).unwrap();
    assert!(place("two") < place("one"), "{}", page.body);
}

/// The app's own pages of the choice and of the question.
struct OwnPages;

impl Pages for OwnPages {
    fn choose_provider(&self, request: &Request<'_>, choice: &ProviderChoice) -> response::Result<'static> {
        Json(json!({ "mine": choice })).respond_to(request)
    }

    fn confirm_sign_in(&self, request: &Request<'_>, sign_in: &SignInConfirmation) -> response::Result<'static> {
        Json(json!({ "mine": sign_in })).respond_to(request)
    }
}

#[rocket::async_test]
async fn the_app_renders_the_choice_and_the_question() {
    let several = Several::start().await;
    let several = several.with(json!({ "providers.two.logo": "/logos/two.svg", "providers.one.order": 1 }));
    let fairing = Oidc::fairing().clock(several.app.clock()).pages(OwnPages);
    let browser = Browser::open(several.app.bare().attach(fairing)).await;
    let choice = browser.visit("/oidc/login?next=/who").await;
    let expected = json!({ "mine": {
        "providers": [
            { "name": "two", "label": "two", "logo": "/logos/two.svg", "url": "/oidc/login/two?next=%2Fwho" },
            { "name": "one", "label": "Acme & Co", "logo": null, "url": "/oidc/login/one?next=%2Fwho" },
        ],
        "next": "/who",
    }});
    assert_eq!(choice.is(Status::Ok).json::<Value>(), expected);
    let question = browser
        .visit_with("/oidc/login/one?next=/who", &[("Sec-Fetch-Site", "cross-site")])
        .await;
    let expected = json!({ "mine": {
        "action": "/oidc/login/one?next=%2Fwho", "fields": [], "provider": "Acme & Co", "cancel": "/", "signed_in": null,
    }});
    assert_eq!(question.is(Status::Ok).json::<Value>(), expected);
    for page in [choice, question] {
        assert_eq!(page.header("Cache-Control"), Some("no-store"));
        let policy = page.header("Content-Security-Policy").unwrap();
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    }
}

#[rocket::async_test]
async fn the_same_subject_at_another_provider_is_another_user() {
    let several = Several::start().await;
    // Nor are their sessions counted together.
    let several = several.with(json!({ "session.store": "memory", "session.max_per_user": 1 }));
    let one = several.open().await;
    let two = one.another();
    several.sign_in_at_one(&one).await;
    several.sign_in_at_two(&two).await;
    let (key_one, key_two) = (one.visit("/key").await.body, two.visit("/key").await.body);
    assert_eq!(key_one, format!("one {} alice", several.one.issuer()));
    assert_eq!(key_two, format!("two {} alice", several.two.issuer()));
    several.events.take();

    // A `sub` alone is nobody.
    let ended = one.visit("/end-all/alice").await;
    assert!(ended.body.starts_with("Err("), "{}", ended.body);
    // Nor is the other provider's issuer under this provider's name.
    let mixed = format!("/end-key?key=one%20{}%20alice", several.two.issuer());
    assert_eq!(one.visit(&mixed).await.body, "Ok(Some(0))");
    let unknown = format!("/end-key?key=three%20{}%20alice", several.one.issuer());
    assert_eq!(one.visit(&unknown).await.body, "Ok(Some(0))");
    one.visit("/who").await.is(Status::Ok);

    let end = format!("/end-key?key={}", key_one.replace(' ', "%20"));
    assert_eq!(two.visit(&end).await.body, "Ok(Some(1))");
    is_signed_out(&one.visit("/who").await);
    two.visit("/who").await.is(Status::Ok);
    assert_eq!(several.events.take(), ["ended_by_app one/alice"]);

    let id = two.visit("/session-id").await.body;
    assert_eq!(one.visit(&format!("/end/{id}")).await.body, "Ok(true)");
    is_signed_out(&two.visit("/who").await);
    assert_eq!(several.events.take(), ["ended_by_app two/alice"]);
}

#[rocket::async_test]
async fn a_sign_in_elsewhere_ends_the_former_session() {
    for store in ["cookie", "memory"] {
        let several = Several::start().await.with(json!({ "session.store": store }));
        let browser = several.open().await;
        several.sign_in_at_one(&browser).await;
        let former = cookie_of_kind(&browser, "oidc_session");
        assert_eq!(several.events.take(), ["authorized one", "signed_in one/alice"]);

        // An app that rejects the user keeps the session.
        several.two.user_claims(json!({ "sub": "bob", "blocked": true }));
        let page = browser.sign_in(&several.two, "/oidc/login/two").await;
        assert_eq!(page.status, 403, "{page:#?}");
        assert_eq!(several.events.take(), ["authorized two", "403 refused_by_app"]);
        browser.visit("/who").await.is(Status::Ok);

        several.two.user_claims(json!({ "sub": "bob" }));
        several.sign_in_at_two(&browser).await;
        let expected = ["authorized two", "session_replaced one/alice", "signed_in two/bob"];
        assert_eq!(several.events.take(), expected, "{store}");
        // One cookie name; and the former session is over for whoever kept it.
        let names = browser
            .cookies()
            .into_iter()
            .filter(|(name, _)| name.starts_with("oidc_session_"));
        assert_eq!(names.count(), 1);
        let thief = browser.another();
        thief.set_cookie(former);
        is_signed_out(&thief.visit("/who").await);
    }
}

#[rocket::async_test]
async fn a_session_does_not_open_under_the_name_of_another_provider() {
    for store in ["cookie", "memory"] {
        let several = Several::start().await.with(json!({ "session.store": store }));
        let browser = several.open().await;
        several.sign_in_at_one(&browser).await;
        let cookie = cookie_of_kind(&browser, "oidc_session");
        let text = cookie.value().strip_prefix("one~").unwrap().to_owned();
        for forged in [
            format!("two~{text}"),
            format!("three~{text}"),
            format!("~{text}"),
            format!("one~two~{text}"),
            format!("One~{text}"),
            text.clone(),
        ] {
            let thief = browser.another();
            let mut changed = Cookie::new(cookie.name().to_owned(), forged.clone());
            changed.set_path("/");
            thief.set_cookie(changed);
            let page = thief.visit("/who").await;
            assert_eq!(page.status, 303, "{store} {forged}");
        }
    }
}

/// RFC 9700 §4.4: each answer is sent to the other's callback.
#[rocket::async_test]
async fn a_response_at_the_redirect_uri_of_another_provider_is_rejected() {
    let several = Several::start().await;
    let browser = several.open().await;
    let from_one = browser
        .begin_sign_in(&several.one, "/oidc/login/one")
        .await
        .path_and_query();
    let from_two = browser
        .begin_sign_in(&several.two, "/oidc/login/two")
        .await
        .path_and_query();
    for (path, name, other) in [(&from_one, "one", "two"), (&from_two, "two", "one")] {
        for wrong in [
            path.replace(&format!("/authorize/{name}"), &format!("/authorize/{other}")),
            path.replace(&format!("/authorize/{name}"), "/authorize"),
        ] {
            browser.arrive_from_provider(&wrong).await.is(Status::BadRequest);
            assert_eq!(several.events.take(), ["400 redirect_uri_mismatch"], "{wrong}");
        }
    }
    assert_eq!((several.one.count("/token"), several.two.count("/token")), (0, 0));
    // Neither spoils the right one.
    browser.arrive_from_provider(&from_two).await.redirects_to("/");
    assert_eq!(browser.visit("/who").await.json::<Value>()["provider"], "two");
}

#[rocket::async_test]
async fn a_shared_redirect_uri_requires_iss() {
    let several = Several::start().await.with(json!({ "shared_redirect_uri": true }));
    let browser = several.open().await;
    let callback = browser.begin_sign_in(&several.one, "/oidc/login/one").await;
    assert_eq!(callback.redirect_uri(), "http://localhost:8000/oidc/authorize");
    let other = several.two.issuer();
    for (callback, reason) in [
        (callback.clone().without("iss"), "400 response_iss_missing"),
        (callback.clone().set("iss", &other), "400 response_iss_mismatch"),
    ] {
        browser
            .arrive_from_provider(&callback.path_and_query())
            .await
            .is(Status::BadRequest);
        assert_eq!(several.events.take(), [reason]);
    }
    let honest = callback.set("iss", &several.one.issuer());
    browser
        .arrive_from_provider(&honest.path_and_query())
        .await
        .redirects_to("/");
    assert_eq!(browser.visit("/who").await.json::<Value>()["provider"], "one");
}

#[rocket::async_test]
async fn refresh_and_sign_out_are_at_the_session_s_provider() {
    let several = Several::start().await;
    let browser = several.open().await;
    several.sign_in_at_two(&browser).await;
    let tokens = several.two.count("/token");
    several.two.set_time(NOW + 3_000);
    several.app.clock().advance(Duration::from_secs(3_000));
    browser.visit("/who").await.is(Status::Ok);
    assert_eq!(several.two.count("/token"), tokens + 1);
    assert_eq!(several.one.count("/token"), 0);

    let page = browser.submit("/oidc/logout?next=/", "").await;
    let location = page.location.clone().unwrap();
    assert!(several.two.is_end_session(&location), "{location}");
    let page = browser.follow(&several.two, page).await;
    assert_eq!(page.status, 200, "{page:#?}");
    is_signed_out(&browser.visit("/who").await);
    // Signed out already: there is no provider to go to.
    browser.submit("/oidc/logout?next=/who", "").await.redirects_to("/who");
}

#[rocket::async_test]
async fn a_logout_token_ends_sessions_at_its_own_provider_alone() {
    let several = Several::start().await;
    let one = several.open().await;
    let two = one.another();
    several.sign_in_at_one(&one).await;
    several.sign_in_at_two(&two).await;
    let post = async |path: &str, token: &str| {
        let headers = [("Content-Type", "application/x-www-form-urlencoded")];
        let body = format!("logout_token={token}");
        one.another().request(Method::Post, path, &headers, &body).await.status
    };
    // Of all sessions of `alice`, who is another person at the other provider.
    let of_all = |provider: &TestProvider| provider.logout_token(|token| token.remove("sid"));
    let from_one = of_all(&several.one);
    assert_eq!(post("/oidc/backchannel-logout/two", &from_one).await, 400);
    assert_eq!(post("/oidc/backchannel-logout/three", &from_one).await, 404);
    let issuer = several.two.issuer();
    let lying = several.one.logout_token(|token| token.set("iss", issuer.clone()));
    assert_eq!(post("/oidc/backchannel-logout", &lying).await, 400);
    assert_eq!(post("/oidc/backchannel-logout/one", &lying).await, 400);
    one.visit("/who").await.is(Status::Ok);
    two.visit("/who").await.is(Status::Ok);

    assert_eq!(post("/oidc/backchannel-logout/one", &from_one).await, 200);
    is_signed_out(&one.visit("/who").await);
    two.visit("/who").await.is(Status::Ok);
    // Without the name in the path, the token says which.
    assert_eq!(post("/oidc/backchannel-logout", &of_all(&several.two)).await, 200);
    is_signed_out(&two.visit("/who").await);
    assert_eq!(post("/oidc/backchannel-logout", "not.a.token").await, 400);
}

#[rocket::async_test]
async fn a_sign_in_that_another_site_begins_waits_for_the_user() {
    let several = Several::start().await;
    let browser = several.open().await;
    let path = "/oidc/login/one?next=%2Fwho";
    for site in ["cross-site", "same-site", "something-new"] {
        let page = browser.visit_with(path, &[("Sec-Fetch-Site", site)]).await;
        shows(&page, "action=\"/oidc/login/one?next=%2Fwho\"");
        page.sees("Acme &amp; Co").sees_no("You are signed in");
    }
    let cross = browser.submit_from_provider(path, "").await;
    shows(&cross, "action=\"/oidc/login/one?next=%2Fwho\"");
    assert_eq!(several.one.requests().len(), 0);
    let page = browser.submit(path, "").await;
    assert!(several.one.is_authorization(page.location.as_deref().unwrap()));
    let page = browser.follow(&several.one, page).await;
    assert_eq!(page.json::<Value>()["provider"], "one");

    // A third party names a provider that is known, and the user agrees.
    let initiate = |issuer: &str| {
        format!(
            "/oidc/initiate-login?iss={}&target_link_uri=/who",
            issuer.replace('/', "%2F")
        )
    };
    let page = browser.visit(&initiate(&several.two.issuer())).await;
    shows(&page, "action=\"/oidc/login/two?next=%2Fwho\"");
    page.sees("You are signed in as <strong><bdi>Alice Liddell</bdi></strong>");
    let requests = several.two.requests().len();
    browser
        .visit(&initiate("https://evil.example"))
        .await
        .is(Status::BadRequest);
    browser.visit("/oidc/initiate-login").await.is(Status::BadRequest);
    assert_eq!(several.two.requests().len(), requests);
}

#[rocket::async_test]
async fn groups_and_acr_count_where_the_settings_trust_the_provider() {
    let several = Several::start().await;
    let several = several.with(json!({
        "providers.one.trust_groups": true,
        "providers.one.acr_values": "gold",
        "providers.two.acr_values": "silver",
    }));
    let browser = several.open().await;
    let page = browser.sign_in(&several.one, "/oidc/login/one?next=/who").await;
    assert_eq!(page.json::<Value>()["groups"], json!(["users", "admin"]));
    several.one.on_id_token(|token| token.set("acr", "gold"));
    several.two.on_id_token(|token| token.set("acr", "gold"));

    // Step-up stays at the session's provider.
    let page = browser.visit("/gold").await;
    page.redirects_to("/oidc/login/one?next=%2Fgold&parameters=");
    let page = browser.follow(&several.one, page).await;
    assert_eq!((page.status, &*page.body), (200, "alice"));

    several.sign_in_at_two(&browser).await;
    several.events.take();
    let page = browser.visit("/gold").await;
    page.redirects_to("/oidc/login/two?next=%2Fgold&parameters=");
    let page = browser.follow(&several.two, page).await;
    assert_eq!(page.status, 500, "{page:#?}");
    assert_eq!(several.events.take(), ["500 acr_not_trusted"]);
}

#[rocket::async_test]
async fn an_api_accepts_the_tokens_of_each_provider_for_its_own_audience() {
    let several = Several::start().await;
    let several = several.with(json!({
        "providers.one.audience": TestProvider::API,
        "providers.two.audience": "https://other.example.com",
        "providers.one.roles_claim": "roles",
        "introspection_provider": "two",
    }));
    let browser = several.open().await;
    several.sign_in_at_one(&browser).await;
    several.sign_in_at_two(&browser).await;
    let call = async |token: &str| {
        let authorization = format!("Bearer {token}");
        let page = browser
            .another()
            .fetch_with("/token", &[("Authorization", &authorization)])
            .await;
        (page.status, page.body)
    };
    let with_roles = several
        .one
        .access_token("notes:read", |token| token.set("roles", "admin"));
    // Roles of a provider that is not trusted with them are none.
    assert_eq!(
        call(&with_roles).await,
        (200, format!("{} notes:read", several.one.issuer()))
    );
    let of_two = several.two.access_token("notes:read", |_| ());
    assert_eq!(call(&of_two).await.0, 401);
    let for_two = several
        .two
        .access_token("notes:read", |token| token.set("aud", "https://other.example.com"));
    assert_eq!(call(&for_two).await.0, 200);
    let issuer = several.one.issuer();
    let lying = several
        .two
        .access_token("notes:read", |token| token.set("iss", issuer.clone()));
    assert_eq!(call(&lying).await.0, 401);
    // An opaque token is shown to one provider alone.
    assert_eq!(call("opaque").await.0, 401);
    assert_eq!(
        (several.one.count("/introspect"), several.two.count("/introspect")),
        (0, 1)
    );
}

#[rocket::async_test]
async fn settings_that_contradict_several_providers_abort_the_launch() {
    for (settings, key) in [
        (json!({ "issuer": "https://op.example" }), "oidc.issuer`"),
        (json!({ "client_id": "app" }), "oidc.client_id`"),
        (json!({ "providers.one.mount": "/x" }), "oidc.providers.one.mount`"),
        (json!({ "providers.one.session": {} }), "oidc.providers.one.session`"),
        (json!({ "providers.one.isuer": "x" }), "oidc.providers.one.isuer`"),
        (
            json!({ "providers.One": { "issuer": "https://x.example", "client_id": "x" } }),
            "oidc.providers`",
        ),
        (
            json!({ "providers.three": { "client_id": "x" } }),
            "oidc.providers.three.issuer`",
        ),
        (
            json!({ "providers.three": { "issuer": "https://x.example" } }),
            "oidc.providers.three.client_id`",
        ),
        (
            json!({ "introspection_provider": "three" }),
            "oidc.introspection_provider`",
        ),
        (json!({ "resource_server_only": true }), "oidc.resource_server_only`"),
        (json!({ "label": "x" }), "oidc.label`"),
    ] {
        let several = Several::start().await.with(settings.clone());
        let (_, lines) = launch_failure(several.rocket()).await;
        assert!(lines[0].contains(key), "{settings}: {lines:#?}");
    }
    // Two names for one client of one issuer.
    let several = Several::start().await;
    let issuer = several.one.issuer();
    let several = several.with(json!({ "providers.two.issuer": issuer }));
    let (_, lines) = launch_failure(several.rocket()).await;
    assert!(lines[0].contains("oidc.providers.two.issuer`"), "{lines:#?}");
    let other_client = Several::start().await;
    let issuer = other_client.one.issuer();
    let other_client =
        other_client.with(json!({ "providers.two.issuer": issuer, "providers.two.client_id": "another" }));
    other_client.open().await.visit("/oidc/login").await.is(Status::Ok);
    let shared = other_client.with(json!({ "shared_redirect_uri": true }));
    let (_, lines) = launch_failure(shared.rocket()).await;
    assert!(lines[0].contains("one redirect URI"), "{lines:#?}");
}

#[rocket::async_test]
async fn without_a_provider_the_testing_profile_signs_in_at_any() {
    let several = Several::start().await;
    let several = several.with(json!({ "enabled": false, "testing_profile": { "sub": "dev" } }));
    let browser = several.open().await;
    browser.visit("/oidc/login/one?next=/key").await.redirects_to("/key");
    let key = browser.visit("/key").await.body;
    assert!(key.starts_with("default ") && key.ends_with(" dev"), "{key}");
}

/// What the app's own pages of the tests show, at one provider, is the same with one in the table.
#[rocket::async_test]
async fn one_provider_in_the_table_needs_no_choice() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider).with_all(json!({
        "issuer": null, "client_id": null, "client_secret": null,
        "providers": { "only": { "issuer": provider.issuer(), "client_id": "app", "client_secret": "hush" } },
    }));
    let fairing = Oidc::fairing().clock(Clock::fixed_at(NOW));
    let browser = Browser::open(app.bare().attach(fairing).mount("/", pages())).await;
    let page = browser.sign_in(&provider, "/me").await;
    assert_eq!(page.json::<Value>()["sub"], "alice");
}

#[rocket::async_test]
async fn a_user_links_an_account_and_stays_signed_in() {
    for store in ["cookie", "memory"] {
        let several = Several::start().await.with(json!({ "session.store": store }));
        let browser = several.open().await;
        several.sign_in_at_one(&browser).await;
        several.events.take();
        let id = browser.visit("/session-id").await.body;
        let url = browser.visit("/link/two").await.body;
        assert!(url.starts_with("/oidc/login/two?next=%2Fwho&parameters="), "{url}");

        several.two.user_claims(json!({ "sub": "alice-at-two" }));
        let callback = browser.begin_sign_in(&several.two, &url).await.path_and_query();
        let page = browser.arrive_from_provider(&callback).await;
        page.redirects_to("/who");
        assert_eq!(several.events.take(), ["linked two/alice-at-two to one"], "{store}");
        assert_eq!(browser.visit("/who").await.json::<Value>()["provider"], "one");
        assert_eq!(browser.visit("/session-id").await.body, id);
        // The browser repeats the callback.
        browser.arrive_from_provider(&callback).await.redirects_to("/who");
        assert_eq!(several.events.take(), [""; 0]);
        // The tokens are the app's to keep.
        assert_eq!(several.two.revoked_tokens(), [""; 0]);

        // Any other sign-in is none of this.
        several.sign_in_at_two(&browser).await;
        assert_eq!(
            several.events.take(),
            [
                "authorized two",
                "session_replaced one/alice",
                "signed_in two/alice-at-two"
            ]
        );
    }
}

#[rocket::async_test]
async fn an_account_that_the_app_refuses_is_not_linked() {
    let several = Several::start().await;
    let browser = several.open().await;
    several.sign_in_at_one(&browser).await;
    several.events.take();
    several.two.user_claims(json!({ "sub": "bob", "taken": true }));
    let url = browser.visit("/link/two").await.body;
    let page = browser.sign_in(&several.two, &url).await;
    page.is(Status::Forbidden).sees("taken");
    assert_eq!(several.events.take(), ["linked two/bob to one", "403 refused_by_app"]);
    assert_eq!(browser.visit("/who").await.json::<Value>()["provider"], "one");
    several.two.until_requested("/revoke", 1).await;
}

#[rocket::async_test]
async fn an_account_is_linked_in_the_session_that_began_it_alone() {
    let several = Several::start().await;
    let browser = several.open().await;
    several.sign_in_at_one(&browser).await;
    let url = browser.visit("/link/two").await.body;

    // In the browser of somebody else, signed out or in.
    let other = browser.another();
    other.visit(&url).await.is(Status::Forbidden);
    several.sign_in_at_one(&other).await;
    several.events.take();
    other.visit(&url).await.is(Status::Forbidden);
    assert_eq!(several.events.take(), ["403 link_session_ended"]);
    // At another provider than the app asked for.
    let elsewhere = url.replace("/login/two", "/login/one");
    assert_eq!(browser.visit(&elsewhere).await.status, 400);
    // From a page of another site, the user is asked.
    let page = browser.visit_with(&url, &[("Sec-Fetch-Site", "cross-site")]).await;
    page.is(Status::Ok).sees("<form method=\"post\"");

    // The session ends meanwhile, and another one begins: of the same user.
    let callback = browser.begin_sign_in(&several.two, &url).await.path_and_query();
    let codes = several.two.count("/token");
    browser.submit("/oidc/logout?next=/", "").await;
    let page = browser.arrive_from_provider(&callback).await;
    assert!([400, 403].contains(&page.status), "{page:#?}");
    several.sign_in_at_one(&browser).await;
    let callback = {
        let url = browser.visit("/link/two").await.body;
        let callback = browser.begin_sign_in(&several.two, &url).await.path_and_query();
        several.sign_in_at_one(&browser).await;
        callback
    };
    several.events.take();
    browser.arrive_from_provider(&callback).await.is(Status::Forbidden);
    assert_eq!(several.events.take(), ["403 link_session_ended"]);
    // No code was sent.
    assert_eq!(several.two.count("/token"), codes);
    assert_eq!(browser.visit("/who").await.json::<Value>()["provider"], "one");
}

provider_names! {
    One = "one";
    Two = "two";
    Three = "three";
}

#[get("/at-two")]
fn at_two(user: LoggedIn<Claims, SignedInAt<Two>>) -> String {
    user.key().to_string()
}

#[get("/at-both")]
fn at_both(_user: LoggedIn<Claims, (SignedInAt<One>, SignedInAt<Two>)>) {}

#[get("/at-three")]
fn at_three(_user: LoggedIn<Claims, SignedInAt<Three>>) {}

#[rocket::async_test]
async fn a_guard_may_demand_a_user_of_one_provider() {
    let several = Several::start().await;
    let browser = Browser::open(several.rocket().mount("/", routes![at_two])).await;
    several.sign_in_at_one(&browser).await;
    let page = browser.visit("/at-two").await;
    page.redirects_to("/oidc/login/two?next=%2Fat-two");
    browser.fetch("/at-two").await.is(Status::Unauthorized);
    // Another user, of that provider, who reaches the page.
    several.two.user_claims(json!({ "sub": "bob" }));
    let page = browser.follow(&several.two, page).await;
    assert_eq!(page.body, format!("two {} bob", several.two.issuer()));

    for (routes, cause) in [
        (routes![at_both], "no user can satisfy all of its requirements"),
        (routes![at_three], "there is no provider `three` in `oidc.providers`"),
    ] {
        let (_, lines) = launch_failure(several.rocket().mount("/", routes)).await;
        assert!(lines.iter().any(|line| line.contains(cause)), "{lines:#?}");
    }
    let testing = several.with(json!({ "enabled": false, "testing_profile": { "sub": "dev" } }));
    let browser = Browser::open(testing.rocket().mount("/", routes![at_two])).await;
    browser.visit("/oidc/login?next=/at-two").await.redirects_to("/at-two");
    browser.visit("/at-two").await.is(Status::Ok);
}

/// An unsigned request names the issuer; each client of it may have the session.
#[rocket::async_test]
async fn a_front_channel_logout_is_of_the_providers_of_its_issuer() {
    let several = Several::start().await.with(json!({ "frontchannel_logout": true }));
    let browser = several.open().await;
    let other = browser.another();
    several.sign_in_at_one(&browser).await;
    several.sign_in_at_two(&other).await;
    let (one, two) = (several.one.issuer(), several.two.issuer());
    let frame = async |issuer: &str| browser.another().visit(&frontchannel_logout(issuer, "sid-1")).await;
    frame("https://evil.example").await.is(Status::BadRequest);
    browser.visit("/who").await.is(Status::Ok);
    frame(&one).await.is(Status::Ok);
    is_signed_out(&browser.visit("/who").await);
    // The other provider has a session of the same `sid`.
    other.visit("/who").await.is(Status::Ok);
    frame(&two).await.is(Status::Ok);
    is_signed_out(&other.visit("/who").await);
}

/// Among several providers, the user chooses.
#[rocket::async_test]
async fn a_silent_sign_in_is_not_tried_where_the_user_chooses() {
    for (several, is_tried) in [(true, false), (false, true)] {
        let app = Several::start().await.with(json!({ "silent": true }));
        let app = if several {
            app
        } else {
            let one = app.one.issuer();
            let one = json!({ "issuer": one, "client_id": "app", "client_secret": "hush" });
            app.with(json!({ "providers": null })).with(one)
        };
        let browser = app.open().await;
        let mut statuses = vec![];
        for _ in 0..3 {
            statuses.push(browser.visit("/").await.status);
        }
        assert_eq!(statuses.contains(&303), is_tried, "{statuses:?}");
        let page = browser.visit("/oidc/login?silent=true&next=/who").await;
        assert!([200, 303].contains(&page.status), "{page:#?}");
        assert_eq!(app.one.count("/authorize") + app.two.count("/authorize"), 0);
    }
}

#[rocket::async_test]
async fn github_is_one_of_several_providers() {
    let (several, github) = (Several::start().await, GitHub::start());
    let several = several.with(json!({ "providers.hub": {
        "provider": { "name": "github", "url": github.url() },
        "client_id": GitHub::CLIENT_ID,
        "client_secret": GitHub::CLIENT_SECRET,
    } }));
    let browser = several.open().await;
    several.sign_in_at_one(&browser).await;
    let page = browser.visit("/oidc/login/hub?next=/key").await;
    let callback = github.authorize(page.location.as_deref().unwrap());
    assert_eq!(callback.redirect_uri(), "http://localhost:8000/oidc/authorize/hub");
    browser
        .arrive_from_provider(&callback.path_and_query())
        .await
        .redirects_to("/key");
    let key = browser.visit("/key").await.body;
    assert_eq!(key, format!("hub {} 583231", github.issuer()));
    let token = several.one.access_token("", |token| token.set("aud", "app"));
    let authorization = format!("Bearer {token}");
    let page = browser
        .another()
        .fetch_with("/token", &[("Authorization", &authorization)])
        .await;
    page.is(Status::Ok);
}

/// A callback at one provider that also renews the session of another: its cookie stays that of the other.
#[rocket::async_test]
async fn a_session_is_written_under_the_keys_of_its_own_provider() {
    for (store, elapsed) in [("cookie", 600), ("cookie", 1_500), ("memory", 1_500)] {
        let several = Several::start().await.with(json!({ "session.store": store }));
        // Short-lived tokens: the session is due for a refresh at the callback.
        let expires_in = if elapsed > 600 { 1_000 } else { 86_400 };
        several
            .one
            .on_token_response(move |reply| reply.set("expires_in", expires_in));
        let browser = several.open().await;
        several.sign_in_at_one(&browser).await;
        let url = browser.visit("/link/two").await.body;
        let callback = browser.begin_sign_in(&several.two, &url).await.path_and_query();
        several.app.advance(Duration::from_secs(elapsed));
        several.two.set_time(NOW + i64::try_from(elapsed).unwrap());
        let before = cookie_of_kind(&browser, "oidc_session").value().to_owned();
        browser.arrive_from_provider(&callback).await.redirects_to("/who");
        let after = cookie_of_kind(&browser, "oidc_session").value().to_owned();
        assert!(after.starts_with("one~"), "{after}");
        assert_ne!(after, before, "{store} {elapsed}");
        assert_eq!(browser.visit("/who").await.json::<Value>()["provider"], "one");
        assert_eq!(several.one.count("/token"), if elapsed > 600 { 2 } else { 1 });
    }
}
