//! Owner names: what a DNS question is about.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use bytes::Bytes;
use domain::base::{Name, ToName};

use crate::model::DomainName;

/// Any name that DNS can hold, service labels with an underscore included. Names that differ in case only are equal.
#[derive(Clone)]
pub struct OwnerName(Name<Bytes>);

/// The text is no DNS name, or becomes longer than 255 octets with its service labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no DNS name, or longer than 255 octets")]
pub struct OwnerNameError;

impl OwnerName {
    /// The root.
    #[must_use]
    pub fn root() -> Self {
        Self(Name::root_bytes())
    }

    /// `_<port>._tcp.<base>`, where the TLSA records of a TCP service stand (RFC 6698 section 3).
    ///
    /// # Errors
    /// The name becomes too long.
    pub fn tlsa(port: u16, base: &DomainName) -> Result<Self, OwnerNameError> {
        format!("_{port}._tcp.{base}").parse()
    }

    /// `_smtp-client.<name>`, where the TLSA records of an SMTP client stand.
    ///
    /// # Errors
    /// The name becomes too long.
    pub fn smtp_client(name: &DomainName) -> Result<Self, OwnerNameError> {
        format!("_smtp-client.{name}").parse()
    }

    /// This name as a host or mail domain, if it is spelled like one.
    #[must_use]
    pub fn to_domain_name(&self) -> Option<DomainName> {
        self.to_string().parse().ok()
    }

    /// Whether this is the root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_root()
    }

    pub(super) const fn wire(&self) -> &Name<Bytes> {
        &self.0
    }

    pub(super) fn from_wire(name: &impl ToName) -> Self {
        Self(name.to_bytes())
    }
}

impl From<&DomainName> for OwnerName {
    fn from(name: &DomainName) -> Self {
        name.as_str()
            .parse()
            .expect("a domain name has at most 253 octets and no escapes, so it is an owner name")
    }
}

impl FromStr for OwnerName {
    type Err = OwnerNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Name::bytes_from_str(text).map(Self).map_err(|_| OwnerNameError)
    }
}

impl PartialEq for OwnerName {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for OwnerName {}

impl Hash for OwnerName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Display for OwnerName {
    /// In lower case, without the final dot; the root is `.`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        f.write_str(&self.0.to_string().to_ascii_lowercase())
    }
}

impl fmt::Debug for OwnerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn service_labels_stand_in_front() {
        let host: DomainName = "mx.a.nl".parse().unwrap();
        assert_eq!(OwnerName::tlsa(25, &host).unwrap().to_string(), "_25._tcp.mx.a.nl");
        assert_eq!(OwnerName::smtp_client(&host).unwrap().to_string(), "_smtp-client.mx.a.nl");
        assert_eq!(OwnerName::tlsa(25, &host).unwrap().to_domain_name(), None);
        assert_eq!(OwnerName::from(&host).to_domain_name(), Some(host));
        let long: DomainName = vec!["a".repeat(61); 4].join(".").parse().unwrap();
        assert!(OwnerName::tlsa(25, &long).is_err());
    }

    #[test]
    fn case_does_not_matter() {
        assert_eq!("MX.a.NL".parse::<OwnerName>(), "mx.A.nl.".parse::<OwnerName>());
        assert_eq!(OwnerName::root().to_string(), ".");
    }
}
