//! Which addresses a peer may have (DISC-015, attack class T35).
//!
//! Discovery data is written by strangers. An address in it that means something inside our own network would let a
//! stranger aim the node at it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which addresses peers may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressRule {
    /// Globally reachable ones. The default.
    PublicOnly,
    /// Also loopback, private and documentation ones. A lab setting: weakens the node, is written into every decision
    /// record, and is refused together with the real root's trust anchors.
    LabToo,
}

impl AddressRule {
    /// Why a connection to `address` is not made, if it is not.
    #[must_use]
    pub fn forbids(self, address: IpAddr) -> Option<&'static str> {
        let never = match address {
            IpAddr::V4(v4) => never_v4(v4),
            IpAddr::V6(v6) => never_v6(v6),
        };
        match self {
            Self::LabToo => never,
            Self::PublicOnly => never.or_else(|| match address {
                IpAddr::V4(v4) => special_v4(v4),
                IpAddr::V6(v6) => special_v6(v6),
            }),
        }
    }
}

/// No host has these, not even in a lab.
fn never_v4(address: Ipv4Addr) -> Option<&'static str> {
    if address.octets()[0] == 0 {
        Some("unspecified")
    } else if address.is_multicast() {
        Some("multicast")
    } else if address.is_broadcast() {
        Some("broadcast")
    } else {
        None
    }
}

fn never_v6(address: Ipv6Addr) -> Option<&'static str> {
    let [first, ..] = address.segments();
    if address.is_unspecified() {
        Some("unspecified")
    } else if address.is_multicast() {
        Some("multicast")
    } else if address.to_ipv4_mapped().is_some() || (first == 0 && !address.is_loopback()) {
        // ::ffff:0:0/96 and its relatives: an IPv4 address in disguise.
        Some("mapped IPv4")
    } else {
        None
    }
}

/// RFC 6890 and the IANA registry of special-purpose IPv4 addresses, where not globally reachable.
fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    let [a, b, c, _] = address.octets();
    match (a, b, c) {
        (127, ..) => Some("loopback"),
        (10, ..) | (192, 168, _) => Some("private"),
        (172, b, _) if b & 0xf0 == 16 => Some("private"),
        (100, b, _) if b & 0xc0 == 64 => Some("shared"),
        (169, 254, _) => Some("link-local"),
        (192, 0, 2) | (198, 51, 100) | (203, 0, 113) => Some("documentation"),
        (192, 0, 0) | (192, 88, 99) => Some("reserved"),
        (198, 18 | 19, _) => Some("benchmarking"),
        (240..=255, ..) => Some("reserved"),
        _ => None,
    }
}

/// Only 2000::/3 is allocated for hosts of the Internet; parts of it are special as well.
fn special_v6(address: Ipv6Addr) -> Option<&'static str> {
    let [first, second, ..] = address.segments();
    if address.is_loopback() {
        return Some("loopback");
    }
    match first {
        0xfc00..=0xfdff => Some("unique local"),
        0xfe80..=0xfebf => Some("link-local"),
        0x2001 if second == 0x0db8 => Some("documentation"),
        // 2001::/23: protocol assignments, Teredo among them, which carries an IPv4 address.
        0x2001 if second < 0x0200 => Some("reserved"),
        // 6to4 carries one, too.
        0x2002 => Some("6to4"),
        0x3fff if second < 0x1000 => Some("documentation"),
        0x2000..=0x3fff => None,
        _ => Some("reserved"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PUBLIC: [&str; 9] = [
        "1.1.1.1",
        "9.9.9.9",
        "100.63.0.1",
        "100.128.0.1",
        "172.15.0.1",
        "172.32.0.1",
        "198.20.0.1",
        "2a01:4f8::1",
        "2001:678::1",
    ];
    const LAB: [&str; 22] = [
        "127.0.0.1",
        "127.8.1.2",
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "192.0.0.8",
        "192.0.2.1",
        "198.51.100.1",
        "203.0.113.1",
        "198.18.0.1",
        "240.0.0.1",
        "::1",
        "fe80::1",
        "fd00::1",
        "2001:db8::1",
        "2001:0:1::1",
        "2002:7f00:1::",
        "3fff::1",
        "64:ff9b::7f00:1",
    ];
    const NEVER: [&str; 9] = [
        "0.0.0.0",
        "0.1.2.3",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "::7f00:1",
        "ff02::1",
    ];

    fn forbidden(rule: AddressRule, text: &str) -> bool {
        rule.forbids(text.parse().unwrap()).is_some()
    }

    /// Proves: +DISC-015 -DISC-015
    #[test]
    fn t35_only_globally_reachable_addresses_unless_in_the_lab() {
        for text in PUBLIC {
            assert!(!forbidden(AddressRule::PublicOnly, text), "{text}");
            assert!(!forbidden(AddressRule::LabToo, text), "{text}");
        }
        for text in LAB {
            assert!(forbidden(AddressRule::PublicOnly, text), "{text}");
            assert!(!forbidden(AddressRule::LabToo, text), "{text}");
        }
        for text in NEVER {
            assert!(forbidden(AddressRule::PublicOnly, text), "{text}");
            assert!(forbidden(AddressRule::LabToo, text), "{text}");
        }
    }
}
