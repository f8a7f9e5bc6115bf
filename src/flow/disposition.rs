//! From a failed check to what becomes of the delivery.

use jiff::Timestamp;

use super::refusal::Refusal;
use super::report::Said;
use crate::model::{Address, DecisionRecord, Outcome, Reason, RecipientResult, ReportAction};
use crate::policy::{Outbound, consequence};
use crate::spool::{Attempt, Fate, Note, Pending, RecipientEnd};

/// Where a failed check leads on the way out. What the table does not foresee there waits: a fault of ours must not
/// return somebody's mail.
pub(super) fn disposition(reason: Reason) -> Outbound {
    consequence(reason).outbound.unwrap_or(Outbound::Later)
}

/// What has become of the recipients of one attempt.
pub(super) struct Ends {
    pending: Vec<Pending>,
    ends: Vec<Option<End>>,
    at: Timestamp,
}

/// What has become of one recipient.
#[derive(Clone)]
struct End {
    fate: Fate,
    note: Note,
    /// What we say of it to a sender who wants to hear of success; nothing where the other side does.
    success: Option<ReportAction>,
}

impl Ends {
    /// Nothing yet.
    pub(super) fn new(attempt: &Attempt) -> Self {
        let pending = attempt.pending().to_vec();
        Self { ends: vec![None; pending.len()], pending, at: attempt.started() }
    }

    /// Enters the end of one recipient. A final one stands. `success` is what a report may say if it was delivered, when
    /// that is for us to say.
    pub(super) fn set(&mut self, address: &Address, fate: Fate, note: Note, success: Option<ReportAction>) {
        let success = success.filter(|_| fate == Fate::Delivered);
        for (pending, end) in self.pending.iter().zip(&mut self.ends) {
            let open = end.as_ref().is_none_or(|end| end.fate == Fate::Pending);
            if open && pending.recipient.address == *address {
                *end = Some(End { fate, note: note.clone(), success });
            }
        }
    }

    /// Whether every recipient has a final end.
    pub(super) fn nobody_pending(&self) -> bool {
        self.ends.iter().all(|end| end.as_ref().is_some_and(|end| end.fate != Fate::Pending))
    }

    /// The same end for all that have none yet: the failed check's.
    pub(super) fn refuse(&mut self, refusal: &Refusal, record: &mut DecisionRecord) {
        let fate = match disposition(refusal.reason) {
            Outbound::NextHost | Outbound::Later => Fate::Pending,
            Outbound::Return => Fate::Failed,
        };
        self.all(refusal, fate);
        self.conclude(record);
        let outcome = record.outcome;
        refusal.enter(record, outcome);
    }

    /// Gives up all that are pending, for `refusal`; what the last host said about them stays in the report.
    pub(super) fn give_up(&mut self, refusal: &Refusal, record: &mut DecisionRecord) {
        self.all(refusal, Fate::Failed);
        self.conclude(record);
        let outcome = record.outcome;
        refusal.enter(record, outcome);
    }

    fn all(&mut self, refusal: &Refusal, fate: Fate) {
        let code = consequence(refusal.reason).status.to_owned();
        for end in &mut self.ends {
            if end.as_ref().is_some_and(|end| end.fate != Fate::Pending) {
                continue;
            }
            let note = Note {
                at: self.at,
                reason: Some(refusal.reason),
                code: Some(code.clone()),
                text: Some(refusal.reason.sentence().trim().to_owned()),
                host: None,
            };
            *end = Some(End { fate, note, success: None });
        }
    }

    /// Enters the results into the record, with the outcome they add up to.
    pub(super) fn conclude(&self, record: &mut DecisionRecord) {
        record.recipients.clear();
        let mut fates = Vec::new();
        for (pending, end) in self.pending.iter().zip(&self.ends) {
            let fate = end.as_ref().map_or(Fate::Pending, |end| end.fate);
            let note = end.as_ref().map(|end| &end.note);
            fates.push(fate);
            record.recipients.push(RecipientResult {
                address: pending.recipient.address.clone(),
                outcome: outcome_of(fate),
                code: note.and_then(|note| note.code.clone()),
                text: note.and_then(|note| note.text.clone()),
            });
            if let Some(reason) = note.and_then(|note| note.reason).filter(|_| record.reason.is_none()) {
                let detail = note.and_then(|note| note.text.clone()).unwrap_or_default();
                Refusal::new(reason, detail).enter(record, Outcome::Unknown);
            }
        }
        record.outcome = sum(&fates);
    }

    /// What the spool is told.
    pub(super) fn recipients(&self) -> Vec<RecipientEnd> {
        let entry = |(pending, end): (&Pending, &Option<End>)| {
            let (fate, note) = end.clone().map_or((Fate::Pending, None), |end| (end.fate, Some(end.note)));
            RecipientEnd { index: pending.index, fate, note }
        };
        self.pending.iter().zip(&self.ends).map(entry).collect()
    }

    /// What there is to say to the sender, of those that failed or arrived.
    pub(super) fn said(&self) -> Vec<Said> {
        let say = |(pending, end): (&Pending, &Option<End>)| {
            let End { fate, note, success } = end.as_ref()?;
            let action = match fate {
                Fate::Pending => return None,
                Fate::Failed => ReportAction::Failed,
                Fate::Delivered => (*success)?,
            };
            // When the time ran out, the last words of the other side are what explains it.
            let mut answers = [Some(note), pending.note.as_ref()].into_iter().flatten();
            let heard = answers.find(|note| note.host.is_some()).cloned();
            Some(Said { index: pending.index, action, note: Some(note.clone()), heard })
        };
        self.pending.iter().zip(&self.ends).filter_map(say).collect()
    }
}

const fn outcome_of(fate: Fate) -> Outcome {
    match fate {
        Fate::Pending => Outcome::Later,
        Fate::Delivered => Outcome::Delivered,
        Fate::Failed => Outcome::Returned,
    }
}

/// The outcome of the whole: delivered to some only is `partial`; otherwise what is still open counts most.
fn sum(fates: &[Fate]) -> Outcome {
    let delivered = fates.contains(&Fate::Delivered);
    if fates.iter().all(|fate| *fate == Fate::Delivered) {
        Outcome::Delivered
    } else if delivered {
        Outcome::Partial
    } else if fates.contains(&Fate::Pending) {
        Outcome::Later
    } else {
        Outcome::Returned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcome_of_the_whole() {
        use Fate::{Delivered, Failed, Pending};
        for (fates, outcome) in [
            (&[Delivered, Delivered][..], Outcome::Delivered),
            (&[Delivered, Failed], Outcome::Partial),
            (&[Delivered, Pending], Outcome::Partial),
            (&[Pending, Failed], Outcome::Later),
            (&[Failed], Outcome::Returned),
        ] {
            assert_eq!(sum(fates), outcome, "{fates:?}");
        }
    }

    #[test]
    fn a_fault_of_ours_never_returns_mail() {
        assert_eq!(disposition(Reason::LocalFault), Outbound::Later);
        assert_eq!(disposition(Reason::SpoolFull), Outbound::Later);
        assert_eq!(disposition(Reason::TlsaMismatch), Outbound::NextHost);
        assert_eq!(disposition(Reason::RecordExpired), Outbound::Return);
    }
}
