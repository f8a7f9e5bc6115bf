//! Signing what leaves for another provider (`spec/10-signing.md`; RFC 6376, 8301, 8463).
//!
//! # Guarantees
//! - A signature covers the octets that are sent: the header section as it is stored, and the body as it streamed past
//!   ([`Signable`]). Memory holds the header section and nothing of the body.
//! - Every field that says who, to whom, what and in which form is signed once more than it occurs, so another one of the
//!   same name breaks the signature (SIGN-002, attack class T7).
//!
//! # Errors
//! [`Unsigned`]: this message gets no signature; it is recorded, never hidden.

mod key;
#[cfg(test)]
mod tests;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

pub use key::{RSA_BITS_MAX, RSA_BITS_MIN, SigningAlgorithm, SigningKey, SigningKeyError};

use super::canonical::{BodyHasher, Form, relaxed_field};
use crate::model::DomainName;

/// The fields that are signed, once more than they occur (SIGN-002).
pub const SIGNED_FIELDS: [&str; 10] = [
    "From",
    "To",
    "Cc",
    "Subject",
    "Date",
    "Message-ID",
    "Reply-To",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
];

/// Names in `h=` at most. A signature with more costs whoever verifies it too much, and some then do not.
const NAMES_MAX: usize = 200;
/// Octets of base64 on one line.
const LINE_OCTETS: usize = 72;
const NAME: &str = "DKIM-Signature";

/// Why a message gets no signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsigned {
    /// More fields than a signature can cover.
    #[error("its header has {0} fields that would have to be signed; {NAMES_MAX} can be")]
    TooManyFields(usize),
    /// The library failed.
    #[error("the key did not sign")]
    Key,
}

/// Content that streams past and is to be signed.
#[derive(Default)]
pub struct Signable {
    section: Vec<u8>,
    /// Set once the empty line has come.
    body: Option<BodyHasher>,
}

impl Signable {
    /// The next octets of the content.
    ///
    /// The header section is held until it ends; whoever gives content bounds it.
    pub fn push(&mut self, octets: &[u8]) {
        if let Some(body) = &mut self.body {
            return body.push(octets);
        }
        let seen = self.section.len().saturating_sub(3);
        self.section.extend_from_slice(octets);
        let end = if self.section.starts_with(b"\r\n") {
            Some((0, 2))
        } else {
            memchr::memmem::find(&self.section[seen..], b"\r\n\r\n").map(|at| (seen + at + 2, seen + at + 4))
        };
        if let Some((end, start)) = end {
            let mut body = BodyHasher::new(Form::Relaxed);
            body.push(&self.section[start..]);
            self.section.truncate(end);
            self.body = Some(body);
        }
    }

    /// No more octets.
    #[must_use]
    pub fn finish(self) -> Content {
        let body = self.body.unwrap_or_else(|| BodyHasher::new(Form::Relaxed));
        Content { section: self.section, body_hash: STANDARD.encode(body.finish().0) }
    }
}

/// What of a content a signature is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    section: Vec<u8>,
    body_hash: String,
}

impl Content {
    /// Whether its header section has a field of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        cut(&self.section).iter().any(|field| field.is(name))
    }

    /// Puts a field of ours on top.
    pub fn put_on_top(&mut self, name: &str, value: &str) {
        self.section.splice(..0, format!("{name}: {value}\r\n").into_bytes());
    }
}

/// In whose name a signature is made.
#[derive(Clone, Copy, Debug)]
pub struct Signer<'a> {
    /// `d=`
    pub domain: &'a DomainName,
    /// `s=`
    pub selector: &'a str,
    /// The key at selector and domain.
    pub key: &'a SigningKey,
    /// A field that is signed beside those of the table: the NTA header that is configured (SIGN-013).
    pub also: Option<&'a str>,
}

impl Signer<'_> {
    /// The `DKIM-Signature:` field over this content: its name, and its value without the blank behind the colon and without
    /// the last CRLF.
    ///
    /// # Errors
    /// [`Unsigned`]
    pub fn sign(&self, content: &Content, at: Timestamp) -> Result<(String, String), Unsigned> {
        let fields = cut(&content.section);
        let mut names: Vec<&str> = Vec::new();
        for name in SIGNED_FIELDS.into_iter().chain(self.also) {
            let occurs = fields.iter().filter(|field| field.is(name)).count();
            names.extend(std::iter::repeat_n(name, occurs + 1));
        }
        if names.len() > NAMES_MAX {
            return Err(Unsigned::TooManyFields(names.len()));
        }
        let mut value = format!(
            "v=1; a={}; c=relaxed/relaxed; d={};\r\n s={}; t={};\r\n h=",
            self.key.algorithm().as_str(),
            self.domain,
            self.selector,
            at.as_second(),
        );
        let mut column = 3;
        for (index, name) in names.iter().enumerate() {
            if index > 0 {
                value.push(':');
            }
            if column + name.len() + 1 > LINE_OCTETS {
                value.push_str("\r\n ");
                column = 1;
            }
            value.push_str(name);
            column += name.len() + 1;
        }
        value.push_str(&format!(";\r\n bh={};\r\n b=", content.body_hash));
        let covered = covered(&fields, &names, &value);
        let signature = self.key.sign(&covered).ok_or(Unsigned::Key)?;
        for (index, line) in signature.as_bytes().chunks(LINE_OCTETS).enumerate() {
            if index > 0 {
                value.push_str("\r\n ");
            }
            value.push_str(&String::from_utf8_lossy(line));
        }
        Ok((NAME.to_owned(), value))
    }
}

/// A field of a header section.
struct Field<'s> {
    name: &'s [u8],
    value: &'s [u8],
}

impl Field<'_> {
    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// The fields of a section, top to bottom. It was read before, and holds nothing but fields.
fn cut(section: &[u8]) -> Vec<Field<'_>> {
    let mut fields = Vec::new();
    let mut start = 0;
    while start < section.len() {
        let ends = memchr::memmem::find_iter(&section[start..], b"\r\n").map(|at| start + at + 2);
        let mut ends = ends.filter(|&end| !matches!(section.get(end), Some(b' ' | b'\t')));
        let end = ends.next().unwrap_or(section.len());
        let field = &section[start..end];
        if let Some(colon) = memchr::memchr(b':', field) {
            fields.push(Field { name: field[..colon].trim_ascii_end(), value: &field[colon + 1..] });
        }
        start = end;
    }
    fields
}

/// The octets that a signature is made over (RFC 6376 section 3.7): for each name the lowest field of it that was not taken
/// yet, nothing where there is none left, and at last the signature's own field, whose value ends with an empty `b=`.
fn covered(fields: &[Field<'_>], names: &[&str], value: &str) -> Vec<u8> {
    let mut covered = Vec::new();
    let mut taken = vec![false; fields.len()];
    for name in names {
        let mut below = (0..fields.len()).rev();
        if let Some(index) = below.find(|&index| !taken[index] && fields[index].is(name)) {
            taken[index] = true;
            relaxed_field(fields[index].name, fields[index].value, &mut covered);
            covered.extend_from_slice(b"\r\n");
        }
    }
    relaxed_field(NAME.as_bytes(), value.as_bytes(), &mut covered);
    covered
}
