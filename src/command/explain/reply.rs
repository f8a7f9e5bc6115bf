//! What a reply to a message comes to, as text: the answer, each address, what could not be read.

use std::fmt::Write as _;

use super::super::table;
use super::render::{paragraph, printable};
use crate::admin::{REPLY_ADDRESSES_MAX, REPLY_DOMAINS_MAX, ReplyAddress, ReplyReport, Standing};
use crate::model::Reason;

/// The report for people.
pub(super) fn render(report: &ReplyReport) -> String {
    let mut out = String::new();
    paragraph(&mut out, "", &report.answer);
    out.push('\n');
    let rows: Vec<Vec<String>> = report.addresses.iter().map(row).collect();
    if !rows.is_empty() {
        out.push_str(&table(&["FIELD", "ADDRESS", "WHAT WOULD HAPPEN"], &rows));
    }
    if let Some(delegate) = &report.delegate {
        let text = format!("sent for the authors by {delegate} (Sender); replies don't go there");
        let _ = writeln!(out, "\nDelegate  {}", printable(&text));
    }
    for fault in &report.faults {
        let _ = writeln!(out, "\nFAIL  {}: {}", fault.field, printable(&fault.what));
    }
    if report.beyond > 0 {
        let text = format!(
            "{} more addresses were not looked at: the limit is {REPLY_ADDRESSES_MAX}.",
            report.beyond
        );
        paragraph(&mut out, "\nFAIL  ", &text);
    }
    out.push('\n');
    let how = if report.dns_only { "DNS was asked, and nobody else." } else { "" };
    paragraph(&mut out, "", &format!("This was a look only: no message was sent. {how}"));
    out
}

fn row(one: &ReplyAddress) -> Vec<String> {
    let provider = one.provider.as_deref().filter(|provider| !provider.is_empty());
    let why = |word: &str| {
        let (sentence, name) = one.reason.map_or(("", ""), |r: Reason| (r.sentence().trim(), r.as_str()));
        format!("{word}: {sentence} ({name})")
    };
    let text = match one.standing {
        Standing::Own => "stays in our own environment".to_owned(),
        Standing::Federated => {
            let level = one.level.map(|level| format!(", level {level}")).unwrap_or_default();
            let provider = provider.map(|provider| format!(", provider {provider}")).unwrap_or_default();
            format!("federated{level}{provider}")
        }
        Standing::NotFederated => why("not federated"),
        Standing::Temporary => why("not now"),
        Standing::NotLookedAt => format!("not looked at: more than {REPLY_DOMAINS_MAX} domains"),
    };
    vec![one.field.to_string(), printable(&one.address.to_string()), printable(&text)]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::admin::Answer;
    use crate::model::{Address, Level};
    use crate::trust::{FieldFault, ReplyField};

    fn one(field: ReplyField, address: &str, standing: Standing) -> ReplyAddress {
        let address: Address = address.parse().unwrap();
        let reason = match standing {
            Standing::NotFederated => Some(Reason::RecordAbsent),
            Standing::Temporary => Some(Reason::DnsServfail),
            _ => None,
        };
        ReplyAddress {
            field,
            domain: address.domain().clone(),
            address,
            standing,
            reason,
            detail: None,
            level: (standing == Standing::Federated).then_some(Level::Mutual),
            provider: (standing == Standing::Federated).then(|| "Provider \u{1b}[2J B".to_owned()),
        }
    }

    #[test]
    fn a_message_with_everything() {
        let mut report = ReplyReport {
            answer: String::new(),
            reply: Answer::Yes,
            reply_all: Answer::Yes,
            message: None,
            delegate: Some("assistent@b.example".parse().unwrap()),
            addresses: vec![
                one(ReplyField::From, "dokter@b.example", Standing::Federated),
                one(ReplyField::To, "me@a.example", Standing::Own),
                one(ReplyField::Cc, "x@c.example", Standing::NotFederated),
                one(ReplyField::Cc, "y@d.example", Standing::Temporary),
                one(ReplyField::Cc, "z@e.example", Standing::NotLookedAt),
            ],
            faults: vec![FieldFault {
                field: ReplyField::Cc,
                what: "has an entry that is no address".into(),
            }],
            beyond: 2,
            dns_only: false,
        };
        report.conclude();
        let text = render(&report);
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        insta::assert_snapshot!("reply", text);
    }
}
