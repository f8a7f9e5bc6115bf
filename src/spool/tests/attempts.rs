//! Attempts: intent, end, schedule, settlement, and the operator's commands.

use super::*;
use crate::model::{ContentLeft, Outcome, Reason};

/// Proves: +SPOOL-006
#[tokio::test]
async fn an_attempt_is_on_disk_before_its_first_packet_and_unknown_after_a_cut() {
    let disk = PowerDisk::default();
    let (world, clock) = world();
    let spool = open(&disk, &world);
    let accepted = accept(&spool, one_recipient(), b"x").await.unwrap();
    let attempt = begin(&spool).await;
    assert_eq!((attempt.number(), attempt.due()), (1, Due::Attempt));
    // The power goes here, after the intent and before any end.
    let disk = disk.after_cut(1);
    clock.advance(5_000);
    let spool = open(&disk, &world);
    let records = spool.records_of(accepted.message()).await.unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].attempt, attempt.id());
    assert_eq!(records[0].outcome, Outcome::Unknown);
    assert_eq!(records[0].reason, Some(Reason::AttemptUnknown));
    assert_eq!(records[0].content_left, ContentLeft::Possibly);
    let view = &spool.message(accepted.message()).await.unwrap().deliveries[0];
    assert_eq!((view.phase, view.tries), (Phase::Waiting, 1));
    assert_eq!(begin(&spool).await.number(), 2, "it is tried at once");
}

/// Proves: +SPOOL-006
#[tokio::test]
async fn an_attempt_whose_worker_stopped_is_unknown_and_tried_again() {
    let disk = PowerDisk::default();
    let (world, clock) = world();
    let spool = open(&disk, &world);
    let accepted = accept(&spool, one_recipient(), b"x").await.unwrap();
    drop(begin(&spool).await);
    // The next change queues behind the one that the drop left.
    spool.note(record(&spool)).await.unwrap();
    assert_eq!(spool.counts().attempting, 0);
    assert_eq!(spool.records_of(accepted.message()).await.unwrap()[0].outcome, Outcome::Unknown);
    clock.advance(72_000);
    assert_eq!(begin(&spool).await.number(), 2);
}

/// Proves: +SPOOL-005 -SPOOL-005
#[tokio::test]
async fn a_message_goes_when_every_recipient_is_settled_and_not_before() {
    let disk = PowerDisk::default();
    let (world, clock) = world();
    let spool = open(&disk, &world);
    let message = NewMessage {
        envelope: envelope("jan@a.nl", &["een@b.nl", "zorg@c.nl", "twee@b.nl"]),
        routes: vec![(federation("b.nl"), vec![0, 2]), (federation("c.nl"), vec![1])],
        ..one_recipient()
    };
    let accepted = accept(&spool, message, &body(1, 9000)).await.unwrap();
    assert_eq!(disk.file_names().len(), 1);

    let mut due = spool.take_due(world.now(), 10);
    assert_eq!(
        due.iter().map(|claim| claim.route().clone()).collect::<Vec<_>>(),
        [federation("b.nl"), federation("c.nl")]
    );
    let to_c = spool.begin_attempt(due.remove(1)).await.unwrap();
    let to_b = spool.begin_attempt(due.remove(0)).await.unwrap();
    assert_eq!(to_b.pending().iter().map(|pending| pending.index).collect::<Vec<_>>(), [0, 2]);
    assert_eq!(to_b.pending_envelope().recipients.len(), 2);

    let end = all(&to_c, &spool, Fate::Delivered);
    let finished = to_c.finish(end).await.unwrap();
    assert_eq!((finished.phase, finished.message_settled), (Phase::Delivered, false));

    let end = AttemptEnd {
        recipients: vec![RecipientEnd { index: 2, fate: Fate::Delivered, note: None }],
        ..all(&to_b, &spool, Fate::Pending)
    };
    let finished = to_b.finish(end).await.unwrap();
    assert_eq!(finished.phase, Phase::Waiting);
    assert!(finished.next.unwrap() > world.now());
    assert_eq!(content_of(&spool, accepted.message()).await.unwrap().len(), 9016);

    clock.advance(72_000);
    let again = begin(&spool).await;
    assert_eq!(again.pending().iter().map(|pending| pending.index).collect::<Vec<_>>(), [0]);
    let end = all(&again, &spool, Fate::Delivered);
    assert!(again.finish(end).await.unwrap().message_settled);
    assert!(matches!(spool.message(accepted.message()).await, Err(SpoolError::NoMessage(_))));
    assert_eq!(spool.records_of(accepted.message()).await.unwrap().len(), 3, "the history stays");
    spool.close().await;
    assert!(disk.file_names().is_empty());
}

/// Proves: -SPOOL-005
#[tokio::test]
async fn results_for_recipients_of_others_are_refused_and_nothing_changes() {
    let disk = PowerDisk::default();
    let (world, _) = world();
    let spool = open(&disk, &world);
    let accepted = accept(&spool, one_recipient(), b"x").await.unwrap();
    let attempt = begin(&spool).await;
    let end = AttemptEnd {
        recipients: vec![
            RecipientEnd { index: 0, fate: Fate::Delivered, note: None },
            RecipientEnd { index: 1, fate: Fate::Delivered, note: None },
        ],
        ..all(&attempt, &spool, Fate::Pending)
    };
    assert!(matches!(attempt.finish(end).await, Err(SpoolError::Misuse(_))));
    spool.note(record(&spool)).await.unwrap();
    let view = &spool.message(accepted.message()).await.unwrap().deliveries[0];
    assert_eq!((view.phase, view.recipients[0].fate), (Phase::Waiting, Fate::Pending));
}

/// Proves: +SPOOL-011 +SPOOL-010
#[tokio::test]
async fn t36_the_report_and_the_settlement_are_one_commit() {
    let disk = PowerDisk::default();
    let (world, clock) = world();
    let spool = open(&disk, &world);
    let accepted = accept(&spool, one_recipient(), b"x").await.unwrap();
    clock.advance(24 * 3_600_000 - 1);
    assert_ne!(spool.take_due(world.now(), 1)[0].due(), Due::Expired);
    clock.advance(1);
    let attempt = begin(&spool).await;
    assert_eq!(attempt.due(), Due::Expired);

    let mut draft = spool.draft(world.message_id(), b"Subject: not delivered\r\n");
    draft.write(b"\r\nsorry\r\n").await.unwrap();
    let report = NewMessage {
        envelope: envelope("", &["jan@a.nl"]),
        routes: vec![(Route::Environment, vec![0])],
        origin: Origin::Own,
        ..one_recipient()
    };
    let end = AttemptEnd { report: Some((draft, report)), ..all(&attempt, &spool, Fate::Failed) };
    let flushed = disk.clone();
    let finished = attempt.finish(end).await.unwrap();
    assert_eq!((finished.phase, finished.message_settled), (Phase::Returned, true));
    let report = finished.report.unwrap();

    let spool = open(&flushed.after_cut(1), &world);
    assert!(matches!(spool.message(accepted.message()).await, Err(SpoolError::NoMessage(_))));
    assert_eq!(spool.message(report.message()).await.unwrap().origin, Origin::Own);
    let attempt = begin(&spool).await;
    assert_eq!(attempt.route(), &Route::Environment);
    // A report that fails causes no report.
    let end = all(&attempt, &spool, Fate::Failed);
    assert_eq!(attempt.finish(end).await.unwrap().phase, Phase::Discarded);
}

/// Proves: -SPOOL-010
#[tokio::test]
async fn after_the_time_is_over_nothing_may_stay_pending() {
    let disk = PowerDisk::default();
    let (world, clock) = world();
    let spool = open(&disk, &world);
    accept(&spool, one_recipient(), b"x").await.unwrap();
    clock.advance(25 * 3_600_000);
    let attempt = begin(&spool).await;
    let end = all(&attempt, &spool, Fate::Pending);
    assert!(matches!(attempt.finish(end).await, Err(SpoolError::Misuse(_))));
    spool.note(record(&spool)).await.unwrap();
    // It is not asked about in a circle, but after an interval.
    assert!(spool.take_due(world.now(), 1).is_empty());
    clock.advance(72_000);
    assert_eq!(begin(&spool).await.due(), Due::Expired);
}

/// Proves: +SPOOL-009 +SPOOL-010 +SPOOL-015
#[tokio::test]
async fn a_day_of_failures_has_about_fifty_tries_one_notice_and_an_end() {
    let disk = PowerDisk::default();
    let (world, clock) = world();
    let spool = open(&disk, &world);
    accept(&spool, one_recipient(), b"x").await.unwrap();
    let (mut tries, mut notices) = (0, 0);
    let advance = |to: Timestamp| {
        let wait = to.duration_since(world.now()).as_millis();
        clock.advance(i64::try_from(wait).unwrap());
    };
    loop {
        let mut due = spool.take_due(world.now(), 10);
        assert_eq!(due.len(), 1, "exactly one delivery is due");
        if due[0].due() == Due::Late {
            let late = spool.overdue(due.remove(0)).await.unwrap().unwrap();
            assert_eq!(late.at().duration_since(late.accepted()).as_secs(), 4 * 3600);
            late.told(None).await.unwrap();
            notices += 1;
            advance(spool.next_due().unwrap());
            continue;
        }
        let attempt = spool.begin_attempt(due.remove(0)).await.unwrap();
        if attempt.due() == Due::Expired {
            assert_eq!(world.now(), attempt.expires());
            break;
        }
        tries += 1;
        assert_eq!(attempt.number(), tries);
        let end = all(&attempt, &spool, Fate::Pending);
        let next = attempt.finish(end).await.unwrap().next.unwrap();
        let due = spool.next_due().unwrap();
        assert!(due == next || (notices == 0 && due < next), "the notice alone comes between");
        advance(due);
    }
    assert!((45..=60).contains(&tries), "{tries}");
    assert_eq!(notices, 1);
}

/// Proves: +SPOOL-005 -SPOOL-005
#[tokio::test]
async fn every_transition_that_is_not_drawn_is_refused() {
    let disk = PowerDisk::default();
    let (world, clock) = world();
    let spool = open(&disk, &world);
    let id = accept(&spool, one_recipient(), b"x").await.unwrap().deliveries()[0];
    let refused = |result: Result<(), SpoolError>, phase: Phase| match result {
        Err(SpoolError::State { phase: found, .. }) => assert_eq!(found, phase),
        other => panic!("expected a refusal, got {other:?}"),
    };
    // waiting
    refused(spool.release(id).await, Phase::Waiting);
    spool.hold(id).await.unwrap();
    // held
    assert!(spool.take_due(world.now(), 1).is_empty());
    refused(spool.hold(id).await, Phase::Held);
    refused(spool.retry(id).await, Phase::Held);
    spool.release(id).await.unwrap();
    // attempting
    let attempt = begin(&spool).await;
    refused(spool.hold(id).await, Phase::Attempting);
    refused(spool.release(id).await, Phase::Attempting);
    refused(spool.retry(id).await, Phase::Attempting);
    refused(spool.return_(id).await, Phase::Attempting);
    let end = all(&attempt, &spool, Fate::Pending);
    attempt.finish(end).await.unwrap();
    // waiting for later
    assert!(spool.take_due(world.now(), 1).is_empty());
    spool.retry(id).await.unwrap();
    drop(begin(&spool).await);
    spool.hold(id).await.unwrap();
    spool.return_(id).await.unwrap();
    // returning
    refused(spool.hold(id).await, Phase::Waiting);
    let attempt = begin(&spool).await;
    assert_eq!(attempt.due(), Due::ReturnAsked);
    let end = all(&attempt, &spool, Fate::Failed);
    assert_eq!(attempt.finish(end).await.unwrap().phase, Phase::Returned);
    // gone
    assert!(matches!(spool.hold(id).await, Err(SpoolError::NoDelivery(_))));
    clock.advance(1);
    assert!(spool.take_due(world.now(), 1).is_empty());
}

/// Proves: +SPOOL-005 +SPOOL-010
#[tokio::test]
async fn a_held_delivery_is_still_returned_in_time() {
    let disk = PowerDisk::default();
    let (world, clock) = world();
    let spool = open(&disk, &world);
    let id = accept(&spool, one_recipient(), b"x").await.unwrap().deliveries()[0];
    spool.hold(id).await.unwrap();
    clock.advance(24 * 3_600_000);
    assert_eq!(begin(&spool).await.due(), Due::Expired);
}

#[tokio::test]
async fn a_claim_is_exclusive_and_a_stale_one_is_refused() {
    let disk = PowerDisk::default();
    let (world, _) = world();
    let spool = open(&disk, &world);
    let id = accept(&spool, one_recipient(), b"x").await.unwrap().deliveries()[0];
    let mut first = spool.take_due(world.now(), 10);
    assert!(spool.take_due(world.now(), 10).is_empty());
    assert_eq!(spool.next_due(), None);
    drop(first.remove(0));
    let mut second = spool.take_due(world.now(), 10);
    spool.hold(id).await.unwrap();
    let stale = spool.begin_attempt(second.remove(0)).await;
    assert!(matches!(stale.err(), Some(SpoolError::State { phase: Phase::Held, .. })));
}

#[tokio::test]
async fn t34_a_route_that_is_busy_does_not_keep_others_waiting() {
    let disk = PowerDisk::default();
    let (world, _) = world();
    let spool = open(&disk, &world);
    for _ in 0..5 {
        accept(&spool, one_recipient(), b"x").await.unwrap();
    }
    let other = NewMessage { routes: vec![(federation("c.nl"), vec![0])], ..one_recipient() };
    accept(&spool, other, b"x").await.unwrap();
    let mut asked = 0;
    let taken = spool.take_due_with(world.now(), 2, |route, _| {
        asked += 1;
        if *route == federation("c.nl") { Admission::Yes("slot") } else { Admission::Busy }
    });
    assert_eq!(
        taken.iter().map(|(claim, slot)| (claim.route().clone(), *slot)).collect::<Vec<_>>(),
        [(federation("c.nl"), "slot")]
    );
    assert_eq!(asked, 2, "a refusal stands for the whole route");
    assert_eq!(spool.take_due(world.now(), 10).len(), 5);
}

#[tokio::test]
async fn the_oldest_goes_first() {
    let disk = PowerDisk::default();
    let (world, clock) = world();
    let spool = open(&disk, &world);
    let mut accepted = Vec::new();
    for _ in 0..5 {
        accepted.push(accept(&spool, one_recipient(), b"x").await.unwrap().message());
        clock.advance(10);
    }
    let claims = spool.take_due(world.now(), 3);
    assert_eq!(claims.iter().map(|claim| claim.delivery().message).collect::<Vec<_>>(), accepted[..3]);
    let rest = spool.take_due(world.now(), 10);
    assert_eq!(rest.iter().map(|claim| claim.delivery().message).collect::<Vec<_>>(), accepted[3..]);
}

#[tokio::test]
async fn decision_records_are_kept_for_their_time() {
    let disk = PowerDisk::default();
    let (world, clock) = world();
    let settings = Settings { record_retention: Some(Duration::from_secs(3600)), ..settings() };
    let spool = Spool::open_on(disk.disk(), &keys(), settings, world.clone()).unwrap();
    let mut noted = record(&spool);
    noted.attempt = world.attempt_id();
    noted.message = Some(world.message_id());
    spool.note(noted.clone()).await.unwrap();
    clock.advance(3_500_000);
    assert_eq!(spool.prune_records().await.unwrap(), 0);
    assert_eq!(spool.record(noted.attempt).await.unwrap().as_ref(), Some(&noted));
    assert_eq!(spool.recent_records(5).await.unwrap(), [noted.clone()]);
    clock.advance(200_000);
    assert_eq!(spool.prune_records().await.unwrap(), 1);
    assert_eq!(spool.record(noted.attempt).await.unwrap(), None);
    assert!(spool.records_of(noted.message.unwrap()).await.unwrap().is_empty());
}
