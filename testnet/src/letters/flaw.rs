//! Letters that must not pass: each breaks one rule of content, and is refused at every border (SMTP-007, SMTP-008).

use super::{Desk, Letter, Parties};
use crate::net::client::Carriage;

/// How to write one letter that must be refused.
#[derive(Debug, Clone, Copy)]
pub struct Flaw {
    /// Its name: lower-case letters, digits and hyphens.
    pub name: &'static str,
    /// The requirement it breaks.
    pub requirement: &'static str,
    /// The word for it in the table of `spec/05-failures.md`.
    pub reason: &'static str,
    what: What,
}

/// What is wrong with it.
#[derive(Debug, Clone, Copy)]
enum What {
    /// These octets, in the middle of the body.
    InBody(&'static [u8]),
    /// These octets, in a header field.
    InHeader(&'static [u8]),
    /// These octets, and the content ends.
    AtEnd(&'static [u8]),
    /// These octets after more content than is kept in memory.
    AfterMuch(&'static [u8]),
    /// LF instead of every CRLF.
    LfOnly,
    /// A line of this many octets in the body, beginning with this one.
    Line(u8, usize),
    /// A field whose line has this many octets.
    HeaderLine(usize),
}

impl Flaw {
    /// Writes it. It is to be sent as it stands, with no dot doubled: those that disguise the end of content would be none
    /// otherwise.
    #[must_use]
    pub fn write(&self, parties: &Parties) -> Letter {
        let desk = Desk { name: self.name, parties };
        let good = desk.letter("Subject: flawed\n\n").content;
        let body = |octets: &[u8]| [&good[..], b"before", octets, b"after\r\n"].concat();
        let content = match self.what {
            What::InBody(octets) => body(octets),
            What::InHeader(octets) => {
                [b"X-Flawed: before", octets, b"after\r\n", &good[..], b"x\r\n"].concat()
            }
            What::AtEnd(octets) => [&good[..], b"before", octets].concat(),
            What::AfterMuch(octets) => [body(&b"\r\nmuch\r\n".repeat(60_000)), body(octets)].concat(),
            What::LfOnly => String::from_utf8_lossy(&body(b"\r\n")).replace('\r', "").into_bytes(),
            What::Line(first, octets) => {
                let mut line = vec![b'x'; octets];
                line[0] = first;
                // The dot that is doubled on the way is not part of the line, so it is doubled here.
                let doubled: &[u8] = if first == b'.' { b"." } else { b"" };
                [&good[..], doubled, &line, b"\r\n"].concat()
            }
            What::HeaderLine(octets) => {
                let line = [b"X-Long: ", "x".repeat(octets - 8).as_bytes(), b"\r\n"].concat();
                [line, good, b"x\r\n".to_vec()].concat()
            }
        };
        let mut letter = desk.letter("\n");
        letter.content = content;
        if !letter.content.is_ascii() {
            letter = letter.parameters(&["BODY=8BITMIME"]);
        }
        letter.carriage = Carriage::Verbatim;
        letter
    }
}

/// What follows a false end of content: a message of somebody else, if anybody takes it for one.
macro_rules! smuggled {
    ($end:literal) => {
        What::InBody(concat!(
            $end,
            "MAIL FROM:<mallory@evil.example>\r\nRCPT TO:<smuggled@b.nl>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n"
        ).as_bytes())
    };
}

const fn malformed(name: &'static str, what: What) -> Flaw {
    Flaw { name, requirement: "SMTP-007", reason: "content_malformed", what }
}

const fn too_long(name: &'static str, what: What) -> Flaw {
    Flaw { name, requirement: "SMTP-008", reason: "line_too_long", what }
}

const FLAWS: &[Flaw] = &[
    malformed("bare-lf", What::InBody(b"\n")),
    malformed("bare-cr", What::InBody(b"\r")),
    malformed("nul", What::InBody(b"\0")),
    malformed("bare-lf-in-header", What::InHeader(b"\n")),
    malformed("bare-lf-and-field-in-header", What::InHeader(b"\nBcc: x\n")),
    malformed("bare-cr-in-header", What::InHeader(b"\r")),
    malformed("nul-in-header", What::InHeader(b"\0")),
    malformed("lf-only", What::LfOnly),
    malformed("cr-before-crlf", What::InBody(b"\r\r\n")),
    malformed("lf-before-cr", What::InBody(b"\n\r")),
    malformed("cr-at-end", What::AtEnd(b"\r")),
    malformed("lf-at-end", What::AtEnd(b"\n")),
    malformed("nul-at-end", What::AtEnd(b"\0\r\n")),
    malformed("lf-after-much", What::AfterMuch(b"\n")),
    malformed("nul-after-much", What::AfterMuch(b"\0")),
    malformed("false-end-lf-lf", smuggled!("\n.\n")),
    malformed("false-end-lf-crlf", smuggled!("\n.\r\n")),
    malformed("false-end-crlf-lf", smuggled!("\r\n.\n")),
    malformed("false-end-cr-cr", smuggled!("\r.\r")),
    malformed("false-end-cr-crlf", smuggled!("\r.\r\n")),
    malformed("false-end-crlf-cr", smuggled!("\r\n.\r")),
    malformed("false-end-lf-cr", smuggled!("\n.\r")),
    malformed("false-end-nul", smuggled!("\r\n\0.\r\n")),
    too_long("line-of-999", What::Line(b'x', 999)),
    too_long("line-of-999-with-dot", What::Line(b'.', 999)),
    too_long("line-of-999-8-bit", What::Line(0xE9, 999)),
    too_long("line-of-a-megabyte", What::Line(b'x', 1_000_000)),
    too_long("header-line-of-999", What::HeaderLine(999)),
];

/// All flaws.
pub fn flaws() -> impl Iterator<Item = &'static Flaw> {
    FLAWS.iter()
}
