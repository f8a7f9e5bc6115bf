#![allow(clippy::unwrap_used)]
use super::*;
use crate::model::{BodyType, Envelope, Recipient, ReversePath};
use crate::spool::{Arrival, NewMessage, Origin, Settings, Spool};
use crate::world::World;

async fn spool_with_one(directory: &std::path::Path) -> Spool {
    let (settings, world) =
        (Settings { reserve_octets: 1 << 20, ..Settings::at(directory) }, World::system());
    let spool = Spool::open(settings, world.clone()).unwrap();
    let mut draft = spool.draft(world.message_id(), b"");
    draft.write(b"From: jan@a.nl\r\n\r\nx\r\n").await.unwrap();
    let message = NewMessage {
        envelope: Envelope {
            sender: ReversePath::Null,
            recipients: vec![Recipient::plain("piet@b.nl".parse().unwrap())],
            body: BodyType::SevenBit,
            smtputf8: false,
            ret: None,
            envid: None,
        },
        routes: vec![(Route::Federation("b.nl".parse().unwrap()), vec![0])],
        arrival: Arrival::default(),
        origin: Origin::Submission,
        record: None,
    };
    draft.accept(message).await.unwrap();
    spool
}

/// An attempt that never ends is broken off at its limit, twice; then its delivery is set aside.
/// Proves: +SPOOL-043
#[tokio::test]
async fn t29_an_attempt_that_stalls_twice_sets_its_delivery_aside() {
    let home = tempfile::tempdir().unwrap();
    let spool = spool_with_one(home.path()).await;
    for round in 0..2 {
        assert_eq!(spool.counts().poison, 0, "round {round}");
        let listed = spool.list(crate::spool::Filter::default()).await.unwrap();
        let delivery = listed[0].delivery;
        if round > 0 {
            spool.retry(delivery).await.unwrap();
        }
        let claim = spool.claim(delivery).unwrap();
        let leash = claim.leash();
        let attempt = spool.begin_attempt(claim).await.unwrap();
        let stalled = async move {
            let _attempt = attempt;
            std::future::pending::<Result<(), SpoolError>>().await
        };
        supervise(Duration::from_millis(1), delivery, &leash, stalled).await;
        // Queues behind what the attempt left.
        spool.prune_seen().await.unwrap();
    }
    assert_eq!((spool.counts().poison, spool.counts().attempting), (1, 0));
    spool.close().await;
}
