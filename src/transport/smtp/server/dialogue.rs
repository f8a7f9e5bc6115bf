//! The secured session: reads commands, answers those that concern no transaction, and keeps the counts.

use tokio::io::{AsyncRead, AsyncWrite};

use super::gate::Gate;
use super::link::{Break, Link};
use super::replies;
use super::settings::Settings;
use super::transaction::{Phase, Ready};
use crate::transport::smtp::command::{Aftermath, Command, CommandError, parse};
use crate::transport::smtp::line::LineFault;
use crate::transport::smtp::reply::Reply;

/// How a session ended; for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The gate or a limit refused the session before its greeting.
    NotAdmitted,
    /// QUIT.
    Quit,
    /// The client closed the connection, or it failed.
    Lost,
    /// The time of a step, or of the session, was over.
    Late,
    /// The node stops.
    Stopping,
    /// The client sent octets ahead of the handshake (SMTP-002).
    SentAhead,
    /// The handshake failed.
    NoHandshake,
    /// Another protocol (SMTP-025), or a stream that cannot be read any further.
    Unreadable,
    /// Too many errors, refusals, idle commands or transactions (LIM-004).
    UsedUp,
    /// The gate ended the session with 421.
    GateClosed,
}

impl From<Break> for Ended {
    fn from(reason: Break) -> Self {
        match reason {
            Break::Lost => Self::Lost,
            Break::Late => Self::Late,
            Break::Stopping => Self::Stopping,
        }
    }
}

/// What a session has done so far, for its limits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    /// Commands that broke the protocol.
    pub(super) errors: u64,
    /// Refusals of the gate.
    pub(super) refusals: u64,
    /// Commands since the last message that brought none nearer.
    pub(super) idle: u64,
    /// Accepted MAIL commands.
    pub(super) transactions: u64,
}

impl Tally {
    /// The farewell, once a limit is passed.
    pub(super) fn farewell(&self, settings: &Settings) -> Option<Reply> {
        if self.errors > settings.errors || self.refusals > settings.refusals {
            Some(replies::too_many_errors())
        } else if self.idle > settings.idle_commands {
            Some(replies::too_many_idle())
        } else {
            None
        }
    }
}

/// The refusal of a line that could not be read, and whether anything can be read after it.
pub(super) fn line_refusal(fault: LineFault) -> (Reply, Aftermath) {
    match fault {
        LineFault::Malformed => (replies::line_malformed(), Aftermath::GoOn),
        LineFault::TooLong => (replies::line_too_long(), Aftermath::GoOn),
        LineFault::Endless => (replies::line_too_long(), Aftermath::Close),
    }
}

/// A session inside TLS: everything that outlives its transactions.
pub(super) struct Dialogue<'a, S, G: Gate> {
    pub(super) link: Link<S>,
    pub(super) gate: &'a G,
    pub(super) peer: G::Peer,
    pub(super) tally: Tally,
}

impl<S, G> Dialogue<'_, S, G>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    G: Gate,
{
    /// Serves the client until the session ends.
    pub(super) async fn run(mut self) -> Ended {
        let mut phase = Phase::Fresh;
        let ended = loop {
            let line = match self.link.line(phase.until(), phase.busy()).await {
                Ok(line) => line,
                Err(reason) => break self.break_off(reason, phase).await,
            };
            phase = match self.answer(line, phase).await {
                Ok(phase) => phase,
                Err(ended) => break ended,
            };
            if let Some(farewell) = self.tally.farewell(self.link.settings()) {
                phase.abandon(&farewell).await;
                self.link.say(&farewell);
                break Ended::UsedUp;
            }
        };
        self.link.close().await;
        ended
    }

    async fn break_off(&mut self, reason: Break, phase: Phase<G>) -> Ended {
        let reply = reason.reply();
        phase.abandon(&reply).await;
        self.link.say(&reply);
        reason.into()
    }

    async fn answer(&mut self, line: Result<Vec<u8>, LineFault>, phase: Phase<G>) -> Result<Phase<G>, Ended> {
        let line = match line {
            Ok(line) => line,
            Err(fault) => {
                let (reply, aftermath) = line_refusal(fault);
                return self.unreadable(reply, aftermath, phase).await;
            }
        };
        match parse(&line, phase.spelling()) {
            Ok(command) => self.obey(command, phase).await,
            // Before EHLO an unknown verb is another protocol's first word (SMTP-025).
            Err(CommandError::Unknown) if matches!(phase, Phase::Fresh) => {
                self.unreadable(replies::foreign(), Aftermath::Close, phase).await
            }
            Err(error) => self.unreadable(error.reply(), error.aftermath(), phase).await,
        }
    }

    async fn unreadable(
        &mut self,
        reply: Reply,
        aftermath: Aftermath,
        phase: Phase<G>,
    ) -> Result<Phase<G>, Ended> {
        self.wrong(&reply);
        match aftermath {
            Aftermath::GoOn => Ok(phase),
            Aftermath::Close => {
                phase.abandon(&reply).await;
                Err(Ended::Unreadable)
            }
        }
    }

    async fn obey(&mut self, command: Command, phase: Phase<G>) -> Result<Phase<G>, Ended> {
        match command {
            Command::Mail(mail) => phase.mail(mail, self).await,
            Command::Rcpt(recipient) => phase.rcpt(recipient, self).await,
            Command::Data => phase.data(self).await,
            Command::Bdat(chunk) => phase.bdat(chunk, self).await,
            Command::Ehlo(helo) => {
                phase.abandon(&replies::was_reset()).await;
                let reply = self.capabilities();
                self.idle(&reply);
                Ok(Phase::Ready(Ready { helo }))
            }
            Command::Helo(helo) => {
                phase.abandon(&replies::was_reset()).await;
                let reply = replies::hello(self.link.settings());
                self.idle(&reply);
                Ok(Phase::Ready(Ready { helo }))
            }
            Command::Rset => {
                self.idle(&replies::done());
                Ok(phase.reset().await)
            }
            Command::Quit => {
                phase.abandon(&replies::was_reset()).await;
                self.link.say(&replies::quit());
                Err(Ended::Quit)
            }
            Command::Noop => Ok(self.idle_in(phase, &replies::done())),
            Command::Vrfy => Ok(self.idle_in(phase, &replies::cannot_verify())),
            Command::Help => Ok(self.idle_in(phase, &replies::help())),
            Command::Expn | Command::Auth => Ok(self.wrong_in(phase, &replies::not_offered())),
            Command::StartTls => Ok(self.wrong_in(phase, &replies::tls_already())),
        }
    }

    fn capabilities(&self) -> Reply {
        let settings = self.link.settings();
        let keywords = ["PIPELINING", "8BITMIME", "SMTPUTF8", "CHUNKING", "DSN", "ENHANCEDSTATUSCODES"];
        let keywords = keywords.into_iter().map(str::to_owned);
        let size = format!("SIZE {}", settings.message_octets);
        replies::capabilities(settings, keywords.chain([size]).chain(self.gate.keywords(&self.peer)))
    }

    /// The client did what it may, and no message came nearer.
    pub(super) fn idle(&mut self, reply: &Reply) {
        self.tally.idle += 1;
        self.link.say(reply);
    }

    fn idle_in(&mut self, phase: Phase<G>, reply: &Reply) -> Phase<G> {
        self.idle(reply);
        phase
    }

    /// The client broke the protocol.
    pub(super) fn wrong(&mut self, reply: &Reply) {
        self.tally.errors += 1;
        self.link.say(reply);
    }

    pub(super) fn wrong_in(&mut self, phase: Phase<G>, reply: &Reply) -> Phase<G> {
        self.wrong(reply);
        phase
    }

    /// The gate, or the content itself, said no. Reply 421 ends the session.
    pub(super) fn refused(&mut self, reply: Reply) -> Result<(), Ended> {
        self.tally.refusals += 1;
        let reply = if reply.is_positive() { replies::gate_fault() } else { reply };
        self.link.say(&reply);
        if reply.code() == 421 { Err(Ended::GateClosed) } else { Ok(()) }
    }
}
