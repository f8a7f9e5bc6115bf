//! Attack class T17: aliases and insecure addresses (RFC 7672 section 2.2).

use sluis::discovery::ClientTlsa;
use sluis::discovery::Trace;
use sluis::model::Reason;
use testnet::dns::{Fault, RrType, Tree, Trouble};

use crate::support::{Is, KEY, federated, is, lab, mail_host, name, provider, record};

/// `a.nl` and `b.nl` signed, `plain.nl` not; a host in each.
fn zones(tree: &mut Tree) {
    provider(tree, "a.nl");
    provider(tree, "b.nl");
    provider(tree, "plain.nl");
    tree.fault(Fault::zone("plain.nl", Trouble::Unsigned));
}

async fn reason(lab: &crate::support::Lab, host: &str) -> Reason {
    lab.candidate(host).await.unwrap_err().reason()
}

/// Proves: +DANE-001 -DANE-001 -DNS-001
#[tokio::test]
async fn t17_an_insecure_address_ends_the_search_before_tlsa() {
    let lab = lab(zones).await;
    assert_eq!(lab.candidate("mx.a.nl").await.unwrap().base, name("mx.a.nl"));
    assert_eq!(lab.asked("_25._tcp.mx.a.nl"), ["TLSA"]);
    assert_eq!(reason(&lab, "mx.plain.nl").await, Reason::HostInsecure);
    assert!(lab.asked("_25._tcp.mx.plain.nl").is_empty());
}

/// The lab port changes the label.
///
/// Proves: +DANE-001
#[tokio::test]
async fn another_port_has_another_label() {
    let lab = lab(|tree| {
        zones(tree);
        tree.tlsa("_2525._tcp.mx.a.nl", &KEY).remove("_25._tcp.mx.a.nl", RrType::Tlsa);
    })
    .await;
    let host = crate::support::host("mx.a.nl");
    let found = lab.discovery.candidate(&host, 2525, &mut Trace::new()).await.unwrap();
    assert_eq!((found.port, found.base), (2525, name("mx.a.nl")));
    assert_eq!(reason(&lab, "mx.a.nl").await, Reason::TlsaAbsent);
}

/// Proves: +DANE-002 -DANE-002 +DNS-004 -DNS-004
#[tokio::test]
async fn t17_the_base_domain_follows_a_chain_that_is_secure_all_the_way() {
    let lab = lab(|tree| {
        zones(tree);
        tree.cname("alias.a.nl", "mx.b.nl").cname("twice.a.nl", "alias.a.nl");
        // A target without TLSA: the name the record gave counts.
        tree.address("bare.b.nl", "127.9.9.8".parse().unwrap())
            .cname("own.a.nl", "bare.b.nl")
            .tlsa("_25._tcp.own.a.nl", &KEY)
            .cname("none.a.nl", "bare.b.nl");
        // Into and through an unsigned zone.
        tree.cname("out.a.nl", "mx.plain.nl")
            .cname("through.plain.nl", "mx.a.nl")
            .cname("via.a.nl", "through.plain.nl");
        // Keys behind an alias of their own.
        tree.address("keys.a.nl", "127.9.9.7".parse().unwrap())
            .cname("_25._tcp.keys.a.nl", "_25._tcp.mx.b.nl")
            .address("weakkeys.a.nl", "127.9.9.7".parse().unwrap())
            .cname("_25._tcp.weakkeys.a.nl", "_25._tcp.mx.plain.nl");
    })
    .await;
    let found = lab.candidate("alias.a.nl").await.unwrap();
    assert_eq!(found.base, name("mx.b.nl"));
    assert_eq!(found.reference_names, [name("mx.b.nl"), name("alias.a.nl")]);
    assert_eq!(lab.candidate("twice.a.nl").await.unwrap().base, name("mx.b.nl"));
    let own = lab.candidate("own.a.nl").await.unwrap();
    assert_eq!((own.base, own.reference_names), (name("own.a.nl"), vec![name("own.a.nl")]));
    assert_eq!(lab.asked("_25._tcp.bare.b.nl"), ["TLSA"], "the end of the chain is asked first");
    assert_eq!(reason(&lab, "none.a.nl").await, Reason::TlsaAbsent);

    assert_eq!(reason(&lab, "out.a.nl").await, Reason::HostInsecure);
    assert_eq!(reason(&lab, "through.plain.nl").await, Reason::HostInsecure);
    assert_eq!(reason(&lab, "via.a.nl").await, Reason::HostInsecure);
    // The cache knows the secure target by now; the insecure link before it must not be forgotten for that.
    lab.candidate("mx.a.nl").await.unwrap();
    assert_eq!(reason(&lab, "through.plain.nl").await, Reason::HostInsecure);

    assert_eq!(lab.candidate("keys.a.nl").await.unwrap().base, name("keys.a.nl"));
    assert_eq!(reason(&lab, "weakkeys.a.nl").await, Reason::TlsaInsecure);
}

/// A TLSA question at the end of the chain that meets trouble is no reason to try the weaker name.
///
/// Proves: -DANE-002 -DNS-002
#[tokio::test]
async fn t17_trouble_at_the_end_of_the_chain_does_not_lead_to_the_other_name() {
    let lab = lab(|tree| {
        zones(tree);
        tree.cname("alias.a.nl", "mx.b.nl").tlsa("_25._tcp.alias.a.nl", &KEY);
        tree.fault(Fault::record("_25._tcp.mx.b.nl", RrType::Tlsa, Trouble::WrongSignature));
    })
    .await;
    assert_eq!(reason(&lab, "alias.a.nl").await, Reason::DnsBogus);
}

/// Proves: +DISC-001 -DNS-001 -DNS-004
#[tokio::test]
async fn t17_a_mail_domain_can_be_an_alias_as_long_as_it_is_secure() {
    let lab = lab(|tree| {
        zones(tree);
        tree.cname("mail.a.nl", "b.nl").cname("weak.a.nl", "plain.nl").cname("back.plain.nl", "b.nl");
    })
    .await;
    assert_eq!(federated(lab.find("mail.a.nl").await).hosts[0].name, name("mx.b.nl"));
    assert_eq!(is(&lab.find("weak.a.nl").await), Is::No(Reason::ZoneInsecure));
    assert_eq!(is(&lab.find("back.plain.nl").await), Is::No(Reason::ZoneInsecure));
}

/// One family that answers is enough; one that is insecure is too much.
#[tokio::test]
async fn either_address_family_serves() {
    let lab = lab(|tree| {
        zones(tree);
        tree.address("six.a.nl", "fd00::25".parse().unwrap()).tlsa("_25._tcp.six.a.nl", &KEY);
        mail_host(tree, "half.a.nl");
        tree.address("half.a.nl", "fd00::26".parse().unwrap());
        tree.fault(Fault::record("half.a.nl", RrType::Aaaa, Trouble::Servfail));
    })
    .await;
    assert_eq!(
        lab.candidate("six.a.nl").await.unwrap().addresses,
        ["fd00::25".parse::<std::net::IpAddr>().unwrap()]
    );
    assert_eq!(
        lab.candidate("half.a.nl").await.unwrap().addresses,
        ["127.9.9.9".parse::<std::net::IpAddr>().unwrap()]
    );
}

/// Proves: -DNS-001
#[tokio::test]
async fn t17_client_keys_in_an_unsigned_zone_are_insecure_and_not_absent() {
    let lab = lab(|tree| {
        zones(tree);
        tree.tlsa("_smtp-client.mx.a.nl", &KEY).tlsa("_smtp-client.mx.plain.nl", &KEY);
    })
    .await;
    let ask = async |host: &str| lab.discovery.client_tlsa(&name(host), &mut Trace::new()).await;
    assert!(matches!(ask("mx.a.nl").await, ClientTlsa::Published(set) if set.get().usable.len() == 1));
    assert_eq!(ask("mx.b.nl").await, ClientTlsa::Absent);
    assert_eq!(ask("mx.plain.nl").await, ClientTlsa::Insecure);
}

/// Proves: +DISC-010 -DISC-010 -DNS-001
#[tokio::test]
async fn hosts_come_from_mx_only_where_the_record_names_none() {
    let lab = lab(|tree| {
        zones(tree);
        tree.mx("a.nl", 5, "mx.b.nl");
        tree.zone("m.nl").txt("m.nl", &record(&[])).mx("m.nl", 20, "mx.b.nl").mx("m.nl", 10, "mx.a.nl");
        tree.zone("null.nl").txt("null.nl", &record(&[])).mx("null.nl", 0, ".");
        tree.zone("nomx.nl").txt("nomx.nl", &record(&[])).address("nomx.nl", "127.9.9.9".parse().unwrap());
        // Its record is signed, its MX alone is an alias into an unsigned zone.
        tree.zone("bad.nl")
            .txt("bad.nl", &record(&["x y z", "10 under_score.nl"]))
            .mx("bad.nl", 10, "mx.a.nl");
    })
    .await;
    let own = federated(lab.find("a.nl").await);
    assert_eq!((own.hosts.len(), own.source.to_string().as_str()), (1, "ntamx"));
    assert_eq!(
        lab.asked("a.nl").iter().filter(|rtype| *rtype == "MX").count(),
        0,
        "MX was not even asked for"
    );

    let by_mx = federated(lab.find("m.nl").await);
    assert_eq!(by_mx.source.to_string(), "mx");
    assert_eq!(by_mx.hosts.iter().map(|host| host.name.as_str()).collect::<Vec<_>>(), ["mx.a.nl", "mx.b.nl"]);
    let candidate = lab.discovery.candidate(&by_mx.hosts[0], 25, &mut Trace::new()).await.unwrap();
    assert_eq!(candidate.reference_names, [name("mx.a.nl"), name("m.nl")]);

    assert_eq!(is(&lab.find("null.nl").await), Is::No(Reason::NoHosts));
    assert_eq!(is(&lab.find("nomx.nl").await), Is::No(Reason::NoHosts));
    assert_eq!(is(&lab.find("bad.nl").await), Is::No(Reason::RecordInvalid));
    assert!(!lab.asked("bad.nl").contains(&"MX".to_owned()));
}
