//! The checked configuration: every name resolved, every limit applied, every file read. What exists here may run.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::limits::Limits;
use crate::model::{Address, Digest, DomainName, IdentityRule, Level};

/// A configuration that may run.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it was read from.
    pub file: PathBuf,
    /// Who this node is.
    pub node: Node,
    /// Where DNS answers come from, and why they are believed.
    pub dns: Dns,
    /// Our keys, in the order of the file; at least one.
    pub certificates: Vec<Certificate>,
    /// The border with other providers.
    pub federation: Federation,
    /// Mail from our own platform; `None`: only the control socket submits.
    pub submission: Option<Submission>,
    /// Where mail for our own domains goes.
    pub environment: HandOff,
    /// Where mail for domains that are not federated goes; `None`: it is refused.
    pub fallback: Option<HandOff>,
    /// Directory of the spool.
    pub spool_dir: PathBuf,
    /// The limits in force.
    pub limits: Limits,
    /// Logging.
    pub log: Log,
    /// The control socket.
    pub control: Control,
    /// Loopback address of `/health` and `/metrics`; `None`: off.
    pub admin: Option<SocketAddr>,
    /// What weakens protection, for test networks only.
    pub lab: Lab,
    /// What is admitted but deserves a look, as sentences.
    pub warnings: Vec<String>,
}

impl Config {
    /// The settings in force that weaken protection, by key; every decision record carries them (REC-005).
    #[must_use]
    pub fn weakened(&self) -> Vec<String> {
        let mut keys = Vec::new();
        if let Some(port) = self.lab.peer_port {
            keys.push(format!("lab.peer_port={port}"));
        }
        if self.lab.private_peers == PrivatePeers::Admit {
            keys.push("lab.private_peer_addresses".to_owned());
        }
        keys
    }

    /// The port on which other providers' nodes listen.
    #[must_use]
    pub fn peer_port(&self) -> u16 {
        self.lab.peer_port.unwrap_or(SMTP_PORT)
    }
}

/// The port of SMTP between providers (RFC 5321 section 4.5.4.2).
pub const SMTP_PORT: u16 = 25;

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
    /// First month of the NTA record.
    pub startdate: Month,
    /// Last month of the NTA record; not before `startdate`.
    pub enddate: Month,
}

/// A month of the NTA record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month {
    /// The year, four digits.
    pub year: i16,
    /// 1 to 12.
    pub month: i8,
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

/// Where DNS answers come from.
#[derive(Debug, Clone)]
pub struct Dns {
    /// The recursive resolver.
    pub resolver: SocketAddr,
    /// Why its answers are believed.
    pub trust: Trust,
}

/// Why a DNS answer is believed.
#[derive(Debug, Clone)]
pub enum Trust {
    /// We validate each answer ourselves.
    Validate(Anchors),
    /// The resolver on this machine says so (DNS-007); tested at start with two names of which the truth is known.
    AdBit {
        /// Must give SERVFAIL.
        bogus: DomainName,
        /// Must give the AD bit.
        signed: DomainName,
    },
}

/// The keys of the DNS root.
#[derive(Debug, Clone)]
pub enum Anchors {
    /// IANA's, bundled.
    Iana,
    /// Those of a file, instead.
    File {
        /// The file.
        path: PathBuf,
        /// Its text, in zone file format.
        text: String,
    },
}

/// One of our keys with its certificate.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// PEM file of the chain.
    pub chain_file: PathBuf,
    /// PEM file of the key.
    pub key_file: PathBuf,
    /// The certificate and those above it.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key.
    pub key: Arc<PrivateKeyDer<'static>>,
    /// Its dNSNames; `node.name` is among them; at most 4 (IDEN-007).
    pub names: Vec<DomainName>,
    /// SHA-256 of the SubjectPublicKeyInfo: the data of a `3 1 1` record.
    pub spki: Digest,
    /// The kind of key.
    pub kind: KeyKind,
    /// The certificate's last instant. DANE usage 3 does not look at it.
    pub not_after: Timestamp,
}

/// The kind of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA on P-256 or P-384.
    Ecdsa,
    /// Ed25519.
    Ed25519,
    /// RSA with this many bits, 2048 or more.
    Rsa(usize),
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ecdsa => f.write_str("ECDSA"),
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::Rsa(bits) => write!(f, "RSA-{bits}"),
        }
    }
}

/// The border with other providers.
#[derive(Debug, Clone)]
pub struct Federation {
    /// Addresses to listen on; at least one.
    pub listen: Vec<SocketAddr>,
    /// Lowest level admitted where no peer's entry says otherwise.
    pub floor: Level,
    /// The hosts that our NTA record names, with their preferences; at least one.
    pub ntamx: Vec<(u16, DomainName)>,
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
    Pins(Vec<Digest>),
    /// By a chain to this authority, valid now, with this name.
    Ca {
        /// The authority; system roots take no part.
        roots: Vec<CertificateDer<'static>>,
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

/// The control socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// Path of the UNIX socket.
    pub socket: PathBuf,
    /// Its permissions; nothing for others (OPS-004).
    pub mode: u32,
}

/// What weakens protection, for test networks only (OPS-002).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lab {
    /// Port of other nodes, and of their TLSA records, instead of 25.
    pub peer_port: Option<u16>,
    /// Whether peers may have addresses that are not globally reachable (DISC-015).
    pub private_peers: PrivatePeers,
}

/// Peers whose addresses are not globally reachable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrivatePeers {
    /// Such a host is skipped.
    Refuse,
    /// Such a host is connected to.
    Admit,
}
