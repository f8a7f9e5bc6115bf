//! Hand-off against a scripted environment over a UNIX socket, loopback and TLS.
#![allow(clippy::unwrap_used)]

use std::io;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, UnixListener};

use super::*;
use crate::handoff::deliver::Environment;
use crate::model::{BodyType, Envelope, Recipient, ReversePath};
use crate::transport::smtp::dialogue::{EndpointError, TlsStart};
use crate::transport::tls::testing::{Authority, Pair, leaf, pem, today};
use crate::transport::tls::{Authorities, Certificate, Pins, ServerProof, ServerTls};
use crate::world::{ManualClock, SeededRandom};

/// What the environment answers to a line; to the end of content, which is shown as `.`. `None` hangs up.
type Script = fn(&str) -> Option<&'static str>;

/// Everything the environment heard.
type Heard = Arc<Mutex<Vec<u8>>>;

fn polite(line: &str) -> Option<&'static str> {
    Some(match line.split([' ', ':']).next().unwrap() {
        "LHLO" | "EHLO" => "250-env.a.nl\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n",
        "DATA" => "354 go\r\n",
        "." => "250 2.1.5 kept\r\n250 2.1.5 kept\r\n",
        "QUIT" => "221 2.0.0 bye\r\n",
        _ => "250 2.0.0 ok\r\n",
    })
}

/// A careful server: three recipients, three fates.
fn picky(line: &str) -> Option<&'static str> {
    match line {
        "RCPT TO:<weg@a.nl>" => Some("550 5.1.1 no such user\r\n"),
        "RCPT TO:<streng@a.nl>" => Some("550 5.7.1 not allowed\r\n"),
        "." => Some("250 2.1.5 kept\r\n452 4.2.2 mailbox full\r\n554 5.6.0 spam\r\n"),
        other => polite(other),
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    script: Script,
    heard: Heard,
    greet: bool,
) -> io::Result<S> {
    let mut stream = BufReader::new(stream);
    if greet {
        stream.write_all(b"220 env.a.nl ready\r\n").await?;
    }
    let mut in_content = false;
    loop {
        let mut line = Vec::new();
        if stream.read_until(b'\n', &mut line).await? == 0 {
            return Ok(stream.into_inner());
        }
        heard.lock().unwrap().extend_from_slice(&line);
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        if in_content && text != "." {
            continue;
        }
        in_content = text == "DATA";
        let Some(reply) = script(&text) else { return Ok(stream.into_inner()) };
        stream.write_all(reply.as_bytes()).await?;
        if text == "STARTTLS" {
            return Ok(stream.into_inner());
        }
    }
}

struct Near {
    _dir: tempfile::TempDir,
    relay: Relay,
    heard: Heard,
}

fn relay(endpoint: Endpoint, dialect: Dialect, asking: Asking) -> Relay {
    let now = jiff::Timestamp::from_second(i64::try_from(today().as_secs()).unwrap()).unwrap();
    Relay {
        endpoint,
        dialect,
        name: "nta-a.a.nl".parse().unwrap(),
        asking,
        limits: StepLimits::default(),
        tls: ClientTls::anonymous(),
        world: World::with(ManualClock::at(now), SeededRandom::new(1)),
    }
}

/// An environment on a UNIX socket.
fn near(dialect: Dialect, script: Script) -> Near {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lmtp");
    let listener = UnixListener::bind(&path).unwrap();
    let heard = Heard::default();
    let record = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ended = serve(stream, script, Arc::clone(&record), true).await;
        }
    });
    Near { _dir: dir, relay: relay(Endpoint::unix(path), dialect, Asking::Environment), heard }
}

fn envelope(recipients: &[&str]) -> Envelope {
    Envelope {
        sender: ReversePath::Address("jan@b.nl".parse().unwrap()),
        recipients: recipients.iter().map(|address| Recipient::plain(address.parse().unwrap())).collect(),
        body: BodyType::SevenBit,
        smtputf8: false,
        ret: None,
        envid: None,
    }
}

async fn deliver(relay: &Relay, envelope: &Envelope, content: &[u8]) -> Result<Handover, DeliverError> {
    let environment = match relay.dialect {
        Dialect::Lmtp => Environment::Lmtp(relay.clone()),
        Dialect::Esmtp => Environment::SmtpRelay(relay.clone()),
    };
    environment.deliver(Outgoing { envelope, content, size: content.len() as u64, unique: "01M.0" }).await
}

fn verdicts(handover: &Handover) -> Vec<(Verdict, &str)> {
    handover.recipients.iter().map(|answer| (answer.verdict, answer.code.as_str())).collect()
}

impl Near {
    fn heard(&self) -> String {
        String::from_utf8(self.heard.lock().unwrap().clone()).unwrap()
    }
}

/// As [`polite`], with DSN, and out of its mind after the first of two answers.
fn reporting(line: &str) -> Option<&'static str> {
    match line {
        "LHLO nta-a.a.nl" => Some("250-env.a.nl\r\n250-DSN\r\n250 ENHANCEDSTATUSCODES\r\n"),
        "." => Some("250 2.1.5 kept\r\nnonsense\r\n"),
        other => polite(other),
    }
}

/// Proves: +SPOOL-016 -SPOOL-016
#[tokio::test]
async fn whoever_offers_dsn_is_told_the_wishes_and_reports_itself() {
    let mut wishes = envelope(&["jan@a.nl", "piet@a.nl"]);
    wishes.ret = Some(crate::model::Ret::Headers);
    wishes.envid = Some("QQ+314".to_owned());
    wishes.recipients[0].notify = Some(crate::model::Notify { success: true, failure: true, delay: false });
    wishes.recipients[0].orcpt = Some("rfc822;J+an@a.nl".to_owned());
    wishes.recipients[1].notify = Some(crate::model::Notify::NEVER);

    let near_one = near(Dialect::Lmtp, reporting);
    let handover = deliver(&near_one.relay, &wishes, b"x\r\n").await.unwrap();
    assert_eq!(handover.recipients[0].verdict, Verdict::Delivered);
    assert_eq!(handover.recipients[1].verdict, Verdict::Later);
    assert_eq!(handover.reports, Reports::Passed);
    let heard = near_one.heard();
    assert!(heard.contains("MAIL FROM:<jan@b.nl> RET=HDRS ENVID=QQ+2B314\r\n"), "{heard}");
    assert!(
        heard.contains("RCPT TO:<jan@a.nl> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;J+2Ban@a.nl\r\n"),
        "{heard}"
    );
    assert!(heard.contains("RCPT TO:<piet@a.nl> NOTIFY=NEVER\r\n"), "{heard}");

    let near_one = near(Dialect::Lmtp, polite);
    let handover = deliver(&near_one.relay, &wishes, b"x\r\n").await.unwrap();
    assert_eq!(handover.reports, Reports::Ours);
    let heard = near_one.heard();
    assert!(
        heard.contains("MAIL FROM:<jan@b.nl>\r\nRCPT TO:<jan@a.nl>\r\nRCPT TO:<piet@a.nl>\r\n"),
        "{heard}"
    );
}

/// Proves: +HAND-001 -HAND-001
#[tokio::test]
async fn each_lmtp_reply_settles_its_recipient_alone() {
    let near = near(Dialect::Lmtp, picky);
    let envelope = envelope(&["een@a.nl", "weg@a.nl", "twee@a.nl", "streng@a.nl", "drie@a.nl"]);
    let handover = deliver(&near.relay, &envelope, b"Subject: x\r\n\r\n.dot\r\n").await.unwrap();
    assert_eq!(
        verdicts(&handover),
        [
            (Verdict::Delivered, "250 2.1.5"),
            (Verdict::Failed, "550 5.1.1"),
            (Verdict::Later, "452 4.2.2"),
            (Verdict::Failed, "550 5.7.1"),
            (Verdict::Failed, "554 5.6.0"),
        ]
    );
    let reasons: Vec<_> = handover.recipients.iter().map(|answer| answer.reason).collect();
    assert_eq!(
        reasons,
        [
            None,
            Some(Reason::RecipientUnknown),
            Some(Reason::EnvironmentTemporary),
            Some(Reason::EnvironmentPermanent),
            Some(Reason::EnvironmentPermanent),
        ]
    );
    assert_eq!(handover.recipients[2].text, "mailbox full");
    assert_eq!(handover.content_left, ContentLeft::Yes);
    let heard = near.heard();
    assert!(heard.starts_with("LHLO nta-a.a.nl\r\nMAIL FROM:<jan@b.nl>\r\n"), "{heard}");
    assert!(heard.contains("DATA\r\nSubject: x\r\n\r\n..dot\r\n.\r\n"), "{heard}");
}

/// Proves: +HAND-001 -HAND-001
#[tokio::test]
async fn an_environment_that_is_away_or_breaks_off_leaves_everybody_for_later() {
    let scripts: [(Script, ContentLeft, &str); 4] = [
        (|line| (!line.starts_with("LHLO")).then_some("250 ok\r\n"), ContentLeft::Never, "hello"),
        (
            |line| if line.starts_with("LHLO") { Some("554 5.3.2 closed\r\n") } else { None },
            ContentLeft::Never,
            "hello",
        ),
        (|line| if line == "DATA" { None } else { polite(line) }, ContentLeft::Never, "data"),
        (|line| if line == "." { None } else { polite(line) }, ContentLeft::Possibly, "final_dot"),
    ];
    for (script, content_left, step) in scripts {
        let near = near(Dialect::Lmtp, script);
        let handover = deliver(&near.relay, &envelope(&["een@a.nl", "twee@a.nl"]), b"x\r\n").await.unwrap();
        assert!(handover.recipients.iter().all(|answer| answer.verdict == Verdict::Later), "{handover:?}");
        assert_eq!((handover.content_left, handover.step), (content_left, Some(step)));
    }
    let nobody = relay(Endpoint::unix("/nonexistent/lmtp".into()), Dialect::Lmtp, Asking::Environment);
    let handover = deliver(&nobody, &envelope(&["een@a.nl"]), b"x\r\n").await.unwrap();
    assert_eq!(verdicts(&handover), [(Verdict::Later, "451 4.4.2")]);
    assert_eq!(handover.step, Some("connect"));
}

/// Proves: +HAND-001
#[tokio::test]
async fn a_final_word_before_the_break_counts() {
    fn one_then_gone(line: &str) -> Option<&'static str> {
        match line {
            "RCPT TO:<weg@a.nl>" => Some("550 5.1.1 no such user\r\n"),
            "." => Some("250 2.1.5 kept\r\n"),
            "QUIT" => None,
            other => polite(other),
        }
    }
    let near = near(Dialect::Lmtp, one_then_gone);
    let mut relay = near.relay.clone();
    // The second reply never comes: the limit of the step decides, not the test's patience.
    relay.limits.final_dot = Duration::from_millis(200);
    let handover =
        deliver(&relay, &envelope(&["weg@a.nl", "een@a.nl", "twee@a.nl"]), b"x\r\n").await.unwrap();
    assert_eq!(
        verdicts(&handover),
        [(Verdict::Failed, "550 5.1.1"), (Verdict::Delivered, "250 2.1.5"), (Verdict::Later, "451 4.4.2")]
    );
    assert_eq!(handover.content_left, ContentLeft::Yes);
}

/// Proves: +HAND-006
#[tokio::test]
async fn an_smtp_relay_answers_for_all_and_gets_the_content_as_it_is() {
    let near = near(Dialect::Esmtp, polite);
    let content: Vec<u8> = b"Subject: x\r\n\r\n\tregel \r\n..\r\n".repeat(5000);
    let handover = deliver(&near.relay, &envelope(&["een@a.nl", "twee@a.nl"]), &content).await.unwrap();
    assert_eq!(verdicts(&handover), [(Verdict::Delivered, "250 2.1.5"); 2]);
    let heard = near.heard();
    let start = heard.find("DATA\r\n").unwrap() + 6;
    let end = heard.rfind("\r\n.\r\n").unwrap() + 2;
    assert_eq!(heard[start..end].replace("\r\n.", "\r\n").as_bytes(), content);
    assert!(heard.starts_with("EHLO nta-a.a.nl\r\n"));
}

#[tokio::test]
async fn what_the_environment_cannot_take_fails_at_once() {
    let near = near(Dialect::Lmtp, |line| match line {
        "LHLO nta-a.a.nl" => Some("250-env\r\n250-SIZE 3\r\n250 ENHANCEDSTATUSCODES\r\n"),
        other => polite(other),
    });
    let plain = envelope(&["een@a.nl"]);
    let handover = deliver(&near.relay, &plain, b"four").await.unwrap();
    assert_eq!(handover.recipients[0].reason, Some(Reason::PeerSizeLimit));
    let eight = Envelope { body: BodyType::EightBitMime, ..plain.clone() };
    let handover = deliver(&near.relay, &eight, b"x").await.unwrap();
    assert_eq!(handover.recipients[0].reason, Some(Reason::NoEightBitMime));
    let utf8 = Envelope { smtputf8: true, ..plain };
    let handover = deliver(&near.relay, &utf8, b"x").await.unwrap();
    assert_eq!(verdicts(&handover), [(Verdict::Failed, "553 5.6.7")]);
    assert_eq!(handover.content_left, ContentLeft::Never);
}

/// Proves: -SPOOL-013
#[tokio::test]
async fn t37_content_that_turns_out_damaged_reaches_nobody() {
    let near = near(Dialect::Lmtp, polite);
    let envelope = envelope(&["een@a.nl"]);
    let content = b"Subject: x\r\n".chain(Damaged);
    let outgoing = Outgoing { envelope: &envelope, content, size: 100, unique: "01M.0" };
    let error = near.relay.deliver(outgoing).await.unwrap_err();
    let DeliverError::Content(inner) = &error;
    assert_eq!((inner.kind(), error.reason()), (io::ErrorKind::InvalidData, Reason::LocalFault));
    assert!(!near.heard().contains("\r\n.\r\n"), "the end of content was never sent");
}

struct Damaged;

impl AsyncRead for Damaged {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        _: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(Err(io::ErrorKind::InvalidData.into()))
    }
}

/// Proves: +SMTP-018 -SMTP-018
#[tokio::test]
async fn recipients_are_asked_about_without_sending_anything() {
    let near = near(Dialect::Lmtp, picky);
    for (address, known) in [
        ("een@a.nl", RecipientKnown::Known),
        ("weg@a.nl", RecipientKnown::Unknown),
        ("streng@a.nl", RecipientKnown::CannotTell),
        ("zoë@a.nl", RecipientKnown::CannotTell),
    ] {
        assert_eq!(near.relay.recipient_known(&address.parse().unwrap()).await, known, "{address}");
    }
    let heard = near.heard();
    assert!(
        !heard.contains("DATA") && heard.contains("MAIL FROM:<>\r\n") && heard.contains("RSET\r\n"),
        "{heard}"
    );

    let away = relay(Endpoint::unix("/nonexistent/lmtp".into()), Dialect::Lmtp, Asking::Environment);
    assert_eq!(away.recipient_known(&"een@a.nl".parse().unwrap()).await, RecipientKnown::CannotTell);
    let list = Asking::List(RecipientList::parse("een@a.nl").unwrap());
    let listed = relay(Endpoint::unix("/nonexistent/lmtp".into()), Dialect::Lmtp, list);
    assert_eq!(listed.recipient_known(&"een@a.nl".parse().unwrap()).await, RecipientKnown::Known);
    assert_eq!(listed.recipient_known(&"weg@a.nl".parse().unwrap()).await, RecipientKnown::Unknown);
    let nobody = relay(Endpoint::unix("/nonexistent/lmtp".into()), Dialect::Lmtp, Asking::Nobody);
    assert_eq!(nobody.recipient_known(&"een@a.nl".parse().unwrap()).await, RecipientKnown::CannotTell);
}

/// Proves: +HAND-002 -HAND-002
#[test]
fn clear_text_beyond_this_machine_cannot_be_written_down() {
    for address in ["127.0.0.1:24", "127.9.9.9:24", "[::1]:24"] {
        assert!(Endpoint::loopback(address.parse().unwrap()).is_ok(), "{address}");
    }
    for address in ["192.0.2.1:24", "10.0.0.1:24", "0.0.0.0:24", "[2001:db8::1]:24", "[::]:24"] {
        let address = address.parse().unwrap();
        assert_eq!(Endpoint::loopback(address).unwrap_err(), EndpointError::NotLoopback(address));
    }
    let dane = ServerProof::Dane { records: Vec::new(), names: Vec::new() };
    let tls =
        Endpoint::tls("mail.a.nl:24".to_owned(), "mail.a.nl".parse().unwrap(), dane, TlsStart::Starttls);
    assert_eq!(tls.unwrap_err(), EndpointError::Proof);
}

/// An LMTP server with STARTTLS on loopback that shows `pair`; what it heard inside TLS.
async fn secured(pair: &Pair) -> (String, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let heard = Heard::default();
    let record = Arc::clone(&heard);
    let tls = ServerTls::new(pair.ring());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let clear = |line: &str| match line.split(' ').next() {
                Some("LHLO") => Some("250-env\r\n250 STARTTLS\r\n"),
                Some("STARTTLS") => Some("220 go\r\n"),
                _ => Some("530 5.7.0 first STARTTLS\r\n"),
            };
            let Ok(stream) = serve(stream, clear, Heard::default(), true).await else { continue };
            let Ok((stream, _)) = tls.accept(stream).await else { continue };
            let _ended = serve(stream, polite, Arc::clone(&record), false).await;
        }
    });
    (address, heard)
}

/// Proves: +HAND-002 -HAND-002
#[tokio::test]
async fn t09_only_the_configured_key_or_authority_gets_a_message() {
    let authority = Authority::root("ours");
    let stranger = Authority::root("theirs");
    let pair = authority.issue(&["env.a.nl"]);
    let key = Certificate::parse(&pair.chain[0]).unwrap().key_digest();
    let other_key = Certificate::parse(&leaf(&["env.a.nl"]).chain[0]).unwrap().key_digest();
    let authorities = |root: &Authority| Authorities::from_pem(pem(&root.certificate()).as_bytes()).unwrap();
    let cases = [
        (ServerProof::Pinned(Pins::new(vec![key])), "elsewhere.nl", true),
        (ServerProof::Pinned(Pins::new(vec![other_key])), "env.a.nl", false),
        (ServerProof::Pinned(Pins::new(Vec::new())), "env.a.nl", false),
        (ServerProof::Authority(authorities(&authority)), "env.a.nl", true),
        (ServerProof::Authority(authorities(&authority)), "env.b.nl", false),
        (ServerProof::Authority(authorities(&stranger)), "env.a.nl", false),
    ];
    for (number, (proof, host, good)) in cases.into_iter().enumerate() {
        let (address, heard) = secured(&pair).await;
        let endpoint = Endpoint::tls(address, host.parse().unwrap(), proof, TlsStart::Starttls).unwrap();
        let relay = relay(endpoint, Dialect::Lmtp, Asking::Environment);
        let handover = deliver(&relay, &envelope(&["een@a.nl"]), b"Subject: x\r\n").await.unwrap();
        let heard = String::from_utf8(heard.lock().unwrap().clone()).unwrap();
        if good {
            assert_eq!(handover.recipients[0].verdict, Verdict::Delivered, "case {number}");
            assert!(heard.contains("Subject: x"), "case {number}");
        } else {
            assert_eq!(handover.recipients[0].verdict, Verdict::Later, "case {number}");
            assert_eq!(
                (handover.step, handover.content_left),
                (Some("handshake"), ContentLeft::Never),
                "case {number}"
            );
            assert_eq!(heard, "", "case {number}: nothing was said inside");
        }
    }
}

/// Proves: -HAND-002
#[tokio::test]
async fn t03_an_environment_without_starttls_gets_nothing_in_the_clear() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let heard = Heard::default();
    let record = Arc::clone(&heard);
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let _ended = serve(stream, polite, record, true).await;
    });
    let proof = ServerProof::Pinned(Pins::new(Vec::new()));
    let endpoint = Endpoint::tls(address, "env.a.nl".parse().unwrap(), proof, TlsStart::Starttls).unwrap();
    let relay = relay(endpoint, Dialect::Lmtp, Asking::Environment);
    let handover = deliver(&relay, &envelope(&["een@a.nl"]), b"Subject: x\r\n").await.unwrap();
    assert_eq!((handover.recipients[0].verdict, handover.step), (Verdict::Later, Some("starttls")));
    let heard = String::from_utf8(heard.lock().unwrap().clone()).unwrap();
    assert!(!heard.contains("MAIL") && !heard.contains("Subject"), "{heard}");
}
