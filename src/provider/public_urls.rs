//! Which URLs may be called for a provider that is registered at run time.

use std::net::IpAddr;

use url::{Host, Url};

use super::{
    Endpoint, ProviderError,
    addresses::{is_global, is_this_machine},
};
use crate::{
    printable::excerpt,
    settings::{InternalProviderHosts, Registration, is_loopback},
};

/// The environment variables with a proxy for https.
const PROXY_VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// The URLs that may be called for a provider that is registered at run time: https, and no literal address that
/// is not public, unless the host is one of `internal_provider_hosts`.
///
/// Host names are checked when they are resolved, see [`PublicResolver`](super::public_resolver::PublicResolver).
#[derive(Clone, Debug)]
pub(super) struct PublicUrls {
    internal_hosts: InternalProviderHosts,
    /// Whether the internal hosts may be called.
    is_inside: bool,
    /// The names of the proxies, which the resolver accepts at any address.
    proxies: ProxyNames,
}

impl PublicUrls {
    pub(super) fn new(internal_hosts: InternalProviderHosts, proxies: ProxyNames) -> PublicUrls {
        PublicUrls {
            internal_hosts,
            is_inside: true,
            proxies,
        }
    }

    /// The URLs that this registration and its metadata may name. Internal hosts are among them only if the issuer is
    /// at one: no other issuer can have requests sent there.
    ///
    /// # Errors
    ///
    /// When the issuer is none of them, or the registration names endpoints or metadata elsewhere.
    pub(super) fn of_registration(&self, registration: &Registration) -> Result<PublicUrls, ProviderError> {
        let issuer = &registration.issuer;
        let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#' | '\\' | '@');
        let url = Url::parse(issuer).ok().filter(|url| {
            issuer.starts_with(&format!("{}://", url.scheme()))
                && !issuer.contains(odd)
                && registration.is_discovered_at_issuer()
                && registration.introspection_endpoint.is_none()
        });
        let Some(url) = url else {
            return Err(not_public(Endpoint::Metadata, issuer));
        };
        self.check(Endpoint::Metadata, &url)?;
        Ok(PublicUrls {
            is_inside: self.internal_hosts.has(&url),
            ..self.clone()
        })
    }

    /// Checks a URL, whoever calls it: the browser is not sent to a private address either.
    pub(super) fn check(&self, endpoint: Endpoint, url: &Url) -> Result<(), ProviderError> {
        if self.has(url) {
            Ok(())
        } else {
            Err(not_public(endpoint, url.as_str()))
        }
    }

    fn has(&self, url: &Url) -> bool {
        let Some(host) = url.host() else { return false };
        // They would be sent as `Authorization`, and hide the host in a log line.
        if !url.username().is_empty() || url.password().is_some() {
            return false;
        }
        let is_internal = self.internal_hosts.has(url);
        match url.scheme() {
            // The resolver knows no issuer, and accepts an internal host of any.
            "https" if is_internal => self.is_inside,
            "https" => self.is_public(&host),
            "http" => is_internal && self.is_inside && is_loopback(url),
            _ => false,
        }
    }

    fn is_public(&self, host: &Host<&str>) -> bool {
        match host {
            Host::Domain(name) => !is_this_machine(host) && !self.proxies.has(name),
            Host::Ipv4(address) => is_global(IpAddr::V4(*address)),
            Host::Ipv6(address) => is_global(IpAddr::V6(*address)),
        }
    }
}

fn not_public(endpoint: Endpoint, url: &str) -> ProviderError {
    ProviderError::NotPublic {
        endpoint,
        url: excerpt(url),
    }
}

/// The host names of the environment's proxies. A connection to a proxy asks the resolver too.
#[derive(Clone, Debug, Default)]
pub(super) struct ProxyNames(Vec<String>);

impl ProxyNames {
    /// Reads the variables of a proxy for https.
    pub(super) fn of(variable: impl Fn(&str) -> Option<String>) -> ProxyNames {
        let hosts = PROXY_VARIABLES.into_iter().filter_map(|name| {
            let text = variable(name)?;
            let url = if text.contains("://") {
                Url::parse(&text)
            } else {
                Url::parse(&format!("http://{text}"))
            };
            Some(url.ok()?.host_str()?.to_ascii_lowercase())
        });
        ProxyNames(hosts.collect())
    }

    pub(super) fn of_environment() -> ProxyNames {
        ProxyNames::of(|name| std::env::var(name).ok())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|proxy| proxy.eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
mod tests;
