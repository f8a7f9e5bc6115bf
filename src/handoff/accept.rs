//! Who of our own environment may submit, and for which sender domains.

use std::net::IpAddr;

use crate::config::{Client, Submission};
use crate::model::{Digest, DomainName};

/// The configured client that a connection is: every property the entry names must hold (SUBM-001).
///
/// `key` is the SHA-256 of the public key with which the connection proved itself, if it showed a certificate.
#[must_use]
pub fn client_of(submission: &Submission, address: IpAddr, key: Option<Digest>) -> Option<&Client> {
    submission.clients.iter().find(|client| {
        let by_address = client.addresses.iter().any(|network| network.holds(address));
        let by_key = key.is_some_and(|key| client.pins.contains(&key));
        match (client.addresses.is_empty(), client.pins.is_empty()) {
            (false, false) => by_address && by_key,
            (false, true) => by_address,
            (true, false) => by_key,
            (true, true) => false,
        }
    })
}

/// Whether the client may send in the name of `domain` (SUBM-002).
#[must_use]
pub fn may_send_as(client: &Client, domain: &DomainName) -> bool {
    client.domains.contains(domain)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::{OwnDomainRule, Temporary};

    fn client(addresses: &[&str], pins: &[&[u8]]) -> Client {
        Client {
            name: "platform".into(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            pins: pins.iter().map(|key| Digest::of(key)).collect(),
            domains: vec!["a.nl".parse().unwrap()],
        }
    }

    /// Proves: +SUBM-001 -SUBM-001
    #[test]
    fn a_client_is_known_by_everything_its_entry_names() {
        let (inside, outside) = ("10.0.0.7".parse().unwrap(), "10.0.1.7".parse().unwrap());
        let key = Some(Digest::of(b"key"));
        for (entry, address, shown, known) in [
            (client(&["10.0.0.0/24"], &[]), inside, None, true),
            (client(&["10.0.0.0/24"], &[]), outside, key, false),
            (client(&[], &[b"key"]), outside, key, true),
            (client(&[], &[b"key"]), inside, None, false),
            (client(&[], &[b"key"]), inside, Some(Digest::of(b"other")), false),
            (client(&["10.0.0.0/24"], &[b"key"]), inside, key, true),
            (client(&["10.0.0.0/24"], &[b"key"]), inside, None, false),
            (client(&["10.0.0.0/24"], &[b"key"]), outside, key, false),
            (client(&[], &[]), inside, key, false),
        ] {
            let submission = Submission {
                listen: Vec::new(),
                temporary: Temporary::Refuse,
                own_domain: OwnDomainRule::Warn,
                clients: vec![entry.clone()],
            };
            assert_eq!(
                client_of(&submission, address, shown).is_some(),
                known,
                "{entry:?} {address} {shown:?}"
            );
        }
    }
}
