//! Why a dialogue ended before its time.

use std::io;

use super::replies::ReplyFault;
use super::step::Step;
use crate::model::{ContentLeft, Reason};
use crate::transport::smtp::Reply;
use crate::transport::smtp::data::ContentFault;
use crate::transport::tls::{HandshakeError, tls_error};

/// A dialogue that did not get where it was going. A reply that merely says no to a message or recipient is not an
/// error: see [`super::Transfer`].
#[derive(Debug, thiserror::Error)]
#[error("{fault}, {step}")]
pub struct DialogueError {
    step: Step,
    fault: Fault,
    content_left: ContentLeft,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The time for the step ran out.
    #[error("no answer in time")]
    Timeout,
    /// The other side ended the connection, or the network did.
    #[error("connection lost: {0}")]
    Lost(io::Error),
    /// The TLS layer broke, or the other side sent an alert. In TLS 1.3 that is how a server says, after the handshake,
    /// that it does not want our certificate.
    #[error("TLS: {0}")]
    Tls(rustls::Error),
    /// The handshake failed, or the server is not who it should be.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// What came is no reply, or not one that can stand here.
    #[error("protocol: {0}")]
    Protocol(String),
    /// The other side refused the link itself, in greeting, EHLO or STARTTLS.
    #[error("refused: {0}")]
    Refused(Reply),
    /// EHLO did not offer STARTTLS (SMTP-004).
    #[error("the host does not offer STARTTLS")]
    StarttlsAbsent,
    /// Octets followed the reply to STARTTLS in the clear (SMTP-003, attack class T3).
    #[error("{0} octets followed the reply to STARTTLS in the clear")]
    StarttlsInjection(usize),
    /// The message needs what the other side does not offer. Nothing was sent, and nothing is re-coded (SMTP-015).
    #[error("{0}")]
    Lacks(Lack),
    /// Our own content breaks the rules for content; it was not sent to its end (SMTP-007, SMTP-008).
    #[error("content: {0}")]
    Content(#[from] ContentFault),
    /// Our own content could not be read, or has not the size it should.
    #[error("reading the content: {0}")]
    Source(io::Error),
}

/// What the other side cannot take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lack {
    /// Internationalised addresses or header fields (RFC 6531).
    #[error("the message needs SMTPUTF8, which the host does not offer")]
    Smtputf8,
    /// Octets over 127 in the content (RFC 6152).
    #[error("the message needs 8BITMIME, which the host does not offer")]
    EightBitMime,
    /// So large a message (RFC 1870).
    #[error("the message has {size} octets, the host takes {limit}")]
    Size {
        /// Of the content, in octets.
        size: u64,
        /// What the host announced.
        limit: u64,
    },
}

impl DialogueError {
    /// A fault in a step, with what that step says about content.
    #[must_use]
    pub fn new(step: Step, fault: impl Into<Fault>) -> Self {
        Self { step, fault: fault.into(), content_left: step.content_left() }
    }

    /// The same where it is known better whether content has left.
    #[must_use]
    pub(super) fn with_content(mut self, content_left: ContentLeft) -> Self {
        self.content_left = content_left;
        self
    }

    /// The step that failed.
    #[must_use]
    pub const fn step(&self) -> Step {
        self.step
    }

    /// What went wrong.
    #[must_use]
    pub const fn fault(&self) -> &Fault {
        &self.fault
    }

    /// Whether content can have reached the other side.
    #[must_use]
    pub const fn content_left(&self) -> ContentLeft {
        self.content_left
    }

    /// The reply that ended the dialogue, if one did.
    #[must_use]
    pub const fn reply(&self) -> Option<&Reply> {
        match &self.fault {
            Fault::Refused(reply) => Some(reply),
            _ => None,
        }
    }

    /// The error of reading our own content, if that is what it was; else the error itself.
    ///
    /// # Errors
    /// It was something else.
    pub fn into_source(self) -> Result<io::Error, Self> {
        match self.fault {
            Fault::Source(error) => Ok(error),
            _ => Err(self),
        }
    }

    /// The named check that failed.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match (&self.fault, self.step) {
            (Fault::Timeout | Fault::Lost(_) | Fault::Tls(_), Step::FinalDot) => Reason::ReplyLost,
            (Fault::Timeout, _) => Reason::PeerTimeout,
            (Fault::Lost(_), Step::Connect) => Reason::ConnectFailed,
            (Fault::Lost(_), _) => Reason::ConnectionLost,
            (Fault::Tls(_), _) => Reason::TlsHandshake,
            (Fault::Handshake(error), _) => error.reason(),
            (Fault::Protocol(_), _) => Reason::PeerProtocol,
            (Fault::Refused(_), Step::Starttls) | (Fault::StarttlsAbsent, _) => Reason::StarttlsAbsent,
            // A host that refuses everybody says nothing about this message: the next host may differ.
            (Fault::Refused(_), _) => Reason::PeerTemporary,
            (Fault::StarttlsInjection(_), _) => Reason::StarttlsInjection,
            (Fault::Lacks(Lack::Smtputf8), _) => Reason::NoSmtputf8,
            (Fault::Lacks(Lack::EightBitMime), _) => Reason::NoEightBitMime,
            (Fault::Lacks(Lack::Size { .. }), _) => Reason::PeerSizeLimit,
            (Fault::Content(ContentFault::LineTooLong), _) => Reason::LineTooLong,
            (Fault::Content(_), _) => Reason::ContentMalformed,
            (Fault::Source(_), _) => Reason::LocalFault,
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match tls_error(&error) {
            Some(tls) => Self::Tls(tls.clone()),
            None => Self::Lost(error),
        }
    }
}

impl From<ReplyFault> for Fault {
    fn from(fault: ReplyFault) -> Self {
        Self::Protocol(fault.to_string())
    }
}

impl From<Lack> for Fault {
    fn from(lack: Lack) -> Self {
        Self::Lacks(lack)
    }
}
