//! What stands in the database: versioned, sealed values.
//!
//! A value is one octet of version and JSON, sealed (`seal`), which is its checksum too. JSON costs some space, but the
//! shapes of `model` may grow fields without a new version. (What a start reads is shorter: `entry`.)

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::model::{
    AttemptId, DeliveryId, Digest, DomainName, Envelope, IdentityRule, Level, MessageId, Reason,
};

use super::SpoolError;
use super::seal::{ContentKey, Place, Vault};

/// The format of the whole store: which tables there are and how keys look. A store with another number is refused.
pub(super) const FORMAT: u32 = 3;
/// The version of every value. Version 1 was JSON in clear with a checksum (`upgrade`).
const VERSION: u8 = 2;

/// Encodes a value for its place in the database.
pub(super) fn encode<T: Serialize>(
    vault: &Vault,
    place: Place<'_>,
    value: &T,
) -> Result<Vec<u8>, SpoolError> {
    seal_octets(vault, place, &serde_json::to_vec(value).map_err(SpoolError::broken)?)
}

/// Seals what is encoded already.
pub(super) fn seal_octets(vault: &Vault, place: Place<'_>, encoded: &[u8]) -> Result<Vec<u8>, SpoolError> {
    let mut octets = vec![VERSION];
    octets.extend(vault.seal(place, encoded)?);
    Ok(octets)
}

/// The inverse of [`seal_octets`]; `None` if that is not what stands there.
pub(super) fn open_octets(vault: &Vault, place: Place<'_>, octets: &[u8]) -> Option<Vec<u8>> {
    let (version, sealed) = octets.split_first()?;
    if *version == VERSION { vault.open(place, sealed) } else { None }
}

/// Decodes a value, or says that `what` is damaged.
pub(super) fn decode<T: DeserializeOwned>(
    vault: &Vault,
    place: Place<'_>,
    octets: &[u8],
    what: impl std::fmt::Display,
) -> Result<T, SpoolError> {
    let json = open_octets(vault, place, octets);
    json.and_then(|json| serde_json::from_slice(&json).ok())
        .ok_or_else(|| SpoolError::Damaged(what.to_string()))
}

/// How a message came to be ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Our own environment submitted it.
    Submission,
    /// Another provider handed it to us.
    Peer,
    /// This node made it: a delivery report.
    Own,
}

/// Where a delivery goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    /// To the hosts of this mail domain, over the federation.
    Federation(DomainName),
    /// Into our own environment.
    Environment,
    /// To the configured fallback for recipients that are not federated.
    Fallback,
}

impl std::fmt::Display for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Federation(domain) => write!(f, "federation:{domain}"),
            Self::Environment => f.write_str("environment"),
            Self::Fallback => f.write_str("fallback"),
        }
    }
}

/// What was known of the other side when a message came in. Nothing in here is decided again later.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    /// The level that was proven; `None` for submissions and for our own reports.
    pub level: Option<Level>,
    /// The rule that authenticated the client.
    pub rule: Option<IdentityRule>,
    /// The mail domain the message was accepted for, as sender.
    pub domain: Option<DomainName>,
    /// The names the client's certificate proved.
    pub names: Vec<DomainName>,
    /// The client's address.
    pub address: Option<std::net::IpAddr>,
    /// Name and value of each field to put on top at hand-off, in that order, made when the message was judged.
    pub handoff_fields: Vec<(String, String)>,
    /// What is put on it when it goes to another provider; `None`: nothing, or what an earlier version made of it already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outgoing: Option<Outgoing>,
    /// Name and value of each field to put on top when it goes to another provider, in that order: earlier versions signed at
    /// acceptance.
    #[serde(default)]
    pub outbound_fields: Vec<(String, String)>,
    /// Whether NTA headers are to be removed at hand-off, because the message did not prove itself (HAND-009). Absent in
    /// what was stored before there was such a rule.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub remove_nta: bool,
}

/// What is put on a message each time it goes to another provider. Settled at acceptance, so that every attempt sends the same
/// octets (SIGN-014).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outgoing {
    /// The selectors of the keys that signed for [`Arrival::domain`] then, in the order of their signatures.
    pub selectors: Vec<String>,
    /// The name of the NTA header, which is signed as the fields are that always are (SIGN-013).
    pub nta_name: Option<String>,
    /// Its value, where the content brings none of its own.
    pub nta_value: Option<String>,
}

/// Where content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Body {
    /// In the table `content`.
    Inline,
    /// In a file of its own under `bodies`.
    File,
}

/// A message as stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct StoredMessage {
    pub accepted: Timestamp,
    pub origin: Origin,
    pub arrival: Arrival,
    pub envelope: Envelope,
    pub body: Body,
    pub size: u64,
    pub received_digest: Digest,
    pub content_digest: Digest,
    pub content_key: ContentKey,
    pub routes: u16,
}

/// What is known of the last answer for a recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// When.
    pub at: Timestamp,
    /// The check that failed, if one did.
    pub reason: Option<Reason>,
    /// The reply that decided it, as `451 4.7.0`.
    pub code: Option<String>,
    /// The other side's text, one printable line.
    pub text: Option<String>,
    /// The host that answered.
    pub host: Option<String>,
}

/// What has become of a recipient so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Still ours to bring.
    Pending,
    /// The other side answers for it.
    Delivered,
    /// It will not arrive.
    Failed,
}

/// A recipient of a delivery, as stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct StoredRecipient {
    /// Position in the envelope.
    pub index: u16,
    pub fate: Fate,
    pub note: Option<Note>,
}

/// What a waiting delivery waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Aim {
    /// To be delivered.
    Deliver,
    /// To be returned, because an operator said so.
    Return,
}

/// Who holds a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// An operator.
    Operator,
    /// The spool: its content is damaged or gone.
    Damaged,
    /// The spool: two attempts in a row stopped the node or their worker, so the message itself is the likely cause
    /// (attack class T29).
    Poison,
}

/// State of a delivery, as stored (the state table of `spec/06-spool.md`).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Waiting { due: Timestamp, aim: Aim },
    Attempting { attempt: AttemptId, started: Timestamp, aim: Aim },
    Held { by: Hold },
    Delivered,
    Returned,
    Discarded,
}

/// One message on one route, as stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct StoredDelivery {
    pub route: Route,
    pub accepted: Timestamp,
    pub state: State,
    pub tries: u32,
    /// Attempts in a row of which nobody knows the end.
    pub unknown: u32,
    pub recipients: Vec<StoredRecipient>,
    /// When the sender was told that it is late, or nobody was found who wants to know (SPOOL-015).
    #[serde(default)]
    pub warned: Option<Timestamp>,
    /// Notices of delay in a row that were begun and of which nobody knows the end (SPOOL-045).
    #[serde(default)]
    pub notices: u32,
    /// Octets of the content of its message, and where that is: known here too, so that a start need not read messages.
    pub size: u64,
    pub body: Body,
}

impl StoredDelivery {
    pub(super) const fn phase(&self) -> Phase {
        match self.state {
            State::Waiting { .. } => Phase::Waiting,
            State::Attempting { .. } => Phase::Attempting,
            State::Held { .. } => Phase::Held,
            State::Delivered => Phase::Delivered,
            State::Returned => Phase::Returned,
            State::Discarded => Phase::Discarded,
        }
    }
}

/// The state of a delivery, by name (SPOOL-005).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Waits for its next attempt.
    Waiting,
    /// An attempt is under way.
    Attempting,
    /// Stopped; no attempts, but the clock of return runs on.
    Held,
    /// The other side answers for it.
    Delivered,
    /// Failed; the report stands in the spool instead.
    Returned,
    /// Failed, and nobody is to be told.
    Discarded,
}

impl Phase {
    /// Whether nothing is left to do.
    #[must_use]
    pub const fn is_settled(self) -> bool {
        matches!(self, Self::Delivered | Self::Returned | Self::Discarded)
    }

    /// The word in lists and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Attempting => "attempting",
            Self::Held => "held",
            Self::Delivered => "delivered",
            Self::Returned => "returned",
            Self::Discarded => "discarded",
        }
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The key of a delivery: message, then route, so that the deliveries of a message stand together.
pub(super) fn delivery_key(id: DeliveryId) -> [u8; 18] {
    let mut key = [0; 18];
    key[..16].copy_from_slice(&id.message.to_bytes());
    key[16..].copy_from_slice(&id.route.to_be_bytes());
    key
}

/// The inverse of [`delivery_key`].
pub(super) fn delivery_of_key(key: &[u8; 18]) -> DeliveryId {
    let (message, route) = (&key[..16], [key[16], key[17]]);
    let message = message.try_into().map_or([0; 16], |octets: [u8; 16]| octets);
    DeliveryId { message: MessageId::from_bytes(message), route: u16::from_be_bytes(route) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::spool::MasterKeys;

    /// Proves: -SPOOL-013
    #[test]
    fn t37_every_flipped_bit_of_a_value_is_noticed() {
        let note = Note {
            at: Timestamp::UNIX_EPOCH,
            reason: None,
            code: Some("451".into()),
            text: None,
            host: None,
        };
        let keys = MasterKeys::parse("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=").unwrap();
        let vault = Vault::make(&keys).unwrap().vault;
        let place = Place { table: "notes", key: b"1" };
        let octets = encode(&vault, place, &note).unwrap();
        assert_eq!(decode::<Note>(&vault, place, &octets, "note").unwrap(), note);
        for position in 0..octets.len() {
            for bit in 0..8 {
                let mut bad = octets.clone();
                bad[position] ^= 1 << bit;
                let read = decode::<Note>(&vault, place, &bad, "note");
                assert!(matches!(read, Err(SpoolError::Damaged(_))), "{position}.{bit}");
            }
        }
        for length in 0..octets.len() {
            assert!(decode::<Note>(&vault, place, &octets[..length], "note").is_err(), "{length}");
        }
    }

    #[test]
    fn keys_sort_by_message_then_route() {
        let id = |time, route| DeliveryId { message: MessageId::from_parts(time, 7), route };
        assert!(delivery_key(id(1, 300)) < delivery_key(id(2, 0)));
        assert!(delivery_key(id(1, 1)) < delivery_key(id(1, 256)));
        assert_eq!(delivery_of_key(&delivery_key(id(5, 258))), id(5, 258));
    }
}
