//! Where a server stands, as far as it matters here.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a table of networks says about an address (LOCA-001).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LocationVerdict {
    /// Inside the EU or the EEA.
    Eea,
    /// In a country outside of both.
    Outside,
    /// The table names no country for it.
    Unknown,
}

impl LocationVerdict {
    /// The word in records, log lines and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Eea => "eea",
            Self::Outside => "outside",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for LocationVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LocationRule {
    /// Nothing: for a peer that is admitted wherever it stands.
    Any,
    /// It is recorded, and what is outside or unknown is warned about.
    Observe,
    /// Besides, nothing is sent to, or taken from, a server outside.
    Enforce,
}

impl LocationRule {
    /// The word in records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Observe => "observe",
            Self::Enforce => "enforce",
        }
    }
}

impl fmt::Display for LocationRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where one address stands, and the rule under which that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocationFacts {
    /// Inside, outside or unknown.
    pub verdict: LocationVerdict,
    /// ISO 3166-1 alpha-2 code of the country, where the table names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// The rule in force for this peer.
    pub rule: LocationRule,
    /// Why it is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl fmt::Display for LocationFacts {
    /// `outside, in US`, `eea, in NL`, `unknown: not in the table`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.verdict)?;
        if let Some(country) = &self.country {
            write!(f, ", in {country}")?;
        }
        match &self.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}
