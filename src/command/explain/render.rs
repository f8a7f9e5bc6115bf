//! A decision record as text: the verdict, why, each step, and what to do.

use std::fmt::Write as _;

use super::advice;
use crate::model::{
    DecisionRecord, DnsFact, HostFacts, Level, LocationFacts, LocationRule, LocationVerdict, Outcome, Reason,
    TlsFacts,
};

/// How wide prose may become.
const WIDTH: usize = 100;

/// How a step ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Good,
    None,
    Weak,
    Bad,
}

/// The record for people. `address` is what was asked about.
pub(crate) fn render(address: &str, record: &DecisionRecord) -> String {
    let mut out = String::new();
    paragraph(&mut out, "", &verdict(address, record));
    why(&mut out, record);
    domain(&mut out, record);
    for host in &record.hosts {
        host_block(&mut out, host, record);
    }
    terms(&mut out, record);
    if !record.warnings.is_empty() {
        out.push_str("\nTolerated\n");
        record.warnings.iter().for_each(|warning| step(&mut out, Mark::None, "", warning));
    }
    todo(&mut out, record);
    out
}

fn verdict(address: &str, record: &DecisionRecord) -> String {
    match record.outcome {
        Outcome::WouldDeliver => match record.assurance {
            Some(level) => format!("Yes. A message to {address} would be delivered now, at level {level}."),
            None => {
                format!("Yes, as far as DNS can tell. The way to {address} is known; no host was contacted.")
            }
        },
        Outcome::Later => {
            format!("Not now. A message to {address} would wait and be tried again. {}", sentence(record))
        }
        Outcome::Returned | Outcome::Refused => {
            format!("No. A message to {address} can't be sent through the federation. {}", sentence(record))
        }
        Outcome::Unknown
        | Outcome::Delivered
        | Outcome::Partial
        | Outcome::Accepted
        | Outcome::Repeated
        | Outcome::Abandoned => {
            format!(
                "{address}: attempt {} ended as {:?}. {}",
                record.attempt,
                record.outcome,
                sentence(record)
            )
        }
    }
}

fn sentence(record: &DecisionRecord) -> &'static str {
    record.reason.map_or("", |reason| reason.sentence().trim())
}

fn why(out: &mut String, record: &DecisionRecord) {
    out.push('\n');
    match record.reason {
        Some(reason) => {
            paragraph(out, "Why    ", advice::of(reason).why);
            if let Some(detail) = &record.detail {
                paragraph(out, "Seen   ", detail);
            }
            let requirement = record.requirement.as_deref().unwrap_or("-");
            paragraph(out, "Rule   ", &format!("{requirement} ({reason})"));
        }
        None => paragraph(out, "Why    ", why_yes(record)),
    }
}

fn why_yes(record: &DecisionRecord) -> &'static str {
    let confirmed = record.hosts.last().is_some_and(|host| host.peer_confirmed.is_some());
    match (record.assurance, confirmed) {
        (Some(Level::Mutual), true) => {
            "The domain takes part, its server proved its key, it asked for ours, and it confirms that it knows who we are."
        }
        (Some(Level::Mutual), false) => {
            "The domain takes part, its server proved its key, and it asked for ours. It does not say whether it checked \
             it, which only nodes that know the keyword XPEERLEVEL do."
        }
        (Some(Level::Nta7516), _) => {
            "The domain takes part and its server proved its key. It did not ask for ours, so it will judge the message by \
             DKIM, DMARC and SPF; the configured floor admits that."
        }
        (None, _) => "The domain takes part, and DNS proves its hosts and their keys.",
    }
}

fn domain(out: &mut String, record: &DecisionRecord) {
    let facts = &record.discovery;
    let name = record.peer_domain.as_ref().map_or("-", |domain| domain.as_str());
    let _ = writeln!(out, "\nDomain {name}");
    for fact in &facts.dns {
        dns_step(out, fact);
    }
    if let (Some(start), Some(end)) = (&facts.startdate, &facts.enddate) {
        let provider = facts.provider.as_deref().filter(|provider| !provider.is_empty()).unwrap_or("unnamed");
        let mark = match record.reason {
            Some(Reason::RecordExpired | Reason::RecordNotYetValid) => Mark::Bad,
            _ => Mark::Good,
        };
        step(out, mark, "record", &format!("provider {provider}, from {start} through {end}"));
    }
    if !facts.hosts.is_empty() {
        let hosts: Vec<String> =
            facts.hosts.iter().map(|(preference, host)| format!("{host} ({preference})")).collect();
        let source = facts.source.as_deref().unwrap_or("record");
        step(out, Mark::Good, "hosts", &format!("{} from {source}", hosts.join(", ")));
    }
}

fn dns_step(out: &mut String, fact: &DnsFact) {
    let count = match fact.records {
        1 => "1 record".to_owned(),
        more => format!("{more} records"),
    };
    let (mark, text) = match fact.verdict.as_str() {
        "secure" => (Mark::Good, format!("signed and proven, {count}")),
        "secure_absent" => (Mark::None, "none, and DNS proves it".to_owned()),
        "insecure" => (Mark::Bad, format!("not signed: {count}, without proof")),
        "insecure_absent" => (Mark::Bad, "not signed: nobody proves that there is none".to_owned()),
        word => {
            let known = Reason::ALL.iter().find(|reason| reason.as_str() == word);
            (Mark::Bad, known.map_or_else(|| word.to_owned(), |reason| reason.sentence().trim().to_owned()))
        }
    };
    let cached = if fact.cached { " (cached)" } else { "" };
    step(out, mark, &fact.rtype, &format!("{}: {text}{cached}", fact.name));
}

fn host_block(out: &mut String, host: &HostFacts, record: &DecisionRecord) {
    let preference =
        host.preference.map(|preference| format!(" (preference {preference})")).unwrap_or_default();
    let _ = writeln!(out, "\nHost {}{preference}", host.host);
    if let Some(address) = &host.address {
        let bad = matches!(
            host.reason,
            Some(Reason::ConnectFailed | Reason::HostAddressForbidden | Reason::PeerTimeout)
        );
        step(out, if bad { Mark::Bad } else { Mark::Good }, "address", address);
    }
    if let Some(location) = &host.location {
        location_step(out, location);
    }
    tlsa_step(out, host);
    if let Some(tls) = &host.tls {
        tls_steps(out, tls);
    }
    if !host.ehlo.is_empty() {
        step(out, Mark::Good, "EHLO", &host.ehlo.join(" "));
    }
    let served = host.reason.is_none() && host.tls.is_some();
    if served && let Some(level) = record.assurance {
        let text = match &host.peer_confirmed {
            Some(confirmation) => {
                let names: Vec<&str> = confirmation.names.iter().map(|name| name.as_str()).collect();
                format!("{level}; the other side confirms {} for {}", confirmation.level, names.join(", "))
            }
            None => level.to_string(),
        };
        step(out, Mark::Good, "level", &text);
    }
    if let Some(reason) = host.reason {
        let at = host.step.as_deref().map(|step| format!(" (at step {step})")).unwrap_or_default();
        step(out, Mark::Bad, "left", &format!("{}{at}", reason.sentence().trim()));
        for more in [&host.code, &host.detail].into_iter().flatten() {
            step(out, Mark::None, "", more);
        }
    }
}

fn location_step(out: &mut String, location: &LocationFacts) {
    let country = location.country.as_deref().unwrap_or("-");
    let (mark, text) = match (location.verdict, location.rule) {
        (LocationVerdict::Eea, _) => (Mark::Good, format!("in {country}, inside the EU/EEA")),
        (LocationVerdict::Outside, rule) => {
            let mark = if rule == LocationRule::Enforce { Mark::Bad } else { Mark::None };
            (mark, format!("in {country}, outside the EU/EEA"))
        }
        (LocationVerdict::Unknown, rule) => {
            let mark = if rule == LocationRule::Enforce { Mark::Bad } else { Mark::None };
            (mark, format!("unknown: {}", location.detail.as_deref().unwrap_or("no country")))
        }
    };
    let rule = match location.rule {
        LocationRule::Any => " (this peer may stand anywhere)",
        LocationRule::Observe => " (only noted)",
        LocationRule::Enforce => "",
    };
    step(out, mark, "place", &format!("{text}{rule}"));
}

fn tlsa_step(out: &mut String, host: &HostFacts) {
    if host.tlsa.is_empty() && host.tlsa_unusable == 0 {
        return;
    }
    let base = host.tlsa_base.as_ref().map_or(host.host.as_str(), |base| base.as_str());
    let unusable = match host.tlsa_unusable {
        0 => String::new(),
        count => format!(", {count} that can't be used"),
    };
    let (mark, usable) = match host.tlsa.as_slice() {
        [] => (Mark::Bad, "none usable".to_owned()),
        records => (Mark::Good, records.join(", ")),
    };
    step(out, mark, "TLSA", &format!("of {base}: {usable}{unusable}"));
}

fn tls_steps(out: &mut String, tls: &TlsFacts) {
    let group = tls.group.as_deref().map(|group| format!(", {group}")).unwrap_or_default();
    step(out, Mark::Good, "TLS", &format!("{}, {}{group}", tls.version, tls.cipher));
    if let Some(rule) = &tls.authenticated_by {
        step(out, Mark::Good, "proof", &format!("the server's key is the expected one, by {rule}"));
    }
    match tls.client_certificate_sent {
        Some(true) => step(out, Mark::Good, "our key", "asked for and sent"),
        Some(false) => step(out, Mark::None, "our key", "not asked for"),
        None => {}
    }
}

fn terms(out: &mut String, record: &DecisionRecord) {
    let policy = &record.policy;
    let Some(floor) = policy.floor else { return };
    let _ = writeln!(out, "\nTerms");
    let whose = match &policy.peer {
        Some(peer) => format!("from the entry of peer {peer}"),
        None => "the general floor".to_owned(),
    };
    step(out, Mark::None, "floor", &format!("{floor}, {whose}"));
    if let Some(rule) = policy.rule {
        step(out, Mark::None, "identity", &rule.to_string());
    }
    if !policy.weakened.is_empty() {
        step(out, Mark::Weak, "lab", &format!("protection is weakened by {}", policy.weakened.join(", ")));
    }
}

fn todo(out: &mut String, record: &DecisionRecord) {
    let text = record.reason.map_or("Nothing.", |reason| advice::of(reason).act);
    out.push('\n');
    paragraph(out, "To do  ", text);
    let who = match record.acts.as_deref() {
        Some("peer") => "The other provider has to act.",
        Some("operator") => "The operator of this node has to act.",
        Some("sender") => "The sender has to act.",
        _ => "",
    };
    if !who.is_empty() {
        paragraph(out, "       ", who);
    }
    paragraph(out, "       ", "This was a look only: no message was sent.");
}

fn step(out: &mut String, mark: Mark, name: &str, text: &str) {
    let mark = match mark {
        Mark::Good => "ok",
        Mark::None => "-",
        Mark::Weak => "WEAK",
        Mark::Bad => "FAIL",
    };
    let _ = writeln!(out, "  {mark:<5}{name:<9}{}", printable(text));
}

/// Wraps prose; what follows the first line is indented by the width of `label`.
pub(super) fn paragraph(out: &mut String, label: &str, text: &str) {
    let mut line = String::from(label);
    let mut empty = true;
    for word in printable(text).split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(out, "{line}");
            line = " ".repeat(label.chars().count());
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    let _ = writeln!(out, "{}", line.trim_end());
}

/// Words of others reach a terminal here: nothing in them may move its cursor.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
