//! Tables of networks and countries in the MMDB format, made here, so that no test needs somebody's table.
//!
//! Written from the format's specification, version 2.0 (<https://maxmind.github.io/MaxMind-DB/>): a binary tree with
//! records of 32 bits, 16 zero octets, the data section, and the metadata behind its marker.

use std::collections::HashMap;
use std::net::IpAddr;

/// What a table says about one network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Entry {
    /// `country.iso_code`.
    pub country: Option<String>,
    /// `registered_country.iso_code`.
    pub registered: Option<String>,
}

impl Entry {
    /// A network in this country.
    #[must_use]
    pub fn country(code: &str) -> Self {
        Self { country: Some(code.to_owned()), registered: None }
    }

    /// A network that is registered in this country, and of which nobody says where it is.
    #[must_use]
    pub fn registered(code: &str) -> Self {
        Self { country: None, registered: Some(code.to_owned()) }
    }
}

/// One side of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Empty,
    Node(usize),
    Entry(usize),
}

/// Makes one table.
#[derive(Debug)]
pub struct Writer {
    built: u64,
    width: u32,
    nodes: Vec<[Side; 2]>,
    entries: Vec<Entry>,
    networks: Vec<(u128, u32, usize)>,
}

impl Writer {
    /// A table of IPv4 and IPv6 networks that was built at this time, in seconds since 1970.
    #[must_use]
    pub fn new(built: u64) -> Self {
        Self { built, width: 128, nodes: Vec::new(), entries: Vec::new(), networks: Vec::new() }
    }

    /// The same for IPv4 only.
    #[must_use]
    pub fn ipv4_only(built: u64) -> Self {
        Self { width: 32, ..Self::new(built) }
    }

    /// Adds a network, as `ADDRESS/PREFIX` or one address. Inside a larger one it counts before that, whichever came first;
    /// the last of two that are the same counts.
    ///
    /// # Panics
    /// The text is no network, or the table is one of IPv4 and the network is not.
    pub fn insert(&mut self, network: &str, entry: Entry) {
        let (address, prefix) = network.split_once('/').unwrap_or((network, ""));
        let address: IpAddr = address.parse().expect("an address");
        let (bits, own_width) = match address {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
            IpAddr::V6(v6) => (v6.to_bits(), 128),
        };
        assert!(own_width <= self.width, "{network} in a table of IPv4");
        let prefix = if prefix.is_empty() { own_width } else { prefix.parse().expect("a prefix") };
        assert!(prefix <= own_width, "{network} has too long a prefix");
        // IPv4 lies at ::/96 of a tree of both.
        let depth = prefix + (self.width - own_width);
        self.entries.push(entry);
        self.networks.push((bits, depth, self.entries.len() - 1));
    }

    /// The file.
    ///
    /// # Panics
    /// The table is larger than its records can point to.
    #[must_use]
    pub fn to_octets(mut self) -> Vec<u8> {
        self.nodes = vec![[Side::Empty; 2]];
        let mut networks = std::mem::take(&mut self.networks);
        // Stable, so that the last of equal ones counts.
        networks.sort_by_key(|(_, depth, _)| *depth);
        for (bits, depth, entry) in networks {
            self.place(bits, depth, entry);
        }
        let (data, offsets) = self.data();
        let count = self.nodes.len();
        let mut out = Vec::new();
        for side in self.nodes.iter().flatten() {
            let value = match side {
                Side::Empty => count,
                Side::Node(at) => *at,
                Side::Entry(at) => count + 16 + offsets[*at],
            };
            out.extend(u32::try_from(value).expect("a small table").to_be_bytes());
        }
        out.extend([0; 16]);
        out.extend(data);
        out.extend(b"\xab\xcd\xefMaxMind.com");
        out.extend(self.metadata());
        out
    }

    /// Puts an entry below the first `depth` bits; what lies there already and is larger is handed down to its halves.
    fn place(&mut self, bits: u128, depth: u32, entry: usize) {
        if depth == 0 {
            self.nodes[0] = [Side::Entry(entry); 2];
            return;
        }
        let mut node = 0;
        for level in 0..depth {
            let side = usize::from(bits >> (self.width - 1 - level) & 1 == 1);
            if level + 1 == depth {
                self.nodes[node][side] = Side::Entry(entry);
                return;
            }
            node = match self.nodes[node][side] {
                Side::Node(next) => next,
                larger => {
                    self.nodes.push([larger; 2]);
                    let next = self.nodes.len() - 1;
                    self.nodes[node][side] = Side::Node(next);
                    next
                }
            };
        }
    }

    /// The data section, and where in it each entry stands; equal ones stand there once.
    fn data(&self) -> (Vec<u8>, Vec<usize>) {
        let (mut data, mut known, mut offsets) = (Vec::new(), HashMap::new(), Vec::new());
        for entry in &self.entries {
            let offset = *known.entry(entry.clone()).or_insert(data.len());
            if offset == data.len() {
                data.extend(record(entry));
            }
            offsets.push(offset);
        }
        (data, offsets)
    }

    fn metadata(&self) -> Vec<u8> {
        let mut out = map(9);
        for (name, value) in [
            ("binary_format_major_version", number(5, 2)),
            ("binary_format_minor_version", number(5, 0)),
            ("build_epoch", number(9, self.built)),
            ("database_type", text("Testnet-Country")),
            ("description", [map(1), text("en"), text("made by a test")].concat()),
            ("ip_version", number(5, if self.width == 128 { 6 } else { 4 })),
            ("languages", [array(1), text("en")].concat()),
            ("node_count", number(6, self.nodes.len() as u64)),
            ("record_size", number(5, 32)),
        ] {
            out.extend(text(name));
            out.extend(value);
        }
        out
    }
}

fn record(entry: &Entry) -> Vec<u8> {
    let sides = [("country", &entry.country), ("registered_country", &entry.registered)];
    let known: Vec<_> = sides.into_iter().filter_map(|(name, code)| Some((name, code.as_ref()?))).collect();
    let mut out = map(known.len());
    for (name, code) in known {
        out.extend([text(name), map(1), text("iso_code"), text(code)].concat());
    }
    out
}

/// A control octet: type and size; types over 7 take a second one. No size here needs more.
fn control(kind: u8, size: usize) -> Vec<u8> {
    let size = u8::try_from(size).ok().filter(|size| *size < 29).expect("a short value");
    if kind <= 7 { vec![kind << 5 | size] } else { vec![size, kind - 7] }
}

fn text(value: &str) -> Vec<u8> {
    [&*control(2, value.len()), value.as_bytes()].concat()
}

fn map(size: usize) -> Vec<u8> {
    control(7, size)
}

fn array(size: usize) -> Vec<u8> {
    control(11, size)
}

/// An unsigned number of type 5 (16 bits), 6 (32) or 9 (64), without leading zero octets.
fn number(kind: u8, value: u64) -> Vec<u8> {
    let octets = value.to_be_bytes();
    let octets = &octets[usize::try_from(value.leading_zeros() / 8).unwrap_or(0)..];
    [&*control(kind, octets.len()), octets].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two octets that the specification shows: a text of two characters, and a map of one pair.
    #[test]
    fn values_are_written_as_the_format_says() {
        assert_eq!(text("en"), [0x42, b'e', b'n']);
        assert_eq!(map(1), [0xe1]);
        assert_eq!(array(1), [0x01, 0x04]);
        assert_eq!(number(5, 0), [0xa0]);
        assert_eq!(number(6, 0x0102), [0xc2, 1, 2]);
        assert_eq!(number(9, 1), [0x01, 0x02, 1]);
    }

    #[test]
    fn a_tree_of_one_bit_has_one_node() {
        let mut writer = Writer::ipv4_only(1);
        writer.insert("128.0.0.0/1", Entry::country("NL"));
        let octets = writer.to_octets();
        // Left: nothing (the count of nodes). Right: the first entry, behind 16 octets.
        assert_eq!(octets[..8], [0, 0, 0, 1, 0, 0, 0, 17]);
        assert_eq!(octets[8..24], [0; 16]);
        assert_eq!(octets[24], 0xe1);
    }
}
