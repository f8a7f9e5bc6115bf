//! The table of attack class T16: every way in which DNS can fail to answer, at every question that decides something.

use std::sync::Arc;

use sluis::discovery::{Anchors, Discovery, Trace, Trust};
use sluis::model::Reason;
use sluis::world::ManualClock;
use testnet::dns::{Fault, RrType, Transport, Tree, Trouble};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::support::{
    Is, KEY, federated, host, is, lab, mail_host, name, provider, record, serve, settings, world,
};

/// What each trouble at a record comes to, whichever record it is.
fn troubles() -> Vec<(Trouble, Is)> {
    vec![
        (Trouble::WrongSignature, Is::Later(Reason::DnsBogus)),
        (Trouble::ExpiredSignature, Is::Later(Reason::DnsBogus)),
        (Trouble::NotYetValidSignature, Is::Later(Reason::DnsBogus)),
        (Trouble::MissingSignature, Is::Later(Reason::DnsBogus)),
        (Trouble::ForeignSignature("other.nl".into()), Is::Later(Reason::DnsBogus)),
        (Trouble::Servfail, Is::Later(Reason::DnsServfail)),
        (Trouble::Refused, Is::Later(Reason::DnsRefused)),
        (Trouble::Notimp, Is::Later(Reason::DnsRefused)),
        (Trouble::Silence, Is::Later(Reason::DnsTimeout)),
        (Trouble::CutShort, Is::Later(Reason::DnsRefused)),
        (Trouble::TruncatedEverywhere, Is::Later(Reason::DnsTimeout)),
        (Trouble::AliasLoop, Is::Later(Reason::DnsAliasChain)),
        (Trouble::AliasChain(9), Is::Later(Reason::DnsAliasChain)),
        (Trouble::AliasChain(8), Is::Good),
        (Trouble::Truncated, Is::Good),
        (Trouble::ForgedAd, Is::Good),
    ]
}

/// A row: something wrong in the zones of one provider.
struct Row {
    what: String,
    zone: String,
    ask: Ask,
    expect: Is,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ask {
    Domain,
    Host,
    Client,
}

/// Builds a provider of its own for each row, so that all rows can run at once against one server.
struct Table {
    tree: Tree,
    rows: Vec<Row>,
}

impl Table {
    fn new() -> Self {
        let mut tree = Tree::new();
        tree.zone("other.nl").txt("other.nl", "signs well");
        Self { tree, rows: Vec::new() }
    }

    /// `fault` gets the zone's name. The domain has its host in the same zone; `m…` zones have an MX instead.
    fn row(&mut self, what: String, ask: Ask, expect: Is, build: impl FnOnce(&mut Tree, &str)) {
        let zone = format!("z{}.nl", self.rows.len());
        provider(&mut self.tree, &zone);
        self.tree.tlsa(&format!("_smtp-client.mx.{zone}"), &KEY);
        build(&mut self.tree, &zone);
        self.rows.push(Row { what, zone, ask, expect });
    }

    async fn run(self) {
        let served = lab(|tree| *tree = self.tree).await;
        let mut tasks = JoinSet::new();
        // The server has one socket; more at once would only lose packets.
        let places = Arc::new(Semaphore::new(16));
        for row in self.rows {
            let (discovery, places) = (served.discovery.clone(), places.clone());
            tasks.spawn(async move {
                let _place = places.acquire().await.unwrap();
                let found = judge(&discovery, row.ask, &row.zone).await;
                (found != row.expect).then(|| format!("{}: {found:?} instead of {:?}", row.what, row.expect))
            });
        }
        let wrong: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
        assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    }
}

async fn judge(discovery: &Discovery, ask: Ask, zone: &str) -> Is {
    let trace = &mut Trace::new();
    match ask {
        Ask::Domain => is(&discovery.federation(&name(zone), trace).await),
        Ask::Host => match discovery.candidate(&host(&format!("mx.{zone}")), 25, trace).await {
            Ok(candidate) => {
                assert!(!candidate.tlsa.get().usable.is_empty() && !candidate.addresses.is_empty());
                Is::Good
            }
            Err(problem) if problem.reason.as_str().starts_with("dns_") => Is::Later(problem.reason),
            Err(problem) => Is::No(problem.reason),
        },
        Ask::Client => match discovery.client_tlsa(&name(&format!("mx.{zone}")), trace).await {
            sluis::discovery::ClientTlsa::Published(_) => Is::Good,
            sluis::discovery::ClientTlsa::Temporary { reason, .. } => Is::Later(reason),
            sluis::discovery::ClientTlsa::Absent => Is::No(Reason::ClientTlsaAbsent),
            sluis::discovery::ClientTlsa::Insecure => Is::No(Reason::TlsaInsecure),
        },
    }
}

/// 16 kinds of trouble at each of 5 records: none turns into "no record", and none into a weaker channel.
///
/// Proves: +DNS-001 +DNS-002 -DNS-002 +DNS-004 -DNS-004 +DNS-009 -DNS-009
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t16_trouble_at_txt_mx_address_and_tlsa() {
    let mut table = Table::new();
    for (trouble, expect) in troubles() {
        for (ask, rtype) in [
            (Ask::Domain, RrType::Txt),
            (Ask::Domain, RrType::Mx),
            (Ask::Host, RrType::A),
            (Ask::Host, RrType::Tlsa),
            (Ask::Client, RrType::Tlsa),
        ] {
            table.row(format!("{trouble} at {rtype} ({ask:?})"), ask, expect, |tree, zone| {
                if rtype == RrType::Mx {
                    tree.remove(zone, RrType::Txt).txt(zone, &record(&[])).mx(
                        zone,
                        10,
                        &format!("mx.{zone}"),
                    );
                }
                // An alias at the apex would hide what makes the zone work, so the name moves into it.
                let aliases = matches!(trouble, Trouble::AliasLoop | Trouble::AliasChain(_));
                let owner = match (ask, rtype) {
                    (Ask::Domain, _) => zone.to_owned(),
                    (Ask::Host, RrType::A) => format!("mx.{zone}"),
                    (Ask::Host, _) => format!("_25._tcp.mx.{zone}"),
                    (Ask::Client, _) => format!("_smtp-client.mx.{zone}"),
                };
                if aliases && ask == Ask::Domain {
                    return;
                }
                tree.fault(Fault::record(owner, rtype, trouble.clone()));
            });
        }
    }
    // Aliases at a mail domain, which cannot be an apex.
    table.rows.retain(|row| !(row.what.starts_with("alias") && row.ask == Ask::Domain));
    table.run().await;
}

/// The same for whole zones, and for the questions about keys that nobody but the validator asks.
///
/// Proves: +DNS-001 -DNS-001 -DNS-002 +DNS-003 -DNS-003
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t16_trouble_of_whole_zones_and_of_their_keys() {
    let mut table = Table::new();
    let zones = [
        (Trouble::WrongSignature, Is::Later(Reason::DnsBogus), Is::Later(Reason::DnsBogus)),
        (Trouble::ExpiredSignature, Is::Later(Reason::DnsBogus), Is::Later(Reason::DnsBogus)),
        (Trouble::MissingSignature, Is::Later(Reason::DnsBogus), Is::Later(Reason::DnsBogus)),
        (Trouble::DsMismatch, Is::Later(Reason::DnsBogus), Is::Later(Reason::DnsBogus)),
        (Trouble::Servfail, Is::Later(Reason::DnsServfail), Is::Later(Reason::DnsServfail)),
        (Trouble::Silence, Is::Later(Reason::DnsTimeout), Is::Later(Reason::DnsTimeout)),
        (Trouble::Unsigned, Is::No(Reason::ZoneInsecure), Is::No(Reason::HostInsecure)),
        (Trouble::UnknownAlgorithm, Is::No(Reason::ZoneInsecure), Is::No(Reason::HostInsecure)),
    ];
    for (trouble, domain, host) in zones {
        for (ask, expect) in [(Ask::Domain, domain), (Ask::Host, host)] {
            let fault = |tree: &mut Tree, zone: &str| {
                tree.fault(Fault::zone(zone, trouble.clone()));
            };
            table.row(format!("zone with {trouble} ({ask:?})"), ask, expect, fault);
        }
    }
    for (rtype, trouble, reason) in [
        (RrType::Dnskey, Trouble::Servfail, Reason::DnsServfail),
        (RrType::Dnskey, Trouble::Silence, Reason::DnsTimeout),
        (RrType::Dnskey, Trouble::WrongSignature, Reason::DnsBogus),
        (RrType::Dnskey, Trouble::MissingSignature, Reason::DnsBogus),
        (RrType::Ds, Trouble::Refused, Reason::DnsRefused),
        (RrType::Ds, Trouble::WrongSignature, Reason::DnsBogus),
        (RrType::Ds, Trouble::ExpiredSignature, Reason::DnsBogus),
    ] {
        let what = format!("{trouble} at the zone's {rtype}");
        table.row(what, Ask::Domain, Is::Later(reason), |tree, zone| {
            tree.fault(Fault::record(zone, rtype, trouble));
        });
    }
    // There is none: proven, not proven, and said of a name that does not exist.
    for (rtype, ask, proven) in [
        (RrType::Txt, Ask::Domain, Is::No(Reason::RecordAbsent)),
        (RrType::A, Ask::Host, Is::No(Reason::HostNoAddress)),
        (RrType::Tlsa, Ask::Host, Is::No(Reason::TlsaAbsent)),
        (RrType::Tlsa, Ask::Client, Is::No(Reason::ClientTlsaAbsent)),
    ] {
        for missing in [false, true] {
            let expect = if missing { Is::Later(Reason::DnsBogus) } else { proven };
            let what = format!("{rtype} absent, proof {}", if missing { "missing" } else { "there" });
            table.row(what, ask, expect, |tree, zone| {
                let owner = match ask {
                    Ask::Domain => zone.to_owned(),
                    Ask::Host if rtype == RrType::A => format!("mx.{zone}"),
                    Ask::Host => format!("_25._tcp.mx.{zone}"),
                    Ask::Client => format!("_smtp-client.mx.{zone}"),
                };
                tree.remove(&owner, rtype);
                if missing {
                    tree.fault(Fault::name(owner, Trouble::DenialMissing));
                }
            });
        }
    }
    table.run().await;
}

/// Proves: +DNS-003
#[tokio::test]
async fn a_domain_that_does_not_exist_is_unknown_only_with_proof() {
    let lab = lab(|tree| provider(tree, "a.nl")).await;
    assert_eq!(is(&lab.find("nobody.nl").await), Is::No(Reason::DomainUnknown));
    assert_eq!(is(&lab.find("nobody.a.nl").await), Is::No(Reason::DomainUnknown));
    assert_eq!(is(&lab.find("mx.a.nl").await), Is::No(Reason::RecordAbsent));
    assert_eq!(is(&lab.find("nobody.example").await), Is::No(Reason::DomainUnknown));
}

/// Proves: +DNS-009
#[tokio::test]
async fn what_is_truncated_is_asked_again_over_tcp() {
    let lab = lab(|tree| {
        provider(tree, "a.nl");
        tree.fault(Fault::record("a.nl", RrType::Txt, Trouble::Truncated));
    })
    .await;
    assert_eq!(federated(lab.find("a.nl").await).hosts.len(), 1);
    let txt: Vec<_> = lab
        .dns
        .questions()
        .into_iter()
        .filter(|question| question.rtype == "TXT")
        .map(|q| q.transport)
        .collect();
    assert_eq!(txt, [Transport::Udp, Transport::Tcp]);
}

/// The root's keys change under the anchors: this node's trouble, not the domain's.
///
/// Proves: +DNS-006 -DNS-006
#[tokio::test]
async fn a_rolled_root_is_an_error_of_its_own() {
    let rolled = lab(|tree| {
        provider(tree, "a.nl");
        tree.fault(Fault::zone(".", Trouble::RootRolled));
    })
    .await;
    assert_eq!(is(&rolled.find("a.nl").await), Is::Later(Reason::DnsRootKey));
    // Repaired, it is the domain's own verdict again, without a restart.
    rolled
        .dns
        .update(|tree| {
            tree.heal();
        })
        .unwrap();
    rolled.discovery.forget();
    assert_eq!(is(&rolled.find("a.nl").await), Is::Good);

    let bogus = lab(|tree| {
        provider(tree, "a.nl");
        tree.fault(Fault::zone("a.nl", Trouble::WrongSignature));
    })
    .await;
    assert_eq!(is(&bogus.find("a.nl").await), Is::Later(Reason::DnsBogus));
}

/// Proves: -DNS-005 -DNS-006
#[tokio::test]
async fn the_keys_in_force_are_the_configured_ones_and_no_others() {
    let mut tree = Tree::new();
    provider(&mut tree, "a.nl");
    let dns = serve(tree).await;
    for anchors in
        [Anchors::iana(), Anchors::from_text(&format!(". IN DS 1 13 2 {}", "00".repeat(32))).unwrap()]
    {
        let rule = sluis::discovery::AddressRule::PublicOnly;
        let settings = settings(dns.addr(), Trust::Validate(anchors), rule);
        let world = world(ManualClock::at(jiff::Timestamp::now()));
        let discovery = Discovery::start(settings, world).await.unwrap();
        let finding = discovery.federation(&name("a.nl"), &mut Trace::new()).await;
        assert_eq!(is(&finding), Is::Later(Reason::DnsRootKey), "{finding:?}");
    }
}

/// Every question is on record, with its verdict.
#[tokio::test]
async fn the_trace_has_every_question() {
    let lab = lab(|tree| {
        provider(tree, "a.nl");
        mail_host(tree, "mx.plain.nl");
        tree.zone("plain.nl").fault(Fault::zone("plain.nl", Trouble::Unsigned));
    })
    .await;
    let mut trace = Trace::new();
    lab.discovery.federation(&name("a.nl"), &mut trace).await;
    lab.discovery.candidate(&host("mx.a.nl"), 25, &mut trace).await.unwrap();
    lab.discovery.candidate(&host("mx.a.nl"), 25, &mut trace).await.unwrap();
    lab.discovery.candidate(&host("mx.plain.nl"), 25, &mut trace).await.unwrap_err();
    let facts: Vec<_> = trace
        .facts()
        .iter()
        .map(|fact| format!("{} {} {} {} {}", fact.name, fact.rtype, fact.verdict, fact.records, fact.cached))
        .collect();
    assert_eq!(
        facts,
        [
            "a.nl TXT secure 1 false",
            "mx.a.nl A secure 1 false",
            "mx.a.nl AAAA secure_absent 0 false",
            "_25._tcp.mx.a.nl TLSA secure 1 false",
            "mx.a.nl A secure 1 true",
            "mx.a.nl AAAA secure_absent 0 true",
            "_25._tcp.mx.a.nl TLSA secure 1 true",
            "mx.plain.nl A insecure 1 false",
            "mx.plain.nl AAAA insecure_absent 0 false",
        ]
    );
}
