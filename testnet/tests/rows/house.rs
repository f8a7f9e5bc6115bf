//! Rows of our own house: the spool, and the environment behind it.

use testnet::net::client::Carriage;
use testnet::sink::Answer;

use super::support::{
    HEAD, Row, Who, assert_record, assert_reported, assert_row, first_attempt, nodes, provider, signed_by,
    submit, with, with_net,
};

/// Content of this many octets, and a little more.
fn large(octets: usize) -> String {
    let line = format!("{}\r\n", "x".repeat(998));
    format!("{HEAD}\r\n{}", line.repeat(octets / line.len() + 1))
}

const MIB: usize = 1 << 20;

/// Proves: -SPOOL-004
#[test]
fn a_full_spool_takes_nothing_more() {
    let [a, b] = [("a", ""), ("b", "limits = { spool_octets = 67_108_864 }")]
        .map(|(id, more)| provider(id, &[&format!("{id}.nl")], more));
    with(&format!("about = \"A node with little room.\"\n{a}{b}"), async |net| {
        // It stays in the spool, and leaves less room than the next one needs.
        let sink = net.provider("b").unwrap().sink().unwrap();
        sink.answer("big@b.nl", Answer::Temporary);
        submit(
            net,
            "b",
            "carol@b.nl",
            "big@b.nl",
            large(60 * MIB).replace("alice@a.nl", "carol@b.nl").as_bytes(),
        )
        .await;
        let own = &net.provider("a").unwrap().placed.certificate;
        let signed = signed_by(net, "a", "alice@a.nl", &large(5 * MIB));
        assert_row(net, Who::Peer(own), &Row::new("spool_full", "content", signed)).await;
    });
}

/// The operator loses the place where content is kept, while the node runs; what needs none is taken all the same.
/// Proves: -SPOOL-003
#[test]
fn a_node_that_cannot_keep_content_says_so_and_takes_nothing() {
    with(&nodes("", ""), async |net| {
        let kept = net.directory().join("b/state/spool/content");
        let away = kept.with_extension("away");
        std::fs::rename(&kept, &away).unwrap();
        let own = &net.provider("a").unwrap().placed.certificate;
        for carriage in [Carriage::Data, Carriage::Chunks(100_000)] {
            let row = Row::new("local_fault", "content", large(MIB)).carriage(carriage);
            assert_row(net, Who::Peer(own), &row).await;
        }
        std::fs::rename(&away, &kept).unwrap();
    });
}

/// Proves: -HAND-001 +SIGN-001
#[test]
fn what_our_own_environment_will_not_take_comes_back() {
    with_net(async |net| {
        let b = net.provider("b").unwrap();
        b.sink().unwrap().answer("unwanted@b.nl", Answer::Reject);
        let node = b.node().unwrap();
        let before = node.printed().len();
        let (_, record) = first_attempt(net, "unwanted@b.nl").await;
        assert_eq!(record["outcome"], "delivered", "to the other provider: {record}");
        let record = node.ended_attempt("handoff", "returned", before).await.unwrap();
        assert_record(&record, "returned", "environment_permanent", "yes");
        let report = assert_reported(net, "unwanted@b.nl", "5.").await;
        // It came from the other provider's node, signed for its postmaster; what it quotes is signed by us.
        let head = report.split("\r\n\r\n").next().unwrap();
        assert_eq!(head.matches("DKIM-Signature: v=1; a=").count(), 2, "{head}");
        assert_eq!(head.matches(" d=b.nl;").count(), 2, "{head}");
    });
}

/// Content that is damaged in its last octets is found out before its first one is sent: nobody gets a part of it.
/// Proves: -SIGN-014 +SPOOL-013
#[test]
fn content_that_is_damaged_is_not_offered() {
    with(&nodes("", ""), async |net| {
        net.node_mut("b").unwrap().stop().await;
        let id = submit(net, "a", "alice@a.nl", "bob@b.nl", large(MIB).as_bytes()).await;
        net.node("a").unwrap().outbound_record(&id).await.unwrap();
        let kept = net.directory().join("a/state/spool/content").join(&id);
        let mut sealed = std::fs::read(&kept).unwrap();
        *sealed.last_mut().unwrap() ^= 1;
        std::fs::write(&kept, sealed).unwrap();

        net.node_mut("b").unwrap().restart().await.unwrap();
        let node = net.node("a").unwrap();
        let before = node.printed().len();
        let retried = node.command(&["spool", "retry", &format!("{id}.0")]).await.unwrap();
        assert!(retried.status.success(), "{retried:?}");
        let ended = |line: &serde_json::Value| line["direction"] == "outbound";
        let record = node.logged("the end of the attempt", before, ended).await.unwrap();
        assert_eq!(record["content_left"], "never", "{record}");
        let alarm = |line: &serde_json::Value| line["alarm"] == "DamagedContent";
        node.logged("the alarm", before, alarm).await.unwrap();
        let shown = node.ask(&["spool", "show", &id]).await.unwrap();
        assert_eq!(shown["message"]["deliveries"][0]["held_by"], "damaged", "{shown}");
    });
}
