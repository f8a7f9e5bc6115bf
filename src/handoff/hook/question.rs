//! What a hook is asked: the message as the body of a request, its envelope beside it.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use tokio::io::{AsyncRead, ReadBuf};

use super::HookError;
use crate::handoff::deliver::headers::HEADER_OCTETS_MAX;
use crate::model::{Address, AttemptId, Digest, DomainName, Envelope, Hasher, Level, MessageId};
use crate::trust::{HeaderFacts, HeaderFault, HeaderLimits, HeaderWatch};

/// Octets of the message in memory at a time.
const PIECE_OCTETS: usize = 32 << 10;
/// The message was accepted under the limits of its day, and got fields of ours since: here it is only compared.
const LIMITS_BEFORE: HeaderLimits = HeaderLimits {
    octets: HEADER_OCTETS_MAX + (64 << 10),
    fields: usize::MAX,
    received: usize::MAX,
    own_received: usize::MAX,
};

/// What is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The message; the same in each attempt.
    pub message: MessageId,
    /// The attempt, under which the decision record can be found.
    pub attempt: AttemptId,
    /// Sender and the recipients of this attempt.
    pub envelope: &'a Envelope,
    /// The level that was proven.
    pub level: Option<Level>,
    /// The `From:` domain it was proven for.
    pub domain: Option<&'a DomainName>,
    /// Octets of the content.
    pub size: u64,
}

impl Question<'_> {
    /// The request. Its `Content-Length:` is that of the body.
    pub(super) fn request<R>(
        &self,
        host: &str,
        path: &str,
        body: Offered<R>,
    ) -> Result<Request<Offered<R>>, HookError> {
        let Self { message, attempt, envelope, level, domain, .. } = self;
        let sender = envelope.sender.address().map_or_else(|| "<>".to_owned(), encoded);
        let recipients: Vec<_> = envelope.recipients.iter().map(|to| encoded(&to.address)).collect();
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(HOST, host)
            .header(CONNECTION, "close")
            .header(CONTENT_TYPE, "message/rfc822")
            .header("Sluis-Message", message.to_string())
            .header("Sluis-Attempt", attempt.to_string())
            .header("Sluis-Sender", sender)
            .header("Sluis-Recipients", recipients.join(","));
        if let Some(level) = level {
            request = request.header("Sluis-Level", level.as_str());
        }
        if let Some(domain) = domain {
            request = request.header("Sluis-Domain", domain.as_str());
        }
        // Everything above is ASCII without control characters, so only a fault of ours gets here.
        request.body(body).map_err(|error| HookError::Broken(format!("the request: {error}")))
    }
}

/// An address in a header field: all but what is plain in every address is percent-encoded (RFC 3986 section 2.1), commas
/// and blanks of quoted local parts and octets above 127 among it.
fn encoded(address: &Address) -> String {
    let plain = |octet: u8| octet.is_ascii_alphanumeric() || b"!#$&'*+-/=?^_`{|}~.@".contains(&octet);
    let mut out = String::new();
    for octet in address.to_string().bytes() {
        if plain(octet) {
            out.push(char::from(octet));
        } else {
            out.push_str(&format!("%{octet:02X}"));
        }
    }
    out
}

/// A message on its way to a hook, piece by piece.
pub(super) struct Offered<R> {
    content: R,
    left: u64,
    hasher: Option<Hasher>,
    watch: Option<HeaderWatch>,
    seen: Seen,
    piece: Box<[u8]>,
    /// The last piece, until the content has ended well.
    last: Option<Bytes>,
}

/// What is known of that message once it was all handed over.
#[derive(Clone, Default)]
pub(super) struct Seen(Arc<Mutex<State>>);

#[derive(Default)]
enum State {
    #[default]
    UnderWay,
    Whole(Whole),
    Failed(Option<io::Error>),
}

/// A message that was handed over to its end.
#[derive(Clone)]
pub(super) struct Whole {
    /// Its digest.
    pub(super) digest: Digest,
    /// What its header section says.
    pub(super) header: Result<HeaderFacts, HeaderFault>,
}

impl Seen {
    fn set(&self, state: State) {
        // A state is replaced whole.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// The whole message, if it was handed over to its end.
    pub(super) fn whole(&self) -> Option<Whole> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Whole(whole) => Some(whole.clone()),
            State::UnderWay | State::Failed(_) => None,
        }
    }

    /// Why it could not be read, if it could not. Says so once.
    pub(super) fn fault(&self) -> Option<io::Error> {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Failed(error) => error.take(),
            State::UnderWay | State::Whole(_) => None,
        }
    }
}

impl<R> Offered<R> {
    /// Content of `size` octets.
    pub(super) fn new(content: R, size: u64) -> (Self, Seen) {
        let seen = Seen::default();
        let offered = Self {
            content,
            left: size,
            hasher: Some(Hasher::default()),
            watch: Some(HeaderWatch::new(LIMITS_BEFORE)),
            seen: seen.clone(),
            piece: vec![0; PIECE_OCTETS].into_boxed_slice(),
            last: None,
        };
        (offered, seen)
    }

    fn take(&mut self, octets: &[u8]) {
        self.left -= octets.len() as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(octets);
        }
        // What is wrong with it is said at the end.
        let _kept = self.watch.as_mut().map(|watch| watch.push(octets));
    }

    /// Nothing more can be read: is all well?
    fn end(&mut self) -> io::Result<()> {
        if self.left != 0 {
            return Err(wrong_size("fewer"));
        }
        if let (Some(hasher), Some(watch)) = (self.hasher.take(), self.watch.take()) {
            self.seen.set(State::Whole(Whole { digest: hasher.finish(), header: watch.finish() }));
        }
        Ok(())
    }

    fn failed(&self, error: io::Error) -> io::Error {
        let said = io::Error::new(error.kind(), error.to_string());
        self.seen.set(State::Failed(Some(error)));
        said
    }
}

fn wrong_size(than: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{than} octets than on record"))
}

impl<R: AsyncRead + Unpin> Body for Offered<R> {
    type Data = Bytes;
    type Error = io::Error;

    /// The last piece is held back until the content has ended well: damage is found out at its end (SPOOL-013), and a hook
    /// that has all announced octets may begin to work.
    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        while this.hasher.is_some() {
            let mut buffer = ReadBuf::new(&mut this.piece);
            let read = ready!(Pin::new(&mut this.content).poll_read(context, &mut buffer));
            let octets = Bytes::copy_from_slice(buffer.filled());
            let outcome = match read {
                Err(error) => Err(error),
                Ok(()) if octets.len() as u64 > this.left => Err(wrong_size("more")),
                Ok(()) if octets.is_empty() => this.end(),
                Ok(()) => {
                    this.take(&octets);
                    if this.left > 0 {
                        return Poll::Ready(Some(Ok(Frame::data(octets))));
                    }
                    this.last = Some(octets);
                    Ok(())
                }
            };
            if let Err(error) = outcome {
                return Poll::Ready(Some(Err(this.failed(error))));
            }
        }
        Poll::Ready(this.last.take().map(|octets| Ok(Frame::data(octets))))
    }

    fn is_end_stream(&self) -> bool {
        self.hasher.is_none() && self.last.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left + self.last.as_ref().map_or(0, |octets| octets.len() as u64))
    }
}
