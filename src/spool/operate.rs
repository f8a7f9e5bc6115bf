//! What an operator sees and may do: list, show, hold, release, retry, return.

use std::ops::ControlFlow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{Address, DeliveryId, Digest, DomainName, Envelope, MessageId};

use super::committer::Room;
use super::stored::{Aim, Hold, State, StoredDelivery, StoredMessage};
use super::{Arrival, Fate, Note, Origin, Phase, Route, Spool, SpoolError};

/// Which deliveries to list. The default lists all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// In this state only.
    pub phase: Option<Phase>,
    /// To this federation domain only.
    pub domain: Option<DomainName>,
    /// Of this message only.
    pub message: Option<MessageId>,
    /// At most this many, the oldest first; `None` for no bound.
    pub limit: Option<usize>,
}

/// A delivery, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryView {
    /// Which one.
    pub delivery: DeliveryId,
    /// Where it goes.
    pub route: Route,
    /// Its state.
    pub phase: Phase,
    /// Who holds it, if it is held.
    pub held_by: Option<Hold>,
    /// When it is due next, if it waits.
    pub due: Option<Timestamp>,
    /// When its message was accepted.
    pub accepted: Timestamp,
    /// When it is returned if nothing helps.
    pub expires: Timestamp,
    /// When the sender was told that it is late, or nobody was found who wants to know.
    #[serde(default)]
    pub warned: Option<Timestamp>,
    /// Attempts so far.
    pub tries: u32,
    /// Its recipients.
    pub recipients: Vec<RecipientView>,
}

/// A recipient of a delivery, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientView {
    /// The address; `None` if the message's record is damaged.
    pub address: Option<Address>,
    /// What has become of it.
    pub fate: Fate,
    /// What the last attempt said.
    pub note: Option<Note>,
}

/// A message and its deliveries, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageView {
    /// Which one.
    pub message: MessageId,
    /// How it came to be ours.
    pub origin: Origin,
    /// What was known of the other side.
    pub arrival: Arrival,
    /// Sender and recipients.
    pub envelope: Envelope,
    /// When it was accepted.
    pub accepted: Timestamp,
    /// Octets of content.
    pub size: u64,
    /// Digest of the content as it came.
    pub received_digest: Digest,
    /// Digest of the content as every hop gets it.
    pub content_digest: Digest,
    /// One per route.
    pub deliveries: Vec<DeliveryView>,
}

impl Spool {
    /// A message with its deliveries.
    ///
    /// # Errors
    /// [`SpoolError::NoMessage`] when it is settled or never was; [`SpoolError::Damaged`].
    pub async fn message(&self, id: MessageId) -> Result<MessageView, SpoolError> {
        let retry = self.settings().retry;
        self.read(move |tables| {
            let message = tables.message(id)?;
            let deliveries = tables.deliveries_of(id)?;
            let deliveries =
                deliveries.iter().map(|(id, delivery)| view(*id, delivery, Some(&message), retry)).collect();
            Ok(MessageView {
                message: id,
                origin: message.origin,
                arrival: message.arrival,
                envelope: message.envelope,
                accepted: message.accepted,
                size: message.size,
                received_digest: message.received_digest,
                content_digest: message.content_digest,
                deliveries,
            })
        })
        .await
    }

    /// The deliveries that match, oldest message first. Damaged ones are left out; [`Spool::counts`] counts them. One whose
    /// message is damaged is listed as held for that.
    ///
    /// # Errors
    /// [`SpoolError::Broken`].
    pub async fn list(&self, filter: Filter) -> Result<Vec<DeliveryView>, SpoolError> {
        let retry = self.settings().retry;
        self.read(move |tables| {
            let mut found = Vec::new();
            let mut failed = None;
            tables.each_delivery(|id, delivery| {
                let Ok(delivery) = delivery else { return ControlFlow::Continue(()) };
                if filter.limit.is_some_and(|limit| found.len() >= limit) {
                    return ControlFlow::Break(());
                }
                if filter.matches(id, &delivery) {
                    match tables.message(id.message) {
                        Ok(message) if filter.wants(delivery.phase()) => {
                            found.push(view(id, &delivery, Some(&message), retry));
                        }
                        Ok(_) => {}
                        Err(error @ SpoolError::Broken(_)) => {
                            failed = Some(error);
                            return ControlFlow::Break(());
                        }
                        // Nobody tries or returns it without its message: whatever it waits for will not come.
                        Err(_) if filter.wants(Phase::Held) => {
                            found.push(kept_back(view(id, &delivery, None, retry)));
                        }
                        Err(_) => {}
                    }
                }
                ControlFlow::Continue(())
            })?;
            failed.map_or(Ok(found), Err)
        })
        .await
    }

    /// Stops a waiting delivery. Its clock of return runs on.
    ///
    /// # Errors
    /// [`SpoolError::State`] unless it waits.
    pub async fn hold(&self, id: DeliveryId) -> Result<(), SpoolError> {
        self.transition(id, "hold", |delivery, _| match delivery.state {
            State::Waiting { aim: Aim::Deliver, .. } => Some(State::Held { by: Hold::Operator }),
            _ => None,
        })
        .await
    }

    /// Lets a held delivery go on, now.
    ///
    /// # Errors
    /// [`SpoolError::State`] unless it is held.
    pub async fn release(&self, id: DeliveryId) -> Result<(), SpoolError> {
        self.forget_damage(id.message);
        self.transition(id, "release", |delivery, now| match delivery.state {
            State::Held { .. } => {
                delivery.unknown = 0;
                Some(State::Waiting { due: now, aim: Aim::Deliver })
            }
            _ => None,
        })
        .await
    }

    /// Tries a waiting delivery now.
    ///
    /// # Errors
    /// [`SpoolError::State`] unless it waits.
    pub async fn retry(&self, id: DeliveryId) -> Result<(), SpoolError> {
        self.transition(id, "retry", |delivery, now| match delivery.state {
            State::Waiting { aim, .. } => Some(State::Waiting { due: now, aim }),
            _ => None,
        })
        .await
    }

    /// Has a waiting or held delivery returned to its sender, now. It becomes due with [`super::Due::ReturnAsked`].
    ///
    /// # Errors
    /// [`SpoolError::State`] while an attempt is under way, and once it is settled.
    pub async fn return_(&self, id: DeliveryId) -> Result<(), SpoolError> {
        self.transition(id, "return", |delivery, now| match delivery.state {
            State::Waiting { .. } | State::Held { .. } => Some(State::Waiting { due: now, aim: Aim::Return }),
            _ => None,
        })
        .await
    }

    async fn transition(
        &self,
        id: DeliveryId,
        asked: &'static str,
        next: impl FnOnce(&mut StoredDelivery, Timestamp) -> Option<State> + Send + 'static,
    ) -> Result<(), SpoolError> {
        let now = self.world().now();
        self.change(Room::Settles, move |tables| {
            let mut delivery = tables.delivery(id)?;
            let phase = delivery.phase();
            let state = next(&mut delivery, now).ok_or(SpoolError::State { delivery: id, phase, asked })?;
            delivery.state = state;
            tables.put_delivery(id, &delivery)
        })
        .await
    }
}

/// A delivery without its message, which is damaged.
fn kept_back(view: DeliveryView) -> DeliveryView {
    DeliveryView { phase: Phase::Held, held_by: Some(Hold::Damaged), due: None, ..view }
}

impl Filter {
    fn wants(&self, phase: Phase) -> bool {
        self.phase.is_none_or(|wanted| wanted == phase)
    }

    /// Whether it may be meant. One that waits may yet turn out to be held, for want of its message.
    fn matches(&self, id: DeliveryId, delivery: &StoredDelivery) -> bool {
        (self.wants(delivery.phase()) || self.phase == Some(Phase::Held))
            && self.message.is_none_or(|message| id.message == message)
            && self
                .domain
                .as_ref()
                .is_none_or(|domain| matches!(&delivery.route, Route::Federation(to) if to == domain))
    }
}

fn view(
    id: DeliveryId,
    delivery: &StoredDelivery,
    message: Option<&StoredMessage>,
    retry: super::Retry,
) -> DeliveryView {
    let address = |index: u16| {
        message
            .and_then(|message| message.envelope.recipients.get(usize::from(index)))
            .map(|r| r.address.clone())
    };
    DeliveryView {
        delivery: id,
        route: delivery.route.clone(),
        phase: delivery.phase(),
        held_by: match delivery.state {
            State::Held { by } => Some(by),
            _ => None,
        },
        due: match delivery.state {
            State::Waiting { due, .. } => Some(due),
            _ => None,
        },
        accepted: delivery.accepted,
        expires: retry.expires(delivery.accepted),
        warned: delivery.warned,
        tries: delivery.tries,
        recipients: delivery
            .recipients
            .iter()
            .map(|recipient| RecipientView {
                address: address(recipient.index),
                fate: recipient.fate,
                note: recipient.note.clone(),
            })
            .collect(),
    }
}
