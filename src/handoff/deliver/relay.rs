//! LMTP and SMTP relay: a dialogue with the environment's own server.
//!
//! # Guarantees
//! - LMTP: the reply about a recipient settles that recipient and no other (HAND-001).
//! - Whatever breaks off leaves those without a final word for later (HAND-001).

use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::time::timeout;

use crate::model::{Address, ContentLeft, DomainName, Envelope, Reason};
use crate::transport::smtp::Reply;
use crate::transport::smtp::dialogue::{
    Content, Dialect, DialogueError, Endpoint, Fault, Lack, Probe, RecipientReply, Reports, Settled, Step,
    StepLimits, Transfer, connect,
};
use crate::transport::tls::ClientTls;
use crate::world::{Link, World};

use super::{DeliverError, Handover, Outgoing, RecipientAnswer, RecipientKnown, RecipientList, Verdict};

type Dialogue = crate::transport::smtp::dialogue::Dialogue<Link>;

/// A client waits at RCPT for the answer; RFC 5321 section 4.5.3.2.3 gives it five minutes, and a peer's patience for a
/// whole list of recipients is not endless.
const PROBE_LIMIT: Duration = Duration::from_secs(20);

/// How we find out whether a recipient exists.
#[derive(Clone, Debug)]
pub enum Asking {
    /// Not at all: take every recipient, and return what the environment refuses.
    Nobody,
    /// The environment, by a RCPT that no message follows.
    Environment,
    /// A list that the operator keeps.
    List(RecipientList),
}

/// An LMTP or SMTP server of our own environment.
#[derive(Clone)]
pub struct Relay {
    /// Where it listens. Beyond this machine it always has TLS (HAND-002).
    pub endpoint: Endpoint,
    /// LMTP or SMTP.
    pub dialect: Dialect,
    /// Our name in LHLO or EHLO.
    pub name: DomainName,
    /// How we find out about recipients.
    pub asking: Asking,
    /// How long each step may take.
    pub limits: StepLimits,
    /// The key we show if asked.
    pub tls: ClientTls,
    /// The connections, and the time of day for the dates of certificates.
    pub world: World,
}

impl Relay {
    /// Where it is, for records.
    #[must_use]
    pub fn describe(&self) -> String {
        self.endpoint.describe()
    }

    /// Delivers one message.
    ///
    /// # Errors
    /// As [`super::Environment::deliver`].
    pub async fn deliver<R>(&self, outgoing: Outgoing<'_, R>) -> Result<Handover, DeliverError>
    where
        R: AsyncRead + Unpin + Send,
    {
        let Outgoing { envelope, mut content, size, .. } = outgoing;
        let mut dialogue = match self.open().await {
            Ok(dialogue) => dialogue,
            Err(error) => {
                return Ok(self.broken(envelope, error, Vec::new(), Reports::Ours));
            }
        };
        let content = Content { reader: &mut content, size };
        match dialogue.send(envelope, content).await {
            Ok(transfer) => {
                // The answers stand whatever becomes of the good-bye, and nobody needs to wait for it.
                tokio::spawn(dialogue.quit());
                Ok(handover(transfer))
            }
            Err(failed) => match failed.error.into_source() {
                Ok(error) => Err(DeliverError::Content(error)),
                Err(error) => Ok(self.broken(envelope, error, failed.settled, failed.reports)),
            },
        }
    }

    async fn open(&self) -> Result<Dialogue, DialogueError> {
        connect(&self.endpoint, self.dialect, &self.name, self.limits, &self.tls, &self.world).await
    }

    /// Whether a recipient exists. Asks as [`Asking`] says.
    pub async fn recipient_known(&self, address: &Address) -> RecipientKnown {
        match &self.asking {
            Asking::Nobody => RecipientKnown::CannotTell,
            Asking::List(list) => list.check(address),
            Asking::Environment => {
                timeout(PROBE_LIMIT, self.probe(address)).await.unwrap_or(RecipientKnown::CannotTell)
            }
        }
    }

    async fn probe(&self, address: &Address) -> RecipientKnown {
        let answer = match self.open().await {
            Ok(mut dialogue) => {
                let answer = dialogue.probe(address).await;
                tokio::spawn(dialogue.quit());
                answer
            }
            Err(error) => Err(error),
        };
        match answer {
            Ok(Probe::Answered(reply)) if reply.code() / 100 == 2 => RecipientKnown::Known,
            // Only a word about the mailbox is one: a server that refuses for policy says nothing about who exists.
            Ok(Probe::Answered(reply)) if is_no_mailbox(&reply) => RecipientKnown::Unknown,
            Ok(_) => RecipientKnown::CannotTell,
            Err(error) => {
                tracing::warn!(%error, environment = self.describe(), "the environment cannot be asked about recipients");
                RecipientKnown::CannotTell
            }
        }
    }

    /// The answers when the dialogue broke off: final words count, the rest is as the error says.
    fn broken(
        &self,
        envelope: &Envelope,
        error: DialogueError,
        settled: Vec<RecipientReply>,
        reports: Reports,
    ) -> Handover {
        tracing::warn!(%error, environment = self.describe(), "the hand-off broke off");
        let mut settled = settled.into_iter().peekable();
        let recipients = envelope
            .recipients
            .iter()
            .map(|to| &to.address)
            .map(|address| match settled.next_if(|reply| reply.address == *address) {
                Some(reply) => answer(reply),
                None => without_word(address, &error),
            })
            .collect::<Vec<_>>();
        let anybody = recipients.iter().any(|answer| answer.verdict == Verdict::Delivered);
        Handover {
            recipients,
            content_left: if anybody { ContentLeft::Yes } else { error.content_left() },
            step: Some(error.step().as_str()),
            detail: Some(error.to_string()),
            reports,
        }
    }
}

fn handover(transfer: Transfer) -> Handover {
    Handover {
        recipients: transfer.recipients.into_iter().map(answer).collect(),
        content_left: transfer.content_left,
        step: None,
        detail: None,
        reports: transfer.reports,
    }
}

fn answer(from: RecipientReply) -> RecipientAnswer {
    let (verdict, reason) = match from.settled {
        Settled::Taken => (Verdict::Delivered, None),
        Settled::Later => (Verdict::Later, Some(Reason::EnvironmentTemporary)),
        Settled::Refused if from.step == Step::Rcpt && is_no_mailbox(&from.reply) => {
            (Verdict::Failed, Some(Reason::RecipientUnknown))
        }
        Settled::Refused => (Verdict::Failed, Some(Reason::EnvironmentPermanent)),
    };
    let (code, text) = words(&from.reply);
    RecipientAnswer { address: from.address, verdict, code, text, reason }
}

/// Whether a refusal is about a mailbox that does not exist (RFC 3463: X.1.1 to X.1.3 and X.1.6), or is an old server's
/// bare `550` or `553`.
fn is_no_mailbox(reply: &Reply) -> bool {
    match reply.enhanced() {
        Some((5, 1, detail)) => matches!(detail, 1 | 2 | 3 | 6),
        Some(_) => false,
        None => matches!(reply.code(), 550 | 553),
    }
}

fn words(reply: &Reply) -> (String, String) {
    let code = match reply.enhanced() {
        Some((class, subject, detail)) => format!("{} {class}.{subject}.{detail}", reply.code()),
        None => reply.code().to_string(),
    };
    (code, reply.lines().join(" "))
}

/// The answer for a recipient about whom the environment said nothing final.
fn without_word(address: &Address, error: &DialogueError) -> RecipientAnswer {
    // What the environment cannot take today it cannot take tomorrow; anything else may heal (HAND-001).
    let (verdict, code, reason) = match error.fault() {
        Fault::Lacks(Lack::Smtputf8) => (Verdict::Failed, "553 5.6.7", Reason::NoSmtputf8),
        Fault::Lacks(Lack::EightBitMime) => (Verdict::Failed, "554 5.6.3", Reason::NoEightBitMime),
        Fault::Lacks(Lack::Size { .. }) => (Verdict::Failed, "552 5.3.4", Reason::PeerSizeLimit),
        Fault::Content(_) => (Verdict::Failed, "554 5.6.0", error.reason()),
        _ => (Verdict::Later, "451 4.4.2", Reason::EnvironmentTemporary),
    };
    let (code, text) = match error.reply() {
        // A refusal of everybody is no verdict on this message, whatever its first digit.
        Some(reply) => words(reply),
        None => (code.to_owned(), crate::transport::smtp::printable(&error.to_string())),
    };
    RecipientAnswer { address: address.clone(), verdict, code, text, reason: Some(reason) }
}

#[cfg(test)]
mod tests;
