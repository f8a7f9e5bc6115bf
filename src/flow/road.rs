//! The road to a domain: its hosts one after the other, each only if its link meets the terms.
//!
//! `sluis explain` and every delivery walk the same road, so what the one prints is what the other does (REC-003).

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::breaker::{Breakers, Post};
use super::location::{Located, is_about_place, locate};
use super::refusal::Refusal;
use crate::config::{Config, Identity, Location};
use crate::discovery::{Candidate, Discovery, Federation, Finding, Host, Trace};
use crate::model::{DecisionRecord, Digest, DomainName, HostFacts, LocationFacts, PolicyFacts, Reason};
use crate::policy::{Policy, Terms, Way};
use crate::spool::Route;
use crate::transport::smtp::client::{ClientSettings, LinkKey, Pool, Session, connect};
use crate::transport::tls::{
    Authorities, ClientJudgement, ClientRule, ClientTls, Pins, Presented, judge_client,
};
use crate::world::World;

/// What it takes to reach peers.
pub struct Roads {
    /// Time and chance.
    pub world: World,
    /// Who they are.
    pub discovery: Arc<Discovery>,
    /// What must hold.
    pub policy: Arc<Policy>,
    /// Where servers stand; `None`: not looked at.
    pub location: Option<Location>,
    /// Our keys.
    pub tls: ClientTls,
    /// How we appear and how patient we are.
    pub client: ClientSettings,
    /// Links kept open.
    pub pool: Arc<Pool>,
    /// Which hosts are worth a try.
    pub breakers: Arc<Breakers>,
    /// Port of peers.
    pub port: u16,
    /// Hosts tried in one attempt (SMTP-024).
    pub hosts_max: usize,
    /// Addresses on which we listen ourselves (DISC-016).
    pub own_addresses: Vec<IpAddr>,
}

/// A link that meets its terms, ready for content.
pub struct Reached {
    /// The link.
    pub session: Session,
    /// Its terms, under which it may be kept.
    pub key: LinkKey,
    /// Position of its host in the record.
    pub entry: usize,
}

/// The hosts still to be tried.
pub struct Road {
    route: Route,
    hosts: VecDeque<Host>,
    /// All of them, as the breakers know them.
    posts: Vec<Post>,
    terms: Terms,
    failure: Option<Refusal>,
}

impl Roads {
    /// Finds out whether `domain` takes part, on which terms, and through which hosts.
    ///
    /// # Errors
    /// It does not, or nobody can tell now. The record has what was seen.
    pub async fn find(&self, domain: &DomainName, record: &mut DecisionRecord) -> Result<Road, Refusal> {
        record.peer_domain = Some(domain.clone());
        record.policy.weakened = self.policy.weakened().to_vec();
        let mut trace = Trace::new();
        let finding = self.discovery.federation(domain, &mut trace).await;
        record.discovery = finding.facts();
        record.discovery.dns = trace.into_facts();
        let route = Route::Federation(domain.clone());
        match finding {
            Finding::Federated(federation) => Ok(self.road(&federation, record)),
            Finding::NotFederated { reason, detail } => {
                self.breakers.answered(&[Post::of(&route)], &route, self.world.now());
                Err(Refusal::new(reason, detail))
            }
            Finding::Temporary { reason, detail } => {
                self.failed(&Post::of(&route), &route, reason);
                self.no_link(&route, &[], reason);
                Err(Refusal::new(reason, detail))
            }
        }
    }

    fn failed(&self, post: &Post, route: &Route, reason: Reason) {
        self.breakers.failed(post, route, reason, self.world.now(), self.world.random.next());
    }

    fn no_link(&self, route: &Route, hosts: &[Post], reason: Reason) {
        self.breakers.no_link(route, hosts, reason, self.world.now(), self.world.random.next());
    }

    fn road(&self, federation: &Federation, record: &mut DecisionRecord) -> Road {
        let names: Vec<_> = federation.hosts.iter().map(|host| host.name.clone()).collect();
        let terms = self.policy.terms(&federation.domain, &names);
        record.policy = PolicyFacts {
            floor: Some(terms.floor),
            rule: Some(terms.identity().rule()),
            peer: terms.peer.as_ref().map(|peer| peer.name.clone()),
            weakened: self.policy.weakened().to_vec(),
        };
        let hosts: VecDeque<_> = federation.hosts.iter().take(self.hosts_max).cloned().collect();
        let posts = hosts.iter().map(|host| Post::Host(host.name.clone())).collect();
        Road { route: Route::Federation(federation.domain.clone()), hosts, posts, terms, failure: None }
    }

    /// Opens (or finds open) a link to the next host that meets the terms.
    ///
    /// # Errors
    /// No host is left; the first one's failure, since that is the host that should have served.
    pub async fn next(&self, road: &mut Road, record: &mut DecisionRecord) -> Result<Reached, Refusal> {
        while let Some(host) = road.hosts.pop_front() {
            let post = Post::Host(host.name.clone());
            let failure = match self.breakers.ask(&post, &road.route, self.world.now()) {
                Ok(()) => match self.host(&host, &road.terms, record).await {
                    Ok(reached) => {
                        self.breakers.reached(&post, &road.route, self.world.now());
                        return Ok(reached);
                    }
                    Err(failure) => {
                        self.blame(post, &road.route, failure.reason);
                        failure
                    }
                },
                Err(resting) => {
                    record.hosts.push(passed_over(&host, &resting));
                    resting
                }
            };
            road.failure.get_or_insert(failure);
        }
        let failure = road.failure.clone();
        let failure = failure.unwrap_or_else(|| Refusal::new(Reason::NoHosts, "no host is left"));
        self.no_link(&road.route, &road.posts, failure.reason);
        Err(failure)
    }

    /// One host: its addresses and keys, and a link to it.
    async fn host(
        &self,
        host: &Host,
        terms: &Terms,
        record: &mut DecisionRecord,
    ) -> Result<Reached, Refusal> {
        let mut trace = Trace::new();
        let candidate = self.candidate(host, &mut trace).await;
        record.discovery.dns.extend(trace.into_facts());
        match candidate {
            Ok(candidate) => self.reach(&candidate, terms, record).await,
            Err(failure) => {
                record.hosts.push(passed_over(host, &failure));
                Err(failure)
            }
        }
    }

    /// Who is to rest for a failure: the host, or, where it answers and only this domain's terms are not met, the domain.
    fn blame(&self, post: Post, route: &Route, reason: Reason) {
        match reason {
            Reason::ClientCertificateNotRequested | Reason::PinMismatch => {
                self.breakers.answered(&[post], route, self.world.now());
                self.failed(&Post::of(route), route, reason);
            }
            // The host was not asked, and another domain's terms may admit it.
            reason if is_about_place(reason) => self.failed(&Post::of(route), route, reason),
            _ => self.failed(&post, route, reason),
        }
    }

    /// What DNS says about a domain, its hosts and their keys, as a digest: two that differ mean that something changed.
    /// `None` when some of it cannot be believed now.
    pub(super) async fn print(&self, domain: &DomainName) -> Option<Digest> {
        let mut trace = Trace::new();
        let federation = match self.discovery.federation(domain, &mut trace).await {
            Finding::Federated(federation) => federation,
            Finding::NotFederated { reason, .. } => return Some(Digest::of(reason.as_str().as_bytes())),
            Finding::Temporary { .. } => return None,
        };
        let mut lines = Vec::new();
        for host in &federation.hosts {
            let said = match self.discovery.candidate(host, self.port, &mut trace).await {
                Ok(mut candidate) => {
                    candidate.addresses.sort_unstable();
                    format!("{:?} {:?}", candidate.addresses, candidate.tlsa.get())
                }
                Err(problem) if is_doubt(problem.reason) => return None,
                Err(problem) => problem.reason.to_string(),
            };
            lines.push(format!("{} {} {said}", host.name, host.preference));
        }
        // Hosts of equal preference come in any order.
        lines.sort_unstable();
        Some(Digest::of(lines.join("\n").as_bytes()))
    }

    /// As far as DNS goes: every host with its addresses and keys, no connection.
    ///
    /// # Errors
    /// None of the hosts could be connected to.
    pub async fn look(&self, road: &mut Road, record: &mut DecisionRecord) -> Result<(), Refusal> {
        let mut fit = 0;
        while let Some(host) = road.hosts.pop_front() {
            let mut trace = Trace::new();
            let candidate = self.candidate(&host, &mut trace).await;
            record.discovery.dns.extend(trace.into_facts());
            match candidate {
                Ok(candidate) => {
                    let (admitted, refusal) = self.admitted(&candidate, &road.terms, record);
                    match (admitted.first(), refusal) {
                        (None, Some(refusal)) => {
                            road.failure.get_or_insert(refusal);
                        }
                        (first, _) => {
                            fit += 1;
                            let address = first.map(|(address, _)| *address);
                            let location = first.and_then(|(_, location)| location.clone());
                            record.hosts.push(HostFacts { location, ..host_facts(&candidate, address) });
                        }
                    }
                }
                Err(failure) => {
                    record.hosts.push(passed_over(&host, &failure));
                    road.failure.get_or_insert(failure);
                }
            }
        }
        match road.failure.take() {
            Some(failure) if fit == 0 => Err(failure),
            _ => Ok(()),
        }
    }

    async fn candidate(&self, host: &Host, trace: &mut Trace) -> Result<Candidate, Refusal> {
        if host.name == self.client.name {
            return Err(Refusal::new(Reason::HostIsSelf, format!("{} is this node", host.name)));
        }
        let candidate = self
            .discovery
            .candidate(host, self.port, trace)
            .await
            .map_err(|problem| Refusal::new(problem.reason, problem.detail))?;
        match candidate.addresses.iter().find(|address| self.own_addresses.contains(address)) {
            Some(own) => {
                let detail = format!("{} has the address {own} of this node", host.name);
                Err(Refusal::new(Reason::HostIsSelf, detail))
            }
            None => Ok(candidate),
        }
    }

    /// The addresses at which the terms let the candidate stand, each with its place; and why the first of the others was
    /// passed over. Nothing is sent to those, not even a greeting (LOCA-004, LOCA-005).
    fn admitted(
        &self,
        candidate: &Candidate,
        terms: &Terms,
        record: &mut DecisionRecord,
    ) -> (Vec<(IpAddr, Option<LocationFacts>)>, Option<Refusal>) {
        let (mut admitted, mut first) = (Vec::new(), None);
        for &address in &candidate.addresses {
            let located = locate(self.location.as_ref(), terms.location, address, Way::Out);
            match located.as_ref().and_then(Located::refusal) {
                None => admitted.push((
                    address,
                    located.map(|located| {
                        located.warn(record);
                        located.facts
                    }),
                )),
                Some(refusal) => {
                    record.hosts.push(HostFacts {
                        location: located.map(|located| located.facts),
                        reason: Some(refusal.reason),
                        detail: Some(refusal.detail.clone()),
                        ..host_facts(candidate, Some(address))
                    });
                    first.get_or_insert(refusal);
                }
            }
        }
        (admitted, first)
    }

    /// A link to one of the candidate's addresses, at the floor or above it.
    async fn reach(
        &self,
        candidate: &Candidate,
        terms: &Terms,
        record: &mut DecisionRecord,
    ) -> Result<Reached, Refusal> {
        let (admitted, passed_over) = self.admitted(candidate, terms, record);
        let mut failure = None;
        for (address, location) in admitted {
            let key = LinkKey::new(candidate, address, terms.floor, &self.tls);
            let session = match self.pool.take(&key).await {
                Some(session) => Ok(session),
                None => connect(candidate, address, &self.client, &self.tls, &self.world).await,
            };
            let entry = record.hosts.len();
            match session {
                Ok(session) => match self.meets(terms, &session, candidate) {
                    Ok(()) => {
                        record.hosts.push(HostFacts { location, ..session.facts().clone() });
                        record.assurance = Some(session.level());
                        return Ok(Reached { session, key, entry });
                    }
                    Err(refusal) => {
                        let reason = Some(refusal.reason);
                        let detail = Some(refusal.detail.clone());
                        record.hosts.push(HostFacts { location, reason, detail, ..session.facts().clone() });
                        session.quit().await;
                        failure.get_or_insert(refusal);
                    }
                },
                Err(error) => {
                    failure.get_or_insert(Refusal::new(error.reason(), error.to_string()));
                    record.hosts.push(HostFacts { location, ..error.into_facts() });
                }
            }
        }
        // What went wrong at an address that was tried says more about the host than that another one was not.
        let failure = failure.or(passed_over);
        Err(failure.unwrap_or_else(|| Refusal::new(Reason::HostNoAddress, "no address")))
    }

    /// Whether a link that DANE authenticated meets the terms: its level, and the key that is configured for this peer.
    fn meets(&self, terms: &Terms, session: &Session, candidate: &Candidate) -> Result<(), Refusal> {
        if session.level() < terms.floor {
            let detail = format!("this link reaches {}, the floor is {}", session.level(), terms.floor);
            return Err(Refusal::new(Reason::ClientCertificateNotRequested, detail));
        }
        let shown = Presented::from_handshake(session.handshake());
        let (names, now) = ([candidate.host.name.clone()], self.world.now());
        let judgement = match terms.identity() {
            Identity::Dane => return Ok(()),
            Identity::Pinned(keys) => {
                judge_client(&shown, ClientRule::Pinned(&Pins::new(keys.clone()), &names), now)
            }
            Identity::FederationCa(roots) => match Authorities::from_der(roots) {
                Ok(roots) => judge_client(&shown, ClientRule::FederationCa(&roots, &names), now),
                Err(error) => return Err(Refusal::new(Reason::LocalFault, error.to_string())),
            },
        };
        match judgement {
            ClientJudgement::Proven(_) => Ok(()),
            ClientJudgement::Temporary(detail) | ClientJudgement::Failed(_, detail) => {
                Err(Refusal::new(Reason::PinMismatch, detail))
            }
            ClientJudgement::Absent | ClientJudgement::Unclaimed => {
                Err(Refusal::new(Reason::PinMismatch, "the server shows no certificate that can be judged"))
            }
        }
    }
}

/// Whether DNS gave nothing that can be believed.
const fn is_doubt(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::DnsBogus
            | Reason::DnsServfail
            | Reason::DnsTimeout
            | Reason::DnsRefused
            | Reason::DnsRootKey
            | Reason::DnsAliasChain
    )
}

/// What DNS says of a host that could be connected to.
fn host_facts(candidate: &Candidate, address: Option<IpAddr>) -> HostFacts {
    let set = candidate.tlsa.get();
    HostFacts {
        host: candidate.host.name.to_string(),
        preference: Some(candidate.host.preference),
        address: address.map(|ip| SocketAddr::new(ip, candidate.port).to_string()),
        tlsa_base: Some(candidate.base.clone()),
        tlsa: set.parameters(),
        tlsa_unusable: set.unusable.len(),
        ..HostFacts::default()
    }
}

fn passed_over(host: &Host, failure: &Refusal) -> HostFacts {
    HostFacts {
        host: host.name.to_string(),
        preference: Some(host.preference),
        reason: Some(failure.reason),
        detail: Some(failure.detail.clone()),
        ..HostFacts::default()
    }
}

/// The addresses on which a configuration listens for peers; an unspecified one names none.
pub(super) fn own_addresses(config: &Config) -> Vec<IpAddr> {
    config.federation.listen.iter().map(std::net::SocketAddr::ip).filter(|ip| !ip.is_unspecified()).collect()
}
