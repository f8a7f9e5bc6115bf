//! The words of a report: first Dutch, then English, for people who know about care and not about mail servers.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::model::Reason;

use super::{Action, Report, Subject, cut};

/// Lines are wrapped here, so that no mail reader has to.
const WIDTH: usize = 76;

/// The subject line.
pub(super) fn subject(report: &Report<'_>) -> &'static str {
    if report.subjects.iter().any(|subject| subject.action == Action::Failed) {
        "Niet bezorgd: uw beveiligde bericht / Not delivered: your secure message"
    } else {
        "Bezorgd: uw beveiligde bericht / Delivered: your secure message"
    }
}

/// The first part of the report.
pub(super) fn for_people(report: &Report<'_>) -> String {
    let failed: Vec<_> = report.subjects.iter().filter(|subject| subject.action == Action::Failed).collect();
    let arrived: Vec<_> = report.subjects.iter().filter(|subject| subject.action != Action::Failed).collect();
    let mut out = String::new();
    dutch(&mut out, report, &failed, &arrived);
    out.push_str("\r\n----------\r\n\r\n");
    english(&mut out, report, &failed, &arrived);
    out.push_str("\r\n");
    paragraph(&mut out, &format!("Kenmerk / reference: {} ({})", report.message, report.node));
    out
}

fn dutch(out: &mut String, report: &Report<'_>, failed: &[&Subject<'_>], arrived: &[&Subject<'_>]) {
    let at = local(report.accepted);
    if !failed.is_empty() {
        paragraph(out, &format!("Uw bericht van {at} kon niet beveiligd worden bezorgd bij:"));
        for subject in failed {
            entry(out, subject);
            indented(out, &format!("Reden: {}", why(subject, Language::Dutch)));
            said(out, subject, "De andere kant antwoordde");
        }
        out.push_str("\r\n");
        paragraph(
            out,
            "Het bericht is niet op een andere, onbeveiligde manier verstuurd. Deze ontvangers hebben het dus niet. \
             Neem bij spoed op een andere manier contact met hen op.",
        );
    }
    if !arrived.is_empty() {
        paragraph(out, &format!("Uw bericht van {at} is beveiligd afgeleverd voor:"));
        for subject in arrived {
            entry(out, subject);
            if subject.action == Action::Relayed {
                indented(out, "De aanbieder van de ontvanger bericht niet verder over de aflevering.");
            }
        }
    }
}

fn english(out: &mut String, report: &Report<'_>, failed: &[&Subject<'_>], arrived: &[&Subject<'_>]) {
    let at = local(report.accepted);
    if !failed.is_empty() {
        paragraph(out, &format!("Your message of {at} could not be delivered securely to:"));
        for subject in failed {
            entry(out, subject);
            indented(out, &format!("Reason: {}", why(subject, Language::English)));
            said(out, subject, "The other side answered");
        }
        out.push_str("\r\n");
        paragraph(
            out,
            "The message has not been sent in any other, insecure way, so these recipients do not have it. If it is \
             urgent, please contact them by other means.",
        );
    }
    if !arrived.is_empty() {
        paragraph(out, &format!("Your message of {at} was delivered securely for:"));
        for subject in arrived {
            entry(out, subject);
            if subject.action == Action::Relayed {
                indented(out, "The recipient's provider does not report further on the delivery.");
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Language {
    Dutch,
    English,
}

fn entry(out: &mut String, subject: &Subject<'_>) {
    out.push_str("\r\n");
    indented(out, &subject.recipient.address.to_string());
}

fn said(out: &mut String, subject: &Subject<'_>, answered: &str) {
    if let Some(reply) = subject.reply {
        indented(out, &format!("{answered}: {reply}"));
    }
}

/// Why a recipient did not get the message, as far as it concerns the sender.
fn why(subject: &Subject<'_>, language: Language) -> String {
    let (nl, en) = words(subject.reason);
    let words = match language {
        Language::Dutch => nl,
        Language::English => en,
    };
    match (subject.reason, subject.requirement) {
        (Some(reason), Some(requirement)) => format!("{words} ({reason}, {requirement})"),
        (Some(reason), None) => format!("{words} ({reason})"),
        (None, _) => words.to_owned(),
    }
}

/// What a sender can do about it decides how fine this is: reasons with the same advice share their words.
fn words(reason: Option<Reason>) -> (&'static str, &'static str) {
    match reason {
        Some(Reason::RecipientUnknown) => (
            "dit adres bestaat niet bij de ontvanger. Controleer het adres.",
            "this address does not exist there. Please check the address.",
        ),
        Some(
            Reason::DomainUnknown
            | Reason::RecordAbsent
            | Reason::ZoneInsecure
            | Reason::RecordLegacy
            | Reason::RecordInvalid
            | Reason::RecordSeveral
            | Reason::RecordNotYetValid
            | Reason::RecordExpired
            | Reason::NoHosts,
        ) => (
            "de organisatie van de ontvanger is niet (meer) aangesloten op beveiligd mailen tussen aanbieders.",
            "the recipient's organisation does not (or no longer) take part in secure mail between providers.",
        ),
        Some(Reason::QueueExpired) => (
            "de mailserver van de ontvanger was te lang niet (veilig) bereikbaar.",
            "the recipient's mail server could not be reached (securely) for too long.",
        ),
        Some(Reason::PeerSizeLimit | Reason::MessageTooLarge) => {
            ("het bericht is te groot voor de ontvanger.", "the message is too large for the recipient.")
        }
        Some(Reason::OperatorReturned) => {
            ("een beheerder heeft het bericht teruggestuurd.", "an administrator has returned the message.")
        }
        Some(Reason::MailLoop) => (
            "het bericht bleef rondgaan tussen mailservers.",
            "the message went round in a circle between mail servers.",
        ),
        Some(Reason::PeerPermanent | Reason::EnvironmentPermanent) | None => (
            "de mailserver van de ontvanger heeft het bericht geweigerd.",
            "the recipient's mail server refused the message.",
        ),
        Some(_) => (
            "een veilige verbinding met de mailserver van de ontvanger was niet mogelijk, of het bericht voldeed niet aan \
             de eisen.",
            "a secure connection with the recipient's mail server was not possible, or the message did not meet its \
             requirements.",
        ),
    }
}

/// Date and time on the clock of the sender's country, which is where NTA 7516 applies.
fn local(at: Timestamp) -> String {
    let zone = TimeZone::get("Europe/Amsterdam").unwrap_or(TimeZone::UTC);
    at.to_zoned(zone).strftime("%d-%m-%Y %H:%M %Z").to_string()
}

fn paragraph(out: &mut String, text: &str) {
    wrap(out, "", text);
}

fn indented(out: &mut String, text: &str) {
    wrap(out, "    ", text);
}

/// Appends `text` in lines, each after `indent`.
fn wrap(out: &mut String, indent: &str, text: &str) {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut line = indent.to_owned();
    for word in clean.split(' ').filter(|word| !word.is_empty()) {
        if line.len() + 1 + word.len() > WIDTH && line.len() > indent.len() {
            out.push_str(line.trim_end());
            out.push_str("\r\n");
            line = indent.to_owned();
        }
        if line.len() > indent.len() {
            line.push(' ');
        }
        line.push_str(cut(word));
    }
    out.push_str(line.trim_end());
    out.push_str("\r\n");
}
