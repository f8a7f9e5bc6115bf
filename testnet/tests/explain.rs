//! `sluis explain` between real nodes: five answers that a newcomer can tell apart, and the promise that what it prints is
//! what an attempt would do.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use testnet::net::{Build, Home, Net, NodeProcess, Part, locate, once};
use testnet::topology::{Expectation, Topology};

/// The faults topology, reduced to what is asked about here.
async fn start() -> Net {
    let asked =
        ["b.nl", "unsigned.nl", "bogus.nl", "nowhere.nl", "tlsa-wrong.nl", "tlsa-servfail.nl", "mirror.nl"];
    let mut topology = Topology::faults();
    topology.messages.retain(|message| {
        message.from == "alice@a.nl"
            && message.sent_by.is_none()
            && asked.iter().any(|domain| message.to.ends_with(&format!("@{domain}")))
    });
    assert_eq!(topology.messages.len(), asked.len());
    let program = locate(None, Build::IfNeeded).await.unwrap();
    let net = Net::start(topology, &program, Home::Temporary, |_| ()).await;
    net.unwrap_or_else(|error| panic!("{error}"))
}

/// What a person sees: the answer, which ends with an empty line, and what follows it. And the exit code.
async fn shown(node: &NodeProcess, address: &str) -> (String, String, Option<i32>) {
    let output = node.command(&["explain", address]).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (answer, rest) = text.split_once("\n\n").unwrap_or_else(|| panic!("{text:?}"));
    (answer.split_whitespace().collect::<Vec<_>>().join(" "), rest.to_owned(), output.status.code())
}

/// Proves: +REC-003
#[tokio::test]
async fn five_answers_that_a_newcomer_can_tell_apart() {
    let net = start().await;
    let node = net.node("a").unwrap();
    for (address, answer, phrases, code) in [
        (
            "bob@b.nl",
            "Yes. A message to bob@b.nl would be delivered now, at level mutual.",
            ["its server proved its key", "confirms mutual for nta.a.nl", "To do Nothing."],
            0,
        ),
        (
            "bob@unsigned.nl",
            "No. A message to bob@unsigned.nl can't be sent through the federation. \
             The domain's answers are not signed with DNSSEC.",
            ["could have made the answer up", "DNS-001 (zone_insecure)", "has to sign the zone"],
            1,
        ),
        (
            "bob@bogus.nl",
            "Not now. A message to bob@bogus.nl would wait and be tried again. A DNSSEC signature does not verify.",
            ["do not fit the answer", "DNS-002 (dns_bogus)", "tell the domain's owner"],
            1,
        ),
        (
            "bob@nowhere.nl",
            "No. A message to bob@nowhere.nl can't be sent through the federation. The domain does not exist.",
            ["no such domain", "DNS-003 (domain_unknown)", "Check the spelling"],
            1,
        ),
        (
            "bob@tlsa-wrong.nl",
            "Not now. A message to bob@tlsa-wrong.nl would wait and be tried again. \
             The host's certificate matches none of its TLSA records.",
            [
                "another key than the one its domain publishes",
                "DANE-006 (tlsa_mismatch)",
                "Tell the other provider",
            ],
            1,
        ),
    ] {
        let (first, rest, exit) = shown(node, address).await;
        assert_eq!(first, answer);
        assert_eq!(exit, Some(code), "{address}");
        let flat = rest.split_whitespace().collect::<Vec<_>>().join(" ");
        for phrase in phrases {
            assert!(flat.contains(phrase), "{address}: no {phrase:?} in\n{rest}");
        }
    }
    net.stop().await;
}

/// What may differ: ids and times; whether an answer was cached; and what happens from MAIL on.
fn comparable(mut record: Value) -> Value {
    let fields = record.as_object_mut().unwrap();
    for field in [
        "attempt",
        "started",
        "duration_ms",
        "message",
        "digest",
        "size",
        "recipients",
        "outcome",
        "content_left",
        "report",
    ] {
        assert!(fields.remove(field).is_some(), "{field} is no field of a record any more");
    }
    for fact in record["discovery"]["dns"].as_array_mut().unwrap() {
        fact["cached"].take();
    }
    for host in record["hosts"].as_array_mut().unwrap() {
        if host["reason"].is_null() {
            host["step"].take();
            host["code"].take();
        }
    }
    record
}

/// Delivered, or left for the hosts' sake: the record of the attempt is the one that was foretold.
/// Proves: +REC-003
#[tokio::test]
async fn what_it_foretells_is_what_an_attempt_records() {
    let net = start().await;
    let node = net.node("a").unwrap();
    let mut foretold = Vec::new();
    for message in &net.plan.topology.messages {
        foretold.push(node.ask(&["explain", &message.to, "--from", &message.from]).await.unwrap());
    }
    let lines = once::run(&net, |_| ()).await;
    let mut attempts = 0;
    for ((message, line), foretold) in net.plan.topology.messages.iter().zip(lines).zip(foretold) {
        assert!(line.ok, "{line:#?}");
        assert!(foretold["message"].is_null());
        assert_eq!(foretold["content_left"], "never");
        if let Expectation::Refused { .. } = message.expect {
            // There is no attempt: the platform was told at once, for the same reason.
            for field in ["reason", "requirement"] {
                assert_eq!(foretold[field], line.record[field], "{message:?}");
            }
        } else {
            let outcome = if line.delivered { "would_deliver" } else { "later" };
            assert_eq!(foretold["outcome"], outcome);
            assert_eq!(comparable(foretold), comparable(line.record), "{message:?}");
            attempts += 1;
        }
    }
    assert_eq!(attempts, 4, "b.nl, tlsa-wrong.nl, tlsa-servfail.nl and mirror.nl");
    net.stop().await;
}

/// Proves: -REC-003
#[tokio::test]
async fn it_sends_nothing_stores_nothing_and_with_dns_only_connects_to_nobody() {
    let net = start().await;
    let node = net.node("a").unwrap();
    let before = node.ask(&["status"]).await.unwrap()["spool"].clone();
    let heard = |id: &str| match &net.provider(id).unwrap().part {
        Part::Fake(fake) => fake.heard(),
        Part::Node { .. } | Part::Nobody(_) => panic!("{id} is no fake"),
    };
    let wrong = node.ask(&["explain", "bob@tlsa-wrong.nl", "--dns-only"]).await.unwrap();
    assert_eq!(wrong["outcome"], "would_deliver", "as far as DNS can tell");
    assert_eq!(heard("tlsa-wrong"), Vec::<String>::new());
    for message in &net.plan.topology.messages {
        node.ask(&["explain", &message.to]).await.unwrap();
    }
    assert_eq!(heard("tlsa-wrong"), ["EHLO nta.a.nl", "STARTTLS"]);
    for provider in &net.providers {
        match &provider.part {
            Part::Node { node, sink } => {
                assert!(sink.messages().is_empty());
                assert!(!node.printed().contains("attempt ended"), "{}", node.printed());
            }
            Part::Fake(fake) => assert!(!fake.was_offered_mail()),
            Part::Nobody(wire) => assert_eq!(wire.touched(), 0, "{}", provider.placed.provider.id),
        }
    }
    assert_eq!(node.ask(&["status"]).await.unwrap()["spool"], before);
    net.stop().await;
}
