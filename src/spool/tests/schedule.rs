//! The schedule: all that a start reads of what waits. It says what the deliveries say, and what is damaged in it costs nothing.

use redb::ReadableTable;

use super::*;
use crate::model::DeliveryId;
use crate::spool::stored::delivery_key;
use crate::spool::tables::{DELIVERIES, SCHEDULE};

/// A message on two routes, with its content in a file.
fn two_routes() -> NewMessage {
    NewMessage {
        envelope: envelope("jan@a.nl", &["piet@b.nl", "kees@c.nl"]),
        routes: vec![(federation("b.nl"), vec![0]), (federation("c.nl"), vec![1])],
        ..one_recipient()
    }
}

/// Deliveries in every condition; those of the first message have their content in a file.
async fn fill(spool: &Spool, clock: &ManualClock) -> Vec<DeliveryId> {
    let large = accept(spool, two_routes(), &body(1, 9000)).await.unwrap();
    let mut all = large.deliveries().to_vec();
    for _ in 0..4 {
        clock.advance(1_000);
        all.extend(accept(spool, one_recipient(), b"x").await.unwrap().deliveries());
    }
    let end = |attempt: &Attempt, fate| self::all(attempt, spool, fate);
    // Delivered on one route; waits for its next try; held; to be returned; suspected.
    let attempt = spool.begin_attempt(spool.claim(all[1]).unwrap()).await.unwrap();
    let delivered = end(&attempt, Fate::Delivered);
    attempt.finish(delivered).await.unwrap();
    let attempt = spool.begin_attempt(spool.claim(all[2]).unwrap()).await.unwrap();
    let later = end(&attempt, Fate::Pending);
    attempt.finish(later).await.unwrap();
    spool.hold(all[3]).await.unwrap();
    spool.return_(all[4]).await.unwrap();
    let claim = spool.claim(all[5]).unwrap();
    claim.leash().blame();
    drop(spool.begin_attempt(claim).await.unwrap());
    // The next change queues behind the one that the drop left.
    spool.note(record(spool)).await.unwrap();
    all
}

/// What each delivery is, and what the board says of it.
async fn seen(spool: &Spool) -> (Vec<DeliveryView>, Counts, Option<Timestamp>, usize) {
    (
        spool.list(Filter::default()).await.unwrap(),
        spool.counts(),
        spool.next_due(),
        spool.queued(&federation("b.nl")),
    )
}

/// A spool with deliveries in every condition, closed, and what it was.
async fn closed() -> (PowerDisk, World, Vec<DeliveryId>, (Vec<DeliveryView>, Counts, Option<Timestamp>, usize))
{
    let disk = PowerDisk::default();
    let (world, clock) = world();
    let spool = open(&disk, &world);
    let all = fill(&spool, &clock).await;
    let before = seen(&spool).await;
    assert_eq!(spool.scrub().await.unwrap().damaged, [""; 0]);
    spool.close().await;
    (disk, world, all, before)
}

/// The row of a delivery.
fn row(transaction: &redb::WriteTransaction, id: DeliveryId) -> Vec<u8> {
    transaction.open_table(SCHEDULE).unwrap().get(&delivery_key(id)).unwrap().unwrap().value().to_vec()
}

fn put_row(transaction: &redb::WriteTransaction, id: DeliveryId, row: &[u8]) {
    transaction.open_table(SCHEDULE).unwrap().insert(&delivery_key(id), row).unwrap();
}

fn remove_row(transaction: &redb::WriteTransaction, id: DeliveryId) {
    transaction.open_table(SCHEDULE).unwrap().remove(&delivery_key(id)).unwrap().unwrap();
}

/// Proves: +SPOOL-025
#[tokio::test]
async fn after_a_start_the_board_is_what_it_was() {
    let (disk, world, _, before) = closed().await;
    let spool = open(&disk, &world);
    assert_eq!(seen(&spool).await, before);
    assert_eq!(before.1.waiting, 4);
}

/// A start that reads deliveries or messages would find these damaged.
/// Proves: +SPOOL-025
#[tokio::test]
async fn a_start_reads_the_schedule_and_nothing_else_of_what_waits() {
    let disk = PowerDisk::default();
    let (world, _) = world();
    let spool = open(&disk, &world);
    let mut needles = Vec::new();
    for _ in 0..9 {
        let accepted = accept(&spool, one_recipient(), b"x").await.unwrap();
        needles.push(sealed(&spool, tables::MESSAGES, accepted.message()));
        needles.push(sealed_of(&spool, DELIVERIES, accepted.deliveries()[0]));
    }
    spool.close().await;
    assert!(needles.iter().all(|needle| disk.corrupt_database(needle)));
    let spool = open(&disk, &world);
    let counts = spool.counts();
    assert_eq!((counts.messages, counts.waiting, counts.damaged, counts.octets), (9, 9, 0, 9 * 17));
    // Each is found out when it is tried, once.
    for claim in spool.take_due(world.now(), 99) {
        assert!(matches!(spool.begin_attempt(claim).await.err(), Some(SpoolError::Damaged(_))));
    }
    assert_eq!((spool.counts().waiting, spool.counts().damaged, spool.next_due()), (0, 9, None));
}

/// Proves: -SPOOL-025 +SPOOL-023
#[tokio::test]
async fn t37_a_row_that_is_damaged_is_named_by_a_scrub_and_made_again_at_the_next_start() {
    let (disk, world, all, before) = closed().await;
    for (number, id) in all.iter().enumerate() {
        let spool = open(&disk, &world);
        let needle = sealed_of(&spool, SCHEDULE, *id);
        spool.close().await;
        assert!(disk.corrupt_database(&needle));
        let spool = open(&disk, &world);
        assert_eq!(seen(&spool).await, before, "{number}");
        assert_eq!(spool.scrub().await.unwrap().damaged, [""; 0], "{number}: it was made again");
        spool.close().await;
    }
    // While it runs, with nothing of it in memory.
    let settings = Settings { cache_bytes: 0, ..settings() };
    let spool = Spool::open_on(disk.disk(), &keys(), settings, world).unwrap();
    let needle = sealed_of(&spool, SCHEDULE, all[3]);
    assert!(disk.corrupt_database(&needle));
    let damaged = spool.scrub().await.unwrap().damaged;
    assert_eq!(damaged, [format!("the schedule's row of delivery {}", all[3])]);
}

/// Proves: -SPOOL-025 -SPOOL-020
#[tokio::test]
async fn t37_a_row_of_another_delivery_does_not_count() {
    let (disk, world, all, before) = closed().await;
    tamper(&disk, |transaction| {
        let (first, second) = (row(transaction, all[0]), row(transaction, all[3]));
        put_row(transaction, all[0], &second);
        put_row(transaction, all[3], &first);
    });
    let spool = open(&disk, &world);
    assert_eq!(seen(&spool).await, before);
    spool.close().await;
    // Nor does a delivery in the place of its row.
    tamper(&disk, |transaction| {
        let table = transaction.open_table(DELIVERIES).unwrap();
        let delivery = table.get(&delivery_key(all[2])).unwrap().unwrap().value().to_vec();
        drop(table);
        put_row(transaction, all[2], &delivery);
    });
    assert_eq!(seen(&open(&disk, &world)).await, before);
}

/// Proves: -SPOOL-025 -SPOOL-002
#[tokio::test]
async fn t37_rows_that_are_missing_or_of_nobody_lose_no_delivery_and_no_content() {
    let nobody = DeliveryId { message: MessageId::from_parts(1, 1), route: 0 };
    type Change = fn(&redb::WriteTransaction, &[DeliveryId], DeliveryId);
    let changes: [(&str, Change); 4] = [
        ("one is missing", |transaction, all, _| remove_row(transaction, all[4])),
        ("all are missing", |transaction, _, _| {
            transaction.delete_table(SCHEDULE).unwrap();
        }),
        ("one has another name", |transaction, all, nobody| {
            let moved = row(transaction, all[0]);
            remove_row(transaction, all[0]);
            put_row(transaction, nobody, &moved);
        }),
        ("one is too many", |transaction, all, nobody| {
            let copied = row(transaction, all[0]);
            put_row(transaction, nobody, &copied);
        }),
    ];
    for (what, change) in changes {
        let (disk, world, all, before) = closed().await;
        tamper(&disk, |transaction| change(transaction, &all, nobody));
        let spool = open(&disk, &world);
        assert_eq!(seen(&spool).await, before, "{what}");
        assert_eq!(content_of(&spool, all[0].message).await.unwrap().len(), 9016, "{what}");
        assert_eq!(spool.scrub().await.unwrap().damaged, [""; 0], "{what}: it was made again");
    }
}

/// Proves: -SPOOL-025 -SPOOL-002
#[tokio::test]
async fn t37_a_delivery_that_is_damaged_as_its_row_is_left_alone_with_its_content() {
    let disk = PowerDisk::default();
    let (world, _) = world();
    let spool = open(&disk, &world);
    let lost = accept(&spool, one_recipient(), &body(1, 9000)).await.unwrap();
    let small = accept(&spool, two_routes(), b"x").await.unwrap();
    let both = [lost.deliveries()[0], small.deliveries()[1]];
    let needles = both.map(|id| [SCHEDULE, DELIVERIES].map(|table| sealed_of(&spool, table, id))).concat();
    spool.close().await;
    assert!(needles.iter().all(|needle| disk.corrupt_database(needle)));
    // The same at each start.
    for _ in 0..2 {
        let spool = open(&disk, &world);
        let counts = spool.counts();
        assert_eq!((counts.messages, counts.waiting, counts.held, counts.damaged), (2, 1, 0, 2));
        assert_eq!(disk.file_names(), [lost.message().to_string()], "for whoever repairs it");
        let due: Vec<_> = spool.take_due(world.now(), 9).iter().map(Claim::delivery).collect();
        assert_eq!(due, [small.deliveries()[0]]);
        spool.close().await;
    }
}

/// An attempt that is under way when the node stops, and whose row is damaged.
/// Proves: -SPOOL-025
#[tokio::test]
async fn t37_an_attempt_under_way_is_ended_whatever_its_row_says() {
    let disk = PowerDisk::default();
    let (world, _) = world();
    let spool = open(&disk, &world);
    let id = accept(&spool, one_recipient(), b"x").await.unwrap().deliveries()[0];
    let attempt = begin(&spool).await;
    let needle = sealed_of(&spool, SCHEDULE, id);
    let disk = disk.after_cut(1);
    assert!(disk.corrupt_database(&needle));
    let spool = open(&disk, &world);
    drop(attempt);
    let counts = spool.counts();
    assert_eq!((counts.waiting, counts.attempting, counts.damaged), (1, 0, 0));
    assert_eq!(spool.suspects(), [id]);
    let records = spool.records_of(id.message).await.unwrap();
    assert_eq!(records.last().unwrap().outcome, crate::model::Outcome::Unknown);
}
