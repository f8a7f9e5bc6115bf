//! The record of a transaction with a client: exactly one, however it ends (REC-001).

use std::net::SocketAddr;

use super::node::Node;
use super::refusal::Refusal;
use crate::model::{
    Address, DecisionRecord, Direction, DiscoveryFacts, DomainName, HostFacts, Outcome, PolicyFacts, Reason,
    RecipientResult,
};
use crate::transport::smtp::Reply;
use crate::transport::smtp::command::Mail;

/// A record that is still being written. Dropped, it is stored as it stands.
pub(super) struct Ledger {
    pub(super) record: DecisionRecord,
    node: Node,
    open: bool,
}

impl Ledger {
    /// Begins the record of a transaction.
    pub(super) fn open(node: &Node, direction: Direction) -> Self {
        let world = &node.inner.world;
        let mut record = DecisionRecord::begin(world.attempt_id(), direction, world.now());
        record.policy.weakened = node.live().policy.weakened().to_vec();
        Self { record, node: node.clone(), open: true }
    }

    /// The record of a transaction that was asked for before STARTTLS, where none begins (SMTP-001).
    pub(super) fn in_clear(
        node: &Node,
        direction: Direction,
        from: SocketAddr,
        helo: &str,
        mail: &Mail,
    ) -> Self {
        let mut ledger = Self::open(node, direction);
        ledger.record.sender = Some(mail.sender.to_string());
        let (host, address) = (helo.to_owned(), Some(from.to_string()));
        ledger.record.hosts.push(HostFacts { host, address, ..HostFacts::default() });
        ledger
    }

    /// A domain was judged.
    pub(super) fn judged(&mut self, domain: &DomainName, discovery: DiscoveryFacts, policy: PolicyFacts) {
        let mut dns = std::mem::take(&mut self.record.discovery.dns);
        dns.extend(discovery.dns);
        self.record.peer_domain = Some(domain.clone());
        self.record.discovery = DiscoveryFacts { dns, ..discovery };
        self.record.policy = policy;
    }

    /// A recipient was judged.
    pub(super) fn recipient(&mut self, address: &Address, refusal: Option<&Refusal>) {
        let Some(refusal) = refusal else { return };
        let reply = refusal.reply();
        self.record.recipients.push(RecipientResult {
            address: address.clone(),
            outcome: Outcome::Refused,
            code: Some(reply.code_text()),
            text: reply.lines().first().cloned(),
        });
        if self.record.reason.is_none() {
            refusal.enter(&mut self.record, Outcome::Refused);
        }
    }

    /// The transaction is refused: stores the record and gives the reply.
    pub(super) fn refuse(&mut self, refusal: &Refusal) -> Reply {
        let reply = refusal.reply();
        self.refuse_with(refusal, reply)
    }

    /// As [`Self::refuse`], with a reply of its own wording.
    pub(super) fn refuse_with(&mut self, refusal: &Refusal, reply: Reply) -> Reply {
        refusal.enter(&mut self.record, Outcome::Refused);
        if let Some(host) = self.record.hosts.first_mut() {
            host.code = Some(reply.code_text());
        }
        self.close();
        reply
    }

    /// The transaction is accepted: the record goes into the commit of the message.
    pub(super) fn accept(&mut self) -> DecisionRecord {
        self.record.outcome = Outcome::Accepted;
        self.record.reason = None;
        self.record.requirement = None;
        self.record.acts = None;
        self.record.detail = None;
        self.stamp();
        self.open = false;
        self.record.clone()
    }

    /// The commit of the acceptance failed: the record is open again.
    pub(super) fn reopen(&mut self) {
        self.record.message = None;
        self.record.assurance = None;
        self.open = true;
    }

    /// The session refused the content, or lost its client.
    pub(super) fn abandon(&mut self, why: &Reply) {
        let text = why.lines().join(" ");
        let named = Reason::ALL.iter().find(|reason| text.contains(&format!(" {reason}: ")));
        match named {
            Some(&reason) => Refusal::new(reason, text).enter(&mut self.record, Outcome::Refused),
            None => {
                self.record.outcome = if why.is_permanent() { Outcome::Refused } else { Outcome::Abandoned };
                self.record.detail = Some(text);
            }
        }
        self.close();
    }

    fn stamp(&mut self) {
        let elapsed = self.node.inner.world.now().duration_since(self.record.started);
        self.record.duration_ms = u64::try_from(elapsed.as_millis()).unwrap_or(0);
    }

    fn close(&mut self) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        self.stamp();
        self.node.note(self.record.clone());
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        if self.open && self.record.outcome == Outcome::Unknown {
            self.record.outcome = Outcome::Abandoned;
        }
        self.close();
    }
}
