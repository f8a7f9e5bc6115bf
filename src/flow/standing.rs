//! What DNS says about a domain for which somebody wants to speak.

use super::node::Node;
use super::refusal::Refusal;
use crate::discovery::{ClientTlsa, Federation, Finding, Trace};
use crate::model::{DiscoveryFacts, DomainName, Level, LocationRule, PolicyFacts, Reason};
use crate::policy::{Client, ClientKeys, Policy, SenderVerdict, Standing, judge_sender};

/// A domain, judged for one client.
pub(super) struct Judged {
    pub(super) verdict: Result<Allowed, Refusal>,
    pub(super) discovery: DiscoveryFacts,
    pub(super) policy: PolicyFacts,
    /// What follows from where the client stands.
    pub(super) location: LocationRule,
}

/// How the client may speak for the domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowed {
    /// As one of its hosts.
    Mutual,
    /// If the message proves the domain.
    ByMessage,
    /// If the `From:` domain, which is at or above it, allows it.
    ByFrom,
}

/// Looks `domain` up and judges whether `client` may speak for it.
pub(super) async fn judge_domain(
    node: &Node,
    policy: &Policy,
    client: &Client,
    domain: &DomainName,
) -> Judged {
    let mut trace = Trace::new();
    let finding = node.inner.discovery.federation(domain, &mut trace).await;
    let hosts = hosts(&finding);
    let terms = policy.terms(domain, &hosts);
    let (standing, detail) = standing(node, client, finding.clone(), terms.floor, &mut trace).await;
    let verdict = match judge_sender(client, &standing, terms.floor) {
        SenderVerdict::Mutual => Ok(Allowed::Mutual),
        SenderVerdict::ByMessage => Ok(Allowed::ByMessage),
        SenderVerdict::ByFrom => Ok(Allowed::ByFrom),
        SenderVerdict::Refused(reason) => Err(Refusal::new(reason, format!("{domain}: {detail}"))),
    };
    let mut discovery = finding.facts();
    discovery.dns = trace.into_facts();
    let policy = PolicyFacts {
        floor: Some(terms.floor),
        rule: Some(terms.identity().rule()),
        peer: terms.peer.as_ref().map(|peer| peer.name.clone()),
        weakened: policy.weakened().to_vec(),
    };
    Judged { verdict, discovery, policy, location: terms.location }
}

/// The names of a federated domain's hosts.
pub(super) fn hosts(finding: &Finding) -> Vec<DomainName> {
    match finding {
        Finding::Federated(federation) => names(federation),
        Finding::NotFederated { .. } | Finding::Temporary { .. } => Vec::new(),
    }
}

fn names(federation: &Federation) -> Vec<DomainName> {
    federation.hosts.iter().map(|host| host.name.clone()).collect()
}

async fn standing(
    node: &Node,
    client: &Client,
    finding: Finding,
    floor: Level,
    trace: &mut Trace,
) -> (Standing, String) {
    match finding {
        Finding::NotFederated { reason: reason @ (Reason::RecordAbsent | Reason::DomainUnknown), detail } => {
            (Standing::NoRecord(reason), detail)
        }
        Finding::NotFederated { reason, detail } => {
            (Standing::Excluded(reason), format!("{reason}: {detail}"))
        }
        Finding::Temporary { reason, detail } => (Standing::Temporary(reason), format!("{reason}: {detail}")),
        Finding::Federated(federation) => {
            let hosts = names(&federation);
            let (client_keys, seen) = match client {
                Client::Unidentified(_) if floor < Level::Mutual => client_keys(node, &hosts, trace).await,
                _ => (ClientKeys::NotPublished, String::new()),
            };
            let listed: Vec<_> = hosts.iter().map(ToString::to_string).collect();
            let detail = if seen.is_empty() { format!("its hosts are {}", listed.join(", ")) } else { seen };
            (Standing::Federated { hosts, client_keys }, detail)
        }
    }
}

/// Whether any of the hosts publishes keys for clients. One that does decides; otherwise one that cannot be asked does
/// (IDEN-011).
async fn client_keys(node: &Node, hosts: &[DomainName], trace: &mut Trace) -> (ClientKeys, String) {
    let mut unknown = None;
    for host in hosts {
        match node.inner.discovery.client_tlsa(host, trace).await {
            ClientTlsa::Published(_) => {
                return (ClientKeys::Published, format!("{host} publishes client keys"));
            }
            ClientTlsa::Temporary { reason, detail } => unknown = Some(format!("{host}: {reason}: {detail}")),
            ClientTlsa::Absent | ClientTlsa::Insecure => {}
        }
    }
    unknown.map_or((ClientKeys::NotPublished, String::new()), |detail| (ClientKeys::Unknown, detail))
}
