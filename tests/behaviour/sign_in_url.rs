//! `RelyingParty::sign_in_url`: a sign-in that asks for more than the settings, and is checked for it.

use std::time::Duration;

use rocket::{
    Build, Request, Rocket, State, get,
    http::Status,
    routes,
    serde::json::{Json, Value, json},
};
use rocket_openidconnect::{Events, LoggedIn, LoginRedirect, RelyingParty, SignInUrl};
use url::Url;

use crate::{
    common::{App, KEY, NOW, assert_signed_out, attempt_cookies},
    records::DUE,
    support::{Browser, Page, Reply, TestProvider, case},
};

type Ask = fn(SignInUrl<'_>) -> SignInUrl<'_>;

/// The app with a page that shows the URL of a sign-in that asks for this.
fn asking(rocket: Rocket<Build>, ask: Ask) -> Rocket<Build> {
    rocket.mount("/", routes![sign_in_url, details]).manage(ask)
}

#[get("/url?<next>")]
fn sign_in_url(rp: &RelyingParty, ask: &State<Ask>, next: &str) -> String {
    ask(rp.sign_in_url().next(next)).to_string()
}

#[get("/details")]
fn details(user: LoggedIn) -> Json<Vec<Value>> {
    Json(user.authorization_details().to_vec())
}

/// Opens a browser at the app, and the URL of a sign-in that asks for this.
async fn open(app: &App, ask: Ask) -> (Browser, String) {
    let browser = Browser::open(asking(app.rocket(), ask)).await;
    let url = browser.visit("/url?next=/me").await.is(Status::Ok).body.clone();
    (browser, url)
}

/// The values of a parameter of the authorization request.
fn values(page: &Page, name: &str) -> Vec<String> {
    let location = page
        .location
        .as_deref()
        .unwrap_or_else(|| panic!("no redirect: {page:#?}"));
    let url = Url::parse(location).unwrap();
    let pairs = url.query_pairs().into_owned();
    pairs
        .filter(|(other, _)| other == name)
        .map(|(_, value)| value)
        .collect()
}

#[rocket::async_test]
async fn a_url_without_parameters_is_the_login_url() {
    let provider = TestProvider::start().await;
    let (_, url) = open(&App::new(&provider), |url| url).await;
    assert_eq!(url, "/oidc/login?next=%2Fme");
}

#[rocket::async_test]
async fn what_is_asked_is_sent_in_place_of_the_settings() {
    let provider = TestProvider::start().await;
    let extra = json!({ "prompt": "consent", "ui_locales": "fr", "display": "page" });
    let app = App::new(&provider).with("oidc.extra_authorization_parameters", extra);
    let (browser, url) = open(&app, |url| {
        url.prompt("select_account")
            .login_hint("alice@example.com")
            .acr_values(["gold", "silver"])
            .max_age(Duration::from_millis(300_900))
            .ui_locales("de en")
            .scope("notes:read notes:write")
            .scope("notes:read")
            .scope("email")
            .authorization_details(json!([{ "type": "payment", "amount": "1.00" }]))
            .extra("hd", "ä &=\r\nx")
    })
    .await;
    assert!(!url.contains("alice"), "{url}");
    let page = browser.visit(&url).await;
    for (name, expected) in [
        ("prompt", "select_account"),
        ("login_hint", "alice@example.com"),
        ("acr_values", "gold silver"),
        ("max_age", "300"),
        ("ui_locales", "de en"),
        ("display", "page"),
        ("scope", "openid email profile notes:read notes:write"),
        ("authorization_details", r#"[{"amount":"1.00","type":"payment"}]"#),
        ("hd", "ä &=\r\nx"),
        ("client_id", "app"),
    ] {
        assert_eq!(values(&page, name), [expected], "{name}");
    }
}

/// A user may write any query; only the app asks.
#[rocket::async_test]
async fn of_the_query_only_the_page_and_the_login_hint_are_read() {
    let provider = TestProvider::start().await;
    let (browser, _) = open(&App::new(&provider), |url| url).await;
    let query = "next=/me&login_hint=alice&prompt=none&acr_values=x&max_age=1&scope=admin&ui_locales=de&extra=x";
    let page = browser.visit(&format!("/oidc/login?{query}")).await;
    assert_eq!(values(&page, "login_hint"), ["alice"]);
    for name in ["prompt", "acr_values", "max_age", "ui_locales", "extra"] {
        assert_eq!(values(&page, name), [""; 0], "{name}");
    }
    assert_eq!(values(&page, "scope"), ["openid email profile"]);
    let long = format!("/oidc/login?login_hint={}", "a".repeat(257));
    assert_eq!(values(&browser.visit(&long).await, "login_hint"), [""; 0]);
}

#[rocket::async_test]
async fn a_pushed_request_asks_the_same() {
    let provider = TestProvider::start().await;
    let endpoint = format!("{}/par", provider.issuer());
    provider.metadata(|metadata| {
        let name = "pushed_authorization_request_endpoint";
        metadata.insert(name.into(), endpoint.into());
    });
    let reply = Reply::json(json!({ "request_uri": "urn:x", "expires_in": 60 }));
    provider.on_path("/par", reply.with_status(201));
    let app = App::new(&provider).with("oidc.pushed_authorization_requests", true);
    let (browser, url) = open(&app, |url| url.acr_values(["gold"]).scope("notes")).await;
    let page = browser.visit(&url).await;
    assert_eq!(values(&page, "acr_values"), [""; 0]);
    let pushed = provider.last_request("/par");
    assert_eq!(pushed.form_value("acr_values"), Some("gold"));
    assert_eq!(pushed.form_value("scope"), Some("openid email profile notes"));
}

// ---- What was asked is checked.

/// What each answer changes in the ID token: `null` removes the claim.
async fn answered(app: &App, provider: &TestProvider, ask: Ask, claims: Value) -> (Browser, Page) {
    provider.on_id_token(move |token| {
        for (name, value) in claims.as_object().unwrap() {
            if value.is_null() {
                token.claims.remove(name);
            } else {
                token.set(name, value.clone());
            }
        }
    });
    let (browser, url) = open(app, ask).await;
    let page = browser.sign_in(provider, &url).await;
    (browser, page)
}

#[rocket::async_test]
async fn an_answer_that_falls_short_signs_nobody_in() {
    let provider = TestProvider::start().await;
    let gold: Ask = |url| url.acr_values(["gold", "platinum"]);
    let recent: Ask = |url| url.max_age(Duration::from_secs(300));
    let again: Ask = |url| url.prompt("login");
    let zero: Ask = |url| url.max_age(Duration::ZERO);
    for (name, ask, claims, error) in [
        ("acr", gold, json!({ "acr": "gold" }), None),
        ("second acr", gold, json!({ "acr": "platinum" }), None),
        (
            "other acr",
            gold,
            json!({ "acr": "silver" }),
            Some(r#"the sign-in has the authentication context "silver", expected one of ["gold", "platinum"]"#),
        ),
        (
            "no acr",
            gold,
            json!({ "acr": null }),
            Some(r#"the claim "acr" is missing"#),
        ),
        ("at the limit", recent, json!({ "auth_time": NOW - 360 }), None),
        (
            "too old",
            recent,
            json!({ "auth_time": NOW - 361 }),
            Some("the user was authenticated 361 s ago, expected at most 300 s"),
        ),
        (
            "no time",
            recent,
            json!({ "auth_time": null }),
            Some(r#"the claim "auth_time" is missing"#),
        ),
        ("again", again, json!({ "auth_time": NOW - 60 }), None),
        (
            "not again",
            again,
            json!({ "auth_time": NOW - 61 }),
            Some("the user was authenticated 61 s before this sign-in began, and it demands a new authentication"),
        ),
        (
            "again, no time",
            again,
            json!({ "auth_time": null }),
            Some(r#"the claim "auth_time" is missing"#),
        ),
        (
            "zero",
            zero,
            json!({ "auth_time": NOW - 61 }),
            Some("the user was authenticated 61 s before this sign-in began, and it demands a new authentication"),
        ),
    ] {
        case(name);
        let app = App::new(&provider);
        let (browser, page) = answered(&app, &provider, ask, claims).await;
        match error {
            None => drop(page.is(Status::Ok).sees("alice")),
            Some(error) => {
                page.is(Status::BadGateway);
                assert_eq!(app.failures(), [format!("the ID token is rejected: {error}")]);
                assert_signed_out(&browser).await;
            }
        }
    }
}

/// A provider need not state `auth_time` unless `max_age` is sent.
#[rocket::async_test]
async fn prompt_login_asks_for_the_time_of_the_authentication() {
    let provider = TestProvider::start().await;
    for (ask, expected) in [
        ((|url| url.prompt("login consent")) as Ask, "0"),
        (|url| url.prompt("login").max_age(Duration::from_secs(9)), "9"),
    ] {
        let (browser, url) = open(&App::new(&provider), ask).await;
        assert_eq!(values(&browser.visit(&url).await, "max_age"), [expected]);
    }
}

/// The user read the provider's consent page for ten minutes.
#[rocket::async_test]
async fn a_new_authentication_counts_however_long_the_user_then_takes() {
    let provider = TestProvider::start().await;
    provider.on_id_token(|token| token.set("auth_time", NOW + 1));
    let app = App::new(&provider);
    let (browser, url) = open(&app, |url| url.prompt("login")).await;
    let callback = browser.begin_sign_in(&provider, &url).await;
    app.advance(Duration::from_secs(600));
    let page = browser.arrive_from_provider(&callback.path_and_query()).await;
    browser.follow(&provider, page).await.is(Status::Ok).sees("alice");
}

#[rocket::async_test]
async fn the_settings_are_checked_where_nothing_replaces_them() {
    let provider = TestProvider::start().await;
    let extra = json!({ "acr_values": "silver", "max_age": 60 });
    let app = App::new(&provider).with("oidc.extra_authorization_parameters", extra);
    let claims = json!({ "acr": "gold", "auth_time": NOW });
    let (_, page) = answered(&app, &provider, |url| url.acr_values(["gold"]), claims.clone()).await;
    page.is(Status::Ok).sees("alice");
    let (_, page) = answered(&app, &provider, |url| url.login_hint("alice"), claims).await;
    page.is(Status::BadGateway);
    let old = json!({ "acr": "gold", "auth_time": NOW - 121 });
    let (_, page) = answered(&app, &provider, |url| url.acr_values(["gold"]), old).await;
    page.is(Status::BadGateway);
}

#[rocket::async_test]
async fn scopes_that_are_not_granted_sign_nobody_in() {
    let provider = TestProvider::start().await;
    let ask: Ask = |url| {
        url.scope("notes:read")
            .scope("https://graph.example/User.Read")
            .scope("offline_access")
    };
    let missing = |scopes: &str| Some(format!("the provider did not grant the scopes {scopes}"));
    let both = "notes:read https://graph.example/User.Read";
    for (scope, error) in [
        (Value::Null, None),
        (json!(format!("openid {both}")), None),
        (json!(["https://graph.example/User.Read", "notes:read"]), None),
        (json!("notes:read,User.Read"), None),
        (json!("api://x/notes:read User.Read"), None),
        (json!("openid offline_access"), missing(both)),
        (json!("notes:read"), missing("https://graph.example/User.Read")),
        (json!("xnotes:read Read"), missing(both)),
        (json!("NOTES:READ user.read"), missing(both)),
        (json!("https://graph.example/ /"), missing(both)),
        (json!([]), missing(both)),
    ] {
        case(&scope.to_string());
        let granted = scope.clone();
        provider.on_token_response(move |reply| match &granted {
            Value::Null => reply.remove("scope"),
            granted => reply.set("scope", granted.clone()),
        });
        let app = App::new(&provider);
        let (browser, url) = open(&app, ask).await;
        let page = browser.sign_in(&provider, &url).await;
        match error {
            None => drop(page.is(Status::Ok).sees("alice")),
            Some(error) => {
                page.is(Status::Forbidden)
                    .sees("The sign-in service did not grant this site the permissions that it asked for.");
                assert_eq!(app.failures(), [error]);
                assert_signed_out(&browser).await;
            }
        }
    }
}

/// RFC 9396 §7: what was granted, also after a refresh that does not repeat it.
#[rocket::async_test]
async fn granted_authorization_details_are_in_the_session() {
    let provider = TestProvider::start().await;
    let granted = json!([{ "type": "payment", "amount": "1.00" }, { "type": "account" }]);
    let ask: Ask = |url| url.authorization_details([json!({ "type": "payment" })]);
    for store in ["cookie", "memory"] {
        let app = App::new(&provider).with("oidc.session.store", store);
        let (browser, url) = open(&app, ask).await;
        let reply = granted.clone();
        provider.on_token_response(move |response| response.set("authorization_details", reply.clone()));
        browser.sign_in(&provider, &url).await.is(Status::Ok);
        assert_eq!(browser.visit("/details").await.json::<Value>(), granted);
        app.advance(DUE);
        assert_eq!(browser.visit("/details").await.json::<Value>(), granted);
        assert_eq!(
            provider.last_request("/token").form_value("grant_type"),
            Some("refresh_token")
        );

        for odd in [json!({ "type": "payment" }), json!("x"), Value::Null, json!(7)] {
            provider.on_token_response(move |response| response.set("authorization_details", odd.clone()));
            let (browser, url) = open(&app, ask).await;
            browser.sign_in(&provider, &url).await.is(Status::Ok);
            assert_eq!(browser.visit("/details").await.json::<Value>(), json!([]));
        }
    }
}

// ---- What a user may do with the URL and the cookies.

#[rocket::async_test]
async fn a_url_is_valid_for_a_day() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let (browser, url) = open(&app, |url| url.login_hint("alice")).await;
    app.advance(Duration::from_secs(24 * 60 * 60 - 1));
    assert_eq!(values(&browser.visit(&url).await, "login_hint"), ["alice"]);
    app.advance(Duration::from_secs(1));
    let page = browser.visit(&url).await;
    page.is(Status::BadRequest);
    assert_eq!(app.failures(), ["the URL of the sign-in is not valid any more"]);
    assert_eq!(page.location, None);
}

#[rocket::async_test]
async fn a_changed_url_begins_no_sign_in() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let (browser, url) = open(&app, |url| url.acr_values(["gold"])).await;
    let (start, value) = url.split_once("&parameters=").unwrap();
    let (_, other_client) = open(&App::new(&provider).with("oidc.client_id", "other"), |url| {
        url.prompt("none")
    })
    .await;
    let other_client = other_client.split_once("&parameters=").unwrap().1;
    let browsers_cookie = browser.visit("/oidc/login").await;
    let state = values(&browsers_cookie, "state").remove(0);
    let last = if value.ends_with('A') { 'B' } else { 'A' };
    for value in [
        &value[1..],
        &value[..value.len() - 1],
        &format!("{}{last}", &value[..value.len() - 1]),
        &format!("{value}AAAA"),
        other_client,
        &state,
        "",
        "x",
    ] {
        case(value);
        let page = browser.visit(&format!("{start}&parameters={value}")).await;
        page.is(Status::BadRequest);
        assert_eq!(page.location, None);
    }
    // The page of the URL is no part of it.
    let page = browser.visit(&format!("/oidc/login?parameters={value}&next=/")).await;
    assert_eq!(values(&page, "acr_values"), ["gold"]);
}

#[rocket::async_test]
async fn a_url_survives_a_change_of_the_key() {
    let provider = TestProvider::start().await;
    let (_, url) = open(&App::new(&provider), |url| url.login_hint("alice")).await;
    let app = App::new(&provider).with("secret_key", "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=");
    let browser = app.open().await;
    browser.visit(&url).await.is(Status::BadRequest);
    let browser = app.with("oidc.previous_secret_keys", [KEY]).open().await;
    assert_eq!(values(&browser.visit(&url).await, "login_hint"), ["alice"]);
}

/// The parameters are in a cookie where `state` has no room for them.
#[rocket::async_test]
async fn without_its_cookie_an_attempt_signs_nobody_in_and_does_not_restart() {
    let provider = TestProvider::start().await;
    provider.on_id_token(|token| token.set("acr", "gold"));
    let ask: Ask = |url| url.acr_values(["gold"]).extra("long", &"x".repeat(600));
    let attempt_cookie = |browser: &Browser| {
        let cookies = attempt_cookies(browser);
        let name = cookies.iter().find(|name| name.contains("oidc_attempt"));
        browser.cookie(name.unwrap()).unwrap()
    };
    // The first is accepted.
    for tampering in [
        "",
        "removed",
        "damaged",
        "of another attempt",
        "emptied",
        "expired, removed",
    ] {
        case(tampering);
        let app = App::new(&provider);
        let (browser, url) = open(&app, ask).await;
        let other = {
            let (other, url) = open(&app, |url| url.login_hint("alice").extra("long", &"x".repeat(600))).await;
            let _ = other.begin_sign_in(&provider, &url).await;
            attempt_cookie(&other)
        };
        let callback = browser.begin_sign_in(&provider, &url).await;
        let own = attempt_cookie(&browser);
        let with = |value: String| {
            let mut cookie = own.clone();
            cookie.set_value(value);
            browser.set_cookie(cookie);
        };
        match tampering {
            "damaged" => with(own.value()[..own.value().len() - 4].to_owned()),
            "of another attempt" => with(other.value().to_owned()),
            "emptied" => with(String::new()),
            "removed" | "expired, removed" => {
                let names = browser.cookies().into_iter().map(|(name, _)| name);
                let others: Vec<_> = names.filter(|name| name != own.name()).collect();
                let others: Vec<_> = others.iter().map(|name| browser.cookie(name).unwrap()).collect();
                browser.forget_cookies();
                for cookie in others {
                    browser.set_cookie(cookie);
                }
            }
            _ => {}
        }
        if tampering.starts_with("expired") {
            app.advance(Duration::from_secs(3_600));
        }
        let page = browser.arrive_from_provider(&callback.path_and_query()).await;
        if tampering.is_empty() {
            browser.follow(&provider, page).await.is(Status::Ok).sees("alice");
            continue;
        }
        page.is(Status::BadRequest);
        assert_eq!(page.location, None);
        assert_eq!(
            app.failures(),
            ["the cookie with the parameters of this sign-in is missing"]
        );
        assert_signed_out(&browser).await;
    }
}

#[rocket::async_test]
async fn a_restarted_attempt_asks_for_the_same() {
    let provider = TestProvider::start().await;
    for long in ["", "long"] {
        let app = App::new(&provider);
        let ask: Ask = if long.is_empty() {
            |url| url.acr_values(["gold"]).scope("notes")
        } else {
            |url| url.acr_values(["gold"]).scope("notes").extra("long", &"x".repeat(600))
        };
        let (browser, url) = open(&app, ask).await;
        let callback = browser.begin_sign_in(&provider, &url).await;
        app.advance(Duration::from_secs(3_600));
        let page = browser.arrive_from_provider(&callback.path_and_query()).await;
        assert_eq!(values(&page, "acr_values"), ["gold"]);
        assert_eq!(values(&page, "scope"), ["openid email profile notes"]);
        provider.on_id_token(|token| token.set("acr", "silver"));
        browser.follow(&provider, page).await.is(Status::BadGateway);
    }
}

/// The address is dropped before the parameters are: they are checked, and the start page is always there.
#[rocket::async_test]
async fn parameters_take_precedence_over_a_long_address() {
    let provider = TestProvider::start().await;
    provider.on_id_token(|token| token.set("acr", "gold"));
    let app = App::released(&provider);
    for (length, expected) in [(100, "/notes?page=1&sort=aaa"), (900, "/")] {
        let ask: Ask = |url| url.acr_values(["gold"]).extra("long", &"x".repeat(1_000));
        let browser = Browser::open(asking(app.rocket(), ask)).await;
        let next = format!("/notes?page=1&sort={}", "a".repeat(length));
        let next: String = url::form_urlencoded::byte_serialize(next.as_bytes()).collect();
        let url = browser.visit(&format!("/url?next={next}")).await.body.clone();
        let callback = browser.begin_sign_in(&provider, &url).await;
        let page = browser.arrive_from_provider(&callback.path_and_query()).await;
        let location = page.location.unwrap();
        assert!(
            location.starts_with(expected) && (expected != "/" || location == "/"),
            "{location}"
        );
    }
}

// ---- What the app may not ask.

#[rocket::async_test]
async fn what_the_app_may_not_set_fails_the_sign_in() {
    struct Unserializable;
    impl serde::Serialize for Unserializable {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("not JSON"))
        }
    }
    let provider = TestProvider::start().await;
    let refused =
        |name: &str| format!("the app sets the parameter `{name}`, which it may not set to this value or at all");
    for (ask, error) in [
        ((|url| url.extra("state", "x")) as Ask, refused("state")),
        (|url| url.extra("scope", "x"), refused("scope")),
        (|url| url.extra("Max_Age", "1"), refused("Max_Age")),
        (|url| url.extra("acr.values", "1"), refused("acr.values")),
        (|url| url.extra("max_age", "soon"), refused("max_age")),
        (
            |url| url.extra("redirect_uri", "x").extra("prompt", "x"),
            refused("redirect_uri"),
        ),
        (|url| url.authorization_details(Unserializable), refused("")),
        (
            |url| url.extra("long", &"x".repeat(2_000)),
            "the parameters of this sign-in have 2019 bytes, expected at most 1200".to_owned(),
        ),
    ] {
        case(&error);
        let app = App::new(&provider);
        let (browser, url) = open(&app, ask).await;
        let page = browser.visit(&url).await;
        page.is(Status::InternalServerError)
            .sees("Something went wrong on this site. Please contact its operators.");
        assert_eq!(page.location, None);
        assert_eq!(app.failures(), [error]);
    }
}

/// Demands more than the URL did.
struct StepsUp;

#[rocket::async_trait]
impl Events for StepsUp {
    async fn before_login_redirect(&self, _: &Request<'_>, login: &mut LoginRedirect<'_>) {
        assert_eq!(login.parameter("login_hint"), Some("alice"));
        assert_eq!(login.parameter("acr_values"), None);
        login.set_parameter("acr_values", "gold");
        login.set_parameter("login_hint", "bob");
        login.add_scope("notes");
    }
}

#[rocket::async_test]
async fn what_the_event_asks_is_checked_too() {
    let provider = TestProvider::start().await;
    for (acr, scope, status) in [
        ("gold", "openid notes", Status::Ok),
        ("silver", "openid notes", Status::BadGateway),
        ("gold", "openid", Status::Forbidden),
    ] {
        provider.on_id_token(move |token| token.set("acr", acr));
        provider.on_token_response(move |reply| reply.set("scope", scope));
        let app = App::new(&provider);
        let browser = Browser::open(asking(app.rocket_with(StepsUp), |url| url.login_hint("alice"))).await;
        let url = browser.visit("/url?next=/me").await.body.clone();
        let page = browser.visit(&url).await;
        assert_eq!(values(&page, "login_hint"), ["bob"]);
        assert_eq!(values(&page, "acr_values"), ["gold"]);
        assert_eq!(values(&page, "scope"), ["openid email profile notes"]);
        browser.follow(&provider, page).await.is(status);
    }
}

/// The testing profile has no provider to ask.
#[rocket::async_test]
async fn the_testing_profile_signs_in_whatever_is_asked() {
    let provider = TestProvider::start().await;
    let profile = json!({ "sub": "dev" });
    let app = App::new(&provider)
        .with("oidc.enabled", false)
        .with("oidc.testing_profile", profile);
    let (browser, url) = open(&app, |url| url.acr_values(["gold"])).await;
    let page = browser.visit(&url).await;
    assert_eq!(page.location.as_deref(), Some("/me"));
}
