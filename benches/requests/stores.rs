//! What one Redis, a cluster of them and PostgreSQL do a second, on the same machine and in the same minutes.

use std::{
    fs,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use rocket::{
    futures::{StreamExt, stream},
    tokio::{task::JoinSet, time::sleep},
};
use rocket_openidconnect::{
    Secret,
    store::{RedisStore, SessionStore, SqlStore},
};

use crate::{
    cpu::{Running, http, median, time_on_cpu},
    issuer::Issuer,
    servers::{
        Server,
        postgres_server::{self, PostgresServer},
        redis_deployment::{self, RedisCluster, RedisProcess},
    },
    sessions::{LIFE, session},
};

/// Each deployment has its turn in each round, so that what else the machine does disturbs all of them.
const ROUNDS: usize = 5;
/// Sessions in each store, and look-ups in a round.
const STORED: usize = 20_000;
/// Sessions that are replaced in a round.
const REPLACED: usize = 4_000;
/// Concurrent calls of a store.
const CALLS: usize = 64;
/// Sign-ins in a round.
const SIGN_INS: usize = 1_000;
/// Sessions that are refreshed in a round.
const REFRESHED: usize = 1_000;
/// Concurrent requests to an app.
const REQUESTS: usize = 16;
/// The lifetime of access tokens that are to be refreshed, in seconds.
const TOKEN_LIFE: u64 = 1;

/// Prints what each deployment does a second, as a ratio to one Redis, and the CPU time of its servers for each.
pub async fn table() {
    let issuer = Issuer::start(0);
    let mut deployments = Vec::new();
    if redis_deployment::is_installed() {
        let one = RedisProcess::start_one(&[]);
        let url = format!("redis://127.0.0.1:{}", one.port);
        deployments.push(Deployment::new("standalone Redis", url, Servers::Redis(one), &issuer).await);
        let cluster = RedisCluster::start();
        let (name, url) = ("Redis Cluster", cluster.url());
        deployments.push(Deployment::new(name, url, Servers::Cluster(cluster), &issuer).await);
    } else {
        println!("skipped: Redis and Redis Cluster, because redis-server and redis-cli are not installed");
    }
    if postgres_server::is_installed() {
        let postgres = PostgresServer::start_with_fsync();
        let (name, url) = ("PostgreSQL", format!("{}sslmode=disable", postgres.url()));
        deployments.push(Deployment::new(name, url, Servers::Postgres(postgres), &issuer).await);
    } else {
        println!("skipped: PostgreSQL, because initdb and pg_ctl are not installed");
    }

    if deployments.is_empty() {
        return;
    }
    print!("\n{:16}", "a second");
    for deployment in &deployments {
        print!("  {:>26}", deployment.name);
    }
    print!("\n{:16}", "");
    for _ in &deployments {
        print!("  {:>10} {:>6} {:>8}", "", "ratio", "CPU µs");
    }
    println!();
    for operation in Operation::ALL {
        measure(operation, &mut deployments).await;
    }
}

#[derive(Clone, Copy, Debug)]
enum Operation {
    LookUp,
    Replacement,
    SignIn,
    Refresh,
}

impl Operation {
    const ALL: [Operation; 4] = [
        Operation::LookUp,
        Operation::Replacement,
        Operation::SignIn,
        Operation::Refresh,
    ];

    fn name(self) -> &'static str {
        match self {
            Operation::LookUp => "look-ups",
            Operation::Replacement => "replacements",
            Operation::SignIn => "sign-ins",
            Operation::Refresh => "refreshes",
        }
    }

    /// How many are in a round.
    fn count(self) -> usize {
        match self {
            Operation::LookUp => STORED,
            Operation::Replacement => REPLACED,
            Operation::SignIn => SIGN_INS,
            Operation::Refresh => REFRESHED,
        }
    }
}

/// Prints a row: the medians of the rounds, the first of which warms up.
async fn measure(operation: Operation, deployments: &mut [Deployment]) {
    let count = operation.count() as f64;
    let mut rates = vec![Vec::new(); deployments.len()];
    let mut times = vec![Vec::new(); deployments.len()];
    for deployment in &mut *deployments {
        deployment.prepare(operation).await;
    }
    for round in 0..=ROUNDS {
        for (i, deployment) in deployments.iter().enumerate() {
            // A refresh is due then.
            sleep(Duration::from_secs(TOKEN_LIFE)).await;
            let (before, begin) = (deployment.servers.time_on_cpu(), Instant::now());
            deployment.run(operation, round).await;
            let elapsed = begin.elapsed();
            let time = deployment.servers.time_on_cpu().saturating_sub(before);
            if round > 0 {
                rates[i].push(count / elapsed.as_secs_f64());
                times[i].push(time.as_secs_f64() * 1e6 / count);
            }
        }
    }
    print!("{:16}", operation.name());
    for (rate, time) in rates.iter().zip(&times) {
        let ratio = match deployments[0].servers {
            Servers::Redis(_) => {
                let ratios = rate.iter().zip(&rates[0]).map(|(rate, first)| rate / first);
                format!("{:.2}", median(ratios))
            }
            _ => "-".to_owned(),
        };
        let (rate, time) = (median(rate.iter().copied()), median(time.iter().copied()));
        print!("  {rate:10.0} {ratio:>6} {time:8.0}");
    }
    println!();
}

/// The processes of a deployment.
enum Servers {
    Redis(RedisProcess),
    Cluster(RedisCluster),
    Postgres(PostgresServer),
}

impl Servers {
    fn time_on_cpu(&self) -> Duration {
        match self {
            Servers::Redis(server) => time_on_cpu(server.id()),
            Servers::Cluster(cluster) => cluster.nodes.iter().map(|node| time_on_cpu(node.id())).sum(),
            // It has a process for each connection.
            Servers::Postgres(server) => {
                let first = server.id();
                children(first).into_iter().chain([first]).map(time_on_cpu).sum()
            }
        }
    }
}

/// The processes that this one has started.
fn children(parent: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // The name, which may contain spaces, is in parentheses; the state and the parent are behind it.
        let behind = stat.rsplit_once(')').map_or("", |(_, behind)| behind);
        behind.split_whitespace().nth(1) == Some(&parent.to_string())
    })
    .collect()
}

/// A store with sessions, and an app that uses it.
struct Deployment {
    name: &'static str,
    servers: Servers,
    store: Arc<dyn SessionStore>,
    app: Running,
    issuer: Arc<Issuer>,
    http: reqwest::Client,
    /// The cookies of sessions to refresh.
    signed_in: Vec<String>,
}

impl Deployment {
    async fn new(name: &'static str, url: String, servers: Servers, issuer: &Arc<Issuer>) -> Deployment {
        let secret = Secret::new(url.clone());
        let store: Arc<dyn SessionStore> = match &servers {
            Servers::Postgres(_) => Arc::new(SqlStore::new(&secret).unwrap()),
            Servers::Redis(_) | Servers::Cluster(_) => Arc::new(RedisStore::new(&secret).unwrap()),
        };
        store.prepare().await.unwrap();
        let deployment = Deployment {
            name,
            servers,
            store,
            app: Running::start_with_store(&url, issuer),
            issuer: issuer.clone(),
            http: http(),
            signed_in: Vec::new(),
        };
        let create = |store: Arc<dyn SessionStore>, i| async move { store.create(&session(i), LIFE).await.unwrap() };
        deployment.call_for_each(STORED, create).await;
        deployment
    }

    async fn prepare(&mut self, operation: Operation) {
        if matches!(operation, Operation::Refresh) {
            self.signed_in = self.sign_in(REFRESHED, &format!("400.{TOKEN_LIFE}.refreshed")).await;
        }
    }

    async fn run(&self, operation: Operation, round: usize) {
        match operation {
            Operation::LookUp => self.look_up().await,
            Operation::Replacement => self.replace(round).await,
            Operation::SignIn => {
                self.sign_in(SIGN_INS, &format!("400..{round}")).await;
            }
            Operation::Refresh => self.refresh().await,
        }
    }

    /// Calls the store once for each of so many sessions.
    async fn call_for_each<F: Future<Output = ()> + Send>(
        &self,
        count: usize,
        call: impl Fn(Arc<dyn SessionStore>, usize) -> F + Clone + Send + 'static,
    ) {
        let mut tasks = JoinSet::new();
        for first in 0..CALLS {
            let (store, call) = (self.store.clone(), call.clone());
            tasks.spawn(async move {
                for i in (first..count).step_by(CALLS) {
                    call(store.clone(), i).await;
                }
            });
        }
        tasks.join_all().await;
    }

    async fn look_up(&self) {
        let load = |store: Arc<dyn SessionStore>, i| async move {
            // In an order that no cache of a processor foresees.
            let id = session((i * 7_368_787) % STORED).id;
            assert!(store.load(&id).await.unwrap().is_some());
        };
        self.call_for_each(STORED, load).await;
    }

    async fn replace(&self, round: usize) {
        let replace = move |store: Arc<dyn SessionStore>, i| async move {
            let mut next = session(i);
            next.version = round as u64 + 2;
            assert!(store.replace(&next, LIFE).await.unwrap());
        };
        self.call_for_each(REPLACED, replace).await;
    }

    /// Signs in as many users; answers their cookies. The provider reads the code.
    async fn sign_in(&self, count: usize, code: &str) -> Vec<String> {
        let sign_ins = (0..count).map(|i| self.app.sign_in(&self.http, format!("{code}-{i}")));
        let sign_ins: Vec<_> = sign_ins.collect();
        stream::iter(sign_ins).buffer_unordered(REQUESTS).collect().await
    }

    /// Requests a page with each session, for which it must be refreshed.
    async fn refresh(&self) {
        let before = self.issuer.refreshes();
        let pages: Vec<_> = self.signed_in.iter().map(|cookies| self.page(cookies)).collect();
        stream::iter(pages).buffer_unordered(REQUESTS).collect::<Vec<_>>().await;
        assert_eq!(self.issuer.refreshes() - before, self.signed_in.len());
    }

    async fn page(&self, cookies: &str) {
        let page = self.http.get(format!("{}/me", self.app.url)).header("Cookie", cookies);
        assert_eq!(page.send().await.unwrap().status(), 200);
    }
}
