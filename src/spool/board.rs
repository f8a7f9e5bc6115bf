//! What is due when: the deliveries of the store, in memory, in the order of their next try.
//!
//! Derived data. It is built when the store is opened and follows each commit; the store alone says what is true.

use std::collections::{BTreeSet, HashMap, HashSet};

use jiff::Timestamp;

use crate::model::{DeliveryId, MessageId};

use super::schedule::after;
use super::stored::{Aim, State, StoredDelivery};
use super::{Counts, Phase, Retry, Route};

/// What has to follow a commit outside the database.
pub(super) enum Effect {
    /// A delivery is new, or is in another state.
    Delivery(DeliveryId, Box<StoredDelivery>),
    /// A delivery is no longer stored.
    Gone(DeliveryId),
    /// A message is new.
    Added { octets: u64 },
    /// A message is no longer stored.
    Removed { octets: u64 },
    /// The content file of a message is no longer referred to.
    DropBody(MessageId),
}

/// Why a delivery is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Due {
    /// Its next try.
    Attempt,
    /// It has waited as long as it may: return it, without a try (SPOOL-010).
    Expired,
    /// An operator wants it returned, without a try.
    ReturnAsked,
    /// Its sender is to be told that it is late: see [`super::Spool::overdue`] (SPOOL-015).
    Late,
}

#[derive(Clone, Debug)]
struct Slot {
    phase: Phase,
    route: Route,
    aim: Aim,
    expires: Timestamp,
    /// When its sender is to be told that it is late; `None` if that is done, or is not to be done any more.
    late: Option<Timestamp>,
    /// When somebody has to look at it; `None` while an attempt is under way, and once it is settled.
    due: Option<Timestamp>,
}

/// Deliveries by due time.
#[derive(Debug)]
pub(super) struct Board {
    retry: Retry,
    opened: Timestamp,
    slots: HashMap<DeliveryId, Slot>,
    due: BTreeSet<(Timestamp, DeliveryId)>,
    claimed: HashSet<DeliveryId>,
    phases: [usize; 6],
    messages: usize,
    octets: u64,
    pub(super) damaged: usize,
}

impl Board {
    /// An empty one, of a store that is opened now.
    pub(super) fn new(retry: Retry, opened: Timestamp) -> Self {
        Self {
            retry,
            opened,
            slots: HashMap::new(),
            due: BTreeSet::new(),
            claimed: HashSet::new(),
            phases: [0; 6],
            messages: 0,
            octets: 0,
            damaged: 0,
        }
    }

    pub(super) fn add_message(&mut self, octets: u64) {
        self.messages += 1;
        self.octets += octets;
    }

    pub(super) fn remove_message(&mut self, octets: u64) {
        self.messages = self.messages.saturating_sub(1);
        self.octets = self.octets.saturating_sub(octets);
    }

    /// Octets of content of all messages.
    pub(super) fn octets(&self) -> u64 {
        self.octets
    }

    pub(super) fn put(&mut self, id: DeliveryId, delivery: &StoredDelivery) {
        self.remove(id);
        let expires = self.retry.expires(delivery.accepted);
        let late = self.late(delivery, expires);
        let (due, aim) = match delivery.state {
            State::Waiting { due, aim } => (Some(late.map_or(due, |late| late.min(due))), aim),
            State::Held { .. } => (Some(late.unwrap_or(expires)), Aim::Deliver),
            State::Attempting { .. } | State::Delivered | State::Returned | State::Discarded => {
                (None, Aim::Deliver)
            }
        };
        if let Some(due) = due {
            self.due.insert((due, id));
        }
        self.phases[delivery.phase() as usize] += 1;
        let (phase, route) = (delivery.phase(), delivery.route.clone());
        self.slots.insert(id, Slot { phase, route, aim, expires, late, due });
    }

    /// When the sender of a delivery is to be told that it is late.
    fn late(&self, delivery: &StoredDelivery, expires: Timestamp) -> Option<Timestamp> {
        let late = self.retry.late(delivery.accepted);
        let late = match delivery.state {
            State::Waiting { aim: Aim::Return, .. } => return None,
            // It could not be returned at its end, and is due after it: being late is the least of its troubles.
            State::Waiting { due, .. } if due > expires => return None,
            // The node was away, and much of what it finds it can deliver now.
            State::Waiting { due, .. } if after(due, self.retry.longest) < self.opened => {
                late.max(after(self.opened, self.retry.longest))
            }
            _ => late,
        };
        Some(late).filter(|late| delivery.warned.is_none() && *late < expires)
    }

    /// Has the sender of a late delivery, which is tried next at `next`, told at `at` and not before.
    pub(super) fn put_off(&mut self, id: DeliveryId, at: Timestamp, next: Option<Timestamp>) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let Some(due) = slot.due.filter(|_| slot.late.is_some()) else { return };
        let later = at.min(next.unwrap_or(slot.expires)).min(slot.expires);
        (slot.late, slot.due) = (Some(at), Some(later));
        self.due.remove(&(due, id));
        self.due.insert((later, id));
    }

    pub(super) fn remove(&mut self, id: DeliveryId) {
        if let Some(slot) = self.slots.remove(&id) {
            self.phases[slot.phase as usize] -= 1;
            if let Some(due) = slot.due {
                self.due.remove(&(due, id));
            }
        }
    }

    /// When the next delivery is due that nobody has claimed.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.due.iter().find(|(_, id)| !self.claimed.contains(id)).map(|(due, _)| *due)
    }

    /// Claims up to `limit` deliveries that are due at `now` and on a route that `admit` has something for, the longest due
    /// first.
    pub(super) fn take_due<T>(
        &mut self,
        now: Timestamp,
        limit: usize,
        mut admit: impl FnMut(&Route) -> Option<T>,
    ) -> Vec<(DeliveryId, Route, Due, T)> {
        let mut ready = Vec::new();
        // One refusal stands for all of a route: a peer that is away may have thousands waiting.
        let mut refused: HashSet<&Route> = HashSet::new();
        for (_, id) in self.due.iter().take_while(|(due, _)| *due <= now) {
            if ready.len() >= limit {
                break;
            }
            let Some(slot) = self.slots.get(id) else { continue };
            if self.claimed.contains(id) || refused.contains(&slot.route) {
                continue;
            }
            let Some(admitted) = admit(&slot.route) else {
                refused.insert(&slot.route);
                continue;
            };
            let due = match slot.aim {
                Aim::Return => Due::ReturnAsked,
                Aim::Deliver if now >= slot.expires => Due::Expired,
                Aim::Deliver if slot.late.is_some_and(|late| now >= late) => Due::Late,
                Aim::Deliver => Due::Attempt,
            };
            ready.push((*id, slot.route.clone(), due, admitted));
        }
        self.claimed.extend(ready.iter().map(|(id, ..)| *id));
        ready
    }

    pub(super) fn unclaim(&mut self, id: DeliveryId) {
        self.claimed.remove(&id);
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            messages: self.messages,
            octets: self.octets,
            waiting: self.phases[Phase::Waiting as usize],
            attempting: self.phases[Phase::Attempting as usize],
            held: self.phases[Phase::Held as usize],
            damaged: self.damaged,
        }
    }
}
