//! From the connection to the end of the handshake: what is said in clear text, which is next to nothing.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::BufReader;
use tokio::time::{Instant, timeout};

use super::dialogue::{Dialogue, Ended, Tally, line_refusal};
use super::gate::{Gate, SecuredSession, SessionId};
use super::link::{Break, Busy, Link, Stop};
use super::replies;
use super::settings::Settings;
use crate::transport::smtp::command::{Aftermath, Chunk, ClientName, Command, CommandError, Spelling, parse};
use crate::transport::smtp::line::LineFault;
use crate::transport::smtp::reply::Reply;
use crate::transport::tls::{HandshakeFacts, ServerTls};
use crate::world::{self, Stream};

/// What is read from the system at once, in octets: a TLS record with its frame fits.
const READ_OCTETS: usize = 17 * 1024;

/// A connection that has been accepted and has a slot. Nothing has been said.
pub(super) struct Connected<S> {
    pub(super) stream: S,
    pub(super) id: SessionId,
    pub(super) remote: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) settings: Arc<Settings>,
    pub(super) stop: Stop,
}

impl<S> Connected<S>
where
    S: Stream + 'static,
{
    /// Serves the client until the session ends.
    pub(super) async fn serve<G: Gate>(self, gate: &G, tls: &ServerTls) -> Ended {
        let Self { stream, id, remote, local, settings, stop } = self;
        let now = Instant::now();
        let mut link = Link::new(stream, settings.clone(), stop.clone(), now + settings.session_time);
        if let Err(refusal) = gate.admit(remote).await {
            link.say(&if refusal.is_positive() { replies::gate_fault() } else { refusal });
            link.close().await;
            return Ended::NotAdmitted;
        }
        link.say(&replies::greeting(&settings));
        let ends = link.ends();
        let greeted = Greeted {
            link,
            gate,
            remote,
            helo: String::new(),
            tally: Tally::default(),
            place: Place::Start,
            until: now + settings.command_time,
        };
        let stream = match greeted.until_starttls().await {
            Ok(stream) => stream,
            Err(ended) => return ended,
        };
        // Only the bare stream crosses the border: buffer, name in EHLO and counts stay behind (SMTP-002).
        let (stream, tls) = match handshake(stream, tls, &settings, &stop).await {
            Ok(secured) => secured,
            Err(ended) => return ended,
        };
        let peer = gate.secured(&SecuredSession { id, remote, local, tls }).await;
        let link = Link::new(stream, settings, stop, ends);
        Dialogue { link, gate, peer, tally: Tally::default() }.run().await
    }
}

async fn handshake<S>(
    stream: S,
    tls: &ServerTls,
    settings: &Settings,
    stop: &Stop,
) -> Result<(world::Link, HandshakeFacts), Ended>
where
    S: Stream + 'static,
{
    // TLS asks for its records in small pieces; they are read from the system in larger ones.
    let buffered = BufReader::with_capacity(READ_OCTETS, stream);
    tokio::select! {
        biased;
        () = stop.soon.cancelled() => Err(Ended::Stopping),
        done = timeout(settings.handshake_time, tls.secure(buffered)) => match done {
            Ok(Ok(secured)) => Ok(secured),
            Ok(Err(error)) => {
                tracing::debug!(%error, "handshake failed");
                Err(Ended::NoHandshake)
            }
            Err(_) => Err(Ended::Late),
        },
    }
}

/// Whether EHLO or HELO was said. Before it, a verb that SMTP does not know is another protocol (SMTP-025).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Start,
    AfterEhlo,
}

/// The clear-text part of a session.
struct Greeted<'g, S, G> {
    link: Link<S>,
    gate: &'g G,
    remote: SocketAddr,
    /// What the client called itself, if it did.
    helo: String,
    tally: Tally,
    place: Place,
    until: Instant,
}

/// What a line in clear text leads to.
enum Next {
    Line,
    Handshake,
    End(Ended),
}

impl<S, G> Greeted<'_, S, G>
where
    S: Stream + 'static,
    G: Gate,
{
    /// Answers until STARTTLS; gives the stream with nothing read ahead.
    async fn until_starttls(mut self) -> Result<S, Ended> {
        let ended = loop {
            let next = match self.link.line(Some(self.until), Busy::Idle).await {
                Ok(line) => self.answer(line).await,
                Err(reason) => self.break_off(reason),
            };
            match next {
                Next::Line => {}
                Next::End(ended) => break ended,
                Next::Handshake => match self.agree().await {
                    Ok(()) => return self.link.into_stream().map_err(|_| Ended::SentAhead),
                    Err(ended) => break ended,
                },
            }
            if let Some(farewell) = self.tally.farewell(self.link.settings()) {
                self.link.say(&farewell);
                break Ended::UsedUp;
            }
        };
        self.link.close().await;
        Err(ended)
    }

    /// Says 220 to STARTTLS, unless something was sent ahead of it.
    async fn agree(&mut self) -> Result<(), Ended> {
        if !self.link.available().is_empty() {
            self.link.say(&replies::sent_ahead());
            return Err(Ended::SentAhead);
        }
        self.link.say(&replies::ready_for_tls());
        self.link.flush().await.map_err(Ended::from)
    }

    async fn answer(&mut self, line: Result<Vec<u8>, LineFault>) -> Next {
        let parsed = match line {
            Ok(line) => parse(&line, Spelling::Ascii),
            Err(fault) => {
                let (reply, aftermath) = line_refusal(fault);
                return self.wrong(&reply, aftermath);
            }
        };
        match parsed {
            Ok(Command::Ehlo(name)) => {
                let keywords = ["ENHANCEDSTATUSCODES", "STARTTLS"].map(str::to_owned);
                let reply = replies::capabilities(self.link.settings(), keywords);
                self.hello(&name, &reply)
            }
            Ok(Command::Helo(name)) => {
                let reply = replies::hello(self.link.settings());
                self.hello(&name, &reply)
            }
            Ok(Command::Noop | Command::Rset) => self.idle(&replies::done()),
            Ok(Command::Quit) => {
                self.link.say(&replies::quit());
                Next::End(Ended::Quit)
            }
            Ok(Command::StartTls) => Next::Handshake,
            Ok(Command::Bdat(chunk)) => self.skip(chunk).await,
            Ok(Command::Mail(mail)) => {
                let reply = replies::starttls_first();
                self.gate.in_clear(self.remote, &self.helo, &mail, &reply).await;
                self.wrong(&reply, Aftermath::GoOn)
            }
            Ok(_) => self.wrong(&replies::starttls_first(), Aftermath::GoOn),
            Err(CommandError::Unknown) if self.place == Place::Start => {
                self.wrong(&replies::foreign(), Aftermath::Close)
            }
            Err(error) => self.refuse(error),
        }
    }

    fn refuse(&mut self, error: CommandError) -> Next {
        use CommandError as E;
        let reply = match error {
            // A transaction's commands are not judged in clear text, not even their grammar.
            E::Unknown
            | E::Sender(_)
            | E::Recipient(_)
            | E::UnknownParameter
            | E::Parameter(_)
            | E::NeedsSmtputf8 => replies::starttls_first(),
            E::ForeignProtocol | E::Octets | E::Arguments | E::ClientName | E::ChunkSize => error.reply(),
        };
        self.wrong(&reply, error.aftermath())
    }

    fn hello(&mut self, name: &ClientName, reply: &Reply) -> Next {
        self.place = Place::AfterEhlo;
        name.as_str().clone_into(&mut self.helo);
        self.idle(reply)
    }

    fn idle(&mut self, reply: &Reply) -> Next {
        self.tally.idle += 1;
        self.link.say(reply);
        Next::Line
    }

    fn wrong(&mut self, reply: &Reply, aftermath: Aftermath) -> Next {
        self.tally.errors += 1;
        self.link.say(reply);
        match aftermath {
            Aftermath::GoOn => Next::Line,
            Aftermath::Close => Next::End(Ended::Unreadable),
        }
    }

    /// A chunk in clear text: its octets are no commands (SMTP-013).
    async fn skip(&mut self, chunk: Chunk) -> Next {
        let mut left = chunk.octets;
        if left > self.link.settings().drain_octets() {
            return self.wrong(&replies::starttls_first(), Aftermath::Close);
        }
        while left > 0 {
            if let Err(reason) = self.link.fill(self.until, Busy::Idle).await {
                return self.break_off(reason);
            }
            let available = self.link.available().len();
            let count = usize::try_from(left).map_or(available, |left| left.min(available));
            self.link.consume(count);
            left -= count as u64;
        }
        self.wrong(&replies::starttls_first(), Aftermath::GoOn)
    }

    fn break_off(&mut self, reason: Break) -> Next {
        self.link.say(&reason.reply());
        Next::End(reason.into())
    }
}
