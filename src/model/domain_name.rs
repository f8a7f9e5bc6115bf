//! Domain names as mail and hosts use them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest name in presentation form, without the final dot (RFC 1035 section 2.3.4).
const NAME_OCTETS_MAX: usize = 253;
/// The longest label (RFC 1035 section 2.3.4).
const LABEL_OCTETS_MAX: usize = 63;

/// A host or mail domain: lower-case A-labels joined by dots, no final dot, letters, digits and hyphens only.
///
/// Internationalised names are accepted on input and kept as A-labels (RFC 5890), so two spellings of one name are
/// equal. Address literals and names that look like an IPv4 address are refused: nothing in this protocol is
/// addressed by number.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DomainName(String);

/// Why a text is not a [`DomainName`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DomainNameError {
    /// Nothing there, or only a dot.
    #[error("the name is empty")]
    Empty,
    /// More than 253 octets as A-labels.
    #[error("the name is longer than 253 octets")]
    TooLong,
    /// A label is empty, longer than 63 octets, starts or ends with a hyphen, or is no valid IDNA label.
    #[error("a label is malformed (letters, digits and inner hyphens; 1 to 63 octets)")]
    Label,
    /// An IPv4 or IPv6 address where a name belongs.
    #[error("an IP address stands where a name belongs")]
    Number,
}

impl DomainName {
    /// The name in its only spelling, without the final dot.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How many labels the name has; at least one.
    #[must_use]
    pub fn label_count(&self) -> usize {
        self.0.split('.').count()
    }

    /// Whether this name is `parent` or lies below it.
    #[must_use]
    pub fn is_at_or_below(&self, parent: &Self) -> bool {
        self.0.strip_suffix(parent.0.as_str()).is_some_and(|head| head.is_empty() || head.ends_with('.'))
    }
}

impl FromStr for DomainName {
    type Err = DomainNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bare = text.strip_suffix('.').unwrap_or(text);
        if bare.is_empty() {
            return Err(DomainNameError::Empty);
        }
        if bare.starts_with('[') || bare.contains(':') {
            return Err(DomainNameError::Number);
        }
        let ascii = idna::domain_to_ascii_cow(bare.as_bytes(), idna::AsciiDenyList::STD3)
            .map_err(|_| DomainNameError::Label)?
            .into_owned();
        if ascii.len() > NAME_OCTETS_MAX {
            return Err(DomainNameError::TooLong);
        }
        if !ascii.split('.').all(is_label) {
            return Err(DomainNameError::Label);
        }
        let last = ascii.rsplit('.').next().unwrap_or_default();
        if last.bytes().all(|octet| octet.is_ascii_digit()) {
            return Err(DomainNameError::Number);
        }
        Ok(Self(ascii))
    }
}

fn is_label(label: &str) -> bool {
    (1..=LABEL_OCTETS_MAX).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|octet| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-')
}

impl TryFrom<String> for DomainName {
    type Error = DomainNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<DomainName> for String {
    fn from(name: DomainName) -> Self {
        name.0
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn name(text: &str) -> Result<DomainName, DomainNameError> {
        text.parse()
    }

    #[test]
    fn one_spelling_per_name() {
        assert_eq!(name("NTA-A.Example.NL.").unwrap().as_str(), "nta-a.example.nl");
        assert_eq!(name("Zörg.nl").unwrap().as_str(), "xn--zrg-sna.nl");
        assert_eq!(name("xn--zrg-sna.nl").unwrap(), name("zörg.NL").unwrap());
    }

    #[test]
    fn refuses_what_is_no_name() {
        for (text, error) in [
            ("", DomainNameError::Empty),
            (".", DomainNameError::Empty),
            ("a..nl", DomainNameError::Label),
            ("-a.nl", DomainNameError::Label),
            ("a_b.nl", DomainNameError::Label),
            ("a b.nl", DomainNameError::Label),
            ("a\r\nRCPT.nl", DomainNameError::Label),
            ("a\0.nl", DomainNameError::Label),
            ("192.0.2.1", DomainNameError::Number),
            ("[192.0.2.1]", DomainNameError::Number),
            ("2001:db8::1", DomainNameError::Number),
        ] {
            assert_eq!(name(text), Err(error), "{text:?}");
        }
        assert_eq!(name(&format!("{}.nl", "a".repeat(64))), Err(DomainNameError::Label));
        assert_eq!(name(&vec!["a".repeat(60); 5].join(".")), Err(DomainNameError::TooLong));
    }

    #[test]
    fn below_is_by_label() {
        let (parent, child) = (name("a.nl").unwrap(), name("b.a.nl").unwrap());
        assert!(child.is_at_or_below(&parent) && parent.is_at_or_below(&parent));
        assert!(!name("ba.nl").unwrap().is_at_or_below(&parent));
    }
}
