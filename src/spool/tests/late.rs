//! The notice of delay: in time, once, and never lost or doubled by a cut.

use std::collections::HashMap;

use super::*;
use crate::spool::stored::StoredDelivery;

const HOUR: i64 = 3_600_000;

/// The one delivery that is due because it is late.
async fn overdue(spool: &Spool) -> Overdue {
    let mut due = spool.take_due(spool.world().now(), 10);
    assert_eq!(due.iter().map(Claim::due).collect::<Vec<_>>(), [Due::Late]);
    spool.overdue(due.remove(0)).await.unwrap().unwrap()
}

/// A notice to the sender of [`one_recipient`], with content in a file of its own where `size` asks for it.
async fn notice(spool: &Spool, size: usize) -> Result<(DecisionRecord, Draft, NewMessage), SpoolError> {
    let mut draft = spool.draft(spool.world().message_id(), b"Subject: late\r\n");
    draft.write(&body(3, size)).await?;
    let message = NewMessage {
        envelope: envelope("", &["jan@a.nl"]),
        routes: vec![(Route::Environment, vec![0])],
        origin: Origin::Own,
        ..one_recipient()
    };
    Ok((record(spool), draft, message))
}

/// An attempt that leaves its recipient pending, and may not be repeated before `not_before`.
async fn fail(spool: &Spool, not_before: Option<Timestamp>) {
    let attempt = begin(spool).await;
    assert_eq!(attempt.due(), Due::Attempt);
    let end = AttemptEnd { not_before, ..all(&attempt, spool, Fate::Pending) };
    attempt.finish(end).await.unwrap();
}

/// Proves: +SPOOL-015
#[tokio::test]
async fn a_late_delivery_is_due_at_four_hours_however_long_it_waits_and_once() {
    let disk = PowerDisk::default();
    let (world, clock) = world();
    let spool = open(&disk, &world);
    let accepted = accept(&spool, one_recipient(), b"x").await.unwrap();
    let six_hours = world.now().checked_add(jiff::SignedDuration::from_hours(6)).unwrap();
    fail(&spool, Some(six_hours)).await;

    clock.advance(4 * HOUR - 1);
    assert!(spool.take_due(world.now(), 10).is_empty(), "not before its time");
    assert_eq!(spool.next_due().unwrap().duration_since(world.now()).as_millis(), 1);
    clock.advance(1);
    let late = overdue(&spool).await;
    assert_eq!((late.message(), late.route()), (accepted.message(), &federation("b.nl")));
    assert_eq!(late.pending().len(), 1);
    assert_eq!(late.expires().duration_since(world.now()).as_hours(), 20);
    let id = late.id();
    let report = late.told(Some(notice(&spool, 10).await.unwrap())).await.unwrap().unwrap();

    let view = spool.message(accepted.message()).await.unwrap().deliveries.remove(0);
    assert_eq!(
        (view.phase, view.due, view.tries),
        (Phase::Waiting, Some(six_hours), 1),
        "no attempt was made"
    );
    assert_eq!(view.warned, Some(world.now()));
    let records = spool.records_of(accepted.message()).await.unwrap();
    assert_eq!(records.last().unwrap().attempt, id);
    let due = spool.take_due(world.now(), 10);
    assert_eq!(due.iter().map(|claim| claim.delivery().message).collect::<Vec<_>>(), [report.message()]);
    drop(due);
    assert!(spool.begin_attempt(spool.take_due(world.now(), 1).remove(0)).await.is_ok());

    let spool = open(&disk.after_cut(1), &world);
    clock.advance(2 * HOUR - 1);
    let others = spool.take_due(world.now(), 10);
    assert!(others.iter().all(|claim| claim.delivery().message != accepted.message()), "told once");
}

/// Proves: +SPOOL-015
#[tokio::test]
async fn a_held_delivery_is_late_too_and_stays_held() {
    let disk = PowerDisk::default();
    let (world, clock) = world();
    let spool = open(&disk, &world);
    let id = accept(&spool, one_recipient(), b"x").await.unwrap().deliveries()[0];
    spool.hold(id).await.unwrap();
    clock.advance(4 * HOUR);
    // Nobody wants to know: that is remembered too.
    assert_eq!(overdue(&spool).await.told(None).await.unwrap(), None);
    assert_eq!(spool.counts().held, 1);
    assert!(spool.take_due(world.now(), 10).is_empty());
    assert_eq!(spool.next_due().unwrap().duration_since(world.now()).as_hours(), 20);
    assert!(
        spool.records_of(id.message).await.unwrap().is_empty(),
        "nothing happened that is worth a record"
    );
    clock.advance(20 * HOUR);
    assert_eq!(begin(&spool).await.due(), Due::Expired);
}

/// A node that was away for five hours can deliver most of what it finds late, and tries that first.
/// Proves: +SPOOL-015 -SPOOL-015
#[tokio::test]
async fn after_an_outage_of_the_node_there_is_half_an_hour_to_deliver() {
    let disk = PowerDisk::default();
    let (world, clock) = world();
    let spool = open(&disk, &world);
    let delivered = accept(&spool, one_recipient(), b"x").await.unwrap();
    fail(&spool, None).await;
    let held = accept(&spool, one_recipient(), b"x").await.unwrap();
    spool.hold(held.deliveries()[0]).await.unwrap();
    let never_tried = accept(&spool, one_recipient(), b"x").await.unwrap();
    spool.close().await;
    clock.advance(5 * HOUR);
    let spool = open(&disk, &world);
    let why = |spool: &Spool| -> HashMap<MessageId, Due> {
        let due = spool.take_due(spool.world().now(), 10);
        due.iter().map(|claim| (claim.delivery().message, claim.due())).collect()
    };
    assert_eq!(
        why(&spool),
        HashMap::from([
            (delivered.message(), Due::Attempt),
            (held.message(), Due::Late),
            (never_tried.message(), Due::Attempt)
        ]),
        "what is held the node cannot deliver"
    );
    let claims = spool.take_due(world.now(), 10);
    for claim in claims.into_iter().filter(|claim| claim.due() == Due::Attempt) {
        let settled = claim.delivery().message == delivered.message();
        let attempt = spool.begin_attempt(claim).await.unwrap();
        let end = all(&attempt, &spool, if settled { Fate::Delivered } else { Fate::Pending });
        attempt.finish(end).await.unwrap();
    }
    assert_eq!(
        why(&spool),
        HashMap::from([(held.message(), Due::Late), (never_tried.message(), Due::Late)]),
        "whose try has failed it is late for certain"
    );
}

/// A peer with more mail than places: most of it is never tried, and its senders are told all the same, also when the node
/// is started anew.
/// Proves: +SPOOL-015
#[tokio::test]
async fn t34_what_never_gets_its_turn_is_reported_late_too() {
    let disk = PowerDisk::default();
    let (world, clock) = world();
    let spool = open(&disk, &world);
    accept(&spool, one_recipient(), b"x").await.unwrap();
    clock.advance(4 * HOUR - 1);
    assert_eq!(spool.take_due(world.now(), 10)[0].due(), Due::Attempt);
    clock.advance(1);
    spool.close().await;
    let spool = open(&disk, &world);
    assert_eq!(spool.take_due(world.now(), 10)[0].due(), Due::Attempt);
    clock.advance(HOUR / 2);
    overdue(&spool).await.told(None).await.unwrap();
    assert_eq!(begin(&spool).await.due(), Due::Attempt, "and is tried when its turn comes");
}

/// Proves: -SPOOL-015
#[tokio::test]
async fn nobody_is_told_late_of_what_changed_in_the_meantime_or_twice() {
    let disk = PowerDisk::default();
    let (world, clock) = world();
    let spool = open(&disk, &world);
    let id = accept(&spool, one_recipient(), b"x").await.unwrap().deliveries()[0];
    fail(&spool, Some(Timestamp::MAX)).await;
    clock.advance(4 * HOUR);
    let late = overdue(&spool).await;
    spool.return_(id).await.unwrap();
    let told = late.told(Some(notice(&spool, 9000).await.unwrap())).await;
    assert!(matches!(told, Err(SpoolError::State { phase: Phase::Waiting, .. })), "{told:?}");
    assert_eq!(spool.counts().messages, 1, "no report");
    assert_eq!(begin(&spool).await.due(), Due::ReturnAsked, "and no wait for the operator");
    spool.close().await;
    assert!(disk.file_names().is_empty(), "nor a file");
}

/// Proves: -SPOOL-015
#[tokio::test]
async fn a_notice_that_could_not_be_written_is_tried_again_after_a_while() {
    let disk = PowerDisk::default();
    let (world, clock) = world();
    let spool = open(&disk, &world);
    accept(&spool, one_recipient(), b"x").await.unwrap();
    fail(&spool, Some(Timestamp::MAX)).await;
    clock.advance(4 * HOUR);
    drop(overdue(&spool).await);
    assert!(spool.take_due(world.now(), 10).is_empty(), "not in a circle");
    // Queues behind what that left to be committed.
    spool.prune_seen().await.unwrap();
    assert!(spool.take_due(world.now(), 10).is_empty(), "nor when that is committed");
    clock.advance(60_000);
    drop(overdue(&spool).await);
    // What is due for another reason does not wait with it.
    clock.advance(20 * HOUR - 60_000);
    assert_eq!(begin(&spool).await.due(), Due::Expired);
}

/// What stops the node while its notice is written does so twice: then it is left out, and the message is tried on.
/// Proves: +SPOOL-045 -SPOOL-045
#[tokio::test]
async fn t29_a_notice_that_stops_the_node_twice_is_left_out() {
    for (guilty, told) in [(true, false), (false, true)] {
        let mut disk = PowerDisk::default();
        let (world, clock) = world();
        let mut spool = open(&disk, &world);
        accept(&spool, one_recipient(), b"x").await.unwrap();
        fail(&spool, Some(Timestamp::MAX)).await;
        clock.advance(4 * HOUR);
        for round in 0..2 {
            let late = overdue(&spool).await;
            if guilty {
                disk = disk.after_cut(round);
                spool = open(&disk, &world);
                drop(late);
            } else {
                // Broken off for another reason, as by an orderly stop: that is nobody's fault.
                drop(late);
                spool.close().await;
                spool = open(&disk, &world);
            }
        }
        let mut due = spool.take_due(world.now(), 10);
        assert_eq!(due.iter().map(Claim::due).collect::<Vec<_>>(), [Due::Late]);
        assert_eq!(spool.overdue(due.remove(0)).await.unwrap().is_some(), told);
        if guilty {
            assert!(spool.take_due(world.now(), 10).is_empty(), "and is not asked for again");
            clock.advance(20 * HOUR);
            assert_eq!(begin(&spool).await.due(), Due::Expired);
        }
    }
}

/// Proves: +SPOOL-015 -SPOOL-015
#[tokio::test]
async fn t36_a_cut_leaves_the_sender_told_once_or_late() {
    // The operations of the commit: those between the decision to tell and the answer that it is done.
    let disk = PowerDisk::default();
    let (world, clock) = world();
    let spool = open(&disk, &world);
    accept(&spool, one_recipient(), b"x").await.unwrap();
    fail(&spool, Some(Timestamp::MAX)).await;
    clock.advance(4 * HOUR);
    let late = overdue(&spool).await;
    let before = disk.operations();
    late.told(Some(notice(&spool, 9000).await.unwrap())).await.unwrap();
    let points = disk.operations() - before;
    assert!(points > 4, "{points}");

    let mut outcomes = [0, 0];
    for point in 0..=points {
        let disk = PowerDisk::default();
        let (world, clock) = super::world();
        let spool = open(&disk, &world);
        let message = accept(&spool, one_recipient(), b"x").await.unwrap().message();
        fail(&spool, Some(Timestamp::MAX)).await;
        clock.advance(4 * HOUR);
        let late = overdue(&spool).await;
        disk.cut_at(disk.operations() + point);
        let answered = match notice(&spool, 9000).await {
            Ok(notice) => late.told(Some(notice)).await.is_ok(),
            Err(_) => false,
        };
        spool.close().await;
        let spool = open(&disk.after_cut(point), &world);
        let reports = spool.counts().messages - 1;
        let warned = spool.message(message).await.unwrap().deliveries[0].warned.is_some();
        assert_eq!(reports, usize::from(warned), "cut {point}: one without the other");
        assert!(warned || !answered, "cut {point}: what was done is undone");
        outcomes[usize::from(warned)] += 1;
        if !warned {
            overdue(&spool).await.told(Some(notice(&spool, 10).await.unwrap())).await.unwrap();
        }
        assert_eq!(spool.counts().messages, 2, "cut {point}: told, and once");
    }
    assert!(outcomes.iter().all(|count| *count > 0), "both sides of the commit were cut: {outcomes:?}");
}

/// What a node of before this notice has stored is read, and is not known to have been told.
#[test]
fn a_delivery_stored_before_there_were_notices_is_read() {
    #[derive(serde::Serialize)]
    struct Before {
        route: Route,
        accepted: Timestamp,
        state: &'static str,
        tries: u32,
        unknown: u32,
        recipients: [(); 0],
        size: u64,
        body: &'static str,
    }
    let before = Before {
        route: Route::Environment,
        accepted: Timestamp::UNIX_EPOCH,
        state: "delivered",
        tries: 1,
        unknown: 0,
        recipients: [],
        // These two come with the upgrade.
        size: 1,
        body: "inline",
    };
    let read: StoredDelivery = serde_json::from_value(serde_json::to_value(before).unwrap()).unwrap();
    assert_eq!((read.warned, read.tries), (None, 1));
}
