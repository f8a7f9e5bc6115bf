//! Asking about a recipient without sending anything (SMTP-018).

use tokio::io::{AsyncRead, AsyncWrite};

use super::Dialogue;
use super::error::{DialogueError, Fault};
use super::step::Step;
use super::wire::Usable;
use crate::model::Address;
use crate::transport::smtp::Reply;

/// What another host says of a recipient when no message follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Its reply to RCPT.
    Answered(Reply),
    /// It takes nothing from the null sender now, or no such address: nobody can tell.
    NoAnswer,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Dialogue<S> {
    /// Offers `recipient` from the null sender, and takes the offer back whatever the answer is. The null sender is the
    /// one from which every host takes mail (RFC 5321 section 4.5.5).
    ///
    /// # Errors
    /// The link broke, or the other side is confused.
    pub async fn probe(&mut self, recipient: &Address) -> Result<Probe, DialogueError> {
        let utf8 = match (recipient.needs_smtputf8(), self.capabilities.has("SMTPUTF8")) {
            (false, _) => "",
            (true, true) => " SMTPUTF8",
            (true, false) => return Ok(Probe::NoAnswer),
        };
        if self.wire.usable() != Usable::Yes {
            self.reset().await?;
        }
        self.wire.set_usable(Usable::AfterReset);
        let mail = self.wire.command(Step::Mail, &format!("MAIL FROM:<>{utf8}\r\n")).await?;
        if mail.code() / 100 != 2 {
            return Ok(Probe::NoAnswer);
        }
        let reply = self.wire.command(Step::Rcpt, &format!("RCPT TO:<{recipient}>\r\n")).await?;
        if reply.code() / 100 == 3 {
            return Err(DialogueError::new(
                Step::Rcpt,
                Fault::Protocol(format!("unexpected reply: {reply}")),
            ));
        }
        self.reset().await?;
        Ok(Probe::Answered(reply))
    }
}
