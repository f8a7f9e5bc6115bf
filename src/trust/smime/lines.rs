//! Content cut into lines while it passes, and Base64 read while it passes.

/// Content is held until its line ends, and never more than this. Longer lines, of which there are none where the limit of
/// RFC 5322 section 2.1.1 was kept, come in pieces.
const LINE_OCTETS_MAX: usize = 2048;

/// A line, or a piece of one that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// Without the CRLF.
    pub(super) octets: &'a [u8],
    /// Whether a line begins here.
    pub(super) begins: bool,
    /// Whether a CRLF follows.
    pub(super) ends: bool,
}

impl Line<'_> {
    /// Whether this is all of an empty line.
    pub(super) const fn is_empty(&self) -> bool {
        self.octets.is_empty() && self.begins && self.ends
    }
}

/// Cuts content into lines.
#[derive(Debug)]
pub(super) struct Lines {
    held: Vec<u8>,
    begins: bool,
}

impl Lines {
    pub(super) const fn new() -> Self {
        Self { held: Vec::new(), begins: true }
    }

    /// Octets that are held now.
    pub(super) fn held(&self) -> usize {
        self.held.capacity()
    }

    /// The next octets; `take` gets every line that ends in them.
    pub(super) fn push(&mut self, mut octets: &[u8], mut take: impl FnMut(Line<'_>)) {
        while !octets.is_empty() {
            let room = LINE_OCTETS_MAX.saturating_sub(self.held.len()).max(1);
            let (piece, ends) = match memchr::memchr(b'\n', &octets[..room.min(octets.len())]) {
                Some(at) => (&octets[..=at], true),
                None => (&octets[..room.min(octets.len())], false),
            };
            octets = &octets[piece.len()..];
            self.held.extend_from_slice(piece);
            if ends && self.held.ends_with(b"\r\n") {
                let line = &self.held[..self.held.len() - 2];
                take(Line { octets: line, begins: self.begins, ends: true });
                self.begins = true;
                self.held.clear();
            } else if self.held.len() >= LINE_OCTETS_MAX {
                // A CR at the end may be half of a line end.
                let keep = usize::from(self.held.ends_with(b"\r"));
                let cut = self.held.len() - keep;
                take(Line { octets: &self.held[..cut], begins: self.begins, ends: false });
                self.begins = false;
                self.held.drain(..cut);
            }
        }
    }

    /// No more octets: what is left is the last line, which has no end.
    pub(super) fn finish(self, take: impl FnOnce(Line<'_>)) {
        if !self.held.is_empty() {
            take(Line { octets: &self.held, begins: self.begins, ends: false });
        }
    }
}

/// Reads Base64 (RFC 2045 section 6.8) up to a number of octets.
#[derive(Debug)]
pub(super) struct Base64 {
    limit: usize,
    octets: Vec<u8>,
    /// Six bits of each character that is not used up yet, and how many there are.
    bits: u32,
    characters: u8,
    /// How many `=` have come.
    padding: u8,
    fault: Option<Fault>,
}

/// Why Base64 gives nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Malformed,
    TooLarge,
}

impl Base64 {
    pub(super) const fn new(limit: usize) -> Self {
        Self { limit, octets: Vec::new(), bits: 0, characters: 0, padding: 0, fault: None }
    }

    /// The next characters; blanks mean nothing.
    pub(super) fn push(&mut self, text: &[u8]) {
        for &character in text {
            if self.fault.is_some() {
                return;
            }
            let value = match character {
                b'A'..=b'Z' => character - b'A',
                b'a'..=b'z' => character - b'a' + 26,
                b'0'..=b'9' => character - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                b' ' | b'\t' => continue,
                b'=' if self.characters >= 2 && self.padding < 2 => {
                    self.padding += 1;
                    continue;
                }
                _ => return self.fail(Fault::Malformed),
            };
            if self.padding > 0 {
                return self.fail(Fault::Malformed);
            }
            self.bits = self.bits << 6 | u32::from(value);
            self.characters += 1;
            if self.characters == 4 {
                self.store(3);
            }
        }
    }

    fn store(&mut self, count: usize) {
        if self.octets.len() + count > self.limit {
            return self.fail(Fault::TooLarge);
        }
        let [_, octets @ ..] = self.bits.to_be_bytes();
        self.octets.extend_from_slice(&octets[..count]);
        (self.bits, self.characters) = (0, 0);
    }

    fn fail(&mut self, fault: Fault) {
        self.fault = Some(fault);
        // The first octets say what it is; nobody needs more.
        self.octets.truncate(64);
        self.octets.shrink_to_fit();
    }

    /// What was read so far.
    pub(super) fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// Octets that are held now.
    pub(super) fn held(&self) -> usize {
        self.octets.capacity()
    }

    /// All of it.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, (Fault, Vec<u8>)> {
        match (self.characters, self.padding) {
            _ if self.fault.is_some() => {}
            (0, 0) => {}
            (characters @ (2 | 3), padding) if characters + padding == 4 => {
                self.bits <<= 6 * u32::from(padding);
                self.store(usize::from(characters) - 1);
            }
            _ => self.fail(Fault::Malformed),
        }
        match self.fault {
            None => Ok(self.octets),
            Some(fault) => Err((fault, self.octets)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::*;

    /// Every line with its end, as one text.
    fn lines(content: &[u8], step: usize) -> (Vec<(Vec<u8>, bool)>, usize) {
        let (mut lines, mut all, mut most) = (Lines::new(), Vec::new(), 0);
        let mut take = |line: Line<'_>| {
            if line.begins {
                all.push((Vec::new(), false));
            }
            let last = all.last_mut().unwrap();
            last.0.extend_from_slice(line.octets);
            last.1 = line.ends;
        };
        for piece in content.chunks(step) {
            lines.push(piece, &mut take);
            most = most.max(lines.held.len());
        }
        lines.finish(&mut take);
        (all, most)
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            parts in prop::collection::vec(prop_oneof![Just("\r\n"), Just("\r"), Just("\n"), Just("a"), Just("bcd")], 0..40),
            step in 1_usize..9,
        ) {
            let content = parts.concat();
            let (found, _) = lines(content.as_bytes(), step);
            let whole: Vec<&str> = content.split("\r\n").collect();
            let (last, ended) = whole.split_last().unwrap();
            let mut wanted: Vec<_> = ended.iter().map(|line| (line.as_bytes().to_vec(), true)).collect();
            if !last.is_empty() {
                wanted.push((last.as_bytes().to_vec(), false));
            }
            prop_assert_eq!(found, wanted);
        }

        #[test]
        fn base64_is_what_others_write(octets in prop::collection::vec(any::<u8>(), 0..100), step in 1_usize..9) {
            let text = STANDARD.encode(&octets);
            let mut read = Base64::new(200);
            for piece in text.as_bytes().chunks(step) {
                read.push(piece);
                read.push(b" \t");
            }
            prop_assert_eq!(read.finish(), Ok(octets));
        }
    }

    #[test]
    fn a_line_that_is_too_long_comes_in_pieces() {
        for extra in 0..4 {
            let content = [vec![b'x'; LINE_OCTETS_MAX * 2 - 2 + extra], b"\r\nend".to_vec()].concat();
            let (found, most) = lines(&content, 700);
            assert_eq!(found.len(), 2, "{extra}");
            assert_eq!((found[0].0.len(), found[0].1), (LINE_OCTETS_MAX * 2 - 2 + extra, true));
            assert!(most <= LINE_OCTETS_MAX);
        }
    }

    #[test]
    fn t27_what_is_no_base64_or_too_much_of_it_is_not_kept() {
        let read = |text: &str, limit| {
            let mut read = Base64::new(limit);
            read.push(text.as_bytes());
            read.finish().map_err(|(fault, _)| fault)
        };
        for text in
            ["A", "AA", "AAA", "A===", "AA=A", "AA=", "AAAA=", "AA==AA==", "A-==", "AAA==", "====", "AA==="]
        {
            assert_eq!(read(text, 99), Err(Fault::Malformed), "{text}");
        }
        assert_eq!(read("AAAA", 3), Ok(vec![0; 3]));
        assert_eq!(read("AAAAAA==", 3), Err(Fault::TooLarge));
        let mut endless = Base64::new(1000);
        for _ in 0..1000 {
            endless.push(&[b'A'; 76]);
            assert!(endless.held() <= 2000);
        }
    }
}
