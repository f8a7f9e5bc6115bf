//! Reading everything back, and copies for safe keeping.

use super::*;

/// Proves: +SPOOL-023 -SPOOL-023
#[tokio::test]
async fn t37_a_scrub_names_what_is_damaged_and_nothing_else() {
    let disk = PowerDisk::default();
    let (world, _) = world();
    let spool = open(&disk, &world);
    accept(&spool, one_recipient(), b"sound").await.unwrap();
    accept(&spool, one_recipient(), &body(2, 9000)).await.unwrap();
    spool.note(record(&spool)).await.unwrap();
    let sound = spool.scrub().await.unwrap();
    assert_eq!((sound.messages, sound.deliveries, sound.records), (2, 2, 1));
    assert_eq!(sound.octets, 2 * b"Received: here\r\n".len() as u64 + 5 + 9000);
    assert_eq!(sound.damaged, [""; 0]);

    let small = accept(&spool, one_recipient(), b"small").await.unwrap();
    let large = accept(&spool, one_recipient(), &body(1, 200_000)).await.unwrap();
    let unreadable = accept(&spool, one_recipient(), b"unreadable").await.unwrap();
    let needles = [
        sealed(&spool, tables::CONTENT, small.message()),
        sealed(&spool, tables::MESSAGES, unreadable.message()),
    ];
    spool.close().await;
    for needle in needles {
        assert!(disk.corrupt_database(&needle));
    }
    disk.corrupt_file(&large.message().to_string(), 150_000);

    let spool = open(&disk, &world);
    let mut scrubbed = spool.scrub().await.unwrap();
    assert_eq!((scrubbed.messages, scrubbed.deliveries), (4, 5));
    for message in [small.message(), large.message(), unreadable.message()] {
        let place = scrubbed.damaged.iter().position(|what| what.contains(&message.to_string()));
        scrubbed.damaged.remove(place.unwrap_or_else(|| panic!("{message}: {:?}", scrubbed.damaged)));
    }
    assert_eq!(scrubbed.damaged, [""; 0]);
}

/// Proves: +SPOOL-024 -SPOOL-024
#[tokio::test]
async fn a_backup_of_a_working_spool_opens_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let settings =
        Settings { reserve_octets: 0, inline_body_max: 4096, ..Settings::at(dir.path().join("spool")) };
    let spool = Spool::open(settings.clone(), world().0).unwrap();
    let mut kept = Vec::new();
    for (number, size) in [10, 3000, 9000, 300_000].into_iter().enumerate() {
        let content = body(number as u64, size);
        kept.push((accept(&spool, one_recipient(), &content).await.unwrap(), content));
    }
    let under_way = spool.begin_attempt(spool.take_due(spool.world().now(), 1).remove(0)).await.unwrap();

    let to = dir.path().join("backup");
    let backed_up = spool.back_up(to.clone()).await.unwrap();
    assert_eq!(backed_up.messages, 4);
    let error = spool.back_up(to.clone()).await.unwrap_err().to_string();
    assert!(error.contains("not empty"), "{error}");

    // What happens to the spool afterwards does not touch the copy.
    let end = all(&under_way, &spool, Fate::Delivered);
    assert!(under_way.finish(end).await.unwrap().message_settled);
    for claim in spool.take_due(spool.world().now(), 9) {
        let attempt = spool.begin_attempt(claim).await.unwrap();
        let end = all(&attempt, &spool, Fate::Delivered);
        attempt.finish(end).await.unwrap();
    }
    assert_eq!(spool.counts().messages, 0);
    spool.close().await;

    // The schedule too; the start would make it again.
    let database = redb::Builder::new().open(to.join("spool.redb")).unwrap();
    let schedule = database.begin_read().unwrap().open_table(tables::SCHEDULE).unwrap();
    assert_eq!(redb::ReadableTableMetadata::len(&schedule).unwrap(), 4);
    drop((schedule, database));
    let copied = Settings { dir: to, ..settings };
    let copy = Spool::open(copied, world().0).unwrap();
    for (accepted, content) in &kept {
        let read = content_of(&copy, accepted.message()).await.unwrap();
        assert_eq!(read[b"Received: here\r\n".len()..], content[..]);
    }
    let counts = copy.counts();
    assert_eq!((counts.waiting, counts.attempting, counts.damaged), (4, 0, 0));
    let records = copy.records_of(kept[0].0.message()).await.unwrap();
    assert_eq!(records.last().unwrap().outcome, crate::model::Outcome::Unknown);
}
