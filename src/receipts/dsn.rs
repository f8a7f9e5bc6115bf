//! The report to a sender: what became of a message, in words for people and in fields for programs.
//!
//! # Guarantees
//! - [`wanted`] is the only answer to "is a report due": none to the null sender, none against `NOTIFY` (RFC 3461
//!   section 4.1).
//! - Every value in a field is one line; where it came from does not matter (attack class T5).
//!
//! # Standards
//! RFC 3461 section 6, RFC 3462, RFC 3464 section 2, RFC 3834, RFC 6533 (reports about internationalised mail).

use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncReadExt};

pub use crate::model::ReportAction as Action;
use crate::model::{Address, BodyType, DomainName, Envelope, MessageId, Reason, Recipient, Ret, ReversePath};
use crate::spool::{Draft, SpoolError};

mod text;

/// A quoted header section is cut at the line that crosses this many octets.
const QUOTED_HEADER_OCTETS: usize = 64 << 10;
/// A quoted message larger than this is cut down to its header section, as RFC 3461 section 6.2 allows.
const QUOTED_MESSAGE_OCTETS: u64 = 1 << 20;
const PIECE_OCTETS: usize = 16 << 10;

/// A recipient that a report is about.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// Who, with the wishes of the sender.
    pub recipient: &'a Recipient,
    /// What became of the message.
    pub action: Action,
    /// Status by RFC 3463, such as `5.1.1`.
    pub status: &'a str,
    /// The check that failed.
    pub reason: Option<Reason>,
    /// The requirement behind that check.
    pub requirement: Option<&'a str>,
    /// The last reply of the other side, as `550 5.1.1 text`, if there was one. Quoted where it explains something: not
    /// in the report of a success (RFC 3464 section 2.3.6).
    pub reply: Option<&'a str>,
    /// The host that gave that reply, where that is for others to know: no host of our own environment.
    pub host: Option<&'a str>,
    /// When it was last tried.
    pub last_attempt: Option<Timestamp>,
}

/// A report to be written.
#[derive(Clone, Debug)]
pub struct Report<'a> {
    /// The message it is about.
    pub message: MessageId,
    /// Its envelope.
    pub envelope: &'a Envelope,
    /// When it was accepted.
    pub accepted: Timestamp,
    /// Until when it is tried, if it is delayed.
    pub expires: Timestamp,
    /// The name of this node.
    pub node: &'a DomainName,
    /// Address in `From:`. Its domain must be one this node answers for: the receiver of the report judges by it.
    pub from: &'a Address,
    /// Now.
    pub now: Timestamp,
    /// The recipients, at least one.
    pub subjects: Vec<Subject<'a>>,
}

/// Whether the sender of `envelope` is to be told that this became of the message to `recipient`.
///
/// Without a word from the sender that is failure and delay: RFC 3461 section 4.1 leaves the second to us, and NTA 7516
/// section 6.1.3 wants the sender to know.
#[must_use]
pub fn wanted(envelope: &Envelope, recipient: &Recipient, action: Action) -> bool {
    let asked = match (recipient.notify, action) {
        (None, Action::Failed | Action::Delayed) => true,
        (None, Action::Delivered | Action::Relayed) => false,
        (Some(notify), Action::Failed) => notify.failure,
        (Some(notify), Action::Delayed) => notify.delay,
        (Some(notify), Action::Delivered | Action::Relayed) => notify.success,
    };
    asked && envelope.sender.address().is_some()
}

/// Writes the report into `draft` and returns its envelope. `original` is the content of the message it is about.
///
/// # Errors
/// [`SpoolError`] of the draft, or [`SpoolError::Misuse`] when there is nobody to tell.
pub async fn write<R>(
    report: &Report<'_>,
    original: R,
    original_size: u64,
    draft: &mut Draft,
) -> Result<Envelope, SpoolError>
where
    R: AsyncRead + Unpin,
{
    let to = match &report.envelope.sender {
        ReversePath::Address(address) if !report.subjects.is_empty() => address.clone(),
        _ => return Err(SpoolError::Misuse("a report to nobody, or about nobody")),
    };
    // RFC 3461 section 4.3: the sender's wish is about failures. Whoever is told of anything else has the message still.
    let failure = report.subjects.iter().any(|subject| subject.action == Action::Failed);
    let full = failure && report.envelope.ret == Some(Ret::Full) && original_size <= QUOTED_MESSAGE_OCTETS;
    let quote = if full { Quote::Message } else { Quote::Header };
    let mut original = original;
    let quoted = read_quoted(&mut original, quote).await;
    let eight_bit = report.envelope.smtputf8
        || !quoted.is_ascii()
        || (quote == Quote::Message && report.envelope.body == BodyType::EightBitMime);
    let shape = Shape { quote, eight_bit, international: report.envelope.smtputf8 };
    let frame = Frame::new(report, draft.message(), &to, shape);
    for part in [frame.head.as_bytes(), &quoted, frame.tail.as_bytes()] {
        draft.write(part).await?;
    }
    let envelope = Envelope {
        sender: ReversePath::Null,
        // RFC 3461 section 6.1: a report asks for no reports.
        recipients: vec![Recipient { address: to, notify: Some(crate::model::Notify::NEVER), orcpt: None }],
        body: if eight_bit { BodyType::EightBitMime } else { BodyType::SevenBit },
        smtputf8: report.envelope.smtputf8,
        ret: None,
        envid: None,
    };
    Ok(envelope)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Quote {
    Header,
    Message,
}

/// What kind of MIME parts the report has.
#[derive(Clone, Copy)]
struct Shape {
    quote: Quote,
    eight_bit: bool,
    international: bool,
}

/// Reads what is quoted. Content that cannot be read leaves the quotation short: the sender is told all the same.
async fn read_quoted<R: AsyncRead + Unpin>(original: &mut R, quote: Quote) -> Vec<u8> {
    let mut read = Vec::new();
    loop {
        let start = read.len();
        read.resize(start + PIECE_OCTETS, 0);
        let count = original.read(&mut read[start..]).await.unwrap_or(0);
        read.truncate(start + count);
        if quote == Quote::Header {
            if let Some(end) = memchr::memmem::find(&read, b"\r\n\r\n") {
                read.truncate(end + 2);
                break;
            }
            if read.len() > QUOTED_HEADER_OCTETS {
                let end =
                    memchr::memmem::rfind(&read[..QUOTED_HEADER_OCTETS], b"\r\n").map_or(0, |at| at + 2);
                read.truncate(end);
                break;
            }
        }
        if count == 0 {
            break;
        }
    }
    if quote == Quote::Header && read.starts_with(b"\r\n") {
        read.clear();
    }
    if !read.ends_with(b"\r\n") {
        read.extend_from_slice(b"\r\n");
    }
    read
}

/// The report around what it quotes.
struct Frame {
    head: String,
    tail: String,
}

impl Frame {
    fn new(report: &Report<'_>, own: MessageId, to: &Address, shape: Shape) -> Self {
        // The identifier holds 80 random bits that the author of the quoted message did not know.
        let boundary = format!("=_report_{}", report.message);
        let mut head = top(report, own, to, &boundary);
        head.push_str(&format!(
            "--{boundary}\r\nContent-Type: text/plain; charset={}\r\n{}Content-Language: nl, en\r\n\r\n",
            if shape.international { "utf-8" } else { "us-ascii" },
            encoding(shape.international),
        ));
        head.push_str(&text::for_people(report));
        let (status, whole, section) = if shape.international {
            ("message/global-delivery-status", "message/global", "message/global-headers")
        } else {
            ("message/delivery-status", "message/rfc822", "text/rfc822-headers")
        };
        head.push_str(&format!(
            "\r\n--{boundary}\r\nContent-Type: {status}\r\n{}\r\n",
            encoding(shape.international)
        ));
        head.push_str(&per_message(report));
        for subject in &report.subjects {
            head.push_str(&per_recipient(report, subject));
        }
        let quoted = match shape.quote {
            Quote::Message => whole,
            Quote::Header => section,
        };
        head.push_str(&format!(
            "\r\n--{boundary}\r\nContent-Type: {quoted}\r\n{}\r\n",
            encoding(shape.eight_bit)
        ));
        if !shape.international {
            // What others said may hold anything; this report promises to be ASCII.
            head = head.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect();
        }
        Self { head, tail: format!("\r\n--{boundary}--\r\n") }
    }
}

fn encoding(eight_bit: bool) -> &'static str {
    if eight_bit { "Content-Transfer-Encoding: 8bit\r\n" } else { "" }
}

fn top(report: &Report<'_>, own: MessageId, to: &Address, boundary: &str) -> String {
    let mut out = String::new();
    field(&mut out, "Date", &date(report.now));
    field(&mut out, "From", &format!("Mail Delivery System <{}>", report.from));
    field(&mut out, "To", &format!("<{to}>"));
    field(&mut out, "Subject", text::subject(report));
    // A message can have several reports at the same moment, one of each route: the name is that of the report itself.
    field(&mut out, "Message-ID", &format!("<report-{own}@{}>", report.node));
    // RFC 3834 section 5: nothing may answer this by itself.
    field(&mut out, "Auto-Submitted", "auto-replied");
    field(&mut out, "MIME-Version", "1.0");
    out.push_str(&format!(
        "Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"{boundary}\"\r\n\r\n"
    ));
    out
}

/// Fields about the message (RFC 3464 section 2.2).
fn per_message(report: &Report<'_>) -> String {
    let mut out = String::new();
    if let Some(envid) = &report.envelope.envid {
        field(&mut out, "Original-Envelope-Id", envid);
    }
    field(&mut out, "Reporting-MTA", &format!("dns; {}", report.node));
    field(&mut out, "Arrival-Date", &date(report.accepted));
    field(&mut out, "X-Sluis-Message", &report.message.to_string());
    out
}

/// Fields about one recipient (RFC 3464 section 2.3), after the empty line that separates them.
fn per_recipient(report: &Report<'_>, subject: &Subject<'_>) -> String {
    let mut out = "\r\n".to_owned();
    if let Some(orcpt) = &subject.recipient.orcpt {
        field(&mut out, "Original-Recipient", &orcpt.replacen(';', "; ", 1));
    }
    let address = &subject.recipient.address;
    let kind = if address.needs_smtputf8() { "utf-8" } else { "rfc822" };
    field(&mut out, "Final-Recipient", &format!("{kind}; {address}"));
    field(&mut out, "Action", subject.action.as_str());
    field(&mut out, "Status", subject.status);
    if let Some(host) = subject.host {
        field(&mut out, "Remote-MTA", &format!("dns; {host}"));
    }
    let trouble = matches!(subject.action, Action::Failed | Action::Delayed);
    if let Some(reply) = subject.reply.filter(|_| trouble) {
        field(&mut out, "Diagnostic-Code", &format!("smtp; {reply}"));
    }
    if let Some(reason) = subject.reason {
        let requirement = subject.requirement.unwrap_or_default();
        field(&mut out, "X-Sluis-Reason", format!("{reason} {requirement}").trim_end());
    }
    if let Some(at) = subject.last_attempt {
        field(&mut out, "Last-Attempt-Date", &date(at));
    }
    if subject.action == Action::Delayed {
        field(&mut out, "Will-Retry-Until", &date(report.expires));
    }
    out
}

/// Appends one field. The value becomes one line whatever it holds, folded at blanks so that no line is over 998 octets.
fn field(out: &mut String, name: &str, value: &str) {
    out.push_str(name);
    out.push(':');
    let mut width = name.len() + 1;
    let clean: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    for word in clean.split(' ').filter(|word| !word.is_empty()) {
        if width + 1 + word.len() > 76 && width > 1 {
            out.push_str("\r\n");
            width = 0;
        }
        out.push(' ');
        let word = cut(word);
        out.push_str(word);
        width += 1 + word.len();
    }
    out.push_str("\r\n");
}

/// A word that no line can hold is cut: it is somebody else's text.
fn cut(word: &str) -> &str {
    let end = word.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|&end| end <= 900).last();
    &word[..end.unwrap_or(0)]
}

/// RFC 5322 section 3.3.
fn date(at: Timestamp) -> String {
    jiff::fmt::rfc2822::to_string(&at.to_zoned(jiff::tz::TimeZone::UTC))
        // Only years before 0 have no such form.
        .unwrap_or_else(|_| "Thu, 1 Jan 1970 00:00:00 +0000".to_owned())
}

#[cfg(test)]
mod tests;
