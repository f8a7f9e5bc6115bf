//! What a start needs to know of a delivery: the row of the table `schedule`, small enough to be read for a million of them.
//!
//! It stands beside the delivery, says nothing that the delivery does not say, and is written in the same commit, so the two
//! agree at any instant; a scrub looks whether they do. A row that does not open is made again from its delivery.
//!
//! Unlike other values a row is no JSON: a start opens all of them, and what it costs is what they weigh.

use jiff::Timestamp;

use super::stored::{Aim, Body, Hold, State, StoredDelivery};
use super::{Phase, Route};

/// Octets in front of the route.
const HEAD_OCTETS: usize = 26;

/// Its sender knows that it is late.
const WARNED: u8 = 1;
/// An attempt ended and nobody knows how.
const SUSPECT: u8 = 2;
/// The content of its message is in a file.
const IN_FILE: u8 = 4;

/// What the board keeps of a delivery. Times are in whole microseconds, as the board counts them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) route: Route,
    /// When its message was accepted.
    pub(super) accepted: Timestamp,
    pub(super) standing: Standing,
    /// Whether its sender knows that it is late, or nobody was found who wants to know.
    pub(super) warned: bool,
    /// Whether its last attempt, or the last few, ended and nobody knows how.
    pub(super) suspect: bool,
    /// Octets of the content of its message.
    pub(super) size: u64,
    /// Where that content is.
    pub(super) body: Body,
}

/// The state of a delivery, as far as it decides when somebody has to look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Waiting { due: Timestamp, aim: Aim },
    Attempting,
    Held(Hold),
    Delivered,
    Returned,
    Discarded,
}

impl Entry {
    /// Of this delivery.
    pub(super) fn of(delivery: &StoredDelivery) -> Self {
        Self {
            route: delivery.route.clone(),
            accepted: whole(delivery.accepted),
            standing: match delivery.state {
                State::Waiting { due, aim } => Standing::Waiting { due: whole(due), aim },
                State::Attempting { .. } => Standing::Attempting,
                State::Held { by } => Standing::Held(by),
                State::Delivered => Standing::Delivered,
                State::Returned => Standing::Returned,
                State::Discarded => Standing::Discarded,
            },
            warned: delivery.warned.is_some(),
            suspect: delivery.unknown > 0,
            size: delivery.size,
            body: delivery.body,
        }
    }

    pub(super) const fn phase(&self) -> Phase {
        match self.standing {
            Standing::Waiting { .. } => Phase::Waiting,
            Standing::Attempting => Phase::Attempting,
            Standing::Held(_) => Phase::Held,
            Standing::Delivered => Phase::Delivered,
            Standing::Returned => Phase::Returned,
            Standing::Discarded => Phase::Discarded,
        }
    }

    /// Whether it may be what stopped the node.
    pub(super) fn is_suspect(&self) -> bool {
        self.suspect && self.phase() == Phase::Waiting
    }

    /// State, flags, acceptance, due time, size, kind of route, domain of route; numbers big end first.
    pub(super) fn encode(&self) -> Vec<u8> {
        let (state, due) = match self.standing {
            Standing::Waiting { due, aim: Aim::Deliver } => (0, due.as_microsecond()),
            Standing::Waiting { due, aim: Aim::Return } => (1, due.as_microsecond()),
            Standing::Attempting => (2, 0),
            Standing::Held(Hold::Operator) => (3, 0),
            Standing::Held(Hold::Damaged) => (4, 0),
            Standing::Held(Hold::Poison) => (5, 0),
            Standing::Delivered => (6, 0),
            Standing::Returned => (7, 0),
            Standing::Discarded => (8, 0),
        };
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let flags =
            flag(self.warned, WARNED) | flag(self.suspect, SUSPECT) | flag(self.body == Body::File, IN_FILE);
        let (kind, domain) = match &self.route {
            Route::Environment => (0, ""),
            Route::Fallback => (1, ""),
            Route::Federation(domain) => (2, domain.as_str()),
        };
        let mut octets = Vec::with_capacity(HEAD_OCTETS + 1 + domain.len());
        octets.extend_from_slice(&[state, flags]);
        octets.extend_from_slice(&self.accepted.as_microsecond().to_be_bytes());
        octets.extend_from_slice(&due.to_be_bytes());
        octets.extend_from_slice(&self.size.to_be_bytes());
        octets.push(kind);
        octets.extend_from_slice(domain.as_bytes());
        octets
    }

    /// The inverse of [`Self::encode`].
    pub(super) fn decode(octets: &[u8]) -> Option<Self> {
        let (head, route) = octets.split_first_chunk::<HEAD_OCTETS>()?;
        let [state, flags, numbers @ ..] = head;
        let number = |at: usize| <[u8; 8]>::try_from(numbers.get(at..at + 8)?).ok();
        let time = |at| Timestamp::from_microsecond(i64::from_be_bytes(number(at)?)).ok();
        let due = time(8)?;
        let standing = match state {
            0 => Standing::Waiting { due, aim: Aim::Deliver },
            1 => Standing::Waiting { due, aim: Aim::Return },
            2 => Standing::Attempting,
            3 => Standing::Held(Hold::Operator),
            4 => Standing::Held(Hold::Damaged),
            5 => Standing::Held(Hold::Poison),
            6 => Standing::Delivered,
            7 => Standing::Returned,
            8 => Standing::Discarded,
            _ => return None,
        };
        let route = match route.split_first()? {
            (0, []) => Route::Environment,
            (1, []) => Route::Fallback,
            (2, domain) => Route::Federation(std::str::from_utf8(domain).ok()?.parse().ok()?),
            _ => return None,
        };
        Some(Self {
            route,
            accepted: time(0)?,
            standing,
            warned: flags & WARNED != 0,
            suspect: flags & SUSPECT != 0,
            size: u64::from_be_bytes(number(16)?),
            body: if flags & IN_FILE == 0 { Body::Inline } else { Body::File },
        })
    }
}

/// Without what is finer than a microsecond.
fn whole(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::AttemptId;

    fn delivery(route: Route, state: State) -> StoredDelivery {
        StoredDelivery {
            route,
            accepted: "2026-11-22T00:00:00.123456789Z".parse().unwrap(),
            state,
            tries: 3,
            unknown: 0,
            recipients: Vec::new(),
            warned: None,
            notices: 0,
            size: 20_480,
            body: Body::Inline,
        }
    }

    #[test]
    fn a_row_says_what_its_delivery_says_whatever_its_state_and_route() {
        let due = "2026-11-22T01:00:00.999999999Z".parse().unwrap();
        let aims = [Aim::Deliver, Aim::Return];
        let states = aims
            .into_iter()
            .map(|aim| State::Waiting { due, aim })
            .chain([Hold::Operator, Hold::Damaged, Hold::Poison].map(|by| State::Held { by }))
            .chain([State::Delivered, State::Returned, State::Discarded])
            .chain([State::Attempting {
                attempt: AttemptId::from_parts(1, 2),
                started: due,
                aim: Aim::Deliver,
            }]);
        let mut rows = std::collections::HashSet::new();
        for state in states {
            let routes = ["b.nl", "xn--bcher-kva.example"].map(|domain| domain.parse().unwrap());
            let routes = routes.into_iter().map(Route::Federation);
            for route in routes.chain([Route::Environment, Route::Fallback]) {
                let plain = delivery(route, state.clone());
                let all = [
                    plain.clone(),
                    StoredDelivery { warned: Some(due), ..plain.clone() },
                    StoredDelivery { unknown: 1, ..plain.clone() },
                    StoredDelivery { body: Body::File, ..plain.clone() },
                    StoredDelivery { size: u64::MAX, ..plain },
                ];
                for delivery in all {
                    let entry = Entry::of(&delivery);
                    assert_eq!(entry.phase(), delivery.phase());
                    assert_eq!(Entry::decode(&entry.encode()).as_ref(), Some(&entry));
                    assert!(rows.insert(entry.encode()), "two deliveries have one row: {entry:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_row_is_not_read_as_one() {
        let row = Entry::of(&delivery(Route::Environment, State::Delivered)).encode();
        for length in 0..row.len() {
            assert_eq!(Entry::decode(&row[..length]), None, "{length}");
        }
        let with = |position: usize, octet: u8| {
            let mut row = row.clone();
            row[position] = octet;
            row
        };
        assert_eq!(Entry::decode(&with(0, 9)), None, "no such state");
        assert_eq!(Entry::decode(&with(HEAD_OCTETS, 3)), None, "no such route");
        assert_eq!(Entry::decode(&with(HEAD_OCTETS, 2)), None, "a route to nowhere");
        assert_eq!(
            Entry::decode(&[row.as_slice(), b"b.nl"].concat()),
            None,
            "a domain of our own environment"
        );
        assert_eq!(Entry::decode(&with(2, 0x7f)), None, "the end of time");
    }

    /// A million rows are read at each start.
    #[test]
    fn a_row_is_small() {
        let row = Entry::of(&delivery(Route::Federation("b.nl".parse().unwrap()), State::Delivered)).encode();
        assert!(row.len() <= 32, "{}", row.len());
    }
}
