//! The decision record: one wide record per attempt.
//!
//! The audit trail stores it, `sluis explain` prints it before anything is sent, and the log line is made from it. It is
//! plain data: every room fills the part it knows, and nothing reads it to decide anything.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Address, AttemptId, Digest, DomainName, IdentityRule, Level, LocationFacts, MessageId, Reason};

/// Everything that was found out and decided in one attempt (REC family; `spec/09-operations.md`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecisionRecord {
    /// Version of this shape; 1.
    pub schema: u16,
    /// The attempt.
    pub attempt: AttemptId,
    /// Which border was crossed, and which way.
    pub direction: Direction,
    /// When the attempt began.
    pub started: Timestamp,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// The message, once the spool answers for it. `explain` has none.
    pub message: Option<MessageId>,
    /// Digest of the content as it crossed (or would cross) this border.
    pub digest: Option<Digest>,
    /// Size of that content in octets.
    pub size: Option<u64>,
    /// `MAIL FROM`; empty for the null sender.
    pub sender: Option<String>,
    /// The domain whose NTA record was consulted: of the recipients on the way out, of the sender on the way in.
    pub peer_domain: Option<DomainName>,
    /// What DNS said about that domain.
    pub discovery: DiscoveryFacts,
    /// The terms this link had to meet.
    pub policy: PolicyFacts,
    /// Each host tried, in order. Inbound: the one that knocked.
    pub hosts: Vec<HostFacts>,
    /// The proven level, if any was.
    pub assurance: Option<Level>,
    /// SPF, DKIM, DMARC, `From:`, where they were judged.
    pub trust: Option<TrustFacts>,
    /// How it ended.
    pub outcome: Outcome,
    /// The check that failed, when one did.
    pub reason: Option<Reason>,
    /// The requirement behind that check.
    pub requirement: Option<String>,
    /// Who has to act on it: `peer`, `operator`, `sender`, `nobody`.
    pub acts: Option<String>,
    /// What exactly was seen, for operators; no content.
    pub detail: Option<String>,
    /// What was tolerated or dropped on the way, so that its owner can be told.
    pub warnings: Vec<String>,
    /// Result per recipient.
    pub recipients: Vec<RecipientResult>,
    /// Whether any octet of content can have reached the other side.
    pub content_left: ContentLeft,
    /// Hand-off: what the provider's own filter made of the message, where one was asked (HOOK-008).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_hook: Option<HookFacts>,
    /// The report to the sender that this caused, if it caused one: it was accepted in the same commit (SPOOL-011,
    /// SPOOL-015, SPOOL-016).
    #[serde(default)]
    pub report: Option<ReportFacts>,
}

impl DecisionRecord {
    /// An empty record at the start of an attempt: nothing known, nothing sent, outcome `unknown`.
    #[must_use]
    pub fn begin(attempt: AttemptId, direction: Direction, started: Timestamp) -> Self {
        Self {
            schema: 1,
            attempt,
            direction,
            started,
            duration_ms: 0,
            message: None,
            digest: None,
            size: None,
            sender: None,
            peer_domain: None,
            discovery: DiscoveryFacts::default(),
            policy: PolicyFacts::default(),
            hosts: Vec::new(),
            assurance: None,
            trust: None,
            outcome: Outcome::Unknown,
            reason: None,
            requirement: None,
            acts: None,
            detail: None,
            warnings: Vec::new(),
            recipients: Vec::new(),
            content_left: ContentLeft::Never,
            content_hook: None,
            report: None,
        }
    }
}

/// Which border, and which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From our own environment into this node.
    Submission,
    /// From this node to another provider.
    Outbound,
    /// From another provider into this node.
    Inbound,
    /// From this node into our own environment (or its fallback).
    Handoff,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Begun; no end is on record.
    Unknown,
    /// `explain`: everything up to the message itself succeeded.
    WouldDeliver,
    /// The other side answers for the message now (for all recipients).
    Delivered,
    /// The other side took it for some recipients only.
    Partial,
    /// Inbound and submission: this node answers for the message now.
    Accepted,
    /// Inbound: the message was accepted before and is sent again; nothing of this copy was kept.
    Repeated,
    /// To be tried again.
    Later,
    /// Given up; the sender is told.
    Returned,
    /// Inbound and submission: not taken.
    Refused,
    /// Inbound and submission: the client ended the transaction before its end; nothing was kept.
    Abandoned,
}

/// Whether content can have reached the other side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContentLeft {
    /// No octet.
    #[default]
    Never,
    /// Part of it, or all without an answer.
    Possibly,
    /// All, and it was answered for.
    Yes,
}

/// What DNS said about a domain.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DiscoveryFacts {
    /// `federated`, or the word of the [`Reason`] why not.
    pub verdict: Option<String>,
    /// First month of validity, `YYYY-MM`.
    pub startdate: Option<String>,
    /// Last month of validity, `YYYY-MM`.
    pub enddate: Option<String>,
    /// The provider's own name for itself; for display only.
    pub provider: Option<String>,
    /// Where the hosts came from: `ntamx` or `mx`.
    pub source: Option<String>,
    /// The hosts of the domain with their preferences, in the order they would be tried.
    pub hosts: Vec<(u16, DomainName)>,
    /// Every DNS question asked, with its verdict.
    pub dns: Vec<DnsFact>,
}

/// One DNS question and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsFact {
    /// Owner name asked for.
    pub name: String,
    /// Type asked for, as its mnemonic.
    pub rtype: String,
    /// `secure`, `insecure`, `secure_absent` (proven not to exist), `insecure_absent`, or the word of a [`Reason`].
    pub verdict: String,
    /// How many records came back.
    pub records: usize,
    /// Whether the answer was in the cache.
    pub cached: bool,
}

/// The terms of a link.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PolicyFacts {
    /// The lowest level that was admissible.
    pub floor: Option<Level>,
    /// How the peer's key had to be proven.
    pub rule: Option<IdentityRule>,
    /// The configured peer whose entry applied, by name.
    pub peer: Option<String>,
    /// Settings in force that weaken protection (lab settings), by key.
    pub weakened: Vec<String>,
}

/// One host, tried or knocking.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Its name; inbound: the name it gave in EHLO.
    pub host: String,
    /// Preference in the record.
    pub preference: Option<u16>,
    /// Its address and port.
    pub address: Option<String>,
    /// Where that address stands, when a table says so (LOCA family).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<LocationFacts>,
    /// Base domain under which its TLSA records stand (RFC 7672 section 2.2.3).
    pub tlsa_base: Option<DomainName>,
    /// Usable TLSA records, as `usage selector matching`.
    pub tlsa: Vec<String>,
    /// How many records of the set were unusable.
    pub tlsa_unusable: usize,
    /// What TLS agreed on.
    pub tls: Option<TlsFacts>,
    /// EHLO keywords offered after TLS.
    pub ehlo: Vec<String>,
    /// The other side's confirmation of our level (`XPEERLEVEL`).
    pub peer_confirmed: Option<Confirmation>,
    /// Names the other side's certificate proved.
    pub proven_names: Vec<DomainName>,
    /// The last step taken.
    pub step: Option<String>,
    /// Why this host was left; `None` when it served.
    pub reason: Option<Reason>,
    /// What exactly was seen.
    pub detail: Option<String>,
    /// The other side's last reply code, enhanced code included.
    pub code: Option<String>,
}

/// What TLS agreed on, and who showed what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TlsFacts {
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: String,
    /// Cipher suite, IANA name.
    pub cipher: String,
    /// Key exchange group, IANA name.
    pub group: Option<String>,
    /// SHA-256 of the other side's public key (SubjectPublicKeyInfo), as a digest.
    pub peer_key: Option<String>,
    /// Kind and strength of that key (`ECDSA P-256`), with a remark when it is being phased out (TLS-009).
    pub peer_key_type: Option<String>,
    /// The rule that authenticated it, with the matching TLSA parameters where DANE did (`dane 3 1 1`).
    pub authenticated_by: Option<String>,
    /// Outbound: whether the server asked for our certificate and we sent it.
    pub client_certificate_sent: Option<bool>,
}

/// The other side's own words about the level it proved of us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmation {
    /// The level.
    pub level: Level,
    /// The client names it proved; ours is among them.
    pub names: Vec<DomainName>,
}

/// What the message itself proved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustFacts {
    /// Domain of the single `From:` address.
    pub from_domain: Option<DomainName>,
    /// The addresses in `From:`, once it was read (RPLY-005).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<Address>,
    /// The address in `Sender:`, if there is one (RPLY-005). A delegate, when it is none of `from`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<Address>,
    /// SPF result (RFC 8601 word).
    pub spf: Option<String>,
    /// DKIM results as `result d=domain`.
    pub dkim: Vec<String>,
    /// DMARC result.
    pub dmarc: Option<String>,
    /// What the message's S/MIME signature proved, or that this node made one; decides nothing (SMIME-001).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smime: Option<SmimeFacts>,
    /// What intermediaries say they saw (RFC 8617); decides nothing (JUDGE-008).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arc: Option<ArcFacts>,
    /// Names of fields that look like an NTA header, in lower case; behind the configured one a colon and its value
    /// (JUDGE-009).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nta_headers: Vec<String>,
}

/// What became of a message's S/MIME signature (SMIME-009). Names are the certificate's own words, printable and bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SmimeFacts {
    /// RFC 7281 word (`pass`, `fail`, `policy`, `neutral`, `permerror`), `encrypted`, or `signed` for what this node signed.
    pub verdict: String,
    /// Why it is not `pass`.
    pub detail: Option<String>,
    /// An address of the certificate: the sender's, if it is among them.
    pub signer: Option<String>,
    /// Subject of the certificate.
    pub subject: Option<String>,
    /// Its issuer.
    pub issuer: Option<String>,
    /// Its serial number, hexadecimal.
    pub serial: Option<String>,
    /// SHA-256 of the certificate, as a digest.
    pub certificate: Option<String>,
    /// Hash over the content (`sha-256`).
    pub digest: Option<String>,
    /// Signature algorithm (`ecdsa with sha-256`).
    pub signature: Option<String>,
    /// When it was made, by the signer's own word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_at: Option<Timestamp>,
    /// Whether the signature binds its certificate as CAdES asks for (signing-certificate-v2), and rightly.
    pub cades: bool,
}

/// A chain of ARC sets, as its seals tell it; none of them was verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArcFacts {
    /// How many sets there are.
    pub length: usize,
    /// `cv=` of the last one: `none`, `pass` or `fail`; `malformed` when a set is missing, doubled or can't be read.
    pub cv: String,
    /// `d=` of each, the oldest first; empty where it is no domain name.
    pub domains: Vec<String>,
}

/// What became of one recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientResult {
    /// The recipient.
    pub address: Address,
    /// `delivered`, `later`, `returned`, `refused`.
    pub outcome: Outcome,
    /// Reply code that decided it, as `250 2.1.5`.
    pub code: Option<String>,
    /// The other side's text, cleaned to one printable line.
    pub text: Option<String>,
}

/// What the content hook made of a message (`spec/13-content-hook.md`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookFacts {
    /// Where it was asked.
    pub hook: String,
    /// What it said.
    pub verdict: HookVerdict,
    /// Digest of the message as the hook got it; `None` when it did not get all of it.
    pub before: Option<Digest>,
    /// Digest of the changed message as the hook gave it.
    pub after: Option<Digest>,
    /// Octets of that message.
    pub after_size: Option<u64>,
}

/// What the content hook said of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookVerdict {
    /// It goes on as it is.
    Passed,
    /// Another one goes on in its place.
    Changed,
    /// It goes back.
    Rejected,
    /// Nothing that can be used.
    Unavailable,
}

impl HookVerdict {
    /// The word in records, logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Changed => "changed",
            Self::Rejected => "rejected",
            Self::Unavailable => "unavailable",
        }
    }
}

/// A report to the sender of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportFacts {
    /// The report itself, as a message of the same spool.
    pub message: MessageId,
    /// What it says, of each recipient it is about.
    pub says: Vec<ReportedRecipient>,
}

/// What a report says about one recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedRecipient {
    /// The recipient.
    pub address: Address,
    /// What became of the message.
    pub action: ReportAction,
}

/// What a report can say of a recipient (the field `Action:` of RFC 3464 section 2.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportAction {
    /// It will not arrive.
    Failed,
    /// It has not arrived yet, and is still being tried.
    Delayed,
    /// It arrived.
    Delivered,
    /// It went on to a host that gives no reports (RFC 3461 section 5.2.2).
    Relayed,
}

impl ReportAction {
    /// The word in the report.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed => "delayed",
            Self::Delivered => "delivered",
            Self::Relayed => "relayed",
        }
    }
}
