//! Who exists in the environment, as far as it can be said without delivering.

use std::collections::HashSet;

use crate::model::{Address, AddressError, DomainName, DomainNameError};

/// Whether a recipient exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecipientKnown {
    /// Yes.
    Known,
    /// No: refuse at RCPT.
    Unknown,
    /// Nobody can say now: accept, and let the hand-off decide.
    CannotTell,
}

/// A list of the recipients that exist: what is on it is known, anything else is not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecipientList {
    addresses: HashSet<String>,
    domains: HashSet<DomainName>,
}

/// Why a list is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecipientListError {
    /// A line that is no address.
    #[error("line {line}: {error}")]
    Address {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        error: AddressError,
    },
    /// A line that begins with `@` and is no domain.
    #[error("line {line}: {error}")]
    Domain {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        error: DomainNameError,
    },
    /// Nothing in it: every recipient would be unknown.
    #[error("the list names nobody, so every recipient would be refused")]
    Empty,
}

impl RecipientList {
    /// Reads a list: one address per line, or `@domain` for all of a domain. Empty lines and lines that begin with `#`
    /// are skipped.
    ///
    /// # Errors
    /// Names the first line that is neither.
    pub fn parse(text: &str) -> Result<Self, RecipientListError> {
        let mut list = Self::default();
        for (line, entry) in (1..).zip(text.lines().map(str::trim)) {
            if entry.is_empty() || entry.starts_with('#') {
                continue;
            }
            if let Some(domain) = entry.strip_prefix('@') {
                list.domains
                    .insert(domain.parse().map_err(|error| RecipientListError::Domain { line, error })?);
            } else {
                let address: Address =
                    entry.parse().map_err(|error| RecipientListError::Address { line, error })?;
                list.addresses.insert(key(&address));
            }
        }
        if list == Self::default() {
            return Err(RecipientListError::Empty);
        }
        Ok(list)
    }

    /// Whether `address` is on the list. Case makes no difference: a list is written by people.
    #[must_use]
    pub fn check(&self, address: &Address) -> RecipientKnown {
        if self.domains.contains(address.domain()) || self.addresses.contains(&key(address)) {
            RecipientKnown::Known
        } else {
            RecipientKnown::Unknown
        }
    }
}

fn key(address: &Address) -> String {
    address.to_string().to_lowercase()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_list_knows_its_addresses_and_whole_domains() {
        let list = RecipientList::parse("# practice\n\nJan@a.nl\n @b.nl \n").unwrap();
        for (address, known) in [
            ("jan@A.nl", RecipientKnown::Known),
            ("piet@a.nl", RecipientKnown::Unknown),
            ("anybody@b.nl", RecipientKnown::Known),
            ("jan@c.b.nl", RecipientKnown::Unknown),
        ] {
            assert_eq!(list.check(&address.parse().unwrap()), known, "{address}");
        }
    }

    #[test]
    fn a_bad_line_is_named_and_an_empty_list_is_refused() {
        assert!(matches!(
            RecipientList::parse("a@b.nl\nnobody"),
            Err(RecipientListError::Address { line: 2, .. })
        ));
        assert!(matches!(RecipientList::parse("@-"), Err(RecipientListError::Domain { line: 1, .. })));
        assert_eq!(RecipientList::parse("# nobody\n"), Err(RecipientListError::Empty));
    }
}
