//! What has to be published, what is live, and that no key is used before it can be seen.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use async_trait::async_trait;

use super::publish::{Dns, Live, Record, Seen, Type, compare, records, unpublished};
use super::reload::judge;
use crate::config::Config;
use crate::config::tests::{Bench, GOOD};
use crate::discovery::{OwnerName, TlsaSet, Txt};

/// A zone that a test writes. A name that is not in it is proven absent.
#[derive(Default)]
struct Zone {
    tlsa: HashMap<String, Seen<TlsaSet>>,
    txt: HashMap<String, Seen<Vec<Txt>>>,
}

#[async_trait]
impl Dns for Zone {
    async fn tlsa_at(&self, name: &OwnerName) -> Seen<TlsaSet> {
        self.tlsa.get(name.to_string().trim_end_matches('.')).cloned().unwrap_or(Seen::Absent)
    }

    async fn txt_at(&self, name: &OwnerName) -> Seen<Vec<Txt>> {
        self.txt.get(name.to_string().trim_end_matches('.')).cloned().unwrap_or(Seen::Absent)
    }
}

impl Zone {
    /// Publishes a record as an operator would copy it from the output.
    fn publish(&mut self, record: &Record) {
        match record.rtype {
            Type::Tlsa => {
                let mut set = match self.tlsa.remove(&record.name) {
                    Some(Seen::Secure(set)) => set,
                    _ => TlsaSet::default(),
                };
                let fields: Vec<&str> = record.data.split(' ').collect();
                let mut rdata: Vec<u8> = fields[..3].iter().map(|field| field.parse().unwrap()).collect();
                rdata.extend(octets(fields[3]));
                set.usable.extend(TlsaSet::from_rdata(&[rdata]).usable);
                self.tlsa.insert(record.name.clone(), Seen::Secure(set));
            }
            Type::Txt => {
                // The character-strings of a long text become one.
                let text = record.data.trim_matches('"').replace("\" \"", "").into_bytes();
                let entry = self.txt.entry(record.name.clone()).or_insert_with(|| Seen::Secure(Vec::new()));
                if let Seen::Secure(all) = entry {
                    all.push(Txt::new(vec![text]));
                }
            }
            Type::Mx => {}
        }
    }

    fn complete(config: &Config) -> Self {
        let mut zone = Self::default();
        records(config).iter().for_each(|record| zone.publish(record));
        zone
    }
}

fn octets(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

async fn states(config: &Config, zone: &Zone) -> Vec<(String, Live)> {
    compare(config, zone).await.into_iter().map(|(record, live)| (record.name, live)).collect()
}

const SERVER: &str = "_2025._tcp.nta-a.a.example";
const CLIENT: &str = "_smtp-client.nta-a.a.example";

/// Proves: +OPS-003
#[tokio::test]
async fn what_is_printed_and_published_is_live() {
    let bench = Bench::new();
    let config = bench.parse(GOOD).unwrap();
    let all = records(&config);
    let lines: Vec<String> = all.iter().map(ToString::to_string).collect();
    let digest = config.keys.keys()[0].certificate().tlsa_rdata();
    let nta = "v=NTA7516-1;startdate=2026-01;enddate=2028-12;provider=A;ntamx=10 nta-a.a.example;ntamx=20 nta-b.a.example";
    for line in [
        format!("a.example. IN TXT \"{nta}\""),
        format!("hospital.example. IN TXT \"{nta}\""),
        format!("{SERVER}. IN TLSA {digest}"),
        format!("{CLIENT}. IN TLSA {digest}"),
        "a.example. IN TXT \"v=spf1 a:nta-a.a.example a:nta-b.a.example -all\"".to_owned(),
        "a.example. IN MX 10 nta-a.a.example.".to_owned(),
    ] {
        assert!(lines.contains(&line), "{line} not in\n{}", lines.join("\n"));
    }
    let zone = Zone::complete(&config);
    assert!(states(&config, &zone).await.iter().all(|(_, live)| *live == Live::Published));
}

/// Proves: -OPS-003
#[tokio::test]
async fn every_difference_is_seen() {
    let bench = Bench::new();
    let config = bench.parse(GOOD).unwrap();
    let nothing = states(&config, &Zone::default()).await;
    assert_eq!(nothing.len(), 6);
    assert!(nothing.iter().all(|(_, live)| *live == Live::Missing));

    let mut zone = Zone::complete(&config);
    zone.tlsa.insert(SERVER.into(), Seen::Trouble("SERVFAIL".into()));
    zone.tlsa.insert(
        CLIENT.into(),
        Seen::Secure(TlsaSet::from_rdata(&[vec![3, 1, 1, 0], [[3, 1, 1], [9; 3]].concat()])),
    );
    zone.txt.insert("a.example".into(), Seen::NotSigned);
    let old = Txt::new(vec![b"v=NTA7516-1;startdate=2020-01;enddate=2021-12;provider=A".to_vec()]);
    let spf = Txt::new(vec![b"v=spf1 include:_spf.example -all".to_vec()]);
    zone.txt.insert("hospital.example".into(), Seen::Secure(vec![old, spf]));
    let found: HashMap<(String, usize), Live> = states(&config, &zone)
        .await
        .into_iter()
        .enumerate()
        .map(|(index, (name, live))| ((name, index), live))
        .collect();
    let of = |name: &str| -> Vec<&Live> {
        let mut all: Vec<_> = found.iter().filter(|((found, _), _)| found == name).collect();
        all.sort_by_key(|((_, index), _)| *index);
        all.into_iter().map(|(_, live)| live).collect()
    };
    assert_eq!(of(SERVER), [&Live::Unknown { trouble: "SERVFAIL".into() }]);
    assert!(matches!(of(CLIENT)[0], Live::Different { seen } if seen.len() == 2));
    assert_eq!(of("a.example"), [&Live::NotSigned, &Live::NotSigned]);
    assert!(matches!(of("hospital.example")[0], Live::Different { .. }));
    assert!(
        matches!(of("hospital.example")[1], Live::NotCompared { .. }) && !of("hospital.example")[1].differs()
    );
}

/// Two NTA records make a domain invalid (DISC-004), so a second one beside ours is a difference.
#[tokio::test]
async fn a_second_nta_record_is_a_difference() {
    let bench = Bench::new();
    let config = bench.parse(GOOD).unwrap();
    let mut zone = Zone::complete(&config);
    let second = Txt::new(vec![b"v=NTA7516-1;startdate=2026-01;enddate=2026-12;provider=X".to_vec()]);
    if let Some(Seen::Secure(all)) = zone.txt.get_mut("a.example") {
        all.push(second);
    }
    let found = states(&config, &zone).await;
    assert!(matches!(&found[0].1, Live::Different { seen } if seen.len() == 2));
}

fn with_second_key(text: &str) -> String {
    text.replace("chain = \"ours.pem\"\nkey = \"ours.key\"", "chain = \"second.pem\"\nkey = \"second.key\"")
}

/// Proves: +OPS-006 -OPS-006
#[tokio::test]
async fn t24_a_key_is_taken_only_when_both_its_records_are_visible() {
    let bench = Bench::new();
    let old = bench.parse(GOOD).unwrap();
    let new = bench.parse(&with_second_key(GOOD)).unwrap();
    let mut zone = Zone::complete(&old);
    let refusal = judge(&old, &new, &zone).await.unwrap_err();
    assert_eq!(refusal.problems.len(), 2);
    let wanted = new.keys.keys()[0].certificate().tlsa_rdata();
    assert!(refusal.problems[0].contains(&format!("{SERVER}. IN TLSA {wanted}")), "{refusal}");
    assert!(refusal.problems[1].contains(&format!("{CLIENT}. IN TLSA {wanted}")), "{refusal}");

    for record in records(&new).iter().filter(|record| record.name == SERVER) {
        zone.publish(record);
    }
    assert_eq!(
        judge(&old, &new, &zone).await.unwrap_err().problems.len(),
        1,
        "the client's record is still missing"
    );
    for record in records(&new).iter().filter(|record| record.name == CLIENT) {
        zone.publish(record);
    }
    let done = judge(&old, &new, &zone).await.unwrap();
    assert_eq!(done.changed, ["keys: the new value is in force"]);

    for state in [Seen::NotSigned, Seen::Trouble("bogus".into())] {
        zone.tlsa.insert(CLIENT.into(), state);
        assert_eq!(judge(&old, &new, &zone).await.unwrap_err().problems.len(), 1);
    }
}

#[tokio::test]
async fn a_key_in_use_is_not_asked_about() {
    let bench = Bench::new();
    let config = bench.parse(GOOD).unwrap();
    assert!(unpublished(&config, &config.keys, &Zone::default()).await.is_empty());
}

#[tokio::test]
async fn what_needs_a_restart_is_said() {
    let bench = Bench::new();
    let old = bench.parse(GOOD).unwrap();
    let text = GOOD
        .replace("state_dir = \"state\"", "state_dir = \"elsewhere\"")
        .replace("listen = [\"127.0.0.1:2025\"]", "listen = [\"127.0.0.1:2035\"]")
        .replace("recipients = 200", "recipients = 300");
    let done = judge(&old, &bench.parse(&text).unwrap(), &Zone::default()).await.unwrap();
    let needs = done.needs_restart.join("\n");
    for key in ["node.state_dir", "federation.listen", "spool", "control"] {
        assert!(needs.contains(key), "{key} not in {needs}");
    }
    assert_eq!(done.changed, ["limits: the new value is in force"]);
    let same = judge(&old, &old, &Zone::default()).await.unwrap();
    assert_eq!((same.changed.len(), same.needs_restart.len()), (0, 0));
}

/// Two keys of one domain, of which the second does not sign; and the RSA key is too long for one character-string.
fn with_signers(bench: &Bench, second_signs: bool) -> Config {
    let rsa = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
    let path = bench.path().with_file_name("rsa.pem");
    if !path.exists() {
        bench.write("rsa.pem", &rsa.unwrap().serialize_pem());
        bench.write("ed.pem", &rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem());
    }
    let key = |selector: &str, sign: bool| {
        format!(
            "[[dkim]]\ndomains = [\"a.example\"]\nselector = \"{selector}\"\nkey = \"{selector}.pem\"\nsign = {sign}\n"
        )
    };
    bench.parse(&[GOOD, &key("ed", true), &key("rsa", second_signs)].concat()).unwrap()
}

/// Proves: +SIGN-006 -SIGN-006
#[tokio::test]
async fn keys_that_sign_mail_are_printed_and_compared_by_what_they_mean() {
    let bench = Bench::new();
    let config = with_signers(&bench, false);
    let all = records(&config);
    let names: Vec<&str> = all.iter().map(|record| record.name.as_str()).collect();
    for name in ["ed._domainkey.a.example", "rsa._domainkey.a.example", "_dmarc.a.example"] {
        assert_eq!(names.iter().filter(|found| **found == name).count(), 1, "{name}");
    }
    assert!(!names.contains(&"_dmarc.hospital.example"));
    let rsa = all.iter().find(|record| record.name.starts_with("rsa.")).unwrap();
    assert!(rsa.data.split("\" \"").all(|string| string.len() <= 257) && rsa.data.contains("\" \""), "{rsa}");

    let zone = Zone::complete(&config);
    assert!(states(&config, &zone).await.iter().all(|(_, live)| *live == Live::Published));
    for (name, text, state) in [
        ("ed._domainkey.a.example", "v=DKIM1; k=ed25519; p=AAAA", "different"),
        ("_dmarc.a.example", "v=DMARC1; p=none", "different"),
        ("_dmarc.a.example", "v=DMARC1; p=quarantine; rua=mailto:x@a.example", "published"),
        ("_dmarc.a.example", "something", "missing"),
    ] {
        let mut zone = Zone::complete(&config);
        zone.txt.insert(name.into(), Seen::Secure(vec![Txt::new(vec![text.as_bytes().to_vec()])]));
        let found = states(&config, &zone).await;
        let live = &found.iter().find(|(found, _)| found == name).unwrap().1;
        assert_eq!(serde_json::to_value(live).unwrap()["state"], state, "{name} {text}");
    }
}

/// Proves: +SIGN-007 -SIGN-007
#[tokio::test]
async fn a_key_begins_to_sign_only_when_it_can_be_seen() {
    let bench = Bench::new();
    let (old, new) = (with_signers(&bench, false), with_signers(&bench, true));
    // In use already, or only published: nobody is asked.
    assert!(judge(&old, &old, &Zone::default()).await.is_ok());
    assert!(judge(&new, &old, &Zone::default()).await.is_ok());
    let refusal = judge(&old, &new, &Zone::default()).await.unwrap_err();
    assert_eq!(refusal.problems.len(), 1);
    assert!(refusal.problems[0].contains("rsa._domainkey.a.example. IN TXT \"v=DKIM1; k=rsa;"), "{refusal}");
    let done = judge(&old, &new, &Zone::complete(&new)).await.unwrap();
    assert_eq!(done.changed, ["dkim: the new value is in force"]);
}
