//! Forms whose session had ended when they were sent.

use std::time::Duration;

use rocket::{
    Build, FromForm, Request, Rocket,
    form::Form,
    get,
    http::{Cookie, Method, Status},
    post, put,
    response::{self, Responder},
    routes,
    serde::json::{Json, Value, json},
};
use rocket_openidconnect::{
    Authorized, Clock, Draft, Fresh, Kept, KeptFormPage, LoggedIn, Oidc, OptionalUser, Pages, Policy, User, keep_forms,
    protect,
};

use crate::{
    common::{App, Log, NOW},
    support::{Browser, Page, TestProvider, TestStore},
};

const FORM: &str = "text=Milk+%26+bread%0D%0A&tag=a&tag=b";
const PAGE: &str = "/oidc/kept-form";
const KEY: &str = "oidc_kept_form";

#[derive(FromForm)]
struct Note<'r> {
    text: &'r str,
    tag: Vec<&'r str>,
}

struct Admin;

impl Policy for Admin {
    async fn permits(user: &User, _request: &Request<'_>) -> bool {
        user.subject() == "alice"
    }
}

#[post("/entries?<sort>", data = "<form>")]
fn add(sort: Option<&str>, form: Kept<Note<'_>>) -> String {
    let (text, tags) = (form.text, form.tag.join("+"));
    format!(
        "{} {text:?} {tags} {}",
        form.guard().subject(),
        sort.unwrap_or_default()
    )
}

#[put("/entries", data = "<form>")]
fn replace(form: Kept<Note<'_>>) -> String {
    format!("{} replaces by {:?}", form.guard().subject(), form.text)
}

#[post("/admin", data = "<form>")]
fn admin(form: Kept<Note<'_>, Authorized<Admin>>) -> String {
    let (user, note) = form.into_inner();
    format!("{} {:?}", user.subject(), note.text)
}

#[post("/fresh", data = "<form>")]
fn fresh(form: Kept<Note<'_>, LoggedIn<rocket_openidconnect::Claims, Fresh<10>>>) -> String {
    format!("{} {:?}", form.guard().subject(), form.text)
}

#[post("/plain", data = "<form>")]
fn plain(user: LoggedIn, form: Form<Note<'_>>) -> String {
    format!("{} {:?}", user.subject(), form.text)
}

#[post("/wrapped", data = "<form>")]
fn wrapped(user: LoggedIn, form: Form<Note<'_>>) -> String {
    format!("{} {:?}", user.subject(), form.text)
}

#[post("/protected", data = "<form>")]
fn protected(form: Form<Note<'_>>) -> String {
    format!("protected {:?}", form.text)
}

#[get("/entries")]
fn form_page(draft: Draft) -> Json<Value> {
    Json(json!({ "text": draft.value("text"), "fields": draft.fields(), "map": draft }))
}

#[get("/other")]
fn other_page(draft: Draft, _visitor: OptionalUser) -> String {
    format!("{} {draft:?}", draft.is_empty())
}

fn all_routes(rocket: Rocket<Build>) -> Rocket<Build> {
    rocket
        .mount("/", routes![add, replace, admin, fresh, plain, form_page, other_page])
        .mount("/", keep_forms(routes![wrapped]))
        .mount("/", keep_forms(protect(routes![protected])))
}

async fn signed_in(app: &App, provider: &TestProvider) -> Browser {
    Browser::signed_in(all_routes(app.rocket()), provider).await
}

/// Idle for longer than a session lasts.
fn pass_an_hour(app: &App) {
    app.advance(Duration::from_secs(61 * 60));
}

/// As a browser that submits the form of a page.
const SUBMITTED: [(&str, &str); 6] = [
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-Dest", "document"),
    ("Sec-Fetch-Site", "same-origin"),
    ("Accept", "text/html"),
    ("Origin", "http://localhost:8000"),
    ("Content-Type", "application/x-www-form-urlencoded"),
];

async fn submit(browser: &Browser, path: &str, body: &str) -> Page {
    submit_from(browser, path, body, "http://localhost:8000/entries?from=here").await
}

async fn submit_from(browser: &Browser, path: &str, body: &str, referer: &str) -> Page {
    let headers = [&SUBMITTED[..], &[("Referer", referer)]].concat();
    browser.request(Method::Post, path, &headers, body).await
}

/// Signs in after a form was kept, and is at the page with the button.
async fn to_the_page(browser: &Browser, provider: &TestProvider, rejected: Page) -> Page {
    rejected.redirects_to("/oidc/login?next=%2Foidc%2Fkept-form");
    browser.follow(provider, rejected).await
}

/// The fields of the form on the page, encoded as a browser sends them.
fn fields(page: &Page) -> (String, String) {
    let unescape = |text: &str| {
        let named = [
            ("&quot;", "\""),
            ("&lt;", "<"),
            ("&gt;", ">"),
            ("&#x27;", "'"),
            ("&#x2F;", "/"),
            ("&#96;", "`"),
        ];
        let text = named
            .iter()
            .fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
        text.replace("&amp;", "&")
    };
    let (_, form) = page.body.split_once("<form method=\"post\" action=\"").expect("a form");
    let (action, form) = form.split_once('"').unwrap();
    let mut encoded = url::form_urlencoded::Serializer::new(String::new());
    for field in form.split("<input type=\"hidden\" name=\"").skip(1) {
        let (name, field) = field.split_once("\" value=\"").unwrap();
        let (value, _) = field.split_once("\">").unwrap();
        encoded.append_pair(&unescape(name), &unescape(value));
    }
    (unescape(action), encoded.finish())
}

/// Presses the button of the page.
async fn press(browser: &Browser, page: &Page) -> Page {
    let (action, body) = fields(page);
    submit_from(browser, &action, &body, "http://localhost:8000/oidc/kept-form").await
}

fn has_key(browser: &Browser) -> bool {
    browser.cookies().iter().any(|(name, _)| name.contains(KEY))
}

/// 401 as with any guard, and nothing is kept.
#[track_caller]
fn is_lost(browser: &Browser, page: &Page) {
    page.is(Status::Unauthorized);
    assert_eq!(page.location, None);
    assert!(!has_key(browser));
}

#[rocket::async_test]
async fn a_form_whose_session_ended_is_sent_by_a_button_after_the_sign_in() {
    for store in ["cookie", "memory"] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider).with("oidc.session.store", store);
        let browser = signed_in(&app, &provider).await;
        let direct = submit(&browser, "/entries", FORM).await;
        assert_eq!(direct.is(Status::Ok).body, "alice \"Milk & bread\\r\\n\" a+b ");

        pass_an_hour(&app);
        let rejected = submit(&browser, "/entries?sort=a%26b", FORM).await;
        rejected.is(Status::SeeOther);
        assert_eq!(rejected.header("Cache-Control"), Some("no-store"));
        assert_eq!(
            rejected.location.as_deref(),
            Some("/oidc/login?next=%2Foidc%2Fkept-form%3Fnext%3D%252Fentries%253Ffrom%253Dhere")
        );
        let page = to_the_page(&browser, &provider, rejected).await;
        page.is(Status::Ok).sees("<title>Send your form</title>");
        page.sees("<code id=\"target\">&#x2F;entries?sort=a%26b</code>");
        page.sees("Fields: <code><bdi>text</bdi></code>, <code><bdi>tag</bdi></code>");
        page.sees("<a href=\"&#x2F;entries?from=here\">Back to the form</a>");
        page.sees_no("<script").sees_no("onload").sees_no("http-equiv");
        assert_eq!(page.header("Cache-Control"), Some("no-store"));
        assert_eq!(page.header("Referrer-Policy"), Some("same-origin"));
        let policies = page.header_values("Content-Security-Policy").join("; ");
        assert!(
            policies.contains("frame-ancestors 'none'") && policies.contains("default-src 'none'"),
            "{policies}"
        );

        // Loaded again, it is still there: it was not sent.
        let page = browser.visit(PAGE).await;
        assert_eq!(fields(&page).1, FORM);
        // The session ends once more before the button is pressed.
        pass_an_hour(&app);
        let (action, body) = fields(&page);
        let referer = "http://localhost:8000/oidc/kept-form?next=%2Fentries%3Ffrom%3Dhere";
        let rejected = submit_from(&browser, &action, &body, referer).await;
        let page = to_the_page(&browser, &provider, rejected).await;
        page.sees("<a href=\"&#x2F;entries?from=here\">Back to the form</a>");
        let sent = press(&browser, &page).await;
        assert_eq!(
            sent.is(Status::Ok).body,
            "alice \"Milk & bread\\r\\n\" a+b a&b",
            "{store}"
        );
        // Once.
        assert!(!has_key(&browser));
        let again = browser.visit("/oidc/kept-form?next=/entries").await;
        again.redirects_to("/entries").sees_no("Milk");
    }
}

#[rocket::async_test]
async fn the_form_is_shown_again_with_what_was_typed() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = signed_in(&app, &provider).await;
    let empty = json!({ "text": null, "fields": [], "map": {} });
    assert_eq!(browser.visit("/entries").await.json::<Value>(), empty);
    pass_an_hour(&app);
    let rejected = submit(&browser, "/entries", FORM).await;
    // Signed out, there is nothing.
    assert_eq!(browser.visit("/entries").await.json::<Value>(), empty);
    to_the_page(&browser, &provider, rejected).await.is(Status::Ok);
    let draft = browser.visit("/entries?from=elsewhere").await;
    assert_eq!(
        draft.json::<Value>(),
        json!({
            "text": "Milk & bread\r\n",
            "fields": [["text", "Milk & bread\r\n"], ["tag", "a"], ["tag", "b"]],
            "map": { "text": "Milk & bread\r\n", "tag": "a" },
        })
    );
    assert_eq!(browser.visit("/other").await.body, "true Draft([])");
    // What was changed is sent, and then nothing is kept.
    let sent = submit(&browser, "/entries", "text=Milk").await;
    assert_eq!(sent.is(Status::Ok).body, "alice \"Milk\"  ");
    assert_eq!(browser.visit("/entries").await.json::<Value>(), empty);

    // The page with the form has another address than the route.
    pass_an_hour(&app);
    let rejected = submit_from(&browser, "/entries", FORM, "http://localhost:8000/other?x").await;
    to_the_page(&browser, &provider, rejected).await;
    assert_eq!(
        browser.visit("/other").await.body,
        "false Draft([\"text\", \"tag\", \"tag\"])"
    );
    // A form that cannot be read is not a form that was sent.
    submit(&browser, "/entries", "tag=only")
        .await
        .is(Status::UnprocessableEntity);
    assert!(has_key(&browser));
}

#[rocket::async_test]
async fn any_end_of_a_session_keeps_the_form_as_far_as_its_record_opens() {
    let provider = TestProvider::start().await;
    // Sign-out in another tab, whose cookies this one still had when it was sent.
    let app = App::new(&provider);
    let browser = signed_in(&app, &provider).await;
    let cookies = browser.cookies();
    browser.submit("/oidc/logout", "").await;
    let put_back = |cookies: &[(String, String)]| {
        for (name, value) in cookies.iter().filter(|(name, _)| name.starts_with("oidc_session")) {
            let mut cookie = Cookie::new(name.clone(), value.clone());
            cookie.set_path("/");
            browser.set_cookie(cookie);
        }
    };
    put_back(&cookies);
    let rejected = submit(&browser, "/entries", FORM).await;
    to_the_page(&browser, &provider, rejected).await.is(Status::Ok);

    // The refresh was refused.
    let browser = signed_in(&app, &provider).await;
    app.advance(Duration::from_secs(59 * 60));
    provider.revoke_refresh_tokens();
    let rejected = submit(&browser, "/entries", FORM).await;
    to_the_page(&browser, &provider, rejected).await.is(Status::Ok);

    // A record that a store has removed does not say whose it was.
    let app = App::new(&provider).with("oidc.session.store", "memory");
    let browser = signed_in(&app, &provider).await;
    let cookies = browser.cookies();
    browser.submit("/oidc/logout", "").await;
    for (name, value) in cookies {
        let mut cookie = Cookie::new(name, value);
        cookie.set_path("/");
        browser.set_cookie(cookie);
    }
    is_lost(&browser, &submit(&browser, "/entries", FORM).await);
    // Nor is there anyone without a session, or with a cookie that does not decrypt.
    let stranger = browser.another();
    is_lost(&stranger, &submit(&stranger, "/entries", FORM).await);
    let mut forged = Cookie::new(cookie_name(&browser), "forged");
    forged.set_path("/");
    stranger.set_cookie(forged);
    is_lost(&stranger, &submit(&stranger, "/entries", FORM).await);
}

fn cookie_name(browser: &Browser) -> String {
    let names = browser.cookies().into_iter().map(|(name, _)| name);
    names
        .into_iter()
        .find(|name| name.starts_with("oidc_session"))
        .expect("a session")
}

/// Each is the accepted request with one change.
#[rocket::async_test]
async fn what_no_page_of_this_app_sent_is_not_kept() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = signed_in(&app, &provider).await;
    pass_an_hour(&app);
    let with = |name: &'static str, value: &'static str| {
        let mut headers: Vec<_> = SUBMITTED.into_iter().filter(|(other, _)| *other != name).collect();
        if !value.is_empty() {
            headers.push((name, value));
        }
        headers
    };
    for (headers, status) in [
        (with("Sec-Fetch-Site", "none"), 401),
        (with("Sec-Fetch-Site", "same-site"), 403),
        (with("Sec-Fetch-Mode", "cors"), 401),
        (with("Sec-Fetch-Dest", "iframe"), 401),
        (with("Content-Type", "multipart/form-data; boundary=x"), 401),
        (with("Content-Type", "text/plain"), 401),
        (with("Content-Type", ""), 401),
    ] {
        let page = browser.request(Method::Post, "/entries", &headers, FORM).await;
        assert_eq!(page.status, status, "{headers:?}");
        assert!(!has_key(&browser), "{headers:?}");
    }
    // An old browser, or plain http: by `Origin`.
    let old = [
        ("Accept", "text/html"),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    for (origin, status) in [("http://blog.localhost:8000", 403), ("null", 403), ("", 401)] {
        let mut headers = old.to_vec();
        if !origin.is_empty() {
            headers.push(("Origin", origin));
        }
        let page = browser.request(Method::Post, "/entries", &headers, FORM).await;
        assert_eq!(page.status, status, "{headers:?}");
        assert!(!has_key(&browser), "{headers:?}");
    }
    // A body that is too large, one that is not encoded, and a method that no form has.
    for body in ["text=\"a\"", "text=a b", "text=\u{e9}", "text=a\n"] {
        is_lost(
            &browser,
            &browser.request(Method::Post, "/entries", &SUBMITTED, body).await,
        );
    }
    let huge = format!("text={}", "x".repeat(64 * 1024));
    is_lost(
        &browser,
        &browser.request(Method::Post, "/entries", &SUBMITTED, &huge).await,
    );
    is_lost(
        &browser,
        &browser.request(Method::Put, "/entries", &SUBMITTED, FORM).await,
    );

    let own = [&old[..], &[("Origin", "http://localhost:8000")]].concat();
    let page = browser.request(Method::Post, "/entries", &own, FORM).await;
    // Without a page to go back to.
    assert_eq!(page.location.as_deref(), Some("/oidc/login?next=%2Foidc%2Fkept-form"));
    assert!(has_key(&browser));
    let largest = format!("text={}", "x".repeat(64 * 1024 - 10));
    submit(&browser, "/entries", &largest).await.is(Status::SeeOther);
}

/// What Rocket makes another method of.
#[rocket::async_test]
async fn a_form_with_another_method_is_sent_as_it_was() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = signed_in(&app, &provider).await;
    pass_an_hour(&app);
    let rejected = submit(&browser, "/entries", &format!("_method=put&{FORM}")).await;
    let page = to_the_page(&browser, &provider, rejected).await;
    let sent = press(&browser, &page).await;
    assert_eq!(sent.is(Status::Ok).body, "alice replaces by \"Milk & bread\\r\\n\"");
}

#[rocket::async_test]
async fn another_user_of_the_browser_gets_nothing() {
    for store in ["cookie", "memory"] {
        let provider = TestProvider::start().await;
        let app = App::new(&provider).with("oidc.session.store", store);
        let browser = signed_in(&app, &provider).await;
        pass_an_hour(&app);
        let rejected = submit(&browser, "/entries", FORM).await;
        let key = browser.cookies();
        provider.user_claims(json!({ "sub": "bob" }));
        let page = browser.follow(&provider, rejected).await;
        // The page from which it was sent, without what was typed.
        page.is(Status::Ok).sees_no("Milk");
        assert_eq!(page.url, "/entries?from=here");
        assert!(!has_key(&browser), "the key is of no use any more");
        // Nor with the key.
        for (name, value) in key.into_iter().filter(|(name, _)| name.contains(KEY)) {
            let mut cookie = Cookie::new(name, value);
            cookie.set_path("/");
            browser.set_cookie(cookie);
        }
        browser.visit("/entries").await.is(Status::Ok).sees_no("Milk");
        browser.visit(PAGE).await.redirects_to("/");
    }
}

/// An attacker has their own form kept, and plants its key in the browser of a user; and signs the user's browser in as
/// themselves.
#[rocket::async_test]
async fn the_form_of_an_attacker_is_not_sent_as_a_user_nor_the_other_way_round() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    provider.user_claims(json!({ "sub": "mallory" }));
    let attacker = signed_in(&app, &provider).await;
    pass_an_hour(&app);
    submit(&attacker, "/entries", "text=to+mallory")
        .await
        .is(Status::SeeOther);
    let planted = attacker
        .cookies()
        .into_iter()
        .find(|(name, _)| name.contains(KEY))
        .unwrap();

    provider.user_claims(json!({ "sub": "alice" }));
    let user = attacker.another();
    user.sign_in(&provider, "/me").await.is(Status::Ok);
    let plant = |browser: &Browser| {
        let mut cookie = Cookie::new(planted.0.clone(), planted.1.clone());
        cookie.set_path("/");
        browser.set_cookie(cookie);
    };
    plant(&user);
    user.visit(PAGE).await.redirects_to("/").sees_no("mallory");
    plant(&user);
    user.visit("/entries").await.is(Status::Ok).sees_no("to mallory");

    // The user's form is under a new key, whatever was planted.
    plant(&user);
    pass_an_hour(&app);
    submit(&user, "/entries", FORM).await.is(Status::SeeOther);
    let key = user.cookies().into_iter().find(|(name, _)| name.contains(KEY)).unwrap();
    assert_ne!(key.1, planted.1);
    // Alice in another browser, without the key or with the planted one, does not get it.
    let elsewhere = user.another();
    elsewhere.sign_in(&provider, "/me").await.is(Status::Ok);
    elsewhere.visit("/entries").await.is(Status::Ok).sees_no("Milk");
    plant(&elsewhere);
    elsewhere.visit("/entries").await.is(Status::Ok).sees_no("Milk");
    elsewhere.visit(PAGE).await.redirects_to("/");
    // Signed in as the attacker, the user's browser does not send it.
    provider.user_claims(json!({ "sub": "mallory" }));
    user.sign_in(&provider, PAGE).await.sees_no("Milk");
}

#[rocket::async_test]
async fn a_form_is_kept_for_half_an_hour_and_the_latest_of_a_user() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = signed_in(&app, &provider).await;
    pass_an_hour(&app);
    submit(&browser, "/entries", "text=first").await.is(Status::SeeOther);
    let rejected = submit(&browser, "/entries", "text=second").await;
    let page = to_the_page(&browser, &provider, rejected).await;
    assert_eq!(fields(&page).1, "text=second");
    app.advance(Duration::from_secs(30 * 60 - 1));
    assert_eq!(fields(&browser.visit(PAGE).await).1, "text=second");
    app.advance(Duration::from_secs(1));
    browser.visit(PAGE).await.redirects_to("/");
    assert!(!has_key(&browser));
}

#[rocket::async_test]
async fn a_restart_loses_forms_in_memory_and_keeps_those_in_a_store() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = signed_in(&app, &provider).await;
    pass_an_hour(&app);
    let rejected = submit(&browser, "/entries", FORM).await;
    let restarted = Browser::open(all_routes(app.rocket())).await;
    move_cookies(&browser, &restarted);
    let page = restarted.follow(&provider, rejected).await;
    // The user types it again.
    assert_eq!(page.is(Status::Ok).url, "/entries?from=here");
    page.sees_no("Milk");

    let store = TestStore::new();
    let browser = signed_in(&app.over(&store), &provider).await;
    pass_an_hour(&app);
    let rejected = submit(&browser, "/entries", FORM).await;
    let other_node = Browser::open(all_routes(app.over(&store).rocket())).await;
    move_cookies(&browser, &other_node);
    let page = to_the_page(&other_node, &provider, rejected).await;
    press(&other_node, &page).await.is(Status::Ok).sees("Milk & bread");
    other_node.visit(PAGE).await.redirects_to("/");

    // While the store is down, a form is lost.
    pass_an_hour(&app);
    store.fail_all("the store is down");
    let page = submit(&other_node, "/entries", FORM).await;
    page.is(Status::ServiceUnavailable);
    assert!(!has_key(&other_node));
}

fn move_cookies(from: &Browser, to: &Browser) {
    for (name, value) in from.cookies() {
        let mut cookie = Cookie::new(name, value);
        cookie.set_path("/");
        to.set_cookie(cookie);
    }
}

#[rocket::async_test]
async fn other_guards_and_routes_keep_forms_too() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = signed_in(&app, &provider).await;
    for (path, sent) in [
        ("/admin", "alice \"Milk & bread\\r\\n\""),
        ("/wrapped", "alice \"Milk & bread\\r\\n\""),
        ("/protected", "protected \"Milk & bread\\r\\n\""),
    ] {
        assert_eq!(submit(&browser, path, FORM).await.is(Status::Ok).body, sent);
        pass_an_hour(&app);
        let rejected = submit(&browser, path, FORM).await;
        let page = to_the_page(&browser, &provider, rejected).await;
        assert_eq!(press(&browser, &page).await.is(Status::Ok).body, sent);
        assert!(!has_key(&browser), "{path}");
    }
    // Signed out without a session that ended, they reject as always.
    let stranger = browser.another();
    for path in ["/entries", "/admin", "/wrapped", "/protected"] {
        is_lost(&stranger, &submit(&stranger, path, FORM).await);
    }
    // A user whom the policy does not permit gets 403, and no form.
    provider.user_claims(json!({ "sub": "bob" }));
    browser.sign_in(&provider, "/oidc/login?next=/me").await.is(Status::Ok);
    submit(&browser, "/admin", FORM).await.is(Status::Forbidden);
    assert!(!has_key(&browser));
}

#[rocket::async_test]
async fn a_form_whose_user_must_authenticate_again_is_kept() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = signed_in(&app, &provider).await;
    app.advance(Duration::from_secs(20 * 60));
    let rejected = submit(&browser, "/fresh", FORM).await;
    rejected.redirects_to("/oidc/login?");
    let page = browser.follow(&provider, rejected).await;
    let sent = press(&browser, page.is(Status::Ok)).await;
    assert_eq!(sent.is(Status::Ok).body, "alice \"Milk & bread\\r\\n\"");
}

/// With a guard beside `Form`, the body is lost: Rocket gives it to nothing after a guard has failed.
#[rocket::async_test]
async fn an_ordinary_form_is_lost() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = signed_in(&app, &provider).await;
    assert_eq!(
        submit(&browser, "/plain", FORM).await.is(Status::Ok).body,
        "alice \"Milk & bread\\r\\n\""
    );
    pass_an_hour(&app);
    is_lost(&browser, &submit(&browser, "/plain", FORM).await);
}

#[rocket::async_test]
async fn another_tenant_does_not_get_the_form() {
    let (acme, beta) = (TestProvider::start().await, TestProvider::start().await);
    beta.set_time(NOW);
    let client = |provider: &TestProvider, host: &str| {
        json!({
            "issuer": provider.issuer(), "client_id": "app", "client_secret": "hush",
            "base_url": format!("http://{host}:8000"),
        })
    };
    let providers = json!({ "acme": client(&acme, "acme.example"), "beta": client(&beta, "beta.example") });
    let app = App::new(&acme)
        .with_all(json!({ "issuer": null, "client_id": null, "client_secret": null }))
        .with_all(json!({ "providers": providers }));
    let clock = Clock::fixed_at(NOW);
    let fairing = Oidc::fairing()
        .clock(clock.clone())
        .provider_for(|request: &Request<'_>| {
            let host = request.headers().get_one("Host")?;
            Some(host.split('.').next()?.to_owned())
        });
    let browser = Browser::open(all_routes(app.bare().attach(fairing))).await;
    let sign_in = async |provider: &TestProvider, host: &'static str| {
        let page = browser.visit_with("/oidc/login?next=/entries", &[("Host", host)]).await;
        let callback = provider.authorize(page.location.as_deref().unwrap());
        let page = browser.visit_with(&callback.path_and_query(), &[("Host", host)]).await;
        page.redirects_to("/entries");
    };
    sign_in(&acme, "acme.example").await;
    clock.advance(Duration::from_secs(61 * 60));
    for provider in [&acme, &beta] {
        provider.set_time(clock.now().unix_timestamp());
    }
    let headers = [&SUBMITTED[..5], &[SUBMITTED[5], ("Host", "acme.example")]].concat();
    let rejected = browser.request(Method::Post, "/entries", &headers, FORM).await;
    rejected.redirects_to("/oidc/login/acme?next=%2Foidc%2Fkept-form");
    // One browser at one host has the cookies of both here, and `alice` is a user of both.
    sign_in(&beta, "beta.example").await;
    let page = browser.visit_with(PAGE, &[("Host", "beta.example")]).await;
    page.redirects_to("/");
    browser
        .visit_with("/entries", &[("Host", "beta.example")])
        .await
        .is(Status::Ok)
        .sees_no("Milk");
    sign_in(&acme, "acme.example").await;
    browser
        .visit_with("/entries", &[("Host", "acme.example")])
        .await
        .is(Status::Ok)
        .sees("Milk");
}

/// The app's own page, which it renders by a template.
struct Own;

impl Pages for Own {
    fn kept_form(&self, request: &Request<'_>, form: &KeptFormPage) -> response::Result<'static> {
        Json(json!(form)).respond_to(request)
    }
}

#[rocket::async_test]
async fn the_app_renders_the_page() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let fairing = Oidc::fairing().clock(app.clock()).pages(Own);
    let rocket = all_routes(app.bare().attach(fairing)).mount("/", crate::common::pages());
    let browser = Browser::signed_in(rocket, &provider).await;
    pass_an_hour(&app);
    let rejected = submit(&browser, "/entries", "text=<b>").await;
    let page = to_the_page(&browser, &provider, rejected).await;
    assert_eq!(
        page.json::<Value>(),
        json!({
            "action": "/entries",
            "fields": [{ "name": "text", "value": "<b>" }],
            "form_page": "/entries?from=here",
            "cancel": "/",
        })
    );
    assert_eq!(page.header("Cache-Control"), Some("no-store"));
    assert_eq!(page.header("Referrer-Policy"), Some("same-origin"));
    assert_eq!(page.header("Content-Security-Policy"), Some("frame-ancestors 'none'"));
}

#[rocket::async_test]
async fn neither_the_log_nor_the_cookie_has_the_form() {
    let provider = TestProvider::start().await;
    let store = TestStore::new();
    let app = App::new(&provider).over(&store);
    let browser = signed_in(&app, &provider).await;
    pass_an_hour(&app);
    let log = Log::listen();
    let page = submit(&browser, "/entries", "text=hunter2secret").await;
    page.is(Status::SeeOther);
    assert!(!format!("{:?}{:?}", log.all_lines(), page).contains("hunter2secret"));
    let (_, key) = browser
        .cookies()
        .into_iter()
        .find(|(name, _)| name.contains(KEY))
        .unwrap();
    assert_eq!(key.len(), 43);
}

#[rocket::async_test]
async fn the_report_at_liftoff_says_where_forms_are() {
    let provider = TestProvider::start().await;
    let line = "forms whose session ended: in the memory of this process, up to 16 MB";
    for (rocket, expected) in [
        (all_routes(App::new(&provider).rocket()), true),
        (App::new(&provider).rocket(), false),
    ] {
        let log = Log::listen();
        let _browser = Browser::open(rocket).await;
        let lines = log.lines_with_report();
        assert_eq!(lines.iter().any(|found| found.contains(line)), expected, "{lines:#?}");
    }
}
