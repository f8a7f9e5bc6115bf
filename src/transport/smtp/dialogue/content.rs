//! Content on its way out: checked, framed, never held whole.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::error::{Fault, Lack};
use crate::transport::smtp::data::Chunks;

/// How much content is in memory at once, in octets.
const PART_OCTETS: usize = 32 * 1024;

/// A message's content: where it is read from, and how long it is.
pub struct Content<'a> {
    /// Its octets, from the first on.
    pub reader: &'a mut (dyn AsyncRead + Send + Unpin),
    /// How many there are. SIZE and BDAT announce it, so a reader that yields another number is a fault of ours.
    pub size: u64,
}

/// How content crosses the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// BDAT: as it is (RFC 3030).
    Chunk,
    /// DATA: dots at line starts doubled, CRLF `.` CRLF at the end (RFC 5321 section 4.5.2).
    Dots,
}

/// Whether octets over 127 may cross.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Octets {
    /// The host offers 8BITMIME.
    All,
    /// It does not.
    SevenBit,
}

/// Turns content into what goes over the wire, part by part.
///
/// The rules for content are those of the server role, in the same code: whatever breaks them was refused when it came,
/// and is stopped here before its first wrong octet if it came about in our own house.
pub(super) struct Encoder<'a> {
    content: Content<'a>,
    framing: Framing,
    octets: Octets,
    rules: Chunks,
    part: Box<[u8]>,
    checked: Vec<u8>,
    taken: u64,
    line_start: bool,
}

impl<'a> Encoder<'a> {
    pub(super) fn new(content: Content<'a>, framing: Framing, octets: Octets) -> Self {
        Self {
            content,
            framing,
            octets,
            rules: Chunks::new(),
            part: vec![0; PART_OCTETS].into_boxed_slice(),
            checked: Vec::with_capacity(PART_OCTETS + 2),
            taken: 0,
            line_start: true,
        }
    }

    /// The next octets for the wire, in place of what `out` holds; empty at the end.
    pub(super) async fn next(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        out.clear();
        while out.is_empty() {
            let count = self.content.reader.read(&mut self.part).await.map_err(Fault::Source)?;
            self.taken += count as u64;
            self.checked.clear();
            if count == 0 {
                return self.end(out);
            }
            let part = &self.part[..count];
            if self.taken > self.content.size {
                return Err(Fault::Source(wrong_size("more", self.content.size)));
            }
            if self.octets == Octets::SevenBit && !part.is_ascii() {
                return Err(Lack::EightBitMime.into());
            }
            self.rules.push(part, &mut self.checked);
            if let Some(fault) = self.rules.fault() {
                return Err(fault.into());
            }
            self.frame(out);
        }
        Ok(())
    }

    fn frame(&mut self, out: &mut Vec<u8>) {
        if self.framing == Framing::Chunk {
            out.extend_from_slice(&self.checked);
            return;
        }
        // Only CRLF ends a line in checked content, so an LF is the end of one.
        for line in self.checked.split_inclusive(|octet| *octet == b'\n') {
            if self.line_start && line.first() == Some(&b'.') {
                out.push(b'.');
            }
            out.extend_from_slice(line);
            self.line_start = line.ends_with(b"\n");
        }
    }

    /// Nothing more to read: is all well, and what is still to be sent?
    fn end(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        if self.taken != self.content.size {
            return Err(Fault::Source(wrong_size("fewer", self.content.size)));
        }
        self.rules.end(&mut self.checked);
        if let Some(fault) = self.rules.fault() {
            return Err(fault.into());
        }
        // A last line without CRLF gets one where the framing needs it; a chunk goes as it is.
        if self.framing == Framing::Dots && !self.checked.is_empty() {
            self.frame(out);
        }
        Ok(())
    }
}

fn wrong_size(than: &str, size: u64) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{than} octets than the {size} on record"))
}
