//! Messages taken apart and put together again.
//!
//! A resolver's answer is never judged as it came. What answers the question is picked out by name and type, together
//! with the proofs that could belong to it; signatures outside their dates are left behind; and from that a new message
//! is made, which is what the validator sees. So a record the validator did not judge cannot be used, and a record that
//! has nothing to do with the question cannot influence the verdict.

use bytes::Bytes;
use domain::base::iana::{Class, OptRcode, Rcode};
use domain::base::message_builder::PushError;
use domain::base::name::NameBuilder;
use domain::base::{
    Message, MessageBuilder, Name, ParsedName, ParsedRecord, Record, Rtype, ToName, UnknownRecordData,
};
use domain::rdata::AllRecordData;
use jiff::Timestamp;

use super::{DnsTrouble, OwnerName, RecordType, Records, TroubleKind, Txt};

/// A record of an answer.
pub(super) type Rr = Record<Name<Bytes>, AllRecordData<Bytes, ParsedName<Bytes>>>;

/// An answer, taken apart.
pub(super) struct Reply {
    pub(super) rcode: OptRcode,
    pub(super) authenticated: bool,
    answer: Vec<Rr>,
    authority: Vec<Rr>,
    /// Whether signatures were left behind because of their dates.
    pub(super) stale_signatures: bool,
}

/// Records of one type at one name, with their signatures.
#[derive(Clone, Default)]
pub(super) struct Group {
    pub(super) records: Vec<Rr>,
    pub(super) signatures: Vec<Rr>,
}

/// What a reply says about a question, one step of it.
pub(super) enum Found {
    /// The records.
    Records(Group),
    /// Ask for this name instead.
    Alias(Alias),
    /// There are none.
    Nothing,
}

/// One link of a chain of aliases.
pub(super) struct Alias {
    /// The CNAME or DNAME record.
    pub(super) group: Group,
    /// Its owner: the name asked for, or with a DNAME one above it.
    pub(super) owner: Name<Bytes>,
    pub(super) rtype: Rtype,
    pub(super) target: Name<Bytes>,
}

impl RecordType {
    pub(super) const fn wire(self) -> Rtype {
        match self {
            Self::A => Rtype::A,
            Self::Aaaa => Rtype::AAAA,
            Self::Mx => Rtype::MX,
            Self::Txt => Rtype::TXT,
            Self::Tlsa => Rtype::TLSA,
        }
    }
}

fn malformed(what: impl std::fmt::Display) -> DnsTrouble {
    DnsTrouble::new(TroubleKind::Malformed, what.to_string())
}

impl Reply {
    /// Reads a whole message. Signatures that do not hold at `now` are dropped here: the validator's own cache of
    /// verified signatures does not look at their dates again.
    pub(super) fn read(message: &Message<Bytes>, now: Timestamp) -> Result<Self, DnsTrouble> {
        if message.header().tc() {
            return Err(malformed("truncated, over TCP too"));
        }
        let mut stale_signatures = false;
        let mut keep = |record: ParsedRecord<'_, Bytes>| -> Result<Option<Rr>, DnsTrouble> {
            let record = own(&record)?;
            if let AllRecordData::Rrsig(signature) = record.data() {
                let (from, until) = (signature.inception().into_int(), signature.expiration().into_int());
                if !in_dates(from, until, now) {
                    stale_signatures = true;
                    return Ok(None);
                }
            }
            Ok((record.class() == Class::IN).then_some(record))
        };
        let mut answer = Vec::new();
        for record in message.answer().map_err(malformed)? {
            answer.extend(keep(record.map_err(malformed)?)?);
        }
        let mut authority = Vec::new();
        for record in message.authority().map_err(malformed)? {
            authority.extend(keep(record.map_err(malformed)?)?);
        }
        let rcode = message.opt_rcode();
        Ok(Self { rcode, authenticated: message.header().ad(), answer, authority, stale_signatures })
    }

    /// The step that this reply makes for the question.
    pub(super) fn find(&self, name: &Name<Bytes>, rtype: Rtype) -> Result<Found, DnsTrouble> {
        let direct = self.group(name, rtype);
        if !direct.records.is_empty() {
            if self.rcode != OptRcode::NOERROR {
                return Err(malformed(format_args!("records of {name} with the code {}", self.rcode)));
            }
            return Ok(Found::Records(direct));
        }
        let cname = self.group(name, Rtype::CNAME);
        if cname.signatures.is_empty()
            && let Some(alias) = self.dname(name)?
        {
            return Ok(Found::Alias(alias));
        }
        match cname.records.as_slice() {
            [] => Ok(Found::Nothing),
            [record] => match record.data() {
                AllRecordData::Cname(data) => {
                    let target = data.cname().to_name();
                    Ok(Found::Alias(Alias { group: cname, owner: name.clone(), rtype: Rtype::CNAME, target }))
                }
                _ => Err(malformed("a CNAME record without its data")),
            },
            _ => Err(malformed(format_args!("several CNAME records at {name}"))),
        }
    }

    /// A DNAME above `name` (RFC 6672 section 2.2). The CNAME that comes with it is unsigned and not believed; the
    /// substitution is made here.
    fn dname(&self, name: &Name<Bytes>) -> Result<Option<Alias>, DnsTrouble> {
        let above = |record: &&Rr| {
            record.rtype() == Rtype::DNAME && record.owner() != name && name.ends_with(record.owner())
        };
        let Some(record) = self.answer.iter().find(above) else { return Ok(None) };
        let AllRecordData::Dname(data) = record.data() else { return Ok(None) };
        let owner = record.owner().clone();
        let group = self.group(&owner, Rtype::DNAME);
        if group.records.len() != 1 {
            return Err(malformed(format_args!("several DNAME records at {owner}")));
        }
        let mut builder = NameBuilder::new_bytes();
        let kept = name.label_count() - owner.label_count();
        for label in name.iter().take(kept) {
            builder.append_label(label.as_slice()).map_err(malformed)?;
        }
        let target = builder.append_origin(data.dname()).map_err(malformed)?;
        Ok(Some(Alias { group, owner, rtype: Rtype::DNAME, target: target.to_name() }))
    }

    fn group(&self, name: &Name<Bytes>, rtype: Rtype) -> Group {
        let mut group = Group::default();
        for record in self.answer.iter().filter(|record| record.owner() == name) {
            match record.data() {
                AllRecordData::Rrsig(signature) if signature.type_covered() == rtype => {
                    group.signatures.push(record.clone());
                }
                _ if record.rtype() == rtype => group.records.push(record.clone()),
                _ => {}
            }
        }
        group
    }

    /// The records that can prove an absence, or that a wildcard was used rightly: NSEC, NSEC3, SOA and their
    /// signatures. Whatever else a resolver adds to the authority section is not part of the answer.
    pub(super) fn proofs(&self) -> Vec<Rr> {
        let proof = |rtype| matches!(rtype, Rtype::NSEC | Rtype::NSEC3 | Rtype::SOA);
        let wanted = |record: &&Rr| match record.data() {
            AllRecordData::Rrsig(signature) => proof(signature.type_covered()),
            _ => proof(record.rtype()),
        };
        self.authority.iter().filter(wanted).cloned().collect()
    }

    /// The same reply with nothing in it that the question about `name` and `rtype` does not need, for the validator's
    /// own questions about keys.
    pub(super) fn screened(&self, name: &Name<Bytes>, rtype: Rtype) -> Result<Message<Bytes>, DnsTrouble> {
        let mut answer = self.group(name, rtype);
        if answer.records.is_empty() {
            answer = self.group(name, Rtype::CNAME);
        }
        let message = compose(name, rtype, self.rcode, &answer, &self.proofs())?;
        Message::from_octets(Bytes::from(message.into_octets())).map_err(malformed)
    }
}

/// Makes a record own what it refers to.
fn own(record: &ParsedRecord<'_, Bytes>) -> Result<Rr, DnsTrouble> {
    let (owner, class, ttl) = (record.owner().to_name::<Bytes>(), record.class(), record.ttl());
    // TLSA data is judged elsewhere, whatever its length.
    let data = if record.rtype() == Rtype::TLSA {
        let raw = record.to_record::<UnknownRecordData<_>>().map_err(malformed)?;
        raw.map(|raw| AllRecordData::Unknown(raw.data().clone()))
    } else {
        let typed = record.to_record::<AllRecordData<_, _>>().map_err(malformed)?;
        typed.map(|typed| typed.data().clone())
    };
    let data = data.ok_or_else(|| malformed("a record that is not of its type"))?;
    Ok(Record::new(owner, class, ttl, data))
}

/// RFC 4034 section 3.1.5: dates are compared by serial number arithmetic.
fn in_dates(from: u32, until: u32, now: Timestamp) -> bool {
    // The lower 32 bits are what the arithmetic is defined on.
    let now = (now.as_second() & i64::from(u32::MAX)) as u32;
    let not_before = |early: u32, late: u32| late.wrapping_sub(early) < 1 << 31;
    not_before(from, now) && not_before(now, until)
}

/// A message with this question, answer and authority, as the validator wants it.
pub(super) fn compose(
    name: &Name<Bytes>,
    rtype: Rtype,
    rcode: OptRcode,
    answer: &Group,
    authority: &[Rr],
) -> Result<Message<Vec<u8>>, DnsTrouble> {
    let push = |_: PushError| malformed("too large");
    let mut builder = MessageBuilder::new_vec();
    let header = builder.header_mut();
    header.set_qr(true);
    header.set_rd(true);
    header.set_cd(true);
    header.set_rcode(Rcode::masked_from_int(rcode.to_int() as u8));
    let mut builder = builder.question();
    builder.push((name, rtype, Class::IN)).map_err(push)?;
    let mut builder = builder.answer();
    for record in answer.records.iter().chain(&answer.signatures) {
        builder.push(record).map_err(push)?;
    }
    let mut builder = builder.authority();
    for record in authority {
        builder.push(record).map_err(push)?;
    }
    Ok(builder.into_message())
}

/// A message that claims an unsigned record at `name`. It can only be insecure where `name` really lies in a zone that
/// is proven to be unsigned.
pub(super) fn unsigned_claim(name: &Name<Bytes>) -> Result<Message<Vec<u8>>, DnsTrouble> {
    let data = AllRecordData::A(domain::rdata::A::from_octets(0, 0, 0, 0));
    let record = Record::new(name.clone(), Class::IN, domain::base::Ttl::ZERO, data);
    let group = Group { records: vec![record], signatures: Vec::new() };
    compose(name, Rtype::A, OptRcode::NOERROR, &group, &[])
}

/// How long records and proofs may be kept: seconds, and the first expiry of a signature.
pub(super) fn lifetime(records: &[Rr], proofs: &[Rr], now: Timestamp) -> (u32, Option<Timestamp>) {
    let mut ttl = u32::MAX;
    let mut proven_until: Option<Timestamp> = None;
    for record in records.iter().chain(proofs) {
        ttl = ttl.min(record.ttl().as_secs());
        match record.data() {
            AllRecordData::Rrsig(signature) => {
                ttl = ttl.min(signature.original_ttl().as_secs());
                let expires = expiry(signature.expiration().into_int(), now);
                proven_until = Some(proven_until.map_or(expires, |first| first.min(expires)));
            }
            // RFC 2308 section 5: the lower of the SOA's own TTL and its last field.
            AllRecordData::Soa(soa) => ttl = ttl.min(soa.minimum().as_secs()),
            _ => {}
        }
    }
    (if ttl == u32::MAX { 0 } else { ttl }, proven_until)
}

fn expiry(expiration: u32, now: Timestamp) -> Timestamp {
    let now_serial = (now.as_second() & i64::from(u32::MAX)) as u32;
    let ahead = i64::from(expiration.wrapping_sub(now_serial));
    Timestamp::from_second(now.as_second().saturating_add(ahead)).unwrap_or(Timestamp::MAX)
}

/// Records in the form that the rest of the node reads.
pub(super) fn typed(rtype: RecordType, records: &[Rr]) -> Result<Records, DnsTrouble> {
    let wrong = || malformed(format_args!("data that is no {} record", rtype.as_str()));
    let data = records.iter().map(Record::data);
    Ok(match rtype {
        RecordType::A => Records::A(
            data.map(|data| if let AllRecordData::A(a) = data { Ok(a.addr()) } else { Err(wrong()) })
                .collect::<Result<_, _>>()?,
        ),
        RecordType::Aaaa => Records::Aaaa(
            data.map(
                |data| if let AllRecordData::Aaaa(aaaa) = data { Ok(aaaa.addr()) } else { Err(wrong()) },
            )
            .collect::<Result<_, _>>()?,
        ),
        RecordType::Mx => Records::Mx(
            data.map(|data| match data {
                AllRecordData::Mx(mx) => Ok((mx.preference(), OwnerName::from_wire(mx.exchange()))),
                _ => Err(wrong()),
            })
            .collect::<Result<_, _>>()?,
        ),
        RecordType::Txt => Records::Txt(
            data.map(|data| match data {
                AllRecordData::Txt(txt) => Ok(Txt::new(txt.iter().map(<[u8]>::to_vec).collect())),
                _ => Err(wrong()),
            })
            .collect::<Result<_, _>>()?,
        ),
        RecordType::Tlsa => Records::Tlsa(
            data.map(|data| match data {
                AllRecordData::Unknown(raw) => Ok(raw.data().to_vec()),
                _ => Err(wrong()),
            })
            .collect::<Result<_, _>>()?,
        ),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use domain::base::Ttl;
    use domain::rdata::{Cname, Dname};
    use proptest::prelude::*;

    use super::*;

    fn owner(text: &str) -> Name<Bytes> {
        Name::bytes_from_str(text).unwrap()
    }

    fn now() -> Timestamp {
        "2026-11-22T12:00:00Z".parse().unwrap()
    }

    /// A reply that holds these aliases: owner, whether DNAME, target.
    fn reply(aliases: &[(&str, bool, &str)]) -> Reply {
        let mut builder = MessageBuilder::new_vec().question();
        builder.push((owner("x.a.nl"), Rtype::A)).unwrap();
        let mut builder = builder.answer();
        for (from, is_dname, to) in aliases {
            let (from, to) = (owner(from), owner(to));
            let pushed = if *is_dname {
                builder.push((from, Class::IN, Ttl::HOUR, Dname::new(to)))
            } else {
                builder.push((from, Class::IN, Ttl::HOUR, Cname::new(to)))
            };
            pushed.unwrap();
        }
        let octets = Bytes::from(builder.into_message().into_octets());
        Reply::read(&Message::from_octets(octets).unwrap(), now()).unwrap()
    }

    fn target(aliases: &[(&str, bool, &str)], name: &str) -> Option<(String, Rtype)> {
        match reply(aliases).find(&owner(name), Rtype::A).unwrap() {
            Found::Alias(alias) => Some((alias.target.to_string(), alias.rtype)),
            _ => None,
        }
    }

    /// Proves: +DNS-004
    #[test]
    fn a_dname_is_applied_here_and_its_unsigned_cname_is_not_believed() {
        let dname = ("a.nl", true, "b.example");
        let cname = Some(("b.nl".to_owned(), Rtype::CNAME));
        let applied = Some(("x.b.example".to_owned(), Rtype::DNAME));
        assert_eq!(target(&[dname], "x.a.nl"), applied);
        assert_eq!(target(&[dname], "y.x.A.nl"), Some(("y.x.b.example".into(), Rtype::DNAME)));
        assert_eq!(target(&[dname, ("x.a.nl", false, "evil.nl")], "x.a.nl"), applied);
        assert_eq!(target(&[dname], "a.nl"), None, "not at its own name");
        assert_eq!(target(&[dname], "xa.nl"), None);
        assert_eq!(target(&[("x.a.nl", false, "b.nl")], "x.a.nl"), cname);
        assert_eq!(target(&[("y.a.nl", false, "b.nl")], "x.a.nl"), None);
        let two = reply(&[("x.a.nl", false, "b.nl"), ("x.a.nl", false, "c.nl")]);
        assert!(two.find(&owner("x.a.nl"), Rtype::A).is_err());
        let long = vec!["a".repeat(60); 4].join(".");
        let too_long =
            reply(&[("a.nl", true, &long)]).find(&owner(&format!("{}.a.nl", "x".repeat(60))), Rtype::A);
        assert!(too_long.is_err());
    }

    #[test]
    fn dates_of_signatures_are_serial_numbers() {
        let second = u32::try_from(now().as_second()).unwrap();
        assert!(in_dates(second, second, now()));
        assert!(in_dates(second - 1000, second + 1000, now()));
        assert!(!in_dates(second + 1, second + 1000, now()));
        assert!(!in_dates(second - 1000, second - 1, now()));
        // In 2106 the numbers begin anew.
        let late: Timestamp = "2106-02-07T06:28:14Z".parse().unwrap();
        assert!(in_dates(u32::MAX - 100, 100, late));
        assert_eq!(expiry(100, late).as_second(), (1 << 32) + 100);
    }

    proptest! {
        /// Whatever a resolver sends is read, searched and put together again, or refused.
        ///
        /// Proves: -DNS-002
        #[test]
        fn any_octets_are_no_panic(
            mut octets in prop::collection::vec(any::<u8>(), 12..300),
            shaped in any::<bool>(),
            rtype in 0usize..5,
        ) {
            if shaped {
                // One record, at the root and of a type that is asked for; the rest is chance.
                let code = [1u8, 28, 15, 16, 52][rtype];
                let length = u8::try_from(octets.len().saturating_sub(23)).unwrap_or(255);
                octets[..12].copy_from_slice(&[0, 0, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
                let head = [0, 0, code, 0, 1, 0, 0, 0, 9, 0, length];
                octets.iter_mut().skip(12).zip(head).for_each(|(octet, head)| *octet = head);
            }
            let message = Message::from_octets(Bytes::from(octets)).unwrap();
            let rtype = [RecordType::A, RecordType::Aaaa, RecordType::Mx, RecordType::Txt, RecordType::Tlsa][rtype];
            if let Ok(reply) = Reply::read(&message, now()) {
                for name in [Name::root_bytes(), owner("a.nl")] {
                    if let Ok(Found::Records(group)) = reply.find(&name, rtype.wire()) {
                        let _ = typed(rtype, &group.records);
                        let _ = lifetime(&group.records, &reply.proofs(), now());
                    }
                    let _ = reply.screened(&name, rtype.wire());
                }
            }
        }
    }
}
