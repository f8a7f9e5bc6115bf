//! A check that failed, on its way into a reply and into the record.

use crate::model::{DecisionRecord, Outcome, Reason};
use crate::policy::consequence;
use crate::transport::smtp::Reply;

/// A failed check with what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which check.
    pub reason: Reason,
    /// What exactly was seen; for our record, never for the other side.
    pub detail: String,
}

impl Refusal {
    /// A failed check.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }

    /// What the client hears: code, status, requirement, reason word and sentence, all from the table; nothing of our
    /// inside (OPS-008). `not federated:` stands in front where the platform may use its portal instead (SUBM-003).
    #[must_use]
    pub fn reply(&self) -> Reply {
        let row = consequence(self.reason);
        let (code, enhanced) = row.reply.unwrap_or((451, "4.3.0"));
        let lead = if self.is_not_federated() { "not federated: " } else { "" };
        let sentence = self.reason.sentence().trim();
        let text = format!("{} {lead}{}: {sentence}", row.requirement, self.reason);
        Reply::sanitised(code, status(enhanced), &text)
    }

    const fn is_not_federated(&self) -> bool {
        matches!(
            self.reason,
            Reason::DomainUnknown
                | Reason::RecordAbsent
                | Reason::ZoneInsecure
                | Reason::RecordLegacy
                | Reason::RecordInvalid
                | Reason::RecordSeveral
                | Reason::RecordNotYetValid
                | Reason::RecordExpired
                | Reason::NoHosts
        )
    }

    /// Whether the check that failed is about the client's own proof, so that what it showed explains it best.
    pub(super) const fn is_about_client(&self) -> bool {
        matches!(
            self.reason,
            Reason::ClientIdentityAbsent
                | Reason::ClientTlsaAbsent
                | Reason::ClientIdentityTemporary
                | Reason::ClientTlsaMismatch
                | Reason::ClientCertificateInvalid
                | Reason::ClientPinMismatch
        )
    }

    /// Enters the refusal into a record: outcome, reason, requirement, who acts, detail (REC-002).
    pub fn enter(&self, record: &mut DecisionRecord, outcome: Outcome) {
        let row = consequence(self.reason);
        record.outcome = outcome;
        record.reason = Some(self.reason);
        record.requirement = Some(row.requirement.to_owned());
        record.acts = Some(row.acts.as_str().to_owned());
        record.detail = Some(self.detail.clone());
    }
}

/// `4.7.5` as numbers. The table's statuses are constants, and a test parses them all.
pub(super) fn status(text: &str) -> (u8, u16, u16) {
    let mut parts = text.split('.').map(|part| part.parse::<u16>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    (u8::try_from(next()).unwrap_or(4), next(), next())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves: +REC-002 -REC-002
    #[test]
    fn every_reply_carries_code_status_requirement_and_reason_but_no_detail() {
        for &reason in Reason::ALL {
            let row = consequence(reason);
            let Some((code, enhanced)) = row.reply else { continue };
            let refusal = Refusal::new(reason, "open /var/lib/sluis/x: permission denied");
            let wire = refusal.reply().to_wire();
            assert!(wire.starts_with(&format!("{code} {enhanced} {} ", row.requirement)), "{wire}");
            assert!(wire.contains(&format!("{reason}: ")), "{wire}");
            assert!(!wire.contains("/var"), "{wire}");
        }
    }
}
