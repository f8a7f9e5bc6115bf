//! Whose turn it is: fair shares between routes, closed routes, and mail that is due early because a peer is back.

use std::collections::HashMap;

use super::*;
use crate::model::DeliveryId;
use crate::spool::board::{Board, Crowd};
use crate::spool::entry::{Entry, Standing};
use crate::spool::stored::{Aim, Body};

fn start() -> Timestamp {
    Timestamp::from_second(START).unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(START + seconds).unwrap()
}

fn id(number: u64) -> DeliveryId {
    DeliveryId { message: MessageId::from_parts(number, 7), route: 0 }
}

fn waiting(route: &Route, due: Timestamp) -> Entry {
    Entry {
        route: route.clone(),
        accepted: start(),
        standing: Standing::Waiting { due, aim: Aim::Deliver },
        // Its sender knows that it is late: that is another reason to be due (`late`).
        warned: true,
        suspect: false,
        size: 1,
        body: Body::Inline,
    }
}

/// A board with `count` deliveries due at the start on each of `domains`, the first domain's first.
fn board(domains: &[(&str, u64)]) -> Board {
    let mut board = Board::new(Retry::default(), start());
    let mut number = 0;
    for (domain, count) in domains {
        for _ in 0..*count {
            board.put(id(number), &waiting(&federation(domain), at(i64::try_from(number % 50).unwrap())));
            number += 1;
        }
    }
    board
}

fn any<T: Default>(_: &Route, _: Due) -> Admission<T> {
    Admission::Yes(T::default())
}

fn shares(taken: &[(DeliveryId, Route, Due, ())]) -> HashMap<String, usize> {
    let mut shares = HashMap::new();
    for (_, route, ..) in taken {
        *shares.entry(route.to_string()).or_default() += 1;
    }
    shares
}

/// Proves: +SPOOL-040 -SPOOL-040
#[test]
fn t34_routes_take_turns_however_much_one_of_them_has() {
    let mut board = board(&[("big.nl", 1000), ("b.nl", 10), ("c.nl", 10)]);
    let taken = board.take_due(at(60), 30, any::<()>);
    assert_eq!(shares(&taken).values().copied().collect::<Vec<_>>(), [10; 3]);
    // What one does not use is for the others.
    let taken = board.take_due(at(60), 30, any::<()>);
    assert_eq!(shares(&taken), HashMap::from([("federation:big.nl".to_owned(), 30)]));
}

/// Proves: +SPOOL-040
#[test]
fn the_turn_goes_on_where_the_last_round_ended() {
    let mut board = board(&[("a.nl", 9), ("b.nl", 9), ("c.nl", 9)]);
    let mut order = Vec::new();
    for _ in 0..9 {
        order.extend(board.take_due(at(60), 1, any::<()>).into_iter().map(|(_, route, ..)| route));
    }
    let turn = [federation("a.nl"), federation("b.nl"), federation("c.nl")];
    assert_eq!(order, [turn.clone(), turn.clone(), turn].concat());
}

/// Proves: +SPOOL-040 -SPOOL-040
#[test]
fn t34_a_closed_route_is_not_asked_about_again_and_its_mail_still_expires() {
    let dead = federation("dead.nl");
    let mut board = board(&[("dead.nl", 100_000), ("b.nl", 3)]);
    let mut asked = 0;
    let mut admit = |route: &Route, due: Due| {
        asked += 1;
        match (route == &dead, due) {
            (true, Due::Attempt) => Admission::NotBefore(at(3600)),
            _ => Admission::Yes(()),
        }
    };
    assert_eq!(board.take_due(at(60), 256, &mut admit).len(), 3);
    assert_eq!(board.take_due(at(3599), 256, &mut admit).len(), 0);
    assert_eq!(board.next_due(), Some(at(3600)), "nobody has to look before");
    assert_eq!(asked, 4);
    let expiry = 24 * 3600;
    let mut closed = |_: &Route, due: Due| match due {
        Due::Attempt => Admission::NotBefore(at(2 * expiry)),
        Due::Expired | Due::ReturnAsked | Due::Late => Admission::Yes(()),
    };
    assert!(board.take_due(at(expiry - 1), 256, &mut closed).is_empty());
    assert_eq!(board.next_due(), Some(at(expiry)));
    let taken = board.take_due(at(expiry), 256, &mut closed);
    assert!(taken.len() == 256 && taken.iter().all(|(_, _, due, ())| *due == Due::Expired));
}

/// Proves: +SPOOL-040
#[test]
fn what_is_to_be_returned_does_not_wait_for_a_slot_of_its_route() {
    let mut board = board(&[("slow.nl", 5)]);
    let route = federation("slow.nl");
    let asked =
        Entry { standing: Standing::Waiting { due: at(30), aim: Aim::Return }, ..waiting(&route, start()) };
    board.put(id(900), &asked);
    let busy = |_: &Route, due: Due| match due {
        Due::Attempt => Admission::Busy,
        Due::Expired | Due::ReturnAsked | Due::Late => Admission::Yes(()),
    };
    let taken = board.take_due(at(60), 10, busy);
    assert_eq!(taken, [(id(900), route, Due::ReturnAsked, ())]);
}

/// Proves: +SPOOL-041 -SPOOL-041
#[test]
fn when_a_peer_is_back_its_mail_is_due_and_nobody_else_s() {
    let (back, other) = (federation("back.nl"), federation("b.nl"));
    let mut board = Board::new(Retry::default(), start());
    for number in 0..10 {
        board.put(id(number), &waiting(&back, at(600)));
        board.put(id(number + 100), &waiting(&other, at(600)));
    }
    board.put(id(50), &Entry { standing: Standing::Held(Hold::Operator), ..waiting(&back, start()) });
    board.hasten(&back, at(10));
    assert_eq!(board.queued(&back), 11);
    let taken = board.take_due(at(10), 256, any::<()>);
    assert_eq!(shares(&taken), HashMap::from([("federation:back.nl".to_owned(), 10)]), "not what is held");
    assert_eq!(board.next_due(), Some(at(600)));
}

/// Proves: +SPOOL-015 -SPOOL-015
#[test]
fn t34_a_closed_route_keeps_nobody_from_hearing_that_mail_is_late() {
    const FOUR_HOURS: i64 = 4 * 3600;
    let route = federation("away.nl");
    let mut board = Board::new(Retry::default(), start());
    board.put(id(1), &Entry { warned: false, ..waiting(&route, at(60)) });
    board.put(id(2), &waiting(&route, at(60)));
    let mut closed = |_: &Route, due: Due| match due {
        Due::Attempt => Admission::NotBefore(at(10 * FOUR_HOURS)),
        Due::Expired | Due::ReturnAsked | Due::Late => Admission::Yes(()),
    };
    assert!(board.take_due(at(FOUR_HOURS - 1), 9, &mut closed).is_empty());
    assert_eq!(board.next_due(), Some(at(FOUR_HOURS)));
    let taken = board.take_due(at(FOUR_HOURS), 9, &mut closed);
    assert_eq!(taken, [(id(1), route.clone(), Due::Late, ())], "and not whose sender knows");
    // The notice could not be written: it is due again when that was put off to, still not as an attempt.
    board.put_off(id(1), at(FOUR_HOURS + 60));
    board.unclaim(id(1));
    assert_eq!(board.next_due(), Some(at(FOUR_HOURS + 60)));
    let taken = board.take_due(at(FOUR_HOURS + 60), 9, &mut closed);
    assert_eq!(taken, [(id(1), route.clone(), Due::Late, ())]);
    // It was written.
    board.put(id(1), &Entry { warned: true, ..waiting(&route, at(60)) });
    board.unclaim(id(1));
    assert!(board.take_due(at(2 * FOUR_HOURS), 9, &mut closed).is_empty());
}

#[test]
fn a_queue_goes_with_its_last_delivery_and_a_claim_comes_back() {
    let mut board = board(&[("a.nl", 1), ("b.nl", 1)]);
    let taken = board.take_due(at(60), 10, any::<()>);
    assert_eq!((taken.len(), board.next_due()), (2, None));
    board.remove(taken[0].0);
    board.unclaim(taken[0].0);
    assert_eq!(board.next_due(), None);
    board.unclaim(taken[1].0);
    assert_eq!(board.take_due(at(60), 10, any::<()>)[0].1, federation("b.nl"));
    assert_eq!(board.queued(&federation("a.nl")), 0);
    // Its place is used again.
    board.put(id(7), &waiting(&federation("c.nl"), start()));
    assert_eq!(board.take_due(at(60), 10, any::<()>)[0].1, federation("c.nl"));
}

/// A million of them is what issue and machine must hold, so what each takes is kept in sight.
#[test]
fn a_delivery_is_small_in_memory() {
    assert!(Board::octets_per_delivery() <= 120, "{}", Board::octets_per_delivery());
}

proptest::proptest! {
    /// A start puts them in together.
    #[test]
    fn a_crowd_leads_to_the_same_board_as_one_after_the_other(
        plan in proptest::collection::vec((0u64..5_000, 0u8..8, 0i64..200_000, proptest::prelude::any::<[bool; 2]>()), 0..200),
    ) {
        let [mut one_by_one, mut together] = [0, 1].map(|_| Board::new(Retry::default(), at(90_000)));
        let mut crowd = Crowd::default();
        let plan: HashMap<_, _> = plan.into_iter().map(|(number, state, due, flags)| (number, (state, due, flags))).collect();
        for (number, (state, due, [warned, suspect])) in plan {
            let route = federation(["a.nl", "b.nl", "c.nl"][usize::try_from(number % 3).unwrap()]);
            let standing = match state {
                0 => Standing::Held(Hold::Poison),
                1 => Standing::Attempting,
                2 => Standing::Delivered,
                3 => Standing::Waiting { due: at(due), aim: Aim::Return },
                _ => Standing::Waiting { due: at(due), aim: Aim::Deliver },
            };
            let entry = Entry { standing, warned, suspect, ..waiting(&route, start()) };
            one_by_one.put_found(id(number), &entry);
            together.announce(&mut crowd, id(number), &entry);
        }
        together.put_all(crowd);
        proptest::prop_assert_eq!(one_by_one, together);
    }

    /// Whatever happens in whatever order: nothing due is forgotten, and nothing is given twice.
    #[test]
    fn every_delivery_comes_out_once(
        plan in proptest::collection::vec((0u64..40, 0u8..4, 0i64..100), 1..120),
    ) {
        let mut board = Board::new(Retry::default(), start());
        let mut stored: HashMap<DeliveryId, i64> = HashMap::new();
        let mut claimed = Vec::new();
        for (number, action, second) in plan {
            let route = federation(["a.nl", "b.nl", "c.nl"][usize::try_from(number % 3).unwrap()]);
            match action {
                0 => {
                    board.put(id(number), &waiting(&route, at(second)));
                    stored.insert(id(number), second);
                }
                1 => {
                    board.remove(id(number));
                    stored.remove(&id(number));
                }
                2 => {
                    for (id, ..) in board.take_due(at(second), 3, any::<()>) {
                        proptest::prop_assert!(stored[&id] <= second && !claimed.contains(&id));
                        claimed.push(id);
                    }
                }
                _ => {
                    if let Some(id) = claimed.pop() {
                        board.unclaim(id);
                    }
                }
            }
            // A claim ends with its delivery.
            claimed.retain(|id| stored.contains_key(id));
        }
        for id in claimed {
            board.unclaim(id);
        }
        let mut out: Vec<_> = board.take_due(at(100), 1000, any::<()>).into_iter().map(|(id, ..)| id).collect();
        out.sort_unstable();
        let mut all: Vec<_> = stored.into_keys().collect();
        all.sort_unstable();
        proptest::prop_assert_eq!(out, all);
    }
}
