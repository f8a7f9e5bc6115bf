//! How sure a link is of who is on both ends.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The assurance level of a link and of every message that crossed it (IDEN family; `spec/04-identity.md`).
///
/// There are two, in this order, and no third below them: what reaches neither is not sent and not taken. A *floor* is
/// the lowest level that a peer's configuration admits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The server is authenticated by DANE; the sender by aligned DKIM, DMARC, SPF and a valid secure NTA record.
    Nta7516,
    /// Both ends are authenticated by their keys, and the client's name is a host of the sender's domain.
    Mutual,
}

impl Level {
    /// The word used in configuration, on the wire (`XPEERLEVEL`), in headers and in records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nta7516 => "nta7516",
            Self::Mutual => "mutual",
        }
    }

    /// The level with this word, in any case.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Nta7516, Self::Mutual].into_iter().find(|level| level.as_str().eq_ignore_ascii_case(word))
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which rule authenticated a peer's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentityRule {
    /// A DNSSEC-secure TLSA record of the peer's name.
    Dane,
    /// The SHA-256 of the peer's public key is in our configuration.
    Pinned,
    /// A certification authority configured for this peer alone. System roots never take part.
    FederationCa,
}

impl fmt::Display for IdentityRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dane => "dane",
            Self::Pinned => "pinned",
            Self::FederationCa => "federation_ca",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutual_is_above_nta7516_and_nothing_is_below() {
        assert!(Level::Mutual > Level::Nta7516);
        assert_eq!(Level::from_word("MUTUAL"), Some(Level::Mutual));
        for word in ["none", "opportunistic", "may", "encrypt", ""] {
            assert_eq!(Level::from_word(word), None);
        }
    }
}
