//! Attack class T30: three providers whose platforms forward everything to each other, reports included. The loop ends,
//! its end is reported once, the report ends too, and nothing multiplies on the way.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use testnet::net::client::Envelope;
use testnet::net::{Build, Home, Net, locate};
use testnet::sink::Stored;
use testnet::topology::Topology;

/// From whom to whom the platforms forward.
const RING: [(&str, &str); 3] = [("a", "b"), ("b", "c"), ("c", "a")];

fn box_at(id: &str) -> String {
    format!("ring@{id}.nl")
}

/// What arrived at a platform, as it sends it on: under its own name, since no provider may send under another's, with
/// every trace that was on it. A well-behaved forwarder keeps the null sender of a report.
fn forwarded(stored: &Stored, id: &str) -> (String, Vec<u8>) {
    let content = String::from_utf8(stored.content().unwrap()).unwrap();
    let (header, body) = content.split_once("\r\n\r\n").unwrap();
    let lines = header.split("\r\n").map(|line| {
        if line.starts_with("From:") { format!("From: <{}>", box_at(id)) } else { line.to_owned() }
    });
    let content = format!("{}\r\n\r\n{body}", lines.collect::<Vec<_>>().join("\r\n"));
    let sender = if stored.sender.is_empty() { String::new() } else { box_at(id) };
    (sender, content.into_bytes())
}

/// Whether a platform forwards reports too. Few do, and none should.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reports {
    Forwarded,
    Kept,
}

/// A platform that forwards what it gets, for as long as its node takes it.
async fn forward(net: &Net, id: &str, to: &str, reports: Reports) {
    let sink = net.provider(id).unwrap().sink().unwrap();
    for count in 1.. {
        let stored = sink.wait_for(count).await[count - 1].clone();
        let (sender, content) = forwarded(&stored, id);
        if sender.is_empty() && reports == Reports::Kept {
            continue;
        }
        let offered =
            net.submit(id, &Envelope::plain(&sender, &box_at(to), &content), &content).await.unwrap();
        assert_eq!(offered.reply.code, 250, "the next one is asked first: {offered:?}");
    }
}

/// Sends one message, which has passed so many other `hops`, into the ring in which provider b has this limit; returns how
/// many messages each platform got.
async fn run(limit: (&str, u64), hops: usize, reports: Reports) -> [usize; 3] {
    let mut topology = Topology::three_providers();
    topology.every_pair = None;
    topology.providers[1].limits.insert(limit.0.to_owned(), limit.1);
    let program = locate(None, Build::IfNeeded).await.unwrap();
    let net = Net::start(topology, &program, Home::Temporary, |_| ()).await;
    let net = net.unwrap_or_else(|error| panic!("{error}"));
    let content = format!(
        "{}From: <ring@a.nl>\r\nSubject: round\r\nMessage-ID: <round@a.nl>\r\n\r\nand round\r\n",
        "Received: from x.invalid by y.invalid; Sun, 22 Nov 2026 12:00:00 +0000\r\n".repeat(hops)
    );
    let (from, to) = (box_at("a"), box_at("b"));
    let offered = net.submit("a", &Envelope::plain(&from, &to, b""), content.as_bytes()).await.unwrap();
    assert_eq!(offered.reply.code, 250, "{offered:?}");
    // The very last thing that happens: a node gives up the message, or the report of it.
    let last = |line: &Value| {
        let report = line["sender"] == "" || reports == Reports::Kept;
        line["direction"] == "outbound" && line["outcome"] == "returned" && report
    };
    let forwarding = async {
        let [a, b, c] = RING.map(|(id, to)| forward(&net, id, to, reports));
        tokio::join!(a, b, c);
    };
    tokio::select! {
        () = forwarding => unreachable!("platforms forward for ever"),
        over = net.node("a").unwrap().logged("the end of the loop", 0, last) => drop(over.unwrap()),
    }
    for (id, _) in RING {
        net.node(id).unwrap().idle().await.unwrap();
    }
    let stored = RING.map(|(id, _)| net.provider(id).unwrap().sink().unwrap().messages());
    // The one report of the loop itself came to the platform that sent it round.
    let mut originals = stored[0].iter().filter(|stored| {
        let text = String::from_utf8(stored.content().unwrap()).unwrap();
        text.contains("From: Mail Delivery System <postmaster@a.nl>")
    });
    let report = String::from_utf8(originals.next().expect("a report").content().unwrap()).unwrap();
    assert!(originals.next().is_none(), "one report");
    let flat = report.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("554 5.4.6 SMTP-019 mail_loop: "), "{report}");
    net.stop().await;
    stored.map(|stored| stored.len())
}

/// Twice round, then b knows its own trace for the third time; the report makes the same journey and ends in nothing.
/// Proves: +SMTP-019 -SMTP-019 +SPOOL-012 -SPOOL-012
#[tokio::test]
async fn t30_a_ring_of_three_ends_where_a_node_knows_its_own_trace() {
    let got = run(("own_received_fields", 3), 0, Reports::Forwarded).await;
    assert_eq!(got, [2 + 1 + 2, 2 + 2, 2 + 2]);
}

/// Once round, then 31 hosts are too many.
/// Proves: +SMTP-019 -SMTP-019
#[tokio::test]
async fn t30_a_ring_of_three_ends_at_the_hop_limit_whoever_looks() {
    assert_eq!(run(("received_fields", 30), 24, Reports::Kept).await, [1 + 1, 1, 1]);
}
