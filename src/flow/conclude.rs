//! The end of an attempt: record, results and a report for the sender in one commit.

use tokio::io::AsyncRead;

use super::disposition::Ends;
use super::node::Node;
use crate::model::{DecisionRecord, Envelope, Outcome};
use crate::policy::consequence;
use crate::receipts::dsn::{Action, Report, Subject, wanted, write};
use crate::spool::{
    Arrival, Attempt, AttemptEnd, Draft, Fate, NewMessage, Note, Origin, RecipientEnd, Route, SpoolError,
};

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
        let report = self.report(&attempt, &recipients).await?;
        if report.is_none()
            && record.outcome == Outcome::Returned
            && attempt.envelope().sender.address().is_none()
        {
            record.warnings.push("the null sender: discarded, nobody is told (SPOOL-012)".to_owned());
        }
        self.inner.observer.attempt_ended(&record);
        attempt.finish(AttemptEnd { record, recipients, not_before: None, report }).await.map(|_| ())
    }

    /// The report about the recipients that failed for good, if somebody wants one (SPOOL-011).
    async fn report(
        &self,
        attempt: &Attempt,
        ends: &[RecipientEnd],
    ) -> Result<Option<(Draft, NewMessage)>, SpoolError> {
        let failed = failures(attempt, ends);
        if failed.is_empty() {
            return Ok(None);
        }
        let live = self.live();
        let words: Vec<_> = failed.iter().map(|(_, note)| Words::of(note.as_ref())).collect();
        let subjects = failed.iter().zip(&words).map(|((index, note), words)| Subject {
            recipient: &attempt.envelope().recipients[usize::from(*index)],
            action: Action::Failed,
            status: &words.status,
            reason: note.as_ref().and_then(|note| note.reason),
            requirement: words.requirement,
            reply: words.reply.as_deref(),
            host: note.as_ref().and_then(|note| note.host.as_deref()),
            last_attempt: Some(attempt.started()),
        });
        let report = Report {
            message: attempt.message(),
            envelope: attempt.envelope(),
            accepted: attempt.accepted(),
            node: &live.config.node.name,
            from: &live.config.node.postmaster,
            now: self.inner.world.now(),
            subjects: subjects.collect(),
        };
        let mut draft = self.inner.spool.draft(self.inner.world.message_id(), b"");
        // A sender is told even when there is nothing left to quote.
        let original: Box<dyn AsyncRead + Send + Unpin> =
            match self.inner.spool.content(attempt.message()).await {
                Ok(content) => Box::new(content),
                Err(SpoolError::Damaged(_)) => Box::new(tokio::io::empty()),
                Err(error) => return Err(error),
            };
        let envelope = write(&report, original, attempt.content().size, &mut draft).await?;
        let routes = vec![(self.route_home(&envelope), vec![0])];
        let arrival =
            Arrival { domain: Some(live.config.node.postmaster.domain().clone()), ..Arrival::default() };
        Ok(Some((draft, NewMessage { envelope, routes, arrival, origin: Origin::Own, record: None })))
    }

    /// The way to the sender of the message the report is about.
    fn route_home(&self, report: &Envelope) -> Route {
        let domain = report.recipients[0].address.domain();
        if self.live().config.node.domains.contains(domain) {
            Route::Environment
        } else {
            Route::Federation(domain.clone())
        }
    }
}

fn failures(attempt: &Attempt, ends: &[RecipientEnd]) -> Vec<(u16, Option<Note>)> {
    let envelope = attempt.envelope();
    ends.iter()
        .filter(|end| end.fate == Fate::Failed)
        .filter(|end| wanted(envelope, &envelope.recipients[usize::from(end.index)], Action::Failed))
        .map(|end| (end.index, end.note.clone()))
        .collect()
}

/// What a report says about one recipient, in the forms it needs.
struct Words {
    status: String,
    requirement: Option<&'static str>,
    reply: Option<String>,
}

impl Words {
    fn of(note: Option<&Note>) -> Self {
        let row = note.and_then(|note| note.reason).map(consequence);
        let code = note.and_then(|note| note.code.as_deref());
        // The other side's own status says more than our table's.
        let theirs = code.and_then(|code| code.split_once(' ')).map(|(_, enhanced)| enhanced.to_owned());
        let ours = row.map(|row| row.status.to_owned());
        let heard = note.filter(|note| note.host.is_some());
        Self {
            status: permanent(&theirs.or(ours).unwrap_or_else(|| "5.0.0".to_owned())),
            requirement: row.map(|row| row.requirement),
            reply: heard
                .and_then(|note| Some(format!("{} {}", note.code.as_deref()?, note.text.as_deref()?))),
        }
    }
}

/// A report of failure carries class 5 (or 4, when time ran out on a temporary one: RFC 3463 allows it in a failure).
fn permanent(status: &str) -> String {
    if status.starts_with(['4', '5']) { status.to_owned() } else { "5.0.0".to_owned() }
}
