//! The road to a domain: its hosts one after the other, each only if its link meets the terms.
//!
//! `sluis explain` and every delivery walk the same road, so what the one prints is what the other does (REC-003).

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use super::refusal::Refusal;
use crate::config::{Config, Identity};
use crate::discovery::{Candidate, Discovery, Federation, Finding, Host, Trace};
use crate::model::{DecisionRecord, DomainName, HostFacts, PolicyFacts, Reason};
use crate::policy::{Policy, Terms};
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
    /// Our keys.
    pub tls: ClientTls,
    /// How we appear and how patient we are.
    pub client: ClientSettings,
    /// Links kept open.
    pub pool: Arc<Pool>,
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
    hosts: VecDeque<Host>,
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
        match finding {
            Finding::Federated(federation) => Ok(self.road(&federation, record)),
            Finding::NotFederated { reason, detail } | Finding::Temporary { reason, detail } => {
                Err(Refusal::new(reason, detail))
            }
        }
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
        let hosts = federation.hosts.iter().take(self.hosts_max).cloned().collect();
        Road { hosts, terms, failure: None }
    }

    /// Opens (or finds open) a link to the next host that meets the terms.
    ///
    /// # Errors
    /// No host is left; the first one's failure, since that is the host that should have served.
    pub async fn next(&self, road: &mut Road, record: &mut DecisionRecord) -> Result<Reached, Refusal> {
        while let Some(host) = road.hosts.pop_front() {
            let mut trace = Trace::new();
            let candidate = self.candidate(&host, &mut trace).await;
            record.discovery.dns.extend(trace.into_facts());
            let failure = match candidate {
                Ok(candidate) => match self.reach(&candidate, &road.terms, record).await {
                    Ok(reached) => return Ok(reached),
                    Err(failure) => failure,
                },
                Err(failure) => {
                    record.hosts.push(passed_over(&host, &failure));
                    failure
                }
            };
            road.failure.get_or_insert(failure);
        }
        Err(road.failure.clone().unwrap_or_else(|| Refusal::new(Reason::NoHosts, "no host is left")))
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
                    fit += 1;
                    let set = candidate.tlsa.get();
                    record.hosts.push(HostFacts {
                        host: host.name.to_string(),
                        preference: Some(host.preference),
                        address: candidate.addresses.first().map(|ip| format!("{ip}:{}", candidate.port)),
                        tlsa_base: Some(candidate.base.clone()),
                        tlsa: set.parameters(),
                        tlsa_unusable: set.unusable.len(),
                        ..HostFacts::default()
                    });
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

    /// A link to one of the candidate's addresses, at the floor or above it.
    async fn reach(
        &self,
        candidate: &Candidate,
        terms: &Terms,
        record: &mut DecisionRecord,
    ) -> Result<Reached, Refusal> {
        let mut failure = None;
        for &address in &candidate.addresses {
            let key = LinkKey::new(candidate, address, terms.floor, &self.tls);
            let session = match self.pool.take(&key).await {
                Some(session) => Ok(session),
                None => connect(candidate, address, &self.client, &self.tls, self.world.now()).await,
            };
            let entry = record.hosts.len();
            match session {
                Ok(session) => match self.meets(terms, &session, candidate) {
                    Ok(()) => {
                        record.hosts.push(session.facts().clone());
                        record.assurance = Some(session.level());
                        return Ok(Reached { session, key, entry });
                    }
                    Err(refusal) => {
                        let reason = Some(refusal.reason);
                        let detail = Some(refusal.detail.clone());
                        record.hosts.push(HostFacts { reason, detail, ..session.facts().clone() });
                        session.quit().await;
                        failure.get_or_insert(refusal);
                    }
                },
                Err(error) => {
                    failure.get_or_insert(Refusal::new(error.reason(), error.to_string()));
                    record.hosts.push(error.into_facts());
                }
            }
        }
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
