//! Reading content back, in pieces, with its digest checked.

use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::task::JoinHandle;

use crate::model::{Digest, Hasher, MessageId};
use crate::world::Threads;

use super::seal::{CHUNK_OCTETS, Opener, TAG_OCTETS};
use super::store::Store;

/// The content of a message, octet for octet as it was accepted (SPOOL-007).
///
/// It ends in an error instead of an end when its digest is not the one recorded at acceptance (SPOOL-013), so nobody
/// can take damaged content for a complete message.
pub struct Content {
    source: Source,
    piece: Vec<u8>,
    position: usize,
    hasher: Hasher,
    expected: Digest,
    message: MessageId,
    store: Arc<Store>,
    threads: Threads,
}

/// Sealed content in a file, and how to open it.
struct Sealed {
    file: Box<dyn Read + Send>,
    opener: Opener,
}

/// The file, what was read from it (empty at its end), and whether that went well.
type Piece = (Sealed, Vec<u8>, io::Result<()>);

enum Source {
    /// All of it is in `piece`.
    Memory,
    File(Sealed),
    Reading(JoinHandle<Piece>),
    Ended,
    /// It broke off; every further read says so, or it would look like an end.
    Failed,
}

impl Content {
    /// Content from the database; `None` if it does not open.
    pub(super) fn inline(
        store: Arc<Store>,
        message: MessageId,
        sealed: &[u8],
        mut opener: Opener,
        expected: Digest,
    ) -> Option<Self> {
        let mut content = Vec::with_capacity(sealed.len());
        for chunk in sealed.chunks(CHUNK_OCTETS + TAG_OCTETS) {
            let mut chunk = chunk.to_vec();
            opener.open(&mut chunk)?;
            content.extend_from_slice(&chunk);
        }
        opener.is_complete().then(|| Self::new(store, message, Source::Memory, content, expected))
    }

    /// Content that is in memory.
    pub(super) fn memory(store: Arc<Store>, message: MessageId, content: Vec<u8>, expected: Digest) -> Self {
        Self::new(store, message, Source::Memory, content, expected)
    }

    pub(super) fn file(
        store: Arc<Store>,
        threads: Threads,
        message: MessageId,
        file: Box<dyn Read + Send>,
        opener: Opener,
        expected: Digest,
    ) -> Self {
        let source = Source::File(Sealed { file, opener });
        Self { threads, ..Self::new(store, message, source, Vec::new(), expected) }
    }

    fn new(store: Arc<Store>, message: MessageId, source: Source, piece: Vec<u8>, expected: Digest) -> Self {
        Self {
            source,
            piece,
            position: 0,
            hasher: Hasher::default(),
            expected,
            message,
            store,
            threads: Threads::Apart,
        }
    }

    fn end(&mut self) -> io::Result<()> {
        if self.hasher.clone().finish() == self.expected {
            self.source = Source::Ended;
            return Ok(());
        }
        self.store.mark_damaged(self.message);
        Err(damaged())
    }
}

fn damaged() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the stored content does not have the digest it was stored with",
    )
}

impl AsyncRead for Content {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if this.position < this.piece.len() {
                let rest = &this.piece[this.position..];
                let taken = &rest[..rest.len().min(out.remaining())];
                this.hasher.update(taken);
                out.put_slice(taken);
                this.position += taken.len();
                return Poll::Ready(Ok(()));
            }
            match std::mem::replace(&mut this.source, Source::Failed) {
                Source::Failed => return Poll::Ready(Err(damaged())),
                Source::Ended => {
                    this.source = Source::Ended;
                    return Poll::Ready(Ok(()));
                }
                Source::Memory => return Poll::Ready(this.end()),
                Source::File(file) => {
                    let piece = std::mem::take(&mut this.piece);
                    this.source = Source::Reading(this.threads.run(move || read_piece(file, piece)));
                }
                Source::Reading(mut reading) => {
                    let done = match Pin::new(&mut reading).poll(context) {
                        Poll::Ready(done) => done,
                        Poll::Pending => {
                            this.source = Source::Reading(reading);
                            return Poll::Pending;
                        }
                    };
                    let (file, piece, result) = done.map_err(io::Error::other)?;
                    if let Err(error) = result {
                        if error.kind() == io::ErrorKind::InvalidData {
                            this.store.mark_damaged(this.message);
                        }
                        return Poll::Ready(Err(error));
                    }
                    if piece.is_empty() {
                        return Poll::Ready(this.end());
                    }
                    this.source = Source::File(file);
                    this.piece = piece;
                    this.position = 0;
                }
            }
        }
    }
}

/// Reads and opens the next chunk. After the last one nothing may follow.
fn read_piece(mut sealed: Sealed, mut piece: Vec<u8>) -> Piece {
    piece.clear();
    let limit = if sealed.opener.is_complete() { 1 } else { CHUNK_OCTETS + TAG_OCTETS };
    let result = match sealed.file.by_ref().take(limit as u64).read_to_end(&mut piece) {
        Ok(0) if sealed.opener.is_complete() => Ok(()),
        Ok(_) => sealed.opener.open(&mut piece).ok_or_else(damaged),
        Err(error) => Err(error),
    };
    (sealed, piece, result)
}
