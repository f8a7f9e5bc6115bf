//! The header of a MIME entity, as far as S/MIME is concerned: its `Content-Type` and its transfer encoding (RFC 2045).
//!
//! Readers repair what is malformed, each in its own way, so what is not plain grammar is not repaired here but told as
//! something that can be read in two ways.

use super::lines::Line;

/// Longest field that is held; a `Content-Type` with all its parameters has some hundreds.
const FIELD_OCTETS_MAX: usize = 4096;
/// Parameters on which a verdict rests. In the forms of RFC 2231 readers differ, so these must be plain.
const DECISIVE: [&str; 4] = ["boundary", "protocol", "micalg", "smime-type"];

/// Gathers the two fields while the lines of a header pass.
#[derive(Debug, Default)]
pub(super) struct EntityHeader {
    kind: Gathered,
    encoding: Gathered,
    current: Option<Name>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Type,
    Encoding,
}

/// All values of one field name, one after the other.
#[derive(Debug, Default)]
struct Gathered {
    value: Vec<u8>,
    count: usize,
    too_long: bool,
}

impl Gathered {
    fn push(&mut self, octets: &[u8]) {
        let room = FIELD_OCTETS_MAX.saturating_sub(self.value.len());
        self.too_long |= room < octets.len();
        self.value.extend_from_slice(&octets[..room.min(octets.len())]);
    }
}

impl EntityHeader {
    /// The next line. The empty one, which ends the header, is not given.
    pub(super) fn line(&mut self, line: Line<'_>) {
        let Line { octets: line, begins, .. } = line;
        if !begins || matches!(line.first(), Some(b' ' | b'\t')) {
            self.push(line);
            return;
        }
        let colon = memchr::memchr(b':', line).unwrap_or(line.len());
        let name = line[..colon].trim_ascii_end();
        self.current = [("content-type", Name::Type), ("content-transfer-encoding", Name::Encoding)]
            .into_iter()
            .find_map(|(known, which)| name.eq_ignore_ascii_case(known.as_bytes()).then_some(which));
        if let Some(field) = self.field() {
            field.count += 1;
            field.push(b"\n");
        }
        self.push(line.get(colon + 1..).unwrap_or_default());
    }

    fn field(&mut self) -> Option<&mut Gathered> {
        match self.current? {
            Name::Type => Some(&mut self.kind),
            Name::Encoding => Some(&mut self.encoding),
        }
    }

    fn push(&mut self, octets: &[u8]) {
        if let Some(field) = self.field() {
            field.push(octets);
        }
    }

    /// What the `Content-Type` says; `None` when there is none.
    pub(super) fn content_type(&self) -> Option<Result<ContentType, Unreadable>> {
        let Gathered { value, count, too_long } = &self.kind;
        let unreadable = || {
            let text = String::from_utf8_lossy(value).to_ascii_lowercase();
            Err(Unreadable { about_smime: text.contains("pkcs7") })
        };
        match count {
            0 => None,
            1 if !too_long => Some(ContentType::read(value).map_or_else(unreadable, Ok)),
            _ => Some(unreadable()),
        }
    }

    /// Whether this is the transfer encoding, said once.
    pub(super) fn is_encoded(&self, word: &str) -> bool {
        self.encoding.count == 1 && self.encoding.value.trim_ascii().eq_ignore_ascii_case(word.as_bytes())
    }
}

/// A `Content-Type` that can be read in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    /// Whether it speaks of S/MIME at all.
    pub(super) about_smime: bool,
}

/// A `Content-Type` that is plain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ContentType {
    /// `type/subtype` in lower case.
    pub(super) media: String,
    parameters: Vec<(String, String)>,
}

impl ContentType {
    /// Reads a value (RFC 2045 section 5.1). Other than its grammar an unquoted value may hold what no quoted one needs, such
    /// as `=`: many write boundaries so. Comments are refused.
    pub(super) fn read(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?.trim();
        let (media, mut rest) = text.split_at(text.find(';').unwrap_or(text.len()));
        let media = media.trim().to_ascii_lowercase();
        let (kind, subtype) = media.split_once('/')?;
        if !is_token(kind) || !is_token(subtype) {
            return None;
        }
        let mut parameters: Vec<(String, String)> = Vec::new();
        loop {
            rest = rest.trim_start();
            rest = match rest.strip_prefix(';') {
                Some(after) => after.trim_start(),
                None if rest.is_empty() => break,
                None => return None,
            };
            if rest.is_empty() || rest.starts_with(';') {
                continue;
            }
            let (name, after) = rest.split_once('=')?;
            let name = name.trim_end().to_ascii_lowercase();
            let (value, after) = parameter(after.trim_start())?;
            rest = after;
            let base = name.split('*').next().unwrap_or_default();
            let twice = parameters.iter().any(|(known, _)| *known == name);
            if !is_token(&name) || twice || (base.len() < name.len() && DECISIVE.contains(&base)) {
                return None;
            }
            parameters.push((name, value));
        }
        Some(Self { media, parameters })
    }

    /// The value of a parameter.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The boundary of a multipart (RFC 2046 section 5.1.1: 1 to 70 characters, no blank at the end).
    pub(super) fn boundary(&self) -> Option<&str> {
        let boundary = self.parameter("boundary")?;
        let plain = boundary.bytes().all(|octet| octet == b' ' || octet.is_ascii_graphic());
        (plain && (1..=70).contains(&boundary.len()) && !boundary.ends_with(' ')).then_some(boundary)
    }

    /// Whether this is a signature as the second part of `multipart/signed`.
    pub(super) fn is_signature(&self) -> bool {
        is_signature(&self.media)
    }

    /// Whether this is `multipart/signed` with S/MIME, and not with OpenPGP.
    pub(super) fn is_signed_with_smime(&self) -> bool {
        self.media == "multipart/signed"
            && self.parameter("protocol").is_some_and(|protocol| is_signature(&protocol.to_ascii_lowercase()))
    }

    /// Whether this is an S/MIME object in one piece.
    pub(super) fn is_opaque(&self) -> bool {
        matches!(self.media.as_str(), "application/pkcs7-mime" | "application/x-pkcs7-mime")
    }
}

fn is_signature(media: &str) -> bool {
    matches!(media, "application/pkcs7-signature" | "application/x-pkcs7-signature")
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|octet| octet.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&octet))
}

/// The value at the start of `text`, and what follows it.
fn parameter(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| c == ';' || c.is_whitespace()).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        let plain = !value.is_empty() && !value.contains(['"', '(', ')', '\\']);
        return plain.then(|| (value.to_owned(), rest));
    };
    let (mut value, mut escaped) = (String::new(), false);
    for (at, c) in quoted.char_indices() {
        match c {
            _ if escaped => {
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return Some((value, &quoted[at + 1..])),
            _ => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str) -> Option<ContentType> {
        ContentType::read(text.as_bytes())
    }

    #[test]
    fn what_programs_write_is_read() {
        let found = read(
            " Multipart/Signed; protocol=\"application/x-pkcs7-signature\";\t micalg=sha-256; boundary=----=_Part_1.2;",
        );
        let found = found.unwrap();
        assert!(found.is_signed_with_smime());
        assert_eq!((found.boundary(), found.parameter("micalg")), (Some("----=_Part_1.2"), Some("sha-256")));
        let found = read("application/pkcs7-mime; name=\"a \\\"b\\\"; c\"; SMIME-TYPE=Signed-Data").unwrap();
        assert_eq!((found.is_opaque(), found.parameter("smime-type")), (true, Some("Signed-Data")));
        assert_eq!(found.parameter("name"), Some("a \"b\"; c"));
        assert!(
            !read("multipart/signed; protocol=\"application/pgp-signature\"; boundary=a")
                .unwrap()
                .is_signed_with_smime()
        );
        assert!(read("text/plain; name*0=a; name*1=b").is_some());
    }

    /// Proves: -SMIME-008
    #[test]
    fn what_can_be_read_in_two_ways_is_not_read() {
        for text in [
            "multipart",
            "multipart/signed (comment); boundary=a",
            "multipart/signed; boundary=a; boundary=b",
            "multipart/signed; boundary*=us-ascii''a",
            "multipart/signed; boundary*0=a",
            "multipart/signed; boundary=\"a",
            "multipart/signed; boundary=a b",
            "multipart/signed; boundary",
            "multipart/signed boundary=a",
            "multipart/signed; boundary=\"a\"b",
            "multi part/signed; boundary=a",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        let line = |octets| Line { octets, begins: true, ends: true };
        let mut header = EntityHeader::default();
        for text in [
            "Content-Type: multipart/signed;",
            " protocol=\"application/pkcs7-signature\"",
            "content-TYPE : text/plain",
        ] {
            header.line(line(text.as_bytes()));
        }
        assert_eq!(header.content_type(), Some(Err(Unreadable { about_smime: true })));
        let mut long = EntityHeader::default();
        long.line(line(b"Content-Type: text/plain;"));
        for _ in 0..100 {
            long.line(line(&[b' '; 900]));
        }
        assert!(long.kind.value.capacity() <= 4 * FIELD_OCTETS_MAX);
        assert_eq!(long.content_type(), Some(Err(Unreadable { about_smime: false })));
    }
}
