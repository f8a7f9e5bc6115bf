//! The other side of a link, once it has proved who it is.

use crate::model::{Digest, DomainName, IdentityRule};

/// A server or client whose key was authenticated in the handshake of an open link.
///
/// Only `transport` makes one, and only after a check succeeded: code that holds this value has nothing left to check
/// about who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedPeer {
    names: Vec<DomainName>,
    rule: IdentityRule,
    key: Digest,
    evidence: String,
}

impl VerifiedPeer {
    pub(in crate::transport) const fn new(
        names: Vec<DomainName>,
        rule: IdentityRule,
        key: Digest,
        evidence: String,
    ) -> Self {
        Self { names, rule, key, evidence }
    }

    /// The names that are proven. A server: the host we meant. A client: every name of its certificate that passed.
    #[must_use]
    pub fn names(&self) -> &[DomainName] {
        &self.names
    }

    /// The rule that authenticated it.
    #[must_use]
    pub const fn rule(&self) -> IdentityRule {
        self.rule
    }

    /// SHA-256 of its public key (`SubjectPublicKeyInfo`).
    #[must_use]
    pub const fn key(&self) -> Digest {
        self.key
    }

    /// The rule with what matched, for records: `dane 3 1 1`, `pinned`, `federation_ca`.
    #[must_use]
    pub fn evidence(&self) -> &str {
        &self.evidence
    }
}
