//! For people who meet a reason for the first time: why it matters, and what to do.

use crate::model::Reason;

/// What a newcomer needs to know about a failed check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Advice {
    /// Why the check exists.
    pub(super) why: &'static str,
    /// What to do about it.
    pub(super) act: &'static str,
}

const fn advice(why: &'static str, act: &'static str) -> Advice {
    Advice { why, act }
}

/// The advice for a reason on the way out. Reasons of the way in share one answer: `explain` does not meet them.
pub(super) const fn of(reason: Reason) -> Advice {
    match reason {
        Reason::DomainUnknown
        | Reason::RecordAbsent
        | Reason::ZoneInsecure
        | Reason::RecordLegacy
        | Reason::RecordInvalid
        | Reason::RecordSeveral
        | Reason::RecordNotYetValid
        | Reason::RecordExpired
        | Reason::NoHosts => of_domain(reason),
        Reason::DnsBogus
        | Reason::DnsServfail
        | Reason::DnsTimeout
        | Reason::DnsRefused
        | Reason::DnsRootKey
        | Reason::DnsAliasChain => of_dns(reason),
        Reason::HostInsecure
        | Reason::HostNoAddress
        | Reason::HostAddressForbidden
        | Reason::OutsideEea
        | Reason::LocationUnknown
        | Reason::HostIsSelf
        | Reason::TlsaAbsent
        | Reason::TlsaInsecure
        | Reason::TlsaUnusable => of_host_in_dns(reason),
        Reason::ConnectFailed
        | Reason::PeerTimeout
        | Reason::HostResting
        | Reason::StarttlsAbsent
        | Reason::StarttlsInjection
        | Reason::TlsHandshake
        | Reason::TlsaMismatch
        | Reason::CertificateInvalid
        | Reason::PinMismatch
        | Reason::ClientCertificateNotRequested => of_link(reason),
        Reason::PeerTemporary
        | Reason::PeerPermanent
        | Reason::PeerProtocol
        | Reason::ConnectionLost
        | Reason::ReplyLost
        | Reason::NoSmtputf8
        | Reason::NoEightBitMime
        | Reason::PeerSizeLimit => advice(
            "The channel is in order; what failed is the conversation on it.",
            "Look at the reply below. If it does not explain itself, ask the other provider about it.",
        ),
        Reason::RelayDenied
        | Reason::RecipientUnknown
        | Reason::EnvironmentTemporary
        | Reason::EnvironmentPermanent => advice(
            "The address is on our own side of the border.",
            "Look at [environment] in the configuration and at your own mail platform.",
        ),
        Reason::HookUnavailable => advice(
            "The provider's own filter in front of its environment gives no answer.",
            "Look at [content_hook] in the configuration and at the log of the filter; `sluis check` tries to reach it.",
        ),
        Reason::SpoolFull | Reason::LocalFault => advice(
            "The fault is this node's own.",
            "Look at its log and at /health, and at the space on its disk.",
        ),
        Reason::QueueExpired
        | Reason::StarttlsRequired
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
        | Reason::ClientDenied
        | Reason::FromNotOfSender
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
        | Reason::MailLoop
        | Reason::SenderNotAllowed
        | Reason::OwnDomainDefect
        | Reason::OverBudget
        | Reason::HookRejected
        | Reason::OperatorReturned
        | Reason::AttemptUnknown => advice(
            "This belongs to a message that is received or waits, not to the way out.",
            "Look at the decision record of that message: `sluis spool show ID`.",
        ),
    }
}

const PORTAL: &str = "Use another way to reach this person, such as your portal: waiting does not help.";

const fn of_domain(reason: Reason) -> Advice {
    match reason {
        Reason::DomainUnknown => {
            advice("There is no such domain, and DNS proves it.", "Check the spelling of the address.")
        }
        Reason::ZoneInsecure => advice(
            "Without DNSSEC signatures anybody between us and the domain could have made the answer up. So it counts as \
             \"takes no part\": there is nothing weaker to fall back to.",
            "The domain's owner has to sign the zone with DNSSEC. Until then use another way, such as your portal.",
        ),
        Reason::RecordLegacy => advice(
            "The record follows an older draft whose rules nobody checks any more, so it is not honoured.",
            "The domain's owner has to publish a record that begins with v=NTA7516-1. Until then use your portal.",
        ),
        Reason::RecordInvalid | Reason::RecordSeveral => advice(
            "A record that can be read in two ways could lead to the wrong hosts, so it is not read in any.",
            "The domain's owner has to repair the record; what is wrong with it stands below. Until then use your portal.",
        ),
        Reason::RecordNotYetValid | Reason::RecordExpired => advice(
            "The provider promises to take part between two months only, and today is outside of them.",
            "The domain's owner has to publish new months, if it still takes part. Until then use your portal.",
        ),
        Reason::NoHosts => advice(
            "The domain takes part, but names no host that would take its mail.",
            "The domain's owner has to add `ntamx` to its NTA record, or an MX record.",
        ),
        _ => advice(
            "A domain takes part by publishing an NTA record. DNS proves that this one has none.",
            PORTAL,
        ),
    }
}

const fn of_dns(reason: Reason) -> Advice {
    match reason {
        Reason::DnsRootKey => advice(
            "Every proof begins with the keys of the DNS root. Those we were given do not match the ones we know.",
            "This is ours to repair: `sluis check` shows the trust anchors in force; compare them with IANA's, or with \
             dns.trust_anchor_file.",
        ),
        Reason::DnsBogus => advice(
            "The signatures do not fit the answer: it was changed on the way, or the zone is signed wrongly. Nobody can \
             tell which from here, so the message waits and nothing is sent.",
            "If it lasts longer than an hour, tell the domain's owner: a roll-over of keys may have gone wrong. Test the \
             domain with any DNSSEC checker.",
        ),
        Reason::DnsAliasChain => advice(
            "Each name only points at the next one.",
            "The domain's owner has to shorten the chain of CNAME records.",
        ),
        _ => advice(
            "No answer is not the answer \"no\". The message waits until somebody answers.",
            "Check first that our own resolver works (dns.resolver). If it does, the domain's name servers don't; most \
             such faults end by themselves.",
        ),
    }
}

const fn of_host_in_dns(reason: Reason) -> Advice {
    match reason {
        Reason::HostAddressForbidden => advice(
            "An address inside some private network can't be the other provider's; connecting there could reach a \
             machine of our own.",
            "The domain's owner has to publish a public address for the host.",
        ),
        Reason::OutsideEea => advice(
            "Care mail is to stay where European law holds. By the table in [location], the network of this server is in \
             another country, so nothing was sent to it.",
            "Ask the other provider where its server stands. If the table is wrong, fetch a newer one; if the place is \
             agreed, give the peer an entry with location = \"any\". The message waits up to a day.",
        ),
        Reason::LocationUnknown => advice(
            "Care mail is to stay where European law holds. The table in [location] does not say where this server is, \
             and by location.mode = \"enforce\" what leaves needs a yes.",
            "Fetch a newer table. If it does not know the network either, ask the other provider where its server stands, \
             and give the peer an entry with location = \"any\".",
        ),
        Reason::HostIsSelf => advice(
            "A connection to ourselves would be a loop.",
            "If the domain is one of ours, add it to node.domains; otherwise its owner names this node by mistake.",
        ),
        Reason::HostNoAddress => advice(
            "A name without an address leads nowhere.",
            "The domain's owner has to publish an A or AAAA record.",
        ),
        Reason::HostInsecure | Reason::TlsaInsecure => advice(
            "The host's name lies in a zone without DNSSEC signatures, so its address and key could be anybody's.",
            "The owner of the host's zone has to sign it with DNSSEC.",
        ),
        _ => advice(
            "A TLSA record says in DNS which key the server has. Without one, whoever answers could be anybody.",
            "The owner of the host has to publish a TLSA record such as `_25._tcp.HOST. TLSA 3 1 1 …`.",
        ),
    }
}

const fn of_link(reason: Reason) -> Advice {
    match reason {
        Reason::ConnectFailed | Reason::PeerTimeout => advice(
            "The host is known and its key too, but nobody answers there.",
            "Check that this machine may connect out to port 25. If it may, the other server is down; the message waits.",
        ),
        Reason::HostResting => advice(
            "The host failed several times in a row, so the running node leaves it alone and tries one message at a time.",
            "Look at `sluis status` for what it failed with, and tell the other provider. Mail for it is due as soon as it is \
             back.",
        ),
        Reason::StarttlsAbsent => advice(
            "The server offers no encryption, or somebody on the path took the offer out. Nothing is sent in clear.",
            "The other provider has to offer STARTTLS. If it does, look for a middlebox between you.",
        ),
        Reason::StarttlsInjection => advice(
            "Data that arrives in clear after the agreement to encrypt may come from somebody on the path.",
            "Tell the other provider; a correct server never does this.",
        ),
        Reason::TlsHandshake => advice(
            "The two sides found no version, cipher and key exchange that both consider safe.",
            "The other provider has to offer TLS 1.2 or 1.3 with forward secrecy.",
        ),
        Reason::TlsaMismatch => advice(
            "The server shows another key than the one its domain publishes: its operator renewed the key without the \
             record, or this is not the server. Nobody can tell which from here, so nothing is sent.",
            "Tell the other provider: the TLSA record has to be published before the key is used. The message waits up \
             to a day.",
        ),
        Reason::CertificateInvalid => advice(
            "The TLSA record names an authority, and the server's certificate does not hold under it.",
            "Tell the other provider; the detail below says whether chain, name or dates are the cause.",
        ),
        Reason::PinMismatch => advice(
            "Our configuration says which key or authority this peer has, and the server shows another.",
            "Ask the other provider, over another channel, whether the key was changed; then correct its \
             [[federation.peer]] entry.",
        ),
        _ => advice(
            "At level mutual both sides prove who they are. This server did not ask who we are, so only level nta7516 can \
             be reached with it.",
            "Ask the other provider to request client certificates. Or admit the lower level for this peer by name: a \
             [[federation.peer]] entry with floor = \"nta7516\".",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_advice_in_sentences() {
        for reason in Reason::ALL {
            let Advice { why, act } = of(*reason);
            assert!(why.ends_with('.') && act.ends_with(['.', ')', '`']), "{reason}");
        }
    }
}
