//! Transactions, as states that use each other up.

use std::num::NonZeroUsize;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::dialogue::{Dialogue, Ended};
use super::gate::Gate;
use super::intake::Intake;
use super::link::{Break, Busy};
use super::replies;
use crate::model::Recipient;
use crate::transport::smtp::command::{Chunk, ChunkPlace, ClientName, Mail, Spelling};
use crate::transport::smtp::data::{Chunks, Data, Progress};
use crate::transport::smtp::reply::Reply;

/// Where a secured session stands. There is no state for a transaction that was refused: it is gone.
pub(super) enum Phase<G: Gate> {
    /// Before EHLO.
    Fresh,
    /// After EHLO, without a transaction.
    Ready(Ready),
    /// MAIL was accepted.
    Open(Open<G>),
    /// At least one RCPT was accepted too.
    Addressed(Addressed<G>),
    /// A chunk was accepted, and it was not the last one.
    Receiving(Receiving),
}

pub(super) struct Ready {
    pub(super) helo: ClientName,
}

pub(super) struct Open<G: Gate> {
    ready: Ready,
    spelling: Spelling,
    transaction: G::Transaction,
}

pub(super) struct Addressed<G: Gate> {
    open: Open<G>,
    accepted: NonZeroUsize,
}

pub(super) struct Receiving {
    ready: Ready,
    intake: Intake,
    chunks: Chunks,
    count: u64,
    until: Instant,
}

impl<G: Gate> Phase<G> {
    /// Whether the session has something to lose.
    pub(super) const fn busy(&self) -> Busy {
        match self {
            Self::Fresh | Self::Ready(_) => Busy::Idle,
            Self::Open(_) | Self::Addressed(_) | Self::Receiving(_) => Busy::InTransaction,
        }
    }

    /// When this phase is over, beside the time for one command.
    pub(super) const fn until(&self) -> Option<Instant> {
        match self {
            Self::Receiving(receiving) => Some(receiving.until),
            _ => None,
        }
    }

    /// How addresses may be spelled.
    pub(super) const fn spelling(&self) -> Spelling {
        match self {
            Self::Open(open) => open.spelling,
            Self::Addressed(addressed) => addressed.open.spelling,
            Self::Fresh | Self::Ready(_) | Self::Receiving(_) => Spelling::Ascii,
        }
    }

    /// Ends the transaction, if there is one. `why` goes to content that had begun.
    pub(super) async fn abandon(self, why: &Reply) {
        if let Self::Receiving(receiving) = self {
            receiving.intake.refuse(why.clone()).await;
        }
    }

    /// RSET.
    pub(super) async fn reset(self) -> Self {
        match self {
            Self::Fresh => Self::Fresh,
            Self::Ready(ready) => Self::Ready(ready),
            Self::Open(open) => Self::Ready(open.ready),
            Self::Addressed(addressed) => Self::Ready(addressed.open.ready),
            Self::Receiving(receiving) => {
                receiving.intake.refuse(replies::was_reset()).await;
                Self::Ready(receiving.ready)
            }
        }
    }

    /// MAIL.
    pub(super) async fn mail<S>(self, mail: Mail, to: &mut Dialogue<'_, S, G>) -> Result<Self, Ended>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let ready = match self {
            Self::Ready(ready) => ready,
            Self::Fresh => return Ok(to.wrong_in(self, &replies::ehlo_first())),
            Self::Open(_) | Self::Addressed(_) => return Ok(to.wrong_in(self, &replies::mail_twice())),
            Self::Receiving(_) => return Ok(to.wrong_in(self, &replies::in_chunks())),
        };
        let settings = to.link.settings();
        if to.tally.transactions >= settings.transactions {
            to.link.say(&replies::enough_transactions());
            return Err(Ended::UsedUp);
        }
        if mail.size.is_some_and(|size| size > settings.message_octets) {
            let reply = replies::too_large(settings);
            to.gate.refused(&to.peer, ready.helo.as_str(), &mail, &reply).await;
            to.refused(reply)?;
            return Ok(Self::Ready(ready));
        }
        let spelling = if mail.smtputf8 { Spelling::Utf8 } else { Spelling::Ascii };
        match to.gate.mail(&to.peer, ready.helo.as_str(), &mail).await {
            Ok(transaction) => {
                to.tally.transactions += 1;
                to.link.say(&replies::sender_ok());
                Ok(Self::Open(Open { ready, spelling, transaction }))
            }
            Err(reply) => {
                to.refused(reply)?;
                Ok(Self::Ready(ready))
            }
        }
    }

    /// RCPT.
    pub(super) async fn rcpt<S>(
        self,
        recipient: Recipient,
        to: &mut Dialogue<'_, S, G>,
    ) -> Result<Self, Ended>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let (mut open, accepted) = match self {
            Self::Open(open) => (open, 0),
            Self::Addressed(addressed) => (addressed.open, addressed.accepted.get()),
            Self::Receiving(_) => return Ok(to.wrong_in(self, &replies::in_chunks())),
            Self::Fresh | Self::Ready(_) => return Ok(to.wrong_in(self, &replies::mail_first())),
        };
        let answer = if accepted >= to.link.settings().recipients {
            Err(replies::too_many_recipients())
        } else {
            to.gate.rcpt(&to.peer, &mut open.transaction, &recipient).await
        };
        let accepted = match answer {
            Ok(()) => {
                to.link.say(&replies::recipient_ok());
                accepted + 1
            }
            Err(reply) => {
                to.refused(reply)?;
                accepted
            }
        };
        Ok(match NonZeroUsize::new(accepted) {
            None => Self::Open(open),
            Some(accepted) => Self::Addressed(Addressed { open, accepted }),
        })
    }

    /// DATA, up to the reply to its end.
    pub(super) async fn data<S>(self, to: &mut Dialogue<'_, S, G>) -> Result<Self, Ended>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let Open { ready, transaction, .. } = match self {
            Self::Addressed(addressed) => addressed.open,
            Self::Open(_) => return Ok(to.wrong_in(self, &replies::rcpt_first())),
            Self::Receiving(_) => return Ok(to.wrong_in(self, &replies::in_chunks())),
            Self::Fresh | Self::Ready(_) => return Ok(to.wrong_in(self, &replies::mail_first())),
        };
        match to.gate.content(&to.peer, transaction).await {
            Err(reply) => to.refused(reply)?,
            Ok(content) => {
                to.link.say(&replies::go_ahead());
                let intake = to.take_data(Intake::new(content)).await?;
                to.conclude(intake).await?;
            }
        }
        Ok(Self::Ready(ready))
    }

    /// BDAT, up to the reply to this chunk. Its octets are read in any case (SMTP-013); when it is refused, the transaction
    /// is gone, and so is every further chunk until MAIL and RCPT were accepted again.
    pub(super) async fn bdat<S>(self, chunk: Chunk, to: &mut Dialogue<'_, S, G>) -> Result<Self, Ended>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let receiving = match self {
            Self::Receiving(receiving) => receiving,
            Self::Addressed(Addressed { open: Open { ready, transaction, .. }, .. }) => {
                let until = Instant::now() + to.link.settings().content_time;
                match to.gate.content(&to.peer, transaction).await {
                    Ok(content) => {
                        let intake = Intake::new(content);
                        Receiving { ready, intake, chunks: Chunks::new(), count: 0, until }
                    }
                    Err(reply) => {
                        to.skip(chunk.octets).await?;
                        to.refused(reply)?;
                        return Ok(Self::Ready(ready));
                    }
                }
            }
            Self::Open(open) => {
                to.skip(chunk.octets).await?;
                return Ok(to.wrong_in(Self::Ready(open.ready), &replies::rcpt_first()));
            }
            Self::Fresh | Self::Ready(_) => {
                to.skip(chunk.octets).await?;
                return Ok(to.wrong_in(self, &replies::mail_first()));
            }
        };
        receiving.take(chunk, to).await
    }
}

impl Receiving {
    async fn take<S, G: Gate>(self, chunk: Chunk, to: &mut Dialogue<'_, S, G>) -> Result<Phase<G>, Ended>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let Self { ready, mut intake, mut chunks, count, until } = self;
        let settings = to.link.settings().clone();
        if count >= settings.chunks {
            intake = intake.refuse(replies::too_many_chunks()).await;
        } else if !intake.has_room(chunk.octets, &settings) {
            intake = intake.refuse(replies::too_large(&settings)).await;
        }
        intake = to.take_chunk(chunk.octets, &mut chunks, intake, until).await?;
        if chunk.place == ChunkPlace::Last {
            let mut rest = Vec::new();
            chunks.end(&mut rest);
            intake = intake.take(&rest, &settings).await;
        }
        if let Some(fault) = chunks.fault() {
            intake = intake.refuse(fault.reply()).await;
        }
        if chunk.place == ChunkPlace::Inner && matches!(intake, Intake::Wanted { .. }) {
            to.link.say(&replies::done());
            return Ok(Phase::Receiving(Self { ready, intake, chunks, count: count + 1, until }));
        }
        to.conclude(intake).await?;
        Ok(Phase::Ready(ready))
    }
}

impl<S, G> Dialogue<'_, S, G>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    G: Gate,
{
    /// Reads DATA to its end.
    async fn take_data(&mut self, mut intake: Intake) -> Result<Intake, Ended> {
        let settings = self.link.settings().clone();
        let until = Instant::now() + settings.content_time;
        let (mut data, mut out, mut seen) = (Data::new(), Vec::new(), 0u64);
        loop {
            if let Err(reason) = self.more(until).await {
                return Err(self.cut_off(intake, reason).await);
            }
            out.clear();
            let (used, progress) = data.push(self.link.available(), &mut out);
            self.link.consume(used);
            seen += used as u64;
            intake = intake.take(&out, &settings).await;
            if let Some(fault) = data.fault() {
                intake = intake.refuse(fault.reply()).await;
            }
            if progress == Progress::Ended {
                return Ok(intake);
            }
            if seen > settings.drain_octets() {
                let why = replies::too_large(&settings);
                self.link.say(&why);
                intake.refuse(why).await;
                return Err(Ended::Unreadable);
            }
        }
    }

    /// Reads one chunk of `left` octets.
    async fn take_chunk(
        &mut self,
        mut left: u64,
        chunks: &mut Chunks,
        mut intake: Intake,
        until: Instant,
    ) -> Result<Intake, Ended> {
        if matches!(intake, Intake::Refused { .. }) {
            self.skip(left).await?;
            return Ok(intake);
        }
        let settings = self.link.settings().clone();
        let mut out = Vec::new();
        while left > 0 {
            if let Err(reason) = self.more(until).await {
                return Err(self.cut_off(intake, reason).await);
            }
            out.clear();
            let available = self.link.available();
            let count = usize::try_from(left).map_or(available.len(), |left| left.min(available.len()));
            chunks.push(&available[..count], &mut out);
            self.link.consume(count);
            left -= count as u64;
            intake = intake.take(&out, &settings).await;
        }
        Ok(intake)
    }

    /// Reads `left` octets that nobody wants.
    pub(super) async fn skip(&mut self, mut left: u64) -> Result<(), Ended> {
        let settings = self.link.settings().clone();
        if left > settings.drain_octets() {
            self.link.say(&replies::too_large(&settings));
            return Err(Ended::Unreadable);
        }
        let until = Instant::now() + settings.content_time;
        while left > 0 {
            if let Err(reason) = self.more(until).await {
                self.link.say(&reason.reply());
                return Err(reason.into());
            }
            let available = self.link.available().len();
            let count = usize::try_from(left).map_or(available, |left| left.min(available));
            self.link.consume(count);
            left -= count as u64;
        }
        Ok(())
    }

    async fn more(&mut self, until: Instant) -> Result<(), Break> {
        let idle = Instant::now() + self.link.settings().content_idle_time;
        self.link.fill(until.min(idle), Busy::InTransaction).await
    }

    async fn cut_off(&mut self, intake: Intake, reason: Break) -> Ended {
        let why = reason.reply();
        self.link.say(&why);
        intake.refuse(why).await;
        reason.into()
    }

    /// The end of content: one reply, and no transaction any more.
    async fn conclude(&mut self, intake: Intake) -> Result<(), Ended> {
        match intake.finish().await {
            Ok(reply) if reply.is_positive() => {
                self.tally.idle = 0;
                self.link.say(&reply);
                Ok(())
            }
            Ok(reply) | Err(reply) => self.refused(reply),
        }
    }
}
