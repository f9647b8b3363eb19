//! The connection to a Redis deployment: shared by all requests, replaced when it is lost.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redis::{
    Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, Pipeline, RedisError, TlsMode, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster::ClusterClientBuilder,
    cluster_async::ClusterConnection,
    cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr},
    cmd,
};
use rocket::futures::future::{BoxFuture, FutureExt, Shared};

use super::{
    error::store_error,
    sentinel,
    server::{CONNECTION_TIMEOUT, RESPONSE_TIMEOUT, Target, address, connect_once, info},
};
use crate::{
    session::store::StoreError,
    settings::{Deployment, Host, RedisUrl},
};

/// The timeout of connecting to a deployment.
const DEPLOYMENT_TIMEOUT: Duration = Duration::from_secs(3);
/// How often the cluster client repeats a command that was redirected, or that its node did not answer.
const CLUSTER_RETRIES: u32 = 8;
/// The pauses of the cluster client between two tries, in milliseconds.
const CLUSTER_PAUSES: (u64, u64) = (20, 200);
/// The number of successive failures after which the connection to a cluster is replaced. Usually its client reconnects
/// by itself.
const MAX_FAILURES: u32 = 8;

/// What is sent over a connection.
#[derive(Clone, Copy)]
pub(super) enum Request<'a> {
    /// A command with one key.
    Command(&'a Cmd),
    /// A command without a key, for the server that has this key.
    At(&'a Cmd, &'a str),
    /// Commands with this key or none, over one connection.
    Together(&'a Pipeline, &'a str),
}

/// A connection to the deployment, created on first use, because it belongs to the async runtime that creates it.
pub(super) struct Link {
    target: Arc<Target>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The number of the current attempt.
    number: u64,
    /// The attempt to connect, which all requests share; `None` before the first, and once the connection is lost.
    attempt: Option<Attempt>,
    /// Failures since the last success.
    failures: u32,
}

type Attempt = Shared<BoxFuture<'static, Result<Connection, StoreError>>>;

impl Link {
    pub(super) fn new(target: Arc<Target>) -> Link {
        Link {
            target,
            state: Mutex::default(),
        }
    }

    /// Sends an idempotent request: again, and once, where the connection was lost or the server is no longer the
    /// primary. Returns one value for each command, of which the first is not an error.
    pub(super) async fn send(&self, request: Request<'_>) -> Result<Vec<Value>, StoreError> {
        let mut is_repeated = false;
        loop {
            let (number, mut connection) = self.connection().await?;
            let error = match connection.send(request).await {
                Ok(values) => {
                    self.lock().failures = 0;
                    return Ok(values);
                }
                Err(error) => error,
            };
            let may_repeat = self.failed(number, &connection, &error);
            if is_repeated || !may_repeat {
                return Err(connection.store_error(&error));
            }
            is_repeated = true;
        }
    }

    async fn connection(&self) -> Result<(u64, Connection), StoreError> {
        let (number, attempt) = {
            let mut state = self.lock();
            let attempt = match &state.attempt {
                Some(attempt) => attempt.clone(),
                None => {
                    let target = self.target.clone();
                    let attempt = async move { connect(&target).await }.boxed().shared();
                    // It completes also if the request that began it is dropped.
                    tokio::spawn(attempt.clone().map(drop));
                    state.number += 1;
                    state.failures = 0;
                    state.attempt = Some(attempt.clone());
                    attempt
                }
            };
            (state.number, attempt)
        };
        match attempt.await {
            Ok(connection) => Ok((number, connection)),
            Err(error) => {
                self.discard(number);
                Err(error)
            }
        }
    }

    /// Replaces a connection that is of no more use. Returns whether the request may be sent again.
    fn failed(&self, number: u64, connection: &Connection, error: &RedisError) -> bool {
        match (connection, failure(error)) {
            (_, Failure::Answer) => false,
            (Connection::One(_), failure) => {
                self.discard(number);
                failure == Failure::Lost
            }
            // The cluster client has followed redirections and repeated the command.
            (Connection::Cluster(_), _) => {
                let is_closed = error.kind() == ErrorKind::ClusterConnectionNotFound;
                let is_stuck = {
                    let mut state = self.lock();
                    state.failures += 1;
                    state.failures >= MAX_FAILURES
                };
                if is_closed || is_stuck {
                    self.discard(number);
                }
                is_closed || error.code() == Some("UNBLOCKED")
            }
        }
    }

    fn discard(&self, number: u64) {
        let mut state = self.lock();
        if state.number == number {
            state.attempt = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an error says about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// Nothing: the server has answered.
    Answer,
    /// The connection was lost, or leads to a server that is not the primary, or not yet.
    Lost,
    /// There was no answer in time.
    Silence,
}

fn failure(error: &RedisError) -> Failure {
    match error.code() {
        Some("READONLY" | "MASTERDOWN" | "LOADING" | "CLUSTERDOWN" | "UNBLOCKED") => Failure::Lost,
        Some(_) => Failure::Answer,
        None if error.is_timeout() => Failure::Silence,
        None if error.is_unrecoverable_error() || error.is_io_error() => Failure::Lost,
        None => Failure::Answer,
    }
}

/// A connection to one server, or to all primaries of a cluster.
#[derive(Clone)]
enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    /// The cluster client has followed redirections until it gave up: one that remains leads to a dead node.
    fn store_error(&self, error: &RedisError) -> StoreError {
        match (self, error.code()) {
            (Connection::Cluster(_), Some("MOVED" | "ASK" | "TRYAGAIN")) => {
                StoreError::new("a slot of the Redis cluster has no primary that responds")
            }
            _ => store_error(error),
        }
    }

    async fn send(&mut self, request: Request<'_>) -> Result<Vec<Value>, RedisError> {
        let mut values = match (self, request) {
            (Connection::One(connection), Request::Command(command) | Request::At(command, _)) => {
                vec![connection.req_packed_command(command).await?]
            }
            (Connection::One(connection), Request::Together(commands, _)) => {
                connection.req_packed_commands(commands, 0, commands.len()).await?
            }
            (Connection::Cluster(connection), Request::Command(command)) => {
                vec![connection.req_packed_command(command).await?]
            }
            (Connection::Cluster(connection), Request::At(command, key)) => {
                let routing = RoutingInfo::SingleNode(route(key));
                vec![connection.route_command(command.clone(), routing).await?]
            }
            (Connection::Cluster(connection), Request::Together(commands, key)) => {
                let route = route(key);
                let count = commands.len();
                connection.route_pipeline(commands.clone(), 0, count, route).await?
            }
        };
        if values.is_empty() {
            return Err((ErrorKind::UnexpectedReturnType, "no value").into());
        }
        values[0] = std::mem::take(&mut values[0]).extract_error()?;
        // A primary that becomes a replica interrupts a wait for its replicas: what it wrote before may be lost.
        if let Some(error) = values[1..].iter().find_map(interruption) {
            return Err(error);
        }
        Ok(values)
    }
}

fn interruption(value: &Value) -> Option<RedisError> {
    let error = value.clone().extract_error().err()?;
    (error.code() == Some("UNBLOCKED")).then_some(error)
}

/// The primary that has a key.
fn route(key: &str) -> SingleNodeRoutingInfo {
    SingleNodeRoutingInfo::SpecificNode(Route::with_key(key, SlotAddr::Master))
}

async fn connect(target: &Target) -> Result<Connection, StoreError> {
    let connecting = async {
        let url = &target.url;
        match &url.deployment {
            Deployment::Standalone(host) => connect_to_one(&info(url, address(host, url.tls)))
                .await
                .map(Connection::One)
                .map_err(|error| store_error(&error)),
            Deployment::Unix(path) => connect_to_one(&info(url, ConnectionAddr::Unix(path.clone())))
                .await
                .map(Connection::One)
                .map_err(|error| store_error(&error)),
            Deployment::Sentinel { sentinels, master_name } => {
                let primary = sentinel::primary(target, sentinels, master_name).await?;
                connect_to_primary(&info(url, address(&primary, url.tls)))
                    .await
                    .map(Connection::One)
            }
            Deployment::Cluster(hosts) => connect_to_cluster(url, hosts).await.map(Connection::Cluster),
        }
    };
    let connected = tokio::time::timeout(DEPLOYMENT_TIMEOUT, connecting).await;
    connected.unwrap_or_else(|_| Err(StoreError::new("Redis did not respond in time")))
}

/// Connects to a server, and a second time if that fails: it may have just restarted.
async fn connect_to_one(info: &ConnectionInfo) -> Result<MultiplexedConnection, RedisError> {
    match connect_once(info).await {
        Err(error) if error.is_connection_dropped() => {
            tokio::time::sleep(Duration::from_millis(50)).await;
            connect_once(info).await
        }
        connected => connected,
    }
}

/// Connects to the server that the Sentinels name. During a failover it may be a replica still, whose data is old.
async fn connect_to_primary(info: &ConnectionInfo) -> Result<MultiplexedConnection, StoreError> {
    let connected = connect_once(info).await;
    let mut connection = connected.map_err(|error| store_error(&error))?;
    let role = connection.req_packed_command(&cmd("ROLE")).await;
    match role.and_then(Value::extract_error) {
        Ok(Value::Array(role)) if role.first().is_some_and(is_replica) => {
            Err(StoreError::new("the server that the Sentinels name is a replica"))
        }
        Err(error) if failure(&error) != Failure::Answer => Err(store_error(&error)),
        // A user without permission for `ROLE` learns it by the first write.
        _ => Ok(connection),
    }
}

fn is_replica(role: &Value) -> bool {
    matches!(role, Value::BulkString(role) if role == b"slave")
        || matches!(role, Value::SimpleString(role) if role == "slave")
}

async fn connect_to_cluster(url: &RedisUrl, hosts: &[Host]) -> Result<ClusterConnection, StoreError> {
    let nodes: Vec<_> = hosts.iter().map(|host| info(url, address(host, url.tls))).collect();
    let client = ClusterClientBuilder::new(nodes.clone())
        .retries(CLUSTER_RETRIES)
        .min_retry_wait(CLUSTER_PAUSES.0)
        .max_retry_wait(CLUSTER_PAUSES.1)
        .connection_timeout(CONNECTION_TIMEOUT)
        .response_timeout(RESPONSE_TIMEOUT)
        .overall_response_timeout(Some(RESPONSE_TIMEOUT));
    let client = if url.tls { client.tls(TlsMode::Secure) } else { client };
    let client = client.build().map_err(|error| store_error(&error))?;
    match client.get_async_connection().await {
        Ok(connection) => Ok(connection),
        // The cluster client wraps the errors of its nodes in a text.
        Err(error) => Err(store_error(&cluster_error(&nodes).await.unwrap_or(error))),
    }
}

/// Why no node of a cluster can be used: the answer of one that responds, or the last error.
async fn cluster_error(nodes: &[ConnectionInfo]) -> Option<RedisError> {
    let mut last = None;
    for node in nodes {
        let asked = async {
            let mut connection = connect_once(node).await?;
            let mut command = cmd("CLUSTER");
            let slots = connection.req_packed_command(command.arg("SLOTS")).await?;
            slots.extract_error()
        };
        if let Err(error) = asked.await {
            let is_answer = error.code().is_some() || error.kind() == ErrorKind::AuthenticationFailed;
            last = Some(error);
            if is_answer {
                break;
            }
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_connection_is_replaced_when_it_is_lost_or_leads_to_no_primary() {
        let code = |code: &str| redis::make_extension_error(code.into(), None);
        let of_io = |kind: io::ErrorKind| RedisError::from(io::Error::from(kind));
        for (error, expected) in [
            (code("READONLY"), Failure::Lost),
            (code("LOADING"), Failure::Lost),
            (code("MASTERDOWN"), Failure::Lost),
            (code("CLUSTERDOWN"), Failure::Lost),
            (code("UNBLOCKED"), Failure::Lost),
            (code("MOVED"), Failure::Answer),
            (code("NOAUTH"), Failure::Answer),
            (code("WRONGTYPE"), Failure::Answer),
            (of_io(io::ErrorKind::BrokenPipe), Failure::Lost),
            (of_io(io::ErrorKind::ConnectionReset), Failure::Lost),
            (of_io(io::ErrorKind::ConnectionRefused), Failure::Lost),
            (of_io(io::ErrorKind::TimedOut), Failure::Silence),
            ((ErrorKind::UnexpectedReturnType, "no text").into(), Failure::Answer),
        ] {
            assert_eq!(failure(&error), expected, "{error}");
        }
    }
}
