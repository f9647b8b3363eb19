//! Launch: settings, the provider's metadata, and what the operator is told.

use std::time::Duration;

use rocket::{
    Build, Config, Rocket,
    figment::Figment,
    http::Status,
    serde::json::{Value, json},
    tokio::{
        net::{TcpSocket, TcpStream},
        runtime::Handle,
        time::timeout,
    },
};
use rocket_openidconnect::{Oidc, settings::Settings};

use crate::{
    common::{App, KEY, Log, launch_failure},
    records::{give_cookies, session_cookies},
    support::{Browser, Page, Reply, TestProvider},
};

const FAILED: &str = "failed fairings: OpenID Connect";
const DISCOVERY: &str = TestProvider::DISCOVERY;

/// Sign-in is not possible now, and it is said how long to wait.
#[track_caller]
fn assert_unavailable(page: &Page, seconds: &str) {
    page.is(Status::ServiceUnavailable)
        .sees("The sign-in service is not responding.");
    assert_eq!(page.header("Retry-After"), Some(seconds));
    assert_eq!(page.header("Cache-Control"), Some("no-store"));
}

/// One launch is enough to learn of them.
#[rocket::async_test]
async fn all_wrong_settings_are_logged() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider)
        .with("oidc.mount", "oidc")
        .with("oidc.session.max_cookies", 9);
    let (kind, lines) = launch_failure(app.rocket()).await;
    assert_eq!(kind, FAILED);
    let ends = [
        ": \"oidc\" is not a path to mount at",
        "`_`, `~`, `-`",
        ": expected 1 to 5, found 9",
        "INFO: write 1 to 5",
    ];
    assert_eq!(lines.len(), ends.len(), "{lines:#?}");
    for (line, end) in lines.iter().zip(ends) {
        assert!(line.ends_with(end), "{line}");
    }
}

#[rocket::async_test]
async fn a_provider_that_is_down_at_launch_is_used_once_it_is_up() {
    let provider = TestProvider::start().await;
    provider.stop();
    let app = App::new(&provider);
    let browser = app.open().await;
    browser.visit("/").await.is(Status::Ok);
    browser.visit("/me").await.redirects_to("/oidc/login?next=%2Fme");

    // The attempts are further and further apart.
    assert_unavailable(&browser.visit("/oidc/login").await, "1");
    app.advance(Duration::from_secs(1));
    assert_unavailable(&browser.visit("/oidc/login").await, "2");
    provider.restart();
    app.advance(Duration::from_secs(1));
    assert_unavailable(&browser.visit("/oidc/login").await, "1");
    assert_eq!(provider.count(DISCOVERY), 0);
    assert_eq!(
        app.failures(),
        ["1", "2", "1"].map(|wait| {
            format!(
                "the provider's metadata is not reachable: Connection refused (os error 111); \
                 the next attempt is due in {wait} s"
            )
        })
    );

    app.advance(Duration::from_secs(1));
    let page = browser.sign_in(&provider, "/me").await;
    page.is(Status::Ok).sees("alice");
    assert_eq!(provider.count(DISCOVERY), 1);
}

#[rocket::async_test]
async fn a_provider_that_answers_with_an_outage_is_down() {
    for status in [500, 503, 429] {
        let provider = TestProvider::start().await;
        provider.on_path(DISCOVERY, Reply::status(status));
        let app = App::new(&provider);
        let browser = app.open().await;
        assert_unavailable(&browser.visit("/oidc/login").await, "1");
        provider.clear_path(DISCOVERY);
        app.advance(Duration::from_secs(1));
        browser.sign_in(&provider, "/me").await.is(Status::Ok);
    }
}

/// A machine that drops what it gets: nobody waits for it longer than the setting says.
#[rocket::async_test]
async fn a_provider_that_accepts_no_connection_is_down() {
    // The system answers no more when the queue of connections that nobody accepts is full.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queue = vec![];
    while let Ok(connection) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        queue.push(connection.unwrap());
    }

    let provider = TestProvider::start().await;
    let app = App::new(&provider)
        .with("oidc.issuer", format!("http://{address}"))
        .with("oidc.http.connect_timeout", "400ms")
        .with("oidc.http.timeout", "60s");
    let log = Log::listen();
    let opened = timeout(Duration::from_secs(30), app.open()).await;
    let browser = opened.expect("the launch does not wait");
    assert_eq!(
        log.lines()[0],
        "WARN: the provider's metadata did not respond within 400 ms; the next attempt is due in 1 s"
    );
    assert_unavailable(&browser.visit("/oidc/login").await, "1");
}

/// The launch did not find out; the first sign-in does.
#[rocket::async_test]
async fn a_provider_that_starts_with_wrong_metadata_is_refused() {
    let provider = TestProvider::start().await;
    provider.stop();
    let app = App::new(&provider);
    let browser = app.open().await;
    provider.metadata(|metadata| {
        metadata.insert("issuer".into(), json!("https://other.example"));
    });
    provider.restart();
    app.advance(Duration::from_secs(1));
    let expected = provider.issuer();
    let error = format!("the metadata's issuer is `https://other.example`, expected `{expected}`");
    // Of the second, it is not asked again, and the cause is the same.
    for _ in 0..2 {
        let page = browser.visit("/oidc/login").await;
        page.is(Status::BadGateway).sees("could not be verified");
    }
    assert_eq!(app.failures(), [error.clone(), error]);
    assert_eq!(provider.count(DISCOVERY), 1);

    provider.be_honest();
    app.advance(Duration::from_secs(2));
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
}

/// An ingress before the provider is there, or a web server's page: the app starts and asks again, and says what it got
/// until that is over.
#[rocket::async_test]
async fn a_server_that_is_not_the_provider_does_not_abort_the_launch() {
    for (reply, cause) in [
        (Reply::status(404), "the provider's metadata responded with status 404"),
        (
            Reply::text("text/html", "<h1>Forbidden</h1>").with_status(403),
            "the provider's metadata responded with status 403",
        ),
        (
            Reply::redirect("https://op.example/maintenance"),
            "the provider's metadata responded with status 303",
        ),
        (
            Reply::text("text/html", "<h1>Hello</h1>"),
            "the response at the provider's metadata URL is not its metadata: it is a web page",
        ),
        (
            Reply::text("application/json", " <!DOCTYPE html>"),
            "the response at the provider's metadata URL is not its metadata: it is a web page",
        ),
        (
            Reply::text("text/plain", "default backend"),
            "the response at the provider's metadata URL is not its metadata: \
             not valid JSON: parsing failed at line 1, column 1",
        ),
        (
            Reply::json(json!({ "status": "starting" })),
            "the response at the provider's metadata URL is not its metadata: \
             it has no `issuer`",
        ),
        (
            Reply::json(json!({ "issuer": null })),
            "the response at the provider's metadata URL is not its metadata: \
             it has no `issuer`",
        ),
    ] {
        let provider = TestProvider::start().await;
        provider.on_path(DISCOVERY, reply);
        let app = App::new(&provider);
        let log = Log::listen();
        let browser = app.open().await;
        assert_eq!(
            log.lines()[..2],
            [
                format!("WARN: {cause}; the next attempt is due in 1 s"),
                "INFO: correct `oidc.issuer`, or set `oidc.server_metadata_url` to the URL of the metadata".to_owned()
            ]
        );
        assert_unavailable(&browser.visit("/oidc/login").await, "1");
        app.advance(Duration::from_secs(1));
        for _ in 0..2 {
            assert_unavailable(&browser.visit("/oidc/login").await, "2");
        }
        let told = |wait| format!("{cause}; the next attempt is due in {wait} s");
        assert_eq!(app.failures(), [1, 2, 2].map(told));
        assert_eq!(provider.count(DISCOVERY), 2);

        provider.clear_path(DISCOVERY);
        app.advance(Duration::from_secs(2));
        browser.sign_in(&provider, "/me").await.is(Status::Ok);
    }
}

/// What the provider asks for is done, for five minutes at most.
#[rocket::async_test]
async fn metadata_is_asked_for_when_the_provider_says() {
    let provider = TestProvider::start().await;
    for (retry_after, wait) in [("17", 17), ("86400", 300)] {
        let reply = Reply::status(503).with_header("Retry-After", retry_after);
        provider.on_path(DISCOVERY, reply);
        let app = App::new(&provider);
        let browser = app.open().await;
        let asked = provider.count(DISCOVERY);
        assert_unavailable(&browser.visit("/oidc/login").await, &wait.to_string());
        provider.clear_path(DISCOVERY);
        app.advance(Duration::from_secs(wait - 1));
        assert_unavailable(&browser.visit("/oidc/login").await, "1");
        assert_eq!(provider.count(DISCOVERY), asked);
        app.advance(Duration::from_secs(1));
        browser.sign_in(&provider, "/me").await.is(Status::Ok);
    }
}

#[rocket::async_test]
async fn users_stay_signed_in_while_the_provider_is_down() {
    let provider = TestProvider::start().await;
    let app = App::local(&provider);
    let browser = app.open().await;
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    provider.stop();
    app.advance(Duration::from_secs(1800));
    browser.visit("/me").await.is(Status::Ok).sees("alice");
    browser.submit("/oidc/logout", "").await.redirects_to("/");
}

#[rocket::async_test]
async fn metadata_is_read_again_after_a_day_in_the_background() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let browser = app.open().await;
    app.advance(Duration::from_secs(24 * 60 * 60 - 1));
    browser.visit("/oidc/login").await.redirects_to(&provider.issuer());
    assert_eq!(provider.count(DISCOVERY), 1);

    app.advance(Duration::from_secs(1));
    let held = provider.hold(DISCOVERY);
    for _ in 0..2 {
        let page = browser.visit("/oidc/login").await;
        page.redirects_to(&provider.issuer());
    }
    provider.until_requested(DISCOVERY, 2).await;
    held.release();
    assert_eq!(provider.count(DISCOVERY), 2);
}

#[rocket::async_test]
async fn metadata_that_is_wrong_aborts_the_launch() {
    let provider = TestProvider::start().await;
    let issuer = provider.issuer();
    let https = "serve the provider over https, or on a loopback address; in a closed network, list its host in `oidc.insecure_http_hosts`";
    let changed = |member: &str, value: Value| {
        let mut document = Value::Null;
        provider.metadata(|metadata| document = json!(metadata));
        document[member] = value;
        Reply::json(document)
    };
    for (reply, cause, remedy) in [
        (
            changed("issuer", json!(format!("{issuer}/"))),
            format!("the metadata's issuer is `{issuer}/`, expected `{issuer}`"),
            "set `oidc.issuer` to exactly the issuer in the provider's metadata; a trailing slash counts",
        ),
        (
            changed("token_endpoint", Value::Null),
            "the member `token_endpoint` of the provider's metadata is missing, \
             expected an absolute address"
                .to_owned(),
            "correct the member at the provider, or set `auth_uri`, `token_uri` and `jwks_uri` in `oidc.client_secrets`",
        ),
        (
            changed("token_endpoint", json!("http://op.example/token")),
            "the provider's token endpoint is at `http://op.example/token`, \
             which is neither https nor loopback"
                .to_owned(),
            https,
        ),
        (
            changed("jwks_uri", json!("http://op.example/jwks")),
            "the provider's key set is at `http://op.example/jwks`, \
             which is neither https nor loopback"
                .to_owned(),
            https,
        ),
        (
            changed("authorization_endpoint", json!("http://op.example/a")),
            "the provider's authorization endpoint is at `http://op.example/a`, \
             which is neither https nor loopback"
                .to_owned(),
            https,
        ),
        (
            changed("introspection_endpoint", json!("http://op.example/i")),
            "the provider's introspection endpoint is at `http://op.example/i`, \
             which is neither https nor loopback"
                .to_owned(),
            https,
        ),
        (
            changed("userinfo_endpoint", json!("http://op.example/me")),
            "the provider's UserInfo endpoint is at `http://op.example/me`, \
             which is neither https nor loopback"
                .to_owned(),
            https,
        ),
        (
            changed("jwks_uri", json!("https://10.0.0.1:6443/jwks")),
            "the provider's key set is at `https://10.0.0.1:6443/jwks`, a loopback or private address that no setting names"
                .to_owned(),
            "configure the provider to publish its public host names; to accept the address, set `oidc.issuer` or `oidc.server_metadata_url` to a URL on that host, all endpoints in `oidc.client_secrets`, or `jwks_uri` of a further issuer",
        ),
    ] {
        provider.on_path(DISCOVERY, reply);
        let (kind, lines) = launch_failure(App::new(&provider).rocket()).await;
        assert_eq!(kind, FAILED);
        assert_eq!(lines, [format!("ERROR: {cause}"), format!("INFO: {remedy}")]);
    }
}

#[rocket::async_test]
async fn settings_that_are_wrong_abort_the_launch() {
    let provider = TestProvider::start().await;
    let launch = |config: Config, oidc: Value| {
        let figment = Figment::from(config).merge(("log_level", "off"));
        rocket::custom(figment.merge(("secret_key", KEY)).merge(("oidc", oidc))).attach(Oidc::fairing())
    };
    let (debug, release) = (Config::debug_default, Config::release_default);
    let complete = json!({ "issuer": provider.issuer(), "client_id": "app" });
    let disabled = json!({ "enabled": false, "testing_profile": { "sub": "a" } });
    for (rocket, key, cause, remedy) in [
        (
            launch(debug(), json!({ "client_id": "app" })),
            "oidc.issuer",
            "the provider's issuer is missing",
            "set `issuer` in the table `oidc`, or OIDC_ISSUER; to run without a provider, set `enabled = false` or, while developing, `dev_provider = true`",
        ),
        (
            launch(release(), complete),
            "oidc.base_url",
            "the public URL of the app is missing",
            "set `base_url` in the table `oidc`, or OIDC_BASE_URL, for example \
             `base_url = \"https://app.example.com\"`",
        ),
        (
            launch(release(), disabled),
            "global.oidc.testing_profile",
            "outside the debug profile, every visitor would be this user",
            "set `enabled = true`, or remove `testing_profile`; a closed test environment may set \
             `insecure_testing_profile = true`",
        ),
        (
            launch(
                release(),
                json!({ "dev_provider": true, "base_url": "https://app.example.com" }),
            ),
            "global.oidc.dev_provider",
            "the development provider starts in the debug profile only",
            "remove `dev_provider` and set `issuer`, or select the profile with \
             ROCKET_PROFILE=debug",
        ),
    ] {
        let (kind, lines) = launch_failure(rocket).await;
        assert_eq!(kind, FAILED);
        let [error, rest] = &lines[..] else {
            panic!("{lines:?}");
        };
        // Between them is where this file sets it.
        assert!(error.starts_with(&format!("ERROR: `{key}`")), "{error}");
        assert!(error.ends_with(&format!(": {cause}")), "{error}");
        assert_eq!(*rest, format!("INFO: {remedy}"));
    }
    assert_eq!(provider.requests().len(), 0);
}

/// The app with this fairing in place of its own.
fn with_fairing(app: &App, fairing: Oidc) -> Rocket<Build> {
    app.bare().attach(fairing)
}

#[rocket::async_test]
async fn the_app_changes_settings_last() {
    let provider = TestProvider::start().await;
    let app = App::new(&provider);
    let custom = |change: fn(&mut Settings)| {
        Oidc::custom(move |mut settings| {
            change(&mut settings);
            settings
        })
    };
    let moved = with_fairing(&app, custom(|settings| settings.mount = "/auth".into()));
    let browser = Browser::open(moved).await;
    browser.visit("/auth/login").await.redirects_to(&provider.issuer());
    browser.visit("/oidc/login").await.is(Status::NotFound);

    // What the app sets is checked as what it reads.
    let wrong = with_fairing(&app, custom(|settings| settings.mount = "auth/".into()));
    let (kind, lines) = launch_failure(wrong).await;
    assert_eq!(kind, FAILED);
    assert_eq!(lines[0], "ERROR: `oidc.mount`: \"auth/\" is not a path to mount at");

    let (kind, lines) = launch_failure(with_fairing(&app, Oidc::try_custom(|_| Err("no vault".into())))).await;
    assert_eq!(kind, FAILED);
    assert_eq!(
        lines,
        [
            "ERROR: the app's own settings function failed: no vault",
            "INFO: fix the function given to `Oidc::try_custom`",
        ]
    );
}

#[rocket::async_test]
async fn the_metadata_is_where_the_setting_says() {
    let provider = TestProvider::start().await;
    let mut document = Value::Null;
    provider.metadata(|metadata| document = json!(metadata));
    provider.on_path("/metadata", Reply::json(document.clone()));
    let at = format!("{}/metadata", provider.issuer());
    let app = App::new(&provider).with("oidc.server_metadata_url", &at);
    let browser = app.open().await;
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    assert_eq!(provider.count("/metadata"), 1);
    assert_eq!(provider.count(DISCOVERY), 0);

    // Its issuer is still the one of the settings.
    document["issuer"] = json!("https://other.example");
    provider.on_path("/metadata", Reply::json(document));
    let app = App::new(&provider).with("oidc.server_metadata_url", &at);
    let (_, lines) = launch_failure(app.rocket()).await;
    assert_eq!(
        lines[0],
        format!(
            "ERROR: the metadata's issuer is `https://other.example`, expected `{}`",
            provider.issuer()
        )
    );
}

/// Keycloak's preset, at a provider that stands below `/realms/staff`.
#[rocket::async_test]
async fn a_preset_uses_the_realm_that_it_names() {
    let provider = TestProvider::start().await;
    let realm = format!("{}/realms/staff", provider.issuer());
    let mut document = Value::Null;
    provider.metadata(|metadata| document = json!(metadata));
    document["issuer"] = json!(realm);
    let place = "/realms/staff/.well-known/openid-configuration";
    provider.on_path(place, Reply::json(document));
    provider.on_id_token({
        let realm = realm.clone();
        move |token| token.set("iss", realm.clone())
    });
    let preset = json!({ "name": "keycloak", "url": provider.issuer(), "realm": "staff" });
    let app = App::new(&provider).with_all(json!({ "issuer": null, "provider": preset }));
    let browser = app.open().await;
    let callback = browser.begin_sign_in(&provider, "/me").await;
    let address = callback.set("iss", &realm).path_and_query();
    browser.visit(&address).await.redirects_to("/me");
    let page = browser.visit("/me").await;
    assert_eq!(page.is(Status::Ok).json::<Value>()["iss"], realm);
    assert_eq!((provider.count(place), provider.count(DISCOVERY)), (1, 0));
}

#[rocket::async_test]
async fn client_secrets_with_endpoints_need_no_discovery() {
    let provider = TestProvider::start().await;
    provider.on_path(DISCOVERY, Reply::status(404));
    let at = |path: &str| format!("{}{path}", provider.issuer());
    let figment = Figment::from(Config::debug_default()).merge(("log_level", "off"));
    let mut web = json!({
        "issuer": provider.issuer(),
        "client_id": "app",
        "client_secret": "from the table",
        "redirect_uris": ["http://localhost:8000/oidc/authorize"],
        "auth_uri": at("/authorize"),
        "token_uri": at("/token"),
        "userinfo_uri": at("/userinfo"),
        "jwks_uri": at("/jwks"),
    });
    for asked in [1, 0] {
        let figment = figment.clone().merge(("oidc.client_secrets", json!({ "web": web })));
        let rocket = rocket::custom(figment).attach(Oidc::fairing());
        let browser = Browser::open(rocket).await;
        let before = provider.count("/userinfo");
        let page = browser.sign_in(&provider, "/oidc/login").await;
        // There is no page at `/`, where the person arrives.
        page.is(Status::NotFound);
        assert_eq!(page.url, "/");
        assert!(!session_cookies(&browser).is_empty());
        assert_eq!(provider.count("/userinfo") - before, asked);
        let basic = provider.last_request("/token").basic();
        assert_eq!(basic, Some(("app".into(), "from the table".into())));
        web.as_object_mut().unwrap().remove("userinfo_uri");
    }
    assert_eq!(provider.count(DISCOVERY), 0);
}

#[rocket::async_test]
async fn the_redirect_uri_is_sent_as_it_is_set() {
    let provider = TestProvider::start().await;
    let uri = "http://localhost:8000/oidc/authorize?tenant=7";
    let app = App::new(&provider).with("oidc.overwrite_redirect_uri", uri);
    let browser = app.open().await;
    browser.sign_in(&provider, "/me").await.is(Status::Ok);
    let asked = provider.last_request("/authorize");
    assert_eq!(asked.query_value("redirect_uri"), Some(uri));
    let exchanged = provider.last_request("/token");
    assert_eq!(exchanged.form_value("redirect_uri"), Some(uri));
}

/// Caches evict what has expired without a task of their own.
#[tokio::test]
async fn an_idle_app_has_no_task_of_ours() {
    let app = |settings: &[(&str, Value)]| {
        let figment = Figment::from(Config::debug_default()).merge(("log_level", "off"));
        let figment = settings.iter().cloned().fold(figment, Figment::merge);
        rocket::custom(figment).attach(Oidc::fairing())
    };
    let provider = [
        ("oidc.issuer", json!("http://127.0.0.1:1")),
        ("oidc.client_id", json!("app")),
    ];
    let disabled = [("oidc.enabled", json!(false))];
    for settings in [&provider[..], &disabled[..]] {
        let _browser = Browser::open(app(settings)).await;
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    }
}

#[rocket::async_test]
async fn a_release_without_a_secret_key_is_no_launch() {
    let provider = TestProvider::start().await;
    let figment = Figment::from(Config::release_default())
        .merge(("log_level", "off"))
        .merge(("oidc.issuer", provider.issuer()))
        .merge(("oidc.client_id", "app"))
        .merge(("oidc.base_url", "https://app.example.com"));
    let zero = figment.clone().merge(("secret_key", "A".repeat(43) + "="));
    for figment in [figment, zero] {
        let rocket = rocket::custom(figment).attach(Oidc::fairing());
        let (kind, lines) = launch_failure(rocket).await;
        assert_eq!(kind, FAILED);
        assert_eq!(
            lines,
            [
                "ERROR: `secret_key` is missing: outside of the debug profile Rocket does not \
                 launch without one",
                "INFO: set ROCKET_SECRET_KEY to the output of `openssl rand -base64 32`",
            ]
        );
    }
    assert_eq!(provider.requests().len(), 0);
}

/// What Rocket takes as one key is one key to the fairing, in every form that Rocket takes.
#[rocket::async_test]
async fn a_secret_key_is_the_same_in_each_form() {
    let provider = TestProvider::start().await;
    let bytes = b"0123456789abcdef0123456789abcdef";
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let long = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWYwMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZg==";
    let forms = [json!(KEY), json!(hex), json!(bytes), json!(long)];
    for (i, written) in forms.iter().enumerate() {
        let app = App::new(&provider).with("secret_key", written);
        let browser = app.open().await;
        browser.sign_in(&provider, "/me").await.is(Status::Ok);
        for (j, read) in forms.iter().enumerate() {
            let reader = App::new(&provider).with("secret_key", read).open().await;
            give_cookies(&reader, &session_cookies(&browser));
            let is_signed_in = reader.fetch("/me").await.status == 200;
            // The first three are the same 32 bytes.
            assert_eq!(is_signed_in, i == j || i < 3 && j < 3, "{written}, {read}");
        }
    }
}

/// The debug profile launches without a key: Rocket makes one up.
#[rocket::async_test]
async fn the_debug_profile_signs_in_without_a_secret_key() {
    let provider = TestProvider::start().await;
    let config = Figment::from(Config::debug_default())
        .merge(("log_level", "off"))
        .merge(("oidc.issuer", provider.issuer()))
        .merge(("oidc.client_id", "app"))
        .merge(("oidc.client_secret", "hush"));
    let fairing = Oidc::fairing().clock(App::new(&provider).clock());
    let rocket = rocket::custom(config).attach(fairing);
    let rocket = rocket.mount("/", crate::common::pages());
    let browser = Browser::open(rocket).await;
    let page = browser.sign_in(&provider, "/me").await;
    page.is(Status::Ok).sees("alice");
}

/// What is logged at liftoff.
async fn report(app: &App) -> Vec<String> {
    let log = Log::listen();
    app.open().await;
    log.lines_with_report()
}

#[rocket::async_test]
async fn the_report_at_liftoff() {
    let provider = TestProvider::start().await;
    let issuer = provider.issuer();
    let usual = [
        "INFO: OpenID Connect:".to_owned(),
        format!("INFO: issuer: {issuer}"),
        "INFO: client id: app".to_owned(),
        "INFO: redirect URI to register: http://localhost:8000/oidc/authorize".to_owned(),
        "INFO: scopes: openid email profile".to_owned(),
        "INFO: session: encrypted cookies; early ends (sign-out elsewhere, by the provider, by the \
         app) and outdated copies are known to this node only, until it restarts"
            .to_owned(),
        "INFO: a large session: up to 3 cookies, 12 KB of response headers; nginx accepts 4 KB unless \
         `proxy_buffer_size` is larger"
            .to_owned(),
        "INFO: post-logout redirect URI to register: http://localhost:8000/".to_owned(),
    ];
    let loopback = format!("WARN: `issuer`: {issuer} is called over plain http, on loopback");
    let app = App::new(&provider);
    let lines = report(&app).await;
    assert_eq!(lines[..8], usual);
    assert_eq!(lines[8..], *std::slice::from_ref(&loopback));

    let app = App::new(&provider).with("oidc.trusted_audiences", "other");
    let lines = report(&app).await;
    assert_eq!(
        lines[8..],
        [
            loopback.clone(),
            "WARN: `trusted_audiences`: ID tokens may also name other".to_owned()
        ]
    );

    provider.metadata(|metadata| {
        metadata.remove("userinfo_endpoint");
    });
    let lines = report(&App::new(&provider)).await;
    assert_eq!(
        lines[8..],
        [
            "INFO: UserInfo: not requested, the provider has no UserInfo endpoint".to_owned(),
            loopback.clone()
        ]
    );

    provider.stop();
    let lines = report(&App::new(&provider)).await;
    let [outage, remedy, rest @ ..] = &lines[..] else {
        panic!("{lines:?}");
    };
    assert!(
        outage.starts_with("WARN: the provider's metadata is not reachable: ")
            && outage.ends_with("; the next attempt is due in 1 s"),
        "{outage}"
    );
    assert_eq!(
        remedy,
        "INFO: check that the provider is running and reachable from this machine; `oidc.http` has the timeouts"
    );
    assert_eq!(rest[..8], usual);
    assert_eq!(
        rest[8..],
        [
            "WARN: the provider's metadata is not reachable: Connection refused (os error 111); the \
             next attempt is due in 1 s; sign-in responds with 503 until the provider is available"
                .to_owned(),
            loopback
        ]
    );
    assert_eq!(app.failures(), [""; 0]);
}
