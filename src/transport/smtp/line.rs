//! Lines from a stream of octets: CRLF ends a line, and nothing else does (SMTP-006).
//!
//! [`Framer`] decides where a line ends and knows no stream; [`Octets`] is the read buffer, which can be asked whether it
//! is empty, because nothing may cross the border between clear text and TLS (SMTP-002).

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// How much of a refused line is skipped while looking for its end, in octets. Who sends more has no CRLF to send.
const SKIP_OCTETS_MAX: usize = 64 * 1024;
/// Size of the read buffer in octets: some TCP segments, one TLS record.
const BUFFER_OCTETS: usize = 16 * 1024;

/// Why a line is refused (SMTP-009). Its octets are gone, up to and including its CRLF.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineFault {
    /// A bare CR, a bare LF or a NUL.
    #[error("the line holds a bare CR, a bare LF or a NUL")]
    Malformed,
    /// Longer than the limit.
    #[error("the line is too long")]
    TooLong,
    /// No CRLF within 64 KiB after the limit. The stream has no place to go on from: it must be closed.
    #[error("the line does not end")]
    Endless,
}

/// Cuts octets into lines. Holds at most one line, however long the input is.
#[derive(Debug)]
pub struct Framer {
    max: usize,
    line: Vec<u8>,
    seen: usize,
    after_cr: bool,
    fault: Option<LineFault>,
}

impl Framer {
    /// For lines of at most `max` octets, CRLF included.
    #[must_use]
    pub const fn new(max: usize) -> Self {
        Self { max, line: Vec::new(), seen: 0, after_cr: false, fault: None }
    }

    /// Whether part of a line has been read.
    #[must_use]
    pub const fn is_inside_line(&self) -> bool {
        self.seen > 0
    }

    /// Reads up to the end of one line: how many octets were used, and the line without its CRLF once it is complete.
    pub fn push(&mut self, octets: &[u8]) -> (usize, Option<Result<Vec<u8>, LineFault>>) {
        for (at, &octet) in octets.iter().enumerate() {
            self.seen += 1;
            if self.after_cr && octet == b'\n' {
                return (at + 1, Some(self.end()));
            }
            if self.after_cr {
                self.refuse(LineFault::Malformed);
            }
            self.after_cr = octet == b'\r';
            match octet {
                b'\r' => {}
                b'\n' | 0 => self.refuse(LineFault::Malformed),
                _ if self.seen + 2 > self.max => self.refuse(LineFault::TooLong),
                _ if self.fault.is_none() => self.line.push(octet),
                _ => {}
            }
            if self.seen > self.max + SKIP_OCTETS_MAX {
                self.fault = Some(LineFault::Endless);
                return (at + 1, Some(self.end()));
            }
        }
        (octets.len(), None)
    }

    fn refuse(&mut self, fault: LineFault) {
        self.fault.get_or_insert(fault);
        self.line = Vec::new();
    }

    fn end(&mut self) -> Result<Vec<u8>, LineFault> {
        let done = std::mem::replace(self, Self::new(self.max));
        done.fault.map_or(Ok(done.line), Err)
    }
}

/// A stream that is read through a buffer of fixed size.
pub struct Octets<S> {
    stream: S,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

/// There were octets in the buffer that belong to the time before the border: never to be used after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} octets were sent ahead of the answer")]
pub struct SentAhead(pub usize);

impl<S> Octets<S> {
    /// A stream with an empty buffer.
    #[must_use]
    pub fn new(stream: S) -> Self {
        Self { stream, buffer: vec![0; BUFFER_OCTETS].into_boxed_slice(), start: 0, end: 0 }
    }

    /// What was read and not yet consumed.
    #[must_use]
    pub fn available(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Marks the first `count` available octets as used.
    pub fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    /// The stream, to write to it.
    pub fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Gives the stream back if nothing has been read ahead.
    ///
    /// # Errors
    /// [`SentAhead`] when octets were buffered; they are dropped together with the stream.
    pub fn into_stream(self) -> Result<S, SentAhead> {
        match self.available().len() {
            0 => Ok(self.stream),
            count => Err(SentAhead(count)),
        }
    }
}

impl<S: AsyncRead + Unpin> Octets<S> {
    /// Waits until octets are available; 0 means that the other side has ended the stream. Dropping the future loses
    /// nothing.
    ///
    /// # Errors
    /// Those of the stream.
    pub async fn fill(&mut self) -> io::Result<usize> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            self.end = self.stream.read(&mut self.buffer).await?;
        }
        Ok(self.end - self.start)
    }
}

/// For fuzzing: lines are the same however the input is cut, hold no control octet that could end a line elsewhere, and
/// there are as many of them as CRLFs.
///
/// # Panics
/// When one of these does not hold.
pub fn fuzz(input: &[u8]) {
    let (max, input) = input.split_first().map_or((0, input), |(max, rest)| (usize::from(*max), rest));
    let lines = |step: usize| {
        let (mut framer, mut lines) = (Framer::new(max), Vec::new());
        for mut piece in input.chunks(step.max(1)) {
            while !piece.is_empty() {
                let (used, line) = framer.push(piece);
                assert!(framer.line.len() <= max);
                piece = &piece[used..];
                lines.extend(line);
            }
        }
        lines
    };
    let whole = lines(input.len());
    assert_eq!(whole, lines(1));
    assert_eq!(whole, lines(3));
    assert!(whole.iter().flatten().flatten().all(|octet| !matches!(octet, b'\r' | b'\n' | 0)));
    if !whole.contains(&Err(LineFault::Endless)) {
        assert_eq!(whole.len(), input.windows(2).filter(|pair| pair == b"\r\n").count());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn lines(max: usize, mut input: &[u8]) -> Vec<Result<String, LineFault>> {
        let (mut framer, mut lines) = (Framer::new(max), Vec::new());
        while !input.is_empty() {
            let (used, line) = framer.push(input);
            input = &input[used..];
            lines.extend(line.map(|line| line.map(|line| String::from_utf8(line).unwrap())));
        }
        lines
    }

    /// Proves: +SMTP-006 -SMTP-006 +SMTP-009 -SMTP-009
    #[test]
    fn t01_only_crlf_ends_a_command() {
        let ok = |text: &str| Ok(text.to_owned());
        assert_eq!(lines(512, b"NOOP\r\nQUIT\r\n"), [ok("NOOP"), ok("QUIT")]);
        assert_eq!(lines(512, b"\r\n\r\n"), [ok(""), ok("")]);
        for bad in
            ["NOOP\nQUIT\r\n", "NOOP\rQUIT\r\n", "NOOP\r\rQUIT\r\n", "NO\0OP\r\n", "NOOP\r\r\n", "\nNOOP\r\n"]
        {
            assert_eq!(lines(512, bad.as_bytes()), [Err(LineFault::Malformed)], "{bad:?}");
        }
        assert_eq!(lines(512, b"NOOP\nRSET\r\nQUIT\r\n"), [Err(LineFault::Malformed), ok("QUIT")]);
        assert!(lines(512, b"NOOP\n").is_empty() && lines(512, b"NOOP\r").is_empty());
    }

    /// Proves: -SMTP-009
    #[test]
    fn t04b_an_overlong_line_is_skipped_and_not_kept() {
        let long = |octets: usize| [vec![b'x'; octets - 2], b"\r\nQUIT\r\n".to_vec()].concat();
        assert_eq!(lines(512, &long(512)).len(), 2);
        assert!(lines(512, &long(512))[0].is_ok());
        assert_eq!(lines(512, &long(513)), [Err(LineFault::TooLong), Ok("QUIT".to_owned())]);
        let mut framer = Framer::new(512);
        assert_eq!(framer.push(&vec![b'x'; SKIP_OCTETS_MAX]).1, None);
        assert_eq!(framer.line.capacity(), 0);
        assert_eq!(framer.push(&[b'x'; 1024]).1, Some(Err(LineFault::Endless)));
    }

    #[tokio::test]
    async fn the_buffer_knows_whether_something_was_sent_ahead() {
        let mut octets = Octets::new(&b"STARTTLS\r\nEHLO x\r\n"[..]);
        assert_eq!(octets.fill().await.unwrap(), 18);
        octets.consume(10);
        assert_eq!(octets.available(), b"EHLO x\r\n");
        assert_eq!(octets.into_stream().map(<[u8]>::len), Err(SentAhead(8)));
        let mut octets = Octets::new(&b"STARTTLS\r\n"[..]);
        octets.fill().await.unwrap();
        octets.consume(10);
        assert_eq!(octets.fill().await.unwrap(), 0);
        assert!(octets.into_stream().is_ok());
    }

    proptest! {
        #[test]
        fn t01_any_input_gives_the_same_lines_however_it_is_cut(
            input in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(0u8), Just(b'a'), any::<u8>()], 0..200)
        ) {
            fuzz(&input);
        }
    }
}
