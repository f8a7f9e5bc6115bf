//! Mail to another provider: find, decide, reach, send, record.

use jiff::Timestamp;

use super::disposition::{Ends, disposition};
use super::node::Node;
use super::refusal::Refusal;
use super::road::Reached;
use crate::model::{ContentLeft, DecisionRecord, Direction, DomainName, HostFacts, Reason, ReportAction};
use crate::policy::Outbound;
use crate::spool::{Attempt, Fate, Note, Origin, SpoolError};
use crate::transport::smtp::dialogue::{Content, RecipientReply, Reports, Settled, Transfer, TransferError};

/// One attempt to deliver, from its intent (on disk already) to its end.
///
/// # Errors
/// The spool is broken; the attempt is `unknown` after a restart.
pub(super) async fn deliver(node: &Node, attempt: Attempt, domain: &DomainName) -> Result<(), SpoolError> {
    let mut record = begin(&attempt);
    let mut ends = Ends::new(&attempt);
    match go(node, &attempt, domain, &mut record, &mut ends).await {
        Ok(()) => ends.conclude(&mut record),
        Err(refusal) => ends.refuse(&refusal, &mut record),
    }
    node.conclude(attempt, record, ends).await
}

fn begin(attempt: &Attempt) -> DecisionRecord {
    let mut record = DecisionRecord::begin(attempt.id(), Direction::Outbound, attempt.started());
    record.message = Some(attempt.message());
    record.digest = Some(attempt.content().digest);
    record.size = Some(attempt.content().size);
    record.sender = Some(attempt.envelope().sender.to_string());
    // Of what our own platform gave us, the record of its submission says so.
    let arrival = attempt.arrival();
    let signed_before = arrival.outbound_fields.iter().any(|(name, _)| name == "DKIM-Signature");
    if attempt.origin() == Origin::Own
        && arrival.outgoing.as_ref().is_none_or(|put| put.selectors.is_empty())
        && !signed_before
    {
        record
            .warnings
            .push("this report is not signed: no DKIM key signs for its domain (SIGN-001)".to_owned());
    }
    record
}

/// Host after host, until one has given its verdict.
async fn go(
    node: &Node,
    attempt: &Attempt,
    domain: &DomainName,
    record: &mut DecisionRecord,
    ends: &mut Ends,
) -> Result<(), Refusal> {
    let live = node.live();
    let mut road = live.roads.find(domain, record).await?;
    let mut heard = None;
    loop {
        let reached = match live.roads.next(&mut road, record).await {
            Ok(reached) => reached,
            // What the last host said outweighs that no other could be reached.
            Err(refusal) => return heard.unwrap_or(Err(refusal)),
        };
        let host = record.hosts[reached.entry].host.clone();
        let (replies, left, reports, verdict) = match offer(node, attempt, reached, record).await? {
            Ok(transfer) => (transfer.recipients, transfer.content_left, transfer.reports, Ok(())),
            Err(TransferError { error, settled, reports }) => {
                let refusal = Refusal::new(error.reason(), error.to_string());
                (settled, error.content_left(), reports, Err(refusal))
            }
        };
        record.content_left = record.content_left.max(left);
        ends.settle(&replies, &host, node.inner.world.now(), reports);
        let next_may_differ = match &verdict {
            Ok(()) => true,
            Err(refusal) => disposition(refusal.reason) == Outbound::NextHost,
        };
        // After content may have left, another host could only make a duplicate certain.
        if record.content_left != ContentLeft::Never || !next_may_differ || ends.nobody_pending() {
            return verdict;
        }
        heard = Some(verdict);
    }
}

/// Offers the message on one link.
async fn offer(
    node: &Node,
    attempt: &Attempt,
    reached: Reached,
    record: &mut DecisionRecord,
) -> Result<Result<Transfer, TransferError>, Refusal> {
    let Reached { mut session, key, entry } = reached;
    let mut sent = node.outgoing(attempt, record).await?;
    let size = sent.size;
    let content = Content { reader: &mut sent, size };
    let outcome = session.send(&attempt.pending_envelope(), content).await;
    // Signatures are part of what was sent, so the other provider's record of it has this digest too (SIGN-005).
    if let Some(digest) = sent.digest() {
        (record.digest, record.size) = (Some(digest), Some(size));
    }
    let location = record.hosts[entry].location.take();
    record.hosts[entry] = HostFacts { location, ..session.facts().clone() };
    node.live().roads.pool.keep(key, session).await;
    Ok(outcome)
}

impl Ends {
    /// Enters what a host said about recipients.
    fn settle(&mut self, replies: &[RecipientReply], host: &str, at: Timestamp, reports: Reports) {
        // Who was told what the sender wants to hear says it; of another we can only say that it went there (SPOOL-016).
        let success = (reports == Reports::Ours).then_some(ReportAction::Relayed);
        for reply in replies {
            let fate = match reply.settled {
                Settled::Taken => Fate::Delivered,
                Settled::Later => Fate::Pending,
                Settled::Refused => Fate::Failed,
            };
            let reason = match reply.settled {
                Settled::Taken => None,
                Settled::Later => Some(Reason::PeerTemporary),
                Settled::Refused => Some(Reason::PeerPermanent),
            };
            self.set(
                &reply.address,
                fate,
                Note {
                    at,
                    reason,
                    code: Some(reply.reply.code_text()),
                    text: reply.reply.lines().first().cloned(),
                    host: Some(host.to_owned()),
                },
                success,
            );
        }
    }
}
