//! Which terms apply to which link.

use std::sync::Arc;

use crate::config::{Federation, Identity, Peer, Scope};
use crate::model::{DomainName, Level};

/// Whether the domain, or one of its hosts, falls under this entry.
fn covers(peer: &Peer, domain: &DomainName, hosts: &[DomainName]) -> bool {
    match &peer.scope {
        Scope::Domain(own) => own == domain,
        Scope::Hosts(own) => hosts.iter().any(|host| own.contains(host)),
    }
}

/// What must hold on one link.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The configured peer, when an entry applies.
    pub peer: Option<Arc<Peer>>,
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
    peers: Vec<Arc<Peer>>,
    weakened: Vec<String>,
}

impl Policy {
    /// The floor and the entries of the configuration; `weakened` lists the lab settings in force.
    #[must_use]
    pub fn new(federation: &Federation, weakened: Vec<String>) -> Self {
        let peers = federation.peers.iter().cloned().map(Arc::new).collect();
        Self { floor: federation.floor, peers, weakened }
    }

    /// The terms for mail to or from `domain` by way of `hosts`.
    #[must_use]
    pub fn terms(&self, domain: &DomainName, hosts: &[DomainName]) -> Terms {
        let peer = self.peers.iter().find(|peer| covers(peer, domain, hosts)).cloned();
        Terms { floor: peer.as_ref().map_or(self.floor, |peer| peer.floor), peer }
    }

    /// The entries whose keys are proven otherwise than by DANE: who knocks may be one of them.
    pub fn entries_with_own_rule(&self) -> impl Iterator<Item = &Arc<Peer>> {
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
    use crate::model::{Digest, IdentityRule};

    fn name(text: &str) -> DomainName {
        text.parse().unwrap()
    }

    fn entry(scope: Scope, floor: Level, identity: Identity) -> Peer {
        Peer { name: "b".into(), scope, floor, identity }
    }

    #[test]
    fn entry_applies_by_domain_or_by_host_and_the_floor_follows() {
        let by_host = entry(Scope::Hosts(vec![name("nta.b.nl")]), Level::Nta7516, Identity::Dane);
        let by_domain =
            entry(Scope::Domain(name("c.nl")), Level::Mutual, Identity::Pinned(vec![Digest::of(b"key")]));
        let federation =
            Federation { listen: Vec::new(), floor: Level::Mutual, peers: vec![by_host, by_domain] };
        let policy = Policy::new(&federation, Vec::new());
        assert_eq!(policy.terms(&name("klant.nl"), &[name("nta.b.nl")]).floor, Level::Nta7516);
        assert_eq!(policy.terms(&name("klant.nl"), &[name("nta.x.nl")]).floor, Level::Mutual);
        assert_eq!(policy.terms(&name("c.nl"), &[]).identity().rule(), IdentityRule::Pinned);
        assert_eq!(policy.lowest_floor(), Level::Nta7516);
        assert_eq!(policy.entries_with_own_rule().count(), 1);
    }
}
