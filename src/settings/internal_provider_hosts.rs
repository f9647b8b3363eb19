//! The setting `internal_provider_hosts`: hosts of the own network that a registered provider may have.

use std::sync::Arc;

use url::{Host, Url};

use super::insecure_http_hosts::host;

/// The hosts in the setting `internal_provider_hosts`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InternalProviderHosts(Arc<[Host<String>]>);

impl InternalProviderHosts {
    /// Parses names and addresses, each of one host.
    pub(crate) fn new(texts: &[String]) -> InternalProviderHosts {
        InternalProviderHosts(texts.iter().filter_map(|text| host(text)).collect())
    }

    /// Whether the host of a URL is listed, whatever its port.
    pub(crate) fn has(&self, url: &Url) -> bool {
        url.host().is_some_and(|host| self.0.contains(&host.to_owned()))
    }

    /// Whether a host name is listed.
    pub(crate) fn has_name(&self, name: &str) -> bool {
        let mut names = self.0.iter();
        names.any(|host| matches!(host, Host::Domain(listed) if listed.eq_ignore_ascii_case(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_listed_by_its_exact_name() {
        let hosts = ["Sso.corp", "10.1.2.3", "fd00::1", "b\u{fc}cher.corp"];
        let hosts = InternalProviderHosts::new(&hosts.map(str::to_owned));
        for (url, expected) in [
            ("https://sso.corp/a", true),
            ("https://SSO.corp:8443", true),
            ("https://10.1.2.3", true),
            ("https://10.1.515", true),
            ("https://[fd00:0::1]", true),
            ("https://xn--bcher-kva.corp", true),
            ("https://sso.corp.", false),
            ("https://a.sso.corp", false),
            ("https://sso.corp.evil.example", false),
            ("https://sso.corp@evil.example", false),
            ("https://[::ffff:10.1.2.3]", false),
            ("https://10.1.2.4", false),
        ] {
            assert_eq!(hosts.has(&Url::parse(url).unwrap()), expected, "{url}");
        }
        for (name, expected) in [
            ("sso.corp", true),
            ("SSO.CORP", true),
            ("sso.corp.", false),
            ("10.1.2.3", false),
            ("xn--bcher-kva.corp", true),
        ] {
            assert_eq!(hosts.has_name(name), expected, "{name}");
        }
    }
}
