#![allow(clippy::unwrap_used)]
use mail_parser::{MessageParser, MimeHeaders, PartType};

use super::*;
use crate::model::{AttemptId, DecisionRecord, Direction, Notify};
use crate::receipts::records;
use crate::spool::{Arrival, NewMessage, Origin, Route, Settings, Spool};
use crate::world::{ManualClock, SeededRandom, World};

const ORIGINAL: &[u8] =
    b"Received: here\r\nFrom: jan@a.nl\r\nSubject: geheim\r\n\r\nInhoud van het bericht\r\n";

fn envelope(recipient: &str) -> Envelope {
    Envelope {
        sender: ReversePath::Address("jan@a.nl".parse().unwrap()),
        recipients: vec![Recipient::plain(recipient.parse().unwrap())],
        body: BodyType::SevenBit,
        smtputf8: false,
        ret: None,
        envid: Some("QQ-314".to_owned()),
    }
}

fn subject(recipient: &Recipient) -> Subject<'_> {
    Subject {
        recipient,
        action: Action::Failed,
        status: "5.1.1",
        reason: Some(Reason::RecipientUnknown),
        requirement: Some("SMTP-020"),
        reply: Some("550 5.1.1 no such user here"),
        host: Some("nta-b.b.nl"),
        last_attempt: Some(now()),
    }
}

fn now() -> Timestamp {
    "2026-11-22T10:00:00Z".parse().unwrap()
}

struct Written {
    _dir: tempfile::TempDir,
    spool: Spool,
    envelope: Envelope,
    content: Vec<u8>,
}

/// Writes a report through a real spool and reads it back.
async fn written(envelope: &Envelope, subjects: Vec<Subject<'_>>, original: &[u8]) -> Written {
    let dir = tempfile::tempdir().unwrap();
    let world = World::with(ManualClock::at(now()), SeededRandom::new(1));
    let settings = Settings { reserve_octets: 0, ..Settings::at(dir.path().join("spool")) };
    let spool = Spool::open(settings, world.clone()).unwrap();
    let (node, from) = ("nta-a.a.nl".parse().unwrap(), "postmaster@a.nl".parse().unwrap());
    let report = Report {
        message: world.message_id(),
        envelope,
        accepted: "2026-11-21T10:00:00Z".parse().unwrap(),
        expires: "2026-11-22T12:30:00Z".parse().unwrap(),
        node: &node,
        from: &from,
        now: now(),
        subjects,
    };
    let mut draft = spool.draft(world.message_id(), b"");
    let result = write(&report, original, original.len() as u64, &mut draft).await.unwrap();
    let message = NewMessage {
        envelope: result.clone(),
        routes: vec![(Route::Environment, vec![0])],
        arrival: Arrival::default(),
        origin: Origin::Own,
        record: None,
    };
    let accepted = draft.accept(message).await.unwrap();
    let mut content = Vec::new();
    spool.content(accepted.message()).await.unwrap().read_to_end(&mut content).await.unwrap();
    Written { _dir: dir, spool, envelope: result, content }
}

/// Proves: +SPOOL-011
#[tokio::test]
async fn a_report_has_three_parts_and_says_what_happened_in_both_languages() {
    let original = envelope("piet@b.nl");
    let report = written(&original, vec![subject(&original.recipients[0])], ORIGINAL).await;
    assert_eq!(report.envelope.sender, ReversePath::Null);
    assert_eq!(report.envelope.recipients[0].address, "jan@a.nl".parse().unwrap());
    assert_eq!(report.envelope.recipients[0].notify, Some(Notify::NEVER));
    assert!(report.content.is_ascii());
    assert!(report.content.split(|&octet| octet == b'\n').all(|line| line.len() <= 79), "nothing to wrap");

    let message = MessageParser::new().parse(&report.content).unwrap();
    let kind = message.content_type().unwrap();
    assert_eq!((kind.ctype(), kind.subtype()), ("multipart", Some("report")));
    assert_eq!(kind.attribute("report-type"), Some("delivery-status"));
    assert_eq!(message.header("Auto-Submitted").unwrap().as_text(), Some("auto-replied"));
    assert_eq!(message.from().unwrap().first().unwrap().address(), Some("postmaster@a.nl"));
    assert_eq!(message.date().unwrap().to_timestamp(), now().as_second());
    let kinds: Vec<_> =
        message.parts[1..].iter().map(|part| part.content_type().unwrap().subtype().unwrap()).collect();
    assert_eq!(kinds, ["plain", "delivery-status", "rfc822-headers"]);

    let people = message.body_text(0).unwrap();
    for expected in [
        "kon niet beveiligd worden bezorgd",
        "could not be delivered securely",
        "dit adres bestaat niet",
        "SMTP-020",
        "21-11-2026 11:00 CET",
        "550 5.1.1 no such user here",
    ] {
        assert!(people.replace("\r\n", " ").replace("     ", " ").contains(expected), "{expected}: {people}");
    }
    let part = &message.parts[2];
    let (start, end) =
        (usize::try_from(part.offset_body).unwrap(), usize::try_from(part.offset_end).unwrap());
    let status = std::str::from_utf8(&report.content[start..end]).unwrap();
    for line in [
        "Original-Envelope-Id: QQ-314",
        "Reporting-MTA: dns; nta-a.a.nl",
        "Final-Recipient: rfc822; piet@b.nl",
        "Action: failed",
        "Status: 5.1.1",
        "Remote-MTA: dns; nta-b.b.nl",
        "Diagnostic-Code: smtp; 550 5.1.1 no such user here",
        "X-Sluis-Reason: recipient_unknown SMTP-020",
    ] {
        assert!(status.lines().any(|found| found == line), "{line}: {status}");
    }
    let text = String::from_utf8(report.content.clone()).unwrap();
    assert!(text.contains("Subject: geheim") && !text.contains("Inhoud"), "the header section and no more");
    drop(report.spool);
}

/// Proves: +SPOOL-011
#[tokio::test]
async fn ret_full_quotes_the_message_unless_it_is_huge() {
    let mut original = envelope("piet@b.nl");
    original.ret = Some(Ret::Full);
    let report = written(&original, vec![subject(&original.recipients[0])], ORIGINAL).await;
    let message = MessageParser::new().parse(&report.content).unwrap();
    let PartType::Message(quoted) = &message.parts[3].body else { panic!("the original is a message") };
    assert_eq!(quoted.subject(), Some("geheim"));
    assert!(memchr::memmem::find(&report.content, ORIGINAL).is_some());

    let huge = [ORIGINAL, &b"regel\r\n".repeat(200_000)].concat();
    let report = written(&original, vec![subject(&original.recipients[0])], &huge).await;
    assert!(report.content.len() < 10_000);
}

/// Proves: +SPOOL-011
#[tokio::test]
async fn eight_bit_and_international_mail_is_reported_as_what_it_is() {
    let mut original = envelope("zoë@b.nl");
    original.smtputf8 = true;
    let report =
        written(&original, vec![subject(&original.recipients[0])], "Subject: é\r\n\r\n".as_bytes()).await;
    assert!(report.envelope.smtputf8);
    assert_eq!(report.envelope.body, BodyType::EightBitMime);
    let text = String::from_utf8(report.content).unwrap();
    for expected in
        ["message/global-delivery-status", "message/global-headers", "utf-8; zoë@b.nl", "charset=utf-8"]
    {
        assert!(text.contains(expected), "{expected}");
    }

    let plain = envelope("piet@b.nl");
    let report = written(&plain, vec![subject(&plain.recipients[0])], b"Subject: \xe9\r\n\r\n").await;
    assert!(!report.envelope.smtputf8);
    assert_eq!(report.envelope.body, BodyType::EightBitMime);
}

/// The text of the part with fields for programs.
fn status_of(content: &[u8]) -> String {
    let message = MessageParser::new().parse(content).unwrap();
    let part = &message.parts[2];
    let (start, end) =
        (usize::try_from(part.offset_body).unwrap(), usize::try_from(part.offset_end).unwrap());
    String::from_utf8(content[start..end].to_vec()).unwrap()
}

/// Proves: +SPOOL-015
#[tokio::test]
async fn a_notice_of_delay_says_until_when_and_quotes_no_more_than_the_header() {
    let mut original = envelope("piet@b.nl");
    original.ret = Some(Ret::Full);
    original.recipients[0].orcpt = Some("rfc822;Piet@b.nl".to_owned());
    let late = Subject {
        action: Action::Delayed,
        status: "4.3.0",
        reason: Some(Reason::PeerTemporary),
        requirement: Some("SMTP-016"),
        reply: Some("451 4.3.0 busy"),
        ..subject(&original.recipients[0])
    };
    let report = written(&original, vec![late], ORIGINAL).await;
    assert_eq!(report.envelope.sender, ReversePath::Null);
    assert_eq!(report.envelope.recipients[0].notify, Some(Notify::NEVER));
    let status = status_of(&report.content);
    for line in [
        "Original-Envelope-Id: QQ-314",
        "Original-Recipient: rfc822; Piet@b.nl",
        "Action: delayed",
        "Status: 4.3.0",
        "Diagnostic-Code: smtp; 451 4.3.0 busy",
        "Will-Retry-Until: Sun, 22 Nov 2026 12:30:00 +0000",
    ] {
        assert!(status.lines().any(|found| found == line), "{line}: {status}");
    }
    let text = String::from_utf8(report.content).unwrap();
    assert!(text.contains("Subject: Nog niet bezorgd: uw beveiligde bericht / Delayed"), "{text}");
    assert!(text.contains("Subject: geheim") && !text.contains("Inhoud"), "the header section and no more");
    let people = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for expected in [
        "is nog niet bezorgd bij: piet@b.nl",
        "has not been delivered yet to: piet@b.nl",
        "tot 22-11-2026 13:30 CET steeds opnieuw aangeboden",
        "The other side answered: 451 4.3.0 busy",
    ] {
        assert!(people.contains(expected), "{expected}: {people}");
    }
    assert!(!people.contains("could not be delivered"), "nothing has failed");
}

/// Proves: +SPOOL-016
#[tokio::test]
async fn one_report_tells_each_recipient_its_own_end() {
    let mut original = envelope("piet@b.nl");
    original.ret = Some(Ret::Full);
    original.recipients.push(Recipient::plain("anna@b.nl".parse().unwrap()));
    let relayed = Subject {
        action: Action::Relayed,
        status: "2.0.0",
        reason: None,
        requirement: None,
        reply: Some("250 2.0.0 mine now"),
        ..subject(&original.recipients[1])
    };
    let report = written(&original, vec![relayed.clone()], ORIGINAL).await;
    let status = status_of(&report.content);
    assert!(
        status.contains("Action: relayed\r\nStatus: 2.0.0\r\nRemote-MTA: dns; nta-b.b.nl\r\n"),
        "{status}"
    );
    assert!(!status.contains("Diagnostic-Code") && !status.contains("Will-Retry"), "{status}");
    let text = String::from_utf8(report.content).unwrap();
    assert!(text.contains("Subject: Bezorgd:") && !text.contains("Inhoud"), "{text}");
    assert!(text.contains("does not report further"), "{text}");

    let report = written(&original, vec![subject(&original.recipients[0]), relayed], ORIGINAL).await;
    let text = String::from_utf8(report.content.clone()).unwrap();
    assert!(text.contains("Subject: Niet bezorgd:"), "the worst comes first: {text}");
    assert!(text.contains("Inhoud"), "a failure quotes what the sender asked for");
    let status = status_of(&report.content);
    assert_eq!(status.matches("Final-Recipient: ").count(), 2, "{status}");
}

/// Two routes of a message can be late, or fail, at the same moment.
#[tokio::test]
async fn every_report_has_a_name_of_its_own() {
    let original = envelope("piet@b.nl");
    let dir = tempfile::tempdir().unwrap();
    let world = World::with(ManualClock::at(now()), SeededRandom::new(1));
    let settings = Settings { reserve_octets: 0, ..Settings::at(dir.path()) };
    let spool = Spool::open(settings, world.clone()).unwrap();
    let (node, from) = ("nta-a.a.nl".parse().unwrap(), "postmaster@a.nl".parse().unwrap());
    let message = world.message_id();
    let mut digests = Vec::new();
    for _ in 0..2 {
        let subjects = vec![subject(&original.recipients[0])];
        let (accepted, expires) = (now(), now());
        let envelope = &original;
        let report =
            Report { message, envelope, accepted, expires, node: &node, from: &from, now: now(), subjects };
        let mut draft = spool.draft(world.message_id(), b"");
        write(&report, ORIGINAL, 1, &mut draft).await.unwrap();
        digests.push(draft.content_digest());
    }
    assert_ne!(digests[0], digests[1]);
}

/// Proves: -SPOOL-011 +SPOOL-012 -SPOOL-012 +SPOOL-015 -SPOOL-015 +SPOOL-016 -SPOOL-016
#[test]
fn t30_nobody_is_told_who_did_not_ask_or_must_not_be_told() {
    let with = |notify| Recipient { notify, ..Recipient::plain("piet@b.nl".parse().unwrap()) };
    let only = |success, failure, delay| Some(Notify { success, failure, delay });
    let original = envelope("piet@b.nl");
    for (notify, failed, delayed, delivered) in [
        (None, true, true, false),
        (Some(Notify::NEVER), false, false, false),
        (only(true, false, false), false, false, true),
        (only(false, true, false), true, false, false),
        (only(false, false, true), false, true, false),
        (only(true, true, true), true, true, true),
    ] {
        let recipient = with(notify);
        assert_eq!(wanted(&original, &recipient, Action::Failed), failed, "{notify:?}");
        assert_eq!(wanted(&original, &recipient, Action::Delayed), delayed, "{notify:?}");
        assert_eq!(wanted(&original, &recipient, Action::Delivered), delivered, "{notify:?}");
        assert_eq!(wanted(&original, &recipient, Action::Relayed), delivered, "{notify:?}");
        let report = Envelope { sender: ReversePath::Null, ..original.clone() };
        for action in [Action::Failed, Action::Delayed, Action::Delivered, Action::Relayed] {
            assert!(!wanted(&report, &recipient, action), "a report never causes one");
        }
    }
}

/// Proves: -SPOOL-012
#[tokio::test]
async fn t30_there_is_no_report_to_the_null_sender() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::with(ManualClock::at(now()), SeededRandom::new(1));
    let spool =
        Spool::open(Settings { reserve_octets: 0, ..Settings::at(dir.path().join("spool")) }, world.clone())
            .unwrap();
    let (node, from) = ("nta-a.a.nl".parse().unwrap(), "postmaster@a.nl".parse().unwrap());
    let null = Envelope { sender: ReversePath::Null, ..envelope("piet@b.nl") };
    let subjects = vec![subject(&null.recipients[0])];
    let report = Report {
        message: world.message_id(),
        envelope: &null,
        accepted: now(),
        expires: now(),
        node: &node,
        from: &from,
        now: now(),
        subjects,
    };
    let mut draft = spool.draft(world.message_id(), b"");
    assert!(matches!(write(&report, ORIGINAL, 1, &mut draft).await, Err(SpoolError::Misuse(_))));
}

/// Proves: -SPOOL-011
#[tokio::test]
async fn t05_what_the_other_side_said_adds_no_field_and_no_part() {
    let mut original = envelope("piet@b.nl");
    original.envid = Some("x\r\nAction: delivered".to_owned());
    original.recipients[0].orcpt = Some("rfc822;a@b.nl\r\n\r\nAction: delivered".to_owned());
    let evil = "550 \r\nAction: delivered\r\n\r\n--=_report_\r\n\u{85}\u{2028}\0 é";
    let mut about = subject(&original.recipients[0]);
    about.reply = Some(evil);
    about.host = Some("x\nStatus: 2.0.0");
    let long = "y".repeat(5000);
    let mut second = about.clone();
    second.reply = Some(&long);
    let report = written(&original, vec![about, second], ORIGINAL).await;
    assert!(report.content.is_ascii());
    let text = String::from_utf8(report.content.clone()).unwrap();
    assert!(!text.replace("\r\n", "").contains(['\r', '\n', '\0']));
    assert!(text.lines().all(|line| line.len() <= 998));
    let message = MessageParser::new().parse(&report.content).unwrap();
    assert_eq!(message.parts.len(), 4);
    let part = &message.parts[2];
    let (start, end) =
        (usize::try_from(part.offset_body).unwrap(), usize::try_from(part.offset_end).unwrap());
    let status = std::str::from_utf8(&report.content[start..end]).unwrap();
    let count = |line: &str| status.lines().filter(|found| *found == line).count();
    assert_eq!((count("Action: failed"), count("Action: delivered")), (2, 0));
    assert_eq!((count("Status: 5.1.1"), count("Status: 2.0.0")), (2, 0));
    assert_eq!(
        status.matches("\r\n\r\n").count() + status.matches("\n\n").count(),
        2,
        "two recipients: {status:?}"
    );
}

/// Proves: +SPOOL-011
#[tokio::test]
async fn content_that_cannot_be_read_does_not_keep_the_sender_in_the_dark() {
    let original = envelope("piet@b.nl");
    for content in [&b""[..], b"\r\nbody", b"Subject: no end"] {
        let report = written(&original, vec![subject(&original.recipients[0])], content).await;
        let message = MessageParser::new().parse(&report.content).unwrap();
        assert_eq!(message.parts.len(), 4);
    }
}

#[tokio::test]
async fn the_history_of_a_message_outlives_it() {
    let original = envelope("piet@b.nl");
    let report = written(&original, vec![subject(&original.recipients[0])], ORIGINAL).await;
    let message = report.spool.list(crate::spool::Filter::default()).await.unwrap()[0].delivery.message;
    let mut record = DecisionRecord::begin(AttemptId::from_parts(9, 9), Direction::Handoff, now());
    record.message = Some(message);
    report.spool.note(record.clone()).await.unwrap();
    let history = records::history(&report.spool, message).await.unwrap();
    assert_eq!(history.records, [record.clone()]);
    assert_eq!(history.message.unwrap().origin, Origin::Own);
    assert_eq!(records::attempt(&report.spool, record.attempt).await.unwrap(), Some(record.clone()));
    assert_eq!(records::recent(&report.spool, 10).await.unwrap(), [record]);
    let nobody = records::history(&report.spool, MessageId::from_parts(1, 1)).await.unwrap();
    assert_eq!((nobody.message, nobody.records.len()), (None, 0));
}
