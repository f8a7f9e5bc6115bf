//! A provider's own filter between running nodes: what the recipient gets, what they are told, and what is on record.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use serde_json::Value;
use testnet::hook::{Answer, Change, Hook, sha256};
use testnet::net::client::Envelope;
use testnet::net::{Build, Home, Net, locate};
use testnet::sink::{Answer as Told, Stored};
use testnet::topology::{PlayedBy, Topology};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);

/// Providers a and b, and a filter at b.
async fn start(limits: &[(&str, u64)], answer: Answer) -> (Net, Hook) {
    let mut topology = Topology::three_providers();
    topology.every_pair = None;
    topology.providers[2].played_by = PlayedBy::Nobody;
    topology.providers[1].limits.extend(limits.iter().map(|(key, value)| ((*key).to_owned(), *value)));
    let program = locate(None, Build::IfNeeded).await.unwrap();
    let net = Net::start(topology, &program, Home::Temporary, |_| ())
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let hook = Hook::start(&net.directory().join("b/hook.sock"), answer).unwrap();
    let node = net.node("b").unwrap();
    let text = std::fs::read_to_string(node.config()).unwrap();
    std::fs::write(node.config(), format!("{text}{}", hook.section())).unwrap();
    let reloaded = node.command(&["reload"]).await.unwrap();
    assert!(reloaded.status.success(), "{reloaded:?}");
    (net, hook)
}

fn letter(body: &str) -> Vec<u8> {
    format!(
        "From: Alice <alice@a.nl>\r\nTo: <bob@b.nl>\r\nSubject: uitslag\r\nDate: Sun, 22 Nov 2026 12:00:00 +0000\r\n\
         Message-ID: <1@a.nl>\r\nFederation-Content-Changed: by=nobody.nl\r\n\r\n{body}"
    )
    .into_bytes()
}

async fn send(net: &Net, content: &[u8]) {
    let offered =
        net.submit("a", &Envelope::plain("alice@a.nl", "bob@b.nl", content), content).await.unwrap();
    assert_eq!(offered.reply.code, 250, "{offered:?}");
}

async fn arrived(net: &Net, count: usize) -> Vec<Stored> {
    let sink = net.provider("b").unwrap().sink().unwrap();
    let stored =
        timeout(PATIENCE, sink.wait_for(count)).await.unwrap_or_else(|_| panic!("{:?}", sink.messages()));
    assert_eq!(sink.violations(), []);
    stored
}

/// The records of the hand-off of the message that this question was about.
async fn records(net: &Net, message: &str) -> Vec<Value> {
    // The recipient has it before the record of that is written.
    net.node("b").unwrap().settled().await.unwrap();
    let shown = net.node("b").unwrap().ask(&["spool", "show", message]).await.unwrap();
    let records = shown["records"].as_array().unwrap().clone();
    records.into_iter().filter(|record| record["direction"] == "handoff").collect()
}

/// Marks what comes from outside, and takes out what is not wanted.
fn mark(message: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(message.to_vec()).unwrap();
    text.replace("Subject: ", "Subject: [extern] ").replace("BIJLAGE\r\n", "(verwijderd)\r\n").into_bytes()
}

/// Proves: +HOOK-001 +HOOK-004 +HOOK-007 +HOOK-008 +HOOK-012
#[tokio::test]
async fn a_changed_message_arrives_with_its_digests_and_they_are_on_record() {
    let (net, hook) = start(&[], Answer::Change(mark, 1000)).await;
    let node = net.node("b").unwrap();
    let checked = node.ask(&["check"]).await.unwrap();
    assert_eq!(checked["content_hook"]["reached"], true, "{checked}");
    // Small enough for memory, and too large for it.
    for (number, body) in
        ["Inhoud\r\n.\r\nBIJLAGE\r\n".to_owned(), format!("BIJLAGE\r\n{}", "regel\r\n".repeat(200_000))]
            .iter()
            .enumerate()
    {
        send(&net, &letter(body)).await;
        let stored = arrived(&net, number + 1).await.pop().unwrap();
        let text = String::from_utf8(stored.content().unwrap()).unwrap();
        let question = hook.questions().pop().unwrap();
        assert_eq!(question.line, "POST /filter HTTP/1.1");
        for (name, value) in [
            ("content-type", "message/rfc822"),
            ("sluis-sender", "alice@a.nl"),
            ("sluis-recipients", "bob@b.nl"),
            ("sluis-level", "mutual"),
            ("sluis-domain", "a.nl"),
        ] {
            assert_eq!(question.fields.get(name).map(String::as_str), Some(value), "{name}");
        }
        let changed = question.changed.unwrap();
        let (before, after) = (sha256(&question.message), sha256(&changed));
        let records = records(&net, &question.fields["sluis-message"]).await;
        let [record] = records.as_slice() else { panic!("{records:?}") };
        assert_eq!(record["attempt"].as_str(), Some(question.fields["sluis-attempt"].as_str()));
        assert_eq!((&record["outcome"], &record["content_left"]), (&"delivered".into(), &"yes".into()));
        let facts = &record["content_hook"];
        assert_eq!(facts["verdict"], "changed");
        assert_eq!((facts["before"].as_str(), facts["after"].as_str()), (Some(&*before), Some(&*after)));
        assert_eq!(facts["after_size"].as_u64(), Some(changed.len() as u64));
        assert!(facts["hook"].as_str().unwrap().ends_with("/b/hook.sock"), "{facts}");
        // What the recipient is told; what a stranger said of it is gone.
        let attempt = record["attempt"].as_str().unwrap();
        let told = format!(
            "Federation-Content-Changed: by=nta.b.nl;\r\n before={before};\r\n after={after};\r\n record={attempt}\r\n"
        );
        assert_eq!(text.matches("Federation-Content-Changed").count(), 1);
        let (top, rest) = text.split_once(&told).unwrap();
        assert!(top.starts_with("Authentication-Results: nta.b.nl;"), "{top}");
        assert_eq!(top.matches("Federation-Assurance: mutual;").count(), 1, "{top}");
        // Our fields, the field of the change, and octet for octet what the filter gave, without ours.
        let given = String::from_utf8(changed).unwrap();
        assert_eq!(format!("{top}{rest}"), given);
        assert!(rest.contains("Subject: [extern] uitslag\r\n") && rest.contains("(verwijderd)\r\n"));
        assert_eq!(record["size"].as_u64(), Some(text.len() as u64));
    }
    let metrics = metrics(&net).await;
    assert!(metrics.contains("sluis_content_hook_total{verdict=\"changed\"} 2"), "{metrics}");
    net.stop().await;
}

/// `/metrics` of the node of `b`.
async fn metrics(net: &Net) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let text = std::fs::read_to_string(net.node("b").unwrap().config()).unwrap();
    let config: toml::Table = text.parse().unwrap();
    let mut stream =
        tokio::net::TcpStream::connect(config["admin"]["listen"].as_str().unwrap()).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Proves: +HOOK-003 -HOOK-003 -HOOK-004 -HOOK-012
#[tokio::test]
async fn t32_mail_waits_for_its_filter_through_a_crash_and_arrives_once() {
    let limits = [("retry_first_seconds", 1), ("retry_longest_seconds", 60)];
    let (mut net, hook) = start(&limits, Answer::DieAfter(mark, 700)).await;
    let before = net.node("b").unwrap().printed().len();
    send(&net, &letter("Inhoud\r\nBIJLAGE\r\n")).await;
    let later = net.node("b").unwrap().ended_attempt("handoff", "later", before).await.unwrap();
    assert_eq!(
        (&later["reason"], &later["content_hook"]),
        (&"hook_unavailable".into(), &"unavailable".into())
    );
    // The filter goes away altogether, and the node with it.
    drop(hook);
    let socket = net.directory().join("b/hook.sock");
    std::fs::remove_file(&socket).unwrap();
    let checked = net.node("b").unwrap().ask(&["check"]).await.unwrap();
    assert_eq!(checked["content_hook"]["reached"], false, "{checked}");
    net.node_mut("b").unwrap().restart().await.unwrap();
    let before = net.node("b").unwrap().printed().len();
    let node = net.node("b").unwrap();
    let _again = node.ended_attempt("handoff", "later", before).await.unwrap();
    assert_eq!(net.provider("b").unwrap().sink().unwrap().messages(), []);
    let hook = Hook::start(&socket, Answer::Change(mark, 10)).unwrap();
    let stored = arrived(&net, 1).await;
    net.node("b").unwrap().settled().await.unwrap();
    assert_eq!(arrived(&net, 1).await.len(), 1);
    let text = String::from_utf8(stored[0].content().unwrap()).unwrap();
    assert!(
        text.contains("[extern]") && text.contains("(verwijderd)") && !text.contains("BIJLAGE"),
        "{text}"
    );
    assert_eq!(hook.questions().len(), 1);
    net.stop().await;
}

/// Bare line ends in the filter's answer are not made good ones, and not passed on.
///
/// Proves: -HOOK-005 -HOOK-006 -HOOK-009
#[tokio::test]
async fn t02_what_a_filter_must_not_write_is_handed_to_nobody() {
    let (net, hook) = start(&[], Answer::Pass).await;
    let changes: [Change; 6] = [
        |message| replaced(message, "Inhoud", "Inhoud\n.\r\nMAIL FROM:<mallory@c.nl>\r\nx"),
        |message| replaced(message, "Inhoud", "Inhoud\r.\r\nx"),
        |message| replaced(message, "Inhoud", "In\0houd"),
        |message| replaced(message, "Subject: uitslag\r\n", "Subject: uitslag\n\r\n"),
        |message| replaced(message, "alice@a.nl", "mallory@a.nl"),
        |message| message[..message.len() - 1].to_vec(),
    ];
    for change in changes {
        hook.answer(Answer::Change(change, 33));
        let node = net.node("b").unwrap();
        let before = node.printed().len();
        send(&net, &letter("Inhoud\r\n")).await;
        let later = node.ended_attempt("handoff", "later", before).await.unwrap();
        assert_eq!(later["reason"], "hook_unavailable", "{later}");
    }
    let sink = net.provider("b").unwrap().sink().unwrap();
    assert_eq!(sink.messages(), []);
    // Once more for each, now that the filter lets them pass: six whole messages, and no seventh.
    hook.answer(Answer::Pass);
    sink.answer_everybody(Told::Accept);
    let node = net.node("b").unwrap();
    let listed = node.ask(&["spool", "list"]).await.unwrap();
    for delivery in listed["deliveries"].as_array().unwrap() {
        let id = format!(
            "{}.{}",
            delivery["delivery"]["message"].as_str().unwrap(),
            delivery["delivery"]["route"]
        );
        assert!(node.command(&["spool", "retry", &id]).await.unwrap().status.success());
    }
    node.settled().await.unwrap();
    let stored = arrived(&net, 6).await;
    assert_eq!(stored.len(), 6);
    for stored in stored {
        let text = String::from_utf8(stored.content().unwrap()).unwrap();
        assert!(text.ends_with("\r\n\r\nInhoud\r\n") && !text.contains("mallory"), "{text}");
        assert!(!text.contains("Federation-Content-Changed"), "{text}");
    }
    net.stop().await;
}

fn replaced(message: &[u8], from: &str, to: &str) -> Vec<u8> {
    String::from_utf8(message.to_vec()).unwrap().replace(from, to).into_bytes()
}
