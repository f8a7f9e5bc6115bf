//! Every message of the built-in topologies, between real node processes: what arrives, what is refused, and why.
//!
//! Each topology runs once; each test looks at its lines. [`once::run`] has judged them against the topology already (the
//! reply, the record, the environment, and that no octet of content is where it must not be: `ok`); what a test expects it
//! says itself all the same, so that a topology that was changed by mistake is noticed.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value;
use testnet::net::once::Line;
use testnet::net::{Build, Home, Net, locate, once};
use testnet::topology::{Expectation, Level, Message, Signature, Topology};

/// A topology that has run.
struct Run {
    lines: Vec<Line>,
    /// What each node logged, by the `id` of its provider.
    logs: BTreeMap<String, Vec<Value>>,
}

static THREE_PROVIDERS: LazyLock<Run> = LazyLock::new(|| run(Topology::three_providers()));
static VARIATIONS: LazyLock<Run> = LazyLock::new(|| run(Topology::variations()));
static NTA7516: LazyLock<Run> = LazyLock::new(|| run(Topology::nta7516()));
static FAULTS: LazyLock<Run> = LazyLock::new(|| run(Topology::faults()));
static ROOT_ROLLED: LazyLock<Run> = LazyLock::new(|| run(Topology::root_rolled()));

fn run(topology: Topology) -> Run {
    let home = tempfile::tempdir().unwrap();
    let ids: Vec<_> = topology.providers.iter().map(|provider| provider.id.clone()).collect();
    let lines = tokio::runtime::Runtime::new().unwrap().block_on(async {
        let program = locate(None, Build::IfNeeded).await.unwrap();
        let net = Net::start(topology, &program, Home::Kept(home.path().to_owned()), |_| ()).await;
        let net = net.unwrap_or_else(|error| panic!("{error}"));
        let lines = once::run(&net, |_| ()).await;
        net.stop().await;
        lines
    });
    // Complete only now: a node logs a delivery after the environment has it.
    let log = |id: &str| {
        let printed = std::fs::read_to_string(home.path().join(id).join("log")).ok()?;
        Some(printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    };
    Run { lines, logs: ids.into_iter().filter_map(|id| Some((id.clone(), log(&id)?))).collect() }
}

impl Run {
    /// The line of what is `about` this, with everything as the topology expects.
    fn line(&self, about: &str) -> &Line {
        let line = self.lines.iter().find(|line| line.about == about);
        let line = line.unwrap_or_else(|| panic!("no message is about {about:?}"));
        assert!(line.ok, "{line:#?}");
        line
    }

    /// It arrived, octet for octet, at level mutual, and both sides say so.
    fn delivered(&self, about: &str) -> &Line {
        let line = self.line(about);
        assert!(line.delivered && line.peer_confirmed, "{line:#?}");
        assert_eq!(line.assurance.as_deref(), Some("mutual"));
        line
    }

    /// It was refused before any content, with this code and reason.
    fn refused(&self, about: &str, code: u16, reason: &str) -> &Line {
        let line = self.line(about);
        assert_eq!((line.code, line.reason.as_deref(), line.delivered), (Some(code), Some(reason), false));
        assert_eq!(line.record["outcome"], "refused");
        line
    }

    /// It waits; nothing of it has left.
    fn waits(&self, about: &str, reason: &str) -> &Line {
        let line = self.line(about);
        assert_eq!((line.code, line.reason.as_deref(), line.delivered), (None, Some(reason), false));
        assert_eq!(line.record["outcome"], "later");
        assert_eq!(line.record["content_left"], "never");
        line
    }

    /// The finished attempts and transactions in the log of a node, as (direction, outcome).
    fn ended(&self, id: &str) -> Vec<(&str, &str)> {
        let ended = self.logs[id].iter().filter(|line| line["message"] == "attempt ended");
        ended.map(|line| (line["direction"].as_str().unwrap(), line["outcome"].as_str().unwrap())).collect()
    }
}

// ------------------------------------------------------------------------------------------- what is in order

/// Proves: +IDEN-001 +IDEN-002 +IDEN-003 +IDEN-005 +IDEN-009 +IDEN-010 +IDEN-013 +SUBM-002 +SUBM-003 +HAND-006
#[test]
fn six_messages_between_three_providers_arrive_at_level_mutual_and_confirmed() {
    assert_eq!(THREE_PROVIDERS.lines.len(), 6);
    for (from, to) in [("a", "b"), ("a", "c"), ("b", "a"), ("b", "c"), ("c", "a"), ("c", "b")] {
        let line = THREE_PROVIDERS.delivered(&format!("{from} to {to}"));
        assert_eq!(line.transport, "smtp");
        assert!(line.latency_ms.is_some());
        let host = &line.record["hosts"][0];
        assert_eq!(host["tls"]["authenticated_by"], "dane 3 1 1");
        assert_eq!(host["tls"]["client_certificate_sent"], true);
        assert_eq!(host["peer_confirmed"]["level"], "mutual");
    }
}

/// Proves: +JUDGE-005 +SIGN-001
#[test]
fn each_line_tells_who_sent_it_and_what_the_message_proved() {
    for (from, to) in [("a", "b"), ("b", "a")] {
        let verdicts = THREE_PROVIDERS.delivered(&format!("{from} to {to}")).verdicts.as_ref().unwrap();
        assert_eq!((verdicts.rule.as_str(), verdicts.text().as_str()), ("dane", "pass/pass/pass"));
        assert_eq!(verdicts.client, [format!("nta.{from}.nl")]);
        assert_eq!(verdicts.signatures, [format!("pass d={from}.nl"), format!("pass d={from}.nl")]);
    }
}

/// Proves: +IDEN-016 -IDEN-016 +IDEN-002
#[test]
fn at_the_lower_level_the_message_proves_its_sender() {
    for (about, signatures) in [("a to b", 2), ("b to a", 2), ("another vendor's client", 1)] {
        let line = NTA7516.line(about);
        assert_eq!((line.delivered, line.assurance.as_deref()), (true, Some("nta7516")));
        let verdicts = line.verdicts.as_ref().unwrap();
        assert_eq!((verdicts.rule.as_str(), verdicts.text().as_str()), ("message", "pass/pass/pass"));
        assert_eq!((verdicts.client.len(), verdicts.signatures.len()), (0, signatures), "{verdicts:?}");
    }
    for about in ["unsigned", "signed by another provider only"] {
        NTA7516.refused(about, 550, "dkim_failed");
    }
}

/// Proves: -JUDGE-005
#[test]
fn a_proven_client_without_a_signature_of_its_domain_is_refused() {
    for about in ["another vendor's client, unsigned", "signed by another peer only"] {
        FAULTS.refused(about, 550, "dkim_failed");
    }
    assert_eq!(FAULTS.delivered("another vendor's client").verdicts.as_ref().unwrap().dkim, "pass");
}

/// Each message crosses four borders, and each crossing is on record once.
/// Proves: +REC-001
#[test]
fn every_transaction_and_attempt_leaves_one_record() {
    for id in ["a", "b", "c"] {
        let mut ended = THREE_PROVIDERS.ended(id);
        ended.sort_unstable();
        let twice = |what: (&'static str, &'static str)| [what; 2];
        let expected = [
            twice(("handoff", "delivered")),
            twice(("inbound", "accepted")),
            twice(("outbound", "delivered")),
            twice(("submission", "accepted")),
        ];
        assert_eq!(ended, expected.concat(), "{id}");
    }
}

/// Proves: +REC-005
#[test]
fn lab_settings_stand_in_every_record() {
    for record in THREE_PROVIDERS.lines.iter().map(|line| &line.record) {
        let weakened: Vec<_> = record["policy"]["weakened"].as_array().unwrap().iter().collect();
        assert_eq!(weakened, ["lab.peer_port=2525", "lab.private_peer_addresses"]);
    }
    for line in THREE_PROVIDERS.logs.values().chain(FAULTS.logs.values()).flatten() {
        if line["message"] == "attempt ended" {
            assert_eq!(line["weakened"], "lab.peer_port=2525 lab.private_peer_addresses", "{line}");
        }
    }
}

/// Proves: +SMTP-024 +DISC-011
#[test]
fn a_host_that_cannot_be_used_is_followed_by_the_next() {
    let record = &VARIATIONS.delivered("a to b").record;
    let hosts: Vec<_> = record["hosts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|host| (host["host"].as_str().unwrap(), host["reason"].as_str()))
        .collect();
    assert_eq!(hosts, [("nta-1.b.nl", Some("dns_servfail")), ("nta-2.b.nl", None)]);
}

/// Proves: +IDEN-012
#[test]
fn pinned_keys_hold_in_both_roles() {
    let out = &VARIATIONS.delivered("c to a").record;
    assert_eq!(out["policy"]["rule"], "pinned");
    assert_eq!(out["policy"]["peer"], "a");
    VARIATIONS.delivered("a to c");
    let inbound = VARIATIONS.logs["c"].iter().find(|line| line["direction"] == "inbound").unwrap();
    assert_eq!(inbound["authenticated_by"], "pinned", "{inbound}");
}

/// Proves: +DISC-010
#[test]
fn a_record_without_hosts_leads_to_the_mx_hosts() {
    let record = &VARIATIONS.delivered("a to d").record;
    assert_eq!(record["discovery"]["source"], "mx");
    VARIATIONS.delivered("d to a");
}

/// Proves: +DISC-016
#[test]
fn mail_for_our_own_domain_stays_at_home() {
    assert!(VARIATIONS.line("stays at home").delivered);
    let outbound = VARIATIONS.logs["a"].iter().filter(|line| line["direction"] == "outbound").count();
    assert_eq!(outbound, 3, "one to each other provider, none to itself");
}

#[test]
fn no_line_of_any_topology_is_other_than_expected() {
    for run in [&THREE_PROVIDERS, &VARIATIONS, &NTA7516, &FAULTS, &ROOT_ROLLED] {
        let bad: Vec<_> = run.lines.iter().filter(|line| !line.ok).collect();
        assert!(bad.is_empty(), "{bad:#?}");
    }
}

/// The judge itself: what is not as expected must not pass.
#[test]
fn wrong_expectations_are_noticed() {
    let mut topology = Topology::three_providers();
    let refused = Expectation::Refused { code: 550, reason: "zone_insecure".into() };
    let later = Expectation::Later { reason: "tlsa_absent".into() };
    let delivered = Expectation::Delivered { assurance: Level::Mutual };
    topology.providers.truncate(2);
    topology.every_pair = None;
    topology.messages = [
        ("bob@b.nl", Expectation::Delivered { assurance: Level::Nta7516 }, "the record says level"),
        ("bob@b.nl", refused.clone(), "instead of refused with 550"),
        ("bob@b.nl", later, "the record says \"delivered\" instead of later"),
        ("bob@nowhere.nl", refused, "the reply does not name zone_insecure"),
        (
            "bob@nowhere.nl",
            Expectation::Refused { code: 451, reason: "domain_unknown".into() },
            "instead of 451",
        ),
        ("bob@nowhere.nl", delivered, "refused at RCPT: 550"),
    ]
    .map(|(to, expect, problem)| Message {
        about: problem.into(),
        from: "alice@a.nl".into(),
        to: to.into(),
        header_from: None,
        signature: Signature::Own,
        sent_by: None,
        through: None,
        expect,
    })
    .to_vec();
    let lines = run(topology).lines;
    assert_eq!(lines.len(), 6);
    for line in lines {
        assert!(!line.ok && line.problems.iter().any(|problem| problem.contains(&line.about)), "{line:#?}");
    }
}

// ------------------------------------------------------------------------------------------- what submission refuses

/// Proves: -SUBM-002
#[test]
fn the_platform_cannot_speak_for_foreign_domains() {
    FAULTS.refused("own platform, foreign domain", 550, "sender_not_allowed");
    FAULTS.refused("own platform, foreign From", 550, "sender_not_allowed");
}

/// Proves: -SUBM-003 -DNS-001 -DNS-003 -DISC-004 -DISC-006 -DISC-007 -DISC-013
#[test]
fn t25_a_domain_that_takes_no_part_is_refused_at_once() {
    for (about, reason) in [
        ("a domain that does not exist", "domain_unknown"),
        ("recipient without NTA record", "record_absent"),
        ("unsigned zone with a record", "zone_insecure"),
        ("NTA record expired", "record_expired"),
        ("NTA record not yet valid", "record_not_yet_valid"),
        ("NTA record with month 13", "record_invalid"),
        ("NTA record of the older draft", "record_legacy"),
        ("two NTA records", "record_several"),
    ] {
        FAULTS.refused(about, 550, reason);
    }
}

/// Proves: +SUBM-004 -DNS-002
#[test]
fn t16_what_cannot_be_judged_now_is_kept_by_the_platform() {
    FAULTS.refused("bogus zone", 451, "dns_bogus");
    FAULTS.refused("expired signature", 451, "dns_bogus");
    FAULTS.refused("REFUSED instead of an NTA record", 451, "dns_refused");
}

/// Proves: +DNS-006 -DNS-006
#[test]
fn a_root_key_that_nobody_knows_delays_everything_and_names_the_operator() {
    for about in ["a to b", "b to a"] {
        let line = ROOT_ROLLED.refused(about, 451, "dns_root_key");
        assert_eq!(line.record["requirement"], "DNS-006");
    }
}

// ------------------------------------------------------------------------------------------- hosts that are left

/// Proves: -DANE-005 -DANE-003 -DNS-002
#[test]
fn t16_a_host_without_usable_keys_is_not_connected_to() {
    FAULTS.waits("SERVFAIL on TLSA", "dns_servfail");
    FAULTS.waits("no TLSA", "tlsa_absent");
    FAULTS.waits("malformed TLSA", "tlsa_unusable");
}

/// Proves: -DNS-001
#[test]
fn t17_a_host_in_an_unsigned_zone_is_not_connected_to() {
    FAULTS.waits("host in an unsigned zone", "host_insecure");
}

/// Proves: -DISC-016
#[test]
fn t30_a_domain_that_names_our_own_host_makes_no_loop() {
    FAULTS.waits("names our own host", "host_is_self");
}

/// Proves: -DANE-006 -SMTP-004 -TLS-001 -IDEN-003
#[test]
fn t16_a_server_that_fails_a_check_hears_of_no_message() {
    FAULTS.waits("wrong TLSA digest", "tlsa_mismatch");
    FAULTS.waits("no STARTTLS", "starttls_absent");
    FAULTS.waits("TLS 1.1 only", "tls_handshake");
    FAULTS.waits("asks for no client certificate", "client_certificate_not_requested");
}

// ------------------------------------------------------------------------------------------- clients that are refused

/// Proves: +SMTP-017 +IDEN-004
#[test]
fn a_sound_client_that_is_no_sluis_is_taken() {
    FAULTS.delivered("another vendor's client");
}

/// Proves: -SMTP-017
#[test]
fn there_is_no_relay() {
    let line = FAULTS.refused("asks for relay", 550, "relay_denied");
    assert!(line.peer_confirmed, "the client is known, and refused all the same");
}

/// Proves: -IDEN-002 -IDEN-004 -IDEN-008
#[test]
fn a_client_that_proves_no_name_is_refused_and_gets_no_confirmation() {
    for (about, code, reason) in [
        ("no client certificate", 550, "client_identity_absent"),
        ("client certificate without TLSA", 550, "client_tlsa_absent"),
        ("client certificate whose TLSA is bogus", 451, "client_identity_temporary"),
        ("client certificate that matches no TLSA", 451, "client_tlsa_mismatch"),
    ] {
        let line = FAULTS.refused(about, code, reason);
        assert!(!line.peer_confirmed, "{line:#?}");
    }
}

/// Proves: -IDEN-009 -IDEN-010 -IDEN-013 -IDEN-015
#[test]
fn t10_a_proven_client_speaks_for_its_own_domains_only() {
    for (about, reason) in [
        ("client certificate of another peer", "client_not_of_sender"),
        ("sends as another peer's domain", "client_not_of_sender"),
        ("From of another peer", "from_not_of_sender"),
        ("null sender with a foreign From", "from_not_of_sender"),
        ("sender without NTA record", "sender_not_federated"),
    ] {
        let line = FAULTS.refused(about, 550, reason);
        assert!(line.peer_confirmed, "{line:#?}");
    }
}

// ------------------------------------------------------------------------------------------- records

/// Requirement, code and the moment are those of the reason's row in the page that other vendors read.
/// Proves: -REC-001 +REC-002 -REC-002
#[test]
fn every_refusal_is_on_record_once_with_the_row_of_its_reason() {
    let page = include_str!("../../spec/05-failures.md");
    let row = |reason: &str| -> Vec<&str> {
        let start = format!("| `{reason}` |");
        let row = page.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("{reason}"));
        row.split('|').map(str::trim).collect()
    };
    for line in FAULTS.lines.iter().chain(&ROOT_ROLLED.lines).filter(|line| !line.delivered) {
        let reason = line.reason.as_deref().unwrap();
        let [_, _, requirement, outbound, reply, _, content, ..] = row(reason)[..] else {
            panic!("{reason}")
        };
        assert_eq!(line.record["requirement"], requirement, "{line:#?}");
        assert_eq!((&line.record["content_left"], content), (&Value::from("never"), "never"));
        match line.code {
            Some(code) => assert!(reply.starts_with(&format!("`{code} ")), "{line:#?}"),
            None => assert!(outbound.ends_with("later"), "{line:#?}"),
        }
    }
    for (id, direction) in [("a", "submission"), ("b", "inbound")] {
        let refused = FAULTS.lines.iter().filter(|line| line.code.is_some());
        let expected = refused.filter(|line| line.record["direction"] == direction).count();
        let on_record = FAULTS.ended(id).into_iter().filter(|ended| *ended == (direction, "refused")).count();
        assert_eq!(on_record, expected);
        assert!(expected > 5);
    }
}

/// Proves: +OPS-008
#[test]
fn no_log_says_who_writes_to_whom_or_what() {
    for line in FAULTS.logs.values().chain(THREE_PROVIDERS.logs.values()).flatten() {
        let text = line.to_string();
        for word in ["alice", "bob", "carol", "mallory", "punt vooraan"] {
            assert!(!text.contains(word), "{text}");
        }
    }
}
