//! Reports to the sender of a message: who is told what, and which way the report goes.

use jiff::Timestamp;
use tokio::io::AsyncRead;

use super::node::Node;
use crate::model::{DomainName, Envelope, MessageId, ReportAction, ReportFacts, ReportedRecipient};
use crate::policy::consequence;
use crate::receipts::dsn::{Report, Subject, wanted, write};
use crate::spool::{Arrival, Attempt, Draft, NewMessage, Note, Origin, Overdue, Route, SpoolError};

/// The message a report is about.
pub(super) struct About<'a> {
    message: MessageId,
    envelope: &'a Envelope,
    accepted: Timestamp,
    expires: Timestamp,
    size: u64,
    route: &'a Route,
}

impl<'a> From<&'a Attempt> for About<'a> {
    fn from(attempt: &'a Attempt) -> Self {
        Self {
            message: attempt.message(),
            envelope: attempt.envelope(),
            accepted: attempt.accepted(),
            expires: attempt.expires(),
            size: attempt.content().size,
            route: attempt.route(),
        }
    }
}

impl<'a> From<&'a Overdue> for About<'a> {
    fn from(overdue: &'a Overdue) -> Self {
        Self {
            message: overdue.message(),
            envelope: overdue.envelope(),
            accepted: overdue.accepted(),
            expires: overdue.expires(),
            size: overdue.content().size,
            route: overdue.route(),
        }
    }
}

/// What there is to say of one recipient.
#[derive(Clone, Debug)]
pub(super) struct Said {
    /// Position in the envelope.
    pub(super) index: u16,
    /// What became of the message.
    pub(super) action: ReportAction,
    /// Why.
    pub(super) note: Option<Note>,
    /// The last answer of another host, if one gave any.
    pub(super) heard: Option<Note>,
}

/// A report that lacks only its commit.
pub(super) struct Written {
    pub(super) draft: Draft,
    pub(super) message: NewMessage,
    /// For the decision record of what caused it.
    pub(super) facts: ReportFacts,
}

impl Node {
    /// The report that says this, as far as the sender wants to hear it.
    ///
    /// # Errors
    /// The spool is broken or full.
    pub(super) async fn report(
        &self,
        about: &About<'_>,
        mut said: Vec<Said>,
    ) -> Result<Option<Written>, SpoolError> {
        let recipient = |said: &Said| about.envelope.recipients.get(usize::from(said.index));
        said.retain(|said| recipient(said).is_some_and(|to| wanted(about.envelope, to, said.action)));
        let words: Vec<_> = said.iter().map(|said| Words::of(said, about.route)).collect();
        let subjects: Vec<_> = said
            .iter()
            .zip(&words)
            .filter_map(|(said, words)| Some(words.subject(said, recipient(said)?)))
            .collect();
        if subjects.is_empty() {
            return Ok(None);
        }
        let says = subjects.iter().map(|subject| ReportedRecipient {
            address: subject.recipient.address.clone(),
            action: subject.action,
        });
        let (live, world, spool) = (self.live(), &self.inner.world, &self.inner.spool);
        let mut draft = spool.draft(world.message_id(), b"");
        let facts = ReportFacts { message: draft.message(), says: says.collect() };
        let report = Report {
            message: about.message,
            envelope: about.envelope,
            accepted: about.accepted,
            expires: about.expires,
            node: &live.config.node.name,
            from: &live.config.node.postmaster,
            now: world.now(),
            subjects,
        };
        // A sender is told even when there is nothing left to quote.
        let original: Box<dyn AsyncRead + Send + Unpin> = match spool.content(about.message).await {
            Ok(content) => Box::new(content),
            Err(SpoolError::Damaged(_)) => Box::new(tokio::io::empty()),
            Err(error) => return Err(error),
        };
        let envelope = write(&report, original, about.size, &mut draft).await?;
        let route = self.route_home(envelope.recipients[0].address.domain());
        let domain = live.config.node.postmaster.domain();
        let arrival = match route {
            Route::Federation(_) => self.settle_outgoing(domain),
            Route::Environment | Route::Fallback => {
                Arrival { domain: Some(domain.clone()), ..Arrival::default() }
            }
        };
        let routes = vec![(route, vec![0])];
        let message = NewMessage { envelope, routes, arrival, origin: Origin::Own, record: None };
        Ok(Some(Written { draft, message, facts }))
    }

    /// The way to the sender of the message a report is about.
    fn route_home(&self, domain: &DomainName) -> Route {
        if self.live().config.node.domains.contains(domain) {
            Route::Environment
        } else {
            Route::Federation(domain.clone())
        }
    }
}

/// What a report says about one recipient, in the forms it needs.
struct Words {
    status: String,
    requirement: Option<&'static str>,
    reply: Option<String>,
    host: Option<String>,
}

impl Words {
    fn of(said: &Said, route: &Route) -> Self {
        let row = said.note.as_ref().and_then(|note| note.reason).map(consequence);
        let code = said.note.as_ref().and_then(|note| note.code.as_deref());
        // The other side's own status says more than our table's.
        let theirs = code.and_then(|code| code.split_once(' ')).map(|(_, enhanced)| enhanced);
        let ours = row.as_ref().map(|row| row.status);
        let heard = said.heard.as_ref();
        Self {
            status: status(said.action, [theirs, ours]),
            requirement: row.map(|row| row.requirement),
            reply: heard
                .and_then(|note| Some(format!("{} {}", note.code.as_deref()?, note.text.as_deref()?))),
            // How our own environment is built is nobody's business (OPS-008).
            host: heard.filter(|_| matches!(route, Route::Federation(_))).and_then(|note| note.host.clone()),
        }
    }

    fn subject<'a>(&'a self, said: &'a Said, recipient: &'a crate::model::Recipient) -> Subject<'a> {
        Subject {
            recipient,
            action: said.action,
            status: &self.status,
            reason: said.note.as_ref().and_then(|note| note.reason),
            requirement: self.requirement,
            reply: self.reply.as_deref(),
            host: self.host.as_deref(),
            last_attempt: said.note.as_ref().map(|note| note.at),
        }
    }
}

/// The first status whose class fits what the report says (RFC 3464 section 2.3.4). A failure may be of class 4, when time
/// ran out on something temporary.
fn status(action: ReportAction, candidates: [Option<&str>; 2]) -> String {
    let (classes, general): (&[char], _) = match action {
        ReportAction::Failed => (&['4', '5'], "5.0.0"),
        ReportAction::Delayed => (&['4'], "4.0.0"),
        ReportAction::Delivered | ReportAction::Relayed => (&['2'], "2.0.0"),
    };
    let mut fitting = candidates.into_iter().flatten().filter(|status| status.starts_with(classes));
    fitting.next().unwrap_or(general).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proves: +SPOOL-015 +SPOOL-016
    #[test]
    fn the_class_of_the_status_fits_the_action() {
        use ReportAction::{Delayed, Delivered, Failed, Relayed};
        for (action, theirs, ours, shown) in [
            (Failed, Some("5.1.1"), Some("5.0.0"), "5.1.1"),
            (Failed, Some("4.4.7"), None, "4.4.7"),
            (Failed, Some("2.0.0"), Some("5.2.0"), "5.2.0"),
            (Failed, None, None, "5.0.0"),
            (Delayed, Some("4.3.0"), Some("4.2.0"), "4.3.0"),
            (Delayed, Some("5.7.1"), None, "4.0.0"),
            (Delayed, None, Some("4.4.1"), "4.4.1"),
            (Delivered, Some("2.1.5"), None, "2.1.5"),
            (Relayed, None, None, "2.0.0"),
            (Relayed, Some("4.0.0"), Some("4.0.0"), "2.0.0"),
        ] {
            assert_eq!(status(action, [theirs, ours]), shown, "{action:?} {theirs:?} {ours:?}");
        }
    }
}
