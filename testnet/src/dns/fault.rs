//! What can be wrong with the tree, as data: one scope, one trouble, readable from a topology file.

use serde::{Deserialize, Serialize};

use super::tree::RrType;

/// One thing that is wrong, and where.
///
/// In TOML a fault is a flat table: `zone`, or `name`, or `name` with `type`; and `trouble`.
///
/// ```
/// let fault: testnet::dns::Fault = toml::from_str(
///     r#"
///     name = "_25._tcp.nta.b.nl"
///     type = "TLSA"
///     trouble = "expired_signature"
///     "#,
/// )
/// .unwrap();
/// assert_eq!(fault.to_string(), "_25._tcp.nta.b.nl TLSA: expired_signature");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Flat", into = "Flat")]
pub struct Fault {
    /// What it touches.
    pub scope: Scope,
    /// What is wrong there.
    pub trouble: Trouble,
}

impl Fault {
    /// The trouble touches everything one zone publishes, its keys included. Its DS belongs to the parent zone.
    pub fn zone(zone: impl Into<String>, trouble: Trouble) -> Self {
        Self { scope: Scope::Zone(zone.into()), trouble }
    }

    /// The trouble touches the data of one name. Types that make the zone work (SOA, NS, DS, DNSKEY, NSEC…)
    /// are left alone: name them with [`Fault::record`] if that is meant.
    pub fn name(name: impl Into<String>, trouble: Trouble) -> Self {
        Self { scope: Scope::Name(name.into()), trouble }
    }

    /// The trouble touches one type at one name.
    pub fn record(name: impl Into<String>, rtype: RrType, trouble: Trouble) -> Self {
        Self { scope: Scope::Record(name.into(), rtype), trouble }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.scope {
            Scope::Zone(zone) => write!(f, "zone {zone}: {}", self.trouble),
            Scope::Name(name) => write!(f, "{name}: {}", self.trouble),
            Scope::Record(name, rtype) => write!(f, "{name} {rtype}: {}", self.trouble),
        }
    }
}

/// What a fault touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everything in a zone.
    Zone(String),
    /// The data of a name (not the types that make a zone work).
    Name(String),
    /// One type at one name.
    Record(String, RrType),
}

/// What is wrong.
///
/// The comment of each says what a correct validator makes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Trouble {
    // Signatures: zone, name or record.
    /// The signature does not match the data: bogus.
    WrongSignature,
    /// The signature expired two days ago, which is more than the skew any validator forgives: bogus.
    ExpiredSignature,
    /// The signature becomes valid in two days: bogus.
    NotYetValidSignature,
    /// The zone is signed, but this has no signature: bogus.
    MissingSignature,
    /// Well signed, by another zone of the tree that isn't above this one, whose key is fine there: bogus.
    ForeignSignature(String),

    // The delegation: zone only.
    /// Neither keys nor signatures, and the parent proves that there is no DS: insecure.
    Unsigned,
    /// The parent's DS does not fit the zone's key: bogus.
    DsMismatch,
    /// The only DS names an algorithm nobody knows: insecure (RFC 4035 section 5.2).
    UnknownAlgorithm,
    /// Only for the root: it is signed with another key than the published trust anchor. Everything is bogus.
    RootRolled,

    // The server's behaviour: zone, name or record.
    /// Answers `SERVFAIL`.
    Servfail,
    /// Answers `REFUSED`.
    Refused,
    /// Answers `NOTIMP`.
    Notimp,
    /// Never answers: the client runs into its time limit.
    Silence,
    /// Over UDP only a truncated reply. TCP has the answer, so the verdict is that of the data.
    Truncated,
    /// Over UDP only a truncated reply; the TCP connection is closed without one. No answer can be had.
    TruncatedEverywhere,
    /// The packet ends in the middle of a record, over UDP and TCP: not parseable.
    CutShort,
    /// The reply has the AD bit and the data, whatever the data is worth. For a validator nothing changes.
    ForgedAd,
    /// What does not exist is denied without proof: bogus.
    DenialMissing,
    /// What exists is denied with the genuine record of its name, which lists the type: bogus.
    FalseNodata,
    /// What exists is denied with the genuine proof that a name below it does not: bogus.
    FalseNxdomain,
    /// What stands at the apex of a zone is denied with the parent's genuine record of the delegation, which can't
    /// speak of it (RFC 6840 section 4.1): bogus.
    ParentDenial,

    // Data in the place of the good data.
    /// A CNAME at this name. What the name had moves to the target, unless the target has data of its own.
    Alias(String),
    /// A CNAME to a second name which is a CNAME back.
    AliasLoop,
    /// This many CNAMEs in a row (1 to 15), all in the same zone; the data is at the end.
    AliasChain(u8),
    /// The TLSA set is one record nobody can use. Validly signed.
    MalformedTlsa(TlsaShape),
    /// The TLSA set has this many more records (valid in form, matching nothing), at most 1,000.
    HugeTlsa(u16),
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(plain)) => f.write_str(&plain),
            Ok(serde_json::Value::Object(map)) => {
                let (name, value) = map.iter().next().ok_or(std::fmt::Error)?;
                write!(f, "{name}({})", value.to_string().trim_matches('"'))
            }
            _ => Err(std::fmt::Error),
        }
    }
}

/// Ways in which TLSA data can be unusable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TlsaShape {
    /// No octets at all.
    Empty,
    /// One octet: only a usage.
    OneOctet,
    /// Three octets: usage, selector, matching type, and no data.
    ThreeOctets,
    /// `3 1 1` with a digest of 31 octets.
    ShortDigest,
    /// `3 1 1` with a digest of 33 octets.
    LongDigest,
    /// Usage 4, otherwise well-formed.
    UnknownUsage,
    /// Selector 2, otherwise well-formed.
    UnknownSelector,
    /// Matching type 3, otherwise well-formed.
    UnknownMatching,
    /// Usage 1 (PKIX-EE), well-formed: no mail server may use it (RFC 7672 section 3.1.3).
    PkixUsage,
}

impl TlsaShape {
    /// All of them, for tests that want every row.
    pub const ALL: [Self; 9] = [
        Self::Empty,
        Self::OneOctet,
        Self::ThreeOctets,
        Self::ShortDigest,
        Self::LongDigest,
        Self::UnknownUsage,
        Self::UnknownSelector,
        Self::UnknownMatching,
        Self::PkixUsage,
    ];

    /// The RDATA.
    pub fn rdata(self) -> Vec<u8> {
        let with = |head: [u8; 3], digest: usize| {
            let mut rdata = head.to_vec();
            rdata.resize(3 + digest, 0xA5);
            rdata
        };
        match self {
            Self::Empty => Vec::new(),
            Self::OneOctet => vec![3],
            Self::ThreeOctets => with([3, 1, 1], 0),
            Self::ShortDigest => with([3, 1, 1], 31),
            Self::LongDigest => with([3, 1, 1], 33),
            Self::UnknownUsage => with([4, 1, 1], 32),
            Self::UnknownSelector => with([3, 2, 1], 32),
            Self::UnknownMatching => with([3, 1, 3], 32),
            Self::PkixUsage => with([1, 1, 1], 32),
        }
    }
}

/// A fault as it is written down. Flat, because `flatten` and `deny_unknown_fields` exclude each other.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Flat {
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    rtype: Option<RrType>,
    trouble: Trouble,
}

impl TryFrom<Flat> for Fault {
    type Error = &'static str;

    fn try_from(flat: Flat) -> Result<Self, Self::Error> {
        let scope = match (flat.zone, flat.name, flat.rtype) {
            (Some(zone), None, None) => Scope::Zone(zone),
            (None, Some(name), None) => Scope::Name(name),
            (None, Some(name), Some(rtype)) => Scope::Record(name, rtype),
            _ => return Err("a fault has either `zone`, or `name`, or `name` and `type`"),
        };
        Ok(Self { scope, trouble: flat.trouble })
    }
}

impl From<Fault> for Flat {
    fn from(fault: Fault) -> Self {
        let trouble = fault.trouble;
        match fault.scope {
            Scope::Zone(zone) => Self { zone: Some(zone), name: None, rtype: None, trouble },
            Scope::Name(name) => Self { zone: None, name: Some(name), rtype: None, trouble },
            Scope::Record(name, rtype) => Self { zone: None, name: Some(name), rtype: Some(rtype), trouble },
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_survives_being_written_and_read() {
        let faults = [
            Fault::zone("b.nl", Trouble::Unsigned),
            Fault::name("mx.b.nl", Trouble::AliasChain(9)),
            Fault::record("_25._tcp.b.nl", RrType::Tlsa, Trouble::MalformedTlsa(TlsaShape::OneOctet)),
            Fault::record("b.nl", RrType::Txt, Trouble::Alias("x.nl".into())),
        ];
        for fault in faults {
            let text = toml::to_string(&fault).unwrap();
            assert_eq!(toml::from_str::<Fault>(&text).unwrap(), fault, "{text}");
        }
    }

    #[test]
    fn a_fault_with_two_scopes_or_an_unknown_key_is_refused() {
        for bad in [
            "zone = \"b.nl\"\nname = \"b.nl\"\ntrouble = \"silence\"",
            "type = \"TXT\"\ntrouble = \"silence\"",
            "trouble = \"silence\"",
            "zone = \"b.nl\"\ntrouble = \"sillence\"",
            "zone = \"b.nl\"\ntrouble = \"silence\"\ntypo = 1",
        ] {
            assert!(toml::from_str::<Fault>(bad).is_err(), "{bad}");
        }
    }
}
