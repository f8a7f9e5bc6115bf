//! The matcher on chains made for each case (attack class T18).

use super::super::testing::{Authority, Pair, Purpose, Validity, leaf, leaf_valid, today};
use super::super::*;
use crate::discovery::tlsa::{Matching, Selector, Tlsa, Usage};
use crate::model::DomainName;

use rustls::pki_types::CertificateDer;

pub(super) const HOST: &str = "mx.example.nl";

pub(super) fn record(numbers: &str, certificate: &CertificateDer<'_>) -> Tlsa {
    let mut numbers = numbers.split(' ').map(|number| number.parse::<u8>().unwrap());
    let usage = if numbers.next() == Some(2) { Usage::TrustAnchor } else { Usage::EndEntity };
    let (selector, selected) = match numbers.next() {
        Some(0) => (Selector::Certificate, certificate.to_vec()),
        _ => (Selector::PublicKey, Certificate::parse(certificate).unwrap().spki().to_vec()),
    };
    let sha = |algorithm| aws_lc_rs::digest::digest(algorithm, &selected).as_ref().to_vec();
    let (matching, data) = match numbers.next() {
        Some(0) => (Matching::Full, selected.clone()),
        Some(1) => (Matching::Sha256, sha(&aws_lc_rs::digest::SHA256)),
        _ => (Matching::Sha512, sha(&aws_lc_rs::digest::SHA512)),
    };
    Tlsa { usage, selector, matching, data }
}

fn judge(pair: &Pair, records: &[Tlsa], names: &[&str]) -> Result<String, DaneMismatch> {
    judge_as(Side::Server, pair, records, names)
}

fn judge_as(side: Side, pair: &Pair, records: &[Tlsa], names: &[&str]) -> Result<String, DaneMismatch> {
    let names: Vec<DomainName> = names.iter().map(|name| name.parse().unwrap()).collect();
    match_chain(&pair.chain, records, side, &names, today()).map(|matched| matched.to_string())
}

const ALL_EE: [&str; 6] = ["3 0 0", "3 0 1", "3 0 2", "3 1 0", "3 1 1", "3 1 2"];
const ALL_TA: [&str; 6] = ["2 0 0", "2 0 1", "2 0 2", "2 1 0", "2 1 1", "2 1 2"];

/// Proves: +DANE-003 +DANE-006 -DANE-006
#[test]
fn t18_usage_3_compares_and_asks_nothing_else() {
    let other = leaf(&[HOST]);
    for validity in [Validity::Now, Validity::Past, Validity::Future] {
        let pair = leaf_valid(&["somebody.else.example"], validity);
        for numbers in ALL_EE {
            assert_eq!(judge(&pair, &[record(numbers, &pair.chain[0])], &[HOST]).unwrap(), numbers);
            let wrong = record(numbers, &other.chain[0]);
            assert_eq!(judge(&pair, &[wrong], &[HOST]), Err(DaneMismatch::NoRecord), "{numbers}");
        }
    }
}

/// Proves: +DANE-007 -DANE-007
#[test]
fn t18_usage_2_wants_chain_dates_and_name() {
    let root = Authority::root("root");
    let middle = root.intermediate("middle");
    let stranger = Authority::root("stranger");
    let good = middle.issue(&[HOST]);
    for numbers in ALL_TA {
        let of_root = record(numbers, &root.certificate());
        let of_middle = record(numbers, &middle.certificate());
        for tlsa in [&of_root, &of_middle] {
            let set = std::slice::from_ref(tlsa);
            assert_eq!(judge(&good, set, &[HOST]).unwrap(), numbers);
            // Either reference name will do: the TLSA base domain, or the next hop's.
            assert_eq!(judge(&good, set, &["alias.example", HOST]).unwrap(), numbers);
            assert_eq!(
                judge(&good, set, &["other.example"]),
                Err(DaneMismatch::Chain(ChainFault::Name)),
                "{numbers}"
            );
            for validity in [Validity::Past, Validity::Future] {
                let late = middle.issue_valid(&[HOST], validity);
                assert_eq!(judge(&late, set, &[HOST]), Err(DaneMismatch::Chain(ChainFault::Dates)));
            }
        }
        let of_stranger = record(numbers, &stranger.certificate());
        assert!(judge(&good, &[of_stranger], &[HOST]).is_err(), "{numbers}");
    }
}

/// Proves: -DANE-007
#[test]
fn t18_usage_2_is_not_about_the_certificate_itself() {
    let pair = leaf(&[HOST]);
    for numbers in ["2 0 1", "2 1 1", "2 0 2", "2 1 2"] {
        assert_eq!(
            judge(&pair, &[record(numbers, &pair.chain[0])], &[HOST]),
            Err(DaneMismatch::NoRecord),
            "{numbers}"
        );
    }
}

#[test]
fn t18_an_authority_that_may_not_sign_is_none() {
    let root = Authority::root("root");
    let expired = Authority::root_valid("expired", Validity::Past);
    let fake = root.issue(&["not-a-ca.example"]);
    let pair = leaf(&[HOST]);
    // The chain contains a certificate that matches the record, but is no authority.
    let chain = Pair { chain: vec![pair.chain[0].clone(), fake.chain[0].clone()], key_pem: pair.key_pem };
    let broken = judge(&chain, &[record("2 0 1", &fake.chain[0])], &[HOST]);
    assert!(matches!(broken, Err(DaneMismatch::Chain(ChainFault::Broken(_)))), "{broken:?}");
    let late = judge(&expired.issue(&[HOST]), &[record("2 0 1", &expired.certificate())], &[HOST]);
    assert_eq!(late, Err(DaneMismatch::Chain(ChainFault::Dates)));
    // Right authority in the record, but it did not issue this certificate.
    let unrelated = leaf(&[HOST]);
    let chain =
        Pair { chain: vec![unrelated.chain[0].clone(), root.certificate()], key_pem: unrelated.key_pem };
    let broken = judge(&chain, &[record("2 0 1", &root.certificate())], &[HOST]);
    assert!(matches!(broken, Err(DaneMismatch::Chain(ChainFault::Broken(_)))), "{broken:?}");
}

/// Proves: +DANE-007
#[test]
fn t18_an_authority_given_in_full_need_not_be_sent() {
    let root = Authority::root("root");
    let middle = root.intermediate("middle");
    let whole = middle.issue(&[HOST]);
    let without_root = Pair { chain: whole.chain[..2].to_vec(), key_pem: whole.key_pem.clone() };
    let alone = Pair { chain: whole.chain[..1].to_vec(), key_pem: whole.key_pem };
    for (pair, authority) in [(&without_root, &root), (&alone, &middle)] {
        for numbers in ["2 0 0", "2 1 0"] {
            assert_eq!(judge(pair, &[record(numbers, &authority.certificate())], &[HOST]).unwrap(), numbers);
            let misnamed = judge(pair, &[record(numbers, &authority.certificate())], &["b.example"]);
            assert_eq!(misnamed, Err(DaneMismatch::Chain(ChainFault::Name)));
        }
        let digest = record("2 0 1", &authority.certificate());
        assert_eq!(judge(pair, &[digest], &[HOST]), Err(DaneMismatch::NoRecord));
    }
}

/// Proves: +DANE-008 -DANE-008
#[test]
fn t18_one_matching_record_is_enough() {
    let root = Authority::root("root");
    let pair = root.issue(&[HOST]);
    let next = leaf(&[HOST]);
    let set =
        [record("3 1 1", &next.chain[0]), record("2 1 1", &next.chain[0]), record("3 1 1", &pair.chain[0])];
    assert_eq!(judge(&pair, &set, &["unrelated.example"]).unwrap(), "3 1 1");
    assert_eq!(judge(&pair, &set[..2], &[HOST]), Err(DaneMismatch::NoRecord));
    assert_eq!(judge(&pair, &[], &[HOST]), Err(DaneMismatch::NoRecord));
}

#[test]
fn wildcards_of_a_server_cover_one_label() {
    let root = Authority::root("root");
    let pair = root.issue(&["*.example.nl"]);
    let set = [record("2 1 1", &root.certificate())];
    assert!(judge(&pair, &set, &[HOST]).is_ok());
    assert!(judge(&pair, &set, &["a.mx.example.nl"]).is_err());
    assert!(judge(&pair, &set, &["example.nl"]).is_err());
}

/// Proves: +IDEN-020
#[test]
fn t07_a_certificate_for_servers_serves_a_client_under_dane() {
    let root = Authority::root("root");
    let pair = root.issue_for(&[HOST], Purpose::ServerOnly);
    for numbers in ["2 1 1", "2 0 1"] {
        let set = [record(numbers, &root.certificate())];
        assert!(judge_as(Side::Client, &pair, &set, &[HOST]).is_ok());
        assert!(judge_as(Side::Server, &pair, &set, &[HOST]).is_ok());
    }
}

#[test]
fn t14_chains_of_garbage_are_mismatches() {
    let root = Authority::root("root");
    let good = root.issue(&[HOST]);
    let set = [record("2 1 1", &root.certificate()), record("3 1 1", &good.chain[0])];
    let empty: [CertificateDer<'_>; 0] = [];
    assert_eq!(match_chain(&empty, &set, Side::Server, &[], today()), Err(DaneMismatch::NoCertificate));
    let noise = [CertificateDer::from(vec![0x30, 0x82]), CertificateDer::from(vec![])];
    assert_eq!(match_chain(&noise, &set, Side::Server, &[], today()), Err(DaneMismatch::NoCertificate));
    let names = [HOST.parse().unwrap()];
    for at in 0..good.chain[0].len() {
        let mut bent = good.chain[0].to_vec();
        bent[at] ^= 1;
        let chain = [CertificateDer::from(bent), root.certificate()];
        // One flipped bit: the authority's signature no longer holds. The key may be intact, and then usage 3 still may.
        assert!(match_chain(&chain, &set[..1], Side::Server, &names, today()).is_err(), "octet {at}");
    }
}
