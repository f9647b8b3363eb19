//! Which hosts are this machine, which addresses are private, and which are on the public internet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::Host;

/// Names of this machine other than `localhost`, as found in hosts files.
const NAMES_OF_LOOPBACK: [&str; 7] = [
    "localhost.localdomain",
    "localhost4",
    "localhost4.localdomain4",
    "localhost6",
    "localhost6.localdomain6",
    "ip6-localhost",
    "ip6-loopback",
];

/// Whether a host is this machine in any spelling, which no proxy could reach.
pub(super) fn is_this_machine(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            name == "localhost" || name.ends_with(".localhost") || NAMES_OF_LOOPBACK.contains(&name)
        }
        Host::Ipv4(address) => address.is_loopback() || address.is_unspecified(),
        Host::Ipv6(address) => match address.to_ipv4_mapped() {
            Some(v4) => v4.is_loopback() || v4.is_unspecified(),
            None => address.is_loopback() || address.is_unspecified(),
        },
    }
}

/// Whether a host is an IP address outside the public internet. `url` has already normalised decimal, octal,
/// hexadecimal and shortened spellings.
pub(super) fn is_private(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(_) => is_this_machine(host),
        Host::Ipv4(address) => is_private_v4(*address),
        Host::Ipv6(address) => is_private_v6(*address),
    }
}

/// The [IANA registry](https://www.iana.org/assignments/iana-ipv4-special-registry), except the documentation ranges.
fn is_private_v4(address: Ipv4Addr) -> bool {
    match address.octets() {
        // This network, private networks, loopback.
        [0 | 10 | 127, ..] | [192, 168, ..] | [172, 16..=31, ..] => true,
        // Link-local, with the metadata services of clouds; carrier-grade NAT; IETF protocol assignments.
        [169, 254, ..] | [100, 64..=127, ..] | [192, 0, 0, _] => true,
        // Benchmarks; multicast; reserved, broadcast.
        [198, 18 | 19, ..] | [224..=255, ..] => true,
        _ => false,
    }
}

/// The [IANA registry](https://www.iana.org/assignments/iana-ipv6-special-registry), and embedded IPv4 addresses.
fn is_private_v6(address: Ipv6Addr) -> bool {
    let v4 = |high: u16, low: u16| is_private_v4(((u32::from(high) << 16) | u32::from(low)).into());
    match address.segments() {
        // Unspecified, loopback and IPv4-compatible addresses; IPv4-mapped; IPv4-translated.
        [0, 0, 0, 0, 0, 0, high, low] | [0, 0, 0, 0, 0, 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => {
            v4(high, low)
        }
        // NAT64: the well-known prefix, and the local-use prefix.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x64, 0xff9b, 1, ..] => true,
        // 6to4; Teredo, in which the client's address is inverted.
        [0x2002, high, low, ..] => v4(high, low),
        [0x2001, 0, _, _, _, _, high, low] => v4(!high, !low),
        // Unique local, link-local, site-local, multicast.
        [0xfc00..=0xfdff, ..] | [0xfe80..=0xfeff, ..] | [0xff00..=0xffff, ..] => true,
        _ => false,
    }
}

/// Whether an address is on the public internet: not private, and not reserved for documentation, for a translation, or
/// for a later use.
pub(super) fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_global_v4(v4),
        IpAddr::V6(v6) => is_global_v6(v6),
    }
}

fn is_global_v4(address: Ipv4Addr) -> bool {
    match address.octets() {
        // Documentation; 6to4 relays.
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] | [192, 88, 99, _] => false,
        _ => !is_private(&Host::Ipv4(address)),
    }
}

/// Of IPv6 only `2000::/3` is global unicast, and not all of it.
fn is_global_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        // IPv4-mapped, and NAT64 with the well-known prefix, which DNS64 answers with.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            is_global_v4(((u32::from(high) << 16) | u32::from(low)).into())
        }
        // IETF protocol assignments with Teredo and benchmarks; documentation; 6to4; documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..=0xfff, ..] => false,
        [0x2000..=0x3fff, ..] => !is_private(&Host::Ipv6(address)),
        _ => false,
    }
}
