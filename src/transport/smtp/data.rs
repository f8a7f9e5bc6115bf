//! Content from the wire: where it ends, and what may be in it (SMTP-006, SMTP-007, SMTP-008).
//!
//! [`Data`] undoes the transparency of DATA; [`Chunks`] takes what BDAT announces. Both hold content to the same rules:
//! lines end with CRLF, a CR or LF stands nowhere else, there is no NUL, and no line is longer than 998 octets. A violation
//! is remembered, and nothing more comes out; the reader goes on to the true end, so that what follows is read as a
//! command only if it is one (attack class T1).

use super::Reply;
use crate::model::Reason;

/// The longest line of content in octets, CRLF not counted (RFC 5322 section 2.1.1).
pub const LINE_OCTETS_MAX: usize = 998;

/// What is wrong with content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentFault {
    /// A CR that no LF follows.
    #[error("the content has a CR without LF")]
    BareCr,
    /// An LF that no CR precedes.
    #[error("the content has an LF without CR")]
    BareLf,
    /// A NUL octet.
    #[error("the content has a NUL octet")]
    Nul,
    /// A line over 998 octets.
    #[error("the content has a line of more than 998 octets")]
    LineTooLong,
}

impl ContentFault {
    /// The named check that failed.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::BareCr | Self::BareLf | Self::Nul => Reason::ContentMalformed,
            Self::LineTooLong => Reason::LineTooLong,
        }
    }

    /// The refusal, given after the true end of the content.
    #[must_use]
    pub fn reply(self) -> Reply {
        // With the reason word, by which the record finds it too (REC-002).
        let text = format!("{} {}: {self}", self.requirement(), self.reason());
        Reply::sanitised(550, (5, 6, 0), &text)
    }

    const fn requirement(self) -> &'static str {
        match self {
            Self::BareCr | Self::BareLf | Self::Nul => "SMTP-007",
            Self::LineTooLong => "SMTP-008",
        }
    }
}

/// Where the next octet of content stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    LineStart,
    InLine,
    AfterCr,
}

/// The rules every content obeys, whichever command brings it.
#[derive(Debug)]
struct Rules {
    place: Place,
    line: usize,
    fault: Option<ContentFault>,
}

impl Rules {
    const fn new() -> Self {
        Self { place: Place::LineStart, line: 0, fault: None }
    }

    fn refuse(&mut self, fault: ContentFault) {
        self.fault.get_or_insert(fault);
    }

    /// Checks `octets` and appends them to `out`, up to the first violation. A trailing CR waits for its LF.
    fn push(&mut self, mut octets: &[u8], out: &mut Vec<u8>) {
        while let Some(&first) = octets.first() {
            if self.place == Place::AfterCr {
                if first == b'\n' {
                    self.emit(b"\r\n", out);
                    (self.place, self.line) = (Place::LineStart, 0);
                    octets = &octets[1..];
                    continue;
                }
                self.refuse(ContentFault::BareCr);
                self.place = Place::InLine;
            }
            let plain = memchr::memchr3(b'\r', b'\n', 0, octets).unwrap_or(octets.len());
            if plain > 0 {
                self.place = Place::InLine;
                // Up to the same octet in whatever pieces the line comes.
                let room = LINE_OCTETS_MAX.saturating_sub(self.line);
                self.emit(&octets[..plain.min(room)], out);
                self.line += plain;
                if self.line > LINE_OCTETS_MAX {
                    self.refuse(ContentFault::LineTooLong);
                }
            }
            match octets.get(plain) {
                Some(b'\r') => self.place = Place::AfterCr,
                Some(b'\n') => self.refuse(ContentFault::BareLf),
                Some(_) => self.refuse(ContentFault::Nul),
                None => return,
            }
            if self.place == Place::LineStart {
                self.place = Place::InLine;
            }
            octets = &octets[plain + 1..];
        }
    }

    fn emit(&self, octets: &[u8], out: &mut Vec<u8>) {
        if self.fault.is_none() {
            out.extend_from_slice(octets);
        }
    }
}

/// Whether content has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is more to come.
    More,
    /// CRLF `.` CRLF was read.
    Ended,
}

/// A dot at the start of a line, whose meaning the next two octets decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dot {
    None,
    Seen,
    SeenThenCr,
}

/// The content of DATA (RFC 5321 section 4.5.2).
#[derive(Debug)]
pub struct Data {
    rules: Rules,
    dot: Dot,
}

impl Default for Data {
    fn default() -> Self {
        Self::new()
    }
}

impl Data {
    /// Content that begins with the next octet; the CRLF of the command counts as the one before it.
    #[must_use]
    pub const fn new() -> Self {
        Self { rules: Rules::new(), dot: Dot::None }
    }

    /// What was wrong with the content so far.
    #[must_use]
    pub const fn fault(&self) -> Option<ContentFault> {
        self.rules.fault
    }

    /// Reads `octets` up to the end of the content; appends what they say, without transparency, to `out`. Returns how
    /// many octets were used: all of them unless the content has ended.
    pub fn push(&mut self, octets: &[u8], out: &mut Vec<u8>) -> (usize, Progress) {
        let mut at = 0;
        while let Some(&octet) = octets.get(at) {
            match (self.dot, octet) {
                (Dot::SeenThenCr, b'\n') => return (at + 1, Progress::Ended),
                (Dot::SeenThenCr, _) => {
                    // The dot was transparency after all, and its CR is a bare one: judged with the octet that follows.
                    self.dot = Dot::None;
                    self.rules.place = Place::InLine;
                    self.rules.push(b"\r", out);
                }
                (Dot::Seen, b'\r') => {
                    self.dot = Dot::SeenThenCr;
                    at += 1;
                }
                (Dot::Seen, _) => {
                    self.dot = Dot::None;
                    self.rules.place = Place::InLine;
                }
                (Dot::None, b'.') if self.rules.place == Place::LineStart => {
                    self.dot = Dot::Seen;
                    at += 1;
                }
                (Dot::None, _) => {
                    // An LF may have ended the line, and then a dot needs a second look.
                    let run = memchr::memchr(b'\n', &octets[at..]).map_or(octets.len(), |lf| at + lf + 1);
                    self.rules.push(&octets[at..run], out);
                    at = run;
                }
            }
        }
        (at, Progress::More)
    }
}

/// The content of BDAT (RFC 3030 section 2): no transparency, no end of its own.
#[derive(Debug)]
pub struct Chunks {
    rules: Rules,
}

impl Default for Chunks {
    fn default() -> Self {
        Self::new()
    }
}

impl Chunks {
    /// Content that begins with the first octet of the first chunk.
    #[must_use]
    pub const fn new() -> Self {
        Self { rules: Rules::new() }
    }

    /// What was wrong with the content so far.
    #[must_use]
    pub const fn fault(&self) -> Option<ContentFault> {
        self.rules.fault
    }

    /// Takes the next octets; a CRLF may lie across two calls, or two chunks.
    pub fn push(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        self.rules.push(octets, out);
    }

    /// Says that the last chunk is complete. A last line that lacks its CRLF gets one (SMTP-026): content is lines, and
    /// the next hop may only know DATA.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        match self.rules.place {
            Place::LineStart => {}
            Place::InLine => self.rules.emit(b"\r\n", out),
            Place::AfterCr => self.rules.refuse(ContentFault::BareCr),
        }
        self.rules.place = Place::LineStart;
    }
}

/// For fuzzing: the end of DATA is the first CRLF `.` CRLF and nothing else, cutting the input elsewhere changes nothing,
/// and what comes out without a fault goes through BDAT unchanged.
///
/// # Panics
/// When one of these does not hold.
pub fn fuzz(input: &[u8]) {
    let read = |step: usize| {
        let (mut data, mut out, mut used) = (Data::new(), Vec::new(), 0);
        for piece in input.chunks(step.max(1)) {
            let (count, progress) = data.push(piece, &mut out);
            used += count;
            if progress == Progress::Ended {
                return (Some(used), data.fault(), out);
            }
        }
        (None, data.fault(), out)
    };
    let (end, fault, out) = read(input.len());
    assert_eq!((end, fault, out.clone()), read(1));
    assert_eq!((end, fault, out.clone()), read(5));
    // The oracle has the CRLF of the command line in front.
    let framed = [b"\r\n", input].concat();
    assert_eq!(end, memchr::memmem::find(&framed, b"\r\n.\r\n").map(|at| at + 3));
    if fault.is_none() && end.is_some() {
        let (mut chunks, mut again) = (Chunks::new(), Vec::new());
        for piece in out.chunks(7) {
            chunks.push(piece, &mut again);
        }
        chunks.end(&mut again);
        assert_eq!((chunks.fault(), &again), (None, &out));
        assert!(out.is_empty() || out.ends_with(b"\r\n"));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn data(input: &[u8]) -> (Option<usize>, Option<ContentFault>, Vec<u8>) {
        let (mut data, mut out) = (Data::new(), Vec::new());
        let (used, progress) = data.push(input, &mut out);
        ((progress == Progress::Ended).then_some(used), data.fault(), out)
    }

    fn chunks(pieces: &[&[u8]]) -> Result<Vec<u8>, ContentFault> {
        let (mut chunks, mut out) = (Chunks::new(), Vec::new());
        for piece in pieces {
            chunks.push(piece, &mut out);
        }
        chunks.end(&mut out);
        chunks.fault().map_or(Ok(out), Err)
    }

    /// Proves: +SMTP-006 +SMTP-007
    #[test]
    fn transparency_is_undone_exactly() {
        for (wire, content) in [
            (".\r\n", ""),
            ("\r\n.\r\n", "\r\n"),
            ("a\r\n.\r\n", "a\r\n"),
            ("..\r\n.\r\n", ".\r\n"),
            ("...\r\n..a\r\na.\r\n.b\r\n.\r\n", "..\r\n.a\r\na.\r\nb\r\n"),
            (". \r\n.\r\n", " \r\n"),
        ] {
            let (end, fault, out) = data(format!("{wire}QUIT\r\n").as_bytes());
            assert_eq!((end, fault), (Some(wire.len()), None), "{wire:?}");
            assert_eq!(out, content.as_bytes(), "{wire:?}");
        }
    }

    /// All sequences of 2 to 5 octets that somebody's server may have taken for the end of a message, followed by the true end.
    ///
    /// Proves: +SMTP-006 -SMTP-006 -SMTP-007
    #[test]
    fn t01_no_other_sequence_ends_the_content() {
        const ALPHABET: &[u8] = b"\r\n.x\0 \x0b\x85";
        let mut cases = 0;
        for length in 2..=5u32 {
            for number in 0..ALPHABET.len().pow(length) {
                let digit = |place: u32| ALPHABET[number / ALPHABET.len().pow(place) % ALPHABET.len()];
                let ending: Vec<u8> = (0..length).map(digit).collect();
                let wire = [b"first", &ending[..], b"MAIL FROM:<x@y.nl>\r\n.\r\n"].concat();
                let (end, fault, out) = data(&wire);
                let smuggled = wire.len() != memchr::memmem::find(&wire, b"\r\n.\r\n").unwrap() + 5;
                assert_eq!(smuggled, ending == b"\r\n.\r\n", "{ending:?}");
                assert_eq!(end == Some(wire.len()), !smuggled, "{ending:?}");
                let text = [b"\r\n", &wire[..end.unwrap()]].concat();
                let lone = (0..text.len()).any(|at| match text[at] {
                    b'\r' => text.get(at + 1) != Some(&b'\n'),
                    b'\n' => at == 0 || text[at - 1] != b'\r',
                    octet => octet == 0,
                });
                assert_eq!(fault.is_some(), lone, "{ending:?}");
                assert!(fault.is_some() || !smuggled || out == b"first\r\n");
                cases += 1;
            }
        }
        assert_eq!(cases, 64 + 512 + 4096 + 32768);
    }

    /// Proves: -SMTP-007
    #[test]
    fn each_violation_has_its_name() {
        for (wire, fault) in [
            ("a\nb\r\n.\r\n", ContentFault::BareLf),
            ("a\rb\r\n.\r\n", ContentFault::BareCr),
            ("a\0b\r\n.\r\n", ContentFault::Nul),
            (".\rb\r\n.\r\n", ContentFault::BareCr),
            (".\nb\r\n.\r\n", ContentFault::BareLf),
            ("\n.\r\n.\r\n", ContentFault::BareLf),
        ] {
            let (end, found, _) = data(wire.as_bytes());
            assert_eq!((end, found), (Some(wire.len()), Some(fault)), "{wire:?}");
            assert_eq!((fault.reply().code(), fault.reply().enhanced()), (550, Some((5, 6, 0))));
            assert!(fault.reply().lines()[0].starts_with("SMTP-007 "));
        }
    }

    /// Proves: +SMTP-008 -SMTP-008
    #[test]
    fn a_line_has_998_octets_and_not_one_more() {
        let line = |octets: usize| [vec![b'x'; octets], b"\r\n".to_vec()].concat();
        assert_eq!(data(&[line(998), b".\r\n".to_vec()].concat()).1, None);
        assert_eq!(data(&[line(999), b".\r\n".to_vec()].concat()).1, Some(ContentFault::LineTooLong));
        // The doubled dot is not part of the line.
        assert_eq!(data(&[b".".to_vec(), line(998), b".\r\n".to_vec()].concat()).1, None);
        assert_eq!(chunks(&[&line(998), &line(998)]), Ok([line(998), line(998)].concat()));
        assert_eq!(chunks(&[&[b'x'; 500], &[b'x'; 499], b"\r\n"]), Err(ContentFault::LineTooLong));
        assert!(ContentFault::LineTooLong.reply().lines()[0].starts_with("SMTP-008 "));
    }

    /// Proves: +SMTP-026 -SMTP-026 -SMTP-007
    #[test]
    fn chunks_obey_the_same_rules_across_their_borders() {
        assert_eq!(chunks(&[b"a\r", b"\nb\r\n"]), Ok(b"a\r\nb\r\n".to_vec()));
        assert_eq!(chunks(&[b".\r\n", b".\r\n"]), Ok(b".\r\n.\r\n".to_vec()));
        assert_eq!(chunks(&[]), Ok(Vec::new()));
        assert_eq!(chunks(&[b"a"]), Ok(b"a\r\n".to_vec()));
        assert_eq!(chunks(&[b"a\r", b"b\r\n"]), Err(ContentFault::BareCr));
        assert_eq!(chunks(&[b"a\r"]), Err(ContentFault::BareCr));
        assert_eq!(chunks(&[b"a", b"\nb\r\n"]), Err(ContentFault::BareLf));
        assert_eq!(chunks(&[b"\0"]), Err(ContentFault::Nul));
    }

    /// Found by the fuzz target `smtp_data`.
    #[test]
    fn a_long_line_is_cut_off_at_the_same_octet_in_whatever_pieces_it_comes() {
        for octets in [998, 999, 1_100] {
            fuzz(&vec![b'x'; octets]);
            fuzz(&[b"a\r\n..", &vec![b'x'; octets][..], b"\r\n.\r\n"].concat());
        }
        assert_eq!(data(&[b'x'; 1_100]).2.len(), LINE_OCTETS_MAX);
    }

    #[test]
    fn after_a_violation_nothing_comes_out() {
        let (mut data, mut out) = (Data::new(), Vec::new());
        data.push(b"good\r\nbad\n", &mut out);
        let before = out.len();
        data.push(b"more\r\n.\r\n", &mut out);
        assert_eq!(out.len(), before);
    }

    proptest! {
        #[test]
        fn t01_any_content_ends_where_the_standard_says(
            input in proptest::collection::vec(prop_oneof![
                4 => Just(b'\r'), 4 => Just(b'\n'), 4 => Just(b'.'), 2 => Just(b'x'), 1 => any::<u8>()
            ], 0..64)
        ) {
            fuzz(&input);
        }
    }
}
