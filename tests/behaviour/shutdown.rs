//! A node that stops: refreshes in flight end first, and none begins.

use std::{sync::Arc, time::Duration};

use rocket::{
    Build, Rocket, Shutdown, State,
    fairing::AdHoc,
    get, routes,
    tokio::{
        self,
        sync::{Notify, oneshot},
        task::JoinHandle,
    },
};
use rocket_openidconnect::LoggedIn;

use crate::{
    common::App,
    records::{DUE, session_cookies},
    support::{Browser, Gate, TestProvider, TestStore},
};

/// Stops the node, and refreshes once it does.
#[get("/stop")]
async fn stop(user: LoggedIn, shutdown: Shutdown, stops: &State<Gate>) -> String {
    shutdown.notify();
    stops.wait().await;
    format!(
        "{:?}",
        user.refresh().await.map(drop).map_err(|error| error.to_string())
    )
}

/// Waits for the end of the session, and says that it does.
#[get("/open")]
async fn open(user: LoggedIn, opened: &State<Arc<Notify>>) -> &'static str {
    let ended = user.ended();
    opened.notify_one();
    ended.await.reason()
}

/// A node that listens.
struct Node {
    port: u16,
    shutdown: Shutdown,
    stopped: JoinHandle<()>,
}

impl Node {
    /// With a grace period of so many seconds for connections.
    async fn start(rocket: Rocket<Build>, grace: u32) -> Node {
        let figment = rocket.figment().clone();
        let figment = figment.merge(("port", 0)).merge((
            "shutdown",
            rocket::serde::json::json!({ "ctrlc": false, "signals": [], "grace": grace, "mercy": 0 }),
        ));
        let (sender, launched) = oneshot::channel();
        let stops = Gate::closed();
        let at_stop = stops.clone();
        let sender = std::sync::Mutex::new(Some(sender));
        let rocket = rocket
            .configure(figment)
            .manage(stops)
            .attach(AdHoc::on_liftoff("Port", move |rocket| {
                Box::pin(async move {
                    let sender = sender.lock().unwrap().take().expect("one launch");
                    let _ = sender.send((rocket.config().port, rocket.shutdown()));
                })
            }))
            // After that of the crate.
            .attach(AdHoc::on_shutdown("Stops", move |_| {
                Box::pin(async move { at_stop.open() })
            }));
        let stopped = tokio::spawn(async move {
            // An error where connections were cut, which is to be looked at.
            let _ = rocket.launch().await.map_err(|error| error.to_string());
        });
        let (port, shutdown) = launched.await.expect("it launches");
        Node {
            port,
            shutdown,
            stopped,
        }
    }

    /// A request with the cookies of this browser.
    fn get(&self, browser: &Browser, path: &str) -> reqwest::RequestBuilder {
        let cookies = session_cookies(browser);
        let cookies = cookies.iter().map(|(name, value)| format!("{name}={value}"));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        client
            .get(format!("http://127.0.0.1:{}{path}", self.port))
            .header("Accept", "application/json")
            .header("Cookie", cookies.collect::<Vec<_>>().join("; "))
    }
}

#[rocket::async_test]
async fn a_refresh_in_flight_ends_before_the_node() {
    let provider = TestProvider::start().await;
    let (app, store) = (App::new(&provider), TestStore::new());
    let other = Browser::open(app.over(&store).rocket()).await;
    other.sign_in(&provider, "/me").await.is(rocket::http::Status::Ok);
    let mut node = Node::start(app.over(&store.another()).rocket(), 0).await;

    app.advance(DUE);
    let held = provider.hold("/token");
    let request = tokio::spawn(node.get(&other, "/me").send());
    provider.until_requested("/token", 2).await;
    node.shutdown.notify();
    // The connection is cut. Without a task in flight, the node would stop a second later.
    let _ = request.await.unwrap();
    let waits = tokio::time::timeout(Duration::from_secs(2), &mut node.stopped).await;
    assert!(waits.is_err(), "it stopped before its refresh");
    held.release();
    node.stopped.await.expect("it stops");

    // The refresh is stored: the other node does not refresh again.
    other.fetch("/me").await.is(rocket::http::Status::Ok);
    assert_eq!(provider.count("/token"), 2);
}

#[rocket::async_test]
async fn a_node_that_stops_begins_no_refresh() {
    let provider = TestProvider::start().await;
    let (app, store) = (App::new(&provider), TestStore::new());
    let other = Browser::open(app.over(&store).rocket()).await;
    other.sign_in(&provider, "/me").await.is(rocket::http::Status::Ok);
    let rocket = app.over(&store.another()).rocket().mount("/", routes![stop]);
    let node = Node::start(rocket, 5).await;
    app.advance(Duration::from_secs(60));
    let response = node.get(&other, "/stop").send().await.expect("it is answered");
    assert_eq!(
        response.text().await.unwrap(),
        r#"Err("the session was not refreshed: the app shuts down")"#
    );
    node.stopped.await.expect("it stops");
    assert_eq!(provider.count("/token"), 1);
}

#[rocket::async_test]
async fn an_open_socket_ends_with_the_node() {
    let provider = TestProvider::start().await;
    let (app, store) = (App::new(&provider), TestStore::new());
    let other = Browser::open(app.over(&store).rocket()).await;
    other.sign_in(&provider, "/me").await.is(rocket::http::Status::Ok);
    let opened = Arc::new(Notify::new());
    let rocket = app.over(&store.another()).rocket().mount("/", routes![open]);
    let node = Node::start(rocket.manage(opened.clone()), 5).await;
    let request = tokio::spawn(node.get(&other, "/open").send());
    opened.notified().await;
    node.shutdown.notify();
    // If the socket went on, the connection would be cut, and there would be no answer.
    let response = request.await.unwrap().expect("it is answered");
    assert_eq!(response.text().await.unwrap(), "shutdown");
    node.stopped.await.expect("it stops");
}
