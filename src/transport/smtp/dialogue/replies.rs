//! Replies from the wire, read strictly (RFC 5321 section 4.2.1; RFC 2034 section 4).

use crate::transport::smtp::line::LineFault;
use crate::transport::smtp::{Reply, printable};

/// The longest line of a reply in octets, CRLF included. RFC 5321 section 4.5.3.1.5 says 512; some hosts greet at length.
pub(super) const LINE_OCTETS_MAX: usize = 2048;
/// The most lines of one reply. Large hosts offer some twenty extensions (attack class T4b).
const LINES_MAX: usize = 128;

/// Why something is no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReplyFault {
    #[error("a line of the reply: {0}")]
    Line(#[from] LineFault),
    #[error("a line does not begin with a reply code: {0}")]
    Code(String),
    #[error("the lines of a reply have different codes")]
    CodeChanges,
    #[error("a reply of more than {LINES_MAX} lines")]
    TooManyLines,
}

/// Collects the lines of one reply.
#[derive(Debug, Default)]
pub(super) struct ReplyLines {
    code: Option<u16>,
    texts: Vec<String>,
}

impl ReplyLines {
    /// Takes the next line, without its CRLF; gives the reply when it was the last.
    pub(super) fn push(&mut self, line: &[u8]) -> Result<Option<Reply>, ReplyFault> {
        let text = String::from_utf8_lossy(line);
        let bad = || ReplyFault::Code(printable(&text.chars().take(80).collect::<String>()));
        let (code, more) = head(line).ok_or_else(bad)?;
        if self.code.is_some_and(|first| first != code) {
            return Err(ReplyFault::CodeChanges);
        }
        if self.texts.len() == LINES_MAX {
            return Err(ReplyFault::TooManyLines);
        }
        self.code = Some(code);
        self.texts.push(printable(text.get(4..).unwrap_or_default()));
        if more {
            return Ok(None);
        }
        let texts = std::mem::take(self).texts;
        let (enhanced, texts) = split_enhanced(code, texts);
        Reply::with_lines(code, enhanced, texts).map(Some).map_err(|_| bad())
    }
}

/// The code, and whether more lines follow.
fn head(line: &[u8]) -> Option<(u16, bool)> {
    let more = match line.get(3) {
        None | Some(b' ') => false,
        Some(b'-') => true,
        Some(_) => return None,
    };
    match line.get(..3)? {
        [first @ b'2'..=b'5', second @ b'0'..=b'5', third @ b'0'..=b'9'] => {
            let digit = |octet: &u8| u16::from(octet - b'0');
            Some((100 * digit(first) + 10 * digit(second) + digit(third), more))
        }
        _ => None,
    }
}

/// Takes the enhanced status code off the lines. It counts when the first line has one of the reply's own class; lines
/// that repeat it lose it, others stay as they are.
fn split_enhanced(code: u16, mut texts: Vec<String>) -> (Option<(u8, u16, u16)>, Vec<String>) {
    let Some((enhanced, _)) = texts.first().and_then(|text| enhanced_prefix(text)) else {
        return (None, texts);
    };
    if u16::from(enhanced.0) != code / 100 {
        return (None, texts);
    }
    for text in &mut texts {
        if let Some((same, rest)) = enhanced_prefix(text)
            && same == enhanced
        {
            *text = rest.to_owned();
        }
    }
    (Some(enhanced), texts)
}

fn enhanced_prefix(text: &str) -> Option<((u8, u16, u16), &str)> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let mut parts = word.split('.');
    let class = parts.next().filter(|class| matches!(*class, "2" | "4" | "5"))?.parse().ok()?;
    let number = |part: Option<&str>| -> Option<u16> {
        let part = part?;
        let digits = (1..=3).contains(&part.len()) && part.bytes().all(|octet| octet.is_ascii_digit());
        if digits { part.parse().ok() } else { None }
    };
    let (subject, detail) = (number(parts.next())?, number(parts.next())?);
    parts.next().is_none().then_some(((class, subject, detail), rest))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn read(lines: &[&str]) -> Result<Option<Reply>, ReplyFault> {
        let mut reply = ReplyLines::default();
        let mut last = Ok(None);
        for line in lines {
            last = reply.push(line.as_bytes());
        }
        last
    }

    #[test]
    fn replies_of_all_shapes() {
        let reply = read(&["250-2.1.5 one", "250-2.1.5 two", "250 2.1.5 three"]).unwrap().unwrap();
        assert_eq!((reply.code(), reply.enhanced()), (250, Some((2, 1, 5))));
        assert_eq!(reply.lines(), ["one", "two", "three"]);
        for (line, code, enhanced, text) in [
            ("250", 250, None, ""),
            ("250 ", 250, None, ""),
            ("354 go on", 354, None, "go on"),
            ("550 5.7.1", 550, Some((5, 7, 1)), ""),
            ("550 4.7.1 other class", 550, None, "4.7.1 other class"),
            ("550 5.7.1.2 no", 550, None, "5.7.1.2 no"),
            ("250 2.0.0000 long", 250, None, "2.0.0000 long"),
            ("250 8BITMIME", 250, None, "8BITMIME"),
            ("220 h\u{e9}llo", 220, None, "h?llo"),
        ] {
            let reply = read(&[line]).unwrap().unwrap();
            assert_eq!((reply.code(), reply.enhanced(), reply.lines()[0].as_str()), (code, enhanced, text));
        }
        assert_eq!(read(&["250-more to come"]).unwrap(), None);
    }

    #[test]
    fn what_is_no_reply() {
        for line in
            ["", "25", "250x", "abc hello", "199 low", "600 high", "260 odd", " 250 late", "2500 long"]
        {
            assert!(matches!(read(&[line]), Err(ReplyFault::Code(_))), "{line:?}");
        }
        assert_eq!(read(&["250-a", "550 b"]), Err(ReplyFault::CodeChanges));
    }

    #[test]
    fn t04b_endless_replies_end() {
        let mut reply = ReplyLines::default();
        for _ in 0..LINES_MAX {
            assert_eq!(reply.push(b"250-again"), Ok(None));
        }
        assert_eq!(reply.push(b"250-again"), Err(ReplyFault::TooManyLines));
    }

    proptest! {
        #[test]
        fn t05_whatever_is_read_can_be_shown(lines in prop::collection::vec("[2-5][0-5][0-9][ -].{0,600}", 1..4)) {
            let mut reply = ReplyLines::default();
            for line in lines {
                if let Ok(Some(reply)) = reply.push(line.as_bytes()) {
                    prop_assert!(!reply.to_string().chars().any(char::is_control));
                }
            }
        }
    }
}
