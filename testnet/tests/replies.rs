//! Whether a reply to a message would stay secure, and who sent it for whom: asked of running nodes, and of their records.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use serde_json::{Value, json};
use testnet::net::client::Envelope;
use testnet::net::{Build, Home, Net, NodeProcess, locate};
use testnet::sink::{Answer, Stored};
use testnet::topology::Topology;
use tokio::time::timeout;

/// No good run ever waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

const TOPOLOGY: &str = r#"
about = "Two nodes, and a domain that nobody can judge."
[[provider]]
id = "a"
name = "Provider A"
domains = ["a.nl"]
hosts = ["nta.a.nl"]
[[provider]]
id = "b"
name = "Provider B"
domains = ["b.nl"]
hosts = ["nta.b.nl"]
[[provider]]
id = "c"
name = "Provider C"
domains = ["c.nl"]
hosts = ["nta.c.nl"]
played_by = "nobody"
[[fault]]
zone = "c.nl"
trouble = "wrong_signature"
"#;

async fn start() -> Net {
    let program = locate(None, Build::IfNeeded).await.unwrap();
    let topology: Topology = TOPOLOGY.parse().unwrap();
    let net = Net::start(topology, &program, Home::Temporary, |_| ()).await;
    net.unwrap_or_else(|error| panic!("{error}"))
}

/// A message beside the configuration of the node: its file.
fn file(node: &NodeProcess, text: &str) -> String {
    let path = node.config().with_file_name("message.eml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Field, address, standing, level and reason of each address.
fn rows(report: &Value) -> Vec<Value> {
    let row =
        |one: &Value| json!([one["field"], one["address"], one["standing"], one["level"], one["reason"]]);
    report["addresses"].as_array().unwrap().iter().map(row).collect()
}

/// Proves: +RPLY-001 -RPLY-001 +RPLY-002 -RPLY-002 +RPLY-007 -RPLY-007
#[tokio::test]
async fn each_address_of_a_message_is_told_from_the_others() {
    let net = start().await;
    let node = net.node("a").unwrap();
    let spool = node.ask(&["status"]).await.unwrap()["spool"].clone();
    // As a mail program saves it: LF, and a body that would be no header.
    let body = "no header\n".repeat(50_000);
    let message = file(
        node,
        &format!("From: Bob <bob@b.nl>\nTo: alice@a.nl\nCc: \"x y\"@nowhere.nl, Team: y@c.nl;\n\n{body}"),
    );
    let mixed = node.ask(&["explain", "--message", &message]).await.unwrap();
    assert_eq!(
        rows(&mixed),
        [
            json!(["From", "bob@b.nl", "federated", "mutual", null]),
            json!(["To", "alice@a.nl", "own", null, null]),
            json!(["Cc", "\"x y\"@nowhere.nl", "not_federated", null, "domain_unknown"]),
            json!(["Cc", "y@c.nl", "temporary", null, "dns_bogus"]),
        ]
    );
    assert_eq!((&mixed["reply"], &mixed["reply_all"]), (&json!("yes"), &json!("no")));
    assert_eq!(mixed["addresses"][0]["provider"], "Provider B");
    let shown = node.command(&["explain", "--message", &message]).await.unwrap();
    assert_eq!(shown.status.code(), Some(1));
    let text = String::from_utf8(shown.stdout).unwrap();
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.starts_with("A reply stays secure. A reply to all can't stay secure"), "{text}");
    assert!(flat.contains("not federated: The domain does not exist. (domain_unknown)"), "{text}");

    let fine = file(node, "From: bob@b.nl\nReply-To: desk@b.nl\nTo: alice@a.nl\n");
    let shown = node.command(&["explain", "--message", &fine, "--dns-only"]).await.unwrap();
    assert_eq!(shown.status.code(), Some(0));
    assert!(String::from_utf8(shown.stdout).unwrap().starts_with("Yes. A reply stays secure, and so does"));
    let late = file(node, "From: bob@b.nl\nCc: y@c.nl\n");
    let late = node.ask(&["explain", "--message", &late]).await.unwrap();
    assert_eq!((&late["reply"], &late["reply_all"]), (&json!("yes"), &json!("not_now")));

    // What can't be read, and what is no message.
    let odd = file(node, "From: bob@b.nl\nCc: (odd\n");
    let shown = node.command(&["explain", "--message", &odd]).await.unwrap();
    assert_eq!(shown.status.code(), Some(4));
    let none = node.command(&["explain", "--message", "-"]).await.unwrap();
    assert_eq!(none.status.code(), Some(4), "nothing on standard input");
    for wrong in
        [&["explain", "--message", "/nowhere"][..], &["explain"], &["explain", "a@b.nl", "--stored", "1"]]
    {
        assert_eq!(node.command(wrong).await.unwrap().status.code(), Some(2), "{wrong:?}");
    }

    assert_eq!(node.ask(&["status"]).await.unwrap()["spool"], spool);
    for id in ["a", "b"] {
        let printed = net.node(id).unwrap().printed();
        assert!(!printed.contains("attempt ended") && !printed.contains("rests"), "{printed}");
    }
    net.stop().await;
}

/// Proves: +RPLY-004 -RPLY-004
#[tokio::test]
async fn a_message_to_half_the_world_is_looked_at_as_far_as_the_limits_go() {
    let net = start().await;
    let node = net.node("a").unwrap();
    let many: Vec<_> = (0..120).map(|n| format!("p{n}@d{}.nl", n % 40)).collect();
    let message = file(node, &format!("From: bob@b.nl\nTo: {}\n", many.join(",\n ")));
    let report = node.ask(&["explain", "--message", &message, "--dns-only"]).await.unwrap();
    assert_eq!(report["addresses"].as_array().unwrap().len(), 100);
    assert_eq!(report["beyond"], 21);
    let count = |standing: &str| {
        let all = report["addresses"].as_array().unwrap();
        let mut domains: Vec<_> = all
            .iter()
            .filter(|one| one["standing"] == standing)
            .map(|one| one["domain"].to_string())
            .collect();
        domains.sort_unstable();
        domains.dedup();
        domains.len()
    };
    assert_eq!([count("federated"), count("not_federated"), count("not_looked_at")], [1, 24, 16]);
    // Few domains, whatever the number of addresses in them, are all looked at.
    let few: Vec<_> = (0..99).map(|n| format!("p{n}@b.nl")).collect();
    let message = file(node, &format!("From: bob@b.nl\nTo: {}\n", few.join(",\n ")));
    let report = node.ask(&["explain", "--message", &message, "--dns-only"]).await.unwrap();
    assert_eq!((&report["reply_all"], &report["beyond"]), (&json!("yes"), &json!(0)));
    net.stop().await;
}

/// The records of a message.
async fn records(node: &NodeProcess, id: &str) -> Vec<Value> {
    node.ask(&["spool", "show", id]).await.unwrap()["records"].as_array().unwrap().clone()
}

/// `a` sends this to `b`, whose environment gets it: the id at `a`, the line that `b` logged, and the content.
async fn sent(net: &Net, content: &str) -> (String, Value, String) {
    let (a, b) = (net.node("a").unwrap(), net.node("b").unwrap());
    let (had, before) = (net.provider("b").unwrap().sink().unwrap().messages().len(), b.printed().len());
    let envelope = Envelope::plain("assistent@a.nl", "bob@b.nl", content.as_bytes());
    let offered = net.submit("a", &envelope, content.as_bytes()).await.unwrap();
    let id = offered.reply.text().rsplit(' ').next().unwrap().to_owned();
    a.outbound_record(&id).await.unwrap();
    let sink = net.provider("b").unwrap().sink().unwrap();
    let more = |messages: &[Stored]| messages.len() > had;
    let messages = timeout(PATIENCE, sink.wait_until(more)).await.unwrap();
    let line = b.ended_attempt("inbound", "accepted", before).await.unwrap();
    (id, line, String::from_utf8(messages.last().unwrap().content().unwrap()).unwrap())
}

/// Proves: +RPLY-005 -RPLY-005 +RPLY-006 -RPLY-006 +RPLY-008 -RPLY-008
#[tokio::test]
async fn who_sent_for_whom_is_kept_recorded_and_told() {
    let net = start().await;
    let (a, b) = (net.node("a").unwrap(), net.node("b").unwrap());
    let fields = "From:  \"De dokter\" <dokter@a.nl>\r\nSender: assistent@a.nl (voor de dokter)\r\n";
    let (id, line, content) = sent(&net, &format!("{fields}To: bob@b.nl\r\n\r\nx\r\n")).await;
    assert!(content.contains(fields), "{content}");
    let flat = content.replace("\r\n ", " ");
    assert!(flat.contains("; domain=a.nl; delegate=a.nl; rule="), "{content}");
    assert!(flat.contains(" policy.domain=a.nl policy.delegate=a.nl;"), "{content}");
    let inbound = line["message_id"].as_str().unwrap().to_owned();
    for (node, id, direction) in [(a, &id, "submission"), (b, &inbound, "inbound")] {
        let records = records(node, id).await;
        let record = records.iter().find(|record| record["direction"] == direction).unwrap();
        assert_eq!(record["trust"]["from_domain"], "a.nl", "{record}");
        assert_eq!(record["trust"]["from"], json!(["dokter@a.nl"]), "{record}");
        assert_eq!(record["trust"]["sender"], "assistent@a.nl", "{record}");
    }
    let [from, sender] = ["header_from", "header_sender"].map(|key| line[key].as_str().unwrap());
    assert!(from.starts_with('~') && from.ends_with("@a.nl") && from != sender, "{line}");
    assert!(!b.printed().contains("dokter") && !b.printed().contains("assistent"));

    // An author who sends it himself has no delegate.
    let own = "From: assistent@a.nl\r\nSender: assistent@a.nl\r\n\r\nx\r\n";
    let (_, _, content) = sent(&net, own).await;
    assert!(!content.contains("delegate="), "{content}");

    // A message that the environment does not take yet can be asked about.
    net.provider("b").unwrap().sink().unwrap().answer("bob@b.nl", Answer::Temporary);
    let before = b.printed().len();
    let envelope = Envelope::plain("assistent@a.nl", "bob@b.nl", b"");
    let content = format!("{fields}Reply-To: x@nowhere.nl\r\n\r\nx\r\n");
    net.submit("a", &envelope, content.as_bytes()).await.unwrap();
    let line = b.ended_attempt("inbound", "accepted", before).await.unwrap();
    let id = line["message_id"].as_str().unwrap();
    let stored = b.ask(&["explain", "--stored", id]).await.unwrap();
    assert_eq!((&stored["message"], &stored["delegate"]), (&json!(id), &json!("assistent@a.nl")));
    assert_eq!(
        rows(&stored)[0],
        json!(["Reply-To", "x@nowhere.nl", "not_federated", null, "domain_unknown"])
    );
    assert_eq!(rows(&stored)[1], json!(["From", "dokter@a.nl", "federated", "mutual", null]));
    let unknown = b.command(&["explain", "--stored", &inbound]).await.unwrap();
    let said = String::from_utf8(unknown.stderr).unwrap();
    assert_eq!(unknown.status.code(), Some(1), "it was delivered and is gone: {said}");
    net.stop().await;
}
