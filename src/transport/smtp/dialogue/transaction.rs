//! One message over an open dialogue: MAIL, RCPT, content, and a verdict for each recipient.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::content::{Content, Encoder, Framing, Octets};
use super::error::{DialogueError, Fault, Lack};
use super::step::Step;
use super::wire::Usable;
use super::{Dialect, Dialogue};
use crate::model::{Address, BodyType, ContentLeft, Envelope, Notify, Recipient, Ret};
use crate::transport::smtp::Reply;
use crate::transport::smtp::command::encode_xtext;

/// How many RCPT commands go out before their replies are read. All of them at once could fill both directions, and then
/// each side would wait for the other (RFC 2920 section 3.1).
const PIPELINE_COMMANDS: usize = 50;

/// How long we listen for the reason after a host has stopped taking content.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A message that was offered, and what the other side said about each recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// One entry per recipient of the envelope, in its order.
    pub recipients: Vec<RecipientReply>,
    /// Whether content has left; not so when every recipient was refused before it.
    pub content_left: ContentLeft,
    /// Whether the other side answers for delivery reports from here on.
    pub reports: Reports,
}

/// The reply that settled a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipientReply {
    /// Who.
    pub address: Address,
    /// The step in which it was given: a refusal of MAIL or of the content settles all recipients alike.
    pub step: Step,
    /// What follows.
    pub settled: Settled,
    /// The reply.
    pub reply: Reply,
}

/// What became of a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The other side answers for it now.
    Taken,
    /// A temporary refusal.
    Later,
    /// A permanent one.
    Refused,
}

/// Who reports on the fate of the message (RFC 3461 section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reports {
    /// The host offers DSN and was told what the sender wants.
    Passed,
    /// It does not: a report of success, if wanted, says "relayed" and comes from us.
    Ours,
}

/// A transaction that broke off.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct TransferError {
    /// Why, where, and whether content has left.
    pub error: DialogueError,
    /// Recipients that had their final word before: refused at RCPT, or answered one by one in LMTP. The others are as
    /// the error says.
    pub settled: Vec<RecipientReply>,
    /// As in [`Transfer`], for those of them that the other side took.
    pub reports: Reports,
}

/// What a step of a transaction can end in besides going on.
enum Stop {
    /// The other side said no to the whole transaction.
    Refused(Step, Reply),
    Broken(DialogueError),
}

impl From<DialogueError> for Stop {
    fn from(error: DialogueError) -> Self {
        Self::Broken(error)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Dialogue<S> {
    /// Offers one message to all recipients of `envelope`.
    ///
    /// # Errors
    /// [`TransferError`] when the host cannot take the message, or the link broke before its verdict. A host that says no
    /// is no error: see [`Transfer::recipients`].
    pub async fn send(
        &mut self,
        envelope: &Envelope,
        content: Content<'_>,
    ) -> Result<Transfer, TransferError> {
        let mut settled = vec![None; envelope.recipients.len()];
        let reports = if self.capabilities.has("DSN") { Reports::Passed } else { Reports::Ours };
        let outcome = self.transact(envelope, content, &mut settled).await;
        if let Err(Stop::Broken(error)) = outcome {
            // Only what was found out before the first command leaves the link as it was.
            if !matches!((error.step(), error.fault()), (Step::Mail, Fault::Lacks(_))) {
                self.wire.set_usable(Usable::No);
            }
            let last_words = settled.into_iter().map(|one| one.filter(is_last_word));
            return Err(TransferError { error, settled: collect(envelope, last_words), reports });
        }
        if let Err(Stop::Refused(step, reply)) = outcome {
            for one in settled.iter_mut().filter(|one| !one.as_ref().is_some_and(is_last_word)) {
                *one = Some((step, reply.clone()));
            }
        }
        let recipients = collect(envelope, settled);
        let last = recipients.iter().map(|recipient| recipient.step).max();
        let content_left = match last {
            Some(Step::FinalDot) => ContentLeft::Yes,
            Some(Step::Content) => ContentLeft::Possibly,
            _ => ContentLeft::Never,
        };
        if recipients.iter().any(|recipient| recipient.settled != Settled::Taken)
            && self.wire.usable() == Usable::Yes
        {
            self.wire.set_usable(Usable::AfterReset);
        }
        Ok(Transfer { recipients, content_left, reports })
    }

    async fn transact(
        &mut self,
        envelope: &Envelope,
        content: Content<'_>,
        settled: &mut [Option<(Step, Reply)>],
    ) -> Result<(), Stop> {
        let needs = self.needs(envelope, content.size)?;
        if self.wire.usable() != Usable::Yes {
            self.reset().await?;
        }
        self.offer(envelope, &needs, content.size, settled).await?;
        let accepted: Vec<usize> =
            (0..settled.len()).filter(|at| settled[*at].as_ref().is_some_and(|(_, r)| is_taken(r))).collect();
        if accepted.is_empty() {
            return Ok(());
        }
        // From here on an open transaction would be left behind by anything but its end.
        self.wire.set_usable(Usable::AfterReset);
        let framing = if self.capabilities.has("CHUNKING") { Framing::Chunk } else { Framing::Dots };
        self.announce(framing).await?;
        let early = self.stream(content, framing).await?;
        self.conclude(&accepted, early, settled).await?;
        if self.wire.usable() == Usable::AfterReset {
            self.wire.set_usable(Usable::Yes);
        }
        Ok(())
    }

    /// What MAIL has to say, if the host offers it (SMTP-014, SMTP-015).
    fn needs(&self, envelope: &Envelope, size: u64) -> Result<String, DialogueError> {
        let lacks = |lack: Lack| DialogueError::new(Step::Mail, lack);
        let addresses =
            envelope.sender.address().into_iter().chain(envelope.recipients.iter().map(|to| &to.address));
        let utf8 = envelope.smtputf8 || addresses.into_iter().any(Address::needs_smtputf8);
        if utf8 && !self.capabilities.has("SMTPUTF8") {
            return Err(lacks(Lack::Smtputf8));
        }
        if envelope.body == BodyType::EightBitMime && !self.capabilities.has("8BITMIME") {
            return Err(lacks(Lack::EightBitMime));
        }
        if let Some(limit) = self.capabilities.size_limit()
            && size > limit
        {
            return Err(lacks(Lack::Size { size, limit }));
        }
        let mut parameters = String::new();
        if utf8 {
            parameters.push_str(" SMTPUTF8");
        }
        if envelope.body == BodyType::EightBitMime {
            parameters.push_str(" BODY=8BITMIME");
        }
        Ok(parameters)
    }

    /// MAIL and all RCPT, pipelined where the host offers it (RFC 2920).
    async fn offer(
        &mut self,
        envelope: &Envelope,
        needs: &str,
        size: u64,
        settled: &mut [Option<(Step, Reply)>],
    ) -> Result<(), Stop> {
        let reports = self.capabilities.has("DSN");
        let mail = mail_line(envelope, needs, self.capabilities.has("SIZE").then_some(size), reports);
        if !self.capabilities.has("PIPELINING") {
            let reply = self.wire.command(Step::Mail, &mail).await?;
            accept_mail(reply)?;
            for (at, recipient) in envelope.recipients.iter().enumerate() {
                let reply = self.wire.command(Step::Rcpt, &rcpt_line(recipient, reports)).await?;
                settled[at] = Some((Step::Rcpt, accept_rcpt(reply)?));
            }
            return Ok(());
        }
        let mut lines = mail;
        let mut refused = None;
        let mut mail_pending = true;
        for (batch, recipients) in envelope.recipients.chunks(PIPELINE_COMMANDS).enumerate() {
            for recipient in recipients {
                lines.push_str(&rcpt_line(recipient, reports));
            }
            self.wire.write(if mail_pending { Step::Mail } else { Step::Rcpt }, lines.as_bytes()).await?;
            lines.clear();
            if std::mem::take(&mut mail_pending) {
                refused = accept_mail(self.wire.reply(Step::Mail).await?).err();
            }
            for at in 0..recipients.len() {
                let reply = self.wire.reply(Step::Rcpt).await?;
                // After a refused MAIL these only repeat that there is no transaction.
                if refused.is_none() {
                    settled[batch * PIPELINE_COMMANDS + at] = Some((Step::Rcpt, accept_rcpt(reply)?));
                }
            }
            if let Some(stop) = refused {
                return Err(stop);
            }
        }
        Ok(())
    }

    /// DATA, and its go-ahead. A chunk needs none.
    async fn announce(&mut self, framing: Framing) -> Result<(), Stop> {
        if framing == Framing::Chunk {
            return Ok(());
        }
        let reply = self.wire.command(Step::Data, "DATA\r\n").await?;
        match reply.code() {
            354 => Ok(()),
            400.. => Err(Stop::Refused(Step::Data, reply)),
            _ => Err(unexpected(Step::Data, &reply)),
        }
    }

    /// Sends the content to its end. The reply that ended it early, when the host gave one.
    async fn stream(&mut self, content: Content<'_>, framing: Framing) -> Result<Option<Reply>, Stop> {
        let octets = if self.capabilities.has("8BITMIME") { Octets::All } else { Octets::SevenBit };
        let mut part = Vec::new();
        if framing == Framing::Chunk {
            let head = format!("BDAT {} LAST\r\n", content.size);
            self.wire.write_part(head.as_bytes()).await?;
        }
        let mut encoder = Encoder::new(content, framing, octets);
        let mut left = ContentLeft::Never;
        loop {
            if let Err(fault) = encoder.next(&mut part).await {
                // There is no way to take back what is under way but to leave.
                return Err(DialogueError::new(Step::Content, fault).with_content(left).into());
            }
            if part.is_empty() {
                break;
            }
            left = ContentLeft::Possibly;
            if let Err(error) = self.wire.write_part(&part).await {
                return self.last_words(error).await.map(Some);
            }
        }
        let end: &[u8] = if framing == Framing::Dots { b".\r\n" } else { b"" };
        match self.wire.write(Step::Content, end).await {
            Ok(()) => Ok(None),
            Err(error) => self.last_words(error).await.map(Some),
        }
    }

    /// A host that stops taking content has often said why. Only a refusal counts: nobody can accept what did not
    /// arrive.
    async fn last_words(&mut self, error: DialogueError) -> Result<Reply, Stop> {
        let said = timeout(LAST_WORDS, self.wire.reply(Step::FinalDot)).await;
        self.wire.set_usable(Usable::No);
        match said {
            Ok(Ok(reply)) if !reply.is_positive() => Ok(reply),
            _ => Err(error.into()),
        }
    }

    /// The verdict on the content: one for all, or in LMTP one for each accepted recipient (RFC 2033 section 4.2).
    async fn conclude(
        &mut self,
        accepted: &[usize],
        early: Option<Reply>,
        settled: &mut [Option<(Step, Reply)>],
    ) -> Result<(), Stop> {
        if let Some(reply) = early {
            return Err(Stop::Refused(Step::Content, reply));
        }
        let mut common = None;
        for at in accepted {
            let reply = match (&common, self.dialect) {
                (Some(reply), Dialect::Esmtp) => Reply::clone(reply),
                _ => self.wire.reply(Step::FinalDot).await?,
            };
            if reply.code() / 100 == 3 {
                return Err(unexpected(Step::FinalDot, &reply));
            }
            settled[*at] = Some((Step::FinalDot, reply.clone()));
            common = Some(reply);
        }
        Ok(())
    }
}

/// Whether a reply settles its recipient. A go-ahead at RCPT does not: it still depends on what comes after.
fn is_last_word((step, reply): &(Step, Reply)) -> bool {
    *step == Step::FinalDot || !reply.is_positive()
}

fn is_taken(reply: &Reply) -> bool {
    reply.code() / 100 == 2
}

fn accept_mail(reply: Reply) -> Result<(), Stop> {
    match reply.code() / 100 {
        2 => Ok(()),
        3 => Err(unexpected(Step::Mail, &reply)),
        _ => Err(Stop::Refused(Step::Mail, reply)),
    }
}

fn accept_rcpt(reply: Reply) -> Result<Reply, Stop> {
    if reply.code() / 100 == 3 { Err(unexpected(Step::Rcpt, &reply)) } else { Ok(reply) }
}

fn unexpected(step: Step, reply: &Reply) -> Stop {
    DialogueError::new(step, Fault::Protocol(format!("unexpected reply: {reply}"))).into()
}

fn collect(
    envelope: &Envelope,
    settled: impl IntoIterator<Item = Option<(Step, Reply)>>,
) -> Vec<RecipientReply> {
    envelope
        .recipients
        .iter()
        .zip(settled)
        .filter_map(|(recipient, settled)| {
            let (step, reply) = settled?;
            let settled = verdict(step, &reply);
            Some(RecipientReply { address: recipient.address.clone(), step, settled, reply })
        })
        .collect()
}

fn verdict(step: Step, reply: &Reply) -> Settled {
    // RFC 5321 section 4.5.3.1.10: 552 to RCPT means "too many", which the next transaction heals, unless the enhanced
    // code says that it is about the mailbox.
    let too_many =
        step == Step::Rcpt && reply.code() == 552 && matches!(reply.enhanced(), None | Some((5, 5, 3)));
    match reply.code() / 100 {
        2 => Settled::Taken,
        4 => Settled::Later,
        _ if too_many => Settled::Later,
        _ => Settled::Refused,
    }
}

fn mail_line(envelope: &Envelope, needs: &str, size: Option<u64>, reports: bool) -> String {
    let mut line = format!("MAIL FROM:<{}>{needs}", envelope.sender);
    if let Some(size) = size {
        line.push_str(&format!(" SIZE={size}"));
    }
    if reports {
        match envelope.ret {
            Some(Ret::Full) => line.push_str(" RET=FULL"),
            Some(Ret::Headers) => line.push_str(" RET=HDRS"),
            None => {}
        }
        if let Some(id) = &envelope.envid {
            line.push_str(&format!(" ENVID={}", encode_xtext(id)));
        }
    }
    line.push_str("\r\n");
    line
}

fn rcpt_line(recipient: &Recipient, reports: bool) -> String {
    let mut line = format!("RCPT TO:<{}>", recipient.address);
    if reports {
        if let Some(notify) = recipient.notify {
            line.push_str(" NOTIFY=");
            line.push_str(&notify_words(notify));
        }
        if let Some((kind, original)) = recipient.orcpt.as_ref().and_then(|text| text.split_once(';')) {
            line.push_str(&format!(" ORCPT={kind};{}", encode_xtext(original)));
        }
    }
    line.push_str("\r\n");
    line
}

fn notify_words(notify: Notify) -> String {
    let words: Vec<_> = [(notify.success, "SUCCESS"), (notify.failure, "FAILURE"), (notify.delay, "DELAY")]
        .into_iter()
        .filter_map(|(wanted, word)| wanted.then_some(word))
        .collect();
    if words.is_empty() { "NEVER".to_owned() } else { words.join(",") }
}
