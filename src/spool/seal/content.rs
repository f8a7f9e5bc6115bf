//! Content at rest: chunks that open only in their order, whole, and for their message.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{KEY_OCTETS, Key, new_key};
use crate::model::MessageId;
use crate::spool::SpoolError;

/// Octets of content in each chunk but the last, which may have fewer. What is in memory at a time.
pub const CHUNK_OCTETS: usize = 64 << 10;
/// What sealing adds to a chunk.
pub const TAG_OCTETS: usize = 16;

/// Octets on disk of content of `size` octets.
pub const fn sealed_size(size: u64) -> u64 {
    size + chunks(size) * TAG_OCTETS as u64
}

/// Empty content is one empty chunk: that nothing follows has to be sealed too.
const fn chunks(size: u64) -> u64 {
    let full = size.div_ceil(CHUNK_OCTETS as u64);
    if full == 0 { 1 } else { full }
}

/// The key of one message's content. It stands in the message's record, which is sealed.
#[derive(Clone)]
pub struct ContentKey(Key);

impl ContentKey {
    /// A fresh key.
    pub fn make() -> Result<Self, SpoolError> {
        new_key().map(Self)
    }

    fn aead(&self) -> Result<LessSafeKey, SpoolError> {
        UnboundKey::new(&AES_256_GCM, self.0.as_ref())
            .map(LessSafeKey::new)
            .map_err(|_| SpoolError::broken("the key of a content does not work"))
    }
}

impl fmt::Debug for ContentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContentKey(…)")
    }
}

impl Serialize for ContentKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(self.0.as_ref()))
    }
}

impl<'de> Deserialize<'de> for ContentKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let octets = STANDARD.decode(text).map_err(de::Error::custom)?;
        let octets: [u8; KEY_OCTETS] =
            octets.try_into().map_err(|_| de::Error::custom("a key of another length"))?;
        Ok(Self(Key::new(octets)))
    }
}

/// What every chunk is sealed with: its number and whether it is the last in the nonce (no two chunks of a key share
/// one), the message beside it.
struct Chunks {
    key: LessSafeKey,
    message: [u8; 16],
    next: u64,
}

impl Chunks {
    fn new(key: &ContentKey, message: MessageId) -> Result<Self, SpoolError> {
        Ok(Self { key: key.aead()?, message: message.to_bytes(), next: 0 })
    }

    fn seal(&mut self, chunk: &[u8], last: bool, out: &mut Vec<u8>) -> Result<(), SpoolError> {
        let start = out.len();
        out.extend_from_slice(chunk);
        let nonce = nonce(self.next, last);
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(self.message), &mut out[start..])
            .map_err(|_| SpoolError::broken("content could not be sealed"))?;
        out.extend_from_slice(tag.as_ref());
        self.next += 1;
        Ok(())
    }
}

fn nonce(number: u64, last: bool) -> Nonce {
    let mut octets = [0; NONCE_LEN];
    octets[..8].copy_from_slice(&number.to_be_bytes());
    octets[NONCE_LEN - 1] = u8::from(last);
    Nonce::assume_unique_for_key(octets)
}

/// Seals content as it streams by.
pub struct Sealer {
    chunks: Chunks,
    /// What has not filled a chunk; a full one waits, since it may be the last.
    rest: Vec<u8>,
}

impl Sealer {
    /// Begins the content of `message`. A key seals one content, once.
    pub fn new(key: &ContentKey, message: MessageId) -> Result<Self, SpoolError> {
        Ok(Self { chunks: Chunks::new(key, message)?, rest: Vec::new() })
    }

    /// Takes the next octets and appends what is sealed to `out`.
    pub fn push(&mut self, octets: &[u8], out: &mut Vec<u8>) -> Result<(), SpoolError> {
        let mut octets = octets;
        while self.rest.len() + octets.len() > CHUNK_OCTETS {
            let (now, later) = octets.split_at(CHUNK_OCTETS - self.rest.len());
            self.rest.extend_from_slice(now);
            self.chunks.seal(&self.rest, false, out)?;
            self.rest.clear();
            octets = later;
        }
        self.rest.extend_from_slice(octets);
        Ok(())
    }

    /// Appends the last chunk.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), SpoolError> {
        self.chunks.seal(&self.rest, true, out)
    }
}

/// Opens chunk after chunk.
pub struct Opener {
    chunks: Chunks,
    count: u64,
}

impl Opener {
    /// For the content of `message`, which has `size` octets.
    pub fn new(key: &ContentKey, message: MessageId, size: u64) -> Result<Self, SpoolError> {
        Ok(Self { chunks: Chunks::new(key, message)?, count: chunks(size) })
    }

    /// Whether all chunks were opened.
    pub const fn is_complete(&self) -> bool {
        self.chunks.next == self.count
    }

    /// Opens the next chunk in place; `None` if it is not the one that was sealed here, or one too many.
    pub fn open(&mut self, chunk: &mut Vec<u8>) -> Option<()> {
        if self.is_complete() {
            return None;
        }
        let last = self.chunks.next + 1 == self.count;
        let opened = self
            .chunks
            .key
            .open_in_place(nonce(self.chunks.next, last), Aad::from(self.chunks.message), chunk)
            .ok()?
            .len();
        chunk.truncate(opened);
        self.chunks.next += 1;
        Some(())
    }
}
