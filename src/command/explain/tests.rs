//! Five answers that a newcomer can tell apart, and no terminal tricks.
#![allow(clippy::unwrap_used)]

use super::render::render;
use crate::model::{
    AttemptId, Confirmation, DecisionRecord, Direction, DnsFact, HostFacts, IdentityRule, Level, Outcome,
    Reason, TlsFacts,
};

fn fact(rtype: &str, name: &str, verdict: &str, records: usize) -> DnsFact {
    DnsFact { name: name.into(), rtype: rtype.into(), verdict: verdict.into(), records, cached: false }
}

fn begun() -> DecisionRecord {
    let started = "2026-11-22T12:00:00Z".parse().unwrap();
    let mut record = DecisionRecord::begin(AttemptId::from_parts(1, 2), Direction::Outbound, started);
    record.peer_domain = Some("b.example".parse().unwrap());
    record.policy.floor = Some(Level::Mutual);
    record
}

fn good() -> DecisionRecord {
    let mut record = begun();
    record.outcome = Outcome::WouldDeliver;
    record.assurance = Some(Level::Mutual);
    let facts = &mut record.discovery;
    facts.verdict = Some("federated".into());
    facts.startdate = Some("2026-01".into());
    facts.enddate = Some("2028-12".into());
    facts.provider = Some("Provider B".into());
    facts.source = Some("ntamx".into());
    facts.hosts = vec![(10, "nta-b.b.example".parse().unwrap())];
    facts.dns = vec![
        fact("TXT", "b.example", "secure", 1),
        fact("A", "nta-b.b.example", "secure", 1),
        fact("AAAA", "nta-b.b.example", "secure_absent", 0),
        fact("TLSA", "_2025._tcp.nta-b.b.example", "secure", 2),
    ];
    record.hosts = vec![HostFacts {
        host: "nta-b.b.example".into(),
        preference: Some(10),
        address: Some("127.2.0.1:2025".into()),
        tlsa: vec!["3 1 1".into(), "2 0 1".into()],
        tlsa_unusable: 1,
        tls: Some(TlsFacts {
            version: "TLSv1.3".into(),
            cipher: "TLS13_AES_256_GCM_SHA384".into(),
            group: Some("X25519MLKEM768".into()),
            authenticated_by: Some("dane 3 1 1".into()),
            client_certificate_sent: Some(true),
            ..TlsFacts::default()
        }),
        ehlo: ["PIPELINING", "SIZE 67108864", "CHUNKING"].map(String::from).to_vec(),
        peer_confirmed: Some(Confirmation {
            level: Level::Mutual,
            names: vec!["nta-a.a.example".parse().unwrap()],
        }),
        ..HostFacts::default()
    }];
    record.policy.rule = Some(IdentityRule::Dane);
    record.policy.weakened = vec!["lab.peer_port=2025".into()];
    record
}

fn failed(outcome: Outcome, reason: Reason, requirement: &str, dns: Vec<DnsFact>) -> DecisionRecord {
    let mut record = begun();
    record.outcome = outcome;
    record.reason = Some(reason);
    record.requirement = Some(requirement.into());
    record.discovery.verdict = Some(reason.as_str().into());
    record.discovery.dns = dns;
    record
}

#[test]
fn a_good_domain() {
    insta::assert_snapshot!("good", render("jan@b.example", &good()));
}

#[test]
fn dns_only_promises_no_more_than_dns_can() {
    let mut record = good();
    record.assurance = None;
    record.hosts[0].tls = None;
    record.hosts[0].ehlo.clear();
    record.hosts[0].peer_confirmed = None;
    insta::assert_snapshot!("dns_only", render("jan@b.example", &record));
}

#[test]
fn an_unsigned_domain() {
    let dns = vec![fact("TXT", "b.example", "insecure", 1)];
    let record = failed(Outcome::Returned, Reason::ZoneInsecure, "DNS-001", dns);
    insta::assert_snapshot!("unsigned", render("jan@b.example", &record));
}

#[test]
fn a_bogus_domain() {
    let dns = vec![fact("TXT", "b.example", "dns_bogus", 0)];
    let mut record = failed(Outcome::Later, Reason::DnsBogus, "DNS-002", dns);
    record.detail = Some("the signature over b.example TXT expired on 2026-11-01".into());
    insta::assert_snapshot!("bogus", render("jan@b.example", &record));
}

#[test]
fn an_unknown_domain() {
    let dns = vec![fact("TXT", "b.example", "secure_absent", 0)];
    let record = failed(Outcome::Returned, Reason::DomainUnknown, "DNS-003", dns);
    insta::assert_snapshot!("unknown", render("jan@b.example", &record));
}

#[test]
fn a_server_with_the_wrong_certificate() {
    let mut record = good();
    record.outcome = Outcome::Later;
    record.assurance = None;
    record.reason = Some(Reason::TlsaMismatch);
    record.requirement = Some("DANE-008".into());
    record.acts = Some("peer".into());
    record.warnings = vec!["there are blanks around ';' or '='".into()];
    let host = &mut record.hosts[0];
    host.reason = Some(Reason::TlsaMismatch);
    host.step = Some("tls".into());
    host.detail = Some("key sha256:1234 matches none of 2 records".into());
    host.tls = None;
    host.ehlo.clear();
    host.peer_confirmed = None;
    insta::assert_snapshot!("wrong_certificate", render("jan@b.example", &record));
}

#[test]
fn words_of_others_do_not_move_the_cursor() {
    let mut record = good();
    record.discovery.provider = Some("\u{1b}[2J evil \r\n ok".into());
    record.reason = Some(Reason::PeerPermanent);
    record.detail = Some("\u{1b}]0;title\u{7}".into());
    record.hosts[0].ehlo = vec!["X\u{9b}31m".into()];
    let text = render("jan@b.example", &record);
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
}
