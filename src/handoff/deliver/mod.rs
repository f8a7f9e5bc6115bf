//! From the spool into our own environment, or into its fallback.
//!
//! # Guarantees
//! - A recipient counts as delivered only after the environment's own positive answer for that recipient (LMTP), for the
//!   message (SMTP), or after file and directory are flushed (Maildir).
//! - A binding that leaves the machine without TLS and a configured key cannot be constructed.
//!
//! # Errors
//! Whatever fails for the moment leaves the message in the spool (HAND-001).

mod configured;
pub mod headers;
mod maildir;
mod recipients;
mod relay;

use std::io;

use tokio::io::AsyncRead;

pub(in crate::handoff) use configured::reach;
pub use configured::{SetupError, environment};
pub use maildir::{Maildir, MaildirSettings, MaildirSettingsError};
pub use recipients::{RecipientKnown, RecipientList, RecipientListError};
pub use relay::{Asking, Relay};

pub use crate::transport::smtp::dialogue::{Dialect, Endpoint, EndpointError, Reports, StepLimits, TlsStart};

use crate::model::{Address, ContentLeft, Envelope, Reason};

/// Our own environment, or the fallback: how a message gets there.
#[derive(Clone)]
pub enum Environment {
    /// LMTP (RFC 2033): an answer for each recipient.
    Lmtp(Relay),
    /// SMTP relay: one answer for the message, refusals at RCPT aside.
    SmtpRelay(Relay),
    /// Files. We are the final delivery.
    Maildir(Maildir),
}

impl Environment {
    /// Delivers to every recipient of the envelope.
    ///
    /// # Errors
    /// [`DeliverError::Content`]: the content could not be read to its end, so nobody has the message. Whatever the
    /// environment says or fails to say is an answer, not an error.
    pub async fn deliver<R>(&self, outgoing: Outgoing<'_, R>) -> Result<Handover, DeliverError>
    where
        R: AsyncRead + Unpin + Send,
    {
        match self {
            Self::Lmtp(relay) | Self::SmtpRelay(relay) => relay.deliver(outgoing).await,
            Self::Maildir(maildir) => maildir.deliver(outgoing).await.map_err(DeliverError::Content),
        }
    }

    /// Whether a recipient exists, as far as the environment can tell without a message.
    pub async fn recipient_known(&self, address: &Address) -> RecipientKnown {
        match self {
            Self::Lmtp(relay) | Self::SmtpRelay(relay) => relay.recipient_known(address).await,
            Self::Maildir(maildir) => maildir.recipient_known(address).await,
        }
    }

    /// Where it is, for records.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Lmtp(relay) => format!("lmtp {}", relay.describe()),
            Self::SmtpRelay(relay) => format!("smtp {}", relay.describe()),
            Self::Maildir(_) => "maildir".to_owned(),
        }
    }
}

/// Why a delivery could not be tried to its end. The operator must act.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    /// The content could not be read, or is damaged ([`io::ErrorKind::InvalidData`], SPOOL-013).
    #[error("reading the content: {0}")]
    Content(io::Error),
}

impl DeliverError {
    /// The named check that failed.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Content(_) => Reason::LocalFault,
        }
    }
}

/// A message on its way into the environment.
pub struct Outgoing<'a, R> {
    /// Sender and the recipients of this attempt.
    pub envelope: &'a Envelope,
    /// The content, with the fields of hand-off in place (see [`headers`]).
    pub content: R,
    /// Octets of that content.
    pub size: u64,
    /// A text that is the same for each attempt of this delivery and for no other: letters, digits and dots.
    pub unique: &'a str,
}

/// What the environment said about one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It answers for the message to this recipient.
    Delivered,
    /// Not now.
    Later,
    /// Never.
    Failed,
}

/// The environment's answer for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipientAnswer {
    /// Who.
    pub address: Address,
    /// What.
    pub verdict: Verdict,
    /// As `550 5.1.1`; a code of ours when there was no reply.
    pub code: String,
    /// One printable line.
    pub text: String,
    /// The named check, unless delivered.
    pub reason: Option<Reason>,
}

/// What one attempt led to: an answer per recipient, in the order of the envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    /// The answers.
    pub recipients: Vec<RecipientAnswer>,
    /// Whether content has reached the environment.
    pub content_left: ContentLeft,
    /// The step in which it broke off, if it did (word of [`crate::transport::smtp::dialogue::Step`]).
    pub step: Option<&'static str>,
    /// What exactly was seen when it broke off, for the operator.
    pub detail: Option<String>,
    /// Who reports on success, where the sender wants to know.
    pub reports: Reports,
}
