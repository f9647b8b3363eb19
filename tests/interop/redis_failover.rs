//! Redis as a cluster and behind Sentinels: what a store, and two nodes of an app, do while primaries die.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rocket::{
    futures::{StreamExt, future::join_all, stream},
    tokio::{self, task::JoinHandle, time::sleep},
};
use rocket_openidconnect::{
    Secret,
    store::{RedisStore, SessionStore, StoreError, StoredSession, contract},
};

use crate::{
    servers::{
        redis_deployment::{RedisCluster, RedisProcess, RedisSentinels, SENTINEL_PASSWORD},
        redis_server::{RedisServer, make_certificate},
    },
    sessions::{Nodes, in_store, until_due, within},
    visitor::Visitor,
};

const HOUR: Duration = Duration::from_secs(3600);
const SESSIONS: usize = 2_000;
/// The longest time without a page in a failover of these tests: a second to notice it, and the election.
const LONGEST_GAP: Duration = Duration::from_secs(15);

fn store(url: String) -> RedisStore {
    RedisStore::new(&Secret::new(url)).unwrap()
}

fn sentinel_store(redis: &RedisSentinels) -> RedisStore {
    let password = Secret::new(SENTINEL_PASSWORD);
    let url = Secret::new(redis.url());
    RedisStore::with_sentinel_credentials(&url, Some("watcher"), Some(&password)).unwrap()
}

fn session(number: usize) -> StoredSession {
    let user = format!("user {}", number % 100).replace(' ', "-");
    StoredSession::new(format!("session-{number}"), 1, "value".repeat(100), vec![user])
}

fn next(number: usize) -> StoredSession {
    let mut next = session(number);
    next.version = 2;
    next
}

/// Stores many sessions.
async fn fill(store: &RedisStore) {
    let begun = Instant::now();
    let created = stream::iter(0..SESSIONS).map(async |number| store.create(&session(number), HOUR).await);
    let created: Vec<_> = created.buffer_unordered(50).collect().await;
    assert_eq!(created, vec![Ok(()); SESSIONS]);
    eprintln!("{SESSIONS} sessions stored in {:?}", begun.elapsed());
}

/// Every one of them is found, by its id and by its index key.
async fn all_are_there(store: &RedisStore, when: &str) {
    let loaded = stream::iter(0..SESSIONS).map(async |number| {
        let id = format!("session-{number}");
        answer(|| store.load(&id)).await.is_some()
    });
    let loaded: Vec<_> = loaded.buffer_unordered(50).collect().await;
    let lost = loaded.iter().filter(|is_found| !**is_found).count();
    assert_eq!(lost, 0, "sessions lost {when}");
    for user in 0..100 {
        let user = format!("user-{user}");
        let ids = answer(|| store.ids_by_index_key(&user)).await;
        assert_eq!(ids.len(), SESSIONS / 100, "the index {when}");
    }
}

/// What the store answers, which may take a while on a busy machine: an error says nothing about what was lost.
async fn answer<T, F: Future<Output = Result<T, StoreError>>>(mut ask: impl FnMut() -> F) -> T {
    let begun = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(30), "{error}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until the store serves all keys again.
async fn serves(store: &RedisStore) {
    let names: Vec<_> = (0..64).map(|number| format!("probe {number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let begun = Instant::now();
    while let Err(error) = store.entries(&names).await {
        assert!(begun.elapsed() < Duration::from_secs(30), "{error}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// A signed-in person who loads pages of both nodes, one after another, without a pause.
struct Load {
    is_over: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<(Instant, u16)>>>,
    visiting: JoinHandle<()>,
}

impl Load {
    fn start(visitor: Visitor, urls: [String; 2]) -> Load {
        let (is_over, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(vec![])));
        let (over, statuses) = (is_over.clone(), seen.clone());
        let visiting = tokio::spawn(async move {
            for url in urls.iter().cycle() {
                let answer = visitor.visit(url).await;
                statuses.lock().unwrap().push((Instant::now(), answer.status));
                if over.load(Ordering::Relaxed) {
                    break;
                }
                sleep(Duration::from_millis(10)).await;
            }
        });
        Load {
            is_over,
            seen,
            visiting,
        }
    }

    /// Waits until a number of pages in a row are served.
    async fn goes_on(&self) {
        let before = self.seen.lock().unwrap().len();
        let is_well = || async {
            let seen = self.seen.lock().unwrap();
            seen.len() > before + 20 && seen.iter().rev().take(20).all(|(_, status)| *status == 200)
        };
        within(Duration::from_secs(30), is_well).await;
    }

    /// Ends it. Every answer was a page, or that the store is not reachable.
    async fn end(self, what: &str, permits_gap: bool) {
        self.is_over.store(true, Ordering::Relaxed);
        let over = tokio::time::timeout(Duration::from_secs(20), self.visiting);
        over.await.expect("the last visit").unwrap();
        let seen = self.seen.lock().unwrap();
        let mut gap = Duration::ZERO;
        let mut last = seen[0].0;
        for (at, status) in &*seen {
            assert!([200, 503].contains(status), "{what}: status {status}");
            if *status == 200 {
                gap = gap.max(*at - last);
                last = *at;
            }
        }
        let failed = seen.iter().filter(|(_, status)| *status == 503).count();
        eprintln!(
            "{what}: {} visits, {failed} of them 503; longest gap {gap:?}",
            seen.len()
        );
        assert!(
            permits_gap || failed == 0,
            "{what}: {failed} of {} visits failed",
            seen.len()
        );
        assert!(gap < LONGEST_GAP, "{what}: {gap:?} without a page");
    }
}

async fn cause(store: &RedisStore) -> (String, &'static str) {
    let error = store.put_entry("a", "1", HOUR).await.unwrap_err();
    (error.cause.clone(), error.remedy())
}

#[rocket::async_test]
#[ignore = "needs redis-server: run scripts/interop"]
async fn redis_cluster_keeps_the_promises_of_a_store() {
    let cluster = RedisCluster::start();
    contract::check(&store(cluster.url())).await;

    // By a node that is not listed first, and with one listed host that is not there.
    let port = cluster.nodes[4].port;
    let url = format!("redis-cluster://app:hu%2Fsh@127.0.0.1:1,localhost:{port}");
    assert_eq!(store(url).lock("n", "1", HOUR).await, Ok(true));

    let alone = RedisServer::start();
    let alone_url = alone.url();
    let (first, user) = (cluster.nodes[0].port, "app:hu%2Fsh@");
    cluster.nodes[0].ask(&[
        "ACL",
        "SETUSER",
        "small",
        "on",
        ">small",
        "+@connection",
        "+cluster|slots",
    ]);
    for (url, cause_of, remedy_with) in [
        // Of three one-key commands, each to one of the nodes, one at least is redirected.
        (
            format!("redis://{user}127.0.0.1:{}", cluster.nodes[cluster.primary(0)].port),
            "Redis returned MOVED",
            "redis-cluster://",
        ),
        (
            alone_url.replace("redis://", "redis-cluster://"),
            "the Redis server is not part of a cluster",
            "to `redis://host`",
        ),
        (
            cluster.url().replace("hu%2Fsh", "wrong"),
            "AuthenticationFailed",
            "correct the user and the password",
        ),
        (
            format!("redis-cluster://small:small@127.0.0.1:{first}"),
            "",
            "correct the user and the password",
        ),
        (
            "redis-cluster://127.0.0.1:1,127.0.0.1:2".to_owned(),
            "Connection refused (os error 111)",
            "check that the session store",
        ),
    ] {
        let store = store(url.clone());
        let mut found = cause(&store).await;
        if cause_of.is_empty() {
            // Other nodes do not have that user.
            continue;
        }
        for name in ["b", "c", "d", "e", "f", "g"] {
            if let Err(error) = store.put_entry(name, "1", HOUR).await {
                found = (error.cause.clone(), error.remedy());
            }
        }
        let url = url.replace("hu%2Fsh", "");
        assert!(found.0.ends_with(cause_of), "{url}: {found:?}");
        assert!(found.1.contains(remedy_with), "{url}: {found:?}");
    }
}

#[rocket::async_test]
#[ignore = "needs Node.js and redis-server: run scripts/interop"]
async fn redis_cluster_that_fails_over_loses_no_session() {
    let mut cluster = RedisCluster::start();
    let nodes = Nodes::start(&in_store("redis", &cluster.url())).await;
    let store = store(cluster.url());
    fill(&store).await;
    let visitor = nodes.sign_in("alice").await;
    let urls = [nodes.at_a("/me"), nodes.at_b("/me")];

    // The primary that has the session of the load.
    let load = Load::start(visitor.copy(), urls.clone());
    load.goes_on().await;
    let slot = slot_of_alice(&cluster).await;
    let primary = cluster.primary(slot);
    cluster.nodes[primary].kill();
    assert_ne!(cluster.primary(slot), primary);
    cluster.is_up();
    load.goes_on().await;
    load.end("a primary of the cluster killed", true).await;
    serves(&store).await;
    all_are_there(&store, "after a failover").await;
    assert_eq!(
        nodes.events("grant.error", None).await,
        0,
        "no refresh token came twice"
    );

    // It comes back as a replica, and a slot moves.
    cluster.nodes[primary].start();
    cluster.is_whole();
    let load = Load::start(visitor.copy(), urls.clone());
    load.goes_on().await;
    cluster.move_slot(slot);
    load.goes_on().await;
    load.end("a slot of the cluster moved", false).await;
    all_are_there(&store, "after the move of a slot").await;

    let load = Load::start(visitor.copy(), urls.clone());
    load.goes_on().await;
    cluster.restart();
    load.goes_on().await;
    load.end("the whole cluster restarted", true).await;
    serves(&store).await;
    all_are_there(&store, "after a restart").await;
    for url in &urls {
        nodes.is_signed_in(&visitor, url, "alice").await;
    }
    assert_eq!(
        nodes.events("grant.error", None).await,
        0,
        "no refresh token came twice"
    );
}

/// The provider has rotated the refresh token while the session's primary is dead. The other node, which is asked
/// first, does not send the former one.
#[rocket::async_test]
#[ignore = "needs Node.js and redis-server: run scripts/interop"]
async fn redis_cluster_that_fails_over_during_a_refresh_loses_no_token() {
    // So long that the refresh gives up storing what it got.
    let mut cluster = RedisCluster::start_with(Duration::from_secs(4), None);
    let timeout = [("OIDC_HTTP__TIMEOUT", "5s")];
    let nodes = Nodes::start_with(&in_store("redis", &cluster.url()), &timeout).await;
    let visitor = nodes.sign_in("alice").await;
    let (a, b) = (nodes.at_a("/me"), nodes.at_b("/me"));
    let slot = slot_of_alice(&cluster).await;
    let primary = cluster.primary(slot);
    until_due().await;
    nodes.delay(0, 500).await;
    let refreshes = nodes.refreshes().await;
    let at_a = visitor.copy();
    let refresh = tokio::spawn(async move { at_a.visit(&a).await.status });
    within(Duration::from_secs(2), || async {
        nodes.refreshes().await == refreshes + 1
    })
    .await;
    cluster.nodes[primary].kill();
    nodes.delay(0, 0).await;
    let status = refresh.await.unwrap();
    assert!([200, 503].contains(&status), "{status}");
    let is_back = || async {
        let status = visitor.visit(&b).await.status;
        assert!([200, 503].contains(&status), "{status}");
        status == 200
    };
    within(Duration::from_secs(30), is_back).await;
    assert_eq!(
        nodes.events("grant.error", None).await,
        0,
        "no refresh token came twice"
    );
    // What the provider sent is in use: at B without a further request to A.
    for url in [&b, &nodes.at_a("/me")] {
        until_due().await;
        nodes.is_signed_in(&visitor, url, "alice").await;
    }
    assert_eq!(
        nodes.events("grant.error", None).await,
        0,
        "no refresh token came twice"
    );
}

/// The slot of the one session that an app has stored, by its name in the store.
async fn slot_of_alice(cluster: &RedisCluster) -> u16 {
    let keys = cluster.nodes.iter().map(|node| node.ask(&["KEYS", "oidc:session:*"]));
    let keys: Vec<_> = keys.collect();
    let mut names = keys.iter().flat_map(|keys| keys.lines());
    let key = names.find(|name| !name.contains("session-") && name.contains("oidc:session:"));
    cluster.slot(key.expect("the session of an app"))
}

#[rocket::async_test]
#[ignore = "needs Node.js and redis-server: run scripts/interop"]
async fn redis_cluster_that_fails_over_brings_no_session_back() {
    let mut cluster = RedisCluster::start();
    let nodes = Nodes::start(&in_store("redis", &cluster.url())).await;
    let mut visitor = nodes.sign_in("alice").await;
    let holder = visitor.copy();
    let urls = [nodes.at_a("/me"), nodes.at_b("/me")];
    nodes.is_signed_in(&holder, &urls[1], "alice").await;
    let slot = slot_of_alice(&cluster).await;
    let primary = cluster.primary(slot);

    // The provider reaches A, and both know. At once the primary dies.
    let at_provider = format!("{}/session/end", nodes.provider.issuer());
    visitor.walker.sign_out(&at_provider).await;
    cluster.nodes[primary].kill();
    assert_eq!(nodes.events("backchannel.success", None).await, 1);
    assert_ne!(cluster.primary(slot), primary);
    cluster.is_up();
    for url in &urls {
        let is_out = || async {
            let status = holder.copy().visit(url).await.status;
            assert_ne!(status, 200, "a session that has ended came back");
            status == 303
        };
        within(Duration::from_secs(30), is_out).await;
    }
    // With the former primary as a replica, and as the primary again.
    cluster.nodes[primary].start();
    cluster.is_whole();
    for url in &urls {
        nodes.is_signed_out(&holder, url).await;
    }
    // Somebody else signs in and out meanwhile.
    let other = nodes.sign_in("bob").await;
    nodes.is_signed_in(&other, &urls[1], "bob").await;
}

/// Ends by the store itself, many of them, each before its primary dies.
#[rocket::async_test]
#[ignore = "needs redis-server: run scripts/interop"]
async fn redis_cluster_keeps_ends_and_locks_that_a_replica_has() {
    let mut cluster = RedisCluster::start();
    let store = store(cluster.url());
    fill(&store).await;
    let ended = stream::iter(0..200).map(async |number| store.remove(&format!("session-{number}")).await);
    let ended: Vec<_> = ended.buffer_unordered(50).collect().await;
    assert_eq!(ended, vec![Ok(true); 200]);
    let names: Vec<_> = (0..200).map(|number| format!("lock {number}")).collect();
    let locked = join_all(names.iter().map(|name| store.lock(name, "1", HOUR))).await;
    assert_eq!(locked, vec![Ok(true); 200]);
    let replaced = (200..400).map(next);
    let replaced: Vec<_> = replaced.collect();
    let results = join_all(replaced.iter().map(|next| store.replace(next, HOUR))).await;
    assert_eq!(results, vec![Ok(true); 200]);

    let primary = cluster.primary(0);
    cluster.nodes[primary].kill();
    assert_ne!(cluster.primary(0), primary);
    cluster.is_up();
    serves(&store).await;
    for number in 0..200 {
        let id = format!("session-{number}");
        assert_eq!(store.load(&id).await, Ok(None), "{id} came back");
        // What is in flight does not bring it back.
        assert_eq!(store.create(&session(number), HOUR).await, Ok(()));
        let next = next(number);
        assert_eq!(store.replace(&next, HOUR).await, Ok(false));
        assert_eq!(store.load(&id).await, Ok(None), "{id} came back");
    }
    let again = join_all(names.iter().map(|name| store.lock(name, "1", HOUR))).await;
    assert_eq!(again, vec![Ok(false); 200], "locks that a replica has");
    for next in &replaced {
        let found = store.load(&next.id).await.unwrap();
        assert_eq!(found.as_deref(), Some(next));
    }
}

#[rocket::async_test]
#[ignore = "needs redis-server: run scripts/interop"]
async fn redis_sentinel_keeps_the_promises_of_a_store() {
    let redis = RedisSentinels::start();
    contract::check(&sentinel_store(&redis)).await;

    // Its Sentinels ask for a password, and the server for another.
    for sentinel in &redis.sentinels {
        sentinel.ask(&["ACL", "SETUSER", "default", "off"]);
    }
    assert_eq!(sentinel_store(&redis).put_entry("a", "1", HOUR).await, Ok(()));
    let wrong = Secret::new("hush");
    let with = |url: String, password: Option<&Secret>| {
        RedisStore::with_sentinel_credentials(&Secret::new(url), password.map(|_| "watcher"), password).unwrap()
    };
    let right = Secret::new(SENTINEL_PASSWORD);
    let alone = RedisServer::start();
    let at_server = alone.url().replace("redis://", "redis+sentinel://") + "/sessions";
    let other_name = redis.url().replace("/sessions", "/others");
    for (store, cause_of, remedy_with) in [
        (
            with(redis.url(), None),
            "a Sentinel returned NOAUTH",
            "sentinel_password",
        ),
        (
            with(redis.url(), Some(&wrong)),
            "a Sentinel returned WRONGPASS",
            "sentinel_password",
        ),
        (
            with(other_name, Some(&right)),
            "no Sentinel knows the master name",
            "master name",
        ),
        (
            with(at_server, None),
            "a host in the URL is not a Sentinel",
            "ports of Sentinels",
        ),
        (
            with(redis.url().replace("hu%2Fsh", "wrong"), Some(&right)),
            "AuthenticationFailed",
            "password in `oidc.session.store_url`",
        ),
        (
            with("redis+sentinel://127.0.0.1:1/m".to_owned(), None),
            "no Sentinel is reachable: Connection refused (os error 111)",
            "check that the Sentinels",
        ),
    ] {
        let found = cause(&store).await;
        assert_eq!(found.0, cause_of);
        assert!(found.1.contains(remedy_with), "{found:?}");
    }
}

#[rocket::async_test]
#[ignore = "needs Node.js and redis-server: run scripts/interop"]
async fn redis_sentinel_that_fails_over_loses_no_session_and_brings_none_back() {
    let mut redis = RedisSentinels::start();
    let session = in_store("redis", &redis.url()).replace(
        '}',
        &format!(",sentinel_username=\"watcher\",sentinel_password=\"{SENTINEL_PASSWORD}\"}}"),
    );
    let nodes = Nodes::start(&session).await;
    let store = sentinel_store(&redis);
    fill(&store).await;
    let visitor = nodes.sign_in("alice").await;
    let mut leaving = nodes.sign_in("bob").await;
    let holder = leaving.copy();
    let urls = [nodes.at_a("/me"), nodes.at_b("/me")];
    nodes.is_signed_in(&holder, &urls[1], "bob").await;

    let load = Load::start(visitor.copy(), urls.clone());
    load.goes_on().await;
    let at_provider = format!("{}/session/end", nodes.provider.issuer());
    leaving.walker.sign_out(&at_provider).await;
    let primary = redis.primary();
    redis.servers[primary].kill();
    assert_eq!(nodes.events("backchannel.success", None).await, 1);
    assert_ne!(redis.primary(), primary);
    load.goes_on().await;
    load.end("the primary behind Sentinels killed", true).await;
    serves(&store).await;
    all_are_there(&store, "after a failover").await;
    for url in &urls {
        nodes.is_signed_out(&holder, url).await;
        nodes.is_signed_in(&visitor, url, "alice").await;
    }
    assert_eq!(
        nodes.events("grant.error", None).await,
        0,
        "no refresh token came twice"
    );

    // The former primary follows, and is promoted on request.
    redis.servers[primary].start();
    redis.is_whole();
    let load = Load::start(visitor.copy(), urls.clone());
    load.goes_on().await;
    let second = redis.primary();
    redis.sentinels[0].ask(&["SENTINEL", "FAILOVER", "sessions"]);
    crate::servers::redis_deployment::until("another primary", || redis.primary() != second);
    load.goes_on().await;
    load.end("a failover by Sentinel on request", true).await;
    serves(&store).await;
    all_are_there(&store, "after a second failover").await;
    for url in &urls {
        nodes.is_signed_out(&holder, url).await;
        nodes.is_signed_in(&visitor, url, "alice").await;
    }
    assert_eq!(
        nodes.events("grant.error", None).await,
        0,
        "no refresh token came twice"
    );
}

#[rocket::async_test]
#[ignore = "needs Node.js and redis-server: run scripts/interop"]
async fn redis_cluster_with_tls_is_trusted_by_its_certificate() {
    let directory = tempfile::TempDir::new().unwrap();
    make_certificate(directory.path(), "IP:127.0.0.1");
    let tls = Some(directory.path().to_owned());
    let cluster = RedisCluster::start_with(Duration::from_secs(1), tls);
    let refused = store(cluster.url()).put_entry("a", "1", HOUR).await;
    let cause = "invalid peer certificate: UnknownIssuer";
    assert_eq!(refused, Err(StoreError::new(cause)));

    let certificate = directory.path().join("certificate.pem");
    let trusting = [("SSL_CERT_FILE", certificate.to_str().unwrap())];
    let nodes = Nodes::start_with(&in_store("redis", &cluster.url()), &trusting).await;
    let visitor = nodes.sign_in("alice").await;
    for url in [nodes.at_b("/me"), nodes.at_a("/me")] {
        nodes.is_signed_in(&visitor, &url, "alice").await;
    }
}

/// A replica that does not answer delays no more than a few writes.
#[rocket::async_test]
#[ignore = "needs redis-server: run scripts/interop"]
async fn redis_replica_that_hangs_is_not_waited_for() {
    let redis = RedisSentinels::start();
    let store = sentinel_store(&redis);
    store.put_entry("a", "1", HOUR).await.unwrap();
    let primary = redis.primary();
    let replicas: Vec<&RedisProcess> = (0..3).filter(|i| *i != primary).map(|i| &redis.servers[i]).collect();
    for replica in &replicas {
        replica.signal("STOP");
    }
    let names: Vec<_> = (0..200).map(|number| format!("entry {number}")).collect();
    let begun = Instant::now();
    let stored = join_all(names.iter().map(|name| store.put_entry(name, "1", HOUR))).await;
    let time = begun.elapsed();
    for replica in &replicas {
        replica.signal("CONT");
    }
    let failed: Vec<_> = stored.iter().filter(|stored| stored.is_err()).collect();
    assert!(
        failed.is_empty(),
        "{} of 200, within {time:?}: {:?}",
        failed.len(),
        failed[0]
    );
    assert!(time < Duration::from_secs(4), "{time:?}");
    eprintln!("200 writes with replicas that hang: {time:?}");
}

#[rocket::async_test]
#[ignore = "needs redis-server: run scripts/interop"]
async fn redis_by_its_socket_and_with_a_user() {
    let redis = RedisServer::start();
    let socket = redis.socket();
    contract::check(&store(format!("unix://{socket}"))).await;
    redis
        .ask("ACL SETUSER app on >a:b@c/d ~oidc:* +@read +@write +@scripting +@connection +role")
        .unwrap();
    let user = "app:a%3Ab%40c%2Fd@";
    contract::check(&store(format!("unix://{user}{socket}?db=3"))).await;
    let tcp = redis.url().replace("redis://", &format!("valkey://{user}"));
    assert_eq!(store(tcp.clone() + "/3").lock("n", "1", HOUR).await, Ok(true));
    assert!(redis.ask("INFO keyspace").unwrap().contains("db3:"));
    for (store, cause_of) in [
        (
            store(tcp.clone() + "/99"),
            "the Redis server does not have this database",
        ),
        (store(tcp.replace("a%3Ab", "ab")), "AuthenticationFailed"),
        (
            store(format!("unix://{user}{socket}-")),
            "No such file or directory (os error 2)",
        ),
    ] {
        assert_eq!(store.put_entry("a", "1", HOUR).await, Err(StoreError::new(cause_of)));
    }
    redis.ask("ACL SETUSER app -set").unwrap();
    let refused = store(tcp).put_entry("a", "1", HOUR).await;
    assert_eq!(refused, Err(StoreError::new("Redis returned NOPERM")));
}
