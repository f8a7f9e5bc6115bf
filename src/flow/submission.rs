//! Mail from our own environment: is it a client of ours, is the sender one of its domains, does each recipient's
//! provider take part, is it on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use async_trait::async_trait;

use super::intake::{Complete, Intake, Keep, accepted_reply};
use super::ledger::Ledger;
use super::node::Node;
use super::refusal::Refusal;
use crate::config::{Client, OwnDomainRule, Temporary};
use crate::discovery::{Finding, Trace};
use crate::handoff::accept::{client_of, may_send_as};
use crate::model::{
    Digest, Direction, DomainName, Envelope, HostFacts, Reason, Recipient, ReversePath, TlsFacts,
};
use crate::spool::{Accepted, Arrival, NewMessage, Origin, Route};
use crate::transport::smtp::Reply;
use crate::transport::smtp::command::Mail;
use crate::transport::smtp::server::{Content, Gate, SecuredSession};

/// The gate for our own environment.
pub struct SubmissionGate {
    node: Node,
}

impl SubmissionGate {
    /// The gate of `node`.
    #[must_use]
    pub const fn new(node: Node) -> Self {
        Self { node }
    }

    /// The record of a transaction that begins with this MAIL.
    fn ledger(&self, peer: &Submitter, helo: &str, mail: &Mail) -> Ledger {
        let mut ledger = Ledger::open(&self.node, Direction::Submission);
        ledger.record.sender = Some(mail.sender.to_string());
        ledger.record.hosts.push(HostFacts {
            host: helo.to_owned(),
            address: Some(peer.remote.to_string()),
            tls: Some(peer.tls.clone()),
            ..HostFacts::default()
        });
        ledger
    }
}

/// Somebody on the submission listener.
pub struct Submitter {
    remote: SocketAddr,
    key: Option<Digest>,
    tls: TlsFacts,
}

/// Messages and routes chosen so far.
pub struct Transaction {
    order: Order,
    helo: String,
    ledger: Ledger,
}

/// What one submission asks for.
pub(super) struct Order {
    /// Who asks.
    client: Client,
    envelope: Envelope,
    routes: BTreeMap<Route, Vec<usize>>,
    /// Our own domains that were looked at.
    looked_at: BTreeSet<DomainName>,
}

#[async_trait]
impl Gate for SubmissionGate {
    type Peer = Submitter;
    type Transaction = Transaction;

    async fn admit(&self, _from: SocketAddr) -> Result<(), Reply> {
        Ok(())
    }

    async fn in_clear(&self, from: SocketAddr, helo: &str, mail: &Mail, why: &Reply) {
        Ledger::in_clear(&self.node, Direction::Submission, from, helo, mail).abandon(why);
    }

    async fn secured(&self, session: &SecuredSession) -> Submitter {
        let key = session.tls.certificate().map(crate::transport::tls::Certificate::key_digest);
        Submitter { remote: session.remote, key, tls: session.tls.to_record() }
    }

    fn keywords(&self, _peer: &Submitter) -> Vec<String> {
        Vec::new()
    }

    async fn mail(&self, peer: &Submitter, helo: &str, mail: &Mail) -> Result<Transaction, Reply> {
        let mut ledger = self.ledger(peer, helo, mail);
        let live = self.node.live();
        let known = live.config.submission.as_ref().and_then(|s| client_of(s, peer.remote.ip(), peer.key));
        let Some(client) = known else {
            let refusal = Refusal::new(Reason::ClientDenied, "neither address nor certificate is configured");
            return Err(ledger.refuse(&refusal));
        };
        let order = Order::new(client.clone(), super::inbound::envelope(mail));
        match order.check_sender() {
            Ok(()) => Ok(Transaction { order, helo: helo.to_owned(), ledger }),
            Err(refusal) => Err(ledger.refuse(&refusal)),
        }
    }

    async fn refused(&self, peer: &Submitter, helo: &str, mail: &Mail, why: &Reply) {
        self.ledger(peer, helo, mail).abandon(why);
    }

    async fn rcpt(
        &self,
        _peer: &Submitter,
        transaction: &mut Transaction,
        recipient: &Recipient,
    ) -> Result<(), Reply> {
        let Transaction { order, ledger, .. } = transaction;
        let added = order.add(&self.node, recipient, ledger).await;
        ledger.recipient(&recipient.address, added.as_ref().err());
        added.map_err(|refusal| refusal.reply())
    }

    async fn content(&self, _peer: &Submitter, transaction: Transaction) -> Result<Box<dyn Content>, Reply> {
        let Transaction { order, helo, ledger } = transaction;
        let record = ledger.record.attempt;
        let intake =
            Intake::open(&self.node, &helo, None, &order.envelope, record, Keep::Nothing).completing();
        Ok(Box::new(Receiving { node: self.node.clone(), order, ledger, intake }))
    }
}

impl Order {
    pub(super) fn new(client: Client, envelope: Envelope) -> Self {
        let envelope = Envelope { recipients: Vec::new(), ..envelope };
        Self { client, envelope, routes: BTreeMap::new(), looked_at: BTreeSet::new() }
    }

    pub(super) const fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    pub(super) fn check_sender(&self) -> Result<(), Refusal> {
        match &self.envelope.sender {
            ReversePath::Null => Ok(()),
            ReversePath::Address(address) => self.may_send_as(address.domain()),
        }
    }

    fn may_send_as(&self, domain: &DomainName) -> Result<(), Refusal> {
        if may_send_as(&self.client, domain) {
            return Ok(());
        }
        let detail = format!("client {} may not send as {domain}", self.client.name);
        Err(Refusal::new(Reason::SenderNotAllowed, detail))
    }

    /// Finds the way to one more recipient (SUBM-003, SUBM-004).
    pub(super) async fn add(
        &mut self,
        node: &Node,
        recipient: &Recipient,
        ledger: &mut Ledger,
    ) -> Result<(), Refusal> {
        let route = self.route(node, recipient.address.domain(), ledger).await?;
        if let (Route::Federation(_), Some(sender)) = (&route, self.envelope.sender.address()) {
            let domain = sender.domain().clone();
            self.look_at(node, &domain, ledger).await?;
        }
        let index = self.envelope.recipients.len();
        self.envelope.recipients.push(recipient.clone());
        self.routes.entry(route).or_default().push(index);
        Ok(())
    }

    /// Whether the other provider will believe mail of this domain of ours; by the setting that refuses, or is a warning in
    /// the record (SIGN-010, SIGN-011).
    async fn look_at(
        &mut self,
        node: &Node,
        domain: &DomainName,
        ledger: &mut Ledger,
    ) -> Result<(), Refusal> {
        if self.looked_at.contains(domain) {
            return Ok(());
        }
        let defects = node.own_domain_defects(domain, &mut ledger.record).await;
        if !defects.is_empty() {
            let detail = format!("other providers may refuse mail of {domain}: {}", defects.join("; "));
            match node.live().config.own_domain() {
                OwnDomainRule::Refuse => return Err(Refusal::new(Reason::OwnDomainDefect, detail)),
                OwnDomainRule::Warn => ledger.record.warnings.push(format!("{detail} (SIGN-010)")),
            }
        }
        self.looked_at.insert(domain.clone());
        Ok(())
    }

    async fn route(&self, node: &Node, domain: &DomainName, ledger: &mut Ledger) -> Result<Route, Refusal> {
        let live = node.live();
        if live.config.node.domains.contains(domain) {
            return Ok(Route::Environment);
        }
        let known = Route::Federation(domain.clone());
        if self.routes.contains_key(&known) {
            return Ok(known);
        }
        let mut trace = Trace::new();
        let finding = node.inner.discovery.federation(domain, &mut trace).await;
        let mut facts = finding.facts();
        facts.dns = trace.into_facts();
        let policy = ledger.record.policy.clone();
        ledger.judged(domain, facts, policy);
        match finding {
            Finding::Federated(_) => Ok(known),
            Finding::NotFederated { .. } if live.fallback.is_some() => Ok(Route::Fallback),
            Finding::NotFederated { reason, detail } => Err(Refusal::new(reason, detail)),
            Finding::Temporary { reason, detail } => {
                match live.config.submission.as_ref().map_or(Temporary::Queue, |s| s.temporary) {
                    Temporary::Queue => Ok(known),
                    Temporary::Refuse => Err(Refusal::new(reason, detail)),
                }
            }
        }
    }

    /// Does the content agree with who may send; then stores it.
    pub(super) async fn accept(
        mut self,
        node: &Node,
        complete: Complete,
        ledger: &mut Ledger,
    ) -> Result<Accepted, Refusal> {
        let Complete { draft, header, smime_signed, warnings, .. } = complete;
        let trust = ledger.record.trust.get_or_insert_default();
        header.enter(trust);
        trust.smime = smime_signed;
        if self.envelope.sender == ReversePath::Null && header.report.is_none() {
            return Err(Refusal::new(Reason::NullSenderNotReport, "the null sender, and no report"));
        }
        self.may_send_as(&header.from_domain)?;
        if let Some(sender) = &header.sender {
            self.may_send_as(sender.domain())?;
        }
        let mut arrival = Arrival { domain: Some(header.from_domain.clone()), ..Arrival::default() };
        if self.routes.keys().any(|route| matches!(route, Route::Federation(_))) {
            self.look_at(node, &header.from_domain, ledger).await?;
            arrival = node.settle_outgoing(&header.from_domain);
        }
        let record = &mut ledger.record;
        record.digest = Some(draft.received_digest());
        record.size = Some(draft.size());
        record.message = Some(draft.message());
        record.warnings.extend(warnings);
        let message = NewMessage {
            envelope: self.envelope.clone(),
            routes: self.routes.clone().into_iter().collect(),
            arrival,
            origin: Origin::Submission,
            record: Some(ledger.accept()),
        };
        let accepted = draft.accept(message).await.inspect_err(|_| ledger.reopen())?;
        node.inner.observer.attempt_ended(&ledger.record);
        Ok(accepted)
    }
}

/// Content from our environment, on its way to acceptance.
struct Receiving {
    node: Node,
    order: Order,
    ledger: Ledger,
    intake: Intake,
}

#[async_trait]
impl Content for Receiving {
    async fn write(&mut self, octets: &[u8]) -> Result<(), Reply> {
        self.intake.write(octets).await.map_err(|refusal| self.ledger.refuse(&refusal))
    }

    async fn finish(self: Box<Self>) -> Result<Reply, Reply> {
        let Self { node, order, mut ledger, intake } = *self;
        let ended = match intake.finish().await {
            Ok(complete) => order.accept(&node, complete, &mut ledger).await,
            Err(refusal) => Err(refusal),
        };
        match ended {
            Ok(accepted) => Ok(accepted_reply(&accepted)),
            Err(refusal) => Err(ledger.refuse(&refusal)),
        }
    }

    async fn abandon(mut self: Box<Self>, why: &Reply) {
        self.ledger.abandon(why);
    }
}
