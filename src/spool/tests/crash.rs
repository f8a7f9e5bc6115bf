//! Power cuts at many points of a life: what was acknowledged is there, whole, and nothing else is.

use std::collections::HashMap;

use super::*;

/// What the outside world was told.
#[derive(Default)]
struct Told {
    accepted: HashMap<MessageId, Vec<u8>>,
    settled: Vec<MessageId>,
    /// A settlement was asked for and not answered: the message may be there or not.
    unsure: Vec<MessageId>,
}

/// A fixed life: accept small and large, deliver some, fail some, until the power goes.
async fn live(spool: &Spool, told: &mut Told) -> Result<(), SpoolError> {
    for round in 0..6u64 {
        for size in [10, 3000, 9000] {
            let content = body(round * 10 + size, usize::try_from(size).unwrap());
            let accepted = accept(spool, one_recipient(), &content).await?;
            told.accepted.insert(accepted.message(), content);
        }
        for (claim, fate) in
            spool.take_due(spool.world().now(), 2).into_iter().zip([Fate::Delivered, Fate::Pending])
        {
            let attempt = spool.begin_attempt(claim).await?;
            let message = attempt.message();
            let end = all(&attempt, spool, fate);
            told.unsure.push(message);
            if attempt.finish(end).await?.message_settled {
                told.settled.push(message);
            }
            told.unsure.pop();
        }
    }
    Ok(())
}

async fn check(disk: &PowerDisk, world: &World, told: &Told, point: u64) {
    let spool = Spool::open_on(disk.disk(), settings(), world.clone())
        .unwrap_or_else(|error| panic!("cut {point}: does not open: {error}"));
    let listed = spool.list(Filter::default()).await.unwrap();
    for (message, content) in &told.accepted {
        let present = listed.iter().any(|view| view.delivery.message == *message);
        if told.settled.contains(message) {
            assert!(!present, "cut {point}: {message} was settled and is back");
        } else if !told.unsure.contains(message) {
            assert!(present, "cut {point}: {message} was acknowledged and is lost");
        }
        if present {
            let stored = content_of(&spool, *message).await.unwrap();
            assert_eq!(&stored[b"Received: here\r\n".len()..], content.as_slice(), "cut {point}: {message}");
        }
    }
    // Whatever else is there was accepted without an answer: whole all the same.
    for view in &listed {
        assert_ne!(view.phase, Phase::Attempting, "cut {point}");
        content_of(&spool, view.delivery.message).await.unwrap();
    }
    let counts = spool.counts();
    assert_eq!((counts.held, counts.damaged), (0, 0), "cut {point}");
    // And the store goes on.
    accept(&spool, one_recipient(), b"after the cut").await.unwrap();
    spool.close().await;
}

/// Proves: +SPOOL-001 +SPOOL-002 +SPOOL-006 +SPOOL-007
#[tokio::test]
async fn t36_t37_nothing_acknowledged_is_lost_in_a_power_cut() {
    let total = {
        let disk = PowerDisk::default();
        let (world, _) = world();
        let spool = open(&disk, &world);
        let mut told = Told::default();
        live(&spool, &mut told).await.unwrap();
        let total = disk.operations();
        check(&disk.after_cut(0), &world, &told, u64::MAX).await;
        total
    };
    assert!(total > 200, "the life is long enough to be cut: {total}");
    let first = {
        let disk = PowerDisk::default();
        open(&disk, &world().0).close().await;
        disk.operations()
    };
    let points = 150;
    for number in 0..points {
        let point = first + (total - first) * number / points;
        let disk = PowerDisk::default();
        let (world, _) = world();
        let spool = open(&disk, &world);
        let mut told = Told::default();
        disk.cut_at(point);
        let end = live(&spool, &mut told).await;
        assert!(end.is_err(), "cut {point} of {total} was not noticed");
        spool.close().await;
        check(&disk.after_cut(number), &world, &told, point).await;
    }
}

/// Proves: +SPOOL-001
#[tokio::test]
async fn t36_a_store_whose_birth_was_interrupted_opens() {
    let dir = tempfile::tempdir().unwrap();
    let (world, _) = world();
    std::fs::write(dir.path().join("spool.redb.new"), b"half a database").unwrap();
    let settings = Settings { reserve_octets: 0, ..Settings::at(dir.path()) };
    let spool = Spool::open(settings.clone(), world.clone()).unwrap();
    accept(&spool, one_recipient(), b"x").await.unwrap();
    spool.close().await;
    assert!(!dir.path().join("spool.redb.new").exists());
    assert_eq!(Spool::open(settings, world).unwrap().counts().waiting, 1);
}

#[tokio::test]
async fn t37_a_file_that_is_no_database_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool.redb");
    std::fs::write(&path, b"not a database").unwrap();
    let settings = Settings { reserve_octets: 0, ..Settings::at(dir.path()) };
    let error = Spool::open(settings, world().0).err().unwrap();
    assert!(matches!(error, SpoolError::Open { .. }), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"not a database");
}
