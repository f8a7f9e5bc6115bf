//! The configuration file as it is written: sections and keys, nothing checked yet.
//!
//! Every key is optional here, so that one reading finds all unknown keys and all values of a wrong type; `check`
//! says afterwards what is missing. `docs/sluis.example.toml` explains each key to an operator.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

/// A text with its place in the file.
pub type Text = Option<Spanned<String>>;
/// Several texts, each with its place in the file.
pub type Texts = Option<Spanned<Vec<Spanned<String>>>>;

/// The whole file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    /// `[node]`
    pub node: Node,
    /// `[dns]`
    pub dns: Dns,
    /// `[tls]`
    pub tls: Tls,
    /// `[federation]`
    pub federation: Federation,
    /// `[[dkim]]`
    pub dkim: Vec<Spanned<Dkim>>,
    /// `[smime]`
    pub smime: Smime,
    /// `[submission]`
    pub submission: Option<Submission>,
    /// `[environment]`
    pub environment: Option<Spanned<HandOff>>,
    /// `[fallback]`
    pub fallback: Option<Spanned<HandOff>>,
    /// `[content_hook]`
    pub content_hook: Option<Spanned<ContentHook>>,
    /// `[spool]`
    pub spool: Spool,
    /// `[limits]`: keys of `limits::TABLE`.
    pub limits: BTreeMap<Spanned<String>, Spanned<i64>>,
    /// `[nta_header]`
    pub nta_header: NtaHeader,
    /// `[location]`
    pub location: Location,
    /// `[log]`
    pub log: Log,
    /// `[control]`
    pub control: Control,
    /// `[admin]`
    pub admin: Admin,
    /// `[lab]`
    pub lab: Option<Spanned<Lab>>,
}

/// `[nta_header]`: a header that strict receivers are said to check.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NtaHeader {
    /// Field name.
    pub name: Text,
    /// Value of outgoing ones, with places in braces.
    pub value: Text,
    /// `off`, `observe` or `enforce`.
    pub inbound: Text,
}

/// `[location]`: whether other providers' servers stand in the EU or the EEA.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Location {
    /// MMDB file with the country of each network.
    pub table: Text,
    /// `observe` or `enforce`.
    pub mode: Text,
}

/// `[node]`: who this node is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Node {
    /// Host name, in EHLO and in the certificate.
    pub name: Text,
    /// The provider's name for itself, in the NTA record.
    pub provider: Text,
    /// Mail domains of the provider's customers.
    pub domains: Texts,
    /// Address for people who have to reach the operator.
    pub postmaster: Text,
    /// Directory for everything that must survive a restart.
    pub state_dir: Text,
    /// First month of the NTA record, `YYYY-MM`.
    pub startdate: Text,
    /// Last month of the NTA record, `YYYY-MM`.
    pub enddate: Text,
}

/// `[dns]`: where answers come from and why they are believed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dns {
    /// Recursive resolver, `ADDRESS:PORT`.
    pub resolver: Text,
    /// `validate` or `ad-bit`.
    pub mode: Text,
    /// Root trust anchors instead of the bundled ones.
    pub trust_anchor_file: Text,
    /// Names for the self-test of `ad-bit`.
    pub self_test: SelfTest,
}

/// `[dns] self_test`: names of which the truth is known.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SelfTest {
    /// A name whose signatures are wrong.
    pub bogus: Text,
    /// A name whose signatures are right.
    pub signed: Text,
}

/// `[tls]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// `[[tls.certificate]]`
    pub certificate: Vec<Spanned<Certificate>>,
}

/// `[[tls.certificate]]`: a key of this node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Certificate {
    /// PEM file with the certificate and those above it.
    pub chain: Text,
    /// PEM file with the private key.
    pub key: Text,
}

/// `[federation]`: the border with other providers.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Federation {
    /// Addresses to listen on.
    pub listen: Texts,
    /// Lowest level admitted: `mutual` or `nta7516`.
    pub floor: Text,
    /// Hosts to publish, `PREFERENCE HOST`.
    pub ntamx: Texts,
    /// `[[federation.peer]]`
    pub peer: Vec<Spanned<Peer>>,
}

/// `[[federation.peer]]`: another provider that is treated differently from the rest.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Peer {
    /// Our name for it.
    pub name: Text,
    /// A mail domain: the peer is the hosts of its NTA record.
    pub domain: Text,
    /// Its hosts by name.
    pub hosts: Texts,
    /// Lowest level admitted for it.
    pub floor: Text,
    /// `dane`, `pinned` or `federation_ca`.
    pub identity: Text,
    /// SHA-256 of its public keys.
    pub pins: Texts,
    /// PEM file with its authority.
    pub ca: Text,
    /// `any` or `eea`: where its servers may stand.
    pub location: Text,
}

/// `[[dkim]]`: a key that signs mail.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dkim {
    /// Domains it signs for.
    pub domains: Texts,
    /// Name of the key below each domain.
    pub selector: Text,
    /// PEM file with the private key.
    pub key: Text,
    /// Whether it signs, or is only published.
    pub sign: Option<bool>,
}

/// `[smime]`: signatures in messages.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Smime {
    /// PEM file with the authorities whose certificates count.
    pub trust_anchors: Text,
    /// `[[smime.signer]]`
    pub signer: Vec<Spanned<SmimeSigner>>,
}

/// `[[smime.signer]]`: a certificate that signs mail.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SmimeSigner {
    /// Senders it signs for.
    pub addresses: Texts,
    /// Domains whose senders it signs for.
    pub domains: Texts,
    /// PEM file with the certificate and those above it.
    pub certificate: Text,
    /// PEM file with the private key.
    pub key: Text,
    /// Whether it signs.
    pub sign: Option<bool>,
}

/// `[submission]`: mail from our own platform.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Submission {
    /// Addresses to listen on.
    pub listen: Texts,
    /// `refuse` or `queue`: recipients whose domain cannot be judged right now.
    pub temporary: Text,
    /// `warn` or `refuse`: mail of a domain that other providers would not believe.
    pub own_domain: Text,
    /// `[[submission.client]]`
    pub client: Vec<Spanned<Client>>,
}

/// `[[submission.client]]`: who may submit.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Client {
    /// Our name for it.
    pub name: Text,
    /// Networks it connects from.
    pub addresses: Texts,
    /// SHA-256 of the public keys of its certificates.
    pub pins: Texts,
    /// Sender domains it may use.
    pub domains: Texts,
}

/// `[environment]` and `[fallback]`: a border with our own platform.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HandOff {
    /// `lmtp`, `smtp` or `maildir`.
    pub kind: Text,
    /// `unix:PATH`, `ADDRESS:PORT` or `NAME:PORT`.
    pub address: Text,
    /// Directory, for `maildir`.
    pub path: Text,
    /// TLS towards it.
    pub tls: Option<Spanned<HandOffTls>>,
    /// `ask` or `accept`: recipients on the peer listener.
    pub recipients: Text,
}

/// `tls = { … }` of a hand-off.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HandOffTls {
    /// Name the server's certificate must carry under `ca`.
    pub name: Text,
    /// SHA-256 of its public keys.
    pub pins: Texts,
    /// PEM file with its authority.
    pub ca: Text,
}

/// `[content_hook]`: the provider's own filter.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ContentHook {
    /// `unix:PATH`, `ADDRESS:PORT` or `NAME:PORT`.
    pub address: Text,
    /// Path of the request.
    pub path: Text,
    /// TLS towards it.
    pub tls: Option<Spanned<HandOffTls>>,
}

/// `[spool]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spool {
    /// Directory of the spool.
    pub dir: Text,
    /// File with the keys it is encrypted with.
    pub key_file: Text,
    /// A program that prints them, and its arguments.
    pub key_command: Texts,
}

/// `[log]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `json` or `text`.
    pub format: Text,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: Text,
    /// `pseudonymous` or `clear`.
    pub addresses: Text,
}

/// `[control]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Control {
    /// Path of the UNIX socket.
    pub socket: Text,
    /// File permissions, octal.
    pub mode: Text,
}

/// `[admin]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Loopback address for `/health` and `/metrics`.
    pub listen: Text,
}

/// `[lab]`: what weakens protection and exists for test networks.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lab {
    /// Port of other providers' nodes instead of 25.
    pub peer_port: Option<Spanned<i64>>,
    /// Whether other providers may have private and loopback addresses.
    pub private_peer_addresses: Option<bool>,
}
