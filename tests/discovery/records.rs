//! Attack classes T25 (the NTA record) and T35 (where discovery data may lead), and the cache.

use jiff::Timestamp;
use sluis::discovery::{AddressRule, Anchors, Discovery, Trace, Trust};
use sluis::model::Reason;
use sluis::world::ManualClock;
use testnet::dns::{Fault, RrType, Tree, Trouble};

use crate::support::{
    Is, KEY, federated, host, is, lab, mail_host, name, provider, record, serve, settings, world,
};

fn dated(start: &str, end: &str) -> String {
    format!("v=NTA7516-1;startdate={start};enddate={end};provider=P;ntamx=10 mx.good.nl")
}

/// Proves: +DISC-002 +DISC-004 -DISC-004 -DISC-007 -DISC-013 -DNS-001
#[tokio::test]
async fn t25_what_is_published_and_what_it_comes_to() {
    let half: &[&[u8]] = &[b"v=NTA7516-1;startdate=2020-01;enddate=2099-12;nta", b"mx=10 mx.good.nl"];
    let lab = lab(|tree| {
        provider(tree, "good.nl");
        tree.zone("two.nl")
            .txt("two.nl", &dated("2020-01", "2099-12"))
            .txt("two.nl", &dated("2021-01", "2099-12"));
        tree.zone("split.nl").txt_strings("split.nl", half).txt("split.nl", "v=spf1 -all");
        tree.zone("old.nl").txt("old.nl", &dated("2020-01", "2024-12"));
        tree.zone("soon.nl").txt("soon.nl", &dated("2090-01", "2099-12"));
        tree.zone("reversed.nl").txt("reversed.nl", &dated("2099-12", "2020-01"));
        tree.zone("draft.nl").txt("draft.nl", "v=NTA7516;version:1.0;expire:2099-12;ntamx:mx.good.nl");
        tree.zone("literal.nl").txt("literal.nl", &record(&["10 127.0.0.1", "20 mx.good.nl"]));
        tree.zone("plain.nl").txt("plain.nl", &dated("2020-01", "2099-12"));
        tree.fault(Fault::zone("plain.nl", Trouble::Unsigned));
        tree.zone("empty.nl").txt("empty.nl", "");
    })
    .await;
    for (domain, expect) in [
        ("good.nl", Is::Good),
        ("two.nl", Is::No(Reason::RecordSeveral)),
        ("split.nl", Is::Good),
        ("old.nl", Is::No(Reason::RecordExpired)),
        ("soon.nl", Is::No(Reason::RecordNotYetValid)),
        ("reversed.nl", Is::No(Reason::RecordInvalid)),
        ("draft.nl", Is::No(Reason::RecordLegacy)),
        ("literal.nl", Is::No(Reason::RecordInvalid)),
        ("plain.nl", Is::No(Reason::ZoneInsecure)),
        ("empty.nl", Is::No(Reason::RecordAbsent)),
    ] {
        let finding = lab.find(domain).await;
        assert_eq!(is(&finding), expect, "{domain}: {finding:?}");
    }
    // A record may name hosts of others; they are hosts of this domain then, with keys of their own.
    assert!(federated(lab.find("split.nl").await).has_host(&name("mx.good.nl")));
}

/// Proves: +DISC-001 -DISC-001
#[tokio::test]
async fn only_the_domain_itself_is_asked() {
    let lab = lab(|tree| {
        provider(tree, "a.nl");
        mail_host(tree, "www.a.nl");
        tree.txt("_nta.www.a.nl", &record(&["10 mx.a.nl"]));
        tree.zone("xn--zrg-sna.nl").txt("xn--zrg-sna.nl", &record(&["10 mx.a.nl"]));
    })
    .await;
    assert_eq!(is(&lab.find("www.a.nl").await), Is::No(Reason::RecordAbsent));
    let txt: Vec<_> =
        lab.dns.questions().into_iter().filter(|question| question.rtype == "TXT").map(|q| q.name).collect();
    assert_eq!(txt, ["www.a.nl."]);
    assert_eq!(is(&lab.find("Zörg.nl").await), Is::Good);
}

/// Proves: +DISC-015 -DISC-015
#[tokio::test]
async fn t35_addresses_inside_our_own_network_are_not_connected_to() {
    let mut tree = Tree::new();
    tree.zone("a.nl");
    let all = [
        "127.0.0.1",
        "10.1.2.3",
        "169.254.169.254",
        "192.0.2.1",
        "::1",
        "fd00::1",
        "fe80::1",
        "::ffff:10.0.0.1",
    ];
    for (index, address) in all.iter().enumerate() {
        let host = format!("h{index}.a.nl");
        tree.address(&host, address.parse().unwrap()).tlsa(&format!("_25._tcp.{host}"), &KEY);
    }
    tree.address("mixed.a.nl", "10.0.0.1".parse().unwrap())
        .address("mixed.a.nl", "9.9.9.9".parse().unwrap())
        .tlsa("_25._tcp.mixed.a.nl", &KEY);
    let dns = serve(tree).await;
    let anchors = Anchors::from_text(&dns.anchor_ds()).unwrap();
    let settings = settings(dns.addr(), Trust::Validate(anchors), AddressRule::PublicOnly);
    let discovery = Discovery::start(settings, world(ManualClock::at(Timestamp::now()))).await.unwrap();
    for (index, address) in all.iter().enumerate() {
        let host = host(&format!("h{index}.a.nl"));
        let problem = discovery.candidate(&host, 25, &mut Trace::new()).await.unwrap_err();
        assert_eq!(problem.reason, Reason::HostAddressForbidden, "{address}");
        assert!(problem.detail.contains(address), "{problem}");
    }
    let mixed = discovery.candidate(&host("mixed.a.nl"), 25, &mut Trace::new()).await.unwrap();
    assert_eq!(mixed.addresses, ["9.9.9.9".parse::<std::net::IpAddr>().unwrap()]);
}

/// Proves: -DISC-015
#[tokio::test]
async fn t35_lab_addresses_and_the_real_root_do_not_go_together() {
    let resolver = "127.0.0.1:1".parse().unwrap();
    let real = settings(resolver, Trust::Validate(Anchors::iana()), AddressRule::LabToo);
    let ad = Trust::AdBit { known_good: "nl".parse().unwrap(), known_bogus: "bogus.nl".parse().unwrap() };
    for settings in [real, settings(resolver, ad, AddressRule::LabToo)] {
        let refused = Discovery::start(settings, world(ManualClock::at(Timestamp::now()))).await;
        assert!(matches!(refused, Err(sluis::discovery::ResolverError::LabWithRealTrust(_))));
    }
}

/// Proves: +DNS-008 -DNS-008
#[tokio::test]
async fn answers_live_as_long_as_their_ttl_and_no_longer() {
    let lab = lab(|tree| {
        tree.ttl(60);
        provider(tree, "a.nl");
        tree.ttl(86_400);
        provider(tree, "b.nl");
    })
    .await;
    let asked = |owner: &str| lab.asked(owner).iter().filter(|rtype| *rtype == "TXT").count();
    for (seconds, a, b) in [(0, 1, 1), (59, 1, 1), (2, 2, 1), (3_500, 3, 1), (60, 4, 2)] {
        lab.clock.advance(seconds * 1000);
        assert_eq!(is(&lab.find("a.nl").await), Is::Good);
        assert_eq!(is(&lab.find("b.nl").await), Is::Good);
        assert_eq!((asked("a.nl"), asked("b.nl")), (a, b), "after {seconds} more seconds");
    }
}

/// Proves: +DNS-008 -DNS-008
#[tokio::test]
async fn absence_is_remembered_with_proof_only_and_trouble_not_at_all() {
    let lab = lab(|tree| {
        provider(tree, "a.nl");
        tree.remove("a.nl", RrType::Txt);
        provider(tree, "plain.nl");
        tree.remove("plain.nl", RrType::Txt).fault(Fault::zone("plain.nl", Trouble::Unsigned));
        provider(tree, "sick.nl");
        tree.fault(Fault::record("sick.nl", RrType::Txt, Trouble::Servfail));
    })
    .await;
    for _ in 0..3 {
        assert_eq!(is(&lab.find("a.nl").await), Is::No(Reason::RecordAbsent));
        assert_eq!(is(&lab.find("plain.nl").await), Is::No(Reason::ZoneInsecure));
        assert_eq!(is(&lab.find("sick.nl").await), Is::Later(Reason::DnsServfail));
    }
    let asked = |owner: &str| lab.asked(owner).iter().filter(|rtype| *rtype == "TXT").count();
    assert_eq!((asked("a.nl"), asked("plain.nl"), asked("sick.nl")), (1, 3, 3));
    // Repaired, it serves at the next question.
    lab.dns
        .update(|tree| {
            tree.heal();
        })
        .unwrap();
    assert_eq!(is(&lab.find("sick.nl").await), Is::Good);
}
