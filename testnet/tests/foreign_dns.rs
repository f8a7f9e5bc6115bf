//! unbound and delv judge the testnet's own DNS: two validators of other people against what our server says of itself.
#![allow(missing_docs)]

use jiff::Timestamp;
use testnet::dns::{Denial, DnsServer, Fault, KNOWN_BOGUS, RrType, Tree, Trouble};
use testnet::foreign::{Delv, Dig, Opinion, Unbound, isolated};
use testnet::loopback::Prefix;
use testnet::topology::{Plan, Topology};

const AUTHORITY: &str = "127.0.0.2:53";
const RESOLVER: &str = "127.0.0.53";

/// Two providers, one for each kind of denial, and one without signatures.
fn tree() -> Tree {
    let mut tree = Tree::new();
    for (zone, denial, net) in
        [("a.nl", Denial::Nsec, 1), ("b.nl", Denial::Nsec3, 2), ("plain.nl", Denial::Nsec, 3)]
    {
        let host = format!("nta.{zone}");
        tree.zone_with(zone, denial)
            .txt(zone, &format!("v=NTA7516-1;startdate=2026-01;enddate=2028-12;provider=P;ntamx=10 {host}"))
            .mx(zone, 10, &host)
            .address(&host, [127, 7, net, 1].into())
            .tlsa(&format!("_25._tcp.{host}"), &[&[3, 1, 1][..], &[net; 32]].concat())
            .tlsa(&format!("_smtp-client.{host}"), &[&[3, 1, 1][..], &[net; 32]].concat())
            .cname(&format!("mail.{zone}"), &host);
    }
    tree.fault(Fault::zone("plain.nl", Trouble::Unsigned)).cname("out.a.nl", "nta.plain.nl");
    tree
}

/// All three of our parts in one place.
struct Bench {
    dns: DnsServer,
    unbound: Unbound,
    delv: Delv,
    _runtime: tokio::runtime::Runtime,
}

impl Bench {
    fn start(tree: Tree) -> Result<Self, Box<dyn std::error::Error>> {
        let runtime = tokio::runtime::Runtime::new()?;
        let dns = runtime.block_on(DnsServer::start(tree, Timestamp::now(), AUTHORITY.parse()?))?;
        let unbound = Unbound::start(RESOLVER.parse()?, dns.addr().ip(), &dns.anchor_ds())?;
        let delv = Delv::new(dns.addr(), &dns.anchor().bind())?;
        Ok(Self { dns, unbound, delv, _runtime: runtime })
    }

    fn both(
        &self,
        name: &str,
        rtype: &str,
    ) -> Result<(Opinion, Opinion, String), Box<dyn std::error::Error>> {
        let unbound = self.unbound.opinion(name, rtype)?;
        let (delv, printed) = self.delv.opinion(name, rtype)?;
        let told =
            format!("{name} {rtype}: unbound {unbound:?}, delv {delv:?}\n{printed}\n{}", self.unbound.log());
        Ok((unbound, delv, told))
    }
}

#[test]
fn unbound_and_delv_agree_on_every_name() {
    isolated(|| {
        let described = tree();
        let mut questions: Vec<(String, String)> = described
            .names()
            .flat_map(|(name, types)| types.into_iter().map(move |rtype| (name.clone(), rtype)))
            .chain(
                described
                    .zones()
                    .flat_map(|zone| ["SOA", "DNSKEY"].map(|rtype| (zone.clone(), rtype.to_owned()))),
            )
            .collect();
        for absent in
            ["nobody.a.nl.", "nobody.b.nl.", "_tcp.nta.a.nl.", "_tcp.nta.b.nl.", "x.y.b.nl.", "zzz.nl."]
        {
            questions.push((absent.into(), "TLSA".into()));
        }
        questions.extend([("out.a.nl.".into(), "A".into()), ("mail.b.nl.".into(), "A".into())]);
        questions.push(("nobody.plain.nl.".into(), "TLSA".into()));

        let bench = Bench::start(described)?;
        for (name, rtype) in questions {
            let expected = match name.trim_end_matches('.') {
                KNOWN_BOGUS => Opinion::Bogus,
                "out.a.nl" if rtype != "CNAME" => Opinion::Insecure,
                n if n.ends_with("plain.nl") => Opinion::Insecure,
                _ => Opinion::Secure,
            };
            let (unbound, delv, told) = bench.both(&name, &rtype)?;
            assert!(unbound == expected && delv == expected, "expected {expected:?} of {told}");
        }
        Ok(())
    });
}

/// What `testnet up` publishes.
#[test]
fn unbound_and_delv_agree_on_every_name_of_the_default_topology() {
    isolated(|| {
        let prefix = Prefix::pick(|| 0x5A01, &[])?;
        let plan = Plan::new(Topology::three_providers(), &prefix, Timestamp::now())?;
        let tree = plan.tree()?;
        let names: Vec<(String, Vec<String>)> = tree.names().collect();
        let bench = Bench::start(tree)?;
        for (name, types) in names {
            let expected = if name.starts_with(KNOWN_BOGUS) { Opinion::Bogus } else { Opinion::Secure };
            for rtype in types {
                let (unbound, delv, told) = bench.both(&name, &rtype)?;
                assert!(unbound == expected && delv == expected, "expected {expected:?} of {told}");
            }
        }
        Ok(())
    });
}

#[test]
fn unbound_and_delv_agree_on_every_fault() {
    use Opinion::{Bogus, Insecure, NoAnswer, Secure};
    use Trouble as T;
    isolated(|| {
        let zone = |trouble| Fault::zone("b.nl", trouble);
        let txt = |trouble| Fault::record("b.nl", RrType::Txt, trouble);
        let cases = [
            (txt(T::WrongSignature), Bogus),
            (txt(T::ExpiredSignature), Bogus),
            (txt(T::NotYetValidSignature), Bogus),
            (txt(T::MissingSignature), Bogus),
            (txt(T::ForeignSignature("a.nl".into())), Bogus),
            (zone(T::WrongSignature), Bogus),
            (zone(T::Unsigned), Insecure),
            (zone(T::DsMismatch), Bogus),
            (zone(T::UnknownAlgorithm), Insecure),
            (Fault::zone(".", T::RootRolled), Bogus),
            (txt(T::Servfail), NoAnswer),
            (txt(T::Truncated), Secure),
            (txt(T::ForgedAd), Secure),
            (txt(T::FalseNodata), Bogus),
            (txt(T::FalseNxdomain), Bogus),
            (txt(T::ParentDenial), Bogus),
            (Fault::record("b.nl", RrType::Ds, T::FalseNodata), Bogus),
            (Fault::record("b.nl", RrType::Ds, T::WrongSignature), Bogus),
            (Fault::record("b.nl", RrType::Dnskey, T::ExpiredSignature), Bogus),
        ];
        for (fault, expected) in cases {
            let shown = fault.to_string();
            let mut broken = tree();
            broken.fault(fault);
            // A new resolver each time: it would remember keys and delegations of the tree before.
            let bench = Bench::start(broken)?;
            let (unbound, delv, told) = bench.both("b.nl", "TXT")?;
            assert!(unbound == expected && delv == expected, "{shown}: expected {expected:?} of {told}");
            assert!(!bench.dns.questions().is_empty(), "{shown}: nobody asked our server");
        }
        Ok(())
    });
}

/// Every name of a topology: our server, asked as a resolver, says what it is worth; the other two must agree.
fn all_agree_on(topology: Topology) -> Result<(), Box<dyn std::error::Error>> {
    let prefix = Prefix::pick(|| 0x0707, &[])?;
    let described = Plan::new(topology, &prefix, Timestamp::now())?.tree()?;
    let mut questions: Vec<(String, String)> = described
        .names()
        .flat_map(|(name, types)| types.into_iter().map(move |rtype| (name.clone(), rtype)))
        .collect();
    for zone in described.zones() {
        questions.extend(["SOA", "DNSKEY", "DS", "AAAA"].map(|rtype| (zone.clone(), rtype.to_owned())));
        questions.push((format!("nobody.{}", zone.trim_start_matches('.')), "A".into()));
    }
    let bench = Bench::start(described)?;
    let ours = Dig::new(bench.dns.addr())?;
    let mut differences = Vec::new();
    for (name, rtype) in &questions {
        let expected = ours.opinion(name, rtype)?;
        let (unbound, delv, told) = bench.both(name, rtype)?;
        println!("{name} {rtype}: {expected:?}");
        if unbound != expected || delv != expected {
            differences.push(format!("expected {expected:?} of {told}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(questions.len() > 10, "a topology has names");
    Ok(())
}

#[test]
fn all_agree_on_every_name_with_a_fault() {
    isolated(|| all_agree_on(Topology::faults()));
}

#[test]
fn all_agree_that_a_rolled_root_proves_nothing() {
    isolated(|| all_agree_on(Topology::root_rolled()));
}
