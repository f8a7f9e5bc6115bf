//! Who is knocking: from a finished handshake to a client identity, once per session.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::node::Node;
use super::standing::hosts;
use crate::config::{Identity, Peer, Scope};
use crate::discovery::Trace;
use crate::model::{DnsFact, DomainName, HostFacts, IdentityRule, Level, Reason, TlsFacts};
use crate::policy::{Client, Policy};
use crate::transport::VerifiedPeer;
use crate::transport::smtp::server::SecuredSession;
use crate::transport::tls::{Authorities, ClientJudgement, ClientRule, Pins, Presented, judge_client};

/// A client after its handshake, judged.
#[derive(Clone)]
pub struct Knock {
    /// Where it connects from.
    pub(super) remote: SocketAddr,
    /// What it proved.
    pub(super) client: Client,
    /// The proof, when there is one.
    pub(super) proven: Option<VerifiedPeer>,
    /// What exactly was seen, when it proved nothing.
    pub(super) detail: String,
    tls: TlsFacts,
    dns: Vec<DnsFact>,
}

impl Knock {
    /// What goes into the record about this client, under the name it gave in EHLO.
    pub(super) fn facts(&self, helo: &str) -> HostFacts {
        HostFacts {
            host: helo.to_owned(),
            address: Some(self.remote.to_string()),
            tls: Some(self.tls.clone()),
            proven_names: self.names().to_vec(),
            ..HostFacts::default()
        }
    }

    /// The questions asked about its names.
    pub(super) fn dns(&self) -> &[DnsFact] {
        &self.dns
    }

    /// The names it proved.
    pub(super) fn names(&self) -> &[DomainName] {
        self.proven.as_ref().map_or(&[], VerifiedPeer::names)
    }

    /// The rule that proved them.
    pub(super) fn rule(&self) -> Option<IdentityRule> {
        self.proven.as_ref().map(VerifiedPeer::rule)
    }

    /// Its address without port.
    pub(super) fn ip(&self) -> IpAddr {
        self.remote.ip()
    }

    /// The EHLO keyword that tells the client what it proved (IDEN-004).
    pub(super) fn keyword(&self) -> Option<String> {
        let names: Vec<_> = self.names().iter().map(DomainName::as_str).collect();
        (!names.is_empty()).then(|| format!("XPEERLEVEL {} {}", Level::Mutual, names.join(" ")))
    }
}

/// Judges the client of a session by the one rule that applies to it (IDEN-012).
pub(super) async fn knock(node: &Node, policy: &Policy, session: &SecuredSession) -> Knock {
    let presented = Presented::from_handshake(&session.tls);
    let now = node.inner.world.now();
    let mut trace = Trace::new();
    let judgement = match claimed_entry(node, policy, &presented, &mut trace).await {
        Some((peer, names)) => match &peer.identity {
            Identity::Pinned(keys) => {
                judge_client(&presented, ClientRule::Pinned(&Pins::new(keys.clone()), &names), now)
            }
            Identity::FederationCa(roots) => match Authorities::from_der(roots) {
                Ok(authorities) => {
                    judge_client(&presented, ClientRule::FederationCa(&authorities, &names), now)
                }
                Err(error) => ClientJudgement::Temporary(error.to_string()),
            },
            Identity::Dane => by_dane(node, &presented, &mut trace).await,
        },
        None => by_dane(node, &presented, &mut trace).await,
    };
    let mut tls = session.tls.to_record();
    let reason = judgement.reason();
    let (client, proven, detail) = match judgement {
        ClientJudgement::Proven(peer) => {
            tls.authenticated_by = Some(peer.evidence().to_owned());
            (Client::Proven(peer.names().to_vec()), Some(peer), String::new())
        }
        ClientJudgement::Absent | ClientJudgement::Unclaimed => {
            let reason = reason.unwrap_or(Reason::ClientIdentityAbsent);
            (Client::Unidentified(reason), None, reason.sentence().trim().to_owned())
        }
        ClientJudgement::Temporary(detail) => (Client::Failed(Reason::ClientIdentityTemporary), None, detail),
        ClientJudgement::Failed(reason, detail) => (Client::Failed(reason), None, detail),
    };
    Knock { remote: session.remote, client, proven, detail, tls, dns: trace.into_facts() }
}

/// The configured peer with a rule of its own that the certificate's names belong to, and the names it may prove.
async fn claimed_entry(
    node: &Node,
    policy: &Policy,
    presented: &Presented,
    trace: &mut Trace,
) -> Option<(Arc<Peer>, Vec<DomainName>)> {
    let Presented::Certificate(shown) = presented else { return None };
    let claimed = shown.names().ok()?;
    for peer in policy.entries_with_own_rule() {
        let names = match &peer.scope {
            Scope::Hosts(names) => names.clone(),
            Scope::Domain(domain) => hosts(&node.inner.discovery.federation(domain, trace).await),
        };
        if claimed.iter().any(|name| names.contains(name)) {
            return Some((Arc::clone(peer), names));
        }
    }
    None
}

async fn by_dane(node: &Node, presented: &Presented, trace: &mut Trace) -> ClientJudgement {
    let mut records = Vec::new();
    if let Presented::Certificate(shown) = presented {
        for name in shown.names().unwrap_or_default() {
            let found = node.inner.discovery.client_tlsa(&name, trace).await;
            records.push((name, found));
        }
    }
    judge_client(presented, ClientRule::Dane(&records), node.inner.world.now())
}
