//! Several `redis-server` processes of a test's own: a cluster, or a primary with replicas and Sentinels.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::{free_port, is_on_path, redis_program};

/// The longest wait for any state.
const LONGEST: Duration = Duration::from_secs(30);

/// Whether `redis-server` and `redis-cli` are.
pub fn is_installed() -> bool {
    is_on_path(&redis_program()) && is_on_path("redis-cli")
}

/// One server on a port of its own that keeps its data over a restart; gone when dropped.
pub struct RedisProcess {
    process: Option<Child>,
    pub port: u16,
    directory: PathBuf,
    arguments: Vec<String>,
    is_sentinel: bool,
    /// The directory of the certificate, if it speaks TLS alone.
    tls: Option<PathBuf>,
}

impl RedisProcess {
    fn new(port: u16, arguments: &[&str]) -> RedisProcess {
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("redis-{port}"));
        std::fs::create_dir_all(&directory).unwrap();
        RedisProcess {
            process: None,
            port,
            directory,
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            is_sentinel: false,
            tls: None,
        }
    }

    /// One without replicas, with these arguments beside the usual ones.
    pub fn start_one(arguments: &[&str]) -> RedisProcess {
        let mut server = RedisProcess::new(free_port(), arguments);
        server.start();
        server
    }

    /// The id of the process.
    pub fn id(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    /// Starts it, and waits until it answers.
    pub fn start(&mut self) {
        self.spawn();
        self.answers();
    }

    fn spawn(&mut self) {
        let mut command = Command::new(redis_program());
        if self.is_sentinel {
            command.arg(self.directory.join("sentinel.conf")).arg("--sentinel");
        } else {
            let port = self.port.to_string();
            command.args(["--bind", "127.0.0.1"]).arg("--dir").arg(&self.directory);
            match &self.tls {
                None => command.args(["--port", &port]),
                Some(directory) => {
                    let file = |name: &str| directory.join(name).to_str().unwrap().to_owned();
                    command
                        .args(["--port", "0", "--tls-port", &port, "--tls-auth-clients", "no"])
                        .args(["--tls-cluster", "yes", "--tls-replication", "yes"])
                        .args(["--tls-key-file", &file("key.pem")])
                        .args(["--tls-cert-file", &file("certificate.pem")])
                        .args(["--tls-ca-cert-file", &file("certificate.pem")])
                }
            };
            command.args(["--save", "", "--appendonly", "yes", "--repl-diskless-sync-delay", "0"]);
            command.args(&self.arguments);
        }
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.process = Some(process.expect("`redis-server` is installed: `scripts/interop` installs it"));
    }

    fn answers(&self) {
        until("an answer to PING", || self.ask(&["PING"]).trim() == "PONG");
    }

    /// Kills it; its data stays.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.is_ok_and(|status| status.success()), "no signal");
    }

    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// What it answers to a command; an empty text if it does not.
    pub fn ask(&self, words: &[&str]) -> String {
        let port = self.port.to_string();
        let mut command = Command::new("redis-cli");
        if self.tls.is_some() {
            command.args(["--tls", "--insecure"]);
        }
        let asked = command.args(["-p", &port]).args(words).output();
        String::from_utf8(asked.expect("`redis-cli` is installed").stdout).unwrap()
    }
}

impl Drop for RedisProcess {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Repeats a look until it holds.
pub fn until(what: &str, mut look: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !look() {
        assert!(begun.elapsed() < LONGEST, "no {what} within {LONGEST:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What a user of these tests may do: no more than the manual says.
const APP: [&str; 11] = [
    "--user",
    "app",
    "on",
    ">hu/sh",
    "~oidc:*",
    "+@read",
    "+@write",
    "+@scripting",
    "+@connection",
    "+role",
    "+cluster|slots",
];

/// Three primaries, each with a replica.
pub struct RedisCluster {
    pub nodes: Vec<RedisProcess>,
}

impl RedisCluster {
    pub fn start() -> RedisCluster {
        RedisCluster::start_with(Duration::from_secs(1), None)
    }

    /// One whose nodes notice after this time that one of them is dead; with TLS by the certificate and the key in this
    /// directory.
    pub fn start_with(node_timeout: Duration, tls: Option<PathBuf>) -> RedisCluster {
        let node_timeout = node_timeout.as_millis().to_string();
        let mut nodes: Vec<_> = (0..6)
            .map(|_| {
                let (port, bus) = (free_port(), free_port().to_string());
                let cluster = [
                    "--cluster-enabled",
                    "yes",
                    "--cluster-port",
                    &bus,
                    "--cluster-node-timeout",
                    &node_timeout,
                    "--cluster-replica-validity-factor",
                    "0",
                    "--cluster-allow-replica-migration",
                    "no",
                ];
                let mut node = RedisProcess::new(port, &[&cluster[..], &APP].concat());
                node.tls.clone_from(&tls);
                node
            })
            .collect();
        nodes.iter_mut().for_each(RedisProcess::spawn);
        nodes.iter().for_each(RedisProcess::answers);
        let addresses = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port));
        let mut create = Command::new("redis-cli");
        if tls.is_some() {
            create.args(["--tls", "--insecure"]);
        }
        let created = create
            .args(["--cluster", "create"])
            .args(addresses)
            .args(["--cluster-replicas", "1", "--cluster-yes"])
            .output()
            .expect("`redis-cli` is installed");
        assert!(created.status.success(), "no cluster: {created:?}");
        let cluster = RedisCluster { nodes };
        cluster.is_whole();
        cluster
    }

    /// Its URL, with the hosts of three nodes, and a user that may do no more than it needs.
    pub fn url(&self) -> String {
        let hosts: Vec<_> = self
            .nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port))
            .collect();
        let scheme = if self.nodes[0].tls.is_some() { "rediss" } else { "redis" };
        format!("{scheme}-cluster://app:hu%2Fsh@{}", hosts[..3].join(","))
    }

    /// Waits until every node knows all slots, and every primary has a replica that follows it.
    pub fn is_whole(&self) {
        until("whole cluster", || {
            self.nodes.iter().filter(|node| node.is_running()).all(|node| {
                let info = node.ask(&["CLUSTER", "INFO"]);
                let replication = node.ask(&["INFO", "replication"]);
                info.contains("cluster_state:ok")
                    && info.contains("cluster_known_nodes:6")
                    && (replication.contains("connected_slaves:1") || replication.contains("master_link_status:up"))
            })
        });
    }

    /// Waits until every node that runs knows all slots.
    pub fn is_up(&self) {
        until("cluster", || {
            let mut running = self.nodes.iter().filter(|node| node.is_running());
            running.all(|node| node.ask(&["CLUSTER", "INFO"]).contains("cluster_state:ok"))
        });
    }

    /// The slot of a key.
    pub fn slot(&self, key: &str) -> u16 {
        let node = self.nodes.iter().find(|node| node.is_running()).unwrap();
        node.ask(&["CLUSTER", "KEYSLOT", key]).trim().parse().unwrap()
    }

    /// The index of the primary that has this slot, as a node that runs says.
    pub fn primary(&self, slot: u16) -> usize {
        let mut found = None;
        until("primary", || {
            let running = self.nodes.iter().find(|node| node.is_running()).unwrap();
            let nodes = running.ask(&["CLUSTER", "NODES"]);
            let line = nodes.lines().find(|line| {
                let words: Vec<_> = line.split(' ').collect();
                let has = |range: &&str| match range.split_once('-') {
                    Some((first, last)) => {
                        (first.parse::<u16>().unwrap_or(u16::MAX)..=last.parse().unwrap_or(0)).contains(&slot)
                    }
                    None => range.parse() == Ok(slot),
                };
                words.len() > 8
                    && words[2].contains("master")
                    && !words[2].contains("fail")
                    && words[8..].iter().any(has)
            });
            let port = line.and_then(|line| line.split([':', '@']).nth(1)?.parse().ok());
            found = port.and_then(|port: u16| self.nodes.iter().position(|node| node.port == port));
            found.is_some_and(|found| self.nodes[found].is_running())
        });
        found.unwrap()
    }

    /// Moves a slot with its keys to another primary.
    pub fn move_slot(&self, slot: u16) {
        let from = self.primary(slot);
        let other = if slot < 8192 { 16383 } else { 0 };
        let to = self.primary(other);
        let (from, to) = (&self.nodes[from], &self.nodes[to]);
        let slot = slot.to_string();
        let id = |node: &RedisProcess| node.ask(&["CLUSTER", "MYID"]).trim().to_owned();
        let (from_id, to_id) = (id(from), id(to));
        to.ask(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]);
        from.ask(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]);
        until("empty slot", || {
            let keys = from.ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "1"]);
            let key = keys.trim();
            if key.is_empty() {
                return true;
            }
            from.ask(&["MIGRATE", "127.0.0.1", &to.port.to_string(), key, "0", "2000"]);
            false
        });
        for node in self.nodes.iter().filter(|node| node.is_running()) {
            node.ask(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]);
        }
    }

    /// Kills all nodes, and starts them again.
    pub fn restart(&mut self) {
        self.nodes.iter_mut().for_each(RedisProcess::kill);
        self.nodes.iter_mut().for_each(RedisProcess::spawn);
        self.nodes.iter().for_each(RedisProcess::answers);
        self.is_whole();
    }
}

/// A primary with two replicas, and three Sentinels with a password.
pub struct RedisSentinels {
    pub servers: Vec<RedisProcess>,
    pub sentinels: Vec<RedisProcess>,
}

/// The password of the Sentinels.
pub const SENTINEL_PASSWORD: &str = "watch";

impl RedisSentinels {
    pub fn start() -> RedisSentinels {
        let mut servers: Vec<_> = (0..3).map(|_| RedisProcess::new(free_port(), &APP)).collect();
        let primary = servers[0].port.to_string();
        for replica in &mut servers[1..] {
            let follows = ["--replicaof", "127.0.0.1", &primary];
            replica.arguments.extend(follows.map(str::to_owned));
        }
        servers.iter_mut().for_each(RedisProcess::start);
        let mut sentinels: Vec<_> = (0..3).map(|_| RedisProcess::new(free_port(), &[])).collect();
        for sentinel in &mut sentinels {
            sentinel.is_sentinel = true;
            // The tests ask without a password: `default` may do all, and `app` needs one.
            let port = sentinel.port;
            let text = format!(
                "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor sessions 127.0.0.1 {primary} 2\n\
                 sentinel down-after-milliseconds sessions 1000\nsentinel failover-timeout sessions 5000\n\
                 user watcher on >{SENTINEL_PASSWORD} +@connection +sentinel|get-master-addr-by-name\n",
                sentinel.directory.display()
            );
            std::fs::write(sentinel.directory.join("sentinel.conf"), text).unwrap();
            sentinel.start();
        }
        let deployment = RedisSentinels { servers, sentinels };
        deployment.is_whole();
        deployment
    }

    /// Its URL, with a user that may do no more than it needs.
    pub fn url(&self) -> String {
        let hosts: Vec<_> = self
            .sentinels
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port))
            .collect();
        format!("redis+sentinel://app:hu%2Fsh@{}/sessions/0", hosts.join(","))
    }

    /// Waits until all replicas follow, and the Sentinels know each other.
    pub fn is_whole(&self) {
        let replicas = self.servers.iter().filter(|server| server.is_running()).count() - 1;
        until("replicas", || {
            let primary = &self.servers[self.primary()];
            let info = primary.ask(&["INFO", "replication"]);
            info.matches("state=online").count() == replicas
        });
        until("Sentinels", || {
            self.sentinels.iter().all(|sentinel| {
                let words = ["SENTINEL", "CKQUORUM", "sessions"];
                sentinel.ask(&words).contains("OK 3 usable Sentinels")
                    && sentinel
                        .ask(&["SENTINEL", "REPLICAS", "sessions"])
                        .matches("runid")
                        .count()
                        >= replicas
            })
        });
    }

    /// The index of the primary, on which the Sentinels agree.
    pub fn primary(&self) -> usize {
        let mut found = None;
        until("primary", || {
            let named = |sentinel: &RedisProcess| {
                let answer = sentinel.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "sessions"]);
                answer.lines().nth(1)?.parse::<u16>().ok()
            };
            let ports: Vec<_> = self.sentinels.iter().map(named).collect();
            found = self
                .servers
                .iter()
                .position(|server| server.is_running() && ports.iter().all(|port| *port == Some(server.port)));
            found.is_some_and(|found| self.servers[found].ask(&["ROLE"]).starts_with("master"))
        });
        found.unwrap()
    }
}
