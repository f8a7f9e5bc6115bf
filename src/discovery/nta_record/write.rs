//! The record a node prints for publishing.

use std::fmt;

use crate::model::DomainName;

use super::YearMonth;

/// One character-string (RFC 1035 section 3.3).
const STRING_OCTETS_MAX: usize = 255;

/// What a provider wants to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// First month of validity.
    pub start: YearMonth,
    /// Last month of validity.
    pub end: YearMonth,
    /// The provider's own name for itself.
    pub provider: String,
    /// The hosts with their preferences. Empty: the hosts of MX.
    pub ntamx: Vec<(u16, DomainName)>,
}

/// Why a record cannot be published. The operator changes what is to be published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The months are the wrong way round.
    #[error("startdate {0} is after enddate {1}")]
    ReversedMonths(YearMonth, YearMonth),
    /// The provider's name would break the record apart.
    #[error("the provider's name may not hold ';' or control characters, nor begin or end with a blank")]
    Provider,
    /// A host with a single label, which readers refuse.
    #[error("{0} is no host name of at least two labels")]
    Host(DomainName),
    /// Too long for one character-string (DISC-014).
    #[error("the record has {0} octets; more than {STRING_OCTETS_MAX} do not fit one character-string")]
    TooLong(usize),
}

impl Publish {
    /// The text of the record: one character-string, in the order that anchored parsers expect (DISC-014).
    ///
    /// # Errors
    /// What would not be read back as it was meant.
    pub fn text(&self) -> Result<String, PublishError> {
        if self.start > self.end {
            return Err(PublishError::ReversedMonths(self.start, self.end));
        }
        let name = &self.provider;
        if name.chars().any(|c| c == ';' || c.is_control()) || name.trim() != name {
            return Err(PublishError::Provider);
        }
        if let Some((_, host)) = self.ntamx.iter().find(|(_, host)| host.label_count() < 2) {
            return Err(PublishError::Host(host.clone()));
        }
        let text = self.to_string();
        if text.len() > STRING_OCTETS_MAX { Err(PublishError::TooLong(text.len())) } else { Ok(text) }
    }
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v=NTA7516-1;startdate={};enddate={};provider={}", self.start, self.end, self.provider)?;
        self.ntamx.iter().try_for_each(|(preference, host)| write!(f, ";ntamx={preference} {host}"))
    }
}
