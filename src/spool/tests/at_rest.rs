//! What a stolen disk tells, what a wrong key does, and how stored data outlives a version of this program.

use std::io::Read;
use std::path::{Path, PathBuf};

use redb::ReadableTable;

use super::*;
use crate::model::{Digest, Outcome};

const OLD_KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
const NEW_KEY: &str = "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY=";

/// A spool in a directory, with a key file that the test writes.
struct Place {
    dir: tempfile::TempDir,
    world: World,
}

impl Place {
    fn new(keys: &[&str]) -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap(), world: world().0 };
        place.write_keys(keys);
        place
    }

    fn write_keys(&self, keys: &[&str]) {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(self.key(), keys.join("\n")).unwrap();
        std::fs::set_permissions(self.key(), std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn key(&self) -> PathBuf {
        self.dir.path().join("the.key")
    }

    fn spool(&self) -> PathBuf {
        self.dir.path().join("spool")
    }

    fn settings(&self) -> Settings {
        let key = KeySource::File(self.key());
        Settings { key, reserve_octets: 0, inline_body_max: 4096, ..Settings::at(self.spool()) }
    }

    fn open(&self) -> Result<Spool, SpoolError> {
        Spool::open(self.settings(), self.world.clone())
    }
}

/// Every file below `dir`, whole: pages that were freed and the content of the reserve included.
fn everything(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(everything(&path));
        } else {
            found.push((path.clone(), std::fs::read(&path).unwrap()));
        }
    }
    found
}

fn tells(dir: &Path, needle: &str) -> Option<PathBuf> {
    let found = everything(dir).into_iter();
    found
        .filter(|(_, octets)| memchr::memmem::find(octets, needle.as_bytes()).is_some())
        .map(|(path, _)| path)
        .next()
}

/// A marked body, subject and addresses go through a whole life, small and large; none of it is on the disk at any time.
/// Proves: +SPOOL-020 -SPOOL-020
#[tokio::test]
async fn nothing_of_a_message_is_on_the_disk_in_clear_not_even_in_what_was_freed() {
    const MARKS: [&str; 7] = [
        "Marked-Subject",
        "marked-body",
        "marked-sender",
        "marked-recipient",
        "marked.example",
        "marked-reply",
        "marked-host",
    ];
    let place = Place::new(&[OLD_KEY]);
    let spool = place.open().unwrap();
    let message = || NewMessage {
        envelope: envelope("marked-sender@a.nl", &["marked-recipient@marked.example"]),
        routes: vec![(federation("marked.example"), vec![0])],
        arrival: Arrival { domain: Some("marked.example".parse().unwrap()), ..Arrival::default() },
        origin: Origin::Submission,
        record: None,
    };
    let content = |size: usize| {
        [b"Subject: Marked-Subject\r\n\r\n".to_vec(), b"marked-body ".repeat(size / 12)].concat()
    };
    let look = |when: &str| {
        for mark in MARKS {
            assert_eq!(tells(&place.spool(), mark), None, "{mark}, {when}");
        }
    };
    let mut waiting = None;
    for (round, size) in [100, 3000, 300_000, 900_000].into_iter().enumerate() {
        let accepted = accept(&spool, message(), &content(size)).await.unwrap();
        // Even while it comes in.
        let mut draft = spool.draft(spool.world().message_id(), b"");
        draft.write(&content(500_000)).await.unwrap();
        look("while it comes in");
        drop(draft);
        let attempt = begin(&spool).await;
        let mut end = all(&attempt, &spool, if round == 3 { Fate::Pending } else { Fate::Delivered });
        end.record.sender = Some("marked-sender@a.nl".to_owned());
        end.recipients[0].note = Some(Note {
            at: spool.world().now(),
            reason: None,
            code: Some("250".to_owned()),
            text: Some("marked-reply".to_owned()),
            host: Some("marked-host.marked.example".to_owned()),
        });
        attempt.finish(end).await.unwrap();
        look("after an attempt");
        waiting = Some(accepted);
    }
    spool.close().await;
    look("closed");
    // The one that waits is there all the same, and the search would have found it.
    let spool = place.open().unwrap();
    let read = content_of(&spool, waiting.unwrap().message()).await.unwrap();
    std::fs::write(place.spool().join("content/by-mistake"), read).unwrap();
    assert!(tells(&place.spool(), "marked-body").is_some());
    let records = spool.recent_records(9).await.unwrap();
    assert_eq!(records.iter().filter(|record| record.sender.is_some()).count(), 4);
}

/// Proves: +SPOOL-020 -SPOOL-020
#[tokio::test]
async fn a_missing_or_wrong_key_refuses_to_start_and_costs_nothing() {
    let place = Place::new(&[OLD_KEY]);
    let spool = place.open().unwrap();
    let accepted = accept(&spool, one_recipient(), b"kept").await.unwrap();
    spool.close().await;

    place.write_keys(&[NEW_KEY]);
    let error = place.open().err().unwrap();
    assert!(matches!(&error, SpoolError::Key(why) if why.contains("sealed with key")), "{error}");
    std::fs::remove_file(place.key()).unwrap();
    let error = place.open().err().unwrap();
    assert!(matches!(&error, SpoolError::Key(why) if why.contains("is not there")), "{error}");
    assert!(!place.key().exists(), "no key is made for a spool that has one");

    place.write_keys(&[OLD_KEY]);
    let spool = place.open().unwrap();
    assert_eq!(content_of(&spool, accepted.message()).await.unwrap(), b"Received: here\r\nkept");
}

/// Proves: +SPOOL-021 -SPOOL-021
#[tokio::test]
async fn keys_are_exchanged_without_touching_content() {
    let place = Place::new(&[OLD_KEY]);
    let spool = place.open().unwrap();
    let old = accept(&spool, one_recipient(), &body(1, 100_000)).await.unwrap();
    spool.close().await;
    let file = place.spool().join("content").join(old.message().to_string());
    let before = std::fs::read(&file).unwrap();

    place.write_keys(&[NEW_KEY, OLD_KEY]);
    let spool = place.open().unwrap();
    let new = accept(&spool, one_recipient(), b"new").await.unwrap();
    spool.close().await;

    place.write_keys(&[NEW_KEY]);
    let spool = place.open().unwrap();
    assert_eq!((spool.counts().waiting, spool.queued(&federation("b.nl"))), (2, 2));
    assert_eq!(spool.scrub().await.unwrap().damaged, [""; 0]);
    assert_eq!(std::fs::read(&file).unwrap(), before);
    assert_eq!(content_of(&spool, old.message()).await.unwrap().len() as u64, old.size());
    assert_eq!(content_of(&spool, new.message()).await.unwrap(), b"Received: here\r\nnew");
    spool.close().await;

    place.write_keys(&[OLD_KEY]);
    assert!(matches!(place.open(), Err(SpoolError::Key(_))), "the old key opens nothing any more");
}

/// The spool's own keys stand there twice.
/// Proves: +SPOOL-013
#[tokio::test]
async fn t37_a_damaged_key_is_read_from_its_copy_and_mended() {
    let (disk, world) = (PowerDisk::default(), world().0);
    let spool = open(&disk, &world);
    let accepted = accept(&spool, one_recipient(), b"kept").await.unwrap();
    spool.close().await;
    for table in ["keys", "keys_copy"] {
        {
            let database = redb::Builder::new().create_with_backend(disk.clone()).unwrap();
            let transaction = database.begin_write().unwrap();
            let keys = redb::TableDefinition::<u32, &[u8]>::new(table);
            let mut octets = transaction.open_table(keys).unwrap().get(1).unwrap().unwrap().value().to_vec();
            *octets.last_mut().unwrap() ^= 1;
            transaction.open_table(keys).unwrap().insert(1, octets.as_slice()).unwrap();
            transaction.commit().unwrap();
        }
        let spool = open(&disk, &world);
        assert_eq!(
            content_of(&spool, accepted.message()).await.unwrap(),
            b"Received: here\r\nkept",
            "{table}"
        );
        spool.close().await;
    }
}

fn unpack(from: &Path, to: &Path) {
    let mut octets = Vec::new();
    flate2::read::GzDecoder::new(std::fs::File::open(from).unwrap()).read_to_end(&mut octets).unwrap();
    std::fs::write(to, octets).unwrap();
}

/// A spool as version 0.1.0 of the first format left it: two messages that wait, a small and a large one, and the decision
/// records of what happened before.
fn golden_format_1(place: &Place) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/spool/testdata/format-1");
    std::fs::create_dir_all(place.spool().join("bodies")).unwrap();
    unpack(&golden.join("spool.redb.gz"), &place.spool().join("spool.redb"));
    let large = format!("{LARGE}.gz");
    unpack(&golden.join(large), &place.spool().join("bodies").join(LARGE));
}

const LARGE: &str = "01M89ZSC6ZJ3ZY3HKKM0ETXKT8";
const SMALL: &str = "01M89ZSCB4KAETAXHA1KQGR69M";

async fn check_golden(place: &Place) {
    let spool = place.open().unwrap();
    let listed = spool.list(Filter::default()).await.unwrap();
    let ids: Vec<_> = listed.iter().map(|view| view.delivery.message.to_string()).collect();
    assert_eq!(ids, [LARGE, SMALL]);
    for view in &listed {
        assert_eq!((view.phase, view.tries), (Phase::Waiting, 1));
        assert_eq!(view.recipients[0].address.as_ref().unwrap().to_string(), "bob@host-unsigned.nl");
        let message = spool.message(view.delivery.message).await.unwrap();
        let content = content_of(&spool, view.delivery.message).await.unwrap();
        assert_eq!((content.len() as u64, Digest::of(&content)), (message.size, message.content_digest));
        let records = spool.records_of(view.delivery.message).await.unwrap();
        let outcomes: Vec<_> = records.iter().map(|record| record.outcome).collect();
        assert_eq!(outcomes, [Outcome::Accepted, Outcome::Later]);
    }
    let counts = spool.counts();
    assert_eq!((counts.waiting, counts.held, counts.damaged), (2, 0, 0));
    spool.close().await;
}

/// Proves: +SPOOL-022 -SPOOL-022
#[tokio::test]
async fn a_spool_of_format_1_is_brought_up_to_date_and_nothing_stays_in_clear() {
    let place = Place::new(&[OLD_KEY]);
    golden_format_1(&place);
    assert!(tells(&place.spool(), "that waits").is_some());
    check_golden(&place).await;
    for word in ["that waits", "alice", "bob@", "host-unsigned", "000000000000000000000017"] {
        assert_eq!(tells(&place.spool(), word), None, "{word}");
    }
    assert!(!place.spool().join("bodies").exists());
    check_golden(&place).await;
}

/// Wherever it was interrupted.
/// Proves: +SPOOL-022 -SPOOL-022
#[tokio::test]
async fn an_upgrade_that_was_interrupted_is_done_again_or_completed() {
    let place = Place::new(&[OLD_KEY]);
    golden_format_1(&place);
    std::fs::create_dir_all(place.spool().join("content")).unwrap();
    std::fs::write(place.spool().join("content").join(LARGE), b"half of it").unwrap();
    std::fs::write(place.spool().join("spool.redb.new"), b"half of it").unwrap();
    check_golden(&place).await;
    assert!(!place.spool().join("spool.redb.new").exists());

    // After the rename, before the old content was removed.
    std::fs::create_dir_all(place.spool().join("bodies")).unwrap();
    std::fs::write(place.spool().join("bodies").join(LARGE), b"old").unwrap();
    check_golden(&place).await;
    assert!(!place.spool().join("bodies").exists());
}
