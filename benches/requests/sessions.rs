//! What sessions cost as there are more of them: to begin one, to keep it, and to find it again.

use std::{
    fs,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use rocket::futures::{StreamExt, stream};
use rocket_openidconnect::{
    Secret,
    store::{MemoryStore, RedisStore, SessionStore, StoredSession},
};

use crate::{
    app::Server,
    cpu::{Running, http},
    issuer::Issuer,
    servers::redis_deployment::{self, RedisProcess},
    stores,
};

const SIGN_INS: usize = 2_000;
const COUNTS: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];
const LOOK_UPS: usize = 20_000;
pub const LIFE: Duration = Duration::from_secs(12 * 3600);

/// The parts whose names have this text.
pub async fn tables(text: &str) {
    let is_asked_for = |part: &str| part.contains(text);
    if is_asked_for("sign-ins") {
        sign_ins().await;
    }
    if is_asked_for("memory") {
        in_memory();
    }
    if is_asked_for("redis") {
        in_redis().await;
    }
    if is_asked_for("stores") {
        stores::table().await;
    }
}

fn in_memory() {
    println!("\n{:32} {:>10} {:>12}", "sessions in memory", "bytes", "look-up µs");
    for count in COUNTS {
        // In a process of its own, so that its memory is that of the sessions.
        let mut child = Command::new(std::env::current_exe().unwrap());
        let status = child.args(["hold", &count.to_string()]).status();
        assert!(status.unwrap().success());
    }
}

/// Prints how many people sign in a second, and what one costs the app.
async fn sign_ins() {
    println!("\n{:32} {:>10} {:>10}", "sessions", "sign-ins/s", "CPU µs");
    let http = http();
    for (name, server) in [
        ("in cookies", Server::Attached { token_cache: 0 }),
        ("in memory", Server::Memory),
    ] {
        let issuer = Issuer::start(0);
        let running = Running::start(server, &issuer);
        let sign_in = |_| running.sign_in(&http, 400);
        stream::iter(0..100)
            .map(sign_in)
            .buffer_unordered(8)
            .collect::<Vec<_>>()
            .await;
        let (before, begin) = (running.cpu_time(), Instant::now());
        stream::iter(0..SIGN_INS)
            .map(sign_in)
            .buffer_unordered(8)
            .collect::<Vec<_>>()
            .await;
        let rate = SIGN_INS as f64 / begin.elapsed().as_secs_f64();
        let spent = running.cpu_time() - before;
        let cpu = spent.as_secs_f64() * 1e6 / SIGN_INS as f64;
        println!("{name:32} {rate:10.0} {cpu:10.0}");
    }
}

/// Prints what so many sessions take in the memory of this process, each.
pub async fn hold(count: usize) {
    let store = MemoryStore::new(count * 2);
    let before = resident();
    for i in 0..count {
        store.create(&session(i), LIFE).await.unwrap();
    }
    let bytes = (resident() - before) / count;
    let look_up = look_ups(&store, count).await;
    println!("{count:32} {bytes:10} {look_up:12.2}");
}

/// Prints what so many sessions take in Redis, each.
async fn in_redis() {
    if !redis_deployment::is_installed() {
        println!("\nskipped: sessions in Redis, because redis-server and redis-cli are not installed");
        return;
    }
    println!("\n{:32} {:>10} {:>12}", "sessions in Redis", "bytes", "look-up µs");
    for count in COUNTS {
        let redis = RedisProcess::start_one(&["--appendonly", "no"]);
        let url = format!("redis://127.0.0.1:{}", redis.port);
        let store = Arc::new(RedisStore::new(&Secret::new(url)).unwrap());
        let before = used_memory(&redis);
        stream::iter(0..count)
            .for_each_concurrent(64, |i| {
                let store = store.clone();
                async move { store.create(&session(i), LIFE).await.unwrap() }
            })
            .await;
        let bytes = (used_memory(&redis) - before) / count;
        let look_up = look_ups(&*store, count).await;
        println!("{count:32} {bytes:10} {look_up:12.2}");
    }
}

/// Microseconds to find one of so many, in an order that no cache of a processor foresees.
async fn look_ups(store: &dyn SessionStore, count: usize) -> f64 {
    let ids: Vec<String> = (0..LOOK_UPS).map(|i| session((i * 7_368_787) % count).id).collect();
    let begin = Instant::now();
    for id in &ids {
        assert!(store.load(id).await.unwrap().is_some());
    }
    begin.elapsed().as_secs_f64() * 1e6 / LOOK_UPS as f64
}

/// A session as the guards keep it: claims and tokens of a usual size, of a person who has two.
pub fn session(i: usize) -> StoredSession {
    let index_keys = vec![format!("sub-{:039}", i / 2), format!("sid-{i:039}")];
    StoredSession::new(format!("{i:043}"), 1, "v".repeat(2_500), index_keys)
}

/// The memory of this process that is in use, in bytes.
fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

fn used_memory(redis: &RedisProcess) -> usize {
    let text = redis.ask(&["INFO", "memory"]);
    let line = text.lines().find_map(|line| line.strip_prefix("used_memory:"));
    line.unwrap().trim().parse().unwrap()
}
