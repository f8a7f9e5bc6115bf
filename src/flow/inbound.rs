//! Mail from another provider: who knocks, may they speak for this sender, does the content agree, is it on disk.

use std::net::SocketAddr;

use async_trait::async_trait;

use super::budget::Account;
use super::intake::{Complete, Intake, Keep, accepted_reply};
use super::knock::{Knock, knock};
use super::ledger::Ledger;
use super::location::{Located, locate};
use super::node::Node;
use super::refusal::Refusal;
use super::standing::{Allowed, judge_domain};
use crate::config::{NtaInbound, Recipients};
use crate::handoff::deliver::RecipientKnown;
use crate::model::{
    Address, AttemptId, Direction, DomainName, Envelope, HostFacts, Level, LocationRule, Reason, Recipient,
    ReversePath, TrustFacts,
};
use crate::policy::{Case, Client, Identity, Proofs, Record, Ruling, Way, ruling};
use crate::spool::{Arrival, Arrived, Draft, Imprint, NewMessage, Origin, Repeated, Route};
use crate::transport::smtp::Reply;
use crate::transport::smtp::command::Mail;
use crate::transport::smtp::server::{Content, Gate, SecuredSession};
use crate::trust::smime::{SmimeCase, SmimeVerdict};
use crate::trust::{
    AssuranceFacts, Evidence, GivenName, HeaderFacts, Input, MessageResults, NtaNames, Proof, ResultsFacts,
    authentication_results, federation_assurance,
};

/// The gate for other providers.
pub struct PeerGate {
    node: Node,
}

impl PeerGate {
    /// The gate of `node`.
    #[must_use]
    pub const fn new(node: Node) -> Self {
        Self { node }
    }
}

/// A transaction whose sender was admitted, at least until the content has spoken.
pub struct Transaction {
    envelope: Envelope,
    sender: Sender,
    helo: String,
    ledger: Ledger,
}

/// What is known of the sender before the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sender {
    /// The null sender: `From:` is the identity (IDEN-015).
    Null,
    /// The domain of MAIL FROM was judged.
    Judged(Allowed),
}

#[async_trait]
impl Gate for PeerGate {
    type Peer = Knock;
    type Transaction = Transaction;

    async fn admit(&self, from: SocketAddr) -> Result<(), Reply> {
        self.node.inner.budgets.load().session(Account::of(from.ip())).map_err(|_| {
            Reply::sanitised(421, (4, 7, 0), "LIM-003 over_budget: too many sessions; try again in a minute")
        })
    }

    async fn in_clear(&self, from: SocketAddr, helo: &str, mail: &Mail, why: &Reply) {
        Ledger::in_clear(&self.node, Direction::Inbound, from, helo, mail).abandon(why);
    }

    async fn secured(&self, session: &SecuredSession) -> Knock {
        let live = self.node.live();
        let knock = knock(&self.node, &live.policy, session).await;
        self.node.watch_key(&knock);
        self.node.inner.breakers.contact(knock.names(), self.node.inner.world.now());
        knock
    }

    fn keywords(&self, peer: &Knock) -> Vec<String> {
        peer.keyword().into_iter().collect()
    }

    async fn mail(&self, peer: &Knock, helo: &str, mail: &Mail) -> Result<Transaction, Reply> {
        let mut ledger = self.ledger(peer, helo, mail);
        let sender = match self.judge_sender(peer, &mail.sender, &mut ledger).await {
            Ok(sender) => sender,
            Err(refusal) => return Err(ledger.refuse(&refusal)),
        };
        Ok(Transaction { envelope: envelope(mail), sender, helo: helo.to_owned(), ledger })
    }

    async fn refused(&self, peer: &Knock, helo: &str, mail: &Mail, why: &Reply) {
        self.ledger(peer, helo, mail).abandon(why);
    }

    async fn rcpt(
        &self,
        _peer: &Knock,
        transaction: &mut Transaction,
        recipient: &Recipient,
    ) -> Result<(), Reply> {
        let judged = self.judge_recipient(&recipient.address).await;
        transaction.ledger.recipient(&recipient.address, judged.as_ref().err());
        judged.map_err(|refusal| refusal.reply())?;
        transaction.envelope.recipients.push(recipient.clone());
        Ok(())
    }

    async fn content(&self, peer: &Knock, transaction: Transaction) -> Result<Box<dyn Content>, Reply> {
        let Transaction { envelope, sender, helo, ledger } = transaction;
        let record = ledger.record.attempt;
        let intake = Intake::open(&self.node, &helo, Some(peer.ip()), &envelope, record, Keep::Evidence);
        let (node, knock) = (self.node.clone(), peer.clone());
        Ok(Box::new(Receiving { node, knock, envelope, sender, helo, ledger, intake }))
    }
}

impl PeerGate {
    /// The record of a transaction that begins with this MAIL.
    fn ledger(&self, peer: &Knock, helo: &str, mail: &Mail) -> Ledger {
        let mut ledger = Ledger::open(&self.node, Direction::Inbound);
        ledger.record.hosts.push(peer.facts(helo));
        // By the rule for all, until it is known whose client this is.
        enter_location(&self.node, peer, self.node.live().policy.location(), ledger.record.hosts.first_mut());
        ledger.record.sender = Some(mail.sender.to_string());
        ledger.record.discovery.dns = peer.dns().to_vec();
        ledger
    }

    async fn judge_sender(
        &self,
        peer: &Knock,
        sender: &ReversePath,
        ledger: &mut Ledger,
    ) -> Result<Sender, Refusal> {
        let live = self.node.live();
        let account = peer.proven.as_ref().map_or_else(|| Account::of(peer.ip()), |p| Account::Key(p.key()));
        self.node.inner.budgets.load().message(account)?;
        let Some(address) = sender.address() else {
            return match &peer.client {
                Client::Failed(reason) => Err(Refusal::new(*reason, peer.detail.clone())),
                Client::Unidentified(reason) if live.policy.lowest_floor() == Level::Mutual => {
                    Err(Refusal::new(*reason, peer.detail.clone()))
                }
                // Whose it is says `From:`; unless nobody may stand there.
                Client::Unidentified(_) | Client::Proven(_) if live.policy.admits_outside() => {
                    Ok(Sender::Null)
                }
                Client::Unidentified(_) | Client::Proven(_) => {
                    check_location(&self.node, peer, live.policy.location(), ledger).map(|()| Sender::Null)
                }
            };
        };
        let judged = judge_domain(&self.node, &live.policy, &peer.client, address.domain()).await;
        ledger.judged(address.domain(), judged.discovery, judged.policy);
        match judged.verdict {
            // The terms are those of the `From:` domain, which is judged after the content.
            Ok(Allowed::ByFrom) => Ok(Sender::Judged(Allowed::ByFrom)),
            Ok(allowed) => {
                check_location(&self.node, peer, judged.location, ledger)?;
                Ok(Sender::Judged(allowed))
            }
            Err(refusal) if refusal.is_about_client() && !peer.detail.is_empty() => {
                Err(Refusal::new(refusal.reason, peer.detail.clone()))
            }
            Err(refusal) => Err(refusal),
        }
    }

    async fn judge_recipient(&self, address: &Address) -> Result<(), Refusal> {
        let live = self.node.live();
        if !live.config.node.domains.contains(address.domain()) {
            let detail = format!("{} is no domain of this node", address.domain());
            return Err(Refusal::new(Reason::RelayDenied, detail));
        }
        if live.config.environment.recipients == Recipients::Accept {
            return Ok(());
        }
        match live.environment.recipient_known(address).await {
            RecipientKnown::Known => Ok(()),
            RecipientKnown::Unknown => {
                Err(Refusal::new(Reason::RecipientUnknown, "the environment does not know the recipient"))
            }
            RecipientKnown::CannotTell => {
                Err(Refusal::new(Reason::EnvironmentTemporary, "the environment cannot be asked now"))
            }
        }
    }
}

/// Whether a client may stand where it does, under the rule for the peer it speaks for (LOCA-004, LOCA-005).
fn check_location(node: &Node, peer: &Knock, rule: LocationRule, ledger: &mut Ledger) -> Result<(), Refusal> {
    let host = ledger.record.hosts.first_mut();
    let Some(located) = enter_location(node, peer, rule, host) else { return Ok(()) };
    located.warn(&mut ledger.record);
    located.refusal().map_or(Ok(()), Err)
}

/// Enters where a client stands into what the record says of it.
fn enter_location(
    node: &Node,
    peer: &Knock,
    rule: LocationRule,
    host: Option<&mut HostFacts>,
) -> Option<Located> {
    let located = locate(node.live().config.location.as_ref(), rule, peer.ip(), Way::In)?;
    if let Some(host) = host {
        host.location = Some(located.facts.clone());
    }
    Some(located)
}

pub(super) fn envelope(mail: &Mail) -> Envelope {
    Envelope {
        sender: mail.sender.clone(),
        recipients: Vec::new(),
        body: mail.body,
        smtputf8: mail.smtputf8,
        ret: mail.ret,
        envid: mail.envid.clone(),
    }
}

/// Content from a peer, on its way to acceptance.
struct Receiving {
    node: Node,
    knock: Knock,
    envelope: Envelope,
    sender: Sender,
    helo: String,
    ledger: Ledger,
    intake: Intake,
}

#[async_trait]
impl Content for Receiving {
    async fn write(&mut self, octets: &[u8]) -> Result<(), Reply> {
        self.intake.write(octets).await.map_err(|refusal| self.ledger.refuse(&refusal))
    }

    async fn finish(self: Box<Self>) -> Result<Reply, Reply> {
        let Self { node, knock, envelope, sender, helo, mut ledger, intake } = *self;
        let ended = async {
            let Complete { draft, header, evidence, smime, .. } = intake.finish().await?;
            let live = node.live();
            let smime = smime.judge(&SmimeCase {
                from: &header.from,
                sender: header.sender.as_ref(),
                anchors: live.config.smime.anchors.as_ref().map(|(anchors, _)| anchors),
                now: node.inner.world.now(),
            });
            // Whatever becomes of the message.
            if let Some(verdict) = &smime {
                ledger.record.trust.get_or_insert_default().smime = Some(verdict.facts.clone());
            }
            let message = Message {
                node: &node,
                knock: &knock,
                envelope: &envelope,
                sender,
                helo: &helo,
                header,
                evidence,
                smime,
            };
            let proven = message.judge(&mut ledger).await?;
            message.accept(draft, proven, &mut ledger).await
        };
        match ended.await {
            Ok(Arrived::New(accepted)) => Ok(accepted_reply(&accepted)),
            Ok(Arrived::Again(repeated)) => Ok(repeated_reply(&repeated)),
            Err(refusal) => Err(ledger.refuse(&refusal)),
        }
    }

    async fn abandon(mut self: Box<Self>, why: &Reply) {
        self.ledger.abandon(why);
    }
}

/// A message whose content is complete.
struct Message<'a> {
    node: &'a Node,
    knock: &'a Knock,
    envelope: &'a Envelope,
    sender: Sender,
    helo: &'a str,
    header: HeaderFacts,
    evidence: Evidence,
    /// What its S/MIME signature says, if it has one; told, and never asked (SMIME-001).
    smime: Option<SmimeVerdict>,
}

impl Message<'_> {
    /// Does the content agree with who sent it (IDEN-013 to IDEN-016)?
    async fn judge(&self, ledger: &mut Ledger) -> Result<Proven, Refusal> {
        // Whatever becomes of it: who wrote it, and who sent it.
        self.header.enter(ledger.record.trust.get_or_insert_default());
        self.check_null_sender()?;
        let domain = &self.header.from_domain;
        let allowed = match self.judge_author(domain, ledger).await? {
            Allowed::ByFrom => {
                let detail = format!("the From: domain {domain} has no NTA record");
                return Err(Refusal::new(Reason::SenderNotFederated, detail));
            }
            allowed => allowed,
        };
        self.check_return_path(domain)?;
        self.check_sender_field(allowed, ledger).await?;
        self.judge_message(allowed, ledger).await
    }

    fn check_null_sender(&self) -> Result<(), Refusal> {
        if self.sender == Sender::Null && self.header.report.is_none() {
            return Err(Refusal::new(
                Reason::NullSenderNotReport,
                "the null sender, and no multipart/report of delivery or disposition",
            ));
        }
        Ok(())
    }

    /// Judges the domain of `From:`, unless it is the one that MAIL FROM was judged for already.
    async fn judge_author(&self, domain: &DomainName, ledger: &mut Ledger) -> Result<Allowed, Refusal> {
        if let (Sender::Judged(allowed), Some(address)) = (self.sender, self.envelope.sender.address())
            && address.domain() == domain
        {
            return Ok(allowed);
        }
        let live = self.node.live();
        let judged = judge_domain(self.node, &live.policy, &self.knock.client, domain).await;
        ledger.judged(domain, judged.discovery, judged.policy);
        let allowed = judged.verdict.map_err(|refusal| match refusal.reason {
            Reason::ClientNotOfSender => Refusal::new(Reason::FromNotOfSender, refusal.detail),
            _ => refusal,
        })?;
        if allowed != Allowed::ByFrom {
            check_location(self.node, self.knock, judged.location, ledger)?;
        }
        Ok(allowed)
    }

    /// A MAIL FROM domain without a record of its own must lie at or below the `From:` domain (bounce addresses).
    fn check_return_path(&self, author: &DomainName) -> Result<(), Refusal> {
        match (self.sender, self.envelope.sender.address()) {
            (Sender::Judged(Allowed::ByFrom), Some(address)) if !address.domain().is_at_or_below(author) => {
                let detail = format!("{} has no NTA record and is not below {author}", address.domain());
                Err(Refusal::new(Reason::SenderNotFederated, detail))
            }
            _ => Ok(()),
        }
    }

    /// `Sender:` is bound as `From:` is (IDEN-014).
    async fn check_sender_field(&self, author: Allowed, ledger: &mut Ledger) -> Result<(), Refusal> {
        let Some(sender) = &self.header.sender else { return Ok(()) };
        if sender.domain() == &self.header.from_domain {
            return Ok(());
        }
        let not_bound = |detail: String| Refusal::new(Reason::FromNotOfSender, format!("Sender: {detail}"));
        if author != Allowed::Mutual {
            return Err(not_bound(format!("{} is not the From: domain", sender.domain())));
        }
        let live = self.node.live();
        let judged = judge_domain(self.node, &live.policy, &self.knock.client, sender.domain()).await;
        ledger.record.discovery.dns.extend(judged.discovery.dns);
        match judged.verdict {
            Ok(Allowed::Mutual) => Ok(()),
            Ok(Allowed::ByMessage | Allowed::ByFrom) => {
                Err(not_bound(format!("{} has no NTA record", sender.domain())))
            }
            Err(refusal) if refusal.reply().is_temporary() => Err(refusal),
            Err(refusal) => Err(not_bound(refusal.detail)),
        }
    }

    /// SPF, DKIM and DMARC: where nothing else proves the sender all of them decide (IDEN-016); at `mutual` DKIM does, and
    /// the others are recorded (JUDGE-005).
    async fn judge_message(&self, allowed: Allowed, ledger: &mut Ledger) -> Result<Proven, Refusal> {
        let live = self.node.live();
        let identity = match allowed {
            Allowed::Mutual => Identity::OfSender,
            Allowed::ByMessage | Allowed::ByFrom => Identity::NoCertificate,
        };
        let judged = self
            .node
            .inner
            .judge
            .judge(&Input {
                client_ip: self.knock.ip(),
                helo: &GivenName::read(self.helo),
                mail_from: &self.envelope.sender,
                from_domain: &self.header.from_domain,
                evidence: &self.evidence,
                host: &live.config.node.name,
            })
            .await;
        let smime = ledger.record.trust.take().and_then(|trust| trust.smime);
        let trust = ledger.record.trust.insert(TrustFacts { smime, ..judged.facts });
        self.header.enter(trust);
        ledger.record.discovery.dns.extend(judged.dns);
        ledger.record.warnings.extend(judged.warnings);
        let nta = NtaNames::new(live.config.nta_header.name.as_deref());
        if live.config.nta_header.inbound != NtaInbound::Off {
            let noted = self.evidence.nta_headers(&nta);
            ledger.record.trust.get_or_insert_default().nta_headers = noted;
        }
        let case = Case { identity, record: Record::Valid, floor: Level::Nta7516, proofs: judged.proofs };
        let remove_nta = judged.verdict.is_err();
        let proven = match (ruling(&case), &judged.verdict) {
            // A fault of our own has no row, and never lets a message in.
            (_, Err((Reason::LocalFault, detail))) => {
                return Err(Refusal::new(Reason::LocalFault, detail.clone()));
            }
            (Ruling::Accept(level), _) => {
                Proven { level, results: judged.results, proofs: judged.proofs, remove_nta }
            }
            (Ruling::Refuse(reason), _) => {
                return Err(Refusal::new(reason, judged.details.of(identity, reason)));
            }
        };
        if live.config.nta_header.inbound == NtaInbound::Enforce && !self.evidence.has_nta_header(&nta) {
            return Err(Refusal::new(Reason::NtaHeaderMissing, "the configured header is not there once"));
        }
        Ok(proven)
    }

    /// Stores the message, unless it is stored already. Only after this there is anything to acknowledge.
    async fn accept(&self, draft: Draft, proven: Proven, ledger: &mut Ledger) -> Result<Arrived, Refusal> {
        let domain = &self.header.from_domain;
        let record = &mut ledger.record;
        record.assurance = Some(proven.level);
        record.digest = Some(draft.received_digest());
        record.size = Some(draft.size());
        record.message = Some(draft.message());
        let imprint = Imprint::new(proven.level, domain, draft.received_digest(), self.envelope);
        let arrival = self.arrival(&proven, domain, record.attempt);
        let routes = vec![(Route::Environment, (0..self.envelope.recipients.len()).collect())];
        let record = Some(ledger.accept());
        let message =
            NewMessage { envelope: self.envelope.clone(), routes, arrival, origin: Origin::Peer, record };
        let arrived = draft.accept_once(message, imprint).await.inspect_err(|_| ledger.reopen())?;
        if let Arrived::Again(repeated) = &arrived {
            repeated.enter(&mut ledger.record);
        }
        self.node.inner.observer.attempt_ended(&ledger.record);
        Ok(arrived)
    }

    /// What the hand-off needs to know, and tell.
    fn arrival(&self, proven: &Proven, domain: &DomainName, record: AttemptId) -> Arrival {
        let live = self.node.live();
        let by = &live.config.node.name;
        let names = self.knock.names();
        let level = proven.level;
        let proof = match (level, self.knock.rule()) {
            (Level::Mutual, Some(rule)) => Proof::Client { rule, names },
            _ => Proof::Message,
        };
        let message = Some(&proven.results);
        let delegate = self.header.delegate().map(Address::domain);
        let smime = self.smime.as_ref().map(|verdict| &verdict.result);
        let results = authentication_results(&ResultsFacts {
            authserv_id: by,
            level,
            domain,
            delegate,
            message,
            smime,
        });
        let assurance = federation_assurance(&AssuranceFacts {
            proof,
            proofs: proven.proofs,
            domain,
            delegate,
            by,
            record,
        });
        Arrival {
            level: Some(level),
            rule: self.knock.rule(),
            domain: Some(domain.clone()),
            names: names.to_vec(),
            address: Some(self.knock.ip()),
            handoff_fields: vec![results.into_pair(), assurance.into_pair()],
            remove_nta: proven.remove_nta,
            ..Arrival::default()
        }
    }
}

/// The reply to a repetition: positive, because the first one was, with the identifier that one got (SPOOL-042).
fn repeated_reply(repeated: &Repeated) -> Reply {
    Reply::sanitised(250, (2, 0, 0), &format!("accepted before as {}", repeated.first()))
}

/// What a message has proven.
struct Proven {
    /// The level, by the client's key or by the message itself.
    level: Level,
    /// What the message itself said, which decided only where there was no key.
    results: MessageResults,
    /// The same in the words of the table.
    proofs: Proofs,
    /// Whether it did not prove itself, so that its NTA headers are not to be shown to anybody (HAND-009).
    remove_nta: bool,
}
