//! Who is the client that just finished its handshake?
//!
//! Pure: the TLSA sets of the names come in as an argument, and what follows from the judgement is policy's affair.

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;

use super::authority::{Authorities, Pins};
use super::certificate::Certificate;
use super::chain::{ChainFault, Usage};
use super::dane::{Side, match_chain};
use super::error::DaneMismatch;
use super::facts::HandshakeFacts;
use super::keys::NAMES_MAX;
use super::unix_time;
use crate::discovery::ClientTlsa;
use crate::model::{DomainName, IdentityRule, Reason};
use crate::transport::VerifiedPeer;

/// What a client showed in its handshake, before anybody asks DNS about it.
#[derive(Clone, Debug)]
pub enum Presented {
    /// No certificate.
    Nothing,
    /// A certificate that can be judged.
    Certificate(PresentedCertificate),
    /// A certificate that proves nothing under any rule (IDEN-007). It is not treated as absent (IDEN-008).
    Unusable(String),
}

/// A certificate whose key signed the handshake.
#[derive(Clone, Debug)]
pub struct PresentedCertificate {
    chain: Vec<CertificateDer<'static>>,
    certificate: Certificate,
}

impl Presented {
    /// What the handshake brought.
    #[must_use]
    pub fn from_handshake(facts: &HandshakeFacts) -> Self {
        match (facts.chain(), facts.certificate()) {
            ([], _) => Self::Nothing,
            (_, None) => Self::Unusable("the certificate can't be read".to_owned()),
            (chain, Some(certificate)) => Self::Certificate(PresentedCertificate {
                chain: chain.to_vec(),
                certificate: certificate.clone(),
            }),
        }
    }
}

impl PresentedCertificate {
    /// The names to look up at `_smtp-client.` under the rule `dane`.
    ///
    /// # Errors
    /// More than four dNSNames, or none that is well-formed and without a wildcard (IDEN-007).
    pub fn names(&self) -> Result<Vec<DomainName>, String> {
        let count = self.certificate.dns_names().len();
        if count > NAMES_MAX {
            return Err(format!("the certificate has {count} dNSNames; at most {NAMES_MAX} are looked up"));
        }
        let names = self.certificate.identities();
        if names.is_empty() {
            return Err("the certificate has no dNSName without a wildcard".to_owned());
        }
        Ok(names)
    }

    /// The certificate itself.
    #[must_use]
    pub const fn certificate(&self) -> &Certificate {
        &self.certificate
    }
}

/// The rule of the peer that the client claims to be, with what it needs (`spec/04-identity.md`).
#[derive(Clone, Copy, Debug)]
pub enum ClientRule<'a> {
    /// Per name of the certificate: what DNS says at `_smtp-client.<name>`.
    Dane(&'a [(DomainName, ClientTlsa)]),
    /// The peer's configured keys, and the names that holding one of them proves.
    Pinned(&'a Pins, &'a [DomainName]),
    /// The peer's configured authority, and the names it may vouch for.
    FederationCa(&'a Authorities, &'a [DomainName]),
}

/// The judgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientJudgement {
    /// The client is who it says: all names that passed.
    Proven(VerifiedPeer),
    /// No certificate was shown.
    Absent,
    /// A certificate was shown, but DNS proves that none of its names takes part: it claims nothing here.
    Unclaimed,
    /// For at least one name nobody can tell now. Also when other names passed: whoever can disturb DNS must not choose
    /// which names count.
    Temporary(String),
    /// The certificate fails. Never the same as showing none (IDEN-008).
    Failed(Reason, String),
}

impl ClientJudgement {
    /// The named check that stands between this client and level `mutual`; `None` when it is proven.
    #[must_use]
    pub const fn reason(&self) -> Option<Reason> {
        match self {
            Self::Proven(_) => None,
            Self::Absent => Some(Reason::ClientIdentityAbsent),
            Self::Unclaimed => Some(Reason::ClientTlsaAbsent),
            Self::Temporary(_) => Some(Reason::ClientIdentityTemporary),
            Self::Failed(reason, _) => Some(*reason),
        }
    }
}

/// Judges what a client presented, by one rule, at the time `now`.
#[must_use]
pub fn judge_client(presented: &Presented, rule: ClientRule<'_>, now: Timestamp) -> ClientJudgement {
    let shown = match presented {
        Presented::Nothing => return ClientJudgement::Absent,
        Presented::Unusable(why) => return invalid(why.clone()),
        Presented::Certificate(shown) => shown,
    };
    match rule {
        ClientRule::Dane(records) => by_dane(shown, records, now),
        ClientRule::Pinned(pins, names) => by_pin(shown, pins, names),
        ClientRule::FederationCa(authorities, names) => by_authority(shown, authorities, names, now),
    }
}

fn by_dane(
    shown: &PresentedCertificate,
    records: &[(DomainName, ClientTlsa)],
    now: Timestamp,
) -> ClientJudgement {
    let names = match shown.names() {
        Ok(names) => names,
        Err(why) => return invalid(why),
    };
    let (mut proven, mut evidence, mut failed, mut temporary) = (Vec::new(), None, None, None);
    for name in names {
        let found = records.iter().find(|(asked, _)| *asked == name).map(|(_, found)| found);
        let set = match found {
            Some(ClientTlsa::Published(set)) => set.get(),
            Some(ClientTlsa::Absent | ClientTlsa::Insecure) => continue,
            Some(ClientTlsa::Temporary { detail, .. }) => {
                temporary = Some(format!("{name}: {detail}"));
                continue;
            }
            // Nobody asked: not an answer.
            None => {
                temporary = Some(format!("{name}: not looked up"));
                continue;
            }
        };
        let references = std::slice::from_ref(&name);
        match match_chain(&shown.chain, &set.usable, Side::Client, references, unix_time(now)) {
            Ok(matched) => {
                evidence.get_or_insert(matched);
                proven.push(name);
            }
            Err(mismatch) => failed = Some((name, mismatch)),
        }
    }
    if let Some(detail) = temporary {
        return ClientJudgement::Temporary(detail);
    }
    match (evidence, failed) {
        (Some(matched), _) => ClientJudgement::Proven(VerifiedPeer::new(
            proven,
            IdentityRule::Dane,
            shown.certificate.key_digest(),
            format!("dane {matched}"),
        )),
        (None, Some((name, DaneMismatch::Chain(fault)))) => invalid(format!("{name}: {fault}")),
        (None, Some((name, mismatch))) => {
            ClientJudgement::Failed(Reason::ClientTlsaMismatch, format!("{name}: {mismatch}"))
        }
        (None, None) => ClientJudgement::Unclaimed,
    }
}

fn by_pin(shown: &PresentedCertificate, pins: &Pins, names: &[DomainName]) -> ClientJudgement {
    let key = shown.certificate.key_digest();
    if !pins.contains(&key) {
        return ClientJudgement::Failed(Reason::ClientPinMismatch, format!("key {key} is not pinned"));
    }
    // The certificate's own words are worth nothing here: its holder could write any name into it. Among the peer's
    // names, those it repeats are preferred.
    let repeated = common(&shown.certificate.identities(), names);
    let proven = if repeated.is_empty() { names.to_vec() } else { repeated };
    ClientJudgement::Proven(VerifiedPeer::new(proven, IdentityRule::Pinned, key, "pinned".to_owned()))
}

fn by_authority(
    shown: &PresentedCertificate,
    authorities: &Authorities,
    names: &[DomainName],
    now: Timestamp,
) -> ClientJudgement {
    let claimed = match shown.names() {
        Ok(claimed) => claimed,
        Err(why) => return invalid(why),
    };
    let proven = common(&claimed, names);
    match authorities.verify(&shown.chain, Usage::Client, &proven, unix_time(now)) {
        Ok(()) => ClientJudgement::Proven(VerifiedPeer::new(
            proven,
            IdentityRule::FederationCa,
            shown.certificate.key_digest(),
            "federation_ca".to_owned(),
        )),
        Err(fault @ ChainFault::Broken(_)) => {
            ClientJudgement::Failed(Reason::ClientPinMismatch, fault.to_string())
        }
        Err(fault) => invalid(fault.to_string()),
    }
}

fn common(claimed: &[DomainName], allowed: &[DomainName]) -> Vec<DomainName> {
    claimed.iter().filter(|name| allowed.contains(name)).cloned().collect()
}

const fn invalid(why: String) -> ClientJudgement {
    ClientJudgement::Failed(Reason::ClientCertificateInvalid, why)
}

#[cfg(test)]
mod tests;
