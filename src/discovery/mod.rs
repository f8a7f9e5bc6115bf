//! From a mail domain to the hosts that answer for it, and the keys they vouch for.
//!
//! # Guarantees
//! - Everything that decides whom we talk to (NTA record, hosts, TLSA sets) comes as [`Secure`], and only an answer that
//!   DNSSEC proves makes one. There is no other way to a [`Federation`] or a [`Candidate`].
//! - "There is none" is believed only with proof; whatever is no answer is temporary, and never anything weaker
//!   (DNS-002, DNS-003).
//! - Every question that was asked is in the [`Trace`], with its verdict, for the decision record.
//!
//! # Errors
//! [`Finding`] for a domain, [`HostProblem`] for one host: a [`Reason`](crate::model::Reason) for machines and a detail
//! for people. What follows from a reason is decided in `policy`, not here. [`ResolverError`] refuses to start.
//!
//! # Standards
//! RFC 7672 section 2, 7671 section 4, 5321 section 5.1, 7505, 6890; `spec/02-discovery.md` (DISC, DNS) and the DANE
//! family up to the choice of the base domain.

mod cache;
mod candidate;
pub mod dns;
mod federation;
pub mod location;
pub mod nta_record;
mod reach;
pub mod tlsa;
mod trace;

use std::net::IpAddr;

use crate::world::World;

pub use cache::{CacheSettings, CachedDns, TROUBLE_MAX};
pub use candidate::{Candidate, ClientTlsa, HostProblem};
pub use dns::{
    Absence, AnchorError, AnchorSource, Anchors, DnsSettings, DnsTrouble, OwnerName, ResolverError, Secure,
    TroubleKind, Trust, Txt, Verdict,
};
pub use federation::{Federation, Finding, Host, Source};
pub use location::{LocationTable, TableError};
pub use nta_record::NtaRecord;
pub use reach::AddressRule;
pub use tlsa::{Tlsa, TlsaSet};
pub use trace::Trace;

use dns::{AdBitResolver, Answer, Content, Question, RecordType, Records, SecureDns, ValidatingResolver};

/// What the room needs to know.
#[derive(Clone, Debug)]
pub struct DiscoverySettings {
    /// The resolver, and why it is believed.
    pub dns: DnsSettings,
    /// How long answers are kept.
    pub cache: CacheSettings,
    /// Which addresses peers may have.
    pub addresses: AddressRule,
}

/// Finds peers.
pub struct Discovery {
    dns: Box<dyn SecureDns>,
    addresses: AddressRule,
    world: World,
}

impl Discovery {
    /// Starts the resolver; with the AD bit, only after its self-test.
    ///
    /// # Errors
    /// Settings that would weaken the node, or a resolver that fails its self-test.
    pub async fn start(settings: DiscoverySettings, world: World) -> Result<Self, ResolverError> {
        let DiscoverySettings { dns, cache, addresses } = settings;
        let lab = addresses == AddressRule::LabToo;
        let clock = world.clock.clone();
        let resolver: Box<dyn SecureDns> = match &dns.trust {
            Trust::Validate(anchors) => {
                if lab && anchors.include_iana() {
                    return Err(ResolverError::LabWithRealTrust("the trust anchors of the real root"));
                }
                Box::new(ValidatingResolver::start(&dns, anchors.clone(), clock))
            }
            Trust::AdBit { known_good, known_bogus } => {
                if lab {
                    return Err(ResolverError::LabWithRealTrust(
                        "the AD bit, which says nothing about whose root it is",
                    ));
                }
                Box::new(AdBitResolver::start(&dns, known_good, known_bogus, clock).await?)
            }
        };
        let cached = CachedDns::new(resolver, cache, world.clock.clone());
        Ok(Self { dns: Box::new(cached), addresses, world })
    }

    /// Asks `dns`, through the memory; for simulations.
    #[cfg(test)]
    pub(crate) fn simulated(
        dns: Box<dyn SecureDns>,
        cache: CacheSettings,
        addresses: AddressRule,
        world: World,
    ) -> Self {
        let cached = CachedDns::new(dns, cache, world.clock.clone());
        Self { dns: Box::new(cached), addresses, world }
    }

    /// Forgets all answers and keys of zones, as after a reload.
    pub fn forget(&self) {
        self.dns.forget();
    }

    /// The TXT records at `name`, for SPF, DKIM, DMARC and for comparing what is published.
    pub async fn txt(&self, name: &OwnerName, trace: &mut Trace) -> LookUp<Vec<Txt>> {
        let pick = |records| if let Records::Txt(all) = records { all } else { Vec::new() };
        self.look_up(name, RecordType::Txt, trace).await.map(pick)
    }

    /// The MX records at `name`: preference and host, the root for a null MX.
    pub async fn mx(&self, name: &OwnerName, trace: &mut Trace) -> LookUp<Vec<(u16, OwnerName)>> {
        let pick = |records| if let Records::Mx(all) = records { all } else { Vec::new() };
        self.look_up(name, RecordType::Mx, trace).await.map(pick)
    }

    /// The TLSA records at `name`, judged.
    pub async fn tlsa(&self, name: &OwnerName, trace: &mut Trace) -> LookUp<TlsaSet> {
        let pick = |records| {
            if let Records::Tlsa(all) = records { TlsaSet::from_rdata(&all) } else { TlsaSet::default() }
        };
        self.look_up(name, RecordType::Tlsa, trace).await.map(pick)
    }

    /// The IPv4 addresses at `name`, whatever they are good for.
    pub async fn ipv4(&self, name: &OwnerName, trace: &mut Trace) -> LookUp<Vec<IpAddr>> {
        let pick = |records| {
            if let Records::A(all) = records { all.into_iter().map(IpAddr::V4).collect() } else { Vec::new() }
        };
        self.look_up(name, RecordType::A, trace).await.map(pick)
    }

    /// The IPv6 addresses at `name`, whatever they are good for.
    pub async fn ipv6(&self, name: &OwnerName, trace: &mut Trace) -> LookUp<Vec<IpAddr>> {
        let pick = |records| {
            if let Records::Aaaa(all) = records {
                all.into_iter().map(IpAddr::V6).collect()
            } else {
                Vec::new()
            }
        };
        self.look_up(name, RecordType::Aaaa, trace).await.map(pick)
    }

    async fn look_up(&self, name: &OwnerName, rtype: RecordType, trace: &mut Trace) -> LookUp<Records> {
        match self.ask(Question::lenient(name.clone(), rtype), trace).await {
            Err(trouble) => LookUp::Trouble(trouble),
            Ok(answer) => LookUp::of(answer),
        }
    }

    /// Asks, and notes it.
    async fn ask(&self, question: Question, trace: &mut Trace) -> Result<Answer, DnsTrouble> {
        let result = self.dns.query(&question).await;
        trace.note(&question, &result);
        result
    }
}

/// What a question brought, with its verdict in the type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookUp<T> {
    /// Records, proven.
    Secure(Secure<T>),
    /// None, proven.
    Absent(Secure<Absence>),
    /// From a zone that is not signed: records, or the claim that there are none. Worth nothing where proof counts.
    Insecure(Option<T>),
    /// No answer that can be believed: try later.
    Trouble(DnsTrouble),
}

impl LookUp<Records> {
    fn of(answer: Answer) -> Self {
        if answer.verdict == Verdict::Insecure {
            return match answer.content {
                Content::Records(records) => Self::Insecure(Some(records)),
                Content::Absent(_) => Self::Insecure(None),
            };
        }
        let unproven = Self::Insecure(None);
        let Some(content) = answer.into_secure() else { return unproven };
        match content.get() {
            Content::Records(_) => content
                .try_derive(
                    |content| if let Content::Records(records) = content { Ok(records) } else { Err(()) },
                )
                .map_or(unproven, Self::Secure),
            Content::Absent(absence) => {
                let absence = *absence;
                Self::Absent(content.derive(|_| absence))
            }
        }
    }
}

impl<T> LookUp<T> {
    /// Only for readings of the records themselves.
    fn map<U>(self, read: impl FnOnce(T) -> U) -> LookUp<U> {
        match self {
            Self::Secure(value) => LookUp::Secure(value.derive(read)),
            Self::Absent(absence) => LookUp::Absent(absence),
            Self::Insecure(value) => LookUp::Insecure(value.map(read)),
            Self::Trouble(trouble) => LookUp::Trouble(trouble),
        }
    }
}
