//! The notice of delay: the sender is told, and the delivery remembers it, in one commit.
//!
//! It is no attempt: it opens no connection, so it needs no intent on disk, and the delivery stays in the state it is in.
//! A crash before the commit leaves the delivery late and untold, one after it leaves it told (SPOOL-015).

use jiff::Timestamp;

use crate::model::{AttemptId, DecisionRecord, DeliveryId, Envelope, MessageId};

use super::attempt::pending_of;
use super::committer::Room;
use super::schedule::after;
use super::stored::{Aim, State, StoredDelivery};
use super::tables::Tables;
use super::{Accepted, Claim, ContentFacts, Draft, NewMessage, Pending, Route, SpoolError};

/// A delivery that is late, and whose sender has not been told. Nobody else gets it until this is dropped.
///
/// Dropped without [`Overdue::told`] having come to its end, it is late again after the first interval of retries.
#[must_use = "whoever is late says so"]
pub struct Overdue {
    claim: Claim,
    id: AttemptId,
    at: Timestamp,
    envelope: Envelope,
    facts: ContentFacts,
    accepted: Timestamp,
    pending: Vec<Pending>,
    /// Whether nothing has come of it yet.
    open: bool,
}

impl Overdue {
    /// Under which its decision record is stored. Records of attempts and of notices are numbered alike.
    #[must_use]
    pub const fn id(&self) -> AttemptId {
        self.id
    }

    /// When it was found late.
    #[must_use]
    pub const fn at(&self) -> Timestamp {
        self.at
    }

    /// The message.
    #[must_use]
    pub const fn message(&self) -> MessageId {
        self.claim.delivery.message
    }

    /// Where it goes.
    #[must_use]
    pub const fn route(&self) -> &Route {
        &self.claim.route
    }

    /// The whole envelope, recipients of other routes and settled ones included.
    #[must_use]
    pub const fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// The recipients still to be reached.
    #[must_use]
    pub fn pending(&self) -> &[Pending] {
        &self.pending
    }

    /// Size and digest of the content.
    #[must_use]
    pub const fn content(&self) -> ContentFacts {
        self.facts
    }

    /// When the message was accepted.
    #[must_use]
    pub const fn accepted(&self) -> Timestamp {
        self.accepted
    }

    /// When it is returned if nothing helps.
    #[must_use]
    pub fn expires(&self) -> Timestamp {
        self.claim.spool.settings().retry.expires(self.accepted)
    }

    /// Records that the sender was told by `report`, or that nobody wanted to know, in one commit with the report and its
    /// decision record.
    ///
    /// # Errors
    /// [`SpoolError::State`] or [`SpoolError::NoDelivery`] when the delivery changed in the meantime; nobody was told.
    /// [`SpoolError::Broken`]: nobody knows whether it was recorded, and after a restart it was, or is late again.
    pub async fn told(
        mut self,
        report: Option<(DecisionRecord, Draft, NewMessage)>,
    ) -> Result<Option<Accepted>, SpoolError> {
        let told = self.commit(report).await;
        self.open = !matches!(told, Ok(_) | Err(SpoolError::State { .. } | SpoolError::NoDelivery(_)));
        told
    }

    async fn commit(
        &self,
        report: Option<(DecisionRecord, Draft, NewMessage)>,
    ) -> Result<Option<Accepted>, SpoolError> {
        let (delivery, at, spool) = (self.claim.delivery, self.at, &self.claim.spool);
        let staged = match report {
            Some((record, draft, message)) => {
                let record = DecisionRecord { attempt: self.id, message: Some(delivery.message), ..record };
                Some((record, draft.stage(message).await?))
            }
            None => None,
        };
        let work = move |tables: &mut Tables<'_>| {
            let mut stored = untold(tables, delivery)?;
            stored.warned = Some(at);
            let mut accepted = None;
            if let Some((record, staged)) = staged {
                accepted = Some(staged.insert(tables)?);
                tables.put_record(&record)?;
            }
            tables.put_delivery(delivery, &stored)?;
            Ok(accepted)
        };
        spool.change(Room::Settles, work).await
    }
}

impl Drop for Overdue {
    fn drop(&mut self) {
        if self.open {
            let spool = &self.claim.spool;
            let wait = spool.settings().retry.interval(1);
            spool.put_off(self.claim.delivery, after(spool.world().now(), wait));
        }
    }
}

/// The delivery, if its sender may still be told that it is late.
fn untold(tables: &Tables<'_>, id: DeliveryId) -> Result<StoredDelivery, SpoolError> {
    let stored = tables.delivery(id)?;
    let open = matches!(stored.state, State::Waiting { aim: Aim::Deliver, .. } | State::Held { .. });
    if open && stored.warned.is_none() {
        return Ok(stored);
    }
    Err(SpoolError::State { delivery: id, phase: stored.phase(), asked: "notice of delay" })
}

/// Looks at a late delivery. One whose record is damaged is set aside.
pub(super) async fn overdue(claim: Claim) -> Result<Overdue, SpoolError> {
    let (spool, delivery) = (claim.spool.clone(), claim.delivery);
    let read = spool
        .read(move |tables| {
            let all = tables.deliveries_of(delivery.message)?;
            let one = all.into_iter().find(|(id, _)| *id == delivery);
            let (_, stored) = one.ok_or(SpoolError::NoDelivery(delivery))?;
            Ok((stored, tables.message(delivery.message)?))
        })
        .await;
    if let Err(error) = &read {
        spool.set_aside_if_damaged(delivery, error);
    }
    let (stored, message) = read?;
    Ok(Overdue {
        id: spool.world().attempt_id(),
        at: spool.world().now(),
        pending: pending_of(&stored, &message),
        facts: ContentFacts { size: message.size, digest: message.content_digest },
        accepted: message.accepted,
        envelope: message.envelope,
        claim,
        open: true,
    })
}
