//! The running node, as its operator asks it.

use async_trait::async_trait;

use super::intake::{Intake, Keep};
use super::ledger::Ledger;
use super::node::Node;
use super::refusal::Refusal;
use super::reload;
use super::submission::Order;
use crate::admin::{
    ContentStream, Health, KeyStatus, Observer, Operations, ReloadRefusal, Reloaded, Status, SubmitRefusal,
    Submitted,
};
use crate::model::{Address, Direction, Envelope, Reason};
use crate::policy::consequence;
use crate::spool::{Accepted, Spool};

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

    async fn reload(&self) -> Result<Reloaded, ReloadRefusal> {
        reload::reload(self).await
    }
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
    let recipients = envelope.recipients.clone();
    let mut order = Order::new(None, envelope);
    for recipient in &recipients {
        let added = order.add(node, recipient, ledger).await;
        added.map_err(|refusal| (Some(recipient.address.clone()), refusal))?;
    }
    let whole = |refusal| (None, refusal);
    let name = node.live().config.node.name.to_string();
    let mut intake = Intake::open(node, &name, None, order.envelope(), ledger.record.attempt, Keep::Nothing);
    while let Some(octets) = content.recv().await {
        let octets = octets
            .map_err(|error| whole(Refusal::new(Reason::LocalFault, format!("broken off: {error}"))))?;
        intake.write(&octets).await.map_err(whole)?;
    }
    let complete = intake.finish().map_err(whole)?;
    order.accept(node, complete, ledger).await.map_err(whole)
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
