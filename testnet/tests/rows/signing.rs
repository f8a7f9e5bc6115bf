//! Rows of what leaves: the signatures, and a domain of our own that other providers would not believe.

use std::time::Duration;

use serde_json::Value;
use testnet::dns::RrType;
use testnet::net::Net;
use testnet::sink::Stored;
use tokio::time::timeout;

use super::support::{GOOD, Row, Who, assert_row, configure, nodes, plain, provider, submit, with};

const DMARC: &str = "_dmarc.a.nl";

/// What the environment of `b` got of `sender`.
async fn arrived(net: &Net, from: &str) -> String {
    let sink = net.provider("b").unwrap().sink().unwrap();
    let sent = |stored: &&Stored| stored.sender == from;
    let waiting = sink.wait_until(|messages| messages.iter().any(|stored| sent(&stored)));
    let messages = timeout(Duration::from_secs(60), waiting).await.unwrap();
    String::from_utf8(messages.iter().find(sent).unwrap().content().unwrap()).unwrap()
}

/// The record of a message in this direction, as its operator sees it.
async fn record(net: &Net, node: &str, id: &str, direction: &str) -> Value {
    let shown = net.node(node).unwrap().ask(&["spool", "show", id]).await.unwrap();
    let records = shown["records"].as_array().unwrap();
    records.iter().find(|record| record["direction"] == direction).unwrap().clone()
}

/// Proves: +SIGN-010 +SIGN-011 -SIGN-011
#[test]
fn a_domain_that_others_would_not_believe_sends_nothing() {
    with(&nodes("", ""), async |net| {
        net.dns
            .update(|tree| {
                tree.remove(DMARC, RrType::Txt);
            })
            .unwrap();
        configure(net, "a", |text| text).await;
        assert_row(net, Who::Platform, &Row::new("own_domain_defect", "RCPT", plain())).await;
        let alarms = net.node("a").unwrap().printed();
        assert!(alarms.contains("OwnDomain") && alarms.contains("it has no DMARC record"), "{alarms}");

        net.dns
            .update(|tree| {
                tree.txt(DMARC, "v=DMARC1; p=reject");
            })
            .unwrap();
        configure(net, "a", |text| text).await;
        submit(net, "a", "alice@a.nl", GOOD, plain().as_bytes()).await;
        arrived(net, "alice@a.nl").await;
    });
}

/// Where only a warning is set, the message goes, its record says what is wrong, and the other provider refuses it.
/// Proves: +SIGN-009 -SIGN-009 -SIGN-010 +SIGN-012 -JUDGE-005
#[test]
fn without_a_key_a_message_goes_unsigned_and_its_record_says_so_once() {
    with(&nodes("", ""), async |net| {
        configure(net, "a", |text| {
            text.replace("[[dkim]]", "[[dkim]]\nsign = false")
                .replace("[submission]\n", "[submission]\nown_domain = \"warn\"\n")
        })
        .await;
        let id = submit(net, "a", "alice@a.nl", GOOD, plain().as_bytes()).await;
        let sent = net.node("a").unwrap().outbound_record(&id).await.unwrap();
        assert_eq!(
            (&sent["outcome"], &sent["reason"]),
            (&"returned".into(), &"peer_permanent".into()),
            "{sent}"
        );
        let refused = net.node("b").unwrap().ended_attempt("inbound", "refused", 0).await.unwrap();
        assert_eq!(refused["reason"], "dkim_failed", "{refused}");
        let record = record(net, "a", &id, "submission").await;
        let warnings = record["warnings"].to_string();
        assert_eq!(warnings.matches("no DKIM key signs for it").count(), 1, "{record}");
        // What was seen is not asked again for the next message.
        let again = submit(net, "a", "alice@a.nl", GOOD, plain().as_bytes()).await;
        let again = self::record(net, "a", &again, "submission").await;
        assert_eq!(again["warnings"], record["warnings"]);
        let asked = |record: &Value| record["discovery"]["dns"].to_string().contains(DMARC);
        assert!(asked(&record) && !asked(&again), "{again}");
    });
}

/// The other provider's own judgement, by its own reading of DNS: both signatures pass.
/// Proves: +SIGN-001 +SIGN-005 -SIGN-005
#[test]
fn a_signed_message_proves_its_sender_at_the_lower_level() {
    let a = provider("a", &["a.nl"], "client_tlsa = \"none\"");
    let b = provider("b", &["b.nl"], "floor = \"nta7516\"");
    with(&format!("about = \"A node whose key nobody can see.\"\n{a}{b}"), async |net| {
        // A floor below is needed of both: who shows no key gets no confirmation either.
        configure(net, "a", |text| text.replace("floor = \"mutual\"", "floor = \"nta7516\"")).await;
        let id = submit(net, "a", "alice@a.nl", GOOD, plain().as_bytes()).await;
        let record = net.node("a").unwrap().outbound_record(&id).await.unwrap();
        assert_eq!(record["outcome"], "delivered", "{record}");
        let got = arrived(net, "alice@a.nl").await;
        assert_eq!(got.matches("DKIM-Signature: v=1; a=").count(), 2, "{got}");
        let results = got.replace("\r\n ", " ");
        assert_eq!(results.matches("dkim=pass header.d=a.nl").count(), 2, "{got}");
        // What was sent and what was received is one thing, and other than what was submitted.
        let size = record["size"].as_u64().unwrap();
        assert!(size > plain().len() as u64 + 1000, "{record}");
        let line = net.node("b").unwrap().ended_attempt("inbound", "accepted", 0).await.unwrap();
        let theirs = self::record(net, "b", line["message_id"].as_str().unwrap(), "inbound").await;
        assert_eq!((&theirs["digest"], &theirs["size"]), (&record["digest"], &record["size"]));
        let ours = self::record(net, "a", &id, "submission").await;
        assert_ne!(ours["digest"], record["digest"]);
    });
}

/// Proves: +SIGN-013 -SIGN-013
#[test]
fn the_nta_header_is_written_once_and_signed() {
    with(&nodes("", ""), async |net| {
        let header = |inbound: &str| format!("\n[nta_header]\nname = \"X-NTA7516\"\n{inbound}\n");
        let value = "value = \"yes; domain={domain}; provider={provider}; node={node}\"";
        configure(net, "a", |text| text + &header(value)).await;
        configure(net, "b", |text| text + &header("inbound = \"enforce\"")).await;
        let ours = "X-NTA7516: yes; domain=a.nl; provider=Provider A; node=nta.a.nl\r\n";
        let own = "x-nta7516: of the platform\r\n";
        for (number, (brings, carries)) in [("", ours), (own, own)].into_iter().enumerate() {
            let from = format!("alice{number}@a.nl");
            let content = format!("{brings}From: <{from}>\r\n\r\nx\r\n");
            submit(net, "a", &from, GOOD, content.as_bytes()).await;
            let got = arrived(net, &from).await;
            let fields: Vec<_> = got.split_inclusive("\r\n").collect();
            let named = |line: &&&str| line.to_lowercase().starts_with("x-nta7516");
            assert_eq!(fields.iter().filter(named).collect::<Vec<_>>(), [&carries], "{got}");
            let flat = got.replace("\r\n ", " ");
            assert_eq!(flat.matches("dkim=pass header.d=a.nl").count(), 2, "{got}");
            let signed = flat.lines().filter(|line| line.starts_with("DKIM-Signature:"));
            assert!(
                signed.clone().all(|line| line.replace(' ', "").contains("X-NTA7516:X-NTA7516;")),
                "{got}"
            );
            assert_eq!(signed.count(), 2);
        }
        // At home it says nothing to anybody.
        submit(net, "a", "alice2@a.nl", "bob@a.nl", plain().as_bytes()).await;
        let sink = net.provider("a").unwrap().sink().unwrap();
        let messages = timeout(Duration::from_secs(60), sink.wait_for(1)).await.unwrap();
        let kept = String::from_utf8(messages[0].content().unwrap()).unwrap();
        assert!(!kept.to_lowercase().contains("x-nta7516"), "{kept}");
    });
}

/// What was accepted is signed as was settled then, whatever the configuration says of its keys now; with the keys there are, when
/// one has gone.
/// Proves: +SIGN-014 -SIGN-014
#[test]
fn a_message_that_waited_is_signed_as_it_was_accepted() {
    with(&nodes("", ""), async |net| {
        net.node_mut("b").unwrap().stop().await;
        let (stopped, _) = waits_signed_with(net, "stopped", |text| {
            text.replace("[[dkim]]", "[[dkim]]\nsign = false")
                .replace("[submission]\n", "[submission]\nown_domain = \"warn\"\n")
        })
        .await;
        assert_eq!(stopped, ["ed25519-sha256", "rsa-sha256"]);
        configure(net, "a", |text| text.replace("[[dkim]]\nsign = false", "[[dkim]]")).await;

        net.node_mut("b").unwrap().stop().await;
        let (left, record) = waits_signed_with(net, "left", |text| {
            let (start, first) = text.split_once("[[dkim]]").unwrap();
            let (_gone, rest) = first.split_once("[[dkim]]").unwrap();
            format!("{start}[[dkim]]{rest}")
        })
        .await;
        assert_eq!(left.len(), 1);
        let warnings = record["warnings"].to_string();
        assert_eq!(warnings.matches("has left the configuration since").count(), 1, "{record}");
    });
}

/// Submits a message while `b` is away, changes the configuration of `a`, lets `b` come back: the algorithms with which the
/// message was signed, all of them passing, and the record of the attempt.
async fn waits_signed_with(
    net: &mut Net,
    who: &str,
    change: impl FnOnce(String) -> String,
) -> (Vec<String>, Value) {
    let from = format!("{who}@a.nl");
    let id = submit(net, "a", &from, GOOD, format!("From: <{from}>\r\n\r\nx\r\n").as_bytes()).await;
    let first = net.node("a").unwrap().outbound_record(&id).await.unwrap();
    assert_eq!((&first["outcome"], &first["content_left"]), (&"later".into(), &"never".into()), "{first}");
    configure(net, "a", change).await;
    net.node_mut("b").unwrap().restart().await.unwrap();
    let before = net.node("a").unwrap().printed().len();
    let retried = net.node("a").unwrap().command(&["spool", "retry", &format!("{id}.0")]).await.unwrap();
    assert!(retried.status.success(), "{retried:?}");
    let got = arrived(net, &from).await.replace("\r\n ", " ");
    let signed = got.lines().filter_map(|line| line.strip_prefix("DKIM-Signature: v=1; a="));
    let mut signed: Vec<_> = signed.map(|rest| rest.split(';').next().unwrap().to_owned()).collect();
    assert_eq!(got.matches("dkim=pass header.d=a.nl").count(), signed.len(), "{got}");
    signed.sort_unstable();
    // Whoever got it may be faster than its record.
    net.node("a").unwrap().ended_attempt("outbound", "delivered", before).await.unwrap();
    let shown = net.node("a").unwrap().ask(&["spool", "show", &id]).await.unwrap();
    let delivered = |record: &&Value| record["outcome"] == "delivered";
    let record = shown["records"].as_array().unwrap().iter().find(delivered).unwrap().clone();
    (signed, record)
}
