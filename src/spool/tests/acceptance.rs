//! The instant of acceptance: what is kept, and what is not.

use super::*;
use crate::model::Digest;

/// Proves: +SPOOL-001 +SPOOL-007
#[tokio::test]
async fn t36_what_was_accepted_is_there_after_a_restart_inline_and_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let (world, _) = world();
    let settings = Settings { reserve_octets: 1 << 20, ..Settings::at(dir.path().join("spool")) };
    let mut expected = Vec::new();
    {
        let spool = Spool::open(settings.clone(), world.clone()).unwrap();
        for size in [0, 1, 255 << 10, 257 << 10, 3 << 20] {
            let content = body(size as u64, size);
            let accepted = accept(&spool, one_recipient(), &content).await.unwrap();
            assert_eq!(accepted.received_digest(), Digest::of(&content));
            let stored = [b"Received: here\r\n".as_slice(), &content].concat();
            assert_eq!(accepted.content_digest(), Digest::of(&stored));
            assert_eq!(accepted.size(), stored.len() as u64);
            expected.push((accepted, stored));
        }
        spool.close().await;
        assert!(matches!(spool.health(), Ok(())));
        assert!(matches!(spool.message(expected[0].0.message()).await, Err(SpoolError::Broken(_))));
    }
    let spool = Spool::open(settings, world).unwrap();
    assert_eq!(spool.counts().waiting, expected.len());
    for (accepted, stored) in &expected {
        assert_eq!(&content_of(&spool, accepted.message()).await.unwrap(), stored);
        let view = spool.message(accepted.message()).await.unwrap();
        assert_eq!(view.envelope, one_recipient().envelope);
        assert_eq!(view.content_digest, accepted.content_digest());
        assert_eq!(view.deliveries.len(), 1);
        assert_eq!(view.deliveries[0].phase, Phase::Waiting);
    }
    let files = std::fs::read_dir(dir.path().join("spool/content")).unwrap().count();
    assert_eq!(files, 2, "small contents stand in the database");
}

#[tokio::test]
async fn the_directory_is_private_and_belongs_to_one_process() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let (world, _) = world();
    let settings = Settings { reserve_octets: 1 << 20, ..Settings::at(dir.path().join("spool")) };
    let spool = Spool::open(settings.clone(), world.clone()).unwrap();
    for (name, mode) in [("", 0o700), ("content", 0o700), ("spool.redb", 0o600), ("lock", 0o600)] {
        let path = settings.dir.join(name);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode, "{name}");
    }
    assert_eq!(std::fs::metadata(settings.dir.join("reserve")).unwrap().len(), 1 << 20);
    assert!(matches!(Spool::open(settings.clone(), world.clone()), Err(SpoolError::Locked(_))));
    spool.close().await;
    Spool::open(settings, world).unwrap();
}

/// Proves: -SPOOL-001 +SPOOL-002
#[tokio::test]
async fn a_dropped_draft_leaves_nothing() {
    let disk = PowerDisk::default();
    let (world, _) = world();
    let spool = open(&disk, &world);
    let mut draft = spool.draft(world.message_id(), b"");
    draft.write(&body(1, 20_000)).await.unwrap();
    assert_eq!(disk.file_names(), [draft.message().to_string()]);
    drop(draft);
    spool.close().await;
    assert!(disk.file_names().is_empty());
    assert_eq!(open(&disk, &world).counts(), Counts::default());
}

/// Proves: +SPOOL-002 -SPOOL-002
#[tokio::test]
async fn t36_at_start_files_without_a_record_go_and_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (world, _) = world();
    let settings = Settings { reserve_octets: 0, ..Settings::at(dir.path().join("spool")) };
    let spool = Spool::open(settings.clone(), world.clone()).unwrap();
    let kept = accept(&spool, one_recipient(), &body(1, 300 << 10)).await.unwrap();
    spool.close().await;
    let orphan = dir.path().join("spool/content").join(world.message_id().to_string());
    std::fs::write(&orphan, b"nobody was told").unwrap();
    let spool = Spool::open(settings, world).unwrap();
    assert!(!orphan.exists());
    assert_eq!(content_of(&spool, kept.message()).await.unwrap().len() as u64, kept.size());
}

/// Proves: -SPOOL-001 +SPOOL-003 -SPOOL-003
#[tokio::test]
async fn t36_a_failed_flush_is_the_end_and_is_not_tried_again() {
    let disk = PowerDisk::default();
    let (world, _) = world();
    let spool = open(&disk, &world);
    let before = accept(&spool, one_recipient(), b"before").await.unwrap();
    disk.fail_flushes();
    assert!(matches!(accept(&spool, one_recipient(), b"lost").await, Err(SpoolError::Broken(_))));
    // The disk would report success from here on; the store must not believe it.
    assert!(matches!(spool.health(), Err(SpoolError::Broken(_))));
    assert!(matches!(accept(&spool, one_recipient(), b"after").await, Err(SpoolError::Broken(_))));
    assert!(matches!(spool.note(record(&spool)).await, Err(SpoolError::Broken(_))));
    assert!(matches!(spool.content(before.message()).await, Err(SpoolError::Broken(_))));
    spool.close().await;

    let spool = open(&disk.after_cut(1), &world);
    assert_eq!(spool.list(Filter::default()).await.unwrap().len(), 1);
    assert_eq!(content_of(&spool, before.message()).await.unwrap(), b"Received: here\r\nbefore");
}

/// Proves: -SPOOL-002 -SPOOL-003
#[tokio::test]
async fn t36_a_content_file_that_does_not_flush_is_never_referred_to() {
    let disk = PowerDisk::default();
    let (world, _) = world();
    let spool = open(&disk, &world);
    disk.fail_body_flushes();
    assert!(matches!(accept(&spool, one_recipient(), &body(1, 9000)).await, Err(SpoolError::Broken(_))));
    assert!(matches!(accept(&spool, one_recipient(), b"small").await, Err(SpoolError::Broken(_))));
    assert_eq!(spool.counts().messages, 0);
}

/// Proves: +SPOOL-004 -SPOOL-004
#[tokio::test]
async fn a_full_disk_refuses_and_accepts_again_when_there_is_room() {
    let disk = PowerDisk::default();
    let (world, _) = world();
    let spool = open(&disk, &world);
    let first = accept(&spool, one_recipient(), b"first").await.unwrap();
    disk.set_free(1000);
    for size in [5, 9000] {
        let refused = accept(&spool, one_recipient(), &body(1, size)).await.unwrap_err();
        assert!(matches!(refused, SpoolError::Full(_)), "{refused}");
        assert_eq!(refused.reason(), crate::model::Reason::SpoolFull);
    }
    // What is in the spool can leave it.
    let attempt = begin(&spool).await;
    assert_eq!(content_of(&spool, first.message()).await.unwrap(), b"Received: here\r\nfirst");
    let end = all(&attempt, &spool, Fate::Delivered);
    assert!(attempt.finish(end).await.unwrap().message_settled);

    disk.set_free(1 << 30);
    accept(&spool, one_recipient(), b"again").await.unwrap();
    spool.close().await;
    assert!(disk.file_names().is_empty(), "nothing of the refused messages remains");
}

/// Proves: +SPOOL-004
#[tokio::test]
async fn a_disk_that_fills_up_during_a_commit_costs_the_reserve_and_not_the_store() {
    let disk = PowerDisk::default();
    let (world, _) = world();
    let spool = open(&disk, &world);
    disk.no_space_for_writes(1);
    let accepted = accept(&spool, one_recipient(), b"in flight").await.unwrap();
    assert_eq!(disk.times_released(), 1);
    disk.set_free(1000);
    assert!(matches!(accept(&spool, one_recipient(), b"no").await, Err(SpoolError::Full(_))));
    disk.set_free(1 << 30);
    accept(&spool, one_recipient(), b"yes").await.unwrap();
    assert_eq!(content_of(&spool, accepted.message()).await.unwrap(), b"Received: here\r\nin flight");
}

/// Proves: -SPOOL-004
#[tokio::test]
async fn the_spool_has_a_size_of_its_own() {
    let disk = PowerDisk::default();
    let (world, _) = world();
    let settings = Settings { content_octets_max: Some(10_000), ..settings() };
    let spool = Spool::open_on(disk.disk(), &keys(), settings, world).unwrap();
    accept(&spool, one_recipient(), &body(1, 6000)).await.unwrap();
    assert!(matches!(accept(&spool, one_recipient(), &body(2, 6000)).await, Err(SpoolError::Full(_))));
    accept(&spool, one_recipient(), &body(3, 3000)).await.unwrap();
}

#[tokio::test]
async fn routes_that_do_not_fit_the_recipients_are_refused() {
    let disk = PowerDisk::default();
    let (world, _) = world();
    let spool = open(&disk, &world);
    let two = envelope("jan@a.nl", &["piet@b.nl", "kees@c.nl"]);
    for routes in [
        vec![],
        vec![(federation("b.nl"), vec![0])],
        vec![(federation("b.nl"), vec![0, 1]), (federation("c.nl"), vec![1])],
        vec![(federation("b.nl"), vec![0]), (federation("c.nl"), vec![2])],
        vec![(federation("b.nl"), vec![0]), (federation("b.nl"), vec![1])],
        vec![(federation("b.nl"), vec![0, 1]), (Route::Environment, vec![])],
    ] {
        let message = NewMessage { envelope: two.clone(), routes: routes.clone(), ..one_recipient() };
        assert!(matches!(accept(&spool, message, b"x").await, Err(SpoolError::Misuse(_))), "{routes:?}");
    }
    let none = NewMessage { envelope: envelope("jan@a.nl", &[]), routes: vec![], ..one_recipient() };
    assert!(matches!(accept(&spool, none, b"x").await, Err(SpoolError::Misuse(_))));
    assert_eq!(spool.counts(), Counts::default());
}

#[tokio::test]
async fn an_identifier_is_used_once() {
    let disk = PowerDisk::default();
    let (world, _) = world();
    let spool = open(&disk, &world);
    let id = world.message_id();
    spool.draft(id, b"one").accept(one_recipient()).await.unwrap();
    assert!(matches!(spool.draft(id, b"two").accept(one_recipient()).await, Err(SpoolError::Misuse(_))));
    assert_eq!(content_of(&spool, id).await.unwrap(), b"one");
}

/// Proves: +SPOOL-013 -SPOOL-013 -SPOOL-007
#[tokio::test]
async fn t37_damaged_content_never_reads_as_a_whole_message() {
    let disk = PowerDisk::default();
    let (world, _) = world();
    let spool = open(&disk, &world);
    let small = accept(&spool, one_recipient(), b"small").await.unwrap();
    let large = accept(&spool, one_recipient(), &body(1, 200_000)).await.unwrap();
    let sealed = sealed(&spool, tables::CONTENT, small.message());
    spool.close().await;
    assert!(disk.corrupt_database(&sealed));
    disk.corrupt_file(&large.message().to_string(), 150_000);
    let spool = open(&disk, &world);
    assert!(matches!(spool.content(small.message()).await, Err(SpoolError::Damaged(_))));
    let mut content = spool.content(large.message()).await.unwrap();
    let mut octets = Vec::new();
    let error = content.read_to_end(&mut octets).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    assert!(content.read_to_end(&mut octets).await.is_err(), "reading on is no end of message either");
    // The attempt that found out ends in held; an operator may let it go on, and it is found out again.
    for _ in 0..2 {
        let mut due = spool.take_due(world.now(), 10);
        assert_eq!(due.len(), 2);
        for claim in due.drain(..) {
            let attempt = spool.begin_attempt(claim).await.unwrap();
            content_of(&spool, attempt.message()).await.unwrap_err();
            let end = all(&attempt, &spool, Fate::Pending);
            assert_eq!(attempt.finish(end).await.unwrap().phase, Phase::Held);
        }
        for view in spool.list(Filter::default()).await.unwrap() {
            assert_eq!(view.held_by, Some(Hold::Damaged));
            spool.release(view.delivery).await.unwrap();
        }
    }
}

/// Proves: -SPOOL-013
#[tokio::test]
async fn t37_a_message_whose_file_is_gone_is_held_and_a_damaged_record_stops_nobody() {
    let disk = PowerDisk::default();
    let (world, _) = world();
    let spool = open(&disk, &world);
    let lost = accept(&spool, one_recipient(), &body(1, 9000)).await.unwrap();
    let damaged = accept(&spool, one_recipient(), b"x").await.unwrap();
    let sealed = sealed(&spool, tables::MESSAGES, damaged.message());
    let good = accept(&spool, one_recipient(), b"good").await.unwrap();
    spool.close().await;
    disk::Bodies::remove(&disk, &lost.message().to_string()).unwrap();
    assert!(disk.corrupt_database(&sealed));
    let spool = open(&disk, &world);
    assert_eq!(spool.counts().held, 1, "the one whose file is gone");
    assert!(matches!(spool.message(damaged.message()).await, Err(SpoolError::Damaged(_))));
    assert!(matches!(spool.content(lost.message()).await, Err(SpoolError::Damaged(_))));
    assert_eq!(content_of(&spool, good.message()).await.unwrap(), b"Received: here\r\ngood");
    // Whoever lists the queue sees that nothing will become of the damaged one by itself.
    let listed = spool.list(Filter::default()).await.unwrap();
    let held = |view: &DeliveryView| (view.delivery.message, view.held_by);
    assert_eq!(listed.len(), 3);
    let kept_back: Vec<_> = listed.iter().filter(|view| view.phase == Phase::Held).map(held).collect();
    assert_eq!(kept_back, [lost.message(), damaged.message()].map(|id| (id, Some(Hold::Damaged))));
    let only = |phase| Filter { phase: Some(phase), ..Filter::default() };
    assert_eq!(spool.list(only(Phase::Held)).await.unwrap().len(), 2);
    assert_eq!(spool.list(only(Phase::Waiting)).await.unwrap().len(), 1);
    // It is found out when it is tried, and not tried again.
    let mut due = spool.take_due(world.now(), 9);
    assert_eq!(due.len(), 2);
    let place = due.iter().position(|claim| claim.delivery().message == damaged.message()).unwrap();
    assert!(matches!(spool.begin_attempt(due.remove(place)).await.err(), Some(SpoolError::Damaged(_))));
    assert_eq!(spool.counts().damaged, 1);
    drop(due);
    let due: Vec<_> = spool.take_due(world.now(), 9).iter().map(|claim| claim.delivery().message).collect();
    assert_eq!(due, [good.message()]);
}

/// Proves: -SPOOL-013
#[tokio::test]
async fn t37_a_record_that_is_damaged_while_we_run_is_set_aside() {
    let disk = PowerDisk::default();
    let (world, _) = world();
    let settings = Settings { cache_bytes: 0, ..settings() };
    let spool = Spool::open_on(disk.disk(), &keys(), settings, world.clone()).unwrap();
    let damaged = accept(&spool, one_recipient(), b"x").await.unwrap();
    let sealed = sealed(&spool, tables::MESSAGES, damaged.message());
    assert!(disk.corrupt_database(&sealed));
    let claim = spool.take_due(world.now(), 1).remove(0);
    assert!(matches!(spool.begin_attempt(claim).await.err(), Some(SpoolError::Damaged(_))));
    assert_eq!((spool.counts().damaged, spool.next_due()), (1, None));
}

#[tokio::test]
async fn a_store_of_another_format_is_refused_by_name() {
    let disk = PowerDisk::default();
    let (world, _) = world();
    open(&disk, &world).close().await;
    {
        let database = redb::Builder::new().create_with_backend(disk.clone()).unwrap();
        let transaction = database.begin_write().unwrap();
        let meta = redb::TableDefinition::<&str, &[u8]>::new("meta");
        transaction.open_table(meta).unwrap().insert("format", 99u32.to_be_bytes().as_slice()).unwrap();
        transaction.commit().unwrap();
    }
    let error = Spool::open_on(disk.disk(), &keys(), settings(), world).err().unwrap();
    assert!(matches!(error, SpoolError::Format { .. }), "{error}");
    assert_eq!(error.to_string(), "the spool has format 99; this program knows format 3 only");
}

/// Proves: +SPOOL-001
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_share_flushes_and_lose_nothing() {
    let disk = PowerDisk::default();
    let (world, _) = world();
    let spool = open(&disk, &world);
    let before = disk.operations();
    let writers: Vec<_> = (0..64u64)
        .map(|writer| {
            let spool = spool.clone();
            tokio::spawn(async move {
                let mut accepted = Vec::new();
                for message in 0..8 {
                    let content =
                        body(writer * 100 + message, 3000 + 200 * usize::try_from(message).unwrap());
                    let proof = accept(&spool, one_recipient(), &content).await.unwrap();
                    accepted.push((proof, content));
                }
                accepted
            })
        })
        .collect();
    let mut all = Vec::new();
    for writer in writers {
        all.extend(writer.await.unwrap());
    }
    assert!(disk.operations() > before);
    // Only what is flushed counts: read it from a machine that lost power now.
    let spool = open(&disk.after_cut(3), &world);
    assert_eq!(spool.counts().waiting, 512);
    for (proof, content) in &all {
        let stored = content_of(&spool, proof.message()).await.unwrap();
        assert_eq!(&stored[b"Received: here\r\n".len()..], content.as_slice());
    }
}
