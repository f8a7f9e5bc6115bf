//! May this client speak for this domain, and at which level?

use crate::model::{DomainName, Reason};

/// What the handshake proved about the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Client {
    /// These names are proven; at least one.
    Proven(Vec<DomainName>),
    /// No identity is claimed: no certificate, or one whose names take no part. The reason names which.
    Unidentified(Reason),
    /// A certificate was shown and failed, or could not be checked. Never the same as showing none (IDEN-008).
    Failed(Reason),
}

/// What discovery says about a domain that a client wants to speak for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It takes part, through these hosts.
    Federated {
        /// The hosts its record names.
        hosts: Vec<DomainName>,
        /// Whether any of them publishes keys for clients. Asked only when the client is unidentified.
        client_keys: ClientKeys,
    },
    /// It provably has no record: perhaps a subdomain for bounces.
    NoRecord(Reason),
    /// It provably takes no part: insecure, legacy, invalid, outside its months.
    Excluded(Reason),
    /// Nobody can tell now.
    Temporary(Reason),
}

/// Whether the hosts of a domain publish TLSA records at `_smtp-client.`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientKeys {
    /// At least one does: its mail comes at `mutual` or not at all (IDEN-011).
    Published,
    /// None does, or the question does not arise because the client is identified.
    NotPublished,
    /// Nobody can tell now.
    Unknown,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SenderVerdict {
    /// The client is a host of the domain.
    Mutual,
    /// No client identity: the message must prove its domain (IDEN-016).
    ByMessage,
    /// The domain has no record of its own: the `From:` domain decides, after the content (IDEN-010).
    ByFrom,
    /// It may not.
    Refused(Reason),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::judge_sender;
    use super::*;
    use crate::model::Level;

    fn name(text: &str) -> DomainName {
        text.parse().unwrap()
    }

    fn proven(text: &str) -> Client {
        Client::Proven(vec![name("other.c.nl"), name(text)])
    }

    fn federated(client_keys: ClientKeys) -> Standing {
        Standing::Federated { hosts: vec![name("nta-a.a.nl"), name("nta-b.a.nl")], client_keys }
    }

    /// Proves: +IDEN-009 -IDEN-009 +IDEN-002 -IDEN-002 +IDEN-011 -IDEN-011 -IDEN-008 -IDEN-010
    #[test]
    fn every_combination_of_client_domain_and_floor() {
        use Client::{Failed, Unidentified};
        use Level::{Mutual, Nta7516};
        use SenderVerdict::Refused;
        let none = Unidentified(Reason::ClientIdentityAbsent);
        let unclaimed = Unidentified(Reason::ClientTlsaAbsent);
        let mismatch = Failed(Reason::ClientTlsaMismatch);
        let open = federated(ClientKeys::NotPublished);
        let keyed = federated(ClientKeys::Published);
        let unsure = federated(ClientKeys::Unknown);
        let bare = Standing::NoRecord(Reason::RecordAbsent);
        let expired = Standing::Excluded(Reason::RecordExpired);
        let bogus = Standing::Temporary(Reason::DnsBogus);
        for (client, standing, floor, expected) in [
            (&proven("nta-a.a.nl"), &open, Mutual, SenderVerdict::Mutual),
            (&proven("nta-b.a.nl"), &keyed, Nta7516, SenderVerdict::Mutual),
            (&proven("nta-a.b.nl"), &open, Mutual, Refused(Reason::ClientNotOfSender)),
            (&proven("nta-a.b.nl"), &open, Nta7516, Refused(Reason::ClientNotOfSender)),
            (&proven("nta-a.a.nl"), &bare, Mutual, SenderVerdict::ByFrom),
            (&proven("nta-a.a.nl"), &expired, Mutual, Refused(Reason::SenderNotFederated)),
            (&proven("nta-a.a.nl"), &bogus, Mutual, Refused(Reason::SenderDnsTemporary)),
            (&none, &open, Mutual, Refused(Reason::ClientIdentityAbsent)),
            (&unclaimed, &open, Mutual, Refused(Reason::ClientTlsaAbsent)),
            (&none, &open, Nta7516, SenderVerdict::ByMessage),
            (&unclaimed, &open, Nta7516, SenderVerdict::ByMessage),
            (&none, &keyed, Nta7516, Refused(Reason::HeldToMutual)),
            (&unclaimed, &keyed, Nta7516, Refused(Reason::HeldToMutual)),
            (&none, &unsure, Nta7516, Refused(Reason::ClientIdentityTemporary)),
            (&none, &bare, Nta7516, SenderVerdict::ByFrom),
            (&none, &expired, Nta7516, Refused(Reason::SenderNotFederated)),
            (&none, &bogus, Nta7516, Refused(Reason::SenderDnsTemporary)),
            (&mismatch, &open, Nta7516, Refused(Reason::ClientTlsaMismatch)),
            (&mismatch, &open, Mutual, Refused(Reason::ClientTlsaMismatch)),
            (
                &Failed(Reason::ClientIdentityTemporary),
                &open,
                Nta7516,
                Refused(Reason::ClientIdentityTemporary),
            ),
        ] {
            assert_eq!(judge_sender(client, standing, floor), expected, "{client:?} {standing:?} {floor}");
        }
    }
}
