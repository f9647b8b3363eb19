//! Two nodes with one database: the provider tells one that a session has ended, and what is open at the other closes.

use std::{
    io,
    sync::Mutex,
    time::{Duration, Instant},
};

use rocket::{
    Build, Rocket, Shutdown,
    fairing::AdHoc,
    figment::providers::Serialized,
    http::Status,
    local::asynchronous::Client,
    serde::json::{Value, json},
    tokio::{
        self,
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        sync::oneshot,
        time::timeout,
    },
};
use rocket_openidconnect::{
    Oidc, Secret,
    store::SqlStore,
    testing::{TestClient, TestProvider, TestRequest, assert_guarded},
};

/// A node with its sessions in this database.
fn node(provider: &TestProvider, database: &str) -> Rocket<Build> {
    let store = SqlStore::new(&Secret::new(database)).unwrap();
    let rocket = super::app(Oidc::fairing().session_store(store));
    let figment = rocket.figment().clone();
    let figment = figment
        .merge(Serialized::global("port", 0))
        .merge(("oidc.base_url", "http://localhost:8000"))
        .merge(Serialized::global(
            "secret_key",
            "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
        ));
    provider.register(rocket.configure(figment))
}

fn alice() -> Value {
    json!({ "sub": "alice", "name": "Alice <Liddell>" })
}

/// A database, gone when the test ends.
struct Database(std::path::PathBuf);

impl Database {
    fn new(name: &str) -> Database {
        Database(std::env::temp_dir().join(format!("live-{name}-{}.db", std::process::id())))
    }

    fn url(&self) -> String {
        format!("sqlite://{}", self.0.display())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[rocket::async_test]
async fn only_the_start_page_is_public() {
    let (provider, database) = (TestProvider::new(), Database::new("guards"));
    let client = Client::tracked(node(&provider, &database.url())).await.unwrap();
    assert_guarded(&client, &["/"]).await;
    let page = client.get("/").signed_in_as(alice()).dispatch().await;
    let page = page.into_string().await.unwrap();
    assert!(page.contains("Hello, Alice &lt;Liddell&gt;"), "{page}");
}

/// The clock is set: two seconds of it are enough.
#[rocket::async_test]
async fn a_stream_closes_when_another_node_hears_of_the_end() {
    let (provider, database) = (TestProvider::new(), Database::new("events"));
    let a = Client::tracked(node(&provider, &database.url())).await.unwrap();
    let b = Client::tracked(node(&provider, &database.url())).await.unwrap();
    let events = a.get("/events").signed_in_as(alice()).dispatch().await;
    assert_eq!(events.status(), Status::Ok);
    assert_eq!(b.send_backchannel_logout("alice").await, Status::Ok);
    provider.advance_clock(Duration::from_secs(2));
    let text = timeout(Duration::from_secs(20), events.into_string()).await;
    let text = text.expect("the stream closes").unwrap();
    assert!(text.contains("event:ended\n"), "{text}");
}

/// A node that listens, with the system's clock.
async fn listen(rocket: Rocket<Build>) -> (u16, Shutdown) {
    let (sender, launched) = oneshot::channel();
    let sender = Mutex::new(Some(sender));
    let listening = AdHoc::on_liftoff("Port", move |rocket| {
        let sender = sender.lock().unwrap().take();
        Box::pin(async move {
            let _ = sender.unwrap().send((rocket.config().port, rocket.shutdown()));
        })
    });
    tokio::spawn(rocket.attach(listening).launch());
    launched.await.expect("it launches")
}

/// Reads until what was read ends so.
async fn read_until(socket: &mut TcpStream, end: &[u8]) -> io::Result<()> {
    let mut received = vec![];
    while !received.ends_with(end) {
        received.push(socket.read_u8().await?);
    }
    Ok(())
}

#[rocket::async_test]
async fn a_socket_closes_with_the_reason() {
    let (provider, database) = (TestProvider::new(), Database::new("socket"));
    let client = Client::tracked(node(&provider, &database.url())).await.unwrap();
    // The cookies of a session, for a real connection.
    let request = client.get("/socket").signed_in_as(alice());
    let cookies = request.inner().cookies().iter();
    let cookies: Vec<_> = cookies.map(|cookie| cookie.stripped().to_string()).collect();
    let cookies = cookies.join("; ");
    let (port, shutdown) = listen(node(&provider, &database.url())).await;
    let open = async |origin: &str| {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let request = format!(
            "GET /socket HTTP/1.1\r\nHost: localhost:8000\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Origin: {origin}\r\nCookie: {cookies}\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut status = [0; 12];
        socket.read_exact(&mut status).await.unwrap();
        (socket, String::from_utf8_lossy(&status).into_owned())
    };
    let (_, status) = open("http://evil.example").await;
    assert_eq!(status, "HTTP/1.1 403");

    let (mut socket, status) = open("http://localhost:8000").await;
    assert_eq!(status, "HTTP/1.1 101");
    timeout(Duration::from_secs(20), read_until(&mut socket, b"hello alice"))
        .await
        .expect("a greeting")
        .unwrap();
    let begun = Instant::now();
    assert_eq!(client.send_backchannel_logout("alice").await, Status::Ok);
    provider.advance_clock(Duration::from_secs(2));
    // A frame with the code and the reason (RFC 6455 §5.5.1).
    let mut frame = [0; 4];
    timeout(Duration::from_secs(20), socket.read_exact(&mut frame))
        .await
        .expect("the socket closes")
        .unwrap();
    assert_eq!(
        (frame[0], u16::from_be_bytes([frame[2], frame[3]])),
        (0x88, super::SIGNED_OUT)
    );
    assert!(begun.elapsed() < Duration::from_secs(20));
    shutdown.notify();
}
