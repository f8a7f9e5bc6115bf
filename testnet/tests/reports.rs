//! What senders are told, between real node processes: that a message arrived, that it is late, that it will not arrive;
//! and what happens while the environment of a recipient is down.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use testnet::net::client::Envelope;
use testnet::net::{Build, Home, Net, Part, locate};
use testnet::sink::{Answer, Sink, Stored};
use testnet::topology::{PlayedBy, Topology};
use tokio::time::timeout;

/// For anything that is to happen, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Providers a, b and c; `limits` for the nodes of a and b, and `c` for who plays c.
async fn start(limits: &[(&str, u64)], c: PlayedBy) -> Net {
    let mut topology = Topology::three_providers();
    topology.every_pair = None;
    for provider in &mut topology.providers {
        provider.limits.extend(limits.iter().map(|(key, value)| ((*key).to_owned(), *value)));
    }
    topology.providers[2].limits.clear();
    topology.providers[2].played_by = c;
    let program = locate(None, Build::IfNeeded).await.unwrap();
    let net = Net::start(topology, &program, Home::Temporary, |_| ()).await;
    net.unwrap_or_else(|error| panic!("{error}"))
}

fn sink<'a>(net: &'a Net, id: &str) -> &'a Sink {
    net.provider(id).unwrap().sink().unwrap()
}

fn sink_mut<'a>(net: &'a mut Net, id: &str) -> &'a mut Sink {
    let provider = net.providers.iter_mut().find(|provider| provider.placed.provider.id == id);
    provider.unwrap().sink_mut().unwrap()
}

/// Submits a message from alice@a.nl; returns its content.
async fn send(net: &Net, mail: &str, to: &str, rcpt: &str) -> Vec<u8> {
    let content = format!(
        "From: <alice@a.nl>\r\nTo: <{to}>\r\nSubject: geheim\r\nDate: Sun, 22 Nov 2026 12:00:00 +0000\r\n\
         Message-ID: <to-{to}>\r\n\r\nInhoud\r\n"
    );
    let content = content.into_bytes();
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mut envelope = Envelope::plain("alice@a.nl", to, &content);
    envelope.parameters.extend(words(mail));
    envelope.recipients[0].parameters = words(rcpt);
    let offered = net.submit("a", &envelope, &content).await.unwrap();
    assert_eq!(offered.reply.code, 250, "{offered:?}");
    content
}

/// One report as its reader sees it.
#[derive(Debug, Clone)]
struct Report {
    text: String,
}

impl Report {
    fn read(stored: &Stored) -> Self {
        assert_eq!(stored.sender, "", "a report has the null sender");
        assert_eq!(stored.recipients, ["alice@a.nl"]);
        let text = String::from_utf8(stored.content().unwrap()).unwrap();
        assert!(text.contains("Content-Type: multipart/report; report-type=delivery-status;"), "{text}");
        assert!(text.contains("Auto-Submitted: auto-replied\r\n"), "{text}");
        Self { text }
    }

    /// All values of a field, wherever it stands.
    fn all(&self, name: &str) -> Vec<&str> {
        let start = format!("{name}: ");
        self.text.split("\r\n").filter_map(|line| line.strip_prefix(start.as_str())).collect()
    }

    /// The value of a field that is there once.
    fn one(&self, name: &str) -> &str {
        let all = self.all(name);
        assert_eq!(all.len(), 1, "{name} in {}", self.text);
        all[0]
    }

    /// Recipient, what became of the message, who says so.
    fn says(&self) -> (String, String, String) {
        let about = self.one("Final-Recipient").strip_prefix("rfc822; ").unwrap();
        let by = self.one("Reporting-MTA").strip_prefix("dns; ").unwrap();
        (about.to_owned(), self.one("Action").to_owned(), by.to_owned())
    }
}

/// Waits for so many reports to alice@a.nl.
async fn reports(net: &Net, count: usize) -> Vec<Report> {
    let stored = timeout(PATIENCE, sink(net, "a").wait_for(count)).await;
    let stored = stored.unwrap_or_else(|_| panic!("only {:?}", sink(net, "a").messages()));
    stored.iter().map(Report::read).collect()
}

/// Waits until no node has anything left; what one of them does last may be work for another.
async fn idle(net: &Net) {
    for _ in 0..2 {
        for node in net.providers.iter().filter_map(testnet::net::Provider::node) {
            node.idle().await.unwrap();
        }
    }
}

fn said(words: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
    words.iter().map(|(about, action, by)| ((*about).into(), (*action).into(), (*by).into())).collect()
}

// ---------------------------------------------------------------------------------------------- success

/// The next hop takes the parameters and reports; we say nothing of our own.
/// Proves: +SPOOL-016
#[tokio::test]
async fn who_brings_it_into_the_mailbox_reports_that_it_arrived() {
    let net = start(&[], PlayedBy::Nobody).await;
    let wishes = " NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Bob+2Bwerk@b.nl";
    let content = send(&net, " RET=FULL ENVID=QQ+2B314", "bob@b.nl", wishes).await;
    let report = reports(&net, 1).await.remove(0);
    assert_eq!(report.says(), ("bob@b.nl".into(), "delivered".into(), "nta.b.nl".into()));
    assert_eq!(report.one("Original-Envelope-Id"), "QQ+314");
    assert_eq!(report.one("Original-Recipient"), "rfc822; Bob+werk@b.nl");
    assert_eq!(report.one("Status"), "2.0.0");
    assert!(report.all("Remote-MTA").is_empty() && !report.text.contains("lmtp"), "{}", report.text);
    assert!(report.text.contains("Subject: geheim") && !report.text.contains("Inhoud"), "{}", report.text);
    assert!(report.text.contains("Federation-Assurance: mutual"), "it came over the federation");
    let arrived = sink(&net, "b").messages();
    assert!(arrived[0].content().unwrap().ends_with(&content));

    idle(&net).await;
    assert_eq!((sink(&net, "a").messages().len(), sink(&net, "b").messages().len()), (1, 1));
    assert!(sink(&net, "b").violations().is_empty());
    // The record of the attempt that caused it says so, and no other does.
    let reported = |id: &str| -> Vec<(String, bool)> {
        let log = net.node(id).unwrap().printed();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let ended = lines.filter(|line| line["message"] == "attempt ended");
        ended
            .map(|line| (line["direction"].as_str().unwrap().to_owned(), !line["report"].is_null()))
            .collect()
    };
    let caused = |lines: Vec<(String, bool)>| -> Vec<String> {
        lines.into_iter().filter(|(_, reported)| *reported).map(|(direction, _)| direction).collect()
    };
    assert_eq!(caused(reported("b")), ["handoff"]);
    assert!(caused(reported("a")).is_empty());
    net.stop().await;
}

/// The next hop offers no DSN: that the message went there is ours to say, to those who asked.
/// Proves: +SPOOL-016 -SPOOL-016
#[tokio::test]
async fn what_goes_to_a_host_without_reports_is_relayed() {
    let net = start(&[], PlayedBy::Testnet).await;
    send(&net, " RET=HDRS ENVID=1", "carl@c.nl", " NOTIFY=SUCCESS").await;
    send(&net, "", "silent@c.nl", "").await;
    send(&net, "", "never@c.nl", " NOTIFY=NEVER").await;
    send(&net, "", "failure@c.nl", " NOTIFY=FAILURE,DELAY").await;
    let report = reports(&net, 1).await.remove(0);
    assert_eq!(report.says(), ("carl@c.nl".into(), "relayed".into(), "nta.a.nl".into()));
    assert_eq!(report.one("Remote-MTA"), "dns; nta-1.c.nl");
    assert!(report.one("Status").starts_with("2."));
    assert!(report.all("Diagnostic-Code").is_empty(), "there is nothing to diagnose");
    idle(&net).await;
    assert_eq!(sink(&net, "a").messages().len(), 1, "nobody else asked");
    let Part::Fake(fake) = &net.provider("c").unwrap().part else { panic!("the testnet plays c") };
    let heard = fake.heard();
    assert_eq!(heard.iter().filter(|line| line.starts_with("content")).count(), 4, "{heard:?}");
    for parameter in ["NOTIFY", "ORCPT", "RET=", "ENVID"] {
        assert!(!heard.iter().any(|line| line.contains(parameter)), "{parameter} was not offered: {heard:?}");
    }
    net.stop().await;
}

/// Proves: +SPOOL-016
#[tokio::test]
async fn a_sender_at_home_is_told_of_a_mailbox_at_home() {
    let net = start(&[], PlayedBy::Nobody).await;
    send(&net, "", "anna@a.nl", " NOTIFY=SUCCESS").await;
    let stored = timeout(PATIENCE, sink(&net, "a").wait_for(2)).await.unwrap();
    let report = Report::read(stored.iter().find(|stored| stored.sender.is_empty()).unwrap());
    assert_eq!(report.says(), ("anna@a.nl".into(), "delivered".into(), "nta.a.nl".into()));
    idle(&net).await;
    assert_eq!(sink(&net, "a").messages().len(), 2);
    net.stop().await;
}

// ---------------------------------------------------------------------------------------------- the environment is down

/// Accepted, then the environment goes: the message is kept, its sender hears of the delay from the recipient's provider,
/// and it arrives once the environment is back.
/// Proves: +HAND-008 +SPOOL-015 +HAND-001
#[tokio::test]
async fn what_was_accepted_waits_for_the_environment_and_its_sender_is_told() {
    let limits = [("retry_first_seconds", 1), ("retry_longest_seconds", 1), ("warning_seconds", 3)];
    let mut net = start(&limits, PlayedBy::Nobody).await;
    sink(&net, "b").answer_everybody(Answer::Temporary);
    let content = send(&net, " ENVID=traag", "bob@b.nl", "").await;
    // It has been refused at least once when it is late; from then on there is nobody to refuse it.
    let refused = |line: &serde_json::Value| line["reason"] == "environment_temporary";
    net.node("b").unwrap().logged("a refusal of the environment", 0, refused).await.unwrap();
    sink_mut(&mut net, "b").down().await;
    let report = reports(&net, 1).await.remove(0);
    assert_eq!(report.says(), ("bob@b.nl".into(), "delayed".into(), "nta.b.nl".into()));
    assert!(report.one("Status").starts_with("4."));
    assert_eq!(report.one("Original-Envelope-Id"), "traag");
    assert_eq!(report.all("Will-Retry-Until").len(), 1);
    assert!(report.text.contains("Subject: Nog niet bezorgd:"), "{}", report.text);
    assert!(report.text.contains("environment_temporary"), "{}", report.text);
    assert!(!report.text.contains("lmtp"), "how the environment is built is its own affair: {}", report.text);
    assert!(sink(&net, "b").messages().is_empty());

    sink(&net, "b").answer_everybody(Answer::Accept);
    sink_mut(&mut net, "b").up().await.unwrap();
    let arrived = timeout(PATIENCE, sink(&net, "b").wait_for(1)).await.unwrap();
    assert!(arrived[0].content().unwrap().ends_with(&content));
    idle(&net).await;
    assert_eq!(sink(&net, "b").messages().len(), 1, "handed off once");
    assert_eq!(sink(&net, "a").messages().len(), 1, "told once, and no more when it arrived");
    net.stop().await;
}

/// Neither environment nor peer comes back: each sender hears what it asked for, once, and all ends.
/// Proves: +HAND-008 -HAND-008 +SPOOL-015 -SPOOL-015 +SPOOL-010 +SPOOL-011 -SPOOL-011
#[tokio::test]
async fn what_cannot_be_handed_off_is_reported_late_and_then_failed_as_asked() {
    let limits = [
        ("retry_first_seconds", 1),
        ("retry_longest_seconds", 2),
        ("warning_seconds", 3),
        ("return_seconds", 10),
    ];
    let net = start(&limits, PlayedBy::Nobody).await;
    sink(&net, "b").answer_everybody(Answer::Temporary);
    for (to, rcpt) in [
        ("bob@b.nl", ""),
        ("never@b.nl", " NOTIFY=NEVER"),
        ("failure@b.nl", " NOTIFY=FAILURE"),
        ("delay@b.nl", " NOTIFY=DELAY"),
        ("success@b.nl", " NOTIFY=SUCCESS"),
        ("carl@c.nl", ""),
    ] {
        send(&net, "", to, rcpt).await;
    }
    // A report that cannot be delivered: nobody is told of it, late or never.
    let report = "From: <postmaster@a.nl>\r\nSubject: report\r\nContent-Type: multipart/report; \
                  report-type=delivery-status; boundary=b\r\n\r\n--b--\r\n";
    let offered = net.submit("a", &Envelope::plain("", "null@b.nl", b""), report.as_bytes()).await.unwrap();
    assert_eq!(offered.reply.code, 250, "{offered:?}");

    let told = reports(&net, 6).await;
    idle(&net).await;
    assert_eq!(sink(&net, "a").messages().len(), 6);
    let mut says: Vec<_> = told.iter().map(Report::says).collect();
    says.sort();
    let (a, b) = ("nta.a.nl", "nta.b.nl");
    let expected = [
        ("bob@b.nl", "delayed", b),
        ("bob@b.nl", "failed", b),
        ("carl@c.nl", "delayed", a),
        ("carl@c.nl", "failed", a),
        ("delay@b.nl", "delayed", b),
        ("failure@b.nl", "failed", b),
    ];
    assert_eq!(says, said(&expected));
    let of = |about: &str, action: &str| -> &Report {
        told.iter().find(|report| report.says().0 == about && report.says().1 == action).unwrap()
    };
    let failed = of("bob@b.nl", "failed");
    assert!(failed.one("X-Sluis-Reason").starts_with("queue_expired "), "{}", failed.text);
    // What the environment said last explains it.
    assert!(failed.one("Diagnostic-Code").contains("451 4.3.0"), "{}", failed.text);
    assert!(sink(&net, "b").messages().is_empty());
    net.stop().await;
}
