//! Which URLs of the provider may be called. Host names are checked as written, without DNS resolution.

use url::Url;

use super::{Endpoint, ProviderError, addresses::is_private, public_urls::PublicUrls};
use crate::settings::{InsecureHttpHosts, MetadataSource, Registration, is_loopback};

/// The URLs that one provider's metadata may name.
///
/// The operator is trusted: the settings may name any host. The metadata is not: it may name https URLs only, and no
/// IP address of this machine or of a private network, unless the settings name that host. A provider that somebody
/// registered at run time has [`PublicUrls`] alone.
#[derive(Clone, Debug)]
pub(crate) struct AddressPolicy {
    issuer_is_https: bool,
    /// The issuer, and the URL of its metadata.
    set: Vec<Url>,
    insecure_http_hosts: InsecureHttpHosts,
    /// For a registration that is not the operator's.
    public: Option<PublicUrls>,
}

impl AddressPolicy {
    /// The policy for a registration; with `public`, for one that is not the operator's.
    ///
    /// # Errors
    ///
    /// When such a registration names a URL that may not be called.
    pub(super) fn new(
        registration: &Registration,
        insecure_http_hosts: InsecureHttpHosts,
        public: Option<&PublicUrls>,
    ) -> Result<AddressPolicy, ProviderError> {
        let mut policy = AddressPolicy::of_issuer(&registration.issuer);
        if let MetadataSource::Discovery { url } = &registration.metadata {
            policy.set.push(url.clone());
        }
        Ok(AddressPolicy {
            insecure_http_hosts,
            public: public.map(|urls| urls.of_registration(registration)).transpose()?,
            ..policy
        })
    }

    /// The policy for metadata of this issuer at its well-known URL.
    pub(super) fn of_issuer(issuer: &str) -> AddressPolicy {
        let issuer = Url::parse(issuer).ok();
        AddressPolicy {
            issuer_is_https: issuer.as_ref().is_some_and(|url| url.scheme() == "https"),
            set: issuer.into_iter().collect(),
            insecure_http_hosts: InsecureHttpHosts::default(),
            public: None,
        }
    }

    /// Checks a URL of the settings.
    pub(super) fn check_set(&self, endpoint: Endpoint, url: &Url) -> Result<(), ProviderError> {
        if let Some(public) = &self.public {
            return public.check(endpoint, url);
        }
        if may_be_called(url, &self.insecure_http_hosts) {
            Ok(())
        } else {
            Err(ProviderError::NotHttps {
                endpoint,
                url: url.to_string(),
            })
        }
    }

    /// Checks a URL of the provider's metadata.
    pub(super) fn check_fetched(&self, endpoint: Endpoint, url: &Url) -> Result<(), ProviderError> {
        if let Some(public) = &self.public {
            return public.check(endpoint, url);
        }
        let Some(host) = url.host().filter(|_| matches!(url.scheme(), "http" | "https")) else {
            return self.check_set(endpoint, url);
        };
        if self.insecure_http_hosts.has(url) || self.is_set(url) {
            return Ok(());
        }
        let shown = url.to_string();
        match url.scheme() {
            "http" if self.issuer_is_https => Err(ProviderError::PlainHttp { endpoint, url: shown }),
            "http" if !is_loopback(url) => Err(ProviderError::NotHttps { endpoint, url: shown }),
            _ if is_private(&host) => Err(ProviderError::PrivateAddress { endpoint, url: shown }),
            _ => Ok(()),
        }
    }

    /// Whether the settings name this host, with plain http if `url` is plain http. All loopback names count as one
    /// host.
    fn is_set(&self, url: &Url) -> bool {
        self.set.iter().any(|set| {
            let is_same_host = set.host() == url.host() || (is_loopback(set) && is_loopback(url));
            is_same_host && (url.scheme() == "https" || set.scheme() == "http")
        })
    }
}

/// Whether a secret may be sent to this URL: https, loopback, or a host of the setting `insecure_http_hosts`.
pub(crate) fn may_be_called(url: &Url, insecure_http_hosts: &InsecureHttpHosts) -> bool {
    match url.scheme() {
        "https" => url.has_host(),
        "http" => is_loopback(url) || insecure_http_hosts.has(url),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Reach;

    fn policy(issuer: &str, metadata: Option<&str>, insecure: &[&str]) -> AddressPolicy {
        let insecure: Vec<String> = insecure.iter().map(|host| host.to_string()).collect();
        let registration = Registration {
            reach: Reach::Operator,
            issuer: issuer.to_owned(),
            tenants: None,
            client_id: "app".to_owned(),
            client_secret: None,
            client_key: None,
            client_identity: None,
            secret_issuer: None,
            metadata: MetadataSource::Discovery {
                url: Url::parse(metadata.unwrap_or(issuer)).unwrap(),
            },
            introspection_endpoint: None,
        };
        AddressPolicy::new(&registration, InsecureHttpHosts::new(&insecure), None).unwrap()
    }

    fn fetched(policy: &AddressPolicy, url: &str) -> &'static str {
        match policy.check_fetched(Endpoint::Token, &Url::parse(url).unwrap()) {
            Ok(()) => "called",
            Err(ProviderError::PlainHttp { .. }) => "plain http",
            Err(ProviderError::NotHttps { .. }) => "not https",
            Err(ProviderError::PrivateAddress { .. }) => "private",
            Err(error) => panic!("{url}: {error}"),
        }
    }

    #[test]
    fn an_https_issuer_has_https_endpoints() {
        let policy = policy("https://op.example/realm", None, &["keycloak"]);
        for (url, expected) in [
            ("https://op.example/token", "called"),
            ("https://tokens.example/token", "called"),
            ("https://op.example:8443/token", "called"),
            ("http://op.example/token", "plain http"),
            ("http://op.example:443/token", "plain http"),
            ("http://tokens.example/token", "plain http"),
            ("http://127.0.0.1/token", "plain http"),
            ("http://localhost:8080/token", "plain http"),
            ("http://[::1]/token", "plain http"),
            ("http://169.254.169.254/latest/meta-data", "plain http"),
            ("http://keycloak:8080/token", "called"),
            ("https://keycloak/token", "called"),
            ("http://keycloak.op.example/token", "plain http"),
            ("ftp://op.example/token", "not https"),
            ("ftp://keycloak/token", "not https"),
            ("file:///etc/passwd", "not https"),
            ("data:text/plain,x", "not https"),
        ] {
            assert_eq!(fetched(&policy, url), expected, "{url}");
        }
    }

    #[test]
    fn literal_addresses_of_private_networks_are_refused() {
        let policy = policy("https://op.example", None, &[]);
        for host in [
            "127.0.0.1",
            "127.1",
            "127.0.0.1.",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "017700000001",
            "0x7f.1",
            "127%2e0%2e0%2e1",
            "１２７.0.0.1",
            "127。0。0。1",
            "0.0.0.0",
            "0",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "3232235777",
            "169.254.169.254",
            "0xa9fea9fe",
            "0251.0376.0251.0376",
            "100.64.0.1",
            "100.100.100.200",
            "192.0.0.192",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "[::1]",
            "[::]",
            "[0:0:0:0:0:0:0:1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:a9fe:a9fe]",
            "[::ffff:0:10.0.0.1]",
            "[::127.0.0.1]",
            "[::10.0.0.1]",
            "[64:ff9b::169.254.169.254]",
            "[64:ff9b:1::1]",
            "[2002:7f00:1::]",
            "[2002:c0a8:101::1]",
            "[2001:0:1:2:3:4:80ff:fffe]",
            "[fc00::1]",
            "[fd00:ec2::254]",
            "[fe80::1]",
            "[febf::1]",
            "[fec0::1]",
            "[ff02::1]",
            "localhost",
            "LOCALHOST",
            "localhost.",
            "a.b.localhost",
            "a.localhost.",
            "localhost.localdomain",
            "ip6-localhost",
        ] {
            assert_eq!(fetched(&policy, &format!("https://{host}:8443/x")), "private", "{host}");
        }
        for host in [
            "126.255.255.255",
            "128.0.0.1",
            "11.0.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.167.0.1",
            "169.253.0.1",
            "100.63.0.1",
            "100.128.0.1",
            "8.8.8.8",
            "[2606:4700::1111]",
            "[::ffff:8.8.8.8]",
            "[64:ff9b::8.8.8.8]",
            "[2002:808:808::1]",
            "localhost.example",
            "notlocalhost",
            "10.example",
        ] {
            assert_eq!(fetched(&policy, &format!("https://{host}/x")), "called", "{host}");
        }
    }

    /// The settings allow a private address for that host alone.
    #[test]
    fn a_private_address_in_the_settings_is_called() {
        let at_home = policy("https://10.0.0.1:6443", None, &[]);
        let metadata = "https://10.0.0.1:6443/.well-known/openid-configuration";
        let elsewhere = policy("https://kubernetes.default.svc", Some(metadata), &[]);
        for policy in [at_home, elsewhere] {
            for (url, expected) in [
                ("https://10.0.0.1:6443/openid/v1/jwks", "called"),
                ("https://10.0.0.1/jwks", "called"),
                ("http://10.0.0.1:6443/jwks", "plain http"),
                ("https://10.0.0.2:6443/jwks", "private"),
                ("https://127.0.0.1:6443/jwks", "private"),
            ] {
                assert_eq!(fetched(&policy, url), expected, "{url}");
            }
        }
        let listed = policy("https://op.example", None, &["10.0.0.2"]);
        assert_eq!(fetched(&listed, "https://10.0.0.2/jwks"), "called");
        assert_eq!(fetched(&listed, "https://10.0.0.1/jwks"), "private");
    }

    #[test]
    fn issuers_on_loopback_and_in_a_closed_network() {
        let on_loopback = policy("http://127.0.0.1:9400", None, &[]);
        let by_name = policy("https://localhost:8443", None, &[]);
        let in_compose = policy("http://keycloak:8080/realms/a", None, &["keycloak"]);
        // A public issuer whose endpoints are on the internal host of its metadata.
        let behind = policy(
            "https://sso.example",
            Some("http://keycloak:8080/realms/a/.well-known/openid-configuration"),
            &["keycloak"],
        );
        for (policy, url, expected) in [
            (&on_loopback, "http://127.0.0.1:9400/token", "called"),
            (&on_loopback, "http://localhost:9400/token", "called"),
            (&on_loopback, "http://[::1]:9400/token", "called"),
            (&on_loopback, "https://localhost/token", "called"),
            (&on_loopback, "https://op.example/token", "called"),
            (&on_loopback, "http://op.example/token", "not https"),
            (&on_loopback, "http://10.0.0.1/token", "not https"),
            (&on_loopback, "https://10.0.0.1/token", "private"),
            (&by_name, "https://127.0.0.1:8443/token", "called"),
            (&by_name, "http://localhost:8080/token", "plain http"),
            (&in_compose, "http://keycloak:8080/token", "called"),
            (&in_compose, "http://localhost:8080/token", "private"),
            (&in_compose, "http://other:8080/token", "not https"),
            (&in_compose, "https://169.254.169.254/", "private"),
            (&behind, "http://keycloak:8080/realms/a/token", "called"),
            (&behind, "https://sso.example/auth", "called"),
            (&behind, "http://sso.example/auth", "plain http"),
        ] {
            assert_eq!(fetched(policy, url), expected, "{url}");
        }
    }

    #[test]
    fn only_tls_loopback_and_listed_hosts_are_called() {
        let insecure = InsecureHttpHosts::new(&["keycloak".to_owned()]);
        for (url, expected) in [
            ("https://op.example", true),
            ("http://localhost:9400/jwks", true),
            ("http://127.0.0.2", true),
            ("http://[::1]:80", true),
            ("http://keycloak:8080", true),
            ("http://op.example", false),
            ("http://localhost.example", false),
            ("http://10.0.0.1", false),
            ("ftp://localhost", false),
            ("ftp://keycloak", false),
            ("file:///etc/passwd", false),
        ] {
            let url = Url::parse(url).unwrap();
            assert_eq!(may_be_called(&url, &insecure), expected, "{url}");
        }
    }
}
