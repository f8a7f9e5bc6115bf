//! Rows of messages that must prove their sender by themselves, at a node whose floor is `nta7516`: one thing is wrong at a
//! time, and with nothing wrong the same message arrives.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use testnet::dns::{Fault, RrType, Tree, Trouble};
use testnet::net::Net;
use testnet::net::client::{Carriage, Envelope, connect};
use testnet::sink::Stored;
use tokio::time::timeout;

use super::support::{GOOD, Row, Who, assert_row, configure, plain, provider, with};

const FROM: &str = "carol@c.nl";
const FIELD: &str = "From: <carol@c.nl>\r\n";
const BODY: &str = "x\r\n";
const DMARC: &str = "_dmarc.c.nl";

fn key() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
}

fn unsigned() -> String {
    format!("{FIELD}\r\n{BODY}")
}

/// Signed by c.nl (RFC 6376, 8463): `simple` for both, so that what is signed is what stands there.
fn signed() -> String {
    let body = STANDARD.encode(digest(&SHA256, BODY.as_bytes()));
    let field = format!(
        "DKIM-Signature: v=1; a=ed25519-sha256; c=simple/simple; d=c.nl; s=s1; h=From; bh={body}; b="
    );
    let hash = digest(&SHA256, format!("{FIELD}{field}").as_bytes());
    format!("{field}{}\r\n{}", STANDARD.encode(key().sign(hash.as_ref())), unsigned())
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
        let public = STANDARD.encode(key().public_key());
        change(net, |tree| {
            publish(tree, &record, ours);
            tree.txt("s1._domainkey.c.nl", &format!("v=DKIM1; k=ed25519; p={public}"));
        })
        .await;
        assert_row(net, Who::Unproven, &row("dmarc_failed", signed())).await;

        change(net, |tree| {
            tree.txt(DMARC, "v=DMARC1; p=reject");
        })
        .await;
        assert_row(net, Who::Unproven, &row("dkim_failed", unsigned())).await;
        let tampered = signed().replace(BODY, "y\r\n");
        assert_row(net, Who::Unproven, &row("dkim_failed", tampered)).await;

        change(net, |tree| publish(tree, &record, others)).await;
        assert_row(net, Who::Unproven, &row("spf_failed", signed())).await;

        change(net, |tree| {
            publish(tree, &record, ours);
            tree.fault(Fault::name(DMARC, Trouble::Servfail));
        })
        .await;
        assert_row(net, Who::Unproven, &row("trust_dns_temporary", signed())).await;

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
    let content = signed();
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
    let row = Row::new("nta_header_missing", "content", signed()).from(FROM);
    assert_row(net, Who::Unproven, &row).await;
    let content = format!("{NTA}{}", signed());
    let (_, kept) = taken(net, Who::Unproven, FROM, &content).await;
    assert!(kept.ends_with(&content), "{kept}");

    let own = &net.provider("a").unwrap().placed.certificate;
    let bare = format!("From: <alice@a.nl>\r\n\r\n{BODY}");
    assert_row(net, Who::Peer(own), &Row::new("nta_header_missing", "content", bare.clone())).await;
    change(net, |tree| {
        tree.fault(Fault::name("_dmarc.a.nl", Trouble::Servfail));
    })
    .await;
    let (id, removed) = taken(net, Who::Peer(own), "alice@a.nl", &format!("x-nta7516 : no\r\n{bare}")).await;
    assert!(removed.ends_with(&bare) && !removed.to_lowercase().contains("x-nta7516"), "{removed}");
    assert!(removed.contains("Federation-Assurance: mutual") && removed.contains("dkim=none"), "{removed}");
    let shown = net.node("b").unwrap().ask(&["spool", "show", &id]).await.unwrap();
    let records = shown["records"].as_array().unwrap();
    let record = records.iter().find(|record| record["direction"] == "inbound").unwrap();
    let trust = &record["trust"];
    assert_eq!(trust["nta_headers"][0], "x-nta7516: no", "{record}");
    assert!(trust["spf"].is_string() && trust["dmarc"] == "temperror", "{record}");
    assert!(removed.contains("dmarc=temporary"), "{removed}");
}
