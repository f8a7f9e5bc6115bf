//! Faults at work: checked against the tree, and asked for by scope.

use std::collections::BTreeMap;

use hickory_proto::rr::rdata::{CNAME, NULL};
use hickory_proto::rr::{Name, RData, RecordType};

use super::error::TreeError;
use super::fault::{Fault, Scope, TlsaShape, Trouble};
use super::tree::{DEFAULT_TTL, Denial, Records, RrSet, parse_name};

/// Where a fault may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Signatures: any scope, and it must touch a record set.
    Signature,
    /// The delegation of a zone: zone scope.
    Delegation,
    /// Behaviour of the server: any scope.
    Behaviour,
    /// Other data in place of the good data: name or record scope.
    Data,
}

fn kind(trouble: &Trouble) -> Kind {
    use Trouble as T;
    match trouble {
        T::WrongSignature
        | T::ExpiredSignature
        | T::NotYetValidSignature
        | T::MissingSignature
        | T::ForeignSignature(_) => Kind::Signature,
        T::Unsigned | T::DsMismatch | T::UnknownAlgorithm | T::RootRolled => Kind::Delegation,
        T::Servfail
        | T::Refused
        | T::Notimp
        | T::Silence
        | T::Truncated
        | T::TruncatedEverywhere
        | T::CutShort
        | T::ForgedAd
        | T::DenialMissing
        | T::FalseNodata
        | T::FalseNxdomain
        | T::ParentDenial => Kind::Behaviour,
        T::Alias(_) | T::AliasLoop | T::AliasChain(_) | T::MalformedTlsa(_) | T::HugeTlsa(_) => Kind::Data,
    }
}

#[derive(Debug, Clone)]
enum Place {
    Zone(Name),
    Name(Name),
    Record(Name, RecordType),
}

impl Place {
    fn touches(&self, zone: &Name, name: &Name, rtype: RecordType) -> bool {
        match self {
            Self::Zone(apex) => apex == zone,
            Self::Name(owner) => owner == name && !is_machinery(rtype),
            Self::Record(owner, of) => owner == name && *of == rtype,
        }
    }
}

/// Types that make the zone work, which a fault has to name to touch.
fn is_machinery(rtype: RecordType) -> bool {
    use RecordType as T;
    matches!(rtype, T::SOA | T::NS | T::DS | T::DNSKEY | T::NSEC | T::NSEC3 | T::NSEC3PARAM | T::RRSIG)
}

/// All faults of a tree, with parsed names.
#[derive(Debug, Clone)]
pub(super) struct Troubles(Vec<(Place, Fault)>);

impl Troubles {
    /// Parses and checks what can be checked without signed zones.
    pub(super) fn new(faults: &[Fault], zones: &BTreeMap<Name, Denial>) -> Result<Self, TreeError> {
        let mut troubles = Vec::with_capacity(faults.len());
        for fault in faults {
            let refuse = |why: &str| TreeError::Fault { fault: fault.to_string(), why: why.to_owned() };
            let place = match &fault.scope {
                Scope::Zone(apex) => Place::Zone(parse_name(apex)?),
                Scope::Name(name) => Place::Name(parse_name(name)?),
                Scope::Record(name, rtype) => Place::Record(parse_name(name)?, (*rtype).into()),
            };
            match (&place, kind(&fault.trouble)) {
                (Place::Zone(apex), _) if !zones.contains_key(apex) => return Err(refuse("no such zone")),
                (Place::Zone(_), Kind::Data) => return Err(refuse("it needs a name, not a zone")),
                (Place::Name(_) | Place::Record(..), Kind::Delegation) => {
                    return Err(refuse("it needs a zone"));
                }
                (Place::Zone(apex), Kind::Delegation)
                    if apex.is_root() != (fault.trouble == Trouble::RootRolled) =>
                {
                    return Err(refuse(
                        "the root can be rolled and nothing else; other zones can't be rolled",
                    ));
                }
                _ => {}
            }
            if let Trouble::ForeignSignature(by) = &fault.trouble {
                let (Place::Zone(signed) | Place::Name(signed) | Place::Record(signed, _)) = &place;
                let by = parse_name(by)?;
                if !zones.contains_key(&by) {
                    return Err(refuse("the zone that signs does not exist"));
                }
                if by.zone_of(signed) {
                    return Err(refuse(
                        "a zone above could replace the keys as well; validators differ on this",
                    ));
                }
            }
            troubles.push((place, fault.clone()));
        }
        Ok(Self(troubles))
    }

    /// Every fault that touches a record set or a question.
    fn at<'a>(&'a self, zone: &Name, name: &Name, rtype: RecordType) -> impl Iterator<Item = &'a Trouble> {
        let (zone, name) = (zone.clone(), name.clone());
        let touching = move |(place, _): &&(Place, Fault)| place.touches(&zone, &name, rtype);
        self.0.iter().filter(touching).map(|(_, fault)| &fault.trouble)
    }

    /// The first signature fault that touches a record set.
    pub(super) fn signature(&self, zone: &Name, name: &Name, rtype: RecordType) -> Option<&Trouble> {
        self.at(zone, name, rtype).find(|trouble| kind(trouble) == Kind::Signature)
    }

    /// The faults in the server's behaviour that touch a question.
    pub(super) fn behaviour<'a>(
        &'a self,
        zone: &Name,
        name: &Name,
        rtype: RecordType,
    ) -> impl Iterator<Item = &'a Trouble> {
        self.at(zone, name, rtype).filter(|trouble| kind(trouble) == Kind::Behaviour)
    }

    /// Whether a zone has this trouble as a whole.
    pub(super) fn zone_has(&self, zone: &Name, trouble: &Trouble) -> bool {
        self.0.iter().any(|(place, fault)| {
            matches!(place, Place::Zone(apex) if apex == zone) && fault.trouble == *trouble
        })
    }

    /// Signature faults by name or record that touch nothing in `exists` are mistakes of whoever wrote them.
    pub(super) fn check_signatures(
        &self,
        exists: impl Fn(&Name, Option<RecordType>) -> bool,
    ) -> Result<(), TreeError> {
        for (place, fault) in &self.0 {
            let there = match place {
                _ if kind(&fault.trouble) != Kind::Signature => true,
                Place::Zone(_) => true,
                Place::Name(name) => exists(name, None),
                Place::Record(name, rtype) => exists(name, Some(*rtype)),
            };
            if !there {
                let why = "nothing there is signed".to_owned();
                return Err(TreeError::Fault { fault: fault.to_string(), why });
            }
        }
        Ok(())
    }

    /// The records with all data faults applied, in the order in which they were written.
    pub(super) fn spoil_data(&self, mut records: Records) -> Result<Records, TreeError> {
        for (place, fault) in &self.0 {
            let (Place::Name(name) | Place::Record(name, _)) = place else { continue };
            let refuse = |why: &str| TreeError::Fault { fault: fault.to_string(), why: why.to_owned() };
            match &fault.trouble {
                Trouble::Alias(target) => alias(&mut records, name, parse_name(target)?),
                Trouble::AliasLoop => {
                    let other = below(name, "loop")?;
                    records.remove(name);
                    alias(&mut records, &other, name.clone());
                    alias(&mut records, name, other);
                }
                Trouble::AliasChain(0 | 16..) => return Err(refuse("a chain has 1 to 15 links")),
                Trouble::AliasChain(links) => {
                    let mut from = name.clone();
                    for link in 1..=*links {
                        let to = below(name, &format!("link{link}"))?;
                        alias(&mut records, &from, to.clone());
                        from = to;
                    }
                }
                Trouble::MalformedTlsa(shape) => {
                    let set = RrSet { ttl: DEFAULT_TTL, data: vec![tlsa(*shape)] };
                    records.entry(name.clone()).or_default().insert(RecordType::TLSA, set);
                }
                Trouble::HugeTlsa(1_001..) => return Err(refuse("at most 1,000 records")),
                Trouble::HugeTlsa(count) => {
                    let sets = records.entry(name.clone()).or_default();
                    let set = sets
                        .entry(RecordType::TLSA)
                        .or_insert_with(|| RrSet { ttl: DEFAULT_TTL, data: Vec::new() });
                    set.data.extend((0..*count).map(filler));
                }
                _ => {}
            }
        }
        Ok(records)
    }
}

/// Turns a name into an alias; what it had goes to the target unless the target has something.
fn alias(records: &mut Records, name: &Name, target: Name) {
    let moved = records.remove(name).unwrap_or_default();
    if !moved.is_empty() {
        records.entry(target.clone()).or_insert(moved);
    }
    let set = RrSet { ttl: DEFAULT_TTL, data: vec![RData::CNAME(CNAME(target))] };
    records.insert(name.clone(), BTreeMap::from([(RecordType::CNAME, set)]));
}

/// A name below `name` that nobody else uses.
fn below(name: &Name, label: &str) -> Result<Name, TreeError> {
    parse_name(&format!("_{label}.{}", name.to_ascii()))
}

fn tlsa(shape: TlsaShape) -> RData {
    raw_tlsa(shape.rdata())
}

/// A well-formed `3 1 1` record that matches no key in this world.
fn filler(number: u16) -> RData {
    let mut rdata = vec![3, 1, 1];
    rdata.resize(35, 0xEE);
    rdata[33..].copy_from_slice(&number.to_be_bytes());
    raw_tlsa(rdata)
}

fn raw_tlsa(rdata: Vec<u8>) -> RData {
    RData::Unknown { code: RecordType::TLSA, rdata: NULL::with(rdata) }
}
