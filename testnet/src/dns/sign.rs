//! From a described tree to signed zones.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::dnssec::rdata::{DNSSECRData, DS, NSEC, NSEC3, NSEC3PARAM};
use hickory_proto::dnssec::{Algorithm, Nsec3HashAlgorithm};
use hickory_proto::rr::rdata::{A, AAAA, NS, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use jiff::Timestamp;

use super::error::TreeError;
use super::fault::Trouble;
use super::key::{Keyring, Window, ZoneKeys, sign, spoil};
use super::tree::{DEFAULT_TTL, Denial, Records, RrSet, Tree};
use super::trouble::Troubles;
use super::zone::{Hash, Sets, Signed, Verdict, Zone, base32hex, hash};

/// Time to live of proofs of non-existence, in seconds: short, so that tests that add a record needn't wait long.
const NEGATIVE_TTL: u32 = 60;

/// A tree ready to be served.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub(super) zones: BTreeMap<Name, Zone>,
    pub(super) troubles: Troubles,
}

impl Snapshot {
    /// Signs everything. `now` decides when signatures hold; `server` is the address of all name servers.
    pub(super) fn compile(
        tree: &Tree,
        keys: &mut Keyring,
        now: Timestamp,
        server: IpAddr,
    ) -> Result<Self, TreeError> {
        tree.check()?;
        let troubles = Troubles::new(&tree.faults, &tree.zones)?;
        let records = troubles.spoil_data(tree.records.clone())?;
        for (name, sets) in &records {
            if sets.contains_key(&RecordType::CNAME) && (sets.len() > 1 || tree.zones.contains_key(name)) {
                return Err(TreeError::CnameAndOther(name.to_ascii()));
            }
        }
        let work = Work { tree, records: &records, troubles: &troubles, now, server };
        let mut zones = BTreeMap::new();
        // In canonical order parents come before their children.
        for (apex, denial) in &tree.zones {
            let zone = work.zone(apex, *denial, keys, &zones)?;
            zones.insert(apex.clone(), zone);
        }
        // A set that a fault touched is bogus; a fault whose scope holds no such set touched nothing.
        troubles.check_signatures(|name, rtype| {
            let mut sets = zones.values().filter_map(|zone: &Zone| zone.names.get(name)).flatten();
            sets.any(|(of, set)| set.verdict == Verdict::Bogus && rtype.is_none_or(|rtype| rtype == *of))
        })?;
        Ok(Self { zones, troubles })
    }

    /// The zone that answers for a name. The DS of a zone is the business of its parent (RFC 4035 section 3.1.4.1).
    pub(super) fn zone_for(&self, name: &Name, rtype: RecordType) -> Option<&Zone> {
        let skip_apex = rtype == RecordType::DS && !name.is_root();
        deepest(&self.zones, name, skip_apex)
    }
}

/// The deepest zone that encloses a name.
fn deepest<'a, T>(zones: &'a BTreeMap<Name, T>, name: &Name, skip_apex: bool) -> Option<&'a T> {
    let mut at = if skip_apex { name.base_name() } else { name.clone() };
    loop {
        if let Some(zone) = zones.get(&at) {
            return Some(zone);
        }
        if at.is_root() {
            return None;
        }
        at = at.base_name();
    }
}

/// What all zones of one compilation share.
struct Work<'a> {
    tree: &'a Tree,
    records: &'a Records,
    troubles: &'a Troubles,
    now: Timestamp,
    server: IpAddr,
}

impl Work<'_> {
    fn zone(
        &self,
        apex: &Name,
        denial: Denial,
        keys: &mut Keyring,
        done: &BTreeMap<Name, Zone>,
    ) -> Result<Zone, TreeError> {
        let signed = !self.troubles.zone_has(apex, &Trouble::Unsigned);
        let own = if self.troubles.zone_has(apex, &Trouble::RootRolled) {
            keys.rolled_root()?
        } else {
            keys.of(apex)?
        };
        let (plan, cuts) = self.plan(apex, denial, signed.then_some(&*own), keys)?;
        let mut zone = Zone {
            apex: apex.clone(),
            trust: Verdict::Bogus,
            denial: signed.then_some(denial),
            names: BTreeMap::new(),
            hashed: BTreeMap::new(),
        };
        let sealer = Sealer { work: self, apex, own: &own, keys, signed };
        sealer.seal_all(&plan, &cuts, &mut zone)?;
        zone.trust = self.trust(&zone, signed, done);
        Ok(zone)
    }

    /// All record sets of a zone but those of denial, empty non-terminals included; and the points of delegation.
    fn plan(
        &self,
        apex: &Name,
        denial: Denial,
        own: Option<&ZoneKeys>,
        keys: &mut Keyring,
    ) -> Result<(Records, BTreeSet<Name>), TreeError> {
        let mut plan: Records = self
            .records
            .iter()
            .filter(|(name, _)| self.apex_of(name) == Some(apex))
            .map(|(name, sets)| (name.clone(), sets.clone()))
            .collect();
        let server_name = server_of(apex)?;
        let address = match self.server {
            IpAddr::V4(v4) => RData::A(A(v4)),
            IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
        };
        plan.entry(server_name.clone()).or_insert_with(|| BTreeMap::from([one(DEFAULT_TTL, address)]));
        let at_apex = plan.entry(apex.clone()).or_default();
        let serial = (self.now.as_second() & 0x7FFF_FFFF) as u32;
        let soa =
            SOA::new(server_name.clone(), server_name.clone(), serial, 3_600, 600, 86_400, NEGATIVE_TTL);
        at_apex.extend([one(NEGATIVE_TTL, RData::SOA(soa)), one(DEFAULT_TTL, RData::NS(NS(server_name)))]);
        if let Some(own) = own {
            let data = own.dnskeys().map(|key| RData::DNSSEC(DNSSECRData::DNSKEY(key))).collect();
            at_apex.insert(RecordType::DNSKEY, RrSet { ttl: DEFAULT_TTL, data });
            if denial == Denial::Nsec3 {
                let param = NSEC3PARAM::new(Nsec3HashAlgorithm::SHA1, false, 0, Vec::new());
                at_apex.extend([one(0, RData::DNSSEC(DNSSECRData::NSEC3PARAM(param)))]);
            }
        }
        let mut cuts = BTreeSet::new();
        for child in self.tree.zones.keys().filter(|zone| !zone.is_root()) {
            if self.apex_of(&child.base_name()) != Some(apex) {
                continue;
            }
            let sets = plan.entry(child.clone()).or_default();
            sets.extend([one(DEFAULT_TTL, RData::NS(NS(server_of(child)?)))]);
            if let Some(ds) = self.ds_of(child, keys)? {
                sets.extend([one(DEFAULT_TTL, RData::DNSSEC(DNSSECRData::DS(ds)))]);
            }
            cuts.insert(child.clone());
        }
        for name in plan.keys().cloned().collect::<Vec<_>>() {
            let mut above = name;
            while above != *apex {
                above = above.base_name();
                plan.entry(above.clone()).or_default();
            }
        }
        Ok((plan, cuts))
    }

    fn apex_of(&self, name: &Name) -> Option<&Name> {
        let mut at = name.clone();
        loop {
            if let Some((apex, _)) = self.tree.zones.get_key_value(&at) {
                return Some(apex);
            }
            if at.is_root() {
                return None;
            }
            at = at.base_name();
        }
    }

    fn ds_of(&self, child: &Name, keys: &mut Keyring) -> Result<Option<DS>, TreeError> {
        if self.troubles.zone_has(child, &Trouble::Unsigned) {
            return Ok(None);
        }
        let ds = keys.of(child)?.ksk.ds(child)?;
        if self.troubles.zone_has(child, &Trouble::DsMismatch) {
            let wrong = ds.digest().iter().map(|octet| !octet).collect();
            return Ok(Some(DS::new(ds.key_tag(), ds.algorithm(), ds.digest_type(), wrong)));
        }
        if self.troubles.zone_has(child, &Trouble::UnknownAlgorithm) {
            let unknown = Algorithm::Unknown(123);
            return Ok(Some(DS::new(ds.key_tag(), unknown, ds.digest_type(), ds.digest().to_vec())));
        }
        Ok(Some(ds))
    }

    /// What a validator that holds our anchor makes of a zone, from what we did to it and to those above it.
    fn trust(&self, zone: &Zone, signed: bool, done: &BTreeMap<Name, Zone>) -> Verdict {
        let apex = &zone.apex;
        let own_key_set = || {
            let set = zone.names.get(apex).and_then(|sets| sets.get(&RecordType::DNSKEY));
            let withheld = self.is_unreachable(apex, apex, RecordType::DNSKEY)
                || self.is_denied(apex, apex, RecordType::DNSKEY);
            if withheld { Verdict::Bogus } else { set.map_or(Verdict::Bogus, |set| set.verdict) }
        };
        if apex.is_root() {
            let rolled = self.troubles.zone_has(apex, &Trouble::RootRolled);
            return if rolled { Verdict::Bogus } else { own_key_set() };
        }
        let Some(parent) = deepest(done, apex, true) else { return Verdict::Bogus };
        if parent.trust != Verdict::Secure {
            return parent.trust;
        }
        if self.is_unreachable(&parent.apex, apex, RecordType::DS) {
            return Verdict::Bogus;
        }
        let ds = parent.names.get(apex).and_then(|sets| sets.get(&RecordType::DS));
        match ds {
            Some(set) if set.verdict == Verdict::Bogus => Verdict::Bogus,
            Some(_) if self.is_denied(&parent.apex, apex, RecordType::DS) => Verdict::Bogus,
            None if !signed => {
                let unproven = self
                    .troubles
                    .behaviour(&parent.apex, apex, RecordType::DS)
                    .any(|t| *t == Trouble::DenialMissing);
                if unproven { Verdict::Bogus } else { Verdict::Insecure }
            }
            _ if self.troubles.zone_has(apex, &Trouble::UnknownAlgorithm) => Verdict::Insecure,
            _ if self.troubles.zone_has(apex, &Trouble::DsMismatch) => Verdict::Bogus,
            _ => own_key_set(),
        }
    }

    /// Whether the server lies about a record that exists.
    fn is_denied(&self, zone: &Name, name: &Name, rtype: RecordType) -> bool {
        use Trouble as T;
        let lie = |trouble: &Trouble| matches!(trouble, T::FalseNodata | T::FalseNxdomain | T::ParentDenial);
        self.troubles.behaviour(zone, name, rtype).any(lie)
    }

    /// Whether a question gets no answer that could be used.
    fn is_unreachable(&self, zone: &Name, name: &Name, rtype: RecordType) -> bool {
        use Trouble as T;
        self.troubles.behaviour(zone, name, rtype).any(|trouble| {
            matches!(
                trouble,
                T::Servfail | T::Refused | T::Notimp | T::Silence | T::TruncatedEverywhere | T::CutShort
            )
        })
    }
}

/// Signs the record sets of one zone.
struct Sealer<'a> {
    work: &'a Work<'a>,
    apex: &'a Name,
    own: &'a Arc<ZoneKeys>,
    keys: &'a mut Keyring,
    signed: bool,
}

impl Sealer<'_> {
    fn seal_all(mut self, plan: &Records, cuts: &BTreeSet<Name>, zone: &mut Zone) -> Result<(), TreeError> {
        for (name, sets) in plan {
            let cut = cuts.contains(name);
            let mut sealed = Sets::new();
            for (rtype, set) in sets {
                // At a delegation the parent answers for nothing but the DS (RFC 4035 section 2.2).
                let signs = self.signed && (!cut || *rtype == RecordType::DS);
                let records =
                    set.data.iter().map(|data| Record::from_rdata(name.clone(), set.ttl, data.clone()));
                sealed.insert(*rtype, self.seal(records.collect(), signs)?);
            }
            zone.names.insert(name.clone(), sealed);
        }
        match zone.denial {
            None => Ok(()),
            Some(Denial::Nsec) => self.chain_names(zone),
            Some(Denial::Nsec3) => self.chain_hashes(zone, cuts),
        }
    }

    fn chain_names(&mut self, zone: &mut Zone) -> Result<(), TreeError> {
        let owners: Vec<Name> =
            zone.names.iter().filter(|(_, sets)| !sets.is_empty()).map(|(name, _)| name.clone()).collect();
        for (index, owner) in owners.iter().enumerate() {
            let next = owners.get(index + 1).unwrap_or(self.apex).clone();
            let Some(sets) = zone.names.get_mut(owner) else { continue };
            let nsec = NSEC::new_cover_self(next, sets.keys().copied());
            let record =
                Record::from_rdata(owner.clone(), NEGATIVE_TTL, RData::DNSSEC(DNSSECRData::NSEC(nsec)));
            sets.insert(RecordType::NSEC, self.seal(vec![record], true)?);
        }
        Ok(())
    }

    fn chain_hashes(&mut self, zone: &mut Zone, cuts: &BTreeSet<Name>) -> Result<(), TreeError> {
        let mut types: BTreeMap<Hash, Vec<RecordType>> = BTreeMap::new();
        for (name, sets) in &zone.names {
            let mut at: Vec<RecordType> = sets.keys().copied().collect();
            let has_signature =
                if cuts.contains(name) { sets.contains_key(&RecordType::DS) } else { !sets.is_empty() };
            if has_signature {
                at.push(RecordType::RRSIG);
            }
            types.insert(hash(name)?, at);
        }
        let hashes: Vec<Hash> = types.keys().cloned().collect();
        for (index, (own, at)) in types.into_iter().enumerate() {
            let next = hashes[(index + 1) % hashes.len()].clone();
            let nsec3 = NSEC3::new(Nsec3HashAlgorithm::SHA1, false, 0, Vec::new(), next, at);
            let owner = self.apex.prepend_label(base32hex(&own).as_str()).map_err(|e| {
                TreeError::Signing { what: format!("NSEC3 of {}", self.apex), why: e.to_string() }
            })?;
            let record = Record::from_rdata(owner, NEGATIVE_TTL, RData::DNSSEC(DNSSECRData::NSEC3(nsec3)));
            let sealed = self.seal(vec![record], true)?;
            zone.hashed.insert(own, sealed);
        }
        Ok(())
    }

    /// Signs one record set, as well or as badly as the faults say.
    fn seal(&mut self, records: Vec<Record>, signs: bool) -> Result<Signed, TreeError> {
        let (Some(first), true) = (records.first(), signs) else {
            return Ok(Signed { records, rrsig: None, verdict: Verdict::Secure });
        };
        let rtype = first.record_type();
        let key = if rtype == RecordType::DNSKEY { &self.own.ksk } else { self.own.zone_signer() };
        let now = self.work.now;
        let trouble = self.work.troubles.signature(self.apex, &first.name, rtype);
        let rrsig = match trouble {
            None => Some(sign(key, self.apex, &records, Window::good(now))?),
            Some(Trouble::ExpiredSignature) => Some(sign(key, self.apex, &records, Window::expired(now))?),
            Some(Trouble::NotYetValidSignature) => {
                Some(sign(key, self.apex, &records, Window::not_yet(now))?)
            }
            Some(Trouble::MissingSignature) => None,
            Some(Trouble::ForeignSignature(by)) => {
                let by = super::tree::parse_name(by)?;
                let foreign = self.keys.of(&by)?;
                Some(sign(foreign.zone_signer(), &by, &records, Window::good(now))?)
            }
            Some(_) => Some(spoil(&sign(key, self.apex, &records, Window::good(now))?)),
        };
        let verdict = if trouble.is_some() { Verdict::Bogus } else { Verdict::Secure };
        Ok(Signed { records, rrsig, verdict })
    }
}

fn one(ttl: u32, data: RData) -> (RecordType, RrSet) {
    (data.record_type(), RrSet { ttl, data: vec![data] })
}

fn server_of(apex: &Name) -> Result<Name, TreeError> {
    super::tree::parse_name(&if apex.is_root() {
        "ns.".to_owned()
    } else {
        format!("ns.{}", apex.to_ascii())
    })
}
