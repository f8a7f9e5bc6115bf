//! The running node, as its operator asks it.

use async_trait::async_trait;

use super::explain::Depth;
use super::intake::{Intake, Keep};
use super::ledger::Ledger;
use super::node::Node;
use super::refusal::Refusal;
use super::reload;
use super::submission::Order;
use crate::admin::{
    ContentStream, Health, KeyStatus, LocationStatus, Observer, Operations, ReloadRefusal, Reloaded,
    ReplyRefusal, ReplyReport, Resting, Status, SubmitRefusal, Submitted,
};
use crate::config::{Client, Config};
use crate::model::{Address, DeliveryId, Direction, Envelope, MessageId, Reason};
use crate::policy::consequence;
use crate::spool::{Accepted, Route, Spool};
use crate::transport::smtp::data::Chunks;

#[async_trait]
impl Operations for Node {
    fn status(&self) -> Status {
        let live = self.live();
        let config = &live.config;
        let mut listeners: Vec<_> =
            config.federation.listen.iter().map(|address| format!("federation {address}")).collect();
        let submission = config.submission.iter().flat_map(|submission| &submission.listen);
        listeners.extend(submission.map(|address| format!("submission {address}")));
        listeners.extend(config.admin.iter().map(|address| format!("admin {address}")));
        let keys = self.inner.keys.current();
        Status {
            node: config.node.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process: std::process::id(),
            started: self.inner.started,
            configured: live.since,
            domains: config.node.domains.clone(),
            listeners,
            spool: self.inner.spool.counts(),
            health: self.health(),
            keys: keys.keys().iter().map(|key| key_status(key.certificate())).collect(),
            weakened: config.weakened(),
            resting: self.resting(),
            location: LocationStatus::of(config, self.inner.world.now()),
        }
    }

    fn health(&self) -> Health {
        let mut health = Health::default();
        if let Err(error) = self.inner.spool.health() {
            health.broken.push(error.to_string());
        }
        if self.inner.stop.is_cancelled() {
            health.not_ready.push("the node is stopping".to_owned());
        }
        health
    }

    fn observer(&self) -> &Observer {
        &self.inner.observer
    }

    fn spool(&self) -> &Spool {
        &self.inner.spool
    }

    fn hurry(&self, delivery: DeliveryId) {
        if let Some(route) = self.inner.spool.route_of(delivery) {
            self.inner.breakers.hurry(&route, self.inner.world.now());
        }
    }

    async fn submit(&self, envelope: Envelope, content: ContentStream) -> Result<Submitted, SubmitRefusal> {
        let mut ledger = Ledger::open(self, Direction::Submission);
        ledger.record.sender = Some(envelope.sender.to_string());
        match take(self, envelope, content, &mut ledger).await {
            Ok(accepted) => Ok(Submitted { message: accepted.message() }),
            Err((recipient, refusal)) => {
                ledger.refuse(&refusal);
                Err(answer(recipient, &refusal))
            }
        }
    }

    async fn explain_message(
        &self,
        content: ContentStream,
        dns_only: bool,
    ) -> Result<ReplyReport, ReplyRefusal> {
        self.reply_to(content, depth(dns_only)).await
    }

    async fn explain_stored(&self, message: MessageId, dns_only: bool) -> Result<ReplyReport, ReplyRefusal> {
        self.reply_to_stored(message, depth(dns_only)).await
    }

    async fn reload(&self) -> Result<Reloaded, ReloadRefusal> {
        reload::reload(self).await
    }
}

impl Node {
    fn resting(&self) -> Vec<Resting> {
        let count = |(row, routes): (Resting, Vec<Route>)| {
            let waiting = routes.iter().map(|route| self.inner.spool.queued(route)).sum();
            Resting { waiting, ..row }
        };
        self.inner.breakers.resting().into_iter().map(count).collect()
    }
}

const fn depth(dns_only: bool) -> Depth {
    if dns_only { Depth::Dns } else { Depth::Link }
}

fn key_status(certificate: &crate::transport::tls::Certificate) -> KeyStatus {
    KeyStatus {
        kind: certificate.key().to_string(),
        spki: certificate.key_digest(),
        names: certificate.identities(),
        not_after: certificate.not_after(),
    }
}

async fn take(
    node: &Node,
    envelope: Envelope,
    mut content: ContentStream,
    ledger: &mut Ledger,
) -> Result<Accepted, (Option<Address>, Refusal)> {
    let whole = |refusal| (None, refusal);
    let live = node.live();
    let (name, limits) = (live.config.node.name.to_string(), live.config.limits);
    let recipients = envelope.recipients.clone();
    if u64::try_from(recipients.len()).unwrap_or(u64::MAX) > limits.recipients {
        let detail = format!("{} recipients; at most {}", recipients.len(), limits.recipients);
        return Err(whole(Refusal::new(Reason::OverBudget, detail)));
    }
    let mut order = Order::new(operator(&live.config), envelope);
    order.check_sender().map_err(whole)?;
    for recipient in &recipients {
        let added = order.add(node, recipient, ledger).await;
        added.map_err(|refusal| (Some(recipient.address.clone()), refusal))?;
    }
    let mut intake =
        Intake::open(node, &name, None, order.envelope(), ledger.record.attempt, Keep::Nothing).completing();
    receive(&mut content, &mut intake, limits.message_octets).await.map_err(whole)?;
    let complete = intake.finish().await.map_err(whole)?;
    order.accept(node, complete, ledger).await.map_err(whole)
}

/// The operator as a client: any sender of ours, and no other (SUBM-002).
fn operator(config: &Config) -> Client {
    Client {
        name: "operator".to_owned(),
        addresses: Vec::new(),
        pins: Vec::new(),
        domains: config.node.domains.clone(),
    }
}

/// Content under the rules of every other border: what enters here leaves there (SMTP-007, SMTP-008).
async fn receive(content: &mut ContentStream, intake: &mut Intake, octets_max: u64) -> Result<(), Refusal> {
    let mut rules = Chunks::new();
    let (mut clean, mut size) = (Vec::new(), 0_u64);
    while let Some(octets) = content.recv().await {
        let octets =
            octets.map_err(|error| Refusal::new(Reason::LocalFault, format!("broken off: {error}")))?;
        size = size.saturating_add(u64::try_from(octets.len()).unwrap_or(u64::MAX));
        if size > octets_max {
            return Err(Refusal::new(Reason::MessageTooLarge, format!("more than {octets_max} octets")));
        }
        rules.push(&octets, &mut clean);
        check(&rules)?;
        intake.write(&clean).await?;
        clean.clear();
    }
    rules.end(&mut clean);
    check(&rules)?;
    intake.write(&clean).await
}

fn check(rules: &Chunks) -> Result<(), Refusal> {
    rules.fault().map_or(Ok(()), |fault| Err(Refusal::new(fault.reason(), fault.to_string())))
}

fn answer(recipient: Option<Address>, refusal: &Refusal) -> SubmitRefusal {
    let reply = refusal.reply();
    SubmitRefusal {
        recipient,
        reason: refusal.reason,
        requirement: consequence(refusal.reason).requirement.to_owned(),
        detail: refusal.detail.clone(),
        temporary: reply.is_temporary(),
    }
}
