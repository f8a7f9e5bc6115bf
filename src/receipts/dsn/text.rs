//! The words of a report: first Dutch, then English, for people who know about care and not about mail servers.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::model::Reason;

use super::{Action, Report, Subject, cut};

/// Lines are wrapped here, so that no mail reader has to.
const WIDTH: usize = 76;

/// The subject line: the worst of what is inside.
pub(super) fn subject(report: &Report<'_>) -> &'static str {
    let says = |action| report.subjects.iter().any(|subject| subject.action == action);
    if says(Action::Failed) {
        "Niet bezorgd: uw beveiligde bericht / Not delivered: your secure message"
    } else if says(Action::Delayed) {
        "Nog niet bezorgd: uw beveiligde bericht / Delayed: your secure message"
    } else {
        "Bezorgd: uw beveiligde bericht / Delivered: your secure message"
    }
}

/// The first part of the report.
pub(super) fn for_people(report: &Report<'_>) -> String {
    let mut out = String::new();
    told(&mut out, report, Language::Dutch);
    out.push_str("\r\n----------\r\n\r\n");
    told(&mut out, report, Language::English);
    out.push_str("\r\n");
    paragraph(&mut out, &format!("Kenmerk / reference: {} ({})", report.message, report.node));
    out
}

/// Writes what there is to say about some of the subjects.
type Part = fn(&mut String, &Report<'_>, &[&Subject<'_>], Language);

fn told(out: &mut String, report: &Report<'_>, language: Language) {
    let parts: [(&[Action], Part); 3] = [
        (&[Action::Failed], failed),
        (&[Action::Delayed], delayed),
        (&[Action::Delivered, Action::Relayed], arrived),
    ];
    let mut first = true;
    for (actions, part) in parts {
        let about: Vec<_> =
            report.subjects.iter().filter(|subject| actions.contains(&subject.action)).collect();
        if about.is_empty() {
            continue;
        }
        if !std::mem::take(&mut first) {
            out.push_str("\r\n");
        }
        part(out, report, &about, language);
    }
}

fn failed(out: &mut String, report: &Report<'_>, about: &[&Subject<'_>], language: Language) {
    let at = local(report.accepted);
    let (nl, en) = (
        format!("Uw bericht van {at} kon niet beveiligd worden bezorgd bij:"),
        format!("Your message of {at} could not be delivered securely to:"),
    );
    paragraph(out, language.of(&nl, &en));
    for subject in about {
        entry(out, subject);
        indented(out, &format!("{}: {}", language.of("Reden", "Reason"), why(subject, language)));
        said(out, subject, language);
    }
    out.push_str("\r\n");
    paragraph(
        out,
        language.of(
            "Het bericht is niet op een andere, onbeveiligde manier verstuurd. Deze ontvangers hebben het dus niet. \
             Neem bij spoed op een andere manier contact met hen op.",
            "The message has not been sent in any other, insecure way, so these recipients do not have it. If it is \
             urgent, please contact them by other means.",
        ),
    );
}

fn delayed(out: &mut String, report: &Report<'_>, about: &[&Subject<'_>], language: Language) {
    let (at, until) = (local(report.accepted), local(report.expires));
    let (nl, en) = (
        format!("Uw bericht van {at} is nog niet bezorgd bij:"),
        format!("Your message of {at} has not been delivered yet to:"),
    );
    paragraph(out, language.of(&nl, &en));
    for subject in about {
        entry(out, subject);
        indented(out, &format!("{}: {}", language.of("Reden", "Reason"), why(subject, language)));
        said(out, subject, language);
    }
    out.push_str("\r\n");
    let (nl, en) = (
        format!(
            "U hoeft niets te doen: het wordt tot {until} steeds opnieuw aangeboden, en u krijgt bericht als dat niet \
             lukt. Neem bij spoed op een andere manier contact met hen op."
        ),
        format!(
            "You need not do anything: it is offered again and again until {until}, and you will be told if that does \
             not help. If it is urgent, please contact them by other means."
        ),
    );
    paragraph(out, language.of(&nl, &en));
}

fn arrived(out: &mut String, report: &Report<'_>, about: &[&Subject<'_>], language: Language) {
    let at = local(report.accepted);
    let (nl, en) = (
        format!("Uw bericht van {at} is beveiligd afgeleverd voor:"),
        format!("Your message of {at} was delivered securely for:"),
    );
    paragraph(out, language.of(&nl, &en));
    for subject in about {
        entry(out, subject);
        if subject.action == Action::Relayed {
            let (nl, en) = (
                "De aanbieder van de ontvanger bericht niet verder over de aflevering.",
                "The recipient's provider does not report further on the delivery.",
            );
            indented(out, language.of(nl, en));
        }
    }
}

#[derive(Clone, Copy)]
enum Language {
    Dutch,
    English,
}

impl Language {
    const fn of<'a>(self, dutch: &'a str, english: &'a str) -> &'a str {
        match self {
            Self::Dutch => dutch,
            Self::English => english,
        }
    }
}

fn entry(out: &mut String, subject: &Subject<'_>) {
    out.push_str("\r\n");
    indented(out, &subject.recipient.address.to_string());
}

fn said(out: &mut String, subject: &Subject<'_>, language: Language) {
    let answered = language.of("De andere kant antwoordde", "The other side answered");
    if let Some(reply) = subject.reply {
        indented(out, &format!("{answered}: {reply}"));
    }
}

/// Why a recipient did not get the message, as far as it concerns the sender.
fn why(subject: &Subject<'_>, language: Language) -> String {
    let (nl, en) = match subject.action {
        Action::Delayed => so_far(subject.reason),
        Action::Failed | Action::Delivered | Action::Relayed => words(subject.reason),
    };
    let words = language.of(nl, en);
    match (subject.reason, subject.requirement) {
        (Some(reason), Some(requirement)) => format!("{words} ({reason}, {requirement})"),
        (Some(reason), None) => format!("{words} ({reason})"),
        (None, _) => words.to_owned(),
    }
}

/// Why a recipient does not have the message yet.
const fn so_far(reason: Option<Reason>) -> (&'static str, &'static str) {
    match reason {
        Some(Reason::PeerTemporary | Reason::EnvironmentTemporary | Reason::LocalFault) => (
            "de mailserver van de ontvanger kan het bericht nu niet aannemen.",
            "the recipient's mail server cannot take the message at the moment.",
        ),
        Some(_) => (
            "de mailserver van de ontvanger is nu niet (veilig) bereikbaar.",
            "the recipient's mail server cannot be reached (securely) at the moment.",
        ),
        None => ("het bericht wacht nog bij ons.", "the message is still waiting with us."),
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
