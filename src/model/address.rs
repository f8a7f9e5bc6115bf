//! Mail addresses of the envelope.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{DomainName, DomainNameError};

/// The longest local part (RFC 5321 section 4.5.3.1.1).
const LOCAL_OCTETS_MAX: usize = 64;
/// The longest address, so that a path with its angle brackets stays within 256 octets (RFC 5321 section 4.5.3.1.3).
const ADDRESS_OCTETS_MAX: usize = 254;

/// A mailbox of the envelope: local part and domain (RFC 5321 section 4.1.2, RFC 6531 section 3.3).
///
/// The local part is kept as it was written, quotes included; only its own host may interpret it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    local: String,
    domain: DomainName,
}

/// Why a text is not an [`Address`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No `@`, or nothing before it.
    #[error("the address has no local part")]
    NoLocalPart,
    /// The local part is no dot-string and no quoted-string, or holds a control character.
    #[error("the local part is malformed")]
    LocalPart,
    /// Local part over 64 octets, or address over 254.
    #[error("the address is too long (local part 64, address 254 octets)")]
    TooLong,
    /// The part after the `@`.
    #[error("the domain is malformed: {0}")]
    Domain(#[from] DomainNameError),
}

impl Address {
    /// The part before the `@`, as written.
    #[must_use]
    pub fn local(&self) -> &str {
        &self.local
    }

    /// The part after the `@`.
    #[must_use]
    pub fn domain(&self) -> &DomainName {
        &self.domain
    }

    /// Whether this address can only travel with SMTPUTF8 (RFC 6531 section 3.3).
    #[must_use]
    pub fn needs_smtputf8(&self) -> bool {
        !self.local.is_ascii()
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (local, domain) = text.rsplit_once('@').ok_or(AddressError::NoLocalPart)?;
        if local.is_empty() {
            return Err(AddressError::NoLocalPart);
        }
        if local.len() > LOCAL_OCTETS_MAX || text.len() > ADDRESS_OCTETS_MAX {
            return Err(AddressError::TooLong);
        }
        if !(is_dot_string(local) || is_quoted_string(local)) {
            return Err(AddressError::LocalPart);
        }
        Ok(Self { local: local.to_owned(), domain: domain.parse()? })
    }
}

fn is_dot_string(local: &str) -> bool {
    local.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atext))
}

/// `atext` of RFC 5322 section 3.2.3, widened by RFC 6531 section 3.3 to all of UTF-8 that is no control character.
fn is_atext(c: char) -> bool {
    if c.is_ascii() {
        c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c)
    } else {
        !c.is_control()
    }
}

fn is_quoted_string(local: &str) -> bool {
    let Some(inner) = local.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return false;
    };
    let mut escaped = false;
    for c in inner.chars() {
        match c {
            _ if c.is_control() => return false,
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return false,
            _ => {}
        }
    }
    !escaped && local.len() >= 2
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where delivery reports go: `MAIL FROM`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum ReversePath {
    /// `<>`: a report about another message; it must never cause a report itself (RFC 5321 section 4.5.5).
    Null,
    /// An ordinary sender.
    Address(Address),
}

impl ReversePath {
    /// The address, unless this is the null sender.
    #[must_use]
    pub fn address(&self) -> Option<&Address> {
        match self {
            Self::Null => None,
            Self::Address(address) => Some(address),
        }
    }
}

impl From<String> for ReversePath {
    /// Only for stored values, which were written by [`fmt::Display`]: anything else becomes the null sender, which
    /// can cause no mail.
    fn from(text: String) -> Self {
        text.parse().map_or(Self::Null, Self::Address)
    }
}

impl From<ReversePath> for String {
    fn from(path: ReversePath) -> Self {
        path.to_string()
    }
}

impl fmt::Display for ReversePath {
    /// Without angle brackets; the null sender is the empty text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address().map_or(Ok(()), |address| fmt::Display::fmt(address, f))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn accepts_what_the_grammar_allows() {
        for text in [
            "a@b.nl",
            "jan.de.vries@b.nl",
            "\"jan de vries\"@b.nl",
            "\"a\\\"b\"@b.nl",
            "jörg@b.nl",
            "a+b@zörg.nl",
        ] {
            assert!(text.parse::<Address>().is_ok(), "{text}");
        }
        assert!("jörg@b.nl".parse::<Address>().unwrap().needs_smtputf8());
        assert_eq!("a@B.NL".parse::<Address>().unwrap().to_string(), "a@b.nl");
    }

    #[test]
    fn t05_refuses_what_could_carry_a_command() {
        for text in [
            "b.nl",
            "@b.nl",
            ".a@b.nl",
            "a..b@b.nl",
            "a b@b.nl",
            "a\r\n@b.nl",
            "\"a\r\nRCPT TO:<x@y.nl>\"@b.nl",
            "a\0@b.nl",
            "\"a@b.nl",
            "\"a\\\"@b.nl",
            "\"@b.nl",
            "a@[127.0.0.1]",
            "a>@b.nl",
            "a<b@b.nl",
            "\u{85}@b.nl",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
        assert_eq!(format!("{}@b.nl", "a".repeat(65)).parse::<Address>(), Err(AddressError::TooLong));
    }

    proptest! {
        #[test]
        fn t05_whatever_parses_is_one_line_and_round_trips(text in "\\PC{0,80}|[\\x00-\\x7f]{0,40}@[a-z\\x00-\\x20.]{1,20}") {
            if let Ok(address) = text.parse::<Address>() {
                let shown = address.to_string();
                prop_assert!(!shown.chars().any(char::is_control));
                prop_assert_eq!(shown.parse::<Address>().unwrap(), address);
            }
        }
    }
}
