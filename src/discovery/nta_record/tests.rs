#![allow(clippy::unwrap_used)]
use std::collections::BTreeSet;

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Vectors {
    vector: Vec<Vector>,
}

/// One case of `spec/vectors/nta-record.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    id: String,
    #[allow(dead_code)]
    requirement: String,
    txt: Vec<Vec<String>>,
    at: Timestamp,
    verdict: String,
    reason: String,
    hosts: Option<Vec<(u16, String)>>,
    provider: Option<String>,
    #[serde(default)]
    dropped: usize,
    #[allow(dead_code)]
    note: String,
}

fn txt(strings: &[impl AsRef<[u8]>]) -> Txt {
    Txt::new(strings.iter().map(|string| string.as_ref().to_vec()).collect())
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn one(text: &str) -> Result<NtaRecord, NtaProblem> {
    parse(&[txt(&[text])], at("2026-11-22T12:00:00Z"))
}

fn record(tail: &str) -> String {
    format!("v=NTA7516-1;startdate=2026-01;enddate=2028-12;provider=Example{tail}")
}

/// Every case that another vendor's parser would be held to, too.
///
/// Proves: +DISC-002 -DISC-002 +DISC-003 -DISC-003 +DISC-004 -DISC-004 +DISC-005 -DISC-005 +DISC-006 -DISC-006
/// Proves: +DISC-007 -DISC-007 +DISC-008 -DISC-008 +DISC-009 -DISC-009 +DISC-011 +DISC-013 -DISC-013
#[test]
fn t25_the_vectors_of_the_specification() {
    let text = include_str!("../../../spec/vectors/nta-record.toml");
    let vectors: Vectors = toml::from_str(text).unwrap();
    assert!(vectors.vector.len() > 100, "the vectors were not found");
    let mut wrong = Vec::new();
    for vector in &vectors.vector {
        let set: Vec<_> = vector.txt.iter().map(|strings| txt(strings)).collect();
        let result = parse(&set, vector.at);
        let (verdict, reason) = result.as_ref().map_or_else(NtaProblem::words, |_| ("valid", "ok"));
        if (verdict, reason) != (vector.verdict.as_str(), vector.reason.as_str()) {
            wrong.push(format!(
                "{}: {verdict}/{reason} instead of {}/{}",
                vector.id, vector.verdict, vector.reason
            ));
            continue;
        }
        let Ok(found) = result else { continue };
        let mut hosts: Vec<_> =
            found.ntamx.iter().map(|(preference, host)| (*preference, host.to_string())).collect();
        hosts.sort();
        if Some(&hosts) != vector.hosts.as_ref() {
            wrong.push(format!("{}: hosts {hosts:?}", vector.id));
        }
        if found.provider != vector.provider.clone().unwrap_or_default() {
            wrong.push(format!("{}: provider {:?}", vector.id, found.provider));
        }
        if found.dropped.len() != vector.dropped {
            wrong.push(format!("{}: dropped {:?}", vector.id, found.dropped));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Proves: +DISC-007 -DISC-007
#[test]
fn months_are_those_of_amsterdam_in_winter_and_in_summer() {
    let set = |start: &str, end: &str| [txt(&[format!("v=NTA7516-1;startdate={start};enddate={end}")])];
    // 2026-07-01T00:00 in Amsterdam is 22:00 UTC of the day before; in January it is 23:00.
    for (first, last, before, begin, end, after) in [
        (
            "2026-07",
            "2026-07",
            "2026-06-30T21:59:59Z",
            "2026-06-30T22:00:00Z",
            "2026-07-31T21:59:59Z",
            "2026-07-31T22:00:00Z",
        ),
        (
            "2026-01",
            "2026-01",
            "2025-12-31T22:59:59Z",
            "2025-12-31T23:00:00Z",
            "2026-01-31T22:59:59Z",
            "2026-01-31T23:00:00Z",
        ),
    ] {
        let set = set(first, last);
        assert!(matches!(parse(&set, at(before)), Err(NtaProblem::NotYetValid { .. })), "{before}");
        assert!(parse(&set, at(begin)).is_ok(), "{begin}");
        assert!(parse(&set, at(end)).is_ok(), "{end}");
        assert!(matches!(parse(&set, at(after)), Err(NtaProblem::Expired { .. })), "{after}");
    }
}

/// Proves: +DISC-012 -DISC-012
#[test]
fn the_provider_decides_nothing_and_is_made_printable() {
    let plain = one("v=NTA7516-1;startdate=2026-01;enddate=2028-12;ntamx=10 a.example.nl").unwrap();
    let other =
        one("v=NTA7516-1;startdate=2026-01;enddate=2028-12;provider=ntamx=1 b.nl;ntamx=10 a.example.nl")
            .unwrap();
    assert_eq!((plain.start, plain.end, &plain.ntamx), (other.start, other.end, &other.ntamx));
    let shown = one("v=NTA7516-1;startdate=2026-01;enddate=2028-12;provider=a\r\nX: y\0").unwrap().provider;
    assert!(!shown.chars().any(char::is_control), "{shown:?}");
}

#[test]
fn warnings_name_what_was_tolerated_or_dropped() {
    let untidy = "V = NTA7516-1 ;; startdate=2026-01;enddate=2028-12;x=1;ntamx:a.example.nl;NTAMX=1 b_c.nl;ntamx=99999 a.nl";
    let found = one(untidy).unwrap();
    assert_eq!(
        found.dropped.iter().map(|entry| entry.why).collect::<Vec<_>>(),
        [DroppedBecause::Host, DroppedBecause::Preference]
    );
    let tolerated: BTreeSet<_> = found.tolerated.iter().cloned().collect();
    for one in [
        Tolerated::TagCase,
        Tolerated::Blanks,
        Tolerated::EmptyTag,
        Tolerated::NtamxColon,
        Tolerated::NoPreference,
        Tolerated::UnknownTag("x".into()),
    ] {
        assert!(tolerated.contains(&one), "{one}");
    }
    assert_eq!(found.warnings().len(), 8);
    assert!(one(&record(";ntamx=10 a.example.nl;")).unwrap().warnings().is_empty());
}

fn publish(provider: &str, hosts: &[(u16, &str)]) -> Publish {
    Publish {
        start: YearMonth::new(2026, 1).unwrap(),
        end: YearMonth::new(2028, 12).unwrap(),
        provider: provider.to_owned(),
        ntamx: hosts.iter().map(|(preference, host)| (*preference, host.parse().unwrap())).collect(),
    }
}

/// Proves: +DISC-014 -DISC-014
#[test]
fn what_is_published_has_one_spelling_and_fits_one_string() {
    let good = publish("Example", &[(10, "nta-a.example.nl"), (20, "nta-b.example.nl")]);
    assert_eq!(
        good.text().unwrap(),
        "v=NTA7516-1;startdate=2026-01;enddate=2028-12;provider=Example;ntamx=10 nta-a.example.nl;ntamx=20 nta-b.example.nl"
    );
    let hosts: Vec<_> = (0..9).map(|_| (10, "nta-a.example.nl")).collect();
    assert!(matches!(publish("Example", &hosts).text(), Err(PublishError::TooLong(_))));
    for provider in ["a;ntamx=1 evil.nl", "a\r\nb", " a", "a "] {
        assert_eq!(publish(provider, &[]).text(), Err(PublishError::Provider), "{provider:?}");
    }
    let mut reversed = publish("Example", &[]);
    std::mem::swap(&mut reversed.start, &mut reversed.end);
    assert!(matches!(reversed.text(), Err(PublishError::ReversedMonths(..))));
}

proptest! {
    /// The body of the fuzz target `nta_record`, on stable.
    #[test]
    fn any_octets_give_a_verdict(octets in prop::collection::vec(any::<u8>(), 0..600)) {
        fuzz(&octets);
    }

    #[test]
    fn anything_like_a_record_gives_a_verdict_of_printable_text(
        tail in "(;|startdate|enddate|ntamx|provider|v|=|:| |\t|20[0-9]{2}-[01][0-9]|[0-9]{1,6}|[a-z]{1,5}\\.nl|\\[::1\\]|\\PC|[\\x00-\\x1f]){0,24}"
    ) {
        fuzz(tail.as_bytes());
        fuzz(format!("v=NTA7516-1;{tail}").as_bytes());
    }

    /// Proves: +DISC-014
    #[test]
    fn what_is_published_is_read_back(
        provider in "[^;\\pC]{0,40}",
        hosts in prop::collection::vec((any::<u16>(), "[a-z0-9]{1,10}\\.[a-z]{2,6}"), 0..5),
        months in (1i16..=9999, 1i8..=12, 1i16..=9999, 1i8..=12),
    ) {
        let (one, other) = (YearMonth::new(months.0, months.1).unwrap(), YearMonth::new(months.2, months.3).unwrap());
        let hosts: Vec<_> = hosts.iter().map(|(preference, host)| (*preference, host.parse().unwrap())).collect();
        let published = Publish { start: one.min(other), end: one.max(other), provider, ntamx: hosts };
        if let Ok(text) = published.text() {
            prop_assert!(text.len() <= 255);
            let found = read::one_record(&[txt(&[text])]).unwrap();
            prop_assert!(found.warnings().is_empty());
            prop_assert_eq!(found.provider, published.provider);
            let mut hosts = published.ntamx.clone();
            hosts.sort_unstable();
            let mut seen = BTreeSet::new();
            hosts.retain(|(_, host)| seen.insert(host.clone()));
            prop_assert_eq!((found.start, found.end, found.ntamx), (published.start, published.end, hosts));
        }
    }
}
