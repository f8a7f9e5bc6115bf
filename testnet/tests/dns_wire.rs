//! The DNS server's manners on the wire: flags, sizes, transports, faults of behaviour, changes at run time.
#![allow(clippy::unwrap_used, missing_docs)]

use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use jiff::Timestamp;
use testnet::dns::{
    DnsServer, Fault, KNOWN_BOGUS, Question, RrType, TlsaShape, Transport, Tree, TreeError, Trouble,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// What a client says in its question.
#[derive(Debug, Clone, Copy)]
enum Say {
    Nothing,
    Dnssec,
    DnssecAndCheckingDisabled,
    AuthenticData,
}

fn question(name: &str, rtype: RecordType, say: Say) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), rtype));
    if let Say::Dnssec | Say::DnssecAndCheckingDisabled = say {
        let mut edns = Edns::new();
        edns.set_max_payload(4_096).set_dnssec_ok(true);
        message.set_edns(edns);
    }
    message.metadata.checking_disabled = matches!(say, Say::DnssecAndCheckingDisabled);
    message.metadata.authentic_data = matches!(say, Say::AuthenticData);
    message
}

/// Sends over UDP; the reply as it came.
async fn raw(dns: &DnsServer, message: &Message) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(dns.addr()).await.unwrap();
    socket.send(&message.to_vec().unwrap()).await.unwrap();
    let mut buffer = vec![0; 65_535];
    let length = timeout(Duration::from_secs(10), socket.recv(&mut buffer)).await.unwrap().unwrap();
    buffer.truncate(length);
    buffer
}

async fn udp(dns: &DnsServer, message: &Message) -> Message {
    Message::from_vec(&raw(dns, message).await).unwrap()
}

/// Sends over TCP; `None` if the connection is closed without a reply.
async fn tcp(dns: &DnsServer, message: &Message) -> Option<Message> {
    let mut stream = TcpStream::connect(dns.addr()).await.unwrap();
    let octets = message.to_vec().unwrap();
    stream.write_u16(octets.len().try_into().unwrap()).await.unwrap();
    stream.write_all(&octets).await.unwrap();
    let length = timeout(Duration::from_secs(10), stream.read_u16()).await.unwrap().ok()?;
    let mut reply = vec![0; length.into()];
    stream.read_exact(&mut reply).await.unwrap();
    Some(Message::from_vec(&reply).unwrap())
}

async fn serve(describe: impl FnOnce(&mut Tree)) -> DnsServer {
    let mut tree = Tree::new();
    tree.zone("a.nl").txt("a.nl", "hello").address("nta.a.nl", [127, 9, 9, 9].into());
    describe(&mut tree);
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    DnsServer::start(tree, Timestamp::now(), any).await.unwrap()
}

#[tokio::test]
async fn flags_follow_what_the_client_asked_for() {
    let dns = serve(|_| {}).await;
    for (say, ad, records) in [
        (Say::Nothing, false, 1),
        (Say::AuthenticData, true, 1),
        (Say::Dnssec, true, 2),
        (Say::DnssecAndCheckingDisabled, false, 2),
    ] {
        let reply = udp(&dns, &question("a.nl", RecordType::TXT, say)).await;
        assert_eq!(reply.metadata.authentic_data, ad, "{say:?}");
        assert_eq!(reply.answers.len(), records, "{say:?}");
        assert!(reply.metadata.recursion_available && reply.metadata.recursion_desired, "{say:?}");
        assert!(!reply.metadata.authoritative, "{say:?}");
        let dnssec = matches!(say, Say::Dnssec | Say::DnssecAndCheckingDisabled);
        assert_eq!(reply.edns.is_some_and(|edns| edns.flags().dnssec_ok), dnssec, "{say:?}");
    }
}

#[tokio::test]
async fn proofs_are_sent_only_to_those_who_ask() {
    let dns = serve(|_| {}).await;
    let without = udp(&dns, &question("nobody.a.nl", RecordType::TXT, Say::Nothing)).await;
    assert_eq!(without.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(without.authorities.len(), 1, "the SOA");
    let with = udp(&dns, &question("nobody.a.nl", RecordType::TXT, Say::Dnssec)).await;
    assert!(with.authorities.iter().any(|record| record.record_type() == RecordType::NSEC));
    let with = udp(&dns, &question("nobody.nl", RecordType::TXT, Say::Dnssec)).await;
    assert!(with.authorities.iter().any(|record| record.record_type() == RecordType::NSEC3));
}

#[tokio::test]
async fn bogus_data_is_withheld_unless_checking_is_disabled() {
    let dns = serve(|_| {}).await;
    for say in [Say::Nothing, Say::AuthenticData, Say::Dnssec] {
        let reply = udp(&dns, &question(KNOWN_BOGUS, RecordType::A, say)).await;
        assert_eq!(reply.metadata.response_code, ResponseCode::ServFail, "{say:?}");
        assert!(reply.answers.is_empty() && !reply.metadata.authentic_data, "{say:?}");
    }
    let reply = udp(&dns, &question(KNOWN_BOGUS, RecordType::A, Say::DnssecAndCheckingDisabled)).await;
    assert_eq!(reply.answers.len(), 2);
}

/// The server that a name server's client sees: RD clear.
#[tokio::test]
async fn without_recursion_it_answers_as_the_name_server_of_all_zones() {
    let dns = serve(|tree| {
        tree.zone("b.nl").address("host.b.nl", [127, 1, 1, 1].into());
        tree.cname("near.a.nl", "nta.a.nl").cname("far.a.nl", "host.b.nl");
    })
    .await;
    let ask = |name: &'static str, rtype| {
        let mut message = question(name, rtype, Say::Dnssec);
        message.metadata.recursion_desired = false;
        message
    };
    let signer = |reply: &Message| {
        let names = reply.answers.iter().filter_map(|record| match &record.data {
            RData::DNSSEC(hickory_proto::dnssec::rdata::DNSSECRData::RRSIG(rrsig)) => {
                Some(rrsig.input().signer_name.to_ascii())
            }
            _ => None,
        });
        names.collect::<Vec<_>>()
    };
    let reply = udp(&dns, &ask("a.nl", RecordType::TXT)).await;
    assert!(
        reply.metadata.authoritative && !reply.metadata.recursion_available && !reply.metadata.authentic_data
    );
    assert_eq!(signer(&reply), ["a.nl."]);
    let ds = udp(&dns, &ask("a.nl", RecordType::DS)).await;
    assert_eq!(signer(&ds), ["nl."], "the DS comes from the parent");
    let keys = udp(&dns, &ask("a.nl", RecordType::DNSKEY)).await;
    assert_eq!(signer(&keys), ["a.nl."]);
    assert_eq!(udp(&dns, &ask("near.a.nl", RecordType::A)).await.answers.len(), 4, "alias and address");
    assert_eq!(udp(&dns, &ask("far.a.nl", RecordType::A)).await.answers.len(), 2, "only the alias");
    let bogus = udp(&dns, &ask(KNOWN_BOGUS, RecordType::A)).await;
    assert_eq!(
        (bogus.metadata.response_code, bogus.answers.len()),
        (ResponseCode::NoError, 2),
        "it does not judge"
    );
}

#[tokio::test]
async fn what_does_not_fit_a_datagram_is_truncated_and_comes_over_tcp() {
    let dns = serve(|tree| {
        for text in 0..12 {
            tree.txt("big.a.nl", &format!("{text:0>100}"));
        }
        tree.txt("medium.a.nl", &"x".repeat(600));
    })
    .await;
    let big = question("big.a.nl", RecordType::TXT, Say::Dnssec);
    let octets = raw(&dns, &big).await;
    let reply = Message::from_vec(&octets).unwrap();
    assert!(reply.metadata.truncation && reply.answers.is_empty() && octets.len() < 100);
    assert_eq!(tcp(&dns, &big).await.unwrap().answers.len(), 13);
    // Without EDNS 512 octets are the limit; with it 1,232, whatever the client says.
    assert!(udp(&dns, &question("medium.a.nl", RecordType::TXT, Say::Nothing)).await.metadata.truncation);
    assert!(!udp(&dns, &question("medium.a.nl", RecordType::TXT, Say::Dnssec)).await.metadata.truncation);
    let transports: Vec<Transport> = dns.questions().into_iter().map(|question| question.transport).collect();
    assert_eq!(transports, [Transport::Udp, Transport::Tcp, Transport::Udp, Transport::Udp]);
}

#[tokio::test]
async fn truncation_can_be_forced_with_and_without_a_way_out() {
    let dns = serve(|tree| {
        tree.fault(Fault::record("a.nl", RrType::Txt, Trouble::Truncated));
        tree.fault(Fault::record("nta.a.nl", RrType::A, Trouble::TruncatedEverywhere));
    })
    .await;
    let txt = question("a.nl", RecordType::TXT, Say::Dnssec);
    assert!(udp(&dns, &txt).await.metadata.truncation);
    assert_eq!(tcp(&dns, &txt).await.unwrap().answers.len(), 2);
    let address = question("nta.a.nl", RecordType::A, Say::Dnssec);
    assert!(udp(&dns, &address).await.metadata.truncation);
    assert!(tcp(&dns, &address).await.is_none());
}

/// Proves the fault, not a defence: the bit is set over data that anybody with the key list knows to be wrong.
#[tokio::test]
async fn t21_a_forged_ad_bit_stands_over_bogus_data() {
    let dns = serve(|tree| {
        tree.fault(Fault::record("a.nl", RrType::Txt, Trouble::WrongSignature));
        tree.fault(Fault::record("a.nl", RrType::Txt, Trouble::ForgedAd));
    })
    .await;
    for say in [Say::Nothing, Say::Dnssec] {
        let reply = udp(&dns, &question("a.nl", RecordType::TXT, say)).await;
        assert!(reply.metadata.authentic_data && !reply.answers.is_empty(), "{say:?}");
    }
}

#[tokio::test]
async fn t19_malformed_tlsa_data_arrives_as_it_is_and_signed() {
    for shape in TlsaShape::ALL {
        let fault = Fault::record("_25._tcp.nta.a.nl", RrType::Tlsa, Trouble::MalformedTlsa(shape));
        let dns = serve(|tree| {
            tree.fault(fault);
        })
        .await;
        let octets = raw(&dns, &question("_25._tcp.nta.a.nl", RecordType::TLSA, Say::Dnssec)).await;
        let rdata = shape.rdata();
        // Type, class, TTL and length before the data, as they stand in the packet.
        let mut wanted = vec![0, 52, 0, 1, 0, 0, 1, 44];
        wanted.extend_from_slice(&u16::try_from(rdata.len()).unwrap().to_be_bytes());
        wanted.extend_from_slice(&rdata);
        assert!(octets.windows(wanted.len()).any(|window| window == wanted), "{shape:?}");
        assert_eq!(&octets[6..8], &[0, 2], "{shape:?}: the record and its signature");
    }
}

#[tokio::test]
async fn a_loop_of_aliases_is_returned_as_it_is() {
    let dns = serve(|tree| {
        tree.fault(Fault::name("nta.a.nl", Trouble::AliasLoop));
    })
    .await;
    let reply = udp(&dns, &question("nta.a.nl", RecordType::A, Say::Nothing)).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
    let types: Vec<_> = reply.answers.iter().map(hickory_proto::rr::Record::record_type).collect();
    assert_eq!(types, [RecordType::CNAME, RecordType::CNAME]);
}

#[tokio::test]
async fn a_chain_of_nine_aliases_has_nine_links() {
    let dns = serve(|tree| {
        tree.fault(Fault::name("nta.a.nl", Trouble::AliasChain(9)));
    })
    .await;
    let reply = tcp(&dns, &question("nta.a.nl", RecordType::A, Say::Nothing)).await.unwrap();
    assert_eq!(reply.answers.len(), 10);
    assert_eq!(reply.answers[9].record_type(), RecordType::A);
}

#[tokio::test]
async fn questions_it_does_not_understand_are_refused() {
    let dns = serve(|_| {}).await;
    let mut update = question("a.nl", RecordType::TXT, Say::Nothing);
    update.metadata.op_code = OpCode::Notify;
    assert_eq!(udp(&dns, &update).await.metadata.response_code, ResponseCode::NotImp);
    let mut none = question("a.nl", RecordType::TXT, Say::Nothing);
    none.queries.clear();
    assert_eq!(udp(&dns, &none).await.metadata.response_code, ResponseCode::FormErr);
    let mut chaos = question("a.nl", RecordType::TXT, Say::Nothing);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(udp(&dns, &chaos).await.metadata.response_code, ResponseCode::Refused);
    let mut future = question("a.nl", RecordType::TXT, Say::Dnssec);
    future.edns.as_mut().unwrap().set_version(1);
    // BADVERS; the library reads 16 as its TSIG namesake.
    assert_eq!(u16::from(udp(&dns, &future).await.metadata.response_code), 16);
    assert_eq!(dns.questions(), [], "none of these is a question");
}

#[tokio::test]
async fn changes_take_effect_at_once_and_keep_the_anchor() {
    let dns = serve(|_| {}).await;
    let anchor = dns.anchor_ds();
    let tlsa = question("_25._tcp.nta.a.nl", RecordType::TLSA, Say::Dnssec);
    assert_eq!(udp(&dns, &tlsa).await.metadata.response_code, ResponseCode::NXDomain);
    for phase in [vec![vec![3, 1, 1, 1]], vec![vec![3, 1, 1, 1], vec![3, 1, 1, 2]], vec![vec![3, 1, 1, 2]]] {
        dns.update(|tree| {
            tree.replace_tlsa("_25._tcp.nta.a.nl", &phase);
        })
        .unwrap();
        assert_eq!(udp(&dns, &tlsa).await.answers.len(), phase.len() + 1);
    }
    dns.update(|tree| {
        tree.fault(Fault::zone(".", Trouble::RootRolled));
    })
    .unwrap();
    assert_eq!(dns.anchor_ds(), anchor, "the published anchor is the old one");
    assert_eq!(udp(&dns, &tlsa).await.metadata.response_code, ResponseCode::ServFail);
    dns.update(|tree| {
        tree.heal();
    })
    .unwrap();
    assert!(udp(&dns, &tlsa).await.metadata.authentic_data);
}

#[tokio::test]
async fn a_change_that_can_not_be_served_changes_nothing() {
    let dns = serve(|_| {}).await;
    type Change = fn(&mut Tree);
    let bad: [(Change, &str); 9] = [
        (|tree| _ = tree.txt("no..name", "x"), "`no..name` is not a domain name"),
        (|tree| _ = tree.txt_strings("a.nl", &[&[b'x'; 256]]), "256 octets"),
        (|tree| _ = tree.cname("nta.a.nl", "b.nl"), "beside other data"),
        (|tree| _ = tree.fault(Fault::zone("z.nl", Trouble::Servfail)), "no such zone"),
        (|tree| _ = tree.fault(Fault::zone("a.nl", Trouble::RootRolled)), "can't be rolled"),
        (|tree| _ = tree.fault(Fault::name("a.nl", Trouble::Unsigned)), "it needs a zone"),
        (|tree| _ = tree.fault(Fault::zone("a.nl", Trouble::AliasLoop)), "it needs a name"),
        (|tree| _ = tree.fault(Fault::name("x.a.nl", Trouble::WrongSignature)), "nothing there is signed"),
        (
            |tree| _ = tree.fault(Fault::name("a.nl", Trouble::ForeignSignature("nl".into()))),
            "validators differ",
        ),
    ];
    for (change, says) in bad {
        let error: TreeError = dns.update(change).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(udp(&dns, &question("a.nl", RecordType::TXT, Say::Dnssec)).await.answers.len(), 2);
    }
}

#[tokio::test]
async fn the_anchor_is_written_in_three_notations_of_the_same_key() {
    let dns = serve(|_| {}).await;
    let directory = tempfile::tempdir().unwrap();
    let files = dns.anchor().write(directory.path()).unwrap();
    let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap();
    assert_eq!(read(&files.ds), dns.anchor_ds() + "\n");
    assert!(read(&files.ds).starts_with(". 172800 IN DS ") && read(&files.ds).contains(" 13 2 "));
    let key = dns.anchor().dnskey();
    let key = key.strip_prefix(". 172800 IN DNSKEY 257 3 13 ").unwrap();
    assert_eq!(read(&files.dnskey), format!("{}\n", dns.anchor().dnskey()));
    assert!(read(&files.bind).contains(&format!(". static-key 257 3 13 \"{key}\";")));
}

#[tokio::test]
async fn it_remembers_what_it_was_asked() {
    let dns = serve(|_| {}).await;
    udp(&dns, &question("NTA.a.nl", RecordType::A, Say::Nothing)).await;
    let expected = Question { name: "nta.a.nl.".into(), rtype: "A".into(), transport: Transport::Udp };
    assert_eq!(dns.questions(), [expected]);
    dns.forget_questions();
    assert_eq!(dns.questions(), []);
}

#[tokio::test]
async fn a_dropped_server_no_longer_listens() {
    let dns = serve(|_| {}).await;
    let addr = dns.addr();
    let open = TcpStream::connect(addr).await.unwrap();
    drop(dns);
    let mut open = open;
    // The connection ends when the task is gone, so after this the listener is closed too.
    assert!(timeout(Duration::from_secs(10), open.read_u16()).await.unwrap().is_err());
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn signatures_follow_the_clock_they_are_given() {
    use hickory_proto::dnssec::rdata::DNSSECRData;
    let dns = serve(|_| {}).await;
    let now: Timestamp = "2030-05-05T05:05:05Z".parse().unwrap();
    dns.set_now(now).unwrap();
    let reply = udp(&dns, &question("a.nl", RecordType::TXT, Say::DnssecAndCheckingDisabled)).await;
    let RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) = &reply.answers[1].data else { panic!("{reply:?}") };
    let (from, to) = (rrsig.input().sig_inception.get(), rrsig.input().sig_expiration.get());
    let now = u32::try_from(now.as_second()).unwrap();
    assert!(from < now && now < to && to - from < 16 * 86_400);
}
