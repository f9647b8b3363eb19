//! Client addresses, as reported by trusted proxies.

use std::net::IpAddr;

use super::{declaration::refined, value::Text};

/// The proxies in the setting `trusted_proxies`, whose report of a client's address is trusted, or in
/// `client_certificate.proxies`, whose report of a client's certificate is.
#[derive(Clone, Debug, Default)]
pub(crate) struct TrustedProxies(Vec<Network>);

/// An address, or a range of addresses with a common prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    prefix: u32,
}

impl TrustedProxies {
    /// Parses addresses and CIDR prefixes.
    pub(crate) fn new(texts: &[String]) -> TrustedProxies {
        TrustedProxies(texts.iter().filter_map(|text| Network::parse(text)).collect())
    }

    /// Whether the peer of a connection is one of them.
    pub(crate) fn has(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.0.iter().any(|network| network.has(peer))
    }

    /// The address of one of them.
    #[cfg(feature = "testing")]
    pub(crate) fn any(&self) -> Option<IpAddr> {
        self.0.first().map(|network| network.address)
    }

    /// Whether no proxy is trusted.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The address of a client: the socket's peer, or what a trusted proxy reports.
    pub(crate) fn address(&self, peer: Option<IpAddr>, reported: Option<IpAddr>) -> Option<IpAddr> {
        let peer = peer.map(|peer| peer.to_canonical());
        if peer.is_some_and(|peer| self.has(peer)) {
            reported.map(|reported| reported.to_canonical()).or(peer)
        } else {
            peer
        }
    }

    /// The client for rate limits: its address. An IPv6 address is truncated to its first half, which one customer of a
    /// network has.
    pub(crate) fn client(&self, peer: Option<IpAddr>, reported: Option<IpAddr>) -> Option<IpAddr> {
        let client = self.address(peer, reported);
        client.map(|client| Network::new(client, 64).map_or(client, |network| network.address))
    }
}

refined! {
    /// An address or a CIDR prefix.
    ProxyAddress: Text,
        |text| Network::parse(text).is_some(),
        format!("{text:?} is neither an address nor a prefix"),
        "list addresses or CIDR prefixes, such as `10.0.0.0/8` or `::1`";
}

impl Network {
    fn parse(text: &str) -> Option<Network> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let prefix = match prefix {
            Some(prefix) => prefix.parse().ok()?,
            None => bits(address),
        };
        Network::new(address, prefix)
    }

    /// `None` if the prefix is longer than the address.
    fn new(address: IpAddr, prefix: u32) -> Option<Network> {
        let dropped = bits(address).checked_sub(prefix)?;
        let address = match address {
            IpAddr::V4(v4) => {
                let kept = u32::MAX.checked_shl(dropped).unwrap_or(0);
                IpAddr::V4((v4.to_bits() & kept).into())
            }
            IpAddr::V6(v6) => {
                let kept = u128::MAX.checked_shl(dropped).unwrap_or(0);
                IpAddr::V6((v6.to_bits() & kept).into())
            }
        };
        Some(Network { address, prefix })
    }

    fn has(self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && Network::new(address, self.prefix) == Some(self)
    }
}

fn bits(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(texts: &[&str]) -> TrustedProxies {
        let texts: Vec<String> = texts.iter().map(|text| text.to_string()).collect();
        TrustedProxies::new(&texts)
    }

    fn client(proxies: &TrustedProxies, peer: &str, reported: &str) -> String {
        let client = proxies.client(peer.parse().ok(), reported.parse().ok());
        client.map_or("none".to_owned(), |client| client.to_string())
    }

    #[test]
    fn only_a_trusted_proxy_reports_an_address() {
        let all = ["10.0.0.0/8", "127.0.0.1", "::1", "fd00::/16"];
        for (trusted, peer, reported, expected) in [
            (&all[..0], "127.0.0.1", "192.0.2.1", "127.0.0.1"),
            (&all, "127.0.0.1", "192.0.2.1", "192.0.2.1"),
            (&all, "127.0.0.1", "", "127.0.0.1"),
            (&all, "127.0.0.2", "192.0.2.1", "127.0.0.2"),
            (&all, "10.255.3.4", "192.0.2.1", "192.0.2.1"),
            (&all, "11.0.0.1", "192.0.2.1", "11.0.0.1"),
            (&all, "::ffff:10.0.0.1", "192.0.2.1", "192.0.2.1"),
            (&all, "::1", "::ffff:192.0.2.1", "192.0.2.1"),
            (&all, "fd00:1::1", "192.0.2.1", "192.0.2.1"),
            (&all, "fd01::1", "192.0.2.1", "fd01::"),
            (&all, "", "192.0.2.1", "none"),
        ] {
            let found = client(&proxies(trusted), peer, reported);
            assert_eq!(found, expected, "{peer} {reported}");
        }
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_client() {
        let none = proxies(&[]);
        let found = client(&none, "2001:db8:1:2:3:4:5:6", "");
        assert_eq!(found, "2001:db8:1:2::");
        assert_eq!(found, client(&none, "2001:db8:1:2::1", ""));
        assert_ne!(found, client(&none, "2001:db8:1:3::1", ""));
    }

    #[test]
    fn what_is_neither_address_nor_prefix_is_refused() {
        for text in [
            "",
            "proxy",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "10/8",
            "10.0.0.1:80",
            "1.2.3.4/-1",
        ] {
            assert_eq!(Network::parse(text), None, "{text}");
        }
    }
}
