//! Which terms apply to which link.

use std::sync::Arc;

use crate::config::{Federation, Identity, Peer, Scope};
use crate::model::{DomainName, Level, LocationRule};

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
    /// What follows from where the other side's server stands.
    pub location: LocationRule,
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
    location: LocationRule,
    weakened: Vec<String>,
}

impl Policy {
    /// The floor and the entries of the configuration; `location` is the rule for all (without a table: any place), and
    /// `weakened` lists the lab settings in force.
    #[must_use]
    pub fn new(federation: &Federation, location: LocationRule, weakened: Vec<String>) -> Self {
        let peers = federation.peers.iter().cloned().map(Arc::new).collect();
        Self { floor: federation.floor, peers, location, weakened }
    }

    /// The terms for mail to or from `domain` by way of `hosts`.
    #[must_use]
    pub fn terms(&self, domain: &DomainName, hosts: &[DomainName]) -> Terms {
        let peer = self.peers.iter().find(|peer| covers(peer, domain, hosts)).cloned();
        Terms {
            floor: peer.as_ref().map_or(self.floor, |peer| peer.floor),
            location: peer.as_ref().and_then(|peer| peer.location).unwrap_or(self.location),
            peer,
        }
    }

    /// The rule about places where no peer's entry says otherwise.
    #[must_use]
    pub const fn location(&self) -> LocationRule {
        self.location
    }

    /// Whether a server outside could be admitted: by the rule for all, or by some peer's entry.
    #[must_use]
    pub fn admits_outside(&self) -> bool {
        self.location != LocationRule::Enforce
            || self.peers.iter().any(|peer| peer.location == Some(LocationRule::Any))
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
        Peer { name: "b".into(), scope, floor, identity, location: None }
    }

    #[test]
    fn entry_applies_by_domain_or_by_host_and_the_floor_follows() {
        let by_host = entry(Scope::Hosts(vec![name("nta.b.nl")]), Level::Nta7516, Identity::Dane);
        let by_domain =
            entry(Scope::Domain(name("c.nl")), Level::Mutual, Identity::Pinned(vec![Digest::of(b"key")]));
        let federation =
            Federation { listen: Vec::new(), floor: Level::Mutual, peers: vec![by_host, by_domain] };
        let policy = Policy::new(&federation, LocationRule::Any, Vec::new());
        assert_eq!(policy.terms(&name("klant.nl"), &[name("nta.b.nl")]).floor, Level::Nta7516);
        assert_eq!(policy.terms(&name("klant.nl"), &[name("nta.x.nl")]).floor, Level::Mutual);
        assert_eq!(policy.terms(&name("c.nl"), &[]).identity().rule(), IdentityRule::Pinned);
        assert_eq!(policy.lowest_floor(), Level::Nta7516);
        assert_eq!(policy.entries_with_own_rule().count(), 1);
    }

    /// Proves: +LOCA-007 -LOCA-007
    #[test]
    fn a_peers_own_rule_about_places_counts_before_the_general_one() {
        use LocationRule::{Any, Enforce, Observe};
        let peer = |name: &str, location| {
            let scope = Scope::Domain(self::name(name));
            Peer { location, ..entry(scope, Level::Mutual, Identity::Dane) }
        };
        let peers = vec![peer("any.nl", Some(Any)), peer("eea.nl", Some(Enforce)), peer("same.nl", None)];
        let federation = Federation { listen: Vec::new(), floor: Level::Mutual, peers };
        for general in [Any, Observe, Enforce] {
            let policy = Policy::new(&federation, general, Vec::new());
            let rules =
                ["any.nl", "eea.nl", "same.nl", "else.nl"].map(|n| policy.terms(&name(n), &[]).location);
            assert_eq!(rules, [Any, Enforce, general, general]);
            assert!(policy.admits_outside());
        }
        let strict = Federation { listen: Vec::new(), floor: Level::Mutual, peers: Vec::new() };
        assert!(!Policy::new(&strict, Enforce, Vec::new()).admits_outside());
        assert!(Policy::new(&strict, Observe, Vec::new()).admits_outside());
    }
}
