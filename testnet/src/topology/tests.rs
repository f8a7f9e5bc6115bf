#![allow(clippy::unwrap_used)]

use super::*;

const GOOD: &str = r#"
about = "one"
[[provider]]
id = "a"
name = "A"
domains = ["a.nl"]
hosts = ["nta.a.nl"]
[[provider]]
id = "b"
name = "B"
domains = ["b.nl"]
hosts = ["nta.b.nl"]
played_by = "testnet"
client_certificate = { of = "a" }
[[message]]
from = ""
to = "bob@a.nl"
sent_by = "b"
expect = { outcome = "refused", code = 550, reason = "null_sender_not_report" }
[[fault]]
zone = "b.nl"
trouble = "unsigned"
"#;

#[test]
fn the_built_in_topologies_are_good_and_name_reasons_of_the_spec() {
    let table = include_str!("../../../spec/05-failures.md");
    for topology in Topology::built_in_names().filter_map(Topology::built_in) {
        for message in topology.expected() {
            let reason = message.expect.reason();
            assert!(reason.is_none_or(|word| table.contains(&format!("| `{word}` |"))), "{message:?}");
            assert!(topology.sender_of(&message).is_some());
        }
    }
}

#[test]
fn a_topology_survives_being_written_and_read() {
    for topology in [GOOD.parse().unwrap(), Topology::three_providers(), Topology::faults()] {
        let text = toml::to_string(&topology).unwrap();
        assert_eq!(text.parse::<Topology>().unwrap(), topology, "{text}");
    }
}

#[test]
fn every_pair_means_both_directions_and_not_oneself() {
    let pairs: Vec<_> = Topology::three_providers()
        .expected()
        .into_iter()
        .map(|message| (message.from, message.to))
        .collect();
    assert_eq!(pairs.len(), 6);
    assert!(pairs.contains(&("alice@c.nl".into(), "bob@a.nl".into())));
    assert!(!pairs.contains(&("alice@a.nl".into(), "bob@a.nl".into())));
}

#[test]
fn mistakes_are_refused_one_by_one() {
    for (good, bad, says) in [
        ("about = \"one\"", "about = \"one\"\ntypo = 1", "unknown field `typo`"),
        ("id = \"a\"", "id = \"a\"\ntypo = 1", "unknown field `typo`"),
        ("code = 550,", "code = 550, typo = 1,", "unknown field `typo`"),
        ("zone = \"b.nl\"", "zone = \"b.nl\"\ntypo = 1", "unknown field `typo`"),
        ("id = \"b\"", "id = \"a\"", "two providers"),
        ("id = \"b\"", "id = \"B b\"", "lower-case"),
        ("domains = [\"b.nl\"]", "domains = [\"a.nl\"]", "nta.b.nl"),
        ("domains = [\"b.nl\"]", "domains = [\"b.nl\", \"a.nl\"]", "`a.nl` is there already"),
        ("domains = [\"b.nl\"]", "domains = [\"b.nl\", \"X.nl\"]", "`X.nl` is not a domain name"),
        ("hosts = [\"nta.b.nl\"]", "hosts = []", "1 to 4 hosts"),
        ("hosts = [\"nta.b.nl\"]", "hosts = [\"nta.c.nl\"]", "below none"),
        ("name = \"B\"", "name = \"B;ntamx=1 x.nl\"", "the name stands"),
        ("played_by = \"testnet\"", "", "a node can't be told to misbehave"),
        ("{ of = \"a\" }", "{ of = \"z\" }", "no other provider `z`"),
        ("{ of = \"a\" }", "{ of = \"b\" }", "no other provider `b`"),
        ("id = \"b\"", "id = \"b\"\nrecord = { hosts_of = \"z\" }", "no other provider `z` to name hosts of"),
        ("to = \"bob@a.nl\"", "to = \"bob@b.nl\"", "no node is there"),
        ("sent_by = \"b\"", "sent_by = \"b\"\nthrough = \"b\"", "no node is there"),
        ("sent_by = \"b\"", "sent_by = \"a\"\nthrough = \"a\"", "finds its own way"),
        ("sent_by = \"b\"", "sent_by = \"z\"", "no provider sends it"),
        ("sent_by = \"b\"", "", "no provider sends it"),
        ("to = \"bob@a.nl\"", "to = \"bob\"", "`to` is not an address"),
        ("outcome = \"refused\"", "outcome = \"vanished\"", "vanished"),
        ("trouble = \"unsigned\"", "trouble = \"unsinged\"", "unsinged"),
    ] {
        assert!(GOOD.contains(good), "{good}");
        let error = GOOD.replacen(good, bad, 1).parse::<Topology>().unwrap_err().to_string();
        assert!(error.contains(says), "{bad}: {error}");
    }
    GOOD.parse::<Topology>().unwrap();
}

#[test]
fn records_stay_valid_whatever_the_year() {
    let prefix = crate::loopback::Prefix::pick(|| 0x7D04, &[]).unwrap();
    for now in ["2026-11-22T12:00:00Z", "2031-01-01T00:00:00Z", "2031-12-31T23:59:59Z"] {
        let plan = Plan::new(Topology::three_providers(), &prefix, now.parse().unwrap()).unwrap();
        let [record] = plan.nta_records(&plan.providers[0].provider).try_into().unwrap();
        let year: i32 = now[..4].parse().unwrap();
        let expected = format!(
            "v=NTA7516-1;startdate={}-01;enddate={}-12;provider=Provider A;ntamx=10 nta.a.nl",
            year - 1,
            year + 2
        );
        assert_eq!(record, expected);
    }
}

#[test]
fn a_plan_gives_each_host_its_address_and_records() {
    let prefix = crate::loopback::Prefix::pick(|| 0x7D05, &[]).unwrap();
    let plan =
        Plan::new(Topology::three_providers(), &prefix, "2026-11-22T12:00:00Z".parse().unwrap()).unwrap();
    assert_eq!(plan.dns.to_string(), "127.125.5.1:5353");
    assert_eq!(plan.providers[1].hosts, [("nta.b.nl".to_owned(), prefix.address(16))]);
    assert_eq!(plan.providers[1].private, prefix.address(23));
    let tree = plan.tree().unwrap();
    let names: Vec<String> = tree.names().map(|(name, _)| name).collect();
    for name in ["b.nl.", "clinic-b.nl.", "nta.b.nl.", "_2525._tcp.nta.b.nl.", "_smtp-client.nta.b.nl."] {
        assert!(names.iter().any(|there| there == name), "{name} in {names:?}");
    }
}

#[test]
fn built_in_topologies_have_names() {
    assert_eq!(Topology::built_in_names().next(), Some("three-providers"));
    assert_eq!(Topology::built_in("faults"), Some(Topology::faults()));
    assert_eq!(Topology::built_in("root-rolled"), Some(Topology::root_rolled()));
    assert_eq!(Topology::built_in("Faults"), None);
}
