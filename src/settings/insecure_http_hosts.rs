//! The setting `insecure_http_hosts`: hosts for which plain http is accepted.

use std::net::Ipv6Addr;

use url::{Host, Url};

/// The hosts that the setting `insecure_http_hosts` lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InsecureHttpHosts(Vec<Host<String>>);

impl InsecureHttpHosts {
    /// Reads names and addresses, each of one host. The error is the first text that is neither.
    pub(crate) fn parse(texts: &[String]) -> Result<InsecureHttpHosts, &str> {
        let host = |text| host(text).ok_or(text);
        let hosts = texts.iter().map(String::as_str).map(host);
        Ok(InsecureHttpHosts(hosts.collect::<Result<_, _>>()?))
    }

    /// Whether the host of a URL is listed, whatever its port.
    pub(crate) fn has(&self, url: &Url) -> bool {
        // Nothing is allocated at the calls of most apps, which list none.
        !self.0.is_empty()
            && url
                .host()
                .is_some_and(|host| self.0.contains(&host.to_owned()))
    }
}

fn host(text: &str) -> Option<Host<String>> {
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Some(Host::Ipv6(address));
    }
    match Host::parse(text).ok()? {
        // A pattern would be taken for a name.
        Host::Domain(name) if name.contains('*') => None,
        host => Some(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> Result<InsecureHttpHosts, String> {
        let texts: Vec<String> = texts.iter().map(|text| text.to_string()).collect();
        InsecureHttpHosts::parse(&texts).map_err(str::to_owned)
    }

    #[test]
    fn a_host_is_listed_by_its_exact_name() {
        let hosts = parse(&["Keycloak", "sso.lan", "10.1.2.3", "fd00::1", "[fd00::2]"]).unwrap();
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
            assert_eq!(parse(&["keycloak", text]), Err(text.to_owned()));
        }
    }
}
