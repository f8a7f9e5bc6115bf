//! The verdict itself: a subject that loses, changes or repeats a message is found out.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use async_trait::async_trait;
use tempfile::TempDir;

use super::*;
use crate::crash::subject::{About, Queued};
use crate::foreign::wire;
use crate::sink::{Listen, Sink};

/// A subject that does nothing: what arrives and what is queued is what a test says.
struct Puppet {
    sink: Sink,
    /// Of the other provider; nothing arrives there.
    other: Sink,
    queue: Vec<Queued>,
    unknown: Option<usize>,
    apart: bool,
    _directory: TempDir,
}

#[async_trait]
impl Subject for Puppet {
    fn about(&self) -> About {
        About::default()
    }

    fn doors(&self) -> Vec<Door> {
        let door = |way| Door {
            way,
            address: ([127, 0, 0, 1], 1).into(),
            server: "a".into(),
            helo: "b".into(),
            identity: None,
            signer: None,
            from_domain: "a.nl".into(),
            to_domain: "a.nl".into(),
        };
        vec![door(Way::Home)]
    }

    fn sink(&self, way: Way) -> &Sink {
        if way == Way::Outbound { &self.other } else { &self.sink }
    }

    async fn kill(&mut self) {}

    fn has_ended(&mut self) -> bool {
        false
    }

    async fn start(&mut self) -> Result<(), NetError> {
        Ok(())
    }

    fn state_directory(&self) -> PathBuf {
        PathBuf::new()
    }

    async fn queue(&self) -> Result<Vec<Queued>, NetError> {
        Ok(self.queue.clone())
    }

    async fn release(&self, _: &str) -> Result<(), NetError> {
        Ok(())
    }

    async fn hurry(&self, _: &str) -> Result<(), NetError> {
        Ok(())
    }

    async fn unknown_attempts(&self, _: &str) -> Result<Option<usize>, NetError> {
        Ok(self.unknown)
    }

    fn settles_recipients_apart(&self) -> bool {
        self.apart
    }

    async fn stop(self: Box<Self>) {}
}

async fn puppet() -> (Puppet, Ledger) {
    let directory = tempfile::tempdir().unwrap();
    let listen = Listen::Tcp(([127, 0, 0, 1], 0).into());
    let clock = crate::clock::system();
    let sink = Sink::start(listen.clone(), &directory.path().join("mail"), clock.clone()).await.unwrap();
    let other = Sink::start(listen, &directory.path().join("other"), clock).await.unwrap();
    let puppet =
        Puppet { sink, other, queue: Vec::new(), unknown: Some(0), apart: false, _directory: directory };
    let ledger = Ledger::new(9, puppet.doors());
    (puppet, ledger)
}

/// Brings a message to the environment, with the trace field of acceptance `id`; `change` may harm it.
async fn bring(puppet: &Puppet, letter: &Letter, id: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut content = format!("Received: from b\r\n\tby a with ESMTPS id {id}; now\r\n").into_bytes();
    content.extend_from_slice(&letter.content());
    change(&mut content);
    let Listen::Tcp(address) = *puppet.sink.address() else { unreachable!("it listens on TCP") };
    let letter = letter.clone();
    tokio::task::spawn_blocking(move || {
        let to: Vec<_> = letter.to.iter().map(String::as_str).collect();
        wire::lmtp(address, &letter.from, &to, &content).unwrap();
    })
    .await
    .unwrap();
}

fn acknowledged(ledger: &Ledger) -> Letter {
    let letter = ledger.next(0, Some(Size::Tiny));
    ledger.told(letter.number, Told::Acknowledged(format!("M{}", letter.number)));
    letter
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_and_is_nowhere_is_lost() {
    let (mut puppet, ledger) = puppet().await;
    let arrived = acknowledged(&ledger);
    let waits = acknowledged(&ledger);
    let lost = acknowledged(&ledger);
    bring(&puppet, &arrived, "R", |_| {}).await;
    puppet.queue.push(Queued { message: format!("M{}", waits.number), delivery: "1.0".into(), held: false });
    ledger.check(&puppet).await.unwrap();
    let tally = ledger.judge(&puppet).await.unwrap();
    assert_eq!((tally.acknowledged, tally.delivered, tally.lost), (3, 1, 1));
    assert!(tally.problems[0].contains(&format!("message {} (home)", lost.number)), "{:?}", tally.problems);
    assert!(!tally.ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_octet_or_an_envelope_that_changed_is_a_problem() {
    let (puppet, ledger) = puppet().await;
    let letter = acknowledged(&ledger);
    bring(&puppet, &letter, "R", |content| {
        let last = content.len() - 3;
        content[last] = if content[last] == b'x' { b'y' } else { b'x' };
    })
    .await;
    let mut moved = acknowledged(&ledger);
    moved.to = vec!["somebody-else@a.nl".to_owned()];
    // The content is the right one; only the envelope is not.
    let content = Letter::new(9, moved.number, &ledger.doors()[0], Some(Size::Tiny)).content();
    bring(&puppet, &moved, "R", |all| {
        let field = all.windows(2).position(|two| two == b"\r\n").unwrap();
        let second = field + 2 + all[field + 2..].windows(2).position(|two| two == b"\r\n").unwrap() + 2;
        all.truncate(second);
        all.extend_from_slice(&content);
    })
    .await;
    let tally = ledger.judge(&puppet).await.unwrap();
    assert_eq!(tally.problems.len(), 2, "{:?}", tally.problems);
    assert!(tally.problems[0].contains("content differs"), "{:?}", tally.problems);
    assert!(tally.problems[1].contains("envelope"), "{:?}", tally.problems);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_needs_a_kill_and_a_record_that_explain_it() {
    let (mut puppet, ledger) = puppet().await;
    let letter = acknowledged(&ledger);
    let before = Timestamp::now();
    bring(&puppet, &letter, "R", |_| {}).await;
    bring(&puppet, &letter, "R", |_| {}).await;
    let tally = ledger.judge(&puppet).await.unwrap();
    assert_eq!(tally.duplicates.lmtp_reply_lost, 1);
    assert_eq!(tally.problems.len(), 2, "neither: {:?}", tally.problems);

    // A second ledger over the same arrivals, with a kill between them and a record of it.
    let ledger = Ledger::new(9, puppet.doors());
    let _ = acknowledged(&ledger);
    ledger.killed(before, Timestamp::now());
    puppet.unknown = Some(1);
    // The first one has removed the files that it had looked at.
    bring(&puppet, &letter, "R", |_| {}).await;
    bring(&puppet, &letter, "R", |_| {}).await;
    ledger.inner().seen.insert(Way::Home, 2);
    ledger.killed(before, Timestamp::now());
    let tally = ledger.judge(&puppet).await.unwrap();
    assert_eq!(tally.duplicates.lmtp_reply_lost, 1);
    assert!(tally.ok(), "{:?}", tally.problems);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_more_often_than_answered_is_a_problem() {
    let (puppet, ledger) = puppet().await;
    let letter = acknowledged(&ledger);
    bring(&puppet, &letter, "R1", |_| {}).await;
    bring(&puppet, &letter, "R2", |_| {}).await;
    let tally = ledger.judge(&puppet).await.unwrap();
    assert!(tally.problems[0].contains("accepted 2 times"), "{:?}", tally.problems);

    let ledger = Ledger::new(9, puppet.doors());
    let letter = ledger.next(0, Some(Size::Tiny));
    ledger.told(letter.number, Told::Nothing);
    ledger.inner().seen.insert(Way::Home, 2);
    let again = acknowledged(&ledger);
    assert_eq!(again.number, letter.number, "a client sends again what got no reply");
    bring(&puppet, &letter, "R1", |_| {}).await;
    bring(&puppet, &letter, "R2", |_| {}).await;
    let tally = ledger.judge(&puppet).await.unwrap();
    assert_eq!((tally.duplicates.submitted_again, tally.unanswered), (1, 1));
    assert!(tally.ok(), "{:?}", tally.problems);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_records_a_kill_explains_a_copy_and_nothing_else_does() {
    let (mut puppet, ledger) = puppet().await;
    puppet.unknown = None;
    let letter = acknowledged(&ledger);
    bring(&puppet, &letter, "R", |_| {}).await;
    let before = Timestamp::now();
    bring(&puppet, &letter, "R", |_| {}).await;
    let tally = ledger.judge(&puppet).await.unwrap();
    assert_eq!(tally.problems.len(), 2, "no kill: {:?}", tally.problems);

    let ledger = Ledger::new(9, puppet.doors());
    let _ = acknowledged(&ledger);
    ledger.inner().seen.insert(Way::Home, 2);
    bring(&puppet, &letter, "R", |_| {}).await;
    ledger.killed(before, Timestamp::now());
    bring(&puppet, &letter, "R", |_| {}).await;
    let tally = ledger.judge(&puppet).await.unwrap();
    assert_eq!(tally.duplicates.lmtp_reply_lost, 1);
    assert!(tally.ok(), "{:?}", tally.problems);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_settles_recipients_apart_may_bring_a_message_in_parts() {
    let (mut puppet, ledger) = puppet().await;
    let mut letter = ledger.next(0, Some(Size::Tiny));
    while letter.to.len() < 2 {
        letter = ledger.next(0, Some(Size::Tiny));
    }
    ledger.told(letter.number, Told::Acknowledged("M".to_owned()));
    let (mut first, mut rest) = (letter.clone(), letter.clone());
    let content = letter.content();
    first.to = vec![letter.to[1].clone()];
    rest.to.remove(1);
    // The content names all of them; only the envelope does not.
    for part in [&first, &rest] {
        bring(&puppet, part, "R", |all| {
            let field = all.windows(6).position(|six| six == b"; now\r").unwrap() + 7;
            all.truncate(field);
            all.extend_from_slice(&content);
        })
        .await;
    }
    puppet.apart = true;
    let tally = ledger.judge(&puppet).await.unwrap();
    assert_eq!((tally.delivered, tally.duplicates.lmtp_reply_lost, ledger.outstanding()), (1, 0, 0));
    assert!(tally.ok(), "{:?}", tally.problems);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_while_the_power_goes_decides_nothing() {
    let (puppet, ledger) = puppet().await;
    let letter = ledger.next(0, Some(Size::Tiny));
    ledger.dark(true);
    ledger.told(letter.number, Told::Refused("451 no disk".to_owned()));
    ledger.dark(false);
    bring(&puppet, &letter, "R", |_| {}).await;
    let tally = ledger.judge(&puppet).await.unwrap();
    assert!(tally.ok(), "{:?}", tally.problems);
    ledger.told(letter.number, Told::Refused("452 too much".to_owned()));
    bring(&puppet, &letter, "R2", |_| {}).await;
    assert!(!ledger.judge(&puppet).await.unwrap().ok());
}
