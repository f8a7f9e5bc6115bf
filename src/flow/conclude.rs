//! The end of an attempt: record, results and a report for the sender in one commit; and the notice that one is late.

use super::disposition::Ends;
use super::node::Node;
use super::refusal::Refusal;
use super::report::{About, Said, Written};
use crate::admin::Alarm;
use crate::model::{DecisionRecord, Direction, Outcome, RecipientResult, ReportAction};
use crate::spool::{Attempt, AttemptEnd, Claim, Overdue, Phase, Route, SpoolError};

impl Node {
    /// Ends an attempt.
    ///
    /// # Errors
    /// The spool is broken.
    pub(super) async fn conclude(
        &self,
        attempt: Attempt,
        mut record: DecisionRecord,
        ends: Ends,
    ) -> Result<(), SpoolError> {
        let world = &self.inner.world;
        let elapsed = world.now().duration_since(record.started);
        record.duration_ms = u64::try_from(elapsed.as_millis()).unwrap_or(0);
        let recipients = ends.recipients();
        let written = self.report(&About::from(&attempt), ends.said()).await?;
        if written.is_none()
            && record.outcome == Outcome::Returned
            && attempt.envelope().sender.address().is_none()
        {
            record.warnings.push("the null sender: discarded, nobody is told (SPOOL-012)".to_owned());
        }
        let report = written.map(|Written { draft, message, facts }| {
            record.report = Some(facts);
            (draft, message)
        });
        self.inner.observer.attempt_ended(&record);
        let delivery = attempt.delivery();
        let finished = attempt.finish(AttemptEnd { record, recipients, not_before: None, report }).await?;
        // No other end of an attempt leads there.
        if finished.phase == Phase::Held {
            self.inner.observer.alarm(Alarm::DamagedContent, &format!("{delivery} is held (SPOOL-013)"));
        }
        Ok(())
    }

    /// Tells the sender that a delivery is late, or finds that the sender does not want to know (SPOOL-015).
    ///
    /// # Errors
    /// The spool is broken or full.
    pub(super) async fn tell_late(&self, claim: Claim) -> Result<(), SpoolError> {
        let delivery = claim.delivery();
        let overdue = match self.inner.spool.overdue(claim).await {
            Ok(Some(overdue)) => overdue,
            Ok(None) => {
                tracing::error!(%delivery, "its sender is not told that it is late: writing that stopped the node twice (SPOOL-045)");
                return Ok(());
            }
            // An operator was faster, it is gone, or its record is damaged and set aside.
            Err(
                SpoolError::State { .. }
                | SpoolError::NoDelivery(_)
                | SpoolError::NoMessage(_)
                | SpoolError::Damaged(_),
            ) => return Ok(()),
            Err(error) => return Err(error),
        };
        let said = overdue.pending().iter().map(|pending| Said {
            index: pending.index,
            action: ReportAction::Delayed,
            note: pending.note.clone(),
            heard: pending.note.clone().filter(|note| note.host.is_some()),
        });
        let written = self.report(&About::from(&overdue), said.collect()).await?;
        let report = written.map(|Written { draft, message, facts }| {
            let mut record = late(&overdue);
            record.policy.weakened = self.live().policy.weakened().to_vec();
            record.report = Some(facts);
            self.inner.observer.told_late(&record);
            (record, draft, message)
        });
        match overdue.told(report).await {
            // An operator was faster.
            Ok(_) | Err(SpoolError::State { .. } | SpoolError::NoDelivery(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The record of a notice: what keeps the delivery, as of its last attempt.
fn late(overdue: &Overdue) -> DecisionRecord {
    let direction = match overdue.route() {
        Route::Federation(_) => Direction::Outbound,
        Route::Environment | Route::Fallback => Direction::Handoff,
    };
    let mut record = DecisionRecord::begin(overdue.id(), direction, overdue.at());
    record.message = Some(overdue.message());
    record.sender = Some(overdue.envelope().sender.to_string());
    if let Route::Federation(domain) = overdue.route() {
        record.peer_domain = Some(domain.clone());
    }
    let waited = overdue.at().duration_since(overdue.accepted()).as_secs();
    let detail = format!("late: after {waited} s in the spool");
    match overdue.pending().iter().find_map(|pending| pending.note.as_ref()?.reason) {
        Some(reason) => Refusal::new(reason, detail).enter(&mut record, Outcome::Later),
        None => {
            record.outcome = Outcome::Later;
            record.detail = Some(detail);
        }
    }
    record.recipients = overdue
        .pending()
        .iter()
        .map(|pending| RecipientResult {
            address: pending.recipient.address.clone(),
            outcome: Outcome::Later,
            code: pending.note.as_ref().and_then(|note| note.code.clone()),
            text: pending.note.as_ref().and_then(|note| note.text.clone()),
        })
        .collect();
    record
}
