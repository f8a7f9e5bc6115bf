//! S/MIME between real node processes: what others signed arrives octet for octet with a verdict beside it, and what a node
//! signs for its customers is accepted by OpenSSL at the far side, with DKIM over exactly what was sent.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use serde_json::Value;
use testnet::net::client::Envelope;
use testnet::net::expect::added_fields;
use testnet::net::{Build, Home, Net, locate};
use testnet::sink::Stored;
use testnet::topology::Topology;
use tokio::time::timeout;

/// For anything that is to happen, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

async fn start() -> Net {
    let mut topology = Topology::three_providers();
    topology.every_pair = None;
    topology.providers.truncate(2);
    let program = locate(None, Build::IfNeeded).await.unwrap();
    let net = Net::start(topology, &program, Home::Temporary, |_| ()).await;
    net.unwrap_or_else(|error| panic!("{error}"))
}

/// Writes an authority (`root.pem`), and a certificate of alice@a.nl with its key for each name given.
fn certificates(dir: &Path, names: &[(&str, bool)]) {
    let params = |name: &str| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2090, 1, 1));
        params
    };
    let mut root = params("Mail root");
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let root = CertifiedIssuer::self_signed(root, KeyPair::generate().unwrap()).unwrap();
    let write = |name: String, text: String| std::fs::write(dir.join(name), text).unwrap();
    write("root.pem".into(), root.pem());
    for (name, in_time) in names {
        let mut leaf = params("Alice");
        leaf.subject_alt_names = vec![SanType::Rfc822Name("alice@a.nl".try_into().unwrap())];
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection];
        if !in_time {
            leaf.not_after = date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        write(format!("{name}.pem"), leaf.signed_by(&key, &root).unwrap().pem());
        write(format!("{name}.key"), key.serialize_pem());
    }
}

fn openssl(dir: &Path, arguments: &[&str]) -> bool {
    let output = Command::new("openssl").args(arguments).current_dir(dir).output();
    let output = output.expect("the openssl command is one of the tools that ./check brings");
    output.status.success()
}

/// A message of alice@a.nl that OpenSSL signed, in CAdES form.
fn signed_by_openssl(dir: &Path, subject: &str) -> Vec<u8> {
    std::fs::write(dir.join("entity"), "Content-Type: text/plain\r\n\r\nGeheim  \r\n\r\n").unwrap();
    let sign = [
        "cms",
        "-sign",
        "-cades",
        "-in",
        "entity",
        "-out",
        "message",
        "-signer",
        "alice.pem",
        "-inkey",
        "alice.key",
    ];
    assert!(openssl(dir, &sign));
    let text =
        std::fs::read_to_string(dir.join("message")).unwrap().replace("\r\n", "\n").replace('\n', "\r\n");
    format!("From: Alice <alice@a.nl>\r\nMessage-ID: <1@a.nl>\r\nSubject: {subject}\r\n{text}").into_bytes()
}

/// Adds this to the configuration of a node, instead of what was added before.
async fn configure(net: &Net, id: &str, more: &str) {
    const MARK: &str = "\n# added\n";
    let node = net.node(id).unwrap();
    let text = std::fs::read_to_string(node.config()).unwrap();
    let base = text.split(MARK).next().unwrap();
    std::fs::write(node.config(), format!("{base}{MARK}{more}")).unwrap();
    let reloaded = node.command(&["reload"]).await.unwrap();
    assert!(reloaded.status.success(), "{reloaded:?}");
    assert!(String::from_utf8_lossy(&reloaded.stdout).contains("smime"), "{reloaded:?}");
}

fn judging(dir: &Path) -> String {
    format!("[smime]\ntrust_anchors = \"{}\"\n", dir.join("root.pem").display())
}

fn signing(dir: &Path, name: &str) -> String {
    let file = |extension: &str| dir.join(format!("{name}.{extension}")).display().to_string();
    format!(
        "[[smime.signer]]\naddresses = [\"alice@a.nl\"]\ncertificate = \"{}\"\nkey = \"{}\"\n",
        file("pem"),
        file("key")
    )
}

/// A letter goes from provider a to bob@b.nl; its id at a, and what the environment of b got.
async fn send(net: &Net, from: &str, content: &[u8]) -> (String, Vec<u8>) {
    let sink = net.provider("b").unwrap().sink().unwrap();
    let before = sink.messages().len();
    let offered = net.submit("a", &Envelope::plain(from, "bob@b.nl", content), content).await.unwrap();
    assert_eq!(offered.reply.code, 250, "{offered:?}");
    let arrived: Vec<Stored> = timeout(PATIENCE, sink.wait_for(before + 1)).await.unwrap();
    let id = offered.reply.text().rsplit(' ').next().unwrap().to_owned();
    (id, arrived[before].content().unwrap())
}

/// The record of the last message that came in at b, as its operator sees it, and the same as text.
async fn inbound(net: &Net, before: usize) -> (Value, String) {
    let node = net.node("b").unwrap();
    let line = node.ended_attempt("inbound", "accepted", before).await.unwrap();
    let id = line["message_id"].as_str().unwrap();
    let record = record(net, "b", id, "inbound").await;
    let word = record["trust"]["smime"]["verdict"].clone();
    assert_eq!(line["smime"], word, "{line}");
    let shown = node.command(&["spool", "show", id]).await.unwrap();
    (record, String::from_utf8(shown.stdout).unwrap())
}

async fn record(net: &Net, node: &str, id: &str, direction: &str) -> Value {
    let shown = net.node(node).unwrap().ask(&["spool", "show", id]).await.unwrap();
    let records = shown["records"].as_array().unwrap();
    records.iter().find(|record| record["direction"] == direction).unwrap().clone()
}

/// What the environment was told in `Authentication-Results:`, on one line.
fn results(got: &[u8]) -> String {
    let text = String::from_utf8_lossy(got).replace("\r\n ", " ");
    let line = text.lines().find(|line| line.starts_with("Authentication-Results: "));
    line.unwrap().to_owned()
}

/// Proves: +SMIME-001 -SMIME-001 +SMIME-009 -SMIME-009
#[tokio::test]
async fn what_was_signed_arrives_as_it_was_with_a_verdict_beside_it() {
    let net = start().await;
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    certificates(dir, &[("alice", true)]);
    let letter = signed_by_openssl(dir, "een");
    let log = || net.node("b").unwrap().printed().len();

    let before = log();
    let (_, got) = send(&net, "alice@a.nl", &letter).await;
    added_fields(&got, &letter).unwrap();
    assert!(results(&got).ends_with(
        "smime=neutral reason=\"the signature holds, and no authority is configured to judge whose it is\""
    ), "{}", results(&got));
    assert_eq!(inbound(&net, before).await.0["trust"]["smime"]["verdict"], "neutral");

    configure(&net, "b", &judging(dir)).await;
    let letter = signed_by_openssl(dir, "twee");
    let before = log();
    let (_, got) = send(&net, "alice@a.nl", &letter).await;
    added_fields(&got, &letter).unwrap();
    let told = results(&got);
    assert!(told.contains("; smime=pass body.smime-identifier=alice@a.nl body.smime-serial="), "{told}");
    assert!(told.contains("body.smime-issuer=\"") && !told.contains("reason="), "{told}");
    let (record, shown) = inbound(&net, before).await;
    let smime = &record["trust"]["smime"];
    assert_eq!((&smime["verdict"], &smime["cades"]), (&"pass".into(), &true.into()), "{record}");
    assert_eq!((&smime["signer"], &smime["digest"]), (&"alice@a.nl".into(), &"sha-256".into()), "{record}");
    assert!(shown.contains("pass; signer alice@a.nl; issuer ") && shown.contains("; CAdES"), "{shown}");

    // Changed on the way by whoever had it: it arrives all the same, and nobody is told that it is right.
    let text = String::from_utf8(signed_by_openssl(dir, "drie")).unwrap();
    let letter = text.replacen("Geheim", "geheim", 1).into_bytes();
    let before = log();
    let (_, got) = send(&net, "alice@a.nl", &letter).await;
    added_fields(&got, &letter).unwrap();
    let told = results(&got);
    assert!(told.ends_with("smime=fail reason=\"the content is not the one that was signed\""), "{told}");
    let (record, shown) = inbound(&net, before).await;
    assert_eq!(record["trust"]["smime"]["verdict"], "fail", "{record}");
    assert!(shown.contains("fail; the content is not the one that was signed"), "{shown}");

    // What is not signed has nothing said of it.
    let before = log();
    let (_, got) = send(&net, "alice@a.nl", b"From: alice@a.nl\r\nMessage-ID: <4@a.nl>\r\n\r\nx\r\n").await;
    assert!(!results(&got).contains("smime"), "{}", results(&got));
    assert_eq!(inbound(&net, before).await.0["trust"]["smime"], Value::Null);
    net.stop().await;
}

/// Proves: +SMIME-010 -SMIME-010 +SMIME-011 -SMIME-011 +SMIME-012 +SMIME-013 -SMIME-013
#[tokio::test]
async fn what_a_node_signs_is_accepted_by_openssl_and_its_dkim_covers_it() {
    let net = start().await;
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    certificates(dir, &[("alice", true)]);
    configure(&net, "a", &signing(dir, "alice")).await;
    configure(&net, "b", &judging(dir)).await;
    let letter = "From: Alice <alice@a.nl>\r\nContent-Type: text/plain; charset=utf-8\r\nTo: bob@b.nl\r\n\
                  Content-Transfer-Encoding: 8bit\r\nSubject: geheim\r\n\r\nBeste Bob,\r\n.\r\n--\r\n\u{20ac} 5  \r\n";

    let (id, got) = send(&net, "alice@a.nl", letter.as_bytes()).await;
    std::fs::write(dir.join("arrived"), &got).unwrap();
    let verify = ["cms", "-verify", "-cades", "-in", "arrived", "-CAfile", "root.pem", "-out", "content"];
    assert!(openssl(dir, &verify), "{}", String::from_utf8_lossy(&got));
    let content = std::fs::read_to_string(dir.join("content")).unwrap();
    let inner = "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nBeste Bob,\r\n.\r\n--\r\n\u{20ac} 5  \r\n";
    assert_eq!(content, inner);
    let text = String::from_utf8(got.clone()).unwrap();
    let outer = text.split("\r\n\r\n").next().unwrap();
    assert!(
        outer
            .contains("From: Alice <alice@a.nl>\r\nTo: bob@b.nl\r\nSubject: geheim\r\nMIME-Version: 1.0\r\n"),
        "{outer}"
    );
    let told = results(&got);
    assert!(told.contains("; smime=pass body.smime-identifier=alice@a.nl "), "{told}");
    assert_eq!(told.matches("dkim=pass header.d=a.nl").count(), 2, "{told}");

    // What is on record at both sides is what was sent.
    let outbound = net.node("a").unwrap().outbound_record(&id).await.unwrap();
    let (theirs, _) = inbound(&net, 0).await;
    assert_eq!((&theirs["digest"], &theirs["size"]), (&outbound["digest"], &outbound["size"]));
    let ours = record(&net, "a", &id, "submission").await;
    assert_eq!(ours["trust"]["smime"]["verdict"], "signed", "{ours}");
    assert_eq!(ours["trust"]["smime"]["certificate"], theirs["trust"]["smime"]["certificate"]);
    assert!(ours["size"].as_u64().unwrap() > letter.len() as u64 + 1000, "{ours}");

    // One octet changed on the way breaks both.
    std::fs::write(dir.join("arrived"), text.replacen("Beste", "beste", 1)).unwrap();
    assert!(!openssl(dir, &verify));

    // Others' mail, what is signed already, and what can't be taken apart passes as it is.
    let signed = signed_by_openssl(dir, "al getekend");
    let doubtful = b"From: alice@a.nl\r\nMessage-ID: <5@a.nl>\r\nContent-Type: text\r\n\r\nx\r\n".to_vec();
    let others = b"From: carol@a.nl\r\nMessage-ID: <6@a.nl>\r\n\r\nx\r\n".to_vec();
    let report = "From: alice@a.nl\r\nMessage-ID: <7@a.nl>\r\nContent-Type: multipart/report; report-type=delivery-status; \
                  boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n";
    for (letter, warned) in
        [(signed, false), (doubtful, true), (others, false), (report.as_bytes().to_vec(), false)]
    {
        let (id, got) = send(&net, "alice@a.nl", &letter).await;
        added_fields(&got, &letter).unwrap();
        let ours = record(&net, "a", &id, "submission").await;
        assert_eq!(ours["trust"]["smime"], Value::Null, "{ours}");
        assert_eq!(ours["warnings"].to_string().contains("SMIME-011"), warned, "{ours}");
    }
    net.stop().await;
}

/// Proves: -SMIME-014 +SMIME-015 -SMIME-015
#[tokio::test]
async fn a_certificate_that_has_expired_stops_no_mail_and_a_wrong_key_no_node() {
    let net = start().await;
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    certificates(dir, &[("alice", true), ("old", false)]);
    let letter = b"From: alice@a.nl\r\nMessage-ID: <1@a.nl>\r\n\r\nx\r\n";
    configure(&net, "a", &signing(dir, "old")).await;
    let (id, got) = send(&net, "alice@a.nl", letter).await;
    added_fields(&got, letter).unwrap();
    let ours = record(&net, "a", &id, "submission").await;
    assert!(
        ours["warnings"].to_string().contains("the certificate for a.nl is not valid now (SMIME-015)"),
        "{ours}"
    );

    configure(&net, "a", &signing(dir, "alice")).await;
    let node = net.node("a").unwrap();
    let good = std::fs::read_to_string(node.config()).unwrap();
    std::fs::write(node.config(), good.replace("alice.key", "old.key")).unwrap();
    let refused = node.command(&["reload"]).await.unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success()
            && said.contains("the private key does not belong to the first certificate"),
        "{refused:?}"
    );
    let checked = node.command(&["check"]).await.unwrap();
    assert_eq!(checked.status.code(), Some(2), "{checked:?}");
    // What was in force still is.
    let (id, _) = send(&net, "alice@a.nl", letter).await;
    let ours = record(&net, "a", &id, "submission").await;
    assert_eq!(ours["trust"]["smime"]["verdict"], "signed", "{ours}");
    net.stop().await;
}
