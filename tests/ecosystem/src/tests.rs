//! A test for each crate.

use rocket::{
    fairing::AdHoc,
    http::{Accept, ContentType, Header, Status},
    local::asynchronous::{Client, LocalResponse},
};
use rocket_openidconnect::testing::{TestProvider, TestRequest};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::app::{OTHER_ORIGIN, rocket, websocket_app};

/// A secret key for two launches of one app.
const KEY: &str = "aGVsbG8gd29ybGQgYW5kIGFsbCBvdGhlciB3b3JsZHM=";

/// The app, with what it must not outlive.
struct App {
    client: Client,
    _folder: TempDir,
}

impl App {
    async fn launch() -> App {
        let folder = tempfile::tempdir().unwrap();
        let rocket = TestProvider::new().register(rocket(folder.path()));
        let client = Client::untracked(rocket).await.expect("all of them launch in one app");
        App {
            client,
            _folder: folder,
        }
    }

    async fn get_as_alice(&self, path: &'static str) -> (Status, String) {
        body(self.client.get(path).signed_in_as(alice()).dispatch().await).await
    }

    async fn get(&self, path: &'static str) -> (Status, String) {
        body(self.client.get(path).dispatch().await).await
    }
}

fn alice() -> Value {
    json!({ "sub": "alice", "name": "Alice & Co", "groups": ["admins", "users"] })
}

async fn body(response: LocalResponse<'_>) -> (Status, String) {
    let status = response.status();
    (
        status,
        response.into_string().await.unwrap_or_default().trim().to_owned(),
    )
}

#[rocket::async_test]
async fn a_template_shows_the_user_escaped() {
    let app = App::launch().await;
    let hello = "Hello Alice &amp; Co <alice>".to_owned();
    assert_eq!(app.get_as_alice("/tera").await, (Status::Ok, hello));
    assert_eq!(app.get("/tera").await, (Status::Ok, "Hello stranger".to_owned()));
    let hello = "Hello Alice &amp; Co in admins, users".to_owned();
    assert_eq!(app.get_as_alice("/minijinja").await, (Status::Ok, hello));
    let page = app.client.get("/minijinja").header(Accept::HTML).dispatch().await;
    assert_eq!(page.status(), Status::SeeOther);
    assert_eq!(
        page.headers().get_one("Location"),
        Some("/oidc/login?next=%2Fminijinja")
    );
}

/// Of both engines, in a route without a guard and in a catcher.
#[rocket::async_test]
async fn a_template_shows_the_visitor_without_a_guard() {
    let app = App::launch().await;
    let hello = "Hello Alice &amp; Co <alice>".to_owned();
    assert_eq!(app.get_as_alice("/render/tera").await, (Status::Ok, hello));
    assert_eq!(app.get("/render/tera").await, (Status::Ok, "Hello stranger".to_owned()));
    for (path, page, status) in [
        ("/render/minijinja", "minijinja", Status::Ok),
        ("/nowhere", "&#x2f;nowhere", Status::NotFound),
    ] {
        let hello = format!("{page}: Alice &amp; Co in admins, users");
        assert_eq!(app.get_as_alice(path).await, (status, hello));
        let next = path.replace('/', "%2F");
        let link = format!("{page}: <a href=\"&#x2f;oidc&#x2f;login?next={next}\">Sign in</a>");
        assert_eq!(app.get(path).await, (status, link));
    }
}

#[rocket::async_test]
async fn pools_of_both_kinds_are_behind_a_guard() {
    let app = App::launch().await;
    for (path, expected) in [("/async-pool", "row of alice"), ("/sync-pool", "entry of alice")] {
        assert_eq!(app.get_as_alice(path).await, (Status::Ok, expected.to_owned()));
        assert_eq!(app.get(path).await.0, Status::Unauthorized, "{path}");
    }
}

#[rocket::async_test]
async fn a_page_elsewhere_may_read_the_401_of_a_guard() {
    let app = App::launch().await;
    let origin = || Header::new("Origin", OTHER_ORIGIN);
    let refused = app.client.get("/api").header(origin()).dispatch().await;
    assert_eq!(refused.status(), Status::Unauthorized);
    let headers = refused.headers();
    assert_eq!(headers.get_one("Access-Control-Allow-Origin"), Some(OTHER_ORIGIN));
    assert_eq!(
        headers.get("Access-Control-Expose-Headers").collect::<Vec<_>>(),
        ["WWW-Authenticate"]
    );
    assert!(headers.get_one("WWW-Authenticate").unwrap().starts_with("Bearer "));

    let reader = json!({ "sub": "alice", "scope": "api:read" });
    let accepted = app.client.get("/api").header(origin()).bearer(reader).dispatch().await;
    assert_eq!(
        accepted.headers().get_one("Access-Control-Allow-Origin"),
        Some(OTHER_ORIGIN)
    );
    assert_eq!(body(accepted).await, (Status::Ok, "alice".to_owned()));
}

/// It has no token, so a guard would reject it.
#[rocket::async_test]
async fn a_preflight_is_answered_before_any_guard() {
    let app = App::launch().await;
    let preflight = |origin: &'static str| {
        app.client
            .options("/api")
            .header(Header::new("Origin", origin))
            .header(Header::new("Access-Control-Request-Method", "GET"))
            .header(Header::new("Access-Control-Request-Headers", "authorization"))
    };
    let allowed = preflight(OTHER_ORIGIN).dispatch().await;
    assert_eq!(allowed.status(), Status::NoContent);
    assert_eq!(
        allowed.headers().get_one("Access-Control-Allow-Origin"),
        Some(OTHER_ORIGIN)
    );
    let refused = preflight("https://evil.example").dispatch().await;
    assert_eq!(refused.headers().get_one("Access-Control-Allow-Origin"), None);
}

#[rocket::async_test]
async fn the_user_is_in_the_context_of_async_graphql() {
    let app = App::launch().await;
    let ask = || {
        app.client
            .post("/async-graphql")
            .header(ContentType::JSON)
            .body(json!({ "query": "{ public me }" }).to_string())
    };
    let answer: Value = ask().signed_in_as(alice()).dispatch().await.into_json().await.unwrap();
    assert_eq!(answer["data"], json!({ "public": "for everyone", "me": "alice" }));
    let answer: Value = ask().dispatch().await.into_json().await.unwrap();
    assert_eq!(answer["errors"][0]["message"], "signed out");
    assert_eq!(answer["data"]["me"], Value::Null);
}

#[rocket::async_test]
async fn the_caller_is_the_context_of_juniper() {
    let app = App::launch().await;
    let ask = || {
        app.client
            .post("/juniper")
            .header(ContentType::JSON)
            .body(json!({ "query": "{ me }" }).to_string())
    };
    let expected = json!({ "data": { "me": "alice" } });
    let answer: Value = ask().signed_in_as(alice()).dispatch().await.into_json().await.unwrap();
    assert_eq!(answer, expected);
    let reader = json!({ "sub": "alice", "scope": "api:read" });
    let answer: Value = ask().bearer(reader).dispatch().await.into_json().await.unwrap();
    assert_eq!(answer, expected);
    let other = json!({ "sub": "alice", "scope": "api:write" });
    assert_eq!(ask().bearer(other).dispatch().await.status(), Status::Forbidden);
    assert_eq!(ask().dispatch().await.status(), Status::Unauthorized);
}

#[rocket::async_test]
async fn both_sets_of_metrics_are_there() {
    let app = App::launch().await;
    assert_eq!(app.get_as_alice("/async-pool").await.0, Status::Ok);
    let (status, of_rocket) = app.get("/metrics").await;
    assert_eq!(status, Status::Ok);
    let counted = of_rocket
        .lines()
        .find(|line| line.contains("/async-pool") && line.contains("_total{"));
    assert!(counted.is_some_and(|line| line.ends_with(" 1")), "{of_rocket}");
    let (status, own) = app.get("/metrics/oidc").await;
    assert_eq!(status, Status::Ok);
    let sign_ins =
        "oidc_client_request_duration_seconds_count{endpoint=\"token\",outcome=\"2xx\",provider=\"default\"} ";
    assert!(own.contains(sign_ins), "{own}");
    assert!(!own.contains("rocket_http_requests_total"), "{own}");
}

#[rocket::async_test]
async fn okapi_and_utoipa_have_the_same_schemes_and_requirements() {
    let app = App::launch().await;
    let document = async |path: &'static str| -> Value { serde_json::from_str(&app.get(path).await.1).unwrap() };
    let (okapi, utoipa) = (document("/okapi.json").await, document("/utoipa.json").await);
    let schemes = |document: &Value| document["components"]["securitySchemes"].clone();
    assert_eq!(schemes(&okapi), schemes(&utoipa));
    let names: Vec<_> = schemes(&okapi).as_object().unwrap().keys().cloned().collect();
    assert_eq!(names, ["bearer", "oauth2", "oidc", "session"]);
    let security = |document: &Value| {
        let mut all = document["paths"]["/okapi"]["get"]["security"]
            .as_array()
            .unwrap()
            .clone();
        all.sort_by_key(Value::to_string);
        all
    };
    assert_eq!(security(&okapi), security(&utoipa));
    assert_eq!(okapi["openapi"], "3.0.0");
    assert_eq!(utoipa["openapi"], "3.1.0");
}

/// A handshake, and what the server sends next.
async fn handshake(port: u16, origin: &str, cookie: &str) -> (String, Vec<u8>) {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = format!(
        "GET /socket HTTP/1.1\r\nHost: localhost:8000\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{origin}{cookie}\r\n"
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut received = vec![];
    loop {
        let mut buffer = [0; 4_096];
        let read = socket.read(&mut buffer).await.unwrap();
        received.extend_from_slice(&buffer[..read]);
        let end = received.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(end) = end {
            let frame = received.split_off(end + 4);
            let status = String::from_utf8(received).unwrap().lines().next().unwrap().to_owned();
            if !status.contains(" 101 ") || !frame.is_empty() || read == 0 {
                return (status, frame);
            }
            let read = socket.read(&mut buffer).await.unwrap();
            return (status, buffer[..read].to_vec());
        }
        assert!(read > 0, "the connection is closed");
    }
}

/// In the whole app, and in one without rocket_cors, which rejects other origins by itself.
#[rocket::async_test]
async fn a_socket_opens_for_a_user_of_an_own_page_only() {
    for has_cors in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let provider = TestProvider::new();
        let app = || {
            let rocket = if has_cors {
                rocket(folder.path())
            } else {
                websocket_app(folder.path())
            };
            // Both have the same key, and neither listens where another app does.
            let figment = rocket.figment().clone().merge(("port", 0)).merge(("secret_key", KEY));
            provider.register(rocket.configure(figment))
        };
        // The cookies of a session, for a real connection.
        let client = Client::untracked(app()).await.unwrap();
        let request = client.get("/socket").signed_in_as(alice());
        let cookies = request.inner().cookies().iter();
        let cookies: Vec<_> = cookies.map(|cookie| cookie.stripped().to_string()).collect();
        let cookie = format!("Cookie: {}\r\n", cookies.join("; "));

        let (sender, launched) = tokio::sync::oneshot::channel();
        let sender = std::sync::Mutex::new(Some(sender));
        let listening = AdHoc::on_liftoff("Port", move |rocket| {
            let sender = sender.lock().unwrap().take();
            Box::pin(async move {
                let _ = sender.unwrap().send((rocket.config().port, rocket.shutdown()));
            })
        });
        let server = rocket::tokio::spawn(app().attach(listening).launch());
        let (port, shutdown) = launched.await.expect("it launches");

        let own = "Origin: http://localhost:8000\r\n";
        let (status, frame) = handshake(port, own, &cookie).await;
        assert_eq!(status, "HTTP/1.1 101 Switching Protocols");
        // One text frame that is not masked (RFC 6455 §5.2).
        assert_eq!(frame, [&[0x81, 11][..], b"hello alice"].concat());
        for (origin, cookie, expected) in [
            (own, "", "HTTP/1.1 401 Unauthorized"),
            (
                "Origin: http://evil.localhost:8000\r\n",
                &*cookie,
                "HTTP/1.1 403 Forbidden",
            ),
            (
                "Origin: http://localhost.evil.example:8000\r\n",
                &*cookie,
                "HTTP/1.1 403 Forbidden",
            ),
            ("Origin: https://localhost:8000\r\n", &*cookie, "HTTP/1.1 403 Forbidden"),
            // A program, not a page.
            ("", &*cookie, "HTTP/1.1 101 Switching Protocols"),
        ] {
            assert_eq!(handshake(port, origin, cookie).await.0, expected, "{origin}");
        }
        let (status, _) = handshake(port, "Origin: null\r\n", &cookie).await;
        assert!(!status.contains(" 101 "), "{status}");
        shutdown.notify();
        server.await.unwrap().unwrap();
    }
}

/// Sessions in PostgreSQL are by sqlx 0.8, and the app's own pool by 0.7. The database is down, which a signed-out visitor
/// does not notice; that sessions work in it is tested with a real one, without the app's pool.
#[rocket::async_test]
async fn a_store_in_postgresql_is_beside_a_pool_of_another_sqlx() {
    let folder = tempfile::tempdir().unwrap();
    let rocket = rocket(folder.path());
    let figment = rocket
        .figment()
        .clone()
        .merge(("oidc.issuer", "https://provider.example"))
        .merge(("oidc.client_id", "app"))
        .merge(("oidc.client_secret", "hush"))
        .merge(("oidc.session.store", "sql"))
        .merge(("oidc.session.store_url", "postgres://app@127.0.0.1:1/app"));
    let client = Client::untracked(rocket.configure(figment))
        .await
        .expect("it launches without the database");
    let stranger = body(client.get("/tera").dispatch().await).await;
    assert_eq!(stranger, (Status::Ok, "Hello stranger".to_owned()));
    assert_eq!(
        client.get("/async-pool").dispatch().await.status(),
        Status::Unauthorized
    );
    let pool = <crate::app::pools::People as rocket_db_pools::Database>::fetch(client.rocket()).unwrap();
    assert!(pool.acquire().await.is_ok());
}
