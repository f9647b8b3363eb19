//! The address of the primary, by the Sentinels that watch it.

use std::collections::HashMap;

use redis::{ErrorKind, FromRedisValue, RedisError, aio::ConnectionLike, cmd};
use rocket::futures::stream::{FuturesUnordered, StreamExt};

use super::{
    error::{cause, store_error},
    server::{CONNECTION_TIMEOUT, Target, address, connect_once, with_credentials},
};
use crate::{session::store::StoreError, settings::Host};

/// Why a Sentinel names no primary.
enum Unknown {
    /// It does not know the master name.
    Name,
    /// It does not answer, or refuses to.
    Error(RedisError),
}

/// Asks all Sentinels at once, until most of them agree: one that is cut off from the others may name a former primary.
pub(super) async fn primary(target: &Target, sentinels: &[Host], master_name: &str) -> Result<Host, StoreError> {
    let mut answers: FuturesUnordered<_> = sentinels
        .iter()
        .map(|sentinel| async {
            let asked = tokio::time::timeout(CONNECTION_TIMEOUT, ask(target, sentinel, master_name));
            let timeout = |_| {
                Err(Unknown::Error(
                    std::io::Error::from(std::io::ErrorKind::TimedOut).into(),
                ))
            };
            asked.await.unwrap_or_else(timeout)
        })
        .collect();
    let mut votes: HashMap<(String, u16), usize> = HashMap::new();
    let mut unknown: Option<StoreError> = None;
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(primary) => {
                let count = votes.entry(primary).or_default();
                *count += 1;
                if *count > sentinels.len() / 2 {
                    break;
                }
            }
            Err(Unknown::Name) => {
                unknown = Some(StoreError::new("no Sentinel knows the master name"));
            }
            Err(Unknown::Error(error)) => {
                let answered = error.code().is_some() || error.kind() == ErrorKind::AuthenticationFailed;
                // What a Sentinel answers explains more than that another is not reachable.
                if answered || unknown.is_none() {
                    unknown = Some(sentinel_error(&error));
                }
            }
        }
    }
    match votes.into_iter().max_by_key(|(_, count)| *count) {
        Some(((name, port), _)) => Ok(Host { name, port }),
        None => Err(unknown.unwrap_or_else(|| StoreError::new("no Sentinel knows the master name"))),
    }
}

/// What one Sentinel answers.
async fn ask(target: &Target, sentinel: &Host, master_name: &str) -> Result<(String, u16), Unknown> {
    let (username, password) = (target.sentinel_username.as_deref(), target.sentinel_password.as_ref());
    let info = with_credentials(address(sentinel, target.url.tls), username, password, 0);
    let answer = async {
        let mut connection = connect_once(&info).await?;
        let mut command = cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(master_name);
        let answer = connection.req_packed_command(&command).await?;
        Option::<(String, u16)>::from_redis_value(answer.extract_error()?).map_err(RedisError::from)
    };
    answer.await.map_err(Unknown::Error)?.ok_or(Unknown::Name)
}

fn sentinel_error(error: &RedisError) -> StoreError {
    // A Redis that is not a Sentinel has no such command.
    if error.code() == Some("ERR") {
        return StoreError::new("a host in the URL is not a Sentinel");
    }
    match error.code() {
        Some(code) => StoreError::new(format!("a Sentinel returned {code}")),
        None if error.kind() == ErrorKind::AuthenticationFailed => StoreError::new("a Sentinel returned WRONGPASS"),
        None if error.is_timeout() => StoreError::new("no Sentinel responded in time"),
        None if error.is_io_error() => StoreError::new(format!("no Sentinel is reachable: {}", cause(error))),
        None => store_error(error),
    }
}

#[cfg(test)]
mod tests {
    use redis::Value;

    use super::*;

    #[test]
    fn what_a_sentinel_answers_is_told_apart() {
        let code = |code: &str| redis::make_extension_error(code.into(), Some("hush".to_owned()));
        let of_io = |kind: std::io::ErrorKind| RedisError::from(std::io::Error::from(kind));
        for (error, expected) in [
            (code("ERR"), "a host in the URL is not a Sentinel"),
            (code("NOAUTH"), "a Sentinel returned NOAUTH"),
            (code("NOPERM"), "a Sentinel returned NOPERM"),
            (
                (ErrorKind::AuthenticationFailed, "hush").into(),
                "a Sentinel returned WRONGPASS",
            ),
            (of_io(std::io::ErrorKind::TimedOut), "no Sentinel responded in time"),
            (
                of_io(std::io::ErrorKind::ConnectionRefused),
                "no Sentinel is reachable: connection refused",
            ),
        ] {
            assert_eq!(sentinel_error(&error), StoreError::new(expected));
        }
        let none = Option::<(String, u16)>::from_redis_value(Value::Nil).unwrap();
        assert_eq!(none, None);
    }
}
