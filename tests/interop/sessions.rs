//! Sessions of the reference application at npm `oidc-provider` that rotates refresh tokens, on two nodes,
//! with a real Redis: processes and sockets all along.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use rocket::{futures::future::join_all, tokio::time::sleep};
use rocket_openidconnect::{
    Secret,
    store::{RedisStore, SessionStore, StoreError, StoredSession, contract},
};
use serde_json::Value;

use crate::{
    example::{Example, free_port},
    node_provider::{CLIENT_SECRET, NodeProvider},
    servers::{Server, redis_server::RedisServer},
    slow_node,
    visitor::Visitor,
};

/// Thirty-two bytes that are no secret, and others.
const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const NEW_KEY: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";
/// The life of an access token, in seconds.
const LIFE: u64 = 2;

/// The provider and two nodes of one app behind one address: the first node's.
pub struct Nodes {
    pub provider: NodeProvider,
    a: Option<Example>,
    b: Option<Example>,
    ports: [u16; 2],
    environment: Vec<(String, String)>,
    origin: String,
    origin_b: String,
}

/// One of them.
#[derive(Clone, Copy)]
enum Node {
    A,
    B,
}

impl Nodes {
    /// With these settings of the session, in TOML.
    pub async fn start(session: &str) -> Nodes {
        Nodes::start_with(session, &[]).await
    }

    /// And with these variables in the environment of both, over the usual ones.
    pub async fn start_with(session: &str, more: &[(&str, &str)]) -> Nodes {
        Nodes::start_at(session, LIFE, more).await
    }

    /// And with access tokens that last so many seconds.
    async fn start_at(session: &str, life: u64, more: &[(&str, &str)]) -> Nodes {
        let ports = [free_port(), free_port()];
        let [origin, origin_b] = ports.map(|port| format!("http://localhost:{port}"));
        // The node that did not begin the sessions hears of their end, if its clock is another.
        let is_b_slow = more.iter().any(|(name, _)| *name == slow_node::BEHIND);
        let hears = if is_b_slow { &origin_b } else { &origin };
        let provider = NodeProvider::start(&[
            ("REDIRECT_URI", &format!("{origin}/oidc/authorize")),
            ("POST_LOGOUT_REDIRECT_URI", &format!("{origin}/")),
            ("BACKCHANNEL_LOGOUT_URI", &format!("{hears}/oidc/backchannel-logout")),
            ("ACCESS_TOKEN_TTL", &life.to_string()),
            ("ALWAYS_REFRESH", "1"),
        ])
        .await;
        let environment = [
            ("OIDC_ISSUER", provider.issuer()),
            ("OIDC_CLIENT_ID", "rocket-app"),
            ("OIDC_CLIENT_SECRET", CLIENT_SECRET),
            ("OIDC_SCOPES", "openid profile email"),
            ("OIDC_BASE_URL", &origin),
            ("OIDC_SESSION", session),
            ("OIDC_HTTP__TIMEOUT", "1s"),
            ("ROCKET_SECRET_KEY", KEY),
        ];
        let environment = environment.iter().chain(more);
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut nodes = Nodes {
            a: None,
            b: None,
            environment: environment.map(owned).collect(),
            provider,
            ports,
            origin,
            origin_b,
        };
        nodes.run(Node::A, &[]);
        nodes.run(Node::B, &[]);
        nodes
    }

    /// Runs a node in the place of the one that runs, with these variables over those of both.
    fn run(&mut self, node: Node, more: &[(&str, &str)]) {
        let both = self.environment.iter();
        let both = both.map(|(name, value)| (name.as_str(), value.as_str()));
        let environment: Vec<_> = both.chain(more.iter().copied()).collect();
        let (place, port) = match node {
            Node::A => (&mut self.a, self.ports[0]),
            Node::B => (&mut self.b, self.ports[1]),
        };
        drop(place.take());
        let is_slow = environment.iter().any(|(name, _)| *name == slow_node::BEHIND);
        *place = Some(match (node, is_slow) {
            (Node::B, true) => Example::slow_node(port, &environment),
            _ => Example::start("notes", port, &environment),
        });
    }

    pub fn at_a(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    pub fn at_b(&self, path: &str) -> String {
        format!("{}{path}", self.origin_b)
    }

    pub async fn sign_in(&self, user: &'static str) -> Visitor {
        let mut visitor = Visitor::new();
        let answer = visitor.sign_in(&self.origin, "/me", user).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        visitor
    }

    pub async fn is_signed_in(&self, visitor: &Visitor, url: &str, user: &str) {
        let answer = visitor.visit(url).await;
        assert_eq!(answer.status, 200, "{url}: {answer:?}");
        let me: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(me["sub"], user);
    }

    pub async fn is_signed_out(&self, visitor: &Visitor, url: &str) {
        let answer = visitor.visit(url).await;
        assert_eq!(answer.status, 303, "{url}: {answer:?}");
        let location = answer.location.unwrap_or_default();
        assert!(location.starts_with("/oidc/login?"), "{location}");
    }

    /// What the provider tells of itself, of this kind.
    pub async fn events(&self, event: &str, grant_type: Option<&str>) -> usize {
        let url = format!("{}/_test/events", self.provider.issuer());
        let text = crate::patience::get(url).await.unwrap().text().await.unwrap();
        let events: Value = serde_json::from_str(&text).unwrap();
        let events = events.as_array().unwrap().iter();
        let matching =
            events.filter(|entry| entry["event"] == event && grant_type.is_none_or(|kind| entry["grant_type"] == kind));
        matching.count()
    }

    pub async fn refreshes(&self) -> usize {
        self.events("grant.success", Some("refresh_token")).await
    }

    /// Has the provider refuse connections, for so long. It loses nothing.
    async fn provider_is_down(&self, time: Duration) {
        let (issuer, time) = (self.provider.issuer(), time.as_millis());
        let url = format!("{issuer}/_test/down?for={time}");
        assert_eq!(crate::patience::get(url).await.unwrap().status(), 200);
        let is_down = || async { crate::patience::get(issuer).await.is_err() };
        within(Duration::from_secs(1), is_down).await;
    }

    /// Lets token requests wait, in milliseconds, before and after they are carried out.
    pub async fn delay(&self, before: u64, after: u64) {
        let issuer = self.provider.issuer();
        let url = format!("{issuer}/_test/delay?before={before}&after={after}");
        assert_eq!(crate::patience::get(url).await.unwrap().status(), 200);
    }
}

/// Where sessions are, with a Redis that both nodes share.
const STORES: [&str; 2] = ["cookie", "redis"];

fn in_redis(store: &str, redis: &RedisServer) -> String {
    in_store(store, &redis.url())
}

pub fn in_store(store: &str, url: &str) -> String {
    format!("{{store=\"{store}\",store_url=\"{url}\"}}")
}

/// Waits until the access token has ended: then a refresh is due.
pub async fn until_due() {
    sleep(Duration::from_millis(LIFE * 1000 + 100)).await;
}

/// Repeats a look until it holds, for so long at most.
pub async fn within<F: Future<Output = bool>>(longest: Duration, mut look: impl FnMut() -> F) {
    let begun = Instant::now();
    while !look().await {
        assert!(begun.elapsed() < longest, "not within {longest:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Twenty requests at once, split over two addresses.
async fn twenty(visitor: &Visitor, one: &str, other: &str) {
    let requests = (0..20).map(|i| visitor.visit(if i % 2 == 0 { one } else { other }));
    for answer in join_all(requests).await {
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

#[rocket::async_test]
#[ignore = "needs redis-server: run scripts/interop"]
async fn the_redis_store_keeps_its_promises() {
    let redis = RedisServer::start();
    let store = RedisStore::new(&Secret::new(redis.url())).unwrap();
    contract::check(&store).await;
}

#[rocket::async_test]
#[ignore = "needs redis-server: run scripts/interop"]
async fn a_redis_that_is_down_is_an_error_and_comes_back() {
    let mut redis = RedisServer::start();
    let store = RedisStore::new(&Secret::new(redis.url())).unwrap();
    let life = Duration::from_secs(60);
    store.put_entry("a", "1", life).await.unwrap();
    redis.stop();
    let error = store.entries(&["a"]).await.unwrap_err();
    assert!(error.to_string().starts_with("the session store is not reachable: "));
    redis.restart();
    let look = || async { store.entries(&["a"]).await == Ok(vec![Some("1".to_owned())]) };
    within(Duration::from_secs(5), look).await;
}

#[rocket::async_test]
#[ignore = "needs Node.js and redis-server: run scripts/interop"]
async fn one_session_on_two_nodes_in_redis_with_tls() {
    let mut redis = RedisServer::start_with_tls();
    let session = format!("{{store=\"redis\",store_url=\"{}\"}}", redis.url());
    let trusting = [("SSL_CERT_FILE", &*redis.certificate())];
    let nodes = Nodes::start_with(&session, &trusting).await;
    let visitor = nodes.sign_in("alice").await;
    let (a, b) = (nodes.at_a("/me"), nodes.at_b("/me"));
    nodes.is_signed_in(&visitor, &b, "alice").await;

    redis.stop();
    assert_eq!(visitor.visit(&a).await.status, 503);
    redis.restart();
    let is_back = || async { visitor.visit(&a).await.status == 200 };
    within(Duration::from_secs(5), is_back).await;
}

/// Somebody else may answer where Redis should be.
#[rocket::async_test]
#[ignore = "needs redis-server: run scripts/interop"]
async fn a_redis_that_is_not_trusted_is_told_nothing() {
    let redis = RedisServer::start_with_tls();
    let store = RedisStore::new(&Secret::new(redis.url())).unwrap();
    let error = store.entries(&["a"]).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "the session store is not reachable: invalid peer certificate: UnknownIssuer"
    );
    // Nor is one without TLS, where TLS is asked for.
    let plain = RedisServer::start();
    let url = plain.url().replace("redis://", "rediss://");
    let store = RedisStore::new(&Secret::new(url)).unwrap();
    assert!(store.put_entry("a", "1", Duration::from_secs(60)).await.is_err());
    assert!(!plain.dump().contains("oidc:"));
}

/// One that is trusted, as another host.
#[rocket::async_test]
#[ignore = "needs Node.js and redis-server: run scripts/interop"]
async fn a_redis_with_a_certificate_of_another_host_is_told_nothing() {
    let redis = RedisServer::start_with_tls();
    let url = redis.url().replace("localhost", "127.0.0.1");
    let session = format!("{{store=\"redis\",store_url=\"{url}\"}}");
    let trusting = [("SSL_CERT_FILE", &*redis.certificate())];
    let nodes = Nodes::start_with(&session, &trusting).await;
    let answer = Visitor::new().sign_in(&nodes.origin, "/me", "alice").await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(!redis.dump().contains("oidc:"));
}

#[rocket::async_test]
#[ignore = "needs redis-server: run scripts/interop"]
async fn a_connection_that_is_lost_is_made_again_without_an_error() {
    let redis = RedisServer::start();
    let store = RedisStore::new(&Secret::new(redis.url())).unwrap();
    let life = Duration::from_secs(60);
    store.put_entry("a", "1", life).await.unwrap();
    redis.hang_up();
    let notes = store.entries(&["a"]).await;
    assert_eq!(notes, Ok(vec![Some("1".to_owned())]));
    redis.hang_up();
    assert_eq!(store.create(&session("id"), life).await, Ok(()));
    let found = store.load("id").await.unwrap();
    assert_eq!(found.as_deref(), Some(&session("id")));
}

#[rocket::async_test]
#[ignore = "needs redis-server: run scripts/interop"]
async fn what_redis_refuses_is_not_repeated() {
    let redis = RedisServer::start();
    let store = RedisStore::new(&Secret::new(redis.url())).unwrap();
    redis.ask("SET oidc:index:alice text").unwrap();
    let refused = StoreError::new("Redis returned WRONGTYPE");
    assert_eq!(store.ids_by_index_key("alice").await, Err(refused.clone()));
    assert_eq!(redis.count("zrange"), 1);
    let life = Duration::from_secs(60);
    assert_eq!(store.create(&session("id"), life).await, Err(refused));
    assert_eq!(redis.count("eval"), 1);
    // A session that no index leads to is not stored.
    assert_eq!(store.load("id").await, Ok(None));
}

/// Not that a transaction was given up.
#[rocket::async_test]
#[ignore = "needs redis-server: run scripts/interop"]
async fn a_redis_that_is_full_says_so() {
    let redis = RedisServer::start();
    redis.ask("CONFIG SET maxmemory 1").unwrap();
    let store = RedisStore::new(&Secret::new(redis.url())).unwrap();
    let life = Duration::from_secs(60);
    let full = StoreError::new("Redis returned OOM");
    assert_eq!(store.put_entry("a", "1", life).await, Err(full.clone()));
    assert_eq!(store.create(&session("id"), life).await, Err(full));
}

#[rocket::async_test]
#[ignore = "needs redis-server: run scripts/interop"]
async fn a_session_that_has_ended_is_not_named_at_its_owner_in_redis() {
    let redis = RedisServer::start();
    let store = RedisStore::new(&Secret::new(redis.url())).unwrap();
    let (brief, long) = (Duration::from_millis(50), Duration::from_secs(60));
    store.create(&session("brief"), brief).await.unwrap();
    store.create(&session("long"), long).await.unwrap();
    let only_one = || async { store.ids_by_index_key("alice").await == Ok(vec!["long".to_owned()]) };
    within(Duration::from_secs(5), only_one).await;
    assert_eq!(store.remove("long").await, Ok(true));
    assert_eq!(store.ids_by_index_key("alice").await, Ok(vec![]));
}

/// A session of Alice's.
fn session(id: &str) -> StoredSession {
    StoredSession::new(id, 1, "encrypted", vec!["alice".to_owned()])
}

/// One node, sessions in cookies, a provider that ends the grant when a refresh token comes twice.
#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn a_rotated_refresh_token_survives_twenty_parallel_requests() {
    let nodes = Nodes::start("{store=\"cookie\"}").await;
    let visitor = nodes.sign_in("alice").await;
    for times in 1..=2 {
        until_due().await;
        twenty(&visitor, &nodes.at_a("/me"), &nodes.at_a("/me")).await;
        assert_eq!(nodes.refreshes().await, times);
    }
}

#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn cookie_sessions_are_at_home_on_both_nodes_without_redis() {
    let nodes = Nodes::start("{store=\"cookie\"}").await;
    let visitor = nodes.sign_in("alice").await;
    nodes.is_signed_in(&visitor, &nodes.at_b("/me"), "alice").await;
    for url in [nodes.at_b("/me"), nodes.at_a("/me"), nodes.at_b("/me")] {
        until_due().await;
        nodes.is_signed_in(&visitor, &url, "alice").await;
    }
    assert_eq!(nodes.refreshes().await, 3);
}

pub async fn one_session_on_two_nodes(session: &str) {
    let mut nodes = Nodes::start(session).await;
    let mut visitor = nodes.sign_in("alice").await;
    let (a, b) = (nodes.at_a("/me"), nodes.at_b("/me"));
    nodes.is_signed_in(&visitor, &b, "alice").await;

    for times in 1..=2 {
        until_due().await;
        twenty(&visitor, &a, &b).await;
        assert_eq!(nodes.refreshes().await, times, "{session}");
    }

    // The provider tells A that the session has ended; B knows within a second.
    let other = nodes.sign_in("bob").await;
    let at_provider = format!("{}/session/end", nodes.provider.issuer());
    visitor.walker.sign_out(&at_provider).await;
    assert_eq!(nodes.events("backchannel.success", None).await, 1);
    let is_out = || async { visitor.visit(&b).await.status == 303 };
    within(Duration::from_secs(1), is_out).await;
    nodes.is_signed_out(&visitor, &a).await;
    nodes.is_signed_in(&other, &b, "bob").await;
    drop(nodes.a.take());
}

/// The clock of B is five seconds behind, and B hears from the provider.
pub async fn two_nodes_whose_clocks_differ(session: &str) {
    let nodes = Nodes::start_with(session, &[(slow_node::BEHIND, "5")]).await;
    let (a, b) = (nodes.at_a("/me"), nodes.at_b("/me"));
    let mut visitor = nodes.sign_in("alice").await;
    let other = nodes.sign_in("bob").await;
    for times in 1..=2 {
        nodes.is_signed_in(&visitor, &b, "alice").await;
        // At once after a sign-in, and after a refresh.
        if times == 2 {
            until_due().await;
            twenty(&visitor, &a, &b).await;
            assert_eq!(nodes.refreshes().await, 1, "{session}");
        }
        let at_provider = format!("{}/session/end", nodes.provider.issuer());
        visitor.walker.sign_out(&at_provider).await;
        assert_eq!(nodes.events("backchannel.success", None).await, times);
        for url in [&a, &b] {
            let is_out = || async { visitor.visit(url).await.status == 303 };
            within(Duration::from_secs(1), is_out).await;
        }
        nodes.is_signed_in(&other, &a, "bob").await;
        // The same user again at once.
        visitor = nodes.sign_in("alice").await;
    }
    for url in [&a, &b] {
        nodes.is_signed_in(&visitor, url, "alice").await;
    }
}

#[rocket::async_test]
#[ignore = "needs Node.js and redis-server: run scripts/interop"]
async fn two_nodes_whose_clocks_differ_in_redis() {
    for store in STORES {
        let redis = RedisServer::start();
        two_nodes_whose_clocks_differ(&in_redis(store, &redis)).await;
    }
}

#[rocket::async_test]
#[ignore = "needs Node.js and redis-server: run scripts/interop"]
async fn one_session_on_two_nodes_in_redis() {
    let redis = RedisServer::start();
    one_session_on_two_nodes(&format!("{{store=\"redis\",store_url=\"{}\"}}", redis.url())).await;
    // Whoever reads Redis learns nothing about anybody.
    let seen = redis.dump();
    assert!(seen.contains("oidc:session:"));
    // Long enough not to be in sealed texts by chance.
    for secret in ["alice", "Alice", "example.com", "eyJhbGci", "\"sid\""] {
        assert!(!seen.contains(secret), "{secret} is in Redis");
    }
}

#[rocket::async_test]
#[ignore = "needs Node.js and redis-server: run scripts/interop"]
async fn one_session_on_two_nodes_in_cookies_with_redis() {
    let redis = RedisServer::start();
    one_session_on_two_nodes(&format!("{{store=\"cookie\",store_url=\"{}\"}}", redis.url())).await;
}

/// Kills A while its refresh waits at the provider, before it is carried out or after; answers whether the
/// session goes on at B once the lock has ended.
pub async fn a_node_dies_in_the_middle_of_a_refresh(session: &str, before: u64, after: u64) -> bool {
    let mut nodes = Nodes::start(session).await;
    let visitor = nodes.sign_in("alice").await;
    let other = nodes.sign_in("bob").await;
    let (a, b) = (nodes.at_a("/me"), nodes.at_b("/me"));
    until_due().await;
    // B has refreshed the other session; no lock is left of that.
    nodes.is_signed_in(&other, &b, "bob").await;

    nodes.delay(before, after).await;
    let dying = visitor.copy();
    let url = a.clone();
    let request = rocket::tokio::spawn(async move { dying.visit(&url).await.status });
    sleep(Duration::from_millis(300)).await;
    drop(nodes.a.take());
    assert!(request.await.is_err(), "its node has died before it answered");
    nodes.delay(0, 0).await;

    // B waits for the lock, which ends by itself: twice the time of a request and two seconds.
    let begun = Instant::now();
    let answer = loop {
        let answer = visitor.visit(&b).await;
        assert!([200, 303].contains(&answer.status), "{answer:?}");
        let refreshed = nodes.refreshes().await;
        if answer.status == 303 || (answer.status == 200 && refreshed >= 2 && before > 0) {
            break answer;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{answer:?}");
        sleep(Duration::from_millis(200)).await;
    };
    // No other session was touched.
    nodes.is_signed_in(&other, &b, "bob").await;
    answer.status == 200
}

#[rocket::async_test]
#[ignore = "needs Node.js and redis-server: run scripts/interop"]
async fn a_node_that_dies_before_the_provider_rotated_leaves_the_session_to_the_other() {
    for store in STORES {
        let redis = RedisServer::start();
        let session = in_redis(store, &redis);
        assert!(a_node_dies_in_the_middle_of_a_refresh(&session, 900, 0).await);
    }
}

#[rocket::async_test]
#[ignore = "needs Node.js and redis-server: run scripts/interop"]
async fn a_node_that_dies_after_the_provider_rotated_makes_the_person_sign_in_again() {
    for store in STORES {
        let redis = RedisServer::start();
        let session = in_redis(store, &redis);
        assert!(!a_node_dies_in_the_middle_of_a_refresh(&session, 0, 900).await);
    }
}

/// SIGTERM reaches A while the provider has exchanged the refresh token, and has not answered. A does not wait for its
/// connections, and stops after it has stored the new one.
pub async fn a_node_is_stopped_in_the_middle_of_a_refresh(session: &str) {
    let patient = [("ROCKET_SHUTDOWN", "{grace=0,mercy=0}"), ("OIDC_HTTP__TIMEOUT", "8s")];
    let mut nodes = Nodes::start_with(session, &patient).await;
    let visitor = nodes.sign_in("alice").await;
    let (a, b) = (nodes.at_a("/me"), nodes.at_b("/me"));
    until_due().await;
    nodes.delay(0, 4000).await;
    let cut_off = visitor.copy();
    let request = rocket::tokio::spawn(async move { cut_off.visit(&a).await.status });
    within(Duration::from_secs(3), || async { nodes.refreshes().await == 1 }).await;
    let node = nodes.a.take().expect("it runs");
    rocket::tokio::task::spawn_blocking(move || node.stop()).await.unwrap();
    assert!(request.await.is_err(), "its node has stopped before it answered");
    nodes.delay(0, 0).await;

    nodes.is_signed_in(&visitor, &b, "alice").await;
    assert_eq!(nodes.refreshes().await, 1);
}

#[rocket::async_test]
#[ignore = "needs Node.js and redis-server: run scripts/interop"]
async fn a_node_that_is_stopped_in_redis_stores_its_refresh_first() {
    for store in STORES {
        let redis = RedisServer::start();
        a_node_is_stopped_in_the_middle_of_a_refresh(&in_redis(store, &redis)).await;
    }
}

#[rocket::async_test]
#[ignore = "needs Node.js and redis-server: run scripts/interop"]
async fn redis_that_stops_under_load_signs_nobody_out() {
    for store in STORES {
        store_that_stops_under_load_signs_nobody_out(store, &mut RedisServer::start()).await;
    }
}

pub async fn store_that_stops_under_load_signs_nobody_out(store: &str, server: &mut impl Server) {
    let nodes = Nodes::start(&in_store(store, &server.url())).await;
    let visitor = nodes.sign_in("alice").await;
    let (a, b) = (nodes.at_a("/me"), nodes.at_b("/me"));
    let cookies = visitor.cookie_names();

    server.stop();
    for round in 0..5 {
        let requests = (0..10).map(|i| visitor.visit(if i % 2 == 0 { &a } else { &b }));
        for answer in join_all(requests).await {
            assert_eq!(answer.status, 503, "{store}, round {round}: {answer:?}");
            assert_eq!(answer.retry_after.as_deref(), Some("5"));
        }
    }
    // What needs no session works on.
    assert_eq!(visitor.visit(&nodes.at_a("/health")).await.status, 200);
    assert_eq!(visitor.visit(&nodes.at_a("/")).await.status, 200);
    assert_eq!(visitor.cookie_names(), cookies);

    server.restart();
    for url in [&a, &b] {
        let is_back = || async { visitor.visit(url).await.status == 200 };
        within(Duration::from_secs(5), is_back).await;
    }
    nodes.is_signed_in(&visitor, &a, "alice").await;
}

/// The provider has rotated the refresh token: what it sent is kept until Redis takes it.
#[rocket::async_test]
#[ignore = "needs Node.js and redis-server: run scripts/interop"]
async fn redis_that_stops_during_a_refresh_loses_no_token() {
    for store in STORES {
        store_that_stops_during_a_refresh_loses_no_token(store, &mut RedisServer::start()).await;
    }
}

pub async fn store_that_stops_during_a_refresh_loses_no_token(store: &str, server: &mut impl Server) {
    let nodes = Nodes::start(&in_store(store, &server.url())).await;
    let visitor = nodes.sign_in("alice").await;
    let (a, b) = (nodes.at_a("/me"), nodes.at_b("/me"));
    until_due().await;
    nodes.delay(0, 500).await;
    let outage = async {
        within(Duration::from_secs(2), || async { nodes.refreshes().await == 1 }).await;
        server.stop();
        sleep(Duration::from_millis(1500)).await;
        server.restart();
    };
    let (answer, ()) = rocket::futures::future::join(visitor.visit(&a), outage).await;
    nodes.delay(0, 0).await;
    assert_eq!(answer.status, 200, "{store}: {answer:?}");
    let is_back = || async { visitor.visit(&b).await.status == 200 };
    within(Duration::from_secs(5), is_back).await;

    // The next refresh has the newest token.
    let before = nodes.refreshes().await;
    until_due().await;
    nodes.is_signed_in(&visitor, &b, "alice").await;
    assert_eq!(nodes.refreshes().await, before + 1, "{store}");
    assert_eq!(nodes.events("grant.error", None).await, 0, "{store}");
}

#[rocket::async_test]
#[ignore = "needs Node.js and redis-server: run scripts/interop"]
async fn a_provider_that_is_down_signs_nobody_out() {
    for store in STORES {
        let redis = RedisServer::start();
        let nodes = Nodes::start(&in_redis(store, &redis)).await;
        let visitor = nodes.sign_in("alice").await;
        let (a, b) = (nodes.at_a("/me"), nodes.at_b("/me"));
        nodes.is_signed_in(&visitor, &b, "alice").await;
        until_due().await;
        nodes.provider_is_down(Duration::from_secs(3)).await;
        for _ in 0..3 {
            twenty(&visitor, &a, &b).await;
        }
        // It is up again, and asked again after a pause of 5 s.
        let is_up = || async { crate::patience::get(nodes.provider.issuer()).await.is_ok() };
        within(Duration::from_secs(5), is_up).await;
        assert_eq!(nodes.refreshes().await, 0, "{store}");
        let is_refreshed = || async {
            twenty(&visitor, &a, &b).await;
            nodes.refreshes().await == 1
        };
        within(Duration::from_secs(10), is_refreshed).await;
        assert_eq!(nodes.events("grant.error", None).await, 0, "{store}");
    }
}

#[rocket::async_test]
#[ignore = "needs Node.js and redis-server: run scripts/interop"]
async fn beyond_the_grace_the_session_waits_for_the_provider() {
    let redis = RedisServer::start();
    for store in STORES {
        let url = redis.url();
        let session = format!("{{store=\"{store}\",store_url=\"{url}\",refresh_grace=0}}");
        let nodes = Nodes::start(&session).await;
        let visitor = nodes.sign_in("alice").await;
        let (a, b) = (nodes.at_a("/me"), nodes.at_b("/me"));
        let cookies = visitor.cookie_names();
        until_due().await;
        nodes.provider_is_down(Duration::from_secs(2)).await;
        for url in [&a, &b] {
            let answer = visitor.visit(url).await;
            assert_eq!(answer.status, 503, "{store}: {answer:?}");
            let wait: u32 = answer.retry_after.unwrap().parse().unwrap();
            assert!((1..=5).contains(&wait), "{store}: {wait}");
        }
        assert_eq!(visitor.cookie_names(), cookies, "{store}");
        for url in [&a, &b] {
            let is_back = || async { visitor.visit(url).await.status == 200 };
            within(Duration::from_secs(10), is_back).await;
        }
        assert_eq!(nodes.events("grant.error", None).await, 0, "{store}");
    }
}

/// In three steps: the new key is known to all nodes, then first at one after the other, then alone.
#[rocket::async_test]
#[ignore = "needs Node.js and redis-server: run scripts/interop"]
async fn a_key_is_changed_without_signing_anybody_out() {
    for store in STORES {
        let redis = RedisServer::start();
        let mut nodes = Nodes::start(&in_redis(store, &redis)).await;
        let visitor = nodes.sign_in("alice").await;
        let other = nodes.sign_in("bob").await;
        let (a, b) = (nodes.at_a("/me"), nodes.at_b("/me"));

        let old_first = [("OIDC_PREVIOUS_SECRET_KEYS", NEW_KEY)];
        let new_first = [("ROCKET_SECRET_KEY", NEW_KEY), ("OIDC_PREVIOUS_SECRET_KEYS", KEY)];
        let new_alone = [("ROCKET_SECRET_KEY", NEW_KEY)];
        let mut refreshes = 0;
        for (step, node, settings) in [
            (1, Node::A, &old_first[..]),
            (1, Node::B, &old_first),
            (2, Node::A, &new_first),
            (2, Node::B, &new_first),
            (3, Node::A, &new_alone),
            (3, Node::B, &new_alone),
        ] {
            nodes.run(node, settings);
            // Each refreshes for both, and both together once.
            for (user, visitor) in [("alice", &visitor), ("bob", &other)] {
                nodes.is_signed_in(visitor, &b, user).await;
                nodes.is_signed_in(visitor, &a, user).await;
            }
            for (one, another) in [(&a, &a), (&b, &b), (&a, &b)] {
                until_due().await;
                let before = nodes.refreshes().await;
                twenty(&visitor, one, another).await;
                twenty(&other, one, another).await;
                assert_eq!(nodes.refreshes().await, before + 2, "{store}, step {step}");
                refreshes += 2;
            }
        }
        assert!(nodes.refreshes().await >= refreshes);
        assert_eq!(nodes.events("grant.error", None).await, 0, "{store}");

        // The provider's word still reaches a session that began under the old key.
        let mut visitor = visitor;
        let at_provider = format!("{}/session/end", nodes.provider.issuer());
        visitor.walker.sign_out(&at_provider).await;
        assert_eq!(nodes.events("backchannel.success", None).await, 1);
        let is_out = || async { visitor.visit(&b).await.status == 303 };
        within(Duration::from_secs(1), is_out).await;
        nodes.is_signed_in(&other, &b, "bob").await;
    }
}

/// One step was left out: B does not know the key that A encrypts with.
#[rocket::async_test]
#[ignore = "needs Node.js and redis-server: run scripts/interop"]
async fn a_node_without_the_new_key_waits_for_it() {
    for store in STORES {
        let redis = RedisServer::start();
        let mut nodes = Nodes::start(&in_redis(store, &redis)).await;
        let visitor = nodes.sign_in("alice").await;
        let (a, b) = (nodes.at_a("/me"), nodes.at_b("/me"));
        nodes.is_signed_in(&visitor, &b, "alice").await;
        let new_first = [("ROCKET_SECRET_KEY", NEW_KEY), ("OIDC_PREVIOUS_SECRET_KEYS", KEY)];
        nodes.run(Node::A, &new_first);
        let older = visitor.copy();
        until_due().await;
        nodes.is_signed_in(&visitor, &a, "alice").await;
        assert_eq!(nodes.refreshes().await, 1);

        let cookies = older.cookie_names();
        for _ in 0..2 {
            let answer = older.visit(&b).await;
            assert_eq!(answer.status, 503, "{store}: {answer:?}");
            assert_eq!(answer.retry_after.as_deref(), Some("5"));
        }
        assert_eq!(older.cookie_names(), cookies, "{store}");
        assert_eq!(nodes.refreshes().await, 1, "{store}");

        // Once it knows the key, the session is there.
        nodes.run(Node::B, &[("OIDC_PREVIOUS_SECRET_KEYS", NEW_KEY)]);
        nodes.is_signed_in(&older, &b, "alice").await;
        nodes.is_signed_in(&visitor, &b, "alice").await;
        assert_eq!(nodes.events("grant.error", None).await, 0, "{store}");
    }
}

/// A copy of the cookies from before a refresh at A, at B.
#[rocket::async_test]
#[ignore = "needs Node.js and redis-server: run scripts/interop"]
async fn an_older_copy_is_known_as_such_at_the_other_node() {
    let redis = RedisServer::start();
    // So long that nothing is due by itself.
    let nodes = Nodes::start_at(&in_redis("cookie", &redis), 600, &[]).await;
    let visitor = nodes.sign_in("alice").await;
    let older = visitor.copy();
    let (a, b) = (nodes.at_a("/me"), nodes.at_b("/me"));
    let answer = visitor.submit(&nodes.at_a("/me/refresh")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(nodes.refreshes().await, 1);

    // The newest record answers, and goes along.
    let holder = older.copy();
    nodes.is_signed_in(&holder, &b, "alice").await;
    assert_ne!(holder.session(), older.session());
    nodes.is_signed_in(&visitor, &b, "alice").await;
    // The newer cookie was seen: the record is kept for a minute, as what answers identical callbacks is. Then
    // both are gone.
    let keys = redis.ask("KEYS *").unwrap();
    let seconds_left = |key: &str| -> i64 {
        let answer = redis.ask(&format!("TTL {key}")).unwrap();
        answer.lines().next().unwrap()[1..].parse().unwrap()
    };
    let keys = keys.lines().filter(|line| line.starts_with("oidc:"));
    let brief: Vec<_> = keys.filter(|key| seconds_left(key) <= 60).collect();
    assert!(!brief.is_empty());
    redis.ask(&format!("DEL {}", brief.join(" "))).unwrap();
    for url in [&b, &a] {
        let holder = older.copy();
        nodes.is_signed_out(&holder, url).await;
        // It is a copy: no cookie is removed.
        assert_eq!(holder.session(), older.session());
        let answer = holder.submit(&url.replace("/me", "/me/refresh")).await;
        assert_eq!(answer.status, 401, "{answer:?}");
        nodes.is_signed_in(&visitor, url, "alice").await;
    }
    assert_eq!(nodes.refreshes().await, 1);
    assert_eq!(nodes.events("grant.error", None).await, 0);
}

/// At one node, and then at the other, which had no part in it.
#[rocket::async_test]
#[ignore = "needs Node.js and redis-server: run scripts/interop"]
async fn a_session_is_refreshed_once_in_ten_seconds_whichever_node_is_asked() {
    for store in STORES {
        let redis = RedisServer::start();
        let nodes = Nodes::start_at(&in_redis(store, &redis), 600, &[]).await;
        let visitor = nodes.sign_in("alice").await;
        for (url, is_new) in [(nodes.at_a("/me/refresh"), true), (nodes.at_b("/me/refresh"), false)] {
            let answer = visitor.submit(&url).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let answer: Value = serde_json::from_str(&answer.body).unwrap();
            assert_eq!(answer["new_access_token"], is_new, "{store}: {answer}");
        }
        assert_eq!(nodes.refreshes().await, 1, "{store}");
    }
}

/// Twenty that ask, at both nodes, for one that is not due.
#[rocket::async_test]
#[ignore = "needs Node.js and redis-server: run scripts/interop"]
async fn a_refresh_that_is_asked_for_is_one_over_both_nodes() {
    for store in STORES {
        let redis = RedisServer::start();
        let nodes = Nodes::start_at(&in_redis(store, &redis), 600, &[]).await;
        let visitor = nodes.sign_in("alice").await;
        let (a, b) = (nodes.at_a("/me/refresh"), nodes.at_b("/me/refresh"));
        nodes.delay(0, 300).await;
        let requests = (0..20).map(|i| visitor.submit(if i % 2 == 0 { &a } else { &b }));
        for answer in join_all(requests).await {
            assert_eq!(answer.status, 200, "{answer:?}");
            let answer: Value = serde_json::from_str(&answer.body).unwrap();
            assert_eq!(answer["new_access_token"], true, "{store}: {answer}");
        }
        assert_eq!(nodes.refreshes().await, 1, "{store}");
        // Within 10 s at either node: none.
        nodes.delay(0, 0).await;
        for url in [&a, &b] {
            let answer = visitor.submit(url).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let answer: Value = serde_json::from_str(&answer.body).unwrap();
            assert_eq!(answer["new_access_token"], false, "{store}: {answer}");
        }
        assert_eq!(nodes.refreshes().await, 1, "{store}");
    }
}

/// The button of the app signs out at the provider too, which tells the app in turn.
#[rocket::async_test]
#[ignore = "needs Node.js: run scripts/interop"]
async fn signing_out_of_notes_signs_out_at_the_provider() {
    let nodes = Nodes::start("{store=\"cookie\"}").await;
    let mut visitor = nodes.sign_in("alice").await;
    let answer = visitor.submit(&nodes.at_a("/oidc/logout?next=/health")).await;
    let location = answer.location.unwrap();
    assert!(location.starts_with(&format!("{}/session/end?id_token_hint=", nodes.provider.issuer())));
    let back = visitor.walker.sign_out(&location).await.expect("a return");
    assert!(back.as_str().starts_with(&nodes.at_a("/?state=")), "{back}");
    let answer = visitor.visit(back.as_str()).await;
    assert_eq!(answer.location.as_deref(), Some("/health"));
    assert_eq!(nodes.events("end_session.error", None).await, 0);
    assert_eq!(nodes.events("revocation.error", None).await, 0);
    assert!(nodes.events("grant.revoked", None).await >= 1);

    // The provider asks for the password again.
    nodes.is_signed_out(&visitor, &nodes.at_a("/me")).await;
    let login = visitor.visit(&nodes.at_a("/oidc/login")).await;
    let request = login.location.unwrap();
    let page = visitor.walker.page(&request).await;
    assert!(page.contains("name=\"password\""), "{page}");
}
