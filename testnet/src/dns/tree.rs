//! The description of a tree: zones, records, faults. Plain data; nothing is signed here.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, NULL, TXT};
use hickory_proto::rr::{Name, RData, RecordType};
use serde::{Deserialize, Serialize};

use super::error::TreeError;
use super::fault::{Fault, Trouble};

/// Name of a zone that every tree has and whose signatures are all wrong: for resolvers' self-tests.
pub const KNOWN_BOGUS: &str = "dnssec-failed.nl";

/// Time to live of records unless said otherwise, in seconds.
pub const DEFAULT_TTL: u32 = 300;

/// The record types a tree holds. A closed list, so that a typing error in a topology is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RrType {
    /// IPv4 address.
    A,
    /// IPv6 address.
    Aaaa,
    /// Alias.
    Cname,
    /// Keys of a zone.
    Dnskey,
    /// Digest of a child zone's key, in the parent.
    Ds,
    /// Mail exchanger.
    Mx,
    /// Name server.
    Ns,
    /// Start of authority.
    Soa,
    /// DANE association (RFC 6698).
    Tlsa,
    /// Text.
    Txt,
}

impl RrType {
    /// All of them, for tests that ask everything.
    pub const ALL: [Self; 10] = [
        Self::A,
        Self::Aaaa,
        Self::Cname,
        Self::Dnskey,
        Self::Ds,
        Self::Mx,
        Self::Ns,
        Self::Soa,
        Self::Tlsa,
        Self::Txt,
    ];
}

impl From<RrType> for RecordType {
    fn from(rtype: RrType) -> Self {
        match rtype {
            RrType::A => Self::A,
            RrType::Aaaa => Self::AAAA,
            RrType::Cname => Self::CNAME,
            RrType::Dnskey => Self::DNSKEY,
            RrType::Ds => Self::DS,
            RrType::Mx => Self::MX,
            RrType::Ns => Self::NS,
            RrType::Soa => Self::SOA,
            RrType::Tlsa => Self::TLSA,
            RrType::Txt => Self::TXT,
        }
    }
}

impl std::fmt::Display for RrType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        RecordType::from(*self).fmt(f)
    }
}

/// How a zone proves that something does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Denial {
    /// Plain names in order (RFC 4034).
    #[default]
    Nsec,
    /// Hashed names, no salt, no extra iterations, no opt-out (RFC 5155, RFC 9276).
    Nsec3,
}

/// One record set without owner and type.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RrSet {
    pub(super) ttl: u32,
    pub(super) data: Vec<RData>,
}

/// Owner, then type, then data; owners in canonical order (RFC 4034 section 6.1).
pub(super) type Records = BTreeMap<Name, BTreeMap<RecordType, RrSet>>;

/// A tree of zones with its records and its faults.
///
/// Names are absolute, with or without the last dot. A record belongs to the deepest zone that encloses its
/// owner. SOA, NS, DS, DNSKEY and the records of denial are made by the server. The zones `.` (NSEC), `nl` (NSEC3)
/// and [`KNOWN_BOGUS`] are always there.
///
/// Methods can be chained. A mistake (a name that is none) is kept and reported where the tree is served.
#[derive(Debug, Clone)]
pub struct Tree {
    pub(super) zones: BTreeMap<Name, Denial>,
    pub(super) records: Records,
    pub(super) faults: Vec<Fault>,
    ttl: u32,
    first_mistake: Option<TreeError>,
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl Tree {
    /// The tree every other one starts from: `.`, `nl`, and the known-bogus zone.
    pub fn new() -> Self {
        let mut tree = Self {
            zones: BTreeMap::new(),
            records: BTreeMap::new(),
            faults: Vec::new(),
            ttl: DEFAULT_TTL,
            first_mistake: None,
        };
        tree.zone_with(".", Denial::Nsec)
            .zone_with("nl", Denial::Nsec3)
            .zone(KNOWN_BOGUS)
            .address(KNOWN_BOGUS, IpAddr::from([127, 0, 0, 1]))
            .txt(KNOWN_BOGUS, "nobody can read this")
            .fault(Fault::zone(KNOWN_BOGUS, Trouble::WrongSignature));
        tree
    }

    /// Adds a signed zone that denies with NSEC.
    pub fn zone(&mut self, apex: &str) -> &mut Self {
        self.zone_with(apex, Denial::Nsec)
    }

    /// Adds a signed zone, or changes how it denies.
    pub fn zone_with(&mut self, apex: &str, denial: Denial) -> &mut Self {
        if let Some(apex) = self.parse(apex) {
            self.zones.insert(apex, denial);
        }
        self
    }

    /// Time to live of the records added from here on, in seconds. A set has one: that of its last record.
    pub fn ttl(&mut self, seconds: u32) -> &mut Self {
        self.ttl = seconds;
        self
    }

    /// Adds a TXT record of one character-string, or of several if the text has more than 255 octets.
    pub fn txt(&mut self, name: &str, text: &str) -> &mut Self {
        let strings: Vec<&[u8]> =
            if text.is_empty() { vec![b"".as_slice()] } else { text.as_bytes().chunks(255).collect() };
        self.txt_strings(name, &strings)
    }

    /// Adds a TXT record of exactly these character-strings.
    pub fn txt_strings(&mut self, name: &str, strings: &[&[u8]]) -> &mut Self {
        if let Some(long) = strings.iter().find(|string| string.len() > 255) {
            self.mistake(TreeError::LongString { name: name.to_owned(), octets: long.len() });
            return self;
        }
        self.add(name, RData::TXT(TXT::from_bytes(strings.to_vec())))
    }

    /// Adds an MX record.
    pub fn mx(&mut self, name: &str, preference: u16, host: &str) -> &mut Self {
        match self.parse(host) {
            Some(host) => self.add(name, RData::MX(MX::new(preference, host))),
            None => self,
        }
    }

    /// Adds an A or AAAA record.
    pub fn address(&mut self, name: &str, address: IpAddr) -> &mut Self {
        match address {
            IpAddr::V4(v4) => self.add(name, RData::A(A(v4))),
            IpAddr::V6(v6) => self.add(name, RData::AAAA(AAAA(v6))),
        }
    }

    /// Adds a TLSA record with exactly this RDATA: usage, selector, matching type, data. It need not be well-formed.
    pub fn tlsa(&mut self, name: &str, rdata: &[u8]) -> &mut Self {
        self.add(name, RData::Unknown { code: RecordType::TLSA, rdata: NULL::with(rdata.to_vec()) })
    }

    /// Makes the name an alias. It can have no other records.
    pub fn cname(&mut self, name: &str, target: &str) -> &mut Self {
        match self.parse(target) {
            Some(target) => self.remove(name, RrType::Cname).add(name, RData::CNAME(CNAME(target))),
            None => self,
        }
    }

    /// Takes a record set away. Nothing happens if there is none.
    pub fn remove(&mut self, name: &str, rtype: RrType) -> &mut Self {
        if let Some(name) = self.parse(name)
            && let Some(sets) = self.records.get_mut(&name)
        {
            sets.remove(&rtype.into());
            if sets.is_empty() {
                self.records.remove(&name);
            }
        }
        self
    }

    /// Replaces a TLSA set: what an operator does in the phases of a key roll-over.
    pub fn replace_tlsa(&mut self, name: &str, set: &[Vec<u8>]) -> &mut Self {
        self.remove(name, RrType::Tlsa);
        for rdata in set {
            self.tlsa(name, rdata);
        }
        self
    }

    /// Adds a fault.
    pub fn fault(&mut self, fault: Fault) -> &mut Self {
        self.faults.push(fault);
        self
    }

    /// Takes away all faults but that of the known-bogus zone.
    pub fn heal(&mut self) -> &mut Self {
        self.faults.retain(|fault| fault.scope == super::fault::Scope::Zone(KNOWN_BOGUS.into()));
        self
    }

    /// The faults.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// Every owner name with its types, as described: for tests that ask for all of them.
    pub fn names(&self) -> impl Iterator<Item = (String, Vec<String>)> + '_ {
        self.records
            .iter()
            .map(|(name, sets)| (name.to_ascii(), sets.keys().map(ToString::to_string).collect()))
    }

    /// The apexes of the zones, the root first.
    pub fn zones(&self) -> impl Iterator<Item = String> + '_ {
        self.zones.keys().map(Name::to_ascii)
    }

    /// The first mistake made while describing the tree.
    pub(super) fn check(&self) -> Result<(), TreeError> {
        self.first_mistake.clone().map_or(Ok(()), Err)
    }

    fn add(&mut self, name: &str, data: RData) -> &mut Self {
        let Some(owner) = self.parse(name) else { return self };
        let ttl = self.ttl;
        let set = self
            .records
            .entry(owner)
            .or_default()
            .entry(data.record_type())
            .or_insert_with(|| RrSet { ttl, data: Vec::new() });
        set.ttl = ttl;
        if !set.data.contains(&data) {
            set.data.push(data);
        }
        self
    }

    fn parse(&mut self, text: &str) -> Option<Name> {
        parse_name(text).map_err(|error| self.mistake(error)).ok()
    }

    fn mistake(&mut self, error: TreeError) {
        if self.first_mistake.is_none() {
            self.first_mistake = Some(error);
        }
    }
}

/// An absolute name in lower case, with or without the last dot.
pub(super) fn parse_name(text: &str) -> Result<Name, TreeError> {
    let wrong = || TreeError::Name(text.to_owned());
    if text.is_empty() || text.contains("..") {
        return Err(wrong());
    }
    let mut name = Name::from_ascii(text).map_err(|_| wrong())?.to_lowercase();
    name.set_fqdn(true);
    Ok(name)
}
