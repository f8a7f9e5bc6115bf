//! From a question to a reply: as a validating recursive resolver (RD set) or as the name server of all zones.

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};

use super::fault::Trouble;
use super::sign::Snapshot;
use super::zone::{Finding, Signed, Verdict};

/// Largest UDP reply, in octets, whatever the client offers (DNS flag day 2020).
const UDP_MAX: u16 = 1_232;
/// Largest UDP reply to a client without EDNS, in octets (RFC 1035 section 4.2.1).
const UDP_PLAIN: u16 = 512;
/// Most aliases followed in one answer. Above what real resolvers follow, so that the client's own limit is tested.
const ALIASES_MAX: usize = 16;

/// How a question arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// One datagram.
    Udp,
    /// A stream; replies of any size.
    Tcp,
}

/// What to do with a question.
#[derive(Debug)]
pub(super) enum Action {
    /// Send these octets.
    Send(Vec<u8>),
    /// Say nothing and keep the connection.
    Silence,
    /// Say nothing and close the connection.
    Close,
}

/// Parses a question and makes the reply. Also says what was asked, for the log.
pub(super) fn reply(snapshot: &Snapshot, request: &[u8], transport: Transport) -> (Action, Option<Query>) {
    let Ok(request) = Message::from_vec(request) else { return (Action::Close, None) };
    if request.metadata.message_type != MessageType::Query {
        return (Action::Close, None);
    }
    let mut response = Message::response(request.metadata.id, request.metadata.op_code);
    response.metadata = Metadata::response_from_request(&request.metadata);
    response.queries.clone_from(&request.queries);
    let refusal = match (request.metadata.op_code, request.queries.as_slice(), &request.edns) {
        (_, _, Some(edns)) if edns.version() > 0 => Some(ResponseCode::BADVERS),
        (OpCode::Query, [query], _) if query.query_class() == DNSClass::IN => None,
        (OpCode::Query, [_], _) => Some(ResponseCode::Refused),
        (OpCode::Query, ..) => Some(ResponseCode::FormErr),
        _ => Some(ResponseCode::NotImp),
    };
    if let Some(code) = refusal {
        response.metadata.response_code = code;
        return (encode(response, &request, transport), None);
    }
    let query = request.queries[0].clone();
    let action = answer(snapshot, &request, &query, response, transport);
    (action, Some(query))
}

fn answer(
    snapshot: &Snapshot,
    request: &Message,
    query: &Query,
    mut response: Message,
    transport: Transport,
) -> Action {
    let view = if request.metadata.recursion_desired { View::Recursive } else { View::Authoritative };
    let found = resolve(snapshot, &query.name().to_lowercase(), query.query_type(), view);
    match found.behaviour {
        Some(Trouble::Silence) => return Action::Silence,
        Some(Trouble::Servfail) => return code(response, request, ResponseCode::ServFail, transport),
        Some(Trouble::Refused) => return code(response, request, ResponseCode::Refused, transport),
        Some(Trouble::Notimp) => return code(response, request, ResponseCode::NotImp, transport),
        Some(Trouble::TruncatedEverywhere) if transport == Transport::Tcp => return Action::Close,
        _ => {}
    }
    let wants_dnssec = request.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
    let checking = !request.metadata.checking_disabled;
    match view {
        View::Authoritative => {
            response.metadata.authoritative = true;
            response.metadata.checking_disabled = false;
        }
        View::Recursive => {
            response.metadata.recursion_available = true;
            if found.verdict == Verdict::Bogus && checking && !found.forged {
                return code(response, request, ResponseCode::ServFail, transport);
            }
            let asked = wants_dnssec || request.metadata.authentic_data;
            response.metadata.authentic_data =
                found.forged || (found.verdict == Verdict::Secure && checking && asked);
        }
    }
    response.metadata.response_code = found.code;
    response.answers = records(&found.answers, wants_dnssec, query.query_type());
    response.authorities = records(&found.authorities, wants_dnssec, query.query_type());
    if transport == Transport::Udp
        && matches!(found.behaviour, Some(Trouble::Truncated | Trouble::TruncatedEverywhere))
    {
        return send(truncated(response), request);
    }
    let action = encode(response, request, transport);
    match (action, found.behaviour) {
        (Action::Send(octets), Some(Trouble::CutShort)) => Action::Send(octets[..octets.len() / 2].to_vec()),
        (action, _) => action,
    }
}

/// As whom we answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    /// Follows aliases through all zones, checks, sets AD.
    Recursive,
    /// Answers from the deepest zone; aliases only as far as they stay in it.
    Authoritative,
}

struct Found<'a> {
    code: ResponseCode,
    answers: Vec<&'a Signed>,
    authorities: Vec<&'a Signed>,
    verdict: Verdict,
    behaviour: Option<&'a Trouble>,
    forged: bool,
}

fn resolve<'a>(snapshot: &'a Snapshot, name: &Name, rtype: RecordType, view: View) -> Found<'a> {
    let mut found = Found {
        code: ResponseCode::NoError,
        answers: Vec::new(),
        authorities: Vec::new(),
        verdict: Verdict::Secure,
        behaviour: None,
        forged: false,
    };
    let mut name = name.clone();
    let mut first_apex = None;
    let mut seen = Vec::new();
    while seen.len() <= ALIASES_MAX && !seen.contains(&name) {
        let Some(zone) = snapshot.zone_for(&name, rtype) else {
            found.code = ResponseCode::Refused;
            return found;
        };
        if view == View::Authoritative && *first_apex.get_or_insert(&zone.apex) != &zone.apex {
            return found;
        }
        let mut proof_missing = false;
        let mut lie = None;
        for trouble in snapshot.troubles.behaviour(&zone.apex, &name, rtype) {
            match trouble {
                Trouble::ForgedAd => found.forged = true,
                Trouble::DenialMissing => proof_missing = true,
                Trouble::FalseNodata => lie = Some((ResponseCode::NoError, zone.deny_type(&name))),
                Trouble::FalseNxdomain => lie = Some((ResponseCode::NXDomain, zone.deny_below(&name))),
                Trouble::ParentDenial => {
                    let parent = snapshot.zone_for(&zone.apex, RecordType::DS).unwrap_or(zone);
                    lie = Some((ResponseCode::NoError, parent.deny_type(&zone.apex)));
                }
                // A resolver that can't follow an alias to its end has no answer at all; the first trouble counts.
                other => found.behaviour = found.behaviour.or(Some(other)),
            }
        }
        let finding = zone.find(&name, rtype);
        // What does not exist can't be denied falsely.
        if let (Some((code, proof)), Finding::Data(_) | Finding::Alias(..)) = (lie, &finding) {
            found.code = code;
            deny(&mut found, proof, Verdict::Bogus, zone.trust);
            return found;
        }
        let worst = |sets: &[&Signed]| {
            let own = sets.iter().map(|set| set.verdict).max().unwrap_or(Verdict::Secure);
            if zone.trust == Verdict::Secure { own } else { zone.trust }
        };
        match finding {
            Finding::Data(set) => {
                found.verdict = found.verdict.max(worst(&[set]));
                found.answers.push(set);
                return found;
            }
            Finding::Alias(set, target) => {
                found.verdict = found.verdict.max(worst(&[set]));
                found.answers.push(set);
                seen.push(std::mem::replace(&mut name, target.to_lowercase()));
            }
            Finding::NoData(proof) => {
                deny_honestly(&mut found, proof, proof_missing, zone.trust);
                return found;
            }
            Finding::NoName(proof) => {
                found.code = ResponseCode::NXDomain;
                deny_honestly(&mut found, proof, proof_missing, zone.trust);
                return found;
            }
        }
    }
    // A loop, or a chain longer than any resolver's patience: what we have, as BIND does.
    found
}

fn deny_honestly<'a>(found: &mut Found<'a>, mut proof: Vec<&'a Signed>, proof_missing: bool, trust: Verdict) {
    let mut own = proof.iter().map(|set| set.verdict).max().unwrap_or(Verdict::Secure);
    if proof_missing {
        proof.truncate(1);
        own = Verdict::Bogus;
    }
    deny(found, proof, own, trust);
}

fn deny<'a>(found: &mut Found<'a>, proof: Vec<&'a Signed>, own: Verdict, trust: Verdict) {
    found.verdict = found.verdict.max(if trust == Verdict::Secure { own } else { trust });
    found.authorities = proof;
}

fn records(sets: &[&Signed], wants_dnssec: bool, rtype: RecordType) -> Vec<Record> {
    let mut records = Vec::new();
    for set in sets {
        let of = set.records.first().map(Record::record_type);
        let is_proof = matches!(of, Some(RecordType::NSEC | RecordType::NSEC3));
        if is_proof && !wants_dnssec && of != Some(rtype) {
            continue;
        }
        records.extend(set.records.iter().cloned());
        if wants_dnssec {
            records.extend(set.rrsig.clone());
        }
    }
    records
}

fn code(mut response: Message, request: &Message, code: ResponseCode, transport: Transport) -> Action {
    response.metadata.response_code = code;
    response.metadata.recursion_available = request.metadata.recursion_desired;
    encode(response, request, transport)
}

fn truncated(response: Message) -> Message {
    response.truncate()
}

/// Encodes a reply, truncated if it does not fit a datagram.
fn encode(response: Message, request: &Message, transport: Transport) -> Action {
    let limit = match (transport, &request.edns) {
        (Transport::Tcp, _) => usize::from(u16::MAX),
        (Transport::Udp, Some(edns)) => usize::from(edns.max_payload().clamp(UDP_PLAIN, UDP_MAX)),
        (Transport::Udp, None) => usize::from(UDP_PLAIN),
    };
    match send(response.clone(), request) {
        Action::Send(octets) if octets.len() > limit => send(truncated(response), request),
        action => action,
    }
}

fn send(mut response: Message, request: &Message) -> Action {
    if let Some(asked) = &request.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_MAX).set_dnssec_ok(asked.flags().dnssec_ok);
        response.set_edns(edns);
    }
    response.to_vec().map_or(Action::Close, Action::Send)
}
