//! What is due when: the deliveries of the store, in memory, in a queue for each route.
//!
//! Derived data. It is built when the store is opened and follows each commit; the store alone says what is true.
//!
//! Routes take turns, and within a route the longest due goes first, so a route with a hundred thousand deliveries costs
//! the others one question per round. A route can be closed until a time: then its deliveries wait where they are, and
//! only those whose time is over, or whose return was asked for, come out. A delivery takes about 200 octets here,
//! whatever the length of its route's name.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use jiff::Timestamp;

use crate::model::{DeliveryId, MessageId};

use super::entry::{Entry, Standing};
use super::schedule::after;
use super::stored::{Aim, Hold, delivery_key, delivery_of_key};
use super::{Counts, Phase, Retry, Route};

/// What has to follow a commit outside the database.
pub(super) enum Effect {
    /// A delivery is new, or is in another state.
    Delivery(DeliveryId, Box<Entry>),
    /// The sender of a late delivery is told at this time and not before ([`Board::put_off`]).
    PutOff(DeliveryId, Timestamp),
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

/// Whether a delivery that is due may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission<T> {
    /// Yes, with what its attempt needs.
    Yes(T),
    /// Not now: its route has all it may have. It is asked about again in the next round.
    Busy,
    /// Not before this time, and neither is any other of its route.
    NotBefore(Timestamp),
}

/// Microseconds since 1970: half the size of a [`Timestamp`].
type Micros = i64;
/// A delivery as a key: 18 octets that sort as [`DeliveryId`] does, which takes 32.
type Key = [u8; 18];
/// Position of a route's queue.
type LaneId = u32;

/// No time at all.
const NEVER: Micros = Micros::MAX;

#[derive(Clone, Copy, Debug)]
#[cfg_attr(test, derive(PartialEq))]
struct Slot {
    /// When somebody has to look at it; [`NEVER`] while an attempt is under way, and once it is settled.
    due: Micros,
    /// When its sender is told that it is late; [`NEVER`] if that is done, or is not to be done any more.
    late: Micros,
    /// When it is returned.
    expires: Micros,
    lane: LaneId,
    phase: Phase,
    aim: Aim,
    /// Whether it was set aside (SPOOL-014).
    poison: bool,
    /// Whether somebody has it; then it is in no queue.
    claimed: bool,
}

impl Slot {
    /// Why it is due at `now`.
    const fn why(&self, now: Micros) -> Due {
        match self.aim {
            Aim::Return => Due::ReturnAsked,
            Aim::Deliver if now >= self.expires => Due::Expired,
            Aim::Deliver if now >= self.late => Due::Late,
            Aim::Deliver => Due::Attempt,
        }
    }

    /// When somebody has to look at it even though its route is closed.
    fn end(&self) -> Micros {
        self.late.min(self.expires)
    }
}

/// The queue of a route.
#[derive(Debug)]
#[cfg_attr(test, derive(PartialEq))]
struct Lane {
    route: Route,
    due: BTreeSet<(Micros, Key)>,
    ends: BTreeSet<(Micros, Key)>,
    /// No attempt before this.
    closed_until: Micros,
    /// Deliveries that name this queue, whatever their state.
    slots: usize,
    /// Where it stands in the agenda.
    next: Micros,
}

impl Lane {
    fn next(&self) -> Micros {
        let due = self.due.first().map_or(NEVER, |(due, _)| (*due).max(self.closed_until));
        let end = self.ends.first().map_or(NEVER, |(end, _)| *end);
        due.min(end)
    }
}

/// Deliveries that are put in together ([`Board::put_all`]).
#[derive(Debug, Default)]
pub(super) struct Crowd(Vec<(Key, Slot)>);

/// Deliveries by route and due time.
#[derive(Debug)]
#[cfg_attr(test, derive(PartialEq))]
pub(super) struct Board {
    retry: Retry,
    opened: Timestamp,
    slots: BTreeMap<Key, Slot>,
    lanes: Vec<Option<Lane>>,
    free: Vec<LaneId>,
    by_route: HashMap<Route, LaneId>,
    /// When each queue has to be looked at.
    agenda: BTreeSet<(Micros, LaneId)>,
    /// The queue whose turn it is.
    turn: LaneId,
    phases: [usize; 6],
    messages: usize,
    octets: u64,
    poison: usize,
    pub(super) damaged: usize,
    /// What was under way when the node last stopped, so that one of it may be the cause.
    pub(super) suspects: Vec<DeliveryId>,
}

impl Board {
    /// An empty one, of a store that is opened now.
    pub(super) fn new(retry: Retry, opened: Timestamp) -> Self {
        Self {
            retry,
            opened,
            slots: BTreeMap::new(),
            lanes: Vec::new(),
            free: Vec::new(),
            by_route: HashMap::new(),
            agenda: BTreeSet::new(),
            turn: 0,
            phases: [0; 6],
            messages: 0,
            octets: 0,
            poison: 0,
            damaged: 0,
            suspects: Vec::new(),
        }
    }

    /// Counts what was found when the store was opened.
    pub(super) const fn restore(&mut self, messages: usize, octets: u64) {
        self.messages += messages;
        self.octets += octets;
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

    pub(super) fn put(&mut self, id: DeliveryId, delivery: &Entry) {
        let key = delivery_key(id);
        let claimed = self.take_out(key).is_some_and(|slot| slot.claimed);
        let slot = self.slot(delivery, claimed);
        self.slots.insert(key, slot);
        self.enqueue(key, &slot);
    }

    /// Puts many at once into a board that has none. One after the other they would take ten times as long, and leave the maps
    /// half empty.
    pub(super) fn put_all(&mut self, crowd: Crowd) {
        let Crowd(mut slots) = crowd;
        slots.sort_unstable_by_key(|(key, _)| *key);
        let mut lanes: Vec<[Vec<(Micros, Key)>; 2]> = Vec::new();
        lanes.resize_with(self.lanes.len(), Default::default);
        for (key, slot) in slots.iter().filter(|(_, slot)| slot.due != NEVER) {
            if let Some([due, ends]) = lanes.get_mut(slot.lane as usize) {
                due.push((slot.due, *key));
                ends.push((slot.end(), *key));
            }
        }
        self.slots = slots.into_iter().collect();
        for (id, [due, ends]) in (0..).zip(lanes) {
            self.change(id, |lane| {
                lane.due = due.into_iter().collect();
                lane.ends = ends.into_iter().collect();
            });
        }
    }

    /// Puts in one that was found when the store was opened.
    pub(super) fn put_found(&mut self, id: DeliveryId, delivery: &Entry) {
        self.suspect(id, delivery);
        self.put(id, delivery);
    }

    /// Adds one that was found when the store was opened to those that [`Self::put_all`] will put in.
    pub(super) fn announce(&mut self, crowd: &mut Crowd, id: DeliveryId, delivery: &Entry) {
        self.suspect(id, delivery);
        let slot = self.slot(delivery, false);
        crowd.0.push((delivery_key(id), slot));
    }

    fn suspect(&mut self, id: DeliveryId, delivery: &Entry) {
        if delivery.is_suspect() {
            self.suspects.push(id);
        }
    }

    /// The place of a delivery, which is counted with it.
    fn slot(&mut self, delivery: &Entry, claimed: bool) -> Slot {
        let expires = self.retry.expires(delivery.accepted);
        let late = self.late(delivery, expires).map_or(NEVER, micros);
        let expires = micros(expires);
        let (due, expires, aim) = match delivery.standing {
            // One that could not be returned when it expired is due later.
            Standing::Waiting { due, aim: Aim::Deliver } => {
                (micros(due), micros(due).max(expires), Aim::Deliver)
            }
            Standing::Waiting { due, aim: Aim::Return } => (micros(due), micros(due), Aim::Return),
            Standing::Held(_) => (expires, expires, Aim::Deliver),
            Standing::Attempting | Standing::Delivered | Standing::Returned | Standing::Discarded => {
                (NEVER, NEVER, Aim::Deliver)
            }
        };
        let lane = self.lane_of(&delivery.route);
        let poison = delivery.standing == Standing::Held(Hold::Poison);
        let slot = Slot { due, late, expires, lane, phase: delivery.phase(), aim, poison, claimed };
        self.phases[slot.phase as usize] += 1;
        self.poison += usize::from(poison);
        if let Some(Some(lane)) = self.lanes.get_mut(lane as usize) {
            lane.slots += 1;
        }
        slot
    }

    /// When the sender of a delivery is to be told that it is late.
    fn late(&self, delivery: &Entry, expires: Timestamp) -> Option<Timestamp> {
        let late = self.retry.late(delivery.accepted);
        let late = match delivery.standing {
            Standing::Waiting { aim: Aim::Return, .. } => return None,
            // It could not be returned at its end, and is due after it: being late is the least of its troubles.
            Standing::Waiting { due, .. } if due > expires => return None,
            // The node was away, and much of what it finds it can deliver now.
            Standing::Waiting { due, .. } if after(due, self.retry.longest) < self.opened => {
                late.max(after(self.opened, self.retry.longest))
            }
            _ => late,
        };
        Some(late).filter(|late| !delivery.warned && *late < expires)
    }

    /// Has the sender of a late delivery told at `at` and not before.
    pub(super) fn put_off(&mut self, id: DeliveryId, at: Timestamp) {
        let key = delivery_key(id);
        let Some(slot) = self.slots.get(&key).copied().filter(|slot| slot.late != NEVER) else { return };
        self.dequeue(key, &slot);
        let slot = Slot { late: micros(at), ..slot };
        self.slots.insert(key, slot);
        self.enqueue(key, &slot);
    }

    pub(super) fn remove(&mut self, id: DeliveryId) {
        self.take_out(delivery_key(id));
    }

    /// Takes a delivery that is damaged off the schedule; whether it was on it.
    pub(super) fn set_aside(&mut self, id: DeliveryId) -> bool {
        let known = self.take_out(delivery_key(id)).is_some();
        self.damaged += usize::from(known);
        known
    }

    /// Whether it knows this delivery.
    pub(super) fn has(&self, id: DeliveryId) -> bool {
        self.slots.contains_key(&delivery_key(id))
    }

    /// Forgets all deliveries of a message; returns which there were.
    pub(super) fn remove_all_of(&mut self, message: MessageId) -> Vec<DeliveryId> {
        let key = |route| delivery_key(DeliveryId { message, route });
        let keys: Vec<_> = self.slots.range(key(0)..=key(u16::MAX)).map(|(key, _)| *key).collect();
        let ids: Vec<_> = keys.iter().map(delivery_of_key).collect();
        for key in keys {
            self.take_out(key);
        }
        self.suspects.retain(|suspect| suspect.message != message);
        ids
    }

    /// Forgets a delivery, and its route's queue with the last one.
    fn take_out(&mut self, key: Key) -> Option<Slot> {
        let slot = self.slots.remove(&key)?;
        self.phases[slot.phase as usize] -= 1;
        self.poison -= usize::from(slot.poison);
        self.dequeue(key, &slot);
        let lane = self.lanes.get_mut(slot.lane as usize)?.as_mut()?;
        lane.slots -= 1;
        if lane.slots == 0 {
            self.agenda.remove(&(lane.next, slot.lane));
            self.by_route.remove(&lane.route);
            self.lanes[slot.lane as usize] = None;
            self.free.push(slot.lane);
        }
        Some(slot)
    }

    fn lane_of(&mut self, route: &Route) -> LaneId {
        if let Some(&lane) = self.by_route.get(route) {
            return lane;
        }
        let lane = Lane {
            route: route.clone(),
            due: BTreeSet::new(),
            ends: BTreeSet::new(),
            closed_until: Micros::MIN,
            slots: 0,
            next: NEVER,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.lanes[id as usize] = Some(lane);
                id
            }
            None => {
                self.lanes.push(Some(lane));
                // Each has a delivery: memory ends long before the numbers do.
                LaneId::try_from(self.lanes.len() - 1).unwrap_or(LaneId::MAX)
            }
        };
        self.by_route.insert(route.clone(), id);
        id
    }

    /// Puts a delivery that nobody has into the queue of its route.
    fn enqueue(&mut self, key: Key, slot: &Slot) {
        if slot.claimed || slot.due == NEVER {
            return;
        }
        self.change(slot.lane, |lane| {
            lane.due.insert((slot.due, key));
            lane.ends.insert((slot.end(), key));
        });
    }

    fn dequeue(&mut self, key: Key, slot: &Slot) {
        self.change(slot.lane, |lane| {
            lane.due.remove(&(slot.due, key));
            lane.ends.remove(&(slot.end(), key));
        });
    }

    /// Changes a queue, and its place in the agenda with it.
    fn change(&mut self, id: LaneId, change: impl FnOnce(&mut Lane)) {
        let Some(Some(lane)) = self.lanes.get_mut(id as usize) else { return };
        change(lane);
        let next = lane.next();
        if next != lane.next {
            self.agenda.remove(&(lane.next, id));
            lane.next = next;
            if next != NEVER {
                self.agenda.insert((next, id));
            }
        }
    }

    /// When the next delivery is due that nobody has claimed, on a route that is not closed by then.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.agenda.first().map(|(next, _)| timestamp(*next))
    }

    /// Claims up to `limit` deliveries that are due at `now` and that `admit` lets go: of each route in turn, the longest
    /// due first, and those that are to be returned before all others.
    pub(super) fn take_due<T>(
        &mut self,
        now: Timestamp,
        limit: usize,
        mut admit: impl FnMut(&Route, Due) -> Admission<T>,
    ) -> Vec<(DeliveryId, Route, Due, T)> {
        let now = micros(now);
        let mut taken = Vec::new();
        let mut waiting = self.whose_turn(now);
        while taken.len() < limit
            && let Some(lane) = waiting.pop_front()
        {
            // One refusal stands for all of a route: a peer that is away may have thousands waiting.
            if let Some(claimed) = self.take_from(lane, now, &mut admit) {
                taken.push(claimed);
                waiting.push_back(lane);
                self.turn = lane.wrapping_add(1);
            }
        }
        taken
    }

    /// The queues that have something due, that whose turn it is first.
    fn whose_turn(&self, now: Micros) -> VecDeque<LaneId> {
        let mut lanes: Vec<_> = self.agenda.range(..=(now, LaneId::MAX)).map(|(_, lane)| *lane).collect();
        lanes.sort_unstable_by_key(|lane| lane.wrapping_sub(self.turn));
        lanes.into()
    }

    fn take_from<T>(
        &mut self,
        id: LaneId,
        now: Micros,
        admit: &mut impl FnMut(&Route, Due) -> Admission<T>,
    ) -> Option<(DeliveryId, Route, Due, T)> {
        let lane = self.lanes.get(id as usize)?.as_ref()?;
        let ended = lane.ends.first().filter(|(end, _)| *end <= now);
        let due = lane.due.first().filter(|(due, _)| *due <= now && lane.closed_until <= now);
        for (_, key) in ended.into_iter().chain(due) {
            let slot = self.slots.get(key)?;
            let why = slot.why(now);
            match admit(&lane.route, why) {
                Admission::Yes(admitted) => {
                    let (key, slot, route) = (*key, *slot, lane.route.clone());
                    self.give(key, slot);
                    return Some((delivery_of_key(&key), route, why, admitted));
                }
                Admission::Busy => {}
                Admission::NotBefore(until) => {
                    let until = micros(until);
                    self.change(id, |lane| lane.closed_until = until);
                    return None;
                }
            }
        }
        None
    }

    /// Claims this one, if it is due and nobody has it.
    pub(super) fn claim(&mut self, id: DeliveryId, now: Timestamp) -> Option<(Route, Due)> {
        let (key, now) = (delivery_key(id), micros(now));
        let slot = *self.slots.get(&key)?;
        if slot.claimed || slot.due > now {
            return None;
        }
        let route = self.lanes.get(slot.lane as usize)?.as_ref()?.route.clone();
        self.give(key, slot);
        Some((route, slot.why(now)))
    }

    fn give(&mut self, key: Key, slot: Slot) {
        self.dequeue(key, &slot);
        self.slots.insert(key, Slot { claimed: true, ..slot });
    }

    pub(super) fn unclaim(&mut self, id: DeliveryId) {
        let key = delivery_key(id);
        if let Some(slot) = self.slots.get_mut(&key) {
            slot.claimed = false;
            let slot = *slot;
            self.enqueue(key, &slot);
        }
    }

    /// Ends a route's being closed, so that it is asked about in the next round.
    pub(super) fn reopen(&mut self, route: &Route) {
        if let Some(&lane) = self.by_route.get(route) {
            self.change(lane, |lane| lane.closed_until = Micros::MIN);
        }
    }

    /// Makes everything of a route due that waits for its next try, and reopens the route.
    pub(super) fn hasten(&mut self, route: &Route, now: Timestamp) {
        self.reopen(route);
        let now = micros(now);
        let Some(&id) = self.by_route.get(route) else { return };
        let Some(Some(lane)) = self.lanes.get(id as usize) else { return };
        let later: Vec<_> = lane.due.range((now, [0xff; 18])..).map(|(_, key)| *key).collect();
        for key in later {
            let Some(slot) = self.slots.get(&key).copied() else { continue };
            // Held, or waiting to be returned once more: that has nothing to do with the other side.
            if slot.phase == Phase::Waiting && slot.due < slot.expires {
                self.dequeue(key, &slot);
                let slot = Slot { due: now, ..slot };
                self.slots.insert(key, slot);
                self.enqueue(key, &slot);
            }
        }
    }

    /// Where a delivery goes.
    pub(super) fn route_of(&self, id: DeliveryId) -> Option<Route> {
        let slot = self.slots.get(&delivery_key(id))?;
        Some(self.lanes.get(slot.lane as usize)?.as_ref()?.route.clone())
    }

    /// How many deliveries of a route wait in its queue.
    pub(super) fn queued(&self, route: &Route) -> usize {
        let lane = self.by_route.get(route).and_then(|&lane| self.lanes.get(lane as usize)?.as_ref());
        lane.map_or(0, |lane| lane.due.len())
    }

    /// Octets of one delivery in the maps of this board, their own overhead aside.
    #[cfg(test)]
    pub(super) const fn octets_per_delivery() -> usize {
        size_of::<(Key, Slot)>() + 2 * size_of::<(Micros, Key)>()
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            messages: self.messages,
            octets: self.octets,
            waiting: self.phases[Phase::Waiting as usize],
            attempting: self.phases[Phase::Attempting as usize],
            held: self.phases[Phase::Held as usize],
            poison: self.poison,
            damaged: self.damaged,
        }
    }
}

fn micros(time: Timestamp) -> Micros {
    time.as_microsecond()
}

fn timestamp(time: Micros) -> Timestamp {
    Timestamp::from_microsecond(time).unwrap_or(Timestamp::MAX)
}
