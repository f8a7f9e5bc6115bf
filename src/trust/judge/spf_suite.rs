//! The RFC 7208 test suite, as facts: `spf_suite.txt` says where it is from.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use super::names::testing::Table;
use super::names::{Found, Mark};
use super::*;
use crate::discovery::OwnerName;
use crate::model::Address;

const SUITE: &str = include_str!("spf_suite.txt");

/// Where we say something else, and why that is meant.
const OTHERWISE: &[(&str, &str)] = &[
    ("a-colon-domain", COLON),
    ("a-colon-domain-ip4mapped", COLON),
    ("mx-colon-domain", COLON),
    ("mx-colon-domain-ip4mapped", COLON),
    ("bytes-bug", PTR),
    ("mech-at-limit", PTR),
    ("p-macro-multiple", PTR),
    ("ptr-case-change", PTR),
    ("ptr-cname-loop", PTR),
    ("ptr-limit", PTR),
    ("ptr-match-implicit", PTR),
    ("ptr-match-ip6", PTR),
    ("ptr-match-target", PTR),
    ("ptr-nomatch-invalid", PTR),
];
const COLON: &str = "the parser of `mail-auth` takes no second colon; no host has such a name";
const PTR: &str = "`ptr` and `%{p}` are not evaluated: reverse names prove nothing";

struct Case<'s> {
    id: &'s str,
    ip: IpAddr,
    helo: &'s str,
    sender: &'s str,
    right: Vec<&'s str>,
}

/// The zone of a scenario, and its questions.
type Scenario<'s> = (Table, Vec<Case<'s>>);

fn read() -> Vec<Scenario<'static>> {
    let mut scenarios: Vec<Scenario<'static>> = Vec::new();
    let mut aliases = Vec::new();
    for line in SUITE.lines().filter(|line| !line.starts_with('#')) {
        let (kind, rest) = line.split_once(' ').unwrap();
        if kind == "scenario" {
            scenarios.push((Table::default(), Vec::new()));
            continue;
        }
        let (table, cases) = scenarios.last_mut().unwrap();
        if kind == "case" {
            let [id, ip, helo, sender, right] = rest.split('\t').collect::<Vec<_>>().try_into().unwrap();
            let ip = ip.parse().unwrap();
            cases.push(Case { id, ip, helo, sender, right: right.split(',').collect() });
            continue;
        }
        let (name, rest) = rest.split_once('\t').unwrap();
        // As the table is asked.
        let name = name.parse::<OwnerName>().map_or_else(|_| name.to_owned(), |name| name.to_string());
        let name = name.as_str();
        match rest.split_once(' ').unwrap_or((rest, "")) {
            ("CNAME", target) => {
                let target = target.trim_end_matches('.').to_ascii_lowercase();
                aliases.push((scenarios.len() - 1, name.to_owned(), target));
            }
            ("TIMEOUT", _) => silence(table, name),
            ("TXT", data) => text(table, name, octets(data)),
            // A host that is none: the names of the suite are not all names.
            ("MX", host) if host.parse::<OwnerName>().is_err() => {
                table.mx.entry(name.to_owned()).or_insert_with(|| Found::Some(Vec::new(), Mark::Proven));
            }
            _ => table.add(name, rest),
        }
    }
    for (scenario, name, target) in aliases {
        follow(&mut scenarios[scenario].0, &name, &target);
    }
    scenarios
}

fn text(table: &mut Table, name: &str, data: Vec<u8>) {
    let found = table.txt.entry(name.to_owned()).or_insert_with(|| Found::Some(Vec::new(), Mark::Proven));
    if let Found::Some(all, _) = found {
        all.push(data);
    }
}

/// Whatever is not known at this name is not answered.
fn silence(table: &mut Table, name: &str) {
    let trouble = || "timeout".to_owned();
    table.txt.entry(name.to_owned()).or_insert_with(|| Found::Trouble(trouble()));
    table.mx.entry(name.to_owned()).or_insert_with(|| Found::Trouble(trouble()));
    table.addresses.entry(name.to_owned()).or_insert_with(|| Found::Trouble(trouble()));
}

/// A resolver follows aliases; the table has the end of the chain. A chain without one is trouble.
fn follow(table: &mut Table, name: &str, target: &str) {
    if name == target || target.starts_with("cname.") {
        return silence(table, name);
    }
    if let Some(found) = table.txt.get(target).cloned() {
        table.txt.insert(name.to_owned(), found);
    }
    if let Some(found) = table.addresses.get(target).cloned() {
        table.addresses.insert(name.to_owned(), found);
    }
}

fn octets(data: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = data;
    while let Some((before, after)) = rest.split_once("\\x") {
        octets.extend_from_slice(before.as_bytes());
        let (hex, after) = after.split_at(2);
        octets.push(u8::from_str_radix(hex, 16).unwrap());
        rest = after;
    }
    octets.extend_from_slice(rest.as_bytes());
    octets
}

/// Proves: +IDEN-016 -IDEN-016
#[tokio::test]
async fn the_rfc_7208_suite() {
    let (mut judged, mut elsewhere) = (0, Vec::new());
    let mut wrong = BTreeMap::new();
    for (mut table, cases) in read() {
        for case in cases {
            let mail_from = if case.sender.is_empty() {
                ReversePath::Null
            } else if let Ok(address) = case.sender.parse::<Address>() {
                ReversePath::Address(address)
            } else {
                // No MAIL command with such an address is taken, so nobody asks about it.
                elsewhere.push(case.id);
                continue;
            };
            judged += 1;
            let client = spf::Client {
                ip: case.ip,
                helo: &GivenName::read(case.helo),
                mail_from: &mail_from,
                host: &"nta.b.nl".parse().unwrap(),
            };
            let outcome = spf::check(&mut table, &client).await;
            let word = outcome.result.word.to_string();
            if !case.right.contains(&word.as_str()) {
                wrong.insert(case.id, format!("{word} instead of {:?}: {}", case.right, outcome.detail));
            }
        }
    }
    let expected: BTreeMap<_, _> = OTHERWISE.iter().copied().collect();
    let unexpected: BTreeMap<_, _> = wrong.iter().filter(|(id, _)| !expected.contains_key(*id)).collect();
    assert!(unexpected.is_empty(), "{unexpected:#?}");
    let mended: Vec<_> = expected.keys().filter(|id| !wrong.contains_key(*id)).collect();
    assert!(mended.is_empty(), "no longer otherwise: {mended:?}");
    assert_eq!((judged, elsewhere.len()), (198, 5), "{elsewhere:?}");
}
