//! The canonical forms that DKIM hashes (RFC 6376 section 3.4), for whoever signs and whoever verifies.
//!
//! A body is canonicalised as it streams past: what must wait for the next octet (blanks, line ends that may turn out to
//! be the last) is counted, not kept, so memory stays flat whatever the body looks like.

use aws_lc_rs::digest::{Context, SHA256};

/// How much of the form a signature forgives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Nothing, but for empty lines at the end of the body (RFC 6376 sections 3.4.1 and 3.4.3).
    Simple,
    /// Blanks and folding, and the case of field names (RFC 6376 sections 3.4.2 and 3.4.4).
    Relaxed,
}

/// Appends a header field in its relaxed form, without a line end (RFC 6376 section 3.4.2).
///
/// `value` is everything behind the colon, folding included; with or without its last CRLF.
pub fn relaxed_field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend(name.trim_ascii_end().iter().map(u8::to_ascii_lowercase));
    out.push(b':');
    let start = out.len();
    let mut blank = false;
    for &octet in value {
        match octet {
            b' ' | b'\t' => blank = true,
            // Folding: what stands before and behind it are blanks, which are one blank together.
            b'\r' | b'\n' => {}
            _ => {
                if blank && out.len() > start {
                    out.push(b' ');
                }
                blank = false;
                out.push(octet);
            }
        }
    }
}

/// The body hash of RFC 6376 section 3.7, SHA-256, over a body that comes in pieces of any size.
#[derive(Clone)]
pub struct BodyHasher {
    form: BodyForm,
    context: Context,
    /// Octets hashed so far.
    hashed: u64,
}

impl BodyHasher {
    /// Nothing seen yet. The body begins behind the empty line that ends the header section.
    #[must_use]
    pub fn new(form: Form) -> Self {
        Self { form: BodyForm::new(form), context: Context::new(&SHA256), hashed: 0 }
    }

    /// The next octets of the body.
    pub fn push(&mut self, octets: &[u8]) {
        let Self { form, context, hashed } = self;
        form.push(octets, |piece| {
            context.update(piece);
            *hashed += piece.len() as u64;
        });
    }

    /// The hash, and how many octets of canonical body it covers.
    #[must_use]
    pub fn finish(self) -> ([u8; 32], u64) {
        let Self { form, mut context, mut hashed } = self;
        form.finish(|piece| {
            context.update(piece);
            hashed += piece.len() as u64;
        });
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        (hash, hashed)
    }
}

/// Turns a body that comes in pieces into its canonical form.
///
/// Only CRLF ends a line; a CR or LF that stands alone is an octet like others (the wire refuses both anyway).
#[derive(Clone, Debug)]
pub struct BodyForm {
    form: Form,
    /// Line ends seen since the last octet that was given on.
    line_ends: u64,
    /// Whether blanks were seen since then, on the present line.
    blank: bool,
    /// Whether the last octet was a CR, of which nothing is known yet.
    cr: bool,
    /// Whether anything was given on.
    begun: bool,
}

/// Line ends are given on in pieces of this many.
const LINE_ENDS: [u8; 512] = {
    let mut octets = [b'\n'; 512];
    let mut at = 0;
    while at < octets.len() {
        octets[at] = b'\r';
        at += 2;
    }
    octets
};

impl BodyForm {
    /// Nothing seen yet.
    #[must_use]
    pub const fn new(form: Form) -> Self {
        Self { form, line_ends: 0, blank: false, cr: false, begun: false }
    }

    /// Takes the next octets of the body and gives on what is certain by now, in order.
    pub fn push(&mut self, octets: &[u8], mut give: impl FnMut(&[u8])) {
        let mut rest = octets;
        while let Some(&octet) = rest.first() {
            if std::mem::take(&mut self.cr) {
                if octet == b'\n' {
                    self.line_ends += 1;
                    self.blank = false;
                    rest = &rest[1..];
                    continue;
                }
                self.give(b"\r", &mut give);
            }
            if octet == b'\r' {
                self.cr = true;
                rest = &rest[1..];
            } else if self.is_blank(octet) {
                self.blank = true;
                rest = &rest[1..];
            } else {
                let ends = rest.iter().position(|&octet| octet == b'\r' || self.is_blank(octet));
                let (run, tail) = rest.split_at(ends.unwrap_or(rest.len()));
                self.give(run, &mut give);
                rest = tail;
            }
        }
    }

    /// Gives on the end of the body: one line end, which an empty body has only in the simple form.
    pub fn finish(mut self, mut give: impl FnMut(&[u8])) {
        if self.cr {
            self.give(b"\r", &mut give);
        }
        if self.begun || self.form == Form::Simple {
            give(b"\r\n");
        }
    }

    fn is_blank(&self, octet: u8) -> bool {
        self.form == Form::Relaxed && matches!(octet, b' ' | b'\t')
    }

    /// Gives on `run`, and first what turned out not to be the end of a line or of the body.
    fn give(&mut self, run: &[u8], give: &mut impl FnMut(&[u8])) {
        let mut line_ends = std::mem::take(&mut self.line_ends);
        while line_ends > 0 {
            let now = line_ends.min(LINE_ENDS.len() as u64 / 2);
            give(&LINE_ENDS[..usize::try_from(now * 2).unwrap_or(LINE_ENDS.len())]);
            line_ends -= now;
        }
        if std::mem::take(&mut self.blank) {
            give(b" ");
        }
        give(run);
        self.begun = true;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::*;

    fn body(form: Form, pieces: &[&[u8]]) -> Vec<u8> {
        let (mut body, mut out) = (BodyForm::new(form), Vec::new());
        for piece in pieces {
            body.push(piece, |octets| out.extend_from_slice(octets));
        }
        body.finish(|octets| out.extend_from_slice(octets));
        out
    }

    fn hash(form: Form, octets: &[u8]) -> String {
        let mut hasher = BodyHasher::new(form);
        hasher.push(octets);
        STANDARD.encode(hasher.finish().0)
    }

    fn field(name: &str, value: &str) -> String {
        let mut out = Vec::new();
        relaxed_field(name.as_bytes(), value.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    /// The examples of RFC 6376 section 3.4.5.
    #[test]
    fn the_examples_of_the_rfc_come_out() {
        assert_eq!(field("A", " X\r\n"), "a:X");
        assert_eq!(field("B ", " Y\t\r\n\tZ  \r\n"), "b:Y Z");
        let given = b" C \r\nD \t E\r\n\r\n\r\n";
        assert_eq!(body(Form::Relaxed, &[given]), b" C\r\nD E\r\n");
        assert_eq!(body(Form::Simple, &[given]), b" C \r\nD \t E\r\n");
    }

    /// The hashes of an empty body that RFC 6376 sections 3.4.3 and 3.4.4 name.
    #[test]
    fn the_hashes_of_nothing_are_those_of_the_rfc() {
        for nothing in [&b""[..], b"\r\n", b"\r\n\r\n"] {
            assert_eq!(hash(Form::Relaxed, nothing), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
            assert_eq!(hash(Form::Simple, nothing), "frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY=");
        }
    }

    /// The body hash of RFC 8463 appendix A.2.
    #[test]
    fn the_hash_of_rfc_8463_comes_out() {
        let text = b"Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n";
        assert_eq!(hash(Form::Relaxed, text), "2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=");
    }

    #[test]
    fn what_stands_at_the_end_and_between() {
        assert_eq!(body(Form::Relaxed, &[b" \t\r\n \r\n"]), b"");
        assert_eq!(body(Form::Relaxed, &[b"a \t"]), b"a\r\n");
        assert_eq!(body(Form::Relaxed, &[b"a\rb\nc\r"]), b"a\rb\nc\r\r\n");
        assert_eq!(body(Form::Relaxed, &[b"\r\n\r\na"]), b"\r\n\r\na\r\n");
        let many = b"\r\n".repeat(2000);
        assert_eq!(body(Form::Simple, &[b"a", &many, b"b"]), [b"a", &many[..], b"b\r\n"].concat());
    }

    proptest! {
        /// Where the pieces end makes no difference, and once canonical is canonical.
        #[test]
        fn pieces_do_not_matter(octets in "[ab \t\r\n]{0,60}|([ab] {0,2}\r\n){0,9}", cut in 0usize..60) {
            let octets = octets.as_bytes();
            let (left, right) = octets.split_at(cut.min(octets.len()));
            for form in [Form::Simple, Form::Relaxed] {
                let whole = body(form, &[octets]);
                prop_assert_eq!(&body(form, &[left, right]), &whole);
                let single: Vec<&[u8]> = octets.chunks(1).collect();
                prop_assert_eq!(&body(form, &single), &whole);
                prop_assert_eq!(&body(form, &[&whole]), &whole);
            }
        }
    }
}
