//! Whom a reply to a message would go to (RPLY family; RFC 5322 section 3.6.3).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::section::Field;
use super::{HeaderFault, HeaderLimits, end_of_section, fields, from_fault, mailbox, named, only};
use crate::model::{Address, Reason};

/// A field whose addresses a reply may go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ReplyField {
    /// Where the author wants replies to go.
    #[serde(rename = "Reply-To")]
    ReplyTo,
    /// The author; where replies go without `Reply-To:`.
    From,
    /// Who else gets a reply to all.
    To,
    /// The same.
    Cc,
}

impl ReplyField {
    const ALL: [Self; 4] = [Self::ReplyTo, Self::From, Self::To, Self::Cc];

    /// The name of the field.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReplyTo => "Reply-To",
            Self::From => "From",
            Self::To => "To",
            Self::Cc => "Cc",
        }
    }
}

impl fmt::Display for ReplyField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An address in one of these fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correspondent {
    /// Where it stands.
    pub field: ReplyField,
    /// The address.
    pub address: Address,
}

/// What could not be read in a field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldFault {
    /// The field.
    pub field: ReplyField,
    /// What is wrong with it; quotes no content.
    pub what: String,
}

/// The addresses in a header section that a reply may go to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Correspondents {
    /// The addresses, by field, in the order in which they stand there; none twice in a field.
    pub people: Vec<Correspondent>,
    /// What could not be read.
    pub faults: Vec<FieldFault>,
    /// How many addresses there are beyond the limit.
    pub beyond: usize,
    /// Who sent the message for its authors (RPLY-006).
    pub delegate: Option<Address>,
}

impl Correspondents {
    fn fault(&mut self, field: ReplyField, what: impl Into<String>) {
        self.faults.push(FieldFault { field, what: what.into() });
    }

    fn add(&mut self, field: ReplyField, address: Address, most: usize) {
        let found = Correspondent { field, address };
        if self.people.contains(&found) {
            return;
        }
        if self.people.len() == most {
            self.beyond += 1;
        } else {
            self.people.push(found);
        }
    }

    fn read(&mut self, field: ReplyField, written: &Field<'_>, most: usize) {
        match mailbox::list(written) {
            Err(what) => self.fault(field, what),
            Ok(entries) => {
                for entry in entries {
                    match entry {
                        Ok(address) => self.add(field, address, most),
                        Err(what) => self.fault(field, what),
                    }
                }
            }
        }
    }
}

/// Reads a header section for at most `most` addresses. One thing that can't be read hides nothing else.
///
/// # Errors
/// It is no header section at all.
pub fn correspondents(
    section: &[u8],
    limits: HeaderLimits,
    most: usize,
) -> Result<Correspondents, HeaderFault> {
    let fields = fields(section, limits.fields)?;
    let mut found = Correspondents::default();
    for field in ReplyField::ALL {
        let name = field.as_str();
        if field == ReplyField::From {
            // As a node judges it; what it can't read it does not take.
            match read_from(&fields) {
                Ok((from, delegate)) => {
                    found.delegate = delegate;
                    from.into_iter().for_each(|address| found.add(field, address, most));
                }
                Err(fault) => found.fault(field, fault.detail),
            }
            continue;
        }
        let mut count = 0;
        for written in named(&fields, name) {
            count += 1;
            found.read(field, written, most);
        }
        if count > 1 {
            found.fault(
                field,
                format!("there are {count} {name}: fields, and programs differ in which they read"),
            );
        }
    }
    Ok(found)
}

fn read_from(fields: &[Field<'_>]) -> Result<(Vec<Address>, Option<Address>), HeaderFault> {
    let from = only(fields, "from")?.ok_or_else(|| from_fault("there is no From: field"))?;
    let from = mailbox::from(from)?;
    let sender = only(fields, "sender")?.map(mailbox::sender).transpose()?;
    let delegate = sender.filter(|sender| !from.contains(sender));
    Ok((from, delegate))
}

/// Takes the octets of a message until its header section is complete, and holds no more than that.
#[derive(Debug)]
pub struct SectionReader {
    octets: Vec<u8>,
    most: usize,
    complete: bool,
}

impl SectionReader {
    /// For a section of at most this many octets.
    #[must_use]
    pub const fn new(most: usize) -> Self {
        Self { octets: Vec::new(), most, complete: false }
    }

    /// Takes the next octets; whether the section is complete.
    ///
    /// # Errors
    /// The section is longer than it may be.
    pub fn push(&mut self, octets: &[u8]) -> Result<bool, HeaderFault> {
        if self.complete {
            return Ok(true);
        }
        let seen = self.octets.len();
        self.octets.extend_from_slice(octets);
        let end = end_of_section(&self.octets, seen);
        if end.unwrap_or(self.octets.len()) > self.most {
            let detail = format!("the header section is longer than {} octets", self.most);
            return Err(HeaderFault::new(Reason::HeaderTooLarge, detail));
        }
        if let Some(end) = end {
            self.octets.truncate(end);
            self.complete = true;
        }
        Ok(self.complete)
    }

    /// The section; all of the octets where no empty line has come.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.octets
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn read(section: &str) -> Correspondents {
        correspondents(section.as_bytes(), HeaderLimits::default(), 100).unwrap()
    }

    /// `Field: address` of each, and `Field! fault` of each.
    fn lines(section: &str) -> Vec<String> {
        let found = read(section);
        let people = found.people.iter().map(|one| format!("{}: {}", one.field, one.address));
        people.chain(found.faults.iter().map(|fault| format!("{}! {}", fault.field, fault.what))).collect()
    }

    /// Proves: +RPLY-002
    #[test]
    fn the_addresses_of_four_fields_are_found_in_their_order() {
        let section = "Received: from x\r\nTo: piet@b.nl,\r\n kees@c.nl\r\nFrom: Jan <jan@a.nl>\r\n\
                       Subject: jan@nowhere.nl\r\nCC: piet@b.nl\r\nreply-to: =?utf-8?q?Post?= <post@a.nl>\r\n";
        let expected =
            ["Reply-To: post@a.nl", "From: jan@a.nl", "To: piet@b.nl", "To: kees@c.nl", "Cc: piet@b.nl"];
        assert_eq!(lines(section), expected);
    }

    /// Proves: +RPLY-003
    #[test]
    fn groups_quotes_comments_and_scripts_of_all_the_world_are_read() {
        for (written, expected) in [
            ("Team: jan@a.nl, Piet <piet@b.nl>; , kees@c.nl", &["jan@a.nl", "piet@b.nl", "kees@c.nl"][..]),
            ("\"Group, quoted\":jan@a.nl;", &["jan@a.nl"]),
            ("undisclosed-recipients:;", &[]),
            (",, jan@a.nl ,", &["jan@a.nl"]),
            ("\"jan de vries\"@a.nl", &["\"jan de vries\"@a.nl"]),
            ("\"a@b,c;d\"@a.nl", &["\"a@b,c;d\"@a.nl"]),
            ("(who (really)) jan@a.nl (yes, he)", &["jan@a.nl"]),
            ("\"Vries, Jan de\" <jan@a.nl>", &["jan@a.nl"]),
            ("jan@bücher.nl, piët@B.NL", &["jan@xn--bcher-kva.nl", "piët@b.nl"]),
            ("jan@a.nl, jan@a.nl", &["jan@a.nl"]),
        ] {
            let found = read(&format!("From: x@a.nl\r\nCc: {written}\r\n"));
            let people: Vec<_> = found.people.iter().skip(1).map(|one| one.address.to_string()).collect();
            assert_eq!(people, expected, "{written}");
            assert_eq!(found.faults, [], "{written}");
        }
    }

    /// Proves: -RPLY-003
    #[test]
    fn what_cannot_be_read_is_said_and_hides_nothing_else() {
        for (written, people, fault) in [
            ("jan@a.nl, not an address, kees@c.nl", 2, "has blanks or comments inside an address"),
            ("jan@a.nl, nobody", 1, "has an entry that is no address"),
            ("jan@[192.0.2.1], kees@c.nl", 1, "holds an address literal"),
            ("<jan@a.nl, kees@c.nl", 1, "does not end its entry"),
            ("Team: jan@a.nl", 1, "has a group that does not end"),
            ("jan@-a-.nl", 0, "holds an address that is malformed"),
            ("(for ever", 0, "has a comment that does not end"),
            ("\"for ever <jan@a.nl>", 0, "has a quoted string that does not end"),
            ("jan@a.nl <piet@b.nl>", 0, "with characters that must be quoted"),
            ("a@b@c.nl", 0, "has an entry that is no address"),
        ] {
            let found = read(&format!("From: x@a.nl\r\nCc: {written}\r\nTo: to@d.nl\r\n"));
            assert_eq!(found.people.len(), people + 2, "{written}: {found:?}");
            assert_eq!(found.faults.len(), 1, "{written}: {found:?}");
            assert_eq!(found.faults[0].field, ReplyField::Cc);
            assert!(found.faults[0].what.contains(fault), "{written}: {found:?}");
        }
        assert_eq!(lines("Cc: jan@a.nl\r\n"), ["Cc: jan@a.nl", "From! there is no From: field"]);
        let twice = lines("From: x@a.nl\r\nCc: jan@a.nl\r\nCc: piet@b.nl\r\n");
        assert_eq!(twice[..3], ["From: x@a.nl", "Cc: jan@a.nl", "Cc: piet@b.nl"]);
        assert!(twice[3].starts_with("Cc! there are 2 Cc: fields"), "{twice:?}");
        let octets =
            correspondents(b"From: x@a.nl\r\nCc: \xff@a.nl\r\n", HeaderLimits::default(), 9).unwrap();
        assert_eq!(octets.faults[0].what, "is neither ASCII nor UTF-8");
        assert!(correspondents(b"no header\r\n", HeaderLimits::default(), 9).is_err());
    }

    /// Proves: -RPLY-004
    #[test]
    fn more_addresses_than_the_limit_are_counted() {
        let many: Vec<String> = (0..12).map(|n| format!("p{n}@b.nl")).collect();
        let section = format!("From: x@a.nl\r\nTo: {}\r\n", many.join(", "));
        let found = correspondents(section.as_bytes(), HeaderLimits::default(), 10).unwrap();
        assert_eq!((found.people.len(), found.beyond), (10, 3));
    }

    /// Proves: +RPLY-006 -RPLY-006
    #[test]
    fn a_delegate_is_a_sender_who_is_no_author() {
        let delegate = |section: &str| read(section).delegate.map(|address| address.to_string());
        assert_eq!(
            delegate("From: dokter@a.nl\r\nSender: assistent@a.nl\r\n").as_deref(),
            Some("assistent@a.nl")
        );
        assert_eq!(delegate("From: jan@a.nl\r\n"), None);
        assert_eq!(delegate("From: jan@a.nl\r\nSender: jan@a.nl\r\n"), None);
        assert_eq!(delegate("From: jan@a.nl, piet@a.nl\r\nSender: piet@a.nl\r\n"), None);
    }

    #[test]
    fn a_section_ends_with_the_empty_line_however_it_comes() {
        let message = b"From: x@a.nl\r\nTo: y@b.nl\r\n\r\nCc: z@c.nl\r\n\r\n";
        for step in 1..message.len() {
            let mut reader = SectionReader::new(1000);
            for part in message.chunks(step) {
                if reader.push(part).unwrap() {
                    break;
                }
            }
            assert_eq!(reader.finish(), message[..26], "in steps of {step}");
        }
        let mut whole = SectionReader::new(30);
        assert!(whole.push(&message[..26]).is_ok_and(|complete| !complete));
        assert!(whole.push(b"X: long enough\r\n").is_err());
        let mut empty = SectionReader::new(10);
        assert!(empty.push(b"\r\nbody").unwrap());
        assert!(empty.finish().is_empty());
    }

    proptest! {
        /// Whatever stands there, it is read or said, and within the limit.
        #[test]
        fn no_field_is_too_strange(value in "[ -~\u{e9}\u{4e2d}]{0,80}", most in 0_usize..4) {
            let section = format!("From: x@a.nl\r\nReply-To: {value}\r\nCc: {value}\r\n");
            let found = correspondents(section.as_bytes(), HeaderLimits::default(), most).unwrap();
            prop_assert!(found.people.len() <= most);
        }
    }
}
