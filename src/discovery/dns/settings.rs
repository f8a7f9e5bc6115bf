//! Whom the node asks, and why it believes the answers.

use std::net::SocketAddr;
use std::time::Duration;

use super::{AnchorError, Anchors, DnsTrouble, OwnerName};

/// Which resolver, whose keys, and how patiently.
#[derive(Clone, Debug)]
pub struct DnsSettings {
    /// The recursive resolver, address and port. Default: `127.0.0.1:53`.
    pub resolver: SocketAddr,
    /// Why its answers are believed.
    pub trust: Trust,
    /// How long one UDP question waits for its answer before it is repeated. Default: 2 s.
    pub try_timeout: Duration,
    /// How often it is repeated. Default: 2.
    pub retries: u8,
    /// How long one question may take in all, with its repetitions, TCP, aliases and the fetching of keys. Default:
    /// 20 s, which a cold resolver needs for a slow zone.
    pub question_timeout: Duration,
}

impl DnsSettings {
    /// Defaults, for this resolver and trust.
    #[must_use]
    pub const fn new(resolver: SocketAddr, trust: Trust) -> Self {
        Self {
            resolver,
            trust,
            try_timeout: Duration::from_secs(2),
            retries: 2,
            question_timeout: Duration::from_secs(20),
        }
    }
}

/// Why answers are believed.
#[derive(Clone, Debug)]
pub enum Trust {
    /// This process validates every answer from these keys of the root on (DNS-005). The default.
    Validate(Anchors),
    /// The resolver's AD bit is believed (DNS-007). Only for a resolver on this host, over loopback, that is known to
    /// validate: whoever can write to that socket decides who our peers are.
    AdBit {
        /// A name whose SOA or address is signed: its answer must carry AD.
        known_good: OwnerName,
        /// A name whose signatures are known to be broken: its answer must be SERVFAIL.
        known_bogus: OwnerName,
    },
}

/// Why there is no resolver to work with. The operator of this node acts.
#[derive(Debug, thiserror::Error)]
pub enum ResolverError {
    /// The anchors cannot be used.
    #[error(transparent)]
    Anchors(#[from] AnchorError),
    /// Lab addresses and the real world's keys do not go together.
    #[error(
        "private peer addresses (a lab setting) are refused together with {0}: give the lab its own root key"
    )]
    LabWithRealTrust(&'static str),
    /// The AD bit of a resolver that others can stand between.
    #[error(
        "the AD bit of {0} cannot be believed: it is not on a loopback address (use in-process validation)"
    )]
    NotLoopback(SocketAddr),
    /// The self-test could not be made.
    #[error("self-test of the resolver at {resolver}: {name} gave no answer ({trouble})")]
    SelfTest {
        /// The resolver.
        resolver: SocketAddr,
        /// What was asked.
        name: OwnerName,
        /// What came.
        trouble: DnsTrouble,
    },
    /// The resolver does not mark a signed answer.
    #[error(
        "self-test of the resolver at {resolver}: the signed name {name} came without AD; it does not validate"
    )]
    NoAd {
        /// The resolver.
        resolver: SocketAddr,
        /// What was asked.
        name: OwnerName,
    },
    /// The resolver answers for a bogus name.
    #[error(
        "self-test of the resolver at {resolver}: the bogus name {name} was answered; it does not validate"
    )]
    BogusAnswered {
        /// The resolver.
        resolver: SocketAddr,
        /// What was asked.
        name: OwnerName,
    },
}
