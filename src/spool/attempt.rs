//! An attempt: its intent is on disk before its first packet, its end in the same commit as its decision record.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;

use crate::model::{
    AttemptId, DecisionRecord, DeliveryId, Direction, Envelope, MessageId, Outcome, Reason, Recipient,
};

use super::committer::Room;
use super::draft::Staged;
use super::stored::{Aim, Hold, State, StoredDelivery, StoredMessage};
use super::tables::Tables;
use super::{
    Accepted, Arrival, Draft, Due, Fate, NewMessage, Note, Origin, Phase, Retry, Route, Spool, SpoolError,
};

/// After this many attempts in a row that stopped the node or their worker, a delivery is held: the message itself is the
/// likely cause (attack class T29).
const UNKNOWN_MAX: u32 = 2;

/// Whose fault it can be that nobody knows how an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// The node stopped while this attempt, and no other, was under way.
    Alone,
    /// The node stopped while several were under way: each is a suspect, none is convicted.
    Among,
    /// Its own worker stopped or stalled, and the node went on.
    Worker,
    /// The node was told to stop, or could not record the end.
    Nobody,
}

impl Blame {
    const fn detail(self) -> &'static str {
        match self {
            Self::Alone => "the node stopped during it, and no other was under way",
            Self::Among => "the node stopped during it and others",
            Self::Worker => "its worker stopped or stalled",
            Self::Nobody => "it was broken off",
        }
    }
}

/// A hold on an attempt from outside: whoever sees it stall says so here before dropping it.
#[derive(Clone, Debug, Default)]
pub struct Leash(Arc<AtomicBool>);

impl Leash {
    /// The attempt is to blame for being dropped without an end.
    pub fn blame(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn blamed(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A delivery that is due and that nobody else will get until this is dropped.
#[must_use = "a claim that is dropped leaves the delivery due"]
pub struct Claim {
    pub(super) spool: Spool,
    pub(super) delivery: DeliveryId,
    pub(super) route: Route,
    pub(super) due: Due,
    pub(super) leash: Leash,
}

impl Claim {
    /// A hold on the attempt that will be made of this claim.
    #[must_use]
    pub fn leash(&self) -> Leash {
        self.leash.clone()
    }

    /// Which delivery.
    #[must_use]
    pub const fn delivery(&self) -> DeliveryId {
        self.delivery
    }

    /// Where it goes.
    #[must_use]
    pub const fn route(&self) -> &Route {
        &self.route
    }

    /// Why it is due: only [`Due::Attempt`] may be tried, [`Due::Late`] is for [`Spool::overdue`]; the others are to be
    /// returned.
    #[must_use]
    pub const fn due(&self) -> Due {
        self.due
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.spool.unclaim(self.delivery);
    }
}

/// A recipient that is still to be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Position in the envelope.
    pub index: u16,
    /// Address and wishes.
    pub recipient: Recipient,
    /// What the last attempt said about it.
    pub note: Option<Note>,
}

/// An attempt under way. Its intent is on stable storage (SPOOL-006).
///
/// Dropped without [`Attempt::finish`], it is recorded as `unknown` and the delivery waits for its next try. In a panic, or
/// after [`Leash::blame`], that counts against the delivery (SPOOL-014).
#[must_use = "an attempt has an end"]
pub struct Attempt {
    spool: Spool,
    id: AttemptId,
    delivery: DeliveryId,
    due: Due,
    number: u32,
    started: Timestamp,
    route: Route,
    origin: Origin,
    arrival: Arrival,
    envelope: Envelope,
    facts: ContentFacts,
    accepted: Timestamp,
    pending: Vec<Pending>,
    leash: Leash,
    open: bool,
}

/// What is known of the content of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentFacts {
    /// Octets.
    pub size: u64,
    /// Digest of the content as every hop gets it.
    pub digest: crate::model::Digest,
}

/// How an attempt ended for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipientEnd {
    /// Position in the envelope ([`Pending::index`]).
    pub index: u16,
    /// [`Fate::Pending`] means: try again later.
    pub fate: Fate,
    /// What the other side said.
    pub note: Option<Note>,
}

/// How an attempt ended.
pub struct AttemptEnd {
    /// The decision record; its attempt and message are filled in here.
    pub record: DecisionRecord,
    /// One entry per recipient that was pending. One that is missing stays pending.
    pub recipients: Vec<RecipientEnd>,
    /// Not before this time again, if the other side asked for it.
    pub not_before: Option<Timestamp>,
    /// The report about the recipients that failed, or arrived where the sender wants to know, accepted in the same commit
    /// (SPOOL-011, SPOOL-016).
    pub report: Option<(Draft, NewMessage)>,
}

/// What an attempt led to. It is on stable storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The state of the delivery now.
    pub phase: Phase,
    /// When it is due next, if it waits.
    pub next: Option<Timestamp>,
    /// The report, when there was one.
    pub report: Option<Accepted>,
    /// Whether the whole message is settled, and its content removed.
    pub message_settled: bool,
}

impl Attempt {
    /// The attempt.
    #[must_use]
    pub const fn id(&self) -> AttemptId {
        self.id
    }

    /// The delivery.
    #[must_use]
    pub const fn delivery(&self) -> DeliveryId {
        self.delivery
    }

    /// The message.
    #[must_use]
    pub const fn message(&self) -> MessageId {
        self.delivery.message
    }

    /// Why it is due: only [`Due::Attempt`] may open a connection.
    #[must_use]
    pub const fn due(&self) -> Due {
        self.due
    }

    /// Counted from 1.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// When it began.
    #[must_use]
    pub const fn started(&self) -> Timestamp {
        self.started
    }

    /// Where it goes.
    #[must_use]
    pub const fn route(&self) -> &Route {
        &self.route
    }

    /// How the message came to be ours.
    #[must_use]
    pub const fn origin(&self) -> Origin {
        self.origin
    }

    /// What was known of the side it came from.
    #[must_use]
    pub const fn arrival(&self) -> &Arrival {
        &self.arrival
    }

    /// The whole envelope, recipients of other routes and settled ones included.
    #[must_use]
    pub const fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// The envelope of this attempt: the recipients of [`Attempt::pending`] only, in that order.
    #[must_use]
    pub fn pending_envelope(&self) -> Envelope {
        let recipients = self.pending.iter().map(|pending| pending.recipient.clone()).collect();
        Envelope { recipients, ..self.envelope.clone() }
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
        self.spool.settings().retry.expires(self.accepted)
    }

    /// Records the end, in one commit: results, decision record, next try or settlement, report.
    ///
    /// The delivery waits again while a recipient is pending (or is held, if the attempt found the content damaged:
    /// SPOOL-013); otherwise it is settled: `delivered` when all were, `discarded`
    /// when some failed and the sender is null (SPOOL-012), else `returned`. With the last delivery the message and its
    /// content are removed; the decision records stay.
    ///
    /// # Errors
    /// [`SpoolError::Broken`]: nobody knows whether it was recorded; after a restart the attempt is `unknown` or ended.
    /// [`SpoolError::Misuse`]: a recipient that is not pending here, or a pending one after [`Due::Expired`] or
    /// [`Due::ReturnAsked`]; the attempt is then abandoned as if dropped.
    pub async fn finish(mut self, end: AttemptEnd) -> Result<Finished, SpoolError> {
        let AttemptEnd { mut record, recipients, not_before, report } = end;
        record.attempt = self.id;
        record.message = Some(self.delivery.message);
        let staged = match report {
            Some((draft, message)) => Some(draft.stage(message).await?),
            None => None,
        };
        let context = Ending {
            delivery: self.delivery,
            attempt: self.id,
            due: self.due,
            now: self.spool.world().now(),
            not_before,
            random: self.spool.world().random.next(),
            retry: self.spool.settings().retry,
            damaged: self.spool.is_damaged(self.delivery.message),
        };
        let work = move |tables: &mut Tables<'_>| context.apply(tables, &recipients, &record, staged);
        let finished = self.spool.change(Room::Settles, work).await?;
        self.open = false;
        Ok(finished)
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.open {
            let (delivery, attempt) = (self.delivery, self.id);
            let (now, random, retry) =
                (self.spool.world().now(), self.spool.world().random.next(), self.spool.settings().retry);
            let guilty = std::thread::panicking() || self.leash.blamed();
            let blame = if guilty { Blame::Worker } else { Blame::Nobody };
            self.spool.change_later(move |tables| {
                let stored = tables.delivery(delivery)?;
                if matches!(stored.state, State::Attempting { attempt: current, .. } if current == attempt) {
                    abandon(tables, delivery, stored, blame, now, retry, random)?;
                }
                Ok(())
            });
        }
    }
}

struct Ending {
    delivery: DeliveryId,
    attempt: AttemptId,
    due: Due,
    now: Timestamp,
    not_before: Option<Timestamp>,
    random: u64,
    retry: Retry,
    damaged: bool,
}

impl Ending {
    fn apply(
        &self,
        tables: &mut Tables<'_>,
        ends: &[RecipientEnd],
        record: &DecisionRecord,
        report: Option<Staged>,
    ) -> Result<Finished, SpoolError> {
        // Everything that can refuse comes first: a refused change must not have touched a table.
        let mut delivery = tables.delivery(self.delivery)?;
        if !matches!(delivery.state, State::Attempting { attempt, .. } if attempt == self.attempt) {
            return Err(SpoolError::State {
                delivery: self.delivery,
                phase: delivery.phase(),
                asked: "finish",
            });
        }
        let message = tables.message(self.delivery.message)?;
        let siblings = tables.deliveries_of(self.delivery.message)?;
        settle_recipients(&mut delivery, ends)?;
        let pending = delivery.recipients.iter().any(|recipient| recipient.fate == Fate::Pending);
        if pending && self.due != Due::Attempt {
            return Err(SpoolError::Misuse("a recipient is left pending where all are to be returned"));
        }
        let next = (pending && !self.damaged).then(|| {
            self.retry.next_try(message.accepted, self.now, delivery.tries, self.not_before, self.random)
        });
        delivery.state = match next {
            Some(due) => State::Waiting { due, aim: Aim::Deliver },
            None if pending => State::Held { by: Hold::Damaged },
            None => settled(&delivery, &message),
        };
        delivery.unknown = 0;
        let phase = delivery.phase();
        let message_settled = phase.is_settled()
            && siblings.iter().all(|(id, other)| *id == self.delivery || other.phase().is_settled());

        let report = report.map(|staged| staged.insert(tables)).transpose()?;
        tables.put_record(record)?;
        if message_settled {
            tables.remove_message(self.delivery.message, &message)?;
        } else {
            tables.put_delivery(self.delivery, &delivery)?;
        }
        Ok(Finished { phase, next, report, message_settled })
    }
}

fn settle_recipients(delivery: &mut StoredDelivery, ends: &[RecipientEnd]) -> Result<(), SpoolError> {
    for end in ends {
        let recipient = delivery
            .recipients
            .iter_mut()
            .find(|recipient| recipient.index == end.index && recipient.fate == Fate::Pending)
            .ok_or(SpoolError::Misuse("a result for a recipient that is not pending in this delivery"))?;
        recipient.fate = end.fate;
        if end.note.is_some() {
            recipient.note.clone_from(&end.note);
        }
    }
    Ok(())
}

fn settled(delivery: &StoredDelivery, message: &StoredMessage) -> State {
    if delivery.recipients.iter().all(|recipient| recipient.fate == Fate::Delivered) {
        State::Delivered
    } else if message.envelope.sender.address().is_none() {
        State::Discarded
    } else {
        State::Returned
    }
}

/// Begins an attempt: the intent is durable when this returns. A delivery whose record is damaged is set aside.
pub(super) async fn begin(claim: Claim) -> Result<Attempt, SpoolError> {
    let spool = claim.spool.clone();
    let (id, started, delivery_id, due) =
        (spool.world().attempt_id(), spool.world().now(), claim.delivery, claim.due);
    let work = move |tables: &mut Tables<'_>| {
        let mut delivery = tables.delivery(delivery_id)?;
        // The claim may be old: in the meantime an operator may have held the delivery, or asked for its return.
        let allowed = matches!(
            (&delivery.state, due),
            (State::Waiting { aim: Aim::Deliver, .. }, Due::Attempt | Due::Expired)
                | (State::Waiting { aim: Aim::Return, .. }, Due::ReturnAsked)
                | (State::Held { .. }, Due::Expired)
        );
        if !allowed {
            return Err(SpoolError::State {
                delivery: delivery_id,
                phase: delivery.phase(),
                asked: "attempt",
            });
        }
        let message = tables.message(delivery_id.message)?;
        delivery.tries += 1;
        let aim = if due == Due::ReturnAsked { Aim::Return } else { Aim::Deliver };
        delivery.state = State::Attempting { attempt: id, started, aim };
        tables.put_delivery(delivery_id, &delivery)?;
        Ok((delivery, message))
    };
    let begun = spool.change(Room::Settles, work).await;
    if let Err(error) = &begun {
        spool.set_aside_if_damaged(delivery_id, error);
    }
    let leash = claim.leash.clone();
    drop(claim);
    let (delivery, message) = begun?;
    let pending = pending_of(&delivery, &message);
    Ok(Attempt {
        spool,
        id,
        delivery: delivery_id,
        due,
        number: delivery.tries,
        started,
        route: delivery.route,
        origin: message.origin,
        arrival: message.arrival,
        envelope: message.envelope,
        facts: ContentFacts { size: message.size, digest: message.content_digest },
        accepted: message.accepted,
        pending,
        leash,
        open: true,
    })
}

/// The recipients of a delivery that are still to be reached.
pub(super) fn pending_of(delivery: &StoredDelivery, message: &StoredMessage) -> Vec<Pending> {
    delivery
        .recipients
        .iter()
        .filter(|recipient| recipient.fate == Fate::Pending)
        .filter_map(|stored| {
            let recipient = message.envelope.recipients.get(usize::from(stored.index))?.clone();
            Some(Pending { index: stored.index, recipient, note: stored.note.clone() })
        })
        .collect()
}

/// Records that nobody knows how an attempt ended, and lets the delivery wait for its next try (SPOOL-006). After a stop of
/// the node that is at once: what may have been the cause is tried before anything else (SPOOL-044).
pub(super) fn abandon(
    tables: &mut Tables<'_>,
    id: DeliveryId,
    mut delivery: StoredDelivery,
    blame: Blame,
    now: Timestamp,
    retry: Retry,
    random: u64,
) -> Result<(), SpoolError> {
    let State::Attempting { attempt, started, aim } = delivery.state else { return Ok(()) };
    let direction = match delivery.route {
        Route::Federation(_) => Direction::Outbound,
        Route::Environment | Route::Fallback => Direction::Handoff,
    };
    let mut record = DecisionRecord::begin(attempt, direction, started);
    record.message = Some(id.message);
    record.outcome = Outcome::Unknown;
    record.reason = Some(Reason::AttemptUnknown);
    // As in the row of that reason (REC-002); a test with a running node compares them.
    record.requirement = Some("SPOOL-006".to_owned());
    record.acts = Some("nobody".to_owned());
    let what = blame.detail();
    record.detail = Some(format!("attempt {} of delivery {id} has no recorded end: {what}", delivery.tries));
    // Nobody knows, so the cautious answer: the other side may have all of it.
    record.content_left = crate::model::ContentLeft::Possibly;
    delivery.unknown = match blame {
        Blame::Alone | Blame::Worker => delivery.unknown.saturating_add(1),
        Blame::Among => delivery.unknown.max(1),
        Blame::Nobody => delivery.unknown,
    };
    let due = match blame {
        Blame::Alone | Blame::Among => now,
        Blame::Worker | Blame::Nobody => retry.next_try(delivery.accepted, now, delivery.tries, None, random),
    };
    delivery.state = if delivery.unknown >= UNKNOWN_MAX {
        tracing::error!(
            delivery = %id,
            "set aside: {UNKNOWN_MAX} attempts in a row stopped the node or their worker; look at it with `sluis spool show`, \
             then `release` or `return` it"
        );
        State::Held { by: Hold::Poison }
    } else {
        State::Waiting { due, aim }
    };
    tables.put_record(&record)?;
    tables.put_delivery(id, &delivery)
}
