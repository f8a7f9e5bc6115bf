//! What is due when: the deliveries of the store, in memory, in the order of their next try.
//!
//! Derived data. It is built when the store is opened and follows each commit; the store alone says what is true.

use std::collections::{BTreeSet, HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};

use crate::model::{DeliveryId, MessageId};

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
    /// Nothing of that, but its sender is to be told that it is late: see [`super::Spool::overdue`] (SPOOL-015).
    Late,
}

#[derive(Clone, Debug)]
struct Slot {
    phase: Phase,
    route: Route,
    aim: Aim,
    expires: Timestamp,
    /// When it is tried next; `None` if it is not.
    next: Option<Timestamp>,
    /// When its sender is to be told that it is late; `None` if that is done, or is not to be done any more.
    late: Option<Timestamp>,
    /// When somebody has to look at it; `None` while an attempt is under way, and once it is settled.
    due: Option<Timestamp>,
}

impl Slot {
    /// Why somebody has to look at it at `now`, which is not before it is due.
    ///
    /// What can be tried is tried before its sender is told, for it may be there a moment later. One that has had no try for
    /// longer than any pause between two, although nothing but a free place was missing since `opened`, has waited enough.
    fn why(&self, now: Timestamp, opened: Timestamp, retry: Retry) -> Due {
        let next = match (self.aim, self.next) {
            (Aim::Return, _) => return Due::ReturnAsked,
            (Aim::Deliver, _) if now >= self.expires => return Due::Expired,
            (Aim::Deliver, None) => return Due::Late,
            (Aim::Deliver, Some(next)) => next,
        };
        let starved = now.duration_since(next.max(opened))
            > SignedDuration::try_from(retry.longest).unwrap_or(SignedDuration::MAX);
        if now < next || (starved && self.late.is_some_and(|late| late <= now)) {
            Due::Late
        } else {
            Due::Attempt
        }
    }
}

/// Deliveries by due time.
#[derive(Debug)]
pub(super) struct Board {
    retry: Retry,
    slots: HashMap<DeliveryId, Slot>,
    due: BTreeSet<(Timestamp, DeliveryId)>,
    claimed: HashSet<DeliveryId>,
    phases: [usize; 6],
    messages: usize,
    octets: u64,
    pub(super) damaged: usize,
    /// Since when deliveries are taken from here.
    opened: Option<Timestamp>,
}

impl Board {
    pub(super) fn new(retry: Retry) -> Self {
        Self {
            retry,
            slots: HashMap::new(),
            due: BTreeSet::new(),
            claimed: HashSet::new(),
            phases: [0; 6],
            messages: 0,
            octets: 0,
            damaged: 0,
            opened: None,
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
        let (next, aim) = match delivery.state {
            State::Waiting { due, aim } => (Some(due), aim),
            _ => (None, Aim::Deliver),
        };
        let late = Some(self.retry.late(delivery.accepted)).filter(|late| {
            // One that is due after its end could not be returned; being late is the least of its troubles.
            let in_time = *late < expires && next.is_none_or(|next| next <= expires);
            delivery.warned.is_none() && aim == Aim::Deliver && in_time
        });
        let due = match delivery.state {
            State::Waiting { due, .. } => Some(late.map_or(due, |late| late.min(due))),
            State::Held { .. } => Some(late.unwrap_or(expires)),
            State::Attempting { .. } | State::Delivered | State::Returned | State::Discarded => None,
        };
        if let Some(due) = due {
            self.due.insert((due, id));
        }
        self.phases[delivery.phase() as usize] += 1;
        self.slots.insert(
            id,
            Slot { phase: delivery.phase(), route: delivery.route.clone(), aim, expires, next, late, due },
        );
    }

    /// Has the sender of a late delivery told at `at` and not before. What else makes it due does so.
    pub(super) fn put_off(&mut self, id: DeliveryId, at: Timestamp) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let Some(due) = slot.due.filter(|_| slot.late.is_some()) else { return };
        let later = at.min(slot.next.unwrap_or(slot.expires)).min(slot.expires);
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
        let opened = *self.opened.get_or_insert(now);
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
            let due = slot.why(now, opened, self.retry);
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
