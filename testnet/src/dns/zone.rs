//! One signed zone, and what it says about a name: the data, an alias, or proof that there is none.

use std::collections::BTreeMap;

use hickory_proto::dnssec::Nsec3HashAlgorithm;
use hickory_proto::rr::{Label, Name, RData, Record, RecordType};

use super::error::TreeError;
use super::tree::Denial;

/// What a correct validator thinks of something, known because we made it so. The order is that of badness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Signed, with an unbroken chain from the anchor.
    Secure,
    /// Proven to be outside any chain.
    Insecure,
    /// Ought to be signed and does not hold, or can't be checked.
    Bogus,
}

/// A record set with its signature, if it has one, and what that is worth within its zone.
#[derive(Debug, Clone)]
pub(super) struct Signed {
    pub(super) records: Vec<Record>,
    pub(super) rrsig: Option<Record>,
    pub(super) verdict: Verdict,
}

/// What is at one name. Without sets it is an empty non-terminal: a name that exists only above others.
pub(super) type Sets = BTreeMap<RecordType, Signed>;

/// A SHA-1 hash of a name, as NSEC3 orders them.
pub(super) type Hash = Vec<u8>;

/// A zone ready to be served.
#[derive(Debug, Clone)]
pub(super) struct Zone {
    pub(super) apex: Name,
    /// What a validator with our anchor makes of the zone as a whole.
    pub(super) trust: Verdict,
    /// `None`: not signed, so it proves nothing.
    pub(super) denial: Option<Denial>,
    pub(super) names: BTreeMap<Name, Sets>,
    /// The NSEC3 records by hash; NSEC records are in `names`.
    pub(super) hashed: BTreeMap<Hash, Signed>,
}

/// What a zone says about a question.
#[derive(Debug)]
pub(super) enum Finding<'a> {
    /// The data.
    Data(&'a Signed),
    /// Another name to ask for.
    Alias(&'a Signed, Name),
    /// The name exists, the type doesn't. First the SOA, then the proof.
    NoData(Vec<&'a Signed>),
    /// The name doesn't exist. First the SOA, then the proof.
    NoName(Vec<&'a Signed>),
}

impl Zone {
    /// Answers a question about a name in this zone.
    pub(super) fn find(&self, name: &Name, rtype: RecordType) -> Finding<'_> {
        let Some(sets) = self.names.get(name) else { return Finding::NoName(self.deny_name(name)) };
        if let Some(set) = sets.get(&rtype) {
            return Finding::Data(set);
        }
        if let Some(set) = sets.get(&RecordType::CNAME)
            && let Some(RData::CNAME(target)) = set.records.first().map(|record| &record.data)
        {
            return Finding::Alias(set, target.0.clone());
        }
        Finding::NoData(self.deny_type(name))
    }

    fn soa(&self) -> impl Iterator<Item = &Signed> {
        self.names.get(&self.apex).and_then(|sets| sets.get(&RecordType::SOA)).into_iter()
    }

    /// The SOA and the record that says which types are at a name.
    pub(super) fn deny_type(&self, name: &Name) -> Vec<&Signed> {
        let proof = match self.denial {
            None => None,
            // For an empty non-terminal this is the record before it, whose next name is below it.
            Some(Denial::Nsec) => self.nsec_at_or_before(name),
            Some(Denial::Nsec3) => hash(name).ok().and_then(|hash| self.hashed.get(&hash)),
        };
        self.soa().chain(proof).collect()
    }

    /// The proof that a name below this one does not exist: true, and no proof about this one.
    pub(super) fn deny_below(&self, name: &Name) -> Vec<&Signed> {
        // A name too long for one more label is not in any topology; denying it itself is as false.
        self.deny_name(&name.prepend_label("nobody").unwrap_or_else(|_| name.clone()))
    }

    /// The SOA and the proof that a name does not exist.
    fn deny_name(&self, name: &Name) -> Vec<&Signed> {
        // The apex always exists, so the walk ends.
        let mut next_closer = name.clone();
        let mut encloser = name.base_name();
        while !self.names.contains_key(&encloser) && !encloser.is_root() {
            next_closer = encloser;
            encloser = next_closer.base_name();
        }
        let wildcard = wildcard_of(&encloser);
        let proof: Vec<&Signed> = match self.denial {
            None => Vec::new(),
            Some(Denial::Nsec) => [self.nsec_at_or_before(name), self.nsec_at_or_before(&wildcard)]
                .into_iter()
                .flatten()
                .collect(),
            Some(Denial::Nsec3) => {
                let matching = hash(&encloser).ok().and_then(|hash| self.hashed.get(&hash));
                [matching, self.nsec3_covering(&next_closer), self.nsec3_covering(&wildcard)]
                    .into_iter()
                    .flatten()
                    .collect()
            }
        };
        let mut all: Vec<&Signed> = self.soa().collect();
        for set in proof {
            // The same record often proves two things; it is sent once.
            if !all.iter().any(|there| std::ptr::eq(*there, set)) {
                all.push(set);
            }
        }
        all
    }

    fn nsec_at_or_before(&self, name: &Name) -> Option<&Signed> {
        self.names.range(..=name.clone()).rev().find_map(|(_, sets)| sets.get(&RecordType::NSEC))
    }

    fn nsec3_covering(&self, name: &Name) -> Option<&Signed> {
        let hash = hash(name).ok()?;
        self.hashed.range(..hash).next_back().or_else(|| self.hashed.iter().next_back()).map(|(_, set)| set)
    }
}

/// The wildcard directly below a name; a name too long to have one can't be the source of a synthesised answer.
fn wildcard_of(encloser: &Name) -> Name {
    encloser.prepend_label(Label::wildcard()).unwrap_or_else(|_| encloser.clone())
}

/// The NSEC3 hash of a name: no salt, no extra iterations (RFC 9276).
pub(super) fn hash(name: &Name) -> Result<Hash, TreeError> {
    Nsec3HashAlgorithm::SHA1
        .hash(&[], name, 0)
        .map(|digest| digest.as_ref().to_vec())
        .map_err(|error| TreeError::Signing { what: format!("hash of {name}"), why: error.to_string() })
}

/// The first label of an NSEC3 owner name: base32 with the extended hex alphabet (RFC 4648 section 7), lower case.
pub(super) fn base32hex(octets: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
    let mut text = String::with_capacity(octets.len().div_ceil(5) * 8);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for octet in octets {
        bits = (bits << 8) | u32::from(*octet);
        held += 8;
        while held >= 5 {
            held -= 5;
            text.push(char::from(ALPHABET[((bits >> held) & 31) as usize]));
        }
        bits &= (1 << held) - 1;
    }
    if held > 0 {
        text.push(char::from(ALPHABET[((bits << (5 - held)) & 31) as usize]));
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::dns::tree::parse_name;

    #[test]
    fn base32hex_of_the_test_vectors_of_rfc_4648() {
        for (plain, text) in [
            ("", ""),
            ("f", "co"),
            ("fo", "cpng"),
            ("foo", "cpnmu"),
            ("foob", "cpnmuog"),
            ("fooba", "cpnmuoj1"),
        ] {
            assert_eq!(base32hex(plain.as_bytes()), text);
        }
    }

    #[test]
    fn wildcards_stand_below_their_encloser() {
        assert_eq!(wildcard_of(&Name::root()).to_ascii(), "*.");
        assert_eq!(wildcard_of(&parse_name("a.nl").unwrap()).to_ascii(), "*.a.nl.");
    }
}
