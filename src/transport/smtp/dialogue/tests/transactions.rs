//! Messages that reach a verdict.

use super::super::testing::{content, envelope};
use super::*;
use crate::model::{BodyType, ContentLeft, Notify, Reason, Ret, ReversePath};

const MESSAGE: &[u8] = b"From: <a@a.nl>\r\n\r\n.hidden dot\r\n.\r\nend\r\n";

fn verdicts(transfer: &Transfer) -> Vec<(String, Step, Settled, u16)> {
    let view = |one: &RecipientReply| (one.address.to_string(), one.step, one.settled, one.reply.code());
    transfer.recipients.iter().map(view).collect()
}

/// Proves: +SMTP-011 +SMTP-014 +SMTP-015
#[tokio::test]
async fn everything_that_is_offered_is_used() {
    let offers = ["PIPELINING", "CHUNKING", "DSN", "SIZE 10000", "8BITMIME", "SMTPUTF8"];
    let (mut dialogue, mut peer) = open(Dialect::Esmtp, &offers).await;
    let mut envelope = envelope(&["b@b.nl", "jörg@b.nl"]);
    envelope.body = BodyType::EightBitMime;
    (envelope.ret, envelope.envid) = (Some(Ret::Headers), Some("id=1 +x".to_owned()));
    envelope.recipients[0].notify = Some(Notify { success: true, failure: false, delay: true });
    envelope.recipients[0].orcpt = Some("rfc822;old+b@b.nl".to_owned());
    envelope.recipients[1].notify = Some(Notify::NEVER);
    let message = "Subject: é\r\n\r\n.x\r\n".as_bytes();
    let mut reader = message;
    let script = async {
        let mail = "MAIL FROM:<a@a.nl> SMTPUTF8 BODY=8BITMIME SIZE=19 RET=HDRS ENVID=id+3D1+20+2Bx";
        assert_eq!(peer.line().await, mail);
        assert_eq!(peer.line().await, "RCPT TO:<b@b.nl> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;old+2Bb@b.nl");
        assert_eq!(peer.line().await, "RCPT TO:<jörg@b.nl> NOTIFY=NEVER");
        peer.say("250 2.1.0 ok\r\n250 2.1.5 ok\r\n251 2.1.5 will forward\r\n").await;
        assert_eq!(peer.line().await, "BDAT 19 LAST");
        assert_eq!(peer.octets(19).await, message);
        peer.say("250 2.0.0 queued\r\n").await;
        peer
    };
    let (transfer, peer) = tokio::join!(dialogue.send(&envelope, content(&mut reader)), script);
    let transfer = transfer.unwrap();
    assert_eq!(
        verdicts(&transfer),
        [
            ("b@b.nl".to_owned(), Step::FinalDot, Settled::Taken, 250),
            ("jörg@b.nl".to_owned(), Step::FinalDot, Settled::Taken, 250),
        ]
    );
    assert_eq!((transfer.content_left, transfer.reports), (ContentLeft::Yes, Reports::Passed));
    let (_, heard) = tokio::join!(dialogue.quit(), async {
        let mut peer = peer;
        peer.expect("QUIT", "221 bye\r\n").await;
        peer.rest().await
    });
    assert!(heard.ends_with(b"QUIT\r\n"));
}

/// Proves: +SMTP-011 +SMTP-021
#[tokio::test]
async fn a_plain_host_gets_plain_smtp() {
    let (mut dialogue, mut peer) = open(Dialect::Esmtp, &[]).await;
    let mut envelope = envelope(&["b@b.nl"]);
    envelope.sender = ReversePath::Null;
    envelope.recipients[0].notify = Some(Notify::NEVER);
    let mut reader = MESSAGE;
    let script = async {
        peer.expect("MAIL FROM:<>", "250 ok\r\n").await;
        peer.expect("RCPT TO:<b@b.nl>", "250 ok\r\n").await;
        peer.expect("DATA", "354 go on\r\n").await;
        let stuffed = peer.content().await;
        peer.say("250 ok\r\n").await;
        stuffed
    };
    let (transfer, stuffed) = tokio::join!(dialogue.send(&envelope, content(&mut reader)), script);
    assert_eq!(stuffed, b"From: <a@a.nl>\r\n\r\n..hidden dot\r\n..\r\nend\r\n.\r\n");
    assert_eq!(transfer.unwrap().reports, Reports::Ours);
}

/// Proves: +SMTP-016 -SMTP-016
#[tokio::test]
async fn each_recipient_has_its_own_verdict() {
    let (mut dialogue, mut peer) = open(Dialect::Esmtp, &["PIPELINING"]).await;
    let envelope = envelope(&["ok@b.nl", "no@b.nl", "later@b.nl", "full@b.nl", "many@b.nl"]);
    let mut reader = MESSAGE;
    let script = async {
        for _ in 0..6 {
            peer.line().await;
        }
        peer.say(
            "250 ok\r\n250 ok\r\n550 5.1.1 unknown\r\n450 4.2.0 busy\r\n552 5.2.2 full\r\n552 too many\r\n",
        )
        .await;
        peer.expect("DATA", "354 go on\r\n").await;
        peer.content().await;
        peer.say("250 2.0.0 ok\r\n").await;
    };
    let (transfer, ()) = tokio::join!(dialogue.send(&envelope, content(&mut reader)), script);
    let view = |one: (String, Step, Settled, u16)| (one.1, one.2);
    assert_eq!(
        verdicts(&transfer.unwrap()).into_iter().map(view).collect::<Vec<_>>(),
        [
            (Step::FinalDot, Settled::Taken),
            (Step::Rcpt, Settled::Refused),
            (Step::Rcpt, Settled::Later),
            (Step::Rcpt, Settled::Refused),
            (Step::Rcpt, Settled::Later),
        ]
    );
}

/// Proves: +HAND-001 -HAND-001
#[tokio::test]
async fn lmtp_answers_for_each_recipient() {
    let (mut dialogue, mut peer) = open(Dialect::Lmtp, &["PIPELINING"]).await;
    let to_three = envelope(&["x@b.nl", "y@b.nl", "z@b.nl"]);
    let mut reader = MESSAGE;
    let script = async move {
        for _ in 0..4 {
            peer.line().await;
        }
        peer.say("250 ok\r\n250 ok\r\n550 no\r\n250 ok\r\n").await;
        peer.expect("DATA", "354 go on\r\n").await;
        peer.content().await;
        peer.say("250 2.0.0 stored\r\n452 4.2.2 over quota\r\n").await;
        // The second message: only the first of its two verdicts comes.
        peer.expect("RSET", "250 ok\r\n").await;
        for _ in 0..3 {
            peer.line().await;
        }
        peer.say("250 ok\r\n250 ok\r\n250 ok\r\n").await;
        peer.expect("DATA", "354 go on\r\n").await;
        peer.content().await;
        peer.say("250 2.0.0 stored\r\n").await;
    };
    let client = async {
        let transfer = dialogue.send(&to_three, content(&mut reader)).await.unwrap();
        let mut reader = MESSAGE;
        let broken = dialogue.send(&envelope(&["x@b.nl", "y@b.nl"]), content(&mut reader)).await;
        (transfer, broken.unwrap_err())
    };
    let ((transfer, broken), ()) = tokio::join!(client, script);
    let settled: Vec<_> = transfer.recipients.iter().map(|one| one.settled).collect();
    assert_eq!(settled, [Settled::Taken, Settled::Refused, Settled::Later]);
    assert_eq!(broken.error.reason(), Reason::ReplyLost);
    assert_eq!(broken.settled.len(), 1);
    assert_eq!(broken.settled[0].settled, Settled::Taken);
}

/// Proves: -SMTP-012
#[tokio::test]
async fn t04_a_refused_transaction_is_cleared_before_the_next() {
    for (offers, mail) in [(&["PIPELINING"][..], "550 5.7.1 no\r\n503 no\r\n"), (&[], "550 5.7.1 no\r\n")] {
        let (mut dialogue, mut peer) = open(Dialect::Esmtp, offers).await;
        let envelope = envelope(&["b@b.nl"]);
        let script = async {
            peer.line().await;
            if !offers.is_empty() {
                peer.line().await;
            }
            peer.say(mail).await;
            peer.expect("RSET", "250 ok\r\n").await;
            assert!(peer.line().await.starts_with("MAIL"));
            if offers.is_empty() {
                peer.say("250 ok\r\n").await;
                peer.expect("RCPT TO:<b@b.nl>", "250 ok\r\n").await;
            } else {
                peer.line().await;
                peer.say("250 ok\r\n250 ok\r\n").await;
            }
            peer.expect("DATA", "451 4.3.0 not now\r\n").await;
            peer.expect("RSET", "250 ok\r\n").await;
        };
        let client = async {
            let (mut one, mut two) = (MESSAGE, MESSAGE);
            let first = dialogue.send(&envelope, content(&mut one)).await.unwrap();
            let second = dialogue.send(&envelope, content(&mut two)).await.unwrap();
            dialogue.reset().await.unwrap();
            (first, second)
        };
        let ((first, second), ()) = tokio::join!(client, script);
        assert_eq!(verdicts(&first), [("b@b.nl".to_owned(), Step::Mail, Settled::Refused, 550)]);
        assert_eq!(verdicts(&second), [("b@b.nl".to_owned(), Step::Data, Settled::Later, 451)]);
        assert_eq!((first.content_left, second.content_left), (ContentLeft::Never, ContentLeft::Never));
    }
}

/// Proves: -SMTP-014 -SMTP-015
#[tokio::test]
async fn what_the_host_cannot_take_is_not_begun() {
    type Change = fn(&mut crate::model::Envelope);
    let cases: [(&[&str], Change, Reason); 4] = [
        (&["SIZE 10"], |_| {}, Reason::PeerSizeLimit),
        (&["SMTPUTF8"], |it| it.body = BodyType::EightBitMime, Reason::NoEightBitMime),
        (&["8BITMIME"], |it| it.smtputf8 = true, Reason::NoSmtputf8),
        (&["8BITMIME"], |it| it.recipients[0].address = "jörg@b.nl".parse().unwrap(), Reason::NoSmtputf8),
    ];
    for (offers, change, reason) in cases {
        let (mut dialogue, peer) = open(Dialect::Esmtp, offers).await;
        let mut envelope = envelope(&["b@b.nl"]);
        change(&mut envelope);
        let mut reader = MESSAGE;
        let error = dialogue.send(&envelope, content(&mut reader)).await.unwrap_err();
        assert_eq!((error.error.reason(), error.error.content_left()), (reason, ContentLeft::Never));
        assert!(dialogue.is_usable());
        drop(dialogue);
        assert_eq!(peer.rest().await, b"EHLO client.a.nl\r\n");
    }
}

/// Proves: -SMTP-015
#[tokio::test]
async fn eight_bit_content_that_calls_itself_seven_bit_stops_at_a_seven_bit_host() {
    let (mut dialogue, mut peer) = open(Dialect::Esmtp, &[]).await;
    let mut reader = "Subject: é\r\n".as_bytes();
    let envelope = envelope(&["b@b.nl"]);
    let script = async {
        peer.expect("MAIL FROM:<a@a.nl>", "250 ok\r\n").await;
        peer.expect("RCPT TO:<b@b.nl>", "250 ok\r\n").await;
        peer.expect("DATA", "354 go on\r\n").await;
    };
    let (outcome, ()) = tokio::join!(dialogue.send(&envelope, content(&mut reader)), script);
    assert_eq!(outcome.unwrap_err().error.reason(), Reason::NoEightBitMime);
    assert!(!dialogue.is_usable());
    drop(dialogue);
    assert!(peer.rest().await.ends_with(b"DATA\r\n"));
}

#[tokio::test]
async fn a_thousand_recipients_go_in_batches() {
    let (mut dialogue, mut peer) = open(Dialect::Esmtp, &["PIPELINING", "CHUNKING"]).await;
    let names: Vec<String> = (0..1000).map(|at| format!("r{at}@b.nl")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let envelope = envelope(&names);
    let mut reader = MESSAGE;
    let script = async {
        peer.line().await;
        peer.say("250 ok\r\n").await;
        for at in 0..1000 {
            let answer = if at % 2 == 0 { "250 ok\r\n" } else { "550 no\r\n" };
            peer.expect(&format!("RCPT TO:<r{at}@b.nl>"), answer).await;
        }
        assert_eq!(peer.line().await, format!("BDAT {} LAST", MESSAGE.len()));
        peer.octets(MESSAGE.len()).await;
        peer.say("250 ok\r\n").await;
    };
    let (transfer, ()) = tokio::join!(dialogue.send(&envelope, content(&mut reader)), script);
    for (at, one) in transfer.unwrap().recipients.iter().enumerate() {
        let expected = if at % 2 == 0 { Settled::Taken } else { Settled::Refused };
        assert_eq!((one.address.to_string(), one.settled), (format!("r{at}@b.nl"), expected));
    }
}

#[tokio::test]
async fn nobody_accepted_means_no_content() {
    let (mut dialogue, mut peer) = open(Dialect::Esmtp, &["PIPELINING", "CHUNKING"]).await;
    let mut reader = MESSAGE;
    let envelope = envelope(&["b@b.nl"]);
    let script = async {
        peer.line().await;
        peer.line().await;
        peer.say("250 ok\r\n550 5.1.1 unknown\r\n").await;
    };
    let (transfer, ()) = tokio::join!(dialogue.send(&envelope, content(&mut reader)), script);
    assert_eq!(transfer.unwrap().content_left, ContentLeft::Never);
    drop(dialogue);
    assert!(peer.rest().await.ends_with(b"RCPT TO:<b@b.nl>\r\n"));
}

#[tokio::test]
async fn a_host_that_stops_taking_content_is_heard_out() {
    let (mut dialogue, mut peer) = open(Dialect::Esmtp, &["CHUNKING"]).await;
    let message = [b'x', b'\r', b'\n'].repeat(200_000);
    let mut reader = message.as_slice();
    let envelope = envelope(&["b@b.nl"]);
    let script = async {
        peer.expect("MAIL FROM:<a@a.nl>", "250 ok\r\n").await;
        peer.expect("RCPT TO:<b@b.nl>", "250 ok\r\n").await;
        peer.octets(1000).await;
        peer.say("552 5.3.4 too big after all\r\n").await;
        drop(peer);
    };
    let (transfer, ()) = tokio::join!(dialogue.send(&envelope, content(&mut reader)), script);
    let transfer = transfer.unwrap();
    assert_eq!(verdicts(&transfer), [("b@b.nl".to_owned(), Step::Content, Settled::Refused, 552)]);
    assert_eq!(transfer.content_left, ContentLeft::Possibly);
    assert!(!dialogue.is_usable());
}
