//! Real mail, in all its variety: messages that must cross a federation octet for octet, and ones that must not cross it.
//!
//! Data, not code of a test: whoever has a way to send a message and to see what arrived can use them, for any
//! implementation.
//!
//! ```
//! use testnet::letters::{Parties, cases};
//!
//! let parties = Parties { sender: "a.nl".into(), recipient: "b.nl".into() };
//! for case in cases() {
//!     let letter = case.write(&parties);
//!     // send `letter.content` by `letter.envelope` and `letter.carriage`; then, with what came out at the other end:
//!     let got = [b"Received: by b.nl; today\r\n", &*letter.expected()].concat();
//!     assert_eq!(letter.difference(&got), None, "{}: {}", case.name, case.about);
//! }
//! ```
//!
//! # Guarantees
//! - A case writes the same letter each time, and no two letters have the same first recipient, so that a letter is found
//!   again by its envelope, however damaged it may be.
//! - Every letter keeps to the protocol (`spec/03-transport.md`): lines end with CRLF, have at most 998 octets, and hold no NUL;
//!   its `From:` is of the sender's domain. What is odd about it is allowed.
//! - Every [`Flaw`] breaks one rule, and says which.

mod body;
mod envelope;
mod flaw;
mod header;
mod mime;
mod practice;
mod size;

use std::fmt::Write as _;

use crate::net::client::{Carriage, Envelope, Recipient};
use crate::net::expect::added_fields;

pub use flaw::{Flaw, flaws};

/// Between whom the letters go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parties {
    /// Mail domain of the sender.
    pub sender: String,
    /// Mail domain of the recipients.
    pub recipient: String,
}

/// How to write one letter.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Its name: lower-case letters, digits and hyphens.
    pub name: &'static str,
    /// What could be lost.
    pub about: &'static str,
    how: fn(&Desk<'_>) -> Letter,
}

impl Case {
    /// Writes it.
    #[must_use]
    pub fn write(&self, parties: &Parties) -> Letter {
        (self.how)(&Desk { name: self.name, parties })
    }
}

/// All letters, the small ones first.
pub fn cases() -> impl Iterator<Item = &'static Case> {
    [body::CASES, header::CASES, mime::CASES, practice::CASES, envelope::CASES, size::CASES]
        .into_iter()
        .flatten()
}

/// A letter ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Sender and recipients with their parameters.
    pub envelope: Envelope,
    /// How its content is sent.
    pub carriage: Carriage,
    /// Its content as it is given to the first server.
    pub content: Vec<u8>,
}

impl Letter {
    /// The content as it must arrive: as it was sent, with the CRLF that a last line without one is given (SMTP-026).
    #[must_use]
    pub fn expected(&self) -> Vec<u8> {
        let mut expected = self.content.clone();
        if !expected.is_empty() && !expected.ends_with(b"\r\n") {
            expected.extend_from_slice(b"\r\n");
        }
        expected
    }

    /// What is other than expected in what arrived, the fields on top aside that a node may add (`spec/07-handoff.md`).
    #[must_use]
    pub fn difference(&self, got: &[u8]) -> Option<String> {
        added_fields(got, &self.expected()).err()
    }

    /// The addresses of its recipients, in the order of RCPT.
    pub fn recipients(&self) -> impl Iterator<Item = &str> {
        self.envelope.recipients.iter().map(|recipient| recipient.address.as_str())
    }

    fn parameters(mut self, parameters: &[&str]) -> Self {
        self.envelope.parameters.extend(parameters.iter().map(|&parameter| parameter.to_owned()));
        self
    }

    fn from(mut self, sender: impl Into<String>) -> Self {
        self.envelope.sender = sender.into();
        self
    }

    /// Replaces the recipients.
    fn to(mut self, recipients: impl IntoIterator<Item = String>) -> Self {
        let plain = |address| Recipient { address, parameters: Vec::new() };
        self.envelope.recipients = recipients.into_iter().map(plain).collect();
        self
    }

    /// Sets the parameters of the last recipient.
    fn rcpt_parameters(mut self, parameters: &[&str]) -> Self {
        if let Some(recipient) = self.envelope.recipients.last_mut() {
            recipient.parameters = parameters.iter().map(|&parameter| parameter.to_owned()).collect();
        }
        self
    }

    fn in_chunks_of(mut self, octets: usize) -> Self {
        self.carriage = Carriage::Chunks(octets);
        self
    }
}

/// Where a letter is written.
struct Desk<'a> {
    name: &'a str,
    parties: &'a Parties,
}

impl Desk<'_> {
    fn alice(&self) -> String {
        format!("alice@{}", self.parties.sender)
    }

    /// The first recipient: nobody else's.
    fn bob(&self) -> String {
        self.at_recipient(self.name)
    }

    fn at_recipient(&self, local: &str) -> String {
        format!("{local}@{}", self.parties.recipient)
    }

    /// `From:`, `To:`, `Date:` and `Message-ID:`, as every letter has them that does not say otherwise.
    fn head(&self) -> String {
        let mut head = format!("From: Alice <{}>\nTo: Bob <{}>\n", self.alice(), self.bob());
        head.push_str("Date: Sun, 22 Nov 2026 12:00:00 +0100\n");
        // Writing to a String does not fail.
        let _ = writeln!(head, "Message-ID: <{}@{}>", self.name, self.parties.sender);
        head
    }

    /// A letter with the usual head. `rest` goes on from there: further fields, an empty line, the body. Its LF become CRLF.
    fn letter(&self, rest: impl AsRef<[u8]>) -> Letter {
        self.whole([self.head().as_bytes(), rest.as_ref()].concat())
    }

    /// A letter that is written from its first octet. Its LF become CRLF.
    fn whole(&self, text: impl AsRef<[u8]>) -> Letter {
        let content = crlf(text.as_ref());
        let envelope = Envelope::plain(&self.alice(), &self.bob(), &content);
        Letter { envelope, carriage: Carriage::Data, content }
    }
}

fn crlf(text: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(text.len() + text.len() / 32);
    for octet in text {
        if *octet == b'\n' {
            lines.push(b'\r');
        }
        lines.push(*octet);
    }
    lines
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn parties() -> Parties {
        Parties { sender: "a.nl".into(), recipient: "b.nl".into() }
    }

    #[test]
    fn there_are_many_and_each_is_another_one() {
        let names: BTreeSet<_> = cases().map(|case| case.name).collect();
        assert_eq!(names.len(), cases().count(), "a name twice");
        assert!(names.len() >= 150, "{}", names.len());
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(names.iter().all(|name| name.chars().all(plain)));
        let mut firsts = BTreeSet::new();
        let mut contents = BTreeSet::new();
        for case in cases() {
            let letter = case.write(&parties());
            assert!(firsts.insert(letter.recipients().next().unwrap().to_owned()), "{}", case.name);
            assert!(contents.insert(letter.content), "{}", case.name);
        }
    }

    #[test]
    fn every_letter_keeps_to_the_rules_of_content() {
        for case in cases() {
            let letter = case.write(&parties());
            assert_eq!(letter, case.write(&parties()), "{}", case.name);
            let expected = letter.expected();
            assert!(!expected.contains(&0), "{}: a NUL", case.name);
            for line in expected.split_inclusive(|octet| *octet == b'\n') {
                let text = line.strip_suffix(b"\r\n").unwrap_or_else(|| panic!("{}: {line:?}", case.name));
                assert!(!text.contains(&b'\r') && text.len() <= 998, "{}: {} octets", case.name, text.len());
            }
            let eight = letter.envelope.parameters.iter().any(|parameter| parameter == "BODY=8BITMIME");
            assert!(eight || letter.content.is_ascii(), "{}", case.name);
            let utf8 = letter.envelope.parameters.iter().any(|parameter| parameter == "SMTPUTF8");
            let addresses = letter.recipients().chain([letter.envelope.sender.as_str()]);
            assert!(utf8 || addresses.into_iter().all(str::is_ascii), "{}", case.name);
        }
    }

    #[test]
    fn every_flaw_breaks_a_rule() {
        for flaw in flaws() {
            let letter = flaw.write(&parties());
            let content = String::from_utf8_lossy(&letter.content).replace("\r\n", "\n");
            let long = content.split('\n').any(|line| line.len() > 998);
            let bare = content.contains(['\r', '\0'])
                || letter.content.windows(2).any(|two| two[1] == b'\n' && two[0] != b'\r');
            assert!(long || bare, "{}", flaw.name);
            assert_eq!(long && !bare, flaw.requirement == "SMTP-008", "{}", flaw.name);
        }
    }

    #[test]
    fn a_difference_of_one_octet_is_one() {
        let letter = cases().next().unwrap().write(&parties());
        let sent = letter.expected();
        assert_eq!(letter.difference(&sent), None);
        for at in [0, sent.len() / 2, sent.len() - 1] {
            let mut got = sent.clone();
            got[at] ^= 0x20;
            assert!(letter.difference(&got).is_some());
            got.remove(at);
            assert!(letter.difference(&got).is_some());
        }
    }
}
