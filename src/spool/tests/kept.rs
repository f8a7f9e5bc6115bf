//! Content that is kept for a while and becomes no message.

use super::*;

/// Proves: +HOOK-004 +SPOOL-007
#[tokio::test]
async fn what_is_kept_is_read_back_and_gone_when_it_is_dropped() {
    let (world, _) = world();
    let disk = PowerDisk::default();
    let spool = open(&disk, &world);
    for size in [0, 1, 4096, 4097, 300_000] {
        let content = body(size as u64, size);
        let mut draft = spool.draft(spool.world().message_id(), b"");
        for piece in content.chunks(1500) {
            draft.write(piece).await.unwrap();
        }
        let mut kept = draft.keep().await.unwrap();
        assert_eq!((kept.size(), kept.digest()), (size as u64, crate::model::Digest::of(&content)));
        assert_eq!(disk.file_names().len(), usize::from(size > 4096));
        let mut back = Vec::new();
        kept.read_to_end(&mut back).await.unwrap();
        assert!(back == content, "{size}");
        drop(kept);
        // After what has queued: the file goes with a commit behind it.
        spool.note(record(&spool)).await.unwrap();
        assert_eq!(disk.file_names().len(), 0, "{size}");
    }
    assert_eq!(spool.counts(), Counts::default());
}

/// Proves: -HOOK-004 -SPOOL-013
#[tokio::test]
async fn what_is_kept_is_sealed_and_does_not_outlive_a_crash() {
    let (world, _) = world();
    let disk = PowerDisk::default();
    let spool = open(&disk, &world);
    let mut draft = spool.draft(spool.world().message_id(), b"");
    draft.write(&b"geheim\r\n".repeat(20_000)).await.unwrap();
    let names = disk.file_names();
    let [name] = names.as_slice() else { panic!("{names:?}") };
    disk.corrupt_file(name, 4000);
    let mut kept = draft.keep().await.unwrap();
    assert!(kept.read_to_end(&mut Vec::new()).await.is_err(), "damage is no content");
    disk.power_off();
    let after = disk.after_cut(1);
    let _reopened = open(&after, &world);
    assert_eq!(after.file_names(), Vec::<String>::new());
}
