//! The setting `insecure_http_hosts`: hosts for which plain http is accepted.

use std::net::Ipv6Addr;

use url::{Host, Url};

use super::{declaration::refined, value::Text};

/// The hosts in the setting `insecure_http_hosts`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InsecureHttpHosts(Vec<Host<String>>);

impl InsecureHttpHosts {
    /// Parses names and addresses, each of one host.
    pub(crate) fn new(texts: &[String]) -> InsecureHttpHosts {
        InsecureHttpHosts(texts.iter().filter_map(|text| host(text)).collect())
    }

    /// Whether the host of a URL is listed, whatever its port.
    pub(crate) fn has(&self, url: &Url) -> bool {
        // Most apps list no host: this avoids the allocation.
        !self.0.is_empty() && url.host().is_some_and(|host| self.0.contains(&host.to_owned()))
    }
}

refined! {
    /// The name or address of one host.
    HttpHost: Text,
        |text| host(text).is_some(),
        format!("{text:?} is not a host"),
        "list exact names or addresses, without scheme, port and path, such as `keycloak`";
}

pub(super) fn host(text: &str) -> Option<Host<String>> {
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Some(Host::Ipv6(address));
    }
    match Host::parse(text).ok()? {
        // A pattern would be treated as a name.
        Host::Domain(name) if name.contains('*') => None,
        host => Some(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_listed_by_its_exact_name() {
        let hosts = ["Keycloak", "sso.lan", "10.1.2.3", "fd00::1", "[fd00::2]"];
        let hosts = InsecureHttpHosts::new(&hosts.map(str::to_owned));
        for (url, expected) in [
            ("http://keycloak:8080/realms/a", true),
            ("http://KEYCLOAK", true),
            ("http://sso.lan/", true),
            ("http://10.1.2.3:80", true),
            ("http://10.1.515", true),
            ("http://[fd00::1]", true),
            ("http://[fd00:0::2]:8080", true),
            ("http://keycloak.example", false),
            ("http://a.keycloak", false),
            ("http://a.sso.lan", false),
            ("http://sso.lan.", false),
            ("http://xsso.lan", false),
            ("http://10.1.2.4", false),
            ("http://keycloak@op.example", false),
        ] {
            assert_eq!(hosts.has(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }

    #[test]
    fn what_is_not_one_host_is_refused() {
        for text in [
            "",
            "keycloak:8080",
            "http://keycloak",
            "keycloak/realms",
            "*",
            "*.lan",
            "%2a.lan",
            "a b",
            "me@keycloak",
            "10.0.0.0/8",
            "1.2.3.4.5",
        ] {
            assert_eq!(host(text), None, "{text}");
        }
    }
}
