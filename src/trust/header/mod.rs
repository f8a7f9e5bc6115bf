//! The header section of content that streams past.

mod mailbox;
mod reply;
mod section;

#[cfg(test)]
mod tests;

use crate::model::{Address, DomainName, Reason, TrustFacts};

pub use reply::{Correspondent, Correspondents, FieldFault, ReplyField, SectionReader, correspondents};
pub(super) use section::{Field, fields};

/// How much of a message is looked at per step while the end of its header section is searched.
const STEP_OCTETS: usize = 4096;
/// The longest `Message-ID:` that is noted; anything longer is of no use in a log line.
const MESSAGE_ID_OCTETS_MAX: usize = 250;

/// What a header section may cost (LIM-006, SMTP-019). The numbers come from the table of limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderLimits {
    /// Octets of the header section, its last CRLF included. Also the most this room holds in memory.
    pub octets: usize,
    /// Fields of the header section.
    pub fields: usize,
    /// `Received:` fields; one more is a loop.
    pub received: usize,
    /// `Received:` fields of the node that looks ([`HeaderWatch::at`]); one more is a loop.
    pub own_received: usize,
}

impl Default for HeaderLimits {
    /// The defaults of `spec/08-limits.md`.
    fn default() -> Self {
        Self { octets: 256 << 10, fields: 1000, received: 100, own_received: 8 }
    }
}

/// Why content is refused for what its header section says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct HeaderFault {
    /// The named check that failed.
    pub reason: Reason,
    /// What exactly was seen, for operators. Names fields, quotes no content.
    pub detail: String,
}

impl HeaderFault {
    fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }

    /// The named check that failed.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }
}

/// Reports that may travel under the null sender (IDEN-015).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportKind {
    /// `multipart/report; report-type=delivery-status` (RFC 3464, RFC 6533).
    DeliveryStatus,
    /// `multipart/report; report-type=disposition-notification` (RFC 8098).
    Disposition,
}

/// What a header section says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderFacts {
    /// The addresses of the one `From:` field; at least one.
    pub from: Vec<Address>,
    /// The domain of them all (IDEN-014).
    pub from_domain: DomainName,
    /// The address of `Sender:`, where there is that field. Bound like `From:` (IDEN-014).
    pub sender: Option<Address>,
    /// What kind of report this is, if it is one.
    pub report: Option<ReportKind>,
    /// How many `Received:` fields there are.
    pub received: usize,
    /// The `Message-ID:`, for records; printable ASCII, at most 250 octets, and absent where it is anything else.
    pub message_id: Option<String>,
    /// How many `Message-ID:` fields there are, readable or not.
    pub message_ids: usize,
    /// The values of the `Date:` fields, for telling whether they are as before: on one line, blanks in a row as one.
    pub dates: Vec<String>,
    /// Whether `TLS-Required: no` is there. Noted and never honoured (SMTP-021).
    pub tls_required_no: bool,
}

impl HeaderFacts {
    /// Who sent the message for its authors: the address of `Sender:` that is none of `From:` (RFC 5322 section 3.6.2;
    /// RPLY-006).
    #[must_use]
    pub fn delegate(&self) -> Option<&Address> {
        self.sender.as_ref().filter(|sender| !self.from.contains(sender))
    }

    /// Enters who wrote and who sent the message (RPLY-005).
    pub fn enter(&self, trust: &mut TrustFacts) {
        trust.from_domain = Some(self.from_domain.clone());
        trust.from.clone_from(&self.from);
        trust.sender.clone_from(&self.sender);
    }
}

/// Watches content go by, and reads its header section.
///
/// Content is pushed in pieces of any size; nothing but the header section is kept, and of that no more than the limit.
pub struct HeaderWatch {
    limits: HeaderLimits,
    node: Option<DomainName>,
    section: Vec<u8>,
    state: State,
}

enum State {
    /// The empty line has not come yet.
    Open,
    /// The header section has been read.
    Read(Result<HeaderFacts, HeaderFault>),
}

impl HeaderWatch {
    /// Nothing seen yet.
    #[must_use]
    pub const fn new(limits: HeaderLimits) -> Self {
        Self { limits, node: None, section: Vec::new(), state: State::Open }
    }

    /// The same at the node of this name: it knows its own traces when they come by again (SMTP-019).
    #[must_use]
    pub fn at(self, node: DomainName) -> Self {
        Self { node: Some(node), ..self }
    }

    /// Takes the next octets of the content.
    ///
    /// # Errors
    /// As soon as the header section is complete, or too large, whatever is wrong with it; and the same again on every
    /// later call.
    pub fn push(&mut self, octets: &[u8]) -> Result<(), HeaderFault> {
        for step in octets.chunks(STEP_OCTETS) {
            if !matches!(self.state, State::Open) {
                break;
            }
            self.take(step);
        }
        match &self.state {
            State::Read(Err(fault)) => Err(fault.clone()),
            State::Open | State::Read(Ok(_)) => Ok(()),
        }
    }

    fn take(&mut self, step: &[u8]) {
        let seen = self.section.len();
        self.section.extend_from_slice(step);
        let end = end_of_section(&self.section, seen);
        if end.unwrap_or(self.section.len()) > self.limits.octets {
            self.section = Vec::new();
            let detail = format!("the header section is longer than {} octets", self.limits.octets);
            self.state = State::Read(Err(HeaderFault::new(Reason::HeaderTooLarge, detail)));
        } else if let Some(end) = end {
            self.section.truncate(end);
            self.read();
        }
    }

    fn read(&mut self) {
        let section = std::mem::take(&mut self.section);
        self.state = State::Read(read(&section, self.limits, self.node.as_ref()));
    }

    /// What the header section says, once it is complete and nothing is wrong with it.
    #[must_use]
    pub const fn facts(&self) -> Option<&HeaderFacts> {
        match &self.state {
            State::Read(Ok(facts)) => Some(facts),
            State::Read(Err(_)) | State::Open => None,
        }
    }

    /// What the header section says. Content without an empty line is a header section only.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn finish(mut self) -> Result<HeaderFacts, HeaderFault> {
        if matches!(self.state, State::Open) {
            self.read();
        }
        match self.state {
            State::Read(result) => result,
            // `read` has just left this state.
            State::Open => Err(HeaderFault::new(Reason::LocalFault, "the header section was not read")),
        }
    }
}

/// Where the header section ends, the CRLF of its last field included, if the empty line has come. `seen` octets were
/// searched before.
fn end_of_section(section: &[u8], seen: usize) -> Option<usize> {
    if section.starts_with(b"\r\n") {
        return Some(0);
    }
    let from = seen.saturating_sub(3);
    memchr::memmem::find(&section[from..], b"\r\n\r\n").map(|at| from + at + 2)
}

/// Reads a complete header section, without the empty line behind it.
fn read(section: &[u8], limits: HeaderLimits, node: Option<&DomainName>) -> Result<HeaderFacts, HeaderFault> {
    let fields = fields(section, limits.fields)?;
    let received = check_loop(&fields, limits, node)?;
    let from = mailbox::from(only(&fields, "from")?.ok_or_else(|| from_fault("there is no From: field"))?)?;
    let from_domain = one_domain(&from)?;
    let sender = only(&fields, "sender")?.map(mailbox::sender).transpose()?;
    Ok(HeaderFacts {
        from,
        from_domain,
        sender,
        report: report(&fields),
        received,
        message_id: message_id(&fields),
        message_ids: named(&fields, "message-id").count(),
        dates: named(&fields, "date").map(one_line).collect(),
        tls_required_no: named(&fields, "tls-required").any(|field| field.text_is("no")),
    })
}

/// Counts the hosts that a message has passed, and how often this one was among them (SMTP-019). Returns all.
fn check_loop(
    fields: &[Field<'_>],
    limits: HeaderLimits,
    node: Option<&DomainName>,
) -> Result<usize, HeaderFault> {
    let looping = |detail: String| Err(HeaderFault::new(Reason::MailLoop, detail));
    let received = named(fields, "received").count();
    if received > limits.received {
        return looping(format!("{received} Received: fields; {} are admitted", limits.received));
    }
    let Some(node) = node else { return Ok(received) };
    let own = named(fields, "received").filter(|field| is_trace_of(field, node)).count();
    if own > limits.own_received {
        let admitted = limits.own_received;
        return looping(format!("{own} Received: fields are of this node itself; {admitted} are admitted"));
    }
    Ok(received)
}

/// Whether a `Received:` field says that it was written by `node` (`by` clause of RFC 5321 section 4.4).
fn is_trace_of(field: &Field<'_>, node: &DomainName) -> bool {
    let value = field.unfolded();
    let words: Vec<&[u8]> = value.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect();
    words.windows(2).any(|pair| {
        let name = pair[1].split(|octet| matches!(octet, b';' | b'(')).next().unwrap_or_default();
        let name = name.strip_suffix(b".").unwrap_or(name);
        pair[0].eq_ignore_ascii_case(b"by") && name.eq_ignore_ascii_case(node.as_str().as_bytes())
    })
}

pub(super) fn from_fault(detail: impl Into<String>) -> HeaderFault {
    HeaderFault::new(Reason::FromMalformed, detail)
}

fn named<'a, 's>(fields: &'a [Field<'s>], name: &'a str) -> impl Iterator<Item = &'a Field<'s>> {
    fields.iter().filter(move |field| field.is(name))
}

/// The one field with this name, or none. It must be spelled plainly: a blank before the colon is read as part of the
/// name by some and as nothing by others, and whoever shows the message may see another sender than we do.
fn only<'a, 's>(fields: &'a [Field<'s>], name: &'a str) -> Result<Option<&'a Field<'s>>, HeaderFault> {
    let mut all = named(fields, name);
    let first = all.next();
    if all.next().is_some() {
        return Err(from_fault(format!("there is more than one {name} field")));
    }
    if first.is_some_and(|field| field.blank_before_colon) {
        return Err(from_fault(format!("blanks before the colon of the {name} field")));
    }
    Ok(first)
}

fn one_domain(from: &[Address]) -> Result<DomainName, HeaderFault> {
    let domain = from.first().ok_or_else(|| from_fault("From: holds no address"))?.domain();
    if from.iter().any(|address| address.domain() != domain) {
        return Err(from_fault("the addresses in From: are of more than one domain"));
    }
    Ok(domain.clone())
}

/// Whether the message is a report. A content type that could be read in two ways makes it none.
fn report(fields: &[Field<'_>]) -> Option<ReportKind> {
    let mut all = named(fields, "content-type");
    let field = all.next().filter(|field| !field.blank_before_colon)?;
    if all.next().is_some() {
        return None;
    }
    let value = field.line_for_parser();
    let parsed = mail_parser::parsers::MessageStream::new(&value).parse_content_type();
    let mail_parser::HeaderValue::ContentType(content_type) = parsed else { return None };
    let subtype = content_type.subtype().unwrap_or_default();
    if !content_type.ctype().eq_ignore_ascii_case("multipart") || !subtype.eq_ignore_ascii_case("report") {
        return None;
    }
    let mut kinds = content_type
        .attributes()
        .unwrap_or_default()
        .iter()
        .filter(|attribute| attribute.name.eq_ignore_ascii_case("report-type"));
    let kind = kinds.next()?;
    if kinds.next().is_some() {
        return None;
    }
    [("delivery-status", ReportKind::DeliveryStatus), ("disposition-notification", ReportKind::Disposition)]
        .into_iter()
        .find_map(|(word, report)| kind.value.eq_ignore_ascii_case(word).then_some(report))
}

/// A value on one line, blanks in a row as one.
fn one_line(field: &Field<'_>) -> String {
    let value = String::from_utf8_lossy(&field.unfolded()).into_owned();
    value.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

fn message_id(fields: &[Field<'_>]) -> Option<String> {
    let mut all = named(fields, "message-id");
    let id = all.next()?.unfolded();
    if all.next().is_some() {
        return None;
    }
    let id = id.trim_ascii();
    let plain = !id.is_empty() && id.len() <= MESSAGE_ID_OCTETS_MAX && id.iter().all(u8::is_ascii_graphic);
    plain.then(|| String::from_utf8_lossy(id).into_owned())
}
