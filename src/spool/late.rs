//! The notice of delay: the sender is told, and the delivery remembers it, in one commit.
//!
//! It is no attempt: it opens no connection, and the delivery stays in the state it is in. A crash before the commit leaves the
//! delivery late and untold, one after it leaves it told (SPOOL-015). That it was begun is on disk before anything of the
//! message is read: one that stops the node then does so twice at most (SPOOL-045).

use jiff::Timestamp;

use crate::model::{AttemptId, DecisionRecord, DeliveryId, Envelope, MessageId};

use super::attempt::pending_of;
use super::board::Effect;
use super::committer::Room;
use super::schedule::after;
use super::stored::{Aim, State, StoredDelivery, StoredMessage};
use super::tables::Tables;
use super::{Accepted, Claim, ContentFacts, Draft, NewMessage, Pending, Route, SpoolError};

/// After this many notices in a row that stopped the node or their worker, none is written for this delivery.
const NOTICES_MAX: u32 = 2;

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
            stored.notices = 0;
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
            let (spool, delivery) = (&self.claim.spool, self.claim.delivery);
            let wait = spool.settings().retry.interval(1);
            let again = after(spool.world().now(), wait);
            spool.put_off(delivery, again);
            let guilty = std::thread::panicking() || self.claim.leash.blamed();
            if !guilty {
                spool.change_later(move |tables| acquit(tables, delivery, again));
            }
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

/// Enters that a notice is begun; `None`: that was done too often without an end, and now it is given up.
fn begin(
    tables: &mut Tables<'_>,
    id: DeliveryId,
    at: Timestamp,
) -> Result<Option<(StoredDelivery, StoredMessage)>, SpoolError> {
    let mut stored = untold(tables, id)?;
    let message = tables.message(id.message)?;
    let given_up = stored.notices >= NOTICES_MAX;
    if given_up {
        stored.warned = Some(at);
    } else {
        stored.notices += 1;
    }
    tables.put_delivery(id, &stored)?;
    Ok((!given_up).then_some((stored, message)))
}

/// A notice that was broken off, and not because of its message: it is tried again, not before `again`.
fn acquit(tables: &mut Tables<'_>, id: DeliveryId, again: Timestamp) -> Result<(), SpoolError> {
    match untold(tables, id) {
        Ok(mut stored) => {
            stored.notices = stored.notices.saturating_sub(1);
            tables.put_delivery(id, &stored)?;
            // The change makes the schedule forget that it was put off.
            tables.effects.push(Effect::PutOff(id, again));
            Ok(())
        }
        Err(SpoolError::State { .. } | SpoolError::NoDelivery(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Begins the notice of a late delivery; `None` if it is given up. One whose record is damaged is set aside.
pub(super) async fn overdue(claim: Claim) -> Result<Option<Overdue>, SpoolError> {
    let (spool, delivery, at) = (claim.spool.clone(), claim.delivery, claim.spool.world().now());
    let begun = spool.change(Room::Settles, move |tables| begin(tables, delivery, at)).await;
    if let Err(error) = &begun {
        spool.set_aside_if_damaged(delivery, error);
    }
    let Some((stored, message)) = begun? else { return Ok(None) };
    Ok(Some(Overdue {
        id: spool.world().attempt_id(),
        at,
        pending: pending_of(&stored, &message),
        facts: ContentFacts { size: message.size, digest: message.content_digest },
        accepted: message.accepted,
        envelope: message.envelope,
        claim,
        open: true,
    }))
}
