//! The checked configuration: every name resolved, every limit applied, every file read. What exists here may run.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;

use super::limits::Limits;
use crate::discovery::nta_record::Publish;
use crate::discovery::{AddressRule, DiscoverySettings, LocationTable};
use crate::model::{Address, Digest, DomainName, IdentityRule, Level, LocationRule};
use crate::spool;
use crate::transport::tls::{Authorities, KeyMaterial, Pins};
use crate::trust::SigningKey;
use crate::trust::smime::{MailAnchors, SmimeSigner};

/// A configuration that may run.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it was read from.
    pub file: PathBuf,
    /// Who this node is.
    pub node: Node,
    /// The NTA record to publish for each of our domains.
    pub record: Publish,
    /// Where DNS answers come from, why they are believed, and which addresses peers may have.
    pub discovery: DiscoverySettings,
    /// Our keys, in the order of the file.
    pub keys: KeyMaterial,
    /// The files they were read from, in the same order.
    pub key_files: Vec<KeyFiles>,
    /// The border with other providers.
    pub federation: Federation,
    /// The keys that sign mail, in the order of the file.
    pub dkim: Vec<DkimKey>,
    /// Authorities and keys of S/MIME.
    pub smime: Smime,
    /// Mail from our own platform; `None`: only the control socket submits.
    pub submission: Option<Submission>,
    /// Where mail for our own domains goes.
    pub environment: HandOff,
    /// Where mail for domains that are not federated goes; `None`: it is refused.
    pub fallback: Option<HandOff>,
    /// The filter that mail of other providers passes on its way into the environment; `None`: there is none.
    pub content_hook: Option<ContentHook>,
    /// The spool.
    pub spool: spool::Settings,
    /// The limits in force.
    pub limits: Limits,
    /// The NTA header.
    pub nta_header: NtaHeader,
    /// The check where other providers' servers stand; `None`: there is none.
    pub location: Option<Location>,
    /// Logging.
    pub log: Log,
    /// The control socket.
    pub control: Control,
    /// Loopback address of `/health` and `/metrics`; `None`: off.
    pub admin: Option<SocketAddr>,
    /// `lab.peer_port`: port of other nodes, and of their TLSA records, instead of 25. Weakens protection.
    pub lab_peer_port: Option<u16>,
    /// What is admitted but deserves a look, as sentences.
    pub warnings: Vec<String>,
}

impl Config {
    /// The settings in force that weaken protection, by key; every decision record carries them (REC-005).
    #[must_use]
    pub fn weakened(&self) -> Vec<String> {
        let mut keys = Vec::new();
        if let Some(port) = self.lab_peer_port {
            keys.push(format!("lab.peer_port={port}"));
        }
        if self.discovery.addresses == AddressRule::LabToo {
            keys.push("lab.private_peer_addresses".to_owned());
        }
        keys
    }

    /// Selector and key of each signature that mail of `domain` gets.
    pub fn signers<'c>(
        &'c self,
        domain: &'c DomainName,
    ) -> impl Iterator<Item = (&'c str, &'c SigningKey)> + 'c {
        let signs = move |key: &&DkimKey| key.sign && key.domains.contains(domain);
        self.dkim.iter().filter(signs).map(|key| (key.selector.as_str(), &key.key))
    }

    /// Selector and key with this selector at `domain`, whether it signs or is only published.
    #[must_use]
    pub fn key(&self, domain: &DomainName, selector: &str) -> Option<(&str, &SigningKey)> {
        let named = |key: &&DkimKey| key.selector == selector && key.domains.contains(domain);
        self.dkim.iter().find(named).map(|key| (key.selector.as_str(), &key.key))
    }

    /// What happens to mail of a domain of ours that other providers would not believe (SIGN-011).
    #[must_use]
    pub fn own_domain(&self) -> OwnDomainRule {
        self.submission.as_ref().map_or(OwnDomainRule::Refuse, |submission| submission.own_domain)
    }

    /// The port on which other providers' nodes listen.
    #[must_use]
    pub fn peer_port(&self) -> u16 {
        self.lab_peer_port.unwrap_or(SMTP_PORT)
    }
}

/// The port of SMTP between providers (RFC 5321 section 4.5.4.2).
pub const SMTP_PORT: u16 = 25;

/// A key that signs mail, or is published to do so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DkimKey {
    /// Domains it signs for, all of them ours; at least one.
    pub domains: Vec<DomainName>,
    /// Its name below each of them.
    pub selector: String,
    /// The key.
    pub key: SigningKey,
    /// The file it was read from.
    pub file: PathBuf,
    /// Whether it signs; otherwise it is only published, before or after.
    pub sign: bool,
}

/// Signatures in messages (`spec/12-smime.md`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Smime {
    /// The authorities whose certificates count, and the file they were read from; `None`: no chain is judged.
    pub anchors: Option<(MailAnchors, PathBuf)>,
    /// The certificates that sign mail, in the order of the file.
    pub signers: Vec<SmimeKey>,
}

impl Smime {
    /// The one that signs mail with this `From:`: that of its first address, else that of its domain.
    #[must_use]
    pub fn signer_of(&self, from: &[Address]) -> Option<&SmimeSigner> {
        let author = from.first()?;
        let same = |listed: &Address| {
            listed.domain() == author.domain() && listed.local().eq_ignore_ascii_case(author.local())
        };
        let signing = || self.signers.iter().filter(|key| key.sign);
        let by_address = signing().find(|key| key.addresses.iter().any(same));
        let key = by_address.or_else(|| signing().find(|key| key.domains.contains(author.domain())))?;
        Some(&key.signer)
    }
}

/// A certificate that signs mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmimeKey {
    /// Senders it signs for, all of our domains and all named in it.
    pub addresses: Vec<Address>,
    /// Domains whose other senders it signs for, all of them ours.
    pub domains: Vec<DomainName>,
    /// Key and certificates.
    pub signer: SmimeSigner,
    /// The file the certificates were read from.
    pub certificate: PathBuf,
    /// The file the key was read from.
    pub key: PathBuf,
    /// Whether it signs.
    pub sign: bool,
}

/// Who this node is.
#[derive(Debug, Clone)]
pub struct Node {
    /// Host name: in EHLO, in every certificate, in trace headers.
    pub name: DomainName,
    /// The provider's name for itself.
    pub provider: String,
    /// Mail domains of its customers; at least one.
    pub domains: Vec<DomainName>,
    /// Where people reach the operator; in one of `domains`.
    pub postmaster: Address,
    /// Directory for what must survive a restart.
    pub state_dir: PathBuf,
}

/// The files of one of our keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFiles {
    /// PEM file of the chain.
    pub chain: PathBuf,
    /// PEM file of the key.
    pub key: PathBuf,
}

/// The border with other providers.
#[derive(Debug, Clone)]
pub struct Federation {
    /// Addresses to listen on; at least one.
    pub listen: Vec<SocketAddr>,
    /// Lowest level admitted where no peer's entry says otherwise.
    pub floor: Level,
    /// Peers that are treated differently.
    pub peers: Vec<Peer>,
}

/// A peer with an entry of its own.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Our name for it, unique.
    pub name: String,
    /// Which hosts are meant.
    pub scope: Scope,
    /// Lowest level admitted.
    pub floor: Level,
    /// How its keys are proven.
    pub identity: Identity,
    /// What follows from where its servers stand; `None`: as for all.
    pub location: Option<LocationRule>,
}

/// The check where other providers' servers stand (LOCA family).
#[derive(Debug, Clone)]
pub struct Location {
    /// The file of the table.
    pub path: PathBuf,
    /// What follows where no peer's entry says otherwise: [`LocationRule::Observe`] or [`LocationRule::Enforce`].
    pub mode: LocationRule,
    /// The table, as it was when the configuration was read.
    pub table: Arc<LocationTable>,
}

/// Which hosts belong to a configured peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Those of this mail domain's NTA record.
    Domain(DomainName),
    /// These.
    Hosts(Vec<DomainName>),
}

/// How a peer's keys are proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// By DNSSEC-secure TLSA records.
    Dane,
    /// By the SHA-256 of the public key.
    Pinned(Vec<Digest>),
    /// By an authority for this peer alone.
    FederationCa(Vec<CertificateDer<'static>>),
}

impl Identity {
    /// The rule, without its data.
    #[must_use]
    pub const fn rule(&self) -> IdentityRule {
        match self {
            Self::Dane => IdentityRule::Dane,
            Self::Pinned(_) => IdentityRule::Pinned,
            Self::FederationCa(_) => IdentityRule::FederationCa,
        }
    }
}

/// Mail from our own platform.
#[derive(Debug, Clone)]
pub struct Submission {
    /// Addresses to listen on; at least one.
    pub listen: Vec<SocketAddr>,
    /// What happens to recipients whose domain cannot be judged right now (SUBM-004).
    pub temporary: Temporary,
    /// What happens to mail of a domain that other providers would not believe (SIGN-011).
    pub own_domain: OwnDomainRule,
    /// Who may submit; at least one.
    pub clients: Vec<Client>,
}

/// Recipients whose domain cannot be judged right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Temporary {
    /// `451`: the platform keeps the message.
    Refuse,
    /// The message is accepted and waits in the spool.
    Queue,
}

/// Mail of a domain of ours that other providers would not believe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnDomainRule {
    /// It is sent; the operator is told.
    Warn,
    /// It is refused at submission.
    Refuse,
}

/// Who may submit.
#[derive(Debug, Clone)]
pub struct Client {
    /// Our name for it, unique.
    pub name: String,
    /// Networks it connects from; empty: its certificate decides.
    pub addresses: Vec<Network>,
    /// SHA-256 of the public keys of its certificates; empty: its address decides.
    pub pins: Vec<Digest>,
    /// Sender domains it may use, all of them ours.
    pub domains: Vec<DomainName>,
}

/// A network in CIDR form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// A network; `None` when the prefix is longer than the address or bits are set beyond it.
    #[must_use]
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let (bits, width) = Self::bits(address);
        let host_bits = u32::from(width).checked_sub(u32::from(prefix))?;
        let clean = host_bits == 0 || bits & (u128::MAX >> (128 - host_bits)) == 0;
        clean.then_some(Self { address, prefix })
    }

    /// Whether `address` lies in it; an IPv4 address mapped into IPv6 counts as the IPv4 address.
    #[must_use]
    pub fn holds(&self, address: IpAddr) -> bool {
        let ((ours, width), (theirs, other)) = (Self::bits(self.address), Self::bits(address.to_canonical()));
        let host_bits = u32::from(width - self.prefix);
        width == other
            && ours.checked_shr(host_bits).unwrap_or(0) == theirs.checked_shr(host_bits).unwrap_or(0)
    }

    fn bits(address: IpAddr) -> (u128, u8) {
        match address {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
            IpAddr::V6(v6) => (v6.to_bits(), 128),
        }
    }
}

impl std::str::FromStr for Network {
    type Err = ();

    /// `ADDRESS/PREFIX`, or a single address.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse().map_err(|_| ())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| ())?;
        Self::new(address, prefix.unwrap_or(Self::bits(address).1)).ok_or(())
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// A border with our own platform.
#[derive(Debug, Clone)]
pub struct HandOff {
    /// Over what, and where to.
    pub binding: Binding,
    /// Whether the environment is asked about recipients while the peer waits (SMTP-018).
    pub recipients: Recipients,
}

/// The provider's own filter (`spec/13-content-hook.md`).
#[derive(Debug, Clone)]
pub struct ContentHook {
    /// Where it listens, and protected how.
    pub endpoint: Endpoint,
    /// Path of the request.
    pub path: String,
}

/// How a message leaves into our platform.
#[derive(Debug, Clone)]
pub enum Binding {
    /// LMTP (RFC 2033).
    Lmtp(Endpoint),
    /// SMTP relay.
    Smtp(Endpoint),
    /// A tree of Maildirs, `PATH/DOMAIN/LOCAL`.
    Maildir(PathBuf),
}

/// Where, and protected how.
#[derive(Debug, Clone)]
pub enum Endpoint {
    /// A UNIX socket.
    Unix(PathBuf),
    /// A loopback address, with or without TLS.
    Loopback(SocketAddr, Option<EndpointTls>),
    /// Beyond this machine: always with TLS (HAND-002).
    Remote(RemoteAddress, EndpointTls),
}

/// An address beyond this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoteAddress {
    /// By number.
    Address(SocketAddr),
    /// By name, looked up when connecting; the TLS rule makes the answer harmless.
    Name(DomainName, u16),
}

impl fmt::Display for RemoteAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// How the server of a hand-off proves itself.
#[derive(Debug, Clone)]
pub enum EndpointTls {
    /// By the SHA-256 of its public key.
    Pins(Pins),
    /// By a chain to this authority, valid now, with this name.
    Ca {
        /// The authority; system roots take no part.
        authorities: Authorities,
        /// The name its certificate must carry.
        name: DomainName,
    },
}

/// Whether recipients are checked while the peer waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recipients {
    /// The environment is asked at RCPT.
    Ask,
    /// Every recipient of our domains is taken; unknown ones are returned later.
    Accept,
}

/// Logging.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// The form of a line.
    pub format: LogFormat,
    /// The least important level that is written.
    pub level: tracing::Level,
    /// How addresses are written.
    pub addresses: LogAddresses,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object.
    Json,
    /// For eyes.
    Text,
}

/// How addresses are written to the log (OPS-008).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogAddresses {
    /// As a keyed hash of the local part with the domain; the key lives as long as the process.
    Pseudonymous,
    /// As they are.
    Clear,
}

/// The NTA header, of which no public text gives name or value (JUDGE-009).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NtaHeader {
    /// Its name; `None`: nobody has said it.
    pub name: Option<String>,
    /// The value of outgoing ones, with `{domain}`, `{provider}` and `{node}` in it; `None`: none is written.
    pub value: Option<String>,
    /// What is done about it in mail of other providers.
    pub inbound: NtaInbound,
}

impl NtaHeader {
    /// Name and value of what is put on mail for other providers (SIGN-013).
    #[must_use]
    pub fn outgoing(&self) -> Option<(&str, &str)> {
        self.name.as_deref().zip(self.value.as_deref())
    }
}

/// What is done about the NTA header in mail of other providers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NtaInbound {
    /// It is not looked for.
    Off,
    /// What looks like it is noted and counted.
    #[default]
    Observe,
    /// Besides, mail without it is refused.
    Enforce,
}

/// The control socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// Path of the UNIX socket.
    pub socket: PathBuf,
    /// Its permissions; nothing for others (OPS-004).
    pub mode: u32,
}
