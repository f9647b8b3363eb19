//! `examples/live` as two processes with a real Redis: npm `oidc-provider` tells one node that a session has ended, and
//! the sockets at the other close.

use std::time::{Duration, Instant};

use rocket::tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::{
    example::{Example, free_port},
    node_provider::{CLIENT_SECRET, NodeProvider},
    servers::{Server, postgres_server::PostgresServer, redis_server::RedisServer},
    visitor::Visitor,
};

/// Thirty-two bytes that are no secret.
const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
/// The promise.
const WITHIN: Duration = Duration::from_secs(2);

/// The settings of sessions in this store.
fn in_store(store: &str, url: &str) -> String {
    format!("{{store=\"{store}\",store_url=\"{url}\"}}")
}

/// A request that stays open at this port, and what comes back on it until it closes.
struct Open(TcpStream);

impl Open {
    async fn at(port: u16, path: &str, headers: &str, cookies: &str) -> Open {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nCookie: {cookies}\r\n{headers}\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        Open(socket)
    }

    async fn websocket(port: u16, cookies: &str) -> Open {
        let headers = format!(
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://localhost:{port}\r\n"
        );
        Open::at(port, "/socket", &headers, cookies).await
    }

    /// Reads until what was read has this.
    async fn until(&mut self, text: &str) {
        let mut received = vec![];
        let mut buffer = [0; 4_096];
        while !received.windows(text.len()).any(|window| window == text.as_bytes()) {
            let read = timeout(Duration::from_secs(60), self.0.read(&mut buffer)).await;
            let read = read.expect("in time").unwrap();
            assert!(read > 0, "{}", String::from_utf8_lossy(&received));
            received.extend_from_slice(&buffer[..read]);
        }
    }
}

async fn sockets_close_at_the_other_node(session: &str) {
    let [port_a, port_b] = [free_port(), free_port()];
    let origin = format!("http://localhost:{port_a}");
    let provider = NodeProvider::start(&[
        ("REDIRECT_URI", &format!("{origin}/oidc/authorize")),
        ("POST_LOGOUT_REDIRECT_URI", &format!("{origin}/")),
        (
            "BACKCHANNEL_LOGOUT_URI",
            &format!("http://localhost:{port_b}/oidc/backchannel-logout"),
        ),
    ])
    .await;
    let environment = [
        ("OIDC_DEV_PROVIDER", "false"),
        ("OIDC_ISSUER", provider.issuer()),
        ("OIDC_CLIENT_ID", "rocket-app"),
        ("OIDC_CLIENT_SECRET", CLIENT_SECRET),
        ("OIDC_BASE_URL", &origin),
        ("OIDC_SESSION", session),
        ("ROCKET_SECRET_KEY", KEY),
    ];
    let _a = Example::start("live", port_a, &environment);
    let _b = Example::start("live", port_b, &environment);
    let mut visitor = Visitor::new();
    // The stream itself would be read to its end.
    let page = visitor.sign_in(&origin, "/oidc/login?next=/", "alice").await;
    assert!(page.body.contains("Hello, "), "{page:?}");

    let cookies = visitor.cookie_header();
    let mut socket = Open::websocket(port_a, &cookies).await;
    let mut events = Open::at(port_a, "/events", "Accept: text/event-stream\r\n", &cookies).await;
    socket.until("hello alice").await;
    events.until("tick 2").await;
    visitor
        .walker
        .sign_out(&format!("{}/session/end", provider.issuer()))
        .await;
    let begun = Instant::now();
    socket.until("backchannel_logout").await;
    events.until("data:backchannel_logout").await;
    assert!(begun.elapsed() < WITHIN, "{session}: {:?}", begun.elapsed());
    println!("{session}: closed after {:?}", begun.elapsed());
}

#[rocket::async_test]
#[ignore = "needs Node.js and redis-server: run scripts/interop"]
async fn live_sockets_close_at_the_other_node_with_redis() {
    let redis = RedisServer::start();
    for store in ["redis", "cookie"] {
        sockets_close_at_the_other_node(&in_store(store, &redis.url())).await;
    }
}

#[rocket::async_test]
#[ignore = "needs Node.js and PostgreSQL: run scripts/interop"]
async fn live_sockets_close_at_the_other_node_with_postgresql() {
    let postgres = PostgresServer::start();
    for store in ["sql", "cookie"] {
        sockets_close_at_the_other_node(&in_store(store, &postgres.url())).await;
    }
}

/// The connection to Redis is lost, and with it what was ended meanwhile: the sessions are looked at again.
#[rocket::async_test]
#[ignore = "needs Node.js and redis-server: run scripts/interop"]
async fn live_sockets_survive_a_redis_that_restarts() {
    let mut redis = RedisServer::start();
    let port = free_port();
    let origin = format!("http://localhost:{port}");
    let provider = NodeProvider::start(&[("REDIRECT_URI", &format!("{origin}/oidc/authorize"))]).await;
    let session = in_store("redis", &redis.url());
    let environment = [
        ("OIDC_DEV_PROVIDER", "false"),
        ("OIDC_ISSUER", provider.issuer()),
        ("OIDC_CLIENT_ID", "rocket-app"),
        ("OIDC_CLIENT_SECRET", CLIENT_SECRET),
        ("OIDC_BASE_URL", &origin),
        ("OIDC_SESSION", &session),
        ("ROCKET_SECRET_KEY", KEY),
    ];
    let node = Example::start("live", port, &environment);
    let mut visitor = Visitor::new();
    visitor.sign_in(&origin, "/oidc/login?next=/", "alice").await;
    let mut events = Open::at(port, "/events", "", &visitor.cookie_header()).await;
    events.until("tick 2").await;
    redis.stop();
    sleep(Duration::from_secs(3)).await;
    assert!(node.has_logged("the ends of sessions with open sockets are not known"));
    redis.restart();
    events.until("tick 7").await;
    visitor.submit(&format!("{origin}/oidc/logout")).await;
    events.until("data:signed_out").await;
    // Rocket stops at once, and with a stream too.
    let mut visitor = Visitor::new();
    visitor.sign_in(&origin, "/oidc/login?next=/", "bob").await;
    let mut events = Open::at(port, "/events", "", &visitor.cookie_header()).await;
    events.until("tick 1").await;
    let begun = Instant::now();
    rocket::tokio::join!(events.until("data:shutdown"), async {
        rocket::tokio::task::spawn_blocking(move || node.stop()).await.unwrap();
    });
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}
