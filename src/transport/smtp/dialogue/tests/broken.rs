//! Dialogues that break off: in which step, with what reason, and whether content can have left.

use tokio::io::AsyncReadExt;

use super::super::testing::{content, envelope};
use super::*;
use crate::model::{ContentLeft, Reason};

const MESSAGE: &[u8] = b"Subject: x\r\n\r\nbody\r\n";

/// How far the other side plays along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Until {
    Greeting,
    Hello,
    Mail,
    Rcpt,
    Data,
    FinalDot,
}

const ALL: [Until; 6] =
    [Until::Greeting, Until::Hello, Until::Mail, Until::Rcpt, Until::Data, Until::FinalDot];

/// Plays a good host up to the step, which gets no answer.
async fn play(peer: &mut Peer<DuplexStream>, until: Until) {
    let script = [
        (Until::Greeting, None, "220 ready\r\n"),
        (Until::Hello, Some("EHLO client.a.nl"), "250 host\r\n"),
        (Until::Mail, Some("MAIL FROM:<a@a.nl>"), "250 ok\r\n"),
        (Until::Rcpt, Some("RCPT TO:<b@b.nl>"), "250 ok\r\n"),
        (Until::Data, Some("DATA"), "354 go on\r\n"),
    ];
    for (step, line, answer) in script {
        if let Some(line) = line {
            assert_eq!(peer.line().await, line);
        }
        if step == until {
            return;
        }
        peer.say(answer).await;
    }
    peer.content().await;
}

async fn whole(near: DuplexStream) -> DialogueError {
    let name = name();
    match Dialogue::open(near, Dialect::Esmtp, &name, StepLimits::default()).await {
        Err(error) => error,
        Ok(mut dialogue) => {
            let mut reader = MESSAGE;
            let outcome = dialogue.send(&envelope(&["b@b.nl"]), content(&mut reader)).await;
            assert!(!dialogue.is_usable());
            outcome.unwrap_err().error
        }
    }
}

/// Proves: +SMTP-022 -SMTP-022
#[tokio::test(start_paused = true)]
async fn t26_a_silent_host_costs_the_time_of_its_step() {
    let limits = StepLimits::default();
    for until in ALL {
        let (near, mut peer) = pipe();
        let started = tokio::time::Instant::now();
        let (error, ()) = tokio::join!(whole(near), play(&mut peer, until));
        let (step, reason, left) = match until {
            Until::Greeting => (Step::Greeting, Reason::PeerTimeout, ContentLeft::Never),
            Until::Hello => (Step::Hello, Reason::PeerTimeout, ContentLeft::Never),
            Until::Mail => (Step::Mail, Reason::PeerTimeout, ContentLeft::Never),
            Until::Rcpt => (Step::Rcpt, Reason::PeerTimeout, ContentLeft::Never),
            Until::Data => (Step::Data, Reason::PeerTimeout, ContentLeft::Never),
            Until::FinalDot => (Step::FinalDot, Reason::ReplyLost, ContentLeft::Possibly),
        };
        assert_eq!((error.step(), error.reason(), error.content_left()), (step, reason, left));
        assert_eq!(started.elapsed().as_secs(), limits.of(step).as_secs(), "{until:?}");
        assert_eq!(step == Step::FinalDot, error.to_string().contains("sent twice"), "{error}");
    }
}

/// Proves: +SMTP-022
#[tokio::test]
async fn t39_a_lost_connection_says_whether_content_left() {
    for until in ALL {
        let (near, mut peer) = pipe();
        let (error, ()) = tokio::join!(whole(near), async move {
            play(&mut peer, until).await;
            drop(peer);
        });
        let (reason, left) = match until {
            Until::FinalDot => (Reason::ReplyLost, ContentLeft::Possibly),
            _ => (Reason::ConnectionLost, ContentLeft::Never),
        };
        assert_eq!((error.reason(), error.content_left()), (reason, left), "{until:?}");
    }
}

/// Proves: -SMTP-022
#[tokio::test(start_paused = true)]
async fn t26_single_octets_do_not_extend_a_step() {
    let (near, mut peer) = pipe();
    let drip = async {
        peer.say("220-").await;
        loop {
            tokio::time::sleep(10 * SECOND).await;
            if tokio::io::AsyncWriteExt::write_all(&mut peer.stream, b"x").await.is_err() {
                return;
            }
        }
    };
    let started = tokio::time::Instant::now();
    let (error, ()) = tokio::join!(whole(near), drip);
    assert_eq!((error.step(), error.reason()), (Step::Greeting, Reason::PeerTimeout));
    assert!(started.elapsed() <= StepLimits::default().greeting + 20 * SECOND);
}

/// Proves: -SMTP-022
#[tokio::test(start_paused = true)]
async fn a_host_that_stops_reading_is_left() {
    let (mut dialogue, mut peer) = open(Dialect::Esmtp, &["CHUNKING"]).await;
    let message = b"x\r\n".repeat(100_000);
    let mut reader = message.as_slice();
    let envelope = envelope(&["b@b.nl"]);
    let script = async {
        peer.expect("MAIL FROM:<a@a.nl>", "250 ok\r\n").await;
        peer.expect("RCPT TO:<b@b.nl>", "250 ok\r\n").await;
    };
    let (outcome, ()) = tokio::join!(dialogue.send(&envelope, content(&mut reader)), script);
    let error = outcome.unwrap_err().error;
    assert_eq!((error.step(), error.reason()), (Step::Content, Reason::PeerTimeout));
    assert_eq!(error.content_left(), ContentLeft::Possibly);
}

#[tokio::test]
async fn t04b_nonsense_and_endless_lines_end_the_link() {
    let endless = format!("220 {}", "x".repeat(200_000));
    let many = "220-more\r\n".repeat(500);
    for nonsense in [
        "HTTP/1.1 400 Bad Request\r\n",
        "220 bare\n220 ok\r\n",
        "220 nul\0\r\n",
        "220-a\r\n550 b\r\n",
        "99 what\r\n",
        "354 go on\r\n",
        endless.as_str(),
        many.as_str(),
    ] {
        let (near, mut peer) = pipe();
        let (error, ()) = tokio::join!(whole(near), async {
            // The client may hang up in the middle of it.
            let _all = tokio::io::AsyncWriteExt::write_all(&mut peer.stream, nonsense.as_bytes()).await;
        });
        assert_eq!((error.step(), error.reason()), (Step::Greeting, Reason::PeerProtocol), "{error}");
    }
}

#[tokio::test]
async fn a_host_that_refuses_everybody_says_nothing_about_the_message() {
    for (greeting, hello) in [("554 no mail here\r\n", None), ("220 ready\r\n", Some("550 not you\r\n"))] {
        let (near, mut peer) = pipe();
        let (error, ()) = tokio::join!(whole(near), async {
            peer.say(greeting).await;
            if let Some(hello) = hello {
                peer.line().await;
                peer.say(hello).await;
            }
        });
        assert_eq!(error.reason(), Reason::PeerTemporary);
        assert!(error.reply().is_some());
    }
}

#[tokio::test]
async fn after_421_the_link_is_over() {
    let (mut dialogue, mut peer) = open(Dialect::Esmtp, &[]).await;
    let mut reader = MESSAGE;
    let envelope = envelope(&["b@b.nl"]);
    let client = dialogue.send(&envelope, content(&mut reader));
    let (transfer, ()) = tokio::join!(client, async {
        peer.expect("MAIL FROM:<a@a.nl>", "250 ok\r\n").await;
        peer.expect("RCPT TO:<b@b.nl>", "421 4.3.2 going down\r\n").await;
    });
    assert_eq!(transfer.unwrap().recipients[0].settled, Settled::Later);
    assert!(!dialogue.is_usable());
}

#[tokio::test]
async fn wrong_replies_are_a_protocol_fault() {
    for (mail, rcpt) in [("354 what\r\n", None), ("250 ok\r\n", Some("354 what\r\n"))] {
        let (mut dialogue, mut peer) = open(Dialect::Esmtp, &[]).await;
        let mut reader = MESSAGE;
        let envelope = envelope(&["b@b.nl"]);
        let (outcome, ()) = tokio::join!(dialogue.send(&envelope, content(&mut reader)), async {
            peer.expect("MAIL FROM:<a@a.nl>", mail).await;
            if let Some(rcpt) = rcpt {
                peer.expect("RCPT TO:<b@b.nl>", rcpt).await;
            }
        });
        let error = outcome.unwrap_err().error;
        assert_eq!((error.reason(), error.content_left()), (Reason::PeerProtocol, ContentLeft::Never));
        assert!(!dialogue.is_usable(), "{error}");
    }
}

/// Our own content, gone bad between acceptance and sending: what would not arrive octet for octet does not arrive.
///
/// Proves: -SMTP-011
#[tokio::test]
async fn a_fault_of_ours_leaves_no_message_behind() {
    for (message, size, reason) in [
        (&b"ok\r\nbare\nlf\r\n"[..], 13, Reason::ContentMalformed),
        (b"short\r\n", 100, Reason::LocalFault),
        (b"long\r\nlong\r\n", 6, Reason::LocalFault),
    ] {
        for offers in [&["CHUNKING"][..], &[]] {
            let (mut dialogue, mut peer) = open(Dialect::Esmtp, offers).await;
            let envelope = envelope(&["b@b.nl"]);
            let mut reader = message;
            let message = Content { reader: &mut reader, size };
            let (outcome, ()) = tokio::join!(dialogue.send(&envelope, message), async {
                peer.expect("MAIL FROM:<a@a.nl>", "250 ok\r\n").await;
                peer.expect("RCPT TO:<b@b.nl>", "250 ok\r\n").await;
                if offers.is_empty() {
                    peer.expect("DATA", "354 go on\r\n").await;
                }
            });
            assert_eq!(outcome.unwrap_err().error.reason(), reason);
            assert!(!dialogue.is_usable());
            drop(dialogue);
            let heard = peer.rest().await;
            assert!(!heard.ends_with(b"\r\n.\r\n"), "the host must not take it for complete");
        }
    }
}

/// Proves: -SMTP-003 -SMTP-004
#[tokio::test]
async fn t03_starttls_is_taken_as_said_or_not_at_all() {
    for (offer, answer, reason) in [
        ("STARTTLS", "220 go\r\n250 injected\r\n", Some(Reason::StarttlsInjection)),
        ("STARTTLS", "220-go\r\n220 go\r\nx", Some(Reason::StarttlsInjection)),
        ("STARTTLS", "454 4.7.0 not now\r\n", Some(Reason::StarttlsAbsent)),
        ("STARTTLS", "500 what\r\n", Some(Reason::StarttlsAbsent)),
        ("STARTTLS", "250 sure\r\n", Some(Reason::PeerProtocol)),
        ("XSTARTTLS", "", Some(Reason::StarttlsAbsent)),
        ("STARTTLS", "220 go\r\n", None),
    ] {
        let (dialogue, mut peer) = open(Dialect::Esmtp, &[offer]).await;
        let (outcome, ()) = tokio::join!(dialogue.starttls(), async {
            if !answer.is_empty() {
                peer.expect("STARTTLS", answer).await;
            }
        });
        assert_eq!(outcome.as_ref().err().map(DialogueError::reason), reason, "{answer:?}");
        if let Ok(mut stream) = outcome {
            drop(peer);
            assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
        }
    }
}
