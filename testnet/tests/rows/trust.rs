//! Rows of messages that must prove their sender by themselves, at a node whose floor is `nta7516`: one thing is wrong at a
//! time, and with nothing wrong the same message arrives.

use std::time::Duration;

use testnet::dns::{Fault, RrType, Tree, Trouble};
use testnet::net::Net;
use testnet::net::client::{Carriage, Envelope, connect};
use testnet::sink::Stored;
use tokio::time::timeout;

use super::support::{GOOD, Row, Who, assert_row, configure, nodes, plain, provider, signed_by, with};

const FROM: &str = "carol@c.nl";
const FIELD: &str = "From: <carol@c.nl>\r\n";
const BODY: &str = "x\r\n";
const DMARC: &str = "_dmarc.c.nl";

fn unsigned() -> String {
    format!("{FIELD}\r\n{BODY}")
}

/// Signed by c.nl.
fn signed(net: &Net) -> String {
    signed_by(net, "c", FROM, &unsigned())
}

/// c.nl as its providers meant it, with this SPF record.
fn publish(tree: &mut Tree, record: &str, spf: &str) {
    tree.remove("c.nl", RrType::Txt).txt("c.nl", record).txt("c.nl", spf);
}

/// Changes DNS, and makes the node of `b` forget what it said before.
async fn change(net: &Net, change: impl FnOnce(&mut Tree)) {
    net.dns.update(change).unwrap();
    configure(net, "b", |text| text).await;
}

/// Proves: +IDEN-016 -IDEN-016 -IDEN-011 +JUDGE-001 -JUDGE-001 +JUDGE-005 -JUDGE-005 +JUDGE-011 -JUDGE-011 +HAND-009 -HAND-009
#[test]
fn a_message_that_does_not_prove_its_sender_is_refused_by_the_row() {
    let a = provider("a", &["a.nl"], "");
    let b = provider("b", &["b.nl"], "floor = \"nta7516\"");
    let c = provider("c", &["c.nl"], "played_by = \"testnet\"\nclient_tlsa = \"none\"");
    with(&format!("about = \"A node that admits the lower level.\"\n{a}{b}{c}"), async |net| {
        // A domain that publishes client keys has chosen the higher level.
        assert_row(net, Who::Unproven, &Row::new("held_to_mutual", "MAIL", plain())).await;

        let row = |reason, content| Row::new(reason, "content", content).from(FROM);
        let record = net.plan.nta_records(&net.provider("c").unwrap().placed.provider).remove(0);
        // Where the clients of this test come from, and where they do not.
        let (ours, others) = ("v=spf1 ip4:127.0.0.0/8 -all", "v=spf1 ip4:192.0.2.0/24 -all");
        change(net, |tree| {
            publish(tree, &record, ours);
            tree.remove(DMARC, RrType::Txt);
        })
        .await;
        assert_row(net, Who::Unproven, &row("dmarc_failed", signed(net))).await;

        change(net, |tree| {
            tree.txt(DMARC, "v=DMARC1; p=reject");
        })
        .await;
        assert_row(net, Who::Unproven, &row("dkim_failed", unsigned())).await;
        let tampered = signed(net).replace(BODY, "y\r\n");
        assert_row(net, Who::Unproven, &row("dkim_failed", tampered)).await;

        change(net, |tree| publish(tree, &record, others)).await;
        assert_row(net, Who::Unproven, &row("spf_failed", signed(net))).await;

        change(net, |tree| {
            publish(tree, &record, ours);
            tree.fault(Fault::name(DMARC, Trouble::Servfail));
        })
        .await;
        assert_row(net, Who::Unproven, &row("trust_dns_temporary", signed(net))).await;

        change(net, |tree| {
            tree.heal();
        })
        .await;
        arrives(net).await;
        the_nta_header(net).await;
    });
}

/// With nothing wrong the message is taken, at the level that it proves.
async fn arrives(net: &Net) {
    let content = signed(net);
    let (_, got) = taken(net, Who::Unproven, FROM, &content).await;
    for word in ["Federation-Assurance: nta7516", "dkim=pass header.d=c.nl", "dmarc=pass", "spf=pass"] {
        assert!(got.replace("\r\n ", " ").contains(word), "{word}: {got}");
    }
    assert!(got.ends_with(&content), "{got}");
}

/// The message is taken for [`GOOD`]: its id, and what the environment gets.
async fn taken(net: &Net, who: Who<'_>, from: &'static str, content: &str) -> (String, String) {
    let sink = net.provider("b").unwrap().sink().unwrap();
    let before = sink.messages().len();
    let (_, _, call) = who.door(net);
    let mut client = connect(&call).await.unwrap();
    let envelope = Envelope::plain(from, GOOD, content.as_bytes());
    let offered = client.offer(&envelope, content.as_bytes(), Carriage::Data).await.unwrap();
    assert_eq!(offered.reply.code, 250, "{}", offered.reply.text());
    client.quit().await;
    let id = offered.reply.text().rsplit(' ').next().unwrap().to_owned();
    let waiting = sink.wait_until(|messages| messages.len() > before);
    let messages = timeout(Duration::from_secs(60), waiting).await.unwrap();
    let sent = |stored: &&Stored| stored.sender == from;
    let stored = messages[before..].iter().find(sent).unwrap();
    (id, String::from_utf8(stored.content().unwrap()).unwrap())
}

const NTA: &str = "X-NTA7516: yes\r\n";

/// With the setting `enforce` a message needs the header, and whether it is shown to anybody depends on what the message
/// proves by itself: at `mutual` it is taken all the same, and what it lacks is on record.
async fn the_nta_header(net: &Net) {
    configure(net, "b", |text| {
        format!("{text}\n[nta_header]\nname = \"X-NTA7516\"\ninbound = \"enforce\"\n")
    })
    .await;
    let row = Row::new("nta_header_missing", "content", signed(net)).from(FROM);
    assert_row(net, Who::Unproven, &row).await;
    let content = format!("{NTA}{}", signed(net));
    let (_, kept) = taken(net, Who::Unproven, FROM, &content).await;
    assert!(kept.ends_with(&content), "{kept}");

    let own = &net.provider("a").unwrap().placed.certificate;
    let bare = signed_by(net, "a", "alice@a.nl", &plain());
    assert_row(net, Who::Peer(own), &Row::new("nta_header_missing", "content", bare.clone())).await;
    change(net, |tree| {
        tree.fault(Fault::name("_dmarc.a.nl", Trouble::Servfail));
    })
    .await;
    let (id, removed) = taken(net, Who::Peer(own), "alice@a.nl", &format!("x-nta7516 : no\r\n{bare}")).await;
    assert!(removed.ends_with(&bare) && !removed.to_lowercase().contains("x-nta7516"), "{removed}");
    assert!(removed.contains("Federation-Assurance: mutual") && removed.contains("dkim=pass"), "{removed}");
    let shown = net.node("b").unwrap().ask(&["spool", "show", &id]).await.unwrap();
    let records = shown["records"].as_array().unwrap();
    let record = records.iter().find(|record| record["direction"] == "inbound").unwrap();
    let trust = &record["trust"];
    assert_eq!(trust["nta_headers"][0], "x-nta7516: no", "{record}");
    assert!(trust["spf"].is_string() && trust["dmarc"] == "temperror", "{record}");
    assert!(removed.contains("dmarc=temporary"), "{removed}");
}

/// A proven client of `a` that speaks for `c` in one field, and is in order in all others. `ENVID` is the only one that says
/// nothing about who sends: it is the sender's own token (RFC 3461 section 4.4), so it is taken and believed by nobody.
///
/// Proves: +JUDGE-005 -JUDGE-005 -IDEN-009 -IDEN-013 -IDEN-014
#[test]
fn t10_a_peer_that_speaks_for_another_one_in_any_field_is_refused() {
    let more = [provider("c", &["c.nl"], "played_by = \"testnet\"")].concat();
    with(&nodes("", &more), async |net| {
        let own = &net.provider("a").unwrap().placed.certificate;
        let by = |id, from, content: &str| signed_by(net, id, from, content);
        let body = "To: <bob@b.nl>\r\n\r\nx\r\n";
        let (alice, carol) =
            (format!("From: <alice@a.nl>\r\n{body}"), format!("From: <carol@c.nl>\r\n{body}"));
        let delegate = format!("Sender: <carol@c.nl>\r\n{alice}");
        for row in [
            Row::new("client_not_of_sender", "MAIL", by("a", "alice@a.nl", &alice)).from("carol@c.nl"),
            Row::new("from_not_of_sender", "content", by("c", "carol@c.nl", &carol)),
            Row::new("from_not_of_sender", "content", by("a", "alice@a.nl", &delegate)),
            Row::new("dkim_failed", "content", by("c", "carol@c.nl", &alice)),
            Row::new("dkim_failed", "content", alice.clone()),
            Row::new(
                "dkim_failed",
                "content",
                by("a", "alice@a.nl", &alice).replace("\r\nx\r\n", "\r\ny\r\n"),
            ),
        ] {
            assert_row(net, Who::Peer(own), &row).await;
        }
        change(net, |tree| {
            tree.fault(Fault::name("ed25519._domainkey.a.nl", Trouble::Servfail));
        })
        .await;
        let row = Row::new("trust_dns_temporary", "content", by("a", "alice@a.nl", &alice));
        assert_row(net, Who::Peer(own), &row).await;
        change(net, |tree| {
            tree.heal();
        })
        .await;

        // With another one's signature beside its own it is taken: that one is on record, and is no claim about the sender.
        let both = by("c", "carol@c.nl", &by("a", "alice@a.nl", &alice));
        let (_, _, call) = Who::Peer(own).door(net);
        let mut client = connect(&call).await.unwrap();
        let mut envelope = Envelope::plain("alice@a.nl", GOOD, both.as_bytes());
        envelope.parameters.push("ENVID=carol+40c.nl".to_owned());
        let offered = client.offer(&envelope, both.as_bytes(), Carriage::Data).await.unwrap();
        assert_eq!(offered.reply.code, 250, "{}", offered.reply.text());
        client.quit().await;
        let sink = net.provider("b").unwrap().sink().unwrap();
        let messages = timeout(Duration::from_secs(60), sink.wait_for(1)).await.unwrap();
        let got = String::from_utf8(messages[0].content().unwrap()).unwrap().replace("\r\n ", " ");
        assert!(got.contains("dkim=pass header.d=a.nl") && got.contains("dkim=pass header.d=c.nl"), "{got}");
        let assurance = got.lines().find(|line| line.starts_with("Federation-Assurance:")).unwrap();
        assert!(assurance.contains("domain=a.nl") && !assurance.contains("c.nl"), "{assurance}");
    });
}
