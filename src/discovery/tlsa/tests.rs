#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::*;

fn rdata(usage: u8, selector: u8, matching: u8, data: &[u8]) -> Vec<u8> {
    [&[usage, selector, matching], data].concat()
}

fn certificate() -> rcgen::CertifiedKey<rcgen::KeyPair> {
    rcgen::generate_simple_self_signed(["mx.a.nl".to_owned()]).unwrap()
}

/// Proves: +DANE-003
#[test]
fn usages_2_and_3_with_every_selector_and_matching_type() {
    let made = certificate();
    let (der, spki) =
        (made.cert.der().to_vec(), rcgen::PublicKeyData::subject_public_key_info(&made.signing_key));
    for usage in [2, 3] {
        for (selector, full) in [(0, &der), (1, &spki)] {
            for (matching, data) in [(0, full.clone()), (1, vec![1; 32]), (2, vec![2; 64])] {
                let tlsa = parse(&rdata(usage, selector, matching, &data)).unwrap();
                assert_eq!(tlsa.to_string(), format!("{usage} {selector} {matching}"));
                assert_eq!(tlsa.data, data);
            }
        }
    }
}

/// Proves: -DANE-003 -DANE-004
#[test]
fn t19_what_cannot_authenticate_is_unusable_with_its_reason() {
    let der = certificate().cert.der().to_vec();
    let trailing = [der.as_slice(), &[0]].concat();
    let digest = |expected, found| Unusable::DigestLength { expected, found };
    for (record, why) in [
        (vec![], Unusable::TooShort(0)),
        (vec![3], Unusable::TooShort(1)),
        (vec![3, 1], Unusable::TooShort(2)),
        (vec![3, 1, 1], Unusable::TooShort(3)),
        (rdata(0, 1, 1, &[0; 32]), Unusable::Usage(0)),
        (rdata(1, 1, 1, &[0; 32]), Unusable::Usage(1)),
        (rdata(4, 1, 1, &[0; 32]), Unusable::Usage(4)),
        (rdata(255, 1, 1, &[0; 32]), Unusable::Usage(255)),
        (rdata(3, 2, 1, &[0; 32]), Unusable::Selector(2)),
        (rdata(3, 1, 3, &[0; 32]), Unusable::Matching(3)),
        (rdata(3, 1, 1, &[0; 31]), digest(32, 31)),
        (rdata(3, 1, 1, &[0; 33]), digest(32, 33)),
        (rdata(3, 1, 1, &[0; 64]), digest(32, 64)),
        (rdata(3, 1, 2, &[0; 32]), digest(64, 32)),
        (rdata(2, 0, 0, &[0; 40]), Unusable::Data),
        (rdata(3, 1, 0, &der), Unusable::Data),
        (rdata(3, 0, 0, &trailing), Unusable::Data),
        (rdata(3, 0, 0, &der[..der.len() - 1]), Unusable::Data),
        (rdata(3, 0, 0, &vec![0x30; 65_000]), Unusable::TooLong(65_003)),
    ] {
        assert_eq!(parse(&record), Err(why), "{record:?}");
    }
}

/// Proves: +DANE-004 -DANE-004
#[test]
fn t19_an_unusable_record_does_not_disturb_the_others_and_a_huge_set_is_not_read() {
    let good = rdata(3, 1, 1, &[7; 32]);
    let set = TlsaSet::from_rdata(&[vec![], good.clone(), rdata(1, 1, 1, &[7; 32]), good.clone()]);
    assert_eq!(set.parameters(), ["3 1 1"]);
    assert_eq!(set.unusable, [Unusable::TooShort(0), Unusable::Usage(1)]);

    let many = |count: usize| -> Vec<_> {
        (0..count).map(|n| rdata(3, 1, 1, &[u8::try_from(n).unwrap(); 32])).collect()
    };
    assert_eq!(TlsaSet::from_rdata(&many(SET_RECORDS_MAX)).usable.len(), SET_RECORDS_MAX);
    let huge = TlsaSet::from_rdata(&many(SET_RECORDS_MAX + 1));
    assert!(huge.usable.is_empty());
    assert_eq!(huge.unusable, [Unusable::SetTooLarge(SET_RECORDS_MAX + 1)]);
}

proptest! {
    /// The body of the fuzz target `tlsa`, on stable.
    ///
    /// Proves: -DANE-004
    #[test]
    fn t19_any_octets_give_a_verdict(
        usage in 0u8..5,
        selector in 0u8..3,
        matching in 0u8..4,
        data in prop::collection::vec(any::<u8>(), 0..200),
        cut in 0usize..203,
    ) {
        let mut record = rdata(usage, selector, matching, &data);
        record.truncate(cut);
        fuzz(&record);
        fuzz(&data);
    }
}
