//! Redis and PostgreSQL as processes of a test's or a benchmark's own.

pub mod postgres_server;
pub mod redis_deployment;
pub mod redis_server;

use std::{
    env,
    net::TcpListener,
    ops::Range,
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// A server that several nodes of an app share. Its data outlives a restart.
pub trait Server {
    fn url(&self) -> String;
    fn stop(&mut self);
    fn restart(&mut self);
}

/// The ports of the programs that are started. All are below those that the system hands out by itself (from 32,768 on
/// Linux), so no outgoing connection and no listener on port 0 takes one before its program listens there.
const PORTS: Range<u16> = 12_000..32_000;

/// A loopback port that nothing listens on, given once in this process.
pub fn free_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let ports = u32::from(PORTS.end - PORTS.start);
    // Two processes that run at once begin at different places.
    let begin = process::id().wrapping_mul(997);
    (0..ports)
        .map(|_| begin.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)) % ports)
        .map(|place| PORTS.start + u16::try_from(place).unwrap())
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("one of 20,000 ports is free")
}

/// The program of a Redis: `redis-server`, or what the variable `REDIS_SERVER` names, such as `valkey-server`.
fn redis_program() -> String {
    env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned())
}

/// Whether a directory of `PATH` has a program of this name.
fn is_on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(program).is_file())
}
