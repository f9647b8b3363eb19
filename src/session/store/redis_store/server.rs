//! One server of a deployment: its address, the credentials for it, and a connection.

use std::time::Duration;

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo, RedisError,
    aio::MultiplexedConnection,
};

use crate::{
    secret::Secret,
    settings::{Host, RedisUrl},
};

/// The timeout of a command; then the store counts as unreachable.
pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
/// The timeout of connecting to one server.
pub(super) const CONNECTION_TIMEOUT: Duration = Duration::from_secs(1);
/// A deployment, and the credentials for it.
pub(super) struct Target {
    pub(super) url: RedisUrl,
    pub(super) sentinel_username: Option<String>,
    pub(super) sentinel_password: Option<Secret>,
}

/// An address with the credentials for Redis.
pub(super) fn info(url: &RedisUrl, address: ConnectionAddr) -> ConnectionInfo {
    let password = url.password.as_ref();
    with_credentials(address, url.username.as_deref(), password, url.database)
}

pub(super) fn with_credentials(
    address: ConnectionAddr,
    username: Option<&str>,
    password: Option<&Secret>,
    database: u16,
) -> ConnectionInfo {
    let mut settings = RedisConnectionInfo::default().set_db(database.into());
    if let Some(username) = username {
        settings = settings.set_username(username);
    }
    if let Some(password) = password {
        settings = settings.set_password(password.expose());
    }
    let info = address.into_connection_info();
    info.expect("an address is one").set_redis_settings(settings)
}

pub(super) fn address(host: &Host, tls: bool) -> ConnectionAddr {
    let (host, port) = (host.name.clone(), host.port);
    if !tls {
        return ConnectionAddr::Tcp(host, port);
    }
    ConnectionAddr::TcpTls {
        host,
        port,
        insecure: false,
        tls_params: None,
    }
}

pub(super) async fn connect_once(info: &ConnectionInfo) -> Result<MultiplexedConnection, RedisError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECTION_TIMEOUT))
        .set_response_timeout(Some(RESPONSE_TIMEOUT));
    let client = Client::open(info.clone())?;
    client.get_multiplexed_async_connection_with_config(&config).await
}
