//! Attack class T19: TLSA sets that are malformed or huge, validly signed. And T24: sets that change.

use sluis::discovery::{ClientTlsa, Trace};
use sluis::model::Reason;
use testnet::dns::{Fault, RrType, TlsaShape, Trouble};

use crate::support::{KEY, lab, name, provider};

/// Proves: +DANE-004 -DANE-004 -DANE-005 -DANE-003
#[tokio::test]
async fn t19_malformed_sets_are_unusable_and_good_records_beside_them_serve() {
    let zone = |shape: TlsaShape| format!("{}.nl", format!("{shape:?}").to_lowercase());
    let lab = lab(|tree| {
        for shape in TlsaShape::ALL {
            let zone = zone(shape);
            provider(tree, &zone);
            tree.fault(Fault::record(
                format!("_25._tcp.mx.{zone}"),
                RrType::Tlsa,
                Trouble::MalformedTlsa(shape),
            ));
            // The same record beside a good one.
            let beside = format!("beside.{zone}");
            tree.address(&beside, "127.9.9.9".parse().unwrap())
                .tlsa(&format!("_25._tcp.{beside}"), &shape.rdata())
                .tlsa(&format!("_25._tcp.{beside}"), &KEY);
            tree.tlsa(&format!("_smtp-client.mx.{zone}"), &shape.rdata());
        }
    })
    .await;
    for shape in TlsaShape::ALL {
        let zone = zone(shape);
        let problem = lab.candidate(&format!("mx.{zone}")).await.unwrap_err();
        assert_eq!(problem.reason, Reason::TlsaUnusable, "{shape:?}: {problem}");
        let good = lab
            .candidate(&format!("beside.{zone}"))
            .await
            .unwrap_or_else(|problem| panic!("{shape:?}: {problem}"));
        assert_eq!(
            (good.tlsa.get().parameters(), good.tlsa.get().unusable.len()),
            (vec!["3 1 1".to_owned()], 1)
        );
        // Published, and good for nobody: not the same as not published.
        let client = lab.discovery.client_tlsa(&name(&format!("mx.{zone}")), &mut Trace::new()).await;
        assert!(matches!(client, ClientTlsa::Published(set) if set.get().usable.is_empty()), "{shape:?}");
    }
}

/// The octets of a set that the validator cannot read are verified all the same.
///
/// Proves: -DANE-004 -DNS-001
#[tokio::test]
async fn t19_a_malformed_record_is_no_way_around_the_signature() {
    let lab = lab(|tree| {
        for (zone, trouble) in [
            ("wrong.nl", Trouble::WrongSignature),
            ("expired.nl", Trouble::ExpiredSignature),
            ("missing.nl", Trouble::MissingSignature),
            ("foreign.nl", Trouble::ForeignSignature("wrong.nl".into())),
        ] {
            provider(tree, zone);
            let owner = format!("_25._tcp.mx.{zone}");
            tree.tlsa(&owner, &[3]).fault(Fault::record(owner, RrType::Tlsa, trouble));
        }
        provider(tree, "plain.nl");
        tree.tlsa("_smtp-client.plain.nl", &[3]).fault(Fault::zone("plain.nl", Trouble::Unsigned));
    })
    .await;
    for zone in ["wrong.nl", "expired.nl", "missing.nl", "foreign.nl"] {
        let problem = lab.candidate(&format!("mx.{zone}")).await.unwrap_err();
        assert_eq!(problem.reason, Reason::DnsBogus, "{zone}: {problem}");
    }
    let plain = lab.discovery.client_tlsa(&name("plain.nl"), &mut Trace::new()).await;
    assert_eq!(plain, ClientTlsa::Insecure);
}

/// Proves: -DANE-004
#[tokio::test]
async fn t19_a_huge_set_is_unusable() {
    let lab = lab(|tree| {
        provider(tree, "huge.nl");
        tree.fault(Fault::record("_25._tcp.mx.huge.nl", RrType::Tlsa, Trouble::HugeTlsa(500)));
        provider(tree, "large.nl");
        tree.fault(Fault::record("_25._tcp.mx.large.nl", RrType::Tlsa, Trouble::HugeTlsa(40)));
    })
    .await;
    assert_eq!(lab.candidate("mx.huge.nl").await.unwrap_err().reason, Reason::TlsaUnusable);
    assert_eq!(lab.candidate("mx.large.nl").await.unwrap().tlsa.get().usable.len(), 41);
}

/// The phases of a roll-over as a sender sees them: the old set as long as its TTL allows, then the new one.
///
/// Proves: +DNS-008
#[tokio::test]
async fn t24_a_roll_over_is_seen_when_the_old_answer_has_lived_its_ttl() {
    let (old, new) = (KEY, {
        let mut key = KEY;
        key[34] ^= 1;
        key
    });
    let lab = lab(|tree| {
        tree.ttl(600);
        provider(tree, "a.nl");
    })
    .await;
    let seen = async || lab.candidate("mx.a.nl").await.unwrap().tlsa.get().usable.len();
    let keys = async || lab.candidate("mx.a.nl").await.unwrap().tlsa.get().usable[0].data.clone();
    assert_eq!(seen().await, 1);
    lab.dns
        .update(|tree| {
            tree.replace_tlsa("_25._tcp.mx.a.nl", &[old.to_vec(), new.to_vec()]);
        })
        .unwrap();
    lab.clock.advance(599_000);
    assert_eq!(seen().await, 1, "still the answer of before");
    lab.clock.advance(2_000);
    assert_eq!(seen().await, 2, "publish-next is visible");
    lab.dns
        .update(|tree| {
            tree.replace_tlsa("_25._tcp.mx.a.nl", &[new.to_vec()]);
        })
        .unwrap();
    lab.clock.advance(601_000);
    assert_eq!(keys().await, new[3..]);
}
