//! From the spool into our own environment, or into its fallback.
//!
//! # Guarantees
//! - A recipient counts as delivered only after the environment's own positive answer for that recipient (LMTP), for the
//!   message (SMTP), or after file and directory are flushed (Maildir).
//! - A binding that leaves the machine without TLS and a configured key cannot be constructed.
//!
//! # Errors
//! Whatever fails for the moment leaves the message in the spool (HAND-003).

pub mod headers;
mod maildir;
mod recipients;

pub use maildir::{Maildir, MaildirSettings};
pub use recipients::{RecipientKnown, RecipientList};

use crate::model::{Address, ContentLeft, Envelope, Reason};

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
    /// As `550 5.1.1`.
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
}
