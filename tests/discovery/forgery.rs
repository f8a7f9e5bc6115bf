//! Attack class T20: somebody stands between the node and its resolver and forges answers in every form that has fooled
//! a validator. Whatever is forged must come out bogus: not secure, but not "insecure" or "absent" either, since those
//! would say that a domain does not take part.

use std::net::SocketAddr;
use std::sync::Arc;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use jiff::Timestamp;
use sluis::discovery::{ClientTlsa, Trace};
use sluis::model::Reason;
use sluis::world::ManualClock;
use testnet::dns::{DnsServer, Fault, Tree, Trouble};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use crate::support::{Is, KEY, discovery_via, is, lab, name, provider, record, serve};

/// A man in the middle.
pub struct Proxy {
    addr: SocketAddr,
    task: JoinHandle<()>,
}

type Forge = Arc<dyn Fn(&Query, &mut Message) + Send + Sync>;

impl Proxy {
    /// Passes questions to `upstream` and lets `forge` change the answers.
    pub async fn start(
        upstream: SocketAddr,
        forge: impl Fn(&Query, &mut Message) + Send + Sync + 'static,
    ) -> Self {
        Self::run(upstream, false, Arc::new(forge)).await
    }

    /// The same, asking for unchecked data.
    pub async fn with_checking_disabled(
        upstream: SocketAddr,
        forge: impl Fn(&Query, &mut Message) + Send + Sync + 'static,
    ) -> Self {
        Self::run(upstream, true, Arc::new(forge)).await
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    async fn run(upstream: SocketAddr, checking_disabled: bool, forge: Forge) -> Self {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let addr = socket.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut buffer = vec![0; 65_535];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let (socket, forge, question) = (socket.clone(), forge.clone(), buffer[..length].to_vec());
                tokio::spawn(async move {
                    let mut question = Message::from_vec(&question).unwrap();
                    question.metadata.checking_disabled |= checking_disabled;
                    let out = UdpSocket::bind("127.0.0.1:0").await.unwrap();
                    out.send_to(&question.to_vec().unwrap(), upstream).await.unwrap();
                    let mut buffer = vec![0; 65_535];
                    let length = out.recv(&mut buffer).await.unwrap();
                    let mut reply = Message::from_vec(&buffer[..length]).unwrap();
                    forge(&question.queries[0], &mut reply);
                    let _ = socket.send_to(&reply.to_vec().unwrap(), from).await;
                });
            }
        });
        Self { addr, task }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn tree() -> Tree {
    let mut tree = Tree::new();
    provider(&mut tree, "a.nl");
    tree.tlsa("_smtp-client.mx.a.nl", &KEY);
    provider(&mut tree, "b.nl");
    provider(&mut tree, "plain.nl");
    tree.fault(Fault::zone("plain.nl", Trouble::Unsigned));
    // Signed, and below the zone that is attacked: an unsigned zone whose name could be claimed as signer.
    provider(&mut tree, "plain.a.nl");
    tree.fault(Fault::zone("plain.a.nl", Trouble::Unsigned));
    tree
}

fn owner(text: &str) -> Name {
    let mut name = Name::from_ascii(text).unwrap();
    name.set_fqdn(true);
    name
}

fn is_about(query: &Query, name: &str, rtype: RecordType) -> bool {
    query.name() == &owner(name) && query.query_type() == rtype
}

/// The evil record: another host.
fn evil() -> Record {
    let text = record(&["10 mx.b.nl"]);
    Record::from_rdata(owner("a.nl"), 300, RData::TXT(TXT::new(vec![text])))
}

fn unsigned(records: &mut Vec<Record>) {
    records.retain(|record| record.record_type() != RecordType::RRSIG);
}

/// Asks `upstream` as it is, for material to forge with.
async fn real(dns: &DnsServer, name: &str, rtype: RecordType) -> Message {
    use hickory_proto::op::{Edns, MessageType, OpCode};
    let mut question = Message::new(7, MessageType::Query, OpCode::Query);
    question.metadata.recursion_desired = true;
    question.metadata.checking_disabled = true;
    question.add_query(Query::query(owner(name), rtype));
    let mut edns = Edns::new();
    edns.set_dnssec_ok(true).set_max_payload(4096);
    question.set_edns(edns);
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&question.to_vec().unwrap(), dns.addr()).await.unwrap();
    let mut buffer = vec![0; 65_535];
    let length = socket.recv(&mut buffer).await.unwrap();
    Message::from_vec(&buffer[..length]).unwrap()
}

/// RRSIG data begins with: type covered 2, algorithm 1, labels 1, TTL 4, expiration 4, inception 4, tag 2, signer.
fn with_signer(record: &Record, signer: &str) -> Record {
    use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};
    let RData::DNSSEC(hickory_proto::dnssec::rdata::DNSSECRData::RRSIG(signature)) = &record.data else {
        panic!("no RRSIG")
    };
    let mut octets = Vec::new();
    let mut encoder = BinEncoder::new(&mut octets);
    signature.emit(&mut encoder).unwrap();
    let mut data = octets[..18].to_vec();
    let mut name = Vec::new();
    owner(signer).emit(&mut BinEncoder::new(&mut name)).unwrap();
    data.extend(name);
    data.extend([7; 64]);
    let raw = RData::Unknown { code: RecordType::RRSIG, rdata: hickory_proto::rr::rdata::NULL::with(data) };
    Record::from_rdata(record.name.clone(), record.ttl, raw)
}

fn signature(message: &Message) -> Record {
    message.answers.iter().find(|record| record.record_type() == RecordType::RRSIG).unwrap().clone()
}

/// Each form of forgery of the TXT answer for `a.nl`, or of what proves it.
async fn forms(dns: &DnsServer) -> Vec<(&'static str, Forge)> {
    let txt = real(dns, "a.nl", RecordType::TXT).await;
    let other_txt = real(dns, "b.nl", RecordType::TXT).await;
    let nobody = real(dns, "nobody.a.nl", RecordType::TXT).await;
    let no_mx = real(dns, "mx.a.nl", RecordType::TXT).await;
    let parent_denial = real(dns, "plain.nl", RecordType::DS).await;
    let other_keys = real(dns, "b.nl", RecordType::DNSKEY).await;
    let own = signature(&txt);
    let at_txt = |change: Box<dyn Fn(&mut Message) + Send + Sync>| -> Forge {
        Arc::new(move |query, reply| {
            if is_about(query, "a.nl", RecordType::TXT) {
                change(reply);
            }
        })
    };
    let signed_by = |signer: &'static str| {
        let forged = with_signer(&own, signer);
        at_txt(Box::new(move |reply| reply.answers = vec![evil(), forged.clone()]))
    };
    vec![
        ("unsigned", at_txt(Box::new(|reply| reply.answers = vec![evil()]))),
        (
            "unsigned, with AD",
            at_txt(Box::new(|reply| {
                reply.answers = vec![evil()];
                reply.metadata.authentic_data = true;
            })),
        ),
        ("the old signature", {
            let own = own.clone();
            at_txt(Box::new(move |reply| reply.answers = vec![evil(), own.clone()]))
        }),
        ("one more record in the signed set", at_txt(Box::new(|reply| reply.answers.push(evil())))),
        ("a signer in an unsigned zone elsewhere", signed_by("plain.nl")),
        ("a signer in an unsigned zone below", signed_by("plain.a.nl")),
        ("a signer that does not exist", signed_by("nobody.nl")),
        ("a signer above", signed_by("nl")),
        ("the root as signer", signed_by(".")),
        ("another zone's signature", {
            let other = signature(&other_txt);
            at_txt(Box::new(move |reply| reply.answers = vec![evil(), other.clone()]))
        }),
        ("a hundred signatures", {
            let own = own.clone();
            at_txt(Box::new(move |reply| {
                reply.answers = vec![evil()];
                reply.answers.extend(std::iter::repeat_n(own.clone(), 100));
            }))
        }),
        (
            "an unsigned alias",
            at_txt(Box::new(|reply| {
                reply.answers =
                    vec![Record::from_rdata(owner("a.nl"), 300, RData::CNAME(CNAME(owner("plain.nl"))))];
            })),
        ),
        ("an answer about another name", {
            let other = other_txt.answers.clone();
            at_txt(Box::new(move |reply| reply.answers = other.clone()))
        }),
        (
            "no records, no proof",
            at_txt(Box::new(|reply| {
                reply.answers.clear();
                reply.authorities.clear();
            })),
        ),
        (
            "NXDOMAIN without proof",
            at_txt(Box::new(|reply| {
                reply.answers.clear();
                reply.metadata.response_code = ResponseCode::NXDomain;
            })),
        ),
        (
            "NXDOMAIN beside the records",
            at_txt(Box::new(|reply| {
                reply.metadata.response_code = ResponseCode::NXDomain;
            })),
        ),
        ("NXDOMAIN with the proof for another name", {
            let proof = nobody.authorities.clone();
            at_txt(Box::new(move |reply| {
                reply.answers.clear();
                reply.authorities = proof.clone();
                reply.metadata.response_code = ResponseCode::NXDomain;
            }))
        }),
        ("no records with the proof for another name", {
            let proof = no_mx.authorities.clone();
            at_txt(Box::new(move |reply| {
                reply.answers.clear();
                reply.authorities = proof.clone();
            }))
        }),
        ("no records with the proof of the parent", {
            let proof = parent_denial.authorities.clone();
            at_txt(Box::new(move |reply| {
                reply.answers.clear();
                reply.authorities = proof.clone();
            }))
        }),
        (
            "a delegation said to be unsigned, without proof",
            Arc::new(|query: &Query, reply: &mut Message| {
                if is_about(query, "a.nl", RecordType::DS) {
                    reply.answers.clear();
                } else {
                    unsigned(&mut reply.answers);
                }
            }),
        ),
        ("a delegation said to be unsigned, with another's proof", {
            let proof = parent_denial.authorities.clone();
            Arc::new(move |query: &Query, reply: &mut Message| {
                if is_about(query, "a.nl", RecordType::DS) {
                    reply.answers.clear();
                    reply.authorities = proof.clone();
                } else if is_about(query, "a.nl", RecordType::TXT) {
                    reply.answers = vec![evil()];
                }
            })
        }),
        (
            "the parent said to be unsigned",
            Arc::new(|query: &Query, reply: &mut Message| {
                if query.query_type() == RecordType::DS {
                    reply.answers.clear();
                    unsigned(&mut reply.authorities);
                } else if is_about(query, "a.nl", RecordType::TXT) {
                    reply.answers = vec![evil()];
                }
            }),
        ),
        ("another zone's keys", {
            let keys = other_keys.answers.clone();
            Arc::new(move |query: &Query, reply: &mut Message| {
                if is_about(query, "a.nl", RecordType::DNSKEY) {
                    reply.answers = keys.clone();
                }
            })
        }),
        ("another zone's keys under this name", {
            let keys = other_keys.answers.clone();
            Arc::new(move |query: &Query, reply: &mut Message| {
                if is_about(query, "a.nl", RecordType::DNSKEY) {
                    reply.answers = keys.clone();
                    reply.answers.iter_mut().for_each(|record| record.name = owner("a.nl"));
                }
            })
        }),
    ]
}

/// Proves: +DNS-001 -DNS-001 -DNS-002 -DNS-003 -DNS-005
#[tokio::test]
async fn t20_forgeries_are_bogus_and_never_insecure() {
    let dns = serve(tree()).await;
    let mut wrong = Vec::new();
    for (what, forge) in forms(&dns).await {
        let proxy = Proxy::run(dns.addr(), false, forge).await;
        let discovery = discovery_via(&dns, proxy.addr(), ManualClock::at(Timestamp::now())).await;
        let finding = discovery.federation(&name("a.nl"), &mut Trace::new()).await;
        if !matches!(is(&finding), Is::Later(_)) {
            wrong.push(format!("{what}: {finding:?}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    // The proxy alone does no harm.
    let proxy = Proxy::start(dns.addr(), |_, _| {}).await;
    let discovery = discovery_via(&dns, proxy.addr(), ManualClock::at(Timestamp::now())).await;
    assert_eq!(is(&discovery.federation(&name("a.nl"), &mut Trace::new()).await), Is::Good);
}

/// A key that is there is not to be made invisible: a client would not be held to it.
///
/// Proves: -DNS-002 -DNS-003
#[tokio::test]
async fn t20_a_client_key_cannot_be_forged_away() {
    let dns = serve(tree()).await;
    let answer = real(&dns, "_smtp-client.mx.a.nl", RecordType::TLSA).await;
    let absent = real(&dns, "_smtp-client.mx.b.nl", RecordType::TLSA).await;
    let elsewhere = with_signer(&signature(&answer), "plain.nl");
    let forges: Vec<(&str, Forge)> = vec![
        (
            "stripped",
            Arc::new(|query, reply| {
                if query.query_type() == RecordType::TLSA {
                    unsigned(&mut reply.answers);
                }
            }),
        ),
        (
            "emptied",
            Arc::new(|query, reply| {
                if query.query_type() == RecordType::TLSA {
                    reply.answers.clear();
                }
            }),
        ),
        (
            "said to be signed by an unsigned zone",
            Arc::new(move |query, reply| {
                if query.query_type() == RecordType::TLSA {
                    unsigned(&mut reply.answers);
                    reply.answers.push(elsewhere.clone());
                }
            }),
        ),
        (
            "denied with another zone's proof",
            Arc::new(move |query, reply| {
                if query.query_type() == RecordType::TLSA {
                    reply.answers.clear();
                    reply.authorities = absent.authorities.clone();
                    reply.metadata.response_code = absent.metadata.response_code;
                }
            }),
        ),
    ];
    for (what, forge) in forges {
        let proxy = Proxy::run(dns.addr(), false, forge).await;
        let discovery = discovery_via(&dns, proxy.addr(), ManualClock::at(Timestamp::now())).await;
        let found = discovery.client_tlsa(&name("mx.a.nl"), &mut Trace::new()).await;
        assert!(matches!(found, ClientTlsa::Temporary { reason: Reason::DnsBogus, .. }), "{what}: {found:?}");
    }
}

/// What a resolver adds beside the answer neither helps nor harms.
#[tokio::test]
async fn t20_records_that_were_not_asked_for_change_nothing() {
    let dns = serve(tree()).await;
    let other = real(&dns, "b.nl", RecordType::TXT).await;
    let proxy = Proxy::start(dns.addr(), move |_, reply| {
        let glue = Record::from_rdata(owner("evil.nl"), 300, RData::A(A::new(127, 6, 6, 6)));
        reply.answers.push(glue.clone());
        reply.answers.extend(other.answers.clone());
        reply.authorities.push(glue.clone());
        reply.additionals.push(glue);
    })
    .await;
    let discovery = discovery_via(&dns, proxy.addr(), ManualClock::at(Timestamp::now())).await;
    assert_eq!(is(&discovery.federation(&name("a.nl"), &mut Trace::new()).await), Is::Good);
    assert_eq!(
        is(&discovery.federation(&name("plain.nl"), &mut Trace::new()).await),
        Is::No(Reason::ZoneInsecure)
    );
}

/// The validator's own memory of verified signatures does not look at their dates again; ours does.
///
/// Proves: -DNS-008
#[tokio::test]
async fn t20_an_answer_with_old_signatures_cannot_be_replayed() {
    let lab = lab(|tree| {
        tree.ttl(60);
        provider(tree, "a.nl");
    })
    .await;
    assert_eq!(is(&lab.find("a.nl").await), Is::Good);
    // The server goes on giving the same signatures, past their end by the node's clock. The validator has them in its
    // memory as good, and its own clock has not moved.
    lab.clock.advance(60 * 24 * 3_600_000);
    assert_eq!(is(&lab.find("a.nl").await), Is::Later(Reason::DnsBogus));
}
