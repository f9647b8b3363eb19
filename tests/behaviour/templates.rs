//! `render`: templates of rocket_dyn_templates that show the visitor.

use std::{fs, sync::Mutex, time::Duration};

use rocket::{
    Build, Request, Response, Rocket, catch, catchers,
    fairing::AdHoc,
    get,
    http::{ContentType, Header, Method, Status},
    response::{self, Responder},
    routes,
};
use rocket_dyn_templates::{Template, context};
use rocket_openidconnect::{LoggedIn, VisitorTemplate, render};
use serde_json::json;
use tempfile::TempDir;

use crate::{
    common::{App, Log, launch_failure},
    support::{Browser, TestProvider, TestStore},
};

const TEMPLATES: [(&str, &str); 4] = [
    (
        "page.html.j2",
        "{{ title }}: {% if visitor.logged_in %}{{ visitor.user.name }} in {{ visitor.user.groups | join('+') }}\
         {% else %}<a href=\"{{ visitor.login_url }}\">in</a>{% endif %}",
    ),
    ("data.json.j2", "{\"logged_in\": {{ visitor.logged_in }}}"),
    ("wrong.html.j2", "{{ title.of.nothing }}"),
    ("panics.html.j2", "{{ panics() }}"),
];
/// When the session of the test provider is due for a refresh.
const DUE: Duration = Duration::from_secs(285);

#[derive(Responder)]
struct Cached<R>(R, Header<'static>);

fn public<R>(body: R) -> Cached<R> {
    Cached(body, Header::new("Cache-Control", "public, max-age=60"))
}

/// Renders, and then fails.
struct FailsLater;

impl<'r> Responder<'r, 'static> for FailsLater {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        render("page", context! { title: "never" }).respond_to(request)?;
        Err(Status::ImATeapot)
    }
}

#[get("/page")]
fn page() -> VisitorTemplate {
    render("page", context! { title: "Page" })
}

#[get("/spoofed")]
fn spoofed() -> VisitorTemplate {
    render(
        "page",
        json!({ "title": "Spoofed", "visitor": { "logged_in": true, "user": { "name": "Eve" } } }),
    )
}

#[get("/created")]
fn created() -> (Status, (ContentType, VisitorTemplate)) {
    let page = render("page", context! { title: "Created" });
    (Status::Created, (ContentType::Plain, page))
}

#[get("/data")]
fn data() -> VisitorTemplate {
    render("data", ())
}

#[get("/public-page")]
fn public_page() -> Cached<VisitorTemplate> {
    public(page())
}

#[get("/asset")]
fn asset() -> Cached<&'static str> {
    public("body { }")
}

#[get("/mine")]
fn mine(_user: LoggedIn) -> VisitorTemplate {
    page()
}

#[get("/fails/<how>")]
fn fails(how: &str) -> VisitorTemplate {
    match how {
        "list" => render("page", [1, 2]),
        "keys" => render("page", std::collections::BTreeMap::from([((1, 2), 3)])),
        "missing" => render("missing", ()),
        "wrong" => render("wrong", ()),
        _ => render("panics", ()),
    }
}

#[get("/fails-later")]
fn fails_later() -> FailsLater {
    FailsLater
}

#[catch(404)]
fn not_found(request: &Request<'_>) -> VisitorTemplate {
    render("page", context! { title: request.uri().path().as_str() })
}

#[catch(401)]
fn unauthorized() -> VisitorTemplate {
    render("missing", ())
}

#[catch(418)]
fn teapot() -> &'static str {
    "a teapot"
}

#[catch(500)]
fn broken() -> &'static str {
    "500 in the app's words"
}

/// An app with templates, and what it must not outlive.
struct Pages {
    folder: TempDir,
    app: App,
}

impl Pages {
    fn of(app: App) -> Pages {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in TEMPLATES {
            fs::write(folder.path().join(name), text).unwrap();
        }
        Pages { folder, app }
    }

    fn rocket(&self) -> Rocket<Build> {
        let rocket = self.app.clone().with("template_dir", self.folder.path()).rocket();
        let engine = Template::custom(|engines| {
            let panics = || -> String { panic!("a function of the app") };
            engines.minijinja.add_function("panics", panics);
        });
        let routes = routes![
            page,
            spoofed,
            created,
            data,
            public_page,
            asset,
            mine,
            fails,
            fails_later
        ];
        rocket
            .attach(engine)
            .mount("/", routes)
            .register("/", catchers![not_found, unauthorized, teapot, broken])
    }

    async fn open(&self) -> Browser {
        Browser::open(self.rocket()).await
    }

    async fn signed_in(&self, provider: &TestProvider) -> Browser {
        Browser::signed_in(self.rocket(), provider).await
    }
}

#[rocket::async_test]
async fn a_page_shows_its_visitor_without_a_guard() {
    let provider = TestProvider::start().await;
    provider.user_claims(json!({ "sub": "alice", "name": "Alice <& Co>", "groups": ["staff", "users"] }));
    let pages = Pages::of(App::new(&provider));
    let browser = pages.open().await;
    let page = browser.visit("/page").await;
    let stranger = "Page: <a href=\"&#x2f;oidc&#x2f;login?next=%2Fpage\">in</a>";
    assert_eq!(page.is(Status::Ok).body, stranger);
    assert_eq!(page.header("Content-Type"), Some("text/html; charset=utf-8"));
    assert_eq!(
        (page.header("Cache-Control"), page.header("Vary")),
        (None, Some("Cookie"))
    );
    assert_eq!(page.header("X-Oidc-Template"), None);

    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    let page = browser.visit("/page").await;
    assert_eq!(page.is(Status::Ok).body, "Page: Alice &lt;&amp; Co&gt; in staff+users");
    assert_eq!(
        (page.header("Cache-Control"), page.header("Vary")),
        (Some("no-store"), Some("Cookie"))
    );
    for path in ["/mine", "/spoofed"] {
        browser.visit(path).await.is(Status::Ok).sees("Alice &lt;&amp; Co&gt;");
    }
    let page = browser.request(Method::Head, "/page", &[], "").await;
    assert_eq!((page.status, &*page.body), (200, ""));
}

#[rocket::async_test]
async fn status_and_content_type_stay() {
    let provider = TestProvider::start().await;
    let pages = Pages::of(App::new(&provider));
    let browser = pages.open().await;
    let page = browser.visit("/created").await;
    assert_eq!(page.header("Content-Type"), Some("text/plain; charset=utf-8"));
    page.is(Status::Created).sees("Created: ");
    // By the template's name.
    let page = browser.visit("/data").await;
    assert_eq!(page.is(Status::Ok).body, "{\"logged_in\": false}");
    assert_eq!(page.header("Content-Type"), Some("application/json"));
}

#[rocket::async_test]
async fn the_context_of_the_app_does_not_replace_the_visitor() {
    let provider = TestProvider::start().await;
    let pages = Pages::of(App::new(&provider));
    let browser = pages.open().await;
    browser.visit("/spoofed").await.sees("Spoofed: <a").sees_no("Eve");
}

#[rocket::async_test]
async fn only_pages_that_show_the_visitor_are_kept_out_of_caches() {
    let provider = TestProvider::start().await;
    let pages = Pages::of(App::new(&provider));
    let browser = pages.signed_in(&provider).await;
    let page = browser.visit("/asset").await;
    assert_eq!(page.header("Cache-Control"), Some("public, max-age=60"));
    assert_eq!(page.header("Vary"), None);
    let page = browser.visit("/public-page").await;
    assert_eq!(page.header("Cache-Control"), Some("no-store"));
    let page = browser.another().visit("/public-page").await;
    assert_eq!(page.header("Cache-Control"), Some("public, max-age=60"));
    assert_eq!(page.header("Vary"), Some("Cookie"));
}

#[rocket::async_test]
async fn a_session_that_the_page_refreshes_is_not_lost() {
    let provider = TestProvider::start().await;
    let pages = Pages::of(App::new(&provider));
    for path in ["/page", "/nowhere", "/fails/wrong", "/fails/panics"] {
        let browser = pages.signed_in(&provider).await;
        let before = provider.count("/token");
        pages.app.advance(DUE);
        let page = browser.visit(path).await;
        assert_eq!(provider.count("/token"), before + 1, "{path}");
        assert!(
            page.set_cookies().iter().any(|set| set.contains("oidc_session")),
            "{path}"
        );
        assert_eq!(page.header("Cache-Control"), Some("no-store"));
        // The next one has the rotated refresh token.
        pages.app.advance(DUE);
        browser.visit("/page").await.is(Status::Ok).sees("Alice");
        assert_eq!(provider.count("/token"), before + 2, "{path}");
    }
}

#[rocket::async_test]
async fn a_catcher_shows_the_visitor() {
    let provider = TestProvider::start().await;
    let pages = Pages::of(App::new(&provider));
    let browser = pages.open().await;
    browser
        .visit("/nowhere")
        .await
        .is(Status::NotFound)
        .sees("nowhere: <a href=");
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    browser
        .visit("/nowhere")
        .await
        .is(Status::NotFound)
        .sees("nowhere: Alice Liddell");
}

/// Whatever the catcher of the 401 shows, and even if that fails.
#[rocket::async_test]
async fn a_page_load_is_redirected_to_sign_in_all_the_same() {
    let provider = TestProvider::start().await;
    let pages = Pages::of(App::new(&provider));
    let browser = pages.open().await;
    let page = browser.visit("/mine").await;
    assert_eq!(
        page.is(Status::SeeOther).location.as_deref(),
        Some("/oidc/login?next=%2Fmine")
    );
    assert_eq!(page.body, "");
    browser.fetch("/mine").await.is(Status::InternalServerError);
}

#[rocket::async_test]
async fn without_the_store_the_visitor_is_signed_out() {
    let provider = TestProvider::start().await;
    let store = TestStore::new();
    let pages = Pages::of(App::new(&provider).over(&store));
    let browser = pages.signed_in(&provider).await;
    store.fail_all("the store is down");
    browser.visit("/page").await.is(Status::Ok).sees("<a href=");
    store.recover();
    browser.visit("/page").await.is(Status::Ok).sees("Alice");
}

#[rocket::async_test]
async fn what_fails_is_a_500_with_its_cause_in_the_log() {
    let provider = TestProvider::start().await;
    let pages = Pages::of(App::new(&provider));
    let browser = pages.open().await;
    for (how, cause) in [
        (
            "list",
            "ERROR: the context of the template `page` is a list, expected an object",
        ),
        (
            "keys",
            "ERROR: the context of the template `page` does not serialize: key must be a string",
        ),
    ] {
        let log = Log::listen();
        let page = browser.visit(&format!("/fails/{how}")).await;
        assert_eq!(page.is(Status::InternalServerError).body, "500 in the app's words");
        assert_eq!(log.lines()[0], cause);
    }
    for (how, name) in [("missing", "missing"), ("wrong", "wrong"), ("panics", "panics")] {
        let log = Log::listen();
        let page = browser.visit(&format!("/fails/{how}")).await;
        page.is(Status::InternalServerError).sees("This page could not be made");
        assert_eq!(page.header("Content-Type"), Some("text/html; charset=utf-8"));
        assert_eq!(log.lines()[0], format!("ERROR: the template `{name}` was not rendered"));
    }
}

/// The page of the catcher that answers in its place stays.
#[rocket::async_test]
async fn a_template_that_is_not_the_response_is_not_shown() {
    let provider = TestProvider::start().await;
    let pages = Pages::of(App::new(&provider));
    let browser = pages.open().await;
    let page = browser.visit("/fails-later").await;
    assert_eq!(page.is(Status::ImATeapot).body, "a teapot");
}

/// The body is made where the fairing is attached.
#[rocket::async_test]
async fn fairings_before_ours_see_an_empty_body() {
    #[derive(Default)]
    struct Seen(Mutex<Vec<(&'static str, Option<usize>)>>);
    fn look(name: &'static str) -> AdHoc {
        AdHoc::on_response(name, move |request, response: &mut Response<'_>| {
            Box::pin(async move {
                let size = response.body().preset_size();
                let seen = request.rocket().state::<Seen>().unwrap();
                seen.0.lock().unwrap().push((name, size.filter(|size| *size > 0)));
            })
        })
    }
    let provider = TestProvider::start().await;
    let pages = Pages::of(App::new(&provider));
    let app = pages.app.clone().with("template_dir", pages.folder.path());
    let fairing = rocket_openidconnect::Oidc::fairing().clock(app.clock());
    let rocket = app
        .bare()
        .manage(Seen::default())
        .attach(look("before"))
        .attach(fairing)
        .attach(look("after"))
        .attach(Template::fairing())
        .mount("/", routes![data]);
    let browser = Browser::open(rocket).await;
    browser.visit("/data").await.is(Status::Ok);
    let seen = browser.client().rocket().state::<Seen>().unwrap();
    assert_eq!(*seen.0.lock().unwrap(), [("before", None), ("after", Some(20))]);
}

#[rocket::async_test]
async fn the_launch_aborts_without_a_fairing() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let (kind, _) = launch_failure(app.rocket().mount("/", routes![page])).await;
    assert_eq!(kind, "1 sentinels abort");

    let pages = Pages::of(app);
    let app = pages.app.clone().with("template_dir", pages.folder.path());
    let without = app.bare().attach(Template::fairing()).mount("/", routes![page]);
    let (kind, lines) = launch_failure(without).await;
    assert_eq!(kind, "1 sentinels abort");
    assert!(
        lines[0].ends_with("VisitorTemplate`, but the fairing `Oidc` is not attached"),
        "{lines:#?}"
    );

    let app = app.with("oidc.resource_server_only", true).with("oidc.audience", "api");
    let api = app.rocket_of_api(routes![page]).attach(Template::fairing());
    let (kind, lines) = launch_failure(api).await;
    assert_eq!(kind, "1 sentinels abort");
    assert!(
        lines[0].ends_with("but `oidc.resource_server_only` is set"),
        "{lines:#?}"
    );
    // At a request, which a catcher may answer.
    let api = app.rocket_of_api(routes![]).attach(Template::fairing());
    let browser = Browser::open(api.register("/", catchers![not_found, broken])).await;
    let page = browser.visit("/nowhere").await;
    page.is(Status::InternalServerError);
}
