//! The client's half of an ESMTP or LMTP dialogue, over any stream: to peers inside TLS, and to our own environment.
//!
//! # Guarantees
//! - Content crosses octet for octet. Nothing is re-coded, and an octet that breaks the rules for content is never
//!   written (SMTP-007, SMTP-011, SMTP-015; attack class T1).
//! - Each recipient is settled by the reply that was about it (SMTP-016).
//! - Whatever breaks off says in which step, and whether content can have left (SMTP-022).
//! - Memory does not depend on the size of the message (LIM-007).
//! - After STARTTLS nothing is known but what was learned inside TLS: the dialogue in the clear is used up by
//!   [`Dialogue::starttls`], its read buffer included (SMTP-003; attack class T3).
//!
//! # Errors
//! [`DialogueError`] for the link, [`TransferError`] for a message. A reply that says no is a result, not an error.
//!
//! # Standards
//! RFC 5321, 1870, 2033, 2034, 2920, 3030, 3207, 3461, 6152, 6531. Our text: `spec/03-transport.md`.

mod capabilities;
mod connect;
mod content;
mod error;
mod probe;
mod replies;
mod step;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod transaction;
mod wire;

use tokio::io::{AsyncRead, AsyncWrite};

pub use capabilities::Capabilities;
pub(in crate::transport::smtp) use connect::reach;
pub use connect::{Endpoint, EndpointError, TlsStart, connect};
pub use content::{Content, Framing};
pub use error::{DialogueError, Fault, Lack};
pub use probe::Probe;
pub use step::{Step, StepLimits};
pub use transaction::{RecipientReply, Reports, Settled, Transfer, TransferError};

use crate::model::DomainName;
use crate::transport::smtp::Reply;
use wire::{Usable, Wire};

/// Which of the two protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// ESMTP: EHLO, one verdict on the content for all recipients.
    Esmtp,
    /// LMTP (RFC 2033): LHLO, one verdict for each.
    Lmtp,
}

impl Dialect {
    const fn hello(self) -> &'static str {
        match self {
            Self::Esmtp => "EHLO",
            Self::Lmtp => "LHLO",
        }
    }
}

/// A dialogue in which both sides have said hello.
pub struct Dialogue<S> {
    wire: Wire<S>,
    dialect: Dialect,
    capabilities: Capabilities,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Dialogue<S> {
    /// Waits for the greeting, then says hello as `name`.
    ///
    /// # Errors
    /// The other side refused, broke the protocol, or was too slow.
    pub async fn open(
        stream: S,
        dialect: Dialect,
        name: &DomainName,
        limits: StepLimits,
    ) -> Result<Self, DialogueError> {
        let mut wire = Wire::new(stream, limits);
        let greeting = wire.reply(Step::Greeting).await?;
        match greeting.code() {
            220 => Self::hello(wire, dialect, name, Step::Hello).await,
            400.. => Err(DialogueError::new(Step::Greeting, Fault::Refused(greeting))),
            _ => Err(unexpected(Step::Greeting, &greeting)),
        }
    }

    /// Says hello as `name` on a stream that has just become secure: there is no second greeting.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn resume(
        stream: S,
        dialect: Dialect,
        name: &DomainName,
        limits: StepLimits,
    ) -> Result<Self, DialogueError> {
        Self::hello(Wire::new(stream, limits), dialect, name, Step::HelloSecured).await
    }

    async fn hello(
        mut wire: Wire<S>,
        dialect: Dialect,
        name: &DomainName,
        step: Step,
    ) -> Result<Self, DialogueError> {
        let reply = wire.command(step, &format!("{} {name}\r\n", dialect.hello())).await?;
        match reply.code() {
            250 => Ok(Self { wire, dialect, capabilities: Capabilities::from_reply(&reply) }),
            400.. => Err(DialogueError::new(step, Fault::Refused(reply))),
            _ => Err(unexpected(step, &reply)),
        }
    }

    /// What the other side offers.
    #[must_use]
    pub const fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Asks for TLS and gives the stream up for its handshake.
    ///
    /// # Errors
    /// [`Fault::StarttlsAbsent`], [`Fault::Refused`], or [`Fault::StarttlsInjection`] when anything came after the reply.
    pub async fn starttls(mut self) -> Result<S, DialogueError> {
        if !self.capabilities.has("STARTTLS") {
            return Err(DialogueError::new(Step::Starttls, Fault::StarttlsAbsent));
        }
        let reply = self.wire.command(Step::Starttls, "STARTTLS\r\n").await?;
        match reply.code() {
            220 => self.wire.into_stream(),
            400.. => Err(DialogueError::new(Step::Starttls, Fault::Refused(reply))),
            _ => Err(unexpected(Step::Starttls, &reply)),
        }
    }

    /// Whether another message can be sent over this link.
    #[must_use]
    pub const fn is_usable(&self) -> bool {
        !matches!(self.wire.usable(), Usable::No)
    }

    /// Clears whatever transaction may be open. Also the way to find out whether an idle link still lives.
    ///
    /// # Errors
    /// The link is gone, or the other side is confused: it must not be used again.
    pub async fn reset(&mut self) -> Result<(), DialogueError> {
        let reply = self.wire.command(Step::Reset, "RSET\r\n").await?;
        if reply.code() == 250 {
            self.wire.set_usable(Usable::Yes);
            return Ok(());
        }
        self.wire.set_usable(Usable::No);
        Err(unexpected(Step::Reset, &reply))
    }

    /// Says good-bye. Whatever becomes of it changes nothing.
    pub async fn quit(mut self) {
        if self.is_usable() {
            let _courtesy = self.wire.command(Step::Quit, "QUIT\r\n").await;
        }
    }
}

fn unexpected(step: Step, reply: &Reply) -> DialogueError {
    DialogueError::new(step, Fault::Protocol(format!("unexpected reply: {reply}")))
}
