//! Which terms apply to which link.

use std::sync::Arc;

use rustls_pki_types::CertificateDer;

use crate::model::{Digest, DomainName, IdentityRule, Level};

/// How a peer's keys are proven. One rule counts for a peer, and no other beside it (IDEN-012).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// By DNSSEC-secure TLSA records.
    Dane,
    /// By the SHA-256 of the public key.
    Pinned(Vec<Digest>),
    /// By an authority for this peer alone.
    FederationCa(Vec<CertificateDer<'static>>),
}

impl Identity {
    /// The rule, without its data.
    #[must_use]
    pub const fn rule(&self) -> IdentityRule {
        match self {
            Self::Dane => IdentityRule::Dane,
            Self::Pinned(_) => IdentityRule::Pinned,
            Self::FederationCa(_) => IdentityRule::FederationCa,
        }
    }
}

/// Which hosts belong to a configured peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Those of this mail domain's NTA record.
    Domain(DomainName),
    /// These.
    Hosts(Vec<DomainName>),
}

/// A peer with an entry of its own in the configuration.
#[derive(Debug, Clone)]
pub struct PeerEntry {
    /// Our name for it, unique.
    pub name: String,
    /// Which hosts are meant.
    pub scope: Scope,
    /// Lowest level admitted.
    pub floor: Level,
    /// How its keys are proven.
    pub identity: Identity,
}

impl PeerEntry {
    /// Whether the domain, or one of its hosts, falls under this entry.
    fn covers(&self, domain: &DomainName, hosts: &[DomainName]) -> bool {
        match &self.scope {
            Scope::Domain(own) => own == domain,
            Scope::Hosts(own) => hosts.iter().any(|host| own.contains(host)),
        }
    }
}

/// What must hold on one link.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The configured peer, when an entry applies.
    pub peer: Option<Arc<PeerEntry>>,
    /// The lowest level at which content may cross.
    pub floor: Level,
}

impl Terms {
    /// How the other side's key must be proven.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        self.peer.as_ref().map_or(&Identity::Dane, |peer| &peer.identity)
    }
}

/// The whole policy, from the configuration.
#[derive(Debug, Clone)]
pub struct Policy {
    floor: Level,
    peers: Vec<Arc<PeerEntry>>,
    weakened: Vec<String>,
}

impl Policy {
    /// `floor` applies where no entry does; `weakened` lists the lab settings in force.
    #[must_use]
    pub fn new(floor: Level, peers: Vec<PeerEntry>, weakened: Vec<String>) -> Self {
        Self { floor, peers: peers.into_iter().map(Arc::new).collect(), weakened }
    }

    /// The terms for mail to or from `domain` by way of `hosts`.
    #[must_use]
    pub fn terms(&self, domain: &DomainName, hosts: &[DomainName]) -> Terms {
        let peer = self.peers.iter().find(|peer| peer.covers(domain, hosts)).cloned();
        Terms { floor: peer.as_ref().map_or(self.floor, |peer| peer.floor), peer }
    }

    /// The entries whose keys are proven otherwise than by DANE: who knocks may be one of them.
    pub fn entries_with_own_rule(&self) -> impl Iterator<Item = &Arc<PeerEntry>> {
        self.peers.iter().filter(|peer| peer.identity != Identity::Dane)
    }

    /// The lowest floor in force anywhere: below it nobody needs to be heard out.
    #[must_use]
    pub fn lowest_floor(&self) -> Level {
        self.peers.iter().map(|peer| peer.floor).chain([self.floor]).min().unwrap_or(self.floor)
    }

    /// Lab settings in force, by key; every decision record carries them.
    #[must_use]
    pub fn weakened(&self) -> &[String] {
        &self.weakened
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn name(text: &str) -> DomainName {
        text.parse().unwrap()
    }

    fn entry(scope: Scope, floor: Level, identity: Identity) -> PeerEntry {
        PeerEntry { name: "b".into(), scope, floor, identity }
    }

    #[test]
    fn entry_applies_by_domain_or_by_host_and_the_floor_follows() {
        let by_host = entry(Scope::Hosts(vec![name("nta.b.nl")]), Level::Nta7516, Identity::Dane);
        let by_domain =
            entry(Scope::Domain(name("c.nl")), Level::Mutual, Identity::Pinned(vec![Digest::of(b"key")]));
        let policy = Policy::new(Level::Mutual, vec![by_host, by_domain], Vec::new());
        assert_eq!(policy.terms(&name("klant.nl"), &[name("nta.b.nl")]).floor, Level::Nta7516);
        assert_eq!(policy.terms(&name("klant.nl"), &[name("nta.x.nl")]).floor, Level::Mutual);
        assert_eq!(policy.terms(&name("c.nl"), &[]).identity().rule(), IdentityRule::Pinned);
        assert_eq!(policy.lowest_floor(), Level::Nta7516);
        assert_eq!(policy.entries_with_own_rule().count(), 1);
    }
}
