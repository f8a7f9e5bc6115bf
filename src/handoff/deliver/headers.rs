//! The header section at hand-off: our verdicts on top, none that pretend to be ours below.
//!
//! # Guarantees
//! - Removed are `Authentication-Results` fields with our authserv-id, every `Federation-Assurance` and
//!   `Federation-Content-Changed` field, and NTA headers of mail that did not prove itself (HAND-009), in any case,
//!   folding or spelling that a reader could take for them; added are the given fields. Not one other octet changes
//!   (HAND-005, HAND-006).
//! - Memory is bounded by [`HEADER_OCTETS_MAX`]; the body streams through.
//!
//! # Standards
//! RFC 8601 section 5, RFC 5322 sections 2.2 and 4.5.

use std::io::Cursor;

use tokio::io::{AsyncRead, AsyncReadExt, Chain};

use crate::model::DomainName;
use crate::trust::NtaNames;

/// The largest header section that is looked through: the ceiling of the limit `header_octets`, and our own trace field. So
/// it is never reached; the environment must not get a header that we have not read to its end.
pub const HEADER_OCTETS_MAX: usize = (4 << 20) + (64 << 10);

const PIECE_OCTETS: usize = 16 << 10;
const ASSURANCE: &str = "Federation-Assurance";
/// Tells the recipient that the provider's own filter changed the message (HOOK-008).
pub const CONTENT_CHANGED: &str = "Federation-Content-Changed";
const RESULTS: &str = "Authentication-Results";

/// Why a message cannot be handed off as it is.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// The header section does not end within [`HEADER_OCTETS_MAX`].
    #[error("the header section does not end within {HEADER_OCTETS_MAX} octets")]
    TooLarge,
    /// A field of ours is not one well-formed field. A fault of this program.
    #[error("the field {0} that was to be added is not one well-formed header field")]
    Field(String),
    /// The content could not be read.
    #[error("reading the content: {0}")]
    Read(#[from] std::io::Error),
}

/// Content with the fields of hand-off in place.
pub struct Rewritten<R> {
    /// The content to hand off.
    pub content: Chain<Cursor<Vec<u8>>, R>,
    /// Its octets.
    pub size: u64,
    /// How many fields were removed.
    pub removed: usize,
}

/// What is removed.
#[derive(Clone, Copy, Debug)]
pub struct Removal<'a> {
    /// Our own name: what pretends to be a verdict of its goes.
    pub authserv_id: &'a DomainName,
    /// Fields of these names go too.
    pub nta: Option<&'a NtaNames>,
}

/// Puts `fields` (name and value, in that order) on top of `content` of `size` octets, and removes what is to be removed.
///
/// # Errors
/// [`HeaderError`]; nothing may be handed off then.
pub async fn rewrite<R: AsyncRead + Unpin>(
    mut content: R,
    size: u64,
    removal: Removal<'_>,
    fields: &[(String, String)],
) -> Result<Rewritten<R>, HeaderError> {
    let mut head = Vec::new();
    for (name, value) in fields {
        append_field(&mut head, name, value)?;
    }
    let added = head.len();
    let (section, rest) = read_section(&mut content).await?;
    let mut removed = (0, 0);
    for field in Fields(&section) {
        if pretends(field, removal) {
            removed = (removed.0 + 1, removed.1 + field.len());
        } else {
            head.extend_from_slice(field);
        }
    }
    head.extend_from_slice(&rest);
    let size = size + added as u64 - removed.1 as u64;
    Ok(Rewritten { content: Cursor::new(head).chain(content), size, removed: removed.0 })
}

/// Appends `Name: value CRLF`, or refuses what would be more, or less, than one field (attack class T2).
pub(super) fn append_field(out: &mut Vec<u8>, name: &str, value: &str) -> Result<(), HeaderError> {
    let name_ok = !name.is_empty() && name.bytes().all(|octet| octet.is_ascii_graphic() && octet != b':');
    // Folding is the only way to have a CRLF in a value: each line of it goes on with a blank and holds more than blanks.
    let lines_ok = value.split("\r\n").enumerate().all(|(at, line)| {
        let blank_first = line.starts_with([' ', '\t']);
        !line.chars().any(|c| c.is_control() && c != '\t')
            && !line.trim().is_empty()
            && (at == 0 || blank_first)
    });
    if !name_ok || !lines_ok {
        return Err(HeaderError::Field(name.chars().take(80).collect()));
    }
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Reads up to the end of the header section; returns it without its empty line, and what was read beyond.
async fn read_section<R: AsyncRead + Unpin>(content: &mut R) -> Result<(Vec<u8>, Vec<u8>), HeaderError> {
    let mut read = Vec::new();
    let mut line = 0;
    loop {
        match section_end(&read, line) {
            Ok(end) => {
                let rest = read.split_off(end);
                return Ok((read, rest));
            }
            Err(unfinished) => line = unfinished,
        }
        if read.len() > HEADER_OCTETS_MAX {
            return Err(HeaderError::TooLarge);
        }
        let start = read.len();
        read.resize(start + PIECE_OCTETS, 0);
        let count = content.read(&mut read[start..]).await?;
        read.truncate(start + count);
        if count == 0 {
            // No empty line: all of it is header (RFC 5322 section 3.5).
            return Ok((read, Vec::new()));
        }
    }
}

/// Where the empty line begins that ends the header section, looking from the line that begins at `start`; else where the
/// last, unfinished line begins.
///
/// Content never holds a bare LF (SMTP-006), but a reader in the environment might take one for a line end, so it counts
/// as one here: what such a reader sees as a header field must have been looked at.
fn section_end(octets: &[u8], mut start: usize) -> Result<usize, usize> {
    while let Some(length) = memchr::memchr(b'\n', &octets[start..]) {
        let end = start + length;
        if matches!(&octets[start..=end], b"\r\n" | b"\n") {
            return Ok(start);
        }
        start = end + 1;
    }
    Err(start)
}

/// The fields of a header section, each with its continuation lines. Together they are the section.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let end = memchr::memchr_iter(b'\n', self.0)
            .map(|at| at + 1)
            .find(|&next| !matches!(self.0.get(next), Some(b' ' | b'\t')))
            .unwrap_or(self.0.len());
        let (field, rest) = self.0.split_at(end);
        self.0 = rest;
        Some(field)
    }
}

/// Whether a reader could take this field for a verdict of ours, or for an NTA header that is to be removed.
fn pretends(field: &[u8], removal: Removal<'_>) -> bool {
    let unfolded: Vec<u8> = field.iter().copied().filter(|octet| !matches!(octet, b'\r' | b'\n')).collect();
    let Some(colon) = memchr::memchr(b':', &unfolded) else { return false };
    // Blanks between name and colon are obsolete syntax that readers accept (RFC 5322 section 4.5).
    let name = String::from_utf8_lossy(&unfolded[..colon]);
    let name = name.trim();
    if [ASSURANCE, CONTENT_CHANGED].iter().any(|ours| name.eq_ignore_ascii_case(ours))
        || removal.nta.is_some_and(|nta| nta.matches(name))
    {
        return true;
    }
    name.eq_ignore_ascii_case(RESULTS)
        && claims(&String::from_utf8_lossy(&unfolded[colon + 1..]), removal.authserv_id)
}

/// Whether the value of an `Authentication-Results` field has our authserv-id.
fn claims(value: &str, ours: &DomainName) -> bool {
    match authserv_id_of(value) {
        Some(id) => {
            id.eq_ignore_ascii_case(ours.as_str()) || id.parse::<DomainName>().is_ok_and(|name| name == *ours)
        }
        // Nobody can say how a reader takes it. If our name is in it, it goes.
        None => value.to_ascii_lowercase().contains(ours.as_str()),
    }
}

/// The authserv-id of an `Authentication-Results` value (RFC 8601 section 2.2): after comments, a token or a quoted
/// string. `None` when the value does not begin so.
fn authserv_id_of(value: &str) -> Option<String> {
    let rest = skip_comments(value)?;
    if let Some(quoted) = rest.strip_prefix('"') {
        let mut id = String::new();
        let mut chars = quoted.chars();
        loop {
            match chars.next()? {
                '"' => return Some(id),
                '\\' => id.push(chars.next()?),
                c => id.push(c),
            }
        }
    }
    let end = rest.find(|c: char| c.is_whitespace() || ";()\"".contains(c)).unwrap_or(rest.len());
    (end > 0).then(|| rest[..end].to_owned())
}

/// What follows blanks and nested comments.
fn skip_comments(text: &str) -> Option<&str> {
    let mut depth = 0u32;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if depth > 0 => escaped = true,
            '(' => depth += 1,
            ')' if depth > 0 => depth -= 1,
            _ if depth == 0 && !c.is_whitespace() => return Some(&text[at..]),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn ours() -> DomainName {
        "mx.Ons.example".parse().unwrap()
    }

    async fn rewritten(content: &[u8], fields: &[(&str, &str)]) -> Result<Vec<u8>, HeaderError> {
        let fields: Vec<_> =
            fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let ours = ours();
        let removal = Removal { authserv_id: &ours, nta: None };
        let mut view = rewrite(content, content.len() as u64, removal, &fields).await?;
        let mut out = Vec::new();
        view.content.read_to_end(&mut out).await.unwrap();
        assert_eq!(view.size, out.len() as u64, "the announced size is the size");
        Ok(out)
    }

    const REST: &str = "From: a@b.nl\r\nsubject : x\r\n\ty \r\n\r\nFederation-Assurance: body\r\n";

    /// Proves: +HAND-005 -HAND-005
    #[tokio::test]
    async fn t02_whatever_could_pass_for_our_verdict_is_removed() {
        for forged in [
            "Federation-Assurance: mutual\r\n",
            "FEDERATION-assurance:mutual\r\n",
            "Federation-Assurance : mutual\r\n",
            "Federation-Assurance\t:\r\n mutual;\r\n\tdomain=a.example\r\n",
            "Federation-Assurance\r\n : mutual\r\n",
            "Federation-Assurance:\r\n",
            "Federation-Assurance: a\r\nFederation-Assurance: b\r\n",
            "Federation-Assurance: mutual\n",
            "Federation-Content-Changed: by=mx.ons.example\r\n",
            "federation-content-changed\t:\r\n by=somebody.else.example\r\n",
            "Authentication-Results: mx.ons.example; x-federation=pass\r\n",
            "authentication-results:MX.ONS.EXAMPLE;dkim=pass\r\n",
            "Authentication-Results:\r\n (a (nested\\) one)\r\n ) mx.ons.example 1; dkim=pass\r\n",
            "Authentication-Results: \"mx.ons.example\"; dkim=pass\r\n",
            "Authentication-Results: \"mx.o\\ns.example\"; dkim=pass\r\n",
            "Authentication-Results: mx.ons.example.; dkim=pass\r\n",
            "Authentication-Results: mx.ons.example(x); dkim=pass\r\n",
            "Authentication-Results: mx.ons.example\r\n",
            "Authentication-Results: (unfinished mx.ons.example; dkim=pass\r\n",
            "Authentication-Results: \"mx.ons.example; dkim=pass\r\n",
        ] {
            let first = format!("{forged}{REST}");
            let last = REST.replacen("\r\n\r\n", &format!("\r\n{forged}\r\n"), 1);
            for content in [first, last] {
                let out = rewritten(content.as_bytes(), &[]).await.unwrap();
                assert_eq!(String::from_utf8_lossy(&out), REST, "{content:?}");
            }
        }
    }

    /// Proves: +HAND-009 -HAND-009
    #[tokio::test]
    async fn nta_headers_go_when_the_message_did_not_prove_itself_and_stay_when_it_did() {
        let (ours, nta) = (ours(), NtaNames::new(Some("X-Secure")));
        let forged = "X-NTA: a\r\nnta7516 : b\r\n\tc\r\nX-SECURE\r\n : d\r\n";
        for (removed, expected) in [(Some(&nta), REST.to_owned()), (None, format!("{forged}{REST}"))] {
            let content = format!("{forged}{REST}");
            let removal = Removal { authserv_id: &ours, nta: removed };
            let mut view = rewrite(content.as_bytes(), content.len() as u64, removal, &[]).await.unwrap();
            let mut out = String::new();
            view.content.read_to_string(&mut out).await.unwrap();
            assert_eq!((out.len() as u64, out), (view.size, expected));
        }
    }

    /// Proves: +HAND-005 +HAND-006
    #[tokio::test]
    async fn what_is_not_a_verdict_of_ours_stays() {
        for kept in [
            "Authentication-Results: other.example; dkim=pass (mx.ons.example)\r\n",
            "Authentication-Results: notmx.ons.example; dkim=pass\r\n",
            "Authentication-Results: mx.ons.example.evil.example; dkim=pass\r\n",
            "Authentication-Results: (mx.ons.example) other.example; spf=pass\r\n",
            "ARC-Authentication-Results: i=1; mx.ons.example; dkim=pass\r\n",
            "X-Federation-Assurance: mutual\r\n",
            "Subject: Federation-Assurance: mutual\r\n",
            "Subject: x\r\n Federation-Assurance: mutual\r\n",
            "no colon in here\r\n",
            "Authentication-Results\r\n",
            "X: \u{e9}\u{0} \t\r\n  \r\n",
        ] {
            let content = format!("{kept}{REST}");
            assert_eq!(rewritten(content.as_bytes(), &[]).await.unwrap(), content.as_bytes(), "{kept:?}");
        }
    }

    /// Proves: +HAND-005
    #[tokio::test]
    async fn ours_come_first_in_the_given_order_and_an_empty_header_is_one_too() {
        let fields = [
            ("Authentication-Results", "mx.ons.example;\r\n\tx-federation=pass"),
            ("Federation-Assurance", "mutual"),
        ];
        let top = "Authentication-Results: mx.ons.example;\r\n\tx-federation=pass\r\nFederation-Assurance: mutual\r\n";
        for content in [REST, "", "\r\n", "\r\nbody", "Only: header\r\n", "Federation-Assuranc: near\r\n\r\n"]
        {
            let out = rewritten(content.as_bytes(), &fields).await.unwrap();
            assert_eq!(String::from_utf8_lossy(&out), format!("{top}{content}"));
        }
    }

    /// Proves: -HAND-006
    #[tokio::test]
    async fn t02_t05_a_field_of_ours_cannot_end_the_header_or_begin_another() {
        for (name, value) in [
            ("A", "x\r\n\r\nbody"),
            ("A", "x\r\nFederation-Assurance: mutual"),
            ("A", "x\ny"),
            ("A", "x\ry"),
            ("A", "x\0"),
            ("A", "x\r\n \r\n y"),
            ("A", ""),
            ("A", "x\r\n"),
            ("A:B", "x"),
            ("A B", "x"),
            ("", "x"),
        ] {
            let refused = rewritten(REST.as_bytes(), &[(name, value)]).await;
            assert!(matches!(refused, Err(HeaderError::Field(_))), "{name:?} {value:?}");
        }
    }

    /// Proves: -HAND-005
    #[tokio::test]
    async fn a_header_without_end_is_not_handed_off_unread() {
        let endless = b"X: y\r\n".repeat(HEADER_OCTETS_MAX / 6 + 10_000);
        assert!(matches!(rewritten(&endless, &[]).await, Err(HeaderError::TooLarge)));
    }

    proptest! {
        /// Proves: +HAND-006 -HAND-005
        #[test]
        fn t02_only_whole_fields_with_those_names_ever_disappear(
            parts in proptest::collection::vec(
                prop_oneof![
                    Just("Federation-Assurance".to_owned()), Just("Authentication-Results".to_owned()),
                    Just("mx.ons.example".to_owned()), Just(":".to_owned()), Just("\r\n".to_owned()),
                    Just(" ".to_owned()), Just("\t".to_owned()), Just("(".to_owned()), Just("\"".to_owned()),
                    Just("\n".to_owned()), Just(";".to_owned()), "[a-z]{1,3}",
                ], 0..40),
            cut in 1usize..9,
        ) {
            let content = parts.concat();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let out = runtime.block_on(async {
                // A reader that gives a few octets at a time must make no difference.
                let trickle = tokio_test_reader(content.as_bytes(), cut);
                let ours = ours();
                let removal = Removal { authserv_id: &ours, nta: None };
                let mut view = rewrite(trickle, content.len() as u64, removal, &[]).await.unwrap();
                let mut out = Vec::new();
                view.content.read_to_end(&mut out).await.unwrap();
                out
            });
            prop_assert_eq!(&out, &runtime.block_on(rewritten(content.as_bytes(), &[])).unwrap());
            let end = section_end(content.as_bytes(), 0).unwrap_or(content.len());
            let ours = ours();
            let removal = Removal { authserv_id: &ours, nta: None };
            let kept: Vec<&[u8]> = Fields(&content.as_bytes()[..end]).filter(|f| !pretends(f, removal)).collect();
            prop_assert_eq!(out, [kept.concat(), content.as_bytes()[end..].to_vec()].concat());
            prop_assert_eq!(Fields(&content.as_bytes()[..end]).collect::<Vec<_>>().concat(), &content.as_bytes()[..end]);
        }
    }

    fn tokio_test_reader(content: &[u8], cut: usize) -> Trickle<'_> {
        Trickle { content, cut }
    }

    struct Trickle<'a> {
        content: &'a [u8],
        cut: usize,
    }

    impl AsyncRead for Trickle<'_> {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            out: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            let count = self.cut.min(self.content.len()).min(out.remaining());
            let (now, later) = self.content.split_at(count);
            out.put_slice(now);
            self.content = later;
            std::task::Poll::Ready(Ok(()))
        }
    }
}
