//! Attack class T20: somebody stands between the node and its resolver and forges answers in every form that has fooled
//! a validator. Whatever is forged must come out bogus: not secure, but not "insecure" or "absent" either, since those
//! would say that a domain does not take part.

use std::net::SocketAddr;
use std::sync::Arc;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
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

/// A forgery of the TXT answer for `a.nl` alone.
fn at_txt(change: impl Fn(&mut Message) + Send + Sync + 'static) -> Forge {
    Arc::new(move |query, reply| {
        if is_about(query, "a.nl", RecordType::TXT) {
            change(reply);
        }
    })
}

/// The answer is these records instead.
fn instead(answers: Vec<Record>) -> Forge {
    at_txt(move |reply| reply.answers = answers.clone())
}

/// There is no answer, with this proof and code.
fn denied(proof: &Message, code: ResponseCode) -> Forge {
    let proof = proof.authorities.clone();
    at_txt(move |reply| {
        reply.answers.clear();
        reply.authorities = proof.clone();
        reply.metadata.response_code = code;
    })
}

/// Forms of forgery of the records.
async fn forged_records(dns: &DnsServer) -> Vec<(&'static str, Forge)> {
    let own = signature(&real(dns, "a.nl", RecordType::TXT).await);
    let other = real(dns, "b.nl", RecordType::TXT).await;
    let signed_by = |signer: &str| instead(vec![evil(), with_signer(&own, signer)]);
    let alias = Record::from_rdata(owner("a.nl"), 300, RData::CNAME(CNAME(owner("plain.nl"))));
    let many = std::iter::once(evil()).chain(std::iter::repeat_n(own.clone(), 8)).collect();
    vec![
        ("unsigned", instead(vec![evil()])),
        (
            "unsigned, with AD",
            at_txt(|reply| {
                reply.answers = vec![evil()];
                reply.metadata.authentic_data = true;
            }),
        ),
        ("the old signature", instead(vec![evil(), own.clone()])),
        ("eight old signatures", instead(many)),
        ("another zone's signature", instead(vec![evil(), signature(&other)])),
        ("one more record in the signed set", at_txt(|reply| reply.answers.push(evil()))),
        ("a signer in an unsigned zone elsewhere", signed_by("plain.nl")),
        ("a signer in an unsigned zone below", signed_by("plain.a.nl")),
        ("a signer that does not exist", signed_by("nobody.nl")),
        ("a signer above", signed_by("nl")),
        ("the root as signer", signed_by(".")),
        ("an unsigned alias", instead(vec![alias])),
        ("an answer about another name", instead(other.answers.clone())),
    ]
}

/// Forms of forgery of a proof: that there is no record, no signature, or another key.
async fn forged_proofs(dns: &DnsServer) -> Vec<(&'static str, Forge)> {
    let nobody = real(dns, "nobody.a.nl", RecordType::TXT).await;
    let no_txt = real(dns, "mx.a.nl", RecordType::TXT).await;
    let no_ds = real(dns, "plain.nl", RecordType::DS).await;
    let keys = real(dns, "b.nl", RecordType::DNSKEY).await.answers;
    let renamed =
        keys.iter().map(|key| Record::from_rdata(owner("a.nl"), key.ttl, key.data.clone())).collect();
    let keys_instead = |keys: Vec<Record>| -> Forge {
        Arc::new(move |query, reply| {
            if is_about(query, "a.nl", RecordType::DNSKEY) {
                reply.answers = keys.clone();
            }
        })
    };
    // Instead of a DS, this proof; and an answer that would be right if the zone were unsigned.
    let unsigned_by = |proof: Option<Vec<Record>>| -> Forge {
        Arc::new(move |query, reply| {
            if query.query_type() == RecordType::DS {
                reply.answers.clear();
                match &proof {
                    Some(proof) => reply.authorities = proof.clone(),
                    None => unsigned(&mut reply.authorities),
                }
            } else if is_about(query, "a.nl", RecordType::TXT) {
                reply.answers = vec![evil()];
            }
        })
    };
    vec![
        ("no records, no proof", denied(&Message::response(0, OpCode::Query), ResponseCode::NoError)),
        ("NXDOMAIN without proof", denied(&Message::response(0, OpCode::Query), ResponseCode::NXDomain)),
        ("NXDOMAIN with the proof for another name", denied(&nobody, ResponseCode::NXDomain)),
        ("no records with the proof for another name", denied(&no_txt, ResponseCode::NoError)),
        ("no records with the proof of the parent", denied(&no_ds, ResponseCode::NoError)),
        ("a delegation said to be unsigned, without proof", unsigned_by(Some(Vec::new()))),
        ("a delegation said to be unsigned, with a proof that is not signed", unsigned_by(None)),
        (
            "a delegation said to be unsigned, with another's proof",
            unsigned_by(Some(no_ds.authorities.clone())),
        ),
        ("another zone's keys", keys_instead(keys.clone())),
        ("another zone's keys under this name", keys_instead(renamed)),
    ]
}

/// Proves: +DNS-001 -DNS-001 -DNS-002 -DNS-003 -DNS-005
#[tokio::test]
async fn t20_forgeries_are_bogus_and_never_insecure() {
    let dns = serve(tree()).await;
    let mut wrong = Vec::new();
    let forgeries = forged_records(&dns).await.into_iter().chain(forged_proofs(&dns).await);
    for (what, forge) in forgeries {
        let proxy = Proxy::run(dns.addr(), false, forge).await;
        let discovery = discovery_via(&dns, proxy.addr(), ManualClock::at(Timestamp::now())).await;
        let finding = discovery.federation(&name("a.nl"), &mut Trace::new()).await;
        if is(&finding) != Is::Later(Reason::DnsBogus) {
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
