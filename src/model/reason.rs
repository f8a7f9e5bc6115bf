//! The named checks that can fail.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal,)+) => {
        /// Which check failed. One vocabulary for replies, delivery reports, decision records and `explain`.
        ///
        /// What follows from each is in one place, `policy::consequence`, and in `spec/05-failures.md`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Reason {
            $($(#[doc = $doc])+ #[serde(rename = $word)] $name,)+
        }

        impl Reason {
            /// Every reason, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The word in records, replies and metrics; stable.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)+ }
            }

            /// What went wrong, in one sentence for people.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+),)+ }
            }
        }
    };
}

reasons! {
    // The other domain: does it take part?
    /// The domain does not exist.
    DomainUnknown = "domain_unknown",
    /// The domain publishes no NTA record.
    RecordAbsent = "record_absent",
    /// The domain's answers are not signed with DNSSEC.
    ZoneInsecure = "zone_insecure",
    /// The domain publishes only a record of the older draft.
    RecordLegacy = "record_legacy",
    /// The NTA record is malformed.
    RecordInvalid = "record_invalid",
    /// The domain publishes more than one NTA record.
    RecordSeveral = "record_several",
    /// The NTA record is not valid yet.
    RecordNotYetValid = "record_not_yet_valid",
    /// The NTA record has expired.
    RecordExpired = "record_expired",
    /// The domain names no host that takes its mail.
    NoHosts = "no_hosts",

    // DNS that does not answer truthfully, or not at all.
    /// A DNSSEC signature does not verify.
    DnsBogus = "dns_bogus",
    /// The resolver answered SERVFAIL.
    DnsServfail = "dns_servfail",
    /// The resolver did not answer in time.
    DnsTimeout = "dns_timeout",
    /// The resolver refused the question or could not be understood.
    DnsRefused = "dns_refused",
    /// The root's keys do not match the configured trust anchors.
    DnsRootKey = "dns_root_key",
    /// A chain of aliases is too long or runs in a circle.
    DnsAliasChain = "dns_alias_chain",

    // One host of the other domain.
    /// The host's address or alias is not signed with DNSSEC.
    HostInsecure = "host_insecure",
    /// The host has no address.
    HostNoAddress = "host_no_address",
    /// The host's address is private, local or reserved.
    HostAddressForbidden = "host_address_forbidden",
    /// The other side's server stands outside the EU and the EEA.
    OutsideEea = "outside_eea",
    /// Nobody can say whether the host stands in the EU or the EEA.
    LocationUnknown = "location_unknown",
    /// The host is this node itself.
    HostIsSelf = "host_is_self",
    /// The host publishes no TLSA record.
    TlsaAbsent = "tlsa_absent",
    /// The host's TLSA records are not signed with DNSSEC.
    TlsaInsecure = "tlsa_insecure",
    /// The host publishes TLSA records, but none that can be used.
    TlsaUnusable = "tlsa_unusable",
    /// No connection to the host.
    ConnectFailed = "connect_failed",
    /// The host took too long to connect or to answer.
    PeerTimeout = "peer_timeout",
    /// The host failed several times in a row and is left alone until its next probe.
    HostResting = "host_resting",
    /// The host offers no STARTTLS, or refused it.
    StarttlsAbsent = "starttls_absent",
    /// The host sent data in the clear after agreeing to STARTTLS.
    StarttlsInjection = "starttls_injection",
    /// The TLS handshake failed: no version, cipher or group in common, or a broken signature.
    TlsHandshake = "tls_handshake",
    /// The host's certificate matches none of its TLSA records.
    TlsaMismatch = "tlsa_mismatch",
    /// The host's certificate matches its TLSA record, but its chain, name or dates do not hold.
    CertificateInvalid = "certificate_invalid",
    /// The host's key is not among the keys pinned for this peer, or not issued by the peer's configured authority.
    PinMismatch = "pin_mismatch",
    /// The host did not ask for our certificate, and the link's floor is `mutual`.
    ClientCertificateNotRequested = "client_certificate_not_requested",

    // The other side's answers.
    /// The host asked us to try again later.
    PeerTemporary = "peer_temporary",
    /// The host refused the message for good.
    PeerPermanent = "peer_permanent",
    /// The host broke the protocol.
    PeerProtocol = "peer_protocol",
    /// The connection was lost before the end of the message.
    ConnectionLost = "connection_lost",
    /// The connection was lost after the end of the message, before its reply.
    ReplyLost = "reply_lost",
    /// The host cannot take internationalised addresses or headers.
    NoSmtputf8 = "no_smtputf8",
    /// The host cannot take 8-bit content.
    NoEightBitMime = "no_8bitmime",
    /// The message is larger than the host takes.
    PeerSizeLimit = "peer_size_limit",
    /// The message waited longer than it may.
    QueueExpired = "queue_expired",

    // Who is knocking.
    /// A command came before STARTTLS.
    StarttlsRequired = "starttls_required",
    /// The client presented no certificate, and the floor is `mutual`.
    ClientIdentityAbsent = "client_identity_absent",
    /// The client's name publishes no TLSA record for clients, and the floor is `mutual`.
    ClientTlsaAbsent = "client_tlsa_absent",
    /// The client's certificate could not be checked: its TLSA record is bogus or did not come.
    ClientIdentityTemporary = "client_identity_temporary",
    /// The client's certificate matches none of the TLSA records of its name.
    ClientTlsaMismatch = "client_tlsa_mismatch",
    /// The client's certificate breaks the rules for names, keys or chains.
    ClientCertificateInvalid = "client_certificate_invalid",
    /// The client's key is not one of those pinned for this peer, or not issued by the peer's configured authority.
    ClientPinMismatch = "client_pin_mismatch",
    /// The client proved its name, but that is not a host of the sender's domain.
    ClientNotOfSender = "client_not_of_sender",
    /// The sender's domain publishes client keys, so its mail is taken at level `mutual` only.
    HeldToMutual = "held_to_mutual",
    /// The sender's domain takes no part in the federation.
    SenderNotFederated = "sender_not_federated",
    /// The sender's domain could not be checked in DNS.
    SenderDnsTemporary = "sender_dns_temporary",
    /// The sender's name in EHLO, or address, is denied by configuration.
    ClientDenied = "client_denied",

    // What the message says of itself.
    /// The domain in `From:` does not belong to the authenticated sender.
    FromNotOfSender = "from_not_of_sender",
    /// The message has no `From:` field, more than one, or one that cannot be read.
    FromMalformed = "from_malformed",
    /// A message without a return path is no delivery or disposition report.
    NullSenderNotReport = "null_sender_not_report",
    /// SPF did not pass.
    SpfFailed = "spf_failed",
    /// No DKIM signature that is aligned with `From:` passed.
    DkimFailed = "dkim_failed",
    /// DMARC did not pass.
    DmarcFailed = "dmarc_failed",
    /// SPF, DKIM or DMARC could not be checked in DNS.
    TrustDnsTemporary = "trust_dns_temporary",
    /// The message lacks the NTA header that this node asks for.
    NtaHeaderMissing = "nta_header_missing",
    /// The content holds a bare CR, a bare LF or a NUL.
    ContentMalformed = "content_malformed",
    /// A line of the content is longer than 998 octets.
    LineTooLong = "line_too_long",
    /// The message is larger than this node takes.
    MessageTooLarge = "message_too_large",
    /// The header section is larger than this node takes.
    HeaderTooLarge = "header_too_large",
    /// The content came in more chunks than this node takes.
    TooManyChunks = "too_many_chunks",
    /// The message passed too many hosts, or this one before: a loop.
    MailLoop = "mail_loop",

    // Recipients and our own house.
    /// This node takes no mail for the recipient's domain.
    RelayDenied = "relay_denied",
    /// The recipient is unknown here.
    RecipientUnknown = "recipient_unknown",
    /// The client may not submit mail of this sender domain.
    SenderNotAllowed = "sender_not_allowed",
    /// Other providers would refuse mail of the sender's domain, which is ours.
    OwnDomainDefect = "own_domain_defect",
    /// The client sent more than its budget.
    OverBudget = "over_budget",
    /// The spool is full.
    SpoolFull = "spool_full",
    /// This node has a fault of its own.
    LocalFault = "local_fault",
    /// Our own environment did not take the message yet.
    EnvironmentTemporary = "environment_temporary",
    /// Our own environment refused the message for good.
    EnvironmentPermanent = "environment_permanent",
    /// The recipient's content hook gave no answer that can be used.
    HookUnavailable = "hook_unavailable",
    /// The recipient's content hook refused the message.
    HookRejected = "hook_rejected",
    /// An operator returned the message.
    OperatorReturned = "operator_returned",
    /// The node stopped during the attempt; nobody knows how it ended.
    AttemptUnknown = "attempt_unknown",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn words_are_unique_and_are_what_serde_writes() {
        let words: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
            assert!(reason.sentence().trim().ends_with('.'));
        }
    }
}
