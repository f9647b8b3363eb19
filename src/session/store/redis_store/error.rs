//! The causes of errors of Redis, without any stored value.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::session::store::StoreError;

/// The error's kind, or the operating system's message: a message of the server may contain a value.
pub(super) fn store_error(error: &RedisError) -> StoreError {
    StoreError::new(cause(error))
}

pub(super) fn cause(error: &RedisError) -> String {
    // The server's words for these are constant.
    if error.kind() == ErrorKind::Server(ServerErrorKind::ResponseError) {
        let detail = error.detail().unwrap_or_default();
        if detail.contains("cluster support disabled") {
            return "the Redis server is not part of a cluster".to_owned();
        }
        if detail.starts_with("unknown command") {
            return "the server does not know a command of Redis 7".to_owned();
        }
        if detail.starts_with("DB index is out of range") {
            return "the Redis server does not have this database".to_owned();
        }
    }
    // For a pipeline: the error of its first failed command.
    let errors = error.clone().into_server_errors();
    let code = errors.as_deref().and_then(|errors| errors.first());
    match code.map(|(_, error)| error.code()).or(error.code()) {
        Some(code) => format!("Redis returned {code}"),
        None if error.is_timeout() => "Redis did not respond in time".to_owned(),
        None if error.is_io_error() => io_cause(error),
        None if error.kind() == ErrorKind::ClusterConnectionNotFound => {
            "no node of the Redis cluster is reachable".to_owned()
        }
        None => format!("{:?}", error.kind()),
    }
}

/// The operating system's message; of an error that the client made itself, only its constant part.
fn io_cause(error: &RedisError) -> String {
    match error.detail() {
        None => error.to_string(),
        Some(_) => "the connection to Redis failed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn answer(text: &str) -> RedisError {
        redis::parse_redis_value(text.as_bytes())
            .unwrap()
            .extract_error()
            .unwrap_err()
    }

    #[test]
    fn an_error_has_a_kind_and_no_value() {
        let of_io = |kind: io::ErrorKind| RedisError::from(io::Error::from(kind));
        let detail = "a value".to_owned();
        for (error, cause) in [
            (of_io(io::ErrorKind::TimedOut), "Redis did not respond in time"),
            (of_io(io::ErrorKind::ConnectionRefused), "connection refused"),
            (
                RedisError::from((ErrorKind::UnexpectedReturnType, "no text", detail.clone())),
                "UnexpectedReturnType",
            ),
            (
                RedisError::from((ErrorKind::Io, "Failed to create initial connections", detail.clone())),
                "the connection to Redis failed",
            ),
            (
                RedisError::from((ErrorKind::ClusterConnectionNotFound, "none", detail.clone())),
                "no node of the Redis cluster is reachable",
            ),
            (
                redis::make_extension_error("NOPE".into(), Some(detail)),
                "Redis returned NOPE",
            ),
            (answer("-MOVED 1 10.0.0.1:6379\r\n"), "Redis returned MOVED"),
            (
                answer("-CLUSTERDOWN Hash slot not served\r\n"),
                "Redis returned CLUSTERDOWN",
            ),
            (answer("-LOADING data\r\n"), "Redis returned LOADING"),
            (
                answer("-MASTERDOWN Link with MASTER is down\r\n"),
                "Redis returned MASTERDOWN",
            ),
            (answer("-READONLY a value\r\n"), "Redis returned READONLY"),
            (answer("-ERR a value\r\n"), "Redis returned ERR"),
            (
                answer("-ERR This instance has cluster support disabled\r\n"),
                "the Redis server is not part of a cluster",
            ),
            (
                answer("-ERR unknown command 'EVAL', with args beginning with: 'a value'\r\n"),
                "the server does not know a command of Redis 7",
            ),
            (
                answer("-ERR DB index is out of range\r\n"),
                "the Redis server does not have this database",
            ),
        ] {
            assert_eq!(store_error(&error), StoreError::new(cause));
        }
    }
}
