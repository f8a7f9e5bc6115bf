//! Rows of the way out: what is wrong with the other side's host, or what it says, or fails to say.

use std::net::IpAddr;
use std::time::Duration;

use testnet::dns::RrType;
use testnet::net::NodeProcess;
use tokio::time::timeout;

use super::support::{
    assert_record, assert_reported, configure, fake, first_attempt, nodes, pinned, plain, provider, submit,
    tripwire, with, with_net,
};

/// Proves: -SMTP-015
#[test]
fn what_the_other_sides_server_cannot_take_comes_back() {
    let server = |id: &str, manner: &str| {
        let played = format!("played_by = \"testnet\"\nserver = \"{manner}\"");
        provider(id, &[&format!("{id}.nl")], &played)
    };
    let servers =
        [server("good", "good"), server("seven", "seven_bit_only"), server("small", "small_messages_only")];
    with(&nodes("", &servers.concat()), async |net| {
        let plain = plain();
        let eight_bit = plain.replace('x', "gr\u{fc}n");
        for (id, local, content, reason, status) in [
            ("good", "b\u{f6}b", &eight_bit, "no_smtputf8", "5.6.7"),
            ("seven", "bob", &eight_bit, "no_8bitmime", "5.6.3"),
            ("small", "bob", &plain, "peer_size_limit", "5.3.4"),
        ] {
            let to = format!("{local}@{id}.nl");
            let message = submit(net, "a", "alice@a.nl", &to, content.as_bytes()).await;
            let record = net.node("a").unwrap().outbound_record(&message).await.unwrap();
            assert_record(&record, "returned", reason, "never");
            assert!(!fake(net, id).was_offered_mail(), "{id}: {:?}", fake(net, id).heard());
            assert_reported(net, &format!("@{id}.nl"), status).await;
        }
    });
}

/// The manners of a server, and what they lead to: manner, outcome of the attempt, reason, whether content may have left.
const MANNERS: [(&str, &str, &str, &str); 7] = [
    ("talks_nonsense", "later", "peer_protocol", "never"),
    ("hangs_up", "later", "connection_lost", "never"),
    ("refuses_recipients", "returned", "peer_permanent", "never"),
    ("busy_with_recipients", "later", "peer_temporary", "never"),
    ("refuses_content", "returned", "peer_permanent", "yes"),
    ("busy_with_content", "later", "peer_temporary", "yes"),
    ("loses_reply", "later", "reply_lost", "possibly"),
];

/// A provider for each manner: `m0`, `m1`, …
fn playing<'m>(manners: impl IntoIterator<Item = &'m str>) -> String {
    let play = |(number, manner): (usize, &str)| {
        let played = format!("played_by = \"testnet\"\nserver = \"{manner}\"");
        provider(&format!("m{number}"), &[&format!("m{number}.nl")], &played)
    };
    manners.into_iter().enumerate().map(play).collect()
}

/// Proves: -SMTP-016 -SMTP-022 +REC-002 -REC-002
#[test]
fn what_the_other_sides_server_says_or_fails_to_say_leads_to_its_row() {
    let topology = nodes("", &playing(MANNERS.map(|(manner, ..)| manner)));
    with(&topology, async |net| {
        for (number, (manner, outcome, reason, content_left)) in MANNERS.into_iter().enumerate() {
            let (_, record) = first_attempt(net, &format!("bob@m{number}.nl")).await;
            assert_record(&record, outcome, reason, content_left);
            // What the record says of the content is what the other side saw of it.
            let heard = fake(net, &format!("m{number}")).heard();
            let saw = heard.iter().any(|line| line.starts_with("content "));
            assert_eq!(saw, content_left != "never", "{manner}: {heard:?}");
        }
    });
}

/// Servers whose link is not one: manner, and the reason for leaving them.
const LINKS: [(&str, &str); 3] = [
    ("silent", "peer_timeout"),
    ("injects_after_starttls", "starttls_injection"),
    ("expired_certificate", "certificate_invalid"),
];

/// Proves: -SMTP-003 -SMTP-022 -DANE-007
#[test]
fn t03_a_server_that_is_not_fit_for_a_link_hears_of_no_message() {
    // Far more than a greeting takes, and far less than the silent one would be given.
    let topology = nodes("greeting_seconds = 10", &playing(LINKS.map(|(manner, _)| manner)));
    with(&topology, async |net| {
        for (number, (manner, reason)) in LINKS.into_iter().enumerate() {
            let (_, record) = first_attempt(net, &format!("bob@m{number}.nl")).await;
            assert_record(&record, "later", reason, "never");
            let server = fake(net, &format!("m{number}"));
            assert!(!server.was_offered_mail(), "{manner}: {:?}", server.heard());
        }
    });
}

/// Two domains behind one host: what the first one finds out, the second one need not.
/// Proves: -SMTP-027
#[test]
fn a_host_that_failed_too_often_is_left_alone() {
    let gone = provider("gone", &["gone.nl", "too.nl"], "played_by = \"nobody\"");
    // So long a rest that no machine is slow enough to see the end of it.
    let limits = "host_failures = 2, probe_first_seconds = 1_800, retry_first_seconds = 1_800";
    with(&nodes(limits, &gone), async |net| {
        for number in 0..2 {
            let (_, record) = first_attempt(net, &format!("bob{number}@gone.nl")).await;
            assert_record(&record, "later", "connection_lost", "never");
        }
        let touched = tripwire(net, "gone").touched();
        let (_, record) = first_attempt(net, "bob@too.nl").await;
        assert_record(&record, "later", "host_resting", "never");
        assert_eq!(tripwire(net, "gone").touched(), touched, "nobody knocks at a host that rests");
    });
}

/// Proves: -IDEN-012
#[test]
fn a_host_that_cannot_be_had_or_is_another_one_is_left() {
    with_net(async |net| {
        const HOST: &str = "nta.d.nl";
        let d = net.provider("d").unwrap();
        let silent = net.provider("c").unwrap().placed.private;
        let at = |address: Option<IpAddr>| {
            net.dns
                .update(|tree| {
                    tree.remove(HOST, RrType::A);
                    if let Some(address) = address {
                        tree.address(HOST, address);
                    }
                })
                .unwrap();
        };
        // Each change is followed by a reload, which forgets what DNS said.
        let same = |text: String| text;
        at(None);
        configure(net, "a", same).await;
        assert_record(&first_attempt(net, "bob@d.nl").await.1, "later", "host_no_address", "never");
        at(Some(silent));
        configure(net, "a", same).await;
        assert_record(&first_attempt(net, "bob@d.nl").await.1, "later", "connect_failed", "never");
        at(Some(d.placed.hosts[0].1));
        let other_key = pinned("d", HOST);
        configure(net, "a", |text| text + &other_key).await;
        let (id, record) = first_attempt(net, "bob@d.nl").await;
        assert_record(&record, "later", "pin_mismatch", "never");
        assert!(!fake(net, "d").was_offered_mail(), "{:?}", fake(net, "d").heard());

        // The operator gives it up.
        let node = net.node("a").unwrap();
        let before = node.printed().len();
        let returned = node.command(&["spool", "return", &format!("{id}.0")]).await.unwrap();
        assert!(returned.status.success(), "{returned:?}");
        let record = node.ended_attempt("outbound", "returned", before).await.unwrap();
        assert_record(&record, "returned", "operator_returned", "never");
    });
}

/// Proves: +SPOOL-010
#[test]
fn what_waited_too_long_comes_back() {
    let gone = provider("gone", &["gone.nl"], "played_by = \"nobody\"");
    with(&nodes("return_seconds = 10", &gone), async |net| {
        let node = net.node("a").unwrap();
        let before = node.printed().len();
        submit(net, "a", "alice@a.nl", "bob@gone.nl", plain().as_bytes()).await;
        let record = node.ended_attempt("outbound", "returned", before).await.unwrap();
        assert_record(&record, "returned", "queue_expired", "never");
        assert_reported(net, "bob@gone.nl", "4.4.7").await;
    });
}

/// A node that is killed in the middle of an attempt does not know how it ended, says so, and is cautious: the other side may
/// have it all. Here it can have nothing, since it never got as far as a greeting.
/// Proves: -SPOOL-006 -REC-002
#[test]
fn an_attempt_that_a_crash_cut_off_is_unknown() {
    let topology = nodes("stop_seconds = 1", &playing(["silent"]));
    with(&topology, async |net| {
        let id = submit(net, "a", "alice@a.nl", "bob@m0.nl", plain().as_bytes()).await;
        let node = net.node_mut("a").unwrap();
        timeout(Duration::from_secs(60), under_way(node)).await.unwrap();
        node.kill().await;
        node.restart().await.unwrap();
        let shown = node.ask(&["spool", "show", &id]).await.unwrap();
        let records = shown["records"].as_array().unwrap();
        let unknown: Vec<_> = records.iter().filter(|record| record["reason"] == "attempt_unknown").collect();
        assert_eq!(unknown.len(), 1, "{shown}");
        assert_eq!(unknown[0]["direction"], "outbound");
        assert_record(unknown[0], "unknown", "attempt_unknown", "possibly");
        assert!(fake(net, "m0").heard().is_empty(), "{:?}", fake(net, "m0").heard());
    });
}

/// Waits until an attempt is under way.
async fn under_way(node: &NodeProcess) {
    while node.ask(&["status"]).await.unwrap()["spool"]["attempting"] != 1 {}
}
