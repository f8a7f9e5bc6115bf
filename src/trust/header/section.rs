//! A header section, cut into fields.

use crate::model::Reason;

use super::{HeaderFault, from_fault};

/// One field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::trust) struct Field<'s> {
    /// The name, without blanks behind it.
    pub name: &'s [u8],
    /// Whether blanks stood between name and colon (RFC 5322 section 4.5).
    pub blank_before_colon: bool,
    /// Everything behind the colon, folding included, without the last CRLF.
    pub value: &'s [u8],
    /// The whole field as it came, without the last CRLF.
    pub raw: &'s [u8],
}

impl Field<'_> {
    /// Whether the field has this name, in any case.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// The value on one line: folding undone, blanks kept (RFC 5322 section 2.2.3).
    pub fn unfolded(&self) -> Vec<u8> {
        self.value.iter().copied().filter(|octet| !matches!(octet, b'\r' | b'\n')).collect()
    }

    /// Whether the value is this word, in any case.
    pub fn text_is(&self, word: &str) -> bool {
        self.unfolded().trim_ascii().eq_ignore_ascii_case(word.as_bytes())
    }

    /// The value on one line with a CRLF behind it, as a parser of header values expects it.
    pub fn line_for_parser(&self) -> Vec<u8> {
        let mut line = self.unfolded();
        line.extend_from_slice(b"\r\n");
        line
    }
}

/// Cuts the section into at most `most` fields.
///
/// Everything in it must be a field or the continuation of one. Readers disagree on what a stray line means (some end
/// the header section there), so whoever wants to show one sender to us and another to the recipient starts with one.
pub(in crate::trust) fn fields(section: &[u8], most: usize) -> Result<Vec<Field<'_>>, HeaderFault> {
    let mut fields = Vec::new();
    let mut rest = section;
    while !rest.is_empty() {
        let end = field_end(rest)?;
        let (field, tail) = rest.split_at(end);
        rest = tail;
        if fields.len() == most {
            let detail = format!("the header section has more than {most} fields");
            return Err(HeaderFault::new(Reason::HeaderTooLarge, detail));
        }
        let field = field.strip_suffix(b"\r\n").unwrap_or(field);
        fields.push(cut(field).ok_or_else(|| {
            from_fault(format!("what follows field {} of the header section is no field", fields.len()))
        })?);
    }
    Ok(fields)
}

/// Where the field at the start of `octets` ends, its CRLF included.
fn field_end(octets: &[u8]) -> Result<usize, HeaderFault> {
    let malformed =
        |what: &str| Err(HeaderFault::new(Reason::ContentMalformed, format!("{what} in the header section")));
    let mut at = 0;
    while let Some(found) = octets[at..].iter().position(|octet| matches!(octet, b'\r' | b'\n' | 0)) {
        let here = at + found;
        if octets[here] == 0 {
            return malformed("a NUL");
        }
        if !octets[here..].starts_with(b"\r\n") {
            return malformed(if octets[here] == b'\n' { "a bare LF" } else { "a bare CR" });
        }
        at = here + 2;
        if !matches!(octets.get(at), Some(b' ' | b'\t')) {
            return Ok(at);
        }
    }
    Ok(octets.len())
}

fn cut(field: &[u8]) -> Option<Field<'_>> {
    let colon = memchr::memchr(b':', field)?;
    let (written, value) = (&field[..colon], &field[colon + 1..]);
    let name = written.trim_ascii_end();
    let is_name = !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
    // A fold before the colon is one of the places where readers part ways.
    let on_one_line = written.iter().all(|octet| !matches!(octet, b'\r' | b'\n'));
    (is_name && on_one_line).then_some(Field {
        name,
        blank_before_colon: name.len() != written.len(),
        value,
        raw: field,
    })
}
