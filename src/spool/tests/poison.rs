//! Messages that stop the node or a worker: who is suspected, who is convicted, who goes free.

use super::*;
use crate::model::DeliveryId;

/// Begins the attempt of one delivery.
async fn try_one(spool: &Spool, delivery: DeliveryId) -> Attempt {
    spool.begin_attempt(spool.claim(delivery).unwrap()).await.unwrap()
}

async fn deliver(spool: &Spool, delivery: DeliveryId) {
    let attempt = try_one(spool, delivery).await;
    let end = all(&attempt, spool, Fate::Delivered);
    attempt.finish(end).await.unwrap();
}

async fn poisoned(spool: &Spool) -> Vec<DeliveryId> {
    let listed = spool.list(Filter { phase: Some(Phase::Held), ..Filter::default() }).await.unwrap();
    assert!(listed.iter().all(|view| view.held_by == Some(Hold::Poison)));
    assert_eq!(spool.counts().poison, listed.len());
    listed.into_iter().map(|view| view.delivery).collect()
}

/// Proves: -SPOOL-006 +SPOOL-014 -SPOOL-014
#[tokio::test]
async fn t29_a_message_that_stops_the_node_twice_is_set_aside() {
    let mut disk = PowerDisk::default();
    let (world, _) = world();
    let mut spool = open(&disk, &world);
    let delivery = accept(&spool, one_recipient(), b"x").await.unwrap().deliveries()[0];
    for round in 0..2 {
        assert_eq!(spool.counts().held, 0, "round {round}");
        let attempt = begin(&spool).await;
        disk = disk.after_cut(round);
        spool = open(&disk, &world);
        drop(attempt);
    }
    assert_eq!(poisoned(&spool).await, [delivery]);
    assert!(spool.take_due(world.now(), 1).is_empty() && spool.suspects().is_empty());
    let others = accept(&spool, one_recipient(), b"y").await.unwrap();
    deliver(&spool, others.deliveries()[0]).await;
    // An operator has the last word.
    spool.release(delivery).await.unwrap();
    assert_eq!(spool.counts().poison, 0);
    deliver(&spool, delivery).await;
}

/// Proves: +SPOOL-044 -SPOOL-044
#[tokio::test]
async fn t29_only_the_one_that_was_alone_is_convicted() {
    let mut disk = PowerDisk::default();
    let (world, _) = world();
    let mut spool = open(&disk, &world);
    for _ in 0..4 {
        accept(&spool, one_recipient(), b"x").await.unwrap();
    }
    // However often the node stops while several are under way, none of them is.
    for round in 0..5 {
        let claims = spool.take_due(world.now(), 4);
        let mut under_way = Vec::new();
        for claim in claims {
            under_way.push(spool.begin_attempt(claim).await.unwrap());
        }
        assert_eq!(under_way.len(), 4);
        disk = disk.after_cut(round);
        spool = open(&disk, &world);
        assert!(poisoned(&spool).await.is_empty(), "round {round}");
    }
    let mut suspects = spool.suspects();
    assert_eq!(suspects.len(), 4);
    assert!(spool.suspects().is_empty(), "they are handed out once");
    // Tried one by one: two are innocent, and the third stops the node.
    let guilty = suspects.remove(2);
    deliver(&spool, suspects[0]).await;
    deliver(&spool, suspects[1]).await;
    let attempt = try_one(&spool, guilty).await;
    let spool = open(&disk.after_cut(9), &world);
    drop(attempt);
    assert_eq!(poisoned(&spool).await, [guilty]);
    assert_eq!(spool.suspects(), [suspects[2]], "the fourth is still to be heard");
}

/// Proves: +SPOOL-014 -SPOOL-014
#[tokio::test]
async fn a_known_end_clears_a_delivery_of_suspicion() {
    let disk = PowerDisk::default();
    let (world, clock) = world();
    let spool = open(&disk, &world);
    let delivery = accept(&spool, one_recipient(), b"x").await.unwrap().deliveries()[0];
    let _attempt = begin(&spool).await;
    let disk = disk.after_cut(1);
    let spool = open(&disk, &world);
    let attempt = try_one(&spool, delivery).await;
    let end = all(&attempt, &spool, Fate::Pending);
    attempt.finish(end).await.unwrap();
    clock.advance(3_600_000);
    let _attempt = begin(&spool).await;
    let spool = open(&disk.after_cut(2), &world);
    assert!(poisoned(&spool).await.is_empty());
}

/// Proves: +SPOOL-043 -SPOOL-043
#[tokio::test]
async fn t29_only_a_worker_that_panics_or_stalls_blames_its_delivery() {
    let disk = PowerDisk::default();
    let (world, clock) = world();
    let spool = open(&disk, &world);
    let delivery = accept(&spool, one_recipient(), b"x").await.unwrap().deliveries()[0];
    let settled = || async { spool.note(record(&spool)).await.unwrap() };
    // Broken off by a stop: as often as it likes.
    for _ in 0..5 {
        drop(try_one(&spool, delivery).await);
        settled().await;
        clock.advance(2_200_000);
    }
    assert!(poisoned(&spool).await.is_empty());
    // Stalled once, and panicked once.
    let claim = spool.claim(delivery).unwrap();
    let leash = claim.leash();
    let attempt = spool.begin_attempt(claim).await.unwrap();
    leash.blame();
    drop(attempt);
    settled().await;
    assert!(poisoned(&spool).await.is_empty());
    clock.advance(2_200_000);
    let attempt = try_one(&spool, delivery).await;
    let worker = tokio::spawn(async move {
        let _attempt = attempt;
        panic!("this worker is meant to stop");
    });
    assert!(worker.await.unwrap_err().is_panic());
    settled().await;
    assert_eq!(poisoned(&spool).await, [delivery]);
}
