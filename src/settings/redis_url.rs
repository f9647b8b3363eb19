//! The URL of a Redis deployment: one server, Sentinel, or a cluster. The Redis client's own parser knows neither of the
//! latter two.

use std::{fmt, net::Ipv6Addr, path::PathBuf};

use crate::secret::Secret;

/// The maximum length of a URL, in bytes.
const MAX_LENGTH: usize = 8 * 1024;
/// The maximum number of hosts in a URL.
const MAX_HOSTS: usize = 64;
const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// The remedy for a URL that is not of any of these forms.
pub(crate) const REDIS_URL: &str = "set `session.store_url` to `redis://host:6379`, or the like";

/// A parsed URL. Its `Debug` shows no password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RedisUrl {
    pub(crate) deployment: Deployment,
    /// Whether all connections use TLS, also those to Sentinels.
    pub(crate) tls: bool,
    /// The user for Redis; `None` is the default user.
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Secret>,
    /// The number of the database; 0 in a cluster.
    pub(crate) database: u16,
}

/// What a URL leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Deployment {
    /// One server, or a name that always leads to the primary.
    Standalone(Host),
    /// One server on this machine, by the path of its socket.
    Unix(PathBuf),
    /// Sentinels, which know the primary of this name.
    Sentinel { sentinels: Vec<Host>, master_name: String },
    /// Some nodes of a cluster, which know the others.
    Cluster(Vec<Host>),
}

/// A host name or an IP address, without brackets, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) port: u16,
}

/// Why a text is not the URL of a Redis deployment. It shows no part of the URL, which may contain a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RedisUrlError {
    pub(crate) cause: &'static str,
    pub(crate) remedy: &'static str,
}

impl fmt::Display for RedisUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.cause)
    }
}

fn error(cause: &'static str, remedy: &'static str) -> RedisUrlError {
    RedisUrlError { cause, remedy }
}

/// What a scheme stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Standalone,
    Unix,
    Sentinel,
    Cluster,
}

/// The kind of a scheme, and whether it uses TLS; `None` for other schemes.
fn kind(scheme: &str) -> Option<(Kind, bool)> {
    if scheme == "unix" {
        return Some((Kind::Unix, false));
    }
    let (server, kind) = if let Some(server) = scheme.strip_suffix("+sentinel") {
        (server, Kind::Sentinel)
    } else if let Some(server) = scheme.strip_suffix("-cluster") {
        (server, Kind::Cluster)
    } else {
        (scheme, Kind::Standalone)
    };
    match server {
        "redis" | "valkey" => Some((kind, false)),
        "rediss" | "valkeys" => Some((kind, true)),
        _ => None,
    }
}

impl RedisUrl {
    /// Whether a scheme is one of Redis.
    pub(super) fn has_scheme(scheme: &str) -> bool {
        kind(scheme).is_some()
    }

    /// Parses `scheme://[user[:password]@]host[:port],…[/master name][/database]`, or `unix://…/path[?db=database]`.
    pub(crate) fn parse(url: &str) -> Result<RedisUrl, RedisUrlError> {
        const SERVER: &str = "it is not the URL of a Redis server";
        if url.len() > MAX_LENGTH {
            return Err(error("it is longer than 8 KB", REDIS_URL));
        }
        let (scheme, rest) = url.split_once("://").ok_or(error(SERVER, REDIS_URL))?;
        let (kind, tls) = kind(scheme).ok_or(error(SERVER, REDIS_URL))?;
        // The Redis client's parser disables the verification of the certificate for a fragment.
        if rest.contains('#') {
            return Err(error(
                "it ends in a fragment, such as `#insecure`",
                "remove it; trust the server's certificate on this machine, on Linux with `SSL_CERT_FILE`",
            ));
        }
        if rest.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(error(
                "it contains a space, a line break or another control character",
                "remove it, or write it percent-encoded, a space as `%20`",
            ));
        }
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query)),
            None => (rest, None),
        };
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, Some(path)),
            None => (rest, None),
        };
        let (credentials, hosts) = match authority.rsplit_once('@') {
            Some((credentials, hosts)) => (Some(credentials), hosts),
            None => (None, authority),
        };
        let (username, password) = credentials.map(parse_credentials).transpose()?.unwrap_or((None, None));
        let parts = Parts { hosts, path, query };
        let (deployment, database) = match kind {
            Kind::Standalone => parts.standalone()?,
            Kind::Unix => parts.unix()?,
            Kind::Sentinel => parts.sentinel()?,
            Kind::Cluster => parts.cluster()?,
        };
        Ok(RedisUrl {
            deployment,
            tls,
            username,
            password,
            database,
        })
    }
}

/// The parts of a URL after its credentials.
struct Parts<'a> {
    hosts: &'a str,
    path: Option<&'a str>,
    query: Option<&'a str>,
}

impl Parts<'_> {
    fn standalone(&self) -> Result<(Deployment, u16), RedisUrlError> {
        self.has_no_query()?;
        let mut hosts = parse_hosts(self.hosts, REDIS_PORT)?;
        match (hosts.pop(), hosts.is_empty()) {
            (Some(host), true) => Ok((Deployment::Standalone(host), parse_database(self.path)?)),
            _ => Err(error(
                "it has several hosts",
                "write `redis-cluster://host,host` for a cluster, or `redis+sentinel://host,host/master_name` for Sentinel",
            )),
        }
    }

    fn unix(&self) -> Result<(Deployment, u16), RedisUrlError> {
        const REMEDY: &str = "write `unix:///run/redis/redis.sock`, and `?db=1` behind it for another database than 0";
        let path = self.path.unwrap_or_default();
        if !self.hosts.is_empty() || path.is_empty() || path.ends_with('/') {
            return Err(error("it is not `unix://` and the absolute path of a socket", REMEDY));
        }
        let path = decode(path)?;
        if path.contains('\0') {
            return Err(error("it is not `unix://` and the absolute path of a socket", REMEDY));
        }
        let database = match self.query {
            None => 0,
            Some(query) => match query.strip_prefix("db=") {
                Some(database) => parse_database(Some(database))?,
                None => return Err(error("it has an unknown parameter", REMEDY)),
            },
        };
        Ok((Deployment::Unix(format!("/{path}").into()), database))
    }

    fn sentinel(&self) -> Result<(Deployment, u16), RedisUrlError> {
        self.has_no_query()?;
        let sentinels = parse_hosts(self.hosts, SENTINEL_PORT)?;
        let path = self.path.unwrap_or_default();
        let (name, database) = match path.split_once('/') {
            Some((name, database)) => (name, Some(database)),
            None => (path, None),
        };
        let master_name = decode(name)?;
        if master_name.is_empty() {
            return Err(error(
                "it has no master name behind its hosts",
                "write `redis+sentinel://host,host/master_name`, with the name in `sentinel monitor` of the Sentinels",
            ));
        }
        let database = parse_database(database)?;
        Ok((Deployment::Sentinel { sentinels, master_name }, database))
    }

    fn cluster(&self) -> Result<(Deployment, u16), RedisUrlError> {
        self.has_no_query()?;
        let hosts = parse_hosts(self.hosts, REDIS_PORT)?;
        match parse_database(self.path)? {
            0 => Ok((Deployment::Cluster(hosts), 0)),
            _ => Err(error(
                "it names another database than 0, which a cluster does not have",
                "remove the number behind the hosts",
            )),
        }
    }

    fn has_no_query(&self) -> Result<(), RedisUrlError> {
        match self.query {
            None => Ok(()),
            Some(_) => Err(error(
                "it has an unknown parameter",
                "remove `?` and what follows; write `?` in the user or the password as `%3F`",
            )),
        }
    }
}

/// `user:password`, `:password` or `user`, each percent-encoded.
fn parse_credentials(text: &str) -> Result<(Option<String>, Option<Secret>), RedisUrlError> {
    if text.contains('@') {
        return Err(error(
            "it has more than one `@`",
            "write the credentials once, before the first host, and `@` in them as `%40`",
        ));
    }
    let (username, password) = match text.split_once(':') {
        Some((username, password)) => (username, Some(password)),
        None => (text, None),
    };
    let username = Some(decode(username)?).filter(|username| !username.is_empty());
    let password = password
        .map(decode)
        .transpose()?
        .filter(|password| !password.is_empty());
    if username.is_some() && password.is_none() {
        return Err(error(
            "it has a user without a password",
            "write `user:password@`, or `:password@` for the default user",
        ));
    }
    Ok((username, password.map(Secret::new)))
}

/// Hosts that are separated by commas, each with or without a port.
fn parse_hosts(text: &str, default_port: u16) -> Result<Vec<Host>, RedisUrlError> {
    if text.is_empty() {
        return Err(error("it has no host", REDIS_URL));
    }
    if text.split(',').nth(MAX_HOSTS).is_some() {
        return Err(error(
            "it has more than 64 hosts",
            "list some of them: each knows the others",
        ));
    }
    text.split(',').map(|host| parse_host(host, default_port)).collect()
}

fn parse_host(text: &str, default_port: u16) -> Result<Host, RedisUrlError> {
    let not_a_host = error(
        "one of its hosts is not a host name or an IP address",
        "write hosts as `name:port`, an IPv6 address as `[::1]:6379`; write `/`, `?`, `#` and `@` in the user or the password percent-encoded",
    );
    let (name, port) = match text.strip_prefix('[') {
        Some(text) => {
            let (name, port) = text.split_once(']').ok_or(not_a_host)?;
            name.parse::<Ipv6Addr>().map_err(|_| not_a_host)?;
            match port.strip_prefix(':') {
                Some(port) => (name, Some(port)),
                None if port.is_empty() => (name, None),
                None => return Err(not_a_host),
            }
        }
        None => {
            let (name, port) = match text.split_once(':') {
                Some((name, port)) => (name, Some(port)),
                None => (text, None),
            };
            let is_part_of_name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
            if name.is_empty() || name.len() > 253 || !name.chars().all(is_part_of_name) {
                return Err(not_a_host);
            }
            (name, port)
        }
    };
    let port = match port {
        None => default_port,
        Some(port) => parse_number(port).filter(|port| *port != 0).ok_or(error(
            "one of its ports is not a number from 1 to 65535",
            "write hosts as `name:port`, an IPv6 address as `[::1]:6379`; write `/`, `?`, `#` and `@` in the user or the password percent-encoded",
        ))?,
    };
    Ok(Host {
        name: name.to_owned(),
        port,
    })
}

fn parse_database(text: Option<&str>) -> Result<u16, RedisUrlError> {
    match text {
        None | Some("") => Ok(0),
        Some(text) => parse_number(text).ok_or(error(
            "its database is not a number from 0 to 65535",
            "write the database behind the host, such as `redis://host:6379/1`; write `/` in the user or the password as `%2F`",
        )),
    }
}

/// Decimal digits alone: `parse` also accepts a sign.
fn parse_number(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

/// Decodes percent-encoded text.
fn decode(text: &str) -> Result<String, RedisUrlError> {
    let wrong = error(
        "a `%` in it does not begin two hex digits of UTF-8",
        "write `%` in the user, the password or the master name as `%25`",
    );
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let (high, low) = (digit().ok_or(wrong)?, digit().ok_or(wrong)?);
        decoded.push(u8::try_from(high * 16 + low).map_err(|_| wrong)?);
    }
    String::from_utf8(decoded).map_err(|_| wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, port: u16) -> Host {
        Host {
            name: name.to_owned(),
            port,
        }
    }

    fn url(deployment: Deployment) -> RedisUrl {
        RedisUrl {
            deployment,
            tls: false,
            username: None,
            password: None,
            database: 0,
        }
    }

    fn sentinel(sentinels: Vec<Host>, master_name: &str) -> Deployment {
        Deployment::Sentinel {
            sentinels,
            master_name: master_name.to_owned(),
        }
    }

    #[test]
    fn one_server_has_a_host_and_perhaps_more() {
        let at = |name, port| url(Deployment::Standalone(host(name, port)));
        let with = |user: Option<&str>, password: &str, url: RedisUrl| RedisUrl {
            username: user.map(str::to_owned),
            password: Some(Secret::new(password)),
            ..url
        };
        for (text, expected) in [
            ("redis://localhost", at("localhost", 6379)),
            ("redis://localhost/", at("localhost", 6379)),
            ("valkey://cache_1.internal:7000/0", at("cache_1.internal", 7000)),
            ("redis://127.0.0.1:1", at("127.0.0.1", 1)),
            ("redis://[::1]", at("::1", 6379)),
            ("redis://[fd00::5]:6380", at("fd00::5", 6380)),
            ("redis://:hush@h", with(None, "hush", at("h", 6379))),
            ("redis://app:hush@h:5", with(Some("app"), "hush", at("h", 5))),
            (
                "redis://a%40b:%2F%3F%23%40%25%3A%C3%A9,:@h",
                with(Some("a@b"), "/?#@%:é,:", at("h", 6379)),
            ),
            ("redis://@h", at("h", 6379)),
            ("redis://:@h", at("h", 6379)),
        ] {
            assert_eq!(RedisUrl::parse(text), Ok(expected), "{text}");
        }
        for (text, tls) in [
            ("redis://h/15", false),
            ("rediss://h/15", true),
            ("valkey://h/15", false),
            ("valkeys://h/15", true),
        ] {
            let expected = RedisUrl {
                tls,
                database: 15,
                ..at("h", 6379)
            };
            assert_eq!(RedisUrl::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_socket_has_a_path() {
        let at = |path: &str| url(Deployment::Unix(path.into()));
        assert_eq!(RedisUrl::parse("unix:///run/redis.sock"), Ok(at("/run/redis.sock")));
        let expected = RedisUrl {
            username: Some("app".to_owned()),
            password: Some(Secret::new("hush")),
            database: 3,
            ..at("/run/a b.sock")
        };
        let text = "unix://app:hush@/run/a%20b.sock?db=3";
        assert_eq!(RedisUrl::parse(text), Ok(expected));
    }

    #[test]
    fn sentinels_are_several_hosts_and_a_master_name() {
        let three = vec![host("a", 26379), host("::2", 26379), host("10.0.0.3", 5000)];
        let expected = RedisUrl {
            tls: true,
            username: Some("app".to_owned()),
            password: Some(Secret::new("hu,sh")),
            database: 2,
            ..url(sentinel(three, "my master"))
        };
        for scheme in ["rediss", "valkeys"] {
            let text = format!("{scheme}+sentinel://app:hu,sh@a,[::2],10.0.0.3:5000/my%20master/2");
            assert_eq!(RedisUrl::parse(&text), Ok(expected.clone()), "{text}");
        }
        for text in [
            "redis+sentinel://a/m",
            "valkey+sentinel://a:26379/m/",
            "redis+sentinel://a/m/0",
        ] {
            let expected = url(sentinel(vec![host("a", 26379)], "m"));
            assert_eq!(RedisUrl::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_cluster_is_several_hosts() {
        let expected = url(Deployment::Cluster(vec![host("a", 6379), host("::2", 7000)]));
        for (text, tls) in [
            ("redis-cluster://a,[::2]:7000", false),
            ("valkey-cluster://a,[::2]:7000/", false),
            ("rediss-cluster://a,[::2]:7000/0", true),
            ("valkeys-cluster://a,[::2]:7000", true),
        ] {
            let expected = RedisUrl {
                tls,
                ..expected.clone()
            };
            assert_eq!(RedisUrl::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_wrong_url_has_a_cause_and_a_remedy() {
        const SERVER: &str = "it is not the URL of a Redis server";
        const HOST: &str = "one of its hosts is not a host name or an IP address";
        const PORT: &str = "one of its ports is not a number from 1 to 65535";
        const DATABASE: &str = "its database is not a number from 0 to 65535";
        const SOCKET: &str = "it is not `unix://` and the absolute path of a socket";
        const PARAMETER: &str = "it has an unknown parameter";
        const PERCENT: &str = "a `%` in it does not begin two hex digits of UTF-8";
        const CONTROL: &str = "it contains a space, a line break or another control character";
        const NO_MASTER: &str = "it has no master name behind its hosts";
        let long = format!("redis://:hush@{}", "h".repeat(MAX_LENGTH));
        let many = format!("redis-cluster://:hush@{}", ["h"; MAX_HOSTS + 1].join(","));
        for (text, cause) in [
            ("", SERVER),
            ("hush", SERVER),
            ("redis:hush@h", SERVER),
            ("http://:hush@h", SERVER),
            ("REDIS://:hush@h", SERVER),
            ("sentinel://:hush@h", SERVER),
            ("redis+cluster://:hush@h", SERVER),
            (&long, "it is longer than 8 KB"),
            (&many, "it has more than 64 hosts"),
            ("redis://", "it has no host"),
            ("redis://:hush@", "it has no host"),
            ("redis+sentinel://:hush@/m", "it has no host"),
            ("redis-cluster:///0", "it has no host"),
            ("redis://:hush@h,i", "it has several hosts"),
            ("redis://:hush@[::1", HOST),
            ("redis://:hush@[h]", HOST),
            ("redis://:hush@[::1]6379", HOST),
            ("redis://:hush@::1", HOST),
            ("redis://:hush@h_é", HOST),
            ("redis://:hush@h%20", HOST),
            ("redis-cluster://:hush@a,,b", HOST),
            ("redis-cluster://:hush@a,", HOST),
            ("redis://:hush@h:", PORT),
            ("redis://:hush@h:0", PORT),
            ("redis://:hush@h:65536", PORT),
            ("redis://:hush@h:+1", PORT),
            ("redis://:hush@h:port", PORT),
            ("redis://:hu/sh@h", HOST),
            ("redis://:hush@h/x", DATABASE),
            ("redis://:hush@h/-1", DATABASE),
            ("redis://:hush@h/65536", DATABASE),
            ("redis://:hush@h/0/1", DATABASE),
            ("redis+sentinel://:hush@h/m/x", DATABASE),
            ("redis+sentinel://:hush@h", NO_MASTER),
            ("redis+sentinel://:hush@h/", NO_MASTER),
            ("redis+sentinel://:hush@h//1", NO_MASTER),
            (
                "redis-cluster://:hush@h/1",
                "it names another database than 0, which a cluster does not have",
            ),
            ("redis://h?password=hush", PARAMETER),
            ("redis://:hu?sh@h", PARAMETER),
            ("redis-cluster://h/?db=1", PARAMETER),
            ("redis+sentinel://h/m?x", PARAMETER),
            ("unix:///s?password=hush", PARAMETER),
            ("unix:///s?db=hush", DATABASE),
            ("unix://", SOCKET),
            ("unix://hush", SOCKET),
            ("unix://run/redis.sock", SOCKET),
            ("unix:///run/", SOCKET),
            ("unix:///run/%00", SOCKET),
            ("redis://:hu@sh@h", "it has more than one `@`"),
            ("redis-cluster://u:hush@a,u:hush@b", "it has more than one `@`"),
            ("redis://hush@h", "it has a user without a password"),
            ("redis://:hush%@h", PERCENT),
            ("redis://:hush%2@h", PERCENT),
            ("redis://:hush%zz@h", PERCENT),
            ("redis://:hush%ff@h", PERCENT),
            ("redis+sentinel://h/%", PERCENT),
            (
                "redis://:hush@h/#insecure",
                "it ends in a fragment, such as `#insecure`",
            ),
            ("redis://:hu sh@h", CONTROL),
            ("redis://:hush@h\n", CONTROL),
            ("redis://:hush@h\0", CONTROL),
        ] {
            let error = RedisUrl::parse(text).map_err(|error| (error.cause, error.remedy));
            let (found, remedy) = error.expect_err(text);
            assert_eq!(found, cause, "{text}");
            assert!(!remedy.is_empty() && !remedy.contains("hush"), "{text}: {remedy}");
        }
    }

    #[test]
    fn debug_shows_no_password() {
        let url = RedisUrl::parse("redis-cluster://app:hush@a,b").unwrap();
        assert!(!format!("{url:?}").contains("hush"));
    }
}
