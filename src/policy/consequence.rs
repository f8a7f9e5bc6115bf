//! The table: failed check → what happens next.

use crate::model::{ContentLeft, Reason};

/// Where an outbound attempt goes after a failed check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outbound {
    /// The next candidate of the same attempt; when none is left, later.
    NextHost,
    /// Another attempt, by the schedule.
    Later,
    /// Given up; the sender is told. At submission: `550` at RCPT.
    Return,
}

impl Outbound {
    /// The word in `spec/05-failures.md`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NextHost => "next host, then later",
            Self::Later => "later",
            Self::Return => "return",
        }
    }
}

/// Who has to do something about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Acts {
    /// The other provider.
    Peer,
    /// The operator of this node.
    Operator,
    /// Whoever sent the message, or the system that made it.
    Sender,
    /// Nobody: it heals, or it was meant.
    Nobody,
}

impl Acts {
    /// The word in decision records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Operator => "operator",
            Self::Sender => "sender",
            Self::Nobody => "nobody",
        }
    }
}

/// What follows from one [`Reason`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consequence {
    /// The requirement that was not met.
    pub requirement: &'static str,
    /// On the way out; `None`: cannot happen there.
    pub outbound: Option<Outbound>,
    /// Reply to a client, as code and enhanced status; `None`: cannot happen there, or no reply is possible any more.
    pub reply: Option<(u16, &'static str)>,
    /// Status for a delivery report (RFC 3463) when the message is given up for this.
    pub status: &'static str,
    /// The most that can have reached the other side.
    pub content: ContentLeft,
    /// Who has to act.
    pub acts: Acts,
}

const fn row(requirement: &'static str, status: &'static str, acts: Acts) -> Consequence {
    Consequence { requirement, outbound: None, reply: None, status, content: ContentLeft::Never, acts }
}

impl Consequence {
    const fn out(mut self, outbound: Outbound) -> Self {
        self.outbound = Some(outbound);
        self
    }

    const fn reply(mut self, code: u16, enhanced: &'static str) -> Self {
        self.reply = Some((code, enhanced));
        self
    }

    const fn may_have_left(mut self) -> Self {
        self.content = ContentLeft::Possibly;
        self
    }

    const fn may_be_stored(mut self) -> Self {
        self.content = ContentLeft::Yes;
        self
    }
}

/// What follows from `reason`, in both roles.
#[must_use]
pub const fn consequence(reason: Reason) -> Consequence {
    match reason {
        Reason::DomainUnknown
        | Reason::RecordAbsent
        | Reason::ZoneInsecure
        | Reason::RecordLegacy
        | Reason::RecordInvalid
        | Reason::RecordSeveral
        | Reason::RecordNotYetValid
        | Reason::RecordExpired
        | Reason::NoHosts => not_federated(reason),
        Reason::DnsBogus
        | Reason::DnsServfail
        | Reason::DnsTimeout
        | Reason::DnsRefused
        | Reason::DnsRootKey
        | Reason::DnsAliasChain => dns_trouble(reason),
        Reason::HostInsecure
        | Reason::HostNoAddress
        | Reason::HostAddressForbidden
        | Reason::OutsideEea
        | Reason::LocationUnknown
        | Reason::HostIsSelf
        | Reason::TlsaAbsent
        | Reason::TlsaInsecure
        | Reason::TlsaUnusable
        | Reason::ConnectFailed
        | Reason::PeerTimeout
        | Reason::HostResting
        | Reason::StarttlsAbsent
        | Reason::StarttlsInjection
        | Reason::TlsHandshake
        | Reason::TlsaMismatch
        | Reason::CertificateInvalid
        | Reason::PinMismatch
        | Reason::ClientCertificateNotRequested => host_unfit(reason),
        Reason::PeerTemporary
        | Reason::PeerPermanent
        | Reason::PeerProtocol
        | Reason::ConnectionLost
        | Reason::ReplyLost
        | Reason::NoSmtputf8
        | Reason::NoEightBitMime
        | Reason::PeerSizeLimit
        | Reason::QueueExpired => peer_answer(reason),
        Reason::StarttlsRequired
        | Reason::ClientIdentityAbsent
        | Reason::ClientTlsaAbsent
        | Reason::ClientIdentityTemporary
        | Reason::ClientTlsaMismatch
        | Reason::ClientCertificateInvalid
        | Reason::ClientPinMismatch
        | Reason::ClientNotOfSender
        | Reason::HeldToMutual
        | Reason::SenderNotFederated
        | Reason::SenderDnsTemporary
        | Reason::ClientDenied => client_unfit(reason),
        Reason::FromNotOfSender
        | Reason::FromMalformed
        | Reason::NullSenderNotReport
        | Reason::SpfFailed
        | Reason::DkimFailed
        | Reason::DmarcFailed
        | Reason::TrustDnsTemporary
        | Reason::NtaHeaderMissing
        | Reason::ContentMalformed
        | Reason::LineTooLong
        | Reason::MessageTooLarge
        | Reason::HeaderTooLarge
        | Reason::TooManyChunks
        | Reason::MailLoop => message_unfit(reason),
        Reason::RelayDenied
        | Reason::RecipientUnknown
        | Reason::SenderNotAllowed
        | Reason::OwnDomainDefect
        | Reason::OverBudget
        | Reason::SpoolFull
        | Reason::LocalFault
        | Reason::EnvironmentTemporary
        | Reason::EnvironmentPermanent
        | Reason::HookUnavailable
        | Reason::HookRejected
        | Reason::OperatorReturned
        | Reason::AttemptUnknown => own_house(reason),
    }
}

/// The other domain does not take part: a clear no, which waiting does not heal.
const fn not_federated(reason: Reason) -> Consequence {
    let requirement = match reason {
        Reason::DomainUnknown | Reason::RecordAbsent => "DNS-003",
        Reason::ZoneInsecure => "DNS-001",
        Reason::RecordLegacy => "DISC-013",
        Reason::RecordSeveral => "DISC-004",
        Reason::RecordNotYetValid | Reason::RecordExpired => "DISC-007",
        Reason::NoHosts => "DISC-010",
        _ => "DISC-006",
    };
    let acts = match reason {
        Reason::DomainUnknown => Acts::Sender,
        Reason::RecordAbsent => Acts::Nobody,
        _ => Acts::Peer,
    };
    row(requirement, "5.7.1", acts).out(Outbound::Return).reply(550, "5.7.1")
}

/// DNS gave nothing that can be believed: doubt is temporary.
const fn dns_trouble(reason: Reason) -> Consequence {
    let (requirement, acts) = match reason {
        Reason::DnsRootKey => ("DNS-006", Acts::Operator),
        Reason::DnsAliasChain => ("DNS-004", Acts::Peer),
        Reason::DnsBogus => ("DNS-002", Acts::Peer),
        _ => ("DNS-002", Acts::Nobody),
    };
    row(requirement, "4.4.3", acts).out(Outbound::NextHost).reply(451, "4.4.3")
}

/// One host fails its own check: the next may be fine, and a failed roll-over is repaired in hours.
const fn host_unfit(reason: Reason) -> Consequence {
    // A table can be wrong, and our operator can say so: neither is a fault of the other side's.
    match reason {
        Reason::OutsideEea => {
            return row("LOCA-004", "4.7.1", Acts::Operator).out(Outbound::NextHost).reply(550, "5.7.1");
        }
        Reason::LocationUnknown => {
            return row("LOCA-005", "4.7.1", Acts::Operator).out(Outbound::NextHost);
        }
        _ => {}
    }
    let (requirement, status) = match reason {
        Reason::HostInsecure => ("DNS-001", "4.7.5"),
        Reason::HostNoAddress => ("DNS-003", "4.4.4"),
        Reason::HostAddressForbidden => ("DISC-015", "4.4.4"),
        Reason::HostIsSelf => ("DISC-016", "4.4.6"),
        Reason::TlsaAbsent | Reason::TlsaInsecure => ("DANE-005", "4.7.5"),
        Reason::TlsaUnusable => ("DANE-003", "4.7.5"),
        Reason::ConnectFailed => ("SMTP-024", "4.4.1"),
        Reason::PeerTimeout => ("SMTP-022", "4.4.2"),
        Reason::HostResting => ("SMTP-027", "4.4.1"),
        Reason::StarttlsAbsent => ("SMTP-004", "4.7.10"),
        Reason::StarttlsInjection => ("SMTP-003", "4.7.5"),
        Reason::TlsHandshake => ("TLS-001", "4.7.5"),
        Reason::TlsaMismatch => ("DANE-006", "4.7.5"),
        Reason::CertificateInvalid => ("DANE-007", "4.7.5"),
        Reason::PinMismatch => ("IDEN-012", "4.7.5"),
        _ => ("IDEN-003", "4.7.5"),
    };
    row(requirement, status, Acts::Peer).out(Outbound::NextHost)
}

/// The other side answered, or fell silent, after it had proved who it is.
const fn peer_answer(reason: Reason) -> Consequence {
    match reason {
        Reason::PeerTemporary => {
            row("SMTP-016", "4.0.0", Acts::Nobody).out(Outbound::NextHost).may_have_left()
        }
        Reason::PeerPermanent => row("SMTP-016", "5.0.0", Acts::Sender).out(Outbound::Return).may_have_left(),
        Reason::PeerProtocol => row("SMTP-016", "4.5.0", Acts::Peer).out(Outbound::NextHost).may_have_left(),
        Reason::ConnectionLost => {
            row("SMTP-022", "4.4.2", Acts::Nobody).out(Outbound::NextHost).may_have_left()
        }
        Reason::ReplyLost => row("SMTP-022", "4.4.2", Acts::Nobody).out(Outbound::Later).may_be_stored(),
        Reason::NoSmtputf8 => row("SMTP-015", "5.6.7", Acts::Sender).out(Outbound::Return),
        Reason::NoEightBitMime => row("SMTP-015", "5.6.3", Acts::Sender).out(Outbound::Return),
        Reason::PeerSizeLimit => row("SMTP-014", "5.3.4", Acts::Sender).out(Outbound::Return),
        _ => row("SPOOL-010", "4.4.7", Acts::Sender).out(Outbound::Return).may_have_left(),
    }
}

/// Who knocks is not who may speak for this sender.
const fn client_unfit(reason: Reason) -> Consequence {
    let (requirement, code, status) = match reason {
        Reason::StarttlsRequired => ("SMTP-001", 530, "5.7.0"),
        Reason::ClientIdentityAbsent | Reason::ClientTlsaAbsent => ("IDEN-002", 550, "5.7.26"),
        Reason::ClientIdentityTemporary | Reason::ClientTlsaMismatch => ("IDEN-008", 451, "4.7.5"),
        Reason::ClientCertificateInvalid => ("IDEN-007", 550, "5.7.26"),
        Reason::ClientPinMismatch => ("IDEN-012", 550, "5.7.26"),
        Reason::ClientNotOfSender => ("IDEN-009", 550, "5.7.26"),
        Reason::HeldToMutual => ("IDEN-011", 550, "5.7.26"),
        Reason::SenderNotFederated => ("IDEN-010", 550, "5.7.1"),
        Reason::SenderDnsTemporary => ("IDEN-010", 451, "4.4.3"),
        _ => ("SUBM-001", 550, "5.7.1"),
    };
    row(requirement, status, Acts::Peer).reply(code, status)
}

/// The message contradicts its envelope, or is not one that can cross a border unchanged.
const fn message_unfit(reason: Reason) -> Consequence {
    let (requirement, code, status) = match reason {
        Reason::FromNotOfSender => ("IDEN-013", 550, "5.7.1"),
        Reason::FromMalformed => ("IDEN-014", 550, "5.7.1"),
        Reason::NullSenderNotReport => ("IDEN-015", 550, "5.7.1"),
        Reason::SpfFailed | Reason::DkimFailed | Reason::DmarcFailed => ("IDEN-016", 550, "5.7.26"),
        Reason::TrustDnsTemporary => ("IDEN-016", 451, "4.7.5"),
        Reason::NtaHeaderMissing => ("JUDGE-011", 550, "5.7.1"),
        Reason::ContentMalformed => ("SMTP-007", 550, "5.6.0"),
        Reason::LineTooLong => ("SMTP-008", 550, "5.6.0"),
        Reason::MessageTooLarge => ("SMTP-014", 552, "5.3.4"),
        Reason::HeaderTooLarge | Reason::TooManyChunks => ("LIM-006", 552, "5.3.4"),
        _ => ("SMTP-019", 554, "5.4.6"),
    };
    row(requirement, status, Acts::Sender).reply(code, status)
}

/// Recipients, budgets and our own machinery.
const fn own_house(reason: Reason) -> Consequence {
    match reason {
        Reason::RelayDenied => row("SMTP-017", "5.7.1", Acts::Peer).reply(550, "5.7.1"),
        Reason::RecipientUnknown => {
            row("SMTP-018", "5.1.1", Acts::Sender).out(Outbound::Return).reply(550, "5.1.1")
        }
        Reason::SenderNotAllowed => row("SUBM-002", "5.7.1", Acts::Sender).reply(550, "5.7.1"),
        Reason::OwnDomainDefect => row("SIGN-011", "5.7.26", Acts::Operator).reply(550, "5.7.26"),
        Reason::OverBudget => row("LIM-003", "4.7.0", Acts::Peer).reply(451, "4.7.0"),
        Reason::SpoolFull => row("SPOOL-004", "4.3.1", Acts::Operator).reply(452, "4.3.1"),
        Reason::LocalFault => {
            row("SPOOL-003", "4.3.0", Acts::Operator).out(Outbound::Later).reply(451, "4.3.0")
        }
        Reason::EnvironmentTemporary => {
            row("HAND-001", "4.2.0", Acts::Operator).out(Outbound::Later).reply(451, "4.3.0").may_have_left()
        }
        Reason::EnvironmentPermanent => {
            row("HAND-001", "5.2.0", Acts::Operator).out(Outbound::Return).may_have_left()
        }
        Reason::HookUnavailable => row("HOOK-003", "4.3.0", Acts::Operator).out(Outbound::Later),
        Reason::HookRejected => row("HOOK-009", "5.7.1", Acts::Sender).out(Outbound::Return),
        Reason::OperatorReturned => {
            row("SPOOL-005", "5.7.0", Acts::Nobody).out(Outbound::Return).may_have_left()
        }
        _ => row("SPOOL-006", "4.4.0", Acts::Nobody).out(Outbound::Later).may_be_stored(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_security_check_fails_before_content_leaves() {
        for &reason in Reason::ALL {
            let row = consequence(reason);
            let after_proof = matches!(
                reason,
                Reason::PeerTemporary
                    | Reason::PeerPermanent
                    | Reason::PeerProtocol
                    | Reason::ConnectionLost
                    | Reason::ReplyLost
                    | Reason::QueueExpired
                    | Reason::EnvironmentTemporary
                    | Reason::EnvironmentPermanent
                    | Reason::OperatorReturned
                    | Reason::AttemptUnknown
            );
            assert_eq!(row.content == ContentLeft::Never, !after_proof, "{reason}");
        }
    }

    #[test]
    fn replies_status_and_disposition_agree_on_permanence() {
        for &reason in Reason::ALL {
            let row = consequence(reason);
            if let Some((code, enhanced)) = row.reply {
                assert_eq!(code / 100 == 5, enhanced.starts_with('5'), "{reason}");
                assert!((400..600).contains(&code), "{reason}");
            }
            let permanent = row.status.starts_with('5') || reason == Reason::QueueExpired;
            if let Some(outbound) = row.outbound {
                assert_eq!(outbound == Outbound::Return, permanent, "{reason}");
            }
            assert!(row.outbound.is_some() || row.reply.is_some(), "{reason} leads nowhere");
        }
    }
}
