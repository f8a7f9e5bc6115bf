//! A message that is sent again: recognised, answered for once, and forgotten in time.

use super::*;
use crate::model::{Digest, Level, Outcome};

fn imprint(content: &[u8], envelope: &Envelope) -> Imprint {
    Imprint::new(Level::Mutual, &"a.nl".parse().unwrap(), Digest::of(content), envelope)
}

/// Receives `content` from a.nl, with a record of the transaction.
async fn receive(spool: &Spool, content: &[u8]) -> Arrived {
    let mut draft = spool.draft(spool.world().message_id(), b"Received: here\r\n");
    draft.write(content).await.unwrap();
    let mut record = record(spool);
    record.attempt = spool.world().attempt_id();
    record.outcome = Outcome::Accepted;
    let message = NewMessage { origin: Origin::Peer, record: Some(record), ..one_recipient() };
    let imprint = imprint(content, &message.envelope);
    draft.accept_once(message, imprint).await.unwrap()
}

fn first(arrived: &Arrived) -> MessageId {
    match arrived {
        Arrived::New(accepted) => accepted.message(),
        Arrived::Again(repeated) => panic!("already accepted: {repeated:?}"),
    }
}

/// Proves: +SPOOL-042 -SPOOL-042
#[tokio::test]
async fn t39_a_repetition_is_known_also_after_a_power_cut_and_when_the_first_is_settled() {
    let disk = PowerDisk::default();
    let (world, clock) = world();
    let spool = open(&disk, &world);
    let content = body(1, 9000);
    let accepted = first(&receive(&spool, &content).await);
    let disk = disk.after_cut(3);
    let spool = open(&disk, &world);
    clock.advance(1000);
    let again = receive(&spool, &content).await;
    let Arrived::Again(repeated) = again else { panic!("{again:?}") };
    assert_eq!((repeated.first(), repeated.at()), (accepted, Timestamp::from_second(START).unwrap()));
    assert_eq!(spool.counts().messages, 1);
    let records = spool.records_of(accepted).await.unwrap();
    assert_eq!(
        records.iter().map(|record| record.outcome).collect::<Vec<_>>(),
        [Outcome::Accepted, Outcome::Repeated]
    );
    assert!(records[1].warnings[0].contains("was accepted at"), "{:?}", records[1].warnings);

    let attempt = begin(&spool).await;
    let end = all(&attempt, &spool, Fate::Delivered);
    attempt.finish(end).await.unwrap();
    assert!(matches!(receive(&spool, &content).await, Arrived::Again(_)));
    assert_eq!(spool.counts().messages, 0);
    spool.close().await;
    assert!(disk.file_names().is_empty(), "no copy left its content behind");
}

/// Proves: +SPOOL-042
#[tokio::test]
async fn t39_what_was_given_up_and_is_sent_again_is_no_repetition() {
    let disk = PowerDisk::default();
    let (world, _) = world();
    let spool = open(&disk, &world);
    let accepted = first(&receive(&spool, b"tried in vain").await);
    let attempt = begin(&spool).await;
    let mut end = all(&attempt, &spool, Fate::Failed);
    end.record.outcome = Outcome::Returned;
    attempt.finish(end).await.unwrap();
    let anew = first(&receive(&spool, b"tried in vain").await);
    assert_ne!(anew, accepted);
    assert_eq!(spool.counts().messages, 1, "it is tried once more");
    let again = receive(&spool, b"tried in vain").await;
    assert!(matches!(again, Arrived::Again(repeated) if repeated.first() == anew), "while it waits");
}

/// Proves: +SPOOL-042
#[tokio::test]
async fn t39_of_copies_at_the_same_time_one_is_accepted() {
    let disk = PowerDisk::default();
    let (world, _) = world();
    let spool = open(&disk, &world);
    let mut copies = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let spool = spool.clone();
        copies.spawn(async move { receive(&spool, b"the same\r\n").await });
    }
    let arrived = copies.join_all().await;
    let new: Vec<_> = arrived.iter().filter(|arrived| matches!(arrived, Arrived::New(_))).collect();
    assert_eq!(new.len(), 1);
    let accepted = first(new[0]);
    for arrived in &arrived {
        if let Arrived::Again(repeated) = arrived {
            assert_eq!(repeated.first(), accepted);
        }
    }
    assert_eq!(spool.counts().messages, 1);
}

/// Proves: -SPOOL-042
#[test]
fn t39_what_differs_in_anything_is_another_message() {
    let envelope = envelope("jan@a.nl", &["een@b.nl", "twee@b.nl"]);
    let base = imprint(b"x", &envelope);
    let turned =
        Envelope { recipients: envelope.recipients.iter().rev().cloned().collect(), ..envelope.clone() };
    assert_eq!(imprint(b"x", &turned), base, "the order of recipients is none of its marks");
    let fewer = Envelope { recipients: envelope.recipients[..1].to_vec(), ..envelope.clone() };
    let other_sender = super::envelope("piet@a.nl", &["een@b.nl", "twee@b.nl"]);
    let null = super::envelope("", &["een@b.nl", "twee@b.nl"]);
    let domain = |name: &str| name.parse().unwrap();
    let others = [
        imprint(b"y", &envelope),
        imprint(b"x", &fewer),
        imprint(b"x", &other_sender),
        imprint(b"x", &null),
        Imprint::new(Level::Nta7516, &domain("a.nl"), Digest::of(b"x"), &envelope),
        Imprint::new(Level::Mutual, &domain("c.nl"), Digest::of(b"x"), &envelope),
    ];
    let mut all: Vec<_> = others.into_iter().chain([base]).collect();
    let count = all.len();
    all.sort_by_key(|imprint| format!("{imprint:?}"));
    all.dedup();
    assert_eq!(all.len(), count);
}

/// Proves: +SPOOL-042
#[tokio::test]
async fn an_acceptance_is_remembered_for_its_time_and_then_forgotten() {
    let disk = PowerDisk::default();
    let (world, clock) = world();
    let spool = open(&disk, &world);
    let accepted = first(&receive(&spool, b"x").await);
    let window = i64::try_from(REPEAT_WINDOW.as_millis()).unwrap();
    clock.advance(window);
    assert!(matches!(receive(&spool, b"x").await, Arrived::Again(_)));
    assert_eq!(spool.prune_seen().await.unwrap(), 0);
    clock.advance(1);
    // Not tidied up yet, but too old to count: from now on the second one is remembered.
    let second = first(&receive(&spool, b"x").await);
    assert_ne!(second, accepted);
    assert_eq!(spool.prune_seen().await.unwrap(), 0, "nothing is left of the first");
    clock.advance(window + 1);
    assert_eq!(spool.prune_seen().await.unwrap(), 1);
    assert_ne!(first(&receive(&spool, b"x").await), second);
}
