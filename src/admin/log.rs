//! Log lines: JSON to standard error, one line per attempt, no content, no addresses unless asked for.

use std::io;

use tracing::info;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, fmt};

use super::redact::Redactor;
use crate::config::{Log, LogFormat};
use crate::model::{DecisionRecord, Direction, HostFacts, Outcome, Reason};

/// A subscriber that writes as configured to `writer`. Libraries are heard from `warn` on: below that they may speak of
/// what they carry, which is other people's mail.
pub fn subscriber<W>(settings: Log, writer: W) -> Box<dyn tracing::Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = Targets::new().with_default(tracing::Level::WARN).with_target("sluis", settings.level);
    let lines = fmt::layer().with_writer(writer).with_target(false).with_ansi(false);
    match settings.format {
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_current_span(false).with_span_list(false);
            Box::new(Registry::default().with(lines.with_filter(filter)))
        }
        LogFormat::Text => Box::new(Registry::default().with(lines.compact().with_filter(filter))),
    }
}

/// Makes [`subscriber`] the one of this process, on standard error.
///
/// # Errors
/// There is one already.
pub fn start(settings: Log) -> Result<(), tracing::subscriber::SetGlobalDefaultError> {
    tracing::subscriber::set_global_default(subscriber(settings, io::stderr))
}

/// The line of a finished attempt. Most questions about a delivery can be answered from it alone.
pub(super) fn attempt(record: &DecisionRecord, redactor: &Redactor) {
    let host = record.hosts.last();
    let tls = host.and_then(|host| host.tls.as_ref());
    let recipients: Vec<String> = record
        .recipients
        .iter()
        .map(|recipient| {
            let code = recipient.code.as_deref().unwrap_or("-");
            format!("{}={} {code}", redactor.address(&recipient.address.to_string()), word(recipient.outcome))
        })
        .collect();
    info!(
        attempt = %record.attempt,
        message_id = record.message.map(tracing::field::display),
        direction = direction(record.direction),
        outcome = word(record.outcome),
        reason = record.reason.map(Reason::as_str),
        requirement = record.requirement,
        domain = record.peer_domain.as_ref().map(tracing::field::display),
        assurance = record.assurance.map(tracing::field::display),
        floor = record.policy.floor.map(tracing::field::display),
        peer = record.policy.peer,
        confirmed = host.map(|host| host.peer_confirmed.is_some()),
        host = host.map(|host| redactor.text(&host.host)),
        address = host.and_then(|host| host.address.as_deref()),
        location = host.and_then(|host| host.location.as_ref()).map(tracing::field::display),
        hosts_tried = record.hosts.len(),
        tls = tls.map(|tls| tls.version.as_str()),
        authenticated_by = tls.and_then(|tls| tls.authenticated_by.as_deref()),
        step = host.and_then(|host| host.step.as_deref()),
        code = host.and_then(|host| host.code.as_deref()),
        content_left = content(record),
        content_hook = record.content_hook.as_ref().map(|hook| hook.verdict.as_str()),
        size = record.size,
        duration_ms = record.duration_ms,
        sender = record.sender.as_deref().map(|sender| redactor.address(sender).into_owned()),
        recipients = (!recipients.is_empty()).then(|| recipients.join(", ")),
        left_hosts = left(&record.hosts),
        header_from = header_from(record, redactor),
        header_sender = record.trust.as_ref().and_then(|trust| trust.sender.as_ref()).map(
            |sender| redactor.address(&sender.to_string()).into_owned()
        ),
        smime = record.trust.as_ref().and_then(|trust| trust.smime.as_ref()).map(|smime| smime.verdict.as_str()),
        nta_headers = nta_headers(record),
        detail = record.detail.as_deref().map(|detail| redactor.text(detail)),
        report = record.report.as_ref().map(|report| tracing::field::display(report.message)),
        weakened = (!record.policy.weakened.is_empty()).then(|| record.policy.weakened.join(" ")),
        "attempt ended"
    );
}

/// The line of a notice of delay.
pub(super) fn told_late(record: &DecisionRecord, redactor: &Redactor) {
    info!(
        attempt = %record.attempt,
        message_id = record.message.map(tracing::field::display),
        direction = direction(record.direction),
        reason = record.reason.map(Reason::as_str),
        domain = record.peer_domain.as_ref().map(tracing::field::display),
        sender = record.sender.as_deref().map(|sender| redactor.address(sender).into_owned()),
        recipients = record.recipients.len(),
        report = record.report.as_ref().map(|report| tracing::field::display(report.message)),
        "the sender is told that it is late"
    );
}

/// Why the hosts before the last one were left.
fn left(hosts: &[HostFacts]) -> Option<String> {
    let (_, before) = hosts.split_last()?;
    let left: Vec<String> = before
        .iter()
        .map(|host| format!("{}={}", host.host, host.reason.map_or("-", Reason::as_str)))
        .collect();
    (!left.is_empty()).then(|| left.join(" "))
}

const fn content(record: &DecisionRecord) -> &'static str {
    use crate::model::ContentLeft;
    match record.content_left {
        ContentLeft::Never => "never",
        ContentLeft::Possibly => "possibly",
        ContentLeft::Yes => "yes",
    }
}

/// The word of a direction, as in the record.
pub(super) const fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Submission => "submission",
        Direction::Outbound => "outbound",
        Direction::Inbound => "inbound",
        Direction::Handoff => "handoff",
    }
}

/// The addresses in `From:`.
fn header_from(record: &DecisionRecord, redactor: &Redactor) -> Option<String> {
    let from = &record.trust.as_ref()?.from;
    let shown: Vec<String> =
        from.iter().map(|address| redactor.address(&address.to_string()).into_owned()).collect();
    (!shown.is_empty()).then(|| shown.join(", "))
}

/// Names of what looks like an NTA header (JUDGE-009); the value of the configured one stays in the record.
fn nta_headers(record: &DecisionRecord) -> Option<String> {
    let noted = &record.trust.as_ref()?.nta_headers;
    let names: Vec<&str> = noted.iter().filter_map(|note| note.split(':').next()).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// The word of an outcome, as in the record.
pub(super) const fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Unknown => "unknown",
        Outcome::WouldDeliver => "would_deliver",
        Outcome::Delivered => "delivered",
        Outcome::Partial => "partial",
        Outcome::Accepted => "accepted",
        Outcome::Repeated => "repeated",
        Outcome::Later => "later",
        Outcome::Returned => "returned",
        Outcome::Refused => "refused",
        Outcome::Abandoned => "abandoned",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::config::LogAddresses;
    use crate::model::{AttemptId, RecipientResult};

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(octets);
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn record() -> DecisionRecord {
        let started = "2026-11-22T12:00:00Z".parse().unwrap();
        let mut record = DecisionRecord::begin(AttemptId::from_parts(1, 2), Direction::Outbound, started);
        record.sender = Some("jan.jansen@a.example".into());
        record.peer_domain = Some("b.example".parse().unwrap());
        record.outcome = Outcome::Later;
        record.reason = Some(Reason::TlsaMismatch);
        record.detail = Some("said <jan.jansen@a.example> is odd".into());
        record.recipients = vec![RecipientResult {
            address: "piet.pietersen@b.example".parse().unwrap(),
            outcome: Outcome::Later,
            code: Some("451 4.7.5".into()),
            text: Some("piet.pietersen@b.example is busy".into()),
        }];
        record.hosts = vec![
            HostFacts {
                host: "n1.b.example".into(),
                reason: Some(Reason::ConnectFailed),
                ..HostFacts::default()
            },
            HostFacts { host: "n2.b.example".into(), step: Some("tls".into()), ..HostFacts::default() },
        ];
        record
    }

    fn line(addresses: LogAddresses, format: LogFormat) -> String {
        let written = Written::default();
        let settings = Log { format, level: tracing::Level::INFO, addresses };
        let writer = written.clone();
        let redactor = Redactor::new(addresses).unwrap();
        tracing::subscriber::with_default(subscriber(settings, move || writer.clone()), || {
            attempt(&record(), &redactor);
        });
        String::from_utf8(written.0.lock().unwrap().clone()).unwrap()
    }

    /// Proves: +OPS-008 -OPS-008
    #[test]
    fn one_line_says_it_all_and_names_nobody() {
        let line = line(LogAddresses::Pseudonymous, LogFormat::Json);
        assert_eq!(line.lines().count(), 1);
        assert!(!line.contains("jansen") && !line.contains("pietersen"), "{line}");
        let fields: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(fields["message"], "attempt ended");
        assert_eq!(fields["outcome"], "later");
        assert_eq!(fields["reason"], "tlsa_mismatch");
        assert_eq!(fields["domain"], "b.example");
        assert_eq!(fields["host"], "n2.b.example");
        assert_eq!(fields["left_hosts"], "n1.b.example=connect_failed");
        assert_eq!(fields["content_left"], "never");
        assert!(fields["recipients"].as_str().unwrap().ends_with("@b.example=later 451 4.7.5"));
        assert_eq!(line.matches("\"level\":").count(), 1, "a field of ours hides the level of the line");
    }

    #[test]
    fn addresses_are_clear_when_asked_for() {
        for format in [LogFormat::Json, LogFormat::Text] {
            let line = line(LogAddresses::Clear, format);
            assert!(
                line.contains("jan.jansen@a.example") && line.contains("piet.pietersen@b.example"),
                "{line}"
            );
        }
    }
}
