#![allow(clippy::unwrap_used)]
use super::super::testing::{Authority, Pair, Purpose, Validity, leaf, leaf_valid};
use super::*;
use crate::discovery::Secure;
use crate::discovery::tlsa::{Matching, Selector, Tlsa, TlsaSet, Usage as TlsaUsage};

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn name(text: &str) -> DomainName {
    text.parse().unwrap()
}

fn shown(pair: &Pair) -> Presented {
    Presented::Certificate(PresentedCertificate {
        chain: pair.chain.clone(),
        certificate: Certificate::parse(&pair.chain[0]).unwrap(),
    })
}

fn published(pair: &Pair) -> ClientTlsa {
    let data = Certificate::parse(&pair.chain[0]).unwrap().key_digest().as_bytes().to_vec();
    let tlsa =
        Tlsa { usage: TlsaUsage::EndEntity, selector: Selector::PublicKey, matching: Matching::Sha256, data };
    ClientTlsa::Published(Secure::assumed(TlsaSet { usable: vec![tlsa], unusable: vec![] }))
}

fn by_dane_of(pair: &Pair, records: &[(&str, ClientTlsa)]) -> ClientJudgement {
    let records: Vec<_> = records.iter().map(|(text, found)| (name(text), found.clone())).collect();
    judge_client(&shown(pair), ClientRule::Dane(&records), now())
}

fn proven(judgement: &ClientJudgement) -> Vec<String> {
    match judgement {
        ClientJudgement::Proven(peer) => peer.names().iter().map(ToString::to_string).collect(),
        other => panic!("not proven: {other:?}"),
    }
}

/// Proves: +IDEN-006 -IDEN-006 +IDEN-007
#[test]
fn every_name_is_judged_by_its_own_records() {
    let (pair, other) = (leaf(&["a.nl", "b.nl", "c.nl"]), leaf(&["b.nl"]));
    let all = by_dane_of(
        &pair,
        &[("a.nl", published(&pair)), ("b.nl", published(&pair)), ("c.nl", published(&pair))],
    );
    assert_eq!(proven(&all), ["a.nl", "b.nl", "c.nl"]);
    let some = by_dane_of(
        &pair,
        &[("a.nl", ClientTlsa::Absent), ("b.nl", published(&other)), ("c.nl", published(&pair))],
    );
    assert_eq!(proven(&some), ["c.nl"]);
    let wrong = by_dane_of(
        &pair,
        &[("a.nl", ClientTlsa::Absent), ("b.nl", published(&other)), ("c.nl", ClientTlsa::Insecure)],
    );
    assert_eq!(wrong.reason(), Some(Reason::ClientTlsaMismatch));
    let expired = leaf_valid(&["a.nl"], Validity::Past);
    assert_eq!(proven(&by_dane_of(&expired, &[("a.nl", published(&expired))])), ["a.nl"]);
}

/// Proves: -IDEN-008
#[test]
fn t16_doubt_about_one_name_is_doubt_about_the_client() {
    let pair = leaf(&["a.nl", "b.nl"]);
    let doubt = by_dane_of(
        &pair,
        &[
            ("a.nl", published(&pair)),
            ("b.nl", ClientTlsa::Temporary { reason: Reason::DnsBogus, detail: "bogus".into() }),
        ],
    );
    assert_eq!(doubt.reason(), Some(Reason::ClientIdentityTemporary));
    let not_asked = by_dane_of(&pair, &[("a.nl", published(&pair))]);
    assert_eq!(not_asked.reason(), Some(Reason::ClientIdentityTemporary));
}

/// Proves: +IDEN-008 -IDEN-008
#[test]
fn shown_and_failed_is_not_the_same_as_absent() {
    let pair = leaf(&["a.nl"]);
    assert_eq!(judge_client(&Presented::Nothing, ClientRule::Dane(&[]), now()), ClientJudgement::Absent);
    let odd = Presented::Unusable("odd".to_owned());
    assert_eq!(
        judge_client(&odd, ClientRule::Dane(&[]), now()).reason(),
        Some(Reason::ClientCertificateInvalid)
    );
    assert_eq!(by_dane_of(&pair, &[("a.nl", ClientTlsa::Absent)]), ClientJudgement::Unclaimed);
    // A set of which nothing can be used is published, and matches nothing.
    let unusable = ClientTlsa::Published(Secure::assumed(TlsaSet::default()));
    assert_eq!(by_dane_of(&pair, &[("a.nl", unusable)]).reason(), Some(Reason::ClientTlsaMismatch));
}

/// Proves: -IDEN-007
#[test]
fn wildcards_crowds_and_nameless_certificates_prove_nothing() {
    for names in [&["*.a.nl"][..], &[], &["a.nl", "b.nl", "c.nl", "d.nl", "e.nl"]] {
        let pair = leaf(names);
        let records: Vec<_> =
            names.iter().map(|name| (*name, published(&pair))).filter(|(n, _)| !n.contains('*')).collect();
        assert_eq!(by_dane_of(&pair, &records).reason(), Some(Reason::ClientCertificateInvalid), "{names:?}");
    }
}

/// Proves: +IDEN-012 -IDEN-012
#[test]
fn t07_a_pin_is_about_the_key_and_proves_the_peers_names_only() {
    let pair = Authority::root("public").issue_for(&["a.nl", "victim.nl"], Purpose::ServerOnly);
    let key = Certificate::parse(&pair.chain[0]).unwrap().key_digest();
    let (pins, names) = (Pins::new(vec![key]), [name("a.nl"), name("a2.nl")]);
    let judged = judge_client(&shown(&pair), ClientRule::Pinned(&pins, &names), now());
    assert_eq!(proven(&judged), ["a.nl"]);
    let nameless = Pair { chain: pair.chain.clone(), key_pem: pair.key_pem.clone() };
    let judged = judge_client(&shown(&nameless), ClientRule::Pinned(&pins, &[name("z.nl")]), now());
    assert_eq!(proven(&judged), ["z.nl"]);
    let stranger = judge_client(&shown(&leaf(&["a.nl"])), ClientRule::Pinned(&pins, &names), now());
    assert_eq!(stranger.reason(), Some(Reason::ClientPinMismatch));
}

/// Proves: +IDEN-012 -IDEN-012
#[test]
fn t09_a_federation_authority_vouches_for_its_peer_only() {
    let (ours, public) = (Authority::root("ours"), Authority::root("public"));
    let pem = super::super::testing::pem(&ours.certificate());
    let authorities = Authorities::from_pem(pem.as_bytes()).unwrap();
    let judge = |pair: &Pair| {
        judge_client(&shown(pair), ClientRule::FederationCa(&authorities, &[name("a.nl")]), now())
    };
    assert_eq!(proven(&judge(&ours.issue(&["a.nl", "victim.nl"]))), ["a.nl"]);
    assert_eq!(judge(&public.issue(&["a.nl"])).reason(), Some(Reason::ClientPinMismatch));
    for pair in [
        ours.issue(&["victim.nl"]),
        ours.issue_valid(&["a.nl"], Validity::Past),
        ours.issue_for(&["a.nl"], Purpose::ServerOnly),
    ] {
        assert_eq!(judge(&pair).reason(), Some(Reason::ClientCertificateInvalid));
    }
    let leaf = super::super::testing::pem(&leaf(&["a.nl"]).chain[0]);
    assert_eq!(
        Authorities::from_pem(leaf.as_bytes()).unwrap_err(),
        super::super::AuthorityError::NoAuthority(1)
    );
    assert!(Authorities::from_pem(b"nothing").is_err());
}
