//! Is the tree what it claims to be? An independent validator (NLnet Labs' `domain`) judges every name and fault.
//!
//! Three readings must agree: what the table says, what the validator computes from the records (asked with CD, so
//! that the server hides nothing), and how the server treats the same question as a validating resolver.
#![allow(clippy::unwrap_used, missing_docs)]

use std::net::SocketAddr;
use std::str::FromStr as _;
use std::time::Duration;

use domain::base::iana::Rcode;
use domain::base::{Message, MessageBuilder, Name, Rtype};
use domain::dnssec::validator::anchor::TrustAnchors;
use domain::dnssec::validator::context::{ValidationContext, ValidationState};
use domain::net::client::protocol::{TcpConnect, UdpConnect};
use domain::net::client::request::{ComposeRequest as _, RequestMessage, SendRequest as _};
use domain::net::client::{dgram, dgram_stream, multi_stream};
use jiff::Timestamp;
use testnet::dns::{Denial, DnsServer, Fault, KNOWN_BOGUS, RrType, Tree, Trouble};
use testnet::loopback::Prefix;
use testnet::topology::{Plan, Topology};

type Upstream = dgram_stream::Connection<UdpConnect, RequestMessage<Vec<u8>>>;

/// The independent validator, connected to one server.
struct Judge {
    upstream: Upstream,
    context: ValidationContext<Upstream>,
}

/// What came back, and what it is worth.
#[derive(Debug)]
struct Judgement {
    code: Rcode,
    ad: bool,
    records: usize,
    state: Option<ValidationState>,
}

impl Judge {
    fn new(dns: &DnsServer) -> Self {
        let addr = dns.addr();
        let mut datagrams = dgram::Config::new();
        datagrams.set_read_timeout(Duration::from_millis(400));
        datagrams.set_max_retries(0);
        datagrams.set_udp_payload_size(Some(1_232));
        let config = dgram_stream::Config::from_parts(datagrams, multi_stream::Config::default());
        let (upstream, transport) =
            dgram_stream::Connection::with_config(UdpConnect::new(addr), TcpConnect::new(addr), config);
        tokio::spawn(transport.run());
        let anchors = TrustAnchors::from_u8(dns.anchor_ds().as_bytes()).unwrap();
        let context = ValidationContext::new(anchors, upstream.clone());
        Self { upstream, context }
    }

    /// Asks with DO and CD and validates the reply; `None` if there is no reply.
    async fn judge(&self, name: &str, rtype: Rtype) -> Option<Judgement> {
        let mut reply = self.ask(name, rtype, true).await?;
        let state = self.context.validate_msg::<_, Vec<u8>>(&mut reply).await.ok().map(|(state, _)| state);
        Some(Judgement { state, ..look(&reply) })
    }

    /// Asks as a client that trusts the server: DO without CD.
    async fn trusting(&self, name: &str, rtype: Rtype) -> Option<Judgement> {
        self.ask(name, rtype, false).await.map(|reply| look(&reply))
    }

    async fn ask(&self, name: &str, rtype: Rtype, checking_disabled: bool) -> Option<Message<Vec<u8>>> {
        let mut message = MessageBuilder::new_vec();
        message.header_mut().set_rd(true);
        message.header_mut().set_cd(checking_disabled);
        let mut message = message.question();
        message.push((Name::vec_from_str(name).unwrap(), rtype)).unwrap();
        let mut request = RequestMessage::new(message).unwrap();
        request.set_dnssec_ok(true);
        let mut pending = self.upstream.send_request(request);
        let reply = tokio::time::timeout(Duration::from_secs(2), pending.get_response()).await.ok()?.ok()?;
        let reply = Message::from_octets(reply.as_slice().to_vec()).ok()?;
        // A reply that ends in the middle of a record is none.
        let whole = reply.iter().all(|record| record.is_ok());
        whole.then_some(reply)
    }
}

fn look(reply: &Message<Vec<u8>>) -> Judgement {
    Judgement {
        code: reply.header().rcode(),
        ad: reply.header().ad(),
        records: usize::from(reply.header_counts().ancount()),
        state: None,
    }
}

/// Two providers, one zone of each kind of denial, and one that is meant to be left unsigned.
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
            .address(&host, "::1".parse().unwrap())
            .tlsa(&format!("_25._tcp.{host}"), &[&[3, 1, 1][..], &[net; 32]].concat())
            .tlsa(&format!("_smtp-client.{host}"), &[&[3, 1, 1][..], &[net; 32]].concat())
            .cname(&format!("mail.{zone}"), &host);
    }
    tree.fault(Fault::zone("plain.nl", Trouble::Unsigned))
        .cname("cross.a.nl", "nta.b.nl")
        .cname("out.a.nl", "nta.plain.nl");
    tree
}

async fn serve(tree: Tree) -> (DnsServer, Judge) {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let dns = DnsServer::start(tree, Timestamp::now(), any).await.unwrap();
    let judge = Judge::new(&dns);
    (dns, judge)
}

/// What all three readings are expected to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    /// Data (or proof that there is none), secure; AD is set.
    Secure,
    /// The same, outside any chain; AD is clear.
    Insecure,
    /// The validator says bogus; the server answers SERVFAIL unless CD is set.
    Bogus,
    /// This code, whoever asks.
    Code(Rcode),
    /// No usable reply, whoever asks.
    Nothing,
}

async fn check(judge: &Judge, name: &str, rtype: Rtype, expect: Expect) -> Judgement {
    let judged = judge.judge(name, rtype).await;
    let trusting = judge.trusting(name, rtype).await;
    let what = format!("{name} {rtype}: judged {judged:?}, trusting {trusting:?}, expected {expect:?}");
    let (Some(judged), Some(trusting)) = (judged, trusting) else {
        assert_eq!(expect, Expect::Nothing, "{what}");
        return Judgement { code: Rcode::NOERROR, ad: false, records: 0, state: None };
    };
    assert!(!judged.ad, "CD was set: {what}");
    match expect {
        Expect::Secure => {
            assert_eq!(judged.state, Some(ValidationState::Secure), "{what}");
            assert!(
                trusting.ad && trusting.code == judged.code && trusting.records == judged.records,
                "{what}"
            );
        }
        Expect::Insecure => {
            assert_eq!(judged.state, Some(ValidationState::Insecure), "{what}");
            assert!(
                !trusting.ad && trusting.code == judged.code && trusting.records == judged.records,
                "{what}"
            );
        }
        Expect::Bogus => {
            assert_eq!(judged.state, Some(ValidationState::Bogus), "{what}");
            assert!(judged.code == Rcode::NOERROR || judged.code == Rcode::NXDOMAIN, "{what}");
            assert!(!trusting.ad && trusting.code == Rcode::SERVFAIL && trusting.records == 0, "{what}");
        }
        Expect::Code(code) => {
            assert!(judged.code == code && trusting.code == code && judged.records == 0, "{what}")
        }
        Expect::Nothing => panic!("{what}"),
    }
    judged
}

const TYPES: [Rtype; 10] = [
    Rtype::A,
    Rtype::AAAA,
    Rtype::CNAME,
    Rtype::DNSKEY,
    Rtype::DS,
    Rtype::MX,
    Rtype::NS,
    Rtype::SOA,
    Rtype::TLSA,
    Rtype::TXT,
];

#[tokio::test]
async fn every_type_of_every_name_is_as_secure_as_its_zone() {
    let tree = tree();
    let mut names: Vec<String> = tree.names().map(|(name, _)| name).chain(tree.zones()).collect();
    // Names that aren't there: below a zone, above a record (empty non-terminal), at the top, deep.
    names.extend(
        [
            "nobody.a.nl.",
            "_tcp.nta.a.nl.",
            "nobody.b.nl.",
            "_tcp.nta.b.nl.",
            "x.y.z.b.nl.",
            "zzz.nl.",
            "example.com.",
        ]
        .map(str::to_owned),
    );
    let (_dns, judge) = serve(tree).await;
    for name in names {
        for rtype in TYPES {
            let of_alias = rtype != Rtype::CNAME && rtype != Rtype::DS;
            let expect = match name.trim_end_matches('.') {
                KNOWN_BOGUS if rtype != Rtype::DS => Expect::Bogus,
                // The parent says securely that there is no DS.
                "plain.nl" if rtype == Rtype::DS => Expect::Secure,
                "out.a.nl" if rtype != Rtype::CNAME => Expect::Insecure,
                n if n.ends_with("plain.nl") => Expect::Insecure,
                _ => Expect::Secure,
            };
            let judged = check(&judge, &name, rtype, expect).await;
            if name == "cross.a.nl." && of_alias && rtype == Rtype::A {
                assert_eq!(judged.records, 4, "alias, address, a signature for each");
            }
        }
    }
}

/// What `testnet up` publishes by default, and every provider of the fault topology that is sound in DNS.
#[tokio::test]
async fn every_name_of_the_built_in_topologies_is_as_its_file_says() {
    let prefix = Prefix::pick(|| 0x6E01, &[]).unwrap();
    for (topology, faulty) in [
        (Topology::three_providers(), &[][..]),
        (
            Topology::faults(),
            &["bogus", "stale", "unsigned", "plain", "refusing", "tlsa-servfail", "cert-bogus"][..],
        ),
        (Topology::variations(), &["b"][..]),
    ] {
        let plan = Plan::new(topology, &prefix, Timestamp::now()).unwrap();
        let tree = plan.tree().unwrap();
        let records: Vec<_> = tree
            .names()
            .flat_map(|(name, types)| types.into_iter().map(move |t| (name.clone(), t)))
            .collect();
        let (_dns, judge) = serve(tree).await;
        for (name, rtype) in &records {
            let zone = name.trim_end_matches('.').rsplit('.').nth(1).unwrap();
            let expect = match zone {
                "dnssec-failed" => Expect::Bogus,
                zone if !faulty.contains(&zone) => Expect::Secure,
                "bogus" => Expect::Bogus,
                "unsigned" | "plain" => Expect::Insecure,
                "stale" if name == "stale.nl." && rtype == "TXT" => Expect::Bogus,
                "refusing" if name == "refusing.nl." && rtype == "TXT" => Expect::Code(Rcode::REFUSED),
                "cert-bogus" if name.starts_with("_smtp-client.") => Expect::Bogus,
                "b" if name == "_2525._tcp.nta-1.b.nl." => Expect::Code(Rcode::SERVFAIL),
                "tlsa-servfail" if name.starts_with("_2525.") => Expect::Code(Rcode::SERVFAIL),
                _ => Expect::Secure,
            };
            check(&judge, name, Rtype::from_str(rtype).unwrap(), expect).await;
        }
        assert!(records.len() >= 19, "{records:?}");
    }
}

#[tokio::test]
async fn the_right_data_comes_back() {
    let (_dns, judge) = serve(tree()).await;
    for (name, rtype, code, records) in [
        ("a.nl", Rtype::TXT, Rcode::NOERROR, 2),
        ("A.nL", Rtype::MX, Rcode::NOERROR, 2),
        ("_25._tcp.nta.b.nl", Rtype::TLSA, Rcode::NOERROR, 2),
        ("nta.a.nl", Rtype::TLSA, Rcode::NOERROR, 0),
        ("nobody.a.nl", Rtype::TLSA, Rcode::NXDOMAIN, 0),
        ("nobody.b.nl", Rtype::TLSA, Rcode::NXDOMAIN, 0),
        ("_tcp.nta.a.nl", Rtype::TLSA, Rcode::NOERROR, 0),
        ("_tcp.nta.b.nl", Rtype::TLSA, Rcode::NOERROR, 0),
        ("a.nl", Rtype::DS, Rcode::NOERROR, 2),
        ("example.com", Rtype::A, Rcode::NXDOMAIN, 0),
    ] {
        let judged = check(&judge, name, rtype, Expect::Secure).await;
        assert_eq!((judged.code, judged.records), (code, records), "{name} {rtype}");
    }
}

/// Every fault, at a question it touches and at one it must leave alone.
#[tokio::test]
async fn every_fault_gives_the_verdict_it_promises() {
    use Expect::{Bogus, Insecure, Nothing, Secure};
    use Trouble as T;
    const TLSA: (&str, Rtype) = ("_25._tcp.nta.b.nl", Rtype::TLSA);
    const TXT: (&str, Rtype) = ("b.nl", Rtype::TXT);
    const HOST: (&str, Rtype) = ("nta.b.nl", Rtype::A);
    const OTHER: (&str, Rtype) = ("a.nl", Rtype::TXT);
    const ABSENT: (&str, Rtype) = ("b.nl", Rtype::TLSA);
    let zone = |trouble| Fault::zone("b.nl", trouble);
    let txt = |trouble| Fault::record("b.nl", RrType::Txt, trouble);
    let tlsa = |trouble| Fault::record("_25._tcp.nta.b.nl", RrType::Tlsa, trouble);
    let host = |trouble| Fault::name("nta.b.nl", trouble);
    let cases: Vec<(Fault, (&str, Rtype), Expect)> = vec![
        (zone(T::WrongSignature), TXT, Bogus),
        (zone(T::WrongSignature), ABSENT, Bogus),
        (zone(T::WrongSignature), OTHER, Secure),
        (zone(T::ExpiredSignature), TLSA, Bogus),
        (zone(T::NotYetValidSignature), TLSA, Bogus),
        (zone(T::MissingSignature), TXT, Bogus),
        (zone(T::ForeignSignature("a.nl".into())), TXT, Bogus),
        (txt(T::WrongSignature), TXT, Bogus),
        (txt(T::WrongSignature), TLSA, Secure),
        (txt(T::ExpiredSignature), TXT, Bogus),
        (txt(T::NotYetValidSignature), TXT, Bogus),
        (txt(T::MissingSignature), TXT, Bogus),
        (txt(T::ForeignSignature("a.nl".into())), TXT, Bogus),
        (tlsa(T::WrongSignature), TLSA, Bogus),
        (tlsa(T::WrongSignature), HOST, Secure),
        (host(T::ExpiredSignature), HOST, Bogus),
        (host(T::ExpiredSignature), ("nta.b.nl", Rtype::AAAA), Bogus),
        (host(T::ExpiredSignature), TXT, Secure),
        (host(T::ExpiredSignature), ("mail.b.nl", Rtype::A), Bogus),
        (Fault::record("b.nl", RrType::Dnskey, T::WrongSignature), TXT, Bogus),
        (Fault::record("b.nl", RrType::Ds, T::WrongSignature), TXT, Bogus),
        (Fault::record("b.nl", RrType::Ds, T::ExpiredSignature), TXT, Bogus),
        (zone(T::Unsigned), TXT, Insecure),
        (zone(T::Unsigned), ABSENT, Insecure),
        (zone(T::Unsigned), ("b.nl", Rtype::DS), Secure),
        (zone(T::DsMismatch), TXT, Bogus),
        (zone(T::DsMismatch), OTHER, Secure),
        (zone(T::UnknownAlgorithm), TXT, Insecure),
        (Fault::zone(".", T::RootRolled), TXT, Bogus),
        (Fault::zone(".", T::RootRolled), OTHER, Bogus),
        (Fault::zone("nl", T::Unsigned), TXT, Insecure),
        (Fault::zone("nl", T::ExpiredSignature), TXT, Bogus),
        (tlsa(T::Servfail), TLSA, Expect::Code(Rcode::SERVFAIL)),
        (tlsa(T::Servfail), HOST, Secure),
        (tlsa(T::Refused), TLSA, Expect::Code(Rcode::REFUSED)),
        (tlsa(T::Notimp), TLSA, Expect::Code(Rcode::NOTIMP)),
        (tlsa(T::Silence), TLSA, Nothing),
        (tlsa(T::Silence), HOST, Secure),
        (host(T::Servfail), ("mail.b.nl", Rtype::A), Expect::Code(Rcode::SERVFAIL)),
        (host(T::Silence), ("cross.a.nl", Rtype::A), Nothing),
        (zone(T::Servfail), TXT, Expect::Code(Rcode::SERVFAIL)),
        (txt(T::Truncated), TXT, Secure),
        (txt(T::TruncatedEverywhere), TXT, Nothing),
        (txt(T::CutShort), TXT, Nothing),
        (Fault::record("b.nl", RrType::Tlsa, T::DenialMissing), ABSENT, Bogus),
        (Fault::name("nobody.b.nl", T::DenialMissing), ("nobody.b.nl", Rtype::A), Bogus),
        (Fault::name("nobody.a.nl", T::DenialMissing), ("nobody.a.nl", Rtype::A), Bogus),
        (zone(T::DenialMissing), ABSENT, Bogus),
        (zone(T::DenialMissing), TXT, Secure),
        (tlsa(T::FalseNodata), TLSA, Bogus),
        (tlsa(T::FalseNxdomain), TLSA, Bogus),
        (tlsa(T::FalseNodata), HOST, Secure),
        (txt(T::FalseNodata), TXT, Bogus),
        (txt(T::FalseNxdomain), TXT, Bogus),
        (txt(T::ParentDenial), TXT, Bogus),
        (Fault::record("a.nl", RrType::Txt, T::FalseNodata), OTHER, Bogus),
        (Fault::record("a.nl", RrType::Txt, T::FalseNxdomain), OTHER, Bogus),
        (Fault::record("a.nl", RrType::Txt, T::ParentDenial), OTHER, Bogus),
        (Fault::record("b.nl", RrType::Ds, T::FalseNodata), TXT, Bogus),
        (host(T::Alias("moved.a.nl".into())), HOST, Secure),
        (host(T::Alias("moved.plain.nl".into())), HOST, Insecure),
        (host(T::AliasChain(9)), HOST, Secure),
        (tlsa(T::HugeTlsa(150)), TLSA, Secure),
    ];
    let (dns, _) = serve(tree()).await;
    for (fault, (name, rtype), expect) in cases {
        let shown = fault.to_string();
        dns.update(|healthy| {
            *healthy = {
                let mut tree = tree();
                tree.fault(fault);
                tree
            }
        })
        .unwrap();
        // A new judge each time: verdicts are cached.
        println!("{shown}: {name} {rtype} -> {expect:?}");
        check(&Judge::new(&dns), name, rtype, expect).await;
    }
}
