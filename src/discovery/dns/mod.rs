//! Questions to DNS, and answers with a verdict.
//!
//! # Guarantees
//! - An [`Answer`] is what DNS says, with the verdict of DNSSEC on all of it: on every alias on the way, on the records,
//!   and on the proof that there are none. Whatever is not an answer is a [`DnsTrouble`], which is always temporary; no
//!   trouble ever turns into "there is none" (DNS-002, DNS-003).
//! - Only here is a [`Secure`] made.
//! - Nothing that a resolver or a stranger's zone can send ends the process: parsing and validation of one answer run in
//!   a task of their own.
//!
//! # Errors
//! [`DnsTrouble`] for a question, [`ResolverError`] at start.
//!
//! # Standards
//! RFC 1035, 4033–4035, 5155, 6672, 6840, 7766, 9520. Our text: DNS-001 to DNS-010 in `spec/02-discovery.md`.

mod ad_bit;
mod anchors;
mod chase;
mod name;
mod secure;
mod settings;
#[cfg(test)]
pub(crate) mod testing;
mod transport;
mod undersized;
mod validating;
mod wire;

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::model::Reason;

pub use ad_bit::AdBitResolver;
pub use anchors::{Anchor, AnchorError, AnchorSource, Anchors};
pub use name::{OwnerName, OwnerNameError};
pub use secure::Secure;
pub use settings::{DnsSettings, ResolverError, Trust};
pub use validating::ValidatingResolver;

/// Who answers questions.
#[async_trait]
pub trait SecureDns: Send + Sync + 'static {
    /// The answer to `question`.
    ///
    /// # Errors
    /// No answer that can be believed. Always temporary.
    async fn query(&self, question: &Question) -> Result<Answer, DnsTrouble>;

    /// Forgets what was learned about zones, keys and records, as after a reload.
    fn forget(&self);
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// About which name.
    pub name: OwnerName,
    /// For which records.
    pub rtype: RecordType,
    /// How far aliases are followed.
    pub aliases: AliasRule,
}

impl Question {
    /// A question on which the choice of a peer rests: one insecure alias ends it.
    #[must_use]
    pub const fn strict(name: OwnerName, rtype: RecordType) -> Self {
        Self { name, rtype, aliases: AliasRule::WhileSecure }
    }

    /// A question whose answer is of use even when it is insecure, and then marked so.
    #[must_use]
    pub const fn lenient(name: OwnerName, rtype: RecordType) -> Self {
        Self { name, rtype, aliases: AliasRule::ToTheEnd }
    }
}

/// How far aliases are followed (DNS-004).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AliasRule {
    /// To the first insecure link. What lies behind it is not asked for: the answer is insecure, whatever it is.
    WhileSecure,
    /// To the end. One insecure link still makes the whole answer insecure.
    ToTheEnd,
}

/// Record types this node asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordType {
    /// IPv4 address.
    A,
    /// IPv6 address.
    Aaaa,
    /// Mail exchanger.
    Mx,
    /// Text.
    Txt,
    /// Certificate association.
    Tlsa,
}

impl RecordType {
    /// The mnemonic.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Mx => "MX",
            Self::Txt => "TXT",
            Self::Tlsa => "TLSA",
        }
    }
}

/// What DNSSEC says of an answer that is not bogus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Every part is signed and verifies up to a trust anchor.
    Secure,
    /// A part of it lies in a zone of which it is proven that it is not signed.
    Insecure,
}

impl Verdict {
    /// The lower of two.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        if self == Self::Secure { other } else { self }
    }
}

/// What DNS says. Only resolvers of this room make one, since a [`Secure`] can be made from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The verdict on all of the answer.
    pub(in crate::discovery) verdict: Verdict,
    /// The records, or that there are none.
    pub(in crate::discovery) content: Content,
    /// The names the question led to through aliases, in order; the last owns the records.
    pub(in crate::discovery) aliases: Vec<OwnerName>,
    /// How long the answer may be kept.
    pub(in crate::discovery) ttl: Duration,
    /// When the first of the signatures behind it expires (DNS-008). `None` where there are none.
    pub(in crate::discovery) proven_until: Option<Timestamp>,
    /// Whether this answer was given before.
    pub(in crate::discovery) cached: bool,
}

/// Records or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// These.
    Records(Records),
    /// None. With [`Verdict::Secure`] this is proven; otherwise it is only said.
    Absent(Absence),
}

/// In which way there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Absence {
    /// The name does not exist (NXDOMAIN).
    Name,
    /// The name has no record of this type (NODATA).
    Type,
}

/// The records of one type at one name. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Records {
    /// Addresses.
    A(Vec<Ipv4Addr>),
    /// Addresses.
    Aaaa(Vec<Ipv6Addr>),
    /// Preferences and hosts; the host of a null MX is the root.
    Mx(Vec<(u16, OwnerName)>),
    /// Texts.
    Txt(Vec<Txt>),
    /// Record data as it came, judged later by `tlsa`.
    Tlsa(Vec<Vec<u8>>),
}

impl Records {
    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        match self {
            Self::A(all) => all.len(),
            Self::Aaaa(all) => all.len(),
            Self::Mx(all) => all.len(),
            Self::Txt(all) => all.len(),
            Self::Tlsa(all) => all.len(),
        }
    }
}

/// One TXT record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Txt(Vec<Vec<u8>>);

impl Txt {
    /// A record of these character-strings.
    #[must_use]
    pub const fn new(strings: Vec<Vec<u8>>) -> Self {
        Self(strings)
    }

    /// The character-strings.
    #[must_use]
    pub fn strings(&self) -> &[Vec<u8>] {
        &self.0
    }

    /// The text: all strings, joined without a separator (DISC-002).
    #[must_use]
    pub fn joined(&self) -> Vec<u8> {
        self.0.concat()
    }
}

impl Answer {
    /// The content with its mark, if it is proven.
    pub(in crate::discovery) fn into_secure(self) -> Option<Secure<Content>> {
        (self.verdict == Verdict::Secure).then(|| Secure::seal(self.content))
    }
}

/// Why there is no answer that can be believed (DNS-002).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {detail}")]
pub struct DnsTrouble {
    /// Of what kind.
    pub kind: TroubleKind,
    /// What exactly was seen, for operators.
    pub detail: String,
}

impl DnsTrouble {
    pub(in crate::discovery) fn new(kind: TroubleKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }

    /// The named check that failed.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.kind.reason()
    }
}

/// Kinds of [`DnsTrouble`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TroubleKind {
    /// A signature or a proof of absence does not hold.
    Bogus,
    /// The resolver answered SERVFAIL.
    Servfail,
    /// The resolver answered REFUSED or another error.
    Refused,
    /// No answer came in time, or the resolver could not be reached.
    Timeout,
    /// The answer could not be understood.
    Malformed,
    /// The root's keys are not vouched for by a configured trust anchor: this node's operator has to act (DNS-006).
    RootKey,
    /// Too many aliases, or aliases in a circle.
    AliasChain,
}

impl TroubleKind {
    /// The named check that failed.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::Bogus => Reason::DnsBogus,
            Self::Servfail => Reason::DnsServfail,
            Self::Refused | Self::Malformed => Reason::DnsRefused,
            Self::Timeout => Reason::DnsTimeout,
            Self::RootKey => Reason::DnsRootKey,
            Self::AliasChain => Reason::DnsAliasChain,
        }
    }
}

impl fmt::Display for TroubleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bogus => "bogus",
            Self::Servfail => "SERVFAIL",
            Self::Refused => "refused",
            Self::Timeout => "no answer",
            Self::Malformed => "malformed answer",
            Self::RootKey => "root key not vouched for",
            Self::AliasChain => "alias chain",
        })
    }
}
