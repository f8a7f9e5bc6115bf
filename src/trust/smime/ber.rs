//! BER, bounded: from what mail programs write to DER, and reading that.
//!
//! Several mail programs write the outer layers of a signature with indefinite lengths and strings in pieces (X.690 sections
//! 8.1.3.6 and 8.7.3). [`to_der`] writes lengths in their shortest definite form and joins such strings; order and everything
//! else stays as it came. What is DER already comes out unchanged.

use jiff::Timestamp;

/// Deepest nesting that is read. A signature with its certificates needs about 15.
const DEPTH_MAX: usize = 32;
/// Elements that are read at most. Sixteen large certificates have some thousands.
const ELEMENTS_MAX: usize = 50_000;

pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const NULL: u8 = 0x05;
pub(super) const OID: u8 = 0x06;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;
const CONSTRUCTED: u8 = 0x20;

/// The octets are not what they should be; says in what way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub(super) &'static str);

const CUT_OFF: Malformed = Malformed("the signature is cut off");

/// One element of BER as DER.
///
/// # Errors
/// The octets are no single element, or one that nests too deep or has too many parts.
pub(super) fn to_der(input: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut reader = Ber { rest: input, elements: 0 };
    let mut out = Vec::with_capacity(input.len());
    if !reader.element(0, &mut out)? {
        return Err(Malformed("the signature begins with its end"));
    }
    if reader.rest.is_empty() { Ok(out) } else { Err(Malformed("something follows the signature")) }
}

struct Ber<'a> {
    rest: &'a [u8],
    elements: usize,
}

/// How long an element is.
enum Length {
    Definite(usize),
    Indefinite,
}

impl Ber<'_> {
    /// Reads one element and writes it; `false` when it is the end of contents (X.690 section 8.1.5).
    fn element(&mut self, depth: usize, out: &mut Vec<u8>) -> Result<bool, Malformed> {
        self.elements += 1;
        if depth > DEPTH_MAX || self.elements > ELEMENTS_MAX {
            return Err(Malformed("the signature has too many parts"));
        }
        let tag = self.octet()?;
        if tag & 0x1f == 0x1f {
            return Err(Malformed("the signature has a tag of several octets"));
        }
        let length = self.length()?;
        if tag == 0 {
            return match length {
                Length::Definite(0) => Ok(false),
                _ => Err(Malformed("the signature has an end with content")),
            };
        }
        if tag & CONSTRUCTED == 0 {
            let Length::Definite(length) = length else {
                return Err(Malformed("the signature has a value without length"));
            };
            let content = self.take(length)?;
            push(out, tag, content);
            return Ok(true);
        }
        let mut content = Vec::new();
        match length {
            Length::Definite(length) => {
                let mut inner = Ber { rest: self.take(length)?, elements: self.elements };
                while !inner.rest.is_empty() {
                    if !inner.element(depth + 1, &mut content)? {
                        return Err(Malformed("the signature has an end where none belongs"));
                    }
                }
                self.elements = inner.elements;
            }
            Length::Indefinite => while self.element(depth + 1, &mut content)? {},
        }
        if tag == OCTET_STRING | CONSTRUCTED {
            push(out, OCTET_STRING, &joined(&content)?);
        } else {
            push(out, tag, &content);
        }
        Ok(true)
    }

    fn octet(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }

    fn length(&mut self) -> Result<Length, Malformed> {
        match self.octet()? {
            0x80 => Ok(Length::Indefinite),
            short @ 0..0x80 => Ok(Length::Definite(usize::from(short))),
            long => {
                let count = usize::from(long & 0x7f);
                if count > 4 {
                    return Err(CUT_OFF);
                }
                let octets = self.take(count)?;
                Ok(Length::Definite(octets.iter().fold(0, |length, octet| length << 8 | usize::from(*octet))))
            }
        }
    }
}

impl<'a> Ber<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(CUT_OFF)?;
        self.rest = rest;
        Ok(taken)
    }
}

/// The pieces of a string as one.
fn joined(pieces: &[u8]) -> Result<Vec<u8>, Malformed> {
    let (mut whole, mut pieces) = (Vec::with_capacity(pieces.len()), Der::new(pieces));
    while let Some(piece) = pieces.next()? {
        if piece.tag != OCTET_STRING {
            return Err(Malformed("the signature has a string of pieces that are none"));
        }
        whole.extend_from_slice(piece.content);
    }
    Ok(whole)
}

/// Writes an element in DER.
pub(super) fn push(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    out.push(tag);
    let length = content.len();
    if length < 0x80 {
        out.push(u8::try_from(length).unwrap_or(0));
    } else {
        let octets = length.to_be_bytes();
        let significant = &octets[octets.iter().position(|octet| *octet != 0).unwrap_or(0)..];
        out.push(0x80 | u8::try_from(significant.len()).unwrap_or(0));
        out.extend_from_slice(significant);
    }
    out.extend_from_slice(content);
}

/// An element in DER.
pub(super) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 6);
    push(&mut out, tag, content);
    out
}

/// `Time`: two digits for the year from 1950 to 2049 (RFC 5652 section 11.3).
pub(super) fn time(at: Timestamp) -> Vec<u8> {
    let full = at.strftime("%Y%m%d%H%M%SZ").to_string();
    match full.get(..4).and_then(|year| year.parse::<u32>().ok()) {
        Some(1950..=2049) => element(UTC_TIME, &full.as_bytes()[2..]),
        _ => element(GENERALIZED_TIME, full.as_bytes()),
    }
}

/// The time of such an element: in seconds and in UTC, as that section asks for. Anything else is none.
pub(super) fn read_time(value: Tlv<'_>) -> Option<Timestamp> {
    let text = std::str::from_utf8(value.content).ok()?;
    let full = match (value.tag, text.len()) {
        (UTC_TIME, 13) if text < "50" => format!("20{text}"),
        (UTC_TIME, 13) => format!("19{text}"),
        (GENERALIZED_TIME, 15) => text.to_owned(),
        _ => return None,
    };
    let digits =
        full.strip_suffix('Z').filter(|digits| digits.bytes().all(|octet| octet.is_ascii_digit()))?;
    let civil = jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", digits).ok()?;
    civil.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

/// An element whose content is these, one after the other.
pub(super) fn constructed(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    element(tag, &parts.concat())
}

/// One element of DER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tlv<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
    /// Tag and length included.
    pub(super) raw: &'a [u8],
}

/// Reads elements of DER, one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    pub(super) const fn new(octets: &'a [u8]) -> Self {
        Self(octets)
    }

    /// The next element, if there is one.
    pub(super) fn next(&mut self) -> Result<Option<Tlv<'a>>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let mut reader = Ber { rest: self.0, elements: 0 };
        let tag = reader.octet()?;
        let Length::Definite(length) = reader.length()? else {
            return Err(Malformed("a length is indefinite"));
        };
        let content = reader.take(length)?;
        let (raw, rest) = self.0.split_at(self.0.len() - reader.rest.len());
        self.0 = rest;
        Ok(Some(Tlv { tag, content, raw }))
    }

    /// The next element, which has this tag.
    pub(super) fn need(&mut self, tag: u8) -> Result<Tlv<'a>, Malformed> {
        match self.next()? {
            Some(element) if element.tag == tag => Ok(element),
            _ => Err(Malformed("the signature has another form than CMS")),
        }
    }

    /// The next element if it has this tag.
    pub(super) fn optional(&mut self, tag: u8) -> Result<Option<Tlv<'a>>, Malformed> {
        if self.0.first() == Some(&tag) { self.next() } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pieces_and_open_ends_become_der_and_der_stays() {
        let open =
            [0x30, 0x80, 0x24, 0x80, 0x04, 1, b'a', 0x24, 4, 0x04, 0x82, 0, 0, 0x04, 1, b'b', 0, 0, 0, 0];
        let der = to_der(&open).unwrap();
        assert_eq!(der, [0x30, 4, 0x04, 2, b'a', b'b']);
        let open = [0x30, 0x80, 0x24, 0x80, 0x04, 1, b'a', 0x24, 0x80, 0x04, 0x81, 1, b'b', 0, 0, 0, 0, 0, 0];
        assert_eq!(to_der(&open).unwrap(), der);
        assert!(to_der(&open[..open.len() - 2]).is_err(), "one end is missing");
        assert!(to_der(&[0x30, 2, 0, 0]).is_err(), "an end where none belongs");
        assert_eq!(to_der(&der).unwrap(), der);
        let long = element(SEQUENCE, &element(OCTET_STRING, &[7; 70_000]));
        assert_eq!(to_der(&long).unwrap(), long);
    }

    /// Proves: -SMIME-002
    #[test]
    fn t27_what_nests_too_deep_or_has_too_many_parts_is_refused() {
        let deep = |depth: usize| (0..depth).fold(vec![NULL, 0], |inner, _| element(SEQUENCE, &inner));
        assert!(to_der(&deep(DEPTH_MAX)).is_ok());
        assert!(to_der(&deep(DEPTH_MAX + 1)).is_err());
        let endless = [SEQUENCE, 0x80].repeat(100_000);
        assert!(to_der(&endless).is_err());
        let many = element(SEQUENCE, &[NULL, 0].repeat(ELEMENTS_MAX));
        assert_eq!(to_der(&many), Err(Malformed("the signature has too many parts")));
    }

    proptest! {
        #[test]
        fn anything_is_read_or_refused_and_der_is_a_fixed_point(octets in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(der) = to_der(&octets) {
                prop_assert_eq!(to_der(&der).unwrap(), der);
            }
            let mut der = Der::new(&octets);
            while let Ok(Some(_)) = der.next() {}
        }
    }
}
