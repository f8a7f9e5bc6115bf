//! `sluis spool …`: what the running node still has to deliver.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::{Exit, Failure, Report, printable, table};
use crate::admin::ControlClient;
use crate::admin::control::{Action, Listed, Shown};
use crate::model::{DecisionRecord, DomainName, Reason, SmimeFacts};
use crate::spool::{DeliveryView, Filter, Phase, Scrubbed};

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Spool {
    /// List deliveries.
    List(List),
    /// Show a message, its deliveries and its attempts.
    Show(Id),
    /// Stop trying, until it is released. The time after which it is returned runs on.
    Hold(Id),
    /// Go on with a delivery that is held, now.
    Release(Id),
    /// Try a delivery that waits, now.
    Retry(Id),
    /// Give a delivery up and report to its sender, now.
    Return(Id),
    /// Read everything in the spool and say what is damaged.
    Scrub,
    /// Copy the spool, as it is now, to a new directory on the node's machine. Its key is not in it.
    Backup(Backup),
}

/// Which deliveries to list.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Only those in this state: waiting, attempting or held.
    #[arg(long, value_parser = phase, value_name = "STATE")]
    state: Option<Phase>,
    /// Only those to this domain.
    #[arg(long)]
    domain: Option<DomainName>,
    /// At most this many, the oldest first.
    #[arg(long, default_value_t = 1000)]
    limit: usize,
}

/// Where the copy goes.
#[derive(Debug, Args)]
pub(super) struct Backup {
    /// A directory that does not exist or is empty; the node makes it and writes there.
    dir: PathBuf,
}

/// Which one.
#[derive(Debug, Args)]
pub(super) struct Id {
    /// The identifier, as `sluis spool list` prints it.
    id: String,
}

fn phase(word: &str) -> Result<Phase, String> {
    serde_json::from_value(serde_json::Value::from(word))
        .map_err(|_| "write one of: waiting, attempting, held".to_owned())
}

pub(super) async fn spool(client: &ControlClient, command: Spool) -> Result<Report, Failure> {
    let (id, action) = match command {
        Spool::List(List { state, domain, limit }) => {
            let filter = Filter { phase: state, domain, message: None, limit: Some(limit) };
            let listed = client.list(&filter).await?;
            return Report::new(list(&listed, Timestamp::now()), &listed, Exit::Pass);
        }
        Spool::Show(Id { id }) => {
            let shown = client.show(&id).await?;
            return Report::new(show(&shown), &shown, Exit::Pass);
        }
        Spool::Scrub => {
            let scrubbed = client.scrub().await?;
            let exit = if scrubbed.damaged.is_empty() { Exit::Pass } else { Exit::Fail };
            return Report::new(scrub(&scrubbed), &scrubbed, exit);
        }
        Spool::Backup(Backup { dir }) => {
            let dir = std::path::absolute(&dir).map_err(|error| Failure::usage(error.to_string()))?;
            let backed_up = client.back_up(dir).await?;
            let text = format!(
                "{}: {} messages\nIt opens with the spool's key only, and messages delivered since are in it: see docs/operations.md\n",
                backed_up.dir.display(),
                backed_up.messages
            );
            return Report::new(text, &backed_up, Exit::Pass);
        }
        Spool::Hold(Id { id }) => (id, Action::Hold),
        Spool::Release(Id { id }) => (id, Action::Release),
        Spool::Retry(Id { id }) => (id, Action::Retry),
        Spool::Return(Id { id }) => (id, Action::Return),
    };
    let acted = client.act(&id, action).await?;
    Report::new(format!("{}: {}\n", acted.delivery, action.as_str()), &acted, Exit::Pass)
}

fn list(listed: &Listed, now: Timestamp) -> String {
    if listed.deliveries.is_empty() {
        return "nothing waits\n".to_owned();
    }
    let rows: Vec<Vec<String>> = listed.deliveries.iter().map(|delivery| row(delivery, now)).collect();
    table(&["delivery", "state", "route", "age", "tries", "next", "recipients", "last answer"], &rows)
}

fn scrub(scrubbed: &Scrubbed) -> String {
    let mut text = format!(
        "read {} messages with {} octets, {} deliveries, {} decision records\n",
        scrubbed.messages, scrubbed.octets, scrubbed.deliveries, scrubbed.records
    );
    if scrubbed.damaged.is_empty() {
        text.push_str("nothing is damaged\n");
    }
    for what in &scrubbed.damaged {
        let _ = writeln!(text, "damaged: {what}");
    }
    text
}

fn row(delivery: &DeliveryView, now: Timestamp) -> Vec<String> {
    let note = delivery.recipients.iter().rev().find_map(|recipient| recipient.note.as_ref());
    let last = note.map_or_else(String::new, |note| {
        let reason = note.reason.map_or("", Reason::as_str);
        printable(&format!(
            "{} {reason} {}",
            note.code.as_deref().unwrap_or(""),
            note.text.as_deref().unwrap_or("")
        ))
    });
    let next = delivery.due.map_or_else(String::new, |due| match due.duration_since(now).as_secs() {
        seconds if seconds <= 0 => "now".to_owned(),
        seconds => span(seconds),
    });
    vec![
        delivery.delivery.to_string(),
        state(delivery.phase),
        delivery.route.to_string(),
        span(now.duration_since(delivery.accepted).as_secs()),
        delivery.tries.to_string(),
        next,
        delivery.recipients.len().to_string(),
        last.split_whitespace().collect::<Vec<_>>().join(" "),
    ]
}

fn state(phase: Phase) -> String {
    let word = serde_json::to_value(phase).ok();
    word.and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

/// A duration in its largest fitting unit.
fn span(seconds: i64) -> String {
    match seconds.max(0) {
        seconds @ 0..=119 => format!("{seconds}s"),
        seconds @ 120..=7199 => format!("{}m", seconds / 60),
        seconds => format!("{}h", seconds / 3600),
    }
}

fn show(shown: &Shown) -> String {
    let mut text = String::new();
    match &shown.message {
        None => text.push_str("settled; its attempts remain on record\n"),
        Some(message) => {
            let sender = message.envelope.sender.to_string();
            let _ = writeln!(text, "message   {}", message.message);
            let _ = writeln!(text, "from      {}", if sender.is_empty() { "<>" } else { sender.as_str() });
            let _ = writeln!(text, "accepted  {}, {} octets", message.accepted, message.size);
            let _ = writeln!(text, "digest    {}", message.content_digest);
            for delivery in &message.deliveries {
                delivery_text(&mut text, delivery);
            }
        }
    }
    if !shown.records.is_empty() {
        let rows: Vec<Vec<String>> = shown.records.iter().map(attempt_row).collect();
        text.push('\n');
        text.push_str(&table(
            &["attempt", "at", "direction", "outcome", "host", "level", "reason", "told", "seen"],
            &rows,
        ));
    }
    for record in &shown.records {
        if let Some(smime) = record.trust.as_ref().and_then(|trust| trust.smime.as_ref()) {
            let _ = writeln!(text, "smime     {} {}", record.attempt, smime_text(smime));
        }
    }
    text
}

/// What the record says of the message's S/MIME signature, on one line.
fn smime_text(smime: &SmimeFacts) -> String {
    let mut parts = vec![smime.verdict.clone()];
    let with = [
        ("", &smime.detail),
        ("signer ", &smime.signer),
        ("issuer ", &smime.issuer),
        ("serial ", &smime.serial),
    ];
    parts.extend(with.iter().filter_map(|(name, value)| Some(format!("{name}{}", value.as_ref()?))));
    if let Some(at) = smime.signed_at {
        parts.push(format!("signed at {at}"));
    }
    if smime.cades {
        parts.push("CAdES".to_owned());
    }
    printable(&parts.join("; "))
}

fn delivery_text(text: &mut String, delivery: &DeliveryView) {
    let _ = write!(text, "\ndelivery  {} {} to {}", delivery.delivery, state(delivery.phase), delivery.route);
    if let Some(due) = delivery.due {
        let _ = write!(text, ", next try {due}");
    }
    if let Some(at) = delivery.warned {
        let _ = write!(text, ", late since {at}");
    }
    let _ = writeln!(text, ", returned at {}", delivery.expires);
    for recipient in &delivery.recipients {
        let address =
            recipient.address.as_ref().map_or_else(|| "(unreadable)".to_owned(), ToString::to_string);
        let note = recipient.note.as_ref().map_or_else(String::new, |note| {
            format!(": {} {}", note.code.as_deref().unwrap_or(""), note.text.as_deref().unwrap_or(""))
        });
        let _ = writeln!(text, "  to      {address}{}", printable(&note));
    }
}

/// What its sender was told in consequence, each word once.
fn told(record: &DecisionRecord) -> String {
    let mut words: Vec<_> =
        record.report.iter().flat_map(|report| &report.says).map(|said| said.action.as_str()).collect();
    words.sort_unstable();
    words.dedup();
    words.join(" ")
}

fn attempt_row(record: &DecisionRecord) -> Vec<String> {
    let word = |value: serde_json::Result<serde_json::Value>| {
        value.ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
    };
    vec![
        record.attempt.to_string(),
        record.started.to_string(),
        word(serde_json::to_value(record.direction)),
        word(serde_json::to_value(record.outcome)),
        record.hosts.last().map(|host| printable(&host.host)).unwrap_or_default(),
        record.assurance.map(|level| level.to_string()).unwrap_or_default(),
        record.reason.map(|reason| reason.to_string()).unwrap_or_default(),
        told(record),
        record.detail.as_deref().map(printable).unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_list_shows_what_an_operator_asks_first() {
        let delivery = serde_json::json!({
            "delivery": {"message": "00000000010000000000000002", "route": 0},
            "route": {"federation": "b.example"},
            "phase": "waiting",
            "held_by": null,
            "due": "2026-11-22T12:30:00Z",
            "accepted": "2026-11-22T11:00:00Z",
            "expires": "2026-11-23T11:00:00Z",
            "tries": 3,
            "recipients": [{"address": "jan@b.example", "fate": "pending", "note": {
                "at": "2026-11-22T12:00:00Z", "reason": "peer_temporary", "code": "451 4.7.5",
                "text": "busy\u{1b}[2J", "host": "nta.b.example",
            }}],
        });
        let listed: Listed = serde_json::from_value(serde_json::json!({ "deliveries": [delivery] })).unwrap();
        let text = list(&listed, "2026-11-22T12:00:00Z".parse().unwrap());
        assert!(!text.contains('\u{1b}'));
        let row: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        let wanted = [
            "00000000010000000000000002.0",
            "waiting",
            "federation:b.example",
            "60m",
            "3",
            "30m",
            "1",
            "451",
            "4.7.5",
            "peer_temporary",
            "busy\u{fffd}[2J",
        ];
        assert_eq!(row, wanted);
        let empty = Listed { deliveries: Vec::new() };
        assert_eq!(list(&empty, Timestamp::UNIX_EPOCH), "nothing waits\n");
    }

    #[test]
    fn an_attempt_shows_what_its_sender_was_told() {
        let mut record = DecisionRecord::begin(
            crate::model::AttemptId::from_parts(1, 2),
            crate::model::Direction::Outbound,
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(told(&record), "");
        let said = |action| crate::model::ReportedRecipient { address: "jan@b.nl".parse().unwrap(), action };
        use crate::model::ReportAction::{Failed, Relayed};
        let says = vec![said(Relayed), said(Failed), said(Relayed)];
        let message = crate::model::MessageId::from_parts(1, 3);
        record.report = Some(crate::model::ReportFacts { message, says });
        assert_eq!(told(&record), "failed relayed");
        assert!(attempt_row(&record).contains(&"failed relayed".to_owned()));
    }

    #[test]
    fn states_are_words() {
        assert_eq!(phase("held"), Ok(Phase::Held));
        assert!(phase("nonsense").is_err());
        assert_eq!(
            (span(5), span(119), span(120), span(7200)),
            ("5s".into(), "119s".into(), "2m".into(), "2h".into())
        );
    }
}
